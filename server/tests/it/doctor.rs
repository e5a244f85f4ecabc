//! `gatepost doctor` on the real binary: a sound server has nothing wrong with it, and each of these faults is named, with what to
//! do about it, and nothing else beside it.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rusqlite::Connection;
use rustix::process::Signal;
use serde_json::Value;

use crate::harness::{Home, Output, Server, run, until};
use crate::tls::{HTTPS, Pair};

/// Settings under which nothing is weakened.
fn sound(more: &str) -> String {
    format!("public_url = \"https://localhost\"\n{HTTPS}{more}")
}

/// A home with nothing wrong in it.
fn home() -> Home {
    let home = Home::with_ann("");
    let pair = Pair::new();
    pair.write_certificate(&home);
    pair.write_key(&home);
    home.write_settings(&sound(""));
    home
}

/// What the doctor finds, told by these variables too.
fn examined(home: &Home, arguments: &[&str], environment: &[(&str, &str)]) -> (Option<i32>, Value) {
    let mut command = home.command();
    command.envs(environment.iter().copied()).arg("doctor").arg("--json").args(arguments);
    let Output { code, out, err } = run(&mut command, "");
    (code, serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out:?} {err:?}")))
}

/// Sees that what is planted is found by these checks and by no other, and said in these words, with a remedy.
fn finds_by(home: &Home, arguments: &[&str], environment: &[(&str, &str)], checks: &[&str], code: i32, words: &[&str]) {
    let (ended, told) = examined(home, arguments, environment);
    let findings = told["findings"].as_array().expect("findings");
    let mut by: Vec<&str> = findings.iter().map(|finding| finding["check"].as_str().expect("a word")).collect();
    by.dedup();
    assert_eq!((by.as_slice(), ended), (checks, Some(code)), "{told:#}");
    assert_eq!(told["healthy"], false);
    let said = findings.iter().map(Value::to_string).collect::<String>();
    for word in words {
        assert!(said.contains(word), "{word:?} is not in {said}");
    }
    let level = if code == 1 { "fault" } else { "warning" };
    assert!(findings.iter().any(|finding| finding["level"] == level), "{told:#}");
    assert!(findings.iter().all(|finding| finding["remedy"].as_str().is_some_and(|remedy| !remedy.is_empty())), "{told:#}");
}

fn finds(home: &Home, checks: &[&str], code: i32, words: &[&str]) {
    finds_by(home, &[], &[], checks, code, words);
}

fn set_mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("it is ours");
}

#[test]
fn a_sound_server_has_nothing_wrong_with_it_and_every_check_is_made() {
    let server = Server::of(home());
    let (code, told) = examined(&server, &["--full"], &[]);
    assert_eq!((code, &told["healthy"]), (Some(0), &Value::Bool(true)), "{told:#}");
    let states: Vec<_> = told["checks"].as_array().expect("checks").iter().map(|check| &check["state"]).collect();
    assert!(states.len() >= 10 && states.iter().all(|state| *state == "ok"), "{told:#}");
    let printed = server.operator(&["doctor"], "").ok();
    assert!(printed.lines().count() >= 10 && printed.lines().all(|line| line.starts_with("ok ")), "{printed}");
    assert!(!server.log().contains("ERROR") && !server.log().contains("WARN"), "it disturbs nobody: {}", server.log());
}

#[test]
fn the_listeners_of_a_gate_of_their_own_are_asked_too_plain_and_over_tls() {
    let mut server = Server::of(home());
    let terminals = |tls: bool| {
        let listeners = format!("[trueconf]\ntls = {tls}\nweb = \"127.0.0.1:0\"\nhttp = \"127.0.0.1:0\"\n");
        sound(&format!("{listeners}[[trueconf.terminals]]\nname = \"hall\"\ncontrol = \"127.0.0.1:0\"\n"))
    };
    for tls in [false, true] {
        server.terminate();
        server.write_settings(&terminals(tls));
        server.restart();
        assert_eq!(examined(&server, &[], &[]).0, Some(0), "{:#}", examined(&server, &[], &[]).1);
        // They do not speak what is expected of them, so it is seen that they were asked.
        server.write_settings(&terminals(!tls));
        finds(&server, &["listeners"], 1, &["trueconf.web at 127.0.0.1:", "does not answer"]);
    }
}

#[test]
fn without_a_server_what_only_one_can_tell_is_left_out_and_nothing_is_changed() {
    let home = home();
    let (code, told) = examined(&home, &[], &[]);
    assert_eq!((code, &told["healthy"]), (Some(0), &Value::Bool(true)), "{told:#}");
    let left: Vec<_> = told["checks"].as_array().expect("checks").iter().filter(|check| check["state"] == "left out").collect();
    assert_eq!(left.iter().map(|check| &check["check"]).collect::<Vec<_>>(), ["server", "files"]);
    std::fs::remove_dir_all(home.data()).expect("it is ours");
    let (code, told) = examined(&home, &[], &[]);
    assert_eq!((code, home.data().exists()), (Some(0), false), "{told:#}");
}

