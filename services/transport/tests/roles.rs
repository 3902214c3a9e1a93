// SPDX-License-Identifier: Apache-2.0
//! Every role's identity within the permissions that are shipped: what a role
//! needs of the connection itself, `ops/nats/nats-server.conf` allows it.
#![allow(clippy::unwrap_used, missing_docs)]

use std::collections::HashMap;
use std::time::Duration;

use dvs_schemas::ids::HostName;
use dvs_schemas::subjects::{self, AgentVerb};
use dvs_transport::endpoint::{Description, Endpoint, Service};
use dvs_transport::testing::NatsServer;
use dvs_transport::{
    Batch, Bus, Call, CallResult, ConnectArgs, Identity, Transport, answer_subject, connect,
};
use futures_util::StreamExt;

/// Longer than anything here takes; only failures wait for it.
const LONG: Duration = Duration::from_secs(30);

const ROLES: [&str; 5] = ["publisher", "agent", "collector", "retry", "operator"];

/// The shipped server with a key per role; the keys' seeds are beside it.
fn shipped() -> NatsServer {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../ops/nats/nats-server.conf"
    );
    let pairs = ROLES.map(|role| (role, nkeys::KeyPair::new_user()));
    let keys: String = pairs
        .iter()
        .map(|(role, pair)| {
            format!(
                "DVS_NKEY_{}: \"{}\"\n",
                role.to_uppercase(),
                pair.public_key()
            )
        })
        .collect();
    // The port for people would be the same in every test.
    let config: String = std::fs::read_to_string(path)
        .unwrap()
        .lines()
        .filter(|line| !line.starts_with("http_port"))
        .map(|line| {
            if line.starts_with("include") {
                &keys
            } else {
                line
            }
        })
        .fold(String::new(), |text, line| text + line + "\n");
    let server = NatsServer::with_config(&config).unwrap();
    for (role, pair) in pairs {
        std::fs::write(server.folder().join(role), pair.seed().unwrap()).unwrap();
    }
    server
}

async fn enter(server: &NatsServer, role: &str, identity: Identity) -> Bus {
    let args = ConnectArgs {
        nkey: Some(server.folder().join(role)),
        ..server.args()
    };
    let bus = connect(&args, identity).await.unwrap();
    bus.reach(LONG).await.unwrap();
    bus
}

fn unharmed(bus: &Bus) {
    assert_eq!((bus.counters().errors(), bus.last_error()), (0, None));
}

#[tokio::test]
async fn every_role_can_prove_that_the_bus_is_reached() {
    let server = shipped();
    let host = "h1".parse().unwrap();
    for role in ROLES {
        let identity = match role {
            "agent" => Identity::agent(&host),
            "operator" => Identity::operator("dvsctl"),
            service => Identity::service(service),
        };
        let bus = enter(&server, role, identity).await;
        bus.round_trip(LONG).await.unwrap();
        unharmed(&bus);
    }
}

#[tokio::test]
async fn services_answer_operators_and_agents_answer_services() {
    let server = shipped();
    let publisher = enter(&server, "publisher", Identity::service("publisher")).await;
    let operator = enter(&server, "operator", Identity::operator("dvsctl")).await;
    let host: HostName = "h1".parse().unwrap();
    let agent = enter(&server, "agent", Identity::agent(&host)).await;

    let description = Description {
        name: "config-publisher".into(),
        version: "0.1.0".into(),
        description: String::new(),
        metadata: HashMap::new(),
    };
    let endpoints = vec![Endpoint {
        id: (),
        subject: subjects::CONFIG_GET,
        description: "",
    }];
    let (_service, mut requests) = Service::start(&publisher, description, endpoints)
        .await
        .unwrap();
    publisher.round_trip(LONG).await.unwrap();
    let answering = async {
        requests
            .next()
            .await
            .unwrap()
            .responder
            .respond(Ok("{}".into()))
            .await
            .unwrap()
    };
    let (answer, ()) = tokio::join!(
        operator.request(subjects::CONFIG_GET, "{}".into(), LONG),
        answering
    );
    assert_eq!(answer.unwrap().payload, "{}");

    let subject = subjects::agent(&host, AgentVerb::Clobber);
    let mut asked = agent.subscribe(subject.as_str(), LONG).await.unwrap();
    let (transport, _invoking) = Transport::start(publisher.clone(), "pub7").await.unwrap();
    let call = Call::Direct {
        host: host.clone(),
        subject,
        payload: "{}".into(),
    };
    let outcomes = transport.send(Batch {
        deadline: LONG,
        calls: vec![call],
    });
    let reply = asked.next().await.unwrap().reply.unwrap();
    agent
        .publish(answer_subject(&reply, &host).unwrap(), "{}".into())
        .await
        .unwrap();
    assert_eq!(
        outcomes.all().await[0].result,
        CallResult::Answered("{}".into())
    );
    for bus in [publisher, operator, agent] {
        unharmed(&bus);
    }
}

