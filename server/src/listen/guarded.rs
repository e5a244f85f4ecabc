//! A connection as the HTTP library gets it: what comes in has been followed already, and who keeps it waiting is given up.
//!
//! ```text
//! wire ─► followed by `framing.rs` ─► library        a head that is not whole in time: the connection ends
//!                     └─ refused: the library has what it must refuse, too, and nothing of what comes then
//! wire ◄─ patience, longer by what is read ◄─ library    an answer that stands unread: the connection ends
//! ```
//!
//! It decides when a peer is too slow with a head, or does not read. Bodies are waited for by whoever reads them, and a connection
//! between requests by the library. It ends where the connection becomes a socket, which keeps its own time.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

use super::bounds::Bounds;
use super::framing::{Ending, Framing, Refused};
use super::room::Place;
use super::{LONGEST_HEADER, Wire};
use crate::patience::Patience;

/// The places that a connection holds.
#[derive(Debug)]
pub struct Seat {
    /// Among all; it is held to the end.
    pub place: Place,
    /// Among those whom nobody ever let in, where these are counted.
    pub stranger: Option<Place>,
}

/// One connection that speaks HTTP, as whoever answers its requests and whoever carries its bytes know it together.
#[derive(Debug)]
pub(super) struct Guest {
    seat: Mutex<Option<Box<Seat>>>,
    /// How long an answer may stand unread, in milliseconds.
    unsent_for: AtomicU64,
}

impl Guest {
    pub(super) fn new(seat: Box<Seat>) -> Arc<Guest> {
        Arc::new(Guest { seat: Mutex::new(Some(seat)), unsent_for: AtomicU64::new(0) })
    }

    /// Its places go elsewhere.
    pub(super) fn gives_up_seat(&self) -> Option<Box<Seat>> {
        self.seat.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// The next answer may stand unread for so long.
    pub(super) fn may_leave_unread_for(&self, time: Duration) {
        self.unsent_for.store(u64::try_from(time.as_millis()).unwrap_or(u64::MAX), Ordering::Release);
    }

    fn patience(&self) -> Duration {
        Duration::from_millis(self.unsent_for.load(Ordering::Acquire))
    }
}

/// A wire that is watched over.
pub(super) struct Guarded<S> {
    wire: S,
    framing: Framing,
    guest: Arc<Guest>,
    bounds: Arc<Bounds>,
    /// Runs while a head is waited for.
    head: Option<Pin<Box<Sleep>>>,
    /// Runs while something stands unread, since then.
    unsent: Option<(Instant, Pin<Box<Sleep>>)>,
    patience: Patience,
}

impl<S: Wire> Guarded<S> {
    pub(super) fn new(wire: S, guest: Arc<Guest>, bounds: Arc<Bounds>) -> Guarded<S> {
        guest.may_leave_unread_for(bounds.limits.unsent_for);
        let (framing, patience) = (Framing::new(LONGEST_HEADER), Patience::of(bounds.limits.unsent_for));
        Guarded { wire, framing, guest, bounds, head: None, unsent: None, patience }
    }

    /// The wire, which nobody watches over any more.
    pub(super) fn into_wire(self) -> S {
        self.wire
    }

    /// Follows what has come in. Answers how much of it is passed on.
    fn follow(&mut self, came: &mut [u8]) -> usize {
        let kept = match self.framing.read(came) {
            Ok(()) => came.len(),
            Err(Refused { why, kept }) => {
                self.bounds.was_malformed();
                tracing::debug!("a request is refused, since it could be cut in two ways: {}", why.0);
                kept
            }
        };
        if !self.framing.is_within_head() {
            self.head = None;
        }
        kept
    }

    /// Passes nothing on any more but what makes the library refuse, too. What comes is read all the same: where something is left
    /// unread, the system takes the answer back when the connection is closed.
    fn refuses(&mut self, ending: Ending, waking: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match ending {
            Ending::Head => {
                let end = b"\r\n\r\n";
                into.put_slice(&end[..end.len().min(into.remaining())]);
                return Poll::Ready(Ok(()));
            }
            Ending::Body => {
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, "its body could be cut in two ways")));
            }
            Ending::Had => {}
        }
        let before = into.filled().len();
        loop {
            ready!(Pin::new(&mut self.wire).poll_read(waking, into))?;
            if into.filled().len() == before {
                return Poll::Ready(Ok(()));
            }
            into.set_filled(before);
        }
    }

    /// Nothing has come in. `Ready`: it is waited for no longer.
    fn waits_for_head(&mut self, waking: &mut Context<'_>) -> Poll<io::Error> {
        if !self.framing.is_within_head() {
            return Poll::Pending;
        }
        let within = self.bounds.limits.head_within;
        let head = self.head.get_or_insert_with(|| Box::pin(sleep(within)));
        ready!(head.as_mut().poll(waking));
        Poll::Ready(self.too_slow("the head of a request did not come in time"))
    }

    /// What became of handing something to the wire. Where it takes nothing, the peer reads nothing.
    fn sent<T>(&mut self, result: Poll<io::Result<T>>, waking: &mut Context<'_>) -> Poll<io::Result<T>> {
        if result.is_ready() {
            if let Some((since, _)) = self.unsent.take() {
                self.patience.waited(since.elapsed());
            }
            return result;
        }
        let (_, silence) = self.unsent.get_or_insert_with(|| (Instant::now(), Box::pin(sleep(self.patience.left()))));
        ready!(silence.as_mut().poll(waking));
        Poll::Ready(Err(self.too_slow("an answer was not read in time")))
    }

    fn wrote(&mut self, result: Poll<io::Result<usize>>, waking: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let result = self.sent(result, waking);
        if let Poll::Ready(Ok(bytes)) = result {
            self.patience.moved(bytes);
        }
        result
    }

    fn too_slow(&self, what: &'static str) -> io::Error {
        self.bounds.was_slow();
        io::Error::new(io::ErrorKind::TimedOut, what)
    }
}

impl<S: Wire> AsyncRead for Guarded<S> {
    fn poll_read(self: Pin<&mut Self>, waking: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if let Some(ending) = this.framing.refused() {
            return this.refuses(ending, waking, into);
        }
        let before = into.filled().len();
        match Pin::new(&mut this.wire).poll_read(waking, into) {
            Poll::Ready(Ok(())) => {
                let kept = this.follow(&mut into.filled_mut()[before..]);
                into.set_filled(before + kept);
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => this.waits_for_head(waking).map(Err),
        }
    }
}

impl<S: Wire> AsyncWrite for Guarded<S> {
    fn poll_write(self: Pin<&mut Self>, waking: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let result = Pin::new(&mut this.wire).poll_write(waking, bytes);
        this.wrote(result, waking)
    }

    fn poll_write_vectored(self: Pin<&mut Self>, waking: &mut Context<'_>, parts: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let result = Pin::new(&mut this.wire).poll_write_vectored(waking, parts);
        this.wrote(result, waking)
    }

    fn is_write_vectored(&self) -> bool {
        self.wire.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, waking: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let result = Pin::new(&mut this.wire).poll_flush(waking);
        let result = this.sent(result, waking);
        if let Poll::Ready(Ok(())) = result {
            // Everything is out, so the next answer has all the time that it may have.
            this.patience = Patience::of(this.guest.patience());
        }
        result
    }

    fn poll_shutdown(self: Pin<&mut Self>, waking: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let result = Pin::new(&mut this.wire).poll_shutdown(waking);
        this.sent(result, waking)
    }
}
