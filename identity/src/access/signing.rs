//! How access and refresh tokens are made: for whom, until when, what they rest on, and with which number.
//!
//! A token is signed for an account as it is in the store, since nothing would end one that was dated behind a cut-off.

use std::sync::Arc;
use std::time::Duration;

use super::{Basis, Behind, Use};
use crate::Core;
use crate::account::Account;
use crate::caller::Recognised;
use crate::clock::Timestamp;
use crate::command::{Context, GrantRequest};
use crate::credential::Credential;
use crate::family::Family;
use crate::keyring::Purpose;
use crate::policy::may_enter;
use crate::refusal::Refusal;
use crate::reply::{Answer, Granted, IssuedToken, Method, NewToken, Outcome, Principal, TokenKind};

/// How many numbers are reserved at once. What is left of them at a restart is never used.
const BLOCK: u64 = 1000;

impl Core {
    /// Tokens for whoever speaks. Where that is a session's cookie and the request is for token cookies, they take its place.
    pub(crate) async fn issue_to_caller(
        self: &Arc<Core>,
        presented: &[Credential],
        kinds: Vec<TokenKind>,
        request: &GrantRequest,
        context: &Context,
    ) -> Outcome {
        // What is told to a service behind a gate is nothing that whoever speaks could show the next time.
        let renews = !kinds.contains(&TokenKind::Access);
        let recognised = match self.recognise(presented, context).await {
            Ok(recognised) if renews => self.renewed(recognised, context).await,
            recognised => recognised,
        };
        let Recognised { caller, behind } = match recognised {
            Ok(recognised) => recognised,
            Err((caller, refusal)) => return Outcome::told(caller, Err(refusal)),
        };
        let result = match Core::somebody(&caller, presented) {
            Ok(principal) => self.issue_and_replace(principal, &behind, presented, kinds, request, context).await,
            Err(refusal) => Err(refusal),
        };
        Outcome::told(caller, result.map(Answer::Granted))
    }

    pub(crate) async fn issue_and_replace(
        self: &Arc<Core>,
        principal: Principal,
        behind: &Behind,
        presented: &[Credential],
        kinds: Vec<TokenKind>,
        request: &GrantRequest,
        context: &Context,
    ) -> Result<Granted, Refusal> {
        let tokens = self.issue_tokens(&principal, behind, kinds, context).await?;
        if request.binding.replaces_cookie() {
            self.end_cookies(presented, "replace", context).await?;
        }
        Ok(Granted { principal: Arc::new(principal), tokens })
    }

    /// Signs tokens about somebody. No refresh token is had for an access token or an API key: it would outlive by far what can be
    /// taken from whoever holds them; nor for a refresh token, which would never end, unless it rotates, and its family ends with
    /// its first one. So whoever asks for one goes without. What is had for something rests on what that rests on.
    pub(crate) async fn issue_tokens(
        &self,
        principal: &Principal,
        behind: &Behind,
        mut kinds: Vec<TokenKind>,
        context: &Context,
    ) -> Result<Vec<IssuedToken>, Refusal> {
        let rotates = self.settings().rotates_refresh(context.gate);
        let renews = match principal.method {
            Method::Access | Method::ApiKey => false,
            Method::Refresh => rotates,
            Method::Password
            | Method::ClientSecret
            | Method::Code
            | Method::Token
            | Method::Cookie
            // These have no account, and are refused what is signed for one.
            | Method::OperatorSecret
            | Method::Pin
            | Method::Unsecured => true,
        };
        kinds.retain(|kind| renews || *kind != TokenKind::Refresh);
        let family = match (rotates && kinds.contains(&TokenKind::Refresh), &behind.refresh) {
            (false, _) => None,
            (true, Some(shown)) => Some(self.by(context, self.present_in_family(shown, principal, context)).await?),
            (true, None) => Some(self.by(context, self.begin_family(principal)).await?),
        };
        let basis = family.as_ref().map(|family| Basis::Family(family.id)).or(behind.basis);
        let mut tokens = Vec::with_capacity(kinds.len());
        for kind in kinds {
            tokens.push(match (kind, &family) {
                (TokenKind::Access, _) => self.by(context, self.sign_for(principal, Use::Access, basis, context)).await?,
                (TokenKind::Refresh, Some(family)) => self.by(context, self.sign_present(principal, family, context)).await?,
                (TokenKind::Refresh, None) => self.by(context, self.sign_for(principal, Use::Refresh, basis, context)).await?,
                (other, _) => self.issue_signed(other, principal, context, self.clock.now())?,
            });
        }
        Ok(tokens)
    }

