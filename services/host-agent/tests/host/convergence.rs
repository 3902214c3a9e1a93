// SPDX-License-Identifier: Apache-2.0
//! Where everything ends: the same state whatever the order, and nothing left
//! to do.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use dvs_schemas::v1::{ApplyOutcome, ApplyReport, Clobber, FinalState, Link};
use dvs_schemas::{Epoch, PortId, Revision, SwitchName};
use host_agent::datapath::{
    Behaviour, Bridge, BridgeSettings, Emulated, Picture, PluggedPort, Ports, VirtualPort,
};
use host_agent::held::HeldSwitch;
use host_agent::host::{Answer, HostEvent};
use host_agent::merge::merge;
use host_agent::plan::{MayRemove, Parts, Stays, plan};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::history::{Commit, Message, Publisher, commits, private_vlans};
use crate::rig::{Rig, id};
use crate::versions::{access, one, site};

fn deliver(rig: &mut Rig, message: &Message) -> u64 {
    match message {
        Message::Clobber(clobber) => rig.send(clobber),
        Message::Remove(remove) => rig.send_remove(remove),
    }
}

/// Delivers it; a host that can't take it is sent the full state, as a re-push
/// is. Says whether it took it.
fn deliver_or_whole(rig: &mut Rig, message: &Message, publisher: &Publisher) -> bool {
    let asked = deliver(rig, message);
    let refused = rig.answers.iter().any(|(of, answer)| match answer {
        Answer::Apply(ApplyReport {
            outcome: ApplyOutcome::Failed { message, .. },
            ..
        }) => *of == asked && message.contains("full state needed"),
        Answer::Apply(_)
        | Answer::Remove(_)
        | Answer::Plan(_)
        | Answer::Live(_)
        | Answer::Fetched(_)
        | Answer::Identified(_)
        | Answer::Problem(_) => false,
    });
    if refused {
        rig.send(&publisher.full());
    }
    !refused
}

/// An order of the messages in which each comes at least once.
fn scrambled(messages: Vec<Message>, picks: &[prop::sample::Index]) -> Vec<Message> {
    let mut all = messages.clone();
    if !messages.is_empty() {
        all.extend(picks.iter().map(|pick| pick.get(&messages).clone()));
    }
    // Fisher and Yates, with the picks as dice.
    for i in (1..all.len()).rev() {
        if let Some(pick) = picks.get(i % picks.len().max(1)) {
            all.swap(i, pick.index(i + 1));
        }
    }
    all
}

fn picks() -> impl Strategy<Value = Vec<prop::sample::Index>> {
    vec(any::<prop::sample::Index>(), 1..40)
}

/// The whole delta of a host, by the plan that looks at everything.
fn whole_plan(held: &HeldSwitch, there: &Picture) -> host_agent::plan::SwitchPlan {
    let name: SwitchName = id("prod");
    let there = there.get(&name);
    let parts = Parts::all(held, there);
    plan(
        &name,
        held,
        there,
        &parts,
        MayRemove::Anything,
        &Stays::default(),
    )
}

/// A datapath that has been played with.
fn pictures() -> impl Strategy<Value = Picture> {
    let port = (dvs_schemas::arbitrary::policy(), 0..3_u64, any::<bool>());
    (
        any::<bool>(),
        dvs_schemas::arbitrary::mtu(),
        prop::collection::btree_map("p[1-6]", port, 0..6),
    )
        .prop_map(|(there, mtu, ports)| {
            let nothing = dvs_schemas::Policy::default();
            let plugged = |(mut policy, epoch, connected): (dvs_schemas::Policy, u64, bool)| {
                if let Some(dvs_schemas::Vlan::Private(vlan)) = policy.vlan {
                    policy.vlan = Some(dvs_schemas::Vlan::Access(vlan));
                }
                PluggedPort {
                    port: Arc::new(VirtualPort {
                        epoch: Epoch(epoch),
                        vnic: connected.then(|| id("vm-9/eth0")),
                        mac: None,
                        policy: merge(&policy, &nothing, &nothing, &private_vlans()).unwrap(),
                    }),
                    link: if connected { Link::Up } else { Link::Down },
                }
            };
            let ports: BTreeMap<PortId, PluggedPort> = ports
                .into_iter()
                .map(|(name, drawn)| (id(&name), plugged(drawn)))
                .collect();
            let bridge = Bridge {
                settings: Arc::new(BridgeSettings {
                    mtu,
                    uplinks: Vec::new(),
                    teaming: Default::default(),
                    private_vlans: private_vlans(),
                }),
                ports,
                mirrors: BTreeMap::new(),
                failing: BTreeSet::new(),
            };
            there.then(|| (id("prod"), bridge)).into_iter().collect()
        })
}

