// SPDX-License-Identifier: Apache-2.0
//! When a host lets go of a port that is plugged in: what it knows of its own
//! machine, held against what waits elsewhere.

use std::time::Duration;

use dvs_schemas::v1::{Activity, Machine, Yield};
use dvs_schemas::{Epoch, HostName, Timestamp};

/// How long it counts that another host waits: it claims again within a minute,
/// and the publisher repeats the word then. Half as much again for a claim or a
/// word that was lost on its way.
const COUNTS: Duration = Duration::from_secs(90);

/// How long a port stays where nothing is plugged in while a machine waits for
/// it elsewhere: somebody placed it there, and the machine may be about to
/// start. As long as a holder that is absent keeps a port.
const EMPTY: Duration = Duration::from_secs(60);

/// A port is wanted elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sought {
    /// The placement that is to end.
    pub(super) epoch: Epoch,
    /// The host that waits.
    pub(super) to: HostName,
    /// The machine there.
    machine: Machine,
    /// Until when that counts.
    until: Timestamp,
}

impl Sought {
    pub(super) fn new(now: Timestamp, request: &Yield) -> Self {
        let Yield {
            v: _,
            port: _,
            epoch,
            to,
            machine,
            waited_ms: _,
        } = request;
        Self {
            epoch: *epoch,
            to: to.clone(),
            machine: machine.clone(),
            until: now.after(COUNTS),
        }
    }

    /// Whether the host gives the port to who waits: its own machine has
    /// stopped and the other may run, or the very same machine runs there,
    /// which it does only once it has stopped here. Another machine takes no
    /// port from a living one by talking, and what is stopped takes none at
    /// all: else a link that flaps would bring the port back to it.
    pub(super) fn is_due(&self, now: Timestamp, own: &Machine) -> bool {
        let same = own.id.is_some() && own.id == self.machine.id;
        let moved = match (self.machine.activity, own.activity) {
            (Activity::Stopped, Activity::Stopped | Activity::Unknown | Activity::Running) => false,
            (Activity::Unknown | Activity::Running, Activity::Stopped) => true,
            (Activity::Running, Activity::Unknown | Activity::Running) => same,
            (Activity::Unknown, Activity::Unknown | Activity::Running) => false,
        };
        moved && now <= self.until
    }
}

/// Whether a host where nothing is plugged in gives the port to who waits.
pub(super) fn is_empty_for_long(request: &Yield) -> bool {
    let waits = match request.machine.activity {
        Activity::Stopped => false,
        Activity::Unknown | Activity::Running => true,
    };
    waits && Duration::from_millis(request.waited_ms) >= EMPTY
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use dvs_schemas::v1::V1;

    use super::*;

    fn machine(id: Option<&str>, activity: Activity) -> Machine {
        Machine {
            id: id.map(|id| id.parse().unwrap()),
            activity,
        }
    }

    fn sought(machine: Machine) -> Sought {
        let request = Yield {
            v: V1,
            port: "p1".parse().unwrap(),
            epoch: Epoch(1),
            to: "h2".parse().unwrap(),
            machine,
            waited_ms: 0,
        };
        Sought::new(Timestamp(0), &request)
    }

    #[test]
    fn a_machine_that_is_stopped_makes_way_for_one_that_is_not_and_a_living_one_for_itself_alone() {
        use Activity::{Running, Stopped, Unknown};
        let cases = [
            // What waits, what is here, and whether it makes way.
            (("a", Stopped), ("a", Stopped), false),
            (("b", Stopped), ("a", Stopped), false),
            (("a", Stopped), ("a", Running), false),
            (("a", Unknown), ("a", Stopped), true),
            (("b", Unknown), ("a", Stopped), true),
            (("a", Unknown), ("a", Unknown), false),
            (("a", Unknown), ("a", Running), false),
            (("a", Running), ("a", Unknown), true),
            (("a", Running), ("a", Running), true),
            (("b", Running), ("a", Unknown), false),
            (("b", Running), ("a", Running), false),
            (("b", Running), ("a", Stopped), true),
        ];
        for ((waiting, does), (own, here), expected) in cases {
            let sought = sought(machine(Some(waiting), does));
            let own = machine(Some(own), here);
            assert_eq!(
                sought.is_due(Timestamp(0), &own),
                expected,
                "{sought:?} {own:?}"
            );
        }
        // Who says of no machine which one it is says of none that it is the same.
        let nameless = machine(None, Running);
        assert!(!sought(nameless.clone()).is_due(Timestamp(0), &nameless));
    }

    #[test]
    fn who_was_not_heard_of_again_waits_no_more() {
        let sought = sought(machine(None, Activity::Running));
        let stopped = machine(None, Activity::Stopped);
        assert!(sought.is_due(Timestamp(0).after(COUNTS), &stopped));
        let late = Timestamp(0).after(COUNTS + Duration::from_millis(1));
        assert!(!sought.is_due(late, &stopped));
    }
}
