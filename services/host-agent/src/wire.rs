// SPDX-License-Identifier: Apache-2.0
//! Bytes to events and answers to bytes: the typed side of the core meets the
//! bus here, and what can't be read is refused here. Nothing in here does IO.

use std::sync::Arc;

use async_nats::Subject;
use bytes::Bytes;
use dvs_schemas::subjects::{self, AgentVerb};
use dvs_schemas::v1::Clobber;
use dvs_schemas::{Format, HostName, Problem, ProblemCode, SwitchName, codec};
use serde::Serialize;

use crate::host::{Answer, Asker, HostEvent};

/// Where a message came in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// The host's own subjects.
    Own,
    /// The fan-out of a switch.
    Switch(SwitchName),
}

/// A message as it came.
#[derive(Debug, Clone)]
pub struct Incoming {
    /// Its subject.
    pub subject: Subject,
    /// Where the answer is wanted.
    pub reply: Option<Subject>,
    /// Its payload.
    pub payload: Bytes,
}

/// A message that is no event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Who is to be told, if anybody.
    pub asker: Option<Arc<Asker>>,
    /// What is wrong.
    pub problem: Problem,
}

/// Reads the messages of one connection. A fan-out comes once per replica with
/// the same bytes; it is read once.
#[derive(Debug, Default)]
pub struct Reader {
    last: Option<FanOut>,
}

#[derive(Debug)]
struct FanOut {
    payload: Bytes,
    reply: Option<Subject>,
    event: HostEvent,
}

impl Reader {
    /// Reads a message.
    ///
    /// # Errors
    /// What it is can't be read, or is not what its subject says.
    pub fn read(&mut self, source: &Source, message: Incoming) -> Result<HostEvent, Refused> {
        match source {
            Source::Own => own(&message),
            Source::Switch(switch) => self.fan_out(switch, message),
        }
    }

    fn fan_out(&mut self, switch: &SwitchName, message: Incoming) -> Result<HostEvent, Refused> {
        if let Some(last) = &self.last
            && last.payload == message.payload
            && last.reply == message.reply
        {
            return Ok(last.event.clone());
        }
        let asker = asker(&message);
        let refused = |problem| Refused {
            asker: asker.clone(),
            problem,
        };
        let clobber = clobber(&message.payload).map_err(refused)?;
        if clobber.switch != *switch {
            let text = format!("a message for switch {} came to {switch}", clobber.switch);
            return Err(refused(Problem::invalid(text).at("switch").allow(switch)));
        }
        let event = HostEvent::Clobber {
            message: clobber,
            asker,
        };
        let Incoming {
            subject: _,
            reply,
            payload,
        } = message;
        self.last = Some(FanOut {
            payload,
            reply,
            event: event.clone(),
        });
        Ok(event)
    }
}

fn own(message: &Incoming) -> Result<HostEvent, Refused> {
    let asker = asker(message);
    let refused = |problem| Refused {
        asker: asker.clone(),
        problem,
    };
    let verb = message.subject.rsplit('.').next().unwrap_or_default();
    let verb = AgentVerb::ALL.into_iter().find(|v| v.to_string() == verb);
    let verb = verb.ok_or_else(|| {
        let verbs = AgentVerb::ALL.map(|verb| verb.to_string()).join(", ");
        refused(Problem::invalid(format!("nothing is asked on {}", message.subject)).allow(verbs))
    })?;
    // Without a reader, an answer is no use; a change still is.
    let asked = || {
        asker.clone().ok_or_else(|| {
            let reply = message
                .reply
                .as_ref()
                .map_or("none", |reply| reply.as_str());
            refused(
                Problem::invalid(format!("the reply subject is {reply}"))
                    .allow(subjects::reply("HOST", "ASKER", "TOKEN")),
            )
        })
    };
    let payload = &message.payload;
    Ok(match verb {
        AgentVerb::Clobber => HostEvent::Clobber {
            message: clobber(payload).map_err(refused)?,
            asker,
        },
        AgentVerb::Remove => HostEvent::Remove {
            message: Arc::new(codec::decode(payload).map_err(refused)?.1),
            asker,
        },
        AgentVerb::Plan => HostEvent::Plan {
            message: clobber(payload).map_err(refused)?,
            asker: asked()?,
        },
        AgentVerb::Fetch => HostEvent::Fetch {
            message: codec::decode(payload).map_err(refused)?.1,
            asker: asked()?,
        },
        AgentVerb::Yield => HostEvent::Yield(codec::decode(payload).map_err(refused)?.1),
        AgentVerb::Identify => HostEvent::Identify {
            message: codec::decode(payload).map_err(refused)?.1,
            asker,
        },
        AgentVerb::Live => HostEvent::Live {
            message: codec::decode(payload).map_err(refused)?.1,
            asker: asked()?,
        },
    })
}

fn clobber(payload: &[u8]) -> Result<Arc<Clobber>, Problem> {
    codec::decode(payload).map(|(_, clobber)| Arc::new(clobber))
}

fn asker(message: &Incoming) -> Option<Arc<Asker>> {
    let parts = subjects::parse_reply(message.reply.as_ref()?)?;
    Some(Arc::new(Asker {
        instance: parts.instance.into(),
        token: parts.token.into(),
        // What is neither is refused, in words that a person can read.
        format: Format::of(&message.payload).unwrap_or(Format::Json),
    }))
}

