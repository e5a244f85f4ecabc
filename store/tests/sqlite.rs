//! What the store over SQLite must do beyond the verbs: survive, refuse what it must not touch, and share its commits
//! without sharing their failures.
//!
//! Where a test needs the database to fail, it plants a trigger by a connection of its own. Where it needs jobs to wait,
//! it hands them over before any worker runs; nothing here depends on how fast a thread is.

mod setup;

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use gatepost_identity::account::{Account, Client, Rights};
use gatepost_identity::audit::{AttemptId, AuditEntry, chain};
use gatepost_identity::reply::Reason;
use gatepost_identity::scope::ScopeRequest;
use gatepost_identity::session::Session;
use gatepost_identity::store::{Change, Grant, Page, Placed, Redemption, Store, StoreError, Token, Which, Written};
use gatepost_store::{Occupancy, OpenError, Sqlite, Worker, holder};
use rusqlite::Connection;

use crate::setup::*;

fn database(directory: &Path) -> PathBuf {
    directory.join("gatepost.db")
}

fn raw(directory: &Path) -> Connection {
    Connection::open(database(directory)).expect("the database opens")
}

fn refused(directory: &Path) -> OpenError {
    Sqlite::open(directory).err().expect("it does not open")
}

async fn actions(store: &Sqlite) -> Vec<String> {
    let rows = store.audit_after(0, 1000).await.expect("the store answers");
    rows.into_iter().map(|row| row.action).collect()
}

/// What the kept files hold, and every later one shall.
mod kept {
    use gatepost_identity::api_key::{ApiKey, Owner};
    use gatepost_identity::family::Family;
    use gatepost_identity::secret::Secret;
    use gatepost_identity::store::{KeysWritten, NewApiKeys, Redeemed, StoredTerminal};
    use gatepost_identity::terminal::{Guard, Plan, TerminalName};

    use super::*;

    pub(super) fn account() -> Account {
        Account {
            subject: "41".to_owned(),
            email: email("shodan@citadel.example"),
            display_name: Some("Shodan".to_owned()),
            rights: Rights { roles: vec!["admin".to_owned()], permissions: Vec::new() },
            scopes: scopes("Zenith/Market Zenith/News"),
            password: Some("$argon2id$v=19$m=8,t=1,p=1$c2FsdHNhbHQ$aGFzaA".to_owned()),
            ..setup::account(1, "SHODAN")
        }
    }

    pub(super) fn client() -> Client {
        Client { scopes: scopes("Zenith/Market"), ..setup::client("terminal") }
    }

    pub(super) fn session() -> Session {
        Session { requested: ScopeRequest::AnyOf(scopes("Zenith/Market")), ..setup::session(5, Some(1), "terminal") }
    }

    pub(super) fn token() -> Token {
        setup::token(5, 5, None)
    }

    pub(super) fn login() -> AuditEntry {
        AuditEntry {
            account: Some(account_id(1)),
            client: Some(client_id("terminal")),
            session: Some(session_id(5)),
            name: Some("shodan".to_owned()),
            source: Some("192.0.2.1".to_owned()),
            ..entry("authenticate")
        }
    }

    /// From schema 12 on; the last line that is written.
    fn attempt() -> AuditEntry {
        AuditEntry { attempt: Some(AttemptId(uuid::Uuid::from_u128(12))), ..login() }
    }

    pub(super) async fn write_attempt(store: &Sqlite) {
        store.audit(vec![attempt()]).await.expect("the store answers");
    }

    pub(super) async fn check_attempt(store: &Sqlite) {
        let rows = store.audit_after(0, 1000).await.expect("the store answers");
        for (line, of) in rows.iter().zip(&rows[1..]) {
            assert_eq!(of.previous, line.hash, "the chain goes from lines without an attempt to one with it");
        }
        let last = rows.last().expect("lines");
        assert_eq!(last.attempt, attempt().attempt);
        assert_eq!(last.hash, chain(last.number, 0, &attempt(), &last.previous));
    }

    /// From schema 2 on: one that is open, and the one that began a session.
    pub(super) fn grants() -> [Grant; 2] {
        let scopes = ScopeRequest::AnyOf(scopes("Zenith/News"));
        let open = Grant { client: client_id("terminal"), scopes, ..setup::grant(1) };
        let redeemed = Some(Redemption { at: at(10), session: session_id(6) });
        [open, Grant { client: client_id("terminal"), redeemed, ..setup::grant(2) }]
    }

