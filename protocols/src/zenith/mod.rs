//! The Zenith gate: the `Auth` controller of the Zenith WebSocket API, and what of the `Zenith` controller a client asks
//! for before it logs in. `docs/protocols/zenith.md` says what is done on this wire and why.
//!
//! ```text
//! GET /Zenith ─ exchange ──► 101 ─ conversation
//!                  │               │  message   envelope, topics; what is sent
//!                  │               │  request   the Data of a request, as a command
//!                  └── refusal ────┤  relay     what passes to and from the service behind the gate
//!                                  │  refusal   each "no" as a frame and as a response
//!                                  │  spelling  scope names and tokens as they are written here
//!                                  └  times     dates and spans
//! ```
//!
//! It refuses to know who anybody is: a login is a question to the core, and what the core last said is all that is kept, beside
//! what must be remembered of what a peer has asked of the service.

mod conversation;
mod exchange;
mod message;
mod refusal;
mod relay;
mod request;
mod settings;
mod spelling;
mod times;

use crate::Gate;
use crate::section::{BadSetting, Section, Weakness};
use crate::zenith::settings::Settings;

/// This gate's row.
pub const GATE: Gate = Gate {
    name: "zenith",
    spell: Some(spelling::spell),
    scopes: |section| Ok(Settings::read(section)?.catalogue.definitions()),
    mounts: |section, _| exchange::mounts(section),
    rotates_refresh: |_| Ok(false),
    knows_tls: true,
    weakens,
    restarts: &[],
    own: |_| Ok(None),
};

fn weakens(section: &Section) -> Result<Vec<Weakness>, BadSetting> {
    let settings = Settings::read(section)?;
    let service = settings.routes.as_ref().and_then(|routes| Weakness::of_service("upstream.address", routes.address()));
    Ok(service.into_iter().collect())
}
