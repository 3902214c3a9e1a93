// SPDX-License-Identifier: Apache-2.0
//! Whether a request may be carried out, and what it changes then. Pure: the
//! store is read, never written; a problem means that nothing happened.
//!
//! What was admitted stays consistent by itself: each document is held against
//! the store as it will be, and each change against what depends on it.

mod connecting;
mod deletion;
mod draft;
mod forgetting;
mod mirroring;
mod plugging;
mod rules;

use std::collections::BTreeSet;

use dvs_schemas::codec::REQUEST_MAX;
use dvs_schemas::v1::ObjectRef;
use dvs_schemas::{Document, Epoch, ObjectKey, Problem, ProblemCode, Revision, SwitchName};

use crate::changes::{Change, ChangeSet, Object, Placed};
use crate::config::{Config, Largest};
use crate::fleet::Fleet;
pub use connecting::{connect, disconnect, relocate};
use draft::Draft;
pub use forgetting::forget;
pub use plugging::{Claimed, Ending, claim, release};

/// What a full state's message takes beside its objects: field names, store,
/// switch name (63 bytes at most) and the lengths of four lists are below 512
/// bytes. As much again is kept free in each answer of a service, and retry
/// gets the state as an answer, wrapped once more.
const ENVELOPE: usize = 1_536;

/// What documents change.
///
/// # Errors
/// The first document that can't be, its field, and what is allowed there.
pub fn apply(
    config: &Config,
    fleet: &Fleet,
    documents: &[Document],
    if_revision: Option<Revision>,
) -> Result<ChangeSet, Problem> {
    let keys: Vec<ObjectKey> = documents.iter().map(Document::key).collect();
    unique(&keys, "documents")?;
    unchanged_since(config, &keys, "documents", if_revision)?;
    let mut draft = Draft::new(config, fleet);
    for (at, document) in documents.iter().enumerate() {
        let object = settle(config, document);
        let object = object.map_err(|p| p.of(place("documents", at, &keys)))?;
        draft.put(at, object);
    }
    for (at, object) in draft.named() {
        rules::check(&draft, object).map_err(|p| p.of(place("documents", at, &keys)))?;
    }
    let switches: BTreeSet<&SwitchName> = draft.named().map(|(_, of)| of.switch()).collect();
    for switch in switches {
        if let Some((key, problem)) = mirroring::conflict(&draft, switch) {
            let at = keys.iter().position(|named| *named == key);
            return Err(problem.of(place("documents", at.unwrap_or_default(), &keys)));
        }
    }
    Ok(draft.changes())
}

/// What deleting objects changes.
///
/// # Errors
/// The first object that is not there, or that others depend on.
pub fn delete(
    config: &Config,
    objects: &[ObjectRef],
    if_revision: Option<Revision>,
) -> Result<ChangeSet, Problem> {
    let mut keys = Vec::with_capacity(objects.len());
    for (at, object) in objects.iter().enumerate() {
        let key = object.key().map_err(|problem| match objects {
            [_] => problem,
            [] | [_, _, ..] => {
                let named = problem.document.clone().unwrap_or_default();
                Problem {
                    document: Some(format!("objects[{at}] {named}")),
                    ..problem
                }
            }
        });
        keys.push(key?);
    }
    unique(&keys, "objects")?;
    unchanged_since(config, &keys, "objects", if_revision)?;
    deletion::check(config, &keys)
        .map_err(|(at, problem)| problem.of(place("objects", at, &keys)))?;
    let mut sorted: Vec<&ObjectKey> = keys.iter().collect();
    // What needs others goes before them.
    sorted.sort_by(|a, b| b.cmp(a));
    let found = sorted.into_iter().filter_map(|key| config.object(key));
    let changes = found.map(|(since, before)| Change::Delete { before, since });
    Ok(ChangeSet(changes.collect()))
}

