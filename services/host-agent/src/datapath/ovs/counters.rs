// SPDX-License-Identifier: Apache-2.0
//! Counters of interfaces, as a switch says them.

use dvs_openflow::PortStats;
use dvs_schemas::v1::Counters;

/// A port's counters as the switch has them now. What the switch receives is
/// what the vNIC sends. What it never counts is nothing; where it has no number
/// at all the device doesn't answer, and nobody knows.
pub(super) fn of_stats(stats: &PortStats) -> Option<Counters> {
    let traffic = [
        stats.rx_packets,
        stats.rx_bytes,
        stats.tx_packets,
        stats.tx_bytes,
    ];
    if traffic.iter().all(Option::is_none) {
        return None;
    }
    let number = |counted: Option<u64>| counted.unwrap_or(0);
    Some(Counters {
        ingress_packets: number(stats.rx_packets),
        ingress_bytes: number(stats.rx_bytes),
        ingress_drops: number(stats.rx_dropped),
        ingress_errors: number(stats.rx_errors),
        egress_packets: number(stats.tx_packets),
        egress_bytes: number(stats.tx_bytes),
        egress_drops: number(stats.tx_dropped),
        egress_errors: number(stats.tx_errors),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn where_a_switch_has_no_number_nobody_knows_what_was_counted() {
        let stats = PortStats {
            port: dvs_openflow::Port::try_from(1).unwrap(),
            age: std::time::Duration::ZERO,
            rx_packets: None,
            tx_packets: None,
            rx_bytes: None,
            tx_bytes: None,
            rx_dropped: None,
            tx_dropped: None,
            rx_errors: None,
            tx_errors: None,
        };
        assert_eq!(of_stats(&stats), None);
        let some = PortStats {
            rx_packets: Some(0),
            ..stats
        };
        assert_eq!(of_stats(&some), Some(Counters::default()));
    }
}
