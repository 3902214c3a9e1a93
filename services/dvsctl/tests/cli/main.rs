// SPDX-License-Identifier: Apache-2.0
//! The real `dvsctl` on a real bus: what it sends, what it prints to which
//! stream, and the exit codes that scripts rely on.
#![allow(clippy::unwrap_used)]

mod answers;
mod changes;
mod connecting;
mod describing;
mod fake;
mod placing;
mod queues;
mod runtime;
mod views;
