//! The keys with which this server signs, and with which it knows again what it has signed.
//!
//! Each has a purpose. With those of [`Purpose::Own`] the server speaks of itself and of who is there: they are Ed25519 (RFC
//! 8037), and anybody can verify what they sign. Those of [`Purpose::Tokens`] sign what a peer shows us again: they may be shared
//! with an application that signed with them before us, and what is shared is never published. The newest of a purpose signs; one
//! that is retired only verifies, until nothing that it has signed can live. It refuses to know what a claim says: that is spelled
//! before it comes here, and read after it was verified.

use std::fmt;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    Ed25519KeyPair, KeyPair, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512, RSA_PKCS1_SHA256,
    RSA_PKCS1_SHA384, RSA_PKCS1_SHA512, RsaEncoding, RsaKeyPair, RsaParameters, UnparsedPublicKey,
};
use aws_lc_rs::{hmac, signature};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde::Serialize;
use serde_json::json;

use crate::clock::{Entropy, Timestamp, draw};
use crate::secret::Secret;

/// The shortest shared secret that is taken, in bytes: 256 bits, the least of RFC 7518 section 3.2. For HS384 and HS512 the
/// standard wants more; applications that are moved here have signed with this much, and nobody searches it.
const SHORTEST: usize = 32;
/// The shortest RSA modulus, in bytes: 2048 bits (RFC 7518 section 3.3).
const SHORTEST_MODULUS: usize = 256;

/// What a key is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// What this server says of itself, for others to verify.
    Own,
    /// Tokens that peers show us again.
    Tokens,
}

impl Purpose {
    /// The word that store and operators use.
    pub const fn word(self) -> &'static str {
        match self {
            Purpose::Own => "own",
            Purpose::Tokens => "tokens",
        }
    }

    /// The purpose that [`Purpose::word`] names.
    pub fn parse(word: &str) -> Option<Purpose> {
        [Purpose::Own, Purpose::Tokens].into_iter().find(|purpose| purpose.word() == word)
    }
}

/// How a key signs: the names of RFC 7518 section 3.1 and RFC 8037 section 3.1.
#[expect(missing_docs, reason = "each is the name that the standard gives it")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyAlgorithm {
    EdDSA,
    HS256,
    HS384,
    HS512,
    RS256,
    RS384,
    RS512,
}

impl KeyAlgorithm {
    /// All of them.
    pub const ALL: [KeyAlgorithm; 7] = {
        use KeyAlgorithm::{EdDSA, HS256, HS384, HS512, RS256, RS384, RS512};
        [EdDSA, HS256, HS384, HS512, RS256, RS384, RS512]
    };

    /// Its name, as the standards spell it.
    pub const fn word(self) -> &'static str {
        match self {
            KeyAlgorithm::EdDSA => "EdDSA",
            KeyAlgorithm::HS256 => "HS256",
            KeyAlgorithm::HS384 => "HS384",
            KeyAlgorithm::HS512 => "HS512",
            KeyAlgorithm::RS256 => "RS256",
            KeyAlgorithm::RS384 => "RS384",
            KeyAlgorithm::RS512 => "RS512",
        }
    }

    /// The algorithm that [`KeyAlgorithm::word`] names.
    pub fn parse(word: &str) -> Option<KeyAlgorithm> {
        KeyAlgorithm::ALL.into_iter().find(|algorithm| algorithm.word() == word)
    }

    /// What a key of this kind is for: what others shall verify is signed with Ed25519, and peers' tokens as their clients know it.
    pub const fn purpose(self) -> Purpose {
        match self {
            KeyAlgorithm::EdDSA => Purpose::Own,
            _ => Purpose::Tokens,
        }
    }
}

/// A key of ours, as it is kept.
#[derive(Clone, Debug)]
pub struct SigningKey {
    /// Its number, in the order of making; 0 before it is kept.
    pub number: u64,
    /// What it is for.
    pub purpose: Purpose,
    /// How it signs.
    pub algorithm: KeyAlgorithm,
    /// The seed of an Ed25519 key (RFC 8032 section 5.1.5), a shared secret, or an RSA key in PKCS#8 or PKCS#1. Whoever knows it
    /// can sign in our name.
    pub secret: Secret,
    /// When it was made.
    pub created_at: Timestamp,
    /// Since when it does not sign, if it was retired.
    pub retired: Option<Retired>,
}

/// The end of a key, in two steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retired {
    /// Since when it does not sign.
    pub at: Timestamp,
    /// Until when what it has signed is verified.
    pub until: Timestamp,
}

