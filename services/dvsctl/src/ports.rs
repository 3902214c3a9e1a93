// SPDX-License-Identifier: Apache-2.0
//! Ports at run time: what the collector has of them, and what their host reads
//! now.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use dvs_schemas::v1::{
    Counters, CountersOf, GetRequest, Link, LiveReply, LiveRequest, PortRuntime, RuntimeGetRequest,
    RuntimeListRequest, RuntimeRecord,
};
use dvs_schemas::{Kind, ObjectKey, PortId, Timestamp, subjects};

use crate::args::{LiveArgs, RuntimeArgs, of_object};
use crate::failure::{Failure, Verdict};
use crate::get;
use crate::mistyped::not_mistyped;
use crate::output::{OutputFormat, json, or_dash, print, say_if_empty, table, yaml};
use crate::session::{Connector, Session};
use crate::when::age;
use crate::whereabouts;

/// Runs `runtime`.
///
/// # Errors
/// The collector can't be asked, or refuses.
pub async fn runtime(connector: Connector<'_>, args: RuntimeArgs) -> Result<Verdict, Failure> {
    let RuntimeArgs {
        port,
        switch,
        group,
        host,
        link,
        stale,
        format,
    } = args;
    let session = connector.open().await?;
    let records = match port {
        Some(port) => {
            let request = RuntimeGetRequest { port };
            vec![
                known(
                    &session,
                    &request.port,
                    session.read(subjects::RUNTIME_GET, &request).await,
                )
                .await?,
            ]
        }
        None => {
            let request = RuntimeListRequest {
                switch,
                group,
                host,
                link,
                stale_since: stale.map(ago),
                ..RuntimeListRequest::default()
            };
            let found = whereabouts::fetch(&session, request.clone()).await?;
            if found.is_empty() {
                let RuntimeListRequest {
                    switch,
                    group,
                    host,
                    ..
                } = &request;
                let (switch, group) = (switch.as_ref(), group.as_ref());
                not_mistyped(&session, switch, group, host.as_ref()).await?;
            }
            found
        }
    };
    let now = SystemTime::now().into();
    print(&render(&records, now, format.output, format.no_headings)?)?;
    say_if_empty(records.len(), format.output, "there are none");
    Ok(Verdict::Yes)
}

/// How long the collector waits for a host.
const LIVE: Duration = Duration::from_secs(5);

/// What the collector says of a port. Where it knows none, the port may not be
/// there at all, which the publisher knows.
///
/// # Errors
/// As the answer; a port that nobody has configured is said not to be there.
pub(crate) async fn known<T>(
    session: &Session,
    port: &PortId,
    answer: Result<T, Failure>,
) -> Result<T, Failure> {
    let Err(failure) = answer else {
        return answer;
    };
    if failure.is_not_found() {
        let request = GetRequest {
            kind: Some(Kind::Port),
            name: Some(port.to_string()),
            ..GetRequest::default()
        };
        if get::fetch(session, request)
            .await
            .is_ok_and(|found| found.is_empty())
        {
            return Err(Failure::NoSuch(format!("there is no port {port}")));
        }
    }
    Err(failure)
}

/// The moment that was so long ago.
fn ago(time: Duration) -> Timestamp {
    let moment = SystemTime::now().checked_sub(time);
    moment.unwrap_or(SystemTime::UNIX_EPOCH).into()
}

/// Runs `live`.
///
/// # Errors
/// The collector can't be asked, or refuses, or the host doesn't answer it.
pub async fn live(connector: Connector<'_>, args: LiveArgs) -> Result<Verdict, Failure> {
    let session = connector.open().await?;
    let LiveArgs { port, host, format } = args;
    let mut request = LiveRequest {
        port,
        host,
        after: None,
    };
    let asked = session.read_patiently(subjects::RUNTIME_LIVE, &request, LIVE);
    let asked = asked.await;
    let mut reply: LiveReply = match &request.port {
        Some(port) => known(&session, port, asked).await?,
        None => asked?,
    };
    request.after = reply.next.take();
    if request.after.is_some() {
        session
            .pages(
                subjects::RUNTIME_LIVE,
                request,
                |request, page: LiveReply| {
                    reply.ports.extend(page.ports);
                    reply.counters.extend(page.counters);
                    reply.totals.extend(page.totals);
                    request.after = page.next;
                    request.after.is_some()
                },
            )
            .await?;
    }
    let text = match format.output {
        OutputFormat::Json => json(&reply)?,
        OutputFormat::Yaml => yaml(&reply)?,
        OutputFormat::Table | OutputFormat::Wide | OutputFormat::Name => {
            let now = reply.at;
            render(&records(reply), now, format.output, format.no_headings)?
        }
    };
    print(&text)?;
    Ok(Verdict::Yes)
}

