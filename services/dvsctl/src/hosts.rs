// SPDX-License-Identifier: Apache-2.0
//! Hosts and whether they are in sync: what the publisher knows of their
//! revisions, joined with retry's queues.

use std::collections::BTreeMap;
use std::time::SystemTime;

use dvs_schemas::v1::{
    ConditionsOfHost, Diverged, ForgetReply, ForgetRequest, HostDatapath, HostListReply,
    HostListRequest, HostStatus, Presence, RepushEntry, RepushKey, RetryListReply,
    RetryListRequest, RipEntry, RuntimeConditionsRequest, SwitchOnHost,
};
use dvs_schemas::{HostName, SwitchName, Timestamp, subjects};
use serde::Serialize;

use crate::args::{ForgetArgs, of_host};
use crate::change::warn;
use crate::conditions;
use crate::failure::{Failure, Verdict, chain};
use crate::namesakes;
use crate::output::{
    ListFormat, OutputFormat, count, json, or_dash, print, say, say_if_empty, table, yaml,
};
use crate::session::{Connector, Session};
use crate::when::age;

/// Both queues as they were at one time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Queues {
    /// When.
    pub now: Timestamp,
    /// Hosts that are out of sync.
    pub out_of_sync: Vec<RepushEntry>,
    /// Virtual ports that are to go.
    pub rip: Vec<RipEntry>,
}

/// Runs `forget`, host by host: one that can't be forgotten keeps no other.
///
/// # Errors
/// The publisher can't be asked; or it refused some, of which all but the last
/// are said and that one is the error.
pub async fn forget(connector: Connector<'_>, args: ForgetArgs) -> Result<Verdict, Failure> {
    let ForgetArgs { hosts } = args;
    let session = connector.open().await?;
    let mut refused = None;
    for host in hosts {
        match forget_one(&session, host).await {
            Ok(()) => {}
            Err(failure @ Failure::Refused(_)) => {
                if let Some(before) = refused.replace(failure) {
                    say(&chain(&before));
                }
            }
            Err(failure) => return Err(failure),
        }
    }
    refused.map_or(Ok(Verdict::Yes), Err)
}

async fn forget_one(session: &Session, host: HostName) -> Result<(), Failure> {
    let request = ForgetRequest { host };
    let reply: ForgetReply = session.ask(subjects::HOST_FORGET, &request).await?;
    let ForgetReply {
        v: _,
        host,
        revision,
        ports,
        warnings,
    } = reply;
    let are = if ports == 1 { "is" } else { "are" };
    let ports = count(ports, "port");
    say(&format!(
        "host {host} is forgotten; {ports} {are} on no host now (revision {revision})"
    ));
    warn(&warnings);
    Ok(())
}

/// All hosts that a request asks for.
///
/// # Errors
/// As [`Session::pages`].
pub async fn fetch(
    session: &Session,
    request: HostListRequest,
) -> Result<Vec<HostStatus>, Failure> {
    let mut hosts = Vec::new();
    session
        .pages(
            subjects::HOST_LIST,
            request,
            |request, page: HostListReply| {
                hosts.extend(page.hosts);
                request.after = page.next;
                request.after.is_some()
            },
        )
        .await?;
    Ok(hosts)
}

/// Whether the publisher knows of a host.
///
/// # Errors
/// It does not, or can't be asked.
pub(crate) async fn there(session: &Session, host: &HostName) -> Result<(), Failure> {
    let request = HostListRequest {
        host: Some(host.clone()),
        ..HostListRequest::default()
    };
    match fetch(session, request).await?.is_empty() {
        true => Err(Failure::NoSuch(format!("there is no host {host}"))),
        false => Ok(()),
    }
}

/// All queue entries that a request asks for.
///
/// # Errors
/// As [`Session::pages`].
pub async fn fetch_queues(session: &Session, request: RetryListRequest) -> Result<Queues, Failure> {
    let mut queues = Queues {
        now: Timestamp::default(),
        out_of_sync: Vec::new(),
        rip: Vec::new(),
    };
    session
        .pages(
            subjects::RETRY_LIST,
            request,
            |request, page: RetryListReply| {
                queues.now = page.now;
                queues.out_of_sync.extend(page.out_of_sync);
                queues.rip.extend(page.rip);
                request.after = page.next;
                request.after.is_some()
            },
        )
        .await?;
    Ok(queues)
}