/// A key that nobody has yet.
///
/// # Errors
/// One sentence for people, where the system cannot make one.
pub(crate) fn draw_key(algorithm: KeyAlgorithm, now: Timestamp, entropy: &dyn Entropy) -> Result<SigningKey, String> {
    let secret = match algorithm {
        KeyAlgorithm::EdDSA | KeyAlgorithm::HS256 => Secret::new(zeroize::Zeroizing::new(draw::<32>(entropy)).as_slice()),
        KeyAlgorithm::HS384 => Secret::new(zeroize::Zeroizing::new(draw::<48>(entropy)).as_slice()),
        KeyAlgorithm::HS512 => Secret::new(zeroize::Zeroizing::new(draw::<64>(entropy)).as_slice()),
        KeyAlgorithm::RS256 | KeyAlgorithm::RS384 | KeyAlgorithm::RS512 => {
            let pair = RsaKeyPair::generate(KeySize::Rsa2048).map_err(|_| "no RSA key could be made")?;
            let der: Pkcs8V1Der<'_> = pair.as_der().map_err(|_| "the RSA key that was made cannot be written down")?;
            Secret::new(der.as_ref())
        }
    };
    Ok(SigningKey { number: 0, purpose: algorithm.purpose(), algorithm, secret, created_at: now, retired: None })
}

/// A key that an application has signed with before us: a shared secret in base64, or an RSA key in PEM.
///
/// # Errors
/// One sentence for people.
pub(crate) fn import_key(algorithm: KeyAlgorithm, text: &Secret, now: Timestamp) -> Result<SigningKey, String> {
    let text = text.expose_text().ok_or("a key is text: base64, or PEM")?.trim();
    let secret = match algorithm {
        KeyAlgorithm::EdDSA => return Err("our own keys are made here and never imported".to_owned()),
        KeyAlgorithm::HS256 | KeyAlgorithm::HS384 | KeyAlgorithm::HS512 => {
            Secret::new(STANDARD.decode(text).map_err(|_| "that is no base64")?)
        }
        KeyAlgorithm::RS256 | KeyAlgorithm::RS384 | KeyAlgorithm::RS512 => Secret::new(pem(text)?),
    };
    let key = SigningKey { number: 0, purpose: algorithm.purpose(), algorithm, secret, created_at: now, retired: None };
    Key::of(&key)?;
    Ok(key)
}

/// The bytes between the lines of a private key in PEM (RFC 7468 section 2).
fn pem(text: &str) -> Result<Vec<u8>, String> {
    let complaint = || "that is no RSA key in PEM (BEGIN PRIVATE KEY, or BEGIN RSA PRIVATE KEY)".to_owned();
    for label in ["PRIVATE KEY", "RSA PRIVATE KEY"] {
        let inner = text.strip_prefix(&format!("-----BEGIN {label}-----"));
        if let Some(inner) = inner.and_then(|inner| inner.strip_suffix(&format!("-----END {label}-----"))) {
            let letters: zeroize::Zeroizing<String> = inner.split_whitespace().collect::<String>().into();
            return STANDARD.decode(letters.as_bytes()).map_err(|_| complaint());
        }
    }
    Err(complaint())
}

/// The keys.
pub(crate) struct Keyring {
    /// Oldest first.
    keys: Vec<Key>,
}

/// What stands before the claims, in the order that readers of the framework's tokens know.
#[derive(Serialize)]
struct Header<'a> {
    typ: &'a str,
    alg: &'a str,
    kid: &'a str,
}

struct Key {
    purpose: Purpose,
    algorithm: KeyAlgorithm,
    /// Its name in what it signs.
    id: String,
    material: Material,
    retired: Option<Retired>,
}

/// The library wipes its pairs when they are dropped.
enum Material {
    /// With the public half, in base64url.
    Ed25519(Box<Ed25519KeyPair>, String),
    Shared(Box<hmac::Key>),
    Rsa(Box<RsaKeyPair>),
}

impl Keyring {
    /// The keys that are kept, oldest first.
    ///
    /// # Errors
    /// One sentence for operators: a key is none, or there is none of our own that signs.
    pub(crate) fn of(kept: &[SigningKey]) -> Result<Keyring, String> {
        let keys = kept.iter().map(Key::of).collect::<Result<Vec<_>, _>>()?;
        let keyring = Keyring { keys };
        keyring.signing(Purpose::Own).ok_or("the store has no key to sign with")?;
        Ok(keyring)
    }

