// SPDX-License-Identifier: Apache-2.0
//! An operator on a plain NATS connection: what the `nats` command line sends
//! and sees, byte for byte.

use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use async_nats::Client;
use serde_json::{Value, json};

/// Longer than any bound that a test asks for; ends a test that hangs.
const PATIENCE: Duration = Duration::from_secs(60);

/// What came back.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The body, read in the format it came in.
    pub body: Value,
    /// `Nats-Service-Error-Code`, if the service refused.
    pub error_code: Option<String>,
    /// The bytes as they came.
    pub raw: Vec<u8>,
}

impl Answer {
    /// The body of an answer that is no refusal.
    ///
    /// # Errors
    /// It is one.
    pub fn ok(self) -> Result<Value> {
        match self.error_code {
            None => Ok(self.body),
            Some(code) => bail!("refused with {code}: {}", self.body),
        }
    }

    /// The problem of a refusal.
    ///
    /// # Errors
    /// It is none.
    pub fn problem(self) -> Result<Value> {
        match self.error_code {
            Some(_) => Ok(self.body["error"].clone()),
            None => bail!("not refused: {}", self.body),
        }
    }
}

/// A connection with the operator's rights.
#[derive(Debug, Clone)]
pub struct Operator {
    client: Client,
}

impl Operator {
    /// Wraps a connection.
    #[must_use]
    pub fn new(client: Client) -> Self {
        Self { client }
    }

    /// The connection.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Sends bytes and awaits one answer.
    ///
    /// # Errors
    /// Nobody listens, or no answer came.
    pub async fn send(&self, subject: &str, payload: impl Into<Vec<u8>>) -> Result<Answer> {
        let request = async_nats::Request::new()
            .payload(payload.into().into())
            .timeout(Some(PATIENCE));
        let message = self
            .client
            .send_request(subject.to_owned(), request)
            .await
            .with_context(|| format!("no answer on {subject}"))?;
        let error_code = message
            .headers
            .as_ref()
            .and_then(|headers| headers.get("Nats-Service-Error-Code"))
            .map(ToString::to_string);
        let raw = message.payload.to_vec();
        let body = match raw.first() {
            Some(b'{' | b'[') => serde_json::from_slice(&raw)?,
            Some(_) => rmp_serde::from_slice(&raw)?,
            None => return Err(anyhow!("an empty answer on {subject}")),
        };
        Ok(Answer {
            body,
            error_code,
            raw,
        })
    }

    /// `nats req SUBJECT TEXT`.
    ///
    /// # Errors
    /// As [`Self::send`].
    pub async fn ask(&self, subject: &str, text: &Value) -> Result<Answer> {
        self.send(subject, text.to_string()).await
    }

    /// Applies documents.
    ///
    /// # Errors
    /// Refused, or no answer.
    pub async fn apply(&self, documents: &Value) -> Result<Value> {
        self.ask(dvs_schemas::subjects::CONFIG_APPLY, documents)
            .await?
            .ok()
    }

    /// Applies documents and waits until the hosts have them.
    ///
    /// # Errors
    /// Refused, or no answer. Lagging hosts are no error.
    pub async fn apply_and_wait(&self, documents: Value, timeout: &str) -> Result<Value> {
        self.apply(&json!({"documents": documents, "wait": "applied", "timeout": timeout}))
            .await
    }

    /// Everything in the store, page by page: the items.
    ///
    /// # Errors
    /// Refused, or no answer.
    pub async fn objects(&self) -> Result<Vec<Value>> {
        self.pages(dvs_schemas::subjects::CONFIG_GET, "items").await
    }

    /// All hosts as the publisher knows them.
    ///
    /// # Errors
    /// Refused, or no answer.
    pub async fn hosts(&self) -> Result<Vec<Value>> {
        self.pages(dvs_schemas::subjects::HOST_LIST, "hosts").await
    }

    /// All out-of-sync entries.
    ///
    /// # Errors
    /// Refused, or no answer.
    pub async fn out_of_sync(&self) -> Result<Vec<Value>> {
        self.pages(dvs_schemas::subjects::RETRY_LIST, "out_of_sync")
            .await
    }

    /// All rip entries.
    ///
    /// # Errors
    /// Refused, or no answer.
    pub async fn rip_queue(&self) -> Result<Vec<Value>> {
        self.pages(dvs_schemas::subjects::RETRY_LIST, "rip").await
    }

    /// The runtime state of all ports, as the collector has it.
    ///
    /// # Errors
    /// Refused, or no answer.
    pub async fn runtime(&self) -> Result<Vec<Value>> {
        self.pages(dvs_schemas::subjects::RUNTIME_LIST, "ports")
            .await
    }

    async fn pages(&self, subject: &str, list: &str) -> Result<Vec<Value>> {
        let mut all = Vec::new();
        let mut request = json!({});
        loop {
            let reply = self.ask(subject, &request).await?.ok()?;
            let Some(items) = reply[list].as_array() else {
                bail!("no {list} in {reply}");
            };
            all.extend(items.iter().cloned());
            match reply.get("next") {
                Some(next) if !next.is_null() => request = json!({ "after": next }),
                Some(_) | None => return Ok(all),
            }
        }
    }
}
