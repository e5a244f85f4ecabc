//! A message that the gate relays to the service behind it, beside the same message sent to that service directly.
//!
//! The service sends back the very text that it was sent, so that the bytes are the same on every leg. A round trip through the
//! gate is two relayed messages, each of them one read and one write; a round trip to the service is one read and one write of
//! the service. So half of the gate's CPU stands beside the whole of the service's. What the service spends behind the gate
//! counts for neither.
//!
//! ```text
//! this process ──► gatepost serve ──► the service      the gate's CPU, halved
//!      └─────────────────────────────────►┘            the service's CPU, in its turn
//! ```

use std::net::SocketAddr;

use crate::Outcome;
use crate::client::{Client, text_frame};
use crate::measure::{Goal, Table, rounds};
use crate::process::{Process, Server};
use crate::setup::{Installation, auth_owner, source};
use crate::sockets::{CONNECTIONS, Messages, ROUNDS, Side, pairs};

/// The lengths of the messages, in bytes.
const LENGTHS: [usize; 2] = [100, 1000];

/// Measures and prints.
pub(crate) async fn run() -> Outcome<()> {
    let mut service = Process::reference(&["reference-echo"])?;
    let address: SocketAddr = service.hear()?.parse()?;
    let settings = format!(
        "[zenith.upstream]\naddress = 'ws://{address}/Zenith'\ncontrollers = [{{ name = 'Market', right = 'Zenith/Market' }}]\n"
    );
    let server = Server::start(Installation::new(&settings, CONNECTIONS).await?)?;
    let repeated = rounds(ROUNDS);
    let title = format!("relay: a message through the gate beside a bare axum WebSocket that sends it back, {repeated} rounds");
    let table = Table::begin(&title)?;
    for length in LENGTHS {
        let text = message(length);
        let frame = text_frame(&text);
        let (mut through, mut directly) = (Vec::new(), Vec::new());
        for number in 0..CONNECTIONS {
            let mut client = Client::connect(source(number), server.address).await?;
            client.granted(&text_frame(&auth_owner(number))).await?;
            through.push((echoed(client, &text).await?, Messages::Same(frame.clone())));
            let client = Client::connect(source(number), address).await?;
            directly.push((echoed(client, &text).await?, Messages::Same(frame.clone())));
        }
        let mut through = Side::of_sockets(&server.process, through, &text)?;
        let mut directly = Side::of_sockets(&service, directly, &text)?;
        let mut measured = Vec::new();
        for _ in 0..=repeated {
            measured.push((through.one_in_flight()?, directly.one_in_flight()?));
        }
        let round_trips = pairs(&measured, |side| side.cpu_each);
        let messages: Vec<_> = round_trips.iter().map(|(gate, service)| (gate / 2.0, *service)).collect();
        let what = format!("CPU of a message of {length} bytes, {CONNECTIONS} connections");
        table.pairs(&what, " us", &messages, false, Goal::AtMost(2.0))?;
        table.pairs("  of a round trip", " us", &round_trips, false, Goal::None)?;
        let rates = pairs(&measured, |side| side.per_second);
        table.pairs("  messages there and back a second", "", &rates, false, Goal::None)?;
    }
    Ok(())
}

/// A message of this many bytes, written as the gate writes it, so that it goes on and comes back unchanged.
fn message(length: usize) -> String {
    let (front, back) = (r#"{"Controller":"Market","Topic":"Echo","TransactionID":1,"Data":""#, r#""}"#);
    format!("{front}{}{back}", "x".repeat(length.saturating_sub(front.len() + back.len())))
}

/// The connection, once a message has come back over it as it was.
async fn echoed(mut client: Client, text: &str) -> Outcome<Client> {
    client.send(&text_frame(text)).await?;
    let answer = client.next().await?;
    if answer != text {
        return Err(format!("the message came back changed: {answer}").into());
    }
    Ok(client)
}
