// SPDX-License-Identifier: Apache-2.0
//! One instance of a service per bus, on a real nats-server.
#![allow(clippy::unwrap_used, missing_docs)]

use std::net::SocketAddr;
use std::time::Duration;

use dvs_daemon::{Claim, Daemon, Instance, LogFormat, Settings, Taken};
use dvs_transport::endpoint::{Description, Endpoint, Requests, Service};
use dvs_transport::testing::NatsServer;
use dvs_transport::{Bus, ConnectArgs, Identity, connect};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, yield_now};

const PATIENCE: Duration = Duration::from_secs(60);

/// An instance of retry that starts.
struct Starting {
    daemon: Daemon,
    instance: Instance,
    bus: Bus,
    claim: JoinHandle<Result<Claim, Taken>>,
}

impl Starting {
    async fn of(server: &NatsServer, store: &str) -> Self {
        Self::at(&server.args(), store).await
    }

    async fn at(args: &ConnectArgs, store: &str) -> Self {
        let settings = Settings {
            data: "unused".into(),
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            log: "info".into(),
            log_format: LogFormat::Text,
        };
        let daemon = Daemon::start("retry", "0.1.0", settings).await.unwrap();
        let bus = connect(args, Identity::service("retry")).await.unwrap();
        let instance = Instance::new("retry", store);
        let (me, on, of) = (instance.clone(), bus.clone(), daemon.clone());
        let claim = tokio::spawn(async move { Ok(me.alone(&of, &on).await?.unwrap()) });
        Self {
            daemon,
            instance,
            bus,
            claim,
        }
    }

    /// Serves, as it may.
    async fn serves(self) -> (Service, Requests<()>, Bus) {
        let claim = tokio::time::timeout(PATIENCE, self.claim).await;
        let claim = claim.unwrap().unwrap().unwrap();
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

    /// Why it never serves.
    async fn refusal(self) -> String {
        let claim = tokio::time::timeout(PATIENCE, self.claim).await;
        claim.unwrap().unwrap().unwrap_err().to_string()
    }

    /// Waits until readiness names the instance that it waits for.
    async fn waits(&self) {
        let named = async {
            while !self.is_waiting() {
                yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, named).await.unwrap();
    }

    fn is_waiting(&self) -> bool {
        let text = self.daemon.health().readiness().text;
        text.starts_with("no service: starting; waiting for another instance")
    }
}

/// A bus that a client reaches by a way which can lead to another one.
struct Way {
    port: u16,
    to: watch::Sender<u16>,
}

impl Way {
    async fn to(server: &NatsServer) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (to, mut target) = watch::channel(server.port());
        tokio::spawn(async move {
            loop {
                let (mut client, _) = listener.accept().await.unwrap();
                let mut cut = target.clone();
                cut.mark_unchanged();
                let port = *target.borrow_and_update();
                tokio::spawn(async move {
                    let mut bus = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
                    tokio::select! {
                        _ = copy_bidirectional(&mut client, &mut bus) => {}
                        _ = cut.changed() => {}
                    }
                });
            }
        });
        Self { port, to }
    }

    fn args(&self) -> ConnectArgs {
        ConnectArgs {
            server: Some(format!("nats://127.0.0.1:{}", self.port)),
            ..ConnectArgs::default()
        }
    }

    /// The connection is cut, and leads to that server when it is made anew.
    fn leads_to(&self, server: &NatsServer) {
        self.to.send_replace(server.port());
    }
}

/// Both are there before the bus is, as after an outage: they meet on it.
#[tokio::test]
async fn of_two_that_start_at_once_exactly_one_serves_and_the_other_follows_it() {
    let mut server = NatsServer::start().unwrap();
    server.stop().unwrap();
    let one = Starting::of(&server, "one").await;
    let two = Starting::of(&server, "one").await;
    server.restart().unwrap();

    let may = async {
        while !one.claim.is_finished() && !two.claim.is_finished() {
            yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, may).await.unwrap();
    let (first, second) = match one.claim.is_finished() {
        true => (one, two),
        false => (two, one),
    };
    second.waits().await;
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
    assert!(text.contains("serving"), "{text}");
}

/// What the first has acknowledged is not in its ledger, and would be gone.
#[tokio::test]
async fn one_with_another_store_does_not_wait_for_the_first_to_end() {
    let server = NatsServer::start().unwrap();
    let first = Starting::of(&server, "one").await.serves().await;
    let second = Starting::of(&server, "two").await;
    // It has found the first by then.
    while !second.claim.is_finished() && !second.is_waiting() {
        yield_now().await;
    }
    let (service, requests, bus) = first;
    service.stop();
    drop((requests, bus));
    let why = second.refusal().await;
    assert!(
        why.contains("with store one, while this one has store two"),
        "{why}"
    );
}

#[tokio::test]
async fn of_two_with_a_store_each_that_start_at_once_one_is_refused() {
    let mut server = NatsServer::start().unwrap();
    server.stop().unwrap();
    let one = Starting::of(&server, "one").await;
    let two = Starting::of(&server, "two").await;
    server.restart().unwrap();
    let (one, two) = tokio::time::timeout(PATIENCE, async { tokio::join!(one.claim, two.claim) })
        .await
        .unwrap();
    let served = [one.unwrap().is_ok(), two.unwrap().is_ok()];
    assert!(served[0] != served[1], "{served:?}");
}

/// Two that could not see each other, and then can: whichever of them comes to
/// the other's bus, the one that started later stops.
#[tokio::test]
async fn after_a_partition_the_one_that_started_later_stops() {
    for older_comes in [true, false] {
        let (here, there) = (NatsServer::start().unwrap(), NatsServer::start().unwrap());
        let (mine, theirs) = (Way::to(&here).await, Way::to(&there).await);
        let older = Starting::at(&mine.args(), "one").await;
        let (me, daemon) = (older.instance.clone(), older.daemon.clone());
        let (_service, _requests, bus) = older.serves().await;
        let older = tokio::spawn(me.stays(bus, daemon.stop_token()));
        let later = Starting::at(&theirs.args(), "two").await;
        let (you, other) = (later.instance.clone(), later.daemon.clone());
        let (_service, _requests, bus) = later.serves().await;
        let later = tokio::spawn(you.stays(bus, other.stop_token()));

        match older_comes {
            true => mine.leads_to(&there),
            false => theirs.leads_to(&here),
        }
        let stopped = tokio::time::timeout(PATIENCE, later).await;
        let why = stopped.expect("both serve").unwrap().unwrap_err();
        assert!(why.to_string().contains("with store one"), "{why}");
        assert!(!older.is_finished());
    }
}
