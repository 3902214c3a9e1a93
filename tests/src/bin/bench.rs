// SPDX-License-Identifier: Apache-2.0
//! `ops/bench`: how fast the main job is, against floors of the same run.

use anyhow::Result;
use clap::{Parser, Subcommand};
use dvs_tests::load::{floor, push, report};

/// Measures dvswitch on a real nats-server with real agents in replica mode.
#[derive(Debug, Parser)]
#[command(
    after_help = "Example:\n  ops/bench push\n  ops/bench push --fan-out-hosts 1000 --rounds 5"
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
            if json {
                println!("{}", serde_json::to_string_pretty(&figures)?);
            } else {
                print!("{}", report::table(&figures));
            }
            Ok(())
        }
        What::RawHosts { url, hosts, reply } => floor::run_raw_hosts(&url, hosts, reply).await,
    }
}
