// SPDX-License-Identifier: Apache-2.0
//! Filters that name what is not there.

use dvs_schemas::v1::GetRequest;
use dvs_schemas::{HostName, Kind, PortGroupName, SwitchName};

use crate::failure::Failure;
use crate::get::fetch;
use crate::hosts;
use crate::session::Session;

/// Whether there is what a list is narrowed to: nothing in something that is not
/// there is a slip of the hand. For lists of others than the publisher, who may
/// be away: then nobody says so.
///
/// # Errors
/// It is not there.
pub(crate) async fn not_mistyped(
    session: &Session,
    switch: Option<&SwitchName>,
    group: Option<&PortGroupName>,
    host: Option<&HostName>,
) -> Result<(), Failure> {
    match exist(session, switch, group, host).await {
        Err(mistyped @ Failure::NoSuch(_)) => Err(mistyped),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// The same, where the publisher is asked anyway.
///
/// # Errors
/// It is not there, or the publisher can't be asked.
pub(crate) async fn exist(
    session: &Session,
    switch: Option<&SwitchName>,
    group: Option<&PortGroupName>,
    host: Option<&HostName>,
) -> Result<(), Failure> {
    if let Some(host) = host {
        hosts::there(session, host).await?;
    }
    let named = [
        switch.map(|name| (Kind::Switch, name.to_string())),
        group.map(|name| (Kind::PortGroup, name.to_string())),
    ];
    for (kind, name) in named.into_iter().flatten() {
        let of = GetRequest {
            kind: Some(kind),
            name: Some(name.clone()),
            ..GetRequest::default()
        };
        if fetch(session, of).await?.is_empty() {
            let what = match kind {
                Kind::Switch => "switch",
                Kind::PortGroup | Kind::Port | Kind::MirrorSession => "port group",
            };
            return Err(Failure::NoSuch(format!("there is no {what} {name}")));
        }
    }
    Ok(())
}
