//! The Zenith gate.
use gatepost_identity::reply::NewToken;
use gatepost_identity::secret::Secret;

use crate::Gate;

/// This gate's row.
pub const GATE: Gate = Gate { name: "zenith", spell, scopes: |_| Ok(Vec::new()), mounts: |_| Ok(Vec::new()) };

fn spell(token: &NewToken<'_>) -> Secret {
    Secret::new(token.random.as_slice())
}
