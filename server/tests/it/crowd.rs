//! More logins at once than can be hashed: whoever would wait too long is told so at once, and nothing else waits behind.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Barrier, Mutex};
use std::time::Duration;

use gatepost_identity::clock::system_instant;

use crate::harness::{Home, PASSWORD, Server};
use crate::peer::Peer;

const CROWD: u16 = 256;

/// What somebody read, in the order in which it was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Read {
    Success,
    /// A refusal, and whether it was the client's first.
    Busy {
        first: bool,
    },
    Token,
}

#[test]
fn a_crowd_is_told_to_come_again_before_the_last_is_let_in_and_tokens_go_on_being_taken() {
    let home = Home::with_ann("[password]\nmax_wait = \"200ms\"\n");
    home.add_copies("ann", (0..CROWD).map(|number| format!("crowd-{number}")));
    let server = Server::of(home);
    let token = server.connect().login("ann", PASSWORD).token();

    let reads: Mutex<Vec<Read>> = Mutex::default();
    let note = |read: Read| reads.lock().unwrap().push(read);
    let (barrier, over) = (Barrier::new(usize::from(CROWD)), AtomicBool::new(false));
    let http: SocketAddr = server.http();
    std::thread::scope(|scope| {
        let presenter = scope.spawn(|| {
            let mut peer = Peer::connect(http, 0);
            while !over.load(Ordering::Acquire) {
                peer.restore(&token).granted();
                note(Read::Token);
            }
        });
        let log_in = |number: u16| {
            let (barrier, note) = (&barrier, &note);
            scope.spawn(move || {
                let mut peer = Peer::connect(http, number + 1);
                let name = format!("crowd-{number}");
                barrier.wait();
                let end = system_instant() + Duration::from_secs(5);
                for round in 0.. {
                    let answer = peer.login(&name, PASSWORD);
                    if answer.outcome() == "Success" {
                        note(Read::Success);
                        return;
                    }
                    answer.failed("Limited");
                    note(Read::Busy { first: round == 0 });
                    if system_instant() >= end {
                        return;
                    }
                    // As a client does that was told to come again.
                    std::thread::sleep(Duration::from_millis(250));
                }
            })
        };
        let crowd: Vec<_> = (0..CROWD).map(log_in).collect();
        let ended: Vec<_> = crowd.into_iter().map(std::thread::ScopedJoinHandle::join).collect();
        over.store(true, Ordering::Release);
        presenter.join().expect("every token is taken");
        assert!(ended.iter().all(Result::is_ok), "a client of the crowd failed");
    });

    let reads = reads.into_inner().unwrap();
    let first_round = |read: &Read| matches!(read, Read::Busy { first: true });
    let refused = reads.iter().filter(|read| first_round(read)).count();
    assert!(refused >= 150, "{refused} were refused at first");
    let last_refusal = reads.iter().rposition(first_round).expect("some were refused");
    let first_success = reads.iter().position(|read| *read == Read::Success).expect("some were let in");
    let last_success = reads.iter().rposition(|read| *read == Read::Success).expect("some were let in");
    assert!(last_refusal < last_success, "the refusals of the first round came last");
    let tokens = reads[first_success..last_success].iter().filter(|read| **read == Read::Token).count();
    assert!(tokens >= 100, "{tokens} tokens were taken meanwhile");
}
