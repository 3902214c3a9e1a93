// SPDX-License-Identifier: Apache-2.0
//! One connection to a database server, with a copy of what is of interest.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use futures_util::StreamExt;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::io::{AsyncWriteExt, ReadHalf, WriteHalf, split};
use tokio::time::{Instant, sleep_until, timeout_at};
use tokio_util::codec::FramedRead;

use crate::atom::{ValueError, quote};
use crate::cache::{Cache, CacheError, RowChange};
use crate::endpoint::{Endpoint, Stream, TlsFiles};
use crate::error::{OpenError, SessionError, TransactError};
use crate::frame::Framing;
use crate::message::{self, Message};
use crate::schema::{Columns, Schema};
use crate::transaction::{Outcome, Transaction};

/// Largest message: a snapshot of 100,000 interfaces with their statistics has
/// some 100 MB.
const LARGEST: usize = 512 * 1024 * 1024;

/// The monitor's name. A connection has one.
const MONITOR: &str = "dvs";

/// Tables and columns of which a copy is kept.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted(BTreeMap<&'static str, Vec<&'static str>>);

impl Wanted {
    /// Nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// These columns of a table, too.
    #[must_use]
    pub fn table<const N: usize>(
        mut self,
        table: &'static str,
        columns: [&'static str; N],
    ) -> Self {
        self.0.entry(table).or_default().extend(columns);
        self
    }
}

/// Which database, and how it is spoken with.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where it is.
    pub endpoint: Endpoint,
    /// The files of TLS, where it is spoken.
    pub tls: Option<TlsFiles>,
    /// Its name, like `Open_vSwitch`.
    pub database: String,
    /// What of it is copied.
    pub wanted: Wanted,
    /// How long each answer may take, and the whole beginning.
    pub patience: Duration,
    /// After so much silence the server is asked whether it lives; after as
    /// much again it is given up.
    pub probe: Duration,
}

/// A connection with a copy. One owner; nothing happens but within its calls.
pub struct Session {
    reader: FramedRead<ReadHalf<Box<dyn Stream>>, Framing>,
    writer: WriteHalf<Box<dyn Stream>>,
    /// What is to be sent: written as the server takes it, while what it sends
    /// is read, or two large messages would wait for each other.
    outgoing: BytesMut,
    flushed: bool,
    database: String,
    patience: Duration,
    probe: Duration,
    /// Bytes that had come, and when that was looked at.
    heard: (u64, Instant),
    probing: bool,
    requests: u64,
    schema: Schema,
    cache: Cache,
    /// Changes that nobody has asked for yet: as many as rows changed since.
    changes: VecDeque<RowChange>,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session")
            .field("database", &self.database)
            .field("requests", &self.requests)
            .finish_non_exhaustive()
    }
}

/// One thing that a session waits for.
enum Step {
    Message(Message),
    /// Bytes left, or time passed.
    Nothing,
}

impl Session {
    /// Connects and returns with the whole copy.
    ///
    /// # Errors
    /// Why there is no session; nothing stays open.
    pub async fn open(options: &Options) -> Result<Self, OpenError> {
        let deadline = Instant::now() + options.patience;
        let opening = Self::begin(options);
        match timeout_at(deadline, opening).await {
            Ok(opened) => opened,
            Err(_) => Err(OpenError::Late {
                endpoint: options.endpoint.clone(),
                patience: options.patience,
            }),
        }
    }

    async fn begin(options: &Options) -> Result<Self, OpenError> {
        let endpoint = || options.endpoint.clone();
        let stream = options.endpoint.connect(options.tls.as_ref()).await;
        let stream = stream.map_err(|source| OpenError::Connect {
            endpoint: endpoint(),
            source,
        })?;
        let (reader, writer) = split(stream);
        let mut session = Self {
            reader: FramedRead::new(reader, Framing::new(LARGEST)),
            writer,
            outgoing: BytesMut::new(),
            flushed: true,
            database: options.database.clone(),
            patience: options.patience,
            probe: options.probe,
            heard: (0, Instant::now()),
            probing: false,
            requests: 0,
            schema: Schema {
                name: options.database.clone(),
                version: None,
                tables: BTreeMap::new(),
            },
            cache: Cache::default(),
            changes: VecDeque::new(),
        };
        let refused = |method| {
            move |reason: Value| OpenError::Refused {
                endpoint: endpoint(),
                database: options.database.clone(),
                method,
                reason: quote(&reason),
            }
        };
        let schema = session.ask("get_schema", &[&options.database]).await?;
        let schema = schema.map_err(refused("get_schema"))?;
        session.schema = Schema::from_json(schema)?;
        let tables = session.tables(&options.wanted)?;
        let columns = |columns: &Columns| {
            let names: Vec<&Arc<str>> = columns.keys().collect();
            json!([{ "columns": names.iter().map(|name| &***name).collect::<Vec<_>>() }])
        };
        let requests: BTreeMap<&str, Value> = tables
            .iter()
            .map(|(table, of)| (&**table, columns(of)))
            .collect();
        session.cache = Cache::new(tables.clone());
        let params = (&options.database, MONITOR, requests);
        let snapshot = session.ask("monitor_cond", &params).await?;
        let snapshot = snapshot.map_err(refused("monitor_cond"))?;
        session.cache.update(snapshot).map_err(SessionError::from)?;
        Ok(session)
    }

