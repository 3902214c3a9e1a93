// SPDX-License-Identifier: Apache-2.0
//! Two publishers with a ledger each that start on one bus at the same time.

use dvs_daemon::testing::{Service, bus};
use dvs_schemas::subjects;
use dvs_transport::testing::NatsServer;

use crate::PUBLISHER;
use crate::asking::ask;

/// Changes after it is known who serves: enough for two that took turns to be
/// found out.
const MORE: u64 = 10;

#[tokio::test]
async fn of_two_that_start_at_once_one_alone_acknowledges_changes() {
    let server = NatsServer::start().unwrap();
    let bus = bus(&server, "test").await;
    let data = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let mut twins = data
        .each_ref()
        .map(|data| Service::spawn(PUBLISHER, &server.url(), data.path(), &[]));
    let (mut revision, mut more) = (0, 0);
    while more < MORE {
        revision += 1;
        let switch = format!(r#"{{"kind":"Switch","name":"s{revision}"}}"#);
        let reply = ask(&bus, subjects::CONFIG_APPLY, &switch).await;
        // The ledger of another would number it anew.
        assert_eq!(reply["revision"], revision);
        let ended = twins.each_mut().map(Service::ended);
        more += u64::from(ended.iter().any(Option::is_some));
    }
    // It doesn't wait for the other's end, for it has another ledger.
    let ended = twins.each_mut().map(Service::ended);
    let ended: Vec<_> = ended.iter().flatten().collect();
    assert!(
        matches!(ended[..], [status] if !status.success()),
        "{ended:?}"
    );
    let said = twins.each_ref().map(Service::said);
    let started = |said: &&Vec<String>| said.iter().any(|word| word == "started");
    assert_eq!(said.iter().filter(started).count(), 1, "{said:?}");
}
