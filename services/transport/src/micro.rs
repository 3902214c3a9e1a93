// SPDX-License-Identifier: Apache-2.0
//! The NATS micro service protocol (NATS ADR-32): what a service says of
//! itself to `nats service ls`, `info` and `stats`.
//!
//! The client library has an implementation, and its message types are used
//! here; but it counts as errors only answers with an empty body, and ours say
//! what is wrong.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_nats::datetime::{self, DateTime};
use async_nats::service::endpoint;
use async_nats::service::error::Error as LastError;
use async_nats::service::{Info, PingResponse, Stats};
use bytes::Bytes;

/// Queue group of micro services, so that of several instances one answers.
pub(crate) const QUEUE_GROUP: &str = "q";

/// What a service can be asked about itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verb {
    Ping,
    Info,
    Stats,
}

impl Verb {
    pub(crate) const ALL: [Self; 3] = [Self::Ping, Self::Info, Self::Stats];

    fn name(self) -> &'static str {
        match self {
            Self::Ping => "PING",
            Self::Info => "INFO",
            Self::Stats => "STATS",
        }
    }
}

/// One service instance, as others see it.
#[derive(Debug)]
pub(crate) struct Micro {
    info: Info,
    started: DateTime,
    stats: Mutex<Vec<endpoint::Stats>>,
}

impl Micro {
    pub(crate) fn new(mut info: Info) -> Self {
        "io.nats.micro.v1.info_response".clone_into(&mut info.kind);
        let stats = info.endpoints.iter().map(|endpoint| endpoint::Stats {
            name: endpoint.name.clone(),
            subject: endpoint.subject.clone(),
            queue_group: endpoint.queue_group.clone(),
            ..endpoint::Stats::default()
        });
        let stats = Mutex::new(stats.collect());
        Self {
            info,
            started: datetime::now(),
            stats,
        }
    }

    /// The subjects a verb is asked on: of all services, of this kind of
    /// service, of this instance.
    pub(crate) fn subjects(&self, verb: Verb) -> [String; 3] {
        let (verb, name, id) = (verb.name(), &self.info.name, &self.info.id);
        [
            format!("$SRV.{verb}"),
            format!("$SRV.{verb}.{name}"),
            format!("$SRV.{verb}.{name}.{id}"),
        ]
    }

    /// The answer to a verb, in JSON as the protocol has it.
    pub(crate) fn answer(&self, verb: Verb) -> Result<Bytes, serde_json::Error> {
        let Info {
            kind: _,
            name,
            id,
            description: _,
            version,
            metadata,
            endpoints: _,
        } = &self.info;
        match verb {
            Verb::Ping => serde_json::to_vec(&PingResponse {
                kind: "io.nats.micro.v1.ping_response".to_owned(),
                name: name.clone(),
                id: id.clone(),
                version: version.clone(),
                metadata: metadata.clone(),
            }),
            Verb::Info => serde_json::to_vec(&self.info),
            Verb::Stats => serde_json::to_vec(&Stats {
                kind: "io.nats.micro.v1.stats_response".to_owned(),
                name: name.clone(),
                id: id.clone(),
                version: version.clone(),
                started: self.started,
                endpoints: self.stats().clone(),
            }),
        }
        .map(Bytes::from)
    }

    /// Counts an answered request of the endpoint at `index`.
    pub(crate) fn count(&self, index: usize, took: Duration, error: Option<LastError>) {
        let mut stats = self.stats();
        let Some(stats) = stats.get_mut(index) else {
            return;
        };
        stats.requests += 1;
        stats.processing_time += took;
        let requests = u32::try_from(stats.requests).unwrap_or(u32::MAX);
        stats.average_processing_time = stats.processing_time / requests;
        if let Some(error) = error {
            stats.errors += 1;
            stats.last_error = Some(error);
        }
    }

    fn stats(&self) -> MutexGuard<'_, Vec<endpoint::Stats>> {
        // Counters are whole after any panic between two of them.
        self.stats.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An endpoint's entry in INFO.
pub(crate) fn endpoint_info(subject: &str, description: &str) -> endpoint::Info {
    endpoint::Info {
        name: subject.replace('.', "-"),
        subject: subject.to_owned(),
        queue_group: QUEUE_GROUP.to_owned(),
        metadata: HashMap::from([("description".to_owned(), description.to_owned())]),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::{Value, json};

    fn micro() -> Micro {
        Micro::new(Info {
            kind: String::new(),
            name: "retry".into(),
            id: "ID".into(),
            description: "queues".into(),
            version: "0.1.0".into(),
            metadata: HashMap::new(),
            endpoints: vec![endpoint_info("dvs.v1.retry.list", "what waits")],
        })
    }

    fn answer(micro: &Micro, verb: Verb) -> Value {
        serde_json::from_slice(&micro.answer(verb).unwrap()).unwrap()
    }

    #[test]
    fn a_service_is_asked_on_three_subjects_per_verb() {
        assert_eq!(
            micro().subjects(Verb::Ping),
            ["$SRV.PING", "$SRV.PING.retry", "$SRV.PING.retry.ID"]
        );
    }

    #[test]
    fn info_describes_the_endpoints() {
        let expected = json!({
            "type": "io.nats.micro.v1.info_response",
            "name": "retry", "id": "ID", "description": "queues", "version": "0.1.0", "metadata": {},
            "endpoints": [{
                "name": "dvs-v1-retry-list", "subject": "dvs.v1.retry.list", "queue_group": "q",
                "metadata": {"description": "what waits"},
            }],
        });
        assert_eq!(answer(&micro(), Verb::Info), expected);
    }

    #[test]
    fn errors_are_counted_with_the_last_of_them() {
        let micro = micro();
        micro.count(0, Duration::from_nanos(10), None);
        micro.count(
            0,
            Duration::from_nanos(30),
            Some(LastError {
                code: 404,
                status: "no such host".into(),
            }),
        );
        micro.count(9, Duration::ZERO, None);
        let stats = answer(&micro, Verb::Stats);
        let expected = json!([{
            "name": "dvs-v1-retry-list", "subject": "dvs.v1.retry.list", "queue_group": "q",
            "num_requests": 2, "num_errors": 1, "last_error": "404:no such host",
            "processing_time": 40, "average_processing_time": 20,
        }]);
        assert_eq!(stats["endpoints"], expected);
        assert_eq!(stats["type"], "io.nats.micro.v1.stats_response");
    }
}
