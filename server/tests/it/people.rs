//! Whole populations that move: every form of hash by every gate, imports that are killed at any point, disks that fill and files
//! that are damaged. What stands in the database afterwards is looked at in the database itself.

use std::hash::{BuildHasher, RandomState};
use std::process::Stdio;
use std::time::Duration;

use gatepost_identity::clock::system_instant;
use rusqlite::{Connection, params};
use serde_json::{Value, json};

use crate::harness::{CHEAP, Home, PASSWORD, Server};
use crate::moving::{counts, over_http, users};
use crate::peer::http;

/// How a password begins that was hashed here, with the settings of these tests.
const OURS: &str = "$argon2id$v=19$m=64,t=1,p=1$";
const APP: &str = "[servicestack]\nclient = \"app\"\n";
const SCOPES: [&str; 4] = ["--scope", "Zenith/Market", "--scope", "Zenith/News"];

/// A password, and what stands in `Salt` and in `PasswordHash`.
type Kept = (&'static str, Option<&'static str>, &'static str);

/// The first eight are those by which Microsoft tests its own hasher, the ninth and the tenth are of ServiceStack's two hashers, and
/// the others are of libraries that an application may have put in their place.
const KEPT: [Kept; 19] = [
    ("my password", None, "AAABAgMEBQYHCAkKCwwNDg+ukCEMDf0yyQ29NYubggHIVY0sdEUfdyeM+E1LtH1uJg=="),
    ("my password", None, "AQAAAAAAAAD6AAAAEAhftMyfTJylOlZT+eEotFXd1elee8ih5WsjXaR3PA9M"),
    ("my password", None, "AQAAAAEAACcQAAAAEAABAgMEBQYHCAkKCwwNDg+yWU7rLgUwPZb1Itsmra7cbxw2EFpwpVFIEtP+JIuUEw=="),
    (
        "my password",
        None,
        "AQAAAAEAA9CQAAAAIESkQuj2Du8Y+kbc5lcN/W/3NiAZFEm11P27nrSN5/tId+bR1SwV8CO1Jd72r4C08OLvplNlCDc3oQZ8efcW+jQ=",
    ),
    ("my password", None, "AQAAAAIAAAAyAAAAEOMwvh3+FZxqkdMBz2ekgGhwQ4B6pZWND6zgESBuWiHw"),
    (
        "my password",
        None,
        concat!(
            "AQAAAAIAAAD6AAAAIJbVi5wbMR+htSfFp8fTw8N8GOS/Sje+S/4YZcgBfU7EQuqv4OkVYmc4VJl9AGZzmRTxSkP7LtVi9IWyUxX8",
            "IAAfZ8v+ZfhjCcudtC1YERSqE1OEdXLW9VukPuJWBBjLuw=="
        ),
    ),
    ("my password", None, "AQAAAAIAACcQAAAAEAABAgMEBQYHCAkKCwwNDg9B0Oxwty+PGIDSp95gcCfzeDvA4sGapUIUov8usXfD6A=="),
    ("my password", None, "AQAAAAIAAYagAAAAEAABAgMEBQYHCAkKCwwNDg/Q8A0WMKbtHQJQ2DHCdoEeeFBrgNlldq6vH4qX/CGqGQ=="),
    ("p@55w,rd:1", None, "AQAAAAEAACcQAAAAEAABAgMEBQYHCAkKCwwNDg8MEcVEKt4ecR/YF/mYINH8m8S+hLwpYRIKZm/NePKWvQ=="),
    ("p@55w,rd:1", Some("AQIDBA=="), "PgoZboViJJzz0pCK9ZVbUKnfYpIdXpOSZG7ugR9vR+Q="),
    ("abcdefghijklmnopqrstuvwxyz", None, "$2a$08$aTsUwsyowQuzRrDqFflhgekJ8d9/7Z3GV3UcgvzQW3J5zMyrTvlz."),
    ("password", None, "$argon2i$v=19$m=256,t=2,p=1$c29tZXNhbHQ$iekCn0Y3spW+sCcFanM2xBT63UP2sghkUoHLIUpWRS8"),
    ("password", None, "$pbkdf2$1212$OB.dtnSEXZK8U5cgxU/GYQ$y5LKPOplRmok7CZp/aqVDVg8zGI"),
    ("password", None, "$pbkdf2-sha256$1212$4vjV83LKPjQzk31VI4E0Vw$hsYF68OiOUPdDZ1Fg.fJPeq1h/gXXY7acBp9/6c.tmQ"),
    (
        "password",
        None,
        concat!(
            "$pbkdf2-sha512$1212$RHY0Fr3IDMSVO/RSZyb5ow$",
            "eNLfBK.eVozomMr.1gYa17k9B7KIK25NOEshvhrSX.esqY3s.FvWZViXz4KoLlQI.BzY/YTNJOiKc5gBYFYGww"
        ),
    ),
    ("password", None, "$scrypt$ln=16,r=8,p=1$aM15713r3Xsvxbi31lqr1Q$nFNh2CVHVjNldFVKDHDlm4CbdRSCdEBsjjJxD+iCs5E"),
    ("password", None, "$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4"),
    // Of PBKDF2 with SHA1, which passlib writes by its own name too.
    ("password", None, "$pbkdf2-sha1$1212$OB.dtnSEXZK8U5cgxU/GYQ$y5LKPOplRmok7CZp/aqVDVg8zGI"),
    ("a", None, "$2a$06$m0CrhHm10qJ3lXRY.5zDGO3rS2KdeeWLuGmsfGlMfOxih58VYVfxe"),
];

fn name(number: usize) -> String {
    format!("user{number}")
}

/// The tables as the framework makes them in SQLite.
const TABLES: &str = "
CREATE TABLE UserAuth (Id INTEGER PRIMARY KEY AUTOINCREMENT, UserName VARCHAR(8000), Email VARCHAR(8000), PrimaryEmail VARCHAR(8000),
    PhoneNumber VARCHAR(8000), FirstName VARCHAR(8000), LastName VARCHAR(8000), DisplayName VARCHAR(8000), Company VARCHAR(8000),
    BirthDate VARCHAR(8000), BirthDateRaw VARCHAR(8000), Address VARCHAR(8000), Address2 VARCHAR(8000), City VARCHAR(8000),
    State VARCHAR(8000), Country VARCHAR(8000), Culture VARCHAR(8000), FullName VARCHAR(8000), Gender VARCHAR(8000),
    Language VARCHAR(8000), MailAddress VARCHAR(8000), Nickname VARCHAR(8000), PostalCode VARCHAR(8000), TimeZone VARCHAR(8000),
    Salt VARCHAR(8000), PasswordHash VARCHAR(8000), DigestHa1Hash VARCHAR(8000), Roles VARCHAR(1000000),
    Permissions VARCHAR(1000000), CreatedDate VARCHAR(8000) NOT NULL, ModifiedDate VARCHAR(8000) NOT NULL,
    InvalidLoginAttempts INTEGER NOT NULL, LastLoginAttempt VARCHAR(8000), LockedDate VARCHAR(8000), RecoveryToken VARCHAR(8000),
    RefId INTEGER, RefIdStr VARCHAR(8000), Meta VARCHAR(1000000));
CREATE INDEX idx_userauth_username ON UserAuth (UserName);
CREATE INDEX idx_userauth_email ON UserAuth (Email);
CREATE TABLE UserAuthRole (Id INTEGER PRIMARY KEY AUTOINCREMENT, UserAuthId INTEGER NOT NULL, Role VARCHAR(8000),
    Permission VARCHAR(8000), CreatedDate VARCHAR(8000) NOT NULL, ModifiedDate VARCHAR(8000) NOT NULL, RefId INTEGER,
    RefIdStr VARCHAR(8000), Meta VARCHAR(1000000));
CREATE TABLE ApiKey (Id VARCHAR(8000) PRIMARY KEY, UserAuthId VARCHAR(8000), Environment VARCHAR(8000), KeyType VARCHAR(8000),
    CreatedDate VARCHAR(8000) NOT NULL, ExpiryDate VARCHAR(8000), CancelledDate VARCHAR(8000), Notes VARCHAR(8000), RefId INTEGER,
    RefIdStr VARCHAR(8000), Meta VARCHAR(1000000));";
const USER: &str = "INSERT INTO UserAuth (Id, UserName, Email, Salt, PasswordHash, Roles, Permissions, CreatedDate, ModifiedDate,
    InvalidLoginAttempts) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?8, 0)";
