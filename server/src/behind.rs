//! What is behind the gate for one connection of a peer: nothing, a connection of its own, or its lane to one that is shared.
//!
//! It decides nothing; it is the one place where the driver need not care which it is.

use std::sync::Arc;
use std::task::{Context as Waking, Poll};
use std::time::Instant;

use gatepost_protocols::Limits;
use gatepost_protocols::http::Upstream;

use crate::relay::{Came, Relay, Via};
use crate::shared::Lane;
use crate::world::World;

/// Which.
pub(crate) enum Behind {
    /// Nothing.
    Nothing,
    /// A service to which each connection has one of its own, once there was something to pass on.
    Own(Arc<Upstream>, Option<Box<Relay>>),
    /// A service to which all have one.
    Shared(Box<Lane>),
}

impl Behind {
    /// Passes a text on. `false`: there is nothing to pass it on to.
    pub(crate) fn forward(&mut self, text: String, instant: Instant) -> bool {
        match self {
            Behind::Nothing => return false,
            Behind::Own(service, relay) => {
                relay.get_or_insert_with(|| Box::new(Relay::new(Arc::clone(service)))).forward(text, instant);
            }
            Behind::Shared(lane) => lane.forward(text),
        }
        true
    }

    /// Ends the connection, where it is this one's to end.
    pub(crate) fn part(&mut self, world: &Arc<World>, instant: Instant) {
        if let Behind::Own(_, Some(relay)) = self {
            relay.part(world, instant);
        }
    }

    /// The peer is gone, and nobody is there to hear anything.
    pub(crate) fn leave(&mut self, world: &Arc<World>, instant: Instant) {
        self.part(world, instant);
        *self = Behind::Nothing;
    }

    /// The next thing that the gate must hear; `None`: there is nothing that could come. `hungry`: the peer can take more.
    pub(crate) fn poll(
        &mut self,
        via: &Via<'_>,
        limits: &Limits,
        hungry: bool,
        instant: Instant,
        waking: &mut Waking<'_>,
    ) -> Option<Poll<Came>> {
        match self {
            Behind::Nothing | Behind::Own(_, None) => None,
            Behind::Own(_, Some(relay)) => Some(relay.poll(via, limits, hungry, instant, waking)),
            Behind::Shared(lane) => Some(lane.poll(hungry, waking)),
        }
    }

    /// Whether so much waits for the service that nothing more should be taken in for it. Whoever is told so is woken when that
    /// changes.
    pub(crate) fn is_full(&mut self, most: usize, waking: &mut Waking<'_>) -> bool {
        match self {
            Behind::Nothing | Behind::Own(_, None) => false,
            Behind::Own(_, Some(relay)) => relay.is_full(most),
            Behind::Shared(lane) => lane.is_full(most, waking),
        }
    }

    /// Sends what waits. `true`: so much had waited that the peer was not listened to, and now it can be again; nobody else would
    /// look at its socket.
    pub(crate) fn flush(&mut self, most: usize, instant: Instant, waking: &mut Waking<'_>) -> bool {
        let Behind::Own(_, Some(relay)) = self else { return false };
        let was_full = relay.is_full(most);
        relay.flush(instant, waking);
        was_full && !relay.is_full(most)
    }

    /// When this wants to be looked at, if ever.
    pub(crate) fn due(&self, limits: &Limits) -> Option<Instant> {
        match self {
            Behind::Own(_, Some(relay)) => relay.due(limits),
            // One that is shared has somebody of its own who looks at it.
            Behind::Nothing | Behind::Own(_, None) | Behind::Shared(_) => None,
        }
    }
}
