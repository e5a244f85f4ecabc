//! The transcripts of the control socket of a terminal, run on the pure codec with a scripted core; and what holds on it whatever
//! a peer, the device or the core say.
//!
//! With `GATEPOST_INVERT=1` every expectation is spoiled in turn, and every transcript must fail. `PROPTEST_CASES` sets how many
//! cases each law is tried on.

#[path = "../../transcripts/script.rs"]
#[expect(unreachable_pub, reason = "the module is shared by test programs, each of which includes it whole")]
mod script;

use std::collections::{BTreeMap, VecDeque};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use gatepost_identity::account::Rights;
use gatepost_identity::clock::Timestamp;
use gatepost_identity::command::{Command, ConnectionId, GrantRequest, Target, Verb};
use gatepost_identity::credential::Credential;
use gatepost_identity::refusal::Refusal;
use gatepost_identity::reply::{
    Answer, Event, Granted, IssuedToken, Method, NewToken, Principal, Reason, Reply, Spelled, TokenKind,
};
use gatepost_identity::scope::Scopes;
use gatepost_identity::secret::Secret;
use gatepost_identity::terminal::{
    NewProtection, NewTerminalToken, Plan, Protection, ShownGuard, ShownProtection, TerminalRole, TerminalToken,
};
use gatepost_protocols::frame::{self, Frame, Outbox, Outgoing, Relayed};
use gatepost_protocols::http::{Body, Request, Response};
use gatepost_protocols::listener::Listener;
use gatepost_protocols::mount::{Mount, Served, Talk};
use gatepost_protocols::section::Section;
use gatepost_protocols::shared::{Heard, Multiplexer};
use gatepost_protocols::trueconf::GATE;
use proptest::prelude::*;
use script::{Answered, Handshake, Received, Script, Service, Side, Stage, Upward};
use serde_json::Value;

/// When every script begins.
const START: Timestamp = Timestamp::from_millis(1_925_089_445_000);

/// The codec, and a core that says what the script has prepared.
struct Codec {
    listeners: Vec<Listener>,
    mounts: Vec<(usize, Mount)>,
    now: Timestamp,
    /// What the core will be asked, where a line says so, and what it will say.
    prepared: VecDeque<(Option<String>, Result<Answer, Refusal>)>,
    announced: Option<String>,
    issued: Vec<Secret>,
    connections: BTreeMap<u32, Open>,
    /// Who speaks for everybody to the device, where there is one, and what that has not seen yet.
    owner: Option<Box<dyn Multiplexer>>,
    device_there: bool,
    upward: VecDeque<Upward>,
}

/// A connection, what its peer has not received yet, and what has yet to go to the device.
struct Open {
    connection: Box<dyn Talk>,
    inbox: VecDeque<Received>,
    upward: Vec<String>,
}

impl Open {
    fn collect(&mut self, mut out: Outbox) {
        self.inbox.extend(out.drain().map(|outgoing| match outgoing {
            Outgoing::Text(text) => Received::Text(text),
            Outgoing::Binary(bytes) => panic!("this wire has no binary frames: {bytes:?}"),
            Outgoing::Close(code, _) => Received::Close(code),
        }));
        self.upward.extend(std::iter::from_fn(|| out.pop_upward()).map(|upward| match upward {
            frame::Upward::Forward(text) => text,
            frame::Upward::Part => panic!("the device is everybody's"),
        }));
    }
}

/// Listeners, what answers there, and who speaks to the device.
type Site = (Vec<Listener>, Vec<(usize, Mount)>, Option<Box<dyn Multiplexer>>);

/// What a device says when it lets us in.
const LET_IN: &str = r#"{"method":"auth","requestId":"0","previleges":2,"result":true,"resultCode":0}"#;

/// What the gate serves with these settings; where they name no terminal, with one of the name `default`.
fn served(lines: &str) -> Result<Site, String> {
    let lines =
        if lines.contains("terminals") { lines.to_owned() } else { format!("{lines}\nterminals = [{{ name = 'default' }}]") };
    let section = Section(lines.parse().map_err(|error| format!("{lines:?}: {error}"))?);
    let own = (GATE.own)(&section).map_err(|bad| format!("{}: {}", bad.key, bad.what))?.ok_or("a terminal is named")?;
    let ports: Vec<u16> = own.listeners.iter().map(|listener| listener.place.address.port()).collect();
    let owner = own.shared_services.into_iter().next().map(|service| service.owner);
    Ok((own.listeners, (own.mounts)(&ports), owner))
}

