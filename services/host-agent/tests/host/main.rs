// SPDX-License-Identifier: Apache-2.0
//! The agent's core on an in-memory ledger and an emulated datapath, driven
//! without bus, clock or sleep.
#![allow(clippy::unwrap_used)]

mod announcing;
mod answers;
mod classes;
mod conditions;
mod convergence;
mod counting;
mod handing_back;
mod history;
mod knowing;
mod namesakes;
mod plugging;
mod restarts;
mod rig;
mod rollback;
mod telling;
mod trials;
mod versions;
mod yielding;
