// SPDX-License-Identifier: Apache-2.0
//! Ports summed up by switch, group or host: those that are there. Pure.

use std::collections::BTreeMap;

use dvs_schemas::codec::{self, Format};
use dvs_schemas::v1::{
    Counters, Link, PortRuntime, Rollup, RollupBy, RollupKey, RuntimeRollupReply,
    RuntimeRollupRequest, V1,
};
use dvs_schemas::{HostName, Problem};

use crate::record::Record;
use crate::store::Store;

/// What a page has beside its rows, in bytes; its `next` is two names.
const FRAME: usize = 512;

/// A page of at most `budget` bytes, of one row at least.
///
/// # Errors
/// `after` is a row of another kind.
pub(crate) fn page(
    request: &RuntimeRollupRequest,
    budget: usize,
    store: &Store,
) -> Result<RuntimeRollupReply, Problem> {
    if let Some(after) = &request.after
        && by(after) != request.by
    {
        return Err(Problem::invalid("such rows are not asked for")
            .at("after")
            .allow("the `next` of the page before"));
    }
    let mut rows: BTreeMap<RollupKey, Rollup> = BTreeMap::new();
    for record in store.records() {
        let (Some(state), Some(told)) = (record.here(), record.told_by()) else {
            continue;
        };
        let key = key(request.by, state, &told.host);
        let wanted = wanted(request, state, &told.host);
        if !wanted || request.after.as_ref().is_some_and(|after| key <= *after) {
            continue;
        }
        let row = rows.entry(key).or_insert_with_key(|key| Rollup {
            key: key.clone(),
            ports: 0,
            up: 0,
            down: 0,
            blocked: 0,
            total: Counters::default(),
            oldest: told.at,
        });
        count(row, record, state);
        row.oldest = row.oldest.min(told.at);
    }
    let mut reply = RuntimeRollupReply {
        v: V1,
        rows: Vec::new(),
        next: None,
    };
    let mut left = budget.saturating_sub(FRAME);
    for row in rows.into_values() {
        // JSON is never the shorter format. What can't be encoded here can't
        // be in the reply either, and fails there.
        let size = codec::encode(Format::Json, &row).map_or(0, |bytes| bytes.len() + 1);
        if size > left
            && let Some(last) = reply.rows.last()
        {
            reply.next = Some(last.key.clone());
            break;
        }
        left = left.saturating_sub(size);
        reply.rows.push(row);
    }
    Ok(reply)
}

fn by(key: &RollupKey) -> RollupBy {
    match key {
        RollupKey::Switch(_) => RollupBy::Switch,
        RollupKey::Group(..) => RollupBy::Group,
        RollupKey::Host(_) => RollupBy::Host,
    }
}

fn key(by: RollupBy, state: &PortRuntime, host: &HostName) -> RollupKey {
    match by {
        RollupBy::Switch => RollupKey::Switch(state.switch.clone()),
        RollupBy::Group => RollupKey::Group(state.switch.clone(), state.group.clone()),
        RollupBy::Host => RollupKey::Host(host.clone()),
    }
}

fn wanted(request: &RuntimeRollupRequest, state: &PortRuntime, of: &HostName) -> bool {
    let RuntimeRollupRequest {
        by: _,
        switch,
        group,
        host,
        after: _,
    } = request;
    switch.as_ref().is_none_or(|switch| *switch == state.switch)
        && group.as_ref().is_none_or(|group| *group == state.group)
        && host.as_ref().is_none_or(|host| host == of)
}

fn count(row: &mut Rollup, record: &Record, state: &PortRuntime) {
    row.total = row.total.plus(&record.total().unwrap_or_default());
    row.ports += 1;
    match (state.link, state.blocked) {
        (Link::Up, false) => row.up += 1,
        (Link::Up, true) => row.blocked += 1,
        (Link::Down, blocked) => {
            row.down += 1;
            row.blocked += u64::from(blocked);
        }
    }
}