    /// Whether there is a key that signs for this.
    pub(crate) fn signs(&self, purpose: Purpose) -> bool {
        self.signing(purpose).is_some()
    }

    fn signing(&self, purpose: Purpose) -> Option<&Key> {
        self.keys.iter().rev().find(|key| key.purpose == purpose && key.retired.is_none())
    }

    /// Signs claims: a JWS in its compact form (RFC 7515 section 3.1), whose header names its `typ` and the key.
    pub(crate) fn sign(&self, purpose: Purpose, typ: &str, claims: &[u8]) -> Option<Secret> {
        let key = self.signing(purpose)?;
        let header = Header { typ, alg: key.algorithm.word(), kid: &key.id };
        let header = serde_json::to_string(&header).ok()?;
        key.compact(&header, claims).map(Secret::new)
    }

    /// Until when the key verifies that has signed `message` by the algorithm that is named, if one of those for this has, and
    /// still verifies at `now`. One that was not retired verifies without end.
    pub(crate) fn verifies(
        &self,
        purpose: Purpose,
        algorithm: &str,
        message: &[u8],
        signature: &[u8],
        now: Timestamp,
    ) -> Option<Timestamp> {
        let fits = |key: &&Key| key.purpose == purpose && key.algorithm.word() == algorithm && key.verifies_at(now);
        // A name of three letters chooses nothing, so each key is tried.
        let signed = self.keys.iter().rev().filter(fits).find(|key| key.has_signed(message, signature))?;
        Some(signed.retired.map_or(Timestamp::from_millis(i64::MAX), |retired| retired.until))
    }

    /// An algorithm that keys for this have at `now`, the signing one's first; unless one of them has the one that is named.
    pub(crate) fn expects_another(&self, purpose: Purpose, algorithm: &str, now: Timestamp) -> Option<&'static str> {
        let fits = |key: &&Key| key.purpose == purpose && key.verifies_at(now);
        if self.keys.iter().filter(fits).any(|key| key.algorithm.word() == algorithm) {
            return None;
        }
        self.signing(purpose).or_else(|| self.keys.iter().rev().find(fits)).map(|key| key.algorithm.word())
    }

    /// The keys with which others verify: a JWK set (RFC 7517 section 5), as JSON.
    pub(crate) fn public_keys(&self, now: Timestamp) -> String {
        let keys: Vec<_> =
            self.keys.iter().filter(|key| key.purpose == Purpose::Own && key.verifies_at(now)).filter_map(Key::public).collect();
        json!({ "keys": keys }).to_string()
    }
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.keys.iter().map(|key| &key.id)).finish()
    }
}

impl Key {
    fn of(kept: &SigningKey) -> Result<Key, String> {
        let secret = kept.secret.expose();
        let (id, material) = match kept.algorithm {
            KeyAlgorithm::EdDSA => {
                // The library would take a longer text for its first 32 bytes.
                let whole = Some(secret).filter(|seed| seed.len() == 32);
                let pair = whole.and_then(|seed| Ed25519KeyPair::from_seed_unchecked(seed).ok());
                let pair = pair.ok_or("a key in the store cannot be used to sign with: its seed is damaged")?;
                let x = URL_SAFE_NO_PAD.encode(pair.public_key());
                // The required members of this kind of key in the order of their names, without blanks: RFC 8037 section 2. So
                // a key has the same name wherever it is looked at (RFC 7638 section 3).
                let members = format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{x}"}}"#);
                (URL_SAFE_NO_PAD.encode(digest(&SHA256, members.as_bytes())), Material::Ed25519(Box::new(pair), x))
            }
            KeyAlgorithm::HS256 | KeyAlgorithm::HS384 | KeyAlgorithm::HS512 => {
                if secret.len() < SHORTEST {
                    return Err(format!("a shared secret must have {SHORTEST} bytes (RFC 7518 section 3.2)"));
                }
                (first_letters(secret), Material::Shared(Box::new(hmac::Key::new(kept.algorithm.hmac(), secret))))
            }
            KeyAlgorithm::RS256 | KeyAlgorithm::RS384 | KeyAlgorithm::RS512 => {
                let pair = RsaKeyPair::from_pkcs8(secret).or_else(|_| RsaKeyPair::from_der(secret));
                let pair = pair.map_err(|_| "that is no RSA key of 2048 to 8192 bits that can sign")?;
                let modulus = modulus(pair.public_key().as_ref()).ok_or("the RSA key's public half cannot be read")?;
                if modulus.len() < SHORTEST_MODULUS {
                    return Err("an RSA key must have 2048 bits (RFC 7518 section 3.3)".to_owned());
                }
                (first_letters(&modulus), Material::Rsa(Box::new(pair)))
            }
        };
        Ok(Key { purpose: kept.purpose, algorithm: kept.algorithm, id, material, retired: kept.retired })
    }

