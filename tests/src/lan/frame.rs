// SPDX-License-Identifier: Apache-2.0
//! Ethernet frames, as values that compare.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

/// An Ethernet address, also one that no vNIC can have.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// Everybody.
    pub const ALL: Self = Self([0xff; 6]);

    /// One of a range that nobody else uses.
    #[must_use]
    pub fn numbered(number: u8) -> Self {
        Self([0x52, 0x54, 0, 0xd5, 0, number])
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Destination.
    pub to: Mac,
    /// Source.
    pub from: Mac,
    /// Its outermost tag, if it has one of 802.1Q: 3 bits of priority, the one
    /// that makes it eligible to be dropped, and the VLAN.
    pub tag: Option<u16>,
    /// What it carries.
    pub payload: Payload,
}

/// What a frame carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Payload {
    /// A number, with an Ethernet type for experiments, and bytes behind it.
    Number(u64, usize),
    /// ARP.
    Arp(Arp),
    /// IPv4, UDP to a port.
    Ipv4 {
        /// Source.
        from: Ipv4Addr,
        /// Destination.
        to: Ipv4Addr,
        /// Ports, of source and destination.
        ports: (u16, u16),
    },
    /// IPv6 with ICMPv6 of a type, about a target.
    Icmpv6 {
        /// Source.
        from: Ipv6Addr,
        /// Type of the message.
        kind: u8,
        /// Whom it is about, as in neighbour discovery.
        target: Ipv6Addr,
    },
    /// Something else: its bytes from the Ethernet type on.
    Other(Vec<u8>),
}

/// An ARP message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arp {
    /// 1 asks, 2 answers.
    pub operation: u16,
    /// Who says that it has...
    pub mac: Mac,
    /// ...this address.
    pub ip: Ipv4Addr,
    /// What is asked for.
    pub asks: Ipv4Addr,
}

/// IEEE 802, local experimental Ethernet type 1.
const EXPERIMENT: [u8; 2] = [0x88, 0xb5];
const TAG: [u8; 2] = [0x81, 0x00];

impl Frame {
    /// A number from somebody to somebody.
    #[must_use]
    pub fn number(from: Mac, to: Mac, number: u64) -> Self {
        let payload = Payload::Number(number, 46);
        Self {
            to,
            from,
            tag: None,
            payload,
        }
    }

    /// The same with a tag.
    #[must_use]
    pub fn tagged(mut self, vlan: u16) -> Self {
        self.tag = Some(vlan);
        self
    }

    /// The same with these bytes behind its addresses, and what it carried
    /// behind them: tags and headers as they are on the wire.
    #[must_use]
    pub fn behind(self, bytes: &[u8]) -> Self {
        let bytes = [bytes, &self.payload.bytes()].concat();
        self.carrying(Payload::Other(bytes)).as_heard()
    }

    /// The same with another payload.
    #[must_use]
    pub fn carrying(mut self, payload: Payload) -> Self {
        self.payload = payload;
        self
    }

    /// The same as it is read off a wire: of what has many forms only the bytes
    /// are known.
    #[must_use]
    pub fn as_heard(&self) -> Self {
        let payload = Payload::read(&self.payload.bytes());
        self.clone().carrying(payload)
    }

    /// The number that it carries.
    #[must_use]
    pub fn carried(&self) -> Option<u64> {
        match &self.payload {
            Payload::Number(number, _) => Some(*number),
            Payload::Arp(_) | Payload::Ipv4 { .. } | Payload::Icmpv6 { .. } | Payload::Other(_) => {
                None
            }
        }
    }

