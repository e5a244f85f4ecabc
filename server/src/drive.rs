//! The turn of an exchange and the loop of a conversation: the only code that asks the core for a peer.
//!
//! It moves bytes and keeps order. It refuses to know what any message means; the gate does. Each question runs to its end,
//! at once or in a task of its own (`world.rs`), so that a peer that hangs up has still spent its attempt; only its answer may be
//! dropped.
//!
//! ```text
//! socket -> frame -> Talk::receive -> Command -> World::ask -> Identity::handle
//!                                                      |
//! socket <- outbox <- Talk::answer <- Reply <- Outcome-+-> attachment (kept here), held (released once handed over)
//!           outbox <- Talk::notify <- Event <- attachment
//! ```

mod fallen;
mod open;

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context as Waking, Poll};
use std::time::{Duration, Instant};

use futures_util::{Sink, Stream};
use gatepost_identity::clock::{Timestamp, draw};
use gatepost_identity::command::{ConnectionId, Context, Peer};
use gatepost_identity::grant::HeldEvents;
use gatepost_identity::live::Attachment;
use gatepost_identity::reply::Outcome;
use gatepost_identity::terminal::TerminalName;
use gatepost_protocols::frame::{CloseCode, Frame, Outbox, Outgoing, Relayed, Upward};
use gatepost_protocols::http::{Request, Response};
use gatepost_protocols::mount::{Parts, Serve, Served, Talk};
use tokio::io::ReadBuf;
use tokio::sync::oneshot;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::ProtocolError;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Message, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Bytes, Error};

use self::fallen::{FAULT, Fallen};
pub use self::open::Open;
use crate::behind::Behind;
use crate::farewell::Number;
use crate::listen::{Seat, Wire};
use crate::relay::{Came, Via};
use crate::world::{Asked, World};

/// How long an exchange may wait for the core. A socket's conversation sets its own.
const ANSWER_WITHIN: Duration = Duration::from_secs(35);
/// How long a peer has to answer a close.
const CLOSING: Duration = Duration::from_secs(5);
/// After how many frames a batch is sent even while more is coming in.
pub(crate) const BATCH: usize = 32;
/// How much a pong is longer than its payload, in bytes: no control frame has more than 125 (RFC 6455 section 5.5).
pub(crate) const PONG_HEADER: usize = 2;
/// What is read from a socket at a time: small, because every idle connection holds as much.
const READ_BUFFER: usize = 512;
/// From how many bytes on frames are written without waiting for the end of a batch.
const WRITE_BUFFER: usize = 4096;

/// The response to a request, and what goes along with it into a socket.
pub struct Turn {
    /// The response.
    pub response: Response,
    /// What ties the new connection to its session, where the response is an upgrade.
    pub attachment: Option<Attachment>,
    /// The new connection.
    pub connection: ConnectionId,
}

/// Where a request came from, and what it is for.
pub struct Arrived<'a> {
    /// The gate's name.
    pub gate: &'static str,
    /// The terminal whose listener accepted it.
    pub terminal: Option<&'a TerminalName>,
    /// The other end.
    pub peer: Peer,
}

/// One request, one response, also where a gate finds several in it. `None`: the core went away under it.
pub async fn exchange(world: &Arc<World>, arrived: Arrived<'_>, serve: Arc<dyn Serve>, request: Request) -> Option<Turn> {
    let (requests, joining) = match serve.parts(request) {
        Parts::One(request) => return one(world, &arrived, serve, request).await,
        Parts::Several(requests, joining) => (requests, joining),
    };
    let mut responses = Vec::with_capacity(requests.len());
    for request in requests {
        let Turn { response, .. } = one(world, &arrived, Arc::clone(&serve), request).await?;
        let goes_on = response.status.is_success();
        responses.push(response);
        if !goes_on {
            break;
        }
    }
    Some(Turn { response: joining(responses), attachment: None, connection: world.connection() })
}

