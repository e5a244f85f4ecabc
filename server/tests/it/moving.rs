//! Moving in and out on the command line: what is taken and left, beside a server that goes on, interrupted and begun again.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::harness::{CHEAP, Home, PASSWORD, Server};

/// Names, passwords and what others have made of them.
const BROUGHT: [(&str, &str, &str); 7] = [
    ("identity3", "my password", "AQAAAAIAAYagAAAAEAABAgMEBQYHCAkKCwwNDg/Q8A0WMKbtHQJQ2DHCdoEeeFBrgNlldq6vH4qX/CGqGQ=="),
    ("identity2", "my password", "AAABAgMEBQYHCAkKCwwNDg+ukCEMDf0yyQ29NYubggHIVY0sdEUfdyeM+E1LtH1uJg=="),
    ("salted", "p@55w,rd:1", "$servicestack-sha256$AQIDBA==$PgoZboViJJzz0pCK9ZVbUKnfYpIdXpOSZG7ugR9vR+Q="),
    ("bcrypt", "abcdefghijklmnopqrstuvwxyz", "$2a$08$aTsUwsyowQuzRrDqFflhgekJ8d9/7Z3GV3UcgvzQW3J5zMyrTvlz."),
    ("argon2i", "password", "$argon2i$v=19$m=256,t=2,p=1$c29tZXNhbHQ$iekCn0Y3spW+sCcFanM2xBT63UP2sghkUoHLIUpWRS8"),
    ("pbkdf2", "password", "$pbkdf2-sha256$1212$4vjV83LKPjQzk31VI4E0Vw$hsYF68OiOUPdDZ1Fg.fJPeq1h/gXXY7acBp9/6c.tmQ"),
    ("scrypt", "password", "$scrypt$ln=16,r=8,p=1$aM15713r3Xsvxbi31lqr1Q$nFNh2CVHVjNldFVKDHDlm4CbdRSCdEBsjjJxD+iCs5E"),
];

fn row(name: &str, hash: &str) -> Value {
    json!({ "name": name, "id": format!("id-{name}"), "password_hash": hash, "scopes": ["Zenith/Market", "Zenith/News"] })
}

fn write(home: &Home, lines: &[String]) {
    std::fs::write(home.file("users.jsonl"), lines.join("\n")).expect("a file");
}

/// Whether it went well, and the report.
fn import(home: &Home, more: &[&str]) -> (bool, Value) {
    let output = home.operator(&[&["import", "users", "users.jsonl", "--json"], more].concat(), "");
    let report = serde_json::from_str(&output.out).unwrap_or_else(|error| panic!("{error}: {output:?}"));
    (output.code == Some(0), report)
}

pub(crate) fn counts(report: &Value) -> (u64, u64, u64) {
    let count = |key: &str| report[key].as_u64().unwrap_or_else(|| panic!("{report}"));
    (count("taken"), count("known"), count("left_count"))
}

pub(crate) fn users(home: &Home) -> Vec<Value> {
    home.operator(&["user", "list", "--json"], "").json().as_array().expect("rows").clone()
}

#[test]
fn everybody_logs_in_with_the_old_password_and_the_same_id_beside_a_running_server() {
    let server = Server::with_ann(CHEAP);
    let rows: Vec<String> = BROUGHT.iter().map(|(name, _, hash)| row(name, hash).to_string()).collect();
    write(&server, &rows);
    let (_, planned) = import(&server, &["--dry-run"]);
    assert_eq!((counts(&planned), users(&server).len()), ((7, 0, 0), 1), "nothing was written");
    let (well, report) = import(&server, &[]);
    assert!(well && counts(&report) == (7, 0, 0), "{report}");
    for (name, password, _) in BROUGHT {
        for _ in 0..2 {
            server.connect().login(name, "wrong").rejected();
            let answer = server.connect().login(name, password);
            assert_eq!((answer.outcome(), &answer.0["Data"]["UserID"]), ("Success", &json!(format!("id-{name}"))));
        }
    }
    server.operator(&["export", "users", "out.jsonl"], "").ok();
    let out = std::fs::read_to_string(server.file("out.jsonl")).expect("a file");
    assert_eq!(out.matches("$argon2id$v=19$m=64,t=1,p=1$").count(), 8, "ours by now, ann's too: {out}");
    let (well, again) = import(&server, &[]);
    assert!(well && counts(&again) == (0, 7, 0), "{again}");
    server.operator(&["export", "users", "again.jsonl"], "").ok();
    assert_eq!(std::fs::read_to_string(server.file("again.jsonl")).expect("a file"), out, "the second run changes nothing");
    let lines = server.audit();
    let imports: Vec<&Value> = lines.iter().filter(|line| line["action"] == "user_import").collect();
    assert_eq!(imports.iter().map(|line| line["count"].as_u64()).collect::<Vec<_>>(), [Some(7)]);
}

