// SPDX-License-Identifier: Apache-2.0
//! The tables: the state held, an entry per object, so that a changed port
//! group costs each host one small write; and what its ports have counted. One
//! ledger serves all hosts of the process; keys begin with the host:
//! `host/switch/object`, `host/port/epoch`, `host/port`.

use std::collections::{BTreeMap, BTreeSet};

use dvs_ledger::{Ledger, LedgerSpec, Table, Writes};
use dvs_schemas::v1::{
    CountersOf, MirrorState, PortGroupState, PortState, Run, SwitchState, Versioned,
};
use dvs_schemas::{Epoch, HostName, PortId, Revision, StoreId, SwitchName, VnicId};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::admit::Touched;
use crate::held::{HeldSwitch, Object};
use crate::uplinks::Change;

/// Store, floor and settings of a switch.
const SWITCHES: Table = Table("switches");
/// Port groups. A table of their own: a fan-out rewrites one entry per host,
/// and they lie close together here.
const GROUPS: Table = Table("groups");
/// Mirror sessions.
const MIRRORS: Table = Table("mirrors");
/// Ports.
const PORTS: Table = Table("ports");
/// Objects removed since the floor.
const TOMBSTONES: Table = Table("tombstones");
/// What placements have come to, as far as anybody was told.
const COUNTERS: Table = Table("counters");
/// Ports whose interfaces were there.
const PLUGS: Table = Table("plugs");
/// Changes that are on trial, or were rolled back.
const CHANGES: Table = Table("changes");

/// The agent's ledger.
pub const SPEC: LedgerSpec = LedgerSpec {
    service: "host-agent",
    version: 1,
    tables: &[
        SWITCHES, GROUPS, MIRRORS, PORTS, TOMBSTONES, COUNTERS, PLUGS, CHANGES,
    ],
};

/// Names can't hold it, so keys are unambiguous.
const SEPARATOR: char = '/';

/// What is held per switch.
pub type HeldSwitches = BTreeMap<SwitchName, HeldSwitch>;

/// What is kept of one host.
#[derive(Debug, Default)]
pub struct Kept {
    /// What it holds.
    pub switches: HeldSwitches,
    /// What its placements have come to.
    pub counters: Vec<(SwitchName, CountersOf)>,
    /// What was plugged in.
    pub plugs: Vec<KeptPlug>,
    /// Changes that are on trial, or were rolled back.
    pub changes: Vec<(SwitchName, Change)>,
}

/// What is kept of an interface that is plugged in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptPlug {
    /// The port that it is.
    pub port: PortId,
    /// The vNIC that it said it is.
    pub vnic: Option<VnicId>,
    /// Whether the port was given to another host, where the machine runs, and
    /// the machine was not heard of here since.
    #[serde(default)]
    pub is_elsewhere: bool,
}

#[derive(Debug, Serialize, Deserialize)]
struct SwitchEntry {
    store: StoreId,
    #[serde(default)]
    run: Option<Run>,
    floor: Revision,
    settings: Option<Versioned<SwitchState>>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Tombstone {
    object: Object,
    revision: Revision,
}

/// The ledger can't be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// A table can't be read.
    #[error(transparent)]
    Table(#[from] dvs_ledger::LoadError),
    /// A key is none of ours.
    #[error("table {table} has an entry {key:?} that no version of host-agent writes")]
    Key {
        /// The table.
        table: &'static str,
        /// The key, as text as far as it is.
        key: String,
    },
    /// It is other hosts'.
    #[error(
        "it is the ledger of host {known}, and this agent is {host}: what {known} has would be \
         nobody's. Start it with --host {known}; or, if this is another host from now on, move \
         the ledger away"
    )]
    OtherHost {
        /// One that the ledger knows.
        known: String,
        /// One that it does not know.
        host: HostName,
    },
    /// An object of a switch that is not there.
    #[error("table {table} has an entry {key:?} of a switch that table switches doesn't have")]
    Orphan {
        /// The table.
        table: &'static str,
        /// The key.
        key: String,
    },
}

