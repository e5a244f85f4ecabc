//! What the core's positive answers become on this wire.

use std::sync::Arc;

use gatepost_identity::account::AccountSummary;
use gatepost_identity::clock::Timestamp;
use gatepost_identity::reply::{Granted, IssuedToken, Method, Principal, TokenKind, ToldApiKey};
use gatepost_identity::secret::Secret;

use crate::http::Response;
use crate::servicestack::envelope::Envelope;
use crate::servicestack::response::{
    ApiKeysResponse, AuthenticateResponse, ConvertSessionToTokenResponse, GetAccessTokenResponse, RegisterResponse, UserApiKey,
};
use crate::servicestack::return_url::marked;
use crate::servicestack::settings::Provider;

/// The picture of whoever has none.
const NOBODYS_PICTURE: &str = "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 32 32'%3E%3Cpath \
                               fill='%23789' d='M16 6a6 6 0 1 1 0 12 6 6 0 0 1 0-12zM4 29a12 9 0 0 1 24 0z'/%3E%3C/svg%3E";

/// Whom clients take for whoever shows the operator's secret: an id that no account has, and a name.
const OPERATOR: (&str, &str) = ("0", "Admin");

/// What a login has asked for.
pub(super) struct Login {
    /// The name as it was typed.
    pub(super) user_name: String,
    /// The provider as it was written.
    pub(super) provider: String,
    /// Whether it is to be remembered.
    pub(super) remember: bool,
    /// Whether tokens go into cookies.
    pub(super) in_cookies: bool,
}

/// Somebody has logged in.
pub(super) fn began(now: Timestamp, granted: Granted, login: Login, mut envelope: Envelope) -> Response {
    let Granted { principal, tokens } = granted;
    let mut dto = described(Arc::unwrap_or_clone(principal));
    let user = dto.user_id.clone().unwrap_or_default();
    dto.session_id = begin(&tokens, login.remember, &user, &mut envelope);
    hand_over(now, tokens, login.in_cookies, &mut dto, &mut envelope);
    dto.user_name = Some(login.user_name);
    dto.referrer_url.clone_from(&envelope.browser.target);
    let target = envelope.browser.target.clone();
    envelope.answer_or_go(target, &dto.dto())
}

/// An account was made, and its owner logged in where they asked for it.
pub(super) fn registered(
    now: Timestamp,
    account: &AccountSummary,
    granted: Option<Granted>,
    login: Login,
    mut envelope: Envelope,
) -> Response {
    let target = envelope.browser.target.clone();
    let mut dto = AuthenticateResponse {
        user_id: Some(account.subject.clone()),
        user_name: Some(login.user_name),
        referrer_url: target.clone(),
        ..AuthenticateResponse::default()
    };
    if let Some(Granted { principal, tokens }) = granted {
        dto.roles = Some(principal.rights.roles.clone());
        dto.permissions = Some(principal.rights.permissions.clone());
        dto.session_id = begin(&tokens, login.remember, &account.subject, &mut envelope);
        hand_over(now, tokens, login.in_cookies, &mut dto, &mut envelope);
    }
    envelope.answer_or_go(target, &RegisterResponse { login: dto, redirect_url: None }.dto())
}

/// What is said of somebody who speaks beside who it is.
pub(super) struct Speaks {
    /// The id of the session that the request has shown.
    pub(super) shown: Option<String>,
    /// Whether a provider was named.
    pub(super) named: bool,
    /// Whether that is the one of tokens, and it was shown none by its own member.
    pub(super) of_tokens_alone: bool,
    /// Whether tokens go into cookies.
    pub(super) in_cookies: bool,
    /// Whether tokens that were made are theirs to have.
    pub(super) earns: bool,
}

/// Somebody speaks who is logged in already, or proves it with this request.
pub(super) fn speaks(now: Timestamp, granted: Granted, speaks: Speaks, mut envelope: Envelope) -> Response {
    let Granted { principal, tokens } = granted;
    // What is good for one request is told an id that opens nothing.
    let session = speaks.shown.filter(|_| principal.session.is_some());
    let mut dto = described(Arc::unwrap_or_clone(principal));
    dto.session_id = Some(Secret::new(session.unwrap_or_else(|| envelope.jar.empty_session())));
    if speaks.earns {
        if speaks.in_cookies && !tokens.is_empty() {
            envelope.jar.part_from_tokens();
        }
        hand_over(now, tokens, speaks.in_cookies, &mut dto, &mut envelope);
    }
    dto.referrer_url = envelope.browser.target.clone().or_else(|| envelope.browser.referer.clone());
    let target = dto.referrer_url.as_deref().filter(|_| speaks.named).map(|target| marked(target, "s", "0"));
    envelope.answer_or_go(target, &dto.dto())
}

/// Gives the browser the session that has begun, or ids that open nothing where tokens hold it. Answers the id to be told.
fn begin(tokens: &[IssuedToken], remember: bool, user: &str, envelope: &mut Envelope) -> Option<Secret> {
    let session = tokens.iter().find(|token| matches!(token.kind, TokenKind::Cookie { .. })).map(|token| &token.secret);
    match session.and_then(Secret::expose_text) {
        Some(text) => envelope.jar.begin(text, remember, user),
        None => envelope.jar.begin_nothing(remember, user),
    }
    Some(session.cloned().unwrap_or_else(|| Secret::new(envelope.jar.empty_session())))
}

