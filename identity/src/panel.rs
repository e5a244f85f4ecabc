//! What a connection to a terminal asks: to hold a role, to step down, tokens, how the terminal is protected, and to change that.
//!
//! The order in which a string is looked at is `terminal.rs`'s, how long what it gives lives is `terminal/chain.rs`'s. Here the two
//! are brought together with what is kept, the throttle and the clock. What is in force ends with the process, so nothing but a
//! change of protection waits for the disk; and what others lose by an answer they learn after it.

use std::sync::Arc;

use crate::Core;
use crate::account::Rights;
use crate::attempt::Attempt;
use crate::clock::Timestamp;
use crate::command::{Context, Target};
use crate::counts::Way;
use crate::credential::{About, Credential};
use crate::grant::HeldEvents;
use crate::live::served::{Served, State};
use crate::refusal::Refusal;
use crate::reply::{Answer, Granted, IssuedToken, Method, NewToken, Outcome, Principal, Reply, TokenKind};
use crate::scope::Scopes;
use crate::secret::Secret;
use crate::store::{StoredTerminal, TokenHash, Written};
use crate::terminal::chain::{Chain, Change, TerminalMethod};
use crate::terminal::sessions::{ChainId, Origin};
use crate::terminal::{
    Candidate, Comparison, Facts, Guard, NewProtection, NewTerminalToken, Next, Obtained, Protections, Reading, Shown, Terminal,
    TerminalName, TerminalRole, TerminalToken, draw_pin, pin_matches,
};
use crate::throttle::Key;
use crate::token::hash;
use crate::unasked::{Late, Writing};

/// The tokens that go with a role.
const EACH: [TerminalToken; 3] = TerminalToken::ALL;

/// What a string, or none, has come to.
struct Found {
    obtained: Obtained,
    origin: Origin,
    /// What was kept of the terminal when this was decided.
    version: u64,
}

/// Another protection, as it is to be kept, and what follows from it.
pub(crate) struct Protecting {
    pub(crate) kept: StoredTerminal,
    pub(crate) change: Change,
    pub(crate) new_pin: Option<Secret>,
}

impl Core {
    /// Gives a role of the terminal to the connection, for a string or for nothing.
    pub(crate) async fn authorise(
        self: &Arc<Core>,
        credential: &Credential,
        asked: Option<TerminalRole>,
        context: &Context,
    ) -> Outcome {
        let by_token = matches!(credential, Credential::Terminal { token_shaped: true, .. });
        let action = if by_token { "restore" } else { "login" };
        let attempt = Attempt::begin(self, Way::of(credential), context);
        let result = match self.terminal(context) {
            Ok(served) => match self.obtain(served, credential, asked, context).await {
                Ok(found) => self.seat(served, &found, context),
                Err(refusal) => Err(refusal),
            },
            Err(refusal) => Err(refusal),
        };
        self.noted(action, Some(attempt), context, result)
    }

    /// Looks at what is shown, in the order of `terminal.rs`.
    async fn obtain(
        &self,
        served: &Served,
        credential: &Credential,
        asked: Option<TerminalRole>,
        context: &Context,
    ) -> Result<Found, Refusal> {
        let (shown, text) = match credential {
            Credential::Terminal { text, token_shaped: true } => return self.obtain_by_token(served, text, asked),
            Credential::Terminal { text, token_shaped: false } => (Shown::Text(Reading::Unshaped), Some(text)),
            _ => (Shown::Unsecured, None),
        };
        let (terminal, version) = served.view();
        let obtained = match (facts(terminal.facts(), &terminal.name)?.consider(shown, asked)?, text) {
            (Next::Obtained(obtained), _) => obtained,
            (Next::Compare(comparison), Some(text)) => self.compare(&terminal, comparison, text, context).await?,
            (Next::Compare(_), None) => return Err(Refusal::InvalidCredentials),
        };
        let method = TerminalMethod::of(obtained.grounds).ok_or(Refusal::InvalidCredentials)?;
        Ok(Found { obtained, origin: Origin::Anew(method), version })
    }

