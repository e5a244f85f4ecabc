//! The connection to the service behind a gate: opens it, retries, and moves messages both ways. Decides nothing.
//!
//! Each connection of a peer has one of its own, which carries one identity for its life: that of whoever the peer's connection
//! holds when it is opened. The service is told who that is by a token of ours and by what the token says, and nothing that the
//! peer sent to prove itself travels on.
//!
//! ```text
//!            forward               token              handshake
//!   parted ──────────► asking ───────────► opening ─────────────► open ──┐ messages
//!     ▲                  │ no                 │ no                │ lost │ both ways
//!     │ part             └────────────────────┴──► waiting ◄──────┘ ◄────┘
//!     └─────── from anywhere                          │ pause over: asking again
//! ```
//!
//! It refuses to know what a message means, and which are worth resuming: the gate hears of a loss and says.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as Waking, Poll};
use std::time::{Duration, Instant};

use futures_util::{Sink, SinkExt, Stream, StreamExt};
use gatepost_identity::clock::draw;
use gatepost_identity::command::{Binding, Command, ConnectionId, Context, GrantRequest, Peer, Verb};
use gatepost_identity::refusal::Refusal;
use gatepost_identity::reply::{Answer, Outcome, TokenKind};
use gatepost_identity::scope::ScopeRequest;
use gatepost_identity::secret::Secret;
use gatepost_protocols::Limits;
use gatepost_protocols::frame::CloseCode;
use gatepost_protocols::http::Upstream;
use http::HeaderValue;
use http::header::{SEC_WEBSOCKET_PROTOCOL, USER_AGENT};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Message, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Bytes, Error, Utf8Bytes};

use crate::drive::{BATCH, Open, PONG_HEADER};
use crate::forward::{FORWARDED_FOR, FORWARDED_PROTO, vouch};
use crate::world::{Asked, World};

/// How long the core may take to say who is there.
const ASKING: Duration = Duration::from_secs(10);
/// How long the service may take to accept a connection and to answer the handshake.
const OPENING: Duration = Duration::from_secs(10);
/// How long a connection that is given up waits for the service's goodbye.
const FAREWELL: Duration = Duration::from_secs(2);
/// The first pause before another attempt. It doubles with each failure.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// How often a connection may be parted from at once before the next one has to wait for a moment.
const MOST_HASTY: u32 = 4;
/// A connection that lived as long as this is no failure of the next one.
pub(crate) const SOUND: Duration = Duration::from_secs(30);
/// What is read at a time, and from how many bytes on frames are written before a turn ends.
const BUFFER: usize = 4096;

/// Whose connection it is.
pub(crate) struct Via<'a> {
    pub(crate) world: &'a Arc<World>,
    pub(crate) gate: &'static str,
    pub(crate) connection: ConnectionId,
    pub(crate) peer: Peer,
}

/// What the gate must hear.
pub(crate) enum Came {
    /// A whole text message.
    Text(Utf8Bytes),
    /// A whole binary message.
    Binary(Bytes),
    /// The connection is gone, or could not be opened.
    Lost,
    /// It is open.
    Restored,
}

/// One connection to the service.
pub(crate) struct Relay {
    service: Arc<Upstream>,
    state: State,
    /// What waits until the connection is open, or until the socket takes it.
    queue: VecDeque<String>,
    queued_bytes: usize,
    /// Attempts that came to nothing since the last connection that held.
    failures: u32,
    /// When the next attempt may begin.
    again_at: Option<Instant>,
    /// Something was forwarded before then.
    tell_lost: bool,
    /// Connections that were parted from soon after they were begun, since the last one that was not.
    hasty: u32,
}

enum State {
    Parted,
    Waiting,
    Beginning,
    Asking(oneshot::Receiver<Outcome>),
    Opening(Opening),
    Open(Box<Line>),
}

type Opening = Pin<Box<dyn Future<Output = Result<WebSocketStream<TcpStream>, NotOpened>> + Send>>;

/// An open connection.
pub(crate) struct Line {
    pub(crate) stream: WebSocketStream<TcpStream>,
    opened_at: Instant,
    heard_at: Instant,
    pinged_at: Instant,
    /// Frames that the socket has taken and not sent yet, and how many bytes those are.
    unflushed: usize,
    handed_bytes: usize,
    unsent_since: Option<Instant>,
}

/// What is asked about whoever the connection holds begins nothing.
const NOTHING_NEW: GrantRequest =
    GrantRequest { scope: ScopeRequest::Maximum, role: None, binding: Binding::Connection, spelling: None };

