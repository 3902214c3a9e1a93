// SPDX-License-Identifier: Apache-2.0
//! Hosts that will never come back, and can't say that their virtual ports are
//! gone. What they counted stays.

use dvs_ledger::Writes;
use dvs_schemas::v1::{Forgotten, PortGone, RuntimeForgetReply, RuntimeForgetRequest, V1};
use dvs_schemas::{Epoch, Timestamp};

use super::Collector;
use super::telling::How;
use crate::ledger::HOSTS;
use crate::record::Stamp;

impl Collector {
    /// Ends what forgotten hosts told of the placements that ended with that.
    /// Their runs go too, unless they came back and told of a later placement.
    pub(super) fn forget(
        &mut self,
        heard: Timestamp,
        request: RuntimeForgetRequest,
        writes: &mut Writes,
    ) -> RuntimeForgetReply {
        let RuntimeForgetRequest { v: V1, hosts } = request;
        let mut ports = 0;
        for Forgotten { host, revision } in hosts {
            let upto = Epoch::of(revision);
            let told = self.store.told_by(&host);
            let mut lives = self.hosts.get(&host).is_some_and(|host| host.is_asked());
            for (port, epoch, last) in told {
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
                ports += 1;
            }
            if !lives && self.hosts.remove(&host).is_some() {
                writes.delete(HOSTS, host.as_str());
            }
            tracing::info!(%host, %revision, "forgotten");
        }
        RuntimeForgetReply { v: V1, ports }
    }
}
