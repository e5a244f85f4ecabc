//! Many more passwords than the threads can hash: 256 clients at once, each told to come again and coming again.
//!
//! Says how long the slowest of those who are turned away had to wait for that word, what coming back by a token takes
//! meanwhile, and whether as many still get in as when nobody is turned away. The loader has the same cores, so what it
//! takes is missing in the goodput.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use futures_util::future::try_join_all;
use gatepost_identity::clock::system_instant;

use crate::Outcome;
use crate::client::{Client, Login, text_frame};
use crate::measure::{Goal, Table, duration_at};
use crate::process::Server;
use crate::setup::{Installation, auth_owner, auth_token, source};

/// The settings under which an attempt is turned away soon.
pub(crate) const SETTINGS: &str = "[password]\nmax_wait = '200ms'\n";
/// Clients that offer passwords.
pub(crate) const CLIENTS: usize = 256;
/// So few that nobody is turned away, and so many that no thread waits.
const FITTING: usize = 6;
/// Connections that come back by a token, besides.
const RETURNING: usize = 2;
const ROUNDS: usize = 5;
const LASTING: Duration = Duration::from_secs(5);
const CALM: Duration = Duration::from_secs(2);
/// How long a client waits before it tries again: together about ten times what can be hashed.
pub(crate) const AGAIN: Duration = Duration::from_millis(250);
/// How often a connection comes back by its token.
const RETURN: Duration = Duration::from_millis(20);

/// What a client met with: how long it waited for each word.
#[derive(Default)]
pub(crate) struct Met {
    granted: Vec<Duration>,
    refused: Vec<Duration>,
    refused_at_first: bool,
}

/// Measures and prints.
pub(crate) async fn run() -> Outcome<()> {
    let server = Server::start(Installation::new(SETTINGS, CLIENTS + RETURNING).await?)?;
    let address = server.address;
    let mut clients = try_join_all((0..CLIENTS).map(|number| Client::connect(source(number), address))).await?;
    let mut tokens = Vec::new();
    for number in CLIENTS..CLIENTS + RETURNING {
        let mut client = Client::connect(source(number), address).await?;
        tokens.push(client.granted(&text_frame(&auth_owner(number))).await?);
    }
    let (returned, mut calm) = return_for(address, tokens, CALM).await?;
    tokens = returned;

    let (mut goodput, mut offered, mut at_first, mut slowest) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let (mut granted, mut refused, mut restored, mut memory) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for round in 0..=ROUNDS {
        let before = per_second(&offer(&mut clients[..FITTING], CALM, Duration::ZERO).await?, CALM);
        // A thread of its own, so that it does not wait behind the answers of the others.
        let returning = std::thread::spawn(move || {
            tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(return_for(address, tokens, LASTING))
        });
        let met = offer(&mut clients, LASTING, AGAIN).await?;
        let returned = returning.join().map_err(|_| "the thread that comes back by tokens panicked")??;
        tokens = returned.0;
        let after = per_second(&offer(&mut clients[..FITTING], CALM, Duration::ZERO).await?, CALM);
        memory.push(server.process.resident()? / 1e6);
        if round == 0 {
            continue;
        }
        let tried: usize = met.iter().map(|met| met.granted.len() + met.refused.len()).sum();
        goodput.push((per_second(&met, LASTING), (before + after) / 2.0));
        offered.push((tried as f64 / LASTING.as_secs_f64(), (before + after) / 2.0));
        at_first.push(met.iter().filter(|met| met.refused_at_first).count() as f64);
        slowest.push(met.iter().flat_map(|met| &met.refused).max().map_or(0.0, Duration::as_secs_f64) * 1e3);
        granted.extend(met.iter().flat_map(|met| met.granted.clone()));
        refused.extend(met.iter().flat_map(|met| met.refused.clone()));
        restored.extend(returned.1);
    }
    let table = Table::begin(&format!(
        "overload: {CLIENTS} clients offer passwords for {} s, max_wait 200 ms, {ROUNDS} rounds; the reference is {FITTING} clients",
        LASTING.as_secs()
    ))?;
    let millis = |durations: &mut Vec<Duration>, part| duration_at(durations, part).as_secs_f64() * 1e3;
    table.pairs("logins offered a second", "", &offered, false, Goal::None)?;
    table.pairs("logins granted a second", "", &goodput, false, Goal::AtLeast(0.95))?;
    table.figures("turned away in the first round", "", &at_first, Goal::None)?;
    table.figures("slowest refusal of a round", " ms", &slowest, Goal::AtMost(100.0))?;
    table.figure("slowest refusal of all rounds", " ms", millis(&mut refused, 1.0), Goal::AtMost(100.0))?;
    table.figure("  median refusal", " ms", millis(&mut refused, 0.5), Goal::None)?;
    table.figure("slowest login granted", " ms", millis(&mut granted, 1.0), Goal::AtMost(2000.0))?;
    table.figure("AuthToken meanwhile, 99 of 100", " ms", millis(&mut restored, 0.99), Goal::AtMost(20.0))?;
    table.figure("  median", " ms", millis(&mut restored, 0.5), Goal::None)?;
    table.figure("  99 of 100 when nothing else goes on", " ms", millis(&mut calm, 0.99), Goal::None)?;
    table.figure("memory after the first round", " MB", memory.first().copied().unwrap_or_default(), Goal::None)?;
    table.figure("memory after the last", " MB", memory.last().copied().unwrap_or_default(), Goal::None)
}

/// Every client offers its password until the time is over, and again after a while whatever it was told.
pub(crate) async fn offer(clients: &mut [Client], lasting: Duration, again: Duration) -> Outcome<Vec<Met>> {
    let until = system_instant() + lasting;
    let offering = clients.iter_mut().enumerate().map(|(number, client)| {
        let frame = text_frame(&auth_owner(number));
        async move {
            let mut met = Met::default();
            while system_instant() < until {
                let began = system_instant();
                let login = client.log_in(&frame).await?;
                let (ended, took) = (system_instant(), system_instant() - began);
                let first = met.granted.is_empty() && met.refused.is_empty();
                match login {
                    // What is answered later belongs to no second of these.
                    Login::Granted(_) if ended <= until => met.granted.push(took),
                    Login::Granted(_) => {}
                    Login::Busy => {
                        met.refused_at_first |= first;
                        met.refused.push(took);
                    }
                }
                tokio::time::sleep(again).await;
            }
            Outcome::Ok(met)
        }
    });
    try_join_all(offering).await
}

fn per_second(met: &[Met], lasting: Duration) -> f64 {
    met.iter().map(|met| met.granted.len()).sum::<usize>() as f64 / lasting.as_secs_f64()
}

/// Comes back by each token on a connection, again and again by the one told last. Answers the last ones and how long each took.
async fn return_for(address: SocketAddr, tokens: Vec<String>, lasting: Duration) -> Outcome<(Vec<String>, Vec<Duration>)> {
    let until: Instant = system_instant() + lasting;
    let returning = tokens.into_iter().enumerate().map(|(number, mut token)| async move {
        let mut client = Client::connect(source(CLIENTS + number), address).await?;
        let mut took = Vec::new();
        while system_instant() < until {
            let frame = text_frame(&auth_token(&token));
            let began = system_instant();
            token = client.granted(&frame).await?;
            took.push(system_instant() - began);
            tokio::time::sleep(RETURN).await;
        }
        Outcome::Ok((token, took))
    });
    let (tokens, took): (Vec<_>, Vec<_>) = try_join_all(returning).await?.into_iter().unzip();
    Ok((tokens, took.concat()))
}
