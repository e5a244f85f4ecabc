//! The opening handshake at `/Zenith`, and the short word at `/` that health checks look for.
//!
//! Checks in this order: a WebSocket upgrade at all (426), `version` (400), sub-protocols (400), one Authorization header at
//! most (400), the origin (403), and only then the credential, by the core. A query parameter never authenticates.

use std::ops::ControlFlow;
use std::sync::Arc;

use gatepost_identity::clock::Timestamp;
use gatepost_identity::refusal::Refusal;
use gatepost_identity::reply::{Answer, Principal, Reply};
use http::header::{ALLOW, AUTHORIZATION, ORIGIN, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, UPGRADE};
use http::{HeaderMap, HeaderValue, Method, StatusCode};

use crate::http::{Request, Response};
use crate::mount::Mount;
use crate::section::{BadSetting, Section};
use crate::zenith::conversation::Connection;
use crate::zenith::refusal::response;
use crate::zenith::request::{Login, token_login};
use crate::zenith::settings::Settings;
use crate::{Exchange, Question, Seed, Step};

/// The one serialisation there is. `ZenithBson` and `ZenithMsgPack` are never selected.
pub(super) const JSON: &str = "ZenithJson";

/// Attaches this gate to its paths.
pub(super) fn mounts(section: &Section) -> Result<Vec<Mount>, BadSetting> {
    let settings = Arc::new(Settings::read(section)?);
    Ok(vec![Mount::new("/Zenith", Handshake { settings }), Mount::new("/", Front)])
}

/// The version of the data protocol that a peer asked for: up to 2.0, all served alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Version {
    major: u8,
    minor: u16,
}

impl Version {
    /// The newest, served to whoever names none.
    pub(super) const NEWEST: Version = Version { major: 2, minor: 0 };

    /// Reads `N` to `N.N.N.N`, of which the last two are not kept. `None`: it is no version, or newer than any there is.
    pub(super) fn parse(text: &str) -> Option<Version> {
        let part = |digits: &str| {
            let plain = (1..=5).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit());
            digits.parse::<u16>().ok().filter(|_| plain)
        };
        let parts: Vec<u16> = text.split('.').take(5).map(part).collect::<Option<_>>()?;
        let (major, rest) = parts.split_first().filter(|(_, rest)| rest.len() <= 3)?;
        let newer = *major > 2 || (*major == 2 && rest.iter().any(|part| *part > 0));
        let minor = rest.first().copied().unwrap_or(0);
        u8::try_from(*major).ok().filter(|_| !newer).map(|major| Version { major, minor })
    }

    /// Writes it as ServerInfo tells it.
    pub(super) fn push(self, out: &mut String) {
        out.push_str(&format!("{}.{}", self.major, self.minor));
    }
}

/// What the handshake came to, before the credential is looked at.
pub(super) struct Opening {
    version: Version,
    subprotocol: Option<&'static str>,
}

/// `/Zenith`.
struct Handshake {
    settings: Arc<Settings>,
}

impl Handshake {
    fn welcome(&self, Opening { version, subprotocol }: Opening, principal: Option<Arc<Principal>>) -> Response {
        let connection = Connection::new(Arc::clone(&self.settings), version, principal);
        let service = self.settings.routes.as_ref().map(|routes| routes.upstream(version));
        Response::upgrade(subprotocol, self.settings.max_message, connection).before(service)
    }

    fn admits(&self, origin: Option<&HeaderValue>) -> bool {
        match (&self.settings.origins, origin) {
            (Some(allowed), Some(origin)) => allowed.iter().any(|one| one.as_bytes().eq_ignore_ascii_case(origin.as_bytes())),
            (None, _) | (_, None) => true,
        }
    }
}

impl Exchange for Handshake {
    type Pending = Opening;

