//! What operators look at: lines of the audit and sessions, filtered and page by page, on a server and without one; and the pages
//! and completions that come from the command line's own definitions.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use rusqlite::Connection;
use serde_json::Value;

use crate::harness::{CHEAP, Home, PASSWORD, Server};

/// What a command prints in JSON, a line each.
fn lines(home: &Home, arguments: &[&str]) -> Vec<Value> {
    let printed = home.operator(&[arguments, &["--json"]].concat(), "").ok();
    printed.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect()
}

fn numbers(rows: &[Value]) -> Vec<u64> {
    rows.iter().map(|row| row["number"].as_u64().expect("a number")).collect()
}

/// Ann came in from 127.7.0.9 after a wrong password, and bob, who is not there, tried from 127.7.0.8.
fn guessed() -> Server {
    let server = Server::with_ann(CHEAP);
    server.connect_from(9).login("ann", "a guess").rejected();
    server.connect_from(9).login("ann", PASSWORD).granted();
    server.connect_from(8).login("bob", "a guess").rejected();
    server
}

/// When a line was written, so that texts compare as moments do: a fraction of a second may be told with fewer digits.
fn moment(row: &Value) -> String {
    let at = row["at"].as_str().expect("a moment").trim_end_matches('Z');
    let (second, fraction) = at.split_once('.').unwrap_or((at, ""));
    format!("{second}.{fraction:0<3}")
}

#[test]
fn the_audit_is_filtered_by_each_of_what_it_holds_and_by_all_of_them_together() {
    let mut server = guessed();
    let all = lines(&server, &["audit", "show"]);
    let session = server.sessions()[0]["id"].as_str().expect("an id").to_owned();
    let account = server.operator(&["user", "show", "ann", "--json"], "").json()["account"].as_str().expect("an id").to_owned();
    let check = |home: &Home| {
        let find = |filter: &[&str], expected: &dyn Fn(&Value) -> bool| {
            let wanted: Vec<u64> = numbers(&all.iter().filter(|row| expected(row)).cloned().collect::<Vec<_>>());
            assert_eq!(numbers(&lines(home, &[&["audit", "show"], filter].concat())), wanted, "{filter:?}");
            let tail = lines(home, &[&["audit", "tail", "-n", "1000"], filter].concat());
            assert_eq!(numbers(&tail), wanted, "tail {filter:?}");
            wanted.len()
        };
        assert!(all.len() >= 5, "{all:?}");
        assert_eq!(find(&[], &|_| true), all.len());
        assert_eq!(find(&["--outcome", "refused"], &|row| row["outcome"] != "ok"), 2);
        assert_eq!(find(&["--outcome", "invalid_credentials"], &|row| row["outcome"] == "invalid_credentials"), 2);
        assert_eq!(find(&["--source", "127.7.0.9"], &|row| row["source"] == "127.7.0.9"), 2);
        assert_eq!(find(&["--name", "BOB"], &|row| row["name"] == "bob"), 1);
        assert_eq!(find(&["--action", "login"], &|row| row["action"] == "login"), 3);
        assert_eq!(find(&["--gate", "operator"], &|row| row["gate"] == "operator"), 2);
        assert_eq!(find(&["--client", "app"], &|row| row["client"] == "app"), 4);
        assert_eq!(find(&["--session", &session], &|row| row["session"] == *session), 1);
        assert_eq!(find(&["--account", "ann"], &|row| row["account"] == *account), 3);
        assert_eq!(find(&["--account", &account], &|row| row["account"] == *account), 3);
        assert_eq!(
            find(&["--account", "ann", "--outcome", "refused"], &|row| row["account"] == *account && row["outcome"] != "ok"),
            1
        );
        assert_eq!(find(&["--since", "1h"], &|_| true), all.len());
        assert_eq!(find(&["--until", "1h"], &|_| false), 0);
        let third = all[2]["at"].as_str().expect("a moment");
        find(&["--since", third], &|row| moment(row) >= moment(&all[2]));
        find(&["--until", third], &|row| moment(row) < moment(&all[2]));
        assert_eq!(numbers(&lines(home, &["audit", "show", "-n", "2"])), [1, 2]);
        assert_eq!(numbers(&lines(home, &["audit", "tail", "-n", "2"])).last(), Some(&(all.len() as u64)));
        assert_eq!(lines(home, &["audit", "tail", "-n", "0"]), Vec::<Value>::new());
        assert_eq!(home.operator(&["audit", "show", "2", "--json"], "").json(), all[1]);
        for (arguments, what) in [
            (&["audit", "show", "999"][..], "there is no such line"),
            (&["audit", "show", "--account", "nobody"], "there is no such user"),
            (&["audit", "show", "--session", "x"], "not the id of a session"),
        ] {
            let complaint = home.operator(arguments, "").complaint();
            assert!(complaint.contains(what), "{arguments:?} -> {complaint}");
        }
        assert_eq!(home.operator(&["audit", "show", "--since", "soon"], "").code, Some(2));
    };
    check(&server);
    server.terminate();
    check(&server);
    server.operator(&["user", "remove", "ann"], "").ok();
    assert_eq!(lines(&server, &["audit", "show", "--account", &account]).len(), 4, "the lines of who is gone are found by the id");
}

