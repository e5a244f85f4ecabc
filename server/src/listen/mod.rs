//! Sockets that are listened on, and the HTTP spoken on them.
//!
//! Decides which gate a path belongs to, and what the other end's address is. It refuses to know what a gate says: it hands
//! over a parsed, bounded request and writes the response that it gets.

pub mod peer;
pub mod strangers;
pub mod tls;

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use gatepost_identity::command::Peer;
use gatepost_identity::terminal::TerminalName;
use gatepost_protocols::http::{Body, Request, Response, Upgrade};
use gatepost_protocols::listener::Place;
use gatepost_protocols::mount::Mount;
use http::header::{CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, UPGRADE};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use http_body_util::{BodyExt, Either, Full, LengthLimitError, Limited};
use hyper::body::{Body as _, Incoming};
use hyper::ext::ReasonPhrase;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustix::io::Errno;
use rustix::net::RecvFlags;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use crate::behind::Behind;
use crate::drive::{Arrived, Open, Socket, Turn, exchange};
use crate::forward::{Download, forward};
use crate::listen::peer::{Odd, Proxies};
use crate::listen::strangers::{NoRoom, Stranger, Strangers};
use crate::listen::tls::Certificates;
use crate::shared::Desk;
use crate::world::World;

/// How long a peer has for the header of a request.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a peer has for the body of a request.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);
/// The longest header, in bytes: request line and fields.
const LONGEST_HEADER: usize = 16 * 1024;
/// How many bytes TLS holds for a peer that does not read. They count as sent, so they are few.
const MOST_UNSENT: usize = 16 * 1024;
/// How long, and for how much, whoever is turned away unheard is still listened to, so that what they are told is not lost in a
/// reset.
const TURNING_AWAY: Duration = Duration::from_secs(1);
const MOST_UNHEARD: u64 = 64 * 1024;
/// A TLS record with nothing but an alert, `internal_error`, and that it is fatal (RFC 8446 section 6.2).
const TLS_ALERT: &[u8; 7] = &[21, 3, 3, 0, 2, 2, 80];
/// How long to wait after the system could not accept a connection, so that a lack of descriptors does not spin.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// What is served.
pub struct Site {
    /// What every connection needs.
    pub world: Arc<World>,
    /// Each gate's mounts, with its name.
    pub mounts: Vec<(&'static str, Mount)>,
    /// The terminal that whoever comes here means.
    pub terminal: Option<TerminalName>,
    /// The service that all connections of this listener share, where there is one.
    pub shared: Option<Arc<Desk>>,
    /// Who is believed about where a peer comes from.
    pub proxies: Proxies,
    /// What operators are told it is.
    pub name: String,
    /// Who waits here to be let in, where that is counted.
    pub strangers: Option<Arc<Strangers>>,
}

/// The place of a connection, until it is a socket's.
type Seat = Option<Arc<Mutex<Option<Stranger>>>>;

/// Accepts connections and serves each in a task of its own, until it is dropped. With certificates, over TLS.
pub async fn accept(listener: TcpListener, site: Arc<Site>, certificates: Option<Arc<Certificates>>) {
    loop {
        match listener.accept().await {
            Ok((stream, address)) => {
                tokio::spawn(attend(stream, address.ip(), Arc::clone(&site), certificates.clone()));
            }
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted: {error}");
                tokio::time::sleep(ACCEPT_AGAIN).await;
            }
        }
    }
}

/// One connection, until it ends or becomes a socket, which has a task of its own.
async fn attend(stream: TcpStream, address: IpAddr, site: Arc<Site>, certificates: Option<Arc<Certificates>>) {
    if let Err(error) = welcome(stream, address, site, certificates).await {
        tracing::debug!(%error, "a connection ended: {error}");
    }
}

