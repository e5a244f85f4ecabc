//! How soon a change by an operator has reached everything: from the moment the command is started until whatever it ends is refused
//! and every connection is told or closed.
//!
//! Each person has an open Zenith socket that asked to be told who it is, and over the ServiceStack gate a session's cookie, an API key and a signed token, all of
//! them in use before and looked at again and again after the command began. A terminal has an authorised panel and a token of its
//! administrator. The command is a process of its own, as operators run it, and its start counts too. So does the pause between two
//! looks.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::Stdio;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use futures_util::future::{LocalBoxFuture, try_join_all};
use gatepost_identity::clock::system_instant;
use serde_json::Value;

use crate::Outcome;
use crate::client::{Client, text_frame};
use crate::http::{Http, request};
use crate::measure::{Goal, Table, count, duration_at};
use crate::process::{Server, beside};
use crate::setup::{
    AUTHORISED, CHEAP_PASSWORDS, Installation, ROLE, ROLES, auth, auth_by_password, auth_owner, credentials, name, source,
    terminal, terminals,
};

/// How often each change is made, each time to somebody else.
const EACH: usize = 100;
/// Terminals, which the settings name, are fewer.
const TERMINALS: usize = 50;
/// By this a client asks to be told whenever it is somebody else.
const SUBSCRIBE: &str = r#"{"Controller":"Auth","Topic":"Identify","Action":"Sub"}"#;
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(2);
/// What must not take longer, or the run ends.
const GIVEN_UP: Duration = Duration::from_secs(10);
const SETTINGS: &str = "[servicestack]\nclient = 'bench'\nproviders = ['credentials', 'apikey', 'jwt']\nuse_token_cookie = false\n";

/// What is done to somebody.
#[derive(Clone, Copy)]
enum Change {
    Disabled,
    Password,
    Role,
    Session,
    Key,
    Token,
}

impl Change {
    const ALL: [(Change, &str); 6] = [
        (Change::Disabled, "an account is disabled: socket, cookie, key, token"),
        (Change::Password, "a password is set: socket, cookie"),
        (Change::Role, "a role and a scope are taken: socket, cookie"),
        (Change::Session, "a session is ended: socket, cookie"),
        (Change::Key, "an API key is revoked"),
        (Change::Token, "a signed token is revoked"),
    ];
}

/// Somebody with everything that a change can reach.
struct Person {
    name: String,
    socket: Client,
    /// Whence it comes, and where to.
    way: (Ipv4Addr, SocketAddr),
    cookie: Vec<u8>,
    key: Vec<u8>,
    token: Vec<u8>,
    /// The number of the token.
    jti: String,
}

/// Measures and prints.
pub(crate) async fn run() -> Outcome<()> {
    let (each, served) = (count(EACH), count(TERMINALS));
    let people = each * Change::ALL.len();
    let installation = Installation::new(&format!("{CHEAP_PASSWORDS}{SETTINGS}{}", terminals(served)), people).await?;
    installation.roles(people).await?;
    installation.terminals(served).await?;
    let keys = installation.keys(people).await?;
    let server = Server::start(installation)?;
    let table = Table::begin("changes: from the start of the command until everything is refused, told or closed")?;
    let mut keys = keys.iter().enumerate();
    for (change, what) in Change::ALL {
        let mut took = Vec::new();
        for (number, key) in keys.by_ref().take(each) {
            took.push(Person::come(&server, number, key).await?.changed(&server, change).await?);
        }
        print(&table, what, &mut took)?;
    }
    let mut took = Vec::new();
    for number in 0..served {
        took.push(protect(&server, number).await?);
    }
    print(&table, "a terminal gets a PIN: its panel, its token", &mut took)
}

fn print(table: &Table, what: &str, took: &mut [Duration]) -> Outcome<()> {
    let mut at = |part| duration_at(took, part).as_secs_f64() * 1e3;
    let (last, median) = (at(0.99), at(0.5));
    table.figure(&format!("{what}, 99 of 100"), " ms", last, Goal::AtMost(1000.0))?;
    table.figure("  median", " ms", median, Goal::None)
}

