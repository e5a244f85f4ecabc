//! Requests that two readers could cut in two ways, and names of header fields that are almost others: what the listener takes for
//! one request, and for one name.

use crate::harness::{CHEAP, PASSWORD, Server};
use crate::peer::Peer;

const OPEN: &str = "servicestack.client = \"app\"\n";
/// A second request, as somebody would hide it in the body of a first: its answer is known by its status.
const HIDDEN: &str = "GET /nowhere HTTP/1.1\r\nHost: localhost\r\n\r\n";

/// The statuses of all answers to these bytes; the server hangs up behind the last.
fn statuses(server: &Server, bytes: &str) -> Vec<u16> {
    let mut peer = Peer::dial(server.http(), 0);
    peer.write_if_read(bytes.as_bytes());
    let told = String::from_utf8(peer.hung_up()).expect("text");
    let lines = told.split("HTTP/1.1 ").skip(1);
    lines.map(|line| line.get(..3).and_then(|status| status.parse().ok()).expect("a status")).collect()
}

#[test]
fn s17_what_could_be_taken_for_two_requests_is_refused() {
    let server = Server::start(&format!("{OPEN}{CHEAP}"));
    let post = |fields: &str, body: &str| {
        format!("POST /auth.json HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n{fields}\r\n{body}")
    };
    let rows = [
        ("two lengths", post("Content-Length: 2\r\nContent-Length: 40\r\n", &format!("{{}}{HIDDEN}"))),
        ("two lengths in one", post("Content-Length: 2, 40\r\n", &format!("{{}}{HIDDEN}"))),
        ("a length with a sign", post("Content-Length: +2\r\n", &format!("{{}}{HIDDEN}"))),
        ("a length in hexadecimal", post("Content-Length: 0x2\r\n", &format!("{{}}{HIDDEN}"))),
        ("a length below zero", post("Content-Length: -1\r\n", HIDDEN)),
        ("a coding that is not the last", post("Transfer-Encoding: chunked, gzip\r\n", &format!("0\r\n\r\n{HIDDEN}"))),
        ("a coding nobody knows", post("Transfer-Encoding: xchunked\r\n", &format!("0\r\n\r\n{HIDDEN}"))),
        (
            "a coding in an old version",
            post("Transfer-Encoding: chunked\r\n", &format!("0\r\n\r\n{HIDDEN}"))
                .replace("auth.json HTTP/1.1", "auth.json HTTP/1.0"),
        ),
        ("a blank before the colon", post("Content-Length : 2\r\n", &format!("{{}}{HIDDEN}"))),
        ("a line that goes on", post("Content-Length:\r\n 2\r\n", &format!("{{}}{HIDDEN}"))),
        ("a chunk whose size is none", post("Transfer-Encoding: chunked\r\n", &format!("x\r\n\r\n{HIDDEN}"))),
        ("a chunk of more bytes than there are", post("Transfer-Encoding: chunked\r\n", &format!("fffffffffffffffff\r\n{HIDDEN}"))),
        ("a chunk with a sign", post("Transfer-Encoding: chunked\r\n", &format!("+2\r\n{{}}\r\n0\r\n\r\n{HIDDEN}"))),
        ("a bare carriage return", post("X-A: b\rContent-Length: 2\r\n", &format!("{{}}{HIDDEN}"))),
        ("a zero byte", post("X-A: b\0\r\n", HIDDEN)),
        ("the same length twice", post("Content-Length: 2\r\nContent-Length: 2\r\n", &format!("{{}}{HIDDEN}"))),
        ("a length before a coding", post("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", &format!("0\r\n\r\n{HIDDEN}"))),
        ("a length behind a coding", post("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", &format!("0\r\n\r\n{HIDDEN}"))),
        ("another coding before chunks", post("Transfer-Encoding: gzip, chunked\r\n", &format!("2\r\n{{}}\r\n0\r\n\r\n{HIDDEN}"))),
        ("chunks twice", post("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", &format!("0\r\n\r\n{HIDDEN}"))),
        ("a blank behind the size of a chunk", post("Transfer-Encoding: chunked\r\n", &format!("2 \r\n{{}}\r\n0\r\n\r\n{HIDDEN}"))),
        ("a line feed in an extension", post("Transfer-Encoding: chunked\r\n", &format!("2;\n{{}}\r\n0\r\n\r\n{HIDDEN}"))),
        (
            "a line feed in an extension that goes on",
            post("Transfer-Encoding: chunked\r\n", &format!("2;\nXX\r\n{{}}\r\n0\r\n\r\n{HIDDEN}")),
        ),
        (
            "a line feed in the last extension",
            post("Transfer-Encoding: chunked\r\n", &format!("2\r\n{{}}\r\n0;\nX\r\n\r\n{HIDDEN}")),
        ),
        ("a line feed in a trailer", post("Transfer-Encoding: chunked\r\n", &format!("0\r\nX: y\nZ\r\n\r\n{HIDDEN}"))),
        ("a chunk that is longer than it says", post("Transfer-Encoding: chunked\r\n", &format!("1\r\n{{}}\r\n0\r\n\r\n{HIDDEN}"))),
        ("a trailer that ends with a line feed", post("Transfer-Encoding: chunked\r\n", &format!("0\r\nX: y\n\r\n{HIDDEN}"))),
        ("lines that end with a line feed alone", post("Content-Length: 2\r\n", "{}").replace("\r\n", "\n")),
        ("one line that does", post("X-A: b\nContent-Length: 2\r\n", &format!("{{}}{HIDDEN}"))),
        ("two hosts", post("Host: localhost\r\n", HIDDEN)),
        ("a host that is two", post("", HIDDEN).replacen("localhost", "localhost, other", 1)),
        ("no host", post("", HIDDEN).replacen("Host: localhost\r\n", "", 1)),
        ("a target elsewhere", post("", HIDDEN).replacen("/auth.json", "http://other/auth.json", 1)),
        ("two authorizations", post("Authorization: Basic YTpi\r\nAuthorization: Basic YTpj\r\n", HIDDEN)),
        ("two kinds of content", post("Content-Type: text/csv\r\n", HIDDEN)),
        (
            "an upgrade that is none",
            post("Upgrade: h2c\r\nContent-Length: 0\r\n", HIDDEN).replace("POST /auth.json", "GET /elsewhere"),
        ),
        ("a header of 20 kB", post(&format!("X-A: {}\r\n", "x".repeat(20_000)), HIDDEN)),
    ];
    for (what, bytes) in rows {
        let told = statuses(&server, &bytes);
        // An upgrade to what nobody speaks here is answered, and is the last request of its connection.
        let expected: &[u16] = if what == "an upgrade that is none" { &[404] } else { &[400, 431] };
        assert!(told.len() == 1 && expected.contains(&told[0]), "{what}: {told:?}");
    }
}

