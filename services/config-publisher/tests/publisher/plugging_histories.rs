// SPDX-License-Identifier: Apache-2.0
//! Random histories of claims, releases, connections, moves, deaths of hosts and
//! crashes, held against a small model: a port has one host per epoch, a holder
//! that lives is never robbed by a claim, what waits comes after, and no port is
//! given away that is reserved for a vNIC.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use config_publisher::core::Settings;
use config_publisher::events::{Reply, Request};
use dvs_schemas::v1::{
    ClaimOutcome, ClaimRequest, ConnectRequest, DisconnectRequest, ForgetRequest, Machine,
    MoveRequest, Presence, ReleaseRequest, V1,
};
use dvs_schemas::{Epoch, HostName, Hosts, PortId, Problem, SessionId, Timestamp, VnicId};
use proptest::prelude::*;

use crate::desk::{Desk, SITE, hello, name};

const HOSTS: usize = 4;
const PORTS: [&str; 2] = ["web-1", "web-2"];

/// Which epoch a host names.
#[derive(Debug, Clone, Copy)]
enum Named {
    None,
    Present,
    /// So many before it.
    Past(u64),
}

#[derive(Debug, Clone)]
enum Step {
    Claim(usize, usize, Option<u8>, Named),
    Release(usize, usize, Named),
    /// The port's host, as it should.
    Unplug(usize),
    Place(usize, usize),
    Move(usize, usize),
    Connect(usize, u8, Option<usize>),
    Disconnect(usize),
    /// So many minutes, in which these hosts live.
    Pass(u64, Vec<usize>),
    Forget(usize),
    Delete(usize),
    /// The switch is on the first so many hosts.
    Hosts(usize),
    /// A run of an agent.
    Hello(usize, u8),
    Work,
    Crash,
}

fn step() -> BoxedStrategy<Step> {
    let host = || 1..=HOSTS;
    let port = || 0..PORTS.len();
    let named = || {
        prop_oneof![
            3 => Just(Named::None),
            1 => Just(Named::Present),
            1 => (1..4_u64).prop_map(Named::Past),
        ]
    };
    let vnic = || proptest::option::weighted(0.3, 0..2_u8);
    prop_oneof![
        8 => (host(), port(), vnic(), named())
            .prop_map(|(host, port, vnic, named)| Step::Claim(host, port, vnic, named)),
        3 => (host(), port(), named())
            .prop_map(|(host, port, named)| Step::Release(host, port, named)),
        4 => port().prop_map(Step::Unplug),
        2 => (port(), host()).prop_map(|(port, host)| Step::Place(port, host)),
        2 => (port(), host()).prop_map(|(port, host)| Step::Move(port, host)),
        3 => (port(), 0..2_u8, proptest::option::of(host()))
            .prop_map(|(port, vnic, host)| Step::Connect(port, vnic, host)),
        1 => port().prop_map(Step::Disconnect),
        2 => (1..6_u64, prop::collection::vec(host(), 0..HOSTS))
            .prop_map(|(minutes, living)| Step::Pass(minutes, living)),
        2 => host().prop_map(Step::Forget),
        1 => port().prop_map(Step::Delete),
        1 => (1..=HOSTS).prop_map(Step::Hosts),
        1 => (host(), 1..3_u8).prop_map(|(host, run)| Step::Hello(host, run)),
        3 => Just(Step::Work),
        1 => Just(Step::Crash),
    ]
    .boxed()
}

/// A port, as far as claims go.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    host: Option<HostName>,
    vnic: Option<VnicId>,
    epoch: Epoch,
}

/// What a claim is to come to.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Expected {
    Refused(&'static str),
    Waits(HostName),
    Granted,
}

#[derive(Default)]
struct History {
    /// Every host that ever had a port in an epoch.
    hosts: BTreeMap<(PortId, Epoch), HostName>,
    /// Whose claims wait, and for which vNIC.
    waiting: BTreeMap<PortId, (HostName, Option<VnicId>)>,
    /// When those that wait were claimed last.
    heard: BTreeMap<PortId, Timestamp>,
    /// The same of ports that do not exist.
    early: BTreeMap<PortId, (HostName, Option<VnicId>)>,
    /// The runs of agents that were sent their full state.
    runs: BTreeMap<HostName, u8>,
    /// Whose each port is.
    reserved: BTreeMap<PortId, VnicId>,
}

fn host(number: usize) -> HostName {
    name(&format!("h{number}"))
}

fn port(at: usize) -> PortId {
    name(PORTS[at])
}

