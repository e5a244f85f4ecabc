//! Services behind the gate that lie, stall, flood or refuse: bounded time, bounded memory, and nobody hears what is not theirs.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;

use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::handshake::server::{Callback, ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::{Message, WebSocket, accept_hdr};

use crate::harness::{CHEAP, Home, PASSWORD, Server, until};
use crate::peer::{Peer, frame, owner};

/// A service of one's own: each connection is handed to the closure, in a thread of its own.
struct Service {
    address: SocketAddr,
    stopping: Arc<AtomicBool>,
    accepting: Option<JoinHandle<()>>,
}

impl Service {
    fn of(serve: impl Fn(TcpStream) + Send + Sync + 'static) -> Service {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("its address");
        let stopping = Arc::new(AtomicBool::new(false));
        let (stop, serve) = (Arc::clone(&stopping), Arc::new(serve));
        let accepting = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if stop.load(Ordering::Acquire) {
                    return;
                }
                let serve = Arc::clone(&serve);
                std::thread::spawn(move || serve(stream.expect("a connection")));
            }
        });
        Service { address, stopping, accepting: Some(accepting) }
    }

    /// A server before it, with `app` and ann in it.
    fn behind(&self, settings: &str) -> Server {
        let upstream = format!(
            "[zenith.upstream]\naddress = \"ws://{}/some/path?a=b\"\ncontrollers = [{{ name = \"Market\" }}]\n",
            self.address
        );
        Server::of(Home::with_ann(&format!("{settings}\n{CHEAP}{upstream}")))
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::Release);
        // The thread waits in accept.
        TcpStream::connect(self.address).ok();
        self.accepting.take().map(JoinHandle::join);
    }
}

struct Agreed;

impl Callback for Agreed {
    fn on_request(self, _request: &Request, mut response: Response) -> Result<Response, ErrorResponse> {
        response.headers_mut().insert("sec-websocket-protocol", http::HeaderValue::from_static("ZenithJson"));
        Ok(response)
    }
}

fn agreed(stream: TcpStream) -> WebSocket<TcpStream> {
    accept_hdr(stream, Agreed).expect("a good handshake")
}

/// Hears until the gate hangs up.
fn hear(socket: &mut WebSocket<TcpStream>) {
    while socket.read().is_ok() {}
}

fn ann(server: &Server) -> Peer {
    let mut peer = server.connect();
    peer.login("ann", PASSWORD).granted();
    peer
}

fn echo(transaction: u32) -> Value {
    json!({"Controller": "Market", "Topic": "Echo", "TransactionID": transaction, "Data": {"x": 1}})
}

#[test]
fn nothing_that_the_peer_sent_to_prove_itself_travels_on() {
    let (tell, told) = mpsc::channel();
    let service = Service::of(move |mut stream| {
        let mut head = Vec::new();
        let mut byte = [0; 1];
        while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).expect("a request") == 1 {
            head.push(byte[0]);
        }
        tell.send(String::from_utf8(head).expect("a head in UTF-8")).ok();
    });
    let server = service.behind("");
    let token = server.connect().login("ann", PASSWORD).token();
    let more = format!(
        "Authorization: Paritech {token}\r\nCookie: ss-id=secret-cookie\r\nX-Forwarded-For: 203.0.113.9\r\nX-Secret: s3cret\r\n"
    );
    let mut peer =
        Peer::upgrade(server.http(), 7, "/Zenith?version=1.6&access_token=secret-token", &more).expect("the header is good");
    peer.send(&echo(1));
    let head = told.recv().expect("a handshake");
    let lower = head.to_lowercase();
    assert!(head.starts_with("GET /some/path?a=b&version=1.6 HTTP/1.1\r\n"), "{head}");
    for secret in [token.as_str(), PASSWORD, "secret-cookie", "secret-token", "s3cret", "203.0.113.9"] {
        assert!(!head.contains(secret), "{secret} in {head}");
    }
    let line = |name: &str| {
        let start = format!("{name}: ");
        let at = lower.find(&start).unwrap_or_else(|| panic!("no {name} in {head}")) + start.len();
        head[at..].lines().next().unwrap_or_default().to_owned()
    };
    assert_eq!(line("sec-websocket-protocol"), "ZenithJson");
    assert_eq!((line("x-forwarded-for"), line("x-forwarded-proto")), ("127.7.0.7".to_owned(), "http".to_owned()));
    let identity: Value = serde_json::from_str(&line("gatepost-identity")).expect("the identity is JSON");
    assert_eq!((&identity["sub"], &identity["client_id"]), (&json!("ann"), &json!("app")), "{identity}");
    let bearer = line("authorization");
    assert_eq!(bearer.strip_prefix("Bearer ").map(|token| token.split('.').count()), Some(3), "{bearer}");
    assert!(!server.log().contains(bearer.trim_start_matches("Bearer ")), "the token is in the log");
}

