// SPDX-License-Identifier: Apache-2.0
//! Durations and moments as people read them in a table.

use std::time::Duration;

use dvs_schemas::Timestamp;

/// A duration in at most two units: `350ms`, `12s`, `3m05s`, `2h10m`, `4d06h`.
#[must_use]
pub fn short(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let pair = |unit: u64, name: &str, below: u64, below_name: &str| {
        format!(
            "{}{name}{:02}{below_name}",
            seconds / unit,
            seconds % unit / below
        )
    };
    match seconds {
        0 => format!("{}ms", duration.as_millis()),
        1..60 => format!("{seconds}s"),
        60..3_600 => pair(60, "m", 1, "s"),
        3_600..86_400 => pair(3_600, "h", 60, "m"),
        _ => pair(86_400, "d", 3_600, "h"),
    }
}

/// How long ago a moment was.
#[must_use]
pub fn age(now: Timestamp, moment: Timestamp) -> String {
    short(now.since(moment))
}

/// How far off a moment is: `in 12s`, or `now` once it has come.
#[must_use]
pub fn until(now: Timestamp, moment: Timestamp) -> String {
    if moment <= now {
        "now".to_owned()
    } else {
        format!("in {}", short(moment.since(now)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_two_units_at_most() {
        let table = [
            (350, "350ms"),
            (12_999, "12s"),
            (185_000, "3m05s"),
            (7_800_000, "2h10m"),
            (367_200_000, "4d06h"),
        ];
        for (ms, text) in table {
            assert_eq!(short(Duration::from_millis(ms)), text);
        }
    }

    #[test]
    fn what_is_due_is_now() {
        let now = Timestamp(10_000);
        assert_eq!(until(now, Timestamp(10_000)), "now");
        assert_eq!(until(now, Timestamp(9_000)), "now");
        assert_eq!(until(now, Timestamp(22_000)), "in 12s");
        assert_eq!(age(now, Timestamp(4_000)), "6s");
    }
}
