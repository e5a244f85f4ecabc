//! What must be remembered, as verbs: the traits [`Store`] and [`Shared`].
//!
//! Each verb of [`Store`] is one transaction: all of it, or nothing. A verb that changes something answers once the change
//! would survive a power cut. Implementations decide nothing; where a verb depends on facts that may have changed since
//! they were read, it says so in its result. "Not there" is `None`, "changed meanwhile" is [`Written::Stale`], "broken"
//! is [`StoreError`].

use async_trait::async_trait;

use crate::account::{Account, AccountId, Client, ClientId, NameKey, Status};
use crate::api_key::ApiKey;
use crate::audit::{AuditEntry, AuditRow};
use crate::clock::Timestamp;
use crate::family::Family;
use crate::keyring::{Retired, SigningKey};
use crate::refusal::Refusal;
use crate::reply::Reason;
use crate::scope::ScopeRequest;
use crate::secret::Secret;
use crate::session::{Session, SessionId};
use crate::terminal::{Guard, Plan, Terminal, TerminalName};
use crate::throttle::ThrottleRow;

/// The store cannot do it. The message is for the log and for operators; peers are told `Unavailable`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct StoreError(pub String);

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Refusal {
        tracing::error!(error = %error.0, "the store failed: {error}");
        Refusal::Unavailable
    }
}

/// The SHA-256 of a token's bytes: all that is kept of it.
pub type TokenHash = [u8; 32];

/// A token that restores a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// Its hash.
    pub hash: TokenHash,
    /// Whose it is.
    pub session: SessionId,
    /// The token at whose presentation it was issued; none for the first.
    pub parent: Option<TokenHash>,
    /// When it was issued.
    pub issued_at: Timestamp,
    /// When it ends in any case.
    pub expires_at: Timestamp,
    /// When it was first presented; none: never.
    pub presented_at: Option<Timestamp>,
    /// When a token that grew from it was first presented; some time after that it is no longer good. None: never.
    pub superseded_at: Option<Timestamp>,
}

/// An account that comes from elsewhere, with the API keys that speak for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewAccount {
    /// The account.
    pub account: Account,
    /// Its keys.
    pub api_keys: Vec<ApiKey>,
}

/// API keys that are made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewApiKeys {
    /// Whose they are.
    pub account: AccountId,
    /// The keys.
    pub keys: Vec<ApiKey>,
    /// The environment whose other keys are cancelled, where they take their place.
    pub in_place_of: Option<String>,
    /// When.
    pub at: Timestamp,
}

/// A session with the tokens that may still speak for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredSession {
    /// The session.
    pub session: Session,
    /// Its tokens that are not superseded, or were so after the moment asked about; and the one that was asked for.
    pub tokens: Vec<Token>,
}

/// The right to begin one session, told as a code that is good once. It is bound to whom it was made for: whoever else
/// holds the code has nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// The SHA-256 of the code.
    pub hash: TokenHash,
    /// The client that may redeem it.
    pub client: ClientId,
    /// The account that the session will be of.
    pub account: AccountId,
    /// The provider that may be asked to redeem it.
    pub provider: String,
    /// What may be asked for with it: all that the account may have, or no more than these.
    pub scopes: ScopeRequest,
    /// When it was made.
    pub issued_at: Timestamp,
    /// When it can no longer be redeemed.
    pub expires_at: Timestamp,
    /// How it was redeemed, if it was.
    pub redeemed: Option<Redemption>,
}

/// The one use of a grant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Redemption {
    /// When.
    pub at: Timestamp,
    /// The session that it began.
    pub session: SessionId,
}

/// A terminal, as it is kept.
#[derive(Clone, Debug)]
pub struct StoredTerminal {
    /// Its name.
    pub name: TerminalName,
    /// Its plan.
    pub plan: Plan,
    /// What guards the administrator.
    pub administrator: Guard,
    /// What guards the user.
    pub user: Guard,
    /// Counts its changes, from 1.
    pub version: u64,
}

impl StoredTerminal {
    /// The terminal, with the PIN that the program was begun with.
    pub fn with(&self, command_line_pin: Option<Secret>) -> Terminal {
        let StoredTerminal { name, plan, administrator, user, .. } = self.clone();
        Terminal { name, plan, administrator, user, command_line_pin }
    }
}

/// What became of the redemption of a grant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Redeemed {
    /// The session has begun and the grant is spent.
    Done,
    /// Nothing was written: as [`Written::Stale`], or the grant is gone.
    Stale,
    /// It was spent before. No session has begun, and the one that the first use began has ended.
    Spent,
}