const ROLE: &str = "INSERT INTO UserAuthRole (UserAuthId, Role, Permission, CreatedDate, ModifiedDate) VALUES (?1, ?2, ?3, ?4, ?4)";
const KEY: &str = "INSERT INTO ApiKey (Id, UserAuthId, Environment, KeyType, CreatedDate) VALUES (?1, ?2, 'live', 'secret', ?3)";
const WHEN: &str = "2019-08-07 06:05:04.1234567";

/// An application's database in which every form of hash has a user. Every other one has roles and permissions in the user's own
/// row, the others in a table of their own.
fn application(home: &Home) {
    let database = Connection::open(home.file("app.sqlite")).expect("a database");
    database.execute_batch(TABLES).expect("tables");
    for (number, (_, salt, hash)) in KEPT.iter().enumerate() {
        let (id, email) = (number as i64 + 1, format!("user{number}@example.org"));
        let own = number % 2 == 0;
        let (roles, permissions) = if own { (Some("[Admin,Editor]"), Some("[print]")) } else { (None, Some("")) };
        database.execute(USER, params![id, name(number), email, salt, hash, roles, permissions, WHEN]).expect("a row");
        if !own {
            for (role, permission) in [(Some("Admin"), None), (Some("Editor"), None), (None, Some("print"))] {
                database.execute(ROLE, params![id, role, permission, WHEN]).expect("a row");
            }
        }
    }
}

