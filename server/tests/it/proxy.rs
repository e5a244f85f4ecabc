//! What a proxy in front says of a peer, on the real binary: it is believed of those that are trusted, and of nobody else.

use serde_json::json;

use crate::harness::{CHEAP, PASSWORD, Server};
use crate::peer::{Peer, Response, handshake, http};
use crate::tls::{home_of_a_trader, secured, trading};

/// The loopback addresses of a proxy that is trusted and of one that is not.
const TRUSTED: u16 = 1;
const STRANGER: u16 = 2;
const SIGNATURE_V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
const BAD_TOKEN: &str = "Authorization: Paritech AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\r\n";

/// A server that trusts the one proxy; `more` is the rest of the section, and further sections.
fn behind_proxy(more: &str) -> Server {
    let home = home_of_a_trader();
    home.write_settings(&format!("{CHEAP}{}", trusting(more)));
    Server::of(home)
}

fn trusting(more: &str) -> String {
    format!("[proxy]\ntrusted = [\"127.7.0.1\"]\n{more}\n")
}

fn forwarded(server: &Server, source: u16, fields: &str) -> Result<Peer, Response> {
    Peer::upgrade(server.http(), source, "/Zenith", fields)
}

fn v1(line: &str) -> Vec<u8> {
    format!("PROXY {line}\r\n").into_bytes()
}

/// A header of version 2 for 192.0.2.7, with what comes behind the addresses.
fn v2(rest: &[u8]) -> Vec<u8> {
    let mut bytes = [SIGNATURE_V2, &[0x21, 0x11, 0, 12 + rest.len() as u8], &[192, 0, 2, 7, 10, 0, 0, 9]].concat();
    bytes.extend([0x12, 0x67, 0x01, 0xBB]);
    bytes.extend(rest);
    bytes
}

/// A connection that begins with these bytes.
fn introduced(address: std::net::SocketAddr, source: u16, header: &[u8]) -> Peer {
    let mut peer = Peer::dial(address, source);
    peer.write(header);
    peer
}

#[test]
fn forwarded_fields_make_a_connection_secure_from_a_trusted_peer_only() {
    let families = [
        ("x-forwarded", "X-Forwarded-For: 192.0.2.7\r\nX-Forwarded-Proto: https\r\n"),
        ("forwarded", "Forwarded: for=192.0.2.7;proto=https\r\n"),
    ];
    for (believed, _) in families {
        let server = behind_proxy(&format!("fields = \"{believed}\""));
        for (family, fields) in families {
            let mut trusted = forwarded(&server, TRUSTED, fields).expect(fields);
            let mut stranger = forwarded(&server, STRANGER, fields).expect(fields);
            stranger.ask("AuthOwner", trading()).rejected();
            stranger.login("ann", PASSWORD).granted();
            let answer = trusted.ask("AuthOwner", trading());
            if family == believed {
                assert_eq!(answer.scope(), &json!(["Zenith/Trading"]));
            } else {
                answer.rejected();
            }
        }
    }
    let server = behind_proxy("");
    for (_, fields) in families {
        forwarded(&server, TRUSTED, fields).expect(fields).ask("AuthOwner", trading()).rejected();
    }
}

#[test]
fn whoever_comes_to_a_proxy_without_tls_from_elsewhere_may_not_send_a_password() {
    let server = behind_proxy("fields = \"x-forwarded\"");
    for fields in ["X-Forwarded-For: 192.0.2.7\r\nX-Forwarded-Proto: http\r\n", "X-Forwarded-For: 192.0.2.7\r\n"] {
        forwarded(&server, TRUSTED, fields).expect(fields).login("ann", PASSWORD).rejected();
    }
    forwarded(&server, TRUSTED, "").expect("the proxy itself").login("ann", PASSWORD).granted();
}

#[test]
fn tls_between_the_proxy_and_us_says_nothing_about_the_way_before_it() {
    for (family, fields) in [("x-forwarded", "X-Forwarded-For: 192.0.2.7\r\n"), ("forwarded", "Forwarded: for=192.0.2.7\r\n")] {
        let (server, pair) = secured(&trusting(&format!("fields = \"{family}\"")));
        let check = |source: u16, fields: &str| {
            let peer = pair.secure(Peer::dial(server.https(), source)).expect("TLS");
            peer.become_zenith("/Zenith", fields).expect(fields).ask("AuthOwner", trading())
        };
        check(TRUSTED, fields).rejected();
        check(STRANGER, fields).granted();
        check(TRUSTED, "").granted();
    }
}

