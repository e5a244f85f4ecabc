//! The management listener: whether the server lives, whether it is ready, and its figures, for whoever watches it.
//!
//! It lets everybody in who reaches it, so it is on loopback unless the operator wants otherwise, and says nothing of anybody. What
//! it answers costs little, however often it is asked: few connections at a time, one store look-up at most, and a probe of life
//! looks at nothing at all. It stays until everything else has ended, so that a server which drains can say so.
//!
//! It refuses to know what the figures mean; `metrics.rs` has them.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use gatepost_store::Sqlite;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Method, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::{AbortHandle, JoinSet};

use crate::metrics::{CONTENT, Metrics};
use crate::world::World;

/// How many connections are served at a time. One more waits in the system's queue.
const MOST_CONNECTIONS: usize = 32;
/// How long a connection may live, whatever it does: a probe and a scrape take less.
const LIFE: Duration = Duration::from_secs(60);
/// How long a peer has for the header of a request.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the store may take until the server is not ready.
const STORE_ANSWERS: Duration = Duration::from_secs(2);
/// How often sessions are counted: every one of them is looked at.
const COUNT_EVERY: Duration = Duration::from_secs(60);
/// How long to wait after the system could not accept a connection.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// What is watched.
pub(crate) struct Watched {
    pub(crate) world: Arc<World>,
    pub(crate) store: Sqlite,
    /// What accepts connections, by the name of the listener.
    pub(crate) accepting: Vec<(String, AbortHandle)>,
    pub(crate) metrics: Metrics,
}

/// Serves until it is dropped.
pub(crate) async fn serve(listener: TcpListener, watched: Watched) {
    let watched = Arc::new(watched);
    tokio::join!(accept(listener, &watched), count_sessions(&watched));
}

/// Whoever reads the port from afar reads what is known of the load, and nothing of anybody.
pub(crate) fn warn_of(address: SocketAddr) {
    if !address.ip().is_loopback() {
        tracing::warn!(%address, "the management listener is open to others at {address}, and lets everybody in");
    }
}

async fn accept(listener: TcpListener, watched: &Arc<Watched>) {
    let places = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    // Dropped with this loop, so that none of them holds the store when it is to be closed.
    let mut connections = JoinSet::new();
    loop {
        // It is never closed.
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "a connection for management could not be accepted: {error}");
                tokio::time::sleep(ACCEPT_AGAIN).await;
                continue;
            }
        };
        while connections.try_join_next().is_some() {}
        let watched = Arc::clone(watched);
        connections.spawn(async move {
            let service = service_fn(|request| {
                let watched = Arc::clone(&watched);
                async move { Ok::<_, Infallible>(respond(&watched, &request).await) }
            });
            let mut http = hyper::server::conn::http1::Builder::new();
            http.timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT).max_buf_size(16 * 1024).half_close(false);
            // Whoever is cut off comes again.
            tokio::time::timeout(LIFE, http.serve_connection(TokioIo::new(stream), service)).await.ok();
            drop(place);
        });
    }
}

async fn count_sessions(watched: &Watched) {
    loop {
        match watched.store.sessions_by_gate().await {
            Ok(sessions) => watched.metrics.keep_sessions(sessions),
            Err(error) => tracing::warn!(error = %error.0, "sessions could not be counted: {error}"),
        }
        tokio::time::sleep(COUNT_EVERY).await;
    }
}

async fn respond(watched: &Watched, request: &hyper::Request<Incoming>) -> hyper::Response<Full<Bytes>> {
    let (status, content, body) = match (request.uri().path(), request.method()) {
        ("/health/live" | "/health/ready" | "/metrics", method) if method != Method::GET && method != Method::HEAD => {
            (StatusCode::METHOD_NOT_ALLOWED, "text/plain", String::new())
        }
        ("/health/live", _) => (StatusCode::OK, "text/plain", "live\n".to_owned()),
        ("/health/ready", _) => match not_ready(watched).await {
            faults if faults.is_empty() => (StatusCode::OK, "text/plain", "ready\n".to_owned()),
            faults => (StatusCode::SERVICE_UNAVAILABLE, "text/plain", faults.concat()),
        },
        ("/metrics", _) => {
            let ready = not_ready(watched).await.is_empty();
            (StatusCode::OK, CONTENT, watched.metrics.render(&watched.world, watched.store.figures(), ready))
        }
        _ => (StatusCode::NOT_FOUND, "text/plain", "There is nothing here.\n".to_owned()),
    };
    let mut response = hyper::Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if status == StatusCode::METHOD_NOT_ALLOWED {
        headers.insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
    }
    response
}

/// Why no peer should be sent here; a line for each cause.
async fn not_ready(watched: &Watched) -> Vec<String> {
    let mut faults = Vec::new();
    if watched.world.is_draining() {
        faults.push("the server drains\n".to_owned());
    } else {
        let gone = watched.accepting.iter().filter(|(_, accepting)| accepting.is_finished());
        faults.extend(gone.map(|(name, _)| format!("the listener {name} accepts nothing\n")));
    }
    match tokio::time::timeout(STORE_ANSWERS, watched.store.answers()).await {
        Ok(Ok(())) => {}
        // The cause may name files, and whoever asks may be anybody.
        Ok(Err(error)) => {
            tracing::error!(error = %error.0, "the store cannot be read: {error}");
            faults.push("the store cannot be read\n".to_owned());
        }
        Err(_) => faults.push("the store does not answer\n".to_owned()),
    }
    faults
}