/// A connection of one terminal, just opened.
fn opened(has_device: bool) -> Box<dyn Talk> {
    let device = if has_device { ", upstream = { address = 'ws://127.0.0.1:9/', user_methods = ['call'] }" } else { "" };
    let (_, mounts, _) = served(&format!("terminals = [{{ name = 'default'{device} }}]")).expect("good settings");
    let upgrade = Request {
        method: http::Method::GET,
        path: "/".to_owned(),
        query: None,
        headers: http::HeaderMap::new(),
        upgrade: true,
        secure: false,
        body: bytes::Bytes::new(),
    };
    let (_, mount) = mounts.iter().find(|(index, _)| *index == 2).expect("a control socket");
    let Served::Response(Response { body: Body::Upgrade(upgrade), .. }) =
        Arc::clone(&mount.exchange).receive(START, [0; 16], upgrade)
    else {
        panic!("it becomes a socket")
    };
    upgrade.conversation
}

/// A token as the gate writes it.
fn spell(kind: TerminalToken, random: [u8; 32], now: Timestamp, expires_at: Option<Timestamp>) -> IssuedToken {
    let new = NewToken::Terminal(NewTerminalToken { kind, random: &random, issued_at: now, expires_at });
    let Spelled::Text(secret) = GATE.spell.expect("it tells tokens")(&new) else { panic!("a token is a text") };
    IssuedToken { kind: TokenKind::Terminal(kind), secret, expires_at }
}

fn granted(role: TerminalRole, expires_at: Option<Timestamp>, tokens: Vec<IssuedToken>) -> Answer {
    let principal = Principal {
        session: None,
        account: None,
        client: None,
        scopes: Scopes::default(),
        rights: Rights::default(),
        terminal: Some(role),
        provider: None,
        method: Method::Pin,
        spelling: 0,
        expires_at,
    };
    Answer::Granted(Granted { principal: principal.into(), tokens })
}

fn role_named(name: &str) -> Option<TerminalRole> {
    [TerminalRole::User, TerminalRole::Administrator].into_iter().find(|role| role.word() == name)
}

impl Codec {
    fn new() -> Codec {
        Codec {
            listeners: Vec::new(),
            mounts: Vec::new(),
            now: START,
            prepared: VecDeque::new(),
            announced: None,
            issued: Vec::new(),
            connections: BTreeMap::new(),
            owner: None,
            device_there: false,
            upward: VecDeque::new(),
        }
    }

    /// What conversations want passed on goes to the device as whoever speaks for them has it.
    fn pass_on(&mut self) {
        let Some(owner) = &mut self.owner else {
            assert!(self.connections.values().all(|open| open.upward.is_empty()), "there is no device");
            return;
        };
        for (number, open) in &mut self.connections {
            let sent = open.upward.drain(..).map(|text| owner.forward(ConnectionId(u64::from(*number)), &text));
            self.upward.extend(sent.map(|text| Upward::Text(text.expect("it was passed on"))));
        }
    }

    /// What a connection hears of the device; none: every connection.
    fn relayed(&mut self, number: Option<u32>, from: Relayed<'_>) {
        for (_, open) in self.connections.iter_mut().filter(|(each, _)| number.is_none_or(|number| number == **each)) {
            let mut out = Outbox::default();
            open.connection.relayed(self.now, from, &mut out);
            open.collect(out);
        }
    }

    fn draw(&mut self, kind: TerminalToken, life: Option<Duration>) -> IssuedToken {
        let random = [self.issued.len() as u8 + 1; 32];
        let token = spell(kind, random, self.now, life.map(|life| self.now.after(life)));
        self.issued.push(token.secret.clone());
        token
    }

    /// One token of each kind, as a login is told; by a PIN the one for files has no end.
    fn tokens(&mut self, life: Option<Duration>, by_pin: bool) -> Vec<IssuedToken> {
        let http = (!by_pin).then_some(Duration::from_secs(300));
        [(TerminalToken::Connection, life), (TerminalToken::Http, http), (TerminalToken::Overlay, None)]
            .map(|(kind, life)| self.draw(kind, life))
            .into()
    }

    fn reply(&mut self, command: &Command) -> Result<Reply, String> {
        let asked = self.described(command);
        let (announced, says) = self.prepared.pop_front().ok_or(format!("no line prepares the core for: {asked}"))?;
        match announced.filter(|announced| *announced != asked) {
            Some(announced) => Err(format!("the core should have been asked {announced}\n  and was asked {asked}")),
            None => Ok(Reply::of(says)),
        }
    }

