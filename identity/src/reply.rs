//! What the core may answer: an [`Outcome`], whose [`Reply`] is the gate's and whose rest is the driver's.
//!
//! Facts and secrets are apart: a [`Principal`] may be kept and published, an [`IssuedToken`] is told once to whoever asked.

use std::sync::Arc;

use crate::account::{AccountSummary, ClientId, Rights};
use crate::clock::Timestamp;
use crate::command::ProviderName;
use crate::grant::HeldEvents;
use crate::live::Attachment;
use crate::refusal::Refusal;
use crate::scope::Scopes;
use crate::secret::Secret;
use crate::session::SessionId;
use crate::terminal::{NewTerminalToken, Plan, ShownProtection, TerminalRole, TerminalToken};

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

impl Outcome {
    /// A reply that attaches nothing and holds nothing back.
    pub(crate) fn only(result: Result<Answer, Refusal>) -> Outcome {
        Outcome { reply: Reply::of(result), attachment: None, held: HeldEvents::nothing() }
    }

    /// As [`Outcome::only`], with what became of whoever spoke.
    pub(crate) fn told(caller: Caller, result: Result<Answer, Refusal>) -> Outcome {
        Outcome { reply: Reply { caller, result }, attachment: None, held: HeldEvents::nothing() }
    }
}

/// What a gate turns into bytes.
#[derive(Debug)]
pub struct Reply {
    /// What became of whoever spoke, whatever became of the verb. Of a login nothing is said here: it is its own result.
    pub caller: Caller,
    /// What was asked for, or why not.
    pub result: Result<Answer, Refusal>,
}

impl Reply {
    /// A reply that says nothing of who spoke.
    pub fn of(result: Result<Answer, Refusal>) -> Reply {
        Reply { caller: Caller::default(), result }
    }
}

/// What became of what was presented.
#[derive(Debug, Default)]
pub struct Caller {
    /// Who speaks, where somebody was recognised.
    pub principal: Option<Principal>,
    /// What was drawn anew on the way, to be told to whoever spoke.
    pub renewed: Vec<IssuedToken>,
    /// What proved nothing: its place in `Command::presented`, and why.
    pub failed: Vec<(usize, Refusal)>,
}

/// The facts of a grant. Never a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    /// The session that outlives connection or request; none, where what was proved is good for one request only.
    pub session: Option<SessionId>,
    /// The user, where there is one; a client that spoke for itself has none.
    pub account: Option<Arc<AccountSummary>>,
    /// The client through which the login came; none, where what was shown stands for an account by itself.
    pub client: Option<ClientId>,
    /// What was granted.
    pub scopes: Scopes,
    /// What the account may do at the services behind us.
    pub rights: Rights,
    /// The role held on a terminal; there neither account nor client stands behind it.
    pub terminal: Option<TerminalRole>,
    /// The provider that vouches; none, where this server has signed for it itself.
    pub provider: Option<ProviderName>,
    /// How it was proved this time.
    pub method: Method,
    /// The gate's own mark for how scope names are spelled to this peer.
    pub spelling: u8,
    /// When this authentication ends, if it does.
    pub expires_at: Option<Timestamp>,
}

impl Principal {
    /// Whether both are the same in all but when they end.
    pub(crate) fn is_but_for_its_end(&self, other: &Principal) -> bool {
        let Principal { session, account, client, scopes, rights, terminal, provider, method, spelling, expires_at: _ } = self;
        (session, account, client, scopes) == (&other.session, &other.account, &other.client, &other.scopes)
            && (rights, terminal, provider) == (&other.rights, &other.terminal, &other.provider)
            && (method, spelling) == (&other.method, &other.spelling)
    }
}

/// How somebody proved who they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// By a user's password.
    Password,
    /// By a client's own secret: it spoke for itself.
    ClientSecret,
    /// By a code that an operator or another client was given.
    Code,
    /// By a token that restores a session, ours or somebody else's.
    Token,
    /// By a session's cookie.
    Cookie,
    /// By an API key.
    ApiKey,
    /// By the operator's own secret, which is nobody's account.
    OperatorSecret,
    /// By a short secret that opens a terminal.
    Pin,
    /// By nothing: a terminal is open to whoever reaches it.
    Unsecured,
    /// By an access token.
    Access,
    /// By a refresh token.
    Refresh,
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
    /// Speaks for a session with each request; the same until the session ends.
    Cookie {
        /// Whether the peer asked to be remembered.
        remember: bool,
    },
    /// Speaks for a role on a terminal until its own end, or the program's.
    Terminal(TerminalToken),
    /// Speaks for an account with each request: signed, and good until its end.
    Access,
    /// Gets further access tokens: signed.
    Refresh,
    /// Goes along to a service behind a gate and tells it who is there: signed, and good for a minute.
    Upstream {
        /// Whoever it is meant for.
        audience: String,
    },
}

