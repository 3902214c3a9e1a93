// SPDX-License-Identifier: Apache-2.0
//! Where a port's configuration is: what is wanted of it, what its host has of
//! that, and which queue holds the rest. Three services know a part each; this
//! joins them.

use std::collections::BTreeMap;

use dvs_schemas::v1::{
    ConditionsOfHost, Diverged, HostListRequest, HostStatus, Item, Presence, Queue, RepushEntry,
    RetryListRequest, RipEntry, RuntimeConditionsRequest, RuntimeGetRequest, RuntimeListReply,
    RuntimeListRequest, RuntimeRecord, SwitchOnHost,
};
use dvs_schemas::{Document, Epoch, HostName, PortDoc, PortId, Revision, Timestamp, subjects};
use serde::Serialize;

use crate::conditions;
use crate::failure::{Failure, chain};
use crate::hosts::{self, Queues, queues_or_warning};
use crate::output::say;
use crate::session::Session;

/// Ports of which something is to be known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// One.
    One(PortDoc),
    /// Those of a list; its filters.
    Those(RuntimeListRequest),
}

/// What the services know of some ports, besides their documents.
#[derive(Debug)]
pub struct Known {
    hosts: BTreeMap<HostName, HostStatus>,
    runtime: BTreeMap<PortId, RuntimeRecord>,
    queues: Queues,
    conditions: Vec<ConditionsOfHost>,
}

/// A port: what is wanted, what is so, and what holds the difference.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Whereabouts {
    /// The port as it is wanted.
    pub document: PortDoc,
    /// The commit that last changed it.
    pub wanted: Revision,
    /// Its placement's fence.
    pub epoch: Option<Epoch>,
    /// Its host, as far as there is one.
    pub host: Option<OnHost>,
    /// The port as its host told it last; none if no host ever did, or the
    /// collector could not be asked.
    pub runtime: Option<RuntimeRecord>,
    /// Whether the host has what is wanted.
    pub state: PortSync,
    /// The re-push entry that will bring it there.
    pub out_of_sync: Option<RepushEntry>,
    /// Virtual ports of it that are still to go, from other hosts mostly.
    pub rip: Vec<RipEntry>,
    /// What is wrong with it, on whatever host.
    pub conditions: Vec<ConditionsOfHost>,
}

/// A port's host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OnHost {
    /// Its name.
    pub host: HostName,
    /// Whether it is there.
    pub presence: Presence,
    /// When it was last heard of.
    pub heard: Option<Timestamp>,
    /// What it follows instead of the publisher's ledger.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub diverged: Option<Diverged>,
    /// The port's switch there: wanted and observed revision.
    pub switch: Option<SwitchOnHost>,
}

/// Whether a port's host has what is wanted of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PortSync {
    /// It is on no host.
    Nowhere,
    /// The host has applied all that is wanted of the switch.
    InSync,
    /// The host has the port as it is wanted, and misses something else.
    Applied,
    /// A push is on its way, or the host is away and nothing was missed.
    Pending,
    /// The host missed a push, which is tried again.
    OutOfSync {
        /// Why.
        reason: String,
    },
    /// The host follows another history than the publisher's ledger: it is sent
    /// nothing, and wires what that history says.
    Diverged {
        /// Which.
        follows: String,
    },
}

impl std::fmt::Display for PortSync {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Nowhere => f.write_str("on no host"),
            Self::InSync => f.write_str("in sync"),
            Self::Applied => f.write_str("applied, while its host lags in something else"),
            Self::Pending => f.write_str("pending"),
            Self::OutOfSync { reason } => write!(f, "out of sync: {reason}"),
            Self::Diverged { follows } => write!(
                f,
                "diverged: {follows}; the port stays wired there as that says until the newer \
                 ledger is put back, or dvsctl store continue; a move doesn't end it there"
            ),
        }
    }
}

impl Whereabouts {
    /// The revision of the port's configuration that its host has applied, and
    /// when it said so; none if it told of no placement but earlier ones.
    #[must_use]
    pub fn observed(&self) -> Option<(Revision, Timestamp)> {
        let record = self.runtime.as_ref()?;
        let state = record.state.as_ref()?;
        let here = self.host.as_ref()?.host == record.host;
        (here && Some(state.epoch) == self.epoch)
            .then_some((state.revision, record.changed.unwrap_or(record.updated)))
    }

    fn judged(mut self) -> Self {
        let Some(on) = &self.host else {
            self.state = PortSync::Nowhere;
            return self;
        };
        if let Some(diverged) = &on.diverged {
            let follows = diverged.to_string();
            self.state = PortSync::Diverged { follows };
            return self;
        }
        let on_switch = on.switch.as_ref();
        let whole = on_switch.is_some_and(|on| on.observed.is_some_and(|seen| seen >= on.wanted));
        let has_port = self
            .observed()
            .is_some_and(|(revision, _)| revision == self.wanted);
        self.state = match &self.out_of_sync {
            None if whole => PortSync::InSync,
            // What an entry is about may be another port of the host.
            Some(entry) if has_port && entry.state.revision < self.wanted => PortSync::Applied,
            Some(entry) => PortSync::OutOfSync {
                reason: entry.state.last_error.clone(),
            },
            // What it lags in may be the port's group.
            None => PortSync::Pending,
        };
        self
    }
}

