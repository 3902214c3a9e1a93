// SPDX-License-Identifier: Apache-2.0
//! One port or one host, line by line: for whoever was woken by it.

use dvs_schemas::v1::{
    ConditionsOfHost, Counters, GetRequest, HostDatapath, HostListRequest, Link, PortRuntime,
    RepushEntry, RetryListRequest, RipEntry, RuntimeConditionsRequest, RuntimeRecord,
};
use dvs_schemas::{HostName, InvalidName, Kind, PortDoc, Timestamp};
use serde::Serialize;

use crate::args::{Describable, DescribeArgs, DescribeFormat};
use crate::conditions;
use crate::failure::{Failure, Verdict};
use crate::get;
use crate::hosts::{self, HostInSync, Queues, join, presence, queues_or_warning};
use crate::namesakes;
use crate::output::{json, or_dash, print, say, table, yaml};
use crate::policy::overrides;
use crate::queues;
use crate::session::{Connector, Session};
use crate::when::age;
use crate::whereabouts::{self, OnHost, Wanted, Whereabouts};

/// Runs `describe`.
///
/// # Errors
/// The publisher can't be asked. What collector and retry don't tell is said
/// to be missing.
pub async fn run(connector: Connector<'_>, args: DescribeArgs) -> Result<Verdict, Failure> {
    let DescribeArgs {
        thing,
        name,
        output,
    } = args;
    let (thing, name) = thing.with(name)?;
    let name = name.ok_or_else(|| {
        Failure::Usage("name the port or host, like port web-1 or host/h7".to_owned())
    })?;
    let session = connector.open().await?;
    let text = match thing {
        Describable::Port => port(&session, &name, output).await?,
        Describable::Host => {
            let host = name.parse();
            let host = host.map_err(|e: InvalidName| Failure::Usage(e.to_string()))?;
            self::host(&session, host, output).await?
        }
    };
    match text {
        Some(text) => {
            print(&text)?;
            Ok(Verdict::Yes)
        }
        None => {
            say(&format!("nothing is called {name:?}"));
            Ok(Verdict::No)
        }
    }
}

async fn port(
    session: &Session,
    name: &str,
    output: DescribeFormat,
) -> Result<Option<String>, Failure> {
    let request = GetRequest {
        kind: Some(Kind::Port),
        name: Some(name.to_owned()),
        ..GetRequest::default()
    };
    let items = get::fetch(session, request).await?;
    let Some((item, document)) = items.iter().find_map(|item| match &item.document {
        dvs_schemas::Document::Port(document) => Some((item, document)),
        dvs_schemas::Document::Switch(_)
        | dvs_schemas::Document::PortGroup(_)
        | dvs_schemas::Document::MirrorSession(_) => None,
    }) else {
        return Ok(None);
    };
    let known = whereabouts::ask(session, Wanted::One(document.clone())).await?;
    let Some(whereabouts) = known.of(item) else {
        return Ok(None);
    };
    let now = known.now();
    Ok(Some(match output {
        DescribeFormat::Text => port_lines(&whereabouts, now),
        DescribeFormat::Json => json(&whereabouts)?,
        DescribeFormat::Yaml => yaml(&whereabouts)?,
    }))
}

/// A host and its queue entries.
#[derive(Debug, Serialize)]
struct HostDescription {
    #[serde(flatten)]
    host: HostInSync,
    out_of_sync: Vec<RepushEntry>,
    rip: Vec<RipEntry>,
    conditions: Vec<ConditionsOfHost>,
}

async fn host(
    session: &Session,
    host: HostName,
    output: DescribeFormat,
) -> Result<Option<String>, Failure> {
    let request = HostListRequest {
        host: Some(host.clone()),
        ..HostListRequest::default()
    };
    let found = hosts::fetch(session, request).await?;
    let wrong = RuntimeConditionsRequest {
        host: Some(host.clone()),
        ..RuntimeConditionsRequest::default()
    };
    let conditions = conditions::or_warning(session, wrong).await;
    let request = RetryListRequest {
        host: Some(host),
        ..RetryListRequest::default()
    };
    let queues = queues_or_warning(session, request).await;
    let Some(host) = join(found, &queues).pop() else {
        return Ok(None);
    };
    if output == DescribeFormat::Text {
        return Ok(Some(host_lines(&host, &queues, &conditions)?));
    }
    let description = HostDescription {
        host,
        out_of_sync: queues.out_of_sync,
        rip: queues.rip,
        conditions,
    };
    Ok(Some(match output {
        DescribeFormat::Text | DescribeFormat::Json => json(&description)?,
        DescribeFormat::Yaml => yaml(&description)?,
    }))
}

/// `Name: value` lines, and what belongs under them.
#[derive(Default)]
struct Lines(Vec<Vec<String>>);

impl Lines {
    fn put(&mut self, name: &str, value: impl ToString) {
        self.0.push(vec![format!("{name}:"), value.to_string()]);
    }

    fn may_put(&mut self, name: &str, value: Option<impl ToString>) {
        if let Some(value) = value {
            self.put(name, value);
        }
    }

    fn text(self) -> String {
        table(&[], self.0, true)
    }
}

