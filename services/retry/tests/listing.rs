// SPDX-License-Identifier: Apache-2.0
//! What the list of the queues promises: every entry once, page by page.
#![allow(clippy::unwrap_used)]

mod harness;

use dvs_schemas::v1::{Queue, RetryListRequest, RetryPut};
use harness::{AnyKey, World, attempt, put_of, repush, rip};

#[test]
fn pages_hold_every_entry_once_and_stay_within_their_budget() {
    let mut world = World::new(1);
    world.put(RetryPut {
        repush: (0..300)
            .map(|n| attempt(repush(&format!("h{n}"), "prod"), 5))
            .collect(),
        rip: (0..300)
            .map(|n| attempt(rip(&format!("h{}", n % 7), "prod", &format!("p{n}")), 5))
            .collect(),
        ..RetryPut::default()
    });
    for host in [None, Some("h1".parse().unwrap())] {
        let mut seen = Vec::new();
        let mut after = None;
        loop {
            let request = RetryListRequest {
                host: host.clone(),
                after,
                ..RetryListRequest::default()
            };
            let page = world.page(request, 5_000).unwrap();
            assert_eq!((page.repush_total, page.rip_total), (300, 300));
            let size = dvs_schemas::codec::encode(dvs_schemas::Format::Json, &page).unwrap();
            assert!(size.len() <= 5_000);
            seen.extend(page.out_of_sync.into_iter().map(|e| AnyKey::Repush(e.key)));
            seen.extend(page.rip.into_iter().map(|e| AnyKey::Rip(e.key)));
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        let expected: Vec<AnyKey> = world
            .list()
            .into_keys()
            .filter(|key| {
                let of = match key {
                    AnyKey::Repush(key) => &key.host,
                    AnyKey::Rip(key) => &key.host,
                };
                host.as_ref().is_none_or(|host| host == of)
            })
            .collect();
        assert_eq!(seen, expected);
    }
}

#[test]
fn a_page_has_an_entry_even_if_it_is_too_large() {
    let mut world = World::new(1);
    let mut put = put_of(&AnyKey::Repush(repush("h1", "prod")), 5);
    put.repush[0].error = "\u{1}".repeat(1_000_000);
    world.put(put);
    world.put_repush("h2", 5);
    let page = world.page(RetryListRequest::default(), 10).unwrap();
    assert_eq!(page.out_of_sync.len(), 1);
    // And the note that it was cut.
    assert!(page.out_of_sync[0].state.last_error.chars().count() <= 600);
    assert_eq!(page.next.as_deref(), Some("repush/h1/prod"));
}

#[test]
fn a_place_that_is_none_is_refused() {
    let mut world = World::new(1);
    for after in [
        "",
        "h1",
        "repush/h1",
        "rip/h1/prod",
        "repush/h.1/prod",
        "rip/a/b/c/d",
    ] {
        let request = RetryListRequest {
            after: Some(after.to_owned()),
            ..RetryListRequest::default()
        };
        let problem = world.page(request, 1_000).unwrap_err();
        assert_eq!(problem.field.as_deref(), Some("after"), "{after:?}");
    }
}

#[test]
fn one_queue_can_be_listed_alone() {
    let mut world = World::new(1);
    world.put_repush("h1", 5);
    world.put(put_of(&AnyKey::Rip(rip("h1", "prod", "web-1")), 5));
    for (queue, counts) in [(Queue::Repush, (1, 0)), (Queue::Rip, (0, 1))] {
        let request = RetryListRequest {
            queue: Some(queue),
            ..RetryListRequest::default()
        };
        let page = world.page(request, 10_000).unwrap();
        assert_eq!((page.out_of_sync.len(), page.rip.len()), counts);
    }
}
