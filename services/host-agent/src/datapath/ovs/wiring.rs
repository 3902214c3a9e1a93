// SPDX-License-Identifier: Apache-2.0
//! Which interface is which DVPort's vNIC: whoever starts a VM says it with
//! `external_ids:iface-id`, as libvirt, Nova and Incus do, or by the name that
//! Proxmox gives. Who says with `external_ids:dvs-vnic` which vNIC it is, too,
//! keeps it from being taken for another one.

use std::collections::BTreeMap;

use dvs_ovsdb::Row;
use dvs_schemas::v1::Link;
use dvs_schemas::{InvalidName, MacAddr, MachineId, PortId, SwitchName, VnicId};
use uuid::Uuid;

use super::config::{DatapathKind, OvsConfig};
use super::intent::{Intent, Wish};
use super::machine::{Said, said_machine, said_state};
use super::rules::OfPort;
use super::unusable::{Unread, Unusable, WhyUnusable};
use super::view::{self, Device, View};
use super::{marks, rows};

/// Keys of an interface: its port, its vNIC, and that one's address.
const PORT: &str = "iface-id";
const VNIC: &str = "dvs-vnic";
const MAC: &str = "attached-mac";

/// An interface that says whose it is, and that can carry frames.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Plug {
    /// Row of its port.
    pub(super) port: Uuid,
    /// Its row.
    pub(super) interface: Uuid,
    /// Its name.
    pub(super) name: String,
    /// Its number. None for a moment where its row was made anew and Open
    /// vSwitch hasn't taken that in yet.
    pub(super) ofport: Option<OfPort>,
    /// Index of its device, of those that have one.
    pub(super) index: Option<u32>,
    /// Index of the device that the switch has opened.
    pub(super) opened: Option<u32>,
    /// Whether it carries frames. A guest may take it down and up again, so
    /// that alone is no unplug.
    pub(super) link: Link,
    /// Which vNIC it is, if whoever plugged it says so.
    pub(super) vnic: Option<VnicId>,
    /// The vNIC's address, if whoever plugged it says so.
    pub(super) mac: Option<MacAddr>,
    /// The machine behind it, if its hypervisor says so.
    pub(super) machine: Option<MachineId>,
    /// What whoever runs the machine says that it does.
    pub(super) state: Option<Said>,
}

impl Plug {
    /// True if the device that is there is the one that the switch has open.
    pub(super) fn is_opened(&self) -> bool {
        self.opened.is_none() || self.opened == self.index
    }

    /// True if both are the same device, whatever row it has. What has no
    /// index is known by its row.
    pub(super) fn is_device_of(&self, other: &Self) -> bool {
        match (self.index, other.index) {
            (Some(index), Some(other)) => index == other,
            (None, None) => self.interface == other.interface,
            (Some(_), None) | (None, Some(_)) => false,
        }
    }
}

/// The interfaces that are there, by switch and port. One per port.
pub(super) type Plugs = BTreeMap<SwitchName, BTreeMap<PortId, Plug>>;

/// What is plugged in.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Ports' interfaces.
    pub(super) plugs: Plugs,
    /// Interfaces that can't be the ports' that they say, by name.
    pub(super) unusable: BTreeMap<String, Unusable>,
    /// Words of interfaces that can't be read, and count as not said.
    pub(super) unread: Vec<Unread>,
    /// Interfaces that the switch has open on a device that is gone, and the
    /// ports that they say.
    pub(super) stale: Stale,
}

/// Interfaces whose device the switch is to open anew, with their ports.
pub(super) type Stale = BTreeMap<Uuid, (SwitchName, PortId)>;

/// Finds the interfaces on the bridges of the switches that are wanted; `before`
/// is what was found last.
pub(super) fn find(intent: &Intent, config: &OvsConfig, view: &View<'_>, before: &Plugs) -> Found {
    let mut found = Found::default();
    for (switch, wish) in intent {
        let none = BTreeMap::new();
        let mut search = Search {
            switch,
            wish,
            config,
            view,
            before: before.get(switch).unwrap_or(&none),
            candidates: BTreeMap::new(),
            unusable: &mut found.unusable,
            unread: &mut found.unread,
            stale: &mut found.stale,
        };
        let (bridge, _) = config.bridge(switch);
        if let Some(bridge) = view.bridge(bridge.as_str()) {
            for (uuid, row) in view.ports_of(bridge) {
                search.look_at(uuid, row);
            }
        }
        let plugs = search.choose();
        found.plugs.insert(switch.clone(), plugs);
    }
    one_bridge_each(&mut found, intent, before);
    found
}

