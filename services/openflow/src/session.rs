// SPDX-License-Identifier: Apache-2.0
//! One connection to one switch.

use std::collections::VecDeque;
use std::path::Path;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::failure::{ApplyError, OpenError, SessionError};
use crate::flow::{Cookies, FlowMod, FlowStats, FlowUpdate, Selection};
use crate::message::{Answer, Body, BundleStep, Message, Question};
use crate::meter::{HeldMeter, MeterFeatures, MeterMod};
use crate::packet::{PacketIn, PacketOut};
use crate::port::{Port, PortStats};
use crate::refusal::Refusal;

/// After so much silence a switch is asked whether it lives; after as much
/// again it is given up. What Open vSwitch itself takes.
const PROBE: Duration = Duration::from_secs(5);

/// Bytes of the longest message: so much is read at once.
const LONGEST: usize = 65_535;

/// What a switch tells by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    /// Somebody else changed watched flows.
    Flows,
    /// A flow sent a frame to its controllers.
    Frame(PacketIn),
}

/// Most frames that wait to be taken; what comes beyond them is dropped, as in
/// any queue of a network. As many as ports of one bridge may speak at once.
const FRAMES: usize = 1_024;

/// A connection. One owner; nothing happens but within its calls.
#[derive(Debug)]
pub struct Session {
    reader: OwnedReadHalf,
    writer: OwnedWriteHalf,
    incoming: BytesMut,
    /// What is to be sent: written as the switch takes it, while what it sends
    /// is read, or a long bundle and its errors would wait for each other.
    outgoing: BytesMut,
    patience: Duration,
    heard: Instant,
    probing: bool,
    xid: u32,
    datapath: u64,
    /// Flows whose changes don't matter.
    unwatched: Cookies,
    /// True if somebody else changed flows since that was last said.
    changed: bool,
    /// Frames that came amid other calls.
    frames: VecDeque<PacketIn>,
}

impl Session {
    /// Connects to a bridge's socket, `<run dir>/<bridge>.mgmt`. Every answer
    /// may take as long as `patience`.
    ///
    /// # Errors
    /// Why there is no session.
    pub async fn open(socket: &Path, patience: Duration) -> Result<Self, OpenError> {
        let stream = UnixStream::connect(socket).await;
        let stream = stream.map_err(|source| OpenError::Connect {
            socket: socket.to_owned(),
            source,
        })?;
        let (reader, writer) = stream.into_split();
        let mut session = Self {
            reader,
            writer,
            incoming: BytesMut::new(),
            outgoing: BytesMut::new(),
            patience,
            heard: Instant::now(),
            probing: false,
            xid: 0,
            datapath: 0,
            unwatched: Cookies::default(),
            changed: false,
            frames: VecDeque::new(),
        };
        session.send(Body::Hello);
        let asked = session.send(Body::FeaturesRequest);
        let deadline = session.deadline();
        loop {
            match session.next(deadline).await? {
                Message {
                    body: Body::FeaturesReply(datapath),
                    xid,
                } if Some(xid) == asked => {
                    session.datapath = datapath;
                    return Ok(session);
                }
                Message {
                    body: Body::Error(refusal),
                    ..
                } => return Err(OpenError::Refused(refusal)),
                Message { .. } => {}
            }
        }
    }

    /// The switch's number.
    #[must_use]
    pub fn datapath_id(&self) -> u64 {
        self.datapath
    }

    /// Makes all of these changes at once, in this order, or none. No frame
    /// meets some of them without the others.
    ///
    /// Dropped before its end it may have made them or not; what is called
    /// after it comes after it.
    ///
    /// # Errors
    /// Nothing was changed, unless the session is over.
    pub async fn apply(&mut self, changes: &[FlowMod]) -> Result<(), ApplyError> {
        let (before, unsent) = (self.xid, self.outgoing.len());
        // Not the number of a bundle whose call was dropped: the switch may
        // still hold that one open.
        let bundle = before;
        self.send(Body::Bundle(bundle, BundleStep::Open));
        let first = self.xid;
        for change in changes {
            if self.send(Body::BundleAdd(bundle, change.clone())).is_none() {
                self.outgoing.truncate(unsent);
                return Err(ApplyError::TooLong(change.to_string()));
            }
        }
        // A change that can't be is refused when it comes, and a commit would
        // carry out the others: so all are looked at before.
        let refusal = self.settle(before).await?;
        let end = match refusal {
            None => BundleStep::Commit,
            Some(_) => BundleStep::Discard,
        };
        self.send(Body::Bundle(bundle, end));
        let refusal = match (refusal, self.settle(before).await?) {
            (None, None) => return Ok(()),
            (Some(first), _) | (None, Some(first)) => first,
        };
        Err(ApplyError::of(changes, first, refusal))
    }

    /// Changes meters, one after the other.
    ///
    /// # Errors
    /// The first refusal; the others were made.
    pub async fn change_meters(&mut self, changes: &[MeterMod]) -> Result<(), ApplyError> {
        let first = self.xid;
        for change in changes {
            if self.send(Body::MeterMod(*change)).is_none() {
                return Err(ApplyError::TooLong(change.to_string()));
            }
        }
        match self.settle(first).await? {
            None => Ok(()),
            Some(refusal) => Err(ApplyError::of(changes, first, refusal)),
        }
    }

