//! Any bytes as a signed token, before issuers of every family of algorithms, whose keys are drawn as the fuzzer starts.
//!
//! The first byte chooses, its remainder by 8 the algorithm and its quotient what is done with the rest:
//!
//! * the rest is the token. Nobody can have signed it, so it is refused;
//! * the rest is edits of a good token: pairs of a place and a byte to put there. Accepted is only what says what was signed;
//! * the rest is a header and claims, a line each, which the issuer signs as they are. Accepted is only what is good by the
//!   claims as an independent reader has them.

#![no_main]

use std::sync::LazyLock;

use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize};
use aws_lc_rs::signature::{self, EcdsaKeyPair, Ed25519KeyPair, KeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use gatepost_identity::clock::{Entropy as _, SystemEntropy, Timestamp};
use gatepost_identity::jwt::{self, Claims, Issuer};
use gatepost_identity::refusal::Refusal;
use libfuzzer_sys::fuzz_target;
use serde_json::{Value, json};

/// When every token is looked at, in milliseconds.
const NOW: i64 = 1_900_000_000_000;
const ISSUER: &str = "https://auth.example.org";
const AUDIENCE: &str = "Zenith-API";
const ALGORITHMS: [&str; 8] = ["HS256", "HS512", "RS256", "RS384", "PS256", "ES256", "ES384", "EdDSA"];

/// What signs and what verifies.
struct Keys {
    shared: [u8; 64],
    rsa: RsaKeyPair,
    p256: EcdsaKeyPair,
    p384: EcdsaKeyPair,
    ed25519: Ed25519KeyPair,
    issuers: Vec<Issuer>,
    /// A good token of each algorithm.
    good: Vec<String>,
    random: SystemRandom,
}

static KEYS: LazyLock<Keys> = LazyLock::new(Keys::draw);

impl Keys {
    fn draw() -> Keys {
        let random = SystemRandom::new();
        let mut shared = [0; 64];
        SystemEntropy.fill(&mut shared);
        let mut keys = Keys {
            shared,
            rsa: RsaKeyPair::generate(KeySize::Rsa2048).expect("a key"),
            p256: EcdsaKeyPair::generate(&signature::ECDSA_P256_SHA256_FIXED_SIGNING).expect("a key"),
            p384: EcdsaKeyPair::generate(&signature::ECDSA_P384_SHA384_FIXED_SIGNING).expect("a key"),
            ed25519: Ed25519KeyPair::generate().expect("a key"),
            issuers: Vec::new(),
            good: Vec::new(),
            random,
        };
        keys.issuers = ALGORITHMS.iter().map(|name| keys.issuer(name)).collect();
        let claims = json!({
            "iss": ISSUER, "aud": AUDIENCE, "sub": "u-1", "name": "Ann", "client_id": "app", "scope": "Zenith/Market",
            "exp": NOW / 1000 + 60, "nbf": NOW / 1000,
        });
        let header = |name: &str| json!({"typ": "JWT", "alg": name}).to_string();
        keys.good =
            ALGORITHMS.iter().map(|name| keys.token(name, header(name).as_bytes(), claims.to_string().as_bytes())).collect();
        for (issuer, token) in keys.issuers.iter().zip(&keys.good) {
            let accepted = jwt::verify(std::slice::from_ref(issuer), token.as_bytes(), Timestamp::from_millis(NOW));
            assert_eq!(accepted.expect("it is good").subject, "u-1");
        }
        keys
    }

    /// An issuer that has one key, for one algorithm.
    fn issuer(&self, algorithm: &str) -> Issuer {
        let key = match algorithm {
            "HS256" | "HS512" => json!({"kty": "oct", "k": BASE64.encode(self.shared)}),
            "RS256" | "RS384" | "PS256" => {
                // SEQUENCE of INTEGERs of 257 and 3 bytes (RFC 8017 appendix A.1.1), the first with a zero before it.
                let der = self.rsa.public_key().as_ref();
                assert_eq!((der.len(), &der[265..]), (270, &[2, 3, 1, 0, 1][..]), "a key of 2048 bits and 65537");
                json!({"kty": "RSA", "n": BASE64.encode(&der[9..265]), "e": "AQAB"})
            }
            "ES256" => Keys::on_curve("P-256", self.p256.public_key().as_ref()),
            "ES384" => Keys::on_curve("P-384", self.p384.public_key().as_ref()),
            "EdDSA" => json!({"kty": "OKP", "crv": "Ed25519", "x": BASE64.encode(self.ed25519.public_key())}),
            other => unreachable!("{other}"),
        };
        let keys = json!({"keys": [key]}).to_string();
        Issuer::new(ISSUER, vec![AUDIENCE.to_owned()], &keys, &[algorithm.to_owned()]).expect("an issuer")
    }

    fn on_curve(curve: &str, point: &[u8]) -> Value {
        let (x, y) = point[1..].split_at(point.len() / 2);
        json!({"kty": "EC", "crv": curve, "x": BASE64.encode(x), "y": BASE64.encode(y)})
    }

    /// A token signed whatever it says.
    fn token(&self, algorithm: &str, header: &[u8], claims: &[u8]) -> String {
        let message = format!("{}.{}", BASE64.encode(header), BASE64.encode(claims));
        let signature = self.sign(algorithm, message.as_bytes());
        format!("{message}.{}", BASE64.encode(signature))
    }

    fn sign(&self, algorithm: &str, message: &[u8]) -> Vec<u8> {
        let hmac = |with| hmac::sign(&hmac::Key::new(with, &self.shared), message).as_ref().to_vec();
        let rsa = |padding| {
            let mut signature = vec![0; self.rsa.public_modulus_len()];
            self.rsa.sign(padding, &self.random, message, &mut signature).expect("a signature");
            signature
        };
        match algorithm {
            "HS256" => hmac(hmac::HMAC_SHA256),
            "HS512" => hmac(hmac::HMAC_SHA512),
            "RS256" => rsa(&signature::RSA_PKCS1_SHA256),
            "RS384" => rsa(&signature::RSA_PKCS1_SHA384),
            "PS256" => rsa(&signature::RSA_PSS_SHA256),
            "ES256" => self.p256.sign(&self.random, message).expect("a signature").as_ref().to_vec(),
            "ES384" => self.p384.sign(&self.random, message).expect("a signature").as_ref().to_vec(),
            "EdDSA" => self.ed25519.sign(message).as_ref().to_vec(),
            other => unreachable!("{other}"),
        }
    }
}

fuzz_target!(|input: &[u8]| {
    let Some((choice, rest)) = input.split_first() else { return };
    let keys = &*KEYS;
    let (which, what) = (usize::from(choice % 8), choice / 8 % 3);
    let algorithm = ALGORITHMS[which];
    match what {
        0 => assert_eq!(verify(rest), Err(Refusal::InvalidCredentials), "nobody has signed it"),
        1 => {
            let good = keys.good[which].as_bytes();
            let edited = edited(good, rest);
            if let Ok(claims) = verify(&edited) {
                // An elliptic curve has two signatures for everything, so it is the message that counts.
                assert_eq!(message(&edited), message(good), "{algorithm}: what was not signed is accepted");
                assert_eq!(claims.subject, "u-1");
            }
        }
        _ => {
            let (header, claims) = rest.split_at(rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len()));
            let claims = claims.get(1..).unwrap_or_default();
            let token = keys.token(algorithm, header, claims);
            if let Ok(accepted) = verify(token.as_bytes()) {
                is_good(algorithm, header, claims, &accepted);
            }
        }
    }
});

