//! What is counted of the store, for whoever watches: how long commits take, and how many came to nothing.
//!
//! It refuses to know who reads the numbers.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use gatepost_identity::counts::Durations;

/// Among what commits are sorted: a sync takes a fraction of a millisecond on a good disk, and seconds on one that is dying.
const BOUNDS: &[Duration] = &[
    Duration::from_micros(250),
    Duration::from_micros(500),
    Duration::from_millis(1),
    Duration::from_micros(2_500),
    Duration::from_millis(5),
    Duration::from_millis(10),
    Duration::from_millis(25),
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(250),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(5),
];

/// The numbers of one store. They only grow.
pub struct Figures {
    commits: Durations,
    failures: AtomicU64,
}

impl Default for Figures {
    fn default() -> Figures {
        Figures { commits: Durations::new(BOUNDS), failures: AtomicU64::new(0) }
    }
}

impl Figures {
    /// How long each commit took, from the beginning of its transaction until it was on disk. Many writes share one.
    pub fn commits(&self) -> &Durations {
        &self.commits
    }

    /// How many transactions came to nothing, because the disk is full, broken or held by somebody else.
    pub fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }

    pub(crate) fn committed(&self, took: Duration) {
        self.commits.record(took);
    }

    pub(crate) fn failed(&self) {
        self.failures.fetch_add(1, Ordering::Relaxed);
    }
}
