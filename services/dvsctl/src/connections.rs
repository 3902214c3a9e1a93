// SPDX-License-Identifier: Apache-2.0
//! Connections between vNICs and ports, and the hosts that ports are placed on.

use dvs_schemas::subjects;
use dvs_schemas::v1::{ConnectRequest, DisconnectReply, DisconnectRequest, MoveRequest, Wait};

use crate::args::{ChangeArgs, DisconnectArgs, MoveArgs, PlacingArgs, VnicArgs};
use crate::change;
use crate::failure::{Failure, Verdict};
use crate::output::say;
use crate::session::Connector;

/// Runs `connect`.
///
/// # Errors
/// The publisher can't be asked, or refuses.
pub async fn connect(connector: Connector<'_>, args: VnicArgs) -> Result<Verdict, Failure> {
    let VnicArgs {
        port,
        vnic,
        host,
        mac,
        switch,
        group,
        placing,
    } = args;
    let request = ConnectRequest {
        port,
        vnic,
        host,
        mac,
        switch,
        group,
        wait: placing.wait.map(|_| Wait::Applied),
        timeout: placing.wait,
    };
    let session = connector.open().await?;
    change::send(&session, subjects::PORT_CONNECT, &request, &of(placing), 1).await
}

/// Runs `move`.
///
/// # Errors
/// The publisher can't be asked, or refuses.
pub async fn relocate(connector: Connector<'_>, args: MoveArgs) -> Result<Verdict, Failure> {
    let MoveArgs {
        port,
        host,
        from,
        force,
        placing,
    } = args;
    let request = MoveRequest {
        port,
        host,
        from,
        force,
        wait: placing.wait.map(|_| Wait::Applied),
        timeout: placing.wait,
    };
    let session = connector.open().await?;
    change::send(&session, subjects::PORT_MOVE, &request, &of(placing), 1).await
}

fn of(PlacingArgs { wait, output }: PlacingArgs) -> ChangeArgs {
    ChangeArgs {
        wait,
        dry_run: false,
        if_revision: None,
        output,
    }
}

/// Runs `disconnect`.
///
/// # Errors
/// The publisher can't be asked, or refuses.
pub async fn disconnect(
    connector: Connector<'_>,
    args: DisconnectArgs,
) -> Result<Verdict, Failure> {
    let session = connector.open().await?;
    let DisconnectArgs { port, vnic } = args;
    let request = DisconnectRequest {
        port: port.clone(),
        vnic,
    };
    let reply: DisconnectReply = session.ask(subjects::PORT_DISCONNECT, &request).await?;
    match reply.vnic {
        Some(vnic) => say(&format!(
            "{vnic} is no longer connected to port {port} (revision {})",
            reply.revision
        )),
        None => say(&format!("nothing was connected to port {port}")),
    }
    Ok(Verdict::Yes)
}
