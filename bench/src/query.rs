//! `QueryIdentify` on authenticated sockets, beside a bare axum WebSocket that is sent the very same bytes and answers
//! with a fixed text as long as the server's answer, without looking at what it was sent.
//!
//! One message in flight on each of several connections; then sixteen in one write on one connection. The loader is one
//! thread that blocks, so that it asks for little.

use gatepost_identity::clock::system_instant;

use crate::Outcome;
use crate::client::{Blocking, Client, text_frame};
use crate::measure::{Goal, Table};
use crate::process::{Process, Server};
use crate::setup::{Installation, QUERY_IDENTIFY, auth_owner, source};

const CONNECTIONS: usize = 8;
const BATCH: usize = 16;
const ROUNDS: usize = 15;
/// Messages of a round: about a second.
const MESSAGES: usize = 40_000;
const BATCHED_MESSAGES: usize = 160_000;

/// One side of the comparison: its process and connections to it.
struct Side<'a> {
    process: &'a Process,
    connections: Vec<Blocking>,
}

/// Microseconds of CPU for a message, and messages a second.
type Figures = (f64, f64);

/// Measures and prints.
pub(crate) async fn run() -> Outcome<()> {
    let server = Server::start(Installation::new("", CONNECTIONS).await?)?;
    let mut connections = Vec::new();
    let mut length = 0;
    for number in 0..CONNECTIONS {
        let mut client = Client::connect(source(number), server.address).await?;
        client.granted(&text_frame(&auth_owner(number))).await?;
        client.send(&text_frame(QUERY_IDENTIFY)).await?;
        let answer = client.next().await?;
        if !answer.contains(r#""Result":"Success""#) {
            return Err(format!("the connection is not authenticated: {answer}").into());
        }
        length = answer.len();
        connections.push(client.blocking()?);
    }
    let mut ours = Side { process: &server.process, connections };

    let mut process = Process::reference(&["reference-echo", &length.to_string()])?;
    let address = process.hear()?.parse()?;
    let mut connections = Vec::new();
    for number in 0..CONNECTIONS {
        connections.push(Client::connect(source(number), address).await?.blocking()?);
    }
    let mut reference = Side { process: &process, connections };

    let mut one = Vec::new();
    let mut batched = Vec::new();
    for _ in 0..=ROUNDS {
        one.push((ours.one_in_flight()?, reference.one_in_flight()?));
        batched.push((ours.batches()?, reference.batches()?));
    }
    let asked = QUERY_IDENTIFY.len();
    let table = Table::begin(&format!(
        "query: QueryIdentify ({asked} bytes) and its answer ({length} bytes) beside a bare axum WebSocket, {ROUNDS} rounds"
    ))?;
    let cpu = |rounds: &[(Figures, Figures)]| rounds[1..].iter().map(|(ours, theirs)| (ours.0, theirs.0)).collect::<Vec<_>>();
    let rate = |rounds: &[(Figures, Figures)]| rounds[1..].iter().map(|(ours, theirs)| (ours.1, theirs.1)).collect::<Vec<_>>();
    let what = format!("CPU, one in flight on {CONNECTIONS} connections");
    table.pairs(&what, " us", &cpu(&one), true, Goal::AtLeast(0.80))?;
    table.pairs("  messages a second", "", &rate(&one), false, Goal::None)?;
    table.pairs(&format!("CPU, {BATCH} in one write on one connection"), " us", &cpu(&batched), true, Goal::AtLeast(1.5))?;
    table.pairs("  messages a second", "", &rate(&batched), false, Goal::None)
}

impl Side<'_> {
    fn one_in_flight(&mut self) -> Outcome<Figures> {
        let frame = text_frame(QUERY_IDENTIFY);
        self.measure(MESSAGES, |connections| {
            for connection in &mut *connections {
                connection.send(&frame)?;
            }
            for _ in 1..MESSAGES / CONNECTIONS {
                for connection in &mut *connections {
                    connection.skip(1)?;
                    connection.send(&frame)?;
                }
            }
            connections.iter_mut().try_for_each(|connection| connection.skip(1))
        })
    }

    fn batches(&mut self) -> Outcome<Figures> {
        let frames = text_frame(QUERY_IDENTIFY).repeat(BATCH);
        self.measure(BATCHED_MESSAGES, |connections| {
            for _ in 0..BATCHED_MESSAGES / BATCH {
                connections[0].send(&frames)?;
                connections[0].skip(BATCH)?;
            }
            Ok(())
        })
    }

    fn measure(&mut self, messages: usize, load: impl FnOnce(&mut [Blocking]) -> Outcome<()>) -> Outcome<Figures> {
        let (cpu, began) = (self.process.cpu()?, system_instant());
        load(&mut self.connections)?;
        let (took, cpu) = (system_instant() - began, self.process.cpu()? - cpu);
        Ok((cpu.as_secs_f64() * 1e6 / messages as f64, messages as f64 / took.as_secs_f64()))
    }
}