impl Relay {
    /// No connection yet.
    pub(crate) fn new(service: Arc<Upstream>) -> Relay {
        Relay {
            service,
            state: State::Parted,
            queue: VecDeque::new(),
            queued_bytes: 0,
            failures: 0,
            again_at: None,
            tell_lost: false,
            hasty: 0,
        }
    }

    /// Takes a text to send, and begins to open the connection where there is none.
    pub(crate) fn forward(&mut self, text: String, instant: Instant) {
        match self.state {
            State::Parted if self.failures > 0 && self.again_at.is_some_and(|at| instant < at) => {
                // The pause after a failure outlives a parting, or a peer could have us knock as fast as it can ask.
                self.state = State::Waiting;
                self.tell_lost = true;
            }
            State::Parted => {
                self.state = State::Beginning;
                self.keep(text);
            }
            // The gate has been told of the loss, and sends again what it wants sent once the connection stands.
            State::Waiting => {}
            State::Beginning | State::Asking(_) | State::Opening(_) | State::Open(_) => self.keep(text),
        }
    }

    fn keep(&mut self, text: String) {
        self.queued_bytes += text.len();
        self.queue.push_back(text);
    }

    /// Ends the connection. What still comes from it is not heard any more.
    pub(crate) fn part(&mut self, world: &Arc<World>, instant: Instant) {
        (self.queue, self.queued_bytes, self.tell_lost) = (VecDeque::new(), 0, false);
        let begun = match std::mem::replace(&mut self.state, State::Parted) {
            State::Open(line) => {
                tokio::spawn(farewell(line.stream, 1000, Open::count(world)));
                line.opened_at
            }
            State::Beginning | State::Asking(_) | State::Opening(_) => instant,
            State::Parted | State::Waiting => return,
        };
        if instant >= begun + SOUND {
            (self.failures, self.hasty) = (0, 0);
        } else if instant < begun + FIRST_PAUSE {
            self.hasty = self.hasty.saturating_add(1);
            if self.hasty > MOST_HASTY {
                // Whoever changes who they are as fast as they can opens a connection a second and not hundreds.
                self.again_at = Some(instant + FIRST_PAUSE);
            }
        }
    }

    /// Whether so much waits for the service that nothing more should be taken in for it.
    pub(crate) fn is_full(&self, most: usize) -> bool {
        let unsent = match &self.state {
            State::Open(line) if line.unsent_since.is_some() => line.handed_bytes,
            State::Open(_) | State::Parted | State::Waiting | State::Beginning | State::Asking(_) | State::Opening(_) => 0,
        };
        self.queued_bytes + unsent > most
    }

    /// When this wants to be looked at, if ever.
    pub(crate) fn due(&self, limits: &Limits) -> Option<Instant> {
        match &self.state {
            State::Waiting | State::Beginning => self.again_at,
            State::Open(line) => Some(line.due(limits)),
            // What is under way has a waker of its own.
            State::Parted | State::Asking(_) | State::Opening(_) => None,
        }
    }

    /// Goes on, and answers the next thing that the gate must hear. `hungry`: the peer can take more.
    pub(crate) fn poll(
        &mut self,
        via: &Via<'_>,
        limits: &Limits,
        hungry: bool,
        instant: Instant,
        waking: &mut Waking<'_>,
    ) -> Poll<Came> {
        if std::mem::take(&mut self.tell_lost) {
            return Poll::Ready(Came::Lost);
        }
        loop {
            match &mut self.state {
                State::Parted => return Poll::Pending,
                State::Waiting | State::Beginning if self.again_at.is_some_and(|at| instant < at) => return Poll::Pending,
                State::Waiting | State::Beginning => match self.ask(via, instant, waking) {
                    Asked::Break(outcome) => match token(outcome) {
                        Ok(token) => self.state = self.opening(token, via),
                        Err(refusal) => return self.no_token(via, instant, &refusal),
                    },
                    Asked::Continue(outcome) => self.state = State::Asking(outcome),
                },
                State::Asking(asked) => {
                    let Poll::Ready(outcome) = Pin::new(asked).poll(waking) else { return Poll::Pending };
                    match outcome.map_err(|_| Refusal::Unavailable).and_then(token) {
                        Ok(token) => self.state = self.opening(token, via),
                        Err(refusal) => return self.no_token(via, instant, &refusal),
                    }
                }
                State::Opening(opening) => {
                    let Poll::Ready(opened) = opening.as_mut().poll(waking) else { return Poll::Pending };
                    match opened {
                        Ok(stream) => {
                            via.world.sees_service(via.gate, None);
                            self.state = State::Open(Box::new(Line::new(stream, instant)));
                            return Poll::Ready(Came::Restored);
                        }
                        Err(NotOpened::Lost(why)) => {
                            via.world.sees_service(via.gate, Some(&why));
                            return self.lose(via, instant, 1000);
                        }
                        Err(NotOpened::Refused(why)) => {
                            via.world.hears_refusal(via.gate, &why, instant);
                            return self.lose(via, instant, 1000);
                        }
                    }
                }
                State::Open(line) => {
                    if !hungry {
                        // What it says is not listened to, so its silence is ours.
                        line.heard_at = instant;
                    }
                    let moved = line.keep_time(limits, instant, waking);
                    let moved = moved.and_then(|()| line.hand_over(&mut self.queue, &mut self.queued_bytes, instant, waking));
                    let came = match moved {
                        Ok(()) if hungry => line.read(limits.unsent.0, instant, waking),
                        Ok(()) => return Poll::Pending,
                        Err(broken) => Err(broken),
                    };
                    return match came {
                        Ok(Some(came)) => Poll::Ready(came),
                        Ok(None) => Poll::Pending,
                        Err(Broken { code, why }) => {
                            via.world.sees_service(via.gate, Some(&why));
                            self.lose(via, instant, code)
                        }
                    };
                }
            }
        }
    }

