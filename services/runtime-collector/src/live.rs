// SPDX-License-Identifier: Apache-2.0
//! What those are told who ask for a port or a host by name. Pure.

use std::time::Duration;

use dvs_schemas::v1::LiveReply;
use dvs_schemas::{HostName, PortId, Problem, ProblemCode, SessionId};

use crate::events::Answer;

pub(crate) fn unknown(port: &PortId) -> Problem {
    Problem::new(
        ProblemCode::NotFound,
        format!("no host has told of port {port} yet"),
    )
    .at("port")
    .allow("a port that dvsctl runtime lists; to ask a host all the same, name it as host")
}

/// A host that nobody has heard of, and that didn't answer either: one that has
/// just come answers before it is heard.
pub(crate) fn never_heard(host: &HostName) -> Problem {
    let message = format!("no host {host} was ever heard here, and nobody answers by that name");
    Problem::new(ProblemCode::NotFound, message)
        .at("host")
        .allow("a host that dvsctl get hosts shows")
}

/// What somebody else is told of a host's answer. `is_foreign` says of a session
/// that the host's agent is another one by now.
pub(crate) fn passed_through(
    host: &HostName,
    port: Option<&PortId>,
    answer: Answer,
    is_foreign: impl Fn(SessionId) -> bool,
    timeout: Duration,
) -> Result<LiveReply, Problem> {
    let unavailable = |why: String| {
        Problem::new(ProblemCode::Unavailable, format!("host {host}: {why}"))
            .allow("repeat when the host is there; dvsctl runtime has what was last told")
    };
    match answer {
        Answer::Live(reply) if reply.host != *host => {
            Err(unavailable(format!("the answer is of host {}", reply.host)))
        }
        Answer::Live(reply) if is_foreign(reply.session) => Err(unavailable(
            "an agent answered that is not this host's, or no more; see dvsctl describe host"
                .to_owned(),
        )),
        Answer::Live(reply) => match port {
            Some(port) if !reply.ports.iter().any(|state| state.port == *port) => {
                Err(Problem::new(
                    ProblemCode::NotFound,
                    format!("host {host} does not have port {port} now"),
                )
                .at("port"))
            }
            Some(_) | None => Ok(reply),
        },
        Answer::Fetched(_) | Answer::Put(_) | Answer::Placements(_) => {
            Err(unavailable("it answered another question".to_owned()))
        }
        Answer::Refused(why) => Err(unavailable(why)),
        Answer::TimedOut => Err(unavailable(format!(
            "no answer within {}",
            humantime::format_duration(timeout)
        ))),
        Answer::NoResponder => Err(unavailable(
            "nobody listens: its agent or its connection is down, or there is no such host"
                .to_owned(),
        )),
        Answer::NotSent(why) => Err(unavailable(why)),
    }
}
