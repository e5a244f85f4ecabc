//! What panels and operators may not do at a terminal, on the real binary: act in a role that is somebody else's by now, set
//! what can never be shown, learn a PIN from a complaint; and what an operator does where no server runs.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use serde_json::{Value, json};

use crate::harness::{CHEAP, Home, Output, Server, run};
use crate::peer::{Peer, TEXT, frame, handshake};

/// The terminal `hall` on ports of the system's choosing.
const HALL: &str = "[trueconf]\nweb = '127.0.0.1:0'\nhttp = '127.0.0.1:0'\nmax_unsent = 16777216\nterminals = [{ name = 'hall', \
                    control = '127.0.0.1:0' }]\n";

fn home() -> Home {
    Home::new(&format!("{CHEAP}{HALL}"))
}

fn panel(server: &Server) -> Peer {
    let request = handshake("/", "");
    Peer::request(server.own("trueconf", "control.hall"), 0, &request).map(|(peer, _)| peer).expect("it opens")
}

fn ask(peer: &mut Peer, request: &Value) -> Value {
    peer.send(request);
    peer.next()
}

/// What is written as a token is.
fn token_shaped() -> String {
    format!("1*aB3dE5gH7jK9mN1p*1999999999*{}", "3041".repeat(16))
}

#[test]
fn whoever_is_displaced_commands_nothing_more_also_while_the_newcomer_does_not_read() {
    let server = Server::of(home());
    let come = json!({"method": "auth", "type": "unsecured"});
    let mut holder = panel(&server);
    assert_eq!(ask(&mut holder, &come)["previleges"], 2);
    assert_eq!(ask(&mut holder, &json!({"method": "getAppState"}))["result"], true);
    // More answers than the system keeps for somebody who reads none; behind them the newcomer takes the role.
    let mut newcomer = panel(&server);
    let question = json!({"method": "getAppState", "requestId": "x".repeat(250)}).to_string();
    let many = frame(TEXT, question.as_bytes()).repeat(1000);
    for _ in 0..40 {
        newcomer.write(&many);
    }
    newcomer.send(&come);
    // The core knows first.
    let files = json!({"method": "getTokenForHttpServer"});
    let end = gatepost_identity::clock::system_instant() + crate::harness::LIMIT;
    loop {
        let answer = ask(&mut holder, &files);
        if answer["result"] == false {
            assert_eq!(answer["error"], "not authorized");
            break;
        }
        assert!(gatepost_identity::clock::system_instant() < end, "the role is never taken");
    }
    let answer = ask(&mut holder, &json!({"method": "getAppState"}));
    assert_eq!((&answer["method"], &answer["error"]), (&json!("getAppState"), &json!("not authorized")), "and so does the gate");
    drop(newcomer);
    assert_eq!(holder.next(), json!({"method": "event", "event": "authorizationNeeded", "cause": 1}), "told when there is time");
    assert_eq!(ask(&mut holder, &come)["previleges"], 2);
}

#[test]
fn what_looks_like_a_token_can_be_set_as_no_secret() {
    let home = home();
    let protect = ["terminal", "protect", "hall", "administrator", "password"];
    let refused = |home: &Home| {
        let complaint = home.operator(&protect, &format!("{}\n", token_shaped())).complaint();
        assert!(complaint.contains("looks like a token") && !complaint.contains("3041"), "{complaint}");
    };
    refused(&home);
    home.write_settings(&format!("{CHEAP}[trueconf]\nterminals = [{{ name = 'hall', pin = '{}' }}]\n", token_shaped()));
    let complaint = home.operator(&["check"], "").complaint();
    assert!(complaint.contains("trueconf.terminals[0].pin") && !complaint.contains("3041"), "{complaint}");
    home.write_settings(&format!("{CHEAP}{HALL}"));
    let server = Server::of(home);
    refused(&server);
    assert_eq!(ask(&mut panel(&server), &json!({"method": "auth", "type": "unsecured"}))["previleges"], 2, "it is open as before");
}

