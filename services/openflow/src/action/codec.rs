// SPDX-License-Identifier: Apache-2.0
//! Actions on the wire (OpenFlow 1.5.1, 7.2.6; Nicira's extensions where that
//! has none). Each is written as Open vSwitch gives it back.

use bytes::{BufMut, Bytes, BytesMut};

use super::learn::Learn;
use super::{Action, VlanType};
use crate::field::{Entry, Field};
use crate::meter::MeterId;
use crate::port::Port;
use crate::subfield::{Subfield, Transfer};
use crate::wire::{Malformed, Reader, pad, put_length, put_zeros};

/// OFPAT_*.
const OUTPUT: u16 = 0;
const PUSH_VLAN: u16 = 17;
const POP_VLAN: u16 = 18;
const SET_FIELD: u16 = 25;
const COPY_FIELD: u16 = 28;
const METER: u16 = 29;
const EXPERIMENTER: u16 = 0xffff;

/// NX_VENDOR_ID and NXAST_*.
const NICIRA: u32 = 0x0000_2320;
const RESUBMIT_TABLE: u16 = 14;
const OUTPUT_REG: u16 = 15;
const LEARN: u16 = 16;
const CLONE: u16 = 42;
const LEARN2: u16 = 45;

/// Offset 0 and 32 bits, as NXAST_OUTPUT_REG writes them.
const WHOLE_REG: u16 = 31;

/// How much of a frame controllers get, if they are where it goes; as
/// `ovs-ofctl` writes it.
const WHOLE_FRAME: u16 = 0xffff;

/// How deep clones may stand in clones. Deeper ones are kept as bytes, so that
/// no input makes decoding recurse further.
const DEPTH: u8 = 8;

pub(crate) fn encode_list(actions: &[Action], out: &mut BytesMut) {
    for action in actions {
        encode(action, out);
    }
}

fn encode(action: &Action, out: &mut BytesMut) {
    let start = out.len();
    let begin = |out: &mut BytesMut, kind: u16| {
        out.put_u16(kind);
        out.put_u16(0);
    };
    let begin_nicira = |out: &mut BytesMut, subtype: u16| {
        begin(out, EXPERIMENTER);
        out.put_u32(NICIRA);
        out.put_u16(subtype);
    };
    match action {
        Action::Output(port) => {
            begin(out, OUTPUT);
            out.put_u32(port.number());
            put_zeros(out, 8);
        }
        Action::OutputReg(reg) => {
            begin_nicira(out, OUTPUT_REG);
            out.put_u16(WHOLE_REG);
            out.put_u32(Field::Reg(*reg).header());
            out.put_u16(WHOLE_FRAME);
            put_zeros(out, 6);
        }
        Action::PushVlan(kind) => {
            begin(out, PUSH_VLAN);
            out.put_u16(kind.number());
        }
        Action::PopVlan => begin(out, POP_VLAN),
        Action::Set(value) => {
            begin(out, SET_FIELD);
            value.encode(out);
        }
        Action::Copy(of) => {
            begin(out, COPY_FIELD);
            out.put_u16(of.to().bits());
            out.put_u16(of.from().offset());
            out.put_u16(of.to().offset());
            put_zeros(out, 2);
            out.put_u32(of.from().field().header());
            out.put_u32(of.to().field().header());
        }
        Action::Resubmit { port, table } => {
            begin_nicira(out, RESUBMIT_TABLE);
            out.put_u16(port.short());
            out.put_u8(*table);
        }
        Action::Learn(learn) => {
            let limited = learn.limit.is_some();
            begin_nicira(out, if limited { LEARN2 } else { LEARN });
            learn.encode(out);
        }
        Action::Clone(actions) => {
            begin_nicira(out, CLONE);
            put_zeros(out, 6);
            encode_list(actions, out);
        }
        Action::Meter(id) => {
            begin(out, METER);
            out.put_u32(id.number());
        }
        Action::Unknown(bytes) => {
            out.extend_from_slice(bytes);
            return;
        }
    }
    pad(out, start);
    put_length(out, start + 2, start);
}

