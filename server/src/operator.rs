//! The operators' door: a socket in the data directory on which the command line asks a running server.
//!
//! One line of JSON asks, one line answers. Who stands there is what the kernel says: only the user that the server runs as,
//! and root. Decides who may come in and how an operation is worded; what it does, `gatepost_identity::admin` decides. The
//! same operations run without a server, when the command line holds the data directory itself.

mod door;
mod facts;
mod look;
mod moving;
mod standing;
mod terminals;

use std::time::Duration;

pub use self::door::{Asking, listen, socket_path};
use self::facts::{api_key, audit, client, client_with, explain, key, made_api_key, minted, user};
pub use self::look::{AuditAsk, SessionAsk};
pub use self::moving::{Moment, MovedKey, RowText, UserRow};
pub use self::standing::Standing;
use gatepost_identity::Identity;
use gatepost_identity::account::Status;
use gatepost_identity::admin::{ClientChange, ClientSecret, NewClient, NewGrant, NewUser, Operator, UserChange};
use gatepost_identity::clock::Timestamp;
use gatepost_identity::keyring::KeyAlgorithm;
use gatepost_identity::refusal::Refusal;
use gatepost_identity::secret::Secret;
use gatepost_identity::session::SessionId;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// What an operator may ask.
#[derive(Debug, Serialize, Deserialize)]
// The word first and what it is about behind it: many rows are then read as they come, and not kept to be read again.
#[serde(rename_all = "snake_case", tag = "operation", content = "of")]
pub enum Operation {
    /// Adds a user.
    UserAdd {
        /// Name.
        name: String,
        /// Id that peers are told.
        id: Option<String>,
        /// Address.
        email: Option<String>,
        /// Friendly name.
        display_name: Option<String>,
        /// Given name.
        first_name: Option<String>,
        /// Family name.
        last_name: Option<String>,
        /// Where a picture is.
        profile_url: Option<String>,
        /// Roles.
        roles: Vec<String>,
        /// Permissions.
        permissions: Vec<String>,
        /// Scopes.
        scopes: Vec<String>,
        /// End, in milliseconds since the Unix epoch.
        expires_at: Option<i64>,
        /// Password.
        password: Option<Told>,
        /// Since when what was signed for the user counts, in milliseconds since the Unix epoch; none: from now on.
        signed_since: Option<i64>,
    },
    /// Users, a page at a time.
    UserList {
        /// The last name of the page before.
        after: Option<String>,
        /// How many.
        limit: usize,
    },
    /// One user.
    UserShow {
        /// Name, address or id.
        name: String,
    },
    /// Changes a user.
    UserSet {
        /// Name or address.
        name: String,
        /// Another name.
        new_name: Option<String>,
        /// Another address; empty takes it away.
        email: Option<String>,
        /// Another friendly name; empty takes it away.
        display_name: Option<String>,
        /// Another given name; empty takes it away.
        first_name: Option<String>,
        /// Another family name; empty takes it away.
        last_name: Option<String>,
        /// Another picture; empty takes it away.
        profile_url: Option<String>,
        /// All roles.
        roles: Option<Vec<String>>,
        /// All permissions.
        permissions: Option<Vec<String>>,
        /// All scopes.
        scopes: Option<Vec<String>>,
        /// Another end, in milliseconds since the Unix epoch; 0 takes it away.
        expires_at: Option<i64>,
    },
    /// Switches a user off.
    UserDisable {
        /// Name or address.
        name: String,
    },
    /// Switches a user on.
    UserEnable {
        /// Name or address.
        name: String,
    },
    /// Forgets failures that stand against a user.
    UserUnlock {
        /// Name or address.
        name: String,
    },
    /// Sets or takes away a password.
    UserSetPassword {
        /// Name or address.
        name: String,
        /// The password; none takes it away.
        password: Option<Told>,
    },
    /// Removes a user.
    UserRemove {
        /// Name or address.
        name: String,
    },
    /// Takes users from elsewhere; answers for each, in their order: `taken`, `known`, or why it was left.
    UserImport {
        /// The users, each a [`UserRow`].
        rows: Vec<RowText>,
        /// Whether only to say what would become of them.
        dry_run: bool,
        /// When the whole of it began, of which these are a part, in milliseconds since the Unix epoch. A server knows better.
        began: i64,
    },
    /// Users with the hashes of their passwords and their API keys, a page at a time.
    UserExport {
        /// The last name of the page before.
        after: Option<String>,
        /// How many.
        limit: usize,
    },
    /// Adds a client.
    ClientAdd {
        /// Id.
        id: String,
        /// Friendly name.
        display_name: Option<String>,
        /// Whether it has a secret.
        confidential: bool,
        /// Its secret; none: one is drawn.
        secret: Option<Told>,
        /// Scopes.
        scopes: Vec<String>,
        /// Whether it is told no token.
        without_token: bool,
        /// End, in milliseconds since the Unix epoch.
        expires_at: Option<i64>,
    },
    /// Clients, a page at a time.
    ClientList {
        /// The last id of the page before.
        after: Option<String>,
        /// How many.
        limit: usize,
    },
    /// One client.
    ClientShow {
        /// Id.
        id: String,
    },
    /// Changes a client.
    ClientSet {
        /// Id.
        id: String,
        /// Another friendly name; empty takes it away.
        display_name: Option<String>,
        /// All scopes.
        scopes: Option<Vec<String>>,
        /// Whether it is told a token.
        receives_token: Option<bool>,
        /// Another end, in milliseconds since the Unix epoch; 0 takes it away.
        expires_at: Option<i64>,
    },
    /// Gives a client another secret.
    ClientNewSecret {
        /// Id.
        id: String,
        /// The secret; none: one is drawn.
        secret: Option<Told>,
    },
    /// Switches a client off.
    ClientDisable {
        /// Id.
        id: String,
    },
    /// Switches a client on.
    ClientEnable {
        /// Id.
        id: String,
    },
    /// Removes a client.
    ClientRemove {
        /// Id.
        id: String,
    },
    /// Makes a grant and tells its code.
    GrantMint {
        /// The client that may redeem it.
        client: String,
        /// Name or address of the user whom it lets in.
        user: String,
        /// The provider that redeems it; none: the first one.
        provider: Option<String>,
        /// Scopes; none: all that can be had.
        scopes: Vec<String>,
        /// How long it is good, in milliseconds.
        life: u64,
    },
    /// Makes an API key and tells its text.
    ApiKeyAdd {
        /// Name or address of the user whom it speaks for.
        user: String,
        /// What it is to be used with.
        environment: String,
        /// End, in milliseconds since the Unix epoch.
        expires_at: Option<i64>,
    },
    /// The API keys of a user.
    ApiKeyList {
        /// Name or address.
        user: String,
    },
    /// Cancels an API key.
    ApiKeyRevoke {
        /// Name or address.
        user: String,
        /// The first letters of the key.
        prefix: String,
    },
    /// Cancels all API keys of a user.
    ApiKeyRevokeAll {
        /// Name or address.
        user: String,
    },
    /// Adds a terminal.
    TerminalAdd {
        /// Its name.
        name: String,
        /// The word of its plan.
        plan: String,
    },
    /// All terminals.
    TerminalList,
    /// One terminal.
    TerminalShow {
        /// Its name.
        name: String,
    },
    /// Protects a role of a terminal.
    TerminalProtect {
        /// Its name.
        name: String,
        /// The word of the role.
        role: String,
        /// The word of the protection.
        by: String,
        /// The password, where it is one.
        password: Option<Told>,
    },
    /// The PIN of a role of a terminal.
    TerminalShowPin {
        /// Its name.
        name: String,
        /// The word of the role.
        role: String,
    },
    /// Puts a terminal on another plan.
    TerminalPlan {
        /// Its name.
        name: String,
        /// The word of the plan.
        plan: String,
    },
    /// Removes a terminal.
    TerminalRemove {
        /// Its name.
        name: String,
    },
    /// Makes a key that signs.
    KeyAdd {
        /// Its algorithm.
        algorithm: String,
    },
    /// Takes over a key that an application has signed with.
    KeyImport {
        /// Its algorithm.
        algorithm: String,
        /// The key: base64, or PEM.
        key: Told,
    },
    /// The keys that sign, oldest first.
    KeyList,
    /// Retires a key.
    KeyRetire {
        /// Its number.
        number: u64,
        /// Whether what it has signed is no longer verified.
        now: bool,
    },
    /// Revokes signed tokens by their number.
    TokenRevoke {
        /// The number: `jti`.
        jti: String,
    },
    /// A piece of the sessions in force, newest first.
    SessionPage(SessionAsk),
    /// One session.
    SessionShow {
        /// Its id.
        id: String,
    },
    /// Ends a session.
    SessionEnd {
        /// Its id.
        id: String,
    },
    /// Ends all sessions of a user.
    SessionEndUser {
        /// Name or address.
        user: String,
    },
    /// Says that a backup is about to be made.
    BackupBegun {
        /// Where to.
        file: String,
    },
    /// A piece of the audit.
    AuditPage(AuditAsk),
    /// One line of the audit.
    AuditShow {
        /// Its number.
        number: u64,
    },
    /// How the server stands.
    Standing,
}

