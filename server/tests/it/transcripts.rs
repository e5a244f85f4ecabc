//! The transcripts, run on the real binary over a socket.
//!
//! The same files run on the pure codec in `protocols/tests/transcripts.rs`; here the `core` lines are passed over, the
//! `operator` lines are run, and the cast of `transcripts/README.md` is in the database. With `GATEPOST_INVERT=1` every
//! expectation is spoiled in turn, and every transcript must fail.

#[path = "../../../transcripts/script.rs"]
#[expect(unreachable_pub, reason = "the module is shared by test programs, each of which includes it whole")]
#[expect(dead_code, reason = "the list of cases is checked where the codec runs")]
pub(crate) mod script;

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;
use std::sync::OnceLock;

use script::{Answered, Handshake, Received, Service, Side, Stage, Upward, Wire};

use crate::harness::{Home, Server};
use crate::mirror::Mirror;
use crate::peer::{BINARY, CLOSE, PING, PONG, Peer, TEXT, frame, handshake};
use crate::played::Played;

/// Cheap hashes, in dotted keys, since a transcript's own settings stand behind them.
const SETTINGS: &str = "password.memory_kib = 64\npassword.iterations = 1\nservicestack.client = \"app\"\n";

/// A server with the cast in it.
struct Real {
    wire: Wire,
    server: Option<Server>,
    peers: BTreeMap<u32, Peer>,
    /// The service behind the gate, where the script has one.
    played: Option<Played>,
    /// The service of the examples behind the gate, where the settings name it.
    mirror: Option<Mirror>,
}

impl Real {
    fn server(&mut self) -> Result<&mut Server, String> {
        self.server.as_mut().ok_or("the server has not begun".to_owned())
    }

    fn played(&mut self) -> Result<&mut Played, String> {
        self.played.as_mut().ok_or("no setting names a service behind the gate".to_owned())
    }

    fn peer(&mut self, connection: u32) -> Result<&mut Peer, String> {
        self.peers.get_mut(&connection).ok_or(format!("there is no connection {connection}"))
    }
}

impl Stage for Real {
    fn begin(&mut self, settings: &[String]) -> Result<(), String> {
        let mut settings = settings.to_vec();
        self.played = Played::of(&mut settings);
        if self.wire == Wire::TrueConf {
            let listeners = ["trueconf.web = '127.0.0.1:0'", "trueconf.http = '127.0.0.1:0'"].map(str::to_owned);
            settings.extend(listeners);
            if !settings.iter().any(|line| line.starts_with("trueconf.terminals")) {
                settings.push("trueconf.terminals = [{ name = 'default', control = '127.0.0.1:0' }]".to_owned());
            }
        }
        self.mirror = Mirror::of(&mut settings);
        let home = Home::new(&format!("{SETTINGS}{}\n", settings.join("\n")));
        for (name, bytes) in cast() {
            std::fs::write(home.data().join(name), bytes).map_err(|error| error.to_string())?;
        }
        let server = Server::of(home);
        self.mirror.iter_mut().for_each(|mirror| mirror.serve(server.http()));
        self.server = Some(server);
        self.played.as_mut().map_or(Ok(()), Played::begin)
    }

    fn connect(&mut self, wanted: &Handshake) -> Result<Answered, String> {
        let more: String = wanted.headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let body = wanted.body.as_ref().map(|body| format!("Content-Length: {}\r\n\r\n{body}", body.len()));
        let request = match wanted.upgrade {
            // Its clients go by its address, and are looked at by where they say that they come from.
            true if self.wire == Wire::TrueConf => {
                handshake(&wanted.target, &more).replace("Host: localhost", "Host: 127.0.0.1:8765")
            }
            true => handshake(&wanted.target, &more),
            false => format!(
                "{} {} HTTP/1.1\r\nHost: localhost\r\n{more}{}",
                wanted.method,
                wanted.target,
                body.as_deref().unwrap_or("\r\n")
            ),
        };
        let wire = self.wire;
        let server = self.server()?;
        let address = match wire {
            Wire::Zenith | Wire::ServiceStack => server.http(),
            Wire::TrueConf if wanted.upgrade => server.own("trueconf", "control.default"),
            Wire::TrueConf if wanted.target.starts_with("/public/") => server.own("trueconf", "web"),
            Wire::TrueConf => server.own("trueconf", "http"),
        };
        let response = match Peer::request(address, 0, &request) {
            Ok((peer, response)) => {
                self.peers.insert(wanted.connection, peer);
                response
            }
            Err(response) => response,
        };
        let fields = response.head.lines().skip(1).filter_map(|line| line.split_once(':'));
        let reason = response.head.lines().next().and_then(|line| line.splitn(3, ' ').nth(2)).unwrap_or_default();
        Ok(Answered {
            status: response.status,
            reason: reason.to_owned(),
            body: response.body.clone(),
            protocol: response.header("sec-websocket-protocol").map(str::to_owned),
            headers: fields.map(|(name, value)| (name.to_owned(), value.trim().to_owned())).collect(),
        })
    }

