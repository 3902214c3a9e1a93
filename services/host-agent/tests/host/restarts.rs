// SPDX-License-Identifier: Apache-2.0
//! What survives: the state held, the datapath in front of it, and nothing
//! else.

use std::str::FromStr;
use std::time::Duration;

use dvs_schemas::v1::ApplyOutcome;
use host_agent::datapath::{Behaviour, Emulated};
use proptest::prelude::*;

use crate::history::{Message, Publisher, commits};
use crate::rig::Rig;

fn deliver(rig: &mut Rig, message: &Message) {
    match message {
        Message::Clobber(clobber) => rig.send(clobber),
        Message::Remove(remove) => rig.send_remove(remove),
    };
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn a_restart_in_front_of_a_standing_datapath_writes_nothing(commits in commits()) {
        let mut rig = Rig::new();
        for message in Publisher::new(1).messages(&commits) {
            deliver(&mut rig, &message);
        }
        let (held, writes) = (rig.held("prod"), rig.datapath.writes());
        let picture = rig.datapath.picture();
        rig.restart();
        rig.pass(Duration::from_secs(600));
        prop_assert_eq!(rig.held("prod"), held);
        prop_assert_eq!(rig.datapath.writes(), writes);
        prop_assert_eq!(rig.datapath.picture(), picture);
    }

    /// The bus is away: nobody is connected here.
    #[test]
    fn a_datapath_that_was_lost_is_made_anew_from_the_ledger_alone(commits in commits()) {
        let mut rig = Rig::new();
        let mut publisher = Publisher::new(1);
        for message in publisher.messages(&commits) {
            deliver(&mut rig, &message);
        }
        rig.send(&publisher.full());
        let picture = rig.datapath.picture();
        rig.datapath = std::sync::Arc::new(Emulated::new(Behaviour::default(), 1));
        rig.restart();
        prop_assert_eq!(rig.datapath.picture(), picture);
    }

    /// Crashes between the commit and the datapath, at any message.
    #[test]
    fn crashes_anywhere_and_one_full_state_end_where_no_crash_does(
        commits in commits(),
        crashes in prop::collection::vec(any::<bool>(), 40),
    ) {
        let (mut rig, mut calm) = (Rig::new(), Rig::new());
        let mut publisher = Publisher::new(1);
        for (message, crash) in publisher
            .messages(&commits)
            .iter()
            .zip(crashes.iter().cycle())
        {
            deliver(&mut calm, message);
            rig.hold_datapath = *crash;
            deliver(&mut rig, message);
            if *crash {
                rig.hold_datapath = false;
                rig.restart();
            }
        }
        calm.send(&publisher.full());
        let asked = rig.send(&publisher.full());
        let applied = matches!(rig.outcome(asked), ApplyOutcome::Applied { .. });
        prop_assert!(applied);
        prop_assert_eq!(rig.held("prod"), calm.held("prod"));
        prop_assert_eq!(rig.datapath.picture(), calm.datapath.picture());
    }
}

#[test]
fn an_unreadable_datapath_is_read_again_and_again() {
    let gone = Behaviour {
        gone: Some("no answer from ovsdb-server".to_owned()),
        ..Behaviour::default()
    };
    let datapath = std::sync::Arc::new(Emulated::new(gone, 1));
    let mut rig = Rig::on(datapath);
    let mut publisher = Publisher::new(1);
    publisher.commit(&crate::history::Commit::Settings(
        crate::versions::settings(1500),
    ));
    let asked = rig.send(&publisher.full());
    let ApplyOutcome::Failed { message, ports } = rig.outcome(asked) else {
        panic!("{:?}", rig.outcome(asked));
    };
    assert_eq!(
        message,
        "the datapath can't be read: no answer from ovsdb-server"
    );
    assert_eq!(ports, []);
    rig.datapath.behave(Behaviour::default());
    rig.pass(Duration::from_secs(60));
    assert!(rig.datapath.picture().contains_key("prod"));
}

/// A write that a run before had under way may reach the datapath after this
/// run has read it.
#[test]
fn what_was_written_behind_its_back_is_found_once_a_step_fails() {
    let (mut rig, mut publisher) = (Rig::new(), crate::versions::site());
    rig.send(&publisher.full());
    let stood = rig.datapath.picture();
    rig.datapath.disturb(std::collections::BTreeMap::clear);
    let placed = crate::history::Commit::Port(
        dvs_schemas::PortId::from_str("p1").unwrap(),
        "g1".parse().unwrap(),
        crate::versions::access(9),
    );
    let asked = rig.send(&crate::versions::one(publisher.commit(&placed)));
    assert!(matches!(rig.outcome(asked), ApplyOutcome::Failed { .. }));
    rig.pass(Duration::from_secs(60));
    assert!(rig.core().is_converged());
    let there = rig.datapath.picture();
    assert_eq!(
        there["prod"].ports.keys().collect::<Vec<_>>(),
        stood["prod"].ports.keys().collect::<Vec<_>>()
    );
}
