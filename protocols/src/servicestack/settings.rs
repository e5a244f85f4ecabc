//! The gate's section of the settings, read once and checked.

use gatepost_identity::account::ClientId;
use http::HeaderValue;
use http::uri::PathAndQuery;
use serde::Deserialize;

use crate::section::{BadSetting, Section};
use crate::servicestack::message::Operation;
use crate::servicestack::routes::{self, Found};
use crate::servicestack::services::{self, Services};
use crate::servicestack::style::{DateFormat, TextCase};
use crate::servicestack::value::same;

/// Who vouches, in the framework's words. The core knows them by what they take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Provider {
    /// A name and a password in the request, for which there is a session from then on.
    Credentials,
    /// A name and a password in the header field of every request, which is good for that request.
    Basic,
    /// A key with every request, which is good for that request.
    ApiKey,
    /// Signed tokens: told at a login, and shown with every request.
    Jwt,
}

impl Provider {
    /// Its name on the wire.
    pub(super) fn name(self) -> &'static str {
        match self {
            Provider::Credentials => "credentials",
            Provider::Basic => "basic",
            Provider::ApiKey => "apikey",
            Provider::Jwt => "jwt",
        }
    }
}

/// The section as it is written.
#[derive(Deserialize)]
#[serde(default)]
struct Written {
    client: Option<String>,
    base_path: String,
    text_case: TextCase,
    date_format: DateFormat,
    providers: Vec<Provider>,
    origins: Vec<String>,
    authenticate_alias: bool,
    use_token_cookie: bool,
    rotate_refresh_tokens: bool,
    registration: bool,
    tokens_in_fields: bool,
    service: Vec<services::Written>,
}

impl Default for Written {
    fn default() -> Written {
        Written {
            client: None,
            base_path: String::new(),
            text_case: TextCase::Pascal,
            date_format: DateFormat::Wcf,
            providers: vec![Provider::Credentials, Provider::Basic, Provider::ApiKey],
            origins: Vec::new(),
            authenticate_alias: false,
            use_token_cookie: true,
            rotate_refresh_tokens: false,
            registration: false,
            tokens_in_fields: false,
            service: Vec::new(),
        }
    }
}

/// The settings in force.
#[derive(Debug)]
pub(super) struct Settings {
    /// The client that logins come through.
    pub(super) client: ClientId,
    /// What stands before every path of the gate: nothing, or a path without a slash at its end.
    pub(super) base_path: String,
    /// The case of names in answers.
    pub(super) text_case: TextCase,
    /// The form of dates in JSON.
    pub(super) date_format: DateFormat,
    /// Who vouches, in the order that decides where a request names nobody; at least one.
    providers: Vec<Provider>,
    /// The origins whose scripts may call.
    pub(super) origins: Origins,
    /// Whether `/authenticate` is another name for `/auth`.
    pub(super) authenticate_alias: bool,
    /// Whether tokens go into cookies rather than into answers, where a request does not say.
    pub(super) use_token_cookie: bool,
    /// Whether a refresh token that is used gets a successor. The core does it; here it is known so that nobody is given one who
    /// could not keep it.
    pub(super) rotate_refresh_tokens: bool,
    /// Whether anybody may make an account.
    registration: bool,
    /// Whether tokens and keys may also stand in the fields of a query or form.
    pub(super) tokens_in_fields: bool,
    /// What is behind the gate.
    pub(super) services: Services,
    /// Where others find this server: an origin in lower case.
    pub(super) public_url: Option<String>,
}

/// Which origins' scripts may call, by the rules of CORS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Origins {
    /// Nobody else's; preflights are not answered.
    Nobodys,
    /// Everybody's, without cookies.
    Everybodys,
    /// These, with cookies.
    These(Vec<String>),
}

impl Origins {
    fn of(written: Vec<String>) -> Result<Origins, BadSetting> {
        if written.is_empty() {
            return Ok(Origins::Nobodys);
        }
        if written == ["*"] {
            return Ok(Origins::Everybodys);
        }
        let is_origin = |text: &String| {
            let (scheme, authority) = text.split_once("://").unwrap_or_default();
            matches!(scheme, "http" | "https") && !authority.is_empty() && !authority.contains(['/', '?', '#', '@', '*', ' '])
        };
        match written.iter().position(|text| !is_origin(text)) {
            Some(index) => Err(BadSetting::new(
                format!("origins[{index}]"),
                "is no origin; write it without a path, as in \"https://app.example.org\", or \"*\" alone for any",
            )),
            None => Ok(Origins::These(written)),
        }
    }

    /// Whether this origin is named among them.
    pub(super) fn names(&self, origin: &HeaderValue) -> bool {
        match self {
            Origins::These(origins) => origins.iter().any(|one| one.as_bytes().eq_ignore_ascii_case(origin.as_bytes())),
            Origins::Nobodys | Origins::Everybodys => false,
        }
    }
}

