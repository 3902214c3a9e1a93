// SPDX-License-Identifier: Apache-2.0
//! The delta between what is wanted and the database, as one transaction.
//! Pure: nothing that differs, and the transaction is empty.

mod bridges;
mod foreign;
mod memory;
mod mirrors;
mod ports;
mod replaced;
mod takeover;
mod uplinks;

use foreign::Foreign;
pub(super) use memory::{Memory, Owned, Rewired, Wired, before};
pub(super) use mirrors::{copied_into, is_written_for, mirrored_to, session_of};
pub(super) use ports::is_said_by_rules;
pub(super) use replaced::Spoilt;
pub(super) use takeover::takes_anything;

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use dvs_ovsdb::{Atom, Datum, Map, Mutator, Row, Set, Transaction};
use dvs_schemas::v1::ConditionTarget;
use dvs_schemas::{PortId, SwitchName};
use uuid::Uuid;

use self::bridges::BridgeRow;
use super::config::OvsConfig;
use super::intent::Intent;
use super::marks::{Ids, PREFIX};
use super::network::HostNetwork;
use super::rules::OfPort;
use super::view::View;
use super::wiring::{Plug, Plugs, Stale};
use crate::datapath::tally::Tallies;
use crate::datapath::{Drift, Notice, Part, StepFailure};

/// What a part of a switch is.
pub(super) type Place = (SwitchName, Part);

/// What is to be written, and why.
#[derive(Debug)]
pub(super) struct RowPlan {
    /// The whole delta.
    pub(super) transaction: Transaction,
    /// What is other than it should be.
    pub(super) differences: Vec<Difference>,
    /// What can't be written, since it would take what is somebody else's.
    pub(super) refused: BTreeMap<Place, StepFailure>,
    /// What others say that the policies of ports speak of.
    pub(super) foreign: Vec<Foreign>,
    /// Marks of which something can't be read.
    pub(super) spoilt: Vec<Spoilt>,
    /// What is known of rows of ports once it is written.
    pub(super) rewired: Rewired,
}

/// A column that is other than it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Difference {
    /// What it belongs to.
    pub(super) place: Place,
    /// Table and name of the row, like `Port tap3`.
    pub(super) row: String,
    /// The column; none for a row that is missing or too many.
    pub(super) column: Option<&'static str>,
    /// What should be there.
    pub(super) wanted: String,
    /// What is there.
    pub(super) found: String,
}

/// Longest text of a value that is told. The lists of a trunk's VLANs have
/// thousands of numbers, of which nobody reads more.
const TOLD: usize = 500;

/// A value as it is told.
fn short(text: &str) -> String {
    match text.char_indices().nth(TOLD) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or(text)),
        None => text.to_owned(),
    }
}

impl Difference {
    /// What is told of it.
    pub(super) fn told(&self, repaired: bool) -> Notice {
        let (switch, part) = self.place.clone();
        Notice::Drift(Drift {
            switch,
            part,
            row: self.row.clone(),
            column: self.column,
            wanted: short(&self.wanted),
            found: short(&self.found),
            repaired,
        })
    }

    /// The condition that it is for as long as it stays.
    pub(super) fn stands(&self) -> (ConditionTarget, String) {
        let (switch, part) = self.place.clone();
        let (port, mirror) = match part {
            Part::Bridge => (None, None),
            Part::Port(port) => (Some(port), None),
            Part::Mirror(mirror) => (None, Some(mirror)),
        };
        let column = self.column.map(|column| format!(" {column}"));
        let field = format!("{}{}", self.row, column.unwrap_or_default());
        let why = format!(
            "somebody else changed {field}: it is {}, and should be {}; set it back, or let the \
             agent do so (--drift repair)",
            short(&self.found),
            short(&self.wanted)
        );
        let on = ConditionTarget {
            switch: Some(switch),
            port,
            mirror,
            field: Some(field),
            ..ConditionTarget::default()
        };
        (on, why)
    }
}