    /// A question in words, as `core is asked` has it.
    fn described(&self, command: &Command) -> String {
        let text = |secret: &Secret| {
            let issued = self.issued.iter().position(|own| own.matches(secret.expose()));
            issued
                .map_or_else(|| secret.expose_text().unwrap_or("bytes").to_owned(), |number| format!("issued token {}", number + 1))
        };
        match (&command.verb, &*command.presented) {
            (Verb::Authenticate { credential, request: GrantRequest { role, .. }, .. }, []) => {
                let proof = match credential {
                    Credential::Unsecured => "nothing".to_owned(),
                    Credential::Terminal { text: shown, token_shaped: true } => {
                        format!("what looks like a token: {}", text(shown))
                    }
                    Credential::Terminal { text: shown, token_shaped: false } => text(shown),
                    other => format!("{other:?}"),
                };
                let role = role.map(|role| format!(" for {}", role.word())).unwrap_or_default();
                format!("{proof}{role}")
            }
            (Verb::Narrow(role), []) => format!("to step down to {}", role.word()),
            (Verb::Issue { kinds, .. }, []) => match &**kinds {
                [TokenKind::Terminal(kind)] => format!("a token of kind {kind:?}"),
                other => format!("tokens of {other:?}"),
            },
            (Verb::Protection, []) => "the protection".to_owned(),
            (Verb::SetProtection { of, to }, []) => match to {
                NewProtection::Unsecured => format!("no protection of {}", of.word()),
                NewProtection::Pin => format!("a PIN of {}", of.word()),
                NewProtection::Password(password) => format!("the password {} of {}", text(password.secret()), of.word()),
            },
            (Verb::Revoke(Target::Everything), []) => "to end every token".to_owned(),
            (Verb::Revoke(Target::Pictures), []) => "to end what is drawn over pictures".to_owned(),
            (Verb::WhoAmI, [Credential::TerminalToken { token, any_of }]) => format!("whose {any_of:?} is {}", text(token)),
            (verb, presented) => format!("{verb:?} by {presented:?}"),
        }
    }

    fn open(&mut self, number: u32) -> Result<&mut Open, String> {
        self.connections.get_mut(&number).ok_or("there is no such connection".to_owned())
    }

    fn receive(&mut self, number: u32, frame: Frame<'_>) -> Result<(), String> {
        let now = self.now;
        let mut out = Outbox::default();
        if let Some(command) = self.open(number)?.connection.receive(now, frame, &mut out) {
            let reply = self.reply(&command)?;
            self.open(number)?.connection.answer(now, reply, &mut out);
        }
        self.open(number)?.collect(out);
        self.pass_on();
        Ok(())
    }

    fn event(&mut self, number: &str, words: &[&str]) -> Result<(), String> {
        let number: u32 = number.parse().map_err(|_| format!("{number:?} is no number of a connection"))?;
        let detached = |reason| Ok(Event::Detached(reason));
        let happened = match words {
            ["expired"] => detached(Reason::Expired),
            ["revoked"] => detached(Reason::Revoked),
            ["displaced"] => detached(Reason::Displaced),
            ["plan", "lost"] => detached(Reason::PlanLost),
            ["plan", "free"] => Ok(Event::Plan(Plan::Free)),
            ["plan", "pro"] => Ok(Event::Plan(Plan::Pro)),
            ["protection", "reset"] => detached(Reason::ProtectionReset),
            ["protection", "of", of, "changed", "by", by] => match (role_named(of), role_named(by)) {
                (Some(of), Some(by)) => detached(Reason::ProtectionChanged { of, by }),
                _ => Err(format!("{of:?} or {by:?} is no role")),
            },
            _ => Err(format!("{words:?} is no event")),
        }?;
        let mut out = Outbox::default();
        let now = self.now;
        let open = self.open(number)?;
        open.connection.notify(now, happened, &mut out);
        open.collect(out);
        Ok(())
    }

    /// What a line prepares the core to say.
    fn says(&mut self, words: &[&str]) -> Result<Result<Answer, Refusal>, String> {
        let month = Some(Duration::from_secs(30 * 24 * 60 * 60));
        Ok(match words {
            ["refuses", name] => Err(no(name)?),
            ["grants", role, how @ ..] => {
                let role = role_named(role).ok_or(format!("{role:?} is no role"))?;
                let (life, by_pin) = match how {
                    [] => (month, false),
                    ["by", "pin"] => (month, true),
                    ["until", "closed"] => (None, true),
                    ["until", wait] => (Some(span(wait)?), false),
                    _ => return Err(format!("{how:?} is no way to grant")),
                };
                let tokens = self.tokens(life, by_pin);
                Ok(granted(role, tokens[0].expires_at, tokens))
            }
            ["issues", kind] => {
                let (kind, life) = match *kind {
                    "http" => (TerminalToken::Http, Some(Duration::from_secs(300))),
                    "overlay" => (TerminalToken::Overlay, None),
                    _ => return Err(format!("{kind:?} is no kind of token")),
                };
                let tokens = vec![self.draw(kind, life)];
                Ok(granted(TerminalRole::User, None, tokens))
            }
            ["tells", administrator, user] => {
                Ok(Answer::Protection(ShownProtection { administrator: guard(administrator)?, user: guard(user)? }))
            }
            ["sets", what @ ..] => {
                let new_pin = what.iter().find_map(|word| word.strip_prefix("pin:")).map(Secret::new);
                let life = new_pin.as_ref().map_or(month, |_| Some(Duration::from_secs(24 * 60 * 60)));
                let own = what.contains(&"own");
                let by_pin = new_pin.is_some();
                Ok(Answer::ProtectionSet { new_pin, tokens: if own { self.tokens(life, by_pin) } else { Vec::new() } })
            }
            ["does"] => Ok(Answer::Done),
            _ => return Err(format!("the core knows no {words:?}")),
        })
    }

