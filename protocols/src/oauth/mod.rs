//! The OAuth gate: so far the keys with which others verify what this server has signed, at the usual address.
//! `docs/protocols/oauth.md` says what is served here and how to use it.
//!
//! It refuses to know what is signed, and for whom.

use std::ops::ControlFlow;

use bytes::Bytes;
use gatepost_identity::clock::Timestamp;
use gatepost_identity::command::{Command, Verb};
use gatepost_identity::reply::{Answer, Reply};
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Method, StatusCode};
use serde::Deserialize;

use crate::http::{Body, Request, Response};
use crate::mount::Mount;
use crate::{Exchange, Gate, Question, Seed, Step};

/// This gate's row.
pub const GATE: Gate = Gate {
    name: "oauth",
    spell: None,
    scopes: |section| section.read::<Settings>().map(|Settings {}| Vec::new()),
    mounts: |section, _| section.read::<Settings>().map(|Settings {}| vec![Mount::new("/.well-known/jwks.json", Keys)]),
    rotates_refresh: |_| Ok(false),
    knows_tls: true,
    weakens: |_| Ok(Vec::new()),
    restarts: &[],
    own: |_| Ok(None),
};

/// There is nothing to set.
#[derive(Deserialize)]
struct Settings {}

/// `/.well-known/jwks.json`.
struct Keys;

impl Exchange for Keys {
    type Pending = ();

    fn receive(&self, _now: Timestamp, _seed: Seed, request: Request) -> Step<()> {
        if request.method != Method::GET && request.method != Method::HEAD {
            let refused = Response::empty(StatusCode::METHOD_NOT_ALLOWED);
            return ControlFlow::Break(refused.with(ALLOW, HeaderValue::from_static("GET, HEAD")));
        }
        ControlFlow::Continue(Question { command: Command { presented: Vec::new(), verb: Verb::PublicKeys }, pending: () })
    }

    fn answer(&self, _now: Timestamp, (): (), reply: Reply) -> Response {
        match reply.result.and_then(Answer::public_keys) {
            Ok(keys) => {
                let mut response = Response::empty(StatusCode::OK)
                    // RFC 7517 section 8.5.2.
                    .with(CONTENT_TYPE, HeaderValue::from_static("application/jwk-set+json"))
                    .with(CACHE_CONTROL, HeaderValue::from_static("public, max-age=300"));
                response.body = Body::Bytes(Bytes::from(keys));
                response
            }
            // Whatever the reason, the keys are no secret: nobody is refused them, and they are there again in a while.
            Err(_) => Response::empty(StatusCode::SERVICE_UNAVAILABLE),
        }
    }
}

#[cfg(test)]
mod tests {
    use gatepost_identity::refusal::Refusal;
    use http::HeaderMap;

    use super::*;
    use crate::mount::{At, Served};
    use crate::section::Section;

    fn mount() -> Mount {
        (GATE.mounts)(&Section::default(), None).ok().and_then(|mut mounts| mounts.pop()).expect("one mount")
    }

    fn served(method: Method, result: Result<Answer, Refusal>) -> Response {
        let Mount { at, exchange, .. } = mount();
        let At::Exactly(path) = at else { panic!("one address: {at:?}") };
        let request =
            Request { method, path, query: None, headers: HeaderMap::new(), upgrade: false, secure: true, body: Bytes::new() };
        match exchange.receive(Timestamp::default(), [0; 16], request) {
            Served::Response(response) => response,
            Served::Question(command, answer) => {
                assert!(matches!(command.verb, Verb::PublicKeys) && command.presented.is_empty(), "{command:?}");
                answer(Timestamp::default(), Reply::of(result))
            }
        }
    }

    #[test]
    fn the_keys_are_told_as_the_core_tells_them() {
        for method in [Method::GET, Method::HEAD] {
            let response = served(method, Ok(Answer::PublicKeys(r#"{"keys":[]}"#.to_owned())));
            assert_eq!(response.status, 200);
            assert_eq!(response.headers[CONTENT_TYPE], "application/jwk-set+json");
            assert_eq!(response.headers[CACHE_CONTROL], "public, max-age=300");
            assert!(matches!(response.body, Body::Bytes(bytes) if bytes == r#"{"keys":[]}"#));
        }
    }

    #[test]
    fn whatever_goes_wrong_is_for_a_while_and_not_kept_by_anybody() {
        for refusal in [Refusal::Unavailable, Refusal::TimedOut, Refusal::LoginRequired] {
            let response = served(Method::GET, Err(refusal));
            assert_eq!((response.status, response.headers.get(CACHE_CONTROL)), (StatusCode::SERVICE_UNAVAILABLE, None));
        }
    }

    #[test]
    fn there_is_nothing_but_to_read() {
        for method in [Method::POST, Method::PUT, Method::DELETE, Method::OPTIONS] {
            let response = served(method, Err(Refusal::Unavailable));
            assert_eq!(
                (response.status, &response.headers[ALLOW]),
                (StatusCode::METHOD_NOT_ALLOWED, &HeaderValue::from_static("GET, HEAD"))
            );
        }
    }

    #[test]
    fn a_key_in_its_section_is_refused() {
        let section = Section("issuer = 'x'".parse().expect("TOML"));
        assert_eq!((GATE.scopes)(&section).map(|scopes| scopes.len()).map_err(|bad| bad.key), Err("issuer".to_owned()));
        assert_eq!((GATE.mounts)(&section, None).map(|mounts| mounts.len()).map_err(|bad| bad.key), Err("issuer".to_owned()));
    }
}
