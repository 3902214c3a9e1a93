// SPDX-License-Identifier: Apache-2.0
//! Where a port's configuration is: told by three services, shown as one.

use crate::fake::{Fake, Script};
use dvs_schemas::v1::{
    Condition, ConditionKind, ConditionList, ConditionTarget, ConditionsOfHost, Counters,
    EntryState, GetReply, GetRequest, HostDatapath, HostListReply, HostListRequest, HostStatus,
    Item, Link, PortRuntime, Presence, Queue, RepushEntry, RepushKey, RetryListReply,
    RetryListRequest, RipEntry, RipKey, RuntimeConditionsReply, RuntimeConditionsRequest,
    RuntimeGetRequest, RuntimeListReply, RuntimeListRequest, RuntimeRecord, SwitchOnHost, V1,
};
use dvs_schemas::{
    Epoch, HostName, Kind, Problem, ProblemCode, Revision, Timestamp, Vlan, subjects,
};

/// Two minutes after everything else.
const NOW: Timestamp = Timestamp(1_120_000);
const THEN: Timestamp = Timestamp(1_000_000);

fn port(revision: u64, epoch: u64, rest: &str) -> Item {
    let text = format!(r#"{{"kind":"Port","switch":"prod","group":"web",{rest}}}"#);
    Item {
        revision: Revision(revision),
        epoch: Some(Epoch(epoch)),
        document: serde_json::from_str(&text).unwrap(),
    }
}

/// `p-ok` is as wanted on h1; `p-late` too, but for another commit of its
/// group; `p-moved` is on h2, which is away, and h1 still has its virtual port;
/// `p-off` is on no host.
fn publisher() -> Script {
    let ports = [
        port(5, 3, r#""name":"p-ok","host":"h1","vnic":"vm-1/eth0""#),
        port(9, 9, r#""name":"p-moved","host":"h2""#),
        port(4, 4, r#""name":"p-off","vnic":"vm-3/eth0""#),
    ];
    let on = |wanted, observed, ports| {
        vec![SwitchOnHost {
            switch: "prod".parse().unwrap(),
            wanted: Revision(wanted),
            observed: Some(Revision(observed)),
            ports,
        }]
    };
    let host = move |name: &str, presence, switches| HostStatus {
        host: name.parse().unwrap(),
        presence,
        heard: Some(THEN),
        session: None,
        node: None,
        address: None,
        version: None,
        datapath: Some(HostDatapath::Emulated),
        diverged: None,
        namesakes: Vec::new(),
        switches,
    };
    let hosts = [
        host("h1", Presence::Present, on(8, 8, 1)),
        host("h2", Presence::Absent, on(9, 2, 1)),
    ];
    Script::default()
        .on(subjects::CONFIG_GET, move |request: GetRequest| {
            assert_eq!(request.kind, Some(Kind::Port));
            let wanted = ports.iter().filter(|item| {
                let key = dvs_schemas::v1::ObjectRef::from(&item.document.key());
                request.name.as_ref().is_none_or(|name| *name == key.name)
            });
            Ok(GetReply {
                v: V1,
                revision: Revision(9),
                items: wanted.cloned().collect(),
                next: None,
            })
        })
        .on(subjects::HOST_LIST, move |request: HostListRequest| {
            let wanted = hosts.iter().filter(|status| {
                let host = request.host.as_ref();
                host.is_none_or(|host| *host == status.host)
            });
            Ok(HostListReply {
                v: V1,
                revision: Revision(9),
                hosts: wanted.cloned().collect(),
                next: None,
            })
        })
}

fn retry(script: Script) -> Script {
    let state = |error: &str, next_try| EntryState {
        revision: Revision(9),
        since: THEN,
        attempts: 4,
        last_error: error.to_owned(),
        not_tried: None,
        next_try,
    };
    let missed = RepushEntry {
        key: RepushKey {
            host: "h2".parse().unwrap(),
            switch: "prod".parse().unwrap(),
        },
        state: state("absent: it missed 3 heartbeats", Some(Timestamp(1_132_000))),
    };
    let rip = RipEntry {
        key: RipKey {
            host: "h1".parse().unwrap(),
            switch: "prod".parse().unwrap(),
            port: "p-moved".parse().unwrap(),
        },
        state: state("the host did not answer in time", None),
    };
    script.on(subjects::RETRY_LIST, move |request: RetryListRequest| {
        let of = |queue, host: &str| {
            let here = request.host.as_ref();
            request.queue.is_none_or(|only| only == queue)
                && here.is_none_or(|name| name.as_str() == host)
        };
        Ok(RetryListReply {
            v: V1,
            now: NOW,
            repush_total: 1,
            rip_total: 1,
            out_of_sync: of(Queue::Repush, "h2")
                .then(|| missed.clone())
                .into_iter()
                .collect(),
            rip: of(Queue::Rip, "h1")
                .then(|| rip.clone())
                .into_iter()
                .collect(),
            next: None,
        })
    })
}

fn collector(script: Script) -> Script {
    collector_with(script, Vec::new())
}

/// The same, with what is wrong on other hosts.
fn collector_with(script: Script, others: Vec<ConditionsOfHost>) -> Script {
    let record = |port: &str, epoch, revision| RuntimeRecord {
        port: port.parse().unwrap(),
        host: "h1".parse().unwrap(),
        updated: THEN,
        state: Some(PortRuntime {
            port: port.parse().unwrap(),
            switch: "prod".parse().unwrap(),
            group: "web".parse().unwrap(),
            epoch: Epoch(epoch),
            revision: Revision(revision),
            link: Link::Up,
            vlan: Vlan::Untagged,
            blocked: false,
            mirrored: Vec::new(),
        }),
        changed: None,
        counters: None,
        settled: Some(THEN),
        total: Some(Counters {
            ingress_packets: 70,
            egress_bytes: 4_200,
            ..Counters::default()
        }),
    };
    let known = [record("p-ok", 3, 5), record("p-moved", 2, 2)];
    let all = known.clone();
    script
        .on(subjects::RUNTIME_GET, move |request: RuntimeGetRequest| {
            let found = known.iter().find(|record| record.port == request.port);
            let none = || Problem::new(ProblemCode::NotFound, "no host has told of it");
            found.cloned().ok_or_else(none)
        })
        .on(subjects::RUNTIME_LIST, move |_: RuntimeListRequest| {
            Ok(RuntimeListReply {
                v: V1,
                ports: all.to_vec(),
                next: None,
            })
        })
        .on(
            subjects::RUNTIME_CONDITIONS,
            move |request: RuntimeConditionsRequest| {
                let host: HostName = "h1".parse().unwrap();
                let here = request.host.is_none_or(|only| only == host);
                let hosts = here.then(|| refused_claim(host));
                Ok(RuntimeConditionsReply {
                    v: V1,
                    hosts: hosts.into_iter().chain(others.clone()).collect(),
                    next: None,
                })
            },
        )
}

fn refused_claim(host: HostName) -> ConditionsOfHost {
    let condition = Condition {
        kind: ConditionKind::ClaimRefused,
        on: ConditionTarget {
            port: Some("p-off".parse().unwrap()),
            ..ConditionTarget::default()
        },
        message: "another vNIC is connected".to_owned(),
        since: THEN,
    };
    ConditionsOfHost {
        host,
        heard: THEN,
        list: ConditionList {
            conditions: vec![condition],
            more: 0,
        },
    }
}

async fn fake() -> Fake {
    collector(retry(publisher())).start().await
}

#[tokio::test(flavor = "multi_thread")]
async fn wide_ports_say_what_is_observed_and_what_holds_the_rest() {
    let fake = fake().await;
    let ended = fake.ends(0, &["get", "ports", "-o", "wide"]).await;
    assert_eq!(
        ended.stdout,
        "NAME     SWITCH  GROUP  HOST  VNIC       REVISION  EPOCH  MAC  OVERRIDES  CONDITIONS     OBSERVED  AGE    STATE\n\
         p-ok     prod    web    h1    vm-1/eth0  5         3      -    -          -              5         2m00s  in sync\n\
         p-moved  prod    web    h2    -          9         9      -    -          -              -         -      out of sync: absent: it missed 3 heartbeats\n\
         p-off    prod    web    -     vm-3/eth0  4         4      -    -          claim refused  -         -      on no host\n"
    );
    let one = ["get", "port", "p-ok", "-o", "wide", "--no-headings"];
    assert_eq!(
        fake.ends(0, &one).await.stdout,
        "p-ok  prod  web  h1  vm-1/eth0  5  3  -  -  -  5  2m00s  in sync\n"
    );
}

/// Nothing is said of the port, which doesn't say that nothing is wrong.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_host_had_no_room_for_may_be_wrong_with_its_ports() {
    let cut = ConditionsOfHost {
        host: "h2".parse().unwrap(),
        heard: THEN,
        list: ConditionList {
            conditions: Vec::new(),
            more: 40,
        },
    };
    let script = collector_with(retry(publisher()), vec![cut]);
    let fake = script.start().await;
    let asked: [&[&str]; 3] = [
        &["get", "ports"],
        &["get", "ports", "-o", "wide"],
        &["get", "port", "p-moved", "-o", "wide"],
    ];
    for args in asked {
        let shown = fake.ends(0, args).await.stdout;
        let moved = shown.lines().find(|line| line.starts_with("p-moved"));
        assert!(moved.unwrap().contains("? (40 left out)"), "{shown}");
        assert_eq!(shown.matches("left out").count(), 1, "{shown}");
    }
    let described = fake.ends(0, &["describe", "port", "p-moved"]).await.stdout;
    let said = "\nConditions:\nand 40 more, which the host had no room for\n";
    assert!(described.contains(said), "{described}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_is_described_with_both_queues() {
    let fake = fake().await;
    assert_eq!(
        fake.ends(0, &["describe", "port", "p-moved"]).await.stdout,
        "Port:           p-moved\n\
         Switch:         prod\n\
         Group:          web\n\
         vNIC:           -\n\
         Overrides:      -\n\
         Host:           h2 (absent, heard 2m00s ago)\n\
         Epoch:          9\n\
         State:          out of sync: absent: it missed 3 heartbeats\n\
         Wanted:         revision 9\n\
         Observed:       -\n\
         Host's switch:  wanted revision 9, observed 2\n\
         Link:           up, told by h1 2m00s ago\n\
         VLAN:           untagged\n\
         Blocked:        no\n\
         From the vNIC:  70 packets, 0 bytes, 0 drops, 0 errors, settled 2m00s ago\n\
         To the vNIC:    0 packets, 4200 bytes, 0 drops, 0 errors\n\
         \n\
         Out of sync:\n\
         HOST  SWITCH  REVISION  AGE    ATTEMPTS  NEXT    ERROR\n\
         h2    prod    9         2m00s  4         in 12s  absent: it missed 3 heartbeats\n\
         \n\
         To be removed:\n\
         HOST  SWITCH  PORT     REVISION  AGE    ATTEMPTS  NEXT    ERROR\n\
         h1    prod    p-moved  9         2m00s  4         parked  the host did not answer in time\n"
    );
    let ended = fake
        .ends(0, &["describe", "port", "p-ok", "-o", "json"])
        .await;
    let value: serde_json::Value = serde_json::from_str(&ended.stdout).unwrap();
    let parts = [
        "/state",
        "/wanted",
        "/runtime/state/revision",
        "/out_of_sync",
    ];
    let parts = parts.map(|part| value.pointer(part).unwrap().clone());
    assert_eq!(
        parts,
        [
            "in_sync".into(),
            5.into(),
            5.into(),
            serde_json::Value::Null
        ]
    );
    let ended = fake.ends(1, &["describe", "port", "p-none"]).await;
    assert_eq!(ended.stderr, "nothing is called \"p-none\"\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_is_described_with_its_entries() {
    let fake = fake().await;
    assert_eq!(
        fake.ends(0, &["describe", "host", "h1"]).await.stdout,
        "Host:      h1\n\
         Presence:  present, heard 2m00s ago\n\
         Datapath:  emulated: nothing is forwarded\n\
         \n\
         Switches:\n\
         SWITCH  WANTED  OBSERVED  PORTS  STATE\n\
         prod    8       8         1      removing 1 port\n\
         \n\
         Conditions:\n\
         HOST  CONDITION      ON          AGE    WHY\n\
         h1    claim refused  port p-off  2m00s  another vNIC is connected\n\
         \n\
         To be removed:\n\
         HOST  SWITCH  PORT     REVISION  AGE    ATTEMPTS  NEXT    ERROR\n\
         h1    prod    p-moved  9         2m00s  4         parked  the host did not answer in time\n"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_is_described_with_what_is_wrong_on_whatever_host() {
    let fake = fake().await;
    let ended = fake.ends(0, &["describe", "port", "p-off"]).await;
    let wrong = "\nConditions:\n\
                 HOST  CONDITION      ON          AGE    WHY\n\
                 h1    claim refused  port p-off  2m00s  another vNIC is connected\n";
    assert!(ended.stdout.ends_with(wrong), "{}", ended.stdout);
    let ended = fake
        .ends(0, &["get", "port", "p-off", "--no-headings"])
        .await;
    assert_eq!(
        ended.stdout,
        "p-off  prod  web  -  vm-3/eth0  4  claim refused\n"
    );
    let ended = fake.ends(0, &["describe", "port", "p-ok"]).await;
    assert!(!ended.stdout.contains("Conditions"), "{}", ended.stdout);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_collector_and_retry_do_not_tell_is_said_to_be_missing() {
    let fake = publisher().start().await;
    let ended = fake.ends(0, &["describe", "port", "p-ok"]).await;
    assert!(
        ended
            .stdout
            .contains("Runtime:        no host has told of it"),
        "{}",
        ended.stdout
    );
    assert!(
        ended
            .stderr
            .contains("warning: what hosts told of ports is not known"),
        "{}",
        ended.stderr
    );
    assert!(
        ended
            .stderr
            .contains("warning: who is out of sync is not known"),
        "{}",
        ended.stderr
    );
}
