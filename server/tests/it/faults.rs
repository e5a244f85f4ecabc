//! A disk that is full, a sync that fails and a clock that steps, under login load at both gates: what was told stays true, nobody is
//! let in or told that a password is wrong, proofs of who somebody is go on, and the server recovers by itself.
//!
//! The full disk is a small one of its own, where the system lets us mount. A failing sync, and a full disk where it does not, stand
//! between the server and the C library (`faults.c`), so that they come and go with a file. The clock is Debian's `faketime`, by
//! file, and where that is not installed `faults.c` again.

use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::Scope;
use std::time::Duration;

use gatepost_identity::clock::system_instant;

use crate::harness::{CHEAP, Home, PASSWORD, Server, until};
use crate::held::{APP, Held, sign_in};
use crate::mounts::{Mounts, own_mounts, small_disk};
use crate::peer::Peer;
use crate::terminals::{DEFAULT, code, panel_from, secured_by};

/// Users who log in at the Zenith gate all the while; one more does at the ServiceStack gate.
const LOAD: usize = 2;
/// Within which time somebody is let in again.
const RECOVERS: Duration = Duration::from_secs(2);
/// The room on the small disk: enough for the schema and some thousand logins.
const ROOM: &str = "24m";

/// The names last as long as the test, which is as long as the process.
fn leak(text: &str) -> &'static str {
    Box::leak(text.to_owned().into_boxed_str())
}

/// The settings of every server here, and the users `load-N`, `application` and `locked` beside ann.
fn home(more: &str) -> Home {
    Home::with_ann(&format!("{CHEAP}{APP}{more}"))
}

fn populate(home: &Home) {
    let names = (0..LOAD).map(|number| format!("load-{number}")).chain(["application", "locked"].map(str::to_owned));
    home.add_copies("ann", names);
}

/// What has to be told to a server so that its disk and its clock can fail: the directory whose files do it.
fn frail(home: &Home) -> (PathBuf, Vec<(&'static str, &'static str)>) {
    let (library, faults) = (home.file("faults.so"), home.file("faults"));
    std::fs::create_dir(&faults).expect("a directory");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/faults.c");
    let mut compile = Command::new("cc");
    let compiled = compile.args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).args([source, "-ldl"]).status();
    assert!(compiled.expect("a C compiler, which building needs too").success());
    let (library, place) = (leak(library.to_str().expect("UTF-8")), leak(faults.to_str().expect("UTF-8")));
    (faults, vec![("LD_PRELOAD", library), ("FAULTS", place)])
}

/// Logs in at both gates until it is done. Whoever has the right password is let in or told that it cannot be now, and never that
/// the password is wrong.
struct Load {
    address: SocketAddr,
    told: Mutex<Vec<Held>>,
    done: AtomicBool,
}

impl Load {
    fn on(server: &Server) -> Load {
        Load { address: server.http(), told: Mutex::default(), done: AtomicBool::new(false) }
    }

    fn begin<'scope>(&'scope self, scope: &'scope Scope<'scope, '_>) {
        for number in 0..LOAD {
            scope.spawn(move || {
                let name = format!("load-{number}");
                while !self.done.load(Ordering::Acquire) {
                    let answer = Peer::connect(self.address, 0).login(&name, PASSWORD);
                    match answer.outcome() {
                        "Success" => self.told.lock().expect("nobody panics").push(Held::Token(answer.token())),
                        "Reject" => panic!("{answer:?}"),
                        _ => {}
                    }
                }
            });
        }
        scope.spawn(move || {
            while !self.done.load(Ordering::Acquire) {
                match sign_in(self.address, "application", PASSWORD).expect("an answer") {
                    Ok([cookie, _]) => self.told.lock().expect("nobody panics").push(cookie),
                    Err(status) => assert!(matches!(status, 503 | 429), "{status}"),
                }
            }
        });
    }

    fn count(&self) -> usize {
        self.told.lock().expect("nobody panics").len()
    }

    /// Waits until there are clearly more than there were.
    fn goes_on(&self) {
        let before = self.count();
        until("logins come in", || self.count() > before + 3 * LOAD);
    }
}

/// Ends when it is dropped, also where the test panics: its threads are waited for.
impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.done.store(true, Ordering::Release);
    }
}

struct Ending<'a>(&'a Load);

/// What ann holds at the beginning, and which is never asked of the disk.
struct Proofs {
    address: SocketAddr,
    connection: Peer,
    token: String,
    held: Vec<Held>,
}

