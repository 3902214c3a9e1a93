// SPDX-License-Identifier: Apache-2.0
//! Hosts that follow another history than the ledger: they are shown, nothing
//! counts as applied there, and an operator's word brings them back.

use std::time::Duration;

use config_publisher::events::{Call, Event, Reply, Request};
use dvs_ledger::turn;
use dvs_schemas::v1::{
    ContinueReply, ContinueRequest, Diverged, Divergence, FinalState, ForgetRequest, Heartbeat,
    HostListRequest, HostStatus, HostVerdict, Observed, Position, RenderRequest, V1,
};
use dvs_schemas::{Epoch, ProblemCode, Revision, SessionId, StoreId};
use uuid::Uuid;

use crate::desk::{Desk, hello, name};

const SITE: &str = r#"[{"kind": "Switch", "name": "prod"},
    {"kind": "PortGroup", "name": "web", "switch": "prod", "policy": {"vlan": {"access": 10}}},
    {"kind": "Port", "name": "web-1", "switch": "prod", "group": "web", "host": "h1"}]"#;

fn at(store: StoreId, run: u128, revision: u64) -> Position {
    Position {
        store,
        run: Some(Uuid::from_u128(run)),
        revision: Revision(revision),
    }
}

fn beat(host: &str, position: Position) -> Event {
    Event::Heartbeat(Heartbeat {
        v: V1,
        host: name(host),
        session: SessionId(1),
        seq: 0,
        interval_ms: 10_000,
        last: false,
        observed: vec![Observed {
            switch: name("prod"),
            revision: position.revision,
        }],
        positions: vec![position],
    })
}

fn beats(desk: &mut Desk, host: &str, position: Position) {
    desk.hear(beat(host, position));
}

fn status(desk: &mut Desk, host: &str) -> HostStatus {
    let request = HostListRequest {
        host: Some(name(host)),
        ..HostListRequest::default()
    };
    match desk.ask(Request::Hosts(request)) {
        Ok(Reply::Hosts(mut reply)) => reply.hosts.pop().unwrap(),
        other => panic!("{other:?}"),
    }
}

fn go_on(desk: &mut Desk, dry_run: bool) -> ContinueReply {
    let request = ContinueRequest {
        dry_run,
        ..ContinueRequest::default()
    };
    match desk.ask(Request::Continue(request)) {
        Ok(Reply::Continued(reply)) => reply,
        other => panic!("{other:?}"),
    }
}

/// A desk whose ledger is a copy of revision 1, in its second run, with hosts
/// h1 and h2 that have not spoken since.
fn fallen_back() -> Desk {
    let mut desk = Desk::of(2);
    desk.apply(SITE);
    desk.settings.run = Uuid::from_u128(2);
    desk.restart();
    desk.calls.clear();
    desk.put.clear();
    desk
}

const WAIT: &str = r#"{"wait": "applied", "documents": [{"kind": "PortGroup", "name": "web",
    "switch": "prod", "policy": {"vlan": {"access": 333}}}]}"#;

#[test]
fn a_host_ahead_of_the_ledger_never_counts_as_applied_and_is_sent_nothing() {
    let mut desk = fallen_back();
    let store = desk.publisher.store();
    beats(&mut desk, "h1", at(store, 0, 1));
    beats(&mut desk, "h2", at(store, 0, 6));
    let diverged = Diverged {
        position: at(store, 0, 6),
        why: Divergence::Ahead,
    };
    let of = status(&mut desk, "h2");
    assert_eq!(of.diverged, Some(diverged));
    assert_eq!(of.switches[0].observed, None);
    assert_eq!(status(&mut desk, "h1").diverged, None);

    let summary = desk.apply(WAIT).applied.unwrap();
    assert_eq!((summary.hosts, summary.applied), (2, 1));
    let lags = &summary.outcomes[0];
    assert_eq!(
        (lags.host.as_str(), lags.outcome),
        ("h2", HostVerdict::Failed)
    );
    let why = lags.why.as_deref().unwrap();
    assert!(why.contains("store continue"), "{why}");
    assert!(
        !desk
            .calls
            .iter()
            .any(|call| crate::desk::hosts_of(call).contains(&name("h2")))
    );
    // Nor is it what retry has to try.
    let request = RenderRequest::State {
        host: name("h2"),
        switch: name("prod"),
    };
    let problem = desk.ask(Request::Render(request)).unwrap_err();
    assert_eq!(problem.code, ProblemCode::Conflict);
    assert_eq!(desk.put.last().unwrap().repush[0].key.host, name("h2"));
}

