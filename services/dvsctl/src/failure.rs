// SPDX-License-Identifier: Apache-2.0
//! How a command ends: an answer, or a failure with the exit code that scripts
//! may rely on.

use std::fmt;
use std::io;
use std::process::ExitCode;

use dvs_schemas::{Problem, ProblemCode};
use dvs_transport::{BusError, Error as ConnectError};

use crate::credentials::CredentialsError;
use crate::documents::{DocumentError, Place};

/// A command that did its work, and what the answer was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// As asked; exit code 0.
    Yes,
    /// Hosts lag, files differ, a wait is over; exit code 1.
    No,
}

impl From<Verdict> for ExitCode {
    fn from(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Yes => Self::SUCCESS,
            Verdict::No => Self::from(1),
        }
    }
}

/// A command that could not do its work.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The command line asks for something impossible.
    #[error("{0}")]
    Usage(String),
    /// The documents can't be read.
    #[error(transparent)]
    Documents(#[from] DocumentError),
    /// The keys can't be made.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    /// Output can't be written.
    #[error("the output can't be written")]
    Output(#[from] io::Error),
    /// No connection: settings, credentials or the server.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// A request did not get its answer.
    #[error("{error}{}", server_said.as_ref().map(|said| format!(" ({said})")).unwrap_or_default())]
    Bus {
        /// What became of the request.
        error: BusError,
        /// What the server complained about, if it did: a permission, mostly.
        server_said: Option<String>,
    },
    /// A question that changes nothing did not get its answer.
    #[error(
        "no answer on `{subject}` within {}{}",
        humantime::format_duration(*waited),
        server_said.as_ref().map_or_else(
            || "; is the service running, and not overloaded?".to_owned(),
            |said| format!(" ({said})")
        )
    )]
    Unanswered {
        /// What was asked.
        subject: String,
        /// For how long.
        waited: std::time::Duration,
        /// What the server complained about, if it did.
        server_said: Option<String>,
    },
    /// What the command is about is not there.
    #[error("{0}")]
    NoSuch(String),
    /// The service said no.
    #[error("{0}")]
    Refused(Box<Refusal>),
    /// The service's answer is none that this version knows.
    #[error(
        "the answer on `{subject}` can't be read ({problem}); is dvsctl as new as the services?"
    )]
    Answer {
        /// What was asked.
        subject: String,
        /// What is wrong with the answer.
        problem: Box<Problem>,
    },
}

/// A service's refusal, with the place in the user's files where it applies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// What the service said.
    pub problem: Problem,
    /// Where the refused document is written.
    pub place: Option<Place>,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Some(place) => write!(f, "{place}: {}", self.problem),
            None => fmt::Display::fmt(&self.problem, f),
        }
    }
}

impl Failure {
    /// The exit code; the meanings are in `dvsctl --help`.
    #[must_use]
    pub fn code(&self) -> u8 {
        match self {
            Self::Usage(_) | Self::Documents(_) | Self::Credentials(_) | Self::Output(_) => 2,
            Self::NoSuch(_) | Self::Refused(_) | Self::Answer { .. } => 3,
            Self::Connect(ConnectError::NotReached { .. }) | Self::Unanswered { .. } => 4,
            // Settings that can't be used.
            Self::Connect(_) => 2,
            Self::Bus { error, .. } => match error {
                BusError::TooLarge { .. } => 3,
                BusError::Offline { .. }
                | BusError::Congested { .. }
                | BusError::Refused { .. }
                | BusError::NoResponder { .. }
                | BusError::TimedOut { .. } => 4,
            },
        }
    }

    /// Whether a service answered that it knows of no such thing.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Refused(refusal) if refusal.problem.code == ProblemCode::NotFound)
    }

    /// Whether no answer came in time.
    #[must_use]
    pub fn is_late(&self) -> bool {
        matches!(
            self,
            Self::Unanswered { .. }
                | Self::Bus {
                    error: BusError::TimedOut { .. },
                    ..
                }
        )
    }

    /// Whether a service or the bus isn't there, which may pass.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        self.code() == 4
    }
}

/// The failure with everything that led to it, on one line.
#[must_use]
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
