//! A store that cannot be written to for a while, or not even read: somebody else holds the database. What is durable already
//! goes on, what is not is not told, and none of it is told as a bad credential.

use std::os::unix::fs::FileExt;

use rusqlite::Connection;
use serde_json::{Value, json};

use crate::harness::{CHEAP, PASSWORD, Server, until};
use crate::peer::{Answer, Peer, owner};

/// Keeps everybody else from writing until it is dropped. The server waits five seconds for such a lock.
pub(crate) struct Stall {
    connection: Connection,
    /// Kept open, since a process gives up its locks on a file with the first descriptor of it that it closes.
    index: std::fs::File,
}

impl Stall {
    pub(crate) fn of(server: &Server) -> Stall {
        let connection = Connection::open(server.data().join("gatepost.db")).expect("the database");
        let index = std::fs::OpenOptions::new().write(true).open(server.data().join("gatepost.db-shm")).expect("the index");
        connection.busy_timeout(crate::harness::LIMIT).expect("a limit");
        connection.execute_batch("BEGIN IMMEDIATE").expect("the lock");
        Stall { connection, index }
    }

    /// As [`Stall::of`], and keeps everybody else from reading too: the index of the write-ahead log is gone, and it is built anew
    /// under the lock that is held here. A reader of SQLite's waits ten seconds for that.
    pub(crate) fn of_readers_too(server: &Server) -> Stall {
        let stall = Stall::of(server);
        // Two copies of its header, of 48 bytes each (SQLite's walformat, section 2.1).
        stall.index.write_all_at(&[0; 96], 0).expect("it is ours");
        stall
    }

    pub(crate) fn end(self) {
        self.connection.execute_batch("ROLLBACK").expect("the lock is given back");
    }
}

#[test]
fn a_grant_whose_write_came_too_late_is_told_as_a_timeout_and_taken_back() {
    let server = Server::with_ann(CHEAP);
    let mut peer = server.connect();
    peer.ask("Configure", json!({"ActionTimeout": "00:00:01"}));
    let stall = Stall::of(&server);
    peer.login("ann", PASSWORD).failed("Operation.Timeout");
    peer.query().rejected();
    stall.end();
    // The write that nobody waits for any more is made now, and must not stand.
    until("it is taken back", || server.audit().iter().any(|row| row["action"] == "undo"));
    assert_eq!(server.sessions(), Vec::<Value>::new());
    peer.query().rejected();
    peer.login("ann", PASSWORD).granted();
    assert_eq!(server.sessions().len(), 1);
}

#[test]
fn while_nothing_can_be_written_tokens_are_given_back_as_they_are_and_nobody_new_comes_in() {
    let server = Server::with_ann(CHEAP);
    let mut old = server.connect();
    let token = old.login("ann", PASSWORD).token();
    let (mut restoring, mut new) = (server.connect(), server.connect());
    let stall = Stall::of(&server);
    // Both at once, since each waits for the lock as long as the server does.
    let send = |peer: &mut Peer, topic: &str, data: Value| {
        peer.send(&json!({"Controller": "Auth", "Topic": topic, "TransactionID": 1, "Data": data}));
    };
    send(&mut restoring, "AuthToken", json!({"Provider": "Paritech", "AccessToken": token}));
    send(&mut new, "AuthOwner", owner("ann", PASSWORD));
    old.query().granted();
    server.connect().restore("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=").rejected();
    assert_eq!(Answer(restoring.next()).token(), token);
    Answer(new.next()).failed("Fault");
    restoring.query().granted();
    new.query().rejected();
    stall.end();
    new.login("ann", PASSWORD).granted();
    assert_ne!(restoring.restore(&token).token(), token);
}

#[test]
fn while_nothing_can_be_read_an_upgrade_with_credentials_is_503_and_a_login_is_a_fault_or_a_timeout() {
    let server = Server::with_ann(CHEAP);
    let (mut old, mut new, mut hasty) = (server.connect(), server.connect(), server.connect());
    let token = old.login("ann", PASSWORD).token();
    hasty.ask("Configure", json!({"ActionTimeout": "00:00:01"}));
    let upgrade = |token: &str| Peer::upgrade(server.http(), 0, "/Zenith", &format!("Authorization: Paritech {token}\r\n"));
    let stall = Stall::of_readers_too(&server);
    let login = json!({"Controller": "Auth", "Topic": "AuthOwner", "TransactionID": 1, "Data": owner("ann", PASSWORD)});
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let response = upgrade("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=").expect_err("nobody can tell whether it is good");
            assert_eq!((response.status, response.header("www-authenticate")), (503, None), "{response:?}");
        });
        for peer in [&mut old, &mut new, &mut hasty] {
            peer.send(&login);
        }
        Answer(hasty.next()).failed("Operation.Timeout");
        hasty.query().rejected();
        for peer in [&mut old, &mut new] {
            Answer(peer.next()).failed("Fault");
        }
        old.query().granted();
        new.query().rejected();
    });
    stall.end();
    until("it can be read again", || upgrade(&token).is_ok());
    for peer in [&mut old, &mut new, &mut hasty] {
        peer.login("ann", PASSWORD).granted();
    }
}
