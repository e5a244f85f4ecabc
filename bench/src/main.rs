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

mod client;
mod idle;
mod login;
mod measure;
mod overload;
mod process;
mod query;
mod reference;
mod setup;

use std::io::Write;
use std::process::ExitCode;

/// What can go wrong here is told to a person, and ends the measurement.
type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

const USAGE: &str = "usage: gatepost-bench [login | query | idle | overload]...   none: all of them, one after the other";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let outcome = match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["reference-hash"] => reference::hash(),
        ["reference-echo", answer] => reference::echo(answer),
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
    let names = if names.is_empty() { &["login", "query", "idle", "overload"] } else { names };
    for name in names {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        match *name {
            "login" => runtime.block_on(login::run())?,
            "query" => runtime.block_on(query::run())?,
            "idle" => runtime.block_on(idle::run())?,
            "overload" => runtime.block_on(overload::run())?,
            _ => return Err(USAGE.into()),
        }
    }
    Ok(())
}
