//! The TrueConf gate: the authorisation of the control API of TrueConf Room and TrueConf VideoSDK.
//!
//! One socket for each connection, JSON both ways. A peer is authorised as a terminal's user or administrator by one string, is
//! told three tokens, and then commands the device; what is not about authorisation goes to the device behind the gate, where
//! there is one. What we do on this wire, and why, is in `docs/protocols/trueconf.md`.
//!
//! `message.rs` the envelope, `methods.rs` which methods there are and whose they are, `request.rs` what they ask, `spelling.rs`
//! how things are written, `refusal.rs` how this wire says no, `answers.rs` answers in the order of their requests,
//! `conversation.rs` one connection, `opening.rs` its handshake, `http.rs` the two HTTP servers beside it, `settings.rs` what may
//! be set, `ask.rs` what the core is asked.

mod answers;
mod ask;
mod conversation;
mod http;
mod message;
mod methods;
mod opening;
mod refusal;
mod request;
mod settings;
mod spelling;

pub use self::ask::{Ask, Ending, Granted, Happened, Proof, Said};
pub use self::conversation::{Asked, Connection, Pending, Terminal};
pub use self::http::{Discovery, Files, Wanted};
pub use self::opening::open;
pub use self::settings::{Place, Settings, TerminalSettings};
pub use self::spelling::spell;
