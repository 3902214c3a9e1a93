// SPDX-License-Identifier: Apache-2.0
//! When a host announces the ports that it was granted, so that the physical
//! switches send their frames here and no longer to where they were.

use std::collections::BTreeMap;
use std::time::Duration;

use dvs_schemas::v1::Link;
use dvs_schemas::{Epoch, PortId, SwitchName, Timestamp};

/// When after the port was wired: at once, then as QEMU does after a live
/// migration (50, 150, 250 and 350 ms), and twice more for networks that
/// converge slowly. A frame may be lost, and none is acknowledged.
const TIMES: [Duration; 7] = [
    Duration::ZERO,
    Duration::from_millis(50),
    Duration::from_millis(150),
    Duration::from_millis(250),
    Duration::from_millis(350),
    Duration::from_secs(1),
    Duration::from_secs(3),
];

/// Ports that are announced at a time, of which a trunk takes 64 frames per
/// address: so many frames fit into the queue of a NIC.
const AT_ONCE: usize = 16;

/// Between two times, while ports wait for their turn: a host that is granted a
/// thousand ports at once announces each of them within 0.7 s, and loads the
/// network with some thousand frames a second.
const PAUSE: Duration = Duration::from_millis(10);

type Key = (SwitchName, PortId);

/// Ports that are being announced: those that came within the last seconds, or
/// whose link is not up yet.
#[derive(Debug, Default)]
pub(super) struct Announcing {
    ports: BTreeMap<Key, Announcement>,
    /// Nothing is announced before that.
    pause: Timestamp,
}

#[derive(Debug)]
struct Announcement {
    /// The placement that is announced.
    epoch: Epoch,
    stage: Stage,
}

#[derive(Debug, Clone, Copy)]
enum Stage {
    /// Nothing is said before the machine can answer.
    NoLink,
    /// It began at that time, and this many were sent.
    Begun(Timestamp, usize),
}

/// A port to be announced, if it is here in this placement still.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Due {
    pub(super) key: Key,
    pub(super) epoch: Epoch,
}

impl Announcing {
    /// A port is wired where it was not before.
    pub(super) fn came(&mut self, now: Timestamp, key: Key, epoch: Epoch, link: Link) {
        let stage = match link {
            Link::Up => Stage::Begun(now, 0),
            Link::Down => Stage::NoLink,
        };
        self.ports.insert(key, Announcement { epoch, stage });
    }

    /// The link of a port is this now.
    pub(super) fn link(&mut self, now: Timestamp, key: &Key, link: Link) {
        let Some(announcement) = self.ports.get_mut(key) else {
            return;
        };
        match (link, announcement.stage) {
            (Link::Up, Stage::NoLink) => announcement.stage = Stage::Begun(now, 0),
            (Link::Up, Stage::Begun(..)) | (Link::Down, Stage::NoLink) => {}
            // Its next frames come once it is back.
            (Link::Down, Stage::Begun(..)) => announcement.stage = Stage::NoLink,
        }
    }

    /// A port is here no more.
    pub(super) fn went(&mut self, key: &Key) {
        self.ports.remove(key);
    }

    /// When the next one is to be announced.
    pub(super) fn due(&self) -> Option<Timestamp> {
        let due = self.ports.values().filter_map(Announcement::due);
        due.min().map(|due| due.max(self.pause))
    }

    /// The ports that are to be announced now, before all those that never were:
    /// until then they can't be found.
    pub(super) fn wake(&mut self, now: Timestamp) -> Vec<Due> {
        if now < self.pause {
            return Vec::new();
        }
        let ports = self.ports.iter();
        let due = ports.filter(|(_, of)| of.due().is_some_and(|at| at <= now));
        let mut due: Vec<(usize, Key)> = due.map(|(key, of)| (of.sent(), key.clone())).collect();
        due.sort_unstable();
        if due.len() >= AT_ONCE {
            due.truncate(AT_ONCE);
            self.pause = now.after(PAUSE);
        }
        let mut told = Vec::with_capacity(due.len());
        for (_, key) in due {
            let Some(announcement) = self.ports.get_mut(&key) else {
                continue;
            };
            let epoch = announcement.epoch;
            if !announcement.go_on(now) {
                self.ports.remove(&key);
            }
            told.push(Due { key, epoch });
        }
        told
    }
}

