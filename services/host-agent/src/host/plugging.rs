// SPDX-License-Identifier: Apache-2.0
//! Ports by their plugs: one that appears and is not held here is claimed, one
//! that goes is released. What is held and plugged in needs no word: it is
//! wired already.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use dvs_ledger::Writes;
use dvs_schemas::v1::{Activity, ConditionKind, ConditionTarget, Machine, PortState, Yield};
use dvs_schemas::{Epoch, HostName, PortId, Timestamp};

use super::plug::{LATE, Plug, Plugged, Stage, Trouble, Wish};
use super::yielding::{Sought, is_empty_for_long};
use crate::backoff::Backoff;
use crate::datapath::ConditionsNow;
use crate::ledger::{self, KeptPlug};

mod asking;

pub(super) use asking::Ask;

/// Between two claims, or releases, that were not answered, or were refused: a
/// port may be made after its VM was started, and nobody tells this host then.
/// A claim that waits is repeated at the slowest of it: a publisher that starts
/// anew has forgotten who waits, and doesn't tell this host either.
const UNANSWERED: Backoff = Backoff {
    base: Duration::from_secs(1),
    cap: Duration::from_secs(60),
};

/// How long it takes at most until a datapath that was read has told of all that
/// is plugged in: the two come by different ways.
const RECALLING: Duration = Duration::from_secs(2);

/// All plugs of one host. As many as interfaces, and those that just went.
#[derive(Debug)]
pub(super) struct Plugging {
    host: HostName,
    plugs: BTreeMap<PortId, Plug>,
    /// The machines behind what is plugged in, as far as the datapath told.
    machines: BTreeMap<PortId, Machine>,
    /// When all that is plugged in was told since the agent started; none until
    /// the datapath was read.
    told_by: Option<Timestamp>,
    /// Ports of which the ledger doesn't know yet that they are plugged in, or
    /// are no more.
    unwritten: BTreeSet<PortId>,
}

impl Plugging {
    /// `plugged`: what was plugged in when the ledger was written.
    pub(super) fn new(host: HostName, plugged: Vec<KeptPlug>) -> Self {
        let recalled = |kept| {
            let KeptPlug {
                port,
                vnic,
                is_elsewhere,
            } = kept;
            let plugged = Plugged { vnic, mac: None };
            let plug = Plug {
                is_elsewhere,
                ..Plug::there(plugged, Stage::Recalled(None))
            };
            (port, plug)
        };
        Self {
            host,
            plugs: plugged.into_iter().map(recalled).collect(),
            machines: BTreeMap::new(),
            told_by: None,
            unwritten: BTreeSet::new(),
        }
    }

    /// The datapath was read: it tells of what is plugged in.
    pub(super) fn read(&mut self, now: Timestamp) {
        self.told_by.get_or_insert(now.after(RECALLING));
        for plug in self.plugs.values_mut() {
            if plug.stage == Stage::Recalled(None) {
                plug.stage = Stage::Recalled(Some(now.after(RECALLING)));
                // Of the claims that were made before nobody knows.
                plug.late = Some(now.after(LATE));
            }
        }
    }

    /// Ports that were unplugged while the agent was not there.
    pub(super) fn missing(&self, now: Timestamp) -> Vec<PortId> {
        let is_missing = |plug: &Plug| match plug.stage {
            Stage::Recalled(Some(until)) => until <= now,
            Stage::Recalled(None)
            | Stage::Due(_)
            | Stage::Asked
            | Stage::Answered
            | Stage::Given(_) => false,
        };
        let missing = self.plugs.iter().filter(|(_, plug)| is_missing(plug));
        missing.map(|(port, _)| port.clone()).collect()
    }

    /// Writes what the ledger doesn't know. An interface that went is known
    /// until its port was given back.
    pub(super) fn write(&mut self, writes: &mut Writes) {
        for port in std::mem::take(&mut self.unwritten) {
            let kept = self.plugs.get(&port).map(|plug| plug.kept(&port));
            ledger::write_plug(&self.host, &port, kept.as_ref(), writes);
        }
    }

