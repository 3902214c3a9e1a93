// SPDX-License-Identifier: Apache-2.0
//! What a switch tells of its flows while they are watched (OpenFlow 1.5.1,
//! 7.3.5.20).

use bytes::{BufMut, BytesMut};

use super::FlowKey;
use crate::matching::Match;
use crate::port::Port;
use crate::wire::{Malformed, Reader, put_length, put_zeros};

/// OFPTT_ALL, OFPG_ANY.
const ALL_TABLES: u8 = 255;
const ANY_GROUP: u32 = 0xffff_ffff;

/// OFPFMF_ADD, OFPFMF_REMOVED and OFPFMF_MODIFY. Without OFPFMF_NO_ABBREV what
/// the watcher itself changes comes as its number alone.
const ALL_CHANGES: u16 = 2 | 4 | 8;

/// OFPFMC_ADD.
const BEGIN: u8 = 0;

/// The number that the one watch of a session has.
const WATCH: u32 = 1;

/// OFPFME_*.
const ABBREVIATED: u16 = 4;
const PAUSED: u16 = 5;
const RESUMED: u16 = 6;

/// Something that happened to flows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FlowUpdate {
    /// Somebody else did something to a flow, or it ended by itself.
    Foreign {
        /// What.
        change: FlowChange,
        /// The flow.
        key: FlowKey,
        /// What it is, or was, marked with.
        cookie: u64,
    },
    /// The watcher did, by the message with this number.
    Own(u32),
    /// Too much waits to be read: only what goes is told for now.
    Paused,
    /// What came and changed meanwhile was told.
    Resumed,
}

/// What can happen to a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FlowChange {
    /// It was there when the watch began.
    Was,
    /// It came.
    Came,
    /// It went.
    Went,
    /// It does something else.
    Changed,
}

impl FlowChange {
    const ALL: [(u16, Self); 4] = [
        (0, Self::Was),
        (1, Self::Came),
        (2, Self::Went),
        (3, Self::Changed),
    ];
}

/// Asks for a watch of all flows.
pub(crate) fn encode_watch(out: &mut BytesMut) {
    out.put_u32(WATCH);
    out.put_u32(Port::ANY.number());
    out.put_u32(ANY_GROUP);
    out.put_u16(ALL_CHANGES);
    out.put_u8(ALL_TABLES);
    out.put_u8(BEGIN);
    Match::any().encode(out);
}

impl FlowUpdate {
    pub(crate) fn encode(&self, out: &mut BytesMut) {
        let start = out.len();
        out.put_u16(0);
        match self {
            Self::Foreign {
                change,
                key,
                cookie,
            } => {
                let events = FlowChange::ALL.iter().filter(|(_, of)| of == change);
                out.put_u16(events.map(|(number, _)| *number).sum());
                out.put_u8(key.table);
                // The reason, and two timeouts.
                put_zeros(out, 5);
                out.put_u16(key.priority);
                put_zeros(out, 4);
                out.put_u64(*cookie);
                key.fields.encode(out);
            }
            Self::Own(number) => {
                out.put_u16(ABBREVIATED);
                out.put_u32(*number);
            }
            Self::Paused => {
                out.put_u16(PAUSED);
                put_zeros(out, 4);
            }
            Self::Resumed => {
                out.put_u16(RESUMED);
                put_zeros(out, 4);
            }
        }
        put_length(out, start, start);
    }

    pub(crate) fn decode(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        let mut body = from.element("flow update", 0, 8)?;
        body.skip(2)?;
        let event = body.u16()?;
        match event {
            ABBREVIATED => return Ok(Self::Own(body.u32()?)),
            PAUSED => return Ok(Self::Paused),
            RESUMED => return Ok(Self::Resumed),
            _ => {}
        }
        let change = FlowChange::ALL.iter().find(|(number, _)| *number == event);
        let (_, change) = change.ok_or(Malformed::Value {
            what: "flow event",
            value: u64::from(event),
        })?;
        let table = body.u8()?;
        body.skip(5)?;
        let priority = body.u16()?;
        body.skip(4)?;
        let cookie = body.u64()?;
        let fields = Match::decode(&mut body)?;
        Ok(Self::Foreign {
            change: *change,
            key: FlowKey {
                table,
                priority,
                fields,
            },
            cookie,
        })
    }
}
