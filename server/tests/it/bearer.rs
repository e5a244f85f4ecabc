//! Signed tokens of another issuer, as Zenith's maintained client brings them: by `AuthToken` and by the Authorization header.

use std::os::unix::fs::PermissionsExt;

use gatepost_identity::clock::system_now;
use serde_json::{Value, json};

use crate::harness::{CHEAP, Home, Server};
use crate::peer::Peer;

/// A secret that the issuer and this server share; a key pair would be verified by the same lines.
const SECRET: &[u8] = b"an issuer's secret of thirty-two bytes or more";
const KEYS: &str = r#"{"keys":[{"kty":"oct","k":"YW4gaXNzdWVyJ3Mgc2VjcmV0IG9mIHRoaXJ0eS10d28gYnl0ZXMgb3IgbW9yZQ"}]}"#;

/// Settings with a provider `Bearer`, whose keys stand in a file beside them.
fn home() -> Home {
    let home = Home::new("");
    let keys = home.settings().with_file_name("keys.json");
    std::fs::write(&keys, KEYS).expect("a file of keys");
    std::fs::set_permissions(&keys, PermissionsExt::from_mode(0o600)).expect("it is ours");
    let settings = std::fs::read_to_string(home.settings()).expect("the settings");
    let provider = format!(
        "[[provider]]\nname = \"local\"\nkind = \"local\"\naliases = [\"Paritech\"]\n\
         [[provider]]\nname = \"Bearer\"\nkind = \"token\"\n\
         issuers = [{{ issuer = \"https://auth.example.org\", audience = [\"Zenith-API\"], keys = {keys:?}, algorithms = [\"HS256\"] }}]\n"
    );
    std::fs::write(home.settings(), format!("{settings}{CHEAP}{provider}")).expect("the settings");
    home
}

fn token(scope: &str, seconds: i64) -> String {
    let exp = system_now().millis() / 1000 + seconds;
    let claims = json!({
        "iss": "https://auth.example.org/", "aud": ["Zenith-API"], "sub": "6f1c", "preferred_username": "ann",
        "client_id": "Motif$Web", "scope": scope, "exp": exp,
    });
    let key = jsonwebtoken::EncodingKey::from_secret(SECRET);
    jsonwebtoken::encode(&jsonwebtoken::Header::default(), &claims, &key).expect("a token")
}

/// What the maintained client sends right after it has connected.
fn published(peer: &mut Peer, transaction: u64, token: &str) -> Value {
    let data = json!({"Provider": "Bearer", "AccessToken": token});
    peer.send(&json!({
        "Controller": "Auth", "Topic": "AuthToken", "Action": "Publish", "TransactionID": transaction, "Data": data,
    }));
    peer.next()
}

fn base64(text: &str) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut encoded = String::new();
    for chunk in text.as_bytes().chunks(3) {
        let bits = chunk.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for place in 0..4 {
            let index = bits >> (18 - 6 * place) & 63;
            encoded.push(if place <= chunk.len() { char::from(ALPHABET[index as usize]) } else { '=' });
        }
    }
    encoded
}

#[test]
fn a_token_may_name_rights_in_any_of_the_three_families_and_is_answered_in_its_own() {
    let server = Server::of(home());
    let check = |scope: &str, told: Value| {
        let answer = published(&mut server.connect(), 1, &token(scope, 600));
        assert_eq!((&answer["Data"]["Result"], &answer["Data"]["Scope"]), (&json!("Success"), &told), "{scope}");
    };
    check("Zenith/Market Zenith/News", json!(["Zenith/Market", "Zenith/News"]));
    check("profile Paritech.Zenith.Market.Data", json!(["Paritech.Zenith.Market"]));
    check("Paritech.Zenith.Market", json!(["Paritech.Zenith.Market"]));
    check("Zenith Paritech Paritech.Zenith http://api.paritech.com/wsapi", json!([]));
    check("http://api.paritech.com/wsapi/market/news", json!(["http://api.paritech.com/wsapi/market/news"]));
    check("Paritech.Zenith.Mark Zenith/Marke zenith/market", json!([]));
    check("Motif/Service Zenith/News Paritech.Zenith.Market.Data", json!(["Zenith/Market", "Zenith/News"]));
}

