//! The answers of the service and its neighbours, as objects with their members in the order of the wire.
//!
//! `StackTrace` is there, because XML names it, and never holds anything.

use std::borrow::Cow;

use gatepost_identity::clock::Timestamp;
use gatepost_identity::secret::Secret;

use crate::servicestack::dto::{Data, Dto};
use crate::servicestack::html;
use crate::servicestack::message::Operation;

/// What a "no" says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ResponseStatus {
    /// The word that clients match on; also the reason phrase of the answer.
    pub(super) code: Cow<'static, str>,
    /// The sentence for people.
    pub(super) message: String,
    /// What is wrong with single members.
    pub(super) errors: Vec<FieldError>,
}

/// What is wrong with one member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FieldError {
    /// The word for it.
    pub(super) code: Cow<'static, str>,
    /// The member.
    pub(super) field: &'static str,
    /// The sentence for people.
    pub(super) message: String,
    /// The member's name for people, where the framework says it apart. What was typed is never said.
    pub(super) property: Option<&'static str>,
}

impl FieldError {
    /// What is wrong.
    pub(super) fn new(code: &'static str, field: &'static str, message: impl Into<String>) -> FieldError {
        FieldError { code: code.into(), field, message: message.into(), property: None }
    }

    /// A member that must not be empty is.
    pub(super) fn empty(field: &'static str, property: &'static str) -> FieldError {
        let message = format!("'{property}' must not be empty.");
        FieldError { code: "NotEmpty".into(), field, message, property: Some(property) }
    }

    fn dto(&self) -> Dto<'_> {
        let meta = self.property.map_or(Data::Null, |property| Data::Map(vec![("PropertyName".into(), property.into())]));
        Dto {
            name: "ResponseError",
            members: vec![
                ("ErrorCode", Data::Text((&*self.code).into())),
                ("FieldName", Data::Text(self.field.into())),
                ("Message", Data::Text(harmless(&self.message))),
                ("Meta", meta),
            ],
        }
    }
}

impl ResponseStatus {
    fn dto(&self) -> Dto<'_> {
        Dto {
            name: "ResponseStatus",
            members: vec![
                ("ErrorCode", Data::Text((&*self.code).into())),
                ("Message", Data::Text(harmless(&self.message))),
                ("StackTrace", Data::Null),
                ("Errors", Data::Dtos("ResponseError", self.errors.iter().map(FieldError::dto).collect())),
                ("Meta", Data::Null),
            ],
        }
    }
}

/// A sentence that holds the beginning of a script is escaped for pages, whatever it goes out in: scripts put it there.
fn harmless(message: &str) -> Cow<'_, str> {
    if !message.to_ascii_lowercase().contains("<script") {
        return message.into();
    }
    let mut out = String::with_capacity(2 * message.len());
    html::push_escaped(&mut out, message);
    out.into()
}

/// The answer to a login, or who one is.
#[derive(Debug, Default)]
pub(super) struct AuthenticateResponse {
    /// The id of the account.
    pub(super) user_id: Option<String>,
    /// The id of the session.
    pub(super) session_id: Option<Secret>,
    /// After a login with a password exactly what was typed, else the session's name.
    pub(super) user_name: Option<String>,
    /// The name to be shown.
    pub(super) display_name: Option<String>,
    /// Where a page would go now.
    pub(super) referrer_url: Option<String>,
    /// An access token, where it does not go into a cookie.
    pub(super) bearer_token: Option<Secret>,
    /// A refresh token, likewise.
    pub(super) refresh_token: Option<Secret>,
    /// Until when that is good.
    pub(super) refresh_token_expiry: Option<Timestamp>,
    /// A picture.
    pub(super) profile_url: Option<String>,
    /// Roles; an empty list is written, `None` is left out.
    pub(super) roles: Option<Vec<String>>,
    /// Permissions, likewise.
    pub(super) permissions: Option<Vec<String>>,
    /// What went wrong.
    pub(super) status: Option<ResponseStatus>,
}