#[test]
fn only_what_is_looked_for_is_followed() {
    let server = Server::with_ann(CHEAP);
    let mut command = server.command();
    command.args(["audit", "tail", "--follow", "--json", "-n", "0", "--outcome", "refused", "--action", "login"]);
    let mut following = command.stdout(Stdio::piped()).spawn().expect("the binary runs");
    let mut told = BufReader::new(following.stdout.take().expect("it is piped")).lines();
    // It begins to follow at some moment that cannot be seen, so there is more than one.
    let (mut peer, mut found) = (server.connect_from(9), Vec::new());
    std::thread::scope(|scope| {
        let reading = scope.spawn(|| {
            let lines = told.by_ref().take(2).map(|line| serde_json::from_str::<Value>(&line.expect("text")).expect("JSON"));
            found.extend(lines);
        });
        for _ in 0..200 {
            if reading.is_finished() {
                break;
            }
            peer.login("ann", PASSWORD);
            peer.login("nobody", "a guess");
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
    });
    following.kill().ok();
    following.wait().ok();
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found.iter().all(|row| row["action"] == "login" && row["outcome"] != "ok"), "{found:?}");
    assert!(found[0]["number"].as_u64() < found[1]["number"].as_u64(), "{found:?}");
}

#[test]
fn a_long_audit_is_looked_through_piece_by_piece() {
    let home = Home::with_ann(CHEAP);
    let database = Connection::open(home.data().join("gatepost.db")).expect("the database opens");
    let copy = "WITH RECURSIVE n(i) AS (SELECT 3 UNION ALL SELECT i + 1 FROM n WHERE i < 25000) \
                INSERT INTO audit (number, node, at, action, outcome, gate, account, client, session, count, previous, hash) \
                SELECT i, node, at + i, action, outcome, gate, NULL, client, session, count, previous, hash \
                FROM n JOIN audit ON number = 1";
    database.execute_batch(copy).expect("it is written");
    for number in [3, 12_345, 25_000] {
        database.execute("INSERT INTO audit_names VALUES (?1, 'rare', NULL)", [number]).expect("it is written");
    }
    drop(database);
    let server = Server::of(home);
    assert_eq!(numbers(&lines(&server, &["audit", "show", "--name", "rare"])), [3, 12_345, 25_000]);
    assert_eq!(numbers(&lines(&server, &["audit", "tail", "--name", "rare", "-n", "2"])), [12_345, 25_000]);
    assert_eq!(lines(&server, &["audit", "show"]).len(), 25_000);
    let tail = numbers(&lines(&server, &["audit", "tail", "-n", "2500"]));
    assert_eq!((tail.len(), tail[0], tail[2499]), (2500, 22_501, 25_000));
}

