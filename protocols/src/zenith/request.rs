//! The Data of a request, as a command to the core or as timeouts.
//!
//! Syntax only: which members there must be, of which type. Whether anything in them is true is the core's to say.

use std::fmt;
use std::time::Duration;

use gatepost_identity::account::ClientId;
use gatepost_identity::command::{Binding, Command, GrantRequest, ProviderName, Verb};
use gatepost_identity::credential::Credential;
use gatepost_identity::reply::TokenKind;
use gatepost_identity::scope::ScopeRequest;
use gatepost_identity::secret::Secret;
use serde::de::{DeserializeSeed, Deserializer, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::zenith::message::{self, Text, Topic, typed};
use crate::zenith::spelling::{Catalogue, Family, Selection, readings};
use crate::zenith::times::{parse_span, push_span};

/// The error code for a request without Data.
pub(super) const NO_DATA: &str = "Data";
/// The error code for Data of another shape.
pub(super) const BAD_DATA: &str = "Data.Deserialise";

/// How long a controller waits, unless told otherwise.
pub(super) const DEFAULT_TIMEOUT: Duration = Duration::from_secs(35);
const SHORTEST_TIMEOUT: Duration = Duration::from_secs(1);
const LONGEST_TIMEOUT: Duration = Duration::from_secs(300);

/// What a well-formed login comes to.
#[derive(Debug)]
pub(super) enum Login {
    /// The core is to be asked.
    Ask(Command),
    /// No credential could be meant by it, so that nobody need be asked.
    Reject,
}

/// Reads the Data of AuthOwner, AuthCode or AuthToken; no other topic is a login.
///
/// # Errors
/// An error code.
pub(super) fn login(topic: Topic, data: Option<&RawValue>, catalogue: &Catalogue) -> Result<Login, &'static str> {
    let data = data.ok_or(NO_DATA)?;
    match topic {
        Topic::AuthOwner => owner(data, catalogue),
        Topic::AuthCode => code(data, catalogue),
        _ => {
            let [provider, token] = members(data, ["Provider", "AccessToken"])?;
            Ok(token_login(&required(provider)?, &required(token)?))
        }
    }
}

/// A login by token: AuthToken, and an Authorization header.
pub(super) fn token_login(provider: &str, token: &str) -> Login {
    match readings(token) {
        Some(any_of) => {
            ask(provider, Vec::new(), Credential::Token { any_of, kind: TokenKind::Restore }, (ScopeRequest::Maximum, None))
        }
        None => Login::Reject,
    }
}

fn owner(data: &RawValue, catalogue: &Catalogue) -> Result<Login, &'static str> {
    let names = ["Provider", "ClientID", "ClientSecret", "UserName", "Username", "Password", "Scope"];
    let [provider, client, secret, name, other_name, password, scope] = members(data, names)?;
    let provider = required(provider)?;
    let client = client_of(&required(client)?, optional(secret)?);
    let name = match (optional(name)?, optional(other_name)?) {
        (Some(one), Some(other)) if one != other => return Err(BAD_DATA),
        (one, other) => one.or(other),
    };
    let password = optional(password)?;
    let scope = scope_of(scope, catalogue)?;
    Ok(match (name, password) {
        (Some(name), Some(password)) => {
            ask(&provider, vec![client], Credential::Password { name, password: Secret::new(password) }, scope)
        }
        (None, None) => ask(&provider, Vec::new(), client, scope),
        (Some(_), None) | (None, Some(_)) => Login::Reject,
    })
}

fn code(data: &RawValue, catalogue: &Catalogue) -> Result<Login, &'static str> {
    let [provider, client, secret, grant, scope] = members(data, ["Provider", "ClientID", "ClientSecret", "AuthGrant", "Scope"])?;
    let provider = required(provider)?;
    let client = client_of(&required(client)?, optional(secret)?);
    let code = Secret::new(required(grant)?);
    Ok(ask(&provider, vec![client], Credential::Code { code }, scope_of(scope, catalogue)?))
}

fn ask(
    provider: &str,
    presented: Vec<Credential>,
    credential: Credential,
    (scope, family): (ScopeRequest, Option<Family>),
) -> Login {
    let request = GrantRequest { scope, role: None, binding: Binding::Connection, spelling: family.map(Family::mark) };
    let provider = Some(ProviderName(provider.to_owned()));
    Login::Ask(Command { presented, verb: Verb::Authenticate { provider, credential, request } })
}

