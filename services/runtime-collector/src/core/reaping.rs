// SPDX-License-Identifier: Apache-2.0
//! Virtual ports that should be gone, looked for twice and then handed to the
//! rip queue.

use dvs_ledger::Decision;
use dvs_schemas::v1::{Attempt, Live, RetryPut, RipKey, V1};
use dvs_schemas::{HostName, PortId, Revision, Timestamp};

use super::{Asked, Collector};
use crate::events::{Answer, Effect, Question};

impl Collector {
    /// A host lives: what should be gone from it for a while is looked for.
    pub(super) fn look_twice(
        &mut self,
        now: Timestamp,
        host: &HostName,
        out: &mut Decision<Effect>,
    ) {
        for port in self.stale.due(now, host) {
            let question = Question::Live(Live {
                v: V1,
                port: Some(port.clone()),
                after: None,
            });
            let asked = Asked::SecondLook {
                host: host.clone(),
                port,
            };
            self.ask(host.clone(), question, asked, out);
        }
    }

    /// What a host has of a port that should be gone.
    pub(super) fn second_look(
        &mut self,
        now: Timestamp,
        host: HostName,
        port: PortId,
        answer: Answer,
        out: &mut Decision<Effect>,
    ) {
        let Some(suspect) = self.stale.take(&host, &port) else {
            return; // the host has said meanwhile that it is gone
        };
        let known = self.hosts.get(&host);
        let there = match answer {
            // Another agent's ports are not the host's.
            Answer::Live(reply) if known.is_some_and(|known| known.is_past(reply.session)) => {
                return self.stale.again(now, host, port, suspect);
            }
            Answer::Live(reply) => reply.ports.into_iter().find(|state| {
                // It may be on another switch by now, and by right.
                let same = state.port == port && state.switch == suspect.switch;
                same && state.epoch <= suspect.epoch
            }),
            // It has none.
            Answer::Refused(_) => None,
            Answer::Fetched(_)
            | Answer::Put(_)
            | Answer::Placements(_)
            | Answer::TimedOut
            | Answer::NoResponder
            | Answer::NotSent(_) => return self.stale.again(now, host, port, suspect),
        };
        let newest = self.store.epoch_of(&port);
        let Some(newest) = newest.filter(|newest| there.is_some() && *newest > suspect.epoch)
        else {
            return;
        };
        tracing::warn!(%host, %port, epoch = %suspect.epoch, %newest, "a virtual port that should be gone; given to the rip queue");
        let key = RipKey {
            host: host.clone(),
            switch: suspect.switch.clone(),
            port: port.clone(),
        };
        let error = format!(
            "the virtual port of epoch {} is still there, and the port is on another host in epoch {newest}",
            suspect.epoch
        );
        // Of the port as it is elsewhere, as far as that was told.
        let elsewhere = self.store.show(&port).and_then(|record| record.state);
        let revision = elsewhere.map_or(Revision::ZERO, |state| state.revision);
        let put = RetryPut {
            v: V1,
            rip: vec![Attempt {
                key,
                revision,
                error,
            }],
            ..RetryPut::default()
        };
        let ask = self.next_ask(Asked::Rip {
            host,
            port,
            suspect,
        });
        out.effect(Effect::Rip { ask, put });
    }
}