/// Asks for what is known of ports besides their documents.
///
/// # Errors
/// The publisher can't be asked. Where only collector or retry can't, stderr
/// says what is missing.
pub async fn ask(session: &Session, wanted: Wanted) -> Result<Known, Failure> {
    let (switch, host) = match &wanted {
        Wanted::One(port) => (Some(port.switch.clone()), port.host.clone()),
        Wanted::Those(filter) => (filter.switch.clone(), filter.host.clone()),
    };
    let request = HostListRequest {
        switch: switch.clone(),
        host: host.clone(),
        after: None,
    };
    let hosts = hosts::fetch(session, request).await?;
    let missed = RetryListRequest {
        queue: Some(Queue::Repush),
        host,
        switch: switch.clone(),
        after: None,
    };
    let mut queues = queues_or_warning(session, missed).await;
    // Of whatever host.
    let leftovers = RetryListRequest {
        queue: Some(Queue::Rip),
        host: None,
        switch,
        after: None,
    };
    queues.rip = queues_or_warning(session, leftovers).await.rip;
    let about = RuntimeConditionsRequest {
        port: match &wanted {
            Wanted::One(port) => Some(port.name.clone()),
            Wanted::Those(_) => None,
        },
        ..RuntimeConditionsRequest::default()
    };
    let conditions = conditions::or_warning(session, about).await;
    let runtime = runtime_or_warning(session, wanted).await;
    let by_host = hosts.into_iter().map(|host| (host.host.clone(), host));
    let by_port = runtime.into_iter().map(|known| (known.port.clone(), known));
    Ok(Known {
        hosts: by_host.collect(),
        runtime: by_port.collect(),
        queues,
        conditions,
    })
}

async fn runtime_or_warning(session: &Session, wanted: Wanted) -> Vec<RuntimeRecord> {
    let asked = match wanted {
        Wanted::One(port) => one(session, port.name).await,
        Wanted::Those(filter) => fetch(session, filter).await,
    };
    asked.unwrap_or_else(|failure| {
        say(&format!(
            "warning: what hosts told of ports is not known: {}",
            chain(&failure)
        ));
        Vec::new()
    })
}

async fn one(session: &Session, port: PortId) -> Result<Vec<RuntimeRecord>, Failure> {
    let request = RuntimeGetRequest { port };
    match session.read(subjects::RUNTIME_GET, &request).await {
        Ok(record) => Ok(vec![record]),
        Err(failure) if failure.is_not_found() => Ok(Vec::new()),
        Err(failure) => Err(failure),
    }
}

/// All stored runtime states that a request asks for.
///
/// # Errors
/// As [`Session::pages`].
pub async fn fetch(
    session: &Session,
    request: RuntimeListRequest,
) -> Result<Vec<RuntimeRecord>, Failure> {
    let mut records = Vec::new();
    session
        .pages(
            subjects::RUNTIME_LIST,
            request,
            |request, page: RuntimeListReply| {
                records.extend(page.ports);
                request.after = page.next;
                request.after.is_some()
            },
        )
        .await?;
    Ok(records)
}

impl Known {
    /// The time by retry's clock, which the queues' times are of.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.queues.now
    }

    /// The whereabouts of a port; none if the item is none.
    #[must_use]
    pub fn of(&self, item: &Item) -> Option<Whereabouts> {
        let Document::Port(document) = &item.document else {
            return None;
        };
        let host = document.host.as_ref();
        let mut missed = self.queues.out_of_sync.iter();
        let missed = missed
            .find(|entry| Some(&entry.key.host) == host && entry.key.switch == document.switch);
        let rip = self.queues.rip.iter();
        let rip = rip.filter(|entry| entry.key.port == document.name);
        let whereabouts = Whereabouts {
            wanted: item.revision,
            epoch: item.epoch,
            host: host.map(|host| self.on_host(host, document)),
            runtime: self.runtime.get(&document.name).cloned(),
            state: PortSync::Nowhere,
            out_of_sync: missed.cloned(),
            rip: rip.cloned().collect(),
            conditions: conditions::of_port(&self.conditions, &document.name, host),
            document: document.clone(),
        };
        Some(whereabouts.judged())
    }

    fn on_host(&self, name: &HostName, document: &PortDoc) -> OnHost {
        let status = self.hosts.get(name);
        let mut switches = status.into_iter().flat_map(|status| &status.switches);
        OnHost {
            host: name.clone(),
            presence: status.map_or(Presence::Never, |status| status.presence),
            heard: status.and_then(|status| status.heard),
            diverged: status.and_then(|status| status.diverged.clone()),
            switch: switches.find(|on| on.switch == document.switch).cloned(),
        }
    }
}
