//! What time it is and what is random: the only place that asks either.
//!
//! Everything else takes a [`Timestamp`] or drawn bytes as data, so that a test can say what time it is and a transcript
//! stays exact. It refuses to know what the time is used for.
//!
//! Within one process the wall clock never runs back. Where the machine's is set back, [`system_now`] goes on from the latest
//! moment that it told, by the steady clock: what has ended stays ended, and nothing lives longer than it was given.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::{Duration, Instant};

/// A moment: milliseconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(i64);

impl Timestamp {
    /// From milliseconds since the Unix epoch.
    pub const fn from_millis(millis: i64) -> Timestamp {
        Timestamp(millis)
    }

    /// Milliseconds since the Unix epoch.
    pub const fn millis(self) -> i64 {
        self.0
    }

    /// The moment `span` later; stays at the end of time instead of wrapping.
    #[must_use]
    pub fn after(self, span: Duration) -> Timestamp {
        Timestamp(self.0.saturating_add(i64::try_from(span.as_millis()).unwrap_or(i64::MAX)))
    }

    /// How long after `earlier` this is; zero where it is before it.
    pub fn since(self, earlier: Timestamp) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}ms", self.0)
    }
}

/// Time as the core sees it. `server` implements it over the system clock and tokio's timer.
pub trait Clock: Send + Sync + 'static {
    /// The wall clock. It may step forwards, and never runs back while the process lives.
    fn now(&self) -> Timestamp;
    /// The monotonic clock, for deadlines.
    fn instant(&self) -> Instant;
    /// Completes at `deadline` on the monotonic clock.
    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn Future<Output = ()> + Send + 'static>>;
}

/// The system's wall clock, in milliseconds; where that was set back, what it would say had it not been.
pub fn system_now() -> Timestamp {
    static FLOOR: Floor = Floor::new();
    static BEGAN: OnceLock<Instant> = OnceLock::new();
    let began = *BEGAN.get_or_init(system_instant);
    // The wall clock first: a thread that is held up between the two then errs towards the past, and sets no floor too high.
    let wall = wall_micros();
    FLOOR.told(wall, system_instant().saturating_duration_since(began))
}

/// Microseconds since the Unix epoch, as the machine has them.
#[expect(clippy::disallowed_methods, reason = "this is the one place that asks the system for the time")]
fn wall_micros() -> i64 {
    let since_epoch = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    micros(since_epoch)
}

fn micros(span: Duration) -> i64 {
    i64::try_from(span.as_micros()).unwrap_or(i64::MAX)
}

/// By what part of the time that passes the floor lags, so that it and the machine's clock meet again: a leap second is over in a
/// quarter of an hour, an hour in six weeks. A token of an hour lives four seconds longer by it.
const LAG: i64 = 1000;
/// By how many microseconds the machine's clock may be behind before the log says so.
const NOTABLE: i64 = 1_000_000;

/// Below what the wall clock is not told: the latest moment that was, and the time since then by the steady clock.
struct Floor {
    /// The most that the wall clock was ever ahead of the lagging steady one, in microseconds.
    ahead: AtomicI64,
    /// Whether the log has been told that the machine's clock is behind.
    said: AtomicBool,
}

impl Floor {
    const fn new() -> Floor {
        Floor { ahead: AtomicI64::new(i64::MIN), said: AtomicBool::new(false) }
    }

    /// What time it is where the machine says `wall`, in microseconds, `steady` after the process began.
    fn told(&self, wall: i64, steady: Duration) -> Timestamp {
        let steady = micros(steady);
        let steady = steady - steady / LAG;
        let here = wall.saturating_sub(steady);
        let mut ahead = self.ahead.load(Ordering::Relaxed);
        if here > ahead {
            ahead = self.ahead.fetch_max(here, Ordering::Relaxed).max(here);
        }
        let behind = ahead.saturating_sub(here);
        if behind == 0 && self.said.load(Ordering::Relaxed) {
            self.said.store(false, Ordering::Relaxed);
        } else if behind > NOTABLE && !self.said.swap(true, Ordering::Relaxed) {
            let seconds = behind / 1_000_000;
            tracing::warn!(seconds, "the machine's clock was set back; time goes on {seconds} s ahead of it until the next start");
        }
        Timestamp(ahead.saturating_add(steady) / 1000)
    }
}

