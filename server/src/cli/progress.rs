//! How far long work has come, on standard error, for whoever waits for it.
//!
//! What is done within a second says nothing. On a terminal one line is written over; elsewhere a line comes now and then, so that
//! a log stays short.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use gatepost_identity::clock::system_instant;

/// How long work may take before anything is said, and then how often on a terminal.
const SOON: Duration = Duration::from_secs(1);
/// How often elsewhere.
const SELDOM: Duration = Duration::from_secs(10);

/// The word on how far it has come.
pub(super) struct Progress {
    is_watched: bool,
    next: Instant,
    /// How many letters stand on the line that is written over.
    written: usize,
}

impl Progress {
    /// Of work that begins now.
    pub(super) fn new() -> Progress {
        Progress { is_watched: std::io::stderr().is_terminal(), next: system_instant() + SOON, written: 0 }
    }

    /// Says how far it has come, if it is time to.
    pub(super) fn tell(&mut self, text: impl FnOnce() -> String) {
        let now = system_instant();
        if now < self.next {
            return;
        }
        let text = text();
        let width = text.chars().count();
        let mut err = std::io::stderr().lock();
        // Nobody is worse off where it cannot be said.
        if self.is_watched {
            write!(err, "\r{text:before$}", before = self.written).and_then(|()| err.flush()).ok();
            (self.next, self.written) = (now + SOON, width);
        } else {
            writeln!(err, "{text}").ok();
            self.next = now + SELDOM;
        }
    }

    /// Waits for work that does not say how far it has come, and says for how many seconds it has been waited for.
    pub(super) async fn during<T>(&mut self, work: impl Future<Output = T>, what: &str) -> T {
        let began = system_instant();
        let mut work = std::pin::pin!(work);
        let done = loop {
            tokio::select! {
                done = &mut work => break done,
                () = tokio::time::sleep(SOON) => {
                    let seconds = system_instant().saturating_duration_since(began).as_secs();
                    self.tell(|| format!("{what}, for {seconds} s"));
                }
            }
        };
        self.clear();
        done
    }

    /// Takes the line away, so that what follows stands alone.
    pub(super) fn clear(&mut self) {
        if self.written > 0 {
            let mut err = std::io::stderr().lock();
            write!(err, "\r{:width$}\r", "", width = self.written).and_then(|()| err.flush()).ok();
            self.written = 0;
        }
    }
}
