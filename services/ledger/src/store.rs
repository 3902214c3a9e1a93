// SPDX-License-Identifier: Apache-2.0
//! The ledger itself: load everything at the start, then commit batches.

use std::path::Path;

use dvs_schemas::StoreId;
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition, TableError};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::core::{Table, Writes};
use crate::creation::{create, half_made};
use crate::open::{LedgerSpec, OpenError, absent, builder, failed};

/// The table that says whose ledger this is; every ledger has it.
pub(crate) const META: &str = "meta";
const MARK: &[u8] = b"ledger";

type Definition = TableDefinition<'static, &'static [u8], &'static [u8]>;

/// Whose ledger this is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Mark {
    pub(crate) service: String,
    pub(crate) version: u32,
    pub(crate) id: StoreId,
}

/// One redb file with one writer.
#[derive(Debug)]
pub struct Ledger {
    database: Database,
    spec: LedgerSpec,
    id: StoreId,
}

/// A commit that did not become durable.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// The store failed.
    #[error("the ledger could not commit; check the disk, then start again")]
    Store(#[source] Box<redb::Error>),
    /// A value could not be written.
    #[error("a value for the ledger could not be encoded")]
    Encode(#[source] rmp_serde::encode::Error),
}

/// An entry that can't be read.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The store failed.
    #[error("table {table} could not be read")]
    Store {
        /// The table.
        table: &'static str,
        /// What redb said.
        #[source]
        source: Box<redb::Error>,
    },
    /// The value is not what this version writes.
    #[error("table {table} has an unreadable entry {key:?}")]
    Decode {
        /// The table.
        table: &'static str,
        /// The entry, as text as far as it is.
        key: String,
        /// What is wrong with it.
        #[source]
        source: rmp_serde::decode::Error,
    },
}

fn definition(table: Table) -> Definition {
    TableDefinition::new(table.0)
}

