// SPDX-License-Identifier: Apache-2.0
//! Ports that holders give to who waits: what a holder is told, whose turn it
//! is, and claims that come before their ports.

use std::time::Duration;

use config_publisher::core::Settings;
use dvs_schemas::v1::{Activity, ClaimRequest, Machine, ReleaseOutcome, ReleaseRequest, V1, Yield};
use dvs_schemas::{Epoch, HostName};

use crate::desk::{Desk, SITE, hello, name};
use crate::plugging::{claim, claims, granted, on, port, release, released, releases, waits};
use config_publisher::events::Request;

/// [`SITE`], where `web-1` is on h1, with three hosts that beat.
fn desk() -> Desk {
    let mut desk = Desk::of(3);
    desk.apply(SITE);
    beat(&mut desk, &["h1", "h2", "h3"]);
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

fn machine(activity: Activity) -> Machine {
    Machine {
        id: Some(name("vm-1")),
        activity,
    }
}

fn claim_of(host: &str, activity: Activity) -> ClaimRequest {
    ClaimRequest {
        machine: machine(activity),
        ..claim(host, "web-1")
    }
}

fn yields_to(to: &str) -> ReleaseRequest {
    ReleaseRequest {
        to: Some(name(to)),
        ..release("h1", "web-1", Some(1))
    }
}

/// What holders were told since this was last asked.
fn told(desk: &mut Desk) -> Vec<(HostName, Yield)> {
    std::mem::take(&mut desk.yields)
}

fn word(
    holder: &str,
    epoch: u64,
    to: &str,
    activity: Activity,
    waited_ms: u64,
) -> (HostName, Yield) {
    let request = Yield {
        v: V1,
        port: name("web-1"),
        epoch: Epoch(epoch),
        to: name(to),
        machine: machine(activity),
        waited_ms,
    };
    (name(holder), request)
}

#[test]
fn a_holder_is_told_who_waits_when_that_begins_and_whenever_it_is_repeated() {
    let mut desk = desk();
    let unknown = Activity::Unknown;
    assert_eq!(claims(&mut desk, claim_of("h2", unknown)), waits("h1", 1));
    assert_eq!(told(&mut desk), [word("h1", 1, "h2", unknown, 0)]);
    live(&mut desk, &["h1", "h2", "h3"], 40);
    let running = Activity::Running;
    assert_eq!(claims(&mut desk, claim_of("h2", running)), waits("h1", 1));
    assert_eq!(told(&mut desk), [word("h1", 1, "h2", running, 40_000)]);
    // And a new holder, for whom it waits anew.
    desk.apply(
        r#"{"kind": "Port", "name": "web-1", "switch": "prod", "group": "web", "host": "h3"}"#,
    );
    assert_eq!(told(&mut desk), [word("h3", 2, "h2", running, 0)]);
}

#[test]
fn who_waits_gets_the_port_that_is_given_to_it() {
    let mut desk = desk();
    claims(&mut desk, claim_of("h2", Activity::Running));
    assert_eq!(releases(&mut desk, yields_to("h2")), released(2));
    assert_eq!(port(&desk, "web-1"), on("h2", 2));
    // It is over: nothing ends twice.
    assert_eq!(releases(&mut desk, yields_to("h2")), ReleaseOutcome::Kept);
    assert_eq!(port(&desk, "web-1"), on("h2", 2));
}

#[test]
fn a_port_is_kept_if_the_host_that_was_to_get_it_waits_no_more() {
    let mut desk = desk();
    assert_eq!(releases(&mut desk, yields_to("h2")), ReleaseOutcome::Kept);
    claims(&mut desk, claim("h2", "web-1"));
    releases(&mut desk, release("h2", "web-1", None));
    assert_eq!(releases(&mut desk, yields_to("h2")), ReleaseOutcome::Kept);
    // Another one waits by now, of which the holder knew nothing.
    claims(&mut desk, claim("h2", "web-1"));
    claims(&mut desk, claim("h3", "web-1"));
    assert_eq!(releases(&mut desk, yields_to("h2")), ReleaseOutcome::Kept);
    assert_eq!(port(&desk, "web-1"), on("h1", 1));
}

#[test]
fn what_is_stopped_takes_no_turn_from_what_may_run() {
    let mut desk = desk();
    claims(&mut desk, claim_of("h2", Activity::Unknown));
    claims(&mut desk, claim_of("h3", Activity::Stopped));
    releases(&mut desk, release("h1", "web-1", Some(1)));
    assert_eq!(port(&desk, "web-1"), on("h2", 2));
    // By itself it is in line, and gets what nobody has.
    claims(&mut desk, claim_of("h3", Activity::Stopped));
    releases(&mut desk, release("h2", "web-1", Some(2)));
    assert_eq!(port(&desk, "web-1"), on("h3", 3));
}

#[test]
fn what_is_stopped_takes_nothing_from_a_host_that_is_silent() {
    let take_over = Duration::from_secs(60);
    let mut desk = Desk::of_with(
        3,
        Settings {
            take_over,
            ..Settings::default()
        },
    );
    desk.apply(SITE);
    beat(&mut desk, &["h1", "h2", "h3"]);
    claims(&mut desk, claim_of("h2", Activity::Stopped));
    live(&mut desk, &["h2", "h3"], 600);
    assert_eq!(port(&desk, "web-1"), on("h1", 1));
    claims(&mut desk, claim_of("h2", Activity::Unknown));
    assert_eq!(port(&desk, "web-1"), on("h2", 2));
}

#[test]
fn the_claim_of_a_host_that_is_absent_by_now_gets_no_port() {
    let mut desk = desk();
    claims(&mut desk, claim("h2", "web-1"));
    live(&mut desk, &["h1", "h3"], 50);
    assert_eq!(
        releases(&mut desk, release("h1", "web-1", Some(1))),
        released(2)
    );
    assert_eq!(port(&desk, "web-1"), (None, None, 2));
}

const WEB_7: &str = r#"{"kind": "Port", "name": "web-7", "switch": "prod", "group": "web"}"#;

/// A claim of a port that does not exist.
fn claims_early(desk: &mut Desk, host: &str) {
    let refused = desk.ask(Request::Claim(claim(host, "web-7"))).unwrap_err();
    assert_eq!(refused.field.as_deref(), Some("port"));
}

#[test]
fn what_is_claimed_before_its_port_exists_is_granted_when_it_is_made() {
    let mut desk = desk();
    claims_early(&mut desk, "h2");
    desk.apply(WEB_7);
    assert_eq!(port(&desk, "web-7"), on("h2", 3));
    assert_eq!(claims(&mut desk, claim("h2", "web-7")), granted(3, 3));
}

#[test]
fn what_is_claimed_before_its_port_exists_waits_where_that_is_made_on_another_host() {
    let mut desk = desk();
    claims_early(&mut desk, "h2");
    desk.apply(
        r#"{"kind": "Port", "name": "web-7", "switch": "prod", "group": "web", "host": "h1"}"#,
    );
    assert_eq!(port(&desk, "web-7"), on("h1", 2));
    assert_eq!(told(&mut desk).len(), 1);
    releases(&mut desk, release("h1", "web-7", Some(2)));
    assert_eq!(port(&desk, "web-7"), on("h2", 3));
}

#[test]
fn an_early_claim_ends_with_its_plug_its_agents_run_and_its_host() {
    let nowhere = (None, None, 0);
    let mut pulled = desk();
    claims_early(&mut pulled, "h2");
    assert_eq!(
        releases(&mut pulled, release("h2", "web-7", None)),
        ReleaseOutcome::Withdrawn
    );
    pulled.apply(WEB_7);
    assert_eq!(port(&pulled, "web-7"), nowhere);

    let mut restarted = desk();
    claims_early(&mut restarted, "h2");
    restarted.ask(Request::Hello(hello("h2", 9))).unwrap();
    restarted.apply(WEB_7);
    assert_eq!(port(&restarted, "web-7"), nowhere);

    let mut silent = desk();
    claims_early(&mut silent, "h2");
    live(&mut silent, &["h1", "h3"], 50);
    silent.apply(WEB_7);
    assert_eq!(port(&silent, "web-7"), nowhere);
}
