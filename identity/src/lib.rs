//! Who are you, may you, and for how long: the identity core of Gatepost.
//!
//! It decides, and knows no network, no SQL and no wire format. Two doors lead in: [`Identity::handle`] for peers, whose
//! commands the gates have parsed, and [`Identity::admin`] for operators. One thing runs unasked: [`Identity::run`].
//!
//! A login goes `command.rs` -> `credential.rs` (is the secret right? charged by `throttle.rs`, compared by `password.rs`) ->
//! `policy.rs` (may they come in?) -> `scope.rs` (with which rights?) -> `grant.rs` (commit and attach) -> `reply.rs`.

pub mod access;
pub mod account;
pub mod admin;
pub mod api_key;
mod attempt;
pub mod audit;
mod borrow;
mod caller;
pub mod clock;
pub mod command;
pub mod counts;
pub mod credential;
pub mod current;
pub mod family;
pub mod grant;
pub mod jwt;
pub mod keyring;
pub mod live;
pub mod operator_secret;
mod panel;
pub mod password;
pub mod policy;
pub mod provider;
pub mod refusal;
pub mod register;
pub mod reply;
pub mod scope;
pub mod secret;
pub mod session;
pub mod store;
pub mod terminal;
#[cfg(test)]
mod testing;
pub mod throttle;
pub mod token;
mod unasked;

use std::collections::BTreeMap;
use std::future::Future;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Instant;

use crate::access::{AudienceSettings, Behind};
use crate::admin::{Admin, Operator};
use crate::attempt::Attempt;
use crate::audit::Audit;
use crate::clock::{Clock, Entropy, Timestamp, draw};
use crate::command::{Binding, Command, Context, GrantRequest, ProviderName, Verb};
use crate::counts::{Counts, Durations, Way};
use crate::credential::{About, Credential, Proof};
use crate::current::Current;
use crate::grant::Grant;
use crate::keyring::{KeyAlgorithm, Keyring, Purpose};
use crate::live::Live;
use crate::live::served::Served;
use crate::password::{PasswordSettings, Passwords};
use crate::provider::{Provider, Providers};
use crate::refusal::Refusal;
use crate::reply::{Answer, NewToken, Outcome, Principal, Reply, Spell, Spelled, TokenKind};
use crate::scope::ScopeDefinition;
use crate::secret::Secret;
use crate::session::{Retention, SessionSettings};
use crate::store::{Shared, Store};
use crate::terminal::TerminalName;
use crate::terminal::chain::TerminalLives;
use crate::throttle::{Throttle, ThrottleSettings};
use crate::unasked::Unasked;

/// What an operator may set of the core.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How passwords are hashed.
    pub passwords: PasswordSettings,
    /// How many failures are too many.
    pub throttle: ThrottleSettings,
    /// How long things live.
    pub sessions: SessionSettings,
    /// How long what is over is kept.
    pub retention: Retention,
    /// Who can vouch for a peer.
    pub providers: Vec<Provider>,
    /// What there is to grant, in the order in which it is told.
    pub scopes: Vec<ScopeDefinition>,
    /// Gates on which passwords and secure-only scopes may travel where others could read them. A weaker switch: whoever
    /// listens on the way learns passwords and tokens.
    pub insecure_gates: Vec<&'static str>,
    /// Whether anything is served here. Where nothing is, somebody only looks at what is kept, and changes it.
    pub serves: bool,
    /// Gates whose refresh tokens rotate.
    pub rotating_gates: Vec<&'static str>,
    /// The terminals that are served.
    pub terminals: ServedTerminals,
    /// Whom access and refresh tokens are for.
    pub audience: AudienceSettings,
    /// What this server calls itself in what it signs: `iss` of RFC 7519 section 4.1.1.
    pub issuer: String,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            passwords: PasswordSettings::default(),
            throttle: ThrottleSettings::default(),
            sessions: SessionSettings::default(),
            retention: Retention::default(),
            providers: Vec::new(),
            scopes: Vec::new(),
            insecure_gates: Vec::new(),
            serves: true,
            rotating_gates: Vec::new(),
            terminals: ServedTerminals::default(),
            audience: AudienceSettings::default(),
            issuer: "gatepost".to_owned(),
        }
    }
}

