// SPDX-License-Identifier: Apache-2.0
//! Where dvsctl finds the bus, and what it says when bus or service isn't
//! there: one line, within the bound, with exit code 4.

use std::net::TcpListener;
use std::process::Stdio;

use crate::fake::{Ended, Fake, Script, dvsctl};
use dvs_schemas::v1::{GetReply, GetRequest, V1};
use dvs_schemas::{Revision, subjects};
use dvs_transport::testing::NatsServer;

async fn empty_store() -> Fake {
    let script = Script::default().on(subjects::CONFIG_GET, |_: GetRequest| {
        Ok(GetReply {
            v: V1,
            revision: Revision(0),
            items: vec![],
            next: None,
        })
    });
    script.start().await
}

const GET: [&str; 2] = ["get", "switches"];
const NONE: &str = "there are none\n";

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_server_is_one_line_and_4() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("nats://{}", listener.local_addr().unwrap());
    drop(listener);
    let home = tempfile::tempdir().unwrap();
    let args = ["--server", &url, "--timeout", "300ms", "get", "switches"];
    let ended: Ended = dvsctl(home.path(), &args).output().await.unwrap().into();
    assert_eq!(ended.code, 4, "{ended:?}");
    assert_eq!(ended.stderr.lines().count(), 1, "{}", ended.stderr);
    let start = format!("error: no connection to NATS at {url} within 300ms");
    assert!(ended.stderr.starts_with(&start), "{}", ended.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_be_said_without_a_bus_is_said_before_looking_for_one() {
    let home = tempfile::tempdir().unwrap();
    for args in [
        vec!["apply", "-f", "absent.yaml"],
        vec!["diff", "-f", "absent.yaml"],
        vec!["delete", "-f", "absent.yaml"],
        vec!["delete", "portgroup", "web"],
        vec!["out-of-sync", "kick"],
        vec!["get", "hosts", "a.b"],
    ] {
        let args = [&["--server", "nats://127.0.0.1:1"], args.as_slice()].concat();
        let ended: Ended = dvsctl(home.path(), &args).output().await.unwrap().into();
        assert_eq!(ended.code, 2, "{args:?}: {ended:?}");
        assert_eq!(ended.stderr.lines().count(), 1, "{}", ended.stderr);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_permission_that_is_missing_is_named() {
    let config = r#"authorization { users: [
        { user: "u", password: "p", permissions: { publish: ["dvs.v1.probe"], subscribe: ["_INBOX.>"] } }
    ] }"#;
    let server = NatsServer::with_config(config).unwrap();
    let url = server.url();
    let home = tempfile::tempdir().unwrap();
    let args = [
        "-s",
        &url,
        "--user",
        "u",
        "--password",
        "p",
        "--timeout",
        "1s",
        "get",
        "ports",
    ];
    let ended: Ended = dvsctl(home.path(), &args).output().await.unwrap().into();
    assert_eq!(ended.code, 4, "{ended:?}");
    let stderr = ended.stderr.to_lowercase();
    assert!(stderr.contains("permissions violation"), "{stderr}");
    let args = ["-s", &url, "--timeout", "500ms", "get", "ports"];
    let ended: Ended = dvsctl(home.path(), &args).output().await.unwrap().into();
    assert_eq!(ended.code, 4, "{ended:?}");
    assert!(
        ended.stderr.contains("authorization violation"),
        "{ended:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_or_silent_service_is_one_line_and_4() {
    let script = Script::default().silent(subjects::HOST_LIST);
    let fake = script.start().await;
    let ended = fake.ends(4, &GET).await;
    assert_eq!(ended.stderr.lines().count(), 1, "{}", ended.stderr);
    assert!(
        ended.stderr.contains(subjects::CONFIG_GET),
        "{}",
        ended.stderr
    );
    let args = ["get", "hosts", "--timeout", "200ms"];
    let ended = fake.ends(4, &args).await;
    assert!(ended.stderr.contains("within 200ms"), "{}", ended.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_selected_context_of_the_nats_command_line_is_used() {
    let fake = empty_store().await;
    let context = format!(r#"{{"url":"{}"}}"#, fake.server.url());
    fake.write(".config/nats/context/site.json", &context);
    fake.write(
        ".config/nats/context/other.json",
        r#"{"url":"nats://127.0.0.1:1"}"#,
    );
    fake.write(".config/nats/context.txt", "site");
    let home = fake.home.path();
    let ended: Ended = dvsctl(home, &GET).output().await.unwrap().into();
    assert_eq!((ended.code, ended.stderr.as_str()), (0, NONE), "{ended:?}");
    // The environment goes before the selected context, a flag before both.
    let mut command = dvsctl(home, &GET);
    let other = command
        .env("NATS_CONTEXT", "other")
        .env("DVS_TIMEOUT", "200ms");
    let ended: Ended = other.output().await.unwrap().into();
    assert_eq!(ended.code, 4, "{ended:?}");
    let mut command = dvsctl(home, &["--context", "site", "get", "switches"]);
    let ended: Ended = command
        .env("NATS_CONTEXT", "other")
        .output()
        .await
        .unwrap()
        .into();
    assert_eq!(ended.code, 0, "{ended:?}");
    let mut command = dvsctl(home, &["--context", "absent", "get", "switches"]);
    let ended: Ended = command.output().await.unwrap().into();
    assert_eq!(ended.code, 2, "{ended:?}");
    assert!(ended.stderr.contains("other, site"), "{}", ended.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_has_gone_is_no_failure() {
    let fake = empty_store().await;
    let url = fake.server.url();
    let args = ["--server", &url, "get", "switches", "-o", "json"];
    let mut child = dvsctl(fake.home.path(), &args)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let ended: Ended = child.wait_with_output().await.unwrap().into();
    assert_eq!((ended.code, ended.stderr.as_str()), (0, ""), "{ended:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_needs_no_bus_works_without() {
    let home = tempfile::tempdir().unwrap();
    let run =
        async |args: &[&str]| -> Ended { dvsctl(home.path(), args).output().await.unwrap().into() };
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let ended = run(&["completions", shell]).await;
        assert!(ended.stdout.contains("out-of-sync"), "{shell}");
    }
    let ended = run(&["credentials", "keys"]).await;
    assert_eq!((ended.code, ended.stdout.as_str()), (0, ""));
    assert_eq!(ended.stderr.lines().count(), 6);
    let ended = run(&["credentials", "keys"]).await;
    assert_eq!((ended.code, ended.stderr.as_str()), (0, ""));
    let ended = run(&["explain", "portgroup.policy.vlan.access"]).await;
    assert_eq!(
        ended.stdout,
        "portgroup.policy.vlan.access\n  \
         All frames belong to this VLAN; the vNIC sees no tag.\n  \
         Allowed: 1 to 4094\n"
    );
    let ended = run(&["explain", "portgroup.polcy"]).await;
    assert_eq!(ended.code, 2);
    assert_eq!(
        ended.stderr,
        "error: portgroup has no field \"polcy\"; allowed: name, switch, policy, overridable, binding\n"
    );
    let ended = run(&["--help"]).await;
    assert!(ended.stdout.contains("Exit codes:"));
}
