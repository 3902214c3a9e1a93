// SPDX-License-Identifier: Apache-2.0
//! Turns of the programs, and their power.

use config_publisher::events as publisher;
use dvs_schemas::StoreId;
use host_agent::host::HostEvent;
use uuid::Uuid;

use super::traffic::Item;
use super::{Place, World};
use crate::simulation::disk::Disk;
use crate::simulation::node::PowerCut;
use crate::simulation::start;

impl World {
    /// Lets the power of a program fail, if it has any.
    pub fn cut(&mut self, place: Place) {
        if !self.runs(place) {
            return;
        }
        self.note(&("cut", place));
        match place {
            Place::Publisher => self.publisher.cut(&mut self.random),
            Place::Retry => self.retry.cut(&mut self.random),
            Place::Collector => self.collector.cut(&mut self.random),
            Place::Host(n) => self.hosts[n].agent.cut(&mut self.random),
        }
        self.fell(place);
    }

    /// The publisher's disk is gone. What it starts with next is empty, and a
    /// later store.
    pub fn lose_store(&mut self) {
        self.note(&"the publisher's disk is lost");
        let ran = self.publisher.runs();
        self.publisher.lose_disk();
        self.witness.store_lost();
        self.queue.retain(|_, item| !item.is_operators());
        if ran {
            self.fell(Place::Publisher);
        }
    }

    /// The publisher's disk is replaced by a copy that was taken before.
    pub fn put_back_store(&mut self, copy: &Disk) {
        self.note(&"the publisher's disk is put back");
        let ran = self.publisher.runs();
        self.publisher.put_back(copy);
        self.witness.store_lost();
        self.queue.retain(|_, item| !item.is_operators());
        if ran {
            self.fell(Place::Publisher);
        }
    }

    /// Identity of the store as whose revisions the publisher numbers.
    #[must_use]
    pub fn store(&self) -> StoreId {
        let made = self.publisher.store();
        self.publisher.core().map_or(made, |core| core.store())
    }

    pub(super) fn life(&self, place: Place) -> u64 {
        match place {
            Place::Publisher => self.publisher.life,
            Place::Retry => self.retry.life,
            Place::Collector => self.collector.life,
            Place::Host(n) => self.hosts[n].agent.life,
        }
    }

    pub(super) fn fell(&mut self, place: Place) {
        self.cuts += 1;
        self.note(&("power fails", place));
        self.witness.fell(place);
        self.slots
            .retain(|_, slot| slot.waiter.place() != Some(place));
        self.replies.retain(|(at, _), _| *at != place);
        if let Place::Host(n) = place {
            self.hosts[n].datapath.leave();
            self.hosts[n].hears.clear();
            self.hosts[n].subscribes.clear();
        }
        self.later(400, Item::Start(place));
    }

    pub(super) fn start(&mut self, place: Place) {
        let now = self.now;
        let seed = self.random.u64(..);
        self.witness.caused();
        match place {
            Place::Publisher => {
                self.publisher
                    .start(|ledger| start::publisher(ledger, seed));
                let event = publisher::Event::Connected {
                    max_payload: 1_048_576,
                };
                self.turn_publisher(Some(event));
            }
            Place::Retry => {
                self.retry.start(|ledger| start::retry(ledger, seed, now));
                self.turn_retry(None);
            }
            Place::Collector => {
                self.collector.start(start::collector);
                self.turn_collector(None);
            }
            Place::Host(n) if self.hosts[n].off => {}
            Place::Host(n) => {
                let reboots = self.random.f64() < self.weather.reboots;
                let machine = &mut self.hosts[n];
                let before = reboots.then(|| machine.reboot(&mut self.random));
                let (name, agent) = (&machine.name, Uuid::from_u64_pair(seed, 0));
                let rollback_after = self.rollback_after;
                machine
                    .agent
                    .start(|ledger| start::agent(ledger, name, agent, seed, rollback_after));
                let known = machine.resume();
                if let Some(before) = before {
                    self.traffic.died(&before, &known);
                }
                self.turn_host(n, None);
                self.find_plugs(n);
                if self.hosts[n].connected {
                    self.turn_host(n, Some(HostEvent::Connected));
                }
            }
        }
    }

    pub(super) fn turn_publisher(&mut self, event: Option<publisher::Event>) {
        let (ran, cut) = (self.publisher.runs(), self.draw_cut());
        let effects = self.publisher.turn(self.now, event, cut, &mut self.random);
        for effect in effects {
            self.note(&effect);
            self.publisher_wants(effect);
        }
        self.take_cut(Place::Publisher, ran, cut);
    }

    pub(super) fn turn_retry(&mut self, event: Option<retry::Event>) {
        let (ran, cut) = (self.retry.runs(), self.draw_cut());
        let effects = self.retry.turn(self.now, event, cut, &mut self.random);
        for effect in effects {
            self.note(&effect);
            self.retry_wants(effect);
        }
        self.take_cut(Place::Retry, ran, cut);
    }

    pub(super) fn turn_collector(&mut self, event: Option<runtime_collector::Event>) {
        let (ran, cut) = (self.collector.runs(), self.draw_cut());
        let effects = self.collector.turn(self.now, event, cut, &mut self.random);
        for effect in effects {
            self.note(&effect);
            self.collector_wants(effect);
        }
        self.take_cut(Place::Collector, ran, cut);
    }

    pub(super) fn turn_host(&mut self, host: usize, event: Option<HostEvent>) {
        self.turned = Some(host);
        let cut = self.draw_cut();
        let machine = &mut self.hosts[host];
        let ran = machine.agent.runs();
        let event = event.map(|event| (machine.name.clone(), event));
        let effects = machine.agent.turn(self.now, event, cut, &mut self.random);
        for effect in effects {
            self.note(&effect);
            self.host_wants(host, effect.1);
        }
        self.take_cut(Place::Host(host), ran, cut);
    }

    /// Nothing happens to a program but that its time has come.
    pub(super) fn wake(&mut self, place: Place) {
        match place {
            Place::Publisher => self.turn_publisher(None),
            Place::Retry => self.turn_retry(None),
            Place::Collector => self.turn_collector(None),
            Place::Host(host) => self.turn_host(host, None),
        }
    }

    fn runs(&self, place: Place) -> bool {
        match place {
            Place::Publisher => self.publisher.runs(),
            Place::Retry => self.retry.runs(),
            Place::Collector => self.collector.runs(),
            Place::Host(host) => self.hosts[host].agent.runs(),
        }
    }

    fn draw_cut(&mut self) -> Option<PowerCut> {
        (self.random.f64() < self.weather.cuts).then(|| {
            [
                PowerCut::BeforeCommit,
                PowerCut::DuringCommit,
                PowerCut::AfterCommit,
                PowerCut::AmongEffects,
            ][self.random.usize(0..4)]
        })
    }

    /// Notes that a program which ran before its turn does so no more.
    fn take_cut(&mut self, place: Place, ran: bool, cut: Option<PowerCut>) {
        if ran && !self.runs(place) {
            self.note(&("power", place, cut));
            self.fell(place);
        }
    }
}
