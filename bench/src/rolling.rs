//! `AuthToken` with a token that rolls: each answer carries a successor, which the client presents next, and each is on disk
//! before it is told.
//!
//! One connection alone, beside a bare loop that appends 4 KiB and syncs; then 64 at once, whose writes share commits, beside
//! bare loops of rusqlite that commit a hundred at a time. All of them write to one file system, in turn.
//!
//! Everybody logs in anew before a round, so that no session gathers more tokens than that of a client which comes back every
//! half hour for three weeks.

use std::cell::Cell;
use std::time::Duration;

use futures_util::future::try_join_all;
use gatepost_identity::clock::system_instant;

use crate::Outcome;
use crate::client::{Client, text_frame};
use crate::disk::GROUP;
use crate::measure::{Goal, Table, count, duration_at, rounds};
use crate::process::{Process, Server};
use crate::setup::{CHEAP_PASSWORDS, Installation, auth_owner, auth_token, source};

const CLIENTS: usize = 64;
const ROUNDS: usize = 15;
/// Tokens of a round with all clients, and with one.
const MANY: usize = 12_800;
const FEW: usize = 1_000;

/// Somebody who renews a token again and again.
pub(crate) trait Renew {
    /// Does what comes before a round.
    async fn begin(&mut self) -> Outcome<()>;

    /// Renews the next token, and sees that it was.
    async fn renew(&mut self) -> Outcome<()>;
}

/// A connection, the login of its account, and the token that it presents next.
struct Holder {
    client: Client,
    login: Vec<u8>,
    token: String,
}

/// How many take part in a round, and how many tokens it has with all of them and with one.
#[derive(Clone, Copy)]
pub(crate) struct Extent {
    /// Clients at once.
    pub(crate) clients: usize,
    /// Tokens that they renew.
    pub(crate) many: usize,
    /// Tokens that one renews alone.
    pub(crate) few: usize,
}

/// What a round came to: seconds, and seconds of CPU.
struct Round {
    /// The median token of one client.
    alone: f64,
    /// The median append and sync.
    append: f64,
    cpu_alone: f64,
    /// Tokens a second, and what one of them cost.
    per_second: f64,
    cpu_each: f64,
    /// The same a second of the reference: one row for each, and all that a rolled token writes.
    inserts: f64,
    rolls: f64,
}

/// Measures and prints.
pub(crate) async fn run() -> Outcome<()> {
    let extent = Extent { clients: CLIENTS, many: count(MANY), few: count(FEW) };
    let server = Server::start(Installation::new(CHEAP_PASSWORDS, CLIENTS + 1).await?)?;
    let single = Holder::connect(CLIENTS, &server).await?;
    let mut holders = Vec::new();
    for number in 0..CLIENTS {
        holders.push(Holder::connect(number, &server).await?);
    }
    let title = "rolling: AuthToken by a token that rolls, each on disk before it is told";
    beside_the_disk(title, &server, single, holders, extent).await
}

