// SPDX-License-Identifier: Apache-2.0
//! What we write beside others' columns into `external_ids`, so that a row
//! says whose it is and what it is to be: the agent finds its own again after
//! any restart, and an operator reads it with `ovs-vsctl list`.

use std::collections::BTreeMap;
use std::sync::Arc;

use dvs_ovsdb::Datum;
use dvs_schemas::documents::Teaming;
use dvs_schemas::{
    Epoch, MacAddr, MirrorName, Mtu, Policy, PortId, PrivateVlans, SwitchName, UplinkName, VlanId,
    VnicId,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::datapath::tally::Offset;
use crate::datapath::{BridgeSettings, Mirror, VirtualPort};
use crate::merge::merge;

/// Every key of ours begins so.
pub(super) const PREFIX: &str = "dvs-";

const SWITCH: &str = "dvs-switch";
const SETTINGS: &str = "dvs-settings";
const PORT: &str = "dvs-port";
const EPOCH: &str = "dvs-epoch";
const VNIC: &str = "dvs-vnic";
const MAC: &str = "dvs-mac";
const POLICY: &str = "dvs-policy";
const MIRROR: &str = "dvs-mirror";
const SESSION: &str = "dvs-session";
const UPLINKS: &str = "dvs-uplinks-of";
const COPIES: &str = "dvs-copies";
pub(super) const REPLACED: &str = "dvs-replaced";
const COUNTED: &str = "dvs-counted";
const DEVICE: &str = "dvs-device";
pub(super) const TAKEN: &str = "dvs-taken";
const MADE_FOR: &str = "dvs-made-for";

/// The `external_ids` of a row, or those of them that are ours.
pub(super) type Ids = BTreeMap<String, String>;

/// A row says that it is ours, and what it says besides can't be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("external_ids:{key} is {found:?}: {why}")]
pub(super) struct Unreadable {
    pub(super) key: &'static str,
    pub(super) found: String,
    pub(super) why: String,
}

/// Settings as they are written.
#[derive(Debug, Serialize, Deserialize)]
struct Settings {
    mtu: Mtu,
    uplinks: Vec<UplinkName>,
    teaming: Teaming,
    private_vlans: PrivateVlans,
}

/// A mirror session as it is written.
#[derive(Debug, Serialize, Deserialize)]
struct Session {
    ports: Vec<dvs_schemas::MirrorPort>,
    vlans: Vec<dvs_schemas::VlanId>,
    destination: dvs_schemas::MirrorDestination,
}

/// What a bridge that somebody else made does without its controller, which it
/// is to do again when the switch goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FailMode {
    /// Nothing is said: it forwards like any switch.
    Unset,
    /// It forwards like any switch.
    Standalone,
    /// It forwards by its rules alone.
    Secure,
}

impl FailMode {
    /// The mode that a row says.
    pub(super) fn of(column: Option<&str>) -> Self {
        match column {
            Some("standalone") => Self::Standalone,
            Some("secure") => Self::Secure,
            Some(_) | None => Self::Unset,
        }
    }

    /// The mode as a row says it.
    pub(super) fn column(self) -> Datum {
        match self {
            Self::Unset => Datum::empty(),
            Self::Standalone | Self::Secure => Datum::from(self.word()),
        }
    }

    /// The mode that a mark says.
    fn said(word: &str) -> Option<Self> {
        let all = [Self::Unset, Self::Standalone, Self::Secure];
        all.into_iter().find(|mode| mode.word() == word)
    }

    fn word(self) -> &'static str {
        match self {
            Self::Unset => "unset",
            Self::Standalone => "standalone",
            Self::Secure => "secure",
        }
    }
}

/// What a switch's bridge was before it was that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Before {
    /// Nothing: it was made for the switch.
    Nothing,
    /// Somebody else's, who had it do this.
    Taken(FailMode),
    /// It doesn't say.
    Unknown,
}

/// What the bridge of a switch says of the time before.
pub(super) fn before(ids: &Ids, switch: &SwitchName) -> Before {
    let taken = ids.get(TAKEN).and_then(|word| FailMode::said(word));
    match taken {
        Some(mode) => Before::Taken(mode),
        None if made_for(ids).as_ref() == Some(switch) => Before::Nothing,
        None => Before::Unknown,
    }
}

/// What a bridge of ours says.
pub(super) fn of_bridge(switch: &SwitchName, settings: &BridgeSettings, before: Before) -> Ids {
    let BridgeSettings {
        mtu,
        uplinks,
        teaming,
        private_vlans,
    } = settings.clone();
    let settings = Settings {
        mtu,
        uplinks,
        teaming,
        private_vlans,
    };
    let before = match before {
        Before::Nothing => Some((MADE_FOR.to_owned(), switch.to_string())),
        Before::Taken(mode) => Some((TAKEN.to_owned(), mode.word().to_owned())),
        Before::Unknown => None,
    };
    let always = [
        (SWITCH.to_owned(), switch.to_string()),
        (SETTINGS.to_owned(), json(&settings)),
    ];
    always.into_iter().chain(before).collect()
}