impl Settings {
    /// Reads and checks the section. `None`: no client is named that logins could come through, so the gate is closed.
    ///
    /// # Errors
    /// An unknown key, a value of the wrong type or out of its range.
    pub(super) fn read(section: &Section, public_url: Option<&str>) -> Result<Option<Settings>, BadSetting> {
        let written: Written = section.read()?;
        let base = &written.base_path;
        let plain = |letter: char| letter.is_ascii_alphanumeric() || "/-_.~".contains(letter);
        let is_path = base.starts_with('/') && !base.ends_with('/') && !base.contains("//") && base.chars().all(plain);
        if !base.is_empty() && (!is_path || base.parse::<PathAndQuery>().is_err()) {
            return Err(BadSetting::new("base_path", "is no path; write it as in \"/api-host\", or leave it empty"));
        }
        let providers = written.providers;
        if providers.is_empty() {
            return Err(BadSetting::new("providers", "names no provider, so nobody could log in"));
        }
        if let Some(index) = providers.iter().enumerate().position(|(at, one)| providers[..at].contains(one)) {
            return Err(BadSetting::new(format!("providers[{index}]"), "stands there twice"));
        }
        let origins = Origins::of(written.origins)?;
        let services = Services::check(written.service, |provider| providers.contains(&provider))?;
        let Some(client) = written.client else { return Ok(None) };
        let client = ClientId::parse(&client).map_err(|what| BadSetting::new("client", what.to_string()))?;
        let settings = Settings {
            client,
            base_path: written.base_path,
            text_case: written.text_case,
            date_format: written.date_format,
            providers,
            origins,
            authenticate_alias: written.authenticate_alias,
            use_token_cookie: written.use_token_cookie,
            rotate_refresh_tokens: written.rotate_refresh_tokens,
            registration: written.registration,
            tokens_in_fields: written.tokens_in_fields,
            services,
            public_url: public_url.map(str::to_owned),
        };
        let is_own = |path: &String| !matches!(routes::find(&settings, path), Found::Nothing | Found::NoOperation(..));
        if let Some(index) = settings.services.paths().position(|path| is_own(&path)) {
            return Err(BadSetting::new(format!("service[{index}].path"), "is answered by the gate itself"));
        }
        Ok(Some(settings))
    }

    /// Whether the section has refresh tokens rotate.
    ///
    /// # Errors
    /// As [`Settings::read`].
    pub(super) fn rotates_refresh(section: &Section) -> Result<bool, BadSetting> {
        section.read().map(|written: Written| written.rotate_refresh_tokens)
    }

    /// The provider that is first asked, and whose challenge is told.
    pub(super) fn first(&self) -> Provider {
        self.providers.first().copied().unwrap_or(Provider::Credentials)
    }

    /// Whether this provider vouches here.
    pub(super) fn has(&self, provider: Provider) -> bool {
        self.providers.contains(&provider)
    }

    /// Whether an operation is there at all.
    pub(super) fn offers(&self, operation: Operation) -> bool {
        match operation {
            Operation::Authenticate | Operation::AuthenticateLogout => true,
            Operation::AssignRoles | Operation::UnAssignRoles => true,
            Operation::Register => self.registration,
            Operation::GetAccessToken | Operation::ConvertSessionToToken => self.has(Provider::Jwt),
            Operation::GetApiKeys | Operation::RegenerateApiKeys => self.has(Provider::ApiKey),
        }
    }

    /// The provider of a name, in any case; `login` is `credentials` by an older name.
    pub(super) fn provider(&self, name: &str) -> Option<Provider> {
        let name = if same(name, "login") { "credentials" } else { name };
        self.providers.iter().copied().find(|provider| same(provider.name(), name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Option<Settings>, BadSetting> {
        Settings::read(&Section(text.parse().expect("TOML")), None)
    }

    #[test]
    fn defaults_are_the_documented_ones() {
        assert!(read("").expect("no setting is required").is_none(), "without a client the gate is closed");
        let settings = read("client = 'web'").expect("good").expect("open");
        assert_eq!((settings.text_case, settings.date_format), (TextCase::Pascal, DateFormat::Wcf));
        assert_eq!((&*settings.base_path, settings.authenticate_alias), ("", false));
        assert_eq!((settings.first(), settings.origins.clone()), (Provider::Credentials, Origins::Nobodys));
        assert_eq!(settings.provider("LOGIN"), Some(Provider::Credentials));
        assert_eq!(settings.provider("Basic"), Some(Provider::Basic));
        assert_eq!((settings.provider("local"), settings.provider("jwt")), (None, None));
        assert!(settings.has(Provider::ApiKey) && settings.use_token_cookie);
        assert!(!settings.tokens_in_fields && !settings.rotate_refresh_tokens);
    }

    #[test]
    fn bad_settings_are_named() {
        let rows = [
            ("client = ''", "client"),
            ("base_path = 'x'", "base_path"),
            ("base_path = '/x/'", "base_path"),
            ("base_path = '/'", "base_path"),
            ("base_path = '//x'", "base_path"),
            ("base_path = '/x y'", "base_path"),
            ("base_path = '/x?y'", "base_path"),
            ("text_case = 'snake'", "text_case"),
            ("date_format = 'unix'", "date_format"),
            ("providers = []", "providers"),
            ("providers = ['google']", "providers[0]"),
            ("providers = ['basic', 'basic']", "providers[1]"),
            ("origins = ['app.example.org']", "origins[0]"),
            ("origins = ['https://a.example', 'https://a.example/']", "origins[1]"),
            ("origins = ['*', 'https://a.example']", "origins[0]"),
            ("strict = true", "strict"),
        ];
        for (text, key) in rows {
            assert_eq!(read(text).expect_err(text).key, key, "{text}");
        }
    }
}
