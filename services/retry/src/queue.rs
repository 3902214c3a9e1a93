// SPDX-License-Identifier: Apache-2.0
//! One durable queue: one entry per key however many changes its host misses,
//! and the life cycle of an entry. Both queues are this, by their key types.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use dvs_ledger::{Decision, Writes};
use dvs_schemas::v1::{Attempt, EntrySelection, EntryState, Forgotten, Settlement};
use dvs_schemas::{HostName, Revision, StoreId, SwitchName, Timestamp};

use crate::backoff::Pace;
use crate::commit::Commit;
use crate::core::Effect;
use crate::key::{Key, Path, under};
use crate::ledger::{Plan, Stored};
use crate::note::{End, Fate, Note};

/// What a queue decided.
type Out = Decision<Effect>;

/// Longest error that an entry keeps, in characters: enough for a host's words
/// about a few ports, while a page of the list still holds many entries.
const ERROR_MAX: usize = 500;

/// Names one try, from the question to the publisher to the host's answer.
/// Never used twice by one core.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FlightId(pub u64);

/// A key with something left to do.
#[derive(Debug)]
pub(crate) struct Entry<K> {
    pub(crate) key: K,
    /// The newest commit that was put.
    commit: Commit,
    since: Timestamp,
    attempts: u32,
    /// What the host, or the publisher of it, said last.
    last_error: String,
    /// Why it was not tried since, if so.
    not_tried: Option<String>,
    stage: Stage,
}

/// Where an entry is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Until it is tried.
    Waiting { due: Timestamp },
    /// Being tried.
    InFlight(Flight),
    /// Not to be tried until somebody says so.
    Parked,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Flight {
    id: FlightId,
    /// When it was due.
    due: Timestamp,
    /// Newest commit that was put since the start of the flight. What was put
    /// before is always covered: the publisher is asked afterwards.
    put_meanwhile: Option<Commit>,
    /// Whether the host came back meanwhile.
    is_back: bool,
}

/// How a flight ends.
#[derive(Debug)]
pub(crate) enum Landing {
    /// The host has done what covers all that was put up to this commit.
    Done { covers: Commit },
    /// Nothing is to be done any more.
    Cancelled,
    /// It failed, and why.
    Failed(String),
    /// The host was not asked, and why.
    NotTried(String),
}

#[derive(Debug)]
pub(crate) struct Queue<K> {
    entries: BTreeMap<Path, Entry<K>>,
    /// The waiting ones by their time.
    due: BTreeSet<(Timestamp, Path)>,
}

impl<K: Key> Entry<K> {
    /// How it stands, for people.
    pub(crate) fn state(&self) -> EntryState {
        EntryState {
            revision: self.commit.revision,
            since: self.since,
            attempts: self.attempts,
            last_error: self.last_error.clone(),
            not_tried: self.not_tried.clone(),
            next_try: match self.stage {
                Stage::Waiting { due } | Stage::InFlight(Flight { due, .. }) => Some(due),
                Stage::Parked => None,
            },
        }
    }

    fn note(&self, fate: Fate) -> Effect {
        Effect::Note(Note {
            host: self.key.host().clone(),
            switch: self.key.switch().clone(),
            port: self.key.port().cloned(),
            revision: self.commit.revision,
            attempts: self.attempts,
            fate,
        })
    }

    fn write(&self, path: &Path, writes: &mut Writes) {
        let stored = Stored {
            key: self.key.clone(),
            store: self.commit.store,
            revision: self.commit.revision,
            since: self.since,
            attempts: self.attempts,
            last_error: self.last_error.clone(),
            not_tried: self.not_tried.clone(),
            plan: match self.stage {
                Stage::Waiting { due } | Stage::InFlight(Flight { due, .. }) => Plan::TryAt(due),
                Stage::Parked => Plan::Parked,
            },
        };
        writes.put(K::TABLE, path.as_bytes(), &stored);
    }
}

