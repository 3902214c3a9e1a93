// SPDX-License-Identifier: Apache-2.0
//! The rules of one bridge in Open vSwitch: what is there, and the one change
//! that makes them what they are to be.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use dvs_openflow::{
    ApplyError, Field, Flow, FlowKey, FlowMod, HeldMeter, Meter, MeterId, MeterMod, OpenError,
    PacketOut, Port, PortStats, Selection, Session, SessionError, Told,
};
use dvs_ovsdb::unixctl;
use dvs_schemas::Rate;
use tokio::time::Instant;

use super::config::DriftPolicy;
use super::pipeline::{Layout, rules};
use super::rules::OfPort;
use super::wire::{self, NoForm};

/// How long it may take until a new bridge listens.
const LISTENING: Duration = Duration::from_secs(3);

/// What a bridge is to forward between, and how much.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) layout: Layout,
    /// Limits of what ports send.
    pub(super) rates: Vec<(OfPort, Rate)>,
}

/// What that comes to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Programme {
    flows: BTreeMap<FlowKey, Flow>,
    meters: BTreeMap<MeterId, Meter>,
}

/// The bridge, as its switch shows it. One owner speaks with it.
#[derive(Debug)]
pub(super) struct Forwarding {
    session: Session,
    /// True if it has meters.
    pub(super) limits: bool,
    /// What it forwards by, as far as we know.
    there: Programme,
    /// What that was made of; none if it was found there, or if the last change
    /// of it ended halfway.
    made_of: Option<Wanted>,
    /// Ports that its flows name, which it may have learnt from.
    ports: BTreeSet<OfPort>,
    /// What somebody else changed, and is left so.
    left: Option<Altered>,
}

/// What somebody else made of the flows of a bridge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Altered {
    /// The first that differs, as it should be.
    pub(super) wanted: String,
    /// The same as it is, and how many differ besides.
    pub(super) found: String,
}

impl Altered {
    fn between(wanted: &BTreeMap<FlowKey, Flow>, found: &BTreeMap<FlowKey, Flow>) -> Option<Self> {
        let differs = |key: &&FlowKey| wanted.get(*key) != found.get(*key);
        let strange = found.keys().filter(|key| !wanted.contains_key(*key));
        let mut differing = wanted.keys().chain(strange).filter(differs);
        let first = differing.next()?;
        let text = |flow: Option<&Flow>| flow.map_or_else(|| "none".to_owned(), Flow::to_string);
        let others = match differing.count() {
            0 => String::new(),
            1 => ", and 1 other differs".to_owned(),
            many => format!(", and {many} others differ"),
        };
        Some(Self {
            wanted: text(wanted.get(first)),
            found: format!("{}{others}", text(found.get(first))),
        })
    }
}

/// What a bridge tells by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum News {
    /// Somebody else changed its flows.
    Rules,
    /// The machine behind this port speaks, and waits for its port.
    Speaks(OfPort),
}