fn seen(desk: &Desk, id: &PortId) -> Option<Seen> {
    let placed = &desk.publisher.config().port(id)?.value;
    Some(Seen {
        host: placed.document.host.clone(),
        vnic: placed.document.vnic.clone(),
        epoch: placed.epoch,
    })
}

fn members(desk: &Desk) -> BTreeSet<HostName> {
    let config = desk.publisher.config();
    match &config.switch(&name("prod")).unwrap().value.hosts {
        Hosts::All => desk.publisher.fleet().names().cloned().collect(),
        Hosts::Only(hosts) => hosts.iter().cloned().collect(),
    }
}

fn epoch(named: Named, seen: Option<&Seen>) -> Option<Epoch> {
    let present = seen.map_or(Epoch(0), |seen| seen.epoch);
    match named {
        Named::None => None,
        Named::Present => Some(present),
        Named::Past(back) => Some(Epoch(present.0.saturating_sub(back))),
    }
}

/// True if a vNIC is connected to another port than this.
fn elsewhere(desk: &Desk, vnic: Option<&VnicId>, id: &PortId) -> bool {
    let others = (0..PORTS.len()).map(port).filter(|other| other != id);
    vnic.is_some()
        && others
            .filter_map(|other| seen(desk, &other))
            .any(|other| other.vnic.as_ref() == vnic)
}

fn expected(desk: &Desk, request: &ClaimRequest) -> Expected {
    let Some(Seen {
        host: holder,
        vnic,
        epoch,
    }) = seen(desk, &request.port)
    else {
        return Expected::Refused("port");
    };
    let other_vnic = vnic.is_some() && request.vnic.is_some() && vnic != request.vnic;
    if !members(desk).contains(&request.host) {
        return Expected::Refused("host");
    } else if other_vnic || elsewhere(desk, request.vnic.as_ref(), &request.port) {
        return Expected::Refused("vnic");
    } else if holder.as_ref() == Some(&request.host) {
        return Expected::Granted;
    } else if request.epoch.is_some_and(|named| named != epoch) {
        return Expected::Refused("epoch");
    }
    match holder {
        Some(holder) if !is_dead(desk, &holder) => Expected::Waits(holder),
        Some(_) | None => Expected::Granted,
    }
}

/// Whether a host was silent for long enough to be robbed. One that nobody
/// knows is silent from the claim on.
fn is_dead(desk: &Desk, host: &HostName) -> bool {
    let until = desk.publisher.fleet().waited_until(host);
    until.is_some_and(|until| until.after(Settings::default().take_over) <= desk.now)
}

impl History {
    fn ask(desk: &mut Desk, request: Request) -> Result<Reply, Problem> {
        let to = desk.send(request);
        desk.reply(to).expect("no answer at once")
    }

    fn claim(&mut self, desk: &mut Desk, request: ClaimRequest) {
        let (id, by) = (request.port.clone(), request.host.clone());
        let (before, tables) = (seen(desk, &id), desk.tables());
        let mut expected = expected(desk, &request);
        let waited = self.waiting.contains_key(&id);
        let reply = Self::ask(desk, Request::Claim(request.clone()));
        let after = seen(desk, &id);
        let found = match reply {
            Err(problem) => Expected::Refused(match problem.field.as_deref() {
                Some("port") => {
                    self.early.insert(id, (by, request.vnic));
                    "port"
                }
                Some("host") => "host",
                Some("vnic") => "vnic",
                Some("epoch") => "epoch",
                other => panic!("{other:?}"),
            }),
            Ok(Reply::Claimed(reply)) => match reply.outcome {
                ClaimOutcome::Waits { holder, epoch } => {
                    assert_eq!(before.as_ref().map(|seen| seen.epoch), Some(epoch));
                    self.heard.insert(id.clone(), desk.now);
                    self.waiting.insert(id, (by, request.vnic));
                    Expected::Waits(holder)
                }
                ClaimOutcome::Granted { epoch, .. } => {
                    let vnic = before.as_ref().and_then(|seen| seen.vnic.clone());
                    let vnic = vnic.or(request.vnic);
                    let host = Some(by.clone());
                    let granted = Seen { host, vnic, epoch };
                    assert_eq!(after, Some(granted));
                    let held = before.as_ref().and_then(|seen| seen.host.as_ref());
                    if held.is_some_and(|held| *held != request.host) {
                        // Of a dead holder, in the place of any other claim.
                        self.waiting.remove(&id);
                    }
                    Expected::Granted
                }
            },
            Ok(other) => panic!("{other:?}"),
        };
        if let (true, Expected::Granted, Expected::Waits(holder)) = (waited, &expected, &found) {
            // A silent host that the port was placed on while somebody waits
            // has its time from then.
            assert!(is_dead(desk, holder));
            expected = found.clone();
        }
        assert_eq!(found, expected);
        let same = found != Expected::Granted || before == after;
        assert!(!same || desk.tables() == tables, "{found:?}");
    }