/// A token that a gate is about to spell, with what it may write into it: chance, or facts.
#[derive(Debug)]
pub enum NewToken<'a> {
    /// Of kind [`TokenKind::Restore`]. Its text carries no meaning: the core's record decides.
    Restore {
        /// 256 bits of chance.
        random: &'a [u8; 32],
    },
    /// Of kind [`TokenKind::Cookie`]. As one that restores.
    Cookie {
        /// 256 bits of chance.
        random: &'a [u8; 32],
    },
    /// Of kind [`TokenKind::Terminal`]. As one that restores.
    Terminal(NewTerminalToken<'a>),
    /// Of kind [`TokenKind::Access`]. It carries its meaning, and the core signs it, as `JWT`. When it is shown, the core reads
    /// `sub` (the account's subject), `iat`, `exp`, `nbf`, `aud`, `jti` and `grant_id`, and no more.
    Access {
        /// Whom it speaks for.
        principal: &'a Principal,
        /// Whoever it is meant for; may be nobody in particular.
        audience: &'a [String],
        /// Its number: `jti`. No two have the same.
        number: i64,
        /// Its `iat`: a whole second.
        issued_at: Timestamp,
        /// When it ends.
        expires_at: Timestamp,
        /// What it rests on, where it ends with something: `grant_id`, which the core reads back.
        basis: Option<&'a str>,
    },
    /// Of kind [`TokenKind::Refresh`]. As an access token, but signed as `JWTR`, and its number is below zero.
    Refresh {
        /// Whom it speaks for.
        principal: &'a Principal,
        /// Whoever it is meant for; may be nobody in particular.
        audience: &'a [String],
        /// Its number: `jti`.
        number: i64,
        /// Its `iat`: a whole second.
        issued_at: Timestamp,
        /// When it ends.
        expires_at: Timestamp,
        /// As of an access token.
        basis: Option<&'a str>,
    },
    /// Of kind [`TokenKind::Upstream`]. It carries its meaning, and the core signs it.
    Upstream {
        /// Whoever it is meant for.
        audience: &'a str,
        /// Whoever vouches: this server, as the operator calls it.
        issuer: &'a str,
        /// Who is there.
        principal: &'a Principal,
        /// Now.
        issued_at: Timestamp,
        /// When it ends.
        expires_at: Timestamp,
    },
}

