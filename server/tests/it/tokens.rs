//! Rolling tokens on the wire: how long each is good, what its reuse ends, and how a connection's own time runs out.

use std::time::Duration;

use gatepost_identity::clock::system_now;
use serde_json::{Value, json};

use crate::harness::{CHEAP, PASSWORD, Server};
use crate::peer::{CLOSE, Peer, frame};

/// Longer than the overlap that is set here.
const PAST_OVERLAP: Duration = Duration::from_millis(1300);

fn rolling(on_reuse: &str) -> Server {
    Server::with_ann(&format!("{CHEAP}[session]\noverlap = \"1s\"\non_reuse = \"{on_reuse}\"\n"))
}

/// A connection that came back with this token and is subscribed to Identify, and the token it was told.
fn came_back(server: &Server, token: &str) -> (Peer, String) {
    let mut peer = server.connect();
    let told = peer.restore(token).token();
    peer.subscribe().granted();
    (peer, told)
}

#[test]
fn the_first_token_is_good_for_ever_while_no_successor_was_presented() {
    let server = rolling("end");
    let first = server.connect().login("ann", PASSWORD).token();
    let mut successors: Vec<String> = (0..5).map(|_| server.connect().restore(&first).token()).collect();
    std::thread::sleep(PAST_OVERLAP);
    successors.extend((0..5).map(|_| server.connect().restore(&first).token()));
    // Also over and over on one connection, past the number of tokens that a session may hold unpresented.
    let mut peer = server.connect();
    successors.extend((0..100).map(|_| peer.restore(&first).token()));
    successors.push(first);
    let told = successors.len();
    successors.sort_unstable();
    successors.dedup();
    assert_eq!(successors.len(), told, "no token is told twice");
}

#[test]
fn a_predecessor_is_good_within_the_overlap_and_its_reuse_after_it_ends_what_grew_from_it() {
    let server = rolling("end");
    let mut login = server.connect();
    let first = login.login("ann", PASSWORD).token();
    let second = server.connect().restore(&first).token();
    let (mut live, third) = came_back(&server, &second);
    let (mut sibling, _) = came_back(&server, &first);
    std::thread::sleep(PAST_OVERLAP);
    live.query().granted();
    server.connect().restore(&first).rejected();
    live.told().rejected();
    live.query().rejected();
    sibling.told().rejected();
    server.connect().restore(&second).rejected();
    server.connect().restore(&third).rejected();
    // Who reads the audit can see why.
    assert!(server.audit().iter().any(|row| row["action"] == "reuse"), "{:?}", server.audit());
}

#[test]
fn where_reuse_is_only_refused_what_grew_from_the_token_goes_on() {
    let server = rolling("refuse");
    let first = server.connect().login("ann", PASSWORD).token();
    let second = server.connect().restore(&first).token();
    let (mut live, third) = came_back(&server, &second);
    std::thread::sleep(PAST_OVERLAP);
    server.connect().restore(&first).rejected();
    live.query().granted();
    server.connect().restore(&third).granted();
}

#[test]
fn the_newest_token_is_always_good_however_often_it_rolls() {
    let server = rolling("end");
    let mut peer = server.connect();
    let mut token = peer.login("ann", PASSWORD).token();
    for _ in 0..20 {
        token = peer.restore(&token).token();
    }
    std::thread::sleep(PAST_OVERLAP);
    token = peer.restore(&token).token();
    server.connect().restore(&token).granted();
    assert_eq!(server.sessions().len(), 1);
}

#[test]
fn siblings_do_not_supersede_each_other() {
    let server = rolling("end");
    let first = server.connect().login("ann", PASSWORD).token();
    let [one, other] = [(); 2].map(|()| server.connect().restore(&first).token());
    server.connect().restore(&one).granted();
    std::thread::sleep(PAST_OVERLAP);
    server.connect().restore(&other).granted();
}

#[test]
fn past_the_bound_the_oldest_unpresented_token_whose_connection_is_gone_is_dropped() {
    let server = Server::with_ann(&format!("{CHEAP}[session]\nunpresented = 3\n"));
    let mut login = server.connect();
    let first = login.login("ann", PASSWORD).token();
    let mut kept = server.connect();
    let held = kept.restore(&first).token();
    let told: Vec<String> = (0..4)
        .map(|_| {
            let mut peer = server.connect();
            let told = peer.restore(&first).token();
            peer.write(&frame(CLOSE, b"\x03\xE8"));
            peer.closed();
            told
        })
        .collect();
    server.connect().restore(&told[0]).rejected();
    server.connect().restore(&told[3]).granted();
    server.connect().restore(&held).granted();
}

#[test]
fn a_token_ends_with_its_own_life_and_its_connection_goes_on() {
    let server = Server::with_ann(&format!("{CHEAP}[session]\ntoken_life = \"1s\"\n"));
    let mut peer = server.connect();
    let token = peer.login("ann", PASSWORD).token();
    std::thread::sleep(PAST_OVERLAP);
    server.connect().restore(&token).rejected();
    peer.query().granted();
}

#[test]
fn an_account_that_ends_takes_its_connection_along() {
    let server = Server::with_ann(CHEAP);
    let mut peer = server.connect();
    peer.subscribe().rejected();
    let token = peer.login("ann", PASSWORD).token();
    peer.told().granted();
    let soon = jiff::Timestamp::from_millisecond(system_now().millis() + 2000).expect("a moment").to_string();
    server.operator(&["user", "set", "ann", "--expires", &soon], "").ok();
    // What changed is told at once, the end when it comes.
    peer.told().granted();
    peer.told().rejected();
    peer.query().rejected();
    server.connect().restore(&token).rejected();
    server.connect().login("ann", PASSWORD).rejected();
}

