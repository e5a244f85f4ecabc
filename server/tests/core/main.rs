//! The identity core on a real store, asked as a driver asks it, with a clock that the test turns.
//!
//! What a peer sees is tested through the real binary; here stands what needs a clock, a store that stalls, or a look at the
//! attachment.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends there, in its helpers too")]

mod api_keys;
mod borrowed;
mod budgets;
mod ends;
mod families;
mod grants;
mod imported;
mod issue;
mod operator_secret;
mod register;
mod requests;
mod sessions;
mod signed;
mod stalled;
mod terminals;
mod tokens;

use std::future::Future;
use std::net::IpAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use gatepost_identity::account::{ClientId, NameKey, Status};
use gatepost_identity::admin::{Admin, ClientSecret, LONGEST_GRANT, NewClient, NewGrant, NewUser, Operator, UserChange};
use gatepost_identity::clock::{Clock, SystemEntropy, Timestamp, system_instant, system_now};
use gatepost_identity::command::{Binding, Command, ConnectionId, Context, GrantRequest, Peer, ProviderName, Verb};
use gatepost_identity::credential::Credential;
use gatepost_identity::jwt::Issuer;
use gatepost_identity::live::Attachment;
use gatepost_identity::password::PasswordSettings;
use gatepost_identity::provider::{Provider, ProviderKind};
use gatepost_identity::refusal::Refusal;
use gatepost_identity::reply::{
    Answer, Caller, Event, Granted, IssuedToken, Method, NewToken, Outcome, Reason, Spell, Spelled, TokenKind, ToldApiKey,
};
use gatepost_identity::scope::{Right, Scope, ScopeDefinition, ScopeRequest};
use gatepost_identity::secret::Secret;
use gatepost_identity::store::{OneNode, Store};
use gatepost_identity::{Identity, Settings, World};
use gatepost_store::{Memory, Sqlite, Worker};

/// A clock that stands until it is turned. Its timers follow it. Whoever sets the wall clock moves no timer.
struct Turned {
    began: (Timestamp, Instant),
    by: tokio::sync::watch::Sender<Duration>,
    /// By how many milliseconds the wall clock was set.
    set: AtomicI64,
}

impl Turned {
    fn new() -> Arc<Turned> {
        Arc::new(Turned {
            began: (system_now(), system_instant()),
            by: tokio::sync::watch::channel(Duration::ZERO).0,
            set: AtomicI64::new(0),
        })
    }

    fn turn(&self, by: Duration) {
        self.by.send_modify(|turned| *turned += by);
    }

    /// Somebody sets the wall clock, so many milliseconds ahead or back.
    fn set(&self, by: i64) {
        self.set.fetch_add(by, Ordering::AcqRel);
    }
}

impl Clock for Turned {
    fn now(&self) -> Timestamp {
        let turned = self.began.0.after(*self.by.borrow());
        Timestamp::from_millis(turned.millis() + self.set.load(Ordering::Acquire))
    }

    fn instant(&self) -> Instant {
        self.began.1 + *self.by.borrow()
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn Future<Output = ()> + Send + 'static>> {
        let (began, mut by) = (self.began.1, self.by.subscribe());
        Box::pin(async move {
            // The clock outlives every wait in these tests.
            by.wait_for(|by| began + *by >= deadline).await.ok();
        })
    }
}

struct Core {
    identity: Identity,
    clock: Arc<Turned>,
    unasked: tokio::task::JoinHandle<()>,
    threads: Vec<JoinHandle<()>>,
    last_connection: Mutex<u64>,
}

impl Core {
    async fn on(store: Arc<dyn Store>, change: impl FnOnce(&mut Settings)) -> Core {
        Core::spelled(store, gatepost_protocols::zenith::GATE.spell.unwrap(), change).await
    }

    async fn spelled(store: Arc<dyn Store>, spell: Spell, change: impl FnOnce(&mut Settings)) -> Core {
        Core::spelled_by(store, (spell, requests::web), change).await
    }

    async fn spelled_at_both(store: Arc<dyn Store>, spell: Spell, change: impl FnOnce(&mut Settings)) -> Core {
        Core::spelled_by(store, (spell, spell), change).await
    }

