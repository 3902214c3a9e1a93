// SPDX-License-Identifier: Apache-2.0
//! How hosts make themselves known, and what is known of them.

use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

use super::store::{diverged, position};
use super::{few, v1, words};
use crate::arbitrary::{name, record, revision, timestamp, uuid};
use crate::v1::{
    Drift, ForgetReply, ForgetRequest, Heartbeat, Hello, HelloReply, HostDatapath, HostListReply,
    HostListRequest, HostStatus, Observed, Presence, SwitchOnHost,
};

fn host_datapath() -> impl Strategy<Value = HostDatapath> {
    select(vec![HostDatapath::OpenVswitch, HostDatapath::Emulated])
}

record!(
    /// A switch and the revision applied.
    observed: Observed {
        switch: name(),
        revision: revision(),
    }
);
record!(
    /// Any hello.
    hello: Hello {
        v: v1(),
        host: name(),
        session: uuid(),
        version: words(),
        node: words(),
        datapath: option::of(host_datapath()),
        observed: few(observed()),
        positions: few(position()),
    }
);
record!(
    /// Any reply to a hello.
    hello_reply: HelloReply {
        v: v1(),
        switches: few(name()),
    }
);
record!(
    /// Any request to forget a host.
    forget_request: ForgetRequest {
        host: name(),
    }
);
record!(
    /// Any reply to it.
    forget_reply: ForgetReply {
        v: v1(),
        host: name(),
        revision: revision(),
        ports: any::<u64>(),
        warnings: few(words()),
    }
);
record!(
    /// Any heartbeat.
    heartbeat: Heartbeat {
        v: v1(),
        host: name(),
        session: uuid(),
        seq: any::<u64>(),
        interval_ms: any::<u64>(),
        observed: few(observed()),
        positions: few(position()),
    }
);
record!(
    /// Any drift.
    drift: Drift {
        v: v1(),
        host: name(),
        at: timestamp(),
        switch: name(),
        port: option::of(name()),
        mirror: option::of(name()),
        row: "Port tap[0-9]",
        column: option::of("tag|qos"),
        wanted: ".{0,10}",
        found: ".{0,10}",
        repaired: any::<bool>(),
    }
);
record!(
    /// Any question for hosts.
    host_list_request: HostListRequest {
        host: option::of(name()),
        switch: option::of(name()),
        after: option::of(name()),
    }
);
record!(
    /// A switch on a host.
    switch_on_host: SwitchOnHost {
        switch: name(),
        wanted: revision(),
        observed: option::of(revision()),
        ports: any::<u64>(),
    }
);
record!(
    /// What may be known of a host.
    host_status: HostStatus {
        host: name(),
        presence: select(vec![
            Presence::Present,
            Presence::Absent,
            Presence::Unknown,
            Presence::Never,
        ]),
        heard: option::of(timestamp()),
        node: option::of(words()),
        version: option::of(words()),
        datapath: option::of(host_datapath()),
        diverged: option::of(diverged()),
        switches: few(switch_on_host()),
    }
);
record!(
    /// Any page of hosts.
    host_list_reply: HostListReply {
        v: v1(),
        revision: revision(),
        hosts: few(host_status()),
        next: option::of(name()),
    }
);
