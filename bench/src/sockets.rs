//! One message again and again on open sockets, and what it costs the process at the other end.
//!
//! One in flight on each of several connections; and many in one write on one connection. The loader is one thread that
//! blocks, so that it asks for little. It refuses to know what the messages mean: each is answered by one.

use gatepost_identity::clock::system_instant;

use crate::Outcome;
use crate::client::{Blocking, Client};
use crate::measure::{Goal, Table};
use crate::process::Process;
use crate::setup::source;

/// Connections with one message in flight each.
pub(crate) const CONNECTIONS: usize = 8;
/// How often both sides are measured, the first time left out.
pub(crate) const ROUNDS: usize = 15;
/// Messages in one write.
const BATCH: usize = 16;
/// Messages of a round: about a second.
const MESSAGES: usize = 40_000;
const BATCHED_MESSAGES: usize = 160_000;

/// One side of a comparison: a process, connections to it, and the frame that each connection sends.
pub(crate) struct Side<'a> {
    process: &'a Process,
    connections: Vec<Blocking>,
    frames: Vec<Vec<u8>>,
}

/// What a round came to.
#[derive(Clone, Copy)]
pub(crate) struct Figures {
    /// Microseconds of CPU for a message that came and was answered.
    pub(crate) cpu_each: f64,
    /// Of such messages.
    pub(crate) per_second: f64,
}

impl<'a> Side<'a> {
    /// Of these connections, with a frame for each.
    pub(crate) fn new(process: &'a Process, connections: Vec<(Client, Vec<u8>)>) -> Outcome<Side<'a>> {
        let (clients, frames): (Vec<_>, Vec<_>) = connections.into_iter().unzip();
        let connections = clients.into_iter().map(Client::blocking).collect::<Outcome<_>>()?;
        Ok(Side { process, connections, frames })
    }

    /// One message in flight on each connection.
    pub(crate) fn one_in_flight(&mut self) -> Outcome<Figures> {
        self.measure(MESSAGES, |connections, frames| {
            for (connection, frame) in connections.iter_mut().zip(frames) {
                connection.send(frame)?;
            }
            for _ in 1..MESSAGES / CONNECTIONS {
                for (connection, frame) in connections.iter_mut().zip(frames) {
                    connection.skip(1)?;
                    connection.send(frame)?;
                }
            }
            connections.iter_mut().try_for_each(|connection| connection.skip(1))
        })
    }

    fn batches(&mut self) -> Outcome<Figures> {
        self.measure(BATCHED_MESSAGES, |connections, frames| {
            let batch = frames[0].repeat(BATCH);
            for _ in 0..BATCHED_MESSAGES / BATCH {
                connections[0].send(&batch)?;
                connections[0].skip(BATCH)?;
            }
            Ok(())
        })
    }

    fn measure(&mut self, messages: usize, load: impl FnOnce(&mut [Blocking], &[Vec<u8>]) -> Outcome<()>) -> Outcome<Figures> {
        let (cpu, began) = (self.process.cpu()?, system_instant());
        load(&mut self.connections, &self.frames)?;
        let (took, cpu) = (system_instant() - began, self.process.cpu()? - cpu);
        Ok(Figures { cpu_each: cpu.as_secs_f64() * 1e6 / messages as f64, per_second: messages as f64 / took.as_secs_f64() })
    }
}

/// Measures connections to the server beside a bare axum WebSocket that is sent the very same bytes, does not look at them,
/// and answers with a fixed text as long as the server's answer; prints what came out below `title`.
pub(crate) async fn beside_an_echo(title: &str, process: &Process, ours: Vec<(Client, Vec<u8>)>, answer: usize) -> Outcome<()> {
    let frames: Vec<Vec<u8>> = ours.iter().map(|(_, frame)| frame.clone()).collect();
    let mut ours = Side::new(process, ours)?;
    let mut echo = Process::reference(&["reference-echo", &answer.to_string()])?;
    let address = echo.hear()?.parse()?;
    let mut connections = Vec::new();
    for (number, frame) in frames.into_iter().enumerate() {
        connections.push((Client::connect(source(number), address).await?, frame));
    }
    let mut theirs = Side::new(&echo, connections)?;

    let mut one = Vec::new();
    let mut batched = Vec::new();
    for _ in 0..=ROUNDS {
        one.push((ours.one_in_flight()?, theirs.one_in_flight()?));
        batched.push((ours.batches()?, theirs.batches()?));
    }
    let table = Table::begin(&format!("{title} beside a bare axum WebSocket, {ROUNDS} rounds"))?;
    let what = format!("CPU, one in flight on {CONNECTIONS} connections");
    table.pairs(&what, " us", &pairs(&one, |side| side.cpu_each), true, Goal::AtLeast(0.80))?;
    table.pairs("  messages a second", "", &pairs(&one, |side| side.per_second), false, Goal::None)?;
    let what = format!("CPU, {BATCH} in one write on one connection");
    table.pairs(&what, " us", &pairs(&batched, |side| side.cpu_each), true, Goal::AtLeast(1.5))?;
    table.pairs("  messages a second", "", &pairs(&batched, |side| side.per_second), false, Goal::None)
}

/// One figure of both sides of each round but the first.
pub(crate) fn pairs(rounds: &[(Figures, Figures)], figure: impl Fn(&Figures) -> f64) -> Vec<(f64, f64)> {
    rounds[1..].iter().map(|(ours, theirs)| (figure(ours), figure(theirs))).collect()
}
