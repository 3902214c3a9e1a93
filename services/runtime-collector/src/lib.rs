// SPDX-License-Identifier: Apache-2.0
//! Stores the runtime state of ports, serves it, and passes live reads through
//! to the hosts.
//!
//! Hosts tell what changed and repeat it until it is durable here; heartbeats
//! show what is missing, and a snapshot fills it. `core` decides, `api` takes
//! events and requests in, `perform` carries out.

pub mod api;
mod conditions;
mod core;
mod events;
mod history;
mod hosts;
mod ledger;
mod list;
mod live;
mod metrics;
mod perform;
mod record;
mod repeats;
mod rollup;
mod stale;
mod store;

pub use self::core::{Collector, DOUBTED, SNAPSHOTS, Settings};
pub use events::{Answer, AskId, Effect, Event, Question, ReplyBody, ReplyToken};
pub use ledger::SPEC;
pub use metrics::{Heard, Shown};
pub use perform::Performer;