    /// As [`Core::obtain`], by what is shaped like a token: it is looked up, and compared with nothing.
    fn obtain_by_token(&self, served: &Served, text: &Secret, asked: Option<TerminalRole>) -> Result<Found, Refusal> {
        let (hash, now) = (hash(text), self.clock.now());
        let state = served.state();
        let found = state.sessions.find(&hash, &[TerminalToken::Connection], now);
        let reading = found.map_or(Reading::Refused, |(_, chain)| Reading::Stands(chain.role));
        match facts(served.facts(&state), served.name())?.consider(Shown::Text(reading), asked)? {
            Next::Obtained(obtained) => Ok(Found { obtained, origin: Origin::Back(hash), version: state.kept.version }),
            Next::Compare(_) => Err(Refusal::InvalidCredentials),
        }
    }

    /// Compares a string with what it may be: charged before, and settled after. What takes too long goes on and tells nobody
    /// anything, so it counts against nobody.
    async fn compare(
        &self,
        terminal: &Terminal,
        mut comparison: Comparison,
        text: &Secret,
        context: &Context,
    ) -> Result<Obtained, Refusal> {
        let source = context.peer.address;
        let is_familiar = self.throttle.is_familiar_at(self.steady(), source, &terminal.name);
        let key = if is_familiar { Key::TerminalFamiliar } else { Key::Terminal };
        let charge = self.throttle.admit(self.steady(), &[key(terminal.name.clone(), source)])?;
        let mut pins = None;
        if comparison.has_pins() {
            match self.throttle.admit(self.steady(), &[Key::TerminalPins(terminal.name.clone())]) {
                Ok(charge) => pins = Some(charge),
                Err(Refusal::TooManyAttempts { retry_after }) => comparison = comparison.without_pins(retry_after),
                Err(refusal) => return Err(refusal),
            }
        }
        let equal = self.by(context, self.first_equal(terminal, comparison.candidates(), text)).await;
        let result = equal.and_then(|equal| comparison.judge(equal));
        for charge in [Some(charge), pins].into_iter().flatten() {
            self.throttle.settle(charge, comparison.settled(&result));
        }
        if result.is_ok() {
            self.throttle.mark_familiar_at(self.steady(), source, &terminal.name);
        }
        result
    }

    async fn first_equal(
        &self,
        terminal: &Terminal,
        candidates: &[Candidate],
        text: &Secret,
    ) -> Result<Option<Candidate>, Refusal> {
        for candidate in candidates {
            let equal = match (candidate, &terminal.command_line_pin) {
                (Candidate::CommandLinePin, pin) => pin.as_ref().is_some_and(|pin| pin_matches(pin, text)),
                (Candidate::Password(role) | Candidate::Pin(role), _) => match terminal.guard(*role) {
                    Guard::Password(stored) => self.passwords.verify(text, Some(stored)).await?.matches,
                    Guard::Pin(pin) => pin_matches(pin, text),
                    Guard::Unsecured => false,
                },
            };
            if equal {
                return Ok(Some(*candidate));
            }
        }
        Ok(None)
    }

    /// Gives the role, unless what it rests on has changed meanwhile.
    fn seat(self: &Arc<Core>, served: &Arc<Served>, found: &Found, context: &Context) -> Result<Outcome, Refusal> {
        let connection = context.connection.ok_or(Refusal::LoginRequired)?;
        let now = self.clock.now();
        let mut state = served.state();
        if self.clock.instant() >= context.deadline {
            return Err(Refusal::TimedOut);
        }
        if state.kept.version != found.version {
            tracing::warn!("a terminal changed while somebody came in; they were not let in");
            return Err(Refusal::Unavailable);
        }
        let role = found.obtained.role;
        let back = state.sessions.authorise(connection, role, found.origin, now);
        let (id, told) = back.ok_or(Refusal::InvalidCredentials)?;
        let untold = state.untold(told);
        let by_token = matches!(found.origin, Origin::Back(_));
        let (granted, hashes) = self.granted_at(&mut state, id, by_token, &EACH, context, now)?;
        let attachment = served.attach(&mut state, connection);
        drop(state);
        let held = HeldEvents::of_terminal(served, untold, hashes);
        Ok(Outcome { reply: Reply::of(Ok(Answer::Granted(granted))), attachment: Some(attachment), held })
    }

