//! Credentials on the upgrade request itself: the scheme is the provider, the credentials are the token.

use serde_json::json;

use crate::harness::{CHEAP, PASSWORD, Server};
use crate::peer::{Peer, Response, handshake, http};

fn upgrade(server: &Server, source: u16, path: &str, authorization: &str) -> Result<Peer, Response> {
    Peer::upgrade(server.http(), source, path, &format!("Authorization: {authorization}\r\n"))
}

fn status(server: &Server, authorization: &str) -> u16 {
    upgrade(server, 0, "/Zenith", authorization).expect_err(authorization).status
}

#[test]
fn a_good_token_on_the_upgrade_opens_an_authenticated_connection() {
    let server = Server::with_ann(CHEAP);
    let token = server.connect().login("ann", PASSWORD).token();
    for scheme in ["Paritech", "paritech", "BasicAuth", "local"] {
        let mut peer = upgrade(&server, 0, "/Zenith", &format!("{scheme} {token}")).expect(scheme);
        let answer = peer.query();
        assert_eq!((answer.outcome(), &answer.0["Data"]["UserID"]), ("Success", &json!("ann")), "{scheme}");
        let told = peer.subscribe();
        assert_eq!(told.scope(), &json!(["Zenith/Market", "Zenith/News"]));
    }
}

#[test]
fn what_changes_afterwards_reaches_a_connection_that_came_with_a_token() {
    let server = Server::with_ann(CHEAP);
    let token = server.connect().login("ann", PASSWORD).token();
    let mut peer = upgrade(&server, 0, "/Zenith", &format!("Paritech {token}")).expect("a good token");
    peer.subscribe().granted();
    server.operator(&["user", "disable", "ann"], "").ok();
    peer.told().rejected();
    peer.query().rejected();
    assert_eq!(status(&server, &format!("Paritech {token}")), 403);
}

#[test]
fn bad_credentials_on_the_upgrade_are_403() {
    let server = Server::with_ann(CHEAP);
    let token = server.connect().login("ann", PASSWORD).token();
    for authorization in [
        "Paritech AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
        "Paritech x",
        "Paritech",
        "",
        &format!("Nope {token}"),
        &format!("Paritech {}", &token[1..]),
        "Basic YW5uOmNvcnJlY3QgaG9yc2U=",
    ] {
        let response = upgrade(&server, 0, "/Zenith", authorization).expect_err(authorization);
        assert_eq!((response.status, response.body.as_str()), (403, ""), "{authorization:?}");
        assert!(response.header("www-authenticate").is_some_and(|value| value.contains("invalid_token")), "{response:?}");
    }
}

#[test]
fn two_authorization_headers_are_400() {
    let server = Server::with_ann(CHEAP);
    let token = server.connect().login("ann", PASSWORD).token();
    assert_eq!(status(&server, &format!("Paritech {token}\r\nAuthorization: Paritech {token}")), 400);
}

#[test]
fn a_token_in_the_query_never_authenticates() {
    let server = Server::with_ann(&format!("log = \"trace\"\n{CHEAP}"));
    let token = server.connect().login("ann", PASSWORD).token();
    let path = format!("/Zenith?access_token={}&version=2.0", token.replace('+', "%2B"));
    let mut peer = Peer::upgrade(server.http(), 0, &path, "").expect("it is passed over");
    peer.query().rejected();
    assert!(!server.log().contains("access_token="), "{}", server.log());
}

#[test]
fn too_many_bad_tokens_are_429_with_the_time_to_wait_and_limited_on_a_socket() {
    let server = Server::with_ann(&format!("{CHEAP}[throttle]\ntoken_free = 3\ntoken_forgives = \"1h\"\n"));
    let token = server.connect().login("ann", PASSWORD).token();
    let bad = "Paritech AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    for _ in 0..3 {
        assert_eq!(status(&server, bad), 403);
    }
    let response = upgrade(&server, 0, "/Zenith", bad).expect_err("it is one too many");
    assert_eq!(response.status, 429);
    let wait: u64 = response.header("retry-after").and_then(|wait| wait.parse().ok()).expect("a number of seconds");
    assert!((1..=3600).contains(&wait), "{wait}");
    server.connect().restore(&token).failed("Limited");
    server.connect_from(1).restore(&token).granted();
}

#[test]
fn what_is_public_asks_for_no_credentials() {
    let server = Server::with_ann(CHEAP);
    let request = handshake("/", "Authorization: Paritech x\r\n");
    assert_eq!(http(server.http(), 0, &request).status, 200);
}
