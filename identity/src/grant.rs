//! From a proof to a grant: scopes, the commit, the attachment. And from a token to its session, by the same steps.
//!
//! What a peer is told is on disk before it is told, and a grant that cannot be told in time is taken back. Nothing here
//! compares a secret, and nothing knows how a wire tells a grant. Last, the tokens that tell a service behind a gate who is
//! there: these are signed, and about a grant that stands.

use std::net::IpAddr;
use std::sync::Arc;

use tokio::sync::MutexGuard;

use crate::Core;
use crate::account::{Account, AccountId, Client};
use crate::audit::AuditEntry;
use crate::clock::Timestamp;
use crate::command::{Binding, Context, GrantRequest, ProviderName};
use crate::credential::{About, Credential, Proof};
use crate::keyring::Purpose;
use crate::live::served::{Served, Untold};
use crate::live::{Attach, Attachment, Found};
use crate::policy::{carries_secure_scopes, may_enter};
use crate::provider::{Provider, ProviderKind};
use crate::refusal::Refusal;
use crate::reply::{Granted, IssuedToken, Method, NewToken, Principal, TokenKind};
use crate::scope::{ScopeRequest, Scopes, resolve};
use crate::secret::Secret;
use crate::session::{OnReuse, Session, SessionId};
use crate::store::{NewSession, Redeemed, Roll, Token, TokenHash, Written};
use crate::throttle::Key;
use crate::token::{hash, issue, session_id, standing};
use crate::unasked::{Late, Work, Writing};

/// What the commit of a grant leaves for the driver.
pub(crate) struct Grant {
    pub(crate) granted: Granted,
    pub(crate) attachment: Option<Attachment>,
    pub(crate) held: HeldEvents,
}

impl Grant {
    /// Facts about whoever is good for one request.
    pub(crate) fn for_once(principal: Principal) -> Grant {
        Grant::without_session(Granted { principal: Arc::new(principal), tokens: Vec::new() })
    }

    /// What rests on no session: there is nothing to attach, and nothing to take back.
    pub(crate) fn without_session(granted: Granted) -> Grant {
        Grant { granted, attachment: None, held: HeldEvents::nothing() }
    }
}

