//! The transcripts, run on the pure codec with a scripted core.
//!
//! With `GATEPOST_INVERT=1` every expectation is spoiled in turn, and every transcript must fail.

#[path = "../../transcripts/script.rs"]
#[expect(unreachable_pub, reason = "the module is shared by test programs, each of which includes it whole")]
mod script;
#[expect(unreachable_pub, reason = "the module is shared by test programs, each of which includes it whole")]
#[expect(dead_code, reason = "the laws and the fuzz targets ask in other ways")]
mod scripted;

use std::collections::{BTreeMap, VecDeque};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use gatepost_identity::account::Rights;
use gatepost_identity::clock::Timestamp;
use gatepost_identity::command::{Binding, Command, Verb};
use gatepost_identity::credential::Credential;
use gatepost_identity::refusal::Refusal;
use gatepost_identity::reply::{
    Answer, Caller, Event, Granted, IssuedToken, Method, NewToken, Principal, Reason, Reply, Spelled, TokenKind, ToldApiKey,
};
use gatepost_identity::scope::ScopeRequest;
use gatepost_identity::secret::Secret;
use gatepost_protocols::forward::{Forward, NoAnswer, joined};
use gatepost_protocols::frame::{self, Frame, Outbox, Outgoing, Relayed};
use gatepost_protocols::http::{Body, Request, Response};
use gatepost_protocols::mount::{Mount, Parts, Served, Talk};
use gatepost_protocols::{Gate, Seed, servicestack, zenith};
use http::{HeaderMap, StatusCode};
use script::{Answered, Handshake, Received, Script, Service, Side, Stage, Upward};

/// The gates whose wires have transcripts.
const SCRIPTED: [&Gate; 2] = [&zenith::GATE, &servicestack::GATE];
/// What is set for a gate that needs it to be open.
const DEFAULTS: [(&str, &str); 1] = [("servicestack", "client = 'app'")];

/// The codec, and a core that says what the script has prepared.
struct Codec {
    gate: &'static Gate,
    mounts: Vec<Mount>,
    now: Timestamp,
    /// What the core will be asked, where a line says so, and what it will say.
    prepared: VecDeque<(Option<String>, Says)>,
    /// A question announced whose answer has not been prepared yet.
    announced: Option<String>,
    issued: Vec<Secret>,
    /// How many requests there were, so that no two come with the same chance.
    requests: u8,
    /// How many tokens were signed.
    signatures: u32,
    /// Whom the last of them were about.
    last: Option<String>,
    connections: BTreeMap<u32, Open>,
}

/// A connection, and what it has sent that no line has looked at yet.
struct Open {
    talk: Box<dyn Talk>,
    inbox: VecDeque<Received>,
    /// Whether there is a service behind the gate at all.
    service: bool,
    upward: VecDeque<Upward>,
}

impl Open {
    fn collect(&mut self, mut out: Outbox) {
        self.inbox.extend(out.drain().map(|outgoing| match outgoing {
            Outgoing::Text(text) => Received::Text(text),
            Outgoing::Binary(bytes) => panic!("this wire has no binary frames: {bytes:?}"),
            Outgoing::Close(code, _) => Received::Close(code),
        }));
        while let Some(upward) = out.pop_upward() {
            assert!(self.service, "there is nobody for {upward:?}");
            self.upward.push_back(match upward {
                frame::Upward::Forward(text) => Upward::Text(text),
                frame::Upward::Part => Upward::Part,
            });
        }
    }
}

/// How somebody proves who they are by what they show, where they do.
fn method_of(credential: &Credential) -> Option<Method> {
    match credential {
        Credential::Password { .. } => Some(Method::Password),
        Credential::Token { .. } | Credential::Kept { kind: TokenKind::Access, .. } => Some(Method::Access),
        Credential::Refresh(_) | Credential::Kept { .. } => Some(Method::Refresh),
        Credential::Cookie(_) => Some(Method::Cookie),
        Credential::ApiKey(_) => Some(Method::ApiKey),
        Credential::OperatorSecret(_) => Some(Method::OperatorSecret),
        Credential::Client { .. } | Credential::Code { .. } => None,
        Credential::Terminal { .. } | Credential::TerminalToken { .. } | Credential::Unsecured => None,
    }
}

enum Says {
    No(Refusal),
    /// Who, which scopes, their family unless it is the one asked in, the end, whether a token is told, and whether it is good for
    /// one request only.
    Yes {
        who: String,
        scopes: Vec<String>,
        family: Option<u8>,
        until: Option<Timestamp>,
        token: bool,
        once: bool,
        /// Whether another access token was made on the way.
        renews: bool,
        /// Whether the first proof was no good, and a later one was.
        despite: bool,
    },
    /// That it is done.
    Done,
}

