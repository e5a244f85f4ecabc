//! Panels in front of a device: the real binary, with the terminal of the examples behind it, which says what it is asked.
//!
//! Who may command it, and who hears what it says, is the gate's to keep; these tests see both ends.

use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use gatepost_identity::clock::system_instant;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

use crate::harness::{CHEAP, Home, Server, until};
use crate::peer::{Peer, TEXT, frame, handshake};

#[path = "../../../examples/terminal/service.rs"]
pub(crate) mod service;

const PIN: &str = "K7M2QX";

/// What the device was asked so far.
#[derive(Clone, Default)]
struct Asked(Arc<Mutex<Vec<Value>>>);

impl Asked {
    fn all(&self) -> Vec<Value> {
        self.0.lock().expect("nobody has panicked").clone()
    }

    fn times(&self, method: &str) -> usize {
        self.all().iter().filter(|request| request["method"] == method).count()
    }
}

/// A device, behind a server.
struct Behind {
    server: Server,
    asked: Asked,
    device: service::Terminal,
    address: SocketAddr,
    running: Option<JoinHandle<()>>,
    runtime: Runtime,
}

impl Behind {
    /// With an administrator by the password `Adm1n-77` and a user by `usr-42`, and what else the settings say of gate and device.
    /// The secret that the gate has for the device is `secret`.
    fn with(secret: &str, gate: &str, more: &str) -> Behind {
        let runtime = Runtime::new().expect("a runtime");
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).expect("a port");
        let address = listener.local_addr().expect("its address");
        let upstream = format!(
            "{{ address = 'ws://{address}/', secret_file = 'device-pin', user_methods = ['call', 'echo', 'later', 'never', 'pad', \
             'flood'], {more} }}"
        );
        let home = Home::new(&format!(
            "{CHEAP}[trueconf]\nweb = '127.0.0.1:0'\nhttp = '127.0.0.1:0'\n{gate}\n[[trueconf.terminals]]\nname = 'default'\ncontrol = \
             '127.0.0.1:0'\nupstream = {upstream}\n"
        ));
        keep(&home, secret);
        for (role, password) in [("administrator", "Adm1n-77\n"), ("user", "usr-42\n")] {
            home.operator(&["terminal", "protect", "default", role, "password"], password).ok();
        }
        let asked = Asked::default();
        let record = asked.clone();
        let device = service::Terminal::new(Some(PIN), move |request| record.0.lock().expect("it is free").push(request.clone()));
        let mut behind = Behind { server: Server::of(home), asked, device, address, running: None, runtime };
        behind.serve(listener);
        behind
    }

    /// Whom the device has let in.
    fn open() -> Behind {
        let behind = Behind::with(PIN, "", "");
        behind.is_in();
        behind
    }

    fn serve(&mut self, listener: TcpListener) {
        self.running = Some(self.runtime.spawn(self.device.clone().serve(listener)));
    }

    fn stop(&mut self) {
        let running = self.running.take().expect("it runs");
        running.abort();
        self.runtime.block_on(running).expect_err("it serves until it is ended");
    }

    fn begin_again(&mut self) {
        let listener = self.runtime.block_on(async {
            let socket = tokio::net::TcpSocket::new_v4()?;
            socket.set_reuseaddr(true)?;
            socket.bind(self.address)?;
            socket.listen(64)
        });
        self.serve(listener.expect("the address is free again"));
    }

    /// Sees that the gate is let in.
    fn is_in(&self) {
        let mut panel = self.administrator();
        until("the device lets the gate in", || ask(&mut panel, json!({"method": "getAppState"}))["result"] == true);
    }

    fn panel(&self) -> Peer {
        let address = self.server.own("trueconf", "control.default");
        Peer::request(address, 0, &handshake("/", "")).map(|(peer, _)| peer).expect("it opens")
    }

    fn administrator(&self) -> Peer {
        let mut panel = self.panel();
        assert_eq!(secured_by(&mut panel, "Adm1n-77")["previleges"], 2);
        panel
    }

    fn user(&self) -> Peer {
        let mut panel = self.panel();
        assert_eq!(secured_by(&mut panel, "usr-42")["previleges"], 1);
        panel
    }
}

/// Writes what the gate is to show the device.
fn keep(home: &Home, secret: &str) {
    let file = home.file("device-pin");
    let opened = std::fs::OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(file);
    writeln!(opened.expect("a file"), "{secret}").expect("it takes a line");
}

