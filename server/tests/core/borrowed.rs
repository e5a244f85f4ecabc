//! Sessions that rest on a signed token of another issuer.

use super::*;

/// Another issuer, by a shared secret that both know.
pub(crate) struct Elsewhere(jsonwebtoken::EncodingKey);

impl Elsewhere {
    const SECRET: &str = "an issuer's secret of thirty-two bytes or more";

    pub(crate) fn new() -> Elsewhere {
        Elsewhere(jsonwebtoken::EncodingKey::from_secret(Self::SECRET.as_bytes()))
    }

    pub(crate) fn provider() -> Provider {
        // RFC 7517 section 6.4: the secret in base64url.
        let keys = r#"{"keys":[{"kty":"oct","k":"YW4gaXNzdWVyJ3Mgc2VjcmV0IG9mIHRoaXJ0eS10d28gYnl0ZXMgb3IgbW9yZQ"}]}"#;
        let issuer = Issuer::new("https://auth.example.org", vec!["us".to_owned()], keys, &["HS256".to_owned()]).unwrap();
        Provider { name: "Bearer".to_owned(), kind: ProviderKind::Token(vec![issuer]), aliases: Vec::new() }
    }

    /// A token about `subject` that is good for this long from now on.
    pub(crate) fn token(&self, core: &Core, subject: &str, scope: &str, life: Duration) -> Vec<u8> {
        let exp = core.clock.now().after(life).millis() / 1000;
        let claims = serde_json::json!({
            "iss": "https://auth.example.org", "aud": "us", "sub": subject, "name": "Ann Elsewhere", "client_id": "app",
            "scope": scope, "exp": exp,
        });
        jsonwebtoken::encode(&jsonwebtoken::Header::default(), &claims, &self.0).unwrap().into_bytes()
    }
}

impl Core {
    pub(crate) async fn bear_on(&self, token: &[u8], connection: ConnectionId) -> Result<Peering, Refusal> {
        let credential = Credential::Token { any_of: vec![Secret::new(token)], kind: TokenKind::Restore };
        let outcome = self.identity.handle(command(Vec::new(), credential, "bearer"), &self.context(connection, "192.0.2.1")).await;
        match &outcome.reply.result {
            Ok(_) => Ok(Peering::of(outcome)),
            Err(refusal) => Err(refusal.clone()),
        }
    }

    async fn bear(&self, token: &[u8]) -> Result<Peering, Refusal> {
        self.bear_on(token, self.connection()).await
    }
}

#[tokio::test]
async fn a_signed_token_of_another_issuer_begins_a_session_that_ends_with_it() {
    let core = Core::with(|settings| settings.providers.push(Elsewhere::provider())).await;
    let elsewhere = Elsewhere::new();
    let token = elsewhere.token(&core, "u-9", "m profile offline_access", 10 * MINUTE);
    let peer = core.bear(&token).await.unwrap();
    assert_eq!(peer.token(), token, "it is given back as it came");
    let person = peer.granted.principal.account.clone().unwrap();
    assert_eq!((person.subject.as_str(), person.display_name.as_deref()), ("u-9", Some("Ann Elsewhere")));
    assert_eq!(format!("{:?}", peer.granted.principal.scopes), "[m]", "what the catalogue does not know is nobody's");
    let again = core.bear(&token).await.unwrap();
    assert_eq!(again.granted.principal.session, peer.granted.principal.session, "one token, one session");
    let other = core.bear(&elsewhere.token(&core, "u-9", "m", 20 * MINUTE)).await.unwrap();
    assert_ne!(other.granted.principal.session, peer.granted.principal.session);
    core.clock.turn(10 * MINUTE);
    core.until("its end is told", || async { peer.event() == Some(Event::Detached(Reason::Expired)) }).await;
    assert_eq!(core.bear(&token).await.err(), Some(Refusal::Expired));
    assert_eq!(other.event(), None);
}

#[tokio::test]
async fn a_connection_of_a_signed_token_ends_no_later_than_others_do() {
    let core = Core::with(|settings| settings.providers.push(Elsewhere::provider())).await;
    let peer = core.bear(&Elsewhere::new().token(&core, "u-9", "m", DAY)).await.unwrap();
    assert_eq!(peer.granted.principal.expires_at, Some(core.clock.now().after(30 * MINUTE)));
}

