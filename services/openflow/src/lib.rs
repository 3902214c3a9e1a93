// SPDX-License-Identifier: Apache-2.0
//! An OpenFlow 1.5 client for Open vSwitch, as far as forwarding by flows that
//! change all at once takes it: flows in bundles, meters, counters of ports.
//!
//! A [`Session`] has one owner and no tasks of its own. What is read back from
//! a switch compares equal to what was given to it, so that the difference of
//! two sets of flows is the change that is needed.

mod action;
mod failure;
mod field;
mod flow;
mod matching;
mod message;
mod meter;
mod packet;
mod port;
mod refusal;
mod session;
mod subfield;
mod wire;

pub use action::{Action, Learn, Learnt, Part, VlanType};
pub use failure::{ApplyError, OpenError, SessionError};
pub use field::{Field, FieldValue, Reg};
pub use flow::{Cookies, Flow, FlowChange, FlowKey, FlowMod, FlowStats, FlowUpdate, Selection};
pub use matching::{Masked, Match, Vlan, Word};
pub use message::{Answer, Body, BundleStep, Message, Question};
pub use meter::{HeldMeter, Meter, MeterFeatures, MeterId, MeterMod, NoMeter};
pub use packet::{PacketIn, PacketOut};
pub use port::{NoPort, Port, PortStats};
pub use refusal::{Fault, Refusal};
pub use session::{Session, Told};
pub use subfield::{Constant, Subfield, Transfer};
pub use wire::Malformed;
