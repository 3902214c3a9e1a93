// SPDX-License-Identifier: Apache-2.0
//! Rows: columns by name.

use std::collections::{BTreeMap, btree_map};
use std::sync::Arc;

use serde::ser::{Serialize, Serializer};

use crate::datum::Datum;

/// Columns of a row with their values. Names are shared by a table's rows.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Row(BTreeMap<Arc<str>, Datum>);

impl Row {
    /// A column's value; none if the column isn't among those of the row.
    #[must_use]
    pub fn get(&self, column: &str) -> Option<&Datum> {
        self.0.get(column)
    }

    /// Sets a column.
    pub fn set(&mut self, column: impl Into<Arc<str>>, value: impl Into<Datum>) {
        self.0.insert(column.into(), value.into());
    }

    /// The columns in order of their names.
    pub fn iter(&self) -> btree_map::Iter<'_, Arc<str>, Datum> {
        self.0.iter()
    }

    /// The text of a column that holds exactly one string.
    #[must_use]
    pub fn str(&self, column: &str) -> Option<&str> {
        self.get(column)?.as_str()
    }

    /// The number of a column that holds exactly one integer.
    #[must_use]
    pub fn integer(&self, column: &str) -> Option<i64> {
        self.get(column)?.as_integer()
    }

    /// The value of a column that holds exactly one boolean.
    #[must_use]
    pub fn bool(&self, column: &str) -> Option<bool> {
        self.get(column)?.as_bool()
    }

    /// The ids in a column.
    pub fn uuids(&self, column: &str) -> impl Iterator<Item = uuid::Uuid> {
        self.get(column).into_iter().flat_map(Datum::uuids)
    }

    /// The value of a key of a column that maps strings to strings, such as
    /// `external_ids`.
    #[must_use]
    pub fn map_get(&self, column: &str, key: &str) -> Option<&str> {
        self.get(column)?.map_get(key)
    }
}

impl<C: Into<Arc<str>>, D: Into<Datum>> FromIterator<(C, D)> for Row {
    fn from_iter<I: IntoIterator<Item = (C, D)>>(columns: I) -> Self {
        Self(
            columns
                .into_iter()
                .map(|(column, value)| (column.into(), value.into()))
                .collect(),
        )
    }
}

impl<'a> IntoIterator for &'a Row {
    type Item = (&'a Arc<str>, &'a Datum);
    type IntoIter = btree_map::Iter<'a, Arc<str>, Datum>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl Serialize for Row {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self)
    }
}
