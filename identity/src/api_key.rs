//! API keys: texts that speak for an account by themselves, with each request, until they are cancelled or end.
//!
//! We draw them and keep a hash and the first few letters, so that people can tell them apart; the whole key is told once. One
//! that was seen before is known from memory, and whatever cancels it pushes it out. That a key is cancelled or has ended, or that its
//! account is gone, is told to whoever holds it only: to everybody else it is one that nobody made.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::Core;
use crate::account::{Account, AccountId, label};
use crate::admin::{Admin, Operator};
use crate::caller::Recognised;
use crate::clock::{Entropy, Timestamp, draw};
use crate::command::{Context, ProviderName};
use crate::credential::Credential;
use crate::live::{Kind, Known, MOST_MARKS};
use crate::policy::{may_enter, may_try_password};
use crate::provider::ProviderKind;
use crate::refusal::Refusal;
use crate::reply::{Answer, Method, Outcome, Principal, ToldApiKey};
use crate::scope::ScopeRequest;
use crate::secret::Secret;
use crate::store::{KeysWritten, NewApiKeys, TokenHash};
use crate::throttle::Key;
use crate::token::hash;

/// How many of a key's letters are kept: enough to tell keys apart, and 144 bits remain that nobody knows.
const PREFIX: usize = 8;
/// What all keys are that we make.
pub const SECRET: &str = "secret";

/// How many keys of one account may be in force. Of these none may be out of an operator's sight, so they are fewer than are
/// listed.
pub const MOST_API_KEYS: usize = 100;

/// How many keys an owner may have made within [`RENEWAL_SPAN`] and still renew theirs: each renewal is a write, and leaves a key
/// behind that is told to be cancelled.
const MOST_RENEWALS: usize = 20;
/// See [`MOST_RENEWALS`].
const RENEWAL_SPAN: Duration = Duration::from_secs(60 * 60);

/// A key, as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiKey {
    /// The SHA-256 of its text.
    pub hash: TokenHash,
    /// The first letters of its text.
    pub prefix: String,
    /// Whom it speaks for.
    pub owner: Owner,
    /// What it is to be used with, in the operator's words: `live`, `test`.
    pub environment: String,
    /// What kind of key it is: [`SECRET`].
    pub kind: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it ends, if it does.
    pub expires_at: Option<Timestamp>,
    /// When it was cancelled, if it was.
    pub cancelled_at: Option<Timestamp>,
}

/// Whose a key is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// An account's.
    Account(AccountId),
    /// An account's that was removed at this moment. Whose it was is not kept.
    Removed(Timestamp),
    /// Nobody's, ever: an application that people come from may hold such keys. It opens nothing, and whoever holds it is told.
    Nobody,
}

impl ApiKey {
    /// Draws a key: 24 bytes of chance as 32 letters.
    pub(crate) fn draw(
        account: AccountId,
        environment: &str,
        expires_at: Option<Timestamp>,
        now: Timestamp,
        entropy: &dyn Entropy,
    ) -> (Secret, ApiKey) {
        let random = zeroize::Zeroizing::new(draw::<24>(entropy));
        let text = zeroize::Zeroizing::new(URL_SAFE_NO_PAD.encode(random.as_slice()));
        let secret = Secret::new(text.as_bytes());
        let key = ApiKey {
            hash: hash(&secret),
            prefix: text.chars().take(PREFIX).collect(),
            owner: Owner::Account(account),
            environment: environment.to_owned(),
            kind: SECRET.to_owned(),
            created_at: now,
            expires_at,
            cancelled_at: None,
        };
        (secret, key)
    }

    /// Whether it still stands at `now`.
    ///
    /// # Errors
    /// [`Refusal::Revoked`] once it was cancelled, [`Refusal::Expired`] after its time.
    pub fn standing(&self, now: Timestamp) -> Result<(), Refusal> {
        match (self.cancelled_at, self.expires_at) {
            (Some(_), _) => Err(Refusal::Revoked),
            (None, Some(end)) if now >= end => Err(Refusal::Expired),
            _ => Ok(()),
        }
    }

