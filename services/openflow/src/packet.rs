// SPDX-License-Identifier: Apache-2.0
//! Frames between a switch and its client (OpenFlow 1.5.1, 7.3.6 and 7.4.1).

use bytes::{BufMut, Bytes, BytesMut};

use crate::action::{Action, decode_list, encode_list};
use crate::matching::Match;
use crate::port::Port;
use crate::wire::{Malformed, Reader, put_length, put_zeros};

/// OFP_NO_BUFFER: the frame is in the message.
const NO_BUFFER: u32 = 0xffff_ffff;

/// A frame that a flow sent to its controllers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PacketIn {
    /// The flow's table.
    pub table: u8,
    /// The flow's cookie.
    pub cookie: u64,
    /// Why it comes (OFPR_*).
    pub reason: u8,
    /// Bytes of the whole frame.
    pub length: u16,
    /// What the switch knew of the frame, such as the port where it came in.
    pub fields: Match,
    /// As much of the frame as the flow said, from its first byte on.
    pub data: Bytes,
}

/// A frame for a switch to act on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PacketOut {
    /// What the switch is to know of it: the port where it counts as come in,
    /// at least.
    pub fields: Match,
    /// What is done with it.
    pub actions: Vec<Action>,
    /// The frame.
    pub data: Bytes,
}

impl PacketIn {
    pub(crate) fn encode(&self, out: &mut BytesMut) {
        out.put_u32(NO_BUFFER);
        out.put_u16(self.length);
        out.put_u8(self.reason);
        out.put_u8(self.table);
        out.put_u64(self.cookie);
        self.fields.encode(out);
        put_zeros(out, 2);
        out.extend_from_slice(&self.data);
    }

    pub(crate) fn decode(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        from.skip(4)?;
        let length = from.u16()?;
        let (reason, table, cookie) = (from.u8()?, from.u8()?, from.u64()?);
        let fields = Match::decode(from)?;
        from.skip(2)?;
        Ok(Self {
            table,
            cookie,
            reason,
            length,
            fields,
            data: Bytes::copy_from_slice(from.rest()),
        })
    }
}

impl PacketOut {
    /// A frame that counts as come in by a port and goes the way of all frames,
    /// from the first table on.
    #[must_use]
    pub fn as_if_from(port: Port, data: Bytes) -> Self {
        Self {
            fields: Match::any().in_port(port),
            actions: vec![Action::Output(Port::TABLE)],
            data,
        }
    }

    pub(crate) fn encode(&self, out: &mut BytesMut) {
        out.put_u32(NO_BUFFER);
        let length = out.len();
        put_zeros(out, 4);
        self.fields.encode(out);
        let start = out.len();
        encode_list(&self.actions, out);
        put_length(out, length, start);
        out.extend_from_slice(&self.data);
    }

    pub(crate) fn decode(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        from.skip(4)?;
        let length = usize::from(from.u16()?);
        from.skip(2)?;
        Ok(Self {
            fields: Match::decode(from)?,
            actions: decode_list(from.part("actions", length)?)?,
            data: Bytes::copy_from_slice(from.rest()),
        })
    }
}
