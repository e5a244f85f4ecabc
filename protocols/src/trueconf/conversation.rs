//! One open connection: its messages in order, what of them is answered here, what the core is asked and what the device.
//!
//! ```text
//!                auth granted                 Detached(any reason), or past its end
//!   stranger ──────────────────► authorised ───────────────────────────────────────► stranger
//!      │                          │  ▲  │
//!      │                          └──┘  └── auth granted again; a refused auth changes nothing
//!      └── never authorised for five minutes, and no attempt in the last thirty seconds ──► closed 1008
//! ```
//!
//! A failed `auth` and a lost authorisation leave the socket open: clients seen come back at once when it closes, and push each
//! other out in a circle. It keeps the role last given; no token, no secret. It refuses to know what a string is worth.

use std::sync::Arc;

use gatepost_identity::clock::Timestamp;
use gatepost_identity::command::{Target, Verb};
use gatepost_identity::refusal::Refusal;
use gatepost_identity::reply::{self, Event, Granted, IssuedToken, Reason, Reply, TokenKind};
use gatepost_identity::secret::Secret;
use gatepost_identity::terminal::{Plan, ShownGuard, ShownProtection, TerminalRole, TerminalToken};

use crate::frame::{CloseCode, Frame, Outbox, Relayed};
use crate::trueconf::answers::{Answers, Awaited};
use crate::trueconf::message::{self, Answer, Member, Members, Request, is_sound, numbered, object, text_of};
use crate::trueconf::methods::{self, Does, Telling};
use crate::trueconf::refusal::{Code, told};
use crate::trueconf::request::{asking, auth, one_more, set_auth_params, used_api_version};
use crate::trueconf::settings::Settings;
use crate::trueconf::spelling::{cause, member_for, privileges, security};
use crate::{Conversation, Limits, Question};

/// "Unsupported data": there are no binary messages.
const BINARY: CloseCode = 1003;
/// "Policy violation".
pub(super) const POLICY: CloseCode = 1008;
/// "Going away".
const STOPPING: CloseCode = 1001;

/// How many messages that are none may follow on each other.
const MOST_MALFORMED: u8 = 10;

/// What is said where a device would have to do something and there is none, or it is not there.
const NO_DEVICE: &str = "no device";

/// What is said where a device is there and does not answer, or in a way that clients cannot read.
const NO_ANSWER: &str = "no answer";

/// What is said in the place of an answer to whoever was authorised when they asked.
const NOT_AUTHORIZED: &str = "not authorized";

/// Events of a device that are ours to tell: they are about our authorisation, our plan and our server for files.
const OURS: [&str; 4] = ["authorizationNeeded", "licenseStatusChanged", "httpServerSettingChanged", "httpServerStateChanged"];

/// Members of a device's that are never passed on: its tokens are good at the device alone, and told to us.
const ITS_TOKENS: [&str; 3] = ["token", "tokenForHttpServer", "overlayHttpToken"];

/// What a connection must know of its terminal.
#[derive(Clone, Debug)]
pub(super) struct Terminal {
    /// The port of the server for files.
    pub http_port: u16,
    /// The device behind it, where there is one: which of its methods a user may use, beside those of the table.
    pub device: Option<Arc<[String]>>,
}

/// One open connection.
#[derive(Debug)]
pub(super) struct Connection {
    settings: Arc<Settings>,
    terminal: Terminal,
    opened_at: Timestamp,
    holder: Option<Holder>,
    was_authorized: bool,
    /// When `auth` was last asked or answered.
    last_attempt: Option<Timestamp>,
    /// Whether the core has been asked and has not answered yet.
    asking: bool,
    malformed: u8,
    answers: Answers,
    device_lost: bool,
}

/// Who the core last said is here.
#[derive(Clone, Copy, Debug)]
struct Holder {
    role: TerminalRole,
    expires_at: Option<Timestamp>,
}

/// What the answer to a request that asked must quote. Never a secret.
#[derive(Debug)]
pub(super) struct Pending {
    what: What,
    method: String,
    request_id: String,
}

#[derive(Debug)]
enum What {
    Auth,
    AuthInfo,
    AuthParams,
    Token(TerminalToken),
    Cleared,
    /// With what goes on to the device, where there is one.
    LoggedOut(Option<String>),
}