/// Nothing was heard of the hosts before the change: their answers tell.
#[test]
fn a_ledger_that_fell_back_by_one_commit_is_found_out_by_the_answers() {
    let mut desk = fallen_back();
    let store = desk.publisher.store();
    // Both hosts hold another commit 2.
    desk.positions.insert(name("h1"), at(store, 0, 2));
    desk.positions.insert(name("h2"), at(store, 0, 2));
    let summary = desk.apply(WAIT).applied.unwrap();
    assert_eq!((summary.hosts, summary.applied), (2, 0));
    let diverged = status(&mut desk, "h1").diverged.unwrap();
    assert_eq!(diverged.why, Divergence::OtherCommits);
    // A removal that such a host answers is not done either.
    desk.positions.clear();
    let before = desk.put.len();
    desk.delete(r#"{"kind": "Port", "name": "web-1"}"#);
    let rips = desk.put[before..].iter().flat_map(|put| &put.rip);
    assert_eq!(rips.count(), 1);
}

#[test]
fn a_word_numbers_on_above_everything_heard_and_sends_full_states() {
    let mut desk = fallen_back();
    let store = desk.publisher.store();
    let ahead: StoreId = StoreId(Uuid::from_u64_pair(4_070_908_800_000 << 16 | 0x7000, 0));
    beats(&mut desk, "h1", at(store, 0, 6));
    beats(&mut desk, "h2", at(ahead, 9, 40));
    let why = status(&mut desk, "h2").diverged.unwrap().why;
    assert_eq!(why, Divergence::LaterStore);

    let would = go_on(&mut desk, true);
    assert_eq!((would.revision, would.store), (Revision(41), None));
    assert_eq!((would.hosts, would.diverged, would.objects), (2, 2, 3));
    assert_eq!(would.nowhere, 0);
    assert_eq!(desk.revision(), Revision(1));
    assert_eq!(desk.calls, Vec::new());

    let reply = go_on(&mut desk, false);
    let new = reply.store.unwrap();
    assert!(new > ahead && reply.revision == Revision(41));
    assert_eq!(desk.publisher.store(), new);
    for call in &desk.calls {
        let Call::Clobber { host, clobber } = call else {
            panic!("{call:?}");
        };
        assert_eq!((clobber.store, clobber.revision), (new, Revision(41)));
        assert!(clobber.lineage.continues.contains(&ahead));
        assert!(clobber.lineage.continues.contains(&store));
        let FinalState::Full { objects, .. } = &clobber.state else {
            panic!("{call:?}");
        };
        let epochs: Vec<Epoch> = objects.ports.iter().map(|port| port.value.epoch).collect();
        if *host == name("h1") {
            assert_eq!(epochs, [Epoch::of(new, Revision(41))]);
            assert!(epochs[0] > Epoch::of(ahead, Revision(40)));
        }
    }
    assert_eq!(desk.calls.len(), 2);
    for host in ["h1", "h2"] {
        let of = status(&mut desk, host);
        assert_eq!(of.diverged, None);
        assert_eq!(of.switches[0].observed, Some(of.switches[0].wanted));
    }
    // What left a host before that says nothing against it, also after a start.
    desk.restart();
    beats(&mut desk, "h2", at(ahead, 9, 40));
    assert_eq!(status(&mut desk, "h2").diverged, None);
    assert_eq!(desk.publisher.store(), new);
    assert_eq!(
        desk.ask(Request::Continue(ContinueRequest::default()))
            .unwrap_err()
            .code,
        ProblemCode::Conflict
    );
}

/// A publisher that lost its volume, or the second one on a bus.
#[test]
fn an_empty_ledger_takes_nothing_from_hosts_that_follow_another() {
    let mut desk = Desk::new();
    let other = StoreId(Uuid::from_u128(0x7000));
    let mut came = hello("h1", 1);
    came.positions = vec![at(other, 9, 40)];
    came.observed = vec![Observed {
        switch: name("prod"),
        revision: Revision(40),
    }];
    desk.ask(Request::Hello(came.clone())).unwrap();
    assert_eq!(desk.calls, Vec::new());
    let problem = desk.ask(Request::Continue(ContinueRequest::default()));
    assert!(problem.unwrap_err().message.contains("empty"));

    desk.apply(SITE);
    assert_eq!(desk.calls, Vec::new());
    go_on(&mut desk, false);
    assert_eq!(desk.calls.len(), 1);
}

#[test]
fn hosts_that_follow_another_history_become_entries_and_are_named_once() {
    let mut desk = fallen_back();
    let store = desk.publisher.store();
    for _ in 0..6 {
        beats(&mut desk, "h2", at(store, 0, 6));
        desk.pass(Duration::from_secs(10));
    }
    let entries: Vec<_> = desk.put.iter().flat_map(|put| &put.repush).collect();
    assert_eq!(entries.len(), 1, "{entries:?}");
    assert_eq!(entries[0].key.host, name("h2"));
}

#[test]
fn what_a_host_follows_is_written_when_it_changes_and_judged_anew_at_a_start() {
    let mut desk = fallen_back();
    let store = desk.publisher.store();
    let written = |desk: &mut Desk, revisions: [u64; 4]| {
        revisions.map(|revision| {
            let event = beat("h2", at(store, 9, revision));
            let turned = turn(&mut desk.publisher, &desk.ledger, desk.now, [event]);
            turned.unwrap().writes
        })
    };
    let follows = |revision, why| {
        let position = at(store, 9, revision);
        Some(Diverged { position, why })
    };
    assert_eq!(written(&mut desk, [6, 6, 7, 7]), [1, 0, 1, 0]);
    desk.restart();
    let of = status(&mut desk, "h2");
    assert_eq!(of.diverged, follows(7, Divergence::Ahead));
    assert_eq!(of.switches[0].observed, None);

    assert_eq!(written(&mut desk, [2, 2, 2, 2]), [1, 0, 0, 0]);
    desk.apply(WAIT);
    desk.restart();
    let why = Divergence::OtherCommits;
    assert_eq!(status(&mut desk, "h2").diverged, follows(2, why));

    beats(&mut desk, "h2", at(store, 0, 1));
    desk.restart();
    assert_eq!(status(&mut desk, "h2").diverged, None);
}

#[test]
fn what_a_host_follows_is_forgotten_with_it_and_over_when_the_store_goes_on() {
    let mut desk = fallen_back();
    let store = desk.publisher.store();
    beats(&mut desk, "h1", at(store, 0, 6));
    beats(&mut desk, "h2", at(store, 0, 6));
    desk.restart();
    for _ in 0..60 {
        desk.pass(Duration::from_secs(10));
        beats(&mut desk, "h1", at(store, 0, 6));
    }
    let host = name("h2");
    desk.ask(Request::Forget(ForgetRequest { host })).unwrap();
    desk.restart();
    let diverged: Vec<_> = desk.publisher.fleet().diverged().collect();
    let follows = Diverged {
        position: at(store, 0, 6),
        why: Divergence::Ahead,
    };
    assert_eq!(diverged, [(&name("h1"), &follows)]);

    // Nobody was heard of since the start, and what is gone on above is known.
    let reply = go_on(&mut desk, false);
    assert_eq!(reply.revision, Revision(7));
    desk.restart();
    assert_eq!(desk.publisher.fleet().diverged().count(), 0);
}

/// What a host reports is believed, however far off it is, but not counted on
/// from where nothing can be later.
#[test]
fn a_store_that_nothing_can_be_later_than_is_not_continued() {
    let last = StoreId(Uuid::from_u128(u128::MAX));
    let cases = [
        (last, 1, last.to_string()),
        (
            StoreId(Uuid::from_u128(0x7000)),
            u64::MAX,
            u64::MAX.to_string(),
        ),
    ];
    for (store, revision, named) in cases {
        let mut desk = fallen_back();
        let mine = desk.publisher.store();
        beats(&mut desk, "h2", at(store, 9, revision));
        for dry_run in [true, false] {
            let request = ContinueRequest {
                dry_run,
                ..ContinueRequest::default()
            };
            let problem = desk.ask(Request::Continue(request)).unwrap_err();
            assert_eq!(problem.code, ProblemCode::Conflict);
            assert!(problem.message.contains(&named), "{problem:?}");
        }
        assert_eq!(
            (desk.publisher.store(), desk.revision()),
            (mine, Revision(1))
        );
    }
}

/// The host fell back after it had taken the full state, and had got further in
/// the replaced store than anybody who was heard.
#[test]
fn a_revision_of_a_replaced_store_is_not_shown_as_one_of_this_ledger() {
    let mut desk = fallen_back();
    let replaced = desk.publisher.store();
    beats(&mut desk, "h1", at(replaced, 0, 6));
    go_on(&mut desk, false);
    let wanted = status(&mut desk, "h2").switches[0].wanted;
    // The first may have left before the answer to the full state.
    beats(&mut desk, "h2", at(replaced, 0, 900));
    beats(&mut desk, "h2", at(replaced, 0, 900));
    let of = status(&mut desk, "h2");
    assert_eq!((of.diverged, of.switches[0].observed), (None, None));
    let own = desk.publisher.store();
    // A switch of the replaced store that is wanted there no more stays.
    desk.hear(Event::Heartbeat(Heartbeat {
        v: V1,
        host: name("h2"),
        session: SessionId(1),
        seq: 0,
        interval_ms: 10_000,
        last: false,
        observed: vec![Observed {
            switch: name("prod"),
            revision: wanted,
        }],
        positions: vec![at(replaced, 0, 900), at(own, 2, wanted.0)],
    }));
    assert_eq!(status(&mut desk, "h2").switches[0].observed, Some(wanted));
}
