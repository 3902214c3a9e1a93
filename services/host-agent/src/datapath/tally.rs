// SPDX-License-Identifier: Apache-2.0
//! Counters of a placement, from those of interfaces: an interface may have
//! counted before it was plugged, and a port may see several of them.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use dvs_schemas::v1::Counters;
use dvs_schemas::{PortId, SwitchName};

const NUMBERS: usize = Counters::NUMBERS;

/// What is added to an interface's counters to have those of the placement;
/// stands in the order of [`Counters::numbers`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Offset([i128; NUMBERS]);

/// Not an offset.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("allowed are 0, or {NUMBERS} numbers with commas between")]
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

    /// The offset by which an interface counts on that has come to this total,
    /// said `raw` last and says `now`; none if all of it began anew. Drops and
    /// errors are sums of what the device counts and what the switch does, and
    /// that begins anew whenever it opens the device. How much of the sum that
    /// is nobody knows, so where it has fallen nothing is added.
    fn goes_on(&self, total: &Counters, raw: &Counters, now: &Counters) -> Option<Self> {
        let mut offset = self.0;
        let before = total.numbers().into_iter().zip(raw.numbers());
        let numbers = offset.iter_mut().zip(before).zip(now.numbers());
        for (at, ((offset, (total, raw)), now)) in numbers.enumerate() {
            let total = i128::from(total);
            if now < raw || i128::from(now) + *offset < total {
                if !DROPS_AND_ERRORS.contains(&at) {
                    return None;
                }
                *offset = total - i128::from(now);
            }
        }
        Some(Self(offset))
    }
}

/// Where [`Counters::numbers`] has drops and errors.
const DROPS_AND_ERRORS: [usize; 4] = [2, 3, 6, 7];

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::default() {
            return f.write_str("0");
        }
        let numbers = self.0.map(|number| number.to_string());
        f.write_str(&numbers.join(","))
    }
}

impl FromStr for Offset {
    type Err = BadOffset;

    fn from_str(text: &str) -> Result<Self, BadOffset> {
        if text == "0" {
            return Ok(Self::default());
        }
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
        /// What the database had of it, if it had anything: what is absent is not
        /// nothing.
        raw: Option<Counters>,
        /// What the port has come to at least: that was told.
        least: Counters,
    },
    /// By an interface of which nobody knows yet what it had counted before; the
    /// port had come to this. What was not told is not nothing.
    Unread(Counters),
    /// There is none; this is what it came to.
    Resting(Counters),
}

impl Tally {
    fn total(&self) -> Counters {
        match self {
            Self::Resting(total) | Self::Unread(total) => *total,
            Self::Counting { offset, raw } => offset.add_to(raw).unwrap_or_default(),
            Self::Restored { offset, raw, least } => {
                let raw = raw.unwrap_or_default();
                offset.beyond(&raw, least).unwrap_or(*least)
            }
        }
    }

    /// The interface says this now. True if it counts by another offset from
    /// now on.
    fn read(&mut self, now: &Counters) -> bool {
        let total = self.total();
        let (before, raw) = match self {
            Self::Resting(_) => return false,
            Self::Unread(_) => {
                let offset = Offset::between(&total, now);
                *self = Self::Counting { offset, raw: *now };
                return true;
            }
            Self::Counting { offset, raw } => (*offset, *raw),
            Self::Restored { offset, raw, .. } => (*offset, raw.unwrap_or_default()),
        };
        let goes_on = before.goes_on(&total, &raw, now);
        let offset = goes_on.unwrap_or(Offset::between(&total, &Counters::default()));
        *self = Self::Counting { offset, raw: *now };
        offset != before
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
    /// An interface is there for the port. Counts go on from what the port has
    /// once it is known what the interface had counted before.
    pub(super) fn plugged(&mut self, key: (SwitchName, PortId)) {
        let total = self.total(&key);
        self.tallies.insert(key, Tally::Unread(total));
    }

    /// Whether that is not known yet.
    pub(super) fn is_unread(&self, key: &(SwitchName, PortId)) -> bool {
        match self.tallies.get(key) {
            Some(Tally::Unread(_)) => true,
            Some(Tally::Counting { .. } | Tally::Restored { .. } | Tally::Resting(_)) | None => {
                false
            }
        }
    }

    /// The ports of which that is to be asked.
    pub(super) fn unread(&self) -> Vec<(SwitchName, PortId)> {
        let unread = self.tallies.iter().filter_map(|(key, tally)| match tally {
            Tally::Unread(_) => Some(key.clone()),
            Tally::Counting { .. } | Tally::Restored { .. } | Tally::Resting(_) => None,
        });
        unread.collect()
    }

    /// An interface was there when the agent started, and counts so.
    pub(super) fn restored(
        &mut self,
        key: (SwitchName, PortId),
        offset: Offset,
        raw: Option<Counters>,
    ) {
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
            Tally::Resting(total) | Tally::Unread(total) => *total = total.plus(told),
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
            Some(Tally::Counting { .. } | Tally::Restored { .. } | Tally::Unread(_)) => true,
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
            Some(Tally::Counting { raw, .. }) => *raw = raw.most(last),
            Some(Tally::Restored { raw, .. }) => {
                *raw = Some(raw.unwrap_or_default().most(last));
            }
            Some(Tally::Resting(_) | Tally::Unread(_)) | None => {}
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
            Tally::Counting { raw, .. } | Tally::Restored { raw: Some(raw), .. } => {
                Tally::Counting {
                    offset: Offset::between(&nothing, &raw),
                    raw,
                }
            }
            // How much of what it says next is of this placement nobody knows.
            Tally::Restored { raw: None, .. } | Tally::Unread(_) => Tally::Unread(nothing),
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

    /// What has to be known of a port after a restart. None as long as nobody
    /// knows it.
    pub(super) fn offset(&self, switch: &SwitchName, port: &PortId) -> Option<Offset> {
        match self.tallies.get(&(switch.clone(), port.clone()))? {
            Tally::Counting { offset, .. } | Tally::Restored { offset, .. } => Some(*offset),
            Tally::Unread(_) | Tally::Resting(_) => None,
        }
    }
}