impl AuthenticateResponse {
    /// As an object.
    pub(super) fn dto(&self) -> Dto<'_> {
        Dto {
            name: "AuthenticateResponse",
            members: vec![
                ("UserId", Data::text(self.user_id.as_deref())),
                ("SessionId", secret(&self.session_id)),
                ("UserName", Data::text(self.user_name.as_deref())),
                ("DisplayName", Data::text(self.display_name.as_deref())),
                ("ReferrerUrl", Data::text(self.referrer_url.as_deref())),
                ("BearerToken", secret(&self.bearer_token)),
                ("RefreshToken", secret(&self.refresh_token)),
                ("RefreshTokenExpiry", Data::moment(self.refresh_token_expiry)),
                ("ProfileUrl", Data::text(self.profile_url.as_deref())),
                ("Roles", Data::texts(self.roles.as_deref())),
                ("Permissions", Data::texts(self.permissions.as_deref())),
                ("ResponseStatus", status(&self.status)),
                ("Meta", Data::Null),
            ],
        }
    }
}

/// The answer to the wish for an account.
#[derive(Debug, Default)]
pub(super) struct RegisterResponse {
    /// What a login would have answered; of it only the members that this answer has are said.
    pub(super) login: AuthenticateResponse,
    /// Where a page would go now.
    pub(super) redirect_url: Option<String>,
}

impl RegisterResponse {
    /// As an object.
    pub(super) fn dto(&self) -> Dto<'_> {
        let login = &self.login;
        Dto {
            name: "RegisterResponse",
            members: vec![
                ("UserId", Data::text(login.user_id.as_deref())),
                ("SessionId", secret(&login.session_id)),
                ("UserName", Data::text(login.user_name.as_deref())),
                ("ReferrerUrl", Data::text(login.referrer_url.as_deref())),
                ("BearerToken", secret(&login.bearer_token)),
                ("RefreshToken", secret(&login.refresh_token)),
                ("RefreshTokenExpiry", Data::moment(login.refresh_token_expiry)),
                ("Roles", Data::texts(login.roles.as_deref())),
                ("Permissions", Data::texts(login.permissions.as_deref())),
                ("RedirectUrl", Data::text(self.redirect_url.as_deref())),
                ("ResponseStatus", status(&login.status)),
                ("Meta", Data::Null),
            ],
        }
    }
}

/// All that a user holds after a change of roles.
#[derive(Debug, Default)]
pub(super) struct RolesResponse {
    /// Whether the change took away.
    pub(super) unassigned: bool,
    /// Roles.
    pub(super) all_roles: Option<Vec<String>>,
    /// Permissions.
    pub(super) all_permissions: Option<Vec<String>>,
    /// What went wrong.
    pub(super) status: Option<ResponseStatus>,
}

impl RolesResponse {
    /// As an object.
    pub(super) fn dto(&self) -> Dto<'_> {
        Dto {
            name: if self.unassigned { "UnAssignRolesResponse" } else { "AssignRolesResponse" },
            members: vec![
                ("AllRoles", Data::texts(self.all_roles.as_deref())),
                ("AllPermissions", Data::texts(self.all_permissions.as_deref())),
                ("Meta", Data::Null),
                ("ResponseStatus", status(&self.status)),
            ],
        }
    }
}

/// An API key of the caller.
#[derive(Debug)]
pub(super) struct UserApiKey {
    /// The key.
    pub(super) key: Secret,
    /// What it is for.
    pub(super) key_type: Option<String>,
    /// Until when it is good.
    pub(super) expiry_date: Option<Timestamp>,
}

/// The caller's keys, listed or made anew.
#[derive(Debug, Default)]
pub(super) struct ApiKeysResponse {
    /// Whether they are new.
    pub(super) regenerated: bool,
    /// The keys, newest first.
    pub(super) results: Option<Vec<UserApiKey>>,
    /// What went wrong.
    pub(super) status: Option<ResponseStatus>,
}

