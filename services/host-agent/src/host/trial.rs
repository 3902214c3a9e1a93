// SPDX-License-Identifier: Apache-2.0
//! One change that may cut the host off, and how far it is.

use std::time::Duration;

use dvs_schemas::{Revision, Timestamp};

use crate::datapath::StepFailure;
use crate::held::HeldSwitch;
use crate::plan::wanted_port;
use crate::uplinks::{Change, PortSettings, Setting, UplinkSettings, asked_by};

/// Where a change is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// Its agent died on the way.
    Found,
    /// It is being carried out.
    Beginning,
    /// The bus is to be heard: asked from `ask` on, and heard by `until`.
    OnTrial { ask: Timestamp, until: Timestamp },
    /// The bus was heard with a part of it in force. The rest is on trial once
    /// it is carried out; until then the bus may be away for as long as it will.
    InPart,
    /// It is being rolled back.
    RollingBack,
    /// It was rolled back.
    RolledBack,
}

#[derive(Debug)]
pub(super) struct Trial {
    pub(super) change: Change,
    pub(super) stage: Stage,
    /// Why the rest of it was not carried out, in the datapath's words; none if
    /// all of it was. The rest may come at any time.
    pub(super) rest: Option<Rest>,
    /// Whether somebody was heard over the bus with it in force. Good enough
    /// to go back to, though what takes hold late may still come.
    pub(super) heard: bool,
}

/// What keeps a change from being carried out wholly.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Rest {
    /// Nobody has said yet.
    Unsaid,
    /// The datapath's reason.
    Failed(StepFailure),
}

impl Stage {
    /// The bus is asked when a third of the bound is over: what takes hold
    /// late, like the first answer of a partner that never comes, must show.
    pub(super) fn on_trial(now: Timestamp, bound: Duration) -> Self {
        Self::OnTrial {
            ask: now.after(bound / 3),
            until: now.after(bound),
        }
    }
}

/// What the state held asks for in place of a setting, and by which revision;
/// none if nobody asks for it any more.
pub(super) fn wanted(setting: &Setting, held: &HeldSwitch) -> Option<(Setting, Revision)> {
    match setting {
        Setting::Uplinks(_) => {
            let settings = held.settings.as_ref()?;
            let wanted = UplinkSettings::of(&settings.value);
            Some((Setting::Uplinks(wanted), settings.revision))
        }
        Setting::Port(port, _) => {
            let wanted = wanted_port(held, port).ok()??;
            let wanted = Setting::Port(port.clone(), PortSettings::of(&wanted));
            Some((wanted, asked_by(held, port)?))
        }
    }
}
