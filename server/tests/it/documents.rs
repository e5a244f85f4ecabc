//! The documents, held to what they say: their command lines are typed, their settings are read, their links lead somewhere.
//!
//! A walk goes through one document from its top to its end, as a newcomer would: settings are written, commands are typed in a
//! throw-away home, and the server starts, stops and answers where the document says so. Of what it finds only addresses, ports and
//! places in the file system are rewritten. Whatever is neither typed nor named here as somebody else's fails the walk.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use toml::Table;

use crate::device::service::Terminal;
use crate::harness::{CHEAP, Home, PASSWORD, Server, run, until};
use crate::peer::{http, owner};
use crate::terminals::{ask, code, panel, secured_by};

/// What the documents type that is not ours, by how it begins, and why it is not typed here.
const NOT_OURS: [&str; 10] = [
    // The binary is there already.
    "cargo build --release",
    "cd target/release",
    "export GATEPOST_CONFIG=/etc/gatepost/gatepost.toml",
    // It would change the machine.
    "useradd --system ",
    // The unit is looked at where it is tested.
    "install -m 644 contrib/gatepost.service ",
    "systemctl daemon-reload",
    // `proxies.rs` runs both by the same files.
    "nginx -t",
    "systemctl reload nginx",
    "haproxy -c -f /etc/haproxy/haproxy.cfg",
    "systemctl reload haproxy",
];
/// The PIN of the device in front of which the gate is put.
const DEVICES_PIN: &str = "K7M2QX";

/// Where the documents are.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").to_owned()
}

/// The text of a file of the repository.
pub(crate) fn text_of(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// A fenced block of a document.
#[derive(Debug)]
pub(crate) struct Block {
    /// The number of the line that its fence is on, from 1.
    pub(crate) line: usize,
    /// What stands behind the fence, such as `sh`.
    pub(crate) language: String,
    pub(crate) text: String,
}

/// The fenced blocks of a text.
pub(crate) fn blocks(text: &str) -> Vec<Block> {
    let (mut found, mut open) = (Vec::new(), None::<Block>);
    for (line, content) in (1..).zip(text.lines()) {
        let fence = content.trim_start().strip_prefix("```");
        match (open.take(), fence) {
            (None, Some(language)) => open = Some(Block { line, language: language.trim().to_owned(), text: String::new() }),
            (None, None) => {}
            (Some(block), Some(_)) => found.push(block),
            (Some(mut block), None) => {
                block.text += content;
                block.text.push('\n');
                open = Some(block);
            }
        }
    }
    assert!(open.is_none(), "a fence is not closed: {open:?}");
    found
}

/// The blocks of this language below a heading, up to the next heading of the same level or above.
pub(crate) fn fenced_below(path: &str, heading: &str, language: &str) -> Vec<String> {
    let text = text_of(path);
    let level = heading.chars().take_while(|letter| *letter == '#').count();
    let mut lines = text.lines().skip_while(|line| *line != heading);
    assert!(lines.next().is_some(), "{path} has no {heading:?}");
    let mut fenced = false;
    let below = lines.take_while(|line| {
        fenced ^= line.starts_with("```");
        let hashes = line.chars().take_while(|letter| *letter == '#').count();
        fenced || hashes == 0 || hashes > level
    });
    let below: String = below.flat_map(|line| [line, "\n"]).collect();
    blocks(&below).into_iter().filter(|block| block.language == language).map(|block| block.text).collect()
}

/// A heading as the address behind `#` that it gets, as the common readers of Markdown make it.
fn anchor(heading: &str) -> String {
    let kept = heading.trim_start_matches('#').trim().to_lowercase();
    kept.chars()
        .filter(|letter| letter.is_alphanumeric() || " -_".contains(*letter))
        .map(|letter| if letter == ' ' { '-' } else { letter })
        .collect()
}

/// Every document of the repository, by its path from there.
fn documents() -> Vec<PathBuf> {
    fn below(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path()) {
            let name = entry.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if entry.is_dir() && !name.starts_with('.') && !name.starts_with("target") && name != "node_modules" {
                below(&entry, found);
            } else if name.ends_with(".md") {
                found.push(entry);
            }
        }
    }
    let mut found = Vec::new();
    below(&root(), &mut found);
    assert!(found.len() > 20, "{found:?}");
    found.iter().map(|path| path.strip_prefix(root()).expect("it is there").to_owned()).collect()
}