/// Before all issuers at once, as a provider has them.
fn verify(token: &[u8]) -> Result<Claims, Refusal> {
    jwt::verify(&KEYS.issuers, token, Timestamp::from_millis(NOW))
}

/// Everything before the last dot.
fn message(token: &[u8]) -> &[u8] {
    &token[..token.iter().rposition(|byte| *byte == b'.').unwrap_or(0)]
}

/// Pairs of a place and a byte for it; a place beyond the end is one to cut at.
fn edited(token: &[u8], edits: &[u8]) -> Vec<u8> {
    let mut edited = token.to_vec();
    for edit in edits.chunks_exact(3) {
        let place = usize::from(u16::from_be_bytes([edit[0], edit[1]]));
        match edited.get_mut(place) {
            Some(byte) => *byte = edit[2],
            None => edited.truncate(place % (token.len() + 1)),
        }
    }
    edited
}

/// What an independent reader holds against a token that was accepted.
fn is_good(algorithm: &str, header: &[u8], claims: &[u8], accepted: &Claims) {
    let said = String::from_utf8_lossy(claims);
    let header: Value = serde_json::from_slice(header).expect("a header that was accepted is JSON");
    assert_eq!(header["alg"], algorithm, "{said}");
    let claims: Value = serde_json::from_slice(claims).expect("claims that were accepted are JSON");
    assert_eq!(claims["iss"].as_str().map(|name| name.strip_suffix('/').unwrap_or(name)), Some(ISSUER), "{said}");
    let audiences: Vec<&Value> = claims["aud"].as_array().map_or_else(|| vec![&claims["aud"]], |list| list.iter().collect());
    assert!(audiences.iter().any(|audience| **audience == AUDIENCE), "{said}");
    assert!(accepted.expires_at.millis() > NOW && claims["exp"].as_f64().is_some_and(|exp| exp * 1000.0 >= NOW as f64), "{said}");
    assert!(claims["nbf"].as_f64().is_none_or(|nbf| nbf * 1000.0 <= (NOW + 60_001) as f64), "{said}");
    assert!(!accepted.subject.is_empty(), "{said}");
    let subject = [&claims["sub"], &claims["client_id"], &claims["azp"]].into_iter().find(|name| name.is_string());
    assert_eq!(subject.and_then(Value::as_str), Some(accepted.subject.as_str()), "{said}");
}
