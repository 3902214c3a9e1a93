// SPDX-License-Identifier: Apache-2.0
//! A host with a real Open vSwitch of its own and the agent's datapath on it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use dvs_ovsdb::testing::Ovs as Process;
use dvs_schemas::documents::Teaming;
use dvs_schemas::v1::{CountersOf, Link};
use dvs_schemas::{Epoch, Mtu, Policy, PortId, PrivateVlans, SwitchName, UplinkName};
use host_agent::datapath::{
    Applied, BridgeName, BridgeSettings, Datapath, DatapathKind, Done, DriftPolicy, Learning,
    Mirror, Ovs, OvsConfig, OvsCounts, PluggedPort, Ports, Step, StepFailure, VirtualPort, Write,
};
use host_agent::merge::merge;
use serde_json::Value;
use tokio::task::JoinHandle;

use super::{Mac, Vm};

/// How long Open vSwitch may take for what it is to do.
const PATIENCE: Duration = Duration::from_secs(20);

/// The host. Its one switch is `prod`.
#[derive(Debug)]
pub struct Host {
    /// Its Open vSwitch; ends after the datapath.
    pub ovs: Process,
    /// The datapath, as the agent drives it.
    pub datapath: Ovs,
    /// What the datapath has done.
    pub counts: OvsCounts,
    task: JoinHandle<()>,
    config: OvsConfig,
    settings: BridgeSettings,
}

/// What a step came to.
pub type Outcome = Result<Done, StepFailure>;

impl Host {
    /// Starts one, with a bridge for the switch.
    pub async fn start() -> Self {
        Self::with(|_, _, _| {}).await
    }

    /// Starts one with other settings.
    pub async fn with(adapt: impl FnOnce(&mut BridgeSettings, &mut OvsConfig, &Process)) -> Self {
        let ovs = Process::start().expect("a private Open vSwitch");
        let bridge: BridgeName = Process::unique("b").parse().expect("a name");
        let mut config = OvsConfig {
            database: ovs.options(OvsConfig::wanted()),
            run_dir: ovs.run_dir().to_owned(),
            kind: DatapathKind::Netdev,
            bridges: BTreeMap::from([(switch(), bridge)]),
            uplinks: BTreeMap::new(),
            patterns: Vec::new(),
            drift: DriftPolicy::Repair,
            learning: Learning::default(),
            patience: PATIENCE,
        };
        let mut settings = BridgeSettings {
            mtu: Mtu::default(),
            uplinks: Vec::new(),
            teaming: Teaming::ActiveBackup,
            private_vlans: PrivateVlans::default(),
        };
        adapt(&mut settings, &mut config, &ovs);
        let counts = OvsCounts::default();
        let (datapath, task) = Ovs::start(config.clone(), counts.clone());
        let mut host = Self {
            ovs,
            datapath,
            counts,
            task,
            config,
            settings: settings.clone(),
        };
        host.datapath
            .read()
            .await
            .expect("a datapath that can be read");
        if let Err(failure) = host.change(settings).await {
            panic!("a bridge: {failure}\n{}", host.ovs.log());
        }
        host
    }

    /// The bridge of the switch.
    #[must_use]
    pub fn bridge(&self) -> String {
        let given = self.config.bridges.get(&switch()).cloned();
        let bridge = given.unwrap_or_else(|| BridgeName::of(&switch()));
        bridge.to_string()
    }

    /// Another agent takes over, as after a kill: the old one is gone before, or
    /// the two would repair what the other wrote.
    pub async fn restart_agent(&mut self) {
        self.kill_agent().await;
        self.start_agent();
    }

    /// The agent is gone.
    pub async fn kill_agent(&mut self) {
        self.task.abort();
        let _cancelled = (&mut self.task).await;
    }

    /// Another one comes.
    pub fn start_agent(&mut self) {
        self.counts = OvsCounts::default();
        (self.datapath, self.task) = Ovs::start(self.config.clone(), self.counts.clone());
    }

    /// Applies one write.
    pub async fn write(&self, write: Write) -> Outcome {
        let mut outcomes = self.writes([write]).await;
        outcomes.pop().expect("an outcome")
    }

    /// Applies several writes as one delta.
    pub async fn writes(&self, writes: impl IntoIterator<Item = Write>) -> Vec<Outcome> {
        let steps = self.apply(writes).await.steps;
        steps.expect("a datapath that answers")
    }

    /// Applies a write that ends a placement, and answers what that came to.
    pub async fn end(&self, write: Write) -> CountersOf {
        let Applied { steps, mut ended } = self.apply([write]).await;
        let steps = steps.expect("a datapath that answers");
        assert!(steps.iter().all(Result::is_ok), "{steps:?}");
        ended.pop().expect("a placement that ended").1
    }

