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

    /// A step came to its end.
    pub(super) fn has_left(&mut self, Step { switch, write }: &Step) {
        self.leaving.remove(&(switch.clone(), write.part()));
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
