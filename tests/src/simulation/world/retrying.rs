// SPDX-License-Identifier: Apache-2.0
//! Retry: what it wants done, and what becomes of its answers.

use config_publisher::events as publisher;
use dvs_schemas::Problem;
use retry::{HostCall, ReplyBody};

use super::traffic::{DEADLINE, HostQuestion, Item, RetryRequest, Waiter, wire};
use super::{Place, Told, World};

impl World {
    pub(super) fn retry_wants(&mut self, effect: retry::Effect) {
        match effect {
            retry::Effect::Reply { to, result } => {
                if let Some(token) = self.replies.remove(&(Place::Retry, to.0)) {
                    self.send(Item::FromRetry { token, result });
                }
            }
            // For the log alone.
            retry::Effect::Note(_) => {}
            retry::Effect::Render { flight, request } => {
                let waiter = Waiter::Render {
                    flight,
                    request: request.clone(),
                };
                let token = self.open(waiter, DEADLINE);
                let request = publisher::Request::Render(wire(&request));
                self.send(Item::ToPublisher { request, token });
            }
            retry::Effect::Call {
                flight,
                host,
                call,
                timeout,
            } => {
                let question = match call {
                    HostCall::Clobber(clobber) => HostQuestion::Clobber(wire(&clobber)),
                    HostCall::Remove(remove) => HostQuestion::Remove(wire(&remove)),
                };
                let numbers = self.hosts_named(&host);
                let covers = question.covers();
                let waiter = Waiter::Flight {
                    flight,
                    host,
                    covers,
                };
                let token = self.open(waiter, timeout);
                for host in numbers {
                    self.send(Item::ToHost {
                        host,
                        question: question.clone(),
                        token,
                        direct: true,
                    });
                }
            }
        }
    }

    pub(super) fn retry_is_asked(&mut self, request: RetryRequest, token: u64) {
        self.tokens += 1;
        let to = self.tokens;
        self.replies.insert((Place::Retry, to), token);
        let reply = retry::ReplyToken(to);
        match request {
            RetryRequest::Put(request) => {
                let awaited = self.slots.contains_key(&token);
                self.witness.put(&request, awaited);
                let put = request.clone();
                self.turn_retry(Some(retry::Event::Put { request, reply }));
                let taken = awaited && self.retry.runs();
                self.witness.told(&put, taken);
            }
            RetryRequest::Act(action, selection) => self.turn_retry(Some(retry::Event::Act {
                action,
                selection,
                reply,
            })),
        }
    }

    pub(super) fn retry_answers(&mut self, token: u64, result: Result<ReplyBody, Problem>) {
        let Some(slot) = self.slots.remove(&token) else {
            return;
        };
        match slot.waiter {
            Waiter::HandOver { number } => {
                let result = match result {
                    Ok(ReplyBody::Put(reply)) => Ok(wire(&reply)),
                    Ok(other) => panic!("a put was answered by {other:?}"),
                    Err(problem) => Err(problem.to_string()),
                };
                let event = publisher::Event::HandedOver { number, result };
                self.turn_publisher(Some(event));
            }
            Waiter::Rip { ask } => {
                let answer = match result {
                    Ok(ReplyBody::Put(reply)) => runtime_collector::Answer::Put(wire(&reply)),
                    Ok(other) => panic!("a put was answered by {other:?}"),
                    Err(problem) => runtime_collector::Answer::Refused(problem.to_string()),
                };
                self.turn_collector(Some(runtime_collector::Event::Answered { ask, answer }));
            }
            Waiter::Operator => {
                let result = result.map(|body| match body {
                    ReplyBody::Selection(reply) => wire(&reply),
                    other => panic!("an action was answered by {other:?}"),
                });
                self.told.insert(token, Told::Acted(result));
            }
            Waiter::Push { .. }
            | Waiter::Render { .. }
            | Waiter::Flight { .. }
            | Waiter::Hello { .. }
            | Waiter::Tell { .. }
            | Waiter::Claim { .. }
            | Waiter::Release { .. }
            | Waiter::Ask { .. }
            | Waiter::Identify { .. }
            | Waiter::Placements { .. } => {}
        }
    }
}
