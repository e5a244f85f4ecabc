//! What an authorised connection to a terminal costs that says nothing: 200 terminals on one process, each with its administrator
//! and its user.
//!
//! Memory is what the process grew by with the connections of all terminals but the first few, which are for what is allocated
//! once. So few connections make a coarse figure; it is printed with what the process had before them, terminals and listeners
//! included.

use futures_util::StreamExt;
use futures_util::stream::iter;

use crate::Outcome;
use crate::client::{Client, text_frame};
use crate::idle::{Connected, at_rest};
use crate::measure::{Goal, Table};
use crate::process::{Server, many_descriptors};
use crate::setup::{AUTHORISED, CHEAP_PASSWORDS, Installation, ROLES, auth_by_password, source, terminal, terminals};

/// Terminals of a process.
pub(crate) const TERMINALS: usize = 200;
/// These come first.
pub(crate) const WARM: usize = 20;
const AT_ONCE: usize = 32;
/// What a connection may cost, in kB.
const PLAIN: f64 = 4.0;

/// Measures and prints.
pub(crate) async fn run() -> Outcome<()> {
    many_descriptors(4 * TERMINALS as u64 + 500)?;
    let installation = Installation::new(&format!("{CHEAP_PASSWORDS}{}", terminals(TERMINALS)), 0).await?;
    installation.terminals(TERMINALS).await?;
    let server = Server::start(installation)?;
    let connections = TERMINALS * ROLES.len();
    let table =
        Table::begin(&format!("terminals: {TERMINALS} terminals with {} connections each, a ping every 30 s", ROLES.len()))?;
    table.figure("memory with all terminals and no connection", " MB", server.process.resident()? / 1e6, Goal::None)?;
    let mut connected = Connected::new();
    let mut empty = 0.0;
    for (begin, end) in [(0, WARM), (WARM, TERMINALS)] {
        let each = (begin..end).flat_map(|number| ROLES.map(|(_, role)| (number, role)));
        let mut connecting = iter(each.map(|(number, role)| connect(&server, number, role))).buffered(AT_ONCE);
        while let Some(client) = connecting.next().await {
            let mut client = client?;
            connected.spawn(async move { client.next().await });
        }
        drop(connecting);
        if begin == 0 {
            tokio::time::sleep(std::time::Duration::from_secs(2)).await;
            empty = server.process.resident()?;
        }
    }
    let counted = connections - WARM * ROLES.len();
    at_rest(&table, &server.process, connected, (empty, counted), "administrators and users", Goal::AtMost(PLAIN)).await
}

/// A connection that is authorised by a password.
pub(crate) async fn connect(server: &Server, number: usize, role: &str) -> Outcome<Client> {
    let mut client = Client::connect_to_terminal(source(number), server.control(&terminal(number))?).await?;
    client.send(&text_frame(&auth_by_password(role))).await?;
    let answer = client.next().await?;
    if answer.contains(AUTHORISED) { Ok(client) } else { Err(format!("the connection is not authorised: {answer}").into()) }
}
