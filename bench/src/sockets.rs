//! One message again and again on open sockets, and what it costs the process at the other end.
//!
//! One in flight on each of several connections; and many in one write on one connection. The loader is one thread that
//! blocks, so that it asks for little. It refuses to know what the messages mean: each is answered by one, which must hold what it
//! was said to.

use gatepost_identity::clock::system_instant;

use crate::Outcome;
use crate::client::Client;
use crate::measure::{Goal, Table, count, rounds};
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

/// A connection, for a thread that blocks on it.
pub(crate) trait Connection {
    /// Sends messages in one write.
    fn send(&mut self, messages: &[u8]) -> Outcome<()>;

    /// Waits for the next answer, whole.
    fn answer(&mut self) -> Outcome<&[u8]>;
}

/// What a connection sends.
pub(crate) enum Messages {
    /// The same again and again.
    Same(Vec<u8>),
    /// This, and then what the answer before calls for.
    Following(Vec<u8>, fn(&[u8]) -> Outcome<Vec<u8>>),
}

impl Messages {
    /// The next one.
    pub(crate) fn next(&self) -> &[u8] {
        match self {
            Messages::Same(message) | Messages::Following(message, _) => message,
        }
    }

    fn answered(&mut self, answer: &[u8]) -> Outcome<()> {
        if let Messages::Following(message, follow) = self {
            *message = follow(answer)?;
        }
        Ok(())
    }
}

/// One side of a comparison: a process, connections to it, and what each of them sends.
pub(crate) struct Side<'a> {
    process: &'a Process,
    connections: Vec<(Box<dyn Connection>, Messages)>,
    /// What an answer must hold.
    expected: String,
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
    /// Of these connections, every answer on which must hold `expected`.
    pub(crate) fn new(process: &'a Process, connections: Vec<(Box<dyn Connection>, Messages)>, expected: &str) -> Side<'a> {
        Side { process, connections, expected: expected.to_owned() }
    }

    /// Of these WebSockets.
    pub(crate) fn of_sockets(process: &'a Process, sockets: Vec<(Client, Messages)>, expected: &str) -> Outcome<Side<'a>> {
        let blocking = |(client, messages): (Client, Messages)| -> Outcome<(Box<dyn Connection>, Messages)> {
            Ok((Box::new(client.blocking()?), messages))
        };
        Ok(Side::new(process, sockets.into_iter().map(blocking).collect::<Outcome<_>>()?, expected))
    }

    /// One message in flight on each connection.
    pub(crate) fn one_in_flight(&mut self) -> Outcome<Figures> {
        self.so_many(MESSAGES)
    }

    /// The same of another number of messages.
    pub(crate) fn so_many(&mut self, messages: usize) -> Outcome<Figures> {
        self.in_flight(count(messages), None)
    }

    /// Each of these messages once, one in flight on each connection.
    pub(crate) fn each_once(&mut self, messages: &[Vec<u8>]) -> Outcome<Figures> {
        self.in_flight(messages.len(), Some(messages))
    }

    fn in_flight(&mut self, total: usize, instead: Option<&[Vec<u8>]>) -> Outcome<Figures> {
        self.measure(total, |connections, expected| {
            for number in 0..total + CONNECTIONS {
                let (connection, messages) = &mut connections[number % CONNECTIONS];
                if number >= CONNECTIONS {
                    messages.answered(holding(connection.answer()?, expected)?)?;
                }
                if number < total {
                    connection.send(instead.map_or(messages.next(), |all| &all[number]))?;
                }
            }
            Ok(())
        })
    }

    fn batches(&mut self) -> Outcome<Figures> {
        let total = count(BATCHED_MESSAGES);
        self.measure(total, |connections, expected| {
            let (connection, messages) = &mut connections[0];
            for _ in 0..total / BATCH {
                connection.send(&messages.next().repeat(BATCH))?;
                for _ in 1..BATCH {
                    holding(connection.answer()?, expected)?;
                }
                messages.answered(holding(connection.answer()?, expected)?)?;
            }
            Ok(())
        })
    }

    fn measure(
        &mut self,
        messages: usize,
        load: impl FnOnce(&mut [(Box<dyn Connection>, Messages)], &str) -> Outcome<()>,
    ) -> Outcome<Figures> {
        let (cpu, began) = (self.process.cpu()?, system_instant());
        load(&mut self.connections, &self.expected)?;
        let (took, cpu) = (system_instant() - began, self.process.cpu()? - cpu);
        Ok(Figures { cpu_each: cpu.as_secs_f64() * 1e6 / messages as f64, per_second: messages as f64 / took.as_secs_f64() })
    }
}

/// The answer, if this stands in it.
fn holding<'a>(answer: &'a [u8], expected: &str) -> Outcome<&'a [u8]> {
    let expected = expected.as_bytes();
    if expected.is_empty() || answer.windows(expected.len()).any(|part| part == expected) {
        return Ok(answer);
    }
    Err(format!("an answer is not what was expected: {}", String::from_utf8_lossy(answer)).into())
}

/// Measures connections to the server, each answer on which must hold `expected`, beside a bare axum WebSocket that is sent the
/// very same bytes, does not look at them, and answers with a fixed text as long as the server's answer; prints what came out
/// below `title`. `goal`: what part of ours the reference's CPU should be, with one message in flight.
pub(crate) async fn beside_an_echo(
    title: &str,
    process: &Process,
    ours: Vec<(Client, Messages)>,
    (answer, expected): (usize, &str),
    goal: f64,
) -> Outcome<()> {
    let frames: Vec<Vec<u8>> = ours.iter().map(|(_, messages)| messages.next().to_owned()).collect();
    let mut ours = Side::of_sockets(process, ours, expected)?;
    let mut echo = Process::reference(&["reference-echo", &answer.to_string()])?;
    let address = echo.hear()?.parse()?;
    let mut connections = Vec::new();
    for (number, frame) in frames.into_iter().enumerate() {
        connections.push((Client::connect(source(number), address).await?, Messages::Same(frame)));
    }
    let mut theirs = Side::of_sockets(&echo, connections, "")?;

    let mut one = Vec::new();
    let mut batched = Vec::new();
    let repeated = rounds(ROUNDS);
    for _ in 0..=repeated {
        one.push((ours.one_in_flight()?, theirs.one_in_flight()?));
        batched.push((ours.batches()?, theirs.batches()?));
    }
    let table = Table::begin(&format!("{title} beside a bare axum WebSocket, {repeated} rounds"))?;
    let what = format!("CPU, one in flight on {CONNECTIONS} connections");
    table.pairs(&what, " us", &pairs(&one, |side| side.cpu_each), true, Goal::AtLeast(goal))?;
    table.pairs("  messages a second", "", &pairs(&one, |side| side.per_second), false, Goal::None)?;
    let what = format!("CPU, {BATCH} in one write on one connection");
    table.pairs(&what, " us", &pairs(&batched, |side| side.cpu_each), true, Goal::AtLeast(1.5))?;
    table.pairs("  messages a second", "", &pairs(&batched, |side| side.per_second), false, Goal::None)
}

/// One figure of both sides of each round but the first.
pub(crate) fn pairs(rounds: &[(Figures, Figures)], figure: impl Fn(&Figures) -> f64) -> Vec<(f64, f64)> {
    rounds[1..].iter().map(|(ours, theirs)| (figure(ours), figure(theirs))).collect()
}
