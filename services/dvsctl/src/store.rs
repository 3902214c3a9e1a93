// SPDX-License-Identifier: Apache-2.0
//! An operator's word that this publisher's configuration is to hold on hosts
//! that follow another history.

use std::fmt::Write as _;
use std::time::Duration;

use dvs_schemas::subjects;
use dvs_schemas::v1::{ContinueReply, ContinueRequest, Deadline, DivergedHost, Wait};

use crate::args::{ContinueArgs, StoreAction};
use crate::change::{patiently, pushed};
use crate::failure::{Failure, Verdict};
use crate::output::{count, say};
use crate::session::Connector;

/// Runs `store`.
///
/// # Errors
/// The publisher can't be asked, or refuses.
pub async fn run(connector: Connector<'_>, action: StoreAction) -> Result<Verdict, Failure> {
    let StoreAction::Continue(ContinueArgs { dry_run, wait }) = action;
    let request = ContinueRequest {
        dry_run,
        wait: wait.map(|_| Wait::Applied),
        timeout: wait,
    };
    let patience = wait.map_or(Duration::ZERO, Deadline::get);
    let session = connector.open().await?;
    let reply: ContinueReply =
        patiently(&session, subjects::STORE_CONTINUE, &request, wait, patience).await?;
    say(&told(&reply));
    Ok(pushed(reply.applied.as_ref()))
}

/// What the reply says.
fn told(reply: &ContinueReply) -> String {
    let ContinueReply {
        v: _,
        dry_run,
        store,
        revision,
        continues: _,
        hosts,
        objects,
        diverged,
        examples,
        applied: _,
    } = reply;
    let mut text = String::new();
    for DivergedHost { host, diverged } in examples {
        // A string takes it all.
        let _ = writeln!(text, "{host}: {diverged}");
    }
    let others = diverged.saturating_sub(examples.len() as u64);
    if others > 0 {
        let _ = writeln!(text, "and {}", count(others, "more host"));
    }
    let (objects, hosts) = (count(*objects, "object"), count(*hosts, "host"));
    let _ = match (dry_run, store) {
        (false, Some(store)) => write!(
            text,
            "{objects} hold as revision {revision} of store {store}; full states go to {hosts}"
        ),
        (true, _) | (false, None) => write!(
            text,
            "would make this publisher's {objects} hold as revision {revision} of a new store, \
             with full states to {hosts}: what they have besides is removed from them"
        ),
    };
    text
}
