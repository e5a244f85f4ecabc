//! The keys with which others verify what the server signs, at the address where they look for them.

use serde_json::{Value, json};

use crate::harness::{CHEAP, Server};
use crate::peer::{Peer, Response, handshake, http};

const PATH: &str = "/.well-known/jwks.json";

fn request(server: &Server, method: &str) -> Response {
    http(server.http(), 0, &format!("{method} {PATH} HTTP/1.1\r\nHost: localhost\r\n\r\n"))
}

fn keys(server: &Server) -> Value {
    let response = request(server, "GET");
    assert_eq!(response.status, 200, "{response:?}");
    serde_json::from_str(&response.body).expect("JSON")
}

#[test]
fn the_keys_are_published_without_their_secret_and_may_be_kept_for_minutes() {
    let server = Server::start(CHEAP);
    let response = request(&server, "GET");
    assert_eq!(response.header("content-type"), Some("application/jwk-set+json"));
    assert_eq!(response.header("cache-control"), Some("public, max-age=300"));
    let set = keys(&server);
    let [key] = set["keys"].as_array().expect("a list").as_slice() else { panic!("{set}") };
    let members = ["kty", "crv", "use", "alg"].map(|name| key[name].as_str().expect("a text"));
    assert_eq!(members, ["OKP", "Ed25519", "sig", "EdDSA"]);
    for name in ["x", "kid"] {
        assert_eq!(key[name].as_str().map(str::len), Some(43), "32 bytes in base64url: {key}");
    }
    assert_eq!(key.as_object().map(|members| members.len()), Some(6), "and nothing else: {key}");
    let upgrade = http(server.http(), 0, &handshake(PATH, ""));
    assert_eq!((upgrade.status, upgrade.body), (200, response.body), "there is no socket here");
}

#[test]
fn the_key_is_the_same_after_a_restart_however_the_server_ended_and_another_servers_is_another() {
    let mut server = Server::start(CHEAP);
    let before = keys(&server);
    server.terminate();
    server.restart();
    assert_eq!(keys(&server), before);
    server.kill9();
    server.restart();
    assert_eq!(keys(&server), before);
    assert_ne!(keys(&Server::start(CHEAP)), before);
}

#[test]
fn a_head_request_gets_the_header_of_the_answer_and_no_more() {
    let server = Server::start(CHEAP);
    let mut peer = Peer::dial(server.http(), 0);
    peer.write(format!("HEAD {PATH} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").as_bytes());
    let answer = String::from_utf8(peer.hung_up()).expect("text");
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("\r\n\r\n"), "{answer:?}");
    assert_eq!(answer.matches("\r\n\r\n").count(), 1, "{answer:?}");
    let head = answer.to_ascii_lowercase();
    assert!(head.contains("content-type: application/jwk-set+json\r\n"), "{head}");
    let length = request(&server, "GET").body.len();
    assert!(head.contains(&format!("content-length: {length}\r\n")), "{head}");
}

#[test]
fn the_keys_can_only_be_read() {
    let server = Server::start(CHEAP);
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "PATCH"] {
        let response = request(&server, method);
        assert_eq!((response.status, response.header("allow")), (405, Some("GET, HEAD")), "{method}");
    }
    let other = "GET /.well-known/jwks.json/ HTTP/1.1\r\nHost: localhost\r\n\r\n";
    assert_eq!(http(server.http(), 0, other).status, 404);
}

#[test]
fn the_public_url_is_shown_by_check_and_a_path_in_it_is_refused() {
    let server = Server::start(&format!("public_url = \"https://auth.example.org\"\n{CHEAP}"));
    assert_eq!(server.operator(&["check", "--json"], "").json()["issuer"], json!("https://auth.example.org"));
    server.write_settings("public_url = \"https://auth.example.org/login\"\n");
    let complaint = server.operator(&["check"], "").complaint();
    assert!(complaint.contains("gatepost.toml:3: public_url: ") && complaint.contains("without a path"), "{complaint}");
}
