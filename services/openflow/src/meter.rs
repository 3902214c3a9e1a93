// SPDX-License-Identifier: Apache-2.0
//! Meters: a rate and a burst, and what goes beyond them is dropped.

use std::fmt;

use bytes::{BufMut, BytesMut};

use crate::wire::{Malformed, Reader, put_length, put_zeros};

/// The number of a meter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MeterId(u32);

/// A number that no meter has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0} is no meter's number: those are 1 to {last}", last = MeterId::LAST)]
pub struct NoMeter(pub u32);

impl MeterId {
    /// The highest that a flow can name; the switch has its own, lower bound.
    pub const LAST: u32 = 0xffff_0000;
    /// In questions: all of them.
    pub(crate) const ALL: u32 = 0xffff_ffff;

    /// The number.
    #[must_use]
    pub const fn number(self) -> u32 {
        self.0
    }

    fn decode(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        // The switch's own meters are beyond the last that a flow can name.
        match from.u32()? {
            number @ (0 | Self::ALL) => Err(Malformed::Value {
                what: "meter number",
                value: u64::from(number),
            }),
            number => Ok(Self(number)),
        }
    }
}

impl TryFrom<u32> for MeterId {
    type Error = NoMeter;

    fn try_from(number: u32) -> Result<Self, NoMeter> {
        if (1..=Self::LAST).contains(&number) {
            Ok(Self(number))
        } else {
            Err(NoMeter(number))
        }
    }
}

impl fmt::Display for MeterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A meter with one band that drops (OpenFlow 1.5.1, 7.3.4.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Meter {
    /// Its number.
    pub id: MeterId,
    /// Rate, in 1,000 bits a second.
    pub rate_kbps: u32,
    /// What may go beyond the rate at once, in 1,000 bits. 0: as much as the
    /// switch likes; Open vSwitch then takes what passes in a second.
    pub burst_kbits: u32,
}

/// A meter of a switch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeldMeter {
    /// One that this crate can make.
    Known(Meter),
    /// Another kind; its number.
    Foreign(MeterId),
}

/// A change of the meters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MeterMod {
    /// A new one. Refused if its number is taken.
    Add(Meter),
    /// New values for one that is there. Refused if it isn't.
    Modify(Meter),
    /// It goes, and the flows that name it with it. If it isn't there that is
    /// fine.
    Delete(MeterId),
}

/// OFPMF_*, and OFPMBT_DROP.
const KBPS: u16 = 1;
const BURST: u16 = 1 << 2;
const STATS: u16 = 1 << 3;
const DROP: u16 = 1;

impl Meter {
    fn encode(&self, out: &mut BytesMut) {
        let burst = if self.burst_kbits == 0 { 0 } else { BURST };
        out.put_u16(KBPS | burst | STATS);
        out.put_u32(self.id.0);
        out.put_u16(DROP);
        out.put_u16(16);
        out.put_u32(self.rate_kbps);
        out.put_u32(self.burst_kbits);
        put_zeros(out, 4);
    }
}

impl HeldMeter {
    /// Its number.
    #[must_use]
    pub fn id(&self) -> MeterId {
        match self {
            Self::Known(meter) => meter.id,
            Self::Foreign(id) => *id,
        }
    }

    /// Flags, number and bands, to the end.
    fn decode_rest(body: &mut Reader<'_>) -> Result<Self, Malformed> {
        let flags = body.u16()?;
        let id = MeterId::decode(body)?;
        let band = body.rest().len();
        let (kind, _, rate_kbps, burst_kbits) = if band == 16 {
            (body.u16()?, body.u16()?, body.u32()?, body.u32()?)
        } else {
            return Ok(Self::Foreign(id));
        };
        let meter = Meter {
            id,
            rate_kbps,
            burst_kbits,
        };
        let plain = kind == DROP && flags & !(BURST | STATS) == KBPS;
        // Without the flag, the number for the burst has no meaning.
        let burst = (flags & BURST != 0) == (burst_kbits != 0);
        Ok(if plain && burst {
            Self::Known(meter)
        } else {
            Self::Foreign(id)
        })
    }

    pub(crate) fn encode(&self, out: &mut BytesMut) {
        let start = out.len();
        out.put_u16(0);
        match self {
            Self::Known(meter) => meter.encode(out),
            Self::Foreign(id) => {
                out.put_u16(0);
                out.put_u32(id.0);
            }
        }
        put_length(out, start, start);
    }

    pub(crate) fn decode(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        let mut body = from.element("meter", 0, 8)?;
        body.skip(2)?;
        Self::decode_rest(&mut body)
    }
}

impl MeterMod {
    pub(crate) fn encode(&self, out: &mut BytesMut) {
        match self {
            Self::Add(meter) => {
                out.put_u16(0);
                meter.encode(out);
            }
            Self::Modify(meter) => {
                out.put_u16(1);
                meter.encode(out);
            }
            Self::Delete(id) => {
                out.put_u16(2);
                out.put_u16(0);
                out.put_u32(id.0);
            }
        }
    }

    pub(crate) fn decode(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        let what = "meter command";
        let command = from.u16()?;
        let meter = HeldMeter::decode_rest(from)?;
        match (command, meter) {
            (0, HeldMeter::Known(meter)) => Ok(Self::Add(meter)),
            (1, HeldMeter::Known(meter)) => Ok(Self::Modify(meter)),
            (2, meter) => Ok(Self::Delete(meter.id())),
            (command, HeldMeter::Known(_) | HeldMeter::Foreign(_)) => Err(Malformed::Value {
                what,
                value: u64::from(command),
            }),
        }
    }
}

impl fmt::Display for MeterMod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (command, meter) = match self {
            Self::Add(meter) => ("add", meter),
            Self::Modify(meter) => ("mod", meter),
            Self::Delete(id) => return write!(f, "del-meter meter={id}"),
        };
        let Meter {
            id,
            rate_kbps,
            burst_kbits,
        } = meter;
        write!(
            f,
            "{command}-meter meter={id},kbps,burst,stats,band=type=drop,rate={rate_kbps},\
             burst_size={burst_kbits}"
        )
    }
}

/// What the switch can do with meters (OpenFlow 1.5.1, 7.3.5.15).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MeterFeatures {
    /// How many there can be; 0 if it has none. Their numbers are 1 to this.
    pub max_meters: u32,
    /// True if they can drop what is beyond a rate in bits.
    pub drops_by_bits: bool,
}

impl MeterFeatures {
    pub(crate) fn encode(&self, out: &mut BytesMut) {
        let drops = u32::from(self.drops_by_bits);
        out.put_u32(self.max_meters);
        out.put_u32(drops << DROP);
        out.put_u32(drops * u32::from(KBPS));
        put_zeros(out, 4);
    }

    pub(crate) fn decode(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        let max_meters = from.u32()?;
        let (bands, capabilities) = (from.u32()?, from.u32()?);
        from.skip(4)?;
        Ok(Self {
            max_meters,
            drops_by_bits: bands & (1 << DROP) != 0 && capabilities & u32::from(KBPS) != 0,
        })
    }
}
