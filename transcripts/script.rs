//! Transcripts: their format, and the one runner of them. `transcripts/README.md` explains the format to people.
//!
//! A script is run on a [`Stage`]: the pure codec with a scripted core, or the real binary over a socket. The runner knows
//! no protocol but for what is in `wire.rs`: at the end of a script it asks every open connection something, so that a frame
//! nobody expected cannot hide behind the last line.

#[expect(unreachable_pub, reason = "the module is shared by test programs, each of which includes it whole")]
mod wire;

pub mod cases;
mod placeholders;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

pub use self::wire::Wire;
use placeholders::{Part, SECRETS, matches, parts, spelled};

/// Where a script runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// On the pure codec: `core` lines play the core, `operator` lines and settings of others are passed over.
    Codec,
    /// On the real binary: `operator` lines are run, `core` lines are passed over.
    Server,
}

/// One transcript.
#[derive(Clone, Debug)]
pub struct Script {
    /// The file's name.
    pub name: String,
    /// The wire of the folder that it was loaded from; Zenith, where it was not.
    pub wire: Wire,
    /// The ids of the cases that it shows.
    pub cases: Vec<String>,
    /// The one side it can run on, where the other cannot show it.
    pub only: Option<Side>,
    /// Lines of TOML, with dotted keys from the root of the settings.
    pub settings: Vec<String>,
    /// What happens, each with its line.
    pub steps: Vec<(usize, Step)>,
}

/// One thing that happens.
#[derive(Clone, Debug)]
pub enum Step {
    /// A request, and what must come back.
    Request(Handshake, Vec<Answer>),
    /// The peer sends.
    Send(u32, Sent),
    /// The peer must receive.
    Expect(u32, Expected),
    /// The service behind the gate does something about a connection.
    Service(u32, Service),
    /// The service behind the gate must see this of a connection.
    Upward(u32, Upward),
    /// The scripted core is told what comes; the text behind `core`.
    Core(String),
    /// An operator's command line.
    Operator(Vec<String>),
    /// The server is asked to stop.
    Stop,
}

/// A request, most often for a socket.
#[derive(Clone, Debug)]
pub struct Handshake {
    /// The connection that it opens.
    pub connection: u32,
    /// The method.
    pub method: String,
    /// Path and query.
    pub target: String,
    /// Whether it asks for a WebSocket.
    pub upgrade: bool,
    /// Header fields beside those of the upgrade itself, in order; the sub-protocols offered are among them.
    pub headers: Vec<(String, String)>,
    /// What comes behind the header.
    pub body: Option<String>,
}

/// What must be true of a response.
#[derive(Clone, Debug)]
pub enum Answer {
    /// Its status, and the sub-protocol chosen.
    Status(u16, Option<String>),
    /// What stands beside the status.
    Reason(String),
    /// A header field with its value, which may hold placeholders.
    With(String, String),
    /// No header field of that name.
    Without(String),
    /// The names of the cookies that it sets, all of them, in order.
    Cookies(Vec<String>),
    /// What comes behind the header, to the byte but for placeholders.
    Body(String),
    /// What comes behind the header holds this.
    Holds(String),
}

/// What a peer sends.
#[derive(Clone, Debug)]
pub enum Sent {
    /// A text message, before its placeholders are filled in.
    Text(String),
    /// A binary message.
    Binary(Vec<u8>),
}

/// What a peer must receive.
#[derive(Clone, Debug)]
pub enum Expected {
    /// A text message with placeholders.
    Text(String),
    /// A close with this code.
    Close(u16),
}

/// What the service behind the gate does.
#[derive(Clone, Debug)]
pub enum Service {
    /// It sends a text message.
    Says(String),
    /// Its connection is gone.
    Lost,
    /// Its connection is open, for the first time or again.
    Restored,
}

/// What the service behind the gate sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Upward {
    /// A text message.
    Text(String),
    /// The end of the connection, as the gate wants it.
    Part,
    /// Nothing, although it was waited for.
    Nothing,
}

/// What a response was.
#[derive(Clone, Debug)]
pub struct Answered {
    /// Its status.
    pub status: u16,
    /// The sub-protocol chosen.
    pub protocol: Option<String>,
    /// What stands beside the status.
    pub reason: String,
    /// Its header fields.
    pub headers: Vec<(String, String)>,
    /// What comes behind them.
    pub body: String,
}