/// What of a text stands outside of fenced blocks, with its line breaks.
fn outside(text: &str) -> String {
    let mut fenced = false;
    let kept = text.lines().filter(|line| {
        let fence = line.trim_start().starts_with("```");
        fenced ^= fence;
        !fenced && !fence
    });
    kept.flat_map(|line| [line, "\n"]).collect()
}

/// A line as a shell reads it: its words, and the file that standard input comes from. What standard output goes to is left out.
#[derive(Debug, PartialEq, Eq)]
struct Typed {
    words: Vec<String>,
    input: Option<String>,
}

fn typed(line: &str) -> Typed {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    for letter in line.chars() {
        match (quote, letter) {
            (Some(open), letter) if letter == open => quote = None,
            (Some(_), letter) => word.get_or_insert_default().push(letter),
            (None, '#') if word.is_none() => break,
            (None, '\'' | '"') => {
                quote = Some(letter);
                word.get_or_insert_default();
            }
            (None, letter) if letter.is_whitespace() => words.extend(word.take()),
            (None, letter) => word.get_or_insert_default().push(letter),
        }
    }
    assert_eq!(quote, None, "a quote is not closed: {line}");
    words.extend(word);
    let mut after = |sign: &str| {
        let at = words.iter().position(|word| word == sign)?;
        let file = words.drain(at..at + 2).nth(1);
        Some(file.expect("a file follows"))
    };
    let (input, _) = (after("<"), after(">"));
    Typed { words, input }
}

/// What follows the program's name, if a line is one of ours.
fn of_gatepost(words: &[String]) -> Option<&[String]> {
    let words = match words {
        [runuser, user, name, dashes, rest @ ..]
            if runuser == "runuser" && user == "-u" && name == "gatepost" && dashes == "--" =>
        {
            rest
        }
        words => words,
    };
    let (program, rest) = words.split_first()?;
    matches!(program.as_str(), "gatepost" | "./gatepost").then_some(rest)
}

/// Every command line of a document, in blocks and in the middle of sentences.
fn command_lines(text: &str) -> Vec<String> {
    let fenced = blocks(text).into_iter().filter(|block| ["", "sh", "console"].contains(&block.language.as_str()));
    let lines = fenced.flat_map(|block| block.text.lines().map(str::to_owned).collect::<Vec<_>>());
    let prose = outside(text).replace('\n', " ");
    let spans = prose.split('`').skip(1).step_by(2).map(str::to_owned);
    let is_ours =
        |line: &String| ["gatepost ", "./gatepost ", "runuser -u gatepost -- "].iter().any(|begin| line.starts_with(begin));
    lines.map(|line| line.trim_start_matches("$ ").to_owned()).chain(spans).filter(is_ours).collect()
}

#[test]
fn every_command_line_in_the_documents_is_one_that_the_binary_knows() {
    let home = Home::new("");
    let lines: BTreeSet<(String, PathBuf)> = documents()
        .into_iter()
        .flat_map(|path| command_lines(&text_of(path.to_str().expect("UTF-8"))).into_iter().map(move |line| (line, path.clone())))
        .collect();
    assert!(lines.len() > 60, "{lines:?}");
    let is_known = |line: &str| {
        let typed = typed(line);
        let arguments = of_gatepost(&typed.words).unwrap_or_else(|| panic!("{line}"));
        // Help is shown once all before it was understood. Whatever follows `--pin` is one.
        let pin = arguments.last().is_some_and(|word| word == "--pin").then_some("X");
        let mut command = Command::new(env!("CARGO_BIN_EXE_gatepost"));
        let output = run(command.env_clear().current_dir(home.file(".")).args(arguments).args(pin).arg("--help"), "");
        if output.code == Some(0) { Ok(()) } else { Err(output.err) }
    };
    for (line, path) in &lines {
        if let Err(complaint) = is_known(line) {
            panic!("{}: `{line}`: {complaint}", path.display());
        }
    }
    for wrong in ["gatepost user ad ann", "gatepost user add ann --scpoe Zenith/Market", "gatepost bakcup x.db"] {
        is_known(wrong).expect_err(wrong);
    }
}

