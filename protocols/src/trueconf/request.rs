//! What the methods ask, parsed at the edge: `auth` in its three forms, and the parameters of its neighbours.
//!
//! The order of checks in `auth` is fixed: `role` (9), then a missing `type` (11), `type` (10), `credentials` (12, 7, 8). All of it
//! says something about the request alone, so it comes before anything that could say something about a secret, and stays the same
//! whatever the terminal is.

use gatepost_identity::command::{Binding, Command, GrantRequest, Verb};
use gatepost_identity::credential::Credential;
use gatepost_identity::reply::TokenKind;
use gatepost_identity::scope::ScopeRequest;
use gatepost_identity::secret::Secret;
use gatepost_identity::terminal::{NewPassword, NewProtection, TerminalRole, TerminalToken};

use crate::trueconf::message::{Member, Members, text_of};
use crate::trueconf::refusal::Code;
use crate::trueconf::spelling::{is_token, role_named};

/// The longest `credentials`, in bytes. Nothing longer can be right, so nothing longer is an attempt.
const LONGEST_CREDENTIALS: usize = 1024;

/// What an `auth` asks. `lenient` takes an empty `role` or `type` for one that was left out.
///
/// # Errors
/// A code, where the request is wrong by itself.
pub(super) fn auth(members: &Members<'_>, lenient: bool) -> Result<Verb, Code> {
    let text = |name| match text_of(members, name) {
        Member::Is(text) if text.is_empty() && lenient => Member::Absent,
        other => other,
    };
    let role = match text("role") {
        Member::Absent => None,
        Member::Is(name) => Some(role_named(&name).ok_or(Code::BadRole)?),
        Member::Other => return Err(Code::BadRole),
    };
    let secured = match text("type") {
        Member::Is(kind) if kind == "secured" => true,
        Member::Is(kind) if kind == "unsecured" => false,
        Member::Is(_) | Member::Other => return Err(Code::BadType),
        Member::Absent => {
            return match role {
                None => Err(Code::NoType),
                // Never a wish to become one: that takes a secret.
                Some(TerminalRole::Administrator) => Err(Code::BadRole),
                Some(TerminalRole::User) => Ok(Verb::Narrow(TerminalRole::User)),
            };
        }
    };
    if !secured {
        return Ok(authenticate(Credential::Unsecured, role));
    }
    match text_of(members, "credentials") {
        Member::Absent => Err(Code::NoCredentials),
        Member::Is(text) if text.is_empty() => Err(Code::EmptyCredentials),
        Member::Is(text) if text.len() <= LONGEST_CREDENTIALS => {
            let token_shaped = is_token(&text);
            Ok(authenticate(Credential::Terminal { text: Secret::new(text), token_shaped }, role))
        }
        Member::Is(_) | Member::Other => Err(Code::BadCredentials),
    }
}

fn authenticate(credential: Credential, role: Option<TerminalRole>) -> Verb {
    Verb::Authenticate { provider: None, credential, request: request(role) }
}

/// What the connection is to hold. A terminal knows no scopes.
fn request(role: Option<TerminalRole>) -> GrantRequest {
    GrantRequest { scope: ScopeRequest::Nothing, role, binding: Binding::Connection, spelling: None }
}

/// One token more for whoever the connection holds.
pub(super) fn one_more(kind: TerminalToken) -> Verb {
    Verb::Issue { kinds: vec![TokenKind::Terminal(kind)], request: request(None) }
}

/// A question by whoever the connection holds.
pub(super) fn asking(verb: Verb) -> Command {
    Command { presented: Vec::new(), verb }
}

/// What a `setAuthParams` asks.
///
/// # Errors
/// The name of the parameter that is missing or cannot be used.
pub(super) fn set_auth_params(members: &Members<'_>) -> Result<(TerminalRole, NewProtection), &'static str> {
    let required = |name: &'static str| match text_of(members, name) {
        Member::Is(text) => Ok(text),
        Member::Absent | Member::Other => Err(name),
    };
    let of = role_named(&required("userType")?).ok_or("userType")?;
    let to = match &*required("authType")? {
        "unsecured" => NewProtection::Unsecured,
        // The PIN is drawn by the terminal, whatever a client proposes.
        "pin" => NewProtection::Pin,
        "password" => {
            let password = Some(required("password")?);
            // What looks like a token is never compared with a password, so nobody would come in by it again.
            let password = password.filter(|text| !is_token(text)).map(Secret::new).ok_or("password")?;
            NewProtection::Password(NewPassword::parse(password).map_err(|_| "password")?)
        }
        _ => return Err("authType"),
    };
    Ok((of, to))
}