impl Connection {
    /// A connection just opened.
    pub(super) fn new(settings: Arc<Settings>, terminal: Terminal, now: Timestamp) -> Connection {
        Connection {
            settings,
            terminal,
            opened_at: now,
            holder: None,
            was_authorized: false,
            last_attempt: None,
            asking: false,
            malformed: 0,
            answers: Answers::default(),
            device_lost: false,
        }
    }
}

impl Conversation for Connection {
    type Pending = Pending;

    fn receive(&mut self, now: Timestamp, frame: Frame<'_>, out: &mut Outbox) -> Option<Question<Pending>> {
        let Frame::Text(text) = frame else {
            out.close(BINARY, "Binary");
            return None;
        };
        match Request::parse(text) {
            Ok(request) => {
                self.malformed = 0;
                let asked = self.run(now, request, out);
                self.asking = asked.is_some();
                asked
            }
            Err(malformed) => {
                self.malformed += 1;
                self.answers.say(malformed.answer(), out);
                if self.malformed >= MOST_MALFORMED {
                    out.close(POLICY, "Malformed");
                }
                None
            }
        }
    }

    fn answer(&mut self, now: Timestamp, pending: Pending, reply: Reply, out: &mut Outbox) {
        self.asking = false;
        let result = reply.result;
        let Pending { what, method, request_id } = pending;
        let answer = Answer::to(&method, &request_id);
        let text = match what {
            What::Auth => {
                self.last_attempt = Some(now);
                match result.and_then(reply::Answer::granted) {
                    Ok(granted) => self.granted(answer, granted),
                    Err(no) => failed_auth(answer, &no),
                }
            }
            What::AuthInfo => match result.and_then(reply::Answer::protection) {
                Ok(ShownProtection { administrator, user }) => {
                    answer.with("adminAuth", &shown(administrator)).with("userAuth", &shown(user)).done()
                }
                Err(no) => failed(answer, &no),
            },
            What::AuthParams => match result.and_then(reply::Answer::protection_set) {
                Ok((new_pin, tokens)) => self.protected(answer, new_pin, &tokens),
                Err(no) => failed(answer, &no),
            },
            What::Token(kind) => match result.and_then(reply::Answer::granted).and_then(|granted| only(granted, kind)) {
                Ok(token) => answer.telling("token", &token.secret).done(),
                Err(no) => failed(answer, &no),
            },
            What::Cleared => result
                .and_then(reply::Answer::done)
                .map_or_else(|no| failed(answer, &no), |()| Answer::to(&method, &request_id).done()),
            What::LoggedOut(onward) => match (result.and_then(reply::Answer::done), onward) {
                (Err(no), _) => failed(answer, &no),
                (Ok(()), None) => answer.done(),
                (Ok(()), Some(body)) => return self.forward(now, method, request_id, &body, out),
            },
        };
        self.answers.say(text, out);
    }

    fn unseat(&mut self, out: &mut Outbox) {
        self.holder = None;
        // Of whoever is gone nobody hears any more.
        self.answers.give_up(NOT_AUTHORIZED, out);
    }

    fn notify(&mut self, _now: Timestamp, event: Event, out: &mut Outbox) {
        match event {
            Event::Detached(reason) => {
                self.unseat(out);
                if reason == Reason::PlanLost {
                    out.send(message::licence_status_changed(false));
                }
                out.send(message::authorization_needed(cause(reason)));
            }
            Event::Changed(principal) => {
                self.holder = principal.terminal.map(|role| Holder { role, expires_at: principal.expires_at });
            }
            Event::Plan(plan) if self.holder.is_some() => out.send(message::licence_status_changed(plan == Plan::Pro)),
            Event::Plan(_) => {}
        }
    }

    fn relayed(&mut self, now: Timestamp, from: Relayed<'_>, out: &mut Outbox) {
        match from {
            Relayed::Frame(Frame::Text(text)) => self.heard(now, text, out),
            Relayed::Frame(Frame::Binary(_)) => {}
            Relayed::Lost => {
                self.device_lost = true;
                self.answers.give_up(NO_DEVICE, out);
            }
            Relayed::Restored => self.device_lost = false,
        }
    }

    fn remind(&mut self, now: Timestamp, out: &mut Outbox) {
        self.answers.give_up_overdue(now, NO_ANSWER, out);
        if self.patience_ends().is_some_and(|end| end <= now) {
            out.close(POLICY, "Not authorized");
        }
    }

