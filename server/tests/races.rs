//! Races between a login and whatever ends or changes it, each made to happen: a store that lets something else happen right
//! after one of its verbs.
//!
//! What a driver asks of the core in peace is in `core.rs`. Here an operator is always exactly in between.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends there, in its helpers too")]

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use gatepost::clock::RealClock;
use gatepost_identity::account::{Account, AccountId, Client, ClientId, NameKey, Rights, Status};
use gatepost_identity::admin::{ClientChange, NewClient, NewUser, Operator, UserChange};
use gatepost_identity::api_key::ApiKey;
use gatepost_identity::audit::{AuditEntry, AuditRow};
use gatepost_identity::clock::{SystemEntropy, Timestamp, system_instant, system_now};
use gatepost_identity::command::{Binding, Command, ConnectionId, Context, GrantRequest, Peer, Verb};
use gatepost_identity::credential::Credential;
use gatepost_identity::family::Family;
use gatepost_identity::keyring::{Retired, SigningKey};
use gatepost_identity::live::Attachment;
use gatepost_identity::password::PasswordSettings;
use gatepost_identity::provider::{Provider, ProviderKind};
use gatepost_identity::refusal::Refusal;
use gatepost_identity::reply::{Answer, Event, Granted, NewToken, Reason, Spelled, TokenKind};
use gatepost_identity::scope::{Scope, ScopeDefinition, ScopeRequest};
use gatepost_identity::secret::Secret;
use gatepost_identity::session::{Session, SessionId};
use gatepost_identity::store::{
    Change, Grant, KeysWritten, NewAccount, NewApiKeys, NewSession, OneNode, Page, Past, Placed, Redeemed, Rehashed, Roll, Store,
    StoreError, StoredSession, StoredTerminal, TokenHash, Which, Written,
};
use gatepost_identity::terminal::TerminalName;
use gatepost_identity::throttle::ThrottleRow;
use gatepost_identity::{Identity, Settings, World};
use gatepost_store::Memory;

type Meanwhile = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A store in memory that, once, lets something happen between a verb and its answer.
#[derive(Default)]
struct Interrupted {
    store: Memory,
    asked: AtomicUsize,
    next: Mutex<Option<(&'static str, Meanwhile)>>,
}

impl Interrupted {
    /// The next time that this verb has been done, and before whoever asked is told, `meanwhile` happens.
    fn after(&self, verb: &'static str, meanwhile: impl Future<Output = ()> + Send + 'static) {
        *self.next.lock().unwrap() = Some((verb, Box::pin(meanwhile)));
    }

    async fn interrupt(&self, verb: &str) {
        let next = self.next.lock().unwrap().take_if(|(awaited, _)| *awaited == verb);
        if let Some((_, meanwhile)) = next {
            meanwhile.await;
        }
    }

