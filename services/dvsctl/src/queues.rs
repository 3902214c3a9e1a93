// SPDX-License-Identifier: Apache-2.0
//! Retry's queues: what hosts have missed, what is still to go from them, and
//! the operator's hand in it.

use dvs_schemas::v1::{
    EntrySelection, EntryState, HostListRequest, Presence, Queue, RetryListRequest, SelectionReply,
};
use dvs_schemas::{ObjectKey, Timestamp, subjects};

use crate::args::{
    OutOfSyncArgs, QueueAction, RipFilter, RipQueueArgs, Selected, SyncFilter, of_host, of_object,
};
use crate::failure::{Failure, Verdict};
use crate::hosts::{self, HostInSync, Queues, Sync, fetch_queues};
use crate::mistyped::not_mistyped;
use crate::output::{ListFormat, OutputFormat, json, print, say, say_if_empty, table, yaml};
use crate::session::{Connector, Session};
use crate::when::{age, until};

/// Runs `out-of-sync`.
///
/// # Errors
/// Retry can't be asked, or refuses.
pub async fn out_of_sync(
    connector: Connector<'_>,
    args: OutOfSyncArgs,
) -> Result<Verdict, Failure> {
    let OutOfSyncArgs {
        action,
        filter,
        format,
    } = args;
    match action {
        Some(action) => {
            let (verb, Selected { filter, all }) = taken(action);
            let selection = select(Queue::Repush, filter, None, all)?;
            act(connector, verb, &selection).await
        }
        None => list(connector, Queue::Repush, filter, &format).await,
    }
}

/// Runs `rip-queue`.
///
/// # Errors
/// Retry can't be asked, or refuses.
pub async fn rip_queue(connector: Connector<'_>, args: RipQueueArgs) -> Result<Verdict, Failure> {
    let RipQueueArgs {
        action,
        filter,
        format,
    } = args;
    match action {
        Some(action) => {
            let (verb, Selected { filter, all }) = taken(action);
            let RipFilter { sync, port } = filter;
            let selection = select(Queue::Rip, sync, port, all)?;
            act(connector, verb, &selection).await
        }
        None => list(connector, Queue::Rip, filter, &format).await,
    }
}

/// What is done to entries: subject and word.
#[derive(Debug, Clone, Copy)]
struct Verb {
    subject: &'static str,
    done: &'static str,
}

fn taken<F: clap::Args>(action: QueueAction<F>) -> (Verb, Selected<F>) {
    let (subject, done, selected) = match action {
        QueueAction::Kick(selected) => (subjects::RETRY_KICK, "tried now", selected),
        QueueAction::Park(selected) => (subjects::RETRY_PARK, "parked", selected),
        QueueAction::Cancel(selected) => (subjects::RETRY_CANCEL, "dropped", selected),
    };
    (Verb { subject, done }, selected)
}

/// A slip of the hand must not act on the whole queue, so all of it is asked
/// for by name.
fn select(
    queue: Queue,
    filter: SyncFilter,
    port: Option<dvs_schemas::PortId>,
    all: bool,
) -> Result<EntrySelection, Failure> {
    let SyncFilter { host, switch } = filter;
    let some = host.is_some() || switch.is_some() || port.is_some();
    if some == all {
        return Err(Failure::Usage(
            if all {
                "--all goes without --host, --switch and --port"
            } else {
                "name the entries by --host, --switch or --port, or all of the queue by --all"
            }
            .to_owned(),
        ));
    }
    Ok(EntrySelection {
        queue: Some(queue),
        host,
        switch,
        port,
    })
}

async fn act(
    connector: Connector<'_>,
    verb: Verb,
    selection: &EntrySelection,
) -> Result<Verdict, Failure> {
    let session = connector.open().await?;
    let SelectionReply { v: _, entries } = session.ask(verb.subject, selection).await?;
    if entries == 0 {
        let EntrySelection {
            queue: _,
            host,
            switch,
            port: _,
        } = selection;
        not_mistyped(&session, switch.as_ref(), None, host.as_ref()).await?;
    }
    let noun = if entries == 1 { "entry" } else { "entries" };
    say(&format!("{entries} {noun} {}", verb.done));
    Ok(if entries == 0 {
        Verdict::No
    } else {
        Verdict::Yes
    })
}

async fn list(
    connector: Connector<'_>,
    queue: Queue,
    filter: SyncFilter,
    format: &ListFormat,
) -> Result<Verdict, Failure> {
    let SyncFilter { host, switch } = filter;
    let request = RetryListRequest {
        queue: Some(queue),
        host,
        switch,
        after: None,
    };
    let session = connector.open().await?;
    let queues = fetch_queues(&session, request.clone()).await?;
    let is_empty = match queue {
        Queue::Repush => queues.out_of_sync.is_empty(),
        Queue::Rip => queues.rip.is_empty(),
    };
    if is_empty {
        let (switch, host) = (request.switch.as_ref(), request.host.as_ref());
        not_mistyped(&session, switch, None, host).await?;
    }
    print(&render(queue, &queues, format.output, format.no_headings)?)?;
    match queue {
        Queue::Repush if queues.out_of_sync.is_empty() => {
            let behind = behind(&session, request).await;
            say_if_empty(0, format.output, &behind);
        }
        Queue::Rip if queues.rip.is_empty() => {
            say_if_empty(0, format.output, "nothing is to be removed");
        }
        Queue::Repush | Queue::Rip => {}
    }
    Ok(Verdict::Yes)
}