/// What a column is to be like. Whatever it doesn't say is others' business.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Want {
    /// This value.
    Is(Datum),
    /// Of the keys that are ours, exactly these.
    Ours(Ids),
    /// These elements, and maybe others'.
    Has(Vec<Atom>),
    /// These pairs, and maybe others'.
    HasPairs(Ids),
}

/// A bridge, and the interfaces of ports that are on it.
type OnBridge<'p> = (Uuid, Option<&'p BTreeMap<PortId, Plug>>);

type Wants = Vec<(&'static str, Want)>;

/// Numbers of ports that rules name, by switch.
pub(super) type Ruled = BTreeMap<SwitchName, BTreeSet<OfPort>>;

/// What a plan follows from.
pub(super) struct Inputs<'v, 'a> {
    /// What is to be.
    pub(super) intent: &'v Intent,
    /// What its ports have counted.
    pub(super) tallies: &'v Tallies,
    pub(super) config: &'v OvsConfig,
    /// What is there.
    pub(super) view: &'v View<'a>,
    /// The interfaces of ports among it.
    pub(super) plugs: &'v Plugs,
    /// Interfaces whose device the switch is to open anew.
    pub(super) stale: &'v Stale,
    /// Numbers that the rules of bridges name, of those where that matters.
    pub(super) ruled: &'v Ruled,
    /// Switches that are wanted no more.
    pub(super) going: &'v BTreeSet<SwitchName>,
    /// What is known of rows, also of those that lost their marks.
    pub(super) memory: &'v Memory,
    /// What of the host's own traffic passes its devices; looked at where one
    /// is to be taken.
    pub(super) network: &'v HostNetwork,
    /// What may be written.
    pub(super) scope: &'v Scope,
}

/// Which parts may be written. Differences are found in all of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Scope {
    /// All.
    All,
    /// These.
    Only(BTreeSet<Place>),
}

impl Scope {
    /// The place of what the sessions of a switch need together: that of any one
    /// that may be written.
    fn of_sessions(&self, switch: &SwitchName) -> Place {
        let together = || (switch.clone(), Part::Bridge);
        match self {
            Self::All => together(),
            Self::Only(places) => {
                let of_switch = places.iter().filter(|(of, _)| of == switch);
                let mut sessions = of_switch.filter(|(_, part)| match part {
                    Part::Mirror(_) => true,
                    Part::Bridge | Part::Port(_) => false,
                });
                sessions.next().cloned().unwrap_or_else(together)
            }
        }
    }

    fn holds(&self, place: &Place) -> bool {
        match self {
            Self::All => true,
            Self::Only(places) => places.contains(place),
        }
    }
}

/// Plans all switches that are wanted, and what is left of those that are not.
pub(super) fn plan(inputs: &Inputs<'_, '_>) -> RowPlan {
    let Inputs {
        intent,
        tallies,
        config,
        view,
        plugs,
        stale,
        ruled,
        going,
        memory,
        network,
        scope,
    } = inputs;
    let mut draft = Draft::new((config, view, memory), network, scope);
    for (switch, wish) in intent.iter() {
        let Some(bridge) = draft.bridge(switch, wish) else {
            continue;
        };
        let plugs = plugs.get(switch);
        if let BridgeRow::There(bridge) = bridge {
            // Before the bridge is there nothing is plugged into it.
            draft.ports(tallies, switch, wish, (bridge, plugs), stale);
            let (name, _) = config.bridge(switch);
            draft.mirrors((switch, &name), wish, (bridge, plugs));
            draft.open_anew(switch, bridge, (stale, ruled));
        }
    }
    draft.leftovers(|switch| intent.contains_key(switch) || going.contains(switch));
    RowPlan {
        transaction: draft.transaction,
        differences: draft.differences,
        refused: draft.refused,
        foreign: draft.foreign,
        spoilt: draft.spoilt,
        rewired: draft.rewired,
    }
}

