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
use tokio::time::{Instant, timeout_at};
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

/// A command that was sent, whose answer is yet to come.
#[derive(Debug)]
pub struct Sent {
    socket: PathBuf,
    command: String,
    answers: FramedRead<UnixStream, Framing>,
    deadline: Instant,
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
    send(socket, command, arguments, patience)
        .await?
        .answer()
        .await
}

/// Sends a command; whatever the caller sends elsewhere later on, the program
/// can read this first. All of it, with the answer, may take as long as
/// `patience`.
///
/// # Errors
/// Why it can't be sent.
pub async fn send(
    socket: &Path,
    command: &str,
    arguments: &[&str],
    patience: Duration,
) -> Result<Sent, UnixctlError> {
    let unreachable = |source| UnixctlError::Unreachable {
        socket: socket.to_owned(),
        source,
    };
    let deadline = Instant::now() + patience;
    let request = message::request(0, command, &arguments);
    let request = request.map_err(|error| unreachable(error.into()))?;
    let sending = async {
        let mut stream = UnixStream::connect(socket).await?;
        stream.write_all(&request).await?;
        Ok(stream)
    };
    let sent = timeout_at(deadline, sending).await;
    let stream = sent.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
    Ok(Sent {
        socket: socket.to_owned(),
        command: command.to_owned(),
        answers: FramedRead::new(stream.map_err(unreachable)?, Framing::new(LARGEST)),
        deadline,
    })
}

impl Sent {
    /// The answer's text.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn answer(mut self) -> Result<String, UnixctlError> {
        let outcome = async {
            while let Some(answer) = self.answers.next().await {
                if let Message::Reply { outcome, .. } = answer? {
                    return Ok(Some(outcome));
                }
            }
            Ok(None)
        };
        let outcome = timeout_at(self.deadline, outcome).await;
        let Self {
            socket, command, ..
        } = self;
        match outcome {
            Ok(Ok(Some(Ok(Value::String(text))))) => Ok(text),
            Ok(Ok(Some(Ok(other)))) => Ok(other.to_string()),
            Ok(Ok(Some(Err(reason)))) => Err(UnixctlError::Refused {
                command,
                reason: match reason {
                    Value::String(text) => text.trim().to_owned(),
                    other => other.to_string(),
                },
            }),
            Ok(Ok(None)) | Err(_) => Err(UnixctlError::Silent { socket, command }),
            Ok(Err(source)) => Err(UnixctlError::Unreadable { socket, source }),
        }
    }
}
