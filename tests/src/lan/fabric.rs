// SPDX-License-Identifier: Apache-2.0
//! The physical switch between hosts: a Linux bridge in a network namespace of
//! its own, which learns where addresses are as any switch does.

use super::{Mac, Vm, Wire, run, unique};

/// The switch. Whoever drops it takes its namespace away.
#[derive(Debug)]
pub struct Fabric {
    namespace: String,
}

impl Fabric {
    /// Starts one without any cable in it.
    #[must_use]
    pub fn start() -> Self {
        let (process, number) = unique();
        let namespace = format!("dvs-{process}-{number}");
        run("ip", &["netns", "add", &namespace]);
        let fabric = Self { namespace };
        fabric.ip(&["link", "add", "fabric", "type", "bridge"]);
        fabric.ip(&["link", "set", "fabric", "up"]);
        fabric
    }

    fn ip(&self, arguments: &[&str]) {
        run("ip", &[&["-n", &self.namespace], arguments].concat());
    }

    /// Plugs the end of a wire in.
    pub fn join(&self, wire: &Wire, end: usize) {
        let device = wire.end(end, &self.namespace);
        self.ip(&["link", "set", device, "master", "fabric"]);
    }

    /// Plugs a machine in.
    pub fn attach(&self, vm: &Vm) {
        vm.wire_to(&self.namespace);
        self.ip(&["link", "set", vm.interface(), "master", "fabric"]);
    }

    /// The cable behind which it has learnt an address to be.
    #[must_use]
    pub fn way_to(&self, mac: Mac) -> Option<String> {
        let inside = ["netns", "exec", &self.namespace];
        let show = ["bridge", "fdb", "show", "br", "fabric"];
        let table = run("ip", &[inside.as_slice(), &show].concat());
        let mac = mac.to_string();
        let mut learnt = table.lines().filter(|line| line.starts_with(&mac));
        let device = learnt.next()?.split(' ').nth(2)?;
        Some(device.to_owned())
    }
}

impl Drop for Fabric {
    fn drop(&mut self) {
        let deleted = std::process::Command::new("ip")
            .args(["netns", "del", &self.namespace])
            .status();
        if !std::thread::panicking() {
            assert!(deleted.is_ok_and(|status| status.success()));
        }
    }
}
