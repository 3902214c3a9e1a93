// SPDX-License-Identifier: Apache-2.0
//! `apply`, `delete`, `diff` and `resync` over a real bus: what is sent, what
//! is said, and the exit codes that scripts rely on.

use crate::answers::{queues, repush, rip};
use crate::fake::Script;
use dvs_schemas::v1::{
    ApplyReply, ApplyRequest, Change, ChangedObject, DeleteRequest, DryRunReply, GetReply,
    GetRequest, HostOutcome, HostPlan, HostVerdict, Item, ObjectRef, Operation, PushSummary,
    ResyncReply, ResyncRequest, RetryListReply, RetryListRequest, RipEntry, V1, Wait,
};
use dvs_schemas::{Kind, ObjectKey, Problem, ProblemCode, Revision, Timestamp, subjects};

const SITE: &str = "\
kind: Switch
name: prod
---
kind: PortGroup
name: web
switch: prod
policy: {vlan: {access: 100}}
";

fn changed(key: &ObjectKey, operation: Operation, fields: &[&str]) -> ChangedObject {
    ChangedObject {
        object: ObjectRef::from(key),
        operation,
        fields: fields.iter().map(|field| (*field).to_owned()).collect(),
    }
}

fn web() -> ObjectKey {
    ObjectKey::PortGroup("prod".parse().unwrap(), "web".parse().unwrap())
}

