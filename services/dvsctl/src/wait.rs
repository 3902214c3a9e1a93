// SPDX-License-Identifier: Apache-2.0
//! Waits until the fleet is as it should be. A tool's way, for scripts: it
//! looks again and again, which no service does.

use std::time::{Duration, Instant};

use dvs_schemas::v1::{HostListRequest, Presence, RetryListRequest};
use dvs_schemas::{SwitchName, subjects};

use crate::args::WaitFor;
use crate::failure::{Failure, Verdict};
use crate::hosts::{HostInSync, Sync, fetch, fetch_queues, join};
use crate::output::{count, say};
use crate::progress::Progress;
use crate::session::{Connector, Session};

/// Between two looks: short for who waits at a terminal, and a thousandth of
/// what a publisher answers in that time.
const BETWEEN: Duration = Duration::from_millis(250);

/// A look takes no longer than this; the wait may be longer.
const LOOK: Duration = Duration::from_secs(5);

/// Laggards that are named when the time is over.
const NAMED: usize = 20;

/// What a look has shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sight {
    /// Whether it is as it should be.
    pub done: bool,
    /// How far it is, for the progress line.
    pub progress: String,
    /// What is missing, one line each, for when the time is over.
    pub missing: Vec<String>,
}

/// Runs `wait`. That the bus or a service isn't there yet is waited for too.
///
/// # Errors
/// A service refuses; or at the end of the time the bus or a service still
/// isn't there.
pub async fn run(connector: Connector<'_>, what: WaitFor) -> Result<Verdict, Failure> {
    let bound = connector.timeout;
    let until = Instant::now() + bound;
    let mut progress = Progress::new();
    progress.show("waiting for the bus");
    let session = connector.open().await?;
    // What was seen last, unless the services have gone since.
    let mut seen: Option<Sight> = None;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let patience = left.min(LOOK);
        match look_for(patience, &session, &what).await {
            Ok(sight) if sight.done => {
                drop(progress);
                say(&sight.progress);
                return Ok(Verdict::Yes);
            }
            Ok(sight) => {
                progress.show(&sight.progress);
                seen = Some(sight);
            }
            // The end of the wait left it no time, so it says nothing.
            Err(failure) if failure.is_late() && patience < LOOK && seen.is_some() => {}
            Err(failure) if failure.may_pass() && until > Instant::now() + BETWEEN => {
                progress.show("waiting for the services");
                seen = None;
            }
            Err(failure) => return Err(failure),
        }
        if until <= Instant::now() + BETWEEN
            && let Some(sight) = &seen
        {
            drop(progress);
            say(&format!(
                "not so after {}: {}",
                humantime::format_duration(bound),
                sight.progress
            ));
            missing(&sight.missing);
            return Ok(Verdict::No);
        }
        tokio::time::sleep(BETWEEN).await;
    }
}

async fn look_for(patience: Duration, session: &Session, what: &WaitFor) -> Result<Sight, Failure> {
    let late = |_| Failure::Unanswered {
        subject: subjects::HOST_LIST.to_owned(),
        waited: patience,
        server_said: None,
    };
    let looked = tokio::time::timeout(patience, look(session, what)).await;
    looked.map_err(late)?
}

fn missing(lines: &[String]) {
    for line in lines.iter().take(NAMED) {
        say(&format!("  {line}"));
    }
    if let Some(rest) = lines.len().checked_sub(NAMED).filter(|rest| *rest > 0) {
        say(&format!("  and {rest} more"));
    }
}

async fn look(session: &Session, what: &WaitFor) -> Result<Sight, Failure> {
    match what {
        WaitFor::Hosts { count } => {
            let hosts = fetch(session, HostListRequest::default()).await?;
            let present = hosts.iter().filter(|h| h.presence == Presence::Present);
            Ok(present_hosts(present.count() as u64, *count))
        }
        WaitFor::InSync { switch } => {
            let hosts = fetch(
                session,
                HostListRequest {
                    switch: switch.clone(),
                    ..HostListRequest::default()
                },
            )
            .await?;
            let queues = fetch_queues(
                session,
                RetryListRequest {
                    switch: switch.clone(),
                    ..RetryListRequest::default()
                },
            )
            .await?;
            let rips = queues.rip.len() as u64;
            let entries = queues.out_of_sync.len() as u64 + rips;
            Ok(in_sync(&join(hosts, &queues), entries, switch.as_ref()))
        }
    }
}

fn present_hosts(present: u64, wanted: u64) -> Sight {
    Sight {
        done: present >= wanted,
        progress: format!("{present} of {} present", count(wanted, "host")),
        missing: Vec::new(),
    }
}

/// Whether every host has applied what concerns it, and nothing is queued.
#[must_use]
pub fn in_sync(hosts: &[HostInSync], entries: u64, only: Option<&SwitchName>) -> Sight {
    let mut missing = Vec::new();
    let mut lagging = 0_u64;
    for HostInSync { status, sync } in hosts {
        let before = missing.len();
        for (on_host, sync) in status.switches.iter().zip(sync) {
            if only.is_some_and(|only| *only != on_host.switch) || *sync == Sync::InSync {
                continue;
            }
            let there = match status.presence {
                Presence::Present => "",
                Presence::Absent => " (the host is absent)",
                Presence::Unknown => " (not heard of the host yet)",
                Presence::Never => " (the host was never there)",
            };
            missing.push(format!(
                "{} on switch {}: {sync}, observed {} of {}{there}",
                status.host,
                on_host.switch,
                crate::output::or_dash(on_host.observed),
                on_host.wanted,
            ));
        }
        lagging += u64::from(missing.len() > before);
    }
    let total = hosts.len() as u64;
    let queued = if entries == 0 {
        String::new()
    } else {
        format!(", {entries} to be retried")
    };
    Sight {
        done: missing.is_empty() && entries == 0,
        progress: format!(
            "{} of {} in sync{queued}",
            total - lagging,
            count(total, "host")
        ),
        missing,
    }
}
