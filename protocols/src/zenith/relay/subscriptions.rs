//! The subscriptions of one connection to topics of the service: how often the peer holds each, and what waits for the
//! service's word.
//!
//! ```text
//!   first Sub ──► waits ── service confirms ──► held ── last Unsub, refused, ended ──► gone
//!                   └───── refused, too late ──────────────────────────────────────────► gone
//! ```
//!
//! While a topic waits, what the peer sends of it waits behind, in order. Once it is held, the peer's word counts at once, also
//! while the service is asked again after a change of who is here or a lost connection: what the service then refuses, it ends.
//! It refuses to know who is here and what may be sent.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use gatepost_identity::clock::Timestamp;
use serde_json::value::RawValue;

use crate::frame::Outbox;
use crate::zenith::message::{self, Place, Why};

/// How many bytes of topics and Data a connection may keep here. A topic counts once for each reference and for each thing
/// that waits, since it is told once for each when all of them end.
pub(super) const MOST_BYTES: usize = 256 * 1024;

/// Something that the peer wants to be told when the service has answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Waiting {
    /// A Sub; one that wants no confirmation is still told an error.
    Sub {
        /// Whether it wants a confirmation.
        confirm: bool,
    },
    /// An Unsub that wants a confirmation.
    Unsub,
}

/// A topic.
#[derive(Debug)]
pub(super) struct Entry {
    /// The number of its controller.
    pub(super) controller: usize,
    /// Its name.
    pub(super) topic: Arc<str>,
    /// The Data of the first Sub, in JSON.
    pub(super) data: Option<Box<str>>,
    /// How many references the peer holds, those that wait counted.
    references: usize,
    /// What waits. Empty: the topic is held.
    waiting: Vec<Waiting>,
    /// Whether the service has told an error of it since it was last asked.
    told: bool,
    /// Which.
    reason: Option<Box<RawValue>>,
    /// When waiting for the service is over.
    deadline: Option<Timestamp>,
}

impl Entry {
    /// Whether the service has not confirmed it yet to anybody.
    pub(super) fn waits(&self) -> bool {
        !self.waiting.is_empty()
    }

    fn bytes(&self) -> usize {
        self.topic.len() * (self.references + self.waiting.len()) + self.data.as_ref().map_or(0, |data| data.len())
    }

    /// Tells the peer that it is over: whatever waits is answered in order, and whatever is held ends, one by one.
    pub(super) fn tell_end(&self, controller: &str, why: Why<'_>, silently: bool, out: &mut Outbox) {
        let place = Place { controller, topic: Some(&self.topic) };
        let mut told = self.told;
        for one in &self.waiting {
            match one {
                Waiting::Unsub => out.send(message::unsubscribed(place)),
                Waiting::Sub { confirm } => {
                    if !std::mem::take(&mut told) {
                        out.send(message::error(place, None, why));
                    }
                    if *confirm {
                        out.send(message::not_subscribed(place, why));
                    }
                }
            }
        }
        if !self.waits() {
            if !told && !silently {
                out.send(message::error(place, None, why));
            }
            (0..self.references).for_each(|_| out.send(message::ended(place)));
        }
    }

    /// Tells the peer that the service has confirmed it.
    fn tell_confirmed(&self, controller: &str, out: &mut Outbox) {
        let place = Place { controller, topic: Some(&self.topic) };
        for one in &self.waiting {
            match one {
                Waiting::Sub { confirm: true } => out.send(message::subscribed(place)),
                Waiting::Sub { confirm: false } => {}
                Waiting::Unsub => out.send(message::unsubscribed(place)),
            }
        }
    }
}

/// What became of a Sub.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Subscribed {
    /// It is the first of its topic: the service is to be asked.
    First(u64),
    /// It waits behind the first.
    Waits,
    /// It counts.
    Counts,
}

/// What became of an Unsub.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unsubscribed {
    /// It waits for the service's word on the first Sub.
    Waits,
    /// It counts, or there was nothing to end.
    Counts,
    /// It was the last of its topic, which is gone.
    Last,
}

/// All topics of one connection.
#[derive(Debug)]
pub(super) struct Table {
    /// By number, which grows: the order of the first Subs.
    entries: BTreeMap<u64, Entry>,
    /// By controller and topic.
    numbers: Box<[BTreeMap<Arc<str>, u64>]>,
    due: BTreeSet<(Timestamp, u64)>,
    last: u64,
    /// How many references and waiting things there may be.
    most: usize,
    references: usize,
    waiting: usize,
    bytes: usize,
}

