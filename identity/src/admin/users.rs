//! Users at the operators' door: who is added, changed, switched off, removed.
//!
//! What a change must end, it ends in the same transaction; the store says of which change that is true, by its `end`.

use super::{Admin, display_name, keep, placed, written};
use crate::account::{Account, AccountId, Email, NameKey, Rights, Status, Username, cut_off_after, label, picture};
use crate::audit::AuditEntry;
use crate::clock::Timestamp;
use crate::refusal::Refusal;
use crate::reply::Reason;
use crate::secret::Secret;
use crate::store::{Page, Placed};
use crate::throttle::Key;

/// A user to be added.
#[derive(Clone, Debug, Default)]
pub struct NewUser {
    /// The name to log in with.
    pub name: String,
    /// The id that peers are told; none: the name.
    pub subject: Option<String>,
    /// The address to log in with.
    pub email: Option<String>,
    /// A friendly name.
    pub display_name: Option<String>,
    /// The given name.
    pub first_name: Option<String>,
    /// The family name.
    pub last_name: Option<String>,
    /// Where a picture is.
    pub profile_url: Option<String>,
    /// Roles.
    pub roles: Vec<String>,
    /// Permissions.
    pub permissions: Vec<String>,
    /// Scopes held.
    pub scopes: Vec<String>,
    /// When the account ends.
    pub expires_at: Option<Timestamp>,
    /// The password; none: no password opens it.
    pub password: Option<Secret>,
    /// In its place, a hash of it that others have made: see [`Passwords::check_stored`](crate::password::Passwords::check_stored).
    pub password_hash: Option<String>,
    /// Since when what was signed for it counts; none: from now on. For somebody who comes from an application whose tokens
    /// shall go on.
    pub signed_since: Option<Timestamp>,
}

/// What is to be different about a user. `None` leaves a field as it is; of a field that may be empty, `Some(None)` empties it.
#[derive(Clone, Debug, Default)]
pub struct UserChange {
    /// The name to log in with.
    pub name: Option<String>,
    /// The address to log in with.
    pub email: Option<Option<String>>,
    /// A friendly name.
    pub display_name: Option<Option<String>>,
    /// The given name.
    pub first_name: Option<Option<String>>,
    /// The family name.
    pub last_name: Option<Option<String>>,
    /// Where a picture is.
    pub profile_url: Option<Option<String>>,
    /// Roles, all of them.
    pub roles: Option<Vec<String>>,
    /// Permissions, all of them.
    pub permissions: Option<Vec<String>>,
    /// Scopes held, all of them.
    pub scopes: Option<Vec<String>>,
    /// When the account ends.
    pub expires_at: Option<Option<Timestamp>>,
}

/// How often a change of rights is tried: of as many at once as there may be, each tries no more often than others succeed.
const ATTEMPTS: usize = 100;

/// How many lines of the audit are looked at at once for names to erase: few enough that a login behind them does not notice.
const LINES: usize = 1_000;

