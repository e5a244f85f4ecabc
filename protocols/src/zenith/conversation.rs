//! One open connection: its messages in order, and what of them is answered here.
//!
//! ```text
//!                 AuthX granted                  Detached(Expired | Revoked), or past its expiry
//!   anonymous ────────────────────► identified ─────────────────────────────────────► anonymous
//!                                    │  ▲  │
//!                                    └──┘  └── Detached(Displaced) ──► closed 4000
//!                        AuthX granted, Changed; a refused AuthX changes nothing
//! ```
//!
//! It keeps the principal last given, counts of subscriptions and two timeouts; no token, no secret. What is not its own it
//! hands to [`Relay`], which exists from the first such message on, and is told of every change of who is here. It refuses to
//! know whether a credential is right.

use std::sync::Arc;

use gatepost_identity::clock::Timestamp;
use gatepost_identity::refusal::Refusal;
use gatepost_identity::reply::{Answer, Event, Granted, IssuedToken, Principal, Reason, Reply, TokenKind};

use crate::frame::{CloseCode, Frame, Outbox, Relayed};
use crate::vouching::subject;
use crate::zenith::exchange::Version;
use crate::zenith::message::{self, Action, Controller, Envelope, Topic, push_text};
use crate::zenith::refusal::{Told, told};
use crate::zenith::relay::routes::Common;
use crate::zenith::relay::{AUTHORITY, Relay, Target};
use crate::zenith::request::{Login, Timeouts, login};
use crate::zenith::settings::{ReplyTopic, Settings};
use crate::zenith::spelling::push_token;
use crate::zenith::times::{push_date, push_remainder};
use crate::{Conversation, Limits, Question};

/// "Invalid packet".
const INVALID_PACKET: CloseCode = 1007;
/// "No answer to ping".
const SILENT: CloseCode = 1008;
/// "Server shutting down".
const STOPPING: CloseCode = 1012;
/// "Session": a newer login took this one's place. The only code from 4000 up: clients never return after one of those.
const DISPLACED: CloseCode = 4000;

/// The error code for a topic or an action that does not exist.
const UNKNOWN: &str = "Operation.Unknown";
/// The error code for a request whose answer would have nowhere to go.
const NO_RESULT: &str = "Operation.NoResult";

/// One open connection.
#[derive(Debug)]
pub(super) struct Connection {
    settings: Arc<Settings>,
    /// Who the core last said is here.
    principal: Option<Arc<Principal>>,
    version: Version,
    auth: Timeouts,
    zenith: Timeouts,
    /// How many subscriptions to each topic there are.
    references: [u32; Topic::COUNT],
    /// What the peer has to do with the service behind the gate, from its first message to it on.
    relay: Option<Box<Relay>>,
}

/// Who is to act on a message.
enum Address {
    /// The connection itself.
    Here(Topic),
    /// Whoever stands between the peer and the service behind the gate.
    Behind(Target),
}

/// What the answer to a login must quote.
#[derive(Debug)]
pub(super) struct Asked {
    topic: Topic,
    transaction: Option<Box<str>>,
    spelled_out: bool,
}

/// From here on, a client seen cannot read how long is left.
const LONGEST_REMAINDER_SECONDS: u64 = 24 * 60 * 60;

impl Connection {
    /// A connection just opened, held by `principal` where the handshake proved one.
    pub(super) fn new(settings: Arc<Settings>, version: Version, principal: Option<Arc<Principal>>) -> Connection {
        Connection {
            settings,
            principal,
            version,
            auth: Timeouts::default(),
            zenith: Timeouts::default(),
            references: [0; Topic::COUNT],
            relay: None,
        }
    }

