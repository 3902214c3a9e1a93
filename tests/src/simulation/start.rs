// SPDX-License-Identifier: Apache-2.0
//! How each program starts, and the few places where the simulation looks
//! into a core.

use std::collections::BTreeSet;
use std::time::Duration;

use config_publisher::core::Publisher;
use dvs_ledger::Ledger;
use dvs_schemas::{HostName, Timestamp};
use fastrand::Rng;
use host_agent::core::Agent;
use host_agent::host::HostSettings;
use retry::Retry;
use runtime_collector::Collector;
use uuid::Uuid;

use super::world::HOSTS;

/// `h1` to `h5`.
///
/// # Panics
/// Never: the names are names.
#[must_use]
pub(crate) fn host_name(n: usize) -> HostName {
    assert!(n < HOSTS, "there is no host {n}");
    format!("h{}", n + 1)
        .parse()
        .unwrap_or_else(|e| panic!("{e}"))
}

pub(crate) fn publisher(
    ledger: &Ledger,
    seed: u64,
) -> Result<Publisher, config_publisher::load::LoadError> {
    let settings = config_publisher::core::Settings {
        push_timeout: Duration::from_millis(200),
        // One push at a time, a few, and as many as there are.
        awaited: [0, 6, usize::MAX][(seed % 3) as usize],
        run: Uuid::from_u64_pair(seed, 1),
        seed,
        ..Default::default()
    };
    Publisher::load(ledger, settings)
}

pub(crate) fn retry(
    ledger: &Ledger,
    seed: u64,
    now: Timestamp,
) -> Result<Retry, dvs_ledger::LoadError> {
    let settings = retry::Settings {
        backoff: retry::Backoff {
            base: Duration::from_millis(100),
            cap: Duration::from_secs([1, 10][(seed % 2) as usize]),
        },
        // Longer than the publisher's, so that more comes meanwhile.
        push_timeout: Duration::from_secs(1),
    };
    Retry::load(ledger, settings, Rng::with_seed(seed), now)
}

pub(crate) fn collector(ledger: &Ledger) -> Result<Collector, dvs_ledger::LoadError> {
    let settings = runtime_collector::Settings {
        // Less than a host is asked to take, so some answers are late.
        live_timeout: Duration::from_millis(500),
        ..Default::default()
    };
    Collector::load(ledger, settings)
}

pub(crate) fn agent(
    ledger: &Ledger,
    host: &HostName,
    agent: Uuid,
    seed: u64,
    rollback_after: Option<Duration>,
) -> Result<Agent, host_agent::ledger::LoadError> {
    let settings = HostSettings {
        agent,
        node: host.to_string(),
        datapath: dvs_schemas::v1::HostDatapath::Emulated,
        heartbeat: Duration::from_secs(5),
        quiet: Duration::from_secs(2),
        rollback_after,
        mode: dvs_schemas::TellMode::Push,
    };
    Agent::load(ledger, &BTreeSet::from([host.clone()]), &settings, seed)
}

/// True if every host of the agent is known to the publisher and has the full
/// states that it was promised.
pub(crate) fn greeted(agent: &Agent) -> bool {
    (0..HOSTS)
        .filter_map(|n| agent.host(&host_name(n)))
        .all(host_agent::host::HostCore::is_known)
}