impl Codec {
    fn new(gate: &'static Gate) -> Codec {
        Codec {
            gate,
            requests: 0,
            signatures: 0,
            last: None,
            mounts: Vec::new(),
            now: scripted::START,
            prepared: VecDeque::new(),
            announced: None,
            issued: Vec::new(),
            connections: BTreeMap::new(),
        }
    }

    fn reply(&mut self, command: Command) -> Result<Reply, String> {
        let asked = self.described(&command);
        let (announced, says) = self.prepared.pop_front().ok_or(format!("no line prepares the core for: {asked}"))?;
        if let Some(announced) = announced.filter(|announced| *announced != asked) {
            return Err(format!("the core should have been asked {announced}\n  and was asked {asked}"));
        }
        let who = |says: Says, spelling: Option<u8>| match says {
            Says::Yes { who, scopes, family, until, token, once, renews: _, despite: _ } => {
                let scopes: Vec<&str> = scopes.iter().map(String::as_str).collect();
                let family = family.or(spelling).unwrap_or(0);
                let principal = scripted::principal(&who, &scopes, family, until).ok_or(format!("{who} is not of the cast"))?;
                let session = principal.session.filter(|_| !once);
                Ok((Principal { session, ..principal }, token))
            }
            Says::No(_) | Says::Done => Err(format!("it was asked {asked}, and that is no answer")),
        };
        // What was shown and is no good has a place, but for a cookie, which is no claim.
        let is_claim = |shown: &Credential| {
            use Credential::{ApiKey, Kept, OperatorSecret, Password, Refresh, Token};
            matches!(shown, Password { .. } | ApiKey(_) | OperatorSecret(_) | Token { .. } | Refresh(_) | Kept { .. })
        };
        let place = command.presented.iter().position(is_claim);
        let despite = matches!(says, Says::Yes { despite: true, .. });
        let failed: Vec<_> = place.filter(|_| despite).map(|place| (place, Refusal::InvalidCredentials)).into_iter().collect();
        let shown = command.presented.iter().enumerate().filter(|(at, _)| !despite || Some(*at) != place);
        let method = shown.map(|(_, credential)| credential).find_map(method_of);
        let by = |principal: Principal| Principal { method: method.unwrap_or(principal.method), ..principal };
        let result = match (command.verb, says) {
            (Verb::WhoAmI | Verb::Issue { .. } | Verb::ApiKeys { .. }, Says::No(refusal)) => {
                let failed = place.filter(|_| refusal != Refusal::LoginRequired).map(|place| (place, refusal.clone()));
                let caller = Caller { failed: failed.into_iter().collect(), ..Caller::default() };
                return Ok(Reply { caller, result: Err(refusal) });
            }
            (_, Says::No(refusal)) => Err(refusal),
            (Verb::Logout, Says::Done) => Ok(Answer::Done),
            (Verb::ApiKeys { environment, renew }, Says::Done) => {
                let text = format!("{:0>32}", self.requests);
                Ok(Answer::ApiKeys(vec![ToldApiKey {
                    key: renew.then(|| Secret::new(text.as_str())),
                    prefix: text[..8].to_owned(),
                    environment,
                    kind: "secret".to_owned(),
                    created_at: self.now,
                    expires_at: None,
                }]))
            }
            (Verb::Register { profile, .. }, says) => {
                let mut account = scripted::principal("bob", &[], 0, None).and_then(|bob| bob.account).expect("of the cast");
                let made = std::sync::Arc::make_mut(&mut account);
                made.name = profile.name.or(profile.email).unwrap_or_default();
                made.subject = format!("u-{}", made.name);
                let granted = match says {
                    Says::Done => None,
                    says => {
                        let (principal, _) = who(says, None)?;
                        let kind = TokenKind::Cookie { remember: false };
                        let token = IssuedToken { secret: self.draw(&kind), kind, expires_at: None };
                        Some(Granted {
                            principal: Principal { account: Some(account.clone()), ..principal }.into(),
                            tokens: vec![token],
                        })
                    }
                };
                Ok(Answer::Registered { account, granted })
            }
            (Verb::ChangeRights { add, .. }, Says::Done) => Ok(Answer::Rights(add)),
            (Verb::Issue { kinds, .. }, says) => {
                let renews = matches!(says, Says::Yes { renews: true, .. });
                let principal = by(who(says, None)?.0);
                self.last = principal.account.as_ref().map(|account| account.subject.clone());
                let tokens = kinds.into_iter().map(|kind| self.signed(kind)).collect();
                let renewed = renews.then(|| self.signed(TokenKind::Access)).into_iter().collect();
                let caller = Caller { principal: Some(principal.clone()), failed, renewed };
                return Ok(Reply { caller, result: Ok(Answer::Granted(Granted { principal: principal.into(), tokens })) });
            }
            (Verb::WhoAmI, says) => {
                let renews = matches!(says, Says::Yes { renews: true, .. });
                let principal = by(who(says, None)?.0);
                let renewed = renews.then(|| self.signed(TokenKind::Access)).into_iter().collect();
                let caller = Caller { principal: Some(principal.clone()), failed, renewed };
                return Ok(Reply {
                    caller,
                    result: Ok(Answer::Granted(Granted { principal: principal.into(), tokens: Vec::new() })),
                });
            }
            (Verb::Authenticate { request, .. }, says) => {
                let (principal, token) = who(says, request.spelling)?;
                if request.binding == Binding::TokenCookies {
                    let tokens = [TokenKind::Access, TokenKind::Refresh].map(|kind| self.signed(kind)).into();
                    let principal = Principal { session: None, ..principal };
                    return Ok(Reply::of(Ok(Answer::Granted(Granted { principal: principal.into(), tokens }))));
                }
                let kind = match request.binding {
                    Binding::Cookie { remember } | Binding::Tokens { remember } => TokenKind::Cookie { remember },
                    Binding::Connection | Binding::Request | Binding::TokenCookies => TokenKind::Restore,
                };
                let expires_at = principal.expires_at;
                let mut tokens: Vec<IssuedToken> =
                    token.then(|| IssuedToken { secret: self.draw(&kind), kind, expires_at }).into_iter().collect();
                if matches!(request.binding, Binding::Tokens { .. }) {
                    tokens.extend([TokenKind::Access, TokenKind::Refresh].map(|kind| self.signed(kind)));
                }
                Ok(Answer::Granted(Granted { principal: principal.into(), tokens }))
            }
            (verb, _) => return Err(format!("{verb:?} was asked, and that is no answer")),
        };
        Ok(Reply::of(result))
    }