fn ask(peer: &mut Peer, request: Value) -> Value {
    peer.send(&request);
    peer.next()
}

fn secured_by(peer: &mut Peer, credentials: &str) -> Value {
    ask(peer, json!({"method": "auth", "type": "secured", "credentials": credentials}))
}

fn done(method: &str, id: Value) -> Value {
    json!({"method": method, "requestId": id, "result": true})
}

fn no(method: &str, id: Value, error: &str) -> Value {
    json!({"method": method, "requestId": id, "result": false, "error": error})
}

#[test]
fn two_panels_with_one_request_id_get_each_their_own_answer() {
    let behind = Behind::open();
    let (mut first, mut second) = (behind.administrator(), behind.user());
    // The device answers the first once it has answered the second.
    first.send(&json!({"method": "later", "requestId": "1"}));
    until("the device is asked", || behind.asked.times("later") == 1);
    let mut expected = done("echo", json!("1"));
    expected["what"] = json!("second");
    assert_eq!(ask(&mut second, json!({"method": "echo", "requestId": "1", "what": "second"})), expected);
    assert_eq!(first.next(), done("later", json!("1")));
    // A thousand times over, both at once, each id of either kind.
    std::thread::scope(|scope| {
        for (name, peer) in [("first", &mut first), ("second", &mut second)] {
            scope.spawn(move || {
                for id in 0..500 {
                    let id = if id % 2 == 0 { json!(id) } else { json!(id.to_string()) };
                    let answer = ask(peer, json!({"method": "echo", "requestId": id, "what": name}));
                    assert_eq!((&answer["requestId"], &answer["what"]), (&id, &json!(name)));
                }
            });
        }
    });
    assert_eq!(ask(&mut second, json!({"method": "call", "requestId": {"a": 1}}))["requestId"], "");
    // What it tells by itself is for both, with our port.
    let http = behind.server.own("trueconf", "http").port();
    let told = json!({"method": "event", "event": "appStateChanged", "appState": 5, "embeddedHttpPort": http});
    assert_eq!((first.next(), second.next()), (told.clone(), told));
    let state = ask(&mut first, json!({"method": "getAppState"}));
    assert_eq!((&state["appState"], &state["embeddedHttpPort"]), (&json!(5), &json!(http)));
}

#[test]
fn what_a_role_may_not_do_the_device_never_sees() {
    let behind = Behind::open();
    let mut stranger = behind.panel();
    let (mut administrator, mut user) = (behind.administrator(), behind.user());
    let before = behind.asked.all().len();
    for method in ["setSettings", "connectToServer", "login", "shutdown", "changeCurrentMonitor", "hangUp", "Echo", "noSuch"] {
        assert_eq!(ask(&mut user, json!({"method": method, "requestId": 1})), no(method, json!(1), "access denied"));
    }
    for method in ["echo", "getAppState", "noSuch"] {
        assert_eq!(ask(&mut stranger, json!({"method": method, "requestId": 1})), no(method, json!(1), "not authorized"));
    }
    // What is answered here is not asked there, whoever asks.
    for method in ["getAuthInfo", "getHttpServerSettings", "getTokenForHttpServer", "getOverlayHttpToken", "setUsedApiVersion"] {
        ask(&mut administrator, json!({"method": method, "version": "1"}));
    }
    assert_eq!(ask(&mut user, json!({"method": "echo", "requestId": 2}))["result"], true);
    let monitor = json!({"method": "changeCurrentMonitor", "requestId": 3});
    assert_eq!(ask(&mut administrator, monitor), done("changeCurrentMonitor", json!(3)));
    let seen: Vec<Value> = behind.asked.all()[before..].iter().map(|request| request["method"].clone()).collect();
    assert_eq!(seen, ["echo", "changeCurrentMonitor"], "and nothing else came to the device");
    // A login here is none there: what a panel shows stays here, and what the device showed us too.
    assert_eq!(behind.asked.times("auth"), 1);
    assert!(behind.asked.all().iter().all(|request| !request.to_string().contains("Adm1n-77")));
    let log = behind.server.log();
    assert!(!log.contains(PIN) && !log.contains("1*device"), "{log}");
}