/// Runs an import of a file; whether it went well, and the report.
fn import(home: &Home, kind: &str, file: &str) -> (bool, Value) {
    let scopes = if kind == "servicestack" { &SCOPES[..] } else { &[] };
    let output = home.operator(&[&["import", kind, file, "--json"], scopes].concat(), "");
    let report = serde_json::from_str(&output.out).unwrap_or_else(|error| panic!("{error}: {output:?}"));
    (output.code == Some(0), report)
}

fn export(home: &Home, file: &str) -> String {
    home.operator(&["export", "users", file], "").ok();
    std::fs::read_to_string(home.file(file)).expect("a file")
}

/// The database of the data directory, whoever else works in it.
fn database(home: &Home) -> Connection {
    let database = Connection::open(home.data().join("gatepost.db")).expect("a database");
    database.busy_timeout(Duration::from_secs(30)).expect("it waits");
    database
}

/// What stands in the row of a user in place of the password.
fn stored(home: &Home, name: &str) -> String {
    let sql = "SELECT password FROM accounts WHERE name = ?1";
    database(home).query_row(sql, [name], |row| row.get(0)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

#[derive(Clone, Copy, Debug)]
enum Gate {
    Zenith,
    ServiceStack,
}

impl Gate {
    /// Whether the login is granted, to somebody who comes from a source of their own: failures are counted by it.
    fn lets_in(self, server: &Server, name: &str, password: &str) -> bool {
        let source = u16::try_from(name.bytes().map(u32::from).sum::<u32>()).expect("a short name");
        match self {
            Gate::Zenith => server.connect_from(source).login(name, password).outcome() == "Success",
            Gate::ServiceStack => {
                let body = json!({ "UserName": name, "Password": password }).to_string();
                let request = format!(
                    "POST /auth/credentials HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
                     Connection: close\r\n\r\n{body}",
                    body.len()
                );
                http(server.http(), source, &request).status == 200
            }
        }
    }
}

#[test]
fn every_form_of_hash_logs_in_by_either_gate_and_the_second_time_by_an_argon2id_row() {
    for (first, second) in [(Gate::ServiceStack, Gate::Zenith), (Gate::Zenith, Gate::ServiceStack)] {
        let server = Server::with_ann(&format!("{CHEAP}{APP}"));
        application(&server);
        let (well, report) = import(&server, "servicestack", "app.sqlite");
        assert!(well && counts(&report) == (KEPT.len() as u64, 0, 0), "{report}");
        for user in users(&server).iter().filter(|user| user["name"] != "ann") {
            assert_eq!((&user["roles"], &user["permissions"]), (&json!(["Admin", "Editor"]), &json!(["print"])), "{user}");
        }
        for (number, (password, _, hash)) in KEPT.into_iter().enumerate() {
            let name = name(number);
            assert!(stored(&server, &name).ends_with(hash), "{name} has the hash that was brought");
            assert!(!first.lets_in(&server, &name, "wrong"), "{first:?}: {name}, {hash}");
            assert!(stored(&server, &name).ends_with(hash), "a wrong guess makes no hash");
            assert!(first.lets_in(&server, &name, password), "{first:?}: {name}, {hash}");
            let made = stored(&server, &name);
            assert!(made.starts_with(OURS), "{first:?}: {name}: {made}");
            assert!(second.lets_in(&server, &name, password), "{second:?}: {name}, {hash}");
            assert_eq!(stored(&server, &name), made, "{second:?}: {name} came by that row");
            assert!(!second.lets_in(&server, &name, "wrong"), "{second:?}: {name}");
        }
        let (well, report) = import(&server, "servicestack", "app.sqlite");
        assert!(well && counts(&report) == (0, KEPT.len() as u64, 0), "{report}");
        for (number, (password, ..)) in KEPT.into_iter().enumerate() {
            assert!(stored(&server, &name(number)).starts_with(OURS), "the second run brought an old hash back");
            assert!(first.lets_in(&server, &name(number), password));
        }
    }
}

#[test]
fn whoever_was_written_out_and_wiped_is_taken_in_again_and_logs_in() {
    let mut server = Server::with_ann(&format!("{CHEAP}{APP}"));
    application(&server);
    import(&server, "servicestack", "app.sqlite");
    // Some have a hash of ours by then.
    let logged_in = |number: usize| number.is_multiple_of(3);
    for (number, (password, ..)) in KEPT.into_iter().enumerate().filter(|(number, _)| logged_in(*number)) {
        assert!(Gate::Zenith.lets_in(&server, &name(number), password));
    }
    let out = export(&server, "out.jsonl");
    assert_eq!(out.lines().count(), KEPT.len() + 1);
    assert_eq!(out.matches(OURS).count(), 1 + (0..KEPT.len()).filter(|number| logged_in(*number)).count());

    server.terminate();
    std::fs::remove_dir_all(server.data()).expect("it is there");
    server.operator(&["client", "add", "app", "--scope", "Zenith/Market", "--scope", "Zenith/News"], "").ok();
    server.restart();
    assert!(!Gate::Zenith.lets_in(&server, "ann", PASSWORD), "nobody is left");
    let (well, report) = import(&server, "users", "out.jsonl");
    assert!(well && counts(&report) == (KEPT.len() as u64 + 1, 0, 0), "{report}");
    assert_eq!(export(&server, "again.jsonl"), out);
    assert!(Gate::Zenith.lets_in(&server, "ann", PASSWORD));
    for (number, (password, ..)) in KEPT.into_iter().enumerate() {
        for gate in [Gate::Zenith, Gate::ServiceStack] {
            assert!(gate.lets_in(&server, &name(number), password), "{gate:?}: {}", name(number));
        }
    }
}

/// How many have names that begin like this, and of how many nothing is missing: both names, the key, all roles.
fn standing(home: &Home, prefix: &str) -> (u64, u64) {
    let count = |row: &rusqlite::Row<'_>, column| row.get::<_, i64>(column).map(i64::unsigned_abs);
    let sql = "SELECT count(*), ifnull(sum((SELECT count(*) FROM account_names WHERE account = id) = 2
        AND (SELECT count(*) FROM api_keys WHERE account = id) = 1
        AND json_array_length(roles) = ?2 AND password IS NOT NULL), 0)
        FROM accounts WHERE name GLOB ?1 || '*'";
    database(home)
        .query_row(sql, params![prefix, ROLES as i64], |row| Ok((count(row, 0)?, count(row, 1)?)))
        .unwrap_or_else(|error| panic!("{prefix}: {error}"))
}

