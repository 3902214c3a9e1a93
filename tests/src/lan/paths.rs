// SPDX-License-Identifier: Apache-2.0
//! The ways on which a frame reaches a port.

use dvs_schemas::documents::Teaming;
use host_agent::datapath::Learning;
use serde_json::Value;

use super::{Frame, Host, Mac, Vm, Wire, heard_before, switch, uplink};

/// A way on which a frame reaches a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Path {
    /// From another port of the host.
    OneHost,
    /// From a port of another host.
    TwoHosts,
    /// From the physical network.
    FromWire,
}

/// The values of Open vSwitch's `vlan-limit` that differ: 0 is as many tags as
/// it can look at, which are two, and 1 is its default.
pub const VLAN_LIMITS: [u8; 3] = [0, 1, 2];

/// Who sends, and who hears it on some path.
#[derive(Debug)]
pub struct Segment {
    /// Who sends: a port's machine, or the physical network.
    pub from: Vm,
    /// Who hears it, each as the port `to-N`.
    pub to: Vec<Vm>,
    /// The hosts; the last one is that of who hears.
    pub hosts: Vec<Host>,
}

impl Path {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::OneHost, Self::TwoHosts, Self::FromWire];

    /// Lays one between ports with these policies; the physical network has
    /// none.
    pub async fn lay(self, vlan_limit: u8, from: Value, to: &[Value]) -> Segment {
        let learning = Learning::default();
        self.lay_learning(learning, vlan_limit, from, to).await
    }

    /// The same with bridges that learn so many addresses.
    pub async fn lay_learning(
        self,
        learning: Learning,
        vlan_limit: u8,
        from: Value,
        to: &[Value],
    ) -> Segment {
        let limit = format!("other_config:vlan-limit={vlan_limit}");
        let host = async |uplink1: Option<(&Wire, usize)>, vm: Option<&Vm>| {
            Host::with(|settings, config, ovs| {
                config.learning = learning;
                ovs.vsctl(&["set", "Open_vSwitch", ".", &limit])
                    .expect("a limit that can be set");
                let wire = uplink1.map(|(wire, end)| wire.end(end, ovs.namespace()));
                let vm = vm.map(|vm| {
                    vm.wire_to(ovs.namespace());
                    vm.interface()
                });
                if let Some(interface) = wire.or(vm) {
                    let name = uplink("uplink1");
                    settings.uplinks.push(name.clone());
                    settings.teaming = Teaming::ActiveBackup;
                    config
                        .uplinks
                        .insert((switch(), name), interface.to_owned());
                }
            })
            .await
        };
        let (from, hosts) = match self {
            Self::OneHost => {
                let one = host(None, None).await;
                let from = one.vm(1, "from", from).await;
                (from, vec![one])
            }
            Self::TwoHosts => {
                let wire = Wire::new();
                let one = host(Some((&wire, 0)), None).await;
                let other = host(Some((&wire, 1)), None).await;
                let from = one.vm(1, "from", from).await;
                (from, vec![one, other])
            }
            Self::FromWire => {
                let from = Vm::start(Mac::numbered(1));
                let one = host(None, Some(&from)).await;
                (from, vec![one])
            }
        };
        let mut machines = Vec::new();
        let last = hosts.last().expect("a host");
        for (number, policy) in (0_u8..).zip(to) {
            let name = format!("to-{number}");
            machines.push(last.vm(number + 2, &name, policy.clone()).await);
        }
        Segment {
            from,
            to: machines,
            hosts,
        }
    }
}

impl Segment {
    /// Sends frames, and behind them some like the last one, which all hear;
    /// answers what each heard before those.
    pub fn heard(&mut self, frames: &[Frame], last: &Frame) -> Vec<Vec<Frame>> {
        let mut to: Vec<&mut Vm> = self.to.iter_mut().collect();
        heard_before(&mut self.from, frames, last, &mut to)
    }
}
