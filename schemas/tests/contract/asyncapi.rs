// SPDX-License-Identifier: Apache-2.0
//! The AsyncAPI document: every subject as a channel, who receives or sends
//! what there, and what is answered.

use std::collections::{BTreeMap, BTreeSet};

use dvs_schemas::subjects::{self, AgentVerb, EventVerb};
use roas_asyncapi::v3_0::Document;
use roas_asyncapi::validation::Validate as _;
use serde_json::{Map, Value, json};

use crate::published::schemas;

/// What is done on a subject.
struct Subject {
    /// Name of the channel and the operation.
    id: String,
    address: String,
    summary: &'static str,
    /// Who has the operation.
    service: &'static str,
    action: Action,
    message: &'static str,
    /// What may be answered; empty: nothing.
    replies: &'static [&'static str],
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Action {
    /// The service is asked.
    Receive,
    /// The service tells.
    Send,
}

/// A request to a service, answered to the asker's inbox.
fn asked(
    address: &str,
    service: &'static str,
    message: &'static str,
    replies: &'static [&'static str],
    summary: &'static str,
) -> Subject {
    Subject {
        id: address.strip_prefix("dvs.v1.").unwrap().to_owned(),
        address: address.to_owned(),
        summary,
        service,
        action: Action::Receive,
        message,
        replies,
    }
}

const PUBLISHER: &str = "config-publisher";
const RETRY: &str = "retry";
const COLLECTOR: &str = "runtime-collector";
const AGENT: &str = "host-agent";

fn services() -> Vec<Subject> {
    vec![
        asked(
            subjects::CONFIG_APPLY,
            PUBLISHER,
            "ApplyRequest",
            &["ApplyReply", "DryRunReply"],
            "Make documents true, all or none.",
        ),
        asked(
            subjects::CONFIG_DELETE,
            PUBLISHER,
            "DeleteRequest",
            &["ApplyReply", "DryRunReply"],
            "Delete objects, all or none.",
        ),
        asked(
            subjects::CONFIG_GET,
            PUBLISHER,
            "GetRequest",
            &["GetReply"],
            "List objects, filtered and paged.",
        ),
        asked(
            subjects::CONFIG_RENDER,
            PUBLISHER,
            "RenderRequest",
            &["RenderReply"],
            "A host's current final state, for retry.",
        ),
        asked(
            subjects::CONFIG_RESYNC,
            PUBLISHER,
            "ResyncRequest",
            &["ResyncReply"],
            "Push full states again.",
        ),
        asked(
            subjects::PORT_CLAIM,
            PUBLISHER,
            "ClaimRequest",
            &["ClaimReply"],
            "A port was plugged into a host, which asks for it.",
        ),
        asked(
            subjects::PORT_RELEASE,
            PUBLISHER,
            "ReleaseRequest",
            &["ReleaseReply"],
            "A port is plugged no more; its host gives it back.",
        ),
        asked(
            subjects::PORT_CONNECT,
            PUBLISHER,
            "ConnectRequest",
            &["ApplyReply"],
            "Connect a vNIC to a port, on the vNIC's host.",
        ),
        asked(
            subjects::PORT_MOVE,
            PUBLISHER,
            "MoveRequest",
            &["ApplyReply"],
            "Place a port on another host.",
        ),
        asked(
            subjects::PORT_DISCONNECT,
            PUBLISHER,
            "DisconnectRequest",
            &["DisconnectReply"],
            "End the connection of a vNIC.",
        ),
        asked(
            subjects::PORT_PLACEMENTS,
            PUBLISHER,
            "PlacementsRequest",
            &["PlacementsReply"],
            "Where ports are by the configuration, for the collector.",
        ),
        asked(
            subjects::HOST_HELLO,
            PUBLISHER,
            "Hello",
            &["HelloReply"],
            "A host came, or came back.",
        ),
        asked(
            subjects::HOST_FORGET,
            PUBLISHER,
            "ForgetRequest",
            &["ForgetReply"],
            "Forget a host that will never come back.",
        ),
        asked(
            subjects::HOST_LIST,
            PUBLISHER,
            "HostListRequest",
            &["HostListReply"],
            "List hosts, their revisions and presence.",
        ),
        asked(
            subjects::STORE_CONTINUE,
            PUBLISHER,
            "ContinueRequest",
            &["ContinueReply"],
            "Make this configuration hold on hosts that follow another history.",
        ),
        asked(
            subjects::RETRY_PUT,
            RETRY,
            "RetryPut",
            &["PutReply"],
            "Hand over what was not acknowledged.",
        ),
        asked(
            subjects::RETRY_LIST,
            RETRY,
            "RetryListRequest",
            &["RetryListReply"],
            "List the queues: who is out of sync, what is to be removed.",
        ),
        asked(
            subjects::RETRY_KICK,
            RETRY,
            "EntrySelection",
            &["SelectionReply"],
            "Try entries now.",
        ),
        asked(
            subjects::RETRY_PARK,
            RETRY,
            "EntrySelection",
            &["SelectionReply"],
            "Stop trying entries; they stay visible.",
        ),
        asked(
            subjects::RETRY_CANCEL,
            RETRY,
            "EntrySelection",
            &["SelectionReply"],
            "Drop entries.",
        ),
        asked(
            subjects::RUNTIME_GET,
            COLLECTOR,
            "RuntimeGetRequest",
            &["RuntimeRecord"],
            "Stored runtime state of a port.",
        ),
        asked(
            subjects::RUNTIME_LIST,
            COLLECTOR,
            "RuntimeListRequest",
            &["RuntimeListReply"],
            "Stored runtime states, filtered and paged.",
        ),
        asked(
            subjects::RUNTIME_HISTORY,
            COLLECTOR,
            "RuntimeHistoryRequest",
            &["RuntimeHistoryReply"],
            "What was told of a port, for debugging.",
        ),
        asked(
            subjects::RUNTIME_ROLLUP,
            COLLECTOR,
            "RuntimeRollupRequest",
            &["RuntimeRollupReply"],
            "Ports summed up by switch, group or host.",
        ),
        asked(
            subjects::RUNTIME_CONDITIONS,
            COLLECTOR,
            "RuntimeConditionsRequest",
            &["RuntimeConditionsReply"],
            "What is wrong on hosts, for as long as it lasts.",
        ),
        asked(
            subjects::RUNTIME_FORGET,
            COLLECTOR,
            "RuntimeForgetRequest",
            &["RuntimeForgetReply"],
            "Hosts will never come back: their virtual ports are gone.",
        ),
        asked(
            subjects::RUNTIME_LIVE,
            COLLECTOR,
            "LiveRequest",
            &["LiveReply"],
            "Runtime state read from the host now.",
        ),
    ]
}