/// What a `setUsedApiVersion` says: one of the two versions there are, which are served alike.
///
/// # Errors
/// The name of the parameter that is missing or cannot be used.
pub(super) fn used_api_version(members: &Members<'_>) -> Result<(), &'static str> {
    let number = members.get("version").map(|raw| raw.get());
    match (text_of(members, "version"), number) {
        (Member::Is(text), _) if matches!(&*text, "1" | "2") => Ok(()),
        (Member::Other, Some("1" | "2")) => Ok(()),
        (Member::Is(_) | Member::Other | Member::Absent, _) => Err("version"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trueconf::message::members;

    fn read(text: &str, lenient: bool) -> String {
        let members = members(text).expect("an object");
        match auth(&members, lenient) {
            Err(code) => (code as u8).to_string(),
            Ok(Verb::Narrow(role)) => format!("narrow {}", role.word()),
            Ok(Verb::Authenticate { credential, request: GrantRequest { role, .. }, .. }) => {
                let proof = match credential {
                    Credential::Unsecured => "nothing".to_owned(),
                    Credential::Terminal { text, token_shaped } => {
                        format!("{}{}", text.expose_text().expect("text"), if token_shaped { " as token" } else { "" })
                    }
                    other => panic!("{other:?}"),
                };
                role.map_or(proof.clone(), |role| format!("{proof} for {}", role.word()))
            }
            Ok(other) => panic!("{other:?}"),
        }
    }

    /// Every way to write a member, and what it is: left out, of the wrong type, wrong, empty, or good.
    const ROLES: [(&str, &str); 8] = [
        ("", "absent"),
        (r#""role":null,"#, "absent"),
        (r#""role":1,"#, "bad"),
        (r#""role":"guest","#, "bad"),
        (r#""role":"Admin","#, "bad"),
        (r#""role":"","#, "empty"),
        (r#""role":"user","#, "user"),
        (r#""role":"admin","#, "administrator"),
    ];
    const TYPES: [(&str, &str); 8] = [
        ("", "absent"),
        (r#""type":null,"#, "absent"),
        (r#""type":1,"#, "bad"),
        (r#""type":"password","#, "bad"),
        (r#""type":"Unsecured","#, "bad"),
        (r#""type":"","#, "empty"),
        (r#""type":"unsecured","#, "unsecured"),
        (r#""type":"secured","#, "secured"),
    ];
    const CREDENTIALS: [(&str, &str); 6] = [
        ("", "absent"),
        (r#""credentials":null,"#, "absent"),
        (r#""credentials":"","#, "empty"),
        (r#""credentials":7,"#, "bad"),
        (r#""credentials":"\ud800","#, "bad"),
        (r#""credentials":"x","#, "x"),
    ];

    #[test]
    fn the_order_of_checks_is_the_same_in_every_combination() {
        for lenient in [false, true] {
            for (role, is_role) in ROLES {
                for (kind, is_kind) in TYPES {
                    for (credentials, are) in CREDENTIALS {
                        let blank =
                            |what: &'static str| if what == "empty" { if lenient { "absent" } else { "bad" } } else { what };
                        let role_suffix = |proof: &str| match blank(is_role) {
                            "absent" => proof.to_owned(),
                            role => format!("{proof} for {role}"),
                        };
                        let expected = match (blank(is_role), blank(is_kind), are) {
                            ("bad", ..) => "9".to_owned(),
                            ("absent", "absent", _) => "11".to_owned(),
                            ("administrator", "absent", _) => "9".to_owned(),
                            (_, "absent", _) => "narrow user".to_owned(),
                            (_, "bad", _) => "10".to_owned(),
                            (_, "unsecured", _) => role_suffix("nothing"),
                            (_, _, "absent") => "12".to_owned(),
                            (_, _, "empty") => "7".to_owned(),
                            (_, _, "bad") => "8".to_owned(),
                            (_, _, text) => role_suffix(text),
                        };
                        let text = format!("{{{role}{kind}{credentials}\"method\":\"auth\"}}");
                        assert_eq!(read(&text, lenient), expected, "{text} lenient {lenient}");
                    }
                }
            }
        }
    }

    #[test]
    fn credentials_are_taken_as_they_are_up_to_their_length() {
        let secured = |credentials: &str| read(&format!(r#"{{"type":"secured","credentials":"{credentials}"}}"#), false);
        assert_eq!(secured(" k7m2qx "), " k7m2qx ");
        assert_eq!(secured(&"x".repeat(1024)), "x".repeat(1024));
        assert_eq!(secured(&"x".repeat(1025)), "8");
        let token = format!("1*{}*1999999999*{}", "a".repeat(16), "30".repeat(32));
        assert_eq!(secured(&token), format!("{token} as token"));
    }

    fn params(text: &str) -> String {
        match set_auth_params(&members(text).expect("an object")) {
            Err(parameter) => format!("{parameter}!"),
            Ok((of, NewProtection::Password(password))) => {
                format!("{} {}", of.word(), password.secret().expose_text().expect("text"))
            }
            Ok((of, to)) => format!("{} {:?}", of.word(), to.protection()),
        }
    }

    #[test]
    fn the_parameters_of_a_protection() {
        let rows = [
            (r#"{"userType":"user","authType":"pin"}"#, "user Pin"),
            (r#"{"userType":"user","authType":"pin","newPin":"1","password":7}"#, "user Pin"),
            (r#"{"userType":"admin","authType":"unsecured"}"#, "administrator Unsecured"),
            (r#"{"userType":"admin","authType":"password","password":"123456"}"#, "administrator 123456"),
            (r#"{"authType":"pin"}"#, "userType!"),
            (r#"{"userType":"guest","authType":"pin"}"#, "userType!"),
            (r#"{"userType":"","authType":"pin"}"#, "userType!"),
            (r#"{"userType":1,"authType":"pin"}"#, "userType!"),
            (r#"{"userType":"user"}"#, "authType!"),
            (r#"{"userType":"user","authType":"PIN"}"#, "authType!"),
            (r#"{"userType":"user","authType":null}"#, "authType!"),
            (r#"{"userType":"user","authType":"password"}"#, "password!"),
            (r#"{"userType":"user","authType":"password","password":null}"#, "password!"),
            (r#"{"userType":"user","authType":"password","password":""}"#, "password!"),
            (r#"{"userType":"user","authType":"password","password":7}"#, "password!"),
        ];
        for (text, expected) in rows {
            assert_eq!(params(text), expected, "{text}");
        }
        let password = |text: String| params(&format!(r#"{{"userType":"user","authType":"password","password":"{text}"}}"#));
        assert_eq!(password("x".repeat(256)), format!("user {}", "x".repeat(256)));
        assert_eq!(password("x".repeat(257)), "password!");
        assert_eq!(
            password(format!("6*{}*1999999999*{}", "a".repeat(16), "30".repeat(32))),
            "password!",
            "it would never be compared"
        );
    }

    #[test]
    fn versions_are_one_and_two_as_text_or_number() {
        let check = |written: &str, expected| {
            let text = format!(r#"{{"version":{written}}}"#);
            assert_eq!(used_api_version(&members(&text).expect("an object")), expected, "{text}");
        };
        for good in ["\"1\"", "1", "\"2\"", "2", r#""\u0031""#, r#""\u0032""#] {
            check(good, Ok(()));
        }
        for bad in ["\"9\"", "3", "1.0", "null", "true", "[1]", "\"\"", r#""\u0033""#, r#""\ud800""#, "\" 1\""] {
            check(bad, Err("version"));
        }
        assert_eq!(used_api_version(&members("{}").expect("an object")), Err("version"));
    }
}
