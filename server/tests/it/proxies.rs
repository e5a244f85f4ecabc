//! nginx and HAProxy in front of the real binary, by the files of `contrib/` and the settings of `docs/operating.md`, as Debian
//! packages them.
//!
//! Of those files only addresses, ports and the places of certificates are rewritten, each of which must be there. So what an
//! operator copies is what is tested here. Where a line of theirs decides something, a test takes that line away, too, and sees the
//! difference.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use crate::documents::{fenced_below, text_of};
use crate::harness::{CHEAP, Home, PASSWORD, Server, until};
use crate::peer::{Peer, Response, handshake};
use crate::terminals::{DEFAULT, code, secured_by, text};
use crate::tls::{Pair, home_of_a_trader, trading};

/// The address in the files that stands for the machine's own towards its peers.
const PUBLIC: &str = "192.0.2.10";
/// The ports at which proxies listen there.
const PORTS: [u16; 5] = [80, 443, 8765, 8766, 8080];
const BAD_TOKEN: &str = "Authorization: Paritech AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\r\n";
/// A source of its own for each that comes.
const CLIENT: u16 = 7;
const CLIENTS_ADDRESS: &str = "127.7.0.7";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Proxy {
    Nginx,
    HaProxy,
}

const BOTH: [Proxy; 2] = [Proxy::Nginx, Proxy::HaProxy];

impl Proxy {
    fn file(self) -> &'static str {
        match self {
            Proxy::Nginx => "contrib/nginx.conf",
            Proxy::HaProxy => "contrib/haproxy.cfg",
        }
    }

    /// What `docs/operating.md` says to set for it.
    fn settings(self) -> String {
        let heading = match self {
            Proxy::Nginx => "### nginx",
            Proxy::HaProxy => "### HAProxy",
        };
        let blocks = fenced_below("docs/operating.md", heading, "toml");
        assert_eq!(blocks.len(), 1, "{heading} says once what to set");
        blocks.concat()
    }

    fn starts(self, directory: &Home) -> Child {
        let (name, package) = match self {
            Proxy::Nginx => ("nginx", "nginx-light"),
            Proxy::HaProxy => ("haproxy", "haproxy"),
        };
        let places = [PathBuf::from("/usr/sbin").join(name), PathBuf::from(name)];
        let program = places.iter().find(|place| Command::new(place).arg("-v").output().is_ok());
        let program = program.unwrap_or_else(|| panic!("{name} is not on this machine: apt-get install {package}"));
        let mut command = Command::new(program);
        match self {
            Proxy::Nginx => command.arg("-e").arg(directory.file("nginx.log")).arg("-c").arg(directory.file("nginx.conf")),
            Proxy::HaProxy => command.arg("-db").arg("-f").arg(directory.file("haproxy.cfg")),
        };
        let log = std::fs::File::create(directory.file("proxy.log")).expect("a file");
        let errors = log.try_clone().expect("a second descriptor");
        command.stdin(Stdio::null()).stdout(log).stderr(errors).spawn().expect("it starts")
    }
}

/// A proxy, and a server behind it.
struct Front {
    proxy: Proxy,
    child: Child,
    server: Server,
    pair: Pair,
    /// Where its listeners are, in the order of [`PORTS`].
    listeners: [SocketAddr; PORTS.len()],
}

impl Front {
    fn new(proxy: Proxy) -> Front {
        Front::with(proxy, &[], "")
    }