/// So many and so long roles that few rows make a batch.
const ROLES: usize = 24;
const HASH: &str = KEPT[11].2;

fn role(number: usize) -> String {
    format!("role{number}{}", "x".repeat(200))
}

/// A file of this kind with this many people, each with a key.
fn populate(home: &Home, kind: &str, file: &str, prefix: &str, many: usize) {
    let person = |number: usize| (format!("{prefix}{number}"), format!("{prefix}{number}@example.org"));
    let roles: Vec<String> = (0..ROLES).map(role).collect();
    if kind == "users" {
        let lines: Vec<String> = (0..many)
            .map(|number| {
                let (name, email) = person(number);
                // A number of its own for each key of each file.
                let key = format!("{:016x}{number:048x}", u64::from_be_bytes(*prefix.as_bytes().first_chunk().expect("8 letters")));
                let keys = json!([{ "hash": key, "environment": "live", "kind": "secret" }]);
                json!({ "name": name, "email": email, "roles": roles, "password_hash": HASH, "api_keys": keys }).to_string()
            })
            .collect();
        std::fs::write(home.file(file), lines.join("\n")).expect("a file");
        return;
    }
    let mut database = Connection::open(home.file(file)).expect("a database");
    database.execute_batch(TABLES).expect("tables");
    let all = database.transaction().expect("a transaction");
    let first: i64 = prefix[1..4].parse::<i64>().expect("a number") * 100_000;
    for number in 0..many {
        let ((name, email), id) = (person(number), first + number as i64);
        let (none, in_row) = (None::<&str>, format!("[{}]", roles.join(",")));
        all.execute(USER, params![id, name, email, none, HASH, in_row, none, WHEN]).expect("a row");
        all.execute(KEY, params![format!("the key of {name}, which is long"), id.to_string(), WHEN]).expect("a row");
    }
    all.commit().expect("it is written");
}

/// A number below this one, by chance.
fn below(bound: u64) -> u64 {
    RandomState::new().hash_one(()) % bound.max(1)
}

