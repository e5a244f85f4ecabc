//! `POST /access-token` over the ServiceStack gate: an access token for a refresh token.
//!
//! Twice. Where refresh tokens do not rotate, nothing is written but, now and then, how many numbers were used. Where they do,
//! each token that is used gets a successor, which is on disk before it is told; that stands beside the disk and SQLite with
//! nothing around them, as `rolling` does.
//!
//! A token gets no successor while it is younger than the overlap, whoever shows it. So each client has many tokens, each from a
//! login of its own, and uses them one after the other: none comes back before it is older than that.

use std::time::{Duration, Instant};

use gatepost_identity::clock::system_instant;

use crate::Outcome;
use crate::http::{Http, request};
use crate::measure::{Goal, Table, count, duration_at, rounds};
use crate::process::Server;
use crate::requests::JSON;
use crate::rolling::{Extent, Renew, alone, at_once, beside_the_disk};
use crate::setup::{CHEAP_PASSWORDS, Installation, SERVICESTACK_TOKENS, credentials, source};
use crate::sockets::ROUNDS;

const CLIENTS: usize = 64;
/// Tokens of a round with all clients, and with one.
const MANY: usize = 12_800;
const FEW: usize = 800;
/// How long a token that was used is answered with the same successor: as short as the figures allow.
const OVERLAP: Duration = Duration::from_secs(1);

/// A connection, and the refresh tokens that it uses in turn.
struct Browser {
    client: Http,
    tokens: Vec<String>,
    next: usize,
    /// When the oldest use of this round was.
    last: Option<Instant>,
    rotates: bool,
}

/// Measures and prints.
pub(crate) async fn run() -> Outcome<()> {
    let extent = Extent { clients: CLIENTS, many: count(MANY), few: count(FEW) };
    let server = Server::start(Installation::new(&format!("{CHEAP_PASSWORDS}{SERVICESTACK_TOKENS}"), CLIENTS + 1).await?)?;
    let (mut single, mut all) = browsers(&server, Extent { many: CLIENTS, few: 1, ..extent }, false).await?;
    let mut measured = Vec::new();
    for _ in 0..=rounds(ROUNDS) {
        let (mut each, cpu_alone) = alone(&server.process, &mut single, extent.few).await?;
        let (per_second, cpu_each) = at_once(&server.process, &mut all, extent.many).await?;
        measured.push([cpu_alone * 1e6, duration_at(&mut each, 0.5).as_secs_f64() * 1e6, cpu_each * 1e6, per_second]);
    }
    let table = Table::begin(&format!("refresh: POST /access-token, refresh tokens do not rotate, {} rounds", rounds(ROUNDS)))?;
    let figures = |place: usize| measured[1..].iter().map(|round| round[place]).collect::<Vec<_>>();
    table.figures("CPU of a token, one client", " us", &figures(0), Goal::AtMost(100.0))?;
    table.figures("  median time", " us", &figures(1), Goal::None)?;
    table.figures(&format!("CPU of a token, {CLIENTS} clients"), " us", &figures(2), Goal::AtMost(100.0))?;
    table.figures("  tokens a second", "", &figures(3), Goal::None)?;
    drop(server);

    let settings = format!(
        "{CHEAP_PASSWORDS}{SERVICESTACK_TOKENS}rotate_refresh_tokens = true\n[session]\nrefresh_overlap = '{}s'\n",
        OVERLAP.as_secs()
    );
    let server = Server::start(Installation::new(&settings, CLIENTS + 1).await?)?;
    let (single, all) = browsers(&server, extent, true).await?;
    let title = "refresh: POST /access-token, refresh tokens rotate, each on disk before it is told";
    beside_the_disk(title, &server, single, all, extent).await
}

/// Logs in: one with as many tokens as it uses in a round, and others with as many together.
async fn browsers(server: &Server, extent: Extent, rotates: bool) -> Outcome<(Browser, Vec<Browser>)> {
    let single = Browser::connect(CLIENTS, server, extent.few, rotates).await?;
    // Clients are not equally quick; nobody runs out of tokens.
    let each = extent.many.div_ceil(CLIENTS) * 2;
    let all = (0..CLIENTS).map(|number| Browser::connect(number, server, each, rotates));
    Ok((single, futures_util::future::try_join_all(all).await?))
}

impl Browser {
    async fn connect(number: usize, server: &Server, tokens: usize, rotates: bool) -> Outcome<Browser> {
        let mut client = Http::connect(source(number), server.address).await?;
        let login = credentials(number);
        let mut held = Vec::with_capacity(tokens);
        for _ in 0..tokens {
            held.push(client.ask(&login).await?.text("RefreshToken")?);
        }
        Ok(Browser { client, tokens: held, next: 0, last: None, rotates })
    }
}

impl Renew for Browser {
    /// Waits until every token is older than the overlap.
    async fn begin(&mut self) -> Outcome<()> {
        let until = self.last.map(|last| last + OVERLAP + Duration::from_millis(100)).filter(|_| self.rotates);
        if let Some(wait) = until.and_then(|until| until.checked_duration_since(system_instant())) {
            tokio::time::sleep(wait).await;
        }
        Ok(())
    }

    async fn renew(&mut self) -> Outcome<()> {
        let place = self.next % self.tokens.len();
        let token = &mut self.tokens[place];
        let body = format!(r#"{{"RefreshToken":"{token}"}}"#);
        let answer =
            self.client.ask(&request("POST /access-token", JSON, body.as_bytes())).await?.holding("\"AccessToken\":\"ey")?;
        if self.rotates {
            let successor = answer.text("RefreshToken")?;
            if successor == *token {
                return Err("the token did not rotate".into());
            }
            *token = successor;
        }
        self.next += 1;
        self.last = Some(system_instant());
        Ok(())
    }
}
