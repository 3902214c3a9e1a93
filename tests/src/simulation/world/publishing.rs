// SPDX-License-Identifier: Apache-2.0
//! The publisher: what it wants done, and what becomes of its answers.

use std::time::Duration;

use config_publisher::events as publisher;
use dvs_schemas::v1::{Identify, RenderReply, RenderRequest, RipKey, V1};
use dvs_schemas::{HostName, Problem, ProblemCode};
use host_agent::host::{AskFailure, HostEvent};
use retry::Commit;
use runtime_collector::Answer;

use super::traffic::{DEADLINE, HostQuestion, Item, RetryRequest, Waiter, wire};
use super::{Place, Told, World};

/// How long an agent may take to say that it is there: less than who says hello
/// waits for its answer.
const IDENTIFY: Duration = Duration::from_millis(200);

impl World {
    pub(super) fn publisher_wants(&mut self, effect: publisher::Effect) {
        match effect {
            publisher::Effect::Push {
                push,
                calls,
                within,
            } => {
                for (call, what) in calls.into_iter().enumerate() {
                    self.push(push, call, what, within);
                }
            }
            publisher::Effect::Reply { to, result } => {
                if let Some(token) = self.replies.remove(&(Place::Publisher, to.0)) {
                    self.send(Item::FromPublisher {
                        token,
                        result: *result,
                    });
                }
            }
            publisher::Effect::Committed { to: _ } => {}
            publisher::Effect::HandOver { number, put } => {
                let token = self.open(Waiter::HandOver { number }, DEADLINE);
                let request = RetryRequest::Put(wire(&put));
                self.send(Item::ToRetry { request, token });
            }
            publisher::Effect::Yield { host, request } => {
                for host in self.hosts_named(&host) {
                    let request = wire(&request);
                    self.send(Item::Yield { host, request });
                }
            }
            publisher::Effect::Identify { host, session } => {
                let token = self.open(
                    Waiter::Identify {
                        host: host.clone(),
                        session,
                    },
                    IDENTIFY,
                );
                let question = HostQuestion::Identify(wire(&Identify { v: V1, session }));
                for host in self.hosts_named(&host) {
                    self.send(Item::ToHost {
                        host,
                        question: question.clone(),
                        token,
                        direct: true,
                    });
                }
            }
            publisher::Effect::TellCollector { .. } => panic!("nobody forgets a host here"),
        }
    }

    pub(super) fn push(
        &mut self,
        push: publisher::PushId,
        call: usize,
        what: publisher::Call,
        within: Duration,
    ) {
        let (hosts, question, direct): (Vec<HostName>, _, _) = match &what {
            publisher::Call::FanOut { clobber, hosts } => (
                hosts.to_vec(),
                HostQuestion::Clobber(Box::new(wire(&**clobber))),
                false,
            ),
            publisher::Call::Clobber { host, clobber } => (
                vec![host.clone()],
                HostQuestion::Clobber(Box::new(wire(&**clobber))),
                true,
            ),
            publisher::Call::Remove { host, remove } => (
                vec![host.clone()],
                HostQuestion::Remove(wire(&**remove)),
                true,
            ),
            publisher::Call::Plan { host, clobber } => (
                vec![host.clone()],
                HostQuestion::Plan(Box::new(wire(&**clobber))),
                true,
            ),
        };
        let missing = hosts.iter().cloned().collect();
        let covers = question.covers();
        let token = self.open(
            Waiter::Push {
                push,
                call,
                missing,
                covers,
            },
            within,
        );
        // A fan-out reaches whoever listens, awaited or not.
        let reached: Vec<usize> = if direct {
            hosts
                .iter()
                .flat_map(|host| self.hosts_named(host))
                .collect()
        } else {
            (0..self.hosts.len()).collect()
        };
        for host in reached {
            self.send(Item::ToHost {
                host,
                question: question.clone(),
                token,
                direct,
            });
        }
    }

    pub(super) fn publisher_answers(
        &mut self,
        token: u64,
        result: Result<publisher::Reply, Problem>,
    ) {
        let Some(slot) = self.slots.remove(&token) else {
            return;
        };
        match slot.waiter {
            Waiter::Operator => {
                self.told.insert(token, Told::Published(Box::new(result)));
            }
            Waiter::Render { flight, request } => {
                let result = match result {
                    Ok(publisher::Reply::Rendered(reply)) => Ok(wire(&reply)),
                    Ok(other) => panic!("a render was answered by {other:?}"),
                    Err(problem) => Err(problem.to_string()),
                };
                if let Ok(RenderReply::Cancelled {}) = &result {
                    self.removal_is_cancelled(request);
                }
                let event = retry::Event::Rendered { flight, result };
                self.turn_retry(Some(event));
            }
            Waiter::Hello { host } => {
                let result = match result {
                    Ok(publisher::Reply::Hello(reply)) => Ok(wire(&reply)),
                    Ok(other) => panic!("a hello was answered by {other:?}"),
                    Err(problem) => Err(not_done(&problem)),
                };
                self.turn_host(host, Some(HostEvent::Greeted(result)));
            }
            Waiter::Claim { host, port } => {
                let outcome = match result {
                    Ok(publisher::Reply::Claimed(reply)) => Ok(wire(&reply)),
                    Ok(other) => panic!("a claim was answered by {other:?}"),
                    Err(problem) => Err(not_done(&problem)),
                };
                self.turn_host(host, Some(HostEvent::Claimed { port, outcome }));
            }
            Waiter::Release { host, asked } => {
                let outcome = match result {
                    Ok(publisher::Reply::Released(reply)) => Ok(wire(&reply)),
                    Ok(other) => panic!("a release was answered by {other:?}"),
                    Err(problem) => Err(not_done(&problem)),
                };
                self.turn_host(host, Some(HostEvent::Released { asked, outcome }));
            }
            Waiter::Placements { ask } => {
                let answer = match result {
                    Ok(publisher::Reply::Placements(reply)) => Answer::Placements(wire(&reply)),
                    Ok(other) => panic!("the question where ports are was answered by {other:?}"),
                    Err(problem) => Answer::Refused(problem.to_string()),
                };
                self.turn_collector(Some(runtime_collector::Event::Answered { ask, answer }));
            }
            Waiter::Push { .. }
            | Waiter::HandOver { .. }
            | Waiter::Flight { .. }
            | Waiter::Tell { .. }
            | Waiter::Ask { .. }
            | Waiter::Rip { .. }
            | Waiter::Identify { .. } => {}
        }
    }

    fn removal_is_cancelled(&mut self, request: RenderRequest) {
        match request {
            RenderRequest::State { .. } => {}
            RenderRequest::Removal {
                host,
                switch,
                port,
                revision,
            } => {
                let key = RipKey { host, switch, port };
                let store = self.store();
                self.witness.removed(&key, Commit { store, revision });
            }
        }
    }
}

/// What a host makes of a refusal.
fn not_done(problem: &Problem) -> AskFailure {
    if problem.code == ProblemCode::Namesake {
        AskFailure::Namesake(problem.to_string())
    } else {
        AskFailure::NotDone(problem.to_string())
    }
}
