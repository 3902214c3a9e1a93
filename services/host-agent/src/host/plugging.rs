// SPDX-License-Identifier: Apache-2.0
//! Ports by their plugs: one that appears and is not held here is claimed, one
//! that goes is released. What is held and plugged in needs no word: it is
//! wired already.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use dvs_ledger::Writes;
use dvs_schemas::v1::{
    ClaimOutcome, ClaimReply, ClaimRequest, PortState, ReleaseOutcome, ReleaseReply,
    ReleaseRequest, V1,
};
use dvs_schemas::{Epoch, HostName, MacAddr, PortId, Timestamp, VnicId};

use crate::backoff::Backoff;
use crate::ledger;

/// Between two claims, or releases, that were not answered, or were refused: a
/// port may be made after its VM was started, and nobody tells this host then.
/// A claim that waits is repeated at the slowest of it: a publisher that starts
/// anew has forgotten who waits, and doesn't tell this host either.
const UNANSWERED: Backoff = Backoff {
    base: Duration::from_secs(1),
    cap: Duration::from_secs(60),
};

/// So many questions in a row have the longest wait after them.
const SLOWEST: u32 = u32::MAX;

/// How long it takes at most until a datapath that was read has told of all that
/// is plugged in: the two come by different ways.
const RECALLING: Duration = Duration::from_secs(2);

/// How long a port that was unplugged is kept until the collector has what it
/// came to. Nothing is lost after that, it is only told later: a collector that
/// is away must not keep a machine from being plugged in elsewhere.
const SETTLING: Duration = Duration::from_secs(2);

/// How long after a release a claim that was made before it may still arrive,
/// and bring the port: longer than anybody waits for an answer. A host that was
/// off the bus hears of it once it is back.
const LATE: Duration = Duration::from_secs(60);

/// A word that takes a claim back and finds none may have overtaken it: the two
/// are heard side by side. So it is said once more after that time.
const OVERTAKEN: Duration = Duration::from_secs(5);

/// What is plugged in, as far as whoever plugged it says so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Plugged {
    pub(super) vnic: Option<VnicId>,
    pub(super) mac: Option<MacAddr>,
}

impl Plugged {
    /// True if this is the connected vNIC, as far as anybody knows.
    fn is_of(&self, connected: Option<&VnicId>) -> bool {
        self.vnic.is_none() || self.vnic.as_ref() == connected
    }
}

/// What the host wants of a port.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Wish {
    /// This is plugged in here.
    Have(Plugged),
    /// It was plugged in here, in this epoch; none if it was never the host's.
    GiveBack(Option<Epoch>),
    /// It was never the host's, and nobody knew of a claim.
    TakeBackOnceMore,
}

/// How far that is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// It was plugged in before the agent started. Whether it still is, the
    /// datapath says by that time; there is none until it was read.
    Recalled(Option<Timestamp>),
    /// To be asked for once what it came to is told, at that time at the latest.
    Settling(Timestamp),
    /// To be asked for at that time.
    Due(Timestamp),
    /// Asked for.
    Asked,
    /// Nothing is to be asked: the port is the host's.
    Answered,
    /// It is given back. Should it come all the same until that time, it is
    /// given back again.
    Given(Timestamp),
}

#[derive(Debug, Clone)]
struct Plug {
    wish: Wish,
    /// What a claim was granted; the port itself may be on its way.
    granted: Option<Epoch>,
    /// The vNIC that was plugged in, of what is given back.
    was: Option<VnicId>,
    /// Until then the port may come by a claim that was made for another vNIC,
    /// and was taken back.
    late: Option<Timestamp>,
    /// What is wanted once the port is given back: another vNIC is plugged in
    /// by now.
    next: Option<Plugged>,
    stage: Stage,
    /// Questions in a row without success.
    attempt: u32,
    /// True if the last answer was that the claim waits.
    waits: bool,
}

impl Plug {
    /// The vNIC is plugged in no more; `epoch` is that of the port, if the host
    /// holds it.
    fn pulled(now: Timestamp, epoch: Option<Epoch>, was: Option<VnicId>) -> Self {
        Self {
            wish: Wish::GiveBack(epoch),
            granted: None,
            was,
            late: None,
            next: None,
            stage: match epoch {
                Some(_) => Stage::Settling(now.after(SETTLING)),
                None => Stage::Due(now),
            },
            attempt: 0,
            waits: false,
        }
    }