#[test]
fn two_addresses_behind_one_proxy_have_budgets_of_their_own() {
    let throttle = "[throttle]\nsource_free = 2\nsource_forgives = \"1h\"\ntoken_free = 2\ntoken_forgives = \"1h\"\n";
    let server = behind_proxy(&format!("fields = \"x-forwarded\"\n{throttle}"));
    let fields = |last: u8| format!("X-Forwarded-For: 6.6.6.6, 192.0.2.{last}\r\nX-Forwarded-Proto: https\r\n");
    let connect = |last: u8| forwarded(&server, TRUSTED, &fields(last)).expect("a good header");
    for name in ["nobody-1", "nobody-2"] {
        connect(1).login(name, "wrong").rejected();
    }
    connect(1).login("nobody-3", "wrong").failed("Limited");
    connect(2).login("nobody-3", "wrong").rejected();
    connect(2).login("ann", PASSWORD).granted();

    let present = |last: u8| forwarded(&server, TRUSTED, &format!("{}{BAD_TOKEN}", fields(last))).expect_err("a bad token").status;
    assert_eq!([present(3), present(3), present(3), present(4)], [403, 403, 429, 403]);
}

#[test]
fn what_a_stranger_says_of_itself_does_not_get_it_another_budget() {
    let throttle = "[throttle]\ntoken_free = 2\ntoken_forgives = \"1h\"\n";
    let server = behind_proxy(&format!("fields = \"x-forwarded\"\n{throttle}"));
    let present = |source: u16, address: &str| {
        let fields = format!("X-Forwarded-For: {address}\r\n{BAD_TOKEN}");
        forwarded(&server, source, &fields).expect_err("a bad token").status
    };
    assert_eq!([1, 2, 3].map(|last| present(STRANGER, &format!("192.0.2.{last}"))), [403, 403, 429]);
    // What stands before the address that the proxy saw, the stranger wrote.
    assert_eq!([4, 5, 6].map(|last| present(TRUSTED, &format!("192.0.2.{last}, 198.51.100.1"))), [403, 403, 429]);
}

#[test]
fn s15_an_odd_spelling_is_400_from_a_trusted_peer_and_nothing_from_another() {
    let check = |family: &str, odd: &[&str]| {
        let server = behind_proxy(&format!("fields = \"{family}\""));
        for fields in odd {
            let get = format!("GET / HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n\r\n");
            assert_eq!(http(server.http(), TRUSTED, &get).status, 400, "{fields}");
            assert_eq!(http(server.http(), STRANGER, &get).status, 200, "{fields}");
            let upgrade = handshake("/Zenith", &format!("{fields}\r\n"));
            assert_eq!(http(server.http(), TRUSTED, &upgrade).status, 400, "{fields}");
        }
    };
    check(
        "x-forwarded",
        &[
            "X-Forwarded-For:",
            "X-Forwarded-For: unknown",
            "X-Forwarded-For: 192.0.2.7,",
            "X-Forwarded-For: 192.0.2.7:0x1",
            "X-Forwarded-For: 192.0.2.7\r\nX-Forwarded-For: localhost",
            "X-Forwarded-For: 192.0.2.7\r\nX-Forwarded-Proto: HTTPS",
            "X-Forwarded-Proto: on",
            "X-Forwarded-Proto: https, \u{e9}",
        ],
    );
    check(
        "forwarded",
        &[
            "Forwarded:",
            "Forwarded: proto=https",
            "Forwarded: for=_hidden",
            "Forwarded: for=192.0.2.7;for=192.0.2.8",
            "Forwarded: for=192.0.2.7;proto=ftp",
            "Forwarded: for=\"192.0.2.7",
            "Forwarded: for=\"[2001:db8::1\"",
        ],
    );
}

