// SPDX-License-Identifier: Apache-2.0
//! Devices behind virtual ports, what they count, and what that comes to: by the
//! same tallies as with Open vSwitch, which an agent loses as it goes. Beside it
//! stands what an onlooker knows who sees every frame: what nobody can know.

use std::collections::{BTreeMap, BTreeSet};
use std::mem;

use dvs_schemas::v1::{Counters, CountersOf};
use dvs_schemas::{Epoch, PortId, SwitchName, VnicId};

use crate::datapath::Picture;
use crate::datapath::tally::{Offset, Tallies};

pub(super) type Key = (SwitchName, PortId);

/// A vNIC's device. It outlives its plug, and counts on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Device {
    /// What it counts itself: all but drops and errors.
    counted: Counters,
    /// What the switch adds to that since it has opened the device.
    by_switch: Counters,
    is_silent: bool,
    /// What it said when it was read last.
    said: Counters,
    /// What passed since.
    unread: Counters,
    /// What it had said before it began to count anew, if it has since.
    before: Option<Counters>,
    is_reopened: bool,
}

/// What may happen to the interface of a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mishap {
    /// Its device doesn't say what it has counted.
    Silence,
    /// It does so again.
    Answer,
    /// It counts from nothing, and nobody says so.
    CountsAnew,
    /// The switch opens it anew, under another number.
    OpenedAnew,
    /// Its row is made anew, for the same device and in one transaction.
    RowAnew,
}

impl Device {
    /// Frames pass it that don't pass the switch.
    pub fn counts_elsewhere(&mut self, more: &Counters) {
        self.counted = self.counted.plus(&without_drops(more));
    }

    fn says(&self) -> Counters {
        self.counted.plus(&self.by_switch)
    }

    fn pass(&mut self, more: &Counters) {
        self.counted = self.counted.plus(&without_drops(more));
        self.by_switch = self.by_switch.plus(&drops(more));
        self.unread = self.unread.plus(more);
    }

    /// The switch has it no more. What passed that nobody read.
    fn close(&mut self) -> Counters {
        self.by_switch = Counters::default();
        self.before = None;
        self.is_reopened = false;
        mem::take(&mut self.unread)
    }
}

/// Drops and errors.
fn drops(of: &Counters) -> Counters {
    Counters {
        ingress_packets: 0,
        ingress_bytes: 0,
        egress_packets: 0,
        egress_bytes: 0,
        ..*of
    }
}

fn without_drops(of: &Counters) -> Counters {
    of.minus(&drops(of))
}

/// Where a device comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Origin {
    /// It comes and goes with the virtual port: whoever sets the port needs
    /// nothing that is plugged in.
    Port,
    /// Somebody plugged it in, and says that it is this vNIC.
    Plug(Option<VnicId>),
}

/// A device on the switch, as its row says.
#[derive(Debug)]
struct Interface {
    device: Device,
    origin: Origin,
    /// By what the port counts, for an agent that starts.
    mark: Option<Offset>,
    /// What more than was told the agent before had read, of one that was silent
    /// as this agent started: what it had counted before that can't be checked.
    doubt: Option<Counters>,
}

/// The devices that are plugged in, and what ports have come to by them.
#[derive(Debug, Default)]
pub(super) struct Interfaces {
    plugged: BTreeMap<Key, Interface>,
    /// Ports whose device was unplugged: none comes with them.
    bare: BTreeSet<Key>,
    /// Whether no agent follows what happens.
    is_alone: bool,
    tallies: Tallies,
    /// What placements had come to when the agent said so last, of ports that
    /// are not in the picture yet.
    told: BTreeMap<Key, CountersOf>,
    /// Ports whose counters moved since they were read.
    moved: BTreeSet<Key>,
    /// What was read of present placements.
    seen: BTreeMap<Key, Counters>,
    lost: BTreeMap<PortId, Counters>,
}

impl Interfaces {
    /// Those of the ports of a picture.
    pub(super) fn of(picture: &Picture) -> Self {
        let mut interfaces = Self::default();
        for (key, epoch) in ports(picture) {
            interfaces.begin(&key, epoch);
        }
        interfaces
    }

    /// Whether an agent follows what happens.
    pub(super) fn are_attended(&self) -> bool {
        !self.is_alone
    }

    pub(super) fn lost(&self) -> &BTreeMap<PortId, Counters> {
        &self.lost
    }

    /// What passed a port in its present placement, but for what is lost.
    pub(super) fn seen(&self, key: &Key) -> Counters {
        let seen = self.seen.get(key).copied().unwrap_or_default();
        let interface = self.plugged.get(key);
        interface.map_or(seen, |interface| seen.plus(&interface.device.unread))
    }

    fn lose(&mut self, (_, port): &Key, more: Counters) {
        if more != Counters::default() {
            let lost = self.lost.entry(port.clone()).or_default();
            *lost = lost.plus(&more);
        }
    }