#[test]
fn a_device_that_goes_is_found_again() {
    let mut behind = Behind::open();
    let (mut administrator, mut user) = (behind.administrator(), behind.user());
    user.send(&json!({"method": "never", "requestId": 7}));
    // Its answer would come after, so that the request before it is on its way.
    assert_eq!(ask(&mut administrator, json!({"method": "echo"}))["result"], true);
    until("the device is asked", || behind.asked.times("never") == 1);
    behind.stop();
    assert_eq!(user.next(), no("never", json!(7), "no device"));
    until("both are told", || ask(&mut administrator, json!({"method": "shutdown"})) == no("shutdown", json!(""), "no device"));
    let mut newcomer = behind.panel();
    assert_eq!(secured_by(&mut newcomer, "usr-42")["previleges"], 1, "here one still comes in");
    assert_eq!(ask(&mut newcomer, json!({"method": "echo"})), no("echo", json!(""), "no device"));
    assert_eq!(ask(&mut newcomer, json!({"method": "getHttpServerState"}))["result"], true, "what is ours goes on");
    let before = behind.asked.times("echo");
    behind.begin_again();
    until("the device is there again", || ask(&mut newcomer, json!({"method": "echo"}))["result"] == true);
    assert_eq!(behind.asked.times("echo"), before + 1, "what was told to be undone is not done later");
    assert_eq!(behind.asked.times("auth"), 2);
    until("the log says so", || behind.server.log().matches("has let us in").count() == 2);
}

#[test]
fn a_wrong_secret_is_shown_once_and_another_at_once() {
    let behind = Behind::with("wrong-one", "", "");
    until("the gate has tried", || behind.server.log().contains("code 8"));
    let mut user = behind.user();
    assert_eq!(ask(&mut user, json!({"method": "call"})), no("call", json!(""), "no device"));
    std::thread::sleep(Duration::from_secs(4));
    assert_eq!(behind.asked.times("auth"), 1, "whoever knocks on is locked out");
    let log = behind.server.log();
    assert!(log.contains("trueconf.terminals[0].upstream") && !log.contains("wrong-one"), "{log}");
    keep(&behind.server, PIN);
    until("the right one is shown", || ask(&mut user, json!({"method": "echo"}))["result"] == true);
    assert_eq!(behind.asked.times("auth"), 2);
}

#[test]
fn whoever_lost_the_role_hears_nothing_more_of_the_device() {
    let behind = Behind::open();
    let (mut first, mut user) = (behind.administrator(), behind.user());
    first.send(&json!({"method": "never", "requestId": "q"}));
    until("the device is asked", || behind.asked.times("never") == 1);
    let mut second = behind.administrator();
    assert_eq!(first.next(), no("never", json!("q"), "not authorized"));
    assert_eq!(first.next()["cause"], 1);
    let told = |peer: &mut Peer| peer.next()["event"].clone();
    assert_eq!(ask(&mut user, json!({"method": "call"})), done("call", json!("")));
    assert_eq!((told(&mut user), told(&mut second)), (json!("appStateChanged"), json!("appStateChanged")));
    assert_eq!(ask(&mut first, json!({"method": "echo"})), no("echo", json!(""), "not authorized"), "it heard no event");
    // The same by an operator.
    behind.server.operator(&["terminal", "protect", "default", "user", "password"], "another\n").ok();
    assert_eq!(user.next()["cause"], 4);
    assert_eq!(ask(&mut second, json!({"method": "hangUp"})), done("hangUp", json!("")));
    assert_eq!(told(&mut second), "appStateChanged");
    assert_eq!(ask(&mut user, json!({"method": "echo"})), no("echo", json!(""), "not authorized"));
}

#[test]
fn whoever_takes_the_role_at_the_device_itself_is_left_it_for_a_while() {
    let behind = Behind::open();
    let mut user = behind.user();
    let mut other = Peer::request(behind.address, 0, &handshake("/", "")).map(|(peer, _)| peer).expect("it opens");
    assert_eq!(secured_by(&mut other, PIN)["previleges"], 2);
    until("we are out", || ask(&mut user, json!({"method": "echo"})) == no("echo", json!(""), "no device"));
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(behind.asked.times("auth"), 2, "ours, and theirs");
    assert_eq!(ask(&mut other, json!({"method": "getAppState"}))["result"], true);
    assert!(behind.server.log().contains("somebody else was let in"), "the operator is told");
}

