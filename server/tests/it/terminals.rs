//! Panels at a terminal: real sockets, the command line beside them, and what outlives the process and what does not.

use std::time::Duration;

use gatepost_identity::clock::system_instant;
use serde_json::{Value, json};

use crate::harness::{CHEAP, Home, Server, until};
use crate::peer::{PING, PONG, Peer, Response, frame, handshake, http};

/// A terminal on ports of the system's choosing.
pub(crate) const DEFAULT: &str = "[trueconf]\nweb = '127.0.0.1:0'\nhttp = '127.0.0.1:0'\nterminals = [{ name = 'default', control = \
                       '127.0.0.1:0' }]\n";

/// A home with that terminal; its administrator has the password `Adm1n-77`, its user the PIN that is told.
pub(crate) fn secured(more: &str) -> (Home, String) {
    let home = Home::new(&format!("{CHEAP}{DEFAULT}{more}"));
    home.operator(&["terminal", "protect", "default", "administrator", "password"], "Adm1n-77\n").ok();
    let told = home.operator(&["terminal", "protect", "default", "user", "pin", "--json"], "").json();
    let pin = told["pin"].as_str().expect("a PIN is drawn").to_owned();
    (home, pin)
}

pub(crate) fn panel_from(server: &Server, source: u16) -> Peer {
    let request = handshake("/", "");
    Peer::request(server.own("trueconf", "control.default"), source, &request).map(|(peer, _)| peer).expect("it opens")
}

pub(crate) fn panel(server: &Server) -> Peer {
    panel_from(server, 0)
}

/// A request and its answer.
pub(crate) fn ask(peer: &mut Peer, request: Value) -> Value {
    peer.send(&request);
    peer.next()
}

pub(crate) fn secured_by(peer: &mut Peer, credentials: &str) -> Value {
    ask(peer, json!({"method": "auth", "type": "secured", "credentials": credentials}))
}

/// The code of an `auth`; with the role, where it was granted.
pub(crate) fn code(answer: &Value) -> String {
    match (answer["resultCode"].as_u64(), answer["previleges"].as_u64()) {
        (Some(0), Some(role)) => format!("0 {}", if role == 2 { "admin" } else { "user" }),
        (Some(code), None) => code.to_string(),
        _ => panic!("{answer}"),
    }
}

pub(crate) fn text<'a>(answer: &'a Value, member: &str) -> &'a str {
    answer[member].as_str().unwrap_or_else(|| panic!("no {member} in {answer}"))
}

/// A request to the server for files.
pub(crate) fn fetch(server: &Server, method: &str, target: &str) -> Response {
    let request = format!("{method} {target} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n");
    http(server.own("trueconf", "http"), 0, &request)
}

