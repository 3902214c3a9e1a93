// SPDX-License-Identifier: Apache-2.0
//! The command line: what can be asked, with help that shows how.

mod connections;
mod queues;
mod runtime;
mod store;
mod words;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use dvs_schemas::v1::Deadline;
use dvs_schemas::{HostName, Kind, PortGroupName, Revision, SwitchName};
use dvs_transport::ConnectArgs;

use crate::output::ListFormat;
pub use connections::{DisconnectArgs, ForgetArgs, MoveArgs, PlacingArgs, VnicArgs};
pub use queues::{OutOfSyncArgs, QueueAction, RipFilter, RipQueueArgs, Selected, SyncFilter};
pub use runtime::{HistoryArgs, LiveArgs, RollupArgs, RollupKind, RuntimeArgs};
pub use store::{ContinueArgs, StoreAction};
use words::KindWordParser;
pub use words::{KindWord, of_host, of_object};

const HELP: &str = "\
Exit codes:
  0  done; the answer is yes
  1  done; the answer is no: files differ, hosts lag, nothing of that name
  2  wrong usage, or a file that can't be read or written
  3  refused by the service; nothing changed
  4  the bus or the service can't be reached, or did not answer in time

Examples:
  dvsctl apply -f site.yaml --wait     make it true and wait for all hosts
  dvsctl diff -f site.yaml             what would change, here and on the hosts
  dvsctl get hosts                     who is in sync
  dvsctl out-of-sync                   who is not, why, and when it is tried next
  dvsctl get all -o yaml --placement > site.yaml
                                       the whole configuration, as a backup

Data goes to stdout, everything else to stderr. NO_COLOR=1 turns colours off.";

/// The operator's command line of dvswitch.
///
/// Connects as the `nats` command line does: by flags, environment or context.
#[derive(Debug, Parser)]
#[command(name = "dvsctl", version, after_help = HELP, max_term_width = 100)]
pub struct Cli {
    /// Where the bus is and who we are.
    #[command(flatten)]
    pub connect: ConnectArgs,
    /// Bound of each request [default: 5s], and of `wait` as a whole [default: 1m].
    #[arg(long, env = "DVS_TIMEOUT", value_name = "TIME", global = true, value_parser = humantime::parse_duration)]
    pub timeout: Option<Duration>,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What can be done.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make documents true, all or none.
    Apply(ApplyArgs),
    /// Show what applying documents would change: objects, and hosts' datapaths.
    ///
    /// Asks the hosts for their plans; writes nothing anywhere. Exit code 1 if
    /// anything would change.
    Diff(DiffArgs),
    /// Delete objects, all or none.
    Delete(DeleteArgs),
    /// List objects or hosts.
    Get(GetArgs),
    /// All that is known of one port or host: what is wanted, what is so, and
    /// what holds the difference.
    Describe(DescribeArgs),
    /// Hosts that missed a push, and when they are tried next.
    OutOfSync(OutOfSyncArgs),
    /// Virtual ports that are still to be removed from hosts.
    RipQueue(RipQueueArgs),
    /// Push the full state again, whatever the hosts are thought to have.
    Resync(ResyncArgs),
    /// Connect a vNIC to a port, on the vNIC's host.
    Connect(VnicArgs),
    /// Place a port on another host.
    Move(MoveArgs),
    /// End the connection between a port and its vNIC.
    Disconnect(DisconnectArgs),
    /// Forget a host that will never come back: its ports are on no host then,
    /// and nothing is owed to it any more.
    Forget(ForgetArgs),
    /// What to do about a ledger that was restored from a backup, or lost.
    #[command(subcommand)]
    Store(StoreAction),
    /// Runtime state of ports as the collector has it.
    Runtime(RuntimeArgs),
    /// What was told of a port lately, and by whom.
    History(HistoryArgs),
    /// Ports and their counters, summed up by switch, port group or host.
    Rollup(RollupArgs),
    /// Runtime state of ports as their host reads it now.
    Live(LiveArgs),
    /// Wait until something is so.
    #[command(subcommand)]
    Wait(WaitFor),
    /// What a document's field means and may be.
    Explain(ExplainArgs),
    /// Completions for a shell, to be sourced by it.
    #[command(after_help = "Example:\n  source <(dvsctl completions bash)")]
    Completions {
        /// The shell.
        #[arg(value_enum)]
        shell: Shell,
    },
    /// Make the keys of all roles that are missing in a folder.
    ///
    /// DIR/ROLE/ROLE.nk is the seed of a role, DIR/server/keys.conf has all
    /// public keys for nats-server. What is there already stays.
    Credentials {
        /// The folder.
        dir: PathBuf,
    },
    /// Ask an HTTP address whether its service is well.
    #[command(after_help = "Example:\n  dvsctl healthcheck http://127.0.0.1:8222/healthz")]
    Healthcheck {
        /// http://HOST[:PORT][/PATH]; any 2xx status is well.
        url: String,
    },
}

