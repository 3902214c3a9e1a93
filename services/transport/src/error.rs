// SPDX-License-Identifier: Apache-2.0
//! What can go wrong on the way to the bus, with what to do about it.

use std::path::PathBuf;
use std::time::Duration;

/// Connection settings that can't be used, or a bus that can't be reached.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A context was named, but there is no home to hold contexts.
    #[error(
        "context `{name}` can't be looked up: neither XDG_CONFIG_HOME nor HOME is set; \
         give --server and --nkey instead"
    )]
    NoContextFolder {
        /// The context asked for.
        name: String,
    },
    /// A context name that is no file name.
    #[error("`{name}` can't be the name of a context: it must be a plain name without / or ..")]
    ContextName {
        /// The context asked for.
        name: String,
    },
    /// The context doesn't exist.
    #[error(
        "there is no context `{name}` ({path}); known contexts: {}; \
         `nats context ls` shows them, `nats context select` chooses one",
        if known.is_empty() { "none" } else { known }
    )]
    NoContext {
        /// The context asked for.
        name: String,
        /// Where it was looked for.
        path: PathBuf,
        /// The contexts there are, separated by commas.
        known: String,
    },
    /// The context file is no JSON object as the `nats` command line writes it.
    #[error("the context in {path} can't be read; write it anew with `nats context save`")]
    ContextFormat {
        /// The context's file.
        path: PathBuf,
        /// Where the text is wrong.
        source: serde_json::Error,
    },
    /// The context asks for something that dvswitch can't do.
    #[error(
        "the context in {path} sets `{field}`, which dvswitch doesn't support; \
         use a context with creds, nkey or user and password"
    )]
    ContextField {
        /// The context's file.
        path: PathBuf,
        /// The field's name.
        field: &'static str,
    },
    /// The context's JWT and seed belong to nothing.
    #[error(
        "the context's user_jwt and user_seed are no credentials; \
         write it anew with `nats context save`, or give --creds"
    )]
    ContextJwt {
        /// Why not.
        source: std::io::Error,
    },
    /// A file named by a setting can't be read.
    #[error("{what} in {path} can't be read")]
    File {
        /// What the file is for.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The file holds no user seed.
    #[error(
        "{path} holds no nkey seed: it must have a line that starts with SU; \
         `dvsctl credentials DIR` makes such files"
    )]
    Seed {
        /// The seed's file.
        path: PathBuf,
    },
    /// Half of a pair of settings.
    #[error("{given} needs {missing} as well")]
    Half {
        /// The setting that was given.
        given: &'static str,
        /// The setting that goes with it.
        missing: &'static str,
    },
    /// The server address can't be parsed, or the options contradict.
    #[error("`{servers}` is no NATS address; give nats://HOST:PORT, several separated by commas")]
    Server {
        /// The address as given, without its password.
        servers: String,
        /// Why not.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The bus could not be reached in time.
    #[error(
        "no connection to NATS at {servers} within {}{}; is the server up, and are the \
         credentials those of this server?",
        humantime::format_duration(*waited),
        last.as_ref().map(|last| format!(" (last error: {last})")).unwrap_or_default()
    )]
    NotReached {
        /// The servers tried.
        servers: String,
        /// How long it was tried.
        waited: Duration,
        /// What the client said last, if anything.
        last: Option<String>,
    },
}

/// A publish or request that did not do its work.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BusError {
    /// The connection is down; nothing was sent.
    #[error("`{subject}` not sent: no connection to NATS at the moment")]
    Offline {
        /// The subject.
        subject: String,
    },
    /// The client's queue did not take the message in time; nothing was sent.
    #[error("`{subject}` not sent within {}: the connection to NATS is congested", humantime::format_duration(*waited))]
    Congested {
        /// The subject.
        subject: String,
        /// How long it was tried.
        waited: Duration,
    },
    /// The message is larger than the server takes; nothing was sent.
    #[error("`{subject}` not sent: {size} bytes are more than the server's max_payload of {max}")]
    TooLarge {
        /// The subject.
        subject: String,
        /// Headers and payload, in bytes.
        size: usize,
        /// The server's limit, in bytes.
        max: usize,
    },
    /// The client refused the message, or is closed; nothing was sent.
    #[error("`{subject}` not sent: {reason}")]
    Refused {
        /// The subject.
        subject: String,
        /// What the client said.
        reason: String,
    },
    /// Nobody listens on the subject.
    #[error(
        "nobody answers on `{subject}`: the service isn't running, or these credentials may not ask it"
    )]
    NoResponder {
        /// The subject.
        subject: String,
    },
    /// No answer came in time; the request may have been carried out.
    #[error("no answer on `{subject}` within {}; the request may have been carried out", humantime::format_duration(*waited))]
    TimedOut {
        /// The subject.
        subject: String,
        /// How long it was waited for.
        waited: Duration,
    },
}