    /// An interface of the port is there; `held`: what the host holds of the
    /// port. True if it is wired by that and was not before, as far as anybody
    /// knows.
    pub(super) fn plugged(
        &mut self,
        now: Timestamp,
        port: PortId,
        plugged: Plugged,
        machine: Machine,
        held: Option<&PortState>,
    ) -> bool {
        let wired = held.is_some_and(|held| plugged.is_of(held.vnic.as_ref()));
        let before = self.plugs.get(&port);
        let owed = before.and_then(|before| before.owes(&plugged, held));
        let is_asked = |before: &&Plug| held.is_some_and(|held| before.gives_back(held.epoch));
        let is_known = before.is_some_and(|before| match before.stage {
            Stage::Recalled(_) => true,
            Stage::Due(_) | Stage::Asked | Stage::Answered | Stage::Given(_) => false,
        });
        let plug = match owed {
            // Its word that it went is on its way. What comes of that is no
            // longer this one's.
            Some(_) if let Some(asked) = before.filter(is_asked) => Plug {
                next: Some(plugged),
                ..asked.clone()
            },
            Some(epoch) if !wired => Plug {
                next: Some(plugged),
                ..Plug::pulled(now, epoch, before)
            },
            Some(_) | None => Plug {
                late: before.and_then(|before| before.may_come_until(now)),
                // The start of an agent is no word of the machine.
                is_elsewhere: is_known
                    && machine.activity != Activity::Running
                    && before.is_some_and(|before| {
                        before.is_elsewhere && before.vnic() == plugged.vnic.as_ref()
                    }),
                ..Plug::there(
                    plugged,
                    if wired {
                        Stage::Answered
                    } else {
                        Stage::Due(now)
                    },
                )
            },
        };
        self.plugs.insert(port.clone(), plug);
        self.machines.insert(port.clone(), machine);
        self.unwritten.insert(port);
        wired && !is_known
    }

    /// Whether something is plugged in that may have the port.
    pub(super) fn is_plugged(&self, port: &PortId) -> bool {
        let plug = self.plugs.get(port);
        plug.is_some_and(|plug| matches!(plug.wish, Wish::Have(_)))
    }

    /// What the datapath can tell of the machine behind a plug.
    pub(super) fn machine(
        &mut self,
        now: Timestamp,
        port: &PortId,
        machine: Machine,
        held: Option<&PortState>,
    ) {
        let Some(plug) = self.plugs.get_mut(port) else {
            return;
        };
        if machine.activity == Activity::Running && plug.is_elsewhere {
            plug.is_elsewhere = false;
            self.unwritten.insert(port.clone());
        }
        // Who waits elsewhere may get the port by that, or this host its turn.
        if let (Wish::Have(_), Stage::Due(_)) = (&plug.wish, plug.stage)
            && plug.waits
            && plug.said.as_ref() != Some(&plug.word(&machine))
        {
            plug.stage = Stage::Due(now);
        }
        self.machines.insert(port.clone(), machine);
        self.yields(now, port, held);
    }

    /// Another host waits for a port that this one holds, as far as the
    /// publisher knows.
    pub(super) fn sought(&mut self, now: Timestamp, request: &Yield, held: Option<&PortState>) {
        let Some(held) = held.filter(|held| held.epoch == request.epoch) else {
            return;
        };
        let is_told = self.told_by.is_some_and(|by| by <= now);
        match self.plugs.get_mut(&request.port) {
            Some(plug) => plug.sought = Some(Sought::new(now, request)),
            // The word is repeated, should the datapath have told too little yet.
            None if is_told && is_empty_for_long(request) => {
                let (port, to) = (request.port.clone(), request.to.clone());
                let host = &self.host;
                tracing::info!(%host, %port, %to, "nothing is plugged in; given to the host that waits");
                let nothing = Plugged {
                    vnic: None,
                    mac: None,
                };
                let plug = Plug {
                    wish: Wish::Yield {
                        plugged: None,
                        epoch: request.epoch,
                        to,
                    },
                    ..Plug::there(nothing, Stage::Due(now))
                };
                self.plugs.insert(port, plug);
            }
            None => {}
        }
        self.yields(now, &request.port, Some(held));
    }

    /// Gives a port to the host that waits for it, if it is time.
    fn yields(&mut self, now: Timestamp, port: &PortId, held: Option<&PortState>) {
        let (Some(plug), Some(held)) = (self.plugs.get_mut(port), held) else {
            return;
        };
        let (Wish::Have(plugged), Stage::Answered) = (&plug.wish, plug.stage) else {
            return;
        };
        let machine = self.machines.get(port).cloned().unwrap_or_default();
        let due = |sought: &&Sought| sought.epoch == held.epoch && sought.is_due(now, &machine);
        let Some(Sought { epoch, to, .. }) = plug.sought.as_ref().filter(due) else {
            return;
        };
        let host = &self.host;
        tracing::info!(%host, %port, %to, "its machine has stopped here; given to the host that waits");
        plug.wish = Wish::Yield {
            plugged: Some(plugged.clone()),
            epoch: *epoch,
            to: to.clone(),
        };
        plug.attempt = 0;
        plug.stage = Stage::Due(now);
        self.unwritten.insert(port.clone());
    }

