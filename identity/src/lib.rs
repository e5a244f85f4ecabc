//! Who are you, may you, and for how long: the identity core.

pub mod account;
pub mod audit;
pub mod clock;
pub mod command;
pub mod credential;
pub mod live;
pub mod refusal;
pub mod reply;
pub mod scope;
pub mod secret;
pub mod session;
pub mod store;
pub mod throttle;
