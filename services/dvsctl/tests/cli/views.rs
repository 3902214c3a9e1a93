// SPDX-License-Identifier: Apache-2.0
//! Lists, queues and waits over a real bus, as whole tables.

use std::collections::VecDeque;

use crate::fake::Script;
use dvs_schemas::v1::{
    ApplyReply, ChangedObject, Condition, ConditionKind, ConditionList, ConditionTarget,
    ConditionsOfHost, ConnectRequest, Counters, CountersOf, DisconnectReply, DisconnectRequest,
    EntrySelection, EntryState, ForgetReply, ForgetRequest, GetReply, GetRequest, HostListReply,
    HostListRequest, HostStatus, Item, Link, LiveReply, LiveRequest, MoveRequest, Namesake,
    ObjectRef, Operation, PastEvent, PortRuntime, Presence, Queue, RepushEntry, RepushKey,
    RetryListReply, RetryListRequest, RipEntry, RipKey, Rollup, RollupBy, RollupKey,
    RuntimeConditionsReply, RuntimeConditionsRequest, RuntimeGetRequest, RuntimeHistoryReply,
    RuntimeHistoryRequest, RuntimeListReply, RuntimeListRequest, RuntimeRecord, RuntimeRollupReply,
    RuntimeRollupRequest, SelectionReply, SwitchOnHost, Telling, ToldBy, V1, Wait,
};
use dvs_schemas::{
    Epoch, ObjectKey, Problem, ProblemCode, Revision, SessionId, Timestamp, Vlan, subjects,
};

fn item(revision: u64, epoch: Option<u64>, text: &str) -> Item {
    Item {
        revision: Revision(revision),
        epoch: epoch.map(Epoch),
        document: serde_json::from_str(text).unwrap(),
    }
}

