//! The two HTTP servers beside the control sockets: the one that says where everything is, and the one for files.
//!
//! The first tells everybody. The second tells nobody anything without a token of the right kind, not even which paths there are;
//! behind a good one there is nothing either, since files and pictures are the device's.

use std::convert::Infallible;
use std::ops::ControlFlow;

use bytes::Bytes;
use gatepost_identity::clock::Timestamp;
use gatepost_identity::command::{Command, Verb};
use gatepost_identity::credential::Credential;
use gatepost_identity::reply::{Answer, Reply};
use gatepost_identity::secret::Secret;
use gatepost_identity::terminal::{TerminalName, TerminalToken};
use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN, ALLOW, CACHE_CONTROL, CONTENT_TYPE,
    RETRY_AFTER, WWW_AUTHENTICATE,
};
use http::{HeaderValue, Method, StatusCode};

use crate::http::{Body, Request, Response};
use crate::trueconf::refusal::told;
use crate::trueconf::spelling::is_token;
use crate::{Exchange, Question, Seed, Step};

/// Where a terminal's sockets are, for whoever asks at [`Discovery::path`].
#[derive(Debug)]
pub(super) struct Discovery {
    body: String,
}

impl Discovery {
    /// Tells of a terminal whose control socket and server for files got these ports.
    pub(super) fn new(control: u16, http: u16) -> Discovery {
        Discovery {
            body: format!(
                r#"{{"config":{{"websocket":{{"hostname":null,"port":{control}}},"http":{{"hostname":null,"port":{http}}}}}}}"#
            ),
        }
    }

    /// Where this is told of a terminal.
    pub(super) fn path(terminal: &TerminalName) -> String {
        format!("/public/{}/config.json", terminal.as_str())
    }
}

impl Exchange for Discovery {
    type Pending = Infallible;

