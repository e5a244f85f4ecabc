//! Requests that go on to a service behind a gate: opens and keeps connections, and moves bytes both ways. Decides nothing.
//!
//! Bodies pass piece by piece: what the other side does not take is not read. Each service has as many requests at once as its
//! settings allow, a part of them from one source, and one more is told so at once.
//!
//! ```text
//! peer's body ─► Upload ─► connection kept by the library ─► service
//! peer ◄─ Download, watched ◄──────────────────────────────── service
//!              └ silence on either side longer than allowed, or a peer too slow: the service's connection is closed
//! ```
//!
//! A peer that leaves takes its request along: whatever waits here is dropped, and the connection to the service with it. It refuses
//! to know what a request asks, and who may ask it.

use std::collections::HashMap;
use std::error::Error;
use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context as Waking, Poll, Waker};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use gatepost_identity::clock::Clock;
use gatepost_identity::command::Peer;
use gatepost_identity::secret::Secret;
use gatepost_identity::throttle::network;
use gatepost_protocols::forward::{Backend, Forward, NoAnswer, joined};
use gatepost_protocols::http::Response;
use http::header::{AUTHORIZATION, HOST, TRANSFER_ENCODING, VIA};
use http::uri::{PathAndQuery, Scheme};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::ext::ReasonPhrase;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::AbortHandle;
use tokio::time::Sleep;

use crate::drive::Open;
use crate::world::World;

/// What the token says, readable as it is, for services that trust the network they are reached over.
pub(crate) const IDENTITY: HeaderName = HeaderName::from_static("gatepost-identity");
/// Where a peer comes from.
pub(crate) const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
/// Whether it came over TLS.
pub(crate) const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
/// How long a peer may be silent in the middle of a body.
const UPLOAD_SILENCE: Duration = Duration::from_secs(30);
/// What a peer must send or take on average while it is waited for, in bytes a second: less than the worst mobile network does.
const SLOWEST: u32 = 1024;
/// How long it is until the log says again that a service has as many requests as it may.
const SAID_AGAIN: Duration = Duration::from_secs(60);
/// How long a connection without a request is kept: less than the five seconds after which widespread servers close theirs, since a
/// request that crosses with that is lost.
const KEPT: Duration = Duration::from_secs(4);
/// How many connections without a request are kept for each service.
const MOST_KEPT: usize = 64;
/// What is read at a time from a service, and the longest head of an answer, in bytes.
const BUFFER: usize = 64 * 1024;

type Failed = Box<dyn Error + Send + Sync>;

/// The ways to the services, each made at its first use.
#[derive(Default)]
pub struct Ways(Mutex<HashMap<usize, Arc<Way>>>);

/// The way to one service.
struct Way {
    /// Kept with it, so that its address names nothing else for as long.
    backend: Arc<Backend>,
    client: Client<HttpConnector, Upload>,
    places: Arc<Semaphore>,
    taken: Mutex<Taken>,
    /// Whether the log has said that it is gone.
    lost: AtomicBool,
}

/// Who has places with a service.
#[derive(Default)]
struct Taken {
    /// How many, by network; none has an entry of nothing.
    of_source: HashMap<[u8; 16], usize>,
    /// When the log last said that there was none left.
    said: Option<Instant>,
}

/// The place of one request with a service. Whoever drops it leaves room for another.
struct Place {
    way: Arc<Way>,
    source: [u8; 16],
    _permit: OwnedSemaphorePermit,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.way.taken();
        if let Some(count) = taken.of_source.get_mut(&self.source) {
            *count -= 1;
            if *count == 0 {
                taken.of_source.remove(&self.source);
            }
        }
    }
}

impl Ways {
    fn to(&self, backend: &Arc<Backend>) -> Arc<Way> {
        let mut ways = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let way = ways.entry(Arc::as_ptr(backend).addr()).or_insert_with(|| Arc::new(Way::new(Arc::clone(backend))));
        Arc::clone(way)
    }
}

