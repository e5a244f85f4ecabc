//! Every way in which this service says no: status, word and sentence, exactly as clients know them.
//!
//! One table, which the gate's own reasons and the core's refusals both come to. It refuses to know when any of it is said, and
//! what was typed is never said back, but for names.

use std::borrow::Cow;
use std::time::Duration;

use http::StatusCode;

use crate::servicestack::response::{FieldError, ResponseStatus};
use crate::servicestack::value::Unreadable;

/// A reason to say no. A text in it is what the sentence names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Failure<'a> {
    /// Wrong name or password, in whatever way they came.
    WrongPassword,
    /// Nobody is logged in, and that was the question.
    NotAuthenticated,
    /// The right password of a locked account, or its refresh token.
    Locked,
    /// No provider is called so.
    UnknownProvider(&'a str),
    /// A login by GET.
    LoginByGet,
    /// The return address is elsewhere.
    ExternalRedirect,
    /// Name or password is not there; `true` is missing.
    NoCredentials {
        /// The name.
        user_name: bool,
        /// The password.
        password: bool,
    },
    /// A token's time is over.
    TokenExpired,
    /// A token's time has not come.
    TokenNotYetValid,
    /// A token was revoked.
    TokenRevoked,
    /// A token is meant for somebody else.
    WrongAudience(&'a str),
    /// A token's claim must say when, and does not.
    NoMoment(&'static str),
    /// A token names a way to sign that no key of ours has.
    WrongAlgorithm {
        /// As the token has it.
        shown: Cow<'a, str>,
        /// As ours have it.
        expected: &'static str,
    },
    /// Whoever has logged in names the provider of tokens, and shows it none.
    TokenProviderAlone,
    /// A token on a connection that others could read.
    InsecureToken,
    /// No refresh token came.
    NoRefreshToken,
    /// What came is no refresh token.
    BadRefreshToken,
    /// No such API key.
    UnknownKey,
    /// The API key was cancelled.
    KeyCancelled,
    /// The API key's time is over.
    KeyExpired,
    /// The API key never was anybody's.
    KeyOfNobody,
    /// Whoever the API key is for is there no more.
    KeyAccountGone,
    /// An API key on a connection that others could read.
    InsecureKey,
    /// A password on a connection that others could read.
    InsecurePassword,
    /// Keys of no environment were asked for.
    NoEnvironment,
    /// A role is missing.
    MissingRole,
    /// Roles of nobody are to be changed.
    NoUserName,
    /// Roles of somebody unknown are to be changed.
    UnknownUser(&'a str),
    /// Whoever a refresh token is for is there no more.
    AccountGone,
    /// A registration that is wrong as it stands; the first fault gives the word and the sentence.
    Invalid(Vec<FieldError>),
    /// A registration by somebody who is logged in.
    AlreadyLoggedIn,
    /// A body that cannot be read.
    BadBody {
        /// The media type that it was read as.
        media_type: &'static str,
        /// The name of the request that it was read as.
        request: &'static str,
        /// What is wrong with it.
        why: Unreadable,
    },
    /// A pre-defined route to a request that there is not.
    UnknownOperation(&'a str),
    /// A path that others may read otherwise than we do.
    OddPath,
    /// A request that wants to become something else.
    NoUpgrade,
    /// A body longer than the service takes.
    LongBody,
    /// A request that stopped in the middle.
    PeerSlow,
    /// A body in a coding that only one connection is for, and that we do not undo.
    OddCoding,
    /// A request that breaks off, or is not one in the middle.
    PeerBroken,
    /// The service behind the gate cannot be reached.
    ServiceGone,
    /// The service behind the gate takes too long.
    ServiceSlow,
    /// Too soon after too many failures.
    TooManyAttempts {
        /// How long to wait.
        retry_after: Duration,
    },
    /// More is asked than can be answered in time, or something is broken.
    Unavailable {
        /// How long to wait, where that is known.
        retry_after: Option<Duration>,
    },
}

const UNAUTHORIZED: &str = "Unauthorized";
const TOKEN: &str = "TokenException";
const ARGUMENT: &str = "ArgumentException";
const ARGUMENT_NULL: &str = "ArgumentNullException";
const NULL: &str = "Value cannot be null.";
const NOT_SUPPORTED: &str = "NotSupportedException";
const FORBIDDEN: &str = "Forbidden";
const NOT_FOUND: &str = "NotFound";

/// One row of the table.
struct Row<'a> {
    status: StatusCode,
    code: &'static str,
    sentence: Cow<'a, str>,
    /// The parameter that an argument exception is about.
    parameter: Option<&'static str>,
}

fn row<'a>(status: u16, code: &'static str, sentence: impl Into<Cow<'a, str>>) -> Row<'a> {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    Row { status, code, sentence: sentence.into(), parameter: None }
}

impl Row<'_> {
    fn about(mut self, parameter: &'static str) -> Self {
        self.parameter = Some(parameter);
        self
    }
}

impl Failure<'_> {
    /// The table. The numbers are those of `docs/protocols/servicestack.md`; two numbers say the same.
    fn row(&self) -> Row<'_> {
        match self {
            /* 1, 5 */ Failure::WrongPassword => row(401, UNAUTHORIZED, "Invalid Username or Password"),
            /* 2, 36 */ Failure::NotAuthenticated => row(401, UNAUTHORIZED, "Not Authenticated"),
            /* 4, 24 */ Failure::Locked => row(401, "AuthenticationException", "This account has been locked"),
            /* 6 */
            Failure::UnknownProvider(name) => {
                row(404, NOT_FOUND, format!("No configuration was added for OAuth provider '{}'", safe(name)))
            }
            /* 7 */
            Failure::LoginByGet => row(
                405,
                NOT_SUPPORTED,
                "GET Authenticate requests are disabled, to enable set AuthFeature.AllowGetAuthenticateRequests = req => true",
            ),
            /* 8 */ Failure::ExternalRedirect => row(400, ARGUMENT, "External Redirects are not permitted").about("continue"),
            /* 9 */ Failure::NoCredentials { .. } => row(400, "ValidationException", validation(&self.errors())),
            /* 10 */ Failure::TokenExpired => row(401, TOKEN, "Token has expired"),
            /* 11 */ Failure::TokenNotYetValid => row(401, TOKEN, "Token not valid yet"),
            /* 12 */ Failure::TokenRevoked => row(401, TOKEN, "Token has been invalidated"),
            /* 13 */ Failure::WrongAudience(audience) => row(401, TOKEN, format!("Invalid Audience: {}", safe(audience))),
            /* 14 */ Failure::NoMoment(claim) => row(401, TOKEN, format!("Claim '{claim}' must be a Unix Timestamp")),
            /* 15 */
            Failure::WrongAlgorithm { shown, expected } => {
                row(401, TOKEN, format!("Invalid algorithm '{}', expected '{expected}'", safe(shown)))
            }
            /* 19 */
            Failure::TokenProviderAlone => row(405, "NotImplementedException", "JWT Authenticate() should not be called directly"),
            /* 18 */
            Failure::InsecureToken => {
                row(403, FORBIDDEN, "Sending JWT over insecure connection forbidden when RequireSecureConnection=true")
            }
            /* 20 */ Failure::NoRefreshToken => row(400, ARGUMENT_NULL, NULL).about("refreshToken"),
            /* 21 */ Failure::BadRefreshToken => row(400, ARGUMENT, "Token is invalid"),
            /* 25 */ Failure::UnknownKey => row(404, NOT_FOUND, "API Key does not exist"),
            /* 27 */ Failure::KeyCancelled => row(403, FORBIDDEN, "API Key has been cancelled"),
            /* 28 */ Failure::KeyExpired => row(403, FORBIDDEN, "API Key has expired"),
            /* 29 */ Failure::KeyOfNobody => row(409, "Conflict", "Invalid API Key"),
            /* 30 */ Failure::KeyAccountGone => row(401, UNAUTHORIZED, "User for API Key does not exist"),
            /* 31 */
            Failure::InsecureKey => {
                row(403, FORBIDDEN, "Sending API Key over insecure connection forbidden when RequireSecureConnection=true")
            }
            /* 32 */ Failure::NoEnvironment => row(400, ARGUMENT_NULL, NULL).about("Environment"),
            /* 35 */ Failure::MissingRole => row(403, FORBIDDEN, "Invalid Role"),
            /* 37 */ Failure::NoUserName => row(400, ARGUMENT_NULL, NULL).about("UserName"),
            /* 38 */ Failure::UnknownUser(name) => row(404, NOT_FOUND, *name),
            /* 24 */ Failure::AccountGone => row(404, NOT_FOUND, "User does not exist"),
            // The word and the sentence are the first fault's own.
            /* 39 */
            Failure::Invalid(_) => row(400, "ValidationException", "Validation failed"),
            /* 40 */
            Failure::AlreadyLoggedIn => {
                row(405, NOT_SUPPORTED, "Updating existing User is not enabled. Sign out to register a new User.")
            }
            // The quote that does not open stands in the framework's own sentence.
            /* 42 */
            Failure::BadBody { media_type, request, why } => row(
                400,
                "SerializationException",
                format!("Could not deserialize '{media_type}' request using ServiceStack.{request}'\nError: {why}"),
            ),
            Failure::UnknownOperation(name) => {
                row(405, "NotImplementedException", format!("The operation '{}' does not exist for this service", safe(name)))
            }
            // The framework has no sentences for these.
            Failure::InsecurePassword => {
                row(403, FORBIDDEN, "Sending a password over insecure connection forbidden when RequireSecureConnection=true")
            }
            Failure::OddPath => row(400, ARGUMENT, "The path is not in its plain form"),
            Failure::NoUpgrade => row(405, NOT_SUPPORTED, "Connections are not upgraded for this service"),
            Failure::LongBody => row(413, "RequestEntityTooLarge", "The request is longer than the service takes"),
            Failure::PeerSlow => row(408, "RequestTimeout", "The request did not come to its end in time"),
            Failure::OddCoding => row(501, "NotImplemented", "Bodies are taken whole or in chunks, and in no other coding"),
            Failure::PeerBroken => row(400, ARGUMENT, "The request cannot be read to its end"),
            Failure::ServiceGone => row(502, "BadGateway", "The service behind the gate cannot be reached"),
            Failure::ServiceSlow => row(504, "GatewayTimeout", "The service behind the gate did not answer in time"),
            Failure::TooManyAttempts { .. } => row(429, "TooManyRequests", "Too many attempts, try again later"),
            Failure::Unavailable { .. } => row(503, "ServiceUnavailable", "The service is not available now, try again later"),
        }
    }

    /// The status of the answer.
    pub(super) fn status(&self) -> StatusCode {
        self.row().status
    }

    /// Whether the framework's service says it in so many words rather than by an exception that ends it: a browser is then sent
    /// back to where it came from.
    pub(super) fn is_explicit(&self) -> bool {
        matches!(self.row().code, UNAUTHORIZED | NOT_FOUND | FORBIDDEN)
    }

    /// For how long whoever waits should wait: whole seconds, rounded up, at least one.
    pub(super) fn retry_after(&self) -> Option<u64> {
        let wait = match self {
            Failure::TooManyAttempts { retry_after } => Some(*retry_after),
            Failure::Unavailable { retry_after } => *retry_after,
            _ => None,
        };
        wait.map(|wait| u64::try_from(wait.as_millis().div_ceil(1000)).unwrap_or(u64::MAX).max(1))
    }

    /// What the body of the answer says.
    pub(super) fn response_status(&self) -> ResponseStatus {
        let Row { code, sentence, parameter, .. } = self.row();
        let mut errors = self.errors();
        if let Failure::Invalid(faults) = self
            && let Some(first) = faults.first()
        {
            return ResponseStatus { code: first.code.clone(), message: first.message.clone(), errors };
        }
        let message = match parameter {
            Some(parameter) => {
                errors.push(FieldError::new(code, parameter, &*sentence));
                format!("{sentence} (Parameter '{parameter}')")
            }
            None => sentence.into_owned(),
        };
        ResponseStatus { code: code.into(), message, errors }
    }

    fn errors(&self) -> Vec<FieldError> {
        match self {
            Failure::Invalid(faults) => faults.clone(),
            Failure::NoCredentials { user_name, password } => {
                let missing = [(*user_name, "UserName", "User Name"), (*password, "Password", "Password")];
                missing.into_iter().filter(|row| row.0).map(|(_, field, property)| FieldError::empty(field, property)).collect()
            }
            _ => Vec::new(),
        }
    }
}