#[test]
fn a_proxy_header_says_who_comes_and_whether_by_tls() {
    let (server, pair) = secured(&trusting("protocol = true"));
    let by_tls = [0x20, 0, 5, 1, 0, 0, 0, 0];
    let local = [SIGNATURE_V2, &[0x20, 0, 0, 0]].concat();
    let plain = |header: &[u8]| {
        let peer = introduced(server.http(), TRUSTED, header);
        peer.become_zenith("/Zenith", "").expect("a good header").login("ann", PASSWORD)
    };
    // From elsewhere without TLS: no password. The proxy itself is on loopback.
    for header in [v1("TCP4 192.0.2.7 10.0.0.9 4711 443"), v1("TCP6 2001:db8::7 2001:db8::9 4711 443"), v2(&[])] {
        plain(&header).rejected();
    }
    for header in [v1("UNKNOWN"), local] {
        assert_eq!(plain(&header).scope(), &json!(["Zenith/Market", "Zenith/News"]));
    }
    let all = json!(["Zenith/Market", "Zenith/News", "Zenith/Trading"]);
    assert_eq!(plain(&v2(&by_tls)).scope(), &all);
    // TLS behind the header is the client's own.
    for header in [v1("TCP6 2001:db8::7 2001:db8::9 4711 443"), v2(&[]), v2(&by_tls)] {
        let peer = pair.secure(introduced(server.https(), TRUSTED, &header)).expect("TLS goes on behind the header");
        let answer = peer.become_zenith("/Zenith", "").expect("a good header").login("ann", PASSWORD);
        assert_eq!(answer.scope(), &all);
    }
    let sources: Vec<_> = server.audit().iter().filter_map(|line| line["source"].as_str().map(str::to_owned)).collect();
    for source in ["192.0.2.7", "2001:db8::7", "127.7.0.1"] {
        assert!(sources.iter().any(|found| found.contains(source)), "{source} is not in {sources:?}");
    }
    // Whoever is not trusted begins as ever.
    server.connect_from(STRANGER).query().rejected();
    pair.connect(&server).query().rejected();
}

#[test]
fn the_address_in_a_proxy_header_has_a_budget_of_its_own() {
    let server = behind_proxy("protocol = true\n[throttle]\ntoken_free = 2\ntoken_forgives = \"1h\"\n");
    let present = |last: u8| {
        let peer = introduced(server.http(), TRUSTED, &v1(&format!("TCP4 192.0.2.{last} 10.0.0.9 4711 443")));
        peer.become_zenith("/Zenith", BAD_TOKEN).expect_err("a bad token").status
    };
    assert_eq!([present(3), present(3), present(3), present(4)], [403, 403, 429, 403]);
}

#[test]
fn a_trusted_connection_that_does_not_begin_with_a_proxy_header_is_dropped() {
    let (server, pair) = secured(&trusting("protocol = true"));
    let upgrade = handshake("/Zenith", "X-Forwarded-For: 192.0.2.7\r\n");
    for bytes in [
        upgrade.as_bytes(),
        b"PROXY TCP4 192.0.2.7 10.0.0.9 4711\r\n",
        b"PROXY TCP4 192.0.2.7 10.0.0.9 4711 443\nGET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        &[SIGNATURE_V2, &[0x21, 0x31, 0, 0]].concat(),
        &[SIGNATURE_V2, &[0x21, 0x11, 0xFF, 0xFF]].concat(),
    ] {
        for address in [server.http(), server.https()] {
            let bytes = [bytes, upgrade.as_bytes()].concat();
            assert_eq!(introduced(address, TRUSTED, &bytes).hung_up(), b"", "{:?}", String::from_utf8_lossy(&bytes));
        }
    }
    assert!(pair.secure(Peer::dial(server.https(), TRUSTED)).is_err(), "TLS is no PROXY header either");
    // One header, and not another behind it.
    let header = v1("TCP4 192.0.2.7 10.0.0.9 4711 443");
    let twice = [&header[..], &header, b"\r\n"].concat();
    let answer = introduced(server.http(), TRUSTED, &twice).hung_up();
    assert!(answer.starts_with(b"HTTP/1.1 400 "), "{:?}", String::from_utf8_lossy(&answer));
}

#[test]
fn a_proxy_header_from_an_untrusted_peer_is_a_bad_request() {
    let (server, pair) = secured(&trusting("protocol = true"));
    for header in [v1("TCP4 192.0.2.7 10.0.0.9 4711 443"), v2(&[])] {
        let answer = introduced(server.http(), STRANGER, &[&header[..], handshake("/Zenith", "").as_bytes()].concat()).hung_up();
        assert!(answer.starts_with(b"HTTP/1.1 400 "), "{:?}", String::from_utf8_lossy(&answer));
        assert!(pair.secure(introduced(server.https(), STRANGER, &header)).is_err());
    }
}
