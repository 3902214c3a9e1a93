// SPDX-License-Identifier: Apache-2.0
//! What is done about a ledger that fell back or was lost.

use clap::{Args, Subcommand};
use dvs_schemas::v1::Deadline;

/// What is done about the publisher's ledger.
#[derive(Debug, Clone, Subcommand)]
pub enum StoreAction {
    /// Make this publisher's configuration hold on hosts that follow another
    /// history: its ledger was restored from a backup, or lost and applied anew.
    ///
    /// The configuration goes on under a new store identity, above every
    /// revision and epoch that a host told of, and every host gets its full
    /// state. What hosts have and this configuration does not is removed from
    /// them.
    Continue(ContinueArgs),
}

/// Arguments of `store continue`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:
  dvsctl get hosts                     who follows another history
  dvsctl store continue --dry-run      what would happen
  dvsctl store continue --wait         do it, and wait for the hosts

If the ledger that the hosts follow still exists, put it back instead: stop
config-publisher, restore the file, start it.")]
pub struct ContinueArgs {
    /// Only say what would happen.
    #[arg(long)]
    pub dry_run: bool,
    /// Wait until every host has applied it, at most BOUND; exit code 1 if one lags.
    #[arg(long, value_name = "BOUND", num_args = 0..=1, require_equals = true, default_missing_value = "10s", conflicts_with = "dry_run")]
    pub wait: Option<Deadline>,
}