    /// A token as the core would have signed it: its claims are the gate's, and its signature is nobody's.
    fn signed(&mut self, kind: TokenKind) -> IssuedToken {
        self.signatures += 1;
        let life = if kind == TokenKind::Access { 14 } else { 365 } * 86_400;
        let secret = Secret::new(format!("header.claims.signature{}", self.signatures));
        IssuedToken { kind, secret, expires_at: Some(self.now.after(Duration::from_secs(life))) }
    }

    fn draw(&mut self, kind: &TokenKind) -> Secret {
        let mut random = [self.issued.len() as u8 + 1; 32];
        // `+/+/`, so that another alphabet is another spelling.
        random[..3].copy_from_slice(&[0xfb, 0xff, 0xbf]);
        let new = match kind {
            TokenKind::Restore => NewToken::Restore { random: &random },
            TokenKind::Cookie { .. } => NewToken::Cookie { random: &random },
            TokenKind::Upstream { .. } | TokenKind::Terminal(_) | TokenKind::Access | TokenKind::Refresh => {
                panic!("no script is told such a token")
            }
        };
        let spell = self.gate.spell.expect("this gate tells tokens");
        let Spelled::Text(spelled) = spell(&new) else { panic!("it is no claim") };
        self.issued.push(spelled.clone());
        spelled
    }

