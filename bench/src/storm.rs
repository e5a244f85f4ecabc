//! Everybody comes back at once: 10,000 connections broke, and each client connects anew and shows its token.
//!
//! By a signed token that was seen before and does not roll; the same while passwords are offered at ten times what can be hashed;
//! and, for comparison, by a token that rolls, where each successor is on disk before it is told. All connections are asked for
//! before the first is there. The loader has the same cores.

use std::net::SocketAddr;
use std::time::Duration;

use futures_util::future::try_join_all;
use futures_util::stream::iter;
use futures_util::{StreamExt, TryStreamExt};
use gatepost_identity::clock::system_instant;

use crate::Outcome;
use crate::client::{Client, text_frame};
use crate::measure::{Goal, Table, count, rounds};
use crate::process::{Server, many_descriptors};
use crate::setup::{CHEAP_PASSWORDS, Installation, auth_owner, auth_token, auth_token_of, source};
use crate::{bearer, overload};

const CLIENTS: usize = 10_000;
const ROUNDS: usize = 7;
/// Where a provider is named, those are all that there are.
const PASSWORDS_TOO: &str = "[[provider]]\nname = 'local'\nkind = 'local'\n";
/// Until the server has noticed that everybody is gone, and is at rest.
const GONE: Duration = Duration::from_secs(2);
/// So many log in by passwords at a time, which is not what is measured.
const AT_ONCE: usize = 64;
/// How long passwords are offered: a storm begins a second later and has to end before.
const OFFERED: Duration = Duration::from_secs(7);
const BEFORE: Duration = Duration::from_secs(1);

/// What a storm came to.
#[derive(Clone, Copy)]
struct Storm {
    /// Seconds from the first connection that was asked for until the last client was answered.
    took: f64,
    /// Microseconds of the server's CPU for each client.
    cpu_each: f64,
}

/// Measures and prints.
pub(crate) async fn run() -> Outcome<()> {
    let clients = count(CLIENTS);
    many_descriptors(clients as u64 + 1_000)?;
    let table = Table::begin(&format!("storm: {clients} clients come back at once, {} rounds", rounds(ROUNDS)))?;

    let besides = format!("{PASSWORDS_TOO}{}", overload::SETTINGS);
    let server = Server::start(bearer::installation(&besides, overload::CLIENTS).await?)?;
    let tokens = (0..clients).map(|number| Ok(text_frame(&auth_token_of(bearer::PROVIDER, &bearer::token(number)?))));
    let tokens = tokens.collect::<Outcome<Vec<_>>>()?;
    let mut storms = Vec::new();
    for _ in 0..=rounds(ROUNDS) {
        storms.push(storm(&server, &tokens).await?.0);
    }
    print(&table, "by a token that does not roll", &storms, [Goal::AtMost(5.0), Goal::AtMost(100.0)])?;

    let mut storms = Vec::new();
    for _ in 0..=rounds(ROUNDS) {
        let address = server.address;
        let offering = std::thread::spawn(move || {
            tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(offer(address))
        });
        tokio::time::sleep(BEFORE).await;
        storms.push(storm(&server, &tokens).await?.0);
        let offered = tokio::task::spawn_blocking(move || offering.join()).await?;
        offered.map_err(|_| "the thread that offers passwords panicked")??;
    }
    // What hashing took meanwhile is in the server's CPU too, and says nothing of a client.
    let took: Vec<f64> = storms[1..].iter().map(|storm| storm.took).collect();
    table.figures("the same while passwords are offered", " s", &took, Goal::AtMost(5.0))?;
    drop(server);

    let server = Server::start(Installation::new(CHEAP_PASSWORDS, clients).await?)?;
    let server = &server;
    let logins = (0..clients).map(async |number| {
        let mut client = Client::connect(source(number), server.address).await?;
        Outcome::Ok(text_frame(&auth_token(&client.granted(&text_frame(&auth_owner(number))).await?)))
    });
    let mut tokens: Vec<_> = iter(logins).buffered(AT_ONCE).try_collect().await?;
    let mut storms = Vec::new();
    for _ in 0..=rounds(ROUNDS) {
        let (storm, told) = storm(server, &tokens).await?;
        tokens = told.iter().map(|token| text_frame(&auth_token(token))).collect();
        storms.push(storm);
    }
    print(&table, "by a token that rolls", &storms, [Goal::None, Goal::None])
}

/// Has everybody come at once, each with the message that is its own; answers what they were told, once they all have gone.
async fn storm(server: &Server, messages: &[Vec<u8>]) -> Outcome<(Storm, Vec<String>)> {
    let (cpu, began) = (server.process.cpu()?, system_instant());
    let coming = messages.iter().enumerate().map(async |(number, message)| {
        let mut client = Client::connect(source(number), server.address).await?;
        let told = client.granted(message).await?;
        Outcome::Ok((client, told))
    });
    let (clients, told): (Vec<_>, Vec<_>) = try_join_all(coming).await?.into_iter().unzip();
    let (took, cpu) = ((system_instant() - began).as_secs_f64(), (server.process.cpu()? - cpu).as_secs_f64());
    drop(clients);
    tokio::time::sleep(GONE).await;
    Ok((Storm { took, cpu_each: cpu * 1e6 / messages.len() as f64 }, told))
}

/// Offers passwords as `overload` does.
async fn offer(address: SocketAddr) -> Outcome<()> {
    let connecting = (0..overload::CLIENTS).map(|number| Client::connect(source(number), address));
    let mut clients = try_join_all(connecting).await?;
    overload::offer(&mut clients, OFFERED, overload::AGAIN).await?;
    Ok(())
}

fn print(table: &Table, how: &str, storms: &[Storm], [took, cpu]: [Goal; 2]) -> Outcome<()> {
    let figures = |figure: fn(&Storm) -> f64| storms[1..].iter().map(figure).collect::<Vec<_>>();
    table.figures(&format!("until the last is back, {how}"), " s", &figures(|storm| storm.took), took)?;
    table.figures("  CPU of a client", " us", &figures(|storm| storm.cpu_each), cpu)
}
