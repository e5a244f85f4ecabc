//! What others have signed: tokens of issuers that an operator has named. Reads their keys, verifies a token, and says what it claims.
//!
//! A key says with which algorithms it may be used; the token's header only chooses among them (RFC 8725 section 3.1). Nothing
//! that a token points to is fetched, and a key inside a token is not looked at. A cause is named only once the signature has
//! verified: before that, every token is just not a good one. It refuses to know what a claim is good for.

use std::collections::BTreeMap;
use std::fmt;

use jsonwebtoken::dangerous::insecure_decode_claims;
use jsonwebtoken::errors::Error;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, JwkSet, PublicKeyUse};
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey, Validation, decode, decode_header};
use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::clock::Timestamp;
use crate::refusal::Refusal;

/// The longest token that is looked at, in bytes.
pub const LONGEST: usize = 16 * 1024;
/// How far ahead of ours an issuer's clock may be, in milliseconds, where it says from when on a token is good.
const SKEW: i64 = 60_000;

/// Somebody else who vouches for people, with keys.
#[derive(Clone)]
pub struct Issuer {
    /// As `iss` has it, without a slash at its end: some write one and some do not.
    name: String,
    /// Whoever a token must be meant for: one of these.
    audience: Vec<String>,
    keys: Vec<Key>,
}

#[derive(Clone)]
struct Key {
    id: Option<String>,
    algorithms: Vec<Algorithm>,
    key: DecodingKey,
}

impl fmt::Debug for Issuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Issuer").field("name", &self.name).field("audience", &self.audience).finish_non_exhaustive()
    }
}

impl PartialEq for Issuer {
    fn eq(&self, other: &Issuer) -> bool {
        self.name == other.name && self.audience == other.audience
    }
}

impl Eq for Issuer {}

/// What a good token claims.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claims {
    /// Who vouches.
    pub issuer: String,
    /// Who it is about: `sub`.
    pub subject: String,
    /// A friendly name, where there is one: `name`, else `preferred_username`.
    pub name: Option<String>,
    /// The client that it was issued to, where it says: `client_id` (RFC 9068), else `azp`.
    pub client: Option<String>,
    /// Names of scopes, in the issuer's words: `scope`, as one text or a list, else `scp`. None: it says nothing of scopes.
    pub scopes: Option<Vec<String>>,
    /// When it ends.
    pub expires_at: Timestamp,
}

#[derive(Deserialize)]
struct Raw {
    sub: Option<String>,
    aud: Option<OneOrMany>,
    exp: Option<Moment>,
    nbf: Option<Moment>,
    name: Option<String>,
    preferred_username: Option<String>,
    client_id: Option<String>,
    azp: Option<String>,
    scope: Option<OneOrMany>,
    scp: Option<OneOrMany>,
    /// Whatever else it claims, looked at only because the whole must be JSON in UTF-8 (RFC 7519 section 7.2, step 10).
    #[serde(flatten)]
    _others: BTreeMap<String, IgnoredAny>,
}

#[derive(Deserialize)]
struct OnlyIssuer {
    iss: String,
}

#[derive(Deserialize)]
#[serde(untagged)]
pub(crate) enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

/// A NumericDate: seconds, possibly with a fraction (RFC 7519 section 2).
#[derive(Clone, Copy, Deserialize)]
pub(crate) struct Moment(f64);

impl Moment {
    pub(crate) fn timestamp(self) -> Option<Timestamp> {
        let millis = self.0 * 1000.0;
        // Beyond this, a double no longer tells one millisecond from the next; it is also after the year 200,000.
        (millis.is_finite() && millis.abs() < 9e15).then(|| Timestamp::from_millis(millis as i64))
    }
}

