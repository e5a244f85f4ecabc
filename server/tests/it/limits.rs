//! Crowds that would take what there is: connections from one source and from many, bytes that come one in a second, descriptors.
//! Whoever comes after them is served, and operators are served all the while.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use gatepost_identity::clock::system_instant;
use rustix::process::{Resource, Rlimit};

use crate::harness::{CHEAP, Home, PASSWORD, Server, until};
use crate::peer::{Peer, bearer, handshake, http, owner};
use crate::terminals::DEFAULT;
use crate::watched::management;

/// How many connections drip, and from how many addresses.
const DRIPPING: usize = 5000;
const ADDRESSES: usize = 50;
/// How long they do.
const FOR: Duration = Duration::from_secs(20);
/// How late a login may be answered meanwhile.
const LATEST: Duration = Duration::from_secs(1);
const GET: &str = "GET /elsewhere HTTP/1.1\r\nHost: localhost\r\n\r\n";

/// Lets this process and those that it starts hold so many connections.
fn allow_descriptors(wanted: u64) {
    let Rlimit { current, maximum } = rustix::process::getrlimit(Resource::Nofile);
    assert!(maximum.is_none_or(|most| most >= wanted), "the system allows {maximum:?} descriptors, and this takes {wanted}");
    if current.is_some_and(|now| now < wanted) {
        rustix::process::setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum }).expect("it is allowed");
    }
}

/// What a new connection is told that says nothing.
fn told(server: &Server, source: u16) -> String {
    String::from_utf8(Peer::dial(server.http(), source).hung_up()).expect("text")
}

#[test]
fn x19_at_256_files_operators_are_served_while_peers_take_the_rest_and_the_next_peer_after_them() {
    let server = Server::limited(Home::with_ann(CHEAP), "ulimit -n 256");
    assert!(server.log().contains("256 files may be open"), "{}", server.log());
    let mut before = server.connect_from(1);
    before.login("ann", PASSWORD).granted();
    // From many addresses, since one has no more than a share.
    let mut crowd = Vec::new();
    until("there is no room", || {
        crowd.push(Peer::dial(server.http(), 2 + crowd.len() as u16 % 50));
        server.log().contains("there are as many connections as may be")
    });
    assert!(crowd.len() > 100, "{} found room", crowd.len());
    for round in 0..5 {
        assert!(told(&server, 60).starts_with("HTTP/1.1 503 "), "round {round}");
        assert_eq!(server.operator(&["user", "list", "--json"], "").json()[0]["name"], "ann");
        before.query().granted();
    }
    server.operator(&["backup", "copy"], "").ok();
    drop(crowd);
    until("the next is served", || Peer::upgrade(server.http(), 61, "/Zenith", "").is_ok());
    server.connect_from(62).login("ann", PASSWORD).granted();
    before.query().granted();
}

#[test]
fn the_limit_of_files_is_raised_as_far_as_it_goes() {
    let server = Server::limited(Home::new(CHEAP), "ulimit -Sn 100 && ulimit -Hn 600");
    assert!(server.log().contains("600 files may be open, raised from 100"), "{}", server.log());
}

#[test]
fn connections_have_a_bound_for_each_source_and_for_all_over_all_listeners() {
    let server = Server::start(&format!("[limits]\nconnections = 5\nconnections_of_source = 3\n{CHEAP}{DEFAULT}"));
    let web = server.own("trueconf", "web");
    let mut nine = vec![Peer::dial(web, 9), Peer::dial(server.http(), 9), server.connect_from(9)];
    let refused = http(server.http(), 9, GET);
    assert_eq!((refused.status, refused.header("connection")), (503, Some("close")));
    assert!(refused.body.contains("from your address"), "{refused:?}");
    assert!(told(&server, 9).starts_with("HTTP/1.1 503 "), "at once, before it has said anything");
    let others = [server.connect_from(10), server.connect_from(11)];
    let refused = http(web, 12, GET);
    assert_eq!((refused.status, refused.body.contains("too many connections here")), (503, true), "{refused:?}");
    nine[2].query().rejected();
    drop(others);
    until("there is room again", || http(web, 12, GET).status == 404);
    assert_eq!(http(server.http(), 9, GET).status, 503);
    nine.clear();
    until("and for that source too", || http(server.http(), 9, GET).status == 404);
    assert_eq!(server.log().matches("was turned away").count(), 1, "the log says so once a minute");
}