#[test]
fn an_import_that_is_killed_anywhere_leaves_whole_rows_and_a_second_run_completes_it() {
    const MANY: usize = 300;
    let server = Server::with_ann(CHEAP);
    let home = Home::with_ann(CHEAP);
    let mut took = [[Duration::ZERO; 2]; 2];
    let mut halfway = 0;
    // The first of each kind shows how long it takes; then twenty are killed within that time.
    for number in 0..24_usize {
        let (beside, kind) = (number % 2, ["users", "servicestack"][number / 2 % 2]);
        let home: &Home = if beside == 0 { &server } else { &home };
        let (file, prefix) = (format!("people{number}"), format!("p{number:03}abcd-"));
        populate(home, kind, &file, &prefix, MANY);
        let known = &mut took[beside][number / 2 % 2];
        if number < 4 {
            let began = system_instant();
            let (well, report) = import(home, kind, &file);
            *known = system_instant() - began;
            assert!(well && counts(&report) == (MANY as u64, 0, 0), "{report}");
            continue;
        }
        let after = Duration::from_micros(below(u64::try_from(known.as_micros()).expect("a short time")));
        let what = format!("{kind} {}, killed after {after:?} of {known:?}", if beside == 0 { "beside a server" } else { "alone" });
        let mut command = home.command();
        command.args(["import", kind, &file]).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().expect("the binary runs");
        std::thread::sleep(after);
        child.kill().expect("it can be killed, also when it has ended");
        child.wait().expect("its status");
        let (before, whole) = standing(home, &prefix);
        assert_eq!(before, whole, "{what}: half of somebody stands there");
        halfway += usize::from(0 < before && before < MANY as u64);
        let (well, report) = import(home, kind, &file);
        let (taken, known, left) = counts(&report);
        // What a server had been asked when the command died, it may have done since.
        assert!(well && taken + known == MANY as u64 && known >= before && left == 0, "{what}: {before}, then {report}");
        assert_eq!(standing(home, &prefix), (MANY as u64, MANY as u64), "{what}");
        if number < 8 {
            let (well, report) = import(home, kind, &file);
            assert!(well && counts(&report) == (0, MANY as u64, 0), "{what}: {report}");
        }
        if beside == 0 {
            assert!(Gate::Zenith.lets_in(&server, "ann", PASSWORD), "{what}");
        }
        std::fs::remove_file(home.file(&file)).expect("it is there");
    }
    assert!(halfway > 0, "none was killed between its batches");
}

#[test]
fn a_disk_that_fills_ends_the_import_with_a_clear_line_and_a_second_run_completes_it() {
    const MANY: usize = 1200;
    const FULL: &str = "trap '' XFSZ && ulimit -f 8192";
    let mut server = Server::limited(Home::with_ann(CHEAP), FULL);
    for kind in ["users", "servicestack"] {
        let prefix = if kind == "users" { "p001abcd-" } else { "p002abcd-" };
        populate(&server, kind, kind, prefix, MANY);
        let mut ann = server.connect();
        ann.login("ann", PASSWORD).granted();
        let output = server.operator(&["import", kind, kind], "");
        assert_eq!(output.code, Some(1), "{output:?}");
        let complaint = output.err.lines().last().unwrap_or_default();
        assert!(complaint.starts_with("gatepost: ") && complaint.contains("the same command goes on from there"), "{output:?}");
        let (before, whole) = standing(&server, prefix);
        assert!(before == whole && before < MANY as u64, "{before}, {whole}");
        assert!(output.out.contains(&format!("{before} taken")), "what is on disk is what was told: {before}, {output:?}");
        assert_eq!(ann.query().outcome(), "Success", "whoever is here stays");
        // There is room again.
        server.terminate();
        server.forget_limit();
        server.restart();
        let (well, report) = import(&server, kind, kind);
        let (taken, known, left) = counts(&report);
        assert!(well && (taken, known, left) == (MANY as u64 - before, before, 0), "{before}, then {report}");
        assert_eq!(standing(&server, prefix), (MANY as u64, MANY as u64));
        assert!(Gate::Zenith.lets_in(&server, "ann", PASSWORD));
        server.terminate();
        std::fs::remove_dir_all(server.data()).expect("it is there");
        server.operator(&["client", "add", "app", "--scope", "Zenith/Market", "--scope", "Zenith/News"], "").ok();
        server.add_user("ann", &[]);
        server.limit(FULL);
        server.restart();
    }
}

