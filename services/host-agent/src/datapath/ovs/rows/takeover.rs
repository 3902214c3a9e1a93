// SPDX-License-Identifier: Apache-2.0
//! What stands where a switch's bridge is to be, and whether it may become
//! that: a bridge that somebody else made is taken only if nothing that the
//! host needs passes it.

use std::collections::BTreeSet;

use dvs_ovsdb::{Datum, Row};
use dvs_schemas::SwitchName;
use uuid::Uuid;

use super::memory::Memory;
use super::uplinks::Members;
use super::{Draft, ours};
use crate::datapath::ovs::config::{BridgeName, Origin, OvsConfig};
use crate::datapath::ovs::intent::Intent;
use crate::datapath::ovs::marks::{self, Before, FailMode};
use crate::datapath::ovs::view::{BRIDGE, INTERFACE, View};

/// What stands where a switch's bridge is to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// Nothing.
    Nothing,
    /// The switch's bridge.
    Ours(Uuid),
    /// A bridge that somebody else made, and that may be taken.
    Foreign(Uuid),
}

/// Whether making all switches true takes a bridge or a device that is not a
/// switch's yet, so that somebody has to look what the host does with it.
pub(in crate::datapath::ovs) fn takes_anything(
    intent: &Intent,
    config: &OvsConfig,
    view: &View<'_>,
    memory: &Memory,
) -> bool {
    intent.iter().any(|(switch, wish)| {
        let (name, _) = config.bridge(switch);
        let there = view.bridge(name.as_str());
        let row = there.and_then(|uuid| Some((uuid, view.row(BRIDGE, uuid)?)));
        let foreign = row.is_some_and(|(uuid, row)| memory.switch_of(uuid, row).is_none());
        let mut uplinks = wish.settings.uplinks.iter();
        foreign
            || uplinks.any(|uplink| {
                let interface = view.interface(&config.uplink(switch, uplink));
                let with = interface.and_then(|uuid| view.bridge_with(uuid));
                with != Some(name.of_uplinks().as_str())
            })
    })
}

impl Draft<'_, '_> {
    /// What stands where the bridge of a switch is to be.
    ///
    /// # Errors
    /// It can't become the switch's, and stays as it is.
    pub(super) fn standing(
        &self,
        switch: &SwitchName,
        (name, origin): (&BridgeName, Origin),
        members: &Members,
    ) -> Result<Standing, String> {
        let there = self.view.bridge(name.as_str());
        let row = |uuid| self.view.row(BRIDGE, uuid).map(|row| (uuid, row));
        let Some((uuid, row)) = there.and_then(row) else {
            return Ok(Standing::Nothing);
        };
        match (self.memory.switch_of(uuid, row), origin) {
            (Some(of), _) if of == *switch => Ok(Standing::Ours(uuid)),
            (Some(of), Origin::Given | Origin::Ours) => Err(format!(
                "bridge {name} belongs to switch {of}; name another with --bridge {switch}=NAME"
            )),
            // It was made for it, and stayed when the switch went.
            (None, Origin::Ours)
                if marks::made_for(&ours(row, "external_ids")).as_ref() == Some(switch) =>
            {
                Ok(Standing::Ours(uuid))
            }
            (None, Origin::Ours) => Err(format!(
                "bridge {name} was made by somebody else; if it is to be the switch's, say so \
                 with --bridge {switch}={name}"
            )),
            (None, Origin::Given) => match self.obstacle(name, (uuid, row), members) {
                None => Ok(Standing::Foreign(uuid)),
                Some(why) => Err(format!("bridge {name} is not taken: {why}")),
            },
        }
    }

