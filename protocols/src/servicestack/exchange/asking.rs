//! What each request asks of the core: its members, and what came with it, made into one command.
//!
//! It refuses to know where the request's bytes came from, and what the reply will be.

use std::ops::ControlFlow;

use gatepost_identity::account::Rights;
use gatepost_identity::command::{Binding, Command, GrantRequest, Verb};
use gatepost_identity::credential::Credential;
use gatepost_identity::register::Profile;
use gatepost_identity::reply::TokenKind;
use gatepost_identity::scope::{Right, ScopeRequest};
use gatepost_identity::secret::Secret;

use crate::servicestack::answers::{Login, Speaks};
use crate::servicestack::caller::{Proof, Shown, kept, may_earn_tokens};
use crate::servicestack::cookies::Brought;
use crate::servicestack::envelope::Envelope;
use crate::servicestack::exchange::guarded::Guarded;
use crate::servicestack::exchange::{Asked, Call, Pending, Service};
use crate::servicestack::failure::Failure;
use crate::servicestack::format::Format;
use crate::servicestack::message::{ApiKeys, Authenticate, ChangeRoles, ConvertSessionToToken, GetAccessToken, Register};
use crate::servicestack::response::FieldError;
use crate::servicestack::return_url::Elsewhere;
use crate::servicestack::settings::Provider;
use crate::servicestack::value::same;
use crate::{Question, Step};

/// The role of those who change the roles of others.
pub(super) const ADMIN: &str = "Admin";

/// A wish for nothing that has a name here: this wire knows no scopes.
pub(super) fn for_nothing(binding: Binding) -> GrantRequest {
    GrantRequest { scope: ScopeRequest::Nothing, role: None, binding, spelling: None }
}

fn ask(command: Command, asked: Asked, envelope: Envelope) -> Step<Pending> {
    ControlFlow::Continue(Question { command, pending: Pending { asked, envelope } })
}

impl Service {
    pub(super) fn authenticate(&self, login: Authenticate, call: Call, mut envelope: Envelope) -> Step<Pending> {
        let named = login.provider.as_deref();
        if named.is_some_and(|name| same(name, "logout")) {
            return self.log_out(login.return_url, call, envelope);
        }
        let provider = match named.map(|name| self.settings.provider(name).ok_or(name)).transpose() {
            Ok(provider) => provider,
            Err(name) => return ControlFlow::Break(envelope.refuse(&Failure::UnknownProvider(name))),
        };
        if call.reads && (provider.is_some() || login.user_name.is_some() || login.password.is_some()) {
            return ControlFlow::Break(envelope.refuse(&Failure::LoginByGet));
        }
        if self.aim(&mut envelope, call.target.as_deref().or(login.return_url.as_deref())).is_err() {
            return ControlFlow::Break(envelope.refuse(&Failure::ExternalRedirect));
        }
        let is_question = provider.is_none() && login.user_name.is_none();
        let mut call = call;
        let of_tokens = provider == Some(Provider::Jwt);
        let of_tokens_alone = of_tokens && login.password.is_none();
        if of_tokens {
            call.carried.bearer_token = login.password.clone().or(call.carried.bearer_token);
        }
        match provider.unwrap_or(self.settings.first()) {
            Provider::Credentials if !is_question => self.log_in(login, &call.brought, envelope),
            of_every_request => {
                let must = of_every_request != Provider::Credentials;
                let in_cookies = login.use_token_cookie.unwrap_or(self.settings.use_token_cookie);
                let no_tokens = login.ignores_jwt();
                let speaks = Speaks { shown: None, named: provider.is_some(), of_tokens_alone, in_cookies, earns: !no_tokens };
                self.who_speaks(call, must, speaks, envelope)
            }
        }
    }

    fn log_in(&self, login: Authenticate, brought: &Brought, envelope: Envelope) -> Step<Pending> {
        if let Some(lack) = login.lacks() {
            return ControlFlow::Break(envelope.refuse(&lack));
        }
        let remember = login.remember_me == Some(true);
        let in_cookies = login.use_token_cookie.unwrap_or(self.settings.use_token_cookie);
        let binding = self.binding(!login.ignores_jwt(), remember, in_cookies);
        let (Some(user_name), Some(password)) = (login.user_name, login.password) else {
            return ControlFlow::Break(envelope.refuse(&Failure::NoCredentials { user_name: true, password: true }));
        };
        let mut presented = vec![Credential::Client { id: Some(self.settings.client.clone()), secret: None }];
        presented.extend(brought.session().map(|session| Credential::Cookie(Secret::new(session))));
        let verb = Verb::Authenticate {
            provider: None,
            credential: Credential::Password { name: user_name.clone(), password },
            request: for_nothing(binding),
        };
        let asked = Login { user_name, provider: login.provider.unwrap_or_default(), remember, in_cookies };
        ask(Command { presented, verb }, Asked::Login(asked), envelope)
    }

