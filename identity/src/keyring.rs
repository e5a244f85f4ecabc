//! The keys with which this server signs: what it says with them anybody can verify, and nobody else can say.
//!
//! They are Ed25519 (RFC 8037). The newest signs; all are published, as a JWK set, so that what an older one has signed can
//! still be verified. It refuses to know what a claim says: that is spelled before it comes here.

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;

use crate::clock::{Entropy, Timestamp, draw};
use crate::secret::Secret;
use crate::store::SigningKey;

/// The keys.
pub(crate) struct Keyring {
    signing: Key,
    /// All of them as others may know them, as JSON.
    public: String,
}

struct Key {
    /// Its name: the thumbprint of RFC 7638 section 3, so that a key has the same name wherever it is looked at.
    id: String,
    /// The library wipes it when it is dropped.
    pair: Ed25519KeyPair,
    /// The public half, in base64url.
    x: String,
}

/// A key that nobody has yet.
pub(crate) fn draw_key(now: Timestamp, entropy: &dyn Entropy) -> SigningKey {
    let seed = zeroize::Zeroizing::new(draw::<32>(entropy));
    SigningKey { seed: Secret::new(seed.as_slice()), created_at: now }
}

impl Keyring {
    /// The keys that are kept, oldest first.
    ///
    /// # Errors
    /// One sentence for operators: a seed is none, or there is no key at all.
    pub(crate) fn of(kept: &[SigningKey]) -> Result<Keyring, String> {
        let keys = kept.iter().map(|kept| Key::of(&kept.seed)).collect::<Result<Vec<_>, _>>()?;
        // RFC 7517 section 5.
        let public = json!({ "keys": keys.iter().map(Key::public).collect::<Vec<_>>() }).to_string();
        let signing = keys.into_iter().next_back().ok_or("the store has no key to sign with")?;
        Ok(Keyring { signing, public })
    }

    /// Signs claims: a JWS in its compact form (RFC 7515 section 3.1), whose header names its `typ` and the key.
    pub(crate) fn sign(&self, typ: &str, claims: &[u8]) -> Secret {
        let header = json!({ "alg": "EdDSA", "kid": self.signing.id, "typ": typ }).to_string();
        Secret::new(compact(&self.signing.pair, &header, claims))
    }

    /// The keys with which others verify: a JWK set (RFC 7517 section 5), as JSON.
    pub(crate) fn public_keys(&self) -> &str {
        &self.public
    }
}

impl Key {
    fn of(seed: &Secret) -> Result<Key, String> {
        // The library would take a longer text for its first 32 bytes.
        let whole = Some(seed.expose()).filter(|seed| seed.len() == 32);
        let pair = whole.and_then(|seed| Ed25519KeyPair::from_seed_unchecked(seed).ok());
        let pair = pair.ok_or("a key in the store cannot be used to sign with: its seed is damaged")?;
        let x = URL_SAFE_NO_PAD.encode(pair.public_key());
        // The required members of this kind of key in the order of their names, without blanks: RFC 8037 section 2.
        let members = format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{x}"}}"#);
        Ok(Key { id: URL_SAFE_NO_PAD.encode(digest(&SHA256, members.as_bytes())), pair, x })
    }

    fn public(&self) -> serde_json::Value {
        json!({ "kty": "OKP", "crv": "Ed25519", "x": self.x, "kid": self.id, "use": "sig", "alg": "EdDSA" })
    }
}

fn compact(pair: &Ed25519KeyPair, header: &str, payload: &[u8]) -> String {
    let mut text = URL_SAFE_NO_PAD.encode(header);
    text.push('.');
    URL_SAFE_NO_PAD.encode_string(payload, &mut text);
    let signature = pair.sign(text.as_bytes());
    text.push('.');
    URL_SAFE_NO_PAD.encode_string(signature, &mut text);
    text
}

#[cfg(test)]
mod tests {
    use jsonwebtoken::jwk::JwkSet;
    use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
    use serde_json::Value;

    use super::*;

    /// The key of RFC 8037 appendix A.1.
    fn sample() -> SigningKey {
        let seed = URL_SAFE_NO_PAD.decode("nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A").expect("base64url");
        SigningKey { seed: Secret::new(seed), created_at: Timestamp::default() }
    }

    fn key(seed: &[u8]) -> SigningKey {
        SigningKey { seed: Secret::new(seed), created_at: Timestamp::default() }
    }

    fn published(keyring: &Keyring) -> Vec<Value> {
        let set: Value = serde_json::from_str(keyring.public_keys()).expect("JSON");
        set["keys"].as_array().expect("a list").clone()
    }

    #[test]
    fn a_key_is_published_under_its_thumbprint_and_without_its_secret() {
        let keyring = Keyring::of(&[sample()]).expect("a key");
        // RFC 8037 appendices A.2 and A.3.
        let expected = json!({
            "kty": "OKP", "crv": "Ed25519", "use": "sig", "alg": "EdDSA",
            "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo", "kid": "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k",
        });
        assert_eq!(published(&keyring), [expected]);
    }

    #[test]
    fn a_signature_is_the_one_of_the_standard() {
        // RFC 8037 appendix A.4.
        let key = Key::of(&sample().seed).expect("a key");
        let expected = concat!(
            "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc.",
            "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg"
        );
        assert_eq!(compact(&key.pair, r#"{"alg":"EdDSA"}"#, b"Example of Ed25519 signing"), expected);
    }

    #[test]
    fn what_is_signed_verifies_with_the_published_key_that_it_names_and_with_no_other() {
        let keyring = Keyring::of(&[key(&[1; 32]), key(&[2; 32])]).expect("two keys");
        let token = keyring.sign("JWT", br#"{"sub":"u-1","exp":1}"#);
        let token = token.expose_text().expect("text");
        let header = decode_header(token).expect("a header");
        assert_eq!((header.alg, header.typ.as_deref()), (Algorithm::EdDSA, Some("JWT")));
        let set: JwkSet = serde_json::from_str(keyring.public_keys()).expect("a JWK set");
        assert_eq!(set.keys.len(), 2);
        let mut rules = Validation::new(Algorithm::EdDSA);
        (rules.validate_exp, rules.validate_aud) = (false, false);
        for jwk in &set.keys {
            let verified = decode::<Value>(token, &DecodingKey::from_jwk(jwk).expect("a key"), &rules);
            assert_eq!(verified.is_ok(), jwk.common.key_id == header.kid, "{jwk:?}");
        }
        assert_eq!(header.kid, set.keys[1].common.key_id, "the newest signs");
    }

    #[test]
    fn without_a_whole_seed_there_is_no_key() {
        for kept in [vec![], vec![key(&[1; 31])], vec![key(&[1; 33])], vec![key(&[1; 32]), key(b"")]] {
            assert!(Keyring::of(&kept).is_err(), "{kept:?}");
        }
    }
}