/// Leaves each port an interface on one bridge of the host, as `choose` does on
/// a bridge: a port is of one switch. Of bridges whose switches want the port,
/// and else of all, the one keeps it that had it.
fn one_bridge_each(found: &mut Found, intent: &Intent, before: &Plugs) {
    if found.plugs.len() < 2 {
        return;
    }
    let mut claims: BTreeMap<&PortId, Vec<(&SwitchName, &Plug)>> = BTreeMap::new();
    for (switch, plugs) in &found.plugs {
        for (port, plug) in plugs {
            claims.entry(port).or_default().push((switch, plug));
        }
    }
    let mut surplus = Vec::new();
    for (port, mut bridges) in claims {
        bridges.sort_by_key(|(switch, _)| {
            let wants = intent.get(*switch);
            let wants = wants.is_some_and(|wish| wish.ports.contains_key(port));
            let had = before.get(*switch);
            let had = had.is_some_and(|plugs| plugs.contains_key(port));
            (!wants, !had)
        });
        let mut bridges = bridges.into_iter();
        let Some((_, first)) = bridges.next() else {
            continue;
        };
        for (switch, other) in bridges {
            let why = WhyUnusable::Duplicate {
                port: port.clone(),
                wired: first.name.clone(),
            };
            surplus.push((switch.clone(), port.clone(), other.name.clone(), why));
        }
    }
    for (switch, port, interface, why) in surplus {
        if let Some(plugs) = found.plugs.get_mut(&switch) {
            plugs.remove(&port);
        }
        let port = Some(port);
        let unusable = Unusable { switch, port, why };
        found.unusable.insert(interface, unusable);
    }
}

/// The search on one bridge.
struct Search<'a, 'v> {
    switch: &'a SwitchName,
    wish: &'a Wish,
    config: &'a OvsConfig,
    view: &'a View<'v>,
    /// What had the ports when that was looked at last.
    before: &'a BTreeMap<PortId, Plug>,
    /// All that could have a port.
    candidates: BTreeMap<PortId, Vec<(Claim, Plug)>>,
    unusable: &'a mut BTreeMap<String, Unusable>,
    unread: &'a mut Vec<Unread>,
    stale: &'a mut Stale,
}

/// How an interface is related to the port that it says, the strongest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Claim {
    /// It has the port.
    Held,
    /// It had the port when its row was marked; the agent has started since.
    Marked,
    /// It is to have it.
    New,
}

impl Search<'_, '_> {
    /// Takes in one row of the bridge.
    fn look_at(&mut self, port: Uuid, row: &Row) {
        let Some((interface, device)) = self.view.only_interface(row) else {
            return;
        };
        let Some(name) = device.str("name") else {
            return;
        };
        let id = match said_port(device, name, self.config) {
            None => return,
            Some(Ok(id)) => id,
            Some(Err(why)) => return self.refuse(name, None, why),
        };
        let wanted = self.wish.ports.get(&id).and_then(|spec| spec.vnic.as_ref());
        let said = said_vnic(device, &id, wanted).and_then(|vnic| Ok((vnic, said_mac(device)?)));
        let (vnic, mac) = match said {
            Ok(said) => said,
            Err(why) => return self.refuse(name, Some(id), why),
        };
        let held = self.before.get(&id);
        // Its row may be made anew for the same device.
        let held = held.filter(|held| held.interface == interface || held.name == name);
        let (claim, marked) = match held {
            Some(_) => (Claim::Held, None),
            None => {
                let ids = rows::ours(row, "external_ids");
                let is_marked = marks::port_of(&ids).as_ref() == Some(&id);
                let claim = if is_marked { Claim::Marked } else { Claim::New };
                (claim, marks::device(&ids))
            }
        };
        let ofport = view::ofport(device);
        let is_made_by_others = matches!(device.str("type"), None | Some("" | "system"));
        let keeps_open = self.config.kind == DatapathKind::Netdev && is_made_by_others;
        let index = match (view::device(device), claim) {
            (Device::There { index }, _) => index,
            // A database that was started anew has forgotten. What had a port
            // keeps it until Open vSwitch says otherwise.
            (Device::Unknown, Claim::Held | Claim::Marked) => held.and_then(|held| held.index),
            (Device::Unknown, Claim::New) => return,
            (Device::Missing(why), _) => {
                if keeps_open && ofport.is_some() {
                    self.stale
                        .insert(interface, (self.switch.clone(), id.clone()));
                }
                return self.refuse(name, Some(id), WhyUnusable::NoDevice(why));
            }
        };
        let opened = match held {
            Some(held) if held.ofport == ofport || ofport.is_none() => held.opened,
            // Whatever has another number now was opened for that.
            Some(_) => index,
            None => marked.or(index),
        };
        if keeps_open && index.is_some() && opened.is_some() && index != opened {
            self.stale
                .insert(interface, (self.switch.clone(), id.clone()));
        }
        // Told, and no reason to cut a machine off.
        let state = said_state(device).unwrap_or_else(|error| {
            self.unread(name, &id, "external_ids:dvs-state", &error);
            None
        });
        let machine = said_machine(device).unwrap_or_else(|(word, error)| {
            self.unread(name, &id, word, &error);
            None
        });
        let link = view::link(device).or(held.map(|held| held.link));
        let plug = Plug {
            port,
            interface,
            name: name.to_owned(),
            ofport,
            index,
            opened: if is_made_by_others {
                opened.or(index)
            } else {
                None
            },
            link: link.unwrap_or(Link::Down),
            vnic,
            mac,
            machine,
            state,
        };
        self.candidates.entry(id).or_default().push((claim, plug));
    }

