// SPDX-License-Identifier: Apache-2.0
//! Arguments of the Open vSwitch datapath: where it is on this host, and how
//! its bridges and interfaces are called here.

use std::fmt::Display;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use dvs_ovsdb::{Endpoint, Options, TlsFiles};
use dvs_schemas::{SwitchName, UplinkName};
use host_agent::datapath::{
    BridgeName, DatapathKind, DriftPolicy, Learning, OvsConfig, PlugPattern,
};

/// Where Open vSwitch is, and how things are called there.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Open vSwitch (--datapath ovs)")]
pub(crate) struct OvsArgs {
    /// Its database: unix:PATH, tcp:HOST:PORT or ssl:HOST:PORT.
    #[arg(
        long,
        env = "DVS_OVS_DB",
        value_name = "ENDPOINT",
        default_value = "unix:/run/openvswitch/db.sock"
    )]
    ovs_db: Endpoint,
    /// Private key of this host, for ssl.
    #[arg(
        long,
        env = "DVS_OVS_PRIVATE_KEY",
        value_name = "FILE",
        requires_all = ["ovs_certificate", "ovs_ca"]
    )]
    ovs_private_key: Option<PathBuf>,
    /// Certificate of this host, for ssl.
    #[arg(
        long,
        env = "DVS_OVS_CERTIFICATE",
        value_name = "FILE",
        requires = "ovs_private_key"
    )]
    ovs_certificate: Option<PathBuf>,
    /// Certificate of who may say that it is the database, for ssl.
    #[arg(
        long,
        env = "DVS_OVS_CA",
        value_name = "FILE",
        requires = "ovs_private_key"
    )]
    ovs_ca: Option<PathBuf>,
    /// Where ovs-vswitchd has its sockets.
    #[arg(
        long,
        env = "DVS_OVS_RUN_DIR",
        value_name = "DIR",
        default_value = "/run/openvswitch"
    )]
    ovs_run_dir: PathBuf,
    /// What forwards below Open vSwitch.
    #[arg(
        long,
        env = "DVS_OVS_DATAPATH",
        value_name = "KIND",
        default_value = "system"
    )]
    ovs_datapath: DatapathKind,
    /// Bridge of a switch, also one that stands already [default: dvs-SWITCH].
    #[arg(
        long = "bridge",
        env = "DVS_BRIDGES",
        value_name = "SWITCH=BRIDGE",
        value_delimiter = ',',
        value_parser = assigned::<SwitchName, BridgeName>
    )]
    bridges: Vec<(SwitchName, BridgeName)>,
    /// Interface of an uplink [default: the uplink's name].
    #[arg(
        long = "uplink",
        env = "DVS_UPLINKS",
        value_name = "SWITCH/UPLINK=INTERFACE",
        value_delimiter = ',',
        value_parser = uplink
    )]
    uplinks: Vec<((SwitchName, UplinkName), String)>,
    /// Interfaces that are ports by their names, beside those with external_ids:iface-id; <name> stands for digits, as in 'tap<vm>i<n>=vm-<vm>-<n>'.
    #[arg(
        long = "plug",
        env = "DVS_PLUG",
        value_name = "INTERFACE=PORT",
        value_delimiter = ','
    )]
    patterns: Vec<PlugPattern>,
    /// What is done when somebody else changes what is ours.
    #[arg(
        long,
        env = "DVS_DRIFT",
        value_name = "POLICY",
        default_value = "repair"
    )]
    drift: DriftPolicy,
    /// Most MAC addresses that are learnt from one port of a switch.
    #[arg(
        long,
        env = "DVS_MAC_LIMIT_PORT",
        value_name = "NUMBER",
        default_value_t = Learning::PER_PORT
    )]
    mac_limit_port: NonZeroU32,
    /// Most MAC addresses that are learnt from the uplinks of one switch.
    #[arg(
        long,
        env = "DVS_MAC_LIMIT_UPLINK",
        value_name = "NUMBER",
        default_value_t = Learning::PER_UPLINK
    )]
    mac_limit_uplink: NonZeroU32,
    /// How long ovs-vswitchd may take for one change.
    #[arg(
        long,
        env = "DVS_OVS_PATIENCE",
        value_name = "DURATION",
        default_value = "10s",
        value_parser = humantime::parse_duration
    )]
    ovs_patience: Duration,
}

impl OvsArgs {
    /// The arguments as the datapath takes them.
    pub(crate) fn config(self) -> OvsConfig {
        let Self {
            ovs_db,
            ovs_private_key,
            ovs_certificate,
            ovs_ca,
            ovs_run_dir,
            ovs_datapath,
            bridges,
            uplinks,
            patterns,
            drift,
            mac_limit_port,
            mac_limit_uplink,
            ovs_patience,
        } = self;
        let tls = ovs_private_key.zip(ovs_certificate).zip(ovs_ca).map(
            |((private_key, certificate), ca)| TlsFiles {
                private_key,
                certificate,
                ca,
            },
        );
        OvsConfig {
            database: Options {
                endpoint: ovs_db,
                tls,
                database: "Open_vSwitch".to_owned(),
                wanted: OvsConfig::wanted(),
                patience: ovs_patience,
                probe: PROBE,
            },
            run_dir: ovs_run_dir,
            kind: ovs_datapath,
            bridges: bridges.into_iter().collect(),
            uplinks: uplinks.into_iter().collect(),
            patterns,
            drift,
            learning: Learning {
                per_port: mac_limit_port,
                per_uplink: mac_limit_uplink,
            },
            patience: ovs_patience,
        }
    }
}

/// A server that is silent for so long is asked whether it lives.
const PROBE: Duration = Duration::from_secs(5);

fn assigned<K, V>(text: &str) -> Result<(K, V), String>
where
    K: FromStr<Err: Display>,
    V: FromStr<Err: Display>,
{
    let (key, value) = text
        .split_once('=')
        .ok_or_else(|| "allowed: SWITCH=BRIDGE, like prod=br-int".to_owned())?;
    let key = key.parse().map_err(|error: K::Err| error.to_string())?;
    let value = value.parse().map_err(|error: V::Err| error.to_string())?;
    Ok((key, value))
}

fn uplink(text: &str) -> Result<((SwitchName, UplinkName), String), String> {
    let parsed = text.split_once('=').and_then(|(place, interface)| {
        let (switch, uplink) = place.split_once('/')?;
        (!interface.is_empty()).then_some((switch, uplink, interface))
    });
    let (switch, uplink, interface) = parsed
        .ok_or_else(|| "allowed: SWITCH/UPLINK=INTERFACE, like prod/uplink1=eth2".to_owned())?;
    let switch = switch.parse().map_err(|error| format!("{error}"))?;
    let uplink = uplink.parse().map_err(|error| format!("{error}"))?;
    Ok(((switch, uplink), interface.to_owned()))
}