#[test]
fn of_a_database_that_is_damaged_in_the_middle_whole_rows_are_taken_and_the_rest_from_a_good_copy() {
    const MANY: usize = 1200;
    let server = Server::with_ann(CHEAP);
    populate(&server, "servicestack", "app.sqlite", "p001abcd-", MANY);
    let good = std::fs::read(server.file("app.sqlite")).expect("a file");
    std::fs::write(server.file("app.sqlite"), &good[..good.len() / 2]).expect("a file");
    let half = server.operator(&["import", "servicestack", "app.sqlite"], "");
    assert_eq!(half.code, Some(1), "{half:?}");
    assert!(half.err.lines().last().unwrap_or_default().starts_with("gatepost: "), "{half:?}");
    let mut damaged = good.clone();
    let middle = damaged.len() / 2 / 4096 * 4096;
    damaged[middle..middle + 64 * 4096].fill(0xa5);
    std::fs::write(server.file("app.sqlite"), &damaged).expect("a file");
    let spoilt = server.operator(&["import", "servicestack", "app.sqlite"], "");
    assert_eq!(spoilt.code, Some(1), "{spoilt:?}");
    assert!(spoilt.err.contains("malformed"), "{spoilt:?}");
    let (before, whole) = standing(&server, "p001abcd-");
    assert!(before == whole && before < MANY as u64, "{before}, {whole}");
    assert!(Gate::Zenith.lets_in(&server, "ann", PASSWORD));
    std::fs::write(server.file("app.sqlite"), &good).expect("a file");
    let (well, report) = import(&server, "servicestack", "app.sqlite");
    assert!(well && counts(&report) == (MANY as u64 - before, before, 0), "{report}");
    assert_eq!(standing(&server, "p001abcd-"), (MANY as u64, MANY as u64));
}

#[test]
fn tables_of_another_shape_are_told_so_or_read_for_what_they_have() {
    let server = Server::with_ann(CHEAP);
    let with = |sql: &str| {
        std::fs::remove_file(server.file("app.sqlite")).ok();
        Connection::open(server.file("app.sqlite")).expect("a database").execute_batch(sql).expect("tables");
        server.operator(&["import", "servicestack", "app.sqlite", "--json"], "")
    };
    let told = |sql: &str| serde_json::from_str::<Value>(&with(sql).out).expect("a report");
    let why = |report: &Value| report["left"][0]["why"].as_str().expect("a sentence").to_owned();

    let none = with("");
    assert!(none.err.contains("no table has the columns"), "{none:?}");
    let view =
        with("CREATE TABLE T (A, B, C, D); CREATE VIEW V AS SELECT A AS Id, B AS UserName, C AS PasswordHash, D AS Salt FROM T");
    assert!(view.err.contains("no table has the columns"), "{view:?}");
    // Nothing but what is needed, in another case and order, without types.
    let least = told("CREATE TABLE t (SALT, PASSWORDHASH, USERNAME, ID); INSERT INTO t VALUES (NULL, NULL, 'bob', 7)");
    assert_eq!(counts(&least), (1, 0, 0), "{least}");
    let columns = "CREATE TABLE T (Id, UserName, PasswordHash, Salt, Roles, CreatedDate, LockedDate)";
    for (row, said) in [
        ("NULL, 'cid', NULL, NULL, NULL, NULL, NULL", "no id"),
        ("18446744073709551616, 'cid', NULL, NULL, NULL, NULL, NULL", "64 bits"),
        ("1, NULL, NULL, NULL, NULL, NULL, NULL", "neither a user name nor an address"),
        ("1, x'636964', NULL, NULL, NULL, NULL, NULL", "UserName is no text"),
        ("1, CAST(x'63ff64' AS TEXT), NULL, NULL, NULL, NULL, NULL", "UserName is not UTF-8"),
        ("1, 'cid', 'hunter2', NULL, NULL, NULL, NULL", "the hash of the password"),
        ("1, 'cid', 'hunter2', 'AQIDBA==', NULL, NULL, NULL", "the hash of the password"),
        ("1, 'cid', x'00', NULL, NULL, NULL, NULL", "PasswordHash is no text"),
        ("1, 'cid', '$2a$31$aTsUwsyowQuzRrDqFflhgekJ8d9/7Z3GV3UcgvzQW3J5zMyrTvlz.', NULL, NULL, NULL, NULL", "bound"),
        ("1, 'cid', NULL, NULL, '{a', NULL, NULL", "Roles"),
        ("1, 'cid', NULL, NULL, printf('[%.1100000c]', 'x'), NULL, NULL", "more than 262144 bytes"),
    ] {
        let report = told(&format!("{columns}; INSERT INTO T VALUES ({row})"));
        assert_eq!(counts(&report), (0, 0, 1), "{row}: {report}");
        assert!(why(&report).contains(said) && !why(&report).contains("hunter2"), "{row}: {report}");
    }
    // Without numbered rows, among virtual tables in disguise, beside a copy that somebody has made: there is one table of users.
    let one = told(
        "CREATE TABLE UserAuth (Id TEXT PRIMARY KEY, UserName, PasswordHash, Salt) WITHOUT ROWID;
         INSERT INTO UserAuth VALUES ('c-1', 'cid', NULL, NULL);
         CREATE VIRTUAL TABLE F USING fts5(Id, UserName, PasswordHash, Salt);
         CREATE TABLE UserAuth_backup (Id, UserName, PasswordHash, Salt);
         CREATE TABLE D (UserAuthId, Provider, UserId); CREATE TABLE E (UserAuthId, Provider, UserId);",
    );
    assert_eq!(counts(&one), (1, 0, 0), "{one}");
    // What is only shown, or looked at by nobody who logs in, keeps nobody out.
    let shown = told(
        "CREATE TABLE T (Id, UserName, PasswordHash, Salt, DisplayName, Roles, CreatedDate);
         INSERT INTO T VALUES (-9223372036854775808, 'dan', NULL, NULL, 'Dan' || char(10) || 'D', '[Admin, Editor]', 1565157904);
         INSERT INTO T VALUES (21, 'eve', NULL, NULL, NULL, NULL, 2458702.75);
         INSERT INTO T VALUES (22, 'fay', NULL, NULL, NULL, NULL, ' 2019-08-07 06:05:04');
         INSERT INTO T VALUES (23, 'gil', NULL, NULL, NULL, NULL, 'yesterday');",
    );
    assert_eq!(counts(&shown), (4, 0, 0), "{shown}");
    let all = users(&server);
    let of = |name: &str| all.iter().find(|user| user["name"] == name).unwrap_or_else(|| panic!("{name}: {all:?}"));
    assert_eq!((&of("dan")["display_name"], &of("dan")["roles"]), (&json!("Dan D"), &json!(["Admin", "Editor"])));
    for (name, when) in [("dan", "2019-08-07T06:05:04Z"), ("eve", "2019-08-07T06:00:00Z"), ("fay", "2019-08-07T06:05:04Z")] {
        assert_eq!(of(name)["created_at"], when, "{name}");
    }
    assert!(Gate::Zenith.lets_in(&server, "ann", PASSWORD));
}

