//! How a server begins and how it ends, as a supervisor sees it: standard output, exit codes, signals, settings.

use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::Duration;

use gatepost_identity::clock::system_instant;
use rustix::process::Signal;
use serde_json::json;

use crate::harness::{CHEAP, Home, PASSWORD, Server, run, until};
use crate::peer::{CLOSE, Peer, handshake, http, owner};

#[test]
fn one_ready_line_names_the_port_and_nothing_else_is_on_standard_output() {
    let mut server = Server::with_ann(CHEAP);
    assert_ne!(server.http().port(), 0);
    assert_eq!(server.ready(), &json!({"http": server.http().to_string()}));
    server.connect().login("ann", PASSWORD).granted();
    server.signal_term();
    let (status, rest) = server.wait();
    assert_eq!((status.code(), rest.as_str()), (Some(0), ""));
}

#[test]
fn sigterm_closes_every_peer_with_1012_and_exits_0() {
    let mut server = Server::with_ann(CHEAP);
    let mut peers: Vec<_> = (0..20).map(|_| server.connect()).collect();
    for (number, peer) in peers.iter_mut().enumerate() {
        if number % 2 == 0 {
            peer.login("ann", PASSWORD).granted();
        } else {
            peer.query().rejected();
        }
    }
    server.signal_term();
    for peer in &mut peers {
        assert_eq!(peer.closed(), (1012, "Restart".to_owned()));
    }
    assert_eq!(server.wait().0.code(), Some(0));
}

#[test]
fn whoever_was_let_in_a_moment_before_sigterm_is_told_too() {
    let mut server = Server::start(CHEAP);
    for round in 0..30 {
        let mut peer = server.connect();
        server.signal_term();
        let told = peer.frame().map(|frame| frame.opcode);
        assert_eq!(told, Some(CLOSE), "round {round}: after a 101 there is a close");
        drop(peer);
        assert_eq!(server.wait().0.code(), Some(0));
        server.restart();
    }
}

#[test]
fn sigint_ends_it_as_sigterm_does() {
    let mut server = Server::start(CHEAP);
    let mut peer = server.connect();
    peer.query().rejected();
    server.signal(Signal::INT);
    assert_eq!(peer.closed().0, 1012);
    assert_eq!(server.wait().0.code(), Some(0));
}

#[test]
fn a_peer_that_does_not_answer_the_close_holds_the_end_up_for_seconds_only() {
    let mut server = Server::start(CHEAP);
    let mut peer = server.connect();
    peer.query().rejected();
    let began = system_instant();
    server.signal_term();
    assert_eq!(server.wait().0.code(), Some(0));
    assert!(began.elapsed() < Duration::from_secs(15), "it took {:?}", began.elapsed());
    assert_eq!(peer.told_to_close().0, 1012);
}

#[test]
fn a_login_in_flight_at_sigterm_is_answered_before_the_close_and_outlives_the_server() {
    let mut server = Server::with_ann("[password]\nmemory_kib = 65536\niterations = 24\n");
    let mut peer = server.connect();
    let before = server.cpu();
    peer.send(&json!({"Controller": "Auth", "Topic": "AuthOwner", "TransactionID": 1, "Data": owner("ann", PASSWORD)}));
    // Only a hash takes this long.
    until("the password is being compared", || server.cpu() > before + 10);
    server.signal_term();
    let answer = peer.next();
    assert_eq!((&answer["TransactionID"], &answer["Data"]["Result"]), (&json!(1), &json!("Success")), "{answer}");
    assert_eq!(peer.closed().0, 1012);
    assert_eq!(server.wait().0.code(), Some(0));
    server.restart();
    server.connect().restore(answer["Data"]["AccessToken"].as_str().unwrap()).granted();
}

#[test]
fn a_second_server_on_a_data_directory_names_the_process_that_holds_it() {
    let server = Server::start(CHEAP);
    let complaint = server.operator(&["serve"], "").complaint();
    assert!(complaint.contains(&server.pid().to_string()), "{complaint}");
    server.connect().query().rejected();
}

#[test]
fn a_data_directory_is_free_again_after_its_server_was_killed() {
    let mut server = Server::with_ann(CHEAP);
    server.kill9();
    server.restart();
    server.connect().login("ann", PASSWORD).granted();
}

/// X13: a setting that does not exist or cannot be.
#[test]
fn a_broken_setting_is_named_with_file_and_line() {
    let home = Home::new("");
    let check = |text: &str, line: usize, what: &str| {
        std::fs::write(home.settings(), text).unwrap();
        let complaint = home.operator(&["serve"], "").complaint();
        let place = format!("{}:{line}: ", home.settings().display());
        assert!(complaint.starts_with(&place) && complaint.contains(what), "{text:?} -> {complaint}");
    };
    check("http = \"127.0.0.1:0\"\nlog = \n", 2, "");
    check("\n\nhtpp = \"127.0.0.1:0\"\n", 3, "htpp");
    check("http = \"nowhere\"\n", 1, "http");
    check("[password]\nmemory_kib = 64\niterations = 0\n", 1, "password");
    check("[throttle]\n\nfirst_wait = \"soon\"\n", 3, "throttle.first_wait");
    check("[zenith]\nping_every = 0\n", 2, "zenith.ping_every");
    check("[zenith]\nname = \"x\"\nnmae = \"y\"\n", 3, "zenith.nmae");
    check("zenith = 1\n", 1, "zenith");
    check("[session]\non_reuse = \"forgive\"\n", 2, "session.on_reuse");
    check("[[provider]]\nname = \"a\"\nkind = \"local\"\n[[provider]]\nname = \"A\"\nkind = \"local\"\n", 1, "provider");
}

