// SPDX-License-Identifier: Apache-2.0
//! The listener that orchestrators and metric collectors ask: /healthz (the
//! process lives), /readyz (it can do its work, with a line per condition),
//! /metrics.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use crate::health::Health;
use crate::metrics::Metrics;

const PLAIN: &str = "text/plain; charset=utf-8";
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Connections at once. An orchestrator and a few collectors hold one each;
/// past this, callers wait until one of them ends.
const CONNECTIONS: usize = 64;

/// How long a caller may take to say what it wants, from its connection or its
/// last answer on. Who wants more after a longer pause connects again.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long nobody is let in where the system has no more descriptors.
const EXHAUSTED: Duration = Duration::from_secs(1);

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
    tokio::spawn(accept(listener, router));
    Ok(address)
}

async fn accept(listener: TcpListener, router: Router) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    // Nobody closes the semaphore.
    while let Ok(place) = places.clone().acquire_owned().await {
        match listener.accept().await {
            Ok((stream, _)) => {
                let router = router.clone();
                tokio::spawn(async move {
                    answer(stream, router).await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::debug!(%error, "a caller of health and metrics was not let in");
                tokio::time::sleep(EXHAUSTED).await;
            }
        }
    }
}

async fn answer(stream: TcpStream, router: Router) {
    let answered = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(PATIENCE)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router))
        .await;
    if let Err(error) = answered {
        tracing::debug!(%error, "a caller of health and metrics went away");
    }
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
