// SPDX-License-Identifier: Apache-2.0
//! The answering side of a push. A host answers only on subjects that carry
//! its own name, so a reply proves who speaks, and a host's permissions need
//! allow no more than `dvs.v1.reply.<host>.>`.

use dvs_schemas::ids::HostName;
use dvs_schemas::subjects;

/// Where `host` answers a request that carried `reply`: the same asker and
/// token, under its own name, whatever name stood there. `None`: the request
/// asks for an answer where no host may speak, so none can be given.
#[must_use]
pub fn answer_subject(reply: &str, host: &HostName) -> Option<String> {
    let parts = subjects::parse_reply(reply)?;
    Some(subjects::reply(host.as_str(), parts.instance, parts.token))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_host_answers_under_its_own_name_only() {
        let host: HostName = "h1".parse().unwrap();
        for named in ["all", "h1", "h2"] {
            let answer = answer_subject(&format!("dvs.v1.reply.{named}.pub7.42"), &host);
            assert_eq!(answer.as_deref(), Some("dvs.v1.reply.h1.pub7.42"));
        }
    }

    #[test]
    fn other_subjects_are_not_answered() {
        let host: HostName = "h1".parse().unwrap();
        for reply in [
            "",
            "_INBOX.x.1",
            "dvs.v1.reply.all.pub7",
            "dvs.v1.reply.all.pub7.1.2",
        ] {
            assert_eq!(answer_subject(reply, &host), None, "{reply}");
        }
    }
}
