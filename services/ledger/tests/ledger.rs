// SPDX-License-Identifier: Apache-2.0
//! What a ledger promises: all or none of a commit, and no harm to a file that
//! is not its own.
#![allow(clippy::unwrap_used)]

use std::path::Path;

use dvs_ledger::{Clock, Core, Decision, Ledger, LedgerSpec, OpenError, Table, Writes};
use dvs_schemas::Timestamp;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

const COUNTS: Table = Table("counts");
const SPEC: LedgerSpec = LedgerSpec {
    service: "counter",
    version: 1,
    tables: &[COUNTS],
};

fn put(ledger: &Ledger, key: &str, value: u64) {
    let mut writes = Writes::default();
    writes.put(COUNTS, key, &value);
    ledger.commit(&writes).unwrap();
}

fn all(ledger: &Ledger) -> Vec<(Vec<u8>, u64)> {
    ledger.load(COUNTS).unwrap()
}

#[test]
fn what_was_committed_is_there_after_reopening_and_the_identity_stays() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("deep/counter.redb");
    let ledger = Ledger::open(&path, SPEC).unwrap();
    put(&ledger, "b", 2);
    put(&ledger, "a", 1);
    let id = ledger.id();
    drop(ledger);
    let ledger = Ledger::open(&path, SPEC).unwrap();
    assert_eq!(ledger.id(), id);
    assert_eq!(all(&ledger), [(b"a".to_vec(), 1), (b"b".to_vec(), 2)]);
}

/// A copy taken while the file is open is what a kill -9 leaves.
#[test]
fn a_file_left_by_a_crash_opens_with_everything_committed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("counter.redb");
    let ledger = Ledger::open(&path, SPEC).unwrap();
    for n in 0..50 {
        put(&ledger, &format!("{n:03}"), n);
    }
    let crashed = directory.path().join("crashed.redb");
    std::fs::copy(&path, &crashed).unwrap();
    let before = all(&ledger);
    drop(ledger);
    assert_eq!(all(&Ledger::open(&crashed, SPEC).unwrap()), before);
}

#[test]
fn what_a_crash_left_of_the_first_start_is_replaced() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("counter.redb");
    let half = directory.path().join("counter.redb.new");
    // A file that got its length and no more; a redb file without our mark.
    let grown = vec![0; 1 << 20];
    redb::Database::create(directory.path().join("bare")).unwrap();
    let bare = std::fs::read(directory.path().join("bare")).unwrap();
    let cut = bare[..bare.len() / 2].to_vec();
    for left in [Vec::new(), grown, bare, cut] {
        std::fs::write(&half, left).unwrap();
        let ledger = Ledger::open(&path, SPEC).unwrap();
        assert!(!half.exists());
        put(&ledger, "a", 1);
        drop(ledger);
        // Beside a ledger that is whole it is of no use to anyone.
        std::fs::write(&half, "half").unwrap();
        assert_eq!(
            all(&Ledger::open(&path, SPEC).unwrap()),
            [(b"a".to_vec(), 1)]
        );
        assert!(!half.exists());
        std::fs::remove_file(&path).unwrap();
    }
}

#[test]
fn while_a_ledger_is_made_its_place_stays_empty_and_nobody_else_makes_it() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("counter.redb");
    let half = std::fs::File::create(directory.path().join("counter.redb.new")).unwrap();
    half.lock().unwrap();
    assert!(matches!(
        Ledger::open(&path, SPEC).unwrap_err(),
        OpenError::InUse { .. }
    ));
    assert!(!path.exists());
    drop(half);
    Ledger::open(&path, SPEC).unwrap();
}

/// Whenever another process looks, there is no ledger or a whole one.
#[test]
fn a_new_ledger_appears_whole() {
    let directory = tempfile::tempdir().unwrap();
    let (seen, copy) = (directory.path().join("seen"), directory.path().join("copy"));
    for n in 0..20 {
        let path = directory.path().join(format!("{n}.redb"));
        std::thread::scope(|scope| {
            let made = scope.spawn(|| Ledger::open(&path, SPEC).unwrap());
            while std::fs::copy(&path, &copy).is_err() {
                std::hint::spin_loop();
            }
            std::fs::rename(&copy, &seen).unwrap();
            assert_eq!(
                Ledger::open(&seen, SPEC).unwrap().id(),
                made.join().unwrap().id()
            );
        });
    }
}

fn refused_untouched(path: &Path, spec: LedgerSpec) -> OpenError {
    let before = std::fs::read(path).unwrap();
    let error = Ledger::open(path, spec).unwrap_err();
    assert_eq!(std::fs::read(path).unwrap(), before, "{path:?} was changed");
    let name = path.file_name().unwrap().to_str().unwrap();
    assert!(error.to_string().contains(name), "{error}");
    error
}

