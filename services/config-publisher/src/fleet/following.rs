// SPDX-License-Identifier: Apache-2.0
//! Which hosts follow the ledger, and which another history.

use std::collections::BTreeSet;

use dvs_schemas::HostName;
use dvs_schemas::v1::{Diverged, Position};

use super::Fleet;
use crate::history::AsOf;

/// Positions that are believed of one message. A host has one, and two while
/// it goes over to another store.
const POSITIONS: usize = 8;

impl Fleet {
    /// Takes in where a host is by an answer. Returns what it follows instead
    /// of the ledger, if that is so.
    pub fn answers(
        &mut self,
        host: &HostName,
        position: Option<Position>,
        ledger: AsOf<'_>,
    ) -> Option<Diverged> {
        let mut diverged = diverged(ledger, position.as_slice());
        let first = diverged.first().cloned();
        // One answer is about one switch, and can't say that all is well.
        if first.is_some() {
            let known = self
                .hosts
                .get(host)
                .into_iter()
                .flat_map(|host| &host.entry.diverged);
            diverged.extend(
                known
                    .filter(|known| Some(*known) != first.as_ref())
                    .cloned(),
            );
            diverged.truncate(POSITIONS);
            self.follows(host, diverged);
        }
        first
    }

    /// Takes in where a host is by what it says of itself. Returns what it
    /// follows instead of the ledger, if that is so.
    pub fn says(
        &mut self,
        host: &HostName,
        positions: &[Position],
        ledger: AsOf<'_>,
    ) -> Option<Diverged> {
        let diverged = diverged(ledger, positions);
        let first = diverged.first().cloned();
        self.follows(host, diverged);
        first
    }

    /// What a host follows instead of the ledger, if that is so.
    #[must_use]
    pub fn follows_instead(&self, host: &HostName) -> Option<&Diverged> {
        self.hosts.get(host)?.diverged()
    }

    /// Notes what a host follows.
    pub(super) fn follows(&mut self, name: &HostName, diverged: Vec<Diverged>) {
        let Some(host) = self.hosts.get_mut(name) else {
            return;
        };
        if diverged.is_empty() {
            self.diverged.remove(name);
            self.news.remove(name);
        } else if self.diverged.insert(name.clone()) {
            self.news.insert(name.clone());
        }
        if host.entry.diverged != diverged {
            host.entry.diverged = diverged;
            self.unsaved.insert(name.clone());
        }
    }

    /// Judges anew who follows the ledger, which goes on as another store: no
    /// revision that a host told of is one of it.
    pub fn review(&mut self, ledger: AsOf<'_>) {
        let told = self.hosts.values_mut();
        for told in told.flat_map(|host| host.observed.values_mut()) {
            told.revision = None;
        }
        for name in std::mem::take(&mut self.diverged) {
            let known = self.hosts.get(&name).map(|host| &host.entry.diverged);
            let diverged = known.map_or_else(Vec::new, |known| judged(ledger, known));
            self.follows(&name, diverged);
        }
    }

    /// Hosts that follow another history than the ledger, ascending, with the
    /// first that shows it.
    pub fn diverged(&self) -> impl Iterator<Item = (&HostName, &Diverged)> {
        self.diverged.iter().filter_map(|name| {
            let diverged = self.hosts.get(name)?.diverged()?;
            Some((name, diverged))
        })
    }

    /// All that hosts follow besides the ledger.
    pub fn elsewhere(&self) -> impl Iterator<Item = Position> {
        let hosts = self.diverged.iter().filter_map(|name| self.hosts.get(name));
        let diverged = hosts.flat_map(|host| &host.entry.diverged);
        diverged.map(|diverged| diverged.position)
    }

    /// True if hosts were found to follow another history since the last
    /// [`Self::take_news`].
    #[must_use]
    pub fn has_news(&self) -> bool {
        !self.news.is_empty()
    }

    /// Those hosts.
    pub fn take_news(&mut self) -> BTreeSet<HostName> {
        std::mem::take(&mut self.news)
    }
}

pub(super) fn diverged(ledger: AsOf<'_>, positions: &[Position]) -> Vec<Diverged> {
    ledger.diverged(positions.get(..POSITIONS).unwrap_or(positions))
}

/// What of it is so for the ledger as it is now.
pub(super) fn judged(ledger: AsOf<'_>, known: &[Diverged]) -> Vec<Diverged> {
    let positions: Vec<_> = known.iter().map(|diverged| diverged.position).collect();
    diverged(ledger, &positions)
}

/// What a host follows, and what an operator can do.
#[must_use]
pub fn way_on(diverged: &Diverged) -> String {
    format!(
        "{diverged}; dvsctl store continue --dry-run shows what making this publisher's \
         configuration hold there means"
    )
}
