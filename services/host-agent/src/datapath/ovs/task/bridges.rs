// SPDX-License-Identifier: Apache-2.0
//! The side of forwarding: rules of bridges, and what their ports count.

use std::collections::BTreeMap;
use std::path::PathBuf;

use dvs_openflow::Port;
use dvs_ovsdb::unixctl;
use dvs_schemas::v1::{Counters, CountersOf};
use dvs_schemas::{PortId, Rate, ShapingLimit, SwitchName};

use super::database::chain;
use super::{Hold, Task, Unruled};
use crate::datapath::ovs::counters::of_stats;
use crate::datapath::ovs::forwarding::{Forwarding, ForwardingError, Programme, meters_of};
use crate::datapath::ovs::intent::Wish;
use crate::datapath::ovs::marks;
use crate::datapath::ovs::pipeline::{Layout, Wired};
use crate::datapath::ovs::rows::{self, mirrored_to};
use crate::datapath::ovs::rules::OfPort;
use crate::datapath::ovs::view::{self, View};
use crate::datapath::{DatapathError, Step, Write};

/// Ports of one bridge that are asked for one by one; beyond that one question
/// for all of them is cheaper.
const ONE_BY_ONE: usize = 8;

impl Task {
    /// Gives every bridge its rules.
    pub(super) async fn forward_all(&mut self) {
        let switches: Vec<SwitchName> = self.intent.keys().cloned().collect();
        self.bridges.retain(|switch, _| switches.contains(switch));
        self.unruled.retain(|switch, _| switches.contains(switch));
        for switch in switches {
            match self.forward(&switch).await {
                Ok(changed) => {
                    if changed {
                        self.counts.programmes.inc();
                        self.fresh = self.fresh.max(Some(Hold::Rules));
                    }
                    self.unruled.remove(&switch);
                }
                Err(error) => {
                    let why = chain(&error);
                    let unruled = if error.is_refusal() {
                        Unruled::Refused(why)
                    } else {
                        self.bridges.remove(&switch);
                        Unruled::Away(why)
                    };
                    tracing::warn!(%switch, "{unruled}");
                    self.unruled.insert(switch, unruled);
                }
            }
        }
        if let Some(hold) = self.fresh.take() {
            self.take_hold(hold).await;
        }
    }

    /// Waits until no frame meets what was true before. Open vSwitch keeps what
    /// rules came to for frames of one kind, and looks through that a moment
    /// after rules change. It doesn't look at what mirrors changed, so after
    /// those all of it is thrown away.
    async fn take_hold(&self, hold: Hold) {
        let Some(socket) = self.vswitchd() else {
            return;
        };
        let commands: &[&str] = match hold {
            Hold::Rules => &["revalidator/wait"],
            Hold::Mirrors => &["revalidator/purge", "revalidator/wait"],
        };
        for command in commands {
            let done = unixctl::call(&socket, command, &[], self.config.patience).await;
            let Err(error) = done else {
                continue;
            };
            // It happens all the same, half a second later at most.
            tracing::debug!(error = chain(&error), "rules take hold unseen");
        }
    }

    /// Why some bridge can't be reached, if one can't.
    pub(super) fn away(&self) -> Option<String> {
        self.unruled
            .iter()
            .find_map(|(switch, unruled)| match unruled {
                Unruled::Away(_) => Some(format!("switch {switch}: {unruled}")),
                Unruled::Refused(_) => None,
            })
    }