fn validation(errors: &[FieldError]) -> String {
    let lines = errors.iter().map(|error| format!("\n -- {}: {}", error.field, error.message));
    format!("Validation failed: {}", lines.collect::<String>())
}

/// A name from outside, fit to stand in a sentence: letters, digits and a few marks, and no more of them than a name has.
fn safe(name: &str) -> String {
    let is_safe = |letter: &char| letter.is_alphanumeric() || " _.,@-".contains(*letter);
    name.chars().filter(is_safe).take(64).collect()
}

/// What a provider says in `WWW-Authenticate` where somebody must log in first, in the framework's own spelling; `None` where
/// it has none.
pub(super) fn challenge(provider: &str) -> Option<&'static str> {
    Some(match provider {
        "credentials" => "credentials realm=\"/auth/credentials\"",
        "basic" => "basic realm=\"/auth/basic\"",
        // With a capital letter, so that .NET's own clients react to it.
        "apikey" => "Basic realm=\"/auth/apikey\"",
        "jwt" => "jwt realm=\"/auth/jwt\"",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::servicestack::format::Format;
    use crate::servicestack::message::{Operation, Register};
    use crate::servicestack::response::refused;
    use crate::servicestack::style::{DateFormat, Style, TextCase};
    use crate::servicestack::value::Fields;

    fn told(failure: &Failure<'_>, format: Format) -> String {
        let style = Style::new(TextCase::Pascal, DateFormat::Wcf, &Fields::default());
        refused(Some(Operation::Authenticate), failure.response_status(), |dto| format.write("Authenticate", dto, &style))
    }

    #[test]
    fn a_wrong_password_is_told_in_every_format() {
        let failure = Failure::WrongPassword;
        assert_eq!(failure.status(), StatusCode::UNAUTHORIZED);
        assert_eq!(
            told(&failure, Format::Json),
            r#"{"ResponseStatus":{"ErrorCode":"Unauthorized","Message":"Invalid Username or Password","Errors":[]}}"#
        );
        assert_eq!(
            told(&failure, Format::Jsv),
            "{ResponseStatus:{ErrorCode:Unauthorized,Message:Invalid Username or Password,Errors:[]}}"
        );
        assert_eq!(told(&failure, Format::Csv), "");
        let nil = |names: &[&str]| names.iter().map(|name| format!("<{name} i:nil=\"true\"/>")).collect::<String>();
        assert_eq!(
            told(&failure, Format::Xml),
            format!(
                "<?xml version=\"1.0\" encoding=\"utf-8\"?><AuthenticateResponse \
                 xmlns:i=\"http://www.w3.org/2001/XMLSchema-instance\" xmlns=\"http://schemas.servicestack.net/types\">{}\
                 <ResponseStatus><ErrorCode>Unauthorized</ErrorCode><Message>Invalid Username or Password</Message>\
                 <StackTrace i:nil=\"true\"/><Errors></Errors><Meta i:nil=\"true\"/></ResponseStatus><Meta i:nil=\"true\"/>\
                 </AuthenticateResponse>",
                nil(&[
                    "UserId",
                    "SessionId",
                    "UserName",
                    "DisplayName",
                    "ReferrerUrl",
                    "BearerToken",
                    "RefreshToken",
                    "RefreshTokenExpiry",
                    "ProfileUrl",
                    "Roles",
                    "Permissions"
                ])
            )
        );
        assert!(told(&failure, Format::Html).contains("Invalid Username or Password"));
    }

    fn check(failure: Failure<'_>, status: u16, code: &str, message: &str, errors: &[(&str, &str, &str)]) {
        let said = failure.response_status();
        assert_eq!((failure.status().as_u16(), &*said.code, &*said.message), (status, code, message));
        let fields: Vec<_> = said.errors.iter().map(|error| (&*error.code, error.field, &*error.message)).collect();
        assert_eq!(fields, errors);
    }

    #[test]
    fn a_parameter_is_named_in_the_sentence_and_as_an_error() {
        check(
            Failure::ExternalRedirect,
            400,
            "ArgumentException",
            "External Redirects are not permitted (Parameter 'continue')",
            &[("ArgumentException", "continue", "External Redirects are not permitted")],
        );
        check(
            Failure::NoRefreshToken,
            400,
            "ArgumentNullException",
            "Value cannot be null. (Parameter 'refreshToken')",
            &[("ArgumentNullException", "refreshToken", "Value cannot be null.")],
        );
    }

    #[test]
    fn a_validation_lists_what_is_missing() {
        let user_name = ("NotEmpty", "UserName", "'User Name' must not be empty.");
        let password = ("NotEmpty", "Password", "'Password' must not be empty.");
        check(
            Failure::NoCredentials { user_name: true, password: true },
            400,
            "ValidationException",
            "Validation failed: \n -- UserName: 'User Name' must not be empty.\n -- Password: 'Password' must not be empty.",
            &[user_name, password],
        );
        check(
            Failure::NoCredentials { user_name: false, password: true },
            400,
            "ValidationException",
            "Validation failed: \n -- Password: 'Password' must not be empty.",
            &[password],
        );
        let faults = Register::default().faults();
        let email = ("NotEmpty", "Email", "'Email' must not be empty.");
        check(Failure::Invalid(faults), 400, "NotEmpty", "'Password' must not be empty.", &[password, user_name, email]);
    }

    #[test]
    fn what_comes_from_outside_is_stripped_before_it_is_named() {
        check(
            Failure::UnknownProvider("<b>\"x'\u{0}{};y-z.@1"),
            404,
            "NotFound",
            "No configuration was added for OAuth provider 'bxy-z.@1'",
            &[],
        );
        let long = "x".repeat(1_000_000);
        let said = Failure::UnknownProvider(&long).response_status();
        assert!(said.message.len() < 200);
        let told = told(&Failure::UnknownUser("<SCRIPT>alert(1)</script>"), Format::Json);
        assert!(told.contains("&lt;SCRIPT&gt;alert(1)&lt;/script&gt;"), "{told}");
    }

    #[test]
    fn a_body_that_cannot_be_read_is_told_as_what() {
        check(
            Failure::BadBody { media_type: "application/json", request: "Authenticate", why: Unreadable::Grammar },
            400,
            "SerializationException",
            "Could not deserialize 'application/json' request using ServiceStack.Authenticate'\n\
             Error: the text is malformed or incomplete",
            &[],
        );
    }

    #[test]
    fn a_kind_of_exception_has_one_status() {
        let wait = Duration::from_millis(1500);
        let rows = [
            (Failure::NotAuthenticated, 401, "Not Authenticated"),
            (Failure::Locked, 401, "This account has been locked"),
            (Failure::LoginByGet, 405, "GET Authenticate requests are disabled"),
            (Failure::TokenExpired, 401, "Token has expired"),
            (Failure::TokenNotYetValid, 401, "Token not valid yet"),
            (Failure::TokenRevoked, 401, "Token has been invalidated"),
            (Failure::WrongAudience("qux"), 401, "Invalid Audience: qux"),
            (Failure::NoMoment("exp"), 401, "Claim 'exp' must be a Unix Timestamp"),
            (
                Failure::WrongAlgorithm { shown: "<none>'".into(), expected: "HS256" },
                401,
                "Invalid algorithm 'none', expected 'HS256'",
            ),
            (Failure::TokenProviderAlone, 405, "JWT Authenticate() should not be called directly"),
            (Failure::InsecureToken, 403, "Sending JWT over insecure"),
            (Failure::BadRefreshToken, 400, "Token is invalid"),
            (Failure::UnknownKey, 404, "API Key does not exist"),
            (Failure::KeyCancelled, 403, "API Key has been cancelled"),
            (Failure::KeyExpired, 403, "API Key has expired"),
            (Failure::KeyOfNobody, 409, "Invalid API Key"),
            (Failure::KeyAccountGone, 401, "User for API Key does not exist"),
            (Failure::InsecureKey, 403, "Sending API Key over insecure"),
            (Failure::NoEnvironment, 400, "Value cannot be null. (Parameter 'Environment')"),
            (Failure::MissingRole, 403, "Invalid Role"),
            (Failure::NoUserName, 400, "Value cannot be null. (Parameter 'UserName')"),
            (Failure::UnknownUser("bob"), 404, "bob"),
            (Failure::AccountGone, 404, "User does not exist"),
            (Failure::AlreadyLoggedIn, 405, "Updating existing User is not enabled."),
            (Failure::UnknownOperation("X[]"), 405, "The operation 'X' does not exist for this service"),
            (Failure::InsecurePassword, 403, "Sending a password over insecure"),
            (Failure::TooManyAttempts { retry_after: wait }, 429, "Too many attempts"),
            (Failure::Unavailable { retry_after: Some(wait) }, 503, "The service is not available now"),
        ];
        let statuses = [
            ("Unauthorized", 401),
            ("AuthenticationException", 401),
            ("TokenException", 401),
            ("ArgumentException", 400),
            ("ArgumentNullException", 400),
            ("NotSupportedException", 405),
            ("NotImplementedException", 405),
            ("Forbidden", 403),
            ("NotFound", 404),
            ("Conflict", 409),
            ("TooManyRequests", 429),
            ("ServiceUnavailable", 503),
        ];
        for (failure, status, begins) in rows {
            let said = failure.response_status();
            assert_eq!(failure.status().as_u16(), status, "{failure:?}");
            assert!(said.message.starts_with(begins), "{}", said.message);
            assert_eq!(statuses.iter().find(|(code, _)| *code == said.code).map(|row| row.1), Some(status), "{failure:?}");
            assert_eq!(failure.retry_after(), [429, 503].contains(&status).then_some(2), "{failure:?}");
        }
        assert_eq!(Failure::Unavailable { retry_after: None }.retry_after(), None);
    }

    #[test]
    fn challenges_are_spelled_as_clients_know_them() {
        let told = ["credentials", "basic", "apikey", "jwt", "google"].map(challenge);
        let expected = [
            Some("credentials realm=\"/auth/credentials\""),
            Some("basic realm=\"/auth/basic\""),
            Some("Basic realm=\"/auth/apikey\""),
            Some("jwt realm=\"/auth/jwt\""),
            None,
        ];
        assert_eq!(told, expected);
    }
}