/// Loads what is kept of these hosts; entries of other hosts stay where they
/// are, as some replicas may be left out.
///
/// # Errors
/// [`LoadError`].
pub fn load(
    ledger: &Ledger,
    hosts: &BTreeSet<HostName>,
) -> Result<BTreeMap<HostName, Kept>, LoadError> {
    belongs(ledger, hosts)?;
    let mut all: BTreeMap<HostName, Kept> = BTreeMap::new();
    for (key, entry) in ledger.load::<SwitchEntry>(SWITCHES)? {
        let (host, switch) = owner(SWITCHES, &key)?;
        let SwitchEntry {
            store,
            run,
            floor,
            settings,
        } = entry;
        let held = HeldSwitch {
            run,
            floor,
            settings,
            ..HeldSwitch::blank(store)
        };
        if let Some(host) = hosts.get(host) {
            let kept = all.entry(host.clone()).or_default();
            kept.switches.insert(switch, held);
        }
    }
    let mut loading = Loading {
        ledger,
        hosts,
        all: &mut all,
    };
    loading.objects(GROUPS, |held, group: Versioned<PortGroupState>| {
        held.groups.insert(group.value.name.clone(), group);
    })?;
    loading.objects(MIRRORS, |held, mirror: Versioned<MirrorState>| {
        held.mirrors.insert(mirror.value.name.clone(), mirror);
    })?;
    loading.objects(PORTS, |held, port: Versioned<PortState>| {
        held.ports.insert(port.value.id.clone(), port);
    })?;
    loading.objects(TOMBSTONES, |held, tombstone: Tombstone| {
        held.tombstones.insert(tombstone.object, tombstone.revision);
    })?;
    for (key, counted) in ledger.load::<(SwitchName, CountersOf)>(COUNTERS)? {
        if let Some(host) = hosts.get(host_of(COUNTERS, &key)?) {
            let kept = all.entry(host.clone()).or_default();
            kept.counters.push(counted);
        }
    }
    for (key, plug) in ledger.load::<KeptPlug>(PLUGS)? {
        if let Some(host) = hosts.get(host_of(PLUGS, &key)?) {
            let kept = all.entry(host.clone()).or_default();
            kept.plugs.push(plug);
        }
    }
    for (key, change) in ledger.load::<Change>(CHANGES)? {
        let (host, switch) = owner(CHANGES, &key)?;
        if let Some(host) = hosts.get(host) {
            let kept = all.entry(host.clone()).or_default();
            kept.changes.push((switch, change));
        }
    }
    Ok(all)
}

/// Refuses a ledger that knows other hosts and none of these.
fn belongs(ledger: &Ledger, hosts: &BTreeSet<HostName>) -> Result<(), LoadError> {
    let mut other = None;
    for table in [SWITCHES, COUNTERS, PLUGS] {
        for (key, _) in ledger.load::<serde::de::IgnoredAny>(table)? {
            let known = host_of(table, &key)?;
            if hosts.contains(known) {
                return Ok(());
            }
            other.get_or_insert_with(|| known.to_owned());
        }
    }
    match (other, hosts.first()) {
        (Some(known), Some(host)) => Err(LoadError::OtherHost {
            known,
            host: host.clone(),
        }),
        (Some(_) | None, _) => Ok(()),
    }
}

struct Loading<'a> {
    ledger: &'a Ledger,
    hosts: &'a BTreeSet<HostName>,
    all: &'a mut BTreeMap<HostName, Kept>,
}

impl Loading<'_> {
    fn objects<V: DeserializeOwned>(
        &mut self,
        table: Table,
        insert: impl Fn(&mut HeldSwitch, V),
    ) -> Result<(), LoadError> {
        for (key, value) in self.ledger.load::<V>(table)? {
            let (host, switch) = owner(table, &key)?;
            if !self.hosts.contains(host) {
                continue;
            }
            let held = self
                .all
                .get_mut(host)
                .and_then(|kept| kept.switches.get_mut(&switch));
            match held {
                Some(held) => insert(held, value),
                None => {
                    return Err(LoadError::Orphan {
                        table: table.0,
                        key: String::from_utf8_lossy(&key).into_owned(),
                    });
                }
            }
        }
        Ok(())
    }
}

