// SPDX-License-Identifier: Apache-2.0
//! Ports summed up.

use std::time::SystemTime;

use dvs_schemas::v1::{
    Counters, Rollup, RollupBy, RollupKey, RuntimeRollupReply, RuntimeRollupRequest,
};
use dvs_schemas::{ObjectKey, Timestamp, subjects};

use crate::args::{RollupArgs, RollupKind, of_host, of_object};
use crate::failure::{Failure, Verdict};
use crate::mistyped::not_mistyped;
use crate::output::{OutputFormat, json, print, say_if_empty, table, yaml};
use crate::session::Connector;
use crate::when::age;

/// Runs `rollup`.
///
/// # Errors
/// The collector can't be asked, or refuses.
pub async fn run(connector: Connector<'_>, args: RollupArgs) -> Result<Verdict, Failure> {
    let RollupArgs {
        by,
        switch,
        group,
        host,
        format,
    } = args;
    let by = match by {
        RollupKind::Switches => RollupBy::Switch,
        RollupKind::Portgroups => RollupBy::Group,
        RollupKind::Hosts => RollupBy::Host,
    };
    let request = RuntimeRollupRequest {
        by,
        switch,
        group,
        host,
        after: None,
    };
    let session = connector.open().await?;
    let mut rows = Vec::new();
    session
        .pages(
            subjects::RUNTIME_ROLLUP,
            request.clone(),
            |request, page: RuntimeRollupReply| {
                rows.extend(page.rows);
                request.after = page.next;
                request.after.is_some()
            },
        )
        .await?;
    if rows.is_empty() {
        let RuntimeRollupRequest {
            by: _,
            switch,
            group,
            host,
            after: _,
        } = &request;
        let (switch, group) = (switch.as_ref(), group.as_ref());
        not_mistyped(&session, switch, group, host.as_ref()).await?;
    }
    let now = SystemTime::now().into();
    print(&render(by, &rows, now, format.output, format.no_headings)?)?;
    say_if_empty(rows.len(), format.output, "no host has told of such a port");
    Ok(Verdict::Yes)
}

fn render(
    by: RollupBy,
    rows: &[Rollup],
    now: Timestamp,
    output: OutputFormat,
    no_headings: bool,
) -> std::io::Result<String> {
    let wide = match output {
        OutputFormat::Table => false,
        OutputFormat::Wide => true,
        OutputFormat::Json => return json(&rows),
        OutputFormat::Yaml => return yaml(&rows),
        OutputFormat::Name => {
            return Ok(rows.iter().map(|row| word(&row.key) + "\n").collect());
        }
    };
    let heading = match by {
        RollupBy::Switch => "SWITCH",
        RollupBy::Group => "GROUP",
        RollupBy::Host => "HOST",
    };
    let mut headings = vec![
        heading,
        "PORTS",
        "UP",
        "DOWN",
        "BLOCKED",
        "IN-PACKETS",
        "OUT-PACKETS",
        "OLDEST",
    ];
    if wide {
        headings.extend(["IN-BYTES", "IN-DROPS", "OUT-BYTES", "OUT-DROPS", "ERRORS"]);
    }
    let rows = rows.iter().map(|row| {
        let mut cells = cells(row, now);
        cells.truncate(headings.len());
        cells
    });
    Ok(table(&headings, rows.collect(), no_headings))
}

/// The key as every command takes it.
fn word(key: &RollupKey) -> String {
    match key.clone() {
        RollupKey::Switch(switch) => of_object(&ObjectKey::Switch(switch)),
        RollupKey::Group(switch, group) => of_object(&ObjectKey::PortGroup(switch, group)),
        RollupKey::Host(host) => of_host(&host),
    }
}

fn name(key: &RollupKey) -> String {
    match key {
        RollupKey::Switch(switch) => switch.to_string(),
        RollupKey::Group(switch, group) => format!("{switch}/{group}"),
        RollupKey::Host(host) => host.to_string(),
    }
}

fn cells(row: &Rollup, now: Timestamp) -> Vec<String> {
    let Rollup {
        key,
        ports,
        up,
        down,
        blocked,
        total:
            Counters {
                ingress_packets,
                ingress_bytes,
                ingress_drops,
                ingress_errors,
                egress_packets,
                egress_bytes,
                egress_drops,
                egress_errors,
            },
        oldest,
    } = row;
    vec![
        name(key),
        ports.to_string(),
        up.to_string(),
        down.to_string(),
        blocked.to_string(),
        ingress_packets.to_string(),
        egress_packets.to_string(),
        age(now, *oldest),
        ingress_bytes.to_string(),
        ingress_drops.to_string(),
        egress_bytes.to_string(),
        egress_drops.to_string(),
        ingress_errors.saturating_add(*egress_errors).to_string(),
    ]
}