pub(crate) fn read_mark(database: &impl ReadableDatabase) -> Result<Option<Mark>, redb::Error> {
    let read = database.begin_read()?;
    let table = match read.open_table(definition(Table(META))) {
        Ok(table) => table,
        Err(
            TableError::TableDoesNotExist(_)
            | TableError::TableTypeMismatch { .. }
            | TableError::TableIsMultimap(_)
            | TableError::TypeDefinitionChanged { .. },
        ) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    Ok(table
        .get(MARK)?
        .and_then(|value| rmp_serde::from_slice(value.value()).ok()))
}

impl Ledger {
    /// Opens a service's ledger, or makes it.
    ///
    /// # Errors
    /// The file is damaged, another service's, or in use; it is left untouched.
    pub fn open(path: &Path, spec: LedgerSpec) -> Result<Self, OpenError> {
        if absent(path)? {
            return create(path, spec);
        }
        let database = spec.database(path)?;
        // Left by a process that lost the race to make this one. Nothing needs
        // it, and if it stays, the next start tries again.
        let _ = std::fs::remove_file(half_made(path));
        Self::marked(database, spec).map_err(|error| failed(path, error))
    }

    /// A ledger over a database that has its mark, or gets it now.
    pub(crate) fn marked(database: Database, spec: LedgerSpec) -> Result<Self, redb::Error> {
        Self::over(database, spec, || StoreId(Uuid::now_v7()))
    }

    /// A ledger on a storage of the caller's: memory in tests, or one that
    /// loses unsynced writes in the simulation.
    ///
    /// # Errors
    /// The storage fails, or what is in it is no ledger.
    pub fn on_backend(
        backend: impl redb::StorageBackend,
        spec: LedgerSpec,
    ) -> Result<Self, redb::Error> {
        Self::on_backend_as(backend, spec, || StoreId(Uuid::now_v7()))
    }

    /// As [`Self::on_backend`], with the identity that a new ledger gets: a
    /// simulation that is to repeat itself can't have one drawn from the clock.
    ///
    /// # Errors
    /// As [`Self::on_backend`].
    pub fn on_backend_as(
        backend: impl redb::StorageBackend,
        spec: LedgerSpec,
        id: impl FnOnce() -> StoreId,
    ) -> Result<Self, redb::Error> {
        let database = builder().create_with_backend(backend)?;
        Self::over(database, spec, id)
    }

    fn over(
        database: Database,
        spec: LedgerSpec,
        new_id: impl FnOnce() -> StoreId,
    ) -> Result<Self, redb::Error> {
        let id = if let Some(mark) = read_mark(&database)? {
            mark.id
        } else {
            // All tables in one transaction with the mark: what has it is whole.
            let id = new_id();
            let mark = Mark {
                service: spec.service.to_owned(),
                version: spec.version,
                id,
            };
            let bytes = rmp_serde::to_vec_named(&mark)
                .map_err(|e| redb::Error::Io(std::io::Error::other(e)))?;
            let write = database.begin_write()?;
            for table in spec.tables {
                write.open_table(definition(*table))?;
            }
            write
                .open_table(definition(Table(META)))?
                .insert(MARK, bytes.as_slice())?;
            write.commit()?;
            id
        };
        Ok(Self { database, spec, id })
    }

    /// Identity of this ledger, made with the file.
    #[must_use]
    pub fn id(&self) -> StoreId {
        self.id
    }

    /// Every entry of a table, ascending by key.
    ///
    /// # Errors
    /// The store fails, or an entry is not what this version writes.
    pub fn load<V: DeserializeOwned>(&self, table: Table) -> Result<Vec<(Vec<u8>, V)>, LoadError> {
        let store = |source: redb::Error| LoadError::Store {
            table: table.0,
            source: Box::new(source),
        };
        let read = self.database.begin_read().map_err(|e| store(e.into()))?;
        let opened = match read.open_table(definition(table)) {
            Ok(opened) => opened,
            Err(TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
            Err(error) => return Err(store(error.into())),
        };
        let mut entries = Vec::new();
        for entry in opened.iter().map_err(|e| store(e.into()))? {
            let (key, value) = entry.map_err(|e| store(e.into()))?;
            let value =
                rmp_serde::from_slice(value.value()).map_err(|source| LoadError::Decode {
                    table: table.0,
                    key: String::from_utf8_lossy(key.value()).into_owned(),
                    source,
                })?;
            entries.push((key.value().to_vec(), value));
        }
        Ok(entries)
    }

    /// Makes all writes durable as one transaction: all or none. Blocks for
    /// the length of a disk flush.
    ///
    /// # Errors
    /// Nothing was written; the caller's state is ahead of the ledger and must
    /// be thrown away.
    pub fn commit(&self, writes: &Writes) -> Result<(), CommitError> {
        if let Some(error) = &writes.broken {
            return Err(CommitError::Encode(rmp_serde::encode::Error::Syntax(
                error.to_string(),
            )));
        }
        self.write(writes)
            .map_err(|error| CommitError::Store(Box::new(error)))
    }

    fn write(&self, writes: &Writes) -> Result<(), redb::Error> {
        let transaction = self.database.begin_write()?;
        let mut list = writes.list.as_slice();
        // Runs of one table, so that each is opened once per run.
        while let Some(first) = list.first() {
            let run = list
                .iter()
                .position(|write| write.table != first.table)
                .unwrap_or(list.len());
            let (now, rest) = list.split_at(run);
            let mut table = transaction.open_table(definition(first.table))?;
            for write in now {
                match &write.value {
                    Some(value) => table.insert(write.key.as_slice(), value.as_slice())?,
                    None => table.remove(write.key.as_slice())?,
                };
            }
            list = rest;
        }
        transaction.commit()?;
        Ok(())
    }

    /// Whose ledger this is.
    #[must_use]
    pub fn spec(&self) -> LedgerSpec {
        self.spec
    }
}