    /// Frames pass a port, if it has a device.
    pub(super) fn pass(&mut self, key: &Key, more: &Counters) -> bool {
        match self.plugged.get_mut(key) {
            Some(interface) => {
                interface.device.pass(more);
                true
            }
            None => false,
        }
    }

    /// The counters of a port move. True for the first time since they were read,
    /// if anybody notices.
    pub(super) fn moves(&mut self, key: &Key, reachable: bool) -> bool {
        let interface = self.plugged.get(key);
        let shows = interface.is_some_and(|interface| !interface.device.is_silent);
        shows && reachable && self.are_attended() && self.moved.insert(key.clone())
    }

    /// A device is plugged in. What the port had before goes.
    pub(super) fn plug(
        &mut self,
        key: &Key,
        vnic: Option<VnicId>,
        device: Device,
        is_wanted: bool,
        reachable: bool,
    ) {
        self.unplug(key, reachable);
        self.plugged.insert(
            key.clone(),
            Interface {
                device,
                origin: Origin::Plug(vnic),
                mark: None,
                doubt: None,
            },
        );
        if self.are_attended() && is_wanted {
            self.tallies.plugged(key.clone());
            if reachable {
                self.read(key);
            }
        }
    }

    /// The device of a port is unplugged; read before, as far as that is possible.
    pub(super) fn unplug(&mut self, key: &Key, reachable: bool) -> Option<Device> {
        if self.are_attended() && reachable {
            self.read(key);
        }
        let Interface {
            mut device, doubt, ..
        } = self.plugged.remove(key)?;
        let unread = device.close();
        self.lose(key, unread.plus(&doubt.unwrap_or_default()));
        if self.are_attended() {
            self.tallies.unplugged(key);
        } else {
            // Whoever counted by it is gone.
            self.tallies.forget(key);
        }
        self.moved.remove(key);
        self.bare.insert(key.clone());
        Some(device)
    }

    /// Something happens to an interface. Whether what it has counted looks
    /// otherwise then.
    pub(super) fn befall(&mut self, key: &Key, mishap: Mishap) -> bool {
        let is_attended = self.are_attended();
        let Some(interface) = self.plugged.get_mut(key) else {
            return false;
        };
        let device = &mut interface.device;
        let mut lost = Counters::default();
        match mishap {
            Mishap::Silence => device.is_silent = true,
            Mishap::Answer => device.is_silent = false,
            Mishap::CountsAnew => {
                lost = mem::take(&mut device.unread);
                device.before.get_or_insert(device.said);
                device.counted = Counters::default();
                device.by_switch = Counters::default();
            }
            Mishap::OpenedAnew | Mishap::RowAnew => {
                lost = mem::take(&mut device.by_switch);
                device.is_reopened = true;
            }
        }
        if mishap == Mishap::RowAnew {
            let (switch, port) = key;
            let marked = is_attended.then(|| self.tallies.offset(switch, port));
            interface.mark = marked.flatten();
        }
        self.lose(key, lost);
        true
    }

    /// Reads what the device of a port has counted, if it counts for that and
    /// says so.
    fn read(&mut self, key: &Key) {
        let Some(interface) = self.plugged.get_mut(key) else {
            return;
        };
        let device = &mut interface.device;
        if device.is_silent || !self.tallies.is_plugged(key) {
            return;
        }
        let is_first = self.tallies.is_unread(key);
        let now = device.says();
        device.said = now;
        self.tallies.read(key, &now);
        interface.mark = self.tallies.offset(&key.0, &key.1);
        let unread = mem::take(&mut device.unread);
        let before = device.before.take();
        let reopened = mem::take(&mut device.is_reopened);
        let doubt = interface.doubt.take();
        if is_first {
            // Nobody knows what of it is of before.
            self.lose(key, unread);
            return;
        }
        let seen = self.seen.entry(key.clone()).or_default();
        *seen = seen.plus(&unread);
        if let Some(before) = before {
            // Where it is as much as before, nobody can tell that it began anew.
            let hides = without_drops(&now).have_reached(&without_drops(&before));
            if hides || doubt.is_some() {
                let doubt = doubt.unwrap_or_default();
                self.lose(key, before.most(&now).most(&doubt));
            }
        }
        if reopened {
            self.lose(key, drops(&now));
        }
    }

    /// Reads devices of which nobody knows yet what they had counted.
    pub(super) fn read_unread(&mut self) {
        for key in self.tallies.unread() {
            self.read(&key);
        }
    }

    /// What a port came to, as far as it can be read now.
    pub(super) fn count(&mut self, key: &Key) -> Counters {
        self.read(key);
        self.moved.remove(key);
        self.tallies.total(key)
    }