    fn receive(&self, _now: Timestamp, _seed: Seed, request: Request) -> Step<Opening> {
        let opening = opening(&request)?;
        if !self.admits(request.headers.get(ORIGIN)) {
            return ControlFlow::Break(Response::empty(StatusCode::FORBIDDEN));
        }
        let Some(header) = request.headers.get(AUTHORIZATION) else {
            return ControlFlow::Break(self.welcome(opening, None));
        };
        match header.to_str().ok().and_then(credentials) {
            Some(Login::Ask(command)) => ControlFlow::Continue(Question { command, pending: opening }),
            Some(Login::Reject) | None => ControlFlow::Break(response(&Refusal::InvalidCredentials)),
        }
    }

    fn answer(&self, _now: Timestamp, opening: Opening, reply: Reply) -> Response {
        // A token that rolled has nowhere to be told in a 101. The one presented stays good until its successor is used.
        match reply.result.and_then(Answer::granted) {
            Ok(granted) => self.welcome(opening, Some(granted.principal)),
            Err(refusal) => response(&refusal),
        }
    }
}

/// `scheme credentials`: the scheme is the provider, the credentials are what AuthToken calls AccessToken.
fn credentials(header: &str) -> Option<Login> {
    let (scheme, token) = header.trim().split_once([' ', '\t'])?;
    Some(token_login(scheme, token.trim()))
}

