// SPDX-License-Identifier: Apache-2.0
//! The fields of a frame and of its way through the pipeline, and their form
//! on the wire (OpenFlow 1.5.1, 7.2.3; OXM, and NXM where OXM has nothing).

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

use bytes::{BufMut, BytesMut};

use crate::wire::{Malformed, Reader, put_uint};

/// A register: 32 bits that are zero when a frame enters the pipeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs)]
#[rustfmt::skip]
pub enum Reg {
    R0, R1, R2, R3, R4, R5, R6, R7, R8, R9, R10, R11, R12, R13, R14, R15,
}

impl Reg {
    /// All of them, by number.
    #[rustfmt::skip]
    pub const ALL: [Self; 16] = [
        Self::R0, Self::R1, Self::R2, Self::R3, Self::R4, Self::R5, Self::R6, Self::R7,
        Self::R8, Self::R9, Self::R10, Self::R11, Self::R12, Self::R13, Self::R14, Self::R15,
    ];

    /// Its number.
    #[must_use]
    pub const fn number(self) -> u8 {
        self as u8
    }
}

/// A field. They stand in the order in which Open vSwitch writes them: what a
/// field builds upon comes before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Field {
    /// The port where the frame came in, as OpenFlow numbers it: 32 bits.
    InPort,
    /// Source address.
    EthSrc,
    /// Destination address.
    EthDst,
    /// Type of what the frame carries, behind its tags.
    EthType,
    /// The VLAN of the tag in 12 bits, and above them one that says that there
    /// is a tag at all.
    VlanVid,
    /// Priority of the tag.
    VlanPcp,
    /// IPv4 source.
    Ipv4Src,
    /// IPv4 destination.
    Ipv4Dst,
    /// IPv6 source.
    Ipv6Src,
    /// IPv6 destination.
    Ipv6Dst,
    /// Protocol upon IP.
    IpProto,
    /// TCP source port.
    TcpSrc,
    /// TCP destination port.
    TcpDst,
    /// UDP source port.
    UdpSrc,
    /// UDP destination port.
    UdpDst,
    /// ICMPv6 type.
    Icmpv6Type,
    /// ICMPv6 code.
    Icmpv6Code,
    /// The address that neighbour discovery is about.
    NdTarget,
    /// The source's address in a neighbour solicitation.
    NdSll,
    /// The target's address in a neighbour advertisement.
    NdTll,
    /// ARP operation.
    ArpOp,
    /// The IPv4 address that an ARP sender claims.
    ArpSpa,
    /// The IPv4 address that ARP is about.
    ArpTpa,
    /// The MAC address that an ARP sender claims.
    ArpSha,
    /// The MAC address that ARP is about.
    ArpTha,
    /// A register.
    Reg(Reg),
    /// 64 bits that travel with the frame from table to table.
    Metadata,
    /// The tag as it is in the frame, with the bit of [`Self::VlanVid`] in
    /// place of its drop flag. For copying; a [`crate::Match`] has no use for
    /// it, since OpenFlow 1.5 gives it back as VLAN and priority.
    VlanTci,
}

/// How a field's values are written for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Notation {
    Decimal,
    Hex,
    Mac,
    Ipv4,
    Ipv6,
}

struct Spec {
    class: u16,
    number: u8,
    bits: u16,
    name: &'static str,
    notation: Notation,
}

/// Classes of fields (OpenFlow 1.5.1, 7.2.3.3).
const NXM_0: u16 = 0x0000;
const NXM_1: u16 = 0x0001;
const BASIC: u16 = 0x8000;
const PACKET_REGS: u16 = 0x8001;

/// The bit of [`Field::VlanVid`] that says that there is a tag.
pub(crate) const VLAN_PRESENT: u16 = 0x1000;

impl Field {
    /// Every field.
    pub fn all() -> impl Iterator<Item = Self> {
        use Field as F;
        #[rustfmt::skip]
        let plain = [
            F::InPort, F::EthSrc, F::EthDst, F::EthType, F::VlanVid, F::VlanPcp, F::Ipv4Src,
            F::Ipv4Dst, F::Ipv6Src, F::Ipv6Dst, F::IpProto, F::TcpSrc, F::TcpDst, F::UdpSrc,
            F::UdpDst, F::Icmpv6Type, F::Icmpv6Code, F::NdTarget, F::NdSll, F::NdTll, F::ArpOp,
            F::ArpSpa, F::ArpTpa, F::ArpSha, F::ArpTha, F::Metadata, F::VlanTci,
        ];
        plain.into_iter().chain(Reg::ALL.map(F::Reg))
    }

