//! A data directory of its own, the command line on it, and the server as a process that can be ended in every way.
//!
//! Decides how a test begins and how it cleans up. It refuses to know what is asked of the server.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::ops::Deref;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use gatepost_identity::account::{Account, AccountId, NameKey, Username};
use gatepost_identity::audit::AuditEntry;
use gatepost_identity::clock::{system_instant, system_now};
use gatepost_identity::store::{Placed, Store};
use gatepost_store::Sqlite;
use rustix::process::Signal;
use serde_json::Value;

use crate::peer::Peer;

/// How long anything may take before a test gives up.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);
/// Hashes that cost nothing, for tests that are not about their cost.
pub(crate) const CHEAP: &str = "[password]\nmemory_kib = 64\niterations = 1\n";
/// The password of every sample user.
pub(crate) const PASSWORD: &str = "correct horse";

/// Waits for what can be seen to come true.
pub(crate) fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = system_instant() + LIMIT;
    while !holds() {
        assert!(system_instant() < end, "{what}: not within {LIMIT:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A throw-away directory with a settings file and a data directory; commands work in it with or without a server.
pub(crate) struct Home {
    root: PathBuf,
    /// Whether the directory goes with it.
    keeps: bool,
}

impl Home {
    /// `settings` is what follows the addresses in `gatepost.toml`.
    pub(crate) fn new(settings: &str) -> Home {
        static LAST: AtomicU32 = AtomicU32::new(0);
        let number = LAST.fetch_add(1, Ordering::Relaxed);
        let root = std::env::temp_dir().join(format!("gatepost-it-{}-{number}", std::process::id()));
        // A process of the same id may have died here before.
        std::fs::remove_dir_all(&root).ok();
        std::fs::DirBuilder::new().mode(0o700).create(&root).expect("a temporary directory");
        let home = Home { root, keeps: false };
        std::fs::DirBuilder::new().mode(0o700).create(home.data()).expect("a data directory");
        home.write_settings(settings);
        home
    }

    /// Writes the settings anew, the addresses before them.
    pub(crate) fn write_settings(&self, settings: &str) {
        let addresses = format!("http = \"127.0.0.1:0\"\ndata = {:?}\n", self.data());
        std::fs::write(self.settings(), addresses + settings).expect("a settings file");
    }

    /// A home with the public client `app` and the user `ann`, who hold Market and News.
    pub(crate) fn with_ann(settings: &str) -> Home {
        let home = Home::new(settings);
        home.operator(&["client", "add", "app", "--scope", "Zenith/Market", "--scope", "Zenith/News"], "").ok();
        home.add_user("ann", &[]);
        home
    }

    /// The same home once more, for a server that ends before it.
    pub(crate) fn shared(&self) -> Home {
        Home { root: self.root.clone(), keeps: true }
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.root.join("data")
    }

    pub(crate) fn settings(&self) -> PathBuf {
        self.file("gatepost.toml")
    }

    /// A file where the server runs; the settings may name it without its directory.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// The binary on this home, before its arguments.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_gatepost"));
        command.env_clear().current_dir(&self.root).arg("--config").arg(self.settings());
        command
    }

    /// Runs one command to its end.
    pub(crate) fn operator(&self, arguments: &[&str], stdin: &str) -> Output {
        let mut command = self.command();
        run(command.args(arguments), stdin)
    }

    /// Adds a user who holds Market and News, with [`PASSWORD`].
    pub(crate) fn add_user(&self, name: &str, more: &[&str]) {
        let scopes = ["--scope", "Zenith/Market", "--scope", "Zenith/News"];
        self.operator(&[&["user", "add", name], &scopes[..], more].concat(), PASSWORD).ok();
    }

    /// Adds users as `pattern` is, password and all, without a hash for each. Only while nobody holds the data directory.
    pub(crate) fn add_copies(&self, pattern: &str, names: impl Iterator<Item = String>) {
        let (store, workers) = Sqlite::open(&self.data()).expect("the data directory is free");
        let threads: Vec<_> = workers.into_iter().map(|worker| std::thread::spawn(|| worker.run())).collect();
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(async {
            let pattern = store.account_named(&NameKey::of(pattern)).await.expect("a store").expect("the pattern");
            for (number, name) in (1..).zip(names) {
                let account = Account {
                    id: AccountId(uuid::Uuid::from_u128(number)),
                    subject: name.clone(),
                    name: Username::parse(&name).expect("a name"),
                    ..pattern.clone()
                };
                assert_eq!(store.add_account(account, entry()).await, Ok(Placed::Done), "{name}");
            }
        });
        drop(store);
        threads.into_iter().for_each(|thread| thread.join().expect("a worker of the store"));
    }

    /// The sessions in force, as `session list` tells them.
    pub(crate) fn sessions(&self) -> Vec<Value> {
        self.operator(&["session", "list", "--json"], "").json().as_array().expect("rows").clone()
    }

    /// The newest lines of the audit.
    pub(crate) fn audit(&self) -> Vec<Value> {
        let printed = self.operator(&["audit", "tail", "-n", "1000", "--json"], "").ok();
        printed.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect()
    }

    /// What the server wrote to standard error so far.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.root.join("stderr")).unwrap_or_default()
    }

    /// Every file of the data directory as bytes.
    pub(crate) fn files(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let entries = std::fs::read_dir(self.data()).expect("the data directory").map(|entry| entry.expect("an entry").path());
        entries.filter(|path| path.is_file()).map(|path| (path.clone(), std::fs::read(path).expect("a file"))).collect()
    }
}

