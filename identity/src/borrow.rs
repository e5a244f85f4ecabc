//! Sessions that rest on a token of somebody else's: from a signed token to a grant that ends with it.
//!
//! A borrowed session is in memory only. What the token says is verified at first sight and kept as long as the session is; after
//! a restart the token is verified again. An operator who ends such a session says so in the store, by the hash of what was signed,
//! and the token is no longer good here, although its issuer knows nothing of it.

use std::sync::Arc;

use crate::Core;
use crate::account::{AccountSummary, ClientId, Rights};
use crate::clock::Timestamp;
use crate::command::{Context, GrantRequest, ProviderName};
use crate::credential::About;
use crate::grant::{Grant, HeldEvents};
use crate::jwt::{Claims, Issuer, verify};
use crate::live::Lent;
use crate::refusal::Refusal;
use crate::reply::{Granted, IssuedToken, Method, Principal, TokenKind};
use crate::scope::{ScopeRequest, meant, resolve};
use crate::secret::Secret;
use crate::session::Session;
use crate::store::Token;
use crate::token::{self, hash, session_id};

impl Core {
    /// Takes a signed token for what it says. It is given back as it came, since it restores the session as well as any.
    pub(crate) async fn borrow(
        self: &Arc<Core>,
        provider: &str,
        issuers: &[Issuer],
        any_of: &[Secret],
        request: &GrantRequest,
        context: &Context,
        about: &mut About,
    ) -> Result<Grant, Refusal> {
        self.by(context, self.fresh()).await?;
        let now = self.clock.now();
        let (secret, (session, lent, token)) = self.by(context, self.lent(provider, issuers, any_of, context, now)).await?;
        about.session = Some(session.id);
        about.client = Some(session.client.clone());
        about.name = Some(lent.person.subject.clone());
        if session.gate != context.gate || session.provider != provider {
            return Err(Refusal::InvalidCredentials);
        }
        if now >= token.expires_at {
            return Err(Refusal::Expired);
        }
        // There is no client of ours that could narrow them.
        let scopes = resolve(&self.settings().scopes, &ScopeRequest::Maximum, &lent.scopes, &lent.scopes, self.carries(context))?;
        let principal = Arc::new(Principal {
            session: Some(session.id),
            account: Some(Arc::clone(&lent.person)),
            client: Some(session.client.clone()),
            scopes,
            // What somebody else's people may do is their own server's to say.
            rights: Rights::default(),
            terminal: None,
            provider: Some(ProviderName(session.provider.clone())),
            method: Method::Token,
            spelling: request.spelling.unwrap_or(session.spelling),
            expires_at: Some(self.settings().sessions.connection_ends(now, Some(token.expires_at), None)),
        });
        let held = context.connection.is_some_and(|connection| self.live.prolong(connection, &token.hash, &principal));
        let (attachment, principal) = match held {
            // Nothing is new but the end, and the audit has its line.
            true => (None, principal),
            false => {
                let attached = self.attach(principal, Some(token.hash), (None, 0), context)?;
                self.audit.note(self.entry(now, "borrow", context, about));
                attached
            }
        };
        let told = IssuedToken { kind: TokenKind::Restore, secret: secret.clone(), expires_at: Some(token.expires_at) };
        Ok(Grant { granted: Granted { principal, tokens: vec![told] }, attachment, held: HeldEvents::nothing() })
    }

    /// The first of the readings that is a good token, with the session that rests on it: seen before, or verified now.
    async fn lent<'a>(
        &self,
        provider: &str,
        issuers: &[Issuer],
        any_of: &'a [Secret],
        context: &Context,
        now: Timestamp,
    ) -> Result<(&'a Secret, (Arc<Session>, Arc<Lent>, Token)), Refusal> {
        for secret in any_of {
            if let Some(found) = self.live.find_lent(&hash(secret), now) {
                return Ok((secret, found));
            }
        }
        let mut refusal = Refusal::InvalidCredentials;
        for secret in any_of {
            match verify(issuers, secret.expose(), now) {
                Ok(claims) => {
                    self.first_sight(provider, secret, claims, context, now).await?;
                    let found = self.live.find_lent(&hash(secret), now).ok_or(Refusal::Revoked)?;
                    return Ok((secret, found));
                }
                // Of two readings the one that somebody has signed says why.
                Err(Refusal::InvalidCredentials) => {}
                Err(cause) => refusal = cause,
            }
        }
        Err(refusal)
    }

    /// Takes a token in that has verified, unless an operator has ended what rested on it. One at a time for one token, and not
    /// while the feed is being followed, so that its end is not overtaken.
    async fn first_sight(
        &self,
        provider: &str,
        secret: &Secret,
        claims: Claims,
        context: &Context,
        now: Timestamp,
    ) -> Result<(), Refusal> {
        let signed = token::hash(&Secret::new(signing_input(secret.expose())));
        let hash = hash(secret);
        let _feed = self.feed.lock().await;
        if self.store.is_revoked(&signed).await? {
            return Err(Refusal::Revoked);
        }
        if self.live.find_lent(&hash, now).is_some() {
            return Ok(());
        }
        let id = session_id(now, &*self.entropy);
        let (scopes, spelling) = meant(&self.settings().scopes, &claims.scopes.unwrap_or_default());
        let client = claims.client.as_deref().unwrap_or(&claims.issuer);
        let session = Session {
            id,
            gate: context.gate.to_owned(),
            provider: provider.to_owned(),
            account: None,
            client: ClientId::parse(client).map_err(|_| Refusal::InvalidCredentials)?,
            requested: ScopeRequest::Maximum,
            spelling: spelling.unwrap_or(0),
            source: context.peer.address,
            started_at: now,
            used_at: now,
            expires_at: None,
            ended: None,
        };
        let lent = Lent {
            signed,
            scopes,
            person: Arc::new(AccountSummary {
                id: None,
                issuer: Some(claims.issuer),
                name: claims.subject.clone(),
                subject: claims.subject,
                email: None,
                display_name: claims.name,
                first_name: None,
                last_name: None,
                profile_url: None,
                cut_off: Timestamp::default(),
            }),
        };
        let token = Token {
            hash,
            session: id,
            parent: None,
            issued_at: now,
            expires_at: claims.expires_at,
            presented_at: Some(now),
            superseded_at: None,
        };
        self.live.borrow(session, lent, token);
        Ok(())
    }
}

/// What the signature is over: everything before the last point (RFC 7515 section 5.1).
fn signing_input(token: &[u8]) -> &[u8] {
    token.iter().rposition(|byte| *byte == b'.').map_or(token, |point| &token[..point])
}
