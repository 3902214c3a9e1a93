// SPDX-License-Identifier: Apache-2.0
//! How a host makes itself known: hello after each connection, repeated until
//! the full state of every switch that the publisher named has arrived, and
//! heartbeats.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use dvs_schemas::v1::{Heartbeat, Hello, HelloReply, Observed, Position, V1};
use dvs_schemas::{Revision, SessionId, SwitchName, Timestamp};

use super::HostCore;
use crate::backoff::Backoff;

/// Unanswered hellos: soon again, since the host waits for its configuration,
/// but no oftener than every 15 to 30 s when the publisher is away for long;
/// then 10,000 hosts ask some 500 times a second.
const UNANSWERED: Backoff = Backoff {
    base: Duration::from_millis(500),
    cap: Duration::from_secs(30),
};

/// Hellos whose full states did not come: a push ends within some seconds, and
/// what fails is on its way through retry meanwhile.
const UNFULFILLED: Backoff = Backoff {
    base: Duration::from_secs(10),
    cap: Duration::from_secs(120),
};

/// Where the host is in making itself known.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Stage {
    /// No bus.
    Offline,
    /// The datapath was not read yet, and what is on it belongs into the hello.
    Waiting,
    /// A hello is due.
    Due(Timestamp),
    /// A hello was sent.
    Asked,
    /// The publisher answered; these full states are still to come. Hello
    /// again at that time.
    Awaiting(BTreeSet<SwitchName>, Timestamp),
    /// All full states came.
    Known,
}

/// Making one host known.
#[derive(Debug)]
pub(super) struct Greeting {
    stage: Stage,
    /// Hellos in a row without success.
    attempt: u32,
    /// Whether the datapath was read, or could not be.
    looked: bool,
    /// Full states that came since the connection: they may overtake the
    /// answer to the hello.
    arrived: BTreeSet<SwitchName>,
    interval: Duration,
    beat: Option<Timestamp>,
}

/// What is to be sent.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Sending {
    pub(super) hello: bool,
    pub(super) heartbeat: bool,
}

impl Greeting {
    pub(super) fn new(interval: Duration) -> Self {
        Self {
            stage: Stage::Offline,
            attempt: 0,
            looked: false,
            arrived: BTreeSet::new(),
            interval,
            beat: None,
        }
    }

    pub(super) fn is_online(&self) -> bool {
        self.stage != Stage::Offline
    }

    pub(super) fn is_known(&self) -> bool {
        self.stage == Stage::Known
    }

    pub(super) fn connected(&mut self, now: Timestamp, chance: &mut fastrand::Rng) {
        self.arrived.clear();
        self.attempt = 0;
        self.stage = if self.looked {
            Stage::Due(now)
        } else {
            Stage::Waiting
        };
        // The first one anywhere within the interval, so that hosts that
        // started together don't beat together.
        self.beat = Some(now.after(self.interval.mul_f64(chance.f64())));
    }

    pub(super) fn disconnected(&mut self) {
        self.stage = Stage::Offline;
        self.beat = None;
    }

    /// The datapath was read, or could not be; `news`: it has switches that no
    /// hello of this connection can have named.
    pub(super) fn looked(&mut self, now: Timestamp, news: bool) {
        let first = !std::mem::replace(&mut self.looked, true);
        if (first || news) && self.is_online() {
            self.stage = Stage::Due(now);
        }
    }

    /// What the publisher was told last is no longer so.
    pub(super) fn again(&mut self, now: Timestamp) {
        match self.stage {
            Stage::Known => self.stage = Stage::Due(now),
            // It is about to be told anyway.
            Stage::Offline
            | Stage::Waiting
            | Stage::Due(_)
            | Stage::Asked
            | Stage::Awaiting(..) => {}
        }
    }

    /// What the publisher said is over, whatever it promised.
    pub(super) fn at_once(&mut self, now: Timestamp) {
        match self.stage {
            Stage::Due(_) | Stage::Awaiting(..) | Stage::Known => self.stage = Stage::Due(now),
            Stage::Offline | Stage::Waiting | Stage::Asked => {}
        }
    }

    /// A full state of the switch came.
    pub(super) fn arrived(&mut self, switch: &SwitchName) {
        self.arrived.insert(switch.clone());
        if let Stage::Awaiting(missing, _) = &mut self.stage {
            missing.remove(switch);
            if missing.is_empty() {
                self.known();
            }
        }
    }

