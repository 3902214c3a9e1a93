// SPDX-License-Identifier: Apache-2.0
//! Agents that want to be a host whose agent is another one, as a table beneath
//! others.

use dvs_schemas::Timestamp;
use dvs_schemas::v1::{HostStatus, Namesake};

use crate::output::{or_dash, table};
use crate::when::age;

/// The refused agents of these hosts, beside the ones that are there; nothing if
/// there are none.
#[must_use]
pub fn lines<'a>(hosts: impl IntoIterator<Item = &'a HostStatus>, now: Timestamp) -> String {
    let mut rows = Vec::new();
    for host in hosts.into_iter().filter(|host| !host.namesakes.is_empty()) {
        rows.push(vec![
            host.host.to_string(),
            "this host".to_owned(),
            or_dash(host.node.as_ref()),
            or_dash(host.address),
            or_dash(host.session),
            or_dash(host.heard.map(|heard| age(now, heard))),
        ]);
        rows.extend(host.namesakes.iter().map(|namesake| {
            let Namesake {
                agent: _,
                node,
                address,
                session,
                heard,
            } = namesake;
            vec![
                host.host.to_string(),
                "refused".to_owned(),
                node.clone(),
                or_dash(*address),
                or_dash(*session),
                age(now, *heard),
            ]
        }));
    }
    if rows.is_empty() {
        return String::new();
    }
    let headings = ["HOST", "AGENT", "NODE", "ADDRESS", "SESSION", "HEARD"];
    let rows = table(&headings, rows, false);
    format!("\nSeveral agents have one name; give all but one another --host:\n{rows}")
}
