//! The requests of one connection that the service has not answered yet.
//!
//! Decides whose an answer is, and when waiting for one is over. It refuses to know what is asked and what is answered.

use std::collections::VecDeque;

use gatepost_identity::clock::Timestamp;

/// How many bytes of topics and ids a connection may keep here.
pub(super) const MOST_BYTES: usize = 64 * 1024;

/// One request.
#[derive(Debug)]
pub(super) struct Flight {
    /// The number of its controller.
    pub(super) controller: usize,
    /// Its topic.
    pub(super) topic: Box<str>,
    /// The digits of its TransactionID.
    pub(super) transaction: Box<str>,
    /// When waiting is over.
    pub(super) deadline: Timestamp,
    /// Whether the peer was told an error of it, so that it needs no further one.
    pub(super) told: bool,
}

impl Flight {
    fn bytes(&self) -> usize {
        self.topic.len() + self.transaction.len()
    }

    fn is(&self, controller: usize, transaction: &str) -> bool {
        self.controller == controller && *self.transaction == *transaction
    }
}

/// All of one connection, oldest first.
#[derive(Debug, Default)]
pub(super) struct Flights {
    all: VecDeque<Flight>,
    bytes: usize,
    /// How many the peer was told an error of.
    told: usize,
    /// The nearest deadline.
    due: Option<Timestamp>,
}

impl Flights {
    /// Keeps a request. Whoever uses an id again has taken an error for the answer to it; and one that an error has answered is
    /// kept for a result that most never have, and makes room where there is none.
    ///
    /// # Errors
    /// There are `most` of them already, or too many bytes of them.
    pub(super) fn keep(&mut self, flight: Flight, most: usize) -> Result<(), Flight> {
        let again = |one: &Flight| one.told && one.is(flight.controller, &flight.transaction) && one.topic == flight.topic;
        if self.told > 0 && self.all.iter().any(again) {
            self.take(again);
        }
        while self.all.len() >= most || self.bytes + flight.bytes() > MOST_BYTES {
            let oldest = Some(()).filter(|()| self.told > 0).and_then(|()| self.all.iter().position(|one| one.told));
            match oldest {
                Some(place) => self.end(place),
                None => return Err(flight),
            }
        }
        self.bytes += flight.bytes();
        self.due = Some(self.due.map_or(flight.deadline, |due| due.min(flight.deadline)));
        self.all.push_back(flight);
        Ok(())
    }

    /// The request that something with this id answers: ids need not be unique, so that the topic tells apart what it can,
    /// and age the rest.
    pub(super) fn find(&self, controller: usize, transaction: &str, topic: Option<&str>) -> Option<usize> {
        let same = || self.all.iter().enumerate().filter(|(_, flight)| flight.is(controller, transaction));
        let closest = same().find(|(_, flight)| topic == Some(&*flight.topic)).or_else(|| same().next());
        closest.map(|(place, _)| place)
    }

    /// The peer is told an error of the request that [`Flights::find`] has found.
    pub(super) fn told(&mut self, place: usize) {
        if let Some(flight) = self.all.get_mut(place) {
            self.told += usize::from(!flight.told);
            flight.told = true;
        }
    }

    /// The request that [`Flights::find`] has found is over.
    pub(super) fn end(&mut self, place: usize) {
        if let Some(flight) = self.all.remove(place) {
            self.bytes -= flight.bytes();
            self.told -= usize::from(flight.told);
            self.settle();
        }
    }

    /// Forgets every request with this id, and says whether there was one.
    pub(super) fn forget(&mut self, controller: usize, transaction: &str) -> bool {
        !self.take(|flight| flight.is(controller, transaction)).is_empty()
    }

    /// Takes out what has been waited for long enough.
    pub(super) fn overdue(&mut self, now: Timestamp) -> Vec<Flight> {
        if self.due.is_none_or(|due| now < due) {
            return Vec::new();
        }
        self.take(|flight| flight.deadline <= now)
    }

    /// Takes all out.
    pub(super) fn abandon(&mut self) -> Vec<Flight> {
        self.take(|_| true)
    }

    /// The nearest deadline.
    pub(super) fn due(&self) -> Option<Timestamp> {
        self.due
    }

    fn take(&mut self, which: impl Fn(&Flight) -> bool) -> Vec<Flight> {
        let (taken, left): (Vec<Flight>, Vec<Flight>) = std::mem::take(&mut self.all).into_iter().partition(which);
        self.all = left.into();
        self.settle();
        self.bytes = self.all.iter().map(Flight::bytes).sum();
        self.told = self.all.iter().filter(|flight| flight.told).count();
        taken
    }