/// A transaction in the making.
struct Draft<'v, 'a> {
    config: &'v OvsConfig,
    view: &'v View<'a>,
    memory: &'v Memory,
    network: &'v HostNetwork,
    scope: &'v Scope,
    transaction: Transaction,
    differences: Vec<Difference>,
    refused: BTreeMap<Place, StepFailure>,
    foreign: Vec<Foreign>,
    spoilt: Vec<Spoilt>,
    rewired: Rewired,
    /// Rows of ours that some switch needs; the others go.
    kept: BTreeSet<Uuid>,
    /// Ports whose limits are seen to, or which go. The others stay with what
    /// they name.
    seen: BTreeSet<Uuid>,
}

impl<'v, 'a> Draft<'v, 'a> {
    fn new(
        (config, view, memory): (&'v OvsConfig, &'v View<'a>, &'v Memory),
        network: &'v HostNetwork,
        scope: &'v Scope,
    ) -> Self {
        Self {
            config,
            view,
            memory,
            network,
            scope,
            transaction: Transaction::new(),
            differences: Vec::new(),
            refused: BTreeMap::new(),
            foreign: Vec::new(),
            spoilt: Vec::new(),
            rewired: Rewired::new(),
            kept: BTreeSet::new(),
            seen: BTreeSet::new(),
        }
    }

    /// Makes a row that is there like this.
    fn set(&mut self, place: &Place, table: &'static str, uuid: Uuid, wants: Wants) {
        let Some(row) = self.view.row(table, uuid) else {
            return;
        };
        let may = self.scope.holds(place);
        let mut values = Row::default();
        for (column, want) in wants {
            let found = row.get(column);
            let found_text = || found.map_or_else(|| "nothing".to_owned(), ToString::to_string);
            let (wanted, found) = match want {
                Want::Is(wanted) => {
                    if found == Some(&wanted) {
                        continue;
                    }
                    let text = wanted.to_string();
                    values.set(column, wanted);
                    (text, found_text())
                }
                Want::Ours(ids) => {
                    let there = ours(row, column);
                    if there == ids {
                        continue;
                    }
                    if may {
                        self.replace((table, uuid, column), &there, &ids);
                    }
                    (text(&ids), text(&there))
                }
                Want::Has(atoms) => {
                    let there = found.and_then(Datum::as_set);
                    let has = |atom: &Atom| there.is_some_and(|set| set.contains(atom));
                    let missing: Vec<Atom> = atoms.into_iter().filter(|atom| !has(atom)).collect();
                    if missing.is_empty() {
                        continue;
                    }
                    let missing = Datum::set(missing);
                    let text = missing.to_string();
                    if may {
                        self.transaction
                            .mutate(table, uuid, column, Mutator::Insert, missing);
                    }
                    (text, found_text())
                }
                Want::HasPairs(pairs) => {
                    let there = pairs_of(row, column, |key| pairs.contains_key(key));
                    if there == pairs {
                        continue;
                    }
                    if may {
                        self.replace((table, uuid, column), &there, &pairs);
                    }
                    (text(&pairs), text(&there))
                }
            };
            self.differences.push(Difference {
                place: place.clone(),
                row: row_name(table, row, uuid),
                column: Some(column),
                wanted,
                found,
            });
        }
        if may && values.iter().next().is_some() {
            self.transaction.update(table, uuid, values);
        }
    }

    /// Makes of some pairs of a map others.
    fn replace(
        &mut self,
        (table, uuid, column): (&'static str, Uuid, &'static str),
        there: &Ids,
        wanted: &Ids,
    ) {
        let stale: Set = there
            .iter()
            .filter(|(key, value)| wanted.get(*key) != Some(*value))
            .map(|(key, _)| key.clone())
            .collect();
        let fresh: Map = wanted
            .iter()
            .filter(|(key, value)| there.get(*key) != Some(*value))
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect();
        // An insertion leaves the value of a key that is there.
        if !stale.is_empty() {
            let stale = Datum::Set(stale);
            self.transaction
                .mutate(table, uuid, column, Mutator::Delete, stale);
        }
        if !fresh.is_empty() {
            let fresh = Datum::Map(fresh);
            self.transaction
                .mutate(table, uuid, column, Mutator::Insert, fresh);
        }
    }