/// Measures how tokens are renewed that are on disk before they are told, beside the disk and SQLite with nothing around them, and
/// prints what came out below `title`.
pub(crate) async fn beside_the_disk<R: Renew>(
    title: &str,
    server: &Server,
    mut single: R,
    mut holders: Vec<R>,
    extent: Extent,
) -> Outcome<()> {
    let directory = server.installation.directory.to_str().ok_or("the directory's name is not UTF-8")?;
    let mut disk = Process::reference(&["reference-disk", directory])?;
    let repeated = rounds(ROUNDS);
    let mut measured = Vec::new();
    let Extent { clients, many, few } = extent;
    for _ in 0..=repeated {
        let (mut each, cpu_alone) = alone(&server.process, &mut single, few).await?;
        let append = written(&mut disk, "append", few)?.1;
        let (per_second, cpu_each) = at_once(&server.process, &mut holders, many).await?;
        let inserts = many as f64 / written(&mut disk, "insert", many)?.0.as_secs_f64();
        let rolls = many as f64 / written(&mut disk, "roll", many)?.0.as_secs_f64();
        let alone = duration_at(&mut each, 0.5).as_secs_f64();
        measured.push(Round { alone, append: append.as_secs_f64(), cpu_alone, per_second, cpu_each, inserts, rolls });
    }
    let measured = &measured[1..];
    let figures = |figure: fn(&Round) -> f64| measured.iter().map(figure).collect::<Vec<_>>();
    let pairs = |figure: fn(&Round) -> (f64, f64)| measured.iter().map(figure).collect::<Vec<_>>();
    let table = Table::begin(&format!("{title}, {repeated} rounds"))?;
    table.figures("CPU of a token, one client", " us", &figures(|round| round.cpu_alone * 1e6), Goal::AtMost(100.0))?;
    table.pairs(
        "median time of a token, beside append and fdatasync",
        " us",
        &pairs(|round| (round.alone * 1e6, round.append * 1e6)),
        false,
        Goal::AtMost(1.5),
    )?;
    let what = format!("CPU of a token, {clients} clients");
    table.figures(&what, " us", &figures(|round| round.cpu_each * 1e6), Goal::AtMost(100.0))?;
    let what = format!("tokens a second, beside rows at {GROUP} a commit");
    table.pairs(&what, "", &pairs(|round| (round.per_second, round.inserts)), false, Goal::AtLeast(0.6))?;
    let what = "  beside all that a token writes, committed alike";
    table.pairs(what, "", &pairs(|round| (round.per_second, round.rolls)), false, Goal::None)
}

/// One client, one token after the other: how long each took, and the CPU for one.
pub(crate) async fn alone(process: &Process, holder: &mut impl Renew, tokens: usize) -> Outcome<(Vec<Duration>, f64)> {
    holder.begin().await?;
    let cpu = process.cpu()?;
    let mut each = Vec::with_capacity(tokens);
    for _ in 0..tokens {
        let began = system_instant();
        holder.renew().await?;
        each.push(system_instant() - began);
    }
    Ok((each, (process.cpu()? - cpu).as_secs_f64() / tokens as f64))
}

/// All clients at once: tokens a second, and the CPU for one.
pub(crate) async fn at_once(process: &Process, holders: &mut [impl Renew], tokens: usize) -> Outcome<(f64, f64)> {
    for holder in &mut *holders {
        holder.begin().await?;
    }
    let left = Cell::new(tokens);
    let (cpu, began) = (process.cpu()?, system_instant());
    let rolling = holders.iter_mut().map(|holder| {
        let left = &left;
        async move {
            while let Some(fewer) = left.get().checked_sub(1) {
                left.set(fewer);
                holder.renew().await?;
            }
            Outcome::Ok(())
        }
    });
    try_join_all(rolling).await?;
    let (took, cpu) = (system_instant() - began, process.cpu()? - cpu);
    Ok((tokens as f64 / took.as_secs_f64(), cpu.as_secs_f64() / tokens as f64))
}

impl Holder {
    async fn connect(number: usize, server: &Server) -> Outcome<Holder> {
        let client = Client::connect(source(number), server.address).await?;
        Ok(Holder { client, login: text_frame(&auth_owner(number)), token: String::new() })
    }
}

impl Renew for Holder {
    /// Begins a session.
    async fn begin(&mut self) -> Outcome<()> {
        self.token = self.client.granted(&self.login).await?;
        Ok(())
    }

    async fn renew(&mut self) -> Outcome<()> {
        let successor = self.client.granted(&text_frame(&auth_token(&self.token))).await?;
        if successor == self.token {
            return Err("the token did not roll".into());
        }
        self.token = successor;
        Ok(())
    }
}

/// How long the reference took to write this many, and to write the median one.
fn written(disk: &mut Process, what: &str, count: usize) -> Outcome<(Duration, Duration)> {
    disk.say(&format!("{what} {count}"))?;
    let line = disk.hear()?;
    let (all, each) = line.split_once(' ').ok_or("the reference says two figures")?;
    Ok((Duration::from_micros(all.parse()?), Duration::from_micros(each.parse()?)))
}