impl<K: Key> Queue<K> {
    /// The queue as it was kept. No try lies further ahead than the largest
    /// window: the clock may have been ahead when it was planned.
    pub(crate) fn load(kept: Vec<Stored<K>>, latest: Timestamp) -> Self {
        let mut queue = Self {
            entries: BTreeMap::new(),
            due: BTreeSet::new(),
        };
        for stored in kept {
            let path = stored.key.path();
            let stage = match stored.plan {
                Plan::TryAt(due) => Stage::Waiting {
                    due: due.min(latest),
                },
                Plan::Parked => Stage::Parked,
            };
            let entry = Entry {
                key: stored.key,
                commit: Commit {
                    store: stored.store,
                    revision: stored.revision,
                },
                since: stored.since,
                attempts: stored.attempts,
                last_error: stored.last_error,
                not_tried: stored.not_tried,
                stage: Stage::Parked,
            };
            queue.entries.insert(path.clone(), entry);
            queue.turn_to(&path, stage);
        }
        queue
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Every entry's key and the newest commit that was put.
    pub(crate) fn commits(&self) -> impl Iterator<Item = (&K, Commit)> {
        let entries = self.entries.values();
        entries.map(|entry| (&entry.key, entry.commit))
    }

    /// When the next entry is due.
    pub(crate) fn due(&self) -> Option<Timestamp> {
        self.due.first().map(|(due, _)| *due)
    }

    /// Entries from `after` on, exclusively, whose path begins with `prefix`.
    pub(crate) fn entries<'a>(
        &'a self,
        prefix: &'a str,
        after: Option<&'a Path>,
    ) -> impl Iterator<Item = (&'a Path, &'a Entry<K>)> {
        let from = match after {
            Some(path) if **path >= *prefix => Bound::Excluded(&**path),
            Some(_) | None => Bound::Included(prefix),
        };
        self.entries
            .range::<str, _>((from, Bound::Unbounded))
            .take_while(move |(path, _)| path.starts_with(prefix))
    }

    /// A call that was not acknowledged. What is not newer than the entry
    /// changes nothing, so a repeated put counts once.
    pub(crate) fn put(
        &mut self,
        now: Timestamp,
        store: StoreId,
        attempt: Attempt<K>,
        pace: &mut Pace,
        out: &mut Out,
    ) {
        let Attempt {
            key,
            revision,
            error,
        } = attempt;
        let commit = Commit { store, revision };
        let path = key.path();
        if let Some(entry) = self.entries.get_mut(&path) {
            if let Stage::InFlight(flight) = &mut entry.stage {
                flight.put_meanwhile = flight.put_meanwhile.max(Some(commit));
            }
            if commit <= entry.commit {
                return;
            }
            entry.commit = commit;
            entry.attempts = entry.attempts.saturating_add(1);
            entry.last_error = clipped(&error);
            entry.not_tried = None;
            entry.write(&path, &mut out.writes);
            out.effect(entry.note(Fate::Failed(entry.last_error.clone())));
            return;
        }
        let entry = Entry {
            key,
            commit,
            since: now,
            attempts: 1,
            last_error: clipped(&error),
            not_tried: None,
            stage: Stage::Parked,
        };
        out.effect(entry.note(Fate::Begun(entry.last_error.clone())));
        self.entries.insert(path.clone(), entry);
        let due = pace.next(now, 1);
        self.turn_to(&path, Stage::Waiting { due });
        self.write(&path, &mut out.writes);
    }

    /// A host has applied a full state: what is not newer is done.
    pub(crate) fn settle(&mut self, store: StoreId, settlement: &Settlement, out: &mut Out) {
        let Settlement {
            host,
            switch,
            revision,
        } = settlement;
        let applied = Commit {
            store,
            revision: *revision,
        };
        let prefix = under(host, Some(switch));
        self.end(&prefix, |commit| commit <= applied, End::Settled, out);
    }

    /// A host will never come back: what is older than that word is of no use.
    pub(crate) fn forget(&mut self, store: StoreId, forgotten: &Forgotten, out: &mut Out) {
        let Forgotten { host, revision } = forgotten;
        let since = Commit {
            store,
            revision: *revision,
        };
        let prefix = under(host, None);
        self.end(&prefix, |commit| commit < since, End::Forgotten, out);
    }

