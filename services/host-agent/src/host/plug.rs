// SPDX-License-Identifier: Apache-2.0
//! One plug: what the host wants of its port, and how far that is.

use std::time::Duration;

use dvs_schemas::v1::{Activity, Machine, PortState};
use dvs_schemas::{Epoch, HostName, MacAddr, PortId, Timestamp, VnicId};

use super::yielding::Sought;
use crate::ledger::KeptPlug;

/// How long after a claim was made it may still arrive and bring the port, if
/// nobody knows its end: longer than anybody waits for an answer. A host that
/// was off the bus hears of it once it is back.
pub(super) const LATE: Duration = Duration::from_secs(60);

/// What is plugged in, as far as whoever plugged it says so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Plugged {
    pub(super) vnic: Option<VnicId>,
    pub(super) mac: Option<MacAddr>,
}

impl Plugged {
    /// True if this is the connected vNIC, as far as anybody knows.
    pub(super) fn is_of(&self, connected: Option<&VnicId>) -> bool {
        self.vnic.is_none() || self.vnic.as_ref() == connected
    }
}

/// What the host wants of a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Wish {
    /// This is plugged in here.
    Have(Plugged),
    /// It was plugged in here, in this epoch; none if it was never the host's.
    GiveBack(Option<Epoch>),
    /// It was never the host's, and nobody knew of a claim.
    TakeBackOnceMore,
    /// It is given to another host, whose machine runs.
    Yield {
        /// What is plugged in here; none if nothing is.
        plugged: Option<Plugged>,
        /// The placement that ends.
        epoch: Epoch,
        /// Who gets it.
        to: HostName,
    },
}

/// How far that is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// It was plugged in before the agent started. Whether it still is, the
    /// datapath says by that time; there is none until it was read.
    Recalled(Option<Timestamp>),
    /// To be asked for at that time.
    Due(Timestamp),
    /// Asked for.
    Asked,
    /// Nothing is to be asked: the port is the host's.
    Answered,
    /// It is given back. Should it come all the same until that time, by a claim
    /// that was late on its way, it is given back again.
    Given(Timestamp),
}

/// A vNIC that is plugged in, or just went.
#[derive(Debug, Clone)]
pub(super) struct Plug {
    pub(super) wish: Wish,
    /// What a claim was granted; the port itself may be on its way.
    pub(super) granted: Option<Epoch>,
    /// The vNIC that was plugged in, of what is given back.
    pub(super) was: Option<VnicId>,
    /// Until then the port may come by a claim that was made before, and that
    /// nobody knows the end of.
    pub(super) late: Option<Timestamp>,
    /// What is wanted once the port is given back: another vNIC is plugged in
    /// by now.
    pub(super) next: Option<Plugged>,
    /// The placement that was given back for what is plugged in by now: the
    /// host may hold the port in it for a moment more, and a claim that named
    /// it would be refused.
    pub(super) ended: Option<Epoch>,
    /// True from when the port was given to another host until the machine is
    /// heard of again: it runs there.
    pub(super) is_elsewhere: bool,
    /// What the last claim said of the machine.
    pub(super) said: Option<Machine>,
    /// Who else wants the port.
    pub(super) sought: Option<Sought>,
    pub(super) stage: Stage,
    /// Questions in a row without success.
    pub(super) attempt: u32,
    /// True if the last answer was that the claim waits.
    pub(super) waits: bool,
    /// Why the vNIC has no port, as far as the publisher said.
    pub(super) trouble: Option<Trouble>,
}

/// Why a vNIC that is plugged in has no port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Trouble {
    /// Its claim waits for this host.
    Held(HostName),
    /// Its claim was refused, or not answered, and why.
    Refused(String),
}

impl Plug {
    /// This is plugged in.
    pub(super) fn there(plugged: Plugged, stage: Stage) -> Self {
        Self {
            wish: Wish::Have(plugged),
            granted: None,
            was: None,
            late: None,
            next: None,
            ended: None,
            is_elsewhere: false,
            said: None,
            sought: None,
            stage,
            attempt: 0,
            waits: false,
            trouble: None,
        }
    }

