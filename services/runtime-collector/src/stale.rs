// SPDX-License-Identifier: Apache-2.0
//! Virtual ports that should be gone: their port is on another host by now, and
//! theirs has not said that they went. Publisher and retry see to it that they
//! go; this is for those that slipped through, as when somebody cancelled the
//! removal. One is handed to the rip queue only when it was seen twice, and the
//! publisher then asks again whether the port is not there by right.

use std::collections::BTreeMap;
use std::time::Duration;

use dvs_schemas::{Epoch, HostName, PortId, SwitchName, Timestamp};

/// Between the two sightings: far longer than a removal takes that nothing
/// holds up, its repetitions included.
const BETWEEN: Duration = Duration::from_secs(60);

/// Most that are suspected at once; what is beyond is seen when the host is
/// heard of it again. A suspect takes some 200 bytes.
const SUSPECTS: usize = 65_536;

/// A virtual port that was seen once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Suspect {
    pub(crate) switch: SwitchName,
    /// Of the placement that is over.
    pub(crate) epoch: Epoch,
    seen: Timestamp,
    asked: bool,
}

/// Virtual ports that were seen once, by host.
#[derive(Debug, Default)]
pub(crate) struct Stale {
    suspects: BTreeMap<HostName, BTreeMap<PortId, Suspect>>,
    count: usize,
}

impl Stale {
    /// A port went on to another host, and had been there.
    pub(crate) fn suspect(
        &mut self,
        now: Timestamp,
        host: HostName,
        port: PortId,
        switch: SwitchName,
        epoch: Epoch,
    ) {
        let suspect = Suspect {
            switch,
            epoch,
            seen: now,
            asked: false,
        };
        self.put(host, port, suspect);
    }

    fn put(&mut self, host: HostName, port: PortId, suspect: Suspect) {
        if self.count >= SUSPECTS {
            return;
        }
        let of_host = self.suspects.entry(host).or_default();
        if of_host.insert(port, suspect).is_none() {
            self.count += 1;
        }
    }

    /// The host said something of the port that is as new, or newer.
    pub(crate) fn clear(&mut self, host: &HostName, port: &PortId, epoch: Epoch) {
        let suspect = self.suspects.get(host).and_then(|ports| ports.get(port));
        if suspect.is_some_and(|suspect| suspect.epoch <= epoch) {
            self.take(host, port);
        }
    }

    /// Ports of a host, which lives, that are to be looked for a second time.
    pub(crate) fn due(&mut self, now: Timestamp, host: &HostName) -> Vec<PortId> {
        let of_host = self.suspects.get_mut(host).into_iter().flatten();
        let due =
            of_host.filter(|(_, suspect)| !suspect.asked && suspect.seen.after(BETWEEN) <= now);
        due.map(|(port, suspect)| {
            suspect.asked = true;
            port.clone()
        })
        .collect()
    }

    /// Ends a suspicion; none if it is over already.
    pub(crate) fn take(&mut self, host: &HostName, port: &PortId) -> Option<Suspect> {
        let of_host = self.suspects.get_mut(host)?;
        let suspect = of_host.remove(port)?;
        if of_host.is_empty() {
            self.suspects.remove(host);
        }
        self.count -= 1;
        Some(suspect)
    }

    /// The second look, or what follows from it, did not succeed: once more,
    /// after as long a time.
    pub(crate) fn again(&mut self, now: Timestamp, host: HostName, port: PortId, suspect: Suspect) {
        let suspect = Suspect {
            seen: now,
            asked: false,
            ..suspect
        };
        self.put(host, port, suspect);
    }
}
