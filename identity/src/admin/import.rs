//! People who move in, and the way out: whole accounts that bring their ids, the hashes of their passwords and their API keys
//! along; and API keys that are nobody's there.
//!
//! Decides which of them can be taken: all of a row or nothing of it. What is here already stays as it is, so that whoever is
//! interrupted begins again and nothing is taken twice. It refuses to know where the rows come from.

use super::{Admin, NewUser, keep};
use crate::account::{Account, NameKey, Status, label};
use crate::api_key::{ApiKey, MOST_API_KEYS, Owner};
use crate::clock::Timestamp;
use crate::refusal::Refusal;
use crate::secret::Secret;
use crate::store::{NewAccount, Page, Placed, TokenHash};
use crate::token::hash;

/// The most letters of a key that may be kept in the clear.
const PREFIX: usize = 8;

/// A user who comes from elsewhere.
#[derive(Clone, Debug)]
pub struct ImportedUser {
    /// Who it is. A hash of the password, and never the password.
    pub user: NewUser,
    /// Whether the account may be used.
    pub status: Status,
    /// When it was made there; none: now.
    pub created_at: Option<Timestamp>,
    /// Keys that speak for it.
    pub api_keys: Vec<ImportedApiKey>,
}

/// An API key that comes from elsewhere.
#[derive(Clone, Debug)]
pub struct ImportedApiKey {
    /// The SHA-256 of its text.
    pub hash: TokenHash,
    /// The first letters of its text: at most 8.
    pub prefix: String,
    /// What it is to be used with.
    pub environment: String,
    /// What kind of key it is.
    pub kind: String,
    /// When it was made; none: now.
    pub created_at: Option<Timestamp>,
    /// When it ends, if it does.
    pub expires_at: Option<Timestamp>,
    /// When it was cancelled, if it was.
    pub cancelled_at: Option<Timestamp>,
}

impl ImportedApiKey {
    /// A key whose text is known there: its hash and its first letters, of which more remain unknown than are kept.
    pub fn of_text(text: &Secret, environment: String, kind: String) -> ImportedApiKey {
        let letters: Vec<char> = text.expose_text().unwrap_or_default().chars().collect();
        let prefix = letters.iter().take(PREFIX.min(letters.len() / 4)).collect();
        ImportedApiKey { hash: hash(text), prefix, environment, kind, created_at: None, expires_at: None, cancelled_at: None }
    }
}

/// What became of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// The account is on disk; of a dry run: it would be.
    Taken,
    /// An account of this id and name is here already; it stays as it is.
    Known,
    /// Nothing of it was written. Each fault is a sentence for people.
    Left(Vec<String>),
}

/// Users from elsewhere who were looked at and not yet written, in their order: each an account to be, or its faults.
#[derive(Debug)]
pub struct Prepared(Vec<Result<NewAccount, Vec<String>>>);

