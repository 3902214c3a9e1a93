// SPDX-License-Identifier: Apache-2.0
//! Whether an answer means that a host has done what a call asked for, and if
//! not, why in one line.

use std::collections::BTreeSet;

use dvs_schemas::v1::{ApplyOutcome, Diverged, HostVerdict, PortFailure, RemoveOutcome};
use dvs_schemas::{PortId, Revision, shortened};

use super::{About, Flight, Lag};
use crate::events::Answer;
use crate::fleet::way_on;

/// Longest reason that is passed on, in characters. A thousand of them stay
/// far below one message.
const WHY: usize = 240;

/// Why the answer of an agent that is not the host's is none.
pub(crate) const FOREIGN: &str = "an agent answered that is not this host's, or no more; see dvsctl \
                                  describe host";

/// A call that did not succeed.
pub(super) struct Lagging {
    verdict: HostVerdict,
    why: String,
    /// The ports concerned, if not all of the call.
    pub(super) ports: Option<BTreeSet<PortId>>,
}

impl Lagging {
    /// The host follows another history.
    pub(super) fn diverged(diverged: &Diverged) -> Self {
        lagging(HostVerdict::Failed, way_on(diverged))
    }

    pub(super) fn behind(&self, revision: Revision) -> Lag {
        Lag {
            revision,
            verdict: self.verdict,
            why: self.why.clone(),
        }
    }
}

fn lagging(verdict: HostVerdict, why: impl AsRef<str>) -> Lagging {
    Lagging {
        verdict,
        why: shortened(why.as_ref(), WHY),
        ports: None,
    }
}

pub(super) fn judge(answer: Answer, flight: &Flight) -> Result<(), Lagging> {
    let failed = |why: String| Err(lagging(HostVerdict::Failed, why));
    match answer {
        Answer::Applied(report) => match (&flight.about, report.outcome) {
            (About::Removal(_), _) => failed("answered a removal with a clobber's report".into()),
            (About::Parts | About::Whole(_), _) if report.switch != flight.switch => {
                failed(format!("answered about switch {}", report.switch))
            }
            (About::Parts | About::Whole(_), ApplyOutcome::Applied { writes: _ }) => Ok(()),
            (About::Parts | About::Whole(_), ApplyOutcome::Failed { message, ports }) => {
                failed(words(&message, &ports))
            }
        },
        Answer::Removed(report) => match (&flight.about, report.outcome) {
            (About::Parts | About::Whole(_), _) => {
                failed("answered a clobber with a removal's report".into())
            }
            (About::Removal(_), RemoveOutcome::Removed) => Ok(()),
            (About::Removal(_), RemoveOutcome::Failed { ports }) => {
                let named: BTreeSet<_> = ports.iter().map(|failure| failure.port.clone()).collect();
                let mut lagging = lagging(HostVerdict::Failed, words("", &ports));
                lagging.ports = (!named.is_empty()).then_some(named);
                Err(lagging)
            }
        },
        Answer::Planned(_) => failed("answered a push with a plan".into()),
        Answer::Unreadable(why) => failed(format!("its answer can't be read: {why}")),
        Answer::Foreign => failed(FOREIGN.to_owned()),
        Answer::TimedOut => Err(lagging(HostVerdict::TimedOut, "no answer in time")),
        Answer::NoResponder => Err(lagging(
            HostVerdict::NoResponder,
            "nobody listens for the host: its agent or its connection is down",
        )),
        Answer::NotSent(why) => Err(lagging(
            HostVerdict::NoResponder,
            format!("not sent: {why}"),
        )),
    }
}

/// What a host said went wrong, in one line.
fn words(message: &str, ports: &[PortFailure]) -> String {
    let mut text = message.to_owned();
    for failure in ports {
        if text.chars().count() > WHY {
            break;
        }
        if !text.is_empty() {
            text.push_str("; ");
        }
        text.push_str("port ");
        text.push_str(failure.port.as_str());
        if let Some(field) = &failure.field {
            text.push(' ');
            text.push_str(field);
        }
        text.push_str(": ");
        text.push_str(&failure.message);
    }
    if text.is_empty() {
        text.push_str("the host gave no reason");
    }
    text
}
