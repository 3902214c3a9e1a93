// SPDX-License-Identifier: Apache-2.0
//! Counters of a placement, from those of interfaces: an interface may have
//! counted before it was plugged, and a port may see several of them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use dvs_openflow::PortStats;
use dvs_schemas::v1::Counters;
use dvs_schemas::{PortId, SwitchName};

/// How many numbers counters have.
const NUMBERS: usize = 8;

/// What is added to an interface's counters to have those of the placement;
/// stands in the order of [`numbers`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Offset([i128; NUMBERS]);

/// Not an offset.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("allowed are {NUMBERS} numbers with commas between")]
pub(super) struct BadOffset;

impl Offset {
    fn between(total: &Counters, raw: &Counters) -> Self {
        let (total, raw) = (numbers(total), numbers(raw));
        let mut offset = [0; NUMBERS];
        for ((offset, total), raw) in offset.iter_mut().zip(total).zip(raw) {
            *offset = i128::from(total) - i128::from(raw);
        }
        Self(offset)
    }

    fn add_to(&self, raw: &Counters) -> Counters {
        let mut total = numbers(raw);
        for (number, offset) in total.iter_mut().zip(self.0) {
            let sum = (i128::from(*number) + offset).clamp(0, i128::from(u64::MAX));
            *number = u64::try_from(sum).unwrap_or(u64::MAX);
        }
        counters(total)
    }
}

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let numbers = self.0.map(|number| number.to_string());
        f.write_str(&numbers.join(","))
    }
}

impl FromStr for Offset {
    type Err = BadOffset;

    fn from_str(text: &str) -> Result<Self, BadOffset> {
        let numbers: Result<Vec<i128>, _> = text.split(',').map(str::parse).collect();
        let numbers: [i128; NUMBERS] = numbers
            .ok()
            .and_then(|numbers| numbers.try_into().ok())
            .ok_or(BadOffset)?;
        // What counters hold, and so their differences, has 64 bits.
        let bound = i128::from(u64::MAX);
        if numbers
            .iter()
            .any(|number| !(-bound..=bound).contains(number))
        {
            return Err(BadOffset);
        }
        Ok(Self(numbers))
    }
}

/// How a port of a switch counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tally {
    /// By an interface.
    Counting {
        offset: Offset,
        /// What the interface said last.
        raw: Counters,
    },
    /// There is none; this is what it came to.
    Resting(Counters),
}

/// All ports of the host.
#[derive(Debug, Default)]
pub(super) struct Tallies {
    tallies: BTreeMap<(SwitchName, PortId), Tally>,
    /// Those that count by another offset than when that was asked last.
    renewed: BTreeSet<(SwitchName, PortId)>,
}

impl Tallies {
    /// An interface is there for the port. Goes on from what the port has.
    pub(super) fn plugged(&mut self, key: (SwitchName, PortId), raw: Counters) {
        let total = self.total(&key);
        let offset = Offset::between(&total, &raw);
        self.tallies.insert(key, Tally::Counting { offset, raw });
    }

    /// An interface was there when the agent started, and counts so.
    pub(super) fn restored(&mut self, key: (SwitchName, PortId), offset: Offset, raw: Counters) {
        self.tallies.insert(key, Tally::Counting { offset, raw });
    }

    /// The interface is there no more.
    pub(super) fn unplugged(&mut self, key: &(SwitchName, PortId)) {
        let total = self.total(key);
        if let Some(tally) = self.tallies.get_mut(key) {
            *tally = Tally::Resting(total);
        }
    }

    pub(super) fn is_plugged(&self, key: &(SwitchName, PortId)) -> bool {
        matches!(self.tallies.get(key), Some(Tally::Counting { .. }))
    }

