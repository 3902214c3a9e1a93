// SPDX-License-Identifier: Apache-2.0
//! One instance of a service per bus, on a real nats-server.
#![allow(clippy::unwrap_used, missing_docs)]

use std::net::SocketAddr;
use std::time::Duration;

use dvs_daemon::{Claim, Daemon, Instance, LogFormat, Settings};
use dvs_transport::endpoint::{Description, Endpoint, Requests, Service};
use dvs_transport::testing::NatsServer;
use dvs_transport::{Bus, Identity, connect};
use tokio::task::{JoinHandle, yield_now};

const PATIENCE: Duration = Duration::from_secs(60);

/// An instance of retry that starts.
struct Starting {
    daemon: Daemon,
    instance: Instance,
    bus: Bus,
    claim: JoinHandle<Claim>,
}

impl Starting {
    async fn of(server: &NatsServer, store: &str) -> Self {
        let settings = Settings {
            data: "unused".into(),
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            log: "info".into(),
            log_format: LogFormat::Text,
        };
        let daemon = Daemon::start("retry", "0.1.0", settings).await.unwrap();
        let bus = connect(&server.args(), Identity::service("retry"))
            .await
            .unwrap();
        let instance = Instance::new("retry", store);
        let (me, on, of) = (instance.clone(), bus.clone(), daemon.clone());
        let claim = tokio::spawn(async move { me.alone(&of, &on).await.unwrap().unwrap() });
        Self {
            daemon,
            instance,
            bus,
            claim,
        }
    }

    /// Serves, as it may.
    async fn serves(self) -> (Service, Requests<()>, Bus) {
        let claim = tokio::time::timeout(PATIENCE, self.claim)
            .await
            .unwrap()
            .unwrap();
        let description = Description {
            name: "retry".to_owned(),
            version: "0.1.0".to_owned(),
            description: String::new(),
            metadata: self.instance.metadata(),
        };
        let endpoint = Endpoint {
            id: (),
            subject: "dvs.v1.retry.list",
            description: "",
        };
        let (service, requests) = Service::start(&self.bus, description, vec![endpoint])
            .await
            .unwrap();
        drop(claim);
        (service, requests, self.bus)
    }

    /// Waits until readiness names the instance that it waits for.
    async fn waits_for(&self, store: &str) {
        let words = format!("with store {store};");
        let named = async {
            loop {
                let text = self.daemon.health().readiness().text;
                if text.starts_with("no service: starting; waiting for another instance")
                    && text.contains(&words)
                {
                    return;
                }
                yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, named).await.unwrap();
    }
}

/// Both are there before the bus is, as after an outage: they meet on it.
#[tokio::test]
async fn of_two_that_start_at_once_exactly_one_serves_and_the_other_follows_it() {
    let mut server = NatsServer::start().unwrap();
    server.stop().unwrap();
    let one = Starting::of(&server, "one").await;
    let two = Starting::of(&server, "two").await;
    server.restart().unwrap();

    let may = async {
        while !one.claim.is_finished() && !two.claim.is_finished() {
            yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, may).await.unwrap();
    let (first, second, store) = match one.claim.is_finished() {
        true => (one, two, "one"),
        false => (two, one, "two"),
    };
    second.waits_for(store).await;
    let (service, requests, bus) = first.serves().await;
    assert!(!second.claim.is_finished());

    // It serves when the first is gone, and not before.
    service.stop();
    drop((service, requests, bus));
    let (_service, _requests, bus) = second.serves().await;
    let info = bus
        .request("$SRV.PING.retry".to_owned(), "".into(), PATIENCE)
        .await
        .unwrap();
    let text = String::from_utf8(info.payload.to_vec()).unwrap();
    let gone = format!("\"store\":\"{store}\"");
    assert!(text.contains("serving") && !text.contains(&gone), "{text}");
}
