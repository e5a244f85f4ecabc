//! TLS on the real binary: what it changes for a login, what the server refuses to start with, and how a certificate is
//! exchanged while connections live.

use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::sync::Arc;
use std::time::Duration;

use gatepost_identity::clock::system_instant;
use rustix::process::{Resource, Rlimit, Signal};
use rustls::client::Resumption;
use rustls::crypto::aws_lc_rs;
use rustls::{ClientConfig, RootCertStore};
use serde_json::{Value, json};

use crate::harness::{CHEAP, Home, PASSWORD, Server, until};
use crate::peer::{Peer, TEXT, frame, handshake, http, owner, raw_frame};

/// What turns TLS on, with the files that a [`Pair`] writes.
pub(crate) const HTTPS: &str = "https = \"127.0.0.1:0\"\n[tls]\ncertificate = \"certificate.pem\"\nkey = \"key.pem\"\n";
/// How many connections live while the certificate is exchanged.
const CROWD: usize = 2000;

/// A certificate for `localhost` with its key, and a client that believes this one and no other.
pub(crate) struct Pair {
    certificate: String,
    key: String,
    believed: Arc<ClientConfig>,
}

impl Pair {
    pub(crate) fn new() -> Pair {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
        let mut roots = RootCertStore::empty();
        roots.add(made.cert.der().clone()).expect("a certificate");
        let versions = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
        let versions = versions.with_safe_default_protocol_versions().expect("versions");
        let mut believed = versions.with_root_certificates(roots).with_no_client_auth();
        // So that every connection is shown the certificate.
        believed.resumption = Resumption::disabled();
        Pair { certificate: made.cert.pem(), key: made.signing_key.serialize_pem(), believed: Arc::new(believed) }
    }

    pub(crate) fn write_certificate(&self, home: &Home) {
        std::fs::write(home.file("certificate.pem"), &self.certificate).expect("a file");
    }

    pub(crate) fn write_key(&self, home: &Home) {
        let mut options = std::fs::OpenOptions::new();
        let file = options.create(true).write(true).truncate(true).mode(0o600).open(home.file("key.pem"));
        file.and_then(|mut file| file.write_all(self.key.as_bytes())).expect("a file");
    }

    /// TLS on a connection that is there.
    pub(crate) fn secure(&self, peer: Peer) -> std::io::Result<Peer> {
        peer.over_tls(&self.believed)
    }

    /// A WebSocket over TLS.
    pub(crate) fn connect(&self, server: &Server) -> Peer {
        self.try_connect(server).expect("the certificate is this one")
    }

    fn try_connect(&self, server: &Server) -> std::io::Result<Peer> {
        let peer = self.secure(Peer::dial(server.https(), 0))?;
        Ok(peer.become_zenith("/Zenith?version=2.0", "").expect("the handshake is good"))
    }
}

/// A home with `app` and `ann`, who hold Trading too, which is for secured connections only.
pub(crate) fn home_of_a_trader() -> Home {
    let home = Home::with_ann(CHEAP);
    for [kind, name] in [["client", "app"], ["user", "ann"]] {
        let set = [kind, "set", name, "--scope", "Zenith/Market", "--scope", "Zenith/News", "--scope", "Zenith/Trading"];
        home.operator(&set, "").ok();
    }
    home
}

/// A server with TLS in such a home; `settings` are sections.
pub(crate) fn secured(settings: &str) -> (Server, Pair) {
    let (home, pair) = (home_of_a_trader(), Pair::new());
    pair.write_certificate(&home);
    pair.write_key(&home);
    home.write_settings(&[HTTPS, CHEAP, settings].concat());
    (Server::of(home), pair)
}

/// The Data of a login that asks for Trading alone.
pub(crate) fn trading() -> Value {
    let mut data = owner("ann", PASSWORD);
    data["Scope"] = json!(["Zenith/Trading"]);
    data
}

#[test]
fn the_ready_line_names_both_listeners() {
    let (server, _) = secured("");
    assert_ne!(server.https().port(), 0);
    assert_eq!(server.ready(), &json!({"http": server.http().to_string(), "https": server.https().to_string()}));
}

#[test]
fn scopes_for_secured_connections_are_granted_over_tls_and_withheld_on_plain_loopback() {
    let (server, pair) = secured("");
    let mut plain = server.connect();
    plain.ask("AuthOwner", trading()).rejected();
    assert_eq!(plain.login("ann", PASSWORD).scope(), &json!(["Zenith/Market", "Zenith/News"]));
    let mut tls = pair.connect(&server);
    assert_eq!(tls.ask("AuthOwner", trading()).scope(), &json!(["Zenith/Trading"]));
    let answer = tls.login("ann", PASSWORD);
    let all = json!(["Zenith/Market", "Zenith/News", "Zenith/Trading"]);
    assert_eq!(answer.scope(), &all);

    // The session is the same wherever its token is presented; what it may do is the connection's.
    let answer = server.connect().restore(&answer.token());
    assert_eq!(answer.scope(), &json!(["Zenith/Market", "Zenith/News"]));
    assert_eq!(pair.connect(&server).restore(&answer.token()).scope(), &all);
}

