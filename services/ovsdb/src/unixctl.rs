// SPDX-License-Identifier: Apache-2.0
//! Commands to a running program of Open vSwitch, as ovs-appctl(8) sends them:
//! what the database doesn't say can be asked for there.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::StreamExt;
use serde_json::Value;
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use tokio_util::codec::FramedRead;

use crate::frame::{FrameError, Framing};
use crate::message::{self, Message};

/// Largest answer; `ofproto/trace` and lists of 100,000 ports fit well.
const LARGEST: usize = 64 * 1024 * 1024;

/// Why a command has no answer.
#[derive(Debug, thiserror::Error)]
pub enum UnixctlError {
    /// The program isn't there.
    #[error("{} can't be reached", socket.display())]
    Unreachable {
        /// Its socket.
        socket: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// What comes back can't be read.
    #[error("{} can't be understood", socket.display())]
    Unreadable {
        /// Its socket.
        socket: PathBuf,
        /// What is wrong.
        #[source]
        source: FrameError,
    },
    /// It ended, or didn't answer in time.
    #[error("{} has not answered {command}", socket.display())]
    Silent {
        /// Its socket.
        socket: PathBuf,
        /// The command.
        command: String,
    },
    /// The program refuses the command.
    #[error("{command}: {reason}")]
    Refused {
        /// The command.
        command: String,
        /// What it says.
        reason: String,
    },
}

/// Sends a command and answers its text.
///
/// # Errors
/// Why there is none.
pub async fn call(
    socket: &Path,
    command: &str,
    arguments: &[&str],
    patience: Duration,
) -> Result<String, UnixctlError> {
    let silent = || UnixctlError::Silent {
        socket: socket.to_owned(),
        command: command.to_owned(),
    };
    let calling = speak(socket, command, arguments);
    match tokio::time::timeout(patience, calling).await {
        Err(_) => Err(silent()),
        Ok(Ok(Some(Ok(Value::String(text))))) => Ok(text),
        Ok(Ok(Some(Ok(other)))) => Ok(other.to_string()),
        Ok(Ok(Some(Err(reason)))) => Err(UnixctlError::Refused {
            command: command.to_owned(),
            reason: match reason {
                Value::String(text) => text.trim().to_owned(),
                other => other.to_string(),
            },
        }),
        Ok(Ok(None)) => Err(silent()),
        Ok(Err(error)) => Err(error),
    }
}

async fn speak(
    socket: &Path,
    command: &str,
    arguments: &[&str],
) -> Result<Option<Result<Value, Value>>, UnixctlError> {
    let unreachable = |source| UnixctlError::Unreachable {
        socket: socket.to_owned(),
        source,
    };
    let mut stream = UnixStream::connect(socket).await.map_err(unreachable)?;
    let request = message::request(0, command, &arguments);
    let request = request.map_err(|error| unreachable(error.into()))?;
    stream.write_all(&request).await.map_err(unreachable)?;
    let mut answers = FramedRead::new(stream, Framing::new(LARGEST));
    while let Some(answer) = answers.next().await {
        let answer = answer.map_err(|source| UnixctlError::Unreadable {
            socket: socket.to_owned(),
            source,
        })?;
        if let Message::Reply { outcome, .. } = answer {
            return Ok(Some(outcome));
        }
    }
    Ok(None)
}
