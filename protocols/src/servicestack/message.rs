//! The requests of the service and its neighbours: their names, their members, and what they need before anybody is asked.
//!
//! A member that a request does not have is passed over, whatever it holds: that is how a newer or older client's members, a
//! type hint and an attempt to set what is not the caller's to set all end. Members are taken by the names of the wire.

use gatepost_identity::secret::Secret;

use crate::servicestack::failure::Failure;
use crate::servicestack::response::FieldError;
use crate::servicestack::value::{Body, Fields, Meta, Unreadable, same};

/// What can be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operation {
    /// Log in, or ask who one is.
    Authenticate,
    /// Log out, where that has a route of its own.
    AuthenticateLogout,
    /// Make an account.
    Register,
    /// Give a user roles and permissions.
    AssignRoles,
    /// Take them away.
    UnAssignRoles,
    /// Make tokens of a session.
    ConvertSessionToToken,
    /// Make an access token of a refresh token.
    GetAccessToken,
    /// List the caller's API keys.
    GetApiKeys,
    /// Replace them.
    RegenerateApiKeys,
}

impl Operation {
    /// Every one.
    pub(super) const ALL: [Operation; 9] = [
        Operation::Authenticate,
        Operation::AuthenticateLogout,
        Operation::Register,
        Operation::AssignRoles,
        Operation::UnAssignRoles,
        Operation::ConvertSessionToToken,
        Operation::GetAccessToken,
        Operation::GetApiKeys,
        Operation::RegenerateApiKeys,
    ];

    /// The name of its request.
    pub(super) fn name(self) -> &'static str {
        match self {
            Operation::Authenticate => "Authenticate",
            Operation::AuthenticateLogout => "AuthenticateLogout",
            Operation::Register => "Register",
            Operation::AssignRoles => "AssignRoles",
            Operation::UnAssignRoles => "UnAssignRoles",
            Operation::ConvertSessionToToken => "ConvertSessionToToken",
            Operation::GetAccessToken => "GetAccessToken",
            Operation::GetApiKeys => "GetApiKeys",
            Operation::RegenerateApiKeys => "RegenerateApiKeys",
        }
    }

    /// Whether it gives or takes something, so that nobody is to be led to it by a link.
    pub(super) fn changes(self) -> bool {
        match self {
            Operation::Register | Operation::AssignRoles | Operation::UnAssignRoles | Operation::RegenerateApiKeys => true,
            Operation::Authenticate
            | Operation::AuthenticateLogout
            | Operation::ConvertSessionToToken
            | Operation::GetAccessToken
            | Operation::GetApiKeys => false,
        }
    }

    /// Whether it is there to give a browser tokens to keep.
    pub(super) fn hands_out_tokens(self) -> bool {
        match self {
            Operation::ConvertSessionToToken | Operation::GetAccessToken => true,
            Operation::Authenticate
            | Operation::AuthenticateLogout
            | Operation::Register
            | Operation::AssignRoles
            | Operation::UnAssignRoles
            | Operation::GetApiKeys
            | Operation::RegenerateApiKeys => false,
        }
    }

    /// The operation whose request has that name, in any case.
    pub(super) fn find(name: &str) -> Option<Operation> {
        Operation::ALL.into_iter().find(|operation| same(operation.name(), name))
    }
}

/// A login, a question who one is, or a logout by its provider.
#[derive(Debug, Default)]
pub(super) struct Authenticate {
    /// Who shall vouch. `None`: whoever comes first.
    pub(super) provider: Option<String>,
    /// The name, as it was typed; `Some` of an empty text where one was sent.
    pub(super) user_name: Option<String>,
    /// The password; also a token or a key, by some providers.
    pub(super) password: Option<Secret>,
    /// Whether the session outlives the browser's.
    pub(super) remember_me: Option<bool>,
    /// Where a page goes afterwards; the last place that is looked at.
    pub(super) return_url: Option<String>,
    /// Whether tokens go into cookies rather than into the answer.
    pub(super) use_token_cookie: Option<bool>,
    /// What else there is to say: `ignore` of `jwt` wants no tokens.
    pub(super) meta: Meta,
}

