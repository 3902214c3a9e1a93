// SPDX-License-Identifier: Apache-2.0
//! Sessions with a real database server, also over TCP and TLS, and with one
//! that is killed.
#![allow(clippy::unwrap_used, missing_docs)]

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Child;
use std::time::Duration;

use dvs_ovsdb::testing::{Ovs, command, skipped};
use dvs_ovsdb::{
    ConnectError, Datum, Endpoint, Mutator, OpenError, Options, Outcome, Row, Session, TlsFiles,
    TransactError, Transaction, Wanted, next_cfg,
};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, IsCa, KeyPair,
};
use tokio::time::Instant;
use uuid::Uuid;

fn wanted() -> Wanted {
    Wanted::new()
        .table("Open_vSwitch", ["next_cfg", "cur_cfg", "bridges"])
        .table("Bridge", ["name", "ports"])
        .table("Port", ["name", "interfaces", "tag", "external_ids"])
        .table("Interface", ["name", "type", "ofport"])
}

fn root(session: &Session) -> Uuid {
    let mut rows = session.cache().table("Open_vSwitch").keys();
    *rows.next().unwrap()
}

fn named(session: &Session, table: &str, name: &str) -> Option<Uuid> {
    let rows = session.cache().table(table);
    let found = rows.iter().find(|(_, row)| row.str("name") == Some(name));
    found.map(|(uuid, _)| *uuid)
}

/// Adds ports without devices to a bridge.
fn plug(transaction: &mut Transaction, bridge: Uuid, names: impl IntoIterator<Item = String>) {
    for name in names {
        let interface = Row::from_iter([("name", name.as_str()), ("type", "dummy")]);
        let interface = transaction.insert("Interface", interface);
        let port = Row::from_iter([
            ("name", Datum::from(name)),
            ("interfaces", Datum::from(interface)),
        ]);
        let port = transaction.insert("Port", port);
        transaction.mutate("Bridge", bridge, "ports", Mutator::Insert, port.into());
    }
}

async fn with_bridge(ovs: &Ovs) -> (Session, Uuid) {
    let kind = ["--", "set", "Bridge", "br", "datapath_type=netdev"];
    ovs.vsctl(&[["add-br", "br"].as_slice(), &kind].concat())
        .unwrap();
    let session = Session::open(&ovs.options(wanted())).await.unwrap();
    let bridge = named(&session, "Bridge", "br").unwrap();
    (session, bridge)
}

#[tokio::test]
async fn a_copy_is_whole_and_the_same_for_everybody() {
    if skipped("a_copy_is_whole_and_the_same_for_everybody") {
        return;
    }
    let ovs = Ovs::start().unwrap();
    let (mut session, bridge) = with_bridge(&ovs).await;
    let mut transaction = Transaction::new();
    let names = (0..2_000).map(|number| format!("p{number}"));
    plug(&mut transaction, bridge, names);
    transaction.bump_next_cfg(root(&session));
    let outcomes = session.transact(&transaction).await.unwrap();
    // Its own changes are in the copy by then.
    assert_eq!(session.cache().table("Port").len(), 2_001);
    let inserted = outcomes
        .iter()
        .filter(|outcome| matches!(outcome, Outcome::Inserted(_)));
    assert_eq!(inserted.count(), 4_000);
    // And carried out once the switch says so.
    let wanted_cfg = next_cfg(&outcomes).unwrap();
    let of = root(&session);
    let deadline = Instant::now() + Duration::from_secs(60);
    let done = session.wait_until(deadline, |cache| {
        let row = cache.row("Open_vSwitch", of);
        row.and_then(|row| row.integer("cur_cfg")) >= Some(wanted_cfg)
    });
    assert!(done.await.unwrap());
    session.catch_up().await.unwrap();
    let all = session.cache().table("Interface").values();
    let numbers: BTreeSet<i64> = all.filter_map(|row| row.integer("ofport")).collect();
    assert_eq!(numbers.len(), 2_001, "a number each, and one of the bridge");
    let other = Session::open(&ovs.options(wanted())).await.unwrap();
    assert_eq!(other.cache(), session.cache());
}

#[tokio::test]
async fn what_others_change_comes_by_itself() {
    if skipped("what_others_change_comes_by_itself") {
        return;
    }
    let ovs = Ovs::start().unwrap();
    let (mut session, _) = with_bridge(&ovs).await;
    ovs.vsctl(&["set", "Port", "br", "tag=7"]).unwrap();
    let port = named(&session, "Port", "br").unwrap();
    let change = loop {
        let changes = session.changed().await.unwrap();
        if let Some(change) = changes.into_iter().find(|change| change.uuid == port) {
            break change;
        }
    };
    let tag = |row: &Option<Row>| row.as_ref().unwrap().integer("tag");
    assert_eq!((tag(&change.old), tag(&change.new)), (None, Some(7)));
    assert_eq!(session.cache().row("Port", port), change.new.as_ref());
    ovs.vsctl(&["del-br", "br"]).unwrap();
    session.catch_up().await.unwrap();
    assert_eq!(session.cache().table("Port").len(), 0);
}

