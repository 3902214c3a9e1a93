// SPDX-License-Identifier: Apache-2.0
//! Runtime state of ports.

use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

use super::retry::forgotten;
use super::{condition_list, few, host_conditions, v1};
use crate::arbitrary::{epoch, name, record, revision, session, store, timestamp, vlan};
use crate::v1::{
    Changed, Counters, CountersOf, EventAck, EventNotice, Fetch, Fetched, Link, Live, LiveReply,
    LiveRequest, PastEvent, PortGone, PortRuntime, Rollup, RollupBy, RollupKey, RuntimeForgetReply,
    RuntimeForgetRequest, RuntimeGetRequest, RuntimeHistoryReply, RuntimeHistoryRequest,
    RuntimeListReply, RuntimeListRequest, RuntimeRecord, RuntimeRollupReply, RuntimeRollupRequest,
    Settled, Telling, ToldBy,
};

record!(
    /// Any rare states of a port.
    port_runtime: PortRuntime {
        port: name(),
        switch: name(),
        group: name(),
        epoch: epoch(),
        revision: revision(),
        link: select(vec![Link::Up, Link::Down]),
        vlan: vlan(),
        blocked: any::<bool>(),
        mirrored: few(name()),
    }
);
record!(
    /// A virtual port that is no more.
    port_gone: PortGone {
        port: name(),
        epoch: epoch(),
    }
);
record!(
    /// Any counters.
    counters: Counters {
        ingress_packets: any::<u64>(),
        ingress_bytes: any::<u64>(),
        ingress_drops: any::<u64>(),
        ingress_errors: any::<u64>(),
        egress_packets: any::<u64>(),
        egress_bytes: any::<u64>(),
        egress_drops: any::<u64>(),
        egress_errors: any::<u64>(),
    }
);
record!(
    /// The counters of a port.
    counters_of: CountersOf {
        port: name(),
        epoch: epoch(),
        counters: counters(),
    }
);
record!(
    /// Any changed event.
    changed: Changed {
        v: v1(),
        host: name(),
        session: session(),
        seq: any::<u64>(),
        at: timestamp(),
        ports: few(port_runtime()),
        gone: few(port_gone()),
    }
);
record!(
    /// Any settled event.
    settled: Settled {
        v: v1(),
        host: name(),
        session: session(),
        seq: any::<u64>(),
        at: timestamp(),
        counters: few(counters_of()),
    }
);
record!(
    /// Any notice of an event.
    event_notice: EventNotice {
        v: v1(),
        host: name(),
        session: session(),
        seq: any::<u64>(),
        at: timestamp(),
        ports: few(name()),
    }
);
record!(
    /// Any question for an event.
    fetch: Fetch {
        v: v1(),
        session: session(),
        seq: any::<u64>(),
    }
);

/// Any event that was fetched.
pub fn fetched() -> impl Strategy<Value = Fetched> {
    prop_oneof![
        changed().prop_map(Fetched::Changed),
        settled().prop_map(Fetched::Settled),
        host_conditions().prop_map(Fetched::Conditions),
    ]
}

record!(
    /// Any acknowledgement of the collector's.
    event_ack: EventAck {
        v: v1(),
        seq: any::<u64>(),
    }
);
record!(
    /// Any question for a stored state.
    runtime_get_request: RuntimeGetRequest { port: name() }
);
record!(
    /// Any question for stored states.
    runtime_list_request: RuntimeListRequest {
        switch: option::of(name()),
        group: option::of(name()),
        host: option::of(name()),
        link: option::of(select(vec![Link::Up, Link::Down])),
        stale_since: option::of(timestamp()),
        after: option::of(name()),
    }
);
record!(
    /// What the collector may have of a port.
    runtime_record: RuntimeRecord {
        port: name(),
        host: name(),
        updated: timestamp(),
        state: option::of(port_runtime()),
        changed: option::of(timestamp()),
        counters: option::of(counters()),
        settled: option::of(timestamp()),
        total: option::of(counters()),
    }
);
record!(
    /// Any page of stored states.
    runtime_list_reply: RuntimeListReply {
        v: v1(),
        ports: few(runtime_record()),
        next: option::of(name()),
    }
);
record!(
    /// Any question for what was told of a port.
    runtime_history_request: RuntimeHistoryRequest { port: name() }
);

fn telling() -> impl Strategy<Value = Telling> {
    prop_oneof![
        port_runtime().prop_map(Telling::State),
        Just(Telling::Gone),
        counters().prop_map(Telling::Counters),
    ]
}

record!(
    /// Anything that a host told of a port.
    past_event: PastEvent {
        heard: timestamp(),
        at: timestamp(),
        host: name(),
        epoch: epoch(),
        by: select(vec![ToldBy::Event, ToldBy::Snapshot, ToldBy::Forgotten]),
        news: any::<bool>(),
        told: telling(),
    }
);
record!(
    /// Any history of a port.
    runtime_history_reply: RuntimeHistoryReply {
        v: v1(),
        port: name(),
        events: few(past_event()),
    }
);

fn rollup_key() -> impl Strategy<Value = RollupKey> {
    prop_oneof![
        name().prop_map(RollupKey::Switch),
        (name(), name()).prop_map(|(switch, group)| RollupKey::Group(switch, group)),
        name().prop_map(RollupKey::Host),
    ]
}

record!(
    /// Any question for sums.
    runtime_rollup_request: RuntimeRollupRequest {
        by: select(vec![RollupBy::Switch, RollupBy::Group, RollupBy::Host]),
        switch: option::of(name()),
        group: option::of(name()),
        host: option::of(name()),
        after: option::of(rollup_key()),
    }
);
record!(
    /// Any sum.
    rollup: Rollup {
        key: rollup_key(),
        ports: any::<u64>(),
        up: any::<u64>(),
        down: any::<u64>(),
        blocked: any::<u64>(),
        total: counters(),
        oldest: timestamp(),
    }
);
record!(
    /// Any page of sums.
    runtime_rollup_reply: RuntimeRollupReply {
        v: v1(),
        rows: few(rollup()),
        next: option::of(rollup_key()),
    }
);
record!(
    /// Any word that hosts will never come back.
    runtime_forget_request: RuntimeForgetRequest {
        v: v1(),
        store: store(),
        hosts: few(forgotten()),
    }
);
record!(
    /// Any answer to it.
    runtime_forget_reply: RuntimeForgetReply {
        v: v1(),
        ports: any::<u64>(),
    }
);
record!(
    /// Any question for live state.
    live_request: LiveRequest {
        port: option::of(name()),
        host: option::of(name()),
        after: option::of(name()),
    }
);
record!(
    /// Any question of the collector's to a host.
    live: Live {
        v: v1(),
        port: option::of(name()),
        after: option::of(name()),
    }
);
record!(
    /// Any live state.
    live_reply: LiveReply {
        v: v1(),
        host: name(),
        session: session(),
        at: timestamp(),
        ports: few(port_runtime()),
        counters: few(counters_of()),
        totals: few(counters_of()),
        conditions: option::of(condition_list()),
        next: option::of(name()),
    }
);