fn entry() -> AuditEntry {
    AuditEntry::new(system_now(), "user_add", "operator")
}

impl Drop for Home {
    #[expect(clippy::print_stderr, reason = "whoever reads why a test failed wants the server's own words")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- the server's standard error ---\n{}---", self.log());
        }
        if !self.keeps {
            std::fs::remove_dir_all(&self.root).ok();
        }
    }
}

/// Runs a command with this standard input.
pub(crate) fn run(command: &mut Command, stdin: &str) -> Output {
    let spawned = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = spawned.expect("the binary runs");
    // A command that reads nothing may have gone already.
    child.stdin.take().expect("it is piped").write_all(stdin.as_bytes()).ok();
    let output = child.wait_with_output().expect("its output");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    Output { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}

/// What a command said.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Output {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Output {
    /// Its standard output; it must have succeeded.
    pub(crate) fn ok(self) -> String {
        assert_eq!(self.code, Some(0), "{self:?}");
        self.out
    }

    /// As [`Output::ok`], as JSON.
    pub(crate) fn json(self) -> Value {
        let out = self.ok();
        serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out:?}"))
    }

    /// Its complaint, without the program's name; it must have failed with exit code 1 and said nothing on standard output.
    pub(crate) fn complaint(self) -> String {
        assert_eq!((self.code, self.out.as_str()), (Some(1), ""), "{self:?}");
        let sentence = self.err.trim_end().strip_prefix("gatepost: ");
        sentence.unwrap_or_else(|| panic!("{self:?}")).to_owned()
    }
}

/// A server that runs, or has run, in a home.
pub(crate) struct Server {
    running: Option<Running>,
    home: Home,
    environment: Vec<(&'static str, &'static str)>,
    arguments: Vec<&'static str>,
    limit: Option<&'static str>,
}

struct Running {
    child: Child,
    stdout: BufReader<ChildStdout>,
    ready: Value,
}

impl Deref for Server {
    type Target = Home;

    fn deref(&self) -> &Home {
        &self.home
    }
}

impl Server {
    /// A server in an empty home.
    pub(crate) fn start(settings: &str) -> Server {
        Server::of(Home::new(settings))
    }

    /// A server with `app` and `ann` in it.
    pub(crate) fn with_ann(settings: &str) -> Server {
        Server::of(Home::with_ann(settings))
    }

    /// A server in this home.
    pub(crate) fn of(home: Home) -> Server {
        Server::with_environment(home, &[])
    }

    /// A server that is also told by its environment.
    pub(crate) fn with_environment(home: Home, environment: &[(&'static str, &'static str)]) -> Server {
        Server::begun(home, &[], environment)
    }

    /// A server that is told by what follows `serve`, and by its environment.
    pub(crate) fn begun(home: Home, arguments: &[&'static str], environment: &[(&'static str, &'static str)]) -> Server {
        let (environment, arguments) = (environment.to_vec(), arguments.to_vec());
        let mut server = Server { running: None, home, environment, arguments, limit: None };
        server.restart();
        server
    }

    /// A server under a limit that the shell sets before.
    pub(crate) fn limited(home: Home, limit: &'static str) -> Server {
        let (environment, arguments) = (Vec::new(), Vec::new());
        let mut server = Server { running: None, home, environment, arguments, limit: Some(limit) };
        server.restart();
        server
    }

    /// What it was told by its environment it is not told again.
    pub(crate) fn forget_environment(&mut self) {
        self.environment.clear();
    }

    /// Is under no limit from its next start on.
    pub(crate) fn forget_limit(&mut self) {
        self.limit = None;
    }

    /// Is under this limit from its next start on.
    pub(crate) fn limit(&mut self, limit: &'static str) {
        self.limit = Some(limit);
    }

    /// Starts it again in the same home.
    pub(crate) fn restart(&mut self) {
        assert!(self.running.is_none(), "it still runs");
        let path = self.home.root.join("stderr");
        let log = std::fs::OpenOptions::new().create(true).append(true).open(path).expect("a file for standard error");
        let mut command = self.home.command();
        if let Some(limit) = self.limit {
            // The shell becomes the server, so that its pid is the server's.
            let mut shell = Command::new("/bin/sh");
            shell.env_clear().current_dir(&self.home.root).arg("-c").arg(format!("{limit} && exec \"$0\" \"$@\""));
            shell.arg(command.get_program()).args(command.get_args());
            command = shell;
        }
        command.envs(self.environment.iter().copied()).arg("serve").args(&self.arguments);
        let spawned = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log).spawn();
        let mut child = spawned.expect("the binary runs");
        let mut stdout = BufReader::new(child.stdout.take().expect("it is piped"));
        let mut line = String::new();
        stdout.read_line(&mut line).expect("standard output");
        let ready = line.strip_prefix("ready ").and_then(|json| serde_json::from_str(json).ok());
        // Kept before the line is judged, so that whatever was started is ended.
        let running = self.running.insert(Running { child, stdout, ready: Value::Null });
        running.ready = ready.unwrap_or_else(|| panic!("no ready line but {line:?}"));
    }

