//! What was told is on disk: a process that is killed without a warning takes nothing of it along.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::harness::{CHEAP, Home, PASSWORD, Server};
use crate::peer::Peer;

const ROUNDS: usize = 20;
/// Users who log in until the server is gone.
const LOAD: usize = 4;

#[test]
fn a_token_that_was_told_survives_a_kill_at_once() {
    let mut server = Server::with_ann(CHEAP);
    let first = server.connect().login("ann", PASSWORD).token();
    server.kill9();
    server.restart();
    let second = server.connect().restore(&first).token();
    server.kill9();
    server.restart();
    server.connect().restore(&second).granted();
}

#[test]
fn under_load_every_session_told_survives_a_kill_and_none_that_was_ended_does() {
    let home = Home::with_ann(&format!("{CHEAP}[throttle]\ntoken_free = 1000\n"));
    home.add_copies("ann", (0..LOAD).map(|number| format!("load-{number}")).chain(["leaver".to_owned()]));
    let mut server = Server::of(home);
    for round in 0..ROUNDS {
        let left = server.connect().login("leaver", PASSWORD).token();
        let (told, gone) = (Mutex::new(Vec::<String>::new()), AtomicBool::new(false));
        let http = server.http();
        std::thread::scope(|scope| {
            for number in 0..LOAD {
                let (told, gone) = (&told, &gone);
                scope.spawn(move || {
                    let name = format!("load-{number}");
                    while let Some(answer) = Peer::login_unless_gone(http, &name, PASSWORD) {
                        told.lock().unwrap().push(answer.token());
                    }
                    assert!(gone.load(Ordering::Acquire), "the server went away by itself");
                });
            }
            server.operator(&["session", "end", "--user", "leaver"], "").ok();
            crate::harness::until("logins come in", || told.lock().unwrap().len() > 8 * LOAD);
            gone.store(true, Ordering::Release);
            server.kill9();
        });
        server.restart();
        let mut peer = server.connect();
        peer.restore(&left).rejected();
        for token in told.into_inner().unwrap() {
            let answer = peer.restore(&token);
            assert_eq!(answer.outcome(), "Success", "round {round}: a session that was told is gone");
        }
    }
}
