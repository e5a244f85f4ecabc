//! Each "no" of the core in this wire's words. No wildcard arm: a new refusal must be given its words here.

use gatepost_identity::refusal::Refusal;

use crate::servicestack::failure::Failure;
use crate::servicestack::response::FieldError;

/// The words for a refusal. `about` is the name that was asked for, of a provider or of a user, for the sentence about it.
pub(super) fn failure<'a>(refusal: &Refusal, about: &'a str) -> Failure<'a> {
    match refusal {
        Refusal::InvalidCredentials => Failure::WrongPassword,
        Refusal::AccountUnavailable => Failure::Locked,
        Refusal::AccountGone => Failure::AccountGone,
        Refusal::BelongsToNobody => Failure::KeyOfNobody,
        Refusal::Expired => Failure::TokenExpired,
        Refusal::Revoked => Failure::TokenRevoked,
        Refusal::NotYetValid => Failure::TokenNotYetValid,
        // Whom it was meant for is not repeated.
        Refusal::WrongAudience => Failure::WrongAudience(""),
        Refusal::NoMoment(claim) => Failure::NoMoment(claim),
        Refusal::WrongAlgorithm { shown, expected } => Failure::WrongAlgorithm { shown: shown.clone().into(), expected },
        Refusal::UnknownProvider => Failure::UnknownProvider(about),
        Refusal::InsecureTransport => Failure::InsecurePassword,
        Refusal::LoginRequired => Failure::NotAuthenticated,
        Refusal::NotPermitted => Failure::MissingRole,
        Refusal::TooManyAttempts { retry_after } => Failure::TooManyAttempts { retry_after: *retry_after },
        Refusal::Busy { retry_after } => Failure::Unavailable { retry_after: Some(*retry_after) },
        Refusal::TimedOut | Refusal::Unavailable => Failure::Unavailable { retry_after: None },
        // The client that logins come through is the operator's to provide: whoever logs in is not told that their password is
        // wrong where it is not.
        Refusal::InvalidClient => Failure::Unavailable { retry_after: None },
        Refusal::AlreadySignedIn => Failure::AlreadyLoggedIn,
        Refusal::AlreadyExists("email") => {
            Failure::Invalid(vec![FieldError::new("AlreadyExists", "Email", "Email already exists")])
        }
        Refusal::AlreadyExists(_) => {
            Failure::Invalid(vec![FieldError::new("AlreadyExists", "UserName", "Username already exists")])
        }
        // Names and addresses were looked at before. What else no account can have is the core's to know, in its own words.
        Refusal::Invalid(_) => Failure::Invalid(Vec::new()),
        Refusal::NotFound(_) => Failure::UnknownUser(about),
        // The core does not say these to a peer of this gate; if it did, it would be a fault of ours.
        Refusal::ScopeNotGranted
        | Refusal::TooManySessions
        | Refusal::MethodNotAllowed
        | Refusal::PlanRequired
        | Refusal::RoleMismatch => Failure::Unavailable { retry_after: None },
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn only_what_is_wrong_with_the_credentials_is_a_401() {
        let wait = Duration::from_millis(1001);
        let rows = [
            (Refusal::InvalidCredentials, 401, "Unauthorized", None),
            (Refusal::AccountUnavailable, 401, "AuthenticationException", None),
            (Refusal::AccountGone, 404, "NotFound", None),
            (Refusal::BelongsToNobody, 409, "Conflict", None),
            (Refusal::Expired, 401, "TokenException", None),
            (Refusal::Revoked, 401, "TokenException", None),
            (Refusal::NotYetValid, 401, "TokenException", None),
            (Refusal::WrongAudience, 401, "TokenException", None),
            (Refusal::NoMoment("exp"), 401, "TokenException", None),
            (Refusal::WrongAlgorithm { shown: "none".to_owned(), expected: "HS256" }, 401, "TokenException", None),
            (Refusal::LoginRequired, 401, "Unauthorized", None),
            (Refusal::UnknownProvider, 404, "NotFound", None),
            (Refusal::InsecureTransport, 403, "Forbidden", None),
            (Refusal::NotPermitted, 403, "Forbidden", None),
            (Refusal::TooManyAttempts { retry_after: wait }, 429, "TooManyRequests", Some(2)),
            (Refusal::Busy { retry_after: Duration::ZERO }, 503, "ServiceUnavailable", Some(1)),
            (Refusal::TimedOut, 503, "ServiceUnavailable", None),
            (Refusal::Unavailable, 503, "ServiceUnavailable", None),
            (Refusal::InvalidClient, 503, "ServiceUnavailable", None),
            (Refusal::ScopeNotGranted, 503, "ServiceUnavailable", None),
            (Refusal::TooManySessions, 503, "ServiceUnavailable", None),
            (Refusal::MethodNotAllowed, 503, "ServiceUnavailable", None),
            (Refusal::PlanRequired, 503, "ServiceUnavailable", None),
            (Refusal::RoleMismatch, 503, "ServiceUnavailable", None),
            (Refusal::AlreadySignedIn, 405, "NotSupportedException", None),
            (Refusal::AlreadyExists("name"), 400, "AlreadyExists", None),
            (Refusal::AlreadyExists("email"), 400, "AlreadyExists", None),
            (Refusal::NotFound("user"), 404, "NotFound", None),
            (Refusal::Invalid(Vec::new()), 400, "ValidationException", None),
        ];
        for (refusal, status, code, retry) in rows {
            let failure = failure(&refusal, "x");
            assert_eq!(failure.status(), status, "{refusal:?}");
            assert_eq!(failure.response_status().code, code, "{refusal:?}");
            assert_eq!(failure.retry_after(), retry, "{refusal:?}");
        }
    }
}
