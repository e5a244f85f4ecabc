//! How this wire says no: one match on the terminal's [`No`], for `auth`, for every other method and for the server for files.
//!
//! `auth` has a code beside its words; other methods have the words alone. The words are for people: short, stable, and without
//! anything that was sent.

use std::time::Duration;

use gatepost_identity::refusal::Refusal;
use http::StatusCode;

/// What a failed `auth` says as a number. The numbers are the published ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Code {
    /// Something is broken, or overloaded. Never said of credentials.
    Internal = 1,
    /// It is of another plan.
    NotPro = 2,
    /// Only an administrator can step down.
    NotAdministrator = 3,
    /// No authorisation of this kind can succeed under the protection that is set.
    WrongProtection = 4,
    /// Another role than was asked for.
    RoleMismatch = 5,
    /// Too many wrong secrets.
    LockedOut = 6,
    /// `credentials` is empty.
    EmptyCredentials = 7,
    /// `credentials` is wrong.
    BadCredentials = 8,
    /// `role` is no role.
    BadRole = 9,
    /// `type` is no type.
    BadType = 10,
    /// `type` is missing.
    NoType = 11,
    /// `credentials` is missing.
    NoCredentials = 12,
}

impl Code {
    /// The words for what is wrong with a request of `auth` before anybody is asked.
    pub(super) fn words(self) -> &'static str {
        match self {
            Code::Internal => "internal error",
            Code::NotPro => "not available under this plan",
            Code::NotAdministrator => "access denied",
            Code::WrongProtection => "this kind of authorization does not fit the protection",
            Code::RoleMismatch => "the privileges obtained are not those of the role",
            Code::LockedOut => "too many wrong attempts, wait",
            Code::EmptyCredentials => "credentials is empty",
            Code::BadCredentials => "wrong credentials",
            Code::BadRole => "invalid role",
            Code::BadType => "invalid type",
            Code::NoType => "type is missing",
            Code::NoCredentials => "credentials is missing",
        }
    }
}

/// A "no" in the words of this wire.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Told {
    /// For `auth`.
    pub(super) code: Code,
    /// For everybody.
    pub(super) words: String,
    /// After how many seconds the same may be tried again, where that is known.
    pub(super) retry_after: Option<u64>,
    /// For the server for files.
    pub(super) status: StatusCode,
}

/// Rounded up, so that a client that waits as told is not too early; at least one.
fn whole_seconds(wait: Duration) -> u64 {
    wait.as_millis().div_ceil(1000).clamp(1, u128::from(u64::MAX)) as u64
}

