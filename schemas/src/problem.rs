// SPDX-License-Identifier: Apache-2.0
//! What a refused request gets: what is wrong, where, and what is allowed.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Why a request was not carried out. Travels as `{"error": …}` with the
/// headers `Nats-Service-Error` and `Nats-Service-Error-Code`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Problem {
    /// The kind of problem, for programs.
    pub code: ProblemCode,
    /// What is wrong, in words.
    pub message: String,
    /// The object concerned, like `PortGroup prod/web`; with several
    /// documents in a request also its place, like `documents[2]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub document: Option<String>,
    /// Path of the field within the document, like `policy.vlan.access`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// What would have been accepted, or what to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allowed: Option<String>,
}

/// Kinds of problems; the numbers follow HTTP, as NATS services do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ProblemCode {
    /// The request can't be read or breaks a rule: mend it.
    Invalid,
    /// It names something that does not exist.
    NotFound,
    /// It contradicts the present state: look, then repeat.
    Conflict,
    /// Another agent is the host's, and whoever asked is not heard for it.
    Namesake,
    /// It, or what it leads to, does not fit into one message.
    TooLarge,
    /// The service can't just now: repeat later.
    Unavailable,
    /// The service's own failure; its log says more.
    Internal,
}

impl ProblemCode {
    /// The number in `Nats-Service-Error-Code`.
    #[must_use]
    pub fn number(self) -> u16 {
        match self {
            Self::Invalid => 400,
            Self::NotFound => 404,
            Self::Conflict | Self::Namesake => 409,
            Self::TooLarge => 413,
            Self::Internal => 500,
            Self::Unavailable => 503,
        }
    }
}

impl Problem {
    /// A problem without a place.
    #[must_use]
    pub fn new(code: ProblemCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            document: None,
            field: None,
            allowed: None,
        }
    }

    /// A problem of the request itself.
    #[must_use]
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(ProblemCode::Invalid, message)
    }

    /// The same, naming the object; keeps a place that is already named.
    #[must_use]
    pub fn of(mut self, document: impl fmt::Display) -> Self {
        self.document.get_or_insert_with(|| document.to_string());
        self
    }

    /// The same, naming the field's path.
    #[must_use]
    pub fn at(mut self, field: impl fmt::Display) -> Self {
        self.field.get_or_insert_with(|| field.to_string());
        self
    }

    /// The same, saying what is allowed or what to do.
    #[must_use]
    pub fn allow(mut self, allowed: impl fmt::Display) -> Self {
        self.allowed.get_or_insert_with(|| allowed.to_string());
        self
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(document) = &self.document {
            write!(f, "{document}: ")?;
        }
        if let Some(field) = &self.field {
            write!(f, "{field}: ")?;
        }
        f.write_str(&self.message)?;
        if let Some(allowed) = &self.allowed {
            write!(f, " (allowed: {allowed})")?;
        }
        Ok(())
    }
}

impl std::error::Error for Problem {}

/// The body that carries a problem.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ProblemBody {
    /// The problem.
    pub error: Problem,
}
