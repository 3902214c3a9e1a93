// SPDX-License-Identifier: Apache-2.0
//! host-agent makes the final state true on one host.
//!
//! Reading order: what comes in is judged by [`admit`] against the state
//! [`held`], whose layers [`merge`] turns into what each port is to be; [`plan`]
//! compares that with the [`datapath`]; [`host`] turns messages, results and
//! time into decisions for one host, [`core`] for all hosts of the process.
//! All of that is pure. [`api`] and [`perform`] are the two ends that do IO.

pub mod admit;
pub mod api;
pub mod backoff;
pub mod changes;
pub mod core;
pub mod datapath;
pub mod held;
pub mod host;
pub mod ledger;
pub mod merge;
pub mod metrics;
pub mod perform;
pub mod plan;
pub mod refusal;
pub mod sender;
pub mod service;
pub mod slots;
pub mod uplinks;
pub mod wire;
