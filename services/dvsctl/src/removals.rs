// SPDX-License-Identifier: Apache-2.0
//! What hosts may still have of objects that are there no more.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use dvs_schemas::v1::{Deadline, ObjectRef, RetryListRequest};
use dvs_schemas::{ObjectKey, PortId, SwitchName};

use crate::failure::{Failure, Verdict};
use crate::hosts::{Queues, fetch_queues, queues_or_warning};
use crate::output::{count, say};
use crate::progress::Progress;
use crate::session::Session;

/// Between two looks at the queues, as of `dvsctl wait`.
const BETWEEN: Duration = Duration::from_millis(250);

/// Removals that are named.
const NAMED: usize = 5;

/// Objects that were deleted.
#[derive(Debug, Default)]
pub struct Deleted {
    ports: BTreeSet<PortId>,
    switches: BTreeSet<SwitchName>,
    /// Switches whose groups or mirror sessions were deleted: those go with the
    /// whole of the switch.
    changed: BTreeSet<SwitchName>,
}

impl Deleted {
    /// Those that are named.
    #[must_use]
    pub fn of(objects: &[ObjectRef]) -> Self {
        let mut deleted = Self::default();
        for key in objects.iter().filter_map(|object| object.key().ok()) {
            match key {
                ObjectKey::Port(port) => {
                    deleted.ports.insert(port);
                }
                ObjectKey::Switch(switch) => {
                    deleted.switches.insert(switch);
                }
                ObjectKey::PortGroup(switch, _) | ObjectKey::MirrorSession(switch, _) => {
                    deleted.changed.insert(switch);
                }
            }
        }
        deleted
    }

    /// What the queues say that hosts may have of them, a line each.
    #[must_use]
    pub fn left(&self, queues: &Queues) -> Vec<String> {
        let rips = queues.rip.iter().filter(|entry| {
            self.ports.contains(&entry.key.port) || self.switches.contains(&entry.key.switch)
        });
        let rips = rips.map(|entry| {
            let (key, why) = (&entry.key, &entry.state.last_error);
            format!("port {} on {}: {why}", key.port, key.host)
        });
        let missed = queues.out_of_sync.iter().filter(|entry| {
            let switch = &entry.key.switch;
            self.switches.contains(switch) || self.changed.contains(switch)
        });
        let missed = missed.map(|entry| {
            let (key, why) = (&entry.key, &entry.state.last_error);
            format!("switch {} on {}: {why}", key.switch, key.host)
        });
        rips.chain(missed).collect()
    }
}

/// Waits until no host has anything of what was deleted, if that is asked for;
/// else says what hosts may have.
///
/// # Errors
/// Retry is waited for and can't be asked.
pub async fn settle(
    session: &Session,
    deleted: &Deleted,
    wait: Option<Deadline>,
) -> Result<Verdict, Failure> {
    let all = RetryListRequest::default;
    let Some(bound) = wait else {
        tell(&deleted.left(&queues_or_warning(session, all()).await));
        return Ok(Verdict::Yes);
    };
    let until = Instant::now() + bound.get();
    let mut progress = Progress::new();
    loop {
        let left = deleted.left(&fetch_queues(session, all()).await?);
        if left.is_empty() {
            return Ok(Verdict::Yes);
        }
        if until <= Instant::now() + BETWEEN {
            drop(progress);
            tell(&left);
            return Ok(Verdict::No);
        }
        progress.show(&format!("waiting for {}", removals(&left)));
        tokio::time::sleep(BETWEEN).await;
    }
}

fn removals(left: &[String]) -> String {
    count(left.len() as u64, "removal")
}

fn tell(left: &[String]) {
    if left.is_empty() {
        return;
    }
    let are = if left.len() == 1 { "is" } else { "are" };
    say(&format!(
        "{} {are} still to be carried out:",
        removals(left)
    ));
    for line in left.iter().take(NAMED) {
        say(&format!("  {line}"));
    }
    if let Some(rest) = left.len().checked_sub(NAMED).filter(|rest| *rest > 0) {
        say(&format!("  and {rest} more"));
    }
    say(
        "they are tried again until they are; `dvsctl rip-queue` and `dvsctl out-of-sync` show how it goes",
    );
}