impl Admin<'_> {
    /// Adds a user.
    ///
    /// # Errors
    /// [`Refusal::Invalid`] with every fault at once, [`Refusal::AlreadyExists`].
    pub async fn add_user(&self, new: NewUser) -> Result<Account, Refusal> {
        self.add_user_as(new, "user_add").await
    }

    pub(crate) async fn add_user_as(&self, mut new: NewUser, action: &'static str) -> Result<Account, Refusal> {
        let password = new.password.take();
        if password.is_some() && new.password_hash.is_some() {
            return Err(Refusal::Invalid(vec!["give a password or its hash, not both".to_owned()]));
        }
        let mut account = self.parse_user(new).map_err(Refusal::Invalid)?;
        if let Some(password) = password {
            account.password = Some(self.core.passwords.hash(&password).await?);
        }
        let entry = AuditEntry { account: Some(account.id), name: Some(account.name.as_str().to_owned()), ..self.entry(action) };
        placed(self.core.store.add_account(account.clone(), entry).await?)?;
        Ok(account)
    }

    /// The account that somebody would have, by the hash of their password.
    pub(super) fn parse_user(&self, new: NewUser) -> Result<Account, Vec<String>> {
        let mut faults = Vec::new();
        let name = keep(Username::parse(&new.name).map_err(|fault| fault.0), &mut faults);
        let email = new.email.and_then(|email| keep(Email::parse(&email).map_err(|fault| fault.0), &mut faults));
        let subject = keep(subject(new.subject.as_deref().unwrap_or(&new.name)), &mut faults);
        let display_name = new.display_name.and_then(|name| keep(display_name(&name), &mut faults));
        let first_name = new.first_name.and_then(|name| keep(given_name(&name), &mut faults));
        let last_name = new.last_name.and_then(|name| keep(family_name(&name), &mut faults));
        let profile_url = new.profile_url.and_then(|url| keep(picture(&url).map_err(|fault| fault.0), &mut faults));
        let rights = keep(Rights::parse(new.roles, new.permissions).map_err(|fault| fault.0), &mut faults);
        let scopes = keep(self.scopes(new.scopes), &mut faults);
        if let Some(hash) = &new.password_hash {
            let usable = self.core.passwords.check_stored(hash);
            keep(usable.map_err(|fault| format!("the hash of the password: {fault}")), &mut faults);
        }
        let (Some(name), Some(subject), Some(rights), Some(scopes), true) = (name, subject, rights, scopes, faults.is_empty())
        else {
            return Err(faults);
        };
        let now = self.core.clock.now();
        Ok(Account {
            id: AccountId(crate::token::id(now, &*self.core.entropy)),
            subject,
            name,
            email,
            display_name,
            first_name,
            last_name,
            profile_url,
            status: Status::Active,
            expires_at: new.expires_at,
            rights,
            scopes,
            password: new.password_hash,
            // Somebody else may have had this id before, and tokens of theirs may be about.
            cut_off: new.signed_since.unwrap_or_else(|| cut_off_after(now, Timestamp::default())),
            version: 1,
            created_at: now,
        })
    }

    /// One user, by name or e-mail address.
    ///
    /// # Errors
    /// [`Refusal::NotFound`].
    pub async fn user(&self, name: &str) -> Result<Account, Refusal> {
        self.core.store.account_named(&NameKey::of(name)).await?.ok_or(Refusal::NotFound("user"))
    }

    /// Users by name, a page at a time: at most `limit` (1 to 1000) after the user `after`.
    ///
    /// # Errors
    /// [`Refusal::Unavailable`].
    pub async fn users(&self, after: Option<&str>, limit: usize) -> Result<Vec<Account>, Refusal> {
        Ok(self.core.store.accounts(Page { after: after.map(NameKey::of), limit: limit.clamp(1, 1000) }).await?)
    }

    /// Changes names, address, picture, rights, scopes and expiry. Connections in force learn at once what they lose.
    ///
    /// # Errors
    /// As [`Admin::add_user`], and [`Refusal::NotFound`].
    pub async fn set_user(&self, name: &str, change: UserChange) -> Result<Account, Refusal> {
        let mut account = self.user(name).await?;
        let mut faults = Vec::new();
        if let Some(name) = change.name {
            account.name = keep(Username::parse(&name).map_err(|fault| fault.0), &mut faults).unwrap_or(account.name);
        }
        if let Some(email) = change.email {
            account.email = email.and_then(|email| keep(Email::parse(&email).map_err(|fault| fault.0), &mut faults));
        }
        if let Some(name) = change.display_name {
            account.display_name = name.and_then(|name| keep(display_name(&name), &mut faults));
        }
        if let Some(name) = change.first_name {
            account.first_name = name.and_then(|name| keep(given_name(&name), &mut faults));
        }
        if let Some(name) = change.last_name {
            account.last_name = name.and_then(|name| keep(family_name(&name), &mut faults));
        }
        if let Some(url) = change.profile_url {
            account.profile_url = url.and_then(|url| keep(picture(&url).map_err(|fault| fault.0), &mut faults));
        }
        let Rights { roles, permissions } = std::mem::take(&mut account.rights);
        let rights = Rights::parse(change.roles.unwrap_or(roles), change.permissions.unwrap_or(permissions));
        account.rights = keep(rights.map_err(|fault| fault.0), &mut faults).unwrap_or_default();
        if let Some(scopes) = change.scopes {
            account.scopes = keep(self.scopes(scopes), &mut faults).unwrap_or_default();
        }
        account.expires_at = change.expires_at.unwrap_or(account.expires_at);
        if !faults.is_empty() {
            return Err(Refusal::Invalid(faults));
        }
        self.change_user(account, None, "user_set").await
    }

    /// Gives rights, and takes others. It says what is to change and not what is to be, so it stands whatever else has changed
    /// meanwhile.
    ///
    /// # Errors
    /// [`Refusal::NotFound`], [`Refusal::Invalid`]; [`Refusal::Unavailable`] where others never cease to change the account.
    pub async fn change_rights(&self, name: &str, add: &Rights, remove: &Rights) -> Result<Account, Refusal> {
        for _ in 0..ATTEMPTS {
            let account = self.user(name).await?;
            let rights = account.rights.clone().with(add).map_err(|fault| Refusal::Invalid(vec![fault.0]))?.without(remove);
            let account = Account { rights, ..account };
            let entry = AuditEntry { account: Some(account.id), ..self.entry("user_rights") };
            match self.core.store.change_account(account.clone(), None, entry).await? {
                Placed::Stale => {}
                other => {
                    placed(other)?;
                    self.core.changed().await;
                    return Ok(Account { version: account.version + 1, ..account });
                }
            }
        }
        Err(Refusal::Unavailable)
    }

    /// Switches an account on or off. Off ends its sessions.
    ///
    /// # Errors
    /// [`Refusal::NotFound`].
    pub async fn set_user_status(&self, name: &str, status: Status) -> Result<Account, Refusal> {
        let account = Account { status, ..self.user(name).await? };
        match status {
            Status::Active => self.change_user(account, None, "user_enable").await,
            Status::Disabled => self.change_user(account, Some(Reason::Revoked), "user_disable").await,
        }
    }

    /// Forgets the failures that stand against an account, so that it need not wait.
    ///
    /// # Errors
    /// [`Refusal::NotFound`].
    pub async fn unlock_user(&self, name: &str) -> Result<Account, Refusal> {
        let account = self.user(name).await?;
        let mut keys = vec![Key::Account(account.id), Key::Name(account.name.key())];
        keys.extend(account.email.as_ref().map(|email| Key::Name(email.key())));
        self.core.throttle.forget(&keys);
        // Where she has logged in before, failures stand under the account's version: another version, another budget.
        let account = self.change_user(account, None, "user_unlock").await?;
        self.core.flush(false).await;
        Ok(account)
    }

    /// Sets the password, or takes it away. Ends the account's sessions and signed tokens: who knew the old one is out. API keys
    /// stay, since services use them that know no password; they are cancelled one by one.
    ///
    /// # Errors
    /// [`Refusal::NotFound`], [`Refusal::Invalid`].
    pub async fn set_password(&self, name: &str, password: Option<&Secret>) -> Result<Account, Refusal> {
        let account = self.user(name).await?;
        let password = match password {
            Some(password) => Some(self.core.passwords.hash(password).await?),
            None => None,
        };
        self.change_user(Account { password, ..account }, Some(Reason::Revoked), "user_set_password").await
    }

    /// Removes an account and ends its sessions. Its name and address go from the audit, too; what it did stays there by its id.
    ///
    /// # Errors
    /// [`Refusal::NotFound`].
    pub async fn remove_user(&self, name: &str) -> Result<Account, Refusal> {
        let account = self.user(name).await?;
        // The names go first: whoever is stopped half-way still finds the account and can go on.
        self.core.flush(true).await;
        let mut after = Some(0);
        while let Some(number) = after {
            after = self.core.store.erase_names(account.id, account.names(), number, LINES).await?;
        }
        let entry = AuditEntry { account: Some(account.id), ..self.entry("user_remove") };
        written(self.core.store.remove_account(account.id, account.version, entry).await?)?;
        self.core.changed().await;
        Ok(account)
    }

    async fn change_user(&self, account: Account, end: Option<Reason>, action: &'static str) -> Result<Account, Refusal> {
        let entry = AuditEntry { account: Some(account.id), ..self.entry(action) };
        placed(self.core.store.change_account(account.clone(), end, entry).await?)?;
        self.core.changed().await;
        Ok(Account { version: account.version + 1, ..account })
    }
}

fn subject(text: &str) -> Result<String, String> {
    label("an id", text).map_err(|fault| fault.0)
}

fn given_name(text: &str) -> Result<String, String> {
    label("a first name", text).map_err(|fault| fault.0)
}

fn family_name(text: &str) -> Result<String, String> {
    label("a last name", text).map_err(|fault| fault.0)
}