#[test]
fn what_is_written_out_is_taken_in_elsewhere_as_it_was() {
    let home = Home::with_ann(CHEAP);
    home.operator(&["user", "set", "ann", "--email", "ann@example.org", "--role", "Admin", "--permission", "edit"], "").ok();
    home.add_user("bob", &["--id", "7", "--expires", "2099-01-31", "--first-name", "B\u{f6}b", "--last-name", "\"O\" Neil"]);
    home.operator(&["user", "disable", "bob"], "").ok();
    home.operator(&["user", "add", "cid", "--no-password"], "").ok();
    let key = home.operator(&["apikey", "add", "ann", "--environment", "live", "--json"], "").json()["key"].clone();
    home.operator(&["export", "users", "out.jsonl"], "").ok();
    let mode = std::fs::metadata(home.file("out.jsonl")).expect("a file").permissions().mode() & 0o777;
    assert_eq!(mode, 0o600);
    assert!(home.operator(&["export", "users", "out.jsonl"], "").complaint().contains("is there already"));
    let out = std::fs::read(home.file("out.jsonl")).expect("a file");
    assert!(!String::from_utf8_lossy(&out).contains(key.as_str().expect("a key")), "of a key only the hash");

    let other = Home::new(CHEAP);
    other.operator(&["client", "add", "app", "--scope", "Zenith/Market", "--scope", "Zenith/News"], "").ok();
    std::fs::write(other.file("users.jsonl"), &out).expect("a file");
    let (well, report) = import(&other, &[]);
    assert!(well && counts(&report) == (3, 0, 0), "{report}");
    other.operator(&["export", "users", "out.jsonl"], "").ok();
    let second = std::fs::read(other.file("out.jsonl")).expect("a file");
    assert_eq!(String::from_utf8_lossy(&second), String::from_utf8_lossy(&out));
    let without_account = |rows: Vec<Value>| -> Vec<Value> {
        let cut = |mut row: Value| {
            row.as_object_mut().expect("a row").remove("account");
            row
        };
        rows.into_iter().map(cut).collect()
    };
    assert_eq!(without_account(users(&other)), without_account(users(&home)));
    let keys = |home: &Home| home.operator(&["apikey", "list", "ann", "--json"], "").json();
    assert_eq!(keys(&other), keys(&home));
    let server = Server::of(other);
    server.connect().login("ann", PASSWORD).granted();
    server.connect().login("ann@example.org", PASSWORD).granted();
    server.connect().login("bob", PASSWORD).rejected();
    server.operator(&["user", "enable", "bob"], "").ok();
    server.connect().login("bob", PASSWORD).granted();
}

