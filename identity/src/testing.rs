//! What the unit tests of this crate share.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::Instant;

use crate::account::{Account, AccountId, Client, ClientId, Rights, Status, Username};
use crate::clock::{Clock, Timestamp, system_instant, system_now};
use crate::scope::Scopes;

/// The system's clock, without a timer: nothing here waits for a deadline.
pub(crate) struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        system_now()
    }

    fn instant(&self) -> Instant {
        system_instant()
    }

    fn sleep_until(&self, _: Instant) -> Pin<Box<dyn Future<Output = ()> + Send + 'static>> {
        Box::pin(std::future::pending())
    }
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Runs a future to its end on this thread.
pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut future = std::pin::pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(result) => return result,
            Poll::Pending => std::thread::park(),
        }
    }
}

/// An account in good standing.
pub(crate) fn account(name: &str) -> Account {
    Account {
        id: AccountId(uuid::Uuid::from_u128(1)),
        subject: name.to_owned(),
        name: Username::parse(name).expect("a name"),
        email: None,
        display_name: None,
        first_name: None,
        last_name: None,
        profile_url: None,
        status: Status::Active,
        expires_at: None,
        rights: Rights::default(),
        scopes: Scopes::default(),
        password: None,
        cut_off: Timestamp::default(),
        version: 1,
        created_at: Timestamp::default(),
    }
}

/// A public client in good standing.
pub(crate) fn client(id: &str) -> Client {
    Client {
        id: ClientId::parse(id).expect("an id"),
        display_name: None,
        secret: None,
        status: Status::Active,
        expires_at: None,
        scopes: Scopes::default(),
        receives_token: true,
        version: 1,
        created_at: Timestamp::default(),
    }
}
