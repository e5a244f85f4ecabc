//! The service behind the gate, as one connection sees it: what goes up to it, what of its words reaches the peer.
//!
//! ```text
//! peer ─ receive ─► right? room? ─► written anew ─► up
//!                        │  in flight, subscriptions
//! peer ◄─ relayed ─ asked for by somebody who is here? ◄─ service
//! ```
//!
//! It decides whether a message may pass, and keeps what is needed to say what became of it when somebody else is here, nobody
//! is, or the service is gone. It refuses to know what passes, and who the peer is beyond the principal that it is handed.
//! [`Relay::settle`] is the one place where a change of who is here takes effect.

mod flights;
pub(super) mod routes;
mod subscriptions;

use std::sync::Arc;

use gatepost_identity::clock::Timestamp;
use gatepost_identity::reply::Principal;
use gatepost_identity::scope::Scopes;
use serde_json::value::RawValue;

use crate::frame::{Frame, Outbox, Relayed};
use crate::zenith::message::{self, Action, Envelope, Place, Up, Why};
use crate::zenith::relay::flights::{Flight, Flights};
use crate::zenith::relay::routes::{Common, Routes};
use crate::zenith::relay::subscriptions::{Full, Subscribed, Table, Unsubscribed};
use crate::zenith::request::Timeouts;

/// The error code for a request without its answer when the connection behind it ends.
const ABORT: &str = "Operation.Abort";
/// The error code for what takes too long.
const TIMEOUT: &str = "Operation.Timeout";
/// The error code for what one may not do.
pub(super) const AUTHORITY: &str = "Authority";
/// The error code for more than there is room for.
const LIMITED: &str = "Limited";
/// The error code for a service that is not there.
const FAULT: &str = "Fault";
/// The error code for a request whose answer would have nowhere to go.
const NO_RESULT: &str = "Operation.NoResult";

/// How long a reason of the service's may be to be told on, in bytes: it is told once for everybody who waits.
const LONGEST_REASON: usize = 128;

/// The connection to the service, as far as is known here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Link {
    /// There is none, or it is to end.
    Closed,
    /// It is being opened, and has not been open since.
    Opening,
    /// It is open.
    Open,
    /// It is gone, and tried again.
    Lost,
}

/// What a message of a controller of the service's is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// A topic that is answered here.
    Common(usize, Common),
    /// A topic of the service's.
    Topic(usize),
}

/// What is kept for one controller.
#[derive(Debug, Default)]
struct Controller {
    timeouts: Timeouts,
    /// Subscriptions to each of the topics that are answered here.
    references: [u32; 2],
}

/// What one connection has to do with the service.
#[derive(Debug)]
pub(super) struct Relay {
    routes: Arc<Routes>,
    /// Whoever the connection to the service was opened for; nobody: there is none.
    holder: Option<Principal>,
    link: Link,
    controllers: Box<[Controller]>,
    flights: Flights,
    table: Table,
}

impl Relay {
    /// Of a connection that has had nothing to do with the service so far.
    pub(super) fn new(routes: Arc<Routes>, standing: Option<&Principal>) -> Relay {
        Relay {
            holder: standing.cloned(),
            link: Link::Closed,
            controllers: (0..routes.count()).map(|_| Controller::default()).collect(),
            flights: Flights::default(),
            table: Table::new(routes.count(), routes.max_subscriptions),
            routes,
        }
    }

    /// When [`Relay::remind`] is to be called, if ever.
    pub(super) fn due(&self) -> Option<Timestamp> {
        [self.flights.due(), self.table.due()].into_iter().flatten().min()
    }

    /// Takes note of who is here now. Whoever is the same and may do the same goes on. For anybody else the connection to the
    /// service ends, and what was asked on it; what they may still subscribe to is asked for again, the rest ends. With nobody
    /// here all subscriptions are remembered.
    pub(super) fn settle(&mut self, now: Timestamp, standing: Option<&Principal>, out: &mut Outbox) {
        if is_same(self.holder.as_ref(), standing) {
            return;
        }
        self.holder = standing.cloned();
        self.part(out);
        self.abandon(ABORT, out);
        if self.holder.is_none() {
            self.table.sleep();
            return;
        }
        for number in self.table.all() {
            let Some(entry) = self.table.entry(number) else { continue };
            if self.may(entry.controller, &entry.topic) {
                self.ask_again(now, number, out);
            } else {
                self.end(number, AUTHORITY.into(), false, out);
            }
        }
    }