    pub(super) async fn write_grants(store: &Sqlite) {
        for grant in grants() {
            store.add_grant(Grant { redeemed: None, ..grant }, entry("grant_made")).await.expect("the store answers");
        }
        let new = new_session(setup::session(6, Some(1), "terminal"), Some(setup::token(6, 6, None)));
        assert_eq!(store.redeem(hash(2), new, entry("reused")).await, Ok(Redeemed::Done));
    }

    pub(super) async fn check_grants(store: &Sqlite) {
        for grant in grants() {
            assert_eq!(store.grant(&grant.hash).await, Ok(Some(grant)));
        }
    }

    /// From schema 4 on.
    pub(super) async fn write_key(store: &Sqlite) {
        assert_eq!(store.signing_keys(setup::signing_key(1)).await.map(|keys| keys.len()), Ok(1));
    }

    pub(super) async fn check_key(store: &Sqlite) {
        let keys = store.signing_keys(setup::signing_key(2)).await.expect("the store answers");
        let [key] = keys.as_slice() else { panic!("{keys:?}") };
        assert!(key.secret.matches(setup::signing_key(1).secret.expose()));
        let expected = setup::signing_key(1);
        assert_eq!((key.number, key.purpose, key.algorithm), (1, expected.purpose, expected.algorithm));
        assert_eq!((key.created_at, key.retired), (expected.created_at, None));
    }

    /// From schema 5 on.
    pub(super) fn with_rights() -> Account {
        Account {
            first_name: Some("Edward".to_owned()),
            last_name: Some("Diego".to_owned()),
            profile_url: Some("https://citadel.example/diego.png".to_owned()),
            rights: Rights { roles: vec!["Executive".to_owned()], permissions: vec!["CanLaunch".to_owned()] },
            cut_off: at(7),
            ..setup::account(2, "diego")
        }
    }

    pub(super) async fn write_rights(store: &Sqlite) {
        assert_eq!(store.add_account(with_rights(), entry("account_added")).await, Ok(Placed::Done));
    }

    pub(super) async fn check_rights(store: &Sqlite) {
        assert_eq!(store.account(account_id(2)).await, Ok(Some(with_rights())));
    }

    /// From schema 6 on.
    pub(super) fn cookie() -> Session {
        Session { expires_at: Some(at(900)), ..setup::session(7, Some(2), "terminal") }
    }

    pub(super) async fn write_cookie(store: &Sqlite) {
        let token = Some(setup::token(7, 7, None));
        let new = gatepost_identity::store::NewSession { account_cut_off: at(7), ..new_session(cookie(), token) };
        assert_eq!(store.start_session(new).await, Ok(Written::Done));
    }

    pub(super) async fn check_cookie(store: &Sqlite) {
        assert_eq!(store.session(session_id(7)).await, Ok(Some(cookie())));
    }

    /// From schema 7 on.
    pub(super) fn api_key() -> ApiKey {
        ApiKey {
            hash: hash(1),
            prefix: "aB3_-xyz".to_owned(),
            owner: Owner::Account(account_id(2)),
            environment: "live".to_owned(),
            kind: "secret".to_owned(),
            created_at: at(1),
            expires_at: Some(at(90)),
            cancelled_at: None,
        }
    }

    pub(super) async fn write_api_key(store: &Sqlite) {
        let new = NewApiKeys { account: account_id(2), keys: vec![api_key()], in_place_of: None, at: at(1) };
        assert_eq!(store.add_api_keys(new, entry("apikey_made")).await, Ok(KeysWritten::Done));
    }

    /// From schema 11 on: one whose account was removed, and one that never was anybody's.
    pub(super) fn keys_without_account() -> [ApiKey; 2] {
        let key = |number, owner| ApiKey { hash: hash(number), owner, ..api_key() };
        [key(2, Owner::Removed(at(30))), key(3, Owner::Nobody)]
    }

    pub(super) async fn write_keys_without_account(store: &Sqlite) {
        assert_eq!(store.add_nobodys_keys(keys_without_account().to_vec(), entry("apikey_import")).await, Ok(Placed::Done));
    }

    pub(super) async fn check_keys_without_account(store: &Sqlite) {
        for key in keys_without_account() {
            assert_eq!(store.api_key(&key.hash).await, Ok(Some(key)));
        }
    }

    pub(super) fn terminal() -> StoredTerminal {
        StoredTerminal {
            name: TerminalName::parse("hall").expect("a name"),
            plan: Plan::Pro,
            administrator: Guard::Password("$argon2id$v=19$m=8,t=1,p=1$c2FsdHNhbHQ$aGFzaA".to_owned()),
            user: Guard::Pin(Secret::new("K7M2QX")),
            version: 1,
        }
    }

