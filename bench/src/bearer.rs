//! `AuthToken` with a signed token of another issuer that was seen before, beside a bare axum WebSocket.
//!
//! Each connection has a token of its own. It was verified once, before the figures begin; from then on it is looked up,
//! nothing is drawn and nothing rolls. What is told with it is the token again, in Base-64.

use std::time::Duration;

use gatepost_identity::clock::system_now;
use jsonwebtoken::{EncodingKey, Header};
use serde_json::json;

use crate::Outcome;
use crate::client::{Client, text_frame};
use crate::process::Server;
use crate::setup::{Installation, SUCCESS, auth_token_of, source};
use crate::sockets::{CONNECTIONS, Messages, beside_an_echo};

/// What issuer and server share, and the same as a set of keys.
const SECRET: &[u8] = b"a shared secret that signs what the figures need, and nothing else";
const KEYS: &str = r#"{"keys":[{"kty":"oct","alg":"HS256","k":"YSBzaGFyZWQgc2VjcmV0IHRoYXQgc2lnbnMgd2hhdCB0aGUgZmlndXJlcyBuZWVkLCBhbmQgbm90aGluZyBlbHNl"}]}"#;
/// The provider that knows such tokens.
pub(crate) const PROVIDER: &str = "Bearer";
const ISSUER: &str = "https://auth.example.org";
const AUDIENCE: &str = "Zenith-API";
/// How long a token is good for: longer than any run.
const LIFE: Duration = Duration::from_secs(24 * 60 * 60);

/// Measures and prints.
pub(crate) async fn run() -> Outcome<()> {
    let server = Server::start(installation("", 0).await?)?;
    let mut connections = Vec::new();
    let (mut asked, mut answered) = (0, 0);
    for number in 0..CONNECTIONS {
        let message = auth_token_of(PROVIDER, &token(number)?);
        let frame = text_frame(&message);
        let mut client = Client::connect(source(number), server.address).await?;
        client.granted(&frame).await?;
        // The second answer is to a token that was seen before, as all others are.
        client.send(&frame).await?;
        (asked, answered) = (message.len(), client.next().await?.len());
        connections.push((client, Messages::Same(frame)));
    }
    let title = format!("bearer: AuthToken with a signed token seen before ({asked} bytes) and its answer ({answered} bytes)");
    beside_an_echo(&title, &server.process, connections, (answered, SUCCESS), 0.80).await
}

/// An installation that knows such tokens, with these tables of settings besides and so many accounts.
pub(crate) async fn installation(besides: &str, accounts: usize) -> Outcome<Installation> {
    let installation = Installation::empty()?;
    let keys = installation.file("keys.json", KEYS)?;
    let settings = format!(
        "[[provider]]\nname = '{PROVIDER}'\nkind = 'token'\n\
         issuers = [{{ issuer = '{ISSUER}', audience = ['{AUDIENCE}'], keys = {keys:?}, algorithms = ['HS256'] }}]\n{besides}"
    );
    installation.furnish(&settings, accounts).await?;
    Ok(installation)
}

/// A token with what issuers usually say in one.
pub(crate) fn token(number: usize) -> Outcome<String> {
    let now = system_now().millis() / 1000;
    let claims = json!({
        "iss": ISSUER, "aud": [AUDIENCE], "sub": format!("6f1c6b7e-0d5e-4d8e-9f0a-{number:012}"),
        "preferred_username": format!("user-{number}"), "client_id": "bench",
        "scope": "openid Zenith/Market Zenith/Trading offline_access",
        "iat": now, "exp": now + i64::try_from(LIFE.as_secs())?, "jti": format!("{number:032x}"),
    });
    Ok(jsonwebtoken::encode(&Header::default(), &claims, &EncodingKey::from_secret(SECRET))?)
}