    /// The interface says this now. What runs backwards began anew: devices
    /// are made again without a word.
    pub(super) fn read(&mut self, key: &(SwitchName, PortId), now: &Counters) -> Counters {
        let before = self.total(key);
        if let Some(Tally::Counting { offset, raw }) = self.tallies.get_mut(key) {
            let backwards = numbers(now)
                .iter()
                .zip(numbers(raw))
                .any(|(now, was)| *now < was);
            if backwards {
                *offset = Offset::between(&before, &Counters::default());
                self.renewed.insert(key.clone());
            }
            *raw = *now;
        }
        self.total(key)
    }

    /// The interface said at least this before it went. What was read since
    /// may be more.
    pub(super) fn seen(&mut self, key: &(SwitchName, PortId), last: &Counters) {
        if let Some(Tally::Counting { raw, .. }) = self.tallies.get_mut(key) {
            let (mut most, last) = (numbers(raw), numbers(last));
            for (most, last) in most.iter_mut().zip(last) {
                *most = last.max(*most);
            }
            *raw = counters(most);
        }
    }

    /// What the port came to, as far as anybody has read it.
    pub(super) fn total(&self, key: &(SwitchName, PortId)) -> Counters {
        match self.tallies.get(key) {
            None => Counters::default(),
            Some(Tally::Resting(total)) => *total,
            Some(Tally::Counting { offset, raw }) => offset.add_to(raw),
        }
    }

    /// The placement is over, and this is what it came to; the next one, if
    /// the port stays, begins at nothing.
    pub(super) fn end(&mut self, key: &(SwitchName, PortId)) -> Counters {
        let total = self.total(key);
        match self.tallies.get_mut(key) {
            Some(Tally::Counting { offset, raw }) => {
                *offset = Offset::between(&Counters::default(), raw);
            }
            Some(tally @ Tally::Resting(_)) => *tally = Tally::Resting(Counters::default()),
            None => {}
        }
        total
    }

    /// Ports that began to count by another offset since this was asked last.
    pub(super) fn renewed(&mut self) -> BTreeSet<(SwitchName, PortId)> {
        std::mem::take(&mut self.renewed)
    }

    /// The port is no longer ours.
    pub(super) fn forget(&mut self, key: &(SwitchName, PortId)) {
        self.tallies.remove(key);
    }

    /// What has to be known of a port after a restart, if that is not nothing.
    pub(super) fn offset(&self, switch: &SwitchName, port: &PortId) -> Option<Offset> {
        match self.tallies.get(&(switch.clone(), port.clone())) {
            Some(Tally::Counting { offset, .. }) if *offset != Offset::default() => Some(*offset),
            Some(Tally::Counting { .. } | Tally::Resting(_)) | None => None,
        }
    }
}

/// A port's counters as the switch has them now. What the switch receives is
/// what the vNIC sends. What it can't count is nothing.
pub(super) fn of_stats(stats: &PortStats) -> Counters {
    let number = |counted: Option<u64>| counted.unwrap_or(0);
    Counters {
        ingress_packets: number(stats.rx_packets),
        ingress_bytes: number(stats.rx_bytes),
        ingress_drops: number(stats.rx_dropped),
        ingress_errors: number(stats.rx_errors),
        egress_packets: number(stats.tx_packets),
        egress_bytes: number(stats.tx_bytes),
        egress_drops: number(stats.tx_dropped),
        egress_errors: number(stats.tx_errors),
    }
}

fn numbers(of: &Counters) -> [u64; NUMBERS] {
    let Counters {
        ingress_packets,
        ingress_bytes,
        ingress_drops,
        ingress_errors,
        egress_packets,
        egress_bytes,
        egress_drops,
        egress_errors,
    } = *of;
    [
        ingress_packets,
        ingress_bytes,
        ingress_drops,
        ingress_errors,
        egress_packets,
        egress_bytes,
        egress_drops,
        egress_errors,
    ]
}