impl Table {
    /// Of that many controllers, with room for so many references.
    pub(super) fn new(controllers: usize, most: usize) -> Table {
        Table {
            entries: BTreeMap::new(),
            numbers: (0..controllers).map(|_| BTreeMap::new()).collect(),
            due: BTreeSet::new(),
            last: 0,
            most,
            references: 0,
            waiting: 0,
            bytes: 0,
        }
    }

    /// The number of a topic.
    pub(super) fn find(&self, controller: usize, topic: &str) -> Option<u64> {
        self.numbers.get(controller)?.get(topic).copied()
    }

    /// A topic.
    pub(super) fn entry(&self, number: u64) -> Option<&Entry> {
        self.entries.get(&number)
    }

    /// Whether the peer holds or waits for a reference to a topic.
    pub(super) fn wants(&self, controller: usize, topic: &str) -> bool {
        self.find(controller, topic).and_then(|number| self.entry(number)).is_some_and(|entry| entry.references > 0)
    }

    /// Every number, in the order of the first Subs.
    pub(super) fn all(&self) -> Vec<u64> {
        self.entries.keys().copied().collect()
    }

    /// Whether there is none.
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The nearest deadline.
    pub(super) fn due(&self) -> Option<Timestamp> {
        self.due.first().map(|(deadline, _)| *deadline)
    }

    /// What the service has not answered in time.
    pub(super) fn overdue(&self, now: Timestamp) -> Vec<u64> {
        self.due.iter().take_while(|(deadline, _)| *deadline <= now).map(|(_, number)| *number).collect()
    }

    /// One more reference. `deadline` is that of a first one.
    ///
    /// # Errors
    /// There is no room for it.
    pub(super) fn subscribe(
        &mut self,
        (controller, topic): (usize, &str),
        data: Option<&str>,
        confirm: bool,
        deadline: Timestamp,
    ) -> Result<Subscribed, Full> {
        let sub = Waiting::Sub { confirm };
        let Some(number) = self.find(controller, topic) else {
            self.room(1, 1, 2 * topic.len() + data.map_or(0, str::len))?;
            self.last += 1;
            let (topic, data, deadline) = (Arc::from(topic), data.map(Box::from), Some(deadline));
            let numbers = self.numbers.get_mut(controller).ok_or(Full)?;
            numbers.insert(Arc::clone(&topic), self.last);
            let entry = Entry { controller, topic, data, references: 1, waiting: vec![sub], told: false, reason: None, deadline };
            self.keep(self.last, entry);
            return Ok(Subscribed::First(self.last));
        };
        let waits = self.entry(number).is_some_and(Entry::waits);
        self.room(1, usize::from(waits), topic.len() * (1 + usize::from(waits)))?;
        self.change(number, |entry| {
            entry.references += 1;
            if waits {
                entry.waiting.push(sub);
            }
        });
        Ok(if waits { Subscribed::Waits } else { Subscribed::Counts })
    }

    /// One reference less. Always succeeds: past the room for what waits, the confirmation does not wait either.
    pub(super) fn unsubscribe(&mut self, (controller, topic): (usize, &str), confirm: bool) -> Unsubscribed {
        let Some(number) = self.find(controller, topic) else { return Unsubscribed::Counts };
        let waits = self.entry(number).is_some_and(Entry::waits);
        let told_later = waits && confirm && self.room(0, 1, topic.len()).is_ok();
        self.change(number, |entry| {
            entry.references = entry.references.saturating_sub(1);
            if told_later {
                entry.waiting.push(Waiting::Unsub);
            }
        });
        match (waits, self.entries.contains_key(&number)) {
            (true, _) if told_later || !confirm => Unsubscribed::Waits,
            (true, _) | (false, true) => Unsubscribed::Counts,
            (false, false) => Unsubscribed::Last,
        }
    }

    /// One reference less of a topic that is not asked for now, so that nothing may wait. What is left without a reference is
    /// gone, and returned where something of it still waits to be told so.
    pub(super) fn unsubscribe_asleep(&mut self, controller: usize, topic: &str) -> Option<Entry> {
        let number = self.find(controller, topic)?;
        self.change(number, |entry| entry.references = entry.references.saturating_sub(1));
        let left = self.entry(number)?.references;
        if left == 0 { self.remove(number) } else { None }
    }

    /// The service has confirmed a topic. What waits is told in order; `true`: no reference is left, and the topic is gone.
    pub(super) fn confirmed(&mut self, number: u64, controller: &str, out: &mut Outbox) -> bool {
        if let Some(entry) = self.entry(number) {
            entry.tell_confirmed(controller, out);
        }
        self.change(number, |entry| {
            entry.waiting = Vec::new();
            entry.told = false;
            entry.deadline = None;
        });
        !self.entries.contains_key(&number)
    }