    pub(super) async fn write_terminal(store: &Sqlite) {
        assert_eq!(store.add_terminal(terminal(), entry("terminal_add")).await, Ok(Placed::Done));
    }

    pub(super) async fn check_terminal(store: &Sqlite) {
        let terminals = store.terminals().await.expect("the store answers");
        let [StoredTerminal { name, plan, administrator, user, version }] = &*terminals else { panic!("{terminals:?}") };
        assert_eq!((name.as_str(), *plan, *version), ("hall", Plan::Pro, 1));
        assert!(matches!(administrator, Guard::Password(hash) if hash.starts_with("$argon2id$")));
        assert!(matches!(user, Guard::Pin(pin) if pin.matches(b"K7M2QX")));
    }

    /// From schema 10 on.
    pub(super) fn family() -> Family {
        Family {
            id: hash(3),
            account: account_id(2),
            adopted: true,
            current: -4,
            issued_at: at(20),
            previous: Some((0, at(21))),
            expires_at: at(900),
        }
    }

    pub(super) async fn write_family(store: &Sqlite) {
        assert_eq!(store.put_family(family(), None, with_rights().cut_off).await, Ok(Written::Done));
    }

    pub(super) async fn check_family(store: &Sqlite) {
        assert_eq!(store.family(&hash(3)).await, Ok(Some(family())));
    }

    pub(super) async fn check_api_key(store: &Sqlite) {
        assert_eq!(store.api_key(&hash(1)).await, Ok(Some(api_key())));
    }

    pub(super) async fn write(store: &Sqlite) {
        assert_eq!(store.add_account(account(), entry("account_added")).await, Ok(Placed::Done));
        assert_eq!(store.add_client(client(), entry("client_added")).await, Ok(Placed::Done));
        let new = gatepost_identity::store::NewSession { audit: login(), ..new_session(session(), Some(token())) };
        assert_eq!(store.start_session(new).await, Ok(Written::Done));
    }

    pub(super) async fn check(store: &Sqlite) {
        assert_eq!(store.account_named(&account().name.key()).await, Ok(Some(account())));
        assert_eq!(store.client(&client().id).await, Ok(Some(client())));
        let stored = store.session_by_token(&token().hash, at(0)).await.expect("the store answers").expect("the session");
        assert_eq!((stored.session, stored.tokens), (session(), vec![token()]));
        let line = store.audit_after(2, 1).await.expect("the store answers").remove(0);
        assert_eq!((line.name, line.source), (login().name, login().source));
        assert_eq!(line.hash, chain(3, 0, &login(), &line.previous));
    }
}

#[tokio::test]
async fn what_was_answered_is_there_after_opening_again() {
    let scratch = Scratch::new();
    let running = Running::start(scratch.path());
    kept::write(&running.store).await;
    let secret = running.store.secret("throttle", [7; 32]).await;
    running.stop();

    let running = Running::start(scratch.path());
    kept::check(&running.store).await;
    assert_eq!(running.store.secret("throttle", [8; 32]).await, secret);
    running.store.audit(vec![entry("started")]).await.expect("the store answers");
    let rows = running.store.audit_after(2, 10).await.expect("the store answers");
    assert_eq!(rows[1].previous, rows[0].hash, "the chain goes on where it was");
    running.stop();
}

#[tokio::test]
async fn what_waits_is_written_although_nobody_waits_for_it() {
    let scratch = Scratch::new();
    let (store, workers) = opened(scratch.path());
    for action in ["first", "second"] {
        hand_over(&mut store.audit(vec![entry(action)]));
    }
    drop(store);
    let other = raw(scratch.path());
    schema(&other);
    workers.into_iter().for_each(Worker::run);
    // Somebody still has the file open, so it is not the last close that emptied the log.
    let log = scratch.path().join("gatepost.db-wal").metadata().expect("the write-ahead log is there");
    assert_eq!(log.len(), 0, "the database alone holds everything");
    drop(other);
    let running = Running::start(scratch.path());
    assert_eq!(actions(&running.store).await, ["first", "second"]);
    running.stop();
}

#[tokio::test]
async fn without_workers_every_verb_is_an_error() {
    let scratch = Scratch::new();
    let (store, workers) = opened(scratch.path());
    let mut waiting = store.feed_end();
    hand_over(&mut waiting);
    drop(workers);
    let stopped = StoreError("the store has stopped".to_owned());
    assert_eq!(waiting.await, Err(stopped.clone()));
    assert_eq!(store.audit(vec![entry("late")]).await, Err(stopped.clone()));
    assert_eq!(store.feed_end().await, Err(stopped));
}

