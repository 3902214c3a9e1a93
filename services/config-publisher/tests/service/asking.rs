// SPDX-License-Identifier: Apache-2.0
//! Asking as the `nats` command line does.

use async_nats::Message;
use dvs_daemon::testing;
use dvs_transport::Bus;
use serde_json::Value;

/// The answer to what is not refused.
pub(crate) async fn ask(bus: &Bus, subject: &str, text: &str) -> Value {
    let reply = testing::ask(bus, subject, text).await;
    assert!(reply.get("error").is_none(), "{text}: {reply}");
    reply
}

/// The number and the words that a refusal carries in its headers.
pub(crate) fn headers(message: &Message) -> (String, String) {
    let headers = message.headers.as_ref().unwrap();
    let text = |name| headers.get(name).unwrap().as_str().to_owned();
    (text("Nats-Service-Error-Code"), text("Nats-Service-Error"))
}
