// SPDX-License-Identifier: Apache-2.0
//! Random values of the contract's types, for property tests here and in the
//! services (cargo feature `arbitrary`). Names come mostly from small pools, so
//! that generated things meet each other.
//!
//! [`site`] makes configurations that hold together; [`document`] and
//! [`messages`] make values that are well-formed each for itself.

mod documents;
pub mod messages;
mod site;

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU32;
use std::str::FromStr;

use ipnet::IpNet;
use proptest::collection::{btree_set, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::address::{AddressList, MacAddr};
use crate::codec::from_tree;
use crate::ids::{Epoch, MachineId, Revision, SessionId, StoreId, UplinkName, VnicId};
use crate::policy::{
    Direction, Policy, PolicyField, Rate, Security, Shaping, ShapingLimit, Verdict,
};
use crate::time::Timestamp;
use crate::v1::Deadline;
use crate::vlan::{Mtu, PrivateVlans, Trunk, Vlan, VlanId, VlanRange, VlanSet};

pub use documents::{
    document, mirror_port, mirror_session_doc, mirror_source, port_doc, port_group_doc, switch_doc,
};
pub use site::{Site, site};

/// A strategy for a struct, from one strategy per field. A field that is added
/// to the struct doesn't compile until it is here.
macro_rules! record {
    ($(#[$doc:meta])* $name:ident: $type:ident { $($field:ident: $strategy:expr),* $(,)? }) => {
        $(#[$doc])*
        pub fn $name() -> impl ::proptest::strategy::Strategy<Value = $type> {
            use ::proptest::strategy::Strategy as _;
            ($($strategy,)*).prop_map(|($($field,)*)| $type { $($field),* })
        }
    };
}
pub(crate) use record;

/// A value that is written as this tree.
fn read<T: serde::de::DeserializeOwned>(tree: Value) -> T {
    from_tree(tree).expect("the strategies make only what can be read")
}

/// Any name: mostly one of a few, sometimes one of any shape.
pub fn name<T: FromStr + Debug>() -> impl Strategy<Value = T> {
    prop_oneof![
        9 => select(vec!["a", "b", "c", "d"]).prop_map(str::to_owned),
        1 => "[A-Za-z0-9][A-Za-z0-9_-]{0,62}",
    ]
    .prop_filter_map("a name", |text| text.parse().ok())
}

/// A vNIC, as some hypervisor calls it.
pub fn vnic() -> impl Strategy<Value = VnicId> {
    prop_oneof![
        9 => "vm-[0-9]/eth[01]",
        1 => "[!-~]{1,128}",
    ]
    .prop_filter_map("a vNIC", |text| text.parse().ok())
}

/// A machine, as some hypervisor calls it.
pub fn machine_id() -> impl Strategy<Value = MachineId> {
    "[!-~]{1,128}".prop_filter_map("a machine", |text| text.parse().ok())
}

/// A physical interface.
pub fn uplink() -> impl Strategy<Value = UplinkName> {
    "(eth|ens|bond)[0-9]{1,3}".prop_filter_map("an uplink", |text| text.parse().ok())
}

/// Any revision but zero.
pub fn revision() -> impl Strategy<Value = Revision> {
    prop_oneof![9 => 1..20_u64, 1 => 1..=u64::MAX].prop_map(Revision)
}

/// Any epoch.
pub fn epoch() -> impl Strategy<Value = Epoch> {
    prop_oneof![9 => 0..5_u64, 1 => any::<u64>()].prop_map(Epoch)
}

/// Any session, mostly one of a few.
pub fn session() -> impl Strategy<Value = SessionId> {
    prop_oneof![9 => 1..5_u64, 1 => any::<u64>()].prop_map(SessionId)
}

/// Any UUID.
pub fn uuid() -> impl Strategy<Value = Uuid> {
    any::<u128>().prop_map(Uuid::from_u128)
}

/// A ledger's identity, from either of two or any.
pub fn store() -> impl Strategy<Value = StoreId> {
    prop_oneof![9 => select(vec![1_u128, 2]), 1 => any::<u128>()]
        .prop_map(|n| StoreId(Uuid::from_u128(n)))
}

/// Any moment from 1970 to 9999.
pub fn timestamp() -> impl Strategy<Value = Timestamp> {
    any::<u64>().prop_map(|ms| Timestamp(0).after(std::time::Duration::from_millis(ms)))
}

/// A bound on a wait.
pub fn deadline() -> impl Strategy<Value = Deadline> {
    (1..=300_000_u32).prop_map(|ms| read(json!(format!("{ms}ms"))))
}

/// Any VLAN.
pub fn vlan_id() -> impl Strategy<Value = VlanId> {
    (1..=4094_u16).prop_map(|n| VlanId::try_from(n).expect("a VLAN by its range"))
}

/// Any set of VLANs.
pub fn vlan_set() -> impl Strategy<Value = VlanSet> {
    // Bounds in pairs, ascending and each once, so no two ranges meet.
    btree_set(1..=4094_u16, 1..12).prop_map(|bounds| {
        let bounds: Vec<u16> = bounds.into_iter().collect();
        let ranges: Vec<VlanRange> = bounds
            .chunks(2)
            .map(|pair| match pair {
                [first, last] => read(json!(format!("{first}-{last}"))),
                rest => read(json!(rest[0])),
            })
            .collect();
        VlanSet::try_from(ranges).expect("ascending and disjoint by construction")
    })
}

/// Any VLAN setting of a port.
pub fn vlan() -> impl Strategy<Value = Vlan> {
    prop_oneof![
        1 => Just(Vlan::Untagged),
        3 => vlan_id().prop_map(Vlan::Access),
        2 => (vlan_set(), option::of(vlan_id()))
            .prop_map(|(vlans, native)| Vlan::Trunk(Trunk { vlans, native })),
        1 => vlan_id().prop_map(Vlan::Private),
    ]
}

/// Up to three private VLANs.
pub fn private_vlans() -> impl Strategy<Value = PrivateVlans> {
    vec((btree_set(1..=1_000_u16, 1..5), any::<bool>()), 0..3).prop_map(|entries| {
        // Each entry has numbers of its own, so no VLAN gets two roles.
        let own = |entry: usize, n: u16| json!(1_000 * entry + usize::from(n));
        let trees: Vec<Value> = entries
            .iter()
            .enumerate()
            .map(|(entry, (numbers, isolated))| {
                let mut numbers = numbers.iter().map(|n| own(entry, *n));
                let mut tree = json!({ "primary": numbers.next() });
                if *isolated && let Some(vlan) = numbers.next() {
                    tree["isolated"] = vlan;
                }
                tree["communities"] = numbers.collect();
                tree
            })
            .collect();
        read(Value::Array(trees))
    })
}

/// Any MTU.
pub fn mtu() -> impl Strategy<Value = Mtu> {
    (576..=9216_u16).prop_map(|bytes| read(json!(bytes)))
}

/// Any MAC address that a vNIC can have.
pub fn mac() -> impl Strategy<Value = MacAddr> {
    any::<[u8; 6]>().prop_filter_map("unicast", |mut bytes| {
        bytes[0] &= 0xfe;
        let pairs: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        pairs.join(":").parse().ok()
    })
}

fn network() -> impl Strategy<Value = IpNet> {
    let net = |address: IpAddr, length| {
        IpNet::new(address, length)
            .expect("the length fits by its range")
            .trunc()
    };
    prop_oneof![
        (any::<Ipv4Addr>(), 0..=32_u8).prop_map(move |(a, length)| net(a.into(), length)),
        (any::<Ipv6Addr>(), 0..=128_u8).prop_map(move |(a, length)| net(a.into(), length)),
    ]
}

/// Any restriction of addresses.
pub fn addresses() -> impl Strategy<Value = AddressList> {
    prop_oneof![
        Just(AddressList::Any),
        btree_set(network(), 0..4).prop_map(|nets| AddressList::Only(nets.into_iter().collect())),
    ]
}

fn kilo() -> impl Strategy<Value = NonZeroU32> {
    (1..=u32::MAX).prop_filter_map("not zero", NonZeroU32::new)
}

/// Any token bucket.
pub fn rate() -> impl Strategy<Value = Rate> {
    (kilo(), kilo(), kilo()).prop_map(|(a, b, burst_kib)| Rate {
        average_kbps: a.min(b),
        peak_kbps: a.max(b),
        burst_kib,
    })
}

/// Any limit.
pub fn shaping_limit() -> impl Strategy<Value = ShapingLimit> {
    prop_oneof![
        1 => Just(ShapingLimit::Unlimited),
        3 => rate().prop_map(ShapingLimit::Rate),
    ]
}

/// Accept or reject.
pub fn verdict() -> impl Strategy<Value = Verdict> {
    select(vec![Verdict::Accept, Verdict::Reject])
}

/// Any direction.
pub fn direction() -> impl Strategy<Value = Direction> {
    select(vec![Direction::Ingress, Direction::Egress, Direction::Both])
}

record!(
    /// Any security policy.
    security: Security {
        promiscuous: option::of(verdict()),
        mac_changes: option::of(verdict()),
        forged_transmits: option::of(verdict()),
        reserved_multicast: option::of(verdict()),
        allowed_addresses: option::of(addresses()),
    }
);

record!(
    /// Any rate limits.
    shaping: Shaping {
        ingress: option::of(shaping_limit()),
        egress: option::of(shaping_limit()),
    }
);

record!(
    /// Any layer of policy.
    policy: Policy {
        vlan: option::of(vlan()),
        security: security(),
        shaping: shaping(),
        blocked: option::of(any::<bool>()),
    }
);

/// Any set of policy fields.
pub fn policy_fields() -> impl Strategy<Value = BTreeSet<PolicyField>> {
    btree_set(select(PolicyField::ALL.to_vec()), 0..PolicyField::ALL.len())
}
