// SPDX-License-Identifier: Apache-2.0
//! Which frames a flow is for.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

use bytes::{BufMut, Bytes, BytesMut};

use crate::field::{Entry, Field, FieldValue, Reg, Shown, VLAN_PRESENT};
use crate::port::Port;
use crate::wire::{Malformed, Reader, pad, put_length};

/// A value of which only the bits under the mask count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Masked<T> {
    /// The value.
    pub value: T,
    /// Which of its bits count. If it is none, everything matches.
    pub mask: T,
}

/// What fields hold.
pub trait Word: Copy + sealed::Sealed {
    /// All bits set.
    const ONES: Self;

    /// As a number.
    fn number(self) -> u128;
}

mod sealed {
    pub trait Sealed {}
}

macro_rules! words {
    ($($word:ty, $ones:expr, $number:expr;)*) => {
        $(
            impl sealed::Sealed for $word {}
            impl Word for $word {
                const ONES: Self = $ones;
                fn number(self) -> u128 {
                    $number(self)
                }
            }
        )*
    };
}

words! {
    u16, u16::MAX, u128::from;
    u32, u32::MAX, u128::from;
    u64, u64::MAX, u128::from;
    [u8; 6], [0xff; 6], |[a, b, c, d, e, f]: [u8; 6]| {
        u128::from(u64::from_be_bytes([0, 0, a, b, c, d, e, f]))
    };
    Ipv4Addr, Ipv4Addr::BROADCAST, |address| u128::from(u32::from(address));
    Ipv6Addr, Ipv6Addr::from_bits(u128::MAX), u128::from;
}

impl<T: Word> From<T> for Masked<T> {
    fn from(value: T) -> Self {
        Self {
            value,
            mask: T::ONES,
        }
    }
}

/// A frame's outermost tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Vlan {
    /// It has none.
    Untagged,
    /// It has one, with a VLAN whose bits under the mask are these; of both,
    /// 12 bits count. Nothing under the mask: whatever the VLAN.
    Tagged(Masked<u16>),
}

/// Which frames a flow is for: those of which every field named here has its
/// value. Fields that are about one protocol need those that say it is that
/// protocol, such as [`Match::eth_type`]; the switch refuses the flow otherwise.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Match {
    /// By field, each once.
    fields: Vec<FieldValue>,
    /// Entries that this crate doesn't know, as they were read.
    unknown: Vec<Bytes>,
}

impl Match {
    /// Every frame.
    #[must_use]
    pub fn any() -> Self {
        Self::default()
    }

    /// The fields that count, in their order.
    #[must_use]
    pub fn fields(&self) -> &[FieldValue] {
        &self.fields
    }

    /// Frames of this match of which a field has this value, too. A field that
    /// was there already is replaced.
    #[must_use]
    pub fn with(mut self, value: FieldValue) -> Self {
        let place = self
            .fields
            .binary_search_by_key(&value.field(), FieldValue::field);
        match place {
            Ok(place) => {
                if let Some(held) = self.fields.get_mut(place) {
                    *held = value;
                }
            }
            Err(place) => self.fields.insert(place, value),
        }
        self
    }

    fn masked<T: Word>(self, field: Field, Masked { value, mask }: Masked<T>) -> Self {
        // Bits beyond the field are none of it.
        let (value, mask) = (value.number() & field.ones(), mask.number() & field.ones());
        match FieldValue::new(field, value, mask) {
            Some(value) => self.with(value),
            None => self,
        }
    }

    fn exact(self, field: Field, value: u128) -> Self {
        match FieldValue::new(field, value, field.ones()) {
            Some(value) => self.with(value),
            None => self,
        }
    }

    /// From this port.
    #[must_use]
    pub fn in_port(self, port: Port) -> Self {
        self.exact(Field::InPort, u128::from(port.number()))
    }

    /// From this address.
    #[must_use]
    pub fn eth_src(self, address: impl Into<Masked<[u8; 6]>>) -> Self {
        self.masked(Field::EthSrc, address.into())
    }

    /// To this address.
    #[must_use]
    pub fn eth_dst(self, address: impl Into<Masked<[u8; 6]>>) -> Self {
        self.masked(Field::EthDst, address.into())
    }

    /// Of this type.
    #[must_use]
    pub fn eth_type(self, number: u16) -> Self {
        self.exact(Field::EthType, u128::from(number))
    }

    /// With this tag, or without one.
    #[must_use]
    pub fn vlan(self, vlan: Vlan) -> Self {
        match vlan {
            Vlan::Untagged => self.exact(Field::VlanVid, 0),
            Vlan::Tagged(Masked { value, mask }) => {
                let tagged = |vid: u16| vid & 0x0fff | VLAN_PRESENT;
                let (value, mask) = (tagged(value), tagged(mask));
                self.masked(Field::VlanVid, Masked { value, mask })
            }
        }
    }

    /// IPv4 from here.
    #[must_use]
    pub fn ipv4_src(self, address: impl Into<Masked<Ipv4Addr>>) -> Self {
        self.masked(Field::Ipv4Src, address.into())
    }

    /// IPv4 to there.
    #[must_use]
    pub fn ipv4_dst(self, address: impl Into<Masked<Ipv4Addr>>) -> Self {
        self.masked(Field::Ipv4Dst, address.into())
    }

    /// IPv6 from here.
    #[must_use]
    pub fn ipv6_src(self, address: impl Into<Masked<Ipv6Addr>>) -> Self {
        self.masked(Field::Ipv6Src, address.into())
    }