impl Proofs {
    fn of(server: &Server) -> Proofs {
        let mut connection = server.connect();
        let token = connection.login("ann", PASSWORD).token();
        let mut held = sign_in(server.http(), "ann", PASSWORD).expect("an answer").expect("she is let in").to_vec();
        let key = server.operator(&["apikey", "add", "ann", "--json"], "").json();
        held.push(Held::Bearer(key["key"].as_str().expect("its text").to_owned()));
        Proofs { address: server.http(), connection, token, held }
    }

    /// Whether the token is given back as it was: the disk takes nothing.
    fn is_unrolled(&mut self) -> bool {
        let told = Peer::connect(self.address, 0).restore(&self.token).token();
        let same = told == self.token;
        self.token = told;
        same
    }

    fn go_on(&mut self) {
        self.connection.query().granted();
        for held in &self.held {
            assert!(held.stands(self.address), "{held:?}");
        }
    }
}

/// A fault that comes and goes.
enum Fault {
    /// With a file of this name.
    Planted(PathBuf),
    /// With a file that takes all the room that is left on a small disk.
    Filling(PathBuf),
}

impl Fault {
    fn begin(&self) {
        match self {
            Fault::Planted(file) => std::fs::write(file, "").expect("the fault"),
            Fault::Filling(file) => {
                let mut filling = std::fs::OpenOptions::new().create(true).append(true).open(file).expect("a file");
                for size in [1 << 20, 4096, 1] {
                    let part = vec![0; size];
                    while filling.write_all(&part).is_ok() {}
                }
            }
        }
    }

    fn end(&self) {
        let (Fault::Planted(file) | Fault::Filling(file)) = self;
        std::fs::remove_file(file).expect("the fault goes");
    }
}

fn outlives(mut server: Server, fault: &Fault) {
    let mut proofs = Proofs::of(&server);
    let load = Load::on(&server);
    std::thread::scope(|scope| {
        let ending = Ending(&load);
        load.begin(scope);
        for _ in 0..3 {
            load.goes_on();
            fault.begin();
            // Of a disk that is full some room may be left for what is small.
            until("the store fails", || {
                let refused = server.connect().login("ann", PASSWORD).outcome() != "Success";
                refused && proofs.is_unrolled()
            });
            let during = load.count();
            server.connect().login("ann", "a wrong one").rejected();
            assert_eq!(sign_in(server.http(), "ann", "a wrong one").expect("an answer").expect_err("it is wrong"), 401);
            let refused = sign_in(server.http(), "ann", PASSWORD).expect("an answer").expect_err("nothing can be kept");
            assert_eq!(refused, 503);
            assert!(proofs.is_unrolled());
            proofs.go_on();
            std::thread::sleep(Duration::from_millis(300));
            proofs.go_on();
            let let_in = load.count() - during;
            assert!(let_in <= LOAD + 1, "{let_in} were let in although nothing could be kept");
            fault.end();
            let since = system_instant();
            until("somebody is let in", || server.connect().login("ann", PASSWORD).outcome() == "Success");
            assert!(since.elapsed() < RECOVERS, "it took {:?}", since.elapsed());
            assert!(!proofs.is_unrolled());
            proofs.go_on();
        }
        drop(ending);
    });
    assert!(server.log().contains("nothing was written"), "the server says what is wrong");
    // Neither memory nor disk has anybody else in.
    let told = load.told.into_inner().expect("nobody panicked");
    server.kill9();
    server.restart();
    for held in told.iter().chain(&proofs.held).chain([&Held::Token(proofs.token)]) {
        assert!(held.stands(server.http()), "{held:?} was told, and is gone");
    }
}

const OFTEN: &str = "[throttle]\nname_free = 100000\ntoken_free = 100000\nsource_free = 100000\n";

/// X10: a full disk.
#[test]
fn a_full_disk_lets_nobody_in_loses_nobody_and_is_over_when_there_is_room() {
    let test = "faults::a_full_disk_lets_nobody_in_loses_nobody_and_is_over_when_there_is_room";
    match own_mounts(test) {
        Mounts::Done => {}
        Mounts::Own => {
            let home = Home::new(&format!("{CHEAP}{APP}{OFTEN}"));
            small_disk(&home.data(), ROOM);
            home.operator(&["client", "add", "app", "--scope", "Zenith/Market", "--scope", "Zenith/News"], "").ok();
            home.add_user("ann", &[]);
            populate(&home);
            let filling = Fault::Filling(home.data().join("filling"));
            outlives(Server::of(home), &filling);
        }
        Mounts::Denied => {
            let home = home(OFTEN);
            populate(&home);
            let (faults, environment) = frail(&home);
            outlives(Server::with_environment(home, &environment), &Fault::Planted(faults.join("full")));
        }
    }
}

