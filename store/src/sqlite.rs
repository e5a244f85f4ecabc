//! The store over SQLite: opens a data directory, and sends each verb to a thread that may block.
//!
//! Here stands which verb goes to the writer and which to the readers; what a verb does stands in `writes.rs` and
//! `reads.rs`. A handle is cheap to clone. When the last one is dropped, the workers finish what waits, and end.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use gatepost_identity::account::{Account, AccountId, Client, ClientId, NameKey};
use gatepost_identity::api_key::ApiKey;
use gatepost_identity::audit::{AuditEntry, AuditRow};
use gatepost_identity::clock::Timestamp;
use gatepost_identity::family::Family;
use gatepost_identity::keyring::{Retired, SigningKey};
use gatepost_identity::reply::Reason;
use gatepost_identity::session::{Session, SessionId};
use gatepost_identity::store::{
    Change, Grant, KeysWritten, NewAccount, NewApiKeys, NewSession, Page, Past, Placed, Redeemed, Rehashed, Roll, Store,
    StoreError, StoredSession, StoredTerminal, TokenHash, Which, Written,
};
use gatepost_identity::terminal::TerminalName;
use gatepost_identity::throttle::ThrottleRow;
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use crate::directory::{self, Hold, OpenError};
use crate::failure::Failure;
use crate::figures::Figures;
use crate::job::{Job, ask};
use crate::migrations::{self, Standing};
use crate::{readers, reads, restore, writer, writes};

/// Reads wait for a thread, not for the disk: two keep one slow listing from holding up look-ups.
const READERS: usize = 2;

/// Statements that a connection keeps ready; there are fewer than this.
const STATEMENTS: usize = 128;

/// How many rows of one verb are many to the writer.
const MANY: usize = 200;

/// How long to wait for somebody else's lock. Only an operator's tools can hold one, since the directory is ours.
pub(crate) const BUSY: Duration = Duration::from_secs(5);

/// The store over SQLite. Each clone is a handle on the same one.
#[derive(Clone)]
pub struct Sqlite {
    writer: Sender<Box<dyn Job>>,
    readers: Sender<Box<dyn Job>>,
    figures: Arc<Figures>,
    /// Set by whoever writes many rows, for the writer to see.
    many: Arc<AtomicBool>,
}

/// A blocking loop that wants a thread of its own. It ends when every [`Sqlite`] handle is dropped and what waited is
/// done; the data directory is given back when the last worker has ended.
pub struct Worker {
    /// A name for its thread.
    pub name: &'static str,
    run: Box<dyn FnOnce() + Send>,
}

impl Worker {
    /// Works until every handle is dropped.
    pub fn run(self) {
        (self.run)();
    }
}

impl Sqlite {
    /// Opens the data directory, makes what is missing in it, and brings its schema to the present one. Verbs wait until
    /// the workers run.
    ///
    /// # Errors
    /// Where another process holds the directory, a newer version wrote it, the file is not ours, or the system says no.
    pub fn open(directory: &Path) -> Result<(Sqlite, Vec<Worker>), OpenError> {
        let hold = Arc::new(directory::hold(directory)?);
        restore::forget_unfinished(directory);
        let file = directory::database_file(directory);
        directory::make_database(&file)?;
        let failed = |error: rusqlite::Error| OpenError::Database { file: file.clone(), why: error.to_string() };

        let mut connection = connect(&file, OpenFlags::SQLITE_OPEN_READ_WRITE).map_err(failed)?;
        let found = match migrations::standing(&connection).map_err(failed)? {
            Standing::Foreign => return Err(OpenError::Foreign { file }),
            Standing::Schema(found) if found > migrations::known() => {
                return Err(OpenError::Newer { found, known: migrations::known() });
            }
            Standing::Schema(found) => found,
            Standing::Empty => 0,
        };
        directory::seal_database(&file)?;
        prepare_to_write(&connection).map_err(failed)?;
        migrations::migrate(&mut connection, found).map_err(failed)?;

        let figures = Arc::new(Figures::default());
        let many = Arc::new(AtomicBool::new(false));
        let (to_writer, jobs) = channel();
        let writer = {
            let (figures, many, hold) = (Arc::clone(&figures), Arc::clone(&many), Arc::clone(&hold));
            worker("store-writer", connection, hold, move |connection| writer::work(connection, &jobs, &figures, &many))
        };
        let mut workers = vec![writer];

        let (to_readers, jobs) = channel();
        let queue: readers::Queue = Arc::new(Mutex::new(jobs));
        for _ in 0..READERS {
            let connection = connect(&file, OpenFlags::SQLITE_OPEN_READ_ONLY).map_err(failed)?;
            let queue = Arc::clone(&queue);
            workers
                .push(worker("store-reader", connection, Arc::clone(&hold), move |connection| readers::work(connection, &queue)));
        }
        Ok((Sqlite { writer: to_writer, readers: to_readers, figures, many }, workers))
    }

