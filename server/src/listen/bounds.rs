//! What all listeners share against abuse: the room that there is, how long a peer may take for what, and how often either was
//! too little.
//!
//! It holds what the settings say and counts. Who is turned away decides `room.rs`, who is too slow `guarded.rs`.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::listen::descriptors;
use crate::listen::room::{Most, NoRoom, Place, Room, Whom};

/// How many of those that are turned away are still listened to for a moment, at most.
const MOST_LINGERING: usize = 64;
/// How long it is until the log says again that a proxy speaks oddly.
const SAID_AGAIN: Duration = Duration::from_secs(60);

/// How many connections there may be, and how long a peer may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections in all. There are never more than descriptors allow.
    pub connections: usize,
    /// Connections of one source; none: [`Limits::OF_SOURCE`], and no more than half of all.
    pub connections_of_source: Option<usize>,
    /// How long a peer has for a PROXY header, for its part of a TLS handshake, and for the head of a request from its first byte
    /// on; and for that first byte, on a new connection.
    pub head_within: Duration,
    /// How long a peer has for the body of a request that the server reads itself.
    pub body_within: Duration,
    /// How long a connection may be without a request after an answer.
    pub idle_for: Duration,
    /// How long an answer may stand unread. What is read makes it longer again.
    pub unsent_for: Duration,
}

impl Limits {
    /// What one source may hold where nothing is set: enough for a network behind one address, and no more than a small part of
    /// what a server has.
    pub const OF_SOURCE: usize = 2048;
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            connections: 50_000,
            connections_of_source: None,
            head_within: Duration::from_secs(10),
            body_within: Duration::from_secs(30),
            idle_for: Duration::from_secs(75),
            unsent_for: Duration::from_secs(30),
        }
    }
}

/// What was refused since the beginning, by reason. Each is one series of a metric, and there are no others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Refused {
    /// Connections past the bound of all.
    pub full: u64,
    /// Connections past the bound of their source.
    pub of_source: u64,
    /// Connections that would have taken a descriptor of the reserve.
    pub descriptors: u64,
    /// Requests that two readers could cut in two ways.
    pub malformed: u64,
    /// Peers that took too long to send or to read.
    pub slow: u64,
}

/// The room and the deadlines of all listeners.
#[derive(Debug)]
pub struct Bounds {
    /// What is set.
    pub limits: Limits,
    room: Arc<Room>,
    descriptors: AtomicU64,
    malformed: AtomicU64,
    slow: AtomicU64,
    lingering: AtomicUsize,
    /// When the log last said that a proxy speaks oddly.
    said_odd: Mutex<Option<Instant>>,
}

impl Bounds {
    /// Those that the settings and the descriptors of this process allow.
    pub fn new(limits: Limits) -> Arc<Bounds> {
        let allowed = descriptors::for_connections().map_or(usize::MAX, |most| usize::try_from(most).unwrap_or(usize::MAX));
        let here = limits.connections.min(allowed);
        let of_source = limits.connections_of_source.unwrap_or(Limits::OF_SOURCE.min(here.div_ceil(2)));
        let room = Room::new(Whom::Everybody, Most { here, of_source });
        Arc::new(Bounds {
            limits,
            room,
            descriptors: AtomicU64::new(0),
            malformed: AtomicU64::new(0),
            slow: AtomicU64::new(0),
            lingering: AtomicUsize::new(0),
            said_odd: Mutex::default(),
        })
    }

    /// How many connections there are, over all listeners.
    pub fn connections(&self) -> usize {
        self.room.here()
    }

    /// What was refused since the beginning.
    pub fn refused(&self) -> Refused {
        Refused {
            full: self.room.refused(NoRoom::Here),
            of_source: self.room.refused(NoRoom::ForSource),
            descriptors: self.descriptors.load(Ordering::Relaxed),
            malformed: self.malformed.load(Ordering::Relaxed),
            slow: self.slow.load(Ordering::Relaxed),
        }
    }

    /// A place for one more connection, of this source where it is known.
    pub(super) fn admit(&self, source: Option<IpAddr>) -> Result<Place, NoRoom> {
        self.room.admit(source)
    }

    /// A place for a request that a proxy brings.
    pub(super) fn admit_request(&self, source: IpAddr) -> Result<Place, NoRoom> {
        self.room.admit_request(source)
    }

    pub(super) fn room(&self) -> &Room {
        &self.room
    }

    pub(super) fn lacked_descriptor(&self) {
        self.descriptors.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn was_malformed(&self) {
        self.malformed.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn was_slow(&self) {
        self.slow.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether the log may say of a request that its proxy speaks oddly; once a minute, since whoever comes through a proxy may have
    /// written the field.
    pub(super) fn may_say_odd(&self, now: Instant) -> bool {
        let mut said = self.said_odd.lock().unwrap_or_else(PoisonError::into_inner);
        let may = said.is_none_or(|said| now.saturating_duration_since(said) >= SAID_AGAIN);
        if may {
            *said = Some(now);
        }
        may
    }

    /// Leave to listen for a moment to one who is turned away, if not too many are listened to already.
    pub(super) fn linger(self: &Arc<Bounds>) -> Option<Lingering> {
        let lingering = Lingering(Arc::clone(self));
        (self.lingering.fetch_add(1, Ordering::AcqRel) < MOST_LINGERING).then_some(lingering)
    }
}

/// Somebody who is turned away and still listened to.
pub(super) struct Lingering(Arc<Bounds>);

impl Drop for Lingering {
    fn drop(&mut self) {
        self.0.lingering.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_source_has_no_more_than_half_unless_that_is_set() {
        let of_source = |connections, connections_of_source| {
            let bounds = Bounds::new(Limits { connections, connections_of_source, ..Limits::default() });
            let places: Vec<Place> = (0..20).map_while(|_| bounds.admit(Some(IpAddr::from([192, 0, 2, 1]))).ok()).collect();
            places.len()
        };
        assert_eq!([of_source(10, None), of_source(10, Some(9)), of_source(1, None), of_source(4, Some(9))], [5, 9, 1, 4]);
    }

    #[test]
    fn the_log_says_once_a_minute_that_a_proxy_speaks_oddly() {
        let bounds = Bounds::new(Limits::default());
        let began = tokio::time::Instant::now().into_std();
        let said = [0, 0, 59, 60, 61, 119, 120].map(|seconds| bounds.may_say_odd(began + Duration::from_secs(seconds)));
        assert_eq!(said, [true, false, false, true, false, false, true]);
    }

    #[test]
    fn few_of_those_that_are_turned_away_are_listened_to() {
        let bounds = Bounds::new(Limits::default());
        let some: Vec<_> = (0..MOST_LINGERING).map_while(|_| bounds.linger()).collect();
        assert_eq!(some.len(), MOST_LINGERING);
        assert!(bounds.linger().is_none());
        drop(some);
        assert!(bounds.linger().is_some());
    }
}
