// SPDX-License-Identifier: Apache-2.0
//! What ports count, and how it is added up.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Epoch, PortId};

/// Counters of one epoch of a port: frames and bytes, seen from the switch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Counters {
    /// Frames from the vNIC.
    pub ingress_packets: u64,
    /// Bytes from the vNIC.
    pub ingress_bytes: u64,
    /// Frames from the vNIC that were dropped.
    pub ingress_drops: u64,
    /// Frames from the vNIC that were damaged.
    pub ingress_errors: u64,
    /// Frames to the vNIC.
    pub egress_packets: u64,
    /// Bytes to the vNIC.
    pub egress_bytes: u64,
    /// Frames to the vNIC that were dropped.
    pub egress_drops: u64,
    /// Frames to the vNIC that were damaged.
    pub egress_errors: u64,
}

/// The counters of a port.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub struct CountersOf {
    /// The port.
    pub port: PortId,
    /// The placement that they belong to.
    pub epoch: Epoch,
    /// The counters since the placement began.
    pub counters: Counters,
}

impl Counters {
    /// How many numbers counters have.
    pub const NUMBERS: usize = 8;

    /// The numbers, in the order of the fields.
    #[must_use]
    pub fn numbers(&self) -> [u64; Self::NUMBERS] {
        let Self {
            ingress_packets,
            ingress_bytes,
            ingress_drops,
            ingress_errors,
            egress_packets,
            egress_bytes,
            egress_drops,
            egress_errors,
        } = *self;
        [
            ingress_packets,
            ingress_bytes,
            ingress_drops,
            ingress_errors,
            egress_packets,
            egress_bytes,
            egress_drops,
            egress_errors,
        ]
    }

    /// Counters of these numbers, in the order of the fields.
    #[must_use]
    pub fn of_numbers(numbers: [u64; Self::NUMBERS]) -> Self {
        let [
            ingress_packets,
            ingress_bytes,
            ingress_drops,
            ingress_errors,
            egress_packets,
            egress_bytes,
            egress_drops,
            egress_errors,
        ] = numbers;
        Self {
            ingress_packets,
            ingress_bytes,
            ingress_drops,
            ingress_errors,
            egress_packets,
            egress_bytes,
            egress_drops,
            egress_errors,
        }
    }

    /// Both added up. Numbers stay at the highest one instead of wrapping.
    #[must_use]
    pub fn plus(&self, more: &Self) -> Self {
        self.each(more, u64::saturating_add)
    }

    /// What is more than before; nothing where it is less.
    #[must_use]
    pub fn minus(&self, before: &Self) -> Self {
        self.each(before, u64::saturating_sub)
    }

    /// Of each number the larger one.
    #[must_use]
    pub fn most(&self, other: &Self) -> Self {
        self.each(other, u64::max)
    }

    /// Whether no number is less than it was.
    #[must_use]
    pub fn have_reached(&self, before: &Self) -> bool {
        self.most(before) == *self
    }

    fn each(&self, other: &Self, of: fn(u64, u64) -> u64) -> Self {
        let (mut numbers, others) = (self.numbers(), other.numbers());
        for (number, other) in numbers.iter_mut().zip(others) {
            *number = of(*number, other);
        }
        Self::of_numbers(numbers)
    }
}