    /// Makes a row that is not there.
    fn insert(&mut self, place: &Place, table: &'static str, wants: Wants) -> Atom {
        let values: Row = wants
            .into_iter()
            .map(|(column, want)| {
                let value = match want {
                    Want::Is(value) => value,
                    Want::Ours(pairs) | Want::HasPairs(pairs) => Datum::map(pairs),
                    Want::Has(atoms) => Datum::set(atoms),
                };
                (column, value)
            })
            .collect();
        self.differences.push(Difference {
            place: place.clone(),
            row: format!("{table} {}", values.str("name").unwrap_or("new")),
            column: None,
            wanted: "a row".to_owned(),
            found: "none".to_owned(),
        });
        if self.scope.holds(place) {
            Atom::Named(self.transaction.insert(table, values))
        } else {
            // Nothing of this place is written, so nobody writes that either.
            Atom::Uuid(Uuid::nil())
        }
    }

    /// Takes an element out of a column of a row.
    fn detach(
        &mut self,
        place: &Place,
        (table, uuid, column): (&'static str, Uuid, &'static str),
        (of, element): (&'static str, Uuid),
    ) {
        if self.scope.holds(place) {
            self.transaction
                .mutate(table, uuid, column, Mutator::Delete, Datum::set([element]));
        }
        self.too_many(place, of, element);
    }

    /// Deletes a row that nothing holds.
    fn delete(&mut self, place: &Place, table: &'static str, uuid: Uuid) {
        if self.scope.holds(place) {
            self.transaction.delete(table, uuid);
        }
        self.too_many(place, table, uuid);
    }

    fn too_many(&mut self, place: &Place, table: &'static str, uuid: Uuid) {
        let row = self.view.row(table, uuid);
        self.differences.push(Difference {
            place: place.clone(),
            row: row.map_or_else(|| table.to_owned(), |row| row_name(table, row, uuid)),
            column: None,
            wanted: "none".to_owned(),
            found: "a row".to_owned(),
        });
    }

    fn refuse(&mut self, place: Place, field: Option<&str>, message: String) {
        add(&mut self.refused, place, StepFailure::new(field, message));
    }
}

/// Adds what keeps a part from being true to what else does.
pub(super) fn add(failures: &mut BTreeMap<Place, StepFailure>, place: Place, failure: StepFailure) {
    match failures.entry(place) {
        Entry::Occupied(mut held) => held.get_mut().others.push(failure),
        Entry::Vacant(free) => drop(free.insert(failure)),
    }
}

fn row_name(table: &str, row: &Row, uuid: Uuid) -> String {
    match row.str("name") {
        Some(name) => format!("{table} {name}"),
        None => format!("{table} {uuid}"),
    }
}

/// The pairs of a row that are ours.
pub(super) fn ours(row: &Row, column: &str) -> Ids {
    pairs_of(row, column, |key| key.starts_with(PREFIX))
}

/// The pairs of a map with such keys.
fn pairs_of(row: &Row, column: &str, of: impl Fn(&str) -> bool) -> Ids {
    let pairs = row.get(column).into_iter().flat_map(Datum::map_strings);
    pairs
        .filter(|(key, _)| of(key))
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect()
}

fn text(ids: &Ids) -> String {
    let pairs: Vec<String> = ids
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    format!("{{{}}}", pairs.join(", "))
}

fn is(value: impl Into<Datum>) -> Want {
    Want::Is(value.into())
}

/// A map that is ours as a whole.
fn is_map<const N: usize>(pairs: [(&str, String); N]) -> Want {
    Want::Is(Datum::map(
        pairs.map(|(key, value)| (key.to_owned(), value)),
    ))
}
