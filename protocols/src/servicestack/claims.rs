//! What our signed tokens say: who somebody is, in the framework's names and its order.
//!
//! Numbers are written where the framework's readers look for numbers and nowhere else, so that no name that looks like one, or like
//! JSON, becomes anything but a name.

use gatepost_identity::clock::Timestamp;
use gatepost_identity::reply::Principal;
use serde::Serialize;

use crate::servicestack::answers::known_name;

/// Who has issued it, in the word that the framework's own tokens have.
const ISSUER: &str = "ssjwt";
/// The longest address of a picture that goes along, in bytes.
const LONGEST_PICTURE: usize = 2800;

#[derive(Serialize)]
#[serde(untagged)]
enum Subject<'a> {
    Number(u64),
    Text(&'a str),
}

#[derive(Serialize)]
#[serde(untagged)]
enum Audience<'a> {
    One(&'a str),
    Several(&'a [String]),
}

#[derive(Serialize)]
struct Claims<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    iss: Option<&'static str>,
    sub: Subject<'a>,
    iat: i64,
    exp: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    aud: Option<Audience<'a>>,
    #[serde(flatten)]
    person: Option<Person<'a>>,
    jti: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    grant_id: Option<&'a str>,
}

#[derive(Serialize)]
struct Person<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    email: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    given_name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    family_name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    preferred_username: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    picture: Option<&'a str>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    roles: &'a [String],
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    perms: &'a [String],
}

/// What both kinds of tokens say.
pub(super) struct Common<'a> {
    pub(super) principal: &'a Principal,
    pub(super) audience: &'a [String],
    pub(super) number: i64,
    pub(super) issued_at: Timestamp,
    pub(super) expires_at: Timestamp,
    /// What it rests on, in the core's words.
    pub(super) basis: Option<&'a str>,
}

/// The claims of an access token.
pub(super) fn access(common: &Common<'_>) -> Vec<u8> {
    let person = common.principal.account.as_deref().map(|account| Person {
        email: account.email.as_deref(),
        given_name: account.first_name.as_deref(),
        family_name: account.last_name.as_deref(),
        name: account.display_name.as_deref(),
        preferred_username: known_name(account),
        picture: account.profile_url.as_deref().filter(|url| url.len() <= LONGEST_PICTURE),
        roles: &common.principal.rights.roles,
        perms: &common.principal.rights.permissions,
    });
    written(common, Some(ISSUER), person)
}

/// The claims of a refresh token: whose it is, and nothing of them.
pub(super) fn refresh(common: &Common<'_>) -> Vec<u8> {
    written(common, None, None)
}

fn written(common: &Common<'_>, iss: Option<&'static str>, person: Option<Person<'_>>) -> Vec<u8> {
    let subject = common.principal.account.as_deref().map_or("", |account| &account.subject);
    // Only what comes back as the same text: no sign, no zeros in front, and small enough for every reader.
    let number = subject.parse::<u64>().ok().filter(|number| *number < 1 << 53 && number.to_string() == subject);
    let claims = Claims {
        iss,
        sub: number.map_or(Subject::Text(subject), Subject::Number),
        iat: common.issued_at.millis().div_euclid(1000),
        exp: common.expires_at.millis().div_euclid(1000),
        aud: match common.audience {
            [] => None,
            [one] => Some(Audience::One(one)),
            several => Some(Audience::Several(several)),
        },
        person,
        jti: common.number,
        grant_id: common.basis,
    };
    // Texts, numbers and lists of texts are always JSON.
    serde_json::to_vec(&claims).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use gatepost_identity::account::{AccountSummary, Rights};
    use gatepost_identity::reply::Method;
    use gatepost_identity::scope::Scopes;

    use super::*;

    fn principal(subject: &str, name: &str, display_name: Option<&str>) -> Principal {
        let account = AccountSummary {
            id: None,
            issuer: None,
            subject: subject.to_owned(),
            name: name.to_owned(),
            email: Some("ada@example.org".to_owned()),
            display_name: display_name.map(str::to_owned),
            first_name: None,
            last_name: None,
            profile_url: Some(format!("https://example.org/{}", "x".repeat(LONGEST_PICTURE))),
            cut_off: Default::default(),
        };
        Principal {
            session: None,
            account: Some(Arc::new(account)),
            client: None,
            scopes: Scopes::default(),
            rights: Rights { roles: vec!["Admin".to_owned()], permissions: Vec::new() },
            terminal: None,
            provider: None,
            method: Method::Password,
            spelling: 0,
            expires_at: None,
        }
    }

    fn told(kind: fn(&Common<'_>) -> Vec<u8>, principal: &Principal, audience: &[&str], number: i64) -> String {
        let audience: Vec<String> = audience.iter().map(|name| (*name).to_owned()).collect();
        let at = Timestamp::from_millis;
        let common = Common {
            principal,
            audience: &audience,
            number,
            issued_at: at(1_700_000_000_000),
            expires_at: at(1_701_209_600_000),
            basis: None,
        };
        String::from_utf8(kind(&common)).expect("text")
    }

    #[test]
    fn claims_stand_in_the_frameworks_order() {
        assert_eq!(
            told(access, &principal("7", "ada", Some("Ada L")), &[], 1),
            r#"{"iss":"ssjwt","sub":7,"iat":1700000000,"exp":1701209600,"email":"ada@example.org","name":"Ada L","preferred_username":"ada","roles":["Admin"],"jti":1}"#
        );
        assert_eq!(
            told(refresh, &principal("u-7", "ada", None), &["a", "b"], -2),
            r#"{"sub":"u-7","iat":1700000000,"exp":1701209600,"aud":["a","b"],"jti":-2}"#
        );
    }

    #[test]
    fn whoever_has_given_no_name_is_known_by_their_address() {
        let known = |subject: &str, name: &str| {
            let told = told(access, &principal(subject, name, None), &[], 1);
            let read: serde_json::Value = serde_json::from_str(&told).expect("JSON");
            read["preferred_username"].as_str().expect("a text").to_owned()
        };
        const DRAWN: &str = "0193f2a4-7c1b-7d2e-8f00-0123456789ab";
        assert_eq!(known(DRAWN, DRAWN), "ada@example.org");
        assert_eq!(known("ada", "ada"), "ada");
        assert_eq!(known("u-7", DRAWN), DRAWN, "it was chosen");
        assert_eq!(known(DRAWN, "ada"), "ada");
    }

    #[test]
    fn a_name_is_a_name_whatever_it_looks_like() {
        let nasty = r#"","roles":["Admin"],"x":""#;
        for name in [nasty, "42", "true", "[1]", r"EXAMPLE\ada"] {
            let told = told(access, &principal("007", name, Some(name)), &["a"], 1);
            let read: serde_json::Value = serde_json::from_str(&told).expect("JSON");
            assert_eq!((read["name"].as_str(), read["preferred_username"].as_str()), (Some(name), Some(name)), "{told}");
            assert_eq!((read["sub"].as_str(), read["aud"].as_str()), (Some("007"), Some("a")));
            assert_eq!(told.matches("\"roles\":[").count(), 1);
        }
        for subject in ["+7", "9007199254740992", "-7", "7 "] {
            let told = told(refresh, &principal(subject, "ada", None), &[], -1);
            assert!(told.contains(&format!(r#""sub":"{subject}""#)), "{told}");
        }
    }
}