    /// The vNIC that this is about, if it is known.
    fn vnic(&self) -> Option<&VnicId> {
        match &self.wish {
            Wish::Have(plugged) => plugged.vnic.as_ref(),
            Wish::GiveBack(_) | Wish::TakeBackOnceMore => self.was.as_ref(),
        }
    }

    /// What is to be given back before another vNIC claims the port: the
    /// placement that was this one's, or the claim that was made for it.
    fn owes(&self, next: &Plugged, held: Option<&PortState>) -> Option<Option<Epoch>> {
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
            (Wish::GiveBack(None) | Wish::TakeBackOnceMore, _) => (!same).then_some(None),
        }
    }
}

/// All plugs of one host. As many as interfaces, and those that just went.
#[derive(Debug)]
pub(super) struct Plugging {
    host: HostName,
    plugs: BTreeMap<PortId, Plug>,
    /// Ports of which the ledger doesn't know yet that they are plugged in, or
    /// are no more.
    unwritten: BTreeSet<PortId>,
}

/// A question for the publisher.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Ask {
    Claim(ClaimRequest),
    Release(ReleaseRequest),
}

impl Plugging {
    /// `plugged`: the ports that were plugged in when the ledger was written.
    pub(super) fn new(host: HostName, plugged: Vec<(PortId, Option<VnicId>)>) -> Self {
        let recalled = |(port, vnic)| {
            let plug = Plug {
                wish: Wish::Have(Plugged { vnic, mac: None }),
                granted: None,
                was: None,
                late: None,
                next: None,
                stage: Stage::Recalled(None),
                attempt: 0,
                waits: false,
            };
            (port, plug)
        };
        Self {
            host,
            plugs: plugged.into_iter().map(recalled).collect(),
            unwritten: BTreeSet::new(),
        }
    }

    /// The datapath was read: it tells of what is plugged in.
    pub(super) fn read(&mut self, now: Timestamp) {
        for plug in self.plugs.values_mut() {
            if plug.stage == Stage::Recalled(None) {
                plug.stage = Stage::Recalled(Some(now.after(RECALLING)));
            }
        }
    }

    /// Ports that were unplugged while the agent was not there.
    pub(super) fn missing(&self, now: Timestamp) -> Vec<PortId> {
        let is_missing = |plug: &Plug| match plug.stage {
            Stage::Recalled(Some(until)) => until <= now,
            Stage::Recalled(None)
            | Stage::Settling(_)
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
            let plugged = self.plugs.get(&port).map(Plug::vnic);
            ledger::write_plug(&self.host, &port, plugged, writes);
        }
    }

    /// An interface of the port is there; `wired`: the host holds the port, and
    /// for this vNIC.
    pub(super) fn plugged(
        &mut self,
        now: Timestamp,
        port: PortId,
        plugged: Plugged,
        held: Option<&PortState>,
    ) {
        let wired = held.is_some_and(|held| plugged.is_of(held.vnic.as_ref()));
        let before = self.plugs.get(&port);
        let owed = before.and_then(|before| before.owes(&plugged, held));
        let plug = match owed {
            Some(epoch) if !wired => Plug {
                next: Some(plugged),
                ..Plug::pulled(now, epoch, before.and_then(Plug::vnic).cloned())
            },
            Some(_) | None => Plug {
                wish: Wish::Have(plugged),
                granted: None,
                was: None,
                late: None,
                next: None,
                stage: if wired {
                    Stage::Answered
                } else {
                    Stage::Due(now)
                },
                attempt: 0,
                waits: false,
            },
        };
        self.plugs.insert(port.clone(), plug);
        self.unwritten.insert(port);
    }

    /// The interface is there no more; `epoch` is that of the port, if the host
    /// holds it.
    pub(super) fn unplugged(&mut self, now: Timestamp, port: PortId, epoch: Option<Epoch>) {
        let before = self.plugs.get(&port);
        let was = before.and_then(Plug::vnic).cloned();
        let epoch = epoch.or(before.and_then(|before| before.granted));
        self.plugs.insert(port, Plug::pulled(now, epoch, was));
    }

