//! A store that cannot be written to for a while: somebody else holds the database. What is durable already goes on, what
//! is not is not told.

use rusqlite::Connection;
use serde_json::{Value, json};

use crate::harness::{CHEAP, PASSWORD, Server, until};
use crate::peer::{Answer, Peer, owner};

/// Keeps everybody else from writing until it is dropped. The server waits five seconds for such a lock.
pub(crate) struct Stall(Connection);

impl Stall {
    pub(crate) fn of(server: &Server) -> Stall {
        let connection = Connection::open(server.data().join("gatepost.db")).expect("the database");
        connection.busy_timeout(crate::harness::LIMIT).expect("a limit");
        connection.execute_batch("BEGIN IMMEDIATE").expect("the lock");
        Stall(connection)
    }

    pub(crate) fn end(self) {
        self.0.execute_batch("ROLLBACK").expect("the lock is given back");
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
