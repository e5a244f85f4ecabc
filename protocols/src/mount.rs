//! Where an exchange attaches, and the one place where the types of gates are erased for the driver.
//!
//! What is pending stays behind the erasure: with a conversation in its wrapper, since it asks one thing at a time; with an
//! exchange in the closure that answers.

use std::sync::Arc;

use gatepost_identity::clock::Timestamp;
use gatepost_identity::command::Command;
use gatepost_identity::reply::{Event, Reply};

use crate::frame::{Frame, Outbox, Relayed};
use crate::http::{Request, Response};
use crate::{Conversation, Exchange, Limits, Question, Seed};

/// An exchange and the paths that it answers on the HTTP listener.
#[derive(Clone)]
pub struct Mount {
    /// Which.
    pub at: At,
    /// The longest body that is read for it, in bytes. A longer one is answered 413 before the exchange hears of the request. Where the
    /// exchange leaves the body to a service, nothing is read.
    pub max_body: usize,
    /// What answers there.
    pub exchange: Arc<dyn Serve>,
}

/// Which paths a mount answers. An exact one comes before any that others stand below, and a longer one of these before a shorter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum At {
    /// This path.
    Exactly(String),
    /// Every path that begins so: an empty text, or one that begins with a slash and does not end with one.
    Below(String),
}

impl At {
    /// How well it fits a path; `None`: not at all.
    fn fits(&self, path: &str) -> Option<usize> {
        match self {
            At::Exactly(exact) => (exact == path).then_some(usize::MAX),
            At::Below(start) => {
                path.strip_prefix(&**start).filter(|rest| rest.is_empty() || rest.starts_with('/')).map(|_| start.len())
            }
        }
    }
}

impl Mount {
    /// Attaches `exchange`, which reads no body, to `path`.
    pub fn new(path: impl Into<String>, exchange: impl Exchange) -> Mount {
        Mount { at: At::Exactly(path.into()), max_body: 0, exchange: Arc::new(exchange) }
    }

    /// Attaches `exchange` to every path below `start`, and reads bodies of up to `max_body` bytes for it.
    pub fn below(start: impl Into<String>, max_body: usize, exchange: impl Exchange) -> Mount {
        Mount { at: At::Below(start.into()), max_body, exchange: Arc::new(exchange) }
    }

    /// The mount among these that a path belongs to.
    pub fn find<'a, T>(mounts: &'a [T], path: &str, of: impl Fn(&'a T) -> &'a Mount) -> Option<&'a T> {
        let fitting = mounts.iter().filter_map(|one| of(one).at.fits(path).map(|fits| (fits, one)));
        fitting.max_by_key(|(fits, _)| *fits).map(|(_, one)| one)
    }
}

/// What a request is made of.
pub enum Parts {
    /// Itself.
    One(Request),
    /// Several, to be served one after the other up to the first whose answer is no success; the closure makes one response of
    /// theirs.
    Several(Vec<Request>, Joining),
}

/// Makes one response of several.
pub type Joining = Box<dyn FnOnce(Vec<Response>) -> Response + Send>;

/// What became of a request so far.
pub enum Served {
    /// Answered by the gate alone.
    Response(Response),
    /// The core is to be asked; the closure turns its reply into the response.
    Question(Command, Answering),
}

/// Turns the core's reply into the response.
pub type Answering = Box<dyn FnOnce(Timestamp, Reply) -> Response + Send>;

/// [`Exchange`] without its types.
pub trait Serve: Send + Sync + 'static {
    /// What a request is made of.
    fn parts(&self, request: Request) -> Parts;
    /// Whether it leaves the body of a request to this path to a service behind the gate.
    fn leaves_body(&self, path: &str) -> bool;
    /// Reads a request.
    fn receive(self: Arc<Self>, now: Timestamp, seed: Seed, request: Request) -> Served;
}

impl<E: Exchange> Serve for E {
    fn parts(&self, request: Request) -> Parts {
        Exchange::parts(self, request)
    }

