// SPDX-License-Identifier: Apache-2.0
//! Rules name ports by their numbers, and a number that is free may become
//! another interface's.
#![allow(clippy::unwrap_used)]

use std::time::{Duration, Instant};

use dvs_ovsdb::testing::skipped;
use dvs_tests::lan::{Frame, Host, Mac, Vm, access, reaches, until};

/// Between two frames.
const PACE: Duration = Duration::from_millis(1);

/// How long the rules of a number may be those of the port that had it last,
/// on a busy machine. It is some milliseconds on one that isn't.
const WINDOW: Duration = Duration::from_secs(1);

fn number(host: &Host, vm: &Vm) -> Option<u32> {
    let of = ["get", "Interface", vm.interface(), "ofport"];
    host.ovs.vsctl(&of).ok()?.trim().parse().ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_free_number_is_nobodys_who_does_not_ask_for_it() {
    if skipped("a_free_number_is_nobodys_who_does_not_ask_for_it") {
        return;
    }
    let host = Host::start().await;
    let a = host.vm(1, "a", access(10)).await;
    let had = number(&host, &a).unwrap();
    for other in 2..6 {
        let (bridge, vm) = (host.bridge(), Vm::start(Mac::numbered(other)));
        vm.wire_to(host.ovs.namespace());
        // In one transaction, so that no rule has changed yet.
        let gone = if other == 2 { a.interface() } else { "nobody" };
        let del = ["--if-exists", "del-port", &bridge, gone];
        let add = ["--", "add-port", &bridge, vm.interface()];
        host.ovs.vsctl(&[&del[..], &add].concat()).unwrap();
        assert_ne!(number(&host, &vm), Some(had));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_for_another_ports_number_hears_its_vlan_for_a_moment_at_most() {
    if skipped("who_asks_for_another_ports_number_hears_its_vlan_for_a_moment_at_most") {
        return;
    }
    let host = Host::start().await;
    let mut b = host.vm(2, "b", access(10)).await;
    let a = host.vm(1, "a", access(10)).await;
    let mut peer = host.vm(4, "peer", access(20)).await;
    let mut spy = Vm::start(Mac::numbered(3));
    host.port("spy", access(20), Some(spy.mac())).await.unwrap();
    spy.wire_to(host.ovs.namespace());
    let (bridge, name) = (host.bridge(), spy.interface().to_owned());
    let asks = format!("ofport_request={}", number(&host, &a).unwrap());
    let del = ["del-port", &bridge, a.interface()];
    let add = ["--", "add-port", &bridge, &name, "--", "set", "Interface"];
    let set = [&name, "external_ids:iface-id=spy", &asks];
    let words = [&del[..], &add, &set].concat();
    let begun = Instant::now();
    let (mut heard, mut last) = (0, Duration::ZERO);
    std::thread::scope(|threads| {
        let taken = threads.spawn(|| host.ovs.vsctl(&words));
        while begun.elapsed() < 2 * WINDOW {
            b.send(&Frame::number(b.mac(), Mac::ALL, 1));
            while spy.next(PACE).is_some() {
                (heard, last) = (heard + 1, begun.elapsed());
            }
        }
        taken.join().unwrap().unwrap();
    });
    eprintln!("heard of another VLAN: {heard} frames, the last {last:?} after it was asked for");
    assert!(last < WINDOW, "{heard} frames, the last after {last:?}");
    until("it is wired as its own port", async || {
        reaches(&mut peer, &mut spy, 2)
    })
    .await;
}