#[test]
fn a_second_open_says_who_holds_the_directory() {
    let scratch = Scratch::new();
    let directory = scratch.path().join("data");
    assert_eq!(holder(&directory).ok(), Some(Occupancy::Free));
    let (store, workers) = opened(&directory);
    let held = holder(&directory).expect("the lock file is read");
    assert_eq!(held, Occupancy::Held { pid: Some(std::process::id()) });
    let expected = format!("data directory {} is in use by process {}", directory.display(), std::process::id());
    assert_eq!(refused(&directory).to_string(), expected);

    drop(store);
    assert_ne!(holder(&directory).ok(), Some(Occupancy::Free), "its workers may still write");
    drop(workers);
    assert_eq!(holder(&directory).ok(), Some(Occupancy::Free));
    let left = std::fs::read_to_string(directory.join("gatepost.lock")).expect("the lock file stays");
    assert_eq!(left, "", "and names nobody");
    drop(opened(&directory));
    assert_eq!(holder(&directory).ok(), Some(Occupancy::Free));
}

#[test]
fn what_a_dead_process_left_in_the_lock_file_holds_nobody_up() {
    let scratch = Scratch::new();
    std::fs::write(scratch.path().join("gatepost.lock"), "4194305\n").expect("the lock file is written");
    assert_eq!(holder(scratch.path()).ok(), Some(Occupancy::Free));
    let _opened = opened(scratch.path());
    assert_eq!(holder(scratch.path()).ok(), Some(Occupancy::Held { pid: Some(std::process::id()) }));
}

#[test]
fn others_may_not_read_what_is_kept() {
    let scratch = Scratch::new();
    let directory = scratch.path().join("a/b");
    std::fs::create_dir_all(scratch.path().join("open")).expect("a directory");
    let lax = scratch.path().join("open/gatepost.db");
    std::fs::write(&lax, "").expect("a file");
    std::fs::set_permissions(&lax, std::fs::Permissions::from_mode(0o644)).expect("its mode");
    let _opened = (opened(&directory), opened(&scratch.path().join("open")));
    let mode = |path: &Path| path.metadata().expect("it is there").permissions().mode() & 0o777;
    assert_eq!(mode(&directory), 0o700);
    for file in ["gatepost.db", "gatepost.lock", "gatepost.db-wal", "gatepost.db-shm"] {
        assert_eq!(mode(&directory.join(file)), 0o600, "{file}");
    }
    assert_eq!(mode(&lax), 0o600, "also where it was laxer before");
}

/// X18: an older version does not touch what a newer one wrote.
#[test]
fn a_newer_schema_is_refused_and_left_alone() {
    let scratch = Scratch::new();
    drop(opened(scratch.path()));
    raw(scratch.path()).pragma_update(None, "user_version", 99).expect("the number is written");
    let before = std::fs::read(database(scratch.path())).expect("the file is read");
    let error = refused(scratch.path());
    assert!(matches!(error, OpenError::Newer { found: 99, known: 12 }), "{error:?}");
    let said = "the database has schema 99, but this version of Gatepost knows schemas up to 12; run the newer version";
    assert_eq!(error.to_string(), said);
    assert_eq!(std::fs::read(database(scratch.path())).expect("the file is read"), before);
    assert_eq!(holder(scratch.path()).ok(), Some(Occupancy::Free), "who was refused holds nothing");
}

#[test]
fn a_file_that_is_not_ours_is_refused_and_left_alone() {
    let database_of_others = |pragma: &str| {
        let scratch = Scratch::new();
        raw(scratch.path()).execute_batch(pragma).expect("the statements run");
        scratch
    };
    let text = Scratch::new();
    std::fs::write(database(text.path()), "This is no database, but a letter that is long enough.").expect("it is written");
    let foreign = [
        ("no database", text),
        ("another application's", database_of_others("PRAGMA application_id = 77; PRAGMA user_version = 1")),
        ("nobody's, with a table", database_of_others("CREATE TABLE accounts (id)")),
        ("nobody's, with a number", database_of_others("PRAGMA user_version = 1")),
    ];
    for (what, scratch) in foreign {
        let file = database(scratch.path());
        let before = std::fs::read(&file).expect("the file is read");
        let error = refused(scratch.path());
        assert!(matches!(error, OpenError::Foreign { .. }), "{what}: {error:?}");
        assert_eq!(std::fs::read(&file).expect("the file is read"), before, "{what}");
    }
}

