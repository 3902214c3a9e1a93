// SPDX-License-Identifier: Apache-2.0
//! Frames that pass through virtual ports, and who counts them.

use std::collections::BTreeMap;

use dvs_schemas::PortId;
use dvs_schemas::v1::{Counters, CountersOf};
use futures_util::FutureExt;
use host_agent::datapath::{Datapath, Emulated};

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

    /// A host died with its datapath, and had told that.
    pub(super) fn died(&mut self, datapath: &Emulated, told: &[CountersOf]) {
        for (port, lost) in datapath.lost() {
            self.lose(&port, &lost);
        }
        for of in datapath.seen() {
            let same = |told: &&CountersOf| (&told.port, told.epoch) == (&of.port, of.epoch);
            let told = told.iter().find(same).map(|told| told.counters);
            let lost = of.counters.minus(&told.unwrap_or_default());
            self.lose(&of.port, &lost);
        }
    }

    pub(super) fn lose(&mut self, port: &PortId, more: &Counters) {
        let lost = self.lost.entry(port.clone()).or_default();
        *lost = lost.plus(more);
    }
}

impl World {
    /// What may not be known of a port: nobody could read it in time, or its host
    /// died before it could tell.
    #[must_use]
    pub fn lost_of(&self, port: &PortId) -> Counters {
        let datapaths = self.hosts.iter().map(|machine| machine.datapath.lost());
        let lost = datapaths.filter_map(|lost| lost.get(port).copied());
        let told = self.traffic.lost.get(port).copied();
        let nothing = Counters::default();
        told.into_iter()
            .chain(lost)
            .fold(nothing, |sum, more| sum.plus(&more))
    }

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
        if !self.hosts[host].datapath.traffic(switch, port, &more) {
            return;
        }
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
