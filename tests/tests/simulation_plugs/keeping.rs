// SPDX-License-Identifier: Apache-2.0
//! Who may have a port: its vNIC, and the host that it is plugged in at.

use std::collections::BTreeSet;

use dvs_schemas::{HostName, PortId, VnicId};
use dvs_tests::simulation::world::{HOSTS, Plug};

use super::{HEARD, LATE, Life, Moved, PORTS, Request, Seen, port};

impl Life {
    /// Nobody takes a port from its vNIC, or from a host that lives and has it
    /// plugged in.
    pub(super) fn ports_are_kept(&mut self) -> Result<(), String> {
        for (port, seen) in &self.seen {
            let Some(host) = &seen.host else { continue };
            let machine = self.world.hosts.iter().find(|of| of.name == *host).unwrap();
            let life = machine.agent.life;
            let lived = self.lives.get(host) == Some(&life) && machine.agent.runs();
            if !lived || !machine.connected {
                self.harmed.insert((port.clone(), host.clone()));
            }
            if !self.keeps(host, port, seen.vnic.as_ref()) {
                self.loose.insert((port.clone(), host.clone()));
            }
        }
        let now = self.world.now;
        for ((_, host), went) in &mut self.went {
            let machine = self.world.hosts.iter().find(|of| of.name == *host).unwrap();
            if !machine.agent.runs() || !machine.connected {
                *went = now;
            }
        }
        let lives = self.world.hosts.iter();
        self.lives = lives.map(|of| (of.name.clone(), of.agent.life)).collect();
        let Some(publisher) = self.world.publisher.core() else {
            return Ok(());
        };
        for number in 0..PORTS {
            let id = port(number);
            let Some(entry) = publisher.config().port(&id) else {
                continue;
            };
            let now = Seen {
                host: entry.value.document.host.clone(),
                vnic: entry.value.document.vnic.clone(),
                epoch: entry.value.epoch,
            };
            let before = self.seen.insert(id.clone(), now.clone());
            let before = before.unwrap_or_default();
            if before == now {
                continue;
            }
            if now.epoch < before.epoch {
                return Err(format!("{id} went from {before:?} to {now:?}"));
            }
            if before.vnic.is_some() && before.vnic != now.vnic && !self.disconnected.contains(&id)
            {
                return Err(format!("{id} was given away: from {before:?} to {now:?}"));
            }
            if before.host == now.host {
                continue;
            }
            if let Some(host) = before.host.clone() {
                let taken = (id.clone(), host.clone());
                let moved = self.moved.get(&id).map(|moved| &moved.to);
                let moved = now.host.is_some() && now.host.as_ref() == moved;
                if !moved && !self.loose.contains(&taken) && !self.harmed.contains(&taken) {
                    return Err(format!("{id} was taken from {host}: it is {now:?} now"));
                }
            }
            // What was before has nothing to say of the new placement, but that
            // it came after its machine had gone.
            if let Some(host) = now.host {
                let name = |index: &usize| self.world.hosts[*index].name == host;
                let index = (0..HOSTS).find(name).unwrap();
                let there = (id.clone(), host);
                self.harmed.remove(&there);
                let went = self.went.get(&there);
                let late = went.is_some_and(|went| self.world.now <= went.after(LATE));
                if self.plugs(index, &id) && !late {
                    self.loose.remove(&there);
                } else {
                    self.loose.insert(there);
                }
            }
        }
        Ok(())
    }

    /// Whether what is plugged in there may have the port.
    fn keeps(&self, host: &HostName, port: &PortId, connected: Option<&VnicId>) -> bool {
        let machines = &mut self.world.hosts.iter();
        let machine = machines.find(|machine| machine.name == *host).unwrap();
        let mut plugs = machine.plugged.iter().filter(|plug| plug.port == *port);
        plugs.all(|plug| {
            connected.is_none() || plug.vnic.is_none() || plug.vnic.as_ref() == connected
        })
    }

    /// What operators moved is their machines' once those are there and wired,
    /// and nobody's once it went. From then on no move excuses anything.
    pub(super) fn moves_are_over(&mut self) {
        let now = self.world.now;
        let asked = match &self.asked {
            Some((_, Request::Move(of))) => Some(of.port.clone()),
            Some(_) | None => None,
        };
        let over = |port: &PortId, moved: &Moved| {
            let seen = &self.seen[port];
            if asked.as_ref() == Some(port) || now <= moved.at.after(HEARD) {
                return false;
            }
            if seen.host.as_ref() != Some(&moved.to) {
                return true;
            }
            let machine = &mut self.world.hosts.iter();
            let machine = machine.find(|of| of.name == moved.to).unwrap();
            let heard = self.came.get(&(port.clone(), moved.to.clone()));
            let heard = heard.is_some_and(|(came, life)| {
                machine.agent.runs() && machine.agent.life == *life && now > came.after(HEARD)
            });
            let picture = machine.datapath.picture();
            let mut wired = picture.values().filter_map(|bridge| bridge.ports.get(port));
            let wired = wired.any(|wired| wired.port.epoch == seen.epoch);
            let fits =
                |plug: &Plug| plug.port == *port && (plug.vnic.is_none() || plug.vnic == seen.vnic);
            heard && wired && machine.plugged.iter().any(fits)
        };
        let over: Vec<PortId> = self
            .moved
            .iter()
            .filter(|(port, moved)| over(port, moved))
            .map(|(port, _)| port.clone())
            .collect();
        for port in over {
            self.moved.remove(&port);
        }
    }

    /// Every port is where its machine is, if that is somewhere: there alone,
    /// as the publisher has it, and wired in that epoch.
    pub(super) fn everything_is_where_it_belongs(&self) -> Result<(), String> {
        let publisher = self.world.publisher.core().ok_or("no publisher runs")?;
        for number in 0..PORTS {
            let id = port(number);
            let entry = &publisher.config().port(&id).ok_or("a port is gone")?.value;
            let placed = entry.document.host.as_ref();
            let mut fits = BTreeSet::new();
            for machine in &self.world.hosts {
                let bridges = machine.datapath.picture();
                let mut wired = bridges.values().filter_map(|bridge| bridge.ports.get(&id));
                let wired = wired.next().map(|plugged| plugged.port.epoch);
                let wanted = (placed == Some(&machine.name)).then_some(entry.epoch);
                if wired != wanted {
                    return Err(format!(
                        "{} has {id} in epoch {wired:?}, and should have it in {wanted:?}",
                        machine.name
                    ));
                }
                let may = |plug: &&Plug| {
                    plug.port == id
                        && (plug.vnic.is_none()
                            || entry.document.vnic.is_none()
                            || plug.vnic == entry.document.vnic)
                };
                if machine.plugged.iter().any(|plug| may(&plug)) {
                    fits.insert(&machine.name);
                }
            }
            // Where an operator said that it is to be, it is.
            let moved = self.moved.get(&id).map(|moved| &moved.to);
            let by_operator = placed.is_some() && placed == moved;
            let is_well = match placed {
                None => fits.is_empty(),
                Some(host) => fits.contains(host) || by_operator,
            };
            if !is_well {
                return Err(format!("{id} is on {placed:?}, its machine is on {fits:?}"));
            }
        }
        Ok(())
    }
}