    fn receive(&self, _now: Timestamp, _seed: Seed, request: Request) -> Step<Infallible> {
        if request.method != Method::GET && request.method != Method::HEAD {
            let response = Response::empty(StatusCode::METHOD_NOT_ALLOWED);
            return ControlFlow::Break(response.with(ALLOW, HeaderValue::from_static("GET, HEAD")));
        }
        let mut response = Response::empty(StatusCode::OK)
            .with(CONTENT_TYPE, HeaderValue::from_static("application/json"))
            .with(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        response.body = Body::Bytes(Bytes::from(self.body.clone()));
        ControlFlow::Break(response)
    }

    fn answer(&self, _now: Timestamp, pending: Infallible, _reply: Reply) -> Response {
        match pending {}
    }
}

/// The server for files, of all terminals: the token says of which.
#[derive(Debug)]
pub(super) struct Files;

/// What a request with a token wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// Something that only a device would have.
    Thing,
    /// Such a thing, in a way that it is not had.
    OtherwiseThan(&'static str),
    /// What nobody has.
    Nothing,
}

/// The ways to a path, and the tokens that are good there.
type Way = (&'static [Method], &'static str, &'static [TerminalToken]);

const PICTURES: Way = (&[Method::GET, Method::HEAD], "GET, HEAD, OPTIONS", &[TerminalToken::Http]);
const UPLOADS: Way = (&[Method::POST], "POST, OPTIONS", &[TerminalToken::Http]);
const OVERLAY: Way =
    (&[Method::GET, Method::HEAD, Method::POST, Method::DELETE], "GET, HEAD, POST, DELETE, OPTIONS", &[TerminalToken::Overlay]);
const ANY: &[TerminalToken] = &[TerminalToken::Http, TerminalToken::Overlay];

impl Exchange for Files {
    type Pending = Wanted;

    /// Answers the request, or asks whose its token is.
    fn receive(&self, _now: Timestamp, _seed: Seed, request: Request) -> Step<Wanted> {
        if request.method == Method::OPTIONS {
            // A browser asks this by itself, and shows no token; it is the same for every path.
            let response = shared(Response::empty(StatusCode::NO_CONTENT));
            let methods = HeaderValue::from_static("GET, HEAD, POST, DELETE, OPTIONS");
            // A picture says that it is one, which a browser asks about first.
            let headers = HeaderValue::from_static("Content-Type");
            let response = response.with(ACCESS_CONTROL_ALLOW_METHODS, methods).with(ACCESS_CONTROL_ALLOW_HEADERS, headers);
            return ControlFlow::Break(response);
        }
        let way = match &*request.path {
            "/frames" | "/frames/" => Some(PICTURES),
            "/files" | "/files/" => Some(UPLOADS),
            "/overlay" | "/overlay/" => Some(OVERLAY),
            _ => None,
        };
        let Some(token) = request.query.as_deref().and_then(token) else {
            return ControlFlow::Break(unauthorized());
        };
        let (wanted, any_of) = match way {
            None => (Wanted::Nothing, ANY),
            Some((methods, _, any_of)) if methods.contains(&request.method) => (Wanted::Thing, any_of),
            Some((_, allow, any_of)) => (Wanted::OtherwiseThan(allow), any_of),
        };
        let presented = vec![Credential::TerminalToken { token, any_of }];
        ControlFlow::Continue(Question { command: Command { presented, verb: Verb::WhoAmI }, pending: wanted })
    }

    fn answer(&self, _now: Timestamp, wanted: Wanted, reply: Reply) -> Response {
        match (reply.result.and_then(Answer::granted), wanted) {
            (Ok(_), Wanted::Thing) => shared(Response::text(StatusCode::NOT_FOUND, "no device\n")),
            (Ok(_), Wanted::Nothing) => shared(Response::text(StatusCode::NOT_FOUND, "not found\n")),
            (Ok(_), Wanted::OtherwiseThan(allow)) => {
                shared(Response::empty(StatusCode::METHOD_NOT_ALLOWED)).with(ALLOW, HeaderValue::from_static(allow))
            }
            (Err(no), _) => {
                let told = told(&no);
                match (told.status, told.retry_after) {
                    (StatusCode::UNAUTHORIZED, _) => unauthorized(),
                    (status, None) => shared(Response::text(status, told.words + "\n")),
                    (status, Some(seconds)) => {
                        shared(Response::text(status, told.words + "\n")).with(RETRY_AFTER, HeaderValue::from(seconds))
                    }
                }
            }
        }
    }
}

/// One answer for no token, one that is none, one that is over and one of another kind.
fn unauthorized() -> Response {
    let response = shared(Response::text(StatusCode::UNAUTHORIZED, "unauthorized\n"));
    response.with(WWW_AUTHENTICATE, HeaderValue::from_static("TrueConf-Token"))
}

/// A page from anywhere may read what it has a token for: nothing else, and no cookie, is looked at here.
fn shared(response: Response) -> Response {
    response
        .with(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"))
        .with(CACHE_CONTROL, HeaderValue::from_static("no-store"))
}

/// The one parameter `token` of a query, where there is exactly one and it is written as a token is.
fn token(query: &str) -> Option<Secret> {
    let mut tokens = query.split('&').filter_map(|pair| pair.split_once('=')).filter(|(name, _)| *name == "token");
    let (_, value) = tokens.next().filter(|_| tokens.next().is_none())?;
    // Longer than any token with every byte of it escaped.
    let text = (value.len() <= 3 * 94).then(|| unescaped(value))??;
    is_token(&text).then(|| Secret::new(text))
}

/// A text without its escapes (RFC 3986 section 2.1). A broken one makes it no text.
fn unescaped(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        rest = match (first, after) {
            (b'%', [high, low, after @ ..]) => {
                let digit = |byte: &u8| char::from(*byte).to_digit(16);
                bytes.push(u8::try_from(digit(high)? * 16 + digit(low)?).ok()?);
                after
            }
            (b'%', _) => return None,
            (byte, after) => {
                bytes.push(*byte);
                after
            }
        };
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use gatepost_identity::refusal::Refusal;
    use gatepost_identity::terminal::TerminalRole;
    use http::HeaderMap;

    use super::*;

    fn request(method: Method, path: &str, query: Option<&str>) -> Request {
        Request {
            method,
            path: path.to_owned(),
            query: query.map(str::to_owned),
            headers: HeaderMap::new(),
            upgrade: false,
            secure: false,
            body: Bytes::new(),
        }
    }

    fn a_token() -> String {
        format!("4*{}*1999999999*{}", "aB3dE5gH7jK9mN1p", "3046".repeat(16))
    }

    fn body(response: &Response) -> &[u8] {
        match &response.body {
            Body::Bytes(bytes) => bytes,
            Body::Upgrade(_) | Body::Forward(_) => panic!("it is no socket, and nothing goes on"),
        }
    }

    #[test]
    fn everybody_is_told_where_a_terminal_is() {
        let discovery = Discovery::new(8765, 8766);
        assert_eq!(Discovery::path(&TerminalName::parse("default").expect("a name")), "/public/default/config.json");
        let step = |method| match discovery.receive(Timestamp::default(), [0; 16], request(method, "/", None)) {
            ControlFlow::Break(response) => response,
            ControlFlow::Continue(_) => panic!("nobody is asked"),
        };
        let response = step(Method::GET);
        assert_eq!((response.status, &response.headers[CACHE_CONTROL]), (StatusCode::OK, &HeaderValue::from_static("no-store")));
        let told: serde_json::Value = serde_json::from_slice(body(&response)).expect("JSON");
        let expected = serde_json::json!({"config": {
            "websocket": {"hostname": null, "port": 8765}, "http": {"hostname": null, "port": 8766},
        }});
        assert_eq!(told, expected);
        assert_eq!(step(Method::POST).status, 405);
    }

    /// The status for a request whose token, where the core is asked, is good.
    fn status(method: Method, path: &str, query: Option<&str>) -> (u16, Option<&'static [TerminalToken]>) {
        match Files.receive(Timestamp::default(), [0; 16], request(method, path, query)) {
            ControlFlow::Break(response) => (response.status.as_u16(), None),
            ControlFlow::Continue(Question { command, pending }) => {
                let [Credential::TerminalToken { token, any_of }] = &*command.presented else { panic!("{command:?}") };
                assert!(token.matches(a_token().as_bytes()));
                let granted = crate::trueconf::conversation::granted(TerminalRole::User, None, Vec::new());
                let response = Files.answer(Timestamp::default(), pending, Reply::of(Ok(Answer::Granted(granted))));
                (response.status.as_u16(), Some(*any_of))
            }
        }
    }

    #[test]
    fn behind_a_good_token_there_is_no_device() {
        let (http, overlay): (&[TerminalToken], &[TerminalToken]) = (&[TerminalToken::Http], &[TerminalToken::Overlay]);
        let query = format!("peerId=%23self%3A0&token={}", a_token());
        let check = |method: Method, path, expected: u16, kinds| {
            assert_eq!(status(method.clone(), path, Some(&query)), (expected, Some(kinds)), "{method} {path}");
        };
        check(Method::GET, "/frames/", 404, http);
        check(Method::GET, "/frames", 404, http);
        check(Method::POST, "/frames/", 405, http);
        check(Method::POST, "/files/", 404, http);
        check(Method::GET, "/files/", 405, http);
        for method in [Method::GET, Method::POST, Method::DELETE] {
            check(method, "/overlay", 404, overlay);
        }
        check(Method::PUT, "/overlay", 405, overlay);
        check(Method::GET, "/avatars/x", 404, ANY);
        check(Method::PUT, "/avatars/x", 404, ANY);
    }

    #[test]
    fn without_a_token_all_paths_look_alike() {
        let token = a_token();
        let queries = [
            None,
            Some("".to_owned()),
            Some("token=".to_owned()),
            Some("token".to_owned()),
            Some("token=junk".to_owned()),
            Some(format!("Token={token}")),
            Some(format!("token={token}&token={token}")),
            Some(format!("token={}", token.replace('*', "%2"))),
            Some(format!("token={}", token.replace('*', "%FF"))),
            Some(format!("token={token}{}", "x".repeat(1000))),
        ];
        for query in &queries {
            for path in ["/frames/", "/files/", "/overlay", "/avatars/x", "/"] {
                for method in [Method::GET, Method::POST, Method::DELETE, Method::PUT] {
                    let ControlFlow::Break(response) =
                        Files.receive(Timestamp::default(), [0; 16], request(method.clone(), path, query.as_deref()))
                    else {
                        panic!("nobody need be asked about {query:?}");
                    };
                    assert_eq!(response.status, 401, "{method} {path} {query:?}");
                    assert_eq!(response.headers[WWW_AUTHENTICATE], "TrueConf-Token");
                    assert_eq!(body(&response), b"unauthorized\n");
                }
            }
        }
        assert_eq!(status(Method::OPTIONS, "/anything", None).0, 204);
    }

    #[test]
    fn a_browser_may_send_a_picture() {
        let ControlFlow::Break(response) = Files.receive(Timestamp::default(), [0; 16], request(Method::OPTIONS, "/overlay", None))
        else {
            panic!("nobody need be asked");
        };
        let header = |name: &str| response.headers.get(name).map(|value| value.to_str().expect("text").to_owned());
        assert_eq!(header("access-control-allow-headers").as_deref(), Some("Content-Type"));
        assert_eq!(header("access-control-allow-methods").as_deref(), Some("GET, HEAD, POST, DELETE, OPTIONS"));
        assert_eq!(header("access-control-allow-origin").as_deref(), Some("*"));
    }

    #[test]
    fn a_token_may_be_escaped() {
        for escaped in [a_token(), a_token().replace('*', "%2A"), a_token().replace('*', "%2a"), format!("%34{}", &a_token()[1..])]
        {
            assert_eq!(status(Method::GET, "/frames/", Some(&format!("token={escaped}"))).0, 404, "{escaped}");
        }
        let every: String = a_token().bytes().map(|byte| format!("%{byte:02X}")).collect();
        assert_eq!(status(Method::GET, "/frames/", Some(&format!("token={every}"))).0, 404);
    }

    #[test]
    fn what_the_core_refuses_is_a_status() {
        let wait = Duration::from_secs(3);
        let rows: [(Refusal, u16, Option<&str>); 7] = [
            (Refusal::InvalidCredentials, 401, None),
            (Refusal::Expired, 401, None),
            (Refusal::Revoked, 401, None),
            (Refusal::NotPermitted, 403, None),
            (Refusal::TooManyAttempts { retry_after: wait }, 429, Some("3")),
            (Refusal::Unavailable, 503, None),
            (Refusal::Busy { retry_after: wait }, 503, Some("3")),
        ];
        for (no, status, retry) in rows {
            let response = Files.answer(Timestamp::default(), Wanted::Thing, Reply::of(Err(no.clone())));
            let told = response.headers.get(RETRY_AFTER).map(|value| value.to_str().expect("digits"));
            assert_eq!((response.status.as_u16(), told), (status, retry), "{no:?}");
            if status == 401 {
                assert_eq!(body(&response), body(&unauthorized()), "whatever is wrong with it, it is the same");
            }
        }
    }
}
