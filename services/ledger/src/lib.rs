// SPDX-License-Identifier: Apache-2.0
//! A service's durable state: one redb file with one writer, and the one loop
//! that owns the state in it.
//!
//! A service implements [`Core`]: synchronous, without clock, socket or await.
//! [`turn`] gives it events and commits what it decides as one durable
//! transaction; only then may the effects be carried out. [`spawn`] does that
//! for a live service: it drains the inbox, so that a hundred waiting requests
//! cost one commit. A simulator calls [`turn`] by itself.

mod clock;
mod core;
mod creation;
mod open;
mod store;
mod turn;

pub use clock::Clock;
pub use core::{Core, Decision, Table, Write, Writes};
pub use open::{LedgerSpec, OpenError};
pub use redb::{StorageBackend, backends::InMemoryBackend};
pub use store::{CommitError, Ledger, LoadError};
pub use turn::{EFFECT_BATCHES, INBOX, LoopError, Observer, Stop, Turned, spawn, turn};