impl Way {
    fn new(backend: Arc<Backend>) -> Way {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(backend.connect));
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(KEPT)
            .pool_max_idle_per_host(backend.max_in_flight.min(MOST_KEPT))
            .http1_max_buf_size(BUFFER)
            .set_host(false)
            .build(connector);
        let places = Arc::new(Semaphore::new(backend.max_in_flight));
        Way { backend, client, places, taken: Mutex::default(), lost: AtomicBool::new(false) }
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for a request from there, if there is one.
    fn place(self: &Arc<Way>, source: IpAddr) -> Option<Place> {
        let permit = Arc::clone(&self.places).try_acquire_owned().ok()?;
        let source = network(source);
        let mut taken = self.taken();
        let count = taken.of_source.entry(source).or_default();
        if *count >= self.backend.most_of_one_source() {
            return None;
        }
        *count += 1;
        drop(taken);
        Some(Place { way: Arc::clone(self), source, _permit: permit })
    }

    /// Says in the log that there is no place; not for each request.
    fn is_full(&self, gate: &'static str, source: IpAddr, now: Instant) {
        let mut taken = self.taken();
        if taken.said.is_none_or(|said| now.saturating_duration_since(said) >= SAID_AGAIN) {
            taken.said = Some(now);
            drop(taken);
            let service = &self.backend.authority;
            tracing::warn!(gate, %service, %source, "{service} behind {gate} has as many requests as it may, here or of one source");
        }
    }

    /// Says in the log when the service goes, and when it is back; not for each request.
    fn sees(&self, gate: &'static str, lost: Option<&dyn std::fmt::Display>) {
        let service = &self.backend.authority;
        let before = self.lost.swap(lost.is_some(), Ordering::Relaxed);
        match lost {
            Some(why) if !before => tracing::warn!(gate, %service, "{service} behind {gate} does not answer: {why}"),
            Some(why) => tracing::debug!(gate, %service, "{service} behind {gate} does not answer: {why}"),
            None if before => tracing::info!(gate, %service, "{service} behind {gate} answers again"),
            None => {}
        }
    }
}

/// What comes back, and for how long it keeps its place.
pub(crate) type Answer = Result<hyper::Response<Pin<Box<Download>>>, Response>;

/// Sends a request on with this body, and answers what comes back; or what the gate says where nothing does.
pub(crate) async fn forward(
    world: &Arc<World>,
    gate: &'static str,
    peer: Peer,
    forward: Forward,
    own: HeaderMap,
    body: Incoming,
) -> Answer {
    let Forward { to, method, target, headers, identity, own_cookies, failed } = forward;
    let way = world.ways.to(&to);
    let Some(place) = way.place(peer.address) else {
        way.is_full(gate, peer.address, world.clock.instant());
        return Err(failed(NoAnswer::Full));
    };
    let counted = Open::count(world);
    let sending = Arc::new(Sending { to: Arc::clone(&to), clock: Arc::clone(&world.clock), state: Mutex::default() });
    let patience = Patience::of(UPLOAD_SILENCE);
    let upload = Upload { body, left: to.max_body, patience, silence: None, sending: Arc::clone(&sending) };
    let request = match request(&to, peer, (method, target, headers), identity, upload) {
        Ok(request) => request,
        Err(error) => {
            tracing::error!(gate, %error, "a request could not be made for a service behind {gate}: {error}");
            return Err(failed(NoAnswer::Gone));
        }
    };
    let answer = tokio::select! {
        answer = way.client.request(request) => answer.map_err(|error| {
            let fault = sending.fault().unwrap_or(if is_timeout(&error) { NoAnswer::Slow } else { NoAnswer::Gone });
            if matches!(fault, NoAnswer::Gone | NoAnswer::Slow) {
                way.sees(gate, Some(&whole(&error)));
            }
            fault
        }),
        () = sending.over() => {
            way.sees(gate, Some(&"it takes too long"));
            Err(NoAnswer::Slow)
        }
    };
    let answer = match answer {
        Ok(answer) if answer.status() == StatusCode::SWITCHING_PROTOCOLS => {
            way.sees(gate, Some(&"it has changed the protocol, which nobody had asked for"));
            return Err(failed(NoAnswer::Gone));
        }
        Ok(answer) => answer,
        Err(why) => return Err(failed(why)),
    };
    way.sees(gate, None);
    let (mut head, body) = answer.into_parts();
    head.headers = joined(head.headers, own, own_cookies);
    // Its words beside the status are its own; nothing else of what the library noted is for the peer's connection.
    let reason = head.extensions.remove::<ReasonPhrase>();
    let mut response = hyper::Response::new(Download::of(body, to.idle, world, place, counted));
    (*response.status_mut(), *response.headers_mut()) = (head.status, head.headers);
    response.extensions_mut().extend(reason.map(one).unwrap_or_default());
    Ok(response)
}