    /// Drops the entries whose path begins with `prefix` and whose commit is
    /// over.
    fn end(&mut self, prefix: &str, is_over: impl Fn(Commit) -> bool, end: End, out: &mut Out) {
        let over: Vec<Path> = self
            .entries(prefix, None)
            .filter(|(_, entry)| is_over(entry.commit))
            .map(|(path, _)| path.clone())
            .collect();
        for path in over {
            self.drop_entry(&path, end, out);
        }
    }

    /// Starts the try of the entry that is due first, if one is due by now.
    pub(crate) fn launch(&mut self, now: Timestamp, id: FlightId) -> Option<(K, Revision)> {
        let (due, path) = self.due.first().cloned()?;
        if due > now {
            return None;
        }
        self.turn_to(
            &path,
            Stage::InFlight(Flight {
                id,
                due,
                put_meanwhile: None,
                is_back: false,
            }),
        );
        let entry = self.entries.get(&path)?;
        Some((entry.key.clone(), entry.commit.revision))
    }

    /// Whether the entry is still in that flight, and not parked, cancelled or
    /// settled meanwhile.
    pub(crate) fn is_flying(&self, key: &K, id: FlightId) -> bool {
        self.flight(&key.path(), id).is_some()
    }

    fn flight(&self, path: &Path, id: FlightId) -> Option<Flight> {
        match self.entries.get(path)?.stage {
            Stage::InFlight(flight) if flight.id == id => Some(flight),
            Stage::InFlight(_) | Stage::Waiting { .. } | Stage::Parked => None,
        }
    }

    /// A flight is over. Changes nothing if the entry left it meanwhile.
    pub(crate) fn land(
        &mut self,
        now: Timestamp,
        key: &K,
        id: FlightId,
        landing: Landing,
        pace: &mut Pace,
        out: &mut Out,
    ) {
        let path = key.path();
        let Some(flight) = self.flight(&path, id) else {
            return;
        };
        let covers = match &landing {
            Landing::Done { covers } => Some(*covers),
            Landing::Cancelled | Landing::Failed(_) | Landing::NotTried(_) => None,
        };
        let covered = flight.put_meanwhile <= covers;
        let Some(entry) = self.entries.get_mut(&path) else {
            return;
        };
        let window = match landing {
            Landing::Done { .. } if covered => {
                self.drop_entry(&path, End::Done, out);
                return;
            }
            Landing::Cancelled if covered => {
                self.drop_entry(&path, End::Unwanted, out);
                return;
            }
            // The host answers, so what it missed meanwhile need not wait long.
            Landing::Done { .. } | Landing::Cancelled => 1,
            Landing::Failed(error) => {
                entry.attempts = entry.attempts.saturating_add(1);
                entry.last_error = clipped(&error);
                entry.not_tried = None;
                out.effect(entry.note(Fate::Failed(entry.last_error.clone())));
                if flight.is_back { 1 } else { entry.attempts }
            }
            Landing::NotTried(why) => {
                entry.attempts = entry.attempts.saturating_add(1);
                let why = clipped(&why);
                out.effect(entry.note(Fate::Failed(why.clone())));
                entry.not_tried = Some(why);
                if flight.is_back { 1 } else { entry.attempts }
            }
        };
        let due = pace.next(now, window);
        self.turn_to(&path, Stage::Waiting { due });
        self.write(&path, &mut out.writes);
    }

    /// Tries the selected entries now; parked ones too.
    pub(crate) fn kick(
        &mut self,
        now: Timestamp,
        selection: &EntrySelection,
        writes: &mut Writes,
    ) -> u64 {
        self.act(selection, |queue, path| {
            let Some(entry) = queue.entries.get(path) else {
                return;
            };
            match entry.stage {
                Stage::Waiting { .. } | Stage::Parked => {
                    queue.turn_to(path, Stage::Waiting { due: now });
                    queue.write(path, writes);
                }
                Stage::InFlight(_) => {}
            }
        })
    }