/// An answer's subject and bytes; one that doesn't fit into `max` bytes
/// becomes a problem.
#[must_use]
pub fn answer(host: &HostName, asker: &Asker, answer: &Answer, max: usize) -> (String, Bytes) {
    let subject = subjects::reply(host.as_str(), &asker.instance, &asker.token);
    let format = asker.format;
    let body = match answer {
        Answer::Apply(report) => encode(format, report),
        Answer::Remove(report) => encode(format, report),
        Answer::Plan(plan) => encode(format, plan),
        Answer::Live(live) => encode(format, live),
        Answer::Fetched(event) => encode(format, event),
        Answer::Identified(identified) => encode(format, identified),
        Answer::Problem(problem) => Err(problem.clone()),
    };
    let body = body.and_then(|body| {
        if body.len() <= max {
            return Ok(body);
        }
        let text = format!("the answer of host {host} has {} bytes", body.len());
        Err(Problem::new(ProblemCode::TooLarge, text)
            .allow(format!("{max} bytes; ask for one port at a time")))
    });
    let body = body.unwrap_or_else(|problem| codec::encode_problem(format, &problem));
    (subject, body)
}

fn encode<T: Serialize>(format: Format, value: &T) -> Result<Bytes, Problem> {
    codec::encode(format, value)
        .map_err(|error| Problem::new(ProblemCode::Internal, error.to_string()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use dvs_schemas::arbitrary::messages;
    use dvs_schemas::v1::{LiveReply, V1};
    use proptest::prelude::*;

    fn incoming(subject: &str, reply: Option<&str>, payload: impl Into<Bytes>) -> Incoming {
        Incoming {
            subject: subject.into(),
            reply: reply.map(Into::into),
            payload: payload.into(),
        }
    }

    fn read(subject: &str, reply: Option<&str>, payload: &[u8]) -> Result<HostEvent, Refused> {
        let message = incoming(subject, reply, payload.to_vec());
        Reader::default().read(&Source::Own, message)
    }

    const REPLY: Option<&str> = Some("dvs.v1.reply.h1.pub7.42");

    #[test]
    fn bad_messages_are_refused_with_the_place_and_to_the_asker() {
        for (verb, payload, says) in [
            ("clobber", &b""[..], "empty"),
            ("clobber", b"{}", "missing field `v`"),
            ("clobber", b"{\"v\":2}", "version 2"),
            ("remove", b"{\"v\":1", "JSON"),
            ("remove", b"\xc1", "0xc1"),
            ("live", b"{\"v\":1,\"port\":\"a.b\"}", "port name"),
            (
                "dance",
                b"{}",
                "clobber, remove, plan, live, fetch, yield, identify",
            ),
        ] {
            let refused = read(&format!("dvs.v1.agent.h1.{verb}"), REPLY, payload).unwrap_err();
            assert_eq!(&*refused.asker.unwrap().token, "42");
            let text = refused.problem.to_string();
            assert!(text.contains(says), "{verb}: {text}");
        }
    }

    #[test]
    fn a_question_needs_a_reply_subject_that_a_host_may_answer_on() {
        for reply in [None, Some("_INBOX.x.1")] {
            let refused = read("dvs.v1.agent.h1.live", reply, b"{\"v\":1}").unwrap_err();
            assert_eq!(refused.asker, None);
        }
    }

    #[test]
    fn an_answer_that_does_not_fit_becomes_a_problem() {
        let host: HostName = "h1".parse().unwrap();
        let asker = Asker {
            instance: "pub7".into(),
            token: "42".into(),
            format: Format::Json,
        };
        let live = Answer::Live(LiveReply {
            v: V1,
            host: host.clone(),
            session: dvs_schemas::SessionId(1),
            at: dvs_schemas::Timestamp(0),
            ports: Vec::new(),
            counters: Vec::new(),
            totals: Vec::new(),
            conditions: None,
            next: None,
        });
        let (subject, whole) = answer(&host, &asker, &live, 1_000);
        assert_eq!(subject, "dvs.v1.reply.h1.pub7.42");
        let (_, cut) = answer(&host, &asker, &live, whole.len() - 1);
        assert!(cut.starts_with(b"{\"error\""), "{cut:?}");
    }

    proptest! {
        #[test]
        fn a_fan_out_is_read_once_and_tells_every_replica_the_same(
            mut clobber in messages::clobber().boxed(),
            other in messages::clobber().boxed(),
            json in any::<bool>(),
        ) {
            let format = if json { Format::Json } else { Format::MessagePack };
            let source = Source::Switch(clobber.switch.clone());
            clobber.v = V1;
            let bytes = codec::encode(format, &clobber).unwrap();
            let mut reader = Reader::default();
            let reply = Some("dvs.v1.reply.all.pub7.1");
            let mut heard = Vec::new();
            for _ in 0..2 {
                let message = incoming("s", reply, Bytes::copy_from_slice(&bytes));
                match reader.read(&source, message) {
                    Ok(HostEvent::Clobber { message, .. }) => heard.push(message),
                    other => prop_assert!(false, "{:?}", other),
                }
            }
            prop_assert_eq!(&*heard[0], &clobber);
            prop_assert!(Arc::ptr_eq(&heard[0], &heard[1]));
            let message = incoming("s", reply, codec::encode(format, &other).unwrap());
            match reader.read(&source, message) {
                Ok(HostEvent::Clobber { message, .. }) => prop_assert_eq!(&*message, &other),
                Ok(event) => prop_assert!(false, "{:?}", event),
                Err(refused) => {
                    prop_assert_ne!(&other.switch, &clobber.switch);
                    prop_assert_eq!(refused.problem.field.as_deref(), Some("switch"));
                }
            }
        }
    }
}
