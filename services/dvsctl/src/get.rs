// SPDX-License-Identifier: Apache-2.0
//! Lists objects: one request per page, one table per kind.

use std::collections::{BTreeMap, BTreeSet};

use dvs_schemas::v1::{
    ConditionsOfHost, GetReply, GetRequest, Item, RuntimeConditionsRequest, RuntimeListRequest,
};
use dvs_schemas::{
    Document, Hosts, Kind, MirrorDestination, MirrorSessionDoc, ObjectKey, Policy, PortDoc,
    PortGroupDoc, SwitchDoc, subjects,
};

use crate::args::{GetArgs, Resource, of_object};
use crate::conditions;
use crate::failure::{Failure, Verdict};
use crate::hosts;
use crate::mistyped::exist;
use crate::output::{OutputFormat, json, or_dash, print, say, say_if_empty, table, yaml};
use crate::policy::{overridable, overrides, security, shaping, vlan};
use crate::session::{Connector, Session};
use crate::when::age;
use crate::whereabouts::{self, Known, Wanted};

/// From so many objects of a kind on it is cheaper to read the whole list, of
/// which one page holds thousands, than to ask for each by its name.
const ONE_BY_ONE: usize = 16;

/// Runs `get`.
///
/// # Errors
/// The publisher can't be asked, or refuses.
pub async fn run(connector: Connector<'_>, args: GetArgs) -> Result<Verdict, Failure> {
    let GetArgs {
        resource,
        name,
        switch,
        group,
        host,
        placement,
        format,
    } = args;
    let (resource, name) = resource.with(name)?;
    let kind = match resource {
        Resource::Switches => Some(Kind::Switch),
        Resource::Portgroups => Some(Kind::PortGroup),
        Resource::Ports => Some(Kind::Port),
        Resource::Mirrors => Some(Kind::MirrorSession),
        Resource::All => None,
        Resource::Hosts => return hosts::run(connector, name, host, switch, &format).await,
    };
    let (switch, name) = match name.as_deref().and_then(|name| name.split_once('/')) {
        Some((in_switch, name)) => {
            let parsed = in_switch
                .parse()
                .map_err(|e: dvs_schemas::InvalidName| Failure::Usage(e.to_string()))?;
            (Some(parsed), Some(name.to_owned()))
        }
        None => (switch, name),
    };
    let request = GetRequest {
        kind,
        name: name.clone(),
        switch,
        group,
        host,
        after: None,
    };
    let session = connector.open().await?;
    let items = fetch(&session, request.clone()).await?;
    if items.is_empty() {
        let GetRequest {
            switch,
            group,
            host,
            ..
        } = &request;
        exist(&session, switch.as_ref(), group.as_ref(), host.as_ref()).await?;
    }
    let text = match (kind, format.output) {
        (Some(Kind::Port), OutputFormat::Wide) => {
            let known = whereabouts::ask(&session, of_those(request, &items)).await?;
            render_ports(&items, &known, format.no_headings)
        }
        (Some(Kind::Port), OutputFormat::Table) if !items.is_empty() => {
            let all = RuntimeConditionsRequest::default();
            let wrong = conditions::or_warning(&session, all).await;
            render_ports_briefly(&items, &wrong, format.no_headings)
        }
        (_, OutputFormat::Yaml) if !placement => render(
            kind,
            &unplaced(items.clone()),
            format.output,
            format.no_headings,
        )?,
        _ => render(kind, &items, format.output, format.no_headings)?,
    };
    print(&text)?;
    match name {
        Some(name) if items.is_empty() => {
            say(&format!("nothing is called {name:?}"));
            Ok(Verdict::No)
        }
        Some(_) | None => {
            say_if_empty(items.len(), format.output, "there are none");
            Ok(Verdict::Yes)
        }
    }
}

/// The ports that a request for objects asks for.
fn of_those(request: GetRequest, items: &[Item]) -> Wanted {
    let GetRequest {
        kind: _,
        name,
        switch,
        group,
        host,
        after: _,
    } = request;
    match (name, items) {
        (
            Some(_),
            [
                Item {
                    document: Document::Port(port),
                    ..
                },
            ],
        ) => Wanted::One(port.clone()),
        _ => Wanted::Those(RuntimeListRequest {
            switch,
            group,
            host,
            ..RuntimeListRequest::default()
        }),
    }
}

/// Ports with all that is known of them.
fn render_ports(items: &[Item], known: &Known, no_headings: bool) -> String {
    let mut headings = headings(Some(Kind::Port), true);
    headings.extend(["CONDITIONS", "OBSERVED", "AGE", "STATE"]);
    let rows = items.iter().filter_map(|item| {
        let whereabouts = known.of(item)?;
        let observed = whereabouts.observed();
        let mut row = row(item);
        row.push(conditions::of_port_in_words(&whereabouts.conditions));
        row.push(or_dash(observed.map(|(revision, _)| revision)));
        row.push(or_dash(observed.map(|(_, told)| age(known.now(), told))));
        row.push(whereabouts.state.to_string());
        Some(row)
    });
    table(&headings, rows.collect(), no_headings)
}

