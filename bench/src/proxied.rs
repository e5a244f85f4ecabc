//! A request that goes on to a service behind the ServiceStack gate, beside the same request through a bare proxy.
//!
//! The service sends back the body that it was sent. The gate knows the caller by a session's cookie, takes that away, and tells
//! the service who calls in a token of its own; the proxy looks at nothing and sends on what it gets. What the service spends
//! counts for neither.
//!
//! ```text
//! this process ──► gatepost serve ──► the service     the gate's CPU
//!      └─────────► a bare proxy ─────────►┘           the proxy's CPU, in its turn
//! ```

use std::net::SocketAddr;

use crate::Outcome;
use crate::http::{Http, request};
use crate::measure::{Goal, Table, rounds};
use crate::process::{Process, Server};
use crate::requests::{JSON, connected};
use crate::setup::{CHEAP_PASSWORDS, Installation, SERVICESTACK, credentials, source};
use crate::sockets::{CONNECTIONS, ROUNDS, Side, pairs};

/// Bodies, in bytes, and how many requests there are of each in a round: about a second.
const BODIES: [(usize, usize); 2] = [(100, 20_000), (64 * 1024, 4_000)];

/// Measures and prints.
pub(crate) async fn run() -> Outcome<()> {
    let mut service = Process::reference(&["reference-http"])?;
    let address: SocketAddr = service.hear()?.parse()?;
    let mut proxy = Process::reference(&["reference-proxy", &address.to_string()])?;
    let proxy_address: SocketAddr = proxy.hear()?.parse()?;
    let settings =
        format!("{CHEAP_PASSWORDS}{SERVICESTACK}[[servicestack.service]]\npath = '/orders'\nupstream = 'http://{address}'\n");
    let server = Server::start(Installation::new(&settings, CONNECTIONS).await?)?;
    let mut cookies = Vec::new();
    for number in 0..CONNECTIONS {
        let mut client = Http::connect(source(number), server.address).await?;
        cookies.push(client.ask(&credentials(number)).await?.holding("\"SessionId\"")?.cookies());
    }
    let table =
        Table::begin(&format!("proxied: a request to a service behind the gate beside a bare proxy, {} rounds", rounds(ROUNDS)))?;
    for (length, count) in BODIES {
        let body = format!("\"{}\"", "x".repeat(length - 2));
        let requests: Vec<Vec<u8>> =
            cookies.iter().map(|cookie| request("POST /orders/echo", &format!("{JSON}{cookie}"), body.as_bytes())).collect();
        let (through, _) = connected(server.address, &requests, &body).await?;
        let (beside, _) = connected(proxy_address, &requests, &body).await?;
        let mut through = Side::new(&server.process, through, &body);
        let mut beside = Side::new(&proxy, beside, &body);
        let mut measured = Vec::new();
        for _ in 0..=rounds(ROUNDS) {
            measured.push((through.so_many(count)?, beside.so_many(count)?));
        }
        let what = format!("CPU of a request, {length} bytes and back");
        table.pairs(&what, " us", &pairs(&measured, |side| side.cpu_each), false, Goal::AtMost(2.0))?;
        table.pairs("  requests a second", "", &pairs(&measured, |side| side.per_second), false, Goal::None)?;
    }
    Ok(())
}
