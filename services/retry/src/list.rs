// SPDX-License-Identifier: Apache-2.0
//! A page of the queues: re-push entries by host and switch, then rip entries
//! by host, switch and port. Pure.

use dvs_schemas::codec::{self, Format};
use dvs_schemas::v1::{
    EntryState, Queue as Which, RepushEntry, RepushKey, RetryListReply, RetryListRequest, RipEntry,
    RipKey, V1,
};
use dvs_schemas::{Problem, Timestamp};
use serde::Serialize;

use crate::key::{Key, Path};
use crate::queue::{Entry, Queue, prefix, wanted};

/// What a page has beside its entries, in bytes; its `next` is two or three
/// names of at most 63 bytes.
const FRAME: usize = 512;

/// Between the parts of `after`: in no name, and as harmless in a shell as in
/// JSON.
const CURSOR_SEPARATOR: char = '/';

/// A page of at most `budget` bytes, of one entry at least.
///
/// # Errors
/// `after` is no `next` of a page.
pub(crate) fn page(
    now: Timestamp,
    request: &RetryListRequest,
    budget: usize,
    repush: &Queue<RepushKey>,
    rip: &Queue<RipKey>,
) -> Result<RetryListReply, Problem> {
    let after = request.after.as_deref().map(parse).transpose()?;
    let mut reply = RetryListReply {
        v: V1,
        now,
        repush_total: repush.len() as u64,
        rip_total: rip.len() as u64,
        out_of_sync: Vec::new(),
        rip: Vec::new(),
        next: None,
    };
    let mut page = Page {
        left: budget.saturating_sub(FRAME),
        last: None,
    };
    // None: the queue is over already; inside: from where on it goes.
    let (repush_from, rip_from) = match after {
        None => (Some(None), Some(None)),
        Some((Which::Repush, path)) => (Some(Some(path)), Some(None)),
        Some((Which::Rip, path)) => (None, Some(Some(path))),
    };
    let mut whole = true;
    if let Some(from) = repush_from {
        let entry = |key: &RepushKey, state| RepushEntry {
            key: key.clone(),
            state,
        };
        whole = page.take(
            repush,
            request,
            from.as_ref(),
            entry,
            &mut reply.out_of_sync,
        );
    }
    if let (true, Some(from)) = (whole, rip_from) {
        let entry = |key: &RipKey, state| RipEntry {
            key: key.clone(),
            state,
        };
        whole = page.take(rip, request, from.as_ref(), entry, &mut reply.rip);
    }
    if !whole {
        reply.next = page.last;
    }
    Ok(reply)
}

struct Page {
    left: usize,
    /// Where the next page begins.
    last: Option<String>,
}

impl Page {
    /// Adds entries of a queue as long as there is room; true if it came to
    /// the queue's end.
    fn take<K: Key, E: Serialize>(
        &mut self,
        queue: &Queue<K>,
        request: &RetryListRequest,
        after: Option<&Path>,
        shown: impl Fn(&K, EntryState) -> E,
        into: &mut Vec<E>,
    ) -> bool {
        if !wanted(request.queue.as_ref(), Some(&K::QUEUE)) {
            return true;
        }
        let prefix = prefix(request.host.as_ref(), request.switch.as_ref());
        let selected = queue
            .entries(&prefix, after)
            .filter(|(_, entry)| wanted(request.switch.as_ref(), Some(entry.key.switch())));
        for (_, entry) in selected {
            let Entry { key, .. } = entry;
            let item = shown(key, entry.state());
            // JSON is never the shorter format. What can't be encoded here
            // can't be in the reply either, and fails there.
            let size = codec::encode(Format::Json, &item).map_or(0, |bytes| bytes.len() + 1);
            if size > self.left && self.last.is_some() {
                return false;
            }
            self.left = self.left.saturating_sub(size);
            self.last = Some(cursor(key));
            into.push(item);
        }
        true
    }
}

fn word(queue: Which) -> &'static str {
    match queue {
        Which::Repush => "repush",
        Which::Rip => "rip",
    }
}

fn cursor<K: Key>(key: &K) -> String {
    let mut text = format!(
        "{}{CURSOR_SEPARATOR}{}{CURSOR_SEPARATOR}{}",
        word(K::QUEUE),
        key.host(),
        key.switch()
    );
    if let Some(port) = key.port() {
        text.push(CURSOR_SEPARATOR);
        text.push_str(port.as_str());
    }
    text
}

fn parse(after: &str) -> Result<(Which, Path), Problem> {
    let parsed = match after.split(CURSOR_SEPARATOR).collect::<Vec<_>>()[..] {
        ["repush", host, switch] => {
            let key = host.parse().ok().zip(switch.parse().ok());
            key.map(|(host, switch)| (Which::Repush, RepushKey { host, switch }.path()))
        }
        ["rip", host, switch, port] => {
            let key = host.parse().ok().zip(switch.parse().ok());
            let key = key.zip(port.parse().ok());
            key.map(|((host, switch), port)| (Which::Rip, RipKey { host, switch, port }.path()))
        }
        _ => None,
    };
    parsed.ok_or_else(|| {
        Problem::invalid(format!("{after:?} is no place in the queues"))
            .at("after")
            .allow("the `next` of the page before")
    })
}
