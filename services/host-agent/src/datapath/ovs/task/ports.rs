// SPDX-License-Identifier: Apache-2.0
//! The side of forwarding: what bridges are to forward, what their switches
//! can't do, and what their ports count.

use std::collections::BTreeMap;

use dvs_openflow::Port;
use dvs_ovsdb::unixctl;
use dvs_schemas::v1::{Counters, CountersOf};
use dvs_schemas::{PortId, ShapingLimit, SwitchName};

use super::Task;
use super::bridges::Order;
use super::database::{chain, unread};
use crate::datapath::ovs::announcement;
use crate::datapath::ovs::counters::of_stats;
use crate::datapath::ovs::forwarding::{ForwardingError, Wanted, meters_of};
use crate::datapath::ovs::intent::Wish;
use crate::datapath::ovs::pipeline::{Layout, Wired};
use crate::datapath::ovs::rows::{copied_into, mirrored_to};
use crate::datapath::ovs::rules::OfPort;
use crate::datapath::ovs::view::{self, View};
use crate::datapath::ovs::vlans::Vid;
use crate::datapath::{DatapathError, Step, Write};

/// Ports of one bridge that are asked for one by one; beyond that one question
/// for all of them is cheaper.
const ONE_BY_ONE: usize = 8;

/// Numbers of the patches of a bridge.
struct Ways {
    /// To the uplinks.
    uplink: Option<OfPort>,
    /// By which copies enter their VLANs.
    copies: BTreeMap<Vid, Option<OfPort>>,
}

impl Task {
    /// Gives every bridge its rules. Without the database nobody knows which
    /// ports are there.
    pub(super) async fn forward_all(&mut self) {
        if self.database.is_none() {
            return;
        }
        self.forward().await;
        if !self.has_untold_plugs() {
            return;
        }
        // A switch that answers has said in the database before what became of
        // its devices.
        if let Err(error) = self.follow().await {
            tracing::warn!(%error, "what is plugged in can't be told yet");
        }
        self.forward().await;
    }

    async fn follow(&mut self) -> Result<(), DatapathError> {
        self.catch_up().await.map_err(unread)?;
        self.settle().await
    }

    async fn forward(&mut self) {
        // What an interface had counted is read before any frame passes it.
        self.read_unread().await;
        if let Some(orders) = self.orders() {
            self.bridges.become_these(orders, self.written.take()).await;
            self.look_for_meters();
            // On a bridge that was away until now.
            self.read_unread().await;
            self.unsettled |= self.tallies.is_renewed();
            self.forwarded = true;
            self.tell_of_what_is_in_force();
        }
    }

    /// What the bridges that are there are to forward by; none if the database
    /// is away.
    pub(super) fn orders(&self) -> Option<Vec<Order>> {
        let view = View::new(self.database.as_ref()?.cache());
        let order = |(switch, wish): (&SwitchName, &Wish)| {
            let (bridge, _) = self.config.bridge(switch);
            // Where it isn't ours the database's side says why.
            if !self.is_ruled_in(&view, switch) {
                return None;
            }
            let number = |name: &str| {
                let row = view.row(view::INTERFACE, view.interface(name)?)?;
                view::ofport(row)
            };
            let copies = copied_into(wish).into_iter();
            let ways = Ways {
                uplink: number(&bridge.patch_up()),
                copies: copies
                    .map(|vlan| (vlan.get(), number(&bridge.copies_in(vlan))))
                    .collect(),
            };
            Some(Order {
                switch: switch.clone(),
                bridge,
                wanted: self.wanted(switch, wish, ways),
            })
        };
        Some(self.intent.iter().filter_map(order).collect())
    }

    /// True if the bridge of a switch is there, and the switch's.
    pub(super) fn is_ruled(&self, switch: &SwitchName) -> bool {
        let database = self.database.as_ref();
        database.is_some_and(|database| self.is_ruled_in(&View::new(database.cache()), switch))
    }

    fn is_ruled_in(&self, view: &View<'_>, switch: &SwitchName) -> bool {
        let (bridge, _) = self.config.bridge(switch);
        let there = view.bridge(bridge.as_str());
        let row = there.and_then(|uuid| Some((uuid, view.row(view::BRIDGE, uuid)?)));
        row.and_then(|(uuid, row)| self.memory.switch_of(uuid, row))
            .as_ref()
            == Some(switch)
    }