    /// `must`: whoever speaks is let through, and nobody else is.
    fn who_speaks(&self, call: Call, must: bool, wished: Speaks, envelope: Envelope) -> Step<Pending> {
        let (Shown { proofs, credentials }, broken) = call.shown(&self.settings);
        if broken && must {
            return ControlFlow::Break(envelope.refuse(&Failure::WrongPassword));
        }
        // No token is signed for the operator.
        let earns =
            wished.earns && self.settings.has(Provider::Jwt) && may_earn_tokens(&proofs) && !proofs.contains(&Proof::Operator);
        let verb = match earns {
            true => Verb::Issue { kinds: vec![TokenKind::Access, TokenKind::Refresh], request: for_nothing(Binding::Request) },
            false => Verb::WhoAmI,
        };
        let speaks = Speaks { shown: call.brought.session().map(str::to_owned), earns, ..wished };
        ask(Command { presented: credentials, verb }, Asked::Session(speaks, Guarded { proofs, must }), envelope)
    }

    pub(super) fn convert(&self, convert: &ConvertSessionToToken, call: Call, mut envelope: Envelope) -> Step<Pending> {
        // Tokens go into cookies, so that there is nothing to be shown on a page.
        if envelope.chosen.format == Format::Html {
            envelope.chosen = Format::Json.into();
        }
        let (shown, broken) = call.shown(&self.settings);
        if broken {
            return ControlFlow::Break(envelope.refuse(&Failure::WrongPassword));
        }
        let came = shown.access();
        let binding = if convert.preserve_session { Binding::Request } else { Binding::TokenCookies };
        let kinds = vec![TokenKind::Access, TokenKind::Refresh];
        let command = Command { presented: shown.credentials, verb: Verb::Issue { kinds, request: for_nothing(binding) } };
        ask(command, Asked::Tokens(Guarded { proofs: shown.proofs, must: true }, came), envelope)
    }

    pub(super) fn refresh(&self, get: &GetAccessToken, call: Call, envelope: Envelope) -> Step<Pending> {
        let from_cookie = call.carried.refresh_token.is_none();
        let is_kept = |token: &Secret| call.brought.refresh().is_some_and(|kept| token.matches(kept.as_bytes()));
        let of_another = call.carried.refresh_token.as_ref().is_some_and(|token| !is_kept(token));
        let carried = call.carried.refresh_token.map(Credential::Refresh);
        let Some(token) = carried.or_else(|| call.brought.refresh().map(|token| kept(token, TokenKind::Refresh))) else {
            return ControlFlow::Break(envelope.refuse(&Failure::NoRefreshToken));
        };
        let in_cookie = from_cookie || get.use_token_cookie.unwrap_or(self.settings.use_token_cookie);
        let mut kinds = vec![TokenKind::Access];
        kinds.extend(self.settings.rotate_refresh_tokens.then_some(TokenKind::Refresh));
        let verb = Verb::Issue { kinds, request: for_nothing(Binding::Request) };
        let client = Credential::Client { id: Some(self.settings.client.clone()), secret: None };
        let command = Command { presented: vec![client, token], verb };
        ask(command, Asked::AccessToken { in_cookie, from_cookie, of_another }, envelope)
    }

    pub(super) fn keys(&self, keys: ApiKeys, renew: bool, call: Call, envelope: Envelope) -> Step<Pending> {
        let (Shown { proofs, credentials }, broken) = call.shown(&self.settings);
        if broken {
            return ControlFlow::Break(envelope.refuse(&Failure::WrongPassword));
        }
        let Some(environment) = keys.environment else {
            let asked = Asked::Lacking { why: Failure::NoEnvironment, of_roles: false, guarded: Guarded { proofs, must: true } };
            return ask(Command { presented: credentials, verb: Verb::WhoAmI }, asked, envelope);
        };
        let command = Command { presented: credentials, verb: Verb::ApiKeys { environment, renew } };
        ask(command, Asked::Keys { renew, guarded: Guarded { proofs, must: true } }, envelope)
    }

