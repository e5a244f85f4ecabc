//! PINs guessed by the thousand, from sources that a trusted proxy tells of: how many are compared, that nothing but time makes
//! more of it, and who comes in meanwhile.

use std::time::{Duration, Instant};

use gatepost_identity::clock::{SystemEntropy, draw, system_instant};
use serde_json::Value;

use crate::harness::{CHEAP, Home, Server, until};
use crate::peer::{Peer, handshake};
use crate::terminals::{DEFAULT, code, panel, secured_by, text};

/// The loopback address of the proxy.
const PROXY: u16 = 1;
const TRUSTING: &str = "[proxy]\ntrusted = [\"127.7.0.1\"]\nprotocol = true\n";
/// How many sources there are. The first half has an IPv4 address each, the second an IPv6 network of 64 bits.
const SOURCES: u16 = 1000;
/// How many PINs each of them tries.
const EACH: u16 = 10;
/// A source is free to be wrong this often, and all together so often.
const FREE: usize = 5;
const FREE_TOGETHER: usize = 50;
/// How long a source waits, and for how long no PIN is looked at.
const WAIT: Duration = Duration::from_secs(2);

/// A terminal both of whose roles have a PIN, which are told: the administrator's and the user's.
fn with_pins(settings: &str) -> (Home, [String; 2]) {
    let home = Home::new(&format!("{CHEAP}{TRUSTING}{DEFAULT}{settings}"));
    let pins = ["administrator", "user"].map(|role| {
        let told = home.operator(&["terminal", "protect", "default", role, "pin", "--json"], "").json();
        text(&told, "pin").to_owned()
    });
    (home, pins)
}

/// A panel at one of the sources. An IPv6 network has many hosts.
fn panel_at(server: &Server, source: u16, host: u16) -> Peer {
    let header = match source {
        0..500 => format!("PROXY TCP4 198.51.{}.{} 127.0.0.1 4711 8765\r\n", 100 + source / 250, 1 + source % 250),
        _ => format!("PROXY TCP6 2001:db8:0:{source:x}::{host:x} ::1 4711 8765\r\n"),
    };
    let mut peer = Peer::dial(server.own("trueconf", "control.default"), PROXY);
    peer.write(header.as_bytes());
    peer.exchange(&handshake("/", "")).map(|(peer, _)| peer).expect("it opens")
}

/// One string that was compared and was wrong: whose, and between which moments.
struct Compared {
    source: u16,
    sent: Instant,
    heard: Instant,
}

/// Everybody's guesses, one after the other, and the codes that each was answered with.
struct Guesses {
    compared: Vec<Compared>,
    /// How many had been compared when somebody was told to wait who had not been wrong yet.
    before_anybody_waits: Option<usize>,
    last: String,
}

/// How much of a wait may be missing: the server counts in whole milliseconds, and a panel reads another clock.
const ROUNDED: Duration = Duration::from_millis(5);

impl Guesses {
    fn guess(&mut self, peer: &mut Peer, source: u16, pin: &str) {
        let sent = system_instant();
        let answer = secured_by(peer, pin);
        let heard = system_instant();
        self.last = code(&answer);
        match &*self.last {
            "8" => self.compared.push(Compared { source, sent, heard }),
            "6" => {
                assert!(answer["retryAfter"].as_u64().is_some_and(|seconds| seconds <= WAIT.as_secs()), "{answer}");
                let was_wrong = self.compared.iter().any(|compared| compared.source == source);
                let all = self.compared.len();
                self.before_anybody_waits = self.before_anybody_waits.or((!was_wrong).then_some(all));
            }
            other => panic!("{pin} from {source}: {other}"),
        }
    }

    /// Sees that those which `all` are free for came at once, and then as many again each time a wait was over.
    fn came_only(all: &[&Compared], free: usize, then: usize) {
        for (number, pair) in all.windows(2).enumerate().map(|(number, pair)| (number + 1, pair)) {
            if number >= free && (number - free).is_multiple_of(then) {
                let apart = pair[1].heard.duration_since(pair[0].sent);
                assert!(apart + ROUNDED >= WAIT, "the {number}th was compared {apart:?} after the one before");
            }
        }
    }
}