    /// The interface is there no more; `epoch` is that of the port, if the host
    /// holds it.
    pub(super) fn unplugged(&mut self, now: Timestamp, port: PortId, epoch: Option<Epoch>) {
        let before = self.plugs.get(&port);
        let epoch = epoch.or(before.and_then(|before| before.granted));
        let pulled = Plug::pulled(now, epoch, before);
        self.machines.remove(&port);
        self.plugs.insert(port, pulled);
    }

    /// The bus is back: what came while it was away is still to be heard of.
    pub(super) fn connected(&mut self, now: Timestamp) {
        for plug in self.plugs.values_mut() {
            if plug.late.is_some() {
                plug.late = Some(now.after(LATE));
            }
            if let Stage::Given(_) = plug.stage {
                plug.stage = Stage::Given(now.after(LATE));
            }
        }
    }

    /// The publisher answered a hello: it may be another run, which has
    /// forgotten who waits. Nobody has to wait for the next turn then.
    pub(super) fn greeted(&mut self, now: Timestamp, held: impl Fn(&PortId) -> bool) {
        for (port, plug) in &mut self.plugs {
            let waits = match plug.stage {
                Stage::Due(_) | Stage::Answered => true,
                Stage::Recalled(_) | Stage::Asked | Stage::Given(_) => false,
            };
            if waits && !held(port) {
                plug.stage = Stage::Due(now);
                plug.attempt = 0;
            }
        }
    }

    /// A port that the host holds is where it was, in a placement that the store
    /// which replaced its own has numbered anew. What is to be given back of it
    /// still is: the one before may have refused that.
    /// `took_over` says that of two epochs.
    pub(super) fn renumbered(
        &mut self,
        now: Timestamp,
        port: &PortId,
        held: Epoch,
        took_over: impl Fn(Epoch, Epoch) -> bool,
    ) {
        let Some(plug) = self.plugs.get_mut(port) else {
            return;
        };
        if let Wish::GiveBack(Some(given)) = plug.wish
            && took_over(given, held)
        {
            plug.wish = Wish::GiveBack(Some(held));
            plug.attempt = 0;
            plug.stage = Stage::Due(now);
        }
    }

    /// What the host holds is another by now. Where a port went from it that is
    /// plugged in, wired yet or not, somebody placed it elsewhere, or deleted
    /// it. It is not taken back by force; should it come free, this host is in
    /// line.
    pub(super) fn holds(
        &mut self,
        now: Timestamp,
        held: impl Fn(&PortId) -> bool,
        chance: &mut fastrand::Rng,
    ) {
        for (port, plug) in &mut self.plugs {
            if plug.stage == Stage::Answered && !held(port) {
                plug.attempt = 0;
                plug.stage = Stage::Due(now.after(UNANSWERED.wait(1, chance)));
            }
        }
    }

    pub(super) fn due(&self) -> Option<Timestamp> {
        let due = self.plugs.values().filter_map(|plug| match plug.stage {
            Stage::Due(at) | Stage::Recalled(Some(at)) | Stage::Given(at) => Some(at),
            Stage::Recalled(None) | Stage::Asked | Stage::Answered => None,
        });
        due.min()
    }

    /// The claims that wait, and those that came to nothing.
    pub(super) fn conditions(&self) -> [(ConditionKind, ConditionsNow); 2] {
        let (mut waiting, mut refused) = (ConditionsNow::new(), ConditionsNow::new());
        for (port, plug) in &self.plugs {
            let on = ConditionTarget {
                port: Some(port.clone()),
                ..ConditionTarget::default()
            };
            let machine = self.machines.get(port).cloned().unwrap_or_default();
            // What has stopped takes nobody's turn: nothing is to be done.
            let is_stopped = plug.word(&machine).activity == Activity::Stopped;
            match (&plug.wish, &plug.trouble) {
                (Wish::Have(_), Some(Trouble::Held(_))) if is_stopped => {}
                (Wish::Have(_), Some(Trouble::Held(holder))) => {
                    let why = format!(
                        "plugged in here, and held by host {holder}: it comes here once its \
                         machine has stopped there, unless that host follows another history \
                         (dvsctl get hosts says so); dvsctl move brings it here at once"
                    );
                    waiting.insert(on, why);
                }
                (Wish::Have(_), Some(Trouble::Refused(why))) => {
                    let why = format!("plugged in here, and not this host's: {why}");
                    refused.insert(on, why);
                }
                (Wish::Have(_), None)
                | (Wish::GiveBack(_) | Wish::TakeBackOnceMore | Wish::Yield { .. }, _) => {}
            }
        }
        [
            (ConditionKind::ClaimWaits, waiting),
            (ConditionKind::ClaimRefused, refused),
        ]
    }
}