pub(crate) fn decode_list(from: Reader<'_>) -> Result<Vec<Action>, Malformed> {
    decode_within(from, 0)
}

fn decode_within(mut from: Reader<'_>, depth: u8) -> Result<Vec<Action>, Malformed> {
    let mut actions = Vec::new();
    while !from.is_empty() {
        let bytes = from.element("action", 2, 8)?;
        if bytes.rest().len() % 8 != 0 {
            return Err(Malformed::Length {
                what: "action",
                length: bytes.rest().len(),
            });
        }
        let unknown = || Action::Unknown(Bytes::copy_from_slice(bytes.rest()));
        // What is broken inside is the switch's matter; it stays as it is.
        let known = decode(bytes.clone(), depth).ok().flatten();
        actions.push(known.unwrap_or_else(unknown));
    }
    Ok(actions)
}

/// None if it is not an action of ours, or one that does more than ours do.
fn decode(mut from: Reader<'_>, depth: u8) -> Result<Option<Action>, Malformed> {
    let (kind, _) = (from.u16()?, from.u16()?);
    Ok(match kind {
        OUTPUT => {
            let port = Port::try_from(from.u32()?).ok();
            let whole_frame = from.u16()? == 0;
            port.filter(|_| whole_frame).map(Action::Output)
        }
        PUSH_VLAN => match from.u16()? {
            0x8100 => Some(Action::PushVlan(VlanType::Customer)),
            0x88a8 => Some(Action::PushVlan(VlanType::Service)),
            _ => None,
        },
        POP_VLAN => Some(Action::PopVlan),
        SET_FIELD => match Entry::decode(&mut from)? {
            Entry::Known(value) => Some(Action::Set(value)),
            Entry::Pair(..) | Entry::Ethernet | Entry::Nothing | Entry::Unknown(_) => None,
        },
        COPY_FIELD => {
            let (bits, source, to) = (from.u16()?, from.u16()?, from.u16()?);
            from.skip(2)?;
            let source = subfield(from.u32()?, source, bits);
            let to = subfield(from.u32()?, to, bits);
            let both = source.zip(to).and_then(|(f, t)| Transfer::new(f, t));
            both.map(Action::Copy)
        }
        METER => MeterId::try_from(from.u32()?).ok().map(Action::Meter),
        EXPERIMENTER => match (from.u32()?, from.u16()?) {
            (NICIRA, subtype) => decode_nicira(from, subtype, depth)?,
            _ => None,
        },
        _ => None,
    })
}

fn decode_nicira(
    mut from: Reader<'_>,
    subtype: u16,
    depth: u8,
) -> Result<Option<Action>, Malformed> {
    Ok(match subtype {
        RESUBMIT_TABLE => {
            let (port, table) = (Port::of_short(from.u16()?), from.u8()?);
            port.ok().map(|port| Action::Resubmit { port, table })
        }
        OUTPUT_REG => {
            let (place, header, limit) = (from.u16()?, from.u32()?, from.u16()?);
            match Field::of_header(header) {
                Some(Field::Reg(reg)) if place == WHOLE_REG && limit == WHOLE_FRAME => {
                    Some(Action::OutputReg(reg))
                }
                _ => None,
            }
        }
        LEARN | LEARN2 => {
            let learn = Learn::decode(&mut from, subtype == LEARN2)?;
            learn.map(|learn| Action::Learn(Box::new(learn)))
        }
        CLONE if depth < DEPTH => {
            from.skip(6)?;
            Some(Action::Clone(decode_within(from, depth + 1)?))
        }
        _ => None,
    })
}

fn subfield(header: u32, offset: u16, bits: u16) -> Option<Subfield> {
    Subfield::new(Field::of_header(header)?, offset, bits)
}
