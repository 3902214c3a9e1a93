// SPDX-License-Identifier: Apache-2.0
//! Progress of what takes longer than a moment: a line that changes on a
//! terminal, a line per change in a log.

use std::io::{self, IsTerminal as _};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::output::say;

/// What is over sooner shows no progress.
const PATIENCE: Duration = Duration::from_secs(1);

/// Shows what a command waits for, on stderr, until it is dropped.
#[derive(Debug)]
pub struct Progress {
    started: Instant,
    bar: Option<ProgressBar>,
    last: String,
}

impl Progress {
    /// Begins to wait.
    #[must_use]
    pub fn new() -> Self {
        Self {
            started: Instant::now(),
            bar: io::stderr().is_terminal().then(|| {
                let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden());
                if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} ({elapsed})") {
                    bar.set_style(style);
                }
                bar
            }),
            last: String::new(),
        }
    }

    /// Says what is waited for; nothing happens if it is the same as before.
    pub fn show(&mut self, text: &str) {
        match &self.bar {
            Some(bar) => {
                if self.started.elapsed() >= PATIENCE && bar.is_hidden() {
                    bar.set_draw_target(ProgressDrawTarget::stderr());
                }
                bar.set_message(text.to_owned());
                bar.tick();
            }
            None if self.last != text => say(text),
            None => {}
        }
        text.clone_into(&mut self.last);
    }

    /// Waits for something with a moving line on a terminal, and in silence
    /// otherwise.
    pub async fn during<T>(text: &str, work: impl Future<Output = T>) -> T {
        let mut progress = Self::new();
        if progress.bar.is_none() {
            return work.await;
        }
        let mut work = std::pin::pin!(work);
        loop {
            tokio::select! {
                result = &mut work => return result,
                () = tokio::time::sleep(Duration::from_millis(100)) => progress.show(text),
            }
        }
    }
}

impl Default for Progress {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