    async fn spelled_by(store: Arc<dyn Store>, (spell, web): (Spell, Spell), change: impl FnOnce(&mut Settings)) -> Core {
        let clock = Turned::new();
        let scope =
            |name: &str, secure_only| ScopeDefinition { scope: Scope::parse(name).unwrap(), secure_only, names: Vec::new() };
        let mut settings = Settings {
            passwords: PasswordSettings {
                memory: 64,
                iterations: 1,
                max_wait: Duration::from_secs(60),
                ..PasswordSettings::default()
            },
            providers: vec![Provider { name: "local".to_owned(), kind: ProviderKind::Local, aliases: vec!["Paritech".to_owned()] }],
            scopes: vec![scope("m", false), scope("t", true)],
            ..Settings::default()
        };
        change(&mut settings);
        let world = World { store, shared: Arc::new(OneNode::default()), clock: clock.clone(), entropy: Arc::new(SystemEntropy) };
        let identity = Identity::open(world, settings, vec![("zenith", spell), ("web", web)]).await.unwrap();
        let unasked = {
            let identity = identity.clone();
            tokio::spawn(async move { identity.run().await })
        };
        let hashing = {
            let identity = identity.clone();
            std::thread::spawn(move || identity.work_passwords())
        };
        Core { identity, clock, unasked, threads: vec![hashing], last_connection: Mutex::new(0) }
    }

    async fn with(change: impl FnOnce(&mut Settings)) -> Core {
        let core = Core::on(Arc::new(Memory::default()), change).await;
        core.populate().await;
        core
    }

    async fn populate(&self) {
        let scopes = || vec!["m".to_owned(), "t".to_owned()];
        let user = NewUser {
            name: "ann".to_owned(),
            email: Some("ann@example.org".to_owned()),
            scopes: scopes(),
            password: Some(Secret::new("pw")),
            ..NewUser::default()
        };
        self.admin().add_user(user).await.unwrap();
        self.admin().add_client(NewClient { id: "app".to_owned(), scopes: scopes(), ..NewClient::default() }).await.unwrap();
        let secret = ClientSecret::Given(Secret::new("s3"));
        let service = NewClient { id: "svc".to_owned(), scopes: scopes(), secret, ..NewClient::default() };
        self.admin().add_client(service).await.unwrap();
    }

    fn admin(&self) -> Admin<'_> {
        self.identity.admin(Operator::Local { uid: 0 })
    }

    fn connection(&self) -> ConnectionId {
        let mut last = self.last_connection.lock().unwrap();
        *last += 1;
        ConnectionId(*last)
    }

    fn context(&self, connection: ConnectionId, source: &str) -> Context {
        let peer = Peer { address: source.parse::<IpAddr>().unwrap(), secure: true };
        let deadline = self.clock.instant() + Duration::from_secs(35);
        Context { gate: "zenith", peer, terminal: None, connection: Some(connection), deadline }
    }

    async fn ask(&self, credential: Credential, context: &Context) -> Outcome {
        let client = |id: &str, secret: Option<&str>| Credential::Client {
            id: Some(ClientId::parse(id).unwrap()),
            secret: secret.map(Secret::new),
        };
        let presented = match credential {
            Credential::Password { .. } => vec![client("app", None)],
            _ => Vec::new(),
        };
        self.identity.handle(command(presented, credential, "Paritech"), context).await
    }

    async fn guess(&self, name: &str, word: &str, source: &str) -> Result<(), Refusal> {
        let context = self.context(self.connection(), source);
        let Outcome { reply, held, .. } = self.ask(password(name, word), &context).await;
        held.release();
        reply.result.map(|_| ())
    }

    async fn log_in_on(&self, connection: ConnectionId) -> Peering {
        Peering::of(self.ask(password("ann", "pw"), &self.context(connection, "192.0.2.1")).await)
    }

    async fn log_in(&self) -> Peering {
        self.log_in_on(self.connection()).await
    }

    async fn present_on(&self, token: &[u8], connection: ConnectionId) -> Result<Peering, Refusal> {
        let credential = Credential::Token { any_of: vec![Secret::new(token)], kind: TokenKind::Restore };
        let outcome = self.ask(credential, &self.context(connection, "192.0.2.1")).await;
        match &outcome.reply.result {
            Ok(_) => Ok(Peering::of(outcome)),
            Err(refusal) => Err(refusal.clone()),
        }
    }

    async fn present(&self, token: &[u8]) -> Result<Peering, Refusal> {
        self.present_on(token, self.connection()).await
    }

    /// A grant for ann through `app`, bound to these scopes unless there are none.
    async fn mint(&self, scopes: &[&str]) -> String {
        let new = NewGrant { scopes: scopes.iter().map(|&scope| scope.to_owned()).collect(), ..new_grant() };
        let (_, code) = self.admin().mint_grant(new).await.unwrap();
        code.expose_text().unwrap().to_owned()
    }

    /// Redeems a grant as `change` has it; otherwise through `app`, from a connection of its own, for all there is.
    async fn redeem_as(&self, code: &str, change: impl FnOnce(&mut Redeeming)) -> Result<Peering, Refusal> {
        let context = self.context(self.connection(), "192.0.2.1");
        let mut with = Redeeming { client: ("app", None), provider: "Paritech", scope: ScopeRequest::Maximum, context };
        change(&mut with);
        let Redeeming { client: (id, secret), provider, scope, context } = with;
        let client = Credential::Client { id: Some(ClientId::parse(id).unwrap()), secret: secret.map(Secret::new) };
        let mut command = command(vec![client], Credential::Code { code: Secret::new(code) }, provider);
        if let Verb::Authenticate { request, .. } = &mut command.verb {
            request.scope = scope;
        }
        let outcome = self.identity.handle(command, &context).await;
        match &outcome.reply.result {
            Ok(_) => Ok(Peering::of(outcome)),
            Err(refusal) => Err(refusal.clone()),
        }
    }

    async fn redeem(&self, code: &str) -> Result<Peering, Refusal> {
        self.redeem_as(code, |_| ()).await
    }

    /// How often the audit has this action.
    async fn audited(&self, action: &str) -> usize {
        let lines = self.admin().audit_before(None, 1000).await.unwrap();
        lines.iter().filter(|line| line.action == action).count()
    }

    async fn sessions(&self) -> usize {
        self.admin().sessions(None, None, 1000).await.unwrap().len()
    }

    /// Waits until the core has done unasked what it must; the clock is turned on meanwhile, a little.
    async fn until<F: Future<Output = bool>>(&self, what: &str, mut holds: impl FnMut() -> F) {
        for _ in 0..500 {
            if holds().await {
                return;
            }
            self.clock.turn(Duration::from_millis(10));
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        panic!("never came true: {what}");
    }
}