    /// Takes the connection down to a role.
    pub(crate) fn narrow(&self, to: TerminalRole, context: &Context) -> Outcome {
        let result = self.terminal(context).and_then(|served| {
            let now = self.clock.now();
            let mut state = served.state();
            facts(served.facts(&state), served.name())?.narrow(state.role(context.connection, now), to)?;
            let narrowed = context.connection.and_then(|connection| state.sessions.narrow(connection, now));
            let (id, told) = narrowed.ok_or(Refusal::LoginRequired)?;
            let untold = state.untold(told);
            let (granted, hashes) = self.granted_at(&mut state, id, false, &EACH, context, now)?;
            drop(state);
            let held = HeldEvents::of_terminal(served, untold, hashes);
            Ok(Outcome { reply: Reply::of(Ok(Answer::Granted(granted))), attachment: None, held })
        });
        self.noted("narrow", None, context, result)
    }

    /// Tokens for whoever the connection holds.
    pub(crate) fn issue_at_terminal(&self, kinds: &[TokenKind], context: &Context) -> Result<Granted, Refusal> {
        let served = self.terminal(context)?;
        let now = self.clock.now();
        let kinds: Vec<TerminalToken> = kinds.iter().map(terminals).collect::<Result<_, Refusal>>()?;
        let mut state = served.state();
        let held = context.connection.and_then(|connection| state.sessions.held(connection, now));
        let (id, _) = held.ok_or(Refusal::LoginRequired)?;
        self.granted_at(&mut state, id, true, &kinds, context, now).map(|(granted, _)| granted)
    }

    /// How the terminal is protected, as far as the connection may know.
    pub(crate) fn protection(&self, context: &Context) -> Result<Answer, Refusal> {
        let served = self.terminal(context)?;
        let (terminal, _) = served.view();
        let role = served.state().role(context.connection, self.clock.now());
        Ok(Answer::Protection(terminal.shown_to(role)))
    }

    /// Ends tokens, and nobody's connection.
    pub(crate) fn revoke(&self, target: Target, context: &Context) -> Outcome {
        let result = self.terminal(context).and_then(|served| {
            let mut state = served.state();
            let role = state.role(context.connection, self.clock.now()).ok_or(Refusal::LoginRequired)?;
            let change = match target {
                Target::Everything if role != TerminalRole::Administrator => return Err(Refusal::NotPermitted),
                Target::Everything => Change::Cleared,
                Target::Pictures => Change::PictureChanged,
            };
            state.sessions.follow(&change, context.connection);
            Ok(Outcome::only(Ok(Answer::Done)))
        });
        self.noted("revoke", None, context, result)
    }

    /// Protects a role otherwise: on disk first, then for everybody who is there.
    pub(crate) async fn set_protection(&self, of: TerminalRole, to: NewProtection, context: &Context) -> Outcome {
        let result = match self.terminal(context) {
            Ok(served) => self.protect(served, of, to, context).await,
            Err(refusal) => Err(refusal),
        };
        match result {
            Ok(outcome) => outcome,
            Err(refusal) => self.noted("protect", None, context, Err(refusal)),
        }
    }

    async fn protect(
        &self,
        served: &Arc<Served>,
        of: TerminalRole,
        to: NewProtection,
        context: &Context,
    ) -> Result<Outcome, Refusal> {
        let connection = context.connection.ok_or(Refusal::LoginRequired)?;
        let turn = self.by(context, async { Ok(Arc::clone(&served.changing).lock_owned().await) }).await?;
        let kept = served.state().kept.clone();
        let (terminal, _) = served.view();
        let by = served.state().role(context.connection, self.clock.now());
        let protection = to.protection();
        let protecting = self.by(context, self.protecting(&terminal, kept, by, of, to, true)).await?;
        let Protecting { kept, change, new_pin } = protecting;
        let now = self.clock.now();
        if served.state().role(context.connection, now) != by {
            return Err(Refusal::LoginRequired);
        }
        let entry = self.entry(now, "protect", context, &about(served, Some(of)));
        let (store, new) = (Arc::clone(&self.store), kept.clone());
        let mut write: Writing = Box::pin(async move { store.change_terminal(new, entry).await });
        let written = tokio::select! {
            biased;
            written = &mut write => written?,
            () = self.clock.sleep_until(context.deadline) => {
                // What is on disk in the end counts for everybody; whoever asked for it was told no.
                let kept = StoredTerminal { version: kept.version + 1, ..kept };
                self.unasked.late(Late::Terminal { served: Arc::clone(served), kept: Box::new(kept), change, turn }, write);
                return Err(Refusal::TimedOut);
            }
        };
        if written == Written::Stale {
            return Err(stale());
        }
        let now = self.clock.now();
        let mut state = served.state();
        state.kept = StoredTerminal { version: kept.version + 1, ..kept };
        let user_reset = matches!(change, Change::ProtectionSet { user_reset: true, .. });
        let (id, told) = match state.sessions.protection_set(connection, of, protection, user_reset, now) {
            Some(set) => set,
            // Whoever asked has lost the role while the disk was written; what they asked for stands.
            None => (None, state.sessions.follow(&change, None)),
        };
        let untold = state.untold(told);
        let (tokens, hashes) = match id {
            Some(id) => {
                let (granted, hashes) = self.granted_at(&mut state, id, false, &EACH, context, now)?;
                (granted.tokens, hashes)
            }
            None => (Vec::new(), Vec::new()),
        };
        drop(state);
        drop(turn);
        let held = HeldEvents::of_terminal(served, untold, hashes);
        Ok(Outcome { reply: Reply::of(Ok(Answer::ProtectionSet { new_pin, tokens })), attachment: None, held })
    }

