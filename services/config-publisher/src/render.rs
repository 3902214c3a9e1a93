// SPDX-License-Identifier: Apache-2.0
//! From the configuration to what hosts are sent: always the present state of
//! what is named, never what it was when the change was made.

use std::collections::{BTreeMap, BTreeSet};

use dvs_schemas::v1::{
    Clobber, FinalState, GlobalKey, MirrorState, PortGroupState, PortState, Remove, Removed,
    RemovedPort, RenderReply, RenderRequest, SwitchObjects, SwitchState, V1, Versioned,
};
use dvs_schemas::{
    HostName, Hosts, MirrorSessionDoc, PortGroupDoc, PortId, Problem, ProblemCode, Revision,
    SessionId, SwitchDoc, SwitchName,
};

use crate::changes::Placed;
use crate::config::Config;
use crate::fleet::{Fleet, Host, way_on};
use crate::history::History;

/// A switch's settings at a revision.
pub(crate) fn settings_of(revision: Revision, doc: &SwitchDoc) -> Versioned<SwitchState> {
    let SwitchDoc {
        name: _,
        hosts: _,
        mtu,
        uplinks,
        teaming,
        private_vlans,
        runtime,
        policy,
    } = doc;
    Versioned {
        revision,
        value: SwitchState {
            mtu: *mtu,
            uplinks: uplinks.clone(),
            teaming: *teaming,
            private_vlans: private_vlans.clone(),
            runtime: runtime.clone(),
            policy: policy.clone(),
        },
    }
}

/// A port group at a revision.
pub(crate) fn group_of(revision: Revision, doc: &PortGroupDoc) -> Versioned<PortGroupState> {
    let PortGroupDoc {
        name,
        switch: _,
        policy,
        overridable: _,
        binding: _,
    } = doc;
    Versioned {
        revision,
        value: PortGroupState {
            name: name.clone(),
            policy: policy.clone(),
        },
    }
}

/// A mirror session at a revision.
pub(crate) fn mirror_of(revision: Revision, doc: &MirrorSessionDoc) -> Versioned<MirrorState> {
    let MirrorSessionDoc {
        name,
        switch: _,
        source,
        destination,
    } = doc;
    Versioned {
        revision,
        value: MirrorState {
            name: name.clone(),
            source: source.clone(),
            destination: destination.clone(),
        },
    }
}

/// A port at a revision.
pub(crate) fn port_of(revision: Revision, port: &Placed) -> Versioned<PortState> {
    let document = &port.document;
    Versioned {
        revision,
        value: PortState {
            id: document.name.clone(),
            epoch: port.epoch,
            group: document.group.clone(),
            vnic: document.vnic.clone(),
            mac: document.mac,
            policy: document.policy.clone(),
        },
    }
}

/// What messages are made from.
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    /// Who numbered the ledger's commits.
    pub history: &'a History,
    /// The revision that the messages carry.
    pub revision: Revision,
    /// The configuration.
    pub config: &'a Config,
    /// The hosts.
    pub fleet: &'a Fleet,
}

/// Whether a host is part of a switch.
#[must_use]
pub fn is_member(doc: &SwitchDoc, fleet: &Fleet, host: &HostName) -> bool {
    match &doc.hosts {
        Hosts::All => fleet.knows(host),
        Hosts::Only(hosts) => hosts.contains(host),
    }
}

/// The hosts of a switch, ascending, with what is known of each.
pub fn members<'a>(
    doc: &'a SwitchDoc,
    fleet: &'a Fleet,
) -> Box<dyn Iterator<Item = (&'a HostName, Option<&'a Host>)> + 'a> {
    match &doc.hosts {
        Hosts::All => Box::new(fleet.hosts().map(|(name, host)| (name, Some(host)))),
        Hosts::Only(hosts) => Box::new(hosts.iter().map(|name| (name, fleet.get(name)))),
    }
}

/// What every host of a switch gets in its full state.
#[derive(Debug, Clone)]
pub struct Globals {
    settings: Versioned<SwitchState>,
    objects: SwitchObjects,
}

