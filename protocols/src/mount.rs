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

/// An exchange and the path that it answers on the HTTP listener.
pub struct Mount {
    /// The exact path.
    pub path: String,
    /// What answers there.
    pub exchange: Arc<dyn Serve>,
}

impl Mount {
    /// Attaches `exchange` to `path`.
    pub fn new(path: impl Into<String>, exchange: impl Exchange) -> Mount {
        Mount { path: path.into(), exchange: Arc::new(exchange) }
    }
}

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
    /// Reads a request.
    fn receive(self: Arc<Self>, now: Timestamp, seed: Seed, request: Request) -> Served;
}

impl<E: Exchange> Serve for E {
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