    fn spec(self) -> Spec {
        use Notation::{Decimal, Hex, Ipv4, Ipv6, Mac};
        let spec = |class, number, bits, name, notation| Spec {
            class,
            number,
            bits,
            name,
            notation,
        };
        match self {
            Self::InPort => spec(BASIC, 0, 32, "in_port", Decimal),
            Self::EthSrc => spec(BASIC, 4, 48, "eth_src", Mac),
            Self::EthDst => spec(BASIC, 3, 48, "eth_dst", Mac),
            Self::EthType => spec(BASIC, 5, 16, "eth_type", Hex),
            Self::VlanVid => spec(BASIC, 6, 12, "vlan_vid", Hex),
            Self::VlanPcp => spec(BASIC, 7, 3, "vlan_pcp", Decimal),
            Self::Ipv4Src => spec(BASIC, 11, 32, "ip_src", Ipv4),
            Self::Ipv4Dst => spec(BASIC, 12, 32, "ip_dst", Ipv4),
            Self::Ipv6Src => spec(BASIC, 26, 128, "ipv6_src", Ipv6),
            Self::Ipv6Dst => spec(BASIC, 27, 128, "ipv6_dst", Ipv6),
            Self::IpProto => spec(BASIC, 10, 8, "nw_proto", Decimal),
            Self::TcpSrc => spec(BASIC, 13, 16, "tcp_src", Decimal),
            Self::TcpDst => spec(BASIC, 14, 16, "tcp_dst", Decimal),
            Self::UdpSrc => spec(BASIC, 15, 16, "udp_src", Decimal),
            Self::UdpDst => spec(BASIC, 16, 16, "udp_dst", Decimal),
            Self::Icmpv6Type => spec(BASIC, 29, 8, "icmpv6_type", Decimal),
            Self::Icmpv6Code => spec(BASIC, 30, 8, "icmpv6_code", Decimal),
            Self::NdTarget => spec(BASIC, 31, 128, "nd_target", Ipv6),
            Self::NdSll => spec(BASIC, 32, 48, "nd_sll", Mac),
            Self::NdTll => spec(BASIC, 33, 48, "nd_tll", Mac),
            Self::ArpOp => spec(BASIC, 21, 16, "arp_op", Decimal),
            Self::ArpSpa => spec(BASIC, 22, 32, "arp_spa", Ipv4),
            Self::ArpTpa => spec(BASIC, 23, 32, "arp_tpa", Ipv4),
            Self::ArpSha => spec(BASIC, 24, 48, "arp_sha", Mac),
            Self::ArpTha => spec(BASIC, 25, 48, "arp_tha", Mac),
            Self::Reg(reg) => {
                #[rustfmt::skip]
                let name = match reg {
                    Reg::R0 => "reg0", Reg::R1 => "reg1", Reg::R2 => "reg2", Reg::R3 => "reg3",
                    Reg::R4 => "reg4", Reg::R5 => "reg5", Reg::R6 => "reg6", Reg::R7 => "reg7",
                    Reg::R8 => "reg8", Reg::R9 => "reg9", Reg::R10 => "reg10",
                    Reg::R11 => "reg11", Reg::R12 => "reg12", Reg::R13 => "reg13",
                    Reg::R14 => "reg14", Reg::R15 => "reg15",
                };
                spec(NXM_1, reg.number(), 32, name, Hex)
            }
            Self::Metadata => spec(BASIC, 2, 64, "metadata", Hex),
            Self::VlanTci => spec(NXM_0, 4, 16, "vlan_tci", Hex),
        }
    }