    /// The service has told an error of a topic. It is the error of what waits for an answer.
    pub(super) fn told(&mut self, number: u64, reason: Option<&RawValue>) {
        self.change(number, |entry| {
            entry.told = entry.deadline.is_some();
            entry.reason = reason.filter(|_| entry.told).map(RawValue::to_owned);
        });
    }

    /// What that error said, where it can be quoted.
    pub(super) fn told_reason(&self, number: u64) -> Option<Box<RawValue>> {
        self.entry(number).filter(|entry| entry.told)?.reason.clone()
    }

    /// The service is asked for a topic again: what is held must be confirmed by `deadline`; what waits keeps its own, where it
    /// has one.
    pub(super) fn asked_again(&mut self, number: u64, deadline: Timestamp) {
        self.change(number, |entry| {
            entry.told = false;
            if !entry.waits() || entry.deadline.is_none() {
                entry.deadline = Some(deadline);
            }
        });
    }

    /// The connection to the service is gone. Nobody is asked for what is held any more; what waits goes on waiting.
    pub(super) fn lost(&mut self) {
        self.change_all(|entry| {
            entry.told = false;
            if !entry.waits() {
                entry.deadline = None;
            }
        });
    }

    /// Nobody is here: all is remembered, for however long.
    pub(super) fn sleep(&mut self) {
        self.change_all(|entry| {
            entry.told = false;
            entry.deadline = None;
        });
    }

    /// Takes a topic out.
    pub(super) fn remove(&mut self, number: u64) -> Option<Entry> {
        let entry = self.entries.remove(&number)?;
        self.forget(number, &entry);
        if let Some(numbers) = self.numbers.get_mut(entry.controller) {
            numbers.remove(&*entry.topic);
        }
        Some(entry)
    }

    fn room(&self, references: usize, waiting: usize, bytes: usize) -> Result<(), Full> {
        let room =
            self.references + references <= self.most && self.waiting + waiting <= self.most && self.bytes + bytes <= MOST_BYTES;
        if room { Ok(()) } else { Err(Full) }
    }

    fn change_all(&mut self, mut how: impl FnMut(&mut Entry)) {
        for number in self.all() {
            self.change(number, &mut how);
        }
    }

    fn change(&mut self, number: u64, how: impl FnOnce(&mut Entry)) {
        let Some(mut entry) = self.entries.remove(&number) else { return };
        self.forget(number, &entry);
        how(&mut entry);
        self.keep(number, entry);
    }

    /// Puts a topic in, and into the sums. One that nobody holds or waits for is gone.
    fn keep(&mut self, number: u64, entry: Entry) {
        if entry.references == 0 && !entry.waits() {
            if let Some(numbers) = self.numbers.get_mut(entry.controller) {
                numbers.remove(&*entry.topic);
            }
            return;
        }
        self.references += entry.references;
        self.waiting += entry.waiting.len();
        self.bytes += entry.bytes();
        self.due.extend(entry.deadline.map(|deadline| (deadline, number)));
        self.entries.insert(number, entry);
    }

    /// Takes a topic that is out of the table out of the sums.
    fn forget(&mut self, number: u64, entry: &Entry) {
        self.references -= entry.references;
        self.waiting -= entry.waiting.len();
        self.bytes -= entry.bytes();
        if let Some(deadline) = entry.deadline {
            self.due.remove(&(deadline, number));
        }
    }
}