    /// What an envelope is addressed to, in the documented order of checks: controller, topic, action. Of `Zenith`, where it
    /// belongs to the service, all is the service's but what tells of this server and this connection.
    fn addressed(&self, envelope: &Envelope<'_>) -> Result<Address, String> {
        let name = envelope.controller();
        let own = Controller::find(name);
        let behind = self.controller_behind(name);
        if own.is_none() && behind.is_none() {
            return Err(format!("Controller {name}"));
        }
        let topic = envelope.topic().filter(|_| envelope.action() != Action::Unknown).ok_or(UNKNOWN)?;
        let here = own.and_then(|own| Topic::find(own, topic)).filter(|topic| behind.is_none() || *topic != Topic::Feeds);
        match (here, behind) {
            (Some(topic), _) if topic.is_subscription_only() && matches!(envelope.action(), Action::Publish { .. }) => {
                Err(UNKNOWN.to_owned())
            }
            (Some(topic), _) => Ok(Address::Here(topic)),
            (None, Some(controller)) => Ok(Address::Behind(match Common::find(topic) {
                Some(common) => Target::Common(controller, common),
                None => Target::Topic(controller),
            })),
            (None, None) => Err(UNKNOWN.to_owned()),
        }
    }

    fn controller_behind(&self, name: &str) -> Option<usize> {
        self.settings.routes.as_ref()?.find(name)
    }

    /// Hands a message to whoever stands before the service, who is made for the first that could leave anything behind: of
    /// nobody's here, there is nothing to remember but timeouts.
    fn pass_on(&mut self, now: Timestamp, target: Target, envelope: &Envelope<'_>, out: &mut Outbox) -> Result<(), &'static str> {
        let standing = self.principal.as_deref().filter(|principal| stands(principal, now));
        let Some(routes) = &self.settings.routes else { return Err(UNKNOWN) };
        if self.relay.is_none() && matches!(target, Target::Topic(_)) && standing.is_none() {
            if envelope.action() != Action::Unsub {
                return Err(AUTHORITY);
            }
            if envelope.confirm {
                out.send(message::unsubscribed(envelope.place()));
            }
            return Ok(());
        }
        let relay = self.relay.get_or_insert_with(|| Box::new(Relay::new(Arc::clone(routes), standing)));
        relay.receive(now, target, envelope, out)
    }

    /// Lets a change of who is here take effect on what is asked of the service: the one place that does.
    fn settle(&mut self, now: Timestamp, out: &mut Outbox) {
        if let Some(relay) = &mut self.relay {
            relay.settle(now, self.principal.as_deref().filter(|principal| stands(principal, now)), out);
        }
    }

    fn is_subscribed(&self, topic: Topic) -> bool {
        self.references[topic as usize] > 0
    }

    /// The one subscribed topic on which an answer without a TransactionID can be told.
    fn place_for(&self, topic: Topic) -> Option<Topic> {
        let identify = Some(Topic::Identify).filter(|_| topic.tells_identity());
        [Some(topic), identify].into_iter().flatten().find(|place| self.is_subscribed(*place))
    }

    /// Subscribes. The first reference is told the topic's state; a further one changes nothing that is sent.
    fn subscribe(&mut self, now: Timestamp, topic: Topic, confirm: bool, out: &mut Outbox) {
        let first = !self.is_subscribed(topic);
        let count = &mut self.references[topic as usize];
        *count = count.saturating_add(1);
        if confirm {
            out.send(message::subscribed(topic));
        }
        if !first {
            return;
        }
        match topic {
            Topic::Identify => out.send(self.identity(topic, None, self.standing(now), None, now)),
            Topic::ServerInfo => out.send(message::tell(topic, None, |data| {
                data.push('{');
                data.push_str(&self.settings.server_info);
                data.push_str(",\"Protocol\":\"");
                self.version.push(data);
                data.push_str("\"}");
            })),
            Topic::Feeds => out.send(message::tell(topic, None, |data| data.push_str(&self.settings.feeds))),
            _ => {}
        }
    }

    fn unsubscribe(&mut self, topic: Topic, confirm: bool, out: &mut Outbox) {
        let count = &mut self.references[topic as usize];
        *count = count.saturating_sub(1);
        if confirm {
            out.send(message::unsubscribed(topic));
        }
    }

    /// Acts on a message to a topic of our own.
    fn act(
        &mut self,
        now: Timestamp,
        topic: Topic,
        envelope: &Envelope<'_>,
        out: &mut Outbox,
    ) -> Result<Option<Question<Asked>>, &'static str> {
        match envelope.action() {
            Action::Sub => self.subscribe(now, topic, envelope.confirm, out),
            Action::Unsub => self.unsubscribe(topic, envelope.confirm, out),
            _ => return self.run(now, topic, envelope, out),
        }
        Ok(None)
    }

