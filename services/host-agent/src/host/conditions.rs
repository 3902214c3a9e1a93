// SPDX-License-Identifier: Apache-2.0
//! What is wrong on the host for as long as it lasts. Whoever knows of a kind
//! says all of that kind whenever it may have changed; what is not said any
//! more is over. Nothing of this is kept over a restart: a new run of the agent
//! finds what is there by then.

use std::collections::BTreeMap;
use std::time::Duration;

use dvs_schemas::v1::{Condition, ConditionKind, ConditionList, ConditionTarget};
use dvs_schemas::{HostName, PortId, SwitchName, Timestamp};

use super::room::Room;
use crate::datapath::ConditionsNow;

/// How long nothing has to be plugged in before it counts: a machine that stops
/// or moves is unplugged a moment before its port goes, and one that starts
/// may be plugged in after its port came.
const NOTHING_PLUGGED_IN: Duration = Duration::from_secs(10);

/// How long a bond may look for a partner: three of its messages at the fast
/// rate of one a second (IEEE 802.1AX) tell of it, and a wire that was just
/// plugged in takes a moment more.
const LINK_AGGREGATION: Duration = Duration::from_secs(10);

/// How long Open vSwitch may be away before that counts: an upgrade restarts it
/// within some seconds.
const NOT_IN_FORCE: Duration = Duration::from_secs(10);

/// All conditions of one host. Their number is bounded by that of its
/// interfaces, ports and sessions.
#[derive(Debug)]
pub(super) struct Conditions {
    host: HostName,
    by_kind: BTreeMap<ConditionKind, BTreeMap<ConditionTarget, Standing>>,
}

/// A condition that holds.
#[derive(Debug)]
struct Standing {
    message: String,
    since: Timestamp,
    /// Whether it has held for long enough to be reported.
    reported: bool,
}

/// How long a condition has to hold before it is reported.
fn lasting(kind: ConditionKind) -> Duration {
    match kind {
        ConditionKind::NothingPluggedIn => NOTHING_PLUGGED_IN,
        ConditionKind::LinkAggregation => LINK_AGGREGATION,
        ConditionKind::NotInForce => NOT_IN_FORCE,
        ConditionKind::ClaimWaits
        | ConditionKind::ClaimRefused
        | ConditionKind::InterfaceUnusable
        | ConditionKind::UnreadableWord
        | ConditionKind::Drift
        | ConditionKind::ForeignSettings
        | ConditionKind::MirrorIncomplete => Duration::ZERO,
    }
}

impl Conditions {
    pub(super) fn new(host: HostName) -> Self {
        Self {
            host,
            by_kind: BTreeMap::new(),
        }
    }

    /// These are all conditions of a kind now. True if what is reported is
    /// another thereby.
    pub(super) fn set(&mut self, now: Timestamp, kind: ConditionKind, all: ConditionsNow) -> bool {
        let mut before = self.by_kind.remove(&kind).unwrap_or_default();
        if all.is_empty() && before.is_empty() {
            return false;
        }
        let mut changed = false;
        let mut standing = BTreeMap::new();
        for (on, message) in all {
            let known = before.remove(&on);
            let before = known.as_ref().filter(|known| known.reported);
            let since = known.as_ref().map_or(now, |known| known.since);
            let reported = since.after(lasting(kind)) <= now;
            if reported && before.is_none_or(|before| before.message != message) {
                changed = true;
            }
            // It is the same one in other words, which may hold a count.
            if reported && before.is_none() {
                log_raised(&self.host, kind, &on, &message);
            }
            let condition = Standing {
                message,
                since,
                reported,
            };
            standing.insert(on, condition);
        }
        for (on, _) in before.iter().filter(|(_, over)| over.reported) {
            changed = true;
            log_over(&self.host, kind, on);
        }
        if !standing.is_empty() {
            self.by_kind.insert(kind, standing);
        }
        changed
    }

    /// When the next condition has held for long enough.
    pub(super) fn due(&self) -> Option<Timestamp> {
        let waiting = self.by_kind.iter().flat_map(|(kind, standing)| {
            let waiting = standing.values().filter(|condition| !condition.reported);
            waiting.map(|condition| condition.since.after(lasting(*kind)))
        });
        waiting.min()
    }

