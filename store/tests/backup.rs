//! Backups: what is copied, what is taken for a copy, and what a restore leaves of the database that was there.

mod setup;

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use gatepost_identity::account::{Account, Status};
use gatepost_identity::api_key::{ApiKey, Owner};
use gatepost_identity::audit::chain;
use gatepost_identity::clock::system_now;
use gatepost_identity::family::Family;
use gatepost_identity::store::{NewApiKeys, Placed, Store, Written};
use gatepost_store::{BackupError, Beside, Contents, OpenError, copy, restore, restoring, unfinished, verify};
use rusqlite::Connection;

use crate::setup::*;

fn made(directory: &Path, file: &Path) -> Contents {
    copy(directory, file, false, Beside::Nobody(entry("backup"))).unwrap_or_else(|error| panic!("{error}"))
}

fn refused(file: &Path) -> String {
    verify(file).expect_err("it is no whole backup").to_string()
}

/// A directory to work in and one for backups.
fn places() -> (Scratch, Scratch, PathBuf) {
    let (data, elsewhere) = (Scratch::new(), Scratch::new());
    let file = elsewhere.path().join("a backup?.db");
    (data, elsewhere, file)
}

/// Ann with a session, a token and a family, by a client.
async fn fill(running: &Running) {
    running.store.secret("throttle", [7; 32]).await.expect("the store answers");
    assert_eq!(running.store.add_account(account(1, "ann"), entry("user_add")).await, Ok(Placed::Done));
    assert_eq!(running.store.add_client(client("app"), entry("client_add")).await, Ok(Placed::Done));
    let new = new_session(session(5, Some(1), "app"), Some(token(5, 5, None)));
    assert_eq!(running.store.start_session(new).await, Ok(Written::Done));
    assert_eq!(running.store.put_family(family(), None, at(0)).await, Ok(Written::Done));
    assert_eq!(running.store.reserve("tokens", 100).await, Ok(1));
}

fn family() -> Family {
    Family {
        id: hash(3),
        account: account_id(1),
        adopted: false,
        current: -4,
        issued_at: at(20),
        previous: None,
        expires_at: at(900),
    }
}

fn api_key(number: u8) -> ApiKey {
    ApiKey {
        hash: hash(number),
        prefix: format!("key-{number:04}"),
        owner: Owner::Account(account_id(1)),
        environment: "live".to_owned(),
        kind: "secret".to_owned(),
        created_at: at(1),
        expires_at: None,
        cancelled_at: None,
    }
}

#[tokio::test]
async fn a_copy_of_a_store_that_works_is_whole_and_its_owners_alone() {
    let (data, _elsewhere, file) = places();
    let running = Running::start(data.path());
    fill(&running).await;
    let contents = copy(data.path(), &file, false, Beside::Server).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!((contents.accounts, contents.clients, contents.sessions, contents.audit), (1, 1, 1, 3));
    assert_eq!(contents.newest, Some(at(20)));
    assert_eq!(verify(&file).ok(), Some(contents));
    let metadata = std::fs::metadata(&file).expect("it is there");
    assert_eq!((metadata.permissions().mode() & 0o777, metadata.len()), (0o600, contents.bytes));
    let beside: Vec<_> = std::fs::read_dir(file.parent().expect("a directory")).expect("it is read").collect();
    assert_eq!(beside.len(), 1, "nothing lies beside it: {beside:?}");
    // The store goes on, and the copy stays as it was.
    assert_eq!(running.store.add_account(account(2, "bob"), entry("user_add")).await, Ok(Placed::Done));
    assert_eq!(verify(&file).ok(), Some(contents));
    running.stop();
}

#[tokio::test]
async fn what_is_there_is_replaced_only_if_that_was_said_and_never_in_the_data_directory() {
    let (data, _elsewhere, file) = places();
    let running = Running::start(data.path());
    fill(&running).await;
    let copied = |file: &Path, overwrite| copy(data.path(), file, overwrite, Beside::Server);
    std::fs::write(&file, "my notes").expect("a file");
    assert!(matches!(copied(&file, false), Err(BackupError::Exists { .. })));
    assert_eq!(std::fs::read(&file).expect("a file"), b"my notes");
    assert!(copied(&file, true).is_ok() && verify(&file).is_ok());
    // What a killed backup leaves behind is in nobody's way, also where it is the finished file's other name.
    std::fs::hard_link(&file, unfinished(&file)).expect("another name");
    assert!(copied(&file.with_extension("other"), false).is_ok() && copied(&file, true).is_ok() && verify(&file).is_ok());
    assert!(!unfinished(&file).exists());
    for name in ["gatepost.db", "a.db"] {
        assert!(matches!(copied(&data.path().join(name), true), Err(BackupError::Inside { .. })), "{name}");
    }
    assert!(matches!(copied(&data.path().join("no/such/place"), true), Err(BackupError::Files { .. })));
    running.stop();
    let empty = Scratch::new();
    let nothing = copy(empty.path(), &file, true, Beside::Nobody(entry("backup")));
    assert!(matches!(nothing, Err(BackupError::Nothing { .. })), "{nothing:?}");
    assert!(verify(&file).is_ok(), "and what was there still is");
}

