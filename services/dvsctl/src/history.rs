// SPDX-License-Identifier: Apache-2.0
//! What was told of a port lately: for whoever asks how it came to be so.

use std::time::SystemTime;

use dvs_schemas::v1::{
    Counters, Link, PastEvent, PortRuntime, RuntimeHistoryReply, RuntimeHistoryRequest, Telling,
    ToldBy,
};
use dvs_schemas::{Timestamp, subjects};

use crate::args::HistoryArgs;
use crate::failure::{Failure, Verdict};
use crate::output::{OutputFormat, json, print, say_if_empty, table, yaml};
use crate::ports;
use crate::session::Connector;
use crate::when::age;

/// Runs `history`.
///
/// # Errors
/// The collector can't be asked, or knows nothing of the port.
pub async fn run(connector: Connector<'_>, args: HistoryArgs) -> Result<Verdict, Failure> {
    let HistoryArgs { port, format } = args;
    let session = connector.open().await?;
    let request = RuntimeHistoryRequest { port };
    let answer = session.read(subjects::RUNTIME_HISTORY, &request).await;
    let reply: RuntimeHistoryReply = ports::known(&session, &request.port, answer).await?;
    let events = &reply.events;
    let text = match format.output {
        OutputFormat::Json => json(events)?,
        OutputFormat::Yaml => yaml(events)?,
        OutputFormat::Table | OutputFormat::Wide | OutputFormat::Name => {
            let now = SystemTime::now().into();
            let rows = events.iter().map(|event| row(event, now)).collect();
            let headings = ["AGE", "AT", "HOST", "EPOCH", "BY", "NEWS", "TOLD"];
            table(&headings, rows, format.no_headings)
        }
    };
    print(&text)?;
    say_if_empty(events.len(), format.output, "nothing of it is kept");
    Ok(Verdict::Yes)
}

fn row(event: &PastEvent, now: Timestamp) -> Vec<String> {
    let PastEvent {
        heard,
        at,
        host,
        epoch,
        by,
        news,
        told,
    } = event;
    vec![
        age(now, *heard),
        at.to_string(),
        host.to_string(),
        epoch.to_string(),
        match by {
            ToldBy::Event => "event",
            ToldBy::Snapshot => "snapshot",
            ToldBy::Forgotten => "forgotten",
        }
        .to_owned(),
        if *news { "yes" } else { "no" }.to_owned(),
        words(told),
    ]
}

fn words(told: &Telling) -> String {
    match told {
        Telling::State(PortRuntime {
            link,
            vlan,
            blocked,
            mirrored,
            revision,
            ..
        }) => {
            let link = match link {
                Link::Up => "link up",
                Link::Down => "link down",
            };
            let blocked = if *blocked { ", blocked" } else { "" };
            let mirrored = match mirrored.len() {
                0 => String::new(),
                sessions => format!(", mirrored by {sessions}"),
            };
            format!("{link}, vlan {vlan}{blocked}{mirrored}, revision {revision}")
        }
        Telling::Gone => "virtual port gone".to_owned(),
        Telling::Counters(Counters {
            ingress_packets,
            egress_packets,
            ingress_drops,
            egress_drops,
            ..
        }) => format!(
            "settled: in {ingress_packets}, out {egress_packets} packets, \
             {} dropped",
            ingress_drops.saturating_add(*egress_drops)
        ),
    }
}
