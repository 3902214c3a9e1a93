// SPDX-License-Identifier: Apache-2.0
//! Random histories: whatever is asked, applied or refused, the state in
//! memory is what the ledger says, and nothing owed is lost.

use config_publisher::core::Settings;
use config_publisher::events::{Reply, Request};
use config_publisher::load::load;
use dvs_schemas::arbitrary::{document, site};
use dvs_schemas::v1::{ApplyRequest, DeleteRequest, ObjectRef, Options};
use dvs_schemas::{Document, Revision};
use proptest::prelude::*;
use proptest::sample::Index;

use crate::desk::{Desk, Manner};

// Forty of them at most, for the length of a test.
#[allow(clippy::large_enum_variant)]
#[derive(Debug, Clone)]
enum Step {
    /// These documents of the site, or of nowhere.
    Apply(Vec<Index>, Option<Document>),
    /// These objects of the site.
    Delete(Vec<Index>),
    /// One port of the site on another host.
    Move(Index, Index),
    /// The same as a dry run.
    DryRun(Vec<Index>),
    /// A host says hello.
    Hello(u8),
    /// A host's manner.
    Manner(u8, u8),
    /// Effects are carried out, or lost in a crash.
    Work,
    Crash,
}

fn some() -> impl Strategy<Value = Vec<Index>> {
    proptest::collection::vec(any::<Index>(), 1..6)
}

fn step() -> BoxedStrategy<Step> {
    prop_oneof![
        4 => (some(), proptest::option::weighted(0.1, document().boxed()))
            .prop_map(|(some, other)| Step::Apply(some, other)),
        3 => some().prop_map(Step::Delete),
        3 => (any::<Index>(), any::<Index>()).prop_map(|(port, host)| Step::Move(port, host)),
        1 => some().prop_map(Step::DryRun),
        2 => (1..6_u8).prop_map(Step::Hello),
        1 => (1..6_u8, 0..3_u8).prop_map(|(host, manner)| Step::Manner(host, manner)),
        3 => Just(Step::Work),
        1 => Just(Step::Crash),
    ]
    .boxed()
}

/// The documents, each once: a request that names one twice is refused, which
/// is tested elsewhere.
fn chosen(documents: &[Document], some: &[Index]) -> Vec<Document> {
    let mut chosen: Vec<Document> = some.iter().map(|i| i.get(documents).clone()).collect();
    chosen.sort_by_key(Document::key);
    chosen.dedup_by_key(|document| document.key());
    chosen
}

fn moved(documents: &[Document], port: Index, host: Index) -> Option<Document> {
    let ports: Vec<_> = documents
        .iter()
        .filter_map(|document| match document {
            Document::Port(port) => Some(port),
            Document::Switch(_) | Document::PortGroup(_) | Document::MirrorSession(_) => None,
        })
        .collect();
    if ports.is_empty() {
        return None;
    }
    let mut port = (*port.get(&ports)).clone();
    port.host = format!("h{}", host.index(5) + 1).parse().ok();
    Some(Document::Port(port))
}

fn apply(documents: Vec<Document>, dry_run: bool) -> Request {
    Request::Apply(ApplyRequest {
        documents,
        options: Options {
            dry_run,
            ..Options::default()
        },
    })
}

fn take(desk: &mut Desk, documents: &[Document], step: Step) {
    let request = match step {
        Step::Apply(some, other) => {
            let mut documents = chosen(documents, &some);
            documents.extend(other);
            apply(documents, false)
        }
        Step::DryRun(some) => apply(chosen(documents, &some), true),
        Step::Move(port, host) => match moved(documents, port, host) {
            Some(port) => apply(vec![port], false),
            None => return,
        },
        Step::Delete(some) => Request::Delete(DeleteRequest {
            objects: chosen(documents, &some)
                .iter()
                .map(|document| ObjectRef::from(&document.key()))
                .collect(),
            options: Options::default(),
        }),
        Step::Hello(host) => Request::Hello(crate::desk::hello(&format!("h{host}"), 1)),
        Step::Manner(host, manner) => {
            let manners = [Manner::Applies, Manner::Silent, Manner::Fails];
            desk.manner(&format!("h{host}"), manners[usize::from(manner)]);
            return;
        }
        Step::Work => return desk.work(),
        Step::Crash => return desk.restart(),
    };
    let before = (desk.tables(), desk.publisher.config().clone());
    let dry = matches!(&request, Request::Apply(request) if request.options.dry_run);
    let to = desk.send(request);
    if dry || matches!(desk.reply(to), Some(Err(_))) {
        assert_eq!(
            (desk.tables(), desk.publisher.config()),
            (before.0, &before.1)
        );
    }
}

/// What must hold after every step.
fn check(desk: &Desk) {
    let loaded = load(&desk.ledger, uuid::Uuid::nil()).unwrap();
    assert_eq!(&loaded.config, desk.publisher.config());
    assert_eq!(loaded.pending.len(), desk.publisher.pending());
    let known: Vec<_> = loaded.fleet.names().collect();
    assert_eq!(known, desk.publisher.fleet().names().collect::<Vec<_>>());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn any_history_leaves_memory_as_the_ledger_has_it(
        site in site().boxed(),
        steps in proptest::collection::vec(step(), 1..40),
        awaited in prop_oneof![Just(0), Just(2), Just(1_000)],
    ) {
        let settings = Settings { awaited, ..Settings::default() };
        let mut desk = Desk::of_with(site.hosts.len(), settings);
        for step in steps {
            take(&mut desk, &site.documents, step);
            check(&desk);
        }
        // And then everything is carried out.
        desk.restart();
        desk.work();
        check(&desk);
        prop_assert_eq!(desk.records(), 0);
    }

    #[test]
    fn what_holds_together_is_accepted_whole_and_again_changes_nothing(site in site().boxed()) {
        let mut desk = Desk::of(site.hosts.len());
        let reply = match desk.ask(apply(site.documents.clone(), false)) {
            Ok(Reply::Applied(reply)) => reply,
            other => panic!("{other:?}"),
        };
        prop_assert_eq!(reply.changed.len(), site.documents.len());
        let again = match desk.ask(apply(site.documents.clone(), false)) {
            Ok(Reply::Applied(reply)) => reply,
            other => panic!("{other:?}"),
        };
        prop_assert_eq!((again.revision, again.changed.len()), (Revision(1), 0));
        check(&desk);
        // All of it can go again, in one request.
        let objects = site.documents.iter().map(|d| ObjectRef::from(&d.key())).collect();
        let options = Options::default();
        let reply = desk.ask(Request::Delete(DeleteRequest { objects, options }));
        prop_assert!(reply.is_ok(), "{reply:?}");
        check(&desk);
        let left: usize = desk.tables().iter()
            .filter(|(table, _)| !["hosts", "revision", "store"].contains(*table))
            .map(|(_, rows)| rows.len())
            .sum();
        prop_assert_eq!(left, 0);
    }
}
