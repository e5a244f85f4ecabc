//! Answers in the order of their requests, whoever gives them.
//!
//! What is answered here is ready at once; what the device answers is awaited, and whatever is ready behind it waits with it. A
//! client that reads one frame for each command gets the frame of that command.
//!
//! ```text
//! ready ──────────────────────────► sent, if nothing before it is awaited
//! awaited ── the device answers ──► ready
//!       └── too late, the device is gone, the authorisation is gone, or too many wait ──► ready, as a "no"
//! ```

use std::collections::VecDeque;

use gatepost_identity::clock::Timestamp;

use crate::frame::Outbox;
use crate::trueconf::message::Answer;

/// How many answers may wait, ready ones among them, and how many bytes ready ones may have. Past that the oldest that is awaited is
/// given up.
pub(super) const MOST: usize = 32;
const MOST_BYTES: usize = 4 * 1024 * 1024;

/// The answers of one connection that are not sent yet.
#[derive(Debug, Default)]
pub(super) struct Answers {
    slots: VecDeque<Slot>,
    last: u64,
}

#[derive(Debug)]
enum Slot {
    Ready(String),
    Awaited(Awaited),
}

/// An answer that the device owes.
#[derive(Debug)]
pub(super) struct Awaited {
    id: u64,
    /// The method, as it was sent.
    pub(super) method: String,
    /// What the answer quotes: JSON.
    pub(super) request_id: String,
    until: Timestamp,
}

impl Awaited {
    fn failed(&self, error: &str) -> String {
        Answer::to(&self.method, &self.request_id).failed(error)
    }
}

impl Answers {
    /// Answers the request that has just been read.
    pub(super) fn say(&mut self, text: String, out: &mut Outbox) {
        if self.slots.is_empty() {
            out.send(text);
            return;
        }
        self.make_room(out);
        self.slots.push_back(Slot::Ready(text));
        self.flush(out);
        self.make_less(out);
    }

    /// Keeps the place of the request that has just been read until the device has answered it. What the device is to quote.
    pub(super) fn wait(&mut self, method: String, request_id: String, until: Timestamp, out: &mut Outbox) -> u64 {
        self.make_room(out);
        self.last += 1;
        self.slots.push_back(Slot::Awaited(Awaited { id: self.last, method, request_id, until }));
        self.last
    }

    /// The device has answered; `text` turns what was awaited into the answer. Nothing, where nothing of that number is awaited.
    pub(super) fn answered(&mut self, id: u64, text: impl FnOnce(&Awaited) -> String, out: &mut Outbox) {
        let awaited = self.slots.iter_mut().find(|slot| matches!(slot, Slot::Awaited(awaited) if awaited.id == id));
        if let Some(slot) = awaited {
            if let Slot::Awaited(awaited) = slot {
                *slot = Slot::Ready(text(awaited));
            }
            self.flush(out);
            self.make_less(out);
        }
    }

    /// Gives up all that is awaited.
    pub(super) fn give_up(&mut self, error: &str, out: &mut Outbox) {
        self.fail(|_| true, error, out);
    }

    /// Gives up what has been awaited for too long.
    pub(super) fn give_up_overdue(&mut self, now: Timestamp, error: &str, out: &mut Outbox) {
        self.fail(|awaited| awaited.until <= now, error, out);
    }

    /// When the next of them is awaited for too long.
    pub(super) fn due(&self) -> Option<Timestamp> {
        let awaited = self.slots.iter().filter_map(|slot| match slot {
            Slot::Awaited(awaited) => Some(awaited.until),
            Slot::Ready(_) => None,
        });
        awaited.min()
    }

    fn fail(&mut self, chosen: impl Fn(&Awaited) -> bool, error: &str, out: &mut Outbox) {
        for slot in &mut self.slots {
            if let Slot::Awaited(awaited) = slot
                && chosen(awaited)
            {
                *slot = Slot::Ready(awaited.failed(error));
            }
        }
        self.flush(out);
    }

    fn make_room(&mut self, out: &mut Outbox) {
        if self.slots.len() >= MOST {
            self.give_up_first(out);
        }
    }

    fn make_less(&mut self, out: &mut Outbox) {
        let ready = |slot: &Slot| if let Slot::Ready(text) = slot { text.len() } else { 0 };
        while self.slots.iter().map(ready).sum::<usize>() > MOST_BYTES {
            self.give_up_first(out);
        }
    }

