//! Backups of the real server: made while logins come in, put back, and what is no backup.

use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::Value;

use crate::harness::{CHEAP, Home, PASSWORD, Server, until};
use crate::peer::{Peer, http};

/// Users who log in while a backup is made.
const LOAD: usize = 3;
pub(crate) fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

pub(crate) fn facts(home: &Home, arguments: &[&str]) -> Value {
    home.operator(&[arguments, &["--json"]].concat(), "").json()
}

/// What a backup says of itself when it is read.
pub(crate) fn verified(home: &Home, file: &Path) -> Value {
    facts(home, &["verify-backup", text(file)])
}

/// X8: what ended since a backup stays ended, and older passwords are counted and said.
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