    pub(super) fn register(&self, register: Register, call: Call, mut envelope: Envelope) -> Step<Pending> {
        if self.aim(&mut envelope, call.target.as_deref()).is_err() {
            return ControlFlow::Break(envelope.refuse(&Failure::ExternalRedirect));
        }
        let faults = register.faults();
        let Some(password) = register.password.filter(|_| faults.is_empty()) else {
            return ControlFlow::Break(envelope.refuse(&Failure::Invalid(faults)));
        };
        let in_cookies = self.settings.use_token_cookie;
        let request = register.auto_login.then(|| for_nothing(self.binding(true, false, in_cookies)));
        // Keys are made at once, as clients expect; their texts are told to whoever renews them.
        let environments = ["live", "test"].iter().filter(|_| self.settings.has(Provider::ApiKey));
        let user_name = register.user_name.clone().or_else(|| register.email.clone()).unwrap_or_default();
        let profile = Profile {
            name: register.user_name,
            email: register.email,
            display_name: register.display_name,
            first_name: register.first_name,
            last_name: register.last_name,
            password,
            environments: environments.map(|name| (*name).to_owned()).collect(),
        };
        let (Shown { credentials, .. }, _) = call.shown(&self.settings);
        let command = Command { presented: credentials, verb: Verb::Register { profile: Box::new(profile), request } };
        let login = Login { user_name, provider: String::new(), remember: false, in_cookies };
        ask(command, Asked::Register(login), envelope)
    }

    pub(super) fn change_roles(&self, change: ChangeRoles, unassigned: bool, call: Call, envelope: Envelope) -> Step<Pending> {
        let rights = Rights::parse(change.roles, change.permissions)
            .map_err(|what| Failure::Invalid(vec![FieldError::new("ArgumentException", "Roles", what.to_string())]));
        let found = match (change.user_name, rights) {
            (Some(user_name), Ok(rights)) => Ok((user_name, rights)),
            (None, _) => Err(Failure::NoUserName),
            (Some(_), Err(why)) => Err(why),
        };
        let (Shown { proofs, credentials }, _) = call.shown(&self.settings);
        let (user_name, rights) = match found {
            Ok(found) => found,
            Err(why) => {
                let asked = Asked::Lacking { why, of_roles: true, guarded: Guarded { proofs, must: true } };
                return ask(Command { presented: credentials, verb: Verb::WhoAmI }, asked, envelope);
            }
        };
        let (add, remove) = if unassigned { (Rights::default(), rights) } else { (rights, Rights::default()) };
        let right = Right::Role(ADMIN.to_owned());
        let verb = Verb::ChangeRights { account: user_name.clone(), add, remove, right };
        ask(Command { presented: credentials, verb }, Asked::Roles { user_name, unassigned }, envelope)
    }

    /// What holds what a login begins.
    fn binding(&self, tokens: bool, remember: bool, in_cookies: bool) -> Binding {
        match (self.settings.has(Provider::Jwt) && tokens, in_cookies) {
            (false, _) => Binding::Cookie { remember },
            (true, true) => Binding::TokenCookies,
            (true, false) => Binding::Tokens { remember },
        }
    }

    /// `said`: where the DTO says that a page goes afterwards.
    pub(super) fn log_out(&self, said: Option<String>, call: Call, mut envelope: Envelope) -> Step<Pending> {
        if self.aim(&mut envelope, call.target.or(said).as_deref()).is_err() {
            return ControlFlow::Break(envelope.refuse(&Failure::ExternalRedirect));
        }
        // A page of somebody else's that loads this address as a picture, or sends the browser here, ends nobody's session; whoever
        // follows a link of its does.
        let brought = if call.unbidden { Brought::default() } else { call.brought };
        if call.unbidden {
            envelope.jar.close();
        }
        // All that this browser holds, whichever of it counts: nothing of it opens anything afterwards.
        let mut presented: Vec<Credential> = brought.all().map(|id| Credential::Cookie(Secret::new(id))).collect();
        if self.settings.has(Provider::Jwt) {
            presented.extend(brought.access().map(|token| kept(token, TokenKind::Access)));
            presented.extend(brought.refresh().map(|token| kept(token, TokenKind::Refresh)));
        }
        ask(Command { presented, verb: Verb::Logout }, Asked::Logout, envelope)
    }

    /// Notes where the browser goes afterwards, if that is here.
    fn aim(&self, envelope: &mut Envelope, target: Option<&str>) -> Result<(), Elsewhere> {
        envelope.browser.target = target.map(|target| self.here().check(target)).transpose()?.filter(|target| !target.is_empty());
        Ok(())
    }
}
