//! The opening handshake of a control socket.
//!
//! Checks in this order: the path (404), a WebSocket upgrade at all (426), the origin (403). Nobody proves anything here; that is
//! the first message's business.
//!
//! The origin is what keeps a web page that somebody reads from commanding the terminal next to them. The clients of this wire are
//! no browsers: they send none, their own address, or something that is no address at all. So what a browser could send is looked
//! at, and everything else is let in.

use std::convert::Infallible;
use std::ops::ControlFlow;
use std::sync::Arc;

use gatepost_identity::clock::Timestamp;
use gatepost_identity::reply::Reply;
use http::header::{HOST, ORIGIN, SEC_WEBSOCKET_VERSION, UPGRADE};
use http::{HeaderValue, StatusCode};

use crate::http::{Request, Response};
use crate::trueconf::conversation::{Connection, Terminal};
use crate::trueconf::settings::Settings;
use crate::{Exchange, Seed, Step};

/// The handshake at one terminal.
#[derive(Debug)]
pub(super) struct Opening {
    settings: Arc<Settings>,
    terminal: Terminal,
}

impl Opening {
    /// At this terminal.
    pub(super) fn new(settings: Arc<Settings>, terminal: Terminal) -> Opening {
        Opening { settings, terminal }
    }
}

impl Exchange for Opening {
    type Pending = Infallible;

    fn receive(&self, now: Timestamp, _seed: Seed, request: Request) -> Step<Infallible> {
        if request.path != "/" {
            return ControlFlow::Break(Response::empty(StatusCode::NOT_FOUND));
        }
        if !request.upgrade {
            let response = Response::empty(StatusCode::UPGRADE_REQUIRED);
            let response = response.with(UPGRADE, HeaderValue::from_static("websocket"));
            return ControlFlow::Break(response.with(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13")));
        }
        let host = request.headers.get(HOST).and_then(|host| host.to_str().ok());
        // What is not even text comes from no browser.
        let mut origins = request.headers.get_all(ORIGIN).iter().filter_map(|origin| origin.to_str().ok());
        if origins.any(|origin| !is_welcome(origin, host, &self.settings.origins)) {
            return ControlFlow::Break(Response::empty(StatusCode::FORBIDDEN));
        }
        let connection = Connection::new(Arc::clone(&self.settings), self.terminal.clone(), now);
        ControlFlow::Break(Response::upgrade(None, self.settings.max_message, connection))
    }

    fn answer(&self, _now: Timestamp, pending: Infallible, _reply: Reply) -> Response {
        match pending {}
    }
}

/// Whether whoever comes from this origin may come in. A page of the terminal's own may, if the terminal goes by an address or by a
/// name that nobody on the internet can give out: else a page could give its own name the terminal's address.
fn is_welcome(origin: &str, host: Option<&str>, allowed: &[String]) -> bool {
    let origin = origin.trim();
    if allowed.iter().any(|one| one.eq_ignore_ascii_case(origin)) {
        return true;
    }
    let lower = origin.to_ascii_lowercase();
    let Some(page) = lower.strip_prefix("http://").or_else(|| lower.strip_prefix("https://")) else {
        // What a browser says of a page whose origin it does not tell: a frame in a sandbox, for one.
        return lower != "null";
    };
    let page = without_port(page);
    host.is_some_and(|host| without_port(&host.to_ascii_lowercase()) == page) && is_local(page)
}

/// `host` or `host:port`, without the port.
fn without_port(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => authority,
    }
}

/// Whether this is an address, or a name that only a local network has.
fn is_local(host: &str) -> bool {
    let address = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let local = [".local", ".localhost", ".lan", ".internal", ".home.arpa"];
    let named = !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_'));
    address.parse::<std::net::IpAddr>().is_ok() || (named && (!host.contains('.') || local.iter().any(|end| host.ends_with(end))))
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, Method};

    use super::*;
    use crate::section::Section;

    fn status(path: &str, upgrade: bool, headers: &[(http::HeaderName, &str)], settings: &str) -> u16 {
        let settings = Arc::new(Settings::read(&Section(settings.parse().expect("TOML"))).expect("settings"));
        let mut fields = HeaderMap::new();
        for (name, value) in headers {
            fields.append(name, HeaderValue::from_str(value).expect("a value"));
        }
        let (path, body) = (path.to_owned(), bytes::Bytes::new());
        let request = Request { method: Method::GET, path, query: None, headers: fields, upgrade, secure: false, body };
        let terminal = Terminal { http_port: 8766, device: None };
        match Opening::new(settings, terminal).receive(Timestamp::default(), [0; 16], request) {
            ControlFlow::Break(response) => response.status.as_u16(),
            ControlFlow::Continue(_) => panic!("nobody is asked"),
        }
    }

    #[test]
    fn a_socket_is_opened_at_the_root_only() {
        assert_eq!(status("/", true, &[], ""), 101);
        assert_eq!(status("/", false, &[], ""), 426);
        assert_eq!(status("/control", true, &[], ""), 404);
    }

    #[test]
    fn a_page_from_elsewhere_does_not_come_in_and_clients_that_are_no_browsers_do() {
        let check = |origin: &str, host: &str, expected| {
            assert_eq!(status("/", true, &[(HOST, host), (ORIGIN, origin)], ""), expected, "{origin} at {host}");
        };
        for welcome in
            ["http://192.0.2.7:8765", "https://192.0.2.7", "HTTP://192.0.2.7:8080", "VideoSDK to API websocket17", "", "x"]
        {
            check(welcome, "192.0.2.7:8765", 101);
        }
        for foreign in ["http://evil.example", "https://192.0.2.8", "http://192.0.2.7@evil.example", "http://", "null", "NULL"] {
            check(foreign, "192.0.2.7:8765", 403);
        }
        check("http://[::1]:8765", "[::1]:8765", 101);
        check("http://localhost:8765", "localhost:8765", 101);
        check("http://room:8765", "ROOM:8765", 101);
        check("http://room.local", "room.local:8765", 101);
        // A page that has given its own name the address of the terminal.
        check("http://evil.example:8765", "evil.example:8765", 403);
        check("http://room.evil.example", "room.evil.example", 403);
        assert_eq!(status("/", true, &[(ORIGIN, "http://192.0.2.7")], ""), 403, "without a host there is nothing to compare with");
        let two = [(HOST, "192.0.2.7"), (ORIGIN, "http://192.0.2.7"), (ORIGIN, "http://evil.example")];
        assert_eq!(status("/", true, &two, ""), 403);
    }

    #[test]
    fn an_origin_can_be_allowed() {
        let allowed = "origins = ['https://panel.example', 'null']";
        let check = |origin: &str, expected| {
            assert_eq!(status("/", true, &[(HOST, "room.example:8765"), (ORIGIN, origin)], allowed), expected, "{origin}");
        };
        check("https://panel.example", 101);
        check("https://Panel.example", 101);
        check("null", 101);
        check("http://panel.example", 403);
        check("https://panel.example.evil.example", 403);
    }
}
