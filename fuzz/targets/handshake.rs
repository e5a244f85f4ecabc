//! Any request at the mounts of the Zenith gate, with a core that says yes or no.
//!
//! The input is a request as it travels, with the core's answer before it: its first line is `+` where the core grants and
//! anything else where it refuses; then `GET /Zenith?version=2.0` with `!` behind it where the request is no good handshake;
//! then header fields, a line each.
//!
//! Whoever becomes a socket has been granted or has presented nothing; nobody else is told `Success`.

#![no_main]

use std::sync::Arc;

use gatepost_fuzz::scripted;
use gatepost_fuzz::tried::{Happening, Says, Tried, refusals};
use gatepost_protocols::http::Request;
use gatepost_protocols::mount::{Mount, Served};
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let mut lines = input.split(|byte| *byte == b'\n');
    let (Some(core), Some(request)) = (lines.next(), lines.next()) else { return };
    let says = match core.first() {
        Some(b'+') => Says::Grants("ann"),
        other => {
            let refusals = refusals();
            Says::Refuses(refusals[usize::from(*other.unwrap_or(&0)) % refusals.len()].clone())
        }
    };
    let Some(request) = request_of(request, lines) else { return };
    let mounts = scripted::mounts("origins = ['https://app.example.org']").expect("good settings");
    let Some(mount) = Mount::find(&mounts, &request.path, |mount| mount) else { return };
    let (upgrade, presented) = (request.upgrade, request.headers.contains_key(AUTHORIZATION));
    let (response, granted) = match Arc::clone(&mount.exchange).receive(scripted::START, [0; 16], request) {
        Served::Response(response) => (response, false),
        Served::Question(_, answer) => {
            assert!(presented && upgrade, "the core is asked about credentials of a handshake only");
            (answer(scripted::START, says.reply()), matches!(says, Says::Grants(_)))
        }
    };
    let status = response.status.as_u16();
    assert!([101, 200, 400, 403, 405, 426, 429, 503].contains(&status), "{status}");
    assert!(!granted || status == 101, "what was granted is not kept from the peer: {status}");
    if status == 101 {
        assert!(upgrade && (granted || !presented), "a socket for nobody");
        let mut tried = Tried::upgraded(response, granted);
        assert_eq!(tried.is_identified(), granted);
        let subscription = r#"{"Controller":"Auth","Topic":"Identify","Action":"Sub"}"#.to_owned();
        assert!(tried.go_through(&Happening::Text(subscription, Says::Refuses(refusals().remove(0)))), "it is open");
    }
});

/// `None`: the listener would not have handed this on.
fn request_of<'a>(first: &[u8], fields: impl Iterator<Item = &'a [u8]>) -> Option<Request> {
    let first = std::str::from_utf8(first).ok()?;
    let (method, target) = first.split_once(' ')?;
    let (target, upgrade) = target.strip_suffix('!').map_or((target, true), |target| (target, false));
    let target: http::uri::PathAndQuery = target.parse().ok()?;
    let mut headers = HeaderMap::new();
    for field in fields.take(100) {
        let colon = field.iter().position(|byte| *byte == b':')?;
        let name = HeaderName::from_bytes(&field[..colon]).ok()?;
        headers.append(name, HeaderValue::from_bytes(field[colon + 1..].trim_ascii()).ok()?);
    }
    let method: Method = method.parse().ok()?;
    // A handshake is a GET, or it is none: the listener sees to that.
    let upgrade = upgrade && method == Method::GET;
    let query = target.query().map(str::to_owned);
    Some(Request { method, path: target.path().to_owned(), query, headers, upgrade, secure: true, body: Default::default() })
}