    /// What a role's protection is to become, and what follows. `is_bounded`: whoever asks is told to come again where many hash.
    pub(crate) async fn protecting(
        &self,
        terminal: &Terminal,
        kept: StoredTerminal,
        by: Option<TerminalRole>,
        of: TerminalRole,
        to: NewProtection,
        is_bounded: bool,
    ) -> Result<Protecting, Refusal> {
        let administrators_pin = self.settings().terminals.administrators_pin;
        let protections = facts(terminal.facts(), &terminal.name)?.change(by, of, to.protection(), administrators_pin)?;
        let user_reset = of == TerminalRole::Administrator && lost_by(&kept, protections);
        let (guard, new_pin) = match to {
            NewProtection::Unsecured => (Guard::Unsecured, None),
            NewProtection::Password(password) => {
                if is_bounded {
                    self.passwords.has_room()?;
                }
                (Guard::Password(self.passwords.hash(password.secret()).await?), None)
            }
            NewProtection::Pin => {
                let pin = draw_pin(&*self.entropy);
                (Guard::Pin(pin.clone()), Some(pin))
            }
        };
        let user = if user_reset { Guard::Unsecured } else { kept.user.clone() };
        let kept = match of {
            TerminalRole::Administrator => StoredTerminal { administrator: guard, user, ..kept },
            TerminalRole::User => StoredTerminal { user: guard, ..kept },
        };
        let by = by.ok_or(Refusal::LoginRequired)?;
        Ok(Protecting { kept, change: Change::ProtectionSet { of, by, user_reset }, new_pin })
    }

    /// Whose a token of some terminal is. It is looked up and not counted by the throttle: nobody guesses one, and whoever fetches
    /// pictures goes on doing so for a while after it has run out.
    pub(crate) fn recognise_terminal_token(&self, token: &Secret, any_of: &[TerminalToken]) -> Result<Principal, Refusal> {
        let (hash, now) = (hash(token), self.clock.now());
        let found = self.terminals.values().find_map(|served| served.state().sessions.find(&hash, any_of, now));
        found.map(|(_, chain)| principal(chain, true)).ok_or(Refusal::InvalidCredentials)
    }

    /// The terminal that the connection came to.
    fn terminal(&self, context: &Context) -> Result<&Arc<Served>, Refusal> {
        let served = context.terminal.as_ref().and_then(|name| self.terminals.get(name));
        served.ok_or_else(|| {
            tracing::error!(gate = context.gate, "something was asked of a terminal where there is none");
            Refusal::Unavailable
        })
    }

    /// Draws tokens of a chain.
    fn granted_at(
        &self,
        state: &mut State,
        id: ChainId,
        by_token: bool,
        kinds: &[TerminalToken],
        context: &Context,
        now: Timestamp,
    ) -> Result<(Granted, Vec<TokenHash>), Refusal> {
        let chain = state.sessions.chain(id, now).ok_or(Refusal::LoginRequired)?;
        let mut granted = Granted { principal: Arc::new(principal(chain, by_token)), tokens: Vec::with_capacity(kinds.len()) };
        let mut hashes = Vec::with_capacity(kinds.len());
        // The source of chance is asked once for all of them.
        let mut chance = zeroize::Zeroizing::new(vec![[0; 32]; kinds.len()]);
        self.entropy.fill(chance.as_flattened_mut());
        let settings = self.settings();
        for (kind, random) in kinds.iter().copied().zip(chance.iter()) {
            let expires_at = chain.token_ends(kind, now, &settings.terminals.lives);
            let token = NewToken::Terminal(NewTerminalToken { kind, random, issued_at: now, expires_at });
            let secret = self.spell(context.gate, &token)?.text()?;
            let hash = hash(&secret);
            state.sessions.issue(id, kind, hash, now);
            granted.tokens.push(IssuedToken { kind: TokenKind::Terminal(kind), secret, expires_at });
            hashes.push(hash);
        }
        Ok((granted, hashes))
    }

