//! What a gate needs that the common listeners do not give it: listeners of its own, and terminals behind them.
//!
//! The gate says where it wants to be found and what answers there; to bind is the server's business, and which port something got
//! is known to the gate only then.

use std::net::SocketAddr;

use gatepost_identity::ServedTerminals;
use gatepost_identity::terminal::{LockOut, TerminalName};

use crate::mount::Mount;
use crate::shared::SharedService;

/// Where something listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The address. Port 0 is any free port.
    pub address: SocketAddr,
    /// How many ports upwards may be tried where this one is taken. An address that was written down has none: whoever wrote it
    /// expects it.
    pub steps: u16,
}

/// How many connections may be at a listener that nobody was ever let in on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MostStrangers {
    /// All of them together.
    pub here: usize,
    /// Of one source: an IPv4 address, or 64 bits of an IPv6 one.
    pub of_source: usize,
}

/// A listener of a gate's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// What operators are told it is.
    pub name: String,
    /// Where it is.
    pub place: Place,
    /// The terminal that whoever comes here means.
    pub terminal: Option<TerminalName>,
    /// Some clients cannot reach ports from this one on.
    pub ports_below: Option<u16>,
    /// Whether TLS is spoken there, with the server's certificate. Otherwise nothing is encrypted.
    pub encrypted: bool,
    /// How many may wait there to be let in; none: nobody is let in there, and each request proves itself.
    pub strangers: Option<MostStrangers>,
}

/// What answers on the listeners, by their place in the list, once it is known which port each of them got.
pub type Mounts = Box<dyn FnOnce(&[u16]) -> Vec<(usize, Mount)> + Send>;

/// What a gate needs beside the common listeners.
pub struct Own {
    /// Listeners.
    pub listeners: Vec<Listener>,
    /// What answers there.
    pub mounts: Mounts,
    /// The terminals behind them.
    pub terminals: ServedTerminals,
    /// How many wrong secrets of those are too many.
    pub lock_out: LockOut,
    /// Services that all connections of a listener share.
    pub shared_services: Vec<SharedService>,
}
