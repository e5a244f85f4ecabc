//! The order in which connections are told that the server stops.
//!
//! Everybody at once would come back at once, so each connection draws a number and waits until it is called: so many a second as
//! the operator allows, and more where the time would not suffice. Until then it is served as ever. It refuses to know what a
//! connection is told; its gate does.
//!
//! ```text
//! begin ─► draw ─► called ─► the gate's goodbye
//! ```

use std::num::NonZeroU32;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Waker};
use std::time::Duration;

/// Who waits to be told.
#[derive(Default)]
pub struct Farewell {
    begun: AtomicBool,
    /// Whom nothing else wakes when it begins.
    asleep: Mutex<Asleep>,
    drawn: AtomicUsize,
    called: AtomicUsize,
    /// Who waits, by number; those that were called are taken out.
    waiting: Mutex<Vec<Option<Waker>>>,
}

/// Tasks by place, and the places that are free.
#[derive(Default)]
struct Asleep {
    tasks: Vec<Option<Waker>>,
    free: Vec<u32>,
}

/// The number of a connection in the order in which goodbyes are said; the first is 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Number(NonZeroU32);

/// How far a connection has come that waits for its turn from its beginning on. It is to be given back with [`Farewell::leave`].
#[derive(Debug, Default)]
pub enum Waiting {
    /// Nobody knows of it yet.
    #[default]
    Unknown,
    /// It is woken, from this place, when the server stops.
    Asleep(u32),
    /// The server stops, and it has a number.
    Drawn(Number),
    /// It was told.
    Told,
}

impl Farewell {
    /// Whether the server stops. Whoever comes now should go elsewhere.
    pub fn has_begun(&self) -> bool {
        self.begun.load(Ordering::Acquire)
    }

    /// Says that the server stops. Whoever waits for their turn is woken, and draws a number.
    pub fn begin(&self) {
        self.begun.store(true, Ordering::Release);
        let woken: Vec<Waker> = self.asleep().tasks.iter_mut().filter_map(Option::take).collect();
        woken.into_iter().for_each(Waker::wake);
    }

    /// A number, behind everybody who has one.
    pub fn draw(&self) -> Number {
        let before = u32::try_from(self.drawn.fetch_add(1, Ordering::AcqRel)).unwrap_or(u32::MAX);
        Number(NonZeroU32::MIN.saturating_add(before))
    }

    /// How many numbers were drawn.
    pub fn drawn(&self) -> usize {
        self.drawn.load(Ordering::Acquire)
    }

    /// Whether this number was called.
    pub fn is_called(&self, number: Number) -> bool {
        self.called.load(Ordering::Acquire) >= number.0.get() as usize
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
        let place = number.0.get() as usize - 1;
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

    /// Whether the server stops and it is this connection's turn to be told, which is said once. Until then its task is woken when
    /// it may be.
    pub fn poll_turn(&self, turn: &mut Waiting, waking: &Context<'_>) -> bool {
        if !self.has_begun() && self.falls_asleep(turn, waking) {
            return false;
        }
        let number = match *turn {
            Waiting::Told => return false,
            Waiting::Drawn(number) => number,
            Waiting::Unknown | Waiting::Asleep(_) => {
                self.leave(turn);
                let number = self.draw();
                *turn = Waiting::Drawn(number);
                number
            }
        };
        let is_called = self.poll_called(number, waking);
        if is_called {
            *turn = Waiting::Told;
        }
        is_called
    }

    /// Gives the place of a connection back.
    pub fn leave(&self, turn: &mut Waiting) {
        if let Waiting::Asleep(place) = std::mem::take(turn) {
            let mut asleep = self.asleep();
            asleep.tasks[place as usize] = None;
            asleep.free.push(place);
        }
    }

    /// `false`: it has begun meanwhile.
    fn falls_asleep(&self, turn: &mut Waiting, waking: &Context<'_>) -> bool {
        // A connection is polled by one task for as long as it lives, so the first waker is as good as any later one.
        if matches!(turn, Waiting::Asleep(_)) {
            return true;
        }
        let mut asleep = self.asleep();
        // Whoever begins takes the lock after having said so.
        if self.has_begun() {
            return false;
        }
        let place = asleep.free.pop().unwrap_or_else(|| {
            asleep.tasks.push(None);
            u32::try_from(asleep.tasks.len() - 1).unwrap_or(u32::MAX)
        });
        asleep.tasks[place as usize] = Some(waking.waker().clone());
        *turn = Waiting::Asleep(place);
        true
    }

    fn asleep(&self) -> MutexGuard<'_, Asleep> {
        self.asleep.lock().unwrap_or_else(PoisonError::into_inner)
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

    #[test]
    fn a_turn_comes_once_the_server_stops_and_not_before() {
        let farewell = Farewell::default();
        let context = Context::from_waker(Waker::noop());
        let (mut first, mut second, mut gone) = (Waiting::default(), Waiting::default(), Waiting::default());
        for turn in [&mut first, &mut second, &mut gone] {
            assert!(!farewell.poll_turn(turn, &context), "nobody is told while the server goes on");
        }
        farewell.leave(&mut gone);
        assert!(!farewell.poll_turn(&mut gone, &context));
        assert_eq!(farewell.asleep().tasks.len(), 3, "a place that was given back is taken again");
        farewell.begin();
        assert_eq!(farewell.asleep().tasks.iter().flatten().count(), 0, "everybody is woken");
        assert!(!farewell.poll_turn(&mut second, &context) && !farewell.poll_turn(&mut first, &context));
        farewell.call(1);
        assert!(farewell.poll_turn(&mut second, &context) && !farewell.poll_turn(&mut first, &context), "who came first is first");
        farewell.call(2);
        assert!(farewell.poll_turn(&mut first, &context));
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
