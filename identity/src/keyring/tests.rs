//! Keys against the standards' own examples, and against another implementation's verification.

use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use serde_json::Value;

use super::*;
use crate::clock::SystemEntropy;

const NOW: Timestamp = Timestamp::from_millis(1_900_000_000_000);

/// The key of RFC 8037 appendix A.1.
fn sample() -> SigningKey {
    key(&URL_SAFE_NO_PAD.decode("nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A").expect("base64url"))
}

fn key(seed: &[u8]) -> SigningKey {
    let algorithm = KeyAlgorithm::EdDSA;
    let secret = Secret::new(seed);
    SigningKey { number: 1, purpose: Purpose::Own, algorithm, secret, created_at: Timestamp::default(), retired: None }
}

fn published(keyring: &Keyring) -> Vec<Value> {
    let set: Value = serde_json::from_str(&keyring.public_keys(NOW)).expect("JSON");
    set["keys"].as_array().expect("a list").clone()
}

fn parts(token: &str) -> (&str, Vec<u8>) {
    let (message, signature) = token.rsplit_once('.').expect("three parts");
    (message, URL_SAFE_NO_PAD.decode(signature).expect("base64url"))
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
    let key = Key::of(&sample()).expect("a key");
    let expected = concat!(
        "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc.",
        "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg"
    );
    assert_eq!(key.compact(r#"{"alg":"EdDSA"}"#, b"Example of Ed25519 signing").as_deref(), Some(expected));
}

#[test]
fn what_is_signed_verifies_with_the_published_key_that_it_names_and_with_no_other() {
    let keyring = Keyring::of(&[key(&[1; 32]), key(&[2; 32])]).expect("two keys");
    let token = keyring.sign(Purpose::Own, "JWT", br#"{"sub":"u-1","exp":1}"#).expect("signed");
    let token = token.expose_text().expect("text");
    let header = decode_header(token).expect("a header");
    assert_eq!((header.alg, header.typ.as_deref()), (Algorithm::EdDSA, Some("JWT")));
    let set: JwkSet = serde_json::from_str(&keyring.public_keys(NOW)).expect("a JWK set");
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
fn a_header_has_its_members_in_the_frameworks_order() {
    let token = Keyring::of(&[sample()]).expect("a key").sign(Purpose::Own, "JWT", b"{}").expect("signed");
    let header = token.expose_text().and_then(|token| token.split('.').next()).expect("a header");
    let header = String::from_utf8(URL_SAFE_NO_PAD.decode(header).expect("base64url")).expect("text");
    assert!(header.starts_with(r#"{"typ":"JWT","alg":"EdDSA","kid":""#), "{header}");
}

#[test]
fn every_algorithm_signs_what_another_implementation_verifies_and_is_not_published() {
    for algorithm in KeyAlgorithm::ALL.into_iter().filter(|algorithm| algorithm.purpose() == Purpose::Tokens) {
        let kept = draw_key(algorithm, NOW, &SystemEntropy).expect("a key");
        let keyring = Keyring::of(&[sample(), kept.clone()]).expect("two keys");
        let token = keyring.sign(Purpose::Tokens, "JWT", br#"{"sub":"u-1"}"#).expect("signed");
        let token = token.expose_text().expect("text");
        let header = decode_header(token).expect("a header");
        assert_eq!(format!("{:?}", header.alg), algorithm.word());
        assert_eq!(published(&keyring).len(), 1, "what signs tokens is not published: {algorithm:?}");
        let verifying = match Key::of(&kept).expect("a key").material {
            Material::Rsa(pair) => {
                let public = pair.public_key();
                let n = STANDARD.encode(modulus(public.as_ref()).expect("a modulus"));
                assert_eq!(header.kid.as_deref(), Some(&n[..3]));
                DecodingKey::from_rsa_der(public.as_ref())
            }
            Material::Shared(_) | Material::Ed25519(..) => {
                assert_eq!(header.kid.as_deref(), Some(&STANDARD.encode(kept.secret.expose())[..3]));
                DecodingKey::from_secret(kept.secret.expose())
            }
        };
        let mut rules = Validation::new(header.alg);
        rules.required_spec_claims.clear();
        (rules.validate_exp, rules.validate_aud) = (false, false);
        assert!(decode::<Value>(token, &verifying, &rules).is_ok(), "{algorithm:?}");

        let (message, signature) = parts(token);
        let verifies =
            |word: &str, signature: &[u8]| keyring.verifies(Purpose::Tokens, word, message.as_bytes(), signature, NOW).is_some();
        assert!(verifies(algorithm.word(), &signature));
        for cut in [0, 1, signature.len() / 2, signature.len() - 1] {
            assert!(!verifies(algorithm.word(), &signature[..cut]), "{algorithm:?} cut at {cut}");
        }
        for other in KeyAlgorithm::ALL.into_iter().filter(|other| *other != algorithm) {
            assert!(!verifies(other.word(), &signature), "{other:?} is not {algorithm:?}");
        }
        assert!(!verifies("none", &[]));
        assert_eq!(keyring.verifies(Purpose::Own, algorithm.word(), message.as_bytes(), &signature, NOW), None);
    }
}

#[test]
fn a_retired_key_verifies_until_its_end_and_signs_no_more() {
    let until = Timestamp::from_millis(NOW.millis() + 1);
    let old = draw_key(KeyAlgorithm::HS256, NOW, &SystemEntropy).expect("a key");
    let before = Keyring::of(&[sample(), old.clone()]).expect("keys");
    let token = before.sign(Purpose::Tokens, "JWT", b"{}").expect("signed");
    let (message, signature) = parts(token.expose_text().expect("text"));
    let retired = SigningKey { retired: Some(Retired { at: NOW, until }), ..old };
    let after = Keyring::of(&[sample(), retired.clone()]).expect("keys");
    assert!(after.sign(Purpose::Tokens, "JWT", b"{}").is_none() && !after.signs(Purpose::Tokens));
    assert_eq!(after.verifies(Purpose::Tokens, "HS256", message.as_bytes(), &signature, NOW), Some(until));
    assert_eq!(after.verifies(Purpose::Tokens, "HS256", message.as_bytes(), &signature, until), None);
    let newer = draw_key(KeyAlgorithm::HS256, NOW, &SystemEntropy).expect("a key");
    let both = Keyring::of(&[sample(), retired, newer]).expect("keys");
    assert!(both.signs(Purpose::Tokens) && both.verifies(Purpose::Tokens, "HS256", message.as_bytes(), &signature, NOW).is_some());
}

#[test]
fn an_applications_key_is_taken_as_it_is_written_down() {
    let import = |algorithm, text: &str| import_key(algorithm, &Secret::new(text), NOW);
    let shared = STANDARD.encode([7; 32]);
    let key = import(KeyAlgorithm::HS512, &format!("{shared}\n")).expect("a key");
    assert!(key.secret.matches(&[7; 32]) && key.purpose == Purpose::Tokens);
    let made = draw_key(KeyAlgorithm::RS256, NOW, &SystemEntropy).expect("a key");
    let lines =
        STANDARD.encode(made.secret.expose()).as_bytes().chunks(64).map(<[u8]>::to_vec).collect::<Vec<_>>().join(&b"\r\n"[..]);
    let lines = String::from_utf8(lines).expect("letters");
    let written = format!("-----BEGIN PRIVATE KEY-----\r\n{lines}\r\n-----END PRIVATE KEY-----\r\n");
    assert!(import(KeyAlgorithm::RS384, &written).expect("a key").secret.matches(made.secret.expose()));
    for (algorithm, text) in [
        (KeyAlgorithm::HS256, STANDARD.encode([7; 31])),
        (KeyAlgorithm::HS256, "not base64!".to_owned()),
        (KeyAlgorithm::RS256, shared.clone()),
        (KeyAlgorithm::RS256, written.replace("PRIVATE", "PUBLIC")),
        (KeyAlgorithm::RS256, format!("-----BEGIN PRIVATE KEY-----{shared}-----END PRIVATE KEY-----")),
        (KeyAlgorithm::EdDSA, shared.clone()),
    ] {
        assert!(import(algorithm, &text).is_err(), "{algorithm:?} {text}");
    }
}

#[test]
fn without_a_whole_seed_there_is_no_key() {
    for kept in [vec![], vec![key(&[1; 31])], vec![key(&[1; 33])], vec![key(&[1; 32]), key(b"")]] {
        assert!(Keyring::of(&kept).is_err(), "{kept:?}");
    }
}