fn client_of(id: &str, secret: Option<String>) -> Credential {
    Credential::Client { id: ClientId::parse(id).ok(), secret: secret.map(Secret::new) }
}

/// Left out, a scope is the maximum, told in canonical names; an empty list is no right at all.
fn scope_of(scope: Option<&RawValue>, catalogue: &Catalogue) -> Result<(ScopeRequest, Option<Family>), &'static str> {
    let Some(scope) = scope else {
        return Ok((ScopeRequest::Maximum, Some(Family::Slashed)));
    };
    let mut selection = catalogue.select();
    let mut deserializer = serde_json::Deserializer::from_str(scope.get());
    Names(&mut selection).deserialize(&mut deserializer).map_err(|_| BAD_DATA)?;
    let (request, family) = selection.finish();
    Ok((request, Some(family)))
}

/// The two waits of a controller on one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Timeouts {
    /// For an action, in milliseconds.
    action: u32,
    /// For a subscription, in milliseconds. Nothing of our own can take that long: there it is kept for whoever asks.
    subscription: u32,
}

impl Default for Timeouts {
    fn default() -> Timeouts {
        let millis = DEFAULT_TIMEOUT.as_millis() as u32;
        Timeouts { action: millis, subscription: millis }
    }
}

impl Timeouts {
    /// Reads the Data of Configure: what is left out is the default; what is too short or too long is brought to the
    /// nearest end of 1 second to 5 minutes.
    ///
    /// # Errors
    /// An error code.
    pub(super) fn read(data: Option<&RawValue>) -> Result<Timeouts, &'static str> {
        let Some(data) = data else {
            return Ok(Timeouts::default());
        };
        let [action, subscription] = members(data, ["ActionTimeout", "SubscriptionTimeout"])?;
        let span = |written: Option<&RawValue>| -> Result<u32, &'static str> {
            let Some(text) = optional(written)? else {
                return Ok(DEFAULT_TIMEOUT.as_millis() as u32);
            };
            let span = parse_span(&text).filter(|span| !span.is_zero()).ok_or(BAD_DATA)?;
            Ok(span.clamp(SHORTEST_TIMEOUT, LONGEST_TIMEOUT).as_millis() as u32)
        };
        Ok(Timeouts { action: span(action)?, subscription: span(subscription)? })
    }

    /// Writes them as QueryConfigure tells them.
    pub(super) fn push(self, data: &mut String) {
        data.push_str("{\"ActionTimeout\":\"");
        push_span(data, self.action());
        data.push_str("\",\"SubscriptionTimeout\":\"");
        push_span(data, self.subscription());
        data.push_str("\"}");
    }

    /// How long an action may take.
    pub(super) fn action(self) -> Duration {
        Duration::from_millis(self.action.into())
    }

    /// How long a subscription may take.
    pub(super) fn subscription(self) -> Duration {
        Duration::from_millis(self.subscription.into())
    }
}

fn required(member: Option<&RawValue>) -> Result<String, &'static str> {
    optional(member)?.ok_or(BAD_DATA)
}

fn optional(member: Option<&RawValue>) -> Result<Option<String>, &'static str> {
    let text: Option<Text<'_>> = typed(member).map_err(|_| BAD_DATA)?;
    Ok(text.map(|text| text.0.into_owned()))
}

