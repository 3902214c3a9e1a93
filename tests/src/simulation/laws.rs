// SPDX-License-Identifier: Apache-2.0
//! The rules of `docs/design.md`, as questions to a world at any moment.

use std::collections::{BTreeMap, BTreeSet};

use dvs_schemas::v1::{Counters, FinalState, Presence, RepushKey, RipKey};
use dvs_schemas::{Document, Epoch, HostName, PortId};
use host_agent::datapath::Picture;
use host_agent::host::HostCore;
use serde_json::{Value, json};

use super::operators::Operators;
use super::witness::over;
use super::world::World;

/// Rule 1: what was acknowledged is durable; a crash can't take it back.
///
/// # Errors
/// Says what was lost.
pub fn nothing_acknowledged_is_lost(world: &World, operators: &Operators) -> Result<(), String> {
    match world.revision() {
        Some(revision) if revision.0 < operators.acknowledged => Err(format!(
            "revision {} was acknowledged, the publisher is at {revision}",
            operators.acknowledged
        )),
        Some(_) | None => Ok(()),
    }
}

/// Rule 1 object by object: the publisher, if it runs, has the documents that
/// were acknowledged and no other. No answer may be awaited.
///
/// # Errors
/// Shows both.
pub fn documents_are_kept(world: &World, operators: &Operators) -> Result<(), String> {
    let Some(config) = world.publisher.core().map(|core| core.config()) else {
        return Ok(());
    };
    let objects = |count: usize| format!("{count} objects");
    let (mut stored, mut wanted) = (config.ports().len(), 0);
    for switch in config.switches().keys() {
        stored += 1 + config.groups(switch).count() + config.mirrors(switch).count();
    }
    for (key, document) in operators.model.documents() {
        wanted += 1;
        let document = Document::from_tree(document.clone()).map_err(|e| e.to_string())?;
        let found = config.object(key).map(|(_, object)| object.document());
        if found.as_ref() != Some(&document) {
            return Err(format!(
                "the publisher has\n  {found:?}\nand was told\n  {document:?}"
            ));
        }
    }
    if stored == wanted {
        Ok(())
    } else {
        let (stored, wanted) = (objects(stored), objects(wanted));
        Err(format!(
            "the publisher has {stored} and was told of {wanted}"
        ))
    }
}

/// Rule 2: what a host was told to be gone does not come back by a message
/// that is older than that.
///
/// # Errors
/// Names the host and what is back.
pub fn nothing_comes_back(world: &World) -> Result<(), String> {
    let Some(machine) = world.turned().map(|host| &world.hosts[host]) else {
        return Ok(());
    };
    let core = machine.agent.core();
    let held = core.and_then(|agent| agent.host(&machine.name));
    for (switch, held) in held.into_iter().flat_map(HostCore::held) {
        if let Some((object, why)) = machine.taken.back(switch, held) {
            return Err(format!(
                "{} holds {object} of switch {switch}, and {why}",
                machine.name
            ));
        }
    }
    Ok(())
}

/// Rule 6: no port has two owners in one epoch.
///
/// # Errors
/// Names port, epoch and both hosts.
pub fn one_owner_per_epoch(world: &World) -> Result<(), String> {
    let mut owners: BTreeMap<(PortId, Epoch), HostName> = BTreeMap::new();
    for machine in &world.hosts {
        for bridge in machine.datapath.picture().values() {
            for (id, plugged) in &bridge.ports {
                let claim = (id.clone(), plugged.port.epoch);
                if let Some(other) = owners.insert(claim, machine.name.clone()) {
                    return Err(format!(
                        "port {id} of epoch {} is on {other} and on {}",
                        plugged.port.epoch, machine.name
                    ));
                }
            }
        }
    }
    Ok(())
}

/// What counts as applied is what the host has: where the publisher takes a
/// host's word for the newest commit that concerns it, and nothing is owed to
/// the host, it holds all that the publisher says of the switch, as it says it.
///
/// # Errors
/// Names the host and what it lacks.
pub fn what_counts_as_applied_is_there(world: &World) -> Result<(), String> {
    let (Some(publisher), Some(retry)) = (world.publisher.core(), world.retry.core()) else {
        return Ok(());
    };
    if publisher.pending() > 0 {
        return Ok(());
    }
    let owed: BTreeSet<RepushKey> = retry.repush().map(|(key, _)| key.clone()).collect();
    let view = publisher.view();
    for machine in &world.hosts {
        let host = &machine.name;
        let core = machine.agent.core().and_then(|agent| agent.host(host));
        let Some((known, core)) = publisher.fleet().get(host).zip(core) else {
            continue;
        };
        // Of several machines of one name the word of one counts.
        let mut others = world.hosts.iter().filter(|other| other.name == *host);
        if others.nth(1).is_some() && core.session() != Some(known.session()) {
            continue;
        }
        for switch in publisher.config().switches().keys() {
            let wanted = publisher.config().wanted(switch, host);
            let key = RepushKey {
                host: host.clone(),
                switch: switch.clone(),
            };
            let told = known.observed(switch);
            if owed.contains(&key) || told.is_none_or(|seen| seen < wanted) {
                continue;
            }
            let whole = view.whole(switch, host, view.globals(switch).as_ref());
            let FinalState::Full { settings, objects } = whole.state else {
                continue;
            };
            let held = core.held().find(|(name, _)| *name == switch);
            let lacks = |what: &str| {
                format!("{host} counts as in sync with {wanted} of switch {switch}: {what}")
            };
            let Some((_, held)) = held else {
                return Err(lacks("it knows no such switch"));
            };
            if held.settings.as_ref().map(|settings| &settings.value) != Some(&settings.value) {
                return Err(lacks("it has other settings"));
            }
            for group in &objects.groups {
                let of = held.groups.get(&group.value.name);
                if of.map(|of| &of.value) != Some(&group.value) {
                    return Err(lacks(&format!("{:?} is {of:?} there", group.value)));
                }
            }
            for port in &objects.ports {
                let of = held.ports.get(&port.value.id);
                if of.map(|of| &of.value) != Some(&port.value) {
                    return Err(lacks(&format!("{:?} is {of:?} there", port.value)));
                }
            }
        }
    }
    Ok(())
}

