//! What time it is and what is random: the only place that asks either.
//!
//! Everything else takes a [`Timestamp`] or drawn bytes as data, so that a test can say what time it is and a transcript
//! stays exact. It refuses to know what the time is used for.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
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
    /// The wall clock. It may step either way.
    fn now(&self) -> Timestamp;
    /// The monotonic clock, for deadlines.
    fn instant(&self) -> Instant;
    /// Completes at `deadline` on the monotonic clock.
    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn Future<Output = ()> + Send + 'static>>;
}

/// The system's wall clock, in milliseconds.
#[expect(clippy::disallowed_methods, reason = "this is the one place that asks the system for the time")]
pub fn system_now() -> Timestamp {
    let since_epoch = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX))
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