/// What a peer received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Received {
    /// A text message.
    Text(String),
    /// A close with this code.
    Close(u16),
    /// Nothing, although it was waited for.
    Nothing,
}

/// What a script runs on. A stage is used for one script.
pub trait Stage {
    /// Starts afresh with these lines of TOML beside the defaults of this side.
    fn begin(&mut self, settings: &[String]) -> Result<(), String>;
    /// Sends a request; where the answer is a 101, the connection stays open under its number.
    fn connect(&mut self, handshake: &Handshake) -> Result<Answered, String>;
    /// Sends a text message.
    fn send_text(&mut self, connection: u32, text: &str) -> Result<(), String>;
    /// Sends a binary message.
    fn send_binary(&mut self, connection: u32, bytes: &[u8]) -> Result<(), String>;
    /// The next thing that the peer receives.
    fn next(&mut self, connection: u32) -> Result<Received, String>;
    /// Does what the service behind the gate does.
    fn service(&mut self, connection: u32, what: &Service) -> Result<(), String>;
    /// The next thing that the service behind the gate sees.
    fn upward(&mut self, connection: u32) -> Result<Upward, String>;
    /// What the scripted core does next. The real binary passes it over.
    fn core(&mut self, line: &str) -> Result<(), String>;
    /// Runs an operator's command line. The codec passes it over.
    fn operator(&mut self, arguments: &[String]) -> Result<(), String>;
    /// Asks the server to stop.
    fn stop(&mut self) -> Result<(), String>;
    /// The script is over: what was prepared and not used is an error.
    fn end(&mut self) -> Result<(), String>;
}

/// Reads every `*.txt` of a folder, in the order of their names.
pub fn load(folder: &Path) -> Vec<Script> {
    let wire = folder.file_name().and_then(|name| Wire::of(name.to_str()?));
    let wire = wire.unwrap_or_else(|| panic!("{}: no wire has that name", folder.display()));
    let entries = std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("a folder can be read to its end").path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "txt"));
    paths.sort();
    let read = |path: &std::path::PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let script = parse(&name, &text).unwrap_or_else(|error| panic!("{error}"));
        Script { wire, ..script }
    };
    paths.iter().map(read).collect()
}

/// Reads one transcript.
pub fn parse(name: &str, text: &str) -> Result<Script, String> {
    let wire = Wire::Zenith;
    let mut script = Script { name: name.to_owned(), wire, cases: Vec::new(), only: None, settings: Vec::new(), steps: Vec::new() };
    if !text.starts_with("# ") {
        return Err(format!("{name}:1: a transcript begins with a sentence behind `# ` that says what it shows"));
    }
    for (number, line) in text.lines().enumerate().map(|(index, line)| (index + 1, line)) {
        if !line.trim().is_empty() && !line.starts_with('#') {
            parse_line(&mut script, number, line).map_err(|what| format!("{name}:{number}: {what}"))?;
        }
    }
    if !script.steps.iter().any(|(_, step)| matches!(step, Step::Expect(..) | Step::Upward(..) | Step::Request(..))) {
        return Err(format!("{name}: nothing is expected in it"));
    }
    Ok(script)
}