impl Authenticate {
    /// Reads it.
    ///
    /// # Errors
    /// A member is of another type.
    pub(super) fn read(mut fields: Fields<'_>) -> Result<Authenticate, Unreadable> {
        Ok(Authenticate {
            provider: fields.filled("provider")?,
            user_name: fields.text("UserName")?,
            password: fields.secret("Password")?,
            remember_me: fields.boolean("RememberMe")?,
            return_url: fields.filled("ReturnUrl")?,
            use_token_cookie: fields.boolean("UseTokenCookie")?,
            meta: fields.map("Meta")?,
        })
    }

    /// What a login by name and password lacks, if anything; blanks are as good as nothing.
    pub(super) fn lacks(&self) -> Option<Failure<'static>> {
        let user_name = self.user_name.as_deref().is_none_or(is_blank);
        let password = self.password.as_ref().is_none_or(is_blank_secret);
        (user_name || password).then_some(Failure::NoCredentials { user_name, password })
    }

    /// Whether it wants no tokens for this login.
    pub(super) fn ignores_jwt(&self) -> bool {
        self.meta.value("ignore") == Some("jwt")
    }
}

/// A logout by its own route.
#[derive(Debug, Default)]
pub(super) struct AuthenticateLogout {
    /// Where a page goes afterwards; the last place that is looked at.
    pub(super) return_url: Option<String>,
}

impl AuthenticateLogout {
    /// Reads it.
    ///
    /// # Errors
    /// A member is of another type.
    pub(super) fn read(mut fields: Fields<'_>) -> Result<AuthenticateLogout, Unreadable> {
        Ok(AuthenticateLogout { return_url: fields.filled("ReturnUrl")? })
    }
}

/// The wish for an account.
#[derive(Debug, Default)]
pub(super) struct Register {
    /// The name to log in by.
    pub(super) user_name: Option<String>,
    /// The given name.
    pub(super) first_name: Option<String>,
    /// The family name.
    pub(super) last_name: Option<String>,
    /// The name to be shown.
    pub(super) display_name: Option<String>,
    /// The address.
    pub(super) email: Option<String>,
    /// The password.
    pub(super) password: Option<Secret>,
    /// The password once more.
    pub(super) confirm_password: Option<Secret>,
    /// Whether to be logged in at once.
    pub(super) auto_login: bool,
}

impl Register {
    /// Reads it.
    ///
    /// # Errors
    /// A member is of another type.
    pub(super) fn read(mut fields: Fields<'_>) -> Result<Register, Unreadable> {
        Ok(Register {
            user_name: given(fields.filled("UserName")?),
            first_name: fields.filled("FirstName")?,
            last_name: fields.filled("LastName")?,
            display_name: fields.filled("DisplayName")?,
            email: given(fields.filled("Email")?),
            password: fields.secret("Password")?,
            confirm_password: fields.secret("ConfirmPassword")?,
            auto_login: fields.boolean("AutoLogin")?.unwrap_or(false),
        })
    }

    /// What is wrong with it as it stands, in the order in which the framework says so. Whether a name is taken is not known
    /// here.
    pub(super) fn faults(&self) -> Vec<FieldError> {
        let mut faults = Vec::new();
        if self.password.as_ref().is_none_or(is_blank_secret) {
            faults.push(FieldError::empty("Password", "Password"));
        }
        if let Some(confirmed) = &self.confirm_password
            && !self.password.as_ref().is_some_and(|password| password.matches(confirmed.expose()))
        {
            faults.push(FieldError::new("PasswordsShouldMatch", "ConfirmPassword", "Passwords should match!"));
        }
        if self.user_name.is_none() && self.email.is_none() {
            faults.push(FieldError::empty("UserName", "User Name"));
            faults.push(FieldError::empty("Email", "Email"));
        }
        if self.user_name.as_deref().is_some_and(|name| !is_name(name)) {
            let sentence = "Username contains invalid characters (Parameter 'UserName')";
            faults.push(FieldError::new("ArgumentException", "UserName", sentence));
        }
        if self.email.as_deref().is_some_and(|email| !is_address(email)) {
            faults.push(FieldError::new("Email", "Email", "'Email' is not a valid email address."));
        }
        faults
    }
}

/// Blanks are as good as nothing.
fn given(text: Option<String>) -> Option<String> {
    text.filter(|text| !is_blank(text))
}

fn is_blank(text: &str) -> bool {
    text.trim().is_empty()
}

fn is_blank_secret(secret: &Secret) -> bool {
    secret.expose_text().is_some_and(is_blank)
}

