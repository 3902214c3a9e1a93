// SPDX-License-Identifier: Apache-2.0
//! What a real Open vSwitch is given comes back equal, whatever the flow: the
//! difference of what is wanted and what is there is empty once it is there.
#![allow(clippy::unwrap_used, missing_docs)]

mod bench;
mod vocabulary;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;

use dvs_openflow::{Action, Flow, FlowMod, HeldMeter, Meter, MeterId, MeterMod, Reg};
use proptest::prelude::*;

use bench::{BRIDGE, Bench, runner};

/// Shows what differs, and nothing else: the lists are long.
fn same<T: Debug + PartialEq>(held: &[T], wanted: &[T]) -> Result<(), TestCaseError> {
    let only = |some: &[T], others: &[T]| -> Vec<String> {
        let alone = some.iter().filter(|value| !others.contains(value));
        alone.map(|value| format!("{value:?}")).collect()
    };
    prop_assert_eq!(only(held, wanted), only(wanted, held));
    prop_assert_eq!(held.len(), wanted.len());
    Ok(())
}

/// `ovs-ofctl` reads a meter only before all other actions; switches take them
/// anywhere.
fn keep_first_meter(actions: &mut Vec<Action>) {
    let mut place = 0;
    actions.retain_mut(|action| {
        place += 1;
        match action {
            Action::Meter(_) => place == 1,
            Action::Clone(inner) => {
                inner.retain(|action| !matches!(action, Action::Meter(_)));
                true
            }
            _ => true,
        }
    });
}

#[test]
fn flows_come_back_equal() {
    let Some(bench) = Bench::start("flows_come_back_equal").map(Bench::with_meters) else {
        return;
    };
    let check = |flows: Vec<Flow>| {
        bench.replace(&flows).unwrap();
        same(&bench.flows(), &flows)?;
        Ok(())
    };
    runner(256).run(&vocabulary::flows(16), check).unwrap();
}

#[test]
fn flows_read_as_ovs_ofctl_writes_and_reads_them() {
    let name = "flows_read_as_ovs_ofctl_writes_and_reads_them";
    let Some(bench) = Bench::start(name).map(Bench::with_meters) else {
        return;
    };
    let file = bench.ovs.run_dir().join("flows.txt");
    let check = |mut flows: Vec<Flow>| {
        flows
            .iter_mut()
            .for_each(|flow| keep_first_meter(&mut flow.actions));
        bench.replace(&flows).unwrap();
        let shown = bench.dump();
        let text: Vec<_> = flows.iter().map(Flow::to_string).collect();
        std::fs::write(&file, text.join("\n")).unwrap();
        bench.replace(&[]).unwrap();
        let file = file.to_str().unwrap();
        bench
            .ovs
            .ofctl("add-flows", BRIDGE, &[file])
            .map_err(|error| TestCaseError::fail(error.to_string()))?;
        same(&bench.flows(), &flows)?;
        same(&bench.dump(), &shown)?;
        Ok(())
    };
    runner(96).run(&vocabulary::flows(16), check).unwrap();
}

#[test]
fn a_key_is_the_same_flow_for_the_switch_as_for_us() {
    let name = "a_key_is_the_same_flow_for_the_switch_as_for_us";
    let Some(bench) = Bench::start(name).map(Bench::with_meters) else {
        return;
    };
    // Some go by their key alone, some get what another did; the rest stays.
    let fate = prop::sample::select(vec![0_u8, 1, 2]);
    let flows = vocabulary::flows(8).prop_flat_map(move |flows| {
        let fates = prop::collection::vec(fate.clone(), flows.len());
        (Just(flows), fates)
    });
    let check = |(flows, fates): (Vec<Flow>, Vec<u8>)| {
        bench.replace(&flows).unwrap();
        let mut wanted = Vec::new();
        let mut changes = Vec::new();
        for (flow, fate) in flows.into_iter().zip(fates) {
            match fate {
                0 => changes.push(FlowMod::Delete(flow.key())),
                1 => {
                    let changed = Flow {
                        actions: vec![Action::OutputReg(Reg::R3)],
                        goto: None,
                        ..flow
                    };
                    changes.push(FlowMod::Modify(changed.clone()));
                    wanted.push(changed);
                }
                _ => wanted.push(flow),
            }
        }
        bench
            .run(async |session| session.apply(&changes).await)
            .unwrap();
        same(&bench.flows(), &wanted)?;
        Ok(())
    };
    runner(64).run(&flows, check).unwrap();
}

#[test]
fn meters_come_back_equal() {
    let Some(bench) = Bench::start("meters_come_back_equal") else {
        return;
    };
    let features = bench
        .run(async |session| session.meter_features().await)
        .unwrap()
        .unwrap();
    assert!(
        features.drops_by_bits && features.max_meters >= 1_000,
        "{features:?}"
    );
    let meters = prop::collection::vec(vocabulary::meter(), 0..8);
    let check = |meters: Vec<Meter>| {
        let wanted: BTreeMap<MeterId, Meter> =
            meters.into_iter().map(|meter| (meter.id, meter)).collect();
        let held: BTreeSet<MeterId> = bench.meters().iter().map(HeldMeter::id).collect();
        // On top of what the case before left.
        let going = held
            .iter()
            .filter(|id| !wanted.contains_key(id))
            .map(|id| MeterMod::Delete(*id));
        let coming = wanted.values().map(|meter| {
            if held.contains(&meter.id) {
                MeterMod::Modify(*meter)
            } else {
                MeterMod::Add(*meter)
            }
        });
        let changes: Vec<_> = going.chain(coming).collect();
        bench
            .run(async |session| session.change_meters(&changes).await)
            .unwrap();
        let wanted: Vec<_> = wanted.into_values().map(HeldMeter::Known).collect();
        prop_assert_eq!(bench.meters(), wanted);
        Ok(())
    };
    runner(64).run(&meters, check).unwrap();
}
