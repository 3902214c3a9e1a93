// SPDX-License-Identifier: Apache-2.0
//! Values of columns (`<value>` of RFC 7047 §5.1): sets and maps, equal
//! whatever the order of their elements is.

use std::fmt;

use serde::ser::{Serialize, Serializer};
use serde_json::Value;
use uuid::Uuid;

use crate::atom::{Atom, ValueError, quote};

/// A column's value. A single value is a set of one, as RFC 7047 has it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Datum {
    /// A set; a plain value is a set of one.
    Set(Set),
    /// A map.
    Map(Map),
}

/// Atoms, each once, in order. A sorted list instead of a tree, since nearly
/// all sets have one element and a database has hundreds of thousands.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Set(Vec<Atom>);

/// Pairs of atoms, each key once, in order of the keys.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Map(Vec<(Atom, Atom)>);

impl Set {
    /// The elements.
    pub fn iter(&self) -> std::slice::Iter<'_, Atom> {
        self.0.iter()
    }

    /// Whether an atom is in it.
    #[must_use]
    pub fn contains(&self, atom: &Atom) -> bool {
        self.0.binary_search(atom).is_ok()
    }

    /// Number of elements.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether it has no elements.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The element, if there is exactly one.
    #[must_use]
    pub fn single(&self) -> Option<&Atom> {
        match self.0.as_slice() {
            [atom] => Some(atom),
            _ => None,
        }
    }

    /// The set after a difference: what is in exactly one of both
    /// (ovsdb-server(7), "Update2 notification").
    #[must_use]
    pub fn toggled(&self, difference: &Self) -> Self {
        let stays = self.iter().filter(|atom| !difference.contains(atom));
        let comes = difference.iter().filter(|atom| !self.contains(atom));
        stays.chain(comes).cloned().collect()
    }
}

impl Map {
    /// The pairs.
    pub fn iter(&self) -> std::slice::Iter<'_, (Atom, Atom)> {
        self.0.iter()
    }

    /// The value of a key.
    #[must_use]
    pub fn get(&self, key: &Atom) -> Option<&Atom> {
        let at = self.0.binary_search_by(|(held, _)| held.cmp(key)).ok()?;
        self.0.get(at).map(|(_, value)| value)
    }

    /// Number of pairs.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether it has no pairs.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The map after a difference: a pair that is there goes, another value
    /// replaces, a key that isn't there comes (ovsdb-server(7), "Update2
    /// notification").
    #[must_use]
    pub fn changed(&self, difference: &Self) -> Self {
        let stays = self.iter().filter(|(key, _)| difference.get(key).is_none());
        let comes = difference
            .iter()
            .filter(|(key, value)| self.get(key) != Some(value));
        stays.chain(comes).cloned().collect()
    }
}

impl<A: Into<Atom>> FromIterator<A> for Set {
    fn from_iter<I: IntoIterator<Item = A>>(atoms: I) -> Self {
        let mut atoms: Vec<_> = atoms.into_iter().map(Into::into).collect();
        atoms.sort_unstable();
        atoms.dedup();
        Self(atoms)
    }
}

impl<K: Into<Atom>, V: Into<Atom>> FromIterator<(K, V)> for Map {
    /// Of two values for one key the last one counts.
    fn from_iter<I: IntoIterator<Item = (K, V)>>(pairs: I) -> Self {
        let mut pairs: Vec<(Atom, Atom)> = pairs
            .into_iter()
            .map(|(key, value)| (key.into(), value.into()))
            .collect();
        // A stable sort, reversed before: the last of a key is the first of
        // its run, which is the one that stays.
        pairs.reverse();
        pairs.sort_by(|(left, _), (right, _)| left.cmp(right));
        pairs.dedup_by(|(later, _), (kept, _)| later == kept);
        Self(pairs)
    }
}

impl IntoIterator for Set {
    type Item = Atom;
    type IntoIter = std::vec::IntoIter<Atom>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl IntoIterator for Map {
    type Item = (Atom, Atom);
    type IntoIter = std::vec::IntoIter<(Atom, Atom)>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl<'a> IntoIterator for &'a Set {
    type Item = &'a Atom;
    type IntoIter = std::slice::Iter<'a, Atom>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<'a> IntoIterator for &'a Map {
    type Item = &'a (Atom, Atom);
    type IntoIter = std::slice::Iter<'a, (Atom, Atom)>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl Datum {
    /// A set of atoms.
    pub fn set<A: Into<Atom>>(atoms: impl IntoIterator<Item = A>) -> Self {
        Self::Set(atoms.into_iter().collect())
    }

    /// A map. Of two values for one key the last one counts.
    pub fn map<K: Into<Atom>, V: Into<Atom>>(pairs: impl IntoIterator<Item = (K, V)>) -> Self {
        Self::Map(pairs.into_iter().collect())
    }

    /// The set without elements.
    #[must_use]
    pub fn empty() -> Self {
        Self::Set(Set::default())
    }

    /// Whether there are no elements or pairs.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        match self {
            Self::Set(set) => set.is_empty(),
            Self::Map(map) => map.is_empty(),
        }
    }

    /// The set; none for a map.
    #[must_use]
    pub fn as_set(&self) -> Option<&Set> {
        match self {
            Self::Set(set) => Some(set),
            Self::Map(_) => None,
        }
    }

    /// The map; none for a set.
    #[must_use]
    pub fn as_map(&self) -> Option<&Map> {
        match self {
            Self::Set(_) => None,
            Self::Map(map) => Some(map),
        }
    }

    fn single(&self) -> Option<&Atom> {
        self.as_set()?.single()
    }

