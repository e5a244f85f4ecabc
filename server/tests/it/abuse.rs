//! What is sent to exhaust the server or to slip past its readers: it is refused, and the memory that it costs has a bound.

use crate::harness::{CHEAP, PASSWORD, Server};
use crate::peer::{CLOSE, PING, Peer, TEXT, frame, owner, raw_frame};

const FIN: u8 = 0x80;
const CONTINUATION: u8 = 0;
/// What a single peer may cost, however much it sends. The system's pages and the allocator's are in it.
const MOST: u64 = 1024 * 1024;
/// A million bytes, each in a fragment of its own.
const FRAGMENTS: usize = 1_000_000;

/// Sees that what is done costs less memory than this at any moment.
fn costs_little(server: &Server, most: u64, act: impl FnOnce()) {
    server.forget_peak();
    let before = server.memory();
    act();
    let grown = server.peak().saturating_sub(before);
    assert!(grown < most, "it grew by {grown} bytes");
}

/// A server that has seen a connection and a refusal, so that what every server needs is there.
fn warmed(settings: &str) -> Server {
    let server = Server::start(settings);
    let mut peer = server.connect();
    peer.query().rejected();
    peer.write_if_read(&frame(TEXT, &vec![b' '; 2 * 1024 * 1024]));
    peer.told_to_close();
    server
}

#[test]
fn a_message_of_100_mb_closes_with_1009_and_costs_little() {
    let server = warmed(CHEAP);
    let part = vec![b' '; 1000 * 1000];
    for fragmented in [false, true] {
        costs_little(&server, MOST, || {
            let mut peer = server.connect();
            if fragmented {
                peer.write_if_read(&raw_frame(TEXT, true, &part));
                for _ in 0..99 {
                    peer.write_if_read(&raw_frame(CONTINUATION, true, &part));
                }
            } else {
                peer.write_if_read(&frame(TEXT, &part.repeat(100)));
            }
            assert_eq!(peer.told_to_close().0, 1009);
        });
        server.connect().query().rejected();
    }
}

#[test]
fn a_flood_of_pings_whose_answers_are_never_read_costs_little() {
    let server = warmed(&format!("{CHEAP}[zenith]\nunsent_for = 2\n"));
    let pings = frame(PING, &[b'x'; 125]).repeat(500);
    // What it says when it has had enough is lost in the flood; that it has had enough is what counts.
    costs_little(&server, 2 * MOST, || {
        let mut peer = server.connect();
        while peer.try_write(&pings) {}
    });
    server.connect().query().rejected();
}

#[test]
fn a_million_fragments_of_one_byte_cost_no_more_than_the_message_they_make() {
    let query = br#"{"Controller":"Auth","Topic":"QueryIdentify","TransactionID":1}"#;
    let blanks = raw_frame(CONTINUATION, true, b" ").repeat(FRAGMENTS);
    // Beyond the longest message of this server they are too many, within it they are one message.
    let server = warmed(CHEAP);
    costs_little(&server, MOST, || {
        let mut peer = server.connect();
        peer.write_if_read(&raw_frame(TEXT, true, query));
        peer.write_if_read(&blanks);
        assert_eq!(peer.told_to_close().0, 1009);
    });
    let server = warmed("[zenith]\nmax_message = 1048576\n");
    costs_little(&server, 3 * MOST, || {
        let mut peer = server.connect();
        peer.write(&raw_frame(TEXT, true, query));
        peer.write(&blanks);
        peer.write(&raw_frame(FIN | CONTINUATION, true, b" "));
        assert_eq!(peer.next()["TransactionID"], 1);
    });
    // Those without a byte make no message longer.
    costs_little(&server, MOST, || {
        let mut peer = server.connect();
        peer.write(&raw_frame(TEXT, true, query));
        peer.write(&raw_frame(CONTINUATION, true, b"").repeat(FRAGMENTS));
        peer.write(&raw_frame(FIN | CONTINUATION, true, b""));
        assert_eq!(peer.next()["TransactionID"], 1);
    });
}