    fn has_happened(&self) -> bool {
        self.next.lock().unwrap().is_none()
    }
}

/// Hands every verb on, and interrupts behind it.
macro_rules! handed_on {
    ($($verb:ident($($name:ident: $kind:ty),*) -> $answer:ty;)*) => {
        #[async_trait]
        impl Store for Interrupted {
            $(async fn $verb(&self, $($name: $kind),*) -> Result<$answer, StoreError> {
                self.asked.fetch_add(1, Ordering::Relaxed);
                let answer = self.store.$verb($($name),*).await;
                self.interrupt(stringify!($verb)).await;
                answer
            })*
        }
    };
}

handed_on! {
        secret(name: &'static str, fresh: [u8; 32]) -> [u8; 32];
        signing_keys(fresh: SigningKey) -> Vec<SigningKey>;
        keys() -> Vec<SigningKey>;
        add_key(key: SigningKey, audit: AuditEntry) -> u64;
        retire_key(number: u64, retired: Retired, audit: AuditEntry) -> ();
        account_named(key: &NameKey) -> Option<Account>;
        account(id: AccountId) -> Option<Account>;
        account_known_as(subject: &str) -> Option<Account>;
        accounts(page: Page<NameKey>) -> Vec<Account>;
        add_account(account: Account, audit: AuditEntry) -> Placed;
        add_accounts(new: Vec<NewAccount>, audit: AuditEntry) -> Vec<Placed>;
        change_account(account: Account, end: Option<Reason>, audit: AuditEntry) -> Placed;
        remove_account(id: AccountId, version: u64, audit: AuditEntry) -> Written;
        client(id: &ClientId) -> Option<Client>;
        clients(page: Page<ClientId>) -> Vec<Client>;
        add_client(client: Client, audit: AuditEntry) -> Placed;
        change_client(client: Client, end: Option<Reason>, audit: AuditEntry) -> Written;
        remove_client(id: ClientId, version: u64, audit: AuditEntry) -> Written;
        start_session(new: NewSession) -> Written;
        rehash(rehashed: Rehashed) -> ();
        add_grant(grant: Grant, audit: AuditEntry) -> ();
        grant(hash: &TokenHash) -> Option<Grant>;
        redeem(grant: TokenHash, new: NewSession, reuse: AuditEntry) -> Redeemed;
        roll(roll: Roll) -> Written;
        end_descendants(of: TokenHash, audit: AuditEntry) -> ();
        session_by_token(token: &TokenHash, since: Timestamp) -> Option<StoredSession>;
        session(id: SessionId) -> Option<Session>;
        sessions(of: Option<AccountId>, page: Page<SessionId>) -> Vec<Session>;
        end_sessions(which: Which, reason: Reason, at: Timestamp, audit: AuditEntry) -> usize;
        revoke(token: TokenHash, until: Timestamp, session: SessionId, audit: AuditEntry) -> ();
        is_revoked(token: &TokenHash) -> bool;
        revoked_marks(limit: usize) -> Vec<[u8; 4]>;
        revoke_signed(token: TokenHash, until: Timestamp, audit: AuditEntry) -> ();
        put_family(family: Family, was: Option<i64>, cut_off: Timestamp) -> Written;
        family(id: &TokenHash) -> Option<Family>;
        end_family(id: TokenHash, audit: AuditEntry) -> ();
        reserve(name: &'static str, count: u64) -> u64;
        forget(past: Past, most: usize) -> bool;
        erase_names(of: AccountId, names: Vec<NameKey>, after: u64, most: usize) -> Option<u64>;
        add_api_keys(new: NewApiKeys, audit: AuditEntry) -> KeysWritten;
        add_nobodys_keys(keys: Vec<ApiKey>, audit: AuditEntry) -> Placed;
        api_key_marks(limit: usize) -> Vec<[u8; 4]>;
        api_key(hash: &TokenHash) -> Option<ApiKey>;
        api_keys(of: AccountId) -> Vec<ApiKey>;
        cancel_api_key(hash: TokenHash, at: Timestamp, audit: AuditEntry) -> ();
        cancel_api_keys(of: AccountId, at: Timestamp, audit: AuditEntry) -> usize;
        terminals() -> Vec<StoredTerminal>;
        add_terminal(terminal: StoredTerminal, audit: AuditEntry) -> Placed;
        change_terminal(terminal: StoredTerminal, audit: AuditEntry) -> Written;
        remove_terminal(name: TerminalName, version: u64, audit: AuditEntry) -> Written;
        feed(after: u64, limit: usize) -> Vec<(u64, Change)>;
        feed_end() -> u64;
        audit(entries: Vec<AuditEntry>) -> ();
        audit_before(before: Option<u64>, limit: usize) -> Vec<AuditRow>;
        audit_after(after: u64, limit: usize) -> Vec<AuditRow>;
        throttle() -> Vec<ThrottleRow>;
        save_throttle(rows: Vec<ThrottleRow>) -> ();
}

/// A core on the store, which does nothing unasked, so that only the race at hand happens.
struct Core {
    identity: Identity,
    hashing: Option<std::thread::JoinHandle<()>>,
}

impl Core {
    async fn on(store: Arc<Interrupted>) -> Core {
        let scope = |name: &str| ScopeDefinition { scope: Scope::parse(name).unwrap(), secure_only: false, names: Vec::new() };
        let settings = Settings {
            passwords: PasswordSettings {
                memory: 64,
                iterations: 1,
                max_wait: Duration::from_secs(60),
                ..PasswordSettings::default()
            },
            providers: [("local", ProviderKind::Local), ("apikey", ProviderKind::ApiKey)]
                .map(|(name, kind)| Provider { name: name.to_owned(), kind, aliases: Vec::new() })
                .into(),
            scopes: vec![scope("a"), scope("b")],
            ..Settings::default()
        };
        let world =
            World { store, shared: Arc::new(OneNode::default()), clock: Arc::new(RealClock), entropy: Arc::new(SystemEntropy) };
        let identity =
            Identity::open(world, settings, vec![("zenith", gatepost_protocols::zenith::GATE.spell.unwrap()), ("web", web)])
                .await
                .unwrap();
        let hashing = {
            let identity = identity.clone();
            std::thread::spawn(move || identity.work_passwords())
        };
        Core { identity, hashing: Some(hashing) }
    }

    /// With ann, who holds both scopes, and the client `app`.
    async fn with_ann(store: &Arc<Interrupted>) -> Core {
        let core = Core::on(Arc::clone(store)).await;
        let scopes = || vec!["a".to_owned(), "b".to_owned()];
        let password = Some(Secret::new("pw"));
        let ann = NewUser { name: "ann".to_owned(), scopes: scopes(), password, ..NewUser::default() };
        let admin = core.identity.admin(OPERATOR);
        admin.add_client(NewClient { id: "app".to_owned(), scopes: scopes(), ..NewClient::default() }).await.unwrap();
        admin.add_user(ann).await.unwrap();
        core
    }

    async fn ask(&self, presented: Vec<Credential>, credential: Credential, connection: u64) -> Result<Peering, Refusal> {
        let request = GrantRequest { scope: ScopeRequest::Maximum, role: None, binding: Binding::Connection, spelling: None };
        let command = Command { presented, verb: Verb::Authenticate { provider: None, credential, request } };
        let peer = Peer { address: "192.0.2.1".parse().unwrap(), secure: true };
        let deadline = system_instant() + Duration::from_secs(20);
        let context = Context { gate: "zenith", peer, terminal: None, connection: Some(ConnectionId(connection)), deadline };
        let outcome = self.identity.handle(command, &context).await;
        let granted = outcome.reply.result.and_then(Answer::granted)?;
        outcome.held.release();
        Ok(Peering { granted, attachment: outcome.attachment.unwrap() })
    }

    /// A request without a connection.
    async fn request(&self, presented: Vec<Credential>, verb: Verb) -> Result<Granted, Refusal> {
        let peer = Peer { address: "192.0.2.1".parse().unwrap(), secure: true };
        let deadline = system_instant() + Duration::from_secs(20);
        let context = Context { gate: "web", peer, terminal: None, connection: None, deadline };
        let outcome = self.identity.handle(Command { presented, verb }, &context).await;
        let granted = outcome.reply.result.and_then(Answer::granted)?;
        outcome.held.release();
        Ok(granted)
    }

    async fn sign_in(&self, binding: Binding) -> Result<Granted, Refusal> {
        let app = Credential::Client { id: ClientId::parse("app").ok(), secret: None };
        let credential = Credential::Password { name: "ann".to_owned(), password: Secret::new("pw") };
        let request = GrantRequest { scope: ScopeRequest::Maximum, role: None, binding, spelling: None };
        self.request(vec![app], Verb::Authenticate { provider: None, credential, request }).await
    }

    async fn log_in(&self, connection: u64) -> Result<Peering, Refusal> {
        let app = Credential::Client { id: ClientId::parse("app").ok(), secret: None };
        self.ask(vec![app], Credential::Password { name: "ann".to_owned(), password: Secret::new("pw") }, connection).await
    }

    async fn present(&self, token: &[u8], connection: u64) -> Result<Peering, Refusal> {
        self.ask(Vec::new(), Credential::Token { any_of: vec![Secret::new(token)], kind: TokenKind::Restore }, connection).await
    }

    /// What an operator does to ann, to be done later.
    fn set_ann(&self, change: UserChange) -> impl Future<Output = ()> + Send + 'static {
        let identity = self.identity.clone();
        async move {
            identity.admin(OPERATOR).set_user("ann", change).await.unwrap();
        }
    }

    fn end_session(&self, session: SessionId) -> impl Future<Output = ()> + Send + 'static {
        let identity = self.identity.clone();
        async move { identity.admin(OPERATOR).end_session(session).await.unwrap() }
    }
}

impl Drop for Core {
    fn drop(&mut self) {
        self.identity.close_passwords();
        if let Some(hashing) = self.hashing.take() {
            hashing.join().unwrap();
        }
    }
}

const OPERATOR: Operator = Operator::Local { uid: 0 };

struct Peering {
    granted: Granted,
    attachment: Attachment,
}

impl Peering {
    fn token(&self) -> Vec<u8> {
        self.granted.tokens[0].secret.expose().to_vec()
    }