    /// The field of a class and number. Open vSwitch gives some back under the
    /// number they had before OpenFlow 1.2.
    fn of(class: u16, number: u8) -> Option<Self> {
        let early = match (class, number) {
            (NXM_0, 1) => Self::EthDst,
            (NXM_0, 2) => Self::EthSrc,
            (NXM_0, 3) => Self::EthType,
            (NXM_0, 6) => Self::IpProto,
            (NXM_0, 7) => Self::Ipv4Src,
            (NXM_0, 8) => Self::Ipv4Dst,
            (NXM_0, 9) => Self::TcpSrc,
            (NXM_0, 10) => Self::TcpDst,
            (NXM_0, 11) => Self::UdpSrc,
            (NXM_0, 12) => Self::UdpDst,
            (NXM_0, 15) => Self::ArpOp,
            (NXM_0, 16) => Self::ArpSpa,
            (NXM_0, 17) => Self::ArpTpa,
            (NXM_1, 17) => Self::ArpSha,
            (NXM_1, 18) => Self::ArpTha,
            (NXM_1, 19) => Self::Ipv6Src,
            (NXM_1, 20) => Self::Ipv6Dst,
            (NXM_1, 21) => Self::Icmpv6Type,
            (NXM_1, 22) => Self::Icmpv6Code,
            (NXM_1, 23) => Self::NdTarget,
            (NXM_1, 24) => Self::NdSll,
            (NXM_1, 25) => Self::NdTll,
            (class, number) => {
                let is = |field: &Self| {
                    let spec = field.spec();
                    (spec.class, spec.number) == (class, number)
                };
                return Self::all().find(is);
            }
        };
        Some(early)
    }

    /// Its name in the notation of `ovs-ofctl`.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.spec().name
    }

    /// How many bits can be copied from or to it.
    #[must_use]
    pub fn bits(self) -> u16 {
        self.spec().bits
    }

    /// All the bits that can be matched or set.
    #[must_use]
    pub fn ones(self) -> u128 {
        match self {
            Self::VlanVid => u128::from(VLAN_PRESENT | 0x0fff),
            field => u128::MAX >> (128 - u32::from(field.bits())),
        }
    }

    fn bytes(self) -> usize {
        usize::from(self.bits().div_ceil(8))
    }

    /// Its header without a mask, as copying actions name fields.
    pub(crate) fn header(self) -> u32 {
        let Spec { class, number, .. } = self.spec();
        let length = u32::try_from(self.bytes()).unwrap_or(0);
        u32::from(class) << 16 | u32::from(number) << 9 | length
    }

    /// The field of a header without a mask.
    pub(crate) fn of_header(header: u32) -> Option<Self> {
        let Header {
            class,
            number,
            masked,
            length,
        } = Header::split(header);
        let field = Self::of(class, number)?;
        (!masked && field.bytes() == length).then_some(field)
    }
}

struct Header {
    class: u16,
    number: u8,
    masked: bool,
    length: usize,
}

impl Header {
    fn split(header: u32) -> Self {
        let [high, low, field, length] = header.to_be_bytes();
        Self {
            class: u16::from_be_bytes([high, low]),
            number: field >> 1,
            masked: field & 1 == 1,
            length: usize::from(length),
        }
    }
}

/// Some bits of a field, with the value that they have or are to have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FieldValue {
    field: Field,
    value: u128,
    mask: u128,
}

impl FieldValue {
    /// The bits under the mask; None if there are none, or if they or the
    /// value lie outside of the field. Bits of the value outside of the mask
    /// have no meaning and go.
    #[must_use]
    pub fn new(field: Field, value: u128, mask: u128) -> Option<Self> {
        let inside = (value | mask) & !field.ones() == 0;
        (inside && mask != 0).then_some(Self {
            field,
            value: value & mask,
            mask,
        })
    }

    /// The field.
    #[must_use]
    pub fn field(&self) -> Field {
        self.field
    }

    /// The value of the bits.
    #[must_use]
    pub fn value(&self) -> u128 {
        self.value
    }

    /// Which bits they are.
    #[must_use]
    pub fn mask(&self) -> u128 {
        self.mask
    }

    pub(crate) fn encode(&self, out: &mut BytesMut) {
        let header = self.field.header();
        let bytes = self.field.bytes();
        if self.mask == self.field.ones() {
            out.put_u32(header);
            put_uint(out, self.value, bytes);
        } else {
            let length = header & 0xff;
            out.put_u32((header & !0xff) | 0x100 | (length * 2));
            put_uint(out, self.value, bytes);
            put_uint(out, self.mask, bytes);
        }
    }
}