#[test]
fn what_is_two_requests_is_two() {
    let server = Server::start(&format!("{OPEN}{CHEAP}"));
    let second = HIDDEN.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n");
    let post = |fields: &str, body: &str| {
        format!("POST /auth.json HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n{fields}\r\n{body}{second}")
    };
    let rows = [
        ("a length", post("Content-Length: 2\r\n", "{}")),
        ("chunks", post("Transfer-Encoding: chunked\r\n", "2\r\n{}\r\n0\r\n\r\n")),
        ("chunks that say more of themselves", post("Transfer-Encoding: chunked\r\n", "2;a=\"b\"\r\n{}\r\n0\r\n\r\n")),
        ("chunks and a trailer", post("Transfer-Encoding: chunked\r\n", "2\r\n{}\r\n0\r\nX-ss-id: x\r\n\r\n")),
        ("an empty line before", format!("\r\n{}", post("Content-Length: 2\r\n", "{}"))),
        ("a target with its own host", post("Content-Length: 2\r\n", "{}").replacen("/auth.json", "http://localhost/auth.json", 1)),
    ];
    for (what, bytes) in rows {
        assert_eq!(statuses(&server, &bytes), [401, 404], "{what}");
    }
}

/// Only the very name counts: what a proxy or a gateway might take for the same is another name here.
#[test]
fn s18_a_name_that_is_almost_one_that_is_trusted_is_another() {
    let server = Server::with_ann(&format!("{OPEN}{CHEAP}[proxy]\ntrusted = [\"127.7.0.1\"]\nfields = \"x-forwarded\"\n"));
    let ask = |source: u16, fields: &str| {
        let request = format!("GET /auth.json HTTP/1.1\r\nHost: localhost\r\n{fields}Connection: close\r\n\r\n");
        let mut peer = Peer::dial(server.http(), source);
        peer.write_if_read(request.as_bytes());
        String::from_utf8(peer.hung_up()).expect("text")
    };
    let basic = base64_of(&format!("ann:{PASSWORD}"));
    assert!(ask(0, &format!("Authorization: Basic {basic}\r\n")).contains("\"UserId\":\"ann\""), "the name itself counts");
    for name in ["Authorization_", "X-Authorization", "Proxy-Authorization", "Authorizatio\u{432}n", "\tAuthorization"] {
        let told = ask(0, &format!("{name}: Basic {basic}\r\n"));
        assert!(!told.contains("UserId"), "{name}: {told}");
    }
    for name in ["Authorization ", "Authorization\t", " Authorization"] {
        let told = ask(0, &format!("X-A: b\r\n{name}: Basic {basic}\r\n"));
        assert!(!told.contains("UserId"), "{name:?}: {told}");
    }
    // A cookie is marked for secured connections only where one is: by a trusted proxy's word, in its own spelling.
    let is_secure = |source: u16, field: &str| {
        let told = ask(source, &format!("X-Forwarded-For: 192.0.2.7\r\n{field}: https\r\n"));
        told.contains("set-cookie: ss-id=") && told.contains("; secure")
    };
    assert!(is_secure(1, "X-Forwarded-Proto"));
    for (source, field) in [(2, "X-Forwarded-Proto"), (1, "X_Forwarded_Proto"), (1, "X-Forwarded_Proto"), (1, "XForwardedProto")] {
        assert!(!is_secure(source, field), "{source} {field}");
    }
}

