// SPDX-License-Identifier: Apache-2.0
//! The publisher's core on a ledger in memory, driven turn by turn: nothing
//! here waits, and the network is what each test says it is.
#![allow(clippy::unwrap_used)]

mod connecting;
mod desk;
mod diverging;
mod diverging_placements;
mod dry_runs;
mod forgetting;
mod handovers;
mod hosts;
mod log;
mod mirroring;
mod namesakes;
mod plugging;
mod plugging_histories;
mod properties;
mod pushes;
mod queries;
mod refusals;
mod restarts;
mod rushes;
mod taking_over;
mod yielding;
