// SPDX-License-Identifier: Apache-2.0
//! Flows that follow from frames (NXAST_LEARN, Open vSwitch's `ovs-actions`
//! manual).

use std::fmt;
use std::num::NonZeroU32;

use bytes::{BufMut, BytesMut};

use crate::field::Field;
use crate::subfield::{Constant, Subfield, Transfer};
use crate::wire::{Malformed, Reader, put_uint, put_zeros};

/// A flow that is added, or renewed, for each frame.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Learn {
    /// The flow's table.
    pub table: u8,
    /// Its priority.
    pub priority: u16,
    /// Its cookie.
    pub cookie: u64,
    /// It ends after so many seconds without a frame that it is for; 0: never.
    pub idle_timeout: u16,
    /// It ends after so many seconds; 0: never.
    pub hard_timeout: u16,
    /// What becomes of it when the flow that learns goes.
    pub learnt: Learnt,
    /// Most flows with its cookie in its table. When there are as many,
    /// nothing new is learnt.
    pub limit: Option<NonZeroU32>,
    /// What it matches and does.
    pub parts: Vec<Part>,
}

/// What becomes of learnt flows when the flow that learns goes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Learnt {
    /// They stay.
    #[default]
    Stays,
    /// They go with it: those with the cookie of [`Learn`] in its table.
    Goes,
}

/// A part of a learnt flow. What it copies, it copies from the frame at hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// It matches frames that have there what this one has here.
    Match(Transfer),
    /// It matches frames that have this there.
    MatchConstant(Constant),
    /// It sets what this frame has here.
    Load(Transfer),
    /// It sets this.
    LoadConstant(Constant),
    /// It sends out of the port whose number stands here.
    Output(Subfield),
}

/// NX_LEARN_F_DELETE_LEARNED.
const DELETE_LEARNED: u16 = 2;

/// Bits of a part's first word: where its value is from, and what it is for.
const CONSTANT: u16 = 1 << 13;
const LOAD: u16 = 1 << 11;
const CONSTANT_LOAD: u16 = CONSTANT | LOAD;
const OUTPUT: u16 = 2 << 11;
const BITS: u16 = 0x07ff;

impl Learn {
    /// What follows the subtype.
    pub(super) fn encode(&self, out: &mut BytesMut) {
        out.put_u16(self.idle_timeout);
        out.put_u16(self.hard_timeout);
        out.put_u16(self.priority);
        out.put_u64(self.cookie);
        out.put_u16(match self.learnt {
            Learnt::Stays => 0,
            Learnt::Goes => DELETE_LEARNED,
        });
        out.put_u8(self.table);
        put_zeros(out, 5);
        if let Some(limit) = self.limit {
            out.put_u32(limit.get());
            put_zeros(out, 4);
        }
        for part in &self.parts {
            part.encode(out);
        }
    }

    /// None if it does what this crate doesn't know.
    pub(super) fn decode(from: &mut Reader<'_>, limited: bool) -> Result<Option<Self>, Malformed> {
        let mut learn = Self {
            idle_timeout: from.u16()?,
            hard_timeout: from.u16()?,
            priority: from.u16()?,
            cookie: from.u64()?,
            ..Self::default()
        };
        learn.learnt = match from.u16()? {
            0 => Learnt::Stays,
            DELETE_LEARNED => Learnt::Goes,
            _ => return Ok(None),
        };
        learn.table = from.u8()?;
        from.skip(1)?;
        let after_fin = from.u32()?;
        if limited {
            learn.limit = NonZeroU32::new(from.u32()?);
            from.skip(4)?;
        }
        // A first word of zero is padding.
        while from.rest().len() > 1 {
            let Some(part) = Part::decode(from)? else {
                break;
            };
            learn.parts.push(part);
        }
        let whole = from.rest().iter().all(|byte| *byte == 0);
        let known = after_fin == 0 && limited == learn.limit.is_some() && whole;
        Ok(known.then_some(learn))
    }
}

