// SPDX-License-Identifier: Apache-2.0
//! What the row of a port remembers of others' columns that its policy stands
//! in for. People can write there as they can elsewhere, so each value is held
//! against what its column takes: one that it doesn't would have the database
//! refuse all that is written together with it.

use std::collections::BTreeMap;

use dvs_ovsdb::{Datum, Row};
use serde_json::Value;

use super::{Place, ours};
use crate::datapath::ovs::marks;
use crate::datapath::ovs::view::{POLICING, POLICING_PACKETS};

/// Columns that others filled and a policy stands in for, with their values.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Replaced {
    columns: BTreeMap<String, Datum>,
    unread: Unread,
}

/// What of the mark can't be read. It counts as nothing, and stays for people
/// to see until the port goes.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Unread {
    /// These columns; none if all can be read.
    Columns(BTreeMap<String, Value>),
    /// All of it.
    Text(String),
}

impl Default for Unread {
    fn default() -> Self {
        Self::Columns(BTreeMap::new())
    }
}

/// A mark of which something can't be read, or that is missing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::datapath::ovs) struct Spoilt {
    /// The port, or the bridge.
    pub(in crate::datapath::ovs) place: Place,
    /// The name of its rows.
    pub(in crate::datapath::ovs) interface: String,
    /// The key.
    pub(in crate::datapath::ovs) mark: &'static str,
    /// What can't be read, and what comes of it.
    pub(in crate::datapath::ovs) why: String,
}

impl Replaced {
    /// What a port's row remembers.
    pub(super) fn of(port: &Row) -> Self {
        let Some(text) = marks::replaced_of(&ours(port, "external_ids")) else {
            return Self::default();
        };
        let Ok(all) = serde_json::from_str::<BTreeMap<String, Value>>(&text) else {
            return Self {
                columns: BTreeMap::new(),
                unread: Unread::Text(text),
            };
        };
        let (mut columns, mut unread) = (BTreeMap::new(), BTreeMap::new());
        for (column, value) in all {
            let read = Datum::from_json(value.clone()).ok();
            match read.filter(|datum| allowed(&column).is_some_and(|(_, takes)| takes(datum))) {
                Some(datum) => drop(columns.insert(column, datum)),
                None => drop(unread.insert(column, value)),
            }
        }
        Self {
            columns,
            unread: Unread::Columns(unread),
        }
    }

    /// The same, with what is `known` where the row says nothing that can be
    /// read.
    pub(super) fn or(mut self, known: &Self) -> Self {
        match &mut self.unread {
            Unread::Columns(unread) => unread.retain(|column, _| known.get(column).is_none()),
            Unread::Text(_) if known.columns.is_empty() => {}
            Unread::Text(_) => self.unread = Unread::default(),
        }
        for (column, value) in &known.columns {
            let said = self.columns.entry(column.clone());
            said.or_insert_with(|| value.clone());
        }
        self
    }

    /// What a port's row is to remember, if there is anything.
    pub(super) fn mark(&self) -> Option<(String, String)> {
        let all = match &self.unread {
            Unread::Text(text) if self.columns.is_empty() => {
                return Some(marks::of_replaced(text.clone()));
            }
            Unread::Text(_) => self.json(&BTreeMap::new()),
            Unread::Columns(unread) => self.json(unread),
        };
        // Values of the database are JSON, and their names are text.
        let text = serde_json::to_string(&all).unwrap_or_default();
        (!all.is_empty()).then(|| marks::of_replaced(text))
    }

    fn json(&self, unread: &BTreeMap<String, Value>) -> BTreeMap<String, Value> {
        let columns = self.columns.iter();
        let columns = columns.filter_map(|(column, value)| {
            Some((column.clone(), serde_json::to_value(value).ok()?))
        });
        let unread = unread.iter();
        let unread = unread.map(|(column, value)| (column.clone(), value.clone()));
        unread.chain(columns).collect()
    }

    /// What can't be read of it, for people.
    pub(super) fn spoilt(&self) -> Vec<String> {
        let lost = "it counts as nothing, and what was there before the port's policy is not \
                    given back";
        match &self.unread {
            Unread::Text(text) => vec![format!(
                "external_ids:dvs-replaced is {text:?} and can't be read; {lost} (allowed: a JSON \
                 object of columns, as the agent writes it, or no such key)"
            )],
            Unread::Columns(columns) => {
                let columns = columns.iter().map(|(column, value)| {
                    let allowed = allowed(column).map_or("no such column", |(text, _)| text);
                    format!(
                        "external_ids:dvs-replaced says {value} of column {column}; {lost} \
                         (allowed: {allowed})"
                    )
                });
                columns.collect()
            }
        }
    }