#[test]
fn a_token_on_the_upgrade_that_grants_nothing_without_tls_is_403_there() {
    let (server, pair) = secured("");
    let token = pair.connect(&server).ask("AuthOwner", trading()).token();
    let authorization = format!("Authorization: Paritech {token}\r\n");
    let refused = Peer::upgrade(server.http(), 0, "/Zenith", &authorization).expect_err("nothing is left of the grant");
    assert_eq!(refused.status, 403);
    let peer = pair.secure(Peer::dial(server.https(), 0)).unwrap();
    let mut peer = peer.become_zenith("/Zenith", &authorization).expect("it is a good token");
    assert_eq!(peer.subscribe().scope(), &json!(["Zenith/Trading"]));
}

#[test]
fn where_nothing_has_to_be_secured_a_plain_connection_carries_every_scope() {
    let home = home_of_a_trader();
    home.write_settings(&format!("{CHEAP}[zenith]\nrequire_secure = false\n"));
    let server = Server::of(home);
    assert_eq!(server.connect().ask("AuthOwner", trading()).scope(), &json!(["Zenith/Trading"]));
}

#[test]
fn close_codes_arrive_over_tls_and_the_end_of_tls_behind_them() {
    let (mut server, pair) = secured("");
    let check = |bytes: &[u8], code: u16| {
        let mut peer = pair.connect(&server);
        peer.write_if_read(bytes);
        assert_eq!(peer.closed().0, code);
    };
    check(&raw_frame(0x80 | TEXT, false, b"{}"), 1002);
    check(&raw_frame(0x80 | 3, true, b"{}"), 1002);
    check(&frame(TEXT, b"[]"), 1007);
    check(&frame(TEXT, &vec![b' '; 2 * 1024 * 1024]), 1009);
    let mut peer = pair.connect(&server);
    peer.write(&frame(crate::peer::CLOSE, &1000_u16.to_be_bytes()));
    assert_eq!(peer.frame().expect("a close").payload, 1000_u16.to_be_bytes());
    peer.ended();
    let mut peer = pair.connect(&server);
    peer.query().rejected();
    server.signal_term();
    assert_eq!(peer.closed(), (1012, "Restart".to_owned()));
    assert!(server.wait().0.success());
}

#[test]
fn whoever_speaks_plainly_where_tls_is_spoken_or_the_other_way_about_is_turned_away() {
    let (server, pair) = secured("");
    let mut plain = Peer::dial(server.https(), 0);
    plain.write(handshake("/Zenith", "").as_bytes());
    assert!(!plain.hung_up().starts_with(b"HTTP/"), "no word without TLS");
    assert!(pair.secure(Peer::dial(server.http(), 0)).is_err());
    pair.connect(&server).query().rejected();
    assert_eq!(http(server.http(), 0, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").status, 200);
}

/// X13: a key that others can read is one of them.
#[test]
fn what_tls_cannot_begin_with_is_refused_with_file_and_line() {
    let (home, pair) = (Home::new(""), Pair::new());
    let check = |settings: &str, line: usize, what: &str| {
        home.write_settings(settings);
        for command in ["serve", "check"] {
            let complaint = home.operator(&[command], "").complaint();
            let place = format!("{}:{line}: ", home.settings().display());
            assert!(complaint.starts_with(&place) && complaint.contains(what), "{complaint} is not {place}{what}");
        }
    };
    let (address, certificate, key) = (3, 5, 6);
    check("https = \"127.0.0.1:0\"\n", address, "[tls]");
    check(HTTPS, key, "tls.key");
    pair.write_key(&home);
    check(HTTPS, certificate, "tls.certificate");
    std::fs::write(home.file("certificate.pem"), "").unwrap();
    check(HTTPS, certificate, "there is no certificate");
    Pair::new().write_certificate(&home);
    check(HTTPS, certificate, "does not fit");
    pair.write_certificate(&home);
    for mode in [0o640, 0o604, 0o644] {
        std::fs::set_permissions(home.file("key.pem"), std::fs::Permissions::from_mode(mode)).unwrap();
        check(HTTPS, key, "chmod 600");
    }
    std::fs::set_permissions(home.file("key.pem"), std::fs::Permissions::from_mode(0o600)).unwrap();
    std::fs::write(home.file("key.pem"), "").unwrap();
    check(HTTPS, key, "tls.key");
    pair.write_key(&home);
    home.operator(&["check"], "").ok();
    // Where a variable names the file, the variable is at fault.
    home.write_settings("");
    let mut command = home.command();
    command.envs([("GATEPOST_TLS_CERTIFICATE", "nowhere.pem"), ("GATEPOST_TLS_KEY", "key.pem")]);
    let complaint = crate::harness::run(command.arg("serve"), "").complaint();
    assert!(complaint.starts_with("GATEPOST_TLS_CERTIFICATE: "), "{complaint}");
}

/// Lets this process and those that it starts hold a crowd.
pub(crate) fn allow_descriptors() {
    let Rlimit { current, maximum } = rustix::process::getrlimit(Resource::Nofile);
    let wanted = 3 * CROWD as u64;
    assert!(maximum.is_none_or(|most| most >= wanted), "the system allows {maximum:?} descriptors, and this takes {wanted}");
    if current.is_some_and(|now| now < wanted) {
        rustix::process::setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum }).expect("it is allowed");
    }
}