    /// The account that it speaks for, if there is one.
    pub const fn account(&self) -> Option<AccountId> {
        match self.owner {
            Owner::Account(account) => Some(account),
            Owner::Removed(_) | Owner::Nobody => None,
        }
    }

    /// What whoever holds it is told where it speaks for no account.
    const fn without_account(&self) -> Refusal {
        match self.owner {
            Owner::Nobody => Refusal::BelongsToNobody,
            Owner::Account(_) | Owner::Removed(_) => Refusal::AccountGone,
        }
    }

    /// What its owner is told; with the whole text where it was just made.
    pub(crate) fn told(&self, text: Option<Secret>) -> ToldApiKey {
        ToldApiKey {
            key: text,
            prefix: self.prefix.clone(),
            environment: self.environment.clone(),
            kind: self.kind.clone(),
            created_at: self.created_at,
            expires_at: self.expires_at,
        }
    }
}

impl Core {
    /// Whom a key speaks for.
    pub(crate) async fn recognise_api_key(&self, key: &Secret, context: &Context) -> Result<Principal, Refusal> {
        may_try_password(self.settings().requires_secure(context.gate), &context.peer)?;
        let providers = self.providers();
        let provider = providers.first_of(|kind| matches!(kind, ProviderKind::ApiKey))?;
        let source = Key::TokenSource(context.peer.address);
        self.by(context, self.fresh()).await?;
        let now = self.clock.now();
        let found = self.by(context, self.api_key(&hash(key))).await?;
        let judged = found.ok_or(Refusal::InvalidCredentials).and_then(|(key, account)| {
            key.standing(now)?;
            let account = account.ok_or(key.without_account())?;
            may_enter(Some(&account), None, now)?;
            Ok((key, account))
        });
        if judged.is_err() {
            // Whoever has a good one is let in, whatever others at the same address show: nobody guesses a key.
            self.throttle.check(self.steady(), &source)?;
            self.throttle.count(self.steady(), &source);
        }
        let (key, account) = judged?;
        let ends = [key.expires_at, account.expires_at].into_iter().flatten().min();
        Ok(self.by_itself(&account, Some(ProviderName(provider.name.clone())), Method::ApiKey, ends, context))
    }

    /// Somebody whom a text speaks for that names an account and no client: all that the account has.
    pub(crate) fn by_itself(
        &self,
        account: &Account,
        provider: Option<ProviderName>,
        method: Method,
        expires_at: Option<Timestamp>,
        context: &Context,
    ) -> Principal {
        let scopes = self.scopes(Some(account), None, &ScopeRequest::Maximum, self.carries(context));
        Principal {
            session: None,
            account: Some(Arc::new(account.summary())),
            client: None,
            scopes: scopes.unwrap_or_default(),
            rights: account.rights.clone(),
            terminal: None,
            provider,
            method,
            spelling: 0,
            expires_at,
        }
    }

    /// A key and its account, from memory or from the store. As for sessions, what was read is taken in only while the feed stands
    /// where it stood before.
    async fn api_key(&self, hash: &TokenHash) -> Result<Option<(Arc<ApiKey>, Option<Arc<Account>>)>, Refusal> {
        if let Some((Known::ApiKey(key), account)) = self.live.known(hash) {
            return Ok(Some((key, Some(account))));
        }
        if !self.may_be(Kind::ApiKey, hash).await? {
            return Ok(None);
        }
        loop {
            let before = *self.feed.lock().await;
            let Some(key) = self.store.api_key(hash).await? else { return Ok(None) };
            let account = match key.account() {
                Some(id) => self.store.account(id).await?,
                None => None,
            };
            let (key, account) = (Arc::new(key), account.map(|account| Arc::new(Account { password: None, ..account })));
            let feed = self.feed.lock().await;
            if *feed == before {
                if let Some(account) = account.as_ref().filter(|_| key.cancelled_at.is_none()) {
                    self.live.know(*hash, vec![*hash], Known::ApiKey(Arc::clone(&key)), Arc::clone(account));
                }
                return Ok(Some((key, account)));
            }
        }
    }