#[test]
fn behind_a_proxy_each_source_that_it_names_has_its_own_share_and_the_proxy_has_none() {
    let proxy = "[proxy]\ntrusted = [\"127.7.0.1\"]\nfields = \"x-forwarded\"\n";
    let server = Server::start(&format!("[limits]\nconnections_of_source = 2\n{proxy}{CHEAP}"));
    let from = |source: &str| Peer::upgrade(server.http(), 1, "/Zenith", &format!("X-Forwarded-For: {source}\r\n"));
    let status = |come: Result<Peer, crate::peer::Response>| come.map_or_else(|refused| refused.status, |_| 101);
    let _idle: Vec<Peer> = (0..9).map(|_| Peer::dial(server.http(), 1)).collect();
    let first = from("2001:db8::1").expect("there is room");
    let _second = from("2001:db8::2").expect("there is room");
    assert_eq!(["2001:db8::3", "2001:db8:0:1::1", "192.0.2.7"].map(|source| status(from(source))), [503, 101, 101]);
    drop(first);
    until("there is room again", || status(from("2001:db8::4")) == 101);
}

#[test]
fn z13_whoever_is_slow_is_given_up_in_time_whatever_it_is_slow_with() {
    let server = Server::start(&format!(
        "servicestack.client = \"app\"\n[management]\nlisten = '127.0.0.1:0'\n\
         [limits]\nhead_within = \"2s\"\nbody_within = \"3s\"\nidle_for = \"5s\"\n{CHEAP}"
    ));
    let post = "POST /auth HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n";
    let rows: [(&str, String, &str, u64); 6] = [
        ("says nothing", String::new(), "", 2),
        (
            "drips its head",
            String::new(),
            "GET /elsewhere HTTP/1.1\r\nHost: localhost\r\nX-A: bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb",
            2,
        ),
        ("drips its body", format!("{post}Content-Length: 100\r\n\r\n"), "{\"UserName\":\"annnnnnnnnnnnnnnnnnnnnnn", 3),
        ("drips its chunks", format!("{post}Transfer-Encoding: chunked\r\n\r\n"), "0000000000000000000000000000000000000", 3),
        ("is idle", GET.to_owned(), "", 5),
        ("drips its second head", GET.to_owned(), "GET /elsewhere HTTP/1.1\r\nHost: localhost\r\nX-A: bbbbbbbbb", 2),
    ];
    std::thread::scope(|scope| {
        for (what, first, dripped, seconds) in rows {
            let server = &server;
            scope.spawn(move || {
                let began = system_instant();
                let mut peer = Peer::dial(server.http(), 0);
                peer.write(first.as_bytes());
                let mut writer = peer.writer_unless_gone();
                let dripping = std::thread::spawn(move || {
                    for byte in dripped.as_bytes().chunks(1) {
                        std::thread::sleep(Duration::from_millis(200));
                        if !writer(byte) {
                            return;
                        }
                    }
                });
                peer.hung_up_or_reset();
                let took = began.elapsed();
                let span = Duration::from_secs(seconds);
                assert!(took >= span && took < span + Duration::from_secs(8), "whoever {what} is given up after {took:?}");
                dripping.join().expect("it writes");
            });
        }
    });
    // All are counted but the one that only had nothing to ask.
    let metrics = http(management(&server), 0, "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n").body;
    let slow = "gatepost_connections_refused_total{reason=\"slow\"} 5";
    assert!(metrics.lines().any(|line| line == slow), "{metrics}");
    // Whoever hangs up in the middle has nothing to wait for.
    let half = Peer::dial(server.http(), 0);
    let began = system_instant();
    half.half_closed(&GET.as_bytes()[..20]);
    assert!(began.elapsed() < Duration::from_millis(1500), "{:?}", began.elapsed());
}

#[test]
fn a_head_has_its_time_where_a_connection_may_be_idle_for_less() {
    let server = Server::start(&format!("[limits]\nhead_within = \"6s\"\nidle_for = \"1s\"\n{CHEAP}"));
    let whole = GET.replacen("\r\n\r\n", "\r\nConnection: close\r\n\r\n", 1);
    for first in ["", GET] {
        let mut peer = Peer::dial(server.http(), 0);
        peer.write(first.as_bytes());
        let (begun, rest) = whole.as_bytes().split_at(30);
        peer.write(begun);
        std::thread::sleep(Duration::from_secs(3));
        peer.write_if_read(rest);
        let told = String::from_utf8(peer.hung_up()).expect("text");
        assert_eq!(told.matches("HTTP/1.1 404 ").count(), 1 + usize::from(!first.is_empty()), "{told}");
    }
}