#[test]
fn what_others_can_read_is_named() {
    let server = Server::of(home());
    set_mode(&server.data(), 0o755);
    finds(&server, &["settings", "permissions"], 1, &["is open to others (mode 755)", "chmod 700"]);
    set_mode(&server.data(), 0o700);
    set_mode(&server.data().join("gatepost.db"), 0o644);
    finds(&server, &["permissions"], 1, &["gatepost.db is open to others (mode 644)", "chmod 600"]);
    set_mode(&server.data().join("gatepost.db"), 0o600);
    // SQLite gives an empty log the mode of its database whenever it opens one.
    set_mode(&server.data().join("gatepost.db-wal"), 0o600);
    set_mode(&server.file("key.pem"), 0o640);
    finds(&server, &["settings"], 1, &["key.pem is open to others (mode 640)", "chmod 600"]);
    set_mode(&server.file("key.pem"), 0o600);
    server.write_settings(&sound("[[trueconf.terminals]]\nname = \"hall\"\ncontrol = \"127.0.0.1:0\"\npin = \"4711\"\n"));
    set_mode(&server.settings(), 0o644);
    let (_, told) = examined(&server, &[], &[]);
    assert!(told.to_string().contains("holds a PIN and is open to others") && !told.to_string().contains("4711"), "{told:#}");
}

#[test]
fn a_certificate_that_ended_or_soon_ends_or_is_for_another_name_is_named() {
    let home = home();
    let write = |until: (i32, u8, u8)| {
        let mut parameters = rcgen::CertificateParams::new(["localhost".to_owned()]).expect("a name");
        parameters.not_before = rcgen::date_time_ymd(2020, 1, 1);
        parameters.not_after = rcgen::date_time_ymd(until.0, until.1, until.2);
        let key = rcgen::KeyPair::generate().expect("a key");
        std::fs::write(home.file("certificate.pem"), parameters.self_signed(&key).expect("a certificate").pem()).expect("a file");
        std::fs::write(home.file("key.pem"), key.serialize_pem()).expect("a file");
    };
    write((2021, 12, 31));
    finds(&home, &["certificate"], 1, &["certificate.pem ended on 2021-12-31", "renew it"]);
    write((2999, 1, 1));
    let days = ["--min-days", "1000000"];
    finds_by(&home, &days, &[], &["certificate"], 3, &["certificate.pem ends in ", "on 2999-01-01"]);
    let elsewhere = [("GATEPOST_PUBLIC_URL", "https://auth.example.org")];
    finds_by(&home, &[], &elsewhere, &["certificate"], 1, &["is not for the host of public_url, auth.example.org"]);
}

#[test]
fn a_certificate_that_peers_are_not_shown_is_named() {
    let server = Server::of(home());
    let (other, pair) = (Home::new(""), Pair::new());
    pair.write_certificate(&other);
    pair.write_key(&other);
    let (certificate, key) = (other.file("certificate.pem"), other.file("key.pem"));
    let told = [("GATEPOST_TLS_CERTIFICATE", certificate.to_str().unwrap()), ("GATEPOST_TLS_KEY", key.to_str().unwrap())];
    finds_by(&server, &[], &told, &["listeners"], 3, &["peers are shown another certificate than the one in"]);
}

#[test]
fn a_clock_that_was_set_back_is_named() {
    let home = home();
    let database = Connection::open(home.data().join("gatepost.db")).expect("the database opens");
    database.execute("UPDATE audit SET at = at + 7200000 WHERE number = 2", []).expect("it is written");
    drop(database);
    finds(&home, &["clock"], 1, &["the newest row of the database was written 71", "timedatectl"]);
}

#[test]
fn a_disk_without_room_is_named() {
    let server = Server::of(home());
    finds_by(&server, &["--min-free", "1000000000000"], &[], &["disk"], 1, &["MiB are free", "make room"]);
}

#[test]
fn a_limit_on_files_that_is_too_low_is_named() {
    let server = Server::limited(home(), "ulimit -n 256");
    finds(&server, &["files"], 3, &["may have 256 files open", "LimitNOFILE"]);
}

