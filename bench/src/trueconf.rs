//! `auth` at a terminal by a token, on open sockets, beside a bare axum WebSocket.
//!
//! Eight terminals with a connection each, since a role is held by one connection at a time. The token that is shown stays good and
//! does not roll, but each answer carries three new ones, and a client that comes back shows the one it was told last. So do the
//! connections here: a chain of tokens has a bound, past which the oldest is over.

use crate::Outcome;
use crate::client::{Client, text_frame};
use crate::process::Server;
use crate::setup::{AUTHORISED, CHEAP_PASSWORDS, Installation, auth, auth_by_password, source, terminal, terminals};
use crate::sockets::{CONNECTIONS, Messages, beside_an_echo};

const ROLE: &str = "admin";

/// Measures and prints.
pub(crate) async fn run() -> Outcome<()> {
    let installation = Installation::new(&format!("{CHEAP_PASSWORDS}{}", terminals(CONNECTIONS)), 0).await?;
    installation.terminals(CONNECTIONS).await?;
    let server = Server::start(installation)?;
    let mut connections = Vec::new();
    let (mut asked, mut answered) = (0, 0);
    for number in 0..CONNECTIONS {
        let mut client = Client::connect_to_terminal(source(number), server.control(&terminal(number))?).await?;
        let mut message = auth_by_password(ROLE);
        for _ in 0..2 {
            client.send(&text_frame(&message)).await?;
            let answer = client.next().await?;
            if !answer.contains(AUTHORISED) {
                return Err(format!("the connection is not authorised: {answer}").into());
            }
            message = auth(ROLE, token(&answer)?);
            (asked, answered) = (message.len(), answer.len());
        }
        connections.push((client, Messages::Following(text_frame(&message), coming_back)));
    }
    let title = format!("trueconf: auth by a token ({asked} bytes) and its answer ({answered} bytes)");
    beside_an_echo(&title, &server.process, connections, (answered, AUTHORISED), 0.60).await
}

fn token(answer: &str) -> Outcome<&str> {
    let found = answer.split_once(r#""token":""#).and_then(|(_, rest)| rest.split_once('"'));
    Ok(found.ok_or_else(|| format!("an answer has no token: {answer}"))?.0)
}

/// The message by which a client comes back that was told this.
fn coming_back(answer: &[u8]) -> Outcome<Vec<u8>> {
    Ok(text_frame(&auth(ROLE, token(std::str::from_utf8(answer)?)?)))
}