/// True if publisher, retry and operators see nothing left to do, nothing is
/// under way, and every host is there and known to the publisher.
#[must_use]
pub fn at_rest(world: &World, operators: &Operators) -> bool {
    let (Some(publisher), Some(retry)) = (world.publisher.core(), world.retry.core()) else {
        return false;
    };
    let fleet = publisher.fleet();
    publisher.pending() == 0
        && fleet.diverged().next().is_none()
        && retry.repush_entries() + retry.rip_entries() == 0
        && operators.idle()
        && world.nothing_under_way()
        && world.hosts.iter().all(|machine| {
            machine.connected
                && machine.agent.core().is_some_and(super::start::greeted)
                && fleet.presence(&machine.name, world.now) == Presence::Present
                && machine
                    .session()
                    .is_some_and(|session| !fleet.is_stranger(&machine.name, session))
        })
}

/// Rule 4: what a host has missed stays an entry until the host has
/// acknowledged what covers it, or is to have it again.
///
/// # Errors
/// Names the host that was forgotten.
pub fn nothing_missed_is_forgotten(world: &World) -> Result<(), String> {
    let Some(retry) = world.retry.core() else {
        return Ok(());
    };
    let entries: BTreeSet<&RepushKey> = retry.repush().map(|(key, _)| key).collect();
    let lost = world.witness.missed();
    if let Some((key, revision)) = lost.into_iter().find(|(key, _)| !entries.contains(key)) {
        let RepushKey { host, switch } = key;
        return Err(format!(
            "{host} missed revision {revision} of switch {switch}, and retry has no entry of it"
        ));
    }
    let entries: BTreeSet<&RipKey> = retry.rip().map(|(key, _)| key).collect();
    let lost = world.witness.unremoved();
    if let Some((key, revision)) = lost.into_iter().find(|(key, _)| !entries.contains(key)) {
        let RipKey { host, switch, port } = key;
        return Err(format!(
            "{host} did not remove port {port} of switch {switch} as of revision {revision}, and \
             retry has no entry of it"
        ));
    }
    Ok(())
}

/// Rule 5, and step 6 of a change: once a host has acknowledged a full state
/// and the publisher has handed that over, retry has nothing of that host and
/// switch that the full state settles.
///
/// # Errors
/// Names the entry.
pub fn what_is_settled_is_not_tried_again(world: &World) -> Result<(), String> {
    let Some(retry) = world.retry.core() else {
        return Ok(());
    };
    let repush = retry
        .repush()
        .map(|(key, commit)| (key.clone(), "re-push", commit));
    let rip = retry.rip().map(|(key, commit)| (over(key), "rip", commit));
    for (key, queue, commit) in repush.chain(rip) {
        if let Some(settled) = world.witness.settled(&key)
            && commit <= settled
        {
            return Err(format!(
                "{} acknowledged all of switch {} as of {settled:?}, and retry still has a {queue} \
                 entry of {commit:?}",
                key.host, key.switch
            ));
        }
    }
    Ok(())
}

/// A fleet at rest, from step to step.
#[derive(Debug, Default)]
pub struct Rest {
    since: Option<Moment>,
}

/// What changes when something happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Moment {
    causes: u64,
    asked: u64,
    writes: u64,
}

impl Rest {
    /// Looks at the world after a step. Rule 4: where nobody sees anything
    /// left to do, every host has what it should have. Rule 9: a fleet at rest
    /// stays so until there is a cause.
    ///
    /// # Errors
    /// Names the host that nobody would ever mend, or says what happened
    /// without a cause.
    pub fn lasts(&mut self, world: &World, operators: &Operators) -> Result<(), String> {
        let machines = world.hosts.iter();
        let now = Moment {
            causes: world.witness.causes(),
            asked: world.asked,
            writes: machines.map(|machine| machine.datapath.writes()).sum(),
        };
        match self.since {
            Some(since) if since == now => return Ok(()),
            Some(since) if since.causes == now.causes => {
                return Err(format!("without a cause {since:?} came to {now:?}"));
            }
            Some(_) | None => {}
        }
        if at_rest(world, operators) {
            self.since = Some(now);
            return converged(world, operators);
        }
        Ok(())
    }
}

