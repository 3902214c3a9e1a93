// SPDX-License-Identifier: Apache-2.0
//! The parts of a database's schema that reading its rows takes (RFC 7047
//! §3.2): the types of columns.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value;

use crate::atom::{AtomType, ValueError};
use crate::datum::{Datum, Map, Set};

/// The columns of a table that are of interest, with their types.
pub type Columns = BTreeMap<Arc<str>, ColumnType>;

/// A database's tables and the types of their columns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schema {
    /// The database's name.
    pub name: String,
    /// The schema's version; none where the server doesn't say.
    pub version: Option<String>,
    /// The tables by name.
    pub tables: BTreeMap<Arc<str>, Columns>,
}

/// A column's type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ColumnType {
    /// What its elements are.
    pub elements: Elements,
    /// Whether the column always has at least one element.
    pub required: bool,
    /// Whether it may have more than one.
    pub many: bool,
}

/// What the elements of a column are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Elements {
    /// Atoms.
    Set(AtomType),
    /// Pairs of atoms: of the key's type and of the value's type.
    Map(AtomType, AtomType),
}

impl ColumnType {
    /// What the column holds where nothing is said (RFC 7047 §5.2.1).
    #[must_use]
    pub fn default_datum(&self) -> Datum {
        let count = usize::from(self.required);
        match self.elements {
            Elements::Set(element) => {
                Datum::set(std::iter::repeat_n(element.default_atom(), count))
            }
            Elements::Map(key, value) => Datum::map(std::iter::repeat_n(
                (key.default_atom(), value.default_atom()),
                count,
            )),
        }
    }

    /// Reads `<value>` of the column. How many elements it has is the server's
    /// concern: differences of a value have other numbers than the value.
    ///
    /// # Errors
    /// It isn't of the column's type.
    pub fn read(&self, json: Value) -> Result<Datum, ValueError> {
        match (Datum::from_json(json)?, self.elements) {
            (Datum::Set(set), Elements::Set(element)) => set
                .into_iter()
                .map(|atom| atom.conform(element))
                .collect::<Result<Set, _>>()
                .map(Datum::Set),
            (Datum::Map(map), Elements::Map(key, value)) => map
                .into_iter()
                .map(|pair| Ok((pair.0.conform(key)?, pair.1.conform(value)?)))
                .collect::<Result<Map, _>>()
                .map(Datum::Map),
            (other @ (Datum::Set(_) | Datum::Map(_)), Elements::Set(_) | Elements::Map(..)) => {
                Err(ValueError::Type {
                    value: other.to_string(),
                    expected: self.to_string(),
                })
            }
        }
    }
}

impl fmt::Display for ColumnType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.elements, self.required, self.many) {
            (Elements::Set(element), true, false) => element.fmt(f),
            (Elements::Set(element), false, false) => write!(f, "optional {element}"),
            (Elements::Set(element), true | false, true) => write!(f, "set of {element}"),
            (Elements::Map(key, value), true | false, true | false) => {
                write!(f, "map of {key} to {value}")
            }
        }
    }
}

/// Why a schema can't be read.
#[derive(Debug, thiserror::Error)]
#[error("the database's schema can't be read")]
pub struct SchemaError(#[from] serde_json::Error);

#[derive(Deserialize)]
struct RawSchema {
    name: String,
    version: Option<String>,
    tables: BTreeMap<Arc<str>, RawTable>,
}

#[derive(Deserialize)]
struct RawTable {
    columns: BTreeMap<Arc<str>, RawColumn>,
}

#[derive(Deserialize)]
struct RawColumn {
    #[serde(rename = "type")]
    kind: RawType,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum RawType {
    Plain(RawAtomType),
    Full {
        key: RawBase,
        value: Option<RawBase>,
        min: Option<u64>,
        max: Option<RawMax>,
    },
}

#[derive(Deserialize)]
#[serde(untagged)]
enum RawBase {
    Plain(RawAtomType),
    Full {
        #[serde(rename = "type")]
        kind: RawAtomType,
    },
}

#[derive(Deserialize)]
#[serde(untagged)]
enum RawMax {
    Count(u64),
    Word(RawUnlimited),
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum RawUnlimited {
    Unlimited,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum RawAtomType {
    Boolean,
    Integer,
    Real,
    String,
    Uuid,
}

impl From<RawAtomType> for AtomType {
    fn from(raw: RawAtomType) -> Self {
        match raw {
            RawAtomType::Boolean => Self::Boolean,
            RawAtomType::Integer => Self::Integer,
            RawAtomType::Real => Self::Real,
            RawAtomType::String => Self::String,
            RawAtomType::Uuid => Self::Uuid,
        }
    }
}

impl From<RawBase> for AtomType {
    fn from(raw: RawBase) -> Self {
        match raw {
            RawBase::Plain(kind) | RawBase::Full { kind } => kind.into(),
        }
    }
}

impl From<RawType> for ColumnType {
    fn from(raw: RawType) -> Self {
        match raw {
            RawType::Plain(kind) => Self {
                elements: Elements::Set(kind.into()),
                required: true,
                many: false,
            },
            RawType::Full {
                key,
                value,
                min,
                max,
            } => Self {
                elements: match value {
                    Some(value) => Elements::Map(key.into(), value.into()),
                    None => Elements::Set(key.into()),
                },
                required: min.unwrap_or(1) > 0,
                many: match max {
                    None => false,
                    Some(RawMax::Count(count)) => count > 1,
                    Some(RawMax::Word(RawUnlimited::Unlimited)) => true,
                },
            },
        }
    }
}

impl Schema {
    /// Reads `<database-schema>`, the reply to `get_schema`.
    ///
    /// # Errors
    /// It is none.
    pub fn from_json(json: Value) -> Result<Self, SchemaError> {
        let raw = RawSchema::deserialize(json)?;
        let tables = raw.tables.into_iter().map(|(name, table)| {
            let columns = table
                .columns
                .into_iter()
                .map(|(column, raw)| (column, raw.kind.into()));
            (name, columns.collect())
        });
        Ok(Self {
            name: raw.name,
            version: raw.version,
            tables: tables.collect(),
        })
    }
}
