//! The Gatepost server: what touches the world. Everything but `main`, so that examples and tests can use it.
//!
//! Bytes come in through `listen/`, are moved by `drive.rs` between a gate and the core, and `serve.rs` begins and ends it
//! all. Nothing here knows what a message means or who anybody is.

mod behind;
mod cli;
pub mod clock;
pub mod config;
mod demo;
pub mod drive;
pub mod farewell;
pub mod forward;
pub mod listen;
mod management;
mod metrics;
pub mod operator;
mod patience;
mod relay;
pub mod serve;
pub mod shared;
pub mod supervisor;
pub mod telemetry;
pub mod wheel;
pub mod world;

pub use cli::run;
