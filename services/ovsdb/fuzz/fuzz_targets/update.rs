// SPDX-License-Identifier: Apache-2.0
#![no_main]

#[path = "../../tests/entry/mod.rs"]
#[allow(dead_code)]
mod entry;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| entry::update(bytes));
