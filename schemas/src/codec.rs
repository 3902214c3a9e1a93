// SPDX-License-Identifier: Apache-2.0
//! Bytes to values and back. The first byte tells JSON text from MessagePack;
//! who is asked answers in kind. Errors name the path of the field.

use std::fmt;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::problem::{Problem, ProblemBody, ProblemCode};
use crate::tree::Tree;

/// Deepest nesting that is read. The deepest document needs 8; what nests
/// deeper is a mistake or an attack on the stack.
const DEPTH_MAX: usize = 32;

/// Largest request that is read, in bytes: nats-server's own default
/// `max_payload`. Where an operator raised that, this still bounds what one
/// request may cost.
pub const REQUEST_MAX: usize = 1024 * 1024;

/// How a message is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// JSON text (RFC 8259): people, the `nats` CLI.
    Json,
    /// MessagePack with named fields: programs.
    MessagePack,
}

impl Format {
    /// The format that the first byte announces.
    ///
    /// # Errors
    /// The message is empty, or begins like neither.
    pub fn of(bytes: &[u8]) -> Result<Self, Problem> {
        match bytes.first() {
            None => Err(Problem::invalid("the request is empty")
                .allow("a JSON object or array, or a MessagePack map or array")),
            Some(b'{' | b'[' | b' ' | b'\t' | b'\r' | b'\n') => Ok(Self::Json),
            // fixmap and fixarray, array 16/32, map 16/32
            Some(0x80..=0x9f | 0xdc..=0xdf) => Ok(Self::MessagePack),
            Some(byte) => Err(Problem::invalid(format!(
                "the request begins with byte 0x{byte:02x}, which starts neither a JSON object \
                 or array nor a MessagePack map or array"
            ))
            .allow("{ or [ for JSON; 0x80-0x9f or 0xdc-0xdf for MessagePack")),
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Json => "JSON",
            Self::MessagePack => "MessagePack",
        })
    }
}

fn unreadable(format: Format, why: impl fmt::Display) -> Problem {
    Problem::invalid(format!("not readable as {format}: {why}"))
}

/// Reads any message into a tree, for those that are taken apart by hand.
///
/// # Errors
/// Too large, neither format, truncated, followed by more, nested too deeply.
pub fn decode_tree(bytes: &[u8]) -> Result<(Format, Value), Problem> {
    if bytes.len() > REQUEST_MAX {
        return Err(Problem::new(
            ProblemCode::TooLarge,
            format!("the request has {} bytes", bytes.len()),
        )
        .allow(format!(
            "{REQUEST_MAX} bytes; send the documents in several requests"
        )));
    }
    let format = Format::of(bytes)?;
    let value = match format {
        Format::Json => from_json(bytes)?,
        Format::MessagePack => from_message_pack(bytes).map(|Tree(value)| value)?,
    };
    if depth(&value) > DEPTH_MAX {
        return Err(Problem::invalid("the request nests too deeply")
            .allow(format!("at most {DEPTH_MAX} levels")));
    }
    Ok((format, value))
}

fn from_json(bytes: &[u8]) -> Result<Value, Problem> {
    if let Ok(Tree(value)) = serde_json::from_slice(bytes) {
        return Ok(value);
    }
    // Following the path costs time, so only what is refused is read with it.
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    serde_path_to_error::deserialize(&mut reader)
        .map_err(|e| {
            let path = e.path().to_string();
            match e.into_inner() {
                what if what.is_data() => place(path, unreadable(Format::Json, what).message),
                // Where a text stops being JSON says nothing of a field.
                what => unreadable(Format::Json, what),
            }
        })
        .and_then(|Tree(value)| {
            let ended = reader.end().map_err(|e| unreadable(Format::Json, e));
            ended.map(|()| value)
        })
}

fn from_message_pack<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    let mut reader = rmp_serde::Deserializer::new(std::io::Cursor::new(bytes));
    // Twice the levels: rmp counts an enum's wrapping as a level of its own.
    reader.set_max_depth(2 * DEPTH_MAX);
    let value = serde_path_to_error::deserialize(&mut reader).map_err(|e| {
        let path = e.path().to_string();
        let inner = e.into_inner();
        // Our own complaints arrive as this variant; they need no preface.
        let why = if let rmp_serde::decode::Error::Uncategorized(text) = inner {
            text
        } else {
            unreadable(Format::MessagePack, inner).message
        };
        place(path, why)
    })?;
    let read = usize::try_from(reader.position()).unwrap_or(usize::MAX);
    if read == bytes.len() {
        Ok(value)
    } else {
        Err(unreadable(
            Format::MessagePack,
            format_args!("{} bytes follow the value", bytes.len() - read),
        ))
    }
}

fn depth(value: &Value) -> usize {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => 0,
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Value::Object(fields) => 1 + fields.values().map(depth).max().unwrap_or(0),
    }
}

fn place(path: String, message: String) -> Problem {
    let problem = Problem::invalid(message);
    match path.as_str() {
        "." | "" | "?" => problem,
        _ => problem.at(path),
    }
}

/// Turns a tree into a typed value.
///
/// # Errors
/// The first field that does not fit, with its path and what is allowed.
pub fn from_tree<T: DeserializeOwned>(value: Value) -> Result<T, Problem> {
    serde_path_to_error::deserialize(value).map_err(|e| {
        let path = e.path().to_string();
        place(path, e.into_inner().to_string())
    })
}

