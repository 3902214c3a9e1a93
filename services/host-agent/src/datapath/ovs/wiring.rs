// SPDX-License-Identifier: Apache-2.0
//! Which interface is which DVPort's vNIC: whoever starts a VM says it with
//! `external_ids:iface-id`, as libvirt, Nova and Incus do, or by the name that
//! Proxmox gives.

use std::collections::BTreeMap;

use dvs_ovsdb::Row;
use dvs_schemas::v1::Link;
use dvs_schemas::{MacAddr, PortId, SwitchName};
use uuid::Uuid;

use super::config::OvsConfig;
use super::intent::Intent;
use super::rules::OfPort;
use super::view::{self, View};

/// An interface that says whose it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Plug {
    /// Row of its port.
    pub(super) port: Uuid,
    /// Its row.
    pub(super) interface: Uuid,
    /// Its name.
    pub(super) name: String,
    /// Its number, once it has one.
    pub(super) ofport: Option<OfPort>,
    /// Why Open vSwitch can't use it, if so.
    pub(super) error: Option<String>,
    /// Whether it carries frames.
    pub(super) link: Link,
    /// The vNIC's address, if whoever plugged it says so.
    pub(super) mac: Option<MacAddr>,
}

/// The interfaces that are there, by switch and port.
pub(super) type Plugs = BTreeMap<SwitchName, BTreeMap<PortId, Plug>>;

/// Finds the interfaces on the bridges of the switches that are wanted; `before`
/// is what was found last.
pub(super) fn plugs(intent: &Intent, config: &OvsConfig, view: &View<'_>, before: &Plugs) -> Plugs {
    let of = |switch: &SwitchName| {
        let (bridge, _) = config.bridge(switch);
        let bridge = view.bridge(bridge.as_str())?;
        let mut found: BTreeMap<PortId, Plug> = BTreeMap::new();
        for (uuid, row) in view.ports_of(bridge) {
            let Some((id, mut plug, link)) = plug(config, view, uuid, row) else {
                continue;
            };
            let held = before.get(switch).and_then(|plugs| plugs.get(&id));
            let held = held.filter(|held| held.interface == plug.interface);
            plug.link = link.or(held.map(|held| held.link)).unwrap_or(Link::Down);
            // Two can't be one vNIC. The one that was there first stays: a
            // number is given once and kept.
            let number = |plug: &Plug| plug.ofport.unwrap_or(OfPort::MAX);
            match found.get(&id) {
                Some(held) if number(held) <= number(&plug) => {}
                Some(_) | None => drop(found.insert(id, plug)),
            }
        }
        Some(found)
    };
    let switches = intent.keys();
    switches
        .map(|switch| (switch.clone(), of(switch).unwrap_or_default()))
        .collect()
}

/// An interface and its link, if that is known.
fn plug(
    config: &OvsConfig,
    view: &View<'_>,
    uuid: Uuid,
    port: &Row,
) -> Option<(PortId, Plug, Option<Link>)> {
    let (interface, row) = view.only_interface(port)?;
    let name = row.str("name")?;
    let said = row.map_get("external_ids", "iface-id");
    let id = match said {
        Some(id) => id.parse().ok()?,
        None => config
            .patterns
            .iter()
            .find_map(|pattern| pattern.port(name))?,
    };
    let mac = row.map_get("external_ids", "attached-mac");
    let plug = Plug {
        port: uuid,
        interface,
        name: name.to_owned(),
        ofport: view::ofport(row),
        error: view::error(row),
        link: Link::Down,
        mac: mac.and_then(|mac| mac.parse().ok()),
    };
    Some((id, plug, view::link(row)))
}