    async fn apply(&self, writes: impl IntoIterator<Item = Write>) -> Applied {
        let steps: Arc<[Step]> = writes
            .into_iter()
            .map(|write| Step {
                switch: switch(),
                write,
            })
            .collect();
        self.datapath.apply(steps, Ports::new()).await
    }

    /// Changes the settings of the switch.
    ///
    /// # Errors
    /// What the datapath says.
    pub async fn change(&mut self, settings: BridgeSettings) -> Result<(), StepFailure> {
        self.settings = settings.clone();
        let to = Arc::new(settings);
        self.write(Write::SetBridge { from: None, to })
            .await
            .map(drop)
    }

    /// The settings of the switch.
    #[must_use]
    pub fn settings(&self) -> BridgeSettings {
        self.settings.clone()
    }

    /// A port with this policy, as a document writes it, for a vNIC with this
    /// address.
    #[must_use]
    pub fn spec(&self, policy: Value, mac: Option<Mac>) -> VirtualPort {
        let layer: Policy = serde_json::from_value(policy).expect("a policy");
        let nothing = Policy::default();
        let policy = merge(&layer, &nothing, &nothing, &self.settings.private_vlans);
        VirtualPort {
            epoch: Epoch(1),
            vnic: None,
            mac: mac.map(|mac| mac.to_string().parse().expect("a vNIC's address")),
            policy: policy.expect("a policy of this switch"),
        }
    }

    /// The write that makes of a port this.
    #[must_use]
    pub fn set(&self, port: &str, spec: VirtualPort) -> Write {
        Write::SetPort {
            port: id(port),
            from: None,
            to: Arc::new(spec),
        }
    }

    /// Sets a port.
    pub async fn port(&self, port: &str, policy: Value, mac: Option<Mac>) -> Outcome {
        let spec = self.spec(policy, mac);
        self.write(self.set(port, spec)).await
    }

    /// Sets a mirror session.
    pub async fn mirror(&self, name: &str, mirror: Mirror) -> Outcome {
        self.write(Write::SetMirror {
            mirror: name.parse().expect("a name"),
            from: None,
            to: Arc::new(mirror),
        })
        .await
    }

    /// Plugs a machine in as a port, as libvirt does.
    pub fn plug(&self, vm: &Vm, port: &str) {
        plug(&self.ovs, &self.bridge(), vm, port, None);
    }

    /// Pulls its plug.
    pub fn unplug(&self, vm: &Vm) {
        unplug(&self.ovs, &self.bridge(), vm);
    }

    /// A machine that is plugged in as a port with this policy.
    pub async fn vm(&self, number: u8, port: &str, policy: Value) -> Vm {
        let vm = Vm::start(Mac::numbered(number));
        let set = self.port(port, policy, Some(vm.mac())).await;
        set.expect("a port that can be set");
        self.plug(&vm, port);
        self.linked(port, Link::Up).await;
        vm
    }

    /// What the datapath has as a port.
    pub async fn there(&self, port: &str) -> Option<PluggedPort> {
        let picture = self
            .datapath
            .read()
            .await
            .expect("a datapath that can be read");
        picture.get(&switch())?.ports.get(&id(port)).cloned()
    }

    /// Waits until a port's link is this.
    ///
    /// # Panics
    /// It never is.
    pub async fn linked(&self, port: &str, link: Link) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let there = self.there(port).await.map(|port| port.link);
            if there == Some(link) {
                return;
            }
            assert!(
                Instant::now() < deadline,
                "port {port}: {there:?}, not {link:?}\n{}",
                self.ovs.log()
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

/// Plugs a machine into a bridge as a port, as libvirt does; `vnic` is which
/// one it is, if that is to be said.
pub fn plug(ovs: &Process, bridge: &str, vm: &Vm, port: &str, vnic: Option<&str>) {
    let interface = vm.interface();
    vm.wire_to(ovs.namespace());
    let id = format!("external_ids:iface-id={port}");
    let vnic = vnic.map(|vnic| format!("external_ids:dvs-vnic={vnic:?}"));
    let set = ["--", "set", "Interface", interface, &id];
    let set: Vec<&str> = set.into_iter().chain(vnic.as_deref()).collect();
    let add = ["--no-wait", "add-port", bridge, interface];
    ovs.vsctl(&[add.as_slice(), set.as_slice()].concat())
        .expect("a port of its own");
}

/// Pulls its plug.
pub fn unplug(ovs: &Process, bridge: &str, vm: &Vm) {
    ovs.vsctl(&["del-port", bridge, vm.interface()])
        .expect("a port to delete");
}

/// The switch of these tests.
#[must_use]
pub fn switch() -> SwitchName {
    "prod".parse().expect("a name")
}

/// A port's id.
#[must_use]
pub fn id(port: &str) -> PortId {
    port.parse().expect("a port's id")
}

/// An uplink's name.
#[must_use]
pub fn uplink(name: &str) -> UplinkName {
    name.parse().expect("an uplink's name")
}
