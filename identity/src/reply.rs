//! What the core may answer: an [`Outcome`], whose [`Reply`] is the gate's and whose rest is the driver's.
//!
//! Facts and secrets are apart: a [`Principal`] may be kept and published, an [`IssuedToken`] is told once to whoever asked.

use std::sync::Arc;

use crate::account::{AccountSummary, ClientId};
use crate::clock::Timestamp;
use crate::grant::HeldEvents;
use crate::live::Attachment;
use crate::refusal::Refusal;
use crate::scope::Scopes;
use crate::secret::Secret;
use crate::session::SessionId;

/// What `Identity::handle` returns.
#[derive(Debug)]
pub struct Outcome {
    /// For the gate.
    pub reply: Reply,
    /// For the driver: what now ties the connection to its session. It takes the place of an earlier one.
    pub attachment: Option<Attachment>,
    /// For the driver: what others learn once the answer has been handed over.
    pub held: HeldEvents,
}

/// What a gate turns into bytes.
#[derive(Debug)]
pub struct Reply {
    /// What was asked for, or why not.
    pub result: Result<Answer, Refusal>,
}

/// The facts of a grant. Never a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    /// The session that outlives the connection.
    pub session: SessionId,
    /// The user, where there is one; a client that spoke for itself has none.
    pub account: Option<Arc<AccountSummary>>,
    /// The client through which the login came.
    pub client: ClientId,
    /// What was granted.
    pub scopes: Scopes,
    /// The gate's own mark for how scope names are spelled to this peer.
    pub spelling: u8,
    /// When this authentication ends, if it does.
    pub expires_at: Option<Timestamp>,
}

/// A secret told once. Not `Clone`.
#[derive(Debug)]
pub struct IssuedToken {
    /// What it is good for.
    pub kind: TokenKind,
    /// The token's bytes as the gate spelled them: drawn now, or the one presented and given back.
    pub secret: Secret,
    /// When it ends.
    pub expires_at: Option<Timestamp>,
}

/// What a token is good for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenKind {
    /// Restores a session on another connection; rolls at each use.
    Restore,
    /// Goes along to a service behind a gate and tells it who is there: signed, and good for a minute.
    Upstream {
        /// Whoever it is meant for.
        audience: String,
    },
}

/// A token that the core has drawn and a gate is about to spell.
#[derive(Debug)]
pub struct NewToken<'a> {
    /// What it will be good for.
    pub kind: TokenKind,
    /// 256 bits of chance.
    pub random: &'a [u8; 32],
}

/// How a wire writes a token that the core has drawn: a pure function in the gate's `spelling.rs`.
pub type Spell = fn(&NewToken<'_>) -> Secret;

/// The positive answers, one kind for each verb.
#[derive(Debug)]
pub enum Answer {
    /// Answers `Verb::Authenticate` and `Verb::Issue`.
    Granted(Granted),
    /// Answers `Verb::PublicKeys`: a JWK set (RFC 7517 section 5), as JSON.
    PublicKeys(String),
}

/// A grant: facts, and tokens to tell.
#[derive(Debug)]
pub struct Granted {
    /// Who the connection now is.
    pub principal: Principal,
    /// What is told once.
    pub tokens: Vec<IssuedToken>,
}

impl Answer {
    /// The grant. Any other answer to a question that grants would be our own bug, told as `Unavailable`.
    pub fn granted(self) -> Result<Granted, Refusal> {
        match self {
            Answer::Granted(granted) => Ok(granted),
            Answer::PublicKeys(_) => Err(unexpected()),
        }
    }

    /// The keys. As [`Answer::granted`].
    pub fn public_keys(self) -> Result<String, Refusal> {
        match self {
            Answer::PublicKeys(keys) => Ok(keys),
            Answer::Granted(_) => Err(unexpected()),
        }
    }
}

fn unexpected() -> Refusal {
    tracing::error!("the core has answered another question than was asked");
    Refusal::Unavailable
}

/// What befalls an attached connection, without its asking. Never carries a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The grant stands, with other facts.
    Changed(Principal),
    /// The core no longer holds this connection as authenticated. What the socket does is the gate's choice.
    Detached(Reason),
}

/// Why a session ended, or a connection lost it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Its time was over.
    Expired,
    /// Somebody ended it, or the account or client behind it may no longer come in.
    Revoked,
    /// A newer login of the same account took its place.
    Displaced,
}

impl Reason {
    /// The word that store, audit and operators use.
    pub const fn word(self) -> &'static str {
        match self {
            Reason::Expired => "expired",
            Reason::Revoked => "revoked",
            Reason::Displaced => "displaced",
        }
    }

    /// The reason that [`Reason::word`] names.
    pub fn parse(word: &str) -> Option<Reason> {
        [Reason::Expired, Reason::Revoked, Reason::Displaced].into_iter().find(|reason| reason.word() == word)
    }
}