#[test]
fn every_link_in_the_documents_leads_somewhere() {
    let anchors =
        |text: &str| -> BTreeSet<String> { outside(text).lines().filter(|line| line.starts_with('#')).map(anchor).collect() };
    let mut seen = 0;
    for path in documents() {
        let text = text_of(path.to_str().expect("UTF-8"));
        let prose = outside(&text);
        for link in prose.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if ["http://", "https://"].iter().any(|begin| link.starts_with(begin)) {
                continue;
            }
            seen += 1;
            let (file, part) = link.split_once('#').map_or((link, None), |(file, part)| (file, Some(part)));
            let there =
                if file.is_empty() { root().join(&path) } else { root().join(&path).parent().expect("a folder").join(file) };
            assert!(there.exists(), "{}: {link} is not there", path.display());
            if let Some(part) = part {
                let other = std::fs::read_to_string(&there).expect("a document");
                assert!(anchors(&other).contains(part), "{}: {link} has no such heading", path.display());
            }
        }
    }
    assert!(seen > 60, "{seen}");
}

/// Addresses, ports and places as they can be had here.
fn rewritten(value: toml::Value, home: &Home) -> toml::Value {
    match value {
        toml::Value::String(text) => toml::Value::String(match text.as_str() {
            "127.0.0.1:8000" => "127.0.0.1:0".to_owned(),
            text if text.starts_with("192.0.2.10:") || text.starts_with("0.0.0.0:") => "127.0.0.1:0".to_owned(),
            text if text.starts_with('/') && text.len() > 1 => place(home, text).display().to_string(),
            text => text.to_owned(),
        }),
        toml::Value::Array(values) => toml::Value::Array(values.into_iter().map(|value| rewritten(value, home)).collect()),
        toml::Value::Table(table) => table.into_iter().map(|(key, value)| (key, rewritten(value, home))).collect::<Table>().into(),
        other => other,
    }
}

/// Where a file of the machine is in a home: at its top, by its name.
fn place(home: &Home, path: &str) -> PathBuf {
    home.file(Path::new(path).file_name().and_then(|name| name.to_str()).expect("a name"))
}

/// What the settings of the documents name beside themselves.
fn with_files() -> Home {
    let home = Home::new("");
    let made = rcgen::generate_simple_self_signed(["auth.example.org".to_owned()]).expect("a certificate");
    let user = json!({"name": "zoe", "password_hash": "$argon2i$v=19$m=256,t=2,p=1$c29tZXNhbHQ$iekCn0Y3spW+sCcFanM2xBT63UP2sghkUoHLIUpWRS8"});
    // The key of RFC 8037, appendix A.2.
    let keys = json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "kid": "1", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwaaPJHURo4"}]});
    for (name, text) in [
        ("fullchain.pem", made.cert.pem()),
        ("privkey.pem", made.signing_key.serialize_pem()),
        ("certificate.pem", made.cert.pem()),
        ("key.pem", made.signing_key.serialize_pem()),
        ("hall-pin", format!("{DEVICES_PIN}\n")),
        ("issuer-keys.json", keys.to_string()),
        ("users.jsonl", format!("{user}\n")),
        ("auth-key", "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=\n".to_owned()),
        ("night-batch-secret", "0123456789abcdef0123456789abcdef\n".to_owned()),
        ("password-file", format!("{PASSWORD}\n")),
    ] {
        std::fs::write(home.file(name), text).expect("a file");
        std::fs::set_permissions(home.file(name), std::fs::Permissions::from_mode(0o600)).expect("its mode");
    }
    std::fs::create_dir(home.file("man1")).expect("a folder");
    let database = rusqlite::Connection::open(home.file("app.sqlite")).expect("a database");
    let tables = "CREATE TABLE AppUser (Id INTEGER PRIMARY KEY, UserName TEXT, Email TEXT, PasswordHash TEXT, Salt TEXT);
                  INSERT INTO AppUser VALUES (7, 'yan', 'yan@example.org', \
                  'AQAAAAEAACcQAAAAEAABAgMEBQYHCAkKCwwNDg8MEcVEKt4ecR/YF/mYINH8m8S+hLwpYRIKZm/NePKWvQ==', NULL);";
    database.execute_batch(tables).expect("a table");
    home
}

