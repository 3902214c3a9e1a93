// SPDX-License-Identifier: Apache-2.0
//! Whether one machine hears another.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{Frame, Vm};

/// How long whatever a test waits for may take. Only waited for where
/// something is wrong.
const PATIENCE: Duration = Duration::from_secs(20);

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