fn put_place(out: &mut BytesMut, place: Subfield) {
    out.put_u32(place.field().header());
    out.put_u16(place.offset());
}

fn place(from: &mut Reader<'_>, bits: u16) -> Result<Option<Subfield>, Malformed> {
    let (header, offset) = (from.u32()?, from.u16()?);
    let field = Field::of_header(header);
    Ok(field.and_then(|field| Subfield::new(field, offset, bits)))
}

impl Part {
    fn encode(&self, out: &mut BytesMut) {
        let (kind, bits) = match self {
            Self::Match(of) => (0, of.to().bits()),
            Self::MatchConstant(of) => (CONSTANT, of.to().bits()),
            Self::Load(of) => (LOAD, of.to().bits()),
            Self::LoadConstant(of) => (CONSTANT_LOAD, of.to().bits()),
            Self::Output(of) => (OUTPUT, of.bits()),
        };
        out.put_u16(kind | bits);
        match self {
            Self::Match(of) | Self::Load(of) => {
                put_place(out, of.from());
                put_place(out, of.to());
            }
            Self::MatchConstant(of) | Self::LoadConstant(of) => {
                put_uint(out, of.value(), constant_length(bits));
                put_place(out, of.to());
            }
            Self::Output(of) => put_place(out, *of),
        }
    }

    /// None for padding, and for what this crate doesn't know.
    fn decode(from: &mut Reader<'_>) -> Result<Option<Self>, Malformed> {
        let mut ahead = from.clone();
        let word = ahead.u16()?;
        let (kind, bits) = (word & !BITS, word & BITS);
        let part = match kind {
            0 if bits == 0 => None,
            0 | LOAD => {
                let (source, to) = (place(&mut ahead, bits)?, place(&mut ahead, bits)?);
                let both = source.zip(to).and_then(|(f, t)| Transfer::new(f, t));
                both.map(if kind == 0 { Self::Match } else { Self::Load })
            }
            CONSTANT | CONSTANT_LOAD => {
                let value = ahead.uint(constant_length(bits))?;
                let to = place(&mut ahead, bits)?;
                let both = to.and_then(|to| Constant::new(to, value));
                both.map(if kind == CONSTANT {
                    Self::MatchConstant
                } else {
                    Self::LoadConstant
                })
            }
            OUTPUT => place(&mut ahead, bits)?.map(Self::Output),
            _ => None,
        };
        if part.is_some() {
            *from = ahead;
        }
        Ok(part)
    }
}

/// Constants take whole 16-bit words.
fn constant_length(bits: u16) -> usize {
    usize::from(bits.div_ceil(16) * 2)
}

impl fmt::Display for Learn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "learn(table={}", self.table)?;
        for (name, seconds) in [
            ("idle_timeout", self.idle_timeout),
            ("hard_timeout", self.hard_timeout),
        ] {
            if seconds != 0 {
                write!(f, ",{name}={seconds}")?;
            }
        }
        write!(f, ",priority={},cookie={:#x}", self.priority, self.cookie)?;
        if let Some(limit) = self.limit {
            write!(f, ",limit={limit}")?;
        }
        match self.learnt {
            Learnt::Stays => {}
            Learnt::Goes => f.write_str(",delete_learned")?,
        }
        for part in &self.parts {
            match part {
                Part::Match(of) => write!(f, ",{}={}", of.to(), of.from())?,
                Part::MatchConstant(of) => write!(f, ",{}={:#x}", of.to(), of.value())?,
                Part::Load(of) => write!(f, ",load:{}->{}", of.from(), of.to())?,
                Part::LoadConstant(of) => write!(f, ",load:{:#x}->{}", of.value(), of.to())?,
                Part::Output(of) => write!(f, ",output:{of}")?,
            }
        }
        f.write_str(")")
    }
}
