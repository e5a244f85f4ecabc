//! Services behind the ServiceStack gate: what they see of a request, and what becomes of it when somebody lies, stalls or leaves.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use crate::harness::{CHEAP, Home, LIMIT, PASSWORD, Server, until};
use crate::mirror::Mirror;
use crate::peer::{Peer, Response, http};

/// A server before a service at this address; `service` is more of its settings, `more` what stands before all of them.
fn before(upstream: SocketAddr, service: &str, more: &str) -> Server {
    let home = Home::with_ann(&format!(
        "{more}\n{CHEAP}[servicestack]\nclient = \"app\"\nproviders = [\"credentials\", \"basic\", \"apikey\", \"jwt\"]\n\
         [[servicestack.service]]\npath = \"/mirror\"\nupstream = \"http://{upstream}\"\naudience = \"mirror\"\n{service}\n"
    ));
    home.operator(&["user", "set", "ann", "--role", "Editor"], "").ok();
    Server::of(home)
}

/// The same before the mirror.
fn mirrored(service: &str, more: &str) -> (Server, Mirror) {
    let mut mirror = Mirror::new();
    let server = before(mirror.address(), service, more);
    mirror.serve(server.http());
    (server, mirror)
}

/// A service of one's own: each connection, with the head of its first request, is handed to the closure in a thread.
fn service(serve: impl Fn(String, TcpStream) + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("its address");
    let serve = std::sync::Arc::new(serve);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let serve = std::sync::Arc::clone(&serve);
            std::thread::spawn(move || {
                let mut stream = stream.expect("a connection");
                let head = head(&mut stream);
                serve(head, stream);
            });
        }
    });
    address
}

fn head(stream: &mut TcpStream) -> String {
    let (mut head, mut byte) = (Vec::new(), [0; 1]);
    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap_or(0) == 1 {
        head.push(byte[0]);
    }
    String::from_utf8(head).expect("a head in UTF-8")
}

fn dial(server: &Server) -> TcpStream {
    let stream = TcpStream::connect(server.http()).expect("the server accepts");
    stream.set_read_timeout(Some(LIMIT)).expect("a socket");
    stream.set_write_timeout(Some(LIMIT)).expect("a socket");
    stream
}

