// SPDX-License-Identifier: Apache-2.0
//! Load: how fast a push is, always as a ratio to a floor that was measured in
//! the same run, turn by turn, on the same bus with the same bytes.

pub mod floor;
pub mod push;
pub mod report;
