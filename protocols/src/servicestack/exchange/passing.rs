//! A request for a service behind the gate: whether whoever calls may come in, and what goes on.
//!
//! ```text
//! odd path, upgrade, long body ─────────────► no
//! nobody need be signed in, nothing shown ──► goes on
//! else: who speaks, and a token about them ─► not signed in: log in first ─► another provider, a role missing: no ─► goes on
//! ```
//!
//! The body is the service's to read; of the request only its head is looked at. It refuses to know how bytes move.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use gatepost_identity::clock::Timestamp;
use gatepost_identity::command::{Binding, Command, Verb};
use gatepost_identity::reply::{Answer, Granted, Reply, TokenKind};
use gatepost_identity::secret::Secret;
use http::header::{AUTHORIZATION, CONTENT_LENGTH, HOST, TRANSFER_ENCODING, UPGRADE};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Method};

use crate::forward::{Forward, NoAnswer, end_to_end, unclaimed, without_cookies};
use crate::http::{Request, Response};
use crate::servicestack::authorization::Authorization;
use crate::servicestack::caller::Shown;
use crate::servicestack::cookies::{self, Brought, Jar, Lid};
use crate::servicestack::envelope::Envelope;
use crate::servicestack::exchange::asking::for_nothing;
use crate::servicestack::exchange::guarded::{Guarded, No};
use crate::servicestack::exchange::{
    Asked, OPERATOR_SECRET, OVERRIDE, Pending, Service, chosen, is_reading, not_by_this_verb, nothing, text, verb,
};
use crate::servicestack::failure::Failure;
use crate::servicestack::form;
use crate::servicestack::message::Carried;
use crate::servicestack::negotiate::cut_suffix;
use crate::servicestack::routes::{ANY, Route};
use crate::servicestack::services::{Lack, Place, Service as Behind};
use crate::servicestack::sharing::{Sharing, is_from_elsewhere};
use crate::servicestack::spelling::EmptyIds;
use crate::servicestack::style::{Style, wishes_debug};
use crate::servicestack::value::{Fields, same};
use crate::{Question, Seed, Step};

/// Members of a query that prove who calls, whether or not they count, or name another verb than the one that was looked at.
const OWN_FIELDS: [&str; 8] =
    ["ss-tok", "ss-reftok", "apikey", "BearerToken", "RefreshToken", OPERATOR_SECRET, OVERRIDE, "_method"];
/// How long to wait where a service has as many requests as it may.
const FULL_WAIT: Duration = Duration::from_secs(1);
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// A request that goes on if whoever calls may come in.
pub(super) struct Passing {
    service: Arc<Behind>,
    /// The verb that counts.
    verb: Method,
    target: PathAndQuery,
    /// What of the header fields goes along.
    headers: HeaderMap,
}

impl Service {
    /// A request whose path belongs to a service.
    pub(super) fn pass_on(&self, place: Place, request: &Request, seed: Seed) -> Step<Pending> {
        let settings = &self.settings;
        let Place { service, target } = place;
        let sharing = Sharing::of(settings, &request.headers);
        if request.method == Method::OPTIONS {
            return ControlFlow::Break(sharing.preflight().unwrap_or_else(nothing));
        }
        let query = form::query(request.query.as_deref().unwrap_or_default());
        let verb = verb(request, &query, None);
        if ![&request.method, &verb].iter().all(|verb| ANY.contains(verb)) {
            return ControlFlow::Break(not_by_this_verb(&ANY));
        }
        // Whoever waits for a body is not sent a head alone.
        let verb = if verb == Method::HEAD && request.method != Method::HEAD { Method::GET } else { verb };
        let elsewhere = is_from_elsewhere(settings, &request.headers);
        let only_reads = is_reading(&request.method) && is_reading(&verb);
        let mut brought = Brought::read(&request.headers, !elsewhere || only_reads);
        if elsewhere && settings.rotate_refresh_tokens {
            // As for the gate's own requests: the successor could not be kept.
            brought.forget_refresh();
        }
        let path = request.path.strip_prefix(&*settings.base_path).unwrap_or(&request.path);
        let first_part = path.split('/').find(|part| !part.is_empty()).unwrap_or_default().to_owned();
        let route =
            Route { variables: Vec::new(), predefined: None, suffix: cut_suffix(path).1, first_part, verbs: &ANY, many: false };
        let style = Style::new(settings.text_case, settings.date_format, &Fields::default());
        let envelope = Envelope {
            settings: Arc::clone(settings),
            operation: None,
            chosen: chosen(&route, &query, &request.headers),
            style: query.peek("jsconfig").map_or(style, |wishes| style.wished(wishes)),
            debug: wishes_debug(&query),
            jar: Jar::new(&brought, EmptyIds(seed), Lid::of(elsewhere, only_reads), request.secure),
            sharing,
            browser: self.browser(request, &query, &verb),
        };
        let mut carried = Carried::default();
        if settings.tokens_in_fields && !elsewhere {
            carried = carried.with_fields(None, &query);
        }
        carried.operator_secret = request.headers.get(OPERATOR_SECRET).map(|secret| Secret::new(secret.as_bytes()));
        let query = request.query.as_deref().and_then(without_own).map(|query| format!("?{query}")).unwrap_or_default();
        let target = target.and_then(|target| PathAndQuery::try_from(format!("{target}{query}")).ok());
        let Some(target) = target else {
            return ControlFlow::Break(envelope.refuse(&Failure::OddPath));
        };
        if request.upgrade || wants_socket(&request.headers) {
            return ControlFlow::Break(envelope.refuse(&Failure::NoUpgrade));
        }
        let mut codings = request.headers.get_all(TRANSFER_ENCODING).iter();
        if codings.any(|coding| !coding.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked")) {
            // What we took off goes on without a word of what is still on it.
            return ControlFlow::Break(envelope.refuse(&Failure::OddCoding));
        }
        let length = text(&request.headers, CONTENT_LENGTH).and_then(|length| length.parse::<u64>().ok());
        if length.is_some_and(|length| length > service.backend.max_body) {
            return ControlFlow::Break(envelope.refuse(&Failure::LongBody));
        }
        let must = !service.lets_anyone(&verb);
        let authorization = Authorization::read(&request.headers);
        let (Shown { proofs, credentials }, broken) = Shown::of(settings, &authorization, &carried, &brought);
        if broken && must {
            return ControlFlow::Break(envelope.refuse(&Failure::WrongPassword));
        }
        let passing = Passing { headers: self.headers_of(request), target, verb, service };
        if proofs.len() == 1 && !must {
            // Nothing was shown but the client that everybody comes through.
            return ControlFlow::Break(passing.goes_on(None, envelope));
        }
        let kinds = vec![TokenKind::Upstream { audience: passing.service.audience.clone() }];
        let command = Command { presented: credentials, verb: Verb::Issue { kinds, request: for_nothing(Binding::Request) } };
        let asked = Asked::Passing(Guarded { proofs, must }, Box::new(passing));
        ControlFlow::Continue(Question { command, pending: Pending { asked, envelope } })
    }