/// Whether every host's full state still fits into one message of at most
/// `limit` bytes: `before` and `after` the changes, for one switch. What
/// was too large before may shrink or stay.
///
/// # Errors
/// Names the host, the size and the limit.
pub fn fits(
    changes: &ChangeSet,
    switch: &SwitchName,
    before: &Largest,
    after: &Largest,
    limit: usize,
) -> Result<(), Problem> {
    let size = after.bytes + ENVELOPE;
    if size <= limit || after.bytes <= before.bytes {
        return Ok(());
    }
    let whose = match &after.host {
        Some(host) => format!("host {host}'s full state of switch {switch}"),
        None => format!("every host's full state of switch {switch}"),
    };
    let message = format!("{whose} would have {size} bytes");
    let problem = Problem::new(ProblemCode::TooLarge, message).allow(format!(
        "{limit} bytes (nats-server's max_payload, at most {REQUEST_MAX}); place ports on other \
         hosts, or have fewer groups"
    ));
    // Any of the changes that add to it; the last one is past the limit.
    let adds = |object: &&Object| match object {
        Object::Port(port) => port.document.switch == *switch && port.document.host == after.host,
        Object::Switch(_) | Object::PortGroup(_) | Object::MirrorSession(_) => {
            object.switch() == switch
        }
    };
    let added = changes.0.iter().rev().filter_map(Change::after).find(adds);
    Err(match added {
        None => problem,
        Some(object) => problem.of(object.key()).at(match object {
            Object::Port(_) => "host",
            Object::Switch(_) | Object::PortGroup(_) => "policy",
            Object::MirrorSession(_) => "source",
        }),
    })
}

/// How a document is named in a problem: with its place, if there are several.
fn place(list: &str, at: usize, keys: &[ObjectKey]) -> String {
    match keys {
        [only] => only.to_string(),
        several => match several.get(at) {
            Some(key) => format!("{list}[{at}] {key}"),
            None => format!("{list}[{at}]"),
        },
    }
}

fn absent(key: &ObjectKey) -> Problem {
    Problem::new(ProblemCode::NotFound, format!("there is no {key}")).allow("what dvsctl get lists")
}

fn unique(keys: &[ObjectKey], list: &str) -> Result<(), Problem> {
    let mut seen = std::collections::BTreeMap::new();
    for (at, key) in keys.iter().enumerate() {
        if let Some(first) = seen.insert(key, at) {
            let message = format!("{key} is named twice, first at {list}[{first}]");
            return Err(Problem::invalid(message)
                .of(place(list, at, keys))
                .at("name")
                .allow("each object once in a request"));
        }
    }
    Ok(())
}

/// Whether all that a request names is as it was at `if_revision`. Which
/// objects were deleted is not remembered, only when the last one was: what is
/// not there may have been that one.
fn unchanged_since(
    config: &Config,
    keys: &[ObjectKey],
    list: &str,
    if_revision: Option<Revision>,
) -> Result<(), Problem> {
    let Some(bound) = if_revision else {
        return Ok(());
    };
    let newest = config.revision();
    if bound > newest {
        let message = format!("the newest revision is {newest}, and if_revision {bound} is ahead");
        return Err(Problem::invalid(message)
            .of(place(list, 0, keys))
            .at("if_revision")
            .allow(format!("0 to {newest}")));
    }
    for (at, key) in keys.iter().enumerate() {
        let (revision, what) = match config.revision_of(key) {
            Some(revision) => (revision, format!("{key} was changed")),
            None => (
                config.deleted(),
                format!("there is no {key}; objects were deleted"),
            ),
        };
        if revision > bound {
            let message = format!("{what} at revision {revision}, after if_revision {bound}");
            return Err(Problem::new(ProblemCode::Conflict, message)
                .of(place(list, at, keys))
                .at("if_revision")
                .allow(format!(
                    "{revision} or later, once you have seen that change"
                )));
        }
    }
    Ok(())
}

/// The object that a document asks for. A port's placement and connection stay
/// what they are where the document says nothing of them.
fn settle(config: &Config, document: &Document) -> Result<Object, Problem> {
    Ok(match document {
        Document::Switch(doc) => Object::Switch(doc.clone()),
        Document::PortGroup(doc) => Object::PortGroup(doc.clone()),
        Document::MirrorSession(doc) => Object::MirrorSession(doc.clone()),
        Document::Port(doc) => {
            let mut document = doc.clone();
            let placed_now = config.next_epoch();
            let Some(entry) = config.port(&doc.name) else {
                let placed = document.host.is_some();
                let epoch = if placed { placed_now } else { Epoch::default() };
                return Ok(Object::Port(Placed { document, epoch }));
            };
            let Placed {
                document: before,
                epoch,
            } = &entry.value;
            rules::same_switch(before, doc)?;
            rules::same_vnic(before, doc)?;
            document.host = document.host.or_else(|| before.host.clone());
            document.vnic = document.vnic.or_else(|| before.vnic.clone());
            let epoch = if document.host == before.host {
                *epoch
            } else {
                placed_now
            };
            Object::Port(Placed { document, epoch })
        }
    })
}
