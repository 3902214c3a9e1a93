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

type Key = (SwitchName, PortId);

/// Ports that are being announced: those that came within the last seconds, or
/// whose link is not up yet.
#[derive(Debug, Default)]
pub(super) struct Announcing {
    ports: BTreeMap<Key, Announcement>,
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
        due.min()
    }

    /// The ports that are to be announced by now.
    pub(super) fn wake(&mut self, now: Timestamp) -> Vec<Due> {
        let mut due = Vec::new();
        self.ports.retain(|key, announcement| {
            if announcement.due().is_none_or(|at| at > now) {
                return true;
            }
            due.push(Due {
                key: key.clone(),
                epoch: announcement.epoch,
            });
            announcement.go_on(now)
        });
        due
    }
}

impl Announcement {
    fn due(&self) -> Option<Timestamp> {
        match self.stage {
            Stage::NoLink => None,
            Stage::Begun(at, sent) => TIMES.get(sent).map(|after| at.after(*after)),
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
    fn who_was_late_says_it_once() {
        let mut announcing = Announcing::default();
        announcing.came(Timestamp(0), key(), Epoch(3), Link::Up);
        assert_eq!(announcing.wake(Timestamp(300)).len(), 1);
        assert_eq!(times(&mut announcing), [350, 1_000, 3_000]);
    }
}