/// Ports with what is wrong with them.
fn render_ports_briefly(items: &[Item], wrong: &[ConditionsOfHost], no_headings: bool) -> String {
    let mut headings = headings(Some(Kind::Port), false);
    let usual = headings.len();
    headings.push("CONDITIONS");
    let rows = items.iter().filter_map(|item| {
        let Document::Port(port) = &item.document else {
            return None;
        };
        let mut row = row(item);
        row.truncate(usual);
        let about = conditions::of_port(wrong, &port.name, port.host.as_ref());
        row.push(conditions::of_port_in_words(&about));
        Some(row)
    });
    table(&headings, rows.collect(), no_headings)
}

/// Every object that a request asks for.
///
/// # Errors
/// As [`Session::pages`].
pub async fn fetch(session: &Session, request: GetRequest) -> Result<Vec<Item>, Failure> {
    let mut items = Vec::new();
    session
        .pages(subjects::CONFIG_GET, request, |request, page: GetReply| {
            items.extend(page.items);
            request.after = page.next;
            request.after.is_some()
        })
        .await?;
    Ok(items)
}

/// Those of the objects that are there, as they are now.
///
/// # Errors
/// As [`Session::pages`].
pub async fn present(
    session: &Session,
    wanted: BTreeSet<ObjectKey>,
) -> Result<BTreeMap<ObjectKey, Item>, Failure> {
    let mut by_kind: BTreeMap<Kind, Vec<&ObjectKey>> = BTreeMap::new();
    for key in &wanted {
        by_kind.entry(key.kind()).or_default().push(key);
    }
    let mut found = BTreeMap::new();
    for (kind, keys) in by_kind {
        let of_kind = GetRequest {
            kind: Some(kind),
            ..GetRequest::default()
        };
        let requests = if keys.len() < ONE_BY_ONE {
            keys.iter().map(|key| named(&of_kind, key)).collect()
        } else {
            vec![of_kind]
        };
        for request in requests {
            for item in fetch(session, request).await? {
                let key = item.document.key();
                if wanted.contains(&key) {
                    found.insert(key, item);
                }
            }
        }
    }
    Ok(found)
}

fn named(of_kind: &GetRequest, key: &ObjectKey) -> GetRequest {
    let (name, switch) = match key {
        ObjectKey::Switch(name) => (name.to_string(), None),
        ObjectKey::PortGroup(switch, name) => (name.to_string(), Some(switch.clone())),
        ObjectKey::Port(name) => (name.to_string(), None),
        ObjectKey::MirrorSession(switch, name) => (name.to_string(), Some(switch.clone())),
    };
    GetRequest {
        name: Some(name),
        switch,
        ..of_kind.clone()
    }
}

/// The objects as text; `kind` none: of all kinds.
///
/// # Errors
/// An object has no JSON or YAML form, which is none of the user's making.
pub fn render(
    kind: Option<Kind>,
    items: &[Item],
    output: OutputFormat,
    no_headings: bool,
) -> std::io::Result<String> {
    let wide = match output {
        OutputFormat::Table => false,
        OutputFormat::Wide => true,
        OutputFormat::Json => return json(&items),
        OutputFormat::Yaml => return documents(items),
        OutputFormat::Name => {
            return Ok(items
                .iter()
                .map(|item| of_object(&item.document.key()) + "\n")
                .collect());
        }
    };
    let headings = headings(kind, wide);
    let rows = items
        .iter()
        .map(|item| match kind {
            None => vec![
                item.document.key().kind().to_string(),
                of_object(&item.document.key())
                    .split_once('/')
                    .map_or_else(String::new, |(_, name)| name.to_owned()),
                item.revision.to_string(),
            ],
            Some(_) => {
                let mut row = row(item);
                row.truncate(headings.len());
                row
            }
        })
        .collect();
    Ok(table(&headings, rows, no_headings))
}

/// Objects without what placing and connecting has made of ports: where a
/// document says nothing of that, applying it leaves ports where they are.
fn unplaced(mut items: Vec<Item>) -> Vec<Item> {
    for item in &mut items {
        if let Document::Port(port) = &mut item.document {
            port.host = None;
            port.vnic = None;
        }
    }
    items
}

/// Documents as `apply -f` reads them, each under a line that says its
/// revision.
fn documents(items: &[Item]) -> std::io::Result<String> {
    items
        .iter()
        .map(|item| {
            let text = yaml(&item.document)?;
            Ok(format!("---\n# revision {}\n{text}", item.revision))
        })
        .collect()
}

