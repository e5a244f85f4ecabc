//! Those whom nobody let in: how many of them may wait at a terminal, and what they may send without harm to anybody else.

use std::time::Duration;

use gatepost_identity::clock::system_instant;
use serde_json::json;

use crate::harness::{CHEAP, Home, Server, until};
use crate::peer::{Peer, Response, TEXT, frame, handshake, http};
use crate::terminals::{DEFAULT, ask, code, panel, panel_from, secured, secured_by};
use crate::tls::Pair;

/// A panel, or how it was turned away.
fn knock(server: &Server, source: u16, fields: &str) -> Result<Peer, Response> {
    Peer::request(server.own("trueconf", "control.default"), source, &handshake("/", fields)).map(|(peer, _)| peer)
}

fn status(knocked: &Result<Peer, Response>) -> u16 {
    knocked.as_ref().map_or_else(|refused| refused.status, |_| 101)
}

/// How many connections hold a role.
fn holders(server: &Server) -> u64 {
    let shown = server.operator(&["terminal", "show", "default", "--json"], "").json();
    shown["connections"].as_u64().expect("a number")
}

#[test]
fn strangers_have_a_bound_for_each_source_and_for_all_and_whoever_is_let_in_is_none() {
    let (home, pin) = secured("");
    home.write_settings(&format!("{CHEAP}{DEFAULT}max_unauthorized = 6\nmax_unauthorized_of_source = 3\n"));
    let server = Server::of(home);
    let mut nine: Vec<Peer> = (0..3).map(|_| panel_from(&server, 9)).collect();
    let refused = knock(&server, 9, "").expect_err("three wait already");
    assert_eq!((refused.status, refused.header("connection")), (429, Some("close")));
    assert!(refused.body.contains("from your address"), "{refused:?}");
    // At once, before it has said anything.
    let refused = Peer::dial(server.own("trueconf", "control.default"), 9).hung_up();
    assert!(refused.starts_with(b"HTTP/1.1 429 "), "{:?}", String::from_utf8_lossy(&refused));
    // One that has said nothing yet takes a place as well.
    // Whoever knocked before may still be leaving, so it is tried until all three are in.
    let mut silent: Vec<Peer> = Vec::new();
    until("they are there", || {
        silent.push(Peer::dial(server.own("trueconf", "control.default"), 10));
        status(&knock(&server, 11, "")) == 503
    });
    drop(silent);
    until("they are gone", || status(&knock(&server, 11, "")) == 101);
    // Whoever is let in makes room for others, and keeps it when the role is lost.
    assert_eq!(code(&secured_by(&mut nine[0], "Adm1n-77")), "0 admin");
    let mut fourth = knock(&server, 9, "").expect("one of the four is no stranger");
    assert_eq!(status(&knock(&server, 9, "")), 429);
    assert_eq!(code(&secured_by(&mut fourth, "Adm1n-77")), "0 admin");
    assert_eq!(nine[0].next()["cause"], 1);
    let fifth = knock(&server, 9, "").expect("two of the five are none");
    assert_eq!(status(&knock(&server, 9, "")), 429, "the one that was displaced is still none");
    assert_eq!(code(&secured_by(&mut nine[1], "nope")), "8");
    assert_eq!(status(&knock(&server, 9, "")), 429, "who was refused still is one");
    assert_eq!(code(&secured_by(&mut panel_from(&server, 12), &pin)), "0 user", "and others come in as ever");
    drop((nine, fifth));
    until("whoever hangs up makes room", || status(&knock(&server, 9, "")) == 101);
    let said = server.log().matches("was turned away").count();
    assert!((1..=2).contains(&said), "and the log says so once a minute: {said}");
    let told = http(server.own("trueconf", "web"), 9, "GET /public/default/config.json HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_eq!(told.status, 200);
}

#[test]
fn behind_a_proxy_each_source_that_it_names_has_its_own_bound() {
    let proxy = "[proxy]\ntrusted = [\"127.7.0.1\"]\nfields = \"x-forwarded\"\n";
    let home = Home::new(&format!("{CHEAP}{proxy}{DEFAULT}max_unauthorized_of_source = 2\n"));
    let server = Server::of(home);
    let from = |source: &str| knock(&server, 1, &format!("X-Forwarded-For: {source}\r\n"));
    let [_first, _second] = ["2001:db8::1", "2001:db8::2"].map(|source| from(source).expect("there is room"));
    assert_eq!(["2001:db8::3", "2001:db8:0:1::1", "192.0.2.7"].map(|source| status(&from(source))), [429, 101, 101]);
}

#[test]
fn a_megabyte_for_a_request_id_ends_the_connection_or_comes_back_as_nothing() {
    let long = json!({"method": "auth", "type": "unsecured", "requestId": "x".repeat(1_000_000)}).to_string();
    let server = Server::start(&format!("{CHEAP}{DEFAULT}"));
    let mut peer = panel(&server);
    assert_eq!(code(&ask(&mut peer, json!({"method": "auth", "type": "unsecured"}))), "0 admin");
    peer.write_if_read(&frame(TEXT, long.as_bytes()));
    assert_eq!(peer.closed().0, 1009);
    until("the role is free", || holders(&server) == 0);
    let server = Server::start(&format!("{CHEAP}{DEFAULT}max_message = 1048576\n"));
    let mut peer = panel(&server);
    peer.send_text(&long);
    let answer = peer.next();
    assert_eq!((code(&answer).as_str(), &answer["requestId"]), ("0 admin", &json!("")));
    assert_eq!(ask(&mut peer, json!({"method": "getAppState", "requestId": "a"}))["requestId"], "a");
}

/// What comes back for bytes on the control port that are no HTTP: nothing, or one plain refusal.
fn is_a_clear_end(told: &[u8]) {
    let told = String::from_utf8_lossy(told);
    let refused = told.starts_with("HTTP/1.1 400 ") || told.starts_with("HTTP/1.1 431 ") || told.starts_with("HTTP/1.1 426 ");
    assert!(told.is_empty() || refused, "{told}");
    assert!(!told.contains("method") && !told.contains("result"), "{told}");
}

#[test]
fn bytes_that_are_no_http_get_a_clear_end_and_nothing_else() {
    let server = Server::start(&format!("{CHEAP}{DEFAULT}"));
    let dial = || Peer::dial(server.own("trueconf", "control.default"), 0);
    let auth = r#"{"method":"auth","type":"unsecured"}"#;
    let lines = [
        format!("{auth}\n"),
        format!("{auth}\r\n{auth}\r\n"),
        format!("{auth}{auth}\n\n"),
        format!("\0\u{1}garbage\n{auth}\n"),
        format!("\r\n\r\n{auth}\r\n\r\n"),
        "{".repeat(100_000),
    ];
    for line in &lines {
        let mut peer = dial();
        peer.try_write(line.as_bytes());
        is_a_clear_end(&peer.hung_up());
    }
    // Split anywhere, it is no more of a command.
    let line = lines[0].as_bytes();
    for at in 1..line.len() {
        let mut peer = dial();
        peer.try_write(&line[..at]);
        peer.try_write(&line[at..]);
        is_a_clear_end(&peer.hung_up());
    }
    // Nor on a socket: what is no frame ends it, and what was in it is not looked at.
    let mut peer = panel(&server);
    peer.write(line);
    assert_eq!(peer.closed().0, 1002);
    assert_eq!(holders(&server), 0);
}

#[test]
fn a_message_may_come_split_at_any_byte_and_two_may_come_at_once() {
    let server = Server::start(&format!("{CHEAP}{DEFAULT}"));
    let mut peer = panel(&server);
    let message = frame(TEXT, br#"{"method":"setUsedApiVersion","version":"1","requestId":"q"}"#);
    let expected = json!({"method": "setUsedApiVersion", "requestId": "q", "result": true});
    for at in 1..message.len() {
        peer.write(&message[..at]);
        peer.write(&message[at..]);
        assert_eq!(peer.next(), expected, "split at {at}");
        // The end of one with the beginning of the next.
        peer.write(&message[..at]);
        peer.write(&[&message[at..], &message[..at]].concat());
        peer.write(&message[at..]);
        assert_eq!([peer.next(), peer.next()], [expected.clone(), expected.clone()]);
    }
    peer.write(&message.repeat(7));
    for _ in 0..7 {
        assert_eq!(peer.next(), expected);
    }
    for byte in message.chunks(1) {
        peer.write(byte);
    }
    assert_eq!(peer.next(), expected);
}

#[test]
fn whoever_drips_or_is_silent_on_a_control_port_is_given_up() {
    let server = Server::start(&format!("{CHEAP}{DEFAULT}"));
    let began = system_instant();
    let silent: [&[u8]; 4] = [b"", b"{", br#"{"method":"auth","type":"unsecured"}"#, b"GET / HTTP/1.1\r\nHost: localhost\r\n"];
    let peers = silent.map(|bytes| {
        let mut peer = Peer::dial(server.own("trueconf", "control.default"), 0);
        peer.write(bytes);
        peer
    });
    for peer in peers {
        is_a_clear_end(&peer.hung_up());
    }
    // The server waits for ten seconds.
    assert!(began.elapsed() < Duration::from_secs(25), "it took {:?}", began.elapsed());
}

#[test]
fn a_panel_that_never_reads_is_given_up_and_its_role_is_free() {
    let server = Server::start(&format!("{CHEAP}{DEFAULT}max_unsent = 4096\nunsent_for = 1\n"));
    let mut peer = panel(&server);
    assert_eq!(code(&ask(&mut peer, json!({"method": "auth", "type": "unsecured"}))), "0 admin");
    assert_eq!(holders(&server), 1);
    let questions = frame(TEXT, br#"{"method":"getAppState"}"#).repeat(10_000);
    let mut sent = 0;
    peer.write_until_hung_up(&questions, |taken| {
        sent += taken;
        assert!(sent < 1 << 28, "it goes on reading what it cannot answer");
    });
    until("the role is free", || holders(&server) == 0);
    assert_eq!(code(&ask(&mut panel(&server), json!({"method": "auth", "type": "unsecured"}))), "0 admin");
}

#[test]
fn a_flood_of_what_is_wrong_ends_where_it_should_and_keeps_nobody_out() {
    let (home, _) = secured("");
    let server = Server::of(home);
    let mut inside = panel_from(&server, 1);
    assert_eq!(code(&secured_by(&mut inside, "Adm1n-77")), "0 admin");
    // A person who types wrong for ever is never hung up on.
    let mut peer = panel(&server);
    for number in 0..200 {
        let told = code(&secured_by(&mut peer, &format!("nope{number}")));
        assert_eq!(told, if number < 5 { "8" } else { "6" });
    }
    // A quote in a password that nobody escaped is no guess.
    for _ in 0..9 {
        peer.send_text(r#"{"method": "auth", "type": "secured", "credentials": "Adm"1n-77"}"#);
        let told = peer.next();
        assert_eq!((&told["method"], &told["result"], &told["error"]), (&json!(""), &json!(false), &json!("malformed request")));
    }
    assert_eq!(code(&secured_by(&mut peer, "Adm1n-77")), "6");
    for _ in 0..10 {
        peer.send_text("null");
    }
    for _ in 0..10 {
        assert_eq!(peer.next()["error"], "malformed request");
    }
    assert_eq!(peer.closed(), (1008, "Malformed".to_owned()));
    let mut peer = panel(&server);
    peer.write(&frame(crate::peer::BINARY, b"{}"));
    assert_eq!(peer.closed().0, 1003);
    assert_eq!(ask(&mut inside, json!({"method": "getAppState"}))["result"], true);
    let log = server.log();
    assert!(!log.contains("nope") && !log.contains("Adm1n-77"), "no secret is logged");
}

/// A terminal over TLS, behind a certificate of the pair.
fn over_tls(more: &str) -> (Server, Pair) {
    let (home, _) = secured("");
    let pair = Pair::new();
    pair.write_certificate(&home);
    pair.write_key(&home);
    home.write_settings(&format!("{}{CHEAP}{DEFAULT}tls = true\n{more}", crate::tls::HTTPS));
    (Server::of(home), pair)
}

#[test]
fn all_listeners_of_terminals_speak_tls_where_that_is_set() {
    let (server, pair) = over_tls("");
    let secure =
        |listener: &str| pair.secure(Peer::dial(server.own("trueconf", listener), 0)).expect("the certificate is this one");
    let get = |listener: &str, target: &str| {
        let request = format!("GET {target} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n");
        secure(listener).exchange(&request).map(|_| ()).expect_err("no upgrade")
    };
    let config = get("web", "/public/default/config.json");
    assert!(config.status == 200 && config.body.contains("\"websocket\""), "{config:?}");
    let (mut peer, _) = secure("control.default").exchange(&handshake("/", "")).expect("it opens");
    let granted = secured_by(&mut peer, "Adm1n-77");
    assert_eq!(code(&granted), "0 admin");
    let token = granted["tokenForHttpServer"].as_str().expect("a token");
    assert_eq!(get("http", &format!("/frames/?token={token}")).status, 404);
    assert_eq!(get("http", "/frames/").status, 401);
    for listener in ["web", "http", "control.default"] {
        let mut plain = Peer::dial(server.own("trueconf", listener), 0);
        plain.write(handshake("/", "").as_bytes());
        assert!(!plain.hung_up().starts_with(b"HTTP/"), "{listener}: no word without TLS");
    }
}

#[test]
fn over_tls_whoever_finds_no_room_is_told_so_before_anything_is_computed() {
    let (server, pair) = over_tls("max_unauthorized_of_source = 1\n");
    let dial = || Peer::dial(server.own("trueconf", "control.default"), 0);
    let first = pair.secure(dial()).expect("there is room");
    let refused = pair.secure(dial()).map(|_| ()).expect_err("there is one already");
    assert!(refused.to_string().contains("InternalError"), "{refused}");
    drop(first);
    until("there is room again", || pair.secure(dial()).is_ok());
}

#[test]
fn tls_without_a_certificate_is_refused_and_what_is_open_to_others_is_said_where_nothing_is_encrypted() {
    let home = Home::new(&format!("{DEFAULT}tls = true\n"));
    let place = format!("{}:7: trueconf.tls: ", home.settings().display());
    for command in ["serve", "check"] {
        let complaint = home.operator(&[command], "").complaint();
        assert!(complaint.starts_with(&place) && complaint.contains("[tls]"), "{complaint}");
    }
    let open = "[trueconf]\nweb = '0.0.0.0:0'\nhttp = '127.0.0.1:0'\nterminals = [{ name = 'default', control = '127.0.0.1:0' }]\n";
    let said = |server: &Server| server.log().contains("trueconf.web is open to others");
    assert!(said(&Server::start(open)));
    let (home, pair) = (Home::new(""), Pair::new());
    pair.write_certificate(&home);
    pair.write_key(&home);
    home.write_settings(&format!("{}{open}tls = true\n", crate::tls::HTTPS));
    assert!(!said(&Server::of(home)));
}
