//! What we say: bytes to commands, replies to bytes. Sans-IO: no socket, no clock, no chance, no identity.
//!
//! A gate is a folder here and one row in [`GATES`]. It turns what travels into at most one [`Question`] for each message and
//! the [`Reply`] into what travels back. It may ask; it never decides who anybody is. Time and chance come in as data, so
//! that a transcript is exact.

pub mod forward;
pub mod frame;
pub mod http;
pub mod listener;
pub mod mount;
pub mod oauth;
pub mod section;
pub mod servicestack;
pub mod shared;
pub mod trueconf;
mod vouching;
pub mod zenith;

use std::ops::ControlFlow;
use std::time::Duration;

use gatepost_identity::clock::Timestamp;
use gatepost_identity::command::Command;
use gatepost_identity::reply::{Event, Reply, Spell};
use gatepost_identity::scope::ScopeDefinition;

use crate::frame::{CloseCode, Frame, Outbox, Relayed};
use crate::http::{Request, Response};
use crate::listener::Own;
use crate::mount::{Mount, Parts};
use crate::section::{BadSetting, Section, Weakness};

/// Every gate there is. A further one is a folder, its transcripts, and its row here.
pub const GATES: &[Gate] = &[zenith::GATE, oauth::GATE, servicestack::GATE, trueconf::GATE];

/// Whether a terminal takes this text for one of its tokens, whatever it is worth. Such a text is never compared with a secret, so
/// it can be none.
pub fn looks_like_a_terminals_token(text: &str) -> bool {
    trueconf::takes_for_a_token(text)
}

/// One row of the table of gates.
#[derive(Debug)]
pub struct Gate {
    /// Its folder, its section of the settings, its label in the audit.
    pub name: &'static str,
    /// How it writes tokens; none, where it tells none.
    pub spell: Option<Spell>,
    /// The scopes that it knows, in the order in which they are told.
    pub scopes: fn(&Section) -> Result<Vec<ScopeDefinition>, BadSetting>,
    /// Where its exchanges attach on the common listeners. Beside its section it is told where others find this server, where that is
    /// known: an origin in lower case.
    pub mounts: fn(&Section, Option<&str>) -> Result<Vec<Mount>, BadSetting>,
    /// Whether its refresh tokens rotate.
    pub rotates_refresh: fn(&Section) -> Result<bool, BadSetting>,
    /// Whether its peers can speak TLS. Where they cannot, nothing is weaker for passwords that others could read.
    pub knows_tls: bool,
    /// Which of its settings weaken something.
    pub weakens: fn(&Section) -> Result<Vec<Weakness>, BadSetting>,
    /// Which keys of its section stay as they were when the server began, since something rests on them that cannot be exchanged
    /// under it. All others may change while it runs, and hold from the next connection on.
    pub restarts: &'static [&'static str],
    /// What it needs beside those; none, where it needs nothing or nobody has asked for it.
    pub own: fn(&Section) -> Result<Option<Own>, BadSetting>,
}

/// What a message asks of the core: at most one for each message.
#[derive(Debug)]
pub struct Question<P> {
    /// Who speaks and what they want.
    pub command: Command,
    /// What the answer must quote; never a secret.
    pub pending: P,
}

/// `Break`: answered here. `Continue`: ask the core.
pub type Step<P> = ControlFlow<Response, Question<P>>;

/// 16 bytes of chance that the driver hands in with each request.
pub type Seed = [u8; 16];

/// One request, one response. An upgrade to a socket is a response too: [`Response::upgrade`].
pub trait Exchange: Send + Sync + 'static {
    /// What the answer must quote.
    type Pending: Send + 'static;
    /// What a request is made of: itself, unless this gate knows of several requests in one.
    fn parts(&self, request: Request) -> Parts {
        Parts::One(request)
    }
    /// Whether the body of a request to this path is not for the exchange to read, since the request may go on to a service behind
    /// the gate. Then the exchange is handed the request without it.
    fn leaves_body(&self, _path: &str) -> bool {
        false
    }
    /// Reads the request: answers it, or asks.
    fn receive(&self, now: Timestamp, seed: Seed, request: Request) -> Step<Self::Pending>;
    /// Answers the request that asked.
    fn answer(&self, now: Timestamp, pending: Self::Pending, reply: Reply) -> Response;
}

/// The messages of one socket, in order. While a question is pending, the driver calls no more than [`Conversation::notify`],
/// [`Conversation::relayed`] and [`Conversation::remind`].
pub trait Conversation: Send + 'static {
    /// What the answer must quote.
    type Pending: Send + 'static;
    /// Reads one message: answers it into `out`, or asks.
    fn receive(&mut self, now: Timestamp, frame: Frame<'_>, out: &mut Outbox) -> Option<Question<Self::Pending>>;
    /// Answers the message that asked.
    fn answer(&mut self, now: Timestamp, pending: Self::Pending, reply: Reply, out: &mut Outbox);
    /// Learns that the connection holds nothing any more, before it may be told so: others are to be answered first. Until it is
    /// told by [`Conversation::notify`], nothing more is done for it. May be called again and again.
    fn unseat(&mut self, _out: &mut Outbox) {}
    /// Learns what befell the connection without its asking.
    fn notify(&mut self, now: Timestamp, event: Event, out: &mut Outbox);
    /// Learns what comes from the service behind the gate, also while a question is pending. Called only where the upgrade named
    /// such a service.
    fn relayed(&mut self, now: Timestamp, from: Relayed<'_>, out: &mut Outbox);
    /// Does what has become due by [`Limits::due`].
    fn remind(&mut self, now: Timestamp, out: &mut Outbox);
    /// What the driver holds the socket to. Pure; read after every call.
    fn limits(&self) -> Limits;
    /// The server is about to stop: says goodbye with a close.
    fn stop(&mut self, out: &mut Outbox);
}

/// What a driver holds a socket to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How often the server pings.
    pub ping_every: Duration,
    /// How long the peer may be silent, control frames included, and the close code after that.
    pub silence: (Duration, CloseCode),
    /// How long the core may take for the question that was just asked.
    pub answer_within: Duration,
    /// How many bytes may wait for the peer before nothing more is read for it, and for how long anything may wait before the
    /// peer is given up.
    pub unsent: (usize, Duration),
    /// When [`Conversation::remind`] is to be called, if ever; about a second late at most.
    pub due: Option<Timestamp>,
}
