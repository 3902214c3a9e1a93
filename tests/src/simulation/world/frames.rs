// SPDX-License-Identifier: Apache-2.0
//! Frames that pass through virtual ports, and who counts them.

use std::collections::BTreeMap;

use dvs_schemas::PortId;
use dvs_schemas::v1::{Counters, CountersOf};
use futures_util::FutureExt;
use host_agent::datapath::Datapath;

use super::World;
use super::traffic::Item;

/// What passed through the ports, as an onlooker counts it who sees every
/// frame.
#[derive(Debug, Default)]
pub struct Frames {
    passed: BTreeMap<PortId, Counters>,
    lost: BTreeMap<PortId, Counters>,
}

impl Frames {
    /// Ports that frames passed through, and all of those.
    pub fn passed(&self) -> impl Iterator<Item = (&PortId, &Counters)> {
        self.passed.iter()
    }

    /// What may not be known of a port: its host died before it could tell.
    #[must_use]
    pub fn lost_of(&self, port: &PortId) -> Counters {
        self.lost.get(port).copied().unwrap_or_default()
    }

    /// A host died that had counted this, and had told that.
    pub(super) fn died(&mut self, counted: &[CountersOf], told: &[CountersOf]) {
        for of in counted {
            let same = |told: &&CountersOf| (&told.port, told.epoch) == (&of.port, of.epoch);
            let told = told.iter().find(same).map(|told| told.counters);
            let counters = of.counters.minus(&told.unwrap_or_default());
            self.lost(&CountersOf {
                counters,
                ..of.clone()
            });
        }
    }

    pub(super) fn lost(&mut self, of: &CountersOf) {
        let lost = self.lost.entry(of.port.clone()).or_default();
        *lost = lost.plus(&of.counters);
    }
}

impl World {
    /// Frames pass through some port of some host, if that has any.
    pub fn pass_frames(&mut self) {
        let host = self.random.usize(0..self.hosts.len());
        let picture = self.hosts[host].datapath.picture();
        let ports = picture.iter().flat_map(|(switch, bridge)| {
            let ports = bridge.ports.keys();
            ports.map(move |port| (switch.clone(), port.clone()))
        });
        let ports: Vec<_> = ports.collect();
        let Some((switch, port)) = self.random.choice(&ports) else {
            return;
        };
        let mut numbers = [0; Counters::NUMBERS];
        for number in &mut numbers {
            *number = self.random.u64(0..10);
        }
        let more = Counters::of_numbers(numbers);
        self.note(&("frames", host, port, &more));
        self.hosts[host].datapath.traffic(switch, port, &more);
        let passed = self.traffic.passed.entry(port.clone()).or_default();
        *passed = passed.plus(&more);
        self.hear_datapath(host);
    }

    /// Brings what a datapath has to tell on its way to the agent, in order.
    pub(super) fn hear_datapath(&mut self, host: usize) {
        let life = self.hosts[host].agent.life;
        while let Some(notice) = self.hosts[host].datapath.next_notice().now_or_never() {
            self.at(10, Item::Noticed { host, life, notice });
        }
    }
}
