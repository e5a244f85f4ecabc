//! A disk that is full, a sync that fails and a clock that steps, under login load: what was told stays true, nobody is let in or told that a password
//! is wrong, tokens go on, and the server recovers by itself.
//!
//! The faults stand between the server and the C library (`faults.c`), so that they come and go with a file.

use std::path::PathBuf;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use gatepost_identity::clock::system_instant;

use crate::harness::{CHEAP, Home, PASSWORD, Server, until};
use crate::peer::Peer;

/// Users who log in all the while.
const LOAD: usize = 3;
/// Within which time somebody is let in again.
const RECOVERS: Duration = Duration::from_secs(2);

/// A server on a disk that can be made to fail, and the directory whose files do it.
fn frail(throttle: &str) -> (Server, PathBuf) {
    let home = Home::with_ann(&format!("{CHEAP}[throttle]\ntoken_free = 100000\nsource_free = 100000\n{throttle}"));
    home.add_copies("ann", (0..LOAD).map(|number| format!("load-{number}")));
    let (library, faults) = (home.file("faults.so"), home.file("faults"));
    std::fs::create_dir(&faults).expect("a directory");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/faults.c");
    let mut compile = Command::new("cc");
    let compiled = compile.args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).args([source, "-ldl"]).status();
    assert!(compiled.expect("a C compiler, which building needs too").success());
    // The names last as long as the test, which is as long as the process.
    let leak = |path: &PathBuf| -> &'static str { Box::leak(path.to_str().expect("UTF-8").to_owned().into_boxed_str()) };
    let environment = [("LD_PRELOAD", leak(&library)), ("FAULTS", leak(&faults))];
    (Server::with_environment(home, &environment), faults)
}

fn check(fault: &str) {
    let (mut server, faults) = frail("name_free = 100000\n");
    let planted = faults.join(fault);
    let mut old = server.connect();
    let mut token = old.login("ann", PASSWORD).token();
    let (told, done) = (Mutex::new(vec![]), AtomicBool::new(false));
    let address = server.http();
    std::thread::scope(|scope| {
        for number in 0..LOAD {
            let (told, done) = (&told, &done);
            scope.spawn(move || {
                let name = format!("load-{number}");
                while !done.load(Ordering::Acquire) {
                    let answer = Peer::connect(address, 0).login(&name, PASSWORD);
                    match answer.outcome() {
                        "Success" => told.lock().expect("nobody panics").push(answer.token()),
                        // Never that the password is wrong.
                        "Reject" => panic!("{answer:?}"),
                        _ => {}
                    }
                }
            });
        }
        for _ in 0..3 {
            let before = told.lock().expect("nobody panics").len();
            until("logins come in", || told.lock().expect("nobody panics").len() > before + LOAD);
            std::fs::write(&planted, "").expect("the fault");
            until("the store fails", || server.connect().login("ann", PASSWORD).outcome() != "Success");
            let during = told.lock().expect("nobody panics").len();
            server.connect().login("ann", "a wrong one").rejected();
            let answer = server.connect().restore(&token);
            assert_eq!(answer.token(), token, "it is given back as it is");
            old.query().granted();
            std::thread::sleep(Duration::from_millis(300));
            let let_in = told.lock().expect("nobody panics").len() - during;
            assert!(let_in <= LOAD, "{let_in} were let in although nothing could be kept");
            std::fs::remove_file(&planted).expect("the fault goes");
            let since = system_instant();
            until("somebody is let in", || server.connect().login("ann", PASSWORD).outcome() == "Success");
            assert!(since.elapsed() < RECOVERS, "it took {:?}", since.elapsed());
            let rolled = server.connect().restore(&token).token();
            assert_ne!(rolled, token);
            token = rolled;
        }
        done.store(true, Ordering::Release);
    });
    assert!(server.log().contains("nothing was written"), "the server says what is wrong");
    // Neither memory nor disk has anybody else in.
    let told = told.into_inner().expect("nobody panicked");
    server.kill9();
    server.restart();
    let mut peer = server.connect();
    for token in told.iter().chain([&token]) {
        assert_eq!(peer.restore(token).outcome(), "Success", "a session that was told is gone");
    }
}

#[test]
fn a_full_disk_lets_nobody_in_loses_nobody_and_is_over_when_there_is_room() {
    check("full");
}

#[test]
fn a_sync_that_fails_lets_nobody_in_loses_nobody_and_is_over_when_it_works() {
    check("no-sync");
}

/// Writes to the side first, so that nobody reads half of it.
fn set_clock(faults: &std::path::Path, seconds: i64) {
    let aside = faults.join("clock-aside");
    std::fs::write(&aside, seconds.to_string()).expect("a file");
    std::fs::rename(&aside, faults.join("clock")).expect("the clock steps");
}

#[test]
fn a_clock_that_steps_by_an_hour_lifts_no_lock_and_loses_nobody_who_was_told() {
    let (mut server, faults) = frail("name_free = 1\nfirst_wait = \"10m\"\nlongest_wait = \"10m\"\n");
    // The name of a user, and the one failure that is free.
    let locked = format!("load-{}", LOAD - 1);
    server.connect().login(&locked, "a wrong one").rejected();
    let refused = |server: &Server| {
        let outcome = server.connect_from(7).login(&locked, PASSWORD);
        assert_ne!(outcome.outcome(), "Success", "the lock was lifted: {outcome:?}");
    };
    refused(&server);
    let (told, done) = (Mutex::new(vec![]), AtomicBool::new(false));
    let address = server.http();
    std::thread::scope(|scope| {
        for number in 0..LOAD - 1 {
            let (told, done) = (&told, &done);
            scope.spawn(move || {
                while !done.load(Ordering::Acquire) {
                    let token = Peer::connect(address, 0).login(&format!("load-{number}"), PASSWORD).token();
                    told.lock().expect("nobody panics").push(token);
                }
            });
        }
        for hour in [3600, 0, -3600, 0] {
            let mut held = server.connect();
            held.login("ann", PASSWORD).granted();
            set_clock(&faults, hour);
            let before = told.lock().expect("nobody panics").len();
            until("logins come in", || told.lock().expect("nobody panics").len() > before + 2 * LOAD);
            refused(&server);
            if hour == 3600 {
                // It proved itself more than half an hour ago, as far as anybody can tell.
                until("it is no longer taken for authenticated", || held.query().outcome() == "Reject");
            }
            let told = told.lock().expect("nobody panics").clone();
            let mut peer = server.connect();
            for token in told.iter().rev().take(50) {
                peer.restore(token).granted();
            }
        }
        done.store(true, Ordering::Release);
    });
    let told = told.into_inner().expect("nobody panicked");
    // Counts of failures are written within a second, and the rest of this takes less where nothing else runs.
    std::thread::sleep(Duration::from_millis(1500));
    server.kill9();
    server.restart();
    refused(&server);
    let mut peer = server.connect();
    for token in &told {
        assert_eq!(peer.restore(token).outcome(), "Success", "a session that was told is gone");
    }
}