    /// The header fields of a request that a service may see.
    fn headers_of(&self, request: &Request) -> HeaderMap {
        let mut headers = request.headers.clone();
        end_to_end(&mut headers);
        let proves = |name: &str| [AUTHORIZATION.as_str(), OPERATOR_SECRET, "x-ss-id", "x-ss-pid", "x-ss-opt"].contains(&name);
        unclaimed(&mut headers, proves);
        without_cookies(&mut headers, &cookies::NAMES);
        let host = headers.remove(HOST);
        let own = self.settings.public_url.as_deref().and_then(|url| url.split_once("://"));
        let host = own.and_then(|(_, authority)| HeaderValue::from_str(authority).ok()).or(host);
        if let Some(host) = host {
            headers.insert(FORWARDED_HOST, host);
        }
        headers
    }
}

impl Passing {
    /// Whoever calls is known, or it is known that nobody is.
    pub(super) fn decided(self, now: Timestamp, guarded: &Guarded, reply: Reply, mut envelope: Envelope) -> Response {
        let Granted { principal, tokens } = match guarded.passed(now, reply, Answer::granted, &mut envelope) {
            Ok(granted) => granted,
            Err(No::Said(Failure::NotAuthenticated)) if !guarded.must => return self.goes_on(None, envelope),
            Err(no) => return no.told(envelope),
        };
        match self.service.admits(&self.verb, &principal) {
            Ok(()) => {
                let token = tokens.into_iter().find(|token| matches!(token.kind, TokenKind::Upstream { .. }));
                self.goes_on(token.map(|token| token.secret), envelope)
            }
            Err(Lack::Provider(first)) => envelope.challenge_by(first),
            Err(Lack::Role) => envelope.forbid("Invalid Role"),
            Err(Lack::Permission) => envelope.forbid("Invalid Permission"),
        }
    }

    fn goes_on(self, identity: Option<Secret>, envelope: Envelope) -> Response {
        let Passing { service, verb: method, target, headers } = self;
        envelope.pass_on(|envelope| Forward {
            to: Arc::clone(&service.backend),
            method,
            target,
            headers,
            identity,
            own_cookies: &cookies::NAMES,
            failed: Box::new(|why| envelope.refuse(&told(why))),
        })
    }
}

/// A query without the members that are the gate's alone; the others stay byte by byte. None: nothing is left.
fn without_own(query: &str) -> Option<String> {
    let is_own = |pair: &&str| form::query(pair).names().any(|name| OWN_FIELDS.iter().any(|own| same(name, own)));
    let mut left = query.split('&').filter(|pair| !is_own(pair)).peekable();
    left.peek().is_some().then(|| left.collect::<Vec<&str>>().join("&"))
}

fn told(why: NoAnswer) -> Failure<'static> {
    match why {
        NoAnswer::Gone => Failure::ServiceGone,
        NoAnswer::Slow => Failure::ServiceSlow,
        NoAnswer::Full => Failure::Unavailable { retry_after: Some(FULL_WAIT) },
        NoAnswer::TooLong => Failure::LongBody,
        NoAnswer::PeerSlow => Failure::PeerSlow,
        NoAnswer::PeerBroken => Failure::PeerBroken,
    }
}

/// Whether a request is to become a socket. Another protocol that is only offered may be passed over (RFC 9110 section 7.8).
fn wants_socket(headers: &HeaderMap) -> bool {
    let offered = headers.get_all(UPGRADE).iter().filter_map(|value| value.to_str().ok());
    offered.flat_map(|value| value.split(',')).any(|protocol| protocol.trim().eq_ignore_ascii_case("websocket"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_the_gates_in_a_query_stays_with_the_gate() {
        let check = |query: &str, expected: Option<&str>| assert_eq!(without_own(query).as_deref(), expected, "{query}");
        check("b=c%20d&b=e&&x", Some("b=c%20d&b=e&&x"));
        check("ss-tok=x", None);
        check("a=%zz&SS-Tok=x&s%73-reftok=y&apikey&BEARERTOKEN=z&refreshToken=r&authsecret=s&b", Some("a=%zz&b"));
        check("X-Http-Method-Override=DELETE&a=1&x-http-method-override=GET&_method=PUT", Some("a=1"));
        check("ss-token=1&apikeys=2&a=apikey", Some("ss-token=1&apikeys=2&a=apikey"));
    }
}
