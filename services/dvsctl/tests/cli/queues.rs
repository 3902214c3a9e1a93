// SPDX-License-Identifier: Apache-2.0
//! The queues of retry: listed, and their entries chosen.

use crate::answers::{host, hosts, queues, repush, rip};
use crate::fake::Script;
use dvs_schemas::v1::{
    EntrySelection, GetReply, GetRequest, HostListReply, HostListRequest, Presence, Queue,
    RuntimeListReply, RuntimeListRequest, RuntimeRollupReply, RuntimeRollupRequest, SelectionReply,
    V1,
};
use dvs_schemas::{Revision, subjects};

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
         which, `dvsctl resync` pushes now to those that are present\n",
        "an entry was cancelled"
    );
    let behind = vec![host("h5", Presence::Absent, 7, Some(6))];
    let removing = queues(Script::default(), vec![], vec![rip("h5")]);
    let fake = hosts(removing, vec![behind]).start().await;
    let ended = fake.ends(0, &["out-of-sync"]).await;
    assert_eq!(
        ended.stderr,
        "nothing is to be pushed again, and 1 host is not in sync: `dvsctl get hosts` shows \
         which, `dvsctl rip-queue` what is still to be removed from them\n",
    );
    let shown = fake.ends(0, &["get", "hosts"]).await.stdout;
    assert!(shown.contains("removing 1 port"), "{shown}");
    let behind = vec![host("h1", Presence::Absent, 7, Some(6))];
    let fake = hosts_and(behind).start().await;
    let ended = fake.ends(0, &["out-of-sync"]).await;
    assert_eq!(
        ended.stderr,
        "nothing is to be pushed again, and 1 host is not in sync: `dvsctl get hosts` shows \
         which and why\n",
        "nothing is pushed to who is not there"
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
    let script = queues(Script::default(), vec![], vec![])
        .on(subjects::RETRY_CANCEL, |_: EntrySelection| {
            Ok(SelectionReply { v: V1, entries: 0 })
        })
        .on(subjects::RUNTIME_LIST, |_: RuntimeListRequest| {
            Ok(RuntimeListReply {
                v: V1,
                ports: Vec::new(),
                next: None,
            })
        })
        .on(subjects::RUNTIME_ROLLUP, |_: RuntimeRollupRequest| {
            Ok(RuntimeRollupReply {
                v: V1,
                rows: Vec::new(),
                next: None,
            })
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
    let cases: [(&[&str], &str); 11] = [
        (&["out-of-sync", "--host", "h9"], "there is no host h9"),
        (&["rip-queue", "--host", "h9"], "there is no host h9"),
        (
            &["rip-queue", "--switch", "nope"],
            "there is no switch nope",
        ),
        (
            &["out-of-sync", "cancel", "--host", "h9"],
            "there is no host h9",
        ),
        (
            &["rip-queue", "cancel", "--switch", "nope"],
            "there is no switch nope",
        ),
        (&["runtime", "--host", "h9"], "there is no host h9"),
        (
            &["runtime", "--group", "nope"],
            "there is no port group nope",
        ),
        (&["rollup", "hosts", "--host", "h9"], "there is no host h9"),
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