    /// A request to the control socket, or to one of the two servers beside it, told apart by their paths.
    fn request(&mut self, request: Request) -> Result<Response, String> {
        let listener = match &request {
            Request { upgrade: true, .. } => self.listeners.iter().position(|listener| listener.terminal.is_some()),
            request if request.path.starts_with("/public/") => self.listeners.iter().position(|listener| listener.name == "web"),
            _ => self.listeners.iter().position(|listener| listener.name == "http"),
        };
        let here = self.mounts.iter().filter(|(index, _)| Some(*index) == listener).collect::<Vec<_>>();
        let Some((_, mount)) = Mount::find(&here, &request.path, |(_, mount)| mount) else {
            return Ok(Response::empty(http::StatusCode::NOT_FOUND));
        };
        match Arc::clone(&mount.exchange).receive(self.now, [0; 16], request) {
            Served::Response(response) => Ok(response),
            Served::Question(command, answering) => Ok(answering(self.now, self.reply(&command)?)),
        }
    }
}

/// `unsecured`, `password`, `pin`, or `pin:K7M2QX` where it may be seen.
fn guard(word: &str) -> Result<ShownGuard, String> {
    let (kind, pin) = word.split_once(':').map_or((word, None), |(kind, pin)| (kind, Some(Secret::new(pin))));
    let protection = match kind {
        "unsecured" => Protection::Unsecured,
        "password" => Protection::Password,
        "pin" => Protection::Pin,
        _ => return Err(format!("{word:?} is no protection")),
    };
    Ok(ShownGuard { protection, pin })
}

/// `30m`, `5s`, `2d`.
fn span(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is no span");
    let (digits, unit) = text.split_at(text.len().saturating_sub(1));
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "d" => 86_400,
        _ => return Err(wrong()),
    };
    let number: u64 = digits.parse().map_err(|_| wrong())?;
    Ok(Duration::from_secs(number * seconds))
}

fn no(name: &str) -> Result<Refusal, String> {
    let retry_after = Duration::from_millis(29_500);
    Ok(match name {
        "MethodNotAllowed" => Refusal::MethodNotAllowed,
        "PlanRequired" => Refusal::PlanRequired,
        "RoleMismatch" => Refusal::RoleMismatch,
        "NotPermitted" => Refusal::NotPermitted,
        "InvalidCredentials" => Refusal::InvalidCredentials,
        "LoginRequired" => Refusal::LoginRequired,
        "Expired" => Refusal::Expired,
        "TooManyAttempts" => Refusal::TooManyAttempts { retry_after },
        "Busy" => Refusal::Busy { retry_after },
        "Unavailable" => Refusal::Unavailable,
        "Invalid" => Refusal::Invalid(vec!["a user is secured only where the administrator is".to_owned()]),
        _ => return Err(format!("{name:?} is no refusal")),
    })
}

impl Stage for Codec {
    fn begin(&mut self, lines: &[String]) -> Result<(), String> {
        let own: Vec<&str> = lines.iter().filter_map(|line| line.strip_prefix("trueconf.")).collect();
        (self.listeners, self.mounts, self.owner) = served(&own.join("\n"))?;
        if self.owner.is_some() {
            self.service(1, &Service::Restored)?;
        }
        Ok(())
    }

    fn connect(&mut self, handshake: &Handshake) -> Result<Answered, String> {
        let (path, query) =
            handshake.target.split_once('?').map_or((&*handshake.target, None), |(path, query)| (path, Some(query.to_owned())));
        let mut headers = http::HeaderMap::new();
        headers.insert(http::header::HOST, http::HeaderValue::from_static("127.0.0.1:8765"));
        for (name, value) in &handshake.headers {
            let name = http::HeaderName::try_from(name).map_err(|error| error.to_string())?;
            headers.append(name, http::HeaderValue::try_from(value).map_err(|error| error.to_string())?);
        }
        let request = Request {
            method: handshake.method.parse().map_err(|_| format!("{:?} is no method", handshake.method))?,
            path: path.to_owned(),
            query,
            headers,
            upgrade: handshake.upgrade,
            secure: false,
            body: bytes::Bytes::from(handshake.body.clone().unwrap_or_default()),
        };
        let Response { status, headers, body, reason } = self.request(request)?;
        let body = match body {
            Body::Upgrade(upgrade) => {
                let open = Open { connection: upgrade.conversation, inbox: VecDeque::new(), upward: Vec::new() };
                self.connections.insert(handshake.connection, open);
                if self.owner.is_some() {
                    let how = if self.device_there { Relayed::Restored } else { Relayed::Lost };
                    self.relayed(Some(handshake.connection), how);
                }
                String::new()
            }
            Body::Bytes(bytes) => String::from_utf8(bytes.into()).map_err(|error| error.to_string())?,
            Body::Forward(_) => return Err("nothing goes on from here".to_owned()),
        };
        let reason = reason.or(status.canonical_reason()).unwrap_or_default().to_owned();
        let text = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
        let headers = headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect();
        Ok(Answered { status: status.as_u16(), protocol: None, reason, headers, body })
    }

