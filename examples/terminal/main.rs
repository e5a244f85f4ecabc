//! The terminal as a program of its own: `cargo run --example terminal -- --listen 127.0.0.1:9100 --pin K7M2QX`, with
//!
//! ```toml
//! [[trueconf.terminals]]
//! name = "default"
//! upstream = { address = "ws://127.0.0.1:9100/", secret_file = "terminal-pin", user_methods = ["call", "hangUp"] }
//! ```
//!
//! in the settings of Gatepost, and the PIN in the file `terminal-pin`, which nobody else may read.

mod service;

use std::io::Write;
use std::net::SocketAddr;

use clap::Parser;
use tokio::net::TcpListener;

/// A small terminal to put behind the TrueConf gate.
#[derive(Parser)]
struct Arguments {
    /// Where to listen.
    #[arg(long, default_value = "127.0.0.1:9100")]
    listen: SocketAddr,
    /// What its administrator must show; without it, nothing.
    #[arg(long)]
    pin: Option<String>,
}

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let Arguments { listen, pin } = Arguments::parse();
    let listener = TcpListener::bind(listen).await?;
    // What is asked, but not with which PIN.
    let asked = |request: &serde_json::Value| drop(writeln!(std::io::stdout(), "{}", request["method"]));
    service::Terminal::new(pin.as_deref(), asked).serve(listener).await;
    Ok(())
}
