// SPDX-License-Identifier: Apache-2.0
//! What others say in columns of a port that its policy speaks of: libvirt's
//! `<vlan>` and `<bandwidth>`, or an operator by hand. Where the policy says
//! something it replaces that, and its row remembers what it replaced and gets
//! it back when the policy goes. Where the policy says nothing it stays in
//! force. Either is a condition for as long as it lasts, and so is a mirror of
//! theirs on a bridge of ours.

use dvs_ovsdb::{Datum, Row};
use uuid::Uuid;

use super::replaced::Replaced;
use super::{Draft, Place, Want, Wants};
use crate::datapath::ovs::view::QOS;

/// A setting of others on a port or bridge of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::datapath::ovs) struct Foreign {
    /// The port, or the bridge.
    pub(in crate::datapath::ovs) place: Place,
    /// The name of its rows.
    pub(in crate::datapath::ovs) interface: String,
    /// The column, or the mirror by its name.
    pub(in crate::datapath::ovs) column: String,
    pub(in crate::datapath::ovs) value: String,
    pub(in crate::datapath::ovs) standing: Standing,
}

/// Whose setting counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::datapath::ovs) enum Standing {
    /// Theirs, beside the policy, which says nothing.
    InForce,
    /// The policy's, in place of theirs.
    Replaced,
    /// Theirs, a mirror of this row: the switch's sessions say nothing of it.
    Beside(Uuid),
}

impl Foreign {
    /// What is said of it, and what to do.
    pub(in crate::datapath::ovs) fn message(&self) -> String {
        let Self {
            place: _,
            interface,
            column,
            value,
            standing,
        } = self;
        match standing {
            Standing::Replaced => format!(
                "somebody else set {column} of interface {interface} to {value}; the port's policy \
                 replaces it, and gives it back when it goes (libvirt: <vlan> and <bandwidth>)"
            ),
            Standing::InForce => {
                let field = match column.as_str() {
                    "qos" => "shaping.egress",
                    _ => "shaping.ingress",
                };
                format!(
                    "somebody else set {column} of interface {interface} to {value}, which limits \
                     the port although its {field} is unlimited; take it off there (libvirt: \
                     <bandwidth>), or set {field}, which replaces it"
                )
            }
            Standing::Beside(row) => format!(
                "{column} on bridge {interface} is no session of the switch and copies its frames \
                 {value}; it stays: if nobody wants it, ovs-vsctl remove Bridge {interface} \
                 mirrors {row}, or have it done by a mirror session"
            ),
        }
    }
}

impl Draft<'_, '_> {
    /// Notes that others' settings count, or don't.
    pub(super) fn foreign(
        &mut self,
        place: &Place,
        port: &Row,
        (column, value): (&str, &Datum),
        standing: Standing,
    ) {
        let value = match value.as_uuid().filter(|_| column == "qos") {
            Some(qos) => self.queueing_text(qos),
            None => value.to_string(),
        };
        self.foreign.push(Foreign {
            place: place.clone(),
            interface: port.str("name").unwrap_or_default().to_owned(),
            column: column.to_owned(),
            value,
            standing,
        });
    }

    /// Notes all that a policy stands in for. What says the same as the policy
    /// is in nobody's way; and where nothing may be written, only what was
    /// replaced before is.
    pub(super) fn all_replaced(
        &mut self,
        place: &Place,
        port: &Row,
        (before, replaced): (&Replaced, &Replaced),
        wants: &Wants,
    ) {
        for (column, value) in replaced.columns() {
            let same = wants
                .iter()
                .any(|(of, want)| *of == column && *want == Want::Is(value.clone()));
            let written = self.scope.holds(place) || before.get(column) == Some(value);
            if !same && written {
                self.foreign(place, port, (column, value), Standing::Replaced);
            }
        }
    }

    fn queueing_text(&self, qos: Uuid) -> String {
        let Some(row) = self.view.row(QOS, qos) else {
            return format!("QoS {qos}");
        };
        let kind = row.str("type").unwrap_or_default();
        let config = row.get("other_config");
        let config = config.map(ToString::to_string).unwrap_or_default();
        format!("{kind} {config}")
    }

    /// Others' queueing as it is given back: none once it is deleted.
    pub(super) fn queueing_back(&self, replaced: &mut Replaced) -> Datum {
        let theirs = replaced.take("qos").and_then(|theirs| theirs.as_uuid());
        match theirs.filter(|qos| self.view.row(QOS, *qos).is_some()) {
            Some(qos) => Datum::from(qos),
            None => Datum::empty(),
        }
    }
}
