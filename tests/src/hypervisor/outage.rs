// SPDX-License-Identifier: Apache-2.0
//! How long a client was without answer.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::{Network, Site};

/// Between two pings, seconds.
const PACE: &str = "0.01";

/// A client that pings a guest every 10 ms.
#[derive(Debug)]
pub struct Echo {
    ping: Child,
    arrivals: Receiver<(Duration, u64)>,
    answers: Answers,
    guest: &'static str,
}

/// The answers to pings.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Answers {
    /// When they arrived, by the client's clock.
    arrived: Vec<Duration>,
    /// The number of the newest.
    newest: u64,
}

impl Answers {
    /// How many came.
    #[must_use]
    pub fn heard(&self) -> u64 {
        self.arrived.len() as u64
    }

    /// How many there are pings up to the newest answer.
    #[must_use]
    pub fn asked(&self) -> u64 {
        self.newest
    }

    /// The longest time between two answers.
    #[must_use]
    pub fn outage(&self) -> Duration {
        let gaps = self.arrived.windows(2).map(|pair| match pair {
            [before, after] => after.saturating_sub(*before),
            _ => Duration::ZERO,
        });
        gaps.max().unwrap_or(Duration::MAX)
    }

    fn extend(&mut self, answers: impl IntoIterator<Item = (Duration, u64)>) {
        for (at, number) in answers {
            self.arrived.push(at);
            self.newest = self.newest.max(number);
        }
    }
}

impl Echo {
    /// Begins to ping the guest from the client of a site, and waits until it
    /// answers.
    ///
    /// # Errors
    /// It doesn't within a time.
    pub fn start(site: &Site, network: Network, within: Duration) -> Result<Self> {
        let mut ping = Command::new("ip")
            .args(["netns", "exec", site.client(), "ping", "-n", "-D"])
            .args(["-i", PACE, network.guest()])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context("ping")?;
        let lines = BufReader::new(ping.stdout.take().context("a pipe")?).lines();
        let (tell, arrivals) = channel();
        std::thread::spawn(move || {
            for answer in lines.map_while(Result::ok).filter_map(|line| read(&line)) {
                if tell.send(answer).is_err() {
                    return;
                }
            }
        });
        let mut echo = Self {
            ping,
            arrivals,
            answers: Answers::default(),
            guest: network.guest(),
        };
        let answered = echo.await_answers(1, within);
        answered.with_context(|| format!("{network:?}: {} answers no ping", network.guest()))?;
        Ok(echo)
    }

    /// Waits for so many answers more than have been read.
    ///
    /// # Errors
    /// They don't come within a time.
    pub fn await_answers(&mut self, more: usize, within: Duration) -> Result<()> {
        // What has arrived already says nothing of now.
        self.answers.extend(self.arrivals.try_iter());
        let deadline = Instant::now() + within;
        for _ in 0..more {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.arrivals.recv_timeout(left) {
                Ok(answer) => self.answers.extend([answer]),
                Err(RecvTimeoutError::Timeout) => bail!("{}: no answer for {within:?}", self.guest),
                Err(RecvTimeoutError::Disconnected) => bail!("ping has ended"),
            }
        }
        Ok(())
    }

    /// Ends it; answers when answers came.
    ///
    /// # Errors
    /// ping can't be ended.
    pub fn stop(mut self) -> Result<Answers> {
        let pid = self.ping.id().to_string();
        let interrupted = Command::new("kill").args(["-INT", &pid]).status()?;
        ensure!(interrupted.success(), "ping can't be ended");
        self.ping.wait()?;
        let mut answers = std::mem::take(&mut self.answers);
        answers.extend(self.arrivals.iter());
        Ok(answers)
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        let _ = self.ping.kill();
        let _ = self.ping.wait();
    }
}

/// Time and number of a line that tells an answer.
fn read(line: &str) -> Option<(Duration, u64)> {
    let (time, rest) = line.strip_prefix('[')?.split_once("] ")?;
    let (_, rest) = rest.split_once("bytes from ")?;
    let (_, rest) = rest.split_once("icmp_seq=")?;
    let (number, _) = rest.split_once(' ')?;
    let at = Duration::try_from_secs_f64(time.parse().ok()?).ok()?;
    Some((at, number.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outage_is_the_longest_time_without_an_answer() {
        let said = "PING 10.99.1.1 (10.99.1.1) 56(84) bytes of data.\n\
                    [1700000000.250000] 64 bytes from 10.99.1.1: icmp_seq=1 ttl=64 time=0.5 ms\n\
                    [1700000000.500000] From 10.99.1.2 icmp_seq=2 Destination Host Unreachable\n\
                    [1700000001.000000] 64 bytes from 10.99.1.1: icmp_seq=3 ttl=64 time=0.5 ms\n\
                    [1700000001.250000] 64 bytes from 10.99.1.1: icmp_seq=4 ttl=64 time=0.5 ms";
        let mut answers = Answers::default();
        assert_eq!(answers.outage(), Duration::MAX);
        answers.extend(said.lines().filter_map(read));
        assert_eq!((answers.heard(), answers.asked()), (3, 4));
        assert_eq!(answers.outage(), Duration::from_millis(750));
    }
}