    /// Its bytes, as hex digits.
    #[must_use]
    pub fn to_hex(&self) -> String {
        let mut bytes = [self.to.0, self.from.0].concat();
        if let Some(vlan) = self.tag {
            bytes.extend(TAG);
            bytes.extend(vlan.to_be_bytes());
        }
        bytes.extend(self.payload.bytes());
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    pub(super) fn from_hex(text: &str) -> Option<Self> {
        let byte = |at: usize| u8::from_str_radix(text.get(at..at + 2)?, 16).ok();
        let bytes: Option<Vec<u8>> = (0..text.len()).step_by(2).map(byte).collect();
        let bytes = bytes?;
        let (to, rest) = bytes.split_first_chunk()?;
        let (from, rest) = rest.split_first_chunk()?;
        let (tag, rest) = match rest.split_first_chunk::<4>() {
            Some(([0x81, 0x00, high, low], rest)) => {
                (Some(u16::from_be_bytes([*high, *low])), rest)
            }
            Some(_) | None => (None, rest),
        };
        Some(Self {
            to: Mac(*to),
            from: Mac(*from),
            tag,
            payload: Payload::read(rest),
        })
    }
}

impl Payload {
    /// From the Ethernet type on.
    fn bytes(&self) -> Vec<u8> {
        match self {
            Self::Number(number, length) => {
                let mut bytes = EXPERIMENT.to_vec();
                bytes.extend(number.to_be_bytes());
                bytes.resize(2 + length, 0);
                bytes
            }
            Self::Arp(Arp {
                operation,
                mac,
                ip,
                asks,
            }) => {
                let mut bytes = vec![0x08, 0x06, 0, 1, 8, 0, 6, 4];
                bytes.extend(operation.to_be_bytes());
                bytes.extend(mac.0);
                bytes.extend(ip.octets());
                bytes.extend([0; 6]);
                bytes.extend(asks.octets());
                bytes
            }
            Self::Ipv4 { from, to, ports } => {
                let mut header = vec![0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0];
                header.extend(from.octets());
                header.extend(to.octets());
                let sum = checksum(&header);
                header.splice(10..12, sum.to_be_bytes());
                header.extend(ports.0.to_be_bytes());
                header.extend(ports.1.to_be_bytes());
                // Eight bytes, and no checksum, as UDP allows.
                header.extend([0, 8, 0, 0]);
                [vec![0x08, 0x00], header].concat()
            }
            Self::Icmpv6 { from, kind, target } => {
                let to: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
                let mut message = vec![*kind, 0, 0, 0, 0, 0, 0, 0];
                message.extend(target.octets());
                let length = u16::try_from(message.len()).unwrap_or(u16::MAX);
                let mut pseudo = [from.octets(), to.octets()].concat();
                pseudo.extend(u32::from(length).to_be_bytes());
                pseudo.extend([0, 0, 0, 58]);
                pseudo.extend(&message);
                let sum = checksum(&pseudo);
                message.splice(2..4, sum.to_be_bytes());
                let mut bytes = vec![0x86, 0xdd, 0x60, 0, 0, 0];
                bytes.extend(length.to_be_bytes());
                bytes.extend([58, 255]);
                bytes.extend(from.octets());
                bytes.extend(to.octets());
                bytes.extend(message);
                bytes
            }
            Self::Other(bytes) => bytes.clone(),
        }
    }

    fn read(bytes: &[u8]) -> Self {
        // What can be written is read; padding goes.
        let numbered = || {
            let rest = bytes.strip_prefix(&EXPERIMENT)?;
            let (number, _) = rest.split_first_chunk()?;
            Some(Self::Number(u64::from_be_bytes(*number), rest.len()))
        };
        let arp = || {
            let rest = bytes.strip_prefix(&[0x08, 0x06, 0, 1, 8, 0, 6, 4])?;
            let (operation, rest) = rest.split_first_chunk()?;
            let (mac, rest) = rest.split_first_chunk()?;
            let (ip, rest) = rest.split_first_chunk::<4>()?;
            let (_, rest) = rest.split_first_chunk::<6>()?;
            let (asks, _) = rest.split_first_chunk::<4>()?;
            Some(Self::Arp(Arp {
                operation: u16::from_be_bytes(*operation),
                mac: Mac(*mac),
                ip: Ipv4Addr::from(*ip),
                asks: Ipv4Addr::from(*asks),
            }))
        };
        numbered()
            .or_else(arp)
            .unwrap_or_else(|| Self::Other(bytes.to_vec()))
    }
}

/// RFC 1071.
fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|pair| {
        let low = pair.get(1).copied().unwrap_or(0);
        u32::from(u16::from_be_bytes([pair[0], low]))
    });
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or(0)
}
