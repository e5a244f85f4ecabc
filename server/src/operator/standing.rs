//! How the server stands, as `doctor` asks it: what only the process itself knows of the world around it.

use gatepost_identity::clock::system_now;
use rustix::process::{Resource, getpid, getrlimit};
use serde_json::{Value, json};

use super::facts::moment;

/// What stays as it is while the server runs.
#[derive(Debug)]
pub struct Standing {
    addresses: Value,
    started_at: Value,
}

impl Standing {
    /// Of a server that begins now, with these listeners and their addresses.
    pub fn new(addresses: Value) -> Standing {
        Standing { addresses, started_at: moment(system_now()) }
    }

    /// All of it, as it is now.
    pub(super) fn facts(&self) -> Value {
        let limit = getrlimit(Resource::Nofile);
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "pid": getpid().as_raw_nonzero().get(),
            "started_at": self.started_at,
            "now": system_now().millis(),
            "addresses": self.addresses,
            "file_limit": limit.current,
            "open_files": std::fs::read_dir("/proc/self/fd").ok().map(Iterator::count),
        })
    }
}
