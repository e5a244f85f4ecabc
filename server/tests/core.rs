//! The identity core on a real store, asked as a driver asks it, with a clock that the test turns.
//!
//! What a peer sees is tested through the real binary; here stands what needs a clock, a store that stalls, or a look at the
//! attachment.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends there, in its helpers too")]

use std::future::Future;
use std::net::IpAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use gatepost_identity::account::{ClientId, Status};
use gatepost_identity::admin::{Admin, ClientSecret, LONGEST_GRANT, NewClient, NewGrant, NewUser, Operator, UserChange};
use gatepost_identity::clock::{Clock, SystemEntropy, Timestamp, system_instant, system_now};
use gatepost_identity::command::{Binding, Command, ConnectionId, Context, GrantRequest, Peer, ProviderName, Verb};
use gatepost_identity::credential::Credential;
use gatepost_identity::jwt::Issuer;
use gatepost_identity::live::Attachment;
use gatepost_identity::password::PasswordSettings;
use gatepost_identity::provider::{Provider, ProviderKind};
use gatepost_identity::refusal::Refusal;
use gatepost_identity::reply::{Answer, Event, Granted, Outcome, Reason};
use gatepost_identity::scope::{Scope, ScopeDefinition, ScopeRequest};
use gatepost_identity::secret::Secret;
use gatepost_identity::store::{OneNode, Store};
use gatepost_identity::{Identity, Settings, World};
use gatepost_store::{Memory, Sqlite, Worker};

/// A clock that stands until it is turned. Its timers follow it.
struct Turned {
    began: (Timestamp, Instant),
    by: tokio::sync::watch::Sender<Duration>,
}

impl Turned {
    fn new() -> Arc<Turned> {
        Arc::new(Turned { began: (system_now(), system_instant()), by: tokio::sync::watch::channel(Duration::ZERO).0 })
    }

    fn turn(&self, by: Duration) {
        self.by.send_modify(|turned| *turned += by);
    }
}

