// SPDX-License-Identifier: Apache-2.0
//! The operator's command line: configuration in, state out, over the same
//! subjects as everyone else.
//!
//! Reading order: [`args`] (what can be asked), [`session`] (asking), then one
//! module per subject. Rendering is apart from asking, so tests see whole
//! tables without a bus.

pub mod args;
pub mod change;
pub mod conditions;
pub mod connections;
pub mod credentials;
pub mod delete;
pub mod describe;
pub mod diff;
pub mod documents;
pub mod explain;
pub mod failure;
pub mod get;
pub mod healthcheck;
pub mod history;
pub mod hosts;
mod mistyped;
pub mod namesakes;
pub mod output;
pub mod policy;
pub mod ports;
pub mod progress;
pub mod queues;
pub mod removals;
pub mod rollup;
pub mod session;
pub mod store;
pub mod wait;
pub mod when;
pub mod whereabouts;

use std::time::Duration;

use clap::CommandFactory as _;

use args::{Cli, Command};
use failure::{Failure, Verdict};
use output::say;
use session::Connector;

/// Bound of a request, unless said otherwise.
const REQUEST: Duration = Duration::from_secs(5);

/// Bound of a wait, unless said otherwise.
const WAIT: Duration = Duration::from_secs(60);

/// Carries out a command line.
///
/// # Errors
/// The command could not do its work; [`Failure::code`] is the exit code.
pub async fn run(cli: Cli) -> Result<Verdict, Failure> {
    let Cli {
        connect,
        timeout,
        command,
    } = cli;
    let within = |bound| Connector {
        args: &connect,
        timeout: timeout.unwrap_or(bound),
    };
    let bus = within(REQUEST);
    match command {
        Command::Apply(args) => change::apply(bus, args).await,
        Command::Diff(args) => diff::run(bus, args).await,
        Command::Delete(args) => delete::run(bus, args).await,
        Command::Get(args) => get::run(bus, args).await,
        Command::Describe(args) => describe::run(bus, args).await,
        Command::OutOfSync(args) => queues::out_of_sync(bus, args).await,
        Command::RipQueue(args) => queues::rip_queue(bus, args).await,
        Command::Resync(args) => change::resync(bus, args).await,
        Command::Connect(args) => connections::connect(bus, args).await,
        Command::Move(args) => connections::relocate(bus, args).await,
        Command::Disconnect(args) => connections::disconnect(bus, args).await,
        Command::Forget(args) => hosts::forget(bus, args).await,
        Command::Store(action) => store::run(bus, action).await,
        Command::Runtime(args) => ports::runtime(bus, args).await,
        Command::History(args) => history::run(bus, args).await,
        Command::Rollup(args) => rollup::run(bus, args).await,
        Command::Live(args) => ports::live(bus, args).await,
        Command::Wait(what) => wait::run(within(WAIT), what).await,
        Command::Explain(args) => explain::run(&args),
        Command::Completions { shell } => {
            let mut text = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "dvsctl", &mut text);
            output::print(&String::from_utf8_lossy(&text))?;
            Ok(Verdict::Yes)
        }
        Command::Credentials { dir } => {
            for path in credentials::make(&dir)?.files {
                say(&format!("made {}", path.display()));
            }
            Ok(Verdict::Yes)
        }
        Command::Healthcheck { url } => healthcheck::run(&url, bus.timeout),
    }
}
