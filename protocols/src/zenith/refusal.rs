//! How this wire says no: one match on [`Refusal`], for frames and for the handshake both.
//!
//! "Reject" means that the credentials were refused for good, so that a client stops offering them. Everything that may
//! be otherwise in a minute is an error code, or a status other than 403.

use std::time::Duration;

use gatepost_identity::refusal::Refusal;
use http::header::{RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, StatusCode};

use crate::http::Response;

/// A "no" on an open connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Told {
    /// The request's ordinary answer, with the word for a refusal as its result.
    Reject,
    /// An error action with this code (appendix D of the published documents).
    Error(&'static str),
}

/// How a refusal is told on an open connection.
pub(super) fn told(refusal: &Refusal) -> Told {
    say(refusal).0
}

/// How a refusal is told to an upgrade request.
pub(super) fn response(refusal: &Refusal) -> Response {
    let (_, status, hint) = say(refusal);
    let response = Response::empty(status);
    match hint {
        Hint::None => response,
        Hint::OtherCredentials => response.with(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer error=\"invalid_token\"")),
        Hint::Later(wait) => response.with(RETRY_AFTER, HeaderValue::from(whole_seconds(wait))),
    }
}

/// What may help whoever was refused, beside the status.
enum Hint {
    None,
    /// The credentials themselves are no good.
    OtherCredentials,
    /// The same may be tried again after this wait.
    Later(Duration),
}

/// Rounded up, so that a client that waits as told is not too early; at least one.
fn whole_seconds(wait: Duration) -> u64 {
    wait.as_millis().div_ceil(1000).clamp(1, u128::from(u64::MAX)) as u64
}

/// The table. No wildcard arm: a new refusal must be given its words here.
fn say(refusal: &Refusal) -> (Told, StatusCode, Hint) {
    const FORBIDDEN: StatusCode = StatusCode::FORBIDDEN;
    const UNAVAILABLE: StatusCode = StatusCode::SERVICE_UNAVAILABLE;
    match refusal {
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
        | Refusal::UnknownProvider => (Told::Reject, FORBIDDEN, Hint::OtherCredentials),
        // A good credential, which is worth nothing here: a client must not be told to throw it away.
        Refusal::ScopeNotGranted
        | Refusal::InsecureTransport
        | Refusal::MethodNotAllowed
        | Refusal::PlanRequired
        | Refusal::RoleMismatch => (Told::Reject, FORBIDDEN, Hint::None),
        Refusal::TooManySessions => (Told::Error("Session"), FORBIDDEN, Hint::None),
        // Nothing was presented, or it was good, so nothing is to be thrown away.
        Refusal::LoginRequired | Refusal::NotPermitted => (Told::Error("Authority"), FORBIDDEN, Hint::None),
        Refusal::TooManyAttempts { retry_after } => {
            (Told::Error("Limited"), StatusCode::TOO_MANY_REQUESTS, Hint::Later(*retry_after))
        }
        Refusal::Busy { retry_after } => (Told::Error("Limited"), UNAVAILABLE, Hint::Later(*retry_after)),
        Refusal::TimedOut => (Told::Error("Operation.Timeout"), UNAVAILABLE, Hint::None),
        Refusal::Unavailable => (Told::Error("Fault"), UNAVAILABLE, Hint::None),
        // The core does not say these to a peer of this gate; if it did, it would be a fault of ours.
        Refusal::AlreadySignedIn | Refusal::AlreadyExists(_) | Refusal::NotFound(_) | Refusal::Invalid(_) => {
            (Told::Error("Fault"), UNAVAILABLE, Hint::None)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_definite_no_is_a_reject_and_a_403() {
        let wait = Duration::from_millis(1001);
        let rows = [
            (Refusal::InvalidCredentials, Told::Reject, 403, None),
            (Refusal::InvalidClient, Told::Reject, 403, None),
            (Refusal::AccountUnavailable, Told::Reject, 403, None),
            (Refusal::AccountGone, Told::Reject, 403, None),
            (Refusal::BelongsToNobody, Told::Reject, 403, None),
            (Refusal::Expired, Told::Reject, 403, None),
            (Refusal::Revoked, Told::Reject, 403, None),
            (Refusal::NotYetValid, Told::Reject, 403, None),
            (Refusal::WrongAudience, Told::Reject, 403, None),
            (Refusal::WrongAlgorithm { shown: "none".to_owned(), expected: "HS256" }, Told::Reject, 403, None),
            (Refusal::NoMoment("exp"), Told::Reject, 403, None),
            (Refusal::UnknownProvider, Told::Reject, 403, None),
            (Refusal::ScopeNotGranted, Told::Reject, 403, None),
            (Refusal::InsecureTransport, Told::Reject, 403, None),
            (Refusal::MethodNotAllowed, Told::Reject, 403, None),
            (Refusal::PlanRequired, Told::Reject, 403, None),
            (Refusal::RoleMismatch, Told::Reject, 403, None),
            (Refusal::TooManySessions, Told::Error("Session"), 403, None),
            (Refusal::LoginRequired, Told::Error("Authority"), 403, None),
            (Refusal::NotPermitted, Told::Error("Authority"), 403, None),
            (Refusal::TooManyAttempts { retry_after: wait }, Told::Error("Limited"), 429, Some("2")),
            (Refusal::Busy { retry_after: Duration::ZERO }, Told::Error("Limited"), 503, Some("1")),
            (Refusal::TimedOut, Told::Error("Operation.Timeout"), 503, None),
            (Refusal::Unavailable, Told::Error("Fault"), 503, None),
            (Refusal::AlreadySignedIn, Told::Error("Fault"), 503, None),
            (Refusal::AlreadyExists("name"), Told::Error("Fault"), 503, None),
            (Refusal::NotFound("client"), Told::Error("Fault"), 503, None),
            (Refusal::Invalid(Vec::new()), Told::Error("Fault"), 503, None),
        ];
        for (refusal, frame, status, retry) in rows {
            assert_eq!(told(&refusal), frame, "{refusal:?}");
            let response = response(&refusal);
            assert_eq!(response.status, status, "{refusal:?}");
            assert_eq!(response.headers.get(RETRY_AFTER).map(|value| value.to_str().unwrap()), retry, "{refusal:?}");
            use Refusal::{InsecureTransport, LoginRequired, NotPermitted, ScopeNotGranted, TooManySessions};
            use Refusal::{MethodNotAllowed, PlanRequired, RoleMismatch};
            let good_and_worth_nothing = matches!(
                refusal,
                ScopeNotGranted | InsecureTransport | MethodNotAllowed | PlanRequired | RoleMismatch | NotPermitted
            );
            let credential_is_no_matter = good_and_worth_nothing || matches!(refusal, TooManySessions | LoginRequired);
            let challenged = response.headers.contains_key(WWW_AUTHENTICATE);
            assert_eq!(challenged, status == 403 && !credential_is_no_matter, "{refusal:?}");
        }
    }
}