/// What became of a write that names the version it was decided by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// It is on disk.
    Done,
    /// Nothing was written: the account, client or session is no longer as it was when this was decided, or is gone.
    Stale,
}

/// What became of a write of API keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeysWritten {
    /// They are on disk.
    Done,
    /// Nothing was written: the account is gone.
    Stale,
    /// Nothing was written: the account would have more than [`MOST_API_KEYS`](crate::api_key::MOST_API_KEYS) in force.
    Full,
}

/// What became of a write of a name that must be unique.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placed {
    /// It is on disk.
    Done,
    /// Nothing was written: somebody else has this `field` (`name`, `email`, `id`; `key` of an API key).
    Taken(&'static str),
    /// Nothing was written: as [`Written::Stale`].
    Stale,
}

/// A session that begins, with its first token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewSession {
    /// The session.
    pub session: Session,
    /// Its first token, where it gets one.
    pub token: Option<Token>,
    /// The account's version that this was decided by, where there is an account.
    pub account_version: Option<u64>,
    /// The account's cut-off that this was decided by; of no meaning where there is no account. It moves without a version, and what
    /// ends all that an account has must not leave out what is on its way.
    pub account_cut_off: Timestamp,
    /// The client's version that this was decided by.
    pub client_version: u64,
    /// A password hash under the present settings, to be kept in the account in place of the one that was proved. Does
    /// not count as a change of the account.
    pub rehashed: Option<String>,
    /// As `rehashed`, for the client's secret.
    pub rehashed_secret: Option<String>,
    /// The session whose place it takes, and what the audit says of its end: it ends in the same transaction, displaced.
    pub replaces: Option<(SessionId, AuditEntry)>,
    /// What the audit says of it.
    pub audit: AuditEntry,
}

/// New hashes of secrets that were proved, made under the present settings, each with the version of its owner that the proof
/// was decided by.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rehashed {
    /// Of a password.
    pub account: Option<(AccountId, u64, String)>,
    /// Of a client's secret.
    pub client: Option<(ClientId, u64, String)>,
}

/// A token that was presented, and its successor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Roll {
    /// The session; its `used_at` becomes `at`.
    pub session: SessionId,
    /// The one presented. Becomes presented, if it was not.
    pub presented: TokenHash,
    /// The one from which it grew: becomes superseded at `at`, if it was not.
    pub supersedes: Option<TokenHash>,
    /// The successor; its parent is `presented`.
    pub successor: Token,
    /// Tokens that are given up.
    pub given_up: Vec<TokenHash>,
    /// When.
    pub at: Timestamp,
    /// The account's version that this was decided by, where there is an account.
    pub account_version: Option<u64>,
    /// The client's version that this was decided by.
    pub client_version: u64,
}

/// Which sessions. Those of an account or a client are ended together with the grants for it that were not redeemed: they are
/// sessions to come. Where those of an account end, all of them, its families go and
/// its cut-off moves ([`cut_off_after`](crate::account::cut_off_after)), so that nothing signed for it before stands either. The
/// moment is that of the write, and not the earlier one at which somebody asked for it: what was signed in between is cut off, too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Which {
    /// This one.
    Session(SessionId),
    /// All of this account.
    Account(AccountId),
    /// All that came through this client.
    Client(ClientId),
    /// All that were last used at or before this moment.
    UsedBefore(Timestamp),
    /// All whose own end was at or before this moment.
    ExpiredBefore(Timestamp),
}

/// The most sessions that end at once because their time is over; whoever ends them comes again for the rest.
pub const MOST_OVER: usize = 1_000;

/// What is past, and may be forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Past {
    /// What ended before this by itself: tokens and families, grants that were not redeemed, retired keys. Without its row such a
    /// thing is no good, whatever the clock says later.
    pub now: Timestamp,
    /// Sessions and API keys that ended before this; and what says that something signed is no good, which would be good again
    /// without it if the clock was ahead and is set back: revocations, and families that were adopted.
    pub ended: Timestamp,
    /// Lines of the audit that were written before this; the newest one always stays.
    pub audit: Timestamp,
}

/// One page of a listing: what comes after `after` in its own order, at most `limit` rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<K> {
    /// The key of the last row of the page before; none for the first.
    pub after: Option<K>,
    /// 1 to 1000.
    pub limit: usize,
}