    /// What the bridge was before it was the switch's.
    pub(super) fn before(&self, switch: &SwitchName, standing: Standing) -> Before {
        let (uuid, is_ours) = match standing {
            Standing::Nothing => return Before::Nothing,
            Standing::Ours(uuid) => (uuid, true),
            Standing::Foreign(uuid) => (uuid, false),
        };
        let Some(row) = self.view.row(BRIDGE, uuid) else {
            return Before::Unknown;
        };
        if let Some(owned) = self.memory.bridge(self.config, uuid, row) {
            return owned.before;
        }
        let said = marks::before(&ours(row, "external_ids"), switch);
        match (said, FailMode::of(row.str("fail_mode"))) {
            (Before::Nothing, _) => Before::Nothing,
            // The mode may be the one that the switch has given it.
            (_, FailMode::Secure) if self.memory.doubtful.contains(&uuid) => Before::Unknown,
            (Before::Taken(_) | Before::Unknown, _) if is_ours => said,
            (Before::Taken(_) | Before::Unknown, mode) => Before::Taken(mode),
        }
    }

    /// What keeps a bridge that somebody else made from being taken, and what
    /// to do about it.
    fn obstacle(
        &self,
        name: &BridgeName,
        (uuid, row): (Uuid, &Row),
        members: &Members,
    ) -> Option<String> {
        if row.uuids("controller").next().is_some() {
            return Some(format!(
                "an OpenFlow controller rules it; take that away first, with \
                 ovs-vsctl del-controller {name}"
            ));
        }
        let wanted = self.config.kind.column();
        if let Some(kind) = self.kind_of(uuid)
            && kind != wanted
        {
            return Some(format!(
                "its datapath_type is {kind}, and --ovs-datapath is {wanted}; make them agree"
            ));
        }
        let on = Datum::from(true);
        let protocols = ["stp_enable", "rstp_enable"];
        if protocols.iter().any(|column| row.get(column) == Some(&on)) {
            return Some(format!(
                "it takes part in a spanning tree, and a switch's bridge doesn't; end that first, \
                 with ovs-vsctl set Bridge {name} stp_enable=false rstp_enable=false"
            ));
        }
        let devices = self.devices_behind(uuid);
        if let Some(in_use) = devices.iter().find_map(|name| self.network.use_of(name)) {
            return Some(format!(
                "{in_use} and would be cut off, as the switch passes only what its ports may; \
                 move it to a device that no bridge has, or name another bridge"
            ));
        }
        // Of its own uplinks a bridge can lack one; one that others use is
        // taken whole or not at all.
        members.refused.first().cloned()
    }

    /// The datapath type of a bridge; the kernel's if the row says nothing.
    pub(super) fn kind_of(&self, bridge: Uuid) -> Option<&str> {
        let row = self.view.row(BRIDGE, bridge)?;
        let kind = row.str("datapath_type").filter(|kind| !kind.is_empty());
        Some(kind.unwrap_or("system"))
    }

    /// Devices of a bridge, and of those that patches join to it: frames of
    /// the one pass the other.
    fn devices_behind(&self, bridge: Uuid) -> BTreeSet<&str> {
        let mut devices = BTreeSet::new();
        let mut seen = BTreeSet::new();
        let mut bridges = vec![bridge];
        while let Some(bridge) = bridges.pop() {
            if !seen.insert(bridge) {
                continue;
            }
            for (_, port) in self.view.ports_of(bridge) {
                let interfaces = port.uuids("interfaces");
                for row in interfaces.filter_map(|uuid| self.view.row(INTERFACE, uuid)) {
                    devices.extend(row.str("name"));
                    let options = row.get("options").into_iter().flat_map(Datum::map_strings);
                    let mut peer = options.filter(|(key, _)| *key == "peer");
                    let peer = peer.next().and_then(|(_, peer)| self.view.interface(peer));
                    let next = peer.and_then(|peer| self.view.bridge_with(peer));
                    bridges.extend(next.and_then(|next| self.view.bridge(next)));
                }
            }
        }
        devices
    }

    /// True if a bridge is that of a switch's uplinks, whatever somebody made
    /// of its mark.
    pub(super) fn is_for_uplinks(&self, bridge: Uuid, switch: &SwitchName, patch: &str) -> bool {
        let row = self.view.row(BRIDGE, bridge);
        let marked = row.and_then(|row| marks::uplinks_of(&ours(row, "external_ids")));
        let mut ports = self.view.ports_of(bridge);
        marked.as_ref() == Some(switch) || ports.any(|(_, port)| port.str("name") == Some(patch))
    }
}