impl Core {
    /// Begins a session for what was proved. It takes the place of one whose cookie is presented, whoever's that is.
    pub(crate) async fn start(
        self: &Arc<Core>,
        proof: Proof,
        presented: &[Credential],
        request: &GrantRequest,
        context: &Context,
        about: &mut About,
    ) -> Result<Grant, Refusal> {
        let now = self.clock.now();
        let Proof { provider, method, account, client, rehashed, rehashed_secret, redeems } = proof;
        // Kept with the session, so that a restore is no wider than the grant was.
        let requested = redeems.as_ref().map_or_else(|| request.scope.clone(), |grant| request.scope.within(&grant.scopes));
        let scopes = self.scopes(account.as_ref(), Some(&client), &requested, self.carries(context))?;
        // Until it is let go, a second use of the grant waits: who came first has a session to be told of before that ends.
        let _turn = match &redeems {
            Some(grant) => Some(self.by(context, self.turn(&grant.hash)).await?),
            None => None,
        };
        let replaced_by_cookie = self.presented_session(presented, context).await?;
        let id = session_id(now, &*self.entropy);
        about.session = Some(id);
        let session = Session {
            id,
            gate: context.gate.to_owned(),
            provider,
            account: account.as_ref().map(|account| account.id),
            client: client.id.clone(),
            requested,
            spelling: request.spelling.unwrap_or_default(),
            source: context.peer.address,
            started_at: now,
            used_at: now,
            expires_at: self.settings().sessions.session_ends(now, request.binding),
            ended: None,
        };
        let issued = match request.binding {
            Binding::Cookie { remember } | Binding::Tokens { remember } => Some(self.issue_cookie(context, &session, remember)?),
            Binding::Connection if client.receives_token => Some(self.issue(context, id, None, now)?),
            Binding::Connection | Binding::Request | Binding::TokenCookies => None,
        };
        let new = NewSession {
            session: session.clone(),
            token: issued.as_ref().map(|(_, token, _)| token.clone()),
            account_version: account.as_ref().map(|account| account.version),
            account_cut_off: account.as_ref().map(|account| account.cut_off).unwrap_or_default(),
            client_version: client.version,
            rehashed,
            rehashed_secret,
            replaces: replaced_by_cookie.map(|old| {
                let about =
                    About { attempt: about.attempt, account: old.account, client: Some(old.client.clone()), ..About::default() };
                (old.id, self.entry(now, "replace", context, &about))
            }),
            audit: self.entry(now, "login", context, about),
        };
        let replaces = new.replaces.is_some();
        let principal = self.principal(&session, account.as_ref(), &client, scopes, (method, now));
        let versions = (new.account_version, new.client_version);
        let replaced = context.connection.and_then(|connection| self.live.held_by(connection));
        self.live.begin(session.clone(), account, client, new.token.clone());
        let redeems = redeems.map(|grant| (grant.hash, self.entry(now, "reuse", context, about)));
        if let Err(refusal) = self.commit(new, redeems, context).await {
            self.live.forget(id);
            if refusal == Refusal::Revoked {
                // The grant was spent already, so this session has never been.
                about.session = None;
            }
            return Err(refusal);
        }
        let mut held = HeldEvents { core: Some(Arc::clone(self)), started: Some(id), replaced: None, trim: None, terminal: None };
        if replaces {
            let followed = async {
                self.changed().await;
                Ok(())
            };
            self.by(context, followed).await?;
        }
        let told = issued.as_ref().map(|(_, token, _)| token.hash);
        let (attachment, principal) = match (told, context.connection) {
            (Some(cookie), None) => (None, Arc::new(self.as_begun(&cookie, principal, context)?)),
            _ => self.attach(Arc::new(principal), told, versions, context)?,
        };
        held.replaced = replaced.filter(|old| old.account == session.account && old.client == session.client).map(|old| old.id);
        if let Some(account) = session.account {
            self.throttle.mark_familiar(self.steady(), context.peer.address, account);
            held.trim = self.settings().sessions.max_sessions.map(|_| (account, context.gate));
        }
        let tokens = issued.into_iter().map(|(secret, token, kind)| told_token(kind, secret, &token)).collect();
        Ok(Grant { granted: Granted { principal, tokens }, attachment, held })
    }

    /// Takes a session up again by one of its tokens, and rolls the token.
    pub(crate) async fn restore(
        self: &Arc<Core>,
        provider: Option<&ProviderName>,
        any_of: &[Secret],
        request: &GrantRequest,
        context: &Context,
        about: &mut About,
    ) -> Result<Grant, Refusal> {
        let source = Key::TokenSource(context.peer.address);
        self.throttle.check(self.steady(), &source)?;
        let mut result = match self.providers().find(provider) {
            Ok(Provider { name, kind: ProviderKind::Token(issuers), .. }) => {
                self.borrow(name, issuers, any_of, request, context, about).await.map(Some)
            }
            _ => self.restore_once(provider, any_of, request, context, about).await,
        };
        if matches!(result, Ok(None)) {
            // Something changed between the look and the write. The feed says what; the second look sees it.
            self.by(context, self.follow()).await?;
            result = self.restore_once(provider, any_of, request, context, about).await;
        }
        let result = result.and_then(|grant| grant.ok_or(Refusal::Revoked));
        let is_no_good = |refusal: &Refusal| {
            use Refusal::{Expired, InvalidCredentials, NotYetValid, Revoked, UnknownProvider, WrongAudience};
            matches!(refusal, InvalidCredentials | UnknownProvider | Expired | Revoked | NotYetValid | WrongAudience)
        };
        if result.as_ref().is_err_and(is_no_good) {
            self.throttle.count(self.steady(), &source);
        }
        result
    }