/// Reads a typed message.
///
/// # Errors
/// As [`decode_tree`] and [`from_tree`].
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<(Format, T), Problem> {
    if bytes.len() > REQUEST_MAX {
        return decode_tree(bytes).and_then(|(format, tree)| Ok((format, from_tree(tree)?)));
    }
    let format = Format::of(bytes)?;
    match format {
        Format::Json => {
            decode_tree(bytes).and_then(|(format, tree)| Ok((format, from_tree(tree)?)))
        }
        Format::MessagePack => from_message_pack(bytes).map(|value| (format, value)),
    }
}

/// Reads an answer.
///
/// # Errors
/// The problem that came in its stead; else as [`decode`].
pub fn decode_answer<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    match decode(bytes) {
        Ok((_, answer)) => Ok(answer),
        Err(unreadable) => Err(match decode::<ProblemBody>(bytes) {
            Ok((_, body)) => body.error,
            Err(_) => unreadable,
        }),
    }
}

/// A value that can't be written. Only a fault in this program leads here:
/// every message type can be written in both formats, which a test proves.
#[derive(Debug, thiserror::Error)]
#[error("{what} can't be written as {format}")]
pub struct EncodeError {
    what: &'static str,
    format: Format,
    #[source]
    source: Box<dyn std::error::Error + Send + Sync>,
}

/// Writes a message.
///
/// # Errors
/// See [`EncodeError`].
pub fn encode<T: Serialize>(format: Format, value: &T) -> Result<Bytes, EncodeError> {
    let failed = |source| EncodeError {
        what: std::any::type_name::<T>(),
        format,
        source,
    };
    match format {
        Format::Json => serde_json::to_vec(value).map_err(|e| failed(e.into())),
        // Named fields: positional ones break as soon as a field is inserted.
        Format::MessagePack => rmp_serde::to_vec_named(value).map_err(|e| failed(e.into())),
    }
    .map(Bytes::from)
}

/// Writes a problem's body; if even that fails, a fixed text.
#[must_use]
pub fn encode_problem(format: Format, problem: &Problem) -> Bytes {
    let body = ProblemBody {
        error: problem.clone(),
    };
    encode(format, &body).unwrap_or_else(|_| {
        Bytes::from_static(
            br#"{"error":{"code":"internal","message":"the error can't be written"}}"#,
        )
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::policy::Policy;
    use proptest::prelude::*;

    #[test]
    fn an_error_names_the_path_in_both_formats() {
        let text = br#"{"vlan":{"access":5000}}"#;
        let problem = decode::<Policy>(text).unwrap_err();
        assert_eq!(problem.field.as_deref(), Some("vlan.access"));
        let tree: Value = serde_json::from_slice(text).unwrap();
        let packed = rmp_serde::to_vec_named(&tree).unwrap();
        let problem = decode::<Policy>(&packed).unwrap_err();
        assert_eq!(problem.field.as_deref(), Some("vlan.access"));
        assert!(problem.message.contains("1 to 4094"), "{}", problem.message);
    }

    /// Of two values one would be lost, and readers differ in which.
    #[test]
    fn a_key_that_is_there_twice_is_refused_by_its_path_in_both_formats() {
        let text = br#"[{"kind":"Port"},{"policy":{"vlan":{"access":5,"access":6}}}]"#;
        let problem = decode_tree(text).unwrap_err();
        assert_eq!(problem.field.as_deref(), Some("[1].policy.vlan"));
        let expected = "not readable as JSON: the key \"access\" is there twice in one object";
        assert!(problem.message.starts_with(expected), "{}", problem.message);
        assert_eq!(
            decode::<Policy>(br#"{"blocked":true,"blocked":false}"#)
                .unwrap_err()
                .message,
            "not readable as JSON: the key \"blocked\" is there twice in one object at line 1 column 32"
        );
        // {"a": {"b": 1, "b": 2}}
        let packed = b"\x81\xa1a\x82\xa1b\x01\xa1b\x02";
        let problem = decode_tree(packed).unwrap_err();
        assert_eq!(problem.field.as_deref(), Some("a"));
        assert_eq!(
            problem.message,
            "not readable as MessagePack: the key \"b\" is there twice in one object"
        );
    }

    /// A server that takes more brings it to the services.
    #[test]
    fn two_mebibytes_are_refused_unread_with_what_is_allowed() {
        let refused = Problem::new(ProblemCode::TooLarge, "the request has 2097152 bytes")
            .allow("1048576 bytes; send the documents in several requests");
        for first in *b"{[\x81\xdc" {
            let mut bytes = vec![b' '; 2 << 20];
            bytes[0] = first;
            assert_eq!(decode_tree(&bytes).unwrap_err(), refused);
            assert_eq!(decode::<Policy>(&bytes).unwrap_err(), refused);
        }
    }

    #[test]
    fn what_comes_in_place_of_an_answer_says_why_there_is_none() {
        let answer = decode_answer::<Policy>(br#"{"vlan":{"access":5}}"#);
        assert!(answer.is_ok());
        let problem = Problem::invalid("not today").allow("tomorrow");
        for format in [Format::Json, Format::MessagePack] {
            let refused = decode_answer::<Policy>(&encode_problem(format, &problem));
            assert_eq!(refused.unwrap_err(), problem);
        }
        let unreadable = decode_answer::<Policy>(br#"{"vlan":{"access":5000}}"#).unwrap_err();
        assert_eq!(unreadable.field.as_deref(), Some("vlan.access"));
    }

    #[test]
    fn deep_nesting_is_refused_without_deep_recursion() {
        for open in [&b"["[..], b"{\"a\":", b"\x91", b"\x81\xa1a"] {
            let bytes = open.repeat(100_000);
            assert!(decode_tree(&bytes).is_err());
            assert!(decode::<Policy>(&bytes).is_err());
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode_tree(&bytes);
            let _ = decode::<Policy>(&bytes);
        }
    }
}