    /// Acts on a message of the peer's; [`Relay::settle`] has taken note of who is here.
    ///
    /// # Errors
    /// An error code.
    pub(super) fn receive(
        &mut self,
        now: Timestamp,
        target: Target,
        envelope: &Envelope<'_>,
        out: &mut Outbox,
    ) -> Result<(), &'static str> {
        let controller = match target {
            Target::Common(controller, common) => return self.common(controller, common, envelope, out),
            Target::Topic(controller) => controller,
        };
        let topic = envelope.topic().unwrap_or_default();
        match envelope.action() {
            Action::Unsub => {
                self.unsubscribe(controller, topic, envelope, out);
                return Ok(());
            }
            _ if !self.may(controller, topic) => return Err(AUTHORITY),
            Action::Sub => self.subscribe(now, controller, topic, envelope, out)?,
            _ => self.publish(now, controller, topic, envelope, out)?,
        }
        Ok(())
    }

    /// Forgets what the peer no longer wants answered, and tells the service.
    pub(super) fn cancel(&mut self, controller: usize, envelope: &Envelope<'_>, out: &mut Outbox) {
        let Some(transaction) = envelope.transaction() else { return };
        if self.flights.forget(controller, transaction) {
            // No topic and no Data go up with it: nobody has asked whether the peer may use them.
            let place = Place { controller: self.routes.name(controller), topic: None };
            out.forward(Up { place, action: Some("Cancel"), transaction: Some(transaction), data: None, confirm: false }.write());
        }
    }

    /// Learns what comes from the service.
    pub(super) fn relayed(&mut self, now: Timestamp, from: Relayed<'_>, out: &mut Outbox) {
        match (from, self.link) {
            (Relayed::Frame(Frame::Text(text)), Link::Opening | Link::Open) => self.hear(text, out),
            (Relayed::Frame(_), _) => {}
            (Relayed::Restored, Link::Opening) => self.link = Link::Open,
            (Relayed::Restored, Link::Lost) => {
                self.link = Link::Open;
                for number in self.table.all() {
                    self.ask_again(now, number, out);
                }
            }
            (Relayed::Lost, Link::Opening | Link::Open) => {
                let code = if self.link == Link::Opening { FAULT } else { ABORT };
                self.link = Link::Lost;
                self.abandon(code, out);
                self.table.lost();
                self.give_up(out);
            }
            (Relayed::Lost, Link::Closed | Link::Lost) | (Relayed::Restored, Link::Closed | Link::Open) => {}
        }
    }

    /// Ends what the service has not answered in time.
    pub(super) fn remind(&mut self, now: Timestamp, out: &mut Outbox) {
        for flight in self.flights.overdue(now) {
            self.tell_over(&flight, TIMEOUT, out);
        }
        for number in self.table.overdue(now) {
            if let Some(place) = self.end(number, TIMEOUT.into(), false, out) {
                self.unsubscribe_up(place.0, &place.1, out);
            }
        }
        self.give_up(out);
    }

    fn may(&self, controller: usize, topic: &str) -> bool {
        self.routes.may(self.holder.as_ref(), controller, topic)
    }

    /// Configure and QueryConfigure: answered here for every controller, with or without a login.
    fn common(&mut self, number: usize, common: Common, envelope: &Envelope<'_>, out: &mut Outbox) -> Result<(), &'static str> {
        let place = envelope.place();
        let Some(controller) = self.controllers.get_mut(number) else { return Ok(()) };
        let references = &mut controller.references[common as usize];
        match envelope.action() {
            Action::Sub => {
                *references = references.saturating_add(1);
                if envelope.confirm {
                    out.send(message::subscribed(place));
                }
                return Ok(());
            }
            Action::Unsub => {
                *references = references.saturating_sub(1);
                if envelope.confirm {
                    out.send(message::unsubscribed(place));
                }
                return Ok(());
            }
            _ => {}
        }
        let transaction = envelope.transaction();
        if transaction.is_none() && *references == 0 {
            return Err(NO_RESULT);
        }
        match common {
            Common::Configure => {
                controller.timeouts = Timeouts::read(envelope.data)?;
                out.send(message::done(place, transaction));
            }
            Common::QueryConfigure => {
                let timeouts = controller.timeouts;
                out.send(message::tell(place, transaction, |data| timeouts.push(data)));
            }
        }
        Ok(())
    }

    /// A request. One with an id is answered by the service, or by us once it is clear that the service does not.
    fn publish(
        &mut self,
        now: Timestamp,
        controller: usize,
        topic: &str,
        envelope: &Envelope<'_>,
        out: &mut Outbox,
    ) -> Result<(), &'static str> {
        if self.link == Link::Lost {
            return Err(FAULT);
        }
        if let Some(transaction) = envelope.transaction() {
            let deadline = now.after(self.timeouts(controller).action());
            let flight = Flight { controller, topic: topic.into(), transaction: transaction.into(), deadline, told: false };
            self.flights.keep(flight, self.routes.max_in_flight).map_err(|_| LIMITED)?;
        }
        let action = (envelope.action() == Action::Publish { spelled_out: true }).then_some("Publish");
        let (transaction, data) = (envelope.transaction(), envelope.data.map(RawValue::get));
        self.forward(Up { place: envelope.place(), action, transaction, data, confirm: false }, out);
        Ok(())
    }

    /// The service sees the first Sub of a topic only, and is always asked to confirm it.
    fn subscribe(
        &mut self,
        now: Timestamp,
        controller: usize,
        topic: &str,
        envelope: &Envelope<'_>,
        out: &mut Outbox,
    ) -> Result<(), &'static str> {
        if self.link == Link::Lost && self.table.find(controller, topic).is_none() {
            return Err(FAULT);
        }
        let deadline = now.after(self.timeouts(controller).subscription());
        let data = envelope.data.map(RawValue::get);
        match self.table.subscribe((controller, topic), data, envelope.confirm, deadline).map_err(|Full| LIMITED)? {
            Subscribed::First(number) => self.ask(number, out),
            Subscribed::Waits => {}
            Subscribed::Counts if envelope.confirm => out.send(message::subscribed(envelope.place())),
            Subscribed::Counts => {}
        }
        Ok(())
    }

    /// Always succeeds, whoever is here, and also where there is nothing to end.
    fn unsubscribe(&mut self, controller: usize, topic: &str, envelope: &Envelope<'_>, out: &mut Outbox) {
        let (place, confirm) = (envelope.place(), envelope.confirm);
        if self.holder.is_none() {
            if let Some(entry) = self.table.unsubscribe_asleep(controller, topic) {
                entry.tell_end(self.routes.name(controller), ABORT.into(), false, out);
            }
        } else {
            match self.table.unsubscribe((controller, topic), confirm) {
                Unsubscribed::Waits => return,
                Unsubscribed::Counts => {}
                Unsubscribed::Last => {
                    self.unsubscribe_up(controller, topic, out);
                    self.give_up(out);
                }
            }
        }
        if confirm {
            out.send(message::unsubscribed(place));
        }
    }

    /// Reads a message of the service's. What nobody asked for, or whoever asked for it may not have any more, is dropped, and
    /// so is whatever speaks for a topic that is answered here.
    fn hear(&mut self, text: &str, out: &mut Outbox) {
        let Some(envelope) = Envelope::parse(text) else { return };
        let Some(controller) = self.routes.find(envelope.controller()) else { return };
        let topic = envelope.topic();
        if topic.is_some_and(|topic| self.routes.is_ours(controller, topic)) {
            return;
        }
        match (envelope.action(), envelope.transaction(), topic) {
            (Action::Cancel | Action::Unknown, _, _) | (Action::Sub | Action::Unsub, _, None) => {}
            (Action::Sub, _, Some(topic)) => self.answered(controller, topic, &envelope, out),
            (Action::Unsub, _, Some(topic)) => {
                if let Some(number) = self.table.find(controller, topic).filter(|_| envelope.confirm) {
                    self.end(number, reason(&envelope).unwrap_or(ABORT.into()), true, out);
                }
            }
            (action, Some(transaction), topic) => {
                // What answers one topic with another's must not be a way to one that the peer may not use.
                let may = topic.is_none_or(|topic| self.may(controller, topic));
                let Some(flight) = self.flights.find(controller, transaction, topic).filter(|_| may) else { return };
                match action {
                    // An action may yield errors and a result.
                    Action::Error => self.flights.told(flight),
                    _ => self.flights.end(flight),
                }
                out.send(text.to_owned());
            }
            (Action::Error, None, None) if self.holder.is_some() => out.send(text.to_owned()),
            (Action::Error, None, Some(topic)) if self.may(controller, topic) => {
                if let Some(number) = self.table.find(controller, topic) {
                    self.table.told(number, envelope.data.filter(|data| data.get().len() <= LONGEST_REASON));
                }
                out.send(text.to_owned());
            }
            (Action::Publish { spelled_out: false }, None, Some(topic))
                if self.may(controller, topic) && self.table.wants(controller, topic) =>
            {
                out.send(text.to_owned());
            }
            (Action::Publish { .. } | Action::Error, None, _) => {}
        }
    }

    /// The service has answered a Sub: confirmed, or not.
    fn answered(&mut self, controller: usize, topic: &str, envelope: &Envelope<'_>, out: &mut Outbox) {
        let Some(number) = self.table.find(controller, topic) else {
            if envelope.confirm {
                // It holds what was given up meanwhile, and would hold it for ever.
                self.unsubscribe_up(controller, topic, out);
            }
            return;
        };
        if !envelope.confirm {
            // Where it gives no reason, the error that it told before does.
            let told = self.table.told_reason(number);
            let why = reason(envelope).or(told.as_deref().map(Why::Said)).unwrap_or(FAULT.into());
            self.end(number, why, false, out);
        } else if self.table.confirmed(number, self.routes.name(controller), out) {
            self.unsubscribe_up(controller, topic, out);
        }
    }

    /// Ends a topic with all its references, and says which it was.
    fn end(&mut self, number: u64, why: Why<'_>, silently: bool, out: &mut Outbox) -> Option<(usize, Arc<str>)> {
        let entry = self.table.remove(number)?;
        entry.tell_end(self.routes.name(entry.controller), why, silently, out);
        Some((entry.controller, entry.topic))
    }

    /// Sends a Sub up.
    fn ask(&mut self, number: u64, out: &mut Outbox) {
        let Some(entry) = self.table.entry(number) else { return };
        let place = Place { controller: self.routes.name(entry.controller), topic: Some(&entry.topic) };
        let up = Up { place, action: Some("Sub"), transaction: None, data: entry.data.as_deref(), confirm: true };
        let text = up.write();
        self.forward_text(text, out);
    }

    fn ask_again(&mut self, now: Timestamp, number: u64, out: &mut Outbox) {
        let Some(controller) = self.table.entry(number).map(|entry| entry.controller) else { return };
        self.table.asked_again(number, now.after(self.timeouts(controller).subscription()));
        self.ask(number, out);
    }

    fn unsubscribe_up(&mut self, controller: usize, topic: &str, out: &mut Outbox) {
        if matches!(self.link, Link::Opening | Link::Open) {
            let place = Place { controller: self.routes.name(controller), topic: Some(topic) };
            out.forward(Up { place, action: Some("Unsub"), transaction: None, data: None, confirm: false }.write());
        }
    }

    fn forward(&mut self, up: Up<'_>, out: &mut Outbox) {
        self.forward_text(up.write(), out);
    }

    fn forward_text(&mut self, text: String, out: &mut Outbox) {
        if self.link == Link::Closed {
            self.link = Link::Opening;
        }
        out.forward(text);
    }

    fn part(&mut self, out: &mut Outbox) {
        if self.link != Link::Closed {
            self.link = Link::Closed;
            out.part();
        }
    }

    /// Stops trying to come back to a service from which nothing is wanted.
    fn give_up(&mut self, out: &mut Outbox) {
        if self.link == Link::Lost && self.table.is_empty() {
            self.part(out);
        }
    }

    fn abandon(&mut self, code: &str, out: &mut Outbox) {
        for flight in self.flights.abandon() {
            self.tell_over(&flight, code, out);
        }
    }

    fn tell_over(&self, flight: &Flight, code: &str, out: &mut Outbox) {
        if !flight.told {
            let place = Place { controller: self.routes.name(flight.controller), topic: Some(&flight.topic) };
            out.send(message::error(place, Some(&flight.transaction), code));
        }
    }

    fn timeouts(&self, controller: usize) -> Timeouts {
        self.controllers.get(controller).map(|controller| controller.timeouts).unwrap_or_default()
    }
}

