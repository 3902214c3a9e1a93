// SPDX-License-Identifier: Apache-2.0
//! Ports of hosts that are dead: when another host gets them, and when not.

use std::time::Duration;

use config_publisher::core::Settings;
use config_publisher::events::{Event, Reply, Request};
use dvs_schemas::Epoch;
use dvs_schemas::v1::ClaimOutcome;

use crate::desk::{Desk, SITE, name};
use crate::plugging::claim;

/// A host that was heard to beat every 10 s is absent after three of them; then
/// this has to pass.
const TAKE_OVER: Duration = Duration::from_secs(100);
const ABSENT: Duration = Duration::from_secs(30);

/// [`SITE`], where `web-1` is on h1, with three hosts that beat.
fn desk() -> Desk {
    let mut desk = Desk::of_with(
        3,
        Settings {
            take_over: TAKE_OVER,
            ..Settings::default()
        },
    );
    desk.apply(SITE);
    beat(&mut desk, &["h1", "h2", "h3"]);
    desk.put.clear();
    desk
}

fn beat(desk: &mut Desk, hosts: &[&str]) {
    for host in hosts {
        desk.heartbeat(host);
    }
}

/// So much time, in which these hosts live.
fn live(desk: &mut Desk, hosts: &[&str], seconds: u64) {
    for _ in 0..seconds / 10 {
        desk.pass(Duration::from_secs(10));
        beat(desk, hosts);
    }
}

fn claims(desk: &mut Desk, host: &str) -> ClaimOutcome {
    match desk.ask(Request::Claim(claim(host, "web-1"))) {
        Ok(Reply::Claimed(reply)) => reply.outcome,
        other => panic!("{other:?}"),
    }
}

fn holder(desk: &Desk) -> (String, Epoch) {
    let placed = &desk.publisher.config().port(&name("web-1")).unwrap().value;
    let host = placed.document.host.as_ref().unwrap();
    (host.to_string(), placed.epoch)
}

#[test]
fn a_dead_holders_port_goes_to_who_waits_after_the_set_time_and_its_removal_is_owed() {
    let mut desk = desk();
    let waits = ClaimOutcome::Waits {
        holder: name("h1"),
        epoch: Epoch(1),
    };
    assert_eq!(claims(&mut desk, "h2"), waits);
    live(
        &mut desk,
        &["h2", "h3"],
        (ABSENT + TAKE_OVER).as_secs() - 10,
    );
    desk.pass(Duration::from_secs(9));
    desk.work();
    assert_eq!(
        (holder(&desk), desk.put.len()),
        (("h1".to_owned(), Epoch(1)), 0)
    );

    desk.pass(Duration::from_secs(1));
    desk.work();
    assert_eq!(holder(&desk), ("h2".to_owned(), Epoch(2)));
    let owed: Vec<String> = desk
        .put
        .iter()
        .flat_map(|put| &put.rip)
        .map(|rip| format!("{} {}: {}", rip.key.host, rip.key.port, rip.error))
        .collect();
    assert_eq!(owed, ["h1 web-1: absent: it missed 3 heartbeats"]);
    // Whatever is due after that, it is not this again.
    live(&mut desk, &["h2", "h3"], 600);
    assert_eq!(holder(&desk), ("h2".to_owned(), Epoch(2)));
}

#[test]
fn a_holder_that_lives_keeps_its_port_however_long_others_wait() {
    let mut desk = desk();
    claims(&mut desk, "h2");
    live(&mut desk, &["h1"], 86_400);
    assert_eq!(holder(&desk), ("h1".to_owned(), Epoch(1)));
}

#[test]
fn who_comes_after_that_time_is_granted_at_once() {
    let mut desk = desk();
    live(&mut desk, &["h2", "h3"], 3_600);
    let granted = claims(&mut desk, "h3");
    assert!(
        matches!(
            granted,
            ClaimOutcome::Granted {
                epoch: Epoch(2),
                ..
            }
        ),
        "{granted:?}"
    );
    assert_eq!(holder(&desk), ("h3".to_owned(), Epoch(2)));
}

#[test]
fn silence_while_the_bus_is_away_is_no_death() {
    let mut desk = desk();
    claims(&mut desk, "h2");
    desk.hear(Event::Disconnected);
    desk.pass(Duration::from_secs(86_400));
    assert_eq!(holder(&desk), ("h1".to_owned(), Epoch(1)));
    desk.hear(Event::Connected {
        max_payload: 1 << 20,
    });
    live(&mut desk, &["h2"], (ABSENT + TAKE_OVER).as_secs() - 10);
    assert_eq!(holder(&desk), ("h1".to_owned(), Epoch(1)));
    live(&mut desk, &["h2"], 10);
    assert_eq!(holder(&desk), ("h2".to_owned(), Epoch(2)));
}

#[test]
fn a_host_that_never_came_counts_from_the_claim_on() {
    let mut desk = desk();
    desk.apply(
        r#"[{"kind": "Switch", "name": "prod", "hosts": ["h1", "h2", "h3", "h9"]},
            {"kind": "Port", "name": "web-1", "switch": "prod", "group": "web", "host": "h9"}]"#,
    );
    live(&mut desk, &["h1", "h2"], 3_600);
    claims(&mut desk, "h2");
    live(&mut desk, &["h1", "h2"], TAKE_OVER.as_secs() - 10);
    // From the first: a claim that is repeated waits no longer.
    claims(&mut desk, "h2");
    assert_eq!(holder(&desk), ("h9".to_owned(), Epoch(2)));
    live(&mut desk, &["h1", "h2"], 10);
    assert_eq!(holder(&desk), ("h2".to_owned(), Epoch(3)));
}

#[test]
fn a_silent_host_that_a_port_is_placed_on_has_its_time_however_often_others_claim() {
    let mut desk = desk();
    live(&mut desk, &["h1", "h2"], 3_600);
    claims(&mut desk, "h2");
    desk.apply(
        r#"{"kind": "Port", "name": "web-1", "switch": "prod", "group": "web", "host": "h3"}"#,
    );
    for _ in 0..TAKE_OVER.as_secs() / 10 {
        let waits = ClaimOutcome::Waits {
            holder: name("h3"),
            epoch: Epoch(2),
        };
        assert_eq!(claims(&mut desk, "h2"), waits);
        live(&mut desk, &["h1", "h2"], 10);
    }
    assert_eq!(holder(&desk), ("h2".to_owned(), Epoch(3)));
}

#[test]
fn after_a_restart_a_silent_holder_is_waited_for_as_any_host_is() {
    let mut desk = desk();
    desk.restart();
    claims(&mut desk, "h2");
    live(&mut desk, &["h2"], 180 + TAKE_OVER.as_secs() - 10);
    assert_eq!(holder(&desk), ("h1".to_owned(), Epoch(1)));
    live(&mut desk, &["h2"], 10);
    assert_eq!(holder(&desk), ("h2".to_owned(), Epoch(2)));
}
