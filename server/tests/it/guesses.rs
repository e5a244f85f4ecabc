//! Guessing at passwords: how many guesses are looked at, what they cost, and that neither hanging up nor coming late gains
//! anything.

use std::sync::Barrier;
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{CHEAP, Home, PASSWORD, Server, until};
use crate::peer::{Peer, owner};

/// Failures stand for longer than any test.
const LONG_WAITS: &str = "[throttle]\nfirst_wait = \"60s\"\n";

/// Each peer says its guess at the same moment; how often each outcome came.
fn guess_at_once(peers: Vec<Peer>, name: &str) -> (usize, usize) {
    let barrier = Barrier::new(peers.len());
    let outcomes: Vec<String> = std::thread::scope(|scope| {
        let guess = |mut peer: Peer| {
            let barrier = &barrier;
            scope.spawn(move || {
                barrier.wait();
                peer.login(name, "a guess").outcome().to_owned()
            })
        };
        let threads: Vec<_> = peers.into_iter().map(guess).collect();
        threads.into_iter().map(|thread| thread.join().expect("an outcome")).collect()
    });
    let count = |word: &str| outcomes.iter().filter(|outcome| *outcome == word).count();
    assert_eq!(count("Reject") + count("Limited"), outcomes.len(), "{outcomes:?}");
    (count("Reject"), count("Limited"))
}

#[test]
fn two_hundred_guesses_at_once_for_one_fresh_name_are_five_hashes() {
    // The cost that is the default, written out: this test is about it.
    let costly = format!("[password]\nmemory_kib = 19456\niterations = 2\nmax_wait = \"30s\"\n{LONG_WAITS}");
    let server = Server::with_ann(&costly);
    let before = server.cpu();
    for source in 1000..1010 {
        server.connect_from(source).login(&format!("fresh-{source}"), "a guess").rejected();
    }
    let ten = server.cpu() - before;
    for name in ["ann", "nobody"] {
        let peers = (1..=200).map(|source| server.connect_from(source)).collect();
        let before = server.cpu();
        assert_eq!(guess_at_once(peers, name), (5, 195), "{name}");
        let spent = server.cpu() - before;
        assert!(spent * 10 < ten * 15, "{name}: {spent} ticks, where ten hashes took {ten}");
    }
}

#[test]
fn spellings_of_a_name_and_its_address_share_one_budget_that_outlives_the_server() {
    let home = Home::with_ann(&format!("{CHEAP}{LONG_WAITS}"));
    home.add_user("Zo\u{EB} M\u{FC}ller", &["--email", "zoe@example.com"]);
    let mut server = Server::of(home);
    // Another case, the decomposed form, both; then the address, twice.
    let spellings =
        ["ZO\u{CB} M\u{DC}LLER", "Zoe\u{308} Mu\u{308}ller", "zoE\u{308} mU\u{308}LLER", "zoe@example.com", "ZOE@Example.COM"];
    for (source, name) in (1..).zip(spellings) {
        server.connect_from(source).login(name, "a guess").rejected();
    }
    let all_limited = |server: &Server| {
        for (source, name) in (10..).zip(spellings) {
            server.connect_from(source).login(name, PASSWORD).failed("Limited");
        }
    };
    all_limited(&server);
    server.terminate();
    server.restart();
    all_limited(&server);
    server.connect().login("ann", PASSWORD).granted();
}

#[test]
fn failures_are_on_disk_within_a_second() {
    let mut server = Server::with_ann(&format!("{CHEAP}{LONG_WAITS}"));
    for source in 1..=5 {
        server.connect_from(source).login("ann", "a guess").rejected();
    }
    std::thread::sleep(Duration::from_secs(1));
    server.kill9();
    server.restart();
    server.connect_from(6).login("ann", PASSWORD).failed("Limited");
}

#[test]
fn the_address_is_as_good_as_the_name_until_guesses_spend_it() {
    let home = Home::with_ann(CHEAP);
    home.add_user("Zo\u{EB}", &["--email", "zoe@example.com"]);
    let server = Server::of(home);
    for name in ["Zo\u{EB}", "zoe\u{308}", "ZOE@EXAMPLE.COM"] {
        let answer = server.connect().login(name, PASSWORD);
        assert_eq!((answer.outcome(), &answer.0["Data"]["UserID"]), ("Success", &json!("Zo\u{EB}")), "{name}");
    }
}

#[test]
fn thirty_good_logins_in_a_row_from_one_address_are_not_slowed() {
    let server = Server::with_ann(&format!("{CHEAP}{LONG_WAITS}"));
    let mut peer = server.connect();
    for _ in 0..30 {
        peer.login("ann", PASSWORD).granted();
    }
}

#[test]
fn a_success_forgets_the_failures_before_it() {
    let server = Server::with_ann(&format!("{CHEAP}{LONG_WAITS}"));
    for source in 1..=4 {
        for _ in 0..4 {
            server.connect_from(source).login("ann", "a slip").rejected();
        }
        server.connect_from(source).login("ann", PASSWORD).granted();
    }
}

