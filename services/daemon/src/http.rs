// SPDX-License-Identifier: Apache-2.0
//! The listener that orchestrators and metric collectors ask: /healthz (the
//! process lives), /readyz (it can do its work, with a line per condition),
//! /metrics.

use std::net::SocketAddr;

use anyhow::Context;
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::net::TcpListener;

use crate::health::Health;
use crate::metrics::Metrics;

const PLAIN: &str = "text/plain; charset=utf-8";
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

#[derive(Clone)]
struct Shown {
    health: Health,
    metrics: Metrics,
}

/// Binds the address and serves in the background until the process ends,
/// through its stop as well: who asks then hears that it is stopping. Returns
/// the address, with its port if that was left open.
pub(crate) async fn serve(
    listen: SocketAddr,
    health: Health,
    metrics: Metrics,
) -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind(listen).await.with_context(|| {
        format!("{listen} can't be listened on; is the service running already? --listen gives it another address")
    })?;
    let address = listener
        .local_addr()
        .context("the listener has no address")?;
    let router = Router::new()
        .route(
            "/healthz",
            get(async || ([(header::CONTENT_TYPE, PLAIN)], "ok\n")),
        )
        .route("/readyz", get(readyz))
        .route("/metrics", get(families))
        .with_state(Shown { health, metrics });
    tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, router).await {
            tracing::error!(%error, "health and metrics are no longer served");
        }
    });
    Ok(address)
}

async fn readyz(State(shown): State<Shown>) -> impl IntoResponse {
    let readiness = shown.health.readiness();
    let status = if readiness.ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (status, [(header::CONTENT_TYPE, PLAIN)], readiness.text)
}

async fn families(State(shown): State<Shown>) -> impl IntoResponse {
    match shown.metrics.encode() {
        Ok(text) => (StatusCode::OK, [(header::CONTENT_TYPE, OPEN_METRICS)], text),
        Err(error) => (
            StatusCode::INTERNAL_SERVER_ERROR,
            [(header::CONTENT_TYPE, PLAIN)],
            format!("metrics: {error}\n"),
        ),
    }
}
