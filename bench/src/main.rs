//! How fast the server is, as ratios to reference programs that run in turn with it: A B A B, the first pair dropped.
//!
//! Decides how a goal is measured and prints what came out; it never fails because something was slow. The server is the
//! real binary in a process of its own, and so is each reference program, so that the CPU time of both is read in the same
//! way: from `/proc/PID/stat`. The loader is this process, and its CPU time counts for neither.
//!
//! ```text
//! this process ──loopback──► gatepost serve      its CPU and memory from /proc
//!      └─────────loopback──► a reference program its CPU from /proc
//! ```

mod bearer;
mod changes;
mod client;
mod disk;
mod formats;
mod http;
mod idle;
mod import;
mod jwt;
mod login;
mod measure;
mod overload;
mod process;
mod proxied;
mod query;
mod reference;
mod refresh;
mod relay;
mod requests;
mod rolling;
mod setup;
mod sockets;
mod start;
mod storm;
mod terminals;
mod trueconf;

use std::io::Write;
use std::process::ExitCode;

/// What can go wrong here is told to a person, and ends the measurement.
type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

const USAGE: &str = "usage: gatepost-bench [--short] [NAME]...   NAME is one of";
/// All of them.
const NAMES: [&str; 19] = [
    "login",
    "query",
    "bearer",
    "cookie",
    "apikey",
    "jwt",
    "formats",
    "trueconf",
    "rolling",
    "refresh",
    "relay",
    "proxied",
    "idle",
    "terminals",
    "import",
    "overload",
    "storm",
    "changes",
    "start",
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let outcome = match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["reference-hash"] => reference::hash(),
        ["reference-echo"] => reference::echo(None),
        ["reference-echo", answer] => reference::echo(Some(answer)),
        ["reference-http"] => reference::http(None),
        ["reference-http", answer] => reference::http(Some(answer)),
        ["reference-proxy", to] => reference::proxy(to),
        ["reference-jwt", answer, algorithm] => reference::jwt(answer, algorithm),
        ["reference-disk", directory] => disk::run(directory),
        ["--short", names @ ..] => {
            measure::shorten();
            run(names)
        }
        names => run(names),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            writeln!(std::io::stderr(), "gatepost-bench: {error}").ok();
            ExitCode::FAILURE
        }
    }
}

fn run(names: &[&str]) -> Outcome<()> {
    let names = if names.is_empty() { &NAMES[..] } else { names };
    for name in names {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        match *name {
            "login" => runtime.block_on(login::run())?,
            "query" => runtime.block_on(query::run())?,
            "bearer" => runtime.block_on(bearer::run())?,
            "cookie" => runtime.block_on(requests::by_cookie())?,
            "apikey" => runtime.block_on(requests::by_key())?,
            "jwt" => runtime.block_on(jwt::run())?,
            "formats" => runtime.block_on(formats::run())?,
            "trueconf" => runtime.block_on(trueconf::run())?,
            "rolling" => runtime.block_on(rolling::run())?,
            "refresh" => runtime.block_on(refresh::run())?,
            "relay" => runtime.block_on(relay::run())?,
            "proxied" => runtime.block_on(proxied::run())?,
            "idle" => runtime.block_on(idle::run())?,
            "terminals" => runtime.block_on(terminals::run())?,
            "import" => runtime.block_on(import::run())?,
            "overload" => runtime.block_on(overload::run())?,
            "storm" => runtime.block_on(storm::run())?,
            "changes" => runtime.block_on(changes::run())?,
            "start" => runtime.block_on(start::run())?,
            _ => return Err(format!("{USAGE} {}; without one, all of them, one after the other", NAMES.join(", ")).into()),
        }
    }
    Ok(())
}