    /// `None`: what was looked at changed before it could be written.
    async fn restore_once(
        self: &Arc<Core>,
        provider: Option<&ProviderName>,
        any_of: &[Secret],
        request: &GrantRequest,
        context: &Context,
        about: &mut About,
    ) -> Result<Option<Grant>, Refusal> {
        let providers = self.providers();
        let provider = providers.local(provider)?;
        self.by(context, self.fresh()).await?;
        let now = self.clock.now();
        let (presented, found) = self.by(context, self.look_up(any_of, now)).await?;
        let session = &found.session;
        (about.session, about.account, about.client) = (Some(session.id), session.account, Some(session.client.clone()));
        // A cookie restores nothing: it would begin to roll.
        if session.gate != context.gate || session.provider != provider.name || session.expires_at.is_some() {
            return Err(Refusal::InvalidCredentials);
        }
        if self.settings().sessions.is_over(found.used_at, now) {
            return Err(Refusal::Expired);
        }
        let overlap = self.settings().sessions.overlap;
        if let Err(refusal) = standing(&found.token, overlap, now) {
            if refusal == Refusal::Revoked && self.settings().sessions.on_reuse == OnReuse::End {
                let entry = self.entry(now, "reuse", context, about);
                let ending = async {
                    self.store.end_descendants(found.token.hash, entry).await?;
                    self.changed().await;
                    Ok(())
                };
                self.by(context, ending).await?;
            }
            return Err(refusal);
        }
        let (account, client) = (found.account.as_deref(), &*found.client);
        may_enter(account, Some(client), now)?;
        let scopes = self.scopes(account, Some(client), &session.requested, self.carries(context))?;
        self.settings().sessions.may_attach(self.live.connections(session.id, context.connection))?;
        let mut principal = self.principal(session, account, client, scopes, (Method::Token, now));
        principal.spelling = request.spelling.unwrap_or(session.spelling);
        let Some((told, token)) = self.roll(&found, presented, context, now).await? else { return Ok(None) };
        let versions = (account.map(|account| account.version), client.version);
        let (attachment, principal) = match self.attach(Arc::new(principal), told, versions, context) {
            Ok(attached) => attached,
            Err(refusal) => {
                told.iter().for_each(|told| self.live.let_loose(told));
                return Err(refusal);
            }
        };
        self.audit.note(self.entry(now, "restore", context, about));
        let tokens = token.into_iter().collect();
        Ok(Some(Grant { granted: Granted { principal, tokens }, attachment, held: HeldEvents::nothing() }))
    }

    /// Writes the successor of the token presented. While the store cannot write, the token is given back as it is: it is on
    /// disk already. `None`: what was looked at has changed.
    async fn roll(
        &self,
        found: &Found,
        presented: &Secret,
        context: &Context,
        now: Timestamp,
    ) -> Result<Option<(Option<TokenHash>, Option<IssuedToken>)>, Refusal> {
        if !found.client.receives_token {
            return Ok(Some((None, None)));
        }
        let (secret, successor, kind) = self.issue(context, found.session.id, Some(found.token.hash), now)?;
        let roll = Roll {
            session: found.session.id,
            presented: found.token.hash,
            supersedes: found.token.parent,
            given_up: self.live.given_up(&found.token, context.connection),
            successor: successor.clone(),
            at: now,
            account_version: found.account.as_ref().map(|account| account.version),
            client_version: found.client.version,
        };
        self.live.begin_token(successor.clone(), context.connection);
        let store = Arc::clone(&self.store);
        let mut write: Writing = {
            let roll = roll.clone();
            Box::pin(async move { store.roll(roll).await })
        };
        let written = tokio::select! {
            biased;
            written = &mut write => written,
            () = self.clock.sleep_until(context.deadline) => {
                // Its successor is never told, and its branch ends where it began; what it superseded must be known here all the same.
                self.unasked.late(Late::Roll(Box::new(roll)), write);
                return Err(Refusal::TimedOut);
            }
        };
        match written {
            Ok(Written::Done) => {
                self.live.rolled(&roll);
                Ok(Some((Some(successor.hash), Some(told_token(kind, secret, &successor)))))
            }
            Ok(Written::Stale) => {
                self.live.forget_token(&successor.hash);
                Ok(None)
            }
            Err(error) => {
                self.live.forget_token(&successor.hash);
                tracing::warn!(error = %error.0, "a token is given back as it is, since the store cannot write: {error}");
                Ok(Some((Some(found.token.hash), Some(told_token(kind, presented.clone(), &found.token)))))
            }
        }
    }

