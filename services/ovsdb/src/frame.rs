// SPDX-License-Identifier: Apache-2.0
//! Messages on a byte stream without framing (RFC 7047 §4): JSON objects, one
//! after the other, with or without white space between them.
//!
//! A scanner finds where an object ends; each byte is looked at once, however
//! small the pieces are in which a message comes. Only a whole object is
//! parsed.

use std::io;

use bytes::{Buf, BytesMut};
use tokio_util::codec::Decoder;

use crate::message::{Message, MessageError};

/// A buffer that is larger than this is given back once it is empty, so that
/// one large snapshot doesn't hold its memory for the life of a connection.
const KEPT_BUFFER: usize = 1024 * 1024;

/// Bytes of a message that can't be read, quoted in the error.
const QUOTED: usize = 60;

/// Why the bytes of a stream aren't messages. The stream can't be read on
/// after that.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The stream failed.
    #[error("the stream can't be read")]
    Io(#[from] io::Error),
    /// A message starts with something else than an object.
    #[error("a message starts with byte {0:#04x} instead of an opening brace")]
    NotAnObject(u8),
    /// A message is larger than is allowed.
    #[error("a message is larger than {limit} bytes; monitor fewer columns or raise the limit")]
    TooLarge {
        /// Most bytes that a message may have.
        limit: usize,
    },
    /// The bytes between the braces are no JSON.
    #[error("a message of {bytes} bytes, beginning {start:?}, is no JSON")]
    Json {
        /// Length of the message.
        bytes: usize,
        /// Its first bytes.
        start: String,
        /// What the parser says.
        #[source]
        source: serde_json::Error,
    },
    /// The JSON is no JSON-RPC message.
    #[error("a message beginning {start:?} is no JSON-RPC")]
    Message {
        /// Its first bytes.
        start: String,
        /// What is wrong.
        #[source]
        source: MessageError,
    },
    /// The stream ends in the middle of a message.
    #[error("the stream ends after {bytes} bytes of a message")]
    Truncated {
        /// Bytes of the message that came.
        bytes: usize,
    },
}

/// Where the scanner is in the bytes of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Before the opening brace.
    Between,
    /// In an object or array, at a depth of at least 1.
    Inside(usize),
    /// In a string at a depth.
    Text(usize),
    /// In a string, after a backslash.
    Escape(usize),
}

/// Reads messages off a stream.
#[derive(Debug)]
pub struct Framing {
    limit: usize,
    place: Place,
    /// Bytes of the buffer that were looked at.
    scanned: usize,
    /// Bytes that were looked at since the start.
    seen: u64,
}

impl Framing {
    /// Framing for messages of up to `limit` bytes.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self {
            limit,
            place: Place::Between,
            scanned: 0,
            seen: 0,
        }
    }

    /// Bytes that came so far, whole messages or not: a peer whose large
    /// message is still on its way is alive.
    #[must_use]
    pub fn seen(&self) -> u64 {
        self.seen
    }

    /// Length of the whole message at the buffer's start, if it is there.
    fn scan(&mut self, buffer: &[u8]) -> Option<usize> {
        let mut place = self.place;
        let rest = buffer.get(self.scanned..).unwrap_or_default();
        for (at, byte) in (self.scanned + 1..).zip(rest) {
            place = match (place, byte) {
                (Place::Between, b'{') => Place::Inside(1),
                (Place::Between, _) => Place::Between,
                (Place::Inside(depth), b'"') => Place::Text(depth),
                (Place::Inside(depth), b'{' | b'[') => Place::Inside(depth + 1),
                (Place::Inside(1), b'}' | b']') => {
                    self.seen += u64::try_from(at - self.scanned).unwrap_or(u64::MAX);
                    self.place = Place::Between;
                    self.scanned = 0;
                    return Some(at);
                }
                (Place::Inside(depth), b'}' | b']') => Place::Inside(depth - 1),
                (Place::Inside(depth), _) => Place::Inside(depth),
                (Place::Text(depth), b'"') => Place::Inside(depth),
                (Place::Text(depth), b'\\') => Place::Escape(depth),
                (Place::Text(depth), _) => Place::Text(depth),
                (Place::Escape(depth), _) => Place::Text(depth),
            };
        }
        self.seen += u64::try_from(rest.len()).unwrap_or(u64::MAX);
        self.place = place;
        self.scanned = buffer.len();
        None
    }
}

impl Decoder for Framing {
    type Item = Message;
    type Error = FrameError;

    fn decode(&mut self, buffer: &mut BytesMut) -> Result<Option<Message>, FrameError> {
        if self.place == Place::Between {
            let blank = buffer
                .iter()
                .take_while(|byte| byte.is_ascii_whitespace())
                .count();
            buffer.advance(blank);
            match buffer.first() {
                None => {
                    if buffer.capacity() > KEPT_BUFFER {
                        *buffer = BytesMut::new();
                    }
                    return Ok(None);
                }
                Some(b'{') => {}
                Some(other) => return Err(FrameError::NotAnObject(*other)),
            }
        }
        let found = self.scan(buffer);
        if found.unwrap_or(buffer.len()) > self.limit {
            return Err(FrameError::TooLarge { limit: self.limit });
        }
        let Some(length) = found else {
            return Ok(None);
        };
        let text = buffer.split_to(length);
        let value = serde_json::from_slice(&text).map_err(|source| FrameError::Json {
            bytes: text.len(),
            start: start(&text),
            source,
        })?;
        Message::from_json(value)
            .map(Some)
            .map_err(|source| FrameError::Message {
                start: start(&text),
                source,
            })
    }

    fn decode_eof(&mut self, buffer: &mut BytesMut) -> Result<Option<Message>, FrameError> {
        match self.decode(buffer)? {
            None if !buffer.is_empty() => Err(FrameError::Truncated {
                bytes: buffer.len(),
            }),
            whole_or_end => Ok(whole_or_end),
        }
    }
}

/// The first bytes of a message, for an error's text.
fn start(text: &[u8]) -> String {
    String::from_utf8_lossy(text.get(..QUOTED).unwrap_or(text)).into_owned()
}
