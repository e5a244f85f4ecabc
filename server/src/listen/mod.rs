//! Sockets that are listened on, and the HTTP spoken on them.
//!
//! Decides which gate a path belongs to, and what the other end's address is. It refuses to know what a gate says: it hands
//! over a parsed, bounded request and writes the response that it gets.

mod away;
pub mod bounds;
pub mod descriptors;
mod framing;
mod guarded;
pub mod peer;
pub mod room;
pub mod tls;

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context as Waking, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use gatepost_identity::command::Peer;
use gatepost_identity::current::Current;
use gatepost_identity::terminal::TerminalName;
use gatepost_protocols::http::{Body, Request, Response, Upgrade};
use gatepost_protocols::listener::Place;
use gatepost_protocols::mount::Mount;
use http::header::{
    AUTHORIZATION, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HOST, ORIGIN, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY,
    SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use http_body_util::{BodyExt, Either, Full, LengthLimitError, Limited};
use hyper::body::{Body as _, Incoming};
use hyper::ext::ReasonPhrase;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustix::io::Errno;
use rustix::net::RecvFlags;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use crate::behind::Behind;
use crate::drive::{Arrived, Open, Socket, Turn, exchange};
use crate::farewell::Waiting;
use crate::forward::{Download, forward};
use crate::listen::bounds::Bounds;
use crate::listen::descriptors::Queue;
pub use crate::listen::guarded::Seat;
use crate::listen::guarded::{Guarded, Guest};
use crate::listen::peer::{Odd, Proxies};
use crate::listen::room::{NoRoom, Place as Held, Room};
use crate::listen::tls::Certificates;
use crate::shared::Desk;
use crate::world::World;

/// The longest header, in bytes: request line and fields.
const LONGEST_HEADER: usize = 16 * 1024;
/// How many bytes TLS holds for a peer that does not read. They count as sent, so they are few.
const MOST_UNSENT: usize = 16 * 1024;
/// What is served.
pub struct Site {
    /// What every connection needs.
    pub world: Arc<World>,
    /// What answers here.
    pub offer: Current<Offer>,
    /// The terminal that whoever comes here means.
    pub terminal: Option<TerminalName>,
    /// The service that all connections of this listener share, where there is one.
    pub shared: Option<Arc<Desk>>,
    /// What operators are told it is.
    pub name: String,
    /// Who waits here to be let in, where that is counted.
    pub strangers: Option<Arc<Room>>,
    /// What this listener shares with all others against abuse.
    pub bounds: Arc<Bounds>,
}

/// What may be exchanged while others are served.
#[derive(Default)]
pub struct Offer {
    /// Each gate's mounts, with its name.
    pub mounts: Vec<(&'static str, Mount)>,
    /// Who is believed about where a peer comes from.
    pub proxies: Proxies,
}

/// Accepts connections and serves each in a task of its own, until it is dropped. With certificates, over TLS.
pub async fn accept(listener: TcpListener, site: Arc<Site>, certificates: Option<Arc<Certificates>>) {
    let mut queue = Queue::of(&site.name);
    loop {
        let (stream, address) = queue.next(|| listener.accept()).await;
        if let Some(come) = site.lets_come(stream, address.ip(), certificates.is_some()) {
            tokio::spawn(attend(come, Arc::clone(&site), certificates.clone()));
        }
    }
}

/// A connection that has found room.
struct Come {
    stream: TcpStream,
    address: IpAddr,
    seat: Box<Seat>,
}

/// One connection, until it ends or becomes a socket, which has a task of its own.
async fn attend(come: Come, site: Arc<Site>, certificates: Option<Arc<Certificates>>) {
    if let Err(error) = welcome(come, site, certificates).await {
        tracing::debug!(%error, "a connection ended: {error}");
    }
}

/// Learns who the peer is, speaks TLS where that is spoken, and serves it.
async fn welcome(
    come: Come,
    site: Arc<Site>,
    certificates: Option<Arc<Certificates>>,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let Come { mut stream, address, mut seat } = come;
    // Answers are small and waited for: they are not held back to be sent together. Without that they are only slower.
    stream.set_nodelay(true).ok();
    let mut peer = Peer { address, secure: false };
    let within = site.bounds.limits.head_within;
    if site.offer.now().proxies.introduces(address) {
        // Boxed, since most connections begin without.
        let introduced = Box::pin(tokio::time::timeout(within, peer::introduced(&mut stream, peer))).await;
        peer = introduced.inspect_err(|_| site.bounds.was_slow())??;
        if let Err((room, no_room)) = site.seats(&mut seat, peer.address) {
            site.turn_away(stream, peer.address, (&room, no_room), certificates.is_some());
            return Ok(());
        }
    }
    let Some(certificates) = certificates else {
        return Ok(Box::pin(http_on(stream, peer, site, seat)).await?);
    };
    let acceptor = TlsAcceptor::from(certificates.current());
    let accepting = acceptor.accept_with(stream, |tls| tls.set_buffer_limit(Some(MOST_UNSENT)));
    // Boxed, so that the handshake's room is given back before the connection goes on.
    let accepted = Box::pin(tokio::time::timeout(within, accepting)).await;
    let stream = accepted.inspect_err(|_| site.bounds.was_slow())??;
    Ok(Box::pin(http_on(stream, Peer { secure: true, ..peer }, site, seat)).await?)
}

impl Site {
    /// Sees whether a connection finds room, and turns it away where it does not. Whom a proxy speaks for is known later.
    fn lets_come(&self, stream: TcpStream, address: IpAddr, encrypted: bool) -> Option<Come> {
        if descriptors::is_reserved(&stream) {
            self.bounds.lacked_descriptor();
            self.bounds.room().turned_away(&self.name, address, NoRoom::Here, self.world.clock.instant());
            away::turn_away(stream, &away::no_descriptor(), encrypted, None);
            return None;
        }
        let place = match self.bounds.admit(None) {
            Ok(place) => place,
            Err(no_room) => {
                self.turn_away(stream, address, (self.bounds.room(), no_room), encrypted);
                return None;
            }
        };
        let mut seat = Box::new(Seat { place, stranger: None });
        if !self.offer.now().proxies.introduces(address)
            && let Err((room, no_room)) = self.seats(&mut seat, address)
        {
            self.turn_away(stream, address, (&room, no_room), encrypted);
            return None;
        }
        Some(Come { stream, address, seat })
    }

    /// Gives a connection its place among those of its source, and among strangers where they are counted. Connections of a proxy are
    /// nobody's: whose their requests are they say themselves.
    fn seats(&self, seat: &mut Seat, source: IpAddr) -> Result<(), (Arc<Room>, NoRoom)> {
        if !self.offer.now().proxies.trusts(source) {
            seat.place.is_of(source).map_err(|no_room| (seat.place.room(), no_room))?;
        }
        if let Some(strangers) = &self.strangers {
            let source = (!self.offer.now().proxies.speaks_for(source)).then_some(source);
            seat.stranger = Some(strangers.admit(source).map_err(|no_room| (Arc::clone(strangers), no_room))?);
        }
        Ok(())
    }

    fn turn_away(&self, stream: TcpStream, source: IpAddr, (room, no_room): (&Room, NoRoom), encrypted: bool) {
        room.turned_away(&self.name, source, no_room, self.world.clock.instant());
        away::turn_away(stream, &room.response(no_room), encrypted, self.bounds.linger());
    }

    /// A place for a request that a proxy brings, whose connection counts for nobody.
    fn of_request(&self, proxy: IpAddr, source: IpAddr) -> Result<Option<Held>, NoRoom> {
        if !self.offer.now().proxies.speaks_for(proxy) || self.offer.now().proxies.trusts(source) {
            return Ok(None);
        }
        let admitted = self.bounds.admit_request(source);
        let now = self.world.clock.instant();
        admitted.map(Some).inspect_err(|no_room| self.bounds.room().turned_away(&self.name, source, *no_room, now))
    }
}

/// HTTP on one connection.
fn http_on<S: Wire>(stream: S, peer: Peer, site: Arc<Site>, seat: Box<Seat>) -> impl Future<Output = hyper::Result<()>> + Send {
    let guest = Guest::new(seat);
    let limits = site.bounds.limits;
    let world = Arc::clone(&site.world);
    let stream = Guarded::new(stream, Arc::clone(&guest), Arc::clone(&site.bounds));
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let (site, guest) = (Arc::clone(&site), Arc::clone(&guest));
        async move {
            // What comes behind it was not followed, since it might have been another protocol's.
            let was_upgrade = request.headers().contains_key(UPGRADE);
            // A panic ends the request, and its connection once that is answered; others are served as before.
            let answer = AssertUnwindSafe(respond::<S>(&site, peer, &guest, request)).catch_unwind().await;
            let answer = answer.unwrap_or_else(|_| last(plain(Response::empty(StatusCode::INTERNAL_SERVER_ERROR))));
            let is_last = was_upgrade || site.world.is_draining();
            let goes_on = !is_last || answer.status() == StatusCode::SWITCHING_PROTOCOLS;
            Ok::<_, Infallible>(if goes_on { answer } else { last(answer) })
        }
    });
    let mut http = hyper::server::conn::http1::Builder::new();
    // The library counts from the last answer to the end of the next head: a head that begins while the connection may be idle has all
    // the time of a head, which `guarded.rs` keeps.
    http.timer(TokioTimer::new())
        .header_read_timeout(limits.idle_for + limits.head_within)
        .max_header_size(LONGEST_HEADER)
        .max_buf_size(LONGEST_HEADER)
        .half_close(false);
    let connection = http.serve_connection(TokioIo::new(stream), service).with_upgrades();
    world.connections.fetch_add(1, Ordering::AcqRel);
    Speaking { connection, part: |connection| connection.graceful_shutdown(), turn: Waiting::default(), world }
}

