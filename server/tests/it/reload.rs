//! Settings that change under a running server: each part of them is seen to hold after SIGHUP, what waits for a restart is named,
//! and what cannot be used changes nothing.

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::harness::{CHEAP, Home, PASSWORD, Server, until};
use crate::peer::{Peer, Response, http, owner};
use crate::terminals::{DEFAULT, code, panel, secured_by};

/// Writes settings and sees them obeyed. Answers what the log says of it.
fn reload(server: &Server, settings: &str) -> String {
    server.write_settings(settings);
    hang_up(server, "the settings were read anew")
}

/// Sends SIGHUP, and answers the log from there on once it says `what`.
fn hang_up(server: &Server, what: &str) -> String {
    let before = server.log().len();
    server.signal(Signal::HUP);
    until("SIGHUP is obeyed", || server.log()[before..].contains(what));
    server.log()[before..].to_owned()
}

fn get(server: &Server, target: &str, fields: &str) -> Response {
    http(server.http(), 0, &format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n"))
}

fn info(server: &Server) -> Value {
    let mut peer = server.connect();
    peer.send(&json!({"Controller": "Zenith", "Topic": "ServerInfo", "Action": "Sub"}));
    peer.next()["Data"].clone()
}

#[test]
fn check_marks_what_may_change_under_a_running_server() {
    let home = Home::new(CHEAP);
    let marked = home.operator(&["check", "--json"], "").json();
    let said = |what: &str| -> Vec<String> {
        marked[what].as_array().expect("keys").iter().map(|key| key.as_str().expect("a key").to_owned()).collect()
    };
    let (reloads, restarts) = (said("reloads"), said("restarts"));
    for key in ["log", "tls", "throttle", "session", "provider", "zenith", "servicestack", "trueconf", "drain_rate"] {
        assert!(reloads.iter().any(|marked| marked == key), "{key}: {reloads:?}");
    }
    for key in ["data", "http", "https", "password.threads", "throttle.entries", "trueconf.terminals"] {
        assert!(restarts.iter().any(|marked| marked == key), "{key}: {restarts:?}");
    }
    // Every section that may be reloaded has a test here.
    assert_eq!(reloads.len(), 17, "{reloads:?}");
}

#[test]
fn what_cannot_be_used_changes_nothing_and_what_waits_is_named_again_and_again() {
    let server = Server::with_ann(&format!("{CHEAP}[zenith]\nname = 'one'\n"));
    server.write_settings(&format!("{CHEAP}[zenith]\nname = 'two'\n[throttle]\nname_free = 0\n"));
    let said = hang_up(&server, "nothing was changed");
    assert!(said.contains("throttle.name_free"), "{said}");
    assert_eq!(info(&server)["Name"], "one");

    let next = format!("log = 'info'\n{CHEAP}threads = 3\n[zenith]\nname = 'two'\n[throttle]\nentries = 99\n");
    let said = reload(&server, &next);
    assert!(said.contains("zenith.name") && said.contains("need a restart: password.threads, throttle.entries"), "{said}");
    assert_eq!(info(&server)["Name"], "two");
    let said = reload(&server, &next);
    assert!(said.contains("changed: nothing") && said.contains("need a restart: password.threads, throttle.entries"), "{said}");
}

#[test]
fn logs_follow_their_filter() {
    let server = Server::with_ann(CHEAP);
    reload(&server, &format!("log = 'gatepost=debug,info'\n{CHEAP}"));
    drop(Peer::dial(server.http(), 0));
    let mut half = Peer::dial(server.http(), 0);
    half.write(b"GET / HTTP/1.1\r\nnonsense\r\n\r\n");
    until("what is said at debug only is said", || server.log().contains("DEBUG"));
}

#[test]
fn guesses_are_counted_by_the_throttle_as_it_is_now() {
    let server = Server::with_ann(CHEAP);
    for _ in 0..3 {
        server.connect().login("ann", "wrong").rejected();
    }
    server.connect().login("ann", PASSWORD).granted();
    reload(&server, &format!("{CHEAP}[throttle]\nname_free = 1\nfirst_wait = '10m'\n"));
    server.connect().login("ann", "wrong").rejected();
    server.connect().login("ann", PASSWORD).failed("Limited");
}

#[test]
fn sessions_and_passwords_go_by_the_settings_as_they_are_now() {
    let server = Server::with_ann(CHEAP);
    let mut first = server.connect();
    let mut token = first.login("ann", PASSWORD).token();
    let mut second = server.connect();
    token = second.restore(&token).token();
    reload(&server, &format!("{CHEAP}[session]\nmax_connections = 1\n"));
    assert_ne!(server.connect().restore(&token).outcome(), "Success", "one connection more than may be");

    reload(&server, "[password]\nmemory_kib = 128\niterations = 2\n");
    server.connect().login("ann", PASSWORD).granted();
    let database = rusqlite::Connection::open(server.data().join("gatepost.db")).expect("the database");
    let hash: String = database.query_row("SELECT password FROM accounts", [], |row| row.get(0)).expect("a hash");
    assert!(hash.contains("m=128,t=2"), "it is hashed anew as settings are now: {hash}");
}

#[test]
fn tokens_providers_and_addresses_are_those_of_the_settings_as_they_are_now() {
    let gate = "[servicestack]\nclient = 'app'\n";
    let server = Server::with_ann(&format!("{CHEAP}{gate}"));
    let roles = |server: &Server| get(server, "/auth.json", "authsecret: 0123456789abcdef0123456789abcdef\r\n").status;
    assert_eq!(roles(&server), 401);
    let file = server.file("authsecret");
    std::fs::write(&file, "0123456789abcdef0123456789abcdef").expect("a file");
    std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).expect("its mode");
    let local = "[[provider]]\nname = 'local'\nkind = 'local'\naliases = ['Paritech', 'credentials']\n";
    let secret = format!("{local}[[provider]]\nname = 'operator'\nkind = 'secret'\nfile = {file:?}\n");
    reload(&server, &format!("{CHEAP}{gate}{secret}"));
    assert_eq!(roles(&server), 200);
    // A file that settings name is read anew, though nothing in the settings has changed.
    std::fs::write(&file, "fedcba9876543210fedcba9876543210").expect("a file");
    hang_up(&server, "the settings were read anew");
    assert_eq!(roles(&server), 401);

    let base = format!("{CHEAP}{gate}base_path = '/host'\n");
    assert_eq!((get(&server, "/auth.json", "").status, get(&server, "/host/auth.json", "").status), (401, 404));
    reload(&server, &base);
    assert_eq!((get(&server, "/auth.json", "").status, get(&server, "/host/auth.json", "").status), (404, 401));
}

