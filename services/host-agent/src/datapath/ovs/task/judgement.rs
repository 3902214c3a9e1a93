// SPDX-License-Identifier: Apache-2.0
//! What Open vSwitch has taken and can't make true: it says so beside the rows,
//! or not at all.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use dvs_ovsdb::{Cache, Row};
use dvs_schemas::{Mtu, PortId, SwitchName};
use tokio::time::Instant;
use uuid::Uuid;

use super::Task;
use super::force::Standstill;
use crate::datapath::ovs::config::OvsConfig;
use crate::datapath::ovs::intent::{Intent, Wish};
use crate::datapath::ovs::rows::{Place, add};
use crate::datapath::ovs::view::{self, View};
use crate::datapath::ovs::wiring::Plugs;
use crate::datapath::{BridgeSettings, Notice, Part, StepFailure};

/// How long the database may say an old MTU after a new one was taken. Waited
/// for once for an interface that doesn't take it.
const MTU_SHOWN: Duration = Duration::from_millis(500);

/// Interfaces of a switch that don't take its MTU, with their names and what
/// they keep. Open vSwitch tries, and says in its log alone that it can't.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct KeptMtus(BTreeMap<Uuid, (String, i64)>);

/// An interface that carries the frames of a switch.
struct Carrier<'v> {
    of: Of<'v>,
    switch: &'v SwitchName,
    name: &'v str,
    interface: Uuid,
    row: &'v Row,
    mtu: Mtu,
}

/// What it is for the switch.
enum Of<'v> {
    Port(&'v PortId),
    Uplink,
}

impl Task {
    /// Finds what Open vSwitch can't use as it is to be.
    pub(super) async fn judge(&mut self) -> Result<(), String> {
        self.await_mtus().await?;
        let Some(database) = &self.database else {
            return Ok(());
        };
        let view = View::new(database.cache());
        self.tell_of_link_aggregation(&view);
        let mut kept = BTreeMap::new();
        for carrier in carriers(&self.intent, &self.plugs, &self.config, &view) {
            if let Some(failure) = carrier.failure() {
                add(&mut self.failures, carrier.place(), failure);
            }
            if let Some(mtu) = carrier.other_mtu() {
                let of: &mut KeptMtus = kept.entry(carrier.switch.clone()).or_default();
                of.0.insert(carrier.interface, (carrier.name.to_owned(), mtu));
            }
        }
        for (place, failure) in self.without_device() {
            add(&mut self.failures, place, failure);
        }
        let standstill = Standstill::of(&view);
        if let Some(standstill) = &standstill {
            for switch in self.intent.keys() {
                let place = (switch.clone(), Part::Bridge);
                standstill.comes_first(&mut self.failures, place);
            }
        }
        if self.standstill != standstill {
            self.standstill = standstill;
            self.notices.tell(Notice::Disturbed);
            self.tell_of_what_is_in_force();
        }
        if self.kept != kept {
            self.kept = kept;
            // What was read of the switch's settings no longer holds.
            self.notices.tell(Notice::Disturbed);
        }
        Ok(())
    }

    /// Waits until the database says of each interface which MTU it took.
    async fn await_mtus(&mut self) -> Result<(), String> {
        let Self {
            database,
            intent,
            plugs,
            config,
            kept,
            ..
        } = self;
        let Some(database) = database else {
            return Ok(());
        };
        let shown = |cache: &Cache| {
            let view = View::new(cache);
            let carriers = carriers(intent, plugs, config, &view);
            carriers.iter().all(|of| {
                let known = kept.get(of.switch);
                let known = known.is_some_and(|kept| kept.0.contains_key(&of.interface));
                known || of.other_mtu().is_none()
            })
        };
        let deadline = Instant::now() + MTU_SHOWN;
        if let Err(error) = database.wait_until(deadline, shown).await {
            return Err(self.lost(&error));
        }
        Ok(())
    }
}

impl Carrier<'_> {
    fn place(&self) -> Place {
        let part = match self.of {
            Of::Port(port) => Part::Port(port.clone()),
            Of::Uplink => Part::Bridge,
        };
        (self.switch.clone(), part)
    }

    /// The MTU that it has instead of the one that it should have.
    fn other_mtu(&self) -> Option<i64> {
        let mtu = self.row.integer("mtu")?;
        (mtu != i64::from(self.mtu.get())).then_some(mtu)
    }

    /// Why Open vSwitch can't use it, if it says so.
    fn failure(&self) -> Option<StepFailure> {
        let error = view::error(self.row)?;
        let field = match self.of {
            Of::Port(_) => None,
            Of::Uplink => Some("uplinks"),
        };
        let message = format!("interface {}: {error}", self.name);
        Some(StepFailure::new(field, message))
    }
}

impl KeptMtus {
    /// The settings of a switch as far as its interfaces have taken them.
    pub(super) fn taken(&self, settings: &Arc<BridgeSettings>) -> Arc<BridgeSettings> {
        let Some((_, mtu)) = self.0.values().next() else {
            return settings.clone();
        };
        Arc::new(BridgeSettings {
            mtu: Mtu::nearest(*mtu),
            ..(**settings).clone()
        })
    }

    /// What is said of the settings.
    pub(super) fn failure(&self) -> Option<StepFailure> {
        let (name, mtu) = self.0.values().next()?;
        let others = match self.0.len() - 1 {
            0 => String::new(),
            others => format!(", and so do {others} others"),
        };
        let message = format!("interface {name} keeps an MTU of {mtu} bytes{others}");
        Some(StepFailure::new(Some("mtu"), message))
    }
}

/// All interfaces that are there and wanted.
fn carriers<'v>(
    intent: &'v Intent,
    plugs: &'v Plugs,
    config: &'v OvsConfig,
    view: &'v View<'v>,
) -> Vec<Carrier<'v>> {
    let of = |switch: &'v SwitchName, wish: &'v Wish| {
        let mtu = wish.settings.mtu;
        let plugged = plugs.get(switch).into_iter().flatten();
        let ports = plugged.filter(|(port, _)| wish.ports.contains_key(*port));
        let ports = ports.filter_map(move |(port, plug)| {
            Some(Carrier {
                of: Of::Port(port),
                switch,
                name: &plug.name,
                interface: plug.interface,
                row: view.row(view::INTERFACE, plug.interface)?,
                mtu,
            })
        });
        let uplinks = wish.settings.uplinks.iter();
        let uplinks = uplinks.filter_map(move |uplink| {
            let interface = view.interface(&config.uplink(switch, uplink))?;
            let row = view.row(view::INTERFACE, interface)?;
            Some(Carrier {
                of: Of::Uplink,
                switch,
                name: row.str("name")?,
                interface,
                row,
                mtu,
            })
        });
        ports.chain(uplinks)
    };
    let switches = intent.iter();
    switches
        .flat_map(|(switch, wish)| of(switch, wish))
        .collect()
}
