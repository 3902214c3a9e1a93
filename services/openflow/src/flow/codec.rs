// SPDX-License-Identifier: Apache-2.0
//! Flows on the wire: changes (OpenFlow 1.5.1, 7.3.4.2), questions and
//! descriptions (7.3.5.2), instructions (7.2.5), statistics (7.2.4).

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};

use super::{Cookies, Flow, FlowKey, FlowMod, FlowStats, Selection};
use crate::action::{decode_list, encode_list};
use crate::matching::Match;
use crate::port::{Port, age, put_age};
use crate::wire::{Malformed, Reader, pad, put_length, put_zeros};

/// OFPFC_*. Of modifying there is only the strict kind here.
const ADD: u8 = 0;
const MODIFY_STRICT: u8 = 2;
const DELETE: u8 = 3;
const DELETE_STRICT: u8 = 4;

/// OFPTT_ALL, OFPG_ANY, OFP_NO_BUFFER.
const ALL_TABLES: u8 = 255;
const ANY_GROUP: u32 = 0xffff_ffff;
const NO_BUFFER: u32 = 0xffff_ffff;

/// OFPIT_*.
const GOTO_TABLE: u16 = 1;
const APPLY_ACTIONS: u16 = 4;

/// The class of statistics, OFPXSC_OPENFLOW_BASIC, and OFPXST_OFB_*.
const BASIC: u16 = 0x8002;
const DURATION: u8 = 0;
const PACKETS: u8 = 4;
const BYTES: u8 = 5;

struct Fixed {
    cookies: Cookies,
    table: u8,
    command: u8,
    idle_timeout: u16,
    hard_timeout: u16,
    priority: u16,
    out_port: Option<Port>,
}

impl Fixed {
    fn encode(&self, out: &mut BytesMut) {
        out.put_u64(self.cookies.value);
        out.put_u64(self.cookies.mask);
        out.put_u8(self.table);
        out.put_u8(self.command);
        out.put_u16(self.idle_timeout);
        out.put_u16(self.hard_timeout);
        out.put_u16(self.priority);
        out.put_u32(NO_BUFFER);
        out.put_u32(self.out_port.unwrap_or(Port::ANY).number());
        out.put_u32(ANY_GROUP);
        put_zeros(out, 4);
    }

    fn decode(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        let cookies = Cookies {
            value: from.u64()?,
            mask: from.u64()?,
        };
        let (table, command) = (from.u8()?, from.u8()?);
        let (idle_timeout, hard_timeout, priority) = (from.u16()?, from.u16()?, from.u16()?);
        from.skip(4)?;
        let out_port = Port::try_from(from.u32()?).ok();
        from.skip(8)?;
        Ok(Self {
            cookies,
            table,
            command,
            idle_timeout,
            hard_timeout,
            priority,
            out_port,
        })
    }
}

impl FlowMod {
    pub(crate) fn encode(&self, out: &mut BytesMut) {
        let all = Cookies::default();
        let fixed = |command, table, priority, cookies| Fixed {
            cookies,
            table,
            command,
            idle_timeout: 0,
            hard_timeout: 0,
            priority,
            out_port: None,
        };
        let with = |command, flow: &Flow, out: &mut BytesMut| {
            // The mask of the cookie says what is changed; nothing is.
            let cookies = Cookies {
                value: flow.cookie,
                mask: 0,
            };
            Fixed {
                idle_timeout: flow.idle_timeout,
                hard_timeout: flow.hard_timeout,
                ..fixed(command, flow.table, flow.priority, cookies)
            }
            .encode(out);
            flow.fields.encode(out);
            encode_instructions(flow, out);
        };
        match self {
            Self::Add(flow) => with(ADD, flow, out),
            Self::Modify(flow) => with(MODIFY_STRICT, flow, out),
            Self::Delete(key) => {
                fixed(DELETE_STRICT, key.table, key.priority, all).encode(out);
                key.fields.encode(out);
            }
            Self::DeleteAll(these) => {
                let table = these.table.unwrap_or(ALL_TABLES);
                Fixed {
                    out_port: these.out_port,
                    ..fixed(DELETE, table, 0, these.cookies)
                }
                .encode(out);
                these.fields.encode(out);
            }
        }
    }

    pub(crate) fn decode(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        let fixed = Fixed::decode(from)?;
        let fields = Match::decode(from)?;
        let Fixed {
            cookies,
            table,
            command,
            idle_timeout,
            hard_timeout,
            priority,
            out_port,
        } = fixed;
        let flow = |fields| Flow {
            table,
            priority,
            fields,
            cookie: cookies.value,
            idle_timeout,
            hard_timeout,
            ..Flow::default()
        };
        match command {
            ADD => Ok(Self::Add(decode_instructions(flow(fields), from)?)),
            MODIFY_STRICT => Ok(Self::Modify(decode_instructions(flow(fields), from)?)),
            DELETE => Ok(Self::DeleteAll(Selection {
                table: Some(table).filter(|table| *table != ALL_TABLES),
                cookies,
                out_port,
                fields,
            })),
            DELETE_STRICT => Ok(Self::Delete(FlowKey {
                table,
                priority,
                fields,
            })),
            other => Err(Malformed::Value {
                what: "flow command",
                value: u64::from(other),
            }),
        }
    }
}

