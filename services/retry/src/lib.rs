// SPDX-License-Identifier: Apache-2.0
//! Owns the durable re-push and rip queues, works them off, and shows them.
//!
//! The queues hold keys, never payloads: what is sent again is the final state
//! as it is then. `core` decides, `api` takes requests in, `perform` carries
//! out.

pub mod api;
mod backoff;
mod commit;
mod core;
mod hearing;
mod key;
mod ledger;
mod list;
mod metrics;
mod note;
mod perform;
mod queue;

pub use self::core::{Action, Effect, Event, IN_FLIGHT, ReplyBody, ReplyToken, Retry, Settings};
pub use backoff::Backoff;
pub use commit::Commit;
pub use key::{Answer, HostCall};
pub use ledger::SPEC;
pub use metrics::{Shown, Tries};
pub use note::{End, Fate, Note};
pub use perform::Performer;
pub use queue::FlightId;
