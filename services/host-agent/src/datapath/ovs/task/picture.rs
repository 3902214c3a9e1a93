// SPDX-License-Identifier: Apache-2.0
//! What is told of what is there: all that is to be, and what is to be no more
//! and was not seen to go.

use std::collections::{BTreeMap, BTreeSet};

use dvs_schemas::SwitchName;
use dvs_schemas::v1::Link;

use super::Task;
use crate::datapath::ovs::intent::Wish;
use crate::datapath::{Bridge, Part, Picture, PluggedPort, Step, Write};

impl Task {
    /// What is there of ours, or may be.
    pub(super) fn picture(&self) -> Picture {
        let mut picture = self
            .intent
            .iter()
            .map(|(switch, wish)| (switch.clone(), self.bridge(switch, wish)))
            .collect();
        for ((switch, _), write) in &self.leaving {
            show(&mut picture, switch, write);
        }
        picture
    }

    fn bridge(&self, switch: &SwitchName, wish: &Wish) -> Bridge {
        let plugs = self.plugs.get(switch);
        let ports = wish.ports.iter().map(|(id, port)| {
            let plug = plugs.and_then(|plugs| plugs.get(id));
            let plugged = PluggedPort {
                port: port.clone(),
                link: plug.map_or(Link::Down, |plug| plug.link),
            };
            (id.clone(), plugged)
        });
        let parts = wish.ports.keys().cloned().map(Part::Port);
        let parts = parts.chain(wish.mirrors.keys().cloned().map(Part::Mirror));
        let parts = parts.chain([Part::Bridge]);
        Bridge {
            settings: match self.kept.get(switch) {
                Some(kept) => kept.taken(&wish.settings),
                None => wish.settings.clone(),
            },
            ports: ports.collect(),
            mirrors: wish.mirrors.clone(),
            failing: parts
                .filter(|part| self.failure(switch, part).is_some())
                .collect(),
        }
    }

    /// Keeps in mind what a step is to remove until that is seen to be gone.
    pub(super) fn leaves(&mut self, Step { switch, write }: &Step) {
        let place = (switch.clone(), write.part());
        match write {
            Write::RemoveMirror { .. } | Write::RemovePort { .. } | Write::RemoveBridge { .. } => {
                self.leaving.insert(place, write.clone());
            }
            Write::SetBridge { .. } | Write::SetPort { .. } | Write::SetMirror { .. } => {
                self.leaving.remove(&place);
            }
        }
    }

    /// A step came to its end. With a bridge all goes that is on it: no other
    /// step will say so.
    pub(super) fn has_left(&mut self, Step { switch, write }: &Step) {
        match write {
            Write::RemoveBridge { .. } => self.leaving.retain(|(left, _), _| left != switch),
            Write::SetBridge { .. }
            | Write::SetPort { .. }
            | Write::SetMirror { .. }
            | Write::RemoveMirror { .. }
            | Write::RemovePort { .. } => {
                self.leaving.remove(&(switch.clone(), write.part()));
            }
        }
    }
}

/// Shows what is to be removed as something that is there.
fn show(picture: &mut Picture, switch: &SwitchName, write: &Write) {
    if let Write::RemoveBridge { from } = write {
        picture.entry(switch.clone()).or_insert_with(|| Bridge {
            settings: from.clone(),
            ports: BTreeMap::new(),
            mirrors: BTreeMap::new(),
            failing: BTreeSet::new(),
        });
    }
    // Without its bridge it is gone.
    let Some(bridge) = picture.get_mut(switch) else {
        return;
    };
    match write {
        Write::RemovePort { port, from } => {
            let plugged = PluggedPort {
                port: from.clone(),
                link: Link::Down,
            };
            bridge.ports.insert(port.clone(), plugged);
        }
        Write::RemoveMirror { mirror, from } => {
            bridge.mirrors.insert(mirror.clone(), from.clone());
        }
        Write::RemoveBridge { .. }
        | Write::SetBridge { .. }
        | Write::SetPort { .. }
        | Write::SetMirror { .. } => {}
    }
    bridge.failing.insert(write.part());
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use dvs_schemas::documents::Teaming;
    use dvs_schemas::{Epoch, Mtu, Policy, PrivateVlans};

    use super::*;
    use crate::datapath::ovs::config::{DatapathKind, DriftPolicy, Learning, OvsConfig};
    use crate::datapath::ovs::task::OvsCounts;
    use crate::datapath::{BridgeSettings, VirtualPort};
    use crate::merge::merge;

    fn task() -> Task {
        let config = OvsConfig {
            database: dvs_ovsdb::Options {
                endpoint: "unix:/nowhere".parse().expect("an endpoint"),
                tls: None,
                database: "Open_vSwitch".to_owned(),
                wanted: OvsConfig::wanted(),
                patience: Duration::from_secs(1),
                probe: Duration::from_secs(1),
            },
            run_dir: "/nowhere".into(),
            kind: DatapathKind::System,
            bridges: BTreeMap::new(),
            uplinks: BTreeMap::new(),
            patterns: Vec::new(),
            drift: DriftPolicy::Repair,
            learning: Learning::default(),
            patience: Duration::from_secs(1),
        };
        Task::new(config, OvsCounts::default(), Arc::default())
    }

    #[test]
    fn what_was_on_a_bridge_that_is_gone_is_not_on_the_next_one_of_its_name() {
        let switch: SwitchName = "prod".parse().expect("a name");
        let settings = Arc::new(BridgeSettings {
            mtu: Mtu::default(),
            uplinks: Vec::new(),
            teaming: Teaming::default(),
            private_vlans: PrivateVlans::default(),
        });
        let natural = Policy::default();
        let port = Arc::new(VirtualPort {
            epoch: Epoch(1),
            vnic: None,
            mac: None,
            policy: merge(&natural, &natural, &natural, &settings.private_vlans)
                .expect("no private VLAN is named"),
        });
        let step = |write| Step {
            switch: switch.clone(),
            write,
        };
        let mut task = task();
        // The port could not be removed by itself.
        task.leaves(&step(Write::RemovePort {
            port: "p1".parse().expect("a name"),
            from: port,
        }));
        let bridge = step(Write::RemoveBridge {
            from: settings.clone(),
        });
        task.leaves(&bridge);
        task.has_left(&bridge);
        let wish = Wish::new(settings.clone());
        task.intent.insert(switch.clone(), wish);
        let anew = Bridge {
            settings,
            ports: BTreeMap::new(),
            mirrors: BTreeMap::new(),
            failing: BTreeSet::new(),
        };
        assert_eq!(task.picture(), Picture::from([(switch, anew)]));
    }
}
