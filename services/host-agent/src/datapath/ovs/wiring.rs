// SPDX-License-Identifier: Apache-2.0
//! Which interface is which DVPort's vNIC: whoever starts a VM says it with
//! `external_ids:iface-id`, as libvirt, Nova and Incus do, or by the name that
//! Proxmox gives. Who says with `external_ids:dvs-vnic` which vNIC it is, too,
//! keeps it from being taken for another one.

use std::collections::BTreeMap;

use dvs_ovsdb::Row;
use dvs_schemas::v1::Link;
use dvs_schemas::{MacAddr, PortId, SwitchName, VnicId};
use uuid::Uuid;

use super::config::OvsConfig;
use super::intent::{Intent, Wish};
use super::rules::OfPort;
use super::view::{self, View};

/// Key of an interface's vNIC.
const VNIC: &str = "dvs-vnic";

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
    /// Which vNIC it is, if whoever plugged it says so.
    pub(super) vnic: Option<VnicId>,
    /// The vNIC's address, if whoever plugged it says so.
    pub(super) mac: Option<MacAddr>,
}

/// The interfaces that are there, by switch and port.
pub(super) type Plugs = BTreeMap<SwitchName, BTreeMap<PortId, Plug>>;

/// What is plugged in.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Ports' interfaces.
    pub(super) plugs: Plugs,
    /// Interfaces that can't be the ports' that they name, by name, and why.
    pub(super) strangers: BTreeMap<String, String>,
}

/// Finds the interfaces on the bridges of the switches that are wanted; `before`
/// is what was found last.
pub(super) fn find(intent: &Intent, config: &OvsConfig, view: &View<'_>, before: &Plugs) -> Found {
    let mut strangers = BTreeMap::new();
    let mut of = |switch: &SwitchName, wish: &Wish| {
        let (bridge, _) = config.bridge(switch);
        let bridge = view.bridge(bridge.as_str())?;
        let mut found: BTreeMap<PortId, Plug> = BTreeMap::new();
        for (uuid, row) in view.ports_of(bridge) {
            let Some((id, mut plug, link)) = plug(config, view, uuid, row) else {
                continue;
            };
            let wanted = wish.ports.get(&id).and_then(|spec| spec.vnic.as_ref());
            let interface = view.row(view::INTERFACE, plug.interface);
            match vnic(interface, &id, wanted) {
                Ok(vnic) => plug.vnic = vnic,
                Err(why) => {
                    strangers.insert(plug.name, why);
                    continue;
                }
            }
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
    let mut plugs = Plugs::new();
    for (switch, wish) in intent {
        plugs.insert(switch.clone(), of(switch, wish).unwrap_or_default());
    }
    Found { plugs, strangers }
}

/// Which vNIC an interface says that it is. Not another one than the port is
/// `wanted` for here.
fn vnic(
    interface: Option<&Row>,
    port: &PortId,
    wanted: Option<&VnicId>,
) -> Result<Option<VnicId>, String> {
    let Some(said) = interface.and_then(|row| row.map_get("external_ids", VNIC)) else {
        return Ok(None);
    };
    let vnic: VnicId = said
        .parse()
        .map_err(|error| format!("external_ids:{VNIC}: {error}"))?;
    match wanted {
        Some(wanted) if *wanted != vnic => Err(format!(
            "external_ids:{VNIC} is {vnic}, but vNIC {wanted} is connected to port {port} \
             (allowed: {wanted}, or disconnect it first, dvs.v1.port.disconnect)"
        )),
        Some(_) | None => Ok(Some(vnic)),
    }
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
        vnic: None,
        mac: mac.and_then(|mac| mac.parse().ok()),
    };
    Some((id, plug, view::link(row)))
}