#[tokio::test]
async fn without_a_server_the_directory_is_held_and_the_audit_says_so() {
    let (data, _elsewhere, file) = places();
    let running = Running::start(data.path());
    fill(&running).await;
    let held = copy(data.path(), &file, false, Beside::Nobody(entry("backup")));
    assert!(matches!(held, Err(BackupError::Directory(OpenError::Held { .. }))), "{held:?}");
    running.stop();
    made(data.path(), &file);
    let running = Running::start(data.path());
    let line = running.store.audit_before(None, 1).await.expect("the store answers").remove(0);
    assert_eq!(line.action, "backup");
    running.stop();
    let of_the_copy = Connection::open(&file).expect("it opens");
    let action: String =
        of_the_copy.query_row("SELECT action FROM audit ORDER BY number DESC", [], |row| row.get(0)).expect("a line");
    assert_eq!(action, "backup", "a copy says when it was made");
}

#[tokio::test]
async fn a_copy_that_is_cut_anywhere_is_no_copy() {
    let (data, elsewhere, file) = places();
    let running = Running::start(data.path());
    fill(&running).await;
    running.stop();
    let contents = made(data.path(), &file);
    let whole = std::fs::read(&file).expect("it is read");
    let cut = elsewhere.path().join("cut.db");
    // Each byte of the beginning and of the end, and a row of places between them that meets no page's beginning twice.
    let length = whole.len();
    for at in (0..600).chain((600..length - 600).step_by(1021)).chain(length - 600..length) {
        std::fs::write(&cut, &whole[..at]).expect("it is written");
        let complaint = refused(&cut);
        assert!(complaint.contains("is not a usable backup: it is cut: it has"), "{at}: {complaint}");
    }
    std::fs::write(&cut, [&whole[..], b"x"].concat()).expect("it is written");
    assert!(refused(&cut).contains("belong to it"), "{}", refused(&cut));
    std::fs::write(&cut, &whole).expect("it is written");
    assert_eq!(verify(&cut).ok(), Some(contents));
    std::fs::write(cut.with_extension("db-wal"), "x").expect("it is written");
    assert!(refused(&cut).contains("lies beside it"), "{}", refused(&cut));
}

#[tokio::test]
async fn what_is_something_else_is_no_copy_and_a_newer_one_is_left_alone() {
    let (data, elsewhere, file) = places();
    let running = Running::start(data.path());
    fill(&running).await;
    running.stop();
    made(data.path(), &file);
    let whole = std::fs::read(&file).expect("it is read");
    let other = elsewhere.path().join("other.db");
    std::fs::write(&other, [b'x'; 4096]).expect("it is written");
    assert!(refused(&other).contains("it is not a Gatepost database"));
    std::fs::remove_file(&other).expect("it goes");
    Connection::open(&other).and_then(|foreign| foreign.execute_batch("CREATE TABLE notes (text)")).expect("a database");
    assert!(refused(&other).contains("it is not a Gatepost database"));
    assert!(matches!(verify(elsewhere.path()), Err(BackupError::Broken { .. })));
    assert!(matches!(verify(&elsewhere.path().join("none")), Err(BackupError::Files { .. })));

    // Every page in turn is overwritten, and none of that is taken for a copy, but for what SQLite has left empty.
    let page = 4096;
    let mut found = 0;
    for number in 1..whole.len() / page {
        let mut spoilt = whole.clone();
        spoilt[number * page..(number + 1) * page].fill(0xa5);
        std::fs::write(&other, spoilt).expect("it is written");
        found += usize::from(verify(&other).is_err());
    }
    assert_eq!(found, whole.len() / page - 1);

    std::fs::write(&other, &whole).expect("it is written");
    let newer = Connection::open(&other).expect("it opens");
    newer.pragma_update(None, "user_version", 4_000).expect("another number");
    drop(newer);
    assert!(matches!(verify(&other), Err(BackupError::Directory(OpenError::Newer { found: 4_000, .. }))));
    let fresh = Scratch::new();
    let refused = restore(fresh.path(), &other, entry("backup_restore"));
    assert!(matches!(refused, Err(BackupError::Directory(OpenError::Newer { .. }))), "{refused:?}");
    assert!(!fresh.path().join("gatepost.db").exists() && !restoring(fresh.path()).exists());
}