#[tokio::test]
async fn keys_of_others_stay_when_ours_change() {
    if skipped("keys_of_others_stay_when_ours_change") {
        return;
    }
    let ovs = Ovs::start().unwrap();
    let (mut session, _) = with_bridge(&ovs).await;
    let port = named(&session, "Port", "br").unwrap();
    let theirs = "external_ids={theirs=1,ours=old}";
    ovs.vsctl(&["set", "Port", "br", theirs]).unwrap();
    let mut transaction = Transaction::new();
    let ids = "external_ids";
    transaction.mutate("Port", port, ids, Mutator::Delete, Datum::set(["ours"]));
    let new = Datum::map([("ours", "new")]);
    transaction.mutate("Port", port, ids, Mutator::Insert, new);
    session.transact(&transaction).await.unwrap();
    let held = session.cache().row("Port", port).unwrap().get(ids).cloned();
    let expected = Datum::map([("ours", "new"), ("theirs", "1")]);
    assert_eq!(held, Some(expected));
    let shown = ovs.vsctl(&["get", "Port", "br", ids]).unwrap();
    assert_eq!(shown.trim(), "{ours=new, theirs=\"1\"}");
}

#[tokio::test]
async fn a_refused_transaction_changes_nothing_and_says_where_it_failed() {
    if skipped("a_refused_transaction_changes_nothing_and_says_where_it_failed") {
        return;
    }
    let ovs = Ovs::start().unwrap();
    let (mut session, bridge) = with_bridge(&ovs).await;
    let port = named(&session, "Port", "br").unwrap();
    let before = session.cache().clone();
    let tag = |tag: i64| Row::from_iter([("tag", Datum::from(tag))]);
    let mut out_of_range = Transaction::new();
    out_of_range.update("Port", port, tag(7));
    out_of_range.update("Port", port, tag(5_000));
    let mut twice = Transaction::new();
    plug(&mut twice, bridge, ["br".to_owned()]);
    for (transaction, at) in [(&out_of_range, Some((1, "Port"))), (&twice, None)] {
        let refused = session.transact(transaction).await.unwrap_err();
        let TransactError::Refused {
            operation, error, ..
        } = &refused
        else {
            panic!("{refused}");
        };
        assert_eq!((*operation, error.as_str()), (at, "constraint violation"));
    }
    session.catch_up().await.unwrap();
    assert_eq!(session.cache(), &before);
    let mut fine = Transaction::new();
    fine.update("Port", port, tag(7));
    let outcomes = session.transact(&fine).await.unwrap();
    assert_eq!(outcomes, [Outcome::Done(Some(1))]);
}

#[tokio::test]
async fn a_server_killed_in_the_middle_has_all_of_a_transaction_or_nothing() {
    if skipped("a_server_killed_in_the_middle_has_all_of_a_transaction_or_nothing") {
        return;
    }
    let mut ovs = Ovs::start().unwrap();
    let (mut session, bridge) = with_bridge(&ovs).await;
    let pair = |number: u32| [format!("a{number}"), format!("b{number}")];
    let mut told = BTreeSet::new();
    let mut sent = 0;
    for round in 1..=5 {
        let goal = sent + 10 * round;
        // One more is on its way when the server dies.
        let working = async {
            loop {
                let mut transaction = Transaction::new();
                plug(&mut transaction, bridge, pair(sent));
                sent += 1;
                match session.transact(&transaction).await {
                    Ok(_) => drop(told.insert(sent - 1)),
                    Err(TransactError::Session(_)) => return,
                    Err(refused @ TransactError::Refused { .. }) => panic!("{refused}"),
                }
                if sent == goal {
                    return;
                }
            }
        };
        let pause = Duration::from_millis(u64::from(round));
        drop(tokio::time::timeout(pause, working).await);
        ovs.kill_db().unwrap();
        assert!(session.catch_up().await.is_err(), "nobody is there");
        let away = Session::open(&ovs.options(wanted())).await.unwrap_err();
        assert!(matches!(away, OpenError::Connect { .. }), "{away}");
        ovs.start_db().unwrap();
        session = Session::open(&ovs.options(wanted())).await.unwrap();
        let there: Vec<[bool; 2]> = (0..sent)
            .map(|number| pair(number).map(|name| named(&session, "Port", &name).is_some()))
            .collect();
        for (number, [a, b]) in (0..).zip(there) {
            assert_eq!(a, b, "half of transaction {number} is there");
            assert!(a || !told.contains(&number), "{number} was told and lost");
        }
    }
    assert!(!told.is_empty());
}

#[tokio::test]
async fn a_database_is_reached_over_tcp() {
    if skipped("a_database_is_reached_over_tcp") {
        return;
    }
    let ovs = Ovs::start().unwrap();
    let (session, _) = with_bridge(&ovs).await;
    let mut options = ovs.options(wanted());
    options.endpoint = ovs.tcp();
    let over_tcp = Session::open(&options).await.unwrap();
    assert_eq!(over_tcp.cache(), session.cache());
}

