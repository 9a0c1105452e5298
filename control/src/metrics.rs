//! Prometheus metrics over HTTP (`--metrics IP:PORT`): the answers to `stats`, `status` and `members`, asked of
//! the daemon's loop as the operator's commands ask it, under the names of [`names::METRICS`].

pub mod encode;
pub mod names;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::CONTENT_TYPE;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request as HttpRequest, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::timeout;

use crate::operator::{OperatorRequest, Reply, Request};

/// Scrapers served at once; more wait in the listener's backlog.
const CLIENTS: usize = 8;

/// A connection that takes longer is closed: a scraper asks once or keeps its connection and asks again.
const CONNECTION: Duration = Duration::from_secs(300);

/// How long a request's head may take to arrive.
const HEAD: Duration = Duration::from_secs(10);

/// Media type of what is answered (OpenMetrics 1.0.0, section 4.1).
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Opens the port. Errors: a sentence with the remedy.
pub async fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| {
        format!(
            "--metrics {address} cannot be opened: choose an address of this machine and a port nothing listens on (`ss -ltn`), or leave --metrics out"
        )
    })
}

/// Serves scrapers until the daemon's loop is gone.
pub async fn serve(listener: TcpListener, requests: mpsc::Sender<OperatorRequest>) {
    let places = Arc::new(Semaphore::new(CLIENTS));
    while let Ok(place) = places.clone().acquire_owned().await {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = requests.closed() => return,
        };
        match accepted {
            Ok((stream, _)) => {
                let requests = requests.clone();
                tokio::task::spawn_local(async move {
                    converse(stream, requests).await;
                    drop(place);
                });
            }
            // Out of descriptors: wait for one of the clients to end instead of spinning.
            Err(error) => {
                tracing::warn!(%error, "the port of --metrics cannot accept");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn converse(stream: TcpStream, requests: mpsc::Sender<OperatorRequest>) {
    let service = service_fn(move |request| {
        let requests = requests.clone();
        async move { Ok::<_, Infallible>(respond(&request, &requests).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .serve_connection(TokioIo::new(stream), service);
    if let Ok(Err(error)) = timeout(CONNECTION, connection).await {
        tracing::debug!(%error, "a scraper's connection ended");
    }
}

async fn respond(
    request: &HttpRequest<Incoming>,
    requests: &mpsc::Sender<OperatorRequest>,
) -> Response<Full<Bytes>> {
    if request.uri().path() != "/metrics" {
        return plain(StatusCode::NOT_FOUND, "metrics are at /metrics\n");
    }
    if request.method() != Method::GET {
        return plain(StatusCode::METHOD_NOT_ALLOWED, "metrics are read with GET\n");
    }
    match page(requests).await {
        Some(text) => answer(StatusCode::OK, OPEN_METRICS, text),
        None => plain(StatusCode::SERVICE_UNAVAILABLE, "the daemon is stopping\n"),
    }
}

/// What the daemon says now, encoded; `None` while it stops.
async fn page(requests: &mpsc::Sender<OperatorRequest>) -> Option<String> {
    let mut document = serde_json::to_value(ask(requests, Request::Stats).await?).ok()?;
    document["status"] = serde_json::to_value(ask(requests, Request::Status).await?).ok()?;
    document["members"] = serde_json::to_value(ask(requests, Request::Members).await?).ok()?;
    encode::text(document).ok()
}

async fn ask(requests: &mpsc::Sender<OperatorRequest>, request: Request) -> Option<Reply> {
    let (reply, answer) = oneshot::channel();
    requests.send(OperatorRequest { request, reply }).await.ok()?;
    answer.await.ok()
}

fn plain(status: StatusCode, sentence: &str) -> Response<Full<Bytes>> {
    answer(status, "text/plain; charset=utf-8", sentence.to_owned())
}

fn answer(status: StatusCode, media: &'static str, text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static(media));
    response
}

/// The values a metric has in a document: its labels' value, and the number. Truth is 1.
pub fn values<'a>(document: &'a Value, metric: &names::Metric) -> Vec<(Option<String>, &'a Value)> {
    metric.label.values(metric.path, document)
}