#[test]
fn a_bad_row_is_named_and_left_and_the_others_are_taken() {
    let home = Home::with_ann(CHEAP);
    home.operator(&["user", "set", "ann", "--email", "ann@example.org"], "").ok();
    let (_, _, good) = BROUGHT[4];
    let changed = |name: &str, change: &[(&str, Value)]| {
        let mut row = row(name, good);
        change.iter().for_each(|(key, value)| row[key] = value.clone());
        row.to_string()
    };
    let dear = |hash: &str| json!(format!("{hash}$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc"));
    let key = |hash: String| json!([{ "hash": hash, "environment": "live", "kind": "secret" }]);
    let lines = [
        (row("bob", good).to_string(), ""),
        (row("BOB", good).to_string(), "this name"),
        (changed("\u{dc}nal", &[]), ""),
        (changed("u\u{308}nal", &[]), "this name"),
        (changed("cid", &[("email", json!("ANN@example.org"))]), "this e"),
        (changed("dan", &[("email", json!("dan@example.org")), ("api_keys", key("ab".repeat(32)))]), ""),
        (changed("dan2", &[("email", json!("dan@EXAMPLE.org"))]), "this e"),
        (changed("eve", &[("id", json!("id-bob"))]), "this id"),
        (changed("fay", &[("password_hash", dear("$argon2id$v=19$m=4294967295,t=1,p=1"))]), "bound"),
        (changed("gil", &[("password_hash", dear("$pbkdf2-sha256$1000000000"))]), "bound"),
        (changed("hal", &[("password_hash", dear("$argon2i$v=19$m=4294967296,t=1,p=1"))]), "32 bits"),
        (changed("ian", &[("password_hash", json!("hunter2"))]), "the hash of the password"),
        (changed("jon", &[("scopes", json!(["Nowhere"]))]), "no scope"),
        (changed("kim", &[("id", json!(18_446_744_073_709_551_616.0))]), "no user in JSON"),
        (changed("leo", &[("roles", json!("hunter2"))]), "no user in JSON"),
        (changed("mia", &[("password", json!("hunter2"))]), "unknown field"),
        (changed("ned", &[("expires_at", json!("tomorrow"))]), "no user in JSON"),
        (changed("oto", &[("api_keys", key("xy".repeat(32)))]), "64 hexadecimal digits"),
        (changed("pia", &[("api_keys", key("ab".repeat(32)))]), "API keys"),
        (changed("qi\u{7}", &[]), "control characters"),
        (String::new(), ""),
        ("{}".to_owned(), "neither a name nor an id"),
        ("\u{0}\u{1}".to_owned(), "no user in JSON"),
        (format!("{{\"name\":\"{}\"}}", "x".repeat(300_000)), "more than 262144 bytes"),
        (changed("rob", &[("name", json!("x".repeat(300)))]), "256 bytes"),
        (changed("zoe", &[("id", json!("9223372036854775808"))]), ""),
        (row("half", good).to_string()[..40].to_owned(), "no user in JSON"),
    ];
    let text: Vec<String> = lines.iter().map(|(line, _)| line.clone()).collect();
    write(&home, &text);
    let before = users(&home);
    let (well, planned) = import(&home, &["--dry-run"]);
    assert!(!well && users(&home) == before);
    let (well, report) = import(&home, &[]);
    assert!(!well, "rows were left");
    let expected: Vec<(u64, &str)> =
        (1..).zip(&lines).filter(|(_, (_, why))| !why.is_empty()).map(|(at, (_, why))| (at, *why)).collect();
    for report in [&planned, &report] {
        let mut left: Vec<(u64, &str)> = report["left"]
            .as_array()
            .expect("rows")
            .iter()
            .map(|row| (row["line"].as_u64().expect("a line"), row["why"].as_str().expect("why")))
            .collect();
        left.sort_unstable();
        assert_eq!(
            left.iter().map(|(at, _)| *at).collect::<Vec<_>>(),
            expected.iter().map(|(at, _)| *at).collect::<Vec<_>>(),
            "{left:#?}"
        );
        for ((_, found), (at, why)) in left.iter().zip(&expected) {
            // In a dry run the earlier row is not there yet.
            assert!(found.contains(why) || found.contains("earlier row"), "line {at}: {found:?} and not {why:?}");
            assert!(!found.contains("hunter2") && !found.contains("CTFhFdXP"), "line {at}: {found:?}");
        }
        assert_eq!(counts(report), (4, 0, expected.len() as u64));
    }
    let names: BTreeSet<String> = users(&home).iter().map(|user| user["name"].as_str().expect("a name").to_owned()).collect();
    assert_eq!(names, ["ann", "bob", "dan", "zoe", "\u{dc}nal"].map(str::to_owned).into());
    let text = home.operator(&["import", "users", "users.jsonl"], "");
    assert_eq!(text.code, Some(1));
    assert!(text.out.contains("line 13 (id-jon): left: there is no scope") && text.out.ends_with(" left\n"), "{}", text.out);
}