#[test]
fn ten_thousand_pins_from_a_thousand_sources_are_fifty_comparisons_at_a_time_and_five_from_each() {
    let (home, [administrators, users]) = with_pins(
        "[trueconf.lock_out]\nfree = 5\nfirst_wait = 2\nlongest_wait = 2\npins_free = 50\npins_within = 600\npins_suspended = 2\n",
    );
    let server = Server::of(home);
    let mut token = text(&secured_by(&mut panel(&server), &administrators), "token").to_owned();
    // Twenty of the guesses, drawn by chance but for the last thousand; each is followed by somebody who comes back, once it is one
    // that has to wait.
    let drawn = draw::<40>(&SystemEntropy);
    let mut moments: Vec<u16> = drawn.chunks(2).map(|two| u16::from_be_bytes([two[0], two[1]]) % 9_000).collect();
    moments.sort_unstable_by(|a, b| b.cmp(a));
    let mut came_back = 0;
    let mut guesses = Guesses { compared: Vec::new(), before_anybody_waits: None, last: String::new() };
    for source in 0..SOURCES {
        let mut peer = panel_at(&server, source, 1);
        for number in 0..EACH {
            if number == 3 {
                // To come again does not help, nor does another host of the same network.
                peer = panel_at(&server, source, 2);
            }
            let pin = source * EACH + number;
            guesses.guess(&mut peer, source, &format!("{pin:04}"));
            while guesses.last == "6" && moments.last().is_some_and(|moment| *moment <= pin) {
                moments.pop();
                let back = secured_by(&mut panel_at(&server, source, 3), &token);
                assert_eq!(code(&back), "0 admin", "a token that stands, from {source} after {pin}");
                token = text(&back, "token").to_owned();
                came_back += 1;
            }
        }
    }
    assert_eq!(came_back, 20, "{moments:?} met no wait");
    let all: Vec<&Compared> = guesses.compared.iter().collect();
    assert!(all.len() >= FREE_TOGETHER, "{}", all.len());
    Guesses::came_only(&all, FREE_TOGETHER, FREE_TOGETHER);
    for source in 0..SOURCES {
        let own: Vec<&Compared> = all.iter().copied().filter(|compared| compared.source == source).collect();
        Guesses::came_only(&own, FREE, 1);
    }
    let before = guesses.before_anybody_waits.expect("somebody waits for what others did");
    assert!(before >= FREE_TOGETHER && before.is_multiple_of(FREE_TOGETHER), "{before} were compared before");
    // Who has nothing to do with it waits too, and learns nothing; then the right one opens, from a source that had guessed as well.
    let mut fresh = SOURCES;
    until("somebody's right PIN has to wait", || {
        while guesses.last != "6" {
            guesses.guess(&mut panel_at(&server, fresh, 1), fresh, "wrong");
            fresh += 1;
        }
        fresh += 1;
        guesses.last = String::new();
        code(&secured_by(&mut panel_at(&server, fresh, 1), &users)) == "6"
    });
    until("the wait is over", || code(&secured_by(&mut panel_at(&server, fresh, 2), &users)) == "0 user");
    until("and for whoever guessed", || code(&secured_by(&mut panel_at(&server, 0, 1), &administrators)) == "0 admin");
}

#[test]
fn what_counts_against_sources_and_terminal_outlives_the_process() {
    let (home, [_, users]) =
        with_pins("[trueconf.lock_out]\nfree = 3\nfirst_wait = 600\npins_free = 10\npins_suspended = 600\npins_within = 600\n");
    let mut server = Server::of(home);
    let guess = |server: &Server, source: u16, pin: &str| -> Value { secured_by(&mut panel_at(server, source, 1), pin) };
    for _ in 0..3 {
        assert_eq!(code(&guess(&server, 1, "wrong")), "8");
    }
    for source in [600, 601] {
        for _ in 0..3 {
            assert_eq!(code(&guess(&server, source, "wrong")), "8");
        }
    }
    server.terminate();
    server.restart();
    for source in [1, 600, 601] {
        assert_eq!(code(&guess(&server, source, &users)), "6", "{source}");
    }
    // Nine were wrong before; the tenth of all is the last that is looked at.
    assert_eq!(code(&guess(&server, 2, "wrong")), "8");
    assert_eq!(code(&guess(&server, 3, &users)), "6");
    // On disk within a second, so that not even a crash makes new guesses free.
    std::thread::sleep(Duration::from_millis(1500));
    server.kill9();
    server.restart();
    assert_eq!(code(&guess(&server, 3, &users)), "6");
    assert_eq!(code(&guess(&server, 4, &users)), "6");
}