#[test]
fn a_complaint_about_settings_is_one_line() {
    let home = Home::new("");
    for text in ["http = \"nowhere\"\n", "log = \n", "[session]\non_reuse = \"forgive\"\n", "drain_timeout = 5\n"] {
        std::fs::write(home.settings(), text).unwrap();
        let complaint = home.operator(&["check"], "").complaint();
        assert_eq!(complaint.lines().count(), 1, "{text:?} -> {complaint:?}");
    }
}

#[test]
fn a_settings_file_that_is_named_must_be_there() {
    let home = Home::new("");
    std::fs::remove_file(home.settings()).unwrap();
    let complaint = home.operator(&["serve"], "").complaint();
    assert!(complaint.contains(&home.settings().display().to_string()), "{complaint}");
}

#[test]
fn the_environment_goes_before_the_file() {
    let home = Home::with_ann("[password]\nmemory_kib = 64\niterations = 1\n[zenith]\nname = \"file\"\nclass = \"file\"\n");
    let server = Server::with_environment(home, &[("GATEPOST_ZENITH_NAME", "environment"), ("OTHER", "is not ours")]);
    let mut peer = server.connect();
    peer.send(&json!({"Controller": "Zenith", "Topic": "ServerInfo", "Action": "Sub"}));
    let told = peer.next();
    assert_eq!((&told["Data"]["Name"], &told["Data"]["Class"]), (&json!("environment"), &json!("file")), "{told}");
}

#[test]
fn the_settings_file_may_be_named_by_the_environment_and_the_data_directory_by_an_argument() {
    let (home, other) = (Home::with_ann(CHEAP), Home::new(""));
    let gatepost = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_gatepost"));
        command.env_clear().env("GATEPOST_CONFIG", home.settings());
        command
    };
    assert_eq!(run(gatepost().args(["user", "list", "--json"]), "").json()[0]["name"], "ann");
    let elsewhere = other.data();
    let there = run(gatepost().args(["user", "list", "--data"]).arg(elsewhere), "");
    assert_eq!(there.ok(), "none\n");
}

#[test]
fn a_variable_that_sets_nothing_is_refused_by_its_name() {
    let home = Home::new("");
    for (variable, value) in [("GATEPOST_ZENTIH_NAME", "x"), ("GATEPOST_HTTP", "nowhere"), ("GATEPOST_ZENITH_SILENCE", "long")] {
        let complaint = run(home.command().env(variable, value).arg("serve"), "").complaint();
        assert!(complaint.contains(variable), "{complaint}");
    }
}

/// X13: what holds the hashes of passwords.
#[test]
fn a_data_directory_that_others_can_look_into_is_refused() {
    let home = Home::new("");
    for mode in [0o701, 0o750, 0o755] {
        std::fs::set_permissions(home.data(), std::fs::Permissions::from_mode(mode)).unwrap();
        for arguments in [&["serve"][..], &["user", "list"]] {
            let complaint = home.operator(arguments, "").complaint();
            assert!(complaint.contains("open to others") && complaint.contains("chmod 700"), "{complaint}");
        }
    }
    std::fs::set_permissions(home.data(), std::fs::Permissions::from_mode(0o700)).unwrap();
    assert_eq!(home.operator(&["user", "list"], "").ok(), "none\n");
}

#[test]
fn a_server_out_of_descriptors_goes_on_when_there_are_some_again() {
    let server = Server::limited(Home::with_ann(CHEAP), "ulimit -n 64");
    let mut before = server.connect();
    before.login("ann", PASSWORD).granted();
    let mut crowd = Vec::new();
    until("it has run out", || {
        crowd.push(Peer::dial(server.http(), 1 + crowd.len() as u16));
        server.log().contains("was turned away")
    });
    before.query().granted();
    drop(crowd);
    until("there are some again", || Peer::upgrade(server.http(), 0, "/Zenith", "").is_ok());
    server.connect().login("ann", PASSWORD).granted();
    before.query().granted();
}

#[test]
fn what_the_server_makes_is_its_owners_alone() {
    let mut server = Server::with_ann(CHEAP);
    server.connect().login("ann", PASSWORD).granted();
    for entry in std::fs::read_dir(server.data()).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o077, 0, "{entry:?}");
    }
    server.terminate();
}

#[test]
fn paths_and_versions_that_are_not_served_get_their_status() {
    let server = Server::start(CHEAP);
    let status = |request: &str| http(server.http(), 0, request).status;
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_eq!(status(&get("/")), 200);
    assert_eq!(status(&get("/other")), 404);
    assert_eq!(status(&get("/zenith")), 404, "paths are compared in their case");
    assert_eq!(status(&handshake("/other", "")), 404);
    let bare = http(server.http(), 0, &get("/Zenith"));
    assert_eq!((bare.status, bare.header("upgrade")), (426, Some("websocket")));
    let half = "GET /Zenith HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    assert_eq!(status(half), 426, "without a key it is no handshake");
    assert_eq!(status(&handshake("/Zenith?version=9.9", "")), 400);
    assert_eq!(status(&handshake("/Zenith?version=x", "")), 400);
    assert_eq!(status(&handshake("/Zenith", "Sec-WebSocket-Protocol: Foo\r\n")), 400);
    assert!((400..500).contains(&status("nonsense\r\n\r\n")));
}

#[test]
fn the_demonstration_logs_in_and_ends() {
    let shown = run(Home::new("").command().args(["demo", "--exit"]), "").ok();
    assert!(shown.contains("All answers were as expected."), "{shown}");
    for way in ["ws://127.0.0.1:", "wss://localhost:"] {
        assert!(shown.contains(way), "{way} is not in {shown}");
    }
}