    /// The first of the readings that is a token of ours, from memory or from the store.
    pub(crate) async fn look_up<'a>(&self, any_of: &'a [Secret], now: Timestamp) -> Result<(&'a Secret, Found), Refusal> {
        for secret in any_of {
            let hash = hash(secret);
            if self.live.find(&hash, now).is_none() {
                self.load(&hash, now).await?;
            }
            if let Some(found) = self.live.find(&hash, now) {
                return Ok((secret, found));
            }
        }
        Err(Refusal::InvalidCredentials)
    }

    /// Takes the session of a token into memory, if there is one. What was read is taken in only while the feed stands where it
    /// stood before: what it said meanwhile would otherwise be undone.
    async fn load(&self, hash: &TokenHash, now: Timestamp) -> Result<(), Refusal> {
        let overlap = i64::try_from(self.settings().sessions.overlap.as_millis()).unwrap_or(0);
        let since = Timestamp::from_millis(now.millis() - overlap);
        loop {
            let before = *self.feed.lock().await;
            let Some(stored) = self.store.session_by_token(hash, since).await? else { return Ok(()) };
            let account = match stored.session.account {
                Some(id) => Some(self.store.account(id).await?.ok_or(Refusal::Revoked)?),
                None => None,
            };
            let client = self.store.client(&stored.session.client).await?.ok_or(Refusal::Revoked)?;
            let feed = self.feed.lock().await;
            if *feed == before {
                self.live.load(stored, account, client, now);
                return Ok(());
            }
        }
    }

    /// Holds one of the places where grants are redeemed; two of one code share a place.
    pub(crate) async fn turn(&self, grant: &TokenHash) -> Result<MutexGuard<'_, ()>, Refusal> {
        Ok(self.turns[usize::from(grant[0]) % self.turns.len()].lock().await)
    }

    /// Writes a new session by the deadline, or makes sure that it does not stand. Where it redeems a grant, the line beside
    /// the grant's hash is for the case that it was spent before.
    async fn commit(&self, new: NewSession, redeems: Option<(TokenHash, AuditEntry)>, context: &Context) -> Result<(), Refusal> {
        let (id, store) = (new.session.id, Arc::clone(&self.store));
        let mut write = Box::pin(async move {
            match redeems {
                Some((grant, reuse)) => store.redeem(grant, new, reuse).await,
                None => Ok(match store.start_session(new).await? {
                    Written::Done => Redeemed::Done,
                    Written::Stale => Redeemed::Stale,
                }),
            }
        });
        let written = tokio::select! {
            biased;
            written = &mut write => written?,
            () = self.clock.sleep_until(context.deadline) => {
                let begun: Writing = Box::pin(async move {
                    Ok(match write.await? {
                        Redeemed::Done => Written::Done,
                        Redeemed::Stale | Redeemed::Spent => Written::Stale,
                    })
                });
                self.unasked.late(Late::Session(id), begun);
                return Err(Refusal::TimedOut);
            }
        };
        match written {
            Redeemed::Done => {}
            Redeemed::Stale => {
                tracing::warn!("an account or client changed while somebody logged in with it; the login was not begun");
                return Err(Refusal::Unavailable);
            }
            Redeemed::Spent => {
                self.throttle.count(self.steady(), &Key::TokenSource(context.peer.address));
                let told = async {
                    self.changed().await;
                    Ok(())
                };
                self.by(context, told).await?;
                return Err(Refusal::Revoked);
            }
        }
        if self.clock.instant() >= context.deadline {
            self.unasked.at(self.clock.instant(), Work::Undo(id));
            return Err(Refusal::TimedOut);
        }
        Ok(())
    }

    pub(crate) fn attach(
        &self,
        principal: Arc<Principal>,
        told: Option<TokenHash>,
        (account_version, client_version): (Option<u64>, u64),
        context: &Context,
    ) -> Result<(Option<Attachment>, Arc<Principal>), Refusal> {
        let Some(connection) = context.connection else { return Ok((None, principal)) };
        let Some(session) = principal.session else { return Ok((None, principal)) };
        let secure = self.carries(context);
        let attach = Attach { session, connection, secure, principal, told, account_version, client_version };
        let anew = |session: &Session, account: Option<&Account>, client: &Client, secure: bool, was: &Principal| {
            self.anew(session, account, client, secure, was)
        };
        let (attachment, principal) = self.live.attach(attach, &anew)?;
        Ok((Some(attachment), principal))
    }

    /// What a connection now is, given what has changed behind it; never more time than it had.
    pub(crate) fn anew(
        &self,
        session: &Session,
        account: Option<&Account>,
        client: &Client,
        secure: bool,
        was: &Principal,
    ) -> Option<Principal> {
        let now = self.clock.now();
        may_enter(account, Some(client), now).ok()?;
        let scopes = self.scopes(account, Some(client), &session.requested, secure).ok()?;
        let principal = self.principal(session, account, client, scopes, (was.method, now));
        Some(Principal { spelling: was.spelling, expires_at: was.expires_at.min(principal.expires_at), ..principal })
    }

    pub(crate) fn scopes(
        &self,
        account: Option<&Account>,
        client: Option<&Client>,
        requested: &ScopeRequest,
        secure: bool,
    ) -> Result<Scopes, Refusal> {
        let nothing = Scopes::default();
        let carried = client.map(|client| &client.scopes);
        let held = account.map(|account| &account.scopes).or(carried).unwrap_or(&nothing);
        // What comes through no client is not narrowed by one.
        resolve(&self.settings().scopes, requested, held, carried.unwrap_or(held), secure)
    }

    pub(crate) fn principal(
        &self,
        session: &Session,
        account: Option<&Account>,
        client: &Client,
        scopes: Scopes,
        (method, now): (Method, Timestamp),
    ) -> Principal {
        let ends = account.and_then(|account| account.expires_at);
        let expires_at = match session.expires_at {
            Some(end) => [Some(end), ends, client.expires_at].into_iter().flatten().min(),
            None => Some(self.settings().sessions.connection_ends(now, ends, client.expires_at)),
        };
        Principal {
            session: Some(session.id),
            account: account.map(|account| Arc::new(account.summary())),
            client: Some(client.id.clone()),
            scopes,
            rights: account.map(|account| account.rights.clone()).unwrap_or_default(),
            terminal: None,
            provider: Some(ProviderName(session.provider.clone())),
            method,
            spelling: session.spelling,
            expires_at,
        }
    }

    fn issue(&self, context: &Context, session: SessionId, parent: Option<TokenHash>, now: Timestamp) -> Result<Issued, Refusal> {
        let (secret, hash) = issue(|random| NewToken::Restore { random }, |token| self.spell(context.gate, token), &*self.entropy)?;
        let expires_at = self.settings().sessions.token_ends(now);
        let token = Token { hash, session, parent, issued_at: now, expires_at, presented_at: None, superseded_at: None };
        Ok((secret, token, TokenKind::Restore))
    }

    /// The cookie of a session that is about to begin: it is good as long as the session is.
    fn issue_cookie(&self, context: &Context, session: &Session, remember: bool) -> Result<Issued, Refusal> {
        let (secret, hash) = issue(|random| NewToken::Cookie { random }, |token| self.spell(context.gate, token), &*self.entropy)?;
        let issued_at = session.started_at;
        let expires_at = session.expires_at.unwrap_or(issued_at);
        let session = session.id;
        let token = Token { hash, session, parent: None, issued_at, expires_at, presented_at: None, superseded_at: None };
        Ok((secret, token, TokenKind::Cookie { remember }))
    }

    /// The session whose cookie is presented with a login, if it stands.
    async fn presented_session(&self, presented: &[Credential], context: &Context) -> Result<Option<Arc<Session>>, Refusal> {
        for shown in presented {
            if let Credential::Cookie(cookie) = shown
                && let Some(found) = self.by_cookie(cookie, context).await?
            {
                return Ok(Some(found.session));
            }
        }
        Ok(None)
    }

    /// What somebody now is whose session was just begun without a connection: as memory has it by now.
    fn as_begun(&self, token: &TokenHash, was: Principal, context: &Context) -> Result<Principal, Refusal> {
        let now = self.clock.now();
        let found = self.live.find(token, now).ok_or(Refusal::Revoked)?;
        let (account, client) = (found.account.as_deref(), &*found.client);
        self.anew(&found.session, account, client, self.carries(context), &was).ok_or(Refusal::Revoked)
    }

    /// Tokens about whoever the connection holds now, from memory alone: they are worth what the connection itself is worth, and
    /// whatever takes the session from it takes these, at the same moment. They prolong nothing.
    ///
    /// The audit has no line for them. That somebody came in stands there already, a token ends within a minute, and how many
    /// there are is how often a service behind a gate was connected to, which says nothing of who did what.
    pub(crate) fn issue_to_holder(&self, kinds: Vec<TokenKind>, context: &Context) -> Result<Granted, Refusal> {
        if context.terminal.is_some() {
            return self.issue_at_terminal(&kinds, context);
        }
        let now = self.clock.now();
        let held = context.connection.and_then(|connection| self.live.principal_of(connection, now));
        let principal = held.ok_or(Refusal::LoginRequired)?;
        let issue = |kind| self.issue_signed(kind, &principal, context, now);
        let tokens = kinds.into_iter().map(issue).collect::<Result<Vec<IssuedToken>, Refusal>>()?;
        Ok(Granted { principal, tokens })
    }

    pub(crate) fn issue_signed(
        &self,
        kind: TokenKind,
        principal: &Principal,
        context: &Context,
        now: Timestamp,
    ) -> Result<IssuedToken, Refusal> {
        let expires_at = self.settings().sessions.upstream_ends(now, principal.expires_at);
        let settings = self.settings();
        let issuer = &settings.issuer;
        let spelled = match &kind {
            TokenKind::Upstream { audience } => {
                self.spell(context.gate, &NewToken::Upstream { audience, issuer, principal, issued_at: now, expires_at })?
            }
            TokenKind::Restore | TokenKind::Cookie { .. } | TokenKind::Terminal(_) | TokenKind::Access | TokenKind::Refresh => {
                tracing::error!("a token was asked for that is not signed, or not about a connection");
                return Err(Refusal::Unavailable);
            }
        };
        let (typ, claims) = spelled.signed()?;
        let secret = self.keyring().sign(Purpose::Own, typ, &claims).ok_or(Refusal::Unavailable)?;
        Ok(IssuedToken { kind, secret, expires_at: Some(expires_at) })
    }

    pub(crate) fn carries(&self, context: &Context) -> bool {
        carries_secure_scopes(self.settings().requires_secure(context.gate), &context.peer)
    }

    /// A line of the audit about this attempt.
    pub(crate) fn entry(&self, at: Timestamp, action: &'static str, context: &Context, about: &About) -> AuditEntry {
        AuditEntry {
            account: about.account,
            client: about.client.clone(),
            session: about.session,
            attempt: about.attempt,
            name: about.shown_name(),
            source: Some(shown(context.peer.address)),
            ..AuditEntry::new(at, action, context.gate)
        }
    }
}