/// The framework's rule for new names: letters and digits of ASCII, each with one of `. _ -` behind it or none, 3 to 36 in all.
fn is_name(text: &str) -> bool {
    let mut before = None;
    let fits = text.chars().all(|letter| {
        let separates = |letter: char| matches!(letter, '.' | '_' | '-');
        let before = before.replace(letter);
        letter.is_ascii_alphanumeric() || (separates(letter) && before.is_some_and(|before| !separates(before)))
    });
    fits && (3..=36).contains(&text.len())
}

/// One `@` with something on both sides, which is all that the framework looks for, and nothing that no account is found by.
fn is_address(text: &str) -> bool {
    let plain = !text.contains(|letter: char| letter.is_whitespace() || letter.is_control());
    plain && text.split_once('@').is_some_and(|(local, host)| !local.is_empty() && !host.is_empty() && !host.contains('@'))
}

/// A change of somebody's roles and permissions.
#[derive(Debug, Default)]
pub(super) struct ChangeRoles {
    /// Whose.
    pub(super) user_name: Option<String>,
    /// Which permissions.
    pub(super) permissions: Vec<String>,
    /// Which roles.
    pub(super) roles: Vec<String>,
}

impl ChangeRoles {
    /// Reads it; both directions look the same.
    ///
    /// # Errors
    /// A member is of another type.
    pub(super) fn read(mut fields: Fields<'_>) -> Result<ChangeRoles, Unreadable> {
        Ok(ChangeRoles {
            user_name: fields.filled("UserName")?,
            permissions: fields.texts("Permissions")?,
            roles: fields.texts("Roles")?,
        })
    }
}

/// The wish for tokens in the place of a session.
#[derive(Debug, Default)]
pub(super) struct ConvertSessionToToken {
    /// Whether the session stays.
    pub(super) preserve_session: bool,
}

impl ConvertSessionToToken {
    /// Reads it.
    ///
    /// # Errors
    /// A member is of another type.
    pub(super) fn read(mut fields: Fields<'_>) -> Result<ConvertSessionToToken, Unreadable> {
        Ok(ConvertSessionToToken { preserve_session: fields.boolean("PreserveSession")?.unwrap_or(false) })
    }
}

/// The wish for an access token. What it is made of is [`Carried`], or a cookie.
#[derive(Debug, Default)]
pub(super) struct GetAccessToken {
    /// Whether the token goes into a cookie rather than into the answer.
    pub(super) use_token_cookie: Option<bool>,
}

impl GetAccessToken {
    /// Reads it.
    ///
    /// # Errors
    /// A member is of another type.
    pub(super) fn read(mut fields: Fields<'_>) -> Result<GetAccessToken, Unreadable> {
        Ok(GetAccessToken { use_token_cookie: fields.boolean("UseTokenCookie")? })
    }
}

/// A question about the caller's keys, or the wish for new ones.
#[derive(Debug, Default)]
pub(super) struct ApiKeys {
    /// For which environment.
    pub(super) environment: Option<String>,
}

impl ApiKeys {
    /// Reads it; both look the same.
    ///
    /// # Errors
    /// A member is of another type.
    pub(super) fn read(mut fields: Fields<'_>) -> Result<ApiKeys, Unreadable> {
        Ok(ApiKeys { environment: fields.filled("Environment")? })
    }
}

/// Credentials that any request may hold among the members of its body.
#[derive(Debug, Default)]
pub(super) struct Carried {
    /// An access token or an API key.
    pub(super) bearer_token: Option<Secret>,
    /// A refresh token.
    pub(super) refresh_token: Option<Secret>,
    /// A token that takes the place of every other, by a field of query or form.
    pub(super) field_token: Option<Secret>,
    /// An API key, likewise.
    pub(super) field_key: Option<Secret>,
    /// The operator's own secret, by a header field of its name.
    pub(super) operator_secret: Option<Secret>,
}

impl Carried {
    /// Reads them from an object. An address or a form is what a link or a page of somebody else's can send, so that whoever
    /// follows it would go on as somebody else; and addresses are written down.
    ///
    /// # Errors
    /// A member is of another type.
    pub(super) fn read(body: &Body<'_>) -> Result<Carried, Unreadable> {
        let Body::Object(object) = body else { return Ok(Carried::default()) };
        let mut fields = object.clone();
        let (bearer_token, refresh_token) = (fields.secret("BearerToken")?, fields.secret("RefreshToken")?);
        Ok(Carried { bearer_token, refresh_token, ..Carried::default() })
    }