    /// Who comes after a port's host, and the vNIC it has then: whoever waits,
    /// if that may be.
    fn next(
        &mut self,
        desk: &Desk,
        id: &PortId,
        vnic: Option<&VnicId>,
    ) -> (Option<HostName>, Option<VnicId>) {
        let may = |(host, wanted): &(HostName, Option<VnicId>)| {
            let same = wanted.is_none() || vnic.is_none() || wanted.as_ref() == vnic;
            let same = same && !elsewhere(desk, wanted.as_ref(), id);
            let absent = desk.publisher.fleet().presence(host, desk.now) == Presence::Absent;
            let there = !absent || self.heard.get(id) == Some(&desk.now);
            there && members(desk).contains(host) && same
        };
        let next = self.waiting.remove(id).filter(may);
        let (host, wanted) = next.map_or((None, None), |(host, vnic)| (Some(host), vnic));
        (host, vnic.cloned().or(wanted))
    }

    fn release(&mut self, desk: &mut Desk, request: ReleaseRequest) {
        let ReleaseRequest {
            port: id,
            host: by,
            epoch: named,
            ..
        } = request.clone();
        let (before, tables) = (seen(desk, &id), desk.tables());
        Self::ask(desk, Request::Release(request)).unwrap();
        let after = seen(desk, &id);
        let ends = |seen: &&Seen| seen.host.as_ref() == Some(&by) && Some(seen.epoch) == named;
        match before.as_ref().filter(ends) {
            None => {
                assert_eq!(desk.tables(), tables);
                for waiting in [&mut self.waiting, &mut self.early] {
                    if named.is_none() && waiting.get(&id).is_some_and(|(host, _)| *host == by) {
                        waiting.remove(&id);
                    }
                }
            }
            Some(Seen { vnic, .. }) => {
                let (host, vnic) = self.next(desk, &id, vnic.as_ref());
                let epoch = desk.epoch();
                assert_eq!(after, Some(Seen { host, vnic, epoch }));
            }
        }
    }

