// SPDX-License-Identifier: Apache-2.0
//! Machines of one name, and programs that stand still for a while.

use dvs_schemas::{HostName, SessionId};

use super::traffic::Item;
use super::{Machine, Place, World};
use crate::simulation::node::Node;

/// How long what comes to a program that stands still waits until it is looked
/// at again, in milliseconds.
const STANDS: u64 = 500;

impl World {
    /// Another machine comes that calls itself as a host does: with a copy of
    /// the disk of the host's agent, or with an empty one. Nothing is plugged in
    /// there.
    pub fn copy_host(&mut self, host: usize, with_disk: bool) -> usize {
        self.note(&("a namesake comes", host, with_disk));
        let mut machine = Machine::new(host, &mut self.random);
        if with_disk {
            machine.agent = Node::new(host_agent::ledger::SPEC);
            machine.agent.put_back(&self.hosts[host].agent.copy());
        }
        self.hosts.push(machine);
        let number = self.hosts.len() - 1;
        self.later(50, Item::Start(Place::Host(number)));
        number
    }

    /// A host's agent stands still. What comes meanwhile waits.
    pub fn freeze(&mut self, host: usize) {
        self.note(&("freezes", host));
        self.hosts[host].frozen = true;
    }

    /// It goes on; `anew`: its connection was lost meanwhile.
    pub fn thaw(&mut self, host: usize, anew: bool) {
        self.note(&("thaws", host, anew));
        self.hosts[host].frozen = false;
        if anew {
            self.isolate(host, 1);
        }
    }

    /// A host's agent stops for good.
    pub fn stop(&mut self, host: usize) {
        self.hosts[host].frozen = false;
        self.hosts[host].off = true;
        self.cut(Place::Host(host));
    }

    /// The machines of that name.
    pub(super) fn hosts_named(&self, name: &HostName) -> Vec<usize> {
        let hosts = self.hosts.iter().enumerate();
        let hosts = hosts.filter(|(_, machine)| machine.name == *name);
        hosts.map(|(number, _)| number).collect()
    }

    /// Lets what is for an agent that stands still wait.
    pub(super) fn waits(&mut self, item: Item) -> Option<Item> {
        let host = match &item {
            Item::ToHost { host, .. }
            | Item::Yield { host, .. }
            | Item::Datapath { host, .. }
            | Item::Noticed { host, .. }
            | Item::Subscribed { host, .. }
            | Item::Link { host, .. } => Some(*host),
            Item::FromPublisher { token, .. }
            | Item::FromCollector { token, .. }
            | Item::Deadline { token } => {
                let slot = self.slots.get(token);
                match slot.and_then(|slot| slot.waiter.place()) {
                    Some(Place::Host(host)) => Some(host),
                    Some(Place::Publisher | Place::Retry | Place::Collector) | None => None,
                }
            }
            Item::FromHost { .. }
            | Item::ToPublisher { .. }
            | Item::ToRetry { .. }
            | Item::FromRetry { .. }
            | Item::Heartbeat(_)
            | Item::NoResponder { .. }
            | Item::ToCollector { .. }
            | Item::Start(_)
            | Item::Reachable { .. } => None,
        };
        if host.is_some_and(|host| self.hosts[host].frozen) {
            self.at(STANDS, item);
            return None;
        }
        Some(item)
    }

    /// The session of a host's agent, as the publisher has it, if that runs.
    #[must_use]
    pub fn session(&self, host: &HostName) -> Option<SessionId> {
        let fleet = self.publisher.core()?.fleet();
        Some(fleet.get(host)?.session())
    }
}
