// SPDX-License-Identifier: Apache-2.0
//! Arguments of the commands that connect, move and let go.

use clap::Args;
use dvs_schemas::v1::Deadline;
use dvs_schemas::{HostName, MacAddr, PortGroupName, PortId, SwitchName, VnicId};

use super::{ReplyFormat, words};

/// Arguments of `connect`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  dvsctl connect web-1 vm-7/eth0 --host h1
  dvsctl connect vm-9-0 vm-9/eth0 --host h1 --switch prod --group scratch")]
pub struct VnicArgs {
    /// The port.
    #[arg(value_parser = words::port)]
    pub port: PortId,
    /// The vNIC.
    pub vnic: VnicId,
    /// The host where the vNIC is; left out: the port stays where it is.
    #[arg(long, value_parser = words::host)]
    pub host: Option<HostName>,
    /// The configured MAC address of the vNIC.
    #[arg(long)]
    pub mac: Option<MacAddr>,
    /// The switch of a port that is made with the connection.
    #[arg(long, requires = "group", value_parser = words::switch)]
    pub switch: Option<SwitchName>,
    /// Its group, whose binding must be ephemeral.
    #[arg(long, requires = "switch")]
    pub group: Option<PortGroupName>,
    /// When to end, and what to print.
    #[command(flatten)]
    pub placing: PlacingArgs,
}

/// Arguments of `move`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  dvsctl move web-1 h2
  dvsctl move web-1 h2 --from h1 --wait")]
pub struct MoveArgs {
    /// The port.
    #[arg(value_parser = words::port)]
    pub port: PortId,
    /// The host that it goes to.
    #[arg(value_parser = words::host)]
    pub host: HostName,
    /// Refuse if the port is not on this host any more.
    #[arg(long)]
    pub from: Option<HostName>,
    /// Move it although the host is absent, or follows another history: the port
    /// passes no frames until that host can be told.
    #[arg(long)]
    pub force: bool,
    /// When to end, and what to print.
    #[command(flatten)]
    pub placing: PlacingArgs,
}

/// How a port is placed.
#[derive(Debug, Args)]
pub struct PlacingArgs {
    /// Wait until the hosts have applied it, at most BOUND; exit code 1 if one lags.
    #[arg(long, value_name = "BOUND", num_args = 0..=1, require_equals = true, default_missing_value = "10s")]
    pub wait: Option<Deadline>,
    /// Print the reply as it came.
    #[arg(short, long, value_enum, value_name = "FORMAT")]
    pub output: Option<ReplyFormat>,
}

/// Arguments of `disconnect`.
#[derive(Debug, Args)]
pub struct DisconnectArgs {
    /// The port.
    #[arg(value_parser = words::port)]
    pub port: PortId,
    /// Refuse if another vNIC is connected.
    #[arg(long)]
    pub vnic: Option<VnicId>,
}

/// Arguments of `forget`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  dvsctl get hosts -o wide
  dvsctl forget rack3-17
  dvsctl forget rack3-17 rack3-18

A host that is there, or that a switch names, is not forgotten. One that comes
back all the same is a new host. What can be forgotten is, though another one
can't.")]
pub struct ForgetArgs {
    /// The hosts.
    #[arg(value_name = "HOST", required = true, value_parser = words::host)]
    pub hosts: Vec<HostName>,
}