/// The table. No wildcard arm: a new refusal must be given its words here.
pub(super) fn told(no: &Refusal) -> Told {
    let plain = |code: Code, status| Told { code, words: code.words().to_owned(), retry_after: None, status };
    let worded = |words: &str, told: Told| Told { words: words.to_owned(), ..told };
    match no {
        Refusal::MethodNotAllowed => plain(Code::WrongProtection, StatusCode::UNAUTHORIZED),
        Refusal::PlanRequired => plain(Code::NotPro, StatusCode::UNAUTHORIZED),
        Refusal::RoleMismatch => plain(Code::RoleMismatch, StatusCode::UNAUTHORIZED),
        Refusal::NotPermitted => plain(Code::NotAdministrator, StatusCode::FORBIDDEN),
        Refusal::InvalidCredentials
        | Refusal::InvalidClient
        | Refusal::AccountUnavailable
        | Refusal::AccountGone
        | Refusal::BelongsToNobody
        | Refusal::Expired
        | Refusal::Revoked
        | Refusal::NotYetValid
        | Refusal::WrongAudience
        | Refusal::WrongAlgorithm { .. }
        | Refusal::NoMoment(_)
        | Refusal::UnknownProvider => plain(Code::BadCredentials, StatusCode::UNAUTHORIZED),
        Refusal::LoginRequired => worded("not authorized", plain(Code::NotAdministrator, StatusCode::UNAUTHORIZED)),
        Refusal::TooManyAttempts { retry_after } => {
            Told { retry_after: Some(whole_seconds(*retry_after)), ..plain(Code::LockedOut, StatusCode::TOO_MANY_REQUESTS) }
        }
        Refusal::Busy { retry_after } => Told {
            retry_after: Some(whole_seconds(*retry_after)),
            ..worded("busy, try again", plain(Code::Internal, StatusCode::SERVICE_UNAVAILABLE))
        },
        Refusal::TimedOut => worded("no answer in time", plain(Code::Internal, StatusCode::SERVICE_UNAVAILABLE)),
        Refusal::TooManySessions => worded("too many connections", plain(Code::Internal, StatusCode::SERVICE_UNAVAILABLE)),
        // What cannot be kept as it was handed in; the core's sentences hold nothing that was sent.
        Refusal::Invalid(faults) => worded(&faults.join("; "), plain(Code::Internal, StatusCode::SERVICE_UNAVAILABLE)),
        Refusal::Unavailable => plain(Code::Internal, StatusCode::SERVICE_UNAVAILABLE),
        // The core does not say these to a peer of this gate; if it did, it would be a fault of ours.
        Refusal::ScopeNotGranted
        | Refusal::InsecureTransport
        | Refusal::AlreadySignedIn
        | Refusal::AlreadyExists(_)
        | Refusal::NotFound(_) => plain(Code::Internal, StatusCode::SERVICE_UNAVAILABLE),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_no_has_its_code_its_words_and_its_status() {
        let wait = Duration::from_millis(1001);
        let rows: [(Refusal, u8, &str, Option<u64>, u16); 27] = [
            (Refusal::PlanRequired, 2, "not available under this plan", None, 401),
            (Refusal::NotPermitted, 3, "access denied", None, 403),
            (Refusal::MethodNotAllowed, 4, "this kind of authorization does not fit the protection", None, 401),
            (Refusal::RoleMismatch, 5, "the privileges obtained are not those of the role", None, 401),
            (Refusal::LoginRequired, 3, "not authorized", None, 401),
            (Refusal::TooManyAttempts { retry_after: wait }, 6, "too many wrong attempts, wait", Some(2), 429),
            (Refusal::InvalidCredentials, 8, "wrong credentials", None, 401),
            (Refusal::InvalidClient, 8, "wrong credentials", None, 401),
            (Refusal::AccountUnavailable, 8, "wrong credentials", None, 401),
            (Refusal::AccountGone, 8, "wrong credentials", None, 401),
            (Refusal::BelongsToNobody, 8, "wrong credentials", None, 401),
            (Refusal::Expired, 8, "wrong credentials", None, 401),
            (Refusal::Revoked, 8, "wrong credentials", None, 401),
            (Refusal::NotYetValid, 8, "wrong credentials", None, 401),
            (Refusal::WrongAudience, 8, "wrong credentials", None, 401),
            (Refusal::WrongAlgorithm { shown: "none".to_owned(), expected: "HS256" }, 8, "wrong credentials", None, 401),
            (Refusal::NoMoment("exp"), 8, "wrong credentials", None, 401),
            (Refusal::UnknownProvider, 8, "wrong credentials", None, 401),
            (Refusal::Busy { retry_after: Duration::ZERO }, 1, "busy, try again", Some(1), 503),
            (Refusal::TimedOut, 1, "no answer in time", None, 503),
            (Refusal::Unavailable, 1, "internal error", None, 503),
            (Refusal::TooManySessions, 1, "too many connections", None, 503),
            (Refusal::Invalid(vec!["a".to_owned(), "b".to_owned()]), 1, "a; b", None, 503),
            (Refusal::ScopeNotGranted, 1, "internal error", None, 503),
            (Refusal::AlreadySignedIn, 1, "internal error", None, 503),
            (Refusal::AlreadyExists("x"), 1, "internal error", None, 503),
            (Refusal::NotFound("x"), 1, "internal error", None, 503),
        ];
        for (no, code, words, retry_after, status) in rows {
            let told = told(&no);
            assert_eq!((told.code as u8, &*told.words, told.retry_after, told.status.as_u16()), (code, words, retry_after, status));
        }
    }

    #[test]
    fn broken_or_busy_is_never_told_as_wrong() {
        for no in [Refusal::Unavailable, Refusal::TimedOut, Refusal::Busy { retry_after: Duration::ZERO }] {
            let told = told(&no);
            assert_eq!((told.code, told.status), (Code::Internal, StatusCode::SERVICE_UNAVAILABLE));
        }
    }
}
