//! Where the server is watched, as it is written below `[management]`.

use std::net::SocketAddr;

use serde::Deserialize;

#[derive(Deserialize)]
#[serde(default)]
pub(super) struct Management {
    listen: SocketAddr,
}

impl Default for Management {
    fn default() -> Management {
        Management { listen: SocketAddr::from(([127, 0, 0, 1], 9180)) }
    }
}

impl Management {
    pub(super) fn listen(self) -> SocketAddr {
        self.listen
    }
}
