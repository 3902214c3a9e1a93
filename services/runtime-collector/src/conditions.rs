// SPDX-License-Identifier: Apache-2.0
//! What is wrong on hosts, as each said last.

use std::collections::BTreeMap;

use dvs_ledger::{Ledger, LoadError, Writes};
use dvs_schemas::codec::{self, Format};
use dvs_schemas::v1::{
    Condition, ConditionList, ConditionsOfHost, RuntimeConditionsReply, RuntimeConditionsRequest,
    V1,
};
use dvs_schemas::{HostName, SessionId, Timestamp};
use serde::{Deserialize, Serialize};

use crate::ledger::CONDITIONS;

/// What a page has beside its hosts, in bytes; its `next` is one name.
const FRAME: usize = 256;

/// The conditions of one host, and which word of which session said them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Said {
    /// The agent's session.
    pub(crate) session: SessionId,
    /// Number of the event within the session, or of the newest one before a
    /// snapshot.
    pub(crate) seq: u64,
    pub(crate) heard: Timestamp,
    pub(crate) list: ConditionList,
}

/// The conditions of all hosts that have any.
#[derive(Debug, Default)]
pub(crate) struct Conditions(BTreeMap<HostName, Said>);

impl Conditions {
    pub(crate) fn load(ledger: &Ledger) -> Result<Self, LoadError> {
        let stored = ledger.load::<(HostName, Said)>(CONDITIONS)?;
        Ok(Self(stored.into_iter().map(|(_, entry)| entry).collect()))
    }

    /// Takes a host's conditions in, unless something later is known.
    pub(crate) fn say(&mut self, host: &HostName, said: Said, writes: &mut Writes) {
        let known = self.0.get(host);
        if known.is_some_and(|known| (known.session, known.seq) > (said.session, said.seq)) {
            return;
        }
        // A host without conditions is kept, too: what it said before comes
        // late perhaps, and is over.
        if known.is_none() && said.list == ConditionList::default() {
            return;
        }
        writes.put(CONDITIONS, host.as_str(), &(host, &said));
        self.0.insert(host.clone(), said);
    }

    /// What a host said last.
    pub(crate) fn of(&self, host: &HostName) -> ConditionList {
        self.0
            .get(host)
            .map(|said| said.list.clone())
            .unwrap_or_default()
    }

    /// Nothing is known of a host any more.
    pub(crate) fn forget(&mut self, host: &HostName, writes: &mut Writes) {
        if self.0.remove(host).is_some() {
            writes.delete(CONDITIONS, host.as_str());
        }
    }

    /// A page of at most `budget` bytes, of one host at least.
    pub(crate) fn page(
        &self,
        request: &RuntimeConditionsRequest,
        budget: usize,
    ) -> RuntimeConditionsReply {
        let mut left = budget.saturating_sub(FRAME);
        let mut reply = RuntimeConditionsReply {
            v: V1,
            hosts: Vec::new(),
            next: None,
        };
        let hosts = self.0.iter().filter(|(host, _)| {
            request.after.as_ref().is_none_or(|after| *host > after)
                && request.host.as_ref().is_none_or(|only| *host == only)
        });
        for (host, said) in hosts {
            let Some(of) = wanted(request, host, said) else {
                continue;
            };
            // JSON is never the shorter format. What can't be encoded here
            // can't be in the reply either, and fails there.
            let size = codec::encode(Format::Json, &of).map_or(0, |bytes| bytes.len() + 1);
            if size > left
                && let Some(last) = reply.hosts.last()
            {
                reply.next = Some(last.host.clone());
                break;
            }
            left = left.saturating_sub(size);
            reply.hosts.push(of);
        }
        reply
    }
}

/// What is asked for of a host's conditions, if there is any.
fn wanted(
    request: &RuntimeConditionsRequest,
    host: &HostName,
    said: &Said,
) -> Option<ConditionsOfHost> {
    let RuntimeConditionsRequest {
        host: _,
        switch,
        port,
        kind,
        after: _,
    } = request;
    let passes = |condition: &&Condition| {
        let on = &condition.on;
        (switch.is_none() || on.switch == *switch)
            && (port.is_none() || on.port == *port)
            && kind.is_none_or(|kind| condition.kind == kind)
    };
    let ConditionList { conditions, more } = &said.list;
    let conditions: Vec<_> = conditions.iter().filter(passes).cloned().collect();
    let some = !conditions.is_empty() || *more > 0;
    some.then(|| ConditionsOfHost {
        host: host.clone(),
        heard: said.heard,
        list: ConditionList {
            conditions,
            more: *more,
        },
    })
}
