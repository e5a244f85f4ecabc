//! The WebSocket layer by itself, without a gate: what conformance suites are run against, held to the same cases in short.

use std::net::SocketAddr;
use std::sync::{Arc, mpsc};

use gatepost::clock::RealClock;
use gatepost_protocols::mount::Mount;

use crate::peer::{BINARY, CLOSE, Frame, PING, PONG, Peer, TEXT, frame, handshake, raw_frame};

#[path = "../../../examples/echo.rs"]
#[expect(dead_code, reason = "here a test takes the place of the example's `main`")]
pub(crate) mod example;

const FIN: u8 = 0x80;
const CONTINUATION: u8 = 0;
/// The longest message of these tests.
const LONGEST: usize = 1024 * 1024;

/// The example, on a port and a runtime of its own, until it is dropped.
struct Echo {
    address: SocketAddr,
    _runtime: tokio::runtime::Runtime,
}

impl Echo {
    fn start() -> Echo {
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        let (bound, address) = mpsc::channel();
        runtime.spawn(async move {
            let listener = gatepost::listen::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.expect("a free port");
            bound.send(listener.local_addr().expect("its address")).expect("the test waits");
            let mount = Mount::new("/", example::Door { max_message: LONGEST });
            example::serve(listener, example::site(mount, Arc::new(RealClock)).await.expect("a core")).await;
            panic!("it serves no more");
        });
        Echo { address: address.recv().expect("it listens"), _runtime: runtime }
    }

    fn connect(&self) -> Peer {
        let (peer, response) = Peer::request(self.address, 0, &handshake("/", "")).expect("101");
        assert_eq!(response.header("sec-websocket-protocol"), None, "{response:?}");
        peer
    }
}

/// Printable, and no two neighbouring stretches alike.
fn payload(length: usize) -> Vec<u8> {
    (0..length).map(|index| b' ' + (index % 89) as u8).collect()
}

#[test]
fn messages_of_every_length_form_come_back_as_they_were() {
    let echo = Echo::start();
    let mut peer = echo.connect();
    for opcode in [TEXT, BINARY] {
        for length in [0, 1, 125, 126, 127, 128, 65535, 65536, 65537, LONGEST] {
            let payload = payload(length);
            peer.write(&frame(opcode, &payload));
            let answer = peer.frame().expect("an echo");
            assert!(answer == Frame { opcode, payload }, "opcode {opcode}, {length} bytes");
        }
    }
    peer.write(&frame(BINARY, b"\x00\xFF\xC3\x28"));
    assert_eq!(peer.frame(), Some(Frame { opcode: BINARY, payload: b"\x00\xFF\xC3\x28".to_vec() }));
    let text = "κόσμε \u{0} \u{7FF} \u{FFFF} \u{10FFFF}".as_bytes();
    peer.write(&frame(TEXT, text));
    assert_eq!(peer.frame(), Some(Frame { opcode: TEXT, payload: text.to_vec() }));
}

#[test]
fn fragments_come_back_as_one_message_and_pings_between_them_are_answered_first() {
    let echo = Echo::start();
    let mut peer = echo.connect();
    for (opcode, size) in [(TEXT, 1), (TEXT, 1000), (BINARY, 1), (BINARY, 1000)] {
        let payload = payload(10 * size);
        let mut parts = payload.chunks(size);
        let mut bytes = raw_frame(opcode, true, parts.next().expect("a first part"));
        for (number, part) in parts.enumerate() {
            bytes.extend(frame(PING, &[number as u8]));
            bytes.extend(raw_frame(if number == 8 { FIN | CONTINUATION } else { CONTINUATION }, true, part));
        }
        peer.write(&bytes);
        for number in 0..9 {
            assert_eq!(peer.frame(), Some(Frame { opcode: PONG, payload: vec![number] }), "opcode {opcode}, parts of {size}");
        }
        assert_eq!(peer.frame(), Some(Frame { opcode, payload }));
    }
    // The first part, a middle one and the last may be empty.
    let parts = [raw_frame(TEXT, true, b""), raw_frame(CONTINUATION, true, b""), raw_frame(FIN | CONTINUATION, true, b"")];
    peer.write(&parts.concat());
    assert_eq!(peer.frame(), Some(Frame { opcode: TEXT, payload: Vec::new() }));
}

#[test]
fn a_close_is_answered_with_its_code_after_what_came_before_it() {
    let echo = Echo::start();
    for code in [1000_u16, 1001, 1003, 1007, 1011, 3000, 4999] {
        let mut peer = echo.connect();
        let close = [&code.to_be_bytes()[..], b"goodbye"].concat();
        peer.write(&[frame(TEXT, b"last words"), frame(CLOSE, &close)].concat());
        assert_eq!(peer.frame(), Some(Frame { opcode: TEXT, payload: b"last words".to_vec() }));
        let answer = peer.frame().expect("a close");
        assert_eq!((answer.opcode, answer.payload.get(..2)), (CLOSE, Some(&code.to_be_bytes()[..])));
        peer.ended();
    }
}

#[test]
fn what_no_peer_may_send_is_closed_with_its_code() {
    let echo = Echo::start();
    let check = |what: &str, bytes: &[u8], code: u16| {
        let mut peer = echo.connect();
        peer.write_if_read(bytes);
        assert_eq!(peer.told_to_close().0, code, "{what}");
    };
    check("a reserved bit", &raw_frame(FIN | 0x40 | TEXT, true, b"x"), 1002);
    check("a continuation of nothing", &raw_frame(FIN | CONTINUATION, true, b"x"), 1002);
    check("text that is no UTF-8", &frame(TEXT, b"\xCE\xBA\xED\xA0\x80"), 1007);
    check("one byte too many", &frame(BINARY, &vec![0; LONGEST + 1]), 1009);
    for code in [0_u16, 999, 1004, 1005, 1006, 1015, 2999] {
        check(&format!("close code {code}"), &frame(CLOSE, &code.to_be_bytes()), 1002);
    }
    check("a close whose reason is no UTF-8", &frame(CLOSE, b"\x03\xE8\xCE\xBA\xED\xA0\x80"), 1007);
}