/// One line of the feed of changes, which every node's memory follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A session ended.
    SessionEnded(SessionId, Reason),
    /// A token that was presented after its time took with it those that grew from it. Each is gone.
    TokensEnded(SessionId, Vec<TokenHash>),
    /// An account was changed or removed; what it may do must be looked up again.
    Account(AccountId),
    /// A client was changed or removed.
    Client(ClientId),
    /// The keys that sign, or verify, are others now.
    Keys,
    /// An API key of this hash was made.
    ApiKeyMade(TokenHash),
    /// What has this hash, and speaks for an account by itself, is no longer good.
    Revoked(TokenHash),
}

/// What Gatepost remembers.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// A secret of this installation by its name: made from `fresh` the first time it is asked for.
    async fn secret(&self, name: &'static str, fresh: [u8; 32]) -> Result<[u8; 32], StoreError>;

    /// All keys, oldest first. Where none of the purpose of `fresh` signs, `fresh` is kept and is the one, whoever else asks at the
    /// same time; appends `Change::Keys` then.
    async fn signing_keys(&self, fresh: SigningKey) -> Result<Vec<SigningKey>, StoreError>;
    /// All keys, oldest first.
    async fn keys(&self) -> Result<Vec<SigningKey>, StoreError>;
    /// Keeps a new key. Appends `Change::Keys`. Answers its number.
    async fn add_key(&self, key: SigningKey, audit: AuditEntry) -> Result<u64, StoreError>;
    /// Retires a key; one that is retired already ends at `retired.until` where that is earlier. Appends `Change::Keys`.
    async fn retire_key(&self, number: u64, retired: Retired, audit: AuditEntry) -> Result<(), StoreError>;

    /// The account with this name or this e-mail address.
    async fn account_named(&self, key: &NameKey) -> Result<Option<Account>, StoreError>;
    /// The account with this id.
    async fn account(&self, id: AccountId) -> Result<Option<Account>, StoreError>;
    /// The account with this public id.
    async fn account_known_as(&self, subject: &str) -> Result<Option<Account>, StoreError>;
    /// Accounts by the key of their name.
    async fn accounts(&self, page: Page<NameKey>) -> Result<Vec<Account>, StoreError>;
    /// Keeps a new account.
    async fn add_account(&self, account: Account, audit: AuditEntry) -> Result<Placed, StoreError>;
    /// Keeps new accounts with their API keys: each as [`Store::add_account`] does, or nothing of it. Answers for each, in their
    /// order. The audit has one line for all that were kept, with their number; none where none was.
    async fn add_accounts(&self, new: Vec<NewAccount>, audit: AuditEntry) -> Result<Vec<Placed>, StoreError>;
    /// Replaces the account that has `account.version`; the new row has the version after it. Appends `Change::Account`.
    /// Its cut-off never moves back, whatever the change was made from. Ends all its sessions in the same transaction where `end`
    /// says why; `audit` is written beside.
    async fn change_account(&self, account: Account, end: Option<Reason>, audit: AuditEntry) -> Result<Placed, StoreError>;
    /// Removes the account, if it still has this version, and ends its sessions. Its API keys stay behind without it, removed when
    /// `audit` says. Appends `Change::Account`. Erases its names from the newest lines of the audit, as [`Store::erase_names`] does,
    /// so that none is written between that and this.
    async fn remove_account(&self, id: AccountId, version: u64, audit: AuditEntry) -> Result<Written, StoreError>;

    /// The client with this id.
    async fn client(&self, id: &ClientId) -> Result<Option<Client>, StoreError>;
    /// Clients by id.
    async fn clients(&self, page: Page<ClientId>) -> Result<Vec<Client>, StoreError>;
    /// Keeps a new client.
    async fn add_client(&self, client: Client, audit: AuditEntry) -> Result<Placed, StoreError>;
    /// As [`Store::change_account`]. Appends `Change::Client`.
    async fn change_client(&self, client: Client, end: Option<Reason>, audit: AuditEntry) -> Result<Written, StoreError>;
    /// As [`Store::remove_account`]. Appends `Change::Client`.
    async fn remove_client(&self, id: ClientId, version: u64, audit: AuditEntry) -> Result<Written, StoreError>;

    /// Begins a session, unless account or client are no longer of the version named, or not active.
    async fn start_session(&self, new: NewSession) -> Result<Written, StoreError>;
    /// Keeps new hashes of secrets that were proved without beginning a session. No change of their owners: one that is no longer
    /// of the version named stays as it is.
    async fn rehash(&self, rehashed: Rehashed) -> Result<(), StoreError>;
    /// Keeps a new grant.
    async fn add_grant(&self, grant: Grant, audit: AuditEntry) -> Result<(), StoreError>;
    /// The grant with this hash.
    async fn grant(&self, hash: &TokenHash) -> Result<Option<Grant>, StoreError>;
    /// Redeems a grant: as [`Store::start_session`], and the grant is marked with the session. Where it was redeemed before,
    /// ends the session that this began, as [`Store::end_sessions`] does it, with [`Reason::Revoked`], at `reuse.at` and with
    /// the line `reuse`; so that whoever uses a grant twice ends it, whichever use came first, and it ends once.
    async fn redeem(&self, grant: TokenHash, new: NewSession, reuse: AuditEntry) -> Result<Redeemed, StoreError>;
    /// Rolls a token, unless the session has ended, the presented token is gone, or a version is not as named.
    async fn roll(&self, roll: Roll) -> Result<Written, StoreError>;
    /// Ends the token's descendants, all generations of them: its own row stays. Appends `Change::TokensEnded` with the
    /// hashes that went, unless there were none.
    async fn end_descendants(&self, of: TokenHash, audit: AuditEntry) -> Result<(), StoreError>;
    /// The session that a token speaks for, ended or not, with its tokens (see [`StoredSession::tokens`]) that were not
    /// superseded before `since`.
    async fn session_by_token(&self, token: &TokenHash, since: Timestamp) -> Result<Option<StoredSession>, StoreError>;
    /// One session.
    async fn session(&self, id: SessionId) -> Result<Option<Session>, StoreError>;
    /// Sessions not ended, newest first; of one account only where it is named. `after` is the last one of the page before.
    async fn sessions(&self, of: Option<AccountId>, page: Page<SessionId>) -> Result<Vec<Session>, StoreError>;
    /// Ends sessions that have not ended, deletes their tokens, appends `Change::SessionEnded` for each and writes `audit`
    /// once for each, naming its session, account and client. Of those whose time is over, [`MOST_OVER`] at once. Of [`Which::Account`] it appends `Change::Account` too, since the
    /// account's cut-off has moved. Answers how many there were.
    async fn end_sessions(&self, which: Which, reason: Reason, at: Timestamp, audit: AuditEntry) -> Result<usize, StoreError>;
    /// Says that a token of somebody else's is no longer good here, until it ends by itself at `until`. Appends
    /// `Change::Revoked`, and `Change::SessionEnded` for the borrowed session that rests on it.
    async fn revoke(&self, token: TokenHash, until: Timestamp, session: SessionId, audit: AuditEntry) -> Result<(), StoreError>;
    /// Whether [`Store::revoke`] was said of this token.
    async fn is_revoked(&self, token: &TokenHash) -> Result<bool, StoreError>;
    /// The first four bytes of everything that [`Store::is_revoked`] says yes to, in any order; at most `limit`.
    async fn revoked_marks(&self, limit: usize) -> Result<Vec<[u8; 4]>, StoreError>;
    /// As [`Store::revoke`], of what rests on no session: of a token of ours, by itself or by its number. Appends `Change::Revoked`.
    async fn revoke_signed(&self, token: TokenHash, until: Timestamp, audit: AuditEntry) -> Result<(), StoreError>;
    /// Keeps a new family, or, with `was`, its next state in the place of the one whose present token has that number. Where the
    /// account has [`MOST_FAMILIES`](crate::family::MOST_FAMILIES) others, those used longest ago end, as in [`Store::end_family`].
    /// Writes nothing where the account's cut-off is no longer `cut_off`, the family is there already, is gone, or has another
    /// present token.
    async fn put_family(&self, family: Family, was: Option<i64>, cut_off: Timestamp) -> Result<Written, StoreError>;
    /// The family with this id.
    async fn family(&self, id: &TokenHash) -> Result<Option<Family>, StoreError>;
    /// Ends a family, if it is there: its record goes, and where it was adopted, its id is revoked for as long as it would have
    /// lived. Appends `Change::Revoked` with its id.
    async fn end_family(&self, id: TokenHash, audit: AuditEntry) -> Result<(), StoreError>;
    /// Reserves `count` numbers that nobody has had, and answers the first; they begin with 1.
    async fn reserve(&self, name: &'static str, count: u64) -> Result<u64, StoreError>;
    /// Forgets what is [`Past`], at most `most` rows of each kind, and answers whether there may be more. A grant that was redeemed is kept as long as the record of the session it began, since a second use ends that.
    async fn forget(&self, past: Past, most: usize) -> Result<bool, StoreError>;
    /// Takes the names from the lines of the audit that are of this account, or of any of these names whoever they are of. Looks at
    /// the next `most` lines after number `after` that have a name or a source; answers the last one of these, unless no more come.
    async fn erase_names(&self, of: AccountId, names: Vec<NameKey>, after: u64, most: usize) -> Result<Option<u64>, StoreError>;

    /// Keeps new API keys, each with `Change::ApiKeyMade`. Those whose place they take are cancelled in the same transaction, each with `Change::Revoked`. An
    /// account that is full still takes new ones in the place of as many. Of those that were cancelled, as many are kept as may be in
    /// force, so that whoever renews theirs all day fills no disk.
    async fn add_api_keys(&self, new: NewApiKeys, audit: AuditEntry) -> Result<KeysWritten, StoreError>;
    /// Keeps API keys that are nobody's, each with `Change::ApiKeyMade`; all of them, or none where one is there already: then `key`
    /// is taken.
    async fn add_nobodys_keys(&self, keys: Vec<ApiKey>, audit: AuditEntry) -> Result<Placed, StoreError>;
    /// The first four bytes of the hash of every API key there is, in any order; at most `limit`.
    async fn api_key_marks(&self, limit: usize) -> Result<Vec<[u8; 4]>, StoreError>;
    /// The API key with this hash.
    async fn api_key(&self, hash: &TokenHash) -> Result<Option<ApiKey>, StoreError>;
    /// 1000 API keys of an account: those that were not cancelled before those that were, and the newest first.
    async fn api_keys(&self, of: AccountId) -> Result<Vec<ApiKey>, StoreError>;
    /// Cancels an API key that was not. Appends `Change::Revoked`.
    async fn cancel_api_key(&self, hash: TokenHash, at: Timestamp, audit: AuditEntry) -> Result<(), StoreError>;
    /// Cancels all API keys of an account that were not, each with `Change::Revoked`. Answers how many there were.
    async fn cancel_api_keys(&self, of: AccountId, at: Timestamp, audit: AuditEntry) -> Result<usize, StoreError>;

    /// All terminals, by name.
    async fn terminals(&self) -> Result<Vec<StoredTerminal>, StoreError>;
    /// Keeps a new terminal. Where there is one of that name, `name` is taken.
    async fn add_terminal(&self, terminal: StoredTerminal, audit: AuditEntry) -> Result<Placed, StoreError>;
    /// Replaces plan and guards of the terminal that has `terminal.version`; the new row has the version after it.
    async fn change_terminal(&self, terminal: StoredTerminal, audit: AuditEntry) -> Result<Written, StoreError>;
    /// Removes the terminal, if it still has this version.
    async fn remove_terminal(&self, name: TerminalName, version: u64, audit: AuditEntry) -> Result<Written, StoreError>;

    /// Lines of the feed after number `after`, oldest first, with their numbers; at most `limit`.
    async fn feed(&self, after: u64, limit: usize) -> Result<Vec<(u64, Change)>, StoreError>;
    /// The number of the newest line of the feed; 0 where there is none.
    async fn feed_end(&self) -> Result<u64, StoreError>;

    /// Writes what the audit says, in this order.
    async fn audit(&self, entries: Vec<AuditEntry>) -> Result<(), StoreError>;
    /// Lines of the audit: the newest `limit` before number `before` (none: the newest), newest first.
    async fn audit_before(&self, before: Option<u64>, limit: usize) -> Result<Vec<AuditRow>, StoreError>;
    /// Lines of the audit after number `after`, oldest first; at most `limit`.
    async fn audit_after(&self, after: u64, limit: usize) -> Result<Vec<AuditRow>, StoreError>;

    /// What the throttle knew when it was last written.
    async fn throttle(&self) -> Result<Vec<ThrottleRow>, StoreError>;
    /// Keeps these rows in the place of those in the same slots. A row with nothing to remember deletes its slot.
    async fn save_throttle(&self, rows: Vec<ThrottleRow>) -> Result<(), StoreError>;
}

/// What nodes tell each other at once. It only wakes whoever waits: facts travel through [`Store::feed`].
#[async_trait]
pub trait Shared: Send + Sync + 'static {
    /// Says that the feed has grown.
    fn announce(&self);
    /// Completes when somebody has announced since this was last asked.
    async fn announced(&self);
}

/// [`Shared`] within one process.
#[derive(Default)]
pub struct OneNode(tokio::sync::Notify);

#[async_trait]
impl Shared for OneNode {
    fn announce(&self) {
        self.0.notify_one();
    }

    async fn announced(&self) {
        self.0.notified().await;
    }
}

/// Whether the state of an account or client lets a session begin. Implementations of [`Store`] ask this inside the
/// transaction, so that the rule stands once.
pub fn still_as_decided(status: Status, version: u64, decided_by: u64) -> Written {
    if status == Status::Active && version == decided_by { Written::Done } else { Written::Stale }
}
