// SPDX-License-Identifier: Apache-2.0
//! Log lines that one sender can cause again and again: one a minute is
//! written, with the number of those that were not.

use std::collections::BTreeMap;
use std::time::Duration;

use dvs_schemas::Timestamp;

/// Between two lines about the same sender.
const BETWEEN: Duration = Duration::from_secs(60);

/// Most senders that are told apart at once: as many hosts as are planned for,
/// in about 2 MB. Of further ones nothing is written while all of these have had
/// their line within the minute.
const SENDERS_MAX: usize = 20_000;

/// When each sender had its last line.
#[derive(Debug)]
pub(crate) struct Repeats<K> {
    lines: BTreeMap<K, Line>,
}

#[derive(Debug, Clone, Copy)]
struct Line {
    at: Timestamp,
    /// Lines since then that were not written.
    held_back: u64,
}

impl<K> Default for Repeats<K> {
    fn default() -> Self {
        Self {
            lines: BTreeMap::new(),
        }
    }
}

impl<K: Ord + Clone> Repeats<K> {
    /// Whether a line about the sender is to be written now; if so, how many
    /// were held back since the one before.
    pub(crate) fn line(&mut self, now: Timestamp, sender: &K) -> Option<u64> {
        if let Some(line) = self.lines.get_mut(sender) {
            if now.since(line.at) < BETWEEN {
                line.held_back = line.held_back.saturating_add(1);
                return None;
            }
            let held_back = line.held_back;
            *line = Line {
                at: now,
                held_back: 0,
            };
            return Some(held_back);
        }
        if self.lines.len() >= SENDERS_MAX {
            self.lines.retain(|_, line| now.since(line.at) < BETWEEN);
            if self.lines.len() >= SENDERS_MAX {
                return None;
            }
        }
        let line = Line {
            at: now,
            held_back: 0,
        };
        self.lines.insert(sender.clone(), line);
        Some(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sender_has_one_line_a_minute_which_counts_those_held_back() {
        let mut repeats = Repeats::default();
        let start = Timestamp(1_000_000);
        let at = |seconds| start.after(Duration::from_secs(seconds));
        let mut lines = Vec::new();
        for second in 0..130 {
            lines.extend(
                repeats
                    .line(at(second), &"h1")
                    .map(|held_back| (second, held_back)),
            );
        }
        assert_eq!(lines, [(0, 0), (60, 59), (120, 59)]);
        // Another sender has its own.
        assert_eq!(repeats.line(at(130), &"h2"), Some(0));
    }

    #[test]
    fn invented_senders_take_bounded_room_and_give_it_back() {
        let mut repeats = Repeats::default();
        let now = Timestamp(1_000_000);
        for sender in 0..2 * SENDERS_MAX {
            repeats.line(now, &sender);
        }
        assert_eq!(repeats.lines.len(), SENDERS_MAX);
        let later = now.after(BETWEEN);
        assert_eq!(repeats.line(later, &usize::MAX), Some(0));
        assert_eq!(repeats.lines.len(), 1);
    }
}