/// Files of documents.
#[derive(Debug, Args)]
pub struct Files {
    /// File with documents in YAML or JSON, folder of such files, or - for stdin.
    #[arg(short, long = "filename", value_name = "FILE|DIR|-", required = true)]
    pub files: Vec<PathBuf>,
}

/// How a change is made.
#[derive(Debug, Args)]
pub struct ChangeArgs {
    /// Wait until every host has applied it, at most BOUND; exit code 1 if one lags.
    #[arg(long, value_name = "BOUND", num_args = 0..=1, require_equals = true, default_missing_value = "10s", conflicts_with = "dry_run")]
    pub wait: Option<Deadline>,
    /// Ask the hosts what they would do; write nothing anywhere.
    #[arg(long)]
    pub dry_run: bool,
    /// Refuse if any of the objects was changed after this revision.
    #[arg(long, value_name = "N", value_parser = revision)]
    pub if_revision: Option<Revision>,
    /// Print the reply as it came instead of a line per object.
    #[arg(short, long, value_enum, value_name = "FORMAT")]
    pub output: Option<ReplyFormat>,
}

/// How a reply is printed as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ReplyFormat {
    /// JSON, as it travels on the bus.
    Json,
    /// The same as YAML.
    Yaml,
}

fn revision(text: &str) -> Result<Revision, std::num::ParseIntError> {
    text.parse().map(Revision)
}

/// Arguments of `apply`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  dvsctl apply -f site.yaml
  dvsctl apply -f switches.yaml -f ports/ --wait=30s
  jq -c .ports[] inventory.json | dvsctl apply -f -
  dvsctl apply -f web.yaml --if-revision 42")]
pub struct ApplyArgs {
    /// What to apply.
    #[command(flatten)]
    pub files: Files,
    /// How.
    #[command(flatten)]
    pub change: ChangeArgs,
}

/// Arguments of `diff`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  dvsctl diff -f site.yaml || dvsctl apply -f site.yaml --wait")]
pub struct DiffArgs {
    /// What to compare.
    #[command(flatten)]
    pub files: Files,
}

/// Arguments of `delete`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  dvsctl delete port web-1 web-2
  dvsctl delete portgroup web --switch prod
  dvsctl delete mirror prod/tap
  dvsctl delete -f site.yaml --wait
  dvsctl delete port/web-1 portgroup/prod/web
  dvsctl get ports --group web -o name | xargs dvsctl delete")]
pub struct DeleteArgs {
    /// Kind of the objects; or the first one by kind and name, like port/web-1,
    /// and then the others like that, too.
    #[arg(value_parser = KindWordParser::<ObjectKind>::NEW, ignore_case = true, required_unless_present = "files")]
    pub kind: Option<KindWord<ObjectKind>>,
    /// Names; those of port groups and mirrors as SWITCH/NAME, or with --switch.
    #[arg(value_name = "NAME", requires = "kind")]
    pub names: Vec<String>,
    /// Switch of the port groups or mirrors.
    #[arg(long, value_parser = words::switch)]
    pub switch: Option<SwitchName>,
    /// Leave out what isn't there, instead of refusing.
    #[arg(long)]
    pub if_exists: bool,
    /// File that names the objects (whole documents will do), folder, or - for stdin.
    #[arg(short, long = "filename", value_name = "FILE|DIR|-", conflicts_with_all = ["kind", "names", "switch"])]
    pub files: Vec<PathBuf>,
    /// How.
    #[command(flatten)]
    pub change: ChangeArgs,
}

/// Kinds of objects, as written on a command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ObjectKind {
    /// Distributed switches.
    #[value(name = "switch", aliases = ["switches", "sw"])]
    Switch,
    /// Port groups.
    #[value(name = "portgroup", aliases = ["portgroups", "group", "groups", "pg"])]
    PortGroup,
    /// DVPorts.
    #[value(name = "port", aliases = ["ports"])]
    Port,
    /// Mirroring sessions.
    #[value(name = "mirror", aliases = ["mirrors", "mirrorsession", "mirrorsessions"])]
    MirrorSession,
}

impl From<ObjectKind> for Kind {
    fn from(kind: ObjectKind) -> Self {
        match kind {
            ObjectKind::Switch => Self::Switch,
            ObjectKind::PortGroup => Self::PortGroup,
            ObjectKind::Port => Self::Port,
            ObjectKind::MirrorSession => Self::MirrorSession,
        }
    }
}