/// How a host stands with a switch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Sync {
    /// It has applied all that concerns it.
    InSync,
    /// A push is on its way, or the host isn't there and nothing was missed.
    Pending,
    /// It follows another history than the publisher's ledger, and is sent
    /// nothing until that is decided.
    Diverged {
        /// Which.
        follows: String,
    },
    /// It missed a push, which is tried again.
    OutOfSync {
        /// Why.
        reason: String,
    },
    /// It missed no push, and virtual ports are still to go from it.
    Removing {
        /// How many.
        ports: u64,
    },
}

impl Sync {
    fn of(
        diverged: Option<&Diverged>,
        switch: &SwitchOnHost,
        missed: Option<&RepushEntry>,
        rips: u64,
    ) -> Self {
        if let Some(diverged) = diverged {
            let follows = diverged.to_string();
            return Self::Diverged { follows };
        }
        match (missed, switch.observed) {
            (Some(entry), _) => Self::OutOfSync {
                reason: entry.state.last_error.clone(),
            },
            // What was taken from it counts as wanted, too.
            (None, Some(_) | None) if rips > 0 => Self::Removing { ports: rips },
            (None, Some(observed)) if observed >= switch.wanted => Self::InSync,
            (None, Some(_) | None) => Self::Pending,
        }
    }
}

impl std::fmt::Display for Sync {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::InSync => f.write_str("in sync"),
            Self::Pending => f.write_str("pending"),
            Self::Diverged { follows } => {
                write!(f, "diverged: {follows}; see dvsctl store continue --help")
            }
            Self::OutOfSync { reason } => write!(f, "out of sync: {reason}"),
            Self::Removing { ports } => write!(f, "removing {}", count(*ports, "port")),
        }
    }
}

/// A host with the state of each of its switches.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HostInSync {
    /// What the publisher knows.
    #[serde(flatten)]
    pub status: HostStatus,
    /// Per switch, in the order of the status.
    pub sync: Vec<Sync>,
}

/// Joins hosts with the queues.
#[must_use]
pub fn join(hosts: Vec<HostStatus>, queues: &Queues) -> Vec<HostInSync> {
    let missed: BTreeMap<&RepushKey, &RepushEntry> = queues
        .out_of_sync
        .iter()
        .map(|entry| (&entry.key, entry))
        .collect();
    let mut rips: BTreeMap<(&HostName, &SwitchName), u64> = BTreeMap::new();
    for entry in &queues.rip {
        *rips
            .entry((&entry.key.host, &entry.key.switch))
            .or_default() += 1;
    }
    hosts
        .into_iter()
        .map(|status| {
            let sync = status
                .switches
                .iter()
                .map(|on_host| {
                    let key = RepushKey {
                        host: status.host.clone(),
                        switch: on_host.switch.clone(),
                    };
                    let rips = rips.get(&(&status.host, &on_host.switch));
                    Sync::of(
                        status.diverged.as_ref(),
                        on_host,
                        missed.get(&key).copied(),
                        rips.copied().unwrap_or(0),
                    )
                })
                .collect();
            HostInSync { status, sync }
        })
        .collect()
}

/// Runs `get hosts`.
///
/// # Errors
/// The publisher can't be asked, or refuses. Where only retry can't, what the
/// publisher knows is shown, and stderr says what is missing.
pub async fn run(
    connector: Connector<'_>,
    name: Option<String>,
    host: Option<HostName>,
    switch: Option<SwitchName>,
    format: &ListFormat,
) -> Result<Verdict, Failure> {
    let host = match name {
        Some(name) => Some(
            name.parse()
                .map_err(|e: dvs_schemas::InvalidName| Failure::Usage(e.to_string()))?,
        ),
        None => host,
    };
    let session = connector.open().await?;
    let hosts = fetch(
        &session,
        HostListRequest {
            host: host.clone(),
            switch: switch.clone(),
            after: None,
        },
    )
    .await?;
    let request = RetryListRequest {
        host: host.clone(),
        switch,
        ..RetryListRequest::default()
    };
    let queues = queues_or_warning(&session, request).await;
    let joined = join(hosts, &queues);
    let wrong = match format.output {
        OutputFormat::Table | OutputFormat::Wide if !joined.is_empty() => {
            let all = RuntimeConditionsRequest {
                host: host.clone(),
                ..RuntimeConditionsRequest::default()
            };
            conditions::or_warning(&session, all).await
        }
        OutputFormat::Table
        | OutputFormat::Wide
        | OutputFormat::Json
        | OutputFormat::Yaml
        | OutputFormat::Name => Vec::new(),
    };
    print(&render(
        &joined,
        &wrong,
        queues.now,
        format.output,
        format.no_headings,
    )?)?;
    match host {
        Some(host) if joined.is_empty() => {
            say(&format!("no host is called {host}"));
            Ok(Verdict::No)
        }
        Some(_) | None => {
            say_if_empty(joined.len(), format.output, "there are none");
            Ok(Verdict::Yes)
        }
    }
}

