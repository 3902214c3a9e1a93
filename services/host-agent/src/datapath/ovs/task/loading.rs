// SPDX-License-Identifier: Apache-2.0
//! What an agent that starts takes for what is to be: what it finds marked in
//! the database, and where a mark is missing or can't be read what its ledger
//! says. So nobody is cut off for the loss of a mark, and it is written again
//! as any other difference.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use dvs_ovsdb::{Cache, Row};
use dvs_schemas::{MirrorName, PortId, SwitchName};
use uuid::Uuid;

use super::Task;
use crate::datapath::Remembered;
use crate::datapath::ovs::config::OvsConfig;
use crate::datapath::ovs::intent::{Intent, Wish, take};
use crate::datapath::ovs::marks;
use crate::datapath::ovs::rows::{self, Memory, Owned, Wired, before, is_written_for, session_of};
use crate::datapath::ovs::view::{self, View};
use crate::datapath::ovs::wiring::{self, said_port};

impl Task {
    /// Takes in what the ledger says.
    pub(super) fn remember(&mut self, Remembered { counters, wanted }: &Remembered) {
        for step in wanted {
            // What can't be made true wholly is said when it is planned.
            drop(take(&mut self.ledger, step, &self.abilities));
        }
        for (switch, of) in counters {
            let key = (switch.clone(), of.port.clone());
            self.told.insert(key.clone(), of.clone());
            self.go_on(&key);
        }
    }

    /// Takes in what is to be, as it is found.
    pub(super) fn load(&mut self, cache: &Cache) {
        let view = View::new(cache);
        let ledger = std::mem::take(&mut self.ledger);
        let Loaded { intent, memory } = Loader {
            view: &view,
            config: &self.config,
            ledger: &ledger,
        }
        .load();
        self.intent = intent;
        self.memory = memory;
        self.loaded = true;
        let found = wiring::find(&self.intent, &self.config, &view, &self.plugs);
        self.found(found);
        for (switch, wish) in &self.intent {
            let plugs = self.plugs.get(switch).into_iter().flatten();
            for (port, plug) in plugs.filter(|(port, _)| wish.ports.contains_key(*port)) {
                let key = (switch.clone(), port.clone());
                let row = view.row(view::INTERFACE, plug.interface);
                // It can't have counted less since.
                let raw = row.and_then(view::statistics);
                let marked = view.row(view::PORT, plug.port);
                let marked = marked.map(|row| rows::ours(row, "external_ids"));
                match marked.as_ref().map(marks::offset) {
                    Some(Ok(Some(offset))) if plug.is_opened() => {
                        self.tallies.restored(key, offset, raw);
                    }
                    Some(Err(error)) => {
                        tracing::warn!(%switch, %port, %error, "its counters begin anew");
                        self.tallies.plugged(key);
                    }
                    Some(Ok(_)) | None => self.tallies.plugged(key),
                }
            }
        }
        for key in self.told.keys().cloned().collect::<Vec<_>>() {
            self.go_on(&key);
        }
        self.owned();
    }
}

/// What is to be, and what is known of rows whatever their marks say.
#[derive(Debug, Default)]
struct Loaded {
    intent: Intent,
    memory: Memory,
}

/// What is found, and what the ledger says.
struct Loader<'a, 'v> {
    view: &'a View<'v>,
    config: &'a OvsConfig,
    ledger: &'a Intent,
}

impl Loader<'_, '_> {
    fn load(&self) -> Loaded {
        let mut loaded = Loaded::default();
        for (uuid, row) in self.view.table(view::BRIDGE) {
            let Some((switch, mut wish)) = self.bridge((*uuid, row), &mut loaded.memory) else {
                continue;
            };
            self.ports(*uuid, &switch, (&mut wish, &mut loaded.memory));
            self.mirrors(row, &switch, (&mut wish, &mut loaded.memory));
            loaded.intent.insert(switch, wish);
        }
        loaded
    }

    /// The switch of a bridge with its settings, and nothing on it yet.
    fn bridge(&self, (uuid, row): (Uuid, &Row), memory: &mut Memory) -> Option<(SwitchName, Wish)> {
        let name = row.str("name").unwrap_or("");
        let ids = rows::ours(row, "external_ids");
        let marked = marks::bridge(&ids).unwrap_or_else(|error| {
            tracing::warn!(bridge = name, %error, "its marks can't be read");
            None
        });
        let by_name = self.ledger.iter().find(|(switch, _)| {
            let (bridge, _) = self.config.bridge(switch);
            bridge.as_str() == name
        });
        match (marked, by_name) {
            (Some((switch, settings)), Some((of, _)))
                if switch == *of || !self.is_mistaken(&switch, of, uuid) =>
            {
                Some((switch, Wish::new(settings)))
            }
            (Some((switch, settings)), None) => Some((switch, Wish::new(settings))),
            (None, None) => None,
            (marked, Some((switch, wish))) => {
                let says = marked.map(|(of, _)| of.to_string());
                tracing::warn!(
                    bridge = name, %switch, marked = says,
                    "its marks don't say so; the ledger does"
                );
                if says.is_some() || marks::is_of_bridge(&ids) || self.is_ours(uuid, switch) {
                    let owned = Owned {
                        switch: switch.clone(),
                        before: before(self.config, switch, row),
                    };
                    memory.bridges.insert(uuid, owned);
                } else {
                    memory.doubtful.insert(uuid);
                }
                Some((switch.clone(), Wish::new(wish.settings.clone())))
            }
        }
    }

