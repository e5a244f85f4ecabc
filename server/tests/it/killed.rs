//! Kills in the middle of a backup, a restore, an import and a migration, with a hundred thousand accounts (X10).
//!
//! A kill comes once it can be seen from outside that the step has come far enough, at another place each time. How often that was
//! inside the step is counted and printed, since a kill that comes too late shows nothing. Afterwards the database opens, the old or
//! the new state stands there, and who was told a token or a cookie comes back with it.

use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use gatepost_identity::clock::system_instant;
use rusqlite::Connection;
use serde_json::json;

use crate::backup::{facts, text, verified};
use crate::harness::{CHEAP, Home, LIMIT, PASSWORD, Server};
use crate::held::{APP, Held, sign_in};
use crate::moving::counts;

/// Accounts beside `ann`.
const CROWD: u64 = 100_000;

/// How often each step is killed; the long form says a larger number.
fn rounds() -> u64 {
    std::env::var("KILL_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(3)
}

fn home() -> Home {
    Home::with_ann(&format!("{CHEAP}{APP}[throttle]\ntoken_free = 1000\n"))
}

fn database(home: &Home) -> PathBuf {
    home.data().join("gatepost.db")
}

/// Adds accounts like `pattern`, without a password and under other names, by the database itself.
fn fill(database: &Path, pattern: &str) {
    let connection = Connection::open(database).expect("the database");
    let columns = |of: &str| {
        let one = |name: String| match (of, name.as_str()) {
            ("", _) => name,
            (_, "id") => "randomblob(16)".to_owned(),
            (_, "subject") | (_, "name") => format!("'crowd-' || n || '-of-the-{name}'"),
            (_, "email") | (_, "password") => "NULL".to_owned(),
            _ => name,
        };
        columns(&connection, "accounts").into_iter().map(one).collect::<Vec<_>>().join(", ")
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

fn columns(connection: &Connection, table: &str) -> Vec<String> {
    let mut statement = connection.prepare("SELECT name FROM pragma_table_info(?1)").expect("the columns");
    let names = statement.query_map([table], |row| row.get(0)).expect("the columns");
    names.map(|name| name.expect("a name")).collect()
}

/// Sees that a database opens and is whole.
fn opens(database: &Path, what: &str) -> Connection {
    let connection = Connection::open(database).expect("it opens");
    let whole: String = connection.query_row("PRAGMA integrity_check", [], |row| row.get(0)).expect("it is read");
    assert_eq!(whole, "ok", "{what}");
    connection
}

/// How many accounts a database has that is at rest or at work.
fn accounts(database: &Path) -> u64 {
    let connection = Connection::open(database).expect("it opens");
    connection.busy_timeout(LIMIT).expect("it waits");
    connection.query_row("SELECT count(*) FROM accounts", [], |row| row.get::<_, i64>(0)).expect("a number").unsigned_abs()
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

/// A token of the Zenith gate and a cookie of the ServiceStack gate, as this user is told them.
fn told(server: &Server, name: &str) -> [Held; 2] {
    let token = Held::Token(server.connect().login(name, PASSWORD).token());
    let [cookie, _] = sign_in(server.http(), name, PASSWORD).expect("an answer").expect("the password is right");
    [token, cookie]
}

/// Whether all of this leads back in, or nothing of it.
#[track_caller]
fn stand(server: &Server, held: &[Held], expected: bool) {
    for held in held {
        assert_eq!(held.stands(server.http()), expected, "{held:?}");
    }
}

#[test]
fn a_backup_that_is_killed_leaves_the_one_before_or_the_new_one() {
    let home = home();
    fill(&database(&home), "ann");
    let mut server = Server::of(home);
    let file = server.file("backup.db");
    server.operator(&["backup", text(&file)], "").ok();
    let partial = PathBuf::from(format!("{}.partial", text(&file)));
    let (before, expected) = (verified(&server, &file), length(&file));
    let (mut inside, mut held) = (0, Vec::new());
    for round in 0..rounds() {
        held.extend(told(&server, "ann"));
        let begun = command(&server, &["backup", "--overwrite", text(&file)]);
        inside += u64::from(killed(begun, || length(&partial) > expected * round / rounds()));
        // The server beside it goes on, or went down with it.
        if round % 2 == 1 {
            server.kill9();
            server.restart();
        }
        let found = verified(&server, &file);
        assert!(found["sessions"].as_u64() >= before["sessions"].as_u64() && found["accounts"] == CROWD + 1, "{found}");
        stand(&server, &held, true);
    }
    counted("backup", inside);
    server.operator(&["backup", "--overwrite", text(&file)], "").ok();
    assert!(!partial.exists(), "what was left behind is gone");
    server.kill9();
    opens(&database(&server), "after all of it");
}

/// X8: once it is done, nothing that was told leads back in.
#[test]
fn a_restore_that_is_killed_leaves_the_old_state_or_the_new_one() {
    let home = home();
    fill(&database(&home), "ann");
    let file = home.file("backup.db");
    let backup = facts(&home, &["backup", text(&file)]);
    assert_eq!(backup["accounts"], CROWD + 1);
    let (mut inside, expected) = (0, length(&file));
    for round in 0..rounds() {
        // Somebody who is in the old state only, with sessions.
        let name = format!("younger-{round}");
        home.add_user(&name, &[]);
        let mut server = Server::of(home.shared());
        let held = told(&server, &name);
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
        drop(opens(&database(&home), &format!("round {round}")));
        let is_old = home.operator(&["user", "show", &name], "").code == Some(0);
        assert_eq!(accounts(&database(&home)), CROWD + 1 + u64::from(is_old));
        server.restart();
        stand(&server, &held, is_old);
        server.terminate();
        assert!(!staged.exists(), "what was left behind is gone");
        home.operator(&["restore", text(&file)], "").ok();
        server.restart();
        stand(&server, &held, false);
        server.connect().login("ann", PASSWORD).granted();
        server.terminate();
    }
    counted("restore", inside);
}

#[test]
fn an_import_of_a_hundred_thousand_that_is_killed_leaves_whole_rows_and_is_gone_on_with() {
    let mut server = Server::of(home());
    let hash = "$argon2i$v=19$m=256,t=2,p=1$c29tZXNhbHQ$iekCn0Y3spW+sCcFanM2xBT63UP2sghkUoHLIUpWRS8";
    let rows: Vec<String> = (0..CROWD)
        .map(|number| {
            let (name, email) = (format!("crowd-{number}"), format!("crowd-{number}@example.org"));
            let keys = json!([{ "hash": format!("{number:064x}"), "environment": "live", "kind": "secret" }]);
            json!({ "name": name, "email": email, "password_hash": hash, "roles": ["Editor"], "api_keys": keys }).to_string()
        })
        .collect();
    std::fs::write(server.file("users.jsonl"), rows.join("\n")).expect("a file");
    let database = database(&server);
    let (mut inside, mut held) = (0, Vec::new());
    // Each round goes on after the one before, and is killed further on; the last run has nobody to kill it.
    for round in 0..rounds() {
        let what = format!("round {round}");
        held.extend(told(&server, "ann"));
        let (before, aim) = (accounts(&database), 1 + CROWD * (round + 1) / (rounds() + 1));
        let alone = round % 3 == 2;
        if alone {
            server.terminate();
        }
        let home = server.shared();
        let mut down = alone;
        let far_enough = || {
            let far = accounts(&database) >= aim;
            // The server that takes the rows goes down with the command that brings them.
            if far && round % 3 == 1 {
                server.kill9();
                down = true;
            }
            far
        };
        let was_killed = killed(command(&home, &["import", "users", "users.jsonl"]), far_enough);
        if down {
            drop(opens(&database, &what));
            server.restart();
        }
        let found = accounts(&database);
        assert!(before <= found, "{what}: there were {before}, and now {found}");
        inside += u64::from(was_killed && before < found && found <= CROWD);
        whole(&database, &what);
        stand(&server, &held, true);
    }
    counted("import", inside);
    let report = facts(&server, &["import", "users", "users.jsonl"]);
    let (taken, known, left) = counts(&report);
    assert!(taken + known == CROWD && known > 0 && left == 0, "{report}");
    assert_eq!(whole(&database, "at the end"), CROWD);
    server.connect().login("crowd-99999", "password").granted();
    stand(&server, &held, true);
    server.kill9();
    opens(&database, "at the end");
}

/// Sees that nobody is there by half, and answers how many there are: each with both names, the role and the key.
fn whole(database: &Path, what: &str) -> u64 {
    let connection = Connection::open(database).expect("it opens");
    connection.busy_timeout(LIMIT).expect("it waits");
    let sql = "SELECT count(*), (SELECT count(*) FROM account_names WHERE key GLOB 'crowd-*'), (SELECT count(*) FROM api_keys), \
               sum(roles = '[\"Editor\"]') FROM accounts WHERE name GLOB 'crowd-*'";
    let row = |row: &rusqlite::Row<'_>| -> rusqlite::Result<[Option<i64>; 4]> {
        Ok([row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?])
    };
    let [all, names, keys, roles] = connection.query_row(sql, [], row).expect("numbers").map(Option::unwrap_or_default);
    assert_eq!((names, keys, roles), (2 * all, all, all), "{what}: of {all}, somebody stands there by half");
    all.unsigned_abs()
}

/// Takes over who is in another database, and what they hold, into one of the first schema. Only the Zenith gate was there then.
fn carry(from: &Path, into: &Path) {
    let connection = Connection::open(into).expect("the kept file");
    connection.execute("ATTACH ?1 AS present", [text(from)]).expect("the other one");
    for table in ["accounts", "account_names", "clients", "sessions", "tokens"] {
        let columns = columns(&connection, table).join(", ");
        let sql = format!("INSERT INTO main.{table} ({columns}) SELECT {columns} FROM present.{table}");
        connection.execute(&sql, []).unwrap_or_else(|error| panic!("{table}: {error}"));
    }
}

#[test]
fn a_migration_that_is_killed_is_gone_on_with() {
    let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("../store/tests/schemas/0001.db");
    let mut present = Server::of(home());
    let held: Vec<Held> = (0..5).map(|_| Held::Token(present.connect().login("ann", PASSWORD).token())).collect();
    present.terminate();
    let mut inside = 0;
    for round in 0..rounds() {
        let home = Home::new(CHEAP);
        let database = database(&home);
        std::fs::copy(&kept, &database).expect("the kept file");
        carry(&present.data().join("gatepost.db"), &database);
        fill(&database, "SHODAN");
        let version = || -> u32 {
            let connection = opens(&database, &format!("round {round}"));
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
        assert_eq!(accounts(&database), CROWD + 2);
        let server = Server::of(home);
        stand(&server, &held, true);
        server.connect().login("ann", PASSWORD).granted();
    }
    counted("migration", inside);
}
