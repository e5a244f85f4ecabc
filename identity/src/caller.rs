//! Who speaks: from what is presented to a principal, for questions that are about something else than a login.
//!
//! Each proof is looked at in the order in which it was presented, and the first that holds says who speaks. What is asked with
//! every request is answered from memory: the audit has no line for whoever is recognised again. A second proof of somebody else
//! makes nobody of both, since only one of them can have meant what is asked; a cookie is no such proof, because browsers send
//! along whatever was left in them.
//!
//! It refuses to know what is asked.

use std::sync::Arc;

use crate::Core;
use crate::access::{Basis, Behind, Use};
use crate::account::{Client, ClientId};
use crate::attempt::{Attempt, say};
use crate::clock::Timestamp;
use crate::command::{Binding, Context, GrantRequest, ProviderName};
use crate::counts::{Ending, Way};
use crate::credential::{About, Credential, Proof};
use crate::live::Found;
use crate::policy::{may_come_through, may_enter};
use crate::refusal::Refusal;
use crate::reply::{Answer, Caller, Granted, Method, Outcome, Principal, Reason, TokenKind};
use crate::scope::ScopeRequest;
use crate::secret::Secret;
use crate::session::Session;
use crate::store::{Rehashed, Which};
use crate::token::hash;

/// What a request that proves itself asks for: all that it can have, and nothing that lasts.
const FOR_ONCE: GrantRequest = GrantRequest { scope: ScopeRequest::Maximum, role: None, binding: Binding::Request, spelling: None };

/// Who speaks, and what stands behind them.
pub(crate) struct Recognised {
    pub(crate) caller: Caller,
    pub(crate) behind: Behind,
}

impl Core {
    /// Answers who speaks.
    pub(crate) async fn who_am_i(self: &Arc<Core>, presented: &[Credential], context: &Context) -> Outcome {
        let recognised = match self.recognise(presented, context).await {
            Ok(recognised) => self.renewed(recognised, context).await,
            nobody => nobody,
        };
        let caller = match recognised {
            Ok(Recognised { caller, .. }) => caller,
            Err((caller, refusal)) => return Outcome::told(caller, Err(refusal)),
        };
        let result =
            Core::somebody(&caller, presented).map(|principal| Granted { principal: Arc::new(principal), tokens: Vec::new() });
        Outcome::told(caller, result.map(Answer::Granted))
    }

    /// Who comes with a refresh token alone goes with an access token: the next request need not prove as much. And with its
    /// successor, where they rotate.
    pub(crate) async fn renewed(
        self: &Arc<Core>,
        mut recognised: Recognised,
        context: &Context,
    ) -> Result<Recognised, (Caller, Refusal)> {
        let Recognised { caller, behind } = &mut recognised;
        if let Some(principal) = caller.principal.as_ref().filter(|principal| principal.method == Method::Refresh) {
            let kinds = vec![TokenKind::Access, TokenKind::Refresh];
            match Box::pin(self.issue_tokens(principal, behind, kinds, context)).await {
                Ok(renewed) => caller.renewed = renewed,
                Err(refusal) => return Err((recognised.caller, refusal)),
            }
        }
        Ok(recognised)
    }

    /// Ends the sessions that are presented, else the one that the connection holds.
    pub(crate) async fn log_out(self: &Arc<Core>, presented: &[Credential], context: &Context) -> Outcome {
        Outcome::only(self.end_presented(presented, context).await.map(|()| Answer::Done))
    }

    async fn end_presented(&self, presented: &[Credential], context: &Context) -> Result<(), Refusal> {
        for shown in presented {
            let (any_of, what) = match shown {
                Credential::Token { any_of, kind: TokenKind::Access } => (any_of.as_slice(), Use::Access),
                Credential::Kept { token, kind: TokenKind::Access } => (std::slice::from_ref(token), Use::Access),
                Credential::Refresh(token) | Credential::Kept { token, kind: TokenKind::Refresh } => {
                    (std::slice::from_ref(token), Use::Refresh)
                }
                _ => continue,
            };
            self.by(context, self.revoke_shown(any_of, what, context)).await?;
        }
        if presented.is_empty() {
            let held = context.connection.and_then(|connection| self.live.held_by(connection));
            return self.end_each(held.into_iter().collect(), "logout", context).await;
        }
        self.end_cookies(presented, "logout", context).await
    }

