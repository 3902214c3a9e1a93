// SPDX-License-Identifier: Apache-2.0
//! What is logged while something happens.

use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use tracing::subscriber::with_default;

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Does something, and gives the warnings and errors that this thread logged
/// meanwhile, without their times.
pub(crate) fn logged(what: impl FnOnce()) -> Vec<String> {
    let lines = Lines::default();
    let writer = lines.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_writer(move || writer.clone())
        .with_max_level(tracing::Level::WARN)
        .with_target(false)
        .with_ansi(false)
        .without_time()
        .finish();
    with_default(subscriber, what);
    let bytes = lines.0.lock().unwrap();
    let text = String::from_utf8(bytes.clone()).unwrap();
    text.lines().map(|line| line.trim().to_owned()).collect()
}
