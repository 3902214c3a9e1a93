// SPDX-License-Identifier: Apache-2.0
//! The publisher's state as it is in the ledger. Everything else that it knows
//! in the end follows from this or comes from the hosts.

use std::collections::BTreeMap;

use dvs_ledger::{Ledger, Table};
use dvs_schemas::v1::Versioned;
use dvs_schemas::{HostName, MirrorSessionDoc, PortGroupDoc, Revision, SwitchDoc, SwitchName};
use serde::de::DeserializeOwned;
use uuid::Uuid;

use crate::changes::{Object, Placed};
use crate::config::Config;
use crate::fleet::{Fleet, HostEntry};
use crate::history::History;
use crate::ledger::{
    DELETED, GROUPS, HOSTS, MIRRORS, PENDING, PORTS, PortEntry, REVISION, STORE, SWITCHES, WANTED,
};
use crate::record::{PushId, Record};

/// A ledger whose contents can't be used.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The ledger can't be read.
    #[error(transparent)]
    Ledger(#[from] dvs_ledger::LoadError),
    /// A key is none that this version writes.
    #[error("table {table} has an entry with the unreadable key {key:?}")]
    Key {
        /// The table.
        table: &'static str,
        /// The key, as text as far as it is.
        key: String,
    },
}

/// What a ledger holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    /// Who numbered the commits.
    pub history: History,
    /// The configuration, with its indices.
    pub config: Config,
    /// The hosts.
    pub fleet: Fleet,
    /// What is owed to hosts.
    pub pending: BTreeMap<PushId, Record>,
}

fn unreadable(table: Table, key: &[u8]) -> LoadError {
    LoadError::Key {
        table: table.0,
        key: String::from_utf8_lossy(key).into_owned(),
    }
}

fn values<V: DeserializeOwned>(
    ledger: &Ledger,
    table: Table,
) -> Result<impl Iterator<Item = V>, LoadError> {
    Ok(ledger.load::<V>(table)?.into_iter().map(|(_, value)| value))
}

/// Reads all of it, for a run of the publisher.
///
/// # Errors
/// An entry is not what this version writes.
pub fn load(ledger: &Ledger, run: Uuid) -> Result<Loaded, LoadError> {
    let entry = values(ledger, STORE)?.next();
    let history = History::load(ledger.id(), entry, run);
    let mut config = Config::of(history.store());
    for Versioned { revision, value } in values::<Versioned<SwitchDoc>>(ledger, SWITCHES)? {
        config.put(revision, Object::Switch(value));
    }
    for Versioned { revision, value } in values::<Versioned<PortGroupDoc>>(ledger, GROUPS)? {
        config.put(revision, Object::PortGroup(value));
    }
    for port in values::<PortEntry>(ledger, PORTS)? {
        let PortEntry {
            revision,
            epoch,
            document,
        } = port;
        config.put(revision, Object::Port(Placed { document, epoch }));
    }
    for Versioned { revision, value } in values::<Versioned<MirrorSessionDoc>>(ledger, MIRRORS)? {
        config.put(revision, Object::MirrorSession(value));
    }
    for (key, revision) in ledger.load::<Revision>(WANTED)? {
        want(&mut config, &key, revision).ok_or_else(|| unreadable(WANTED, &key))?;
    }
    for (key, revision) in ledger.load::<Revision>(REVISION)? {
        match text(&key) {
            Some("") => config.set_revision(revision),
            Some(DELETED) => config.set_deleted(revision),
            Some(_) | None => return Err(unreadable(REVISION, &key)),
        }
    }
    let mut hosts = Vec::new();
    for (key, entry) in ledger.load::<HostEntry>(HOSTS)? {
        let name: Option<HostName> = text(&key).and_then(|name| name.parse().ok());
        hosts.push((name.ok_or_else(|| unreadable(HOSTS, &key))?, entry));
    }
    let mut pending = BTreeMap::new();
    for (key, record) in ledger.load::<Record>(PENDING)? {
        let id = <[u8; 8]>::try_from(key.as_slice());
        let id = id.map_err(|_| unreadable(PENDING, &key))?;
        pending.insert(PushId(u64::from_be_bytes(id)), record);
    }
    let fleet = Fleet::load(hosts, history.as_of(config.revision()));
    Ok(Loaded {
        history,
        config,
        fleet,
        pending,
    })
}

fn text(key: &[u8]) -> Option<&str> {
    std::str::from_utf8(key).ok()
}

fn want(config: &mut Config, key: &[u8], revision: Revision) -> Option<()> {
    let key = text(key)?;
    match key.split_once('/') {
        None => config.want(&key.parse::<SwitchName>().ok()?, revision),
        Some((switch, host)) => {
            config.want_on(&switch.parse().ok()?, &host.parse().ok()?, revision);
        }
    }
    Some(())
}
