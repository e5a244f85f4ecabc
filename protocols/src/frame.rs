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
    /// A close frame, with a reason of at most 123 bytes. Always the last thing.
    Close(CloseCode, &'static str),
}

/// What a conversation wants sent, in order. After a close nothing more is taken.
#[derive(Debug, Default)]
pub struct Outbox {
    queue: VecDeque<Outgoing>,
    closed: bool,
}

impl Outbox {
    /// Queues a text frame.
    pub fn send(&mut self, text: String) {
        if !self.closed {
            self.queue.push_back(Outgoing::Text(text));
        }
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

    /// Whether nothing waits to be sent.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Gives back the room of an empty queue.
    pub fn give_back(&mut self) {
        if self.queue.is_empty() {
            self.queue = VecDeque::new();
        }
    }

    /// Takes what is to be sent next.
    pub fn pop(&mut self) -> Option<Outgoing> {
        self.queue.pop_front()
    }

    /// Takes what waits, in order.
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