/// There is no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Full;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const AT: Timestamp = Timestamp::from_millis(10);
    const LATER: Timestamp = Timestamp::from_millis(20);

    fn sent(out: &mut Outbox) -> Vec<String> {
        out.drain().map(|outgoing| format!("{outgoing:?}")).collect()
    }

    impl Table {
        /// Holds the sums against what they are sums of.
        fn check(&self) {
            let sum = |of: fn(&Entry) -> usize| self.entries.values().map(of).sum::<usize>();
            assert_eq!(self.references, sum(|entry| entry.references));
            assert_eq!(self.waiting, sum(|entry| entry.waiting.len()));
            assert_eq!(self.bytes, sum(Entry::bytes));
            assert!(self.references <= self.most && self.waiting <= self.most && self.bytes <= MOST_BYTES);
            let due = self.entries.iter().filter_map(|(number, entry)| Some((entry.deadline?, *number)));
            assert_eq!(self.due, due.collect());
            let named = |(number, entry): (&u64, &Entry)| self.find(entry.controller, &entry.topic) == Some(*number);
            assert!(self.entries.iter().all(named), "each is found by its name");
            assert_eq!(self.entries.len(), self.numbers.iter().map(BTreeMap::len).sum::<usize>());
            assert!(self.entries.values().all(|entry| entry.waits() || entry.references > 0), "nothing is kept for nobody");
        }
    }

    proptest! {
        /// Whatever is done in whatever order, the sums are right, the bounds hold, and nothing is kept for nobody.
        #[test]
        fn the_sums_are_those_of_what_is_kept(
            done in prop::collection::vec((0_u8..10, 0_usize..2, 0_usize..4, any::<bool>()), 0..60),
            most in 1_usize..8,
        ) {
            let mut table = Table::new(2, most);
            let long = "x".repeat(MOST_BYTES / 7);
            let topics = ["A", "B", "C", long.as_str()];
            let mut out = Outbox::default();
            for (what, controller, topic, confirm) in done {
                let topic = topics[topic];
                let number = table.find(controller, topic).unwrap_or(0);
                match what {
                    0..3 => drop(table.subscribe((controller, topic), Some("{}"), confirm, AT)),
                    3 => drop(table.unsubscribe((controller, topic), confirm)),
                    4 => drop(table.unsubscribe_asleep(controller, topic)),
                    5 => drop(table.confirmed(number, "C", &mut out)),
                    6 => table.asked_again(number, LATER),
                    7 => table.lost(),
                    8 => table.sleep(),
                    _ => drop(table.remove(number)),
                }
                table.check();
            }
        }
    }

    #[test]
    fn a_topic_goes_with_its_last_reference() {
        let mut table = Table::new(1, 9);
        let mut out = Outbox::default();
        let place = (0, "A");
        assert_eq!(table.unsubscribe(place, true), Unsubscribed::Counts, "there was none");
        assert_eq!(table.subscribe(place, None, true, AT), Ok(Subscribed::First(1)));
        assert_eq!(table.subscribe(place, None, false, AT), Ok(Subscribed::Waits));
        assert_eq!(table.unsubscribe(place, false), Unsubscribed::Waits);
        assert!(table.wants(0, "A"));
        assert!(!table.confirmed(1, "C", &mut out), "one reference is left");
        assert_eq!(sent(&mut out).len(), 1);
        assert_eq!(table.subscribe(place, None, true, AT), Ok(Subscribed::Counts));
        assert_eq!(table.unsubscribe(place, true), Unsubscribed::Counts);
        assert_eq!(table.unsubscribe(place, true), Unsubscribed::Last);
        assert!(table.is_empty());
        assert_eq!(table.subscribe(place, None, true, AT), Ok(Subscribed::First(2)));
    }

    #[test]
    fn only_what_is_asked_for_is_due() {
        let mut table = Table::new(1, 9);
        let mut out = Outbox::default();
        for topic in ["held", "waits"] {
            table.subscribe((0, topic), None, true, AT).expect("there is room");
        }
        table.confirmed(1, "C", &mut out);
        let due = |table: &Table| (table.overdue(AT), table.overdue(LATER));
        assert_eq!((due(&table), table.due()), ((vec![2], vec![2]), Some(AT)));
        table.asked_again(1, LATER);
        table.asked_again(2, LATER);
        assert_eq!((due(&table), table.due()), ((vec![2], vec![2, 1]), Some(AT)));
        table.lost();
        assert_eq!(due(&table), (vec![2], vec![2]));
        table.sleep();
        assert_eq!((due(&table), table.due()), ((vec![], vec![]), None));
        table.asked_again(2, LATER);
        assert_eq!(due(&table), (vec![], vec![2]));
    }

    #[test]
    fn an_error_of_the_services_is_the_first_ones_own() {
        let mut table = Table::new(1, 9);
        let mut out = Outbox::default();
        for _ in 0..2 {
            table.subscribe((0, "A"), None, false, AT).expect("there is room");
        }
        table.told(1, None);
        let end = |table: &mut Table, out: &mut Outbox| {
            let entry = table.remove(1).expect("it is there");
            entry.tell_end("C", Why::Code("Fault"), false, out);
            sent(out).len()
        };
        assert_eq!(end(&mut table, &mut out), 1);
        // Of what is held and not asked for, an error says nothing.
        let mut table = Table::new(1, 9);
        table.subscribe((0, "A"), None, false, AT).expect("there is room");
        table.confirmed(1, "C", &mut out);
        table.told(1, None);
        assert_eq!(end(&mut table, &mut out), 2);
    }
}
