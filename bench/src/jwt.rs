//! `GET /auth` over the ServiceStack gate by a signed token: one that the server sees for the first time, and one that it has seen.
//!
//! The tokens are signed here, by a key that the server has taken over from an application, and are those that the gate itself
//! would tell. At first sight each request of a round has a token of its own, and the reference is a bare axum server that
//! verifies it: both are sent the same tokens. After that each connection repeats one, and the reference looks at nothing.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use gatepost_identity::clock::system_now;
use gatepost_identity::keyring::KeyAlgorithm;
use jsonwebtoken::EncodingKey;
use rcgen::{KeyPair, PKCS_RSA_SHA256, SigningKey};
use serde_json::json;

use crate::Outcome;
use crate::http::request;
use crate::measure::{Goal, Table, count, rounds};
use crate::process::{Process, Server};
use crate::requests::{beside_an_echo, connected};
use crate::setup::{CHEAP_PASSWORDS, Installation, SERVICESTACK_TOKENS, name};
use crate::sockets::{CONNECTIONS, ROUNDS, Side, pairs};

/// What application and server share.
const SECRET: &[u8] = b"a shared secret that signs what the figures need, and nothing else";
/// Tokens of a round: to sign one with RSA takes half a millisecond.
const TOKENS: usize = 8_000;
/// Accounts that they speak for, in turn.
const ACCOUNTS: usize = 64;
/// How long a token is good for: longer than any run.
const LIFE: Duration = Duration::from_secs(24 * 60 * 60);
/// What an answer must hold.
const EXPECTED: &str = "\"UserName\":\"user-";

/// Signs tokens, each with a number of its own.
struct Signer {
    key: Key,
    last: usize,
}

enum Key {
    Shared(EncodingKey),
    Rsa(Box<KeyPair>),
}

/// Measures and prints.
pub(crate) async fn run() -> Outcome<()> {
    let pair = KeyPair::generate_for(&PKCS_RSA_SHA256)?;
    let (kept, public) = (pair.serialize_pem(), STANDARD.encode(pair.public_key_raw()));
    let shared = STANDARD.encode(SECRET);
    beside(KeyAlgorithm::HS256, Key::Shared(EncodingKey::from_secret(SECRET)), &shared, &shared).await?;
    beside(KeyAlgorithm::RS256, Key::Rsa(Box::new(pair)), &kept, &public).await
}

/// Measures one algorithm. `kept`: the key as the server takes it over; `public`: as the reference hears it.
async fn beside(algorithm: KeyAlgorithm, key: Key, kept: &str, public: &str) -> Outcome<()> {
    let word = algorithm.word();
    let mut signer = Signer { key, last: 0 };
    let installation = Installation::new(&format!("{CHEAP_PASSWORDS}{SERVICESTACK_TOKENS}"), ACCOUNTS).await?;
    installation.signed_by(algorithm, kept).await?;
    // Nothing is good that was signed before the second in which its account was made is over.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let server = Server::start(installation)?;
    let seen = signer.requests(CONNECTIONS)?;
    let (ours, length) = connected(server.address, &seen, EXPECTED).await?;
    let mut ours = Side::new(&server.process, ours, EXPECTED);
    let mut verifying = Process::reference(&["reference-jwt", &length.to_string(), word])?;
    verifying.say(public)?;
    let (theirs, _) = connected(verifying.hear()?.parse()?, &seen, "").await?;
    let mut theirs = Side::new(&verifying, theirs, "");
    let mut measured = Vec::new();
    for _ in 0..=rounds(ROUNDS) {
        let requests = signer.requests(count(TOKENS))?;
        measured.push((ours.each_once(&requests)?, theirs.each_once(&requests)?));
    }
    let asked = seen.first().map_or(0, Vec::len);
    let title = format!("jwt: GET /auth by a token signed with {word} ({asked} bytes) and its answer ({length} bytes)");
    let table = Table::begin(&format!("{title}, {} rounds", rounds(ROUNDS)))?;
    let what = format!("CPU at first sight, {CONNECTIONS} connections");
    table.pairs(&what, " us", &pairs(&measured, |side| side.cpu_each), true, Goal::AtLeast(0.85))?;
    table.pairs("  requests a second", "", &pairs(&measured, |side| side.per_second), false, Goal::None)?;
    drop(theirs);
    beside_an_echo(&table, "CPU when seen before", ours, seen, length, Goal::AtLeast(0.75)).await
}

impl Signer {
    /// So many requests, each with a token that nobody has seen.
    fn requests(&mut self, count: usize) -> Outcome<Vec<Vec<u8>>> {
        let fields = |token| format!("Accept: application/json\r\nAuthorization: Bearer {token}\r\n");
        (0..count).map(|_| Ok(request("GET /auth", &fields(self.token()?), b""))).collect()
    }

    fn token(&mut self) -> Outcome<String> {
        self.last += 1;
        let now = system_now().millis() / 1000;
        let name = name(self.last % ACCOUNTS);
        let claims = json!({
            "iss": "ssjwt", "sub": name, "iat": now, "exp": now + i64::try_from(LIFE.as_secs())?, "preferred_username": name,
            "jti": self.last,
        });
        match &self.key {
            Key::Shared(key) => Ok(jsonwebtoken::encode(&jsonwebtoken::Header::default(), &claims, key)?),
            Key::Rsa(pair) => {
                let header = URL_SAFE_NO_PAD.encode(r#"{"typ":"JWT","alg":"RS256"}"#);
                let message = format!("{header}.{}", URL_SAFE_NO_PAD.encode(claims.to_string()));
                let signature = URL_SAFE_NO_PAD.encode(pair.sign(message.as_bytes())?);
                Ok(format!("{message}.{signature}"))
            }
        }
    }
}