impl Issuer {
    /// An issuer by its name, the audiences it may mean us by, its keys as a JWK set (RFC 7517 section 5), and the algorithms
    /// that are allowed.
    ///
    /// # Errors
    /// One sentence for people.
    pub fn new(name: &str, audience: Vec<String>, keys: &str, algorithms: &[String]) -> Result<Issuer, String> {
        let allowed = algorithms
            .iter()
            .map(|name| name.parse::<Algorithm>().map_err(|_| format!("{name:?} is no algorithm that can be allowed")))
            .collect::<Result<Vec<_>, _>>()?;
        if name.is_empty() || audience.is_empty() || allowed.is_empty() {
            return Err("an issuer needs a name, an audience and an algorithm".to_owned());
        }
        let set: JwkSet = serde_json::from_str(keys).map_err(|error| {
            // The library's own words may quote a key.
            format!("that is no set of keys: line {}, column {}", error.line(), error.column())
        })?;
        let keys = set.keys.iter().map(|key| usable(key, &allowed)).collect::<Result<Vec<_>, _>>()?;
        let keys: Vec<Key> = keys.into_iter().flatten().collect();
        if keys.is_empty() {
            return Err("none of the keys can be used with an algorithm that is allowed".to_owned());
        }
        Ok(Issuer { name: bare(name).to_owned(), audience, keys })
    }

    /// Whether one of its keys is a secret that whoever verifies could sign with.
    pub fn has_shared_secret(&self) -> bool {
        self.keys.iter().any(|key| key.key.family() == AlgorithmFamily::Hmac)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }
}

fn bare(issuer: &str) -> &str {
    issuer.strip_suffix('/').unwrap_or(issuer)
}

/// A key with those of the algorithms allowed that it is made for; none, where it is for something else.
fn usable(jwk: &Jwk, allowed: &[Algorithm]) -> Result<Option<Key>, String> {
    use Algorithm::{ES256, ES384, EdDSA, HS256, HS384, HS512, PS256, PS384, PS512, RS256, RS384, RS512};
    let fitting: &[Algorithm] = match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => &[RS256, RS384, RS512, PS256, PS384, PS512],
        AlgorithmParameters::OctetKey(_) => &[HS256, HS384, HS512],
        AlgorithmParameters::OctetKeyPair(_) => &[EdDSA],
        AlgorithmParameters::EllipticCurve(curve) => match curve.curve {
            EllipticCurve::P256 => &[ES256],
            EllipticCurve::P384 => &[ES384],
            _ => &[],
        },
        // Kinds of keys that this version does not know.
        _ => &[],
    };
    let own = jwk.common.key_algorithm.map(|algorithm| algorithm.to_string());
    let algorithms: Vec<Algorithm> = fitting
        .iter()
        .copied()
        .filter(|algorithm| allowed.contains(algorithm) && own.as_ref().is_none_or(|own| *own == format!("{algorithm:?}")))
        .collect();
    let for_signatures = jwk.common.public_key_use.as_ref().is_none_or(|purpose| *purpose == PublicKeyUse::Signature);
    if algorithms.is_empty() || !for_signatures {
        return Ok(None);
    }
    let named = || jwk.common.key_id.clone().unwrap_or_default();
    if let AlgorithmParameters::OctetKey(octets) = &jwk.algorithm
        && octets.value.len() < 43
    {
        return Err(format!("the key {:?} is shorter than 256 bits (RFC 7518 section 3.2)", named()));
    }
    let key = DecodingKey::from_jwk(jwk).map_err(|error| format!("the key {:?} cannot be used: {error}", named()))?;
    Ok(Some(Key { id: jwk.common.key_id.clone(), algorithms, key }))
}