/// One entry of a match or of an action that sets a field, as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Entry<'a> {
    Known(FieldValue),
    /// A pair of registers, as OpenFlow 1.5 matches them.
    Pair(Option<FieldValue>, Option<FieldValue>),
    /// The frame is an Ethernet frame, as all of ours are.
    Ethernet,
    /// The mask says that nothing of the field is meant.
    Nothing,
    Unknown(&'a [u8]),
}

impl<'a> Entry<'a> {
    pub(crate) fn decode(from: &mut Reader<'a>) -> Result<Self, Malformed> {
        let start = from.rest();
        let Header {
            class,
            number,
            masked,
            length,
        } = Header::split(from.u32()?);
        let body = from.take(length)?;
        let unknown = Self::Unknown(start.get(..4 + length).unwrap_or(start));
        let mut body = Reader::new("field", body);
        let size = if masked { length / 2 } else { length };
        if size > 16 || (masked && length % 2 == 1) {
            return Ok(unknown);
        }
        let value = body.uint(size)?;
        let mask = if masked { Some(body.uint(size)?) } else { None };
        match (class, number, size) {
            // OXM_OF_PACKET_TYPE.
            (BASIC, 44, 4) if value == 0 && mask.is_none() => Ok(Self::Ethernet),
            (PACKET_REGS, pair, 8) if pair < 8 => {
                let mask = mask.unwrap_or(u128::from(u64::MAX));
                let reg = |number: u8, shift: u32| {
                    let reg = *Reg::ALL.get(usize::from(number))?;
                    let ones = u128::from(u32::MAX);
                    let (value, mask) = (value >> shift & ones, mask >> shift & ones);
                    FieldValue::new(Field::Reg(reg), value, mask)
                };
                Ok(Self::Pair(reg(pair * 2, 32), reg(pair * 2 + 1, 0)))
            }
            (class, number, size) => {
                let Some(field) = Field::of(class, number).filter(|f| f.bytes() == size) else {
                    return Ok(unknown);
                };
                match mask {
                    Some(0) => Ok(Self::Nothing),
                    mask => {
                        let mask = mask.unwrap_or(field.ones());
                        Ok(FieldValue::new(field, value, mask).map_or(unknown, Self::Known))
                    }
                }
            }
        }
    }
}

/// The value and, if it is not the whole field, the mask.
pub(crate) struct Shown<'a>(pub(crate) &'a FieldValue);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let FieldValue { field, value, mask } = *self.0;
        show(f, field, value)?;
        if mask == field.ones() {
            return Ok(());
        }
        // `ovs-ofctl` takes an IPv6 mask that begins with a digit for a length.
        let address = matches!(field.spec().notation, Notation::Ipv4 | Notation::Ipv6);
        let clear = mask.trailing_zeros();
        let prefix = mask >> clear == field.ones() >> clear;
        f.write_str("/")?;
        if address && prefix {
            write!(f, "{}", mask.count_ones())
        } else {
            show(f, field, mask)
        }
    }
}

fn show(f: &mut fmt::Formatter<'_>, field: Field, value: u128) -> fmt::Result {
    match field.spec().notation {
        Notation::Decimal => write!(f, "{value}"),
        Notation::Hex => write!(f, "{value:#x}"),
        Notation::Mac => {
            let [.., a, b, c, d, e, g] = value.to_be_bytes();
            write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
        }
        Notation::Ipv4 => {
            let [.., a, b, c, d] = value.to_be_bytes();
            write!(f, "{}", Ipv4Addr::from([a, b, c, d]))
        }
        Notation::Ipv6 => write!(f, "{}", Ipv6Addr::from(value)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_is_found_again_by_its_header() {
        for field in Field::all() {
            assert_eq!(Field::of_header(field.header()), Some(field), "{field:?}");
        }
    }

    #[test]
    fn fields_are_listed_once() {
        let mut names: Vec<_> = Field::all().map(Field::name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Field::all().count());
    }
}