    /// Forgets requests to the service that the peer no longer wants answered. One of our own has been answered before the next
    /// message is read, so that it is always too late for that.
    fn cancel(&mut self, envelope: &Envelope<'_>, out: &mut Outbox) {
        if let (Some(controller), Some(relay)) = (self.controller_behind(envelope.controller()), &mut self.relay) {
            relay.cancel(controller, envelope, out);
        }
    }

    /// Runs an action whose answer has somewhere to go; asks where it is a login.
    fn run(
        &mut self,
        now: Timestamp,
        topic: Topic,
        envelope: &Envelope<'_>,
        out: &mut Outbox,
    ) -> Result<Option<Question<Asked>>, &'static str> {
        let transaction = envelope.transaction();
        let place = self.place_for(topic);
        if transaction.is_none() && place.is_none() {
            return Err(NO_RESULT);
        }
        match topic {
            Topic::QueryIdentify => {
                let place = if transaction.is_some() { topic } else { place.unwrap_or(topic) };
                out.send(self.identity(place, transaction, self.standing(now), None, now));
            }
            Topic::AuthConfigure => {
                self.auth = Timeouts::read(envelope.data)?;
                out.send(message::done(topic, transaction));
            }
            Topic::ZenithConfigure => {
                self.zenith = Timeouts::read(envelope.data)?;
                out.send(message::done(topic, transaction));
            }
            Topic::AuthQueryConfigure => out.send(message::tell(topic, transaction, |data| self.auth.push(data))),
            Topic::ZenithQueryConfigure => out.send(message::tell(topic, transaction, |data| self.zenith.push(data))),
            Topic::AuthOwner | Topic::AuthCode | Topic::AuthToken => {
                let spelled_out = envelope.action() == Action::Publish { spelled_out: true };
                let asked = Asked { topic, transaction: transaction.map(Box::from), spelled_out };
                match login(topic, envelope.data, &self.settings.catalogue)? {
                    Login::Ask(command) => return Ok(Some(Question { command, pending: asked })),
                    Login::Reject => self.reject(&asked, out),
                }
            }
            // Only ever subscribed to; `addressed` has refused it.
            Topic::Identify | Topic::ServerInfo | Topic::Feeds => return Err(UNKNOWN),
        }
        Ok(None)
    }

    /// Who is here now.
    fn standing(&self, now: Timestamp) -> Option<&Principal> {
        self.principal.as_deref().filter(|principal| stands(principal, now))
    }

    /// The topic of an answer to a login.
    fn reply_topic(&self, asked: &Asked) -> Topic {
        match self.settings.reply_topic {
            ReplyTopic::Echo => asked.topic,
            ReplyTopic::Identify => Topic::Identify,
            ReplyTopic::Auto if asked.spelled_out => asked.topic,
            ReplyTopic::Auto => Topic::Identify,
        }
    }

    fn granted(&mut self, now: Timestamp, asked: &Asked, granted: Granted, out: &mut Outbox) {
        let Granted { principal, tokens } = granted;
        let token = tokens.iter().find(|token| token.kind == TokenKind::Restore);
        let told = |place, transaction| self.identity(place, transaction, Some(&principal), token, now);
        if let Some(transaction) = &asked.transaction {
            out.send(told(self.reply_topic(asked), Some(transaction)));
        } else if self.is_subscribed(asked.topic) {
            out.send(told(asked.topic, None));
        }
        if self.is_subscribed(Topic::Identify) {
            out.send(told(Topic::Identify, None));
        }
        self.principal = Some(principal);
    }

    fn refused(&self, asked: &Asked, refusal: &Refusal, out: &mut Outbox) {
        match told(refusal) {
            Told::Reject => self.reject(asked, out),
            Told::Error(code) => out.send(message::error(asked.topic, asked.transaction.as_deref(), code)),
        }
    }

    /// Says that a login was refused. Never a publication of Identify: the old identity stands.
    fn reject(&self, asked: &Asked, out: &mut Outbox) {
        let place = match &asked.transaction {
            Some(_) => self.reply_topic(asked),
            None if self.is_subscribed(asked.topic) => asked.topic,
            None => return out.send(message::error(asked.topic, None, NO_RESULT)),
        };
        out.send(message::tell(place, asked.transaction.as_deref(), |data| self.push_refusal(data)));
    }

    fn publish(&self, now: Timestamp, out: &mut Outbox) {
        if self.is_subscribed(Topic::Identify) {
            out.send(self.identity(Topic::Identify, None, self.standing(now), None, now));
        }
    }

    /// A message that tells who is here.
    fn identity(
        &self,
        topic: Topic,
        transaction: Option<&str>,
        principal: Option<&Principal>,
        token: Option<&IssuedToken>,
        now: Timestamp,
    ) -> String {
        message::tell(topic, transaction, |data| match principal {
            Some(principal) => self.push_identity(data, principal, token, now),
            None => self.push_refusal(data),
        })
    }

    fn push_refusal(&self, data: &mut String) {
        data.push_str("{\"Result\":\"");
        data.push_str(self.settings.refusal_word);
        data.push_str("\"}");
    }

    /// What is not there is left out: clients seen do not read `null`.
    fn push_identity(&self, data: &mut String, principal: &Principal, token: Option<&IssuedToken>, now: Timestamp) {
        data.push_str("{\"Result\":\"Success\"");
        if let Some(token) = token {
            data.push_str(",\"AccessToken\":\"");
            push_token(data, token);
            data.push('"');
        }
        if let Some(name) = principal.account.as_ref().and_then(|account| account.display_name.as_deref()) {
            data.push_str(",\"DisplayName\":");
            push_text(data, name);
        }
        data.push_str(",\"UserID\":");
        push_text(data, subject(principal));
        if let Some(end) = principal.expires_at {
            data.push_str(",\"ExpiryDate\":\"");
            push_date(data, end, self.settings.date_format);
            data.push('"');
            let left = end.since(now);
            if self.settings.expires_in && left.as_secs() < LONGEST_REMAINDER_SECONDS {
                data.push_str(",\"ExpiresIn\":\"");
                push_remainder(data, left);
                data.push('"');
            }
        }
        data.push_str(",\"Scope\":[");
        for (number, name) in self.settings.catalogue.told(&principal.scopes, principal.spelling).enumerate() {
            if number > 0 {
                data.push(',');
            }
            push_text(data, name);
        }
        data.push_str("]}");
    }
}

