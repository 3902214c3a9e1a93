// SPDX-License-Identifier: Apache-2.0
//! `delete`: objects by name or by document, and what hosts still have of those
//! that are there no more.

use clap::ValueEnum as _;
use dvs_schemas::v1::{DeleteRequest, ObjectRef};
use dvs_schemas::{Kind, subjects};

use crate::args::{DeleteArgs, KindWord, ObjectKind};
use crate::change::{options, placed, send};
use crate::documents;
use crate::failure::{Failure, Verdict};
use crate::get;
use crate::output::say;
use crate::removals::{self, Deleted};
use crate::session::{Connector, Session};

/// Runs `delete`.
///
/// # Errors
/// As [`crate::change::apply`].
pub async fn run(connector: Connector<'_>, args: DeleteArgs) -> Result<Verdict, Failure> {
    let DeleteArgs {
        kind,
        names,
        switch,
        files,
        if_exists,
        change,
    } = args;
    let (mut objects, written) = if let Some(kind) = kind {
        (named(kind, &names, switch.as_ref())?, Vec::new())
    } else {
        let written = documents::read(&files)?;
        let objects = written
            .iter()
            .map(|w| ObjectRef::from(&w.document.key()))
            .collect();
        (objects, written)
    };
    let session = connector.open().await?;
    let mut gone = Vec::new();
    if if_exists {
        (objects, gone) = existing(&session, objects).await?;
    }
    let total = objects.len() as u64;
    let sent = if if_exists && objects.is_empty() {
        say("nothing of that is there");
        Verdict::Yes
    } else {
        let request = DeleteRequest {
            objects,
            options: options(&change),
        };
        send(&session, subjects::CONFIG_DELETE, &request, &change, total)
            .await
            .map_err(|failure| placed(failure, &written))?
    };
    if gone.is_empty() || change.dry_run {
        return Ok(sent);
    }
    let settled = removals::settle(&session, &Deleted::of(&gone), change.wait).await?;
    Ok(match (sent, settled) {
        (Verdict::Yes, Verdict::Yes) => Verdict::Yes,
        (Verdict::Yes | Verdict::No, Verdict::Yes | Verdict::No) => Verdict::No,
    })
}

/// Those of the objects that are there, and those that are not.
async fn existing(
    session: &Session,
    objects: Vec<ObjectRef>,
) -> Result<(Vec<ObjectRef>, Vec<ObjectRef>), Failure> {
    let keys = objects.iter().filter_map(|object| object.key().ok());
    let present = get::present(session, keys.collect()).await?;
    let is_there = |object: &ObjectRef| object.key().is_ok_and(|key| present.contains_key(&key));
    Ok(objects.into_iter().partition(is_there))
}

/// The objects that a command line names: a kind and names, or a kind with each
/// name.
fn named(
    first: KindWord<ObjectKind>,
    words: &[String],
    switch: Option<&dvs_schemas::SwitchName>,
) -> Result<Vec<ObjectRef>, Failure> {
    let KindWord { kind, name } = first;
    let Some(name) = name else {
        if words.is_empty() {
            return Err(Failure::Usage(
                "name what is to be deleted, like port web-1 or port/web-1".to_owned(),
            ));
        }
        let objects = words.iter().map(|name| object(kind.into(), name, switch));
        return objects.collect();
    };
    let others = words.iter().map(|word| {
        let split = word
            .split_once('/')
            .ok_or("a kind and a slash before it".to_owned());
        let named = split.and_then(|(kind, name)| Ok((ObjectKind::from_str(kind, true)?, name)));
        let (kind, name) = named.map_err(|why| {
            Failure::Usage(format!("{word:?} needs its kind, like port/{word}: {why}"))
        })?;
        object(kind.into(), name, switch)
    });
    std::iter::once(object(kind.into(), &name, switch))
        .chain(others)
        .collect()
}

/// The object that a word of the command line names: `prod/web`, or `web` with
/// the switch beside.
fn object(
    kind: Kind,
    word: &str,
    switch: Option<&dvs_schemas::SwitchName>,
) -> Result<ObjectRef, Failure> {
    let usage = |problem: &dyn ToString| Failure::Usage(problem.to_string());
    let (switch, name) = match word.split_once('/') {
        Some((switch, name)) => (Some(switch.parse().map_err(|e| usage(&e as _))?), name),
        None => (switch.cloned(), word),
    };
    let object = ObjectRef {
        kind,
        name: name.to_owned(),
        switch,
    };
    // Says what is missing in the terms of documents, which are those of the
    // flags too.
    object.key().map_err(|problem| usage(&problem))?;
    Ok(object)
}