impl<'a> View<'a> {
    fn clobber(&self, switch: &SwitchName, state: FinalState) -> Clobber {
        Clobber {
            v: V1,
            store: self.history.store(),
            lineage: self.history.lineage(),
            switch: switch.clone(),
            revision: self.revision,
            insist: false,
            state,
        }
    }

    /// Whether a host ever was there, or is to come.
    #[must_use]
    pub fn expects(&self, switch: &SwitchName, host: &HostName) -> bool {
        self.fleet.knows(host) || self.is_member(switch, host)
    }

    fn is_member(&self, switch: &SwitchName, host: &HostName) -> bool {
        let entry = self.config.switch(switch);
        entry.is_some_and(|entry| is_member(&entry.value, self.fleet, host))
    }

    /// The global part of a switch's full state; none if there is no such
    /// switch.
    #[must_use]
    pub fn globals(&self, switch: &SwitchName) -> Option<Globals> {
        let entry = self.config.switch(switch)?;
        let groups = self.config.groups(switch);
        let mirrors = self.config.mirrors(switch);
        Some(Globals {
            settings: settings_of(entry.revision, &entry.value),
            objects: SwitchObjects {
                groups: groups.map(|e| group_of(e.revision, &e.value)).collect(),
                mirrors: mirrors.map(|e| mirror_of(e.revision, &e.value)).collect(),
                ports: Vec::new(),
            },
        })
    }

    /// All that a host shall have of a switch, which may be nothing. `globals`
    /// are the switch's, made once for many hosts.
    #[must_use]
    pub fn whole(
        &self,
        switch: &SwitchName,
        host: &HostName,
        globals: Option<&Globals>,
    ) -> Clobber {
        let state = match globals {
            Some(globals) if self.is_member(switch, host) => {
                let Globals { settings, objects } = globals.clone();
                let placed = self.config.on_host(switch, host);
                let ports = placed.into_iter().flat_map(|on| &on.ports);
                let ports = ports.filter_map(|id| self.config.port(id));
                FinalState::Full {
                    settings,
                    objects: SwitchObjects {
                        ports: ports.map(|e| port_of(e.revision, &e.value)).collect(),
                        ..objects
                    },
                }
            }
            Some(_) | None => FinalState::Absent,
        };
        self.clobber(switch, state)
    }

    /// Nothing of the switch is to stay, for whoever gets it.
    #[must_use]
    pub fn absent(&self, switch: &SwitchName) -> Clobber {
        self.clobber(switch, FinalState::Absent)
    }

    /// The named parts of a switch, with what a host needs to merge the ports:
    /// their groups and the settings. None if the switch is gone, or if all of
    /// the ports are gone from the host.
    #[must_use]
    pub fn partial(&self, switch: &SwitchName, parts: &Parts<'_>) -> Option<Clobber> {
        let entry = self.config.switch(switch)?;
        let ports: Vec<_> = parts
            .ports()
            .filter_map(|(host, id)| self.port_on(switch, host, id))
            .collect();
        if parts.placed.is_some() && ports.is_empty() {
            return None;
        }
        let mut groups: BTreeSet<_> = ports.iter().map(|port| &port.value.group).collect();
        let mut mirrors = Vec::new();
        let mut removed = Vec::new();
        for key in parts.globals {
            let present = match key {
                GlobalKey::Group(name) => {
                    let present = self.config.group(switch, name).is_some();
                    if present {
                        groups.insert(name);
                    }
                    present
                }
                GlobalKey::Mirror(name) => {
                    let found = self.config.mirror(switch, name);
                    mirrors.extend(found.map(|e| mirror_of(e.revision, &e.value)));
                    found.is_some()
                }
            };
            if !present {
                // As of now there is none, so nothing up to now is to stay.
                removed.push(Removed {
                    object: key.clone(),
                    revision: self.revision,
                });
            }
        }
        let settings = parts.settings || !ports.is_empty();
        if !settings && groups.is_empty() && mirrors.is_empty() && removed.is_empty() {
            return None;
        }
        let groups = groups.into_iter();
        let groups = groups.filter_map(|name| self.config.group(switch, name));
        let groups = groups.map(|e| group_of(e.revision, &e.value)).collect();
        let state = FinalState::Partial {
            settings: settings.then(|| settings_of(entry.revision, &entry.value)),
            objects: SwitchObjects {
                groups,
                mirrors,
                ports,
            },
            removed,
        };
        Some(self.clobber(switch, state))
    }