    /// The flows of a switch.
    ///
    /// # Errors
    /// The session is over.
    pub async fn flows(&mut self, which: &Selection) -> Result<Vec<FlowStats>, SessionError> {
        let mut flows = Vec::new();
        let question = Question::Flows(which.clone());
        self.ask(question, |answer| match answer {
            Answer::Flows(part) => flows.extend(part),
            Answer::PortStats(_)
            | Answer::Meters(_)
            | Answer::MeterFeatures(_)
            | Answer::Updates(_) => {}
        })
        .await?;
        Ok(flows)
    }

    /// Counters of a port, or of all. None for a port that isn't there.
    ///
    /// # Errors
    /// The session is over.
    pub async fn port_stats(
        &mut self,
        which: Option<Port>,
    ) -> Result<Vec<PortStats>, SessionError> {
        let mut ports = Vec::new();
        self.ask(Question::PortStats(which), |answer| match answer {
            Answer::PortStats(part) => ports.extend(part),
            Answer::Flows(_)
            | Answer::Meters(_)
            | Answer::MeterFeatures(_)
            | Answer::Updates(_) => {}
        })
        .await?;
        Ok(ports)
    }

    /// The meters of a switch.
    ///
    /// # Errors
    /// The session is over.
    pub async fn meters(&mut self) -> Result<Vec<HeldMeter>, SessionError> {
        let mut meters = Vec::new();
        self.ask(Question::Meters, |answer| match answer {
            Answer::Meters(part) => meters.extend(part),
            Answer::Flows(_)
            | Answer::PortStats(_)
            | Answer::MeterFeatures(_)
            | Answer::Updates(_) => {}
        })
        .await?;
        Ok(meters)
    }