impl ApiKeysResponse {
    /// As an object.
    pub(super) fn dto(&self) -> Dto<'_> {
        let key = |key: &'_ UserApiKey| Dto {
            name: "UserApiKey",
            members: vec![
                ("Key", Data::text(key.key.expose_text().map(str::to_owned))),
                ("KeyType", Data::text(key.key_type.clone())),
                ("ExpiryDate", Data::moment(key.expiry_date)),
                ("Meta", Data::Null),
            ],
        };
        let results = self.results.as_ref().map(|keys| Data::Dtos("UserApiKey", keys.iter().map(key).collect()));
        Dto {
            name: if self.regenerated { "RegenerateApiKeysResponse" } else { "GetApiKeysResponse" },
            members: vec![
                ("Results", results.unwrap_or(Data::Null)),
                ("Meta", Data::Null),
                ("ResponseStatus", status(&self.status)),
            ],
        }
    }
}

/// Tokens in the place of a session.
#[derive(Debug, Default)]
pub(super) struct ConvertSessionToTokenResponse {
    /// The access token, where the host wants it in the answer too.
    pub(super) access_token: Option<Secret>,
    /// The refresh token, likewise.
    pub(super) refresh_token: Option<Secret>,
    /// What went wrong.
    pub(super) status: Option<ResponseStatus>,
}

impl ConvertSessionToTokenResponse {
    /// As an object.
    pub(super) fn dto(&self) -> Dto<'_> {
        Dto {
            name: "ConvertSessionToTokenResponse",
            members: vec![
                ("Meta", Data::Null),
                ("AccessToken", secret(&self.access_token)),
                ("RefreshToken", secret(&self.refresh_token)),
                ("ResponseStatus", status(&self.status)),
            ],
        }
    }
}

/// An access token.
#[derive(Debug, Default)]
pub(super) struct GetAccessTokenResponse {
    /// The token, where it does not go into a cookie.
    pub(super) access_token: Option<Secret>,
    /// The successor of the refresh token, where they rotate and it does not go into a cookie. The framework has no member for it.
    pub(super) refresh_token: Option<Secret>,
    /// What went wrong.
    pub(super) status: Option<ResponseStatus>,
}

impl GetAccessTokenResponse {
    /// As an object.
    pub(super) fn dto(&self) -> Dto<'_> {
        let refresh = self.refresh_token.as_ref().and_then(Secret::expose_text);
        Dto {
            name: "GetAccessTokenResponse",
            members: vec![
                ("AccessToken", secret(&self.access_token)),
                ("Meta", refresh.map_or(Data::Null, |text| Data::Map(vec![("RefreshToken".into(), text.into())]))),
                ("ResponseStatus", status(&self.status)),
            ],
        }
    }
}

/// Writes a "no": the answer of the operation with nothing in it but why; where no operation is known, an answer of its own.
/// `write` is handed the object.
pub(super) fn refused<T>(operation: Option<Operation>, status: ResponseStatus, write: impl FnOnce(&Dto<'_>) -> T) -> T {
    let status = Some(status);
    match operation {
        Some(Operation::Authenticate | Operation::AuthenticateLogout) => {
            write(&AuthenticateResponse { status, ..Default::default() }.dto())
        }
        Some(Operation::Register) => {
            let login = AuthenticateResponse { status, ..Default::default() };
            write(&RegisterResponse { login, redirect_url: None }.dto())
        }
        Some(Operation::AssignRoles) => write(&RolesResponse { status, ..Default::default() }.dto()),
        Some(Operation::UnAssignRoles) => write(&RolesResponse { unassigned: true, status, ..Default::default() }.dto()),
        Some(Operation::ConvertSessionToToken) => write(&ConvertSessionToTokenResponse { status, ..Default::default() }.dto()),
        Some(Operation::GetAccessToken) => write(&GetAccessTokenResponse { status, ..Default::default() }.dto()),
        Some(Operation::GetApiKeys) => write(&ApiKeysResponse { status, ..Default::default() }.dto()),
        Some(Operation::RegenerateApiKeys) => write(&ApiKeysResponse { regenerated: true, status, ..Default::default() }.dto()),
        None => write(&Dto { name: "ErrorResponse", members: vec![("ResponseStatus", self::status(&status))] }),
    }
}

fn status(status: &Option<ResponseStatus>) -> Data<'_> {
    status.as_ref().map_or(Data::Null, |status| Data::Dto(status.dto()))
}

