// SPDX-License-Identifier: Apache-2.0
//! Messages (OpenFlow 1.5.1, 7.1), both those that a client sends and those
//! that a switch does, so that each is tested by its counterpart.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::flow::{FlowMod, FlowStats, FlowUpdate, Selection, encode_watch};
use crate::meter::{HeldMeter, MeterFeatures, MeterId, MeterMod};
use crate::packet::{PacketIn, PacketOut};
use crate::port::{Port, PortStats};
use crate::refusal::Refusal;
use crate::wire::{Malformed, Reader, put_length, put_zeros};

/// OpenFlow 1.5.
const VERSION: u8 = 6;

/// Bytes of a header.
pub(crate) const HEADER: usize = 8;

/// OFPT_*.
const HELLO: u8 = 0;
const ERROR: u8 = 1;
const ECHO_REQUEST: u8 = 2;
const ECHO_REPLY: u8 = 3;
const FEATURES_REQUEST: u8 = 5;
const FEATURES_REPLY: u8 = 6;
const SET_CONFIG: u8 = 9;
const PACKET_IN: u8 = 10;
const PACKET_OUT: u8 = 13;
const FLOW_MOD: u8 = 14;
const MULTIPART_REQUEST: u8 = 18;
const MULTIPART_REPLY: u8 = 19;
const METER_MOD: u8 = 29;
const BUNDLE_CONTROL: u8 = 33;
const BUNDLE_ADD: u8 = 34;

/// OFPMP_*.
const FLOW_DESC: u16 = 1;
const PORT_STATS: u16 = 4;
const METER_DESC: u16 = 10;
const METER_FEATURES: u16 = 11;
const FLOW_MONITOR: u16 = 16;

/// OFPMPF_REPLY_MORE: another part follows.
const MORE: u16 = 1;

/// OFPBF_ATOMIC and OFPBF_ORDERED.
const ATOMIC_ORDERED: u16 = 3;

/// OFPHET_VERSIONBITMAP, with the bit of version 6.
const VERSIONS: [u8; 8] = [0, 1, 0, 8, 0, 0, 0, 1 << VERSION];

/// A message with its number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// What ties an answer to its request.
    pub xid: u32,
    /// What it says.
    pub body: Body,
}

/// What a message says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    /// The first one, from both sides.
    Hello,
    /// A request is refused.
    Error(Refusal),
    /// Are you there?
    EchoRequest(Bytes),
    /// Yes.
    EchoReply(Bytes),
    /// Which switch are you?
    FeaturesRequest,
    /// The one with this number; what else it can do is left out.
    FeaturesReply(u64),
    /// Of frames that no flow says more about, controllers get so many bytes;
    /// with 0 they are told nothing by itself (OFPT_SET_CONFIG).
    SetConfig(u16),
    /// A frame for the controllers.
    PacketIn(PacketIn),
    /// A frame from a controller.
    PacketOut(PacketOut),
    /// A change of the flows.
    FlowMod(FlowMod),
    /// A change of the meters.
    MeterMod(MeterMod),
    /// A question with a long answer.
    Question(Question),
    /// Such an answer, or a part of it.
    Answer {
        /// The part.
        answer: Answer,
        /// Whether another part follows.
        more: bool,
    },
    /// A step of a bundle's life.
    Bundle(Bundle, BundleStep),
    /// A change for a bundle.
    BundleAdd(Bundle, FlowMod),
    /// What this crate has no use for; its kind.
    Other(u8),
}

/// The number of a bundle, which its client gives.
pub(crate) type Bundle = u32;

/// Steps of a bundle's life (OFPBCT_*).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BundleStep {
    /// Begin one.
    Open,
    /// It has begun.
    Opened,
    /// Carry it out.
    Commit,
    /// It was.
    Committed,
    /// Drop it.
    Discard,
    /// It was.
    Discarded,
}

impl BundleStep {
    const ALL: [(u16, Self); 6] = [
        (0, Self::Open),
        (1, Self::Opened),
        (4, Self::Commit),
        (5, Self::Committed),
        (6, Self::Discard),
        (7, Self::Discarded),
    ];
}

/// A question with a long answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Question {
    /// Which flows?
    Flows(Selection),
    /// What has passed a port, or all?
    PortStats(Option<Port>),
    /// Which meters?
    Meters,
    /// What can meters do?
    MeterFeatures,
    /// What happens to flows from now on?
    Watch,
}

/// A long answer, or a part of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Flows.
    Flows(Vec<FlowStats>),
    /// Counters of ports.
    PortStats(Vec<PortStats>),
    /// Meters.
    Meters(Vec<HeldMeter>),
    /// What meters can do.
    MeterFeatures(MeterFeatures),
    /// What happened to flows. After the first such answer more come, with
    /// number 0, whenever something does.
    Updates(Vec<FlowUpdate>),
}

