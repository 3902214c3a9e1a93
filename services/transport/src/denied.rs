// SPDX-License-Identifier: Apache-2.0
//! Subscriptions that the server refuses, or takes away when its configuration
//! is loaded anew: the connection stands, and nothing is heard. The server says
//! so once and never says that the permission is back, so it is asked again, at
//! ever longer intervals. Once it accepts, the connection is made anew: that
//! renews all subscriptions before anything else, and who serves on it begins
//! as after any loss of the bus.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_nats::Client;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use crate::connect::ConnectionState;

/// Between two questions at first, and at most. Somebody changes a
/// configuration and wants to see that it works; a question costs one message
/// for each subject.
const ASK_FIRST: Duration = Duration::from_secs(1);
const ASK_CAP: Duration = Duration::from_secs(30);

/// How long a refusal may take, from the server and through the client. A
/// server that is slower is asked again after a connection for nothing.
const ANSWER: Duration = Duration::from_secs(2);

/// Subjects that are remembered: a connection of the agent of 1,000 hosts
/// may be refused each of them, and the first few say what is wrong.
const SUBJECTS_MAX: usize = 64;

/// Subjects that the server refuses a subscription to, and how often it said
/// so.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Denied(BTreeMap<String, u64>);

impl Denied {
    /// True if the server refuses none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The subjects.
    pub fn subjects(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// True if a subject is new to it.
    pub(crate) fn add(&mut self, subject: &str) -> bool {
        if let Some(times) = self.0.get_mut(subject) {
            *times += 1;
            return false;
        }
        let room = self.0.len() < SUBJECTS_MAX;
        if room {
            self.0.insert(subject.to_owned(), 1);
        }
        room
    }

    pub(crate) fn clear(&mut self) -> bool {
        let some = !self.0.is_empty();
        self.0.clear();
        some
    }
}

/// The subject of a subscription that the server refuses, by its own words:
/// `Permissions Violation for Subscription to "subject"`, and what follows.
pub(crate) fn refused_subject(error: &str) -> Option<&str> {
    let (_, rest) = error.split_once("ermissions Violation for Subscription to \"")?;
    rest.split_once('"').map(|(subject, _)| subject)
}

/// Makes the connection anew when the server accepts what it refused, without
/// end.
pub(crate) async fn regain(client: Client, state: Arc<ConnectionState>) {
    let mut denied = state.denied.subscribe();
    let mut attempt: u32 = 0;
    loop {
        let began = Instant::now();
        if denied.wait_for(|denied| !denied.is_empty()).await.is_err() {
            return;
        }
        if began.elapsed() > ASK_CAP {
            attempt = 0;
        }
        let window = ASK_FIRST.saturating_mul(2_u32.saturating_pow(attempt));
        let window = window.min(ASK_CAP);
        attempt = attempt.saturating_add(1);
        // A fleet that was refused together doesn't ask together.
        sleep(window.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
        let before = denied.borrow_and_update().clone();
        let stands = *state.connected.borrow();
        if stands && !before.is_empty() && accepts_any(&client, &mut denied, &before).await {
            tracing::info!("NATS accepts a subscription that it refused; connecting anew");
            // Fails only where the connection is closed.
            let _ = client.force_reconnect().await;
        }
    }
}

/// Asks for what was refused. True if the server doesn't refuse all of it
/// again.
async fn accepts_any(
    client: &Client,
    denied: &mut watch::Receiver<Denied>,
    before: &Denied,
) -> bool {
    // They end with this function. What comes meanwhile is lost, as it was
    // before: whoever serves begins anew with the connection.
    let mut asked = Vec::new();
    for subject in before.subjects() {
        match client.subscribe(subject.to_owned()).await {
            Ok(subscriber) => asked.push(subscriber),
            Err(_) => return false,
        }
    }
    let again = denied.wait_for(|now| {
        now.is_empty()
            || before
                .0
                .iter()
                .all(|(subject, times)| now.0.get(subject) > Some(times))
    });
    timeout(ANSWER, again).await.is_err()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_subject_is_read_from_the_server_s_words() {
        let plain = "nats: Permissions Violation for Subscription to \"dvs.v1.agent.h1.*\"";
        assert_eq!(refused_subject(plain), Some("dvs.v1.agent.h1.*"));
        let queue = "Permissions Violation for Subscription to \"a.b\" using queue \"q\"";
        assert_eq!(refused_subject(queue), Some("a.b"));
        let publish = "Permissions Violation for Publish to \"a.b\"";
        assert_eq!(refused_subject(publish), None);
    }

    #[test]
    fn few_subjects_are_remembered() {
        let mut denied = Denied::default();
        assert!(denied.add("a"));
        assert!(!denied.add("a"), "it is known");
        for number in 0..1000 {
            denied.add(&number.to_string());
        }
        assert_eq!(denied.subjects().count(), SUBJECTS_MAX);
        assert!(denied.clear());
        assert!(!denied.clear());
    }
}