    /// Ends the sessions whose cookies are presented.
    pub(crate) async fn end_cookies(
        &self,
        presented: &[Credential],
        action: &'static str,
        context: &Context,
    ) -> Result<(), Refusal> {
        self.by(context, self.fresh()).await?;
        let mut ending = Vec::new();
        for shown in presented {
            if let Credential::Cookie(cookie) = shown
                && let Some(found) = self.by_cookie(cookie, context).await?
            {
                ending.push(found.session);
            }
        }
        self.end_each(ending, action, context).await
    }

    async fn end_each(&self, sessions: Vec<Arc<Session>>, action: &'static str, context: &Context) -> Result<(), Refusal> {
        for session in sessions {
            let now = self.clock.now();
            let about = About { account: session.account, client: Some(session.client.clone()), ..About::default() };
            let entry = self.entry(now, action, context, &about);
            let end = async { Ok(self.store.end_sessions(Which::Session(session.id), Reason::Revoked, now, entry).await?) };
            self.by(context, end).await?;
            self.changed().await;
        }
        Ok(())
    }

    /// Looks at what was presented, and at the connection where nothing was.
    ///
    /// # Errors
    /// What must be heard whatever else was presented: that the server cannot tell now, or that two proofs name two people.
    pub(crate) async fn recognise(
        self: &Arc<Core>,
        presented: &[Credential],
        context: &Context,
    ) -> Result<Recognised, (Caller, Refusal)> {
        let mut caller = Caller::default();
        let mut behind = Behind::default();
        for (index, shown) in presented.iter().enumerate() {
            let known = caller.principal.is_some();
            let way = Way::of(shown);
            let mut about = About::default();
            let is_passed_over = match shown {
                // It says through what the others come, not who speaks.
                Credential::Client { .. } => true,
                Credential::Cookie(_) | Credential::Refresh(_) | Credential::Kept { .. } => known,
                Credential::OperatorSecret(_) => !self.has_operator_secret(),
                _ => false,
            };
            if is_passed_over {
                continue;
            }
            // What is compared, and so could be guessed, is an attempt; everything else is looked up.
            let is_compared = matches!(shown, Credential::Password { .. } | Credential::OperatorSecret(_));
            let attempt = is_compared.then(|| Attempt::begin(self, way, context));
            about.attempt = attempt.as_ref().map(|attempt| attempt.id);
            let found = match shown {
                Credential::Cookie(cookie) => self.recognise_cookie(cookie, context).await.map(with_nothing),
                Credential::Password { .. } => {
                    // Boxed: it is larger by far than what else may be presented.
                    let once = Box::pin(async {
                        let proof = self.prove(None, presented, shown, context, &mut about);
                        let proof = self.by(context, proof).await?;
                        self.once(proof, &FOR_ONCE, "request", context, &mut about).await
                    });
                    once.await.map(with_nothing)
                }
                Credential::TerminalToken { token, any_of } => self.recognise_terminal_token(token, any_of).map(with_nothing),
                Credential::OperatorSecret(secret) => match self.recognise_operator_secret(secret, &about, context) {
                    Ok(operator) => self.client_may_enter(presented, context).await.map(|()| with_nothing(operator)),
                    Err(refusal) => Err(refusal),
                },
                Credential::ApiKey(key) => {
                    let basis = Some(Basis::ApiKey(hash(key)));
                    match self.recognise_api_key(key, context).await {
                        Ok(who) => self.client_may_enter(presented, context).await.map(|()| (who, Behind { basis, refresh: None })),
                        Err(refusal) => Err(refusal),
                    }
                }
                Credential::Token { any_of, kind: TokenKind::Access } => {
                    self.by_signed(presented, any_of, (Use::Access, false), context, &mut about).await
                }
                Credential::Kept { token, kind: TokenKind::Access } => {
                    self.by_signed(presented, std::slice::from_ref(token), (Use::Access, true), context, &mut about).await
                }
                Credential::Refresh(token) => {
                    self.by_signed(presented, std::slice::from_ref(token), (Use::Refresh, false), context, &mut about).await
                }
                Credential::Kept { token, kind: TokenKind::Refresh } => {
                    self.by_signed(presented, std::slice::from_ref(token), (Use::Refresh, true), context, &mut about).await
                }
                // These begin or restore a session, and are worth nothing beside another question.
                Credential::Client { .. }
                | Credential::Token { .. }
                | Credential::Kept { .. }
                | Credential::Code { .. }
                | Credential::Terminal { .. }
                | Credential::Unsecured => Err(Refusal::InvalidCredentials),
            };
            let refusal = match (found, &caller.principal) {
                (Ok((principal, rest)), None) => {
                    self.looked_at(way, attempt, &about, context, None);
                    caller.principal = Some(principal);
                    behind = rest;
                    continue;
                }
                (Ok((principal, _)), Some(first)) if is_same(first, &principal) => {
                    self.looked_at(way, attempt, &about, context, None);
                    continue;
                }
                (Ok(_), Some(_)) => {
                    caller.principal = None;
                    Refusal::InvalidCredentials
                }
                (Err(refusal), _) => refusal,
            };
            let now = self.clock.now();
            // Whoever has no session shows some cookie all the same, with every request.
            let is_written_down = !matches!(shown, Credential::Cookie(_) | Credential::TerminalToken { .. });
            if is_written_down {
                about.attempt.get_or_insert_with(|| self.attempt_id());
            }
            self.looked_at(way, attempt, &about, context, Some(&refusal));
            let parted = known && caller.principal.is_none();
            if is_written_down && !parted && is_counted(shown, &refusal) {
                self.audit.refused(now, context, self.entry(now, "recognise", context, &about), &refusal);
            } else if is_written_down {
                let entry = |_| self.entry(now, "recognise", context, &about);
                self.audit.repeated_refusal(now, context, ("recognise", &refusal), None, entry);
            }
            let is_about_the_proof = refusal.is_about_the_proof();
            caller.failed.push((index, refusal.clone()));
            if parted || !is_about_the_proof {
                caller.principal = None;
                return Err((caller, refusal));
            }
        }
        if presented.is_empty() {
            let now = self.clock.now();
            let held = context.connection.and_then(|connection| self.live.principal_of(connection, now));
            caller.principal = held.map(Arc::unwrap_or_clone);
        }
        Ok(Recognised { caller, behind })
    }

