//! Peers that ask and never read what they are answered: how long they are borne, what they cost, and that nobody else waits.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use gatepost_identity::clock::system_instant;

use crate::harness::{CHEAP, Server};
use crate::peer::{Peer, TEXT, frame};
use crate::tls::secured;

/// How many questions a peer asks without reading one answer. Their answers are more than sockets hold.
const QUESTIONS: usize = 100_000;
/// How many such peers there are at once.
const DEAF: u16 = 20;
/// How many others there are meanwhile, and how many threads ask for them.
const OTHERS: u16 = 100;
const ASKING: u16 = 4;
/// How late a peer may be given up: the wheel of the sockets turns each second, and this machine has other things to do.
const LATE: Duration = Duration::from_secs(8);

/// Asks without reading until the server hangs up.
struct Deaf {
    /// How many bytes of questions were taken from it, by the server or by the system for it.
    sent: usize,
    /// From its first question to the end, and from when it could say nothing more.
    lasted: Duration,
    stood: Duration,
}

impl Deaf {
    fn ask(peer: Peer) -> Deaf {
        let questions = frame(TEXT, br#"{"Controller":"Auth","Topic":"QueryIdentify","TransactionID":1}"#).repeat(QUESTIONS);
        let began = system_instant();
        let (mut sent, mut stood_from) = (0, began);
        peer.write_until_hung_up(&questions, |taken| {
            sent += taken;
            stood_from = system_instant();
            assert!(sent < 1 << 28, "it goes on reading what it cannot answer");
        });
        Deaf { sent, lasted: began.elapsed(), stood: stood_from.elapsed() }
    }

    /// Sees that it was borne for so long, and not for much longer.
    fn was_given_up_after(&self, span: Duration) {
        assert!(self.lasted >= span, "after {:?} already", self.lasted);
        assert!(self.stood <= span + LATE, "after {:?} only", self.stood);
    }
}

#[test]
fn twenty_peers_that_never_read_are_dropped_after_ten_seconds_cost_little_and_keep_nobody_waiting() {
    let server = Server::start(CHEAP);
    let http = server.http();
    let (over, answers) = (AtomicBool::new(false), AtomicU64::new(0));
    let mut slowest = Duration::ZERO;
    let before = std::thread::scope(|scope| {
        let others: Vec<_> = (0..ASKING)
            .map(|_| {
                scope.spawn(|| {
                    let mut peers: Vec<Peer> = (0..OTHERS / ASKING).map(|_| Peer::connect(http, 0)).collect();
                    let mut slowest = Duration::ZERO;
                    while !over.load(Ordering::Acquire) {
                        for peer in &mut peers {
                            let asked = system_instant();
                            peer.query().rejected();
                            slowest = slowest.max(asked.elapsed());
                            answers.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                    slowest
                })
            })
            .collect();
        let warming = Deaf::ask(Peer::connect(http, 1));
        server.forget_peak();
        let before = (server.memory(), answers.load(Ordering::Relaxed));
        let deaf: Vec<_> = (0..DEAF).map(|number| scope.spawn(move || Deaf::ask(Peer::connect(http, number + 2)))).collect();
        let deaf: Vec<Deaf> = deaf.into_iter().map(|thread| thread.join().expect("it is dropped")).collect();
        over.store(true, Ordering::Release);
        for deaf in deaf.iter().chain([&warming]) {
            deaf.was_given_up_after(Duration::from_secs(10));
        }
        slowest = others.into_iter().map(|thread| thread.join().expect("every answer comes")).max().unwrap_or_default();
        before
    });
    let grown = server.peak().saturating_sub(before.0);
    assert!(grown < 4 * 1024 * 1024, "it grew by {grown} bytes");
    let answered = answers.into_inner() - before.1;
    assert!(answered >= 100 * u64::from(OTHERS), "{answered} answers meanwhile");
    assert!(slowest < Duration::from_secs(2), "an answer took {slowest:?}");
}

#[test]
fn how_long_answers_may_stand_unread_is_a_setting_on_plain_connections_and_over_tls() {
    let (server, pair) = secured("[zenith]\nunsent_for = 1\n");
    std::thread::scope(|scope| {
        for peer in [server.connect(), pair.connect(&server)] {
            scope.spawn(|| Deaf::ask(peer).was_given_up_after(Duration::from_secs(1)));
        }
    });
    server.connect().query().rejected();
}

#[test]
fn how_much_may_stand_unread_before_nothing_more_is_taken_in_is_a_setting() {
    let sent = |settings: &str| {
        let server = Server::start(&format!("[zenith]\nunsent_for = 3\n{settings}"));
        Deaf::ask(server.connect()).sent
    };
    let (little, much) = std::thread::scope(|scope| {
        let little = scope.spawn(|| sent("max_unsent = 4096\n"));
        let much = scope.spawn(|| sent("max_unsent = 4194304\n"));
        (little.join().expect("it is dropped"), much.join().expect("it is dropped"))
    });
    // The system takes much more than the server, and about as much from either. A question is nearly as long as its answer.
    assert!(much > little + 2 * 1024 * 1024, "{little} bytes of questions were taken, and {much}");
}