    /// Whether there may be such a key, or such a revocation, as far as memory can tell: what nobody made costs no look at the store.
    pub(crate) async fn may_be(&self, kind: Kind, hash: &TokenHash) -> Result<bool, Refusal> {
        if let Some(may_be) = self.live.may_be(kind, hash) {
            return Ok(may_be);
        }
        // What is made meanwhile is told by the feed, which stands until this was taken in.
        let _feed = self.feed.lock().await;
        if self.live.may_be(kind, hash).is_none() {
            let marks = match kind {
                Kind::ApiKey => self.store.api_key_marks(MOST_MARKS + 1).await?,
                Kind::Revoked => self.store.revoked_marks(MOST_MARKS + 1).await?,
            };
            self.live.know_marks(kind, marks);
        }
        Ok(self.live.may_be(kind, hash).unwrap_or(true))
    }

    /// The keys of whoever speaks; or others in their place.
    pub(crate) async fn api_keys_of_caller(
        self: &Arc<Core>,
        presented: &[Credential],
        environment: &str,
        renew: bool,
        context: &Context,
    ) -> Outcome {
        let caller = match self.recognise(presented, context).await {
            Ok(Recognised { caller, .. }) => caller,
            Err((caller, refusal)) => return Outcome::told(caller, Err(refusal)),
        };
        let result = match Core::somebody(&caller, presented) {
            Ok(principal) => {
                let admin = Admin::new(self, Operator::peer(context, Some(&principal)));
                self.by(context, admin.own_api_keys(&principal, environment, renew)).await
            }
            Err(refusal) => Err(refusal),
        };
        Outcome::told(caller, result.map(Answer::ApiKeys))
    }
}

