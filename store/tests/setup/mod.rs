//! What both suites need: a directory of their own, a store whose workers run, and samples of what is stored.

#![allow(dead_code, reason = "each suite is a program of its own and uses its part of this")]

use std::future::{Future, poll_fn};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::Poll;
use std::thread::JoinHandle;

use gatepost_identity::account::{Account, AccountId, Client, ClientId, Email, Rights, Status, Username};
use gatepost_identity::audit::AuditEntry;
use gatepost_identity::clock::Timestamp;
use gatepost_identity::keyring::{KeyAlgorithm, Purpose, SigningKey};
use gatepost_identity::scope::{Scope, ScopeRequest, Scopes};
use gatepost_identity::secret::Secret;
use gatepost_identity::session::{Session, SessionId};
use gatepost_identity::store::{Grant, NewSession, Past, Token, TokenHash};
use gatepost_store::{Sqlite, Worker};
use uuid::Uuid;

/// A directory that is removed with this, unless the test fails: then somebody may want to look.
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    pub(crate) fn new() -> Scratch {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let next = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("gatepost-store-{}-{next}", std::process::id()));
        // What an earlier process of this number left behind.
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).expect("a temporary directory");
        Scratch(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }
}

/// A store with a thread for each worker.
pub(crate) struct Running {
    pub(crate) store: Sqlite,
    threads: Vec<JoinHandle<()>>,
}

impl Running {
    pub(crate) fn start(directory: &Path) -> Running {
        let (store, workers) = opened(directory);
        Running::of(store, employ(workers))
    }

    pub(crate) fn of(store: Sqlite, threads: Vec<JoinHandle<()>>) -> Running {
        Running { store, threads }
    }

    /// Drops the handle and waits until every worker has ended.
    pub(crate) fn stop(self) {
        drop(self.store);
        for thread in self.threads {
            thread.join().expect("the worker ends well");
        }
    }
}

pub(crate) fn opened(directory: &Path) -> (Sqlite, Vec<Worker>) {
    Sqlite::open(directory).unwrap_or_else(|error| panic!("{error}"))
}

pub(crate) fn employ(workers: Vec<Worker>) -> Vec<JoinHandle<()>> {
    workers.into_iter().map(|worker| std::thread::spawn(|| worker.run())).collect()
}

pub(crate) type Asked<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Asks all of them before it waits for the first answer.
pub(crate) async fn together<T>(mut asked: Vec<Asked<'_, T>>) -> Vec<T> {
    let mut answers: Vec<Option<T>> = asked.iter().map(|_| None).collect();
    poll_fn(|context| {
        for (question, answer) in asked.iter_mut().zip(&mut answers).filter(|(_, answer)| answer.is_none()) {
            if let Poll::Ready(value) = question.as_mut().poll(context) {
                *answer = Some(value);
            }
        }
        if answers.iter().all(Option::is_some) { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    answers.into_iter().flatten().collect()
}

/// Hands the question over, so that it waits for its worker, without waiting for its answer.
pub(crate) fn hand_over<T>(asked: &mut Asked<'_, T>) {
    let answered = asked.as_mut().poll(&mut std::task::Context::from_waker(std::task::Waker::noop())).is_ready();
    assert!(!answered, "no worker runs yet that could answer");
}

pub(crate) fn at(seconds: i64) -> Timestamp {
    Timestamp::from_millis(seconds * 1000)
}

/// What is past where no line of the audit is.
pub(crate) fn past(now: i64, ended: i64) -> Past {
    Past { now: at(now), ended: at(ended), audit: at(0) }
}

pub(crate) fn scopes(names: &str) -> Scopes {
    names.split_whitespace().map(|name| Scope::parse(name).expect("a scope")).collect()
}

pub(crate) fn account_id(number: u128) -> AccountId {
    AccountId(Uuid::from_u128(number))
}

pub(crate) fn client_id(text: &str) -> ClientId {
    ClientId::parse(text).expect("a client id")
}

pub(crate) fn session_id(number: u128) -> SessionId {
    SessionId(Uuid::from_u128(number))
}

pub(crate) fn hash(number: u8) -> TokenHash {
    [number; 32]
}

pub(crate) fn signing_key(number: u8) -> SigningKey {
    SigningKey {
        number: 1,
        purpose: Purpose::Own,
        algorithm: KeyAlgorithm::EdDSA,
        secret: Secret::new([number; 32]),
        created_at: at(number.into()),
        retired: None,
    }
}

pub(crate) fn email(text: &str) -> Option<Email> {
    Some(Email::parse(text).expect("an address"))
}

/// An active account of version 1, whose public id is its name.
pub(crate) fn account(number: u128, name: &str) -> Account {
    Account {
        id: account_id(number),
        subject: name.to_owned(),
        name: Username::parse(name).expect("a name"),
        email: None,
        display_name: None,
        first_name: None,
        last_name: None,
        profile_url: None,
        status: Status::Active,
        expires_at: None,
        rights: Rights::default(),
        scopes: Scopes::default(),
        password: None,
        cut_off: at(0),
        version: 1,
        created_at: at(1),
    }
}

/// An active client of version 1.
pub(crate) fn client(id: &str) -> Client {
    Client {
        id: client_id(id),
        display_name: None,
        secret: None,
        status: Status::Active,
        expires_at: None,
        scopes: Scopes::default(),
        receives_token: true,
        version: 1,
        created_at: at(1),
    }
}

pub(crate) fn session(number: u128, account: Option<u128>, client: &str) -> Session {
    Session {
        id: session_id(number),
        gate: "zenith".to_owned(),
        provider: "Paritech".to_owned(),
        account: account.map(account_id),
        client: client_id(client),
        requested: ScopeRequest::Maximum,
        spelling: 0,
        source: "192.0.2.1".parse().expect("an address"),
        started_at: at(10),
        used_at: at(10),
        expires_at: None,
        ended: None,
    }
}

/// A token of a session, good from 10 to 1000.
pub(crate) fn token(number: u8, session: u128, parent: Option<u8>) -> Token {
    Token {
        hash: hash(number),
        session: session_id(session),
        parent: parent.map(hash),
        issued_at: at(10),
        expires_at: at(1000),
        presented_at: None,
        superseded_at: None,
    }
}

/// Ann's grant for the app, good from 10 to 1000.
pub(crate) fn grant(number: u8) -> Grant {
    Grant {
        hash: hash(number),
        client: client_id("app"),
        account: account_id(1),
        provider: "Paritech".to_owned(),
        scopes: ScopeRequest::Maximum,
        issued_at: at(10),
        expires_at: at(1000),
        redeemed: None,
    }
}

pub(crate) fn new_session(session: Session, token: Option<Token>) -> NewSession {
    NewSession {
        account_version: session.account.map(|_| 1),
        account_cut_off: at(0),
        session,
        token,
        client_version: 1,
        rehashed: None,
        rehashed_secret: None,
        replaces: None,
        audit: entry("authenticate"),
    }
}

pub(crate) fn entry(action: &'static str) -> AuditEntry {
    AuditEntry::new(at(20), action, "zenith")
}
