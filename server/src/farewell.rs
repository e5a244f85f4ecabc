//! The order in which connections are told that the server stops.
//!
//! Everybody at once would come back at once, so each connection draws a number and waits until it is called: so many a second as
//! the operator allows, and more where the time would not suffice. Until then it is served as ever. It refuses to know what a
//! connection is told; its gate does.
//!
//! ```text
//! begin ─► draw ─► called ─► the gate's goodbye
//! ```

use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::sync::Notify;

/// Who waits to be told.
#[derive(Default)]
pub struct Farewell {
    begun: AtomicBool,
    begins: Notify,
    drawn: AtomicUsize,
    called: AtomicUsize,
    /// Who waits, by number; those that were called are taken out.
    waiting: Mutex<Vec<Option<Waker>>>,
}

/// The number of a connection in the order in which goodbyes are said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Number(u32);

impl Farewell {
    /// Whether the server stops. Whoever comes now should go elsewhere.
    pub fn has_begun(&self) -> bool {
        self.begun.load(Ordering::Acquire)
    }

    /// Says that the server stops. Whoever waits in [`Farewell::turn`] draws a number.
    pub fn begin(&self) {
        self.begun.store(true, Ordering::Release);
        self.begins.notify_waiters();
    }

    /// A number, behind everybody who has one.
    pub fn draw(&self) -> Number {
        Number(u32::try_from(self.drawn.fetch_add(1, Ordering::AcqRel)).unwrap_or(u32::MAX))
    }

    /// How many numbers were drawn.
    pub fn drawn(&self) -> usize {
        self.drawn.load(Ordering::Acquire)
    }

    /// Whether this number was called.
    pub fn is_called(&self, number: Number) -> bool {
        self.called.load(Ordering::Acquire) > number.0 as usize
    }

    /// As [`Farewell::is_called`]; where it was not, the task is woken when it is.
    pub fn poll_called(&self, number: Number, waking: &Context<'_>) -> bool {
        if self.is_called(number) {
            return true;
        }
        let mut waiting = self.waiting();
        // The call takes the lock too: either it is seen here, or it sees who waits.
        if self.is_called(number) {
            return true;
        }
        let place = number.0 as usize;
        if waiting.len() <= place {
            waiting.resize(place + 1, None);
        }
        match &mut waiting[place] {
            Some(waker) => waker.clone_from(waking.waker()),
            empty => *empty = Some(waking.waker().clone()),
        }
        false
    }

    /// Calls the numbers up to the `count`th.
    pub fn call(&self, count: usize) {
        let mut waiting = self.waiting();
        let before = self.called.fetch_max(count, Ordering::AcqRel);
        let end = count.min(waiting.len());
        let woken: Vec<Waker> = waiting.get_mut(before.min(end)..end).into_iter().flatten().filter_map(Option::take).collect();
        drop(waiting);
        woken.into_iter().for_each(Waker::wake);
    }

    /// Waits until the server stops and it is this connection's turn to be told.
    pub async fn turn(&self) {
        let begins = self.begins.notified();
        // What is said after the line above is heard, so nothing falls between the two.
        if !self.has_begun() {
            begins.await;
        }
        let number = self.draw();
        poll_fn(|waking| if self.poll_called(number, waking) { Poll::Ready(()) } else { Poll::Pending }).await;
    }

    fn waiting(&self) -> MutexGuard<'_, Vec<Option<Waker>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How fast numbers are called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// So many a second, or more, where otherwise not everybody would have been called in time.
    pub rate: u32,
    /// By when everybody is to be called.
    pub within: Duration,
}

impl Pace {
    /// How many are to be called so long after the beginning, of so many.
    pub fn due(self, elapsed: Duration, of: usize) -> usize {
        if elapsed >= self.within {
            return usize::MAX;
        }
        let by_rate = elapsed.as_millis().saturating_mul(u128::from(self.rate)) / 1000;
        let in_time = elapsed.as_millis().saturating_mul(of as u128) / self.within.as_millis().max(1);
        // The first one waits for nobody.
        usize::try_from(by_rate.max(in_time)).unwrap_or(usize::MAX).saturating_add(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_called_in_their_order_and_whoever_waits_is_woken() {
        let farewell = Farewell::default();
        let context = Context::from_waker(Waker::noop());
        let numbers = [farewell.draw(), farewell.draw(), farewell.draw()];
        assert!(numbers.iter().all(|number| !farewell.poll_called(*number, &context)));
        farewell.call(2);
        assert_eq!(numbers.map(|number| farewell.is_called(number)), [true, true, false]);
        let waits = |farewell: &Farewell| farewell.waiting().iter().flatten().count();
        assert_eq!(waits(&farewell), 1);
        farewell.call(1);
        assert_eq!(numbers.map(|number| farewell.is_called(number)), [true, true, false], "nobody is called back");
        farewell.call(usize::MAX);
        assert_eq!(waits(&farewell), 0);
        assert!(farewell.poll_called(farewell.draw(), &context), "who comes after everybody was called is told at once");
    }

    #[tokio::test]
    async fn a_turn_comes_once_the_server_stops_and_not_before() {
        let farewell = std::sync::Arc::new(Farewell::default());
        farewell.call(5);
        let early = tokio::time::timeout(Duration::from_millis(20), farewell.turn()).await;
        assert!(early.is_err(), "nobody is told while the server goes on");
        let waiting = std::sync::Arc::clone(&farewell);
        let waiting = tokio::spawn(async move { waiting.turn().await });
        tokio::task::yield_now().await;
        farewell.begin();
        tokio::time::timeout(Duration::from_secs(60), waiting).await.expect("it is its turn").expect("no panic");
        tokio::time::timeout(Duration::from_secs(60), farewell.turn()).await.expect("so is that of whoever comes later");
    }

    #[test]
    fn the_pace_is_as_set_or_as_fast_as_the_time_demands() {
        let pace = Pace { rate: 100, within: Duration::from_secs(10) };
        let due = |millis, of| pace.due(Duration::from_millis(millis), of);
        assert_eq!([due(0, 500), due(1000, 500), due(2500, 500)], [1, 101, 251]);
        assert_eq!([due(1000, 5000), due(5000, 5000)], [501, 2501], "five thousand in ten seconds");
        assert_eq!(due(10_000, 5), usize::MAX);
        assert_eq!(Pace { rate: 1, within: Duration::ZERO }.due(Duration::ZERO, 9), usize::MAX);
    }
}