impl Message {
    /// Appends the message. False if it is too long for one; then nothing was
    /// appended.
    #[must_use]
    pub fn encode(&self, out: &mut BytesMut) -> bool {
        let start = out.len();
        header(self.body.kind(), self.xid, out);
        self.body.encode(self.xid, out);
        put_length(out, start + 2, start);
        let fits = out.len() - start <= usize::from(u16::MAX);
        if !fits {
            out.truncate(start);
        }
        fits
    }

    /// Takes a whole message off the front of the buffer, if one is there.
    ///
    /// # Errors
    /// The bytes are no OpenFlow 1.5; nothing after them can be read.
    pub fn decode(buffer: &mut BytesMut) -> Result<Option<Self>, Malformed> {
        let what = "message";
        let Some(head) = buffer.get(..HEADER) else {
            return Ok(None);
        };
        let mut head = Reader::new(what, head);
        let (version, kind) = (head.u8()?, head.u8()?);
        let (length, xid) = (usize::from(head.u16()?), head.u32()?);
        // The other side's hello may be of a later version.
        if version != VERSION && kind != HELLO && kind != ERROR {
            let value = u64::from(version);
            return Err(Malformed::Value { what, value });
        }
        if length < HEADER {
            return Err(Malformed::Length { what, length });
        }
        if buffer.len() < length {
            return Ok(None);
        }
        let mut bytes = buffer.split_to(length);
        bytes.advance(HEADER);
        let body = Body::decode(kind, &mut Reader::new(what, &bytes))?;
        Ok(Some(Self { xid, body }))
    }
}

fn header(kind: u8, xid: u32, out: &mut BytesMut) {
    out.put_u8(VERSION);
    out.put_u8(kind);
    out.put_u16(0);
    out.put_u32(xid);
}

impl Body {
    fn kind(&self) -> u8 {
        match self {
            Self::Hello => HELLO,
            Self::Error(_) => ERROR,
            Self::EchoRequest(_) => ECHO_REQUEST,
            Self::EchoReply(_) => ECHO_REPLY,
            Self::FeaturesRequest => FEATURES_REQUEST,
            Self::FeaturesReply(_) => FEATURES_REPLY,
            Self::SetConfig(_) => SET_CONFIG,
            Self::PacketIn(_) => PACKET_IN,
            Self::PacketOut(_) => PACKET_OUT,
            Self::FlowMod(_) => FLOW_MOD,
            Self::MeterMod(_) => METER_MOD,
            Self::Question(_) => MULTIPART_REQUEST,
            Self::Answer { .. } => MULTIPART_REPLY,
            Self::Bundle(..) => BUNDLE_CONTROL,
            Self::BundleAdd(..) => BUNDLE_ADD,
            Self::Other(kind) => *kind,
        }
    }

    fn encode(&self, xid: u32, out: &mut BytesMut) {
        match self {
            Self::Hello => out.put_slice(&VERSIONS),
            Self::Error(refusal) => refusal.encode(out),
            Self::EchoRequest(data) | Self::EchoReply(data) => out.put_slice(data),
            Self::FeaturesRequest | Self::Other(_) => {}
            Self::FeaturesReply(datapath) => {
                out.put_u64(*datapath);
                put_zeros(out, 16);
            }
            Self::SetConfig(bytes) => {
                out.put_u16(0);
                out.put_u16(*bytes);
            }
            Self::PacketIn(packet) => packet.encode(out),
            Self::PacketOut(packet) => packet.encode(out),
            Self::FlowMod(change) => change.encode(out),
            Self::MeterMod(change) => change.encode(out),
            Self::Question(question) => question.encode(out),
            Self::Answer { answer, more } => answer.encode(*more, out),
            Self::Bundle(bundle, step) => {
                out.put_u32(*bundle);
                let steps = BundleStep::ALL.iter();
                let number = steps.filter(|(_, s)| s == step).map(|(number, _)| *number);
                out.put_u16(number.sum());
                out.put_u16(ATOMIC_ORDERED);
            }
            Self::BundleAdd(bundle, change) => {
                out.put_u32(*bundle);
                put_zeros(out, 2);
                out.put_u16(ATOMIC_ORDERED);
                let start = out.len();
                // A message in a bundle has the number of what brings it.
                header(FLOW_MOD, xid, out);
                change.encode(out);
                put_length(out, start + 2, start);
            }
        }
    }

