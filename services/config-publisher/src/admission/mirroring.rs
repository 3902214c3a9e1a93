// SPDX-License-Identifier: Apache-2.0
//! Mirror sessions. Those of a switch are judged together, as the store will
//! be: a VLAN of copies is never copied from, so no copy is copied again and no
//! frame goes round, whatever order they came in.

use std::collections::BTreeMap;

use dvs_schemas::v1::DOCUMENTS_MAX;
use dvs_schemas::{
    MirrorDestination, MirrorSessionDoc, ObjectKey, PortDoc, PortId, PrivateVlans, Problem,
    ProblemCode, SwitchDoc, SwitchName, Trunk, Vlan, VlanId,
};

use super::draft::Draft;
use super::rules::{some, the_switch};

/// Checks a session by itself.
pub(super) fn check_session(draft: &Draft<'_>, doc: &MirrorSessionDoc) -> Result<(), Problem> {
    the_switch(draft, &doc.switch)?;
    if doc.source.ports.is_empty() && doc.source.vlans.is_empty() {
        return Err(Problem::invalid("the session has nothing to copy")
            .at("source")
            .allow(format!("1 to {DOCUMENTS_MAX} ports, or VLANs, or both")));
    }
    for (at, source) in doc.source.ports.iter().enumerate() {
        let field = || format!("source.ports[{at}].port");
        on_switch(draft, &doc.switch, &source.port).map_err(|p| p.at(field()))?;
        if doc.destination == MirrorDestination::Port(source.port.clone()) {
            return Err(circular(&doc.destination).at(field()));
        }
    }
    match &doc.destination {
        MirrorDestination::Port(port) => {
            on_switch(draft, &doc.switch, port).map_err(|p| p.at("destination.port"))?;
        }
        MirrorDestination::Vlan(vlan) if doc.source.vlans.contains(vlan) => {
            return Err(circular(&doc.destination).at("destination.vlan"));
        }
        MirrorDestination::Vlan(_) => {}
    }
    // Where ports are changes without the session: what was admitted may be
    // applied again as it is, wherever they went.
    let before = draft.config.mirror(&doc.switch, &doc.name);
    if before.is_some_and(|before| before.value == *doc) {
        return Ok(());
    }
    within_reach(draft, doc)
}

/// Copies to a port don't leave its host. Ports that the request places itself
/// are as they are in an export, which must be restorable wherever they were;
/// their hosts report what is out of reach.
fn within_reach(draft: &Draft<'_>, doc: &MirrorSessionDoc) -> Result<(), Problem> {
    let host = |port: &PortId| {
        let named = draft.names(&ObjectKey::Port(port.clone()));
        draft.port(port).filter(|_| !named)?.document.host.clone()
    };
    let MirrorDestination::Port(destination) = &doc.destination else {
        return Ok(());
    };
    let Some(here) = host(destination) else {
        return Ok(());
    };
    for (at, source) in doc.source.ports.iter().enumerate() {
        let Some(there) = host(&source.port).filter(|there| *there != here) else {
            continue;
        };
        let message = format!(
            "port {} is on host {there}, and port {destination}, where its copies are to go, on \
             host {here}",
            source.port
        );
        return Err(Problem::new(ProblemCode::Conflict, message)
            .at(format!("source.ports[{at}].port"))
            .allow(format!(
                "ports of host {here}, or destination: {{vlan: …}}, which takes copies to every host"
            )));
    }
    Ok(())
}

fn circular(destination: &MirrorDestination) -> Problem {
    let what = match destination {
        MirrorDestination::Port(port) => format!("port {port}"),
        MirrorDestination::Vlan(vlan) => format!("VLAN {vlan}"),
    };
    Problem::invalid(format!("{what} is a source and the destination"))
        .allow("a destination that is no source of the session")
}

