// SPDX-License-Identifier: Apache-2.0
//! Whom the publisher talks to: hosts and the retry service, as far as it can
//! tell the difference.

use dvs_daemon::testing::{PATIENCE, bus};
use dvs_schemas::codec::{self, Format};
use dvs_schemas::subjects::{self, AgentVerb};
use dvs_schemas::v1::{
    ApplyOutcome, ApplyReport, Change, Clobber, Hello, Plan, PlanOutcome, PutReply, RetryPut, V1,
};
use dvs_schemas::{HostName, SessionId, SwitchName};
use dvs_transport::testing::NatsServer;
use dvs_transport::{Bus, answer_subject};
use futures_util::StreamExt;
use serde::Serialize;
use tokio::sync::{Mutex, mpsc, watch};

use crate::asking::ask;

fn packed<T: Serialize>(value: &T) -> bytes::Bytes {
    codec::encode(Format::MessagePack, value).unwrap()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Manner {
    Applies,
    Fails,
    Silent,
}

/// A host on the switch `prod`.
pub(crate) struct Host {
    name: HostName,
    manner: watch::Sender<Manner>,
    seen: watch::Receiver<usize>,
}

impl Host {
    pub(crate) async fn start(server: &NatsServer, name: &str) -> Self {
        let name: HostName = name.parse().unwrap();
        let bus = bus(server, name.as_str()).await;
        let switch: SwitchName = "prod".parse().unwrap();
        let fan_out = bus
            .subscribe(subjects::switch_clobber(&switch), PATIENCE)
            .await
            .unwrap();
        let clobbers = bus
            .subscribe(subjects::agent(&name, AgentVerb::Clobber), PATIENCE)
            .await
            .unwrap();
        let plans = bus
            .subscribe(subjects::agent(&name, AgentVerb::Plan), PATIENCE)
            .await
            .unwrap();
        let (manner, mannered) = watch::channel(Manner::Applies);
        let (count, seen) = watch::channel(0);
        let host = Self {
            name: name.clone(),
            manner,
            seen,
        };
        tokio::spawn(async move {
            let mut calls = futures_util::stream::select(
                fan_out,
                futures_util::stream::select(clobbers, plans),
            );
            while let Some(call) = calls.next().await {
                count.send_modify(|seen| *seen += 1);
                let clobber: Clobber = codec::decode(&call.payload).unwrap().1;
                let manner = *mannered.borrow();
                if manner == Manner::Silent {
                    continue;
                }
                let to = answer_subject(&call.reply.unwrap(), &name).unwrap();
                let answer = if call.subject.ends_with(".plan") {
                    packed(&plan(&name, &clobber))
                } else {
                    packed(&report(&name, &clobber, manner))
                };
                bus.publish(to, answer).await.unwrap();
            }
        });
        host
    }

    /// Says hello, and waits until the full state has come.
    pub(crate) async fn hello(&self, bus: &Bus) {
        let seen = self.seen();
        let hello = Hello {
            v: V1,
            host: self.name.clone(),
            agent: uuid::Uuid::new_v4(),
            session: Some(SESSION),
            version: "0.1.0".to_owned(),
            node: "test".to_owned(),
            address: None,
            datapath: None,
            observed: Vec::new(),
            positions: Vec::new(),
        };
        let text = String::from_utf8(codec::encode(Format::Json, &hello).unwrap().into()).unwrap();
        let reply = ask(bus, subjects::HOST_HELLO, &text).await;
        assert_eq!(reply["switches"][0], "prod");
        self.seen_more_than(seen).await;
    }

    pub(crate) fn fall_silent(&self) {
        self.manner.send_replace(Manner::Silent);
    }

    pub(crate) fn fail(&self) {
        self.manner.send_replace(Manner::Fails);
    }

    /// Messages that came.
    pub(crate) fn seen(&self) -> usize {
        *self.seen.borrow()
    }

    pub(crate) async fn seen_more_than(&self, count: usize) {
        let mut seen = self.seen.clone();
        seen.wait_for(|seen| *seen > count).await.unwrap();
    }
}

/// The session of every host's agent.
const SESSION: SessionId = SessionId(1);

fn report(host: &HostName, clobber: &Clobber, manner: Manner) -> ApplyReport {
    let outcome = match manner {
        Manner::Applies | Manner::Silent => ApplyOutcome::Applied { writes: 1 },
        Manner::Fails => ApplyOutcome::Failed {
            message: "played".to_owned(),
            ports: Vec::new(),
        },
    };
    ApplyReport {
        v: V1,
        host: host.clone(),
        session: SESSION,
        switch: clobber.switch.clone(),
        observed: clobber.revision,
        position: None,
        outcome,
    }
}

fn plan(host: &HostName, clobber: &Clobber) -> Plan {
    Plan {
        v: V1,
        host: host.clone(),
        session: SESSION,
        switch: clobber.switch.clone(),
        outcome: PlanOutcome::Changes(vec![Change {
            object: "switch".to_owned(),
            field: Some("mtu".to_owned()),
            from: Some("1500".to_owned()),
            to: Some("9000".to_owned()),
        }]),
    }
}

/// The retry service, which takes whatever it is given.
pub(crate) struct Retry {
    puts: Mutex<mpsc::UnboundedReceiver<RetryPut>>,
}

impl Retry {
    pub(crate) async fn start(server: &NatsServer) -> Self {
        let bus = bus(server, "retry").await;
        let mut requests = bus.subscribe(subjects::RETRY_PUT, PATIENCE).await.unwrap();
        let (taken, puts) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Some(request) = requests.next().await {
                let put: RetryPut = codec::decode(&request.payload).unwrap().1;
                let reply = PutReply { v: V1, entries: 1 };
                bus.publish(request.reply.unwrap(), packed(&reply))
                    .await
                    .unwrap();
                if taken.send(put).is_err() {
                    return;
                }
            }
        });
        Self {
            puts: Mutex::new(puts),
        }
    }

    /// The next put that is such a one.
    pub(crate) async fn until(&self, wanted: impl Fn(&RetryPut) -> bool) -> RetryPut {
        let mut puts = self.puts.lock().await;
        loop {
            let put = tokio::time::timeout(PATIENCE, puts.recv()).await;
            let put = put.expect("no such put").expect("retry is gone");
            if wanted(&put) {
                return put;
            }
        }
    }
}