/// Tokens go into cookies, or into the answer.
fn hand_over(now: Timestamp, tokens: Vec<IssuedToken>, in_cookies: bool, dto: &mut AuthenticateResponse, envelope: &mut Envelope) {
    for token in tokens {
        if in_cookies {
            keep(now, &token, envelope);
            continue;
        }
        match token.kind {
            TokenKind::Access => dto.bearer_token = Some(token.secret),
            TokenKind::Refresh => {
                dto.refresh_token = Some(token.secret);
                dto.refresh_token_expiry = token.expires_at;
            }
            TokenKind::Restore | TokenKind::Cookie { .. } | TokenKind::Terminal(_) | TokenKind::Upstream { .. } => {}
        }
    }
}

/// Gives a browser a token to keep for as long as it is good.
pub(super) fn keep(now: Timestamp, token: &IssuedToken, envelope: &mut Envelope) {
    let life = token.expires_at.map(|end| end.since(now)).unwrap_or_default();
    envelope.jar.keep(&token.kind, token.secret.expose_text().unwrap_or_default(), life);
}

/// Whatever session there was has ended. Before that is so, the browser keeps all that it needs to ask for it again.
pub(super) fn ended(mut envelope: Envelope) -> Response {
    if envelope.settings.has(Provider::Jwt) {
        envelope.jar.drop_access();
        envelope.jar.drop_refresh();
    }
    envelope.jar.end();
    let referer = envelope.browser.referer.clone().filter(|page| !page.ends_with("/auth/logout"));
    let target = envelope.browser.target.clone().or(referer);
    envelope.answer_or_go(target, &AuthenticateResponse::default().dto())
}

/// An access token was made of a refresh token, and that got a successor where they rotate. `of_another`: it is none that the browser
/// keeps.
pub(super) fn refreshed(
    now: Timestamp,
    tokens: Vec<IssuedToken>,
    (in_cookies, of_another): (bool, bool),
    mut envelope: Envelope,
) -> Response {
    if in_cookies && of_another {
        envelope.jar.part_from_tokens();
    }
    let mut dto = GetAccessTokenResponse::default();
    for token in tokens {
        match (in_cookies, &token.kind) {
            (true, _) => keep(now, &token, &mut envelope),
            (false, TokenKind::Refresh) => dto.refresh_token = Some(token.secret),
            (false, _) => dto.access_token = Some(token.secret),
        }
    }
    envelope.answer(&dto.dto())
}

/// Tokens were made of a session. They go into cookies only. Whoever came with an access token goes with that one: another would be
/// good for longer.
pub(super) fn converted(now: Timestamp, granted: Granted, came: Option<Secret>, mut envelope: Envelope) -> Response {
    let Granted { principal, tokens } = granted;
    let kept = came.filter(|_| principal.method == Method::Access);
    let kept = kept.map(|secret| vec![IssuedToken { kind: TokenKind::Access, secret, expires_at: principal.expires_at }]);
    kept.unwrap_or(tokens).iter().for_each(|token| keep(now, token, &mut envelope));
    envelope.answer(&ConvertSessionToTokenResponse::default().dto())
}

/// The keys of whoever has asked. What is not new is told by its first letters: the rest is not kept here.
pub(super) fn keys(told: Vec<ToldApiKey>, regenerated: bool, envelope: Envelope) -> Response {
    let key = |told: ToldApiKey| UserApiKey {
        key: told.key.unwrap_or_else(|| Secret::new(told.prefix)),
        key_type: Some(told.kind),
        expiry_date: told.expires_at,
    };
    let results = Some(told.into_iter().map(key).collect());
    envelope.answer(&ApiKeysResponse { regenerated, results, status: None }.dto())
}

/// The name that others know an account by: its own, or the address where whoever signed up gave no name and one was drawn, which
/// is then the account's id too.
pub(super) fn known_name(account: &AccountSummary) -> &str {
    let is_drawn = account.name == account.subject && is_uuid(&account.name);
    account.email.as_deref().filter(|_| is_drawn).unwrap_or(&account.name)
}

fn is_uuid(text: &str) -> bool {
    let lengths = text.split('-').map(str::len);
    lengths.eq([8, 4, 4, 4, 12]) && text.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-')
}

/// What an answer says of somebody.
fn described(principal: Principal) -> AuthenticateResponse {
    let account = principal.account.as_deref();
    if principal.method == Method::OperatorSecret {
        let (nobody, name) = OPERATOR;
        return AuthenticateResponse {
            user_id: Some(nobody.to_owned()),
            user_name: Some(name.to_owned()),
            display_name: Some(name.to_owned()),
            profile_url: Some(NOBODYS_PICTURE.to_owned()),
            roles: Some(principal.rights.roles),
            permissions: Some(principal.rights.permissions),
            ..AuthenticateResponse::default()
        };
    }
    let full_name = |first: &Option<String>, last: &Option<String>| {
        let parts: Vec<&str> = [first, last].into_iter().filter_map(|part| part.as_deref()).collect();
        Some(parts.join(" ")).filter(|name| !name.is_empty())
    };
    AuthenticateResponse {
        user_id: account.map(|account| account.subject.clone()),
        user_name: account.map(|account| known_name(account).to_owned()),
        display_name: account.and_then(|account| {
            let name = || Some(known_name(account).to_owned()).filter(|name| !name.is_empty());
            account.display_name.clone().or_else(name).or_else(|| full_name(&account.first_name, &account.last_name))
        }),
        profile_url: Some(account.and_then(|account| account.profile_url.clone()).unwrap_or_else(|| NOBODYS_PICTURE.to_owned())),
        roles: Some(principal.rights.roles),
        permissions: Some(principal.rights.permissions),
        ..AuthenticateResponse::default()
    }
}
