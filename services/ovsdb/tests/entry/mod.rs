// SPDX-License-Identifier: Apache-2.0
//! What is done with bytes of nobody knows whom: by the fuzz targets in
//! `fuzz/`, and with random bytes by the tests.

use bytes::BytesMut;
use dvs_ovsdb::{Cache, FrameError, Framing, Message, Schema};
use serde_json::{Value, json};
use tokio_util::codec::Decoder;

/// Longest message that is taken.
pub(crate) const LIMIT: usize = 4_096;

/// The messages in pieces of a stream, and how the stream ends.
pub(crate) fn messages<'a>(
    pieces: impl IntoIterator<Item = &'a [u8]>,
) -> (Vec<Message>, Option<String>) {
    let mut framing = Framing::new(LIMIT);
    let mut buffer = BytesMut::new();
    let mut read = Vec::new();
    let mut take = |framing: &mut Framing, buffer: &mut BytesMut, end: bool| {
        loop {
            let message = if end {
                framing.decode_eof(buffer)
            } else {
                framing.decode(buffer)
            };
            match message {
                Ok(Some(message)) => read.push(message),
                Ok(None) => return None,
                Err(error) => return Some(told(&error)),
            }
        }
    };
    for piece in pieces {
        buffer.extend_from_slice(piece);
        let error = take(&mut framing, &mut buffer, false);
        if error.is_some() {
            return (read, error);
        }
    }
    let error = take(&mut framing, &mut buffer, true);
    (read, error)
}

/// An error without what depends on how much had come by then.
fn told(error: &FrameError) -> String {
    match error {
        FrameError::Io(_) => unreachable!("there is no stream"),
        FrameError::NotAnObject(_)
        | FrameError::TooLarge { .. }
        | FrameError::Json { .. }
        | FrameError::Message { .. }
        | FrameError::Truncated { .. } => error.to_string(),
    }
}

/// Whatever the bytes are, and however they come, they are the same messages.
pub(crate) fn frames(bytes: &[u8]) {
    let whole = messages([bytes]);
    assert_eq!(messages(bytes.chunks(1)), whole);
    assert_eq!(messages(bytes.chunks(7)), whole);
}

/// A table with a column of each kind.
pub(crate) fn schema() -> Schema {
    let many = json!("unlimited");
    Schema::from_json(
        json!({"name": "Test", "version": "1.0.0", "tables": {"T": {"columns": {
            "name": {"type": "string"},
            "on": {"type": "boolean"},
            "rate": {"type": "real"},
            "tag": {"type": {"key": "integer", "min": 0, "max": 1}},
            "trunks": {"type": {"key": "integer", "min": 0, "max": many}},
            "rows": {"type": {"key": "uuid", "min": 0, "max": many}},
            "ids": {"type": {"key": "string", "value": "string", "min": 0, "max": many}},
        }}}}),
    )
    .expect("a schema")
}

/// An empty copy of that table.
pub(crate) fn cache() -> Cache {
    Cache::new(schema().tables)
}

/// Whatever the bytes are, they are an update that the copy holds afterwards,
/// or none.
pub(crate) fn update(bytes: &[u8]) {
    let Ok(update) = serde_json::from_slice::<Value>(bytes) else {
        return;
    };
    let mut cache = cache();
    let Ok(changes) = cache.update(update) else {
        return;
    };
    for change in changes {
        assert_ne!(change.old, change.new);
        assert_eq!(cache.row(&change.table, change.uuid), change.new.as_ref());
    }
}