#[test]
fn x20_a_peer_that_asks_by_requests_and_reads_no_answers_is_given_up() {
    let server = Server::start(&format!("[limits]\nunsent_for = \"2s\"\n{CHEAP}"));
    let began = system_instant();
    let mut sent = 0;
    Peer::dial(server.http(), 0).write_until_hung_up(&GET.repeat(1000).into_bytes(), |taken| {
        sent += taken;
        assert!(sent < 1 << 28, "it goes on reading what it cannot answer");
    });
    assert!(began.elapsed() >= Duration::from_secs(2), "after {:?} already", began.elapsed());
    assert_eq!(http(server.http(), 0, GET).status, 404);
}

/// A connection that sends a byte in a second, and comes again when it is hung up on.
struct Dripping {
    stream: Option<TcpStream>,
    source: u16,
    kind: usize,
    sent: usize,
}

impl Dripping {
    fn come(&mut self, server: &Server, control: std::net::SocketAddr) {
        let (address, opening) = match self.kind % 4 {
            0 => (server.http(), String::new()),
            1 => (server.http(), handshake("/Zenith", "")),
            2 => (server.http(), "POST /auth HTTP/1.1\r\nHost: localhost\r\nContent-Length: 90\r\n\r\n".to_owned()),
            _ => (control, String::new()),
        };
        self.sent = 0;
        self.stream = crate::peer::dial_plain(address, self.source).ok().and_then(|mut stream| {
            stream.write_all(opening.as_bytes()).ok()?;
            stream.set_nonblocking(true).ok().map(|()| stream)
        });
    }

    /// Sends its byte. Answers whether it is still there.
    fn drip(&mut self) -> bool {
        let Some(stream) = &mut self.stream else { return false };
        let mut scratch = [0; 512];
        match stream.read(&mut scratch) {
            Ok(0) => return false,
            Err(error) if error.kind() != ErrorKind::WouldBlock => return false,
            Ok(_) | Err(_) => {}
        }
        // A frame's beginning where a socket was opened, and otherwise the beginning of a request or of a body.
        let bytes: &[u8] = if self.kind % 4 == 1 { &[0x81, 0xFE, 0x40, 0] } else { b"GET /xxxxxxx" };
        let byte = bytes.get(self.sent).copied().unwrap_or(b'x');
        self.sent += 1;
        stream.write(&[byte]).is_ok()
    }
}

#[test]
fn five_thousand_connections_that_drip_keep_no_login_waiting() {
    allow_descriptors(DRIPPING as u64 + 1000);
    let server = Server::of(Home::with_ann(&format!("servicestack.client = \"app\"\n{CHEAP}{DEFAULT}")));
    let control = server.own("trueconf", "control.default");
    let (over, there, came_again) = (AtomicBool::new(false), AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        let server = &server;
        let (over, there, came_again) = (&over, &there, &came_again);
        for part in 0..2 {
            scope.spawn(move || {
                let source = |number: usize| 100 + (number % ADDRESSES) as u16;
                let mut crowd: Vec<Dripping> = (0..DRIPPING / 2)
                    .map(|number| Dripping { stream: None, source: source(2 * number + part), kind: number / ADDRESSES, sent: 0 })
                    .collect();
                let mut counted = vec![false; crowd.len()];
                while !over.load(Ordering::Acquire) {
                    let round = system_instant();
                    for (one, counted) in crowd.iter_mut().zip(&mut counted) {
                        if over.load(Ordering::Acquire) {
                            return;
                        }
                        if !one.drip() {
                            one.come(server, control);
                            came_again.fetch_add(1, Ordering::Relaxed);
                        }
                        if one.stream.is_some() && !std::mem::replace(counted, true) {
                            there.fetch_add(1, Ordering::AcqRel);
                        }
                    }
                    std::thread::sleep(Duration::from_secs(1).saturating_sub(round.elapsed()));
                }
            });
        }
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            until("all of them are there", || there.load(Ordering::Acquire) == DRIPPING);
            let began: Instant = system_instant();
            let mut slowest = Duration::ZERO;
            for source in 1000.. {
                let asked = system_instant();
                server.connect_from(source).login("ann", PASSWORD).granted();
                slowest = slowest.max(asked.elapsed());
                if began.elapsed() > FOR {
                    break;
                }
                std::thread::sleep(Duration::from_millis(50));
            }
            assert!(slowest < LATEST, "a login took {slowest:?}");
        }));
        over.store(true, Ordering::Release);
        if let Err(panic) = result {
            std::panic::resume_unwind(panic);
        }
    });
    assert!(came_again.into_inner() > 2 * DRIPPING, "whoever drips is given up, and comes again");
}

/// How many flood while others come back.
const FLOODING: u16 = 8;
/// How many threads hold those who come back, and how many of these are looked at one by one afterwards.
const HOLDING: usize = 8;
const LOOKED_AT: usize = 200;
const ZENITH: &str = "Sec-WebSocket-Protocol: ZenithJson\r\n";

