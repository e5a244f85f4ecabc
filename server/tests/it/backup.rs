//! Backups of the real server: made while logins come in, put back, and killed in the middle of either; and a killed migration.
//!
//! A kill comes once it can be seen from outside that the step has come far enough, at another place each time. How often that was
//! inside the step is counted and printed, since a kill that comes too late shows nothing.

use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use gatepost_identity::clock::system_instant;
use rusqlite::Connection;
use serde_json::Value;

use crate::harness::{CHEAP, Home, LIMIT, PASSWORD, Server, until};
use crate::peer::{Peer, http};

/// Users who log in while a backup is made.
const LOAD: usize = 3;
/// Accounts beside `ann`, where the length of a step matters.
const CROWD: u32 = 100_000;

/// How often each step is killed; the long form says a larger number.
fn rounds() -> u64 {
    std::env::var("KILL_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(3)
}

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

/// Adds accounts like `pattern`, without a password and under other names, by the database itself.
fn fill(database: &Path, pattern: &str) {
    let connection = Connection::open(database).expect("the database");
    let columns = |of: &str| {
        let mut statement = connection.prepare("SELECT name FROM pragma_table_info('accounts')").expect("the columns");
        let names = statement.query_map([], |row| row.get::<_, String>(0)).expect("the columns");
        let names: Vec<String> = names.map(|name| name.expect("a name")).collect();
        let one = |name: String| match (of, name.as_str()) {
            ("", _) => name,
            (_, "id") => "randomblob(16)".to_owned(),
            (_, "subject") | (_, "name") => format!("'crowd-' || n || '-of-the-{name}'"),
            (_, "email") | (_, "password") => "NULL".to_owned(),
            _ => name,
        };
        names.into_iter().map(one).collect::<Vec<_>>().join(", ")
    };
    let sql = format!(
        "BEGIN; INSERT INTO accounts ({}) WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < {CROWD}) \
         SELECT {} FROM numbers, accounts WHERE name = '{pattern}'; \
         INSERT OR IGNORE INTO account_names (key, account, kind) SELECT lower(name), id, 'name' FROM accounts; COMMIT; \
         PRAGMA wal_checkpoint(TRUNCATE);",
        columns(""),
        columns("new"),
    );
    connection.execute_batch(&sql).expect("they are added");
}

/// Runs a command until `far_enough`, and kills it then. Answers whether it was killed before it had come to its end.
fn killed(mut command: Command, mut far_enough: impl FnMut() -> bool) -> bool {
    let spawned = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    let mut child = spawned.expect("the binary runs");
    let end = system_instant() + LIMIT;
    loop {
        if child.try_wait().expect("its status").is_some() {
            return false;
        }
        if far_enough() {
            child.kill().ok();
            return child.wait().expect("its status").signal() == Some(9);
        }
        assert!(system_instant() < end, "it does not come far enough");
        std::thread::yield_now();
    }
}

fn length(path: &Path) -> u64 {
    std::fs::metadata(path).map_or(0, |metadata| metadata.len())
}

#[expect(clippy::print_stderr, reason = "whoever runs this wants to know how often the kill came in time")]
fn counted(what: &str, inside: u64) {
    let rounds = rounds();
    eprintln!("{what}: {inside} of {rounds} kills came inside the step");
    assert!(inside * 4 >= rounds * 3 || inside + 1 >= rounds, "{what}: {inside} of {rounds} is too few to show anything");
}

fn command(home: &Home, arguments: &[&str]) -> Command {
    let mut command = home.command();
    command.args(arguments);
    command
}

fn facts(home: &Home, arguments: &[&str]) -> Value {
    home.operator(&[arguments, &["--json"]].concat(), "").json()
}

/// What a backup says of itself when it is read.
fn verified(home: &Home, file: &Path) -> Value {
    facts(home, &["verify-backup", text(file)])
}

#[test]
fn a_backup_made_while_logins_come_in_is_restored_and_nobody_is_logged_in_by_it() {
    let home = Home::with_ann(&format!(
        "{CHEAP}[throttle]\ntoken_free = 100000\n[servicestack]\nclient = 'app'\nproviders = ['credentials', 'jwt']\n"
    ));
    home.add_copies("ann", (0..LOAD).map(|number| format!("load-{number}")));
    let mut server = Server::of(home);
    let file = server.file("backup.db");
    let (told, done) = (Mutex::new(Vec::<String>::new()), AtomicBool::new(false));
    let address = server.http();
    let mut before = 0;
    std::thread::scope(|scope| {
        for number in 0..LOAD {
            let (told, done) = (&told, &done);
            scope.spawn(move || {
                while !done.load(Ordering::Acquire) {
                    let token = Peer::connect(address, 0).login(&format!("load-{number}"), PASSWORD).token();
                    told.lock().unwrap().push(token);
                }
            });
        }
        until("logins come in", || told.lock().unwrap().len() > 4 * LOAD);
        before = told.lock().unwrap().len();
        let made = facts(&server, &["backup", text(&file)]);
        assert!(
            made["sessions"].as_u64().unwrap() >= before as u64,
            "{made}: what was told before is in it, and there were {before}"
        );
        until("logins go on", || told.lock().unwrap().len() > before + 4 * LOAD);
        done.store(true, Ordering::Release);
    });
    assert!(server.audit().iter().any(|row| row["action"] == "backup" && row["name"] == text(&file)));
    let contents = verified(&server, &file);
    assert_eq!(contents["accounts"], 1 + LOAD as u64);

    // A token that is signed after the backup, and a password and a user that are younger than it.
    let body = format!(r#"{{"provider":"credentials","userName":"ann","password":"{PASSWORD}"}}"#);
    let login = format!(
        "POST /auth HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nAccept: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let answer = http(address, 0, &login);
    let cookies: Vec<&str> = answer
        .head
        .lines()
        .filter_map(|line| line.split_once(": "))
        .filter(|(name, _)| name.eq_ignore_ascii_case("set-cookie"))
        .map(|(_, value)| value)
        .collect();
    let bearer = cookies.iter().find_map(|cookie| cookie.strip_prefix("ss-tok=")?.split(';').next());
    let bearer = bearer.unwrap_or_else(|| panic!("{answer:?}")).to_owned();
    let ask = |address| {
        http(
            address,
            0,
            &format!("GET /auth HTTP/1.1\r\nHost: x\r\nAccept: application/json\r\nAuthorization: Bearer {bearer}\r\n\r\n"),
        )
    };
    assert_eq!(ask(address).status, 200, "{:?}", ask(address));
    server.operator(&["user", "set-password", "ann"], "another password").ok();
    server.add_user("newcomer", &[]);

    let refused = server.operator(&["restore", text(&file)], "").complaint();
    assert!(refused.contains("is in use by process"), "{refused}");
    server.terminate();
    let restored = server.operator(&["restore", text(&file), "--json"], "");
    assert!(restored.err.contains("all sessions and tokens have ended"), "{restored:?}");
    let restored = restored.json();
    assert_eq!(restored["sessions_ended"], contents["sessions"]);
    assert_eq!(
        (&restored["older_passwords"], &restored["users_lost"], &restored["users_returned"]),
        (&1.into(), &1.into(), &0.into())
    );
    server.restart();
    let mut peer = server.connect();
    for token in told.into_inner().unwrap() {
        peer.restore(&token).rejected();
    }
    assert_eq!(ask(server.http()).status, 401, "a token that was signed after the backup");
    assert!(server.sessions().is_empty());
    for number in 0..LOAD {
        peer.login(&format!("load-{number}"), PASSWORD).granted();
    }
    peer.login("ann", PASSWORD).granted();
    let line = server.audit().into_iter().find(|row| row["action"] == "backup_restore").expect("it is in the audit");
    assert_eq!((&line["count"], &line["name"]), (&contents["sessions"], &text(&file).into()));
}

#[test]
fn what_is_no_whole_backup_is_named_and_changes_nothing() {
    let home = Home::with_ann(CHEAP);
    let (file, cut) = (home.file("backup.db"), home.file("cut.db"));
    home.operator(&["backup", text(&file)], "").ok();
    let there = home.operator(&["backup", text(&file)], "").complaint();
    assert!(there.contains("is there already; with --overwrite"), "{there}");
    home.operator(&["backup", text(&file), "--overwrite"], "").ok();
    let whole = std::fs::read(&file).unwrap();
    let database = std::fs::read(home.data().join("gatepost.db")).unwrap();
    for at in [0, 15, 16, 99, 100, 4095, 4096, whole.len() / 2, whole.len() - 1] {
        std::fs::write(&cut, &whole[..at]).unwrap();
        for command in ["verify-backup", "restore"] {
            let complaint = home.operator(&[command, text(&cut)], "").complaint();
            assert!(
                complaint.starts_with(&format!("{} is not a usable backup: it is cut", text(&cut))),
                "{command} at {at}: {complaint}"
            );
        }
    }
    assert_eq!(std::fs::read(home.data().join("gatepost.db")).unwrap(), database);
    let missing = home.operator(&["restore", "no-such-file"], "").complaint();
    assert!(missing.contains("no-such-file: No such file"), "{missing}");
    let inside = home.operator(&["backup", "data/backup.db"], "").complaint();
    assert!(inside.contains("is in the data directory"), "{inside}");
}

#[test]
fn a_backup_that_is_killed_leaves_the_one_before_or_the_new_one() {
    let home = Home::with_ann(CHEAP);
    fill(&home.data().join("gatepost.db"), "ann");
    let server = Server::of(home);
    let file = server.file("backup.db");
    server.operator(&["backup", text(&file)], "").ok();
    let partial = PathBuf::from(format!("{}.partial", text(&file)));
    let (before, expected) = (verified(&server, &file), length(&file));
    let mut inside = 0;
    for round in 0..rounds() {
        server.connect().login("ann", PASSWORD).granted();
        let begun = command(&server, &["backup", "--overwrite", text(&file)]);
        inside += u64::from(killed(begun, || length(&partial) > expected * round / rounds()));
        let found = verified(&server, &file);
        assert!(found["sessions"].as_u64() >= before["sessions"].as_u64(), "{found}");
        server.connect().login("ann", PASSWORD).granted();
    }
    counted("backup", inside);
    server.operator(&["backup", "--overwrite", text(&file)], "").ok();
    assert!(!partial.exists(), "what was left behind is gone");
}

#[test]
fn a_restore_that_is_killed_leaves_the_old_state_or_the_new_one() {
    let home = Home::with_ann(CHEAP);
    fill(&home.data().join("gatepost.db"), "ann");
    let (file, database) = (home.file("backup.db"), home.data().join("gatepost.db"));
    home.operator(&["backup", text(&file)], "").ok();
    let (mut inside, expected) = (0, length(&file));
    for round in 0..rounds() {
        // Somebody who is in the old state only, with a session.
        let name = format!("younger-{round}");
        home.add_user(&name, &[]);
        let mut server = Server::of(home.shared());
        let token = server.connect().login(&name, PASSWORD).token();
        server.terminate();
        let staged = home.data().join("gatepost.db.restoring");
        let journal = home.data().join("gatepost.db.restoring-journal");
        let begun = command(&home, &["restore", text(&file)]);
        // While it is copied, while it is made ready, and once that is done.
        let mut was_made_ready = false;
        let far_enough = || {
            was_made_ready |= length(&journal) > 0;
            match round % 3 {
                0 => length(&staged) > expected / 2,
                1 => was_made_ready,
                _ => was_made_ready && length(&journal) == 0,
            }
        };
        inside += u64::from(killed(begun, far_enough));
        let found = Connection::open(&database).expect("it opens");
        let whole: String = found.query_row("PRAGMA integrity_check", [], |row| row.get(0)).expect("it is read");
        assert_eq!(whole, "ok", "round {round}");
        drop(found);
        let is_old = home.operator(&["user", "show", &name], "").code == Some(0);
        server.restart();
        let answer = server.connect().restore(&token);
        if is_old {
            answer.granted();
        } else {
            answer.rejected();
        }
        server.terminate();
        assert!(!staged.exists(), "what was left behind is gone");
        home.operator(&["restore", text(&file)], "").ok();
        server.restart();
        server.connect().restore(&token).rejected();
        server.connect().login("ann", PASSWORD).granted();
        server.terminate();
    }
    counted("restore", inside);
}

#[test]
fn a_migration_that_is_killed_is_gone_on_with() {
    let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("../store/tests/schemas/0001.db");
    let mut inside = 0;
    for round in 0..rounds() {
        let home = Home::new(CHEAP);
        let database = home.data().join("gatepost.db");
        std::fs::copy(&kept, &database).expect("the kept file");
        fill(&database, "SHODAN");
        let version = || -> u32 {
            let connection = Connection::open(&database).expect("it opens");
            let whole: String = connection.query_row("PRAGMA integrity_check", [], |row| row.get(0)).expect("it is read");
            assert_eq!(whole, "ok", "round {round}");
            connection.pragma_query_value(None, "user_version", |row| row.get(0)).expect("a number")
        };
        assert_eq!(version(), 1);
        // What is written of the migrations, a commit of about a dozen pages each, is seen in the write-ahead log.
        let log = home.data().join("gatepost.db-wal");
        let begun = command(&home, &["user", "show", "shodan"]);
        let was_killed = killed(begun, || length(&log) > 60_000 * round / rounds());
        let found = version();
        let shown = facts(&home, &["user", "show", "shodan"]);
        assert_eq!(shown["email"], "shodan@citadel.example");
        inside += u64::from(was_killed && found < version());
    }
    counted("migration", inside);
}