/// A secret on its way from the command line. Never printed.
#[derive(Serialize, Deserialize)]
#[serde(transparent)]
pub struct Told(String);

impl Told {
    /// Takes a secret along.
    pub fn new(text: String) -> Told {
        Told(text)
    }

    fn secret(self) -> Secret {
        Secret::new(self.0)
    }
}

impl std::fmt::Debug for Told {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Told(..)")
    }
}

/// The answer: what was asked for, or why not.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answered {
    /// Facts.
    Ok(Value),
    /// A refusal.
    Error {
        /// Its word.
        word: String,
        /// A sentence for people.
        message: String,
    },
}

/// Does what an operator asks.
pub async fn perform(identity: &Identity, operator: Operator, operation: Operation) -> Answered {
    answer(operate(identity, operator, operation).await)
}

fn answer(result: Result<Value, Refusal>) -> Answered {
    match result {
        Ok(facts) => Answered::Ok(facts),
        Err(refusal) => Answered::Error { word: refusal.word().to_owned(), message: explain(&refusal) },
    }
}

async fn operate(identity: &Identity, operator: Operator, operation: Operation) -> Result<Value, Refusal> {
    let admin = &identity.admin(operator.clone());
    match operation {
        Operation::UserAdd {
            name,
            id,
            email,
            display_name,
            first_name,
            last_name,
            profile_url,
            roles,
            permissions,
            scopes,
            expires_at,
            password,
            signed_since,
        } => {
            let new = NewUser {
                name,
                subject: id,
                email,
                display_name,
                first_name,
                last_name,
                profile_url,
                roles,
                permissions,
                scopes,
                expires_at: expires_at.map(Timestamp::from_millis),
                password: password.map(Told::secret),
                password_hash: None,
                signed_since: signed_since.map(Timestamp::from_millis),
            };
            Ok(user(&admin.add_user(new).await?))
        }
        Operation::UserList { after, limit } => Ok(admin.users(after.as_deref(), limit).await?.iter().map(user).collect()),
        Operation::UserShow { name } => Ok(user(&admin.user(&name).await?)),
        Operation::UserSet {
            name,
            new_name,
            email,
            display_name,
            first_name,
            last_name,
            profile_url,
            roles,
            permissions,
            scopes,
            expires_at,
        } => {
            let change = UserChange {
                name: new_name,
                email: email.map(unless_empty),
                display_name: display_name.map(unless_empty),
                first_name: first_name.map(unless_empty),
                last_name: last_name.map(unless_empty),
                profile_url: profile_url.map(unless_empty),
                roles,
                permissions,
                scopes,
                expires_at: expires_at.map(unless_zero),
            };
            Ok(user(&admin.set_user(&name, change).await?))
        }
        Operation::UserDisable { name } => Ok(user(&admin.set_user_status(&name, Status::Disabled).await?)),
        Operation::UserEnable { name } => Ok(user(&admin.set_user_status(&name, Status::Active).await?)),
        Operation::UserUnlock { name } => Ok(user(&admin.unlock_user(&name).await?)),
        Operation::UserSetPassword { name, password } => {
            Ok(user(&admin.set_password(&name, password.map(Told::secret).as_ref()).await?))
        }
        Operation::UserRemove { name } => Ok(user(&admin.remove_user(&name).await?)),
        Operation::ClientAdd { id, display_name, confidential, secret, scopes, without_token, expires_at } => {
            let secret = match secret {
                Some(secret) => ClientSecret::Given(secret.secret()),
                None if confidential => ClientSecret::Drawn,
                None => ClientSecret::None,
            };
            let expires_at = expires_at.map(Timestamp::from_millis);
            let (added, drawn) =
                admin.add_client(NewClient { id, display_name, secret, scopes, without_token, expires_at }).await?;
            Ok(client_with(&added, drawn))
        }
        Operation::UserImport { rows, dry_run, began } => {
            moving::import(identity.clone(), operator, rows, (dry_run, Timestamp::from_millis(began)), std::future::ready(())).await
        }
        Operation::UserExport { after, limit } => moving::export(admin, after.as_deref(), limit).await,
        Operation::ClientList { after, limit } => Ok(admin.clients(after.as_deref(), limit).await?.iter().map(client).collect()),
        Operation::ClientShow { id } => Ok(client(&admin.client(&id).await?)),
        Operation::ClientSet { id, display_name, scopes, receives_token, expires_at } => {
            let change = ClientChange {
                display_name: display_name.map(unless_empty),
                scopes,
                receives_token,
                expires_at: expires_at.map(unless_zero),
            };
            Ok(client(&admin.set_client(&id, change).await?))
        }
        Operation::ClientNewSecret { id, secret } => {
            let secret = secret.map_or(ClientSecret::Drawn, |secret| ClientSecret::Given(secret.secret()));
            let (changed, drawn) = admin.new_client_secret(&id, secret).await?;
            Ok(client_with(&changed, drawn))
        }
        Operation::ClientDisable { id } => Ok(client(&admin.set_client_status(&id, Status::Disabled).await?)),
        Operation::ClientEnable { id } => Ok(client(&admin.set_client_status(&id, Status::Active).await?)),
        Operation::ClientRemove { id } => Ok(client(&admin.remove_client(&id).await?)),
        Operation::GrantMint { client, user, provider, scopes, life } => {
            let new = NewGrant { client, user: user.clone(), provider, scopes, life: Duration::from_millis(life) };
            let (grant, code) = admin.mint_grant(new).await?;
            Ok(minted(&grant, &user, &code))
        }
        Operation::ApiKeyAdd { user, environment, expires_at } => {
            let expires_at = expires_at.map(Timestamp::from_millis);
            let (key, text) = admin.add_api_key(&user, &environment, expires_at).await?;
            Ok(made_api_key(&key, &text))
        }
        Operation::ApiKeyList { user } => Ok(admin.api_keys(&user).await?.iter().map(api_key).collect()),
        Operation::ApiKeyRevoke { user, prefix } => Ok(api_key(&admin.cancel_api_key(&user, &prefix).await?)),
        Operation::ApiKeyRevokeAll { user } => Ok(json!({ "cancelled": admin.cancel_api_keys(&user).await? })),
        Operation::TerminalAdd { name, plan } => Ok(terminals::facts(&admin.add_terminal(&name, terminals::plan(&plan)?).await?)),
        Operation::TerminalList => Ok(admin.terminals().await?.iter().map(terminals::facts).collect()),
        Operation::TerminalShow { name } => Ok(terminals::facts(&admin.terminal(&name).await?)),
        Operation::TerminalProtect { name, role, by, password } => terminals::protect(admin, &name, &role, &by, password).await,
        Operation::TerminalShowPin { name, role } => terminals::pin(admin, &name, &role).await,
        Operation::TerminalPlan { name, plan } => {
            Ok(terminals::facts(&admin.set_terminal_plan(&name, terminals::plan(&plan)?).await?))
        }
        Operation::TerminalRemove { name } => Ok(terminals::facts(&admin.remove_terminal(&name).await?)),
        Operation::KeyAdd { algorithm } => Ok(key(&admin.add_key(key_algorithm(&algorithm)?).await?)),
        Operation::KeyImport { algorithm, key: text } => {
            Ok(key(&admin.import_key(key_algorithm(&algorithm)?, &text.secret()).await?))
        }
        Operation::KeyList => Ok(admin.keys().await?.iter().map(key).collect()),
        Operation::KeyRetire { number, now } => Ok(key(&admin.retire_key(number, now).await?)),
        Operation::TokenRevoke { jti } => {
            admin.revoke_token(&jti).await?;
            Ok(json!({ "revoked": jti }))
        }
        Operation::SessionPage(ask) => look::sessions(admin, ask).await,
        Operation::SessionShow { id } => Ok(look::session(&admin.session(session_id(&id)?).await?)),
        Operation::SessionEnd { id } => {
            admin.end_session(session_id(&id)?).await?;
            Ok(json!({ "ended": 1 }))
        }
        Operation::SessionEndUser { user } => Ok(json!({ "ended": admin.end_sessions_of(&user).await? })),
        Operation::BackupBegun { file } => {
            admin.note_backup(&file).await?;
            Ok(Value::Null)
        }
        Operation::AuditPage(ask) => look::audit(admin, ask).await,
        Operation::AuditShow { number } => Ok(audit(&admin.audit_line(number).await?)),
        // Whoever answers without a server has none that could be told of.
        Operation::Standing => Err(Refusal::NotFound("server")),
    }
}

fn key_algorithm(word: &str) -> Result<KeyAlgorithm, Refusal> {
    KeyAlgorithm::parse(word).ok_or_else(|| {
        let known = KeyAlgorithm::ALL.map(KeyAlgorithm::word).join(", ");
        Refusal::Invalid(vec![format!("{word:?} is no algorithm; there are {known}")])
    })
}

fn session_id(text: &str) -> Result<SessionId, Refusal> {
    text.parse().map(SessionId).map_err(|_| Refusal::Invalid(vec![format!("{text:?} is not the id of a session")]))
}

fn unless_empty(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}

fn unless_zero(millis: i64) -> Option<Timestamp> {
    (millis != 0).then(|| Timestamp::from_millis(millis))
}