    /// With what fields of a form, else of the query, say; for whoever has asked for that.
    pub(super) fn with_fields(mut self, form: Option<&Fields<'_>>, query: &Fields<'_>) -> Carried {
        let field = |name: &str| {
            let text = form.and_then(|form| form.peek(name)).or_else(|| query.peek(name));
            text.filter(|text| !text.is_empty()).map(Secret::new)
        };
        self.field_token = field("ss-tok");
        self.field_key = field("apikey");
        self.refresh_token = field("ss-reftok").or(self.refresh_token);
        self
    }
}

/// Where a page is to go afterwards, as a query or a form says it: `continue`, then `ReturnUrl`, then `redirect`. Not checked.
pub(super) fn return_url<'f>(fields: &'f Fields<'_>) -> Option<&'f str> {
    ["continue", "ReturnUrl", "redirect"].into_iter().find_map(|name| fields.peek(name).filter(|text| !text.is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::servicestack::form::query;
    use crate::servicestack::json;

    fn fields(json: &str) -> Fields<'_> {
        Fields::of(json::read(json).unwrap()).unwrap()
    }

    fn exposed(secret: &Option<Secret>) -> Option<&str> {
        secret.as_ref().and_then(Secret::expose_text)
    }

    #[test]
    fn operations_are_found_in_any_case() {
        for operation in Operation::ALL {
            assert_eq!(Operation::find(&operation.name().to_lowercase()), Some(operation));
        }
        assert_eq!(Operation::find("Authenticate[]"), None);
    }

    #[test]
    fn a_login_has_its_members_in_any_case_and_no_others() {
        let login = fields(
            r#"{"Provider":"credentials","userName":"ada","password":"pw","rememberMe":"True","accessToken":"t",
                "AccessTokenSecret":"s","returnUrl":"/home","errorView":"x","useTokenCookie":false,"meta":{"ignore":"jwt"},
                "oauth_token":"o","nonce":{"a":[]},"UserId":"1","Roles":["Admin"],"__type":"Evil"}"#,
        );
        let login = Authenticate::read(login).unwrap();
        assert_eq!(login.provider.as_deref(), Some("credentials"));
        assert_eq!(login.user_name.as_deref(), Some("ada"));
        assert_eq!(exposed(&login.password), Some("pw"));
        assert_eq!(login.remember_me, Some(true));
        assert_eq!(login.return_url.as_deref(), Some("/home"));
        assert_eq!(login.use_token_cookie, Some(false));
        assert!(login.ignores_jwt());
        assert!(!format!("{login:?}").contains("pw"), "{login:?}");
    }

    #[test]
    fn an_empty_text_says_nothing_but_for_the_name() {
        let login = Authenticate::read(query("provider=&UserName=&Password=&RememberMe=&ReturnUrl=&Meta=")).unwrap();
        assert_eq!((login.provider, login.user_name.as_deref(), login.remember_me), (None, Some(""), None));
        assert!(login.password.is_none() && login.return_url.is_none());
        let login = Authenticate::read(Fields::default()).unwrap();
        assert!(login.user_name.is_none() && !login.ignores_jwt());
    }

    #[test]
    fn a_login_lacks_what_is_not_there_or_blank() {
        let check = |text: &str, expected: Option<(bool, bool)>| {
            let lacks = expected.map(|(user_name, password)| Failure::NoCredentials { user_name, password });
            assert_eq!(Authenticate::read(query(text)).unwrap().lacks(), lacks, "{text}");
        };
        check("UserName=ada&Password=+p", None);
        check("UserName=ada", Some((false, true)));
        check("UserName=+&Password=p", Some((true, false)));
        check("UserName=&Password=%09+", Some((true, true)));
        check("", Some((true, true)));
    }

    #[test]
    fn a_member_of_another_type_is_named() {
        let rows = [
            (r#"{"userName":["a"]}"#, "UserName"),
            (r#"{"password":{}}"#, "Password"),
            (r#"{"rememberMe":"perhaps"}"#, "RememberMe"),
            (r#"{"meta":[]}"#, "Meta"),
        ];
        for (json, name) in rows {
            assert_eq!(Authenticate::read(fields(json)).err(), Some(Unreadable::Member(name)), "{json}");
        }
        assert_eq!(ChangeRoles::read(fields(r#"{"roles":{"a":"b"}}"#)).err(), Some(Unreadable::Member("Roles")));
    }

    #[test]
    fn the_neighbours_are_read() {
        let roles = ChangeRoles::read(fields(r#"{"userName":"ada","roles":["A","B"],"permissions":"P,Q"}"#)).unwrap();
        assert_eq!(
            (roles.user_name.as_deref(), roles.roles, roles.permissions),
            (Some("ada"), vec!["A".to_owned(), "B".to_owned()], vec!["P".to_owned(), "Q".to_owned()])
        );
        assert!(ConvertSessionToToken::read(query("preserveSession=true")).unwrap().preserve_session);
        assert!(!ConvertSessionToToken::read(query("")).unwrap().preserve_session);
        assert_eq!(GetAccessToken::read(fields(r#"{"useTokenCookie":true}"#)).unwrap().use_token_cookie, Some(true));
        assert_eq!(ApiKeys::read(query("environment=live")).unwrap().environment.as_deref(), Some("live"));
        assert_eq!(AuthenticateLogout::read(query("returnUrl=/x")).unwrap().return_url.as_deref(), Some("/x"));
        let told = |body| {
            let carried = Carried::read(&body).unwrap();
            [carried.bearer_token, carried.refresh_token].map(|token| exposed(&token).map(str::to_owned))
        };
        let object = Body::Object(fields(r#"{"bearerToken":"b","refreshToken":"r","sessionId":"s"}"#));
        assert_eq!(told(object), ["b", "r"].map(|token| Some(token.to_owned())));
        assert_eq!(told(Body::Form(query("BearerToken=b&RefreshToken=r"))), [None, None], "a form is sent by anybody's page");
        let register = "userName=ada&firstName=A&lastName=L&displayName=Ada&email=a@b&password=p&confirmPassword=p&autoLogin=true";
        let register = Register::read(query(register)).unwrap();
        let told = [&register.user_name, &register.first_name, &register.last_name, &register.display_name, &register.email];
        assert_eq!(told.map(|text| text.as_deref().unwrap_or("")), ["ada", "A", "L", "Ada", "a@b"]);
        assert!(register.auto_login && register.faults().is_empty());
    }

    #[test]
    fn a_registration_tells_every_fault_in_the_frameworks_order() {
        let check = |text: &str, expected: &[(&str, &str)]| {
            let faults = Register::read(query(text)).unwrap().faults();
            let told: Vec<_> = faults.iter().map(|fault| (&*fault.code, fault.field)).collect();
            assert_eq!(told, expected, "{text}");
        };
        check("", &[("NotEmpty", "Password"), ("NotEmpty", "UserName"), ("NotEmpty", "Email")]);
        check("UserName=+&Password=+&Email=+", &[("NotEmpty", "Password"), ("NotEmpty", "UserName"), ("NotEmpty", "Email")]);
        check("UserName=ada&Password=p&ConfirmPassword=q", &[("PasswordsShouldMatch", "ConfirmPassword")]);
        check("UserName=ada&ConfirmPassword=q", &[("NotEmpty", "Password"), ("PasswordsShouldMatch", "ConfirmPassword")]);
        check("Email=a@b&Password=p", &[]);
        check("UserName=ada&Email=x&Password=p", &[("Email", "Email")]);
        check("UserName=+&Email=a@b&Password=p", &[]);
        for name in ["a.b-c_d", "ada-", "007", &"x".repeat(36)] {
            check(&format!("UserName={name}&Password=p"), &[]);
        }
        for name in ["ab", &"x".repeat(37), "a..b", "a._b", ".ab", "-ab", "a%20b", "a@b", "%c3%a9ric", "a%0ab", "a/b"] {
            check(&format!("UserName={name}&Email=a@b&Password=p"), &[("ArgumentException", "UserName")]);
        }
        check("UserName=+a&Email=x", &[("NotEmpty", "Password"), ("ArgumentException", "UserName"), ("Email", "Email")]);
        for email in ["x", "@b", "a@", "a@b@c", "a%20b@c", "a@b%00"] {
            check(&format!("Email={email}&Password=p"), &[("Email", "Email")]);
        }
    }

    #[test]
    fn the_return_address_is_the_first_of_three_names() {
        assert_eq!(return_url(&query("redirect=/r&ReturnUrl=/u&continue=/c")), Some("/c"));
        assert_eq!(return_url(&query("redirect=/r&returnUrl=/u&continue=")), Some("/u"));
        assert_eq!(return_url(&query("redirect=/r")), Some("/r"));
        assert_eq!(return_url(&query("url=/r")), None);
    }
}