#[test]
fn a_panel_finds_its_terminal_and_comes_in_by_the_right_string_only() {
    let (home, pin) = secured("");
    let server = Server::of(home);
    let request = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let told = http(server.own("trueconf", "web"), 0, &request("/public/default/config.json"));
    assert_eq!((told.status, told.header("cache-control")), (200, Some("no-store")));
    let config: Value = serde_json::from_str(&told.body).expect("JSON");
    assert_eq!(config["config"]["websocket"]["port"], server.own("trueconf", "control.default").port());
    assert_eq!(config["config"]["http"]["port"], server.own("trueconf", "http").port());
    assert_eq!(http(server.own("trueconf", "web"), 0, &request("/public/other/config.json")).status, 404);

    let mut peer = panel(&server);
    let info = ask(&mut peer, json!({"method": "getAuthInfo"}));
    assert_eq!((&info["adminAuth"], &info["userAuth"]), (&json!({"security": "password"}), &json!({"security": "pin"})));
    let before = ask(&mut peer, json!({"method": "getAppState"}));
    let no_such = ask(&mut peer, json!({"method": "noSuch"}));
    assert_eq!(
        (&before["result"], &before["error"], &before["error"]),
        (&json!(false), &no_such["error"], &json!("not authorized"))
    );
    assert_eq!(code(&secured_by(&mut peer, "nope")), "8");
    assert_eq!(code(&ask(&mut peer, json!({"method": "auth", "type": "unsecured"}))), "4");
    assert_eq!(code(&ask(&mut peer, json!({"method": "auth", "role": "user"}))), "3");
    let wrong_role = json!({"method": "auth", "type": "secured", "credentials": "Adm1n-77", "role": "user"});
    assert_eq!(code(&ask(&mut peer, wrong_role)), "5");
    let granted = secured_by(&mut peer, "Adm1n-77");
    assert_eq!(code(&granted), "0 admin");
    assert_eq!(ask(&mut peer, json!({"method": "getAppState"}))["embeddedHttpPort"], server.own("trueconf", "http").port());
    peer.send_text("{\n  \"method\" : \"getHttpServerSettings\",\r\n\t\"requestId\" : \"pretty\"\n}\n");
    let settings = peer.next();
    assert_eq!((&settings["requestId"], &settings["result"]), (&json!("pretty"), &json!(true)));
    assert_eq!(settings["settings"][0]["value"], server.own("trueconf", "http").port());
    assert_eq!(ask(&mut peer, json!({"method": "getAuthInfo"}))["userAuth"]["pin"], pin);

    let mut user = panel(&server);
    let granted = secured_by(&mut user, &pin.to_lowercase());
    assert_eq!(code(&granted), "0 user", "a PIN has no case");
    for member in ["token", "tokenForHttpServer", "overlayHttpToken"] {
        text(&granted, member);
    }
    let shown = server.operator(&["terminal", "show", "default", "--json"], "").json();
    assert_eq!((&shown["connections"], &shown["served"]), (&json!(2), &json!(true)));
}

#[test]
fn a_token_leads_back_and_whoever_is_displaced_is_told_and_stays_connected() {
    let (home, _) = secured("");
    let server = Server::of(home);
    let mut first = panel(&server);
    let token = text(&secured_by(&mut first, "Adm1n-77"), "token").to_owned();
    let mut second = panel(&server);
    assert_eq!(code(&secured_by(&mut second, "Adm1n-77")), "0 admin");
    let displaced = json!({"method": "event", "event": "authorizationNeeded", "cause": 1});
    assert_eq!(first.next(), displaced);
    assert_eq!(ask(&mut first, json!({"method": "getSettings"}))["error"], "not authorized");
    let back = secured_by(&mut first, &token);
    assert_eq!(code(&back), "0 admin");
    assert_ne!(text(&back, "token"), token);
    assert_eq!(second.next(), displaced);
    // Whoever vanishes leaves the role free, and the token good.
    drop(first);
    let mut third = panel(&server);
    assert_eq!(code(&secured_by(&mut third, &token)), "0 admin");
    let altered = token.replacen(&token[2..3], if &token[2..3] == "A" { "B" } else { "A" }, 1);
    assert_eq!(code(&secured_by(&mut second, &altered)), "8");
    // Down, and never up again by it.
    assert_eq!(code(&ask(&mut third, json!({"method": "auth", "role": "user"}))), "0 user");
    assert_eq!(code(&secured_by(&mut second, &token)), "8");
}

#[test]
fn a_panel_is_in_within_a_second_and_control_frames_disturb_nothing() {
    let (home, _) = secured("");
    let server = Server::of(home);
    let began = system_instant();
    let request = "GET /public/default/config.json HTTP/1.1\r\nHost: localhost\r\n\r\n";
    assert_eq!(http(server.own("trueconf", "web"), 0, request).status, 200);
    let mut peer = panel(&server);
    let took = system_instant().duration_since(began);
    assert!(took < Duration::from_secs(1), "{took:?}");
    peer.write(&frame(PONG, b"nobody asked"));
    peer.write(&frame(PING, b"here?"));
    let answer = peer.frame().expect("an answer");
    assert_eq!((answer.opcode, &*answer.payload), (PONG, &b"here?"[..]));
    assert_eq!(code(&secured_by(&mut peer, "Adm1n-77")), "0 admin");
}