    pub(super) fn look_for_meters(&mut self) {
        if self.bridges.lack_meters() {
            let why = "the datapath of Open vSwitch has no meters";
            self.abilities.no_ingress = Some(why.to_owned());
        }
    }

    /// What a bridge is to forward between, and how much.
    fn wanted(&self, switch: &SwitchName, wish: &Wish, ways: Ways) -> Wanted {
        let copies: Vec<&PortId> = mirrored_to(wish).collect();
        let plugs = self.plugs.get(switch);
        let mut rates = Vec::new();
        let wired = wish.ports.iter().filter_map(|(id, spec)| {
            let plug = plugs?.get(id)?;
            let ofport = plug.ofport?;
            // What gets the copies of others has no traffic of its own. A blocked
            // port gets none, whatever sessions say.
            if copies.contains(&id) && !spec.policy.blocked {
                return None;
            }
            let meters = match spec.policy.ingress {
                ShapingLimit::Rate(rate) => {
                    rates.push((ofport, rate));
                    meters_of(ofport).to_vec()
                }
                ShapingLimit::Unlimited => Vec::new(),
            };
            Some(Wired {
                ofport,
                mac: spec.mac,
                policy: spec.policy.clone(),
                meters,
            })
        });
        let waiting = plugs.into_iter().flatten();
        let waiting = waiting.filter(|(id, _)| !wish.ports.contains_key(*id));
        let waiting = waiting.filter_map(|(_, plug)| Some((plug.ofport?, plug.mac)));
        let layout = Layout {
            ports: wired.collect(),
            uplink: ways.uplink,
            copies: ways.copies,
            waiting: waiting.collect(),
            private: wish.settings.private_vlans.clone(),
            learning: self.config.learning,
        };
        Wanted { layout, rates }
    }

    /// Makes a port's counters go on from what is told of its placement.
    pub(super) fn go_on(&mut self, key: &(SwitchName, PortId)) {
        let wish = self.intent.get(&key.0);
        let Some(port) = wish.and_then(|wish| wish.ports.get(&key.1)) else {
            return;
        };
        if let Some(told) = self.told.remove(key)
            && told.epoch == port.epoch
        {
            self.tallies.resume(key.clone(), &told.counters);
        }
    }

    /// Reads counters where steps end placements, or begin them on interfaces
    /// that have counted before.
    pub(super) async fn read_placements(&mut self, steps: &[Step]) {
        let concerned = steps.iter().filter_map(|Step { switch, write }| {
            let port = match write {
                Write::SetPort { port, to, .. } => {
                    let held = self.intent.get(switch)?.ports.get(port);
                    let same = held.is_some_and(|held| held.epoch == to.epoch);
                    (!same).then_some(port)
                }
                Write::RemovePort { port, .. } => Some(port),
                Write::SetBridge { .. }
                | Write::SetMirror { .. }
                | Write::RemoveMirror { .. }
                | Write::RemoveBridge { .. } => None,
            }?;
            Some((switch.clone(), port.clone()))
        });
        let concerned: Vec<_> = concerned.collect();
        let Ok(read) = self.raw(&concerned).await else {
            // What was read last has to do.
            return;
        };
        for (key, raw) in read {
            if !self.tallies.is_plugged(&key) {
                self.tallies.plugged(key.clone());
            }
            self.tallies.read(&key, &raw);
        }
    }

    /// Reads what interfaces have counted of which nobody knows it yet.
    pub(super) async fn read_unread(&mut self) {
        let unread = self.tallies.unread();
        if unread.is_empty() {
            return;
        }
        match self.raw(&unread).await {
            Ok(read) => {
                for (key, raw) in read {
                    self.tallies.read(&key, &raw);
                }
            }
            // Whoever gives the bridge its rules next says so.
            Err(error) => tracing::debug!(error = chain(&error), "counters can't be read"),
        }
    }

    /// Reads counters of ports that may not be there much longer.
    pub(super) async fn read_now(&mut self, ports: &[(SwitchName, PortId)]) {
        for (key, raw) in self.raw(ports).await.unwrap_or_default() {
            self.tallies.read(&key, &raw);
        }
        self.unsettled |= self.tallies.is_renewed();
    }