    /// The vNIC is plugged in no more; `epoch` is that of the port, if the host
    /// holds it. `before`: what was known of the plug.
    pub(super) fn pulled(now: Timestamp, epoch: Option<Epoch>, before: Option<&Self>) -> Self {
        Self {
            wish: Wish::GiveBack(epoch),
            granted: None,
            was: before.and_then(Self::vnic).cloned(),
            late: before.and_then(|before| before.may_come_until(now)),
            next: None,
            ended: None,
            // At once: a machine may wait elsewhere. What the port came to
            // is reported by its epoch, before or after.
            stage: Stage::Due(now),
            is_elsewhere: false,
            said: None,
            sought: None,
            attempt: 0,
            waits: false,
            trouble: None,
        }
    }

    /// Until when the port may come by a claim that was made for it. That may
    /// be over already, and begins anew where the bus comes back.
    pub(super) fn may_come_until(&self, now: Timestamp) -> Option<Timestamp> {
        let is_open = match &self.wish {
            // One that waits may just be granted.
            // One that was refused is granted when its port is made.
            Wish::Have(_) => self.trouble.is_some() || self.waits || self.stage == Stage::Asked,
            // What was granted and is not given back yet.
            Wish::GiveBack(Some(_)) | Wish::Yield { .. } => !matches!(self.stage, Stage::Given(_)),
            Wish::GiveBack(None) | Wish::TakeBackOnceMore => false,
        };
        let open = is_open.then(|| now.after(LATE));
        open.max(self.late)
    }

    /// What a claim says of the machine behind the vNIC.
    pub(super) fn word(&self, machine: &Machine) -> Machine {
        let Machine { id, activity } = machine.clone();
        let activity = if self.is_elsewhere {
            Activity::Stopped
        } else {
            activity
        };
        Machine { id, activity }
    }

    /// The vNIC that this is about, if it is known.
    pub(super) fn vnic(&self) -> Option<&VnicId> {
        match &self.wish {
            Wish::Have(plugged) => plugged.vnic.as_ref(),
            Wish::Yield { plugged, .. } => plugged.as_ref()?.vnic.as_ref(),
            Wish::GiveBack(_) | Wish::TakeBackOnceMore => self.was.as_ref(),
        }
    }

    /// What is kept of it.
    pub(super) fn kept(&self, port: &PortId) -> KeptPlug {
        let yields = match &self.wish {
            // The publisher may have heard that, and its answer come to nobody.
            Wish::Yield { .. } => true,
            Wish::Have(_) | Wish::GiveBack(_) | Wish::TakeBackOnceMore => false,
        };
        KeptPlug {
            port: port.clone(),
            vnic: self.vnic().cloned(),
            is_elsewhere: self.is_elsewhere || yields,
        }
    }

    /// True if the host's word that this placement is over may have been heard.
    pub(super) fn gives_back(&self, epoch: Epoch) -> bool {
        self.wish == Wish::GiveBack(Some(epoch)) && self.stage == Stage::Asked
    }

    /// What is to be given back before another vNIC claims the port: the
    /// placement that was this one's, or the claim that was made for it.
    pub(super) fn owes(&self, next: &Plugged, held: Option<&PortState>) -> Option<Option<Epoch>> {
        let same = self.vnic() == next.vnic.as_ref();
        match (&self.wish, &self.stage) {
            (_, Stage::Given(_)) => None,
            (Wish::GiveBack(Some(epoch)), _) => {
                let holds = held.is_some_and(|held| held.epoch == *epoch);
                holds.then_some(Some(*epoch))
            }
            (Wish::Have(plugged), _) => {
                let had = held.filter(|held| plugged.is_of(held.vnic.as_ref()));
                (!same).then_some(had.map(|held| held.epoch).or(self.granted))
            }
            (Wish::Yield { epoch, .. }, _) => (!same).then_some(Some(*epoch)),
            (Wish::GiveBack(None) | Wish::TakeBackOnceMore, _) => (!same).then_some(None),
        }
    }
}
