// SPDX-License-Identifier: Apache-2.0
//! What every service has: flags, logs, health, metrics, and the stop in
//! order. A service's `main` parses its flags and hands its body to [`run`].

mod alone;
mod args;
mod daemon;
mod health;
mod healthcheck;
mod http;
mod logs;
mod metrics;
#[cfg(feature = "testing")]
pub mod testing;

pub use alone::{Claim, Instance, Taken};
pub use args::{Args, Command, LogFormat, Settings, positive};
pub use daemon::{Daemon, STOP_LIMIT, run};
pub use health::{Condition, Health, Readiness};
pub use healthcheck::healthcheck;
pub use metrics::Metrics;

/// The services' allocator. They live on small values that one thread makes and
/// another one drops (messages, events, effects), with which glibc's allocator
/// is visibly slower in a push to 10,000 hosts. Without huge pages, which would
/// double what a small agent has resident.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;
