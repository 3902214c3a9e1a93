// SPDX-License-Identifier: Apache-2.0
//! A fleet: nats-server with the shipped configuration, and the real programs
//! as processes that a test may kill at any moment.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use dvs_schemas::subjects;
use dvs_transport::testing::NatsServer;
use serde_json::{Value, json};

use crate::operator::Operator;

/// How long a test waits for something that must come. Far beyond what it
/// takes, for machines that do a dozen tests at once.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// When a question is taken for lost. For a moment after a kill the bus still
/// hands questions to the dead, where nobody answers.
const LOST: Duration = Duration::from_secs(10);

/// A program of the fleet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Program {
    /// config-publisher.
    Publisher,
    /// retry.
    Retry,
    /// runtime-collector.
    Collector,
    /// host-agent with its replicas.
    Agent,
}

impl Program {
    /// Every program, in the order in which a fleet starts.
    pub const ALL: [Self; 4] = [Self::Retry, Self::Publisher, Self::Collector, Self::Agent];

    fn binary(self) -> &'static str {
        match self {
            Self::Publisher => "config-publisher",
            Self::Retry => "retry",
            Self::Collector => "runtime-collector",
            Self::Agent => "host-agent",
        }
    }

    fn role(self) -> &'static str {
        match self {
            Self::Publisher => "publisher",
            Self::Retry => "retry",
            Self::Collector => "collector",
            Self::Agent => "agent",
        }
    }
}

/// Where this build's programs are: beside the running test.
///
/// # Errors
/// The program was not built.
pub fn program(name: &str) -> Result<PathBuf> {
    let this = std::env::current_exe()?;
    let found = this
        .ancestors()
        .skip(1)
        .take(2)
        .map(|folder| folder.join(name))
        .find(|path| path.is_file());
    found.with_context(|| format!("{name} is not built; run `cargo build --workspace --bins`"))
}

/// Settings of a fleet.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Hosts `host-1`…, all replicas of one agent process.
    pub hosts: u32,
    /// How long a push waits for a host.
    pub push_timeout: &'static str,
    /// Heartbeat interval of the hosts.
    pub heartbeat: &'static str,
    /// Further arguments of host-agent.
    pub agent: Vec<String>,
    /// Further arguments of config-publisher.
    pub publisher: Vec<String>,
    /// A NATS configuration in place of the shipped one: none of its keys then.
    pub open_bus: bool,
    /// The bus is there for other network namespaces as well.
    pub shared_bus: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            hosts: 5,
            push_timeout: "5s",
            heartbeat: "1s",
            agent: Vec::new(),
            publisher: Vec::new(),
            open_bus: false,
            shared_bus: false,
        }
    }
}

/// A running fleet; gone with its handle.
#[derive(Debug)]
pub struct Fleet {
    /// The bus.
    pub nats: NatsServer,
    folder: tempfile::TempDir,
    settings: Settings,
    running: BTreeMap<Program, Child>,
    operator: Operator,
}

impl Fleet {
    /// Starts everything and waits until every host is known and every service
    /// answers.
    ///
    /// # Errors
    /// Something did not start; its log is part of the error.
    pub async fn start(settings: Settings) -> Result<Self> {
        let mut fleet = Self::bus_only(settings).await?;
        for program in Program::ALL {
            fleet.launch(program)?;
        }
        fleet.hosts_present().await?;
        // The publisher has answered by then; the others may still begin.
        fleet
            .until(
                "answers of retry and the collector",
                async |operator| {
                    operator.out_of_sync().await?;
                    operator.runtime().await
                },
                |_| true,
            )
            .await?;
        Ok(fleet)
    }