#[test]
fn sessions_are_filtered_paged_shown_and_ended() {
    let mut server = Server::with_ann(CHEAP);
    server.add_user("bob", &[]);
    let mut peers: Vec<_> = (0..6_u16).map(|number| server.connect_from(number % 3 + 1)).collect();
    for (number, peer) in peers.iter_mut().enumerate() {
        peer.login(if number % 2 == 0 { "ann" } else { "bob" }, PASSWORD).granted();
    }
    let all = server.sessions();
    let ids = |arguments: &[&str]| -> Vec<Value> {
        let rows = server.operator(&[&["session", "list", "--json"], arguments].concat(), "").json();
        rows.as_array().expect("rows").iter().map(|row| row["id"].clone()).collect()
    };
    let expected = |wanted: &dyn Fn(&Value) -> bool| -> Vec<Value> {
        all.iter().filter(|row| wanted(row)).map(|row| row["id"].clone()).collect()
    };
    assert_eq!((all.len(), ids(&[])), (6, expected(&|_| true)));
    assert_eq!(ids(&["--user", "ann"]), expected(&|row| row["user"] == "ann"));
    assert_eq!(ids(&["--source", "127.7.0.2"]), expected(&|row| row["source"] == "127.7.0.2"));
    assert_eq!(
        ids(&["--source", "127.7.0.2", "--user", "bob"]),
        expected(&|row| row["source"] == "127.7.0.2" && row["user"] == "bob")
    );
    assert_eq!((ids(&["--gate", "zenith"]).len(), ids(&["--gate", "trueconf"]).len()), (6, 0));
    assert_eq!((ids(&["--client", "app"]).len(), ids(&["--client", "other"]).len()), (6, 0));
    assert_eq!(ids(&["-n", "2"]), expected(&|_| true)[..2]);
    assert_eq!(ids(&["-n", "2", "--after", all[1]["id"].as_str().unwrap()]), expected(&|_| true)[2..4]);

    let id = all[0]["id"].as_str().expect("an id");
    let shown = server.operator(&["session", "show", id, "--json"], "").json();
    // Two that began within one millisecond may stand in either order, so the list says whose the first is.
    assert_eq!((&shown["user"], &shown["connections"], &shown["ended_at"]), (&all[0]["user"], &Value::from(1), &Value::Null));
    server.operator(&["session", "end", id], "").ok();
    let shown = server.operator(&["session", "show", id, "--json"], "").json();
    assert!(shown["ended_at"].is_string() && shown["ended_for"].is_string(), "{shown}");
    assert_eq!(server.sessions().len(), 5);
    let nothing = server.operator(&["session", "show", "01890000-0000-7000-8000-000000000000"], "").complaint();
    assert!(nothing.contains("there is no such session"), "{nothing}");
    server.terminate();
    let without = server.operator(&["session", "show", id, "--json"], "").json();
    assert_eq!(without["ended_at"], shown["ended_at"], "the same without a server");
}

#[test]
fn long_work_says_how_far_it_has_come() {
    let home = Home::with_ann(CHEAP);
    let database = Connection::open(home.data().join("gatepost.db")).expect("the database opens");
    // So many that looking at them takes longer than a second on any machine.
    let copy = "WITH RECURSIVE n(i) AS (SELECT 3 UNION ALL SELECT i + 1 FROM n WHERE i < 400000) \
                INSERT INTO audit (number, node, at, action, outcome, gate, account, client, session, count, previous, hash) \
                SELECT i, node, at, action, outcome, gate, NULL, client, session, count, previous, hash \
                FROM n JOIN audit ON number = 1";
    database.execute_batch(copy).expect("it is written");
    drop(database);
    let server = Server::of(home);
    let output = server.operator(&["audit", "show", "--name", "nobody"], "");
    assert_eq!((output.code, output.out.as_str()), (Some(0), ""));
    assert!(output.err.starts_with("looked at ") && output.err.contains("lines of the audit"), "{:?}", output.err);
    let short = server.operator(&["audit", "tail"], "");
    assert_eq!(short.err, "", "what is done at once says nothing");
}

#[test]
fn completions_and_manual_pages_know_every_command() {
    let home = Home::new(CHEAP);
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = home.operator(&["completions", shell], "").ok();
        for word in ["doctor", "session", "set-password", "min-free"] {
            assert!(script.contains(word), "{shell} does not know {word}");
        }
    }
    assert_eq!(home.operator(&["completions", "tcsh"], "").code, Some(2));
    let pages = home.file("man/man1");
    home.operator(&["man", pages.to_str().unwrap()], "").ok();
    for (page, word) in [("gatepost.1", "doctor"), ("gatepost-doctor.1", "min"), ("gatepost-audit-tail.1", "outcome")] {
        let text = std::fs::read_to_string(pages.join(page)).unwrap_or_else(|error| panic!("{page}: {error}"));
        assert!(text.starts_with(".ie") && text.contains(word), "{page}");
    }
    // Neither needs settings that can be used.
    std::fs::write(home.settings(), "nonsense").expect("a file");
    let script = home.operator(&["completions", "bash"], "").ok();
    std::fs::write(home.file("completions"), script).expect("a file");
    let read = std::process::Command::new("bash").arg("-n").arg(home.file("completions")).status();
    // Where there is no bash, nobody completes with it.
    assert!(read.map_or(true, |status| status.success()), "bash reads its script");
    let refused = home.file("completions");
    assert!(
        home.operator(&["man", refused.join("x").to_str().unwrap()], "").complaint().contains("completions"),
        "a file is no directory"
    );
}