impl Selection {
    pub(crate) fn encode(&self, out: &mut BytesMut) {
        out.put_u8(self.table.unwrap_or(ALL_TABLES));
        put_zeros(out, 3);
        out.put_u32(self.out_port.unwrap_or(Port::ANY).number());
        out.put_u32(ANY_GROUP);
        put_zeros(out, 4);
        out.put_u64(self.cookies.value);
        out.put_u64(self.cookies.mask);
        self.fields.encode(out);
    }

    pub(crate) fn decode(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        let table = Some(from.u8()?).filter(|table| *table != ALL_TABLES);
        from.skip(3)?;
        let out_port = Port::try_from(from.u32()?).ok();
        from.skip(8)?;
        let cookies = Cookies {
            value: from.u64()?,
            mask: from.u64()?,
        };
        Ok(Self {
            table,
            cookies,
            out_port,
            fields: Match::decode(from)?,
        })
    }
}

fn encode_instructions(flow: &Flow, out: &mut BytesMut) {
    if !flow.actions.is_empty() {
        let start = out.len();
        out.put_u16(APPLY_ACTIONS);
        out.put_u16(0);
        put_zeros(out, 4);
        encode_list(&flow.actions, out);
        put_length(out, start + 2, start);
    }
    for other in &flow.others {
        out.extend_from_slice(other);
    }
    if let Some(table) = flow.goto {
        out.put_u16(GOTO_TABLE);
        out.put_u16(8);
        out.put_u8(table);
        put_zeros(out, 3);
    }
}

fn decode_instructions(mut flow: Flow, from: &mut Reader<'_>) -> Result<Flow, Malformed> {
    while !from.is_empty() {
        let mut body = from.element("instruction", 2, 8)?;
        let bytes = body.rest();
        let (kind, _) = (body.u16()?, body.u16()?);
        match kind {
            // Only the first list of actions can be the one of a flow.
            APPLY_ACTIONS if flow.actions.is_empty() => {
                body.skip(4)?;
                flow.actions = decode_list(body)?;
            }
            // OpenFlow 1.5, 5.9: a flow has one of each kind at most, so this is
            // no flow that anything could be made of.
            GOTO_TABLE => {
                let table = body.u8()?;
                if flow.goto.replace(table).is_some() {
                    return Err(Malformed::Value {
                        what: "second table to go to",
                        value: u64::from(table),
                    });
                }
            }
            _ => flow.others.push(Bytes::copy_from_slice(bytes)),
        }
    }
    Ok(flow)
}

impl FlowStats {
    pub(crate) fn encode(&self, out: &mut BytesMut) {
        let flow = &self.flow;
        let start = out.len();
        put_zeros(out, 4);
        out.put_u8(flow.table);
        put_zeros(out, 1);
        out.put_u16(flow.priority);
        out.put_u16(flow.idle_timeout);
        out.put_u16(flow.hard_timeout);
        put_zeros(out, 4);
        out.put_u64(flow.cookie);
        flow.fields.encode(out);
        self.encode_counters(out);
        encode_instructions(flow, out);
        put_length(out, start, start);
    }

    fn encode_counters(&self, out: &mut BytesMut) {
        let start = out.len();
        put_zeros(out, 4);
        let header = |out: &mut BytesMut, number: u8| {
            out.put_u16(BASIC);
            out.put_u8(number << 1);
            out.put_u8(8);
        };
        if let Some(age) = self.age {
            header(out, DURATION);
            put_age(out, age);
        }
        for (number, counter) in [(PACKETS, self.packets), (BYTES, self.bytes)] {
            if let Some(count) = counter {
                header(out, number);
                out.put_u64(count);
            }
        }
        put_length(out, start + 2, start);
        pad(out, start);
    }

    pub(crate) fn decode(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        let mut body = from.element("flow", 0, 32)?;
        body.skip(4)?;
        let table = body.u8()?;
        body.skip(1)?;
        let (priority, idle_timeout, hard_timeout) = (body.u16()?, body.u16()?, body.u16()?);
        // Flags and importance: none of ours has them.
        body.skip(4)?;
        let cookie = body.u64()?;
        let fields = Match::decode(&mut body)?;
        let (age, packets, bytes) = decode_counters(&mut body)?;
        let flow = Flow {
            table,
            priority,
            fields,
            cookie,
            idle_timeout,
            hard_timeout,
            ..Flow::default()
        };
        Ok(Self {
            flow: decode_instructions(flow, &mut body)?,
            age,
            packets,
            bytes,
        })
    }
}

type Counters = (Option<Duration>, Option<u64>, Option<u64>);

fn decode_counters(from: &mut Reader<'_>) -> Result<Counters, Malformed> {
    let mut body = from.element("flow statistics", 2, 4)?;
    let length = body.rest().len();
    from.skip(length.next_multiple_of(8) - length)?;
    body.skip(4)?;
    let (mut lasted, mut packets, mut bytes) = (None, None, None);
    while !body.is_empty() {
        let (class, number, length) = (body.u16()?, body.u8()? >> 1, body.u8()?);
        let mut value = body.part("flow statistic", usize::from(length))?;
        match (class, number) {
            (BASIC, DURATION) => lasted = Some(age(&mut value)?),
            (BASIC, PACKETS) => packets = Some(value.u64()?),
            (BASIC, BYTES) => bytes = Some(value.u64()?),
            _ => {}
        }
    }
    Ok((lasted, packets, bytes))
}
