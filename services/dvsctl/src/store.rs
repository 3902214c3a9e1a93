// SPDX-License-Identifier: Apache-2.0
//! An operator's word that this publisher's configuration is to hold on hosts
//! that follow another history.

use std::fmt::Write as _;
use std::time::Duration;

use dvs_schemas::subjects;
use dvs_schemas::v1::{ContinueReply, ContinueRequest, Deadline, DivergedHost, Wait};

use crate::args::{ContinueArgs, StoreAction};
use crate::change::{patiently, pushed};
use crate::failure::{Failure, Verdict};
use crate::output::{count, say};
use crate::session::Connector;

/// Runs `store`.
///
/// # Errors
/// The publisher can't be asked, or refuses.
pub async fn run(connector: Connector<'_>, action: StoreAction) -> Result<Verdict, Failure> {
    let StoreAction::Continue(ContinueArgs { dry_run, wait }) = action;
    let request = ContinueRequest {
        dry_run,
        wait: wait.map(|_| Wait::Applied),
        timeout: wait,
    };
    let patience = wait.map_or(Duration::ZERO, Deadline::get);
    let session = connector.open().await?;
    let reply: ContinueReply =
        patiently(&session, subjects::STORE_CONTINUE, &request, wait, patience).await?;
    say(&told(&reply));
    Ok(pushed(reply.applied.as_ref()))
}

/// What the reply says.
fn told(reply: &ContinueReply) -> String {
    let ContinueReply {
        v: _,
        dry_run,
        store,
        revision,
        continues: _,
        hosts,
        objects,
        nowhere,
        diverged,
        examples,
        applied: _,
    } = reply;
    let mut text = String::new();
    for DivergedHost { host, diverged } in examples {
        // A string takes it all.
        let _ = writeln!(text, "{host}: {diverged}");
    }
    let others = diverged.saturating_sub(examples.len() as u64);
    if others > 0 {
        let _ = writeln!(text, "and {}", count(others, "more host"));
    }
    if *nowhere > 0 {
        let _ = writeln!(
            text,
            "{} of this publisher's are on no host, and taken from whoever has them wired: an \
             export made with `dvsctl get all -o yaml --placement` places them",
            count(*nowhere, "port"),
        );
    }
    let (objects, hosts) = (count(*objects, "object"), count(*hosts, "host"));
    let _ = match (dry_run, store) {
        (false, Some(store)) => write!(
            text,
            "{objects} hold as revision {revision} of store {store}; full states go to {hosts}"
        ),
        (true, _) | (false, None) => write!(
            text,
            "would make this publisher's {objects} hold as revision {revision} of a new store, \
             with full states to {hosts}: what they have besides is removed from them"
        ),
    };
    text
}

#[cfg(test)]
mod tests {
    use super::told;
    use dvs_schemas::Revision;
    use dvs_schemas::v1::{ContinueReply, V1};

    #[test]
    fn ports_that_hosts_would_lose_are_told_with_the_export_that_keeps_them() {
        let mut reply = ContinueReply {
            v: V1,
            dry_run: true,
            store: None,
            revision: Revision(9),
            continues: Vec::new(),
            hosts: 5,
            objects: 13,
            nowhere: 0,
            diverged: 0,
            examples: Vec::new(),
            applied: None,
        };
        let would = "would make this publisher's 13 objects hold as revision 9 of a new store, \
                     with full states to 5 hosts: what they have besides is removed from them";
        assert_eq!(told(&reply), would);
        reply.nowhere = 10;
        assert_eq!(
            told(&reply),
            format!(
                "10 ports of this publisher's are on no host, and taken from whoever has them \
                 wired: an export made with `dvsctl get all -o yaml --placement` places them\n\
                 {would}"
            )
        );
    }
}