fn port_lines(port: &Whereabouts, now: Timestamp) -> String {
    let PortDoc {
        name,
        switch,
        group,
        host: _,
        vnic,
        mac,
        policy,
    } = &port.document;
    let mut lines = Lines::default();
    lines.put("Port", name);
    lines.put("Switch", switch);
    lines.put("Group", group);
    lines.put("vNIC", or_dash(vnic.as_ref()));
    lines.may_put("MAC", *mac);
    lines.put("Overrides", overrides(policy));
    lines.put(
        "Host",
        port.host
            .as_ref()
            .map_or_else(|| "-".to_owned(), |on| on_host(on, now)),
    );
    lines.put("Epoch", or_dash(port.epoch));
    lines.put("State", &port.state);
    lines.put("Wanted", format!("revision {}", port.wanted));
    let observed = port
        .observed()
        .map(|(revision, told)| format!("revision {revision}, told {} ago", age(now, told)));
    lines.put("Observed", or_dash(observed));
    if let Some(on) = port.host.as_ref().and_then(|on| on.switch.as_ref()) {
        lines.put(
            "Host's switch",
            format!(
                "wanted revision {}, observed {}",
                on.wanted,
                or_dash(on.observed)
            ),
        );
    }
    match &port.runtime {
        Some(record) => runtime_lines(&mut lines, record, now),
        None => lines.put("Runtime", "no host has told of it"),
    }
    let mut text = lines.text();
    let queues = Queues {
        now,
        out_of_sync: port.out_of_sync.iter().cloned().collect(),
        rip: port.rip.clone(),
    };
    text.push_str(&conditions::lines(&port.conditions, now));
    text.push_str(&queues::tables(&queues));
    text
}

fn on_host(on: &OnHost, now: Timestamp) -> String {
    let heard = on
        .heard
        .map(|heard| format!(", heard {} ago", age(now, heard)));
    format!(
        "{} ({}{})",
        on.host,
        presence(on.presence),
        heard.unwrap_or_default()
    )
}

fn runtime_lines(lines: &mut Lines, record: &RuntimeRecord, now: Timestamp) {
    let RuntimeRecord {
        port: _,
        host,
        updated,
        state,
        changed,
        counters: _,
        settled,
        total,
    } = record;
    let told = changed.unwrap_or(*updated);
    let told = format!("told by {host} {} ago", age(now, told));
    match state {
        Some(state) => {
            let PortRuntime {
                link,
                vlan,
                blocked,
                mirrored,
                ..
            } = state;
            let link = match link {
                Link::Up => "up",
                Link::Down => "down",
            };
            lines.put("Link", format!("{link}, {told}"));
            lines.put("VLAN", vlan);
            lines.put("Blocked", if *blocked { "yes" } else { "no" });
            let sessions: Vec<String> = mirrored.iter().map(ToString::to_string).collect();
            lines.may_put(
                "Mirrored by",
                (!sessions.is_empty()).then(|| sessions.join(", ")),
            );
        }
        None => lines.put("Virtual port", format!("gone, {told}")),
    }
    if let Some(Counters {
        ingress_packets,
        ingress_bytes,
        ingress_drops,
        ingress_errors,
        egress_packets,
        egress_bytes,
        egress_drops,
        egress_errors,
    }) = total
    {
        let settled = settled.map(|at| format!(", settled {} ago", age(now, at)));
        let settled = settled.unwrap_or_default();
        let way = |packets, bytes, drops, errors| {
            format!("{packets} packets, {bytes} bytes, {drops} drops, {errors} errors")
        };
        let from = way(
            ingress_packets,
            ingress_bytes,
            ingress_drops,
            ingress_errors,
        );
        let to = way(egress_packets, egress_bytes, egress_drops, egress_errors);
        lines.put("From the vNIC", format!("{from}{settled}"));
        lines.put("To the vNIC", to);
    }
}

fn host_lines(
    host: &HostInSync,
    queues: &Queues,
    conditions: &[ConditionsOfHost],
) -> std::io::Result<String> {
    let now = queues.now;
    let status = &host.status;
    let mut lines = Lines::default();
    lines.put("Host", &status.host);
    let heard = status
        .heard
        .map(|heard| format!(", heard {} ago", age(now, heard)));
    lines.put(
        "Presence",
        format!("{}{}", presence(status.presence), heard.unwrap_or_default()),
    );
    lines.may_put("Node", status.node.as_ref());
    lines.may_put("Address", status.address);
    lines.may_put("Session", status.session);
    lines.may_put("Agent", status.version.as_ref());
    lines.may_put(
        "Datapath",
        status.datapath.map(|datapath| match datapath {
            HostDatapath::OpenVswitch => "Open vSwitch",
            HostDatapath::Emulated => "emulated: nothing is forwarded",
        }),
    );
    let mut text = lines.text();
    let rows = status.switches.iter().zip(&host.sync).map(|(on, sync)| {
        vec![
            on.switch.to_string(),
            on.wanted.to_string(),
            or_dash(on.observed),
            on.ports.to_string(),
            sync.to_string(),
        ]
    });
    let switches = table(
        &["SWITCH", "WANTED", "OBSERVED", "PORTS", "STATE"],
        rows.collect(),
        false,
    );
    if !switches.is_empty() {
        text.push_str(&format!("\nSwitches:\n{switches}"));
    }
    text.push_str(&namesakes::lines([status], now));
    text.push_str(&conditions::lines(conditions, now));
    text.push_str(&queues::tables(queues));
    Ok(text)
}
