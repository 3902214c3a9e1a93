// SPDX-License-Identifier: Apache-2.0
//! A real Open vSwitch with one bridge, and a session with it.
#![allow(clippy::unwrap_used, dead_code, missing_docs, unreachable_pub)]

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::Duration;

use dvs_openflow::{
    ApplyError, Flow, FlowKey, FlowMod, HeldMeter, Meter, MeterId, MeterMod, OpenError, Selection,
    Session,
};
use dvs_ovsdb::testing::{Ovs, skipped};
use proptest::test_runner::{Config, TestRunner};
use tokio::runtime::Runtime;

use crate::vocabulary;

/// More than any answer takes on a machine that is busy with other tests.
const PATIENCE: Duration = Duration::from_secs(60);

pub const BRIDGE: &str = "br";

/// A switch with one bridge, and a session with it.
pub struct Bench {
    pub ovs: Ovs,
    session: RefCell<Session>,
    pub runtime: Runtime,
}

impl Bench {
    /// None if the test is to be skipped.
    pub fn start(test: &str) -> Option<Self> {
        if skipped(test) {
            return None;
        }
        let ovs = Ovs::start().unwrap();
        let bridge = [
            "set",
            "bridge",
            BRIDGE,
            "datapath_type=netdev",
            "fail_mode=secure",
        ];
        ovs.vsctl(&[&["add-br", BRIDGE, "--"], bridge.as_slice()].concat())
            .unwrap();
        let runtime = Runtime::new().unwrap();
        let session = RefCell::new(runtime.block_on(open(&ovs)).unwrap());
        Some(Self {
            ovs,
            session,
            runtime,
        })
    }

    pub fn run<T>(&self, call: impl AsyncFnOnce(&mut Session) -> T) -> T {
        let mut session = self.session.borrow_mut();
        self.runtime.block_on(call(&mut session))
    }

    /// Flows are these, and none else.
    pub fn replace(&self, flows: &[Flow]) -> Result<(), ApplyError> {
        let all = FlowMod::DeleteAll(Selection::default());
        let changes: Vec<_> = [all]
            .into_iter()
            .chain(flows.iter().cloned().map(FlowMod::Add))
            .collect();
        self.run(async |session| session.apply(&changes).await)
    }

    /// What is there, by key.
    pub fn flows(&self) -> Vec<Flow> {
        let all = Selection::default();
        let held = self.run(async |session| session.flows(&all).await).unwrap();
        by_key(held.into_iter().map(|held| held.flow))
    }

    /// What `ovs-ofctl` shows of it.
    pub fn dump(&self) -> Vec<String> {
        let dump = self
            .ovs
            .ofctl("dump-flows", BRIDGE, &["--no-names", "--no-stats"])
            .unwrap();
        let mut lines: Vec<_> = dump.lines().map(|line| line.trim().to_owned()).collect();
        lines.sort();
        lines
    }

    /// A port with this number.
    pub fn add_port(&self, name: &str, number: u16) {
        let number = format!("ofport_request={number}");
        let add = ["add-port", BRIDGE, name, "--", "set", "interface", name];
        let more = ["type=internal", &number];
        self.ovs
            .vsctl(&[add.as_slice(), more.as_slice()].concat())
            .unwrap();
    }

    pub fn with_meters(self) -> Self {
        let meters: Vec<_> = (1..=vocabulary::METERS)
            .map(|id| MeterMod::Add(meter(id)))
            .collect();
        self.run(async |session| session.change_meters(&meters).await)
            .unwrap();
        self
    }

    pub fn meters(&self) -> Vec<HeldMeter> {
        let mut meters = self.run(async |session| session.meters().await).unwrap();
        meters.sort_by_key(HeldMeter::id);
        meters
    }
}

pub async fn open(ovs: &Ovs) -> Result<Session, OpenError> {
    Session::open(&ovs.run_dir().join(format!("{BRIDGE}.mgmt")), PATIENCE).await
}

pub fn by_key(flows: impl IntoIterator<Item = Flow>) -> Vec<Flow> {
    let by_key: BTreeMap<FlowKey, Flow> =
        flows.into_iter().map(|flow| (flow.key(), flow)).collect();
    by_key.into_values().collect()
}

pub fn meter(id: u32) -> Meter {
    Meter {
        id: MeterId::try_from(id).unwrap(),
        rate_kbps: 1_000,
        burst_kbits: 100,
    }
}

pub fn runner(cases: u32) -> TestRunner {
    TestRunner::new(Config {
        cases,
        failure_persistence: None,
        ..Config::default()
    })
}
