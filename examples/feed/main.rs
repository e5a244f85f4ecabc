//! The feed as a program of its own: `cargo run --example feed -- --listen 127.0.0.1:9000 --keys 127.0.0.1:8000`, with
//!
//! ```toml
//! [zenith.upstream]
//! address = "ws://127.0.0.1:9000/"
//! audience = "feed"
//! controllers = [
//!     { name = "Market", right = "Zenith/Market" },
//!     { name = "Trading", right = "Zenith/Trading", topics = { PlaceOrder = "Zenith/OrderPad" } },
//! ]
//! ```
//!
//! in the settings of Gatepost.

#[path = "../keys.rs"]
mod keys;
mod service;

use std::net::SocketAddr;
use std::time::Duration;

use clap::Parser;
use tokio::net::TcpListener;

/// A small feed to put behind the Zenith gate.
#[derive(Parser)]
struct Arguments {
    /// Where to listen.
    #[arg(long, default_value = "127.0.0.1:9000")]
    listen: SocketAddr,
    /// Where Gatepost answers HTTP: host and port.
    #[arg(long, default_value = "127.0.0.1:8000")]
    keys: String,
    /// What Gatepost's settings call the audience.
    #[arg(long, default_value = "feed")]
    audience: String,
    /// Milliseconds between two prices.
    #[arg(long, default_value_t = 1000)]
    every: u64,
}

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let Arguments { listen, keys, audience, every } = Arguments::parse();
    let listener = TcpListener::bind(listen).await?;
    service::serve(listener, service::Feed { keys, audience, every: Duration::from_millis(every.max(1)) }).await;
    Ok(())
}
