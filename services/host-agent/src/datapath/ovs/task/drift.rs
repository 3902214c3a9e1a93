// SPDX-License-Identifier: Apache-2.0
//! What is told of drift in rows: once when it is seen, and once more when what
//! stayed is undone.

use crate::datapath::ovs::config::DriftPolicy;
use crate::datapath::ovs::rows::Difference;

/// Drift that was told as not undone, and stays.
#[derive(Debug, Default)]
pub(super) struct Reported(Vec<Difference>);

/// What is to be told of it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Telling {
    pub(super) difference: Difference,
    /// True if it was not known.
    pub(super) is_new: bool,
    pub(super) repaired: bool,
}

/// What became of what drifts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// All of it was undone.
    Undone,
    /// It stays.
    Stays,
    /// It stays, and what drifted before may do so, too: that was written, and
    /// is not carried out yet.
    Pending,
}

impl Reported {
    /// What drifts and is not undone.
    pub(super) fn stays(&self) -> &[Difference] {
        &self.0
    }

    /// Takes in what drifts now, and what became of that. Answers what is to be
    /// told.
    pub(super) fn take(
        &mut self,
        drift: Vec<Difference>,
        outcome: Outcome,
        policy: DriftPolicy,
    ) -> Vec<Telling> {
        let mut before = std::mem::take(&mut self.0);
        let fresh = drift.iter().filter(|now| !before.contains(now));
        let mut tellings: Vec<Telling> = fresh
            .map(|difference| Telling {
                difference: difference.clone(),
                is_new: true,
                repaired: outcome == Outcome::Undone,
            })
            .collect();
        let (undone, stays) = match outcome {
            Outcome::Undone => (before, Vec::new()),
            Outcome::Stays => {
                before.retain(|known| !drift.contains(known));
                (before, drift)
            }
            Outcome::Pending => {
                before.retain(|known| !drift.contains(known));
                before.extend(drift);
                (Vec::new(), before)
            }
        };
        self.0 = stays;
        match policy {
            DriftPolicy::Report => {}
            // By a later try, or a change of the port.
            DriftPolicy::Repair => tellings.extend(undone.into_iter().map(|difference| Telling {
                difference,
                is_new: false,
                repaired: true,
            })),
        }
        tellings
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::datapath::Part;

    fn tag(found: &str) -> Difference {
        Difference {
            place: ("prod".parse().expect("a name"), Part::Bridge),
            row: "Port tap3".to_owned(),
            column: Some("tag"),
            wanted: "10".to_owned(),
            found: found.to_owned(),
        }
    }

    fn told(difference: Difference, is_new: bool, repaired: bool) -> Telling {
        Telling {
            difference,
            is_new,
            repaired,
        }
    }

    #[test]
    fn what_can_t_be_undone_is_told_once_and_once_more_when_it_is() {
        let repair = DriftPolicy::Repair;
        let mut reported = Reported::default();
        let first = reported.take(vec![tag("20")], Outcome::Stays, repair);
        assert_eq!(first, [told(tag("20"), true, false)]);
        assert_eq!(reported.take(vec![tag("20")], Outcome::Stays, repair), []);
        let both = reported.take(vec![tag("20"), tag("30")], Outcome::Undone, repair);
        let expected = [told(tag("30"), true, true), told(tag("20"), false, true)];
        assert_eq!(both, expected);
        assert_eq!(reported.take(Vec::new(), Outcome::Stays, repair), []);
    }

    #[test]
    fn what_is_gone_was_undone_once_that_is_carried_out() {
        let mut reported = Reported::default();
        reported.take(vec![tag("20")], Outcome::Stays, DriftPolicy::Repair);
        let written = reported.take(Vec::new(), Outcome::Pending, DriftPolicy::Repair);
        assert_eq!(written, []);
        let later = reported.take(Vec::new(), Outcome::Stays, DriftPolicy::Repair);
        assert_eq!(later, [told(tag("20"), false, true)]);
    }

    #[test]
    fn what_is_only_told_is_told_once_for_as_long_as_it_stays() {
        let report = DriftPolicy::Report;
        let mut reported = Reported::default();
        let first = reported.take(vec![tag("20")], Outcome::Stays, report);
        assert_eq!(first, [told(tag("20"), true, false)]);
        assert_eq!(reported.take(vec![tag("20")], Outcome::Stays, report), []);
        assert_eq!(reported.take(Vec::new(), Outcome::Stays, report), []);
        let again = reported.take(vec![tag("20")], Outcome::Stays, report);
        assert_eq!(again, [told(tag("20"), true, false)]);
    }
}
