//! One timer for all sockets: a wheel of seconds that wakes whoever asked to be woken.
//!
//! A socket needs a look every half minute; a timer of its own would cost each more memory than its conversation. Here a
//! waker waits in the slot of its second. To be woken too early, or after the socket has gone, harms nobody: whoever is
//! woken looks at the clock itself.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::task::Waker;
use std::time::{Duration, Instant};

/// More seconds than anybody waits for at once; later dues come around again.
const SLOTS: usize = 64;

/// The wheel.
pub struct Wheel {
    began: Instant,
    turned: AtomicU64,
    slots: Vec<Mutex<Vec<Waker>>>,
    stopping: AtomicBool,
}

impl Wheel {
    /// A wheel that begins to turn at `now`.
    pub fn new(now: Instant) -> Wheel {
        let slots = (0..SLOTS).map(|_| Mutex::default()).collect();
        Wheel { began: now, turned: AtomicU64::new(0), slots, stopping: AtomicBool::new(false) }
    }

    /// Wakes `waker` within a second after `due`, or when the wheel stops. Answers the moment of the wake-up.
    pub fn wake_at(&self, due: Instant, waker: &Waker) -> Instant {
        let second = due.saturating_duration_since(self.began).as_secs() + 1;
        loop {
            let next = self.turned.load(Ordering::Acquire) + 1;
            let second = second.clamp(next, next + SLOTS as u64 - 2);
            let mut slot = self.slot(second);
            // The wheel says that it turns before it takes a slot; so whoever finds it not turned yet is woken by it.
            if self.turned.load(Ordering::Acquire) < second {
                slot.push(waker.clone());
                return self.began + Duration::from_secs(second);
            }
        }
    }

    /// Turns to `now` and wakes whoever is due. To be called every second.
    pub fn turn(&self, now: Instant) {
        let now = now.saturating_duration_since(self.began).as_secs();
        let mut second = self.turned.load(Ordering::Acquire);
        while second < now {
            second += 1;
            // Whoever registers from here on comes into a later slot.
            self.turned.store(second, Ordering::Release);
            std::mem::take(&mut *self.slot(second)).into_iter().for_each(Waker::wake);
        }
    }

    /// Says that the server stops, and wakes everybody. Once.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
        self.wake_all();
    }

    /// Wakes everybody. Whoever is to be woken later is then woken as well: they do not ask again for what they have asked for.
    pub fn wake_all(&self) {
        self.slots.iter().for_each(|slot| {
            let wakers = slot.lock().unwrap_or_else(PoisonError::into_inner).clone();
            wakers.into_iter().for_each(Waker::wake);
        });
    }

    /// Whether the server stops.
    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    fn slot(&self, second: u64) -> std::sync::MutexGuard<'_, Vec<Waker>> {
        let index = usize::try_from(second % SLOTS as u64).unwrap_or(0);
        self.slots[index].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;
    use std::task::Wake;

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_waker_is_woken_once_within_a_second_after_its_due() {
        let began = gatepost_identity::clock::system_instant();
        let after = |millis| began + Duration::from_millis(millis);
        let wheel = Wheel::new(began);
        let count = Arc::new(Count::default());
        let woken = |wheel: &Wheel, millis| {
            wheel.turn(after(millis));
            count.0.swap(0, Ordering::Relaxed)
        };
        assert_eq!(wheel.wake_at(after(2500), &Waker::from(Arc::clone(&count))), after(3000));
        assert_eq!(woken(&wheel, 2999), 0);
        assert_eq!(woken(&wheel, 3000), 1);
        assert_eq!(woken(&wheel, 200_000), 0);
        wheel.wake_at(after(0), &Waker::from(Arc::clone(&count)));
        assert_eq!(woken(&wheel, 201_000), 1, "what is overdue comes at the next turn");
        wheel.wake_at(after(999_000), &Waker::from(Arc::clone(&count)));
        assert_eq!(woken(&wheel, 264_000), 1, "what is far off is woken early and asks again");
        wheel.wake_at(after(300_000), &Waker::from(Arc::clone(&count)));
        wheel.stop();
        assert_eq!(count.0.load(Ordering::Relaxed), 1);
        assert!(wheel.is_stopping());
    }
}
