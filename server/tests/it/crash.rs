//! What was told is on disk: a process that is killed without a warning takes nothing of it along.

use std::path::Path;
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

/// X10: kills at random points under load.
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

/// Where the write-ahead log ends, and which of the logs that follow each other in that file it is: its salts, bytes 16 to 24
/// (SQLite's file format, section 4.1).
fn log_end(log: &Path) -> (usize, Vec<u8>) {
    let bytes = std::fs::read(log).unwrap_or_default();
    (bytes.len(), bytes.get(16..24).map(<[u8]>::to_vec).unwrap_or_default())
}

/// X10: a power cut. What was told before a moment was synced by then, so whatever the disk had taken of what was written after it,
/// cut off anywhere, torn in the middle of a page or overwritten with what was never meant, those sessions come back.
#[test]
fn what_a_disk_had_taken_when_the_power_failed_is_served_and_nobody_told_before_is_lost() {
    let mut server = Server::with_ann(&format!("{CHEAP}[throttle]\ntoken_free = 1000\n"));
    let log = server.data().join("gatepost.db-wal");
    let (mut seed, mut shown) = (7_u64, 0);
    for round in 0..ROUNDS {
        // A fresh log, which is not begun anew before it has a thousand pages.
        server.terminate();
        server.restart();
        let told: Vec<String> = (0..3).map(|_| server.connect().login("ann", PASSWORD).token()).collect();
        let (kept, salts) = log_end(&log);
        for _ in 0..5 {
            server.connect().login("ann", PASSWORD).granted();
        }
        server.kill9();
        let whole = std::fs::read(&log).unwrap();
        if salts.is_empty() || log_end(&log).1 != salts || whole.len() <= kept {
            server.restart();
            continue;
        }
        shown += 1;
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let at = kept + usize::try_from(seed >> 33).unwrap() % (whole.len() - kept);
        let mut left = whole.clone();
        match round % 3 {
            0 => left.truncate(at),
            // A page of which half is new, or none.
            1 => left[at..].iter_mut().take(2048).for_each(|byte| *byte = 0),
            _ => left[at..].fill(0xa5),
        }
        std::fs::write(&log, left).unwrap();
        server.restart();
        let mut peer = server.connect();
        for token in &told {
            assert_eq!(peer.restore(token).outcome(), "Success", "round {round}: cut at {at} of {kept} to {}", whole.len());
        }
        peer.login("ann", PASSWORD).granted();
    }
    assert!(shown * 4 >= ROUNDS * 3, "{shown} of {ROUNDS} cuts came into the log");
}