    fn verifies_at(&self, now: Timestamp) -> bool {
        self.retired.is_none_or(|retired| now < retired.until)
    }

    fn compact(&self, header: &str, payload: &[u8]) -> Option<String> {
        let mut text = URL_SAFE_NO_PAD.encode(header);
        text.push('.');
        URL_SAFE_NO_PAD.encode_string(payload, &mut text);
        let signature = match &self.material {
            Material::Ed25519(pair, _) => pair.sign(text.as_bytes()).as_ref().to_vec(),
            Material::Shared(key) => hmac::sign(key, text.as_bytes()).as_ref().to_vec(),
            Material::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                // This padding needs no chance; the library asks for some all the same.
                pair.sign(self.algorithm.rsa(), &SystemRandom::new(), text.as_bytes(), &mut signature).ok()?;
                signature
            }
        };
        text.push('.');
        URL_SAFE_NO_PAD.encode_string(signature, &mut text);
        Some(text)
    }

    fn has_signed(&self, message: &[u8], signature: &[u8]) -> bool {
        match &self.material {
            Material::Ed25519(pair, _) => {
                UnparsedPublicKey::new(&signature::ED25519, pair.public_key()).verify(message, signature).is_ok()
            }
            Material::Shared(key) => hmac::verify(key, message, signature).is_ok(),
            Material::Rsa(pair) => {
                UnparsedPublicKey::new(self.algorithm.rsa_verification(), pair.public_key()).verify(message, signature).is_ok()
            }
        }
    }

    /// As others may know it. What signs tokens that come back to us is nobody else's to verify, whether it is a shared secret
    /// or not: a service that took such a token for a word of ours would not hear that it was revoked.
    fn public(&self) -> Option<serde_json::Value> {
        let (id, algorithm) = (&self.id, self.algorithm.word());
        match &self.material {
            Material::Ed25519(_, x) => {
                Some(json!({ "kty": "OKP", "crv": "Ed25519", "x": x, "kid": id, "use": "sig", "alg": algorithm }))
            }
            Material::Rsa(_) | Material::Shared(_) => None,
        }
    }
}

/// The name that clients of the framework expect of a key: the first three letters of it in base64. Of a shared secret that tells
/// 18 bits, and leaves 238 that nobody knows.
fn first_letters(bytes: &[u8]) -> String {
    STANDARD.encode(bytes.get(..3).unwrap_or_default()).chars().take(3).collect()
}

impl KeyAlgorithm {
    fn hmac(self) -> hmac::Algorithm {
        match self {
            KeyAlgorithm::HS512 => hmac::HMAC_SHA512,
            KeyAlgorithm::HS384 => hmac::HMAC_SHA384,
            _ => hmac::HMAC_SHA256,
        }
    }

    fn rsa(self) -> &'static dyn RsaEncoding {
        match self {
            KeyAlgorithm::RS512 => &RSA_PKCS1_SHA512,
            KeyAlgorithm::RS384 => &RSA_PKCS1_SHA384,
            _ => &RSA_PKCS1_SHA256,
        }
    }

    fn rsa_verification(self) -> &'static RsaParameters {
        match self {
            KeyAlgorithm::RS512 => &RSA_PKCS1_2048_8192_SHA512,
            KeyAlgorithm::RS384 => &RSA_PKCS1_2048_8192_SHA384,
            _ => &RSA_PKCS1_2048_8192_SHA256,
        }
    }
}

/// The first number of `RSAPublicKey` (RFC 8017 appendix A.1.1): a sequence of two, in DER, as the library has just written it.
fn modulus(der: &[u8]) -> Option<Vec<u8>> {
    let (sequence, _) = element(der, 0x30)?;
    let (n, _) = element(sequence, 0x02)?;
    // A number whose first bit is set has a zero before it, so that it is not read as a negative one.
    Some(n.iter().skip_while(|byte| **byte == 0).copied().collect())
}

/// One element of DER with this tag: its content, and what follows it (X.690 sections 8.1.2 and 8.1.3).
fn element(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (&[found, first], rest) = der.split_first_chunk()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81..=0x84 => {
            let (bytes, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            (bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), rest)
        }
        _ => return None,
    };
    if found == tag { rest.split_at_checked(length) } else { None }
}

#[cfg(test)]
mod tests;
