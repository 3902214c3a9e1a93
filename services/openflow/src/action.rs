// SPDX-License-Identifier: Apache-2.0
//! What is done with a frame.

mod codec;
mod learn;

use std::fmt;

use bytes::Bytes;

use crate::field::{Field, FieldValue, Reg, Shown, VLAN_PRESENT};
use crate::matching::{Hex, Masked};
use crate::meter::MeterId;
use crate::port::Port;
use crate::subfield::Transfer;

pub(crate) use codec::{decode_list, encode_list};
pub use learn::{Learn, Learnt, Part};

/// One thing that is done with a frame. Changes count for what comes after.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Action {
    /// It goes out of this port, but never where it came in, unless that is
    /// what [`Port::IN_PORT`] asks for.
    Output(Port),
    /// It goes out of the port whose number stands in this register, where
    /// [`Port::LOCAL`] is 65534; what [`Field::InPort`] says for it is no port
    /// here. 0 is no port, and neither is where it came in.
    OutputReg(Reg),
    /// It gets another, outermost tag of this Ethernet type, with the VLAN and
    /// priority of the one before, if there was one.
    PushVlan(VlanType),
    /// Its outermost tag goes.
    PopVlan,
    /// A field, or a part of it, gets a value.
    Set(FieldValue),
    /// A field, or a part of it, gets the value of another.
    Copy(Transfer),
    /// It goes through a table as if it had come in there, and back here.
    Resubmit {
        /// What [`Field::InPort`] is meanwhile; [`Port::IN_PORT`] for what it
        /// is now.
        port: Port,
        /// The table; 255 for the one where the frame is.
        table: u8,
    },
    /// A flow is added that follows from the frame.
    Learn(Box<Learn>),
    /// These are done with a copy of it, and its changes are forgotten.
    Clone(Vec<Action>),
    /// It goes on only while this meter has room.
    Meter(MeterId),
    /// Another action, as it was read.
    Unknown(Bytes),
}

/// The Ethernet type of a tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum VlanType {
    /// 0x8100, IEEE 802.1Q.
    Customer,
    /// 0x88a8, IEEE 802.1ad.
    Service,
}

impl VlanType {
    fn number(self) -> u16 {
        match self {
            Self::Customer => 0x8100,
            Self::Service => 0x88a8,
        }
    }
}

impl Action {
    /// Sets a register, or a part of it. None if the mask is empty, since then
    /// there is nothing to do.
    #[must_use]
    pub fn set_reg(reg: Reg, value: impl Into<Masked<u32>>) -> Option<Self> {
        let Masked { value, mask } = value.into();
        let (value, mask) = (u128::from(value), u128::from(mask));
        FieldValue::new(Field::Reg(reg), value, mask).map(Self::Set)
    }

    /// Sets the VLAN of the frame's tag, of which there has to be one. Of the
    /// number, 12 bits count.
    #[must_use]
    pub fn set_vlan(vid: u16) -> Option<Self> {
        let vid = u128::from(vid & 0x0fff | VLAN_PRESENT);
        FieldValue::new(Field::VlanVid, vid, Field::VlanVid.ones()).map(Self::Set)
    }
}

/// In the notation of `ovs-ofctl`. Actions that this crate doesn't know are
/// shown as bytes, which `ovs-ofctl` doesn't read.
impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Output(port) => write!(f, "output:{port}"),
            Self::OutputReg(reg) => write!(f, "output:{}[]", Field::Reg(*reg).name()),
            Self::PushVlan(kind) => write!(f, "push_vlan:{:#06x}", kind.number()),
            Self::PopVlan => f.write_str("pop_vlan"),
            Self::Set(value) => write!(f, "set_field:{}->{}", Shown(value), value.field().name()),
            Self::Copy(bits) => write!(f, "move:{}->{}", bits.from(), bits.to()),
            Self::Resubmit { port, table } => {
                f.write_str("resubmit(")?;
                if *port != Port::IN_PORT {
                    write!(f, "{port}")?;
                }
                f.write_str(",")?;
                if *table != 255 {
                    write!(f, "{table}")?;
                }
                f.write_str(")")
            }
            Self::Learn(learn) => learn.fmt(f),
            Self::Clone(actions) => write!(f, "clone({})", List(actions)),
            Self::Meter(id) => write!(f, "meter:{id}"),
            Self::Unknown(bytes) => write!(f, "unknown:{}", Hex(bytes)),
        }
    }
}

/// Actions, with commas between.
pub(crate) struct List<'a>(pub(crate) &'a [Action]);

impl fmt::Display for List<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for action in self.0 {
            write!(f, "{separator}{action}")?;
            separator = ",";
        }
        Ok(())
    }
}