#[test]
fn a_service_cannot_speak_for_the_gate_nor_answer_what_was_not_asked() {
    let service = Service::of(|stream| {
        let mut socket = agreed(stream);
        socket.read().ok();
        for lie in [
            r#"{"Controller":"Auth","Topic":"Identify","Data":{"Result":"Success","AccessToken":"x"}}"#,
            r#"{"Controller":"Market","Controller":"Auth","Topic":"Identify","Data":{"Result":"Success"}}"#,
            r#"{"Controller":"Zenith","Topic":"Feeds","Data":[]}"#,
            r#"{"Topic":"ServerInfo","Data":{}}"#,
            r#"{"Controller":"Market","Topic":"Echo","TransactionID":2,"Data":"not asked"}"#,
            r#"{"Controller":"Market","Topic":"Quotes","Data":"not subscribed"}"#,
            r#"{"Controller":"Market","Topic":"Quotes","Action":"Sub","Confirm":true}"#,
            r#"{"Controller":"Market","Topic":"Quotes","Action":"Unsub","Confirm":true}"#,
            r#"{"Controller":"Market","Action":"Cancel","TransactionID":1}"#,
            r#"[{"Controller":"Market","Topic":"Echo","TransactionID":1,"Data":"an array"}]"#,
            "not JSON",
        ] {
            socket.send(Message::text(lie)).expect("the gate reads");
        }
        socket.send(Message::binary(vec![1, 2, 3])).expect("the gate reads");
        socket.send(Message::text(r#"{"Controller":"Market","Topic":"Echo","TransactionID":1,"Data":"asked"}"#)).expect("it reads");
        socket.send(Message::text(r#"{"Controller":"Market","Topic":"Echo","TransactionID":1,"Data":"twice"}"#)).expect("it reads");
        hear(&mut socket);
    });
    let server = service.behind("");
    let mut peer = ann(&server);
    peer.send(&echo(1));
    let answer = json!({"Controller": "Market", "Topic": "Echo", "TransactionID": 1, "Data": "asked"});
    assert_eq!(peer.next(), answer);
    peer.query().granted();
}

#[test]
fn what_goes_up_is_written_anew_so_that_doubled_members_mean_one_thing() {
    let (tell, told) = mpsc::channel();
    let service = Service::of(move |stream| {
        let mut socket = agreed(stream);
        tell.send(socket.read().expect("a message").into_text().expect("a text").to_string()).ok();
        hear(&mut socket);
    });
    let server = service.behind("");
    let mut peer = ann(&server);
    peer.send_text(r#" {"Controller":"Auth","controller":"Auth","Topic":"A","Topic":"Echo","Extra":1,"Controller":"Market","TransactionID":007e1}"#.replace("007e1", "7").as_str());
    assert_eq!(told.recv().expect("a message"), r#"{"Controller":"Market","Topic":"Echo","TransactionID":7}"#);
}

#[test]
fn a_service_that_never_answers_the_handshake_holds_nobody_up() {
    let service = Service::of(|mut stream| {
        let mut sink = Vec::new();
        stream.read_to_end(&mut sink).ok();
    });
    let server = service.behind("");
    let mut peer = ann(&server);
    peer.send(&json!({"Controller": "Market", "Topic": "Configure", "TransactionID": 1, "Data": {"ActionTimeout": "00:00:02"}}));
    assert_eq!(peer.next()["TransactionID"], 1);
    peer.send(&echo(2));
    peer.query().granted();
    let error = |transaction: u32, code: &str| json!({"Controller": "Market", "Topic": "Echo", "Action": "Error", "TransactionID": transaction, "Data": code});
    assert_eq!(peer.next(), error(2, "Operation.Timeout"));
    // What is asked shortly before the gate gives up on the handshake is told that.
    std::thread::sleep(std::time::Duration::from_millis(6500));
    peer.send(&echo(3));
    assert_eq!(peer.next(), error(3, "Fault"));
    peer.query().granted();
}

#[test]
fn a_service_that_refuses_or_speaks_no_websocket_is_a_fault_and_not_knocked_at_in_a_loop() {
    let knocks = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&knocks);
    let service = Service::of(move |mut stream| {
        counted.fetch_add(1, Ordering::AcqRel);
        let mut head = [0; 4096];
        if stream.read(&mut head).is_ok_and(|read| read > 0) {
            stream.write_all(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n").ok();
        }
    });
    let server = service.behind("");
    let mut peer = ann(&server);
    for transaction in 1..200 {
        peer.send(&echo(transaction));
        let answer = peer.next();
        assert_eq!((&answer["TransactionID"], &answer["Data"]), (&json!(transaction), &json!("Fault")), "{answer}");
    }
    assert!(knocks.load(Ordering::Acquire) <= 3, "{} attempts for 200 requests", knocks.load(Ordering::Acquire));
    let said = server.log().matches("refuses a connection").count();
    assert_eq!(said, 1, "the log says it once: {}", server.log());
}

#[test]
fn a_service_that_floods_costs_no_memory_and_others_are_served() {
    let service = Service::of(|stream| {
        let mut socket = agreed(stream);
        socket.read().ok();
        let confirmed = r#"{"Controller":"Market","Topic":"Flood","Action":"Sub","Confirm":true}"#;
        socket.send(Message::text(confirmed)).ok();
        let price = format!(r#"{{"Controller":"Market","Topic":"Flood","Data":"{}"}}"#, "x".repeat(1000));
        while socket.send(Message::text(price.clone())).is_ok() {}
    });
    let server = service.behind("[zenith]\nunsent_for = 2");
    let mut deaf: Vec<Peer> = (0..4).map(|_| ann(&server)).collect();
    let before = server.memory();
    for peer in &mut deaf {
        peer.send(&json!({"Controller": "Market", "Topic": "Flood", "Action": "Sub", "Confirm": true}));
    }
    let mut other = ann(&server);
    until("those who do not read are given up", || {
        other.query().granted();
        deaf.iter_mut().all(|peer| !peer.try_write(&frame(9, b"")))
    });
    let grown = server.memory().saturating_sub(before);
    assert!(grown < 4 * 1024 * 1024, "{grown} bytes more");
}

#[test]
fn a_service_that_takes_nothing_holds_back_its_own_peer_and_nobody_else() {
    let service = Service::of(|stream| {
        let socket = agreed(stream);
        std::thread::sleep(std::time::Duration::from_secs(40));
        drop(socket);
    });
    let server = service.behind("[zenith]\nunsent_for = 3");
    let mut peer = ann(&server);
    let mut other = ann(&server);
    let before = server.memory();
    let write = peer.writer();
    let message = frame(1, json!({"Controller": "Market", "Topic": "Echo", "Data": "y".repeat(1000)}).to_string().as_bytes());
    // More than the buffers of four sockets hold; it goes through once the service is given up.
    let writing = std::thread::spawn(move || write(&message.repeat(16_000)));
    for _ in 0..50 {
        other.query().granted();
    }
    writing.join().expect("what was held back was read in the end");
    let grown = server.memory().saturating_sub(before);
    assert!(grown < 4 * 1024 * 1024, "{grown} bytes more");
    peer.send(&json!({"Controller": "Auth", "Topic": "QueryIdentify", "TransactionID": 77}));
    until("the peer is still served", || peer.next()["TransactionID"] == 77);
}

#[test]
fn a_service_that_pauses_and_goes_on_is_followed_by_what_waited_behind_it() {
    let service = Service::of(|stream| {
        let mut socket = agreed(stream);
        std::thread::sleep(std::time::Duration::from_secs(2));
        hear(&mut socket);
    });
    // Without a ping nothing but the service's reading wakes the connection.
    let server = service.behind("[zenith]\nping_every = 3600\nsilence = 7200\nunsent_for = 60");
    let mut peer = ann(&server);
    let write = peer.writer();
    let message = frame(1, json!({"Controller": "Market", "Topic": "Echo", "Data": "y".repeat(60_000)}).to_string().as_bytes());
    let query = json!({"Controller": "Auth", "Topic": "QueryIdentify", "TransactionID": 77});
    let query = frame(1, query.to_string().as_bytes());
    let writing = std::thread::spawn(move || write(&[message.repeat(400), query].concat()));
    assert_eq!(peer.next()["TransactionID"], 77);
    writing.join().expect("all of it was read");
}

#[test]
fn a_peer_that_changes_who_it_is_all_the_time_does_not_knock_as_fast_as_it_can() {
    let knocks = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&knocks);
    let service = Service::of(move |stream| {
        counted.fetch_add(1, Ordering::AcqRel);
        hear(&mut agreed(stream));
    });
    let server = service.behind("");
    let mut tokens = ["Zenith/Market", "Zenith/News"].map(|scope| {
        let mut login = owner("ann", PASSWORD);
        login["Scope"] = json!([scope]);
        server.connect().ask("AuthOwner", login).token()
    });
    let mut peer = ann(&server);
    for turn in 0..100 {
        peer.send(&json!({"Controller": "Market", "Topic": "Echo"}));
        let token = &mut tokens[turn % 2];
        *token = peer.restore(token).token();
    }
    let knocks = knocks.load(Ordering::Acquire);
    assert!(knocks < 20, "{knocks} connections");
}

#[test]
fn a_message_of_the_service_that_is_too_long_ends_that_connection_and_not_the_peers() {
    let service = Service::of(|stream| {
        let mut socket = agreed(stream);
        socket.read().ok();
        let long =
            format!(r#"{{"Controller":"Market","Topic":"Echo","TransactionID":1,"Data":"{}"}}"#, "x".repeat(2 * 1024 * 1024));
        socket.send(Message::text(long)).ok();
        hear(&mut socket);
    });
    let server = service.behind("");
    let mut peer = ann(&server);
    peer.send(&echo(1));
    let answer = peer.next();
    assert_eq!((&answer["Action"], &answer["Data"]), (&json!("Error"), &json!("Operation.Abort")), "{answer}");
    peer.query().granted();
}