    /// The text, if the value is exactly one string.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        self.single()?.as_str()
    }

    /// The number, if the value is exactly one integer.
    #[must_use]
    pub fn as_integer(&self) -> Option<i64> {
        self.single()?.as_integer()
    }

    /// The number, if the value is exactly one real number or integer.
    #[must_use]
    pub fn as_real(&self) -> Option<f64> {
        self.single()?.as_real()
    }

    /// True or false, if the value is exactly one of both.
    #[must_use]
    pub fn as_bool(&self) -> Option<bool> {
        self.single()?.as_bool()
    }

    /// The id, if the value is exactly one.
    #[must_use]
    pub fn as_uuid(&self) -> Option<Uuid> {
        self.single()?.as_uuid()
    }

    /// The strings of a set; none of a map.
    pub fn strings(&self) -> impl Iterator<Item = &str> {
        self.as_set().into_iter().flatten().filter_map(Atom::as_str)
    }

    /// The integers of a set; none of a map.
    pub fn integers(&self) -> impl Iterator<Item = i64> {
        self.as_set()
            .into_iter()
            .flatten()
            .filter_map(Atom::as_integer)
    }

    /// The ids of a set; none of a map.
    pub fn uuids(&self) -> impl Iterator<Item = Uuid> {
        self.as_set()
            .into_iter()
            .flatten()
            .filter_map(Atom::as_uuid)
    }

    /// The value of a key in a map from string to string.
    #[must_use]
    pub fn map_get(&self, key: &str) -> Option<&str> {
        self.map_atom(key)?.as_str()
    }

    /// The value of a key in a map from string to integer.
    #[must_use]
    pub fn map_integer(&self, key: &str) -> Option<i64> {
        self.map_atom(key)?.as_integer()
    }

    /// The pairs of a map from string to string; none of a set.
    pub fn map_strings(&self) -> impl Iterator<Item = (&str, &str)> {
        self.as_map()
            .into_iter()
            .flatten()
            .filter_map(|(key, value)| Some((key.as_str()?, value.as_str()?)))
    }

    fn map_atom(&self, key: &str) -> Option<&Atom> {
        self.as_map()?.get(&Atom::from(key))
    }

    /// Reads `<value>` without knowing its column's type: real numbers without
    /// fraction are integers then.
    ///
    /// # Errors
    /// It is no value, or one that a server never sends.
    pub fn from_json(json: Value) -> Result<Self, ValueError> {
        let Value::Array(mut array) = json else {
            return Atom::from_json(json).map(Self::from);
        };
        match array.as_mut_slice() {
            [Value::String(tag), Value::Array(elements)] if tag == "set" => {
                read_set(std::mem::take(elements)).map(Self::Set)
            }
            [Value::String(tag), Value::Array(pairs)] if tag == "map" => {
                read_map(std::mem::take(pairs)).map(Self::Map)
            }
            _ => Atom::from_json(Value::Array(array)).map(Self::from),
        }
    }
}

fn read_set(elements: Vec<Value>) -> Result<Set, ValueError> {
    let mut atoms = elements
        .into_iter()
        .map(Atom::from_json)
        .collect::<Result<Vec<_>, _>>()?;
    atoms.sort_unstable();
    match atoms.windows(2).find(|pair| pair.first() == pair.last()) {
        Some(twice) => Err(ValueError::Twice(
            twice.first().map(ToString::to_string).unwrap_or_default(),
        )),
        None => Ok(Set(atoms)),
    }
}

fn read_map(pairs: Vec<Value>) -> Result<Map, ValueError> {
    let mut read = Vec::with_capacity(pairs.len());
    for pair in pairs {
        let pair: [Value; 2] = match pair {
            Value::Array(pair) => pair
                .try_into()
                .map_err(|pair| ValueError::Shape(quote(&Value::Array(pair))))?,
            other => return Err(ValueError::Shape(quote(&other))),
        };
        let [key, value] = pair;
        read.push((Atom::from_json(key)?, Atom::from_json(value)?));
    }
    read.sort_unstable();
    let twice = |pair: &[(Atom, Atom)]| match pair {
        [(left, _), (right, _)] if left == right => Some(left.to_string()),
        _ => None,
    };
    match read.windows(2).find_map(twice) {
        Some(key) => Err(ValueError::Twice(key)),
        None => Ok(Map(read)),
    }
}

impl Serialize for Set {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.single() {
            Some(atom) => atom.serialize(serializer),
            None => ("set", &self.0).serialize(serializer),
        }
    }
}

impl Serialize for Map {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        ("map", &self.0).serialize(serializer)
    }
}

impl Serialize for Datum {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Set(set) => set.serialize(serializer),
            Self::Map(map) => map.serialize(serializer),
        }
    }
}

impl fmt::Display for Datum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Set(set) => match set.single() {
                Some(atom) => atom.fmt(f),
                None => f.debug_list().entries(set.iter().map(Shown)).finish(),
            },
            Self::Map(map) => f
                .debug_map()
                .entries(map.iter().map(|(key, value)| (Shown(key), Shown(value))))
                .finish(),
        }
    }
}

/// Shows an atom by its text where Debug is asked for.
struct Shown<'a>(&'a Atom);

impl fmt::Debug for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self.0, f)
    }
}

impl<T: Into<Atom>> From<T> for Datum {
    fn from(value: T) -> Self {
        Self::Set(Set(vec![value.into()]))
    }
}

impl From<Set> for Datum {
    fn from(set: Set) -> Self {
        Self::Set(set)
    }
}

impl From<Map> for Datum {
    fn from(map: Map) -> Self {
        Self::Map(map)
    }
}

impl From<Option<&str>> for Datum {
    fn from(value: Option<&str>) -> Self {
        Self::set(value)
    }
}

impl From<Option<i64>> for Datum {
    fn from(value: Option<i64>) -> Self {
        Self::set(value)
    }
}