/// Many connections over TLS, opened by a few threads.
fn crowd(server: &Server, pair: &Pair) -> Vec<Peer> {
    const THREADS: usize = 4;
    std::thread::scope(|scope| {
        let threads: Vec<_> =
            (0..THREADS).map(|_| scope.spawn(|| (0..CROWD / THREADS).map(|_| pair.connect(server)).collect::<Vec<_>>())).collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("every connection is accepted")).collect()
    })
}

#[test]
fn certificate_and_key_are_exchanged_under_two_thousand_connections_and_none_drops() {
    allow_descriptors();
    let (server, first) = secured("[zenith]\nping_every = 600\nsilence = 1200\n");
    let mut peers = crowd(&server, &first);
    assert_eq!(peers.len(), CROWD);

    // Half of a pair changes nothing, whoever asks.
    let second = Pair::new();
    second.write_certificate(&server);
    until("the half pair is seen", || server.log().contains("the one in use stays"));
    first.connect(&server).query().rejected();
    server.signal(Signal::HUP);
    until("the half pair is read", || server.log().contains("nothing was changed"));
    first.connect(&server).query().rejected();

    second.write_key(&server);
    until("the new certificate is shown", || second.try_connect(&server).is_ok());
    assert!(first.try_connect(&server).is_err(), "the old one is not shown any more");
    peers.push(second.connect(&server));

    let third = Pair::new();
    third.write_key(&server);
    third.write_certificate(&server);
    server.signal(Signal::HUP);
    until("SIGHUP is obeyed", || server.log().contains("the settings were read anew"));
    peers.push(third.connect(&server));

    for peer in &mut peers {
        peer.query().rejected();
    }
}

#[test]
fn a_key_that_was_open_to_others_is_taken_once_it_is_closed() {
    let (server, first) = secured("");
    let second = Pair::new();
    std::fs::set_permissions(server.file("key.pem"), std::fs::Permissions::from_mode(0o644)).unwrap();
    second.write_key(&server);
    second.write_certificate(&server);
    until("it is refused", || server.log().contains("chmod 600"));
    first.connect(&server).query().rejected();
    std::fs::set_permissions(server.file("key.pem"), std::fs::Permissions::from_mode(0o600)).unwrap();
    until("the new certificate is shown", || second.try_connect(&server).is_ok());
}

#[test]
fn files_put_in_place_with_the_time_of_those_before_are_noticed() {
    let (server, _) = secured("");
    let second = Pair::new();
    for (name, text) in [("certificate.pem", &second.certificate), ("key.pem", &second.key)] {
        let before = std::fs::metadata(server.file(name)).unwrap().modified().unwrap();
        let mut options = std::fs::OpenOptions::new();
        let mut file = options.create_new(true).write(true).mode(0o600).open(server.file("new.pem")).unwrap();
        file.write_all(text.as_bytes()).unwrap();
        file.set_modified(before).unwrap();
        std::fs::rename(server.file("new.pem"), server.file(name)).unwrap();
    }
    until("the new certificate is shown", || second.try_connect(&server).is_ok());
}

#[test]
fn whoever_is_silent_before_the_first_request_is_given_up() {
    let (server, _) = secured("[proxy]\ntrusted = [\"127.7.0.1\"]\nprotocol = true\n");
    let began = system_instant();
    let silent = [
        (server.https(), 0, &b""[..]),
        // A record that promises 512 bytes of a ClientHello.
        (server.https(), 0, b"\x16\x03\x01\x02\x00\x01"),
        (server.http(), 1, b""),
        (server.http(), 1, b"PROXY TCP4 192.0"),
        (server.https(), 1, b"PROXY UNKNOWN\r\n"),
        (server.http(), 0, b"GET / HTTP/1.1\r\n"),
    ];
    let silent = silent.map(|(address, source, bytes)| {
        let mut peer = Peer::dial(address, source);
        peer.write(bytes);
        peer
    });
    for peer in silent {
        peer.hung_up();
    }
    // The server waits for ten seconds at each step.
    assert!(began.elapsed() < Duration::from_secs(25), "it took {:?}", began.elapsed());
}