    /// Sends what waits, as far as the service takes it.
    pub(crate) fn flush(&mut self, instant: Instant, waking: &mut Waking<'_>) {
        if let State::Open(line) = &mut self.state {
            line.flush(instant, waking);
        }
    }

    fn ask(&self, via: &Via<'_>, instant: Instant, waking: &mut Waking<'_>) -> Asked {
        let kinds = vec![TokenKind::Upstream { audience: self.service.audience.clone() }];
        let command = Command { presented: Vec::new(), verb: Verb::Issue { kinds, request: NOTHING_NEW } };
        let Via { gate, connection, peer, .. } = *via;
        let context = Context { gate, peer, terminal: None, connection: Some(connection), deadline: instant + ASKING };
        via.world.ask(command, context, waking)
    }

    fn opening(&self, token: Secret, via: &Via<'_>) -> State {
        State::Opening(Box::pin(open(Arc::clone(&self.service), token, via.peer)))
    }

    /// Nobody is there any more in whose name to open a connection, or the core cannot say. It is not the service's fault.
    fn no_token(&mut self, via: &Via<'_>, instant: Instant, refusal: &Refusal) -> Poll<Came> {
        tracing::debug!(gate = via.gate, refusal = refusal.word(), "no token for the service behind {}", via.gate);
        self.lose(via, instant, 1000)
    }

    /// The connection is gone. What waited is dropped: the gate knows what it sent.
    fn lose(&mut self, via: &Via<'_>, instant: Instant, code: CloseCode) -> Poll<Came> {
        (self.queue, self.queued_bytes) = (VecDeque::new(), 0);
        if let State::Open(line) = std::mem::replace(&mut self.state, State::Waiting) {
            if instant >= line.opened_at + SOUND {
                self.failures = 0;
            }
            tokio::spawn(farewell(line.stream, code, Open::count(via.world)));
        }
        self.again_at = Some(instant + with_chance(pause_after(self.failures), draw(&*via.world.entropy)));
        self.failures = self.failures.saturating_add(1);
        Poll::Ready(Came::Lost)
    }
}

/// How long to wait after so many failures before the next attempt.
pub(crate) fn pause_after(failures: u32) -> Duration {
    FIRST_PAUSE.saturating_mul(1 << failures.min(5)).min(LONGEST_PAUSE)
}

/// Those who lost a service together do not come back together: up to half as much again.
pub(crate) fn with_chance(pause: Duration, chance: [u8; 4]) -> Duration {
    let chance = u32::from_le_bytes(chance);
    pause + pause.mul_f64(f64::from(chance) / f64::from(u32::MAX) / 2.0)
}

/// Why an open connection is of no use any more, and what it is closed with.
pub(crate) struct Broken {
    pub(crate) code: CloseCode,
    pub(crate) why: String,
}

impl Broken {
    fn silent(why: &str) -> Broken {
        Broken { code: 1008, why: why.to_owned() }
    }
}