fn play(commits: &[Commit]) -> (Publisher, Vec<Message>) {
    let mut publisher = Publisher::new(1);
    let messages = publisher.messages(commits);
    (publisher, messages)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn any_order_and_repetition_ends_in_the_same_state(
        commits in commits(),
        picks in picks(),
        full_at_last in any::<bool>(),
    ) {
        let (publisher, mut messages) = play(&commits);
        if full_at_last {
            messages.push(Message::Clobber(publisher.full().into()));
        }
        let (mut straight, mut crooked) = (Rig::new(), Rig::new());
        for message in &messages {
            let taken = deliver_or_whole(&mut straight, message, &publisher);
            prop_assert!(taken, "refused in order: {message:?}");
        }
        let mut whole = full_at_last;
        for message in scrambled(messages, &picks) {
            whole |= !deliver_or_whole(&mut crooked, &message, &publisher);
        }
        if whole {
            straight.send(&publisher.full());
        }
        let (one, other) = (straight.held("prod"), crooked.held("prod"));
        prop_assert_eq!(&one, &other);
        prop_assert_eq!(straight.datapath.picture(), crooked.datapath.picture());
        let held = one.unwrap();
        prop_assert_eq!(whole_plan(&held, &straight.datapath.picture()), Default::default());
        if whole {
            prop_assert_eq!(held, publisher.held());
        }
    }

    #[test]
    fn from_any_datapath_a_second_plan_is_empty(commits in commits(), there in pictures()) {
        let (publisher, _) = play(&commits);
        let held = publisher.held();
        let first = whole_plan(&held, &there);
        prop_assert_eq!(&first.stuck, &BTreeMap::new());
        let datapath = Emulated::standing(Behaviour::default(), 1, there);
        let results = datapath.apply_now(&first.steps, &Ports::new()).steps.unwrap();
        prop_assert!(results.iter().all(Result::is_ok), "{:?}", results);
        prop_assert_eq!(whole_plan(&held, &datapath.picture()), Default::default());
    }

    /// The core plans only what a message can have changed. That must be all
    /// that the plan of everything finds.
    #[test]
    fn after_each_message_the_whole_plan_finds_nothing_that_the_core_left(
        commits in commits(),
        there in pictures(),
    ) {
        let datapath = Arc::new(Emulated::standing(Behaviour::default(), 1, there));
        let mut rig = Rig::on(datapath);
        let mut publisher = Publisher::new(1);
        rig.send(&publisher.full());
        for commit in &commits {
            for message in publisher.commit(commit) {
                deliver(&mut rig, &message);
                let held = rig.held("prod").unwrap();
                let left = whole_plan(&held, &rig.datapath.picture());
                prop_assert_eq!(left.steps, Vec::new());
                prop_assert_eq!(rig.core().there(), &rig.datapath.picture());
            }
        }
    }

    /// What a message takes away may be there only when the apply that is under
    /// way is over, and nobody names it again.
    #[test]
    fn what_comes_while_an_apply_is_under_way_leaves_nothing_behind(
        before in commits(),
        after in commits(),
        under_way in vec(any::<bool>(), 1..20),
        goes in any::<bool>(),
    ) {
        let mut publishers = [Publisher::new(1), Publisher::new(2)];
        publishers[1].lineage.continues = vec![publishers[0].store];
        let mut messages = Vec::new();
        for (publisher, commits) in publishers.iter_mut().zip([&before, &after]) {
            messages.extend(publisher.messages(commits));
            messages.push(Message::Clobber(publisher.full().into()));
        }
        if goes {
            let mut last = publishers[1].full();
            last.revision = last.revision.next();
            last.state = FinalState::Absent;
            messages.push(Message::Clobber(last.into()));
        }
        let mut rig = Rig::new();
        for (message, under_way) in messages.iter().zip(under_way.iter().cycle()) {
            rig.hold_datapath = *under_way;
            deliver(&mut rig, message);
        }
        rig.hold_datapath = false;
        rig.settle();
        let there = rig.datapath.picture();
        let left = whole_plan(&rig.held("prod").unwrap(), &there);
        prop_assert_eq!(left.steps, Vec::new());
        prop_assert_eq!(rig.core().there(), &there);
        prop_assert!(!goes || there.is_empty(), "{:?}", there);
    }

    #[test]
    fn a_repeated_message_writes_nothing_and_is_acknowledged(commits in commits()) {
        let (publisher, mut messages) = play(&commits);
        messages.push(Message::Clobber(publisher.full().into()));
        let mut rig = Rig::new();
        for message in &messages {
            deliver(&mut rig, message);
        }
        let (writes, commits) = (rig.datapath.writes(), rig.commits.len());
        for message in &messages {
            match message {
                Message::Clobber(clobber) => {
                    let asked = rig.send(clobber);
                    prop_assert_eq!(
                        rig.outcome(asked),
                        dvs_schemas::v1::ApplyOutcome::Applied { writes: 0 }
                    );
                }
                Message::Remove(remove) => {
                    let asked = rig.send_remove(remove);
                    prop_assert_eq!(
                        rig.removal(asked),
                        dvs_schemas::v1::RemoveOutcome::Removed
                    );
                }
            }
        }
        prop_assert_eq!(rig.datapath.writes(), writes);
        prop_assert_eq!(rig.commits.len(), commits, "nothing new, yet the ledger was written");
    }

    #[test]
    fn what_fails_by_chance_is_repaired_alone(commits in commits(), seed in any::<u64>()) {
        let (publisher, messages) = play(&commits);
        let behaviour = Behaviour { failure_rate: 0.4, ..Behaviour::default() };
        let mut rig = Rig::on(Arc::new(Emulated::new(behaviour, seed)));
        for message in &messages {
            deliver(&mut rig, message);
        }
        rig.send(&publisher.full());
        for _ in 0..200 {
            rig.pass(std::time::Duration::from_secs(60));
        }
        prop_assert!(rig.core().is_converged());
        prop_assert_eq!(
            whole_plan(&publisher.held(), &rig.datapath.picture()),
            Default::default()
        );
    }
}

/// A wait for what is so already sends it once more, at the newest commit.
#[test]
fn what_is_sent_once_more_takes_a_host_no_further_than_what_it_holds() {
    let mut rig = Rig::new();
    let mut publisher = site();
    rig.event(HostEvent::Connected);
    rig.send(&publisher.full());
    let group = one(publisher.commit(&Commit::Group(id("g1"), access(20))));
    rig.send(&group);
    let held = rig.held("prod").unwrap().newest();
    let again = Clobber {
        revision: Revision(held.0 + 5),
        ..group
    };
    let asked = rig.send(&again);
    assert_eq!(rig.outcome(asked), ApplyOutcome::Applied { writes: 0 });
    rig.pass(Duration::from_secs(60));
    let beat = rig.heartbeats.last().unwrap();
    assert_eq!(beat.observed[0].revision, held);
}
