// SPDX-License-Identifier: Apache-2.0
//! Lists and waits over a real bus, as whole tables.

use crate::answers::{host, hosts, queues, repush, rip};
use crate::fake::Script;
use dvs_schemas::v1::{
    Condition, ConditionKind, ConditionList, ConditionTarget, ConditionsOfHost, GetReply,
    GetRequest, HostStatus, Item, LiveReply, LiveRequest, Namesake, Presence,
    RuntimeConditionsReply, RuntimeConditionsRequest, RuntimeHistoryReply, RuntimeHistoryRequest,
    V1,
};
use dvs_schemas::{Epoch, Problem, ProblemCode, Revision, SessionId, Timestamp, subjects};

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