impl Drop for Core {
    fn drop(&mut self) {
        self.unasked.abort();
        self.identity.close_passwords();
        for thread in self.threads.drain(..) {
            thread.join().unwrap();
        }
    }
}

/// How a grant is redeemed.
struct Redeeming {
    client: (&'static str, Option<&'static str>),
    provider: &'static str,
    scope: ScopeRequest,
    context: Context,
}

/// A peer that was granted something.
struct Peering {
    granted: Granted,
    attachment: Attachment,
}

impl Peering {
    fn of(outcome: Outcome) -> Peering {
        let granted = outcome.reply.result.and_then(Answer::granted).expect("granted");
        outcome.held.release();
        Peering { granted, attachment: outcome.attachment.expect("attached") }
    }

    fn scopes(&self) -> String {
        format!("{:?}", self.granted.principal.scopes)
    }

    fn token(&self) -> Vec<u8> {
        self.granted.tokens[0].secret.expose().to_vec()
    }

    fn event(&self) -> Option<Event> {
        let mut waking = std::task::Context::from_waker(std::task::Waker::noop());
        match self.attachment.poll_next(&mut waking) {
            std::task::Poll::Ready(event) => Some(event),
            std::task::Poll::Pending => None,
        }
    }
}

fn command(presented: Vec<Credential>, credential: Credential, provider: &str) -> Command {
    let request = GrantRequest { scope: ScopeRequest::Maximum, role: None, binding: Binding::Connection, spelling: None };
    Command { presented, verb: Verb::Authenticate { provider: Some(ProviderName(provider.to_owned())), credential, request } }
}

fn password(name: &str, word: &str) -> Credential {
    Credential::Password { name: name.to_owned(), password: Secret::new(word) }
}

fn new_grant() -> NewGrant {
    NewGrant { client: "app".to_owned(), user: "ann".to_owned(), provider: None, scopes: Vec::new(), life: LONGEST_GRANT }
}

fn named(scopes: &[&str]) -> ScopeRequest {
    ScopeRequest::AnyOf(scopes.iter().map(|scope| Scope::parse(scope).unwrap()).collect())
}

const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// A data directory of its own.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Directory {
        let path = std::env::temp_dir().join(format!("gatepost-core-{name}-{}", std::process::id()));
        std::fs::remove_dir_all(&path).ok();
        Directory(path)
    }

    /// A store on it, and its writer, which has not begun to work.
    fn open(&self) -> (Arc<dyn Store>, Worker, Vec<JoinHandle<()>>) {
        let (store, mut workers) = Sqlite::open(&self.0).unwrap();
        let writer = workers.remove(0);
        assert_eq!(writer.name, "store-writer");
        let readers = workers.into_iter().map(|worker| std::thread::spawn(|| worker.run())).collect();
        (Arc::new(store), writer, readers)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).ok();
    }
}