    fn port_on(
        &self,
        switch: &SwitchName,
        host: &HostName,
        id: &PortId,
    ) -> Option<Versioned<PortState>> {
        let entry = self.config.port(id)?;
        let document = &entry.value.document;
        let there = document.switch == *switch && document.host.as_ref() == Some(host);
        there.then(|| port_of(entry.revision, &entry.value))
    }

    /// The removal of ports that commits took from a host; none if all of them
    /// are there again.
    #[must_use]
    pub fn removal(
        &self,
        switch: &SwitchName,
        host: &HostName,
        ports: &BTreeMap<PortId, Revision>,
    ) -> Option<Remove> {
        let gone = ports.iter();
        let gone = gone.filter(|(id, _)| self.port_on(switch, host, id).is_none());
        let ports: Vec<_> = gone
            .map(|(id, revision)| RemovedPort {
                port: id.clone(),
                revision: *revision,
            })
            .collect();
        (!ports.is_empty()).then(|| Remove {
            v: V1,
            store: self.history.store(),
            lineage: self.history.lineage(),
            switch: switch.clone(),
            ports,
        })
    }

    /// Answers retry's question.
    ///
    /// # Errors
    /// This ledger doesn't say what the host is to have: the host follows
    /// another history, it has not said hello since this one was made, or
    /// nothing was applied yet. Retry may ask for what it knows of a ledger
    /// that was lost.
    pub fn answer(&self, request: &RenderRequest) -> Result<RenderReply, Problem> {
        let (RenderRequest::State { host, .. } | RenderRequest::Removal { host, .. }) = request;
        if let Some(diverged) = self.fleet.get(host).and_then(Host::diverged) {
            return Err(Problem::new(ProblemCode::Conflict, way_on(diverged)));
        }
        if !self.fleet.knows(host) {
            let message = format!("host {host} has not said hello to this publisher yet");
            return Err(Problem::new(ProblemCode::NotFound, message));
        }
        if self.revision == Revision::ZERO {
            let message = "nothing was applied yet; an empty ledger can't say that what a host \
                           has is to go";
            return Err(Problem::new(ProblemCode::Unavailable, message));
        }
        let host = self.fleet.get(host);
        Ok(self.due_now(request, host.map(Host::session).unwrap_or_default()))
    }

    fn due_now(&self, request: &RenderRequest, session: SessionId) -> RenderReply {
        match request {
            RenderRequest::State { host, switch } => {
                let globals = self.globals(switch);
                RenderReply::Clobber {
                    session,
                    clobber: Box::new(self.whole(switch, host, globals.as_ref())),
                }
            }
            RenderRequest::Removal {
                host,
                switch,
                port,
                // May be of a store that this one replaced, and then above
                // all revisions to come for long: the host would bury the port
                // under it. That the port is not there holds as of now.
                revision: _,
            } => {
                if self.port_on(switch, host, port).is_some() {
                    return RenderReply::Cancelled {};
                }
                let remove = Remove {
                    v: V1,
                    store: self.history.store(),
                    lineage: self.history.lineage(),
                    switch: switch.clone(),
                    ports: vec![RemovedPort {
                        port: port.clone(),
                        revision: self.revision,
                    }],
                };
                RenderReply::Remove { session, remove }
            }
        }
    }
}

/// Parts of a switch's state, by name.
#[derive(Debug, Clone, Copy)]
pub struct Parts<'a> {
    /// The settings.
    pub settings: bool,
    /// Groups and mirror sessions.
    pub globals: &'a BTreeSet<GlobalKey>,
    /// Ports of one host.
    pub placed: Option<(&'a HostName, &'a BTreeSet<PortId>)>,
}

impl<'a> Parts<'a> {
    fn ports(&self) -> impl Iterator<Item = (&'a HostName, &'a PortId)> + use<'a> {
        self.placed
            .into_iter()
            .flat_map(|(host, ports)| ports.iter().map(move |port| (host, port)))
    }
}
