//! What an authenticated connection costs that says nothing: memory of the process, and CPU for the ping every half minute.
//!
//! Four times: where each connection has an account and a session of its own, where sixty share a session, as those of one
//! person would, again each with its own, over TLS, and as many on all gates of one process. Passwords are cheap here, since they are
//! not what is measured.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::iter;
use rustls::client::Resumption;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio_rustls::TlsConnector;

use crate::Outcome;
use crate::client::{Client, Line, text_frame};
use crate::http::Http;
use crate::measure::{Goal, Table, lasting};
use crate::process::{Process, Server, many_descriptors};
use crate::setup::{CHEAP_PASSWORDS, Installation, ROLES, SERVICESTACK, auth_owner, auth_token, credentials, source};
use crate::{setup, terminals};

const CONNECTIONS: usize = 15_000;
/// These come first, so that what the server allocates once is not counted.
const WARM: usize = 200;
/// Connections that share a session, the second time.
const SHARING: usize = 60;
const AT_ONCE: usize = 32;
/// People with a session over the ServiceStack gate, where there are all gates.
const BROWSERS: usize = 1_000;
/// Until what was put off is written.
const SETTLE: Duration = Duration::from_secs(8);
/// Two pings of every connection.
const WATCHED: Duration = Duration::from_secs(60);

/// Whom the certificate is for.
const HOST: &str = "localhost";
/// What a connection may cost, in kB, and one over TLS, which keeps keys and buffers of its own.
const PLAIN: f64 = 4.0;
const SECURED: f64 = 12.0;

/// Measures and prints.
pub(crate) async fn run() -> Outcome<()> {
    many_descriptors(CONNECTIONS as u64 + 500)?;
    let table = Table::begin(&format!("idle: {CONNECTIONS} authenticated connections, a ping every 30 s"))?;
    let server = Server::start(Installation::new(CHEAP_PASSWORDS, CONNECTIONS).await?)?;
    watch(&table, server, None, CONNECTIONS, "each with its own session").await?;
    let server = Server::start(Installation::new(CHEAP_PASSWORDS, CONNECTIONS / SHARING).await?)?;
    watch(&table, server, None, CONNECTIONS / SHARING, &format!("{SHARING} to a session")).await?;
    let (server, tls) = secured(CONNECTIONS).await?;
    watch(&table, server, Some(&tls), CONNECTIONS, "over TLS").await?;
    everywhere(&table).await
}

/// The same number on one process that has all gates: panels of terminals, and Zenith sockets with sessions of their own. Over the
/// ServiceStack gate nobody stays connected; some people have a session there, which is part of what the process has before.
async fn everywhere(table: &Table) -> Outcome<()> {
    let panels = terminals::TERMINALS * ROLES.len();
    let settings = format!("{CHEAP_PASSWORDS}{SERVICESTACK}{}", setup::terminals(terminals::TERMINALS));
    let installation = Installation::new(&settings, CONNECTIONS - panels).await?;
    installation.terminals(terminals::TERMINALS).await?;
    let server = Server::start(installation)?;
    for number in 0..BROWSERS {
        Http::connect(source(number), server.address).await?.ask(&credentials(number)).await?.holding("\"SessionId\"")?;
    }
    let mut connected = Connected::new();
    let mut empty = 0.0;
    for (sockets, devices) in [(0..WARM, 0..terminals::WARM), (WARM..CONNECTIONS - panels, terminals::WARM..terminals::TERMINALS)] {
        let server = &server;
        let mut connecting = iter(sockets.map(async |number| {
            let mut client = connect(number, server, None).await?;
            client.granted(&text_frame(&auth_owner(number))).await?;
            Outcome::Ok(client)
        }))
        .buffered(AT_ONCE);
        while let Some(client) = connecting.next().await {
            let mut client = client?;
            connected.spawn(async move { client.next().await });
        }
        for (number, (_, role)) in devices.flat_map(|number| ROLES.map(|role| (number, role))) {
            let mut panel = terminals::connect(server, number, role).await?;
            connected.spawn(async move { panel.next().await });
        }
        if empty == 0.0 {
            tokio::time::sleep(Duration::from_secs(2)).await;
            empty = server.process.resident()?;
        }
    }
    let counted = CONNECTIONS - WARM - terminals::WARM * ROLES.len();
    at_rest(table, &server.process, connected, (empty, counted), "on all gates", Goal::AtMost(PLAIN)).await
}

