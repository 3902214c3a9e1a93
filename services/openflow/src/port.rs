// SPDX-License-Identifier: Apache-2.0
//! Ports of a bridge: their numbers, what they are, what passed them.

use std::fmt;
use std::time::Duration;

use bytes::{BufMut, BytesMut};

use crate::wire::{Malformed, Reader, put_length, put_zeros};

/// The number of a port, or one that stands for something (OpenFlow 1.5.1,
/// 7.2.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Port(u32);

/// A number that no port has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0} is no port's number: those are 1 to 65279, and some from 4294967040 on")]
pub struct NoPort(pub u32);

impl Port {
    /// Back where the frame came in; an output to its number would not do it.
    pub const IN_PORT: Self = Self(0xffff_fff8);
    /// Of a frame from a client: through the tables, as if it had come in.
    pub const TABLE: Self = Self(0xffff_fff9);
    /// To where Open vSwitch itself would forward it.
    pub const NORMAL: Self = Self(0xffff_fffa);
    /// To every port but where it came in, as far as they flood.
    pub const FLOOD: Self = Self(0xffff_fffb);
    /// To every port but where it came in.
    pub const ALL: Self = Self(0xffff_fffc);
    /// To the controllers.
    pub const CONTROLLER: Self = Self(0xffff_fffd);
    /// The bridge's own interface.
    pub const LOCAL: Self = Self(0xffff_fffe);
    /// In questions: every port. No action takes it.
    pub(crate) const ANY: Self = Self(0xffff_ffff);

    /// The highest that Open vSwitch gives to an interface.
    const LAST: u32 = 0xfeff;

    /// The number.
    #[must_use]
    pub const fn number(self) -> u32 {
        self.0
    }

    /// As Nicira's extensions write it.
    pub(crate) fn short(self) -> u16 {
        let [.., high, low] = self.0.to_be_bytes();
        u16::from_be_bytes([high, low])
    }

    pub(crate) fn of_short(number: u16) -> Result<Self, NoPort> {
        if u32::from(number) > Self::LAST {
            Self::try_from(0xffff_0000 | u32::from(number))
        } else {
            Self::try_from(u32::from(number))
        }
    }

    fn decode(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        Self::try_from(from.u32()?).map_err(|NoPort(number)| Malformed::Value {
            what: "port number",
            value: u64::from(number),
        })
    }
}

impl TryFrom<u32> for Port {
    type Error = NoPort;

    fn try_from(number: u32) -> Result<Self, NoPort> {
        // The first of those that stand for something is OFPP_UNSET.
        let stands_for_something = (0xffff_fff7..0xffff_ffff).contains(&number);
        if (1..=Self::LAST).contains(&number) || stands_for_something {
            Ok(Self(number))
        } else {
            Err(NoPort(number))
        }
    }
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match *self {
            Self::IN_PORT => "IN_PORT",
            Self::NORMAL => "NORMAL",
            Self::FLOOD => "FLOOD",
            Self::ALL => "ALL",
            Self::CONTROLLER => "CONTROLLER",
            Self::LOCAL => "LOCAL",
            Self(number) => return write!(f, "{number}"),
        };
        f.write_str(name)
    }
}

/// What passed a port since it is there (OpenFlow 1.5.1, 7.3.5.6). None is a
/// counter that the port doesn't have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortStats {
    /// The port.
    pub port: Port,
    /// How long it has been there.
    pub age: Duration,
    /// Frames that came in.
    pub rx_packets: Option<u64>,
    /// Frames that went out.
    pub tx_packets: Option<u64>,
    /// Bytes that came in.
    pub rx_bytes: Option<u64>,
    /// Bytes that went out.
    pub tx_bytes: Option<u64>,
    /// Frames that came in and were dropped.
    pub rx_dropped: Option<u64>,
    /// Frames that were to go out and were dropped.
    pub tx_dropped: Option<u64>,
    /// Frames that came in broken.
    pub rx_errors: Option<u64>,
    /// Frames that broke on their way out.
    pub tx_errors: Option<u64>,
}

impl PortStats {
    pub(crate) fn encode(&self, out: &mut BytesMut) {
        let start = out.len();
        put_zeros(out, 4);
        out.put_u32(self.port.number());
        put_age(out, self.age);
        let counters = [
            self.rx_packets,
            self.tx_packets,
            self.rx_bytes,
            self.tx_bytes,
            self.rx_dropped,
            self.tx_dropped,
            self.rx_errors,
            self.tx_errors,
        ];
        for counter in counters {
            out.put_u64(counter.unwrap_or(u64::MAX));
        }
        put_length(out, start, start);
    }

    pub(crate) fn decode(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        let mut body = from.element("port statistics", 0, 80)?;
        body.skip(4)?;
        let port = Port::decode(&mut body)?;
        let age = age(&mut body)?;
        let mut counter = || {
            body.u64()
                .map(|count| Some(count).filter(|c| *c != u64::MAX))
        };
        Ok(Self {
            port,
            age,
            rx_packets: counter()?,
            tx_packets: counter()?,
            rx_bytes: counter()?,
            tx_bytes: counter()?,
            rx_dropped: counter()?,
            tx_dropped: counter()?,
            rx_errors: counter()?,
            tx_errors: counter()?,
        })
    }
}

/// Seconds and nanoseconds, 32 bits each.
pub(crate) fn age(from: &mut Reader<'_>) -> Result<Duration, Malformed> {
    let (seconds, nanos) = (from.u32()?, from.u32()?);
    // Nanoseconds may be all ones where they aren't known.
    let nanos = if nanos < 1_000_000_000 { nanos } else { 0 };
    Ok(Duration::new(u64::from(seconds), nanos))
}

pub(crate) fn put_age(out: &mut BytesMut, age: Duration) {
    out.put_u32(u32::try_from(age.as_secs()).unwrap_or(u32::MAX));
    out.put_u32(age.subsec_nanos());
}