    fn settle(&mut self) {
        self.due = self.all.iter().map(|flight| flight.deadline).min();
        if self.all.is_empty() {
            self.all = VecDeque::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flight(controller: usize, topic: &str, transaction: &str, deadline: i64) -> Flight {
        let deadline = Timestamp::from_millis(deadline);
        Flight { controller, topic: topic.into(), transaction: transaction.into(), deadline, told: false }
    }

    fn names(flights: &[Flight]) -> Vec<String> {
        flights.iter().map(|flight| format!("{}:{}:{}", flight.controller, flight.topic, flight.transaction)).collect()
    }

    #[test]
    fn an_answer_belongs_to_its_topic_and_then_to_the_oldest() {
        let mut flights = Flights::default();
        for (controller, topic, transaction) in [(0, "A", "1"), (0, "B", "1"), (1, "A", "1"), (0, "A", "1"), (0, "A", "1.0")] {
            flights.keep(flight(controller, topic, transaction, 5), 9).expect("there is room");
        }
        let check = |flights: &Flights, controller, transaction, topic, expected: Option<usize>| {
            assert_eq!(flights.find(controller, transaction, topic), expected, "{controller} {transaction} {topic:?}");
        };
        check(&flights, 0, "1", Some("A"), Some(0));
        check(&flights, 0, "1", Some("B"), Some(1));
        check(&flights, 0, "1", None, Some(0));
        check(&flights, 0, "1", Some("C"), Some(0));
        check(&flights, 1, "1", Some("A"), Some(2));
        check(&flights, 0, "1.0", Some("A"), Some(4));
        check(&flights, 0, "01", Some("A"), None);
        check(&flights, 2, "1", Some("A"), None);
        flights.end(0);
        assert_eq!(flights.find(0, "1", Some("A")), Some(2));
        assert!(flights.forget(0, "1"));
        assert!(!flights.forget(0, "1"));
        assert_eq!(names(&flights.abandon()), ["1:A:1", "0:A:1.0"]);
        assert_eq!((flights.bytes, flights.due()), (0, None));
    }

    #[test]
    fn the_nearest_deadline_is_the_one_that_is_due() {
        let mut flights = Flights::default();
        for (transaction, deadline) in [("1", 30), ("2", 10), ("3", 20), ("4", 10)] {
            flights.keep(flight(0, "A", transaction, deadline), 9).expect("there is room");
        }
        let at = Timestamp::from_millis;
        assert_eq!(flights.due(), Some(at(10)));
        assert!(flights.overdue(at(9)).is_empty());
        assert_eq!(names(&flights.overdue(at(10))), ["0:A:2", "0:A:4"]);
        assert_eq!(flights.due(), Some(at(20)));
        let place = flights.find(0, "3", None).expect("it is there");
        flights.end(place);
        assert_eq!(flights.due(), Some(at(30)));
    }

    #[test]
    fn what_an_error_has_answered_yields_to_the_next() {
        let mut flights = Flights::default();
        for (transaction, most) in [("1", 2), ("2", 2)] {
            flights.keep(flight(0, "A", transaction, 5), most).expect("there is room");
            flights.told(flights.find(0, transaction, None).expect("it is there"));
        }
        flights.keep(flight(0, "A", "2", 5), 2).expect("the id is used again");
        assert_eq!(
            names(&flights.all.iter().map(|one| flight(0, &one.topic, &one.transaction, 5)).collect::<Vec<_>>()),
            ["0:A:1", "0:A:2"]
        );
        flights.keep(flight(0, "A", "3", 5), 2).expect("the one with an error yields");
        flights.keep(flight(0, "A", "4", 5), 2).expect_err("nobody else does");
        assert_eq!(names(&flights.abandon()), ["0:A:2", "0:A:3"]);
        assert_eq!((flights.told, flights.bytes), (0, 0));
    }

    #[test]
    fn there_is_room_for_so_many_and_for_so_many_bytes() {
        let mut flights = Flights::default();
        flights.keep(flight(0, "A", "1", 1), 2).expect("the first");
        flights.keep(flight(0, "A", "1", 1), 2).expect("the second");
        flights.keep(flight(0, "A", "1", 1), 2).expect_err("a third");
        let long = "x".repeat(MOST_BYTES - 4);
        flights.keep(flight(0, &long, "1", 1), 9).expect_err("a byte too much");
        flights.keep(flight(0, &long[1..], "1", 1), 9).expect("to the last byte");
        flights.keep(flight(0, "", "1", 1), 9).expect_err("none is left");
        assert!(flights.forget(0, "1"));
        flights.keep(flight(0, &long, "1", 1), 9).expect("all are free again");
    }
}
