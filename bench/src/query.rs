//! `QueryIdentify` on authenticated sockets, beside a bare axum WebSocket.

use crate::Outcome;
use crate::client::{Client, text_frame};
use crate::process::Server;
use crate::setup::{Installation, QUERY_IDENTIFY, SUCCESS, auth_owner, source};
use crate::sockets::{CONNECTIONS, Messages, beside_an_echo};

/// Measures and prints.
pub(crate) async fn run() -> Outcome<()> {
    let server = Server::start(Installation::new("", CONNECTIONS).await?)?;
    let frame = text_frame(QUERY_IDENTIFY);
    let mut connections = Vec::new();
    let mut length = 0;
    for number in 0..CONNECTIONS {
        let mut client = Client::connect(source(number), server.address).await?;
        client.granted(&text_frame(&auth_owner(number))).await?;
        client.send(&frame).await?;
        let answer = client.next().await?;
        if !answer.contains(SUCCESS) {
            return Err(format!("the connection is not authenticated: {answer}").into());
        }
        length = answer.len();
        connections.push((client, Messages::Same(frame.clone())));
    }
    let asked = QUERY_IDENTIFY.len();
    let title = format!("query: QueryIdentify ({asked} bytes) and its answer ({length} bytes)");
    beside_an_echo(&title, &server.process, connections, (length, SUCCESS), 0.80).await
}
