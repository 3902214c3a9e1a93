// SPDX-License-Identifier: Apache-2.0
//! The floors: the same traffic with bare async-nats and nothing else. The raw
//! hosts live in a process of their own with as many connections as the agents
//! have, so that both sides pay the same for the bus.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use async_nats::{Client, Subscriber};
use dvs_ledger::{Ledger, LedgerSpec, Table, Writes};
use futures_util::StreamExt;

/// Replicas per connection; the same as host-agent's.
const HOSTS_PER_CONNECTION: u32 = 1_000;
/// Replies in flight: the whole fleet may answer at once.
const CAPACITY: usize = 65_536;
const PATIENCE: Duration = Duration::from_secs(60);

fn options() -> async_nats::ConnectOptions {
    async_nats::ConnectOptions::new().subscription_capacity(CAPACITY)
}

/// The raw hosts' own process: every host has a subscription to the fan-out
/// and one to its own subject, and answers each message with `reply` bytes.
/// Runs until it is killed.
///
/// # Errors
/// The bus refuses.
pub async fn run_raw_hosts(url: &str, hosts: u32, reply: usize) -> Result<()> {
    let payload = bytes::Bytes::from(vec![b'r'; reply]);
    let mut clients = Vec::new();
    for first in (0..hosts).step_by(HOSTS_PER_CONNECTION as usize) {
        let client = options().connect(url).await?;
        for host in first..hosts.min(first + HOSTS_PER_CONNECTION) {
            for subject in ["raw.all".to_owned(), format!("raw.host.{host}")] {
                let subscriber = client.subscribe(subject).await?;
                tokio::spawn(answer(client.clone(), subscriber, payload.clone()));
            }
        }
        clients.push(client);
    }
    // A round trip per connection proves its subscriptions.
    for client in &clients {
        let mut ready = client.subscribe(client.new_inbox()).await?;
        ready.unsubscribe().await?;
        client.flush().await?;
    }
    let ready = clients.first().context("no hosts")?;
    loop {
        ready.publish("raw.ready", "".into()).await?;
        ready.flush().await?;
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

async fn answer(client: Client, mut subscriber: Subscriber, payload: bytes::Bytes) {
    while let Some(message) = subscriber.next().await {
        if let Some(reply) = message.reply
            && client.publish(reply, payload.clone()).await.is_err()
        {
            return;
        }
    }
}

/// The asker of the raw hosts.
#[derive(Debug)]
pub struct RawHosts {
    child: Child,
    client: Client,
    replies: Subscriber,
    hosts: u32,
}

impl RawHosts {
    /// Starts the raw hosts and waits until all of them answer.
    ///
    /// # Errors
    /// They don't.
    pub async fn start(url: &str, hosts: u32, reply: usize) -> Result<Self> {
        let client = options().connect(url).await?;
        let mut ready = client.subscribe("raw.ready").await?;
        let replies = client.subscribe("raw.reply").await?;
        client.flush().await?;
        let child = Command::new(std::env::current_exe()?)
            .args(["raw-hosts", "--url", url])
            .args(["--hosts", &hosts.to_string(), "--reply", &reply.to_string()])
            .stdin(Stdio::null())
            .spawn()?;
        let mut raw = Self {
            child,
            client,
            replies,
            hosts,
        };
        tokio::time::timeout(PATIENCE, ready.next())
            .await
            .context("the raw hosts did not come")?;
        raw.scatter(&[0; 16]).await?;
        Ok(raw)
    }

    /// One publish, one reply from every host.
    ///
    /// # Errors
    /// Replies are missing.
    pub async fn scatter(&mut self, bytes: &[u8]) -> Result<Duration> {
        let payload = bytes::Bytes::copy_from_slice(bytes);
        let began = Instant::now();
        self.client
            .publish_with_reply("raw.all", "raw.reply", payload)
            .await?;
        self.await_replies(self.hosts).await?;
        Ok(began.elapsed())
    }

    /// One request per host, pipelined, the hosts' replies counted as they
    /// come.
    ///
    /// # Errors
    /// Replies are missing.
    pub async fn pipelined(&mut self, hosts: u32, bytes: usize) -> Result<Duration> {
        let payload = bytes::Bytes::from(vec![b'p'; bytes]);
        let began = Instant::now();
        let client = self.client.clone();
        let sender = tokio::spawn(async move {
            for host in 0..hosts {
                client
                    .publish_with_reply(format!("raw.host.{host}"), "raw.reply", payload.clone())
                    .await?;
            }
            anyhow::Ok(())
        });
        self.await_replies(hosts).await?;
        sender.await??;
        Ok(began.elapsed())
    }

    /// One round trip to one host.
    ///
    /// # Errors
    /// No reply.
    pub async fn round_trip(&mut self, bytes: usize) -> Result<Duration> {
        self.pipelined(1, bytes).await
    }

    async fn await_replies(&mut self, count: u32) -> Result<()> {
        let all = async {
            for _ in 0..count {
                if self.replies.next().await.is_none() {
                    bail!("the bus is gone");
                }
            }
            Ok(())
        };
        tokio::time::timeout(PATIENCE, all)
            .await
            .context("raw replies are missing")?
    }
}

impl Drop for RawHosts {
    fn drop(&mut self) {
        // Nothing is left to do about a process that can't be killed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One durable commit of one small entry, on the disk that the fleet uses.
#[derive(Debug)]
pub struct RawCommit {
    ledger: Ledger,
    count: u64,
}

const ENTRIES: Table = Table("entries");

impl RawCommit {
    /// Makes an empty ledger in a folder.
    ///
    /// # Errors
    /// It can't be made.
    pub fn start(folder: &std::path::Path) -> Result<Self> {
        let spec = LedgerSpec {
            service: "floor",
            version: 1,
            tables: &[ENTRIES],
        };
        Ok(Self {
            ledger: Ledger::open(&folder.join("floor.redb"), spec)?,
            count: 0,
        })
    }

    /// Commits.
    ///
    /// # Errors
    /// The disk fails.
    pub fn commit(&mut self) -> Result<Duration> {
        self.count += 1;
        let mut writes = Writes::default();
        writes.put(ENTRIES, "entry", &vec![self.count; 16]);
        let began = Instant::now();
        self.ledger.commit(&writes)?;
        Ok(began.elapsed())
    }
}