impl Admin<'_> {
    /// Makes a key for a user. Answers its text, which is not told again.
    ///
    /// # Errors
    /// [`Refusal::NotFound`], [`Refusal::Invalid`].
    pub async fn add_api_key(
        &self,
        user: &str,
        environment: &str,
        expires_at: Option<Timestamp>,
    ) -> Result<(ApiKey, Secret), Refusal> {
        let account = self.user(user).await?.id;
        let environment = parsed(environment)?;
        let now = self.core.clock.now();
        let (text, key) = ApiKey::draw(account, &environment, expires_at, now, &*self.core.entropy);
        self.add_api_keys(NewApiKeys { account, keys: vec![key.clone()], in_place_of: None, at: now }).await?;
        Ok((key, text))
    }

    /// 1000 keys of a user: all that were not cancelled before those that were, and the newest first.
    ///
    /// # Errors
    /// [`Refusal::NotFound`].
    pub async fn api_keys(&self, user: &str) -> Result<Vec<ApiKey>, Refusal> {
        let account = self.user(user).await?.id;
        Ok(self.core.store.api_keys(account).await?)
    }

    /// Cancels the key of a user that begins with these letters.
    ///
    /// # Errors
    /// [`Refusal::NotFound`] where none in force does, [`Refusal::Invalid`] where several do.
    pub async fn cancel_api_key(&self, user: &str, prefix: &str) -> Result<ApiKey, Refusal> {
        let keys = self.api_keys(user).await?;
        let begins = |key: &&ApiKey| key.cancelled_at.is_none() && key.prefix.starts_with(prefix) && !prefix.is_empty();
        let mut found = keys.iter().filter(begins);
        let key = match (found.next(), found.next()) {
            (Some(key), None) => key,
            (None, _) => return Err(Refusal::NotFound("API key")),
            (Some(_), Some(_)) => return Err(Refusal::Invalid(vec![format!("several keys begin with {prefix:?}; write more")])),
        };
        let now = self.core.clock.now();
        let entry = crate::audit::AuditEntry { account: key.account(), ..self.entry("apikey_cancel") };
        self.core.store.cancel_api_key(key.hash, now, entry).await?;
        self.core.changed().await;
        Ok(ApiKey { cancelled_at: Some(now), ..key.clone() })
    }

    /// Cancels all keys of a user. Answers how many there were.
    ///
    /// # Errors
    /// [`Refusal::NotFound`].
    pub async fn cancel_api_keys(&self, user: &str) -> Result<usize, Refusal> {
        let account = self.user(user).await?.id;
        let entry = crate::audit::AuditEntry { account: Some(account), ..self.entry("apikey_cancel") };
        let cancelled = self.core.store.cancel_api_keys(account, self.core.clock.now(), entry).await?;
        self.core.changed().await;
        Ok(cancelled)
    }

    /// The keys in force of somebody for an environment, newest first; or, with `renew`, a new one in the place of all of them.
    async fn own_api_keys(&self, who: &Principal, environment: &str, renew: bool) -> Result<Vec<ToldApiKey>, Refusal> {
        let account = who.account.as_ref().and_then(|account| account.id).ok_or(Refusal::NotPermitted)?;
        let environment = parsed(environment)?;
        let now = self.core.clock.now();
        if !renew {
            let keys = self.core.store.api_keys(account).await?;
            let stand = |key: &&ApiKey| key.environment == environment && key.standing(now).is_ok();
            return Ok(keys.iter().filter(stand).map(|key| key.told(None)).collect());
        }
        // One after the other, so that a hundred at once are counted, too.
        let mut place = TokenHash::default();
        place[0] = account.0.as_bytes()[15];
        let _turn = self.core.turn(&place).await?;
        self.may_renew(account, now).await?;
        let (text, key) = ApiKey::draw(account, &environment, None, now, &*self.core.entropy);
        let new = NewApiKeys { account, keys: vec![key.clone()], in_place_of: Some(environment), at: now };
        self.add_api_keys(new).await?;
        Ok(vec![key.told(Some(text))])
    }

    /// Whether an owner may renew keys again so soon.
    async fn may_renew(&self, account: AccountId, now: Timestamp) -> Result<(), Refusal> {
        let mut made: Vec<Timestamp> = self.core.store.api_keys(account).await?.iter().map(|key| key.created_at).collect();
        made.sort_unstable();
        let oldest = made.len().checked_sub(MOST_RENEWALS).and_then(|index| made.get(index));
        match oldest.map(|oldest| oldest.after(RENEWAL_SPAN).since(now)) {
            Some(retry_after) if !retry_after.is_zero() => Err(Refusal::TooManyAttempts { retry_after }),
            _ => Ok(()),
        }
    }

    async fn add_api_keys(&self, new: NewApiKeys) -> Result<(), Refusal> {
        let action = if new.in_place_of.is_some() { "apikey_renew" } else { "apikey_add" };
        let entry = crate::audit::AuditEntry { account: Some(new.account), ..self.entry(action) };
        match self.core.store.add_api_keys(new, entry).await? {
            KeysWritten::Done => {}
            KeysWritten::Stale => return Err(Refusal::NotFound("user")),
            KeysWritten::Full => {
                let fault = format!("an account has {MOST_API_KEYS} API keys in force at most; cancel one first");
                return Err(Refusal::Invalid(vec![fault]));
            }
        }
        self.core.changed().await;
        Ok(())
    }
}

fn parsed(environment: &str) -> Result<String, Refusal> {
    label("an environment", environment).map_err(|fault| Refusal::Invalid(vec![fault.0]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemEntropy;

    #[test]
    fn a_key_is_thirty_two_letters_and_ends_with_its_time_or_before() {
        let at = Timestamp::from_millis;
        let owner = AccountId(uuid::Uuid::from_u128(1));
        let (text, key) = ApiKey::draw(owner, "live", Some(at(10)), at(1), &SystemEntropy);
        let shown = text.expose_text().expect("letters");
        assert_eq!((shown.len(), &*key.prefix, key.hash), (32, &shown[..8], hash(&text)));
        assert!(shown.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_'), "{shown}");
        assert_eq!((key.standing(at(9)), key.standing(at(10))), (Ok(()), Err(Refusal::Expired)));
        let cancelled = ApiKey { cancelled_at: Some(at(5)), ..key };
        assert_eq!(cancelled.standing(at(20)), Err(Refusal::Revoked), "that it was cancelled goes before that it is over");
    }
}
