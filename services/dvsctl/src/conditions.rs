// SPDX-License-Identifier: Apache-2.0
//! What is wrong on hosts, as the collector has it.

use std::collections::BTreeMap;

use dvs_schemas::v1::{
    Condition, ConditionList, ConditionTarget, ConditionsOfHost, RuntimeConditionsReply,
    RuntimeConditionsRequest,
};
use dvs_schemas::{HostName, PortId, Timestamp, subjects};

use crate::failure::{Failure, chain};
use crate::output::{or_dash, say, table};
use crate::session::Session;
use crate::when::age;

/// All conditions that a request asks for; none, and that they are not known is
/// said, where the collector can't be asked.
pub async fn or_warning(
    session: &Session,
    request: RuntimeConditionsRequest,
) -> Vec<ConditionsOfHost> {
    fetch(session, request).await.unwrap_or_else(|failure| {
        say(&format!(
            "warning: what is wrong on hosts is not known: {}",
            chain(&failure)
        ));
        Vec::new()
    })
}

async fn fetch(
    session: &Session,
    request: RuntimeConditionsRequest,
) -> Result<Vec<ConditionsOfHost>, Failure> {
    let mut hosts = Vec::new();
    session
        .pages(
            subjects::RUNTIME_CONDITIONS,
            request,
            |request, page: RuntimeConditionsReply| {
                hosts.extend(page.hosts);
                request.after = page.next;
                request.after.is_some()
            },
        )
        .await?;
    Ok(hosts)
}

/// Those that name a port, on whatever host; and how many its own host had no
/// room for, which may name it all the same.
#[must_use]
pub fn of_port(
    all: &[ConditionsOfHost],
    port: &PortId,
    host: Option<&HostName>,
) -> Vec<ConditionsOfHost> {
    let about = |condition: &&Condition| condition.on.port.as_ref() == Some(port);
    let hosts = all.iter().map(|of| {
        let conditions = of.list.conditions.iter().filter(about).cloned();
        ConditionsOfHost {
            list: ConditionList {
                conditions: conditions.collect(),
                more: if Some(&of.host) == host {
                    of.list.more
                } else {
                    0
                },
            },
            ..of.clone()
        }
    });
    let says = |list: &ConditionList| !list.conditions.is_empty() || list.more > 0;
    hosts.filter(|of| says(&of.list)).collect()
}

/// The kinds of a port's in few words, for a cell. Where nothing is known of it
/// and its host had no room for all, that may be wrong all the same.
#[must_use]
pub fn of_port_in_words(of: &[ConditionsOfHost]) -> String {
    let conditions = of.iter().flat_map(|of| &of.list.conditions);
    let mut words: Vec<&str> = conditions.map(|condition| condition.kind.title()).collect();
    words.dedup();
    let left_out: u64 = of.iter().map(|of| of.list.more).sum();
    if words.is_empty() && left_out > 0 {
        return format!("? ({left_out} left out)");
    }
    or_dash((!words.is_empty()).then(|| words.join(", ")))
}

/// What is wrong on a host, kind by kind, for a cell.
#[must_use]
pub fn of_host_in_words(all: &[ConditionsOfHost], host: &HostName) -> String {
    let mut kinds = BTreeMap::<_, u64>::new();
    let mut more = 0;
    for of in all.iter().filter(|of| of.host == *host) {
        more += of.list.more;
        for condition in &of.list.conditions {
            *kinds.entry(condition.kind).or_default() += 1;
        }
    }
    let kinds = kinds.into_iter().map(|(kind, count)| match count {
        1 => kind.title().to_owned(),
        many => format!("{} ({many})", kind.title()),
    });
    let more = (more > 0).then(|| format!("{more} more"));
    let words: Vec<String> = kinds.chain(more).collect();
    or_dash((!words.is_empty()).then(|| words.join(", ")))
}

/// A table under a line, or nothing if there are none.
#[must_use]
pub fn lines(of: &[ConditionsOfHost], now: Timestamp) -> String {
    let rows = of.iter().flat_map(|of| {
        let each = of.list.conditions.iter();
        each.map(|condition| {
            let Condition {
                kind,
                on,
                message,
                since,
            } = condition;
            vec![
                of.host.to_string(),
                kind.title().to_owned(),
                target(on),
                age(now, *since),
                message.clone(),
            ]
        })
    });
    let rows: Vec<_> = rows.collect();
    let more: u64 = of.iter().map(|of| of.list.more).sum();
    if rows.is_empty() && more == 0 {
        return String::new();
    }
    let shown = table(&["HOST", "CONDITION", "ON", "AGE", "WHY"], rows, false);
    let more = (more > 0).then(|| format!("and {more} more, which the host had no room for\n"));
    format!("\nConditions:\n{shown}{}", more.unwrap_or_default())
}

/// What a condition is about, the closest first.
fn target(on: &ConditionTarget) -> String {
    let ConditionTarget {
        switch,
        port,
        mirror,
        interface,
        field: _,
    } = on;
    let port = port.as_ref().map(|port| format!("port {port}"));
    let mirror = mirror.as_ref().map(|mirror| format!("mirror {mirror}"));
    let interface = interface.as_ref().map(|name| format!("interface {name}"));
    let switch = switch.as_ref().map(|switch| format!("switch {switch}"));
    let named: Vec<String> = [port, mirror, interface, switch]
        .into_iter()
        .flatten()
        .collect();
    or_dash((!named.is_empty()).then(|| named.join(", ")))
}
