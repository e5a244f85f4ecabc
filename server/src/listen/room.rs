//! How many connections there may be: in all, and of those that nobody was ever let in on.
//!
//! Decides whether one more may come, by how many there are and how many of them one source holds: whoever opens connections must
//! not take the room of all others. There is a room that all listeners share, in which a place is held until the connection ends;
//! and there may be one of a listener's own for strangers, in which it is held until the connection ends or is authorised once, and
//! then no more, also when the authorisation is lost. It refuses to know what authorises, and what a connection is for.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use gatepost_identity::current::Current;
use gatepost_identity::throttle::network;
use gatepost_protocols::http::Response;
use gatepost_protocols::listener::MostStrangers;
use http::StatusCode;

/// How long it is until the log says again that somebody was turned away.
const SAID_AGAIN: Duration = Duration::from_secs(60);

/// How many there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Most {
    /// All of them together.
    pub here: usize,
    /// Of one source: an IPv4 address, or 64 bits of an IPv6 one.
    pub of_source: usize,
}

impl From<MostStrangers> for Most {
    fn from(MostStrangers { here, of_source }: MostStrangers) -> Most {
        Most { here, of_source }
    }
}

/// Who is counted in a room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whom {
    /// Every connection.
    Everybody,
    /// Those that nobody was ever let in on.
    Strangers,
}

/// Places, and who holds them.
#[derive(Debug)]
pub struct Room {
    whom: Whom,
    most: Current<Most>,
    held: Mutex<Held>,
    refused: [AtomicU64; 2],
}

#[derive(Debug, Default)]
struct Held {
    here: usize,
    /// By network; none has an entry of nothing.
    of_source: HashMap<[u8; 16], usize>,
    said: Option<Instant>,
}

/// The place of one connection, or of one request that a proxy brings. Whoever drops it leaves room for another.
#[derive(Debug)]
pub struct Place {
    room: Arc<Room>,
    /// Whether it counts among all that are here; a request does not, since its connection does.
    here: bool,
    source: Option<[u8; 16]>,
}

/// Why there is no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoRoom {
    /// There are as many as there may be.
    Here,
    /// This source has as many as it may.
    ForSource,
}

impl Room {
    /// An empty one.
    pub fn new(whom: Whom, most: Most) -> Arc<Room> {
        Arc::new(Room { whom, most: Current::new(most), held: Mutex::default(), refused: Default::default() })
    }

    /// Lets so many be there from now on. Whoever is there stays.
    pub fn allow(&self, most: Most) {
        self.most.replace(most);
    }

    /// A place for one more connection. Where the source is not known yet, [`Place::is_of`] says it later.
    ///
    /// # Errors
    /// [`NoRoom`].
    pub fn admit(self: &Arc<Room>, source: Option<IpAddr>) -> Result<Place, NoRoom> {
        {
            let mut held = self.held();
            if held.here >= self.most.now().here {
                return Err(self.refuse(NoRoom::Here));
            }
            held.here += 1;
        }
        let mut place = Place { room: Arc::clone(self), here: true, source: None };
        source.map_or(Ok(()), |source| place.is_of(source)).map(|()| place)
    }

    /// A place among those of a source for a request, whose connection is somebody else's: a proxy's.
    ///
    /// # Errors
    /// [`NoRoom::ForSource`].
    pub fn admit_request(self: &Arc<Room>, source: IpAddr) -> Result<Place, NoRoom> {
        let mut place = Place { room: Arc::clone(self), here: false, source: None };
        place.is_of(source).map(|()| place)
    }

    /// What whoever is turned away is told. It is never told as a wrong password.
    pub fn response(&self, no_room: NoRoom) -> Response {
        let (status, text) = match (self.whom, no_room) {
            (Whom::Everybody, NoRoom::Here) => (StatusCode::SERVICE_UNAVAILABLE, "There are too many connections here.\n"),
            (Whom::Everybody, NoRoom::ForSource) => {
                (StatusCode::SERVICE_UNAVAILABLE, "There are too many connections from your address.\n")
            }
            (Whom::Strangers, NoRoom::Here) => {
                (StatusCode::SERVICE_UNAVAILABLE, "Too many connections here wait to be authorised.\n")
            }
            (Whom::Strangers, NoRoom::ForSource) => {
                (StatusCode::TOO_MANY_REQUESTS, "Too many connections from your address wait to be authorised.\n")
            }
        };
        Response::text(status, text)
    }

