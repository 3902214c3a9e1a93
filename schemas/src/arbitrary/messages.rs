// SPDX-License-Identifier: Apache-2.0
//! Random messages, each well-formed for itself. One module per module of
//! [`crate::v1`].

mod agent;
mod conditions;
mod config;
mod hosts;
mod ports;
mod retry;
mod runtime;
mod store;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

use crate::problem::{Problem, ProblemBody, ProblemCode};
use crate::v1::V1;

pub use agent::*;
pub use conditions::*;
pub use config::*;
pub use hosts::*;
pub use ports::*;
pub use retry::*;
pub use runtime::*;
pub use store::*;

fn v1() -> impl Strategy<Value = V1> {
    Just(V1)
}

/// Text for people: short, of any characters.
fn words() -> impl Strategy<Value = String> {
    ".{0,20}"
}

/// A cursor of a listing.
fn cursor() -> impl Strategy<Value = Option<String>> {
    option::of("[a-z/]{1,12}")
}

/// Few of something.
fn few<S: Strategy>(one: S) -> impl Strategy<Value = Vec<S::Value>> {
    vec(one, 0..4)
}

/// Any problem's body.
pub fn problem_body() -> impl Strategy<Value = ProblemBody> {
    let code = select(vec![
        ProblemCode::Invalid,
        ProblemCode::NotFound,
        ProblemCode::Conflict,
        ProblemCode::TooLarge,
        ProblemCode::Unavailable,
        ProblemCode::Internal,
    ]);
    (
        code,
        words(),
        option::of(words()),
        option::of(words()),
        option::of(words()),
    )
        .prop_map(|(code, message, document, field, allowed)| ProblemBody {
            error: Problem {
                code,
                message,
                document,
                field,
                allowed,
            },
        })
}