impl Announcement {
    fn due(&self) -> Option<Timestamp> {
        match self.stage {
            Stage::NoLink => None,
            Stage::Begun(at, sent) => TIMES.get(sent).map(|after| at.after(*after)),
        }
    }

    /// How many were sent, or were due before.
    fn sent(&self) -> usize {
        match self.stage {
            Stage::NoLink => 0,
            Stage::Begun(_, sent) => sent,
        }
    }

    /// One was sent, in place of all that are due. False if that was the last.
    fn go_on(&mut self, now: Timestamp) -> bool {
        while self.due().is_some_and(|due| due <= now) {
            if let Stage::Begun(_, sent) = &mut self.stage {
                *sent += 1;
            }
        }
        self.due().is_some()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn key() -> Key {
        ("prod".parse().unwrap(), "p1".parse().unwrap())
    }

    /// When a port is announced, in milliseconds, until nothing is due.
    fn times(announcing: &mut Announcing) -> Vec<u64> {
        let mut times = Vec::new();
        while let Some(Timestamp(due)) = announcing.due() {
            let [one] = announcing.wake(Timestamp(due)).try_into().unwrap();
            assert_eq!((one.key, one.epoch), (key(), Epoch(3)));
            times.push(due);
        }
        times
    }

    #[test]
    fn a_port_is_announced_at_once_and_a_few_times_after() {
        let mut announcing = Announcing::default();
        announcing.came(Timestamp(1_000), key(), Epoch(3), Link::Up);
        let expected = [1_000, 1_050, 1_150, 1_250, 1_350, 2_000, 4_000];
        assert_eq!(times(&mut announcing), expected);
    }

    #[test]
    fn nothing_is_announced_without_a_link_nor_of_a_port_that_went() {
        let mut announcing = Announcing::default();
        announcing.came(Timestamp(0), key(), Epoch(3), Link::Down);
        assert_eq!(announcing.due(), None);
        announcing.link(Timestamp(500), &key(), Link::Up);
        assert_eq!(announcing.due(), Some(Timestamp(500)));
        announcing.link(Timestamp(501), &key(), Link::Down);
        assert_eq!(announcing.due(), None);
        announcing.link(Timestamp(700), &key(), Link::Up);
        announcing.went(&key());
        assert_eq!(times(&mut announcing), Vec::<u64>::new());
    }

    #[test]
    fn many_ports_are_spread_and_each_is_announced_once_before_any_is_again() {
        let mut announcing = Announcing::default();
        let ports = AT_ONCE * 10;
        for port in 0..ports {
            let key = ("prod".parse().unwrap(), format!("p{port}").parse().unwrap());
            announcing.came(Timestamp(1_000), key, Epoch(3), Link::Up);
        }
        let mut told: Vec<Key> = Vec::new();
        let mut last = None;
        while let Some(due) = announcing.due() {
            let now = announcing.wake(due);
            assert!((1..=AT_ONCE).contains(&now.len()));
            assert!(last.is_none_or(|last: Timestamp| due >= last.after(PAUSE)));
            last = (now.len() == AT_ONCE).then_some(due);
            told.extend(now.into_iter().map(|due| due.key));
            if told.len() == ports {
                let mut each = told.clone();
                each.sort();
                each.dedup();
                assert_eq!(each.len(), ports, "one twice before another");
                assert_eq!(due, Timestamp(1_000).after(PAUSE * 9));
            }
        }
        // None is left out, however many are due at a time.
        assert!(told.len() > ports * 2, "{}", told.len());
    }

    #[test]
    fn who_was_late_says_it_once() {
        let mut announcing = Announcing::default();
        announcing.came(Timestamp(0), key(), Epoch(3), Link::Up);
        assert_eq!(announcing.wake(Timestamp(300)).len(), 1);
        assert_eq!(times(&mut announcing), [350, 1_000, 3_000]);
    }
}