/// The switch of a bridge and its settings, if it is ours.
pub(super) fn bridge(ids: &Ids) -> Result<Option<(SwitchName, Arc<BridgeSettings>)>, Unreadable> {
    let (Some(switch), Some(settings)) = (ids.get(SWITCH), ids.get(SETTINGS)) else {
        return Ok(None);
    };
    let Settings {
        mtu,
        uplinks,
        teaming,
        private_vlans,
    } = of_json(SETTINGS, settings)?;
    let settings = BridgeSettings {
        mtu,
        uplinks,
        teaming,
        private_vlans,
    };
    Ok(Some((word(SWITCH, switch)?, Arc::new(settings))))
}

/// What the bridge of a switch's uplinks says.
pub(super) fn of_uplinks(switch: &SwitchName) -> Ids {
    Ids::from([(UPLINKS.to_owned(), switch.to_string())])
}

/// What rows say that limit a port.
pub(super) fn of_queueing(switch: &SwitchName, port: &PortId) -> Ids {
    Ids::from([
        (SWITCH.to_owned(), switch.to_string()),
        (PORT.to_owned(), port.to_string()),
    ])
}

/// What a port says of others' columns that its policy stands in for.
pub(super) fn of_replaced(text: String) -> (String, String) {
    (REPLACED.to_owned(), text)
}

/// What it said.
pub(super) fn replaced_of(ids: &Ids) -> Option<String> {
    ids.get(REPLACED).cloned()
}

/// What a port says by which copies enter a VLAN.
pub(super) fn of_copies(vlan: VlanId) -> Ids {
    Ids::from([(COPIES.to_owned(), vlan.to_string())])
}

/// The VLAN that copies enter by a port.
pub(super) fn copies_of(ids: &Ids) -> Option<VlanId> {
    let number: u16 = ids.get(COPIES)?.parse().ok()?;
    number.try_into().ok()
}

/// What a bridge says that was made for a switch, and all that one says that
/// stays without it, as others have ports there.
pub(super) fn of_left_bridge(switch: &SwitchName) -> Ids {
    Ids::from([(MADE_FOR.to_owned(), switch.to_string())])
}

/// The switch that a bridge was made for.
pub(super) fn made_for(ids: &Ids) -> Option<SwitchName> {
    ids.get(MADE_FOR)?.parse().ok()
}

/// The switch of a bridge.
pub(super) fn switch_of(ids: &Ids) -> Option<SwitchName> {
    ids.get(SWITCH)?.parse().ok()
}

/// True of a bridge that says what a bridge of ours says, whosever that is.
pub(super) fn is_of_bridge(ids: &Ids) -> bool {
    [SETTINGS, TAKEN].iter().any(|key| ids.contains_key(*key))
}

/// The switch whose uplinks a bridge has.
pub(super) fn uplinks_of(ids: &Ids) -> Option<SwitchName> {
    ids.get(UPLINKS)?.parse().ok()
}

/// The DVPort of a row.
pub(super) fn port_of(ids: &Ids) -> Option<PortId> {
    ids.get(PORT)?.parse().ok()
}

/// The port that a row limits.
pub(super) fn queueing_of(ids: &Ids) -> Option<(SwitchName, PortId)> {
    Some((switch_of(ids)?, port_of(ids)?))
}

/// The mirror session of a row.
pub(super) fn mirror_of(ids: &Ids) -> Option<MirrorName> {
    ids.get(MIRROR)?.parse().ok()
}

/// By what the counters of a port's interface differ from the port's.
pub(super) fn offset(ids: &Ids) -> Result<Option<Offset>, Unreadable> {
    ids.get(COUNTED)
        .map(|offset| word(COUNTED, offset))
        .transpose()
}

/// The index of the device that the switch has open for a port.
pub(super) fn device(ids: &Ids) -> Option<u32> {
    ids.get(DEVICE)?.parse().ok()
}

/// What a port of ours says; `device` is the index of the device that the
/// switch has open for it.
pub(super) fn of_port(
    port: &PortId,
    spec: &VirtualPort,
    offset: Option<Offset>,
    device: Option<u32>,
) -> Ids {
    let VirtualPort {
        epoch,
        vnic,
        mac,
        policy,
    } = spec;
    let always = [
        (PORT, port.to_string()),
        (EPOCH, epoch.0.to_string()),
        (POLICY, json(&policy.written())),
    ];
    let vnic = vnic.as_ref().map(|vnic| (VNIC, vnic.to_string()));
    let mac = mac.as_ref().map(|mac| (MAC, mac.to_string()));
    let offset = offset.map(|offset| (COUNTED, offset.to_string()));
    let device = device.map(|index| (DEVICE, index.to_string()));
    let all = always.into_iter().chain(vnic).chain(mac);
    let all = all.chain(offset).chain(device);
    all.map(|(key, value)| (key.to_owned(), value)).collect()
}