    /// Whether a host has entries.
    pub(crate) fn has(&self, host: &HostName) -> bool {
        self.entries(&under(host, None), None).next().is_some()
    }

    /// Whether a host has entries of a switch.
    pub(crate) fn misses(&self, host: &HostName, switch: &SwitchName) -> bool {
        self.entries(&under(host, Some(switch)), None)
            .next()
            .is_some()
    }

    /// A host is back, or able to: what it missed, of a switch or of all, is
    /// tried now, but for what is parked. A try that began before is repeated
    /// soon if it fails.
    pub(crate) fn is_back(
        &mut self,
        now: Timestamp,
        host: &HostName,
        switch: Option<&SwitchName>,
        writes: &mut Writes,
    ) {
        let prefix = under(host, switch);
        let all = self.entries(&prefix, None);
        let paths: Vec<Path> = all.map(|(path, _)| path.clone()).collect();
        for path in &paths {
            let Some(entry) = self.entries.get_mut(path) else {
                continue;
            };
            match &mut entry.stage {
                Stage::Waiting { due } if *due > now => {
                    self.turn_to(path, Stage::Waiting { due: now });
                    self.write(path, writes);
                }
                Stage::InFlight(flight) => flight.is_back = true,
                Stage::Waiting { .. } | Stage::Parked => {}
            }
        }
    }

    /// Stops trying the selected entries.
    pub(crate) fn park(&mut self, selection: &EntrySelection, writes: &mut Writes) -> u64 {
        self.act(selection, |queue, path| {
            queue.turn_to(path, Stage::Parked);
            queue.write(path, writes);
        })
    }

    /// Drops the selected entries.
    pub(crate) fn cancel(&mut self, selection: &EntrySelection, out: &mut Out) -> u64 {
        self.act(selection, |queue, path| {
            queue.drop_entry(path, End::Cancelled, out);
        })
    }

    /// Does something to each selected entry; says to how many.
    fn act(&mut self, selection: &EntrySelection, mut action: impl FnMut(&mut Self, &Path)) -> u64 {
        if selection.queue.is_some_and(|queue| queue != K::QUEUE) {
            return 0;
        }
        let prefix = prefix(selection.host.as_ref(), selection.switch.as_ref());
        let selected: Vec<Path> = self
            .entries(&prefix, None)
            .filter(|(_, entry)| {
                wanted(selection.switch.as_ref(), Some(entry.key.switch()))
                    && wanted(selection.port.as_ref(), entry.key.port())
            })
            .map(|(path, _)| path.clone())
            .collect();
        for path in &selected {
            action(self, path);
        }
        selected.len() as u64
    }

    /// The only place where stages change, so that `due` fits them.
    fn turn_to(&mut self, path: &Path, stage: Stage) {
        let Some(entry) = self.entries.get_mut(path) else {
            return;
        };
        if let Stage::Waiting { due } = entry.stage {
            self.due.remove(&(due, path.clone()));
        }
        if let Stage::Waiting { due } = stage {
            self.due.insert((due, path.clone()));
        }
        entry.stage = stage;
    }

    fn drop_entry(&mut self, path: &Path, end: End, out: &mut Out) {
        self.turn_to(path, Stage::Parked);
        if let Some(entry) = self.entries.remove(path) {
            out.effect(entry.note(Fate::Ended(end)));
        }
        out.writes.delete(K::TABLE, path.as_bytes());
    }

    fn write(&self, path: &Path, writes: &mut Writes) {
        if let Some(entry) = self.entries.get(path) {
            entry.write(path, writes);
        }
    }
}

/// The longest beginning that all paths of a filter share.
pub(crate) fn prefix(host: Option<&HostName>, switch: Option<&SwitchName>) -> String {
    host.map(|host| under(host, switch)).unwrap_or_default()
}

/// Whether a filter lets a value pass.
pub(crate) fn wanted<T: PartialEq>(filter: Option<&T>, value: Option<&T>) -> bool {
    filter.is_none() || filter == value
}

/// A text as an entry keeps it: cut between words, and said to be cut.
fn clipped(error: &str) -> String {
    dvs_schemas::shortened(error, ERROR_MAX)
}