    /// Counts what was shown with a request, and how that ended. Whoever is recognised again has no line anywhere.
    fn looked_at(&self, way: Way, attempt: Option<Attempt<'_>>, about: &About, context: &Context, refusal: Option<&Refusal>) {
        let action = match (way, refusal) {
            (_, Some(_)) => "recognise",
            (Way::OperatorSecret, None) => "operator_secret",
            (_, None) => "request",
        };
        match (attempt, about.attempt) {
            (Some(attempt), _) => attempt.end(action, about, refusal),
            (None, id) => {
                self.counts.count(context.gate, way, refusal.map_or(Ending::Granted, Refusal::ending));
                if let Some(id) = id {
                    say(action, (way, id), context, about, refusal, None);
                }
            }
        }
    }

    /// Whom a signed token speaks for, if the client that it came through may still come in: what was had through a client ends
    /// with it.
    async fn by_signed(
        &self,
        presented: &[Credential],
        any_of: &[Secret],
        how: (Use, bool),
        context: &Context,
        about: &mut About,
    ) -> Result<(Principal, Behind), Refusal> {
        let found = self.recognise_signed(any_of, how, context, about).await?;
        self.client_may_enter(presented, context).await?;
        Ok(found)
    }

    /// Whether the client that is presented, if one is, may still come in.
    pub(crate) async fn client_may_enter(&self, presented: &[Credential], context: &Context) -> Result<(), Refusal> {
        for shown in presented {
            if let Credential::Client { id: Some(id), .. } = shown {
                let client = self.by(context, self.client_in_force(id)).await?.ok_or(Refusal::InvalidClient)?;
                may_come_through(&client, self.clock.now())?;
            }
        }
        Ok(())
    }