    fn limits(&self) -> Limits {
        Limits {
            ping_every: self.settings.ping_every,
            silence: (self.settings.silence, POLICY),
            answer_within: self.settings.answer_within,
            unsent: self.settings.unsent,
            due: [self.patience_ends(), self.answers.due()].into_iter().flatten().min(),
        }
    }

    fn stop(&mut self, out: &mut Outbox) {
        out.close(STOPPING, "Going away");
    }
}

impl Connection {
    /// When a stranger has been one for too long; none while there is an attempt under way, and never for one that was authorised.
    fn patience_ends(&self) -> Option<Timestamp> {
        let end = self.opened_at.after(self.settings.unauthorized_for);
        let attempt = self.last_attempt.map(|attempt| attempt.after(self.settings.after_attempt));
        (!self.was_authorized && !self.asking).then(|| attempt.into_iter().fold(end, Timestamp::max))
    }

    /// The role that is held now. An end that has passed counts, also before the core has said so.
    fn role(&self, now: Timestamp) -> Option<TerminalRole> {
        self.holder.filter(|holder| holder.expires_at.is_none_or(|end| now < end)).map(|holder| holder.role)
    }

    fn may(&self, needs: Option<TerminalRole>, now: Timestamp) -> Result<(), Refusal> {
        match (needs, self.role(now)) {
            (None, _) => Ok(()),
            (Some(_), None) => Err(Refusal::LoginRequired),
            (Some(needed), Some(held)) if held.covers(needed) => Ok(()),
            (Some(_), Some(_)) => Err(Refusal::NotPermitted),
        }
    }

    /// What a method needs that only a device could know. Where there is none, nobody has it, and whoever is let in may hear so.
    fn device_needs(&self, method: &str) -> Option<TerminalRole> {
        let users = self.terminal.device.as_ref().is_none_or(|users| users.iter().any(|name| name == method));
        Some(if users { TerminalRole::User } else { TerminalRole::Administrator })
    }

    fn run(&mut self, now: Timestamp, request: Request<'_>, out: &mut Outbox) -> Option<Question<Pending>> {
        let Request { method, request_id, members } = request;
        let row = methods::find(&method);
        let answer = Answer::to(&method, &request_id);
        // Whoever is not authorised does not learn which methods there are.
        if let Err(no) = self.may(row.map_or_else(|| self.device_needs(&method), |row| row.needs), now) {
            self.answers.say(failed(answer, &no), out);
            return None;
        }
        let onward = |terminal: &Terminal| terminal.device.is_some().then(|| body(&members));
        let (what, verb) = match row.map(|row| row.does) {
            Some(Does::Auth) => {
                self.last_attempt = Some(now);
                match auth(&members, self.settings.lenient_empty) {
                    Ok(verb) => (What::Auth, verb),
                    Err(code) => {
                        self.answers.say(answer.failed_with_code(code as u8, code.words(), None), out);
                        return None;
                    }
                }
            }
            Some(Does::SetAuthParams) => {
                let asked = set_auth_params(&members).map_err(wrong).and_then(|(of, to)| {
                    self.may(Some(of), now).map_err(|no| told(&no).words)?;
                    Ok((of, to))
                });
                match asked {
                    Ok((of, to)) => (What::AuthParams, Verb::SetProtection { of, to }),
                    Err(words) => {
                        self.answers.say(answer.failed(&words), out);
                        return None;
                    }
                }
            }
            Some(Does::GetAuthInfo) => (What::AuthInfo, Verb::Protection),
            Some(Does::ClearTokens) => (What::Cleared, Verb::Revoke(Target::Everything)),
            Some(Does::Token(kind)) => (What::Token(kind), one_more(kind)),
            Some(Does::Logout) => (What::LoggedOut(onward(&self.terminal)), Verb::Revoke(Target::Pictures)),
            Some(does @ (Does::Device | Does::Tell(_))) => {
                match (onward(&self.terminal), does) {
                    (Some(body), _) => self.forward(now, method, request_id, &body, out),
                    (None, Does::Tell(what)) => self.answers.say(self.telling(answer, what), out),
                    (None, _) => self.answers.say(answer.failed(NO_DEVICE), out),
                }
                return None;
            }
            None => {
                match onward(&self.terminal) {
                    // What bears the name of an event is one, to whoever reads it; nobody asks for it.
                    Some(body) if method != "event" => self.forward(now, method, request_id, &body, out),
                    _ => self.answers.say(answer.failed("unknown method"), out),
                }
                return None;
            }
            Some(does @ (Does::SetUsedApiVersion | Does::GetHttpServerSettings | Does::GetHttpServerState | Does::OurServer)) => {
                let text = match does {
                    Does::SetUsedApiVersion => match used_api_version(&members) {
                        Ok(()) => answer.done(),
                        Err(parameter) => answer.failed(&wrong(parameter)),
                    },
                    Does::GetHttpServerSettings => answer.with("settings", &self.http_settings()).done(),
                    Does::GetHttpServerState => answer.with("state", "1").done(),
                    _ => answer.failed(NO_DEVICE),
                };
                self.answers.say(text, out);
                return None;
            }
        };
        Some(Question { command: asking(verb), pending: Pending { what, method, request_id } })
    }

