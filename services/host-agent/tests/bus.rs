// SPDX-License-Identifier: Apache-2.0
//! The real program on a real nats-server, with a publisher and a collector
//! played by the test.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use async_nats::{Message, Subscriber};
use bytes::Bytes;
use dvs_schemas::subjects::{self, AgentVerb, EventVerb};
use dvs_schemas::v1::{
    ApplyOutcome, ApplyReport, Changed, Clobber, EventAck, FinalState, Heartbeat, Hello,
    HelloReply, LiveReply, PortGroupState, PortState, SwitchObjects, SwitchState, V1, Versioned,
};
use dvs_schemas::{Format, HostName, Policy, Revision, SessionId, StoreId, Vlan, VlanId, codec};
use dvs_transport::testing::NatsServer;
use dvs_transport::{Batch, Bus, Call, CallResult, Identity, Invoking, Transport, connect};
use futures_util::StreamExt;
use serde::Serialize;
use serde::de::DeserializeOwned;
use uuid::Uuid;

/// Far beyond what anything takes, for machines that do much at once.
const PATIENCE: Duration = Duration::from_secs(60);

/// The process under test; gone with its handle.
struct Agent {
    child: Child,
}

fn command(url: &str, data: &Path, more: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_host-agent"));
    command
        .env("NATS_URL", url)
        .args(["--datapath", "emulated", "--listen", "127.0.0.1:0"])
        .args(["--heartbeat", "200ms", "--data"])
        .arg(data)
        .args(more)
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    command
}

impl Agent {
    fn start(url: &str, data: &Path, more: &[&str]) -> Self {
        Self {
            child: command(url, data, more).spawn().unwrap(),
        }
    }

