// SPDX-License-Identifier: Apache-2.0
//! JSON-RPC 1.0 messages (RFC 7047 §4).

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// One message, in either direction.
#[derive(Clone, Debug, PartialEq)]
pub enum Message {
    /// Wants a reply with the same id.
    Request {
        /// Ties the reply to it.
        id: Value,
        /// What is asked for.
        method: String,
        /// Its parameters.
        params: Value,
    },
    /// Wants no reply.
    Notification {
        /// What is told.
        method: String,
        /// Its parameters.
        params: Value,
    },
    /// The answer to a request.
    Reply {
        /// The request's id.
        id: Value,
        /// The result, or what the peer says went wrong.
        outcome: Result<Value, Value>,
    },
}

/// Why an object is no JSON-RPC message.
#[derive(Debug, thiserror::Error)]
pub enum MessageError {
    /// A member has the wrong type.
    #[error("its members are not those of JSON-RPC")]
    Members(#[source] serde_json::Error),
    /// A reply doesn't say to what.
    #[error("it has neither a method nor an id")]
    Neither,
}

/// All members that a message may have.
#[derive(Deserialize)]
struct Members {
    method: Option<String>,
    #[serde(default)]
    params: Value,
    #[serde(default)]
    id: Value,
    #[serde(default)]
    result: Value,
    #[serde(default)]
    error: Value,
}

impl Message {
    /// Tells what kind of message an object is.
    ///
    /// # Errors
    /// It is none.
    pub fn from_json(value: Value) -> Result<Self, MessageError> {
        let Members {
            method,
            params,
            id,
            result,
            error,
        } = Members::deserialize(value).map_err(MessageError::Members)?;
        match (method, id) {
            (Some(method), Value::Null) => Ok(Self::Notification { method, params }),
            (Some(method), id) => Ok(Self::Request { id, method, params }),
            (None, Value::Null) => Err(MessageError::Neither),
            (None, id) => Ok(Self::Reply {
                id,
                outcome: if error.is_null() {
                    Ok(result)
                } else {
                    Err(error)
                },
            }),
        }
    }
}

/// A request's bytes.
///
/// # Errors
/// The parameters have no JSON form.
pub(crate) fn request(
    id: impl Serialize,
    method: &str,
    params: &impl Serialize,
) -> Result<Vec<u8>, serde_json::Error> {
    #[derive(Serialize)]
    struct Request<'a, I, P> {
        id: I,
        method: &'a str,
        params: &'a P,
    }
    serde_json::to_vec(&Request { id, method, params })
}

/// A reply's bytes.
///
/// # Errors
/// Never in practice: every value has a JSON form.
pub(crate) fn reply(
    id: &Value,
    outcome: Result<&Value, &str>,
) -> Result<Vec<u8>, serde_json::Error> {
    #[derive(Serialize)]
    struct Reply<'a> {
        id: &'a Value,
        result: Option<&'a Value>,
        error: Option<&'a str>,
    }
    serde_json::to_vec(&Reply {
        id,
        result: outcome.ok(),
        error: outcome.err(),
    })
}
