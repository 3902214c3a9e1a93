// SPDX-License-Identifier: Apache-2.0
//! Arguments of the commands that ask the collector.

use std::time::Duration;

use clap::{Args, ValueEnum};
use dvs_schemas::v1::Link;
use dvs_schemas::{HostName, PortGroupName, PortId, SwitchName};

use super::words;
use crate::output::ListFormat;

/// Arguments of `history`.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  dvsctl history web-1")]
pub struct HistoryArgs {
    /// The port.
    #[arg(value_parser = words::port)]
    pub port: PortId,
    /// How to print.
    #[command(flatten)]
    pub format: ListFormat,
}

/// Arguments of `rollup`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  dvsctl rollup switches
  dvsctl rollup portgroups --switch prod
  dvsctl rollup hosts --group web -o wide")]
pub struct RollupArgs {
    /// One row for each of these.
    #[arg(value_enum, ignore_case = true)]
    pub by: RollupKind,
    /// Only this switch.
    #[arg(long, value_parser = words::switch)]
    pub switch: Option<SwitchName>,
    /// Only this group.
    #[arg(long)]
    pub group: Option<PortGroupName>,
    /// Only this host.
    #[arg(long, value_parser = words::host)]
    pub host: Option<HostName>,
    /// How to print.
    #[command(flatten)]
    pub format: ListFormat,
}

/// What ports can be summed up by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum RollupKind {
    /// By switch.
    #[value(alias = "switch")]
    Switches,
    /// By port group.
    #[value(aliases = ["portgroup", "pg", "groups"])]
    Portgroups,
    /// By host.
    #[value(alias = "host")]
    Hosts,
}

/// Arguments of `runtime`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  dvsctl runtime web-1
  dvsctl runtime --host h1 --link down
  dvsctl runtime --switch prod --stale 1h      not told of for an hour")]
pub struct RuntimeArgs {
    /// Only this port.
    #[arg(conflicts_with_all = ["switch", "group", "host", "link", "stale"], value_parser = words::port)]
    pub port: Option<PortId>,
    /// Only this switch.
    #[arg(long, value_parser = words::switch)]
    pub switch: Option<SwitchName>,
    /// Only this group.
    #[arg(long)]
    pub group: Option<PortGroupName>,
    /// Only this host.
    #[arg(long, value_parser = words::host)]
    pub host: Option<HostName>,
    /// Only ports whose link is up, or down.
    #[arg(long, value_parser = link, value_name = "up|down")]
    pub link: Option<Link>,
    /// Only ports that were not told of for so long. A quiet port is told of
    /// once; look at its host before taking it for lost.
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    pub stale: Option<Duration>,
    /// How to print.
    #[command(flatten)]
    pub format: ListFormat,
}

/// Arguments of `live`.
#[derive(Debug, Args)]
pub struct LiveArgs {
    /// This port, on the host that last told of it.
    #[arg(required_unless_present = "host", value_parser = words::port)]
    pub port: Option<PortId>,
    /// All ports of this host.
    #[arg(long, value_parser = words::host)]
    pub host: Option<HostName>,
    /// How to print.
    #[command(flatten)]
    pub format: ListFormat,
}

fn link(text: &str) -> Result<Link, &'static str> {
    match text {
        "up" => Ok(Link::Up),
        "down" => Ok(Link::Down),
        _ => Err("allowed: up, down"),
    }
}
