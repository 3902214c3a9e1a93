// SPDX-License-Identifier: Apache-2.0
//! Counters of a placement, from those of interfaces: an interface may have
//! counted before it was plugged, and a port may see several of them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use dvs_openflow::PortStats;
use dvs_schemas::v1::Counters;
use dvs_schemas::{PortId, SwitchName};

const NUMBERS: usize = Counters::NUMBERS;

/// What is added to an interface's counters to have those of the placement;
/// stands in the order of [`Counters::numbers`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Offset([i128; NUMBERS]);

/// Not an offset.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("allowed are {NUMBERS} numbers with commas between")]
pub(super) struct BadOffset;

impl Offset {
    fn between(total: &Counters, raw: &Counters) -> Self {
        let (total, raw) = (total.numbers(), raw.numbers());
        let mut offset = [0; NUMBERS];
        for ((offset, total), raw) in offset.iter_mut().zip(total).zip(raw) {
            *offset = i128::from(total) - i128::from(raw);
        }
        Self(offset)
    }

    /// None if the interface has counted less than there is to take off, so it
    /// can't be the one that this is the offset of.
    fn add_to(&self, raw: &Counters) -> Option<Counters> {
        let mut total = raw.numbers();
        for (number, offset) in total.iter_mut().zip(self.0) {
            let sum = i128::from(*number) + offset;
            *number = u64::try_from(sum.min(i128::from(u64::MAX))).ok()?;
        }
        Some(Counters::of_numbers(total))
    }

    /// The same, if it is as much as this at least.
    fn beyond(&self, raw: &Counters, least: &Counters) -> Option<Counters> {
        let total = self.add_to(raw)?;
        total.have_reached(least).then_some(total)
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
    /// By an interface that was there when the agent started, and that nobody
    /// has asked since.
    Restored {
        offset: Offset,
        /// What the database had of it.
        raw: Counters,
        /// What the port has come to at least: that was told.
        least: Counters,
    },
    /// There is none; this is what it came to.
    Resting(Counters),
}

impl Tally {
    fn total(&self) -> Counters {
        match self {
            Self::Resting(total) => *total,
            Self::Counting { offset, raw } => offset.add_to(raw).unwrap_or_default(),
            Self::Restored { offset, raw, least } => offset.beyond(raw, least).unwrap_or(*least),
        }
    }

    /// The interface says this now. True if it counts by another offset from
    /// now on.
    fn read(&mut self, now: &Counters) -> bool {
        let (offset, goes_on) = match self {
            Self::Resting(_) => return false,
            Self::Counting { offset, raw } => (*offset, now.have_reached(raw)),
            Self::Restored { offset, raw, least } => (
                *offset,
                now.have_reached(raw) && offset.beyond(now, least).is_some(),
            ),
        };
        let offset = if goes_on {
            offset
        } else {
            Offset::between(&self.total(), &Counters::default())
        };
        *self = Self::Counting { offset, raw: *now };
        !goes_on
    }
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
        let offset = Offset::between(&self.total(&key), &raw);
        self.tallies.insert(key, Tally::Counting { offset, raw });
    }

    /// An interface was there when the agent started, and counts so.
    pub(super) fn restored(&mut self, key: (SwitchName, PortId), offset: Offset, raw: Counters) {
        let least = Counters::default();
        let tally = Tally::Restored { offset, raw, least };
        self.tallies.insert(key, tally);
    }

    /// The port's placement had come to this before the agent started: that was
    /// told. What began to count since counts on top of it.
    pub(super) fn resume(&mut self, key: (SwitchName, PortId), told: &Counters) {
        let tally = self.tallies.entry(key);
        match tally.or_insert(Tally::Resting(Counters::default())) {
            Tally::Restored { least, .. } => *least = least.most(told),
            Tally::Resting(total) => *total = total.plus(told),
            Tally::Counting { offset, raw } => {
                let total = offset.add_to(raw).unwrap_or_default();
                *offset = Offset::between(&total.plus(told), raw);
            }
        }
    }

    /// The interface is there no more.
    pub(super) fn unplugged(&mut self, key: &(SwitchName, PortId)) {
        if let Some(tally) = self.tallies.get_mut(key) {
            *tally = Tally::Resting(tally.total());
        }
    }

    pub(super) fn is_plugged(&self, key: &(SwitchName, PortId)) -> bool {
        match self.tallies.get(key) {
            Some(Tally::Counting { .. } | Tally::Restored { .. }) => true,
            Some(Tally::Resting(_)) | None => false,
        }
    }