fn members<'a, const N: usize>(data: &'a RawValue, names: [&str; N]) -> Result<[Option<&'a RawValue>; N], &'static str> {
    message::members(data.get(), names).map_err(|_| BAD_DATA)
}

/// A list of strings, each handed to the selection at once: a list may be as long as a message.
struct Names<'s, 'c>(&'s mut Selection<'c>);

impl<'de> DeserializeSeed<'de> for Names<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Names<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of strings")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut names: A) -> Result<(), A::Error> {
        while let Some(Text(name)) = names.next_element()? {
            self.0.add(&name);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(topic: Topic, data: &str) -> Result<Login, &'static str> {
        let raw: &RawValue = serde_json::from_str(data).expect("JSON");
        login(topic, Some(raw), &Catalogue::default())
    }

    #[test]
    fn data_of_another_shape_is_a_code_and_not_a_question() {
        let owner = [
            "[]",
            "1",
            "\"x\"",
            "{}",
            r#"{"Provider":"P"}"#,
            r#"{"ClientID":"C"}"#,
            r#"{"Provider":null,"ClientID":"C"}"#,
            r#"{"Provider":1,"ClientID":"C"}"#,
            r#"{"Provider":"P","ClientID":["C"]}"#,
            r#"{"Provider":"P","ClientID":"C","Scope":"x"}"#,
            r#"{"Provider":"P","ClientID":"C","Scope":[1]}"#,
            r#"{"Provider":"P","ClientID":"C","Scope":[null]}"#,
            r#"{"Provider":"P","ClientID":"C","Scope":{}}"#,
            r#"{"Provider":"P","ClientID":"C","UserName":"a","Username":"b","Password":"p"}"#,
            r#"{"Provider":"P","ClientID":"C","UserName":5,"Password":"p"}"#,
            r#"{"provider":"P","clientid":"C"}"#,
        ];
        for data in owner {
            assert_eq!(read(Topic::AuthOwner, data).err(), Some(BAD_DATA), "{data}");
        }
        for data in ["{}", r#"{"Provider":"P","ClientID":"C"}"#, r#"{"Provider":"P","ClientID":"C","AuthGrant":7}"#] {
            assert_eq!(read(Topic::AuthCode, data).err(), Some(BAD_DATA), "{data}");
        }
        for data in ["{}", r#"{"Provider":"P"}"#, r#"{"AccessToken":"x"}"#, r#"{"Provider":"P","AccessToken":null}"#] {
            assert_eq!(read(Topic::AuthToken, data).err(), Some(BAD_DATA), "{data}");
        }
        assert_eq!(login(Topic::AuthToken, None, &Catalogue::default()).err(), Some(NO_DATA));
    }

    #[test]
    fn what_a_topic_does_not_know_cannot_be_wrong_in_it() {
        let told = read(Topic::AuthToken, r#"{"Provider":"P","AccessToken":"abc","Password":5,"Scope":"x"}"#);
        assert!(matches!(told, Ok(Login::Ask(_))), "{told:?}");
        let told =
            read(Topic::AuthOwner, r#"{"Provider":1,"Provider":"P","ClientID":"C","UserName":"a","Username":"a","Password":""}"#);
        assert!(matches!(told, Ok(Login::Ask(_))), "{told:?}");
    }

    #[test]
    fn half_a_password_login_is_refused_here() {
        for data in [
            r#"{"Provider":"P","ClientID":"C","UserName":"a"}"#,
            r#"{"Provider":"P","ClientID":"C","ClientSecret":"s","Username":"a"}"#,
            r#"{"Provider":"P","ClientID":"C","ClientSecret":"s","Password":"p"}"#,
        ] {
            assert!(matches!(read(Topic::AuthOwner, data), Ok(Login::Reject)), "{data}");
        }
    }

    #[test]
    fn timeouts_are_clamped_and_nothing_else_is_bent() {
        let check = |data: Option<&str>, expected: Result<(u64, u64), &'static str>| {
            let raw = data.map(|data| serde_json::from_str::<&RawValue>(data).expect("JSON"));
            let read = Timeouts::read(raw).map(|read| (read.action().as_millis() as u64, read.subscription().as_millis() as u64));
            assert_eq!(read, expected, "{data:?}");
        };
        check(None, Ok((35_000, 35_000)));
        check(Some("{}"), Ok((35_000, 35_000)));
        check(Some(r#"{"ActionTimeout":"00:00:05"}"#), Ok((5_000, 35_000)));
        check(Some(r#"{"SubscriptionTimeout":"0:1"}"#), Ok((35_000, 60_000)));
        check(Some(r#"{"ActionTimeout":"00:00:00.5","SubscriptionTimeout":"9.0:0:0"}"#), Ok((1_000, 300_000)));
        for data in ["[]", "5", r#"{"ActionTimeout":5}"#, r#"{"ActionTimeout":"00:00:00"}"#, r#"{"ActionTimeout":"-00:00:05"}"#] {
            check(Some(data), Err(BAD_DATA));
        }
        check(Some(r#"{"ActionTimeout":"00:00:05","SubscriptionTimeout":""}"#), Err(BAD_DATA));
    }
}