/// What there is to say where nothing is to be pushed again. That nothing is
/// queued doesn't say that hosts have all: an entry may have been cancelled, or
/// a push be on its way.
async fn behind(session: &Session, request: RetryListRequest) -> String {
    let request = RetryListRequest {
        queue: Some(Queue::Rip),
        ..request
    };
    let asked = HostListRequest {
        host: request.host.clone(),
        switch: request.switch.clone(),
        after: None,
    };
    let nothing = "nothing is to be pushed again";
    let Ok(hosts) = hosts::fetch(session, asked).await else {
        return nothing.to_owned();
    };
    let Ok(queues) = fetch_queues(session, request).await else {
        return nothing.to_owned();
    };
    let joined = hosts::join(hosts, &queues);
    if joined.is_empty() {
        return format!("{nothing}, and no such host is there");
    }
    let lags = |host: &&HostInSync| {
        let behind = host.sync.iter().any(|sync| *sync != Sync::InSync);
        // One that follows another ledger is sent nothing, switches or not.
        behind || host.status.diverged.is_some()
    };
    let behind: Vec<_> = joined.iter().filter(lags).collect();
    let are = match behind.len() {
        0 => return "every host is in sync".to_owned(),
        1 => "1 host is".to_owned(),
        many => format!("{many} hosts are"),
    };
    let is_removing = |sync: &Sync| matches!(sync, Sync::Removing { .. });
    let is_pushed_to = |host: &HostInSync| {
        let is_there = host.status.presence == Presence::Present && host.status.diverged.is_none();
        is_there && host.sync.contains(&Sync::Pending)
    };
    let way_on = if behind.iter().any(|host| host.sync.iter().any(is_removing)) {
        ", `dvsctl rip-queue` what is still to be removed from them"
    } else if behind.into_iter().any(is_pushed_to) {
        ", `dvsctl resync` pushes now to those that are present"
    } else {
        " and why"
    };
    format!("{nothing}, and {are} not in sync: `dvsctl get hosts` shows which{way_on}")
}

fn state(entry: &EntryState, now: Timestamp) -> [String; 5] {
    let EntryState {
        revision,
        since,
        attempts,
        last_error,
        not_tried,
        next_try,
    } = entry;
    let not_tried = not_tried.as_ref();
    let not_tried = not_tried.map(|why| format!(" (not tried since: {why})"));
    [
        revision.to_string(),
        age(now, *since),
        attempts.to_string(),
        next_try.map_or_else(|| "parked".to_owned(), |next| until(now, next)),
        format!("{last_error}{}", not_tried.unwrap_or_default()),
    ]
}

/// A queue as text.
///
/// # Errors
/// An entry has no JSON or YAML form, which is none of the user's making.
pub fn render(
    queue: Queue,
    queues: &Queues,
    output: OutputFormat,
    no_headings: bool,
) -> std::io::Result<String> {
    let Queues {
        now: _,
        out_of_sync,
        rip,
    } = queues;
    match (output, queue) {
        (OutputFormat::Json, Queue::Repush) => json(out_of_sync),
        (OutputFormat::Json, Queue::Rip) => json(rip),
        (OutputFormat::Yaml, Queue::Repush) => yaml(out_of_sync),
        (OutputFormat::Yaml, Queue::Rip) => yaml(rip),
        (OutputFormat::Name, Queue::Repush) => Ok(out_of_sync
            .iter()
            .map(|entry| of_host(&entry.key.host) + "\n")
            .collect()),
        (OutputFormat::Name, Queue::Rip) => Ok(rip
            .iter()
            .map(|entry| of_object(&ObjectKey::Port(entry.key.port.clone())) + "\n")
            .collect()),
        (OutputFormat::Table | OutputFormat::Wide, queue) => Ok(rows(queue, queues, no_headings)),
    }
}

fn rows(queue: Queue, queues: &Queues, no_headings: bool) -> String {
    let Queues {
        now,
        out_of_sync,
        rip,
    } = queues;
    let mut headings = vec!["HOST", "SWITCH"];
    let rows: Vec<Vec<String>> = match queue {
        Queue::Repush => out_of_sync
            .iter()
            .map(|entry| {
                let key = [entry.key.host.to_string(), entry.key.switch.to_string()];
                key.into_iter().chain(state(&entry.state, *now)).collect()
            })
            .collect(),
        Queue::Rip => {
            headings.push("PORT");
            rip.iter()
                .map(|entry| {
                    let key = [
                        entry.key.host.to_string(),
                        entry.key.switch.to_string(),
                        entry.key.port.to_string(),
                    ];
                    key.into_iter().chain(state(&entry.state, *now)).collect()
                })
                .collect()
        }
    };
    headings.extend(["REVISION", "AGE", "ATTEMPTS", "NEXT", "ERROR"]);
    table(&headings, rows, no_headings)
}

/// Both queues under a line each, for what is about one thing; nothing of an
/// empty one.
pub(crate) fn tables(queues: &Queues) -> String {
    let [missed, rips] = [Queue::Repush, Queue::Rip].map(|queue| rows(queue, queues, false));
    [("Out of sync", missed), ("To be removed", rips)]
        .into_iter()
        .filter(|(_, rows)| !rows.is_empty())
        .map(|(name, rows)| format!("\n{name}:\n{rows}"))
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_whole_queue_is_asked_for_by_name_only() {
        let one = || SyncFilter {
            host: Some("h1".parse().unwrap()),
            switch: None,
        };
        let none = SyncFilter::default;
        assert!(select(Queue::Rip, none(), None, false).is_err());
        assert!(select(Queue::Rip, one(), None, true).is_err());
        assert!(select(Queue::Rip, one(), None, false).is_ok());
        assert!(select(Queue::Rip, none(), Some("p".parse().unwrap()), false).is_ok());
        assert!(select(Queue::Rip, none(), None, true).is_ok());
    }
}