fn get(server: &Server, path: &str, fields: &str) -> Response {
    http(server.http(), 0, &format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n"))
}

fn basic(name: &str) -> String {
    format!("Authorization: Basic {}\r\n", STANDARD.encode(format!("{name}:{PASSWORD}")))
}

/// The cookies that a login sets, as the next request has them.
fn logged_in(server: &Server, more: &str) -> String {
    let body = format!("{{\"UserName\":\"ann\",\"Password\":\"{PASSWORD}\"{more}}}");
    let fields = format!("Content-Type: application/json\r\nContent-Length: {}\r\n", body.len());
    let response = http(server.http(), 0, &format!("POST /auth/credentials HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n{body}"));
    assert_eq!(response.status, 200, "{response:?}");
    let cookies = cookies(&response);
    let pairs: Vec<&str> = cookies.iter().map(|cookie| cookie.split(';').next().unwrap_or_default()).collect();
    format!("Cookie: {}\r\n", pairs.join("; "))
}

fn cookies(response: &Response) -> Vec<&str> {
    let lines = response.head.lines().filter_map(|line| line.split_once(": "));
    lines.filter(|(name, _)| name.eq_ignore_ascii_case("set-cookie")).map(|(_, value)| value).collect()
}

#[test]
fn a_service_sees_who_calls_and_nothing_that_proves_it() {
    let (tell, told) = mpsc::channel();
    let service = service(move |head, mut stream| {
        tell.send(head).ok();
        let cookies = "Set-Cookie: basket=1\r\nSet-Cookie: ss-id=evil\r\n";
        let fields = format!("Connection: X-Hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=9\r\nGatepost-Identity: x\r\n{cookies}");
        write!(stream, "HTTP/1.1 200 Fine\r\n{fields}Access-Control-Allow-Origin: *\r\nContent-Length: 2\r\n\r\nok").ok();
    });
    let server = before(service, "", "");
    let response = get(
        &server,
        "/mirror/x?y=1",
        &format!(
            "{}Cookie: ss-id=secret-cookie; theme=dark; ss-tok=secret-token\r\nX-ss-pid: secret-id\r\n\
             Gatepost-Identity: {{\"sub\":\"root\"}}\r\nGatepost_Identity: root\r\nX-Forwarded-For: 203.0.113.9\r\n\
             X-Forwarded-User: root\r\nX_Forwarded_For: 203.0.113.9\r\nForwarded: for=203.0.113.9\r\nX-Real-IP: 203.0.113.9\r\n\
             Connection: keep-alive, X-Private, X-Forwarded-Host\r\nX-Private: hop\r\nTE: trailers\r\nUpgrade: h2c\r\n\
             Proxy-Authorization: Basic secret\r\nExpect: 100-continue\r\nX-Kept: 1\r\n",
            basic("ann")
        ),
    );
    assert_eq!((response.status, &*response.body), (200, "ok"), "{response:?}");
    assert!(response.head.starts_with("HTTP/1.1 200 Fine\r\n"), "{response:?}");
    for name in ["x-hop", "keep-alive", "gatepost-identity", "access-control-allow-origin"] {
        assert_eq!(response.header(name), None, "{response:?}");
    }
    let set = cookies(&response);
    assert!(set.contains(&"basket=1") && !set.iter().any(|cookie| cookie.contains("evil")), "{set:?}");

    let head = told.recv().expect("a request");
    assert!(head.starts_with("GET /mirror/x?y=1 HTTP/1.1\r\n"), "{head}");
    let mut names: Vec<&str> = head.lines().skip(1).filter_map(|line| line.split_once(": ")).map(|(name, _)| name).collect();
    names.sort_unstable();
    let expected = [
        "authorization",
        "cookie",
        "gatepost-identity",
        "host",
        "via",
        "x-forwarded-for",
        "x-forwarded-host",
        "x-forwarded-proto",
        "x-kept",
    ];
    assert_eq!(names, expected, "{head}");
    let line = |name: &str| head.lines().find_map(|line| line.strip_prefix(&format!("{name}: "))).expect(name);
    assert_eq!(line("cookie"), "theme=dark");
    assert_eq!(line("host"), service.to_string());
    assert_eq!((line("x-forwarded-for"), line("x-forwarded-proto"), line("x-forwarded-host")), ("127.0.0.1", "http", "localhost"));
    let identity: Value = serde_json::from_str(line("gatepost-identity")).expect("JSON");
    assert_eq!((&identity["preferred_username"], &identity["aud"]), (&"ann".into(), &"mirror".into()), "{identity}");
    assert_eq!(identity["roles"], serde_json::json!(["Editor"]), "{identity}");
    let token = line("authorization").strip_prefix("Bearer ").expect("a token");
    assert_eq!(token.split('.').count(), 3);
}

#[test]
fn what_a_service_is_told_verifies_by_the_published_keys() {
    let (server, _mirror) = mirrored("", "");
    let response = get(&server, "/mirror", &basic("ann"));
    assert!(response.status == 200 && response.body.contains("\nby "), "{response:?}");
    // The mirror answers 401 to whatever the gate has not signed for it, and lets nobody in as nobody here.
    assert!(!response.body.contains("by nobody"), "{response:?}");
}

#[test]
fn bodies_pass_piece_by_piece_and_memory_stays_flat() {
    const PIECE: usize = 64 * 1024;
    const PIECES: usize = 1024;
    let (server, _mirror) = mirrored("anyone = [\"*\"]", "");
    get(&server, "/mirror", "");
    let before = server.memory();
    server.forget_peak();
    for sized in [true, false] {
        let mut stream = dial(&server);
        let length = if sized { format!("Content-Length: {}", PIECE * PIECES) } else { "Transfer-Encoding: chunked".to_owned() };
        write!(stream, "POST /mirror/copy HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{length}\r\n\r\n")
            .expect("it is read");
        let mut writing = stream.try_clone().expect("a socket");
        let writer = std::thread::spawn(move || {
            let piece = vec![b'x'; PIECE];
            for _ in 0..PIECES {
                if !sized {
                    write!(writing, "{PIECE:x}\r\n").expect("it is read");
                }
                writing.write_all(&piece).expect("it is read");
                if !sized {
                    writing.write_all(b"\r\n").expect("it is read");
                }
            }
            if !sized {
                writing.write_all(b"0\r\n\r\n").expect("it is read");
            }
        });
        assert!(head(&mut stream).starts_with("HTTP/1.1 200 "));
        let (mut count, mut buffer) = (0, vec![0; PIECE]);
        loop {
            match stream.read(&mut buffer).expect("more of it") {
                0 => break,
                read => count += buffer[..read].iter().filter(|byte| **byte == b'x').count(),
            }
        }
        writer.join().expect("all of it was read");
        assert_eq!(count, PIECE * PIECES, "sized: {sized}");
    }
    let grown = server.peak().saturating_sub(before);
    assert!(grown < 8 * 1024 * 1024, "{grown} bytes more");
}

#[test]
fn who_takes_nothing_of_an_answer_costs_little_and_gives_up_its_place() {
    let (server, _mirror) = mirrored("anyone = [\"*\"]\nidle = \"1s\"\nmax_in_flight = 1", "");
    get(&server, "/mirror", "");
    let before = server.memory();
    let mut deaf = dial(&server);
    deaf.write_all(b"GET /mirror/flood HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("it is read");
    assert!(head(&mut deaf).starts_with("HTTP/1.1 200 "));
    let full = get(&server, "/mirror.json", "");
    assert_eq!((full.status, full.body.contains("ServiceUnavailable")), (503, true), "{full:?}");
    until("the place is free again", || get(&server, "/mirror", "").status == 200);
    let grown = server.memory().saturating_sub(before);
    assert!(grown < 4 * 1024 * 1024, "{grown} bytes more");
}

#[test]
fn an_answer_that_stops_in_the_middle_is_no_whole_answer() {
    let (server, _mirror) = mirrored("anyone = [\"*\"]\nidle = \"500ms\"", "");
    let mut stream = dial(&server);
    stream.write_all(b"GET /mirror/half HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("it is read");
    let mut all = Vec::new();
    stream.read_to_end(&mut all).ok();
    let text = String::from_utf8_lossy(&all);
    assert!(text.starts_with("HTTP/1.1 200 ") && text.contains("transfer-encoding: chunked"), "{} bytes", all.len());
    assert!(!all.ends_with(b"0\r\n\r\n"), "it was cut off, and not ended");
}

#[test]
fn a_service_that_is_gone_or_slow_is_told_so_and_found_again() {
    let mut mirror = Mirror::new();
    let server = before(mirror.address(), "anyone = [\"*\"]\nanswer = \"300ms\"", "");
    // It has a port, and nobody takes what comes there.
    let slow = get(&server, "/mirror.json", "");
    assert_eq!(slow.status, 504, "{slow:?}");
    assert!(slow.body.contains("\"ErrorCode\":\"GatewayTimeout\""), "{slow:?}");
    mirror.serve(server.http());
    assert_eq!(get(&server, "/mirror.json", "").status, 200);
    assert_eq!(get(&server, "/mirror/slow.xml", "").status, 200, "the name of a format is a part of the path for it");
    let slow = get(&server, "/mirror/slow", "Accept: application/xml\r\n");
    assert!(slow.status == 504 && slow.body.contains("<ErrorCode>GatewayTimeout</ErrorCode>"), "{slow:?}");
    mirror.stop();
    let gone = get(&server, "/mirror.json", "");
    assert!(gone.status == 502 && gone.body.contains("\"ErrorCode\":\"BadGateway\""), "{gone:?}");
    let said = server.log().matches("does not answer").count();
    assert!(said >= 2, "{}", server.log());
}

#[test]
fn a_service_that_speaks_no_http_or_hangs_up_is_gone() {
    for answer in ["", "nonsense\r\n\r\n", "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n"] {
        let service = service(move |_, mut stream| {
            stream.write_all(answer.as_bytes()).ok();
        });
        let server = before(service, "anyone = [\"*\"]", "");
        let response = get(&server, "/mirror.json", "");
        assert_eq!(response.status, 502, "{answer:?}: {response:?}");
    }
}

#[test]
fn who_leaves_takes_the_request_along() {
    let (tell, told) = mpsc::channel();
    let service = service(move |head, mut stream| {
        if head.contains("/answered") {
            stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n").ok();
        }
        tell.send("asked").ok();
        let mut rest = Vec::new();
        // Until the gate hangs up.
        stream.read_to_end(&mut rest).ok();
        tell.send("left").ok();
    });
    let server = before(service, "anyone = [\"*\"]", "");
    for path in ["/mirror/waits", "/mirror/answered"] {
        let mut stream = dial(&server);
        write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("it is read");
        assert_eq!(told.recv_timeout(LIMIT), Ok("asked"), "{path}");
        if path.ends_with("answered") {
            assert!(head(&mut stream).starts_with("HTTP/1.1 200 "));
        }
        assert_eq!(told.try_recv().ok(), None, "{path}");
        stream.shutdown(Shutdown::Both).expect("a socket");
        drop(stream);
        assert_eq!(told.recv_timeout(Duration::from_secs(10)), Ok("left"), "{path}");
    }
}

#[test]
fn a_body_longer_than_the_service_takes_is_refused_however_it_is_sent() {
    let (server, _mirror) = mirrored("anyone = [\"*\"]\nmax_body = 100", "");
    let send = |more: String| http(server.http(), 0, &format!("POST /mirror/a.json HTTP/1.1\r\nHost: localhost\r\n{more}"));
    let sized = send(format!("Content-Length: 101\r\n\r\n{}", "x".repeat(101)));
    assert_eq!(sized.status, 413, "{sized:?}");
    let chunked = send(format!("Transfer-Encoding: chunked\r\n\r\n65\r\n{}\r\n0\r\n\r\n", "x".repeat(101)));
    assert_eq!(chunked.status, 413, "{chunked:?}");
    let most = send(format!("Transfer-Encoding: chunked\r\n\r\n64\r\n{}\r\n0\r\n\r\n", "x".repeat(100)));
    assert!(most.status == 200 && most.body.ends_with(&"x".repeat(100)), "{most:?}");
    // Of two lengths one counts, and the service is not told the other.
    let both = send("Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n".to_owned());
    assert!(both.status == 400 || (both.status == 200 && both.body.ends_with("\n\nhello")), "{both:?}");
    assert!(!both.body.contains("content-length: 3"), "{both:?}");
}

#[test]
fn a_token_that_is_over_is_renewed_on_the_way_to_the_service() {
    let (server, _mirror) = mirrored("", "[session]\naccess_life = \"1s\"");
    let fields = logged_in(&server, "");
    let token = |text: &str| text.split_once("ss-tok=").and_then(|(_, rest)| rest.split([';', '\r']).next()).map(str::to_owned);
    let first = token(&fields).expect("a token");
    std::thread::sleep(Duration::from_millis(2100));
    let response = get(&server, "/mirror", &fields);
    assert_eq!(response.status, 200, "{response:?}");
    let set = cookies(&response).join("; ");
    assert!(token(&set).is_some_and(|second| second != first && !second.is_empty()), "{response:?}");
    assert!(!response.body.contains("ss-tok") && !response.body.contains("ss-reftok"), "{response:?}");
    let alone = format!("Cookie: ss-tok={first}\r\nAccept: application/json\r\n");
    let over = get(&server, "/mirror", &alone);
    assert!(over.status == 401 && over.body.contains("Token has expired"), "{over:?}");
}

#[test]
fn whoever_was_disabled_does_not_come_through_by_anything() {
    let (server, _mirror) = mirrored("", "");
    let key = server.operator(&["apikey", "add", "ann", "--json"], "").json();
    let session = logged_in(&server, ",\"Meta\":{\"ignore\":\"jwt\"}");
    let tokens = logged_in(&server, "");
    let refresh = tokens.split("; ").find(|pair| pair.contains("ss-reftok=")).expect("a refresh token").trim().to_owned();
    let refresh = format!("Cookie: {}\r\n", refresh.trim_start_matches("Cookie: "));
    let key = key["key"].as_str().expect("a key");
    let shown = [session, tokens, refresh, format!("Authorization: Bearer {key}\r\n"), basic("ann")];
    for fields in &shown {
        assert_eq!(get(&server, "/mirror.json", fields).status, 200, "{fields}");
    }
    server.operator(&["user", "disable", "ann"], "").ok();
    for fields in &shown {
        let response = get(&server, "/mirror.json", fields);
        assert_eq!(response.status, 401, "{fields}: {response:?}");
    }
}

#[test]
fn one_source_leaves_room_for_others_and_gives_its_own_back() {
    let (server, _mirror) = mirrored("anyone = [\"*\"]\nmax_in_flight = 8", "");
    let uploading = |source: u16| {
        let mut peer = Peer::dial(server.http(), source);
        peer.write(b"POST /mirror HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nx");
        peer
    };
    let from = |source: u16| http(server.http(), source, "GET /mirror.json HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let mut held = Vec::new();
    // Each but the first may come while another has not given its place back yet.
    until("a quarter is one source's", || {
        held.push(uploading(1));
        from(1).status == 503
    });
    let full = from(1);
    assert_eq!(full.header("retry-after"), Some("1"), "{full:?}");
    let others = from(2);
    assert_eq!(others.status, 200, "{others:?}");
    drop(held);
    until("its places are free again", || from(1).status == 200);
    assert_eq!(server.log().matches("has as many requests as it may").count(), 1, "{}", server.log());
}

#[test]
fn a_peer_that_sends_a_byte_at_a_time_is_not_waited_for_without_end() {
    let (server, _mirror) = mirrored("anyone = [\"*\"]", "");
    let mut stream = dial(&server);
    stream.set_read_timeout(Some(Duration::from_secs(6))).expect("a socket");
    write!(stream, "POST /mirror.json HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n").expect("it is read");
    let begun = gatepost_identity::clock::system_instant();
    let mut first = [0; 12];
    while stream.read_exact(&mut first).is_err() {
        assert!(begun.elapsed() < LIMIT, "it is still waited for");
        stream.write_all(b"x").expect("it is read");
    }
    assert_eq!(&first, b"HTTP/1.1 408", "{:?}", begun.elapsed());
}

#[test]
fn a_peer_that_breaks_its_body_is_told_so_and_the_service_is_not_blamed() {
    let (server, _mirror) = mirrored("anyone = [\"*\"]", "");
    let broken = ["zz\r\n".to_owned(), format!("5;{}\r\nhello\r\n", "x".repeat(20_000))];
    for body in &broken {
        let sent = format!("POST /mirror.json HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n{body}");
        let response = http(server.http(), 0, &sent);
        assert_eq!(response.status, 400, "{response:?}");
    }
    let coded = "POST /mirror.json HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n";
    let response = http(server.http(), 0, coded);
    assert_eq!(response.status, 400, "{response:?}");
    assert_eq!(get(&server, "/mirror", "").status, 200);
    let log = server.log();
    assert!(!log.contains("does not answer") && !log.contains("answers again"), "{log}");
}

#[test]
fn a_body_in_chunks_goes_on_whatever_the_verb() {
    let (server, _mirror) = mirrored("anyone = [\"*\"]", "");
    for (verb, more) in [("GET", ""), ("POST", "X-Http-Method-Override: GET\r\n")] {
        let head = format!("{verb} /mirror/a HTTP/1.1\r\nHost: localhost\r\n{more}Transfer-Encoding: chunked\r\n\r\n");
        let response = http(server.http(), 0, &format!("{head}5\r\nhello\r\n0\r\n\r\n"));
        assert!(response.status == 200 && response.body.ends_with("\n\nhello"), "{verb}: {response:?}");
    }
}

#[test]
fn the_operators_secret_opens_a_service_and_goes_no_further() {
    use std::os::unix::fs::PermissionsExt;
    const SECRET: &str = "an-operator-secret-of-thirty-two-bytes-and-more";
    let mut mirror = Mirror::new();
    let home = Home::with_ann("");
    let file = home.file("authsecret");
    std::fs::write(&file, SECRET).expect("a file");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).expect("its mode");
    home.write_settings(&format!(
        "{CHEAP}[[provider]]\nname = \"local\"\nkind = \"local\"\n\
         [[provider]]\nname = \"operator\"\nkind = \"secret\"\nfile = {file:?}\n[servicestack]\nclient = \"app\"\n\
         [[servicestack.service]]\npath = \"/mirror\"\nupstream = \"http://{}\"\naudience = \"mirror\"\n\
         asks = [{{ roles = [\"Nobody\"], permissions = [\"None\"] }}]\n",
        mirror.address()
    ));
    let server = Server::of(home);
    mirror.serve(server.http());
    let response = get(&server, "/mirror/a", &format!("authsecret: {SECRET}\r\n"));
    assert!(response.status == 200 && !response.body.contains("by nobody"), "{response:?}");
    assert!(response.body.contains("\"sub\":\"0\"") || response.body.contains("by 0"), "{response:?}");
    assert!(!response.body.contains(SECRET), "{response:?}");
    assert_eq!(get(&server, "/mirror/a.json", "authsecret: wrong\r\n").status, 401);
}