fn parse_line(script: &mut Script, number: usize, line: &str) -> Result<(), String> {
    // What is sent is sent with all its blanks, behind the one that ends the first word.
    let (word, exact) = line.split_once(' ').unwrap_or((line, ""));
    let rest = exact.trim();
    let mut step = |step| script.steps.push((number, step));
    match word {
        "case" => script.cases.extend(rest.split(',').map(|id| id.trim().to_owned())),
        "only" => {
            let (side, reason) = rest.split_once(':').ok_or("`only` needs a reason behind a colon")?;
            script.only = Some(match side {
                "codec" => Side::Codec,
                "server" => Side::Server,
                _ => return Err(format!("{side:?} is no side: codec or server")),
            });
            if reason.trim().is_empty() {
                return Err("`only` needs a reason behind its colon".to_owned());
            }
        }
        "settings" => script.settings.push(rest.to_owned()),
        "core" => step(Step::Core(rest.to_owned())),
        "operator" => step(Step::Operator(rest.split_whitespace().map(str::to_owned).collect())),
        "stop" => step(Step::Stop),
        "service" => {
            let (connection, what) = rest.split_once(' ').unwrap_or(("1", rest));
            let what = match what {
                "lost" => Service::Lost,
                "restored" => Service::Restored,
                _ => return Err(format!("{what:?} is nothing that befalls a service: lost or restored")),
            };
            let connection = connection.parse().map_err(|_| format!("{connection:?} is no number of a connection"))?;
            step(Step::Service(connection, what));
        }
        "connect" => step(Step::Request(handshake("GET", true, rest)?, Vec::new())),
        "get" | "head" | "post" | "put" | "delete" | "options" => {
            step(Step::Request(handshake(&word.to_ascii_uppercase(), false, rest)?, Vec::new()));
        }
        "with" => request(script)?.0.headers.push(field(rest)?),
        "body" => {
            let body = &mut request(script)?.0.body;
            *body = Some(continued(body.take(), exact));
        }
        "answered" if rest.starts_with("body") => {
            let line = exact.strip_prefix("body").map(|line| line.strip_prefix(' ').unwrap_or(line)).unwrap_or_default();
            let answers = request(script)?.1;
            let before = match answers.last() {
                Some(Answer::Body(_)) => answers.pop(),
                _ => None,
            };
            let before = before.and_then(|answer| if let Answer::Body(text) = answer { Some(text) } else { None });
            answers.push(Answer::Body(continued(before, line)));
        }
        "answered" => {
            let answer = answer(rest)?;
            request(script)?.1.push(answer);
        }
        _ => {
            let nothing = || format!("{word:?} begins no line");
            let number = |digits: &str| if digits.is_empty() { Ok(1) } else { digits.parse().map_err(|_| nothing()) };
            let (connection, sign) = word.split_at(word.len() - word.chars().next_back().map_or(0, char::len_utf8));
            let connection = number(connection)?;
            step(match sign {
                ">" => Step::Send(connection, sent(exact)?),
                "<" => Step::Expect(connection, expected(rest)?),
                "v" => Step::Service(connection, Service::Says(exact.to_owned())),
                "^" if rest == "part" => Step::Upward(connection, Upward::Part),
                "^" => Step::Upward(connection, Upward::Text(rest.to_owned())),
                _ => return Err(nothing()),
            });
        }
    }
    Ok(())
}

fn request(script: &mut Script) -> Result<(&mut Handshake, &mut Vec<Answer>), String> {
    match script.steps.last_mut() {
        Some((_, Step::Request(handshake, answers))) => Ok((handshake, answers)),
        _ => Err("this belongs behind a `connect` or `get`".to_owned()),
    }
}

/// One more line of a text.
fn continued(before: Option<String>, line: &str) -> String {
    before.map_or_else(|| line.to_owned(), |before| format!("{before}\n{line}"))
}

fn handshake(method: &str, upgrade: bool, rest: &str) -> Result<Handshake, String> {
    let (first, offered) = rest.split_once(" offering ").map_or((rest, None), |(first, offered)| (first, Some(offered)));
    // An address may hold a placeholder with a blank in it.
    let is_number = |(connection, _): &(&str, &str)| !connection.starts_with('/');
    let (connection, target) = first.split_once(' ').filter(is_number).unwrap_or(("1", first));
    let connection = connection.parse().map_err(|_| format!("{connection:?} is no number of a connection"))?;
    let headers = offered.map(|offered| ("Sec-WebSocket-Protocol".to_owned(), offered.to_owned()));
    Ok(Handshake {
        connection,
        method: method.to_owned(),
        target: target.to_owned(),
        upgrade,
        headers: headers.into_iter().collect(),
        body: None,
    })
}

fn field(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once(':').ok_or("a header field has a colon")?;
    Ok((name.trim().to_owned(), value.trim().to_owned()))
}

fn answer(rest: &str) -> Result<Answer, String> {
    if let Some(name) = rest.strip_prefix("without ") {
        return Ok(Answer::Without(name.to_owned()));
    }
    if let Some(text) = rest.strip_prefix("with ") {
        return field(text).map(|(name, value)| Answer::With(name, value));
    }
    if let Some(reason) = rest.strip_prefix("reason ") {
        return Ok(Answer::Reason(reason.to_owned()));
    }
    if let Some(text) = rest.strip_prefix("holding ") {
        return Ok(Answer::Holds(text.to_owned()));
    }
    if let Some(names) = rest.strip_prefix("cookies") {
        return Ok(Answer::Cookies(names.split_whitespace().map(str::to_owned).collect()));
    }
    let (status, protocol) = rest.split_once(' ').map_or((rest, None), |(status, name)| (status, Some(name.to_owned())));
    Ok(Answer::Status(status.parse().map_err(|_| format!("{status:?} is no status"))?, protocol))
}

