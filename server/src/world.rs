//! What every connection needs: the core, the clock, the timer, and the counts by which a stop knows that all is done.
//!
//! It asks the core for whoever drives a connection, and decides nothing.

use std::collections::HashMap;
use std::future::{Future, poll_fn};
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context as Waking, Poll};
use std::time::{Duration, Instant};

use gatepost_identity::Identity;
use gatepost_identity::clock::{Clock, Entropy};
use gatepost_identity::command::{Command, ConnectionId, Context};
use gatepost_identity::reply::Outcome;
use tokio::sync::oneshot;

use crate::farewell::Farewell;
use crate::forward::Ways;
use crate::wheel::Wheel;

const MINUTE: Duration = Duration::from_secs(60);

/// What every connection needs.
pub struct World {
    /// The core.
    pub identity: Identity,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// What is random.
    pub entropy: Arc<dyn Entropy>,
    /// The timer of all sockets.
    pub wheel: Wheel,
    /// Numbers connections.
    pub last_connection: AtomicU64,
    /// Who is told next that the server stops.
    pub farewell: Farewell,
    /// Connections that speak HTTP.
    pub connections: AtomicUsize,
    /// Open sockets.
    pub sockets: AtomicUsize,
    /// Open sockets of each gate.
    pub open: Vec<(&'static str, AtomicUsize)>,
    /// Questions that the core has not answered yet.
    pub questions: AtomicUsize,
    /// The services behind the gates, by the gate's name.
    pub services: Mutex<HashMap<&'static str, Service>>,
    /// The ways to services that are asked by requests.
    pub ways: Ways,
}

impl World {
    /// Whether the server stops and sends its peers elsewhere: nobody new should be sent here.
    pub fn is_draining(&self) -> bool {
        self.farewell.has_begun()
    }

    /// The count of a gate's open sockets.
    pub(crate) fn open_of(&self, gate: &str) -> Option<&AtomicUsize> {
        self.open.iter().find(|(name, _)| *name == gate).map(|(_, open)| open)
    }

    /// A new connection's number.
    pub(crate) fn connection(&self) -> ConnectionId {
        ConnectionId(self.last_connection.fetch_add(1, Ordering::Relaxed) + 1)
    }

    /// Asks the core. What it knows at once is answered at once; otherwise the question goes on in a task of its own, so that a
    /// peer that hangs up has still spent its attempt.
    pub(crate) fn ask(self: &Arc<World>, command: Command, context: Context, waking: &mut Waking<'_>) -> Asked {
        let world = Arc::clone(self);
        world.questions.fetch_add(1, Ordering::AcqRel);
        let mut question = Box::pin(async move {
            let _counted = Counted(&world.questions);
            world.identity.handle(command, &context).await
        });
        // A panic ends the question and not the connection, which is told of it as of one in a task.
        match catch_unwind(AssertUnwindSafe(|| question.as_mut().poll(waking))) {
            Ok(Poll::Ready(outcome)) => Asked::Break(outcome),
            Ok(Poll::Pending) => {
                let (done, outcome) = oneshot::channel();
                // A peer that is gone drops its outcome, and so takes back what it was granted.
                tokio::spawn(async move { drop(done.send(question.await)) });
                Asked::Continue(outcome)
            }
            Err(_) => Asked::Continue(oneshot::channel().1),
        }
    }

    /// As [`World::ask`], waiting for the answer. `None`: the question has broken off.
    pub(crate) async fn outcome(self: &Arc<World>, command: Command, context: Context) -> Option<Outcome> {
        let mut question = Some((command, context));
        let asking = poll_fn(|waking| Poll::Ready(question.take().map(|(command, context)| self.ask(command, context, waking))));
        match asking.await? {
            Asked::Break(outcome) => Some(outcome),
            Asked::Continue(outcome) => outcome.await.ok(),
        }
    }

    /// Says in the log when the service behind a gate goes, and when it is back; not for each of the connections to it.
    pub(crate) fn sees_service(&self, gate: &'static str, lost: Option<&str>) {
        let mut services = self.services.lock().unwrap_or_else(PoisonError::into_inner);
        let service = services.entry(gate).or_default();
        match lost {
            Some(why) if !service.lost => tracing::warn!(gate, why, "the service behind {gate} is lost: {why}"),
            Some(why) => tracing::debug!(gate, why, "the service behind {gate} is lost: {why}"),
            None if service.lost => tracing::info!(gate, "the service behind {gate} is back"),
            None => {}
        }
        service.lost = lost.is_some();
    }

    /// Says in the log that the service behind a gate does not want somebody; once a minute at most, since each of them comes again.
    pub(crate) fn hears_refusal(&self, gate: &'static str, why: &str, instant: Instant) {
        let mut services = self.services.lock().unwrap_or_else(PoisonError::into_inner);
        let service = services.entry(gate).or_default();
        if service.refusal_said.is_none_or(|said| instant >= said + MINUTE) {
            service.refusal_said = Some(instant);
            tracing::warn!(gate, why, "the service behind {gate} refuses a connection: {why}");
        }
    }
}

/// What is known of the service behind a gate.
#[derive(Debug, Default)]
pub struct Service {
    lost: bool,
    refusal_said: Option<Instant>,
}

/// What became of a question at first. `Break`: it is answered. `Continue`: its answer is to come, or it has broken off and none
/// will.
pub(crate) type Asked = ControlFlow<Outcome, oneshot::Receiver<Outcome>>;

/// Counts down when it is dropped, also by a panic.
struct Counted<'a>(&'a AtomicUsize);

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}
