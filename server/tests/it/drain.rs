//! A restart that nobody notices: what peers of every gate are told at SIGTERM, what of theirs outlives the process, and how long the
//! next one takes to let somebody in.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use gatepost_identity::clock::system_instant;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::harness::{CHEAP, Home, LIMIT, PASSWORD, Server, until};
use crate::peer::{CLOSE, Peer, TEXT, frame, http, owner};
use crate::terminals::{DEFAULT, code, panel_from, secured_by, text};
use crate::tls::allow_descriptors;

/// Connections over Zenith, TrueConf and HTTP: two thousand in all.
const ZENITH: usize = 1000;
const PANELS: usize = 500;
const BROWSERS: usize = 500;
/// How many of those over Zenith and HTTP log in while the server stops.
const IN_FLIGHT: usize = 8;
/// What a hash costs, so that one is under way for a while.
const DEAR: &str = "[password]\nmemory_kib = 32768\niterations = 6\nthreads = 2\nmax_wait = '60s'\n";

/// A login through the ServiceStack gate.
fn signing_in() -> String {
    let body = format!(r#"{{"provider":"credentials","userName":"ann","password":"{PASSWORD}"}}"#);
    format!(
        "POST /auth HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nAccept: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

fn asking(cookie: &str) -> String {
    format!("GET /auth HTTP/1.1\r\nHost: x\r\nAccept: application/json\r\nCookie: {cookie}\r\n\r\n")
}

/// An answer on a connection that may be kept.
fn answer(stream: &mut TcpStream) -> (u16, String) {
    let mut reader = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert!(reader.read_line(&mut head).expect("an answer") > 0, "the connection ended within {head:?}");
    }
    let small = head.to_ascii_lowercase();
    let length =
        small.lines().find_map(|line| line.strip_prefix("content-length: ")).map_or(0, |length| length.parse().expect("a length"));
    let mut body = vec![0; length];
    reader.read_exact(&mut body).expect("its body");
    (head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status"), head)
}

/// The cookie of the session, as it is sent back.
fn cookie(head: &str) -> String {
    let line = head.lines().find_map(|line| line.split_once("ss-id=").map(|(_, value)| value)).unwrap_or_else(|| panic!("{head}"));
    format!("ss-id={}", line.split(';').next().unwrap_or_default())
}

/// The code of the close, whatever a terminal has told before it.
fn parted(panel: &mut Peer) -> u16 {
    loop {
        let next = panel.frame().expect("a close, but the connection ended");
        if next.opcode == CLOSE {
            panel.write_if_read(&frame(CLOSE, &next.payload));
            return u16::from_be_bytes([next.payload[0], next.payload[1]]);
        }
    }
}

/// The process that holds a data directory.
fn holder(home: &Home) -> rustix::process::Pid {
    let written = std::fs::read_to_string(home.data().join("gatepost.lock")).expect("the lock");
    let digits: String = written.chars().filter(char::is_ascii_digit).collect();
    digits.parse().ok().and_then(rustix::process::Pid::from_raw).unwrap_or_else(|| panic!("no pid in {written:?}"))
}

#[test]
#[expect(clippy::print_stdout, reason = "how long a restart takes is read by people")]
fn two_thousand_peers_of_three_gates_are_told_and_what_they_hold_outlives_the_process() {
    allow_descriptors();
    let home = Home::with_ann(CHEAP);
    let settings = "drain_timeout = '30s'\ndrain_rate = 500\n[servicestack]\nclient = 'app'\nuse_token_cookie = false\n";
    let quiet = "[zenith]\nping_every = 600\nsilence = 1200\n[throttle]\nsource_free = 100000\nname_free = 1000\n";
    let more = "max_unauthorized = 2000\nmax_unauthorized_of_source = 2000\nping_every = 600\nsilence = 1200\n";
    let terminals = DEFAULT.replace("[trueconf]\n", &format!("[trueconf]\n{more}"));
    home.write_settings(&[settings, DEAR, quiet, &terminals].concat());
    home.operator(&["terminal", "protect", "default", "administrator", "password"], "Adm1n-77\n").ok();
    home.operator(&["terminal", "protect", "default", "user", "password"], "Us3r-77\n").ok();
    let mut server = Server::of(home);

    // A token of everybody who logged in before; the others are there and hold nothing.
    let mut tokens = vec![server.connect().login("ann", PASSWORD).token()];
    let mut zenith: Vec<Peer> = (0..ZENITH).map(|number| server.connect_from((number % 50) as u16)).collect();
    for peer in zenith.iter_mut().skip(IN_FLIGHT).take(20) {
        let answered = peer.restore(&tokens.pop().expect("one"));
        tokens.push(answered.token());
    }
    let mut panels: Vec<Peer> = (0..PANELS).map(|number| panel_from(&server, (number % 50) as u16)).collect();
    let mut panel_tokens = Vec::new();
    for (number, secret) in ["Us3r-77", "Adm1n-77"].into_iter().enumerate() {
        let granted = secured_by(&mut panels[number], secret);
        assert!(code(&granted).starts_with('0'), "{granted}");
        panel_tokens.push(text(&granted, "token").to_owned());
    }
    let browsers = |count: usize| -> Vec<TcpStream> {
        let dial = |_| {
            let stream = TcpStream::connect(server.http()).expect("a connection");
            stream.set_read_timeout(Some(LIMIT)).expect("a limit");
            stream
        };
        (0..count).map(dial).collect()
    };
    let mut waiting = browsers(IN_FLIGHT);
    let mut kept = browsers(BROWSERS - IN_FLIGHT);
    for stream in &mut kept {
        stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").expect("it is read");
        let (status, head) = answer(stream);
        assert_eq!((status, head.to_ascii_lowercase().contains("connection: close")), (200, false), "it is kept: {head}");
    }

    let before = server.cpu();
    for peer in zenith.iter_mut().take(IN_FLIGHT) {
        peer.send(&json!({"Controller": "Auth", "Topic": "AuthOwner", "TransactionID": 1, "Data": owner("ann", PASSWORD)}));
    }
    waiting.iter_mut().for_each(|stream| stream.write_all(signing_in().as_bytes()).expect("it is read"));
    until("passwords are being compared", || server.cpu() > before + 5);
    let began = system_instant();
    server.signal_term();

    let mut cookies = Vec::new();
    for stream in &mut waiting {
        let (status, head) = answer(stream);
        assert_eq!(status, 200, "{head}");
        assert!(head.to_ascii_lowercase().contains("connection: close"), "an answer in flight says so: {head}");
        cookies.push(cookie(&head));
    }
    for peer in zenith.iter_mut().take(IN_FLIGHT) {
        let told = peer.next();
        assert_eq!(told["Data"]["Result"], "Success", "{told}");
        tokens.push(told["Data"]["AccessToken"].as_str().expect("a token").to_owned());
    }
    std::thread::scope(|scope| {
        scope.spawn(|| zenith.iter_mut().for_each(|peer| assert_eq!(peer.closed(), (1012, "Restart".to_owned()))));
        scope.spawn(|| panels.iter_mut().for_each(|peer| assert_eq!(parted(peer), 1001)));
        scope.spawn(|| {
            for stream in &mut kept {
                let mut rest = Vec::new();
                stream.read_to_end(&mut rest).expect("it is parted with in good order");
                assert!(rest.is_empty(), "{:?}", String::from_utf8_lossy(&rest));
            }
        });
    });
    assert_eq!(server.wait().0.code(), Some(0));
    let stopped = began.elapsed();
    assert!(stopped < Duration::from_secs(30), "it took {stopped:?}");
    assert!(stopped > Duration::from_secs(3), "two thousand at 500 a second are not told at once, but it took {stopped:?}");

    let exec = system_instant();
    server.restart();
    let mut peer = server.connect();
    let first = tokens.pop().expect("a token");
    peer.restore(&first).granted();
    println!("restart: {stopped:?} to stop with 2000 connections, {:?} from exec to the first Success", exec.elapsed());
    for token in &tokens {
        server.connect().restore(token).granted();
    }
    assert_eq!((tokens.len(), cookies.len()), (IN_FLIGHT, IN_FLIGHT));
    for cookie in &cookies {
        assert_eq!(http(server.http(), 0, &asking(cookie)).status, 200, "{cookie}");
    }
    for (number, token) in (0..).zip(&panel_tokens) {
        let answered = secured_by(&mut panel_from(&server, number), token);
        assert_eq!(code(&answered), "8", "{answered}");
    }
}

#[test]
fn nobody_is_cut_off_before_their_turn_and_all_are_told_in_time() {
    let home = Home::with_ann(&format!("drain_rate = 1\ndrain_timeout = '8s'\n{CHEAP}"));
    let mut server = Server::of(home);
    let mut peers: Vec<Peer> = (0..20).map(|_| server.connect()).collect();
    peers.iter_mut().for_each(|peer| peer.query().rejected());
    let began = system_instant();
    server.signal_term();
    // Somebody is told at once, and whoever is told last is served until then.
    let mut served = 0;
    for peer in &mut peers {
        let text = json!({"Controller": "Auth", "Topic": "QueryIdentify", "TransactionID": 9}).to_string();
        peer.write_if_read(&frame(TEXT, text.as_bytes()));
        loop {
            let next = peer.frame().expect("a word before the end");
            if next.opcode == CLOSE {
                assert_eq!(next.payload[..2], 1012_u16.to_be_bytes());
                peer.write_if_read(&frame(CLOSE, &next.payload));
                break;
            }
            served += 1;
        }
    }
    assert!(served > 0, "whoever waits for their turn is served");
    assert_eq!(server.wait().0.code(), Some(0));
    assert!(began.elapsed() > Duration::from_secs(1), "they are told one after the other: {:?}", began.elapsed());
    assert!(began.elapsed() < Duration::from_secs(8), "it took {:?}", began.elapsed());
}

#[test]
fn a_second_signal_ends_it_at_once() {
    for signal in [Signal::TERM, Signal::INT] {
        let home = Home::with_ann(&format!("drain_rate = 1\ndrain_timeout = '60s'\n{CHEAP}"));
        let mut server = Server::of(home);
        let mut peers: Vec<Peer> = (0..100).map(|_| server.connect()).collect();
        let token = peers[0].login("ann", PASSWORD).token();
        server.signal_term();
        until("it stops", || server.log().contains("no connection is accepted any more"));
        let began = system_instant();
        server.signal(signal);
        assert_eq!(server.wait().0.code(), Some(0));
        assert!(began.elapsed() < Duration::from_secs(5), "it took {:?}", began.elapsed());
        server.restart();
        server.connect().restore(&token).granted();
    }
}

/// A process that is ended with the test.
struct Started(Child);

impl Drop for Started {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// A port that was free a moment ago.
fn free() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port")
}

/// The next ready line.
fn ready(lines: &mut impl Iterator<Item = std::io::Result<String>>) -> Value {
    let line = lines.next().expect("a line").expect("standard output");
    line.strip_prefix("ready ").and_then(|json| serde_json::from_str(json).ok()).unwrap_or_else(|| panic!("{line:?}"))
}

#[test]
fn peers_wait_in_the_queue_of_a_socket_that_systemd_holds_while_the_next_process_starts() {
    let (at_http, at_panel) = (free(), free());
    let home = Home::with_ann(&format!("{CHEAP}{DEFAULT}"));
    // It waits for a first connection, and then becomes what is named: here a shell that holds the sockets, as systemd does, and
    // hands them to one server after the other.
    let serve = r#"LISTEN_PID=$$ exec "$0" "$@""#;
    let shell = format!(r#"sh -c '{serve}' "$0" "$@"; sh -c '{serve}' "$0" "$@""#);
    let mut command = Command::new("systemd-socket-activate");
    command.args(["-l", &at_http.to_string(), "-l", &at_panel.to_string(), "--fdname=http:trueconf.control.default"]);
    command.args(["sh", "-c", &shell]).arg(home.command().get_program()).args(home.command().get_args()).arg("serve");
    let log = std::fs::File::create(home.file("stderr")).expect("a file");
    let spawned = command.current_dir(home.file("")).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log).spawn();
    let mut started = Started(spawned.expect("systemd-socket-activate, of Debian's package systemd"));
    let mut lines = BufReader::new(started.0.stdout.take().expect("it is piped")).lines();
    until("the sockets are there", || TcpStream::connect(at_http).is_ok());

    let told = ready(&mut lines);
    assert_eq!((&told["http"], &told["trueconf"]["control.default"]), (&json!(at_http.to_string()), &json!(at_panel.to_string())));
    let mut peer = Peer::connect(at_http, 0);
    let token = peer.login("ann", PASSWORD).token();
    rustix::process::kill_process(holder(&home), Signal::TERM).expect("it runs");
    // None of these is refused, whether a process is there for it or not.
    let waiting: Vec<TcpStream> = (0..100).map(|_| TcpStream::connect(at_http).expect("the queue takes it")).collect();
    assert_eq!(peer.closed().0, 1012);
    ready(&mut lines);
    for mut stream in waiting {
        stream.set_read_timeout(Some(LIMIT)).expect("a limit");
        // Whoever still came to the first process is parted with before they ask; the others are answered by the second.
        if stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").is_ok() {
            let mut first = [0; 12];
            match stream.read(&mut first) {
                Ok(0) | Err(_) => {}
                Ok(_) => assert_eq!(&first, b"HTTP/1.1 200"),
            }
        }
    }
    Peer::connect(at_http, 0).restore(&token).granted();
    assert!(TcpStream::connect(at_panel).is_ok());
    rustix::process::kill_process(holder(&home), Signal::TERM).expect("it runs");
    assert!(started.0.wait().expect("its status").success());
}