/// The system's monotonic clock.
#[expect(clippy::disallowed_methods, reason = "this is the one place that asks the system for the time")]
pub fn system_instant() -> Instant {
    Instant::now()
}

/// Chance. A trait, so that tests can draw the same bytes twice.
pub trait Entropy: Send + Sync + 'static {
    /// Fills `bytes` with bytes that nobody can guess.
    fn fill(&self, bytes: &mut [u8]);
}

/// The cryptographic generator of the system's library.
pub struct SystemEntropy;

impl Entropy for SystemEntropy {
    #[expect(clippy::disallowed_methods, reason = "this is the one place that draws")]
    fn fill(&self, bytes: &mut [u8]) {
        // The generator fails only where the system has none; a server without chance must not run on.
        aws_lc_rs::rand::fill(bytes).expect("the system's random generator answers");
    }
}

/// `N` fresh random bytes.
pub fn draw<const N: usize>(entropy: &dyn Entropy) -> [u8; N] {
    let mut bytes = [0; N];
    entropy.fill(&mut bytes);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3600 * 1000;
    const NOON: i64 = 1_800_000_000_000;

    /// What is told where the machine says this, so long after the beginning; all in milliseconds.
    fn told(floor: &Floor, wall: i64, steady: i64) -> i64 {
        floor.told(wall * 1000, Duration::from_millis(u64::try_from(steady).expect("later"))).millis()
    }

    #[test]
    fn a_clock_that_is_right_is_told_as_it_is_and_one_that_is_set_forwards_too() {
        let floor = Floor::new();
        for (wall, steady) in [(0, 0), (1, 1), (HOUR, HOUR), (3 * HOUR, HOUR), (4 * HOUR, 2 * HOUR)] {
            assert_eq!(told(&floor, NOON + wall, steady), NOON + wall);
        }
    }

    #[test]
    fn a_clock_that_is_set_back_goes_on_from_the_latest_moment_by_the_steady_one() {
        let floor = Floor::new();
        told(&floor, NOON, 0);
        // An hour back, and half an hour passes, a thousandth of it slower.
        assert_eq!(told(&floor, NOON - HOUR, 0), NOON);
        assert_eq!(told(&floor, NOON - HOUR / 2, HOUR / 2), NOON + HOUR / 2 - HOUR / 2000);
        // Once the machine is right again, so are we.
        assert_eq!(told(&floor, NOON + HOUR, HOUR), NOON + HOUR);
    }

    #[test]
    fn whatever_the_machine_says_time_never_runs_back() {
        let floor = Floor::new();
        let mut last = i64::MIN;
        for steady in 0..5000 {
            // Any walk: forwards, backwards, and to where there is no time.
            let wall = [NOON, NOON + HOUR, NOON - HOUR, 0, NOON + 7, i64::MAX / 2000][steady as usize * 7919 % 5];
            let now = told(&floor, wall + steady, steady);
            assert!(now >= last, "{now} after {last}");
            last = now;
        }
    }

    #[test]
    fn a_leap_second_is_made_up_for_within_a_quarter_of_an_hour() {
        let floor = Floor::new();
        told(&floor, NOON, 0);
        assert!(told(&floor, NOON, 1000) > NOON, "a second is told twice");
        assert_eq!(told(&floor, NOON - 1000 + HOUR / 3, HOUR / 3), NOON - 1000 + HOUR / 3);
    }

    #[test]
    fn within_a_suspend_the_wall_clock_goes_on_and_is_believed() {
        let floor = Floor::new();
        told(&floor, NOON, 0);
        assert_eq!(told(&floor, NOON + 9 * HOUR, 1), NOON + 9 * HOUR);
    }
}