/// Whether an authentication still counts. An expiry that has passed ends it, also before the core has said so.
fn stands(principal: &Principal, now: Timestamp) -> bool {
    principal.expires_at.is_none_or(|end| now < end)
}

/// Tells why an envelope was not acted on. What belongs to a subscription carries no TransactionID, or clients cannot tell
/// whose it is; and one that asked for a confirmation gets the confirmation's shape too, or it waits for ever: a Sub that
/// does not confirm, but an Unsub that does, since an end always succeeds.
fn turn_down(envelope: &Envelope<'_>, code: &str, out: &mut Outbox) {
    let place = envelope.place();
    let about_subscription = matches!(envelope.action(), Action::Sub | Action::Unsub);
    let transaction = envelope.transaction().filter(|_| !about_subscription);
    out.send(message::error(place, transaction, code));
    match envelope.action() {
        Action::Sub if envelope.confirm => out.send(message::not_subscribed(place, code)),
        Action::Unsub if envelope.confirm => out.send(message::unsubscribed(place)),
        _ => {}
    }
}

impl Conversation for Connection {
    type Pending = Asked;

    fn receive(&mut self, now: Timestamp, frame: Frame<'_>, out: &mut Outbox) -> Option<Question<Asked>> {
        let Frame::Text(text) = frame else {
            out.close(INVALID_PACKET, "Binary");
            return None;
        };
        let Some(envelope) = Envelope::parse(text) else {
            out.close(INVALID_PACKET, "Invalid packet");
            return None;
        };
        self.settle(now, out);
        match envelope.action() {
            Action::Error => return None,
            Action::Cancel => {
                self.cancel(&envelope, out);
                return None;
            }
            Action::Publish { .. } | Action::Sub | Action::Unsub | Action::Unknown => {}
        }
        let done = match self.addressed(&envelope) {
            Ok(Address::Here(topic)) => self.act(now, topic, &envelope, out),
            Ok(Address::Behind(target)) => self.pass_on(now, target, &envelope, out).map(|()| None),
            Err(code) => {
                turn_down(&envelope, &code, out);
                return None;
            }
        };
        done.unwrap_or_else(|code| {
            turn_down(&envelope, code, out);
            None
        })
    }

