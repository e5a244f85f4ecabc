//! Sockets that are listened on, and the HTTP spoken on them.
//!
//! Decides which gate a path belongs to, and what the other end's address is. It refuses to know what a gate says: it hands
//! over a parsed, bounded request and writes the response that it gets.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use gatepost_identity::command::Peer;
use gatepost_protocols::http::{Body, Request, Response, Upgrade};
use gatepost_protocols::mount::Mount;
use http::header::{CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, UPGRADE};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use crate::drive::{Open, Socket, Turn, World, exchange};

/// How long a peer has for the header of a request.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// The longest header, in bytes: request line and fields.
const LONGEST_HEADER: usize = 16 * 1024;
/// How long to wait after the system could not accept a connection, so that a lack of descriptors does not spin.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// What is served on one listener.
pub struct Site {
    /// What every connection needs.
    pub world: Arc<World>,
    /// Each gate's mounts, with its name.
    pub mounts: Vec<(&'static str, Mount)>,
}

/// Accepts connections and serves each in a task of its own, until it is dropped.
pub async fn accept(listener: TcpListener, site: Arc<Site>) {
    loop {
        match listener.accept().await {
            Ok((stream, address)) => {
                let site = Arc::clone(&site);
                tokio::spawn(async move { serve(stream, address, site).await });
            }
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted: {error}");
                tokio::time::sleep(ACCEPT_AGAIN).await;
            }
        }
    }
}

async fn serve(stream: TcpStream, address: SocketAddr, site: Arc<Site>) {
    // Answers are small and waited for: they are not held back to be sent together. Without that they are only slower.
    stream.set_nodelay(true).ok();
    let peer = Peer { address: address.ip(), secure: false };
    let service = service_fn(move |request| {
        let site = Arc::clone(&site);
        async move { Ok::<_, Infallible>(respond(&site, peer, request).await) }
    });
    let mut http = hyper::server::conn::http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_header_size(LONGEST_HEADER)
        .max_buf_size(LONGEST_HEADER.max(8192))
        .half_close(false);
    // Boxed, so that a connection that has become a socket does not keep the room of the HTTP it once spoke.
    let connection = Box::pin(http.serve_connection(TokioIo::new(stream), service).with_upgrades());
    if let Err(error) = connection.await {
        tracing::debug!(%error, "a connection ended: {error}");
    }
}

async fn respond(site: &Arc<Site>, peer: Peer, mut request: hyper::Request<Incoming>) -> hyper::Response<Full<Bytes>> {
    let path = request.uri().path();
    let Some((gate, mount)) = site.mounts.iter().find(|(_, mount)| mount.path == path) else {
        return plain(Response::text(StatusCode::NOT_FOUND, "There is nothing here.\n"));
    };
    let parsed = Request {
        method: request.method().clone(),
        path: path.to_owned(),
        query: request.uri().query().map(str::to_owned),
        headers: request.headers().clone(),
        upgrade: is_upgrade(&request),
    };
    let turn = exchange(&site.world, gate, Arc::clone(&mount.exchange), peer, parsed).await;
    let Some(Turn { response, attachment, connection }) = turn else {
        return plain(Response::empty(StatusCode::SERVICE_UNAVAILABLE));
    };
    let (body, accept) = match (response.body, is_upgrade(&request)) {
        (Body::Upgrade(upgrade), true) => (upgrade, accept_key(&request)),
        (Body::Upgrade(_), false) => {
            let response = Response::empty(StatusCode::UPGRADE_REQUIRED);
            return plain(response.with(UPGRADE, HeaderValue::from_static("websocket")));
        }
        (body, _) => return plain(Response { body, ..response }),
    };
    let Upgrade { subprotocol, max_message, conversation } = body;
    let mut answer = hyper::Response::new(Full::new(Bytes::new()));
    *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    *answer.headers_mut() = response.headers;
    answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("upgrade"));
    answer.headers_mut().insert(UPGRADE, HeaderValue::from_static("websocket"));
    if let Ok(accept) = HeaderValue::from_str(&accept) {
        answer.headers_mut().insert(SEC_WEBSOCKET_ACCEPT, accept);
    }
    if let Some(subprotocol) = subprotocol {
        answer.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(subprotocol));
    }
    let counted = Open::count(&site.world);
    let world = Arc::clone(&site.world);
    let socket = Socket { world, gate, peer, connection, attachment, max_message, talk: conversation, counted };
    let upgraded = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        if let Some((stream, read)) = become_socket(upgraded).await {
            // Where the peer hung up during the upgrade there is nothing to talk on; dropping the socket detaches it.
            Box::pin(socket.talk(stream, read)).await;
        }
    });
    answer
}

/// The bare connection behind an upgraded request, and what came in behind the request.
async fn become_socket(upgraded: hyper::upgrade::OnUpgrade) -> Option<(TcpStream, Bytes)> {
    let upgraded = upgraded.await.inspect_err(|error| tracing::debug!(%error, "an upgrade was not completed: {error}")).ok()?;
    let parts = upgraded.downcast::<TokioIo<TcpStream>>().ok()?;
    Some((parts.io.into_inner(), parts.read_buf))
}

fn plain(response: Response) -> hyper::Response<Full<Bytes>> {
    let body = match response.body {
        Body::Bytes(bytes) => bytes,
        Body::Upgrade(_) => Bytes::new(),
    };
    let mut answer = hyper::Response::new(Full::new(body));
    *answer.status_mut() = response.status;
    *answer.headers_mut() = response.headers;
    answer
}

/// Whether a request is a well-formed opening handshake: RFC 6455 section 4.2.1.
fn is_upgrade<B>(request: &hyper::Request<B>) -> bool {
    let headers = request.headers();
    let key = headers.get(SEC_WEBSOCKET_KEY).map(HeaderValue::as_bytes).unwrap_or_default();
    request.method() == Method::GET
        && request.version() >= http::Version::HTTP_11
        && has_token(headers, CONNECTION, "upgrade")
        && has_token(headers, UPGRADE, "websocket")
        && headers.get(SEC_WEBSOCKET_VERSION).is_some_and(|version| version == "13")
        && key.len() == 24
        && key.ends_with(b"==")
}

fn accept_key<B>(request: &hyper::Request<B>) -> String {
    derive_accept_key(request.headers().get(SEC_WEBSOCKET_KEY).map(HeaderValue::as_bytes).unwrap_or_default())
}

fn has_token(headers: &HeaderMap, name: http::HeaderName, token: &str) -> bool {
    headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|value| value.trim().eq_ignore_ascii_case(token))
}

/// Binds a listener.
///
/// # Errors
/// What the system says.
pub async fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    TcpListener::bind(address).await
}
