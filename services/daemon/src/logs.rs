// SPDX-License-Identifier: Apache-2.0
//! Logs to standard error, as text or JSON, filtered as the user says.

use std::io::IsTerminal;

use anyhow::Context;
use tracing_subscriber::EnvFilter;

use crate::args::LogFormat;

/// The NATS client logs every event at `info`, one per lost message of a slow
/// consumer among them; the bus counts these and logs what matters itself.
const QUIET: &str = "async_nats=error";

/// Starts logging for the whole process.
pub(crate) fn start(filter: &str, format: LogFormat) -> anyhow::Result<()> {
    let filter = parse(filter)?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    let started = match format {
        LogFormat::Text => builder.with_ansi(colours()).try_init(),
        LogFormat::Json => builder
            .json()
            .flatten_event(true)
            .with_current_span(true)
            .with_span_list(false)
            .try_init(),
    };
    started.map_err(|error| anyhow::anyhow!("logging can't be started: {error}"))
}

fn parse(filter: &str) -> anyhow::Result<EnvFilter> {
    let all = if filter.contains("async_nats") {
        filter.to_owned()
    } else {
        format!("{filter},{QUIET}")
    };
    EnvFilter::builder().parse(all).with_context(|| {
        format!("--log {filter:?} is no filter; give a level (error, warn, info, debug, trace) or levels by module like info,host_agent=debug")
    })
}

fn colours() -> bool {
    std::io::stderr().is_terminal()
        && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_client_is_quiet_unless_it_is_asked_for() {
        assert!(
            parse("debug")
                .unwrap()
                .to_string()
                .contains("async_nats=error")
        );
        assert_eq!(
            parse("async_nats=trace").unwrap().to_string(),
            "async_nats=trace"
        );
    }

    #[test]
    fn a_filter_that_is_none_is_refused_with_what_is_allowed() {
        let text = format!("{:#}", parse("host_agent=loud").unwrap_err());
        assert!(
            text.contains("host_agent=loud") && text.contains("error, warn, info"),
            "{text}"
        );
    }
}
