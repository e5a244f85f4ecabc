//! Every change of an account or a client, grants that are made for them, and what operators may look at.
//!
//! Each change is one verb of the store with its line in the audit; what it must end, it ends in the same transaction, and
//! memory has followed before the operator is answered. What concerns users stands in `admin/users.rs`, terminals in
//! `admin/terminals.rs`, and what is only looked at in `admin/look.rs`. Who may stand at this door is `server`'s to check: the local socket
//! lets in the owner of the data directory only.

mod import;
mod keys;
mod look;
mod terminals;
mod users;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

pub use self::import::{Fate, ImportedApiKey, ImportedUser, Prepared};
pub use self::look::{AuditPage, SessionFilter, SessionPage};
pub use self::terminals::TerminalView;
pub(crate) use self::terminals::first_terminal;
pub use self::users::{NewUser, UserChange};
use crate::Core;
use crate::account::{Client, ClientId, Status, label};
use crate::audit::AuditEntry;
use crate::clock::{Timestamp, draw};
use crate::command::{Context, ProviderName};
use crate::refusal::Refusal;
use crate::reply::{Principal, Reason};
use crate::scope::{Scope, ScopeRequest, Scopes};
use crate::secret::Secret;
use crate::session::{Session, SessionId};
use crate::store::{Grant, Page, Placed, Which, Written};
use crate::token::hash;

/// Who stands at the operators' door.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operator {
    /// Somebody on this machine, known by user id.
    Local {
        /// The user id that the kernel vouches for.
        uid: u32,
    },
    /// A peer, through one of the gates, which the core has found to be allowed to do what it does.
    Peer {
        /// The gate.
        gate: &'static str,
        /// Where it speaks from.
        address: IpAddr,
        /// The name of whoever speaks, where somebody does.
        name: Option<String>,
    },
}

impl Operator {
    pub(crate) fn peer(context: &Context, who: Option<&Principal>) -> Operator {
        let name = who.and_then(|who| who.account.as_ref()).map(|account| account.name.clone());
        Operator::Peer { gate: context.gate, address: context.peer.address, name }
    }
}

/// A client to be added.
#[derive(Clone, Debug, Default)]
pub struct NewClient {
    /// Its id.
    pub id: String,
    /// A friendly name.
    pub display_name: Option<String>,
    /// Whether it has a secret, and which.
    pub secret: ClientSecret,
    /// Scopes that may be granted through it.
    pub scopes: Vec<String>,
    /// Whether it is told no token that restores the session.
    pub without_token: bool,
    /// When it ends.
    pub expires_at: Option<Timestamp>,
}

/// How a client proves itself.
#[derive(Clone, Debug, Default)]
pub enum ClientSecret {
    /// It does not: a public client.
    #[default]
    None,
    /// By a secret that is drawn now and told once.
    Drawn,
    /// By this one.
    Given(Secret),
}

/// What is to be different about a client; fields as in [`UserChange`].
#[derive(Clone, Debug, Default)]
pub struct ClientChange {
    /// A friendly name.
    pub display_name: Option<Option<String>>,
    /// Scopes that may be granted through it, all of them.
    pub scopes: Option<Vec<String>>,
    /// Whether it is told a token that restores the session.
    pub receives_token: Option<bool>,
    /// When it ends.
    pub expires_at: Option<Option<Timestamp>>,
}

/// The longest that a grant may wait for its use (RFC 6749 section 4.1.2: "A maximum authorization code lifetime of 10 minutes
/// is RECOMMENDED").
pub const LONGEST_GRANT: Duration = Duration::from_secs(10 * 60);

/// A grant to be made.
#[derive(Clone, Debug)]
pub struct NewGrant {
    /// The id of the client that may redeem it.
    pub client: String,
    /// The name or address of the user whom it lets in.
    pub user: String,
    /// The provider that will be asked to redeem it; none: the first one there is.
    pub provider: Option<String>,
    /// What may be had with it; empty: all that user and client may have then.
    pub scopes: Vec<String>,
    /// How long it waits, at most [`LONGEST_GRANT`].
    pub life: Duration,
}