    /// The account that tokens are signed for, if what was proved still holds, and the moment that they bear: a whole second, as it
    /// is written, and none that a cut-off has left behind. It was taken before the account was read, so that a cut-off that is
    /// written meanwhile lies behind it.
    pub(crate) async fn to_be_signed_for(&self, principal: &Principal) -> Result<(Account, Timestamp), Refusal> {
        let now = self.clock.now();
        let id = principal.account.as_ref().and_then(|account| account.id).ok_or(Refusal::NotPermitted)?;
        let account = self.store.account(id).await?.ok_or(Refusal::Revoked)?;
        self.still_proved(principal, &account).await?;
        may_enter(Some(&account), None, now)?;
        if account.subject.contains('|') {
            tracing::error!(account = %id.0, "an id with a `|` in it is read back as another one, so no token is signed for it");
            return Err(Refusal::Unavailable);
        }
        let issued_at = Timestamp::from_millis(now.millis().div_euclid(1000) * 1000).max(account.cut_off);
        Ok((account, issued_at))
    }

    /// When a token of this life ends: never later than what it was had for.
    pub(crate) fn signed_ends(&self, life: Duration, principal: &Principal, account: &Account) -> Timestamp {
        let ends = [account.expires_at, principal.expires_at];
        ends.into_iter().flatten().fold(self.clock.now().after(life), Timestamp::min)
    }

    async fn sign_for(
        &self,
        principal: &Principal,
        what: Use,
        basis: Option<Basis>,
        context: &Context,
    ) -> Result<IssuedToken, Refusal> {
        let (account, issued_at) = self.to_be_signed_for(principal).await?;
        let settings = self.settings();
        let sessions = &settings.sessions;
        let life = match what {
            Use::Access => sessions.access_life,
            Use::Refresh => sessions.refresh_life,
        };
        let expires_at = self.signed_ends(life, principal, &account);
        let number = self.next_number().await?;
        let basis = basis.map(|basis| basis.text());
        let (audience, basis) = (&*settings.audience.audiences, basis.as_deref());
        let new = match what {
            Use::Access => NewToken::Access { principal, audience, number, issued_at, expires_at, basis },
            Use::Refresh => NewToken::Refresh { principal, audience, number: -number, issued_at, expires_at, basis },
        };
        self.sign(&new, what, expires_at, context).await
    }

    /// The present token of a family: the same text each time, while the same key signs.
    async fn sign_present(&self, principal: &Principal, family: &Family, context: &Context) -> Result<IssuedToken, Refusal> {
        let basis = Basis::Family(family.id).text();
        let new = NewToken::Refresh {
            principal,
            audience: &self.settings().audience.audiences,
            number: family.current,
            issued_at: family.issued_at,
            expires_at: family.expires_at,
            basis: Some(&basis),
        };
        self.sign(&new, Use::Refresh, family.expires_at, context).await
    }

    async fn sign(&self, new: &NewToken<'_>, what: Use, expires_at: Timestamp, context: &Context) -> Result<IssuedToken, Refusal> {
        let (typ, claims) = self.spell(context.gate, new)?.signed()?;
        if typ != what.typ() {
            tracing::error!(typ, "a gate has spelled a token of another type than it is");
            return Err(Refusal::Unavailable);
        }
        let keyring = self.keyring_for_tokens().await?;
        let secret = keyring.sign(Purpose::Tokens, typ, &claims).ok_or(Refusal::Unavailable)?;
        let kind = match what {
            Use::Access => TokenKind::Access,
            Use::Refresh => TokenKind::Refresh,
        };
        Ok(IssuedToken { kind, secret, expires_at: Some(expires_at) })
    }

    /// Whether what was proved still holds: what cuts an account off ends its sessions too, and whoever comes without one must
    /// have proved themselves under the cut-off that stands. A token is dated behind the cut-off, so nothing else would end it.
    async fn still_proved(&self, principal: &Principal, account: &Account) -> Result<(), Refusal> {
        let holds = match principal.session {
            Some(session) => self.store.session(session).await?.is_some_and(|session| session.ended.is_none()),
            None => principal.account.as_ref().is_some_and(|proved| proved.cut_off == account.cut_off),
        };
        if holds { Ok(()) } else { Err(Refusal::Revoked) }
    }

    /// A number that no token has had, not even before a restart.
    pub(crate) async fn next_number(&self) -> Result<i64, Refusal> {
        let mut numbers = self.numbers.lock().await;
        if numbers.is_empty() {
            let first = self.store.reserve("tokens", BLOCK).await?;
            *numbers = first..first.saturating_add(BLOCK);
        }
        numbers.next().and_then(|number| i64::try_from(number).ok()).ok_or(Refusal::Unavailable)
    }
}