    /// Passes a request on to the device, under a number of ours.
    fn forward(&mut self, now: Timestamp, method: String, request_id: String, body: &str, out: &mut Outbox) {
        let no = if self.device_lost { Some(NO_DEVICE) } else { (!is_sound(body)).then_some("malformed request") };
        if let Some(no) = no {
            self.answers.say(Answer::to(&method, &request_id).failed(no), out);
            return;
        }
        let id = self.answers.wait(method, request_id, now.after(self.settings.device_answers_within), out);
        out.forward(numbered(id, &body[1..]));
    }

    /// A message of the device: the answer to a request that was passed on, or an event.
    fn heard(&mut self, now: Timestamp, text: &str, out: &mut Outbox) {
        let Some(members) = message::members(text).filter(|_| is_sound(text)) else { return };
        let Member::Is(method) = text_of(&members, "method") else { return };
        if method != "event" {
            let Member::Is(id) = text_of(&members, "requestId") else { return };
            let Ok(id) = id.parse() else { return };
            if self.role(now).is_none() {
                // Its end has passed, and the core has yet to say so.
                self.answers.give_up(NOT_AUTHORIZED, out);
                return;
            }
            let terminal = &self.terminal;
            self.answers.answered(id, |awaited| terminal.answer(&method, &members, awaited), out);
            return;
        }
        let Member::Is(name) = text_of(&members, "event") else { return };
        if self.role(now).is_none() || OURS.contains(&&*name) {
            return;
        }
        // An event answers nothing, whatever number it bears.
        let members: Members<'_> = members.into_iter().filter(|(name, _)| name != "requestId").collect();
        out.send(self.terminal.in_our_words(&members, None));
    }

    fn granted(&mut self, answer: Answer, granted: Granted) -> String {
        let Granted { principal, tokens } = granted;
        let expires_at = principal.expires_at;
        let Some(role) = principal.terminal else { return failed_auth(answer, &Refusal::Unavailable) };
        self.holder = Some(Holder { role, expires_at });
        self.was_authorized = true;
        telling(answer.with("previleges", privileges(role)), &tokens).done_with_code()
    }

    /// The caller's authorisation stands; where the protection of its own role was changed, its end is that of its new token.
    fn protected(&mut self, answer: Answer, new_pin: Option<Secret>, tokens: &[IssuedToken]) -> String {
        if let (Some(holder), Some(token)) =
            (&mut self.holder, tokens.iter().find(|token| token.kind == TokenKind::Terminal(TerminalToken::Connection)))
        {
            holder.expires_at = token.expires_at;
        }
        let answer = match &new_pin {
            Some(pin) => answer.telling("newPin", pin),
            None => answer,
        };
        telling(answer, tokens).done()
    }

    /// What there is to tell of a device that there is not.
    fn telling(&self, answer: Answer, what: Telling) -> String {
        match what {
            Telling::AppState => answer.with("appState", "0").with("embeddedHttpPort", &self.terminal.http_port.to_string()).done(),
            Telling::Settings => answer.with("settings", "{}").done(),
            Telling::SystemInfo => answer.with("authInfo", "{}").with("systemInfo", "{}").done(),
            Telling::MonitorsInfo => answer.with("monitors", "[]").done(),
        }
    }

    /// The settings of our server for files. A client seen takes the first value for the port.
    fn http_settings(&self) -> String {
        let port = self.terminal.http_port;
        format!(
            "[{{\"name\":\"port\",\"value\":{port},\"httpServerRestartNeededForApplying\":true,\"isPendingToBeApplied\":false,\
             \"pendingValue\":{port}}}]"
        )
    }
}

