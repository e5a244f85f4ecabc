//! The cast of the transcripts as a scripted core knows it, and a way in through the gate's public row.

use std::sync::Arc;
use std::time::Duration;

use gatepost_identity::account::{AccountSummary, ClientId, Rights};
use gatepost_identity::clock::Timestamp;
use gatepost_identity::refusal::Refusal;
use gatepost_identity::reply::{Answer, Granted, IssuedToken, Method, Principal, Reply, TokenKind};
use gatepost_identity::scope::{Scope, Scopes};
use gatepost_identity::secret::Secret;
use gatepost_identity::session::SessionId;
use gatepost_protocols::http::{Request, Response};
use gatepost_protocols::mount::{Mount, Served};
use gatepost_protocols::section::Section;
use gatepost_protocols::{Gate, Seed, zenith};

/// When every script begins.
pub const START: Timestamp = Timestamp::from_millis(1_925_089_445_000);

/// How long a login lasts.
pub const LIFE: Duration = Duration::from_secs(30 * 60);

/// The facts of a grant to one of the cast: `ann` or `bob` through `app`, or the client `svc` by itself.
pub fn principal(who: &str, scopes: &[&str], spelling: u8, expires_at: Option<Timestamp>) -> Option<Principal> {
    let display_name = match who {
        "ann" => Some("Ann Example".to_owned()),
        "bob" | "svc" => None,
        _ => return None,
    };
    let account = AccountSummary {
        id: None,
        issuer: None,
        subject: format!("u-{who}"),
        name: who.to_owned(),
        email: Some("ann@example.org".to_owned()).filter(|_| who == "ann"),
        display_name,
        first_name: None,
        last_name: None,
        profile_url: None,
        cut_off: Default::default(),
    };
    let scopes: Option<Scopes> = scopes.iter().map(|name| Scope::parse(name).ok()).collect();
    Some(Principal {
        session: Some(SessionId(Default::default())),
        account: Some(Arc::new(account)).filter(|_| who != "svc"),
        client: ClientId::parse(if who == "svc" { "svc" } else { "app" }).ok(),
        scopes: scopes?,
        rights: rights(who),
        terminal: None,
        provider: None,
        method: Method::Password,
        spelling,
        expires_at,
    })
}

fn rights(who: &str) -> Rights {
    let names = |name: &str| if who == "ann" { vec![name.to_owned()] } else { Vec::new() };
    Rights { roles: names("Editor"), permissions: names("Print") }
}

/// A reply that grants.
pub fn granted(principal: Principal, token: Option<&[u8]>) -> Reply {
    let expires_at = principal.expires_at;
    let issue = |token: &[u8]| IssuedToken { kind: TokenKind::Restore, secret: Secret::new(token), expires_at };
    Reply::of(Ok(Answer::Granted(Granted { principal: principal.into(), tokens: token.map(issue).into_iter().collect() })))
}

/// A reply that refuses.
pub fn refused(refusal: Refusal) -> Reply {
    Reply::of(Err(refusal))
}

/// Where the Zenith gate answers, under these settings.
pub fn mounts(settings: &str) -> Result<Vec<Mount>, String> {
    mounts_of(&zenith::GATE, settings, None)
}

/// Where a gate answers, under these settings of its own.
pub fn mounts_of(gate: &Gate, settings: &str, public_url: Option<&str>) -> Result<Vec<Mount>, String> {
    let section = Section(settings.parse().map_err(|error| format!("{settings:?}: {error}"))?);
    (gate.mounts)(&section, public_url).map_err(|bad| format!("{}: {}", bad.key, bad.what))
}

/// Hands a GET to the mount of its path; 404 where there is none, as the server's router has it.
pub fn request(
    mounts: &[Mount],
    now: Timestamp,
    target: &str,
    upgrade: bool,
    headers: &[(String, String)],
) -> Result<Served, String> {
    send(mounts, now, Sent { method: "GET", target, upgrade, headers, body: b"", seed: [0; 16] })
}

/// A request as it travels.
#[derive(Clone, Copy, Debug)]
pub struct Sent<'a> {
    /// The method.
    pub method: &'a str,
    /// Path and query.
    pub target: &'a str,
    /// Whether it asks for a WebSocket.
    pub upgrade: bool,
    /// The header fields.
    pub headers: &'a [(String, String)],
    /// What comes behind them.
    pub body: &'a [u8],
    /// The chance that comes with it.
    pub seed: Seed,
}

/// Hands a request to the mount of its path, as the listener does.
pub fn send(mounts: &[Mount], now: Timestamp, sent: Sent<'_>) -> Result<Served, String> {
    Ok(serve(mounts, now, sent.seed, arrived(sent)?))
}

/// As [`send`], of a request that has arrived.
pub fn serve(mounts: &[Mount], now: Timestamp, seed: Seed, request: Request) -> Served {
    match Mount::find(mounts, &request.path, |mount| mount) {
        Some(mount) => Arc::clone(&mount.exchange).receive(now, seed, request),
        None => Served::Response(Response::empty(http::StatusCode::NOT_FOUND)),
    }
}

/// A request as the listener parses it.
pub fn arrived(sent: Sent<'_>) -> Result<Request, String> {
    let target = sent.target;
    let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query.to_owned())));
    let mut fields = http::HeaderMap::new();
    for (name, value) in sent.headers {
        let name = http::HeaderName::try_from(name).map_err(|error| error.to_string())?;
        fields.append(name, http::HeaderValue::try_from(value).map_err(|error| error.to_string())?);
    }
    Ok(Request {
        method: sent.method.parse().map_err(|_| format!("{:?} is no method", sent.method))?,
        path: path.to_owned(),
        query,
        secure: fields.get("x-forwarded-proto").is_some_and(|scheme| scheme == "https"),
        headers: fields,
        upgrade: sent.upgrade,
        body: sent.body.to_vec().into(),
    })
}
