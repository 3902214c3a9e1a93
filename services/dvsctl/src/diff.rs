// SPDX-License-Identifier: Apache-2.0
//! What applying documents would change: the objects as they are against the
//! documents as they are written, and what the hosts would do about it.

use std::collections::BTreeSet;
use std::time::Duration;

use dvs_schemas::v1::{ApplyRequest, DryRunReply, Item, Options};
use dvs_schemas::{Document, ObjectKey, subjects};
use similar::TextDiff;

use crate::args::{DiffArgs, of_object};
use crate::change::plans;
use crate::documents::{self, Written};
use crate::failure::{Failure, Refusal, Verdict};
use crate::get::present;
use crate::output::{colours, print, say, yaml};
use crate::progress::Progress;
use crate::session::Connector;

/// See the same number of `apply --dry-run`.
const PLANNING: Duration = Duration::from_secs(10);

/// Runs `diff`.
///
/// # Errors
/// The documents can't be read, or the publisher can't be asked, or refuses.
/// All are usage or worse, so that 1 always means "differs".
pub async fn run(connector: Connector<'_>, args: DiffArgs) -> Result<Verdict, Failure> {
    let written = documents::read(&args.files.files)?;
    let request = ApplyRequest {
        documents: written.iter().map(|w| w.document.clone()).collect(),
        options: Options {
            dry_run: true,
            ..Options::default()
        },
    };
    let session = connector.open().await?;
    let asked = session.ask_patiently(subjects::CONFIG_APPLY, &request, PLANNING);
    let reply: DryRunReply = match Progress::during("asking the hosts for their plans", asked).await
    {
        Ok(reply) => reply,
        Err(Failure::Refused(refusal)) => {
            let (problem, place) = documents::locate(&written, refusal.problem);
            return Err(Failure::Refused(Box::new(Refusal { problem, place })));
        }
        Err(failure) => return Err(failure),
    };
    if reply.changed.is_empty() {
        say(&format!("no difference to revision {}", reply.revision));
        return Ok(Verdict::Yes);
    }
    let changed = changed(&reply, &written);
    let present = present(&session, changed.clone()).await?;
    let mut text = String::new();
    for one in written
        .iter()
        .filter(|w| changed.contains(&w.document.key()))
    {
        text.push_str(&object(present.get(&one.document.key()), one, colours())?);
    }
    print(&text)?;
    print(&format!("\n{}", plans(&reply)))?;
    Ok(Verdict::No)
}

/// What differs: as the publisher says, or all if its answer was too long to
/// say so. The diff of an object that doesn't differ is empty.
fn changed(reply: &DryRunReply, written: &[Written]) -> BTreeSet<ObjectKey> {
    if reply.left_out > 0 {
        return written.iter().map(|w| w.document.key()).collect();
    }
    let changed = reply.changed.iter();
    changed.filter_map(|c| c.object.key().ok()).collect()
}

/// A unified diff of one object.
///
/// # Errors
/// A document has no YAML form, which is none of the user's making.
pub fn object(present: Option<&Item>, written: &Written, colours: bool) -> std::io::Result<String> {
    let key = written.document.key();
    let (old, from) = match present {
        Some(item) => (
            yaml(&item.document)?,
            format!("{} (revision {})", of_object(&key), item.revision),
        ),
        None => (String::new(), "nothing".to_owned()),
    };
    let new = yaml(&as_it_would_be(present, &written.document))?;
    let to = format!("{} ({})", of_object(&key), written.place);
    let diff = TextDiff::from_lines(&old, &new)
        .unified_diff()
        .context_radius(3)
        .header(&from, &to)
        .to_string();
    Ok(if colours { coloured(&diff) } else { diff })
}

/// A port's host and vNIC, left out, stay as they are.
fn as_it_would_be(present: Option<&Item>, written: &Document) -> Document {
    match (written, present.map(|item| &item.document)) {
        (Document::Port(new), Some(Document::Port(old))) => {
            let mut new = new.clone();
            new.host = new.host.or_else(|| old.host.clone());
            new.vnic = new.vnic.or_else(|| old.vnic.clone());
            Document::Port(new)
        }
        (
            Document::Switch(_)
            | Document::PortGroup(_)
            | Document::Port(_)
            | Document::MirrorSession(_),
            _,
        ) => written.clone(),
    }
}

fn coloured(diff: &str) -> String {
    diff.lines()
        .map(|line| match colour(line) {
            Some(colour) => format!("\x1b[{colour}m{line}\x1b[0m\n"),
            None => format!("{line}\n"),
        })
        .collect()
}

/// The colour of a line, as terminals number them; none for context.
fn colour(line: &str) -> Option<u8> {
    let colours = [("+++", 1), ("---", 1), ("+", 32), ("-", 31), ("@", 36)];
    let of_line = colours.iter().find(|(begins, _)| line.starts_with(begins));
    of_line.map(|(_, colour)| *colour)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use dvs_schemas::Revision;

    fn written(text: &str) -> Written {
        documents::parse("web.yaml", text).unwrap().pop().unwrap()
    }

    fn item(text: &str) -> Item {
        Item {
            revision: Revision(7),
            epoch: None,
            document: written(text).document,
        }
    }

    const OLD: &str = "{kind: PortGroup, name: web, switch: prod, policy: {vlan: {access: 100}}}";
    const NEW: &str = "{kind: PortGroup, name: web, switch: prod, policy: {vlan: {access: 200}}}";

    #[test]
    fn a_changed_object_shows_its_lines() {
        let diff = object(Some(&item(OLD)), &written(NEW), false).unwrap();
        assert_eq!(
            diff,
            "--- portgroup/prod/web (revision 7)\n\
             +++ portgroup/prod/web (web.yaml:1: document 1)\n\
             @@ -3,4 +3,4 @@\n switch: prod\n policy:\n   vlan:\n\
             -    access: 100\n\
             +    access: 200\n"
        );
        let colours = object(Some(&item(OLD)), &written(NEW), true).unwrap();
        assert!(colours.contains("\x1b[31m-    access: 100\x1b[0m\n"));
    }

    #[test]
    fn a_port_keeps_where_it_is_when_the_document_leaves_it_out() {
        let old = item("{kind: Port, name: p, switch: prod, group: web, host: h1, vnic: vm/0}");
        let new = written("{kind: Port, name: p, switch: prod, group: db}");
        let diff = object(Some(&old), &new, false).unwrap();
        assert!(
            diff.contains("-group: web\n+group: db\n host: h1\n vnic: vm/0\n"),
            "{diff}"
        );
    }
}
