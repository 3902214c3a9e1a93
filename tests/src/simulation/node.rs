// SPDX-License-Identifier: Apache-2.0
//! One core with its ledger on its disk, and every moment at which the power
//! may fail.

use dvs_ledger::{Core, Ledger, LedgerSpec, turn};
use dvs_schemas::{StoreId, Timestamp};
use uuid::Uuid;

use super::disk::Disk;

/// When the power fails, within a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PowerCut {
    /// Before anything of the turn is durable.
    BeforeCommit,
    /// While the commit syncs: it may or may not be durable.
    DuringCommit,
    /// The commit is durable, and not one effect has left.
    AfterCommit,
    /// The commit is durable, and only some effects have left.
    AmongEffects,
}

/// A program on a machine.
#[derive(Debug)]
pub struct Node<C: Core> {
    disk: Disk,
    spec: LedgerSpec,
    /// Which of the disks that the machine has had.
    disks: u64,
    running: Option<(C, Ledger)>,
    /// Raised at each start, so that answers to a run before find nobody.
    pub life: u64,
}

impl<C: Core> Node<C> {
    /// A machine with an empty disk; nothing runs yet.
    #[must_use]
    pub fn new(spec: LedgerSpec) -> Self {
        Self {
            disk: Disk::default(),
            spec,
            disks: 1,
            running: None,
            life: 0,
        }
    }

    /// Starts the program from what is on the disk.
    ///
    /// # Panics
    /// The ledger can't be opened or read: a crash must never lead there.
    pub fn start<E: std::fmt::Debug>(&mut self, load: impl FnOnce(&Ledger) -> Result<C, E>) {
        let store = self.store();
        let ledger = Ledger::on_backend_as(self.disk.clone(), self.spec, || store)
            .unwrap_or_else(|e| panic!("{}: ledger after a crash: {e:?}", self.spec.service));
        let core = load(&ledger)
            .unwrap_or_else(|e| panic!("{}: core after a crash: {e:?}", self.spec.service));
        self.running = Some((core, ledger));
        self.life += 1;
    }

    /// Identity of the ledger.
    #[must_use]
    pub fn store(&self) -> StoreId {
        // Made as far apart as no run is long.
        let made = self.disks * 1_000_000_000;
        StoreId(Uuid::from_u64_pair(made << 16, 0))
    }

    /// The running core.
    #[must_use]
    pub fn core(&self) -> Option<&C> {
        self.running.as_ref().map(|(core, _)| core)
    }

    /// Whether the program runs.
    #[must_use]
    pub fn runs(&self) -> bool {
        self.running.is_some()
    }

    /// When the running core wants to be woken.
    #[must_use]
    pub fn due(&self) -> Option<Timestamp> {
        self.core().and_then(Core::due)
    }

    /// kill -9 and power loss at once.
    pub fn cut(&mut self, random: &mut fastrand::Rng) {
        // The ledger's handle must not tidy the disk up on its way out.
        self.disk.fail_after(Some(0));
        self.running = None;
        self.disk.crash(random);
        self.disk.fail_after(None);
    }

    /// Power loss, and an empty disk in place of the one that was.
    pub fn lose_disk(&mut self) {
        self.disk.fail_after(Some(0));
        self.running = None;
        self.disk = Disk::default();
        self.disks += 1;
    }

    /// A copy of what is durable.
    #[must_use]
    pub fn copy(&self) -> Disk {
        self.disk.copy()
    }

    /// Power loss, and a copy that was taken before in place of the disk.
    pub fn put_back(&mut self, copy: &Disk) {
        self.disk.fail_after(Some(0));
        self.running = None;
        self.disk = copy.copy();
    }

    /// Lets the core take its turn: an event, or only the time. The effects that have left, and whether
    /// the node still runs.
    ///
    /// # Panics
    /// A commit failed though the power held.
    pub fn turn(
        &mut self,
        now: Timestamp,
        event: Option<C::Event>,
        cut: Option<PowerCut>,
        random: &mut fastrand::Rng,
    ) -> Vec<C::Effect> {
        let Some((core, ledger)) = &mut self.running else {
            return Vec::new();
        };
        match cut {
            Some(PowerCut::BeforeCommit) => self.disk.fail_after(Some(0)),
            Some(PowerCut::DuringCommit) => self.disk.fail_after(Some(random.usize(0..3))),
            Some(PowerCut::AfterCommit | PowerCut::AmongEffects) | None => {}
        }
        let turned = turn(core, ledger, now, event);
        let mut effects = match (turned, cut) {
            (Ok(turned), _) => turned.effects,
            (Err(_), Some(PowerCut::BeforeCommit | PowerCut::DuringCommit)) => Vec::new(),
            (Err(e), _) => panic!("{}: commit: {e:?}", self.spec.service),
        };
        match cut {
            None => return effects,
            Some(PowerCut::AfterCommit) => effects.clear(),
            // The commit may have needed fewer syncs than the cut waited for,
            // or none at all; and what a turn lets go may have left.
            Some(PowerCut::BeforeCommit | PowerCut::DuringCommit | PowerCut::AmongEffects) => {
                let left = random.usize(0..=effects.len());
                effects.truncate(left);
            }
        }
        self.cut(random);
        effects
    }
}
