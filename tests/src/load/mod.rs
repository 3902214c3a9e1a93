// SPDX-License-Identifier: Apache-2.0
//! Load: how fast things are, always as a ratio to a floor that was measured in
//! the same run, turn by turn, on the same bus or switch with the same bytes.

pub mod floor;
pub mod ovs;
pub mod push;
pub mod report;