#[tokio::test]
async fn the_same_token_again_on_its_connection_moves_the_end_and_is_no_second_line_of_the_audit() {
    let core = Core::with(|settings| settings.providers.push(Elsewhere::provider())).await;
    let (token, connection) = (Elsewhere::new().token(&core, "u-9", "m", DAY), core.connection());
    let peer = core.bear_on(&token, connection).await.unwrap();
    core.clock.turn(20 * MINUTE);
    let credential = Credential::Token { any_of: vec![Secret::new(token.clone())], kind: TokenKind::Restore };
    let again = core.identity.handle(command(Vec::new(), credential, "bearer"), &core.context(connection, "192.0.2.1")).await;
    assert!(again.attachment.is_none() && again.held.is_nothing(), "it is attached already");
    let end = core.clock.now().after(30 * MINUTE);
    assert_eq!(again.reply.result.and_then(Answer::granted).unwrap().principal.expires_at, Some(end));
    assert_eq!(core.issue_on(connection).await.unwrap().principal.expires_at, Some(end), "the core has moved it too");
    core.identity.flush().await;
    assert_eq!(core.audited("borrow").await, 1);
    core.clock.turn(15 * MINUTE);
    assert_eq!(peer.event(), None, "the first end is past, and is not told");
    core.bear_on(&token, core.connection()).await.unwrap();
    core.identity.flush().await;
    assert_eq!(core.audited("borrow").await, 2, "another connection is another line");
    core.admin().end_session(peer.granted.principal.session.unwrap()).await.unwrap();
    assert_eq!(peer.event(), Some(Event::Detached(Reason::Revoked)), "what was attached first is told the end");
}

#[tokio::test]
async fn an_operator_who_ends_a_borrowed_session_ends_its_token_here() {
    let core = Core::with(|settings| settings.providers.push(Elsewhere::provider())).await;
    let token = Elsewhere::new().token(&core, "u-9", "m", DAY);
    let peer = core.bear(&token).await.unwrap();
    let listed = core.admin().sessions(None, None, 10).await.unwrap();
    assert_eq!((listed.len(), listed[0].user.as_deref(), listed[0].connections), (1, Some("u-9"), 1));
    core.admin().end_session(peer.granted.principal.session.unwrap()).await.unwrap();
    assert_eq!(peer.event(), Some(Event::Detached(Reason::Revoked)));
    assert_eq!(core.bear(&token).await.err(), Some(Refusal::Revoked));
    assert_eq!(core.sessions().await, 0);
    assert_eq!(core.admin().end_session(peer.granted.principal.session.unwrap()).await.err(), Some(Refusal::NotFound("session")));
}

#[tokio::test]
async fn each_kind_of_provider_takes_its_own_proofs_only() {
    let core = Core::with(|settings| settings.providers.push(Elsewhere::provider())).await;
    let ours = core.log_in().await.token();
    assert_eq!(core.bear(&ours).await.err(), Some(Refusal::InvalidCredentials), "our own token at the other provider");
    let theirs = Elsewhere::new().token(&core, "u-9", "m", DAY);
    core.bear(&theirs).await.unwrap();
    assert_eq!(core.present(&theirs).await.err(), Some(Refusal::InvalidCredentials), "their token at ours");
    let context = core.context(core.connection(), "192.0.2.1");
    let client = Credential::Client { id: Some(ClientId::parse("app").unwrap()), secret: None };
    let outcome = core.identity.handle(command(vec![client], password("ann", "pw"), "Bearer"), &context).await;
    assert_eq!(outcome.reply.result.err(), Some(Refusal::UnknownProvider));
}

#[tokio::test]
async fn secure_scopes_of_a_signed_token_keep_off_plain_connections_too() {
    let core = Core::with(|settings| settings.providers.push(Elsewhere::provider())).await;
    let elsewhere = Elsewhere::new();
    let plain = |token: Vec<u8>| {
        let context = core.context(core.connection(), "192.0.2.1");
        let context = Context { peer: Peer { secure: false, ..context.peer }, ..context };
        let identity = core.identity.clone();
        let command =
            command(Vec::new(), Credential::Token { any_of: vec![Secret::new(token)], kind: TokenKind::Restore }, "Bearer");
        async move { identity.handle(command, &context).await.reply.result.map(|_| ()) }
    };
    assert_eq!(plain(elsewhere.token(&core, "u-9", "t", DAY)).await, Err(Refusal::ScopeNotGranted));
    assert_eq!(plain(elsewhere.token(&core, "u-9", "m t", DAY)).await, Ok(()));
    assert_eq!(plain(elsewhere.token(&core, "u-9", "", DAY)).await, Ok(()), "no rights asked for, none withheld");
}

