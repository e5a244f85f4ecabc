//! Descriptors of files: how many there may be, and for whom the last of them are.
//!
//! Each connection takes one. The limit is raised as far as it goes when the server begins. The last few are a reserve for operators,
//! for the database and its copies, and for the few connections that are nobody's: a connection of a peer, and one to a service that
//! is opened for a peer, that would take one of them is turned away.
//! The system gives out the lowest number that is free, so that the number itself tells how many are taken. Where accepting fails all
//! the same, it is tried again a little later, and sooner or later goes on. It refuses to know who connects.

use std::future::Future;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::time::Instant;

/// How many are kept back, or a quarter of all where these are few.
const RESERVE: u64 = 64;
/// How long to wait after a connection could not be accepted, at first and at most, so that a lack of descriptors does not spin.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);
/// How long it is until the log says again that something could not be accepted.
const SAID_AGAIN: Duration = Duration::from_secs(60);

/// What came of raising the limit.
#[derive(Debug)]
pub struct Raised {
    before: Option<u64>,
    result: Result<(), Errno>,
}

/// Raises the limit of this process as far as the system lets it.
pub fn raise() -> Raised {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let result = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    Raised { before: current, result }
}

impl Raised {
    /// Says in the log what the limit is now.
    pub fn say(&self) {
        let limits = [self.before, getrlimit(Resource::Nofile).current];
        let [before, now] = limits.map(|limit| limit.map_or("any number of".to_owned(), |limit| limit.to_string()));
        match self.result {
            Ok(()) if before == now => tracing::info!(limit = now, "{now} files may be open, which is all that is allowed"),
            Ok(()) => tracing::info!(limit = now, before, "{now} files may be open, raised from {before}"),
            Err(error) => tracing::warn!(%error, limit = now, "{now} files may be open, and no more: {error}"),
        }
    }
}

/// How many may be taken by connections, at most: what is not the reserve. None: any number.
pub fn for_connections() -> Option<u64> {
    getrlimit(Resource::Nofile).current.map(|limit| limit - reserve(limit))
}

/// Whether this one is of the reserve.
pub fn is_reserved(descriptor: &impl AsFd) -> bool {
    let number = u64::try_from(descriptor.as_fd().as_raw_fd()).unwrap_or(0);
    for_connections().is_some_and(|most| number >= most)
}

fn reserve(limit: u64) -> u64 {
    RESERVE.min(limit / 4)
}

/// What comes to one listener, whatever befalls the accepting of it.
pub(crate) struct Queue {
    /// What operators are told it is.
    name: String,
    pause: Duration,
    /// How often in a row it has failed.
    failed: u64,
    said: Option<Instant>,
}

impl Queue {
    pub(crate) fn of(name: impl Into<String>) -> Queue {
        Queue { name: name.into(), pause: FIRST_PAUSE, failed: 0, said: None }
    }

    /// The next that `accept` yields.
    pub(crate) async fn next<T, Accepting>(&mut self, mut accept: impl FnMut() -> Accepting) -> T
    where
        Accepting: Future<Output = io::Result<T>>,
    {
        loop {
            match accept().await {
                Ok(accepted) => {
                    self.goes_on();
                    return accepted;
                }
                // Whoever knocked is gone again, which says nothing of us.
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) => {
                    self.has_failed(&error);
                    tokio::time::sleep(self.pause).await;
                    self.pause = (self.pause * 2).min(LONGEST_PAUSE);
                }
            }
        }
    }

    fn has_failed(&mut self, error: &io::Error) {
        self.failed += 1;
        if self.said.is_none_or(|said| said.elapsed() >= SAID_AGAIN) {
            self.said = Some(Instant::now());
            let name = &self.name;
            tracing::warn!(listener = name, %error, "{name}: a connection could not be accepted: {error}");
        }
    }

    fn goes_on(&mut self) {
        if self.failed > 0 {
            let (name, failed) = (&self.name, self.failed);
            tracing::debug!(listener = name, failed, "{name}: connections are accepted again");
        }
        (self.failed, self.pause) = (0, FIRST_PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reserve_is_kept_of_few_and_of_many() {
        let kept = [8, 64, 256, 1024, 1_048_576].map(reserve);
        assert_eq!(kept, [2, 16, 64, 64, 64]);
    }

    #[test]
    fn the_descriptors_of_a_process_with_few_of_them_open_are_no_reserve() {
        let file = std::fs::File::open("/dev/null").expect("it is there");
        assert!(!is_reserved(&file));
    }

    #[tokio::test]
    async fn accepting_goes_on_however_often_it_has_failed_and_does_not_spin() {
        let mut queue = Queue::of("here");
        for (failures, least) in [(0_u32, Duration::ZERO), (1, FIRST_PAUSE), (4, FIRST_PAUSE * 15), (1, FIRST_PAUSE)] {
            let (mut left, began) = (failures, Instant::now());
            let accepted = queue
                .next(|| {
                    let result = if left == 0 { Ok(failures) } else { Err(io::Error::from(Errno::MFILE)) };
                    left = left.saturating_sub(1);
                    std::future::ready(result)
                })
                .await;
            assert_eq!((accepted, left), (failures, 0));
            assert!(began.elapsed() >= least, "{failures} failures took {:?}", began.elapsed());
            assert_eq!((queue.failed, queue.pause), (0, FIRST_PAUSE), "and begins anew");
        }
    }

    #[tokio::test]
    async fn one_that_has_gone_again_is_not_waited_for() {
        let mut queue = Queue::of("here");
        let mut failures = 1000;
        let began = Instant::now();
        let kind = io::ErrorKind::ConnectionAborted;
        queue
            .next(|| {
                failures -= 1;
                std::future::ready(if failures > 0 { Err(kind.into()) } else { Ok(()) })
            })
            .await;
        assert!(began.elapsed() < FIRST_PAUSE * 500, "{:?}", began.elapsed());
    }
}