/// Why the service refuses or ends a subscription, where it says so and can be quoted.
fn reason<'a>(envelope: &Envelope<'a>) -> Option<Why<'a>> {
    envelope.data.filter(|data| data.get().len() <= LONGEST_REASON).map(Why::Said)
}

/// Whether two are the same account, or the same client where it spoke for itself, with the same rights.
fn is_same(one: Option<&Principal>, other: Option<&Principal>) -> bool {
    let (Some(one), Some(other)) = (one, other) else { return one.is_none() && other.is_none() };
    let same_rights = |one: &Scopes, other: &Scopes| one.iter().all(|scope| other.contains(scope));
    let same = match (&one.account, &other.account) {
        // A subject is unique among the people of its issuer only.
        (Some(one), Some(other)) => (one.id, &one.issuer, &one.subject) == (other.id, &other.issuer, &other.subject),
        (None, None) => one.client == other.client,
        (Some(_), None) | (None, Some(_)) => false,
    };
    same && same_rights(&one.scopes, &other.scopes) && same_rights(&other.scopes, &one.scopes)
}

#[cfg(test)]
mod tests {
    use gatepost_identity::account::{AccountId, AccountSummary, ClientId, Rights};
    use gatepost_identity::reply::Method;
    use gatepost_identity::scope::Scope;
    use gatepost_identity::session::SessionId;