fn sent(rest: &str) -> Result<Sent, String> {
    let Some(digits) = rest.strip_prefix("binary ") else {
        return Ok(Sent::Text(rest.to_owned()));
    };
    let byte = |at: usize| u8::from_str_radix(digits.get(at..at + 2)?, 16).ok();
    let bytes: Option<Vec<u8>> = (0..digits.len()).step_by(2).map(byte).collect();
    bytes.map(Sent::Binary).ok_or(format!("{digits:?} are no bytes in hexadecimal"))
}

fn expected(rest: &str) -> Result<Expected, String> {
    if let Some(code) = rest.strip_prefix("close ") {
        return code.parse().map(Expected::Close).map_err(|_| format!("{code:?} is no close code"));
    }
    Ok(Expected::Text(rest.to_owned()))
}

/// Runs a script. The error says in which line what was expected and what came.
pub fn run(script: &Script, stage: &mut dyn Stage) -> Result<(), String> {
    let mut run = Run { stage, wire: script.wire, tokens: BTreeMap::new(), open: BTreeMap::new() };
    run.stage.begin(&script.settings).map_err(|what| format!("{}: {what}", script.name))?;
    for (line, step) in &script.steps {
        run.step(step).map_err(|what| format!("{}:{line}: {what}", script.name))?;
    }
    run.end().map_err(|what| format!("{}: at its end: {what}", script.name))
}

struct Run<'s> {
    stage: &'s mut dyn Stage,
    wire: Wire,
    /// What `<token name>` stands for.
    tokens: BTreeMap<String, String>,
    /// Which connections there have been, and whether they still are.
    open: BTreeMap<u32, bool>,
}