    /// SIGTERM, and the exit code.
    async fn terminate(mut self) -> Option<i32> {
        let pid = self.child.id().to_string();
        Command::new("kill").args(["-TERM", &pid]).status().unwrap();
        let child = &mut self.child;
        let began = std::time::Instant::now();
        while began.elapsed() < PATIENCE {
            if let Some(status) = child.try_wait().unwrap() {
                return status.code();
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("not stopped");
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn decode<T: DeserializeOwned>(payload: &[u8]) -> T {
    codec::decode(payload).unwrap().1
}

fn encode<T: Serialize>(value: &T) -> Bytes {
    codec::encode(Format::MessagePack, value).unwrap()
}

async fn next(subscriber: &mut Subscriber) -> Message {
    let message = tokio::time::timeout(PATIENCE, subscriber.next()).await;
    message.expect("nothing came").expect("the bus is gone")
}

/// The other side: a publisher of one switch with one group, and a port on
/// each host.
struct Manager {
    bus: Bus,
    transport: Transport,
    _invoking: Invoking,
    hellos: Subscriber,
    /// Sessions begun so far.
    greeted: u64,
    store: StoreId,
    revision: u64,
    vlan: u16,
}

impl Manager {
    async fn start(server: &NatsServer) -> Self {
        let bus = connect(&server.args(), Identity::service("publisher"))
            .await
            .unwrap();
        bus.reach(PATIENCE).await.unwrap();
        let (transport, invoking) = Transport::start(bus.clone(), "manager").await.unwrap();
        let hellos = bus.subscribe(subjects::HOST_HELLO, PATIENCE).await.unwrap();
        Self {
            bus,
            transport,
            _invoking: invoking,
            hellos,
            greeted: 0,
            store: StoreId(Uuid::from_u128(1)),
            revision: 1,
            vlan: 100,
        }
    }

    async fn listen(&self, subject: &'static str) -> Subscriber {
        self.bus.subscribe(subject, PATIENCE).await.unwrap()
    }

    /// Answers the hellos of so many hosts; names what they held.
    async fn greet(&mut self, hosts: usize) -> Vec<Hello> {
        let mut greeted = Vec::new();
        let mut known = BTreeSet::new();
        while known.len() < hosts {
            let message = next(&mut self.hellos).await;
            let hello: Hello = decode(&message.payload);
            self.greeted += 1;
            let reply = HelloReply {
                v: V1,
                session: SessionId(self.greeted),
                switches: vec!["prod".parse().unwrap()],
            };
            let to = message.reply.unwrap();
            self.bus.publish(to, encode(&reply)).await.unwrap();
            if known.insert(hello.host.clone()) {
                greeted.push(hello);
            }
        }
        greeted
    }

    fn clobber(&self, state: FinalState) -> Clobber {
        Clobber {
            v: V1,
            store: self.store,
            lineage: Default::default(),
            switch: "prod".parse().unwrap(),
            revision: Revision(self.revision),
            insist: false,
            state,
        }
    }

    fn group(&self) -> Versioned<PortGroupState> {
        Versioned {
            revision: Revision(self.revision),
            value: PortGroupState {
                name: "web".parse().unwrap(),
                policy: Policy {
                    vlan: Some(Vlan::Access(VlanId::try_from(self.vlan).unwrap())),
                    ..Policy::default()
                },
            },
        }
    }

    fn full(&self, host: &HostName) -> Clobber {
        let settings = SwitchState {
            mtu: Default::default(),
            uplinks: Vec::new(),
            teaming: Default::default(),
            private_vlans: Default::default(),
            runtime: Default::default(),
            policy: Policy::default(),
        };
        let port = PortState {
            id: format!("p-{host}").parse().unwrap(),
            epoch: dvs_schemas::Epoch(1),
            group: "web".parse().unwrap(),
            vnic: Some("vm/eth0".parse().unwrap()),
            mac: None,
            policy: Policy::default(),
        };
        self.clobber(FinalState::Full {
            settings: Versioned {
                revision: Revision(1),
                value: settings,
            },
            objects: SwitchObjects {
                groups: vec![self.group()],
                mirrors: Vec::new(),
                ports: vec![Versioned {
                    revision: Revision(1),
                    value: port,
                }],
            },
        })
    }

    async fn send(&self, calls: Vec<Call>) -> Vec<ApplyReport> {
        let batch = Batch {
            deadline: PATIENCE,
            calls,
        };
        let outcomes = self.transport.send(batch).all().await;
        let report = |result| match result {
            CallResult::Answered(payload) => decode(&payload),
            other => panic!("{other:?}"),
        };
        outcomes
            .into_iter()
            .map(|outcome| report(outcome.result))
            .collect()
    }

    async fn send_full(&self, hosts: &[HostName]) -> Vec<ApplyReport> {
        let call = |host: &HostName| Call::Direct {
            host: host.clone(),
            subject: subjects::agent(host, AgentVerb::Clobber),
            payload: encode(&self.full(host)),
        };
        self.send(hosts.iter().map(call).collect()).await
    }

    /// Changes the group's VLAN by one message to all.
    async fn change_vlan(&mut self, hosts: &[HostName]) -> Vec<ApplyReport> {
        self.revision += 1;
        self.vlan += 1;
        let message = self.clobber(FinalState::Partial {
            settings: None,
            objects: SwitchObjects {
                groups: vec![self.group()],
                ..SwitchObjects::default()
            },
            removed: Vec::new(),
        });
        let call = Call::FanOut {
            subject: subjects::switch_clobber(&message.switch),
            payload: encode(&message),
            hosts: Arc::from(hosts),
        };
        self.send(vec![call]).await
    }

    async fn ask(&self, host: &HostName, verb: AgentVerb, payload: Bytes) -> Bytes {
        let call = Call::Direct {
            host: host.clone(),
            subject: subjects::agent(host, verb),
            payload,
        };
        let batch = Batch {
            deadline: PATIENCE,
            calls: vec![call],
        };
        let mut outcomes = self.transport.send(batch).all().await;
        match outcomes.remove(0).result {
            CallResult::Answered(payload) => payload,
            other => panic!("{other:?}"),
        }
    }

    async fn live(&self, host: &HostName) -> LiveReply {
        let question = Bytes::from_static(b"{\"v\":1}");
        decode(&self.ask(host, AgentVerb::Live, question).await)
    }
}

fn assert_applied(reports: &[ApplyReport], hosts: usize, writes: u32) {
    assert_eq!(reports.len(), hosts);
    for report in reports {
        assert_eq!(
            report.outcome,
            ApplyOutcome::Applied { writes },
            "{report:?}"
        );
    }
}

/// The first heartbeat with that revision.
async fn observed(
    beats: &mut Subscriber,
    revision: Revision,
    wanted: impl Fn(&Heartbeat) -> bool,
) -> Heartbeat {
    loop {
        let beat: Heartbeat = decode(&next(beats).await.payload);
        let first = beat.observed.first().map(|observed| observed.revision);
        if first == Some(revision) && wanted(&beat) {
            return beat;
        }
    }
}

fn host(name: &str) -> Vec<HostName> {
    vec![name.parse().unwrap()]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_comes_is_configured_tells_of_it_and_stops_in_order() {
    let (server, data) = (NatsServer::start().unwrap(), tempfile::tempdir().unwrap());
    let mut manager = Manager::start(&server).await;
    let mut changed = manager.listen(subjects::EVENT_CHANGED).await;
    let mut beats = manager.listen(subjects::EVENT_HEARTBEATS).await;
    let hosts = host("h1");
    let agent = Agent::start(&server.url(), data.path(), &["--host", "h1"]);
    assert_eq!(manager.greet(1).await[0].observed, []);
    assert_applied(&manager.send_full(&hosts).await, 1, 2);
    assert_applied(&manager.change_vlan(&hosts).await, 1, 1);
    assert_applied(&manager.send_full(&hosts).await, 1, 0);
    let live = manager.live(&hosts[0]).await;
    assert_eq!(
        live.ports[0].vlan,
        Vlan::Access(VlanId::try_from(101).unwrap())
    );

    // The first try is not acknowledged; the second is the same.
    let first = next(&mut changed).await;
    assert_eq!(
        &*first.subject,
        &*subjects::event(&hosts[0], EventVerb::Changed)
    );
    let event: Changed = decode(&first.payload);
    let again = next(&mut changed).await;
    assert_eq!(decode::<Changed>(&again.payload), event);
    let ack = EventAck {
        v: V1,
        seq: event.seq,
    };
    let to = again.reply.unwrap();
    manager.bus.publish(to, encode(&ack)).await.unwrap();

    let beat = observed(&mut beats, Revision(2), |_| true).await;
    assert_eq!((beat.host, beat.interval_ms), (hosts[0].clone(), 200));
    assert_eq!(agent.terminate().await, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_server_finds_its_hosts_again_and_they_hear_everything() {
    let (mut server, data) = (NatsServer::start().unwrap(), tempfile::tempdir().unwrap());
    let mut manager = Manager::start(&server).await;
    let hosts: Vec<HostName> = (1..=3).map(|n| format!("h-{n}").parse().unwrap()).collect();
    let args = ["--host", "h", "--replicas", "3"];
    let _agent = Agent::start(&server.url(), data.path(), &args);
    manager.greet(3).await;
    assert_applied(&manager.send_full(&hosts).await, 3, 2);
    server.restart().unwrap();
    manager.bus.reach(PATIENCE).await.unwrap();
    for hello in manager.greet(3).await {
        assert_eq!(hello.observed[0].revision, Revision(1));
    }
    assert_applied(&manager.change_vlan(&hosts).await, 3, 1);
    assert_applied(&manager.send_full(&hosts).await, 3, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_process_knows_from_its_ledger_what_it_had_applied() {
    let (server, data) = (NatsServer::start().unwrap(), tempfile::tempdir().unwrap());
    let mut manager = Manager::start(&server).await;
    let hosts = host("h1");
    let agent = Agent::start(&server.url(), data.path(), &["--host", "h1"]);
    manager.greet(1).await;
    manager.send_full(&hosts).await;
    assert_applied(&manager.change_vlan(&hosts).await, 1, 1);
    drop(agent);
    let mut beats = manager.listen(subjects::EVENT_HEARTBEATS).await;
    let _agent = Agent::start(&server.url(), data.path(), &["--host", "h1"]);
    manager.greet(1).await;
    // An emulated datapath dies with its process: it is made anew unasked.
    observed(&mut beats, Revision(2), |beat| beat.session == SessionId(2)).await;
    assert_eq!(manager.live(&hosts[0]).await.ports.len(), 1);
    assert_applied(&manager.send_full(&hosts).await, 1, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_replicas_answer_one_message() {
    let (server, data) = (NatsServer::start().unwrap(), tempfile::tempdir().unwrap());
    let mut manager = Manager::start(&server).await;
    let hosts: Vec<HostName> = (1..=200)
        .map(|n| format!("h-{n}").parse().unwrap())
        .collect();
    let args = ["--host", "h", "--replicas", "200"];
    let _agent = Agent::start(&server.url(), data.path(), &args);
    manager.greet(200).await;
    assert_applied(&manager.send_full(&hosts).await, 200, 2);
    for _ in 0..3 {
        assert_applied(&manager.change_vlan(&hosts).await, 200, 1);
    }
}

/// They wait for the datapath together, and are answered in one turn.
#[tokio::test(flavor = "multi_thread")]
async fn everybody_who_waits_for_a_slow_datapath_is_answered() {
    let (server, data) = (NatsServer::start().unwrap(), tempfile::tempdir().unwrap());
    let mut manager = Manager::start(&server).await;
    let args = ["--host", "h1", "--emulated-latency", "500ms"];
    let _agent = Agent::start(&server.url(), data.path(), &args);
    manager.greet(1).await;
    let same = vec![host("h1").remove(0); 1_000];
    assert_eq!(manager.send_full(&same).await.len(), 1_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_messages_are_answered_with_the_reason_and_change_nothing() {
    let (server, data) = (NatsServer::start().unwrap(), tempfile::tempdir().unwrap());
    let mut manager = Manager::start(&server).await;
    let hosts = host("h1");
    let _agent = Agent::start(&server.url(), data.path(), &["--host", "h1"]);
    manager.greet(1).await;
    manager.send_full(&hosts).await;
    let deep = "[".repeat(100_000);
    for (verb, payload, says) in [
        (AgentVerb::Clobber, "{\"v\":1", "JSON"),
        (AgentVerb::Clobber, deep.as_str(), "JSON"),
        (AgentVerb::Remove, "{}", "missing field"),
        (AgentVerb::Plan, "", "empty"),
        (AgentVerb::Live, "{\"v\":1,\"port\":\"p*\"}", "port name"),
    ] {
        let answer = manager
            .ask(&hosts[0], verb, Bytes::copy_from_slice(payload.as_bytes()))
            .await;
        let text = String::from_utf8_lossy(&answer);
        assert!(
            text.starts_with("{\"error\"") && text.contains(says),
            "{text}"
        );
    }
    assert_applied(&manager.send_full(&hosts).await, 1, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_ledger_keeps_the_process_from_starting_and_is_left_alone() {
    let (server, data) = (NatsServer::start().unwrap(), tempfile::tempdir().unwrap());
    let file = data.path().join("host-agent.redb");
    let text = "a shopping list\n".repeat(1_000);
    std::fs::write(&file, &text).unwrap();
    let mut child = command(&server.url(), data.path(), &["--host", "h1"])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = String::new();
    let mut stderr = child.stderr.take().unwrap();
    stderr.read_to_string(&mut said).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(1));
    assert!(
        said.contains("host-agent.redb") && said.contains("move it away"),
        "{said}"
    );
    assert_eq!(std::fs::read_to_string(&file).unwrap(), text);
}

/// A user for the agent, who may hear all but this, and one for the test.
fn two_users(deny: &str) -> String {
    format!(
        r#"authorization {{ users: [
            {{ user: agent, password: secret,
               permissions: {{ publish: ">", subscribe: {{ allow: ">", deny: [{deny}] }} }} }}
            {{ user: test, password: secret }}
        ] }}"#
    )
}

/// Takes the next hello of this host, which no switch is for.
async fn greet(bus: &Bus, hellos: &mut Subscriber, host: &str) {
    let message = next(hellos).await;
    let hello: Hello = decode(&message.payload);
    assert_eq!(hello.host.as_str(), host);
    let reply = HelloReply {
        v: V1,
        session: SessionId(1),
        switches: Vec::new(),
    };
    bus.publish(message.reply.unwrap(), encode(&reply))
        .await
        .unwrap();
}

#[tokio::test]
async fn a_host_that_was_deaf_says_hello_anew_once_it_may_hear() {
    let server = NatsServer::with_config(&two_users(r#""dvs.v1.agent.h1.*""#)).unwrap();
    let url = |user: &str| format!("nats://{user}:secret@127.0.0.1:{}", server.port());
    let args = dvs_transport::ConnectArgs {
        server: Some(url("test")),
        ..dvs_transport::ConnectArgs::default()
    };
    let bus = connect(&args, Identity::operator("test")).await.unwrap();
    bus.reach(PATIENCE).await.unwrap();
    let mut hellos = bus.subscribe(subjects::HOST_HELLO, PATIENCE).await.unwrap();
    let mut beats = bus
        .subscribe(subjects::EVENT_HEARTBEATS, PATIENCE)
        .await
        .unwrap();
    let data = tempfile::tempdir().unwrap();
    let agent = Agent::start(&url("agent"), data.path(), &["--host", "h1"]);
    // Whether it says hello before it hears of the refusal is chance. From then
    // on it says nothing, or it would pass for present.
    let first = greet(&bus, &mut hellos, "h1");
    let _ = tokio::time::timeout(Duration::from_secs(5), first).await;
    let second = Duration::from_secs(1);
    while let Ok(Some(_)) = tokio::time::timeout(second, beats.next()).await {}
    let (mut hello, mut beat) = (hellos.next(), beats.next());
    let said = async {
        tokio::select! {
            _ = &mut hello => "hello",
            _ = &mut beat => "a heartbeat",
        }
    };
    let said = tokio::time::timeout(2 * second, said).await;
    assert!(said.is_err(), "a deaf host said {said:?}");
    let ask = async || {
        let question = Bytes::from_static(b"{\"v\":1}");
        let h1: HostName = "h1".parse().unwrap();
        let subject = subjects::agent(&h1, AgentVerb::Live);
        bus.request(subject, question, Duration::from_secs(1)).await
    };
    let deaf = ask().await.unwrap_err();
    assert!(
        matches!(deaf, dvs_transport::BusError::NoResponder { .. }),
        "{deaf}"
    );

    server.reload(&two_users("")).unwrap();
    greet(&bus, &mut hellos, "h1").await;
    // It answers on its own subjects, not on inboxes; that it hears shows in
    // that somebody listens.
    let heard = ask().await.unwrap_err();
    assert!(
        matches!(heard, dvs_transport::BusError::TimedOut { .. }),
        "{heard}"
    );
    assert_eq!(agent.terminate().await, Some(0));
}
