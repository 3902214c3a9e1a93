// SPDX-License-Identifier: Apache-2.0
//! The contract as others see it: what is written is read back in both
//! formats, and the checked-in JSON Schemas and AsyncAPI document say what the
//! types say. After a wanted change, write them anew:
//!
//! ```sh
//! EXPECTORATE=overwrite cargo test -p dvs-schemas --test contract
//! ```
#![allow(clippy::unwrap_used)]

mod asyncapi;
mod catalogue;
mod examples;
mod published;
mod roundtrip;
mod schema;
mod site;