    fn scopes(&self) -> String {
        format!("{:?}", self.granted.principal.scopes)
    }

    fn event(&self) -> Option<Event> {
        let mut waking = std::task::Context::from_waker(std::task::Waker::noop());
        match self.attachment.poll_next(&mut waking) {
            std::task::Poll::Ready(event) => Some(event),
            std::task::Poll::Pending => None,
        }
    }
}

fn only_a() -> UserChange {
    UserChange { scopes: Some(vec!["a".to_owned()]), ..UserChange::default() }
}

#[tokio::test]
async fn what_was_taken_while_a_login_was_committed_is_not_granted() {
    let store = Arc::new(Interrupted::default());
    let core = Core::with_ann(&store).await;
    let ends = system_now().after(Duration::from_secs(60));
    store.after("start_session", core.set_ann(UserChange { expires_at: Some(Some(ends)), ..only_a() }));
    let peer = core.log_in(1).await.unwrap();
    assert!(store.has_happened());
    assert_eq!((peer.scopes().as_str(), peer.granted.principal.expires_at), ("[a]", Some(ends)));
}

#[tokio::test]
async fn what_was_taken_while_a_token_was_rolled_is_not_granted() {
    let store = Arc::new(Interrupted::default());
    let core = Core::with_ann(&store).await;
    let token = core.log_in(1).await.unwrap().token();
    store.after("roll", core.set_ann(only_a()));
    let peer = core.present(&token, 2).await.unwrap();
    assert!(store.has_happened());
    assert_eq!(peer.scopes(), "[a]");
}

#[tokio::test]
async fn a_session_that_ended_while_its_login_was_committed_is_not_granted() {
    let store = Arc::new(Interrupted::default());
    let core = Core::with_ann(&store).await;
    let identity = core.identity.clone();
    store.after("start_session", async move {
        identity.admin(OPERATOR).end_sessions_of("ann").await.unwrap();
    });
    assert_eq!(core.log_in(1).await.err(), Some(Refusal::Revoked));
    assert!(store.has_happened());
}

#[tokio::test]
async fn a_session_that_ended_while_its_token_was_rolled_is_not_granted() {
    let store = Arc::new(Interrupted::default());
    let core = Core::with_ann(&store).await;
    let peer = core.log_in(1).await.unwrap();
    store.after("roll", core.end_session(peer.granted.principal.session.unwrap()));
    assert_eq!(core.present(&peer.token(), 2).await.err(), Some(Refusal::Revoked));
    assert_eq!(peer.event(), Some(Event::Detached(Reason::Revoked)));
}

#[tokio::test]
async fn a_session_that_ended_while_its_cookie_was_committed_is_not_granted() {
    let store = Arc::new(Interrupted::default());
    let core = Core::with_ann(&store).await;
    let identity = core.identity.clone();
    store.after("start_session", async move {
        identity.admin(OPERATOR).end_sessions_of("ann").await.unwrap();
    });
    assert_eq!(core.sign_in(Binding::Cookie { remember: false }).await.err(), Some(Refusal::Revoked));
    assert!(store.has_happened());
}

#[tokio::test]
async fn what_was_taken_while_a_cookie_was_committed_is_not_granted() {
    let store = Arc::new(Interrupted::default());
    let core = Core::with_ann(&store).await;
    let ends = system_now().after(Duration::from_secs(60));
    store.after("start_session", core.set_ann(UserChange { expires_at: Some(Some(ends)), ..only_a() }));
    let granted = core.sign_in(Binding::Cookie { remember: false }).await.unwrap();
    assert_eq!((format!("{:?}", granted.principal.scopes).as_str(), granted.principal.expires_at), ("[a]", Some(ends)));
}

#[tokio::test]
async fn a_cookie_whose_session_ended_while_it_was_read_says_nobody() {
    let store = Arc::new(Interrupted::default());
    let first = Core::with_ann(&store).await;
    let granted = first.sign_in(Binding::Cookie { remember: false }).await.unwrap();
    let cookie = || Credential::Cookie(granted.tokens[0].secret.clone());
    first.request(vec![cookie()], Verb::WhoAmI).await.expect("signed in");
    let core = Core::on(Arc::clone(&store)).await;
    store.after("session_by_token", core.end_session(granted.principal.session.unwrap()));
    for _ in 0..3 {
        assert_eq!(core.request(vec![cookie()], Verb::WhoAmI).await.err(), Some(Refusal::LoginRequired));
    }
    assert!(store.has_happened());
}

#[tokio::test]
async fn an_account_that_was_switched_off_while_its_password_was_hashed_is_not_let_in_for_a_request() {
    let store = Arc::new(Interrupted::default());
    let core = Core::with_ann(&store).await;
    let identity = core.identity.clone();
    store.after("account_named", async move {
        identity.admin(OPERATOR).set_user_status("ann", Status::Disabled).await.unwrap();
    });
    assert_eq!(core.sign_in(Binding::Request).await.err(), Some(Refusal::Unavailable), "as a login that it befalls");
    assert!(store.has_happened());
    assert_eq!(core.sign_in(Binding::Request).await.err(), Some(Refusal::AccountUnavailable));
}

/// "password", as passlib hashed it.
const BROUGHT: &str = "$pbkdf2-sha256$1212$4vjV83LKPjQzk31VI4E0Vw$hsYF68OiOUPdDZ1Fg.fJPeq1h/gXXY7acBp9/6c.tmQ";

#[tokio::test]
async fn a_hash_that_was_made_anew_never_takes_the_place_of_a_new_password() {
    for binding in [Binding::Request, Binding::Cookie { remember: false }] {
        for verb in ["account_named", "client"] {
            let store = Arc::new(Interrupted::default());
            let core = Core::with_ann(&store).await;
            let bob = NewUser { name: "bob".to_owned(), password_hash: Some(BROUGHT.to_owned()), ..NewUser::default() };
            core.identity.admin(OPERATOR).add_user(bob).await.unwrap();
            let identity = core.identity.clone();
            let set = Arc::new(Mutex::new(None));
            let told = Arc::clone(&set);
            store.after(verb, async move {
                let bob = identity.admin(OPERATOR).set_password("bob", Some(&Secret::new("other"))).await.unwrap();
                *told.lock().unwrap() = bob.password;
            });
            let app = Credential::Client { id: ClientId::parse("app").ok(), secret: None };
            let credential = Credential::Password { name: "bob".to_owned(), password: Secret::new("password") };
            let request = GrantRequest { scope: ScopeRequest::Nothing, role: None, binding, spelling: None };
            let result = core.request(vec![app], Verb::Authenticate { provider: None, credential, request }).await;
            assert!(result.is_err(), "{verb}: {result:?}");
            assert!(store.has_happened());
            let kept = core.identity.admin(OPERATOR).user("bob").await.unwrap().password;
            assert_eq!(kept, set.lock().unwrap().clone(), "{verb}");
        }
    }
}

#[tokio::test]
async fn who_shows_a_cookie_again_asks_nothing_of_the_store_but_the_feed() {
    let store = Arc::new(Interrupted::default());
    let core = Core::with_ann(&store).await;
    let granted = core.sign_in(Binding::Cookie { remember: true }).await.unwrap();
    let asked = store.asked.load(Ordering::Relaxed);
    for _ in 0..100 {
        let cookie = Credential::Cookie(granted.tokens[0].secret.clone());
        core.request(vec![cookie], Verb::WhoAmI).await.expect("signed in");
    }
    // The feed is read where nobody has for a second; here that is the task of whoever asks.
    assert!(store.asked.load(Ordering::Relaxed) - asked <= 5, "{}", store.asked.load(Ordering::Relaxed) - asked);
}

#[tokio::test]
async fn an_api_key_that_was_cancelled_while_it_was_read_stays_cancelled() {
    let store = Arc::new(Interrupted::default());
    let core = Core::with_ann(&store).await;
    let (key, text) = core.identity.admin(OPERATOR).add_api_key("ann", "live", None).await.unwrap();
    let identity = core.identity.clone();
    store.after("api_key", async move {
        identity.admin(OPERATOR).cancel_api_key("ann", &key.prefix).await.unwrap();
    });
    for _ in 0..3 {
        let shown = vec![Credential::ApiKey(text.clone())];
        assert_eq!(core.request(shown, Verb::WhoAmI).await.err(), Some(Refusal::Revoked));
    }
    assert!(store.has_happened());
}

#[tokio::test]
async fn who_shows_an_api_key_again_asks_nothing_of_the_store_but_the_feed() {
    let store = Arc::new(Interrupted::default());
    let core = Core::with_ann(&store).await;
    let (_, text) = core.identity.admin(OPERATOR).add_api_key("ann", "live", None).await.unwrap();
    let show = async || core.request(vec![Credential::ApiKey(text.clone())], Verb::WhoAmI).await;
    show().await.unwrap();
    let asked = store.asked.load(Ordering::Relaxed);
    for _ in 0..100 {
        show().await.unwrap();
    }
    assert!(store.asked.load(Ordering::Relaxed) - asked <= 5, "{}", store.asked.load(Ordering::Relaxed) - asked);
}

/// How a gate of plain requests writes its tokens here.
fn web(token: &NewToken<'_>) -> Spelled {
    let (typ, principal, number, issued_at, expires_at) = match token {
        NewToken::Restore { random } | NewToken::Cookie { random } => return Spelled::Text(Secret::new(random.as_slice())),
        NewToken::Upstream { .. } | NewToken::Terminal(_) => return Spelled::Never,
        NewToken::Access { principal, number, issued_at, expires_at, .. } => ("JWT", principal, number, issued_at, expires_at),
        NewToken::Refresh { principal, number, issued_at, expires_at, .. } => ("JWTR", principal, number, issued_at, expires_at),
    };
    let seconds = |at: &Timestamp| at.millis() / 1000;
    let subject = &principal.account.as_ref().unwrap().subject;
    let claims = serde_json::json!({ "sub": subject, "iat": seconds(issued_at), "exp": seconds(expires_at), "jti": number });
    Spelled::Signed { typ, claims: claims.to_string().into_bytes() }
}

impl Core {
    async fn access_token(&self) -> Credential {
        let granted = self.sign_in(Binding::TokenCookies).await.unwrap();
        Credential::Token { any_of: vec![granted.tokens[0].secret.clone()], kind: TokenKind::Access }
    }
}

fn again(shown: &Credential) -> Vec<Credential> {
    let Credential::Token { any_of, kind } = shown else { panic!("{shown:?}") };
    vec![Credential::Token { any_of: any_of.clone(), kind: kind.clone() }]
}

#[tokio::test]
async fn a_token_that_was_revoked_or_cut_off_while_it_was_read_stays_so() {
    for revokes in [true, false] {
        let store = Arc::new(Interrupted::default());
        let core = Core::with_ann(&store).await;
        let token = core.access_token().await;
        let identity = core.identity.clone();
        store.after("account_known_as", async move {
            match revokes {
                true => identity.admin(OPERATOR).revoke_token("1").await.unwrap(),
                false => drop(identity.admin(OPERATOR).end_sessions_of("ann").await.unwrap()),
            }
        });
        for _ in 0..3 {
            assert_eq!(core.request(again(&token), Verb::WhoAmI).await.err(), Some(Refusal::Revoked), "revoked: {revokes}");
        }
        assert!(store.has_happened());
    }
}

#[tokio::test]
async fn a_token_that_was_revoked_while_memory_read_what_was_is_not_good() {
    let store = Arc::new(Interrupted::default());
    let core = Core::with_ann(&store).await;
    let token = core.access_token().await;
    let identity = core.identity.clone();
    store.after("revoked_marks", async move {
        // Its caller is told once memory has followed, which is after this reading.
        tokio::spawn(async move { identity.admin(OPERATOR).revoke_token("1").await.unwrap() });
        tokio::time::sleep(Duration::from_millis(100)).await;
    });
    for _ in 0..3 {
        assert_eq!(core.request(again(&token), Verb::WhoAmI).await.err(), Some(Refusal::Revoked));
    }
    assert!(store.has_happened());
}

#[tokio::test]
async fn what_a_login_was_decided_by_lets_in_no_token_that_was_signed_before() {
    for disables in [false, true] {
        let store = Arc::new(Interrupted::default());
        let token = Core::with_ann(&store).await.access_token().await;
        // One that knows nothing from memory, so that it has nothing to follow when the account changes.
        let core = Arc::new(Core::on(Arc::clone(&store)).await);
        let seen = Arc::new(Mutex::new(None));
        let (holds, operator, sees) = (Arc::clone(&store), core.identity.clone(), Arc::clone(&seen));
        let (shown, asked) = (again(&token), Arc::downgrade(&core));
        // The operator comes once the account has been read, and the token while nobody has said yet that the login is not to be.
        store.after("account_named", async move {
            match disables {
                true => drop(operator.admin(OPERATOR).set_user_status("ann", Status::Disabled).await.unwrap()),
                false => drop(operator.admin(OPERATOR).end_sessions_of("ann").await.unwrap()),
            }
            holds.after("start_session", async move {
                let refused = asked.upgrade().unwrap().request(shown, Verb::WhoAmI).await.err();
                *sees.lock().unwrap() = Some(refused);
            });
        });
        let login = core.sign_in(Binding::Cookie { remember: false }).await;
        assert_eq!(login.err(), Some(Refusal::Unavailable), "disabled: {disables}");
        assert!(store.has_happened());
        assert_eq!(seen.lock().unwrap().take(), Some(Some(Refusal::Revoked)), "disabled: {disables}");
        assert_eq!(core.request(again(&token), Verb::WhoAmI).await.err(), Some(Refusal::Revoked), "disabled: {disables}");
    }
}

#[tokio::test]
async fn a_token_at_first_sight_asks_nothing_of_the_store_where_its_account_is_known() {
    let store = Arc::new(Interrupted::default());
    let core = Core::with_ann(&store).await;
    let mut tokens = Vec::new();
    for _ in 0..50 {
        tokens.push(core.access_token().await);
    }
    let last = tokens.pop().unwrap();
    core.request(again(&tokens[0]), Verb::WhoAmI).await.unwrap();
    let asked = store.asked.load(Ordering::Relaxed);
    for token in &tokens[1..] {
        core.request(again(token), Verb::WhoAmI).await.unwrap();
    }
    assert!(store.asked.load(Ordering::Relaxed) - asked <= 5, "{}", store.asked.load(Ordering::Relaxed) - asked);
    // Access tokens have the odd numbers, since each was told with a refresh token.
    core.identity.admin(OPERATOR).revoke_token("99").await.unwrap();
    assert_eq!(core.request(again(&last), Verb::WhoAmI).await.err(), Some(Refusal::Revoked));
}

#[tokio::test]
async fn a_token_whose_key_was_retired_while_it_was_read_is_not_good() {
    let store = Arc::new(Interrupted::default());
    let core = Core::with_ann(&store).await;
    let token = core.access_token().await;
    let identity = core.identity.clone();
    store.after("account_known_as", async move {
        let admin = identity.admin(OPERATOR);
        let key = admin.keys().await.unwrap().pop().unwrap().number;
        admin.retire_key(key, true).await.unwrap();
    });
    for _ in 0..2 {
        assert_eq!(core.request(again(&token), Verb::WhoAmI).await.err(), Some(Refusal::InvalidCredentials));
    }
    assert!(store.has_happened());
}

#[tokio::test]
async fn no_token_is_signed_for_what_was_proved_before_a_cut_off() {
    let (password, session_end) = ("password", "session end");
    // The verb after which the account is cut off is the last one that is asked before the account is read to be signed for.
    for (shown, verb) in [("login", "account"), ("basic", "account"), ("token", "account_known_as"), ("cookie", "session_by_token")]
    {
        for ending in [password, session_end] {
            let store = Arc::new(Interrupted::default());
            let core = Core::with_ann(&store).await;
            let pair = core.sign_in(Binding::TokenCookies).await.unwrap();
            let cookie = core.sign_in(Binding::Cookie { remember: false }).await.unwrap().tokens[0].secret.clone();
            // A second core knows nothing from memory, so that the proof is read, and it does not follow what the first one does.
            let other = Core::on(Arc::clone(&store)).await;
            let identity = core.identity.clone();
            store.after(verb, async move {
                let admin = identity.admin(OPERATOR);
                match ending == password {
                    true => drop(admin.set_password("ann", Some(&Secret::new("other"))).await.unwrap()),
                    false => drop(admin.end_sessions_of("ann").await.unwrap()),
                }
            });
            let word = || Credential::Password { name: "ann".to_owned(), password: Secret::new("pw") };
            let through = || Credential::Client { id: ClientId::parse("app").ok(), secret: None };
            let presented = match shown {
                "basic" => vec![through(), word()],
                "token" => vec![Credential::Refresh(pair.tokens[1].secret.clone())],
                _ => vec![Credential::Cookie(cookie)],
            };
            let request = GrantRequest { scope: ScopeRequest::Nothing, role: None, binding: Binding::Request, spelling: None };
            let issued = match shown {
                "login" => other.sign_in(Binding::TokenCookies).await,
                _ => other.request(presented, Verb::Issue { kinds: vec![TokenKind::Access], request }).await,
            };
            assert!(store.has_happened(), "{shown}, {ending}");
            let Ok(granted) = issued else { continue };
            let token = Credential::Token { any_of: vec![granted.tokens[0].secret.clone()], kind: TokenKind::Access };
            let good = other.request(vec![token], Verb::WhoAmI).await.map(|_| ());
            assert_eq!(good, Err(Refusal::Revoked), "{shown}, {ending}");
        }
    }
}

#[tokio::test]
async fn a_token_signed_while_its_account_was_cut_off_is_not_good() {
    let store = Arc::new(Interrupted::default());
    let core = Core::with_ann(&store).await;
    let identity = core.identity.clone();
    // A number is the last thing that is asked for before it is signed.
    store.after("reserve", async move {
        identity.admin(OPERATOR).end_sessions_of("ann").await.unwrap();
    });
    let app = Credential::Client { id: ClientId::parse("app").ok(), secret: None };
    let shown = vec![app, Credential::Password { name: "ann".to_owned(), password: Secret::new("pw") }];
    let request = GrantRequest { scope: ScopeRequest::Nothing, role: None, binding: Binding::Request, spelling: None };
    let granted = core.request(shown, Verb::Issue { kinds: vec![TokenKind::Access], request }).await.unwrap();
    assert!(store.has_happened());
    let token = Credential::Token { any_of: vec![granted.tokens[0].secret.clone()], kind: TokenKind::Access };
    assert_eq!(core.request(vec![token], Verb::WhoAmI).await.err(), Some(Refusal::Revoked));
}

#[tokio::test]
async fn a_token_dated_before_its_account_was_read_is_not_good_after_a_cut_off_meanwhile() {
    let store = Arc::new(Interrupted::default());
    let core = Core::with_ann(&store).await;
    let pair = core.sign_in(Binding::TokenCookies).await.unwrap();
    let refresh = || vec![Credential::Refresh(pair.tokens[1].secret.clone())];
    core.request(refresh(), Verb::WhoAmI).await.unwrap();
    let identity = core.identity.clone();
    // The account was read to be signed for, and it takes a while until that is heard of.
    store.after("account", async move {
        identity.admin(OPERATOR).end_sessions_of("ann").await.unwrap();
        tokio::time::sleep(Duration::from_millis(2100)).await;
    });
    let request = GrantRequest { scope: ScopeRequest::Nothing, role: None, binding: Binding::Request, spelling: None };
    let granted = core.request(refresh(), Verb::Issue { kinds: vec![TokenKind::Access], request }).await.unwrap();
    assert!(store.has_happened());
    let token = Credential::Token { any_of: vec![granted.tokens[0].secret.clone()], kind: TokenKind::Access };
    assert_eq!(core.request(vec![token], Verb::WhoAmI).await.err(), Some(Refusal::Revoked));
}

#[tokio::test]
async fn a_token_through_a_client_that_was_disabled_while_it_was_read_is_not_good() {
    let store = Arc::new(Interrupted::default());
    let core = Core::with_ann(&store).await;
    let token = core.access_token().await;
    let shown = || {
        let app = Credential::Client { id: ClientId::parse("app").ok(), secret: None };
        [vec![app], again(&token)].into_iter().flatten().collect::<Vec<_>>()
    };
    let identity = core.identity.clone();
    store.after("client", async move {
        identity.admin(OPERATOR).set_client_status("app", Status::Disabled).await.unwrap();
    });
    for _ in 0..3 {
        assert_eq!(core.request(shown(), Verb::WhoAmI).await.err(), Some(Refusal::InvalidClient));
    }
    assert!(store.has_happened());
    let identity = core.identity.clone();
    identity.admin(OPERATOR).set_client_status("app", Status::Active).await.unwrap();
    core.request(shown(), Verb::WhoAmI).await.unwrap();
    let asked = store.asked.load(Ordering::Relaxed);
    for _ in 0..100 {
        core.request(shown(), Verb::WhoAmI).await.unwrap();
    }
    assert!(store.asked.load(Ordering::Relaxed) - asked <= 5, "{}", store.asked.load(Ordering::Relaxed) - asked);
}

#[tokio::test]
async fn texts_that_are_no_keys_ask_nothing_of_the_store_and_a_key_is_good_as_soon_as_it_is_made() {
    let store = Arc::new(Interrupted::default());
    let core = Core::with_ann(&store).await;
    let shown = |text: &Secret| vec![Credential::ApiKey(text.clone())];
    let (_, first) = core.identity.admin(OPERATOR).add_api_key("ann", "live", None).await.unwrap();
    // One more is made while memory reads which there are.
    let (made, identity) = (Arc::new(Mutex::new(None)), core.identity.clone());
    let told = Arc::clone(&made);
    store.after("api_key_marks", async move {
        tokio::spawn(async move {
            let (_, text) = identity.admin(OPERATOR).add_api_key("ann", "test", None).await.unwrap();
            *told.lock().unwrap() = Some(text);
        });
        tokio::time::sleep(Duration::from_millis(100)).await;
    });
    core.request(shown(&first), Verb::WhoAmI).await.unwrap();
    assert!(store.has_happened());
    let asked = store.asked.load(Ordering::Relaxed);
    for number in 0..90 {
        let refused = core.request(shown(&Secret::new(format!("guess {number}"))), Verb::WhoAmI).await.err();
        assert_eq!(refused, Some(Refusal::InvalidCredentials));
    }
    assert!(store.asked.load(Ordering::Relaxed) - asked <= 5, "{}", store.asked.load(Ordering::Relaxed) - asked);
    while made.lock().unwrap().is_none() {
        tokio::task::yield_now().await;
    }
    let second = made.lock().unwrap().take().unwrap();
    core.request(shown(&second), Verb::WhoAmI).await.unwrap();
    for _ in 0..10 {
        let (key, text) = core.identity.admin(OPERATOR).add_api_key("ann", "live", None).await.unwrap();
        core.request(shown(&text), Verb::WhoAmI).await.unwrap();
        core.identity.admin(OPERATOR).cancel_api_key("ann", &key.prefix).await.unwrap();
        assert_eq!(core.request(shown(&text), Verb::WhoAmI).await.err(), Some(Refusal::Revoked));
    }
}

#[tokio::test]
async fn rights_are_given_although_somebody_else_changed_the_account_meanwhile() {
    let store = Arc::new(Interrupted::default());
    let core = Core::with_ann(&store).await;
    store.after("account_named", core.set_ann(UserChange { roles: Some(vec!["Other".to_owned()]), ..UserChange::default() }));
    let add = Rights::parse(vec!["Admin".to_owned()], Vec::new()).unwrap();
    let ann = core.identity.admin(OPERATOR).change_rights("ann", &add, &Rights::default()).await.expect("given");
    assert!(store.has_happened());
    assert_eq!(ann.rights.roles.len(), 2, "and nothing of the other change is lost: {:?}", ann.rights);
}

#[tokio::test]
async fn who_shows_an_access_token_again_asks_nothing_of_the_store_but_the_feed() {
    let store = Arc::new(Interrupted::default());
    let core = Core::with_ann(&store).await;
    let token = core.access_token().await;
    core.request(again(&token), Verb::WhoAmI).await.unwrap();
    let asked = store.asked.load(Ordering::Relaxed);
    for _ in 0..100 {
        core.request(again(&token), Verb::WhoAmI).await.unwrap();
    }
    assert!(store.asked.load(Ordering::Relaxed) - asked <= 5, "{}", store.asked.load(Ordering::Relaxed) - asked);
}

#[tokio::test]
async fn a_good_token_is_good_although_its_account_changed_while_it_was_read() {
    let store = Arc::new(Interrupted::default());
    let token = Core::with_ann(&store).await.log_in(1).await.unwrap().token();
    let core = Core::on(Arc::clone(&store)).await;
    store.after("account", core.set_ann(UserChange { display_name: Some(Some("Ann".to_owned())), ..only_a() }));
    let peer = core.present(&token, 1).await.expect("good");
    assert!(store.has_happened());
    assert_eq!(peer.scopes(), "[a]");
    core.present(&peer.token(), 1).await.expect("and good again");
}

#[tokio::test]
async fn a_session_that_ended_while_it_was_read_is_ended() {
    let store = Arc::new(Interrupted::default());
    let first = Core::with_ann(&store).await;
    let peer = first.log_in(1).await.unwrap();
    let (token, session) = (peer.token(), peer.granted.principal.session.unwrap());
    // Without a token to roll nothing would be written, so nothing but memory stands between the token and its session.
    let untold = ClientChange { receives_token: Some(false), ..ClientChange::default() };
    first.identity.admin(OPERATOR).set_client("app", untold).await.unwrap();
    let core = Core::on(Arc::clone(&store)).await;
    store.after("session_by_token", core.end_session(session));
    for connection in 2..5 {
        assert_eq!(core.present(&token, connection).await.err(), Some(Refusal::InvalidCredentials), "{connection}");
    }
    assert!(store.has_happened());
}

#[tokio::test]
async fn a_branch_that_ended_while_a_token_of_it_was_rolled_is_not_granted() {
    let store = Arc::new(Interrupted::default());
    let core = Core::with_ann(&store).await;
    let root = core.log_in(1).await.unwrap().token();
    let grown = core.present(&root, 2).await.unwrap().token();
    let (other, identity) = (Arc::clone(&store), core.identity.clone());
    store.after("roll", async move {
        // As another node would: the branch is ended in the store, and this one follows at its next change.
        let audit = AuditEntry::new(system_now(), "reuse", "zenith");
        other.store.end_descendants(gatepost_identity::token::hash(&Secret::new(root)), audit).await.unwrap();
        identity.admin(OPERATOR).set_client("app", ClientChange::default()).await.unwrap();
    });
    assert_eq!(core.present(&grown, 3).await.err(), Some(Refusal::Revoked));
    assert!(store.has_happened());
}

#[tokio::test]
async fn a_token_for_a_service_asks_nothing_of_the_store_however_long_ago_it_was_read() {
    let store = Arc::new(Interrupted::default());
    let core = Core::with_ann(&store).await;
    let peer = core.log_in(1).await.unwrap();
    // Longer than memory is trusted where a proof is looked up.
    tokio::time::sleep(Duration::from_millis(1100)).await;
    let asked = store.asked.load(Ordering::Relaxed);
    let command = Command {
        presented: Vec::new(),
        verb: Verb::Issue { kinds: vec![TokenKind::Upstream { audience: "svc".to_owned() }], request: about_the_connection() },
    };
    let at = Peer { address: "192.0.2.1".parse().unwrap(), secure: true };
    let deadline = system_instant() + Duration::from_secs(20);
    let context = Context { gate: "zenith", peer: at, terminal: None, connection: Some(ConnectionId(1)), deadline };
    let granted = core.identity.handle(command, &context).await.reply.result.and_then(Answer::granted).unwrap();
    assert_eq!(granted.principal, peer.granted.principal);
    assert_eq!(store.asked.load(Ordering::Relaxed), asked);
    core.present(&peer.token(), 2).await.unwrap();
    assert!(store.asked.load(Ordering::Relaxed) > asked, "and a proof does");
}

/// As a driver asks about whoever a connection holds: nothing is begun.
fn about_the_connection() -> GrantRequest {
    GrantRequest { scope: ScopeRequest::Maximum, role: None, binding: Binding::Connection, spelling: None }
}