/// Whoever asks how we are, or says that somebody else has let it pass, is asked who it is as everybody is.
#[test]
fn s19_no_field_opens_what_only_a_proof_does() {
    let server = Server::start(&format!("{OPEN}{CHEAP}[proxy]\ntrusted = [\"127.7.0.1\"]\nfields = \"x-forwarded\"\n"));
    let fields = [
        "User-Agent: kube-probe/1.30",
        "User-Agent: ELB-HealthChecker/2.0",
        "User-Agent: GoogleHC/1.0",
        "X-Forwarded-Uri: /ping",
        "X-Forwarded-Method: OPTIONS",
        "X-Original-URL: /ping",
        "X-Rewrite-URL: /ping",
        "X-Original-Method: OPTIONS",
        "X-HTTP-Method-Override: OPTIONS",
        "X-Forwarded-User: ann",
        "X-Remote-User: ann",
        "Gatepost-Identity: {\"sub\":\"ann\"}",
    ];
    for source in [0, 1] {
        for field in fields {
            let request = format!("GET /auth.json HTTP/1.1\r\nHost: localhost\r\n{field}\r\nConnection: close\r\n\r\n");
            let mut peer = Peer::dial(server.http(), source);
            peer.write(request.as_bytes());
            let told = String::from_utf8(peer.hung_up()).expect("text");
            // One of these does say another verb, and for that one there is nothing either.
            let refused = ["HTTP/1.1 401 ", "HTTP/1.1 405 "].iter().any(|start| told.starts_with(start));
            assert!(refused && !told.contains("UserId"), "{source} {field}: {told}");
        }
    }
}

fn base64_of(text: &str) -> String {
    base64::Engine::encode(&base64::engine::general_purpose::STANDARD, text)
}
