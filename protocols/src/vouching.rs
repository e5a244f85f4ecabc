//! What a service behind a gate is told of whoever is there: the claims of the token that goes along.
//!
//! The names are those of RFC 7519 section 4.1, RFC 8693 section 4 and OpenID Connect, whichever gate somebody came through; how rights
//! are said differs. It refuses to know how the token is signed.

use gatepost_identity::account::ClientId;
use gatepost_identity::clock::Timestamp;
use gatepost_identity::reply::{Principal, Spelled};
use gatepost_identity::scope::Scope;
use serde::Serialize;

/// How rights are said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rights {
    /// As scopes, by their canonical names.
    Scopes,
    /// As roles and permissions of the account, and its address beside them.
    RolesAndPermissions,
}

/// Whom a token is about, and for whom.
pub(crate) struct Vouched<'a> {
    pub(crate) issuer: &'a str,
    pub(crate) audience: &'a str,
    pub(crate) principal: &'a Principal,
    pub(crate) issued_at: Timestamp,
    pub(crate) expires_at: Timestamp,
}

#[derive(Serialize)]
struct Claims<'a> {
    iss: &'a str,
    aud: &'a str,
    sub: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    scope: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sid: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    preferred_username: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    email: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    roles: Option<&'a [String]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    perms: Option<&'a [String]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    idp: Option<&'a str>,
    iat: i64,
    exp: i64,
}

impl Vouched<'_> {
    /// What is to be signed.
    pub(crate) fn spelled(&self, rights: Rights) -> Spelled {
        let Vouched { issuer, audience, principal, issued_at, expires_at } = self;
        let account = principal.account.as_deref();
        let by_roles = rights == Rights::RolesAndPermissions;
        let claims = Claims {
            iss: issuer,
            aud: audience,
            sub: subject(principal),
            client_id: principal.client.as_ref().map(ClientId::as_str),
            scope: (!by_roles).then(|| principal.scopes.iter().map(Scope::as_str).collect::<Vec<_>>().join(" ")),
            sid: principal.session.map(|session| session.0.to_string()),
            preferred_username: account.map(|account| &*account.name),
            name: account.and_then(|account| account.display_name.as_deref()),
            email: account.filter(|_| by_roles).and_then(|account| account.email.as_deref()),
            roles: by_roles.then_some(&principal.rights.roles),
            perms: by_roles.then_some(&principal.rights.permissions),
            idp: account.and_then(|account| account.issuer.as_deref()),
            iat: whole_seconds(*issued_at),
            exp: whole_seconds(*expires_at),
        };
        Spelled::Signed { typ: "JWT", claims: ascii_json(&claims).into_bytes() }
    }
}

/// The id of whoever shows the operator's secret, as the ServiceStack gate tells it: they are nobody's account.
const OPERATOR: &str = "0";

/// The id that others are told of whoever is there: the account's, else the client's. Where there is neither, it is the operator.
pub(crate) fn subject(principal: &Principal) -> &str {
    let client = || principal.client.as_ref().map(ClientId::as_str);
    principal.account.as_ref().map(|account| &*account.subject).or_else(client).unwrap_or(OPERATOR)
}

/// The second that a moment is in.
fn whole_seconds(moment: Timestamp) -> i64 {
    moment.millis().div_euclid(1000)
}

/// JSON in printable ASCII: the claims travel as the value of a header, too, where a name in any script must not break anything.
fn ascii_json(claims: &Claims<'_>) -> String {
    let json = serde_json::to_string(claims).expect("texts and numbers are JSON");
    let mut ascii = String::with_capacity(json.len());
    for character in json.chars() {
        match character {
            ' '..='~' => ascii.push(character),
            // Only strings hold others, and those that JSON forbids there are escaped already.
            _ => character.encode_utf16(&mut [0; 2]).iter().for_each(|unit| ascii.push_str(&format!("\\u{unit:04x}"))),
        }
    }
    ascii
}
