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
mod client;
mod disk;
mod idle;
mod import;
mod login;
mod measure;
mod overload;
mod process;
mod query;
mod reference;
mod relay;
mod rolling;
mod setup;
mod sockets;

use std::io::Write;
use std::process::ExitCode;

/// What can go wrong here is told to a person, and ends the measurement.
type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

const USAGE: &str = "usage: gatepost-bench [login | query | bearer | rolling | relay | idle | import | overload]...   none: all of them, one after \
     the other";
/// All of them.
const NAMES: [&str; 8] = ["login", "query", "bearer", "rolling", "relay", "idle", "import", "overload"];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let outcome = match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["reference-hash"] => reference::hash(),
        ["reference-echo"] => reference::echo(None),
        ["reference-echo", answer] => reference::echo(Some(answer)),
        ["reference-disk", directory] => disk::run(directory),
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
            "rolling" => runtime.block_on(rolling::run())?,
            "relay" => runtime.block_on(relay::run())?,
            "idle" => runtime.block_on(idle::run())?,
            "import" => runtime.block_on(import::run())?,
            "overload" => runtime.block_on(overload::run())?,
            _ => return Err(USAGE.into()),
        }
    }
    Ok(())
}
