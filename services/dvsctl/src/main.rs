// SPDX-License-Identifier: Apache-2.0
//! Entry point of `dvsctl`.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Make the keys of all roles that are missing in a folder.
    Credentials {
        /// The folder.
        dir: PathBuf,
    },
}

fn main() -> anyhow::Result<()> {
    let Cli { command } = Cli::parse();
    match command {
        Command::Credentials { dir } => {
            let made = dvsctl::credentials::make(&dir)?;
            for path in made.files {
                eprintln!("made {}", path.display());
            }
        }
    }
    Ok(())
}