/// Verifies a token.
///
/// # Errors
/// [`Refusal::InvalidCredentials`] for whatever no issuer here has signed. For a token that one has: [`Refusal::Expired`],
/// [`Refusal::NotYetValid`], [`Refusal::WrongAudience`], and [`Refusal::InvalidCredentials`] where a claim is missing or odd.
pub fn verify(issuers: &[Issuer], token: &[u8], now: Timestamp) -> Result<Claims, Refusal> {
    let not_good = |_: Error| Refusal::InvalidCredentials;
    if token.len() > LONGEST {
        return Err(Refusal::InvalidCredentials);
    }
    let header = decode_header(token).map_err(not_good)?;
    // Whoever must understand an extension and does not, must refuse (RFC 7515 section 4.1.11). We know none.
    if header.crit.is_some() {
        return Err(Refusal::InvalidCredentials);
    }
    // Unverified still: it only chooses whose keys are tried.
    let claimed: OnlyIssuer = insecure_decode_claims(token).map_err(not_good)?;
    let named = |issuer: &&Issuer| issuer.name == bare(&claimed.iss);
    for issuer in issuers.iter().filter(named) {
        let fits =
            |key: &&Key| key.algorithms.contains(&header.alg) && (header.kid.is_none() || key.id.is_none() || key.id == header.kid);
        for key in issuer.keys.iter().filter(fits) {
            let mut rules = Validation::new(header.alg);
            // Only the signature is the library's to judge; times and audience are judged below, with the time handed in.
            rules.required_spec_claims.clear();
            (rules.validate_exp, rules.validate_nbf, rules.validate_aud) = (false, false, false);
            if let Ok(signed) = decode::<Raw>(token, &key.key, &rules) {
                return judge(issuer, signed.claims, now);
            }
        }
    }
    Err(Refusal::InvalidCredentials)
}

fn judge(issuer: &Issuer, raw: Raw, now: Timestamp) -> Result<Claims, Refusal> {
    let expires_at = raw.exp.and_then(Moment::timestamp).ok_or(Refusal::InvalidCredentials)?;
    if now >= expires_at {
        return Err(Refusal::Expired);
    }
    if let Some(nbf) = raw.nbf {
        let begins = nbf.timestamp().ok_or(Refusal::InvalidCredentials)?;
        if begins.millis() > now.millis().saturating_add(SKEW) {
            return Err(Refusal::NotYetValid);
        }
    }
    let meant_for = raw.aud.map(OneOrMany::list).unwrap_or_default();
    if !meant_for.iter().any(|audience| issuer.audience.contains(audience)) {
        return Err(Refusal::WrongAudience);
    }
    let client = raw.client_id.or(raw.azp);
    // A token of client credentials may be about nobody but its client (RFC 9068 section 2.2).
    let subject = raw.sub.or_else(|| client.clone()).filter(|subject| !subject.is_empty());
    Ok(Claims {
        issuer: issuer.name.clone(),
        subject: subject.ok_or(Refusal::InvalidCredentials)?,
        name: raw.name.or(raw.preferred_username),
        client,
        scopes: raw.scope.or(raw.scp).map(OneOrMany::words),
        expires_at,
    })
}

impl OneOrMany {
    pub(crate) fn list(self) -> Vec<String> {
        match self {
            OneOrMany::One(one) => vec![one],
            OneOrMany::Many(many) => many,
        }
    }

    /// Names in one text stand apart by blanks (RFC 6749 section 3.3).
    fn words(self) -> Vec<String> {
        match self {
            OneOrMany::One(text) => text.split_ascii_whitespace().map(str::to_owned).collect(),
            OneOrMany::Many(many) => many,
        }
    }
}

#[cfg(test)]
mod tests {
    use jsonwebtoken::{EncodingKey, Header, encode};
    use serde_json::{Value, json};

    use super::*;

    const SECRET: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8"; // 32 bytes, in base64url
    const NOW: Timestamp = Timestamp::from_millis(1_900_000_000_000);

    /// An issuer whose key is a shared secret, since that can be made here; signatures by key pairs are the library's tests.
    fn issuer() -> Issuer {
        let keys = json!({"keys": [{"kty": "oct", "kid": "one", "k": SECRET}]}).to_string();
        Issuer::new("https://auth.example.org/", vec!["Zenith-API".to_owned()], &keys, &["HS256".to_owned()]).expect("an issuer")
    }

    fn claims() -> Value {
        json!({
            "iss": "https://auth.example.org", "aud": "Zenith-API", "sub": "u-1", "name": "Ann", "client_id": "app",
            "scope": "Zenith/Market Zenith/News", "exp": 1_900_000_060, "nbf": 1_900_000_000,
        })
    }

