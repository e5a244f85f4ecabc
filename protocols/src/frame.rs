//! What travels on a socket, and the box that a conversation puts its frames into.
//!
//! Pings, pongs and broken frames are the driver's and the library's business; a conversation sees whole messages only.

use std::collections::VecDeque;

/// A WebSocket close code (RFC 6455 section 7.4, and a gate's own from 4000).
pub type CloseCode = u16;

/// One whole message from the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frame<'a> {
    /// A text message.
    Text(&'a str),
    /// A binary message.
    Binary(&'a [u8]),
}

/// One thing for the driver to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outgoing {
    /// A text frame.
    Text(String),
    /// A binary frame.
    Binary(Vec<u8>),
    /// A close frame, with a reason of at most 123 bytes. Always the last thing.
    Close(CloseCode, &'static str),
}

/// What comes from the service behind the gate, or befalls the connection to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relayed<'a> {
    /// One whole message.
    Frame(Frame<'a>),
    /// The connection is gone, or could not be opened. What was on its way is lost. The driver tries again, with growing
    /// pauses, until it is told to part.
    Lost,
    /// It is open: for the first time, or again.
    Restored,
}

/// One thing to do with the connection to the service behind the gate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Upward {
    /// Send this text, and open the connection first where there is none.
    Forward(String),
    /// End the connection, so that the next forward opens another with the identity held then. Nothing that the old one still
    /// sends is heard any more.
    Part,
}

/// What a conversation wants sent, in order. After a close nothing more is taken.
#[derive(Debug, Default)]
pub struct Outbox {
    queue: VecDeque<Outgoing>,
    upward: VecDeque<Upward>,
    closed: bool,
}

impl Outbox {
    /// Queues a text frame.
    pub fn send(&mut self, text: String) {
        if !self.closed {
            self.queue.push_back(Outgoing::Text(text));
        }
    }

    /// Queues a binary frame.
    pub fn send_binary(&mut self, bytes: Vec<u8>) {
        if !self.closed {
            self.queue.push_back(Outgoing::Binary(bytes));
        }
    }

    /// Passes a text on to the service behind the gate.
    pub fn forward(&mut self, text: String) {
        if !self.closed {
            self.upward.push_back(Upward::Forward(text));
        }
    }

    /// Ends the connection to the service behind the gate.
    pub fn part(&mut self) {
        self.upward.push_back(Upward::Part);
    }

    /// Queues a close frame; the connection ends with it.
    pub fn close(&mut self, code: CloseCode, reason: &'static str) {
        if !self.closed {
            self.queue.push_back(Outgoing::Close(code, reason));
            self.closed = true;
        }
    }

    /// Whether a close has been queued.
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// Whether nothing waits to be sent to the peer.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Gives back the room of an empty queue.
    pub fn give_back(&mut self) {
        if self.queue.is_empty() {
            self.queue = VecDeque::new();
        }
        if self.upward.is_empty() {
            self.upward = VecDeque::new();
        }
    }

    /// Takes what is to be sent next.
    pub fn pop(&mut self) -> Option<Outgoing> {
        self.queue.pop_front()
    }

    /// Takes what is to be done next with the service behind the gate.
    pub fn pop_upward(&mut self) -> Option<Upward> {
        self.upward.pop_front()
    }

    /// Takes what waits for the peer, in order.
    pub fn drain(&mut self) -> std::collections::vec_deque::Drain<'_, Outgoing> {
        self.queue.drain(..)
    }
}

#[cfg(test)]
mod tests {
    use super::{Outbox, Outgoing};

    #[test]
    fn nothing_follows_a_close() {
        let mut out = Outbox::default();
        out.send("a".to_owned());
        out.close(1007, "x");
        out.send("b".to_owned());
        out.close(1000, "y");
        let sent: Vec<_> = out.drain().collect();
        assert_eq!(sent, [Outgoing::Text("a".to_owned()), Outgoing::Close(1007, "x")]);
    }
}