impl Run<'_> {
    fn step(&mut self, step: &Step) -> Result<(), String> {
        match step {
            Step::Request(handshake, answers) => self.request(handshake, answers),
            Step::Send(connection, what) => {
                self.ensure_open(*connection)?;
                match what {
                    Sent::Text(text) => self.stage.send_text(*connection, &self.filled(text)?),
                    Sent::Binary(bytes) => self.stage.send_binary(*connection, bytes),
                }
            }
            Step::Expect(connection, expected) => {
                self.ensure_open(*connection)?;
                let received = self.stage.next(*connection)?;
                self.compare(*connection, expected, received)
            }
            Step::Service(connection, what) => {
                self.ensure_open(*connection)?;
                self.stage.service(*connection, what)
            }
            Step::Upward(connection, expected) => {
                self.ensure_open(*connection)?;
                let went = self.stage.upward(*connection)?;
                if went == *expected { Ok(()) } else { Err(format!("expected to go up {expected:?}\n  went up {went:?}")) }
            }
            Step::Core(line) => {
                let line = self.filled(line)?;
                self.stage.core(&line)
            }
            Step::Operator(arguments) => self.stage.operator(arguments),
            Step::Stop => self.stage.stop(),
        }
    }

    /// A connection that no line has opened is opened at its first use, as every client seen does it.
    fn ensure_open(&mut self, connection: u32) -> Result<(), String> {
        match self.open.get(&connection) {
            Some(true) => Ok(()),
            Some(false) => Err(format!("connection {connection} is closed")),
            None => {
                let (target, protocol) = self.wire.opening();
                let handshake = handshake("GET", true, &format!("{connection} {target}"))?;
                self.request(&handshake, &[Answer::Status(101, protocol.map(str::to_owned))])
            }
        }
    }

    fn request(&mut self, handshake: &Handshake, answers: &[Answer]) -> Result<(), String> {
        let mut handshake = handshake.clone();
        handshake.target = self.filled(&handshake.target)?;
        for (_, value) in &mut handshake.headers {
            *value = self.filled(value)?;
        }
        handshake.body = handshake.body.map(|body| self.filled(&body)).transpose()?;
        let answered = self.stage.connect(&handshake)?;
        if handshake.upgrade {
            self.open.insert(handshake.connection, answered.status == 101);
        }
        if answers.is_empty() && answered.status != 101 {
            return Err(format!("the request was answered {}, and no line says that it should be", answered.status));
        }
        for answer in answers {
            if !self.holds(answer, &answered) {
                return Err(format!("expected {answer:?}, answered {answered:?}"));
            }
        }
        Ok(())
    }

    fn holds(&mut self, answer: &Answer, answered: &Answered) -> bool {
        let values = |name: &str| {
            let of_that_name = move |(own, _): &&(String, String)| own.eq_ignore_ascii_case(name);
            answered.headers.iter().filter(of_that_name).map(|(_, value)| value.as_str()).collect::<Vec<_>>()
        };
        match answer {
            Answer::Status(status, protocol) => *status == answered.status && *protocol == answered.protocol,
            Answer::Reason(reason) => *reason == answered.reason,
            Answer::With(name, expected) => values(name).iter().any(|value| matches(expected, value, &mut self.tokens)),
            Answer::Without(name) => values(name).is_empty(),
            Answer::Cookies(names) => {
                let set = values("set-cookie");
                let set: Vec<&str> = set.iter().map(|cookie| cookie.split('=').next().unwrap_or_default()).collect();
                set == *names
            }
            Answer::Body(expected) => matches(expected, &answered.body, &mut self.tokens),
            Answer::Holds(text) => answered.body.contains(text),
        }
    }

    fn compare(&mut self, connection: u32, expected: &Expected, received: Received) -> Result<(), String> {
        if let Received::Close(_) = received {
            self.open.insert(connection, false);
        }
        let holds = match (expected, &received) {
            (Expected::Close(code), Received::Close(came)) => code == came,
            (Expected::Text(pattern), Received::Text(text)) => matches(pattern, text, &mut self.tokens),
            _ => false,
        };
        if holds { Ok(()) } else { Err(format!("expected {expected:?}\n  received {received:?}")) }
    }

    /// A text to be sent, with its placeholders filled in.
    fn filled(&self, text: &str) -> Result<String, String> {
        let mut out = String::new();
        for part in parts(text) {
            match part {
                Part::Literal(literal) => out.push_str(literal),
                Part::Placeholder(kind, what) if SECRETS.contains(&kind) => {
                    let (name, spelling) = what.split_once(' ').unwrap_or((what, ""));
                    let token = self.tokens.get(name).ok_or(format!("no line before has shown <{kind} {name}>"))?;
                    out.push_str(&spelled(token, spelling).ok_or(format!("{spelling:?} is no way to spell a token"))?);
                }
                Part::Placeholder("bom", _) => out.push('\u{feff}'),
                Part::Placeholder("cr", _) => out.push('\r'),
                Part::Placeholder(word, count) => {
                    let count: usize = count.parse().map_err(|_| format!("<{word} {count}> has no meaning in what is sent"))?;
                    match word {
                        "deep" => write!(out, "{}{}", "[".repeat(count), "]".repeat(count)).map_err(|error| error.to_string())?,
                        "long" => out.push_str(&"x".repeat(count)),
                        "strings" => out.push_str(&vec!["\"s\""; count].join(",")),
                        _ => return Err(format!("<{word} {count}> has no meaning in what is sent")),
                    }
                }
            }
        }
        Ok(out)
    }

    /// Nothing more was sent: the next thing on every open connection is the answer to a question of our own.
    fn end(&mut self) -> Result<(), String> {
        let open: Vec<u32> = self.open.iter().filter(|(_, open)| **open).map(|(connection, _)| *connection).collect();
        for connection in open {
            let transaction = 7_000_000 + u64::from(connection);
            self.stage.send_text(connection, &self.wire.closing_question(transaction))?;
            let received = self.stage.next(connection)?;
            let answer = match &received {
                Received::Text(text) => serde_json::from_str(text).unwrap_or(serde_json::Value::Null),
                _ => serde_json::Value::Null,
            };
            if !self.wire.is_closing_answer(&answer, transaction) {
                return Err(format!("connection {connection} received something more: {received:?}"));
            }
        }
        self.stage.end()
    }
}

