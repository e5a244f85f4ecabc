//! What ties a connection to its session, and the place where events wait for it.

use std::fmt;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use futures_util::task::AtomicWaker;

use super::Live;
use super::served::Served;
use crate::command::ConnectionId;
use crate::reply::Event;

/// What befell a connection and was not yet collected. The last word stands: a change that another change or the end
/// overtakes need not be told, so that a peer that never listens costs no memory.
#[derive(Default)]
pub(crate) struct Mailbox {
    event: Mutex<Option<Event>>,
    waker: AtomicWaker,
}

impl Mailbox {
    pub(crate) fn put(&self, event: Event) {
        *self.event.lock().unwrap_or_else(PoisonError::into_inner) = Some(event);
        self.waker.wake();
    }
}

/// Where a connection is attached.
pub(super) enum Place {
    /// To a session.
    Live(Arc<Live>),
    /// To a terminal.
    Terminal(Arc<Served>),
}

/// What ties a connection to its session. Dropping it is how the core learns that the connection is gone.
pub struct Attachment {
    pub(super) place: Place,
    pub(super) connection: ConnectionId,
    pub(super) number: u64,
    pub(super) mailbox: Arc<Mailbox>,
}

impl Attachment {
    /// The next event, when there is one. For one task only.
    pub async fn next(&self) -> Event {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    /// As [`Attachment::next`], for a driver that polls several things.
    pub fn poll_next(&self, cx: &mut Context<'_>) -> Poll<Event> {
        self.mailbox.waker.register(cx.waker());
        match self.mailbox.event.lock().unwrap_or_else(PoisonError::into_inner).take() {
            Some(event) => Poll::Ready(event),
            None => Poll::Pending,
        }
    }
}

impl Attachment {
    /// Whether the connection has lost what it held, though it may not have been told yet: others are to be answered first.
    pub fn is_over(&self) -> bool {
        match &self.place {
            // A role passes from hand to hand; a session has no one hand.
            Place::Live(_) => false,
            Place::Terminal(served) => !served.is_held_by(self.connection),
        }
    }
}

impl Drop for Attachment {
    fn drop(&mut self) {
        match &self.place {
            Place::Live(live) => live.detach_dropped(self.connection, self.number),
            Place::Terminal(served) => served.detach_dropped(self.connection, self.number),
        }
    }
}

impl fmt::Debug for Attachment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Attachment").field("connection", &self.connection).finish_non_exhaustive()
    }
}
