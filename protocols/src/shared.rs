//! A service behind a gate that all connections of a listener share, over one connection of ours.
//!
//! Somebody must log in on it, know whose answer is whose, and see when we are turned away. That is the gate's business, and this is
//! what it offers for it; to open the connection, to try again and to move bytes is the driver's.

use std::path::PathBuf;
use std::time::Duration;

use gatepost_identity::command::ConnectionId;
use gatepost_identity::secret::Secret;

use crate::Limits;

/// Who speaks for everybody on the one connection. One owner lives as long as the server; the connections come and go under it.
pub trait Multiplexer: Send + 'static {
    /// The connection is open. Says the first thing, with what the operator keeps for it: who we are.
    fn opened(&mut self, secret: Option<&Secret>) -> String;
    /// What a conversation passes on, as the service is to get it. `None`: it is nothing that a conversation passes on.
    fn forward(&mut self, from: ConnectionId, text: &str) -> Option<String>;
    /// A text of the service's.
    fn heard(&mut self, text: &str) -> Heard;
    /// The connection is over. Nothing that was on its way comes back.
    fn lost(&mut self);
    /// A peer is gone. What was on its way to it is nobody's.
    fn gone(&mut self, who: ConnectionId);
}

/// What a text of the service's comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// It is for nobody.
    Nothing,
    /// We are let in. From now on conversations may pass things on.
    Admitted,
    /// We are not let in, or not any more. The connection is to end.
    TurnedAway {
        /// Why, as a sentence for the operator, without anything secret.
        why: String,
        /// When to come back.
        again: Again,
    },
    /// This is for this connection.
    One(ConnectionId, String),
    /// It is for every connection, as it came. Each conversation decides what its peer may see.
    Everybody,
}

/// When to come back to a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Again {
    /// As after any loss: soon, and later with each further failure.
    Soon,
    /// No sooner than this, since whoever knocks more often is locked out; at once where the operator has changed the secret.
    After(Duration),
}

/// A service that connections share.
pub struct SharedService {
    /// The setting that names it, as in `terminals[0].upstream`.
    pub setting: String,
    /// The listener whose connections share it, by its place in the list.
    pub listener: usize,
    /// Where it is: `ws://host:port/path`.
    pub address: http::Uri,
    /// The file with what it wants to be shown. Read each time that the connection is opened.
    pub secret_file: Option<PathBuf>,
    /// The longest message that it may send, in bytes; after a longer one the connection is given up.
    pub max_message: usize,
    /// What the connection is held to. `answer_within`: how long it may take to let us in.
    pub limits: Limits,
    /// Who speaks for everybody.
    pub owner: Box<dyn Multiplexer>,
}
