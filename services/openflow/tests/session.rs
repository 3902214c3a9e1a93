// SPDX-License-Identifier: Apache-2.0
//! A session with a switch that does what real ones rarely do: it says
//! nothing, too much, or goes away in the middle. Time is the runtime's own.
#![allow(clippy::unwrap_used, missing_docs)]

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use dvs_openflow::{
    Action, Answer, ApplyError, Body, BundleStep, Fault, Flow, FlowMod, FlowStats, Malformed,
    Match, Message, MeterFeatures, OpenError, Port, Question, Refusal, Reg, Selection, Session,
    SessionError,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::time::Instant;

const PATIENCE: Duration = Duration::from_secs(3);

/// The other side of a session.
struct Switch {
    stream: UnixStream,
    incoming: BytesMut,
}

impl Switch {
    /// The next message; None after the last.
    async fn read(&mut self) -> Option<Message> {
        loop {
            if let Some(message) = Message::decode(&mut self.incoming).unwrap() {
                return Some(message);
            }
            if self.stream.read_buf(&mut self.incoming).await.unwrap() == 0 {
                return None;
            }
        }
    }

    async fn write(&mut self, xid: u32, body: Body) {
        let mut bytes = BytesMut::new();
        assert!(Message { xid, body }.encode(&mut bytes));
        self.stream.write_all(&bytes).await.unwrap();
    }

    /// Answers echoes; the next message that is none.
    async fn next(&mut self) -> Option<Message> {
        loop {
            match self.read().await? {
                Message {
                    xid,
                    body: Body::EchoRequest(data),
                } => self.write(xid, Body::EchoReply(data)).await,
                message => return Some(message),
            }
        }
    }

    /// Takes a bundle, and refuses the change at this place as it comes.
    async fn bundle(&mut self, bad: Option<usize>) -> (Vec<FlowMod>, BundleStep) {
        let mut changes = Vec::new();
        loop {
            match self.next().await.unwrap() {
                Message {
                    body: Body::BundleAdd(_, change),
                    xid,
                } => {
                    if Some(changes.len()) == bad {
                        self.write(xid, Body::Error(refusal())).await;
                    }
                    changes.push(change);
                }
                Message {
                    body: Body::Bundle(_, BundleStep::Open),
                    ..
                } => {}
                Message {
                    body: Body::Bundle(_, step),
                    ..
                } => return (changes, step),
                other => panic!("{other:?}"),
            }
        }
    }
}

fn refusal() -> Refusal {
    Refusal {
        fault: Fault::Standard { kind: 5, code: 1 },
        data: Bytes::new(),
    }
}

fn listen() -> (tempfile::TempDir, std::path::PathBuf, UnixListener) {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("br.mgmt");
    let listener = UnixListener::bind(&socket).unwrap();
    (directory, socket, listener)
}

async fn accept(listener: &UnixListener) -> Switch {
    let (stream, _) = listener.accept().await.unwrap();
    Switch {
        stream,
        incoming: BytesMut::new(),
    }
}

/// A session, and the switch that it is with.
async fn connected() -> (Session, Switch) {
    let (_directory, socket, listener) = listen();
    let greet = async {
        let mut switch = accept(&listener).await;
        switch.write(7, Body::Hello).await;
        loop {
            let Message { xid, body } = switch.read().await.unwrap();
            if body == Body::FeaturesRequest {
                switch.write(xid, Body::FeaturesReply(42)).await;
                return switch;
            }
        }
    };
    let (session, switch) = tokio::join!(Session::open(&socket, PATIENCE), greet);
    let session = session.unwrap();
    assert_eq!(session.datapath_id(), 42);
    (session, switch)
}

fn flow(number: u32) -> Flow {
    Flow {
        fields: Match::any().reg(Reg::R0, number),
        actions: vec![Action::Output(Port::LOCAL)],
        ..Flow::default()
    }
}

fn add(number: u32) -> FlowMod {
    FlowMod::Add(flow(number))
}

fn stats(number: u32) -> FlowStats {
    FlowStats {
        flow: flow(number),
        age: None,
        packets: Some(1),
        bytes: Some(60),
    }
}

#[tokio::test(start_paused = true)]
async fn a_bundle_is_opened_filled_and_carried_out() {
    let (mut session, mut switch) = connected().await;
    let changes: Vec<_> = (0..1_000).map(add).collect();
    let (applied, (taken, step)) = tokio::join!(session.apply(&changes), async {
        let bundle = switch.bundle(None).await;
        // The echo after the commit.
        tokio::select! {
            message = switch.next() => panic!("{message:?}"),
            () = tokio::time::sleep(Duration::from_millis(1)) => bundle,
        }
    });
    applied.unwrap();
    assert_eq!((taken, step), (changes, BundleStep::Commit));
}

#[tokio::test(start_paused = true)]
async fn a_bundle_with_a_bad_change_is_discarded() {
    let (mut session, mut switch) = connected().await;
    let changes: Vec<_> = (0..10).map(add).collect();
    let play = async {
        let bundle = switch.bundle(Some(3)).await;
        // What a switch says of the end doesn't hide why it was the end.
        switch.write(0xffff, Body::Error(refusal())).await;
        tokio::select! {
            message = switch.next() => panic!("{message:?}"),
            () = tokio::time::sleep(Duration::from_millis(1)) => bundle,
        }
    };
    let (applied, (taken, step)) = tokio::join!(session.apply(&changes), play);
    assert_eq!((&taken, step), (&changes, BundleStep::Discard));
    let Err(ApplyError::Refused {
        change,
        refusal: why,
    }) = applied
    else {
        panic!("{applied:?}");
    };
    assert_eq!((change, why), (changes[3].to_string(), refusal()));
}

#[tokio::test(start_paused = true)]
async fn what_a_dropped_call_left_is_not_taken_for_a_later_calls() {
    let (mut session, mut switch) = connected().await;
    let changes = [add(1), add(2)];
    let dropped = session.apply(&changes);
    // So far that all is written.
    let written = tokio::time::timeout(Duration::from_millis(1), dropped).await;
    assert!(written.is_err());
    let first = switch.read().await.unwrap();
    let Body::Bundle(old, BundleStep::Open) = first.body else {
        panic!("{first:?}");
    };
    for _ in 0..2 {
        let Message { xid, body } = switch.read().await.unwrap();
        assert!(matches!(body, Body::BundleAdd(..)), "{body:?}");
        switch.write(xid, Body::Error(refusal())).await;
    }
    let changes = [add(3)];
    let play = async {
        let opened = switch.next().await.unwrap();
        let Body::Bundle(new, BundleStep::Open) = opened.body else {
            panic!("{opened:?}");
        };
        assert_ne!(new, old, "the switch still has that one open");
        let bundle = switch.bundle(None).await;
        tokio::select! {
            message = switch.next() => panic!("{message:?}"),
            () = tokio::time::sleep(Duration::from_millis(1)) => bundle,
        }
    };
    let (applied, (taken, step)) = tokio::join!(session.apply(&changes), play);
    applied.unwrap();
    assert_eq!((taken, step), (changes.to_vec(), BundleStep::Commit));
}

#[tokio::test(start_paused = true)]
async fn an_answer_is_whole_when_its_last_part_is_there() {
    let (mut session, mut switch) = connected().await;
    let selection = Selection {
        table: Some(3),
        ..Selection::default()
    };
    let play = async {
        let Message { xid, body } = switch.next().await.unwrap();
        assert_eq!(body, Body::Question(Question::Flows(selection.clone())));
        let part = |flows: &[u32], more| Body::Answer {
            answer: Answer::Flows(flows.iter().copied().map(stats).collect()),
            more,
        };
        switch.write(xid, part(&[1, 2], true)).await;
        // In between comes what is nobody's answer.
        switch.write(xid.wrapping_sub(1), part(&[8], false)).await;
        switch
            .write(5, Body::EchoRequest(Bytes::from_static(b"there?")))
            .await;
        switch.write(0, Body::Other(12)).await;
        switch.write(xid, part(&[], true)).await;
        let echo = switch.read().await.unwrap();
        assert_eq!(
            (echo.xid, echo.body),
            (5, Body::EchoReply(Bytes::from_static(b"there?")))
        );
        switch.write(xid, part(&[3], false)).await;
    };
    let (flows, ()) = tokio::join!(session.flows(&selection), play);
    assert_eq!(flows.unwrap(), [1, 2, 3].map(stats));
}

#[tokio::test(start_paused = true)]
async fn a_refused_question_leaves_the_session_usable() {
    let (mut session, mut switch) = connected().await;
    let play = async {
        let Message { xid, .. } = switch.next().await.unwrap();
        switch.write(xid, Body::Error(refusal())).await;
        let Message { xid, body } = switch.next().await.unwrap();
        assert_eq!(body, Body::Question(Question::MeterFeatures));
        let features = MeterFeatures {
            max_meters: 0,
            drops_by_bits: false,
        };
        let answer = Answer::MeterFeatures(features);
        switch
            .write(
                xid,
                Body::Answer {
                    answer,
                    more: false,
                },
            )
            .await;
    };
    let ask = async {
        let refused = session.port_stats(None).await;
        (refused, session.meter_features().await.unwrap())
    };
    let ((refused, features), ()) = tokio::join!(ask, play);
    let Err(SessionError::Refused(why)) = refused else {
        panic!("{refused:?}");
    };
    assert_eq!((why, features), (refusal(), None));
}

#[tokio::test(start_paused = true)]
async fn no_answer_ends_every_call_in_time() {
    let start = Instant::now();
    let (_directory, socket, listener) = listen();
    let (opened, _silent) = tokio::join!(Session::open(&socket, PATIENCE), accept(&listener));
    assert!(
        matches!(
            opened,
            Err(OpenError::Session(SessionError::Late(PATIENCE)))
        ),
        "{opened:?}"
    );
    let (mut session, _switch) = connected().await;
    let flows = session.flows(&Selection::default()).await.unwrap_err();
    assert_eq!(flows.to_string(), "the switch has not answered within 3 s");
    let (mut session, _switch) = connected().await;
    // More than the kernel takes unread.
    let changes: Vec<_> = (0..20_000).map(add).collect();
    let applied = session.apply(&changes).await;
    assert!(
        matches!(applied, Err(ApplyError::Session(SessionError::Late(_)))),
        "{applied:?}"
    );
    assert!(start.elapsed() < PATIENCE * 4, "{:?}", start.elapsed());
}

#[tokio::test]
async fn talk_without_an_answer_ends_in_time_too() {
    let (_directory, socket, listener) = listen();
    let talk = async {
        let mut switch = accept(&listener).await;
        let mut bytes = BytesMut::new();
        for xid in 0..1_000 {
            assert!(
                Message {
                    xid,
                    body: Body::Other(12)
                }
                .encode(&mut bytes)
            );
        }
        while switch.stream.write_all(&bytes).await.is_ok() {}
    };
    let open = Session::open(&socket, Duration::from_millis(50));
    let (opened, ()) = tokio::join!(async { open.await.map(drop) }, talk);
    assert!(
        matches!(opened, Err(OpenError::Session(SessionError::Late(_)))),
        "{opened:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn silence_is_probed_and_ends_the_session() {
    let (mut session, mut switch) = connected().await;
    let start = Instant::now();
    // While probes are answered, nothing ends.
    let live = async {
        for _ in 0..3 {
            let Message { xid, body } = switch.read().await.unwrap();
            assert_eq!(body, Body::EchoRequest(Bytes::new()));
            switch.write(xid, Body::EchoReply(Bytes::new())).await;
        }
    };
    tokio::select! {
        end = session.ended() => panic!("{end:?}"),
        () = live => {}
    }
    assert!(
        start.elapsed() >= Duration::from_secs(15),
        "{:?}",
        start.elapsed()
    );
    let end = session.ended().await;
    assert!(matches!(end, SessionError::Silent(_)), "{end:?}");
}

#[tokio::test(start_paused = true)]
async fn waiting_for_the_end_may_be_broken_off_at_any_time() {
    let (mut session, mut switch) = connected().await;
    // Each wait is shorter than the time between probes.
    let mut probes = 0;
    for _ in 0..100 {
        tokio::select! {
            end = session.ended() => panic!("{end:?}"),
            () = tokio::time::sleep(Duration::from_secs(1)) => {}
            message = switch.read() => {
                let Message { xid, .. } = message.unwrap();
                probes += 1;
                switch.write(xid, Body::EchoReply(Bytes::new())).await;
            }
        }
    }
    assert!(probes >= 10, "{probes}");
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_waits_unread_is_no_silence() {
    // Which of several things that are ready is taken must not be left to
    // chance, so chance gets many.
    for _ in 0..30 {
        let (mut session, mut switch) = connected().await;
        tokio::select! {
            end = session.ended() => panic!("{end:?}"),
            probe = switch.read() => {
                switch.write(probe.unwrap().xid, Body::EchoReply(Bytes::new())).await;
            }
        }
        // The owner is busy with something else for longer than it may take.
        tokio::time::sleep(Duration::from_secs(60)).await;
        tokio::select! {
            biased;
            end = session.ended() => panic!("{end:?}"),
            () = tokio::time::sleep(Duration::from_millis(1)) => {}
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_switch_that_goes_away_in_the_middle_ends_the_call() {
    let (mut session, mut switch) = connected().await;
    let leave = async {
        let Message { xid, .. } = switch.next().await.unwrap();
        let answer = Answer::Flows(vec![stats(1)]);
        switch.write(xid, Body::Answer { answer, more: true }).await;
        drop(switch);
    };
    let all = Selection::default();
    let (flows, ()) = tokio::join!(session.flows(&all), leave);
    assert!(matches!(flows, Err(SessionError::Closed)), "{flows:?}");
    let applied = session.apply(&[add(1)]).await;
    assert!(
        matches!(
            applied,
            Err(ApplyError::Session(
                SessionError::Closed | SessionError::Io(_)
            ))
        ),
        "{applied:?}",
    );
}

#[tokio::test(start_paused = true)]
async fn what_is_no_openflow_ends_the_session() {
    let (mut session, mut switch) = connected().await;
    switch
        .stream
        .write_all(b"HTTP/1.1 400 Bad Request\r\n")
        .await
        .unwrap();
    let end = session.ended().await;
    let SessionError::Malformed(why) = end else {
        panic!("{end:?}");
    };
    let version = Malformed::Value {
        what: "message",
        value: u64::from(b'H'),
    };
    assert_eq!(why, version);
}

#[tokio::test(start_paused = true)]
async fn a_socket_that_is_not_there_is_named() {
    let missing = tempfile::tempdir().unwrap().path().join("br.mgmt");
    let error = Session::open(&missing, PATIENCE).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("{} can't be connected to", missing.display())
    );
}
