// SPDX-License-Identifier: Apache-2.0
//! Whether one machine hears another.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{Frame, Mac, Payload, Vm};

/// How long whatever a test waits for may take. Only waited for where
/// something is wrong.
const PATIENCE: Duration = Duration::from_secs(20);

/// Numbers of frames that come after those of a test. A switch takes
/// several frames at once and may forward them in another order; the last one
/// is sent when the one before it has arrived, so it comes behind all others.
const BEFORE_LAST: u64 = u64::MAX - 1;
/// The number of the last frame of a test, and the one after it.
pub const LAST: u64 = u64::MAX;

/// Sends frames, and behind them some that all of the others hear; answers what
/// each of them heard before those.
///
/// # Panics
/// One of the others doesn't hear those.
pub fn heard(from: &mut Vm, frames: &[Frame], others: &mut [&mut Vm]) -> Vec<Vec<Frame>> {
    let mut last = Frame::number(from.mac(), Mac::ALL, LAST);
    last.tag = frames.first().and_then(|frame| frame.tag);
    heard_before(from, frames, &last, others)
}

/// The same with another last frame.
///
/// # Panics
/// One of the others doesn't hear it.
pub fn heard_before(
    from: &mut Vm,
    frames: &[Frame],
    last: &Frame,
    others: &mut [&mut Vm],
) -> Vec<Vec<Frame>> {
    for vm in &mut *others {
        vm.drain();
    }
    for frame in frames {
        from.send(frame);
    }
    let mut heard: Vec<Vec<Frame>> = others.iter().map(|_| Vec::new()).collect();
    for number in [BEFORE_LAST, LAST] {
        from.send(&last.clone().carrying(Payload::Number(number, 46)));
        for (vm, heard) in others.iter_mut().zip(&mut heard) {
            let frames = vm.until(|frame| frame.carried() == Some(number));
            heard.extend(frames.expect("the last frames, which all hear"));
        }
    }
    heard.into_iter().map(in_order).collect()
}

/// Frames in an order that is the same for the same frames.
#[must_use]
pub fn in_order(mut frames: Vec<Frame>) -> Vec<Frame> {
    frames.sort_by_key(|frame| format!("{frame:?}"));
    frames
}

/// True if a frame that is sent once is heard. Each of a test has a number of
/// its own.
pub fn reaches(from: &mut Vm, to: &mut Vm, number: u64) -> bool {
    to.drain();
    let frame = Frame::number(from.mac(), to.mac(), number);
    from.send(&frame);
    to.until(|heard| *heard == frame).is_some()
}

/// True if it is heard within so long, speaking again and again: plugs take a
/// moment, and so do commits and bonds.
pub fn is_heard(from: &mut Vm, to: &mut Vm, patience: Duration) -> bool {
    let deadline = Instant::now() + patience;
    for number in 0.. {
        to.drain();
        let frame = Frame::number(from.mac(), to.mac(), number);
        from.send(&frame);
        while let Some(heard) = to.next(Duration::from_millis(50)) {
            if heard == frame {
                return true;
            }
        }
        if Instant::now() > deadline {
            break;
        }
    }
    false
}

/// Waits until something holds.
///
/// # Panics
/// It does not.
pub async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds().await {
        assert!(Instant::now() < deadline, "{what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// The policy of a port in this VLAN, as a document writes it.
#[must_use]
pub fn access(vlan: u16) -> Value {
    json!({"vlan": {"access": vlan}})
}
