// SPDX-License-Identifier: Apache-2.0
//! How bad things are.

/// How bad things are.
#[derive(Debug, Clone, Copy)]
pub struct Weather {
    /// Chance that a message is lost.
    pub loss: f64,
    /// Chance that a message arrives twice.
    pub repeat: f64,
    /// Longest delay of a message in ms; different ones make the order.
    pub delay: u64,
    /// Chance per turn of a node that its power fails.
    pub cuts: f64,
    /// Chance that a host whose power failed begins with an empty datapath.
    pub reboots: f64,
    /// Chance that a datapath refuses a step.
    pub refusals: f64,
}

impl Weather {
    /// Nothing goes wrong.
    pub const FAIR: Self = Self {
        loss: 0.0,
        repeat: 0.0,
        delay: 5,
        cuts: 0.0,
        reboots: 0.0,
        refusals: 0.0,
    };
}
