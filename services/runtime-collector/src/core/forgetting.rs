// SPDX-License-Identifier: Apache-2.0
//! Hosts that will never come back, and can't say that their virtual ports are
//! gone. What they counted stays.
//!
//! What such a host said before may be under way still: fetched from it, or
//! waiting for the publisher's word. It is taken like all that is late, and
//! what it revives ends again at once.

use dvs_ledger::Writes;
use dvs_schemas::v1::{Forgotten, PortGone, RuntimeForgetReply, RuntimeForgetRequest, V1};
use dvs_schemas::{Epoch, HostName, Timestamp};

use super::telling::How;
use super::{Asked, Collector};
use crate::ledger::HOSTS;
use crate::record::Stamp;

impl Asked {
    /// The host whose word, or event, the answer will bring.
    fn word_of(&self) -> Option<&HostName> {
        match self {
            Self::Snapshot { host, .. } | Self::Fetch { host, .. } => Some(host),
            Self::Placements(word) => Some(word.host()),
            Self::SecondLook { .. } | Self::Rip { .. } | Self::PassThrough { .. } => None,
        }
    }
}

impl Collector {
    /// Ends what forgotten hosts told of the placements that ended with that.
    pub(super) fn forget(
        &mut self,
        heard: Timestamp,
        request: RuntimeForgetRequest,
        writes: &mut Writes,
    ) -> RuntimeForgetReply {
        let RuntimeForgetRequest {
            v: V1,
            store,
            hosts,
        } = request;
        let mut ports = 0;
        for Forgotten { host, revision } in hosts {
            let upto = Epoch::of(store, revision);
            ports += self.end_of(heard, &host, upto, writes);
            if self.speaks(&host) {
                let latest = self.forgotten.entry(host.clone()).or_default();
                *latest = upto.max(*latest);
            }
            tracing::info!(%host, %revision, "forgotten");
        }
        RuntimeForgetReply { v: V1, ports }
    }

    /// Something came of a host that was under way perhaps when the host was
    /// forgotten.
    pub(super) fn forget_again(&mut self, heard: Timestamp, host: &HostName, writes: &mut Writes) {
        if let Some(upto) = self.forgotten.get(host).copied() {
            self.end_of(heard, host, upto, writes);
            if !self.speaks(host) {
                self.forgotten.remove(host);
            }
        }
    }

    /// Whether something that a host said is under way.
    fn speaks(&self, host: &HostName) -> bool {
        self.asked
            .values()
            .any(|asked| asked.word_of() == Some(host))
    }

    /// Ends the placements of a host up to one; says how many were there. Its
    /// runs go too, unless it came back and told of a later placement.
    fn end_of(
        &mut self,
        heard: Timestamp,
        host: &HostName,
        upto: Epoch,
        writes: &mut Writes,
    ) -> u64 {
        let mut ended = 0;
        let mut lives = self.hosts.get(host).is_some_and(|host| host.is_asked());
        for (port, epoch, last) in self.store.told_by(host) {
            if epoch > upto {
                lives = true;
                continue;
            }
            if self.store.is_gone(&port) {
                continue;
            }
            // The last word of this placement.
            let by = Stamp {
                seq: u64::MAX,
                at: heard,
                heard,
                ..last
            };
            self.gone(&by, How::Forgotten, &PortGone { port, epoch }, writes);
            ended += 1;
        }
        if !lives && self.hosts.remove(host).is_some() {
            writes.delete(HOSTS, host.as_str());
            self.conditions.forget(host, writes);
        }
        ended
    }
}