/// The terminals that are served, and what holds for all of them.
#[derive(Clone, Debug)]
pub struct ServedTerminals {
    /// Each with the PIN that the program was begun with. One that is not kept yet is added as it comes.
    pub terminals: Vec<(TerminalName, Option<Secret>)>,
    /// How long what they issue lives.
    pub lives: TerminalLives,
    /// Whether an administrator may be secured by a PIN.
    pub administrators_pin: bool,
}

impl Default for ServedTerminals {
    fn default() -> ServedTerminals {
        ServedTerminals { terminals: Vec::new(), lives: TerminalLives::default(), administrators_pin: true }
    }
}

impl Settings {
    fn requires_secure(&self, gate: &str) -> bool {
        !self.insecure_gates.contains(&gate)
    }

    fn rotates_refresh(&self, gate: &str) -> bool {
        self.rotating_gates.contains(&gate)
    }
}

/// What the core needs of the world.
pub struct World {
    /// What is remembered.
    pub store: Arc<dyn Store>,
    /// What nodes tell each other.
    pub shared: Arc<dyn Shared>,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// What is random.
    pub entropy: Arc<dyn Entropy>,
}

/// Why the core cannot begin. One sentence for operators.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct CannotBegin(pub String);

/// The core. Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct Identity {
    core: Arc<Core>,
}

