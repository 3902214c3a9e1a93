// SPDX-License-Identifier: Apache-2.0
//! A layer of policy in the cells of a table: what it sets, and a dash for
//! what it leaves to the layers below.

use std::collections::BTreeSet;

use dvs_schemas::{AddressList, Policy, PolicyField, Verdict};

use crate::output::or_dash;

/// `access 100`, `trunk 1-9 native 7`, or `-`.
#[must_use]
pub fn vlan(policy: &Policy) -> String {
    or_dash(policy.vlan.as_ref())
}

fn list(parts: Vec<String>) -> String {
    or_dash(Some(parts.join(",")).filter(|text| !text.is_empty()))
}

/// `+promiscuous,-forged,addresses 2`: what is accepted, rejected, restricted.
#[must_use]
pub fn security(policy: &Policy) -> String {
    let security = &policy.security;
    let verdict = |name: &str, verdict: Option<Verdict>| match verdict {
        Some(Verdict::Accept) => Some(format!("+{name}")),
        Some(Verdict::Reject) => Some(format!("-{name}")),
        None => None,
    };
    let addresses = security.allowed_addresses.as_ref().map(|list| match list {
        AddressList::Any => "addresses any".to_owned(),
        AddressList::Only(nets) => format!("addresses {}", nets.len()),
    });
    list(
        [
            verdict("promiscuous", security.promiscuous),
            verdict("mac", security.mac_changes),
            verdict("forged", security.forged_transmits),
            addresses,
        ]
        .into_iter()
        .flatten()
        .collect(),
    )
}

/// `in 1000 kbit/s, peak …; out unlimited`.
#[must_use]
pub fn shaping(policy: &Policy) -> String {
    let limits = [
        ("in", policy.shaping.ingress),
        ("out", policy.shaping.egress),
    ];
    let parts: Vec<_> = limits
        .into_iter()
        .filter_map(|(way, limit)| limit.map(|limit| format!("{way} {limit}")))
        .collect();
    or_dash(Some(parts.join("; ")).filter(|text| !text.is_empty()))
}

/// Names of fields, or `all` and `none`.
#[must_use]
pub fn overridable(fields: &BTreeSet<PolicyField>) -> String {
    if fields.len() == PolicyField::ALL.len() {
        return "all".to_owned();
    }
    list(fields.iter().map(ToString::to_string).collect())
}

/// The fields that a port sets itself.
#[must_use]
pub fn overrides(policy: &Policy) -> String {
    list(policy.set_fields().map(|field| field.to_string()).collect())
}