#[test]
fn whoever_vanishes_without_a_word_leaves_the_role_free_and_the_token_good() {
    let (home, _) = secured("");
    home.write_settings(&format!("{CHEAP}{DEFAULT}ping_every = 1\nsilence = 2\n"));
    let server = Server::of(home);
    let connections = || server.operator(&["terminal", "show", "default", "--json"], "").json()["connections"].clone();
    let mut peer = panel(&server);
    let token = text(&secured_by(&mut peer, "Adm1n-77"), "token").to_owned();
    assert_eq!(connections(), 1);
    // It answers no ping and closes nothing.
    until("the silent one is given up", || connections() == 0);
    assert_eq!(code(&secured_by(&mut panel(&server), &token)), "0 admin");
    drop(peer);
}

#[test]
fn tokens_end_with_the_process_and_what_was_set_stays() {
    let (home, pin) = secured("");
    let mut server = Server::of(home);
    let mut peer = panel(&server);
    let token = text(&secured_by(&mut peer, "Adm1n-77"), "token").to_owned();
    let changed =
        ask(&mut peer, json!({"method": "setAuthParams", "userType": "user", "authType": "password", "password": "usr-42"}));
    assert_eq!(changed["result"], true);
    server.kill9();
    server.restart();
    let mut peer = panel(&server);
    assert_eq!(code(&secured_by(&mut peer, &token)), "8");
    assert_eq!(code(&secured_by(&mut peer, &pin)), "8", "what was told to be set was on disk");
    assert_eq!(code(&secured_by(&mut peer, "usr-42")), "0 user");
    assert_eq!(code(&secured_by(&mut peer, "Adm1n-77")), "0 admin");
}

#[test]
fn a_source_that_guessed_too_often_waits_and_a_restart_does_not_help() {
    let (home, pin) = secured("[trueconf.lock_out]\nfree = 3\nfirst_wait = 600\n");
    let mut server = Server::of(home);
    let mut kept = panel(&server);
    let token = text(&secured_by(&mut kept, "Adm1n-77"), "token").to_owned();
    let mut peer = panel(&server);
    for _ in 0..3 {
        assert_eq!(code(&secured_by(&mut peer, "nope")), "8");
    }
    let waits = secured_by(&mut peer, "Adm1n-77");
    assert_eq!(code(&waits), "6");
    assert!(waits["retryAfter"].as_u64().is_some_and(|seconds| (1..=600).contains(&seconds)), "{waits}");
    assert_eq!(code(&secured_by(&mut panel(&server), &pin)), "6", "by its address, not by its socket");
    assert_eq!(code(&ask(&mut peer, json!({"method": "auth", "type": "secured"}))), "12");
    assert_eq!(code(&secured_by(&mut peer, &token)), "0 admin", "nobody guesses a token");
    let mut elsewhere = panel_from(&server, 9);
    assert_eq!(code(&secured_by(&mut elsewhere, &pin)), "0 user");
    server.terminate();
    server.restart();
    assert_eq!(code(&secured_by(&mut panel(&server), "Adm1n-77")), "6");
    assert_eq!(code(&secured_by(&mut panel_from(&server, 9), "Adm1n-77")), "0 admin");
}

#[test]
fn many_guesses_at_once_are_as_many_as_are_free() {
    let (home, _) = secured("");
    let server = Server::of(home);
    let mut peers: Vec<Peer> = (0..40).map(|_| panel(&server)).collect();
    for peer in &mut peers {
        peer.send(&json!({"method": "auth", "type": "secured", "credentials": "nope"}));
    }
    let mut codes: Vec<String> = peers.iter_mut().map(|peer| code(&peer.next())).collect();
    codes.sort();
    assert_eq!(codes.iter().position(|code| code == "8"), Some(35), "{codes:?}");
    assert!(codes[..35].iter().all(|code| code == "6"));
}