    /// How many commits the writer has made since it was opened; for the tests that show that writes share them.
    pub fn commits(&self) -> u64 {
        self.figures.commits().count()
    }

    /// What is counted of it.
    pub fn figures(&self) -> &Figures {
        &self.figures
    }

    /// Whether it can be read.
    ///
    /// # Errors
    /// The cause.
    pub async fn answers(&self) -> Result<(), StoreError> {
        self.read(reads::answers).await
    }

    /// How many sessions are in force, by the gate that they came through. Every one of them is looked at: not to be asked often.
    ///
    /// # Errors
    /// The cause.
    pub async fn sessions_by_gate(&self) -> Result<Vec<(String, u64)>, StoreError> {
        self.read(reads::sessions_by_gate).await
    }

    async fn write<T: Send + 'static>(
        &self,
        verb: impl FnOnce(&Connection) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, StoreError> {
        ask(&self.writer, verb).await
    }

    async fn read<T: Send + 'static>(
        &self,
        verb: impl FnOnce(&Connection) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, StoreError> {
        ask(&self.readers, verb).await
    }
}

/// A worker over a connection. The connection is closed before the hold on the directory is given up.
fn worker(name: &'static str, connection: Connection, hold: Arc<Hold>, work: impl FnOnce(&Connection) + Send + 'static) -> Worker {
    let run = move || {
        work(&connection);
        drop(connection);
        drop(hold);
    };
    Worker { name, run: Box::new(run) }
}