    /// True if a bridge that is marked as one switch's is another's all the
    /// same: by its name, by what is on it, and as the ledger doesn't know the
    /// one, or that has its own.
    fn is_mistaken(&self, marked: &SwitchName, switch: &SwitchName, bridge: Uuid) -> bool {
        let (own, _) = self.config.bridge(marked);
        let is_elsewhere =
            !self.ledger.contains_key(marked) || self.view.bridge(own.as_str()).is_some();
        is_elsewhere && self.is_ours(bridge, switch)
    }

    /// True if what is on a bridge says that it is the switch's: a port that
    /// the ledger has there, or the way to the switch's uplinks.
    fn is_ours(&self, bridge: Uuid, switch: &SwitchName) -> bool {
        let (name, _) = self.config.bridge(switch);
        let uplinks = self.view.bridge(&name.of_uplinks());
        let uplinks = uplinks.and_then(|uuid| self.view.row(view::BRIDGE, uuid));
        let uplinks = uplinks.and_then(|row| marks::uplinks_of(&rows::ours(row, "external_ids")));
        let patch = name.patch_up();
        self.view.ports_of(bridge).any(|(_, row)| {
            let port = marks::port_of(&rows::ours(row, "external_ids"));
            let is_held = port.is_some_and(|port| {
                let wish = self.ledger.get(switch);
                wish.is_some_and(|wish| wish.ports.contains_key(&port))
            });
            let is_patch = row.str("name") == Some(&patch);
            is_held || (is_patch && uplinks.as_ref() == Some(switch))
        })
    }

    /// The ports of a bridge. Of one whose marks say nothing the ledger does, if
    /// its interface is there; and if that has what the agent asks of each that
    /// it wires, its row is ours.
    fn ports(&self, bridge: Uuid, switch: &SwitchName, (wish, memory): (&mut Wish, &mut Memory)) {
        let mut plugged = Vec::new();
        for (uuid, row) in self.view.ports_of(bridge) {
            let ids = rows::ours(row, "external_ids");
            match marks::port(&ids, &wish.settings.private_vlans) {
                Ok(Some((id, spec))) => drop(wish.ports.insert(id, spec.into())),
                Ok(None) => {}
                Err(error) => {
                    let port = row.str("name").unwrap_or("");
                    tracing::warn!(%switch, port, %error, "its marks can't be read");
                }
            }
            if let Some((_, interface)) = self.view.only_interface(row)
                && let Some(id) = self.said(row)
            {
                let is_wired = interface.integer("ofport_request").is_some();
                let wired = is_wired.then(|| (uuid, Wired::again(id.clone(), row)));
                plugged.push((id, wired));
            }
        }
        let Some(ledger) = self.ledger.get(switch) else {
            return;
        };
        for (id, wired) in plugged {
            if let Some(spec) = ledger.ports.get(&id)
                && let Entry::Vacant(free) = wish.ports.entry(id)
            {
                free.insert(spec.clone());
                memory.ports.extend(wired);
            }
        }
    }

    /// The port that the interface of a row says.
    fn said(&self, port: &Row) -> Option<PortId> {
        let (_, interface) = self.view.only_interface(port)?;
        said_port(interface, interface.str("name")?, self.config)?.ok()
    }

    /// The mirror sessions of a bridge, by the same rule: of a row whose marks
    /// say nothing the ledger does, if it is as the session writes it.
    fn mirrors(&self, row: &Row, switch: &SwitchName, (wish, memory): (&mut Wish, &mut Memory)) {
        let mut named: BTreeMap<MirrorName, _> = BTreeMap::new();
        for uuid in row.uuids("mirrors") {
            let Some(row) = self.view.row(view::MIRROR, uuid) else {
                continue;
            };
            match marks::mirror(&rows::ours(row, "external_ids")) {
                Ok(Some((name, session))) => drop(wish.mirrors.insert(name, session)),
                Ok(None) => {}
                Err(error) => {
                    tracing::warn!(%switch, %error, "a mirror's marks can't be read");
                }
            }
            let name = row.str("name").and_then(session_of);
            let ledger = self.ledger.get(switch);
            let (bridge, _) = self.config.bridge(switch);
            let is_marked = !rows::ours(row, "external_ids").is_empty();
            if let Some(name) = name
                && let Some(session) = ledger.and_then(|wish| wish.mirrors.get(&name))
                && (is_marked
                    || is_written_for(row, session, (self.view, &bridge), |port| self.said(port)))
            {
                memory.mirrors.insert(uuid);
                named.insert(name, session);
            }
        }
        for (name, session) in named {
            wish.mirrors.entry(name).or_insert_with(|| session.clone());
        }
    }
}