/// The headings of a kind; what only `wide` shows comes last.
fn headings(kind: Option<Kind>, wide: bool) -> Vec<&'static str> {
    let (usual, more): (&[_], &[_]) = match kind {
        None => (&["KIND", "NAME", "REVISION"], &[]),
        Some(Kind::Switch) => (
            &["NAME", "HOSTS", "MTU", "UPLINKS", "VLAN", "REVISION"],
            &["TEAMING", "PRIVATE-VLANS", "SECURITY", "SHAPING"],
        ),
        Some(Kind::PortGroup) => (
            &["SWITCH", "NAME", "VLAN", "BLOCKED", "REVISION"],
            &["BINDING", "SECURITY", "SHAPING", "OVERRIDABLE"],
        ),
        Some(Kind::Port) => (
            &["NAME", "SWITCH", "GROUP", "HOST", "VNIC", "REVISION"],
            &["EPOCH", "MAC", "OVERRIDES"],
        ),
        Some(Kind::MirrorSession) => (
            &["SWITCH", "NAME", "SOURCE", "DESTINATION", "REVISION"],
            &[],
        ),
    };
    let more = if wide { more } else { &[] };
    usual.iter().chain(more).copied().collect()
}

fn row(item: &Item) -> Vec<String> {
    let revision = item.revision.to_string();
    match &item.document {
        Document::Switch(doc) => switch_row(doc, revision),
        Document::PortGroup(doc) => group_row(doc, revision),
        Document::Port(doc) => port_row(doc, item, revision),
        Document::MirrorSession(doc) => mirror_row(doc, revision),
    }
}

fn switch_row(doc: &SwitchDoc, revision: String) -> Vec<String> {
    let SwitchDoc {
        name,
        hosts,
        mtu,
        uplinks,
        teaming,
        private_vlans,
        runtime: _,
        policy,
    } = doc;
    let hosts = match hosts {
        Hosts::All => "all".to_owned(),
        Hosts::Only(some) => some.len().to_string(),
    };
    let private = private_vlans.entries().iter().map(|entry| entry.primary);
    vec![
        name.to_string(),
        hosts,
        mtu.get().to_string(),
        joined(uplinks.iter()),
        vlan(policy),
        revision,
        word(teaming),
        joined(private),
        security(policy),
        shaping(policy),
    ]
}

fn group_row(doc: &PortGroupDoc, revision: String) -> Vec<String> {
    let PortGroupDoc {
        name,
        switch,
        policy,
        overridable: fields,
        binding,
    } = doc;
    vec![
        switch.to_string(),
        name.to_string(),
        vlan(policy),
        or_dash(blocked(policy)),
        revision,
        word(binding),
        security(policy),
        shaping(policy),
        overridable(fields),
    ]
}

fn blocked(policy: &Policy) -> Option<&'static str> {
    policy
        .blocked
        .map(|blocked| if blocked { "yes" } else { "no" })
}

fn port_row(doc: &PortDoc, item: &Item, revision: String) -> Vec<String> {
    let PortDoc {
        name,
        switch,
        group,
        host,
        vnic,
        mac,
        policy,
    } = doc;
    vec![
        name.to_string(),
        switch.to_string(),
        group.to_string(),
        or_dash(host.as_ref()),
        or_dash(vnic.as_ref()),
        revision,
        or_dash(item.epoch),
        or_dash(*mac),
        overrides(policy),
    ]
}

fn mirror_row(doc: &MirrorSessionDoc, revision: String) -> Vec<String> {
    let MirrorSessionDoc {
        name,
        switch,
        source,
        destination,
    } = doc;
    let ports = source
        .ports
        .iter()
        .map(|port| format!("port {} {}", port.port, word(&port.direction)));
    let vlans = source.vlans.iter().map(|vlan| format!("vlan {vlan}"));
    let destination = match destination {
        MirrorDestination::Port(port) => format!("port {port}"),
        MirrorDestination::Vlan(vlan) => format!("vlan {vlan}"),
    };
    vec![
        switch.to_string(),
        name.to_string(),
        joined(ports.chain(vlans)),
        destination,
        revision,
    ]
}

/// A list in a cell.
fn joined<T: ToString>(items: impl Iterator<Item = T>) -> String {
    let items: Vec<_> = items.map(|item| item.to_string()).collect();
    or_dash(Some(items.join(",")).filter(|text| !text.is_empty()))
}

/// An enum's variant as it is written in documents.
fn word<T: serde::Serialize>(value: &T) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => word,
        Ok(other) => other.to_string(),
        Err(_) => "?".to_owned(),
    }
}
