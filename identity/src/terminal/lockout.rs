//! Too many wrong secrets of a terminal: who has to wait, and when no PIN is looked at by anybody.
//!
//! Pure functions of a count and a moment; where the counts are kept is the throttle's business. An attempt is counted as failed
//! before it is compared, and given back where it was not one, so that many at once are as many comparisons as are free.
//!
//! ```text
//! one source:    failures ──free, close together──► each further one waits first, twice the last
//!                                                        └──quiet, or the administrator's secret──► forgotten
//! the terminal:  failures ──as many in one window──► no PIN is compared for a while ──► forgotten
//! ```
//!
//! The second is what many sources together cannot get around. It leaves passwords and tokens alone, since else a crowd could keep
//! everybody out.

use std::time::Duration;

use super::LockOut;
use crate::clock::Timestamp;

/// How often something failed, and since when that counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Failures {
    /// How often.
    pub count: u32,
    /// Of a source: when it last did. Of a terminal: when the window began, or what is suspended was.
    pub since: Timestamp,
}

impl LockOut {
    /// How long a source has to wait before its next attempt is looked at; none: it need not.
    pub fn wait(&self, source: Failures, now: Timestamp) -> Option<Duration> {
        let count = self.standing(source, now);
        let doublings = count.checked_sub(self.free)?.min(30);
        let wait = self.first_wait.saturating_mul(1 << doublings).min(self.longest_wait);
        Some(wait.saturating_sub(now.since(source.since))).filter(|wait| !wait.is_zero())
    }

    /// A source's count with one failure more. One that has to wait is not looked at, and not counted.
    #[must_use]
    pub fn failed(&self, source: Failures, now: Timestamp) -> Failures {
        Failures { count: self.standing(source, now).saturating_add(1), since: now }
    }

    /// The failures of a source that still count: until they led to a wait, those that followed each other closely; from then on,
    /// until the source was quiet for long.
    pub(crate) fn standing(&self, source: Failures, now: Timestamp) -> u32 {
        let counts_for = if source.count < self.free { self.within } else { self.forget_after };
        if now.since(source.since) < counts_for { source.count } else { 0 }
    }

    /// For how long no PIN of a terminal is looked at; none: they are.
    pub fn pins_wait(&self, terminal: Failures, now: Timestamp) -> Option<Duration> {
        let left = self.pins_suspended.saturating_sub(now.since(terminal.since));
        (terminal.count >= self.pins_free && !left.is_zero()).then_some(left)
    }

    /// The failures on a terminal that still count.
    pub(crate) fn standing_on_terminal(&self, terminal: Failures, now: Timestamp) -> u32 {
        let over = if terminal.count >= self.pins_free { self.pins_suspended } else { self.pins_within };
        if now.since(terminal.since) >= over { 0 } else { terminal.count }
    }

    /// A terminal's count with one failure more.
    #[must_use]
    pub fn failed_on_terminal(&self, terminal: Failures, now: Timestamp) -> Failures {
        if self.standing_on_terminal(terminal, now) == 0 {
            return Failures { count: 1, since: now };
        }
        let count = terminal.count.saturating_add(1);
        // The one that fills the window begins the wait; one that comes later, because it was under way, does not prolong it.
        Failures { count, since: if count == self.pins_free { now } else { terminal.since } }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_millis(1_900_000_000_000).after(Duration::from_secs(seconds))
    }

    fn seconds(wait: Option<Duration>) -> Option<u64> {
        wait.map(|wait| wait.as_secs())
    }

