//! A request that goes on to a service behind a gate, and what may pass: pure rules over header fields, the same for each gate.
//!
//! ```text
//! peer ─► fields that belong to one connection fall away ─► the gate takes its own out ─► who is there is put in ─► service
//! peer ◄─ the gate's own answer joins ◄─ nothing that only the gate may say ◄─ the same falls away ◄──────────────── service
//! ```
//!
//! It refuses to know who anybody is, and how bytes move.

use std::sync::Arc;
use std::time::Duration;

use gatepost_identity::secret::Secret;
use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, CACHE_CONTROL, CONNECTION, CONTENT_LENGTH, COOKIE, EXPECT, FORWARDED,
    SET_COOKIE, TE, TRAILER, TRANSFER_ENCODING, UPGRADE, VARY,
};
use http::uri::{Authority, PathAndQuery};
use http::{HeaderMap, HeaderName, HeaderValue, Method};

use crate::http::Response;

/// A service behind a gate that is asked by requests, as the driver must know it.
#[derive(Debug, PartialEq, Eq)]
pub struct Backend {
    /// Where it is: `host:port`, over HTTP without TLS.
    pub authority: Authority,
    /// How long it may take to accept a connection.
    pub connect: Duration,
    /// How long it may take for the head of its answer, from the last that it was sent.
    pub answer: Duration,
    /// How long it may be silent within an answer, and a peer take nothing of one.
    pub idle: Duration,
    /// The longest body of a request, in bytes.
    pub max_body: u64,
    /// How many requests may be with it at once.
    pub max_in_flight: usize,
}

/// A request that goes on.
pub struct Forward {
    /// To whom.
    pub to: Arc<Backend>,
    /// The method.
    pub method: Method,
    /// Path and query.
    pub target: PathAndQuery,
    /// The header fields that go along: none that belongs to the peer's connection, none that proves anything, none that says who is
    /// there.
    pub headers: HeaderMap,
    /// What tells the service who is there, if anybody is: a signed token.
    pub identity: Option<Secret>,
    /// Names of cookies that are the gate's to set.
    pub own_cookies: &'static [&'static str],
    /// How the gate says that there is no answer.
    pub failed: Box<dyn FnOnce(NoAnswer) -> Response + Send>,
}

/// Why a service has not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoAnswer {
    /// It cannot be reached, hangs up, or says what is no HTTP.
    Gone,
    /// It takes too long.
    Slow,
    /// As much is with it as may be.
    Full,
    /// The request is longer than it may be.
    TooLong,
    /// The peer stopped in the middle of its request.
    PeerSlow,
}

/// Fields that mean one connection and not what goes over it (RFC 9110 section 7.6.1), beside those that `Connection` names.
const OF_ONE_CONNECTION: [&str; 7] = [
    "keep-alive",
    "proxy-connection",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-authentication-info",
    "http2-settings",
    "alt-svc",
];

/// Takes out whatever belongs to one connection: what goes on says its own.
pub fn end_to_end(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    if headers.contains_key(TRANSFER_ENCODING) {
        // Of two lengths the other counts (RFC 9112 section 6.3), and only one goes on.
        headers.remove(CONTENT_LENGTH);
    }
    for name in named.into_iter().chain([CONNECTION, TRANSFER_ENCODING, TE, TRAILER, UPGRADE, EXPECT]) {
        headers.remove(name);
    }
    for name in OF_ONE_CONNECTION {
        headers.remove(name);
    }
}

/// Takes out what only we may say to a service: who is there, and where they come from. `_` counts as `-`, since many services read
/// both alike.
pub fn unclaimed(headers: &mut HeaderMap, is_own: impl Fn(&str) -> bool) {
    let is_claim = |name: &str| {
        let name = name.replace('_', "-");
        name == FORWARDED.as_str()
            || name == "x-real-ip"
            || ["gatepost-", "x-forwarded-"].iter().any(|start| name.starts_with(start))
            || is_own(&name)
    };
    let claims: Vec<HeaderName> = headers.keys().filter(|name| is_claim(name.as_str())).cloned().collect();
    for name in claims {
        headers.remove(name);
    }
}