#[test]
fn a_pin_that_was_written_without_quotes_is_in_no_complaint() {
    let home = Home::new(&format!("{CHEAP}[trueconf]\nterminals = [{{ name = 'hall', pin = 918273 }}]\n"));
    for command in ["check", "serve"] {
        let complaint = home.operator(&[command], "").complaint();
        assert!(complaint.contains("trueconf.terminals[0].pin: must be text"), "{complaint}");
        assert!(!complaint.contains("918273"), "{complaint}");
    }
}

#[test]
fn where_no_server_runs_nothing_is_served_and_looking_adds_nothing() {
    let home = home();
    assert_eq!(home.operator(&["terminal", "list", "--json"], "").json(), json!([]));
    home.operator(&["terminal", "show", "hall"], "").complaint();
    let added = home.operator(&["terminal", "add", "hall", "--plan", "free", "--json"], "").json();
    assert_eq!((&added["plan"], &added["served"]), (&json!("free"), &json!(false)));
    let server = Server::of(home);
    let shown = server.operator(&["terminal", "show", "hall", "--json"], "").json();
    assert_eq!((&shown["plan"], &shown["served"]), (&json!("free"), &json!(true)), "what was added is what is served");
    assert_eq!(server.audit().iter().filter(|line| line["action"] == "terminal_add").count(), 1);
}

#[test]
fn a_terminal_that_the_settings_name_can_be_protected_before_it_is_served_for_the_first_time() {
    let home = home();
    home.operator(&["terminal", "protect", "hall", "administrator", "password"], "Adm1n-77\n").ok();
    home.operator(&["terminal", "protect", "other", "administrator", "password"], "Adm1n-77\n").complaint();
    let shown = home.operator(&["terminal", "show", "hall", "--json"], "").json();
    assert_eq!((&shown["administrator"], &shown["served"]), (&json!("password"), &json!(false)));
    let server = Server::of(home);
    let administrator = json!({"method": "auth", "type": "unsecured", "role": "admin"});
    assert_eq!(ask(&mut panel(&server), &administrator)["resultCode"], 5);
}

#[test]
fn an_empty_variable_is_no_pin_and_a_full_one_beside_a_file_is_one_too_many() {
    let server = Server::with_environment(home(), &[("GATEPOST_PIN", "")]);
    assert_eq!(ask(&mut panel(&server), &json!({"method": "auth", "type": "unsecured"}))["previleges"], 2);
    let home = home();
    std::fs::write(home.file("pin"), "from-file\n").expect("a file");
    std::fs::set_permissions(home.file("pin"), std::os::unix::fs::PermissionsExt::from_mode(0o600)).expect("it is ours");
    let mut command = home.command();
    command.args(["serve", "--pin-file", "pin"]).env("GATEPOST_PIN", "from-environment");
    let Output { code, out, err } = run(&mut command, "");
    assert_eq!((code, &*out), (Some(2), ""), "{err}");
    assert!(err.contains("GATEPOST_PIN") && !err.contains("from-environment") && !err.contains("--pin <"), "{err}");
    // Beside an empty variable the file counts.
    let mut command = home.command();
    command.args(["serve", "--pin-file", "pin", "--terminal", "hal"]).env("GATEPOST_PIN", "");
    let spawned = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = spawned.expect("the binary runs");
    let mut line = String::new();
    BufReader::new(child.stdout.take().expect("it is piped")).read_line(&mut line).expect("standard output");
    child.kill().expect("it runs");
    let said = std::io::read_to_string(child.stderr.take().expect("it is piped")).expect("text");
    child.wait().expect("its status");
    assert!(line.starts_with("ready ") && line.contains("control.hal\""), "{line} {said}");
    assert!(said.contains("the settings do not name the terminal hal"), "{said}");
}