    use super::*;

    fn somebody(here: bool, issuer: Option<&str>, subject: Option<&str>, client: &str, scopes: &str) -> Principal {
        let account = subject.map(|subject| AccountSummary {
            id: here.then(|| AccountId(Default::default())),
            issuer: issuer.map(str::to_owned),
            subject: subject.to_owned(),
            name: subject.to_owned(),
            email: None,
            display_name: None,
            first_name: None,
            last_name: None,
            profile_url: None,
            cut_off: Default::default(),
        });
        Principal {
            session: Some(SessionId(Default::default())),
            account: account.map(Arc::new),
            client: ClientId::parse(client).ok(),
            scopes: scopes.split_whitespace().map(|name| Scope::parse(name).expect("a scope")).collect(),
            rights: Rights::default(),
            terminal: None,
            provider: None,
            method: Method::Password,
            spelling: 0,
            expires_at: None,
        }
    }

    #[test]
    fn the_same_is_the_same_person_with_the_same_rights() {
        let person = |issuer, subject, scopes| Some(somebody(false, issuer, Some(subject), "app", scopes));
        let check = |one: Option<Principal>, other: Option<Principal>, same| {
            assert_eq!(is_same(one.as_ref(), other.as_ref()), same, "{one:?} and {other:?}");
            assert_eq!(is_same(other.as_ref(), one.as_ref()), same, "{other:?} and {one:?}");
        };
        check(None, None, true);
        check(person(None, "ann", "a"), None, false);
        check(person(None, "ann", "a b"), person(None, "ann", "b a"), true);
        check(person(None, "ann", "a b"), person(None, "ann", "a"), false);
        check(person(None, "ann", "a"), person(None, "bob", "a"), false);
        check(person(Some("x"), "ann", "a"), person(Some("x"), "ann", "a"), true);
        check(person(Some("x"), "ann", "a"), person(Some("y"), "ann", "a"), false);
        check(person(Some("x"), "ann", "a"), person(None, "ann", "a"), false);
        let client = |client| Some(somebody(false, None, None, client, "a"));
        check(client("svc"), client("svc"), true);
        check(client("svc"), client("app"), false);
        check(client("app"), person(None, "ann", "a"), false);
        let account = |client| Some(somebody(true, None, Some("ann"), client, "a"));
        check(account("app"), account("svc"), true);
        check(account("app"), person(None, "ann", "a"), false);
    }
}