    /// The interface says this now. What runs backwards, or is less than was
    /// told before the agent started, began anew: devices are made again
    /// without a word, as when the host is started anew.
    pub(super) fn read(&mut self, key: &(SwitchName, PortId), now: &Counters) -> Counters {
        let Some(tally) = self.tallies.get_mut(key) else {
            return Counters::default();
        };
        if tally.read(now) {
            self.renewed.insert(key.clone());
        }
        tally.total()
    }

    /// The interface said at least this before it went. What was read since
    /// may be more.
    pub(super) fn seen(&mut self, key: &(SwitchName, PortId), last: &Counters) {
        match self.tallies.get_mut(key) {
            Some(Tally::Counting { raw, .. } | Tally::Restored { raw, .. }) => {
                *raw = raw.most(last);
            }
            Some(Tally::Resting(_)) | None => {}
        }
    }

    /// What the port came to, as far as anybody has read it.
    pub(super) fn total(&self, key: &(SwitchName, PortId)) -> Counters {
        self.tallies.get(key).map(Tally::total).unwrap_or_default()
    }

    /// The placement is over, and this is what it came to; the next one, if
    /// the port stays, begins at nothing.
    pub(super) fn end(&mut self, key: &(SwitchName, PortId)) -> Counters {
        let Some(tally) = self.tallies.get_mut(key) else {
            return Counters::default();
        };
        let (total, nothing) = (tally.total(), Counters::default());
        *tally = match *tally {
            Tally::Counting { raw, .. } | Tally::Restored { raw, .. } => Tally::Counting {
                offset: Offset::between(&nothing, &raw),
                raw,
            },
            Tally::Resting(_) => Tally::Resting(nothing),
        };
        total
    }

    /// Whether there are ports whose offset is not marked as it is.
    pub(super) fn is_renewed(&self) -> bool {
        !self.renewed.is_empty()
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
        match self.tallies.get(&(switch.clone(), port.clone()))? {
            Tally::Counting { offset, .. } | Tally::Restored { offset, .. } => {
                (*offset != Offset::default()).then_some(*offset)
            }
            Tally::Resting(_) => None,
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
        /// The agent forgets all but what is marked, and what it has told.
        Restart {
            /// Meanwhile the interface is made again.
            anew: bool,
        },
        NewPlacement,
    }

    fn happening() -> impl Strategy<Value = Happening> {
        prop_oneof![
            4 => (0..1_000_u64).prop_map(Happening::Traffic),
            2 => Just(Happening::Read),
            1 => Just(Happening::Unplug),
            2 => (0..1_000_u64).prop_map(Happening::Plug),
            1 => Just(Happening::Reset),
            2 => any::<bool>().prop_map(|anew| Happening::Restart { anew }),
            1 => Just(Happening::NewPlacement),
        ]
    }

    fn of(number: u64) -> Counters {
        Counters::of_numbers([number; NUMBERS])
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
            // What of that was told.
            let mut told = 0_u64;
            for happening in all {
                match happening {
                    Happening::Traffic(more) => if let Some(raw) = raw.as_mut() {
                        *raw += more;
                        unread += more;
                    },
                    Happening::Read => if let Some(raw) = raw {
                        prop_assert_eq!(tallies.read(&key, &of(raw)), of(sure + unread));
                        sure += std::mem::take(&mut unread);
                        told = sure;
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
                    Happening::Restart { anew } => {
                        let marked = tallies.offset(&key.0, &key.1);
                        tallies = Tallies::default();
                        if let Some(raw) = raw.as_mut() {
                            if anew {
                                *raw = 0;
                            }
                            let offset: Option<Offset> =
                                marked.map(|offset| offset.to_string().parse().unwrap());
                            tallies.restored(key.clone(), offset.unwrap_or_default(), of(*raw));
                        }
                        tallies.resume(key.clone(), &of(told));
                        prop_assert!(tallies.total(&key).have_reached(&of(told)));
                        let all = sure + std::mem::take(&mut unread);
                        sure = match raw {
                            Some(raw) if anew => {
                                let total = tallies.read(&key, &of(raw)).ingress_packets;
                                prop_assert!((told..=all).contains(&total));
                                total
                            }
                            Some(raw) => {
                                prop_assert_eq!(tallies.read(&key, &of(raw)), of(all));
                                all
                            }
                            // Nothing is marked where no interface is.
                            None => told,
                        };
                    }
                    Happening::NewPlacement => {
                        if let Some(raw) = raw {
                            tallies.read(&key, &of(raw));
                            sure += std::mem::take(&mut unread);
                        }
                        prop_assert_eq!(tallies.end(&key), of(sure));
                        sure = 0;
                        told = 0;
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