/// A server with a certificate made for this run, and a client's side of TLS that believes it and no other. No handshake is
/// shortened by one before, as none would be among as many people.
async fn secured(accounts: usize) -> Outcome<(Server, TlsConnector)> {
    let made = rcgen::generate_simple_self_signed([HOST.to_owned()])?;
    let installation = Installation::empty()?;
    let certificate = installation.file("certificate.pem", &made.cert.pem())?;
    let key = installation.file("key.pem", &made.signing_key.serialize_pem())?;
    let tls = format!("https = '127.0.0.1:0'\n[tls]\ncertificate = {certificate:?}\nkey = {key:?}\n{CHEAP_PASSWORDS}");
    installation.furnish(&tls, accounts).await?;
    Ok((Server::start(installation)?, believing(made.cert.der().clone())?))
}

fn believing(certificate: CertificateDer<'static>) -> Outcome<TlsConnector> {
    let mut roots = RootCertStore::empty();
    roots.add(certificate)?;
    let mut tls = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    tls.resumption = Resumption::disabled();
    Ok(Arc::new(tls).into())
}

/// Opens one connection, over TLS where there is a client's side of it.
async fn connect(number: usize, server: &Server, tls: Option<&TlsConnector>) -> Outcome<Client<Box<dyn Line>>> {
    match (tls, server.secured) {
        (None, _) => Ok(Client::connect(source(number), server.address).await?.boxed()),
        (Some(tls), Some(address)) => {
            let host = ServerName::try_from(HOST)?;
            Ok(Client::connect_secured(source(number), address, tls, host).await?.boxed())
        }
        (Some(_), None) => Err("the server does not listen over TLS".into()),
    }
}

async fn watch(table: &Table, server: Server, tls: Option<&TlsConnector>, sessions: usize, how: &str) -> Outcome<()> {
    let process = &server.process;
    let goal = Goal::AtMost(if tls.is_some() { SECURED } else { PLAIN });
    let mut tokens = Vec::new();
    let mut connected = Connected::new();
    let mut empty = 0.0;
    for (begin, end) in [(0, WARM), (WARM, CONNECTIONS)] {
        let tokens_so_far = std::mem::take(&mut tokens);
        let mut connecting = iter(begin..end)
            .map(|number| {
                let token: Option<&String> = tokens_so_far.get(number % sessions);
                let frame = text_frame(&token.map_or_else(|| auth_owner(number % sessions), |token| auth_token(token)));
                let server = &server;
                async move {
                    let mut client = connect(number, server, tls).await?;
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
    at_rest(table, process, connected, (empty, CONNECTIONS - WARM), how, goal).await
}

/// Connections that say nothing, each waiting for a word that must not come.
pub(crate) type Connected = tokio::task::JoinSet<Outcome<String>>;

/// Watches connections that say nothing, and prints what each costs. `empty` is the memory before the first of those that are
/// counted.
pub(crate) async fn at_rest(
    table: &Table,
    process: &Process,
    mut connected: Connected,
    (empty, counted): (f64, usize),
    how: &str,
    goal: Goal,
) -> Outcome<()> {
    let each = || Outcome::Ok((process.resident()? - empty) / counted as f64 / 1000.0);
    let watched = lasting(WATCHED);
    tokio::time::sleep(lasting(SETTLE)).await;
    let memory = each()?;
    let cpu = process.cpu()?;
    tokio::time::sleep(watched).await;
    let cpu = (process.cpu()? - cpu).as_secs_f64() / watched.as_secs_f64() * 100.0;
    let later = each()?;
    if let Some(stirred) = connected.try_join_next() {
        return Err(format!("a connection did not stay idle: {stirred:?}").into());
    }
    table.figure(&format!("memory of a connection, {how}"), " kB", memory, goal)?;
    table.figure("  the same a minute later", " kB", later, goal)?;
    table.figure("  CPU over that minute, of one core", " %", cpu, Goal::AtMost(1.0))
}