#[test]
fn every_block_of_settings_in_the_documents_is_taken() {
    let home = with_files();
    let mut seen = 0;
    for path in documents() {
        let text = text_of(path.to_str().expect("UTF-8"));
        for block in blocks(&text).into_iter().filter(|block| block.language == "toml") {
            seen += 1;
            let mut table: Table = block.text.parse().unwrap_or_else(|error| panic!("{}:{}: {error}", path.display(), block.line));
            // What has a home of its own here, and what needs a client that the document names elsewhere.
            table.retain(|key, _| key != "data" && key != "http");
            if let Some(toml::Value::Table(section)) = table.get_mut("servicestack") {
                section.entry("client").or_insert_with(|| "web".into());
            }
            let rewritten = rewritten(table.into(), &home);
            home.write_settings(&toml::to_string(&rewritten).expect("settings"));
            let output = home.operator(&["check"], "");
            assert_eq!(output.code, Some(0), "{}:{}: {}", path.display(), block.line, output.err);
        }
    }
    assert!(seen > 10, "{seen}");
}

/// One document, walked through.
struct Walk {
    path: &'static str,
    home: Home,
    settings: Table,
    server: Option<Server>,
    blocks: Vec<Block>,
    /// How many commands of ours were typed so far.
    typed: usize,
}

impl Walk {
    fn through(path: &'static str) -> Walk {
        let mut blocks = blocks(&text_of(path));
        blocks.reverse();
        Walk { path, home: with_files(), settings: CHEAP.parse().expect("settings"), server: None, blocks, typed: 0 }
    }

    /// Goes on as far as this heading.
    fn as_far_as(&mut self, heading: &str) {
        let line = text_of(self.path).lines().position(|line| line == heading);
        let line = line.unwrap_or_else(|| panic!("{} has no {heading:?}", self.path));
        while self.blocks.last().is_some_and(|block| block.line <= line) {
            self.on();
        }
    }

    /// Goes on to the end.
    fn on_to_the_end(&mut self) {
        while !self.blocks.is_empty() {
            self.on();
        }
    }

    fn on(&mut self) {
        let block = self.blocks.pop().expect("there is more");
        match block.language.as_str() {
            "toml" => self.set(&block.text),
            "sh" => {
                for (number, line) in (block.line + 1..).zip(block.text.lines()) {
                    self.line(line, &format!("{}:{number}: {line}", self.path));
                }
            }
            _ => {}
        }
    }

    fn server(&self) -> &Server {
        self.server.as_ref().expect("the document has started it")
    }

    fn set(&mut self, text: &str) {
        let table: Table = text.parse().expect("settings");
        let toml::Value::Table(mut table) = rewritten(table.into(), &self.home) else { panic!("a table stays one") };
        // Ports that the document leaves to the server are free ones here.
        if let Some(toml::Value::Table(section)) = table.get_mut("trueconf") {
            let free = || toml::Value::from("127.0.0.1:0");
            for key in ["web", "http"] {
                section.entry(key).or_insert_with(free);
            }
            for terminal in section["terminals"].as_array_mut().expect("terminals") {
                terminal.as_table_mut().expect("a terminal").entry("control").or_insert_with(free);
            }
        }
        // What was said before of the same section is said anew.
        self.settings.extend(table.into_iter().filter(|(key, _)| key != "data" && key != "http"));
        self.write_settings();
    }

    fn write_settings(&self) {
        self.home.write_settings(&toml::to_string(&self.settings).expect("settings"));
    }