#[tokio::test]
async fn a_row_that_does_not_parse_is_an_error_that_names_it() {
    let scratch = Scratch::new();
    let running = Running::start(scratch.path());
    kept::write(&running.store).await;
    kept::write_grants(&running.store).await;
    raw(scratch.path())
        .execute_batch(
            "UPDATE accounts SET status = 'asleep'; UPDATE clients SET scopes = 'a \"'; \
             UPDATE sessions SET source = 'Citadel'; UPDATE tokens SET parent = x'0102'; \
             UPDATE grants SET scopes = 'spoilt'; \
             INSERT INTO feed (kind, id, detail) VALUES ('tokens', zeroblob(16), zeroblob(33)); \
             UPDATE audit SET count = -1 WHERE number = 2; \
             INSERT INTO throttle (slot, key, rule, failures, last) VALUES (3, zeroblob(16), 256, 0, 0)",
        )
        .expect("the rows are spoilt");
    let store = &running.store;
    let said = [
        store.account(account_id(1)).await.err(),
        store.client(&client_id("terminal")).await.err(),
        store.session(session_id(5)).await.err(),
        store.grant(&hash(1)).await.err(),
        store.feed(0, 9).await.err(),
        store.audit_after(1, 9).await.err(),
        store.throttle().await.err(),
    ];
    let expected = [
        "the row 00000000000000000000000000000001 of table accounts cannot be read: \"asleep\" is not a status",
        "the row \"terminal\" of table clients cannot be read: ",
        "the row 00000000000000000000000000000005 of table sessions cannot be read: \"Citadel\": ",
        "the row 0101010101010101010101010101010101010101010101010101010101010101 of table grants cannot be read: ",
        "the row 1 of table feed cannot be read: 33 bytes are not whole hashes",
        "the row 2 of table audit cannot be read: ",
        "the row 3 of table throttle cannot be read: ",
    ];
    for (said, expected) in said.into_iter().zip(expected) {
        let said = said.map(|error| error.0).unwrap_or_default();
        assert!(said.starts_with(expected), "{said:?} begins with {expected:?}");
    }
    raw(scratch.path()).execute_batch("UPDATE sessions SET source = '192.0.2.1'").expect("the row is mended");
    let said = store.session_by_token(&hash(5), at(0)).await.err().map(|error| error.0).unwrap_or_default();
    assert!(said.contains("of table tokens cannot be read"), "{said:?}");
    running.stop();
}

#[tokio::test]
async fn a_spoilt_session_can_still_be_ended() {
    let scratch = Scratch::new();
    let running = Running::start(scratch.path());
    kept::write(&running.store).await;
    raw(scratch.path()).execute_batch("UPDATE sessions SET requested = 'spoilt'").expect("the row is spoilt");
    assert!(running.store.session(session_id(5)).await.is_err());
    let which = Which::UsedBefore(at(10));
    let ended = running.store.end_sessions(which, Reason::Expired, at(30), entry("session_ended")).await;
    assert_eq!(ended, Ok(1));
    running.stop();
}

#[tokio::test]
async fn jobs_that_wait_share_one_commit() {
    let scratch = Scratch::new();
    let (store, workers) = opened(scratch.path());
    let mut waiting: Vec<_> = (0..200).map(|_| store.audit(vec![entry("at_once")])).collect();
    waiting.iter_mut().for_each(hand_over);
    let threads = employ(workers);
    assert!(together(waiting).await.iter().all(Result::is_ok));
    assert_eq!(store.commits(), 1);
    assert_eq!(actions(&store).await.len(), 200);
    store.audit(vec![entry("alone")]).await.expect("the store answers");
    assert_eq!(store.commits(), 2);
    Running::of(store, threads).stop();
}

#[tokio::test]
async fn a_job_that_fails_does_its_neighbours_no_harm() {
    let scratch = Scratch::new();
    let (store, workers) = opened(scratch.path());
    // The second of its two lines fails, so that the first must be taken back.
    plant(scratch.path(), "SELECT RAISE(ABORT, 'planted')");
    let batches = [vec![entry("one")], vec![entry("two"), entry("planted")], vec![entry("three")]];
    let mut waiting: Vec<_> = batches.into_iter().map(|batch| store.audit(batch)).collect();
    waiting.iter_mut().for_each(hand_over);
    let threads = employ(workers);
    let answers = together(waiting).await;
    assert_eq!((&answers[0], &answers[2]), (&Ok(()), &Ok(())));
    assert_eq!(answers[1], Err(StoreError("the database answers: planted".to_owned())));
    assert_eq!(store.commits(), 1);
    let rows = store.audit_after(0, 9).await.expect("the store answers");
    assert_eq!(rows.iter().map(|row| (row.number, row.action.as_str())).collect::<Vec<_>>(), [(1, "one"), (2, "three")]);
    assert_eq!(rows[1].previous, rows[0].hash);
    Running::of(store, threads).stop();
}