fn agent(verb: AgentVerb) -> Subject {
    let (message, replies, summary): (_, &[_], _) = match verb {
        AgentVerb::Clobber => (
            "Clobber",
            &["ApplyReport"],
            "Make a final state true on one host.",
        ),
        AgentVerb::Remove => (
            "Remove",
            &["RemoveReport"],
            "Remove virtual ports from one host.",
        ),
        AgentVerb::Plan => (
            "Clobber",
            &["Plan"],
            "Say what a clobber would change; change nothing.",
        ),
        AgentVerb::Live => (
            "Live",
            &["LiveReply"],
            "Read runtime state from the datapath.",
        ),
        AgentVerb::Fetch => ("Fetch", &["Fetched"], "Say what a notice was about."),
        AgentVerb::Yield => (
            "Yield",
            &[],
            "Let go of a port that another host waits for, once its machine has stopped.",
        ),
        AgentVerb::Identify => (
            "Identify",
            &["Identified"],
            "Say whether the agent of a session is there.",
        ),
    };
    Subject {
        id: format!("agent.{verb}"),
        address: format!("dvs.v1.agent.{{host}}.{verb}"),
        summary,
        service: AGENT,
        action: Action::Receive,
        message,
        replies,
    }
}

fn event(verb: EventVerb) -> Subject {
    let (message, replies, summary): (_, &[_], _) = match verb {
        EventVerb::Changed => (
            "Changed",
            &["EventAck"],
            "Rare states that changed; repeated until acknowledged.",
        ),
        EventVerb::Settled => (
            "Settled",
            &["EventAck"],
            "Busy states that stopped changing; repeated until acknowledged.",
        ),
        EventVerb::Conditions => (
            "HostConditions",
            &["EventAck"],
            "All that is wrong on the host, whenever that changes; repeated until acknowledged.",
        ),
        EventVerb::Notice => (
            "EventNotice",
            &["EventAck"],
            "Something changed and is to be fetched; repeated until acknowledged.",
        ),
        EventVerb::Heartbeat => ("Heartbeat", &[], "The host lives."),
    };
    Subject {
        id: format!("event.{verb}"),
        address: format!("dvs.v1.event.{{host}}.{verb}"),
        summary,
        service: AGENT,
        action: Action::Send,
        message,
        replies,
    }
}

