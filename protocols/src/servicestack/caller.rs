//! Who speaks, as a request shows it: in what order its proofs count, and how each is told that it is no good.
//!
//! ```text
//! the operator's secret > a session's own field > a token or key in a field, where that is on > in the body > the header field
//!   > token cookies > the session's cookie
//! ```
//!
//! What a browser has kept counts only where nothing else was shown, since it comes along unasked. A session named by a field
//! of its own is no such thing: it comes first, so that a proof of somebody else beside it makes nobody of both. It refuses to
//! know whether any of it is good.

use gatepost_identity::credential::Credential;
use gatepost_identity::refusal::Refusal;
use gatepost_identity::reply::{Caller, TokenKind};
use gatepost_identity::secret::Secret;

use crate::servicestack::authorization::Authorization;
use crate::servicestack::cookies::Brought;
use crate::servicestack::failure::Failure;
use crate::servicestack::message::Carried;
use crate::servicestack::refusal::failure;
use crate::servicestack::settings::{Provider, Settings};

/// What a proof is, and how it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Proof {
    /// The client that logins come through.
    Client,
    /// The operator's own secret.
    Operator,
    /// A name and a password in the header field.
    Basic,
    /// A key in the place of a name.
    NamedKey,
    /// A key where a token could stand.
    BearerKey,
    /// An access token that was shown on purpose.
    Access,
    /// An access token that a browser has kept.
    AccessCookie,
    /// A refresh token, however it came.
    Refresh,
    /// The id of a session, by a cookie or a field.
    Session,
}

/// What a request shows, in the order in which it counts.
#[derive(Debug, Default)]
pub(super) struct Shown {
    /// What each is.
    pub(super) proofs: Vec<Proof>,
    /// The same, for the core.
    pub(super) credentials: Vec<Credential>,
}

impl Shown {
    /// Collects it, and says whether the header field is meant to be a proof and cannot be read.
    pub(super) fn of(settings: &Settings, authorization: &Authorization, carried: &Carried, brought: &Brought) -> (Shown, bool) {
        let mut shown = Shown::default();
        shown.push(Proof::Client, Credential::Client { id: Some(settings.client.clone()), secret: None });
        let has = |provider| settings.has(provider);
        let mut broken = false;
        if let Some(token) = carried.field_token.as_ref().filter(|_| has(Provider::Jwt)) {
            shown.push(Proof::Access, access(token.clone()));
        }
        if let Some(key) = carried.field_key.as_ref().filter(|_| has(Provider::ApiKey)) {
            // A key by its own name is known to be meant for one.
            shown.push(Proof::NamedKey, Credential::ApiKey(key.clone()));
        }
        if let Some(token) = &carried.bearer_token {
            shown.push_bearer(settings, token);
        }
        match authorization {
            Authorization::Basic(name, password) if has(Provider::Basic) => {
                shown.push(Proof::Basic, Credential::Password { name: name.clone(), password: password.clone() });
            }
            Authorization::Key(key) if has(Provider::ApiKey) => shown.push(Proof::NamedKey, Credential::ApiKey(key.clone())),
            Authorization::Bearer(token) => shown.push_bearer(settings, token),
            Authorization::Broken => broken = true,
            Authorization::Basic(..) | Authorization::Key(_) | Authorization::Nothing => {}
        }
        if shown.proofs.len() == 1 && has(Provider::Jwt) {
            if let Some(token) = brought.access() {
                shown.push(Proof::AccessCookie, kept(token, TokenKind::Access));
            }
            let refresh = carried.refresh_token.clone().map(Credential::Refresh);
            if let Some(token) = refresh.or_else(|| brought.refresh().map(|token| kept(token, TokenKind::Refresh))) {
                shown.push(Proof::Refresh, token);
            }
        }
        if let Some(session) = brought.session() {
            // The core passes over a session behind another proof.
            let place = if brought.claims_session() { 1 } else { shown.proofs.len() };
            shown.proofs.insert(place, Proof::Session);
            shown.credentials.insert(place, Credential::Cookie(Secret::new(session)));
        }
        if let Some(secret) = &carried.operator_secret {
            shown.proofs.insert(1, Proof::Operator);
            shown.credentials.insert(1, Credential::OperatorSecret(secret.clone()));
        }
        (shown, broken)
    }

    /// The access token among it.
    pub(super) fn access(&self) -> Option<Secret> {
        self.credentials.iter().find_map(|credential| match credential {
            Credential::Token { any_of, kind: TokenKind::Access } => any_of.first().cloned(),
            Credential::Kept { token, kind: TokenKind::Access } => Some(token.clone()),
            _ => None,
        })
    }