/// A live reading in the form of the stored one, which the tables show.
fn records(reply: LiveReply) -> Vec<RuntimeRecord> {
    let LiveReply {
        v: _,
        host,
        session: _,
        at,
        ports,
        counters,
        totals,
        conditions: _,
        next: _,
    } = reply;
    let by_port = |all: Vec<CountersOf>| -> BTreeMap<PortId, Counters> {
        all.into_iter().map(|of| (of.port, of.counters)).collect()
    };
    let (counters, totals) = (by_port(counters), by_port(totals));
    ports
        .into_iter()
        .map(|state| {
            let counters = counters.get(&state.port).copied();
            let total = totals.get(&state.port).copied();
            RuntimeRecord {
                port: state.port.clone(),
                host: host.clone(),
                updated: at,
                state: Some(state),
                changed: Some(at),
                counters,
                settled: counters.map(|_| at),
                total,
            }
        })
        .collect()
}

fn link(state: &PortRuntime) -> &'static str {
    match (state.link, state.blocked) {
        (Link::Up, false) => "up",
        (Link::Up, true) => "up, blocked",
        (Link::Down, false) => "down",
        (Link::Down, true) => "down, blocked",
    }
}

/// Runtime states as text.
///
/// # Errors
/// A state has no JSON or YAML form, which is none of the user's making.
pub fn render(
    records: &[RuntimeRecord],
    now: Timestamp,
    output: OutputFormat,
    no_headings: bool,
) -> std::io::Result<String> {
    let wide = match output {
        OutputFormat::Table => false,
        OutputFormat::Wide => true,
        OutputFormat::Json => return json(&records),
        OutputFormat::Yaml => return yaml(&records),
        OutputFormat::Name => {
            return Ok(records
                .iter()
                .map(|r| of_object(&ObjectKey::Port(r.port.clone())) + "\n")
                .collect());
        }
    };
    let mut headings = vec![
        "PORT",
        "HOST",
        "LINK",
        "VLAN",
        "IN-PACKETS",
        "OUT-PACKETS",
        "AGE",
    ];
    if wide {
        headings.extend([
            "SWITCH",
            "GROUP",
            "EPOCH",
            "REVISION",
            "MIRRORED",
            "IN-BYTES",
            "IN-DROPS",
            "OUT-BYTES",
            "OUT-DROPS",
            "ERRORS",
        ]);
    }
    let rows = records
        .iter()
        .map(|record| {
            let mut row = row(record, now);
            row.truncate(headings.len());
            row
        })
        .collect();
    Ok(table(&headings, rows, no_headings))
}

fn row(record: &RuntimeRecord, now: Timestamp) -> Vec<String> {
    let RuntimeRecord {
        port,
        host,
        updated,
        state,
        changed: _,
        counters,
        settled: _,
        total,
    } = record;
    let counters = total.as_ref().or(counters.as_ref());
    let of = |field: fn(&Counters) -> u64| or_dash(counters.map(field));
    let state = state.as_ref();
    let mirrored = state
        .map(|s| {
            s.mirrored
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join(",")
        })
        .filter(|text| !text.is_empty());
    vec![
        port.to_string(),
        host.to_string(),
        state.map_or("gone", link).to_owned(),
        or_dash(state.map(|s| &s.vlan)),
        of(|c| c.ingress_packets),
        of(|c| c.egress_packets),
        age(now, *updated),
        or_dash(state.map(|s| &s.switch)),
        or_dash(state.map(|s| &s.group)),
        or_dash(state.map(|s| s.epoch)),
        or_dash(state.map(|s| s.revision)),
        or_dash(mirrored),
        of(|c| c.ingress_bytes),
        of(|c| c.ingress_drops),
        of(|c| c.egress_bytes),
        of(|c| c.egress_drops),
        of(|c| c.ingress_errors.saturating_add(c.egress_errors)),
    ]
}
