//! The server as it is watched: its figures by a real Prometheus under load, its health, and lines of the log that no name breaks.
//! X11: log injection. X16: metrics and health.

use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

use gatepost_identity::clock::system_now;
use serde_json::{Value, json};

use crate::harness::{CHEAP, Home, PASSWORD, Server, until};
use crate::peer::{Peer, http};
use crate::terminals::{DEFAULT, code, panel_from, secured_by};

/// Watched, and nobody is throttled for the sake of their source alone.
const WATCHED: &str = "[management]\nlisten = '127.0.0.1:0'\n[throttle]\nfirst_wait = '60s'\nsource_free = 100000\n";
const APP: &str = "[servicestack]\nclient = 'app'\n";
/// How often each gate is tried, with each outcome.
const GRANTED: usize = 40;
const WRONG: usize = 15;
const THROTTLED: usize = 4;

pub(crate) fn management(server: &Server) -> SocketAddr {
    server.ready()["management"].as_str().and_then(|address| address.parse().ok()).expect("it is on the ready line")
}

fn get(at: SocketAddr, path: &str) -> (u16, String) {
    let response = http(at, 0, &format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"));
    (response.status, response.body)
}

/// Debian's Prometheus on a directory of its own. It ends when this is dropped.
struct Prometheus {
    child: Child,
    http: SocketAddr,
}

impl Prometheus {
    fn scraping(home: &Home, target: SocketAddr) -> Prometheus {
        let config = home.file("prometheus.yml");
        let text = format!(
            "global: {{ scrape_interval: 1s }}\nscrape_configs: [{{ job_name: gatepost, static_configs: [{{ targets: ['{target}'] }}] }}]\n"
        );
        std::fs::write(&config, text).expect("its settings");
        let log = home.file("prometheus.log");
        let started = Command::new("prometheus")
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", home.file("prometheus").display()))
            .arg("--web.listen-address=127.0.0.1:0")
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(&log).expect("its log"))
            .spawn();
        let child = started.expect("this test needs Prometheus: apt-get install prometheus --no-install-recommends");
        let mut prometheus = Prometheus { child, http: SocketAddr::from(([127, 0, 0, 1], 0)) };
        until("Prometheus listens", || {
            let said = std::fs::read_to_string(&log).unwrap_or_default();
            let address =
                said.lines().find_map(|line| line.split("msg=\"Listening on\" address=").nth(1)?.split(' ').next()?.parse().ok());
            prometheus.http = address.unwrap_or(prometheus.http);
            address.is_some()
        });
        prometheus
    }

    fn ask(&self, path: &str) -> Value {
        let (status, body) = get(self.http, path);
        assert_eq!(status, 200, "{path}: {body}");
        serde_json::from_str(&body).expect("JSON")
    }

    /// Waits until a scrape that began after now has succeeded.
    fn scrapes_once_more(&self) {
        let now = system_now().millis();
        until("it is scraped once more", || {
            let targets = self.ask("/api/v1/targets");
            let target = &targets["data"]["activeTargets"][0];
            let last = target["lastScrape"].as_str().and_then(|at| at.parse::<jiff::Timestamp>().ok());
            target["health"] == "up" && last.is_some_and(|last| last.as_millisecond() > now)
        });
    }

    /// The only value that a query has now.
    fn value(&self, query: &str) -> f64 {
        let encoded: String = query.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let answer = self.ask(&format!("/api/v1/query?query={encoded}"));
        let value = answer["data"]["result"][0]["value"][1].as_str().and_then(|value| value.parse().ok());
        value.unwrap_or_else(|| panic!("{query}: {answer}"))
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn credentials(server: &Server, source: u16, name: &str, password: &str) -> u16 {
    let body = json!({ "UserName": name, "Password": password }).to_string();
    let head = "POST /auth/credentials HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\nAccept: application/json";
    http(server.http(), source, &format!("{head}\r\nContent-Length: {}\r\n\r\n{body}", body.len())).status
}

/// So many of each outcome at the Zenith gate.
fn try_zenith(server: &Server) {
    let mut peer = server.connect_from(1);
    (0..GRANTED).for_each(|_| peer.login("ann", PASSWORD).granted());
    (5..WRONG).for_each(|number| peer.login(&format!("zenith-{number}"), "a guess").rejected());
    (0..5).for_each(|_| peer.login("zenith-target", "a guess").rejected());
    (0..THROTTLED).for_each(|_| peer.login("zenith-target", "a guess").failed("Limited"));
}

fn try_servicestack(server: &Server) {
    (0..GRANTED).for_each(|_| assert_eq!(credentials(server, 2, "ann", PASSWORD), 200));
    (5..WRONG).for_each(|number| assert_eq!(credentials(server, 2, &format!("stack-{number}"), "a guess"), 401));
    (0..5).for_each(|_| assert_eq!(credentials(server, 2, "stack-target", "a guess"), 401));
    (0..THROTTLED).for_each(|_| assert_eq!(credentials(server, 2, "stack-target", "a guess"), 429));
}

fn try_trueconf(server: &Server) {
    let mut panel = panel_from(server, 3);
    (0..GRANTED).for_each(|_| assert_eq!(code(&secured_by(&mut panel, "Adm1n-77")), "0 admin"));
    let wrong = |peer: &mut Peer| code(&secured_by(peer, "a guess"));
    let refused = wrong(&mut panel_from(server, 100));
    (6..WRONG).for_each(|number| {
        let source = 100 + u16::try_from(number).expect("a small number");
        assert_eq!(wrong(&mut panel_from(server, source)), refused);
    });
    let mut target = panel_from(server, 4);
    (0..5).for_each(|_| assert_eq!(wrong(&mut target), refused));
    (0..THROTTLED).for_each(|_| assert_ne!(wrong(&mut target), refused));
}

#[test]
fn what_prometheus_counts_under_load_is_what_was_sent_over_the_three_gates() {
    let home = Home::with_ann(&format!("{CHEAP}{WATCHED}{APP}{DEFAULT}"));
    home.operator(&["terminal", "protect", "default", "administrator", "password"], "Adm1n-77\n").ok();
    let server = Server::of(home);
    let prometheus = Prometheus::scraping(&server, management(&server));
    std::thread::scope(|scope| {
        for load in [try_zenith, try_servicestack, try_trueconf] {
            let server = &server;
            scope.spawn(move || load(server));
        }
    });
    prometheus.scrapes_once_more();
    for gate in ["zenith", "servicestack", "trueconf"] {
        for (outcome, sent) in [("granted", GRANTED), ("wrong", WRONG), ("throttled", THROTTLED)] {
            let counted = prometheus.value(&format!("sum(gatepost_attempts_total{{gate='{gate}',outcome='{outcome}'}})"));
            assert!((counted - sent as f64).abs() < 0.5, "{gate} {outcome}: {counted}, and {sent} were sent");
        }
    }
    let sent = 3 * (GRANTED + WRONG + THROTTLED);
    assert!((prometheus.value("sum(gatepost_attempts_total)") - sent as f64).abs() < 0.5, "nothing else was tried");
    assert!(prometheus.value("sum(gatepost_refused_early_total{reason='throttled'})") as usize == 3 * THROTTLED);
    // Of what was hashed only the passwords that operators set were not tried, and those were hashed before the server began.
    let hashed = 3 * (GRANTED + WRONG);
    for histogram in ["gatepost_password_wait_seconds", "gatepost_password_hash_seconds"] {
        assert_eq!(prometheus.value(&format!("{histogram}_count")) as usize, hashed, "{histogram}");
    }
    assert!(prometheus.value("gatepost_store_commit_seconds_count") > 0.0);
    assert!(prometheus.value("gatepost_ready") > 0.5 && prometheus.value("process_resident_memory_bytes") > 1e6);
}

#[test]
fn health_says_that_it_lives_and_whether_it_is_ready_also_while_it_drains() {
    let mut server = Server::with_ann(&format!("[password]\nmemory_kib = 65536\niterations = 24\n{WATCHED}"));
    let at = management(&server);
    assert_eq!(get(at, "/health/live"), (200, "live\n".to_owned()));
    assert_eq!(get(at, "/health/ready"), (200, "ready\n".to_owned()));
    assert_eq!(get(at, "/other").0, 404);
    assert_eq!(http(at, 0, "POST /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 0\r\n\r\n").status, 405);
    let mut peer = server.connect();
    let before = server.cpu();
    peer.send(
        &json!({"Controller": "Auth", "Topic": "AuthOwner", "TransactionID": 1, "Data": crate::peer::owner("ann", PASSWORD)}),
    );
    until("the password is being compared", || server.cpu() > before + 10);
    server.signal_term();
    let drains = (503, "the server drains\n".to_owned());
    let mut told = Vec::new();
    until("it says that it drains", || {
        told.push(get(at, "/health/ready"));
        told.last() == Some(&drains)
    });
    assert_eq!(get(at, "/health/live").0, 200, "it lives until it has ended");
    assert_eq!(peer.next()["Data"]["Result"], "Success");
    drop(peer);
    assert_eq!(server.wait().0.code(), Some(0));
}

#[test]
fn x16_nothing_that_peers_make_up_and_no_secret_is_in_the_metrics() {
    let server = Server::with_ann(&format!("{CHEAP}{WATCHED}{APP}"));
    let at = management(&server);
    let token = server.connect().login("ann", PASSWORD).token();
    let series = |text: &str| text.lines().filter(|line| !line.starts_with('#')).count();
    let first = series(&get(at, "/metrics").1);
    for number in 0..200_u16 {
        server.connect_from(300 + number).login(&format!("made-up-{number}"), "a secret guess").rejected();
        let path = format!("GET /made-up-{number} HTTP/1.1\r\nHost: made-up\r\nUser-Agent: made-up\r\nConnection: close\r\n\r\n");
        http(server.http(), 0, &path);
    }
    until("sessions were counted", || get(at, "/metrics").1.contains("gatepost_sessions{"));
    let (status, text) = get(at, "/metrics");
    assert_eq!(status, 200);
    assert!(series(&text) <= first + 4, "{first} series grew to {}", series(&text));
    for never in ["made-up", "ann", "127.7.", "secret guess", PASSWORD, &token] {
        assert!(!text.contains(never), "{never} is in {text}");
    }
    assert!(text.contains("gatepost_attempts_total{gate=\"zenith\",method=\"password\",outcome=\"wrong\"} 200"), "{text}");
}

/// Names that would break a line, make up another one, or steer the terminal of whoever reads it.
const NAMES: [&str; 5] = [
    "eve\r\n2026-01-01T00:00:00.000Z  INFO gatepost::attempt: login by zenith: ok",
    "eve\u{1b}[2J\u{1b}]0;title\u{7}",
    "eve\u{9b}31m\u{2028}\u{2029}\u{85}",
    "eve\" outcome=ok name=\"ann",
    "eve\u{202e}nna\u{0}",
];

fn attempted(settings: &str) -> (Server, Vec<String>) {
    let server = Server::with_ann(&format!("{settings}{CHEAP}"));
    for name in NAMES {
        server.connect().login(name, "a secret guess").rejected();
    }
    server.connect().login("ann", PASSWORD).granted();
    until("the last is logged", || server.log().contains("login by zenith: ok"));
    let log = server.log();
    assert!(log.ends_with('\n') && !log.contains("secret guess") && !log.contains(PASSWORD), "{log}");
    let codes = |character: char| character.is_control() || "\u{2028}\u{2029}\u{202e}".contains(character);
    let lines: Vec<String> = log.lines().filter(|line| line.contains("gatepost::attempt")).map(str::to_owned).collect();
    assert_eq!(lines.len(), NAMES.len() + 1, "an attempt is a line: {log}");
    assert!(settings.contains("json") || !log.lines().any(|line| line.contains(codes)), "{log:?}");
    assert!(!log.lines().any(|line| line.contains(char::is_control)), "{log:?}");
    (server, lines)
}

#[test]
fn x11_no_name_breaks_a_line_of_text() {
    let (_server, lines) = attempted("");
    for line in &lines[..NAMES.len()] {
        assert!(line.contains(" INFO gatepost::attempt: login by zenith: invalid_credentials "), "{line}");
        assert!(line.contains(" outcome=invalid_credentials "), "{line}");
    }
}

#[test]
fn x11_no_name_breaks_a_line_of_json_and_the_audit_has_the_same_attempts() {
    let (server, lines) = attempted("log_format = 'json'\n");
    let lines: Vec<Value> = lines.iter().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    for (line, name) in lines.iter().zip(NAMES.iter().chain(&["ann"])) {
        assert_eq!((&line["name"], &line["gate"], &line["method"]), (&json!(name), &json!("zenith"), &json!("password")));
        let attempt = line["attempt"].as_str().expect("an id");
        let audited = || server.operator(&["audit", "show", "--attempt", attempt, "--json"], "").ok();
        until("the audit has it", || !audited().is_empty());
        let row: Value = serde_json::from_str(audited().trim_end()).expect("one line");
        assert_eq!((&row["attempt"], &row["name"], &row["outcome"]), (&line["attempt"], &line["name"], &line["outcome"]));
    }
}
