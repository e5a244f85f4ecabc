//! `GET /auth` over the ServiceStack gate by somebody whom it knows: by a session's cookie, and by an API key as bearer token.
//!
//! Each of eight kept connections has an account of its own and one request in flight. Beside it, a bare axum server is sent the
//! very same bytes, looks at none of them, and answers with as many as the server. What the other measurements of requests share is
//! here too.

use std::net::SocketAddr;

use crate::Outcome;
use crate::http::{Http, request};
use crate::measure::{Goal, Table, rounds};
use crate::process::{Process, Server};
use crate::setup::{CHEAP_PASSWORDS, Installation, SERVICESTACK, credentials, source};
use crate::sockets::{CONNECTIONS, Messages, ROUNDS, Side, pairs};

/// What clients of the framework say that speak JSON.
pub(crate) const JSON: &str = "Accept: application/json\r\nContent-Type: application/json\r\n";
const QUESTION: &str = "GET /auth";
const ACCEPT: &str = "Accept: application/json\r\n";

/// Measures sessions and prints.
pub(crate) async fn by_cookie() -> Outcome<()> {
    let server = Server::start(Installation::new(&format!("{CHEAP_PASSWORDS}{SERVICESTACK}"), CONNECTIONS).await?)?;
    let mut requests = Vec::new();
    for number in 0..CONNECTIONS {
        let mut client = Http::connect(source(number), server.address).await?;
        let answer = client.ask(&credentials(number)).await?.holding("\"SessionId\"")?;
        requests.push(request(QUESTION, &format!("{ACCEPT}{}", answer.cookies()), b""));
    }
    beside_axum("cookie: GET /auth by a session's cookie", &server, requests, 0.75).await
}

/// Measures API keys and prints.
pub(crate) async fn by_key() -> Outcome<()> {
    let installation = Installation::new(SERVICESTACK, CONNECTIONS).await?;
    let requests = installation.keys(CONNECTIONS).await?.into_iter();
    let requests = requests.map(|key| request(QUESTION, &format!("{ACCEPT}Authorization: Bearer {key}\r\n"), b"")).collect();
    let server = Server::start(installation)?;
    beside_axum("apikey: GET /auth by an API key as bearer token", &server, requests, 0.80).await
}

async fn beside_axum(title: &str, server: &Server, requests: Vec<Vec<u8>>, goal: f64) -> Outcome<()> {
    let (ours, length) = connected(server.address, &requests, "\"UserName\":\"user-").await?;
    let title = format!("{title} ({} bytes) and its answer ({length} bytes)", requests.first().map_or(0, Vec::len));
    let table = Table::begin(&format!("{title} beside a bare axum server, {} rounds", rounds(ROUNDS)))?;
    let ours = Side::new(&server.process, ours, "\"UserName\":\"user-");
    beside_an_echo(&table, &format!("CPU, {CONNECTIONS} connections"), ours, requests, length, Goal::AtLeast(goal)).await
}

/// A connection for each of these requests, once it was answered there with what it should be; and how long an answer is.
pub(crate) async fn connected(
    address: SocketAddr,
    requests: &[Vec<u8>],
    expected: &str,
) -> Outcome<(Vec<(Box<dyn crate::sockets::Connection>, Messages)>, usize)> {
    let mut connections: Vec<(Box<dyn crate::sockets::Connection>, Messages)> = Vec::new();
    let mut length = 0;
    for (number, request) in requests.iter().enumerate() {
        let mut client = Http::connect(source(number), address).await?;
        // The second answer is to somebody who was seen before, as all others are.
        client.ask(request).await?.holding(expected)?;
        length = client.ask(request).await?.holding(expected)?.len();
        connections.push((Box::new(client.blocking()?), Messages::Same(request.clone())));
    }
    Ok((connections, length))
}

/// Measures one side of requests beside a bare axum server that answers each of them with `length` bytes, and prints both.
pub(crate) async fn beside_an_echo(
    table: &Table,
    what: &str,
    mut ours: Side<'_>,
    requests: Vec<Vec<u8>>,
    length: usize,
    goal: Goal,
) -> Outcome<()> {
    let mut echo = Process::reference(&["reference-http", &length.to_string()])?;
    let (theirs, theirs_length) = connected(echo.hear()?.parse()?, &requests, "").await?;
    if theirs_length != length {
        return Err(format!("the reference answers {theirs_length} bytes and not {length}").into());
    }
    let mut theirs = Side::new(&echo, theirs, "");
    let mut measured = Vec::new();
    for _ in 0..=rounds(ROUNDS) {
        measured.push((ours.one_in_flight()?, theirs.one_in_flight()?));
    }
    table.pairs(what, " us", &pairs(&measured, |side| side.cpu_each), true, goal)?;
    table.pairs("  requests a second", "", &pairs(&measured, |side| side.per_second), false, Goal::None)
}