async fn one(world: &Arc<World>, arrived: &Arrived<'_>, serve: Arc<dyn Serve>, request: Request) -> Option<Turn> {
    let Arrived { gate, terminal, peer } = *arrived;
    let connection = world.connection();
    let upgrade = request.upgrade;
    let now = world.clock.now();
    match serve.receive(now, draw(&*world.entropy), request) {
        Served::Response(response) => Some(Turn { response, attachment: None, connection }),
        Served::Question(command, answering) => {
            let deadline = world.clock.instant() + ANSWER_WITHIN;
            let terminal = terminal.cloned();
            let context = Context { gate, peer, terminal, connection: upgrade.then_some(connection), deadline };
            let Outcome { reply, attachment, held } = world.outcome(command, context).await?;
            let response = answering(world.clock.now(), reply);
            held.release();
            Some(Turn { response, attachment, connection })
        }
    }
}

/// A connection that becomes a socket.
pub(crate) struct Socket {
    /// The world.
    pub world: Arc<World>,
    /// The gate's name.
    pub gate: &'static str,
    /// The terminal whose listener accepted it.
    pub terminal: Option<TerminalName>,
    /// The other end.
    pub peer: Peer,
    /// Which connection it is.
    pub connection: ConnectionId,
    /// What it is attached to already.
    pub attachment: Option<Attachment>,
    /// The places that it holds.
    pub seat: Box<Seat>,
    /// The longest message, in bytes.
    pub max_message: usize,
    /// What talks on it.
    pub talk: Box<dyn Talk>,
    /// What is behind the gate.
    pub behind: Behind,
    /// Counts it, from before the peer learns that it is a socket.
    pub counted: Open,
}

impl Socket {
    /// Talks on `stream` until one side ends it; a future to be spawned by itself, so that an idle connection costs its size and
    /// no more. `read` is what came in behind the request.
    pub(crate) async fn talk<S: Wire>(self, stream: S, read: Bytes) -> impl Future<Output = ()> + Send + use<S> {
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER)
            .write_buffer_size(WRITE_BUFFER)
            .max_write_buffer_size(usize::MAX)
            .max_message_size(Some(self.max_message))
            .max_frame_size(Some(self.max_message));
        // Copied, since it is a piece of the buffer that HTTP was read into, which would otherwise live as long as the socket.
        let stream = WebSocketStream::from_partially_read(stream, read.to_vec(), Role::Server, Some(config)).await;
        let now = self.world.clock.instant();
        if let Some(open) = self.world.open_of(self.gate) {
            open.fetch_add(1, Ordering::Relaxed);
        }
        Talking {
            stream,
            talk: self.talk,
            attachment: self.attachment,
            seat: self.seat,
            pending: None,
            held: Vec::new(),
            outbox: Outbox::default(),
            behind: self.behind,
            ping_due: false,
            phase: Phase::Open,
            number: None,
            unflushed: 0,
            handed_bytes: 0,
            unsent_since: None,
            heard_at: now,
            pinged_at: now,
            wake_at: None,
            peer: self.peer,
            gate: self.gate,
            terminal: self.terminal,
            connection: self.connection,
            world: self.world,
            _counted: self.counted,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Both sides talk.
    Open,
    /// A close was sent; until this moment the peer may answer it.
    Closing { until: Instant },
    /// What comes in can no longer be read as frames. It is thrown away until then, so that the close we sent is not lost
    /// in a reset.
    Draining { until: Instant },
}

/// The loop of one socket, as a future by hand: it is as large as its fields, and every idle connection keeps one.
struct Talking<S: Wire> {
    stream: WebSocketStream<S>,
    talk: Box<dyn Talk>,
    attachment: Option<Attachment>,
    seat: Box<Seat>,
    pending: Option<oneshot::Receiver<Outcome>>,
    /// What others learn once the frames that wait are out; dropped with the socket, it takes back what nobody was told.
    held: Vec<HeldEvents>,
    /// What the conversation wants sent and the socket has not taken yet.
    outbox: Outbox,
    /// What is behind the gate.
    behind: Behind,
    /// Whether a ping is to go out before that.
    ping_due: bool,
    phase: Phase,
    /// When it is told that the server stops, once that does.
    number: Option<Number>,
    /// Frames that the socket has taken and not sent yet.
    unflushed: usize,
    /// How many bytes those are.
    handed_bytes: usize,
    unsent_since: Option<Instant>,
    heard_at: Instant,
    pinged_at: Instant,
    wake_at: Option<Instant>,
    peer: Peer,
    gate: &'static str,
    terminal: Option<TerminalName>,
    connection: ConnectionId,
    world: Arc<World>,
    _counted: Open,
}

/// The socket is over: nothing more can be sent or read.
struct Over;

/// What became of a look at what came in.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reading {
    /// Something was taken in.
    Took,
    /// There is nothing, or nothing is wanted until the core has answered; a waker is registered.
    Waits,
    /// Nothing is taken in until more has gone out.
    HeldBack,
}