/// The DVPort of a row and how it is set, if it is ours; roles of private VLANs
/// are those of its bridge.
pub(super) fn port(
    ids: &Ids,
    private_vlans: &PrivateVlans,
) -> Result<Option<(PortId, VirtualPort)>, Unreadable> {
    let (Some(port), Some(epoch), Some(policy)) = (ids.get(PORT), ids.get(EPOCH), ids.get(POLICY))
    else {
        return Ok(None);
    };
    let nothing = Policy::default();
    let layers: Policy = of_json(POLICY, policy)?;
    let policy = merge(&layers, &nothing, &nothing, private_vlans)
        .map_err(|error| unreadable(POLICY, policy, error))?;
    let vnic: Option<VnicId> = ids.get(VNIC).map(|vnic| word(VNIC, vnic)).transpose()?;
    let mac: Option<MacAddr> = ids.get(MAC).map(|mac| word(MAC, mac)).transpose()?;
    let spec = VirtualPort {
        epoch: Epoch(word(EPOCH, epoch)?),
        vnic,
        mac,
        policy,
    };
    Ok(Some((word(PORT, port)?, spec)))
}

/// What a mirror session of ours says.
pub(super) fn of_mirror(name: &MirrorName, mirror: &Mirror) -> Ids {
    let Mirror {
        ports,
        vlans,
        destination,
    } = mirror.clone();
    let session = Session {
        ports,
        vlans,
        destination,
    };
    Ids::from([
        (MIRROR.to_owned(), name.to_string()),
        (SESSION.to_owned(), json(&session)),
    ])
}

/// The session of a row, if it is ours.
pub(super) fn mirror(ids: &Ids) -> Result<Option<(MirrorName, Arc<Mirror>)>, Unreadable> {
    let (Some(name), Some(session)) = (ids.get(MIRROR), ids.get(SESSION)) else {
        return Ok(None);
    };
    let Session {
        ports,
        vlans,
        destination,
    } = of_json(SESSION, session)?;
    let mirror = Mirror {
        ports,
        vlans,
        destination,
    };
    Ok(Some((word(MIRROR, name)?, Arc::new(mirror))))
}

fn json(value: &impl Serialize) -> String {
    // These values are maps with text keys, which JSON can write.
    serde_json::to_string(value).unwrap_or_default()
}

fn of_json<T: DeserializeOwned>(key: &'static str, text: &str) -> Result<T, Unreadable> {
    // A list would be read as fields without their names, an empty one as
    // nothing said.
    let map: Result<Map<String, Value>, _> = serde_json::from_str(text);
    let read = map.and_then(|map| T::deserialize(Value::Object(map)));
    read.map_err(|error| unreadable(key, text, error))
}

fn word<T: std::str::FromStr<Err: std::fmt::Display>>(
    key: &'static str,
    text: &str,
) -> Result<T, Unreadable> {
    text.parse().map_err(|error| unreadable(key, text, error))
}

fn unreadable(key: &'static str, found: &str, why: impl std::fmt::Display) -> Unreadable {
    Unreadable {
        key,
        found: found.chars().take(80).collect(),
        why: why.to_string(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use dvs_schemas::arbitrary;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_port_reads_back_as_it_was_written(
            policy in arbitrary::policy(),
            private_vlans in arbitrary::private_vlans(),
            epoch in any::<u64>(),
            vnic in proptest::option::of(arbitrary::vnic()),
            mac in proptest::option::of(arbitrary::mac()),
        ) {
            let nothing = Policy::default();
            let Ok(policy) = merge(&policy, &nothing, &nothing, &private_vlans) else {
                return Ok(());
            };
            let spec = VirtualPort { epoch: Epoch(epoch), vnic, mac, policy };
            let id: PortId = "web-1".parse().unwrap();
            let mut ids = of_port(&id, &spec, None, Some(7));
            prop_assert!(ids.keys().all(|key| key.starts_with(PREFIX)));
            // Others write there too.
            ids.insert("iface-id".to_owned(), "web-1".to_owned());
            prop_assert_eq!(port(&ids, &private_vlans), Ok(Some((id, spec))));
        }

        #[test]
        fn whatever_stands_there_is_read_or_named(
            ids in prop::collection::btree_map(
                prop::sample::select(vec![
                    SWITCH, SETTINGS, PORT, EPOCH, VNIC, MAC, POLICY, MIRROR, SESSION,
                ]),
                prop_oneof![Just("{}".to_owned()), Just("7".to_owned()), ".{0,20}"],
                0..9,
            ),
        ) {
            let ids: Ids = ids.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
            let of = |error: &Unreadable| ids.contains_key(error.key);
            prop_assert!(bridge(&ids).map_or_else(|e| of(&e), |_| true));
            prop_assert!(port(&ids, &PrivateVlans::default()).map_or_else(|e| of(&e), |_| true));
            prop_assert!(mirror(&ids).map_or_else(|e| of(&e), |_| true));
        }
    }
}