#[test]
fn whom_to_believe_and_what_to_refuse_follow_the_settings() {
    let server = Server::with_ann(CHEAP);
    let login = |fields: &str| {
        let mut peer = Peer::upgrade(server.http(), 0, "/Zenith?version=2.0", fields).expect("the handshake is good");
        peer.ask("AuthOwner", owner("ann", PASSWORD))
    };
    let from_afar = "X-Forwarded-For: 192.0.2.7\r\nX-Forwarded-Proto: http\r\n";
    login(from_afar).granted();
    let proxy = "[proxy]\ntrusted = ['127.0.0.1']\nfields = 'x-forwarded'\n";
    reload(&server, &format!("{CHEAP}{proxy}"));
    assert_ne!(login(from_afar).outcome(), "Success", "whoever listens on the way would read the password");
    reload(&server, &format!("require_secure = false\n{CHEAP}{proxy}"));
    login(from_afar).granted();
    assert!(server.sessions().iter().any(|session| session["source"] == "192.0.2.7"), "{:?}", server.sessions());
}

#[test]
fn a_terminal_goes_by_what_may_change_and_keeps_its_listeners() {
    let home = Home::new(&format!("{CHEAP}{DEFAULT}"));
    home.operator(&["terminal", "protect", "default", "administrator", "password"], "Adm1n-77\n").ok();
    let server = Server::of(home);
    let lock = DEFAULT.replace("[trueconf]\n", "[trueconf]\nlock_out = { free = 1 }\nmax_unauthorized_of_source = 2\n");
    let more = lock.replace("[{ name = 'default'", "[{ name = 'hall', control = '127.0.0.1:0' }, { name = 'default'");
    let said = reload(&server, &format!("{CHEAP}{more}"));
    assert!(said.contains("trueconf.lock_out") && said.contains("need a restart: trueconf.terminals"), "{said}");
    let mut peer = panel(&server);
    assert_eq!(code(&secured_by(&mut peer, "wrong")), "8");
    let after = secured_by(&mut peer, "Adm1n-77");
    assert_ne!(after["resultCode"], 0, "one guess was free: {after}");
    drop(peer);
    until("two strangers are there at most", || {
        let held: Vec<_> = (0..2).map(|_| Peer::dial(server.own("trueconf", "control.default"), 0)).collect();
        let third = http(server.own("trueconf", "control.default"), 0, "GET / HTTP/1.1\r\nHost: x\r\n\r\n").status;
        drop(held);
        third == 429
    });
}

#[test]
fn the_stop_goes_by_the_settings_as_they_are_now() {
    let mut server = Server::with_ann(&format!("drain_rate = 1\ndrain_timeout = '60s'\n{CHEAP}"));
    let mut peers: Vec<Peer> = (0..40).map(|_| server.connect()).collect();
    reload(&server, &format!("drain_rate = 1000\n{CHEAP}[retention]\nended = '1d'\n[token]\naudiences = ['x']\n"));
    let began = gatepost_identity::clock::system_instant();
    server.signal_term();
    peers.iter_mut().for_each(|peer| assert_eq!(peer.closed().0, 1012));
    assert_eq!(server.wait().0.code(), Some(0));
    assert!(began.elapsed().as_secs() < 10, "at one a second it would take longer than {:?}", began.elapsed());
}
