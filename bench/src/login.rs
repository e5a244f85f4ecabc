//! Password logins through the Zenith gate, beside the same hash in a bare loop.
//!
//! Eight connections, each with its own accounts and source address, keep both threads busy; then one connection alone says
//! how long a login takes. Each login begins a session and is on disk before it is answered; the reference only hashes.
//! Each connection has two accounts and takes them in turn: a second login of the same one would also end the session of
//! the first, which is a write more than a login is.

use std::cell::Cell;
use std::time::Duration;

use futures_util::future::try_join_all;
use gatepost_identity::clock::system_instant;

use crate::Outcome;
use crate::client::{Client, text_frame};
use crate::measure::{Goal, Table, duration_at};
use crate::process::{Process, Server};
use crate::setup::{Installation, auth_owner, source};

const CLIENTS: usize = 8;
const THREADS: usize = 2;
const ROUNDS: usize = 7;
/// Logins of a round with all clients, and with one.
const MANY: usize = 160;
const FEW: usize = 40;

/// What a round came to.
struct Round {
    per_second: f64,
    cpu_each: f64,
    alone: f64,
}

/// Measures and prints.
pub(crate) async fn run() -> Outcome<()> {
    let settings = format!("[password]\nthreads = {THREADS}\n");
    let server = Server::start(Installation::new(&settings, 2 * CLIENTS).await?)?;
    let mut reference = Process::reference(&["reference-hash"])?;
    let connecting = (0..CLIENTS).map(|number| Client::connect(source(number), server.address));
    let mut clients = try_join_all(connecting).await?;
    let mut rounds = Vec::new();
    for _ in 0..=ROUNDS {
        let ours = ours(&server.process, &mut clients).await?;
        rounds.push((ours, theirs(&mut reference)?));
    }
    let pairs = |figure: fn(&Round) -> f64| -> Vec<_> {
        rounds[1..].iter().map(|(ours, reference)| (figure(ours), figure(reference))).collect()
    };
    let title = format!("login: AuthOwner on an open socket beside the bare hash, {THREADS} threads, {ROUNDS} rounds of {MANY}");
    let table = Table::begin(&title)?;
    table.pairs("CPU of a login", " ms", &pairs(|round| round.cpu_each * 1e3), false, Goal::AtMost(1.05))?;
    table.pairs(
        &format!("logins a second, {CLIENTS} clients"),
        "",
        &pairs(|round| round.per_second),
        false,
        Goal::AtLeast(0.95),
    )?;
    table.pairs("median time of a login, one client", " ms", &pairs(|round| round.alone * 1e3), false, Goal::AtMost(1.10))
}

async fn ours(process: &Process, clients: &mut [Client]) -> Outcome<Round> {
    let left = Cell::new(MANY);
    let (cpu, began) = (process.cpu()?, system_instant());
    let logins = clients.iter_mut().enumerate().map(|(number, client)| {
        let (left, frames) = (&left, frames(number));
        async move {
            for frame in frames.iter().cycle() {
                let Some(fewer) = left.get().checked_sub(1) else { break };
                left.set(fewer);
                client.granted(frame).await?;
            }
            Outcome::Ok(())
        }
    });
    try_join_all(logins).await?;
    let (took, cpu) = (system_instant() - began, process.cpu()? - cpu);
    let mut each = Vec::new();
    let frames = frames(0);
    for frame in frames.iter().cycle().take(FEW) {
        let began = system_instant();
        clients[0].granted(frame).await?;
        each.push(system_instant() - began);
    }
    Ok(Round::of(took, cpu, duration_at(&mut each, 0.5)))
}

/// The logins of both accounts of a connection.
fn frames(number: usize) -> [Vec<u8>; 2] {
    [number, number + CLIENTS].map(|account| text_frame(&auth_owner(account)))
}

fn theirs(process: &mut Process) -> Outcome<Round> {
    let cpu = process.cpu()?;
    let (took, _) = hashes(process, THREADS, MANY)?;
    let cpu = process.cpu()? - cpu;
    let (_, alone) = hashes(process, 1, FEW)?;
    Ok(Round::of(took, cpu, alone))
}

/// How long all of them took, and the median one.
fn hashes(process: &mut Process, threads: usize, count: usize) -> Outcome<(Duration, Duration)> {
    process.say(&format!("{threads} {count}"))?;
    let line = process.hear()?;
    let (all, each) = line.split_once(' ').ok_or("the reference says two figures")?;
    Ok((Duration::from_micros(all.parse()?), Duration::from_micros(each.parse()?)))
}

impl Round {
    fn of(took: Duration, cpu: Duration, alone: Duration) -> Round {
        Round {
            per_second: MANY as f64 / took.as_secs_f64(),
            cpu_each: cpu.as_secs_f64() / MANY as f64,
            alone: alone.as_secs_f64(),
        }
    }
}
