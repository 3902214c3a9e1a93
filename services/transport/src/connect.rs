// SPDX-License-Identifier: Apache-2.0
//! Opens the connection: credentials, TLS, reconnecting, and the events that
//! say how the connection fares.

use std::path::Path;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_nats::{ConnectOptions, Event, ServerAddr};
use dvs_schemas::ids::HostName;
use percent_encoding::percent_decode_str;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::bus::Bus;
use crate::counters::BusCounters;
use crate::denied::{Denied, refused_subject};
use crate::error::Error;
use crate::settings::{Auth, ConnectArgs, Settings};

/// A dead peer is noticed after two pings without a pong and one more
/// interval, so after at most 30 s; the client's own 60 s would take minutes.
pub(crate) const PING_INTERVAL: Duration = Duration::from_secs(10);

/// First window of the reconnect delay. A restarting nats-server is away for
/// about this long, so the first attempt seldom comes for nothing, and 1,000
/// hosts spread over it arrive at 2 per millisecond.
const RECONNECT_FIRST: Duration = Duration::from_millis(500);

/// Largest window of the reconnect delay: what a user with 6,000 clients
/// needed to get through a server's CPU limit (nats.node issue 533), and the
/// longest an operator waits for a host after an outage.
const RECONNECT_CAP: Duration = Duration::from_secs(10);

/// Messages that may wait for one subscription: the answers of 10,000 hosts to
/// six changes at once. The queue takes memory only as it fills: up to 200
/// bytes a message, so 13 MB at the very most, and the payloads. Those of
/// answers are small; requests, which may have 1 MiB each, don't wait here but
/// with [`crate::endpoint`], which counts their bytes.
const SUBSCRIPTION_CAPACITY: usize = 65_536;

/// Commands (publishes above all) that may wait for the connection's task. It
/// is what bounds the publishes in flight: pipelined a thousand deep, while a
/// stalled server costs no more than this many references to payloads.
const COMMAND_CAPACITY: usize = 2_048;

/// Who connects: what `nats server report connections` shows, and the subjects
/// that are this user's alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Name of the connection.
    pub name: String,
    /// Prefix of the inboxes, which the user may subscribe to. None: the
    /// context's, else `_INBOX`.
    pub inbox_prefix: Option<String>,
    /// A subject that this user may publish on and nobody listens to. The
    /// server says so at once, which makes the round trip that proves what
    /// was sent before it has arrived; the protocol has no other that every
    /// user is allowed.
    pub probe: String,
}

impl Identity {
    /// A service, `role` being its user: inboxes below `_INBOX.<role>`.
    #[must_use]
    pub fn service(role: &str) -> Self {
        let inbox = format!("_INBOX.{role}");
        Self {
            name: role.to_owned(),
            probe: format!("{inbox}.probe"),
            inbox_prefix: Some(inbox),
        }
    }

    /// The agent of `host`: inboxes below `_INBOX.agent.<host>`.
    #[must_use]
    pub fn agent(host: &HostName) -> Self {
        Self {
            name: format!("host-agent {host}"),
            inbox_prefix: Some(format!("_INBOX.agent.{host}")),
            probe: format!("dvs.v1.reply.{host}.probe.0"),
        }
    }

    /// A person's tool called `name`, with the inboxes of the context.
    #[must_use]
    pub fn operator(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            inbox_prefix: None,
            probe: "dvs.v1.probe".to_owned(),
        }
    }
}

/// Connects. A server that isn't there yet is tried again and again in the
/// background; [`Bus::connected`] and [`Bus::reach`] tell when it is.
///
/// # Errors
/// Settings that can't be used: no such context, unreadable credentials, an
/// address that is none.
pub async fn connect(args: &ConnectArgs, identity: Identity) -> Result<Bus, Error> {
    let settings = Settings::resolve(args)?;
    let shown = settings.servers_shown();
    let servers = addresses(&settings)?;
    let state = ConnectionState::new();
    let inbox_prefix = identity
        .inbox_prefix
        .or_else(|| settings.inbox_prefix.clone())
        .unwrap_or_else(|| "_INBOX".to_owned());
    let options = secured(
        authenticated(ConnectOptions::new(), &settings, &servers)?,
        &settings,
    )
    .name(&identity.name)
    .custom_inbox_prefix(inbox_prefix)
    .retry_on_initial_connect()
    .ping_interval(PING_INTERVAL)
    .subscription_capacity(SUBSCRIPTION_CAPACITY)
    .client_capacity(COMMAND_CAPACITY)
    .reconnect_delay_callback({
        let state = state.clone();
        move |attempt| reconnect_delay(attempt, state.was_connected.load(Ordering::Relaxed))
    })
    .event_callback({
        let state = state.clone();
        let shown: Arc<str> = shown.as_str().into();
        move |event| {
            state.on_event(&event, &shown);
            std::future::ready(())
        }
    });
    let client = options
        .connect(servers)
        .await
        .map_err(|source| Error::Server {
            servers: shown.clone(),
            source: Box::new(source),
        })?;
    Ok(Bus::start(client, state, shown, identity.probe).await)
}