pub(crate) struct Core {
    settings: Current<Settings>,
    spellings: Vec<(&'static str, Spell)>,
    providers: Current<Providers>,
    store: Arc<dyn Store>,
    shared: Arc<dyn Shared>,
    clock: Arc<dyn Clock>,
    /// What both clocks said when the core was opened.
    began: (Timestamp, Instant),
    entropy: Arc<dyn Entropy>,
    throttle: Throttle,
    passwords: Passwords,
    keyring: RwLock<Arc<Keyring>>,
    /// Held while a key is made, so that one is.
    making_key: tokio::sync::Mutex<()>,
    /// Numbers that are reserved for tokens and not used yet.
    numbers: tokio::sync::Mutex<Range<u64>>,
    live: Arc<Live>,
    /// The terminals that are served here, by name.
    terminals: BTreeMap<TerminalName, Arc<Served>>,
    audit: Audit,
    counts: Counts,
    unasked: Unasked,
    /// Places where grants are redeemed, each grant always in the same one.
    turns: [tokio::sync::Mutex<()>; 64],
    /// The number of the last line of the feed that memory has followed.
    feed: tokio::sync::Mutex<u64>,
    /// When the feed was last read to its end; none: it could not be read since.
    feed_read_at: Mutex<Option<Instant>>,
}

impl Identity {
    /// Opens the core on what the store remembers. `spellings` holds, for each gate that writes tokens, its name and how it does.
    ///
    /// # Errors
    /// Settings that contradict each other, or a store that cannot be read, or, the first time, written.
    pub async fn open(world: World, settings: Settings, spellings: Vec<(&'static str, Spell)>) -> Result<Identity, CannotBegin> {
        let World { store, shared, clock, entropy } = world;
        let broken = |error: store::StoreError| CannotBegin(error.0);
        let secret = store.secret("throttle", draw(&*entropy)).await.map_err(broken)?;
        let fresh = keyring::draw_key(KeyAlgorithm::EdDSA, clock.now(), &*entropy).map_err(CannotBegin)?;
        let keyring = Keyring::of(&store.signing_keys(fresh).await.map_err(broken)?).map_err(CannotBegin)?;
        let rows = store.throttle().await.map_err(broken)?;
        let feed = store.feed_end().await.map_err(broken)?;
        let passwords =
            Passwords::new(settings.passwords.clone(), Arc::clone(&clock), Arc::clone(&entropy)).map_err(CannotBegin)?;
        let mut terminals = BTreeMap::new();
        let kept = store.terminals().await.map_err(broken)?;
        for (name, pin) in settings.terminals.terminals.iter().filter(|_| settings.serves) {
            let kept = match kept.iter().find(|kept| kept.name == *name) {
                Some(kept) => kept.clone(),
                None => admin::first_terminal(&*store, name, clock.now()).await.map_err(broken)?,
            };
            terminals.insert(name.clone(), Arc::new(Served::new(kept, pin.clone(), settings.terminals.lives)));
        }
        let core = Core {
            terminals,
            providers: Current::new(Providers::new(settings.providers.clone()).map_err(CannotBegin)?),
            throttle: Throttle::new(settings.throttle.clone(), &secret, rows),
            live: Arc::new(Live::new(settings.sessions.clone())),
            began: (clock.now(), clock.instant()),
            feed_read_at: Mutex::new(Some(clock.instant())),
            feed: tokio::sync::Mutex::new(feed),
            audit: Audit::default(),
            counts: Counts::new(spellings.iter().map(|(gate, _)| *gate)),
            unasked: Unasked::default(),
            turns: std::array::from_fn(|_| tokio::sync::Mutex::default()),
            passwords,
            keyring: RwLock::new(Arc::new(keyring)),
            making_key: tokio::sync::Mutex::default(),
            numbers: tokio::sync::Mutex::default(),
            settings: Current::new(settings),
            spellings,
            store,
            shared,
            clock,
            entropy,
        };
        Ok(Identity { core: Arc::new(core) })
    }

    /// The peers' door. Answers by `context.deadline`; never grants after saying no. To be driven to its end whether
    /// anybody still waits for the answer or not: a peer that hangs up has still spent its attempt.
    pub async fn handle(&self, command: Command, context: &Context) -> Outcome {
        let core = &self.core;
        let Command { presented, verb } = command;
        // Boxed but for what comes with every request: a future is as large as the largest of its parts, and is moved as a whole.
        match verb {
            Verb::Authenticate {
                credential: credential @ (Credential::Terminal { .. } | Credential::Unsecured), request, ..
            } => Box::pin(core.authorise(&credential, request.role, context)).await,
            Verb::Authenticate { provider, credential, request } => {
                Box::pin(core.authenticate(provider.as_ref(), &presented, &credential, &request, context)).await
            }
            Verb::Issue { kinds, .. } if presented.is_empty() => {
                Outcome::only(core.issue_to_holder(kinds, context).map(Answer::Granted))
            }
            Verb::Issue { kinds, request } => Box::pin(core.issue_to_caller(&presented, kinds, &request, context)).await,
            Verb::Narrow(to) => core.narrow(to, context),
            Verb::Revoke(target) => core.revoke(target, context),
            Verb::Protection => Outcome::only(core.protection(context)),
            Verb::SetProtection { of, to } => Box::pin(core.set_protection(of, to, context)).await,
            Verb::WhoAmI => core.who_am_i(&presented, context).await,
            Verb::Logout => Box::pin(core.log_out(&presented, context)).await,
            Verb::ApiKeys { environment, renew } => {
                Box::pin(core.api_keys_of_caller(&presented, &environment, renew, context)).await
            }
            Verb::Register { profile, request } => Box::pin(core.register(&presented, *profile, request.as_ref(), context)).await,
            Verb::ChangeRights { account, add, remove, right } => {
                Box::pin(core.change_rights(&presented, &account, (&add, &remove), &right, context)).await
            }
            Verb::PublicKeys => Outcome::only(Ok(Answer::PublicKeys(core.keyring().public_keys(core.clock.now())))),
        }
    }

    /// The operators' door.
    pub fn admin(&self, operator: Operator) -> Admin<'_> {
        Admin::new(&self.core, operator)
    }