    fn answer(&mut self, now: Timestamp, asked: Asked, reply: Reply, out: &mut Outbox) {
        match reply.result.and_then(Answer::granted) {
            Ok(granted) => self.granted(now, &asked, granted, out),
            Err(refusal) => self.refused(&asked, &refusal, out),
        }
        self.settle(now, out);
    }

    fn notify(&mut self, now: Timestamp, event: Event, out: &mut Outbox) {
        match event {
            Event::Changed(principal) => {
                self.principal = Some(principal);
                self.publish(now, out);
            }
            // The last three are a terminal's, which there is none of here.
            Event::Detached(
                Reason::Expired | Reason::Revoked | Reason::PlanLost | Reason::ProtectionReset | Reason::ProtectionChanged { .. },
            ) => {
                self.principal = None;
                self.publish(now, out);
            }
            Event::Detached(Reason::Displaced) => {
                self.principal = None;
                out.close(DISPLACED, "Session");
            }
            Event::Plan(_) => {}
        }
        self.settle(now, out);
    }

    fn relayed(&mut self, now: Timestamp, from: Relayed<'_>, out: &mut Outbox) {
        self.settle(now, out);
        if let Some(relay) = &mut self.relay {
            relay.relayed(now, from, out);
        }
    }

    fn remind(&mut self, now: Timestamp, out: &mut Outbox) {
        self.settle(now, out);
        if let Some(relay) = &mut self.relay {
            relay.remind(now, out);
        }
    }

    fn limits(&self) -> Limits {
        Limits {
            ping_every: self.settings.ping_every,
            silence: (self.settings.silence, SILENT),
            // Only the controller `Auth` asks anything.
            answer_within: self.auth.action(),
            unsent: self.settings.unsent,
            due: self.relay.as_ref().and_then(|relay| relay.due()),
        }
    }

    fn stop(&mut self, out: &mut Outbox) {
        out.close(STOPPING, "Restart");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::section::Section;

    #[test]
    fn an_idle_conversation_is_small() {
        let size = size_of::<Connection>() + size_of::<Asked>();
        assert!(size < 400, "{size} bytes");
        assert_eq!(size_of::<Option<Box<Relay>>>(), size_of::<usize>(), "what is behind the gate costs a pointer until it is used");
    }

    #[test]
    fn subscriptions_are_counted_further_than_anybody_counts() {
        let settings = Settings::read(&Section::default()).expect("defaults");
        let mut connection = Connection::new(Arc::new(settings), Version::NEWEST, None);
        let (now, mut out) = (Timestamp::default(), Outbox::default());
        let mut send = |connection: &mut Connection, action, times| {
            let text = format!(r#"{{"Controller":"Auth","Topic":"Identify","Action":"{action}"}}"#);
            for _ in 0..times {
                assert!(connection.receive(now, Frame::Text(&text), &mut out).is_none());
            }
        };
        send(&mut connection, "Sub", 70_000);
        send(&mut connection, "Unsub", 69_999);
        assert!(connection.is_subscribed(Topic::Identify));
        send(&mut connection, "Unsub", 1);
        assert!(!connection.is_subscribed(Topic::Identify));
    }

    #[test]
    fn the_core_gets_as_long_as_auth_was_configured() {
        let settings = Settings::read(&Section::default()).expect("defaults");
        let mut connection = Connection::new(Arc::new(settings), Version::NEWEST, None);
        let (now, mut out) = (Timestamp::default(), Outbox::default());
        assert_eq!(connection.limits().answer_within.as_secs(), 35);
        for (controller, seconds) in [("Zenith", 35), ("Auth", 5)] {
            let text = format!(
                r#"{{"Controller":"{controller}","Topic":"Configure","TransactionID":1,"Data":{{"ActionTimeout":"0:0:5"}}}}"#
            );
            assert!(connection.receive(now, Frame::Text(&text), &mut out).is_none());
            assert_eq!(connection.limits().answer_within.as_secs(), seconds, "{controller}");
        }
        assert_eq!((connection.limits().ping_every.as_secs(), connection.limits().silence.0.as_secs()), (30, 60));
        assert_eq!(connection.limits().silence.1, 1008);
    }
}
