// SPDX-License-Identifier: Apache-2.0
//! What the mechanisms that limit ports can hold. Open vSwitch and the kernel
//! take any number, and keep what is left of it in fewer bits without a word.

use std::num::NonZeroU32;

use dvs_schemas::{Mtu, Rate};

/// Highest rate of linux-htb in kbit/s: Open vSwitch keeps it as bytes per
/// second in 32 bits (`struct htb_class` of its `lib/netdev-linux.c`).
const HTB_KBPS: u64 = u32::MAX as u64 * 8 / 1_000;

/// Largest burst of linux-htb in bytes, which are kept in 32 bits, too.
const HTB_BYTES: u64 = u32::MAX as u64;

/// Longest time that a burst of linux-htb may take at its rate, in ticks of 64
/// ns: the kernel is told of it in 32 bits.
const HTB_TICKS: u64 = u32::MAX as u64;

/// Such ticks in a second.
const TICKS: u64 = 1_000_000_000 / 64;

/// Largest burst of a meter in kbit: a field of 32 bits in OpenFlow.
const METER_KBITS: u64 = u32::MAX as u64;

/// Longest time in ms in which a meter fills up: datapaths keep it in 32 bits.
const METER_MS: u64 = u32::MAX as u64;

/// A limit that can't be held as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Beyond {
    /// What comes closest to it.
    pub(super) nearest: Rate,
    /// What is beyond, and what can be.
    pub(super) why: String,
}

/// Whether linux-htb holds a limit of what a port receives, whose frames have
/// a payload of up to the MTU. It passes one of these a second at least.
pub(super) fn egress(rate: Rate, mtu: Mtu) -> Result<(), Beyond> {
    let lowest = (u64::from(mtu.get()) * 8).div_ceil(1_000);
    within(rate, "linux-htb", lowest..=HTB_KBPS, |average_kbps| {
        // The rate has 32 bits by now, so the product has 64.
        let bytes = average_kbps * 125 * HTB_TICKS / TICKS;
        bytes.min(HTB_BYTES) / 1_024
    })
}

/// Whether meters hold a limit of what a port sends.
pub(super) fn ingress(rate: Rate) -> Result<(), Beyond> {
    let any = 1..=u64::from(u32::MAX);
    within(rate, "meters", any, |average_kbps| {
        let kbits = (average_kbps * METER_MS / 1_000).min(METER_KBITS);
        kbits * 1_000 / 8 / 1_024
    })
}

/// `burst` is the largest burst in KiB at an average rate in kbit/s.
fn within(
    rate: Rate,
    mechanism: &str,
    kbps: std::ops::RangeInclusive<u64>,
    burst: impl Fn(u64) -> u64,
) -> Result<(), Beyond> {
    let (lowest, highest) = (*kbps.start(), *kbps.end());
    let closest = |number: NonZeroU32, lowest: u64, highest: u64| {
        let nearest = u64::from(number.get()).clamp(lowest, highest);
        let nearest = u32::try_from(nearest).unwrap_or(u32::MAX);
        NonZeroU32::new(nearest).unwrap_or(NonZeroU32::MIN)
    };
    let average_kbps = closest(rate.average_kbps, lowest, highest);
    let most = burst(average_kbps.get().into());
    let nearest = Rate {
        average_kbps,
        peak_kbps: closest(rate.peak_kbps, lowest, highest),
        burst_kib: closest(rate.burst_kib, 1, most),
    };
    if nearest == rate {
        return Ok(());
    }
    let fields = [
        (
            "average_kbps",
            rate.average_kbps,
            nearest.average_kbps,
            lowest,
            highest,
        ),
        (
            "peak_kbps",
            rate.peak_kbps,
            nearest.peak_kbps,
            lowest,
            highest,
        ),
        ("burst_kib", rate.burst_kib, nearest.burst_kib, 1, most),
    ];
    let beyond = fields
        .into_iter()
        .filter(|(_, wanted, can, ..)| wanted != can);
    let beyond = beyond.map(|(field, wanted, can, lowest, highest)| {
        format!("{field} is {wanted}, and is held to {can} (allowed here: {lowest} to {highest})")
    });
    let beyond: Vec<String> = beyond.collect();
    Err(Beyond {
        nearest,
        why: format!("{mechanism} can't hold it: {}", beyond.join("; ")),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rate(average: u32, peak: u32, burst: u32) -> Rate {
        let number = |number| NonZeroU32::new(number).expect("not 0");
        Rate {
            average_kbps: number(average),
            peak_kbps: number(peak),
            burst_kib: number(burst),
        }
    }

    fn any_rate() -> impl Strategy<Value = Rate> {
        let number = || prop_oneof![1..=100_u32, 1..=u32::MAX];
        (number(), number(), number())
            .prop_map(|(one, other, burst)| rate(one.min(other), one.max(other), burst))
    }

    proptest! {
        #[test]
        fn what_comes_closest_can_be_held_and_no_field_of_it_wraps(of in any_rate()) {
            let held = match egress(of, Mtu::default()) {
                Ok(()) => of,
                Err(beyond) => beyond.nearest,
            };
            prop_assert_eq!(egress(held, Mtu::default()), Ok(()));
            prop_assert!(held.average_kbps <= held.peak_kbps);
            let (bytes, burst) = (
                u64::from(held.average_kbps.get()) * 125,
                u64::from(held.burst_kib.get()) * 1_024,
            );
            for number in [u64::from(held.peak_kbps.get()) * 125, bytes, burst] {
                prop_assert!(u32::try_from(number).is_ok());
            }
            prop_assert!(bytes >= u64::from(Mtu::default().get()));
            // Ticks of 64 ns, as Open vSwitch works them out.
            prop_assert!(u32::try_from(burst * 15_625_000 / bytes).is_ok());
        }

        #[test]
        fn meters_hold_what_comes_closest(of in any_rate()) {
            let held = match ingress(of) {
                Ok(()) => of,
                Err(beyond) => beyond.nearest,
            };
            prop_assert_eq!(ingress(held), Ok(()));
            let kbits = u64::from(held.burst_kib.get()) * 1_024 * 8 / 1_000;
            prop_assert!(u32::try_from(kbits).is_ok());
            let ms = kbits * 1_000 / u64::from(held.average_kbps.get());
            prop_assert!(u32::try_from(ms).is_ok());
        }
    }

    #[test]
    fn what_is_beyond_is_named_with_what_can_be() {
        let mtu = Mtu::default();
        let highest = rate(34_359_738, 34_359_738, 65_536);
        assert_eq!(egress(highest, mtu), Ok(()));
        let beyond = egress(rate(1, 40_000_000, 65_536), mtu);
        let expected = Beyond {
            nearest: rate(12, 34_359_738, 402),
            why: "linux-htb can't hold it: average_kbps is 1, and is held to 12 (allowed here: 12 \
                  to 34359738); peak_kbps is 40000000, and is held to 34359738 (allowed here: 12 \
                  to 34359738); burst_kib is 65536, and is held to 402 (allowed here: 1 to 402)"
                .to_owned(),
        };
        assert_eq!(beyond, Err(expected));
        assert_eq!(ingress(rate(40_000_000, 40_000_000, 65_536)), Ok(()));
    }
}
