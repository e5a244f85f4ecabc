//! The count of open sockets, by which a stop knows that all are gone. It refuses to know what is said on them.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::world::World;

/// One open socket, counted while this lives.
pub struct Open(Arc<World>);

impl Open {
    /// One more.
    pub fn count(world: &Arc<World>) -> Open {
        world.sockets.fetch_add(1, Ordering::AcqRel);
        Open(Arc::clone(world))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.sockets.fetch_sub(1, Ordering::AcqRel);
    }
}
