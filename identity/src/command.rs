//! What a peer may ask of the core: [`Command`], in a [`Context`] that the driver fills.
//!
//! No wire's words appear here. A gate parses its own messages into these; the core decides by them alone.

use std::net::IpAddr;
use std::time::Instant;

use crate::account::Rights;
use crate::credential::Credential;
use crate::register::Profile;
use crate::reply::TokenKind;
use crate::scope::{Right, ScopeRequest};
use crate::terminal::{NewProtection, TerminalName, TerminalRole};

/// Identifies one connection for as long as the process runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u64);

/// The other end of a socket, as the listener knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Where it speaks from.
    pub address: IpAddr,
    /// Whether nobody on the way could read or change what it says.
    pub secure: bool,
}

/// Where a command comes from. Filled by the driver, never by a gate.
#[derive(Clone, Debug)]
pub struct Context {
    /// The gate's name: its settings, its label in the audit, its spelling of tokens.
    pub gate: &'static str,
    /// The other end.
    pub peer: Peer,
    /// The terminal whose listener accepted the connection; none elsewhere.
    pub terminal: Option<TerminalName>,
    /// The connection that will hold what is granted; none for a plain request.
    pub connection: Option<ConnectionId>,
    /// By when the core answers. After it, nothing is granted any more.
    pub deadline: Instant,
}

/// Who speaks, and what they want.
#[derive(Debug)]
pub struct Command {
    /// What is shown besides the credential that the verb is about, in the order in which it counts: a client's own id and
    /// secret; the cookie that a login takes the place of; for other verbs, whatever says who speaks.
    pub presented: Vec<Credential>,
    /// What is wanted.
    pub verb: Verb,
}

/// The closed list of what may be wanted. A new verb is an ADR.
#[derive(Debug)]
pub enum Verb {
    /// Prove who you are and hold a session. Answered by `Answer::Granted`.
    Authenticate {
        /// The provider's name as the peer wrote it. `None`: whichever provider takes this credential first.
        provider: Option<ProviderName>,
        /// What is to be proved.
        credential: Credential,
        /// What is to be granted.
        request: GrantRequest,
    },
    /// Step down to a role of the terminal's, by what the connection holds; the new grant ends when the old one would have.
    /// Answered by `Answer::Granted`.
    Narrow(TerminalRole),
    /// Tokens for whoever is presented, else for whoever the connection holds; of a kind that is signed, or a terminal's. Answered by
    /// `Answer::Granted`.
    Issue {
        /// Which.
        kinds: Vec<TokenKind>,
        /// Of which only the binding is looked at: with [`Binding::TokenCookies`], a session whose cookie is presented ends.
        request: GrantRequest,
    },
    /// Who speaks: whoever is presented, else whoever the connection holds. Answered by `Answer::Granted`, without tokens.
    WhoAmI,
    /// Ends the sessions that are presented, else the one that the connection holds. Whoever has none is signed out as well.
    /// Answered by `Answer::Done`.
    Logout,
    /// Ends tokens of the terminal, and nobody's connection. Answered by `Answer::Done`.
    Revoke(Target),
    /// How the terminal is protected, as far as the connection may know. Answered by `Answer::Protection`.
    Protection,
    /// Protect a role of the terminal otherwise. Answered by `Answer::ProtectionSet`.
    SetProtection {
        /// Whose.
        of: TerminalRole,
        /// How.
        to: NewProtection,
    },
    /// An account for somebody who has none. Answered by `Answer::Registered`.
    Register {
        /// Who they are.
        profile: Box<Profile>,
        /// What they are to be granted at once, if anything.
        request: Option<GrantRequest>,
    },
    /// Gives rights to an account, and takes others. Answered by `Answer::Rights`: all that it has then.
    ChangeRights {
        /// The name or address of the account.
        account: String,
        /// What it is given.
        add: Rights,
        /// What is taken from it.
        remove: Rights,
        /// What whoever speaks must have to do so.
        right: Right,
    },
    /// The API keys of whoever speaks. Answered by `Answer::ApiKeys`.
    ApiKeys {
        /// For this environment.
        environment: String,
        /// A new one in the place of those there are.
        renew: bool,
    },
    /// The keys with which others verify what is signed here. Answered by `Answer::PublicKeys`.
    PublicKeys,
}

/// Which tokens of a terminal are to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// All of them; an administrator's wish.
    Everything,
    /// Those for drawing over pictures, since another picture begins.
    Pictures,
}

/// What a login asks for.
#[derive(Clone, Debug)]
pub struct GrantRequest {
    /// Which scopes. A token's session was asked for some already; there this is not looked at.
    pub scope: ScopeRequest,
    /// The role on a terminal that was asked for by name.
    pub role: Option<TerminalRole>,
    /// What will hold the session at the peer's end.
    pub binding: Binding,
    /// The gate's own mark for how the peer spells scope names. The core keeps it with the session and gives it back in
    /// `Principal::spelling`, so that a restored session is told in the words it was asked for. `None`: as the session
    /// already has it.
    pub spelling: Option<u8>,
}

/// What will hold the session at the peer's end; decides which tokens are drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Binding {
    /// One connection, and a token that restores it on another.
    Connection,
    /// A cookie: the same text until the session's own end, which is later where the peer asked to be remembered.
    Cookie {
        /// Whether it did.
        remember: bool,
    },
    /// An access and a refresh token, and no session: that of a cookie which is presented ends.
    TokenCookies,
    /// An access and a refresh token, and a session's cookie beside them.
    Tokens {
        /// As of [`Binding::Cookie`].
        remember: bool,
    },
    /// Nothing: what was proved is good for this one request.
    Request,
}

impl Binding {
    /// Whether what is told takes the place of a cookie, although no session begins.
    pub(crate) fn replaces_cookie(self) -> bool {
        matches!(self, Binding::TokenCookies)
    }
}

/// The name of a provider, as somebody wrote it. Compared by its canonical key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProviderName(pub String);
