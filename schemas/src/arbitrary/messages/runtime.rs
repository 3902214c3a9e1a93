// SPDX-License-Identifier: Apache-2.0
//! Runtime state of ports.

use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

use super::{few, v1};
use crate::arbitrary::{epoch, name, record, revision, timestamp, uuid, vlan};
use crate::v1::{
    Changed, Counters, CountersOf, EventAck, Link, Live, LiveReply, LiveRequest, PortGone,
    PortRuntime, RuntimeGetRequest, RuntimeListReply, RuntimeListRequest, RuntimeRecord, Settled,
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
        session: uuid(),
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
        session: uuid(),
        seq: any::<u64>(),
        at: timestamp(),
        counters: few(counters_of()),
    }
);
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
        at: timestamp(),
        ports: few(port_runtime()),
        counters: few(counters_of()),
        next: option::of(name()),
    }
);
