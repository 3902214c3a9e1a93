// SPDX-License-Identifier: Apache-2.0
//! Entry point of `dvsctl`.

use std::process::ExitCode;

use anyhow::Context as _;
use clap::Parser as _;

use dvsctl::args::Cli;
use dvsctl::failure::chain;
use dvsctl::output::say;

fn main() -> anyhow::Result<ExitCode> {
    let cli = Cli::parse();
    // One request at a time needs no threads.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("the runtime can't start")?;
    Ok(match runtime.block_on(dvsctl::run(cli)) {
        Ok(verdict) => verdict.into(),
        Err(failure) => {
            say(&format!("error: {}", chain(&failure)));
            ExitCode::from(failure.code())
        }
    })
}
