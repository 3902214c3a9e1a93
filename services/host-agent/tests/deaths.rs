// SPDX-License-Identifier: Apache-2.0
//! What panics takes the process with it: a host that goes on without a part
//! of itself looks alive and is not.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::time::Duration;

use dvs_daemon::{Daemon, LogFormat, Settings};
use dvs_schemas::v1::CountersOf;
use dvs_schemas::{PortId, SwitchName};
use dvs_transport::testing::NatsServer;
use host_agent::datapath::{
    Applied, Behaviour, Datapath, DatapathError, Emulated, Notice, Picture, Ports, Remembered, Step,
};
use host_agent::host::HostSettings;
use host_agent::service::{Service, serve};
use uuid::Uuid;

/// Far beyond what anything takes, for machines that do much at once.
const PATIENCE: Duration = Duration::from_secs(60);

/// When a [`Faulty`] datapath panics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// As soon as it is read.
    AtOnce,
    /// In the middle of being read.
    Later,
    /// While it is listened to.
    Telling,
}

struct Faulty {
    datapath: Emulated,
    fault: Fault,
}

impl Datapath for Faulty {
    async fn resume(&self, known: Remembered) {
        self.datapath.resume(known).await;
    }

    async fn read(&self) -> Result<Picture, DatapathError> {
        assert_ne!(self.fault, Fault::AtOnce, "as the test wants it");
        tokio::task::yield_now().await;
        assert_ne!(self.fault, Fault::Later, "as the test wants it");
        self.datapath.read().await
    }

    async fn apply(&self, steps: Arc<[Step]>, guarded: Ports) -> Applied {
        self.datapath.apply(steps, guarded).await
    }

    async fn counters(
        &self,
        ports: Vec<(SwitchName, PortId)>,
    ) -> Result<Vec<(SwitchName, CountersOf)>, DatapathError> {
        self.datapath.counters(ports).await
    }

    async fn announce(&self, _: Vec<(SwitchName, PortId)>) {}

    async fn next_notice(&self) -> Notice {
        assert_ne!(self.fault, Fault::Telling, "as the test wants it");
        self.datapath.next_notice().await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_stops_the_service() {
    let server = NatsServer::start().unwrap();
    for fault in [Fault::AtOnce, Fault::Later, Fault::Telling] {
        let data = tempfile::tempdir().unwrap();
        let settings = Settings {
            data: data.path().to_owned(),
            listen: "127.0.0.1:0".parse().unwrap(),
            log: "off".to_owned(),
            log_format: LogFormat::Text,
        };
        let daemon = Daemon::start("host-agent", "0", settings).await.unwrap();
        let datapath = Faulty {
            datapath: Emulated::new(Behaviour::default(), 1),
            fault,
        };
        let service = Service {
            data: data.path().to_owned(),
            hosts: vec![("h1".parse().unwrap(), Arc::new(datapath))],
            settings: HostSettings {
                agent: Uuid::from_u128(1),
                node: "test".to_owned(),
                datapath: dvs_schemas::v1::HostDatapath::Emulated,
                heartbeat: Duration::from_secs(10),
                quiet: Duration::from_secs(10),
                rollback_after: None,
                mode: dvs_schemas::TellMode::Push,
            },
            connect: server.args(),
        };
        // Nobody asks it to stop.
        let ended = tokio::time::timeout(PATIENCE, serve(daemon, service)).await;
        assert!(ended.is_ok(), "{fault:?}: the service goes on");
    }
}