fn shown(address: IpAddr) -> String {
    address.to_canonical().to_string()
}

/// A token that was drawn, what is kept of it, and what it is good for.
type Issued = (Secret, Token, TokenKind);

fn told_token(kind: TokenKind, secret: Secret, token: &Token) -> IssuedToken {
    IssuedToken { kind, secret, expires_at: Some(token.expires_at) }
}

/// What others learn once the answer has been handed over. Dropped instead of released, the answer was never told: then a
/// session that began with it is taken back, and displaces nobody.
#[derive(Default)]
#[must_use = "released once the answer has been handed over, or the grant is taken back"]
pub struct HeldEvents {
    core: Option<Arc<Core>>,
    started: Option<SessionId>,
    replaced: Option<SessionId>,
    trim: Option<(AccountId, &'static str)>,
    /// What others learn of a terminal.
    terminal: Option<Box<AtTerminal>>,
}

/// What others lose by an answer to a connection of a terminal; and what nobody knows if it is never told.
struct AtTerminal {
    served: Arc<Served>,
    untold: Untold,
    tokens: Vec<TokenHash>,
}

impl HeldEvents {
    /// Nothing is held.
    pub(crate) fn nothing() -> HeldEvents {
        HeldEvents::default()
    }

    /// As a terminal holds it back.
    pub(crate) fn of_terminal(served: &Arc<Served>, untold: Untold, tokens: Vec<TokenHash>) -> HeldEvents {
        if untold.is_nothing() && tokens.is_empty() {
            return HeldEvents::nothing();
        }
        let terminal = Some(Box::new(AtTerminal { served: Arc::clone(served), untold, tokens }));
        HeldEvents { core: None, started: None, replaced: None, trim: None, terminal }
    }

