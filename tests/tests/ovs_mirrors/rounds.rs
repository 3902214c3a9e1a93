// SPDX-License-Identifier: Apache-2.0
//! No copy is copied again, whatever sessions hosts hold: those of different
//! times, each of a part.

use std::time::Duration;

use dvs_ovsdb::testing::skipped;
use dvs_schemas::{Direction, MirrorPort};
use dvs_tests::lan::{Frame, Mac, Wire, access, id, is_heard};
use host_agent::datapath::Mirror;

use crate::{LAST, behind_each_other, into, of_vlan, on_wire};

#[tokio::test(flavor = "multi_thread")]
async fn sessions_that_copy_into_each_other_make_no_loop() {
    if skipped("sessions_that_copy_into_each_other_make_no_loop") {
        return;
    }
    let wire = Wire::new();
    let [left, right] = [on_wire(&wire, 0).await, on_wire(&wire, 1).await];
    let mut a = left.vm(1, "a", access(100)).await;
    let mut b = right.vm(2, "b", access(100)).await;
    let mut probe = right.vm(3, "probe", access(200)).await;
    let mut other = left.vm(4, "other", access(200)).await;
    assert!(is_heard(&mut a, &mut b, Duration::from_secs(20)));
    assert!(is_heard(&mut other, &mut probe, Duration::from_secs(20)));
    // Hosts may hold sessions that the publisher would not admit together: of
    // different times, each of a part.
    for host in [&left, &right] {
        host.mirror("to-200", of_vlan(100, into(200)))
            .await
            .unwrap();
        host.mirror("to-100", of_vlan(200, into(100)))
            .await
            .unwrap();
    }
    probe.drain();
    let (sent, [heard]) = behind_each_other(&mut a, [&mut b]);
    assert_eq!(heard, sent, "it goes round");
    let (sent, [heard]) = behind_each_other(&mut b, [&mut a]);
    assert_eq!(heard, sent, "it goes round");
    // Who is in a VLAN of copies is not copied, so no copy is either.
    let last = Frame::number(other.mac(), Mac::ALL, LAST);
    other.send(&last);
    assert_eq!(probe.until(|heard| *heard == last), Some(Vec::new()));
}

/// A host may be off the bus, and have sessions that are no more elsewhere.
#[tokio::test(flavor = "multi_thread")]
async fn a_host_left_behind_and_the_others_make_no_loop_of_what_machines_send() {
    if skipped("a_host_left_behind_and_the_others_make_no_loop_of_what_machines_send") {
        return;
    }
    let wire = Wire::new();
    let [left, right] = [on_wire(&wire, 0).await, on_wire(&wire, 1).await];
    let mut a = left.vm(1, "a", access(100)).await;
    let mut b = right.vm(2, "b", access(100)).await;
    let mut c = left.vm(3, "c", access(200)).await;
    let mut d = right.vm(4, "d", access(200)).await;
    assert!(is_heard(&mut a, &mut b, Duration::from_secs(20)));
    let sent_by = |port: &str, to| Mirror {
        ports: vec![MirrorPort {
            port: id(port),
            direction: Direction::Ingress,
        }],
        vlans: Vec::new(),
        destination: into(to),
    };
    let by_vlan = (of_vlan(100, into(200)), of_vlan(200, into(100)));
    for (old, new) in [by_vlan, (sent_by("a", 200), sent_by("d", 100))] {
        left.mirror("old", old).await.unwrap();
        right.mirror("new", new).await.unwrap();
        let (sent, heard) = behind_each_other(&mut a, [&mut b, &mut c, &mut d]);
        assert_eq!(heard, [&*sent, &*sent, &*sent]);
        let (sent, heard) = behind_each_other(&mut d, [&mut c, &mut b, &mut a]);
        assert_eq!(heard, [&*sent, &*sent, &*sent]);
    }
}