    /// Goes by other settings from now on. What is decided already stays so; how many names and sources the throttle tells apart,
    /// which terminals are served and their PINs stay as they were when the core was opened.
    ///
    /// # Errors
    /// Settings that contradict each other; then nothing has changed. One sentence for people.
    pub fn resettle(&self, settings: Settings) -> Result<(), String> {
        let core = &self.core;
        let providers = Providers::new(settings.providers.clone())?;
        core.passwords.resettle(settings.passwords.clone())?;
        core.throttle.resettle(settings.throttle.clone());
        core.live.resettle(settings.sessions.clone());
        core.terminals.values().for_each(|served| served.resettle(settings.terminals.lives));
        core.providers.replace(providers);
        let served = core.settings().terminals.terminals.clone();
        let terminals = ServedTerminals { terminals: served, ..settings.terminals };
        core.settings.replace(Settings { terminals, serves: core.settings().serves, ..settings });
        Ok(())
    }

    /// What the core does unasked. Spawned once; ends only when it is dropped.
    pub async fn run(&self) {
        tokio::join!(self.core.expire_for_ever(), self.core.follow_for_ever(), self.core.write_for_ever());
    }

    /// Writes what was put off: before the process ends.
    pub async fn flush(&self) {
        self.core.flush(true).await;
    }

    /// Compares passwords until [`Identity::close_passwords`]. Blocks: for a thread of its own, which keeps its memory block.
    pub fn work_passwords(&self) {
        self.core.passwords.work();
    }

    /// Lets the threads in [`Identity::work_passwords`] go once nothing waits for them.
    pub fn close_passwords(&self) {
        self.core.passwords.close();
    }

    /// How many password hashes were evaluated since the start.
    pub fn evaluated(&self) -> u64 {
        self.core.passwords.evaluated()
    }

    /// How long secrets waited for a thread that hashes.
    pub fn waited(&self) -> &Durations {
        self.core.passwords.waited()
    }

    /// How long such a thread then had one.
    pub fn hashed(&self) -> &Durations {
        self.core.passwords.worked()
    }

    /// What was tried at the gates, and how it ended.
    pub fn counts(&self) -> &Counts {
        &self.core.counts
    }

    /// How many connections hold a role of a terminal now.
    pub fn attached_to_terminals(&self) -> usize {
        self.core.terminals.values().map(|served| served.attached()).sum()
    }

    /// How many connections hold a session now.
    pub fn attached(&self) -> usize {
        self.core.live.attached() + self.attached_to_terminals()
    }
}

/// What a login is told that is to be held by signed tokens.
const PAIR: [TokenKind; 2] = [TokenKind::Access, TokenKind::Refresh];

impl Core {
    async fn authenticate(
        self: &Arc<Core>,
        provider: Option<&ProviderName>,
        presented: &[Credential],
        credential: &Credential,
        request: &GrantRequest,
        context: &Context,
    ) -> Outcome {
        let attempt = Attempt::begin(self, Way::of(credential), context);
        let mut about = About::attempt(attempt.id);
        let (action, result) = match credential {
            Credential::Token { any_of, kind: TokenKind::Restore } => {
                ("restore", self.restore(provider, any_of, request, context, &mut about).await)
            }
            _ => {
                let action = if request.binding == Binding::Request { "request" } else { "login" };
                let proof = self.by(context, self.prove(provider, presented, credential, context, &mut about)).await;
                let result = match proof {
                    Ok(proof) => self.admit(proof, action, presented, request, context, &mut about).await,
                    Err(refusal) => Err(refusal),
                };
                (action, result)
            }
        };
        attempt.end(action, &about, result.as_ref().err());
        match result {
            Ok(Grant { granted, attachment, held }) => Outcome { reply: Reply::of(Ok(Answer::Granted(granted))), attachment, held },
            Err(refusal) => {
                let now = self.clock.now();
                self.audit.refused(now, context, self.entry(now, action, context, &about), &refusal);
                Outcome::only(Err(refusal))
            }
        }
    }