const EVENTS: [EventVerb; 5] = [
    EventVerb::Changed,
    EventVerb::Settled,
    EventVerb::Conditions,
    EventVerb::Notice,
    EventVerb::Heartbeat,
];

fn drift() -> Subject {
    Subject {
        id: "event.drift".into(),
        address: "dvs.v1.event.{host}.drift".into(),
        summary: "Somebody else changed what is ours in the datapath; told once.",
        service: AGENT,
        action: Action::Send,
        message: "Drift",
        replies: &[],
    }
}

fn hosts() -> Vec<Subject> {
    let fan_out = Subject {
        id: "switch.clobber".into(),
        address: "dvs.v1.switch.{switch}.clobber".into(),
        summary: "Make a switch's global state true on every host of the switch; each answers.",
        service: AGENT,
        action: Action::Receive,
        message: "Clobber",
        replies: &["ApplyReport"],
    };
    [fan_out, drift()]
        .into_iter()
        .chain(AgentVerb::ALL.map(agent))
        .chain(EVENTS.map(event))
        .collect()
}

impl Subject {
    /// Hosts answer under their own names, services to the asker's inbox.
    fn reply_channel(&self) -> &'static str {
        match (self.service, self.action) {
            (AGENT, Action::Receive) => "reply",
            (_, _) => "inbox",
        }
    }

    /// A host's refusal is an outcome in its report; a service's is a problem.
    fn answers(&self) -> Vec<&'static str> {
        let mut answers = self.replies.to_vec();
        if self.reply_channel() == "inbox" && !answers.is_empty() {
            answers.push("ProblemBody");
        }
        answers
    }

    fn channel(&self) -> Value {
        let mut channel = json!({
            "address": self.address,
            "summary": self.summary,
            "messages": refs_by_name([self.message], "#/components/messages"),
        });
        let parameters: Map<String, Value> = ["host", "switch"]
            .into_iter()
            .filter(|name| self.address.contains(&format!("{{{name}}}")))
            .map(|name| {
                (
                    name.to_owned(),
                    json!({ "$ref": format!("#/components/parameters/{name}") }),
                )
            })
            .collect();
        if !parameters.is_empty() {
            channel["parameters"] = Value::Object(parameters);
        }
        channel
    }

    fn operation(&self) -> Value {
        let action = match self.action {
            Action::Receive => "receive",
            Action::Send => "send",
        };
        let mut operation = json!({
            "action": action,
            "channel": { "$ref": format!("#/channels/{}", self.id) },
            "summary": self.summary,
            "tags": [{ "name": self.service }],
            "messages": [{ "$ref": format!("#/channels/{}/messages/{}", self.id, self.message) }],
        });
        let answers = self.answers();
        if !answers.is_empty() {
            let channel = self.reply_channel();
            let messages: Vec<_> = answers
                .iter()
                .map(|name| json!({ "$ref": format!("#/channels/{channel}/messages/{name}") }))
                .collect();
            operation["reply"] = json!({
                "channel": { "$ref": format!("#/channels/{channel}") },
                "messages": messages,
            });
        }
        operation
    }
}

fn refs_by_name<'a>(names: impl IntoIterator<Item = &'a str>, base: &str) -> Value {
    names
        .into_iter()
        .map(|name| (name.to_owned(), json!({ "$ref": format!("{base}/{name}") })))
        .collect::<Map<_, _>>()
        .into()
}

fn channels(subjects: &[Subject]) -> Map<String, Value> {
    let answered = |channel: &str| -> BTreeSet<&'static str> {
        subjects
            .iter()
            .filter(|subject| subject.reply_channel() == channel)
            .flat_map(Subject::answers)
            .collect()
    };
    let reply = json!({
        "address": "dvs.v1.reply.{host}.{instance}.{token}",
        "summary": "Where hosts answer, each under its own name: the subject proves who does.",
        "messages": refs_by_name(answered("reply"), "#/components/messages"),
        "parameters": refs_by_name(["host", "instance", "token"], "#/components/parameters"),
    });
    let inbox = json!({
        "address": null,
        "summary": "The reply subject of a request.",
        "messages": refs_by_name(answered("inbox"), "#/components/messages"),
    });
    subjects
        .iter()
        .map(|subject| (subject.id.clone(), subject.channel()))
        .chain([("reply".to_owned(), reply), ("inbox".to_owned(), inbox)])
        .collect()
}