    fn line(&mut self, line: &str, place: &str) {
        let Typed { words, input } = typed(line);
        if words.is_empty() || NOT_OURS.iter().any(|begin| line.starts_with(begin)) {
            return;
        }
        if let Some(arguments) = of_gatepost(&words) {
            self.gatepost(arguments, input.as_deref(), place);
            return;
        }
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        match words.as_slice() {
            ["systemctl", "enable", "--now", "gatepost" | "gatepost.socket", ..] | ["systemctl", "start", "gatepost"] => {
                // Where it runs already, systemd has nothing to do.
                if !self.server.as_ref().is_some_and(Server::is_up) {
                    self.start();
                }
            }
            ["systemctl", "reload", "gatepost"] => self.server().signal(rustix::process::Signal::HUP),
            ["systemctl", "stop", "gatepost"] => self.server.as_mut().expect("it runs").terminate(),
            // Where it is not there yet, the document took that from another one.
            ["systemctl", "restart", "gatepost"] => {
                if let Some(server) = &mut self.server {
                    server.terminate();
                }
                self.start();
            }
            ["install", options @ .., from, to] => self.install(options, from, to, place),
            ["curl", arguments @ ..] => self.curl(arguments, place),
            _ => panic!("{place}: nobody has said what to do with this"),
        }
    }

    fn start(&mut self) {
        match &mut self.server {
            Some(server) => server.restart(),
            None => self.server = Some(Server::of(self.home.shared())),
        }
    }

    fn gatepost(&mut self, arguments: &[String], input: Option<&str>, place: &str) {
        self.typed += 1;
        if arguments == ["serve"] {
            self.start();
            return;
        }
        let here =
            |word: &String| if word.starts_with('/') { self::place(&self.home, word).display().to_string() } else { word.clone() };
        let arguments: Vec<String> = arguments.iter().map(here).collect();
        let stdin = input.map_or_else(
            || PASSWORD.to_owned(),
            |file| std::fs::read_to_string(self::place(&self.home, file)).unwrap_or_else(|error| panic!("{place}: {error}")),
        );
        let mut command = self.home.command();
        let output = run(command.args(&arguments), &stdin);
        // A doctor may warn.
        let is_good = output.code == Some(0) || (arguments[0] == "doctor" && output.code == Some(3));
        assert!(is_good, "{place}: {output:?}");
    }

    /// Puts a file of the repository, or one that the document takes for granted, where the server looks for it.
    fn install(&self, options: &[&str], from: &str, to: &str, place: &str) {
        if options.contains(&"-d") {
            return;
        }
        if from == "target/release/gatepost" {
            assert_eq!(to, "/usr/local/bin/gatepost", "{place}");
            return;
        }
        if from.contains('/') {
            assert!(root().join(from).is_file(), "{place}: {from} is not in the repository");
            return;
        }
        let mode = options.iter().position(|option| *option == "-m").and_then(|at| u32::from_str_radix(options[at + 1], 8).ok());
        let to = self::place(&self.home, to);
        if to != self.home.file(from) {
            std::fs::copy(self.home.file(from), &to).unwrap_or_else(|error| panic!("{place}: {error}"));
        }
        std::fs::set_permissions(&to, std::fs::Permissions::from_mode(mode.expect("a mode"))).expect("its mode");
    }