fn one(reason: ReasonPhrase) -> http::Extensions {
    let mut extensions = http::Extensions::new();
    extensions.insert(reason);
    extensions
}

/// The request as the service gets it, in the name of whoever the token is about.
fn request(
    to: &Backend,
    peer: Peer,
    (method, target, mut headers): (Method, PathAndQuery, HeaderMap),
    identity: Option<Secret>,
    upload: Upload,
) -> Result<Request<Upload>, Failed> {
    headers.insert(HOST, HeaderValue::from_str(to.authority.as_str())?);
    headers.insert(FORWARDED_FOR, HeaderValue::from_str(&peer.address.to_canonical().to_string())?);
    headers.insert(FORWARDED_PROTO, HeaderValue::from_static(if peer.secure { "https" } else { "http" }));
    headers.append(VIA, HeaderValue::from_static("1.1 gatepost"));
    if let Some(token) = identity {
        vouch(&mut headers, &token)?;
    }
    if !upload.is_end_stream() && upload.size_hint().exact().is_none() {
        // Unless it is said, the library sends no body of unknown length where most requests have none.
        headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
    let mut request = Request::new(upload);
    *request.method_mut() = method;
    *request.uri_mut() = Uri::builder().scheme(Scheme::HTTP).authority(to.authority.clone()).path_and_query(target).build()?;
    *request.headers_mut() = headers;
    Ok(request)
}

/// Tells a service who is there: by a token that it can verify, and by what the token says.
pub(crate) fn vouch(headers: &mut HeaderMap, token: &Secret) -> Result<(), Failed> {
    let mut bearer = HeaderValue::from_bytes(&[b"Bearer ", token.expose()].concat())?;
    bearer.set_sensitive(true);
    headers.insert(AUTHORIZATION, bearer);
    let payload = token.expose().split(|byte| *byte == b'.').nth(1).ok_or("the token is not one of three parts")?;
    headers.insert(IDENTITY, HeaderValue::from_bytes(&URL_SAFE_NO_PAD.decode(payload)?)?);
    Ok(())
}

/// What an error says, and what is behind it.
fn whole(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

fn is_timeout(error: &(dyn Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::TimedOut) {
            return true;
        }
        next = error.source();
    }
    false
}

/// How long a peer is waited for: it grows shorter while that is so, and longer by what moves, up to where it began.
struct Patience {
    most: Duration,
    left: Duration,
}

impl Patience {
    const fn of(most: Duration) -> Patience {
        Patience { most, left: most }
    }

    fn waited(&mut self, time: Duration) {
        self.left = self.left.saturating_sub(time);
    }

    fn moved(&mut self, bytes: usize) {
        let earned = Duration::from_secs(u64::try_from(bytes).unwrap_or(u64::MAX)) / SLOWEST;
        self.left = self.left.saturating_add(earned).min(self.most);
    }
}

/// How far a request has come on its way.
struct Sending {
    to: Arc<Backend>,
    clock: Arc<dyn Clock>,
    state: Mutex<Sent>,
}

#[derive(Default)]
struct Sent {
    /// When the service was last handed a piece; none: never.
    handed_at: Option<Instant>,
    /// The peer has more to send, and the service waits for it.
    waits_for_peer: bool,
    /// Why the body broke off.
    fault: Option<NoAnswer>,
}

impl Sending {
    fn state(&self) -> MutexGuard<'_, Sent> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fault(&self) -> Option<NoAnswer> {
        self.state().fault
    }

    /// Done once the service has had its time without a head of an answer.
    async fn over(&self) {
        let (limit, begun) = (self.to.answer, self.clock.instant());
        loop {
            let now = self.clock.instant();
            let since = match &*self.state() {
                Sent { waits_for_peer: true, .. } => now,
                sent => sent.handed_at.unwrap_or(begun),
            };
            let left = (since + limit).saturating_duration_since(now);
            if left.is_zero() {
                return;
            }
            tokio::time::sleep(left).await;
        }
    }
}