    /// A command in words, as `core is asked` has it.
    fn described(&self, command: &Command) -> String {
        let presented = || {
            let presented: Vec<String> = command.presented.iter().map(|credential| self.credential(credential)).collect();
            if presented.is_empty() { "nothing".to_owned() } else { presented.join(", ") }
        };
        let (provider, credential, request) = match &command.verb {
            Verb::Authenticate { provider, credential, request } => (provider, credential, request),
            Verb::WhoAmI => return format!("who shows {}", presented()),
            Verb::Logout => return format!("to end {}", presented()),
            Verb::Issue { kinds, .. } => return format!("{kinds:?} for {}", presented()),
            Verb::ApiKeys { environment, renew } => {
                return format!("{} {environment} keys of {}", if *renew { "new" } else { "the" }, presented());
            }
            Verb::Register { .. } => return format!("to register beside {}", presented()),
            Verb::ChangeRights { account, add, remove, right } => {
                let roles = |rights: &Rights| rights.roles.join(" ");
                return format!(
                    "to give {account} [{}] and take [{}], which needs {right:?}, by {}",
                    roles(add),
                    roles(remove),
                    presented()
                );
            }
            other => panic!("no gate asks this: {other:?}"),
        };
        let mut words = vec![self.credential(credential)];
        words.extend(command.presented.iter().map(|credential| match credential {
            Credential::Client { .. } => format!("through {}", self.credential(credential)),
            other => format!("in the place of {}", self.credential(other)),
        }));
        words.extend(provider.iter().map(|name| format!("at {}", name.0)));
        match request.binding {
            Binding::Cookie { remember: false } => words.push("for a cookie".to_owned()),
            Binding::Cookie { remember: true } => words.push("for a cookie to be kept".to_owned()),
            Binding::Connection | Binding::Request | Binding::TokenCookies | Binding::Tokens { .. } => {}
        }
        if matches!(request.binding, Binding::Cookie { .. }) {
            return words.join(" ");
        }
        words.push(match &request.scope {
            ScopeRequest::Maximum => "for everything".to_owned(),
            ScopeRequest::Nothing => "for nothing".to_owned(),
            ScopeRequest::AnyOf(scopes) => {
                let names: Vec<&str> = scopes.iter().map(|scope| scope.as_str()).collect();
                format!("for [{}]", names.join(" "))
            }
        });
        words.extend(match request.spelling {
            Some(0) => None,
            Some(1) => Some("in dotted names".to_owned()),
            Some(_) => Some("in web addresses".to_owned()),
            None => Some("in the session's names".to_owned()),
        });
        words.join(" ")
    }

    fn credential(&self, credential: &Credential) -> String {
        let text = |secret: &Secret| secret.expose_text().map(str::to_owned).unwrap_or_else(|| format!("{:02x?}", secret.expose()));
        match credential {
            Credential::Password { name, password } => format!("password {name}/{}", text(password)),
            Credential::Client { id, secret } => {
                let id = id.as_ref().map_or("an impossible client", |id| id.as_str());
                let secret = secret.as_ref().map(|secret| format!("/{}", text(secret)));
                format!("client {id}{}", secret.unwrap_or_default())
            }
            Credential::Cookie(cookie) => format!("cookie {}", text(cookie)),
            Credential::ApiKey(key) => format!("API key {}", text(key)),
            Credential::OperatorSecret(secret) => format!("operator secret {}", text(secret)),
            Credential::Code { code } => format!("code {}", text(code)),
            Credential::Terminal { .. } | Credential::TerminalToken { .. } | Credential::Unsecured => {
                "a terminal, which there is none of here".to_owned()
            }
            Credential::Refresh(token) => format!("refresh token {}", text(token)),
            Credential::Kept { token, kind: TokenKind::Refresh } => format!("kept refresh token {}", text(token)),
            Credential::Kept { token, .. } => format!("kept token {}", text(token)),
            Credential::Token { any_of, .. } => {
                let issued = any_of.first().and_then(|first| self.issued.iter().position(|own| own.matches(first.expose())));
                match issued {
                    Some(number) => format!("issued token {}", number + 1),
                    None => format!("token {}", any_of.iter().map(text).collect::<Vec<_>>().join(" or ")),
                }
            }
        }
    }

    fn served(&mut self, seed: Seed, request: Request) -> Result<Response, String> {
        match scripted::serve(&self.mounts, self.now, seed, request) {
            Served::Response(response) => Ok(response),
            Served::Question(command, answer) => {
                let reply = self.reply(command)?;
                Ok(answer(self.now, reply))
            }
        }
    }

    fn receive(&mut self, connection: u32, frame: Frame<'_>) -> Result<(), String> {
        let now = self.now;
        let mut out = Outbox::default();
        if let Some(command) = self.open(connection)?.talk.receive(now, frame, &mut out) {
            let reply = self.reply(command)?;
            self.open(connection)?.talk.answer(now, reply, &mut out);
        }
        self.open(connection)?.collect(out);
        Ok(())
    }

    fn open(&mut self, connection: u32) -> Result<&mut Open, String> {
        self.connections.get_mut(&connection).ok_or("there is no such connection".to_owned())
    }

    /// Time passes, and what becomes due by it is done.
    fn pass(&mut self, span: Duration) {
        self.now = self.now.after(span);
        for open in self.connections.values_mut() {
            if open.talk.limits().due.is_some_and(|due| due <= self.now) {
                let mut out = Outbox::default();
                open.talk.remind(self.now, &mut out);
                open.collect(out);
            }
            assert!(open.talk.limits().due.is_none_or(|due| self.now < due), "what was due is done");
        }
    }