/// X10: a failed sync.
#[test]
fn a_sync_that_fails_lets_nobody_in_loses_nobody_and_is_over_when_it_works() {
    let home = home(OFTEN);
    populate(&home);
    let (faults, environment) = frail(&home);
    outlives(Server::with_environment(home, &environment), &Fault::Planted(faults.join("no-sync")));
}

/// X1: whatever of the disk fails, no gate takes a wrong secret, none lets anybody in whom it could not write down where it must, and
/// none says of a right secret that it is wrong.
#[test]
fn while_the_store_fails_every_gate_refuses_and_none_skips() {
    let home = home(&format!("{OFTEN}{DEFAULT}"));
    populate(&home);
    home.operator(&["terminal", "protect", "default", "administrator", "password"], "Adm1n-77\n").ok();
    let (faults, environment) = frail(&home);
    let server = Server::with_environment(home, &environment);
    let mut source = 0;
    for fault in ["full", "no-sync", "no-read"] {
        std::fs::write(faults.join(fault), "").expect("the fault");
        for round in 0..10 {
            // Names that are known in memory, and such as nobody has asked for yet.
            let name = ["ann", "locked", "load-0", "load-1"][round % 4];
            let outcome = server.connect().login(name, PASSWORD).outcome().to_owned();
            let status = sign_in(server.http(), name, PASSWORD).expect("an answer").err();
            assert!(outcome != "Reject" && status != Some(401), "{fault}: {name} has the right password: {outcome}, {status:?}");
            if fault != "no-read" {
                assert!(outcome != "Success" && status == Some(503), "{fault}: {name} was let in: {outcome}, {status:?}");
            }
            assert_ne!(server.connect().login(name, "a wrong one").outcome(), "Success", "{fault}");
            assert!(sign_in(server.http(), name, "a wrong one").expect("an answer").is_err(), "{fault}");
            assert_ne!(server.connect().login(&format!("nobody-{fault}-{round}"), PASSWORD).outcome(), "Success", "{fault}");
            // A terminal writes nothing down where somebody comes in, and counts failures by source.
            source += 1;
            let mut panel = panel_from(&server, source);
            assert!(!code(&secured_by(&mut panel, "Adm1n-78")).starts_with("0 "), "{fault}");
            assert_eq!(code(&secured_by(&mut panel, "Adm1n-77")), "0 admin", "{fault}");
        }
        std::fs::remove_file(faults.join(fault)).expect("the fault goes");
        until("somebody is let in", || server.connect().login("ann", PASSWORD).outcome() == "Success");
    }
}

/// Where Debian's package puts the library for programs with threads.
fn faketime() -> Option<PathBuf> {
    let name = "faketime/libfaketimeMT.so.1";
    let machine = std::fs::read_dir("/usr/lib").into_iter().flatten().flatten().map(|entry| entry.path().join(name));
    machine.chain([Path::new("/usr/lib").join(name)]).find(|path| path.is_file())
}

/// The clock of a server, by file.
struct Clock {
    file: PathBuf,
    aside: PathBuf,
    /// What stands before the number of seconds.
    sign: &'static str,
}

impl Clock {
    /// Adds to the environment of a server what sets its clock.
    #[expect(clippy::print_stderr, reason = "whoever reads the output wants to know which clock it was")]
    fn of(home: &Home, faults: &Path, environment: &mut Vec<(&'static str, &'static str)>) -> Clock {
        let aside = home.file("clock-aside");
        let Some(library) = faketime() else {
            eprintln!("Debian's package faketime is not installed; the clock steps by faults.c");
            return Clock { file: faults.join("clock"), aside, sign: "" };
        };
        let file = home.file("clock");
        let clock = Clock { file, aside, sign: "+" };
        clock.set(0);
        let preloaded = format!("{} {}", environment[0].1, library.display());
        environment[0].1 = leak(&preloaded);
        let file = leak(clock.file.to_str().expect("UTF-8"));
        // Only the wall clock steps, as on a machine, and at once.
        environment.extend([("FAKETIME_TIMESTAMP_FILE", file), ("FAKETIME_NO_CACHE", "1"), ("FAKETIME_DONT_FAKE_MONOTONIC", "1")]);
        clock
    }

