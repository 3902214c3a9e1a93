// SPDX-License-Identifier: Apache-2.0
//! How hosts make themselves known, and what is known of them.

use std::net::IpAddr;

use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

use super::store::{diverged, position};
use super::{few, v1, words};
use crate::arbitrary::{name, record, revision, session, timestamp, uuid};
use crate::v1::{
    Drift, ForgetReply, ForgetRequest, Heartbeat, Hello, HelloReply, HostDatapath, HostListReply,
    HostListRequest, HostStatus, Identified, Identify, Namesake, Observed, Presence, SwitchOnHost,
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
        agent: uuid(),
        session: option::of(session()),
        version: words(),
        node: words(),
        address: option::of(any::<IpAddr>()),
        datapath: option::of(host_datapath()),
        observed: few(observed()),
        positions: few(position()),
    }
);
record!(
    /// Any reply to a hello.
    hello_reply: HelloReply {
        v: v1(),
        session: session(),
        switches: few(name()),
    }
);
record!(
    /// Any question whether an agent is there.
    identify: Identify {
        v: v1(),
        session: session(),
    }
);
record!(
    /// Any answer to it.
    identified: Identified {
        v: v1(),
        host: name(),
        session: session(),
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
        session: session(),
        seq: any::<u64>(),
        interval_ms: any::<u64>(),
        last: any::<bool>(),
        observed: few(observed()),
        positions: few(position()),
    }
);
record!(
    /// Any drift.
    drift: Drift {
        v: v1(),
        host: name(),
        session: session(),
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
    /// Another agent of a host's name.
    namesake: Namesake {
        agent: uuid(),
        node: words(),
        address: option::of(any::<IpAddr>()),
        session: option::of(session()),
        heard: timestamp(),
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
        session: option::of(session()),
        node: option::of(words()),
        address: option::of(any::<IpAddr>()),
        version: option::of(words()),
        datapath: option::of(host_datapath()),
        diverged: option::of(diverged()),
        namesakes: few(namesake()),
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