    /// Whether there is nothing to learn, and nothing to take back.
    pub fn is_nothing(&self) -> bool {
        self.core.is_none() && self.terminal.is_none()
    }

    /// Whether others learn something from it, or what becomes of it is for others. Nothing may overtake that. What is only taken
    /// back if it is never told, concerns nobody else.
    pub fn concerns_others(&self) -> bool {
        self.core.is_some() || self.terminal.as_ref().is_some_and(|terminal| !terminal.untold.is_nothing())
    }

    /// The answer has been handed over.
    pub fn release(mut self) {
        if let Some(terminal) = self.terminal.take() {
            terminal.untold.tell();
        }
        let Some(core) = self.core.take() else { return };
        self.started = None;
        let now = core.clock.instant();
        if let Some(session) = self.replaced.take() {
            core.unasked.at(now, Work::EndUnlessHeld(session));
        }
        if let Some((account, gate)) = self.trim.take() {
            core.unasked.at(now + core.settings().sessions.grace, Work::Trim(account, gate));
        }
    }
}

impl Drop for HeldEvents {
    fn drop(&mut self) {
        if let Some(terminal) = self.terminal.take() {
            let AtTerminal { served, untold, tokens } = *terminal;
            served.take_back(&tokens);
            // They have lost it all the same, and must know.
            untold.tell();
        }
        if let (Some(core), Some(session)) = (self.core.take(), self.started.take()) {
            core.unasked.at(core.clock.instant(), Work::Undo(session));
        }
    }
}

impl std::fmt::Debug for HeldEvents {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HeldEvents").field("started", &self.started).finish_non_exhaustive()
    }
}