/// Every way to spoil one expectation of a script: to alter it, and for a frame also to leave it out. Each must make the
/// script fail. Those that `side` passes over are not among them.
pub fn spoiled(script: &Script, side: Side) -> Vec<(String, Script)> {
    let mut all = Vec::new();
    for (index, (line, step)) in script.steps.iter().enumerate() {
        let altered: Vec<Step> = match step {
            Step::Expect(connection, Expected::Close(code)) => vec![Step::Expect(*connection, Expected::Close(code + 1))],
            Step::Expect(connection, Expected::Text(text)) => {
                let spoiled = text.strip_suffix('}').map_or(format!("{text} "), |text| format!("{text},\"Spoiled\":true}}"));
                vec![Step::Expect(*connection, Expected::Text(spoiled))]
            }
            Step::Core(asked) if side == Side::Codec && asked.starts_with("is asked ") => {
                vec![Step::Core(format!("{asked} spoiled"))]
            }
            Step::Request(handshake, answers) => {
                let alter = |at: usize| {
                    let mut answers = answers.clone();
                    answers[at] = match &answers[at] {
                        Answer::Status(status, protocol) => Answer::Status(status + 1, protocol.clone()),
                        Answer::With(name, value) => Answer::With(name.clone(), format!("{value} spoiled")),
                        Answer::Without(name) => Answer::With(name.clone(), "spoiled".to_owned()),
                        Answer::Reason(reason) => Answer::Reason(format!("{reason} spoiled")),
                        Answer::Cookies(names) => Answer::Cookies([names.as_slice(), &["spoiled".to_owned()]].concat()),
                        Answer::Body(text) => Answer::Body(format!("{text} ")),
                        Answer::Holds(text) => Answer::Holds(format!("{text} spoiled")),
                    };
                    Step::Request(handshake.clone(), answers)
                };
                (0..answers.len()).map(alter).collect()
            }
            Step::Upward(connection, Upward::Text(text)) => {
                let spoiled = text.strip_suffix('}').map_or(format!("{text} "), |text| format!("{text},\"Spoiled\":true}}"));
                vec![Step::Upward(*connection, Upward::Text(spoiled))]
            }
            Step::Upward(connection, Upward::Part | Upward::Nothing) => {
                vec![Step::Upward(*connection, Upward::Text("{}".to_owned()))]
            }
            Step::Core(_) | Step::Send(..) | Step::Service(..) | Step::Operator(_) | Step::Stop => Vec::new(),
        };
        for altered in altered {
            let mut copy = script.clone();
            copy.steps[index].1 = altered;
            all.push((format!("{}:{line}: altered", script.name), copy));
        }
        // What the real binary sends by itself comes in its own time: without the line that waits for it, the script may end
        // before it comes.
        let unasked = side == Side::Server
            && index.checked_sub(1).is_some_and(|before| match &script.steps[before].1 {
                Step::Core(line) => line.starts_with("event "),
                Step::Operator(_) => true,
                _ => false,
            });
        // Nor does it stop behind what nobody has waited for: it may stop before it has read the question.
        let overtaken = side == Side::Server && matches!(script.steps.get(index + 1), Some((_, Step::Stop)));
        if matches!(step, Step::Expect(..) | Step::Upward(..)) && !unasked && !overtaken {
            let mut copy = script.clone();
            copy.steps.remove(index);
            all.push((format!("{}:{line}: left out", script.name), copy));
        }
    }
    all
}

/// Runs every script that `side` can show, each on a stage of its own, and says how many held; inverted, runs every way to
/// spoil each of them, and says how many failed as they must.
pub fn run_all(scripts: &[Script], side: Side, invert: bool, stage: &mut dyn FnMut() -> Box<dyn Stage>) -> Result<String, String> {
    let here: Vec<&Script> = scripts.iter().filter(|script| script.only.is_none_or(|only| only == side)).collect();
    if here.is_empty() {
        return Err("there is no transcript to run".to_owned());
    }
    let mut wrong = Vec::new();
    for script in &here {
        if invert {
            let ways = spoiled(script, side);
            if ways.is_empty() {
                wrong.push(format!("{}: nothing in it can be spoiled", script.name));
            }
            for (what, spoiled) in ways {
                if run(&spoiled, &mut *stage()).is_ok() {
                    wrong.push(format!("{what}: and it held all the same"));
                }
            }
        } else if let Err(what) = run(script, &mut *stage()) {
            wrong.push(what);
        }
    }
    match (wrong.is_empty(), invert) {
        (false, _) => Err(wrong.join("\n")),
        (true, false) => Ok(format!("{} transcripts held", here.len())),
        (true, true) => Ok(format!("inverted: {0} of {0} transcripts failed, as they must", here.len())),
    }
}