/// Learns who the peer is, speaks TLS where that is spoken, and serves it.
async fn welcome(
    mut stream: TcpStream,
    address: IpAddr,
    site: Arc<Site>,
    certificates: Option<Arc<Certificates>>,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    // Answers are small and waited for: they are not held back to be sent together. Without that they are only slower.
    stream.set_nodelay(true).ok();
    let mut peer = Peer { address, secure: false };
    if site.proxies.introduces(address) {
        peer = tokio::time::timeout(HEADER_TIMEOUT, peer::introduced(&mut stream, peer)).await??;
    }
    let seat = match site.seat_for(peer) {
        Ok(seat) => seat,
        Err(no_room) => return Ok(Box::pin(turn_away(stream, no_room, certificates.is_some())).await?),
    };
    let Some(certificates) = certificates else {
        return Ok(Box::pin(http_on(stream, peer, site, seat)).await?);
    };
    let acceptor = TlsAcceptor::from(certificates.current());
    let accepting = acceptor.accept_with(stream, |tls| tls.set_buffer_limit(Some(MOST_UNSENT)));
    // Boxed, so that the handshake's room is given back before the connection goes on.
    let stream = Box::pin(tokio::time::timeout(HEADER_TIMEOUT, accepting)).await??;
    Ok(Box::pin(http_on(stream, Peer { secure: true, ..peer }, site, seat)).await?)
}

impl Site {
    /// A place for a connection, where such are counted. Whom a proxy speaks for is known from its requests only.
    fn seat_for(&self, peer: Peer) -> Result<Seat, NoRoom> {
        let Some(strangers) = &self.strangers else { return Ok(None) };
        let source = (!self.proxies.speaks_for(peer.address)).then_some(peer.address);
        let admitted = strangers.admit(source).inspect_err(|no_room| self.turned_away(peer, *no_room));
        admitted.map(|stranger| Some(Arc::new(Mutex::new(Some(stranger)))))
    }

    fn turned_away(&self, peer: Peer, no_room: NoRoom) {
        self.world.turned_away.fetch_add(1, Ordering::Relaxed);
        if let Some(strangers) = &self.strangers {
            strangers.turned_away(&self.name, peer.address, no_room, self.world.clock.instant());
        }
    }
}

/// Tells a connection that there is no room for it, whatever it wants, and ends it.
async fn turn_away(mut stream: TcpStream, no_room: NoRoom, encrypted: bool) -> io::Result<()> {
    if encrypted {
        stream.write_all(TLS_ALERT).await?;
    } else {
        let Response { status, body, .. } = no_room.response();
        let body = match &body {
            Body::Bytes(bytes) => &bytes[..],
            Body::Upgrade(_) | Body::Forward(_) => b"",
        };
        let head = format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", body.len());
        stream.write_all(&[head.as_bytes(), body].concat()).await?;
    }
    stream.shutdown().await?;
    let unheard = async { tokio::io::copy(&mut stream.take(MOST_UNHEARD), &mut tokio::io::sink()).await };
    // Whoever goes on talking past that hears a reset.
    tokio::time::timeout(TURNING_AWAY, unheard).await.ok();
    Ok(())
}

/// HTTP on one connection.
fn http_on<S: Wire>(stream: S, peer: Peer, site: Arc<Site>, seat: Seat) -> impl Future<Output = hyper::Result<()>> + Send {
    let service = service_fn(move |request| {
        let (site, seat) = (Arc::clone(&site), seat.clone());
        async move { Ok::<_, Infallible>(respond::<S>(&site, peer, &seat, request).await) }
    });
    let mut http = hyper::server::conn::http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_header_size(LONGEST_HEADER)
        .max_buf_size(LONGEST_HEADER)
        .half_close(false);
    http.serve_connection(TokioIo::new(stream), service).with_upgrades()
}

/// What goes back: the gate's own answer, or a service's as it comes.
type Answered = Either<Full<Bytes>, Pin<Box<Download>>>;