#[test]
fn what_could_be_guessed_is_no_api_key_and_what_belongs_to_nobody_is_told() {
    let server = Server::with_ann(&format!("{CHEAP}{APP}"));
    let key = "0123456789abcdefghijABCDEFGHIJ";
    Connection::open(server.file("app.sqlite"))
        .expect("a database")
        .execute_batch(&format!(
            "CREATE TABLE T (Id INTEGER PRIMARY KEY, UserName, PasswordHash, Salt, Roles);
             CREATE TABLE K (Id, UserAuthId, Environment, KeyType);
             CREATE TABLE R (UserAuthId, Role, Permission);
             INSERT INTO T VALUES (1, 'bob', NULL, NULL, '[Admin]');
             INSERT INTO K VALUES (1, 1, 'live', 'secret'), (-9223372036854775808, 1, 'live', 'secret'), ('k', '1', 'live', 'secret'),
                 ('{key}', '1', 'live', 'secret'), ('{key}-of-nobody', '7', 'live', 'secret');
             INSERT INTO R VALUES (8, 'Admin', NULL), (1, 'Editor', NULL);"
        ))
        .expect("tables");
    let bearer = |key: &str| over_http(&server, &format!("GET /auth HTTP/1.1\r\nAuthorization: Bearer {key}"), "");
    // Whoever has asked in vain is served as soon as the key is here.
    assert_eq!(bearer(key), 401);
    let output = server.operator(&["import", "servicestack", "app.sqlite"], "");
    assert_eq!((output.code, output.out.as_str()), (Some(0), "1 taken, 0 here already, 0 left\n"), "{output:?}");
    assert!(output.err.contains("3 rows of API keys hold no text") && output.err.contains("2 rows of rights"), "{output:?}");
    assert_eq!(bearer(key), 200);
    for wrong in ["1", "k", "-9223372036854775808"] {
        assert_eq!(bearer(wrong), 401, "{wrong}");
    }
    let keys = server.operator(&["apikey", "list", "bob", "--json"], "").json();
    assert_eq!(keys.as_array().map(Vec::len), Some(1), "{keys}");
}

#[test]
fn the_application_goes_on_writing_while_its_people_are_taken() {
    const MANY: usize = 400;
    let home = Home::with_ann(CHEAP);
    populate(&home, "servicestack", "app.sqlite", "p001abcd-", MANY);
    let application = Connection::open(home.file("app.sqlite")).expect("a database");
    let before = std::fs::read_dir(home.file(".")).expect("a directory").count();
    // It stops where its report is not read: a pipe that is full holds it between two rows that are left.
    application.execute("UPDATE UserAuth SET PasswordHash = 'hunter2'", []).expect("a row");
    let mut command = home.command();
    command.args(["import", "servicestack", "app.sqlite", "--dry-run", "--json"]).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().expect("the binary runs");
    let mut first = [0; 9];
    std::io::Read::read_exact(child.stdout.as_mut().expect("it is piped"), &mut first).expect("it begins to report");
    assert_eq!(&first, b"{\"left\":[");
    application.busy_timeout(Duration::ZERO).expect("nobody waits");
    application.execute("UPDATE UserAuth SET ModifiedDate = 'now'", []).expect("nobody holds it");
    child.kill().expect("it can be killed");
    child.wait().expect("its status");
    assert_eq!(std::fs::read_dir(home.file(".")).expect("a directory").count(), before, "nothing lies beside it");
}

