// SPDX-License-Identifier: Apache-2.0
//! Askers that wait for what they asked to be true, and how it went for them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use dvs_schemas::v1::{ApplyOutcome, ApplyReport, PortFailure, RemoveOutcome, RemoveReport, V1};
use dvs_schemas::{HostName, PortId, SessionId, SwitchName, Timestamp};

use super::messages::{Answer, Asker};
use super::switch::{Scope, Switch};
use crate::datapath::{Part, StepFailure};
use crate::plan::Stuck;

/// One asker.
#[derive(Debug)]
pub(super) struct Waiter {
    pub(super) asker: Arc<Asker>,
    pub(super) switch: SwitchName,
    pub(super) question: Question,
    pub(super) scope: Scope,
    /// Until then, what is missing may be on its way in another message.
    pub(super) patience: Timestamp,
    /// Writes that its question took so far.
    pub(super) writes: usize,
    /// What it waits for.
    pub(super) stage: Stage,
}

/// What was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Question {
    /// A clobber; the switch's subject must be heard before the answer if it
    /// was a full state.
    Clobber {
        /// It was a full state.
        full: bool,
    },
    /// A removal.
    Remove,
}

/// What an asker waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Stage {
    /// The next plan.
    Plan,
    /// The apply under way.
    Apply,
    /// That the switch's subject is heard.
    Hearing(Verdict),
    /// Nothing any more.
    Over(Verdict),
}

/// How it went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// All of it is true.
    Applied(u32),
    /// Not all of it is.
    Failed {
        message: String,
        ports: Vec<PortFailure>,
    },
}

/// What went wrong with parts of one switch.
#[derive(Debug, Default)]
pub(super) struct Failures {
    pub(super) parts: BTreeMap<Part, StepFailure>,
}

impl Verdict {
    pub(super) fn failed(message: impl Into<String>) -> Self {
        Self::Failed {
            message: message.into(),
            ports: Vec::new(),
        }
    }

    /// How it went for a scope, by what failed, what is stuck and what was rolled
    /// back in it.
    fn of(
        scope: &Scope,
        writes: usize,
        failures: Option<&Failures>,
        stuck: &BTreeMap<PortId, Stuck>,
        rolled_back: Vec<(Option<PortId>, String)>,
    ) -> Self {
        let mut ports = Vec::new();
        let mut others = Vec::new();
        for (port, message) in rolled_back {
            match port {
                None if scope.covers(&Part::Bridge) => others.push(message),
                Some(port) if scope.covers(&Part::Port(port.clone())) => ports.push(PortFailure {
                    port,
                    field: None,
                    message,
                }),
                None | Some(_) => {}
            }
        }
        let failed = failures.into_iter().flat_map(|failures| &failures.parts);
        let failed = failed.filter(|(part, _)| scope.covers(part));
        let failed =
            failed.flat_map(|(part, failure)| failure.each().map(move |each| (part, each)));
        for (part, StepFailure { field, message, .. }) in failed {
            match part {
                Part::Port(port) => ports.push(PortFailure {
                    port: port.clone(),
                    field: field.clone(),
                    message: message.clone(),
                }),
                Part::Bridge => others.push(format!("bridge: {message}")),
                Part::Mirror(mirror) => others.push(format!("mirror {mirror}: {message}")),
            }
        }
        ports.extend(stuck_ports(scope, stuck));
        if ports.is_empty() && others.is_empty() {
            return Self::Applied(u32::try_from(writes).unwrap_or(u32::MAX));
        }
        if !ports.is_empty() {
            let named: BTreeSet<&PortId> = ports.iter().map(|failure| &failure.port).collect();
            others.push(match named.len() {
                1 => "1 port is not as it should be".to_owned(),
                many => format!("{many} ports are not as they should be"),
            });
        }
        Self::Failed {
            message: others.join("; "),
            ports,
        }
    }
}

/// The stuck ports of a scope.
fn stuck_ports(
    scope: &Scope,
    stuck: &BTreeMap<PortId, Stuck>,
) -> impl Iterator<Item = PortFailure> {
    stuck
        .iter()
        .filter(|(port, _)| scope.covers(&Part::Port((*port).clone())))
        .map(|(port, why)| PortFailure {
            port: port.clone(),
            field: why.field().map(str::to_owned),
            message: why.to_string(),
        })
}

impl Waiter {
    /// Gives its verdict, or another plan's time: what is stuck may be freed by
    /// a message that is on its way.
    pub(super) fn judge(
        &mut self,
        now: Timestamp,
        failures: Option<&Failures>,
        stuck: &BTreeMap<PortId, Stuck>,
        rolled_back: Vec<(Option<PortId>, String)>,
    ) {
        let verdict = Verdict::of(&self.scope, self.writes, failures, stuck, rolled_back);
        let may_be_freed = now < self.patience && stuck_ports(&self.scope, stuck).next().is_some();
        self.stage = if may_be_freed {
            Stage::Plan
        } else {
            Stage::Over(verdict)
        };
    }

    /// The answer to the asker.
    pub(super) fn answer(
        &self,
        (host, session): (&HostName, SessionId),
        switch: Option<&Switch>,
        verdict: Verdict,
    ) -> Answer {
        let position = switch.map(|switch| switch.held.position());
        match self.question {
            Question::Clobber { .. } => Answer::Apply(ApplyReport {
                v: V1,
                host: host.clone(),
                session,
                switch: self.switch.clone(),
                observed: switch.map(|switch| switch.observed).unwrap_or_default(),
                position,
                outcome: match verdict {
                    Verdict::Applied(writes) => ApplyOutcome::Applied { writes },
                    Verdict::Failed { message, ports } => ApplyOutcome::Failed { message, ports },
                },
            }),
            Question::Remove => Answer::Remove(RemoveReport {
                v: V1,
                host: host.clone(),
                session,
                switch: self.switch.clone(),
                observed: switch.map(|switch| switch.observed).unwrap_or_default(),
                position,
                outcome: match verdict {
                    Verdict::Applied(_) => RemoveOutcome::Removed,
                    Verdict::Failed { message, ports } => RemoveOutcome::Failed {
                        ports: self.each_port(message, ports),
                    },
                },
            }),
        }
    }

    /// A removal answers by port only: what concerns the whole concerns each.
    fn each_port(&self, message: String, ports: Vec<PortFailure>) -> Vec<PortFailure> {
        if !ports.is_empty() {
            return ports;
        }
        let Scope::Parts(parts) = &self.scope else {
            return ports;
        };
        parts
            .ports
            .iter()
            .map(|port| PortFailure {
                port: port.clone(),
                field: None,
                message: message.clone(),
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn each_field_of_a_port_that_fails_is_named() {
        let port: PortId = "web-1".parse().unwrap();
        let limit = |way: &str| StepFailure::new(Some(way), format!("no {way}"));
        let failure = StepFailure {
            others: vec![limit("shaping.egress")],
            ..limit("shaping.ingress")
        };
        let parts = BTreeMap::from([(Part::Port(port.clone()), failure)]);
        let failures = Failures { parts };
        let verdict = Verdict::of(
            &Scope::Switch,
            1,
            Some(&failures),
            &BTreeMap::new(),
            Vec::new(),
        );
        let named = |way: &str| PortFailure {
            port: port.clone(),
            field: Some(way.to_owned()),
            message: format!("no {way}"),
        };
        let expected = Verdict::Failed {
            message: "1 port is not as it should be".to_owned(),
            ports: vec![named("shaping.ingress"), named("shaping.egress")],
        };
        assert_eq!(verdict, expected);
    }
}