    /// From a proof to what the request is to be held by.
    async fn admit(
        self: &Arc<Core>,
        proof: Proof,
        action: &'static str,
        presented: &[Credential],
        request: &GrantRequest,
        context: &Context,
        about: &mut About,
    ) -> Result<Grant, Refusal> {
        match request.binding {
            Binding::Request => self.once(proof, request, action, context, about).await.map(Grant::for_once),
            Binding::TokenCookies => {
                let principal = self.once(proof, request, action, context, about).await?;
                let granted =
                    self.issue_and_replace(principal, &Behind::default(), presented, PAIR.into(), request, context).await?;
                Ok(Grant::without_session(granted))
            }
            Binding::Tokens { .. } => {
                let ends = [proof.account.as_ref().and_then(|account| account.expires_at), proof.client.expires_at];
                let mut grant = self.start(proof, presented, request, context, about).await?;
                // They rest on what was proved, and not on the session beside them, which may end long before.
                let proved = Principal { expires_at: ends.into_iter().flatten().min(), ..(*grant.granted.principal).clone() };
                // Where these cannot be had, the grant is dropped, and so the session is taken back.
                let tokens = self.issue_tokens(&proved, &Behind::default(), PAIR.into(), context).await?;
                grant.granted.tokens.extend(tokens);
                Ok(grant)
            }
            Binding::Connection | Binding::Cookie { .. } => self.start(proof, presented, request, context, about).await,
        }
    }

    /// The settings as they are now.
    pub(crate) fn settings(&self) -> Arc<Settings> {
        self.settings.now()
    }

    /// The providers as they are now.
    pub(crate) fn providers(&self) -> Arc<Providers> {
        self.providers.now()
    }

    /// The keys as they are now.
    pub(crate) fn keyring(&self) -> Arc<Keyring> {
        Arc::clone(&self.keyring.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Reads the keys anew. What was verified with those of before is verified again.
    pub(crate) async fn read_keys(&self) -> Result<(), Refusal> {
        let kept = self.store.keys().await?;
        let keyring = Keyring::of(&kept).map_err(|fault| {
            tracing::error!(fault, "the keys in the store cannot be used: {fault}");
            Refusal::Unavailable
        })?;
        *self.keyring.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(keyring);
        Ok(())
    }

    /// The keys, with one among them that signs tokens: where an operator has given none, one is made.
    pub(crate) async fn keyring_for_tokens(&self) -> Result<Arc<Keyring>, Refusal> {
        let keyring = self.keyring();
        if keyring.signs(Purpose::Tokens) {
            return Ok(keyring);
        }
        let _making = self.making_key.lock().await;
        let fresh = keyring::draw_key(KeyAlgorithm::HS256, self.clock.now(), &*self.entropy).map_err(|fault| {
            tracing::error!(fault, "no key can be made: {fault}");
            Refusal::Unavailable
        })?;
        self.store.signing_keys(fresh).await?;
        self.read_keys().await?;
        Ok(self.keyring())
    }

    /// The result, if it comes by the deadline.
    ///
    /// # Errors
    /// [`Refusal::TimedOut`].
    async fn by<T>(&self, context: &Context, work: impl Future<Output = Result<T, Refusal>>) -> Result<T, Refusal> {
        tokio::select! {
            biased;
            result = work => result,
            // What is known at once needs no timer.
            () = async { self.clock.sleep_until(context.deadline).await } => Err(Refusal::TimedOut),
        }
    }

    /// A token as this gate writes it.
    fn spell(&self, gate: &str, token: &NewToken<'_>) -> Result<Spelled, Refusal> {
        match (self.spellings.iter().find(|(name, _)| *name == gate), token) {
            (Some((_, spell)), _) => Ok(spell(token)),
            // A gate without a spelling of its own gets the bytes as they were drawn.
            (None, NewToken::Restore { random } | NewToken::Cookie { random }) => Ok(Spelled::Text(Secret::new(random.as_slice()))),
            (None, NewToken::Terminal(token)) => Ok(Spelled::Text(Secret::new(token.random.as_slice()))),
            (None, NewToken::Upstream { .. } | NewToken::Access { .. } | NewToken::Refresh { .. }) => {
                tracing::error!(gate, "the gate {gate} cannot say who is there, and was asked to");
                Err(Refusal::Unavailable)
            }
        }
    }
}
