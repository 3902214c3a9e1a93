// SPDX-License-Identifier: Apache-2.0
//! `ops/bench`: how fast the main job is, against floors of the same run.

use anyhow::Result;
use clap::{Parser, Subcommand};
use dvs_tests::load::{floor, ovs, push, report};

/// Measures dvswitch on a real nats-server with real agents in replica mode.
#[derive(Debug, Parser)]
#[command(
    after_help = "Example:\n  ops/bench push\n  ops/bench push --fan-out-hosts 1000 --rounds 5\n  sudo ops/bench ovs"
)]
struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// The main job: a change of a port group, full states, one port, memory.
    Push {
        /// Hosts of the fan-out.
        #[arg(long, default_value_t = 10_000)]
        fan_out_hosts: u32,
        /// Hosts of the full state.
        #[arg(long, default_value_t = 2_000)]
        full_hosts: u32,
        /// Ports per host of the full state.
        #[arg(long, default_value_t = 30)]
        ports_per_host: u32,
        /// Times that each thing is measured; one port ten times as often.
        #[arg(long, default_value_t = 15)]
        rounds: u32,
        /// Print JSON instead of a table.
        #[arg(long)]
        json: bool,
    },
    /// Open vSwitch: a VLAN of many ports, an unchanged full state, plugging.
    Ovs {
        /// Ports whose VLAN is changed at once.
        #[arg(long, default_value_t = 1_000)]
        ports: u32,
        /// Ports of the full state.
        #[arg(long, default_value_t = 4_096)]
        full_ports: u32,
        /// Times that each thing is measured.
        #[arg(long, default_value_t = 15, value_parser = clap::value_parser!(u32).range(1..))]
        rounds: u32,
        /// Print JSON instead of a table.
        #[arg(long)]
        json: bool,
    },
    /// The floor's hosts, in a process of their own.
    #[command(hide = true)]
    RawHosts {
        #[arg(long)]
        url: String,
        #[arg(long)]
        hosts: u32,
        #[arg(long)]
        reply: usize,
    },
}

#[tokio::main]
async fn main() -> Result<()> {
    match Args::parse().what {
        What::Push {
            fan_out_hosts,
            full_hosts,
            ports_per_host,
            rounds,
            json,
        } => {
            let figures = push::run(push::Sizes {
                fan_out_hosts,
                full_hosts,
                ports_per_host,
                rounds,
            })
            .await?;
            show(&figures, json)
        }
        What::Ovs {
            ports,
            full_ports,
            rounds,
            json,
        } => {
            let figures = ovs::run(ovs::Sizes {
                ports,
                full_ports,
                rounds,
            })
            .await?;
            show(&figures, json)
        }
        What::RawHosts { url, hosts, reply } => floor::run_raw_hosts(&url, hosts, reply).await,
    }
}

fn show(figures: &[report::Figure], json: bool) -> Result<()> {
    if json {
        println!("{}", serde_json::to_string_pretty(figures)?);
    } else {
        print!("{}", report::table(figures));
    }
    Ok(())
}