fn messages(subjects: &[Subject], schemas: &BTreeMap<String, Value>) -> Map<String, Value> {
    let used: BTreeSet<&str> = subjects
        .iter()
        .flat_map(|subject| subject.answers().into_iter().chain([subject.message]))
        .collect();
    used.into_iter()
        .map(|name| {
            let message = json!({
                "name": name,
                "summary": summary(&schemas[name]),
                "payload": { "$ref": format!("./json/v1/{name}.json") },
            });
            (name.to_owned(), message)
        })
        .collect()
}

const ABOUT: &str = "What travels on the bus of dvswitch, a distributed virtual switch. Every \
    message may be JSON text or MessagePack with the same named fields; the first byte tells \
    which, and who is asked answers in kind. In MessagePack a time is a number of milliseconds \
    since 1970 and a UUID is 16 bytes. A request that is refused is answered with the headers \
    Nats-Service-Error and Nats-Service-Error-Code.";

/// The whole document. Messages refer to the JSON Schemas beside it.
pub(crate) fn document(schemas: &BTreeMap<String, Value>) -> Value {
    let subjects: Vec<Subject> = services().into_iter().chain(hosts()).collect();
    let operations: Map<String, Value> = subjects
        .iter()
        .map(|subject| (subject.id.clone(), subject.operation()))
        .collect();
    json!({
        "asyncapi": "3.0.0",
        "info": {
            "title": "dvswitch",
            "version": "1",
            "description": ABOUT,
            "license": { "name": "Apache-2.0" },
        },
        "defaultContentType": "application/json",
        "servers": {
            "nats": {
                "host": "127.0.0.1:4222",
                "protocol": "nats",
                "description": "The bus, as ops/up starts it.",
            },
        },
        "channels": channels(&subjects),
        "operations": operations,
        "components": {
            "messages": messages(&subjects, schemas),
            "parameters": {
                "host": { "description": "Name of a host." },
                "switch": { "description": "Name of a switch." },
                "instance": { "description": "Who asked: one run of one service." },
                "token": { "description": "What was asked: one call of that run." },
            },
        },
    })
}

/// The first paragraph of a schema's description.
fn summary(schema: &Value) -> String {
    let text = schema["description"].as_str().unwrap();
    text.split("\n\n").next().unwrap_or(text).replace('\n', " ")
}

#[test]
fn the_document_is_valid() {
    let text = serde_json::to_string(&document(&schemas())).unwrap();
    let document: Document = serde_json::from_str(&text).unwrap();
    document.validate(Default::default()).unwrap();
}

/// Every subject that the source names is a channel, and every channel's
/// address is one of them: neither can be forgotten.
#[test]
fn every_subject_is_a_channel() {
    let source = include_str!("../../src/subjects.rs");
    let code = source
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"));
    let mut named: BTreeSet<String> = code
        .flat_map(|line| line.split('"').skip(1).step_by(2))
        .filter(|text| text.starts_with("dvs.v1.") && !text.contains('*') && !text.ends_with('.'))
        .map(str::to_owned)
        .collect();
    for (family, verbs) in [
        (
            "dvs.v1.agent.{host}",
            AgentVerb::ALL.map(|v| v.to_string()).to_vec(),
        ),
        (
            "dvs.v1.event.{host}",
            EVENTS.map(|v| v.to_string()).to_vec(),
        ),
    ] {
        assert!(named.remove(&format!("{family}.{{verb}}")), "{family}");
        named.extend(verbs.iter().map(|verb| format!("{family}.{verb}")));
    }
    let document = document(&schemas());
    let channels: BTreeSet<String> = document["channels"]
        .as_object()
        .unwrap()
        .values()
        .filter_map(|channel| channel["address"].as_str().map(str::to_owned))
        .collect();
    assert_eq!(channels, named);
}

/// Every message that has a schema travels somewhere.
#[test]
fn every_message_is_used() {
    let schemas = schemas();
    let document = document(&schemas);
    let used: BTreeSet<&String> = document["components"]["messages"]
        .as_object()
        .unwrap()
        .keys()
        .collect();
    let documents = ["Document", "Switch", "PortGroup", "Port", "MirrorSession"];
    let messages: BTreeSet<&String> = schemas
        .keys()
        .filter(|name| !documents.contains(&name.as_str()))
        .collect();
    assert_eq!(used, messages);
}