/// How many come back at once: `STORM` says it, where it is set.
fn returning() -> u16 {
    std::env::var("STORM").ok().and_then(|returning| returning.parse().ok()).unwrap_or(2000)
}

/// Connections as good as they come, all at once: nobody waits for an answer before everybody has asked.
fn connected(server: &Server, sources: impl Iterator<Item = u16>) -> Vec<Peer> {
    let request = handshake("/Zenith?version=2.0", ZENITH);
    let asked = sources.map(|source| {
        let mut peer = Peer::dial(server.http(), source);
        peer.write(request.as_bytes());
        peer
    });
    let peers: Vec<Peer> = asked.collect();
    peers.into_iter().map(|peer| peer.answered(&request).expect("the handshake is good").0).collect()
}

/// Does this with each part in a thread of its own.
fn side_by_side<Part: Send, Done: Send>(parts: impl Iterator<Item = Part>, work: impl Fn(Part) -> Done + Sync) -> Vec<Done> {
    let work = &work;
    std::thread::scope(|scope| {
        let threads: Vec<_> = parts.map(|part| scope.spawn(move || work(part))).collect();
        threads.into_iter().map(|thread| thread.join().expect("nothing went wrong there")).collect()
    })
}

#[test]
fn z21_whoever_drops_comes_back_by_token_while_passwords_are_flooded() {
    let returning = returning();
    allow_descriptors(u64::from(returning) + 1500);
    let home = Home::with_ann(&format!("{CHEAP}max_wait = \"30s\"\n"));
    home.add_copies("ann", (0..returning).map(|number| format!("back-{number}")));
    let mut server = Server::of(home);
    let each = usize::from(returning).div_ceil(HOLDING);
    let sources: Vec<u16> = (100..100 + returning).collect();
    // All log in, at a price at which that is soon done, and are gone at one stroke.
    let held = side_by_side(sources.chunks(each), |sources| {
        let mut peers = connected(&server, sources.iter().copied());
        peers.iter_mut().zip(sources).for_each(|(peer, source)| {
            peer.put("AuthOwner", owner(&format!("back-{}", source - 100), PASSWORD));
        });
        let tokens: Vec<String> = peers.iter_mut().map(|peer| peer.heard().token()).collect();
        (tokens, peers)
    });
    server.kill9();
    let tokens: Vec<String> = held.into_iter().flat_map(|(tokens, _)| tokens).collect();
    server.write_settings("");
    server.restart();
    let (over, guesses) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        let (server, over, guesses) = (&server, &over, &guesses);
        for flooding in 0..FLOODING {
            scope.spawn(move || {
                // Each guess comes from elsewhere and for somebody else, so that each is one to be hashed.
                for guess in (0..4000).take_while(|_| !over.load(Ordering::Acquire)) {
                    let mut peer = server.connect_from(20_000 + 4000 * flooding + guess);
                    assert_ne!(peer.login(&format!("nobody-{flooding}-{guess}"), "wrong").outcome(), "Success");
                    guesses.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            until("the flood is there", || guesses.load(Ordering::Relaxed) > 50);
            let (began, before) = (system_instant(), guesses.load(Ordering::Relaxed));
            let parts = sources.chunks(each).zip(tokens.chunks(each));
            let back = side_by_side(parts, |(sources, tokens)| {
                let mut peers = connected(server, sources.iter().copied());
                peers.iter_mut().zip(tokens).for_each(|(peer, token)| peer.put("AuthToken", bearer("Paritech", token)));
                peers.iter_mut().for_each(|peer| peer.heard().granted());
                peers
            });
            let took = began.elapsed();
            let there: usize = back.iter().map(Vec::len).sum();
            assert_eq!(there, usize::from(returning), "and all of them are there at once");
            assert!(guesses.load(Ordering::Relaxed) > before, "passwords were flooded all the while");
            let most = Duration::from_secs(10) + Duration::from_millis(10) * u32::from(returning);
            assert!(took < most, "{returning} were back after {took:?}");
            drop(back);
            // One after the other it is seen that nobody waits for hashes.
            let restore = |(source, token): (&u16, &String)| {
                let asked = system_instant();
                server.connect_from(*source).restore(token).granted();
                asked.elapsed()
            };
            let slowest = sources.iter().zip(&tokens).take(LOOKED_AT).map(restore).max().unwrap_or_default();
            assert!(slowest < Duration::from_secs(2), "a token took {slowest:?}");
        }));
        over.store(true, Ordering::Release);
        if let Err(panic) = result {
            std::panic::resume_unwind(panic);
        }
    });
}