async fn respond<S: Wire>(
    site: &Arc<Site>,
    peer: Peer,
    seat: &Seat,
    mut request: hyper::Request<Incoming>,
) -> hyper::Response<Answered> {
    let peer = match site.proxies.behind(peer, request.headers()) {
        Ok(peer) => peer,
        Err(Odd(what)) => {
            tracing::warn!(proxy = %peer.address, "a trusted proxy speaks oddly: {what}");
            return plain(Response::text(StatusCode::BAD_REQUEST, "The proxy in front speaks oddly.\n"));
        }
    };
    let path = request.uri().path();
    let Some((gate, mount)) = Mount::find(&site.mounts, path, |(_, mount)| mount) else {
        return plain(Response::text(StatusCode::NOT_FOUND, "There is nothing here.\n"));
    };
    let most = if mount.exchange.leaves_body(path) { 0 } else { mount.max_body };
    let body = match whole(&mut request, most).await {
        Ok(body) => body,
        Err(status) => return last(plain(Response::empty(status))),
    };
    let path = request.uri().path();
    let parsed = Request {
        method: request.method().clone(),
        path: path.to_owned(),
        query: request.uri().query().map(str::to_owned),
        headers: request.headers().clone(),
        upgrade: is_upgrade(&request),
        secure: peer.secure,
        body,
    };
    let arrived = Arrived { gate, terminal: site.terminal.as_ref(), peer };
    let turn = exchange(&site.world, arrived, Arc::clone(&mount.exchange), parsed).await;
    let Some(Turn { response, attachment, connection }) = turn else {
        return plain(Response::empty(StatusCode::SERVICE_UNAVAILABLE));
    };
    let (body, accept) = match (response.body, is_upgrade(&request)) {
        (Body::Upgrade(upgrade), true) => (upgrade, accept_key(&request)),
        (Body::Upgrade(_), false) => {
            let response = Response::empty(StatusCode::UPGRADE_REQUIRED);
            return plain(response.with(UPGRADE, HeaderValue::from_static("websocket")));
        }
        (Body::Forward(onward), _) => {
            let body = request.into_body();
            // Boxed, since most requests go no further.
            return match Box::pin(forward(&site.world, gate, peer, *onward, response.headers, body)).await {
                Ok(answer) => answer.map(Either::Right),
                Err(response) => plain(response),
            };
        }
        (body @ Body::Bytes(_), _) => return plain(Response { body, ..response }),
    };
    let Upgrade { subprotocol, max_message, conversation, upstream } = body;
    let mut stranger = seat.as_ref().and_then(|seat| seat.lock().unwrap_or_else(PoisonError::into_inner).take());
    if let Some(Err(no_room)) = stranger.as_mut().map(|stranger| stranger.is_of(peer.address)) {
        site.turned_away(peer, no_room);
        return last(plain(no_room.response()));
    }
    let mut answer = hyper::Response::new(Either::Left(Full::new(Bytes::new())));
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
    let (world, terminal) = (Arc::clone(&site.world), site.terminal.clone());
    let behind = match (upstream, &site.shared) {
        (Some(service), _) => Behind::Own(service, None),
        (None, Some(shared)) => Behind::Shared(Box::new(shared.join(connection))),
        (None, None) => Behind::Nothing,
    };
    let talk = conversation;
    let stranger = stranger.map(Box::new);
    let socket = Socket { world, gate, terminal, peer, connection, attachment, stranger, max_message, talk, behind, counted };
    let upgraded = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        // Where the peer hung up during the upgrade there is nothing to talk on; dropping the socket detaches it.
        if let Some((stream, read)) = become_socket::<S>(upgraded).await {
            tokio::spawn(socket.talk(stream, read).await);
        }
    });
    answer
}

