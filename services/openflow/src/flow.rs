// SPDX-License-Identifier: Apache-2.0
//! Flows: which frames, and what is done with them.

mod codec;
mod update;

use std::fmt;
use std::time::Duration;

use bytes::Bytes;

use crate::action::{Action, List};
use crate::matching::{Hex, Match};
use crate::port::Port;

pub(crate) use update::encode_watch;
pub use update::{FlowChange, FlowUpdate};

/// A rule of a switch. Within a table the flow with the highest priority that
/// matches a frame counts; if there is none, the frame is dropped.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Flow {
    /// Its table, up to 253: Open vSwitch keeps 254 for itself.
    pub table: u8,
    /// Its priority.
    pub priority: u16,
    /// Which frames it is for. With table and priority it is what makes it
    /// this flow: the switch has no two that agree in all three.
    pub fields: Match,
    /// What its owner marked it with.
    pub cookie: u64,
    /// It ends after so many seconds without a frame; 0: never.
    pub idle_timeout: u16,
    /// It ends after so many seconds; 0: never.
    pub hard_timeout: u16,
    /// What is done with the frame, in this order. With none, and without
    /// [`Self::goto`], it is dropped.
    pub actions: Vec<Action>,
    /// The table where it goes on after that; a higher one than its own.
    pub goto: Option<u8>,
    /// Other instructions, as they were read.
    pub others: Vec<Bytes>,
}

/// What makes a flow this flow.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FlowKey {
    /// Its table.
    pub table: u8,
    /// Its priority.
    pub priority: u16,
    /// Which frames it is for.
    pub fields: Match,
}

impl Flow {
    /// What makes it this flow.
    #[must_use]
    pub fn key(&self) -> FlowKey {
        FlowKey {
            table: self.table,
            priority: self.priority,
            fields: self.fields.clone(),
        }
    }
}

/// Which cookies are meant: those whose bits under the mask are these. The
/// default is all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cookies {
    /// The bits.
    pub value: u64,
    /// Which bits.
    pub mask: u64,
}

impl Cookies {
    /// This one alone.
    #[must_use]
    pub fn only(cookie: u64) -> Self {
        Self {
            value: cookie,
            mask: u64::MAX,
        }
    }

    /// True if this one is meant.
    #[must_use]
    pub fn hold(self, cookie: u64) -> bool {
        cookie & self.mask == self.value & self.mask
    }
}

/// A change of the flows (OpenFlow 1.5.1, 7.3.4.2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FlowMod {
    /// This flow is there. One with its key is replaced, and counts anew.
    Add(Flow),
    /// The flow with this key does this from now on. It keeps its cookie, its
    /// timeouts and its counters. If there is none, nothing happens.
    Modify(Flow),
    /// There is no flow with this key.
    Delete(FlowKey),
    /// There is none of these.
    DeleteAll(Selection),
}

/// Which flows are meant: those that agree with all of it. The default is all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selection {
    /// Of this table.
    pub table: Option<u8>,
    /// With such a cookie.
    pub cookies: Cookies,
    /// With an output to this port among their actions.
    pub out_port: Option<Port>,
    /// For frames of this match, and maybe for fewer.
    pub fields: Match,
}

/// A flow, and what passed it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FlowStats {
    /// The flow.
    pub flow: Flow,
    /// How long it has been there, if the switch says so.
    pub age: Option<Duration>,
    /// Frames that it was for.
    pub packets: Option<u64>,
    /// Their bytes.
    pub bytes: Option<u64>,
}

impl fmt::Display for FlowKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            table,
            priority,
            fields,
        } = self;
        write!(f, "table={table},priority={priority}")?;
        separate(f, fields)
    }
}

fn separate(f: &mut fmt::Formatter<'_>, fields: &Match) -> fmt::Result {
    if *fields == Match::any() {
        return Ok(());
    }
    write!(f, ",{fields}")
}

/// In the notation of `ovs-ofctl`.
impl fmt::Display for Flow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            table,
            priority,
            fields,
            cookie,
            idle_timeout,
            hard_timeout,
            actions,
            goto,
            others,
        } = self;
        write!(f, "cookie={cookie:#x},table={table}")?;
        for (name, seconds) in [
            ("idle_timeout", idle_timeout),
            ("hard_timeout", hard_timeout),
        ] {
            if *seconds != 0 {
                write!(f, ",{name}={seconds}")?;
            }
        }
        write!(f, ",priority={priority}")?;
        separate(f, fields)?;
        write!(f, " actions={}", List(actions))?;
        let mut separator = if actions.is_empty() { "" } else { "," };
        for other in others {
            write!(f, "{separator}unknown:{}", Hex(other))?;
            separator = ",";
        }
        match goto {
            Some(table) => write!(f, "{separator}goto_table:{table}"),
            None if actions.is_empty() && others.is_empty() => f.write_str("drop"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Selection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            table,
            cookies: Cookies { value, mask },
            out_port,
            fields,
        } = self;
        write!(f, "cookie={value:#x}/{mask:#x}")?;
        if let Some(table) = table {
            write!(f, ",table={table}")?;
        }
        if let Some(port) = out_port {
            write!(f, ",out_port={port}")?;
        }
        separate(f, fields)
    }
}

impl fmt::Display for FlowMod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Add(flow) => write!(f, "add {flow}"),
            Self::Modify(flow) => write!(f, "modify {flow}"),
            Self::Delete(key) => write!(f, "delete {key}"),
            Self::DeleteAll(these) => write!(f, "delete all {these}"),
        }
    }
}