impl From<Error> for Broken {
    fn from(error: Error) -> Broken {
        let code = match error {
            Error::Protocol(_) => 1002,
            Error::Utf8(_) => 1007,
            Error::Capacity(_) => 1009,
            _ => 1000,
        };
        Broken { code, why: error.to_string() }
    }
}

impl Line {
    pub(crate) fn new(stream: WebSocketStream<TcpStream>, now: Instant) -> Line {
        Line { stream, opened_at: now, heard_at: now, pinged_at: now, unflushed: 0, handed_bytes: 0, unsent_since: None }
    }

    /// When it wants to be looked at.
    pub(crate) fn due(&self, limits: &Limits) -> Instant {
        let alive = (self.heard_at + limits.silence.0).min(self.pinged_at + limits.ping_every);
        self.unsent_since.map_or(alive, |since| alive.min(since + limits.unsent.1))
    }

    /// Gives up a service that is silent or takes nothing, and pings it.
    pub(crate) fn keep_time(&mut self, limits: &Limits, instant: Instant, waking: &mut Waking<'_>) -> Result<(), Broken> {
        if self.unsent_since.is_some_and(|since| instant >= since + limits.unsent.1) {
            return Err(Broken::silent("it takes nothing any more"));
        }
        if instant >= self.heard_at + limits.silence.0 {
            return Err(Broken::silent("it is silent"));
        }
        if instant >= self.pinged_at + limits.ping_every && Pin::new(&mut self.stream).poll_ready(waking).is_ready() {
            self.pinged_at = instant;
            self.hand(Message::Ping(Bytes::new()))?;
        }
        Ok(())
    }

    /// Hands texts to the socket, as far as it takes them.
    pub(crate) fn hand_over(
        &mut self,
        queue: &mut VecDeque<String>,
        queued_bytes: &mut usize,
        instant: Instant,
        waking: &mut Waking<'_>,
    ) -> Result<(), Broken> {
        while !queue.is_empty() {
            match Pin::new(&mut self.stream).poll_ready(waking) {
                Poll::Pending => break,
                Poll::Ready(ready) => ready?,
            }
            let Some(text) = queue.pop_front() else { break };
            *queued_bytes -= text.len();
            self.hand(Message::Text(text.into()))?;
        }
        if self.unflushed >= BATCH {
            self.flush(instant, waking);
        }
        Ok(())
    }

    fn hand(&mut self, message: Message) -> Result<(), Broken> {
        self.handed_bytes += message.len();
        self.unflushed += 1;
        Ok(Pin::new(&mut self.stream).start_send(message)?)
    }

    /// Whether the socket holds nothing more.
    pub(crate) fn is_sent(&self) -> bool {
        self.unflushed == 0
    }

    fn is_blocked(&self, most: usize) -> bool {
        self.unsent_since.is_some() && self.handed_bytes > most
    }

    /// The next message, unless so much waits for the service that it is not listened to.
    pub(crate) fn read(&mut self, most: usize, instant: Instant, waking: &mut Waking<'_>) -> Result<Option<Came>, Broken> {
        if self.is_blocked(most) {
            self.flush(instant, waking);
            if self.is_blocked(most) {
                return Ok(None);
            }
        }
        loop {
            let message = match Pin::new(&mut self.stream).poll_next(waking) {
                Poll::Pending => return Ok(None),
                Poll::Ready(Some(message)) => message?,
                Poll::Ready(None) => return Err(Broken { code: 1000, why: "it has hung up".to_owned() }),
            };
            self.heard_at = instant;
            match message {
                Message::Text(text) => return Ok(Some(Came::Text(text))),
                Message::Binary(bytes) => return Ok(Some(Came::Binary(bytes))),
                // The library has queued the pong; it goes out with the next flush.
                Message::Ping(payload) => {
                    self.unflushed += 1;
                    self.handed_bytes += payload.len() + PONG_HEADER;
                    if self.handed_bytes > most {
                        // The service takes nothing of what it makes us say. It is read again once it has.
                        self.flush(instant, waking);
                        if self.is_blocked(most) {
                            return Ok(None);
                        }
                    }
                }
                Message::Pong(_) | Message::Frame(_) => {}
                Message::Close(frame) => {
                    // Its reason is somebody else's text, so it is written with its escapes.
                    let why = frame.map_or_else(|| "it said goodbye".to_owned(), |frame| format!("it said goodbye: {frame:?}"));
                    return Err(Broken { code: 1000, why });
                }
            }
        }
    }