    fn curl(&self, arguments: &[&str], place: &str) {
        let after = |option: &str| arguments.iter().position(|argument| *argument == option).map(|at| arguments[at + 1]);
        let url = arguments.iter().find_map(|argument| argument.strip_prefix("http://127.0.0.1:8000")).expect("an address of ours");
        let body = after("-d").expect("a body").replace("\"...\"", &format!("{PASSWORD:?}"));
        let field = after("-H").expect("a field");
        let request = format!("POST {url} HTTP/1.1\r\nHost: localhost\r\n{field}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        let answer = http(self.server().http(), 0, &request);
        assert_eq!(answer.status, 200, "{place}: {answer:?}");
    }
}

#[test]
fn a_newcomer_who_follows_the_first_page_is_in_at_each_gate() {
    let mut walk = Walk::through("README.md");
    walk.on_to_the_end();
    assert!(walk.typed >= 5, "{}", walk.typed);
    let server = walk.server();
    let mut as_shown = owner("ann", PASSWORD);
    as_shown["ClientID"] = json!("my-app");
    as_shown["Scope"] = json!(["Paritech.Zenith"]);
    server.connect().ask("AuthOwner", as_shown).granted();
    assert_eq!(code(&secured_by(&mut panel(server), PASSWORD)), "0 admin");
}

#[test]
fn who_installs_runs_backs_up_restores_and_upgrades_as_the_document_says_has_a_server() {
    let mut walk = Walk::through("docs/operating.md");
    walk.as_far_as("## Backup");
    let before = walk.home.operator(&["user", "list", "--json"], "").json();
    assert_eq!(before.as_array().map(Vec::len), Some(2), "{before}");
    walk.as_far_as("## Upgrade");
    let sessions = walk.home.sessions();
    assert_eq!(sessions, Vec::<Value>::new(), "a restore ends them");
    walk.on_to_the_end();
    assert!(walk.typed > 15, "{}", walk.typed);
    assert_eq!(walk.home.operator(&["user", "list", "--json"], "").json(), before);
}

#[test]
fn people_come_and_go_as_the_document_says() {
    let mut walk = Walk::through("docs/migrate/users.md");
    walk.on_to_the_end();
    assert_eq!(walk.typed, 3);
    let out = std::fs::read_to_string(walk.home.file("everybody.jsonl")).expect("it was written");
    assert!(out.contains("\"name\":\"zoe\""), "{out}");
}

#[test]
fn an_application_moves_as_the_document_says() {
    let mut walk = Walk::through("docs/migrate/servicestack.md");
    walk.on_to_the_end();
    assert!(walk.typed >= 7, "{}", walk.typed);
    let login = json!({"UserName": "yan", "Password": "p@55w,rd:1"}).to_string();
    let head = "POST /auth/credentials.json HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json";
    let answer = http(walk.server().http(), 0, &format!("{head}\r\nContent-Length: {}\r\n\r\n{login}", login.len()));
    assert_eq!((answer.status, answer.body.contains("\"UserId\":\"7\"")), (200, true), "{answer:?}");
}

#[test]
fn zenith_clients_move_as_the_document_says() {
    let mut walk = Walk::through("docs/migrate/zenith.md");
    walk.on_to_the_end();
    assert!(walk.typed >= 11, "{}", walk.typed);
    let shown = blocks(&text_of("docs/migrate/zenith.md")).into_iter().find(|block| block.language == "json").expect("a login");
    let shown: Value = serde_json::from_str(&shown.text.replace("\"...\"", &format!("{PASSWORD:?}"))).expect("JSON");
    let mut peer = walk.server().connect();
    let answer = peer.ask("AuthOwner", shown["Data"].clone());
    answer.granted();
    assert_eq!(answer.0["Data"]["UserID"], "shodan");
    assert_eq!(answer.scope(), &json!(["Paritech.Zenith.Market"]), "trading is for TLS");
}

#[test]
fn a_terminal_gets_a_gate_in_front_and_loses_it_as_the_document_says() {
    let runtime = Runtime::new().expect("a runtime");
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).expect("a port");
    let address = listener.local_addr().expect("its address");
    runtime.spawn(Terminal::new(Some(DEVICES_PIN), |_| {}).serve(listener));