/// The store in pages of one object.
fn store() -> Script {
    let items = [
        item(
            1,
            None,
            r#"{"kind":"Switch","name":"prod","hosts":["h1","h2"],"mtu":9000,"uplinks":["eth0","eth1"],"policy":{"vlan":"untagged"}}"#,
        ),
        item(
            4,
            None,
            r#"{"kind":"PortGroup","name":"web","switch":"prod","policy":{"vlan":{"access":100},"security":{"promiscuous":"reject"},"shaping":{"egress":"unlimited"}},"overridable":["blocked"]}"#,
        ),
        item(
            9,
            Some(2),
            r#"{"kind":"Port","name":"web-1","switch":"prod","group":"web","host":"h1","vnic":"vm-1/eth0","policy":{"blocked":true}}"#,
        ),
        item(
            10,
            Some(0),
            r#"{"kind":"Port","name":"web-2","switch":"prod","group":"web"}"#,
        ),
        item(
            11,
            None,
            r#"{"kind":"MirrorSession","name":"tap","switch":"prod","source":{"ports":[{"port":"web-1"}],"vlans":[7]},"destination":{"vlan":900}}"#,
        ),
    ];
    Script::default().on(subjects::CONFIG_GET, move |request: GetRequest| {
        let mut of_kind: Vec<_> = items
            .iter()
            .filter(|item| {
                let key = item.document.key();
                request.kind.is_none_or(|kind| kind == key.kind())
                    && request
                        .name
                        .as_ref()
                        .is_none_or(|name| dvs_schemas::v1::ObjectRef::from(&key).name == *name)
            })
            .cloned()
            .collect();
        let from: usize = request.after.map_or(0, |after| after.parse().unwrap());
        let next = (from + 1 < of_kind.len()).then(|| (from + 1).to_string());
        Ok(GetReply {
            v: V1,
            revision: Revision(11),
            items: of_kind.drain(from.min(of_kind.len())..).take(1).collect(),
            next,
        })
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_has_its_table() {
    let fake = store().start().await;
    let tables = [
        (
            vec!["get", "switches"],
            "NAME  HOSTS  MTU   UPLINKS    VLAN      REVISION\n\
             prod  2      9000  eth0,eth1  untagged  1\n",
        ),
        (
            vec!["get", "pg", "-o", "wide"],
            "SWITCH  NAME  VLAN        BLOCKED  REVISION  BINDING  SECURITY      SHAPING        OVERRIDABLE\n\
             prod    web   access 100  -        4         static   -promiscuous  out unlimited  blocked\n",
        ),
        (
            vec!["get", "ports"],
            "NAME   SWITCH  GROUP  HOST  VNIC       REVISION  CONDITIONS\n\
             web-1  prod    web    h1    vm-1/eth0  9         -\n\
             web-2  prod    web    -     -          10        -\n",
        ),
        (
            vec!["get", "mirrors"],
            "SWITCH  NAME  SOURCE                  DESTINATION  REVISION\n\
             prod    tap   port web-1 both,vlan 7  vlan 900     11\n",
        ),
        (
            vec!["get", "all", "-o", "name"],
            "switch/prod\nportgroup/prod/web\nport/web-1\nport/web-2\nmirror/prod/tap\n",
        ),
        (
            vec!["get", "all"],
            "KIND           NAME      REVISION\n\
             Switch         prod      1\n\
             PortGroup      prod/web  4\n\
             Port           web-1     9\n\
             Port           web-2     10\n\
             MirrorSession  prod/tap  11\n",
        ),
        (
            vec!["get", "port", "web-2", "-o", "yaml"],
            "---\n# revision 10\nkind: Port\nname: web-2\nswitch: prod\ngroup: web\n",
        ),
        (vec!["get", "ports/web-2", "-o", "name"], "port/web-2\n"),
        (
            vec!["get", "portgroup/prod/web", "-o", "name"],
            "portgroup/prod/web\n",
        ),
    ];
    for (args, stdout) in tables {
        assert_eq!(fake.ends(0, &args).await.stdout, stdout, "{args:?}");
    }
    let ended = fake.ends(1, &["get", "port", "absent"]).await;
    assert_eq!(ended.stderr, "nothing is called \"absent\"\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_get_writes_as_yaml_apply_reads() {
    let fake = store().start().await;
    let all = ["get", "all", "-o", "yaml", "--placement"];
    let yaml = fake.ends(0, &all).await.stdout;
    let json = fake.ends(0, &["get", "all", "-o", "json"]).await.stdout;
    let items: Vec<Item> = serde_json::from_str(&json).unwrap();
    let read = dvsctl::documents::parse("f", &yaml).unwrap();
    let documents: Vec<_> = read.into_iter().map(|w| w.document).collect();
    let expected: Vec<_> = items.into_iter().map(|item| item.document).collect();
    assert_eq!(documents, expected);
    assert_eq!(documents.len(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_moves_nothing_when_it_is_applied() {
    let fake = store().start().await;
    let one = ["get", "port", "web-1", "-o", "yaml"];
    assert_eq!(
        fake.ends(0, &one).await.stdout,
        "---\n# revision 9\nkind: Port\nname: web-1\nswitch: prod\ngroup: web\npolicy:\n  \
         blocked: true\n"
    );
}

fn host(name: &str, presence: Presence, wanted: u64, observed: Option<u64>) -> HostStatus {
    HostStatus {
        host: name.parse().unwrap(),
        presence,
        heard: None,
        session: None,
        node: None,
        address: None,
        version: None,
        datapath: None,
        diverged: None,
        namesakes: Vec::new(),
        switches: vec![SwitchOnHost {
            switch: "prod".parse().unwrap(),
            wanted: Revision(wanted),
            observed: observed.map(Revision),
            ports: 2,
        }],
    }
}

fn hosts(script: Script, turns: Vec<Vec<HostStatus>>) -> Script {
    let mut turns = VecDeque::from(turns);
    script.on(subjects::HOST_LIST, move |_: HostListRequest| {
        let hosts = if turns.len() > 1 {
            turns.pop_front().unwrap()
        } else {
            turns[0].clone()
        };
        Ok(HostListReply {
            v: V1,
            revision: Revision(7),
            hosts,
            next: None,
        })
    })
}

fn state(next_try: Option<u64>) -> EntryState {
    EntryState {
        revision: Revision(7),
        since: Timestamp(1_000),
        attempts: 4,
        last_error: "no responder".into(),
        not_tried: None,
        next_try: next_try.map(Timestamp),
    }
}

fn queues(script: Script, out_of_sync: Vec<RepushEntry>, rip: Vec<RipEntry>) -> Script {
    script.on(subjects::RETRY_LIST, move |request: RetryListRequest| {
        let of = |queue| request.queue.is_none_or(|only| only == queue);
        Ok(RetryListReply {
            v: V1,
            now: Timestamp(66_000),
            repush_total: out_of_sync.len() as u64,
            rip_total: rip.len() as u64,
            out_of_sync: if of(Queue::Repush) {
                out_of_sync.clone()
            } else {
                vec![]
            },
            rip: if of(Queue::Rip) { rip.clone() } else { vec![] },
            next: None,
        })
    })
}

fn repush(host: &str, next_try: Option<u64>) -> RepushEntry {
    RepushEntry {
        key: RepushKey {
            host: host.parse().unwrap(),
            switch: "prod".parse().unwrap(),
        },
        state: state(next_try),
    }
}

fn rip(host: &str) -> RipEntry {
    RipEntry {
        key: RipKey {
            host: host.parse().unwrap(),
            switch: "prod".parse().unwrap(),
            port: "web-9".parse().unwrap(),
        },
        state: state(Some(65_000)),
    }
}

/// What is wrong on a host with ports, and how much besides.
fn wrong(host: &str, of: &[(ConditionKind, &str)], more: u64) -> ConditionsOfHost {
    let conditions = of.iter().map(|(kind, port)| Condition {
        kind: *kind,
        on: ConditionTarget {
            port: Some(port.parse().unwrap()),
            ..ConditionTarget::default()
        },
        message: "it is".to_owned(),
        since: Timestamp(1_000),
    });
    ConditionsOfHost {
        host: host.parse().unwrap(),
        heard: Timestamp(2_000),
        list: ConditionList {
            conditions: conditions.collect(),
            more,
        },
    }
}

fn five() -> Vec<HostStatus> {
    vec![
        host("h1", Presence::Present, 7, Some(7)),
        host("h2", Presence::Present, 7, Some(5)),
        host("h3", Presence::Absent, 7, Some(5)),
        host("h4", Presence::Never, 7, None),
        host("h5", Presence::Present, 6, Some(7)),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn hosts_show_whether_they_are_in_sync() {
    let script = hosts(Script::default(), vec![five()]);
    let script = queues(script, vec![repush("h3", Some(78_000))], vec![rip("h5")]);
    let script = script.on(
        subjects::RUNTIME_CONDITIONS,
        |_: RuntimeConditionsRequest| {
            Ok(RuntimeConditionsReply {
                v: V1,
                hosts: vec![
                    wrong("h1", &[(ConditionKind::Drift, "web-1")], 0),
                    wrong(
                        "h2",
                        &[
                            (ConditionKind::ClaimWaits, "web-1"),
                            (ConditionKind::ClaimWaits, "web-2"),
                            (ConditionKind::Drift, "web-1"),
                        ],
                        40,
                    ),
                ],
                next: None,
            })
        },
    );
    let fake = script.start().await;
    assert_eq!(
        fake.ends(0, &["get", "hosts"]).await.stdout,
        "HOST  PRESENCE    SWITCH  WANTED  OBSERVED  PORTS  CONDITIONS                       STATE\n\
         h1    present     prod    7       7         2      drift                            in sync\n\
         h2    present     prod    7       5         2      claim waits (2), drift, 40 more  pending\n\
         h3    absent      prod    7       5         2      -                                out of sync: no responder\n\
         h4    never seen  prod    7       -         2      -                                pending\n\
         h5    present     prod    6       7         2      -                                removing 1 port\n"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn two_agents_of_one_name_are_shown_beside_each_other() {
    let twins = HostStatus {
        heard: Some(Timestamp(56_000)),
        session: Some(SessionId(1_764_000_000_000)),
        node: Some("rack-1".to_owned()),
        address: Some([10, 0, 0, 1].into()),
        namesakes: vec![Namesake {
            agent: uuid::Uuid::from_u128(9),
            node: "rack-9".to_owned(),
            address: Some([10, 0, 0, 9].into()),
            session: None,
            heard: Timestamp(46_000),
        }],
        ..host("h1", Presence::Present, 7, Some(7))
    };
    let script = hosts(Script::default(), vec![vec![twins.clone()]; 4]);
    let fake = queues(script, Vec::new(), Vec::new()).start().await;
    let beside = "\nSeveral agents have one name; give all but one another --host:\n\
         HOST  AGENT      NODE    ADDRESS   SESSION        HEARD\n\
         h1    this host  rack-1  10.0.0.1  1764000000000  10s\n\
         h1    refused    rack-9  10.0.0.9  -              20s\n";
    for args in [&["get", "hosts"][..], &["describe", "host", "h1"]] {
        let shown = fake.ends(0, args).await.stdout;
        assert!(shown.contains(beside), "{args:?}: {shown}");
    }
    let shown = fake.ends(0, &["get", "hosts", "-o", "json"]).await.stdout;
    let shown: serde_json::Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(shown[0]["namesakes"][0]["node"], "rack-9");
    assert_eq!(shown[0]["address"], "10.0.0.1");
    let shown = fake
        .ends(0, &["get", "hosts", "--no-headings"])
        .await
        .stdout;
    assert_eq!(shown.lines().count(), 1, "a script counts hosts: {shown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn hosts_are_shown_without_retry_and_the_gap_is_said() {
    let fake = hosts(Script::default(), vec![five()]).start().await;
    let ended = fake.ends(0, &["get", "hosts", "-o", "name"]).await;
    assert_eq!(
        ended.stdout,
        "host/h1\nhost/h2\nhost/h3\nhost/h4\nhost/h5\n"
    );
    assert!(
        ended
            .stderr
            .starts_with("warning: who is out of sync is not known"),
        "{}",
        ended.stderr
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn queues_show_age_attempts_and_next_try() {
    let script = queues(
        Script::default(),
        vec![repush("h3", Some(78_000)), repush("h4", None)],
        vec![rip("h5")],
    );
    let fake = script.start().await;
    assert_eq!(
        fake.ends(0, &["out-of-sync"]).await.stdout,
        "HOST  SWITCH  REVISION  AGE    ATTEMPTS  NEXT    ERROR\n\
         h3    prod    7         1m05s  4         in 12s  no responder\n\
         h4    prod    7         1m05s  4         parked  no responder\n"
    );
    assert_eq!(
        fake.ends(0, &["rip-queue", "--host", "h5"]).await.stdout,
        "HOST  SWITCH  PORT   REVISION  AGE    ATTEMPTS  NEXT  ERROR\n\
         h5    prod    web-9  7         1m05s  4         now   no responder\n"
    );
    let empty = queues(Script::default(), vec![], vec![]).start().await;
    let ended = empty.ends(0, &["out-of-sync"]).await;
    assert_eq!(
        (ended.stdout.as_str(), ended.stderr.as_str()),
        ("", "nothing is to be pushed again\n"),
        "nobody says what hosts have"
    );
    let synced = vec![host("h1", Presence::Present, 7, Some(7))];
    let hosts_and = |listed| hosts(queues(Script::default(), vec![], vec![]), vec![listed]);
    let fake = hosts_and(synced).start().await;
    let ended = fake.ends(0, &["out-of-sync"]).await;
    assert_eq!(ended.stderr, "every host is in sync\n");
    let behind = vec![host("h1", Presence::Present, 7, Some(6))];
    let fake = hosts_and(behind).start().await;
    let ended = fake.ends(0, &["out-of-sync"]).await;
    assert_eq!(
        ended.stderr,
        "nothing is to be pushed again, and 1 host is not in sync: `dvsctl get hosts` shows \
         which, `dvsctl resync` pushes to them now\n",
        "an entry was cancelled"
    );
    let fake = hosts_and(Vec::new()).start().await;
    let ended = fake.ends(0, &["out-of-sync", "--host", "typo"]).await;
    assert_eq!(
        ended.stderr,
        "nothing is to be pushed again, and no such host is there\n"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn entries_are_kicked_parked_and_cancelled_by_selection() {
    let select = |entries: u64, expected: EntrySelection| {
        move |selection: EntrySelection| {
            assert_eq!(selection, expected);
            Ok(SelectionReply { v: V1, entries })
        }
    };
    let script = Script::default()
        .on(
            subjects::RETRY_KICK,
            select(
                1,
                EntrySelection {
                    queue: Some(Queue::Repush),
                    host: Some("h1".parse().unwrap()),
                    ..EntrySelection::default()
                },
            ),
        )
        .on(
            subjects::RETRY_PARK,
            select(
                2,
                EntrySelection {
                    queue: Some(Queue::Rip),
                    ..EntrySelection::default()
                },
            ),
        )
        .on(
            subjects::RETRY_CANCEL,
            select(
                0,
                EntrySelection {
                    queue: Some(Queue::Rip),
                    port: Some("web-9".parse().unwrap()),
                    ..EntrySelection::default()
                },
            ),
        );
    let fake = script.start().await;
    let ended = fake.ends(0, &["out-of-sync", "kick", "--host", "h1"]).await;
    assert_eq!(ended.stderr, "1 entry tried now\n");
    let ended = fake.ends(0, &["rip-queue", "park", "--all"]).await;
    assert_eq!(ended.stderr, "2 entries parked\n");
    let ended = fake
        .ends(1, &["rip-queue", "cancel", "--port", "web-9"])
        .await;
    assert_eq!(ended.stderr, "0 entries dropped\n");
    fake.ends(2, &["out-of-sync", "kick"]).await;
}

/// "Nothing" of what is not there is a slip of the hand that nobody notices.
#[tokio::test(flavor = "multi_thread")]
async fn a_filter_that_names_what_is_not_there_is_said_to() {
    let script = Script::default()
        .on(subjects::RETRY_CANCEL, |_: EntrySelection| {
            Ok(SelectionReply { v: V1, entries: 0 })
        })
        .on(subjects::HOST_LIST, |_: HostListRequest| {
            Ok(HostListReply {
                v: V1,
                revision: Revision(7),
                hosts: Vec::new(),
                next: None,
            })
        })
        .on(subjects::CONFIG_GET, |_: GetRequest| {
            Ok(GetReply {
                v: V1,
                revision: Revision(7),
                items: Vec::new(),
                next: None,
            })
        });
    let fake = script.start().await;
    let cases: [(&[&str], &str); 4] = [
        (
            &["out-of-sync", "cancel", "--host", "h9"],
            "there is no host h9",
        ),
        (&["get", "ports", "--host", "h9"], "there is no host h9"),
        (
            &["get", "ports", "--group", "nope"],
            "there is no port group nope",
        ),
        (
            &["get", "ports", "--switch", "nope"],
            "there is no switch nope",
        ),
    ];
    for (args, words) in cases {
        let ended = fake.ends(3, args).await;
        assert!(ended.stderr.contains(words), "{args:?}: {}", ended.stderr);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wait_ends_when_it_is_so() {
    let one = |observed| vec![host("h1", Presence::Present, 7, observed)];
    let script = hosts(Script::default(), vec![vec![], one(None), one(Some(7))]);
    let fake = queues(script, vec![], vec![]).start().await;
    let args = ["wait", "hosts", "--count", "1", "--timeout", "30s"];
    let ended = fake.ends(0, &args).await;
    assert_eq!(
        ended.stderr,
        "waiting for the bus\n0 of 1 host present\n1 of 1 host present\n"
    );
    let ended = fake.ends(0, &["wait", "in-sync", "--timeout", "30s"]).await;
    assert!(ended.stderr.ends_with("1 of 1 host in sync\n"), "{ended:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wait_that_is_over_names_the_laggards_and_ends_with_1() {
    let script = hosts(Script::default(), vec![five()]);
    let script = queues(script, vec![repush("h3", None)], vec![rip("h5")]);
    let fake = script.start().await;
    let ended = fake.ends(1, &["wait", "in-sync", "--timeout", "3s"]).await;
    assert_eq!(
        ended.stderr,
        "waiting for the bus\n\
         1 of 5 hosts in sync, 2 to be retried\n\
         not so after 3s: 1 of 5 hosts in sync, 2 to be retried\n  \
         h2 on switch prod: pending, observed 5 of 7\n  \
         h3 on switch prod: out of sync: no responder, observed 5 of 7 (the host is absent)\n  \
         h4 on switch prod: pending, observed - of 7 (the host was never there)\n  \
         h5 on switch prod: removing 1 port, observed 7 of 6\n"
    );
}

fn runtime(port: &str) -> PortRuntime {
    PortRuntime {
        port: port.parse().unwrap(),
        switch: "prod".parse().unwrap(),
        group: "web".parse().unwrap(),
        epoch: Epoch(2),
        revision: Revision(9),
        link: Link::Up,
        vlan: Vlan::Access(100_u16.try_into().unwrap()),
        blocked: true,
        mirrored: vec!["tap".parse().unwrap()],
    }
}

fn counters() -> Counters {
    Counters {
        ingress_packets: 10,
        ingress_bytes: 1_000,
        ingress_drops: 1,
        ingress_errors: 2,
        egress_packets: 20,
        egress_bytes: 2_000,
        egress_drops: 3,
        egress_errors: 4,
    }
}

/// Stored states, of which the second is of a port that has gone.
fn record(port: &str, there: bool) -> RuntimeRecord {
    RuntimeRecord {
        port: port.parse().unwrap(),
        host: "h1".parse().unwrap(),
        updated: std::time::SystemTime::now().into(),
        state: there.then(|| runtime(port)),
        changed: None,
        counters: there.then(counters),
        settled: None,
        total: Some(Counters {
            ingress_packets: 70,
            ..counters()
        }),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn runtime_state_is_shown_as_stored_and_as_read_now() {
    let script = Script::default()
        .on(subjects::RUNTIME_GET, |request: RuntimeGetRequest| {
            Ok(record(request.port.as_str(), true))
        })
        .on(subjects::RUNTIME_LIST, |request: RuntimeListRequest| {
            assert_eq!(request.link, Some(Link::Down));
            Ok(RuntimeListReply {
                v: V1,
                ports: vec![record("web-1", true), record("web-2", false)],
                next: None,
            })
        })
        .on(subjects::RUNTIME_LIVE, |request: LiveRequest| {
            assert_eq!(request.host, Some("h1".parse().unwrap()));
            let (port, next) = match &request.after {
                None => ("web-1", Some("web-1".parse().unwrap())),
                Some(_) => ("web-2", None),
            };
            Ok(LiveReply {
                v: V1,
                host: "h1".parse().unwrap(),
                session: dvs_schemas::SessionId(1),
                at: Timestamp(5_000),
                ports: vec![runtime(port)],
                counters: vec![CountersOf {
                    port: port.parse().unwrap(),
                    epoch: Epoch(2),
                    counters: counters(),
                }],
                totals: Vec::new(),
                conditions: None,
                next,
            })
        });
    let fake = script.start().await;
    let ended = fake.ends(0, &["live", "--host", "h1", "-o", "wide"]).await;
    assert_eq!(
        ended.stdout,
        "PORT   HOST  LINK         VLAN        IN-PACKETS  OUT-PACKETS  AGE  SWITCH  GROUP  EPOCH  \
         REVISION  MIRRORED  IN-BYTES  IN-DROPS  OUT-BYTES  OUT-DROPS  ERRORS\n\
         web-1  h1    up, blocked  access 100  10          20           0ms  prod    web    2      \
         9         tap       1000      1         2000       3          6\n\
         web-2  h1    up, blocked  access 100  10          20           0ms  prod    web    2      \
         9         tap       1000      1         2000       3          6\n"
    );
    let ended = fake.ends(0, &["runtime", "web-1", "-o", "name"]).await;
    assert_eq!(ended.stdout, "port/web-1\n");
    let args = ["runtime", "--link", "down", "-o", "json"];
    let ended = fake.ends(0, &args).await;
    let records: Vec<RuntimeRecord> = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(records.len(), 2);
    assert_eq!(records[1].state, None);
    let args = ["runtime", "--link", "down", "--no-headings"];
    let ended = fake.ends(0, &args).await;
    // Its counters over all its placements stay.
    let gone = "web-2  h1  gone         -           70  20  ";
    assert!(
        ended.stdout.lines().nth(1).unwrap().starts_with(gone),
        "{ended:?}"
    );
    fake.ends(2, &["live"]).await;
    fake.ends(2, &["runtime", "web-1", "--host", "h1"]).await;
}

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

#[tokio::test(flavor = "multi_thread")]
async fn a_ports_history_is_shown_with_what_was_no_news() {
    let at = Timestamp(1_700_000_000_000);
    let event = move |news, told| PastEvent {
        heard: std::time::SystemTime::now().into(),
        at,
        host: "h1".parse().unwrap(),
        epoch: Epoch(3),
        by: ToldBy::Event,
        news,
        told,
    };
    let script = Script::default().on(
        subjects::RUNTIME_HISTORY,
        move |request: RuntimeHistoryRequest| {
            Ok(RuntimeHistoryReply {
                v: V1,
                port: request.port,
                events: vec![
                    event(true, Telling::State(runtime("web-1"))),
                    event(false, Telling::Gone),
                    event(true, Telling::Counters(counters())),
                ],
            })
        },
    );
    let fake = script.start().await;
    let ended = fake.ends(0, &["history", "web-1"]).await;
    let lines: Vec<&str> = ended
        .stdout
        .lines()
        .map(|line| line.split_once("2023").map_or(line, |(_, rest)| rest))
        .collect();
    assert_eq!(lines.len(), 4, "{}", ended.stdout);
    assert!(lines[1].contains("yes   link "), "{}", ended.stdout);
    assert!(
        lines[2].ends_with("no    virtual port gone"),
        "{}",
        ended.stdout
    );
    assert!(lines[3].contains("settled: in "), "{}", ended.stdout);
}

#[tokio::test(flavor = "multi_thread")]
async fn sums_over_ports_have_a_row_each() {
    let script = Script::default().on(subjects::RUNTIME_ROLLUP, |request: RuntimeRollupRequest| {
        assert_eq!(request.by, RollupBy::Group);
        assert_eq!(request.switch.as_ref().unwrap().as_str(), "prod");
        let page = |group: &str, next| RuntimeRollupReply {
            v: V1,
            rows: vec![Rollup {
                key: RollupKey::Group("prod".parse().unwrap(), group.parse().unwrap()),
                ports: 4,
                up: 2,
                down: 1,
                blocked: 1,
                total: Counters {
                    ingress_packets: 70,
                    ..Counters::default()
                },
                oldest: std::time::SystemTime::now().into(),
            }],
            next,
        };
        let first = RollupKey::Group("prod".parse().unwrap(), "db".parse().unwrap());
        Ok(match request.after {
            None => page("db", Some(first)),
            Some(_) => page("web", None),
        })
    });
    let fake = script.start().await;
    let args = ["rollup", "portgroups", "--switch", "prod"];
    let ended = fake.ends(0, &args).await;
    let lines: Vec<&str> = ended.stdout.lines().collect();
    assert_eq!(
        lines[0],
        "GROUP     PORTS  UP  DOWN  BLOCKED  IN-PACKETS  OUT-PACKETS  OLDEST"
    );
    assert!(lines[1].starts_with("prod/db   4      2   1     1        70          0  "));
    assert!(lines[2].starts_with("prod/web  4      2   1     1        70          0  "));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_is_said_not_to_be_there() {
    let unknown = |_: LiveRequest| -> Result<LiveReply, Problem> {
        Err(Problem::new(
            ProblemCode::NotFound,
            "no host has told of it",
        ))
    };
    let untold = |_: RuntimeHistoryRequest| -> Result<RuntimeHistoryReply, Problem> {
        Err(Problem::new(
            ProblemCode::NotFound,
            "no host has told of it",
        ))
    };
    let script = store()
        .on(subjects::RUNTIME_LIVE, unknown)
        .on(subjects::RUNTIME_HISTORY, untold);
    let fake = script.start().await;
    for command in ["live", "history"] {
        let ended = fake.ends(3, &[command, "absent"]).await;
        assert_eq!(
            ended.stderr, "error: there is no port absent\n",
            "{command}"
        );
        let ended = fake.ends(3, &[command, "web-1"]).await;
        assert!(ended.stderr.contains("no host has told of it"), "{command}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_without_an_answer_does_not_speak_of_being_carried_out() {
    let fake = Script::default().silent(subjects::HOST_LIST).start().await;
    let ended = fake.ends(4, &["--timeout", "200ms", "get", "hosts"]).await;
    assert_eq!(
        ended.stderr,
        "error: no answer on `dvs.v1.host.list` within 200ms; is the service running, and not \
         overloaded?\n"
    );
}
