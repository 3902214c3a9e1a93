// SPDX-License-Identifier: Apache-2.0
//! Arguments of the commands that show and work the queues.

use clap::{Args, Subcommand};
use dvs_schemas::{HostName, PortId, SwitchName};

use super::words;
use crate::output::ListFormat;

/// Arguments of `out-of-sync`.
#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "Examples:
  dvsctl out-of-sync --switch prod
  dvsctl out-of-sync kick --host h7      try it now
  dvsctl out-of-sync park --host h7      stop trying, keep it visible"
)]
pub struct OutOfSyncArgs {
    /// What to do; nothing: list.
    #[command(subcommand)]
    pub action: Option<QueueAction<SyncFilter>>,
    /// Which to list.
    #[command(flatten)]
    pub filter: SyncFilter,
    /// How to print.
    #[command(flatten)]
    pub format: ListFormat,
}

/// Arguments of `rip-queue`.
#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "Examples:
  dvsctl rip-queue --host h7
  dvsctl rip-queue kick --all
  dvsctl rip-queue cancel --host h7 --port web-1"
)]
pub struct RipQueueArgs {
    /// What to do; nothing: list.
    #[command(subcommand)]
    pub action: Option<QueueAction<RipFilter>>,
    /// Which to list.
    #[command(flatten)]
    pub filter: SyncFilter,
    /// How to print.
    #[command(flatten)]
    pub format: ListFormat,
}

/// What can be done to entries of a queue.
#[derive(Debug, Clone, Subcommand)]
pub enum QueueAction<F: Args> {
    /// Try entries now, parked ones too.
    Kick(Selected<F>),
    /// Stop trying entries; they stay visible.
    Park(Selected<F>),
    /// Drop entries: the hosts stay as they are.
    Cancel(Selected<F>),
}

/// Which entries: some, or expressly all.
#[derive(Debug, Clone, Args)]
#[group(id = "selected")]
pub struct Selected<F: Args> {
    /// Filters.
    #[command(flatten)]
    pub filter: F,
    /// All entries of the queue.
    #[arg(long)]
    pub all: bool,
}

/// Which out-of-sync entries.
#[derive(Debug, Clone, Default, Args)]
pub struct SyncFilter {
    /// Only this host.
    #[arg(long, value_parser = words::host)]
    pub host: Option<HostName>,
    /// Only this switch.
    #[arg(long, value_parser = words::switch)]
    pub switch: Option<SwitchName>,
}

/// Which rip entries.
#[derive(Debug, Clone, Default, Args)]
pub struct RipFilter {
    /// Host and switch.
    #[command(flatten)]
    pub sync: SyncFilter,
    /// Only this port.
    #[arg(long, value_parser = words::port)]
    pub port: Option<PortId>,
}
