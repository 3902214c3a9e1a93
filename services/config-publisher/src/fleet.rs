// SPDX-License-Identifier: Apache-2.0
//! The hosts that ever said hello, and what is known of them. That they exist,
//! and which of them follow another history, is durable; whether they are there
//! and what they have applied is known anew within one heartbeat of a start, and
//! who is silent for long is absent.

mod following;
mod sessions;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use dvs_schemas::v1::{
    Diverged, Heartbeat, Hello, HostDatapath, HostVerdict, Observed, Position, Presence,
};
use dvs_schemas::{HostName, Revision, SessionId, SwitchName, Timestamp};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::history::AsOf;
use crate::record::PushId;
pub use following::way_on;
use following::{diverged, judged};
pub use sessions::Arrival;
use sessions::Known;

/// Heartbeats that may be missing before a host counts as absent.
const MISSED: u32 = 3;

/// The interval that is assumed before the first heartbeat. The hosts' own
/// default is 10 s; one that is set slower is not to be taken for absent before
/// it has said so.
const FIRST_INTERVAL: Duration = Duration::from_secs(60);

/// Longest interval that is believed: a host that names a longer one would
/// never be seen as absent.
const LONGEST_INTERVAL: Duration = Duration::from_secs(3600);

/// Longest text that is kept of what a host says of itself, in characters:
/// enough for a fully qualified name, and a page of hosts stays a page.
const WORDS: usize = 255;

/// A host as it is stored; blank as long as it has not said hello.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostEntry {
    /// The machine or container that its agent runs on.
    pub node: String,
    /// Where the bus saw its agent.
    pub address: Option<IpAddr>,
    /// Its agent's version.
    pub version: String,
    /// What forwards its packets.
    #[serde(default)]
    pub datapath: Option<HostDatapath>,
    /// Its agent; none as long as that has said no hello to this ledger.
    pub agent: Option<Uuid>,
    /// The session of its agent.
    pub session: SessionId,
    /// What it was last heard to follow instead of the publisher's ledger, until
    /// it says otherwise: it may be silent for long, and has wired what that
    /// says.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub diverged: Vec<Diverged>,
}

/// A host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// What is stored of it.
    pub entry: HostEntry,
    observed: BTreeMap<SwitchName, Told>,
    sign: Sign,
    /// Since when signs of life would come; none while the bus is away, and
    /// nobody becomes absent then.
    listening: Option<Timestamp>,
    /// The full push that answers the hello of this session.
    greeting: Option<(SessionId, PushId)>,
    /// Whether its agent has gone, or does not answer, so that another one may
    /// follow it.
    ended: bool,
    /// Other agents that want to be this host, the latest last.
    namesakes: Vec<Known>,
}

/// What a host has applied of a switch, as far as it told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Told {
    /// None if it may be of another store than the publisher's: then it is no
    /// number of this ledger.
    revision: Option<Revision>,
    by: By,
}

/// How a host told what it has applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum By {
    /// By a hello or a heartbeat.
    Itself,
    /// By an answer to a push since then.
    Answer,
}

/// The last sign of life of a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sign {
    /// None, and the bus was not there yet to bring one.
    None,
    /// None since the bus is there.
    Awaited { since: Timestamp },
    /// It was heard of, and said how often it speaks.
    Heard { at: Timestamp, interval: Duration },
}

/// All hosts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fleet {
    hosts: BTreeMap<HostName, Host>,
    roster: Option<Roster>,
    /// Hosts that follow another history.
    diverged: BTreeSet<HostName>,
    /// Those of them that nobody was told of yet.
    news: BTreeSet<HostName>,
    /// Hosts whose entries are not stored as they are.
    unsaved: BTreeSet<HostName>,
}

/// Everybody's name, and how long nobody can become absent. Spares the next
/// push to ten thousand hosts a look at each.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Roster {
    names: Arc<[HostName]>,
    until: Timestamp,
}

