// SPDX-License-Identifier: Apache-2.0
//! Frames at a steady pace, and which of them are missing.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::{Frame, Vm};

/// A frame every 10 ms, as a ping in a hurry would.
pub const QUICK: Duration = Duration::from_millis(10);

/// How long it may take until frames pass again.
const PATIENCE: Duration = Duration::from_secs(20);

/// Sends numbered frames while something happens and until one of those that
/// were sent afterwards has arrived; answers which of them did not, and how
/// many there were.
///
/// # Panics
/// None arrives.
pub async fn missing(
    from: Vm,
    mut to: Vm,
    pace: Duration,
    happening: impl AsyncFnOnce(),
) -> (Vec<u64>, u64, Vm, Vm) {
    let (stop, mut stopped) = tokio::sync::oneshot::channel::<()>();
    let peer = to.mac();
    let sent = Arc::new(AtomicU64::new(0));
    let sending = tokio::spawn({
        let sent = Arc::clone(&sent);
        async move {
            let mut from = from;
            let mut ticks = tokio::time::interval(pace);
            while stopped.try_recv().is_err() {
                ticks.tick().await;
                let number = 1 + sent.fetch_add(1, Ordering::Relaxed);
                from.send(&Frame::number(from.mac(), peer, number));
            }
            from
        }
    });
    let mut arrived = BTreeSet::new();
    let mut until_after = async |arrived: &mut BTreeSet<u64>, mark: u64| {
        let deadline = Instant::now() + PATIENCE;
        loop {
            while let Some(frame) = to.next(Duration::ZERO) {
                arrived.extend(frame.carried());
            }
            if arrived.last() > Some(&mark) {
                return;
            }
            assert!(Instant::now() < deadline, "no frame passes");
            tokio::time::sleep(pace).await;
        }
    };
    until_after(&mut arrived, 10).await;
    happening().await;
    until_after(&mut arrived, sent.load(Ordering::Relaxed)).await;
    stop.send(()).expect("a sender");
    let from = sending.await.expect("a sender that ends");
    while let Some(frame) = to.next(Duration::from_millis(500)) {
        arrived.extend(frame.carried());
    }
    let sent = sent.load(Ordering::Relaxed);
    let missing = (1..=sent)
        .filter(|number| !arrived.contains(number))
        .collect();
    (missing, sent, from, to)
}
