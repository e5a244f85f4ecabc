//! `/auth/apikey` by an API key as bearer token that was seen before, asked and answered in each format, beside a bare axum server.
//!
//! The request has a body with the members that a client of the framework sends; the key is in the header field, where it counts in
//! every format. A signed token has no such address: with it, nobody authenticates. Each format has a reference of its own, which
//! answers as many bytes as the server does in that format.

use crate::Outcome;
use crate::http::request;
use crate::measure::{Goal, Table, rounds};
use crate::process::Server;
use crate::requests::{beside_an_echo, connected};
use crate::setup::{CHEAP_PASSWORDS, Installation, ROLE, SERVICESTACK};
use crate::sockets::{CONNECTIONS, ROUNDS, Side};

/// A format: its name, its type, the request in it, what stands in its answer beside the role, and what part of ours the
/// reference's CPU should be.
struct Format(&'static str, &'static str, &'static str, &'static str, f64);

/// The namespace is that of the framework's own contracts.
const XML: &str = "<Authenticate xmlns=\"http://schemas.servicestack.net/types\">\
                   <Meta xmlns:a=\"http://schemas.microsoft.com/2003/10/Serialization/Arrays\">\
                   <a:KeyValueOfstringstring><a:Key>device</a:Key><a:Value>till 7</a:Value>\
                   </a:KeyValueOfstringstring></Meta><RememberMe>true</RememberMe><UseTokenCookie>false</UseTokenCookie>\
                   <provider>apikey</provider></Authenticate>";

const FORMATS: [Format; 5] = [
    Format(
        "JSON",
        "application/json",
        r#"{"provider":"apikey","RememberMe":true,"UseTokenCookie":false,"Meta":{"device":"till 7"}}"#,
        "\"UserName\":\"user-",
        0.70,
    ),
    Format(
        "JSV",
        "text/jsv",
        "{provider:apikey,RememberMe:True,UseTokenCookie:False,Meta:{device:till 7}}",
        "UserName:user-",
        0.70,
    ),
    // Whoever sends a form has no format of its own for the answer.
    Format(
        "form",
        "application/x-www-form-urlencoded",
        "provider=apikey&RememberMe=true&UseTokenCookie=false&Meta=%7Bdevice%3Atill+7%7D",
        "\"UserName\":\"user-",
        0.65,
    ),
    Format("XML", "application/xml", XML, "<UserName>user-", 0.65),
    Format("CSV", "text/csv", "provider,RememberMe,UseTokenCookie,Meta\r\napikey,true,false,{device:till 7}\r\n", "", 0.55),
];

/// Measures and prints.
pub(crate) async fn run() -> Outcome<()> {
    let installation = Installation::new(&format!("{CHEAP_PASSWORDS}{SERVICESTACK}"), CONNECTIONS).await?;
    // Of an answer, CSV holds the roles alone.
    installation.roles(CONNECTIONS).await?;
    let keys = installation.keys(CONNECTIONS).await?;
    let server = Server::start(installation)?;
    let title = format!("formats: POST /auth/apikey by a key seen before, beside a bare axum server, {} rounds", rounds(ROUNDS));
    let table = Table::begin(&title)?;
    for Format(name, media_type, body, expected, goal) in FORMATS {
        let accepted = if name == "form" { "application/json" } else { media_type };
        let fields = format!("Accept: {accepted}\r\nContent-Type: {media_type}\r\n");
        let requests: Vec<Vec<u8>> = keys
            .iter()
            .map(|key| request("POST /auth/apikey", &format!("{fields}Authorization: Bearer {key}\r\n"), body.as_bytes()))
            .collect();
        let (ours, length) = connected(server.address, &requests, ROLE).await?;
        let ours = Side::new(&server.process, ours, if expected.is_empty() { ROLE } else { expected });
        let what = format!("CPU, {name} ({} and {length} bytes)", requests[0].len());
        beside_an_echo(&table, &what, ours, requests, length, Goal::AtLeast(goal)).await?;
    }
    Ok(())
}