    /// A client, from memory, where it is kept up by the feed, or from the store. As for sessions, what was read is taken in only
    /// while the feed stands where it stood before.
    async fn client_in_force(&self, id: &ClientId) -> Result<Option<Arc<Client>>, Refusal> {
        loop {
            if let Some(client) = self.live.client(id) {
                return Ok(Some(client));
            }
            let before = *self.feed.lock().await;
            let Some(client) = self.store.client(id).await? else { return Ok(None) };
            let feed = self.feed.lock().await;
            if *feed == before {
                return Ok(Some(self.live.keep_client(client)));
            }
        }
    }

    /// Who speaks; or why nobody does: what the first proof that failed was refused for. A cookie that is no good is no claim.
    pub(crate) fn somebody(caller: &Caller, presented: &[Credential]) -> Result<Principal, Refusal> {
        let is_claim = |index: &usize| !matches!(presented.get(*index), Some(Credential::Cookie(_)));
        match &caller.principal {
            Some(principal) => Ok(principal.clone()),
            None => {
                let claim = caller.failed.iter().find(|(index, _)| is_claim(index));
                Err(claim.map_or(Refusal::LoginRequired, |(_, refusal)| refusal.clone()))
            }
        }
    }

    async fn recognise_cookie(&self, cookie: &Secret, context: &Context) -> Result<Principal, Refusal> {
        let found = self.by_cookie(cookie, context).await?.ok_or(Refusal::InvalidCredentials)?;
        let now = self.clock.now();
        self.principal_by_cookie(&found, context, now)
    }

    /// What a session that a cookie speaks for is worth now.
    pub(crate) fn principal_by_cookie(&self, found: &Found, context: &Context, now: Timestamp) -> Result<Principal, Refusal> {
        let (account, client) = (found.account.as_deref(), &*found.client);
        may_enter(account, Some(client), now)?;
        let scopes = self.scopes(account, Some(client), &found.session.requested, self.carries(context))?;
        Ok(self.principal(&found.session, account, client, scopes, (Method::Cookie, now)))
    }

    /// The session that a cookie speaks for, if it does. It is not counted by the throttle: nobody guesses one, and whoever has
    /// no session sends along a text like it with every request.
    pub(crate) async fn by_cookie(&self, cookie: &Secret, context: &Context) -> Result<Option<Found>, Refusal> {
        self.by(context, self.fresh()).await?;
        let now = self.clock.now();
        let found = match self.by(context, self.look_up(std::slice::from_ref(cookie), now)).await {
            Ok((_, found)) => found,
            Err(Refusal::InvalidCredentials) => return Ok(None),
            Err(refusal) => return Err(refusal),
        };
        let stands = found.session.expires_at.is_some_and(|end| now < end) && found.session.gate == context.gate;
        Ok(Some(found).filter(|_| stands))
    }