/// The peer's body, as the service takes it.
struct Upload {
    body: Incoming,
    /// How much more it may be, in bytes.
    left: u64,
    patience: Patience,
    /// Runs while the peer is silent, since then.
    silence: Option<(Instant, Pin<Box<Sleep>>)>,
    sending: Arc<Sending>,
}

impl Upload {
    fn broken(&self, fault: NoAnswer, why: &'static str) -> Poll<Option<Result<Frame<Bytes>, Failed>>> {
        self.sending.state().fault = Some(fault);
        Poll::Ready(Some(Err(why.into())))
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = Failed;

    fn poll_frame(mut self: Pin<&mut Self>, waking: &mut Waking<'_>) -> Poll<Option<Result<Frame<Bytes>, Failed>>> {
        loop {
            let now = self.sending.clock.instant();
            let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(waking) else {
                self.sending.state().waits_for_peer = true;
                let left = self.patience.left;
                let (_, silence) = self.silence.get_or_insert_with(|| (now, Box::pin(tokio::time::sleep(left))));
                return match silence.as_mut().poll(waking) {
                    Poll::Ready(()) => self.broken(NoAnswer::PeerSlow, "the peer has stopped"),
                    Poll::Pending => Poll::Pending,
                };
            };
            if let Some((since, _)) = self.silence.take() {
                self.patience.waited(now.saturating_duration_since(since));
            }
            {
                let mut state = self.sending.state();
                (state.waits_for_peer, state.handed_at) = (false, Some(now));
            }
            let data = match frame {
                None => return Poll::Ready(None),
                Some(Err(error)) => {
                    self.sending.state().fault = Some(NoAnswer::PeerBroken);
                    return Poll::Ready(Some(Err(error.into())));
                }
                // Fields behind a body belong to the peer's connection.
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => data,
                    Err(_) => continue,
                },
            };
            self.patience.moved(data.len());
            return match self.left.checked_sub(data.len() as u64) {
                Some(left) => {
                    self.left = left;
                    Poll::Ready(Some(Ok(Frame::data(data))))
                }
                None => self.broken(NoAnswer::TooLong, "the body is longer than it may be"),
            };
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The service's body, as the peer takes it.
pub(crate) struct Download {
    passing: Arc<Passing>,
    hint: SizeHint,
    ended: bool,
    watch: Option<AbortHandle>,
}

/// What the one who watches must see.
struct Passing {
    state: Mutex<Piecewise>,
    clock: Arc<dyn Clock>,
}

struct Piecewise {
    /// None, once it was given up.
    coming: Option<Coming>,
    /// The peer has not taken yet what it was handed. Otherwise the service is waited for.
    waits_for_peer: bool,
    /// Since when whoever it is is waited for.
    since: Instant,
    /// How long the peer is.
    patience: Patience,
    /// Whom to tell that it was given up.
    waker: Option<Waker>,
}

/// A body that comes, and what it holds for as long: a peer that takes nothing would hold it for ever.
struct Coming {
    body: Incoming,
    _place: Place,
    _counted: Open,
}

impl Passing {
    fn state(&self) -> MutexGuard<'_, Piecewise> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives the body up once the service has been silent for so long, or the peer too slow.
    async fn watch(&self, idle: Duration) {
        loop {
            let left = {
                let mut state = self.state();
                let limit = if state.waits_for_peer { state.patience.left } else { idle };
                let left = (state.since + limit).saturating_duration_since(self.clock.instant());
                if left.is_zero() {
                    state.coming = None;
                    state.waker.take().into_iter().for_each(Waker::wake);
                    return;
                }
                left
            };
            tokio::time::sleep(left).await;
        }
    }
}

impl Download {
    fn of(body: Incoming, idle: Duration, world: &World, place: Place, counted: Open) -> Pin<Box<Download>> {
        let (hint, ended) = (body.size_hint(), body.is_end_stream());
        let coming = Coming { body, _place: place, _counted: counted };
        let (since, patience) = (world.clock.instant(), Patience::of(idle));
        let state = Mutex::new(Piecewise { coming: Some(coming), waits_for_peer: true, since, patience, waker: None });
        let passing = Arc::new(Passing { state, clock: Arc::clone(&world.clock) });
        let watched = Arc::clone(&passing);
        let watch = (!ended).then(|| tokio::spawn(async move { watched.watch(idle).await }).abort_handle());
        Box::pin(Download { passing, hint, ended, watch })
    }
}

impl Drop for Download {
    fn drop(&mut self) {
        self.watch.iter().for_each(AbortHandle::abort);
        // The one who watches may live for another moment; the connection to the service does not.
        self.passing.state().coming = None;
    }
}

impl Body for Download {
    type Data = Bytes;
    type Error = Failed;

    fn poll_frame(mut self: Pin<&mut Self>, waking: &mut Waking<'_>) -> Poll<Option<Result<Frame<Bytes>, Failed>>> {
        let now = self.passing.clock.instant();
        let next = {
            let mut state = self.passing.state();
            if state.waits_for_peer {
                let waited = now.saturating_duration_since(state.since);
                state.patience.waited(waited);
                (state.waits_for_peer, state.since) = (false, now);
            }
            let Some(Coming { body, .. }) = &mut state.coming else {
                return Poll::Ready(Some(Err("nothing has moved for too long".into())));
            };
            loop {
                match Pin::new(&mut *body).poll_frame(waking) {
                    Poll::Pending => {
                        state.waker = Some(waking.waker().clone());
                        return Poll::Pending;
                    }
                    Poll::Ready(Some(Ok(frame))) => {
                        if let Ok(data) = frame.into_data() {
                            break Some(Ok(data));
                        }
                    }
                    Poll::Ready(Some(Err(error))) => break Some(Err(error)),
                    Poll::Ready(None) => break None,
                }
            }
        };
        let mut state = self.passing.state();
        (state.waits_for_peer, state.since) = (true, now);
        if let Some(Ok(data)) = &next {
            state.patience.moved(data.len());
        }
        if let Some(Coming { body, .. }) = &state.coming {
            let (hint, ended) = (body.size_hint(), body.is_end_stream());
            drop(state);
            (self.hint, self.ended) = (hint, ended);
        }
        Poll::Ready(next.map(|piece| piece.map(Frame::data).map_err(Failed::from)))
    }

    fn is_end_stream(&self) -> bool {
        self.ended
    }

    fn size_hint(&self) -> SizeHint {
        self.hint
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patience_ends_with_whoever_moves_too_little() {
        let seconds = Duration::from_secs;
        let mut patience = Patience::of(seconds(30));
        patience.moved(1 << 30);
        assert_eq!(patience.left, seconds(30), "nobody saves up");
        patience.waited(seconds(22));
        patience.moved(1);
        assert!(patience.left < seconds(9), "a byte is worth next to nothing: {:?}", patience.left);
        patience.waited(seconds(4));
        patience.moved(8 * 1024);
        assert!(patience.left >= seconds(12), "{:?}", patience.left);
        patience.waited(seconds(60));
        assert_eq!(patience.left, Duration::ZERO);
        patience.moved(usize::MAX);
        assert_eq!(patience.left, seconds(30));
    }
}