pub(crate) fn connect(file: &Path, access: OpenFlags) -> rusqlite::Result<Connection> {
    // Each connection stays with one thread, so SQLite's own mutexes would only cost.
    let connection = Connection::open_with_flags(file, access | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    connection.busy_timeout(BUSY)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    // A kept statement keeps its plan, instead of being prepared anew when a value that is bound to it might want another.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    Ok(connection)
}

/// `synchronous = FULL`: a commit that was answered survives a power cut, which `NORMAL` does not promise with a
/// write-ahead log.
fn prepare_to_write(connection: &Connection) -> rusqlite::Result<()> {
    let mode: String = connection.pragma_update_and_check(None, "journal_mode", "wal", |row| row.get(0))?;
    if mode != "wal" {
        tracing::warn!(mode, "the file system allows no write-ahead log; the journal is {mode}, and reads wait for writes");
    }
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", true)
}

#[async_trait]
impl Store for Sqlite {
    async fn secret(&self, name: &'static str, fresh: [u8; 32]) -> Result<[u8; 32], StoreError> {
        // It is written once in a lifetime; a server that starts on a disk that cannot be written to still finds it.
        match self.read(move |connection| reads::secret(connection, name)).await? {
            Some(secret) => Ok(secret),
            None => self.write(move |connection| writes::secret(connection, name, &fresh)).await,
        }
    }

    async fn signing_keys(&self, fresh: SigningKey) -> Result<Vec<SigningKey>, StoreError> {
        // As a secret: a disk that cannot be written to is no reason not to start.
        match self.read(reads::signing_keys).await? {
            keys if keys.iter().any(|key| key.purpose == fresh.purpose && key.retired.is_none()) => Ok(keys),
            _ => self.write(move |connection| writes::keys::signing_keys(connection, &fresh)).await,
        }
    }

    async fn keys(&self) -> Result<Vec<SigningKey>, StoreError> {
        self.read(reads::signing_keys).await
    }

    async fn add_key(&self, key: SigningKey, audit: AuditEntry) -> Result<u64, StoreError> {
        self.write(move |connection| writes::keys::add_key(connection, &key, &audit)).await
    }

    async fn retire_key(&self, number: u64, retired: Retired, audit: AuditEntry) -> Result<(), StoreError> {
        self.write(move |connection| writes::keys::retire_key(connection, number, retired, &audit)).await
    }

    async fn account_named(&self, key: &NameKey) -> Result<Option<Account>, StoreError> {
        let key = key.clone();
        self.read(move |connection| reads::account_named(connection, &key)).await
    }

    async fn account(&self, id: AccountId) -> Result<Option<Account>, StoreError> {
        self.read(move |connection| reads::account(connection, id)).await
    }

    async fn account_known_as(&self, subject: &str) -> Result<Option<Account>, StoreError> {
        let subject = subject.to_owned();
        self.read(move |connection| reads::account_known_as(connection, &subject)).await
    }

    async fn accounts(&self, page: Page<NameKey>) -> Result<Vec<Account>, StoreError> {
        self.read(move |connection| reads::accounts(connection, &page)).await
    }

    async fn add_account(&self, account: Account, audit: AuditEntry) -> Result<Placed, StoreError> {
        self.write(move |connection| writes::add_account(connection, &account, &audit)).await
    }

    async fn add_accounts(&self, new: Vec<NewAccount>, audit: AuditEntry) -> Result<Vec<Placed>, StoreError> {
        let many = Arc::clone(&self.many);
        self.write(move |connection| {
            if new.len() >= MANY {
                many.store(true, Ordering::Relaxed);
            }
            writes::add_accounts(connection, &new, audit)
        })
        .await
    }

    async fn change_account(&self, account: Account, end: Option<Reason>, audit: AuditEntry) -> Result<Placed, StoreError> {
        self.write(move |connection| writes::change_account(connection, &account, end, &audit)).await
    }

    async fn remove_account(&self, id: AccountId, version: u64, audit: AuditEntry) -> Result<Written, StoreError> {
        self.write(move |connection| writes::remove_account(connection, id, version, &audit)).await
    }

    async fn client(&self, id: &ClientId) -> Result<Option<Client>, StoreError> {
        let id = id.clone();
        self.read(move |connection| reads::client(connection, &id)).await
    }

    async fn clients(&self, page: Page<ClientId>) -> Result<Vec<Client>, StoreError> {
        self.read(move |connection| reads::clients(connection, &page)).await
    }

    async fn add_client(&self, client: Client, audit: AuditEntry) -> Result<Placed, StoreError> {
        self.write(move |connection| writes::add_client(connection, &client, &audit)).await
    }

    async fn change_client(&self, client: Client, end: Option<Reason>, audit: AuditEntry) -> Result<Written, StoreError> {
        self.write(move |connection| writes::change_client(connection, &client, end, &audit)).await
    }

    async fn remove_client(&self, id: ClientId, version: u64, audit: AuditEntry) -> Result<Written, StoreError> {
        self.write(move |connection| writes::remove_client(connection, &id, version, &audit)).await
    }

    async fn start_session(&self, new: NewSession) -> Result<Written, StoreError> {
        self.write(move |connection| writes::start_session(connection, &new)).await
    }

    async fn rehash(&self, rehashed: Rehashed) -> Result<(), StoreError> {
        self.write(move |connection| writes::rehash(connection, &rehashed)).await
    }

    async fn add_grant(&self, grant: Grant, audit: AuditEntry) -> Result<(), StoreError> {
        self.write(move |connection| writes::add_grant(connection, &grant, &audit)).await
    }

    async fn grant(&self, hash: &TokenHash) -> Result<Option<Grant>, StoreError> {
        let hash = *hash;
        self.read(move |connection| reads::grant(connection, &hash)).await
    }

    async fn redeem(&self, grant: TokenHash, new: NewSession, reuse: AuditEntry) -> Result<Redeemed, StoreError> {
        self.write(move |connection| writes::redeem(connection, &grant, &new, &reuse)).await
    }

    async fn roll(&self, roll: Roll) -> Result<Written, StoreError> {
        self.write(move |connection| writes::roll(connection, &roll)).await
    }

    async fn end_descendants(&self, of: TokenHash, audit: AuditEntry) -> Result<(), StoreError> {
        self.write(move |connection| writes::end_descendants(connection, &of, &audit)).await
    }

    async fn session_by_token(&self, token: &TokenHash, since: Timestamp) -> Result<Option<StoredSession>, StoreError> {
        let token = *token;
        self.read(move |connection| reads::session_by_token(connection, &token, since)).await
    }

    async fn session(&self, id: SessionId) -> Result<Option<Session>, StoreError> {
        self.read(move |connection| reads::session(connection, id)).await
    }

    async fn sessions(&self, of: Option<AccountId>, page: Page<SessionId>) -> Result<Vec<Session>, StoreError> {
        self.read(move |connection| reads::sessions(connection, of, &page)).await
    }

    async fn end_sessions(&self, which: Which, reason: Reason, at: Timestamp, audit: AuditEntry) -> Result<usize, StoreError> {
        self.write(move |connection| writes::end_sessions(connection, &which, reason, at, &audit)).await
    }

    async fn revoke(&self, token: TokenHash, until: Timestamp, session: SessionId, audit: AuditEntry) -> Result<(), StoreError> {
        self.write(move |connection| writes::revoke(connection, &token, until, session, &audit)).await
    }

    async fn is_revoked(&self, token: &TokenHash) -> Result<bool, StoreError> {
        let token = *token;
        self.read(move |connection| reads::is_revoked(connection, &token)).await
    }

    async fn revoked_marks(&self, limit: usize) -> Result<Vec<[u8; 4]>, StoreError> {
        self.read(move |connection| reads::revoked_marks(connection, limit)).await
    }

    async fn revoke_signed(&self, token: TokenHash, until: Timestamp, audit: AuditEntry) -> Result<(), StoreError> {
        self.write(move |connection| writes::keys::revoke_signed(connection, &token, until, &audit)).await
    }

    async fn put_family(&self, family: Family, was: Option<i64>, cut_off: Timestamp) -> Result<Written, StoreError> {
        self.write(move |connection| writes::families::put_family(connection, &family, was, cut_off)).await
    }

    async fn family(&self, id: &TokenHash) -> Result<Option<Family>, StoreError> {
        let id = *id;
        self.read(move |connection| reads::family(connection, &id)).await
    }

    async fn end_family(&self, id: TokenHash, audit: AuditEntry) -> Result<(), StoreError> {
        self.write(move |connection| writes::families::end_family(connection, &id, &audit)).await
    }

    async fn reserve(&self, name: &'static str, count: u64) -> Result<u64, StoreError> {
        self.write(move |connection| writes::keys::reserve(connection, name, count)).await
    }

    async fn forget(&self, past: Past, most: usize) -> Result<bool, StoreError> {
        self.write(move |connection| writes::past::forget(connection, &past, most)).await
    }

    async fn erase_names(&self, of: AccountId, names: Vec<NameKey>, after: u64, most: usize) -> Result<Option<u64>, StoreError> {
        self.write(move |connection| writes::past::erase_names(connection, of, &names, after, most)).await
    }

    async fn add_api_keys(&self, new: NewApiKeys, audit: AuditEntry) -> Result<KeysWritten, StoreError> {
        self.write(move |connection| writes::keys::add_api_keys(connection, &new, &audit)).await
    }

    async fn add_nobodys_keys(&self, keys: Vec<ApiKey>, audit: AuditEntry) -> Result<Placed, StoreError> {
        self.write(move |connection| writes::keys::add_nobodys_keys(connection, &keys, &audit)).await
    }

    async fn api_key_marks(&self, limit: usize) -> Result<Vec<[u8; 4]>, StoreError> {
        self.read(move |connection| reads::api_key_marks(connection, limit)).await
    }

    async fn api_key(&self, hash: &TokenHash) -> Result<Option<ApiKey>, StoreError> {
        let hash = *hash;
        self.read(move |connection| reads::api_key(connection, &hash)).await
    }

    async fn api_keys(&self, of: AccountId) -> Result<Vec<ApiKey>, StoreError> {
        self.read(move |connection| reads::api_keys(connection, of)).await
    }

    async fn cancel_api_key(&self, hash: TokenHash, at: Timestamp, audit: AuditEntry) -> Result<(), StoreError> {
        self.write(move |connection| writes::keys::cancel_api_key(connection, &hash, at, &audit)).await
    }

    async fn cancel_api_keys(&self, of: AccountId, at: Timestamp, audit: AuditEntry) -> Result<usize, StoreError> {
        self.write(move |connection| writes::keys::cancel_api_keys(connection, of, at, &audit)).await
    }

    async fn terminals(&self) -> Result<Vec<StoredTerminal>, StoreError> {
        self.read(reads::terminals).await
    }

    async fn add_terminal(&self, terminal: StoredTerminal, audit: AuditEntry) -> Result<Placed, StoreError> {
        self.write(move |connection| writes::terminals::add_terminal(connection, &terminal, &audit)).await
    }

    async fn change_terminal(&self, terminal: StoredTerminal, audit: AuditEntry) -> Result<Written, StoreError> {
        self.write(move |connection| writes::terminals::change_terminal(connection, &terminal, &audit)).await
    }

    async fn remove_terminal(&self, name: TerminalName, version: u64, audit: AuditEntry) -> Result<Written, StoreError> {
        self.write(move |connection| writes::terminals::remove_terminal(connection, &name, version, &audit)).await
    }

    async fn feed(&self, after: u64, limit: usize) -> Result<Vec<(u64, Change)>, StoreError> {
        self.read(move |connection| reads::feed(connection, after, limit)).await
    }

    async fn feed_end(&self) -> Result<u64, StoreError> {
        self.read(reads::feed_end).await
    }

    async fn audit(&self, entries: Vec<AuditEntry>) -> Result<(), StoreError> {
        if entries.is_empty() {
            return Ok(());
        }
        self.write(move |connection| writes::append(connection, &entries)).await
    }

    async fn audit_before(&self, before: Option<u64>, limit: usize) -> Result<Vec<AuditRow>, StoreError> {
        self.read(move |connection| reads::audit_before(connection, before, limit)).await
    }

    async fn audit_after(&self, after: u64, limit: usize) -> Result<Vec<AuditRow>, StoreError> {
        self.read(move |connection| reads::audit_after(connection, after, limit)).await
    }

    async fn throttle(&self) -> Result<Vec<ThrottleRow>, StoreError> {
        self.read(reads::throttle).await
    }

    async fn save_throttle(&self, rows: Vec<ThrottleRow>) -> Result<(), StoreError> {
        if rows.is_empty() {
            return Ok(());
        }
        self.write(move |connection| writes::save_throttle(connection, &rows)).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_writer_syncs_every_commit() {
        let file = std::env::temp_dir().join(format!("gatepost-sqlite-{}.db", std::process::id()));
        let access = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE;
        let connection = connect(&file, access).expect("the database opens");
        prepare_to_write(&connection).expect("it takes the settings");
        let number = |pragma| connection.pragma_query_value(None, pragma, |row| row.get::<_, i64>(0)).expect("a number");
        assert_eq!((number("synchronous"), number("foreign_keys")), (2, 1), "2 is FULL");
        let mode: String = connection.pragma_query_value(None, "journal_mode", |row| row.get(0)).expect("a word");
        assert_eq!(mode, "wal");
        drop(connection);
        std::fs::remove_file(&file).expect("the database is removed");
    }
}
