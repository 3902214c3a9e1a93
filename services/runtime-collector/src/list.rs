// SPDX-License-Identifier: Apache-2.0
//! A page of the stored states, by port. Pure.

use dvs_schemas::codec::{self, Format};
use dvs_schemas::v1::{PortRuntime, RuntimeListReply, RuntimeListRequest, RuntimeRecord, V1};

use crate::record::Record;
use crate::store::Store;

/// What a page has beside its records, in bytes; its `next` is one name.
const FRAME: usize = 256;

/// A page of at most `budget` bytes, of one record at least.
pub(crate) fn page(request: &RuntimeListRequest, budget: usize, store: &Store) -> RuntimeListReply {
    let mut left = budget.saturating_sub(FRAME);
    let mut reply = RuntimeListReply {
        v: V1,
        ports: Vec::new(),
        next: None,
    };
    let wanted = store
        .known(request.host.as_ref(), request.after.as_ref())
        .filter(|(_, record)| stale(request, record))
        .filter_map(|(port, record)| record.show(port))
        .filter(|record| wanted(request, record));
    for record in wanted {
        // JSON is never the shorter format. What can't be encoded here can't
        // be in the reply either, and fails there.
        let size = codec::encode(Format::Json, &record).map_or(0, |bytes| bytes.len() + 1);
        if size > left
            && let Some(last) = reply.ports.last()
        {
            reply.next = Some(last.port.clone());
            break;
        }
        left = left.saturating_sub(size);
        reply.ports.push(record);
    }
    reply
}

/// Whether a record is as old as is wanted, by the clock here: that of a host
/// may be ahead, or behind.
fn stale(request: &RuntimeListRequest, record: &Record) -> bool {
    let heard = record.told_by().map(|by| by.heard);
    request
        .stale_since
        .is_none_or(|since| heard.is_some_and(|heard| heard < since))
}

/// Whether all other filters but the host's, which the store follows, let a
/// record pass. A port that is gone is of no switch, no group and no link state.
fn wanted(request: &RuntimeListRequest, record: &RuntimeRecord) -> bool {
    let RuntimeListRequest {
        switch,
        group,
        host: _,
        link,
        stale_since: _,
        after: _,
    } = request;
    let state = record.state.as_ref();
    let passes = |state: &PortRuntime| {
        switch.as_ref().is_none_or(|switch| *switch == state.switch)
            && group.as_ref().is_none_or(|group| *group == state.group)
            && link.is_none_or(|link| link == state.link)
    };
    let filtered = switch.is_some() || group.is_some() || link.is_some();
    state.map_or(!filtered, passes)
}
