// SPDX-License-Identifier: Apache-2.0
//! When a changed state is told: at once if what changed is rare, when it has
//! stopped changing if it is busy. What is neither by nature or by the switch's
//! word is found out from how often it changes.

use std::collections::BTreeMap;
use std::time::Duration;

use dvs_schemas::v1::PortRuntime;
use dvs_schemas::{PortId, RuntimeClass, RuntimeField, RuntimeSettings, Timestamp};

/// Changes in a row that a field of class auto may have and still be rare: a
/// boot takes a link down and up once or twice.
const RARE: u32 = 4;

/// Quiet times in which a field of class auto may change once, on and on, and
/// still be rare.
const SELDOM: u32 = 4;

/// Changes that wait until they are over, and how often fields changed lately.
#[derive(Debug)]
pub(super) struct Pacing {
    quiet: Duration,
    held: BTreeMap<PortId, Held>,
    /// Of fields of class auto that changed; forgotten with their port.
    lately: BTreeMap<(PortId, RuntimeField), Lately>,
}

/// A state that is told once it has stopped changing.
#[derive(Debug, Clone)]
struct Held {
    state: PortRuntime,
    changed: Timestamp,
}

/// How often a field changed lately: a bucket that leaks.
#[derive(Debug, Clone, Copy)]
struct Lately {
    changes: u32,
    at: Timestamp,
}

impl Pacing {
    pub(super) fn new(quiet: Duration) -> Self {
        Self {
            quiet,
            held: BTreeMap::new(),
            lately: BTreeMap::new(),
        }
    }

    /// Takes in a state; back comes what is to be told now. `told` is what was
    /// told last.
    pub(super) fn take(
        &mut self,
        now: Timestamp,
        told: Option<&PortRuntime>,
        state: PortRuntime,
        settings: &RuntimeSettings,
    ) -> Option<PortRuntime> {
        let held = self.held.get(&state.port).map(|held| &held.state);
        let Some(before) = held.or(told) else {
            return Some(state); // told for the first time
        };
        if *before == state {
            return None;
        }
        let (changed, by_configuration) = between(before, &state);
        let mut rare = by_configuration;
        for field in changed {
            rare |= self.is_rare(now, &state.port, field, settings.class(field));
        }
        if rare {
            self.held.remove(&state.port);
            return Some(state);
        }
        let port = state.port.clone();
        let changed = now;
        self.held.insert(port, Held { state, changed });
        None
    }

    fn is_rare(
        &mut self,
        now: Timestamp,
        port: &PortId,
        field: RuntimeField,
        class: RuntimeClass,
    ) -> bool {
        match class {
            RuntimeClass::Rare => true,
            RuntimeClass::Busy => false,
            RuntimeClass::Auto => {
                let leak = self.quiet * SELDOM;
                let first = Lately {
                    changes: 0,
                    at: now,
                };
                let lately = self.lately.entry((port.clone(), field)).or_insert(first);
                let leaked = now.since(lately.at).as_millis() / leak.as_millis().max(1);
                let leaked = u32::try_from(leaked).unwrap_or(u32::MAX);
                if leaked > 0 {
                    lately.changes = lately.changes.saturating_sub(leaked);
                    lately.at = now;
                }
                lately.changes = lately.changes.saturating_add(1).min(2 * RARE);
                lately.changes <= RARE
            }
        }
    }

    /// Forgets a port.
    pub(super) fn forget(&mut self, port: &PortId) {
        self.held.remove(port);
        self.lately.retain(|(of, _), _| of != port);
    }

    /// Whether something of a port waits.
    pub(super) fn holds(&self, port: &PortId) -> bool {
        self.held.contains_key(port)
    }

    /// When the next state has stopped changing, if none changes again.
    pub(super) fn due(&self) -> Option<Timestamp> {
        let over = self.held.values();
        over.map(|held| held.changed.after(self.quiet)).min()
    }

    /// States that have stopped changing by now.
    pub(super) fn over(&mut self, now: Timestamp) -> Vec<PortRuntime> {
        let mut over = Vec::new();
        self.held.retain(|_, held| {
            let waits = held.changed.after(self.quiet) > now;
            if !waits {
                over.push(held.state.clone());
            }
            waits
        });
        over
    }
}