    /// Gives a bridge its rules. True if that was a change.
    async fn forward(&mut self, switch: &SwitchName) -> Result<bool, ForwardingError> {
        let (Some(wish), Some(database)) = (self.intent.get(switch), &self.database) else {
            return Ok(false);
        };
        let view = View::new(database.cache());
        let (bridge, _) = self.config.bridge(switch);
        let row = view.bridge(bridge.as_str());
        let row = row.and_then(|uuid| view.row(view::BRIDGE, uuid));
        let marked = row.and_then(|row| marks::switch_of(&rows::ours(row, "external_ids")));
        if marked.as_ref() != Some(switch) {
            // The database's side says why there is nothing to give rules to.
            return Ok(false);
        }
        let uplink = view.interface(&bridge.patch_up());
        let uplink = uplink.and_then(|uuid| view.row(view::INTERFACE, uuid));
        let uplink = uplink.and_then(view::ofport);
        let mut forwarding = match self.bridges.remove(switch) {
            Some(forwarding) => forwarding,
            None => {
                let socket = self.config.run_dir.join(format!("{bridge}.mgmt"));
                let control = self.vswitchd();
                let patience = self.config.patience;
                let opened = Forwarding::open(&socket, control.as_deref(), patience).await?;
                if !opened.limits {
                    let why = "the datapath of Open vSwitch has no meters";
                    self.abilities.no_ingress = Some(why.to_owned());
                }
                opened
            }
        };
        let (layout, limits) = self.layout(switch, wish, uplink, forwarding.limits);
        let ports = layout.ports.iter().map(|port| port.ofport).chain(uplink);
        let ports = ports.collect();
        let programme = Programme::new(&layout, &limits)?;
        let changed = forwarding.become_this(programme, ports).await;
        self.bridges.insert(switch.clone(), forwarding);
        changed
    }

    /// What a bridge is to forward between, and how much.
    fn layout(
        &self,
        switch: &SwitchName,
        wish: &Wish,
        uplink: Option<OfPort>,
        limits: bool,
    ) -> (Layout, Vec<(OfPort, Rate)>) {
        let copies: Vec<&PortId> = mirrored_to(wish).collect();
        let plugs = self.plugs.get(switch);
        let mut rates = Vec::new();
        let wired = wish.ports.iter().filter_map(|(id, spec)| {
            let plug = plugs?.get(id)?;
            let ofport = plug.ofport.filter(|_| plug.error.is_none())?;
            // What gets the copies of others has no traffic of its own.
            if copies.contains(&id) {
                return None;
            }
            let meters = match spec.policy.ingress {
                ShapingLimit::Rate(rate) if limits => {
                    rates.push((ofport, rate));
                    meters_of(ofport).to_vec()
                }
                ShapingLimit::Rate(_) | ShapingLimit::Unlimited => Vec::new(),
            };
            Some(Wired {
                ofport,
                mac: spec.mac,
                policy: spec.policy.clone(),
                meters,
            })
        });
        let layout = Layout {
            ports: wired.collect(),
            uplink,
            private: wish.settings.private_vlans.clone(),
        };
        (layout, rates)
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
            if self.tallies.is_plugged(&key) {
                self.tallies.read(&key, &raw);
            } else {
                self.tallies.plugged(key, raw);
            }
        }
    }

    /// Reads counters of ports that may not be there much longer.
    pub(super) async fn read_now(&mut self, ports: &[(SwitchName, PortId)]) {
        for (key, raw) in self.raw(ports).await.unwrap_or_default() {
            self.tallies.read(&key, &raw);
        }
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
            let Some(bridge) = self.bridges.get_mut(switch) else {
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
                .map(|stats| (stats.port, of_stats(stats)))
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
            plug.error.is_none().then(|| plug.name.clone())
        });
        let Some(interface) = limited else {
            return;
        };
        let shown = match self.vswitchd() {
            Some(socket) => {
                unixctl::call(&socket, "qos/show", &[&interface], self.config.patience).await
            }
            None => return,
        };
        match shown {
            Ok(shown) if shown.contains("linux-htb") => self.shapes = true,
            Ok(_) | Err(unixctl::UnixctlError::Refused { .. }) => {
                let why = "the kernel has no linux-htb for this interface";
                self.abilities.no_egress = Some(why.to_owned());
            }
            // Nobody says, so it is tried with the next change.
            Err(error) => tracing::debug!(error = chain(&error), "shaping could not be checked"),
        }
    }

    /// The control socket of `ovs-vswitchd`.
    fn vswitchd(&self) -> Option<PathBuf> {
        let run_dir = &self.config.run_dir;
        let pid = std::fs::read_to_string(run_dir.join("ovs-vswitchd.pid")).ok()?;
        Some(run_dir.join(format!("ovs-vswitchd.{}.ctl", pid.trim())))
    }
}
