//! What a connection makes of frames: broken ones, large ones, many at once, and none at all.

use std::time::Duration;

use gatepost_identity::clock::system_instant;
use serde_json::{Value, json};

use crate::harness::{CHEAP, PASSWORD, Server};
use crate::peer::{BINARY, CLOSE, Frame, PING, PONG, Peer, TEXT, frame, handshake, owner, raw_frame};

const FIN: u8 = 0x80;
/// A request that fits a frame, and needs no right.
const QUERY: &[u8] = br#"{"Controller":"Auth","Topic":"QueryIdentify","TransactionID":1}"#;

#[test]
fn broken_frames_close_with_1002() {
    let server = Server::start(CHEAP);
    let check = |what: &str, bytes: &[u8]| {
        let mut peer = server.connect();
        peer.write(bytes);
        assert_eq!(peer.told_to_close().0, 1002, "{what}");
    };
    check("unmasked", &raw_frame(FIN | TEXT, false, QUERY));
    check("reserved opcode 3", &raw_frame(FIN | 3, true, QUERY));
    check("reserved opcode 11", &raw_frame(FIN | 11, true, b""));
    for bit in [0x40, 0x20, 0x10] {
        check("reserved bit", &raw_frame(FIN | bit | TEXT, true, QUERY));
    }
    check("fragmented ping", &raw_frame(PING, true, b"x"));
    check("ping of 126 bytes", &raw_frame(FIN | PING, true, &[b'x'; 126]));
    check("continuation of nothing", &raw_frame(FIN, true, QUERY));
    check("a message within a message", &[raw_frame(TEXT, true, QUERY), frame(TEXT, QUERY)].concat());
    check("a close of one byte", &raw_frame(FIN | CLOSE, true, &[3]));
}

#[test]
fn a_connection_that_broke_ends_as_soon_as_its_close_was_answered() {
    let server = Server::start(CHEAP);
    // What cannot be read as frames, and what can.
    for broken in [raw_frame(FIN | TEXT, false, QUERY), frame(TEXT, b"[]")] {
        let mut peer = server.connect();
        peer.write(&broken);
        let began = system_instant();
        peer.closed();
        // RFC 6455 section 7.1.1: the server closes first, and at once.
        assert!(began.elapsed() < Duration::from_secs(4), "it took {:?}", began.elapsed());
    }
}

