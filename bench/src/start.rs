//! How large the server is and how soon it is there: the binary, the memory of one that nobody has spoken to, and the time from
//! its start until it says that it is ready, on a database that the system has in memory.
//!
//! With 100,000 accounts, none of which has logged in yet.

use std::time::Duration;

use gatepost_identity::clock::system_instant;

use crate::Outcome;
use crate::measure::{Goal, Table, count, rounds};
use crate::process::{Server, beside};
use crate::setup::{CHEAP_PASSWORDS, Installation};

const ACCOUNTS: usize = 100_000;
const ROUNDS: usize = 15;
/// Until a server that was just started does nothing any more.
const SETTLE: Duration = Duration::from_secs(2);

/// Measures and prints.
pub(crate) async fn run() -> Outcome<()> {
    let accounts = count(ACCOUNTS);
    let mut installation = Installation::new(CHEAP_PASSWORDS, accounts).await?;
    let (mut ready, mut resident) = (Vec::new(), Vec::new());
    for _ in 0..=rounds(ROUNDS) {
        let began = system_instant();
        let server = Server::start(installation)?;
        ready.push((system_instant() - began).as_secs_f64() * 1e3);
        tokio::time::sleep(SETTLE).await;
        resident.push(server.process.resident()? / f64::from(1 << 20));
        installation = server.installation;
    }
    let table = Table::begin(&format!("start: {accounts} accounts, a warm database, {} rounds", rounds(ROUNDS)))?;
    let size = std::fs::metadata(beside("gatepost")?)?.len() as f64 / 1e6;
    table.figure("the binary", " MB", size, Goal::AtMost(25.0))?;
    table.figures("from its start until it is ready", " ms", &ready[1..], Goal::AtMost(150.0))?;
    table.figures("memory, before the first password", " MiB", &resident[1..], Goal::AtMost(25.0))
}
