// SPDX-License-Identifier: Apache-2.0
//! The database as far as the datapath looks at it: which tables and columns,
//! and what stands in them.

use std::cell::OnceCell;
use std::collections::BTreeMap;

use dvs_ovsdb::{Cache, Row, Wanted};
use dvs_schemas::v1::{Counters, Link};
use uuid::Uuid;

pub(super) const ROOT: &str = "Open_vSwitch";
pub(super) const BRIDGE: &str = "Bridge";
pub(super) const PORT: &str = "Port";
pub(super) const INTERFACE: &str = "Interface";
pub(super) const MIRROR: &str = "Mirror";
pub(super) const QOS: &str = "QoS";
pub(super) const QUEUE: &str = "Queue";

/// Columns of an interface that change by themselves, all the time.
pub(super) const STATISTICS: &str = "statistics";
/// And those that follow the device.
pub(super) const LINK_STATE: &str = "link_state";
pub(super) const ADMIN_STATE: &str = "admin_state";
const INDEX: &str = "ifindex";
const ADDRESS: &str = "mac_in_use";

/// Whether an interface of a bond hears its partner by LACP; none where LACP is
/// not spoken.
pub(super) const LACP_PARTNER: &str = "lacp_current";

/// Columns of an interface that limit what its vNIC sends, in kbit/s and in
/// thousands of packets per second; 0 is off.
pub(super) const POLICING: &str = "ingress_policing_rate";
pub(super) const POLICING_PACKETS: &str = "ingress_policing_kpkts_rate";

/// What is monitored.
pub(super) fn wanted() -> Wanted {
    Wanted::new()
        .table(
            ROOT,
            [
                "bridges",
                "next_cfg",
                "cur_cfg",
                "ovs_version",
                "other_config",
            ],
        )
        .table(
            BRIDGE,
            [
                "name",
                "ports",
                "mirrors",
                "flood_vlans",
                "controller",
                "fail_mode",
                "datapath_type",
                "stp_enable",
                "rstp_enable",
                "mcast_snooping_enable",
                "other_config",
                "datapath_id",
                "external_ids",
            ],
        )
        .table(
            PORT,
            [
                "name",
                "interfaces",
                "tag",
                "trunks",
                "vlan_mode",
                "qos",
                "bond_mode",
                "lacp",
                "other_config",
                "external_ids",
            ],
        )
        .table(
            INTERFACE,
            [
                "name",
                "type",
                "options",
                "ofport",
                "ofport_request",
                "error",
                "mtu",
                "mtu_request",
                INDEX,
                ADDRESS,
                LACP_PARTNER,
                POLICING,
                POLICING_PACKETS,
                ADMIN_STATE,
                LINK_STATE,
                STATISTICS,
                "external_ids",
            ],
        )
        .table(
            MIRROR,
            [
                "name",
                "select_all",
                "select_src_port",
                "select_dst_port",
                "select_vlan",
                "output_port",
                "output_vlan",
                "external_ids",
            ],
        )
        .table(QOS, ["type", "other_config", "queues", "external_ids"])
        .table(QUEUE, ["other_config", "external_ids"])
}

/// The database, with rows found by name. What they are found by is made when
/// it is first asked for: few look for all of it.
#[derive(Debug, Clone)]
pub(super) struct View<'a> {
    cache: &'a Cache,
    bridges: OnceCell<Named<'a>>,
    ports: OnceCell<Named<'a>>,
    interfaces: OnceCell<Named<'a>>,
    /// The bridge of each port.
    bridge_of: OnceCell<Owners>,
    /// The port of each interface.
    port_of: OnceCell<Owners>,
}

type Named<'a> = BTreeMap<&'a str, Uuid>;
type Owners = BTreeMap<Uuid, Uuid>;

impl<'a> View<'a> {
    pub(super) fn new(cache: &'a Cache) -> Self {
        Self {
            cache,
            bridges: OnceCell::new(),
            ports: OnceCell::new(),
            interfaces: OnceCell::new(),
            bridge_of: OnceCell::new(),
            port_of: OnceCell::new(),
        }
    }

