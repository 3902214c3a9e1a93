// SPDX-License-Identifier: Apache-2.0
//! Single values (`<atom>` of RFC 7047 §5.1).

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};

use serde::ser::{Serialize, Serializer};
use serde_json::Value;
use uuid::Uuid;

/// One value of a column.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Atom {
    /// True or false.
    Boolean(bool),
    /// An integer of 64 bits.
    Integer(i64),
    /// A real number.
    Real(Real),
    /// Text.
    String(Box<str>),
    /// A row's id.
    Uuid(Uuid),
    /// A row that the same transaction inserts. Only in what is sent; a server
    /// never answers with it.
    Named(RowName),
}

/// The kinds of atoms that a column may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AtomType {
    /// True or false.
    Boolean,
    /// An integer of 64 bits.
    Integer,
    /// A real number.
    Real,
    /// Text.
    String,
    /// A row's id.
    Uuid,
}

impl AtomType {
    /// What a column without another value holds (RFC 7047 §5.2.1).
    #[must_use]
    pub fn default_atom(self) -> Atom {
        match self {
            Self::Boolean => Atom::Boolean(false),
            Self::Integer => Atom::Integer(0),
            Self::Real => Atom::Real(Real(0.0)),
            Self::String => Atom::String("".into()),
            Self::Uuid => Atom::Uuid(Uuid::nil()),
        }
    }
}

impl fmt::Display for AtomType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Boolean => "boolean",
            Self::Integer => "integer",
            Self::Real => "real",
            Self::String => "string",
            Self::Uuid => "uuid",
        })
    }
}

/// A finite number, so that it has a JSON form, an order and equality. Minus
/// zero is zero.
#[derive(Clone, Copy, Debug)]
pub struct Real(f64);

impl Real {
    /// A number, unless it is infinite or none.
    #[must_use]
    pub fn new(number: f64) -> Option<Self> {
        // Adding zero turns minus zero into zero.
        number.is_finite().then_some(Self(number + 0.0))
    }

    /// The number.
    #[must_use]
    pub fn get(self) -> f64 {
        self.0
    }
}

impl PartialEq for Real {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Real {}

impl PartialOrd for Real {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Real {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.total_cmp(&other.0)
    }
}

impl Hash for Real {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.to_bits().hash(state);
    }
}

/// The name of a row within the transaction that inserts it. Numbered, since
/// names must be identifiers (RFC 7047 §3.1) and mean nothing afterwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RowName(u32);

impl RowName {
    /// The name with a number, which must be the row's own in its transaction.
    #[must_use]
    pub fn numbered(number: u32) -> Self {
        Self(number)
    }
}

impl fmt::Display for RowName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "row{}", self.0)
    }
}

impl Serialize for RowName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Serialize for Atom {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Boolean(value) => serializer.serialize_bool(*value),
            Self::Integer(value) => serializer.serialize_i64(*value),
            Self::Real(value) => serializer.serialize_f64(value.0),
            Self::String(value) => serializer.serialize_str(value),
            Self::Uuid(value) => ("uuid", value).serialize(serializer),
            Self::Named(value) => ("named-uuid", value).serialize(serializer),
        }
    }
}

/// Why JSON is no value of OVSDB.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ValueError {
    /// A number that is neither an integer of 64 bits nor finite.
    #[error("{0} is out of the range of numbers")]
    Number(String),
    /// An id that is none.
    #[error("{0:?} is no UUID")]
    Uuid(String),
    /// Something else than an atom, a set or a map.
    #[error("{0} is no value")]
    Shape(String),
    /// A set or a map has an element twice.
    #[error("a set or map has {0} twice")]
    Twice(String),
    /// The value doesn't have its column's type.
    #[error("{value} is no {expected}")]
    Type {
        /// The value.
        value: String,
        /// The column's type.
        expected: String,
    },
}

/// JSON cut short, for an error's text.
pub(crate) fn quote(json: &Value) -> String {
    let mut text = json.to_string();
    if let Some((end, _)) = text.char_indices().nth(80) {
        text.truncate(end);
        text.push('…');
    }
    text
}