    fn send_text(&mut self, connection: u32, text: &str) -> Result<(), String> {
        self.receive(connection, Frame::Text(text))
    }

    fn send_binary(&mut self, connection: u32, bytes: &[u8]) -> Result<(), String> {
        self.receive(connection, Frame::Binary(bytes))
    }

    fn next(&mut self, connection: u32) -> Result<Received, String> {
        Ok(self.open(connection)?.inbox.pop_front().unwrap_or(Received::Nothing))
    }

    /// All connections have one device.
    fn service(&mut self, _connection: u32, what: &Service) -> Result<(), String> {
        let owner = self.owner.as_mut().ok_or("no setting names a device")?;
        match what {
            Service::Says(text) => match owner.heard(text) {
                Heard::Nothing => {}
                Heard::Everybody => self.relayed(None, Relayed::Frame(Frame::Text(text))),
                Heard::One(ConnectionId(number), text) => {
                    let number = u32::try_from(number).map_err(|error| error.to_string())?;
                    self.relayed(Some(number), Relayed::Frame(Frame::Text(&text)));
                }
                Heard::TurnedAway { .. } => {
                    owner.lost();
                    self.device_there = false;
                    self.upward.push_back(Upward::Part);
                    self.relayed(None, Relayed::Lost);
                }
                Heard::Admitted => return Err("we are in already".to_owned()),
            },
            Service::Lost => {
                owner.lost();
                self.device_there = false;
                self.relayed(None, Relayed::Lost);
            }
            Service::Restored => {
                owner.opened(None);
                assert_eq!(owner.heard(LET_IN), Heard::Admitted);
                self.device_there = true;
                self.relayed(None, Relayed::Restored);
            }
        }
        Ok(())
    }

    fn upward(&mut self, _connection: u32) -> Result<Upward, String> {
        Ok(self.upward.pop_front().unwrap_or(Upward::Nothing))
    }

    fn core(&mut self, line: &str) -> Result<(), String> {
        if let Some(asked) = line.strip_prefix("is asked ") {
            self.announced = Some(asked.to_owned());
            return Ok(());
        }
        let words: Vec<&str> = line.split_whitespace().collect();
        match &*words {
            ["event", number, words @ ..] => self.event(number, words),
            ["after", wait] => {
                self.now = self.now.after(span(wait)?);
                for open in self.connections.values_mut() {
                    let mut out = Outbox::default();
                    if open.connection.limits().due.is_some_and(|due| due <= self.now) {
                        open.connection.remind(self.now, &mut out);
                    }
                    open.collect(out);
                }
                Ok(())
            }
            _ => {
                let says = self.says(&words)?;
                self.prepared.push_back((self.announced.take(), says));
                Ok(())
            }
        }
    }

    fn operator(&mut self, _arguments: &[String]) -> Result<(), String> {
        Ok(())
    }

    fn stop(&mut self) -> Result<(), String> {
        for open in self.connections.values_mut() {
            let mut out = Outbox::default();
            open.connection.stop(&mut out);
            open.collect(out);
        }
        Ok(())
    }