/// A connection that speaks HTTP, counted while it lives. In its turn it is told that the server stops: whoever is being answered hears
/// the end of it, whoever asks nothing is parted with.
struct Speaking<C> {
    connection: C,
    part: fn(Pin<&mut C>),
    turn: Waiting,
    world: Arc<World>,
}

impl<C: Future + Unpin> Future for Speaking<C> {
    type Output = C::Output;

    fn poll(self: Pin<&mut Self>, waking: &mut Waking<'_>) -> Poll<C::Output> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.connection).poll(waking);
        if polled.is_ready() || !this.world.farewell.poll_turn(&mut this.turn, waking) {
            return polled;
        }
        (this.part)(Pin::new(&mut this.connection));
        Pin::new(&mut this.connection).poll(waking)
    }
}

impl<C> Drop for Speaking<C> {
    fn drop(&mut self) {
        self.world.farewell.leave(&mut self.turn);
        self.world.connections.fetch_sub(1, Ordering::AcqRel);
    }
}

/// What goes back: the gate's own answer, or a service's as it comes.
type Answered = Either<Full<Bytes>, Pin<Box<Download>>>;

async fn respond<S: Wire>(
    site: &Arc<Site>,
    peer: Peer,
    guest: &Guest,
    mut request: hyper::Request<Incoming>,
) -> hyper::Response<Answered> {
    guest.may_leave_unread_for(site.bounds.limits.unsent_for);
    if let Err(Repeated(name)) = once_each(request.headers()) {
        tracing::debug!(%name, "a request is refused, since it says {name} twice");
        site.bounds.was_malformed();
        return last(plain(Response::empty(StatusCode::BAD_REQUEST)));
    }
    if !names_one_host(&request) {
        tracing::debug!("a request is refused, since its target is at another host than it says");
        site.bounds.was_malformed();
        return last(plain(Response::empty(StatusCode::BAD_REQUEST)));
    }
    let proxy = peer.address;
    let offer = site.offer.now();
    let peer = match offer.proxies.behind(peer, request.headers()) {
        Ok(peer) => peer,
        Err(Odd(what)) => {
            if site.bounds.may_say_odd(site.world.clock.instant()) {
                tracing::warn!(proxy = %peer.address, "a trusted proxy speaks oddly: {what}");
            } else {
                tracing::debug!(proxy = %peer.address, "a trusted proxy speaks oddly: {what}");
            }
            return plain(Response::text(StatusCode::BAD_REQUEST, "The proxy in front speaks oddly.\n"));
        }
    };
    let of_source = match site.of_request(proxy, peer.address) {
        Ok(place) => place,
        Err(no_room) => return plain(site.bounds.room().response(no_room)),
    };
    let path = request.uri().path();
    let Some((gate, mount)) = Mount::find(&offer.mounts, path, |(_, mount)| mount) else {
        return plain(Response::text(StatusCode::NOT_FOUND, "There is nothing here.\n"));
    };
    let most = if mount.exchange.leaves_body(path) { 0 } else { mount.max_body };
    let body = match whole(&mut request, most, site.bounds.limits.body_within).await {
        Ok(body) => body,
        Err(status) => {
            if status == StatusCode::REQUEST_TIMEOUT {
                site.bounds.was_slow();
            }
            return last(plain(Response::empty(status)));
        }
    };
    let accept = is_upgrade(&request).then(|| accept_key(&request));
    let parsed = Request {
        method: request.method().clone(),
        path: request.uri().path().to_owned(),
        query: request.uri().query().map(str::to_owned),
        headers: std::mem::take(request.headers_mut()),
        upgrade: accept.is_some(),
        secure: peer.secure,
        body,
    };
    let arrived = Arrived { gate, terminal: site.terminal.as_ref(), peer };
    let turn = exchange(&site.world, arrived, Arc::clone(&mount.exchange), parsed).await;
    let Some(Turn { response, attachment, connection }) = turn else {
        return plain(Response::empty(StatusCode::SERVICE_UNAVAILABLE));
    };
    let (body, accept) = match (response.body, accept) {
        (Body::Upgrade(upgrade), Some(accept)) => (upgrade, accept),
        (Body::Upgrade(_), None) => {
            let response = Response::empty(StatusCode::UPGRADE_REQUIRED);
            return plain(response.with(UPGRADE, HeaderValue::from_static("websocket")));
        }
        (Body::Forward(onward), _) => {
            let body = request.into_body();
            // A service may be asked more slowly than we are.
            guest.may_leave_unread_for(onward.to.idle.max(site.bounds.limits.unsent_for));
            // Boxed, since most requests go no further.
            return match Box::pin(forward(&site.world, gate, peer, *onward, response.headers, body)).await {
                Ok(answer) => answer.map(Either::Right),
                Err(response) => plain(response),
            };
        }
        (body @ Body::Bytes(_), _) => return plain(Response { body, ..response }),
    };
    let Upgrade { subprotocol, max_message, conversation, upstream } = body;
    let Some(mut seat) = guest.gives_up_seat() else {
        return last(plain(Response::empty(StatusCode::SERVICE_UNAVAILABLE)));
    };
    if let Some(request) = of_source {
        seat.place.becomes(request);
    }
    if let (Some(strangers), Some(Err(no_room))) = (&site.strangers, seat.stranger.as_mut().map(|place| place.is_of(peer.address)))
    {
        strangers.turned_away(&site.name, peer.address, no_room, site.world.clock.instant());
        return last(plain(strangers.response(no_room)));
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
    let socket = Socket { world, gate, terminal, peer, connection, attachment, seat, max_message, talk, behind, counted };
    let upgraded = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        // Where the peer hung up during the upgrade there is nothing to talk on; dropping the socket detaches it.
        if let Some((stream, read)) = become_socket::<S>(upgraded).await {
            tokio::spawn(socket.talk(stream, read).await);
        }
    });
    answer
}