    /// What has three parts may be a token; everything else is a key.
    fn push_bearer(&mut self, settings: &Settings, token: &Secret) {
        let dots = token.expose().iter().filter(|byte| **byte == b'.').count();
        if dots == 2 && settings.has(Provider::Jwt) {
            self.push(Proof::Access, access(token.clone()));
        } else if settings.has(Provider::ApiKey) {
            self.push(Proof::BearerKey, Credential::ApiKey(token.clone()));
        }
    }

    fn push(&mut self, proof: Proof, credential: Credential) {
        self.proofs.push(proof);
        self.credentials.push(credential);
    }
}

/// Whether a secret was shown that tokens are given for, if it is good.
pub(super) fn may_earn_tokens(proofs: &[Proof]) -> bool {
    proofs.iter().any(|proof| is_secret(*proof))
}

/// Whether one was good. Otherwise whoever speaks is known by what a browser has kept, and earns nothing by a wrong secret beside it.
pub(super) fn earns_tokens(proofs: &[Proof], caller: &Caller) -> bool {
    let has_failed = |place: usize| caller.failed.iter().any(|(other, _)| *other == place);
    proofs.iter().enumerate().any(|(place, proof)| is_secret(*proof) && !has_failed(place))
}

/// Whether something was shown that no browser sends by itself.
pub(super) fn is_shown(proofs: &[Proof]) -> bool {
    proofs.iter().any(|proof| is_secret(*proof) || *proof == Proof::Access)
}

fn is_secret(proof: Proof) -> bool {
    matches!(proof, Proof::Basic | Proof::NamedKey | Proof::BearerKey)
}

/// A token that a browser has kept.
pub(super) fn kept(token: &str, kind: TokenKind) -> Credential {
    Credential::Kept { token: Secret::new(token), kind }
}

fn access(token: Secret) -> Credential {
    Credential::Token { any_of: vec![token], kind: TokenKind::Access }
}

/// The first thing that is wrong with what was shown, where somebody must be let through. What a browser has kept is nothing
/// wrong where somebody was recognised all the same.
pub(super) fn fault(proofs: &[Proof], caller: &Caller) -> Option<Failure<'static>> {
    caller.failed.iter().find_map(|(place, refusal)| {
        let proof = proofs.get(*place).copied()?;
        let kept = matches!(proof, Proof::AccessCookie | Proof::Refresh | Proof::Session);
        said(proof, refusal).filter(|_| !kept || caller.principal.is_none())
    })
}

/// Which of the token cookies are no good.
pub(super) fn stale(proofs: &[Proof], caller: &Caller) -> impl Iterator<Item = Proof> {
    let is_no_good = |(place, refusal): &(usize, Refusal)| proofs.get(*place).copied().filter(|_| refusal.is_about_the_proof());
    let failed: Vec<Proof> = caller.failed.iter().filter_map(is_no_good).collect();
    failed.into_iter().filter(|proof| matches!(proof, Proof::AccessCookie | Proof::Refresh))
}

/// What is said of a proof that is no good. `None`: nothing, it is as if it had not been shown.
fn said(proof: Proof, refusal: &Refusal) -> Option<Failure<'static>> {
    Some(match (proof, refusal) {
        (Proof::Client | Proof::Session, _) => return None,
        (Proof::Operator, Refusal::InvalidCredentials) => return None,
        // It may be meant for another provider.
        (Proof::BearerKey | Proof::Access | Proof::AccessCookie | Proof::Refresh, Refusal::InvalidCredentials) => return None,
        (Proof::Refresh, refusal) if refusal.is_about_the_proof() => return None,
        (Proof::NamedKey, Refusal::InvalidCredentials) => Failure::UnknownKey,
        (Proof::NamedKey | Proof::BearerKey, Refusal::Expired) => Failure::KeyExpired,
        (Proof::NamedKey | Proof::BearerKey, Refusal::Revoked) => Failure::KeyCancelled,
        (Proof::NamedKey | Proof::BearerKey, Refusal::AccountGone) => Failure::KeyAccountGone,
        (Proof::NamedKey | Proof::BearerKey, Refusal::InsecureTransport) => Failure::InsecureKey,
        (Proof::Access | Proof::AccessCookie | Proof::Refresh, Refusal::InsecureTransport) => Failure::InsecureToken,
        (_, refusal) => failure(refusal, ""),
    })
}