impl<S: Wire> Drop for Talking<S> {
    fn drop(&mut self) {
        if let Some(open) = self.world.open_of(self.gate) {
            open.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl<S: Wire> Future for Talking<S> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, waking: &mut Waking<'_>) -> Poll<()> {
        let this = self.get_mut();
        // One conversation's panic ends its socket and nothing else. A second one ends the task.
        let went = catch_unwind(AssertUnwindSafe(|| this.go_on(waking)));
        match went.unwrap_or_else(|_| this.fall().and_then(|()| this.go_on(waking))) {
            Ok(()) => Poll::Pending,
            Err(Over) => {
                this.behind.leave(&this.world, this.world.clock.instant());
                // Over TLS the end is said too (RFC 8446 section 6.1), as far as the socket takes it at once.
                drop(Pin::new(this.stream.get_mut()).poll_shutdown(waking));
                Poll::Ready(())
            }
        }
    }
}

impl<S: Wire> Talking<S> {
    /// Goes on until nothing is ready: `Ok` then waits for a waker.
    fn go_on(&mut self, waking: &mut Waking<'_>) -> Result<(), Over> {
        loop {
            let (instant, now) = (self.world.clock.instant(), self.world.clock.now());
            self.keep_time(instant, now, waking)?;
            // An answer comes before the events: what befell the session after it was given must be heard after it, too. One
            // that brings an attachment leaves the old one's events unheard, since they are about what is over.
            self.hear_outcome(now, waking);
            self.hear_events(now, waking);
            self.pass_on(instant);
            self.hand_over(waking)?;
            let heard = self.hear_service(instant, now, waking);
            self.pass_on(instant);
            let reading = self.read(instant, now, waking)?;
            if heard == Reading::Took || reading == Reading::Took {
                if self.unflushed >= BATCH {
                    self.flush(instant, waking)?;
                }
                continue;
            }
            if self.behind.flush(self.talk.limits().unsent.0, instant, waking) {
                continue;
            }
            let sent = self.flush(instant, waking)?;
            if sent && (heard == Reading::HeldBack || reading == Reading::HeldBack) {
                // What held the reading back is out. Nobody else would look at the socket again.
                continue;
            }
            self.wake_in_time(waking);
            // Most connections are silent most of the time.
            self.outbox.give_back();
            return Ok(());
        }
    }

    /// What befell the session, also while a question is pending.
    fn hear_events(&mut self, now: Timestamp, waking: &mut Waking<'_>) {
        let Some(attachment) = &self.attachment else { return };
        while let Poll::Ready(event) = attachment.poll_next(waking) {
            self.talk.notify(now, event, &mut self.outbox);
        }
    }

    /// The core's answer, if it is there: first its attachment, then the words, then what others may learn.
    fn hear_outcome(&mut self, now: Timestamp, waking: &mut Waking<'_>) {
        let Some(pending) = &mut self.pending else { return };
        let Poll::Ready(outcome) = Pin::new(pending).poll(waking) else { return };
        self.pending = None;
        match outcome {
            Ok(outcome) => self.hear(outcome, now),
            // The question has broken off in a panic. The peer cannot be answered, so it is told that this is our fault.
            Err(_) => self.outbox.close(FAULT.0, FAULT.1),
        }
    }

    /// The conversation has broken off in a panic and is asked nothing more. What it was still to be granted is taken back.
    fn fall(&mut self) -> Result<(), Over> {
        if self.phase != Phase::Open {
            return Err(Over);
        }
        self.talk = Box::new(Fallen);
        (self.attachment, self.pending) = (None, None);
        self.outbox.close(FAULT.0, FAULT.1);
        Ok(())
    }

