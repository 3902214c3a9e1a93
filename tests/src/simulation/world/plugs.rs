// SPDX-License-Identifier: Apache-2.0
//! vNICs that are plugged in, as machines come and go.

use dvs_schemas::v1::Machine;
use dvs_schemas::{PortId, SwitchName, VnicId};
use host_agent::datapath::{Device, Mishap};

use super::World;

/// A vNIC that says which port it is, as the external ids of its interface do.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Plug {
    /// The switch of its bridge.
    pub switch: SwitchName,
    /// The port that it says.
    pub port: PortId,
    /// The vNIC that it says.
    pub vnic: Option<VnicId>,
}

impl World {
    /// A machine starts on a host.
    pub fn plug(&mut self, host: usize, plug: &Plug) {
        self.plug_device(host, plug, Device::default());
    }

    /// A device is plugged in on a host; what said the port there is gone.
    pub fn plug_device(&mut self, host: usize, plug: &Plug, device: Device) {
        self.note(&("plugged", host, plug));
        let machine = &mut self.hosts[host];
        let Plug { switch, port, vnic } = plug;
        machine.datapath.plug(switch, port, vnic.clone(), device);
        machine.plugged.insert(plug.clone());
        self.hear_datapath(host);
    }

    /// Another device takes the place of a plugged one at once. What was there.
    pub fn replace_device(&mut self, host: usize, plug: &Plug, device: Device) -> Option<Device> {
        let before = self.hosts[host].datapath.unplug(&plug.switch, &plug.port);
        self.plug_device(host, plug, device);
        before
    }

    /// Something happens to the interface of a port.
    pub fn befall(&mut self, host: usize, plug: &Plug, mishap: Mishap) {
        self.note(&("befalls", host, plug, mishap));
        let datapath = &self.hosts[host].datapath;
        datapath.befall(&plug.switch, &plug.port, mishap);
        self.hear_datapath(host);
    }

    /// The machine of a port that is plugged in on a host does something else.
    pub fn behaves(&mut self, host: usize, plug: &Plug, machine: &Machine) {
        self.note(&("behaves", host, plug, machine));
        let here = &mut self.hosts[host];
        here.datapath
            .machine(&plug.switch, &plug.port, machine.clone());
        here.behind.insert(plug.port.clone(), machine.clone());
        self.hear_datapath(host);
    }

    /// A machine goes from a host. Its device.
    pub fn unplug(&mut self, host: usize, plug: &Plug) -> Option<Device> {
        self.note(&("unplugged", host, plug));
        let machine = &mut self.hosts[host];
        let device = machine.datapath.unplug(&plug.switch, &plug.port);
        machine.plugged.remove(plug);
        machine.behind.remove(&plug.port);
        self.hear_datapath(host);
        device
    }

    /// An agent that starts is told of all that is there, after the datapath has
    /// said what is plugged in.
    pub(super) fn find_plugs(&mut self, host: usize) {
        let machine = &self.hosts[host];
        for Plug { switch, port, .. } in &machine.plugged {
            if let Some(behind) = machine.behind.get(port) {
                machine.datapath.machine(switch, port, behind.clone());
            }
        }
        self.hear_datapath(host);
    }
}