/// The queues; empty, and that they are is said, where retry can't be asked.
pub(crate) async fn queues_or_warning(session: &Session, request: RetryListRequest) -> Queues {
    match fetch_queues(session, request).await {
        Ok(queues) => queues,
        Err(failure) => {
            say(&format!(
                "warning: who is out of sync is not known: {}",
                chain(&failure)
            ));
            Queues {
                now: SystemTime::now().into(),
                out_of_sync: Vec::new(),
                rip: Vec::new(),
            }
        }
    }
}

pub(crate) fn presence(presence: Presence) -> &'static str {
    match presence {
        Presence::Present => "present",
        Presence::Absent => "absent",
        Presence::Unknown => "unknown",
        Presence::Never => "never seen",
    }
}

/// The hosts as text, a row per host and switch.
///
/// # Errors
/// A host has no JSON or YAML form, which is none of the user's making.
pub fn render(
    hosts: &[HostInSync],
    wrong: &[ConditionsOfHost],
    now: Timestamp,
    output: OutputFormat,
    no_headings: bool,
) -> std::io::Result<String> {
    let wide = match output {
        OutputFormat::Table => false,
        OutputFormat::Wide => true,
        OutputFormat::Json => return json(&hosts),
        OutputFormat::Yaml => return yaml(&hosts),
        OutputFormat::Name => {
            return Ok(hosts
                .iter()
                .map(|h| of_host(&h.status.host) + "\n")
                .collect());
        }
    };
    let mut headings = vec![
        "HOST",
        "PRESENCE",
        "SWITCH",
        "WANTED",
        "OBSERVED",
        "PORTS",
        "CONDITIONS",
        "STATE",
    ];
    if wide {
        headings.extend(["HEARD", "NODE", "VERSION"]);
    }
    let rows = hosts.iter().flat_map(|host| {
        let wrong = conditions::of_host_in_words(wrong, &host.status.host);
        rows(host, &wrong, now)
    });
    let cut = |mut row: Vec<String>| {
        row.truncate(headings.len());
        row
    };
    let rows = rows.map(cut).collect();
    let mut text = table(&headings, rows, no_headings);
    if !no_headings {
        let statuses = hosts.iter().map(|host| &host.status);
        text.push_str(&namesakes::lines(statuses, now));
    }
    Ok(text)
}

/// A row per switch of a host, or one that says it has none.
fn rows(host: &HostInSync, wrong: &str, now: Timestamp) -> Vec<Vec<String>> {
    let HostInSync { status, sync } = host;
    let mut cells: Vec<[String; 6]> = status
        .switches
        .iter()
        .zip(sync)
        .map(|(on_host, sync)| {
            [
                on_host.switch.to_string(),
                on_host.wanted.to_string(),
                or_dash(on_host.observed),
                on_host.ports.to_string(),
                wrong.to_owned(),
                sync.to_string(),
            ]
        })
        .collect();
    if cells.is_empty() {
        let state = match &status.diverged {
            Some(diverged) => diverged.to_string(),
            None => "no switch".to_owned(),
        };
        let dash = || "-".to_owned();
        cells.push([
            dash(),
            dash(),
            dash(),
            "0".to_owned(),
            wrong.to_owned(),
            state,
        ]);
    }
    let before = [
        status.host.to_string(),
        match status.datapath {
            Some(HostDatapath::Emulated) => format!("{}, emulated", presence(status.presence)),
            Some(HostDatapath::OpenVswitch) | None => presence(status.presence).to_owned(),
        },
    ];
    let after = [
        or_dash(status.heard.map(|heard| age(now, heard))),
        or_dash(status.node.as_ref()),
        or_dash(status.version.as_ref()),
    ];
    let row = |cells: [String; 6]| {
        let row = before.iter().cloned().chain(cells);
        row.chain(after.iter().cloned()).collect()
    };
    cells.into_iter().map(row).collect()
}
