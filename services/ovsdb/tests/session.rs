// SPDX-License-Identifier: Apache-2.0
//! A session with a server that does what real ones rarely do: it says
//! nothing, too much, or goes away in the middle. Time is the runtime's own.
#![allow(clippy::unwrap_used, missing_docs)]

use std::time::Duration;

use dvs_ovsdb::{
    CacheError, Datum, Endpoint, Framing, Message, OpenError, Options, Outcome, Row, Session,
    SessionError, TransactError, Transaction, Wanted,
};
use futures_util::StreamExt;
use serde_json::{Value, json};
use tokio::io::{AsyncWriteExt, ReadHalf, WriteHalf, split};
use tokio::net::{UnixListener, UnixStream};
use tokio::time::{Instant, advance, sleep};
use tokio_util::codec::FramedRead;
use uuid::Uuid;

const PATIENCE: Duration = Duration::from_secs(3);
const PROBE: Duration = Duration::from_secs(5);
const ROW: Uuid = Uuid::from_u128(1);

/// The other side of a session.
struct Server {
    requests: FramedRead<ReadHalf<UnixStream>, Framing>,
    writer: WriteHalf<UnixStream>,
}

impl Server {
    async fn send(&mut self, message: Value) {
        self.raw(message.to_string().as_bytes()).await;
    }

    async fn raw(&mut self, bytes: &[u8]) {
        self.writer.write_all(bytes).await.unwrap();
    }

    /// The next request, with its id; None after the last.
    async fn request(&mut self) -> Option<(Value, String, Value)> {
        match self.requests.next().await?.unwrap() {
            Message::Request { id, method, params } => Some((id, method, params)),
            other => panic!("{other:?}"),
        }
    }

    /// Answers the next request, which must be this one.
    async fn answer(&mut self, method: &str, result: Value) {
        let (id, asked, _) = self.request().await.unwrap();
        assert_eq!(asked, method);
        self.send(json!({"id": id, "result": result, "error": null}))
            .await;
    }

    async fn refuse(&mut self, method: &str, error: &str) {
        let (id, asked, _) = self.request().await.unwrap();
        assert_eq!(asked, method);
        self.send(json!({"id": id, "result": null, "error": error}))
            .await;
    }

    async fn update(&mut self, rows: Value) {
        let params = json!(["dvs", {"T": rows}]);
        self.send(json!({"id": null, "method": "update2", "params": params}))
            .await;
    }
}

fn schema() -> Value {
    json!({"name": "Test", "version": "1.0.0", "tables": {"T": {"columns": {
        "name": {"type": "string"},
    }}}})
}

fn row(name: &str) -> Row {
    Row::from_iter([("name", name)])
}

fn options(socket: &std::path::Path, wanted: Wanted) -> Options {
    Options {
        endpoint: Endpoint::Unix(socket.to_owned()),
        tls: None,
        database: "Test".to_owned(),
        wanted,
        patience: PATIENCE,
        probe: PROBE,
    }
}

/// What comes of opening a session, while the server does this.
async fn open<S>(
    wanted: Wanted,
    serve: impl AsyncFnOnce(Server) -> S,
) -> (Result<Session, OpenError>, S) {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("db.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    let serving = async {
        let (stream, _) = listener.accept().await.unwrap();
        let (reader, writer) = split(stream);
        let requests = FramedRead::new(reader, Framing::new(1 << 20));
        serve(Server { requests, writer }).await
    };
    let options = options(&socket, wanted);
    tokio::join!(Session::open(&options), serving)
}

fn names() -> Wanted {
    Wanted::new().table("T", ["name"])
}

/// A session that has one row, and its server.
async fn connected() -> (Session, Server) {
    let (session, server) = open(names(), async |mut server| {
        server.answer("get_schema", schema()).await;
        let snapshot = json!({"T": {ROW.to_string(): {"initial": {"name": "one"}}}});
        server.answer("monitor_cond", snapshot).await;
        server
    })
    .await;
    (session.unwrap(), server)
}

fn transaction() -> Transaction {
    let mut transaction = Transaction::new();
    transaction.update("T", ROW, row("two"));
    transaction
}

#[tokio::test(start_paused = true)]
async fn a_session_begins_with_the_whole_copy() {
    let (session, _server) = connected().await;
    let rows: Vec<_> = session.cache().table("T").iter().collect();
    assert_eq!(rows, [(&ROW, &row("one"))]);
    assert_eq!(session.schema().name, "Test");
}