impl Admin<'_> {
    /// Looks at users from elsewhere. It asks nobody and waits for nothing, but takes microseconds for each: whoever has many of
    /// them does it where that holds nobody up.
    pub fn prepare_import(&self, rows: Vec<ImportedUser>) -> Prepared {
        Prepared(rows.into_iter().map(|row| self.imported(row)).collect())
    }

    /// Takes users from elsewhere, in one transaction: each whole or not at all. With `dry_run` only says what would become of
    /// them, each by itself. `began` is when the whole of it began, of which these rows may be a part: whoever is here since then is
    /// an earlier row, and not somebody known.
    ///
    /// # Errors
    /// [`Refusal::Unavailable`]: none of them was taken.
    pub async fn import_users(&self, Prepared(rows): Prepared, dry_run: bool, began: Timestamp) -> Result<Vec<Fate>, Refusal> {
        let mut fates: Vec<Option<Fate>> = vec![None; rows.len()];
        let mut parsed = Vec::with_capacity(rows.len());
        let mut places = Vec::with_capacity(rows.len());
        let mut keys = false;
        for (at, row) in rows.into_iter().enumerate() {
            match row {
                Ok(new) => {
                    keys |= !new.api_keys.is_empty();
                    places.push((at, new.account.subject.clone(), new.account.name.key()));
                    parsed.push(new);
                }
                Err(faults) => fates[at] = Some(Fate::Left(faults)),
            }
        }
        let placed = if dry_run {
            let mut placed = Vec::with_capacity(parsed.len());
            for new in &parsed {
                placed.push(self.would_be_placed(new).await?);
            }
            placed
        } else if parsed.is_empty() {
            Vec::new()
        } else {
            let placed = self.core.store.add_accounts(parsed, self.entry("user_import")).await?;
            if keys {
                // Of a key that memory does not know yet it would be said that there is none.
                self.core.changed().await;
            }
            placed
        };
        for ((at, subject, name), placed) in places.into_iter().zip(placed) {
            fates[at] = Some(match placed {
                Placed::Done => Fate::Taken,
                Placed::Taken(field) => match self.known(&subject, &name).await? {
                    Some(account) if !dry_run && account.id.made_at().is_some_and(|made| made >= began) => {
                        Fate::Left(vec!["an earlier row has this id and this name".to_owned()])
                    }
                    Some(_) => Fate::Known,
                    None => Fate::Left(vec![taken(field)]),
                },
                Placed::Stale => Fate::Left(vec!["it could not be placed".to_owned()]),
            });
        }
        let lost = || Fate::Left(vec!["the store said nothing of it".to_owned()]);
        Ok(fates.into_iter().map(|fate| fate.unwrap_or_else(lost)).collect())
    }

    /// Users by name, a page at a time as [`Admin::users`], with those of their API keys that were not cancelled. The hashes of
    /// their passwords are among it, so that each time that somebody begins is written down.
    ///
    /// # Errors
    /// [`Refusal::Unavailable`].
    pub async fn export_users(&self, after: Option<&str>, limit: usize) -> Result<Vec<(Account, Vec<ApiKey>)>, Refusal> {
        if after.is_none() {
            self.core.store.audit(vec![self.entry("user_export")]).await?;
        }
        let page = Page { after: after.map(NameKey::of), limit: limit.clamp(1, 1000) };
        let mut users = Vec::new();
        for account in self.core.store.accounts(page).await? {
            let mut keys = self.core.store.api_keys(account.id).await?;
            keys.retain(|key| key.cancelled_at.is_none());
            keys.sort_unstable_by_key(|key| (key.created_at, key.hash));
            users.push((account, keys));
        }
        Ok(users)
    }

    /// Takes API keys from elsewhere that belong to no account there: all of them or none. They open nothing; whoever holds one is
    /// told that it is nobody's. With `dry_run` only says what would become of them.
    ///
    /// # Errors
    /// [`Refusal::Unavailable`]: none of them was taken.
    pub async fn import_nobodys_keys(&self, keys: Vec<ImportedApiKey>, dry_run: bool) -> Result<Fate, Refusal> {
        let (now, mut faults) = (self.core.clock.now(), Vec::new());
        let keys: Vec<ApiKey> = keys.into_iter().filter_map(|key| imported_key(key, Owner::Nobody, now, &mut faults)).collect();
        if !faults.is_empty() {
            return Ok(Fate::Left(faults));
        }
        let mut there = Vec::new();
        for key in &keys {
            there.extend(self.core.store.api_key(&key.hash).await?.map(|key| key.owner));
        }
        if !there.is_empty() {
            let known = there.len() == keys.len() && there.iter().all(|owner| *owner == Owner::Nobody);
            return Ok(if known { Fate::Known } else { Fate::Left(vec!["one of the API keys is here already".to_owned()]) });
        }
        if dry_run {
            return Ok(Fate::Taken);
        }
        let count = u32::try_from(keys.len()).unwrap_or(u32::MAX);
        let entry = crate::audit::AuditEntry { count, ..self.entry("apikey_import") };
        let placed = self.core.store.add_nobodys_keys(keys, entry).await?;
        self.core.changed().await;
        Ok(match placed {
            Placed::Done => Fate::Taken,
            Placed::Taken(_) | Placed::Stale => Fate::Left(vec!["one of the API keys stands there twice".to_owned()]),
        })
    }

    fn imported(&self, row: ImportedUser) -> Result<NewAccount, Vec<String>> {
        let ImportedUser { user, status, created_at, api_keys } = row;
        let mut account = self.parse_user(user)?;
        let now = account.created_at;
        account.status = status;
        account.created_at = created_at.unwrap_or(now);
        let mut faults = Vec::new();
        let mut keys = Vec::with_capacity(api_keys.len());
        for key in api_keys {
            keys.extend(imported_key(key, Owner::Account(account.id), now, &mut faults));
        }
        if keys.iter().filter(|key| key.standing(now).is_ok()).count() > MOST_API_KEYS {
            faults.push(format!("an account has {MOST_API_KEYS} API keys in force at most"));
        }
        if faults.is_empty() { Ok(NewAccount { account, api_keys: keys }) } else { Err(faults) }
    }

    /// What the store would say, asked without writing.
    async fn would_be_placed(&self, new: &NewAccount) -> Result<Placed, Refusal> {
        let NewAccount { account, api_keys } = new;
        let store = &self.core.store;
        if store.account_named(&account.name.key()).await?.is_some() {
            return Ok(Placed::Taken("name"));
        }
        if let Some(email) = &account.email
            && store.account_named(&email.key()).await?.is_some()
        {
            return Ok(Placed::Taken("email"));
        }
        if store.account_known_as(&account.subject).await?.is_some() {
            return Ok(Placed::Taken("id"));
        }
        for key in api_keys {
            if store.api_key(&key.hash).await?.is_some() {
                return Ok(Placed::Taken("key"));
            }
        }
        Ok(Placed::Done)
    }

    /// This very account, where it is here: its id, under its name.
    async fn known(&self, subject: &str, name: &NameKey) -> Result<Option<Account>, Refusal> {
        let found = self.core.store.account_known_as(subject).await?;
        Ok(found.filter(|found| found.name.key() == *name))
    }
}

fn taken(field: &str) -> String {
    match field {
        "key" => "somebody has one of its API keys already".to_owned(),
        "id" => "somebody has this id already, under another name".to_owned(),
        field => format!("somebody has this {field} already, as name or as e-mail address"),
    }
}

fn imported_key(key: ImportedApiKey, owner: Owner, now: Timestamp, faults: &mut Vec<String>) -> Option<ApiKey> {
    let environment = keep(label("the environment of an API key", &key.environment).map_err(|fault| fault.0), faults);
    let kind = keep(label("the kind of an API key", &key.kind).map_err(|fault| fault.0), faults);
    if key.prefix.chars().count() > PREFIX || key.prefix.chars().any(char::is_control) {
        faults.push(format!("of an API key at most {PREFIX} letters are kept"));
    }
    Some(ApiKey {
        hash: key.hash,
        prefix: key.prefix,
        owner,
        environment: environment?,
        kind: kind?,
        created_at: key.created_at.unwrap_or(now),
        expires_at: key.expires_at,
        cancelled_at: key.cancelled_at,
    })
}
