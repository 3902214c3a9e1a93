// SPDX-License-Identifier: Apache-2.0
//! The collector: what it is told and wants done, and what becomes of its
//! answers.

use config_publisher::events as publisher;
use dvs_schemas::Problem;
use dvs_schemas::v1::EventAck;
use host_agent::host::{AskFailure, HostEvent, RuntimeEvent};
use runtime_collector::{Effect, Event, Question, ReplyBody, ReplyToken};

use super::traffic::{DEADLINE, HostQuestion, Item, RetryRequest, Slot, Waiter, wire};
use super::{Place, World};

impl World {
    pub(super) fn collector_is_told(&mut self, event: &RuntimeEvent, token: u64) {
        self.tokens += 1;
        let to = self.tokens;
        self.replies.insert((Place::Collector, to), token);
        let reply = ReplyToken(to);
        let event = match event {
            RuntimeEvent::Changed(event) => Event::Changed {
                event: wire(event),
                reply,
            },
            RuntimeEvent::Settled(event) => Event::Settled {
                event: wire(event),
                reply,
            },
            RuntimeEvent::Conditions(event) => Event::Conditions {
                event: wire(event),
                reply,
            },
            RuntimeEvent::Notice(notice) => Event::Notice {
                notice: wire(notice),
                reply,
            },
        };
        self.turn_collector(Some(event));
    }

    pub(super) fn collector_wants(&mut self, effect: Effect) {
        match effect {
            Effect::Reply { to, result } => {
                let Some(token) = self.replies.remove(&(Place::Collector, to.0)) else {
                    return;
                };
                let result = result.map(|body| match body {
                    ReplyBody::Ack(ack) => wire(&ack),
                    other => panic!("an event was answered by {other:?}"),
                });
                self.send(Item::FromCollector { token, result });
            }
            Effect::Ask {
                ask,
                host,
                request,
                timeout,
            } => {
                let question = match request {
                    Question::Live(live) => HostQuestion::Live(wire(&live)),
                    Question::Fetch(fetch) => HostQuestion::Fetch(wire(&fetch)),
                };
                let numbers = self.hosts_named(&host);
                let token = self.open(Waiter::Ask { ask, host }, timeout);
                for host in numbers {
                    self.send(Item::ToHost {
                        host,
                        question: question.clone(),
                        token,
                        direct: true,
                    });
                }
            }
            Effect::Placements { ask, request } => {
                let token = self.open(Waiter::Placements { ask }, DEADLINE);
                let request = publisher::Request::Placements(wire(&request));
                self.send(Item::ToPublisher { request, token });
            }
            Effect::Rip { ask, put } => {
                let token = self.open(Waiter::Rip { ask }, DEADLINE);
                let request = RetryRequest::Put(wire(&put));
                self.send(Item::ToRetry { request, token });
            }
        }
    }

    pub(super) fn collector_answers(&mut self, token: u64, result: Result<EventAck, Problem>) {
        let Some(Slot { waiter, .. }) = self.slots.remove(&token) else {
            return;
        };
        match waiter {
            Waiter::Tell { host, seq } => {
                let outcome = result.map_err(|problem| AskFailure::NotDone(problem.to_string()));
                self.turn_host(host, Some(HostEvent::Acknowledged { seq, outcome }));
            }
            Waiter::Push { .. }
            | Waiter::HandOver { .. }
            | Waiter::Render { .. }
            | Waiter::Flight { .. }
            | Waiter::Hello { .. }
            | Waiter::Claim { .. }
            | Waiter::Release { .. }
            | Waiter::Ask { .. }
            | Waiter::Rip { .. }
            | Waiter::Identify { .. }
            | Waiter::Placements { .. }
            | Waiter::Operator => panic!("{waiter:?} was answered by the collector"),
        }
    }
}
