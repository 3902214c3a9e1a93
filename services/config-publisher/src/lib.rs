// SPDX-License-Identifier: Apache-2.0
//! The config-publisher: owns the configuration (switches, port groups, ports
//! and where they are placed), and pushes final state to the hosts.
//!
//! Reading order: [`config`] (what there is), [`admission`] (what may change),
//! [`claims`] (who waits for a port), [`record`], [`outbox`] and [`pushes`] (what a change owes the hosts, when it
//! goes and how), [`handover`] (what becomes of hosts that did not acknowledge), [`farewell`]
//! (who is to know of forgotten hosts), [`core`]
//! (all of it as one state). None of these does IO; [`api`] turns subjects into
//! events, [`perform`] effects into messages.

pub mod admission;
pub mod api;
pub mod changes;
pub mod claims;
pub mod config;
pub mod core;
pub mod dryrun;
pub mod events;
pub mod farewell;
pub mod fleet;
pub mod handover;
pub mod history;
pub mod ledger;
pub mod load;
pub mod metrics;
pub mod outbox;
pub mod perform;
pub mod pushes;
pub mod query;
pub mod record;
pub mod render;
pub mod replies;
mod tries;
pub mod warnings;
