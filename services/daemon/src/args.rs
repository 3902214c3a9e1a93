// SPDX-License-Identifier: Apache-2.0
//! The flags that every service has, each with its environment variable.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Flags of a service; `PORT` is the service's default port for health and
/// metrics.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Service")]
pub struct Args<const PORT: u16> {
    /// Folder of the ledger.
    #[arg(
        long,
        env = "DVS_DATA",
        value_name = "DIR",
        default_value = "/var/lib/dvswitch",
        global = true
    )]
    pub data: PathBuf,
    /// Address of /healthz, /readyz and /metrics.
    #[arg(long, env = "DVS_LISTEN", value_name = "ADDR", default_value_t = loopback(PORT), global = true)]
    pub listen: SocketAddr,
    /// What is logged: a level, or levels by module like `info,host_agent=debug`.
    #[arg(
        long,
        env = "DVS_LOG",
        value_name = "FILTER",
        default_value = "info",
        global = true
    )]
    pub log: String,
    /// How logs are written, to standard error.
    #[arg(
        long,
        env = "DVS_LOG_FORMAT",
        value_name = "FORMAT",
        default_value = "text",
        global = true
    )]
    pub log_format: LogFormat,
}

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

impl<const PORT: u16> Args<PORT> {
    /// The flags without the default's type.
    #[must_use]
    pub fn settings(self) -> Settings {
        let Self {
            data,
            listen,
            log,
            log_format,
        } = self;
        Settings {
            data,
            listen,
            log,
            log_format,
        }
    }
}

/// Reads a flag's duration that must not be zero.
///
/// # Errors
/// It is none, or less than a millisecond; says what is allowed.
pub fn positive(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text)
        .ok()
        .filter(|duration| *duration >= Duration::from_millis(1))
        .ok_or_else(|| "allowed: 1ms or more, written like 500ms, 10s, 5m".to_owned())
}

/// What [`Args`] came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Folder of the ledger.
    pub data: PathBuf,
    /// Address of health and metrics; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Filter of the logs.
    pub log: String,
    /// How logs are written.
    pub log_format: LogFormat,
}

/// How a log line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object per line, for log collectors.
    Json,
}

/// What a service's program can do beside serving.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::Subcommand)]
pub enum Command {
    /// Ask the running service at --listen whether it is ready; exit 0 if so.
    Healthcheck,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use clap::{CommandFactory, Parser};

    #[derive(Debug, Parser)]
    struct Cli {
        #[command(flatten)]
        args: Args<9404>,
        #[command(flatten)]
        connect: dvs_transport::ConnectArgs,
        #[command(subcommand)]
        command: Option<Command>,
    }

    #[test]
    fn the_flags_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn defaults_are_those_of_the_service() {
        let cli = Cli::parse_from(["retry"]);
        let expected = Settings {
            data: "/var/lib/dvswitch".into(),
            listen: "127.0.0.1:9404".parse().unwrap(),
            log: "info".into(),
            log_format: LogFormat::Text,
        };
        assert_eq!((cli.args.settings(), cli.command), (expected, None));
    }

    #[test]
    fn a_duration_of_nothing_is_refused_with_what_is_allowed() {
        assert_eq!(positive("1ms"), Ok(Duration::from_millis(1)));
        for text in ["0s", "999us", "5", "-1s", ""] {
            assert!(positive(text).unwrap_err().contains("1ms or more"));
        }
    }

    #[test]
    fn the_health_check_takes_the_address_before_or_after_it() {
        for line in [
            ["retry", "healthcheck", "--listen", "[::1]:1"],
            ["retry", "--listen", "[::1]:1", "healthcheck"],
        ] {
            let cli = Cli::parse_from(line);
            assert_eq!(
                (cli.args.listen.port(), cli.command),
                (1, Some(Command::Healthcheck))
            );
        }
    }
}
