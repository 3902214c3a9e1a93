// SPDX-License-Identifier: Apache-2.0
//! A dry run asks the hosts and leaves no trace.

use std::time::Duration;

use config_publisher::events::{Call, Reply, Request};
use dvs_schemas::v1::{ApplyRequest, DeleteRequest, DryRunReply, FinalState, HostPlan, V1};
use dvs_schemas::{Problem, Revision};

use crate::desk::{Desk, Manner, SITE, hosts_of, name, web};

fn dry(text: &str) -> Request {
    let (_, mut request) = ApplyRequest::decode(text.as_bytes()).unwrap();
    request.options.dry_run = true;
    Request::Apply(request)
}

fn reply(result: Result<Reply, Problem>) -> DryRunReply {
    match result {
        Ok(Reply::DryRun(reply)) => reply,
        other => panic!("{other:?}"),
    }
}

#[test]
fn hosts_are_asked_and_nothing_is_written() {
    let mut desk = Desk::of(3);
    desk.apply(SITE);
    desk.calls.clear();
    desk.manner("h2", Manner::Silent);
    desk.manner("h3", Manner::Fails);
    let (tables, config) = (desk.tables(), desk.publisher.config().clone());
    let result = reply(desk.ask(dry(&web(200))));
    let plan = |host, error: &str| HostPlan {
        host: name(host),
        switch: name("prod"),
        changes: Vec::new(),
        error: Some(error.to_owned()),
    };
    let expected = DryRunReply {
        v: V1,
        dry_run: true,
        revision: Revision(1),
        changed: result.changed.clone(),
        hosts: 3,
        unchanged: 1,
        plans: vec![
            plan("h2", "no answer in time"),
            plan("h3", "the host would refuse it: the datapath is broken"),
        ],
        left_out: 0,
        warnings: Vec::new(),
    };
    assert_eq!(result, expected);
    assert_eq!(result.changed[0].fields, ["policy.vlan"]);
    assert_eq!((desk.tables(), desk.publisher.config()), (tables, &config));
    for call in &desk.calls {
        let Call::Plan { clobber, .. } = call else {
            panic!("{call:?}");
        };
        assert_eq!(clobber.revision, Revision(2));
    }
}

#[test]
fn each_host_is_asked_once_with_all_that_concerns_it() {
    let mut desk = Desk::of(3);
    desk.apply(SITE);
    desk.calls.clear();
    let both = format!(
        r#"[{}, {{"kind": "Port", "name": "web-1", "switch": "prod", "group": "web", "host": "h2"}}]"#,
        web(200)
    );
    reply(desk.ask(dry(&both)));
    let asked: Vec<_> = desk.calls.iter().flat_map(hosts_of).collect();
    assert_eq!(asked, [name("h1"), name("h2"), name("h3")]);
    let Call::Plan { clobber, .. } = &desk.calls[0] else {
        panic!("{:?}", desk.calls[0]);
    };
    assert!(matches!(&clobber.state, FinalState::Full { objects, .. } if objects.ports.is_empty()));
    let port = desk.publisher.config().port(&name("web-1")).unwrap();
    assert_eq!(port.value.document.host, Some(name("h1")));
}

#[test]
fn a_dry_run_of_a_deletion_and_of_a_new_switch_leaves_no_trace_either() {
    let mut desk = Desk::of(2);
    desk.apply(SITE);
    let (tables, config) = (desk.tables(), desk.publisher.config().clone());
    let (_, mut request) = DeleteRequest::decode(
        br#"[{"kind": "Switch", "name": "prod"}, {"kind": "Port", "name": "web-1"},
             {"kind": "PortGroup", "name": "web", "switch": "prod"}]"#,
    )
    .unwrap();
    request.options.dry_run = true;
    assert_eq!(reply(desk.ask(Request::Delete(request))).unchanged, 2);
    let new = SITE.replace("prod", "lab").replace("web-1", "lab-1");
    assert_eq!(reply(desk.ask(dry(&new))).changed.len(), 3);
    assert_eq!((desk.tables(), desk.publisher.config()), (tables, &config));
}

#[test]
fn what_is_refused_is_refused_dry_too() {
    let mut desk = Desk::of(1);
    desk.apply(SITE);
    let text = r#"{"kind": "PortGroup", "name": "web", "switch": "nowhere"}"#;
    assert!(desk.ask(dry(text)).is_err());
    assert_eq!(reply(desk.ask(dry(SITE))).changed, []);
}

#[test]
fn a_dry_run_ends_with_its_bound() {
    let mut desk = Desk::of(2);
    desk.apply(SITE);
    let to = desk.send(dry(&web(200)));
    desk.undone.clear();
    desk.pass(Duration::from_secs(10));
    let result = reply(desk.reply(to).unwrap());
    let errors: Vec<_> = result.plans.iter().map(|p| p.error.as_deref()).collect();
    assert_eq!(errors, [Some("no answer yet"); 2]);
}

#[test]
fn absent_hosts_are_named_and_not_asked() {
    let mut desk = Desk::of(1);
    let text = r#"{"kind": "Switch", "name": "lab", "hosts": ["h9"]}"#;
    let result = reply(desk.ask(dry(text)));
    assert_eq!((result.hosts, result.unchanged), (1, 0));
    assert_eq!(
        result.plans[0].error.as_deref(),
        Some("absent: the host is not known, as it said no hello or was forgotten")
    );
}