/// A session, with what an operator wants to know beside it.
#[derive(Clone, Debug)]
pub struct SessionView {
    /// The session.
    pub session: Session,
    /// The user's name; none where a client spoke for itself.
    pub user: Option<String>,
    /// How many connections hold it now.
    pub connections: usize,
}

/// The operators' door, with somebody in it.
pub struct Admin<'a> {
    pub(crate) core: &'a Arc<Core>,
    operator: Operator,
}

impl<'a> Admin<'a> {
    pub(crate) fn new(core: &'a Arc<Core>, operator: Operator) -> Admin<'a> {
        Admin { core, operator }
    }

    /// Adds a client. Answers its secret, where one was drawn; it is not told again.
    ///
    /// # Errors
    /// [`Refusal::Invalid`] with every fault at once, [`Refusal::AlreadyExists`].
    pub async fn add_client(&self, new: NewClient) -> Result<(Client, Option<Secret>), Refusal> {
        let mut faults = Vec::new();
        let id = keep(ClientId::parse(&new.id).map_err(|fault| fault.0), &mut faults);
        let display_name = new.display_name.and_then(|name| keep(display_name(&name), &mut faults));
        let scopes = keep(self.scopes(new.scopes), &mut faults);
        let (Some(id), Some(scopes), true) = (id, scopes, faults.is_empty()) else {
            return Err(Refusal::Invalid(faults));
        };
        let (secret, drawn) = self.client_secret(new.secret).await?;
        let client = Client {
            id,
            display_name,
            secret,
            status: Status::Active,
            expires_at: new.expires_at,
            scopes,
            receives_token: !new.without_token,
            version: 1,
            created_at: self.core.clock.now(),
        };
        let entry = AuditEntry { client: Some(client.id.clone()), ..self.entry("client_add") };
        placed(self.core.store.add_client(client.clone(), entry).await?)?;
        Ok((client, drawn))
    }

    /// One client.
    ///
    /// # Errors
    /// [`Refusal::NotFound`].
    pub async fn client(&self, id: &str) -> Result<Client, Refusal> {
        let id = ClientId::parse(id).map_err(|_| Refusal::NotFound("client"))?;
        self.core.store.client(&id).await?.ok_or(Refusal::NotFound("client"))
    }

    /// Clients by id, a page at a time, as [`Admin::users`].
    ///
    /// # Errors
    /// [`Refusal::Unavailable`].
    pub async fn clients(&self, after: Option<&str>, limit: usize) -> Result<Vec<Client>, Refusal> {
        let after = after.and_then(|id| ClientId::parse(id).ok());
        Ok(self.core.store.clients(Page { after, limit: limit.clamp(1, 1000) }).await?)
    }

    /// Changes a client. Connections in force learn at once what they lose.
    ///
    /// # Errors
    /// As [`Admin::add_client`], and [`Refusal::NotFound`].
    pub async fn set_client(&self, id: &str, change: ClientChange) -> Result<Client, Refusal> {
        let mut client = self.client(id).await?;
        let mut faults = Vec::new();
        if let Some(name) = change.display_name {
            client.display_name = name.and_then(|name| keep(display_name(&name), &mut faults));
        }
        if let Some(scopes) = change.scopes {
            client.scopes = keep(self.scopes(scopes), &mut faults).unwrap_or_default();
        }
        client.receives_token = change.receives_token.unwrap_or(client.receives_token);
        client.expires_at = change.expires_at.unwrap_or(client.expires_at);
        if !faults.is_empty() {
            return Err(Refusal::Invalid(faults));
        }
        self.change_client(client, None, "client_set").await
    }

    /// Gives a client another secret and ends the sessions that came through it. Answers the secret, where it was drawn.
    ///
    /// # Errors
    /// [`Refusal::NotFound`], [`Refusal::Invalid`].
    pub async fn new_client_secret(&self, id: &str, secret: ClientSecret) -> Result<(Client, Option<Secret>), Refusal> {
        let client = self.client(id).await?;
        let (secret, drawn) = self.client_secret(secret).await?;
        let client = self.change_client(Client { secret, ..client }, Some(Reason::Revoked), "client_new_secret").await?;
        Ok((client, drawn))
    }

    /// Switches a client on or off. Off ends the sessions that came through it.
    ///
    /// # Errors
    /// [`Refusal::NotFound`].
    pub async fn set_client_status(&self, id: &str, status: Status) -> Result<Client, Refusal> {
        let client = Client { status, ..self.client(id).await? };
        match status {
            Status::Active => self.change_client(client, None, "client_enable").await,
            Status::Disabled => self.change_client(client, Some(Reason::Revoked), "client_disable").await,
        }
    }

    /// Removes a client and ends the sessions that came through it.
    ///
    /// # Errors
    /// [`Refusal::NotFound`].
    pub async fn remove_client(&self, id: &str) -> Result<Client, Refusal> {
        let client = self.client(id).await?;
        let entry = AuditEntry { client: Some(client.id.clone()), ..self.entry("client_remove") };
        written(self.core.store.remove_client(client.id.clone(), client.version, entry).await?)?;
        self.core.changed().await;
        Ok(client)
    }

    /// Makes a grant. Answers its code, which is not told again.
    ///
    /// # Errors
    /// [`Refusal::NotFound`], [`Refusal::Invalid`].
    pub async fn mint_grant(&self, new: NewGrant) -> Result<(Grant, Secret), Refusal> {
        let client = self.client(&new.client).await?;
        let account = self.user(&new.user).await?;
        let name = new.provider.map(ProviderName);
        let providers = self.core.providers();
        let provider = providers.local(name.as_ref()).map_err(|_| Refusal::NotFound("provider"))?;
        let mut faults = Vec::new();
        let scopes = match new.scopes.is_empty() {
            true => Some(ScopeRequest::Maximum),
            false => keep(self.scopes(new.scopes), &mut faults).map(ScopeRequest::AnyOf),
        };
        if new.life.is_zero() || new.life > LONGEST_GRANT {
            faults.push("a grant is good for more than no time and for 10 minutes at most".to_owned());
        }
        let (Some(scopes), true) = (scopes, faults.is_empty()) else { return Err(Refusal::Invalid(faults)) };
        let code = self.drawn();
        let now = self.core.clock.now();
        let grant = Grant {
            hash: hash(&code),
            client: client.id,
            account: account.id,
            provider: provider.name.clone(),
            scopes,
            issued_at: now,
            expires_at: now.after(new.life),
            redeemed: None,
        };
        let entry = AuditEntry { account: Some(grant.account), client: Some(grant.client.clone()), ..self.entry("grant_mint") };
        self.core.store.add_grant(grant.clone(), entry).await?;
        Ok((grant, code))
    }

    /// Ends one session. Of a borrowed one, the token that it rests on is no longer good here.
    ///
    /// # Errors
    /// [`Refusal::NotFound`] where there is none, or it has ended already.
    pub async fn end_session(&self, id: SessionId) -> Result<(), Refusal> {
        if let Some((signed, ends, _)) = self.core.live.lent_by(id) {
            // Whoever comes with the token for the first time waits until its end is on disk, and then finds it.
            let feed = self.core.feed.lock().await;
            let sessions = self.core.live.lent_by(id).map_or_else(|| vec![id], |(_, _, sessions)| sessions);
            for session in sessions {
                let entry = AuditEntry { session: Some(session), ..self.entry("session_end") };
                self.core.store.revoke(signed, ends, session, entry).await?;
            }
            drop(feed);
            self.core.changed().await;
            return Ok(());
        }
        match self.end(Which::Session(id)).await? {
            0 => Err(Refusal::NotFound("session")),
            _ => Ok(()),
        }
    }

    /// Ends all sessions of a user. Answers how many there were.
    ///
    /// # Errors
    /// [`Refusal::NotFound`] for a user who is not there.
    pub async fn end_sessions_of(&self, user: &str) -> Result<usize, Refusal> {
        let account = self.user(user).await?;
        self.end(Which::Account(account.id)).await
    }

    async fn end(&self, which: Which) -> Result<usize, Refusal> {
        let now = self.core.clock.now();
        let ended = self.core.store.end_sessions(which, Reason::Revoked, now, self.entry("session_end")).await?;
        self.core.changed().await;
        Ok(ended)
    }

    async fn change_client(&self, client: Client, end: Option<Reason>, action: &'static str) -> Result<Client, Refusal> {
        let entry = AuditEntry { client: Some(client.id.clone()), ..self.entry(action) };
        written(self.core.store.change_client(client.clone(), end, entry).await?)?;
        self.core.changed().await;
        Ok(Client { version: client.version + 1, ..client })
    }

    /// The hash to keep, and the secret to tell.
    async fn client_secret(&self, secret: ClientSecret) -> Result<(Option<String>, Option<Secret>), Refusal> {
        match secret {
            ClientSecret::None => Ok((None, None)),
            ClientSecret::Given(secret) => Ok((Some(self.core.passwords.hash(&secret).await?), None)),
            ClientSecret::Drawn => {
                let secret = self.drawn();
                Ok((Some(self.core.passwords.hash(&secret).await?), Some(secret)))
            }
        }
    }

    /// A secret that nobody guesses, in letters that survive any copying.
    fn drawn(&self) -> Secret {
        let bytes = zeroize::Zeroizing::new(draw::<32>(&*self.core.entropy));
        Secret::new(bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>())
    }

    fn scopes(&self, names: Vec<String>) -> Result<Scopes, String> {
        let catalogue = &self.core.settings().scopes;
        let find = |name: &String| catalogue.iter().find(|line| line.scope.as_str() == name).map(|line| line.scope.clone());
        names.iter().map(|name| find(name).ok_or_else(|| no_scope(name, catalogue.iter().map(|line| &line.scope)))).collect()
    }

    /// Says in the audit that a copy of all that is remembered is about to be made, under this name.
    ///
    /// # Errors
    /// [`Refusal::Unavailable`] where that cannot be written.
    pub async fn note_backup(&self, file: &str) -> Result<(), Refusal> {
        let entry = AuditEntry { name: Some(file.to_owned()), ..self.entry("backup") };
        Ok(self.core.store.audit(vec![entry]).await?)
    }

    pub(crate) fn entry(&self, action: &'static str) -> AuditEntry {
        let now = self.core.clock.now();
        match &self.operator {
            Operator::Local { uid } => {
                AuditEntry { source: Some(format!("uid {uid}")), ..AuditEntry::new(now, action, "operator") }
            }
            Operator::Peer { gate, address, name } => {
                let source = Some(address.to_canonical().to_string());
                AuditEntry { source, name: name.clone(), ..AuditEntry::new(now, action, gate) }
            }
        }
    }
}

fn keep<T>(parsed: Result<T, String>, faults: &mut Vec<String>) -> Option<T> {
    parsed.map_err(|fault| faults.push(fault)).ok()
}

fn placed(placed: Placed) -> Result<(), Refusal> {
    match placed {
        Placed::Done => Ok(()),
        Placed::Taken(field) => Err(Refusal::AlreadyExists(field)),
        Placed::Stale => Err(changed_meanwhile()),
    }
}

pub(crate) fn written(written: Written) -> Result<(), Refusal> {
    match written {
        Written::Done => Ok(()),
        Written::Stale => Err(changed_meanwhile()),
    }
}

fn no_such(what: &'static str) -> Refusal {
    Refusal::NotFound(what)
}

fn changed_meanwhile() -> Refusal {
    Refusal::Invalid(vec!["somebody else changed it meanwhile; nothing was done, look again".to_owned()])
}

fn display_name(text: &str) -> Result<String, String> {
    label("a display name", text).map_err(|fault| fault.0)
}

fn no_scope<'a>(name: &str, known: impl Iterator<Item = &'a Scope>) -> String {
    let known: Vec<&str> = known.map(Scope::as_str).collect();
    format!("there is no scope {name:?}; there are {}", known.join(", "))
}