/// The other way to write the same ECDSA signature: with `n - s` in the place of `s`, n being the order of P-256.
fn other_signature(token: &[u8]) -> Vec<u8> {
    const ORDER: [u8; 32] = [
        0xFF, 0xFF, 0xFF, 0xFF, 0, 0, 0, 0, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xBC, 0xE6, 0xFA, 0xAD, 0xA7, 0x17,
        0x9E, 0x84, 0xF3, 0xB9, 0xCA, 0xC2, 0xFC, 0x63, 0x25, 0x51,
    ];
    let point = token.iter().rposition(|byte| *byte == b'.').unwrap() + 1;
    let mut signature = base64url(&token[point..]);
    let mut borrow = 0;
    for place in (0..32).rev() {
        let difference = i16::from(ORDER[place]) - i16::from(signature[32 + place]) - borrow;
        borrow = i16::from(difference < 0);
        signature[32 + place] = difference.rem_euclid(256) as u8;
    }
    [&token[..point], in_base64url(&signature).as_bytes()].concat()
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

fn base64url(text: &[u8]) -> Vec<u8> {
    let (mut bytes, mut bits, mut held) = (Vec::new(), 0_u32, 0);
    for character in text {
        bits = bits << 6 | ALPHABET.iter().position(|known| known == character).unwrap() as u32;
        held += 6;
        if held >= 8 {
            held -= 8;
            bytes.push((bits >> held) as u8);
        }
    }
    bytes
}

fn in_base64url(bytes: &[u8]) -> String {
    let (mut text, mut bits, mut held) = (String::new(), 0_u32, 0);
    for byte in bytes {
        bits = bits << 8 | u32::from(*byte);
        held += 8;
        while held >= 6 {
            held -= 6;
            text.push(char::from(ALPHABET[(bits >> held & 63) as usize]));
        }
    }
    if held > 0 {
        text.push(char::from(ALPHABET[(bits << (6 - held) & 63) as usize]));
    }
    text
}

#[tokio::test]
async fn a_token_that_was_ended_stays_ended_however_its_signature_is_written() {
    let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let point = pair.public_key_raw();
    let (x, y) = (in_base64url(&point[1..33]), in_base64url(&point[33..65]));
    let keys = serde_json::json!({"keys": [{"kty": "EC", "crv": "P-256", "x": x, "y": y}]}).to_string();
    let issuer = Issuer::new("https://auth.example.org", vec!["us".to_owned()], &keys, &["ES256".to_owned()]).unwrap();
    let provider = Provider { name: "Bearer".to_owned(), kind: ProviderKind::Token(vec![issuer]), aliases: Vec::new() };
    let core = Core::with(|settings| settings.providers.push(provider)).await;
    let exp = core.clock.now().after(DAY).millis() / 1000;
    let claims = serde_json::json!({"iss": "https://auth.example.org", "aud": "us", "sub": "u-9", "scope": "m", "exp": exp});
    let key = jsonwebtoken::EncodingKey::from_ec_der(&pair.serialize_der());
    let header = jsonwebtoken::Header::new(jsonwebtoken::Algorithm::ES256);
    let token = jsonwebtoken::encode(&header, &claims, &key).unwrap().into_bytes();
    let other = other_signature(&token);
    let peers = [core.bear(&token).await.unwrap(), core.bear(&other).await.expect("it verifies as well")];
    core.admin().end_session(peers[0].granted.principal.session.unwrap()).await.unwrap();
    for peer in &peers {
        assert_eq!(peer.event(), Some(Event::Detached(Reason::Revoked)));
    }
    for token in [&token, &other] {
        assert_eq!(core.bear(token).await.err(), Some(Refusal::Revoked));
    }
}