fn on_switch(draft: &Draft<'_>, switch: &SwitchName, id: &PortId) -> Result<(), Problem> {
    let allowed = format!("ports of switch {switch}");
    match draft.port(id) {
        Some(port) if port.document.switch == *switch => Ok(()),
        Some(port) => {
            let message = format!("port {id} belongs to switch {}", port.document.switch);
            Err(Problem::invalid(message).allow(allowed))
        }
        None => {
            let message = format!("there is no port {id}");
            Err(Problem::new(ProblemCode::NotFound, message).allow(allowed))
        }
    }
}

/// What is wrong with two sessions together, or with one and a port's VLAN.
struct Conflict {
    message: String,
    allowed: &'static str,
    /// What could be another way, by object and field, the likeliest first.
    parties: Vec<(ObjectKey, String)>,
}

/// The first conflict between the sessions of a switch in which an object of
/// the request takes part, with that object. Others are not the request's
/// fault.
pub(super) fn conflict(draft: &Draft<'_>, switch: &SwitchName) -> Option<(ObjectKey, Problem)> {
    let sessions: Vec<&MirrorSessionDoc> = draft.mirrors(switch).collect();
    if sessions.is_empty() {
        return None;
    }
    let together = Together {
        draft,
        switch: draft.switch(switch)?,
        sessions: &sessions,
    };
    let mut conflicts = together.copied_again().chain(together.cut_off());
    conflicts.find_map(|conflict| {
        let Conflict {
            message,
            allowed,
            parties,
        } = conflict;
        let mut parties = parties.into_iter();
        let (key, field) = parties.find(|(key, _)| draft.names(key))?;
        let problem = Problem::new(ProblemCode::Conflict, message);
        Some((key, problem.at(field).allow(allowed)))
    })
}

struct Together<'a> {
    draft: &'a Draft<'a>,
    switch: &'a SwitchDoc,
    sessions: &'a [&'a MirrorSessionDoc],
}

impl Together<'_> {
    /// Source VLANs that get copies themselves, as one of a private VLAN that copies
    /// go into does, and source ports of sessions into VLANs that are in such a
    /// one.
    fn copied_again(&self) -> impl Iterator<Item = Conflict> {
        let into = self.sessions.iter().filter_map(|session| {
            let MirrorDestination::Vlan(vlan) = session.destination else {
                return None;
            };
            Some((vlan, *session))
        });
        let into: BTreeMap<VlanId, &MirrorSessionDoc> = into.collect();
        let mut conflicts = Vec::new();
        for session in self.sessions {
            for (at, vlan) in session.source.vlans.iter().enumerate() {
                let private = &self.switch.private_vlans;
                let mut into = into.iter();
                let Some((to, by)) = into.find(|(to, _)| share_frames(*vlan, **to, private)) else {
                    continue;
                };
                let switch = ObjectKey::Switch(session.switch.clone());
                let parties = vec![
                    (key(session), format!("source.vlans[{at}]")),
                    destination(by),
                    (switch, "private_vlans".to_owned()),
                ];
                let through = match vlan == to {
                    true => String::new(),
                    false => format!(", and VLAN {vlan} is of the same private VLAN as {to}"),
                };
                conflicts.push(again(session, by, parties, through));
            }
            let MirrorDestination::Vlan(_) = session.destination else {
                continue;
            };
            for (at, source) in session.source.ports.iter().enumerate() {
                let Some(port) = self.draft.port(&source.port) else {
                    continue;
                };
                let document = &port.document;
                let vlan = self.vlan(document);
                let Some((vlan, by)) = into
                    .iter()
                    .find(|(to, _)| carries(vlan, **to, &self.switch.private_vlans))
                else {
                    continue;
                };
                let field = "policy.vlan".to_owned();
                let group = ObjectKey::PortGroup(document.switch.clone(), document.group.clone());
                let parties = vec![
                    (key(session), format!("source.ports[{at}].port")),
                    destination(by),
                    (ObjectKey::Port(document.name.clone()), field.clone()),
                    (group, field.clone()),
                    (ObjectKey::Switch(document.switch.clone()), field),
                ];
                let through = format!(", and port {} is in VLAN {vlan}", document.name);
                conflicts.push(again(session, by, parties, through));
            }
        }
        conflicts.into_iter()
    }

    /// Ports that get the copies of one session, and so nothing else, and are
    /// sources of another.
    fn cut_off(&self) -> impl Iterator<Item = Conflict> {
        let to = self.sessions.iter().filter_map(|by| {
            let MirrorDestination::Port(port) = &by.destination else {
                return None;
            };
            Some((port, *by))
        });
        let to: BTreeMap<&PortId, &MirrorSessionDoc> = to.collect();
        let mut conflicts = Vec::new();
        for session in self.sessions {
            for (at, source) in session.source.ports.iter().enumerate() {
                let Some(by) = to.get(&source.port) else {
                    continue;
                };
                let field = "destination.port".to_owned();
                let parties = vec![
                    (key(session), format!("source.ports[{at}].port")),
                    (key(by), field),
                ];
                conflicts.push(Conflict {
                    message: format!(
                        "{}, and {}: a port that gets copies has no other traffic",
                        told(by),
                        told(session)
                    ),
                    allowed: "a destination that is no source of any session",
                    parties,
                });
            }
        }
        conflicts.into_iter()
    }

    /// What a port does with VLANs, by the layers of its policy.
    fn vlan<'a>(&'a self, port: &'a PortDoc) -> Option<&'a Vlan> {
        let group = self.draft.group(&port.switch, &port.group);
        let group = group.and_then(|group| group.policy.vlan.as_ref());
        let layers = [
            port.policy.vlan.as_ref(),
            group,
            self.switch.policy.vlan.as_ref(),
        ];
        layers.into_iter().flatten().next()
    }
}