#[test]
fn tokens_outlive_the_server() {
    let mut server = rolling("end");
    let first = server.connect().login("ann", PASSWORD).token();
    let second = server.connect().restore(&first).token();
    server.terminate();
    server.restart();
    server.connect().restore(&second).granted();
    std::thread::sleep(PAST_OVERLAP);
    server.terminate();
    server.restart();
    server.connect().restore(&first).rejected();
}

#[test]
fn a_token_works_under_every_name_of_its_provider_and_under_no_other() {
    let settings = format!(
        "{CHEAP}[[provider]]\nname = \"local\"\nkind = \"local\"\naliases = [\"Paritech\", \"BasicAuth\"]\n\
         [[provider]]\nname = \"other\"\nkind = \"local\"\n"
    );
    let server = Server::with_ann(&settings);
    let mut peer = server.connect();
    let token = peer.login("ann", PASSWORD).token();
    for provider in ["Paritech", "BasicAuth", "local", "PARITECH"] {
        server.connect().restore_at(provider, &token).granted();
    }
    for provider in ["other", "Bearer", "nobody", ""] {
        server.connect().restore_at(provider, &token).rejected();
        peer.query().granted();
    }
}

#[test]
fn a_token_that_nobody_issued_changes_nothing() {
    let server = Server::with_ann(CHEAP);
    let mut peer = server.connect();
    let token = peer.login("ann", PASSWORD).token();
    for wrong in ["AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=", "", "x", "ä", &token.to_lowercase()] {
        peer.restore(wrong).rejected();
        peer.query().granted();
    }
}

#[test]
fn a_client_without_tokens_is_told_none() {
    let server = Server::with_ann(CHEAP);
    server.operator(&["client", "add", "mute", "--scope", "Zenith/Market", "--without-token"], "").ok();
    let mut data = crate::peer::owner("ann", PASSWORD);
    data["ClientID"] = json!("mute");
    let answer = server.connect().ask("AuthOwner", data);
    assert_eq!((answer.outcome(), answer.0["Data"].get("AccessToken")), ("Success", None));
}

#[test]
fn a_connection_expires_stays_open_and_is_revived_by_its_token() {
    let server = Server::with_ann(&format!("{CHEAP}[session]\nconnection_life = \"2s\"\n"));
    let mut peer = server.connect();
    peer.subscribe().rejected();
    let token = peer.login("ann", PASSWORD).token();
    peer.told().granted();
    peer.query().granted();
    peer.told().rejected();
    peer.query().rejected();
    let second = peer.restore(&token).token();
    peer.told().granted();
    peer.query().granted();
    peer.told().rejected();
    peer.restore(&second).granted();
}

#[test]
fn a_refresh_moves_the_end() {
    let server = Server::with_ann(CHEAP);
    let mut peer = server.connect();
    let answer = peer.login("ann", PASSWORD);
    let refreshed = peer.restore(&answer.token());
    let end = |told: &Value| told["Data"]["ExpiryDate"].as_str().map(str::to_owned).expect("a date");
    assert!(end(&refreshed.0) >= end(&answer.0), "{refreshed:?}");
    assert_eq!(end(&peer.query().0), end(&refreshed.0));
}

#[test]
fn one_login_too_many_closes_the_oldest_with_4000_after_the_new_one_was_answered() {
    let server = Server::with_ann(&format!("{CHEAP}[session]\nmax_sessions = 1\ngrace = \"1s\"\n"));
    let mut oldest = server.connect();
    let token = oldest.login("ann", PASSWORD).token();
    // A second connection of the same session is no further login.
    let mut second = server.connect();
    second.restore(&token).granted();
    let mut newest = server.connect();
    newest.login("ann", PASSWORD).granted();
    for displaced in [&mut oldest, &mut second] {
        assert_eq!(displaced.closed(), (4000, "Session".to_owned()));
    }
    newest.query().granted();
    server.connect().restore(&token).rejected();
    assert_eq!(server.sessions().len(), 1);
}

#[test]
fn a_client_that_logs_in_again_on_its_connection_displaces_nobody() {
    let server = Server::with_ann(&format!("{CHEAP}[session]\nmax_sessions = 1\ngrace = \"0s\"\n"));
    let mut peer = server.connect();
    for _ in 0..3 {
        peer.login("ann", PASSWORD).granted();
    }
    crate::harness::until("the sessions before have ended", || server.sessions().len() == 1);
    peer.query().granted();
}

#[test]
fn one_connection_too_many_of_a_session_is_refused_with_session_and_403() {
    let server = Server::with_ann(&format!("{CHEAP}[session]\nmax_connections = 2\n"));
    let mut first = server.connect();
    let token = first.login("ann", PASSWORD).token();
    let mut second = server.connect();
    second.restore(&token).granted();
    server.connect().restore(&token).failed("Session");
    let refused = Peer::upgrade(server.http(), 0, "/Zenith", &format!("Authorization: Paritech {token}\r\n"));
    assert_eq!(refused.expect_err("it is one too many").status, 403);
    second.restore(&token).granted();
    first.query().granted();
}