    /// With these parts of the proxy's file rewritten, and with more settings, which are sections.
    fn with(proxy: Proxy, edits: &[(&str, &str)], more: &str) -> Front {
        let (home, pair) = (home_of_a_trader(), Pair::new());
        home.write_settings(&format!("{CHEAP}{}\n[servicestack]\nclient = \"app\"\n{DEFAULT}{more}", proxy.settings()));
        home.operator(&["terminal", "protect", "default", "administrator", "password"], "Adm1n-77\n").ok();
        pair.write_certificate(&home);
        pair.write_key(&home);
        let both = ["certificate.pem", "key.pem"].map(|name| std::fs::read_to_string(home.file(name)).expect("a file"));
        let mut options = std::fs::OpenOptions::new();
        let file = options.create_new(true).write(true).mode(0o600).open(home.file("both.pem"));
        std::io::Write::write_all(&mut file.expect("a file"), both.concat().as_bytes()).expect("a file");
        let server = Server::of(home);

        let listeners = free();
        let mut text = text_of(proxy.file());
        let mut rewrite = |from: &str, to: &str| {
            assert!(text.contains(from), "{from:?} is not in {}", proxy.file());
            text = text.replace(from, to);
        };
        for (port, listener) in PORTS.iter().zip(&listeners) {
            // What follows keeps 80 from being 8080.
            for end in [";", "\n", " "] {
                if text_of(proxy.file()).contains(&format!("{PUBLIC}:{port}{end}")) {
                    rewrite(&format!("{PUBLIC}:{port}{end}"), &format!("{listener}{end}"));
                }
            }
        }
        rewrite("127.0.0.1:8000", &server.http().to_string());
        for (port, listener) in [("8765", "control.default"), ("8766", "http"), ("8080", "web")] {
            rewrite(&format!("127.0.0.1:{port}"), &server.own("trueconf", listener).to_string());
        }
        let path = |name: &str| server.file(name).display().to_string();
        match proxy {
            Proxy::Nginx => {
                rewrite("/etc/nginx/gatepost.pem", &path("certificate.pem"));
                rewrite("/etc/nginx/gatepost.key", &path("key.pem"));
            }
            Proxy::HaProxy => rewrite("/etc/haproxy/gatepost.pem", &path("both.pem")),
        }
        for (from, to) in edits {
            rewrite(from, to);
        }
        assert!(!listens(&text).any(|line| line.contains(PUBLIC)), "a listener is left where it was: {text}");
        match proxy {
            Proxy::Nginx => {
                std::fs::write(server.file("gatepost.conf"), text).expect("a file");
                std::fs::write(server.file("nginx.conf"), around(&server)).expect("a file");
            }
            Proxy::HaProxy => std::fs::write(server.file("haproxy.cfg"), text).expect("a file"),
        }
        let child = proxy.starts(&server);
        let mut front = Front { proxy, child, server, pair, listeners };
        front.is_there();
        front
    }

    /// Waits until every listener accepts.
    fn is_there(&mut self) {
        for listener in self.listeners {
            until("the proxy listens", || {
                if let Some(status) = self.child.try_wait().expect("its status") {
                    let log =
                        ["proxy.log", "nginx.log"].map(|log| std::fs::read_to_string(self.server.file(log)).unwrap_or_default());
                    panic!("{:?} ended with {status}: {}", self.proxy, log.concat());
                }
                TcpStream::connect(listener).is_ok()
            });
        }
    }

    fn at(&self, port: u16) -> SocketAddr {
        let index = PORTS.iter().position(|known| *known == port).expect("a port of the file");
        self.listeners[index]
    }

    fn over_tls(&self, source: u16) -> Peer {
        self.pair.secure(Peer::dial(self.at(443), source)).expect("the proxy speaks TLS with this certificate")
    }

    /// A WebSocket of the Zenith gate, with further fields.
    fn zenith(&self, source: u16, fields: &str) -> Result<Peer, Response> {
        self.over_tls(source).become_zenith("/Zenith?version=2.0", fields)
    }

    fn ask(&self, source: u16, request: &str) -> Response {
        self.over_tls(source).exchange(request).expect_err("no upgrade was asked for")
    }

    fn panel(&self, source: u16, fields: &str) -> Peer {
        let opened = Peer::request(self.at(8765), source, &handshake("/", fields));
        opened.map(|(peer, _)| peer).unwrap_or_else(|response| panic!("{response:?}"))
    }