fn key(session: &MirrorSessionDoc) -> ObjectKey {
    ObjectKey::MirrorSession(session.switch.clone(), session.name.clone())
}

fn destination(session: &MirrorSessionDoc) -> (ObjectKey, String) {
    (key(session), "destination.vlan".to_owned())
}

fn again(
    session: &MirrorSessionDoc,
    by: &MirrorSessionDoc,
    parties: Vec<(ObjectKey, String)>,
    through: String,
) -> Conflict {
    let first = told(by);
    let message = if session.name == by.name {
        format!("{first}{through}: its copies would be copied again")
    } else {
        let second = told(session);
        format!("{first}{through}, and {second}: the copies would be copied again")
    };
    Conflict {
        message,
        allowed: "VLANs for copies that are no source VLANs, and no VLANs of source ports of a \
                  session into a VLAN; an analyser may be in a VLAN of copies itself",
        parties,
    }
}

fn told(session: &MirrorSessionDoc) -> String {
    let ports = session.source.ports.iter();
    let ports = ports.map(|source| format!("port {}", source.port));
    let vlans = session.source.vlans.iter();
    let vlans = vlans.map(|vlan| format!("VLAN {vlan}"));
    let to = match &session.destination {
        MirrorDestination::Port(port) => format!("to port {port}"),
        MirrorDestination::Vlan(vlan) => format!("into VLAN {vlan}"),
    };
    let sources = some(ports.chain(vlans));
    format!("session {} copies {sources} {to}", session.name)
}

/// True if a port sends or receives frames of a VLAN. What is sent in one VLAN
/// of a private VLAN is received in others.
fn carries(vlan: Option<&Vlan>, wanted: VlanId, private: &PrivateVlans) -> bool {
    match vlan {
        None | Some(Vlan::Untagged) => false,
        Some(Vlan::Access(vlan)) => *vlan == wanted,
        Some(Vlan::Trunk(Trunk { vlans, native })) => {
            let mut ranges = vlans.ranges().iter();
            *native == Some(wanted)
                || ranges.any(|range| range.first() <= wanted && wanted <= range.last())
        }
        Some(Vlan::Private(vlan)) => share_frames(*vlan, wanted, private),
    }
}

/// True if what is sent in one VLAN may be received by ports of the other: it
/// is the same one, or of the same private VLAN.
fn share_frames(one: VlanId, other: VlanId, private: &PrivateVlans) -> bool {
    let primary = |vlan| private.role_of(vlan).map(|(_, primary)| primary);
    one == other || primary(one).is_some() && primary(one) == primary(other)
}