#[test]
fn a_long_answer_passes_whole_and_one_that_is_too_long_costs_little() {
    let behind = Behind::open();
    let mut user = behind.user();
    let long = ask(&mut user, json!({"method": "pad", "requestId": "q", "bytes": 900_000}));
    assert_eq!((long["what"].as_str().map(str::len), &long["requestId"]), (Some(900_000), &json!("q")));
    behind.server.forget_peak();
    let before = behind.server.memory();
    assert_eq!(ask(&mut user, json!({"method": "pad", "requestId": "q", "bytes": 10_000_000})), no("pad", json!("q"), "no device"));
    let cost = behind.server.peak().saturating_sub(before);
    assert!(cost < 4 * 1024 * 1024, "{cost} bytes");
    until("the gate comes again", || ask(&mut user, json!({"method": "echo"}))["result"] == true);
    // Whoever needs more says so.
    let behind = Behind::with(PIN, "", "max_message = 16777216");
    behind.is_in();
    let long = ask(&mut behind.user(), json!({"method": "pad", "bytes": 10_000_000}));
    assert_eq!(long["what"].as_str().map(str::len), Some(10_000_000));
}

#[test]
fn a_flood_of_events_and_a_peer_that_does_not_read_cost_little() {
    let behind = Behind::with(PIN, "unsent_for = 3", "");
    behind.is_in();
    let (mut user, mut deaf) = (behind.user(), behind.administrator());
    behind.server.forget_peak();
    let before = behind.server.memory();
    // More than sockets hold: 100,000 events of 250 bytes, and the other panel reads none of them.
    let began = system_instant();
    user.send(&json!({"method": "flood", "requestId": "f", "events": 100_000}));
    let mut events = 0;
    let answer = loop {
        let told = user.next();
        if told["event"] != "tick" {
            break told;
        }
        events += 1;
    };
    assert_eq!(answer, done("flood", json!("f")), "an answer is not left out");
    assert!(events > 0, "whoever reads hears some");
    assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
    let cost = behind.server.peak().saturating_sub(before);
    assert!(cost < 8 * 1024 * 1024, "{cost} bytes");
    until("whoever does not read is given up", || {
        let shown = behind.server.operator(&["terminal", "show", "default", "--json"], "").json();
        shown["connections"] == 1
    });
    assert_eq!(ask(&mut user, json!({"method": "echo"}))["result"], true);
    // What is left of it ends with the connection.
    while deaf.frame_unless_gone().is_some() {}
}

#[test]
fn a_device_that_takes_nothing_is_given_up() {
    let home = Home::new("");
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("its address");
    home.write_settings(&format!(
        "{CHEAP}[trueconf]\nweb = '127.0.0.1:0'\nhttp = '127.0.0.1:0'\nunsent_for = 2\n[[trueconf.terminals]]\nname = 'default'\ncontrol = \
         '127.0.0.1:0'\nupstream = {{ address = 'ws://{address}/' }}\n"
    ));
    let server = Server::of(home);
    let device = played(&listener);
    let control = server.own("trueconf", "control.default");
    let mut panel = Peer::request(control, 0, &handshake("/", "")).map(|(peer, _)| peer).expect("it opens");
    assert_eq!(ask(&mut panel, json!({"method": "auth", "type": "unsecured"}))["resultCode"], 0);
    until("it is let in", || server.log().contains("has let us in"));
    server.forget_peak();
    let before = server.memory();
    // It takes no more, and the panel asks on, until sockets and queues are full and it is not listened to any more.
    let request = json!({"method": "call", "requestId": "c", "what": "x".repeat(60_000)}).to_string();
    let writer = panel.writer();
    let asking = std::thread::spawn(move || writer(&frame(TEXT, request.as_bytes()).repeat(200)));
    // All of them are answered, each once: those that had to make room, and those that were lost with the device.
    let told: Vec<Value> = (0..200).map(|_| panel.next()).collect();
    let times = |error: &str| told.iter().filter(|answer| **answer == no("call", json!("c"), error)).count();
    assert_eq!(times("no answer") + times("no device"), 200, "{told:?}");
    assert!(times("no device") > 0);
    assert_eq!(ask(&mut panel, json!({"method": "getHttpServerState"}))["result"], true, "and nothing more");
    let cost = server.peak().saturating_sub(before);
    assert!(cost < 8 * 1024 * 1024, "{cost} bytes");
    asking.join().expect("it could say all");
    assert!(server.log().contains("takes nothing"), "{}", server.log());
    drop(device);
}