/// Takes these cookies out of what a browser has sent; the others stay as they are.
pub fn without_cookies(headers: &mut HeaderMap, names: &[&str]) {
    let lines: Vec<HeaderValue> = headers.get_all(COOKIE).iter().cloned().collect();
    headers.remove(COOKIE);
    for line in lines {
        let is_own = |pair: &&[u8]| names.iter().any(|own| cookie_name(pair).eq_ignore_ascii_case(own.as_bytes()));
        let pairs = line.as_bytes().split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
        let kept: Vec<&[u8]> = pairs.filter(|pair| !pair.is_empty() && !is_own(pair)).collect();
        if let Some(value) = Some(kept.join(&b"; "[..])).filter(|kept| !kept.is_empty())
            && let Ok(value) = HeaderValue::from_bytes(&value)
        {
            headers.append(COOKIE, value);
        }
    }
}

/// The name that a pair has where it comes back. Browsers send a cookie without a name as its value alone, which may look like a pair.
fn cookie_name(pair: &[u8]) -> &[u8] {
    let begins = pair.iter().position(|byte| *byte != b'=' && !byte.is_ascii_whitespace()).unwrap_or(pair.len());
    let pair = &pair[begins..];
    pair.split(|byte| matches!(byte, b'=' | b';')).next().unwrap_or_default().trim_ascii()
}

