// SPDX-License-Identifier: Apache-2.0
//! Retry: what it wants done, and what becomes of its answers.

use config_publisher::events as publisher;
use dvs_schemas::v1::PutReply;
use retry::HostCall;

use super::traffic::{DEADLINE, HostQuestion, Item, Slot, Waiter, wire};
use super::{Place, World};

impl World {
    pub(super) fn retry_wants(&mut self, effect: retry::Effect) {
        match effect {
            retry::Effect::Reply { to, result } => {
                if let Some(token) = self.replies.remove(&(Place::Retry, to.0)) {
                    let result = result.map(|body| match body {
                        retry::ReplyBody::Put(reply) => wire(&reply),
                        other => panic!("a put was answered by {other:?}"),
                    });
                    self.send(Item::FromRetry { token, result });
                }
            }
            // For the log alone.
            retry::Effect::Note(_) => {}
            retry::Effect::Render { flight, request } => {
                let token = self.open(Waiter::Render { flight }, DEADLINE);
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
                let number = self.host_named(&host);
                let token = self.open(Waiter::Flight { flight, host }, timeout);
                if let Some(host) = number {
                    self.send(Item::ToHost {
                        host,
                        question,
                        token,
                        direct: true,
                    });
                }
            }
        }
    }

    pub(super) fn end_hand_over(&mut self, token: u64, result: Result<PutReply, String>) {
        if let Some(Slot {
            waiter: Waiter::HandOver { number },
            ..
        }) = self.slots.remove(&token)
        {
            let event = publisher::Event::HandedOver { number, result };
            self.turn_publisher(Some(event));
        }
    }
}