#[test]
fn each_setting_that_weakens_something_is_named() {
    let home = home();
    let check = |settings: &str, words: &[&str]| {
        home.write_settings(settings);
        finds(&home, &["weakened"], 3, words);
        let printed = home.operator(&["check"], "").ok();
        assert!(words.iter().all(|word| printed.contains(word.split(": ").next().unwrap())), "{printed}");
    };
    check("require_secure = false\n", &["zenith: require_secure", "servicestack: require_secure"]);
    check("[proxy]\ntrusted = [\"0.0.0.0/0\"]\n", &["proxy.trusted: trusts 0.0.0.0/0"]);
    check("[password]\nmemory_kib = 64\niterations = 1\n", &["password: weaker than"]);
    check(
        "[throttle]\nname_free = 51\nsource_free = 201\ntoken_free = 1001\n",
        &["name_free: 51", "source_free: 201", "token_free: 1001"],
    );
    check("[session]\non_reuse = \"refuse\"\n", &["session.on_reuse: "]);
    check("[servicestack]\nclient = \"app\"\ntokens_in_fields = true\n", &["servicestack.tokens_in_fields: "]);
    check(
        "[zenith.upstream]\naddress = \"ws://feeds.internal:9000/\"\ncontrollers = [{ name = \"Market\" }]\n",
        &["zenith.upstream.address: "],
    );
    let terminal = "[[trueconf.terminals]]\nname = \"hall\"\ncontrol = ";
    check(&format!("{terminal}\"0.0.0.0:0\"\n"), &["trueconf.", "open to others at 0.0.0.0:0"]);
    check(
        &format!("{terminal}\"127.0.0.1:0\"\nupstream = {{ address = \"ws://192.0.2.1:8765/\" }}\n"),
        &["trueconf.terminals[0].upstream.address: "],
    );
    home.write_settings(&format!("{terminal}\"127.0.0.1:0\"\nupstream = {{ address = \"ws://[::1]:8765/\" }}\n"));
    assert_eq!(examined(&home, &[], &[]).0, Some(0), "what stays on the machine weakens nothing");
}

#[test]
fn a_damaged_database_is_named() {
    let home = home();
    let file = home.data().join("gatepost.db");
    let whole = std::fs::read(&file).expect("the database");
    let mut bytes = whole.clone();
    bytes[4 * 4096..8 * 4096].fill(0xff);
    std::fs::write(&file, bytes).expect("it is ours");
    finds(&home, &["database"], 1, &["gatepost.db is damaged", "backup"]);
    std::fs::write(&file, &whole[..whole.len() / 2]).expect("it is ours");
    finds(&home, &["database"], 1, &["gatepost.db", "backup"]);
    std::fs::write(&file, "something else").expect("it is ours");
    finds(&home, &["database"], 1, &["is not a Gatepost database"]);
}

#[test]
fn a_database_of_a_newer_version_is_named() {
    let home = home();
    let database = Connection::open(home.data().join("gatepost.db")).expect("the database opens");
    database.pragma_update(None, "user_version", 99).expect("it is written");
    drop(database);
    finds(&home, &["database"], 1, &["it has schema 99, and this version knows schemas up to", "run the version that wrote it"]);
}

#[test]
fn rows_that_name_what_is_not_there_are_named() {
    let home = home();
    let database = Connection::open(home.data().join("gatepost.db")).expect("the database opens");
    database.pragma_update(None, "foreign_keys", false).expect("a setting");
    database.execute("DELETE FROM accounts", []).expect("it is written");
    drop(database);
    finds(&home, &["database"], 1, &["a row of account_names names one of accounts that is not there"]);
}

#[test]
fn a_port_that_somebody_else_has_is_named() {
    let home = home();
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("its address").to_string();
    let told = [("GATEPOST_HTTP", address.as_str())];
    finds_by(&home, &[], &told, &["listeners"], 1, &[&format!("http cannot listen at {address}"), "ss -ltnp"]);
}

#[test]
fn a_server_that_does_not_go_by_the_settings_is_named() {
    let server = Server::of(home());
    let told = [("GATEPOST_HTTP", "127.0.0.1:9")];
    finds_by(&server, &[], &told, &["listeners"], 3, &["the settings have http at 127.0.0.1:9", "start the server anew"]);
}

#[test]
fn a_server_that_stands_still_is_named() {
    let server = Server::of(home());
    server.signal(Signal::STOP);
    finds(
        &server,
        &["server"],
        1,
        &[&format!("process {} holds", server.pid()), "does not answer operators: no answer within 5 s"],
    );
    server.signal(Signal::CONT);
    until("it answers again", || examined(&server, &[], &[]).0 == Some(0));
}

#[test]
fn settings_that_cannot_be_used_end_no_other_check() {
    let server = Server::of(home());
    server.write_settings("\nhtpp = 1\n");
    set_mode(&server.data().join("gatepost.lock"), 0o666);
    let place = format!("{}:4: htpp", server.settings().display());
    finds(&server, &["settings", "permissions"], 1, &[&place, "gatepost.lock is open to others"]);
    let printed = server.operator(&["doctor"], "");
    assert_eq!(printed.code, Some(1));
    assert!(printed.out.contains("fault     settings: ") && printed.out.contains("\n          -> "), "{}", printed.out);
    assert!(printed.out.contains("left out  certificate: "), "{}", printed.out);
}
