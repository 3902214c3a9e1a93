// SPDX-License-Identifier: Apache-2.0
//! The loop that owns a service's state: drain the inbox, decide, commit, let
//! the effects out.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use dvs_schemas::Timestamp;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::core::{Core, Decision};
use crate::store::{CommitError, Ledger};

/// Events that may wait for a loop. A fan-out to 10,000 hosts comes back as
/// chunks of replies, requests come one by one from at most a few thousand
/// clients; beyond this, senders wait, which is the right answer to overload.
pub const INBOX: usize = 8_192;

/// Most events of one turn: bounds how long the first of them waits for the
/// commit (some 4,096 × 5 µs), while still sharing one disk flush among many.
const TURN: usize = 4_096;

/// Batches of effects that may wait for their performer; then the loop waits,
/// so that a slow bus slows the decisions down instead of filling memory.
pub const EFFECT_BATCHES: usize = 64;

/// What one turn came to.
#[derive(Debug)]
pub struct Turned<E> {
    /// To be done now; everything that they follow from is durable.
    pub effects: Vec<E>,
    /// Ledger writes that were committed.
    pub writes: usize,
    /// How long the commit took; none if there was nothing to commit.
    pub commit: Option<Duration>,
}

/// Gives a core its events, wakes it if it is due, and commits.
///
/// # Errors
/// The commit failed: no effect may leave, and the core's state is worthless.
pub fn turn<C: Core>(
    core: &mut C,
    ledger: &Ledger,
    now: Timestamp,
    events: impl IntoIterator<Item = C::Event>,
) -> Result<Turned<C::Effect>, CommitError> {
    let mut decision = Decision::default();
    for event in events {
        core.handle(now, event, &mut decision);
    }
    if core.due().is_some_and(|due| due <= now) {
        core.wake(now, &mut decision);
    }
    let commit = if decision.writes.is_empty() {
        None
    } else {
        let began = Instant::now();
        ledger.commit(&decision.writes)?;
        Some(began.elapsed())
    };
    Ok(Turned {
        effects: decision.effects,
        writes: decision.writes.list.len(),
        commit,
    })
}

/// Why a loop ended.
#[derive(Debug, thiserror::Error)]
pub enum LoopError {
    /// A commit failed.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// Nobody performs effects any more.
    #[error("the performer of effects is gone")]
    PerformerGone,
    /// The loop's thread could not be started.
    #[error("the loop's thread could not be started")]
    NoThread(#[source] std::io::Error),
    /// The core has a fault. What was committed is safe.
    #[error("the loop panicked: {0}")]
    Panicked(String),
}

/// Hears of every turn, for metrics.
pub trait Observer: Send + 'static {
    /// A turn of so many events was over; `commit` is how long its commit
    /// took, if it had one.
    fn turned(&mut self, events: usize, writes: usize, commit: Option<Duration>);
}

impl<F: FnMut(usize, usize, Option<Duration>) + Send + 'static> Observer for F {
    fn turned(&mut self, events: usize, writes: usize, commit: Option<Duration>) {
        self(events, writes, commit);
    }
}

/// How a loop is told to stop: it takes what is in its inbox, commits, lets
/// the effects out and ends.
pub type Stop = CancellationToken;

/// Runs a core on a thread of its own, since commits block. Its effects go to
/// `effects` in batches and in order; the receiver must not wait for the inbox
/// while the loop may wait for it, so it carries out what takes time in tasks
/// of their own.
///
/// The returned channel yields how the loop ended.
pub fn spawn<C>(
    core: C,
    ledger: Ledger,
    inbox: mpsc::Receiver<C::Event>,
    effects: mpsc::Sender<Vec<C::Effect>>,
    clock: Clock,
    stop: Stop,
    observer: impl Observer,
) -> oneshot::Receiver<Result<(), LoopError>>
where
    C: Core + Send + 'static,
    C::Event: Send,
    C::Effect: Send,
{
    let (ended, end) = oneshot::channel();
    let runtime = tokio::runtime::Handle::current();
    let name = ledger.spec().service;
    // The thread is given `ended` once it runs: if it can't, that is told.
    let (give, given) = std::sync::mpsc::sync_channel::<oneshot::Sender<_>>(1);
    let started = std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(move || {
            // Nothing of the core outlives a panic: it is moved in, and lost.
            let outcome = catch_unwind(AssertUnwindSafe(|| {
                runtime.block_on(run(core, &ledger, inbox, effects, clock, stop, observer))
            }));
            // The ledger is closed before anyone hears that the loop is over.
            drop(ledger);
            if let Ok(ended) = given.recv() {
                let outcome = outcome.unwrap_or_else(|fault| Err(panicked(fault)));
                let _nobody_asks = ended.send(outcome);
            }
        });
    match started {
        Ok(_runs_on) => {
            let _taken = give.send(ended);
        }
        Err(error) => {
            let _nobody_asks = ended.send(Err(LoopError::NoThread(error)));
        }
    }
    end
}

fn panicked(fault: Box<dyn Any + Send>) -> LoopError {
    let words = match fault.downcast::<String>() {
        Ok(words) => *words,
        Err(fault) => match fault.downcast::<&str>() {
            Ok(words) => (*words).to_owned(),
            Err(_) => "no words".to_owned(),
        },
    };
    LoopError::Panicked(words)
}

async fn run<C: Core>(
    mut core: C,
    ledger: &Ledger,
    mut inbox: mpsc::Receiver<C::Event>,
    effects: mpsc::Sender<Vec<C::Effect>>,
    clock: Clock,
    stop: Stop,
    mut observer: impl Observer,
) -> Result<(), LoopError> {
    let mut events = Vec::with_capacity(TURN);
    let mut stopping = false;
    loop {
        let due = core.due().map(|due| clock.instant_of(due));
        let timer = async {
            match due {
                Some(due) => tokio::time::sleep_until(due.into()).await,
                None => std::future::pending().await,
            }
        };
        // Every arm is cancel-safe: recv_many keeps what it did not return.
        let over = tokio::select! {
            biased;
            () = stop.cancelled(), if !stopping => {
                stopping = true;
                inbox.close();
                false
            }
            taken = inbox.recv_many(&mut events, TURN) => taken == 0,
            () = timer => false,
        };
        let count = events.len();
        let turned = turn(&mut core, ledger, clock.now(), events.drain(..))?;
        observer.turned(count, turned.writes, turned.commit);
        if !turned.effects.is_empty() && effects.send(turned.effects).await.is_err() {
            return Err(LoopError::PerformerGone);
        }
        if over {
            return Ok(());
        }
    }
}