impl Person {
    async fn come(server: &Server, number: usize, key: &str) -> Outcome<Person> {
        let (from, http) = (source(number), server.address);
        let mut socket = Client::connect(from, http).await?;
        socket.granted(&text_frame(&auth_owner(number))).await?;
        socket.send(&text_frame(SUBSCRIBE)).await?;
        socket.next().await?;
        let mut client = Http::connect(from, http).await?;
        let answer = client.ask(&credentials(number)).await?.holding("\"SessionId\"")?;
        let token = answer.text("BearerToken")?;
        let claims: Value = serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(token.split('.').nth(1).ok_or("no token")?)?)?;
        let jti = claims["jti"].as_str().map_or_else(|| claims["jti"].to_string(), str::to_owned);
        let asking = |fields: &str| request("GET /auth", &format!("Accept: application/json\r\n{fields}"), b"");
        let by = |text: &str| asking(&format!("Authorization: Bearer {text}\r\n"));
        let person = Person {
            name: name(number),
            socket,
            way: (from, http),
            cookie: asking(&answer.cookies()),
            key: by(key),
            token: by(&token),
            jti,
        };
        for (what, shown) in [("cookie", &person.cookie), ("key", &person.key), ("token", &person.token)] {
            let known = client.ask(shown).await?.holding("\"UserName\"");
            known.map_err(|error| format!("the {what} is no good before: {error}"))?;
        }
        Ok(person)
    }

    /// Changes something, and answers when it had reached everything of this person's that it should.
    async fn changed(self, server: &Server, change: Change) -> Outcome<Duration> {
        let Person { name, mut socket, way, cookie, key, token, jti } = self;
        let named = |arguments: &[&str]| arguments.iter().map(|&argument| argument.to_owned()).collect::<Vec<_>>();
        let told = async move {
            // A word or the end of the connection: either way the client knows.
            let _ = socket.next().await;
            Ok(())
        };
        let (arguments, reached): (Vec<String>, Vec<LocalBoxFuture<'_, Outcome<()>>>) = match change {
            Change::Disabled => (
                named(&["user", "disable", &name]),
                vec![Box::pin(told), refused(way, &cookie), refused(way, &key), refused(way, &token)],
            ),
            Change::Password => (named(&["user", "set-password", &name]), vec![Box::pin(told), refused(way, &cookie)]),
            Change::Role => (
                named(&["user", "set", &name, "--no-roles", "--scope", "Zenith/Market"]),
                vec![Box::pin(told), Box::pin(without(way, &cookie, ROLE))],
            ),
            Change::Session => (named(&["session", "end", "--user", &name]), vec![Box::pin(told), refused(way, &cookie)]),
            Change::Key => (named(&["apikey", "revoke", &name, "--all"]), vec![refused(way, &key)]),
            Change::Token => (named(&["token", "revoke", &jti]), vec![refused(way, &token)]),
        };
        within(server, arguments, reached).await
    }
}

/// Draws a PIN for a terminal that somebody administers, and answers when the panel was told and its token was of no use.
async fn protect(server: &Server, number: usize) -> Outcome<Duration> {
    let (_, role) = ROLES[0];
    let control = server.control(&terminal(number))?;
    let mut panel = Client::connect_to_terminal(source(number), control).await?;
    panel.send(&text_frame(&auth_by_password(role))).await?;
    let answer = panel.next().await?;
    let token = answer.split_once(r#""token":""#).and_then(|(_, rest)| rest.split_once('"')).ok_or("no token")?.0.to_owned();
    let arguments = ["terminal", "protect", &terminal(number), "administrator", "pin"].map(str::to_owned).to_vec();
    let told = async move {
        let _ = panel.next().await;
        // The role is free from here on, so that the token alone decides.
        drop(panel);
        loop {
            let mut other = Client::connect_to_terminal(source(number), control).await?;
            other.send(&text_frame(&auth(role, &token))).await?;
            if !other.next().await?.contains(AUTHORISED) {
                return Ok(());
            }
            tokio::time::sleep(PAUSE).await;
        }
    };
    within(server, arguments, vec![Box::pin(told)]).await
}

/// Runs a command, and answers how long it took from its start until all of this had come about.
async fn within(server: &Server, arguments: Vec<String>, reached: Vec<LocalBoxFuture<'_, Outcome<()>>>) -> Outcome<Duration> {
    let mut command = std::process::Command::new(beside("gatepost")?);
    command.arg("--config").arg(server.installation.config()).arg("--data").arg(server.installation.data()).args(&arguments);
    let began = system_instant();
    let command = tokio::task::spawn_blocking(move || {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
        if let Some(mut input) = child.stdin.take() {
            // A command that wants no password does not read this.
            std::io::Write::write_all(&mut input, b"another correct horse\n").ok();
        }
        child.wait_with_output()
    });
    let reached = async {
        try_join_all(reached).await?;
        Outcome::Ok(system_instant() - began)
    };
    let took = tokio::time::timeout(GIVEN_UP, reached).await.map_err(|_| format!("{arguments:?} did not reach everything"))??;
    let output = command.await??;
    if !output.status.success() {
        return Err(format!("{arguments:?}: {}", String::from_utf8_lossy(&output.stderr)).into());
    }
    Ok(took)
}

fn refused((from, to): (Ipv4Addr, SocketAddr), request: &[u8]) -> LocalBoxFuture<'_, Outcome<()>> {
    Box::pin(async move {
        let mut client = Http::connect(from, to).await?;
        while client.accepted(request).await? {
            tokio::time::sleep(PAUSE).await;
        }
        Ok(())
    })
}

async fn without((from, to): (Ipv4Addr, SocketAddr), request: &[u8], text: &str) -> Outcome<()> {
    let mut client = Http::connect(from, to).await?;
    while client.ask(request).await?.body.contains(text) {
        tokio::time::sleep(PAUSE).await;
    }
    Ok(())
}
