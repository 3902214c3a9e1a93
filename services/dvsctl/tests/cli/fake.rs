// SPDX-License-Identifier: Apache-2.0
//! A real nats-server with services that answer what a test tells them, and
//! the real `dvsctl` run against it.

use std::path::Path;
use std::process::Output;

use bytes::Bytes;
use dvs_schemas::codec::{decode, encode};
use dvs_schemas::{Format, Problem};
use dvs_transport::endpoint::{Description, Endpoint, Service};
use dvs_transport::testing::NatsServer;
use dvs_transport::{Bus, Identity, connect};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// What a subject answers; `None`: nothing, ever.
type Answer = Box<dyn FnMut(&[u8]) -> Option<Result<Bytes, Problem>> + Send>;

/// How a request is read that has several shapes.
type Reader<Q> = fn(&[u8]) -> Result<(Format, Q), Problem>;

/// The services of a test, by subject.
#[derive(Default)]
pub(crate) struct Script(Vec<(&'static str, Answer)>);

impl Script {
    /// Answers requests that are read as `Q`.
    pub(crate) fn on<Q, R>(
        self,
        subject: &'static str,
        mut answer: impl FnMut(Q) -> Result<R, Problem> + Send + 'static,
    ) -> Self
    where
        Q: DeserializeOwned,
        R: Serialize,
    {
        self.raw(subject, move |bytes| {
            let (format, request) = decode(bytes).unwrap();
            Some(answer(request).map(|reply| encode(format, &reply).unwrap()))
        })
    }

    /// Answers requests that have a reader of their own.
    pub(crate) fn read_by<Q, R>(
        self,
        subject: &'static str,
        read: Reader<Q>,
        mut answer: impl FnMut(Q) -> Result<R, Problem> + Send + 'static,
    ) -> Self
    where
        Q: 'static,
        R: Serialize,
    {
        self.raw(subject, move |bytes| {
            let (format, request) = read(bytes).unwrap();
            Some(answer(request).map(|reply| encode(format, &reply).unwrap()))
        })
    }

    /// Hears requests and never answers.
    pub(crate) fn silent(self, subject: &'static str) -> Self {
        self.raw(subject, |_| None)
    }

    fn raw(
        mut self,
        subject: &'static str,
        answer: impl FnMut(&[u8]) -> Option<Result<Bytes, Problem>> + Send + 'static,
    ) -> Self {
        self.0.push((subject, Box::new(answer)));
        self
    }

    /// Starts server and services.
    pub(crate) async fn start(self) -> Fake {
        let server = NatsServer::start().unwrap();
        let long = std::time::Duration::from_secs(30);
        let bus = connect(&server.args(), Identity::service("fake"))
            .await
            .unwrap();
        bus.reach(long).await.unwrap();
        let description = Description {
            name: "fake".into(),
            version: "0.0.0".into(),
            description: String::new(),
            metadata: Default::default(),
        };
        let endpoints = self
            .0
            .iter()
            .enumerate()
            .map(|(id, (subject, _))| Endpoint {
                id,
                subject,
                description: "",
            })
            .collect();
        let (service, mut requests) = Service::start(&bus, description, endpoints).await.unwrap();
        bus.round_trip(long).await.unwrap();
        let mut answers = self.0;
        tokio::spawn(async move {
            let mut unanswered = Vec::new();
            while let Some(request) = requests.next().await {
                match (answers[request.endpoint].1)(&request.payload) {
                    Some(answer) => request.responder.respond(answer).await.unwrap(),
                    None => unanswered.push(request),
                }
            }
        });
        Fake {
            home: tempfile::tempdir().unwrap(),
            server,
            _bus: bus,
            _service: service,
        }
    }
}

/// A running set-up; gone with its handle.
pub(crate) struct Fake {
    /// The home folder of whoever runs dvsctl.
    pub(crate) home: tempfile::TempDir,
    /// The bus.
    pub(crate) server: NatsServer,
    _bus: Bus,
    _service: Service,
}

/// How a command ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Ended {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl From<Output> for Ended {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

/// A command of `dvsctl` in a home folder, with nothing of the machine's own
/// settings.
pub(crate) fn dvsctl(home: &Path, args: &[&str]) -> tokio::process::Command {
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_dvsctl"));
    command
        .args(args)
        .env_clear()
        .env("HOME", home)
        .current_dir(home)
        .stdin(std::process::Stdio::null())
        .kill_on_drop(true);
    command
}

impl Fake {
    /// Runs `dvsctl` against this bus.
    pub(crate) async fn run(&self, args: &[&str]) -> Ended {
        let url = self.server.url();
        let args = [&["--server", &url], args].concat();
        dvsctl(self.home.path(), &args)
            .output()
            .await
            .unwrap()
            .into()
    }

    /// Runs `dvsctl` and expects an end; gives its stdout.
    pub(crate) async fn ends(&self, code: i32, args: &[&str]) -> Ended {
        let ended = self.run(args).await;
        assert_eq!(ended.code, code, "{args:?}: {ended:?}");
        ended
    }

    /// Writes a file into the home folder.
    pub(crate) fn write(&self, name: &str, text: &str) {
        let path = self.home.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
}
