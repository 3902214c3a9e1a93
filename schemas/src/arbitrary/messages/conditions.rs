// SPDX-License-Identifier: Apache-2.0
//! What is wrong on hosts.

use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

use super::{few, v1, words};
use crate::arbitrary::{name, record, session, timestamp};
use crate::v1::{
    Condition, ConditionKind, ConditionList, ConditionTarget, ConditionsOfHost, HostConditions,
    RuntimeConditionsReply, RuntimeConditionsRequest,
};

/// Any kind of condition.
pub fn condition_kind() -> impl Strategy<Value = ConditionKind> {
    select(ConditionKind::ALL.to_vec())
}

record!(
    /// What a condition is about.
    condition_target: ConditionTarget {
        switch: option::of(name()),
        port: option::of(name()),
        mirror: option::of(name()),
        interface: option::of("tap[0-9]"),
        field: option::of("tag|qos"),
    }
);
record!(
    /// Any condition.
    condition: Condition {
        kind: condition_kind(),
        on: condition_target(),
        message: words(),
        since: timestamp(),
    }
);
record!(
    /// Any conditions of a host.
    condition_list: ConditionList {
        conditions: few(condition()),
        more: any::<u64>(),
    }
);
record!(
    /// Any conditions event.
    host_conditions: HostConditions {
        v: v1(),
        host: name(),
        session: session(),
        seq: any::<u64>(),
        at: timestamp(),
        list: condition_list(),
    }
);
record!(
    /// Any question for conditions.
    runtime_conditions_request: RuntimeConditionsRequest {
        host: option::of(name()),
        switch: option::of(name()),
        port: option::of(name()),
        kind: option::of(condition_kind()),
        after: option::of(name()),
    }
);
record!(
    /// What the collector has of a host.
    conditions_of_host: ConditionsOfHost {
        host: name(),
        heard: timestamp(),
        list: condition_list(),
    }
);
record!(
    /// Any page of conditions.
    runtime_conditions_reply: RuntimeConditionsReply {
        v: v1(),
        hosts: few(conditions_of_host()),
        next: option::of(name()),
    }
);
