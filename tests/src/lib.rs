// SPDX-License-Identifier: Apache-2.0
//! What the end to end tests and the load bench share: a fleet of the real
//! programs on a real nats-server, with the permissions that ship.

pub mod fleet;
pub mod hypervisor;
pub mod lan;
pub mod load;
pub mod machines;
pub mod operator;
pub mod simulation;
