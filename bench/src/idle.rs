//! What an authenticated connection costs that says nothing: memory of the process, and CPU for the ping every half minute.
//!
//! Twice: where each connection has an account and a session of its own, and where sixty share a session, as those of one
//! person would. Passwords are cheap here, since they are not what is measured.

use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::iter;

use crate::Outcome;
use crate::client::{Client, text_frame};
use crate::measure::{Goal, Table};
use crate::process::{Server, many_descriptors};
use crate::setup::{CHEAP_PASSWORDS, Installation, auth_owner, auth_token, source};

const CONNECTIONS: usize = 15_000;
/// These come first, so that what the server allocates once is not counted.
const WARM: usize = 200;
/// Connections that share a session, the second time.
const SHARING: usize = 60;
const AT_ONCE: usize = 32;
/// Until what was put off is written.
const SETTLE: Duration = Duration::from_secs(8);
/// Two pings of every connection.
const WATCHED: Duration = Duration::from_secs(60);

/// Measures and prints.
pub(crate) async fn run() -> Outcome<()> {
    many_descriptors(CONNECTIONS as u64 + 500)?;
    let table = Table::begin(&format!("idle: {CONNECTIONS} authenticated connections, a ping every 30 s"))?;
    watch(&table, CONNECTIONS, "each with its own session").await?;
    watch(&table, CONNECTIONS / SHARING, &format!("{SHARING} to a session")).await
}

async fn watch(table: &Table, sessions: usize, how: &str) -> Outcome<()> {
    let server = Server::start(Installation::new(CHEAP_PASSWORDS, sessions).await?)?;
    let process = &server.process;
    let mut tokens = Vec::new();
    let mut connected = tokio::task::JoinSet::new();
    let mut empty = 0.0;
    for (begin, end) in [(0, WARM), (WARM, CONNECTIONS)] {
        let tokens_so_far = std::mem::take(&mut tokens);
        let mut connecting = iter(begin..end)
            .map(|number| {
                let token: Option<&String> = tokens_so_far.get(number % sessions);
                let frame = text_frame(&token.map_or_else(|| auth_owner(number % sessions), |token| auth_token(token)));
                async move {
                    let mut client = Client::connect(source(number), server.address).await?;
                    let token = client.granted(&frame).await?;
                    Outcome::Ok((client, token))
                }
            })
            .buffered(AT_ONCE);
        while let Some(client) = connecting.next().await {
            let (mut client, token) = client?;
            tokens.push(token);
            connected.spawn(async move { client.next().await });
        }
        drop(connecting);
        if begin == 0 {
            tokio::time::sleep(Duration::from_secs(2)).await;
            empty = process.resident()?;
        }
    }
    tokio::time::sleep(SETTLE).await;
    let memory = (process.resident()? - empty) / (CONNECTIONS - WARM) as f64;
    let cpu = process.cpu()?;
    tokio::time::sleep(WATCHED).await;
    let cpu = (process.cpu()? - cpu).as_secs_f64() / WATCHED.as_secs_f64() * 100.0;
    let later = (process.resident()? - empty) / (CONNECTIONS - WARM) as f64;
    if connected.try_join_next().is_some() {
        return Err("a connection did not stay idle".into());
    }
    table.figure(&format!("memory of a connection, {how}"), " kB", memory / 1000.0, Goal::AtMost(4.0))?;
    table.figure("  the same a minute later", " kB", later / 1000.0, Goal::AtMost(4.0))?;
    table.figure("  CPU over that minute, of one core", " %", cpu, Goal::AtMost(1.0))
}