    /// Says in the log that somebody was turned away; once a minute at most, since they come again.
    pub fn turned_away(&self, listener: &str, source: IpAddr, no_room: NoRoom, now: Instant) {
        let mut held = self.held();
        if held.said.is_some_and(|said| now < said + SAID_AGAIN) {
            return;
        }
        held.said = Some(now);
        drop(held);
        let why = match (self.whom, no_room) {
            (Whom::Everybody, NoRoom::Here) => "there are as many connections as may be",
            (Whom::Everybody, NoRoom::ForSource) => {
                "it has as many connections as one source may; if it is a proxy, name it in proxy.trusted"
            }
            (Whom::Strangers, _) => "too many wait there to be authorised",
        };
        tracing::warn!(listener, %source, ?no_room, "{listener}: {source} was turned away, {why}");
    }

    /// How many there are.
    pub fn here(&self) -> usize {
        self.held().here
    }

    /// How many have found none since the beginning, for this reason.
    pub fn refused(&self, no_room: NoRoom) -> u64 {
        self.refused[no_room as usize].load(Ordering::Relaxed)
    }

    fn refuse(&self, no_room: NoRoom) -> NoRoom {
        self.refused[no_room as usize].fetch_add(1, Ordering::Relaxed);
        no_room
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// Counts the place as one of this source's, unless it is somebody's already.
    ///
    /// # Errors
    /// [`NoRoom::ForSource`].
    pub fn is_of(&mut self, source: IpAddr) -> Result<(), NoRoom> {
        if self.source.is_some() {
            return Ok(());
        }
        let source = network(source);
        let mut held = self.room.held();
        let count = held.of_source.get(&source).copied().unwrap_or(0);
        if count >= self.room.most.now().of_source {
            return Err(self.room.refuse(NoRoom::ForSource));
        }
        held.of_source.insert(source, count + 1);
        drop(held);
        self.source = Some(source);
        Ok(())
    }

    /// Goes on as whose the request was: it has become the connection's only one.
    pub fn becomes(&mut self, mut request: Place) {
        if self.source.is_none() {
            self.source = request.source.take();
        }
    }

    /// The room that it is in.
    pub fn room(&self) -> Arc<Room> {
        Arc::clone(&self.room)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut held = self.room.held();
        if self.here {
            held.here -= 1;
        }
        let Some(source) = self.source else { return };
        match held.of_source.get_mut(&source) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(held.of_source.remove(&source)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(text: &str) -> Option<IpAddr> {
        Some(text.parse().expect("an address"))
    }

    fn room(here: usize, of_source: usize) -> Arc<Room> {
        Room::new(Whom::Everybody, Most { here, of_source })
    }

    #[test]
    fn a_source_has_its_share_and_all_together_have_theirs() {
        let room = room(4, 2);
        let admit = |text| room.admit(source(text));
        let (first, second) = (admit("192.0.2.1"), admit("192.0.2.1"));
        assert!(first.is_ok() && second.is_ok());
        assert_eq!(admit("192.0.2.1").err(), Some(NoRoom::ForSource));
        let six = admit("2001:db8::1");
        let same_network = admit("2001:db8::ffff:1");
        assert!(six.is_ok() && same_network.is_ok(), "one who was turned away held no place");
        assert_eq!(admit("192.0.2.3").err(), Some(NoRoom::Here));
        drop(six);
        assert_eq!(admit("192.0.2.1").err(), Some(NoRoom::ForSource));
        let again = admit("2001:db8::2");
        assert!(again.is_ok());
        assert_eq!((room.here(), room.refused(NoRoom::Here), room.refused(NoRoom::ForSource)), (4, 1, 2));
        drop((first, second, same_network, again));
        let held = room.held();
        assert_eq!((held.here, held.of_source.len()), (0, 0), "and nothing is left of them");
    }

    #[test]
    fn a_source_may_be_known_later_and_only_once() {
        let room = room(9, 1);
        let mut first = room.admit(None).expect("there is room");
        let mut second = room.admit(None).expect("there is room");
        let [one, other] = ["192.0.2.1", "192.0.2.2"].map(|text| source(text).expect("an address"));
        assert_eq!([first.is_of(one), first.is_of(other)], [Ok(()), Ok(())]);
        assert_eq!([second.is_of(one), second.is_of(other)], [Err(NoRoom::ForSource), Ok(())]);
        assert_eq!(room.held().of_source.values().sum::<usize>(), 2);
    }

    #[test]
    fn a_request_of_a_proxy_counts_for_its_source_and_may_become_the_connection() {
        let room = room(1, 2);
        let one = source("192.0.2.1").expect("an address");
        let mut connection = room.admit(None).expect("there is room");
        let first = room.admit_request(one).expect("its connection is here already");
        let second = room.admit_request(one).expect("there is room");
        assert_eq!(room.admit_request(one).err(), Some(NoRoom::ForSource));
        drop(second);
        connection.becomes(first);
        assert_eq!((room.here(), room.held().of_source.values().sum::<usize>()), (1, 1));
        drop(connection);
        assert_eq!((room.here(), room.held().of_source.len()), (0, 0));
    }
}