/// Rule 7: what ports have counted over all their placements.
#[derive(Debug, Default)]
pub struct Totals {
    shown: BTreeMap<PortId, Counters>,
}

impl Totals {
    /// Looks at what the collector shows after a step: no total goes down, and
    /// no frame counts twice.
    ///
    /// # Errors
    /// Names the port.
    pub fn hold(&mut self, world: &World) -> Result<(), String> {
        let Some(collector) = world.collector.core() else {
            return Ok(());
        };
        for (port, passed) in world.traffic.passed() {
            let total = collector.record(port).and_then(|record| record.total);
            let total = total.unwrap_or_default();
            let shown = self.shown.entry(port.clone()).or_default();
            if !total.have_reached(shown) {
                return Err(format!(
                    "the total of {port} went from {shown:?} to {total:?}"
                ));
            }
            if !passed.have_reached(&total) {
                return Err(format!(
                    "the total of {port} is {total:?}, and {passed:?} passed"
                ));
            }
            *shown = total;
        }
        Ok(())
    }
}

/// Rule 7, when everything has settled: every frame counts, but for those that
/// a host died with before it could tell.
///
/// # Errors
/// Names the port.
pub fn every_frame_counts(world: &World) -> Result<(), String> {
    let Some(collector) = world.collector.core() else {
        return Err("the collector does not run".to_owned());
    };
    for (port, passed) in world.traffic.passed() {
        let total = collector.record(port).and_then(|record| record.total);
        let total = total.unwrap_or_default();
        let lost = world.lost_of(port);
        if !total.plus(&lost).have_reached(passed) {
            return Err(format!(
                "{passed:?} passed through {port}, {lost:?} of it may be lost, and its total is \
                 {total:?}"
            ));
        }
    }
    Ok(())
}

/// When everything has settled, the collector knows every port where it is, and
/// of every host what is wrong there.
///
/// # Errors
/// Names the port or host, and what is known of it.
pub fn the_collector_knows(world: &World) -> Result<(), String> {
    let Some(collector) = world.collector.core() else {
        return Err("the collector does not run".to_owned());
    };
    for machine in &world.hosts {
        let agent = machine.agent.core();
        let wrong = agent.and_then(|agent| agent.host(&machine.name));
        let wrong = wrong.map(HostCore::conditions).unwrap_or_default();
        let known = collector.conditions_of(&machine.name);
        if known != wrong {
            return Err(format!(
                "on {} is wrong\n  {wrong:?}\nand the collector knows of\n  {known:?}",
                machine.name
            ));
        }
        let picture = machine.datapath.picture();
        for (port, plugged) in picture.values().flat_map(|bridge| &bridge.ports) {
            let record = collector.record(port);
            let state = record.as_ref().and_then(|record| record.state.as_ref());
            let known = state.is_some_and(|state| state.epoch == plugged.port.epoch);
            if !known
                || record
                    .as_ref()
                    .is_none_or(|record| record.host != machine.name)
            {
                return Err(format!(
                    "{} has {port} in epoch {}, and the collector knows {record:?}",
                    machine.name, plugged.port.epoch
                ));
            }
        }
    }
    Ok(())
}

/// Every host's datapath is what the acknowledged documents say.
///
/// # Errors
/// Shows both.
pub fn converged(world: &World, operators: &Operators) -> Result<(), String> {
    for machine in &world.hosts {
        let found = seen(&machine.datapath.picture());
        let wanted = operators.model.wanted(&machine.name);
        if found != wanted {
            return Err(format!(
                "{} has\n  {found}\nand should have\n  {wanted}",
                machine.name
            ));
        }
    }
    Ok(())
}

fn seen(picture: &Picture) -> Value {
    let bridges = picture.iter().map(|(switch, bridge)| {
        let ports = bridge.ports.iter().map(|(id, plugged)| {
            let port = &plugged.port;
            let port = json!({
                "epoch": port.epoch,
                "vnic": port.vnic,
                "vlan": port.policy.vlan.configured(),
                "blocked": port.policy.blocked,
            });
            (id.to_string(), port)
        });
        let mirrors = bridge.mirrors.iter().map(|(name, mirror)| {
            let mirror = json!({"ports": mirror.ports, "vlans": mirror.vlans,
                "to": mirror.destination});
            (name.to_string(), mirror)
        });
        let bridge = json!({
            "mtu": bridge.settings.mtu,
            "ports": ports.collect::<BTreeMap<_, _>>(),
            "mirrors": mirrors.collect::<BTreeMap<_, _>>(),
        });
        (switch.to_string(), bridge)
    });
    json!(bridges.collect::<BTreeMap<_, _>>())
}