#[tokio::test]
async fn a_restore_brings_everything_back_but_what_peers_hold() {
    let (data, _elsewhere, file) = places();
    let running = Running::start(data.path());
    fill(&running).await;
    let held = restore(data.path(), &file, entry("backup_restore"));
    assert!(matches!(held, Err(BackupError::Directory(OpenError::Held { .. }))), "{held:?}");
    running.stop();
    let contents = made(data.path(), &file);

    let elsewhere = Scratch::new();
    let before = system_now();
    let restored = restore(elsewhere.path(), &file, entry("backup_restore")).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!((restored.contents, restored.replaced, restored.older), (contents, None, None));
    let running = Running::start(elsewhere.path());
    let ann = running.store.account(account_id(1)).await.expect("the store answers").expect("ann");
    assert!(ann.cut_off > before, "nothing that was signed for her stands");
    assert_eq!(Account { cut_off: at(0), ..ann }, account(1, "ann"));
    assert_eq!(running.store.session_by_token(&hash(5), at(0)).await, Ok(None));
    assert!(running.store.session(session_id(5)).await.expect("the store answers").expect("its record").ended.is_some());
    assert_eq!(running.store.family(&hash(3)).await, Ok(None));
    assert!(running.store.reserve("tokens", 1).await.expect("a number") > 1 << 32);
    let rows = running.store.audit_after(0, 100).await.expect("the store answers");
    assert_eq!(rows.iter().map(|row| row.action.as_str()).collect::<Vec<_>>()[3..], ["backup", "backup_restore"]);
    let mut previous = [0; 32];
    for (row, number) in rows.iter().zip(1..) {
        assert_eq!((row.number, row.previous), (number, previous));
        previous = row.hash;
    }
    assert_eq!(rows[4].hash, chain(5, 0, &entry("backup_restore"), &rows[4].previous));
    running.stop();
    let mode = std::fs::metadata(elsewhere.path().join("gatepost.db")).expect("it is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

/// X8.
#[tokio::test]
async fn what_ended_since_a_backup_does_not_come_back_with_it() {
    let (data, _elsewhere, file) = places();
    let far = system_now().after(std::time::Duration::from_secs(3600));
    let running = Running::start(data.path());
    fill(&running).await;
    let keys = vec![api_key(1), api_key(2)];
    let new = NewApiKeys { account: account_id(1), keys, in_place_of: None, at: at(1) };
    running.store.add_api_keys(new, entry("apikey_add")).await.expect("the store answers");
    assert_eq!(running.store.add_account(account(3, "eve"), entry("user_add")).await, Ok(Placed::Done));
    running.store.signing_keys(signing_key(1)).await.expect("the store answers");
    running.stop();
    made(data.path(), &file);

    let running = Running::start(data.path());
    let store = &running.store;
    store.cancel_api_key(hash(1), at(30), entry("apikey_cancel")).await.expect("the store answers");
    store.revoke_signed(hash(9), far, entry("token_revoke")).await.expect("the store answers");
    let retired = gatepost_identity::keyring::Retired { at: at(30), until: far };
    store.retire_key(1, retired, entry("key_retire")).await.expect("the store answers");
    let changed = Account { password: Some("another".to_owned()), status: Status::Disabled, cut_off: far, ..account(1, "ann") };
    assert_eq!(store.change_account(changed, None, entry("user_set")).await, Ok(Placed::Done));
    assert_eq!(store.remove_account(account_id(3), 1, entry("user_remove")).await, Ok(Written::Done));
    assert_eq!(store.add_account(account(4, "new"), entry("user_add")).await, Ok(Placed::Done));
    assert_eq!(store.reserve("tokens", 1000).await, Ok(101));
    running.stop();

    let restored = restore(data.path(), &file, entry("backup_restore")).unwrap_or_else(|error| panic!("{error}"));
    let older = restored.older.expect("both are of one installation");
    assert_eq!((older.passwords, older.statuses, older.returned, older.lost), (1, 1, 1, 1));
    let replaced = restored.replaced.expect("there was one");
    assert_eq!(verify(&replaced).map(|contents| contents.accounts).ok(), Some(2), "what was replaced is kept");
    let running = Running::start(data.path());
    let store = &running.store;
    let key = |number| store.api_key(Box::leak(Box::new(hash(number))));
    assert!(key(1).await.expect("the store answers").expect("it is there").cancelled_at.is_some());
    assert_eq!(key(2).await.expect("the store answers").expect("it is there").cancelled_at, None);
    assert_eq!(store.is_revoked(&hash(9)).await, Ok(true));
    assert_eq!(store.keys().await.expect("the store answers")[0].retired.map(|retired| retired.until), Some(far));
    assert!(store.account(account_id(1)).await.expect("the store answers").expect("ann").cut_off > far);
    assert!(store.reserve("tokens", 1).await.expect("a number") > 1100 + (1 << 32));
    running.stop();
}

#[tokio::test]
async fn another_installations_database_is_replaced_whole_and_takes_nothing_along() {
    let (data, _elsewhere, file) = places();
    let running = Running::start(data.path());
    fill(&running).await;
    let new = NewApiKeys { account: account_id(1), keys: vec![api_key(1)], in_place_of: None, at: at(1) };
    running.store.add_api_keys(new, entry("apikey_add")).await.expect("the store answers");
    running.stop();
    made(data.path(), &file);
    let other = Scratch::new();
    let running = Running::start(other.path());
    running.store.secret("throttle", [8; 32]).await.expect("the store answers");
    running.stop();
    let restored = restore(other.path(), &file, entry("backup_restore")).unwrap_or_else(|error| panic!("{error}"));
    assert!(restored.older.is_none() && restored.replaced.is_some());
    let running = Running::start(other.path());
    assert_eq!(running.store.api_key(&hash(1)).await.expect("the store answers").expect("it is there").cancelled_at, None);
    running.stop();
}

#[tokio::test]
async fn a_broken_database_is_put_aside_and_somebody_elses_is_not() {
    let (data, _elsewhere, file) = places();
    let running = Running::start(data.path());
    fill(&running).await;
    running.stop();
    made(data.path(), &file);
    let database = data.path().join("gatepost.db");
    let mut spoilt = std::fs::read(&database).expect("it is read");
    spoilt[100..2000].fill(0xa5);
    std::fs::write(&database, &spoilt).expect("it is written");
    let restored = restore(data.path(), &file, entry("backup_restore")).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(std::fs::read(restored.replaced.expect("there was one")).expect("it is read"), spoilt);
    Running::start(data.path()).stop();

    std::fs::remove_file(&database).expect("it goes");
    Connection::open(&database).and_then(|foreign| foreign.execute_batch("CREATE TABLE notes (text)")).expect("a database");
    let foreign = std::fs::read(&database).expect("it is read");
    let refused = restore(data.path(), &file, entry("backup_restore"));
    assert!(matches!(refused, Err(BackupError::Directory(OpenError::Foreign { .. }))), "{refused:?}");
    assert_eq!(std::fs::read(&database).expect("it is read"), foreign);
}

#[tokio::test]
async fn while_somebody_reads_the_database_it_is_not_put_aside() {
    let (data, _elsewhere, file) = places();
    let running = Running::start(data.path());
    fill(&running).await;
    running.stop();
    made(data.path(), &file);
    let reader = Connection::open(data.path().join("gatepost.db")).expect("it opens");
    reader.execute_batch("BEGIN; SELECT * FROM accounts").expect("it reads");
    let refused = restore(data.path(), &file, entry("backup_restore"));
    assert!(matches!(refused, Err(BackupError::Database { .. })), "{refused:?}");
    assert!(!restoring(data.path()).exists());
    drop(reader);
    let running = Running::start(data.path());
    assert!(running.store.session_by_token(&hash(5), at(0)).await.expect("the store answers").is_some(), "all is as it was");
    running.stop();
}

/// Every schema that was ever published can be restored.
#[tokio::test]
async fn a_backup_of_an_older_schema_is_taken_to_the_present_one() {
    let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/schemas");
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(kept).expect("it is read").map(|entry| entry.expect("an entry").path()).collect();
    files.sort();
    assert!(files.len() >= 10);
    for (number, file) in (1..).zip(&files) {
        let (_data, elsewhere, backup) = places();
        std::fs::copy(file, &backup).expect("it is copied");
        let data = Scratch::new();
        let restored = restore(data.path(), &backup, entry("backup_restore")).unwrap_or_else(|error| panic!("{number}: {error}"));
        assert_eq!((restored.contents.schema, usize::try_from(restored.schema)), (number, Ok(files.len())));
        let running = Running::start(data.path());
        assert!(running.store.account(account_id(1)).await.expect("the store answers").is_some(), "{number}");
        assert_eq!(running.store.session_by_token(&hash(5), at(0)).await, Ok(None), "{number}");
        running.stop();
        drop(elsewhere);
    }
}