#[tokio::test]
async fn a_transaction_that_the_database_drops_is_told_to_all_in_it_and_to_nobody_after() {
    let scratch = Scratch::new();
    let (store, workers) = opened(scratch.path());
    plant(scratch.path(), "SELECT RAISE(ROLLBACK, 'planted')");
    let mut waiting: Vec<_> = ["one", "planted", "three"].map(|action| store.audit(vec![entry(action)])).into();
    waiting.iter_mut().for_each(hand_over);
    let threads = employ(workers);
    let answers = together(waiting).await;
    let lost = "nothing was written: the database rolled back the transaction that it shared";
    assert_eq!(answers[0], Err(StoreError(lost.to_owned())));
    assert_eq!(answers[1], Err(StoreError("the database answers: planted".to_owned())));
    assert_eq!(answers[2], Ok(()));
    assert_eq!(actions(&store).await, ["three"]);
    Running::of(store, threads).stop();
}

#[tokio::test]
async fn a_commit_that_fails_is_told_to_all_and_the_next_one_succeeds() {
    let scratch = Scratch::new();
    let (store, workers) = opened(scratch.path());
    raw(scratch.path())
        .execute_batch(
            "CREATE TABLE parents (id INTEGER PRIMARY KEY);
             CREATE TABLE orphans (parent INTEGER REFERENCES parents (id) DEFERRABLE INITIALLY DEFERRED)",
        )
        .expect("the tables are made");
    plant(scratch.path(), "INSERT INTO orphans VALUES (1)");
    let mut waiting: Vec<_> = ["one", "planted", "three"].map(|action| store.audit(vec![entry(action)])).into();
    waiting.iter_mut().for_each(hand_over);
    let threads = employ(workers);
    let lost = "nothing was written: the database answers: FOREIGN KEY constraint failed";
    for answer in together(waiting).await {
        assert_eq!(answer, Err(StoreError(lost.to_owned())));
    }
    assert_eq!(store.commits(), 0);
    assert_eq!(actions(&store).await, Vec::<String>::new());
    store.audit(vec![entry("next")]).await.expect("the store goes on");
    let rows = store.audit_after(0, 9).await.expect("the store answers");
    assert_eq!((rows.len(), rows[0].number, rows[0].previous), (1, 1, [0; 32]), "the chain knows nothing of what was lost");
    Running::of(store, threads).stop();
}

#[tokio::test]
async fn a_read_after_an_answered_write_sees_it() {
    let scratch = Scratch::new();
    let running = Running::start(scratch.path());
    running.store.add_client(client("app"), entry("client_added")).await.expect("the store answers");
    for version in 1..=100 {
        let changed = Client { version, ..client("app") };
        assert_eq!(running.store.change_client(changed, None, entry("client_changed")).await, Ok(Written::Done));
        let read = running.store.client(&client_id("app")).await.expect("the store answers");
        assert_eq!(read.map(|client| client.version), Some(version + 1));
        assert_eq!(running.store.feed_end().await, Ok(version));
    }
    let newest = running.store.feed(99, 9).await.expect("the store answers");
    assert_eq!(newest, [(100, Change::Client(client_id("app")))]);
    running.stop();
}

/// X18, as is each of the following.
#[tokio::test]
async fn the_kept_file_of_schema_1_is_migrated_and_reads_back() {
    let scratch = Scratch::new();
    std::fs::copy(kept_file(1), database(scratch.path())).expect("the kept file is copied");
    let running = Running::start(scratch.path());
    kept::check(&running.store).await;
    let page = Page { after: None, limit: 9 };
    assert_eq!(running.store.sessions(None, page).await, Ok(vec![kept::session()]));
    assert_eq!(running.store.grant(&hash(1)).await, Ok(None));
    kept::write_grants(&running.store).await;
    kept::write_key(&running.store).await;
    running.stop();
    let running = Running::start(scratch.path());
    kept::check_grants(&running.store).await;
    kept::check_key(&running.store).await;
    running.stop();

    let fresh = Scratch::new();
    drop(opened(fresh.path()));
    assert_eq!(schema(&raw(scratch.path())), schema(&raw(fresh.path())), "migrated or new, the schema is the same");
}

#[tokio::test]
async fn the_kept_file_of_schema_2_opens_and_reads_back() {
    let scratch = Scratch::new();
    std::fs::copy(kept_file(2), database(scratch.path())).expect("the kept file is copied");
    let running = Running::start(scratch.path());
    kept::check(&running.store).await;
    kept::check_grants(&running.store).await;
    running.stop();
}