    fn unread(&mut self, interface: &str, port: &PortId, word: &'static str, why: &impl ToString) {
        self.unread.push(Unread {
            switch: self.switch.clone(),
            port: port.clone(),
            interface: interface.to_owned(),
            word,
            why: why.to_string(),
        });
    }

    fn refuse(&mut self, interface: &str, port: Option<PortId>, why: WhyUnusable) {
        let switch = self.switch.clone();
        let unusable = Unusable { switch, port, why };
        self.unusable.insert(interface.to_owned(), unusable);
    }

    /// Gives each port one interface: two can't be one vNIC. Who has the port
    /// keeps it, and of those that come at once the oldest gets it: numbers are
    /// given once and kept.
    fn choose(mut self) -> BTreeMap<PortId, Plug> {
        let mut chosen = BTreeMap::new();
        for (id, mut candidates) in std::mem::take(&mut self.candidates) {
            candidates.sort_by_key(|(claim, plug)| {
                (*claim, plug.ofport.unwrap_or(OfPort::MAX), plug.interface)
            });
            let mut candidates = candidates.into_iter().map(|(_, plug)| plug);
            let Some(first) = candidates.next() else {
                continue;
            };
            for other in candidates {
                let why = WhyUnusable::Duplicate {
                    port: id.clone(),
                    wired: first.name.clone(),
                };
                self.refuse(&other.name, Some(id.clone()), why);
            }
            chosen.insert(id, first);
        }
        chosen
    }
}

/// The port that an interface says, if it says one.
pub(super) fn said_port(
    interface: &Row,
    name: &str,
    config: &OvsConfig,
) -> Option<Result<PortId, WhyUnusable>> {
    let (word, id): (_, Result<PortId, InvalidName>) = match interface.map_get("external_ids", PORT)
    {
        Some(id) => ("external_ids:iface-id", id.parse()),
        None => {
            let mut patterns = config.patterns.iter();
            ("--plug", patterns.find_map(|pattern| pattern.port(name))?)
        }
    };
    Some(id.map_err(|error| unreadable(word, error)))
}

fn unreadable(word: &'static str, error: impl std::fmt::Display) -> WhyUnusable {
    let error = error.to_string();
    WhyUnusable::Unreadable { word, error }
}

/// Which vNIC an interface says that it is. Not another one than the port is
/// `wanted` for here.
fn said_vnic(
    interface: &Row,
    port: &PortId,
    wanted: Option<&VnicId>,
) -> Result<Option<VnicId>, WhyUnusable> {
    let Some(said) = interface.map_get("external_ids", VNIC) else {
        return Ok(None);
    };
    let vnic: VnicId = said
        .parse()
        .map_err(|error| unreadable("external_ids:dvs-vnic", error))?;
    match wanted {
        Some(wanted) if *wanted != vnic => Err(WhyUnusable::OtherVnic {
            port: port.clone(),
            vnic,
            connected: wanted.clone(),
        }),
        Some(_) | None => Ok(Some(vnic)),
    }
}

/// The address that an interface says its vNIC has.
fn said_mac(interface: &Row) -> Result<Option<MacAddr>, WhyUnusable> {
    let said = interface.map_get("external_ids", MAC);
    let mac = said.map(str::parse).transpose();
    mac.map_err(|error| unreadable("external_ids:attached-mac", error))
}