    fn hear(&mut self, outcome: Outcome, now: Timestamp) {
        let Outcome { reply, attachment, held } = outcome;
        self.heard_at = self.world.clock.instant();
        if !self.is_open() || (!held.is_nothing() && self.stream.get_ref().has_hung_up()) {
            // Nobody is there to be told. What was granted is taken back as it is dropped.
            return;
        }
        if attachment.is_some() {
            self.attachment = attachment;
            self.seat.stranger = None;
        }
        self.talk.answer(now, reply, &mut self.outbox);
        if !held.is_nothing() {
            self.held.push(held);
        }
    }

    /// Hands to the connection to the service behind the gate what the conversation wants done with it.
    fn pass_on(&mut self, instant: Instant) {
        while let Some(upward) = self.outbox.pop_upward() {
            match upward {
                Upward::Part => self.behind.part(&self.world, instant),
                Upward::Forward(text) => {
                    if !self.behind.forward(text, instant) {
                        tracing::error!(gate = self.gate, "a message was passed on to no service");
                    }
                }
            }
        }
    }

    /// Takes in one thing from the service behind the gate, unless the peer has yet to take what came before.
    fn hear_service(&mut self, instant: Instant, now: Timestamp, waking: &mut Waking<'_>) -> Reading {
        if !self.is_open() {
            // Nobody is there to hear it.
            self.behind.leave(&self.world, instant);
            return Reading::Waits;
        }
        let limits = self.talk.limits();
        let hungry = !self.is_unsent() && self.unsent_bytes() <= limits.unsent.0;
        let Talking { world, gate, connection, peer, behind, .. } = self;
        let via = Via { world, gate, connection: *connection, peer: *peer };
        let Some(came) = behind.poll(&via, &limits, hungry, instant, waking) else { return Reading::Waits };
        let Poll::Ready(came) = came else {
            return if hungry { Reading::Waits } else { Reading::HeldBack };
        };
        unseat(self.attachment.as_ref(), &mut *self.talk, &mut self.outbox);
        let relayed = match &came {
            Came::Text(text) => Relayed::Frame(Frame::Text(text)),
            Came::Binary(bytes) => Relayed::Frame(Frame::Binary(bytes)),
            Came::Lost => Relayed::Lost,
            Came::Restored => Relayed::Restored,
        };
        self.talk.relayed(now, relayed, &mut self.outbox);
        Reading::Took
    }

    /// Reads and handles one message.
    fn read(&mut self, instant: Instant, now: Timestamp, waking: &mut Waking<'_>) -> Result<Reading, Over> {
        if let Phase::Draining { .. } = self.phase {
            return self.drain(waking);
        }
        if self.pending.is_some() {
            return Ok(Reading::Waits);
        }
        let (most, _) = self.talk.limits().unsent;
        if self.behind.is_full(most, waking) {
            // The peer is not listened to, so its silence is ours.
            self.heard_at = instant;
            return Ok(Reading::Waits);
        }
        // An answer that has not gone out yet holds back what others learn from it; the next question must not overtake it.
        if self.is_unsent() || self.held.iter().any(HeldEvents::concerns_others) || self.unsent_bytes() > most {
            return Ok(Reading::HeldBack);
        }
        let message = match Pin::new(&mut self.stream).poll_next(waking) {
            Poll::Pending => return Ok(Reading::Waits),
            Poll::Ready(None) => return Err(Over),
            Poll::Ready(Some(Err(error))) => return self.broken(&error, instant).map(|()| Reading::Took),
            Poll::Ready(Some(Ok(message))) => message,
        };
        self.heard_at = instant;
        let frame = match &message {
            Message::Text(text) => Frame::Text(text),
            Message::Binary(bytes) => Frame::Binary(bytes),
            // The library has queued the pong; it goes out with the next flush.
            Message::Ping(payload) => {
                self.unflushed += 1;
                self.handed_bytes += payload.len() + PONG_HEADER;
                return Ok(Reading::Took);
            }
            Message::Pong(_) | Message::Frame(_) => return Ok(Reading::Took),
            Message::Close(_) => {
                // The library has queued the answer. The attachment goes now; the socket when the answer is sent.
                self.unflushed += 1;
                self.attachment = None;
                self.phase = Phase::Closing { until: instant + CLOSING };
                return Ok(Reading::Took);
            }
        };
        if !self.is_open() {
            return Ok(Reading::Took);
        }
        unseat(self.attachment.as_ref(), &mut *self.talk, &mut self.outbox);
        if let Some(command) = self.talk.receive(now, frame, &mut self.outbox) {
            let deadline = instant + self.talk.limits().answer_within;
            let terminal = self.terminal.clone();
            let context = Context { gate: self.gate, peer: self.peer, terminal, connection: Some(self.connection), deadline };
            match self.world.ask(command, context, waking) {
                Asked::Break(outcome) => self.hear(outcome, now),
                Asked::Continue(outcome) => self.pending = Some(outcome),
            }
        }
        Ok(Reading::Took)
    }