/// The header fields of a service's answer as the peer gets them: those of the answer that do not mean the connection, without what
/// is the gate's to say, and the gate's own.
///
/// Whom an answer is shared with is the gate's to say alone, since it answers what browsers ask before they ask. Where the gate sets
/// a cookie, or the service does not say, nobody keeps a copy.
pub fn joined(mut answer: HeaderMap, own: HeaderMap, own_cookies: &[&str]) -> HeaderMap {
    end_to_end(&mut answer);
    unclaimed(&mut answer, |_| false);
    for name in [
        ACCESS_CONTROL_ALLOW_CREDENTIALS,
        ACCESS_CONTROL_ALLOW_HEADERS,
        ACCESS_CONTROL_ALLOW_METHODS,
        ACCESS_CONTROL_ALLOW_ORIGIN,
        ACCESS_CONTROL_EXPOSE_HEADERS,
        ACCESS_CONTROL_MAX_AGE,
    ] {
        answer.remove(name);
    }
    let set: Vec<HeaderValue> = answer.get_all(SET_COOKIE).iter().cloned().collect();
    answer.remove(SET_COOKIE);
    for cookie in set {
        let name = cookie_name(cookie.as_bytes());
        if !own_cookies.iter().any(|own| name.eq_ignore_ascii_case(own.as_bytes())) {
            answer.append(SET_COOKIE, cookie);
        }
    }
    let sets_cookies = own.contains_key(SET_COOKIE);
    let mut last = None;
    for (name, value) in own {
        // Of several values of a name the first alone comes with it.
        let Some(name) = name.or(last) else { break };
        if name == SET_COOKIE || name == VARY {
            answer.append(name.clone(), value);
        } else if name != CACHE_CONTROL || sets_cookies || !answer.contains_key(CACHE_CONTROL) {
            answer.insert(name.clone(), value);
        }
        last = Some(name);
    }
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(fields: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            let name: HeaderName = name.parse().expect("a name");
            headers.append(name, HeaderValue::from_bytes(value.as_bytes()).expect("a value"));
        }
        headers
    }

    fn told(headers: &HeaderMap) -> Vec<String> {
        let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
        headers.iter().map(|(name, value)| format!("{name}: {}", text(value))).collect()
    }

    #[test]
    fn what_means_one_connection_does_not_go_on() {
        let mut all = headers(&[
            ("accept", "*/*"),
            ("connection", "close, X-Private ,, not a name"),
            ("connection", "x-other"),
            ("x-private", "1"),
            ("x-other", "2"),
            ("keep-alive", "timeout=5"),
            ("te", "trailers"),
            ("trailer", "x"),
            ("transfer-encoding", "chunked"),
            ("content-length", "5"),
            ("upgrade", "h2c"),
            ("expect", "100-continue"),
            ("proxy-authorization", "Basic x"),
            ("proxy-connection", "keep-alive"),
            ("content-type", "text/plain"),
        ]);
        end_to_end(&mut all);
        assert_eq!(told(&all), ["accept: */*", "content-type: text/plain"]);
        let mut sized = headers(&[("content-length", "5")]);
        end_to_end(&mut sized);
        assert_eq!(told(&sized), ["content-length: 5"]);
    }

    #[test]
    fn nobody_else_says_who_is_there() {
        let mut all = headers(&[
            ("gatepost-identity", "x"),
            ("gatepost_identity", "x"),
            ("x-forwarded-for", "x"),
            ("x_forwarded_user", "x"),
            ("forwarded", "x"),
            ("x-real-ip", "x"),
            ("authorization", "x"),
            ("x-other", "1"),
        ]);
        unclaimed(&mut all, |name| name == "authorization");
        assert_eq!(told(&all), ["x-other: 1"]);
    }

    #[test]
    fn cookies_of_the_gate_stay_with_the_gate() {
        let check = |cookies: &[&str], expected: &[&str]| {
            let mut all = HeaderMap::new();
            for cookie in cookies {
                all.append(COOKIE, HeaderValue::from_bytes(cookie.as_bytes()).expect("a value"));
            }
            without_cookies(&mut all, &["ss-id", "ss-tok"]);
            let left: Vec<String> = told(&all).iter().map(|line| line.replacen("cookie: ", "", 1)).collect();
            assert_eq!(left, expected, "{cookies:?}");
        };
        check(&["ss-id=1; a=2; ss-tok=3;b=\"4\""], &["a=2; b=\"4\""]);
        check(&["ss-id=1", "SS-TOK=2; c=3"], &["c=3"]);
        check(&["ss-id =1;= ss-id=2; ==ss-tok=x; ss-id; ;"], &[]);
        check(&["ss-idx=1; xss-id=2; é=3"], &["ss-idx=1; xss-id=2; é=3"]);
    }

    #[test]
    fn an_answer_goes_back_with_the_gates_own_word() {
        let answer = headers(&[
            ("content-type", "text/plain"),
            ("connection", "x-hop"),
            ("x-hop", "1"),
            ("set-cookie", "basket=1; path=/"),
            ("set-cookie", "SS-ID=evil; path=/"),
            ("set-cookie", " =ss-id=evil"),
            ("vary", "Accept-Language"),
            ("cache-control", "public, max-age=60"),
            ("access-control-allow-origin", "*"),
            ("gatepost-identity", "{}"),
        ]);
        let own = headers(&[("vary", "Accept"), ("cache-control", "no-store")]);
        let mut expected =
            vec!["content-type: text/plain", "set-cookie: basket=1; path=/", "vary: Accept-Language", "vary: Accept"];
        let sorted = |headers: HeaderMap| {
            let mut lines = told(&headers);
            lines.sort();
            lines
        };
        expected.push("cache-control: public, max-age=60");
        expected.sort_unstable();
        assert_eq!(sorted(joined(answer.clone(), own, &["ss-id"])), expected);

        let own = headers(&[("set-cookie", "ss-tok=1"), ("set-cookie", "ss-id=2"), ("cache-control", "no-store")]);
        let told = sorted(joined(answer, own, &["ss-id"]));
        assert!(told.contains(&"cache-control: no-store".to_owned()), "{told:?}");
        assert_eq!(told.iter().filter(|line| line.starts_with("set-cookie")).count(), 3, "{told:?}");
        let silent = joined(HeaderMap::new(), headers(&[("cache-control", "no-store")]), &[]);
        assert_eq!(sorted(silent), ["cache-control: no-store"]);
    }
}
