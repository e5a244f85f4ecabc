//! Databases of other versions (X18): one of each earlier schema is served as if it had always been ours, and one that a newer version
//! wrote is left as it is.

use std::path::{Path, PathBuf};

use rusqlite::Connection;

use crate::harness::{CHEAP, Home, PASSWORD, Server};

/// The kept files, the oldest first.
fn kept() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../store/tests/schemas");
    let mut files: Vec<_> =
        std::fs::read_dir(folder).expect("the kept files").map(|entry| entry.expect("an entry").path()).collect();
    files.sort();
    assert!(files.len() >= 11, "{files:?}");
    files
}

/// A home whose database is this file.
fn of(file: &Path) -> Home {
    let home = Home::new(CHEAP);
    std::fs::copy(file, home.data().join("gatepost.db")).expect("the kept file");
    home
}

fn schema(home: &Home) -> u32 {
    let connection = Connection::open(home.data().join("gatepost.db")).expect("it opens");
    connection.pragma_query_value(None, "user_version", |row| row.get(0)).expect("a number")
}

#[test]
fn a_database_of_each_earlier_schema_is_served() {
    let newest = u32::try_from(kept().len()).expect("a few");
    for (number, file) in (1..).zip(kept()) {
        let home = of(&file);
        assert_eq!(schema(&home), number, "{}", file.display());
        let mut server = Server::of(home);
        let shown = server.operator(&["user", "show", "shodan", "--json"], "").json();
        assert_eq!((&shown["id"], &shown["email"]), (&"41".into(), &"shodan@citadel.example".into()), "{number}");
        assert_eq!(server.operator(&["client", "show", "terminal", "--json"], "").json()["id"], "terminal", "{number}");
        assert!(!server.audit().is_empty(), "{number}");
        // Its people log in, and what they are told outlives the server.
        server.operator(&["client", "add", "app", "--scope", "Zenith/Market"], "").ok();
        server.operator(&["user", "set-password", "shodan"], PASSWORD).ok();
        let token = server.connect().login("shodan", PASSWORD).token();
        server.connect().login("shodan@citadel.example", PASSWORD).granted();
        server.kill9();
        server.restart();
        server.connect().restore(&token).granted();
        server.terminate();
        assert_eq!(schema(&server), newest, "{number}");
    }
}

#[test]
fn a_database_of_a_newer_version_is_refused_by_every_command_and_left_as_it_is() {
    let newest = kept().pop().expect("files");
    let home = of(&newest);
    let database = home.data().join("gatepost.db");
    let connection = Connection::open(&database).expect("it opens");
    connection.pragma_update(None, "user_version", kept().len() as u32 + 1).expect("another number");
    drop(connection);
    let before = std::fs::read(&database).expect("a file");
    let said = format!(
        "the database has schema {}, but this version of Gatepost knows schemas up to {}; run the newer version",
        kept().len() + 1,
        kept().len()
    );
    for arguments in [&["serve"][..], &["user", "list"], &["user", "add", "bob"], &["session", "list"], &["audit", "tail"]] {
        assert_eq!(home.operator(arguments, "secret password").complaint(), said, "{arguments:?}");
    }
    let copy = home.file("copy.db");
    std::fs::copy(&database, &copy).expect("a copy");
    for command in ["verify-backup", "restore"] {
        let complaint = home.operator(&[command, copy.to_str().expect("UTF-8")], "").complaint();
        assert!(complaint.contains(&said), "{command}: {complaint}");
    }
    assert_eq!(std::fs::read(&database).expect("a file"), before);
    // So is one that is somebody else's.
    std::fs::remove_file(&database).expect("it is there");
    Connection::open(&database).and_then(|other| other.execute_batch("CREATE TABLE notes (text)")).expect("a database");
    let complaint = home.operator(&["serve"], "").complaint();
    assert!(complaint.contains("is not a Gatepost database"), "{complaint}");
}