#[tokio::test]
async fn the_kept_file_of_schema_3_opens_and_reads_back() {
    let scratch = Scratch::new();
    std::fs::copy(kept_file(3), database(scratch.path())).expect("the kept file is copied");
    let running = Running::start(scratch.path());
    kept::check(&running.store).await;
    kept::check_grants(&running.store).await;
    running.stop();
}

#[tokio::test]
async fn the_kept_file_of_schema_4_opens_and_reads_back() {
    let scratch = Scratch::new();
    std::fs::copy(kept_file(4), database(scratch.path())).expect("the kept file is copied");
    let running = Running::start(scratch.path());
    kept::check(&running.store).await;
    kept::check_grants(&running.store).await;
    kept::check_key(&running.store).await;
    running.stop();
}

#[tokio::test]
async fn the_kept_file_of_schema_5_opens_and_reads_back() {
    let scratch = Scratch::new();
    std::fs::copy(kept_file(5), database(scratch.path())).expect("the kept file is copied");
    let running = Running::start(scratch.path());
    kept::check(&running.store).await;
    kept::check_grants(&running.store).await;
    kept::check_key(&running.store).await;
    kept::check_rights(&running.store).await;
    running.stop();
}

#[tokio::test]
async fn the_kept_file_of_schema_6_opens_and_reads_back() {
    let scratch = Scratch::new();
    std::fs::copy(kept_file(6), database(scratch.path())).expect("the kept file is copied");
    let running = Running::start(scratch.path());
    kept::check(&running.store).await;
    kept::check_rights(&running.store).await;
    kept::check_cookie(&running.store).await;
    running.stop();
}

#[tokio::test]
async fn the_kept_file_of_schema_7_opens_and_reads_back() {
    let scratch = Scratch::new();
    std::fs::copy(kept_file(7), database(scratch.path())).expect("the kept file is copied");
    let running = Running::start(scratch.path());
    kept::check(&running.store).await;
    kept::check_rights(&running.store).await;
    kept::check_cookie(&running.store).await;
    kept::check_api_key(&running.store).await;
    running.stop();
}

#[tokio::test]
async fn the_kept_file_of_schema_8_opens_and_reads_back() {
    let scratch = Scratch::new();
    std::fs::copy(kept_file(8), database(scratch.path())).expect("the kept file is copied");
    let running = Running::start(scratch.path());
    kept::check(&running.store).await;
    kept::check_key(&running.store).await;
    kept::check_rights(&running.store).await;
    kept::check_cookie(&running.store).await;
    kept::check_api_key(&running.store).await;
    assert_eq!(running.store.reserve("tokens", 1).await, Ok(1));
    running.stop();
}

#[tokio::test]
async fn the_kept_file_of_schema_9_opens_and_reads_back() {
    let scratch = Scratch::new();
    std::fs::copy(kept_file(9), database(scratch.path())).expect("the kept file is copied");
    let running = Running::start(scratch.path());
    kept::check(&running.store).await;
    kept::check_key(&running.store).await;
    kept::check_rights(&running.store).await;
    kept::check_cookie(&running.store).await;
    kept::check_api_key(&running.store).await;
    kept::check_terminal(&running.store).await;
    running.stop();
}

#[tokio::test]
async fn the_kept_file_of_schema_10_opens_and_reads_back() {
    let scratch = Scratch::new();
    std::fs::copy(kept_file(10), database(scratch.path())).expect("the kept file is copied");
    let running = Running::start(scratch.path());
    kept::check(&running.store).await;
    kept::check_key(&running.store).await;
    kept::check_rights(&running.store).await;
    kept::check_cookie(&running.store).await;
    kept::check_api_key(&running.store).await;
    kept::check_terminal(&running.store).await;
    kept::check_family(&running.store).await;
    running.stop();
}

#[tokio::test]
async fn the_kept_file_of_schema_11_opens_and_reads_back() {
    let scratch = Scratch::new();
    std::fs::copy(kept_file(11), database(scratch.path())).expect("the kept file is copied");
    let running = Running::start(scratch.path());
    kept::check(&running.store).await;
    kept::check_key(&running.store).await;
    kept::check_rights(&running.store).await;
    kept::check_cookie(&running.store).await;
    kept::check_api_key(&running.store).await;
    kept::check_keys_without_account(&running.store).await;
    kept::check_terminal(&running.store).await;
    kept::check_family(&running.store).await;
    running.stop();
}