    let mut walk = Walk::through("docs/migrate/trueconf.md");
    let text = fenced_below("docs/migrate/trueconf.md", "## 2. Put the server there (half an hour)", "toml").concat();
    assert!(text.contains("ws://10.1.2.3:8765/"), "{text}");
    let block = walk.blocks.iter_mut().find(|block| block.language == "toml").expect("settings");
    block.text = text.replace("ws://10.1.2.3:8765/", &format!("ws://{address}/"));
    walk.as_far_as("## 4. One panel (an hour)");
    {
        let server = walk.server();
        let shown = server.operator(&["terminal", "show-pin", "default", "user", "--json"], "").json();
        let (mut administrator, mut user) = (panel(server), panel(server));
        assert_eq!(code(&secured_by(&mut administrator, PASSWORD)), "0 admin");
        assert_eq!(code(&secured_by(&mut user, shown["pin"].as_str().expect("a PIN"))), "0 user");
        until("the device lets the gate in", || ask(&mut user, json!({"method": "getAppState"}))["result"] == true);
        assert_eq!(ask(&mut user, json!({"method": "call", "peerId": "bob"}))["result"], true);
        assert_eq!(ask(&mut user, json!({"method": "shutdown"}))["error"], "access denied");
    }
    walk.on_to_the_end();
    assert!(walk.typed >= 9, "{}", walk.typed);
    // And back: the device itself is as it was, and takes its own PIN.
    let opened = crate::peer::Peer::request(address, 0, &crate::peer::handshake("/", ""));
    let mut peer = opened.map(|(peer, _)| peer).expect("it opens");
    assert_eq!(code(&secured_by(&mut peer, DEVICES_PIN)), "0 admin");
}

/// Every setting that weakens something, set so.
const WEAKENED: &str = "require_secure = false
[proxy]
trusted = ['0.0.0.0/0']
fields = 'forwarded'
[management]
listen = '0.0.0.0:0'
[password]
memory_kib = 8192
iterations = 1
[throttle]
name_free = 51
source_free = 201
token_free = 1001
[session]
on_reuse = 'refuse'
[servicestack]
client = 'app'
tokens_in_fields = true
[zenith.upstream]
address = 'ws://192.0.2.9:9000/'
controllers = [{ name = 'Market' }]
[trueconf]
web = '0.0.0.0:0'
http = '0.0.0.0:0'
[[trueconf.terminals]]
name = 'default'
control = '0.0.0.0:0'
upstream = { address = 'ws://192.0.2.9:8765/' }
";

#[test]
fn what_weakens_something_is_named_where_security_is_explained() {
    let home = Home::new(WEAKENED);
    let checked = home.operator(&["check", "--json"], "").json();
    let rows: Vec<&str> =
        checked["weakened"].as_array().expect("rows").iter().map(|row| row.as_str().expect("a sentence")).collect();
    let keys: BTreeSet<String> = rows
        .iter()
        .map(|row| {
            let (key, what) = row.split_once(": ").unwrap_or_else(|| panic!("{row}"));
            let key = key.replace("[0]", "").replace("control.default", "control");
            if what.starts_with("require_secure") { "require_secure".to_owned() } else { key }
        })
        .collect();
    // What the code knows is all set above: a further one must be, too.
    let mut known = 0;
    for file in [
        "server/src/cli/doctor/weak.rs",
        "protocols/src/zenith/mod.rs",
        "protocols/src/trueconf/mod.rs",
        "protocols/src/servicestack/settings.rs",
    ] {
        let text = text_of(file);
        for (at, _) in ["weak(", "Weakness::new(", "Weakness::of_service("]
            .iter()
            .flat_map(|call| text.match_indices(call).map(|(at, call)| (at + call.len(), call)).collect::<Vec<_>>())
        {
            let rest = text[at..].trim_start().trim_start_matches("format!(");
            let Some(key) = rest.strip_prefix('"').and_then(|rest| rest.split('"').next()) else { continue };
            known += 1;
            let key = key.replace("[{number}]", "");
            assert!(keys.iter().any(|found| found.ends_with(&key)), "{file} knows {key}, which is not among {keys:?}");
        }
    }
    assert!(known >= 5, "{known}");
    let table = text_of("SECURITY.md");
    let (_, table) = table.split_once("## What each setting weakens").expect("a chapter");
    for key in &keys {
        let named = table.lines().any(|line| {
            line.starts_with("| ")
                && line
                    .split('|')
                    .nth(1)
                    .is_some_and(|cell| cell.contains(&format!("`{key}`")) || cell.contains(&format!("`{key} = ")))
        });
        assert!(named, "SECURITY.md does not say what {key} weakens");
    }
    assert!(keys.len() >= 11, "{keys:?}");
}
