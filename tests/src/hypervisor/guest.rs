// SPDX-License-Identifier: Apache-2.0
//! A guest: Debian's kernel, and one script that answers pings.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Result, ensure};
use uuid::Uuid;

use super::{Site, packages};
use crate::lan::Mac;

/// Memory of a guest, MiB: what its kernel needs to unpack, and not much that
/// would have to move.
const MEMORY: u32 = 96;

/// A network that a guest has an interface in, and the client beyond the
/// fabric has the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Network {
    /// On plain Open vSwitch bridges.
    Plain,
    /// On the switch.
    Switched,
}

impl Network {
    /// The guest's address.
    #[must_use]
    pub fn guest(self) -> &'static str {
        match self {
            Self::Plain => "10.99.1.1",
            Self::Switched => "10.99.2.1",
        }
    }

    /// The client's.
    #[must_use]
    pub fn client(self) -> &'static str {
        match self {
            Self::Plain => "10.99.1.2",
            Self::Switched => "10.99.2.2",
        }
    }

    /// The MAC address of the guest's interface.
    #[must_use]
    pub fn mac(self) -> Mac {
        match self {
            Self::Plain => Mac::numbered(1),
            Self::Switched => Mac::numbered(2),
        }
    }
}

/// A guest with an interface in each network. Migrating, it says at once how
/// long both were interrupted.
#[derive(Debug)]
pub struct Guest {
    /// Name of its domain.
    pub name: String,
    /// Id of its interface on the switch, and so name of its port: libvirt
    /// takes nothing but UUIDs.
    pub port: Uuid,
    /// What else its interface on the switch has, as XML of libvirt.
    pub wishes: &'static str,
}

impl Guest {
    /// The domain's XML, with its interfaces on these bridges.
    pub(super) fn domain(&self, site: &Site, [plain, switched]: [&str; 2]) -> String {
        let Self { name, port, wishes } = self;
        let folder = site.folder().display();
        let interface = |bridge: &str, network: Network, virtualport: &str, wishes: &str| {
            let mac = network.mac();
            format!(
                "<interface type='bridge'><source bridge='{bridge}'/><mac address='{mac}'/>\
                 <virtualport type='openvswitch'>{virtualport}</virtualport>\
                 <model type='virtio'/>{wishes}</interface>"
            )
        };
        let id = format!("<parameters interfaceid='{port}'/>");
        let interfaces = [
            interface(plain, Network::Plain, "", ""),
            interface(switched, Network::Switched, &id, wishes),
        ]
        .concat();
        let peer = site.client_mac();
        let mut words = "console=ttyS0 panic=-1 quiet".to_owned();
        for (name, network) in [("plain", Network::Plain), ("switched", Network::Switched)] {
            let _ = write!(words, " {name}={}/24", network.guest());
        }
        let [a, b] = [Network::Plain, Network::Switched].map(Network::client);
        let _ = write!(words, " peers={a}={peer},{b}={peer}");
        format!(
            "<domain type='qemu'><name>{name}</name><memory unit='MiB'>{MEMORY}</memory>\
             <vcpu>1</vcpu><os><type arch='x86_64' machine='pc'>hvm</type>\
             <kernel>{folder}/vmlinuz</kernel><initrd>{folder}/initramfs</initrd>\
             <cmdline>{words}</cmdline></os><features><acpi/></features>\
             <devices><emulator>/usr/bin/qemu-system-x86_64</emulator>{interfaces}\
             <serial type='file'><source path='{folder}/{name}.console' append='on'/></serial>\
             <controller type='usb' model='none'/><memballoon model='none'/></devices></domain>"
        )
    }
}

/// Makes the guest's kernel and initial file system in a folder.
pub(super) fn image(folder: &Path) -> Result<()> {
    let from = packages().join("guest");
    fs::copy(from.join("vmlinuz"), folder.join("vmlinuz"))?;
    let tree = folder.join("tree");
    fs::create_dir_all(tree.join("bin"))?;
    let busybox = from.join("busybox");
    fs::copy(&busybox, tree.join("bin/busybox"))?;
    for name in ["sh", "insmod", "mkdir", "mount", "ip", "arp", "sleep"] {
        std::os::unix::fs::symlink("busybox", tree.join("bin").join(name))?;
    }
    for entry in fs::read_dir(&from)? {
        let module = entry?.path();
        if let Some(name) = module.file_name()
            && module.extension().is_some_and(|end| end == "ko")
        {
            fs::copy(&module, tree.join(name))?;
        }
    }
    let init = tree.join("init");
    fs::write(&init, include_str!("init.sh"))?;
    fs::set_permissions(&init, fs::Permissions::from_mode(0o755))?;
    let pack = "find . | \"$1\" cpio -o -H newc >../initramfs";
    let packed = Command::new("sh")
        .args(["-c", pack, "sh"])
        .arg(busybox)
        .current_dir(&tree)
        .stderr(Stdio::null())
        .status()?;
    ensure!(packed.success(), "the guest's file system can't be packed");
    Ok(())
}