    /// Writes to the side first, so that nobody reads half of it.
    fn set(&self, seconds: i64) {
        let sign = if seconds < 0 { "" } else { self.sign };
        std::fs::write(&self.aside, format!("{sign}{seconds}")).expect("a file");
        std::fs::rename(&self.aside, &self.file).expect("the clock steps");
    }
}

/// X9 and X10: steps of an hour either way, and syncs that fail for five seconds.
#[test]
fn a_clock_that_steps_by_an_hour_lifts_no_lock_loses_nobody_who_was_told_and_lets_nothing_live_again() {
    let throttle =
        "[throttle]\ntoken_free = 100000\nsource_free = 100000\nname_free = 1\nfirst_wait = \"10m\"\nlongest_wait = \"10m\"\n";
    let home = home(&format!("{throttle}[session]\naccess_life = \"30m\"\n"));
    populate(&home);
    let (faults, mut environment) = frail(&home);
    let clock = Clock::of(&home, &faults, &mut environment);
    let mut server = Server::with_environment(home, &environment);
    // The name of a user, and the one failure that is free.
    server.connect().login("locked", "a wrong one").rejected();
    let refused = |server: &Server| {
        let outcome = server.connect_from(7).login("locked", PASSWORD);
        assert_ne!(outcome.outcome(), "Success", "the lock was lifted: {outcome:?}");
        assert!(sign_in(server.http(), "locked", PASSWORD).expect("an answer").is_err(), "the lock was lifted");
    };
    refused(&server);
    // Two that end within the first hour.
    let bearer = || sign_in(server.http(), "ann", PASSWORD).expect("an answer").expect("she is let in")[1].clone();
    let short = [bearer(), bearer()];
    assert!(short.iter().all(|token| token.stands(server.http())));
    let load = Load::on(&server);
    std::thread::scope(|scope| {
        let ending = Ending(&load);
        load.begin(scope);
        // Whether the server goes along: once it was an hour ahead, it stays there.
        for (hour, steps_on) in [(3600, true), (0, false), (-3600, false), (0, false), (3600, false)] {
            let mut held = server.connect();
            held.login("ann", PASSWORD).granted();
            clock.set(hour);
            load.goes_on();
            refused(&server);
            if steps_on {
                // It proved itself more than half an hour ago, as far as anybody can tell.
                until("it is no longer taken for authenticated", || held.query().outcome() == "Reject");
            }
            assert!(!short.iter().any(|token| token.stands(server.http())), "what had ended lives again at {hour}");
            let newest = bearer();
            assert!(newest.stands(server.http()), "what is signed now is good now");
            let told = load.told.lock().expect("nobody panics").clone();
            for held in told.iter().rev().take(50) {
                assert!(held.stands(server.http()), "{held:?} at {hour}");
            }
            if hour == -3600 {
                let planted = faults.join("no-sync");
                std::fs::write(&planted, "").expect("the fault");
                until("the store fails", || server.connect().login("ann", PASSWORD).outcome() != "Success");
                let during = load.count();
                std::thread::sleep(Duration::from_secs(5));
                assert!(load.count() - during <= LOAD + 1, "somebody was let in although nothing could be kept");
                refused(&server);
                assert!(newest.stands(server.http()));
                std::fs::remove_file(&planted).expect("the fault goes");
                let since = system_instant();
                until("somebody is let in", || server.connect().login("ann", PASSWORD).outcome() == "Success");
                assert!(since.elapsed() < RECOVERS, "it took {:?}", since.elapsed());
            }
        }
        drop(ending);
    });
    assert!(server.log().contains("the machine's clock was set back"), "the server says what is wrong");
    let told = load.told.into_inner().expect("nobody panicked");
    // Counts of failures are written within a second, and the rest of this takes less where nothing else runs.
    std::thread::sleep(Duration::from_millis(1500));
    let pid = server.pid();
    server.kill9();
    // What faketime shares among processes it takes away only where it may end in good order.
    for left in [format!("/dev/shm/faketime_shm_{pid}"), format!("/dev/shm/sem.faketime_sem_{pid}")] {
        std::fs::remove_file(left).ok();
    }
    clock.set(0);
    server.restart();
    refused(&server);
    for held in &told {
        assert!(held.stands(server.http()), "{held:?} was told, and is gone");
    }
    server.terminate();
}
