// SPDX-License-Identifier: Apache-2.0
//! Open vSwitch as the datapath: a bridge per switch, forwarding by rules that
//! follow from its ports alone.
//!
//! ```text
//! steps → intent ─┬─ rows ──────────→ one transaction of the database
//!    interfaces ──┴─ pipeline → wire → one bundle of OpenFlow per bridge
//! ```
//!
//! What is to be is held in memory and, as far as there are rows for it, in
//! their `external_ids`; all else follows from it. So whatever happens, the way
//! back is the same: read, work out the delta, write it if there is one.

mod announcement;
mod config;
mod counters;
mod forwarding;
mod intent;
mod limits;
mod machine;
mod marks;
mod network;
mod pipeline;
mod rows;
mod rules;
mod task;
mod unusable;
mod view;
mod vlans;
mod wire;
mod wiring;

use std::sync::Arc;

use dvs_schemas::v1::CountersOf;
use dvs_schemas::{PortId, SwitchName};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use super::notices::Notices;
use super::{Applied, Datapath, DatapathError, Notice, Picture, Ports, Remembered, Step};

pub use config::{
    BadBridgeName, BadPattern, BridgeName, DatapathKind, DriftPolicy, Learning, OvsConfig,
    PlugPattern,
};
pub use task::OvsCounts;

/// Calls that may wait: a host has one of each kind under way at most, and
/// somebody who asks what is there now.
const CALLS: usize = 8;

/// Open vSwitch on this host. Its work ends with the last handle.
#[derive(Debug)]
pub struct Ovs {
    calls: mpsc::Sender<Call>,
    notices: Arc<Notices>,
}

/// What is asked of the task that owns the connections.
#[derive(Debug)]
enum Call {
    Resume(Remembered),
    Read(oneshot::Sender<Result<Picture, DatapathError>>),
    Announce(Vec<(SwitchName, PortId)>),
    Apply(Arc<[Step]>, Ports, oneshot::Sender<Applied>),
    Counters(
        Vec<(SwitchName, PortId)>,
        oneshot::Sender<Result<Vec<(SwitchName, CountersOf)>, DatapathError>>,
    ),
}

impl Ovs {
    /// Starts to work with an Open vSwitch, which need not be there yet. The
    /// task ends once the handle is dropped.
    #[must_use]
    pub fn start(config: OvsConfig, counts: OvsCounts) -> (Self, JoinHandle<()>) {
        let (calls, to_do) = mpsc::channel(CALLS);
        let notices = Arc::new(Notices::default());
        let task = task::Task::new(config, counts, notices.clone());
        let task = tokio::spawn(task.run(to_do));
        (Self { calls, notices }, task)
    }

    async fn ask<A>(
        &self,
        doing: &'static str,
        call: impl FnOnce(oneshot::Sender<A>) -> Call,
    ) -> Result<A, DatapathError> {
        let over = || DatapathError {
            doing,
            reason: "its task has ended".to_owned(),
        };
        let (answer, answered) = oneshot::channel();
        self.calls.send(call(answer)).await.map_err(|_| over())?;
        answered.await.map_err(|_| over())
    }
}

impl Datapath for Ovs {
    async fn resume(&self, known: Remembered) {
        // Without its task whoever asks next is told so.
        drop(self.calls.send(Call::Resume(known)).await);
    }

    async fn read(&self) -> Result<Picture, DatapathError> {
        self.ask("read", Call::Read).await?
    }

    async fn apply(&self, steps: Arc<[Step]>, guarded: Ports) -> Applied {
        let applied = self.ask("changed", |answer| Call::Apply(steps, guarded, answer));
        applied.await.unwrap_or_else(Applied::from)
    }

    async fn counters(
        &self,
        ports: Vec<(SwitchName, PortId)>,
    ) -> Result<Vec<(SwitchName, CountersOf)>, DatapathError> {
        self.ask("read", |answer| Call::Counters(ports, answer))
            .await?
    }

    async fn announce(&self, ports: Vec<(SwitchName, PortId)>) {
        // As above.
        drop(self.calls.send(Call::Announce(ports)).await);
    }

    async fn next_notice(&self) -> Notice {
        self.notices.next().await
    }
}