#[test]
fn what_is_no_packet_closes_with_1007() {
    let server = Server::start(CHEAP);
    let check = |what: &str, bytes: &[u8]| {
        let mut peer = server.connect();
        peer.write(bytes);
        assert_eq!(peer.told_to_close().0, 1007, "{what}");
    };
    check("bad UTF-8", &frame(TEXT, b"{\"Controller\":\"\xFF\"}"));
    check("bad UTF-8 over two fragments", &[raw_frame(TEXT, true, b"\"\xC3"), raw_frame(FIN, true, b"\x28\"")].concat());
    check("an overlong form", &frame(TEXT, b"\"\xC0\xAF\""));
    check("not JSON", &frame(TEXT, b"{Controller:\"Auth\"}"));
    check("not an object", &frame(TEXT, b"[]"));
    check("nothing", &frame(TEXT, b""));
    check(
        "a TransactionID that is no number",
        &frame(TEXT, br#"{"Controller":"Auth","Topic":"QueryIdentify","TransactionID":"1"}"#),
    );
    check("binary", &frame(BINARY, QUERY));
}

#[test]
fn a_letter_may_be_split_between_fragments_and_pings_may_come_between() {
    let server = Server::start(CHEAP);
    let mut peer = server.connect();
    let text = r#"{"Controller":"Auth","Topic":"QueryIdentify","Zoë":"ë","TransactionID":1}"#.as_bytes();
    let cut = text.iter().position(|byte| *byte == 0xC3).unwrap() + 1;
    peer.write(&raw_frame(TEXT, true, &text[..cut]));
    peer.write(&frame(PING, b"between"));
    peer.write(&raw_frame(FIN, true, &text[cut..]));
    assert_eq!(peer.frame(), Some(Frame { opcode: PONG, payload: b"between".to_vec() }));
    assert_eq!(peer.next()["Data"], json!({"Result": "Reject"}));
}

#[test]
fn a_message_of_2_mib_in_one_frame_closes_with_1009() {
    let server = Server::start(CHEAP);
    let mut peer = server.connect();
    peer.write_if_read(&frame(TEXT, &vec![b' '; 2 * 1024 * 1024]));
    assert_eq!(peer.told_to_close().0, 1009);
}

#[test]
fn a_message_of_2_mib_in_a_thousand_fragments_closes_with_1009() {
    let server = Server::start(CHEAP);
    let mut peer = server.connect();
    let part = vec![b' '; 2 * 1024];
    peer.write_if_read(&raw_frame(TEXT, true, &part));
    for _ in 0..998 {
        peer.write_if_read(&raw_frame(0, true, &part));
    }
    peer.write_if_read(&raw_frame(FIN, true, &part));
    assert_eq!(peer.told_to_close().0, 1009);
}

#[test]
fn who_reads_only_after_sending_16_mib_still_finds_the_1009() {
    let server = Server::start(CHEAP);
    let mut peer = server.connect();
    peer.write(&frame(TEXT, &vec![b' '; 16 * 1024 * 1024]));
    assert_eq!(peer.closed().0, 1009);
}

#[test]
fn a_message_of_the_longest_size_is_read_and_one_byte_more_is_not() {
    let server = Server::start("[zenith]\nmax_message = 1024\n");
    let padded = |length: usize| {
        let mut text = vec![b' '; length - QUERY.len()];
        text.extend(QUERY);
        frame(TEXT, &text)
    };
    let mut peer = server.connect();
    peer.write(&padded(1024));
    assert_eq!(peer.next()["TransactionID"], 1);
    peer.write(&padded(1025));
    assert_eq!(peer.told_to_close().0, 1009);
}

#[test]
fn a_ping_is_answered_with_its_payload() {
    let server = Server::start(CHEAP);
    let mut peer = server.connect();
    for payload in [&b""[..], b"PING", &[0xFF; 125]] {
        peer.write(&frame(PING, payload));
        assert_eq!(peer.frame(), Some(Frame { opcode: PONG, payload: payload.to_vec() }));
    }
}

#[test]
fn a_close_is_answered_with_its_code() {
    let server = Server::start(CHEAP);
    for payload in [&b"\x03\xE8NoReconnect"[..], b"\x0B\xB8Reconnect_7", b""] {
        let mut peer = server.connect();
        peer.write(&frame(CLOSE, payload));
        let answer = peer.frame().expect("a close");
        assert_eq!((answer.opcode, answer.payload.get(..2)), (CLOSE, payload.get(..2)), "{payload:?}");
        peer.ended();
    }
}

#[test]
fn a_silent_peer_is_pinged_and_then_closed_with_1008() {
    let server = Server::start("[zenith]\nping_every = 1\nsilence = 3\n");
    let mut peer = server.connect();
    let began = system_instant();
    let first = peer.frame().expect("a ping");
    assert_eq!(first.opcode, PING, "{first:?}");
    assert_eq!(peer.closed().0, 1008);
    assert!(began.elapsed() >= Duration::from_secs(2), "it had {:?}", began.elapsed());
}

#[test]
fn a_peer_that_only_answers_pings_stays() {
    let server = Server::start("[zenith]\nping_every = 1\nsilence = 3\n");
    let mut peer = server.connect();
    let end = system_instant() + Duration::from_secs(6);
    while system_instant() < end {
        let ping = peer.frame().expect("a ping");
        assert_eq!(ping.opcode, PING, "{ping:?}");
        peer.write(&frame(PONG, &ping.payload));
    }
    peer.query().rejected();
}

#[test]
fn a_login_and_a_query_in_one_write_are_answered_in_order() {
    let server = Server::with_ann("[password]\nmemory_kib = 65536\niterations = 2\n");
    let mut peer = server.connect();
    let login = json!({"Controller": "Auth", "Topic": "AuthOwner", "TransactionID": 1, "Data": owner("ann", PASSWORD)});
    let query = json!({"Controller": "Auth", "Topic": "QueryIdentify", "TransactionID": 2});
    peer.write(&[frame(TEXT, login.to_string().as_bytes()), frame(TEXT, query.to_string().as_bytes())].concat());
    for transaction in [1, 2] {
        let answer = peer.next();
        assert_eq!((&answer["TransactionID"], &answer["Data"]["Result"]), (&json!(transaction), &json!("Success")), "{answer}");
    }
}

#[test]
fn a_thousand_queries_in_one_write_are_answered_in_order() {
    let server = Server::start(CHEAP);
    let mut peer = server.connect();
    let mut bytes = Vec::new();
    for transaction in 0..1000 {
        let query = json!({"Controller": "Auth", "Topic": "QueryIdentify", "TransactionID": transaction});
        bytes.extend(frame(TEXT, query.to_string().as_bytes()));
    }
    let write = peer.writer();
    let writing = std::thread::spawn(move || write(&bytes));
    let answered: Vec<Value> = (0..1000).map(|_| peer.next()["TransactionID"].take()).collect();
    assert!(answered.iter().enumerate().all(|(number, transaction)| *transaction == number), "{answered:?}");
    writing.join().unwrap();
}

#[test]
fn what_comes_along_with_the_handshake_is_read() {
    let server = Server::start(CHEAP);
    let (mut peer, _) = Peer::request(server.http(), 0, &handshake("/Zenith", "")).expect("101");
    peer.query().rejected();
}

#[test]
fn a_message_may_come_byte_by_byte() {
    let server = Server::start(CHEAP);
    let mut peer = server.connect();
    for byte in frame(TEXT, QUERY) {
        peer.write(&[byte]);
    }
    assert_eq!(peer.next()["Data"], json!({"Result": "Reject"}));
}

#[test]
fn what_was_asked_before_a_close_is_answered_before_it() {
    let server = Server::with_ann(CHEAP);
    let mut peer = server.connect();
    let login = json!({"Controller": "Auth", "Topic": "AuthOwner", "TransactionID": 1, "Data": owner("ann", PASSWORD)});
    peer.write(&[frame(TEXT, QUERY), frame(TEXT, login.to_string().as_bytes()), frame(CLOSE, b"\x03\xE8")].concat());
    assert_eq!(peer.next()["Data"]["Result"], "Reject");
    assert_eq!(peer.next()["Data"]["Result"], "Success");
    let answer = peer.frame().expect("a close");
    assert_eq!((answer.opcode, &answer.payload[..]), (CLOSE, &b"\x03\xE8"[..]));
    peer.ended();
}

#[test]
fn compression_is_declined() {
    let server = Server::start(CHEAP);
    let offer = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n";
    let (mut peer, response) = Peer::request(server.http(), 0, &handshake("/Zenith", offer)).expect("101");
    assert_eq!(response.header("sec-websocket-extensions"), None, "{response:?}");
    peer.query().rejected();
}

#[test]
fn a_request_that_never_ends_is_given_up() {
    let server = Server::start(CHEAP);
    let whole = handshake("/Zenith", "");
    let half = &whole[..whole.len() - 4];
    let mut peer = Peer::dial(server.http(), 0);
    peer.write(half.as_bytes());
    // It may be told why before it ends.
    peer.hung_up();
}

#[test]
fn a_header_that_is_too_long_is_refused() {
    let server = Server::start(CHEAP);
    let long = format!("X-Long: {}\r\n", "x".repeat(64 * 1024));
    let mut peer = Peer::dial(server.http(), 0);
    peer.write_if_read(handshake("/Zenith", &long).as_bytes());
    let told = peer.hung_up();
    assert!(told.is_empty() || told.starts_with(b"HTTP/1.1 4"), "{:?}", String::from_utf8_lossy(&told));
    server.connect().query().rejected();
}

#[test]
fn a_flood_of_header_fields_is_refused() {
    let server = Server::start(CHEAP);
    let many: String = (0..5000).map(|number| format!("X-{number}: y\r\n")).collect();
    for fields in [many.as_str(), &many[..8000]] {
        let mut peer = Peer::dial(server.http(), 0);
        peer.write_if_read(handshake("/Zenith", fields).as_bytes());
        let told = peer.hung_up();
        assert!(told.is_empty() || told.starts_with(b"HTTP/1.1 4"), "{:?}", String::from_utf8_lossy(&told));
    }
    server.connect().query().rejected();
}

#[test]
fn a_peer_that_never_reads_is_given_up_and_costs_little_memory() {
    let server = Server::start(CHEAP);
    let mut peer = server.connect();
    peer.query().rejected();
    let before = server.memory();
    let queries = frame(TEXT, QUERY).repeat(1000);
    // The server stops reading, then hangs up. What is sent until then is far more than it may keep.
    let mut sent = 0;
    while peer.try_write(&queries) {
        sent += queries.len();
        assert!(sent < 1 << 30, "it goes on reading what it cannot answer");
    }
    let grown = server.memory().saturating_sub(before);
    assert!(grown < 8 * 1024 * 1024, "it grew by {grown} bytes");
    server.connect().query().rejected();
}