    fn leaves_body(&self, path: &str) -> bool {
        Exchange::leaves_body(self, path)
    }

    fn receive(self: Arc<Self>, now: Timestamp, seed: Seed, request: Request) -> Served {
        match Exchange::receive(&*self, now, seed, request) {
            std::ops::ControlFlow::Break(response) => Served::Response(response),
            std::ops::ControlFlow::Continue(Question { command, pending }) => {
                Served::Question(command, Box::new(move |now, reply| self.answer(now, pending, reply)))
            }
        }
    }
}

/// [`Conversation`] without its types.
pub trait Talk: Send + 'static {
    /// Reads a message. Not to be called while its last question has no answer.
    fn receive(&mut self, now: Timestamp, frame: Frame<'_>, out: &mut Outbox) -> Option<Command>;
    /// Answers the message that asked.
    fn answer(&mut self, now: Timestamp, reply: Reply, out: &mut Outbox);
    /// Learns that the connection holds nothing any more, before it is told so.
    fn unseat(&mut self, out: &mut Outbox);
    /// Learns an event.
    fn notify(&mut self, now: Timestamp, event: Event, out: &mut Outbox);
    /// Learns what comes from the service behind the gate.
    fn relayed(&mut self, now: Timestamp, from: Relayed<'_>, out: &mut Outbox);
    /// Does what is due.
    fn remind(&mut self, now: Timestamp, out: &mut Outbox);
    /// What the driver holds the socket to.
    fn limits(&self) -> Limits;
    /// Says goodbye.
    fn stop(&mut self, out: &mut Outbox);
}

struct Talking<C: Conversation> {
    conversation: C,
    pending: Option<C::Pending>,
}

/// Erases a conversation's types.
pub(crate) fn talk(conversation: impl Conversation) -> Box<dyn Talk> {
    Box::new(Talking { conversation, pending: None })
}

impl<C: Conversation> Talk for Talking<C> {
    fn receive(&mut self, now: Timestamp, frame: Frame<'_>, out: &mut Outbox) -> Option<Command> {
        debug_assert!(self.pending.is_none(), "the driver waits for the answer before it hands in the next message");
        let Question { command, pending } = self.conversation.receive(now, frame, out)?;
        self.pending = Some(pending);
        Some(command)
    }

    fn answer(&mut self, now: Timestamp, reply: Reply, out: &mut Outbox) {
        if let Some(pending) = self.pending.take() {
            self.conversation.answer(now, pending, reply, out);
        }
    }

    fn unseat(&mut self, out: &mut Outbox) {
        self.conversation.unseat(out);
    }

    fn notify(&mut self, now: Timestamp, event: Event, out: &mut Outbox) {
        self.conversation.notify(now, event, out);
    }

    fn relayed(&mut self, now: Timestamp, from: Relayed<'_>, out: &mut Outbox) {
        self.conversation.relayed(now, from, out);
    }

    fn remind(&mut self, now: Timestamp, out: &mut Outbox) {
        self.conversation.remind(now, out);
    }

    fn limits(&self) -> Limits {
        self.conversation.limits()
    }

    fn stop(&mut self, out: &mut Outbox) {
        self.conversation.stop(out);
    }
}

#[cfg(test)]
mod tests {
    use super::At;

    #[test]
    fn the_narrowest_mount_answers() {
        let check = |at: At, path: &str, expected| assert_eq!(at.fits(path), expected, "{at:?} {path}");
        let below = |start: &str| At::Below(start.to_owned());
        check(At::Exactly("/Zenith".to_owned()), "/Zenith", Some(usize::MAX));
        check(At::Exactly("/Zenith".to_owned()), "/Zenith/", None);
        check(below(""), "/", Some(0));
        check(below(""), "/auth", Some(0));
        check(below("/api"), "/api", Some(4));
        check(below("/api"), "/api/x", Some(4));
        check(below("/api"), "/apis", None);
        check(below("/api"), "/", None);
    }
}