    fn take(&mut self, desk: &mut Desk, step: Step) {
        match step {
            Step::Claim(by, at, vnic, named) => {
                let port = port(at);
                let epoch = epoch(named, seen(desk, &port).as_ref());
                let request = ClaimRequest {
                    v: V1,
                    host: host(by),
                    session: SessionId::default(),
                    port,
                    vnic: vnic.map(|vnic| name(&format!("vm-{vnic}/eth0"))),
                    mac: None,
                    epoch,
                    machine: Machine::default(),
                    positions: Vec::new(),
                };
                self.claim(desk, request);
            }
            Step::Release(by, at, named) => {
                let port = port(at);
                let epoch = epoch(named, seen(desk, &port).as_ref());
                let host = host(by);
                let v = V1;
                let request = ReleaseRequest {
                    v,
                    host,
                    session: SessionId::default(),
                    port,
                    epoch,
                    to: None,
                    positions: Vec::new(),
                };
                self.release(desk, request);
            }
            Step::Unplug(at) => {
                let port = port(at);
                if let Some(Seen {
                    host: Some(host),
                    epoch,
                    ..
                }) = seen(desk, &port)
                {
                    let (v, epoch) = (V1, Some(epoch));
                    let request = ReleaseRequest {
                        v,
                        host,
                        session: SessionId::default(),
                        port,
                        epoch,
                        to: None,
                        positions: Vec::new(),
                    };
                    self.release(desk, request);
                }
            }
            Step::Place(at, on) => {
                let document = format!(
                    r#"{{"kind": "Port", "name": "{}", "switch": "prod", "group": "web", "host": "h{on}"}}"#,
                    PORTS[at]
                );
                let id = port(at);
                let is_new = seen(desk, &id).is_none();
                // Refused where the switch is not.
                let made = desk.try_apply(&document).is_ok();
                if is_new && made {
                    self.made(desk, &id);
                }
            }
            Step::Move(at, to) => {
                let request = MoveRequest {
                    port: port(at),
                    host: host(to),
                    from: None,
                    // Also to one that is absent.
                    force: true,
                    wait: None,
                    timeout: None,
                };
                let moved = Self::ask(desk, Request::Move(request));
                let there = seen(desk, &port(at)).and_then(|seen| seen.host);
                assert_eq!(moved.is_ok(), there == Some(host(to)));
            }
            Step::Connect(at, vnic, to) => self.connect(desk, &port(at), vnic, to.map(host)),
            Step::Pass(minutes, living) => self.pass(desk, minutes, &living),
            Step::Forget(by) => self.forget(desk, &host(by)),
            Step::Disconnect(at) => {
                let (port, vnic) = (port(at), None);
                self.reserved.remove(&port);
                let request = DisconnectRequest { port, vnic };
                let _ = Self::ask(desk, Request::Disconnect(request));
            }
            Step::Delete(at) => {
                self.reserved.remove(&port(at));
                let object = format!(r#"{{"kind": "Port", "name": "{}"}}"#, PORTS[at]);
                let _ = desk.try_delete(&object);
            }
            Step::Hosts(first) => {
                let hosts: Vec<String> = (1..=first).map(|n| format!("\"h{n}\"")).collect();
                let hosts = hosts.join(",");
                let document =
                    format!(r#"{{"kind": "Switch", "name": "prod", "hosts": [{hosts}]}}"#);
                // Refused where ports are placed.
                let _ = desk.try_apply(&document);
            }
            Step::Hello(by, run) => {
                let host = host(by);
                let mut greeting = hello(host.as_str(), run.into());
                // Another run of the agent comes after the one that is known.
                let known = desk.publisher.fleet().get(&host);
                let is_known = known.is_some_and(|of| of.entry.agent == Some(greeting.agent));
                let present = desk.session(&host);
                greeting.session = Some(if is_known {
                    present
                } else {
                    SessionId(present.0 + 1)
                });
                Self::ask(desk, Request::Hello(greeting)).unwrap();
                if self.runs.get(&host) != Some(&run) {
                    self.waiting.retain(|_, (waits, _)| *waits != host);
                    self.early.retain(|_, (waits, _)| *waits != host);
                    if members(desk).contains(&host) {
                        self.runs.insert(host, run);
                    }
                }
            }
            Step::Work => desk.work(),
            Step::Crash => {
                desk.restart();
                self.waiting.clear();
                self.early.clear();
                self.runs.clear();
            }
        }
        self.check(desk);
    }

    /// A port was made: what waited for that waits for its host now, if it may.
    fn made(&mut self, desk: &Desk, id: &PortId) {
        let may = |(host, vnic): &(HostName, Option<VnicId>)| {
            let there = desk.publisher.fleet().presence(host, desk.now) != Presence::Absent;
            there && members(desk).contains(host) && !elsewhere(desk, vnic.as_ref(), id)
        };
        let early = self.early.remove(id).filter(may);
        self.heard.insert(id.clone(), desk.now);
        self.waiting.extend(early.map(|early| (id.clone(), early)));
    }

    fn connect(&mut self, desk: &mut Desk, id: &PortId, vnic: u8, to: Option<HostName>) {
        let vnic: VnicId = name(&format!("vm-{vnic}/eth0"));
        let (before, tables) = (seen(desk, id), desk.tables());
        let request = ConnectRequest {
            port: id.clone(),
            vnic: vnic.clone(),
            host: to.clone(),
            mac: None,
            switch: None,
            group: None,
            wait: None,
            timeout: None,
        };
        let connected = Self::ask(desk, Request::Connect(request)).is_ok();
        let free = before.as_ref().is_some_and(|seen| {
            let same = seen.vnic.as_ref().is_none_or(|there| *there == vnic);
            let host = to.as_ref().or(seen.host.as_ref());
            let member = host.is_none_or(|host| members(desk).contains(host));
            same && member && !elsewhere(desk, Some(&vnic), id)
        });
        assert_eq!(connected, free);
        if let (true, Some(before)) = (connected, before) {
            let after = seen(desk, id).unwrap();
            let host = to.or(before.host.clone());
            assert_eq!((after.host.clone(), after.vnic), (host, Some(vnic)));
            assert_eq!(after.epoch == before.epoch, after.host == before.host);
        } else {
            assert_eq!(desk.tables(), tables);
        }
    }

    /// Ports of hosts that fall silent may go to who waits for them.
    fn pass(&mut self, desk: &mut Desk, minutes: u64, living: &[usize]) {
        let before: Vec<_> = (0..PORTS.len()).map(|at| seen(desk, &port(at))).collect();
        let forgotten: Vec<HostName> = living
            .iter()
            .map(|number| host(*number))
            .filter(|host| !desk.publisher.fleet().knows(host))
            .collect();
        for _ in 0..minutes * 6 {
            desk.pass(Duration::from_secs(10));
            for number in living {
                desk.heartbeat(host(*number).as_str());
            }
        }
        for (at, before) in before.into_iter().enumerate() {
            let id = port(at);
            let after = seen(desk, &id);
            if before != after {
                let waiting = self.waiting.get(&id).map(|(host, _)| host);
                assert_eq!(after.as_ref().and_then(|seen| seen.host.as_ref()), waiting);
                let robbed = before.and_then(|seen| seen.host).unwrap();
                let lives = living.iter().any(|number| host(*number) == robbed);
                assert!(!lives, "{robbed} lives");
            }
            let holder = after.and_then(|seen| seen.host);
            let known = |host: &HostName| desk.publisher.fleet().knows(host);
            if holder.is_none_or(|host| is_dead(desk, &host) || !known(&host)) {
                // It was granted, or could not be.
                self.waiting.remove(&id);
            }
        }
        // Those that beat again are other hosts to a publisher that had
        // forgotten them.
        for host in forgotten {
            self.waiting.retain(|_, (waits, _)| *waits != host);
            self.early.retain(|_, (waits, _)| *waits != host);
            if members(desk).contains(&host) {
                self.runs.insert(host, 1);
            }
        }
    }

    fn forget(&mut self, desk: &mut Desk, host: &HostName) {
        let tables = desk.tables();
        let held: Vec<(PortId, Seen)> = (0..PORTS.len())
            .filter_map(|at| {
                let seen = seen(desk, &port(at))?;
                (seen.host.as_ref() == Some(host)).then_some((port(at), seen))
            })
            .collect();
        let presence = desk.publisher.fleet().presence(host, desk.now);
        let request = ForgetRequest { host: host.clone() };
        if Self::ask(desk, Request::Forget(request)).is_err() {
            assert_eq!(desk.tables(), tables);
            return;
        }
        assert!(matches!(presence, Presence::Absent | Presence::Never));
        assert!(!desk.publisher.fleet().knows(host));
        self.waiting.retain(|_, (waits, _)| waits != host);
        self.early.retain(|_, (waits, _)| waits != host);
        self.runs.remove(host);
        for (id, before) in held {
            self.freed(desk, &id, &before);
        }
    }

    /// A port that is nowhere is at once whose claim waits.
    fn freed(&mut self, desk: &Desk, id: &PortId, before: &Seen) {
        let after = seen(desk, id).unwrap();
        let next = self.next(desk, id, before.vnic.as_ref());
        assert_eq!((after.host, after.vnic), next, "{id}");
        assert!(after.epoch > before.epoch);
    }

    /// What must hold after every step.
    fn check(&mut self, desk: &Desk) {
        let members = members(desk);
        for id in (0..PORTS.len()).map(port) {
            let vnic = seen(desk, &id).and_then(|seen| seen.vnic);
            if let Some(reserved) = self.reserved.get(&id) {
                assert_eq!(vnic.as_ref(), Some(reserved), "{id} was given away");
            }
            self.reserved.extend(vnic.map(|vnic| (id.clone(), vnic)));
            let Some(Seen {
                host: Some(host),
                epoch,
                ..
            }) = seen(desk, &id)
            else {
                // A port that is gone is waited for by nobody.
                if desk.publisher.config().port(&id).is_none() {
                    self.waiting.remove(&id);
                }
                continue;
            };
            assert!(members.contains(&host), "{id} is on {host}");
            if self
                .waiting
                .get(&id)
                .is_some_and(|(waits, _)| *waits == host)
            {
                self.waiting.remove(&id);
            }
            let first = self
                .hosts
                .entry((id.clone(), epoch))
                .or_insert(host.clone());
            assert_eq!(*first, host, "{id} has two hosts in epoch {epoch}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn any_history_of_claims_leaves_a_port_one_host_per_epoch(
        steps in proptest::collection::vec(step(), 1..60),
    ) {
        let mut desk = Desk::of(HOSTS);
        desk.apply(SITE);
        desk.apply(r#"{"kind": "Port", "name": "web-2", "switch": "prod", "group": "web"}"#);
        let mut history = History::default();
        for step in steps {
            history.take(&mut desk, step);
        }
        // And then everything is carried out.
        desk.restart();
        desk.work();
        prop_assert_eq!(desk.records(), 0);
    }
}