#[test]
fn what_is_no_file_of_users_is_told_and_the_server_is_unharmed() {
    let server = Server::with_ann(CHEAP);
    assert!(server.operator(&["import", "users", "nowhere.jsonl"], "").complaint().contains("nowhere.jsonl: "));
    assert!(server.operator(&["import", "users", "."], "").code == Some(1));
    std::fs::write(server.file("users.jsonl"), b"SQLite format 3\0\xff\xfe\n\xff").expect("a file");
    let (well, report) = import(&server, &[]);
    assert!(!well && counts(&report) == (0, 0, 2), "{report}");
    std::fs::write(server.file("users.jsonl"), "").expect("a file");
    let (well, report) = import(&server, &[]);
    assert!(well && counts(&report) == (0, 0, 0), "{report}");
    server.connect().login("ann", PASSWORD).granted();
}

#[test]
fn whoever_is_interrupted_has_whole_rows_and_a_second_run_takes_the_rest() {
    const MANY: usize = 3000;
    let (_, _, hash) = BROUGHT[4];
    let rows: Vec<String> = (0..MANY)
        .map(|number| {
            let mut row = row(&format!("u{number}"), hash);
            row["email"] = json!(format!("u{number}@example.org"));
            row["api_keys"] = json!([{ "hash": format!("{number:064x}"), "environment": "live", "kind": "secret" }]);
            row.to_string()
        })
        .collect();
    let mut stopped = 0;
    for (number, signal) in
        [Signal::KILL, Signal::INT, Signal::KILL, Signal::TERM, Signal::KILL, Signal::INT].into_iter().enumerate()
    {
        // Beside a server, and without one.
        let server = (number % 2 == 0).then(|| Server::with_ann(CHEAP));
        let own = server.is_none().then(|| Home::with_ann(CHEAP));
        let home: &Home = server.as_deref().or(own.as_ref()).expect("one of them");
        write(home, &rows);
        let mut command = home.command();
        let spawned =
            command.args(["import", "users", "users.jsonl", "--json"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let mut child = spawned.expect("the binary runs");
        std::thread::sleep(Duration::from_millis(20 + 60 * number as u64));
        let pid = rustix::process::Pid::from_raw(i32::try_from(child.id()).expect("a pid")).expect("not 0");
        rustix::process::kill_process(pid, signal).ok();
        child.wait().expect("its status");
        let before = users(home).len() - 1;
        stopped += usize::from(before < MANY);
        home.operator(&["export", "users", "between.jsonl"], "").ok();
        let between = std::fs::read_to_string(home.file("between.jsonl")).expect("a file");
        for line in between.lines().filter(|line| !line.contains("\"ann\"")) {
            let row: Value = serde_json::from_str(line).expect("a row");
            assert!(row["email"].is_string() && row["api_keys"].as_array().is_some_and(|keys| keys.len() == 1), "{line}");
        }
        let (well, report) = import(home, &[]);
        // What the server had been asked when the command died, it may have finished since.
        let (taken, known, left) = counts(&report);
        assert!(well && taken + known == MANY as u64 && known >= before as u64 && left == 0, "{signal:?}: {report}");
        assert_eq!(users(home).len(), MANY + 1);
        if let Some(server) = &server {
            server.connect().login("u2999", "password").granted();
            server.connect().login("ann", PASSWORD).granted();
        }
    }
    assert!(stopped > 0, "none was interrupted before its end");
}

/// The status that a request is answered with.
pub(crate) fn over_http(server: &Server, head: &str, body: &str) -> u16 {
    let mut stream = TcpStream::connect(server.http()).expect("a connection");
    let request = format!("{head}\r\nHost: localhost\r\nAccept: application/json\r\nConnection: close\r\n\r\n{body}");
    stream.write_all(request.as_bytes()).expect("it is sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_else(|| panic!("{answer:?}"))
}

/// An application's database: a renamed table of users with its own columns and without some, both forms of rights, keys.
fn application(home: &Home) {
    let database = rusqlite::Connection::open(home.file("app.sqlite")).expect("a database");
    database
        .execute_batch(
            "CREATE TABLE AppUser (Id INTEGER PRIMARY KEY AUTOINCREMENT, UserName VARCHAR(8000), Email VARCHAR(8000), \
             DisplayName VARCHAR(8000), Salt VARCHAR(8000), PasswordHash VARCHAR(8000), Roles VARCHAR(1000000), \
             Permissions VARCHAR(1000000), CreatedDate VARCHAR(8000), LockedDate VARCHAR(8000), Shoe INTEGER);
             CREATE TABLE UserAuthRole (Id INTEGER PRIMARY KEY, UserAuthId INTEGER, Role VARCHAR(8000), Permission VARCHAR(8000));
             CREATE TABLE ApiKey (Id VARCHAR(8000) PRIMARY KEY, UserAuthId VARCHAR(8000), Environment VARCHAR(8000), \
             KeyType VARCHAR(8000), CreatedDate VARCHAR(8000), ExpiryDate VARCHAR(8000), CancelledDate VARCHAR(8000));
             CREATE TABLE UserAuthDetails (Id INTEGER PRIMARY KEY, UserAuthId INTEGER, Provider VARCHAR(8000), UserId VARCHAR(8000));
             CREATE VIEW Trap AS SELECT Id, UserName, PasswordHash, Salt FROM AppUser;",
        )
        .expect("tables");
    let user = "INSERT INTO AppUser (UserName, Email, DisplayName, Salt, PasswordHash, Roles, Permissions, CreatedDate, LockedDate) \
                VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)";
    let (identity, salted) = ("AQAAAAEAACcQAAAAEAABAgMEBQYHCAkKCwwNDg8MEcVEKt4ecR/YF/mYINH8m8S+hLwpYRIKZm/NePKWvQ==", BROUGHT[2].2);
    let (_, hash) = salted.rsplit_once('$').expect("a hash");
    type Cell = Option<&'static str>;
    let when: Cell = Some("2019-08-07 06:05:04.1234567");
    let rows: [[Cell; 4]; 7] = [
        [Some("ada"), Some("ada@example.org"), Some(" Ada \u{f6}"), None],
        [Some("bob"), None, Some(""), None],
        [Some("cid@example.org"), Some("CID@example.org"), None, None],
        [None, Some("dan@example.org"), None, None],
        [Some("eve"), None, None, Some("2020-01-02T03:04:05Z")],
        [Some("ADA"), None, None, None],
        [Some("fay"), None, None, None],
    ];
    for (number, [name, email, shown, locked]) in rows.into_iter().enumerate() {
        let old = number == 1;
        let stored = if number == 6 { None } else { Some(if old { hash } else { identity }) };
        let roles = [Some("[Admin,\"Odd, one\"]"), None, Some("[]"), Some(""), None, None, None][number];
        let salt = old.then_some("AQIDBA==");
        database
            .execute(user, rusqlite::params![name, email, shown, salt, stored, roles, Some("[edit]"), when, locked])
            .expect("a row");
    }
    database
        .execute_batch(
            "INSERT INTO UserAuthRole (UserAuthId, Role, Permission) VALUES (1, 'Editor', NULL), (1, NULL, 'print'), (2, 'Admin', NULL);
             INSERT INTO ApiKey VALUES ('0123456789abcdefghijABCDEFGHIJ', '1', 'live', 'secret', '2019-08-07 06:05:04', NULL, NULL),
             ('of-nobody-of-nobody-1', NULL, 'live', 'secret', NULL, NULL, NULL), ('of-no-one-of-no-one-1', '', 'live', 'secret', NULL, NULL, NULL);
             INSERT INTO UserAuthDetails (UserAuthId, Provider, UserId) VALUES (1, 'github', '42');",
        )
        .expect("rows");
}

#[test]
fn the_people_of_a_servicestack_application_come_with_ids_rights_keys_and_lock_outs() {
    let settings = format!("{CHEAP}[servicestack]\nclient = \"app\"\n");
    let server = Server::with_ann(&settings);
    application(&server);
    let import = |more: &[&str]| {
        let arguments = [&["import", "servicestack", "app.sqlite", "--scope", "Zenith/Market", "--json"], more].concat();
        let output = server.operator(&arguments, "");
        serde_json::from_str::<Value>(&output.out).unwrap_or_else(|error| panic!("{error}: {output:?}"))
    };
    let before = std::fs::read(server.file("app.sqlite")).expect("a file");
    for more in [["--dry-run"].as_slice(), &[]] {
        let report = import(more);
        assert_eq!(counts(&report), (7, 0, 1), "the keys of nobody are a row: {report}");
        assert_eq!(report["left"][0]["id"], "6", "its name folds to one that is taken: {report}");
    }
    assert_eq!(std::fs::read(server.file("app.sqlite")).expect("a file"), before, "it is only read");
    let found: Vec<Value> = users(&server).into_iter().filter(|user| user["name"] != "ann").collect();
    let told: Vec<Value> = found
        .iter()
        .map(|user| json!([user["name"], user["id"], user["email"], user["status"], user["roles"], user["permissions"]]))
        .collect();
    let expected = json!([
        ["3", "3", "CID@example.org", "active", [], ["edit"]],
        ["4", "4", "dan@example.org", "active", [], ["edit"]],
        ["ada", "1", "ada@example.org", "active", ["Admin", "Editor", "Odd, one"], ["edit", "print"]],
        ["bob", "2", null, "active", ["Admin"], ["edit"]],
        ["eve", "5", null, "disabled", [], ["edit"]],
        ["fay", "7", null, "active", [], ["edit"]],
    ]);
    assert_eq!(Value::Array(told), expected);
    assert_eq!((&found[2]["display_name"], &found[2]["created_at"]), (&json!("Ada \u{f6}"), &json!("2019-08-07T06:05:04.123Z")));
    let keys = server.operator(&["apikey", "list", "ada", "--json"], "").json();
    assert_eq!(
        (&keys[0]["prefix"], &keys[0]["environment"], &keys[0]["kind"]),
        (&json!("0123456"), &json!("live"), &json!("secret"))
    );
    for (name, id) in [("ada", "1"), ("ada@example.org", "1"), ("bob", "2"), ("cid@example.org", "3"), ("dan@example.org", "4")] {
        for _ in 0..2 {
            let answer = server.connect().login(name, "p@55w,rd:1");
            assert_eq!((answer.outcome(), &answer.0["Data"]["UserID"]), ("Success", &json!(id)), "{name}");
        }
    }
    for (name, status) in [("ada", 200), ("bob", 200), ("CID@example.org", 200), ("eve", 401), ("fay", 401)] {
        let asked = json!({ "UserName": name, "Password": "p@55w,rd:1" }).to_string();
        let length = asked.len();
        let head = format!("POST /auth/credentials HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: {length}");
        assert_eq!(over_http(&server, &head, &asked), status, "{name}");
    }
    let keys = [
        ("0123456789abcdefghijABCDEFGHIJ", 200),
        ("0123456789abcdefghijABCDEFGHIK", 401),
        ("of-nobody-of-nobody-1", 409),
        ("of-no-one-of-no-one-1", 409),
    ];
    for (key, status) in keys {
        assert_eq!(over_http(&server, &format!("GET /apikeys/live HTTP/1.1\r\nAuthorization: Bearer {key}"), ""), status, "{key}");
    }
    for name in ["eve", "fay"] {
        server.connect().login(name, "p@55w,rd:1").rejected();
    }
    assert_eq!(counts(&import(&[])), (0, 7, 1));
}

#[test]
fn an_old_hash_is_made_ours_by_a_login_and_whoever_registers_has_ours_at_once() {
    let server = Server::with_ann(&format!("{CHEAP}[servicestack]\nclient = \"app\"\nregistration = true\n"));
    application(&server);
    server.operator(&["import", "servicestack", "app.sqlite", "--json"], "");
    let hash_of = |file: &str, name: &str| {
        server.operator(&["export", "users", file], "").ok();
        let rows = std::fs::read_to_string(server.file(file)).expect("a file");
        let rows: Vec<Value> = rows.lines().map(|row| serde_json::from_str(row).expect("JSON")).collect();
        let row = rows.into_iter().find(|row| row["name"] == name || row["email"] == name).expect("somebody");
        row["password_hash"].as_str().expect("a hash").to_owned()
    };
    let post = |path: &str, asked: &Value| {
        let asked = asked.to_string();
        let head = format!("POST {path} HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: {}", asked.len());
        over_http(&server, &head, &asked)
    };
    assert_eq!(hash_of("before.jsonl", "bob"), BROUGHT[2].2, "salted, as it came");
    let login = json!({ "UserName": "bob", "Password": "p@55w,rd:1" });
    assert_eq!(post("/auth/credentials", &json!({ "UserName": "bob", "Password": "wrong" })), 401);
    assert_eq!(hash_of("wrong.jsonl", "bob"), BROUGHT[2].2);
    assert_eq!(post("/auth/credentials", &login), 200);
    let ours = "$argon2id$v=19$m=64,t=1,p=1$";
    assert!(hash_of("after.jsonl", "bob").starts_with(ours));
    assert_eq!(post("/auth/credentials", &login), 200);
    let new = json!({ "UserName": "gil", "Password": "correct horse", "ConfirmPassword": "correct horse" });
    assert_eq!(post("/register", &new), 200);
    assert!(hash_of("new.jsonl", "gil").starts_with(ours));
}

#[test]
fn what_is_no_application_s_database_is_told_so() {
    let home = Home::new(CHEAP);
    let import = || home.operator(&["import", "servicestack", "app.sqlite"], "").complaint();
    assert!(import().contains("app.sqlite"));
    std::fs::write(home.file("app.sqlite"), "{\"name\":\"ann\"}\n".repeat(200)).expect("a file");
    assert!(import().contains("is no SQLite database"), "{}", import());
    std::fs::remove_file(home.file("app.sqlite")).expect("it is there");
    application(&home);
    let whole = std::fs::read(home.file("app.sqlite")).expect("a file");
    std::fs::write(home.file("app.sqlite"), &whole[..whole.len() / 2]).expect("a file");
    let output = home.operator(&["import", "servicestack", "app.sqlite"], "");
    assert!(output.code == Some(1) && output.err.starts_with("gatepost: "), "half a file: {output:?}");
    std::fs::remove_file(home.file("app.sqlite")).expect("it is there");
    let other = rusqlite::Connection::open(home.file("app.sqlite")).expect("a database");
    other.execute_batch("CREATE TABLE UserAuth (Id INTEGER, Name TEXT)").expect("a table");
    assert!(import().contains("no table has the columns"), "{}", import());
    other
        .execute_batch("CREATE TABLE A (Id, UserName, PasswordHash, Salt); CREATE TABLE B (Id, UserName, PasswordHash, Salt)")
        .expect("tables");
    assert!(import().contains("A and B both look like users"), "{}", import());
    let of = |table: &str| home.operator(&["import", "servicestack", "app.sqlite", "--table", table], "");
    assert_eq!((of("b").code, of("b").out.as_str()), (Some(0), "0 taken, 0 here already, 0 left\n"));
    assert!(of("UserAuth").complaint().contains("no table UserAuth has the columns"));
    // Who has no name of their own does not take another's, though they come first.
    other.execute_batch("INSERT INTO B VALUES (7, NULL, NULL, NULL), (10, '7', NULL, NULL)").expect("rows");
    other.execute_batch("ALTER TABLE B ADD COLUMN Email; UPDATE B SET Email = 'seven@example.org' WHERE Id = 7").expect("a column");
    let told = of("B").out;
    assert!(told.starts_with("id 7: left: ") && told.ends_with("1 taken, 0 here already, 1 left\n"), "{told}");
}