    fn send_text(&mut self, connection: u32, text: &str) -> Result<(), String> {
        self.peer(connection)?.write_if_read(&frame(TEXT, text.as_bytes()));
        Ok(())
    }

    fn send_binary(&mut self, connection: u32, bytes: &[u8]) -> Result<(), String> {
        self.peer(connection)?.write_if_read(&frame(BINARY, bytes));
        Ok(())
    }

    fn next(&mut self, connection: u32) -> Result<Received, String> {
        let peer = self.peer(connection)?;
        loop {
            let Some(received) = peer.frame() else { return Ok(Received::Nothing) };
            match received.opcode {
                TEXT => return String::from_utf8(received.payload).map(Received::Text).map_err(|error| error.to_string()),
                PING => peer.write_if_read(&frame(PONG, &received.payload)),
                CLOSE => {
                    peer.write_if_read(&frame(CLOSE, &received.payload));
                    let code = received.payload.first_chunk().map_or(1005, |code| u16::from_be_bytes(*code));
                    return Ok(Received::Close(code));
                }
                _ => return Err(format!("{received:?} has no place on this wire")),
            }
        }
    }

    fn service(&mut self, connection: u32, what: &Service) -> Result<(), String> {
        self.played()?.act(connection, what)
    }

    fn upward(&mut self, connection: u32) -> Result<Upward, String> {
        self.played()?.next(connection)
    }

    fn core(&mut self, _: &str) -> Result<(), String> {
        Ok(())
    }

    fn operator(&mut self, arguments: &[String]) -> Result<(), String> {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let (arguments, typed) = match arguments.iter().position(|argument| *argument == "<") {
            Some(at) => (&arguments[..at], arguments[at + 1..].join(" ") + "\n"),
            None => (&*arguments, String::new()),
        };
        let output = self.server()?.operator(arguments, &typed);
        if output.code == Some(0) { Ok(()) } else { Err(format!("{arguments:?}: {output:?}")) }
    }

    fn stop(&mut self) -> Result<(), String> {
        self.server()?.signal_term();
        Ok(())
    }

    fn end(&mut self) -> Result<(), String> {
        self.played.as_mut().map_or(Ok(()), Played::end)
    }
}

/// The files of a data directory that holds the cast, made once by the command line.
fn cast() -> &'static [(String, Vec<u8>)] {
    static CAST: OnceLock<Vec<(String, Vec<u8>)>> = OnceLock::new();
    CAST.get_or_init(|| {
        let home = Home::new(SETTINGS);
        let every = ["Market", "News", "Trading", "OrderPad", "Authorise", "Admin"].map(|right| format!("--scope=Zenith/{right}"));
        let every: Vec<&str> = every.iter().map(String::as_str).collect();
        let (market, trading) = ("--scope=Zenith/Market", "--scope=Zenith/Trading");
        let ann = ["user", "add", "ann", "--id", "u-ann", "--display-name", "Ann Example", market, trading];
        let more = ["--email=ann@example.org", "--role=Editor", "--permission=Print"];
        home.operator(&[&ann[..], &more].concat(), "pw\n").ok();
        home.operator(&["user", "add", "bob", "--id", "u-bob", market], "pw\n").ok();
        home.operator(&[&["client", "add", "app"], &every[..]].concat(), "").ok();
        home.operator(&["client", "add", "svc", "--secret-stdin", market], "s3\n").ok();
        let named = |(path, bytes): (std::path::PathBuf, Vec<u8>)| {
            (path.file_name().expect("a file has a name").to_string_lossy().into_owned(), bytes)
        };
        home.files().into_iter().map(named).collect()
    })
}

#[test]
fn transcripts_hold_on_the_real_binary() {
    hold("zenith", Wire::Zenith);
    hold("servicestack", Wire::ServiceStack);
}

#[test]
fn transcripts_of_a_terminal_hold_on_the_real_binary() {
    hold("trueconf", Wire::TrueConf);
}

fn hold(folder: &str, wire: Wire) {
    let scripts = script::load(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../transcripts").join(folder));
    let invert = std::env::var_os("GATEPOST_INVERT").is_some_and(|value| value == "1");
    let mut stage =
        || -> Box<dyn Stage> { Box::new(Real { wire, server: None, peers: BTreeMap::new(), played: None, mirror: None }) };
    let held = script::run_all(&scripts, Side::Server, invert, &mut stage).unwrap_or_else(|wrong| panic!("{wrong}"));
    writeln!(std::io::stdout(), "{folder}, real binary: {held}").expect("standard output");
}
