//! The core's clock over the system's clock and tokio's timer.

use std::future::Future;
use std::pin::Pin;
use std::time::Instant;

use gatepost_identity::clock::{Clock, Timestamp, system_instant, system_now};

/// Real time.
pub struct RealClock;

impl Clock for RealClock {
    fn now(&self) -> Timestamp {
        system_now()
    }

    fn instant(&self) -> Instant {
        system_instant()
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn Future<Output = ()> + Send + 'static>> {
        Box::pin(tokio::time::sleep_until(deadline.into()))
    }
}