    /// Reports what has held for long enough by now. True if there is any.
    pub(super) fn wake(&mut self, now: Timestamp) -> bool {
        let mut changed = false;
        for (kind, standing) in &mut self.by_kind {
            for (on, condition) in standing.iter_mut().filter(|(_, it)| !it.reported) {
                if condition.since.after(lasting(*kind)) <= now {
                    condition.reported = true;
                    changed = true;
                    log_raised(&self.host, *kind, on, &condition.message);
                }
            }
        }
        changed
    }

    /// True if a condition of a kind is reported of a port.
    pub(super) fn reports(
        &self,
        kind: ConditionKind,
        (switch, port): (&SwitchName, &PortId),
    ) -> bool {
        let standing = self.by_kind.get(&kind).into_iter().flatten();
        let mut reported = standing.filter(|(_, it)| it.reported);
        reported.any(|(on, _)| (on.switch.as_ref(), on.port.as_ref()) == (Some(switch), Some(port)))
    }

    /// True if a condition of a kind is reported.
    pub(super) fn has(&self, kind: ConditionKind) -> bool {
        let standing = self.by_kind.get(&kind).into_iter();
        standing.flat_map(BTreeMap::values).any(|it| it.reported)
    }

    /// What is reported, as far as one message has room for it. What doesn't
    /// fit in full is shortened, so that most is said of most: of each kind and
    /// port one first, kind by kind in turn.
    pub(super) fn list(&self) -> ConditionList {
        let all = self.in_turn();
        let mut room = Room::new();
        if all.iter().all(|condition| room.take(condition)) {
            return listed(all, 0);
        }
        let mut room = Room::new();
        let all = all.into_iter().map(shortened);
        let (taken, left): (Vec<_>, Vec<_>) = all.partition(|condition| room.take(condition));
        listed(taken, left.len())
    }

    /// All that is reported, in the order in which it matters.
    fn in_turn(&self) -> Vec<Condition> {
        let mut all = Vec::new();
        for (kind, standing) in &self.by_kind {
            let mut of_port = BTreeMap::<_, u32>::new();
            let reported = standing.iter().filter(|(_, it)| it.reported);
            for (turn, (on, it)) in reported.enumerate() {
                let before = of_port.entry(on.port.as_ref()).or_default();
                let condition = Condition {
                    kind: *kind,
                    on: on.clone(),
                    message: it.message.clone(),
                    since: it.since,
                };
                all.push(((*before, turn), condition));
                *before += 1;
            }
        }
        // Stable, so within a turn they stay in the order of their kinds.
        all.sort_by_key(|(turn, _)| *turn);
        all.into_iter().map(|(_, condition)| condition).collect()
    }
}

/// Longest text of a condition where there is not room for all, in characters:
/// what is wrong stands in front, and what to do about it behind.
const SHORT: usize = 80;

fn shortened(condition: Condition) -> Condition {
    let end = condition.message.char_indices().nth(SHORT);
    let message = match end {
        Some((end, _)) => format!("{}…", condition.message.get(..end).unwrap_or_default()),
        None => condition.message,
    };
    Condition {
        message,
        ..condition
    }
}

/// A list as it is told: by kind.
fn listed(mut conditions: Vec<Condition>, more: usize) -> ConditionList {
    conditions.sort_by(|one, other| (one.kind, &one.on).cmp(&(other.kind, &other.on)));
    ConditionList {
        conditions,
        more: u64::try_from(more).unwrap_or(u64::MAX),
    }
}

fn log_raised(host: &HostName, kind: ConditionKind, on: &ConditionTarget, why: &str) {
    let ConditionTarget {
        switch,
        port,
        mirror,
        interface,
        field,
    } = on;
    tracing::warn!(
        %host, condition = kind.title(), why, interface, field,
        switch = switch.as_ref().map(tracing::field::display),
        port = port.as_ref().map(tracing::field::display),
        mirror = mirror.as_ref().map(tracing::field::display),
        "condition raised"
    );
}

fn log_over(host: &HostName, kind: ConditionKind, on: &ConditionTarget) {
    let ConditionTarget {
        switch,
        port,
        mirror,
        interface,
        field,
    } = on;
    tracing::info!(
        %host, condition = kind.title(), interface, field,
        switch = switch.as_ref().map(tracing::field::display),
        port = port.as_ref().map(tracing::field::display),
        mirror = mirror.as_ref().map(tracing::field::display),
        "condition cleared"
    );
}
