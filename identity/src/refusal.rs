//! Every "no" that the core can say, without any wire's words.
//!
//! Each comment names the function that says it, so that whoever saw an answer goes from the wire's `refusal.rs` to here,
//! and from here to the line that decided. A cause is named only to someone who proved the secret.

use std::time::Duration;

/// Why the answer is no.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The secret does not prove the claim, or there is nobody to prove it. Said by `credential.rs` (`Identity::prove`),
    /// after `password.rs` or `token.rs` has compared; and by `caller.rs` (`Core::recognise`) where two proofs name two people.
    InvalidCredentials,
    /// The client is unknown, did not prove itself, or may not be come through. Said by `credential.rs` (`Identity::prove_client`)
    /// and, only after the right secret, by `policy.rs` (`may_come_through`).
    InvalidClient,
    /// The account or client is disabled or has expired. Said by `policy.rs` (`may_enter`), only after the right secret.
    AccountUnavailable,
    /// The account of a refresh token that we have signed, or of an API key, is there no more. Said by `access.rs` (`Core::signed`),
    /// only after its signature has verified, and by `api_key.rs` (`Core::recognise_api_key`).
    AccountGone,
    /// The API key never was anybody's. Said by `api_key.rs` (`Core::recognise_api_key`).
    BelongsToNobody,
    /// The token's, key's or session's time is over. Said by `token.rs` (`standing`) and `api_key.rs` (`ApiKey::standing`).
    Expired,
    /// The token was superseded and came back, or its session was ended, or the grant was redeemed before. Said by `token.rs`
    /// (`standing`), by `live.rs` (`Live::attach`), of an API key that was cancelled by `api_key.rs` (`ApiKey::standing`), and of grants by `credential.rs` (`Identity::prove`) and `grant.rs`
    /// (`Core::commit`).
    Revoked,
    /// A signed token's time has not come. Said by `jwt.rs` (`judge`), only after its signature has verified.
    NotYetValid,
    /// A signed token is meant for somebody else. Said by `jwt.rs` (`judge`), only after its signature has verified.
    WrongAudience,
    /// A signed token names a way to sign that no key of ours has. Said by `access.rs` (`Signed::read`); there is nothing that a
    /// signature could prove.
    WrongAlgorithm {
        /// As the token has it.
        shown: String,
        /// As ours have it.
        expected: &'static str,
    },
    /// This claim of a signed token must say when, and does not. Said by `access.rs` (`Signed::read`), only after its signature has
    /// verified.
    NoMoment(&'static str),
    /// No provider has that name, or it takes no such credential. Said by `provider.rs` (`Providers::find`).
    UnknownProvider,
    /// No attempt of this kind can succeed, whatever is shown. Said by `terminal.rs` (`Facts::consider`).
    MethodNotAllowed,
    /// It is of another plan of the terminal's. Said by `terminal.rs` (`Facts::consider`, `Facts::narrow`, `Facts::change`).
    PlanRequired,
    /// The secret is right, and is that of another role than was asked for. Said by `terminal.rs` (`Comparison::judge`; of a
    /// token `Facts::consider`).
    RoleMismatch,
    /// Scopes were asked for by name and none of them can be granted. Said by `scope.rs` (`resolve`).
    ScopeNotGranted,
    /// A password on a connection that others could read. Said by `policy.rs` (`may_try_password`).
    InsecureTransport,
    /// The session holds as many connections as it may. Said by `session.rs` (`may_attach`).
    TooManySessions,
    /// Whoever asks holds no session, or no longer, and shows nothing that says who they are. Said by `grant.rs`
    /// (`Core::issue_to_holder`) and `caller.rs` (`Core::who_am_i`).
    LoginRequired,
    /// Whoever asks is known, and has not the right to this. Said by `scope.rs` (`Principal::may`), by
    /// `api_key.rs` (`Admin::own_api_keys`) to somebody without an account here, and by `terminal.rs` (`Facts::narrow`,
    /// `Facts::change`).
    NotPermitted,
    /// Too soon after too many failures. Said by `throttle.rs` (`Throttle::admit`).
    TooManyAttempts {
        /// How long to wait before the next attempt is looked at.
        retry_after: Duration,
    },
    /// The queue in front of the hashing threads is longer than a caller should wait. Said by `password.rs`
    /// (`Passwords::verify`).
    Busy {
        /// How long the queue is now, in time.
        retry_after: Duration,
    },
    /// The deadline passed before an answer was there. Said by `lib.rs` (`Identity::handle`).
    TimedOut,
    /// Something that the answer needs is broken. Said by `store.rs` (`From<StoreError>`); the cause is in the log.
    Unavailable,
    /// Whoever would sign up is somebody already. Said by `register.rs` (`Core::sign_up`).
    AlreadySignedIn,
    /// Somebody else has that name or address. Said by `admin.rs`; to peers only where they may sign up.
    AlreadyExists(&'static str),
    /// There is no such account, client or session. Said by `admin.rs`.
    NotFound(&'static str),
    /// What was handed in cannot be kept as it is. Said by `admin.rs`; one sentence each.
    Invalid(Vec<String>),
}

impl Refusal {
    /// Whether it is about what was shown, so that something else that is shown may still do. The others are about the time or
    /// the server: who hears them is to come again, whatever else was shown.
    pub const fn is_about_the_proof(&self) -> bool {
        match self {
            Refusal::InvalidCredentials
            | Refusal::AccountUnavailable
            | Refusal::AccountGone
            | Refusal::BelongsToNobody
            | Refusal::Expired
            | Refusal::Revoked
            | Refusal::NotYetValid
            | Refusal::WrongAudience
            | Refusal::WrongAlgorithm { .. }
            | Refusal::NoMoment(_)
            | Refusal::UnknownProvider
            | Refusal::MethodNotAllowed
            | Refusal::PlanRequired
            | Refusal::RoleMismatch
            | Refusal::InsecureTransport
            | Refusal::ScopeNotGranted => true,
            // Whatever else is shown comes through the same one.
            Refusal::InvalidClient
            | Refusal::TooManySessions
            | Refusal::LoginRequired
            | Refusal::NotPermitted
            | Refusal::TooManyAttempts { .. }
            | Refusal::Busy { .. }
            | Refusal::TimedOut
            | Refusal::Unavailable
            | Refusal::AlreadySignedIn
            | Refusal::AlreadyExists(_)
            | Refusal::NotFound(_)
            | Refusal::Invalid(_) => false,
        }
    }

    /// The word that audit, logs and operators use.
    pub const fn word(&self) -> &'static str {
        match self {
            Refusal::InvalidCredentials => "invalid_credentials",
            Refusal::InvalidClient => "invalid_client",
            Refusal::AccountUnavailable => "account_unavailable",
            Refusal::AccountGone => "account_gone",
            Refusal::BelongsToNobody => "belongs_to_nobody",
            Refusal::Expired => "expired",
            Refusal::Revoked => "revoked",
            Refusal::NotYetValid => "not_yet_valid",
            Refusal::WrongAudience => "wrong_audience",
            Refusal::WrongAlgorithm { .. } => "wrong_algorithm",
            Refusal::NoMoment(_) => "no_moment",
            Refusal::UnknownProvider => "unknown_provider",
            Refusal::MethodNotAllowed => "method_not_allowed",
            Refusal::PlanRequired => "plan_required",
            Refusal::RoleMismatch => "role_mismatch",
            Refusal::ScopeNotGranted => "scope_not_granted",
            Refusal::InsecureTransport => "insecure_transport",
            Refusal::TooManySessions => "too_many_sessions",
            Refusal::LoginRequired => "login_required",
            Refusal::NotPermitted => "not_permitted",
            Refusal::TooManyAttempts { .. } => "too_many_attempts",
            Refusal::Busy { .. } => "busy",
            Refusal::TimedOut => "timed_out",
            Refusal::Unavailable => "unavailable",
            Refusal::AlreadySignedIn => "already_signed_in",
            Refusal::AlreadyExists(_) => "already_exists",
            Refusal::NotFound(_) => "not_found",
            Refusal::Invalid(_) => "invalid",
        }
    }
}
