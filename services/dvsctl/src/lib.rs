// SPDX-License-Identifier: Apache-2.0
//! The operator's command line: configuration in, state out, over the same
//! subjects as everyone else.

pub mod credentials;
