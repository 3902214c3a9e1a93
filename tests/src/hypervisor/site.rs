// SPDX-License-Identifier: Apache-2.0
//! What hypervisors share: the physical switch, the client beyond it, and a
//! folder for sockets and the guest's image.

use std::path::Path;
use std::process::Command;

use anyhow::Result;
use dvs_ovsdb::testing::Ovs;

use super::guest::{Network, image};
use crate::lan::{Mac, Wire, run};

/// The bridge of the physical switch.
const FABRIC: &str = "fabric";

/// A site; its namespaces go with it.
#[derive(Debug)]
pub struct Site {
    folder: tempfile::TempDir,
    fabric: Ovs,
    client: String,
    /// Between the client and the fabric, by network.
    _wires: [Wire; 2],
}

impl Site {
    /// The VLAN of the switch's network on the fabric.
    pub const VLAN: u16 = 10;

    /// Builds one: a physical switch, and a client at it that has an interface
    /// in each network.
    ///
    /// # Errors
    /// There is no image for guests, or Open vSwitch doesn't start.
    ///
    /// # Panics
    /// The machine can't make network namespaces.
    pub fn new() -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("site-").tempdir()?;
        image(folder.path())?;
        let site = Self {
            folder,
            fabric: Ovs::start()?,
            client: Ovs::unique("client-"),
            _wires: [Wire::new(), Wire::new()],
        };
        let Self {
            fabric,
            client,
            _wires: [plain, switched],
            ..
        } = &site;
        let netdev = ["--", "set", "Bridge", FABRIC, "datapath_type=netdev"];
        fabric.vsctl(&[&["add-br", FABRIC], &netdev[..]].concat())?;
        run("ip", &["netns", "add", client]);
        let tag = format!("tag={}", Self::VLAN);
        let ends = [
            (Network::Plain, plain, None),
            (Network::Switched, switched, Some(tag)),
        ];
        for (network, wire, tag) in ends {
            site.join(wire, 1, tag.as_deref())?;
            let device = wire.end(0, client);
            let ip = |words: &str| {
                let namespace = ["-n", client];
                let words = namespace.into_iter().chain(words.split(' '));
                run("ip", &words.collect::<Vec<&str>>());
            };
            let (own, guest, mac) = (network.client(), network.guest(), network.mac());
            ip(&format!("link set {device} address {}", site.client_mac()));
            ip(&format!("address add {own}/24 dev {device}"));
            // Known for good, so that an outage is that of frames alone.
            ip(&format!("neighbour add {guest} lladdr {mac} dev {device}"));
        }
        Ok(site)
    }

    /// Joins an end of a wire to the physical switch, which passes all VLANs
    /// there, or one untagged.
    ///
    /// # Errors
    /// The switch doesn't take it.
    pub(super) fn join(&self, wire: &Wire, end: usize, tag: Option<&str>) -> Result<()> {
        let name = wire.end(end, self.fabric.namespace());
        let port = ["add-port", FABRIC, name];
        let port: Vec<&str> = port.into_iter().chain(tag).collect();
        self.fabric.vsctl(&port)?;
        Ok(())
    }

    /// Where sockets, logs and the image are.
    pub(super) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// What a guest wrote on its console.
    #[must_use]
    pub fn console(&self, guest: &str) -> String {
        let file = self.folder.path().join(format!("{guest}.console"));
        String::from_utf8_lossy(&std::fs::read(file).unwrap_or_default()).into_owned()
    }

    /// The client's network namespace.
    #[must_use]
    pub fn client(&self) -> &str {
        &self.client
    }

    /// The client's MAC address, in both networks.
    #[must_use]
    pub fn client_mac(&self) -> Mac {
        Mac::numbered(9)
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        let namespace = ["netns", "del", &self.client];
        let _ = Command::new("ip").args(namespace).status();
    }
}
