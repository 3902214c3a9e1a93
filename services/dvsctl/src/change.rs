// SPDX-License-Identifier: Apache-2.0
//! Changes of the configuration: sent as one request each, so that all of it
//! becomes true or none.

use std::collections::BTreeMap;
use std::time::Duration;

use dvs_schemas::subjects;
use dvs_schemas::v1::{
    ApplyReply, ApplyRequest, Change, ChangedObject, Deadline, DryRunReply, HostOutcome, HostPlan,
    HostVerdict, Operation, Options, PushSummary, ResyncReply, ResyncRequest, Wait,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::args::{ApplyArgs, ChangeArgs, ReplyFormat, ResyncArgs, of_object};
use crate::documents::{self, Written};
use crate::failure::{Failure, Refusal, Verdict};
use crate::output::{count, json, print, say, yaml};
use crate::progress::Progress;
use crate::session::{Connector, Session};

/// A dry run asks hosts, of which a dead one takes the publisher's own bound
/// for pushes; the reply comes after that.
const PLANNING: Duration = Duration::from_secs(10);

/// Hosts that are named of those that have the same to say: a line stays one on
/// a screen.
const NAMED: usize = 5;

/// Reasons that are named of those why hosts lag: all of them fit on a screen.
const REASONS: usize = 10;

/// Runs `apply`.
///
/// # Errors
/// The documents can't be read, or the publisher can't be asked, or refuses.
pub async fn apply(connector: Connector<'_>, args: ApplyArgs) -> Result<Verdict, Failure> {
    let ApplyArgs { files, change } = args;
    let written = documents::read(&files.files)?;
    let total = written.len() as u64;
    let request = ApplyRequest {
        documents: written.iter().map(|w| w.document.clone()).collect(),
        options: options(&change),
    };
    let session = connector.open().await?;
    send(&session, subjects::CONFIG_APPLY, &request, &change, total)
        .await
        .map_err(|failure| placed(failure, &written))
}

pub(crate) fn options(change: &ChangeArgs) -> Options {
    let ChangeArgs {
        wait,
        dry_run,
        if_revision,
        output: _,
    } = change;
    Options {
        wait: wait.map(|_| Wait::Applied),
        timeout: *wait,
        dry_run: *dry_run,
        if_revision: *if_revision,
    }
}

/// Adds the place in the user's files to a refusal.
pub(crate) fn placed(failure: Failure, written: &[Written]) -> Failure {
    match failure {
        Failure::Refused(refusal) => {
            let (problem, place) = documents::locate(written, refusal.problem);
            Failure::Refused(Box::new(Refusal { problem, place }))
        }
        Failure::Usage(_)
        | Failure::Documents(_)
        | Failure::Credentials(_)
        | Failure::Output(_)
        | Failure::Connect(_)
        | Failure::Bus { .. }
        | Failure::Unanswered { .. }
        | Failure::NoSuch(_)
        | Failure::Answer { .. } => failure,
    }
}

/// Sends a change and says what came of it.
///
/// # Errors
/// The publisher can't be asked, or refuses.
pub async fn send<Q: Serialize>(
    session: &Session,
    subject: &str,
    request: &Q,
    change: &ChangeArgs,
    total: u64,
) -> Result<Verdict, Failure> {
    if change.dry_run {
        let reply: DryRunReply = patiently(session, subject, request, None, PLANNING).await?;
        if !whole(change.output, &reply)? {
            print(&changes(&reply.changed, " (dry run)"))?;
            print(&plans(&reply))?;
            say(&format!(
                "would change {} of {}; at revision {} nothing was written",
                reply.changed.len(),
                count(total, "object"),
                reply.revision
            ));
            warn(&reply.warnings);
        }
        return Ok(Verdict::Yes);
    }
    let patience = change.wait.map_or(Duration::ZERO, Deadline::get);
    let reply: ApplyReply = patiently(session, subject, request, change.wait, patience).await?;
    if !whole(change.output, &reply)? {
        print(&changes(&reply.changed, ""))?;
        if reply.left_out > 0 {
            say(&format!("and {} more", count(reply.left_out, "object")));
        }
        say(&summary(&reply, total));
        warn(&reply.warnings);
    }
    Ok(pushed(reply.applied.as_ref()))
}

/// Asks with a moving line for as long as hosts are waited for.
pub(crate) async fn patiently<Q: Serialize, R: DeserializeOwned>(
    session: &Session,
    subject: &str,
    request: &Q,
    wait: Option<Deadline>,
    patience: Duration,
) -> Result<R, Failure> {
    let text = match wait {
        Some(bound) => format!("waiting up to {bound} for the hosts"),
        None => "waiting for the answer".to_owned(),
    };
    Progress::during(&text, session.ask_patiently(subject, request, patience)).await
}

/// Prints a reply as a whole, if that is wanted.
fn whole<T: Serialize>(format: Option<ReplyFormat>, reply: &T) -> Result<bool, Failure> {
    match format {
        None => return Ok(false),
        Some(ReplyFormat::Json) => print(&json(reply)?)?,
        Some(ReplyFormat::Yaml) => print(&yaml(reply)?)?,
    }
    Ok(true)
}

/// A line per changed object.
#[must_use]
pub fn changes(changed: &[ChangedObject], suffix: &str) -> String {
    changed
        .iter()
        .map(
            |ChangedObject {
                 object,
                 operation,
                 fields,
             }| {
                let name = match object.key() {
                    Ok(key) => of_object(&key),
                    Err(_) => format!("{}/{}", object.kind, object.name),
                };
                let done = match operation {
                    Operation::Created => "created",
                    Operation::Updated => "updated",
                    Operation::Deleted => "deleted",
                };
                let fields = if fields.is_empty() {
                    String::new()
                } else {
                    format!(": {}", fields.join(", "))
                };
                format!("{name} {done}{fields}{suffix}\n")
            },
        )
        .collect()
}

fn summary(reply: &ApplyReply, total: u64) -> String {
    // Those that did not fit into the reply are counted, if not named.
    let changed = reply.changed.len() as u64 + reply.left_out;
    let unchanged = total.saturating_sub(changed);
    match (changed, unchanged) {
        (0, _) => format!("unchanged at revision {}", reply.revision),
        (_, 0) => format!("revision {}: {}", reply.revision, count(changed, "object")),
        (_, _) => format!(
            "revision {}: {}, {unchanged} unchanged",
            reply.revision,
            count(changed, "object")
        ),
    }
}

/// Says what holds all the same.
pub(crate) fn warn(warnings: &[String]) {
    for warning in warnings {
        say(&format!("warning: {warning}"));
    }
}

/// Says how a push went, if it was waited for.
pub(crate) fn pushed(applied: Option<&PushSummary>) -> Verdict {
    let Some(summary) = applied else {
        return Verdict::Yes;
    };
    say(&push_summary(summary));
    if summary.applied < summary.hosts {
        Verdict::No
    } else {
        Verdict::Yes
    }
}

/// How a push went: numbers, and the hosts that lag by the reason why.
#[must_use]
pub fn push_summary(summary: &PushSummary) -> String {
    let PushSummary {
        hosts,
        applied,
        outcomes,
    } = summary;
    let mut text = format!("applied on {applied} of {}", count(*hosts, "host"));
    let mut reasons: BTreeMap<(HostVerdict, Option<&str>), Vec<&str>> = BTreeMap::new();
    let mut named = 0;
    for HostOutcome { host, outcome, why } in outcomes {
        if *outcome != HostVerdict::Applied {
            named += 1;
            let reason = (*outcome, why.as_deref());
            reasons.entry(reason).or_default().push(host.as_str());
        }
    }
    let mut reasons: Vec<_> = reasons.into_iter().collect();
    // What most hosts say comes first, and what few say may be left out.
    reasons.sort_by_key(|(_, hosts)| std::cmp::Reverse(hosts.len()));
    let rest = reasons.split_off(reasons.len().min(REASONS));
    for ((outcome, why), hosts) in reasons {
        let outcome = match outcome {
            HostVerdict::Failed => "failed",
            HostVerdict::TimedOut => "no answer in time",
            HostVerdict::NoResponder => "not there",
            HostVerdict::Pending => "not yet",
            HostVerdict::Applied => "applied",
        };
        let why = why.map_or_else(String::new, |why| format!(" ({why})"));
        text.push_str(&format!("\n  {outcome}{why}: {}", first_few(&hosts)));
    }
    named -= rest
        .iter()
        .map(|(_, hosts)| hosts.len() as u64)
        .sum::<u64>();
    let lag = hosts.saturating_sub(*applied);
    if lag > named {
        text.push_str(&format!("\n  and {} more", count(lag - named, "host")));
    }
    if lag > 0 {
        text.push_str(
            "\nthey are tried again until they have it; `dvsctl get hosts` shows how it goes",
        );
    }
    text
}

/// What hosts would do. Hosts that would all do the same are told together: a
/// group's change is one paragraph, not ten thousand.
#[must_use]
pub fn plans(reply: &DryRunReply) -> String {
    let mut alike: Vec<(&HostPlan, Vec<&str>)> = Vec::new();
    for plan in &reply.plans {
        let same = alike.iter_mut().find(|(first, _)| {
            (&first.switch, &first.changes, &first.error)
                == (&plan.switch, &plan.changes, &plan.error)
        });
        match same {
            Some((_, hosts)) => hosts.push(plan.host.as_str()),
            None => alike.push((plan, vec![plan.host.as_str()])),
        }
    }
    let mut text = String::new();
    for (plan, hosts) in alike {
        text.push_str(&format!(
            "on {}, switch {}:\n",
            first_few(&hosts),
            plan.switch
        ));
        if let Some(error) = &plan.error {
            text.push_str(&format!("  can't say: {error}\n"));
        }
        for change in &plan.changes {
            text.push_str(&format!("  {}\n", one_change(change)));
        }
    }
    if reply.left_out > 0 {
        text.push_str(&format!(
            "and {} more changes or plans that did not fit into the answer\n",
            reply.left_out
        ));
    }
    text.push_str(&format!(
        "{} concerned, {} would change nothing\n",
        count(reply.hosts, "host"),
        reply.unchanged
    ));
    text
}

/// The first few by name, the rest as a number.
fn first_few(hosts: &[&str]) -> String {
    let names = hosts.iter().copied().take(NAMED).collect::<Vec<_>>();
    let names = names.join(", ");
    match hosts.len().saturating_sub(NAMED) {
        0 => names,
        rest => format!("{names} and {} more", count(rest as u64, "host")),
    }
}

fn one_change(change: &Change) -> String {
    let Change {
        object,
        field,
        from,
        to,
    } = change;
    let what = match field {
        Some(field) => format!("{object} {field}"),
        None => object.clone(),
    };
    match (from, to) {
        (Some(from), Some(to)) => format!("~ {what}: {from} -> {to}"),
        (None, Some(to)) => format!("+ {what}: {to}"),
        (Some(from), None) => format!("- {what}: {from}"),
        (None, None) => format!("~ {what}"),
    }
}

/// Runs `resync`.
///
/// # Errors
/// The publisher can't be asked, or refuses.
pub async fn resync(connector: Connector<'_>, args: ResyncArgs) -> Result<Verdict, Failure> {
    let ResyncArgs { host, switch, wait } = args;
    let request = ResyncRequest {
        host,
        switch,
        wait: wait.map(|_| Wait::Applied),
        timeout: wait,
    };
    let patience = wait.map_or(Duration::ZERO, Deadline::get);
    let session = connector.open().await?;
    let reply: ResyncReply =
        patiently(&session, subjects::CONFIG_RESYNC, &request, wait, patience).await?;
    say(&format!(
        "full state of revision {} to {}",
        reply.revision,
        count(reply.hosts, "host")
    ));
    Ok(pushed(reply.applied.as_ref()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn lagging(host: u64, why: &str) -> HostOutcome {
        HostOutcome {
            host: format!("h{host}").parse().unwrap(),
            outcome: HostVerdict::Failed,
            why: Some(why.to_owned()),
        }
    }

    fn summary(hosts: u64, outcomes: Vec<HostOutcome>) -> String {
        push_summary(&PushSummary {
            hosts,
            applied: 0,
            outcomes,
        })
    }

    #[test]
    fn however_many_hosts_lag_their_summary_fits_on_a_screen() {
        let absent = (1..=1000).map(|host| lagging(host, "absent")).collect();
        assert_eq!(
            summary(3000, absent),
            "applied on 0 of 3000 hosts\n  \
             failed (absent): h1, h2, h3, h4, h5 and 995 hosts more\n  \
             and 2000 hosts more\n\
             they are tried again until they have it; `dvsctl get hosts` shows how it goes"
        );
        let each_its_own = (1..=1000).map(|host| lagging(host, &format!("why {host}")));
        let text = summary(1000, each_its_own.collect());
        assert_eq!(text.lines().count(), 1 + REASONS + 2);
        assert!(text.contains("\n  and 990 hosts more\n"), "{text}");
    }
}