    /// Starts the bus alone.
    ///
    /// # Errors
    /// nats-server did not start.
    pub async fn bus_only(settings: Settings) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let nats = if settings.open_bus {
            NatsServer::start()?
        } else {
            let configuration = secured_configuration(folder.path())?;
            if settings.shared_bus {
                NatsServer::for_others(&configuration)?
            } else {
                NatsServer::with_config(&configuration)?
            }
        };
        let options = if settings.open_bus {
            async_nats::ConnectOptions::new()
        } else {
            signed_in(folder.path(), "operator")?
        };
        let client = options.connect(nats.url()).await?;
        Ok(Self {
            nats,
            folder,
            settings,
            running: BTreeMap::new(),
            operator: Operator::new(client),
        })
    }

    /// The operator's connection.
    #[must_use]
    pub fn operator(&self) -> &Operator {
        &self.operator
    }

    /// A connection with a program's key, for a test that plays its part. The
    /// bus must not be open.
    ///
    /// # Errors
    /// There is no such key, or the bus refuses it.
    pub async fn sign_in(&self, program: Program) -> Result<Operator> {
        let role = program.role();
        let options = signed_in(self.folder.path(), role)?;
        let options = options.custom_inbox_prefix(format!("_INBOX.{role}.test"));
        Ok(Operator::new(options.connect(self.nats.url()).await?))
    }

    /// Folder of a program's ledger.
    #[must_use]
    pub fn data(&self, program: Program) -> PathBuf {
        self.folder.path().join("data").join(program.binary())
    }

    /// What a program logged so far.
    #[must_use]
    pub fn log(&self, program: Program) -> String {
        std::fs::read_to_string(self.log_file(program)).unwrap_or_default()
    }

    /// What the agent of one host more logged so far.
    #[must_use]
    pub fn agent_log(&self, host: &str) -> String {
        std::fs::read_to_string(self.agent_log_file(host)).unwrap_or_default()
    }

    pub(crate) fn agent_log_file(&self, host: &str) -> PathBuf {
        self.folder.path().join(format!("host-agent-{host}.log"))
    }

    fn log_file(&self, program: Program) -> PathBuf {
        self.folder.path().join(format!("{}.log", program.binary()))
    }

    /// The command line of a program of this fleet, ready to run.
    ///
    /// # Errors
    /// It was not built.
    pub fn command(&self, program: Program) -> Result<Command> {
        self.command_in(program, &self.data(program))
    }

    /// The same with a folder of its own for its ledger.
    ///
    /// # Errors
    /// As [`Self::command`].
    pub fn command_in(&self, program: Program, data: &Path) -> Result<Command> {
        let mut command = Command::new(crate::fleet::program(program.binary())?);
        command
            .env("NATS_URL", self.nats.url())
            .env("DVS_LISTEN", "127.0.0.1:0")
            .arg("--data")
            .arg(data)
            .stdin(Stdio::null());
        if !self.settings.open_bus {
            command.env("NATS_NKEY", key_file(self.folder.path(), program.role()));
        }
        match program {
            Program::Publisher => {
                command.args(["--push-timeout", self.settings.push_timeout]);
                command.args(&self.settings.publisher);
            }
            Program::Retry => {
                command.args(["--push-timeout", self.settings.push_timeout]);
                command.args(["--retry-base", "100ms", "--retry-cap", "1s"]);
            }
            Program::Collector => {}
            Program::Agent => {
                command.args(["--host", "host", "--heartbeat", self.settings.heartbeat]);
                command.args(["--datapath", "emulated"]);
                command.args(["--replicas", &self.settings.hosts.to_string()]);
                command.args(&self.settings.agent);
            }
        }
        Ok(command)
    }

    /// The command line of `dvsctl`, as the operator uses it.
    ///
    /// # Errors
    /// It was not built.
    pub fn dvsctl(&self) -> Result<Command> {
        let mut command = Command::new(crate::fleet::program("dvsctl")?);
        command.env("NATS_URL", self.nats.url());
        if !self.settings.open_bus {
            command.env("NATS_NKEY", key_file(self.folder.path(), "operator"));
        }
        Ok(command)
    }

    /// The command line of an agent for one host more, which has a ledger and a
    /// log of its own, and forwards by whatever datapath the caller adds.
    ///
    /// # Errors
    /// It was not built.
    pub fn agent(&self, host: &str) -> Result<Command> {
        let log = self.agent_log_file(host);
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(log)?;
        let mut command = Command::new(crate::fleet::program(Program::Agent.binary())?);
        if !self.settings.open_bus {
            let key = key_file(self.folder.path(), Program::Agent.role());
            command.env("NATS_NKEY", key);
        }
        command
            .env("NATS_URL", self.nats.url())
            .env("DVS_LISTEN", "127.0.0.1:0")
            .args(["--host", host, "--heartbeat", self.settings.heartbeat])
            .args(&self.settings.agent)
            .arg("--data")
            .arg(self.folder.path().join("data").join(host))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        Ok(command)
    }

    /// Starts a program that does not run.
    ///
    /// # Errors
    /// It can't be started.
    pub fn launch(&mut self, program: Program) -> Result<()> {
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.log_file(program))?;
        let child = self
            .command(program)?
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        if let Some(mut before) = self.running.insert(program, child) {
            before.kill()?;
            before.wait()?;
            bail!("{program:?} was running already");
        }
        Ok(())
    }

    /// kill -9, and waits until the process is gone.
    ///
    /// # Errors
    /// It does not run.
    pub fn kill(&mut self, program: Program) -> Result<()> {
        let mut child = self
            .running
            .remove(&program)
            .with_context(|| format!("{program:?} does not run"))?;
        child.kill()?;
        child.wait()?;
        Ok(())
    }

    /// Process id of a running program.
    #[must_use]
    pub fn pid(&self, program: Program) -> Option<u32> {
        self.running.get(&program).map(Child::id)
    }

    /// Asks with `question` until `answer` says that it is what is awaited.
    ///
    /// # Errors
    /// It did not come; names what was awaited and the last answer.
    pub async fn until<T: std::fmt::Debug>(
        &self,
        what: &str,
        mut question: impl AsyncFnMut(&Operator) -> Result<T>,
        answer: impl Fn(&T) -> bool,
    ) -> Result<T> {
        let began = Instant::now();
        let mut pause = Duration::from_millis(10);
        loop {
            let asked = tokio::time::timeout(LOST, question(&self.operator)).await;
            let last = asked.unwrap_or_else(|_| Err(anyhow!("no answer within {LOST:?}")));
            match last {
                Ok(found) if answer(&found) => return Ok(found),
                last if began.elapsed() > PATIENCE => {
                    let mut text = format!("{last:?}");
                    text.truncate(2_000);
                    bail!(
                        "waited {PATIENCE:?} for: {what}; last: {text}\npublisher:\n{}\nretry:\n{}\nagent:\n{}",
                        tail(&self.log(Program::Publisher)),
                        tail(&self.log(Program::Retry)),
                        tail(&self.log(Program::Agent)),
                    )
                }
                Ok(_) | Err(_) => {
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(Duration::from_millis(250));
                }
            }
        }
    }

    /// Waits until every host has said hello and lives.
    ///
    /// # Errors
    /// Some did not.
    pub async fn hosts_present(&self) -> Result<()> {
        let expected = self.settings.hosts as usize;
        self.until(
            &format!("{expected} hosts present"),
            async |operator| operator.hosts().await,
            |hosts| {
                hosts
                    .iter()
                    .filter(|host| host["presence"] == "present")
                    .count()
                    == expected
            },
        )
        .await?;
        Ok(())
    }

    /// Waits until every host has applied what concerns it, and both queues
    /// are empty.
    ///
    /// # Errors
    /// Something still lags.
    pub async fn in_sync(&self) -> Result<()> {
        self.until(
            "every host in sync and both queues empty",
            async |operator| {
                let hosts = operator.hosts().await?;
                let lagging: Vec<Value> = hosts
                    .into_iter()
                    .filter(|host| {
                        host["switches"].as_array().is_some_and(|switches| {
                            switches.iter().any(|switch| {
                                switch["observed"].as_u64() < switch["wanted"].as_u64()
                            })
                        })
                    })
                    .collect();
                Ok((
                    lagging,
                    operator.out_of_sync().await?,
                    operator.rip_queue().await?,
                ))
            },
            |(lagging, out_of_sync, rip)| {
                lagging.is_empty() && out_of_sync.is_empty() && rip.is_empty()
            },
        )
        .await?;
        Ok(())
    }

    /// Waits until the collector has that every host's port is there, with
    /// this VLAN.
    ///
    /// # Errors
    /// It has something else.
    pub async fn stored_vlan(&self, vlan: &Value) -> Result<()> {
        let expected = self.settings.hosts as usize;
        self.until(
            &format!("{expected} ports stored with VLAN {vlan}"),
            async |operator| operator.runtime().await,
            |ports| {
                ports.len() == expected && ports.iter().all(|port| port["state"]["vlan"] == *vlan)
            },
        )
        .await?;
        Ok(())
    }

    /// What every host's datapath has, read past all stores: port → its VLAN
    /// as `runtime.live` tells it.
    ///
    /// # Errors
    /// A host did not answer.
    pub async fn live_vlans(&self) -> Result<BTreeMap<String, Value>> {
        let questions = (1..=self.settings.hosts).map(async |n| {
            let question = json!({"host": format!("host-{n}")});
            self.operator
                .ask(subjects::RUNTIME_LIVE, &question)
                .await?
                .ok()
        });
        let mut all = BTreeMap::new();
        for reply in futures_util::future::try_join_all(questions).await? {
            for port in reply["ports"].as_array().into_iter().flatten() {
                let name = port["port"].as_str().unwrap_or_default().to_owned();
                if all.insert(name.clone(), port["vlan"].clone()).is_some() {
                    bail!("port {name} is on two hosts");
                }
            }
        }
        Ok(all)
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        for child in self.running.values_mut() {
            // Nothing is left to do about a process that can't be killed.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(15)..].join("\n")
}

fn key_file(folder: &Path, role: &str) -> PathBuf {
    folder
        .join("credentials")
        .join(role)
        .join(format!("{role}.nk"))
}

fn signed_in(folder: &Path, role: &str) -> Result<async_nats::ConnectOptions> {
    let seed = std::fs::read_to_string(key_file(folder, role))?;
    Ok(async_nats::ConnectOptions::with_nkey(
        seed.trim().to_owned(),
    ))
}

/// The shipped configuration with keys made for this fleet, and without the
/// fixed monitoring port, which tests side by side would fight for.
fn secured_configuration(folder: &Path) -> Result<String> {
    let credentials = folder.join("credentials");
    let made = Command::new(program("dvsctl")?)
        .arg("credentials")
        .arg(&credentials)
        .output()?;
    if !made.status.success() {
        bail!(
            "dvsctl credentials failed: {}",
            String::from_utf8_lossy(&made.stderr)
        );
    }
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("../ops/nats/nats-server.conf");
    let text = std::fs::read_to_string(&shipped)
        .with_context(|| format!("{} can't be read", shipped.display()))?;
    // Paths of includes are relative to the configuration, which the server's
    // fixture writes to a folder of its own: so the keys go into the text.
    let include = "include \"credentials/server/keys.conf\"";
    if !text.contains(include) {
        bail!("{} no longer has the line {include}", shipped.display());
    }
    let keys = std::fs::read_to_string(credentials.join("server/keys.conf"))?;
    Ok(text.replace(include, &keys).replace("http_port: 8222", ""))
}