#[test]
fn whoever_changes_a_protection_goes_on_and_the_others_come_in_anew() {
    let (home, pin) = secured("");
    let server = Server::of(home);
    let (mut administrator, mut user) = (panel(&server), panel(&server));
    assert_eq!(code(&secured_by(&mut administrator, "Adm1n-77")), "0 admin");
    assert_eq!(code(&secured_by(&mut user, &pin)), "0 user");
    let refused = ask(&mut user, json!({"method": "setAuthParams", "userType": "admin", "authType": "unsecured"}));
    assert_eq!((&refused["result"], &refused["error"]), (&json!(false), &json!("access denied")));
    let set = ask(&mut user, json!({"method": "setAuthParams", "userType": "user", "authType": "pin", "newPin": "1"}));
    let own = text(&set, "newPin").to_owned();
    assert!(own != pin && own != "1" && own.len() == 6);
    text(&set, "token");
    let set = ask(&mut administrator, json!({"method": "setAuthParams", "userType": "user", "authType": "pin"}));
    let others = text(&set, "newPin").to_owned();
    assert_eq!((set.get("token"), user.next()["cause"].as_u64()), (None, Some(4)));
    assert_eq!(code(&secured_by(&mut user, &own)), "8");
    assert_eq!(code(&secured_by(&mut user, &others)), "0 user");
    // What an operator sets counts at once, too.
    server.operator(&["terminal", "protect", "default", "administrator", "password"], "another\n").ok();
    assert_eq!(administrator.next()["cause"], 3);
    assert_eq!(code(&secured_by(&mut administrator, "Adm1n-77")), "8");
    assert_eq!(code(&secured_by(&mut administrator, "another")), "0 admin");
    let shown = server.operator(&["terminal", "show-pin", "default", "user", "--json"], "").json();
    assert_eq!(shown["pin"], others);
    server.operator(&["terminal", "plan", "default", "free"], "").ok();
    assert_eq!(user.next()["event"], "licenseStatusChanged");
    assert_eq!(user.next()["cause"], 6);
    assert_eq!(administrator.next()["pro"], false);
    assert_eq!(code(&secured_by(&mut user, "another")), "2");
    server.operator(&["terminal", "plan", "default", "pro"], "").ok();
    assert_eq!(administrator.next()["pro"], true);
    let reset = ask(&mut administrator, json!({"method": "setAuthParams", "userType": "admin", "authType": "unsecured"}));
    assert_eq!(reset["result"], true);
    assert_eq!(code(&ask(&mut user, json!({"method": "auth", "type": "unsecured", "role": "user"}))), "0 user");
}

#[test]
fn a_pin_that_the_program_was_begun_with_makes_an_administrator_until_it_ends() {
    let home = Home::new(&format!("{CHEAP}{DEFAULT}"));
    let mut server = Server::with_environment(home, &[("GATEPOST_PIN", "pin123")]);
    let mut peer = panel(&server);
    assert_eq!(code(&ask(&mut peer, json!({"method": "auth", "type": "unsecured", "role": "admin"}))), "5");
    let granted = secured_by(&mut peer, "pin123");
    assert_eq!(code(&granted), "0 admin");
    assert!(text(&granted, "tokenForHttpServer").starts_with("5*"), "{granted}");
    server.terminate();
    let home = Home::new(&format!("{CHEAP}{DEFAULT}"));
    let server = Server::of(home);
    assert_eq!(code(&secured_by(&mut panel(&server), "pin123")), "4");
}