impl Terminal {
    /// The device's answer, as the peer gets it: whole, in its own words, under the peer's number and its spelling of the method, and
    /// with our server's port.
    fn answer(&self, method: &str, members: &Members<'_>, awaited: &Awaited) -> String {
        let result = members.get("result").map(|raw| raw.get());
        if !method.eq_ignore_ascii_case(&awaited.method) || !matches!(result, Some("true" | "false")) {
            return Answer::to(&awaited.method, &awaited.request_id).failed(NO_ANSWER);
        }
        self.in_our_words(members, Some(awaited))
    }

    /// Members of the device's, without its tokens, and with the port that ours are good at in the place of its own.
    fn in_our_words(&self, members: &Members<'_>, awaited: Option<&Awaited>) -> String {
        let port = self.http_port.to_string();
        let value = |(name, raw): (&'_ String, &&'_ serde_json::value::RawValue)| match (&**name, awaited) {
            ("embeddedHttpPort", _) => (name.clone(), port.clone()),
            ("requestId", Some(awaited)) => (name.clone(), awaited.request_id.clone()),
            ("method", Some(awaited)) => (name.clone(), message::json(&awaited.method)),
            _ => (name.clone(), raw.get().to_owned()),
        };
        let told = members.iter().filter(|(name, _)| !ITS_TOKENS.contains(&&***name));
        let members: Vec<(String, String)> = told.map(value).collect();
        object(members.iter().map(|(name, value)| (&**name, &**value)))
    }
}

/// A request as it goes on to the device, but for its number. What a reader that minds no case could take for another method or number
/// stays here, since the method is what was judged.
fn body(members: &Members<'_>) -> String {
    let is_like = |name: &str, other: &str| name != other && name.eq_ignore_ascii_case(other);
    let goes_on = |name: &str| name != "requestId" && !is_like(name, "requestId") && !is_like(name, "method");
    object(members.iter().filter(|(name, _)| goes_on(name)).map(|(name, raw)| (&**name, raw.get())))
}

fn wrong(parameter: &'static str) -> String {
    format!("missing or invalid parameter: {parameter}")
}

fn failed(answer: Answer, no: &Refusal) -> String {
    answer.failed(&told(no).words)
}

fn failed_auth(answer: Answer, no: &Refusal) -> String {
    let told = told(no);
    let retry_after = told.retry_after.filter(|_| told.code == Code::LockedOut);
    answer.failed_with_code(told.code as u8, &told.words, retry_after)
}

/// Each token under its own name, in the order of their kinds.
fn telling(answer: Answer, tokens: &[IssuedToken]) -> Answer {
    let kinds = [TerminalToken::Connection, TerminalToken::Http, TerminalToken::Overlay];
    let of = |kind| tokens.iter().find(|token| token.kind == TokenKind::Terminal(kind)).map(|token| (kind, token));
    let in_order = kinds.into_iter().filter_map(of);
    in_order.fold(answer, |answer, (kind, token)| answer.telling(member_for(kind), &token.secret))
}

/// The one token that was asked for. Anything else would be our own bug.
fn only(granted: Granted, kind: TerminalToken) -> Result<IssuedToken, Refusal> {
    granted.tokens.into_iter().find(|token| token.kind == TokenKind::Terminal(kind)).ok_or(Refusal::Unavailable)
}

fn shown(guard: ShownGuard) -> String {
    let ShownGuard { protection, pin } = guard;
    let security = format!("{{\"security\":{}", security(protection));
    match pin.as_ref().and_then(Secret::expose_text) {
        Some(pin) => format!("{security},\"pin\":{}}}", message::json(pin)),
        None => format!("{security}}}"),
    }
}

/// A grant as the core of a test makes it.
#[cfg(test)]
pub(super) fn granted(role: TerminalRole, expires_at: Option<Timestamp>, tokens: Vec<IssuedToken>) -> Granted {
    let principal = reply::Principal {
        session: None,
        account: None,
        client: None,
        scopes: gatepost_identity::scope::Scopes::default(),
        rights: gatepost_identity::account::Rights::default(),
        terminal: Some(role),
        provider: None,
        method: reply::Method::Pin,
        spelling: 0,
        expires_at,
    };
    Granted { principal: Arc::new(principal), tokens }
}

#[cfg(test)]
mod tests;
