//! How many connections may be there that nobody was ever let in on.
//!
//! Decides whether one more may come to a listener, by how many there are and how many of them one source holds: whoever opens
//! connections and proves nothing must not take the room of those who would. A place is held from the moment the source is known
//! until the connection ends or is authorised once; from then on it counts no more, also when the authorisation is lost. It
//! refuses to know what authorises.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use gatepost_identity::current::Current;
use gatepost_identity::throttle::network;
use gatepost_protocols::http::Response;
use gatepost_protocols::listener::MostStrangers;
use http::StatusCode;

/// How long it is until the log says again that somebody was turned away.
const SAID_AGAIN: Duration = Duration::from_secs(60);

/// Those of one listener.
pub struct Strangers {
    most: Current<MostStrangers>,
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    here: usize,
    /// By network; none has an entry of nothing.
    of_source: HashMap<[u8; 16], usize>,
    said: Option<Instant>,
}

/// The place of one connection. Whoever drops it leaves room for another.
pub struct Stranger {
    strangers: Arc<Strangers>,
    source: Option<[u8; 16]>,
}

/// Why there is no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoRoom {
    /// The listener has as many as it may.
    Here,
    /// This source has.
    ForSource,
}

impl NoRoom {
    /// What whoever is turned away is told.
    pub fn response(self) -> Response {
        match self {
            NoRoom::Here => Response::text(StatusCode::SERVICE_UNAVAILABLE, "Too many connections here wait to be authorised.\n"),
            NoRoom::ForSource => {
                Response::text(StatusCode::TOO_MANY_REQUESTS, "Too many connections from your address wait to be authorised.\n")
            }
        }
    }
}

impl Strangers {
    /// None yet.
    pub fn new(most: MostStrangers) -> Arc<Strangers> {
        Arc::new(Strangers { most: Current::new(most), held: Mutex::default() })
    }

    /// Lets so many be there from now on. Whoever is there stays.
    pub fn allow(&self, most: MostStrangers) {
        self.most.replace(most);
    }

    /// A place for one more. Where the source is not known yet, [`Stranger::is_of`] says it later.
    ///
    /// # Errors
    /// [`NoRoom`].
    pub fn admit(self: &Arc<Strangers>, source: Option<IpAddr>) -> Result<Stranger, NoRoom> {
        let mut held = self.held();
        if held.here >= self.most.now().here {
            return Err(NoRoom::Here);
        }
        held.here += 1;
        drop(held);
        let mut stranger = Stranger { strangers: Arc::clone(self), source: None };
        match source.map(|source| stranger.is_of(source)) {
            Some(Err(no_room)) => Err(no_room),
            Some(Ok(())) | None => Ok(stranger),
        }
    }

    /// Says in the log that somebody was turned away; once a minute at most, since they come again.
    pub fn turned_away(&self, listener: &str, source: IpAddr, no_room: NoRoom, now: Instant) {
        let mut held = self.held();
        if held.said.is_none_or(|said| now >= said + SAID_AGAIN) {
            held.said = Some(now);
            tracing::warn!(listener, %source, ?no_room, "{listener}: {source} was turned away, too many wait there to be authorised");
        }
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Stranger {
    /// Counts the place as one of this source's, unless it is somebody's already.
    ///
    /// # Errors
    /// [`NoRoom::ForSource`].
    pub fn is_of(&mut self, source: IpAddr) -> Result<(), NoRoom> {
        if self.source.is_some() {
            return Ok(());
        }
        let source = network(source);
        let mut held = self.strangers.held();
        let count = held.of_source.get(&source).copied().unwrap_or(0);
        if count >= self.strangers.most.now().of_source {
            return Err(NoRoom::ForSource);
        }
        held.of_source.insert(source, count + 1);
        drop(held);
        self.source = Some(source);
        Ok(())
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        let mut held = self.strangers.held();
        held.here -= 1;
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

    #[test]
    fn a_source_has_its_share_and_all_together_have_theirs() {
        let strangers = Strangers::new(MostStrangers { here: 4, of_source: 2 });
        let admit = |text| strangers.admit(source(text));
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
        drop((first, second, same_network, again));
        let held = strangers.held();
        assert_eq!((held.here, held.of_source.len()), (0, 0), "and nothing is left of them");
    }

    #[test]
    fn a_source_may_be_known_later_and_only_once() {
        let strangers = Strangers::new(MostStrangers { here: 9, of_source: 1 });
        let mut first = strangers.admit(None).expect("there is room");
        let mut second = strangers.admit(None).expect("there is room");
        let [one, other] = ["192.0.2.1", "192.0.2.2"].map(|text| source(text).expect("an address"));
        assert_eq!([first.is_of(one), first.is_of(other)], [Ok(()), Ok(())]);
        assert_eq!([second.is_of(one), second.is_of(other)], [Err(NoRoom::ForSource), Ok(())]);
        assert_eq!(strangers.held().of_source.values().sum::<usize>(), 2);
    }
}