    fn signed(header: Header, claims: &Value) -> String {
        encode(&header, claims, &EncodingKey::from_base64_secret(&format!("{}=", SECRET.replace('-', "+"))).expect("a key"))
            .expect("a token")
    }

    fn with(change: impl FnOnce(&mut Value)) -> String {
        let mut claims = claims();
        change(&mut claims);
        signed(Header::new(Algorithm::HS256), &claims)
    }

    fn check(token: &str) -> Result<Claims, Refusal> {
        verify(&[issuer()], token.as_bytes(), NOW)
    }

    #[test]
    fn a_good_token_says_who_and_for_how_long() {
        let claims = check(&with(|_| ())).expect("good");
        assert_eq!((claims.subject.as_str(), claims.name.as_deref(), claims.client.as_deref()), ("u-1", Some("Ann"), Some("app")));
        assert_eq!(claims.scopes, Some(vec!["Zenith/Market".to_owned(), "Zenith/News".to_owned()]));
        assert_eq!(claims.expires_at, Timestamp::from_millis(1_900_000_060_000));
        let list = check(&with(|claims| claims["scope"] = json!(["a b", "c"]))).expect("good");
        assert_eq!(list.scopes, Some(vec!["a b".to_owned(), "c".to_owned()]));
        let slash = check(&with(|claims| claims["iss"] = json!("https://auth.example.org/"))).expect("good with a slash");
        assert_eq!(slash.issuer, "https://auth.example.org");
        let many = check(&with(|claims| claims["aud"] = json!(["other", "Zenith-API"]))).expect("good for several");
        assert_eq!(many.subject, "u-1");
        let service = check(&with(|claims| {
            claims.as_object_mut().expect("an object").remove("sub");
        }));
        assert_eq!(service.expect("about its client").subject, "app");
    }

    #[test]
    fn causes_are_named_once_the_signature_has_verified() {
        let refused = |change: fn(&mut Value)| check(&with(change)).expect_err("refused");
        assert_eq!(refused(|claims| claims["exp"] = json!(1_900_000_000)), Refusal::Expired);
        assert_eq!(refused(|claims| claims["exp"] = json!(1_899_999_999.5)), Refusal::Expired);
        assert_eq!(refused(|claims| claims["nbf"] = json!(1_900_000_061)), Refusal::NotYetValid);
        assert_eq!(refused(|claims| claims["aud"] = json!("other")), Refusal::WrongAudience);
        assert_eq!(refused(|claims| claims["aud"] = json!(null)), Refusal::WrongAudience);
        let endless = with(|claims| {
            claims.as_object_mut().expect("an object").remove("exp");
        });
        assert_eq!(check(&endless), Err(Refusal::InvalidCredentials), "a token must end");
        assert_eq!(refused(|claims| claims["exp"] = json!("soon")), Refusal::InvalidCredentials);
        assert_eq!(refused(|claims| claims["exp"] = json!(1e300)), Refusal::InvalidCredentials);
        assert_eq!(refused(|claims| claims["iss"] = json!("https://evil.example.org")), Refusal::InvalidCredentials);
        assert_eq!(refused(|claims| claims["iss"] = json!(["https://auth.example.org"])), Refusal::InvalidCredentials);
        assert_eq!(refused(|claims| claims["sub"] = json!("")), Refusal::InvalidCredentials);
        let expired_and_forged = with(|claims| claims["exp"] = json!(1)).replace('.', ".x");
        assert_eq!(check(&expired_and_forged), Err(Refusal::InvalidCredentials));
    }