/// The host and the switch of an entry.
fn owner(table: Table, key: &[u8]) -> Result<(&str, SwitchName), LoadError> {
    let parse = || {
        let mut parts = std::str::from_utf8(key).ok()?.split(SEPARATOR);
        Some((parts.next()?, parts.next()?.parse().ok()?))
    };
    parse().ok_or_else(|| foreign(table, key))
}

/// The host of an entry.
fn host_of(table: Table, key: &[u8]) -> Result<&str, LoadError> {
    let parse = || Some(std::str::from_utf8(key).ok()?.split_once(SEPARATOR)?.0);
    parse().ok_or_else(|| foreign(table, key))
}

fn foreign(table: Table, key: &[u8]) -> LoadError {
    LoadError::Key {
        table: table.0,
        key: String::from_utf8_lossy(key).into_owned(),
    }
}

/// Writes what a message touched, as it is held now.
pub fn write(
    host: &HostName,
    switch: &SwitchName,
    held: &HeldSwitch,
    touched: &Touched,
    writes: &mut Writes,
) {
    if touched.switch {
        let entry = SwitchEntry {
            store: held.store,
            run: held.run,
            floor: held.floor,
            settings: held.settings.clone(),
        };
        writes.put(SWITCHES, format!("{host}{SEPARATOR}{switch}"), &entry);
    }
    let key = |name: &str| format!("{host}{SEPARATOR}{switch}{SEPARATOR}{name}");
    for (object, _) in &touched.objects {
        match object {
            Object::Group(name) => put(writes, GROUPS, key(name.as_str()), held.groups.get(name)),
            Object::Mirror(name) => {
                put(writes, MIRRORS, key(name.as_str()), held.mirrors.get(name));
            }
            Object::Port(name) => put(writes, PORTS, key(name.as_str()), held.ports.get(name)),
        }
    }
    for object in &touched.tombstones {
        let kind = match object {
            Object::Group(_) => "group",
            Object::Mirror(_) => "mirror",
            Object::Port(_) => "port",
        };
        let key = key(&format!("{kind}{SEPARATOR}{}", object.name()));
        let tombstone = held.tombstones.get(object).map(|revision| Tombstone {
            object: object.clone(),
            revision: *revision,
        });
        put(writes, TOMBSTONES, key, tombstone.as_ref());
    }
}

/// Writes what a placement has come to, or that nobody needs it any more.
pub(crate) fn write_counters(
    host: &HostName,
    port: &PortId,
    epoch: Epoch,
    counted: Option<&(SwitchName, CountersOf)>,
    writes: &mut Writes,
) {
    let key = format!("{host}{SEPARATOR}{port}{SEPARATOR}{epoch}");
    put(writes, COUNTERS, key, counted);
}

/// Writes that a port is plugged in, or is no more.
pub(crate) fn write_plug(
    host: &HostName,
    port: &PortId,
    plugged: Option<&KeptPlug>,
    writes: &mut Writes,
) {
    let key = format!("{host}{SEPARATOR}{port}");
    put(writes, PLUGS, key, plugged);
}

/// Writes what became of a change of a switch's bridge, or of a port of it; none
/// if it is known to be good, or nobody asks for it any more.
pub(crate) fn write_change(
    host: &HostName,
    (switch, port): (&SwitchName, Option<&PortId>),
    change: Option<&Change>,
    writes: &mut Writes,
) {
    let port = port.map(|port| format!("{SEPARATOR}{port}"));
    let key = format!("{host}{SEPARATOR}{switch}{}", port.unwrap_or_default());
    put(writes, CHANGES, key, change);
}

fn put<V: Serialize>(writes: &mut Writes, table: Table, key: String, value: Option<&V>) {
    match value {
        Some(value) => writes.put(table, key, value),
        None => writes.delete(table, key),
    }
}