fn addresses(settings: &Settings) -> Result<Vec<ServerAddr>, Error> {
    settings
        .servers
        .split(',')
        .map(|server| server.trim().parse())
        .collect::<Result<_, _>>()
        .map_err(|source: std::io::Error| Error::Server {
            servers: settings.servers_shown(),
            source: Box::new(source),
        })
}

fn authenticated(
    options: ConnectOptions,
    settings: &Settings,
    servers: &[ServerAddr],
) -> Result<ConnectOptions, Error> {
    Ok(match &settings.auth {
        Auth::Creds(path) => {
            let text = read(path, "the credentials file")?;
            options.credentials(&text).map_err(|source| Error::File {
                what: "the credentials file",
                path: path.clone(),
                source,
            })?
        }
        Auth::Nkey(path) => options.nkey(seed(path)?),
        Auth::Password { user, password } => {
            options.user_and_password(user.clone(), password.reveal().to_owned())
        }
        Auth::Token(token) => options.token(token.reveal().to_owned()),
        Auth::Jwt { jwt, seed } => {
            let text = format!(
                "-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n\
                 -----BEGIN USER NKEY SEED-----\n{}\n------END USER NKEY SEED------\n",
                seed.reveal()
            );
            options
                .credentials(&text)
                .map_err(|source| Error::ContextJwt { source })?
        }
        // The client leaves users and passwords in addresses unused.
        Auth::Open => {
            let plain = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
            let user = |server: &ServerAddr| {
                Some((plain(server.username()?), server.password().map(plain)))
            };
            match servers.iter().find_map(user) {
                Some((user, Some(password))) => options.user_and_password(user, password),
                Some((token, None)) => options.token(token),
                None => options,
            }
        }
    })
}

fn secured(mut options: ConnectOptions, settings: &Settings) -> ConnectOptions {
    if let Some(ca) = &settings.ca {
        options = options.add_root_certificates(ca.clone()).require_tls(true);
    }
    if let Some((cert, key)) = &settings.client {
        options = options
            .add_client_certificate(cert.clone(), key.clone())
            .require_tls(true);
    }
    if settings.tls_first {
        options = options.tls_first();
    }
    options
}

fn read(path: &Path, what: &'static str) -> Result<String, Error> {
    std::fs::read_to_string(path).map_err(|source| Error::File {
        what,
        path: path.to_owned(),
        source,
    })
}

/// The user seed in a file; other lines (comments, markers) are let pass, as
/// the `nats` command line does.
fn seed(path: &Path) -> Result<String, Error> {
    read(path, "the nkey seed")?
        .lines()
        .map(str::trim)
        .find(|line| line.starts_with("SU") && nkeys::KeyPair::from_seed(line).is_ok())
        .map(str::to_owned)
        .ok_or_else(|| Error::Seed {
            path: path.to_owned(),
        })
}

/// Full jitter: anything up to a window that doubles with each attempt, so a
/// fleet that lost its server comes back spread out. The very first attempt of
/// a process waits for nothing.
fn reconnect_delay(attempt: usize, was_connected: bool) -> Duration {
    if attempt <= 1 && !was_connected {
        return Duration::ZERO;
    }
    let doublings = u32::try_from(attempt.saturating_sub(1)).unwrap_or(u32::MAX);
    let window = RECONNECT_FIRST
        .saturating_mul(2_u32.saturating_pow(doublings))
        .min(RECONNECT_CAP);
    window.mul_f64(fastrand::f64())
}

/// What the client's events say, shared between its callbacks and the [`Bus`].
#[derive(Debug)]
pub(crate) struct ConnectionState {
    pub(crate) connected: watch::Sender<bool>,
    /// What this connection was refused.
    pub(crate) denied: watch::Sender<Denied>,
    pub(crate) closed: CancellationToken,
    pub(crate) counters: BusCounters,
    pub(crate) last_error: Mutex<Option<String>>,
    was_connected: AtomicBool,
}