/// How a wire writes a token: a pure function in the gate's `spelling.rs`.
pub type Spell = fn(&NewToken<'_>) -> Spelled;

/// A token as a gate has written it.
#[derive(Debug)]
pub enum Spelled {
    /// All of it.
    Text(Secret),
    /// What a signed one says of itself (`typ` of RFC 7515 section 4.1.9) and what it claims, as JSON. The core signs it.
    Signed {
        /// Its `typ`.
        typ: &'static str,
        /// Its claims (RFC 7519 section 4).
        claims: Vec<u8>,
    },
    /// This gate tells no such token.
    Never,
}

impl Spelled {
    /// The whole token. Claims in its place would be our own bug, told as `Unavailable`.
    pub(crate) fn text(self) -> Result<Secret, Refusal> {
        match self {
            Spelled::Text(text) => Ok(text),
            Spelled::Signed { .. } | Spelled::Never => Err(misspelled()),
        }
    }

    /// The `typ` and the claims of what is to be signed. As [`Spelled::text`].
    pub(crate) fn signed(self) -> Result<(&'static str, Vec<u8>), Refusal> {
        match self {
            Spelled::Signed { typ, claims } => Ok((typ, claims)),
            Spelled::Text(_) | Spelled::Never => Err(misspelled()),
        }
    }
}

fn misspelled() -> Refusal {
    tracing::error!("a gate has spelled a token in another shape than its kind has");
    Refusal::Unavailable
}

/// The positive answers, one kind for each verb.
#[derive(Debug)]
pub enum Answer {
    /// Answers `Verb::Authenticate`, `Verb::Narrow`, `Verb::Issue` and `Verb::WhoAmI`.
    Granted(Granted),
    /// Answers `Verb::Logout` and `Verb::Revoke`.
    Done,
    /// Answers `Verb::Protection`.
    Protection(ShownProtection),
    /// Answers `Verb::SetProtection`.
    ProtectionSet {
        /// The PIN, where one was drawn.
        new_pin: Option<Secret>,
        /// New tokens, where it was the protection of the connection's own role.
        tokens: Vec<IssuedToken>,
    },
    /// Answers `Verb::Register`.
    Registered {
        /// The account that was made.
        account: Arc<AccountSummary>,
        /// What was granted, where that was asked for and could be.
        granted: Option<Granted>,
    },
    /// Answers `Verb::ChangeRights`.
    Rights(Rights),
    /// Answers `Verb::ApiKeys`.
    ApiKeys(Vec<ToldApiKey>),
    /// Answers `Verb::PublicKeys`: a JWK set (RFC 7517 section 5), as JSON.
    PublicKeys(String),
}

/// A grant: facts, and tokens to tell.
#[derive(Debug)]
pub struct Granted {
    /// Who the connection now is. Shared, since gate and core each keep it for as long as the connection lives.
    pub principal: Arc<Principal>,
    /// What is told once.
    pub tokens: Vec<IssuedToken>,
}

/// An API key, as its owner is told of it.
#[derive(Debug)]
pub struct ToldApiKey {
    /// The whole text, where it was just made; it is not told again.
    pub key: Option<Secret>,
    /// Its first letters.
    pub prefix: String,
    /// What it is to be used with.
    pub environment: String,
    /// What kind of key it is.
    pub kind: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it ends, if it does.
    pub expires_at: Option<Timestamp>,
}

impl Answer {
    /// The grant. Any other answer to a question that grants would be our own bug, told as `Unavailable`.
    pub fn granted(self) -> Result<Granted, Refusal> {
        if let Answer::Granted(granted) = self { Ok(granted) } else { Err(unexpected()) }
    }

    /// That it is done. As [`Answer::granted`].
    pub fn done(self) -> Result<(), Refusal> {
        if let Answer::Done = self { Ok(()) } else { Err(unexpected()) }
    }

    /// How a terminal is protected. As [`Answer::granted`].
    pub fn protection(self) -> Result<ShownProtection, Refusal> {
        if let Answer::Protection(protection) = self { Ok(protection) } else { Err(unexpected()) }
    }

    /// The new PIN and the new tokens. As [`Answer::granted`].
    pub fn protection_set(self) -> Result<(Option<Secret>, Vec<IssuedToken>), Refusal> {
        if let Answer::ProtectionSet { new_pin, tokens } = self { Ok((new_pin, tokens)) } else { Err(unexpected()) }
    }

    /// The account that was made, and what was granted beside it. As [`Answer::granted`].
    pub fn registered(self) -> Result<(Arc<AccountSummary>, Option<Granted>), Refusal> {
        if let Answer::Registered { account, granted } = self { Ok((account, granted)) } else { Err(unexpected()) }
    }

    /// The rights. As [`Answer::granted`].
    pub fn rights(self) -> Result<Rights, Refusal> {
        if let Answer::Rights(rights) = self { Ok(rights) } else { Err(unexpected()) }
    }

    /// The API keys. As [`Answer::granted`].
    pub fn api_keys(self) -> Result<Vec<ToldApiKey>, Refusal> {
        if let Answer::ApiKeys(keys) = self { Ok(keys) } else { Err(unexpected()) }
    }

    /// The public keys. As [`Answer::granted`].
    pub fn public_keys(self) -> Result<String, Refusal> {
        if let Answer::PublicKeys(keys) = self { Ok(keys) } else { Err(unexpected()) }
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
    Changed(Arc<Principal>),
    /// The core no longer holds this connection as authenticated. What the socket does is the gate's choice.
    Detached(Reason),
    /// The terminal's plan is now this one; the grant stands.
    Plan(Plan),
}

/// Why a session ended, or a connection lost it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Its time was over.
    Expired,
    /// Somebody ended it, or the account or client behind it may no longer come in.
    Revoked,
    /// A newer login took its place: of the same account, or in the same role of a terminal.
    Displaced,
    /// Its role is not of the terminal's present plan.
    PlanLost,
    /// The administrator's secret was taken away, and the user's with it.
    ProtectionReset,
    /// The secret of its role was changed.
    ProtectionChanged {
        /// Whose.
        of: TerminalRole,
        /// By whom.
        by: TerminalRole,
    },
}

impl Reason {
    /// The word that store, audit and operators use.
    pub const fn word(self) -> &'static str {
        use TerminalRole::{Administrator, User};
        match self {
            Reason::Expired => "expired",
            Reason::Revoked => "revoked",
            Reason::Displaced => "displaced",
            Reason::PlanLost => "plan_lost",
            Reason::ProtectionReset => "protection_reset",
            Reason::ProtectionChanged { of: Administrator, by: Administrator } => "administrators_protection_changed",
            Reason::ProtectionChanged { of: Administrator, by: User } => "administrators_protection_changed_by_user",
            Reason::ProtectionChanged { of: User, by: Administrator } => "users_protection_changed",
            Reason::ProtectionChanged { of: User, by: User } => "users_protection_changed_by_user",
        }
    }

    /// The reason that [`Reason::word`] names.
    pub fn parse(word: &str) -> Option<Reason> {
        let changed = |of| TerminalRole::BOTH.map(|by| Reason::ProtectionChanged { of, by });
        let plain = [Reason::Expired, Reason::Revoked, Reason::Displaced, Reason::PlanLost, Reason::ProtectionReset];
        let all = plain.into_iter().chain(TerminalRole::BOTH.into_iter().flat_map(changed));
        all.into_iter().find(|reason| reason.word() == word)
    }
}