/// Why a bridge doesn't forward as it is to.
#[derive(Debug, thiserror::Error)]
pub(super) enum ForwardingError {
    #[error("OpenFlow can't be spoken")]
    Open(#[from] OpenError),
    #[error("OpenFlow is spoken no more")]
    Session(#[from] SessionError),
    #[error("the switch doesn't take its rules")]
    Apply(#[from] ApplyError),
    #[error(transparent)]
    NoForm(#[from] NoForm),
}

impl ForwardingError {
    /// True if the switch refused, and can be spoken to.
    pub(super) fn is_refusal(&self) -> bool {
        matches!(
            self,
            Self::Apply(ApplyError::Refused { .. }) | Self::NoForm(_)
        )
    }
}

/// Numbers of the meters of a port that is limited: for the peak and for the
/// average.
pub(super) fn meters_of(port: OfPort) -> [u32; 2] {
    // Ports have 16 bits, so both are numbers that a meter can have.
    [port.saturating_mul(2), port.saturating_mul(2) + 1]
}

/// The largest frame in kbit, rounded up: an MTU has 9,216 bytes at most.
const LARGEST_KBITS: u32 = 74;

/// The meters of a rate.
fn meters(port: OfPort, rate: Rate) -> impl Iterator<Item = Meter> {
    let Rate {
        average_kbps,
        peak_kbps,
        burst_kib,
    } = rate;
    let [peak, average] = meters_of(port);
    // A tenth of a second at the peak, and two of the largest frames at least:
    // frames come whole, so nothing passes a burst that is shorter than one.
    let grain = (peak_kbps.get() / 10).max(2 * LARGEST_KBITS);
    let burst = u64::from(burst_kib.get()) * 1_024 * 8 / 1_000;
    let burst = u32::try_from(burst).unwrap_or(u32::MAX).max(LARGEST_KBITS);
    [
        (peak, peak_kbps.get(), grain),
        (average, average_kbps.get(), burst),
    ]
    .into_iter()
    .filter_map(|(id, rate_kbps, burst_kbits)| {
        let id = MeterId::try_from(id).ok()?;
        Some(Meter {
            id,
            rate_kbps,
            burst_kbits,
        })
    })
}

impl Wanted {
    /// The same on a switch that has no meters.
    fn unlimited(mut self) -> Self {
        self.rates.clear();
        for port in &mut self.layout.ports {
            port.meters.clear();
        }
        self
    }

    /// Every port that frames may go to.
    fn ports(&self) -> impl Iterator<Item = OfPort> {
        let ports = self.layout.ports.iter().map(|port| port.ofport);
        ports.chain(self.layout.uplink)
    }
}

impl Programme {
    /// What ports and their limits come to.
    fn new(Wanted { layout, rates }: &Wanted) -> Result<Self, NoForm> {
        let flows = wire::flows(&rules(layout))?;
        let rates = rates.iter();
        Ok(Self {
            flows: flows.into_iter().map(|flow| (flow.key(), flow)).collect(),
            meters: rates
                .flat_map(|(port, rate)| meters(*port, *rate))
                .map(|meter| (meter.id, meter))
                .collect(),
        })
    }

    /// What makes of `there` this: first meters come, then flows change all at
    /// once, then meters go.
    fn delta(&self, there: &Self) -> (Vec<MeterMod>, Vec<FlowMod>, Vec<MeterMod>) {
        let coming = self
            .meters
            .values()
            .filter_map(|meter| match there.meters.get(&meter.id) {
                None => Some(MeterMod::Add(*meter)),
                Some(held) if held != meter => Some(MeterMod::Modify(*meter)),
                Some(_) => None,
            });
        let stale = there
            .flows
            .keys()
            .filter(|key| !self.flows.contains_key(key));
        let fresh = self
            .flows
            .iter()
            .filter_map(|(key, flow)| match there.flows.get(key) {
                Some(held) if held == flow => None,
                // Costs the switch less than another in its place.
                Some(held) if does_otherwise(held, flow) => Some(FlowMod::Modify(flow.clone())),
                Some(_) | None => Some(FlowMod::Add(flow.clone())),
            });
        let flows = stale.map(|key| FlowMod::Delete(key.clone())).chain(fresh);
        let going = there
            .meters
            .keys()
            .filter(|id| !self.meters.contains_key(id));
        let going = going.map(|id| MeterMod::Delete(*id));
        (coming.collect(), flows.collect(), going.collect())
    }
}

impl Forwarding {
    /// Connects to a bridge and reads what it forwards by.
    /// `control` is the socket for commands to its switch.
    pub(super) async fn open(
        socket: &Path,
        control: Option<&Path>,
        patience: Duration,
    ) -> Result<Self, ForwardingError> {
        let mut session = reach(socket, control, patience).await?;
        match session.watch(wire::learnt()).await {
            Ok(()) => {}
            Err(SessionError::Refused(refusal)) => {
                let socket = socket.display();
                tracing::warn!(%socket, %refusal, "nobody tells what others do to the rules");
            }
            Err(error) => return Err(error.into()),
        }
        match session.hear_frames().await {
            Ok(()) => {}
            Err(SessionError::Refused(refusal)) => {
                let socket = socket.display();
                tracing::warn!(%socket, %refusal, "nobody tells which machines speak while they wait for their ports");
            }
            Err(error) => return Err(error.into()),
        }
        let limits = session.meter_features().await?.is_some();
        let there = read(&mut session, limits).await?;
        Ok(Self {
            session,
            limits,
            there,
            made_of: None,
            ports: BTreeSet::new(),
            left: None,
        })
    }

    /// Looks what somebody else made of the flows. What is to be repaired is
    /// with the next change. None if nothing differs, or nothing that was not
    /// said before.
    pub(super) async fn review(
        &mut self,
        policy: DriftPolicy,
    ) -> Result<Option<Altered>, ForwardingError> {
        let found = read(&mut self.session, self.limits).await?;
        let altered = Altered::between(&self.there.flows, &found.flows);
        match policy {
            DriftPolicy::Repair => {
                if altered.is_some() {
                    self.there = found;
                    self.made_of = None;
                }
                Ok(altered)
            }
            DriftPolicy::Report => {
                let before = std::mem::replace(&mut self.left, altered.clone());
                Ok(altered.filter(|_| self.left != before))
            }
        }
    }

    /// Numbers of ports that its flows name.
    pub(super) fn numbers(&self) -> BTreeSet<OfPort> {
        let named = numbers(self.there.flows.keys());
        named.chain(self.ports.iter().copied()).collect()
    }

    /// What somebody else made of the flows, and is left so.
    pub(super) fn left(&self) -> Option<&Altered> {
        self.left.as_ref()
    }

    /// True if it forwards as it was told to last, as far as we know.
    pub(super) fn is_right(&self) -> bool {
        self.made_of.is_some()
    }

    /// Forwards by this from now on. True if that was a change.
    pub(super) async fn become_this(&mut self, wanted: Wanted) -> Result<bool, ForwardingError> {
        let wanted = if self.limits {
            wanted
        } else {
            wanted.unlimited()
        };
        if self.made_of.as_ref() == Some(&wanted) {
            return Ok(false);
        }
        let programme = Programme::new(&wanted)?;
        let (coming, mut flows, going) = programme.delta(&self.there);
        let stay: BTreeSet<OfPort> = wanted.ports().collect();
        flows.extend(self.ports.difference(&stay).map(|port| {
            // Frames would go on to where nobody is until that is forgotten.
            FlowMod::DeleteAll(learnt_from(*port))
        }));
        // What is refused may end this after any of the steps.
        self.made_of = None;
        self.change_meters(&coming).await?;
        if !flows.is_empty() {
            self.session.apply(&flows).await?;
        }
        self.there.flows = programme.flows;
        self.ports = stay;
        self.change_meters(&going).await?;
        self.made_of = Some(wanted);
        Ok(!(coming.is_empty() && flows.is_empty() && going.is_empty()))
    }

    /// Changes meters. Of several that one is refused says nothing of the
    /// others, so then the switch is asked.
    async fn change_meters(&mut self, changes: &[MeterMod]) -> Result<(), ForwardingError> {
        if changes.is_empty() {
            return Ok(());
        }
        if let Err(refused) = self.session.change_meters(changes).await {
            self.there.meters = known(self.session.meters().await?);
            return Err(refused.into());
        }
        for change in changes {
            match change {
                MeterMod::Add(meter) | MeterMod::Modify(meter) => {
                    self.there.meters.insert(meter.id, *meter);
                }
                MeterMod::Delete(id) => drop(self.there.meters.remove(id)),
            }
        }
        Ok(())
    }

    /// Changes nothing, and makes the switch look through what it keeps of its
    /// rules all the same: whatever is said of rules does.
    pub(super) async fn stir(&mut self) -> Result<(), ForwardingError> {
        // No port has number 0, so nothing was learnt from it.
        let nothing = FlowMod::DeleteAll(learnt_from(0));
        Ok(self.session.apply(&[nothing]).await?)
    }

    /// Sends frames as if they had come in by a port.
    pub(super) async fn send_from(
        &mut self,
        port: OfPort,
        frames: Vec<Bytes>,
    ) -> Result<(), ForwardingError> {
        let Ok(port) = Port::try_from(port) else {
            return Ok(());
        };
        let frames = frames.into_iter();
        let frames = frames.map(|frame| PacketOut::as_if_from(port, frame));
        Ok(self.session.send_frames(frames).await?)
    }

    /// The counters of one port, or of all.
    pub(super) async fn stats(
        &mut self,
        port: Option<OfPort>,
    ) -> Result<Vec<PortStats>, ForwardingError> {
        let port = port.and_then(|port| Port::try_from(port).ok());
        Ok(self.session.port_stats(port).await?)
    }

    /// Waits until somebody else changes its flows, a machine speaks that waits
    /// for its port, or the switch is gone. Cancel-safe.
    pub(super) async fn told(&mut self) -> Result<News, SessionError> {
        loop {
            match self.session.told().await? {
                Told::Flows => return Ok(News::Rules),
                Told::Frame(frame) => {
                    if let Some(port) = wire::reported(frame.cookie) {
                        return Ok(News::Speaks(port));
                    }
                }
            }
        }
    }
}

/// Numbers of the ports that flows are for. Whatever goes to a port has also
/// flows that are from there.
fn numbers<'a>(flows: impl Iterator<Item = &'a FlowKey>) -> impl Iterator<Item = OfPort> {
    let fields = flows.flat_map(|flow| flow.fields.fields());
    let ports = fields.filter(|value| value.field() == Field::InPort);
    ports.filter_map(|value| OfPort::try_from(value.value()).ok())
}

/// True if two flows of one key differ in nothing but what they do.
fn does_otherwise(held: &Flow, flow: &Flow) -> bool {
    let Flow {
        table: _,
        priority: _,
        fields: _,
        cookie,
        idle_timeout,
        hard_timeout,
        actions: _,
        goto: _,
        others: _,
    } = held;
    (*cookie, *idle_timeout, *hard_timeout) == (flow.cookie, flow.idle_timeout, flow.hard_timeout)
}

/// What a switch forwards by.
async fn read(session: &mut Session, limits: bool) -> Result<Programme, SessionError> {
    let held = session.flows(&Selection::default()).await?;
    let flows = held.into_iter().map(|held| held.flow);
    let flows = flows.filter(|flow| !wire::learnt().hold(flow.cookie));
    let meters = if limits {
        session.meters().await?
    } else {
        Vec::new()
    };
    Ok(Programme {
        flows: flows.map(|flow| (flow.key(), flow)).collect(),
        meters: known(meters),
    })
}

/// Connects to a bridge. One that has just been made listens when its switch
/// has gone through its loop once more; if nothing else happens that takes
/// seconds, and any command is something that happens.
async fn reach(
    socket: &Path,
    control: Option<&Path>,
    patience: Duration,
) -> Result<Session, OpenError> {
    let deadline = Instant::now() + LISTENING;
    loop {
        match Session::open(socket, patience).await {
            Err(OpenError::Connect { .. }) if Instant::now() < deadline => {
                if let Some(control) = control {
                    // Whether it answers is seen by what comes of it.
                    drop(unixctl::call(control, "version", &[], patience).await);
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            reached => return reached,
        }
    }
}

/// What was learnt from a port.
fn learnt_from(port: OfPort) -> Selection {
    Selection {
        cookies: wire::learnt_from(port),
        ..Selection::default()
    }
}

/// The meters of a switch by their numbers.
fn known(held: Vec<HeldMeter>) -> BTreeMap<MeterId, Meter> {
    held.into_iter()
        .map(|held| match held {
            HeldMeter::Known(meter) => (meter.id, meter),
            // Of a kind that we don't make, so it differs from ours.
            HeldMeter::Foreign(id) => (id, foreign(id)),
        })
        .collect()
}

/// A meter that is none of ours.
fn foreign(id: MeterId) -> Meter {
    Meter {
        id,
        rate_kbps: 0,
        burst_kbits: 0,
    }
}