#[test]
fn an_unknown_name_gets_the_same_bytes_as_a_known_one() {
    let server = Server::with_ann(&format!("{CHEAP}{LONG_WAITS}"));
    server.add_user("off", &[]);
    server.operator(&["user", "disable", "off"], "").ok();
    let told = |source: u16, name: &str| -> Vec<String> {
        let mut peer = server.connect_from(source);
        let guess = |transaction: u32| json!({"Controller": "Auth", "Topic": "AuthOwner", "TransactionID": transaction, "Data": owner(name, "a guess")});
        (1..=8)
            .map(|transaction| {
                peer.send(&guess(transaction));
                peer.next_text()
            })
            .collect()
    };
    let known = told(1, "ann");
    let refusal = r#"{"Controller":"Auth","Topic":"Identify","TransactionID":1,"Data":{"Result":"Reject"}}"#;
    assert_eq!(known[0], refusal);
    assert_eq!(known.iter().filter(|text| text.contains("Limited")).count(), 3);
    assert_eq!(told(2, "nobody"), known);
    assert_eq!(told(3, "off"), known, "switched off");
    assert_eq!(told(4, "x@example.com"), known, "no such address");
}

#[test]
fn a_source_that_fails_with_twenty_names_is_refused_and_another_is_not() {
    let server = Server::with_ann(CHEAP);
    for number in 0..20 {
        server.connect_from(1).login(&format!("name-{number}"), "a guess").rejected();
    }
    server.connect_from(1).login("ann", PASSWORD).failed("Limited");
    server.connect_from(2).login("ann", PASSWORD).granted();
}

#[test]
fn who_hangs_up_during_a_guess_has_still_spent_it() {
    let server = Server::with_ann(&format!("[password]\nmemory_kib = 65536\niterations = 8\nmax_wait = \"60s\"\n{LONG_WAITS}"));
    for source in 1..=5 {
        let mut peer = server.connect_from(source);
        peer.send(&json!({"Controller": "Auth", "Topic": "AuthOwner", "TransactionID": 1, "Data": owner("ann", "a guess")}));
        drop(peer);
    }
    // Each runs to its end though nobody waits for it; that it did is in the audit.
    let refused = || server.audit().iter().filter(|row| row["outcome"] == "invalid_credentials").count();
    until("all five are compared", || refused() == 5);
    server.connect_from(6).login("ann", PASSWORD).failed("Limited");
    assert_eq!(refused(), 5);
}

#[test]
fn who_hangs_up_during_a_good_login_holds_no_session() {
    let server = Server::with_ann("[password]\nmemory_kib = 65536\niterations = 8\n");
    let mut peer = server.connect();
    peer.send(&json!({"Controller": "Auth", "Topic": "AuthOwner", "TransactionID": 1, "Data": owner("ann", PASSWORD)}));
    drop(peer);
    let granted = |row: &Value| row["action"] == "login" && row["outcome"] == "ok";
    until("the password is compared", || server.audit().iter().any(granted));
    until("the grant that nobody was told is taken back", || server.sessions().is_empty());
}

#[test]
fn a_grant_that_came_too_late_is_told_as_a_timeout_and_leaves_no_session() {
    // One thread, so that what is asked later is compared later.
    let server = Server::with_ann("[password]\nmemory_kib = 65536\niterations = 40\nthreads = 1\nmax_wait = \"60s\"\n");
    let mut late = server.connect();
    let configured = late.ask("Configure", json!({"ActionTimeout": "00:00:01"}));
    assert_eq!(configured.0.get("Data"), None, "{configured:?}");
    late.login("ann", PASSWORD).failed("Operation.Timeout");
    assert_eq!(server.sessions(), Vec::<Value>::new());
    late.query().rejected();
    // When this guess is answered, the comparison that came too late has ended.
    server.connect().login("nobody", "a guess").rejected();
    assert_eq!(server.sessions(), Vec::<Value>::new());
    late.query().rejected();
    late.ask("Configure", json!({"ActionTimeout": "00:00:35"}));
    late.login("ann", PASSWORD).granted();
    assert_eq!(server.sessions().len(), 1);
}

#[test]
fn a_flood_of_wrong_secrets_for_a_client_does_not_spend_the_users_budget() {
    let server = Server::with_ann(&format!("{CHEAP}{LONG_WAITS}"));
    server.operator(&["client", "add", "svc", "--secret-stdin", "--scope", "Zenith/Market"], "s3cret").ok();
    let through = |source: u16, secret: &str, password: &str| {
        let data =
            json!({"Provider": "Paritech", "ClientID": "svc", "ClientSecret": secret, "UserName": "ann", "Password": password});
        server.connect_from(source).ask("AuthOwner", data)
    };
    for source in 1..=5 {
        through(source, "wrong", PASSWORD).rejected();
    }
    through(6, "s3cret", PASSWORD).failed("Limited");
    server.connect_from(7).login("ann", PASSWORD).granted();
}