/// Ten megabytes of zeros, compressed to a message that is within every limit: one literal, then the longest match there is,
/// again and again, in a block of fixed codes (RFC 1951 section 3.2.6).
fn bomb() -> Vec<u8> {
    let mut bits: Vec<bool> = vec![true, true, false];
    // The literal 0, the length 258 and the distance 1; codes stand with their highest bit first.
    bits.extend([false, false, true, true, false, false, false, false]);
    for _ in 0..40_000 {
        bits.extend([true, true, false, false, false, true, false, true]);
        bits.extend([false; 5]);
    }
    bits.extend([false; 7]);
    bits.chunks(8).map(|byte| byte.iter().rev().fold(0, |byte, bit| byte << 1 | u8::from(*bit))).collect()
}

#[test]
fn a_compressed_frame_is_not_unpacked_but_closed_with_1002() {
    let server = warmed("[zenith]\nmax_message = 1048576\n");
    let bomb = bomb();
    assert!(bomb.len() < 65536, "{}", bomb.len());
    let offer = "Sec-WebSocket-Extensions: permessage-deflate\r\n";
    costs_little(&server, MOST, || {
        for _ in 0..20 {
            let mut peer = Peer::upgrade(server.http(), 0, "/Zenith", offer).expect("101");
            peer.write_if_read(&raw_frame(FIN | 0x40 | TEXT, true, &bomb));
            assert_eq!(peer.told_to_close().0, 1002);
        }
    });
}

#[test]
fn lengths_and_close_codes_that_there_are_not_close_the_connection() {
    let server = Server::start(CHEAP);
    let check = |what: &str, bytes: &[u8], codes: &[u16]| {
        let mut peer = server.connect();
        peer.write_if_read(bytes);
        let code = peer.told_to_close().0;
        assert!(codes.contains(&code), "{what}: {code}");
    };
    // RFC 6455 section 5.2 wants the top bit clear. Set, it is a length beyond every limit, too.
    for length in [1 << 63, u64::MAX, (1 << 63) | 5] {
        let bytes = [&[FIN | TEXT, 0x80 | 127][..], &length.to_be_bytes(), &[0; 4], b"hello"].concat();
        check("a length with its top bit", &bytes, &[1002, 1009]);
    }
    let bytes = [&[FIN | PING, 0x80 | 127][..], &(1_u64 << 63).to_be_bytes(), &[0; 4]].concat();
    check("a ping with such a length", &bytes, &[1002, 1009]);
    for code in [0_u16, 1, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65535] {
        check(&format!("close code {code}"), &frame(CLOSE, &code.to_be_bytes()), &[1002]);
    }
    check("a close whose reason is no UTF-8", &frame(CLOSE, b"\x03\xE8\xC3\x28"), &[1007]);
}

#[test]
fn providers_that_there_are_not_are_refused_alike_and_leave_nothing_behind() {
    const SOURCES: u16 = 250;
    let server = Server::with_ann(CHEAP);
    let expected = r#"{"Controller":"Auth","Topic":"Identify","TransactionID":1,"Data":{"Result":"Reject"}}"#;
    let mut peer = server.connect();
    for name in ["Раritech", "Paritech\u{200B}", "Ｐaritech\u{301}", "../local", "local/../local", "local\0", "%6cocal", "."] {
        let mut data = owner("ann", PASSWORD);
        data["Provider"] = name.into();
        peer.send(&serde_json::json!({"Controller": "Auth", "Topic": "AuthOwner", "TransactionID": 1, "Data": data}));
        assert_eq!(peer.next_text(), expected, "{name:?}");
    }
    // Names that no two requests share, of 20 kB each, from ever other sources, since each source may fail a few times only.
    let ask = |source: u16| {
        let mut peer = server.connect_from(source);
        for number in 0..8 {
            let name = format!("{source}-{number}-{}", "x".repeat(20_000));
            peer.restore_at(&name, "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=").rejected();
        }
    };
    (1..50).for_each(ask);
    costs_little(&server, 3 * MOST, || (50..50 + SOURCES).for_each(ask));
}
