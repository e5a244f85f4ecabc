//! How a service behind the gate knows who is there: by a token that Gatepost has signed, verified with the keys that it publishes.

use std::io;

use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Mutex;

/// The keys seen last, and where they come from.
pub(crate) struct Keys {
    from: String,
    audience: String,
    known: Mutex<Option<JwkSet>>,
}

impl Keys {
    /// Those that Gatepost publishes at `from`, `host:port`; for tokens that are meant for `audience`.
    pub(crate) fn new(from: String, audience: String) -> Keys {
        Keys { from, audience, known: Mutex::default() }
    }

    /// What a token claims, if it is good. A key that is not known yet is looked for once.
    pub(crate) async fn verify(&self, token: &str) -> Option<Value> {
        let id = decode_header(token).ok()?.kid?;
        let mut known = self.known.lock().await;
        if known.as_ref().and_then(|keys| keys.find(&id)).is_none() {
            *known = Some(fetch(&self.from).await.ok()?);
        }
        let key = DecodingKey::from_jwk(known.as_ref()?.find(&id)?).ok()?;
        let mut validation = Validation::new(Algorithm::EdDSA);
        validation.set_audience(&[&self.audience]);
        validation.set_required_spec_claims(&["exp", "aud", "sub"]);
        decode::<Value>(token, &key, &validation).map(|good| good.claims).ok()
    }
}

/// Reads the keys that the gate publishes.
async fn fetch(from: &str) -> io::Result<JwkSet> {
    let mut stream = TcpStream::connect(from).await?;
    let request = format!("GET /.well-known/jwks.json HTTP/1.1\r\nHost: {from}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.take(64 * 1024).read_to_string(&mut answer).await?;
    let (_, body) = answer.split_once("\r\n\r\n").ok_or(io::ErrorKind::InvalidData)?;
    Ok(serde_json::from_str(body)?)
}