fn secret(secret: &Option<Secret>) -> Data<'_> {
    Data::text(secret.as_ref().and_then(Secret::expose_text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::servicestack::format::Format;
    use crate::servicestack::style::{DateFormat, Style, TextCase};
    use crate::servicestack::value::Fields;

    fn written(dto: &Dto<'_>, format: Format, jsconfig: &str) -> String {
        format.write("Authenticate", dto, &Style::new(TextCase::Pascal, DateFormat::Wcf, &Fields::default()).wished(jsconfig))
    }

    fn login() -> AuthenticateResponse {
        AuthenticateResponse {
            user_id: Some("7".to_owned()),
            session_id: Some(Secret::new("pQ0vGJ8sXa9Lr3TkWm2Z")),
            user_name: Some("ada".to_owned()),
            display_name: Some("Ada L".to_owned()),
            profile_url: Some("/avatar/7.svg".to_owned()),
            roles: Some(vec!["Admin".to_owned()]),
            permissions: Some(Vec::new()),
            ..AuthenticateResponse::default()
        }
    }

    #[test]
    fn a_login_is_answered_in_every_format() {
        let login = login();
        assert_eq!(
            written(&login.dto(), Format::Json, ""),
            concat!(
                r#"{"UserId":"7","SessionId":"pQ0vGJ8sXa9Lr3TkWm2Z","UserName":"ada","DisplayName":"Ada L","#,
                r#""ProfileUrl":"/avatar/7.svg","Roles":["Admin"],"Permissions":[]}"#
            )
        );
        assert_eq!(
            written(&login.dto(), Format::Json, "eccn"),
            concat!(
                r#"{"userId":"7","sessionId":"pQ0vGJ8sXa9Lr3TkWm2Z","userName":"ada","displayName":"Ada L","#,
                r#""profileUrl":"/avatar/7.svg","roles":["Admin"],"permissions":[]}"#
            )
        );
        assert_eq!(
            written(&login.dto(), Format::Jsv, ""),
            "{UserId:7,SessionId:pQ0vGJ8sXa9Lr3TkWm2Z,UserName:ada,DisplayName:Ada L,ProfileUrl:/avatar/7.svg,Roles:[Admin],\
             Permissions:[]}"
        );
        assert_eq!(written(&login.dto(), Format::Csv, ""), "Admin\r\n");
        let xml = written(&login.dto(), Format::Xml, "eccn");
        assert!(xml.contains("<UserId>7</UserId><SessionId>pQ0vGJ8sXa9Lr3TkWm2Z</SessionId><UserName>ada</UserName>"), "{xml}");
        assert!(xml.contains("<ReferrerUrl i:nil=\"true\"/><BearerToken i:nil=\"true\"/>"), "{xml}");
        assert!(written(&login.dto(), Format::Html, "").contains("window.Dto = {\"UserId\":\"7\""));
        assert!(!format!("{login:?}").contains("pQ0v"), "{login:?}");
    }

    #[test]
    fn tokens_in_an_answer_come_with_the_end_of_their_life() {
        let mut login = login();
        login.bearer_token = Some(Secret::new("a.b.c"));
        login.refresh_token = Some(Secret::new("d.e.f"));
        login.refresh_token_expiry = Some(Timestamp::from_millis(1_700_000_000_000));
        let json = written(&login.dto(), Format::Json, "");
        let tokens = r#""BearerToken":"a.b.c","RefreshToken":"d.e.f","RefreshTokenExpiry":"\/Date(1700000000000)\/","ProfileUrl""#;
        assert!(json.contains(tokens), "{json}");
        assert!(written(&login.dto(), Format::Jsv, "").contains("RefreshTokenExpiry:2023-11-14T22:13:20Z,"));
        assert!(written(&login.dto(), Format::Jsv, "dh:ut").contains("RefreshTokenExpiry:1700000000,"));
        assert!(written(&login.dto(), Format::Jsv, "dh:utm").contains("RefreshTokenExpiry:1700000000000,"));
    }

    #[test]
    fn an_empty_answer_is_an_empty_object() {
        let logout = AuthenticateResponse::default();
        assert_eq!(written(&logout.dto(), Format::Json, ""), "{}");
        assert_eq!(written(&logout.dto(), Format::Jsv, ""), "{}");
        assert_eq!(written(&logout.dto(), Format::Csv, ""), "");
        assert_eq!(written(&GetAccessTokenResponse::default().dto(), Format::Json, ""), "{}");
        assert_eq!(written(&GetAccessTokenResponse::default().dto(), Format::Jsv, "inv"), "{AccessToken:,Meta:,ResponseStatus:}");
    }

    #[test]
    fn the_neighbours_answer() {
        let login = AuthenticateResponse { display_name: None, profile_url: None, ..login() };
        let register = RegisterResponse { login, redirect_url: Some("/next".to_owned()) };
        assert_eq!(
            written(&register.dto(), Format::Json, ""),
            concat!(
                r#"{"UserId":"7","SessionId":"pQ0vGJ8sXa9Lr3TkWm2Z","UserName":"ada","#,
                r#""Roles":["Admin"],"Permissions":[],"RedirectUrl":"/next"}"#
            )
        );
        let roles =
            RolesResponse { all_roles: Some(vec!["A".to_owned()]), all_permissions: Some(Vec::new()), ..Default::default() };
        assert_eq!(written(&roles.dto(), Format::Json, ""), r#"{"AllRoles":["A"],"AllPermissions":[]}"#);
        let key = UserApiKey {
            key: Secret::new("k1"),
            key_type: Some("secret".to_owned()),
            expiry_date: Some(Timestamp::from_millis(1_741_046_400_000)),
        };
        let keys = ApiKeysResponse { results: Some(vec![key]), ..Default::default() };
        assert_eq!(
            written(&keys.dto(), Format::Json, "dh:iso8601"),
            r#"{"Results":[{"Key":"k1","KeyType":"secret","ExpiryDate":"2025-03-04T00:00:00.0000000Z"}]}"#
        );
        assert_eq!(written(&keys.dto(), Format::Csv, ""), "Key,KeyType,ExpiryDate,Meta\r\nk1,secret,2025-03-04,\r\n");
        let convert = ConvertSessionToTokenResponse {
            access_token: Some(Secret::new("a")),
            refresh_token: Some(Secret::new("r")),
            status: None,
        };
        assert_eq!(written(&convert.dto(), Format::Json, ""), r#"{"AccessToken":"a","RefreshToken":"r"}"#);
    }

    #[test]
    fn a_no_has_the_shape_of_the_answer_that_was_asked_for() {
        let roots = [
            (Some(Operation::Authenticate), "AuthenticateResponse"),
            (Some(Operation::AuthenticateLogout), "AuthenticateResponse"),
            (Some(Operation::Register), "RegisterResponse"),
            (Some(Operation::AssignRoles), "AssignRolesResponse"),
            (Some(Operation::UnAssignRoles), "UnAssignRolesResponse"),
            (Some(Operation::ConvertSessionToToken), "ConvertSessionToTokenResponse"),
            (Some(Operation::GetAccessToken), "GetAccessTokenResponse"),
            (Some(Operation::GetApiKeys), "GetApiKeysResponse"),
            (Some(Operation::RegenerateApiKeys), "RegenerateApiKeysResponse"),
            (None, "ErrorResponse"),
        ];
        for (operation, root) in roots {
            let status = || ResponseStatus {
                code: "NotEmpty".into(),
                message: "m".to_owned(),
                errors: vec![FieldError::empty("UserName", "User Name"), FieldError::new("Email", "Email", "e")],
            };
            let json = refused(operation, status(), |dto| written(dto, Format::Json, ""));
            assert_eq!(
                json,
                concat!(
                    r#"{"ResponseStatus":{"ErrorCode":"NotEmpty","Message":"m","Errors":["#,
                    r#"{"ErrorCode":"NotEmpty","FieldName":"UserName","Message":"'User Name' must not be empty.","#,
                    r#""Meta":{"PropertyName":"User Name"}},"#,
                    r#"{"ErrorCode":"Email","FieldName":"Email","Message":"e"}]}}"#
                )
            );
            let xml = refused(operation, status(), |dto| written(dto, Format::Xml, ""));
            assert!(xml.contains(&format!("?><{root} xmlns:i=")) && xml.ends_with(&format!("</{root}>")), "{xml}");
            assert_eq!(refused(operation, status(), |dto| written(dto, Format::Csv, "")), "");
        }
    }
}
