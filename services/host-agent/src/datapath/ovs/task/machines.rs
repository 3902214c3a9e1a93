// SPDX-License-Identifier: Apache-2.0
//! The machines behind what is plugged in: which they are and whether they run,
//! told when it changes.

use std::collections::BTreeMap;

use dvs_schemas::v1::{Link, Machine};
use dvs_schemas::{PortId, SwitchName};
use uuid::Uuid;

use super::Task;
use crate::datapath::Notice;
use crate::datapath::ovs::machine::{Heard, activity};
use crate::datapath::ovs::rules::OfPort;
use crate::datapath::ovs::wiring::{Plug, Plugs};

type Key = (SwitchName, PortId);

/// What is known of machines.
#[derive(Debug, Default)]
pub(super) struct Machines {
    /// What was told of each.
    told: BTreeMap<Key, Machine>,
    /// The interfaces of those that have sent a frame while they wait.
    heard: BTreeMap<Key, Uuid>,
}

impl Machines {
    /// What is known of the machine behind an interface.
    pub(super) fn of(&self, key: &Key, plug: &Plug) -> Machine {
        let heard = match self.heard.get(key) {
            Some(interface) if *interface == plug.interface => Heard::Yes,
            Some(_) | None => Heard::No,
        };
        Machine {
            id: plug.machine.clone(),
            activity: activity(plug.link, plug.state, heard),
        }
    }

    /// Notes what is told of a machine. True if that is news.
    pub(super) fn tell(&mut self, key: &Key, machine: &Machine) -> bool {
        let before = self.told.insert(key.clone(), machine.clone());
        before.as_ref() != Some(machine)
    }

    /// Forgets machines whose plugs are gone, and that those spoke that have
    /// their port, as `is_wired` says.
    fn retain(&mut self, plugs: &Plugs, is_wired: impl Fn(&Key) -> bool) {
        let plug = |(switch, port): &Key| plugs.get(switch)?.get(port);
        self.told.retain(|key, _| plug(key).is_some());
        self.heard.retain(|key, interface| {
            let same = plug(key).is_some_and(|plug| plug.interface == *interface);
            same && !is_wired(key)
        });
    }
}

impl Task {
    /// A machine that waits for its port has sent a frame.
    pub(super) fn speaks(&mut self, switch: &SwitchName, ofport: OfPort) {
        let plugs = self.plugs.get(switch).into_iter().flatten();
        let mut waiting = plugs.filter(|(_, plug)| plug.ofport == Some(ofport));
        let Some((port, plug)) = waiting.next() else {
            return;
        };
        let key = (switch.clone(), port.clone());
        if !self.is_wanted(&key) {
            self.machines.heard.insert(key.clone(), plug.interface);
            self.tell_of_machine(&key);
        }
    }

    /// The link of an interface changed. Once it was down, what was heard of the
    /// machine before says nothing any more.
    pub(super) fn link_of_machine(&mut self, key: &Key, link: Link) {
        match link {
            Link::Up => {}
            Link::Down => drop(self.machines.heard.remove(key)),
        }
        self.tell_of_machine(key);
    }

    /// Tells what machines do, where that is news.
    pub(super) fn tell_of_machines(&mut self) {
        let intent = &self.intent;
        let is_wired = |(switch, port): &Key| {
            let wish = intent.get(switch);
            wish.is_some_and(|wish| wish.ports.contains_key(port))
        };
        self.machines.retain(&self.plugs, is_wired);
        let keys = self.machines.told.keys().cloned().collect::<Vec<_>>();
        for key in keys {
            self.tell_of_machine(&key);
        }
    }

    /// Whether a port is to be here.
    fn is_wanted(&self, (switch, port): &Key) -> bool {
        let wish = self.intent.get(switch);
        wish.is_some_and(|wish| wish.ports.contains_key(port))
    }

    /// Tells what the machine behind a plug does, if that is news.
    fn tell_of_machine(&mut self, key: &Key) {
        let (switch, port) = key;
        let plug = self.plugs.get(switch).and_then(|plugs| plugs.get(port));
        let Some(plug) = plug else {
            return;
        };
        let machine = self.machines.of(key, plug);
        if self.machines.tell(key, &machine) {
            self.notices.tell(Notice::Machine {
                switch: switch.clone(),
                port: port.clone(),
                machine,
            });
        }
    }
}