    /// Writes down what became of it.
    fn noted(
        &self,
        action: &'static str,
        attempt: Option<Attempt<'_>>,
        context: &Context,
        result: Result<Outcome, Refusal>,
    ) -> Outcome {
        let now = self.clock.now();
        let role = match &result {
            Ok(Outcome { reply: Reply { result: Ok(Answer::Granted(granted)), .. }, .. }) => granted.principal.terminal,
            _ => None,
        };
        let about = About {
            name: self.terminal(context).ok().map(|served| named(served, role)),
            attempt: attempt.as_ref().map(|attempt| attempt.id),
            ..About::default()
        };
        if let Some(attempt) = attempt {
            attempt.end(action, &about, result.as_ref().err());
        }
        let About { name, attempt, .. } = about;
        let entry = |name| self.entry(now, action, context, &About { name, attempt, ..About::default() });
        match result {
            Ok(outcome) => {
                self.audit.repeated(now, context, (action, "ok"), name, entry);
                outcome
            }
            Err(refusal) => {
                // What the throttle counts cannot be had without end; everything else at a terminal can.
                if action == "login" && refusal == Refusal::InvalidCredentials {
                    self.audit.refused(now, context, entry(name), &refusal);
                } else {
                    self.audit.repeated_refusal(now, context, (action, &refusal), name, entry);
                }
                Outcome::only(Err(refusal))
            }
        }
    }
}

/// Whether the user's secret is lost by this.
fn lost_by(kept: &StoredTerminal, protections: Protections) -> bool {
    kept.user.protection().is_secured() && !protections.of(TerminalRole::User).is_secured()
}

/// What decisions rest on.
fn facts(facts: Option<Facts>, name: &TerminalName) -> Result<Facts, Refusal> {
    facts.ok_or_else(|| {
        let name = name.as_str();
        tracing::error!(terminal = name, "what is kept of the terminal {name} contradicts itself: its user alone is secured");
        Refusal::Unavailable
    })
}

/// Somebody else has changed what is kept.
fn stale() -> Refusal {
    tracing::warn!("a terminal changed while somebody changed it; their change was not made");
    Refusal::Unavailable
}

fn about(served: &Served, role: Option<TerminalRole>) -> About {
    About { name: Some(named(served, role)), ..About::default() }
}

/// What the audit calls a role of a terminal, or the terminal itself.
fn named(served: &Served, role: Option<TerminalRole>) -> String {
    let name = served.name().as_str();
    role.map_or_else(|| name.to_owned(), |role| [name, "/", role.word()].concat())
}

fn terminals(kind: &TokenKind) -> Result<TerminalToken, Refusal> {
    match kind {
        TokenKind::Terminal(kind) => Ok(*kind),
        TokenKind::Restore | TokenKind::Cookie { .. } | TokenKind::Access | TokenKind::Refresh | TokenKind::Upstream { .. } => {
            tracing::error!("a token that is not a terminal's was asked for at a terminal");
            Err(Refusal::Unavailable)
        }
    }
}

/// Whoever holds a chain. Neither account nor client stands behind it.
fn principal(chain: Chain, by_token: bool) -> Principal {
    let method = match chain.method {
        _ if by_token => Method::Token,
        TerminalMethod::Unsecured => Method::Unsecured,
        TerminalMethod::Password => Method::Password,
        TerminalMethod::Pin | TerminalMethod::CommandLinePin => Method::Pin,
    };
    Principal {
        session: None,
        account: None,
        client: None,
        scopes: Scopes::default(),
        rights: Rights::default(),
        terminal: Some(chain.role),
        provider: None,
        method,
        spelling: 0,
        expires_at: chain.ends_at,
    }
}
