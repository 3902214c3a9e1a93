// SPDX-License-Identifier: Apache-2.0
//! The network transport component: how dvswitch's programs reach NATS and
//! each other over it.
//!
//! - [`connect()`] opens a [`Bus`] from flags, environment or contexts of the
//!   `nats` command line; everything sent on it ends in bounded time.
//! - [`Transport`] invokes many hosts in parallel and gives one outcome per
//!   host; [`mux`] is its deciding half, [`reply`] the hosts' side of it.
//! - [`endpoint`] is the edge of a service: a NATS micro service whose requests
//!   come out of one stream.

mod bus;
mod connect;
mod context;
mod counters;
mod denied;
mod error;
mod request;
mod settings;

pub mod endpoint;
pub mod invoke;
mod micro;
pub mod mux;
pub mod reply;
#[cfg(any(test, feature = "testing"))]
pub mod testing;

pub use bus::{Bus, Outbound};
pub use connect::{Identity, connect};
pub use counters::BusCounters;
pub use denied::Denied;
pub use error::{BusError, Error};
pub use invoke::{Batch, Call, Invoking, Outcomes, Transport};
pub use mux::{CallResult, Outcome};
pub use reply::answer_subject;
pub use settings::{ConnectArgs, Secret};