fn opening(request: &Request) -> ControlFlow<Response, Opening> {
    if !request.upgrade {
        let response = Response::text(StatusCode::UPGRADE_REQUIRED, "This is a WebSocket: GET with an upgrade, version 13.\n");
        let response = response.with(UPGRADE, HeaderValue::from_static("websocket"));
        return ControlFlow::Break(response.with(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13")));
    }
    let Some(version) = asked_version(request.query.as_deref().unwrap_or("")) else {
        return bad("There is no such version of the protocol here: those up to 2.0 are served.\n");
    };
    let subprotocol = match offer(&request.headers) {
        Offer::Nothing => None,
        Offer::Json => Some(JSON),
        Offer::Others => return bad("None of the sub-protocols offered is spoken here: offer ZenithJson.\n"),
    };
    if request.headers.get_all(AUTHORIZATION).iter().nth(1).is_some() {
        return bad("There is more than one Authorization header.\n");
    }
    ControlFlow::Continue(Opening { version, subprotocol })
}

fn bad(text: &'static str) -> ControlFlow<Response, Opening> {
    ControlFlow::Break(Response::text(StatusCode::BAD_REQUEST, text))
}

/// What the first `version` of a query asks for, or the newest without one; every other parameter, `access_token` among
/// them, is passed over. `None`: there is no such version.
fn asked_version(query: &str) -> Option<Version> {
    match version_in(query) {
        Some(value) => Version::parse(&unescaped(value)?),
        None => Some(Version::NEWEST),
    }
}

/// The first `version` of a query, with its escapes, if there is one.
pub(super) fn version_in(query: &str) -> Option<&str> {
    let mut pairs = query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    pairs.find(|(name, _)| unescaped(name).as_deref() == Some("version")).map(|(_, value)| value)
}

/// A name or a value of a query, without its escapes (RFC 3986 section 2.1). `None`: an escape is broken, or it is no UTF-8.
fn unescaped(text: &str) -> Option<String> {
    let mut parts = text.split('%');
    let mut bytes = parts.next()?.as_bytes().to_vec();
    for part in parts {
        let (digits, rest) = part.split_at_checked(2).filter(|(digits, _)| digits.bytes().all(|byte| byte.is_ascii_hexdigit()))?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        bytes.extend_from_slice(rest.as_bytes());
    }
    String::from_utf8(bytes).ok()
}

#[derive(Debug, PartialEq, Eq)]
enum Offer {
    Nothing,
    Json,
    Others,
}

/// What the peer offers to speak, over all header lines. Read as bytes, so that no name can hide another.
fn offer(headers: &HeaderMap) -> Offer {
    let lines = headers.get_all(SEC_WEBSOCKET_PROTOCOL).iter().map(HeaderValue::as_bytes);
    let names = lines.flat_map(|line| line.split(|byte| *byte == b',')).map(<[u8]>::trim_ascii);
    let names: Vec<&[u8]> = names.filter(|name| !name.is_empty()).collect();
    match names.contains(&JSON.as_bytes()) {
        true => Offer::Json,
        false if names.is_empty() => Offer::Nothing,
        false => Offer::Others,
    }
}

/// `/`.
struct Front;

impl Exchange for Front {
    type Pending = std::convert::Infallible;

    fn receive(&self, _now: Timestamp, _seed: Seed, request: Request) -> Step<std::convert::Infallible> {
        if request.method != Method::GET && request.method != Method::HEAD {
            let refused = Response::empty(StatusCode::METHOD_NOT_ALLOWED);
            return ControlFlow::Break(refused.with(ALLOW, HeaderValue::from_static("GET, HEAD")));
        }
        ControlFlow::Break(Response::text(StatusCode::OK, "Gatepost. The Zenith WebSocket is at /Zenith.\n"))
    }

    fn answer(&self, _now: Timestamp, pending: std::convert::Infallible, _reply: Reply) -> Response {
        match pending {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_up_to_the_newest_are_told_as_asked() {
        let check = |text, expected: Option<&str>| {
            let told = Version::parse(text).map(|version| {
                let mut out = String::new();
                version.push(&mut out);
                out
            });
            assert_eq!(told.as_deref(), expected, "{text:?}");
        };
        check("2.0", Some("2.0"));
        check("2", Some("2.0"));
        check("1", Some("1.0"));
        check("1.6", Some("1.6"));
        check("1.1", Some("1.1"));
        check("1.2.3456.7890", Some("1.2"));
        check("2.0.0.0", Some("2.0"));
        for text in
            ["", "x", "9.9", "2.1", "2.0.0.1", "3", "1.", ".1", "1..2", "1.2.3.4.5", "-1", "+1", " 2.0", "2,0", "1.999999", "١"]
        {
            check(text, None);
        }
    }

    #[test]
    fn the_first_version_counts_and_nothing_else_does() {
        let check = |query, expected: Option<&str>| {
            assert_eq!(asked_version(query), expected.map(|text| Version::parse(text).expect("a version")), "{query:?}");
        };
        check("", Some("2.0"));
        check("access_token=x&Version=9", Some("2.0"));
        check("a=b&version=1.6&version=2.0", Some("1.6"));
        check("%76%65rsion=1%2E6", Some("1.6"));
        check("%=%&a%zz=b&version%=9&%ff=9&version=1.1", Some("1.1"));
        check("version%3D9", Some("2.0"));
        for query in
            ["version", "version=", "version=2%", "version=2%2", "version=2%2x", "version=%+2", "version=%ff", "version=%é"]
        {
            check(query, None);
        }
        check("a=%&version=1.6&version=%", Some("1.6"));
    }

    #[test]
    fn sub_protocols_are_read_over_all_lines_in_their_exact_case() {
        let check = |lines: &[&'static str], expected| {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_bytes(line.as_bytes()).expect("a header's value"));
            }
            assert_eq!(offer(&headers), expected, "{lines:?}");
        };
        check(&[], Offer::Nothing);
        check(&[" , "], Offer::Nothing);
        check(&["ZenithJson"], Offer::Json);
        check(&["ZenithMsgPack ,  ZenithJson"], Offer::Json);
        check(&["ZenithBson", "ZenithJson"], Offer::Json);
        check(&["Zénith, ZenithJson\t"], Offer::Json);
        check(&["Zénith"], Offer::Others);
        check(&["Foo"], Offer::Others);
        check(&["zenithjson"], Offer::Others);
        check(&["ZenithBson, ZenithMsgPack"], Offer::Others);
    }
}