    /// The first of the slots is always awaited, or it would have been sent. So one given up makes room.
    fn give_up_first(&mut self, out: &mut Outbox) {
        if let Some(Slot::Awaited(awaited)) = self.slots.pop_front() {
            out.send(awaited.failed("no answer"));
        }
        self.flush(out);
    }

    fn flush(&mut self, out: &mut Outbox) {
        while let Some(Slot::Ready(_)) = self.slots.front() {
            if let Some(Slot::Ready(text)) = self.slots.pop_front() {
                out.send(text);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::Outgoing;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_millis(seconds * 1000)
    }

    fn sent(out: &mut Outbox) -> Vec<String> {
        let text = |outgoing| match outgoing {
            Outgoing::Text(text) => text,
            other => panic!("{other:?}"),
        };
        out.drain().map(text).collect()
    }

    fn wait(answers: &mut Answers, method: &str, until: i64, out: &mut Outbox) -> u64 {
        answers.wait(method.to_owned(), "\"\"".to_owned(), at(until), out)
    }

    #[test]
    fn answers_come_in_the_order_of_their_requests() {
        let (mut answers, mut out) = (Answers::default(), Outbox::default());
        answers.say("1".to_owned(), &mut out);
        let two = wait(&mut answers, "two", 9, &mut out);
        answers.say("3".to_owned(), &mut out);
        let four = wait(&mut answers, "four", 9, &mut out);
        assert_eq!(sent(&mut out), ["1"]);
        answers.answered(four, |awaited| awaited.method.clone(), &mut out);
        answers.answered(99, |_| panic!("nobody awaits it"), &mut out);
        assert!(sent(&mut out).is_empty());
        answers.answered(two, |awaited| awaited.method.clone(), &mut out);
        assert_eq!(sent(&mut out), ["two", "3", "four"]);
        answers.answered(two, |_| panic!("it was answered"), &mut out);
        answers.say("5".to_owned(), &mut out);
        assert_eq!(sent(&mut out), ["5"]);
    }

    #[test]
    fn what_is_late_or_lost_is_a_no_in_its_place() {
        let (mut answers, mut out) = (Answers::default(), Outbox::default());
        let failed = |method: &str, error: &str| Answer::to(method, "\"\"").failed(error);
        wait(&mut answers, "a", 2, &mut out);
        wait(&mut answers, "b", 1, &mut out);
        assert_eq!(answers.due(), Some(at(1)));
        answers.give_up_overdue(at(1), "late", &mut out);
        assert!(sent(&mut out).is_empty(), "a is still awaited");
        assert_eq!(answers.due(), Some(at(2)));
        answers.give_up("lost", &mut out);
        assert_eq!(sent(&mut out), [failed("a", "lost"), failed("b", "late")]);
        assert_eq!(answers.due(), None);
    }

    #[test]
    fn no_more_than_so_many_wait() {
        let (mut answers, mut out) = (Answers::default(), Outbox::default());
        wait(&mut answers, "first", 9, &mut out);
        for number in 1..MOST {
            answers.say(number.to_string(), &mut out);
        }
        assert!(sent(&mut out).is_empty());
        answers.say("last".to_owned(), &mut out);
        let told = sent(&mut out);
        assert_eq!(told.len(), MOST + 1);
        assert_eq!(told[0], Answer::to("first", "\"\"").failed("no answer"));
        for number in 0..MOST {
            wait(&mut answers, &number.to_string(), 9, &mut out);
        }
        wait(&mut answers, "one more", 9, &mut out);
        assert_eq!(sent(&mut out), [Answer::to("0", "\"\"").failed("no answer")]);
        assert_eq!(answers.slots.len(), MOST);
    }

    #[test]
    fn no_more_than_so_many_bytes_wait() {
        let (mut answers, mut out) = (Answers::default(), Outbox::default());
        let (first, second) = (wait(&mut answers, "first", 9, &mut out), wait(&mut answers, "second", 9, &mut out));
        answers.answered(second, |_| "x".repeat(MOST_BYTES), &mut out);
        assert!(sent(&mut out).is_empty(), "just as much as may wait");
        answers.say("y".to_owned(), &mut out);
        let told = sent(&mut out);
        assert_eq!((told.len(), &*told[0], &*told[2]), (3, &*Answer::to("first", "\"\"").failed("no answer"), "y"));
        answers.answered(first, |_| panic!("it was given up"), &mut out);
    }
}