    /// The columns that are wanted, with their types.
    fn tables(&self, wanted: &Wanted) -> Result<BTreeMap<Arc<str>, Columns>, OpenError> {
        let mut tables = BTreeMap::new();
        for (table, columns) in &wanted.0 {
            let known = self.schema.tables.get_key_value(*table);
            let (name, known) = known.ok_or_else(|| OpenError::Lacks(format!("table {table}")))?;
            let column = |column: &&'static str| {
                let found = known.get_key_value(*column);
                let lacks = || OpenError::Lacks(format!("column {column} in table {table}"));
                let (name, kind) = found.ok_or_else(lacks)?;
                Ok((name.clone(), *kind))
            };
            let columns: Result<Columns, OpenError> = columns.iter().map(column).collect();
            tables.insert(name.clone(), columns?);
        }
        Ok(tables)
    }

    /// The copy, with all that has come.
    #[must_use]
    pub fn cache(&self) -> &Cache {
        &self.cache
    }

    /// The database's schema.
    #[must_use]
    pub fn schema(&self) -> &Schema {
        &self.schema
    }

    /// Waits for changes; they are in the copy already. Cancel-safe.
    ///
    /// # Errors
    /// The session is over.
    pub async fn changed(&mut self) -> Result<Vec<RowChange>, SessionError> {
        while self.changes.is_empty() {
            if let Step::Message(message) = self.step().await? {
                self.take(message)?;
            }
        }
        Ok(self.take_changes())
    }

    /// What has changed by now and was not answered yet, without waiting: for
    /// who goes by the copy before [`Self::changed`] is asked again.
    pub fn take_changes(&mut self) -> Vec<RowChange> {
        std::mem::take(&mut self.changes).into()
    }

    /// Waits until what others have changed by now is in the copy.
    ///
    /// # Errors
    /// The session is over.
    pub async fn catch_up(&mut self) -> Result<(), SessionError> {
        // The server sends one after the other, and answers this last.
        self.ask("echo", &json!([])).await.map(drop)
    }

    /// Carries out a transaction. What others change meanwhile is in the copy,
    /// and among what [`Self::changed`] answers, like what this one changes.
    ///
    /// # Errors
    /// It is refused, or the session is over.
    pub async fn transact(
        &mut self,
        transaction: &Transaction,
    ) -> Result<Vec<Outcome>, TransactError> {
        let method = "transact";
        let database = self.database.clone();
        let reply = self.ask(method, &transaction.on(&database)).await?;
        let refused = |operation, error: &Value, details: Option<&Value>| {
            let text = |value: &Value| value.as_str().map_or_else(|| quote(value), str::to_owned);
            TransactError::Refused {
                operation,
                error: text(error),
                details: details.map(text),
            }
        };
        let results = match reply {
            Ok(Value::Array(results)) => results,
            Ok(other) => {
                let reason = quote(&other);
                return Err(SessionError::Answer { method, reason }.into());
            }
            Err(error) => return Err(refused(None, &error, None)),
        };
        for (number, result) in results.iter().enumerate() {
            if let Some(error) = result.get("error") {
                let table = transaction.table(number);
                let operation = table.map(|table| (number, table));
                return Err(refused(operation, error, result.get("details")));
            }
        }
        let unreadable = |error: ValueError| SessionError::Answer {
            method,
            reason: error.to_string(),
        };
        let outcomes = results
            .iter()
            .take(transaction.len())
            .map(Outcome::from_json);
        let outcomes: Result<Vec<Outcome>, ValueError> = outcomes.collect();
        Ok(outcomes.map_err(unreadable)?)
    }

    /// Waits until the copy is like that, or until the deadline. False if it
    /// is not by then.
    ///
    /// # Errors
    /// The session is over.
    pub async fn wait_until(
        &mut self,
        deadline: Instant,
        mut holds: impl FnMut(&Cache) -> bool,
    ) -> Result<bool, SessionError> {
        while !holds(&self.cache) {
            match self.step_until(deadline).await? {
                Some(Step::Message(message)) => self.take(message)?,
                Some(Step::Nothing) => {}
                None => return Ok(false),
            }
        }
        Ok(true)
    }

    /// Sends a request and waits for its reply; an `Err` within is the
    /// server's.
    async fn ask(
        &mut self,
        method: &'static str,
        params: &impl Serialize,
    ) -> Result<Result<Value, Value>, SessionError> {
        self.requests += 1;
        let id = self.requests;
        let request = message::request(id, method, params);
        let request = request.map_err(|error| SessionError::Answer {
            method,
            reason: error.to_string(),
        })?;
        self.outgoing.extend_from_slice(&request);
        let deadline = Instant::now() + self.patience;
        loop {
            match self.step_until(deadline).await? {
                None => return Err(SessionError::Late(self.patience)),
                Some(Step::Message(Message::Reply { id: of, outcome })) if of == id => {
                    return Ok(outcome);
                }
                Some(Step::Message(message)) => self.take(message)?,
                Some(Step::Nothing) => {}
            }
        }
    }

    /// Waits for one thing until then; none if it is too late. Where messages
    /// come without a pause, the time ends as well.
    async fn step_until(&mut self, deadline: Instant) -> Result<Option<Step>, SessionError> {
        match timeout_at(deadline, self.step()).await {
            Ok(step) if Instant::now() <= deadline => step.map(Some),
            Ok(Err(error)) => Err(error),
            Ok(Ok(Step::Message(message))) => self.take(message).map(|()| None),
            Ok(Ok(Step::Nothing)) | Err(_) => Ok(None),
        }
    }

    /// Waits for one thing. Cancel-safe: bytes that were read or written are
    /// accounted for before anything else can happen.
    async fn step(&mut self) -> Result<Step, SessionError> {
        let Self {
            reader,
            writer,
            outgoing,
            flushed,
            probe,
            heard,
            ..
        } = self;
        let due = heard.1 + *probe;
        let unsent = !*flushed || !outgoing.is_empty();
        let write = async {
            if outgoing.is_empty() {
                writer.flush().await.map(|()| true)
            } else {
                writer.write_buf(outgoing).await.map(|_| false)
            }
        };
        tokio::select! {
            // What has come meanwhile is no silence, however late it is looked
            // at.
            biased;
            message = reader.next() => match message {
                None => Err(SessionError::Closed),
                Some(message) => {
                self.heard = (self.reader.decoder().seen(), Instant::now());
                self.probing = false;
                Ok(Step::Message(message?))
            }
            },
            wrote = write, if unsent => {
                *flushed = wrote.map_err(SessionError::Write)?;
                Ok(Step::Nothing)
            }
            () = sleep_until(due) => {
                self.silence()?;
                Ok(Step::Nothing)
            }
        }
    }

    /// Nothing has come for a while; half a message would be something.
    fn silence(&mut self) -> Result<(), SessionError> {
        let seen = self.reader.decoder().seen();
        let spoke = seen != self.heard.0;
        self.heard = (seen, Instant::now());
        if spoke {
            self.probing = false;
        } else if self.probing {
            return Err(SessionError::Silent(self.probe * 2));
        } else {
            self.probing = true;
            let echo = message::request("probe", "echo", &json!([]));
            self.outgoing.extend_from_slice(&echo.unwrap_or_default());
        }
        Ok(())
    }

    /// Takes in what nobody waits for.
    fn take(&mut self, message: Message) -> Result<(), SessionError> {
        match message {
            Message::Request { id, method, params } if method == "echo" => {
                let reply = message::reply(&id, Ok(&params)).unwrap_or_default();
                self.outgoing.extend_from_slice(&reply);
            }
            Message::Request { id, method, .. } => {
                tracing::debug!(method, "the database server asks for what is unknown");
                let reply = message::reply(&id, Err("unknown method")).unwrap_or_default();
                self.outgoing.extend_from_slice(&reply);
            }
            Message::Notification { method, params } if method == "update2" => {
                let Value::Array(params) = params else {
                    return Err(CacheError::Shape(quote(&params)).into());
                };
                let update = params.into_iter().nth(1).unwrap_or(Value::Null);
                self.changes.extend(self.cache.update(update)?);
            }
            Message::Notification { method, .. } if method == "monitor_canceled" => {
                return Err(SessionError::MonitorEnded);
            }
            // Answers to probes, and to what was given up.
            Message::Notification { .. } | Message::Reply { .. } => {}
        }
        Ok(())
    }
}
