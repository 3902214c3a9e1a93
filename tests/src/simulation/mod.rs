// SPDX-License-Identifier: Apache-2.0
//! The real cores of publisher, retry and five hosts, with their real ledgers
//! on disks that lose what was not synced, over a bus that loses, repeats,
//! reorders and delays; all from one seed, on one thread, without a clock.
//!
//! [`world`] moves time and carries messages, [`node`] runs one core with its
//! disk and may cut its power at any point of a turn, [`weather`] is how bad
//! things are. [`operators`] ask what [`wishes`] come to their minds, and
//! [`model`] is what should come of it. [`laws`] are the rules that are held
//! against every step, [`witness`] and [`taken`] what they need to know of the
//! past.

pub mod disk;
pub mod laws;
pub mod model;
pub mod node;
pub mod operators;
pub mod placements;
mod start;
pub mod taken;
pub mod weather;
pub mod wishes;
pub mod witness;
pub mod world;
