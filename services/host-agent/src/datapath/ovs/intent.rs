// SPDX-License-Identifier: Apache-2.0
//! What Open vSwitch is to make true: what steps asked for, as far as this
//! host can. Kept in memory, since a port whose vNIC is not there yet has no
//! row to be written to.

use std::collections::BTreeMap;
use std::sync::Arc;

use dvs_schemas::{MirrorName, Mtu, PolicyField, PortId, Rate, ShapingLimit, SwitchName};

use super::limits::{self, Beyond};
use crate::datapath::{BridgeSettings, Mirror, Step, StepFailure, VirtualPort, Write};

/// All switches of the host.
pub(super) type Intent = BTreeMap<SwitchName, Wish>;

/// One switch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wish {
    pub(super) settings: Arc<BridgeSettings>,
    pub(super) ports: BTreeMap<PortId, Arc<VirtualPort>>,
    pub(super) mirrors: BTreeMap<MirrorName, Arc<Mirror>>,
}

impl Wish {
    pub(super) fn new(settings: Arc<BridgeSettings>) -> Self {
        Self {
            settings,
            ports: BTreeMap::new(),
            mirrors: BTreeMap::new(),
        }
    }
}

/// What this Open vSwitch, and the kernel below it, can do. All that is not
/// known to be missing counts as there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Abilities {
    /// Why nothing limits what a port sends, if so.
    pub(super) no_ingress: Option<String>,
    /// Why nothing limits what a port receives, if so.
    pub(super) no_egress: Option<String>,
}

/// Takes a step into the intent.
///
/// # Errors
/// It can't be made true, or not wholly; then the intent has what comes
/// closest without letting pass what must not: a port whose addresses can't be
/// checked is blocked, one that can't be limited is not, and a limit that
/// can't be held is the nearest that can.
pub(super) fn take(
    intent: &mut Intent,
    Step { switch, write }: &Step,
    abilities: &Abilities,
) -> Result<(), StepFailure> {
    if let Write::SetBridge { to, .. } = write {
        intent
            .entry(switch.clone())
            .and_modify(|wish| wish.settings = to.clone())
            .or_insert_with(|| Wish::new(to.clone()));
        return Ok(());
    }
    let Some(wish) = intent.get_mut(switch) else {
        return match write {
            Write::SetBridge { .. } | Write::SetPort { .. } | Write::SetMirror { .. } => {
                let message = format!("there is no bridge for switch {switch}");
                Err(StepFailure::new(None, message))
            }
            // It went with its bridge.
            Write::RemoveMirror { .. } | Write::RemovePort { .. } | Write::RemoveBridge { .. } => {
                Ok(())
            }
        };
    };
    match write {
        Write::SetBridge { .. } => {}
        Write::SetPort { port, to, .. } => {
            let (can, failure) = within(to, wish.settings.mtu, abilities);
            wish.ports.insert(port.clone(), can);
            return failure.map_or(Ok(()), Err);
        }
        Write::RemovePort { port, .. } => drop(wish.ports.remove(port)),
        Write::SetMirror { mirror, to, .. } => {
            wish.mirrors.insert(mirror.clone(), to.clone());
        }
        Write::RemoveMirror { mirror, .. } => drop(wish.mirrors.remove(mirror)),
        Write::RemoveBridge { .. } => {
            let left = wish.ports.len();
            if left > 0 {
                let message = format!("the bridge still has {left} ports");
                return Err(StepFailure::new(None, message));
            }
            intent.remove(switch);
        }
    }
    Ok(())
}

/// A port as far as it can be made true, and the fields that can't.
pub(super) fn within(
    to: &Arc<VirtualPort>,
    mtu: Mtu,
    abilities: &Abilities,
) -> (Arc<VirtualPort>, Option<StepFailure>) {
    let policy = &to.policy;
    let unlimited = ShapingLimit::Unlimited;
    let mut failures = Vec::new();
    let mut can = VirtualPort::clone(to);
    for field in to.unchecked() {
        can.policy.blocked = true;
        let why = "needs the vNIC's MAC address; set the port's mac. Until then the port is \
                   blocked";
        failures.push(not_supported(field, why));
    }
    let limits = [
        (
            PolicyField::ShapingIngress,
            &mut can.policy.ingress,
            &abilities.no_ingress,
            held(policy.ingress, limits::ingress),
        ),
        (
            PolicyField::ShapingEgress,
            &mut can.policy.egress,
            &abilities.no_egress,
            held(policy.egress, |rate| limits::egress(rate, mtu)),
        ),
    ];
    for (field, limit, missing, held) in limits {
        if let (ShapingLimit::Rate(_), Some(why)) = (*limit, missing) {
            *limit = unlimited;
            failures.push(not_supported(field, why));
        } else if let Err(Beyond { nearest, why }) = held {
            *limit = ShapingLimit::Rate(nearest);
            failures.push(StepFailure::new(Some(field.path()), why));
        }
    }
    let mut failures = failures.into_iter();
    let Some(first) = failures.next() else {
        return (to.clone(), None);
    };
    let failure = StepFailure {
        others: failures.collect(),
        ..first
    };
    (Arc::new(can), Some(failure))
}

/// Whether a limit is held, if there is one.
fn held(limit: ShapingLimit, by: impl FnOnce(Rate) -> Result<(), Beyond>) -> Result<(), Beyond> {
    match limit {
        ShapingLimit::Unlimited => Ok(()),
        ShapingLimit::Rate(rate) => by(rate),
    }
}

/// A field that this host can't make true.
pub(super) fn not_supported(field: PolicyField, why: &str) -> StepFailure {
    StepFailure::new(Some(field.path()), format!("not supported here: {why}"))
}