#[tokio::test(start_paused = true)]
async fn what_a_server_lacks_is_named() {
    for (wanted, expected) in [
        (
            Wanted::new().table("U", ["name"]),
            "the database has no table U; is it an Open vSwitch of 2.6 or later?",
        ),
        (
            Wanted::new().table("T", ["colour"]),
            "the database has no column colour in table T; is it an Open vSwitch of 2.6 or later?",
        ),
    ] {
        let serve = async |mut server: Server| {
            server.answer("get_schema", schema()).await;
        };
        let (session, ()) = open(wanted, serve).await;
        assert_eq!(session.unwrap_err().to_string(), expected);
    }
    let serve = async |mut server: Server| server.refuse("get_schema", "unknown database").await;
    let (session, ()) = open(names(), serve).await;
    let text = session.unwrap_err().to_string();
    let refusal = "refuses get_schema of database Test: \"unknown database\"";
    assert!(text.ends_with(refusal), "{text}");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_does_not_answer_is_late() {
    let began = Instant::now();
    // It listens, and that is all.
    let (session, _server) = open(names(), async |server| server).await;
    assert!(
        matches!(
            session.unwrap_err(),
            OpenError::Late { .. } | OpenError::Session(SessionError::Late(PATIENCE))
        ),
        "late"
    );
    assert_eq!(began.elapsed(), PATIENCE);
    let (mut session, _server) = connected().await;
    let error = session.transact(&transaction()).await.unwrap_err();
    assert!(
        matches!(error, TransactError::Session(SessionError::Late(PATIENCE))),
        "{error}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_server_that_talks_without_pause_is_late_as_well() {
    let (mut session, mut server) = connected().await;
    let chatter = tokio::spawn(async move {
        let told = json!({"id": null, "method": "noise", "params": []}).to_string();
        // Until nobody listens any more.
        while server.writer.write_all(told.as_bytes()).await.is_ok() {
            advance(Duration::from_millis(10)).await;
        }
    });
    let error = session.transact(&transaction()).await.unwrap_err();
    assert!(
        matches!(error, TransactError::Session(SessionError::Late(PATIENCE))),
        "{error}"
    );
    let until = Instant::now() + PATIENCE;
    assert!(!session.wait_until(until, |_| false).await.unwrap());
    drop(session);
    chatter.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn silence_is_asked_about_and_then_the_end() {
    let (mut session, mut server) = connected().await;
    let began = Instant::now();
    let (error, probe) = tokio::join!(session.changed(), server.request());
    assert_eq!(
        probe.unwrap(),
        (json!("probe"), "echo".to_owned(), json!([]))
    );
    let error = error.unwrap_err();
    assert!(matches!(error, SessionError::Silent(_)), "{error}");
    assert_eq!(began.elapsed(), PROBE * 2);
}

#[tokio::test(start_paused = true)]
async fn an_answered_probe_keeps_a_session_up() {
    let (mut session, mut server) = connected().await;
    let serve = async {
        for _ in 0..5 {
            server.answer("echo", json!([])).await;
        }
        let insert = json!({Uuid::from_u128(2).to_string(): {"insert": {"name": "more"}}});
        server.update(insert).await;
    };
    let (changes, ()) = tokio::join!(session.changed(), serve);
    assert_eq!(changes.unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_owner_that_comes_late_finds_what_came_meanwhile() {
    let (mut session, mut server) = connected().await;
    let insert = json!({Uuid::from_u128(2).to_string(): {"insert": {"name": "more"}}});
    server.update(insert).await;
    // Somebody else had the processor.
    advance(PROBE * 5).await;
    assert_eq!(session.changed().await.unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_long_message_on_its_way_is_no_silence() {
    let (mut session, mut server) = connected().await;
    let serve = async {
        server.raw(b"{\"id\":null,\"method\":\"update2\",").await;
        let rest = format!(
            "\"params\":[\"dvs\",{{\"T\":{{\"{ROW}\":{{\"modify\":{{\"name\":\"two\"}}}}}}}}]}}"
        );
        // It takes several times as long as silence may.
        for byte in rest.as_bytes() {
            sleep(PROBE / 2).await;
            server.raw(&[*byte]).await;
        }
    };
    let (changes, ()) = tokio::join!(session.changed(), serve);
    assert_eq!(changes.unwrap().len(), 1);
    assert_eq!(session.cache().row("T", ROW), Some(&row("two")));
}

#[tokio::test(start_paused = true)]
async fn the_server_s_questions_are_answered_whatever_else_is_waited_for() {
    let (mut session, mut server) = connected().await;
    let echo = json!({"id": "e", "method": "echo", "params": ["x", 1]});
    let steal = json!({"id": 7, "method": "steal", "params": []});
    let answered = |message: Option<Result<Message, _>>| -> Message { message.unwrap().unwrap() };
    let reply = |id: Value, outcome| Message::Reply { id, outcome };
    // While nothing is waited for but changes.
    let serve = async {
        server.send(echo.clone()).await;
        server.send(steal.clone()).await;
        let expected = reply(json!("e"), Ok(json!(["x", 1])));
        assert_eq!(answered(server.requests.next().await), expected);
        let expected = reply(json!(7), Err(json!("unknown method")));
        assert_eq!(answered(server.requests.next().await), expected);
        let modify = json!({ROW.to_string(): {"modify": {"name": "two"}}});
        server.update(modify).await;
    };
    let (changes, ()) = tokio::join!(session.changed(), serve);
    assert_eq!(changes.unwrap().len(), 1);
    // And while an answer is.
    let serve = async {
        server.send(echo.clone()).await;
        let (id, method, _) = server.request().await.unwrap();
        assert_eq!(method, "transact");
        let expected = reply(json!("e"), Ok(json!(["x", 1])));
        assert_eq!(answered(server.requests.next().await), expected);
        server
            .send(json!({"id": id, "result": [{"count": 1}], "error": null}))
            .await;
    };
    let transaction = transaction();
    let (outcomes, ()) = tokio::join!(session.transact(&transaction), serve);
    assert_eq!(outcomes.unwrap(), [Outcome::Done(Some(1))]);
}

#[tokio::test(start_paused = true)]
async fn what_a_transaction_changes_is_in_the_copy_when_it_returns() {
    let (mut session, mut server) = connected().await;
    let serve = async {
        let (id, _, params) = server.request().await.unwrap();
        let update = json!({"op": "update", "table": "T",
            "where": [["_uuid", "==", ["uuid", ROW.to_string()]]], "row": {"name": "two"}});
        assert_eq!(params, json!(["Test", update]));
        server
            .update(json!({ROW.to_string(): {"modify": {"name": "two"}}}))
            .await;
        server
            .send(json!({"id": id, "result": [{"count": 1}], "error": null}))
            .await;
    };
    let transaction = transaction();
    let (outcomes, ()) = tokio::join!(session.transact(&transaction), serve);
    assert_eq!(outcomes.unwrap(), [Outcome::Done(Some(1))]);
    assert_eq!(session.cache().row("T", ROW), Some(&row("two")));
    // And it is told like everybody's.
    let changes = session.changed().await.unwrap();
    assert_eq!(changes.len(), 1);
    assert_eq!(changes[0].new, Some(row("two")));
}

#[tokio::test(start_paused = true)]
async fn a_refusal_names_the_operation_and_the_session_goes_on() {
    let (mut session, mut server) = connected().await;
    let mut two = transaction();
    two.delete("T", ROW);
    let results = [
        (
            json!([{"count": 1}, {"error": "referential integrity violation", "details": "held"}]),
            "the database refuses the change of T (operation 1): \
             referential integrity violation (held)",
        ),
        (
            json!([{"count": 1}, {"count": 1}, {"error": "constraint violation"}]),
            "the database refuses the change: constraint violation",
        ),
    ];
    for (result, expected) in results {
        let serve = server.answer("transact", result);
        let (refused, ()) = tokio::join!(session.transact(&two), serve);
        assert_eq!(refused.unwrap_err().to_string(), expected);
    }
    let serve = server.answer("transact", json!([{"count": 1}, {"count": 1}]));
    let (outcomes, ()) = tokio::join!(session.transact(&two), serve);
    assert_eq!(outcomes.unwrap(), vec![Outcome::Done(Some(1)); 2]);
}

#[tokio::test(start_paused = true)]
async fn a_session_ends_with_its_monitor_its_server_or_a_contradiction() {
    let (mut session, mut server) = connected().await;
    let ended = json!({"id": null, "method": "monitor_canceled", "params": ["dvs"]});
    server.send(ended).await;
    let error = session.changed().await.unwrap_err();
    assert!(matches!(error, SessionError::MonitorEnded), "{error}");

    let (mut session, mut server) = connected().await;
    let insert = json!({ROW.to_string(): {"insert": {"name": "again"}}});
    server.update(insert).await;
    let error = session.changed().await.unwrap_err();
    assert!(
        matches!(
            error,
            SessionError::Cache(CacheError::Contradiction { uuid: ROW, .. })
        ),
        "{error}"
    );

    let (mut session, mut server) = connected().await;
    let serve = async {
        server.request().await.unwrap();
        drop(server);
    };
    let transaction = transaction();
    let (outcome, ()) = tokio::join!(session.transact(&transaction), serve);
    let error = outcome.unwrap_err();
    assert!(
        matches!(error, TransactError::Session(SessionError::Closed)),
        "{error}"
    );
}

#[tokio::test(start_paused = true)]
async fn waiting_can_be_given_up_at_any_time_and_nothing_is_lost() {
    let (mut session, mut server) = connected().await;
    let serve = async {
        for number in 2..50_u128 {
            let uuid = Uuid::from_u128(number).to_string();
            let params = json!(["dvs", {"T": {uuid: {"insert": {"name": number.to_string()}}}}]);
            let update = json!({"id": null, "method": "update2", "params": params}).to_string();
            // Cut anywhere.
            let (first, second) = update.split_at(update.len() * 7 / 11);
            server.raw(first.as_bytes()).await;
            sleep(Duration::from_millis(3)).await;
            server.raw(second.as_bytes()).await;
            sleep(Duration::from_millis(2)).await;
        }
        server
    };
    let listen = async {
        let mut names = Vec::new();
        while names.len() < 48 {
            let wait = Duration::from_millis(1);
            if let Ok(changes) = tokio::time::timeout(wait, session.changed()).await {
                let new = changes.unwrap().into_iter().filter_map(|change| change.new);
                names.extend(new.map(|row| row.get("name").cloned()));
            }
        }
        names
    };
    let (names, _server) = tokio::join!(listen, serve);
    let expected: Vec<Option<Datum>> = (2..50)
        .map(|number| Some(Datum::from(number.to_string())))
        .collect();
    assert_eq!(names, expected);
    assert_eq!(session.cache().table("T").len(), 49);
}