    fn event(&mut self, words: &[&str]) -> Result<(), String> {
        let [connection, what @ ..] = words else { return Err("an event needs a connection".to_owned()) };
        let connection: u32 = connection.parse().map_err(|_| format!("{connection:?} is no number of a connection"))?;
        let event = match what {
            ["changed", who, scopes @ ..] => {
                let end = Some(self.now.after(scripted::LIFE));
                Event::Changed(scripted::principal(who, scopes, 0, end).ok_or(format!("{who} is not of the cast"))?.into())
            }
            [reason] => Event::Detached(Reason::parse(reason).ok_or(format!("{reason:?} is no event"))?),
            _ => return Err(format!("{what:?} is no event")),
        };
        let mut out = Outbox::default();
        let now = self.now;
        let open = self.open(connection)?;
        open.talk.notify(now, event, &mut out);
        open.collect(out);
        Ok(())
    }

    fn grants(&self, words: &[&str]) -> Result<Says, String> {
        let [who, words @ ..] = words else { return Err("to whom?".to_owned()) };
        let (mut family, mut until, mut token, mut scopes) = (None, Some(self.now.after(scripted::LIFE)), true, Vec::new());
        let (mut once, mut renews, mut despite) = (false, false, false);
        let mut words = words.iter();
        while let Some(word) = words.next() {
            match *word {
                "until" => until = span(words.next().copied().unwrap_or(""))?.map(|span| self.now.after(span)),
                "in" => {
                    let name = words.next().copied().unwrap_or("");
                    let mark = ["slashed", "dotted", "uri"].iter().position(|family| *family == name);
                    family = Some(u8::try_from(mark.ok_or(format!("{name:?} is no family"))?).unwrap_or(0));
                }
                "tokenless" => token = false,
                "once" => once = true,
                "renewed" => renews = true,
                "despite" => despite = true,
                scope => scopes.push(scope.to_owned()),
            }
        }
        Ok(Says::Yes { who: (*who).to_owned(), scopes, family, until, token, once, renews, despite })
    }
}

/// `30m`, `5s`, `2d`; `never` is none.
fn span(text: &str) -> Result<Option<Duration>, String> {
    if text == "never" {
        return Ok(None);
    }
    let (digits, unit) = text.split_at(text.len().saturating_sub(1));
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return Err(format!("{text:?} is no span")),
    };
    let number: u64 = digits.parse().map_err(|_| format!("{text:?} is no span"))?;
    Ok(Some(Duration::from_secs(number * seconds)))
}

fn refusal(name: &str) -> Result<Refusal, String> {
    let retry_after = Duration::from_millis(1500);
    Ok(match name {
        "InvalidCredentials" => Refusal::InvalidCredentials,
        "InvalidClient" => Refusal::InvalidClient,
        "AccountUnavailable" => Refusal::AccountUnavailable,
        "AccountGone" => Refusal::AccountGone,
        "BelongsToNobody" => Refusal::BelongsToNobody,
        "Expired" => Refusal::Expired,
        "Revoked" => Refusal::Revoked,
        "NotYetValid" => Refusal::NotYetValid,
        "WrongAudience" => Refusal::WrongAudience,
        "WrongAlgorithm" => Refusal::WrongAlgorithm { shown: "RS256".to_owned(), expected: "HS256" },
        "NoMoment" => Refusal::NoMoment("exp"),
        "UnknownProvider" => Refusal::UnknownProvider,
        "ScopeNotGranted" => Refusal::ScopeNotGranted,
        "InsecureTransport" => Refusal::InsecureTransport,
        "TooManySessions" => Refusal::TooManySessions,
        "LoginRequired" => Refusal::LoginRequired,
        "AlreadySignedIn" => Refusal::AlreadySignedIn,
        "NameTaken" => Refusal::AlreadyExists("name"),
        "EmailTaken" => Refusal::AlreadyExists("email"),
        "NoUser" => Refusal::NotFound("user"),
        "Invalid" => Refusal::Invalid(Vec::new()),
        "NotPermitted" => Refusal::NotPermitted,
        "TooManyAttempts" => Refusal::TooManyAttempts { retry_after },
        "Busy" => Refusal::Busy { retry_after },
        "TimedOut" => Refusal::TimedOut,
        "Unavailable" => Refusal::Unavailable,
        _ => return Err(format!("{name:?} is no refusal")),
    })
}

