//! Password logins through each gate, beside the same hash in a bare loop.
//!
//! Eight connections, each with its own accounts and source address, keep both threads busy; then one connection alone says
//! how long a login takes. Each login begins a session and is on disk before it is answered; the reference only hashes.
//! Each connection has two accounts and takes them in turn: over the Zenith gate a second login of the same one would also end the
//! session of the first, which is a write more than a login is. At a terminal the two are its two roles, and nothing waits for the
//! disk: what begins there ends with the process.

use std::cell::Cell;
use std::time::Duration;

use futures_util::future::try_join_all;
use gatepost_identity::clock::system_instant;

use crate::Outcome;
use crate::client::{Client, text_frame};
use crate::http::Http;
use crate::measure::{Goal, Table, count, duration_at, rounds};
use crate::process::{Process, Server};
use crate::setup::{
    AUTHORISED, Installation, ROLES, SERVICESTACK, auth_by_password, auth_owner, credentials, source, terminal, terminals,
};

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

/// A gate that passwords come through.
#[derive(Clone, Copy)]
enum Gate {
    Zenith,
    ServiceStack,
    TrueConf,
}

/// A connection through a gate.
enum Connection {
    Zenith(Client),
    ServiceStack(Http),
    TrueConf(Client),
}

/// Measures and prints.
pub(crate) async fn run() -> Outcome<()> {
    let mut reference = Process::reference(&["reference-hash"])?;
    for gate in [Gate::Zenith, Gate::ServiceStack, Gate::TrueConf] {
        beside(gate, &mut reference).await?;
    }
    Ok(())
}

async fn beside(gate: Gate, reference: &mut Process) -> Outcome<()> {
    let settings = format!("[password]\nthreads = {THREADS}\n");
    let server = match gate {
        Gate::Zenith => Installation::new(&settings, 2 * CLIENTS).await?,
        Gate::ServiceStack => Installation::new(&format!("{settings}{SERVICESTACK}"), 2 * CLIENTS).await?,
        Gate::TrueConf => {
            let installation = Installation::new(&format!("{settings}{}", terminals(CLIENTS)), 0).await?;
            installation.terminals(CLIENTS).await?;
            installation
        }
    };
    let server = Server::start(server)?;
    let mut clients = try_join_all((0..CLIENTS).map(|number| gate.connect(number, &server))).await?;
    let (many, repeated) = (count(MANY), rounds(ROUNDS));
    let mut measured = Vec::new();
    for _ in 0..=repeated {
        let ours = ours(&server.process, &mut clients).await?;
        measured.push((ours, theirs(reference)?));
    }
    let pairs = |figure: fn(&Round) -> f64| -> Vec<_> {
        measured[1..].iter().map(|(ours, reference)| (figure(ours), figure(reference))).collect()
    };
    let what = gate.login();
    let title = format!("login: {what} beside the bare hash, {THREADS} threads, {repeated} rounds of {many}");
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

impl Gate {
    /// What a login is here.
    fn login(self) -> &'static str {
        match self {
            Gate::Zenith => "AuthOwner on an open socket",
            Gate::ServiceStack => "POST /auth/credentials",
            Gate::TrueConf => "auth by a password",
        }
    }

    async fn connect(self, number: usize, server: &Server) -> Outcome<Connection> {
        Ok(match self {
            Gate::Zenith => Connection::Zenith(Client::connect(source(number), server.address).await?),
            Gate::ServiceStack => Connection::ServiceStack(Http::connect(source(number), server.address).await?),
            Gate::TrueConf => {
                let control = server.control(&terminal(number))?;
                Connection::TrueConf(Client::connect_to_terminal(source(number), control).await?)
            }
        })
    }
}

impl Connection {
    /// Logs in, once for each account of the connection in turn.
    async fn log_in(&mut self, number: usize, turn: usize) -> Outcome<()> {
        let account = number + turn % 2 * CLIENTS;
        match self {
            Connection::Zenith(client) => client.granted(&text_frame(&auth_owner(account))).await.map(|_| ()),
            Connection::ServiceStack(client) => client.ask(&credentials(account)).await?.holding("\"SessionId\"").map(|_| ()),
            Connection::TrueConf(client) => {
                client.send(&text_frame(&auth_by_password(ROLES[turn % 2].1))).await?;
                let answer = client.next().await?;
                if answer.contains(AUTHORISED) { Ok(()) } else { Err(format!("a login was not granted: {answer}").into()) }
            }
        }
    }
}

async fn ours(process: &Process, clients: &mut [Connection]) -> Outcome<Round> {
    let left = Cell::new(count(MANY));
    let (cpu, began) = (process.cpu()?, system_instant());
    let logins = clients.iter_mut().enumerate().map(|(number, client)| {
        let left = &left;
        async move {
            for turn in 0.. {
                let Some(fewer) = left.get().checked_sub(1) else { break };
                left.set(fewer);
                client.log_in(number, turn).await?;
            }
            Outcome::Ok(())
        }
    });
    try_join_all(logins).await?;
    let (took, cpu) = (system_instant() - began, process.cpu()? - cpu);
    let mut each = Vec::new();
    for turn in 0..count(FEW) {
        let began = system_instant();
        clients[0].log_in(0, turn).await?;
        each.push(system_instant() - began);
    }
    Ok(Round::of(took, cpu, duration_at(&mut each, 0.5)))
}

fn theirs(process: &mut Process) -> Outcome<Round> {
    let cpu = process.cpu()?;
    let (took, _) = hashes(process, THREADS, count(MANY))?;
    let cpu = process.cpu()? - cpu;
    let (_, alone) = hashes(process, 1, count(FEW))?;
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
            per_second: count(MANY) as f64 / took.as_secs_f64(),
            cpu_each: cpu.as_secs_f64() / count(MANY) as f64,
            alone: alone.as_secs_f64(),
        }
    }
}
