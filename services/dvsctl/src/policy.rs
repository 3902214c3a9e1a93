// SPDX-License-Identifier: Apache-2.0
//! A layer of policy in the cells of a table: what it sets, and a dash for
//! what it leaves to the layers below.

use std::collections::BTreeSet;

use dvs_schemas::{AddressList, Policy, PolicyField, ShapingLimit, Verdict};

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
            verdict("reserved-multicast", security.reserved_multicast),
            addresses,
        ]
        .into_iter()
        .flatten()
        .collect(),
    )
}

/// `in 500M/1G/1MiB; out unlimited`: average and peak in bit/s, burst in bytes.
#[must_use]
pub fn shaping(policy: &Policy) -> String {
    let limits = [
        ("in", policy.shaping.ingress),
        ("out", policy.shaping.egress),
    ];
    let parts: Vec<_> = limits
        .into_iter()
        .filter_map(|(way, limit)| limit.map(|limit| format!("{way} {}", terse(limit))))
        .collect();
    or_dash(Some(parts.join("; ")).filter(|text| !text.is_empty()))
}

fn terse(limit: ShapingLimit) -> String {
    match limit {
        ShapingLimit::Unlimited => "unlimited".to_owned(),
        ShapingLimit::Rate(rate) => format!(
            "{}/{}/{}",
            bits(rate.average_kbps.get()),
            bits(rate.peak_kbps.get()),
            bytes(rate.burst_kib.get())
        ),
    }
}

/// Whole units only: what is shown is exact.
fn bits(kilo: u32) -> String {
    match (kilo % 1_000_000, kilo % 1_000) {
        (0, _) => format!("{}G", kilo / 1_000_000),
        (_, 0) => format!("{}M", kilo / 1_000),
        (_, _) => format!("{kilo}k"),
    }
}

fn bytes(kibi: u32) -> String {
    match kibi % 1_024 {
        0 => format!("{}MiB", kibi / 1_024),
        _ => format!("{kibi}KiB"),
    }
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_policy_fits_into_cells_and_stays_exact() {
        let policy: Policy = serde_json::from_str(
            r#"{
                "vlan": {"trunk": {"vlans": [7, "9-12"], "native": 5}},
                "security": {"promiscuous": "accept", "forged_transmits": "reject",
                    "allowed_addresses": ["10.0.0.1"]},
                "shaping": {
                    "ingress": {"average_kbps": 500000, "peak_kbps": 1000000, "burst_kib": 1024},
                    "egress": {"average_kbps": 1500, "peak_kbps": 1000001, "burst_kib": 100}}
            }"#,
        )
        .unwrap();
        assert_eq!(vlan(&policy), "trunk 7,9-12 native 5");
        assert_eq!(security(&policy), "+promiscuous,-forged,addresses 1");
        assert_eq!(
            shaping(&policy),
            "in 500M/1G/1MiB; out 1500k/1000001k/100KiB"
        );
        assert_eq!(
            overrides(&policy),
            "vlan,security.promiscuous,security.forged_transmits,security.allowed_addresses,\
             shaping.ingress,shaping.egress"
        );
        let nothing = Policy::default();
        for cell in [vlan(&nothing), security(&nothing), shaping(&nothing)] {
            assert_eq!(cell, "-");
        }
    }
}
