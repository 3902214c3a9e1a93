// SPDX-License-Identifier: Apache-2.0
//! A copy of some tables, kept up to date by the server's notifications
//! (ovsdb-server(7), "Update2 notification").

use std::collections::{BTreeMap, btree_map};
use std::sync::Arc;

use serde_json::{Map as Object, Value};
use uuid::Uuid;

use crate::atom::{ValueError, quote};
use crate::datum::Datum;
use crate::row::Row;
use crate::schema::{ColumnType, Columns};

/// Tables and their rows, as far as they are monitored.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cache {
    tables: BTreeMap<Arc<str>, Table>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Table {
    columns: Columns,
    rows: BTreeMap<Uuid, Row>,
}

/// A row that came, changed or went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowChange {
    /// Its table.
    pub table: Arc<str>,
    /// Its id.
    pub uuid: Uuid,
    /// What it was; none if it came.
    pub old: Option<Row>,
    /// What it is; none if it went.
    pub new: Option<Row>,
}

/// The server says something that can't be about what we hold; only a fresh
/// copy helps.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    /// A table or column that was not asked for.
    #[error("the server tells of {0}, which was not asked for")]
    Unasked(String),
    /// A row that isn't there changed or went, or one that is came.
    #[error("the server tells that row {uuid} of {table} {what}")]
    Contradiction {
        /// The table.
        table: Arc<str>,
        /// The row.
        uuid: Uuid,
        /// What is said to have happened.
        what: &'static str,
    },
    /// Not the shape of an update.
    #[error("an update can't be read: {0}")]
    Shape(String),
    /// A value is none of its column's.
    #[error("column {column} of {table} can't be read")]
    Value {
        /// The table.
        table: Arc<str>,
        /// The column.
        column: String,
        /// What is wrong.
        #[source]
        source: ValueError,
    },
}

impl Cache {
    /// Empty tables with these columns.
    #[must_use]
    pub fn new(tables: BTreeMap<Arc<str>, Columns>) -> Self {
        let tables = tables.into_iter().map(|(name, columns)| {
            let rows = BTreeMap::new();
            (name, Table { columns, rows })
        });
        Self {
            tables: tables.collect(),
        }
    }

    /// The rows of a table by id; none if it isn't monitored.
    #[must_use]
    pub fn table(&self, table: &str) -> &BTreeMap<Uuid, Row> {
        static NONE: BTreeMap<Uuid, Row> = BTreeMap::new();
        self.tables.get(table).map_or(&NONE, |table| &table.rows)
    }

    /// A row.
    #[must_use]
    pub fn row(&self, table: &str, uuid: Uuid) -> Option<&Row> {
        self.tables.get(table)?.rows.get(&uuid)
    }

    /// Takes in `<table-updates2>`, and answers what changed.
    ///
    /// # Errors
    /// It contradicts the copy, which is of no use then.
    pub fn update(&mut self, updates: Value) -> Result<Vec<RowChange>, CacheError> {
        let mut changes = Vec::new();
        for (name, rows) in object(updates)? {
            let Some((name, table)) = self
                .tables
                .get_key_value(name.as_str())
                .map(|(name, _)| name.clone())
                .and_then(|name| Some((name.clone(), self.tables.get_mut(&name)?)))
            else {
                return Err(CacheError::Unasked(format!("table {name}")));
            };
            for (uuid, update) in object(rows)? {
                let uuid = Uuid::try_parse(&uuid).map_err(|_| CacheError::Shape(uuid))?;
                changes.extend(table.update(&name, uuid, update)?);
            }
        }
        Ok(changes)
    }
}

impl Table {
    fn update(
        &mut self,
        name: &Arc<str>,
        uuid: Uuid,
        update: Value,
    ) -> Result<Option<RowChange>, CacheError> {
        let contradiction = |what| CacheError::Contradiction {
            table: name.clone(),
            uuid,
            what,
        };
        let mut update = object(update)?.into_iter();
        let Some((kind, values)) = update.next() else {
            return Err(CacheError::Shape("a row's update without kind".to_owned()));
        };
        let (old, new) = match kind.as_str() {
            "initial" | "insert" => {
                let row = self.columns.whole(name, values)?;
                if self.rows.insert(uuid, row.clone()).is_some() {
                    return Err(contradiction("came, and it is there already"));
                }
                (None, Some(row))
            }
            "delete" => match self.rows.remove(&uuid) {
                None => return Err(contradiction("went, and it is not there")),
                old => (old, None),
            },
            "modify" => match self.rows.entry(uuid) {
                btree_map::Entry::Vacant(_) => {
                    return Err(contradiction("changed, and it is not there"));
                }
                btree_map::Entry::Occupied(mut held) => {
                    let old = held.get().clone();
                    self.columns.change(name, held.get_mut(), values)?;
                    (Some(old), Some(held.get().clone()))
                }
            },
            other => return Err(CacheError::Shape(format!("a row's update {other:?}"))),
        };
        let change = RowChange {
            table: name.clone(),
            uuid,
            old,
            new,
        };
        Ok((change.old != change.new).then_some(change))
    }
}

/// Reading rows by the types of their columns.
trait Read {
    fn whole(&self, table: &Arc<str>, values: Value) -> Result<Row, CacheError>;
    fn change(&self, table: &Arc<str>, row: &mut Row, values: Value) -> Result<(), CacheError>;
}

impl Read for Columns {
    /// A row that came: columns that aren't named have their defaults.
    fn whole(&self, table: &Arc<str>, values: Value) -> Result<Row, CacheError> {
        let defaults = self.iter();
        let mut row: Row = defaults
            .map(|(column, kind)| (column.clone(), kind.default_datum()))
            .collect();
        for (column, value) in object(values)? {
            let (column, _, value) = read(self, table, column, value)?;
            row.set(column, value);
        }
        Ok(row)
    }

    /// A row that changed: of what may have many elements come the differences,
    /// of other columns the new value.
    fn change(&self, table: &Arc<str>, row: &mut Row, values: Value) -> Result<(), CacheError> {
        for (column, value) in object(values)? {
            let (column, kind, value) = read(self, table, column, value)?;
            let value = match (row.get(&column), value) {
                (Some(Datum::Set(held)), Datum::Set(by)) if kind.many => {
                    Datum::Set(held.toggled(&by))
                }
                (Some(Datum::Map(held)), Datum::Map(by)) if kind.many => {
                    Datum::Map(held.changed(&by))
                }
                (_, value) => value,
            };
            row.set(column, value);
        }
        Ok(())
    }
}

fn read(
    columns: &Columns,
    table: &Arc<str>,
    column: String,
    value: Value,
) -> Result<(Arc<str>, ColumnType, Datum), CacheError> {
    let Some((name, kind)) = columns.get_key_value(column.as_str()) else {
        return Err(CacheError::Unasked(format!("column {column} of {table}")));
    };
    let value = kind.read(value).map_err(|source| CacheError::Value {
        table: table.clone(),
        column,
        source,
    })?;
    Ok((name.clone(), *kind, value))
}

fn object(value: Value) -> Result<Object<String, Value>, CacheError> {
    match value {
        Value::Object(object) => Ok(object),
        // A deleted row has nothing to say.
        Value::Null => Ok(Object::new()),
        other => Err(CacheError::Shape(quote(&other))),
    }
}