/// What differs: fields that have a class, and whether anything else does,
/// which comes with a configuration and is rare.
fn between(before: &PortRuntime, after: &PortRuntime) -> (Vec<RuntimeField>, bool) {
    let PortRuntime {
        port: _,
        switch,
        group,
        epoch,
        revision,
        link,
        vlan,
        blocked,
        mirrored,
    } = before;
    let by_configuration = *switch != after.switch
        || *group != after.group
        || *epoch != after.epoch
        || *revision != after.revision;
    let fields = [
        (RuntimeField::Link, *link != after.link),
        (RuntimeField::Vlan, *vlan != after.vlan),
        (RuntimeField::Blocked, *blocked != after.blocked),
        (RuntimeField::Mirrored, *mirrored != after.mirrored),
    ];
    let changed = fields.into_iter().filter(|(_, differs)| *differs);
    (changed.map(|(field, _)| field).collect(), by_configuration)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use dvs_schemas::v1::Link;
    use dvs_schemas::{Epoch, Revision, Vlan};

    const QUIET: Duration = Duration::from_secs(5);

    fn state(link: Link, blocked: bool) -> PortRuntime {
        PortRuntime {
            port: "web-1".parse().unwrap(),
            switch: "prod".parse().unwrap(),
            group: "web".parse().unwrap(),
            epoch: Epoch(1),
            revision: Revision(1),
            link,
            vlan: Vlan::Untagged,
            blocked,
            mirrored: Vec::new(),
        }
    }

    fn settings(class: RuntimeClass) -> RuntimeSettings {
        RuntimeSettings {
            classes: [(RuntimeField::Link, class)].into(),
            ..RuntimeSettings::default()
        }
    }

    /// Flaps a link so often, a second apart; says what was told and when.
    fn flap(class: RuntimeClass, times: u64) -> Vec<(u64, Link)> {
        let mut pacing = Pacing::new(QUIET);
        let mut last = state(Link::Down, false);
        let mut told = Vec::new();
        for second in 1..=times + 60 {
            let now = Timestamp(second * 1_000);
            let mut out = pacing.over(now);
            if second <= times {
                let link = if second % 2 == 1 {
                    Link::Up
                } else {
                    Link::Down
                };
                let state = state(link, false);
                out.extend(pacing.take(now, Some(&last), state, &settings(class)));
            }
            for state in out {
                if state != last {
                    told.push((second, state.link));
                }
                last = state;
            }
        }
        assert_eq!(pacing.due(), None);
        told
    }

    #[test]
    fn a_rare_field_is_told_at_each_change_and_a_busy_one_when_it_has_stopped() {
        let each = [(1, Link::Up), (2, Link::Down), (3, Link::Up)];
        assert_eq!(flap(RuntimeClass::Rare, 3), each);
        assert_eq!(flap(RuntimeClass::Busy, 3), [(8, Link::Up)]);
    }

    #[test]
    fn to_and_fro_is_nothing() {
        assert_eq!(flap(RuntimeClass::Busy, 4), []);
    }

    #[test]
    fn a_field_that_changes_too_often_is_found_to_be_busy() {
        let told = flap(RuntimeClass::Auto, 31);
        let mut expected: Vec<_> = (1..=4)
            .map(|second| {
                (
                    second,
                    if second % 2 == 1 {
                        Link::Up
                    } else {
                        Link::Down
                    },
                )
            })
            .collect();
        // The last of 31 changes, and quiet.
        expected.push((36, Link::Up));
        assert_eq!(told, expected);
    }

    #[test]
    fn a_field_that_was_busy_is_rare_again_after_some_calm() {
        let mut pacing = Pacing::new(QUIET);
        let auto = settings(RuntimeClass::Auto);
        let (up, down) = (state(Link::Up, false), state(Link::Down, false));
        let mut now = Timestamp(0);
        let mut change =
            |pacing: &mut Pacing, seconds: u64, to: &PortRuntime, told: &PortRuntime| {
                now = now.after(Duration::from_secs(seconds));
                pacing.over(now);
                pacing.take(now, Some(told), to.clone(), &auto)
            };
        for _ in 0..10 {
            change(&mut pacing, 1, &up, &down);
        }
        assert_eq!(change(&mut pacing, 1, &up, &down), None);
        let calm = 2 * u64::from(SELDOM * RARE) * QUIET.as_secs();
        assert_eq!(change(&mut pacing, calm, &up, &down), Some(up.clone()));
    }

    #[test]
    fn a_rare_change_takes_along_what_waited() {
        let mut pacing = Pacing::new(QUIET);
        let busy = settings(RuntimeClass::Busy);
        let told = state(Link::Down, false);
        let now = Timestamp(0);
        let waits = pacing.take(now, Some(&told), state(Link::Up, false), &busy);
        assert_eq!(waits, None);
        let blocked = state(Link::Up, true);
        let both = pacing.take(now, Some(&told), blocked.clone(), &busy);
        assert_eq!((both, pacing.due()), (Some(blocked), None));
    }
}