#[test]
fn files_are_behind_a_token_and_a_stranger_learns_nothing_of_them() {
    let (home, pin) = secured("");
    let server = Server::of(home);
    let mut peer = panel(&server);
    let granted = secured_by(&mut peer, &pin);
    let http_token = text(&granted, "tokenForHttpServer");
    let strange = fetch(&server, "GET", "/frames/?peerId=%23self%3A0");
    for target in ["/frames/", "/nowhere", &format!("/frames/?token={}", text(&granted, "token")), "/files/?token=junk"] {
        let answer = fetch(&server, "GET", target);
        assert_eq!((answer.status, &answer.body), (401, &strange.body), "{target}");
        assert_eq!(answer.header("www-authenticate"), Some("TrueConf-Token"));
    }
    assert_eq!(fetch(&server, "GET", &format!("/frames/?token={http_token}")).status, 404);
    assert_eq!(fetch(&server, "GET", &format!("/frames/?token={}", http_token.replace('*', "%2A"))).status, 404);
    assert_eq!(fetch(&server, "GET", &format!("/overlay?token={http_token}")).status, 401, "one kind is not another");
    assert_eq!(fetch(&server, "GET", &format!("/overlay?token={}", text(&granted, "overlayHttpToken"))).status, 404);
    assert_eq!(fetch(&server, "PUT", &format!("/frames/?token={http_token}")).status, 405);
    // What somebody would upload is not read before it is known who they are.
    let upload = "POST /files/?token=junk HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nhello";
    assert_eq!(http(server.own("trueconf", "http"), 0, upload).status, 401);
    let further = ask(&mut peer, json!({"method": "getTokenForHttpServer"}));
    assert_eq!(fetch(&server, "GET", &format!("/frames/?token={}", text(&further, "token"))).status, 404);
    let mut administrator = panel(&server);
    assert_eq!(code(&secured_by(&mut administrator, "Adm1n-77")), "0 admin");
    assert_eq!(ask(&mut administrator, json!({"method": "clearTokens"}))["result"], true);
    assert_eq!(fetch(&server, "GET", &format!("/frames/?token={http_token}")).status, 401);
    assert_eq!(ask(&mut peer, json!({"method": "getHttpServerState"}))["result"], true, "connections stay");
}

#[test]
fn a_port_that_was_written_down_is_that_or_none() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("its address");
    let home = Home::new(&format!(
        "log = 'error'\n{CHEAP}[trueconf]\nweb = '{address}'\nhttp = '127.0.0.1:0'\nterminals = [{{ name = 'default' }}]\n"
    ));
    let complaint = home.operator(&["serve"], "").complaint();
    assert!(complaint.starts_with(&format!("trueconf.web: cannot listen on {address}")), "{complaint}");
    home.write_settings("[trueconf]\nhttp = '0.0.0.0:0'\nterminals = [{ name = 'a', pin = 'tell-nobody' }]\n");
    let checked = home.operator(&["check"], "").ok();
    assert!(!checked.contains("tell-nobody") && checked.contains("trueconf.http: open to others"), "{checked}");
}

#[test]
fn terminals_are_kept_by_the_command_line() {
    let home = Home::new(CHEAP);
    home.operator(&["terminal", "add", "hall", "--plan", "free"], "").ok();
    let complaint = home.operator(&["terminal", "add", "hall"], "").complaint();
    assert_eq!(complaint, "there is a terminal of that name already");
    let complaint = home.operator(&["terminal", "protect", "hall", "administrator", "pin"], "").complaint();
    assert_eq!(complaint, "that needs the plan pro");
    home.operator(&["terminal", "plan", "hall", "pro"], "").ok();
    let complaint = home.operator(&["terminal", "protect", "hall", "user", "pin"], "").complaint();
    assert_eq!(complaint, "a user is secured only where the administrator is");
    let complaint = home.operator(&["terminal", "show-pin", "hall", "user"], "").complaint();
    assert_eq!(complaint, "there is no such PIN: the role is not protected by one");
    let rows = home.operator(&["terminal", "list", "--json"], "").json();
    let expected = json!([{"name": "hall", "plan": "pro", "administrator": "unsecured", "user": "unsecured", "served": false,
        "connections": 0}]);
    assert_eq!(rows, expected);
    home.operator(&["terminal", "remove", "hall"], "").ok();
    assert_eq!(home.operator(&["terminal", "show", "hall"], "").complaint(), "there is no such terminal");
    let actions: Vec<String> = home.audit().iter().map(|line| format!("{} {}", line["action"], line["name"])).collect();
    assert_eq!(actions, [r#""terminal_add" "hall""#, r#""terminal_plan" "hall""#, r#""terminal_remove" "hall""#]);
}