    /// A principal for one request: nothing is begun, and nothing is told that would last.
    pub(crate) async fn once(
        &self,
        proof: Proof,
        request: &GrantRequest,
        action: &'static str,
        context: &Context,
        about: &mut About,
    ) -> Result<Principal, Refusal> {
        let Proof { provider, method, account, client, rehashed, rehashed_secret, redeems } = proof;
        if redeems.is_some() {
            tracing::error!("a code begins a session, and was to be good for one request only");
            return Err(Refusal::Unavailable);
        }
        self.by(context, self.still_stands(account.as_ref(), &client)).await?;
        let new = Rehashed {
            account: account.as_ref().zip(rehashed).map(|(account, hash)| (account.id, account.version, hash)),
            client: rehashed_secret.map(|hash| (client.id.clone(), client.version, hash)),
        };
        if new != Rehashed::default()
            && let Err(error) = self.by(context, async { Ok(self.store.rehash(new).await) }).await?
        {
            tracing::warn!(error = %error.0, "a password stays hashed under earlier settings, since the store cannot write: {error}");
        }
        let now = self.clock.now();
        let scopes = self.scopes(account.as_ref(), Some(&client), &request.scope, self.carries(context)).unwrap_or_default();
        let ends = [account.as_ref().and_then(|account| account.expires_at), client.expires_at];
        if let Some(account) = &account {
            self.throttle.mark_familiar(self.steady(), context.peer.address, account.id);
        }
        self.audit.note(self.entry(now, action, context, about));
        Ok(Principal {
            session: None,
            account: account.as_ref().map(|account| Arc::new(account.summary())),
            client: Some(client.id),
            scopes,
            rights: account.map(|account| account.rights).unwrap_or_default(),
            terminal: None,
            provider: Some(ProviderName(provider)),
            method,
            spelling: request.spelling.unwrap_or_default(),
            expires_at: ends.into_iter().flatten().min(),
        })
    }

    /// Whether account and client are still what the proof was compared with: a hash takes its time, and nothing else comes
    /// between a request and its answer.
    async fn still_stands(
        &self,
        account: Option<&crate::account::Account>,
        client: &crate::account::Client,
    ) -> Result<(), Refusal> {
        let account_stands = match account {
            Some(account) => self.store.account(account.id).await?.is_some_and(|now| now.version == account.version),
            None => true,
        };
        let client_stands = self.store.client(&client.id).await?.is_some_and(|now| now.version == client.version);
        if account_stands && client_stands {
            return Ok(());
        }
        tracing::warn!("an account or client changed while somebody proved themselves with it; the request was not let in");
        Err(Refusal::Unavailable)
    }
}

/// Whether the throttle counts this, so that nobody can have it without end. Of everything else a stranger may have a line in the
/// audit for each minute and not for each request: what a browser keeps and sends along, what we have signed and is over, a proof
/// whose provider there is not.
const fn is_counted(shown: &Credential, refusal: &Refusal) -> bool {
    match shown {
        Credential::Password { .. } | Credential::OperatorSecret(_) => true,
        Credential::ApiKey(_) => matches!(
            refusal,
            Refusal::InvalidCredentials
                | Refusal::Expired
                | Refusal::Revoked
                | Refusal::BelongsToNobody
                | Refusal::AccountGone
                | Refusal::AccountUnavailable
        ),
        Credential::Token { kind: TokenKind::Access, .. } | Credential::Refresh(_) => {
            matches!(refusal, Refusal::InvalidCredentials | Refusal::WrongAlgorithm { .. })
        }
        Credential::Token { .. }
        | Credential::Kept { .. }
        | Credential::Cookie(_)
        | Credential::TerminalToken { .. }
        | Credential::Client { .. }
        | Credential::Code { .. }
        | Credential::Terminal { .. }
        | Credential::Unsecured => false,
    }
}

fn with_nothing(principal: Principal) -> (Principal, Behind) {
    (principal, Behind::default())
}

/// Whether both are one person, or one client that speaks for itself.
fn is_same(one: &Principal, other: &Principal) -> bool {
    if one.terminal != other.terminal {
        return false;
    }
    match (&one.account, &other.account) {
        (Some(one), Some(other)) => one.id.is_some() && one.id == other.id,
        (None, None) => one.client == other.client,
        _ => false,
    }
}