    fn named(&self, table: &str) -> Named<'a> {
        let rows = self.cache.table(table).iter();
        rows.filter_map(|(uuid, row)| Some((row.str("name")?, *uuid)))
            .collect()
    }

    fn owners(&self, table: &str, column: &str) -> Owners {
        let rows = self.cache.table(table).iter();
        rows.flat_map(|(uuid, row)| row.uuids(column).map(|owned| (owned, *uuid)))
            .collect()
    }

    /// The row that all hangs on.
    pub(super) fn root(&self) -> Option<Uuid> {
        self.cache.table(ROOT).keys().next().copied()
    }

    pub(super) fn table(&self, table: &str) -> &'a BTreeMap<Uuid, Row> {
        self.cache.table(table)
    }

    pub(super) fn row(&self, table: &str, uuid: Uuid) -> Option<&'a Row> {
        self.cache.row(table, uuid)
    }

    pub(super) fn bridge(&self, name: &str) -> Option<Uuid> {
        let named = self.bridges.get_or_init(|| self.named(BRIDGE));
        named.get(name).copied()
    }

    pub(super) fn port(&self, name: &str) -> Option<Uuid> {
        let named = self.ports.get_or_init(|| self.named(PORT));
        named.get(name).copied()
    }

    pub(super) fn interface(&self, name: &str) -> Option<Uuid> {
        let named = self.interfaces.get_or_init(|| self.named(INTERFACE));
        named.get(name).copied()
    }

    /// The name of the bridge where an interface is.
    pub(super) fn bridge_with(&self, interface: Uuid) -> Option<&'a str> {
        let port_of = || self.owners(PORT, "interfaces");
        let bridge_of = || self.owners(BRIDGE, "ports");
        let port = self.port_of.get_or_init(port_of).get(&interface)?;
        let bridge = self.bridge_of.get_or_init(bridge_of).get(port)?;
        self.row(BRIDGE, *bridge)?.str("name")
    }

    /// The ports of a bridge.
    pub(super) fn ports_of(&self, bridge: Uuid) -> impl Iterator<Item = (Uuid, &'a Row)> {
        let uuids = self.row(BRIDGE, bridge);
        let uuids = uuids.into_iter().flat_map(|row| row.uuids("ports"));
        uuids.filter_map(|uuid| Some((uuid, self.row(PORT, uuid)?)))
    }

    /// The interface of a port that has one alone, as a vNIC's has.
    pub(super) fn only_interface(&self, port: &Row) -> Option<(Uuid, &'a Row)> {
        let mut interfaces = port.uuids("interfaces");
        let first = interfaces.next()?;
        if interfaces.next().is_some() {
            return None;
        }
        Some((first, self.row(INTERFACE, first)?))
    }
}

/// Whether an interface carries frames; none if nobody says. A database that
/// was started anew has forgotten, until Open vSwitch says it again.
pub(super) fn link(interface: &Row) -> Option<Link> {
    let up = |column| Some(interface.str(column)? == "up");
    Some(match (up(ADMIN_STATE)?, up(LINK_STATE)?) {
        (true, true) => Link::Up,
        (true | false, true | false) => Link::Down,
    })
}

/// An interface's number in its bridge, once Open vSwitch has given it one.
pub(super) fn ofport(interface: &Row) -> Option<u32> {
    let number = interface.integer("ofport")?;
    u32::try_from(number).ok().filter(|number| *number > 0)
}

/// Why Open vSwitch can't use an interface.
pub(super) fn error(interface: &Row) -> Option<String> {
    let told = interface.str("error").map(str::to_owned);
    let refused = interface.integer("ofport") == Some(-1);
    told.or_else(|| refused.then(|| "Open vSwitch can't open the device".to_owned()))
}

/// What is behind the row of an interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Device {
    /// A device that Open vSwitch forwards to. Devices of the kernel have an
    /// index, and one that is made anew has another.
    There {
        /// That index.
        index: Option<u32>,
    },
    /// Open vSwitch hasn't said yet.
    Unknown,
    /// No device, and why.
    Missing(String),
}

/// What is behind the row of an interface, as far as Open vSwitch says.
pub(super) fn device(interface: &Row) -> Device {
    if let Some(error) = error(interface) {
        return Device::Missing(error);
    }
    let (Some(_), Some(index)) = (ofport(interface), interface.integer(INDEX)) else {
        return Device::Unknown;
    };
    let index = u32::try_from(index).ok().filter(|index| *index > 0);
    match (index, interface.str(ADDRESS)) {
        // Tunnels and the like have no index, but an address each.
        (Some(_), _) | (None, Some(_)) => Device::There { index },
        // User space keeps the number of what has gone.
        (None, None) => Device::Missing("its device is gone".to_owned()),
    }
}

/// An interface's statistics, as Open vSwitch wrote them last; none where it
/// hasn't yet, or where the device doesn't answer. What the interface receives
/// is what the vNIC sends.
pub(super) fn statistics(interface: &Row) -> Option<Counters> {
    let all = interface.get(STATISTICS)?;
    let told = |key| {
        let number = all.map_integer(key)?;
        u64::try_from(number).ok()
    };
    if ["rx_packets", "rx_bytes", "tx_packets", "tx_bytes"]
        .into_iter()
        .all(|key| told(key).is_none())
    {
        return None;
    }
    let of = |key| told(key).unwrap_or(0);
    Some(Counters {
        ingress_packets: of("rx_packets"),
        ingress_bytes: of("rx_bytes"),
        ingress_drops: of("rx_dropped"),
        ingress_errors: of("rx_errors"),
        egress_packets: of("tx_packets"),
        egress_bytes: of("tx_bytes"),
        egress_drops: of("tx_dropped"),
        egress_errors: of("tx_errors"),
    })
}