fn applied(changed: Vec<ChangedObject>, applied: Option<PushSummary>) -> ApplyReply {
    ApplyReply {
        v: V1,
        revision: Revision(7),
        changed,
        left_out: 0,
        applied,
        warnings: Vec::new(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn apply_sends_all_documents_at_once_and_says_what_changed() {
    let script = Script::default().read_by(
        subjects::CONFIG_APPLY,
        ApplyRequest::decode,
        |request: ApplyRequest| {
            let keys: Vec<_> = request.documents.iter().map(|d| d.key()).collect();
            assert_eq!(keys, [ObjectKey::Switch("prod".parse().unwrap()), web()]);
            assert_eq!(request.options.if_revision, Some(Revision(6)));
            assert_eq!(request.options.wait, None);
            let fields = ["policy.vlan"];
            Ok(applied(
                vec![changed(&web(), Operation::Updated, &fields)],
                None,
            ))
        },
    );
    let fake = script.start().await;
    fake.write("site.yaml", SITE);
    let ended = fake
        .ends(0, &["apply", "-f", "site.yaml", "--if-revision", "6"])
        .await;
    assert_eq!(ended.stdout, "portgroup/prod/web updated: policy.vlan\n");
    assert_eq!(ended.stderr, "revision 7: 1 object, 1 unchanged\n");
    let args = ["apply", "-f", "site.yaml", "--if-revision=6", "-o", "json"];
    let ended = fake.ends(0, &args).await;
    let reply: ApplyReply = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(reply.revision, Revision(7));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wait_names_the_hosts_that_lag_and_ends_with_1() {
    let script = Script::default().read_by(
        subjects::CONFIG_APPLY,
        ApplyRequest::decode,
        |request: ApplyRequest| {
            assert_eq!(request.options.wait, Some(Wait::Applied));
            assert_eq!(request.options.timeout.unwrap().to_string(), "3s");
            let lags = |host: &str, outcome, why: Option<&str>| HostOutcome {
                host: host.parse().unwrap(),
                outcome,
                why: why.map(str::to_owned),
            };
            Ok(applied(
                vec![],
                Some(PushSummary {
                    hosts: 6,
                    applied: 2,
                    outcomes: vec![
                        lags("h1", HostVerdict::Failed, Some("no such VLAN")),
                        lags("h2", HostVerdict::NoResponder, None),
                        lags("h3", HostVerdict::NoResponder, None),
                        lags("h4", HostVerdict::Applied, None),
                    ],
                }),
            ))
        },
    );
    let fake = script.start().await;
    fake.write("site.yaml", SITE);
    let ended = fake
        .ends(1, &["apply", "-f", "site.yaml", "--wait=3s"])
        .await;
    assert_eq!(
        ended.stderr,
        "unchanged at revision 7\n\
         applied on 2 of 6 hosts\n  not there: h2, h3\n  failed (no such VLAN): h1\n  and 1 host more\n\
         they are tried again until they have it; `dvsctl get hosts` shows how it goes\n"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_names_file_and_line_and_ends_with_3() {
    let refuse = |_: ApplyRequest| -> Result<ApplyReply, Problem> {
        Err(Problem::new(ProblemCode::Conflict, "changed at revision 9")
            .of("documents[1] PortGroup prod/web")
            .allow("look, then repeat"))
    };
    let script = Script::default().read_by(subjects::CONFIG_APPLY, ApplyRequest::decode, refuse);
    let fake = script.start().await;
    fake.write("site.yaml", SITE);
    let ended = fake.ends(3, &["apply", "-f", "site.yaml"]).await;
    assert_eq!(ended.stdout, "");
    assert_eq!(
        ended.stderr,
        "error: site.yaml:4: document 2: PortGroup prod/web: changed at revision 9 \
         (allowed: look, then repeat)\n"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_document_is_never_sent_and_ends_with_2() {
    let script = Script::default().read_by(
        subjects::CONFIG_APPLY,
        ApplyRequest::decode,
        |_| -> Result<ApplyReply, Problem> { panic!("sent") },
    );
    let fake = script.start().await;
    fake.write("site.yaml", &SITE.replace("access: 100", "access: 0"));
    for command in ["apply", "diff", "delete"] {
        let ended = fake.ends(2, &[command, "-f", "site.yaml"]).await;
        assert_eq!(
            ended.stderr,
            "error: site.yaml:7: document 2, PortGroup web: policy.vlan.access: \
             VLAN 0 is outside the allowed 1 to 4094\n"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_are_deleted_by_name_and_by_document() {
    let script = Script::default().read_by(
        subjects::CONFIG_DELETE,
        DeleteRequest::decode,
        |request: DeleteRequest| {
            let changed = request
                .objects
                .iter()
                .map(|object| changed(&object.key().unwrap(), Operation::Deleted, &[]))
                .collect();
            Ok(applied(changed, None))
        },
    );
    let fake = script.start().await;
    fake.write("site.yaml", SITE);
    let expected = [
        (
            vec!["delete", "-f", "site.yaml"],
            "switch/prod deleted\nportgroup/prod/web deleted\n",
        ),
        (
            vec!["delete", "PortGroup", "web", "db", "--switch", "prod"],
            "portgroup/prod/web deleted\nportgroup/prod/db deleted\n",
        ),
        (
            vec!["delete", "mirror", "prod/tap"],
            "mirror/prod/tap deleted\n",
        ),
        (vec!["delete", "port", "web-1"], "port/web-1 deleted\n"),
        (
            vec![
                "delete",
                "port/web-1",
                "PortGroup/prod/web",
                "pg/db",
                "--switch",
                "prod",
            ],
            "port/web-1 deleted\nportgroup/prod/web deleted\nportgroup/prod/db deleted\n",
        ),
    ];
    for (args, stdout) in expected {
        assert_eq!(fake.ends(0, &args).await.stdout, stdout, "{args:?}");
    }
    for args in [
        vec!["delete", "portgroup", "web"],
        vec!["delete", "port", "a.b"],
        vec!["delete", "host", "h1"],
        vec!["delete", "port"],
        vec!["delete", "port/web-1", "web-2"],
        vec!["delete", "port/web-1", "host/h1"],
        vec!["delete", "host/h1"],
    ] {
        fake.ends(2, &args).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_is_left_out_of_a_delete_if_so_asked() {
    let script = queues(Script::default(), vec![], vec![])
        .on(subjects::CONFIG_GET, |request: GetRequest| {
            let text = r#"{"kind":"Port","name":"web-1","switch":"prod","group":"web"}"#;
            let item = Item {
                revision: Revision(5),
                epoch: None,
                document: serde_json::from_str(text).unwrap(),
            };
            Ok(GetReply {
                v: V1,
                revision: Revision(7),
                items: vec![item; usize::from(request.name.as_deref() == Some("web-1"))],
                next: None,
            })
        })
        .read_by(
            subjects::CONFIG_DELETE,
            DeleteRequest::decode,
            |request: DeleteRequest| {
                let web_1 = ObjectKey::Port("web-1".parse().unwrap());
                assert_eq!(request.objects, [ObjectRef::from(&web_1)]);
                Ok(applied(
                    vec![changed(&web_1, Operation::Deleted, &[])],
                    None,
                ))
            },
        );
    let fake = script.start().await;
    let args = ["delete", "port", "web-1", "web-2", "--if-exists"];
    let ended = fake.ends(0, &args).await;
    assert_eq!(ended.stdout, "port/web-1 deleted\n");
    let args = ["delete", "port", "web-2", "--if-exists"];
    let ended = fake.ends(0, &args).await;
    assert_eq!(ended.stderr, "nothing of that is there\n");
}

fn nothing_there(script: Script) -> Script {
    script.on(subjects::CONFIG_GET, |_: GetRequest| {
        Ok(GetReply {
            v: V1,
            revision: Revision(7),
            items: Vec::new(),
            next: None,
        })
    })
}

/// It was deleted before, and a host may have it all the same.
#[tokio::test(flavor = "multi_thread")]
async fn what_hosts_may_have_of_what_is_not_there_is_waited_for() {
    let owed = |rips: Vec<RipEntry>| nothing_there(queues(Script::default(), vec![], rips));
    let fake = owed(vec![rip("h5")]).start().await;
    let args = ["delete", "port", "web-9", "--if-exists"];
    let told = "nothing of that is there\n1 removal is still to be carried out:\n  port web-9 on \
                h5: no responder\nthey are tried again until they are; `dvsctl rip-queue` and \
                `dvsctl out-of-sync` show how it goes\n";
    assert_eq!(fake.ends(0, &args).await.stderr, told);
    let patient = [&args[..], &["--wait=1s"]].concat();
    let waited = fake.ends(1, &patient).await.stderr;
    assert_eq!(waited.replacen("waiting for 1 removal\n", "", 1), told);
    // Not of another port; of the whole switch.
    let other = ["delete", "port", "web-8", "--if-exists", "--wait=1s"];
    let ended = fake.ends(0, &other).await;
    assert_eq!(ended.stderr, "nothing of that is there\n");
    let switch = ["delete", "switch", "prod", "--if-exists", "--wait=1s"];
    fake.ends(1, &switch).await;
    // Hosts that missed the whole of a switch may have its groups.
    let missed = queues(Script::default(), vec![repush("h3", None)], vec![]);
    let fake = nothing_there(missed).start().await;
    let group = [
        "delete",
        "portgroup",
        "prod/web",
        "--if-exists",
        "--wait=1s",
    ];
    let ended = fake.ends(1, &group).await;
    assert!(ended.stderr.contains("switch prod on h3"), "{ended:?}");
    fake.ends(0, &other).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wait_for_what_hosts_may_have_ends_with_the_last_of_it() {
    let mut looks = 0;
    let script = Script::default().on(subjects::RETRY_LIST, move |_: RetryListRequest| {
        looks += 1;
        let rips = if looks < 3 { vec![rip("h5")] } else { vec![] };
        Ok(RetryListReply {
            v: V1,
            now: Timestamp(66_000),
            repush_total: 0,
            rip_total: rips.len() as u64,
            out_of_sync: vec![],
            rip: rips,
            next: None,
        })
    });
    let fake = nothing_there(script).start().await;
    let args = ["delete", "port", "web-9", "--if-exists", "--wait=20s"];
    let ended = fake.ends(0, &args).await;
    assert_eq!(
        ended.stderr,
        "nothing of that is there\nwaiting for 1 removal\n"
    );
}

fn dry_run(changed: Vec<ChangedObject>) -> DryRunReply {
    let plan = |host: &str| HostPlan {
        host: host.parse().unwrap(),
        switch: "prod".parse().unwrap(),
        changes: vec![Change {
            object: "port web-1".into(),
            field: Some("vlan".into()),
            from: Some("access 100".into()),
            to: Some("access 200".into()),
        }],
        error: None,
    };
    DryRunReply {
        v: V1,
        dry_run: true,
        revision: Revision(7),
        hosts: 3,
        unchanged: 1,
        plans: if changed.is_empty() {
            vec![]
        } else {
            vec![plan("h1"), plan("h2")]
        },
        changed,
        left_out: 0,
        warnings: Vec::new(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn diff_ends_with_1_on_a_difference_and_0_on_none() {
    let script = Script::default()
        .read_by(
            subjects::CONFIG_APPLY,
            ApplyRequest::decode,
            |request: ApplyRequest| {
                assert!(request.options.dry_run);
                let text = format!("{:?}", request.documents);
                let same = text.contains("Access(100)");
                Ok(dry_run(if same {
                    vec![]
                } else {
                    vec![changed(&web(), Operation::Updated, &["policy.vlan"])]
                }))
            },
        )
        .on(subjects::CONFIG_GET, |request: GetRequest| {
            assert_eq!(request.kind, Some(Kind::PortGroup));
            assert_eq!(request.name.as_deref(), Some("web"));
            let text = r#"{"kind":"PortGroup","name":"web","switch":"prod","policy":{"vlan":{"access":100}}}"#;
            Ok(GetReply {
                v: V1,
                revision: Revision(7),
                items: vec![Item {
                    revision: Revision(5),
                    epoch: None,
                    document: serde_json::from_str(text).unwrap(),
                }],
                next: None,
            })
        });
    let fake = script.start().await;
    fake.write("same.yaml", SITE);
    fake.write("other.yaml", &SITE.replace("100", "200"));
    let ended = fake.ends(0, &["diff", "-f", "same.yaml"]).await;
    assert_eq!(ended.stdout, "");
    assert_eq!(ended.stderr, "no difference to revision 7\n");
    let ended = fake.ends(1, &["diff", "-f", "other.yaml"]).await;
    assert_eq!(
        ended.stdout,
        "--- portgroup/prod/web (revision 5)\n\
         +++ portgroup/prod/web (other.yaml:4: document 2)\n\
         @@ -3,4 +3,4 @@\n switch: prod\n policy:\n   vlan:\n-    access: 100\n+    access: 200\n\
         \n\
         on h1, h2, switch prod:\n  ~ port web-1 vlan: access 100 -> access 200\n\
         3 hosts concerned, 1 would change nothing\n"
    );
    let ended = fake
        .ends(0, &["apply", "-f", "other.yaml", "--dry-run"])
        .await;
    assert!(
        ended
            .stdout
            .starts_with("portgroup/prod/web updated: policy.vlan (dry run)\n"),
        "{}",
        ended.stdout
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resync_waits_when_asked_to() {
    let script = Script::default().on(subjects::CONFIG_RESYNC, |request: ResyncRequest| {
        let waits = request.wait == Some(Wait::Applied);
        Ok(ResyncReply {
            v: V1,
            revision: Revision(3),
            hosts: 2,
            applied: waits.then(|| PushSummary {
                hosts: 2,
                applied: 2,
                outcomes: vec![],
            }),
        })
    });
    let fake = script.start().await;
    let ended = fake.ends(0, &["resync", "--switch", "prod"]).await;
    assert_eq!(ended.stderr, "full state of revision 3 to 2 hosts\n");
    let ended = fake.ends(0, &["resync", "--wait"]).await;
    assert!(
        ended.stderr.ends_with("applied on 2 of 2 hosts\n"),
        "{ended:?}"
    );
}