#[test]
fn the_maintained_client_logs_in_with_a_signed_token_and_refreshes_it_on_the_open_connection() {
    let server = Server::of(home());
    let mut peer = server.connect();
    let first = token("Zenith/Market Motif/Service offline_access", 600);
    let answer = published(&mut peer, 1, &first);
    assert_eq!((&answer["Topic"], &answer["TransactionID"]), (&json!("AuthToken"), &json!(1)), "{answer}");
    let data = &answer["Data"];
    assert_eq!((&data["Result"], &data["UserID"], &data["DisplayName"]), (&json!("Success"), &json!("6f1c"), &json!("ann")));
    assert_eq!(data["Scope"], json!(["Zenith/Market"]), "what is not of this wire is dropped");
    assert_eq!(data["AccessToken"], json!(base64(&first)), "Base-64 of the very bytes received");
    let later = published(&mut peer, 2, &token("Zenith/Market", 1200));
    assert_eq!(later["Data"]["Result"], "Success", "{later}");
    let mut second = server.connect();
    let told = data["AccessToken"].as_str().expect("a token");
    second.restore_at("Bearer", told).granted();
}

#[test]
fn the_header_of_the_upgrade_takes_a_signed_token_whatever_the_case_of_its_scheme() {
    let server = Server::of(home());
    for scheme in ["Bearer", "bearer", "BEARER"] {
        let header = format!("Authorization: {scheme} {}\r\n", token("Zenith/Market", 600));
        let mut peer = Peer::upgrade(server.http(), 0, "/Zenith?version=2.0", &header).expect("an upgrade");
        peer.query().granted();
    }
    for bad in [token("Zenith/Market", -1), token("Zenith/Market", 600) + "x", "a.b.c".to_owned()] {
        let refused = Peer::upgrade(server.http(), 0, "/Zenith?version=2.0", &format!("Authorization: Bearer {bad}\r\n"));
        assert_eq!(refused.expect_err("refused").status, 403, "{bad}");
    }
}

#[test]
fn a_connection_is_told_when_its_signed_token_has_ended() {
    let server = Server::of(home());
    let mut peer = server.connect();
    peer.subscribe();
    peer.restore_at("Bearer", &token("Zenith/Market", 2)).granted();
    peer.told().granted();
    peer.told().rejected();
    peer.query().rejected();
}

#[test]
fn an_operator_ends_a_borrowed_session_and_its_token_stays_refused_after_a_crash() {
    let mut server = Server::of(home());
    let good = token("Zenith/Market", 600);
    let mut peer = server.connect();
    peer.restore_at("Bearer", &good).granted();
    let sessions = server.sessions();
    assert_eq!((sessions.len(), &sessions[0]["user"], &sessions[0]["client"]), (1, &json!("6f1c"), &json!("Motif$Web")));
    let id = sessions[0]["id"].as_str().expect("an id").to_owned();
    server.operator(&["session", "end", &id], "").ok();
    server.kill9();
    server.restart();
    server.connect().restore_at("Bearer", &good).rejected();
    server.connect().restore_at("Bearer", &token("Zenith/Market", 601)).granted();
}

/// X13: secrets of issuers.
#[test]
fn keys_that_others_can_read_or_that_are_none_are_refused_with_their_line() {
    let home = home();
    let keys = home.settings().with_file_name("keys.json");
    std::fs::set_permissions(&keys, PermissionsExt::from_mode(0o644)).expect("it is ours");
    let complaint = home.operator(&["check"], "").complaint();
    assert!(complaint.contains("gatepost.toml:") && complaint.contains("open to others"), "{complaint}");
    std::fs::write(&keys, "{}").expect("a file");
    let complaint = home.operator(&["check"], "").complaint();
    assert!(complaint.contains("gatepost.toml:") && complaint.contains("no set of keys"), "{complaint}");
    std::fs::remove_file(&keys).expect("it is there");
    let complaint = home.operator(&["check"], "").complaint();
    assert!(complaint.contains("gatepost.toml:") && complaint.contains("cannot be read"), "{complaint}");
}