/// Fields of which a request has one (RFC 9110 section 5.3). Where there are two, each reader may believe another.
const ONCE: [HeaderName; 8] =
    [AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HOST, ORIGIN, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, TRANSFER_ENCODING];

/// A field that is there twice.
struct Repeated(HeaderName);

fn once_each(headers: &HeaderMap) -> Result<(), Repeated> {
    if headers.len() == headers.keys_len() {
        return Ok(());
    }
    let repeated = ONCE.into_iter().find(|name| headers.get_all(name).iter().nth(1).is_some());
    repeated.map_or(Ok(()), |name| Err(Repeated(name)))
}

/// Whether the target of a request, where it names a host (RFC 9112 section 3.2.2), names the one that `Host` does.
fn names_one_host<B>(request: &hyper::Request<B>) -> bool {
    let (target, host) = (request.uri().authority(), request.headers().get(HOST));
    target.zip(host).is_none_or(|(target, host)| target.as_str().as_bytes().eq_ignore_ascii_case(host.as_bytes()))
}

/// The body of a request, if it comes whole and in time. A mount that takes none leaves it unread.
async fn whole(request: &mut hyper::Request<Incoming>, most: usize, within: Duration) -> Result<Bytes, StatusCode> {
    if most == 0 || request.body().is_end_stream() {
        return Ok(Bytes::new());
    }
    if request.body().size_hint().lower() > most as u64 {
        return Err(StatusCode::PAYLOAD_TOO_LARGE);
    }
    let body = Box::pin(Limited::new(request.body_mut(), most).collect());
    match tokio::time::timeout(within, body).await {
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
    let parts = upgraded.downcast::<TokioIo<Guarded<S>>>().ok()?;
    Some((parts.io.into_inner().into_wire(), parts.read_buf))
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

fn has_token(headers: &HeaderMap, name: HeaderName, token: &str) -> bool {
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

    /// The task of a connection, as if it had one argument more.
    fn attending(come: Come, site: Arc<Site>, certificates: Option<Arc<Certificates>>, (): ()) -> impl Future<Output = ()> {
        attend(come, site, certificates)
    }

    #[test]
    fn a_connection_that_says_nothing_costs_little() {
        let most = |what: &str, size: usize, most: usize| assert!(size <= most, "{what}: {size} bytes, and not {most}");
        most("the task of a connection", size_of_returned(attending), 768);
        most("HTTP, in a box of its own", size_of_returned(http_on::<TcpStream>), 848);
        most("HTTP over TLS, in a box of its own", size_of_returned(http_on::<TlsStream<TcpStream>>), 2048);
    }
}