    /// What cannot be read as a message gets the close code that RFC 6455 section 7.4.1 has for it.
    fn broken(&mut self, error: &Error, instant: Instant) -> Result<(), Over> {
        let (code, reason): (CloseCode, _) = match error {
            Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => return Err(Over),
            Error::Protocol(_) => (1002, "broken frame"),
            Error::Utf8(_) => (1007, "not UTF-8"),
            Error::Capacity(_) => (1009, "too large"),
            _ => return Err(Over),
        };
        if self.phase != Phase::Open {
            return Err(Over);
        }
        self.outbox.close(code, reason);
        self.phase = Phase::Draining { until: instant + CLOSING };
        Ok(())
    }

    /// Throws away what comes in until the peer has closed, once the close frame is out.
    fn drain(&mut self, waking: &mut Waking<'_>) -> Result<Reading, Over> {
        if self.unflushed > 0 || self.is_unsent() {
            return Ok(Reading::HeldBack);
        }
        let stream = Pin::new(self.stream.get_mut());
        if let Poll::Ready(Err(_)) = stream.poll_shutdown(waking) {
            return Err(Over);
        }
        let mut scratch = [0; 4096];
        let mut buffer = ReadBuf::new(&mut scratch);
        match Pin::new(self.stream.get_mut()).poll_read(waking, &mut buffer) {
            Poll::Pending => Ok(Reading::Waits),
            Poll::Ready(Ok(())) if !buffer.filled().is_empty() => Ok(Reading::Took),
            Poll::Ready(_) => Err(Over),
        }
    }

    /// Hands frames to the socket. One that is blocked keeps what it is given, as much as may wait for this peer.
    fn hand_over(&mut self, waking: &mut Waking<'_>) -> Result<(), Over> {
        while self.is_unsent() {
            match Pin::new(&mut self.stream).poll_ready(waking) {
                Poll::Pending if self.handed_bytes > self.talk.limits().unsent.0 => break,
                Poll::Pending | Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(_)) => return Err(Over),
            }
            let message = if std::mem::take(&mut self.ping_due) {
                Message::Ping(Bytes::new())
            } else {
                match self.outbox.pop() {
                    None => break,
                    Some(Outgoing::Binary(bytes)) => Message::Binary(bytes.into()),
                    Some(Outgoing::Text(text)) => Message::Text(text.into()),
                    Some(Outgoing::Close(code, reason)) => {
                        if self.phase == Phase::Open {
                            self.phase = Phase::Closing { until: self.world.clock.instant() + CLOSING };
                        }
                        Message::Close(Some(CloseFrame { code: code.into(), reason: reason.into() }))
                    }
                }
            };
            self.handed_bytes += message.len();
            self.unflushed += 1;
            // After a close of the peer's nothing can be sent; the socket ends with its answer.
            Pin::new(&mut self.stream).start_send(message).map_err(|_| Over)?;
        }
        Ok(())
    }

    /// Whether both sides talk, and no close waits to be sent.
    fn is_open(&self) -> bool {
        self.phase == Phase::Open && !self.outbox.is_closed()
    }

    fn is_unsent(&self) -> bool {
        self.ping_due || !self.outbox.is_empty()
    }

