//! The mirror as a program of its own: `cargo run --example mirror -- --listen 127.0.0.1:9100 --keys 127.0.0.1:8000`, with
//!
//! ```toml
//! [servicestack]
//! client = "web"
//!
//! [[servicestack.service]]
//! path = "/mirror"
//! upstream = "http://127.0.0.1:9100"
//! audience = "mirror"
//! asks = [{ verbs = ["DELETE"], roles = ["Editor"] }]
//! ```
//!
//! in the settings of Gatepost.

#[path = "../keys.rs"]
mod keys;
mod service;

use std::net::SocketAddr;

use clap::Parser;
use tokio::net::TcpListener;

/// A small service to put behind the ServiceStack gate.
#[derive(Parser)]
struct Arguments {
    /// Where to listen.
    #[arg(long, default_value = "127.0.0.1:9100")]
    listen: SocketAddr,
    /// Where Gatepost answers HTTP: host and port.
    #[arg(long, default_value = "127.0.0.1:8000")]
    keys: String,
    /// What Gatepost's settings call the audience.
    #[arg(long, default_value = "mirror")]
    audience: String,
}

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let Arguments { listen, keys, audience } = Arguments::parse();
    let listener = TcpListener::bind(listen).await?;
    service::serve(listener, service::Mirror { keys, audience }).await;
    Ok(())
}
