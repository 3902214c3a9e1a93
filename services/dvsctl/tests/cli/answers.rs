// SPDX-License-Identifier: Apache-2.0
//! What the services answer of hosts and of their queues, as tests script it.

use std::collections::VecDeque;

use crate::fake::Script;
use dvs_schemas::v1::{
    EntryState, HostListReply, HostListRequest, HostStatus, Presence, Queue, RepushEntry,
    RepushKey, RetryListReply, RetryListRequest, RipEntry, RipKey, SwitchOnHost, V1,
};
use dvs_schemas::{Revision, Timestamp, subjects};

pub(super) fn host(
    name: &str,
    presence: Presence,
    wanted: u64,
    observed: Option<u64>,
) -> HostStatus {
    HostStatus {
        host: name.parse().unwrap(),
        presence,
        heard: None,
        session: None,
        node: None,
        address: None,
        version: None,
        datapath: None,
        diverged: None,
        namesakes: Vec::new(),
        switches: vec![SwitchOnHost {
            switch: "prod".parse().unwrap(),
            wanted: Revision(wanted),
            observed: observed.map(Revision),
            ports: 2,
        }],
    }
}

pub(super) fn hosts(script: Script, turns: Vec<Vec<HostStatus>>) -> Script {
    let mut turns = VecDeque::from(turns);
    script.on(subjects::HOST_LIST, move |_: HostListRequest| {
        let hosts = if turns.len() > 1 {
            turns.pop_front().unwrap()
        } else {
            turns[0].clone()
        };
        Ok(HostListReply {
            v: V1,
            revision: Revision(7),
            hosts,
            next: None,
        })
    })
}

pub(super) fn state(next_try: Option<u64>) -> EntryState {
    EntryState {
        revision: Revision(7),
        since: Timestamp(1_000),
        attempts: 4,
        last_error: "no responder".into(),
        not_tried: None,
        next_try: next_try.map(Timestamp),
    }
}

pub(super) fn queues(script: Script, out_of_sync: Vec<RepushEntry>, rip: Vec<RipEntry>) -> Script {
    script.on(subjects::RETRY_LIST, move |request: RetryListRequest| {
        let of = |queue| request.queue.is_none_or(|only| only == queue);
        Ok(RetryListReply {
            v: V1,
            now: Timestamp(66_000),
            repush_total: out_of_sync.len() as u64,
            rip_total: rip.len() as u64,
            out_of_sync: if of(Queue::Repush) {
                out_of_sync.clone()
            } else {
                vec![]
            },
            rip: if of(Queue::Rip) { rip.clone() } else { vec![] },
            next: None,
        })
    })
}

pub(super) fn repush(host: &str, next_try: Option<u64>) -> RepushEntry {
    RepushEntry {
        key: RepushKey {
            host: host.parse().unwrap(),
            switch: "prod".parse().unwrap(),
        },
        state: state(next_try),
    }
}

pub(super) fn rip(host: &str) -> RipEntry {
    RipEntry {
        key: RipKey {
            host: host.parse().unwrap(),
            switch: "prod".parse().unwrap(),
            port: "web-9".parse().unwrap(),
        },
        state: state(Some(65_000)),
    }
}