    /// Where those came from of whom the audit has a line of this gate.
    fn sources(&self, gate: &str) -> Vec<String> {
        let of_gate = |line: &Value| line["gate"] == gate;
        let lines = self.server.audit();
        lines.iter().filter(|line| of_gate(line)).map(|line| line["source"].as_str().unwrap_or_default().to_owned()).collect()
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// The lines of a proxy's file that say where it listens.
fn listens(text: &str) -> impl Iterator<Item = &str> {
    text.lines().map(str::trim).filter(|line| line.starts_with("listen ") || line.starts_with("bind "))
}

/// What Debian's `nginx.conf` is around a file of `conf.d`, in a directory of its own and in one process.
fn around(home: &Home) -> String {
    let path = |name: &str| home.file(name).display().to_string();
    let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
    let temporary: String =
        temporary.iter().map(|kind| format!("{kind}_temp_path {};\n", path(&format!("nginx-{kind}")))).collect();
    format!(
        "daemon off;\nmaster_process off;\npid {};\nevents {{ worker_connections 512; }}\nhttp {{\naccess_log off;\n{temporary}include \
         {};\n}}\n",
        path("nginx.pid"),
        path("gatepost.conf")
    )
}

/// Free ports on a loopback address that nobody else uses: a proxy cannot be asked which port it was given, so it is told one.
fn free() -> [SocketAddr; PORTS.len()] {
    static LAST: AtomicU8 = AtomicU8::new(0);
    let [.., high, low] = std::process::id().to_be_bytes();
    let address = Ipv4Addr::new(127, 100 + LAST.fetch_add(1, Ordering::Relaxed), high, low);
    let held = PORTS.map(|_| TcpListener::bind((address, 0)).expect("a port"));
    held.map(|listener| listener.local_addr().expect("its address"))
}

fn login(fields: &str) -> String {
    let body = json!({"UserName": "ann", "Password": PASSWORD}).to_string();
    format!(
        "POST /auth/credentials.json HTTP/1.1\r\nHost: auth.example.org\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
         {fields}\r\n{body}",
        body.len()
    )
}

fn get(target: &str, fields: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: auth.example.org\r\n{fields}\r\n")
}

/// A cookie that an answer sets, as it is sent back.
fn cookie(response: &Response, name: &str) -> String {
    let values = response
        .head
        .lines()
        .filter_map(|line| line.split_once(": "))
        .filter(|(field, _)| field.eq_ignore_ascii_case("set-cookie"));
    let mut cookies = values.filter_map(|(_, value)| value.split(';').next());
    cookies.find(|cookie| cookie.starts_with(&format!("{name}="))).unwrap_or_else(|| panic!("no {name}: {response:?}")).to_owned()
}

#[test]
fn behind_each_proxy_everybody_logs_in_over_each_gate_and_is_known_by_an_address_of_their_own() {
    for proxy in BOTH {
        let front = Front::new(proxy);
        let mut peer = front.zenith(CLIENT, "").expect("a WebSocket");
        assert_eq!(peer.ask("AuthOwner", trading()).scope(), &json!(["Zenith/Trading"]), "{proxy:?}: TLS at the proxy is TLS");
        let token = peer.login("ann", PASSWORD).token();
        let authorization = format!("Authorization: Paritech {token}\r\n");
        front.zenith(CLIENT, &authorization).expect("a token on the upgrade").query().granted();

        let answer = front.ask(CLIENT, &login(""));
        assert_eq!(answer.status, 200, "{proxy:?}: {answer:?}");
        assert!(answer.head.to_lowercase().contains("; secure"), "a cookie over TLS is for TLS: {answer:?}");
        let session = format!("Cookie: {}\r\n", cookie(&answer, "ss-id"));
        let known = front.ask(CLIENT, &get("/auth.json", &session));
        assert_eq!((known.status, known.body.contains("\"UserName\":\"ann\"")), (200, true), "{proxy:?}: {known:?}");
        assert_eq!(front.ask(CLIENT, &get("/auth.json", "")).status, 401, "{proxy:?}: one who shows nothing is nobody");

        let web = |target: &str| Peer::request(front.at(8080), CLIENT, &get(target, "")).expect_err("no upgrade").status;
        assert_eq!(web("/public/default/config.json"), 200);
        let mut panel = front.panel(CLIENT, "");
        assert_eq!(code(&secured_by(&mut panel, "nope")), "8");
        let granted = secured_by(&mut panel, "Adm1n-77");
        assert_eq!(code(&granted), "0 admin", "{proxy:?}");
        let file = |token: &str| {
            let request = get(&format!("/frames/?token={token}"), "");
            Peer::request(front.at(8766), CLIENT, &request).expect_err("no upgrade").status
        };
        assert_eq!([file(text(&granted, "tokenForHttpServer")), file("junk")], [404, 401], "{proxy:?}");

        for gate in ["zenith", "servicestack", "trueconf"] {
            let sources = front.sources(gate);
            assert!(!sources.is_empty(), "{proxy:?} {gate}");
            assert!(sources.iter().all(|source| source == CLIENTS_ADDRESS), "{proxy:?} {gate}: {sources:?}");
        }
    }
}

#[test]
fn what_a_client_says_of_where_it_comes_from_does_not_get_through_a_proxy() {
    for proxy in BOTH {
        let front = Front::with(proxy, &[], "[throttle]\ntoken_free = 2\ntoken_forgives = \"1h\"\n");
        let forged = |last: u8| {
            format!(
                "X-Forwarded-For: 203.0.113.{last}\r\nX-Forwarded-Proto: http\r\nForwarded: for=203.0.113.{last};proto=http\r\n\
                 X-Forwarded-Host: evil.example\r\nX-Real-IP: 203.0.113.{last}\r\n"
            )
        };
        let mut peer = front.zenith(CLIENT, &forged(1)).expect("a WebSocket");
        assert_eq!(
            peer.ask("AuthOwner", trading()).scope(),
            &json!(["Zenith/Trading"]),
            "{proxy:?}: nobody makes another insecure"
        );
        assert_eq!(front.ask(CLIENT, &login(&forged(2))).status, 200);
        assert_eq!(code(&secured_by(&mut front.panel(CLIENT, &forged(3)), "Adm1n-77")), "0 admin");
        for gate in ["zenith", "servicestack", "trueconf"] {
            let sources = front.sources(gate);
            assert!(!sources.is_empty() && sources.iter().all(|source| source == CLIENTS_ADDRESS), "{proxy:?} {gate}: {sources:?}");
        }
        // One budget, whoever it says it is, and another for whoever comes from elsewhere.
        let present = |source: u16, last: u8| {
            let fields = format!("{}{BAD_TOKEN}", forged(last));
            front.zenith(source, &fields).expect_err("a bad token").status
        };
        let told = [present(20, 1), present(20, 2), present(20, 3), present(21, 1)];
        assert_eq!(told, [403, 403, 429, 403], "{proxy:?}");
        // A PROXY header of a stranger's own is no TLS, and no HTTP.
        let header = b"PROXY TCP4 203.0.113.9 10.0.0.9 4711 443\r\n";
        let mut peer = Peer::dial(front.at(443), CLIENT);
        peer.write(header);
        assert!(front.pair.secure(peer).is_err(), "{proxy:?}");
        let mut peer = Peer::dial(front.at(8765), CLIENT);
        peer.write(&[&header[..], handshake("/", "Connection: close\r\n").as_bytes()].concat());
        let answer = peer.hung_up();
        assert!(answer.starts_with(b"HTTP/1.1 400 "), "{proxy:?}: {}", String::from_utf8_lossy(&answer));
        assert!(!front.server.audit().iter().any(|line| line.to_string().contains("203.0.113.")), "{proxy:?}");
    }
}

#[test]
fn without_the_word_that_says_so_tls_at_a_proxy_counts_for_nothing() {
    let told = "proxy_set_header X-Forwarded-Proto $scheme;";
    for (proxy, edit) in [(Proxy::Nginx, (told, "")), (Proxy::HaProxy, ("send-proxy-v2-ssl", "send-proxy-v2"))] {
        let front = Front::with(proxy, &[edit], "");
        let mut peer = front.zenith(CLIENT, "").expect("a WebSocket");
        peer.ask("AuthOwner", trading()).rejected();
    }
}

#[test]
fn whoever_comes_to_a_proxy_without_tls_is_sent_to_it_and_nothing_reaches_the_server() {
    for proxy in BOTH {
        let front = Front::new(proxy);
        let answer = Peer::request(front.at(80), CLIENT, &login("")).expect_err("no upgrade");
        assert_eq!(answer.status, 308, "{proxy:?}: {answer:?}");
        assert_eq!(answer.header("location"), Some("https://auth.example.org/auth/credentials.json"), "{proxy:?}");
        assert_eq!(front.sources("servicestack"), Vec::<String>::new());
    }
}

#[test]
fn a_websocket_that_is_silent_for_longer_than_a_proxy_usually_waits_is_still_there() {
    // Nothing of ours wakes it, so the proxy's patience alone decides. Without a word nginx waits for 60 s.
    let silent = "[zenith]\nping_every = 600\nsilence = 1200\n";
    let patient = BOTH.map(|proxy| Front::with(proxy, &[], silent));
    let connected = |front: &Front| {
        let mut peer = front.zenith(CLIENT, "").expect("a WebSocket");
        peer.login("ann", PASSWORD).granted();
        peer
    };
    let mut peers: Vec<Peer> = patient.iter().map(connected).collect();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for (proxy, edit) in [
                (Proxy::Nginx, ("proxy_read_timeout 1h", "proxy_read_timeout 2s")),
                (Proxy::HaProxy, ("timeout tunnel 1h", "timeout tunnel 2s")),
            ] {
                let hasty = Front::with(proxy, &[edit], silent);
                assert_eq!(connected(&hasty).frame(), None, "{proxy:?}: where it has no patience the connection ends");
            }
        });
        std::thread::sleep(Duration::from_secs(95));
    });
    for peer in &mut peers {
        peer.query().granted();
    }
}