    /// Sends what the socket holds.
    pub(crate) fn flush(&mut self, instant: Instant, waking: &mut Waking<'_>) {
        if self.unflushed == 0 {
            return;
        }
        match Pin::new(&mut self.stream).poll_flush(waking) {
            // A connection that is broken says so where it is read.
            Poll::Ready(_) => (self.unflushed, self.handed_bytes, self.unsent_since) = (0, 0, None),
            Poll::Pending => {
                self.unsent_since.get_or_insert(instant);
            }
        }
    }
}

/// The token that the core has issued.
fn token(outcome: Outcome) -> Result<Secret, Refusal> {
    let granted = outcome.reply.result.and_then(Answer::granted)?;
    granted.tokens.into_iter().next().map(|token| token.secret).ok_or(Refusal::Unavailable)
}

/// Why a connection was not opened.
pub(crate) enum NotOpened {
    /// The service cannot be reached, or speaks no WebSocket.
    Lost(String),
    /// It does not want this one.
    Refused(String),
}

impl NotOpened {
    pub(crate) fn lost(why: impl ToString) -> NotOpened {
        NotOpened::Lost(why.to_string())
    }
}

/// Opens a connection in the name of whoever the token is about.
async fn open(service: Arc<Upstream>, token: Secret, peer: Peer) -> Result<WebSocketStream<TcpStream>, NotOpened> {
    let request = request(&service, &token, peer).map_err(NotOpened::lost)?;
    dial(request, service.max_message).await
}

/// The beginning of a handshake at an address.
pub(crate) fn handshake(address: &http::Uri) -> Result<http::Request<()>, Error> {
    let mut request = address.clone().into_client_request()?;
    request.headers_mut().insert(USER_AGENT, HeaderValue::from_static(concat!("gatepost/", env!("CARGO_PKG_VERSION"))));
    Ok(request)
}

/// Opens a connection by this handshake.
pub(crate) async fn dial(request: http::Request<()>, max_message: usize) -> Result<WebSocketStream<TcpStream>, NotOpened> {
    let opening = async {
        let address = request.uri();
        let host = address.host().unwrap_or_default().trim_matches(['[', ']']);
        let stream = TcpStream::connect((host, address.port_u16().unwrap_or(80))).await.map_err(NotOpened::lost)?;
        stream.set_nodelay(true).ok();
        let config = WebSocketConfig::default()
            .read_buffer_size(BUFFER)
            .write_buffer_size(BUFFER)
            .max_write_buffer_size(usize::MAX)
            .max_message_size(Some(max_message))
            .max_frame_size(Some(max_message));
        match tokio_tungstenite::client_async_with_config(request, stream, Some(config)).await {
            Ok((stream, _)) => Ok(stream),
            Err(Error::Http(response)) => Err(NotOpened::Refused(response.status().to_string())),
            Err(error) => Err(NotOpened::lost(error)),
        }
    };
    tokio::time::timeout(OPENING, opening).await.unwrap_or_else(|_| Err(NotOpened::lost("it did not answer in time")))
}

/// The handshake. It is ours alone: nothing of what the peer sent is in it.
fn request(service: &Upstream, token: &Secret, peer: Peer) -> Result<http::Request<()>, Box<dyn std::error::Error + Send + Sync>> {
    let mut request = handshake(&service.address)?;
    let headers = request.headers_mut();
    vouch(headers, token)?;
    headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(service.subprotocol));
    headers.insert(FORWARDED_FOR, HeaderValue::from_str(&peer.address.to_string())?);
    headers.insert(FORWARDED_PROTO, HeaderValue::from_static(if peer.secure { "https" } else { "http" }));
    Ok(request)
}

/// Closes a connection in good order, so that the service does not take it for a fault, and gives it up soon in any case.
pub(crate) async fn farewell(mut stream: WebSocketStream<TcpStream>, code: CloseCode, counted: Open) {
    let goodbye = async {
        let frame = CloseFrame { code: code.into(), reason: "".into() };
        // Where theirs came first, it is answered with the flush.
        match stream.send(Message::Close(Some(frame))).await {
            Ok(()) => {}
            Err(_) => stream.flush().await?,
        }
        while stream.next().await.transpose()?.is_some() {}
        Ok::<_, Error>(())
    };
    match tokio::time::timeout(FAREWELL, goodbye).await {
        Ok(Ok(())) | Ok(Err(Error::ConnectionClosed)) => {}
        Ok(Err(error)) => tracing::debug!(%error, "a connection to the service behind a gate ended: {error}"),
        Err(_) => tracing::debug!("the service behind a gate did not answer a goodbye"),
    }
    drop(counted);
}