    /// What the switch can do with meters; none if it has none.
    ///
    /// # Errors
    /// The session is over.
    pub async fn meter_features(&mut self) -> Result<Option<MeterFeatures>, SessionError> {
        let mut features = None;
        let asked = self.ask(Question::MeterFeatures, |answer| match answer {
            Answer::MeterFeatures(found) => features = Some(found),
            Answer::Flows(_) | Answer::PortStats(_) | Answer::Meters(_) | Answer::Updates(_) => {}
        });
        match asked.await {
            Ok(()) => Ok(features.filter(|features| features.max_meters > 0)),
            Err(SessionError::Refused(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Has the switch tell from now on when somebody else changes its flows,
    /// other than those with such cookies.
    ///
    /// # Errors
    /// The session is over, or the switch refuses: then nothing is told.
    pub async fn watch(&mut self, but: Cookies) -> Result<(), SessionError> {
        self.unwatched = but;
        self.ask(Question::Watch, drop).await
    }

    /// Has the switch tell from now on of frames that flows send to their
    /// controllers.
    ///
    /// # Errors
    /// The session is over, or the switch refuses.
    pub async fn hear_frames(&mut self) -> Result<(), SessionError> {
        let before = self.xid;
        // Any number but 0 opens the way; how much of a frame comes is the
        // flow's word.
        self.send(Body::SetConfig(1));
        match self.settle(before).await? {
            None => Ok(()),
            Some((_, refusal)) => Err(SessionError::Refused(refusal)),
        }
    }

    /// Gives the switch frames to act on. Each is carried out by itself.
    ///
    /// # Errors
    /// The session is over, or the switch refuses one; the others are carried
    /// out.
    pub async fn send_frames(
        &mut self,
        frames: impl IntoIterator<Item = PacketOut>,
    ) -> Result<(), SessionError> {
        let before = self.xid;
        for frame in frames {
            // One that is too long for a message is none that a port takes.
            let _ = self.send(Body::PacketOut(frame));
        }
        match self.settle(before).await? {
            None => Ok(()),
            Some((_, refusal)) => Err(SessionError::Refused(refusal)),
        }
    }

    /// Waits until somebody else changes watched flows, or a flow sends a frame
    /// to its controllers, and keeps the session up meanwhile. Also what happens
    /// amid other calls is said: that flows changed once, and they may have been
    /// changed back by then, by whom ever. Cancel-safe.
    ///
    /// # Errors
    /// The session is over.
    pub async fn told(&mut self) -> Result<Told, SessionError> {
        loop {
            if std::mem::take(&mut self.changed) {
                return Ok(Told::Flows);
            }
            if let Some(frame) = self.frames.pop_front() {
                return Ok(Told::Frame(frame));
            }
            if let Some(message) = self.step().await? {
                self.take(message);
            }
        }
    }

    /// Waits for the session's end, and keeps it up meanwhile. Cancel-safe.
    pub async fn ended(&mut self) -> SessionError {
        loop {
            if let Err(error) = self.told().await {
                return error;
            }
        }
    }

    /// Queues a message; its number, unless it is too long for one.
    fn send(&mut self, body: Body) -> Option<u32> {
        // Echoes have number 0, so no answer is mistaken for one of theirs.
        self.xid = self.xid.wrapping_add(1).max(1);
        let xid = self.xid;
        Message { xid, body }
            .encode(&mut self.outgoing)
            .then_some(xid)
    }

    fn deadline(&self) -> Instant {
        Instant::now() + self.patience
    }

    /// Waits until the switch has looked at all that was sent, and answers the
    /// first that was refused of what has a number after `before`: what comes
    /// earlier is of calls that were dropped. The switch looks at one after
    /// the other, and an echo is the last.
    async fn settle(&mut self, before: u32) -> Result<Option<(u32, Refusal)>, SessionError> {
        let echo = self.send(Body::EchoRequest(Bytes::new()));
        let sent = 1..=self.xid.wrapping_sub(before);
        let deadline = self.deadline();
        let mut refused = None;
        loop {
            match self.next(deadline).await? {
                Message {
                    xid,
                    body: Body::EchoReply(_),
                } if Some(xid) == echo => return Ok(refused),
                Message {
                    xid,
                    body: Body::Error(refusal),
                } if sent.contains(&xid.wrapping_sub(before)) => {
                    refused = refused.or(Some((xid, refusal)));
                }
                Message { .. } => {}
            }
        }
    }

    async fn ask(
        &mut self,
        question: Question,
        mut part: impl FnMut(Answer),
    ) -> Result<(), SessionError> {
        let asked = self.send(Body::Question(question));
        let deadline = self.deadline();
        loop {
            let Message { xid, body } = self.next(deadline).await?;
            if Some(xid) != asked {
                continue;
            }
            match body {
                Body::Answer { answer, more } => {
                    part(answer);
                    if !more {
                        return Ok(());
                    }
                }
                Body::Error(refusal) => return Err(SessionError::Refused(refusal)),
                Body::Hello
                | Body::EchoRequest(_)
                | Body::EchoReply(_)
                | Body::FeaturesRequest
                | Body::FeaturesReply(_)
                | Body::SetConfig(_)
                | Body::PacketIn(_)
                | Body::PacketOut(_)
                | Body::FlowMod(_)
                | Body::MeterMod(_)
                | Body::Question(_)
                | Body::Bundle(..)
                | Body::BundleAdd(..)
                | Body::Other(_) => {}
            }
        }
    }

    /// The next message that somebody may wait for.
    async fn next(&mut self, deadline: Instant) -> Result<Message, SessionError> {
        loop {
            let step = timeout_at(deadline, self.step()).await;
            // Where messages come without a pause, the time ends as well.
            let step = match step {
                Ok(step) if Instant::now() <= deadline => step?,
                Ok(_) | Err(_) => return Err(SessionError::Late(self.patience)),
            };
            match step {
                Some(Message {
                    xid,
                    body: Body::EchoRequest(data),
                }) => self.take(Message {
                    xid,
                    body: Body::EchoRequest(data),
                }),
                Some(message) => return Ok(message),
                None => {}
            }
        }
    }

    /// Takes in what nobody waits for.
    fn take(&mut self, Message { xid, body }: Message) {
        if let Body::EchoRequest(data) = body {
            let body = Body::EchoReply(data);
            // As long as what came, so it fits.
            let _ = Message { xid, body }.encode(&mut self.outgoing);
        }
    }

    /// Takes in what the switch tells by itself, whatever is waited for.
    fn note(&mut self, body: &Body) {
        if let Body::PacketIn(frame) = body
            && self.frames.len() < FRAMES
        {
            self.frames.push_back(frame.clone());
        }
        let Body::Answer {
            answer: Answer::Updates(updates),
            ..
        } = body
        else {
            return;
        };
        self.changed |= updates.iter().any(|update| match update {
            FlowUpdate::Foreign { cookie, .. } => !self.unwatched.hold(*cookie),
            FlowUpdate::Own(_) | FlowUpdate::Paused | FlowUpdate::Resumed => false,
        });
    }

    /// Waits for one message, or for less. Cancel-safe.
    async fn step(&mut self) -> Result<Option<Message>, SessionError> {
        if let Some(message) = Message::decode(&mut self.incoming)? {
            self.note(&message.body);
            return Ok(Some(message));
        }
        let Self {
            reader,
            writer,
            incoming,
            outgoing,
            ..
        } = self;
        incoming.reserve(LONGEST);
        let unsent = !outgoing.is_empty();
        tokio::select! {
            // What has come meanwhile is no silence, however late it is looked
            // at.
            biased;
            read = reader.read_buf(incoming) => {
                if read? == 0 {
                    return Err(SessionError::Closed);
                }
                self.heard = Instant::now();
                self.probing = false;
            }
            wrote = writer.write_buf(outgoing), if unsent => drop(wrote?),
            () = sleep_until(self.heard + PROBE) => {
                if self.probing {
                    return Err(SessionError::Silent(PROBE * 2));
                }
                self.probing = true;
                self.heard = Instant::now();
                let (xid, body) = (0, Body::EchoRequest(Bytes::new()));
                let _ = Message { xid, body }.encode(&mut self.outgoing);
            }
        }
        Ok(None)
    }
}