    pub(super) async fn counters(
        &mut self,
        ports: Vec<(SwitchName, PortId)>,
    ) -> Result<Vec<(SwitchName, CountersOf)>, DatapathError> {
        let read = self.raw(&ports).await.map_err(|error| DatapathError {
            doing: "read",
            reason: chain(&error),
        })?;
        for (key, raw) in read {
            self.tallies.read(&key, &raw);
        }
        // Before the agent may be gone: by the mark it goes on counting.
        self.unsettled |= self.tallies.is_renewed();
        let counted = ports.into_iter().filter_map(|key| {
            self.moved.remove(&key);
            let epoch = self.intent.get(&key.0)?.ports.get(&key.1)?.epoch;
            let counters = self.tallies.total(&key);
            let (switch, port) = key;
            let of = CountersOf {
                port,
                epoch,
                counters,
            };
            Some((switch, of))
        });
        Ok(counted.collect())
    }

    /// Announces ports, as far as somebody knows their addresses.
    pub(super) async fn announce(&mut self, ports: Vec<(SwitchName, PortId)>) {
        for (switch, port) in ports {
            let wish = self.intent.get(&switch);
            let spec = wish.and_then(|wish| wish.ports.get(&port));
            let Some((spec, plug)) = spec.zip(self.plug(&switch, &port)) else {
                continue;
            };
            let (mac, ofport) = (spec.mac.or(plug.mac), plug.ofport);
            let Some((mac, ofport)) = mac.zip(ofport) else {
                continue;
            };
            let frames = announcement::frames(mac, &spec.policy);
            if let Some(bridge) = self.bridges.of(&switch)
                && let Err(error) = bridge.send_from(ofport, frames).await
            {
                let error = chain(&error);
                tracing::debug!(%switch, %port, error, "not announced");
            }
        }
    }

    /// What the interfaces of ports say; those without one are left out.
    async fn raw(
        &mut self,
        ports: &[(SwitchName, PortId)],
    ) -> Result<Vec<((SwitchName, PortId), Counters)>, ForwardingError> {
        let mut wanted: BTreeMap<&SwitchName, Vec<(OfPort, &PortId)>> = BTreeMap::new();
        for (switch, port) in ports {
            let plug = self.plugs.get(switch).and_then(|plugs| plugs.get(port));
            if let Some(ofport) = plug.and_then(|plug| plug.ofport) {
                wanted.entry(switch).or_default().push((ofport, port));
            }
        }
        let mut read = Vec::new();
        for (switch, ports) in wanted {
            let Some(bridge) = self.bridges.of(switch) else {
                continue;
            };
            let mut stats = Vec::new();
            if ports.len() > ONE_BY_ONE {
                stats = bridge.stats(None).await?;
            } else {
                for (ofport, _) in &ports {
                    stats.extend(bridge.stats(Some(*ofport)).await?);
                }
            }
            let stats: BTreeMap<Port, Counters> = stats
                .iter()
                .filter_map(|stats| Some((stats.port, of_stats(stats)?)))
                .collect();
            read.extend(ports.into_iter().filter_map(|(ofport, port)| {
                let raw = stats.get(&Port::try_from(ofport).ok()?)?;
                Some(((switch.clone(), port.clone()), *raw))
            }));
        }
        Ok(read)
    }

    /// Looks whether the kernel limits what a port receives, the first time
    /// that this is asked for.
    pub(super) async fn try_shaping(&mut self, steps: &[Step]) {
        if self.abilities.no_egress.is_some() || self.shapes {
            return;
        }
        let limited = steps.iter().find_map(|Step { switch, write }| {
            let Write::SetPort { port, to, .. } = write else {
                return None;
            };
            let ShapingLimit::Rate(_) = to.policy.egress else {
                return None;
            };
            let plug = self.plug(switch, port)?;
            Some(plug.name.clone())
        });
        let Some(interface) = limited else {
            return;
        };
        match self.bridges.question("qos/show", &[&interface]).await {
            Ok(None) => {}
            Ok(Some(shown)) if shown.contains("linux-htb") => self.shapes = true,
            Ok(Some(_)) | Err(unixctl::UnixctlError::Refused { .. }) => {
                let why = "the kernel has no linux-htb for this interface";
                self.abilities.no_egress = Some(why.to_owned());
            }
            // Nobody says, so it is tried with the next change.
            Err(error) => tracing::debug!(error = chain(&error), "shaping could not be checked"),
        }
    }
}