impl Stage for Codec {
    fn begin(&mut self, settings: &[String]) -> Result<(), String> {
        let of_gate = |line: &&String| line.strip_prefix(self.gate.name).and_then(|line| line.strip_prefix('.')).map(str::to_owned);
        let mut own: Vec<String> = settings.iter().filter_map(|line| of_gate(&line)).collect();
        own.extend(DEFAULTS.iter().filter(|(gate, _)| *gate == self.gate.name).map(|(_, line)| (*line).to_owned()));
        let public_url = settings.iter().find_map(|line| line.strip_prefix("public_url = \"")?.strip_suffix('"'));
        self.mounts = scripted::mounts_of(self.gate, &own.join("\n"), public_url)?;
        Ok(())
    }

    fn connect(&mut self, handshake: &Handshake) -> Result<Answered, String> {
        self.requests += 1;
        let mut fields = handshake.headers.clone();
        fields.extend(handshake.body.iter().map(|body| ("Content-Length".to_owned(), body.len().to_string())));
        let sent = scripted::Sent {
            method: &handshake.method,
            target: &handshake.target,
            upgrade: handshake.upgrade,
            headers: &fields,
            body: handshake.body.as_deref().unwrap_or_default().as_bytes(),
            seed: [self.requests; 16].map({
                let mut place = 0;
                move |byte: u8| {
                    place += 1;
                    byte.wrapping_mul(16).wrapping_add(place)
                }
            }),
        };
        let seed = sent.seed;
        let request = scripted::arrived(sent)?;
        let parts = match Mount::find(&self.mounts, &request.path, |mount| mount) {
            Some(mount) => mount.exchange.parts(request),
            None => Parts::One(request),
        };
        let response = match parts {
            Parts::One(request) => self.served(seed, request)?,
            Parts::Several(requests, joining) => {
                let mut responses: Vec<Response> = Vec::new();
                for request in requests {
                    responses.push(self.served(seed, request)?);
                    if responses.last().is_some_and(|response| !response.status.is_success()) {
                        break;
                    }
                }
                joining(responses)
            }
        };
        let (body, sent) = (response.body, handshake.body.as_deref().unwrap_or_default());
        let response = match body {
            Body::Forward(forward) => mirrored(*forward, response.headers, sent, self.last.take().as_deref()),
            body => Response { body, ..response },
        };
        let Response { status, reason, headers, body } = response;
        let text = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
        let headers = headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect();
        let mut text_of_body = String::new();
        let protocol = match body {
            Body::Bytes(bytes) => {
                text_of_body = String::from_utf8_lossy(&bytes).into_owned();
                None
            }
            Body::Upgrade(upgrade) => {
                let (talk, service) = (upgrade.conversation, upgrade.upstream.is_some());
                let open = Open { talk, inbox: VecDeque::new(), service, upward: VecDeque::new() };
                self.connections.insert(handshake.connection, open);
                upgrade.subprotocol.map(str::to_owned)
            }
            Body::Forward(_) => return Err("what has come back goes on again".to_owned()),
        };
        let reason = reason.or(status.canonical_reason()).unwrap_or_default().to_owned();
        // The listener leaves it out, whatever it is.
        let body = if handshake.method == "HEAD" { String::new() } else { text_of_body };
        Ok(Answered { status: status.as_u16(), protocol, reason, headers, body })
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

    fn service(&mut self, connection: u32, what: &Service) -> Result<(), String> {
        let now = self.now;
        let open = self.open(connection)?;
        let mut out = Outbox::default();
        let from = match what {
            Service::Says(text) => Relayed::Frame(Frame::Text(text)),
            Service::Lost => Relayed::Lost,
            Service::Restored => Relayed::Restored,
        };
        open.talk.relayed(now, from, &mut out);
        open.collect(out);
        Ok(())
    }

    fn upward(&mut self, connection: u32) -> Result<Upward, String> {
        Ok(self.open(connection)?.upward.pop_front().unwrap_or(Upward::Nothing))
    }

    fn core(&mut self, line: &str) -> Result<(), String> {
        if let Some(asked) = line.strip_prefix("is asked ") {
            self.announced = Some(asked.to_owned());
            return Ok(());
        }
        let words: Vec<&str> = line.split_whitespace().collect();
        let says = match &*words {
            ["refuses", name] => Says::No(refusal(name)?),
            ["grants", words @ ..] => self.grants(words)?,
            ["is", "done"] => Says::Done,
            ["event", words @ ..] => return self.event(words),
            ["after", wait] => {
                self.pass(span(wait)?.unwrap_or_default());
                return Ok(());
            }
            _ => return Err(format!("the core knows no {line:?}")),
        };
        self.prepared.push_back((self.announced.take(), says));
        Ok(())
    }

    fn operator(&mut self, _arguments: &[String]) -> Result<(), String> {
        Ok(())
    }

    fn stop(&mut self) -> Result<(), String> {
        let all: Vec<u32> = self.connections.keys().copied().collect();
        for connection in all {
            let mut out = Outbox::default();
            let open = self.open(connection)?;
            open.talk.stop(&mut out);
            open.collect(out);
        }
        Ok(())
    }

    fn end(&mut self) -> Result<(), String> {
        for (connection, open) in &self.connections {
            if let Some(upward) = open.upward.front() {
                return Err(format!("of connection {connection} something more went up: {upward:?}"));
            }
        }
        match (self.prepared.len(), &self.announced) {
            (0, None) => Ok(()),
            (left, announced) => Err(format!("{left} answers of the core were not asked for; announced: {announced:?}")),
        }
    }
}

/// What the mirror of the examples answers, and how the driver hands it back; a service at port 1 is not there.
fn mirrored(forward: Forward, own: HeaderMap, body: &str, who: Option<&str>) -> Response {
    let Forward { to, method, target, headers, identity, own_cookies, failed } = forward;
    if to.authority.port_u16() == Some(1) {
        return failed(NoAnswer::Gone);
    }
    let told = |status, text: String| Response::text(StatusCode::from_u16(status).expect("a status"), text);
    let mut answer = match target.path().rsplit('/').next().unwrap_or_default() {
        "slow" => return failed(NoAnswer::Slow),
        "fails" => {
            let sentence = "{\"ResponseStatus\":{\"ErrorCode\":\"Full\",\"Message\":\"The shelf is full\"}}";
            Response { reason: Some("Full"), ..told(409, sentence.to_owned()) }
        }
        "cookie" => {
            let mut response = told(200, String::new());
            for cookie in ["basket=1; path=/", "ss-id=theirs; path=/", "SS-TOK=theirs"] {
                response.headers.append(http::header::SET_COOKIE, http::HeaderValue::from_static(cookie));
            }
            response
        }
        _ => {
            let line = |(name, value): (&http::HeaderName, &http::HeaderValue)| {
                format!("{name}: {}\n", String::from_utf8_lossy(value.as_bytes()))
            };
            let mut lines: Vec<String> = headers.iter().map(line).collect();
            lines.sort();
            let who = identity.and(who).unwrap_or("nobody");
            told(200, format!("{method} {target}\n{}by {who}\n\n{body}", lines.concat()))
        }
    };
    answer.headers = joined(answer.headers, own, own_cookies);
    answer
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn scripts(gate: &Gate) -> (PathBuf, Vec<Script>) {
    let folder = root().join("transcripts").join(gate.name);
    let scripts = script::load(&folder);
    (folder, scripts)
}

#[test]
fn every_transcript_holds_and_inverted_none_does() {
    let invert = std::env::var_os("GATEPOST_INVERT").is_some_and(|value| value == "1");
    for gate in SCRIPTED {
        let (_, scripts) = scripts(gate);
        let said = script::run_all(&scripts, Side::Codec, invert, &mut || Box::new(Codec::new(gate)));
        let said = said.unwrap_or_else(|wrong| panic!("{wrong}"));
        writeln!(std::io::stderr(), "{}, codec: {said}", gate.name).expect("standard error takes a line");
    }
}

#[test]
fn every_case_is_shown_once_and_by_name() {
    for gate in SCRIPTED {
        let (folder, scripts) = scripts(gate);
        let cases = std::fs::read_to_string(folder.join("CASES")).expect("there are cases");
        let count = script::cases::check_cases(&cases, &root(), &scripts).unwrap_or_else(|wrong| panic!("{wrong}"));
        assert!(count > 0);
    }
}

#[test]
fn a_case_that_is_missing_unknown_or_shown_by_nothing_is_noticed() {
    let scripts = [script::parse("a.txt", "# A.\ncase 1\n< {}").expect("a transcript")];
    let check = |text: &str, expected: Result<usize, &str>| {
        let told = script::cases::check_cases(text, &root(), &scripts);
        assert_eq!(told, expected.map_err(str::to_owned), "{text}");
    };
    let this = "test: protocols/tests/transcripts.rs::what_is_no_transcript_is_refused_with_its_line";
    check("ids: 1\n1 a.txt", Ok(1));
    check(&format!("ids: 1 2\nids: 3\n1 a.txt\n2 not yet: because\n3 {this}"), Ok(2));
    check("ids: 1 2\n1 a.txt", Err("case 2: missing"));
    check("1 a.txt", Err("case 1: not among the ids above it"));
    check("ids: 1\n1 a.txt\n1 a.txt", Err("case 1: listed twice"));
    check("ids: 1 2\n1 a.txt\n2 a.txt", Err("case 2: \"a.txt\" does not show it"));
    check("ids: 1 2\n1 a.txt\n2", Err("case 2: \"\" does not show it"));
    check("ids: 1 2\n1 a.txt\n2 not yet:", Err("case 2: \"not yet:\" does not show it"));
    check(
        "ids: 1 2\n1 a.txt\n2 test: protocols/tests/transcripts.rs::root",
        Err("case 2: \"test: protocols/tests/transcripts.rs::root\" does not show it"),
    );
    check("ids: 1\n1 not yet: because", Err("a.txt: CASES does not list it for case 1"));
}

#[test]
fn a_test_is_a_function_that_is_marked_and_run() {
    let check = |text: &str, expected| assert_eq!(script::cases::has_test(text, "name"), expected, "{text}");
    check("#[test]\nfn name() {", true);
    check("    /// Why.\n    #[test]\n    #[should_panic]\n    // So.\n    fn name(a in b) {", true);
    check("#[tokio::test]\nasync fn name() {", true);
    check("#[tokio::test(flavor = \"multi_thread\")]\nasync fn name() {", true);
    check("#[tokio::test]\n#[ ignore ]\nasync fn name() {", false);
    check("async fn name() {", false);
    check("fn name() {", false);
    check("#[test]\nfn other() {}\n\nfn name() {", false);
    check("#[test]\n#[ ignore ]\nfn name() {", false);
    check("#[ ignore = \"slow\"]\n#[test]\nfn name() {", false);
    check("#[test]\n#[cfg_attr(unix, ignore)]\nfn name() {", false);
    check("#[test]\nfn name_and_more() {", false);
    check("// #[test]\nfn name() {", false);
    check("#[test]\nfn other() { \"fn name()\" }", false);
}

#[test]
fn what_is_sent_keeps_its_blanks_and_what_is_expected_has_none() {
    let script = script::parse("x", "# A.\n>   {} \t\n2>\n2> \n<   {}  \nstop \n").expect("a transcript");
    let steps: Vec<String> = script.steps.iter().map(|(_, step)| format!("{step:?}")).collect();
    let expected =
        [r#"Send(1, Text("  {} \t"))"#, r#"Send(2, Text(""))"#, r#"Send(2, Text(""))"#, r#"Expect(1, Text("{}"))"#, "Stop"];
    assert_eq!(steps, expected);
}

#[test]
fn the_service_has_lines_of_its_own() {
    let script =
        script::parse("x", "# A.\nv  {} \n2v {}\n^  {} \n2^ part\nservice lost\nservice 2 restored\n").expect("a transcript");
    let steps: Vec<String> = script.steps.iter().map(|(_, step)| format!("{step:?}")).collect();
    let expected = [
        r#"Service(1, Says(" {} "))"#,
        r#"Service(2, Says("{}"))"#,
        r#"Upward(1, Text("{}"))"#,
        "Upward(2, Part)",
        "Service(1, Lost)",
        "Service(2, Restored)",
    ];
    assert_eq!(steps, expected);
}

#[test]
fn what_is_no_transcript_is_refused_with_its_line() {
    let rows = [
        ("> {}", "x:1:"),
        ("# A.\n", "nothing is expected"),
        ("# A.\nonly codec\n< {}", "x:2:"),
        ("# A.\nonly nobody: because\n< {}", "x:2:"),
        ("# A.\nanswered 101\n", "x:2:"),
        ("# A.\n< close x\n", "x:2:"),
        ("# A.\n>\n\n! {}\n< {}", "x:4:"),
        ("# A.\n> binary 0\n< {}", "x:2:"),
        ("# A.\n > {}\n< {}", "x:2:"),
        ("# A.\nservice gone\n< {}", "x:2:"),
        ("# A.\nservice x lost\n< {}", "x:2:"),
        ("# A.\nxv {}\n< {}", "x:2:"),
        ("# A.\nv {}\n", "nothing is expected"),
    ];
    for (text, expected) in rows {
        let error = script::parse("x", text).expect_err(text);
        assert!(error.contains(expected), "{text:?}: {error}");
    }
}