impl Clock for Turned {
    fn now(&self) -> Timestamp {
        self.began.0.after(*self.by.borrow())
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
        let clock = Turned::new();
        let scope = |name: &str, secure_only| ScopeDefinition { scope: Scope::parse(name).unwrap(), secure_only };
        let mut settings = Settings {
            passwords: PasswordSettings { memory: 64, iterations: 1, lanes: 1, max_wait: Duration::from_secs(60) },
            providers: vec![Provider { name: "local".to_owned(), kind: ProviderKind::Local, aliases: vec!["Paritech".to_owned()] }],
            scopes: vec![scope("m", false), scope("t", true)],
            ..Settings::default()
        };
        change(&mut settings);
        let world = World { store, shared: Arc::new(OneNode::default()), clock: clock.clone(), entropy: Arc::new(SystemEntropy) };
        let identity = Identity::open(world, settings, Vec::new()).await.unwrap();
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
        Context { gate: "zenith", peer, connection: Some(connection), deadline }
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
        let credential = Credential::Token { any_of: vec![Secret::new(token)] };
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
        let Command { presented, verb: Verb::Authenticate { provider, credential, request } } =
            command(vec![client], Credential::Code { code: Secret::new(code) }, provider);
        let verb = Verb::Authenticate { provider, credential, request: GrantRequest { scope, ..request } };
        let outcome = self.identity.handle(Command { presented, verb }, &context).await;
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
        let Answer::Granted(granted) = outcome.reply.result.expect("granted");
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
    let request = GrantRequest { scope: ScopeRequest::Maximum, binding: Binding::Connection, spelling: None };
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

#[tokio::test]
async fn a_client_that_keeps_its_first_token_goes_on_working() {
    let core = Core::with(|_| ()).await;
    let first = core.log_in().await.token();
    for day in 0..29 {
        let again = core.present(&first).await.unwrap_or_else(|refusal| panic!("day {day}: {refusal:?}"));
        assert_ne!(again.token(), first);
        core.clock.turn(DAY);
    }
    core.clock.turn(DAY);
    assert_eq!(core.present(&first).await.err(), Some(Refusal::Expired), "thirty days after it was issued");
}

#[tokio::test]
async fn a_token_stays_good_for_the_overlap_after_its_successor_was_presented_and_siblings_do_not_matter() {
    let core = Core::with(|_| ()).await;
    let first = core.log_in().await.token();
    let (one, other) = (core.present(&first).await.unwrap().token(), core.present(&first).await.unwrap().token());
    core.clock.turn(DAY);
    let grown = core.present(&one).await.unwrap().token();
    core.clock.turn(MINUTE);
    core.present(&first).await.expect("within the overlap");
    core.clock.turn(Duration::from_millis(1));
    core.present(&other).await.expect("a sibling of the one presented stands");
    core.present(&grown).await.expect("the branch goes on");
}

#[tokio::test]
async fn a_superseded_token_that_comes_back_ends_what_grew_from_it() {
    let core = Core::with(|_| ()).await;
    let first = core.log_in().await.token();
    let second = core.present(&first).await.unwrap().token();
    let third = core.present(&second).await.unwrap();
    core.clock.turn(MINUTE + Duration::from_millis(1));
    assert_eq!(core.present(&first).await.err(), Some(Refusal::Revoked));
    assert_eq!(third.event(), Some(Event::Detached(Reason::Revoked)), "the connection that holds such a token is told");
    for token in [&second, &third.token()] {
        assert_eq!(core.present(token).await.err(), Some(Refusal::InvalidCredentials), "gone");
    }
    assert_eq!(core.present(&first).await.err(), Some(Refusal::Revoked), "and it stays refused");
}

#[tokio::test]
async fn where_reuse_is_only_refused_the_branch_goes_on() {
    let core = Core::with(|settings| settings.sessions.on_reuse = gatepost_identity::session::OnReuse::Refuse).await;
    let first = core.log_in().await.token();
    let second = core.present(&first).await.unwrap().token();
    let third = core.present(&second).await.unwrap();
    core.clock.turn(MINUTE + Duration::from_millis(1));
    assert_eq!(core.present(&first).await.err(), Some(Refusal::Revoked));
    assert_eq!(third.event(), None);
    core.present(&third.token()).await.expect("its branch stands");
}

#[tokio::test]
async fn a_connection_that_is_told_a_new_token_gives_up_the_one_it_never_presented() {
    let core = Core::with(|_| ()).await;
    let first = core.log_in().await.token();
    let connection = core.connection();
    let told = core.present_on(&first, connection).await.unwrap();
    let told_again = core.present_on(&first, connection).await.unwrap();
    assert_eq!(core.present(&told.token()).await.err(), Some(Refusal::InvalidCredentials));
    core.present(&told_again.token()).await.expect("the newer one stands");
}

#[tokio::test]
async fn past_sixty_four_unpresented_tokens_the_oldest_whose_connection_is_gone_goes() {
    let core = Core::with(|_| ()).await;
    let first = core.log_in().await.token();
    let held = core.present(&first).await.unwrap();
    let mut dropped = Vec::new();
    for _ in 0..64 {
        core.clock.turn(Duration::from_millis(1));
        dropped.push(core.present(&first).await.unwrap().token());
    }
    assert_eq!(core.present(&dropped[0]).await.err(), Some(Refusal::InvalidCredentials), "the oldest is gone");
    core.present(&dropped[63]).await.expect("the newest stands");
    core.present(&held.token()).await.expect("what a connection holds stands, old as it is");
}

#[tokio::test]
async fn a_connection_ends_half_an_hour_after_it_last_proved_itself() {
    let core = Core::with(|_| ()).await;
    let connection = core.connection();
    let peer = core.log_in_on(connection).await;
    core.clock.turn(29 * MINUTE);
    let again = core.present_on(&peer.token(), connection).await.unwrap();
    core.clock.turn(2 * MINUTE);
    core.until("time passes", || async {
        core.clock.now() > again.granted.principal.expires_at.unwrap().after(MINUTE) || again.event().is_none()
    })
    .await;
    assert_eq!(again.event(), None, "the second proof counts");
    core.clock.turn(28 * MINUTE);
    core.until("the end is told", || async { again.event() == Some(Event::Detached(Reason::Expired)) }).await;
    core.present_on(&again.token(), connection).await.expect("the session lives on");
}

#[tokio::test]
async fn an_account_that_ends_takes_its_connections_along() {
    let core = Core::with(|_| ()).await;
    let ends = core.clock.now().after(MINUTE);
    core.admin().set_user("ann", UserChange { expires_at: Some(Some(ends)), ..UserChange::default() }).await.unwrap();
    let peer = core.log_in().await;
    assert_eq!(peer.granted.principal.expires_at, Some(ends));
    core.clock.turn(MINUTE);
    assert_eq!(core.present(&peer.token()).await.err(), Some(Refusal::AccountUnavailable));
    assert_eq!(core.guess("ann", "pw", "192.0.2.1").await, Err(Refusal::AccountUnavailable));
    assert_eq!(
        core.guess("ann", "no", "192.0.2.1").await,
        Err(Refusal::InvalidCredentials),
        "only the right secret is told the cause"
    );
}

#[tokio::test]
async fn a_session_that_nobody_used_for_ninety_days_is_over() {
    let core = Core::with(|settings| settings.sessions.token_life = 365 * DAY).await;
    let first = core.log_in().await.token();
    core.clock.turn(89 * DAY);
    let second = core.present(&first).await.unwrap().token();
    core.clock.turn(89 * DAY);
    let third = core.present(&second).await.expect("its last use counts").token();
    core.clock.turn(90 * DAY);
    let refused = core.present(&third).await.err();
    assert!(matches!(refused, Some(Refusal::Expired | Refusal::InvalidCredentials)), "{refused:?}");
    core.until("the session is ended", || async { core.sessions().await == 0 }).await;
}

#[tokio::test]
async fn tokens_are_good_at_their_own_gate_and_provider_only() {
    let core = Core::with(|settings| {
        settings.providers.push(Provider { name: "other".to_owned(), kind: ProviderKind::Local, aliases: Vec::new() });
    })
    .await;
    let token = core.log_in().await.token();
    let context = core.context(core.connection(), "192.0.2.1");
    let shown = |provider: &'static str, gate: &'static str| {
        let command = command(Vec::new(), Credential::Token { any_of: vec![Secret::new(token.clone())] }, provider);
        let context = Context { gate, ..context.clone() };
        let identity = core.identity.clone();
        async move { identity.handle(command, &context).await.reply.result.map(|_| ()) }
    };
    assert_eq!(shown("LOCAL", "zenith").await, Ok(()));
    assert_eq!(shown("other", "zenith").await, Err(Refusal::InvalidCredentials));
    assert_eq!(shown("Bearer", "zenith").await, Err(Refusal::UnknownProvider));
    assert_eq!(shown("local", "elsewhere").await, Err(Refusal::InvalidCredentials));
}

#[tokio::test]
async fn what_is_taken_from_an_account_is_taken_from_its_connections() {
    let core = Core::with(|_| ()).await;
    let peer = core.log_in().await;
    let change =
        |scopes: &[&str]| UserChange { scopes: Some(scopes.iter().map(|&s| s.to_owned()).collect()), ..UserChange::default() };
    core.admin().set_user("ann", change(&["m"])).await.unwrap();
    let Some(Event::Changed(principal)) = peer.event() else { panic!("the connection is told") };
    assert_eq!(format!("{:?}", principal.scopes), "[m]");
    core.admin().set_user("ann", change(&["t"])).await.unwrap();
    core.admin().set_user("ann", change(&[])).await.unwrap();
    let Some(Event::Changed(principal)) = peer.event() else { panic!("the connection is told the last word") };
    assert!(principal.scopes.is_empty());
    core.admin().set_user_status("ann", Status::Disabled).await.unwrap();
    assert_eq!(peer.event(), Some(Event::Detached(Reason::Revoked)));
    core.admin().set_user_status("ann", Status::Active).await.unwrap();
    assert_eq!(core.present(&peer.token()).await.err(), Some(Refusal::InvalidCredentials), "its sessions are ended for good");
}

#[tokio::test]
async fn names_addresses_and_spellings_of_one_account_share_its_budget() {
    let core = Core::with(|_| ()).await;
    for (n, name) in ["ann", "ANN", "Ann", "ann@example.org", "ANN@example.ORG"].into_iter().enumerate() {
        assert_eq!(core.guess(name, "no", &format!("198.51.100.{n}")).await, Err(Refusal::InvalidCredentials), "{name}");
    }
    for name in ["ann", "aNN", "ann@example.org"] {
        let refused = core.guess(name, "pw", "198.51.100.9").await;
        assert!(matches!(refused, Err(Refusal::TooManyAttempts { .. })), "{name}: {refused:?}");
    }
    let evaluated = core.identity.evaluated();
    let _ = core.guess("ann", "pw", "198.51.100.9").await;
    assert_eq!(core.identity.evaluated(), evaluated, "nothing is compared while it is too soon");
    core.admin().unlock_user("ann").await.unwrap();
    assert_eq!(core.guess("ann", "pw", "198.51.100.9").await, Ok(()));
}

#[tokio::test]
async fn strangers_cannot_lock_out_the_owner_of_an_account() {
    let core = Core::with(|_| ()).await;
    assert_eq!(core.guess("ann", "pw", "192.0.2.1").await, Ok(()));
    for n in 0..20 {
        let _ = core.guess("ann", "no", &format!("198.51.100.{n}")).await;
    }
    assert!(matches!(core.guess("ann", "pw", "203.0.113.1").await, Err(Refusal::TooManyAttempts { .. })));
    assert_eq!(core.guess("ann", "pw", "192.0.2.1").await, Ok(()), "she has logged in from here before");
    for _ in 0..5 {
        assert_eq!(core.guess("ann", "no", "192.0.2.1").await, Err(Refusal::InvalidCredentials));
    }
    assert!(matches!(core.guess("ann", "pw", "192.0.2.1").await, Err(Refusal::TooManyAttempts { .. })), "with a budget of her own");
}

#[tokio::test]
async fn unknown_and_known_names_are_refused_alike_and_cost_one_evaluation() {
    let core = Core::with(|_| ()).await;
    core.admin().add_user(NewUser { name: "nopassword".to_owned(), ..NewUser::default() }).await.unwrap();
    for name in ["ann", "nobody", "nopassword"] {
        let before = core.identity.evaluated();
        let mut seen = Vec::new();
        for n in 0..7 {
            seen.push(core.guess(name, "no", &format!("203.0.113.{n}")).await.unwrap_err());
        }
        assert!(seen[..5].iter().all(|refusal| *refusal == Refusal::InvalidCredentials), "{name}: {seen:?}");
        assert!(seen[5..].iter().all(|refusal| matches!(refusal, Refusal::TooManyAttempts { .. })), "{name}: {seen:?}");
        assert_eq!(core.identity.evaluated(), before + 5, "{name}");
    }
}

#[tokio::test]
async fn thirty_good_logins_in_a_row_from_one_source_are_not_slowed() {
    let core = Core::with(|_| ()).await;
    for _ in 0..30 {
        assert_eq!(core.guess("ann", "pw", "192.0.2.1").await, Ok(()));
    }
}

#[tokio::test]
async fn a_client_is_charged_for_its_own_secret_only() {
    let core = Core::with(|_| ()).await;
    let attempt = |secret: Option<&'static str>, word: &'static str, source: &'static str| {
        let client = Credential::Client { id: Some(ClientId::parse("svc").unwrap()), secret: secret.map(Secret::new) };
        let context = core.context(core.connection(), source);
        let identity = core.identity.clone();
        async move {
            let Outcome { reply, held, .. } =
                identity.handle(command(vec![client], password("ann", word), "local"), &context).await;
            held.release();
            reply.result.map(|_| ())
        }
    };
    assert_eq!(attempt(Some("s3"), "pw", "192.0.2.1").await, Ok(()));
    assert_eq!(attempt(None, "pw", "192.0.2.2").await, Err(Refusal::InvalidClient));
    for source in ["192.0.2.3", "192.0.2.4", "192.0.2.5", "192.0.2.6"] {
        assert_eq!(attempt(Some("s3"), "no", source).await, Err(Refusal::InvalidCredentials), "the password is not the client's");
    }
    for source in ["192.0.2.7", "192.0.2.8", "192.0.2.9", "192.0.2.10", "192.0.2.11"] {
        assert_eq!(attempt(Some("x"), "pw", source).await, Err(Refusal::InvalidClient));
    }
    assert!(matches!(attempt(Some("s3"), "pw", "192.0.2.12").await, Err(Refusal::TooManyAttempts { .. })));
}

#[tokio::test]
async fn a_service_speaks_for_itself_with_its_secret_and_a_public_client_cannot() {
    let core = Core::with(|_| ()).await;
    let attempt = |id: &str, secret: Option<&str>| {
        let credential = Credential::Client { id: Some(ClientId::parse(id).unwrap()), secret: secret.map(Secret::new) };
        let context = core.context(core.connection(), "192.0.2.1");
        let identity = core.identity.clone();
        async move { identity.handle(command(Vec::new(), credential, "local"), &context).await.reply.result }
    };
    let Ok(Answer::Granted(granted)) = attempt("svc", Some("s3")).await else { panic!("granted") };
    assert_eq!((granted.principal.account, granted.principal.client.as_str()), (None, "svc"));
    for (id, secret) in [("svc", Some("x")), ("svc", None), ("app", None), ("app", Some("s3")), ("nobody", Some("s3"))] {
        assert_eq!(attempt(id, secret).await.err(), Some(Refusal::InvalidClient), "{id} {secret:?}");
    }
}

#[tokio::test]
async fn secure_scopes_and_passwords_keep_off_plain_connections() {
    let core = Core::with(|_| ()).await;
    let plain = |address: &str| Context {
        peer: Peer { address: address.parse().unwrap(), secure: false },
        ..core.context(core.connection(), "192.0.2.1")
    };
    let outcome = core.ask(password("ann", "pw"), &plain("192.0.2.1")).await;
    assert_eq!(outcome.reply.result.err(), Some(Refusal::InsecureTransport));
    let Ok(Answer::Granted(granted)) = core.ask(password("ann", "pw"), &plain("127.0.0.1")).await.reply.result else {
        panic!("nobody listens on loopback")
    };
    assert_eq!(format!("{:?}", granted.principal.scopes), "[m]");
}

#[tokio::test]
async fn a_grant_that_nobody_was_told_is_taken_back() {
    let core = Core::with(|_| ()).await;
    let context = core.context(core.connection(), "192.0.2.1");
    let outcome = core.ask(password("ann", "pw"), &context).await;
    assert!(outcome.reply.result.is_ok());
    assert_eq!(core.sessions().await, 1);
    drop(outcome);
    core.until("the session is gone", || async { core.sessions().await == 0 }).await;
    let peer = core.log_in().await;
    core.clock.turn(MINUTE);
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert_eq!(core.sessions().await, 1, "what was told stays");
    drop(peer);
}

#[tokio::test]
async fn a_second_login_on_one_connection_takes_the_place_of_the_first() {
    let core = Core::with(|_| ()).await;
    let connection = core.connection();
    let first = core.log_in_on(connection).await;
    let second = core.log_in_on(connection).await;
    core.until("the first session is gone", || async { core.sessions().await == 1 }).await;
    assert_eq!(core.present(&first.token()).await.err(), Some(Refusal::InvalidCredentials));
    assert_eq!(second.event(), None);
    core.present(&second.token()).await.expect("the second stands");
}

#[tokio::test]
async fn past_the_limit_the_oldest_session_is_displaced_after_the_grace() {
    let core = Core::with(|settings| settings.sessions.max_sessions = Some(1)).await;
    let first = core.log_in().await;
    core.clock.turn(Duration::from_millis(1));
    let second = core.log_in().await;
    assert_eq!(first.event(), None, "not before the grace");
    core.clock.turn(Duration::from_secs(4));
    core.until("the first is displaced", || async { first.event() == Some(Event::Detached(Reason::Displaced)) }).await;
    assert_eq!(second.event(), None);
    assert_eq!(core.sessions().await, 1);
}

#[tokio::test]
async fn a_session_holds_no_more_connections_than_it_may() {
    let core = Core::with(|settings| settings.sessions.max_connections = Some(2)).await;
    let first = core.log_in().await;
    let second = core.present(&first.token()).await.unwrap();
    assert_eq!(core.present(&first.token()).await.err(), Some(Refusal::TooManySessions));
    drop(second);
    core.present(&first.token()).await.expect("a connection that is gone does not count");
}

#[tokio::test]
async fn a_grant_lets_its_user_in_once_and_a_second_use_ends_that() {
    let core = Core::with(|_| ()).await;
    let bystander = core.log_in().await;
    let code = core.mint(&[]).await;
    let first = core.redeem(&code).await.expect("it is good");
    assert_eq!(first.granted.principal.account.as_ref().map(|account| account.name.as_str()), Some("ann"));
    assert_eq!(first.scopes(), "[m, t]");
    let restored = core.present(&first.token()).await.expect("its token restores it");
    for _ in 0..3 {
        assert_eq!(core.redeem(&code).await.err(), Some(Refusal::Revoked));
    }
    for peer in [&first, &restored] {
        assert_eq!(peer.event(), Some(Event::Detached(Reason::Revoked)), "told to every connection");
        assert_eq!(core.present(&peer.token()).await.err(), Some(Refusal::InvalidCredentials));
    }
    assert_eq!(core.audited("reuse").await, 1, "it ends once");
    assert_eq!((bystander.event(), core.sessions().await), (None, 1), "her other session stands");
}

#[tokio::test]
async fn a_grant_is_good_for_its_time_and_its_second_use_is_known_long_after() {
    let core = Core::with(|_| ()).await;
    let (used, unused) = (core.mint(&[]).await, core.mint(&[]).await);
    core.clock.turn(LONGEST_GRANT - Duration::from_millis(1));
    let first = core.redeem(&used).await.expect("the last moment");
    core.clock.turn(Duration::from_millis(1));
    assert_eq!(core.redeem(&unused).await.err(), Some(Refusal::InvalidCredentials));
    for _ in 0..3 {
        core.clock.turn(DAY);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let restored = core.present(&first.token()).await.expect("it lives on");
    assert_eq!(core.redeem(&used).await.err(), Some(Refusal::Revoked));
    assert_eq!(restored.event(), Some(Event::Detached(Reason::Revoked)));
    assert_eq!(core.sessions().await, 0);
}

#[tokio::test]
async fn a_grant_is_worth_nothing_to_another_client_or_provider_and_is_not_spent_by_them() {
    let core = Core::with(|settings| {
        settings.providers.push(Provider { name: "other".to_owned(), kind: ProviderKind::Local, aliases: Vec::new() });
    })
    .await;
    let code = core.mint(&[]).await;
    let wrong = async |code: &str| {
        let refused = [
            core.redeem_as(code, |with| with.client = ("svc", Some("s3"))).await.err(),
            core.redeem_as(code, |with| with.provider = "other").await.err(),
            core.redeem(&code.to_uppercase()).await.err(),
        ];
        assert_eq!(refused, [const { Some(Refusal::InvalidCredentials) }; 3]);
        let unproved = [("svc", Some("x")), ("svc", None), ("app", Some("s3")), ("nobody", None)];
        for client in unproved {
            let refused = core.redeem_as(code, |with| with.client = client).await.err();
            assert_eq!(refused, Some(Refusal::InvalidClient), "{client:?}");
        }
        assert_eq!(core.redeem_as(code, |with| with.provider = "nobody").await.err(), Some(Refusal::UnknownProvider));
    };
    wrong(&code).await;
    let first = core.redeem(&code).await.expect("it is as good as before");
    wrong(&code).await;
    assert_eq!(first.event(), None, "nor do they end what it began");
    let new = NewGrant { client: "svc".to_owned(), provider: Some("OTHER".to_owned()), ..new_grant() };
    let (grant, code) = core.admin().mint_grant(new).await.unwrap();
    assert_eq!(grant.provider, "other");
    let at_other = |with: &mut Redeeming| (with.client, with.provider) = (("svc", Some("s3")), "other");
    core.redeem_as(code.expose_text().unwrap(), at_other).await.expect("a confidential client redeems with its secret");
}

#[tokio::test]
async fn a_narrowed_grant_stays_narrow_in_every_restore_and_change() {
    let core = Core::with(|_| ()).await;
    let code = core.mint(&["m"]).await;
    let refused = core.redeem_as(&code, |with| with.scope = named(&["t"])).await;
    assert_eq!(refused.err(), Some(Refusal::ScopeNotGranted));
    let peer = core.redeem(&code).await.expect("what could not be granted has not spent it");
    assert_eq!(peer.scopes(), "[m]", "all there is means all that the grant leaves");
    let restored = core.present(&peer.token()).await.unwrap();
    assert_eq!(restored.scopes(), "[m]");
    let change = UserChange { display_name: Some(Some("Ann".to_owned())), ..UserChange::default() };
    core.admin().set_user("ann", change).await.unwrap();
    let Some(Event::Changed(principal)) = restored.event() else { panic!("the connection is told") };
    assert_eq!(format!("{:?}", principal.scopes), "[m]");
    let narrower = core.redeem_as(&core.mint(&[]).await, |with| with.scope = named(&["t"])).await.unwrap();
    assert_eq!(narrower.scopes(), "[t]");
    let both = core.redeem_as(&core.mint(&["m"]).await, |with| with.scope = named(&["m", "t"])).await.unwrap();
    assert_eq!(both.scopes(), "[m]");
}

#[tokio::test]
async fn a_user_who_may_not_come_in_is_let_in_by_no_grant() {
    let core = Core::with(|_| ()).await;
    let code = core.mint(&[]).await;
    let ends = UserChange { expires_at: Some(Some(core.clock.now())), ..UserChange::default() };
    core.admin().set_user("ann", ends).await.unwrap();
    assert_eq!(core.redeem(&code).await.err(), Some(Refusal::AccountUnavailable));
    core.admin().set_user("ann", UserChange { expires_at: Some(None), ..UserChange::default() }).await.unwrap();
    core.redeem(&code).await.expect("nothing was spent");

    let secret = Secret::new("another");
    let codes = [core.mint(&[]).await, core.mint(&[]).await];
    core.admin().set_user_status("ann", Status::Disabled).await.unwrap();
    assert_eq!(core.redeem(&codes[0]).await.err(), Some(Refusal::InvalidCredentials));
    core.admin().set_user_status("ann", Status::Active).await.unwrap();
    assert_eq!(core.redeem(&codes[0]).await.err(), Some(Refusal::InvalidCredentials), "it went with the sessions");
    assert_eq!(core.redeem(&codes[1]).await.err(), Some(Refusal::InvalidCredentials));
    let code = core.mint(&[]).await;
    core.admin().set_password("ann", Some(&secret)).await.unwrap();
    assert_eq!(core.redeem(&code).await.err(), Some(Refusal::InvalidCredentials), "who knew the old password is out");
    let code = core.mint(&[]).await;
    core.admin().remove_user("ann").await.unwrap();
    assert_eq!(core.redeem(&code).await.err(), Some(Refusal::InvalidCredentials));
    assert_eq!(core.sessions().await, 0);
}

#[tokio::test]
async fn only_what_could_be_redeemed_is_minted() {
    let core = Core::with(|_| ()).await;
    let refused = async |new: NewGrant| core.admin().mint_grant(new).await.err();
    let nobody = || "nobody".to_owned();
    assert_eq!(refused(NewGrant { client: nobody(), ..new_grant() }).await, Some(Refusal::NotFound("client")));
    assert_eq!(refused(NewGrant { user: nobody(), ..new_grant() }).await, Some(Refusal::NotFound("user")));
    assert_eq!(refused(NewGrant { provider: Some(nobody()), ..new_grant() }).await, Some(Refusal::NotFound("provider")));
    for new in [
        NewGrant { scopes: vec![nobody()], ..new_grant() },
        NewGrant { life: Duration::ZERO, ..new_grant() },
        NewGrant { life: LONGEST_GRANT + Duration::from_millis(1), ..new_grant() },
    ] {
        let refused = refused(new).await;
        assert!(matches!(refused, Some(Refusal::Invalid(_))), "{refused:?}");
    }
    assert_eq!(core.audited("grant_mint").await, 0);
    let codes = [core.mint(&[]).await, core.mint(&[]).await];
    assert!(codes[0] != codes[1] && codes[0].len() == 64, "256 bits each");
    assert_eq!(core.audited("grant_mint").await, 2);
}

#[tokio::test]
async fn refused_codes_are_counted_as_what_nobody_guesses() {
    let core = Core::with(|_| ()).await;
    let code = core.mint(&[]).await;
    let from = |source: &'static str| {
        let context = core.context(core.connection(), source);
        move |with: &mut Redeeming| with.context = context
    };
    for _ in 0..100 {
        assert_eq!(core.redeem_as("nobody made it", from("192.0.2.1")).await.err(), Some(Refusal::InvalidCredentials));
    }
    let refused = core.redeem_as(&code, from("192.0.2.1")).await.err();
    assert!(matches!(refused, Some(Refusal::TooManyAttempts { .. })), "{refused:?}");
    assert_eq!(core.guess("ann", "pw", "192.0.2.1").await, Ok(()), "passwords have a budget of their own");
    core.redeem_as(&code, from("192.0.2.2")).await.expect("and so has every source");
    core.clock.turn(Duration::from_secs(1));
    assert_eq!(core.redeem_as(&code, from("192.0.2.1")).await.err(), Some(Refusal::Revoked), "one is forgiven a second");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_hundred_uses_at_once_one_succeeds_and_the_others_end_it() {
    let directory = Directory::new("hundred");
    let (store, writer, mut threads) = directory.open();
    threads.push(std::thread::spawn(|| writer.run()));
    let core = Arc::new(Core::on(store, |_| ()).await);
    core.populate().await;
    for round in 0..5 {
        let code = core.mint(&[]).await;
        let uses: Vec<_> = (0..100)
            .map(|_| {
                let (core, code) = (Arc::clone(&core), code.clone());
                tokio::spawn(async move { core.redeem(&code).await })
            })
            .collect();
        let mut granted = Vec::new();
        for used in uses {
            match used.await.unwrap() {
                Ok(peer) => granted.push(peer),
                Err(refusal) => assert_eq!(refusal, Refusal::Revoked, "round {round}"),
            }
        }
        assert_eq!(granted.len(), 1, "round {round}");
        assert_eq!(granted[0].event(), Some(Event::Detached(Reason::Revoked)));
        assert_eq!(core.sessions().await, 0);
        assert_eq!(core.audited("reuse").await, round + 1);
        // Ninety-nine were counted, and are forgiven one a second.
        core.clock.turn(2 * MINUTE);
    }
}

/// Another issuer, by a shared secret that both know.
struct Elsewhere(jsonwebtoken::EncodingKey);

impl Elsewhere {
    const SECRET: &str = "an issuer's secret of thirty-two bytes or more";

    fn new() -> Elsewhere {
        Elsewhere(jsonwebtoken::EncodingKey::from_secret(Self::SECRET.as_bytes()))
    }

    fn provider() -> Provider {
        // RFC 7517 section 6.4: the secret in base64url.
        let keys = r#"{"keys":[{"kty":"oct","k":"YW4gaXNzdWVyJ3Mgc2VjcmV0IG9mIHRoaXJ0eS10d28gYnl0ZXMgb3IgbW9yZQ"}]}"#;
        let issuer = Issuer::new("https://auth.example.org", vec!["us".to_owned()], keys, &["HS256".to_owned()]).unwrap();
        Provider { name: "Bearer".to_owned(), kind: ProviderKind::Token(vec![issuer]), aliases: Vec::new() }
    }

    /// A token about `subject` that is good for this long from now on.
    fn token(&self, core: &Core, subject: &str, scope: &str, life: Duration) -> Vec<u8> {
        let exp = core.clock.now().after(life).millis() / 1000;
        let claims = serde_json::json!({
            "iss": "https://auth.example.org", "aud": "us", "sub": subject, "name": "Ann Elsewhere", "client_id": "app",
            "scope": scope, "exp": exp,
        });
        jsonwebtoken::encode(&jsonwebtoken::Header::default(), &claims, &self.0).unwrap().into_bytes()
    }
}

impl Core {
    async fn bear_on(&self, token: &[u8], connection: ConnectionId) -> Result<Peering, Refusal> {
        let credential = Credential::Token { any_of: vec![Secret::new(token)] };
        let outcome = self.identity.handle(command(Vec::new(), credential, "bearer"), &self.context(connection, "192.0.2.1")).await;
        match &outcome.reply.result {
            Ok(_) => Ok(Peering::of(outcome)),
            Err(refusal) => Err(refusal.clone()),
        }
    }

    async fn bear(&self, token: &[u8]) -> Result<Peering, Refusal> {
        self.bear_on(token, self.connection()).await
    }
}

#[tokio::test]
async fn a_signed_token_of_another_issuer_begins_a_session_that_ends_with_it() {
    let core = Core::with(|settings| settings.providers.push(Elsewhere::provider())).await;
    let elsewhere = Elsewhere::new();
    let token = elsewhere.token(&core, "u-9", "m profile offline_access", 10 * MINUTE);
    let peer = core.bear(&token).await.unwrap();
    assert_eq!(peer.token(), token, "it is given back as it came");
    let person = peer.granted.principal.account.clone().unwrap();
    assert_eq!((person.subject.as_str(), person.display_name.as_deref()), ("u-9", Some("Ann Elsewhere")));
    assert_eq!(format!("{:?}", peer.granted.principal.scopes), "[m]", "what the catalogue does not know is nobody's");
    let again = core.bear(&token).await.unwrap();
    assert_eq!(again.granted.principal.session, peer.granted.principal.session, "one token, one session");
    let other = core.bear(&elsewhere.token(&core, "u-9", "m", 20 * MINUTE)).await.unwrap();
    assert_ne!(other.granted.principal.session, peer.granted.principal.session);
    core.clock.turn(10 * MINUTE);
    core.until("its end is told", || async { peer.event() == Some(Event::Detached(Reason::Expired)) }).await;
    assert_eq!(core.bear(&token).await.err(), Some(Refusal::Expired));
    assert_eq!(other.event(), None);
}

#[tokio::test]
async fn a_connection_of_a_signed_token_ends_no_later_than_others_do() {
    let core = Core::with(|settings| settings.providers.push(Elsewhere::provider())).await;
    let peer = core.bear(&Elsewhere::new().token(&core, "u-9", "m", DAY)).await.unwrap();
    assert_eq!(peer.granted.principal.expires_at, Some(core.clock.now().after(30 * MINUTE)));
}

#[tokio::test]
async fn an_operator_who_ends_a_borrowed_session_ends_its_token_here() {
    let core = Core::with(|settings| settings.providers.push(Elsewhere::provider())).await;
    let token = Elsewhere::new().token(&core, "u-9", "m", DAY);
    let peer = core.bear(&token).await.unwrap();
    let listed = core.admin().sessions(None, None, 10).await.unwrap();
    assert_eq!((listed.len(), listed[0].user.as_deref(), listed[0].connections), (1, Some("u-9"), 1));
    core.admin().end_session(peer.granted.principal.session).await.unwrap();
    assert_eq!(peer.event(), Some(Event::Detached(Reason::Revoked)));
    assert_eq!(core.bear(&token).await.err(), Some(Refusal::Revoked));
    assert_eq!(core.sessions().await, 0);
    assert_eq!(core.admin().end_session(peer.granted.principal.session).await.err(), Some(Refusal::NotFound("session")));
}

#[tokio::test]
async fn each_kind_of_provider_takes_its_own_proofs_only() {
    let core = Core::with(|settings| settings.providers.push(Elsewhere::provider())).await;
    let ours = core.log_in().await.token();
    assert_eq!(core.bear(&ours).await.err(), Some(Refusal::InvalidCredentials), "our own token at the other provider");
    let theirs = Elsewhere::new().token(&core, "u-9", "m", DAY);
    core.bear(&theirs).await.unwrap();
    assert_eq!(core.present(&theirs).await.err(), Some(Refusal::InvalidCredentials), "their token at ours");
    let context = core.context(core.connection(), "192.0.2.1");
    let client = Credential::Client { id: Some(ClientId::parse("app").unwrap()), secret: None };
    let outcome = core.identity.handle(command(vec![client], password("ann", "pw"), "Bearer"), &context).await;
    assert_eq!(outcome.reply.result.err(), Some(Refusal::UnknownProvider));
}

#[tokio::test]
async fn secure_scopes_of_a_signed_token_keep_off_plain_connections_too() {
    let core = Core::with(|settings| settings.providers.push(Elsewhere::provider())).await;
    let elsewhere = Elsewhere::new();
    let plain = |token: Vec<u8>| {
        let context = core.context(core.connection(), "192.0.2.1");
        let context = Context { peer: Peer { secure: false, ..context.peer }, ..context };
        let identity = core.identity.clone();
        let command = command(Vec::new(), Credential::Token { any_of: vec![Secret::new(token)] }, "Bearer");
        async move { identity.handle(command, &context).await.reply.result.map(|_| ()) }
    };
    assert_eq!(plain(elsewhere.token(&core, "u-9", "t", DAY)).await, Err(Refusal::ScopeNotGranted));
    assert_eq!(plain(elsewhere.token(&core, "u-9", "m t", DAY)).await, Ok(()));
    assert_eq!(plain(elsewhere.token(&core, "u-9", "", DAY)).await, Ok(()), "no rights asked for, none withheld");
}

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

/// A store with the sample accounts and one session, whose first token is returned.
async fn prepared(directory: &Directory) -> Vec<u8> {
    let (store, writer, mut threads) = directory.open();
    threads.push(std::thread::spawn(|| writer.run()));
    let core = Core::on(store, |_| ()).await;
    core.populate().await;
    let token = core.log_in().await.token();
    core.unasked.abort();
    while !core.unasked.is_finished() {
        tokio::task::yield_now().await;
    }
    drop(core);
    for thread in threads {
        thread.join().unwrap();
    }
    token
}

#[tokio::test(flavor = "multi_thread")]
async fn a_grant_that_came_too_late_is_refused_and_does_not_stand() {
    let directory = Directory::new("late");
    prepared(&directory).await;
    let (store, writer, mut threads) = directory.open();
    let core = Core::on(store, |_| ()).await;
    let context = core.context(core.connection(), "192.0.2.1");
    let (identity, asked) = (core.identity.clone(), core.clock.clone());
    let login = tokio::spawn(async move {
        let client = Credential::Client { id: Some(ClientId::parse("app").unwrap()), secret: None };
        identity.handle(command(vec![client], password("ann", "pw"), "local"), &context).await
    });
    // The password is compared; then the commit stands still, since nobody writes.
    while core.identity.evaluated() == 0 {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    asked.turn(Duration::from_secs(36));
    let outcome = login.await.unwrap();
    assert_eq!(outcome.reply.result.err(), Some(Refusal::TimedOut));
    assert!(outcome.attachment.is_none());
    threads.push(std::thread::spawn(|| writer.run()));
    core.until("the late session is ended", || async {
        let lines = core.admin().audit_before(None, 100).await.unwrap();
        lines.iter().any(|line| line.action == "undo")
    })
    .await;
    assert_eq!(core.sessions().await, 1, "only the one from before");
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_store_cannot_write_tokens_are_given_back_and_nobody_new_comes_in() {
    let directory = Directory::new("readonly");
    let token = prepared(&directory).await;
    let (store, writer, _threads) = directory.open();
    let core = Core::on(store, |_| ()).await;
    drop(writer);
    let peer = core.present(&token).await.expect("it is on disk already");
    assert_eq!(peer.token(), token, "given back as it is");
    assert_eq!(core.guess("ann", "pw", "192.0.2.1").await, Err(Refusal::Unavailable), "broken is not wrong");
    core.present(&token).await.expect("as often as need be");
}