impl Fleet {
    /// The fleet as it is stored. Which hosts follow the ledger is judged anew.
    #[must_use]
    pub fn load(
        entries: impl IntoIterator<Item = (HostName, HostEntry)>,
        ledger: AsOf<'_>,
    ) -> Self {
        let mut fleet = Self::default();
        for (name, mut entry) in entries {
            let stored = std::mem::take(&mut entry.diverged);
            fleet.hosts.insert(name.clone(), Host::unheard(entry));
            fleet.follows(&name, judged(ledger, &stored));
        }
        fleet.unsaved.clear();
        fleet
    }

    /// Hosts whose entries are to be stored, with those, ascending: what changed
    /// since this was last asked.
    pub fn take_unsaved(&mut self) -> Vec<(HostName, HostEntry)> {
        let unsaved = std::mem::take(&mut self.unsaved).into_iter();
        let entries = unsaved.filter_map(|name| {
            let entry = self.hosts.get(&name)?.entry.clone();
            Some((name, entry))
        });
        entries.collect()
    }

    /// The bus is there: from now on a host that lives is heard of.
    pub fn listen(&mut self, now: Timestamp) {
        self.roster = None;
        for host in self.hosts.values_mut() {
            host.listening.get_or_insert(now);
            match host.sign {
                Sign::None => host.sign = Sign::Awaited { since: now },
                Sign::Awaited { .. } | Sign::Heard { .. } => {}
            }
        }
    }

    /// The bus is away: who falls silent may be there. Who was absent before
    /// stays so.
    pub fn stop_listening(&mut self, now: Timestamp) {
        self.roster = None;
        for host in self.hosts.values_mut() {
            if Host::presence(Some(host), now) != Presence::Absent {
                host.listening = None;
            }
        }
    }

    /// Everybody's name, ascending, if nobody is absent and all follow the
    /// ledger. What it finds holds until a host comes, or the first may have
    /// become absent.
    pub fn muster(&mut self, now: Timestamp) -> Option<Arc<[HostName]>> {
        if !self.diverged.is_empty() {
            return None;
        }
        if self.roster.as_ref().is_none_or(|roster| roster.until < now) {
            let first = self.hosts.values().filter_map(Host::waited_until).min();
            let until = first.unwrap_or(now);
            self.roster = (until >= now).then(|| Roster {
                names: self.hosts.keys().cloned().collect(),
                until,
            });
        }
        self.roster.as_ref().map(|roster| roster.names.clone())
    }

    /// A host's next absence may come earlier than was known.
    fn hurry(&mut self, until: Option<Timestamp>) {
        if let (Some(roster), Some(until)) = (&mut self.roster, until) {
            roster.until = roster.until.min(until);
        }
    }

    /// A host.
    #[must_use]
    pub fn get(&self, host: &HostName) -> Option<&Host> {
        self.hosts.get(host)
    }

    /// Whether the host ever said hello.
    #[must_use]
    pub fn knows(&self, host: &HostName) -> bool {
        self.hosts.contains_key(host)
    }

    /// Every host, ascending.
    pub fn names(&self) -> impl Iterator<Item = &HostName> {
        self.hosts.keys()
    }

    /// Every host, ascending, with what is known of it.
    pub fn hosts(&self) -> impl Iterator<Item = (&HostName, &Host)> {
        self.hosts.iter()
    }

    /// Whether the host is there.
    #[must_use]
    pub fn presence(&self, host: &HostName, now: Timestamp) -> Presence {
        Host::presence(self.hosts.get(host), now)
    }

    /// The last moment at which a known host is not absent, if there is one.
    #[must_use]
    pub fn waited_until(&self, host: &HostName) -> Option<Timestamp> {
        self.hosts.get(host)?.waited_until()
    }

