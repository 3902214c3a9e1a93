// SPDX-License-Identifier: Apache-2.0
//! Whether the service can do its work: named conditions, each true or false
//! with a reason. Ready means: all true, and not stopping.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The conditions of a service; clones share them.
#[derive(Debug, Clone, Default)]
pub struct Health {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    life: Life,
    conditions: BTreeMap<&'static str, Result<(), String>>,
}

/// Where the service is in its life; it can do its work in the middle of it
/// only.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
enum Life {
    /// And what it is at, in words for the operator.
    Starting(String),
    #[default]
    Serving,
    Stopping,
}

/// The service's readiness at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Readiness {
    /// Whether it can do its work.
    pub ready: bool,
    /// One line per condition: `ok <name>` or `no <name>: <reason>`.
    pub text: String,
}

impl Health {
    /// Adds a condition, false for now. A name that is there already is the
    /// same condition.
    #[must_use]
    pub fn condition(&self, name: &'static str, reason: &str) -> Condition {
        let condition = Condition {
            name,
            health: self.clone(),
        };
        condition.no(reason);
        condition
    }

    /// Until it serves the service is not ready, whatever the conditions say.
    /// `at`: what it does or waits for meanwhile. Of a stop that has begun it
    /// changes nothing.
    pub(crate) fn starting(&self, at: &str) {
        let mut state = self.state();
        match state.life {
            Life::Starting(_) | Life::Serving => state.life = Life::Starting(at.to_owned()),
            Life::Stopping => {}
        }
    }

    /// The start is over, unless the stop has begun.
    pub(crate) fn serving(&self) {
        let mut state = self.state();
        match state.life {
            Life::Starting(_) | Life::Serving => state.life = Life::Serving,
            Life::Stopping => {}
        }
    }

    /// From now on the service is not ready, whatever the conditions say.
    pub(crate) fn stopping(&self) {
        self.state().life = Life::Stopping;
    }

    /// The readiness now.
    #[must_use]
    pub fn readiness(&self) -> Readiness {
        let state = self.state();
        let mut text = String::new();
        let mut ready = false;
        match &state.life {
            // Writing to a String can't fail.
            Life::Starting(at) => drop(writeln!(text, "no service: starting; {at}")),
            Life::Serving => ready = true,
            Life::Stopping => text.push_str("no service: stopping\n"),
        }
        for (name, condition) in &state.conditions {
            // Writing to a String can't fail.
            let _ = match condition {
                Ok(()) => writeln!(text, "ok {name}"),
                Err(reason) => {
                    ready = false;
                    writeln!(text, "no {name}: {reason}")
                }
            };
        }
        Readiness { ready, text }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Each change is one assignment, so the state is whole after any panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One condition, held by whoever knows about it.
#[derive(Debug)]
pub struct Condition {
    name: &'static str,
    health: Health,
}

impl Condition {
    /// It is true.
    pub fn ok(&self) {
        self.set(Ok(()));
    }

    /// It is false, and why, in words for the operator.
    pub fn no(&self, reason: impl Into<String>) {
        self.set(Err(reason.into()));
    }

    fn set(&self, to: Result<(), String>) {
        self.health.state().conditions.insert(self.name, to);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn readiness(ready: bool, text: &str) -> Readiness {
        Readiness {
            ready,
            text: text.to_owned(),
        }
    }

    #[test]
    fn ready_is_when_all_conditions_hold() {
        let health = Health::default();
        let bus = health.condition("bus", "connecting");
        let ledger = health.condition("ledger", "opening");
        bus.ok();
        assert_eq!(
            health.readiness(),
            readiness(false, "ok bus\nno ledger: opening\n")
        );
        ledger.ok();
        assert_eq!(health.readiness(), readiness(true, "ok bus\nok ledger\n"));
        bus.no("connection lost");
        assert_eq!(
            health.readiness(),
            readiness(false, "no bus: connection lost\nok ledger\n")
        );
    }

    #[test]
    fn a_service_that_starts_is_not_ready_whatever_holds() {
        let health = Health::default();
        health.condition("bus", "").ok();
        health.starting("its ledger is not loaded yet");
        let text = "no service: starting; its ledger is not loaded yet\nok bus\n";
        assert_eq!(health.readiness(), readiness(false, text));
        health.starting("waiting for another");
        let text = "no service: starting; waiting for another\nok bus\n";
        assert_eq!(health.readiness(), readiness(false, text));
        health.serving();
        assert_eq!(health.readiness(), readiness(true, "ok bus\n"));
        health.stopping();
        health.serving();
        assert!(!health.readiness().ready);
    }

    #[test]
    fn a_stopping_service_is_not_ready_whatever_holds() {
        let health = Health::default();
        health.condition("bus", "").ok();
        health.stopping();
        assert_eq!(
            health.readiness(),
            readiness(false, "no service: stopping\nok bus\n")
        );
    }
}
