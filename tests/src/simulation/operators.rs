// SPDX-License-Identifier: Apache-2.0
//! The operators: one request after the other, each repeated until it is
//! answered, and what they believe of the store by the answers.

use config_publisher::events::{Reply, Request};
use dvs_schemas::v1::{
    ApplyRequest, ContinueRequest, DeleteRequest, DisconnectRequest, ResyncRequest,
};
use dvs_schemas::{Epoch, Problem, ProblemCode, StoreId};
use fastrand::Rng;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::model::Model;
use super::wishes::Wish;
use super::world::{Question, Told, World};

/// The operators.
#[derive(Debug, Default)]
pub struct Operators {
    /// What they believe to be stored.
    pub model: Model,
    /// The newest revision that was acknowledged.
    pub acknowledged: u64,
    /// Requests that were carried out, and those that were refused.
    pub done: (u64, u64),
    waiting: Option<(u64, Wish)>,
    /// The store as which the publisher went on last.
    continued: Option<StoreId>,
    /// The store that the publisher served last: an answer may be heard when it
    /// is down.
    served: Option<StoreId>,
    /// What was last deleted with its switch.
    buried: Vec<Value>,
}

fn read<T: DeserializeOwned>(value: &Value) -> T {
    T::deserialize(value).unwrap_or_else(|e| panic!("{value}: {e}"))
}

fn question(wish: &Wish) -> Question {
    let decoded = |request: Result<Request, Problem>| {
        request.unwrap_or_else(|problem| panic!("{wish:?}: {problem}"))
    };
    let apply = |request: Value| {
        let request = ApplyRequest::decode(request.to_string().as_bytes());
        decoded(request.map(|(_, request)| Request::Apply(request)))
    };
    Question::Publisher(match wish {
        Wish::Apply(documents) | Wish::Restore(documents) => apply(json!(documents)),
        Wish::TryOut(documents) => {
            let bound = "300ms"; // before the operator gives up
            apply(json!({"documents": documents, "dry_run": true, "timeout": bound}))
        }
        Wish::Delete(documents) => {
            let request = DeleteRequest::decode(json!(documents).to_string().as_bytes());
            decoded(request.map(|(_, request)| Request::Delete(request)))
        }
        Wish::Continue => Request::Continue(ContinueRequest::default()),
        Wish::Disconnect(of) => Request::Disconnect(read::<DisconnectRequest>(of)),
        Wish::Resync(of) => Request::Resync(read::<ResyncRequest>(of)),
        Wish::Act(action, selection) => return Question::Retry(*action, selection.clone()),
    })
}

impl Operators {
    /// Takes the answer to what was asked, or asks again. True if nothing is
    /// left to wait for.
    ///
    /// # Panics
    /// The answer contradicts what was asked.
    pub fn listen(&mut self, world: &mut World) -> bool {
        if let Some(publisher) = world.publisher.core() {
            self.served = Some(publisher.store());
        }
        let Some((token, wish)) = self.waiting.take() else {
            return true;
        };
        match world.told.remove(&token) {
            None => self.waiting = Some((token, wish)),
            Some(Told::Silence) => self.ask(world, wish),
            Some(Told::Published(answer)) => match (wish, *answer) {
                // Its hosts have to be known first.
                (wish @ Wish::Restore(_), Err(_)) => self.ask(world, wish),
                (wish, Ok(reply)) => {
                    let go_on = matches!(wish, Wish::Restore(_));
                    let store = self.served.unwrap_or_else(|| world.store());
                    self.carried_out(store, wish, reply);
                    if go_on {
                        self.ask(world, Wish::Continue);
                    }
                }
                (Wish::Continue, Err(_)) => self.nothing_to_continue(world),
                (wish, Err(problem)) => self.refused(&wish, &problem),
            },
            Some(Told::Acted(_)) => self.done.0 += 1,
        }
        self.idle()
    }

    /// True if no answer is awaited.
    #[must_use]
    pub fn idle(&self) -> bool {
        self.waiting.is_none()
    }

    /// A random request.
    #[must_use]
    pub fn wish(&self, random: &mut Rng) -> Wish {
        Wish::next(&self.model, &self.buried, random)
    }

    /// Asks; nothing may be awaited.
    pub fn ask(&mut self, world: &mut World, wish: Wish) {
        self.waiting = Some((world.ask(question(&wish)), wish));
    }

    /// The publisher has lost its store: whatever was asked, the operators
    /// begin with all that they know to have been there.
    pub fn restore(&mut self, world: &mut World) {
        self.acknowledged = 0;
        self.waiting = None;
        self.served = None;
        let documents = self.model.documents();
        let documents: Vec<Value> = documents.map(|(_, document)| document.clone()).collect();
        if !documents.is_empty() {
            self.ask(world, Wish::Restore(documents));
        }
    }

    /// The publisher fell back to what it had when its store was copied; the
    /// operators knew of this then.
    pub fn fell_back(&mut self, model: Model) {
        self.acknowledged = 0;
        self.waiting = None;
        self.served = None;
        self.model = model;
    }

    /// Every host follows the publisher: from the start, or since it went on
    /// and the answer was lost. Asks again where the publisher is down by now:
    /// nobody can see then at which commit it went on.
    fn nothing_to_continue(&mut self, world: &mut World) {
        let Some(publisher) = world.publisher.core() else {
            return self.ask(world, Wish::Continue);
        };
        self.done.1 += 1;
        let store = publisher.store();
        if self.continued != Some(store) && store != world.publisher.store() {
            self.continued = Some(store);
            let revision = publisher.config().revision();
            self.model.restored(Epoch::of(store, revision));
        }
    }

    fn refused(&mut self, wish: &Wish, problem: &Problem) {
        // A deletion whose answer was lost finds its objects gone.
        if let (Wish::Delete(documents), ProblemCode::NotFound) = (wish, problem.code) {
            self.model.delete(documents);
        }
        self.done.1 += 1;
    }

    fn carried_out(&mut self, store: StoreId, wish: Wish, reply: Reply) {
        self.done.0 += 1;
        let revision = match (&wish, &reply) {
            (Wish::Apply(_) | Wish::Restore(_) | Wish::Delete(_), Reply::Applied(reply)) => {
                reply.revision
            }
            (Wish::Disconnect(_), Reply::Disconnected(reply)) => reply.revision,
            (Wish::TryOut(_), Reply::DryRun(reply)) => reply.revision,
            (Wish::Resync(_), Reply::Resynced(reply)) => reply.revision,
            (Wish::Continue, Reply::Continued(reply)) => {
                self.continued = reply.store;
                self.served = reply.store;
                reply.revision
            }
            (wish, reply) => panic!("{wish:?} was answered by {reply:?}"),
        };
        self.acknowledged = self.acknowledged.max(revision.0);
        let epoch = Epoch::of(store, revision);
        match wish {
            Wish::Apply(documents) => self.model.apply(&documents, epoch),
            Wish::Restore(_) => self.model.restored(epoch),
            Wish::Continue => self
                .model
                .restored(Epoch::of(self.continued.unwrap_or(store), revision)),
            Wish::Delete(documents) => {
                if documents
                    .iter()
                    .any(|document| document["kind"] == "Switch")
                {
                    self.buried.clone_from(&documents);
                }
                self.model.delete(&documents);
            }
            Wish::Disconnect(of) => self.model.disconnect(&read::<DisconnectRequest>(&of).port),
            Wish::TryOut(_) | Wish::Resync(_) | Wish::Act(..) => {}
        }
    }
}