    /// Takes in the hello of a host's agent, which is in this session.
    pub fn greet(
        &mut self,
        now: Timestamp,
        hello: &Hello,
        agent: Option<Uuid>,
        session: SessionId,
        ledger: AsOf<'_>,
    ) {
        let known = self.hosts.get(&hello.host).map(|host| &host.entry);
        let entry = HostEntry {
            node: short(&hello.node),
            address: hello.address,
            version: short(&hello.version),
            datapath: hello.datapath,
            agent,
            session,
            diverged: known.map_or_else(Vec::new, |known| known.diverged.clone()),
        };
        let is_new = known.is_none();
        if known != Some(&entry) {
            self.unsaved.insert(hello.host.clone());
        }
        let host = self.hosts.entry(hello.host.clone());
        let host = host.or_insert_with(|| Host::unheard(entry.clone()));
        host.entry = entry;
        host.ended = false;
        host.accept(agent);
        host.listening.get_or_insert(now);
        let interval = match host.sign {
            Sign::None | Sign::Awaited { .. } => FIRST_INTERVAL,
            Sign::Heard { interval, .. } => interval.max(FIRST_INTERVAL),
        };
        host.sign = Sign::Heard { at: now, interval };
        host.observed = told(&hello.observed, &hello.positions, ledger);
        if is_new {
            self.roster = None;
        } else {
            let until = host.waited_until();
            self.hurry(until);
        }
        self.follows(&hello.host, diverged(ledger, &hello.positions));
    }

    /// Forgets a host.
    pub fn forget(&mut self, host: &HostName) {
        self.roster = None;
        self.hosts.remove(host);
        self.diverged.remove(host);
        self.news.remove(host);
        self.unsaved.remove(host);
    }

    /// Whether the host's agent said its hello to another ledger than this one,
    /// and was sent nothing for it since.
    #[must_use]
    pub fn is_stranger(&self, host: &HostName, session: SessionId) -> bool {
        self.hosts.get(host).is_none_or(|host| {
            let greeted = host.greeting.is_some_and(|(greeted, _)| greeted == session);
            let is_known = host.entry.agent.is_some() || greeted;
            session > host.entry.session || !is_known
        })
    }

    /// Takes in a heartbeat of a known host.
    pub fn hear(&mut self, now: Timestamp, heartbeat: &Heartbeat, ledger: AsOf<'_>) {
        if let Some(host) = self.hosts.get_mut(&heartbeat.host) {
            let interval = Duration::from_millis(heartbeat.interval_ms).min(LONGEST_INTERVAL);
            host.ended = heartbeat.last;
            host.sign = Sign::Heard { at: now, interval };
            let before = std::mem::replace(
                &mut host.observed,
                told(&heartbeat.observed, &heartbeat.positions, ledger),
            );
            // The heartbeat may have left before the answer. The next one has
            // left after it, and says the last word.
            let answered = before.into_iter().filter(|(_, told)| told.by == By::Answer);
            for (switch, Told { revision, by: _ }) in answered {
                let by = By::Itself;
                let told = host.observed.entry(switch).or_insert(Told { revision, by });
                told.revision = revision.max(told.revision);
            }
            let until = host.waited_until();
            self.hurry(until);
            self.follows(&heartbeat.host, diverged(ledger, &heartbeat.positions));
        }
    }

    /// Takes in an answer to a push.
    pub fn applied(
        &mut self,
        now: Timestamp,
        host: &HostName,
        switch: &SwitchName,
        report: (Revision, Option<Position>),
        ledger: AsOf<'_>,
    ) {
        let (revision, position) = report;
        let revision = ledger
            .numbers(position.as_slice(), revision)
            .then_some(revision);
        let Some(host) = self.hosts.get_mut(host) else {
            return;
        };
        match &mut host.sign {
            Sign::None => {}
            Sign::Awaited { since } => *since = now,
            Sign::Heard { at, interval: _ } => *at = now,
        }
        let by = By::Answer;
        match host.observed.get_mut(switch) {
            // A late answer tells of the past.
            Some(known) if known.revision > revision => {}
            Some(known) => *known = Told { revision, by },
            None => {
                host.observed.insert(switch.clone(), Told { revision, by });
            }
        }
    }

    /// The full push that the host's agent is being sent already in this session.
    #[must_use]
    pub fn greeting(&self, host: &HostName, session: SessionId) -> Option<PushId> {
        let (greeted, push) = self.hosts.get(host)?.greeting?;
        (greeted == session).then_some(push)
    }