/// The body of a request, if it comes whole and in time. A mount that takes none leaves it unread.
async fn whole(request: &mut hyper::Request<Incoming>, most: usize) -> Result<Bytes, StatusCode> {
    if most == 0 || request.body().is_end_stream() {
        return Ok(Bytes::new());
    }
    if request.body().size_hint().lower() > most as u64 {
        return Err(StatusCode::PAYLOAD_TOO_LARGE);
    }
    let body = Box::pin(Limited::new(request.body_mut(), most).collect());
    match tokio::time::timeout(BODY_TIMEOUT, body).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(StatusCode::PAYLOAD_TOO_LARGE),
        Ok(Err(_)) => Err(StatusCode::BAD_REQUEST),
        Err(_) => Err(StatusCode::REQUEST_TIMEOUT),
    }
}

/// The last answer of a connection: what is left of the request is not read.
fn last(mut answer: hyper::Response<Answered>) -> hyper::Response<Answered> {
    answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    answer
}

/// The bare connection behind an upgraded request, and what came in behind the request.
async fn become_socket<S: Wire>(upgraded: hyper::upgrade::OnUpgrade) -> Option<(S, Bytes)> {
    let upgraded = upgraded.await.inspect_err(|error| tracing::debug!(%error, "an upgrade was not completed: {error}")).ok()?;
    let parts = upgraded.downcast::<TokioIo<S>>().ok()?;
    Some((parts.io.into_inner(), parts.read_buf))
}

fn plain(response: Response) -> hyper::Response<Answered> {
    let body = match response.body {
        Body::Bytes(bytes) => bytes,
        Body::Upgrade(_) | Body::Forward(_) => Bytes::new(),
    };
    let mut answer = hyper::Response::new(Either::Left(Full::new(body)));
    *answer.status_mut() = response.status;
    *answer.headers_mut() = response.headers;
    if let Some(reason) = response.reason {
        answer.extensions_mut().insert(ReasonPhrase::from_static(reason.as_bytes()));
    }
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

/// Bytes both ways: a TCP connection, or TLS on one.
pub trait Wire: AsyncRead + AsyncWrite + Unpin + Send + 'static {
    /// The connection that the bytes go over.
    fn socket(&self) -> &TcpStream;

    /// Whether the other end has gone, as far as that can be seen without taking what it sent: a peer that has hung up after it
    /// asked need not be granted anything.
    fn has_hung_up(&self) -> bool {
        let mut byte = [0; 1];
        let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
        match rustix::net::recv(self.socket(), &mut byte, flags) {
            Ok((read, _)) => read == 0,
            Err(error) => error != Errno::AGAIN && error != Errno::INTR,
        }
    }
}

impl Wire for TcpStream {
    fn socket(&self) -> &TcpStream {
        self
    }
}

impl Wire for TlsStream<TcpStream> {
    fn socket(&self) -> &TcpStream {
        self.get_ref().0
    }
}

/// Binds a listener at this very address.
///
/// # Errors
/// What the system says.
pub async fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    TcpListener::bind(address).await
}

/// Binds a listener. Where the port is taken, as many ports upwards are tried as the place allows.
///
/// # Errors
/// What the system says; of the first port.
pub async fn bind_at(place: Place) -> io::Result<TcpListener> {
    let Place { mut address, steps } = place;
    let failed = match TcpListener::bind(address).await {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => error,
        bound => return bound,
    };
    for _ in 0..steps {
        address.set_port(address.port().saturating_add(1));
        match TcpListener::bind(address).await {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
            bound => return bound,
        }
    }
    Err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The size of what a function returns, without calling it.
    fn size_of_returned<A, B, C, D, Returned>(_: impl FnOnce(A, B, C, D) -> Returned) -> usize {
        size_of::<Returned>()
    }

    #[test]
    fn a_connection_that_says_nothing_costs_little() {
        let most = |what: &str, size: usize, most: usize| assert!(size <= most, "{what}: {size} bytes, and not {most}");
        most("the task of a connection", size_of_returned(attend), 768);
        most("HTTP, in a box of its own", size_of_returned(http_on::<TcpStream>), 704);
        most("HTTP over TLS, in a box of its own", size_of_returned(http_on::<TlsStream<TcpStream>>), 1920);
    }
}
