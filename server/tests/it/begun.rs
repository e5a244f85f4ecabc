//! Servers that are told of a terminal as they begin: which one, by which PIN, and where it is when nobody has said.

use std::os::unix::fs::PermissionsExt;

use serde_json::{Value, json};

use crate::harness::{CHEAP, Home, Output, Server};
use crate::peer::{Peer, handshake, http};
use crate::terminals::{DEFAULT, ask, code, panel, secured_by};

/// What is said where others can see the PIN.
const SEEN: &str = "the PIN stands on the command line";

fn home() -> Home {
    Home::new(&format!("{CHEAP}{DEFAULT}"))
}

/// Sees that a server takes this PIN for the administrator's, and no other; tells whether it said that others can see it.
fn takes(server: &Server, pin: &str) -> bool {
    let mut peer = panel(server);
    assert_eq!(code(&ask(&mut peer, json!({"method": "auth", "type": "unsecured", "role": "admin"}))), "5");
    assert_eq!(code(&secured_by(&mut peer, "another")), "8");
    assert_eq!(code(&secured_by(&mut peer, pin)), "0 admin");
    assert!(!server.log().contains(pin), "it is not logged");
    server.log().contains(SEEN)
}

/// A file with a PIN, as its owner alone may read it.
fn pin_file(home: &Home, text: &str, mode: u32) {
    std::fs::write(home.file("pin"), text).expect("a file");
    std::fs::set_permissions(home.file("pin"), std::fs::Permissions::from_mode(mode)).expect("it is ours");
}

#[test]
fn a_pin_on_the_command_line_counts_and_it_is_said_that_others_can_see_it() {
    for arguments in [&["--pin", "pin123"][..], &["-pin", "pin123"], &["--pin=pin123"], &["-pin=pin123"]] {
        assert!(takes(&Server::begun(home(), arguments, &[]), "pin123"), "{arguments:?}");
    }
}

#[test]
fn a_pin_from_a_file_or_the_environment_counts_and_nobody_else_can_see_it() {
    assert!(!takes(&Server::begun(home(), &[], &[("GATEPOST_PIN", "pin123")]), "pin123"));
    let from_file = |text: &str| {
        let home = home();
        pin_file(&home, text, 0o600);
        Server::begun(home, &["--pin-file", "pin"], &[])
    };
    for text in ["pin123", "pin123\n", "pin123\r\n", "pin123\nwhat it is for\n"] {
        assert!(!takes(&from_file(text), "pin123"), "{text:?}");
    }
    // What was typed goes before the environment, as everywhere.
    assert!(takes(&Server::begun(home(), &["--pin", "typed"], &[("GATEPOST_PIN", "pin123")]), "typed"));
}

fn refused(home: &Home, arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    let mut command = home.command();
    command.arg("serve").args(arguments).envs(environment.iter().copied());
    crate::harness::run(&mut command, "")
}

#[test]
fn two_pins_at_once_are_refused() {
    let home = home();
    pin_file(&home, "from-file\n", 0o600);
    let two = [
        &["--pin", "a", "--pin-file", "pin"][..],
        &["-pin", "a", "--pin-file", "pin"],
        &["--pin", "a", "-pin", "b"],
        &["-pin", "a", "-pin", "b"],
        &["--pin-file", "pin", "--pin-file", "pin"],
    ];
    for arguments in two {
        let Output { code, out, err } = refused(&home, arguments, &[]);
        assert_eq!((code, &*out), (Some(2), ""), "{arguments:?}: {err}");
        assert!(err.contains("cannot be used"), "{err}");
    }
    let Output { code, err, .. } = refused(&home, &["--pin-file", "pin"], &[("GATEPOST_PIN", "from-environment")]);
    assert_eq!(code, Some(2), "{err}");
    assert!(!err.contains("from-environment"), "{err}");
}

#[test]
fn a_file_that_holds_no_pin_or_is_open_to_others_is_refused() {
    let home = home();
    let complaint = || refused(&home, &["--pin-file", "pin"], &[]).complaint();
    assert!(complaint().starts_with("pin: "), "there is none");
    for mode in [0o640, 0o604, 0o644] {
        pin_file(&home, "pin123\n", mode);
        let complaint = complaint();
        assert!(complaint.contains("chmod 600") && !complaint.contains("pin123"), "{complaint}");
    }
    for text in ["", "\n", "\nsecond line\n"] {
        pin_file(&home, text, 0o600);
        assert!(complaint().contains("1 to 256 bytes"), "{text:?}");
    }
    assert!(refused(&home, &["--pin", ""], &[]).complaint().contains("1 to 256 bytes"));
    assert!(refused(&home, &["--terminal", "a/b"], &[]).complaint().contains("terminals"));
}

#[test]
fn a_pin_is_the_named_terminals_and_no_others() {
    let two = "[trueconf]\nweb = '127.0.0.1:0'\nhttp = '127.0.0.1:0'\nterminals = [{ name = 'hall', control = '127.0.0.1:0' }, \
               { name = 'attic', control = '127.0.0.1:0' }]\n";
    let home = Home::new(&format!("{CHEAP}{two}"));
    let server = Server::begun(home, &["--terminal", "attic", "-pin", "pin123"], &[]);
    let at = |terminal: &str| {
        let address = server.own("trueconf", &format!("control.{terminal}"));
        Peer::request(address, 0, &handshake("/", "")).map(|(peer, _)| peer).expect("it opens")
    };
    assert_eq!(code(&secured_by(&mut at("attic"), "pin123")), "0 admin");
    assert_eq!(code(&secured_by(&mut at("hall"), "pin123")), "4", "it has no secret");
    assert_eq!(code(&ask(&mut at("hall"), json!({"method": "auth", "type": "unsecured"}))), "0 admin");
}

#[test]
fn ports_that_nobody_set_are_below_ten_thousand_and_config_json_tells_where_somebody_listens() {
    let server = Server::begun(Home::new(CHEAP), &["--terminal", "hall", "--pin", "pin123"], &[]);
    let config = http(server.own("trueconf", "web"), 0, "GET /public/hall/config.json HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_eq!(config.status, 200);
    let config: Value = serde_json::from_str(&config.body).expect("JSON");
    let port = |name: &str| {
        let port = config["config"][name]["port"].as_u64().unwrap_or_else(|| panic!("no number in {config}"));
        assert!((1..10_000).contains(&port), "{name}: {port}");
        let address = format!("127.0.0.1:{port}").parse().expect("an address");
        (port, address)
    };
    let ((websocket, control), (files, files_at)) = (port("websocket"), port("http"));
    assert_ne!(websocket, files);
    let (mut peer, _) = Peer::request(control, 0, &handshake("/", "")).expect("a control socket is there");
    assert_eq!(code(&secured_by(&mut peer, "pin123")), "0 admin");
    assert_eq!(ask(&mut peer, json!({"method": "getAppState"}))["embeddedHttpPort"], files);
    assert_eq!(http(files_at, 0, "GET /frames/ HTTP/1.1\r\nHost: localhost\r\n\r\n").status, 401);
    // Another one beside it walks on.
    let other = Server::begun(Home::new(CHEAP), &["--terminal", "hall"], &[]);
    let second = other.own("trueconf", "control.hall").port();
    assert!(u64::from(second) != websocket && second < 10_000, "{second}");
}