    /// Notes the full push that answers a hello.
    pub fn greeted_by(&mut self, host: &HostName, session: SessionId, push: PushId) {
        if let Some(host) = self.hosts.get_mut(host) {
            host.greeting = Some((session, push));
        }
    }
}

impl Host {
    /// Whether a host is there; none for one that never said hello.
    #[must_use]
    pub fn presence(host: Option<&Self>, now: Timestamp) -> Presence {
        let Some(host) = host else {
            return Presence::Never;
        };
        if host.waited_until().is_some_and(|until| now > until) {
            return Presence::Absent;
        }
        match host.sign {
            Sign::None | Sign::Awaited { .. } => Presence::Unknown,
            Sign::Heard { at, interval } if now > at.after(interval * MISSED) => Presence::Unknown,
            Sign::Heard { .. } => Presence::Present,
        }
    }

    /// What the host has applied of a switch, as far as it told; nothing that
    /// counts, if it follows another history.
    #[must_use]
    pub fn observed(&self, switch: &SwitchName) -> Option<Revision> {
        if !self.entry.diverged.is_empty() {
            return None;
        }
        self.observed.get(switch)?.revision
    }

    /// The switches that the host told of.
    pub fn switches(&self) -> impl Iterator<Item = &SwitchName> {
        self.observed.keys()
    }

    /// When the host was last heard of.
    #[must_use]
    pub fn heard(&self) -> Option<Timestamp> {
        match self.sign {
            Sign::None | Sign::Awaited { .. } => None,
            Sign::Heard { at, .. } => Some(at),
        }
    }

    /// The last moment at which the host is not absent, if there is one.
    fn waited_until(&self) -> Option<Timestamp> {
        let listening = self.listening?;
        let (since, interval) = match self.sign {
            Sign::None => return None,
            Sign::Awaited { since } => (since, FIRST_INTERVAL),
            Sign::Heard { at, interval } => (at, interval),
        };
        Some(since.max(listening).after(interval * MISSED))
    }

    /// What the host follows instead of the publisher's ledger.
    #[must_use]
    pub fn diverged(&self) -> Option<&Diverged> {
        self.entry.diverged.first()
    }

    /// Why nothing is sent to a host, and how that counts; none if it is.
    #[must_use]
    pub fn barred(host: Option<&Self>, now: Timestamp) -> Option<(HostVerdict, String)> {
        let diverged = host.and_then(Self::diverged);
        if let Some(diverged) = diverged {
            return Some((HostVerdict::Failed, way_on(diverged)));
        }
        Self::away(host, now).map(|why| (HostVerdict::NoResponder, why))
    }

    /// Why a push need not wait for a host; none if it must.
    fn away(host: Option<&Self>, now: Timestamp) -> Option<String> {
        match Self::presence(host, now) {
            Presence::Present | Presence::Unknown => None,
            Presence::Never => Some(
                "absent: the host is not known, as it said no hello or was forgotten".to_owned(),
            ),
            // Without its age, which grows: hosts that miss a push for the same
            // reason are one group. Since when is in the list of hosts.
            Presence::Absent => Some(match host.and_then(Self::heard) {
                Some(_) => format!("absent: it missed {MISSED} heartbeats"),
                None => "absent: not heard of since config-publisher started".to_owned(),
            }),
        }
    }

    fn unheard(entry: HostEntry) -> Self {
        Self {
            entry,
            observed: BTreeMap::new(),
            sign: Sign::None,
            listening: None,
            greeting: None,
            ended: false,
            namesakes: Vec::new(),
        }
    }
}

fn short(text: &str) -> String {
    text.chars().take(WORDS).collect()
}

/// What a host tells, with where it is.
fn told(list: &[Observed], positions: &[Position], ledger: AsOf<'_>) -> BTreeMap<SwitchName, Told> {
    let pairs = list.iter().map(|observed| {
        let Observed { switch, revision } = observed;
        let told = Told {
            revision: ledger.numbers(positions, *revision).then_some(*revision),
            by: By::Itself,
        };
        (switch.clone(), told)
    });
    pairs.collect()
}
