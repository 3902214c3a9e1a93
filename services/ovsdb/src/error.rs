// SPDX-License-Identifier: Apache-2.0
//! What goes wrong with a session.

use std::io;
use std::time::Duration;

use crate::cache::CacheError;
use crate::endpoint::{ConnectError, Endpoint};
use crate::frame::FrameError;
use crate::schema::SchemaError;

/// Why there is no session.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The server can't be reached.
    #[error("{endpoint} can't be connected to")]
    Connect {
        /// Where it should be.
        endpoint: Endpoint,
        /// Why not.
        #[source]
        source: ConnectError,
    },
    /// It took too long.
    #[error("{endpoint} has not answered within {} s", patience.as_secs())]
    Late {
        /// Where it is.
        endpoint: Endpoint,
        /// How long it was waited for.
        patience: Duration,
    },
    /// The server refuses: the database isn't there, or it is too old.
    #[error("{endpoint} refuses {method} of database {database}: {reason}")]
    Refused {
        /// Where it is.
        endpoint: Endpoint,
        /// The database.
        database: String,
        /// What was asked.
        method: &'static str,
        /// What it says.
        reason: String,
    },
    /// What it serves is something else.
    #[error("the database has no {0}; is it an Open vSwitch of 2.6 or later?")]
    Lacks(String),
    /// The schema can't be read.
    #[error(transparent)]
    Schema(#[from] SchemaError),
    /// The connection ended.
    #[error(transparent)]
    Session(#[from] SessionError),
}

/// Why a session ended.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The server closed the connection.
    #[error("the database server closed the connection")]
    Closed,
    /// Bytes can't be sent.
    #[error("the database server can't be written to")]
    Write(#[source] io::Error),
    /// What comes can't be read.
    #[error("the database server can't be understood")]
    Read(#[from] FrameError),
    /// Nothing came for too long.
    #[error("the database server has been silent for {} s", .0.as_secs())]
    Silent(Duration),
    /// An answer took too long. Whether the request was carried out is not
    /// known.
    #[error("the database server has not answered within {} s", .0.as_secs())]
    Late(Duration),
    /// An update doesn't fit the copy.
    #[error("the copy of the database has gone wrong")]
    Cache(#[from] CacheError),
    /// An answer is none.
    #[error("the answer to {method} can't be read: {reason}")]
    Answer {
        /// What was asked.
        method: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// The server takes the monitor away, since the schema changes.
    #[error("the database server has ended the monitor")]
    MonitorEnded,
}

/// Why a transaction has not been carried out.
#[derive(Debug, thiserror::Error)]
pub enum TransactError {
    /// The server refuses it; nothing was changed, and the session goes on.
    #[error(
        "the database refuses the change{}: {error}{}",
        at(operation),
        parenthesis(details)
    )]
    Refused {
        /// The operation at fault, by number and table; none if it is the
        /// whole, as with a constraint that is checked at the end.
        operation: Option<(usize, &'static str)>,
        /// What the server calls it.
        error: String,
        /// What it says besides.
        details: Option<String>,
    },
    /// The session is over. Whether the transaction was carried out is not
    /// known; the next snapshot tells.
    #[error(transparent)]
    Session(#[from] SessionError),
}

fn at(operation: &Option<(usize, &'static str)>) -> String {
    operation.map_or_else(String::new, |(number, table)| {
        format!(" of {table} (operation {number})")
    })
}

fn parenthesis(details: &Option<String>) -> String {
    let details = details.as_ref();
    details.map_or_else(String::new, |details| format!(" ({details})"))
}