    /// The bus is back: what came while it was away is still to be heard of.
    pub(super) fn connected(&mut self, now: Timestamp) {
        for plug in self.plugs.values_mut() {
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
                Stage::Recalled(_) | Stage::Settling(_) | Stage::Asked | Stage::Given(_) => false,
            };
            if waits && !held(port) {
                plug.stage = Stage::Due(now);
                plug.attempt = 0;
            }
        }
    }

    /// The port went from this host while it is plugged in: somebody placed it
    /// elsewhere, or deleted it. It is not taken back by force; should it come
    /// free, this host is in line.
    pub(super) fn lost(&mut self, now: Timestamp, port: &PortId, chance: &mut fastrand::Rng) {
        if let Some(plug) = self.plugs.get_mut(port)
            && plug.stage == Stage::Answered
        {
            plug.attempt = 0;
            plug.stage = Stage::Due(now.after(UNANSWERED.wait(1, chance)));
        }
    }

    /// True if a port waits for what it came to to be told.
    pub(super) fn is_settling(&self) -> bool {
        let mut plugs = self.plugs.values();
        plugs.any(|plug| matches!(plug.stage, Stage::Settling(_)))
    }

    /// More was told: ports of which nothing is left to tell can be released.
    pub(super) fn told(&mut self, now: Timestamp, owes: impl Fn(&PortId) -> bool) {
        for (port, plug) in &mut self.plugs {
            if matches!(plug.stage, Stage::Settling(_)) && !owes(port) {
                plug.stage = Stage::Due(now);
            }
        }
    }

    pub(super) fn due(&self) -> Option<Timestamp> {
        let due = self.plugs.values().filter_map(|plug| match plug.stage {
            Stage::Due(at) | Stage::Settling(at) | Stage::Recalled(Some(at)) | Stage::Given(at) => {
                Some(at)
            }
            Stage::Recalled(None) | Stage::Asked | Stage::Answered => None,
        });
        due.min()
    }

    /// What is to be asked by now.
    pub(super) fn wake<'a>(
        &mut self,
        now: Timestamp,
        held: impl Fn(&PortId) -> Option<&'a PortState>,
    ) -> Vec<Ask> {
        let unwritten = &mut self.unwritten;
        self.plugs.retain(|port, plug| {
            let over = matches!(plug.stage, Stage::Given(until) if until <= now);
            if over {
                unwritten.insert(port.clone());
            }
            !over
        });
        let mut asks = Vec::new();
        for (port, plug) in &mut self.plugs {
            match plug.stage {
                Stage::Due(at) | Stage::Settling(at) if at <= now => {}
                Stage::Recalled(_)
                | Stage::Due(_)
                | Stage::Settling(_)
                | Stage::Asked
                | Stage::Answered
                | Stage::Given(_) => continue,
            }
            let held = held(port);
            if let (Wish::Have(plugged), Some(held)) = (&plug.wish, held)
                && plugged.is_of(held.vnic.as_ref())
            {
                // It came without a further word, as to who waits.
                plug.waits = false;
                plug.stage = Stage::Answered;
                plug.attempt = 0;
                continue;
            }
            plug.stage = Stage::Asked;
            plug.granted = None;
            plug.attempt = plug.attempt.saturating_add(1);
            let (host, port) = (self.host.clone(), port.clone());
            asks.push(match plug.wish.clone() {
                Wish::Have(Plugged { vnic, mac }) => Ask::Claim(ClaimRequest {
                    v: V1,
                    epoch: held.map(|held| held.epoch),
                    host,
                    port,
                    vnic,
                    mac,
                }),
                Wish::GiveBack(epoch) => Ask::Release(ReleaseRequest {
                    v: V1,
                    host,
                    port,
                    epoch,
                }),
                Wish::TakeBackOnceMore => Ask::Release(ReleaseRequest {
                    v: V1,
                    host,
                    port,
                    epoch: None,
                }),
            });
        }
        asks
    }

    /// A claim was answered, or not.
    pub(super) fn claimed(
        &mut self,
        now: Timestamp,
        port: &PortId,
        outcome: Result<ClaimReply, String>,
        chance: &mut fastrand::Rng,
    ) {
        let host = &self.host;
        let Some(plug) = self.plugs.get_mut(port) else {
            return;
        };
        // The plug may have been pulled meanwhile, and put in again.
        if plug.stage != Stage::Asked || !matches!(plug.wish, Wish::Have(_)) {
            return;
        }
        match outcome {
            Ok(ClaimReply { outcome, .. }) => match outcome {
                ClaimOutcome::Granted { epoch, .. } => {
                    plug.waits = false;
                    plug.granted = Some(epoch);
                    plug.attempt = 0;
                    // It comes at once, if nobody takes it before.
                    plug.stage = Stage::Due(now.after(UNANSWERED.wait(SLOWEST, chance)));
                    tracing::info!(%host, %port, %epoch, "plugged in, and this host's");
                }
                ClaimOutcome::Waits { holder, .. } => {
                    if !plug.waits {
                        tracing::warn!(%host, %port, %holder, "plugged in, and held by another host");
                    }
                    plug.waits = true;
                    plug.attempt = 0;
                    plug.stage = Stage::Due(now.after(UNANSWERED.wait(SLOWEST, chance)));
                }
            },
            Err(why) => {
                plug.waits = false;
                if plug.attempt == 1 {
                    tracing::warn!(%host, %port, why, "plugged in, and not this host's; claimed again in a while");
                }
                plug.stage = Stage::Due(now.after(UNANSWERED.wait(plug.attempt, chance)));
            }
        }
    }

    /// A port is wired. It is given back if it came by a claim that was late on
    /// its way, with nothing plugged in any more, and if it was connected to
    /// another vNIC than is plugged in.
    pub(super) fn came(
        &mut self,
        now: Timestamp,
        port: &PortId,
        epoch: Epoch,
        connected: Option<&VnicId>,
    ) {
        let Some(plug) = self.plugs.get_mut(port) else {
            return;
        };
        match &plug.wish {
            Wish::GiveBack(Some(given)) if *given == epoch => {}
            Wish::GiveBack(_) | Wish::TakeBackOnceMore => {
                *plug = Plug {
                    next: plug.next.take(),
                    stage: Stage::Due(now),
                    ..Plug::pulled(now, Some(epoch), plug.was.take())
                };
            }
            Wish::Have(plugged) if connected.is_some() && !plugged.is_of(connected) => {
                let by_late_claim = plug.late.is_some_and(|until| now <= until);
                // What nobody has answered yet may have been granted long ago.
                if by_late_claim || matches!(plug.stage, Stage::Asked | Stage::Answered) {
                    *plug = Plug {
                        next: Some(plugged.clone()),
                        ..Plug::pulled(now, Some(epoch), plugged.vnic.clone())
                    };
                }
            }
            Wish::Have(plugged) if plugged.is_of(connected) => match plug.stage {
                Stage::Due(_) | Stage::Asked => {
                    plug.waits = false;
                    plug.stage = Stage::Answered;
                    plug.attempt = 0;
                }
                Stage::Recalled(_) | Stage::Settling(_) | Stage::Answered | Stage::Given(_) => {}
            },
            Wish::Have(_) => {}
        }
    }

    /// A release was answered, or not. `held` is what the host holds the port
    /// in.
    pub(super) fn released(
        &mut self,
        now: Timestamp,
        port: &PortId,
        held: Option<&PortState>,
        outcome: Result<ReleaseReply, String>,
        chance: &mut fastrand::Rng,
    ) {
        let Some(plug) = self.plugs.get_mut(port) else {
            return;
        };
        if plug.stage != Stage::Asked || matches!(plug.wish, Wish::Have(_)) {
            return;
        }
        match outcome {
            Ok(reply) => {
                if let Some(next) = plug.next.take() {
                    plug.wish = Wish::Have(next);
                    self.unwritten.insert(port.clone());
                    plug.late = Some(now.after(LATE));
                    plug.attempt = 0;
                    plug.stage = Stage::Due(now);
                    return;
                }
                if (&plug.wish, reply.outcome) == (&Wish::GiveBack(None), ReleaseOutcome::Nothing) {
                    plug.wish = Wish::TakeBackOnceMore;
                    plug.stage = Stage::Due(now.after(OVERTAKEN));
                    return;
                }
                plug.stage = Stage::Given(now.after(LATE));
                if let Some(held) = held {
                    self.came(now, port, held.epoch, held.vnic.as_ref());
                }
            }
            Err(why) => {
                let host = &self.host;
                tracing::debug!(%host, %port, why, "not released yet");
                plug.stage = Stage::Due(now.after(UNANSWERED.wait(plug.attempt, chance)));
            }
        }
    }
}
