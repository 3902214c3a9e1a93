// SPDX-License-Identifier: Apache-2.0
//! What a host asks of the publisher for its plugs, and what comes of that.

use std::time::Duration;

use dvs_schemas::v1::{
    Activity, ClaimOutcome, ClaimReply, ClaimRequest, PortState, ReleaseOutcome, ReleaseReply,
    ReleaseRequest, V1,
};
use dvs_schemas::{Epoch, PortId, SessionId, Timestamp, VnicId};

use super::super::messages::AskFailure;
use super::super::plug::{LATE, Plug, Plugged, Stage, Trouble, Wish};
use super::super::yielding::Sought;
use super::{Plugging, UNANSWERED};
use crate::datapath::VirtualPort;

/// So many questions in a row have the longest wait after them.
const SLOWEST: u32 = u32::MAX;

/// A word that takes a claim back and finds none may have overtaken it: the two
/// are heard side by side. So it is said once more after that time.
const OVERTAKEN: Duration = Duration::from_secs(5);

/// A question for the publisher; where the host is in its history is added when
/// it leaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::host) enum Ask {
    Claim(ClaimRequest),
    Release(ReleaseRequest),
}

impl Plugging {
    /// What is to be asked by now.
    pub(in crate::host) fn wake<'a>(
        &mut self,
        now: Timestamp,
        session: SessionId,
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
                Stage::Due(at) if at <= now => {}
                Stage::Recalled(_)
                | Stage::Due(_)
                | Stage::Asked
                | Stage::Answered
                | Stage::Given(_) => continue,
            }
            let machine = self.machines.get(port).cloned().unwrap_or_default();
            let is_over = |sought: &Sought| !sought.is_due(now, &machine);
            if let Wish::Yield {
                plugged: Some(plugged),
                ..
            } = &plug.wish
                && plug.sought.as_ref().is_none_or(is_over)
            {
                // Not heard, and the machine is back.
                plug.wish = Wish::Have(plugged.clone());
                plug.stage = Stage::Answered;
                unwritten.insert(port.clone());
                continue;
            }
            let held = held(port).filter(|held| plug.ended != Some(held.epoch));
            if let (Wish::Have(plugged), Some(held)) = (&plug.wish, held)
                && plugged.is_of(held.vnic.as_ref())
            {
                // It came without a further word, as to who waits.
                plug.waits = false;
                plug.trouble = None;
                plug.stage = Stage::Answered;
                plug.attempt = 0;
                continue;
            }
            plug.stage = Stage::Asked;
            if plug.granted.take().is_some() {
                // It was granted and has not come.
                plug.late = Some(now.after(LATE));
            }
            plug.attempt = plug.attempt.saturating_add(1);
            let (host, port) = (self.host.clone(), port.clone());
            asks.push(match plug.wish.clone() {
                Wish::Have(Plugged { vnic, mac }) => {
                    let machine = plug.word(&machine);
                    plug.said = Some(machine.clone());
                    Ask::Claim(ClaimRequest {
                        v: V1,
                        epoch: held.map(|held| held.epoch),
                        host,
                        session,
                        port,
                        vnic,
                        mac,
                        machine,
                        positions: Vec::new(),
                    })
                }
                Wish::Yield { epoch, to, .. } => Ask::Release(ReleaseRequest {
                    v: V1,
                    host,
                    session,
                    port,
                    epoch: Some(epoch),
                    to: Some(to),
                    positions: Vec::new(),
                }),
                Wish::GiveBack(epoch) => Ask::Release(ReleaseRequest {
                    v: V1,
                    host,
                    session,
                    port,
                    epoch,
                    to: None,
                    positions: Vec::new(),
                }),
                Wish::TakeBackOnceMore => Ask::Release(ReleaseRequest {
                    v: V1,
                    host,
                    session,
                    port,
                    epoch: None,
                    to: None,
                    positions: Vec::new(),
                }),
            });
        }
        asks
    }

    /// A claim was answered, or not.
    pub(in crate::host) fn claimed(
        &mut self,
        now: Timestamp,
        port: &PortId,
        outcome: Result<ClaimReply, AskFailure>,
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
                    plug.trouble = None;
                    plug.granted = Some(epoch);
                    plug.attempt = 0;
                    // It comes at once, if nobody takes it before.
                    plug.stage = Stage::Due(now.after(UNANSWERED.wait(SLOWEST, chance)));
                    tracing::info!(%host, %port, %epoch, "plugged in, and this host's");
                }
                ClaimOutcome::Waits { holder, .. } => {
                    plug.trouble = Some(Trouble::Held(holder));
                    plug.waits = true;
                    plug.attempt = 0;
                    let machine = self.machines.get(port).cloned().unwrap_or_default();
                    let is_news = plug.said.as_ref() != Some(&plug.word(&machine));
                    let wait = (!is_news).then(|| UNANSWERED.wait(SLOWEST, chance));
                    plug.stage = Stage::Due(now.after(wait.unwrap_or_default()));
                }
            },
            Err(why) => {
                match (&why, std::mem::take(&mut plug.waits)) {
                    (AskFailure::NotDone(_) | AskFailure::Namesake(_), false) => {}
                    // The one before waits, as far as anybody knows.
                    (AskFailure::NotDone(_) | AskFailure::Namesake(_), true)
                    | (AskFailure::MaybeDone(_), _) => {
                        plug.late = Some(now.after(LATE));
                    }
                }
                plug.trouble = Some(Trouble::Refused(why.to_string()));
                plug.stage = Stage::Due(now.after(UNANSWERED.wait(plug.attempt, chance)));
            }
        }
    }

    /// A port is wired. It is given back if it came by a claim that was late on
    /// its way, with nothing plugged in any more, and if it was connected to
    /// another vNIC than is plugged in. What comes where no claim is open was
    /// placed here by somebody, and stays. `before`: how it was wired here
    /// already in the same placement.
    pub(in crate::host) fn came(
        &mut self,
        now: Timestamp,
        port: &PortId,
        epoch: Epoch,
        before: Option<&VirtualPort>,
        connected: Option<&VnicId>,
    ) {
        let Some(plug) = self.plugs.get_mut(port) else {
            return;
        };
        let host = &self.host;
        match &plug.wish {
            Wish::GiveBack(Some(given)) if *given == epoch => {}
            Wish::Yield { epoch: given, .. } if *given == epoch => {}
            // Somebody placed it here anew.
            Wish::Yield { plugged, .. } => match plugged.clone() {
                Some(plugged) => {
                    *plug = Plug::there(plugged, Stage::Answered);
                    self.unwritten.insert(port.clone());
                }
                None => drop(self.plugs.remove(port)),
            },
            Wish::GiveBack(_) | Wish::TakeBackOnceMore if plug.late.is_some_and(|by| now <= by) => {
                tracing::info!(%host, %port, %epoch, "came when its vNIC was gone, by a claim that was late; given back");
                *plug = Plug {
                    next: plug.next.take(),
                    stage: Stage::Due(now),
                    ..Plug::pulled(now, Some(epoch), Some(plug))
                };
            }
            Wish::GiveBack(_) | Wish::TakeBackOnceMore => {
                tracing::info!(%host, %port, %epoch, "placed here with no vNIC plugged in");
                match plug.next.take() {
                    Some(next) if next.is_of(connected) => {
                        *plug = Plug::there(next, Stage::Answered)
                    }
                    Some(next) => *plug = Plug::there(next, Stage::Due(now)),
                    None => drop(self.plugs.remove(port)),
                }
                self.unwritten.insert(port.clone());
            }
            Wish::Have(plugged) if connected.is_some() && !plugged.is_of(connected) => {
                let for_this = match before {
                    // It was nobody else's in this placement until now.
                    Some(before) => before.vnic.is_none() || plugged.is_of(before.vnic.as_ref()),
                    // What nobody has answered yet, and what waits, may have been
                    // granted long ago. What was refused was placed here for the
                    // other one.
                    None => {
                        let by_late_claim = plug.late.is_some_and(|until| now <= until);
                        let answered = matches!(plug.stage, Stage::Asked | Stage::Answered);
                        by_late_claim || answered || plug.waits || plug.granted.is_some()
                    }
                };
                if for_this {
                    tracing::info!(%host, %port, %epoch, "another vNIC is plugged in than is connected; given back");
                    *plug = Plug {
                        next: Some(plugged.clone()),
                        ..Plug::pulled(now, Some(epoch), Some(plug))
                    };
                }
            }
            Wish::Have(plugged) if plugged.is_of(connected) => match plug.stage {
                // Whatever was asked has come, answered or not.
                Stage::Due(_) | Stage::Asked => {
                    plug.waits = false;
                    plug.trouble = None;
                    if std::mem::take(&mut plug.is_elsewhere) {
                        self.unwritten.insert(port.clone());
                    }
                    plug.stage = Stage::Answered;
                    plug.attempt = 0;
                }
                Stage::Recalled(_) | Stage::Answered | Stage::Given(_) => {}
            },
            Wish::Have(_) => {}
        }
    }

    /// A release was answered, or not. `held` is what the host holds the port
    /// in.
    pub(in crate::host) fn released(
        &mut self,
        now: Timestamp,
        asked: &ReleaseRequest,
        held: Option<&PortState>,
        outcome: Result<ReleaseReply, AskFailure>,
        chance: &mut fastrand::Rng,
    ) {
        let port = &asked.port;
        let Some(plug) = self.plugs.get_mut(port) else {
            return;
        };
        // The port may have come meanwhile: then it is to be given back in the
        // epoch that it came in, and this answer says nothing of that.
        let epoch = match &plug.wish {
            Wish::Have(_) => return,
            Wish::GiveBack(epoch) => *epoch,
            Wish::Yield { epoch, .. } => Some(*epoch),
            Wish::TakeBackOnceMore => None,
        };
        if plug.stage != Stage::Asked || asked.epoch != epoch {
            return;
        }
        match outcome {
            Ok(reply) if let Wish::Yield { plugged, epoch, .. } = &plug.wish => {
                let Some(plugged) = plugged.clone() else {
                    self.plugs.remove(port);
                    return;
                };
                let holds = held.is_some_and(|held| held.epoch == *epoch);
                let gone = match reply.outcome {
                    ReleaseOutcome::Released { .. } | ReleaseOutcome::Nothing => true,
                    ReleaseOutcome::Kept | ReleaseOutcome::Withdrawn => false,
                };
                // Of one that has stopped here by itself its host can tell.
                let machine = self.machines.get(port);
                let stopped = machine.is_some_and(|machine| machine.activity == Activity::Stopped);
                let is_elsewhere = gone && !stopped;
                // What is plugged in here is in line from now on, as what waits
                // elsewhere was. If the port has not left yet, it is once it has.
                let next = if holds {
                    Stage::Answered
                } else {
                    Stage::Due(now.after(UNANSWERED.wait(1, chance)))
                };
                *plug = Plug {
                    is_elsewhere,
                    ..Plug::there(plugged, next)
                };
                self.unwritten.insert(port.clone());
            }
            Ok(reply) => {
                if let Some(next) = plug.next.take() {
                    plug.wish = Wish::Have(next);
                    plug.ended = asked.epoch;
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
                let known = plug.late.is_none_or(|until| until <= now);
                plug.stage = Stage::Given(if known { now } else { now.after(LATE) });
                if let Some(held) = held {
                    self.came(now, port, held.epoch, None, held.vnic.as_ref());
                }
            }
            Err(why) => {
                let host = &self.host;
                tracing::debug!(%host, %port, %why, "not released yet");
                plug.stage = Stage::Due(now.after(UNANSWERED.wait(plug.attempt, chance)));
            }
        }
    }
}