    /// What is remembered.
    pub(super) fn columns(&self) -> impl Iterator<Item = (&str, &Datum)> {
        let columns = self.columns.iter();
        columns.map(|(column, value)| (column.as_str(), value))
    }

    /// What is remembered of a column.
    pub(super) fn get(&self, column: &str) -> Option<&Datum> {
        self.columns.get(column)
    }

    /// Remembers a column's value.
    pub(super) fn put(&mut self, column: &str, value: Datum) {
        self.columns.insert(column.to_owned(), value);
    }

    /// Takes a column's value out.
    pub(super) fn take(&mut self, column: &str) -> Option<Datum> {
        self.columns.remove(column)
    }
}

/// What is allowed, for people, and whether a value is that.
type Allowed = (&'static str, fn(&Datum) -> bool);

/// What a column takes (ovs-vswitchd.conf.db(5)), for people and as a test;
/// none if it is no column that a policy stands in for.
fn allowed(column: &str) -> Option<Allowed> {
    fn vlans(value: &Datum) -> Option<usize> {
        let set = value.as_set()?;
        let right = value.integers().filter(|vlan| (0..=4095).contains(vlan));
        (right.count() == set.len()).then_some(set.len())
    }
    const MODES: [&str; 5] = [
        "trunk",
        "access",
        "native-tagged",
        "native-untagged",
        "dot1q-tunnel",
    ];
    let rate: Allowed = ("0 or more", |value| {
        value.as_integer().is_some_and(|rate| rate >= 0)
    });
    match column {
        "tag" => Some(("one VLAN from 0 to 4095, or none", |value| {
            vlans(value).is_some_and(|count| count <= 1)
        })),
        "trunks" => Some(("VLANs from 0 to 4095", |value| vlans(value).is_some())),
        "vlan_mode" => Some((
            "trunk, access, native-tagged, native-untagged, dot1q-tunnel, or none",
            |value| value.is_empty() || value.as_str().is_some_and(|mode| MODES.contains(&mode)),
        )),
        "qos" => Some(("the id of a row of table QoS, or none", |value| {
            value.is_empty() || value.as_uuid().is_some()
        })),
        POLICING | POLICING_PACKETS => Some(rate),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn row(mark: &str) -> Row {
        let ids = Datum::map([("dvs-replaced".to_owned(), mark.to_owned())]);
        [("external_ids", ids)].into_iter().collect()
    }

    #[test]
    fn a_value_that_its_column_does_not_take_counts_as_nothing_and_is_named() {
        let good = json!({
            "tag": 20, "trunks": ["set", [1, 4095]], "vlan_mode": "access",
            "qos": ["uuid", "4b7a4eb3-8ac5-4d5a-9d3a-59a3a1ba1b00"],
            "ingress_policing_rate": 1000, "ingress_policing_kpkts_rate": 0,
        });
        let read = Replaced::of(&row(&good.to_string()));
        assert_eq!((read.columns.len(), read.spoilt()), (6, Vec::new()));
        for (column, value) in [
            ("tag", json!(4096)),
            ("tag", json!(-1)),
            ("tag", json!("20")),
            ("tag", json!(["set", [1, 2]])),
            ("trunks", json!(["set", [1, 4096]])),
            ("trunks", json!(["map", []])),
            ("vlan_mode", json!("accesss")),
            ("qos", json!("mine")),
            ("qos", json!(["named-uuid", "q"])),
            ("ingress_policing_rate", json!(-5)),
            ("ingress_policing_kpkts_rate", json!(["set", []])),
            ("name", json!("eth0")),
            ("tag", json!({"a": 1})),
        ] {
            let mut mark = good.clone();
            mark[column] = value.clone();
            let read = Replaced::of(&row(&mark.to_string()));
            let spoilt = read.spoilt();
            assert_eq!(spoilt.len(), 1, "{column} {value}: {spoilt:?}");
            assert!(spoilt[0].contains(column), "{spoilt:?}");
            assert!(!read.columns.contains_key(column), "{column} {value}");
            // The others are not lost for it.
            assert!(read.columns.len() >= 5, "{column} {value}");
            // And nothing is written for what can't be read.
            let (_, written) = read.mark().unwrap();
            assert_eq!(serde_json::from_str::<Value>(&written).unwrap(), mark);
        }
    }

    proptest! {
        #[test]
        fn whatever_stands_there_is_read_or_named_and_stays(mark in "[\\[{\"a-z0-9:,}\\]]{1,12}") {
            let read = Replaced::of(&row(&mark));
            let (_, written) = read.mark().unwrap_or_default();
            if read.columns.is_empty() && read.spoilt().is_empty() {
                prop_assert_eq!(written, "");
            } else {
                prop_assert_eq!(Replaced::of(&row(&written)), read);
            }
        }
    }
}