/// A device that a test plays by hand, once it has let the gate in.
fn played(listener: &std::net::TcpListener) -> tokio_tungstenite::tungstenite::WebSocket<std::net::TcpStream> {
    let (stream, _) = listener.accept().expect("the gate comes");
    let mut device = tokio_tungstenite::tungstenite::accept(stream).expect("a handshake");
    let login = device.read().expect("a login").to_string();
    assert_eq!(login, r#"{"method":"auth","requestId":"0","role":"admin","type":"unsecured"}"#);
    device.send(r#"{"method":"auth","requestId":"0","previleges":2,"result":true,"resultCode":0}"#.into()).expect("it is read");
    device
}

#[test]
fn each_terminal_has_its_own_device_and_says_goodbye_to_it() {
    let devices = [(); 2].map(|()| std::net::TcpListener::bind("127.0.0.1:0").expect("a port"));
    let terminal = |name: &str, device: &std::net::TcpListener| {
        let address = device.local_addr().expect("its address");
        format!("[[trueconf.terminals]]\nname = '{name}'\ncontrol = '127.0.0.1:0'\nupstream = {{ address = 'ws://{address}/' }}\n")
    };
    let terminals = terminal("hall", &devices[0]) + &terminal("room", &devices[1]);
    let home = Home::new(&format!("{CHEAP}[trueconf]\nweb = '127.0.0.1:0'\nhttp = '127.0.0.1:0'\n{terminals}"));
    let mut server = Server::of(home);
    let mut devices = devices.map(|listener| played(&listener));
    until("both let it in", || server.log().matches("has let us in").count() == 2);
    let mut panels = ["control.hall", "control.room"].map(|name| {
        let address = server.own("trueconf", name);
        let mut panel = Peer::request(address, 0, &handshake("/", "")).map(|(peer, _)| peer).expect("it opens");
        assert_eq!(ask(&mut panel, json!({"method": "auth", "type": "unsecured"}))["resultCode"], 0);
        panel
    });
    for (number, (panel, device)) in panels.iter_mut().zip(&mut devices).enumerate() {
        panel.send(&json!({"method": "call", "requestId": 9, "whose": number}));
        let request: Value = serde_json::from_str(&device.read().expect("a request").to_string()).expect("JSON");
        assert_eq!((&request["whose"], &request["requestId"]), (&json!(number), &json!("1")));
        let answer = json!({"method": "call", "requestId": "1", "result": true, "whose": number});
        device.send(answer.to_string().into()).expect("it is read");
        assert_eq!(panel.next()["whose"], number);
    }
    server.terminate();
    for device in &mut devices {
        let goodbye = device.read().expect("a goodbye");
        let tokio_tungstenite::tungstenite::Message::Close(Some(frame)) = goodbye else { panic!("{goodbye:?}") };
        assert_eq!(u16::from(frame.code), 1001);
    }
}

#[test]
fn what_is_wrong_with_the_settings_is_said_at_the_start() {
    let home = Home::new("");
    let upstream = |upstream: &str| {
        home.write_settings(&format!("[trueconf]\nterminals = [{{ name = 'a', upstream = {{ {upstream} }} }}]\n"));
        home.operator(&["check"], "").complaint()
    };
    let complaint = upstream("address = 'wss://127.0.0.1:1/'");
    assert!(complaint.contains("trueconf.terminals[0].upstream.address: must be a ws:// address"), "{complaint}");
    let with_file = "address = 'ws://127.0.0.1:1/', secret_file = 'device-pin'";
    let complaint = upstream(with_file);
    assert!(complaint.contains("trueconf.terminals[0].upstream.secret_file: device-pin: "), "{complaint}");
    for (secret, what) in
        [("", "must hold a secret"), ("two\nlines", "must hold a secret"), (&"x".repeat(1025), "must hold a secret")]
    {
        keep(&home, secret);
        let complaint = upstream(with_file);
        assert!(complaint.contains(what) && !complaint.contains("two"), "{complaint}");
    }
    keep(&home, PIN);
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    std::fs::set_permissions(home.file("device-pin"), mode).expect("it is ours");
    let complaint = upstream(with_file);
    assert!(complaint.contains("open to others (mode 644)"), "{complaint}");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(home.file("device-pin"), mode).expect("it is ours");
    let checked = home.operator(&["check"], "").ok();
    assert!(!checked.contains(PIN), "{checked}");
}