    fn end(&mut self) -> Result<(), String> {
        if let Some(left) = self.upward.front() {
            return Err(format!("the device was sent something that no line expects: {left:?}"));
        }
        match (self.prepared.len(), &self.announced) {
            (0, None) => Ok(()),
            (left, announced) => Err(format!("{left} answers of the core were not asked for; announced: {announced:?}")),
        }
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn scripts() -> (PathBuf, Vec<Script>) {
    let folder = root().join("transcripts/trueconf");
    let scripts = script::load(&folder);
    (folder, scripts)
}

#[test]
fn every_transcript_holds_and_inverted_none_does() {
    let (_, scripts) = scripts();
    let invert = std::env::var_os("GATEPOST_INVERT").is_some_and(|value| value == "1");
    let said = script::run_all(&scripts, Side::Codec, invert, &mut || Box::new(Codec::new()));
    let said = said.unwrap_or_else(|wrong| panic!("{wrong}"));
    writeln!(std::io::stderr(), "trueconf, codec: {said}").expect("standard error takes a line");
}

#[test]
fn every_case_is_shown_once_and_by_name() {
    let (folder, scripts) = scripts();
    let cases = std::fs::read_to_string(folder.join("CASES")).expect("there are cases");
    let count = script::cases::check_cases(&cases, &root(), &scripts).unwrap_or_else(|wrong| panic!("{wrong}"));
    assert!(count > 0);
}

fn config() -> ProptestConfig {
    let mut config = ProptestConfig { failure_persistence: None, ..ProptestConfig::default() };
    if std::env::var_os("PROPTEST_CASES").is_none() {
        config.cases = 512;
    }
    config
}

/// What may happen to a connection.
#[derive(Clone, Debug)]
enum Step {
    Sent(String),
    Heard(String),
    Told(Event),
    Passed(u64),
    Lost(bool),
}

/// What the core says when it is asked.
#[derive(Clone, Copy, Debug)]
enum Says {
    Grants(TerminalRole),
    Sets,
    Tells,
    Does,
    Refuses(usize),
}

const NOS: [&str; 10] = [
    "MethodNotAllowed",
    "PlanRequired",
    "RoleMismatch",
    "NotPermitted",
    "InvalidCredentials",
    "LoginRequired",
    "TooManyAttempts",
    "Busy",
    "Unavailable",
    "Invalid",
];

fn any_role() -> impl Strategy<Value = TerminalRole> {
    prop_oneof![Just(TerminalRole::User), Just(TerminalRole::Administrator)]
}

fn any_says() -> impl Strategy<Value = Says> {
    prop_oneof![
        4 => any_role().prop_map(Says::Grants),
        1 => Just(Says::Sets),
        1 => Just(Says::Tells),
        1 => Just(Says::Does),
        3 => (0..NOS.len()).prop_map(Says::Refuses),
    ]
}

/// The secret that every generated request that has one shows.
const SHOWN: &str = "s3cr3t-that-was-sent";

fn any_value() -> impl Strategy<Value = String> {
    let scalar = prop_oneof![
        Just("null".to_owned()),
        Just("true".to_owned()),
        any::<i64>().prop_map(|number| number.to_string()),
        ".{0,20}".prop_map(|text| Value::from(text).to_string()),
        Just("\"\\ud800\"".to_owned()),
        Just("[{\"a\":[]}]".to_owned()),
    ];
    let words = ["admin", "user", "secured", "unsecured", "password", "pin", "1", "", SHOWN];
    let words: Vec<String> = words.iter().map(|word| Value::from(*word).to_string()).collect();
    prop_oneof![scalar, proptest::sample::select(words)]
}

fn any_message() -> impl Strategy<Value = String> {
    let methods = [
        "auth",
        "setUsedApiVersion",
        "getAuthInfo",
        "setAuthParams",
        "clearTokens",
        "getTokenForHttpServer",
        "getOverlayHttpToken",
        "getAppState",
        "logout",
        "login",
        "startHttpServer",
        "call",
        "event",
        "Auth",
    ];
    let names = ["requestId", "type", "role", "credentials", "userType", "authType", "password", "version", "result", "event", "x"];
    let members = proptest::collection::vec((proptest::sample::select(names.to_vec()), any_value()), 0..6);
    let object = (proptest::sample::select(methods.to_vec()), members).prop_map(|(method, members)| {
        let members: String = members.iter().map(|(name, value)| format!(",\"{name}\":{value}")).collect();
        format!("{{\"method\":\"{method}\"{members}}}")
    });
    let secret = Just(format!(r#"{{"method":"auth","type":"secured","credentials":"{SHOWN}"}}"#));
    prop_oneof![6 => object, 1 => secret, 1 => ".{0,60}", 1 => Just("{}".to_owned())]
}

fn any_step() -> impl Strategy<Value = Step> {
    let heard = prop_oneof![
        any_message(),
        (1..4_u8, any::<bool>())
            .prop_map(|(id, result)| format!(r#"{{"method":"call","requestId":"{id}","result":{result},"embeddedHttpPort":1}}"#)),
    ];
    let happened = prop_oneof![
        Just(Event::Detached(Reason::Displaced)),
        Just(Event::Detached(Reason::PlanLost)),
        Just(Event::Detached(Reason::Expired)),
        Just(Event::Plan(Plan::Free)),
    ];
    prop_oneof![
        8 => any_message().prop_map(Step::Sent),
        2 => heard.prop_map(Step::Heard),
        1 => happened.prop_map(Step::Told),
        1 => (0..400_u64).prop_map(Step::Passed),
        1 => any::<bool>().prop_map(Step::Lost),
    ]
}

fn said(says: Says, now: Timestamp, command: &Command) -> Result<Answer, Refusal> {
    let token = |kind| spell(kind, [7; 32], now, None);
    let tokens = || match &command.verb {
        Verb::Issue { kinds, .. } => kinds
            .iter()
            .map(|kind| match kind {
                TokenKind::Terminal(kind) => token(*kind),
                other => panic!("{other:?}"),
            })
            .collect(),
        _ => [TerminalToken::Connection, TerminalToken::Http, TerminalToken::Overlay].map(token).into(),
    };
    match says {
        Says::Grants(role) => Ok(granted(role, None, tokens())),
        Says::Sets => Ok(Answer::ProtectionSet { new_pin: Some(Secret::new("K7M2QX")), tokens: tokens() }),
        Says::Tells => {
            let (administrator, user) = (guard("password").expect("a guard"), guard("pin:K7M2QX").expect("a guard"));
            Ok(Answer::Protection(ShownProtection { administrator, user }))
        }
        Says::Does => Ok(Answer::Done),
        Says::Refuses(number) => Err(no(NOS[number]).expect("a refusal")),
    }
}

proptest! {
    #![proptest_config(config())]

    /// Every request gets one answer in its place, of a form that every client can read; nobody is told of a grant that there was
    /// not; and no answer holds the secret that was sent.
    #[test]
    fn whatever_is_sent_every_answer_is_one_that_clients_can_read(
        steps in proptest::collection::vec((any_step(), any_says()), 1..40),
        has_device in any::<bool>(),
    ) {
        let mut connection = opened(has_device);
        let (mut now, mut out) = (START, Outbox::default());
        let (mut owed, mut answered, mut awaited) = (0, 0, 0);
        let (mut grants, mut told_grants) = (0, 0);
        for (step, says) in steps {
            let mut sent = 0;
            match step {
                Step::Sent(text) => {
                    owed += 1;
                    sent = 1;
                    if let Some(command) = connection.receive(now, Frame::Text(&text), &mut out) {
                        let is_grant = matches!(command.verb, Verb::Authenticate { .. } | Verb::Narrow(_));
                        let reply = said(says, now, &command);
                        grants += i32::from(is_grant && matches!(reply, Ok(Answer::Granted(_))));
                        connection.answer(now, Reply::of(reply), &mut out);
                    }
                }
                Step::Heard(text) => connection.relayed(now, Relayed::Frame(Frame::Text(&text)), &mut out),
                Step::Told(happened) => connection.notify(now, happened, &mut out),
                Step::Passed(seconds) => {
                    now = now.after(Duration::from_secs(seconds));
                    connection.remind(now, &mut out);
                }
                Step::Lost(lost) => connection.relayed(now, if lost { Relayed::Lost } else { Relayed::Restored }, &mut out),
            }
            while let Some(upward) = out.pop_upward() {
                prop_assert!(has_device && sent == 1);
                let frame::Upward::Forward(text) = upward else { panic!("the device is everybody's") };
                let text: Value = serde_json::from_str(&text).expect("JSON");
                prop_assert!(text["method"] != "auth" && text["requestId"].is_string());
                awaited += 1;
            }
            let mut closed = false;
            for outgoing in out.drain() {
                let text = match outgoing {
                    Outgoing::Text(text) => text,
                    Outgoing::Binary(_) => panic!("this wire has no binary frames"),
                    Outgoing::Close(code, _) => {
                        prop_assert_eq!(code, 1008);
                        closed = true;
                        continue;
                    }
                };
                prop_assert!(text.len() <= 10_240);
                let value: Value = serde_json::from_str(&text).expect("JSON");
                prop_assert!(value["method"].is_string());
                let names_an_event = value.get("event").is_some_and(Value::is_string);
                if value["method"] == "event" && names_an_event && value.get("requestId").is_none() {
                    continue;
                }
                answered += 1;
                let result = value["result"].as_bool();
                prop_assert!(result.is_some(), "{}", text);
                let mut unquoted = value.clone();
                unquoted["requestId"] = Value::Null;
                prop_assert!(value["method"] != "auth" || !unquoted.to_string().contains(SHOWN), "{}", text);
                prop_assert!(!value["error"].to_string().contains(SHOWN), "{}", text);
                if value["method"] == "auth" {
                    let done = result == Some(true);
                    told_grants += i32::from(done);
                    prop_assert_eq!(value["resultCode"].is_u64(), true);
                    prop_assert_eq!(done, value["resultCode"] == 0);
                    for member in ["previleges", "token", "tokenForHttpServer", "overlayHttpToken"] {
                        prop_assert_eq!(value.get(member).is_some(), done, "{}", text);
                    }
                    prop_assert_eq!(value["error"].as_str().is_some_and(|error| !error.is_empty()), !done);
                }
            }
            // An answer may wait behind one that the device owes.
            prop_assert!(told_grants <= grants && (awaited > 0 || told_grants == grants));
            prop_assert!(answered <= owed, "no request has two answers");
            prop_assert!(awaited > 0 || closed || answered == owed, "and none is without one");
            if closed {
                return Ok(());
            }
        }
        connection.relayed(now, Relayed::Lost, &mut out);
        for outgoing in out.drain() {
            let Outgoing::Text(text) = outgoing else { panic!("nothing closes it") };
            answered += 1;
            told_grants += i32::from(text.contains("\"resultCode\":0"));
        }
        prop_assert_eq!((answered, told_grants), (owed, grants), "a device that is gone leaves nothing open");
    }

    /// Whatever panels ask and in whatever order the device answers, each hears the answers to its own requests, each once, in the
    /// order in which it asked; and whoever is not let in hears nothing of the device.
    #[test]
    fn whatever_the_order_each_panel_hears_its_own_answers(
        steps in proptest::collection::vec((0..3_usize, 0..6_u8, any::<prop::sample::Index>()), 1..80),
    ) {
        let (_, _, owner) = served("terminals = [{ name = 'default', upstream = { address = 'ws://127.0.0.1:9/', user_methods = ['call'] } }]")
            .expect("good settings");
        let mut owner = owner.expect("there is a device");
        owner.opened(None);
        prop_assert_eq!(owner.heard(LET_IN), Heard::Admitted);
        let mut panels: Vec<Box<dyn Talk>> = (0..3).map(|_| opened(true)).collect();
        let mut out = Outbox::default();
        // The third panel is a stranger.
        for panel in &mut panels[..2] {
            let command = panel.receive(START, Frame::Text(r#"{"method":"auth","type":"unsecured"}"#), &mut out).expect("a question");
            let reply = said(Says::Grants(TerminalRole::User), START, &command);
            panel.answer(START, Reply::of(reply), &mut out);
        }
        out = Outbox::default();
        let mut asked = [0_usize; 3];
        let mut told = [0_usize; 3];
        let mut events = [0_usize; 3];
        let mut owed: Vec<Value> = Vec::new();
        let mut spread = 0;
        let mut read = |number: usize, out: &mut Outbox, events: &mut [usize; 3]| {
            for outgoing in out.drain() {
                let Outgoing::Text(text) = outgoing else { panic!("nothing closes it") };
                let value: Value = serde_json::from_str(&text).expect("JSON");
                if value["method"] == "event" {
                    events[number] += 1;
                    continue;
                }
                assert_eq!(value["requestId"], told[number], "in the order of its requests, and none twice");
                told[number] += 1;
                assert_eq!(value["result"], number < 2, "{value}");
                assert!(number == 2 || value["whose"] == number, "{value} is not for {number}");
            }
        };
        for (number, what, index) in steps {
            match what {
                // A conversation waits for so many answers.
                0..3 if asked[number] < 30 => {
                    let request = format!(r#"{{"method":"call","requestId":{},"whose":{number}}}"#, asked[number]);
                    asked[number] += 1;
                    prop_assert!(panels[number].receive(START, Frame::Text(&request), &mut out).is_none());
                    while let Some(frame::Upward::Forward(text)) = out.pop_upward() {
                        let text = owner.forward(ConnectionId(number as u64), &text).expect("it is passed on");
                        owed.push(serde_json::from_str(&text).expect("JSON"));
                    }
                    read(number, &mut out, &mut events);
                }
                3 | 4 if !owed.is_empty() => {
                    let request = owed.remove(index.index(owed.len()));
                    let answer = serde_json::json!({
                        "method": "call", "requestId": request["requestId"], "whose": request["whose"], "result": true,
                    });
                    let Heard::One(ConnectionId(number), text) = owner.heard(&answer.to_string()) else { panic!("{answer}") };
                    let number = usize::try_from(number).expect("one of three");
                    panels[number].relayed(START, Relayed::Frame(Frame::Text(&text)), &mut out);
                    read(number, &mut out, &mut events);
                    prop_assert_eq!(owner.heard(&answer.to_string()), Heard::Nothing);
                }
                5 => {
                    let event = r#"{"method":"event","event":"tick"}"#;
                    prop_assert_eq!(owner.heard(event), Heard::Everybody);
                    spread += 1;
                    for (number, panel) in panels.iter_mut().enumerate() {
                        panel.relayed(START, Relayed::Frame(Frame::Text(event)), &mut out);
                        read(number, &mut out, &mut events);
                    }
                }
                _ => {}
            }
        }
        prop_assert_eq!(events, [spread, spread, 0]);
        for request in owed {
            let answer = serde_json::json!({
                "method": "call", "requestId": request["requestId"], "whose": request["whose"], "result": true,
            });
            let Heard::One(ConnectionId(number), text) = owner.heard(&answer.to_string()) else { panic!("{answer}") };
            let number = usize::try_from(number).expect("one of three");
            panels[number].relayed(START, Relayed::Frame(Frame::Text(&text)), &mut out);
            read(number, &mut out, &mut events);
        }
        prop_assert_eq!(told, asked, "and none is without one");
    }
}