fn counters(numbers: [u64; NUMBERS]) -> Counters {
    let [
        ingress_packets,
        ingress_bytes,
        ingress_drops,
        ingress_errors,
        egress_packets,
        egress_bytes,
        egress_drops,
        egress_errors,
    ] = numbers;
    Counters {
        ingress_packets,
        ingress_bytes,
        ingress_drops,
        ingress_errors,
        egress_packets,
        egress_bytes,
        egress_drops,
        egress_errors,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    fn key() -> (SwitchName, PortId) {
        ("prod".parse().unwrap(), "web-1".parse().unwrap())
    }

    #[derive(Debug, Clone)]
    enum Happening {
        Traffic(u64),
        Read,
        Unplug,
        /// Another interface, which has counted before.
        Plug(u64),
        /// The interface is made again.
        Reset,
        /// The agent forgets all but what is marked.
        Restart,
        NewPlacement,
    }

    fn happening() -> impl Strategy<Value = Happening> {
        prop_oneof![
            4 => (0..1_000_u64).prop_map(Happening::Traffic),
            2 => Just(Happening::Read),
            1 => Just(Happening::Unplug),
            2 => (0..1_000_u64).prop_map(Happening::Plug),
            1 => Just(Happening::Reset),
            1 => Just(Happening::Restart),
            1 => Just(Happening::NewPlacement),
        ]
    }

    fn of(number: u64) -> Counters {
        counters([number; NUMBERS])
    }

    proptest! {
        /// Within a placement counters never go down and count no frame twice;
        /// they lose at most what nobody had read when the interface went.
        #[test]
        fn a_placement_counts_what_passed_while_it_was_plugged(all in vec(happening(), 1..40)) {
            let (mut tallies, key) = (Tallies::default(), key());
            // What the interface says, and what was seen of it since.
            let (mut raw, mut unread) = (None, 0_u64);
            // What the placement must have come to, at least.
            let mut sure = 0_u64;
            for happening in all {
                match happening {
                    Happening::Traffic(more) => if let Some(raw) = raw.as_mut() {
                        *raw += more;
                        unread += more;
                    },
                    Happening::Read => if let Some(raw) = raw {
                        prop_assert_eq!(tallies.read(&key, &of(raw)), of(sure + unread));
                        sure += std::mem::take(&mut unread);
                    },
                    Happening::Unplug => if raw.take().is_some() {
                        tallies.unplugged(&key);
                        unread = 0;
                    },
                    Happening::Plug(counted) => if raw.is_none() {
                        raw = Some(counted);
                        tallies.plugged(key.clone(), of(counted));
                    },
                    Happening::Reset => if let Some(raw) = raw.as_mut() {
                        // An interface that begins anew is noticed when it is
                        // read below what it had.
                        prop_assert_eq!(tallies.read(&key, &of(*raw)), of(sure + unread));
                        sure += std::mem::take(&mut unread);
                        *raw = 0;
                        prop_assert_eq!(tallies.read(&key, &of(0)), of(sure));
                    },
                    Happening::Restart => {
                        let marked = tallies.offset(&key.0, &key.1);
                        tallies = Tallies::default();
                        match raw {
                            Some(raw) => {
                                let offset: Option<Offset> =
                                    marked.map(|offset| offset.to_string().parse().unwrap());
                                tallies.restored(key.clone(), offset.unwrap_or_default(), of(raw));
                                sure += std::mem::take(&mut unread);
                            }
                            // Nothing is marked where no interface is.
                            None => sure = 0,
                        }
                    }
                    Happening::NewPlacement => {
                        if let Some(raw) = raw {
                            tallies.read(&key, &of(raw));
                            sure += std::mem::take(&mut unread);
                        }
                        prop_assert_eq!(tallies.end(&key), of(sure));
                        sure = 0;
                    }
                }
                prop_assert_eq!(tallies.total(&key), of(sure));
            }
        }

        #[test]
        fn whatever_is_marked_is_an_offset_or_refused(text in "[0-9,-]{0,60}") {
            if let Ok(offset) = text.parse::<Offset>() {
                prop_assert_eq!(offset.to_string().parse(), Ok(offset));
            }
        }
    }
}