#[test]
fn a_row_that_is_too_large_is_left_and_the_others_are_taken() {
    let server = Server::with_ann(CHEAP);
    let mut application = Connection::open(server.file("app.sqlite")).expect("a database");
    application
        .execute_batch("CREATE TABLE T (Id INTEGER PRIMARY KEY, UserName, PasswordHash, Salt, Roles, FirstName)")
        .expect("it");
    let all = application.transaction().expect("a transaction");
    for number in 1..=60 {
        let fat = if number % 20 == 0 { "x".repeat(250_000) } else { String::new() };
        let row = params![number, format!("user{number}"), None::<&str>, None::<&str>, fat, fat];
        all.execute("INSERT INTO T VALUES (?1, ?2, ?3, ?4, ?5, ?6)", row).expect("a row");
    }
    all.commit().expect("it is written");
    for more in [["--dry-run"].as_slice(), &[]] {
        let output = server.operator(&[&["import", "servicestack", "app.sqlite", "--json"], more].concat(), "");
        let report = serde_json::from_str(&output.out).unwrap_or_else(|error| panic!("{error}: {output:?}"));
        assert_eq!(counts(&report), (57, 0, 3), "{report}");
        assert_eq!((&report["ended"], &report["left"][0]["id"]), (&json!(true), &json!("20")), "{report}");
    }
    // The largest account that can be goes round.
    let keys: Vec<Value> = (0..99)
        .map(|key| json!({ "hash": format!("{key:064x}"), "environment": "e".repeat(256), "kind": "k".repeat(256), "prefix": "12345678" }))
        .collect();
    let rights: Vec<String> = (0..100).map(|right| format!("{right:0>250}")).collect();
    let largest = json!({ "name": "largest", "roles": rights, "permissions": rights, "api_keys": keys });
    std::fs::write(server.file("largest.jsonl"), largest.to_string()).expect("a file");
    let (well, report) = import(&server, "users", "largest.jsonl");
    assert!(well && counts(&report) == (1, 0, 0), "{report}");
    let out = export(&server, "out.jsonl");
    assert!(out.lines().any(|line| line.len() > largest.to_string().len()), "more is written than was given");
    server.operator(&["user", "remove", "largest"], "").ok();
    let (well, report) = import(&server, "users", "out.jsonl");
    assert!(well && counts(&report) == (1, 58, 0), "{report}");
    assert_eq!(export(&server, "again.jsonl").lines().count(), out.lines().count());
}

#[test]
fn a_row_that_stands_twice_in_a_file_is_told_also_where_the_first_was_taken() {
    let server = Server::with_ann(CHEAP);
    let line = |email: &str| json!({ "name": "bob", "email": email, "password_hash": HASH }).to_string();
    std::fs::write(server.file("users.jsonl"), format!("{}\n{}", line("a@example.org"), line("b@example.org"))).expect("a file");
    for known in [0, 1] {
        let (well, report) = import(&server, "users", "users.jsonl");
        // By the second run, the one who is here may be either.
        let expected = if known == 0 { (1, 0, 1) } else { (0, 2, 0) };
        assert_eq!((well, counts(&report)), (known == 1, expected), "{report}");
        assert!(known == 1 || report["left"][0]["why"].as_str().is_some_and(|why| why.contains("earlier row")), "{report}");
    }
}

#[test]
fn no_complaint_repeats_what_may_be_a_secret() {
    let server = Server::with_ann(CHEAP);
    let lines = [
        r#"{"name":"a","password_hash":12345678}"#,
        r#"{"name":"b","hunter2":"hunter2"}"#,
        r#"{"name":"c","roles":"hunter2"}"#,
        r#"{"name":"d","disabled":12345678}"#,
        r#"{"name":"e","password_hash":"hunter2"}"#,
    ];
    std::fs::write(server.file("users.jsonl"), lines.join("\n")).expect("a file");
    let (well, report) = import(&server, "users", "users.jsonl");
    assert!(!well && counts(&report) == (0, 0, 5), "{report}");
    assert!(!report.to_string().contains("12345678") && !report.to_string().contains("hunter2"), "{report}");
}