#[test]
fn a_foreign_or_damaged_file_is_named_and_left_untouched() {
    let directory = tempfile::tempdir().unwrap();
    let text = directory.path().join("text.redb");
    std::fs::write(&text, "this is not a ledger\n".repeat(500)).unwrap();
    assert!(matches!(
        refused_untouched(&text, SPEC),
        OpenError::Damaged { .. }
    ));

    let path = directory.path().join("counter.redb");
    let ledger = Ledger::open(&path, SPEC).unwrap();
    for n in 0..200 {
        put(&ledger, &format!("{n:03}"), n);
    }
    let crashed = directory.path().join("crashed.redb");
    std::fs::copy(&path, &crashed).unwrap();
    drop(ledger);

    let other = LedgerSpec {
        service: "other",
        ..SPEC
    };
    assert!(matches!(
        refused_untouched(&path, other),
        OpenError::Foreign { .. }
    ));

    for (name, source) in [("clean", &path), ("crash", &crashed)] {
        let whole = std::fs::read(source).unwrap();
        for cut in [100, 5_000, whole.len() / 2] {
            let truncated = directory.path().join(format!("{name}-{cut}.redb"));
            std::fs::write(&truncated, &whole[..cut]).unwrap();
            assert!(matches!(
                refused_untouched(&truncated, SPEC),
                OpenError::Damaged { .. } | OpenError::Foreign { .. }
            ));
        }
    }
}

#[test]
fn a_ledger_in_use_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("counter.redb");
    let _held = Ledger::open(&path, SPEC).unwrap();
    assert!(matches!(
        Ledger::open(&path, SPEC).unwrap_err(),
        OpenError::InUse { .. }
    ));
}

/// Counts events; says each number only after it is durable.
struct Counter {
    count: u64,
}

impl Core for Counter {
    type Event = ();
    type Effect = u64;
    fn handle(&mut self, _: Timestamp, (): (), out: &mut Decision<u64>) {
        self.count += 1;
        out.writes.put(COUNTS, "count", &self.count);
        out.effect(self.count);
    }
    fn due(&self) -> Option<Timestamp> {
        None
    }
    fn wake(&mut self, _: Timestamp, _: &mut Decision<u64>) {}
}

#[tokio::test]
async fn a_stopped_loop_has_taken_its_whole_inbox() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("counter.redb");
    let (inbox, events) = mpsc::channel(2_000);
    let (effects, mut performed) = mpsc::channel(2_000);
    for _ in 0..1_500 {
        inbox.send(()).await.unwrap();
    }
    let stop = CancellationToken::new();
    stop.cancel();
    let ledger = Ledger::open(&path, SPEC).unwrap();
    let end = dvs_ledger::spawn(
        Counter { count: 0 },
        ledger,
        events,
        effects,
        Clock::start(),
        stop,
        |_: usize, _: usize, _: Option<std::time::Duration>| {},
    );
    end.await.unwrap().unwrap();
    let mut seen = Vec::new();
    while let Some(batch) = performed.recv().await {
        seen.extend(batch);
    }
    assert_eq!(seen, (1..=1_500).collect::<Vec<_>>());
    let ledger = Ledger::open(&path, SPEC).unwrap();
    assert_eq!(all(&ledger), [(b"count".to_vec(), 1_500)]);
}

/// Has a fault.
struct Faulty;

impl Core for Faulty {
    type Event = u64;
    type Effect = ();
    fn handle(&mut self, _: Timestamp, event: u64, _: &mut Decision<()>) {
        panic!("no place for {event}");
    }
    fn due(&self) -> Option<Timestamp> {
        None
    }
    fn wake(&mut self, _: Timestamp, _: &mut Decision<()>) {}
}

#[tokio::test]
async fn a_core_that_panics_ends_its_loop_with_its_words_and_closes_the_ledger() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("counter.redb");
    let (inbox, events) = mpsc::channel(1);
    let (effects, _performed) = mpsc::channel(1);
    let end = dvs_ledger::spawn(
        Faulty,
        Ledger::open(&path, SPEC).unwrap(),
        events,
        effects,
        Clock::start(),
        CancellationToken::new(),
        |_: usize, _: usize, _: Option<std::time::Duration>| {},
    );
    inbox.send(7).await.unwrap();
    let error = end.await.unwrap().unwrap_err();
    assert_eq!(error.to_string(), "the loop panicked: no place for 7");
    Ledger::open(&path, SPEC).unwrap();
}