    fn decode(kind: u8, from: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(match kind {
            HELLO => Self::Hello,
            ERROR => Self::Error(Refusal::decode(from)?),
            ECHO_REQUEST => Self::EchoRequest(Bytes::copy_from_slice(from.rest())),
            ECHO_REPLY => Self::EchoReply(Bytes::copy_from_slice(from.rest())),
            FEATURES_REQUEST => Self::FeaturesRequest,
            FEATURES_REPLY => Self::FeaturesReply(from.u64()?),
            SET_CONFIG => {
                from.skip(2)?;
                Self::SetConfig(from.u16()?)
            }
            PACKET_IN => Self::PacketIn(PacketIn::decode(from)?),
            PACKET_OUT => Self::PacketOut(PacketOut::decode(from)?),
            FLOW_MOD => Self::FlowMod(FlowMod::decode(from)?),
            METER_MOD => Self::MeterMod(MeterMod::decode(from)?),
            MULTIPART_REQUEST => Question::decode(from)?.map_or(Self::Other(kind), Self::Question),
            MULTIPART_REPLY => match Answer::decode(from)? {
                None => Self::Other(kind),
                Some((answer, more)) => Self::Answer { answer, more },
            },
            BUNDLE_CONTROL => {
                let (bundle, number) = (from.u32()?, from.u16()?);
                let step = BundleStep::ALL.iter().find(|(n, _)| *n == number);
                step.map_or(Self::Other(kind), |(_, step)| Self::Bundle(bundle, *step))
            }
            BUNDLE_ADD => {
                let bundle = from.u32()?;
                from.skip(4)?;
                from.skip(HEADER)?;
                Self::BundleAdd(bundle, FlowMod::decode(from)?)
            }
            kind => Self::Other(kind),
        })
    }
}

fn multipart(kind: u16, more: bool, out: &mut BytesMut) {
    out.put_u16(kind);
    out.put_u16(if more { MORE } else { 0 });
    put_zeros(out, 4);
}

impl Question {
    fn encode(&self, out: &mut BytesMut) {
        match self {
            Self::Flows(selection) => {
                multipart(FLOW_DESC, false, out);
                selection.encode(out);
            }
            Self::PortStats(port) => {
                multipart(PORT_STATS, false, out);
                out.put_u32(port.unwrap_or(Port::ANY).number());
                put_zeros(out, 4);
            }
            Self::Meters => {
                multipart(METER_DESC, false, out);
                out.put_u32(MeterId::ALL);
                put_zeros(out, 4);
            }
            Self::MeterFeatures => multipart(METER_FEATURES, false, out),
            Self::Watch => {
                multipart(FLOW_MONITOR, false, out);
                encode_watch(out);
            }
        }
    }

    fn decode(from: &mut Reader<'_>) -> Result<Option<Self>, Malformed> {
        let kind = from.u16()?;
        from.skip(6)?;
        Ok(match kind {
            FLOW_DESC => Some(Self::Flows(Selection::decode(from)?)),
            PORT_STATS => Some(Self::PortStats(Port::try_from(from.u32()?).ok())),
            METER_DESC => Some(Self::Meters),
            METER_FEATURES => Some(Self::MeterFeatures),
            FLOW_MONITOR => Some(Self::Watch),
            _ => None,
        })
    }
}

impl Answer {
    fn encode(&self, more: bool, out: &mut BytesMut) {
        match self {
            Self::Flows(flows) => {
                multipart(FLOW_DESC, more, out);
                flows.iter().for_each(|flow| flow.encode(out));
            }
            Self::PortStats(ports) => {
                multipart(PORT_STATS, more, out);
                ports.iter().for_each(|port| port.encode(out));
            }
            Self::Meters(meters) => {
                multipart(METER_DESC, more, out);
                meters.iter().for_each(|meter| meter.encode(out));
            }
            Self::MeterFeatures(features) => {
                multipart(METER_FEATURES, more, out);
                features.encode(out);
            }
            Self::Updates(updates) => {
                multipart(FLOW_MONITOR, more, out);
                updates.iter().for_each(|update| update.encode(out));
            }
        }
    }

    fn decode(from: &mut Reader<'_>) -> Result<Option<(Self, bool)>, Malformed> {
        let (kind, flags) = (from.u16()?, from.u16()?);
        from.skip(4)?;
        let answer = match kind {
            FLOW_DESC => Self::Flows(all(from, FlowStats::decode)?),
            PORT_STATS => Self::PortStats(all(from, PortStats::decode)?),
            METER_DESC => Self::Meters(all(from, HeldMeter::decode)?),
            METER_FEATURES => Self::MeterFeatures(MeterFeatures::decode(from)?),
            FLOW_MONITOR => Self::Updates(all(from, FlowUpdate::decode)?),
            _ => return Ok(None),
        };
        Ok(Some((answer, flags & MORE != 0)))
    }
}

fn all<'a, T>(
    from: &mut Reader<'a>,
    mut one: impl FnMut(&mut Reader<'a>) -> Result<T, Malformed>,
) -> Result<Vec<T>, Malformed> {
    let mut read = Vec::new();
    while !from.is_empty() {
        read.push(one(from)?);
    }
    Ok(read)
}