    /// IPv6 to there.
    #[must_use]
    pub fn ipv6_dst(self, address: impl Into<Masked<Ipv6Addr>>) -> Self {
        self.masked(Field::Ipv6Dst, address.into())
    }

    /// Of this protocol upon IP.
    #[must_use]
    pub fn ip_proto(self, number: u8) -> Self {
        self.exact(Field::IpProto, u128::from(number))
    }

    /// TCP from this port.
    #[must_use]
    pub fn tcp_src(self, port: impl Into<Masked<u16>>) -> Self {
        self.masked(Field::TcpSrc, port.into())
    }

    /// TCP to this port.
    #[must_use]
    pub fn tcp_dst(self, port: impl Into<Masked<u16>>) -> Self {
        self.masked(Field::TcpDst, port.into())
    }

    /// UDP from this port.
    #[must_use]
    pub fn udp_src(self, port: impl Into<Masked<u16>>) -> Self {
        self.masked(Field::UdpSrc, port.into())
    }

    /// UDP to this port.
    #[must_use]
    pub fn udp_dst(self, port: impl Into<Masked<u16>>) -> Self {
        self.masked(Field::UdpDst, port.into())
    }

    /// ICMPv6 of this type.
    #[must_use]
    pub fn icmpv6_type(self, number: u8) -> Self {
        self.exact(Field::Icmpv6Type, u128::from(number))
    }

    /// ICMPv6 of this code.
    #[must_use]
    pub fn icmpv6_code(self, number: u8) -> Self {
        self.exact(Field::Icmpv6Code, u128::from(number))
    }

    /// Neighbour discovery about this address.
    #[must_use]
    pub fn nd_target(self, address: impl Into<Masked<Ipv6Addr>>) -> Self {
        self.masked(Field::NdTarget, address.into())
    }

    /// A neighbour solicitation whose sender names this address.
    #[must_use]
    pub fn nd_sll(self, address: impl Into<Masked<[u8; 6]>>) -> Self {
        self.masked(Field::NdSll, address.into())
    }

    /// A neighbour advertisement that names this address.
    #[must_use]
    pub fn nd_tll(self, address: impl Into<Masked<[u8; 6]>>) -> Self {
        self.masked(Field::NdTll, address.into())
    }

    /// ARP with this operation. Open vSwitch knows only those below 256.
    #[must_use]
    pub fn arp_op(self, operation: u8) -> Self {
        self.exact(Field::ArpOp, u128::from(operation))
    }

    /// ARP whose sender claims this address.
    #[must_use]
    pub fn arp_spa(self, address: impl Into<Masked<Ipv4Addr>>) -> Self {
        self.masked(Field::ArpSpa, address.into())
    }

    /// ARP about this address.
    #[must_use]
    pub fn arp_tpa(self, address: impl Into<Masked<Ipv4Addr>>) -> Self {
        self.masked(Field::ArpTpa, address.into())
    }

    /// ARP whose sender claims this MAC address.
    #[must_use]
    pub fn arp_sha(self, address: impl Into<Masked<[u8; 6]>>) -> Self {
        self.masked(Field::ArpSha, address.into())
    }

    /// ARP about this MAC address.
    #[must_use]
    pub fn arp_tha(self, address: impl Into<Masked<[u8; 6]>>) -> Self {
        self.masked(Field::ArpTha, address.into())
    }

    /// With this in a register.
    #[must_use]
    pub fn reg(self, reg: Reg, value: impl Into<Masked<u32>>) -> Self {
        self.masked(Field::Reg(reg), value.into())
    }

    /// With this as metadata.
    #[must_use]
    pub fn metadata(self, value: impl Into<Masked<u64>>) -> Self {
        self.masked(Field::Metadata, value.into())
    }

    /// OpenFlow 1.5.1, 7.2.3.1: type, length without padding, entries, padding.
    pub(crate) fn encode(&self, out: &mut BytesMut) {
        let start = out.len();
        out.put_u16(1);
        out.put_u16(0);
        for value in &self.fields {
            value.encode(out);
        }
        for unknown in &self.unknown {
            out.extend_from_slice(unknown);
        }
        put_length(out, start + 2, start);
        pad(out, start);
    }

    pub(crate) fn decode(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        let what = "match";
        let mut body = from.element(what, 2, 4)?;
        let length = body.rest().len();
        from.skip(length.next_multiple_of(8) - length)?;
        let (kind, _) = (body.u16()?, body.u16()?);
        if kind != 1 {
            let value = u64::from(kind);
            return Err(Malformed::Value { what, value });
        }
        let mut read = Self::any();
        while !body.is_empty() {
            match Entry::decode(&mut body)? {
                Entry::Known(value) => read = read.with(value),
                Entry::Pair(first, second) => {
                    for value in [first, second].into_iter().flatten() {
                        read = read.with(value);
                    }
                }
                Entry::Ethernet | Entry::Nothing => {}
                Entry::Unknown(bytes) => read.unknown.push(Bytes::copy_from_slice(bytes)),
            }
        }
        Ok(read)
    }
}

/// In the notation of `ovs-ofctl`. Entries that this crate doesn't know are
/// shown as bytes, which `ovs-ofctl` doesn't read.
impl fmt::Display for Match {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for value in &self.fields {
            write!(f, "{separator}{}={}", value.field().name(), Shown(value))?;
            separator = ",";
        }
        for unknown in &self.unknown {
            write!(f, "{separator}unknown={}", Hex(unknown))?;
            separator = ",";
        }
        Ok(())
    }
}

/// Bytes as hexadecimal digits.
pub(crate) struct Hex<'a>(pub(crate) &'a [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}