/// What a role says outside of its part, nobody hears.
#[tokio::test]
async fn roles_are_held_to_their_subjects() {
    let server = shipped();
    let host = "h1".parse().unwrap();
    let mut buses = HashMap::new();
    for role in ROLES {
        let identity = match role {
            "agent" => Identity::agent(&host),
            "operator" => Identity::operator("dvsctl"),
            service => Identity::service(service),
        };
        buses.insert(role, enter(&server, role, identity).await);
    }
    let cases = [
        ("dvs.v1.config.apply", "publisher", &["operator"][..]),
        ("dvs.v1.config.render", "publisher", &["operator", "retry"]),
        ("dvs.v1.host.hello", "publisher", &["agent"]),
        ("dvs.v1.host.forget", "publisher", &["operator"]),
        ("dvs.v1.port.claim", "publisher", &["agent"]),
        ("dvs.v1.port.release", "publisher", &["agent"]),
        ("dvs.v1.port.connect", "publisher", &["operator"]),
        ("dvs.v1.port.move", "publisher", &["operator"]),
        ("dvs.v1.port.disconnect", "publisher", &["operator"]),
        ("dvs.v1.port.placements", "publisher", &["collector"]),
        ("dvs.v1.switch.prod.clobber", "agent", &["publisher"]),
        ("dvs.v1.agent.h1.clobber", "agent", &["publisher", "retry"]),
        ("dvs.v1.agent.h1.remove", "agent", &["publisher", "retry"]),
        ("dvs.v1.agent.h1.live", "agent", &["collector"]),
        ("dvs.v1.agent.h1.fetch", "agent", &["collector"]),
        ("dvs.v1.agent.h1.yield", "agent", &["publisher"]),
        ("dvs.v1.agent.h1.identify", "agent", &["publisher"]),
        ("dvs.v1.event.h1.changed", "collector", &["agent"]),
        ("dvs.v1.event.h1.notice", "collector", &["agent"]),
        ("dvs.v1.reply.h1.pub7.0", "publisher", &["agent"]),
        ("dvs.v1.runtime.get", "collector", &["operator"]),
        ("dvs.v1.runtime.live", "collector", &["operator"]),
        ("dvs.v1.runtime.forget", "collector", &["publisher"]),
        ("dvs.v1.retry.put", "retry", &["collector", "publisher"]),
        ("dvs.v1.retry.cancel", "retry", &["operator"]),
    ];
    for (subject, hearer, speakers) in cases {
        let mut heard = buses[hearer].subscribe(subject, LONG).await.unwrap();
        // Those who may speak come last: whatever else arrives, arrives before.
        let may = |role: &&str| speakers.contains(role);
        let (speaking, others): (Vec<_>, Vec<_>) = ROLES.into_iter().partition(may);
        assert_eq!(speaking.len(), speakers.len());
        for role in others.into_iter().chain(speaking) {
            buses[role].publish(subject, role.into()).await.unwrap();
            buses[role].round_trip(LONG).await.unwrap();
        }
        let mut arrived = Vec::new();
        while arrived.len() < speakers.len() {
            let message = heard.next().await.unwrap();
            arrived.push(String::from_utf8(message.payload.to_vec()).unwrap());
        }
        arrived.sort_unstable();
        assert_eq!(arrived, speakers, "{subject}");
    }
}