    fn known(&mut self) {
        self.stage = Stage::Known;
        self.attempt = 0;
    }

    /// The hello was answered, or not.
    pub(super) fn answered(
        &mut self,
        now: Timestamp,
        answer: Option<HelloReply>,
        chance: &mut fastrand::Rng,
    ) {
        if self.stage != Stage::Asked {
            return;
        }
        match answer {
            None => self.stage = Stage::Due(now.after(UNANSWERED.wait(self.attempt, chance))),
            Some(HelloReply {
                v: _,
                session: _,
                switches,
            }) => {
                let arrived = &self.arrived;
                let missing: BTreeSet<SwitchName> = switches
                    .into_iter()
                    .filter(|switch| !arrived.contains(switch))
                    .collect();
                if missing.is_empty() {
                    self.known();
                } else {
                    let again = now.after(UNFULFILLED.wait(self.attempt, chance));
                    self.stage = Stage::Awaiting(missing, again);
                }
            }
        }
    }

    pub(super) fn due(&self) -> Option<Timestamp> {
        let hello = match &self.stage {
            Stage::Due(at) | Stage::Awaiting(_, at) => Some(*at),
            Stage::Offline | Stage::Waiting | Stage::Asked | Stage::Known => None,
        };
        hello.into_iter().chain(self.beat).min()
    }

    pub(super) fn wake(&mut self, now: Timestamp, chance: &mut fastrand::Rng) -> Sending {
        let hello = match &self.stage {
            Stage::Due(at) | Stage::Awaiting(_, at) => *at <= now,
            Stage::Offline | Stage::Waiting | Stage::Asked | Stage::Known => false,
        };
        if hello {
            self.stage = Stage::Asked;
            self.attempt = self.attempt.saturating_add(1);
        }
        let heartbeat = self.beat.is_some_and(|beat| beat <= now);
        if heartbeat {
            // Early by up to a tenth, never late: late is what absence looks
            // like.
            let jitter = 0.9 + chance.f64() / 10.0;
            self.beat = Some(now.after(self.interval.mul_f64(jitter)));
        }
        Sending { hello, heartbeat }
    }
}

impl HostCore {
    fn observed(&self) -> Vec<Observed> {
        let held = self
            .switches
            .iter()
            .filter(|(name, switch)| !switch.held.is_empty() || self.there.contains_key(*name))
            .map(|(name, switch)| (name, switch.observed));
        // What nobody told of is there too: the publisher says that it goes.
        let strays = self
            .there
            .keys()
            .filter(|name| !self.switches.contains_key(*name))
            .map(|name| (name, Revision::ZERO));
        held.chain(strays)
            .map(|(switch, revision)| Observed {
                switch: switch.clone(),
                revision,
            })
            .collect()
    }

    /// The newest commits that are known, one of each store and run, the newest
    /// last.
    pub(super) fn positions(&self) -> Vec<Position> {
        let mut newest = BTreeMap::new();
        for switch in self.switches.values() {
            let Position {
                store,
                run,
                revision,
            } = switch.held.position();
            let known: &mut Revision = newest.entry((store, run)).or_default();
            *known = revision.max(*known);
        }
        let positions = newest.into_iter();
        let positions = positions.map(|((store, run), revision)| Position {
            store,
            run,
            revision,
        });
        positions.collect()
    }

    pub(super) fn hello(&self) -> Hello {
        Hello {
            v: V1,
            host: self.host.clone(),
            agent: self.settings.agent,
            session: self.standing.last(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            node: self.settings.node.clone(),
            // Whoever sends it knows.
            address: None,
            datapath: Some(self.settings.datapath),
            observed: self.observed(),
            positions: self.positions(),
        }
    }

    pub(super) fn heartbeat(&self, session: SessionId) -> Heartbeat {
        let interval = self.settings.heartbeat.as_millis();
        Heartbeat {
            v: V1,
            host: self.host.clone(),
            session,
            seq: self.telling.seq(),
            interval_ms: u64::try_from(interval).unwrap_or(u64::MAX),
            last: false,
            observed: self.observed(),
            positions: self.positions(),
        }
    }
}
