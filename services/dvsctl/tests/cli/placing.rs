// SPDX-License-Identifier: Apache-2.0
//! Where ports are: connecting, moving, and what a host leaves behind.

use crate::fake::Script;
use dvs_schemas::v1::{
    ApplyReply, ChangedObject, ConnectRequest, DisconnectReply, DisconnectRequest, ForgetReply,
    ForgetRequest, MoveRequest, ObjectRef, Operation, V1, Wait,
};
use dvs_schemas::{ObjectKey, Problem, ProblemCode, Revision, subjects};

#[tokio::test(flavor = "multi_thread")]
async fn a_connect_and_a_move_are_one_request_each() {
    let reply = |field: &str| {
        let object = ObjectRef::from(&ObjectKey::Port("web-1".parse().unwrap()));
        Ok(ApplyReply {
            v: V1,
            revision: Revision(8),
            changed: vec![ChangedObject {
                object,
                operation: Operation::Updated,
                fields: vec![field.to_owned()],
            }],
            left_out: 0,
            applied: None,
            warnings: vec!["web-1: look".to_owned()],
        })
    };
    let script = Script::default()
        .on(subjects::PORT_CONNECT, move |request: ConnectRequest| {
            let expected = ConnectRequest {
                port: "web-1".parse().unwrap(),
                vnic: "vm-7/eth0".parse().unwrap(),
                host: Some("h1".parse().unwrap()),
                mac: Some("52:54:00:00:00:07".parse().unwrap()),
                switch: None,
                group: None,
                wait: None,
                timeout: None,
            };
            assert_eq!(request, expected);
            reply("vnic")
        })
        .on(subjects::PORT_MOVE, move |request: MoveRequest| {
            let expected = MoveRequest {
                port: "web-1".parse().unwrap(),
                host: "h2".parse().unwrap(),
                from: Some("h1".parse().unwrap()),
                force: true,
                wait: Some(Wait::Applied),
                timeout: Some("5s".parse().unwrap()),
            };
            assert_eq!(request, expected);
            reply("host")
        });
    let fake = script.start().await;
    let mac = ["--mac", "52:54:00:00:00:07"];
    let args = ["connect", "web-1", "vm-7/eth0", "--host", "h1"];
    let ended = fake.ends(0, &[args.as_slice(), &mac].concat()).await;
    assert_eq!(ended.stdout, "port/web-1 updated: vnic\n");
    let args = [
        "move",
        "web-1",
        "h2",
        "--from",
        "h1",
        "--force",
        "--wait=5s",
    ];
    let ended = fake.ends(0, &args).await;
    assert_eq!(ended.stdout, "port/web-1 updated: host\n");
    assert_eq!(ended.stderr, "revision 8: 1 object\nwarning: web-1: look\n");
    // A group without its switch names nothing.
    fake.ends(2, &["connect", "web-1", "vm-7/eth0", "--group", "g"])
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disconnect_says_what_was_connected() {
    let script = Script::default().on(subjects::PORT_DISCONNECT, |request: DisconnectRequest| {
        Ok(DisconnectReply {
            v: V1,
            revision: Revision(8),
            vnic: (request.port.as_str() == "web-1").then(|| "vm-1/eth0".parse().unwrap()),
        })
    });
    let fake = script.start().await;
    let ended = fake.ends(0, &["disconnect", "web-1"]).await;
    assert_eq!(
        ended.stderr,
        "vm-1/eth0 is no longer connected to port web-1 (revision 8)\n"
    );
    let ended = fake.ends(0, &["disconnect", "web-2"]).await;
    assert_eq!(ended.stderr, "nothing was connected to port web-2\n");
}

#[tokio::test]
async fn a_forgotten_host_leaves_its_ports_nowhere() {
    let script = Script::default().on(subjects::HOST_FORGET, |request: ForgetRequest| {
        if request.host.as_str() == "h1" {
            return Err(Problem::new(ProblemCode::Conflict, "host h1 is there").at("host"));
        }
        Ok(ForgetReply {
            v: V1,
            host: request.host,
            revision: Revision(8),
            ports: 30,
            warnings: vec!["p1: host h2 may still have it".to_owned()],
        })
    });
    let fake = script.start().await;
    let ended = fake.ends(0, &["forget", "h2"]).await;
    assert_eq!(
        ended.stderr,
        "host h2 is forgotten; 30 ports are on no host now (revision 8)\n\
         warning: p1: host h2 may still have it\n"
    );
    let ended = fake.ends(3, &["forget", "h1"]).await;
    assert!(
        ended.stderr.contains("host h1 is there"),
        "{}",
        ended.stderr
    );
    // Those that can be forgotten are, whatever their neighbours.
    let ended = fake.ends(3, &["forget", "host/h1", "h2", "host/h3"]).await;
    let forgotten: Vec<_> = ended
        .stderr
        .lines()
        .filter(|line| line.contains("forgotten"))
        .collect();
    assert_eq!(
        forgotten,
        [
            "host h2 is forgotten; 30 ports are on no host now (revision 8)",
            "host h3 is forgotten; 30 ports are on no host now (revision 8)",
        ]
    );
    assert!(
        ended.stderr.contains("host h1 is there"),
        "{}",
        ended.stderr
    );
}