    #[test]
    fn five_are_free_and_each_further_one_waits_twice_as_long() {
        let lock_out = LockOut::default();
        let (mut source, mut now) = (Failures::default(), 0);
        for _ in 0..5 {
            assert_eq!(lock_out.wait(source, at(now)), None);
            source = lock_out.failed(source, at(now));
        }
        for wait in [30, 60, 120, 240, 480, 900, 900] {
            assert_eq!(seconds(lock_out.wait(source, at(now))), Some(wait));
            assert_eq!(seconds(lock_out.wait(source, at(now + wait - 1))), Some(1));
            now += wait;
            assert_eq!(lock_out.wait(source, at(now)), None);
            source = lock_out.failed(source, at(now));
        }
        assert_eq!(seconds(lock_out.wait(source, at(now))), Some(900));
        assert_eq!(lock_out.failed(source, at(now + 30 * 60)).count, 1, "after thirty quiet minutes all is forgotten");
        assert_eq!(lock_out.failed(source, at(now + 30 * 60 - 1)).count, 13);
    }

    #[test]
    fn failures_that_are_far_apart_lead_to_no_wait() {
        let lock_out = LockOut::default();
        let mut source = Failures::default();
        for number in 0..100 {
            assert_eq!(lock_out.wait(source, at(number * 300)), None);
            source = lock_out.failed(source, at(number * 300));
        }
        assert_eq!(source.count, 1);
        assert_eq!(lock_out.failed(source, at(99 * 300 + 299)).count, 2);
    }

    #[test]
    fn a_client_that_repeats_a_wrong_pin_every_ten_seconds_comes_in_after_the_wait_once_it_is_right() {
        let lock_out = LockOut::default();
        let mut source = Failures::default();
        let mut told = String::new();
        for number in 0..12 {
            let waits = lock_out.wait(source, at(number * 10)).is_some();
            told.push(if waits { '6' } else { '8' });
            if !waits {
                source = lock_out.failed(source, at(number * 10));
            }
        }
        assert_eq!(told, "888886686666");
        // Corrected meanwhile, it is looked at again as soon as the wait is over.
        assert_eq!(seconds(lock_out.wait(source, at(129))), Some(1));
        assert_eq!(lock_out.wait(source, at(130)), None);
    }

    /// How many of a crowd's guesses are compared that come so far apart, each from a source of its own.
    fn compared(guesses: u64, apart_millis: u64) -> usize {
        let lock_out = LockOut::default();
        let mut terminal = Failures::default();
        let mut compared = 0;
        for number in 0..guesses {
            let now = at(0).after(Duration::from_millis(number * apart_millis));
            if lock_out.pins_wait(terminal, now).is_none() {
                terminal = lock_out.failed_on_terminal(terminal, now);
                compared += 1;
            }
        }
        compared
    }

    #[test]
    fn many_sources_together_have_fifty_guesses() {
        assert_eq!(compared(10_000, 0), 50, "all of four digits at once");
        assert_eq!(compared(10_000, 60), 50, "and over ten minutes");
        // One every thirteen seconds never fills a window; nobody can guess faster for long.
        assert_eq!(compared(1_000, 13_000), 1_000);
        assert!(compared(24 * 60 * 60, 1_000) < 24 * 6 * 50, "a day of guesses");
    }

    #[test]
    fn what_was_suspended_is_looked_at_again_and_one_under_way_does_not_prolong_it() {
        let lock_out = LockOut::default();
        let full = Failures { count: lock_out.pins_free, since: at(0) };
        assert_eq!(seconds(lock_out.pins_wait(full, at(1))), Some(599));
        assert_eq!(lock_out.pins_wait(full, at(600)), None);
        let late = lock_out.failed_on_terminal(full, at(5));
        assert_eq!(late, Failures { count: lock_out.pins_free + 1, since: at(0) });
        assert_eq!(lock_out.failed_on_terminal(full, at(600)), Failures { count: 1, since: at(600) });
        assert_eq!(lock_out.pins_wait(Failures { count: lock_out.pins_free - 1, since: at(0) }, at(1)), None);
    }

    #[test]
    fn a_clock_that_steps_back_frees_nobody() {
        let lock_out = LockOut::default();
        let source = Failures { count: 5, since: at(100) };
        assert_eq!(seconds(lock_out.wait(source, at(0))), Some(30));
        assert_eq!(lock_out.failed(source, at(0)).count, 6);
        assert_eq!(seconds(lock_out.pins_wait(Failures { count: 50, since: at(100) }, at(0))), Some(600));
    }
}
