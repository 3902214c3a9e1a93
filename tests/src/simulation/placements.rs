// SPDX-License-Identifier: Apache-2.0
//! Where ports are, from step to step: a host of another history has no say in
//! it.

use std::collections::BTreeMap;

use config_publisher::core::Publisher;
use dvs_schemas::v1::Position;
use dvs_schemas::{HostName, PortId};

use super::world::World;

/// Where the publisher had the ports last.
#[derive(Debug, Default)]
pub struct Placements {
    hosts: BTreeMap<PortId, Option<HostName>>,
}

impl Placements {
    /// Looks at the publisher after a step, in which nobody but hosts had a say.
    /// No port goes from a host that follows another history, nor to one.
    ///
    /// # Errors
    /// Names the port and where it went.
    pub fn hold(&mut self, world: &World) -> Result<(), String> {
        let Some(publisher) = world.publisher.core() else {
            return Ok(());
        };
        for (port, entry) in publisher.config().ports() {
            let host = &entry.value.document.host;
            let Some(before) = self.hosts.insert(port.clone(), host.clone()) else {
                continue;
            };
            let mut hosts = [host, &before].into_iter().flatten();
            let other = hosts.find(|host| diverged(world, publisher, host));
            if before != *host
                && let Some(other) = other
            {
                return Err(format!(
                    "{port} went from {before:?} to {host:?}, and {other} follows another history"
                ));
            }
        }
        Ok(())
    }

    /// Takes in how it is now, whoever brought that about.
    pub fn forget(&mut self) {
        self.hosts.clear();
    }
}

/// Whether what the host holds is of another history than the publisher's.
fn diverged(world: &World, publisher: &Publisher, host: &HostName) -> bool {
    let machine = world.hosts.iter().find(|machine| machine.name == *host);
    let agent = machine.and_then(|machine| machine.agent.core());
    let held = agent.and_then(|agent| agent.host(host)).into_iter();
    let held = held.flat_map(|host| host.held());
    let positions: Vec<Position> = held.map(|(_, held)| held.position()).collect();
    let view = publisher.view();
    !view
        .history
        .as_of(view.revision)
        .diverged(&positions)
        .is_empty()
}