/// Who signs certificates, as ovs-pki(8) does: they name no host.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name = named_as(name);
        let key = KeyPair::generate().unwrap();
        Self(CertifiedIssuer::self_signed(params, key).unwrap())
    }

    /// The files of somebody that it vouches for.
    fn files(&self, directory: &Path, name: &str) -> TlsFiles {
        let file = |what: &str, text: &str| {
            let file = directory.join(format!("{name}-{what}.pem"));
            std::fs::write(&file, text).unwrap();
            file
        };
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name = named_as(name);
        let certificate = params.signed_by(&key, &self.0).unwrap();
        TlsFiles {
            private_key: file("key", &key.serialize_pem()),
            certificate: file("certificate", &certificate.pem()),
            ca: file("ca", &self.0.pem()),
        }
    }
}

/// Who has a certificate, for people to read.
fn named_as(name: &str) -> DistinguishedName {
    let mut all = DistinguishedName::new();
    all.push(DnType::CommonName, name);
    all
}

/// A database server that speaks TLS; ends when dropped.
struct Secured(Child);

impl Drop for Secured {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn secured(directory: &Path, files: &TlsFiles) -> (Secured, Endpoint) {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = free.local_addr().unwrap().port();
    drop(free);
    let schema = directory.join("test.ovsschema");
    let text = r#"{"name": "Test", "version": "1.0.0", "tables": {"T": {"isRoot": true,
        "columns": {"name": {"type": "string"}}}}}"#;
    std::fs::write(&schema, text).unwrap();
    let database = directory.join("test.db");
    let made = command("ovsdb-tool")
        .unwrap()
        .arg("create")
        .args([&database, &schema])
        .status();
    assert!(made.unwrap().success());
    let option = |name: &str, file: &Path| format!("--{name}={}", file.display());
    let server = command("ovsdb-server")
        .unwrap()
        .arg("-vconsole:off")
        .arg(&database)
        .arg(format!("--remote=pssl:{port}:127.0.0.1"))
        .arg(option("unixctl", &directory.join("ctl")))
        .arg(option("private-key", &files.private_key))
        .arg(option("certificate", &files.certificate))
        .arg(option("ca-cert", &files.ca))
        .spawn()
        .unwrap();
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(std::time::Instant::now() < deadline, "it doesn't listen");
        std::thread::sleep(Duration::from_millis(5));
    }
    (Secured(server), Endpoint::Tls("127.0.0.1".to_owned(), port))
}

#[tokio::test]
async fn over_tls_both_sides_know_each_other_by_who_signed_for_them() {
    if skipped("over_tls_both_sides_know_each_other_by_who_signed_for_them") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let (ours, foreign) = (Authority::new("ours"), Authority::new("foreign"));
    let (_server, endpoint) = secured(directory.path(), &ours.files(directory.path(), "server"));
    let options = |tls: Option<TlsFiles>| Options {
        endpoint: endpoint.clone(),
        tls,
        database: "Test".to_owned(),
        wanted: Wanted::new().table("T", ["name"]),
        patience: Duration::from_secs(10),
        probe: Duration::from_secs(5),
    };
    let files = ours.files(directory.path(), "client");
    let mut session = Session::open(&options(Some(files.clone()))).await.unwrap();
    let mut transaction = Transaction::new();
    transaction.insert("T", Row::from_iter([("name", "one")]));
    session.transact(&transaction).await.unwrap();
    assert_eq!(session.cache().table("T").len(), 1);

    // A server that somebody else has signed for is none of ours.
    let mut stranger = files.clone();
    stranger.ca = foreign.files(directory.path(), "foreign").ca;
    let error = Session::open(&options(Some(stranger))).await.unwrap_err();
    let OpenError::Connect {
        source: ConnectError::Tls(why),
        ..
    } = &error
    else {
        panic!("{error}");
    };
    assert!(why.contains("UnknownIssuer"), "{why}");
    // Nor are we, of whom somebody else says who we are.
    let mut stranger = foreign.files(directory.path(), "stranger");
    stranger.ca = files.ca.clone();
    assert!(Session::open(&options(Some(stranger))).await.is_err());
    // What is missing is named.
    let error = Session::open(&options(None)).await.unwrap_err();
    assert!(
        matches!(
            error,
            OpenError::Connect {
                source: ConnectError::NoFiles,
                ..
            }
        ),
        "{error}"
    );
    let mut missing = files;
    missing.certificate = directory.path().join("nowhere.pem");
    let error = Session::open(&options(Some(missing))).await.unwrap_err();
    let OpenError::Connect {
        source: ConnectError::File { file, .. },
        ..
    } = &error
    else {
        panic!("{error}");
    };
    assert!(file.ends_with("nowhere.pem"), "{}", file.display());
}