#[tokio::test]
async fn the_kept_file_of_schema_12_opens_and_reads_back() {
    let scratch = Scratch::new();
    std::fs::copy(kept_file(12), database(scratch.path())).expect("the kept file is copied");
    let running = Running::start(scratch.path());
    kept::check(&running.store).await;
    kept::check_key(&running.store).await;
    kept::check_rights(&running.store).await;
    kept::check_cookie(&running.store).await;
    kept::check_api_key(&running.store).await;
    kept::check_keys_without_account(&running.store).await;
    kept::check_terminal(&running.store).await;
    kept::check_family(&running.store).await;
    kept::check_attempt(&running.store).await;
    running.stop();
}

#[tokio::test]
async fn sessions_in_force_are_counted_by_gate_and_commits_by_their_time() {
    let scratch = Scratch::new();
    let running = Running::start(scratch.path());
    assert_eq!(running.store.answers().await, Ok(()), "an empty store answers, too");
    kept::write(&running.store).await;
    assert_eq!(running.store.sessions_by_gate().await, Ok(vec![("zenith".to_owned(), 1)]));
    let ended = running.store.end_sessions(Which::Session(session_id(5)), Reason::Revoked, at(9), entry("end")).await;
    assert_eq!(ended, Ok(1));
    assert_eq!(running.store.sessions_by_gate().await, Ok(Vec::new()));
    let figures = running.store.figures();
    assert_eq!((figures.commits().count(), figures.failures()), (running.store.commits(), 0));
    assert!(figures.commits().count() >= 4 && figures.commits().read().seconds > 0.0);
    running.stop();
}

/// A published migration is never edited: its kept file shows what it did. A new schema's file is made by this very test,
/// which leaves it behind where there is none.
#[tokio::test]
async fn the_migrations_still_make_the_kept_schemas() {
    let scratch = Scratch::new();
    let running = Running::start(scratch.path());
    kept::write(&running.store).await;
    kept::write_grants(&running.store).await;
    kept::write_key(&running.store).await;
    kept::write_rights(&running.store).await;
    kept::write_cookie(&running.store).await;
    kept::write_api_key(&running.store).await;
    kept::write_terminal(&running.store).await;
    kept::write_family(&running.store).await;
    kept::write_keys_without_account(&running.store).await;
    kept::write_attempt(&running.store).await;
    running.stop();

    let migrated = Connection::open_in_memory().expect("a database in memory");
    let migrations = [
        include_str!("../migrations/0001_first.sql"),
        include_str!("../migrations/0002_grants.sql"),
        include_str!("../migrations/0003_revoked.sql"),
        include_str!("../migrations/0004_signing_keys.sql"),
        include_str!("../migrations/0005_rights.sql"),
        include_str!("../migrations/0006_cookies.sql"),
        include_str!("../migrations/0007_api_keys.sql"),
        include_str!("../migrations/0008_keys.sql"),
        include_str!("../migrations/0009_terminals.sql"),
        include_str!("../migrations/0010_families.sql"),
        include_str!("../migrations/0011_keys_without_account.sql"),
        include_str!("../migrations/0012_attempts.sql"),
    ];
    for (number, migration) in (1..).zip(migrations) {
        assert!(kept_file(number).is_file(), "no kept file; the one just made is {}", database(scratch.path()).display());
        migrated.execute_batch(migration).expect("the migration runs");
        let copy = scratch.path().join("kept.db");
        std::fs::copy(kept_file(number), &copy).expect("the kept file is copied");
        let kept = Connection::open(copy).expect("the kept file opens");
        assert_eq!(schema(&migrated), schema(&kept), "{number}");
        let version: u32 = kept.pragma_query_value(None, "user_version", |row| row.get(0)).expect("a number");
        assert_eq!(version, number);
    }
}

fn kept_file(schema: u32) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/schemas/{schema:04}.db"))
}

fn schema(connection: &Connection) -> Vec<(String, String)> {
    let sql = "SELECT name, sql FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY name";
    let mut statement = connection.prepare(sql).expect("the schema is read");
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).expect("the schema is read");
    let schema: Vec<_> = rows.collect::<Result<_, _>>().expect("the schema is read");
    assert!(schema.iter().any(|(name, _)| name == "accounts"), "{schema:?}");
    schema
}

/// Makes the database do this whenever the audit is told `planted`.
fn plant(directory: &Path, what: &str) {
    let sql = format!("CREATE TRIGGER planted AFTER INSERT ON audit WHEN new.action = 'planted' BEGIN {what}; END");
    raw(directory).execute_batch(&sql).expect("the trigger is planted");
}