impl From<Kind> for ObjectKind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Switch => Self::Switch,
            Kind::PortGroup => Self::PortGroup,
            Kind::Port => Self::Port,
            Kind::MirrorSession => Self::MirrorSession,
        }
    }
}

/// What can be listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Resource {
    /// Distributed switches.
    #[value(aliases = ["switch", "sw"])]
    Switches,
    /// Port groups.
    #[value(aliases = ["portgroup", "group", "groups", "pg"])]
    Portgroups,
    /// DVPorts, with their placement.
    #[value(aliases = ["port"])]
    Ports,
    /// Mirroring sessions.
    #[value(aliases = ["mirror", "mirrorsession", "mirrorsessions"])]
    Mirrors,
    /// Hosts, with what they have applied.
    #[value(aliases = ["host"])]
    Hosts,
    /// All objects, of every kind.
    All,
}

/// Arguments of `get`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  dvsctl get hosts --switch prod
  dvsctl get ports --host h1 -o wide
  dvsctl get portgroup prod/web -o yaml
  dvsctl get port/web-1 -o wide
  dvsctl get all -o yaml > site.yaml      (apply -f reads it)")]
pub struct GetArgs {
    /// What to list; or one thing by kind and name, like port/web-1.
    #[arg(value_parser = KindWordParser::<Resource>::NEW, ignore_case = true)]
    pub resource: KindWord<Resource>,
    /// Only this one.
    pub name: Option<String>,
    /// Only this switch and what belongs to it.
    #[arg(long, value_parser = words::switch)]
    pub switch: Option<SwitchName>,
    /// Only ports of this group.
    #[arg(long)]
    pub group: Option<PortGroupName>,
    /// Only ports on this host, or this host.
    #[arg(long, value_parser = words::host)]
    pub host: Option<HostName>,
    /// With the hosts and vNICs of ports in -o yaml, which moves ports back when
    /// it is applied; without, it leaves them where they are.
    #[arg(long)]
    pub placement: bool,
    /// How to print.
    #[command(flatten)]
    pub format: ListFormat,
}

/// Arguments of `describe`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  dvsctl describe port web-1
  dvsctl describe port/web-1
  dvsctl describe host h7
  dvsctl describe port web-1 -o json | jq .state")]
pub struct DescribeArgs {
    /// What it is; or kind and name, like port/web-1.
    #[arg(value_parser = KindWordParser::<Describable>::NEW, ignore_case = true)]
    pub thing: KindWord<Describable>,
    /// Its name.
    pub name: Option<String>,
    /// How to print.
    #[arg(short, long, value_enum, default_value_t, value_name = "FORMAT")]
    pub output: DescribeFormat,
}

/// What can be described.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Describable {
    /// A port.
    #[value(alias = "ports")]
    Port,
    /// A host.
    #[value(alias = "hosts")]
    Host,
}

/// How a description is printed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum DescribeFormat {
    /// Line by line.
    #[default]
    Text,
    /// JSON.
    Json,
    /// YAML.
    Yaml,
}

/// Arguments of `resync`.
#[derive(Debug, Args)]
pub struct ResyncArgs {
    /// Only this host.
    #[arg(long, value_parser = words::host)]
    pub host: Option<HostName>,
    /// Only this switch.
    #[arg(long, value_parser = words::switch)]
    pub switch: Option<SwitchName>,
    /// Wait until every host has applied it, at most BOUND; exit code 1 if one lags.
    #[arg(long, value_name = "BOUND", num_args = 0..=1, require_equals = true, default_missing_value = "10s")]
    pub wait: Option<Deadline>,
}

/// What can be waited for.
#[derive(Debug, Clone, Subcommand)]
pub enum WaitFor {
    /// Until so many hosts are present.
    #[command(after_help = "Example:\n  dvsctl wait hosts --count 5 --timeout 30s")]
    Hosts {
        /// How many.
        #[arg(long, value_name = "N")]
        count: u64,
    },
    /// Until every host has applied what concerns it and no retry is queued.
    #[command(after_help = "Example:\n  dvsctl wait in-sync --timeout 30s")]
    InSync {
        /// Only this switch.
        #[arg(long)]
        switch: Option<SwitchName>,
    },
}

/// Arguments of `explain`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  dvsctl explain portgroup
  dvsctl explain portgroup.policy.vlan.trunk")]
pub struct ExplainArgs {
    /// KIND[.FIELD...]
    pub path: String,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