    /// Sends what waits. `true`: all of it is out.
    fn flush(&mut self, instant: Instant, waking: &mut Waking<'_>) -> Result<bool, Over> {
        self.hand_over(waking)?;
        if self.unflushed == 0 && !self.is_unsent() {
            self.release();
            return Ok(true);
        }
        match Pin::new(&mut self.stream).poll_flush(waking) {
            Poll::Ready(Ok(())) => {
                (self.unflushed, self.handed_bytes) = (0, 0);
                self.unsent_since = None;
                let sent = !self.is_unsent();
                if sent {
                    self.release();
                }
                Ok(sent)
            }
            // The connection is closed in good order: our close was answered, or theirs was.
            Poll::Ready(Err(_)) => Err(Over),
            Poll::Pending => {
                self.unsent_since.get_or_insert(instant);
                Ok(false)
            }
        }
    }

    /// The last answer has been handed over.
    fn release(&mut self) {
        for held in std::mem::take(&mut self.held) {
            held.release();
        }
    }

    fn unsent_bytes(&self) -> usize {
        if self.unsent_since.is_some() { self.handed_bytes } else { 0 }
    }

    /// Does what is due by the clock.
    fn keep_time(&mut self, instant: Instant, now: Timestamp, waking: &Waking<'_>) -> Result<(), Over> {
        if self.unsent_since.is_some_and(|since| instant >= since + self.talk.limits().unsent.1) {
            return Err(Over);
        }
        match self.phase {
            Phase::Closing { until } | Phase::Draining { until } if instant >= until => return Err(Over),
            Phase::Closing { .. } | Phase::Draining { .. } => return Ok(()),
            Phase::Open => {}
        }
        // While a question is pending nothing is read, so the peer's silence is ours; and its answer goes out before a goodbye.
        let asked = self.pending.is_some();
        if self.world.farewell.has_begun() {
            let number = *self.number.get_or_insert_with(|| self.world.farewell.draw());
            if self.world.farewell.poll_called(number, waking) && !asked {
                self.talk.stop(&mut self.outbox);
                return Ok(());
            }
        }
        let limits = self.talk.limits();
        if limits.due.is_some_and(|due| now >= due) {
            self.talk.remind(now, &mut self.outbox);
        }
        let (silence, code) = limits.silence;
        if !asked && instant >= self.heard_at + silence {
            self.outbox.close(code, "silent");
        } else if instant >= self.pinged_at + limits.ping_every {
            self.pinged_at = instant;
            self.ping_due = true;
        }
        Ok(())
    }

    /// Makes sure to be polled when something is due by the clock.
    fn wake_in_time(&mut self, waking: &mut Waking<'_>) {
        let limits = self.talk.limits();
        let mut due = match self.phase {
            Phase::Open => (self.heard_at + limits.silence.0).min(self.pinged_at + limits.ping_every),
            Phase::Closing { until } | Phase::Draining { until } => until,
        };
        if let Some(since) = self.unsent_since {
            due = due.min(since + limits.unsent.1);
        }
        let (instant, now) = (self.world.clock.instant(), self.world.clock.now());
        if let Some(reminder) = limits.due {
            due = due.min(instant + reminder.since(now));
        }
        if let Some(service) = self.behind.due(&limits) {
            due = due.min(service);
        }
        let registered = self.wake_at.filter(|&at| at > instant);
        if registered.is_none_or(|at| at > due + Duration::from_secs(1)) {
            self.wake_at = Some(self.world.wheel.wake_at(due, waking.waker()));
        }
        let farewell = &self.world.farewell;
        let called = || self.number.is_none_or(|number| farewell.is_called(number));
        if self.is_open() && self.pending.is_none() && farewell.has_begun() && called() {
            // The server began to stop after this turn had looked, and perhaps before the wheel knew of us; or it was our turn.
            waking.waker().wake_by_ref();
        }
    }
}

/// Lets nobody go on who holds nothing any more. They are told why once whoever took it from them has been answered, which may be
/// long after.
fn unseat(attachment: Option<&Attachment>, talk: &mut dyn Talk, outbox: &mut Outbox) {
    if attachment.is_some_and(Attachment::is_over) {
        talk.unseat(outbox);
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpStream;
    use tokio_rustls::server::TlsStream;

    use super::*;

    #[test]
    fn a_socket_that_says_nothing_costs_little() {
        let (plain, tls) = (size_of::<Talking<TcpStream>>(), size_of::<Talking<TlsStream<TcpStream>>>());
        assert!(plain <= 768, "{plain} bytes");
        assert!(tls <= 1984, "{tls} bytes over TLS");
    }
}