impl Atom {
    /// Reads `<atom>`. A real number without fraction is read as an integer,
    /// as the server writes it so.
    ///
    /// # Errors
    /// It is no atom, or one that a server never sends.
    pub fn from_json(json: Value) -> Result<Self, ValueError> {
        match json {
            Value::Bool(value) => Ok(Self::Boolean(value)),
            Value::String(text) => Ok(Self::String(text.into())),
            Value::Number(number) => number
                .as_i64()
                .map(Self::Integer)
                .or_else(|| {
                    let real = number.is_f64().then(|| number.as_f64()).flatten()?;
                    Real::new(real).map(Self::Real)
                })
                .ok_or_else(|| ValueError::Number(number.to_string())),
            Value::Array(pair) => match pair.as_slice() {
                [Value::String(tag), Value::String(text)] if tag == "uuid" => Uuid::try_parse(text)
                    .map(Self::Uuid)
                    .map_err(|_| ValueError::Uuid(text.clone())),
                _ => Err(ValueError::Shape(quote(&Value::Array(pair)))),
            },
            other @ (Value::Null | Value::Object(_)) => Err(ValueError::Shape(quote(&other))),
        }
    }

    /// The text of a string.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        if let Self::String(text) = self {
            Some(text)
        } else {
            None
        }
    }

    /// The number of an integer.
    #[must_use]
    pub fn as_integer(&self) -> Option<i64> {
        if let Self::Integer(value) = self {
            Some(*value)
        } else {
            None
        }
    }

    /// The value of a boolean.
    #[must_use]
    pub fn as_bool(&self) -> Option<bool> {
        if let Self::Boolean(value) = self {
            Some(*value)
        } else {
            None
        }
    }

    /// A row's id.
    #[must_use]
    pub fn as_uuid(&self) -> Option<Uuid> {
        if let Self::Uuid(value) = self {
            Some(*value)
        } else {
            None
        }
    }

    /// The value of a real number or an integer.
    #[must_use]
    #[expect(
        clippy::cast_precision_loss,
        reason = "it is asked for as a real number"
    )]
    pub fn as_real(&self) -> Option<f64> {
        match self {
            Self::Real(value) => Some(value.0),
            Self::Integer(value) => Some(*value as f64),
            Self::Boolean(_) | Self::String(_) | Self::Uuid(_) | Self::Named(_) => None,
        }
    }

    /// The atom as one of a type; integers become real numbers where those are
    /// asked for.
    pub(crate) fn conform(self, kind: AtomType) -> Result<Self, ValueError> {
        match (self, kind) {
            (atom @ Self::Boolean(_), AtomType::Boolean)
            | (atom @ Self::Integer(_), AtomType::Integer)
            | (atom @ Self::Real(_), AtomType::Real)
            | (atom @ Self::String(_), AtomType::String)
            | (atom @ Self::Uuid(_), AtomType::Uuid) => Ok(atom),
            #[expect(clippy::cast_precision_loss, reason = "it is a real number's value")]
            (Self::Integer(value), AtomType::Real) => Ok(Self::Real(Real(value as f64))),
            (other, kind) => Err(ValueError::Type {
                value: other.to_string(),
                expected: kind.to_string(),
            }),
        }
    }
}

impl fmt::Display for Atom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Boolean(value) => value.fmt(f),
            Self::Integer(value) => value.fmt(f),
            Self::Real(value) => value.0.fmt(f),
            Self::String(value) => fmt::Debug::fmt(value, f),
            Self::Uuid(value) => value.fmt(f),
            Self::Named(value) => value.fmt(f),
        }
    }
}

impl From<bool> for Atom {
    fn from(value: bool) -> Self {
        Self::Boolean(value)
    }
}

impl From<i64> for Atom {
    fn from(value: i64) -> Self {
        Self::Integer(value)
    }
}

impl From<Real> for Atom {
    fn from(value: Real) -> Self {
        Self::Real(value)
    }
}

impl From<&str> for Atom {
    fn from(value: &str) -> Self {
        Self::String(value.into())
    }
}

impl From<String> for Atom {
    fn from(value: String) -> Self {
        Self::String(value.into())
    }
}

impl From<Uuid> for Atom {
    fn from(value: Uuid) -> Self {
        Self::Uuid(value)
    }
}

impl From<RowName> for Atom {
    fn from(value: RowName) -> Self {
        Self::Named(value)
    }
}
