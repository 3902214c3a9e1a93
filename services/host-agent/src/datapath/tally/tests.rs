// SPDX-License-Identifier: Apache-2.0
#![allow(clippy::unwrap_used)]

use super::*;
use proptest::collection::vec;
use proptest::prelude::*;

fn key() -> (SwitchName, PortId) {
    ("prod".parse().unwrap(), "web-1".parse().unwrap())
}

#[derive(Debug, Clone)]
enum Happening {
    Traffic(u64),
    Read,
    Unplug,
    /// The same interface again, which has counted on meanwhile.
    Replug(u64),
    /// Another interface, which has counted before.
    Plug(u64),
    /// The interface begins to count anew, and nobody says so.
    Reset,
    /// The switch opens the device anew.
    Reopen,
    /// The agent forgets all but what is marked, and what it has told.
    Restart {
        /// Meanwhile the interface is made again.
        anew: bool,
    },
    NewPlacement,
}

fn happening() -> impl Strategy<Value = Happening> {
    prop_oneof![
        4 => (0..1_000_u64).prop_map(Happening::Traffic),
        2 => Just(Happening::Read),
        1 => Just(Happening::Unplug),
        2 => (0..1_000_u64).prop_map(Happening::Replug),
        2 => (0..1_000_u64).prop_map(Happening::Plug),
        1 => Just(Happening::Reset),
        1 => Just(Happening::Reopen),
        2 => any::<bool>().prop_map(|anew| Happening::Restart { anew }),
        1 => Just(Happening::NewPlacement),
    ]
}

fn of(number: u64) -> Counters {
    Counters::of_numbers([number; NUMBERS])
}

/// An interface, and what passed through its port.
#[derive(Debug, Default)]
struct Model {
    tallies: Tallies,
    plugged: bool,
    /// What the device counts.
    raw: u64,
    /// What the switch counts beside that of drops, since it has opened it.
    soft: u64,
    /// Nobody has read it since it was plugged, so nothing passes yet.
    unread: bool,
    /// What passed in this placement: traffic and drops.
    passed: [u64; 2],
    /// What of that was read.
    sure: u64,
    /// What of that was told.
    told: u64,
}

impl Model {
    fn says(&self) -> Counters {
        let mut numbers = of(self.raw).numbers();
        for at in DROPS_AND_ERRORS {
            numbers[at] += self.soft;
        }
        Counters::of_numbers(numbers)
    }

    fn read(&mut self) {
        if self.plugged {
            let says = self.says();
            self.tallies.read(&key(), &says);
            self.unread = false;
            self.sure = self.passed[0];
        }
    }

    fn plug(&mut self) {
        self.plugged = true;
        self.unread = true;
        self.tallies.plugged(key());
    }

    /// What was not read is lost.
    fn lose(&mut self) {
        self.passed[0] = self.sure;
    }

    fn happens(&mut self, happening: Happening) {
        match happening {
            Happening::Traffic(more) => {
                self.raw += more;
                self.soft += more;
                if self.plugged && !self.unread {
                    self.passed[0] += more;
                    self.passed[1] += 2 * more;
                }
            }
            Happening::Read => {
                self.read();
                self.told = self.sure;
            }
            Happening::Unplug => {
                if std::mem::take(&mut self.plugged) {
                    self.tallies.unplugged(&key());
                    self.lose();
                }
            }
            Happening::Replug(more) => {
                if !self.plugged {
                    self.raw += more;
                    self.soft = 0;
                    self.plug();
                }
            }
            Happening::Plug(counted) => {
                if !self.plugged {
                    (self.raw, self.soft) = (counted, 0);
                    self.plug();
                }
            }
            Happening::Reset => {
                // It is noticed when it is read below what it had.
                self.read();
                (self.raw, self.soft) = (0, 0);
                self.read();
            }
            Happening::Reopen => self.soft = 0,
            Happening::Restart { anew } => self.restart(anew),
            Happening::NewPlacement => {
                self.read();
                assert_eq!(self.tallies.end(&key()).ingress_packets, self.sure);
                (self.passed, self.sure, self.told) = ([0; 2], 0, 0);
            }
        }
    }

    fn restart(&mut self, anew: bool) {
        let key = key();
        let marked = self.tallies.offset(&key.0, &key.1);
        let told = self.tallies.total(&key).most(&of(0));
        self.tallies = Tallies::default();
        if anew {
            (self.raw, self.soft) = (0, 0);
            self.lose();
        }
        let marked = marked.map(|offset| offset.to_string().parse().unwrap());
        match marked {
            // Its index tells that it was made anew.
            Some(offset) if self.plugged && !anew => {
                self.tallies
                    .restored(key.clone(), offset, Some(self.says()));
            }
            Some(_) | None if self.plugged => self.plug(),
            Some(_) | None => {}
        }
        // As far as it was told; drops are told with the rest.
        let mut numbers = of(self.told).numbers();
        for at in DROPS_AND_ERRORS {
            numbers[at] = numbers[at].min(told.numbers()[at]);
        }
        self.tallies.resume(key, &Counters::of_numbers(numbers));
        if !self.plugged || self.unread {
            // Nothing is marked, and what was not told is lost.
            self.passed[0] = self.told;
            self.sure = self.told;
        }
        self.read();
    }
}

proptest! {
    /// Within a placement counters never go down and count no frame twice;
    /// they lose at most what nobody had read when the interface went.
    #[test]
    fn a_placement_counts_what_passed_while_it_was_plugged(all in vec(happening(), 1..40)) {
        let mut model = Model::default();
        let mut before = Counters::default();
        for happening in all {
            let is_new = matches!(happening, Happening::NewPlacement);
            let restarts = matches!(happening, Happening::Restart { .. });
            model.happens(happening);
            let total = model.tallies.total(&key());
            prop_assert_eq!(total.ingress_packets, model.sure);
            prop_assert!(total.ingress_drops <= model.passed[1]);
            // What was not told before a restart is not known after it.
            prop_assert!(is_new || restarts || total.have_reached(&before));
            before = total;
        }
    }

    #[test]
    fn whatever_is_marked_is_an_offset_or_refused(text in "[0-9,-]{0,60}") {
        if let Ok(offset) = text.parse::<Offset>() {
            prop_assert_eq!(offset.to_string().parse(), Ok(offset));
        }
    }
}

/// The agent started while the device didn't say what it had counted, and it
/// does so only in the next placement.
#[test]
fn what_a_placement_counted_is_not_of_the_next_one_though_it_was_not_read() {
    let mut tallies = Tallies::default();
    tallies.restored(key(), Offset::default(), None);
    tallies.resume(key(), &of(100));
    assert_eq!(tallies.end(&key()), of(100));
    assert_eq!(tallies.read(&key(), &of(130)), of(0));
    assert_eq!(tallies.read(&key(), &of(135)), of(5));
}