    /// A port is set. Its placement goes on from what was told of it.
    pub(super) fn begin(&mut self, key: &Key, epoch: Epoch) {
        if !self.bare.contains(key) {
            let own = || Interface {
                device: Device::default(),
                origin: Origin::Port,
                mark: None,
                doubt: None,
            };
            self.plugged.entry(key.clone()).or_insert_with(own);
        }
        let is_there = self.plugged.contains_key(key);
        if self.are_attended() && is_there && !self.tallies.is_plugged(key) {
            self.tallies.plugged(key.clone());
            self.read(key);
        }
        if let Some(told) = self.told.remove(key)
            && told.epoch == epoch
        {
            self.tallies.resume(key.clone(), &told.counters);
            let seen = self.seen.entry(key.clone()).or_default();
            *seen = seen.plus(&told.counters);
        }
        self.mark(key);
    }

    fn mark(&mut self, key: &Key) {
        if let Some(interface) = self.plugged.get_mut(key) {
            interface.mark = self.tallies.offset(&key.0, &key.1);
        }
    }

    /// A placement is over, and this is what it came to.
    pub(super) fn end(&mut self, key: &Key) -> Counters {
        self.read(key);
        let counters = self.tallies.end(key);
        let seen = self.seen.remove(key).unwrap_or_default();
        let interface = self.plugged.get_mut(key);
        let doubt = interface.and_then(|interface| interface.doubt.take());
        if !self.are_attended() {
            self.lose(key, seen.minus(&counters));
        } else if let Some(doubt) = doubt {
            self.lose(key, doubt);
        }
        self.mark(key);
        counters
    }

    /// A port goes.
    pub(super) fn forget(&mut self, key: &Key) {
        self.tallies.forget(key);
        self.moved.remove(key);
        self.bare.remove(key);
        let Some(interface) = self.plugged.get_mut(key) else {
            return;
        };
        interface.mark = None;
        let unread = mem::take(&mut interface.device.unread);
        if interface.origin == Origin::Port {
            self.plugged.remove(key);
        }
        self.lose(key, unread);
    }

    /// The agent goes. What it has sent by then is carried out.
    pub(super) fn leave(&mut self) {
        self.is_alone = true;
        self.moved.clear();
    }

    /// An agent is there that knows this, and finds what is marked. What is
    /// plugged in, for it.
    pub(super) fn resume(
        &mut self,
        picture: &Picture,
        known: Vec<(SwitchName, CountersOf)>,
        reachable: bool,
    ) -> Vec<(Key, Option<VnicId>)> {
        self.is_alone = false;
        self.moved.clear();
        self.tallies = Tallies::default();
        let there: BTreeMap<Key, Epoch> = ports(picture).collect();
        let mut told = BTreeMap::new();
        self.told.clear();
        for (switch, of) in known {
            let key = (switch, of.port.clone());
            match there.get(&key) {
                None => drop(self.told.insert(key, of)),
                Some(epoch) if *epoch == of.epoch => drop(told.insert(key, of.counters)),
                Some(_) => {}
            }
        }
        self.seen.retain(|key, _| there.contains_key(key));
        for key in there.into_keys() {
            self.find(&key, told.get(&key));
        }
        if reachable {
            self.read_unread();
        }
        let plugged = self
            .plugged
            .iter()
            .filter_map(|(key, interface)| match &interface.origin {
                Origin::Plug(vnic) => Some((key.clone(), vnic.clone())),
                Origin::Port => None,
            });
        plugged.collect()
    }

    /// An agent that starts finds a port, of which this was told.
    fn find(&mut self, key: &Key, told: Option<&Counters>) {
        let seen = self.seen.remove(key).unwrap_or_default();
        let nothing = Counters::default();
        let told = told.unwrap_or(&nothing);
        let untold = seen.minus(told);
        let mut known = *told;
        let mut lost = untold;
        if let Some(interface) = self.plugged.get_mut(key) {
            let device = &mut interface.device;
            if let Some(mark) = interface.mark {
                known = seen.most(told);
                lost = nothing;
                let raw = if device.is_silent {
                    interface.doubt = Some(untold);
                    None
                } else {
                    device.said = device.says();
                    if let Some(before) = device.before.take() {
                        lost = before.most(&untold);
                    }
                    Some(device.said)
                };
                self.tallies.restored(key.clone(), mark, raw);
            } else {
                self.tallies.plugged(key.clone());
            }
        }
        self.lose(key, lost);
        self.seen.insert(key.clone(), known);
        if *told != nothing {
            self.tallies.resume(key.clone(), told);
        }
    }
}

/// All ports of a picture, with their placements.
fn ports(picture: &Picture) -> impl Iterator<Item = (Key, Epoch)> {
    picture.iter().flat_map(|(switch, bridge)| {
        let ports = bridge.ports.iter();
        ports.map(move |(port, plugged)| ((switch.clone(), port.clone()), plugged.port.epoch))
    })
}