    /// Whether it was started and not ended since, by a test.
    pub(crate) fn is_up(&self) -> bool {
        self.running.is_some()
    }

    /// What stood on the ready line.
    pub(crate) fn ready(&self) -> &Value {
        &self.running.as_ref().expect("it runs").ready
    }

    /// Where HTTP is answered.
    pub(crate) fn http(&self) -> SocketAddr {
        self.address("http")
    }

    /// Where HTTP over TLS is answered.
    pub(crate) fn https(&self) -> SocketAddr {
        self.address("https")
    }

    fn address(&self, listener: &str) -> SocketAddr {
        self.ready()[listener].as_str().and_then(|address| address.parse().ok()).expect("an address on the ready line")
    }

    /// Where a gate's own listener is.
    pub(crate) fn own(&self, gate: &str, listener: &str) -> SocketAddr {
        let address = self.ready()[gate][listener].as_str().and_then(|address| address.parse().ok());
        address.unwrap_or_else(|| panic!("no {gate}.{listener} on the ready line: {}", self.ready()))
    }

    pub(crate) fn pid(&self) -> u32 {
        self.running.as_ref().expect("it runs").child.id()
    }

    /// A WebSocket to it.
    pub(crate) fn connect(&self) -> Peer {
        Peer::connect(self.http(), 0)
    }

    /// A WebSocket from the loopback address with this number; each number is a source of its own.
    pub(crate) fn connect_from(&self, source: u16) -> Peer {
        Peer::connect(self.http(), source)
    }

    /// Processor time that the process has used, in the system's ticks.
    pub(crate) fn cpu(&self) -> u64 {
        let stat = std::fs::read_to_string(Path::new("/proc").join(self.pid().to_string()).join("stat")).expect("it runs");
        let after_name = stat.rsplit(')').next().expect("a name in brackets");
        let fields: Vec<&str> = after_name.split_whitespace().collect();
        // utime and stime: fields 14 and 15 of proc(5), which counts from 1 and the pid.
        fields[11..13].iter().map(|field| field.parse::<u64>().expect("a number")).sum()
    }

    /// Memory that the process holds now, in bytes.
    pub(crate) fn memory(&self) -> u64 {
        self.status("VmRSS:")
    }

    /// The most memory that the process held at any one moment since [`Server::forget_peak`], in bytes.
    pub(crate) fn peak(&self) -> u64 {
        self.status("VmHWM:")
    }

    /// Begins to look for the peak anew.
    pub(crate) fn forget_peak(&self) {
        // What is written to this file is a code of proc(5).
        std::fs::write(Path::new("/proc").join(self.pid().to_string()).join("clear_refs"), "5").expect("it is ours");
    }

    fn status(&self, name: &str) -> u64 {
        let status = std::fs::read_to_string(Path::new("/proc").join(self.pid().to_string()).join("status")).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("a line of proc(5)");
        line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") * 1024
    }

    /// Asks it to end.
    pub(crate) fn signal_term(&self) {
        self.signal(Signal::TERM);
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        let pid = rustix::process::Pid::from_raw(i32::try_from(self.pid()).expect("a pid")).expect("not 0");
        rustix::process::kill_process(pid, signal).expect("it runs");
    }

    /// Waits for its end. Answers its status and what more it wrote to standard output.
    pub(crate) fn wait(&mut self) -> (ExitStatus, String) {
        let mut running = self.running.take().expect("it runs");
        let mut rest = String::new();
        running.stdout.read_to_string(&mut rest).expect("standard output");
        (running.child.wait().expect("its status"), rest)
    }

    /// Ends it in good order.
    pub(crate) fn terminate(&mut self) {
        self.signal_term();
        let (status, _) = self.wait();
        assert!(status.success(), "{status}");
    }

    /// Ends it without a warning.
    pub(crate) fn kill9(&mut self) {
        let mut running = self.running.take().expect("it runs");
        running.child.kill().expect("it runs");
        assert_eq!(running.child.wait().expect("its status").signal(), Some(9));
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(mut running) = self.running.take() {
            running.child.kill().ok();
            running.child.wait().ok();
        }
    }
}