    #[test]
    fn what_the_issuer_has_not_signed_with_its_own_algorithm_is_refused() {
        let good = with(|_| ());
        let (message, signature) = good.rsplit_once('.').expect("three parts");
        let (_, body) = message.split_once('.').expect("three parts");
        let mut crit = Header::new(Algorithm::HS256);
        crit.crit = Some(vec!["exp".to_owned()]);
        let mut other_key = Header::new(Algorithm::HS256);
        other_key.kid = Some("' OR 1=1 --".to_owned());
        let none = "eyJhbGciOiJub25lIn0"; // {"alg":"none"}
        for token in [
            String::new(),
            "a.b.c".to_owned(),
            format!("{message}."),
            format!("{message}.{}", &signature[..signature.len() - 1]),
            format!("{message}.{signature}A"),
            format!("{message}.{signature}="),
            format!("{message}.{signature}.x"),
            format!("{none}.{body}."),
            format!("{none}.{body}.{signature}"),
            signed(Header::new(Algorithm::HS384), &claims()),
            signed(crit, &claims()),
            signed(other_key, &claims()),
            "x".repeat(LONGEST + 1),
        ] {
            assert_eq!(check(&token), Err(Refusal::InvalidCredentials), "{token:.60}");
        }
    }

    #[test]
    fn claims_that_are_no_utf_8_are_refused_in_a_member_that_nobody_reads_too() {
        // Both end in a member "note" and are signed with the key above: one holds C3 B5 there, the other F5.
        let good = concat!(
            "eyJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJodHRwczovL2F1dGguZXhhbXBsZS5vcmciLCJhdWQiOiJaZW5pdGgtQVBJIiwic3ViIjo",
            "idS0xIiwiZXhwIjoxOTAwMDAwMDYwLCJub3RlIjoiw7UifQ.erVcpuWVBO1RdIL447KOZXg665HNvls9GZCpZiirmvg",
        );
        let broken = concat!(
            "eyJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJodHRwczovL2F1dGguZXhhbXBsZS5vcmciLCJhdWQiOiJaZW5pdGgtQVBJIiwic3ViIjo",
            "idS0xIiwiZXhwIjoxOTAwMDAwMDYwLCJub3RlIjoi9SJ9.rxv7oQfy8S7RcewbBgBVpH-VQ5Ue0jMtQb17ve-RGRk",
        );
        assert_eq!(check(good).expect("good").subject, "u-1");
        assert_eq!(check(broken), Err(Refusal::InvalidCredentials));
    }

    #[test]
    fn every_last_character_but_the_canonical_one_is_refused() {
        let good = with(|_| ());
        let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let accepted = alphabet.chars().filter(|last| check(&format!("{}{last}", &good[..good.len() - 1])).is_ok()).count();
        assert_eq!(accepted, 1);
    }

    #[test]
    fn a_public_key_is_never_used_as_a_shared_secret() {
        let keys = json!({"keys": [{
            "kty": "RSA", "kid": "one", "e": "AQAB",
            "n": "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw"
        }]}).to_string();
        let both = ["RS256".to_owned(), "HS256".to_owned()];
        let issuer = Issuer::new("https://auth.example.org", vec!["Zenith-API".to_owned()], &keys, &both).expect("an issuer");
        assert_eq!(verify(&[issuer], with(|_| ()).as_bytes(), NOW), Err(Refusal::InvalidCredentials));
    }

    #[test]
    fn keys_that_cannot_be_used_are_refused_at_the_start() {
        let refused = |keys: &str, algorithms: &[&str]| {
            let algorithms: Vec<String> = algorithms.iter().map(|&name| name.to_owned()).collect();
            Issuer::new("x", vec!["y".to_owned()], keys, &algorithms).expect_err(keys)
        };
        let oct = |k: &str| json!({"keys": [{"kty": "oct", "k": k}]}).to_string();
        refused("", &["HS256"]);
        refused("{}", &["HS256"]);
        refused(r#"{"keys":[]}"#, &["HS256"]);
        refused(&oct(SECRET), &["RS256"]);
        refused(&oct(SECRET), &["none"]);
        refused(&oct(SECRET), &[]);
        assert!(refused(&oct("c2hvcnQ"), &["HS256"]).contains("256 bits"));
        let for_encryption = json!({"keys": [{"kty": "oct", "use": "enc", "k": SECRET}]}).to_string();
        refused(&for_encryption, &["HS256"]);
    }
}