impl ConnectionState {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            connected: watch::Sender::new(false),
            denied: watch::Sender::default(),
            closed: CancellationToken::new(),
            counters: BusCounters::default(),
            last_error: Mutex::new(None),
            was_connected: AtomicBool::new(false),
        })
    }

    fn on_event(&self, event: &Event, servers: &str) {
        match event {
            Event::Connected => {
                self.counters.connected();
                self.was_connected.store(true, Ordering::Relaxed);
                self.remember(None);
                // All is asked for again.
                self.denied.send_if_modified(Denied::clear);
                self.connected.send_replace(true);
                tracing::info!(servers, "connected to NATS");
            }
            Event::Disconnected => {
                self.connected.send_replace(false);
                tracing::warn!(servers, "connection to NATS lost; reconnecting");
            }
            Event::Closed => {
                self.connected.send_replace(false);
                self.closed.cancel();
            }
            Event::SlowConsumer(_) => self.counters.slow_consumer(),
            Event::ServerError(error) => self.on_server_error(&error.to_string(), servers),
            Event::ClientError(error) => self.on_error(error.to_string(), servers),
            Event::LameDuckMode => tracing::info!(servers, "NATS server announces its stop"),
            Event::Draining => {}
        }
    }

    fn on_server_error(&self, error: &str, servers: &str) {
        let Some(subject) = refused_subject(error) else {
            return self.on_error(error.to_owned(), servers);
        };
        self.counters.error();
        let mut is_new = false;
        self.denied
            .send_modify(|denied| is_new = denied.add(subject));
        if is_new {
            tracing::warn!(
                servers,
                subject,
                "NATS refuses a subscription; allow it for this user, it is asked for again"
            );
        }
    }

    /// Logs an error once, not at each of its repetitions: a server that is
    /// away fails every attempt in the same way.
    fn on_error(&self, error: String, servers: &str) {
        self.counters.error();
        if self.remember(Some(error.clone())) {
            tracing::warn!(servers, %error, "NATS");
        }
    }

    /// Whether the error is another than the last one.
    fn remember(&self, error: Option<String>) -> bool {
        let mut last = self
            .last_error
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let new = *last != error;
        *last = error;
        new
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_first_attempt_of_a_process_waits_for_nothing() {
        assert_eq!(reconnect_delay(1, false), Duration::ZERO);
    }

    #[test]
    fn reconnect_delays_stay_in_their_window_and_under_the_cap() {
        for attempt in [1, 2, 3, 10, 64, usize::MAX] {
            for _ in 0..100 {
                let delay = reconnect_delay(attempt, true);
                let doublings = i32::try_from(attempt.min(30)).unwrap() - 1;
                let window = RECONNECT_FIRST
                    .mul_f64(2_f64.powi(doublings))
                    .min(RECONNECT_CAP);
                assert!(delay <= window, "attempt {attempt}: {delay:?} > {window:?}");
            }
        }
    }

    #[test]
    fn reconnect_delays_differ() {
        let delays: std::collections::HashSet<_> =
            (0..20).map(|_| reconnect_delay(8, true)).collect();
        assert!(delays.len() > 10);
    }

    #[test]
    fn a_seed_is_found_among_comments_and_checked() {
        let dir = tempfile::tempdir().unwrap();
        let user = nkeys::KeyPair::new_user().seed().unwrap();
        let good = dir.path().join("good.nk");
        std::fs::write(&good, format!("# made by dvsctl\n{user}\n")).unwrap();
        assert_eq!(seed(&good).unwrap(), user);
        let bad = dir.path().join("bad.nk");
        std::fs::write(&bad, "SUAAAA\n").unwrap();
        assert!(matches!(seed(&bad), Err(Error::Seed { .. })));
        assert!(matches!(
            seed(&dir.path().join("absent")),
            Err(Error::File { .. })
        ));
    }

    #[test]
    fn a_context_s_jwt_needs_its_seed_and_both_make_credentials() {
        let settings = |seed: &str| Settings {
            servers: "nats://127.0.0.1".into(),
            auth: Auth::Jwt {
                jwt: "e30.e30.AAAA".into(),
                seed: seed.parse().unwrap(),
            },
            ca: None,
            client: None,
            tls_first: false,
            inbox_prefix: None,
        };
        let user = nkeys::KeyPair::new_user().seed().unwrap();
        assert!(authenticated(ConnectOptions::new(), &settings(&user), &[]).is_ok());
        let refused = authenticated(ConnectOptions::new(), &settings("SUAAAA"), &[]);
        assert!(matches!(refused, Err(Error::ContextJwt { .. })));
    }
}
