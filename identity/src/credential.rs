//! What may be shown as proof, and the one match that sends each kind to what can tell whether it is right.
//!
//! Here an attempt is charged to the throttle before anything is compared, and settled after. Who may then come in is
//! `policy.rs`'s to say, and what is granted, `grant.rs`'s.

use crate::Core;
use crate::account::{Account, AccountId, Client, ClientId, LONGEST_NAME, NameKey};
use crate::audit::AttemptId;
use crate::command::{Context, ProviderName};
use crate::password::Verdict;
use crate::policy::{may_come_through, may_enter, may_try_password};
use crate::provider::Provider;
use crate::refusal::Refusal;
use crate::reply::{Method, Reason, TokenKind};
use crate::secret::Secret;
use crate::session::SessionId;
use crate::store::{Grant, Which};
use crate::terminal::TerminalToken;
use crate::throttle::{Charge, Key, Settled};
use crate::token::hash;

/// A claim with its proof.
#[derive(Debug)]
pub enum Credential {
    /// A user's name or e-mail address, and the password.
    Password {
        /// As it was typed.
        name: String,
        /// As it was typed.
        password: Secret,
    },
    /// A client's id, and its secret where it has shown one.
    Client {
        /// As it was sent; `None` where no client can have such an id.
        id: Option<ClientId>,
        /// As it was sent.
        secret: Option<Secret>,
    },
    /// A token. Two readings of one string are one credential, tried in order.
    Token {
        /// The readings.
        any_of: Vec<Secret>,
        /// What it is to be good for.
        kind: TokenKind,
    },
    /// A refresh token: says who speaks where nothing before it does.
    Refresh(Secret),
    /// A signed token that a browser has kept, of kind [`TokenKind::Access`] or [`TokenKind::Refresh`]. It comes along unasked: where
    /// it is no good, nobody has tried anything.
    Kept {
        /// As it was sent.
        token: Secret,
        /// Which of the two it is to be.
        kind: TokenKind,
    },
    /// The cookie of a session.
    Cookie(Secret),
    /// A key that speaks for an account by itself.
    ApiKey(Secret),
    /// A text that the operator has set, and that stands for no account.
    OperatorSecret(Secret),
    /// A string that only a terminal can make sense of: a token, a password or a PIN.
    Terminal {
        /// As it was sent.
        text: Secret,
        /// Whether it looks like a token of the gate's. Then it is never compared with anything else.
        token_shaped: bool,
    },
    /// A token of a terminal's; it says itself of which.
    TerminalToken {
        /// As it was sent.
        token: Secret,
        /// The kinds that it may be of.
        any_of: &'static [TerminalToken],
    },
    /// Nothing: a terminal may be open.
    Unsecured,
    /// A grant that somebody issued for this client.
    Code {
        /// As it was sent.
        code: Secret,
    },
}

/// What was proved.
pub(crate) struct Proof {
    pub(crate) provider: String,
    pub(crate) method: Method,
    pub(crate) account: Option<Account>,
    pub(crate) client: Client,
    /// Hashes under the present settings, where the stored ones were made under others.
    pub(crate) rehashed: Option<String>,
    pub(crate) rehashed_secret: Option<String>,
    /// The grant that the session will spend.
    pub(crate) redeems: Option<Grant>,
}

/// What the audit may say of an attempt, filled in as far as it came.
#[derive(Default)]
pub(crate) struct About {
    pub(crate) attempt: Option<AttemptId>,
    pub(crate) name: Option<String>,
    pub(crate) account: Option<AccountId>,
    pub(crate) client: Option<ClientId>,
    pub(crate) session: Option<SessionId>,
}

impl About {
    pub(crate) fn attempt(id: AttemptId) -> About {
        About { attempt: Some(id), ..About::default() }
    }

    /// As much of the name as any account could have: what is claimed can be as long as a message.
    pub(crate) fn shown_name(&self) -> Option<String> {
        self.name.as_deref().map(|name| name[..name.floor_char_boundary(LONGEST_NAME)].to_owned())
    }
}

/// What a client claims to be.
type Claim<'a> = (Option<&'a ClientId>, Option<&'a Secret>);

impl Core {
    /// Proves everything but a token: one match that sends each credential to what can tell.
    pub(crate) async fn prove(
        &self,
        provider: Option<&ProviderName>,
        presented: &[Credential],
        credential: &Credential,
        context: &Context,
        about: &mut About,
    ) -> Result<Proof, Refusal> {
        let claim = presented
            .iter()
            .find_map(|shown| match shown {
                Credential::Client { id, secret } => Some((id.as_ref(), secret.as_ref())),
                _ => None,
            })
            .unwrap_or_default();
        match credential {
            Credential::Password { name, password } => {
                may_try_password(self.settings().requires_secure(context.gate), &context.peer)?;
                about.name = Some(name.clone());
                self.passwords.has_room()?;
                let providers = self.providers();
                let provider = providers.local(provider);
                self.prove_password(provider, claim, name, password, context, about).await
            }
            Credential::Client { id, secret } => {
                may_try_password(self.settings().requires_secure(context.gate), &context.peer)?;
                let providers = self.providers();
                let provider = providers.local(provider);
                self.prove_service(provider, (id.as_ref(), secret.as_ref()), context, about).await
            }
            Credential::Code { code } => {
                may_try_password(self.settings().requires_secure(context.gate), &context.peer)?;
                let source = Key::TokenSource(context.peer.address);
                self.throttle.check(self.steady(), &source)?;
                let providers = self.providers();
                let provider = providers.local(provider);
                let result = self.prove_code(provider, claim, code, context, about).await;
                if let Err(Refusal::InvalidCredentials | Refusal::InvalidClient | Refusal::UnknownProvider | Refusal::Revoked) =
                    result
                {
                    self.throttle.count(self.steady(), &source);
                }
                result
            }
            // These are looked up, not compared: `grant.rs`, `caller.rs` and `api_key.rs` follow them.
            // A terminal's are `panel.rs`'s, and the operator's own is `operator_secret.rs`'s.
            Credential::Token { .. }
            | Credential::Refresh(_)
            | Credential::Kept { .. }
            | Credential::Cookie(_)
            | Credential::ApiKey(_)
            | Credential::OperatorSecret(_)
            | Credential::Terminal { .. }
            | Credential::TerminalToken { .. }
            | Credential::Unsecured => Err(Refusal::InvalidCredentials),
        }
    }

    async fn prove_password(
        &self,
        provider: Result<&Provider, Refusal>,
        claim: Claim<'_>,
        name: &str,
        password: &Secret,
        context: &Context,
        about: &mut About,
    ) -> Result<Proof, Refusal> {
        let now = self.clock.now();
        let source = context.peer.address;
        let key = NameKey::of(name);
        let client = self.client_claimed(claim, about).await?;
        let account = self.store.account_named(&key).await?;
        about.account = account.as_ref().map(|account| account.id);
        let mut keys = Vec::with_capacity(2);
        match about.account {
            Some(id) if self.throttle.is_familiar(self.steady(), source, id) => {
                keys.push(Key::Familiar(source, id, account.as_ref().map_or(0, |account| account.version)));
            }
            Some(id) => keys.extend([Key::Name(key), Key::Account(id)]),
            None => keys.push(Key::Name(key)),
        }
        let mut charges = self.charge_client(claim, context)?;
        match self.throttle.admit(self.steady(), &keys) {
            Ok(charge) => charges.name = Some(charge),
            Err(refusal) => {
                self.settle(charges, &refusal);
                return Err(refusal);
            }
        }

        // The same work whoever is unknown: a hash for a secret that the client showed, and one for the password.
        let proved_client = self.prove_client(claim, client.as_ref(), &mut charges).await;
        let compare = proved_client.is_ok() && provider.is_ok();
        let verdict = match &proved_client {
            Err(refusal) if *refusal != Refusal::InvalidClient => Err(refusal.clone()),
            _ => {
                let stored = account.as_ref().and_then(|account| account.password.as_deref());
                self.passwords.verify(password, stored.filter(|_| compare)).await
            }
        };
        let result = match (verdict, proved_client, provider, account) {
            (Err(refusal), ..) | (Ok(_), Err(refusal), ..) | (Ok(_), Ok(_), Err(refusal), _) => Err(refusal),
            (Ok(verdict), Ok((client, rehashed_secret)), Ok(provider), Some(account)) if verdict.matches => {
                may_enter(Some(&account), None, now).and_then(|()| may_come_through(&client, now)).map(|()| Proof {
                    provider: provider.name.clone(),
                    method: Method::Password,
                    account: Some(account),
                    client,
                    rehashed: verdict.rehashed,
                    rehashed_secret,
                    redeems: None,
                })
            }
            _ => Err(Refusal::InvalidCredentials),
        };
        match &result {
            Ok(_) => self.settle_proved(charges),
            Err(refusal) => self.settle(charges, refusal),
        }
        result
    }

    /// A service that speaks for itself. A public client cannot: it has nothing to prove.
    async fn prove_service(
        &self,
        provider: Result<&Provider, Refusal>,
        claim: Claim<'_>,
        context: &Context,
        about: &mut About,
    ) -> Result<Proof, Refusal> {
        let client = self.client_claimed(claim, about).await?;
        let mut charges = self.charge_client(claim, context)?;
        let proved = self.prove_client(claim, client.as_ref(), &mut charges).await;
        let result = match (proved, provider) {
            (Err(refusal), _) | (Ok(_), Err(refusal)) => Err(refusal),
            (Ok((client, rehashed_secret)), Ok(provider)) if client.secret.is_some() => {
                may_enter(None, Some(&client), self.clock.now()).map(|()| Proof {
                    provider: provider.name.clone(),
                    method: Method::ClientSecret,
                    account: None,
                    client,
                    rehashed: None,
                    rehashed_secret,
                    redeems: None,
                })
            }
            _ => Err(Refusal::InvalidClient),
        };
        match &result {
            Ok(_) => self.settle_proved(charges),
            Err(refusal) => self.settle(charges, refusal),
        }
        result
    }

    /// A grant, by its code. What it is bound to is compared before anything is said of it, so that to everybody else it is one
    /// that nobody made.
    async fn prove_code(
        &self,
        provider: Result<&Provider, Refusal>,
        claim: Claim<'_>,
        code: &Secret,
        context: &Context,
        about: &mut About,
    ) -> Result<Proof, Refusal> {
        let client = self.client_claimed(claim, about).await?;
        // Nobody guesses a code. What can be guessed is the client's own secret, where one is shown.
        let mut charges = if claim.1.is_some() { self.charge_client(claim, context)? } else { Charges::default() };
        let (client, rehashed_secret) = match self.prove_client(claim, client.as_ref(), &mut charges).await {
            Ok(proved) => proved,
            Err(refusal) => {
                self.settle(charges, &refusal);
                return Err(refusal);
            }
        };
        self.settle_proved(charges);
        let provider = provider?;
        let grant = self.store.grant(&hash(code)).await?.ok_or(Refusal::InvalidCredentials)?;
        if grant.client != client.id || grant.provider != provider.name {
            return Err(Refusal::InvalidCredentials);
        }
        about.account = Some(grant.account);
        let now = self.clock.now();
        if let Some(first) = grant.redeemed {
            // The first use may still be on its way to whoever asked; it is told first.
            let _turn = self.turn(&grant.hash).await?;
            about.session = Some(first.session);
            let reuse = self.entry(now, "reuse", context, about);
            self.store.end_sessions(Which::Session(first.session), Reason::Revoked, now, reuse).await?;
            self.changed().await;
            return Err(Refusal::Revoked);
        }
        if now >= grant.expires_at {
            return Err(Refusal::InvalidCredentials);
        }
        let account = self.store.account(grant.account).await?.ok_or(Refusal::InvalidCredentials)?;
        may_enter(Some(&account), Some(&client), now)?;
        Ok(Proof {
            provider: provider.name.clone(),
            method: Method::Code,
            account: Some(account),
            client,
            rehashed: None,
            rehashed_secret,
            redeems: Some(grant),
        })
    }

    async fn client_claimed(&self, claim: Claim<'_>, about: &mut About) -> Result<Option<Client>, Refusal> {
        let Some(id) = claim.0 else { return Ok(None) };
        let client = self.store.client(id).await?;
        about.client = client.as_ref().map(|client| client.id.clone());
        Ok(client)
    }

    /// Charges the source, and the client where it shows a secret of its own.
    fn charge_client(&self, claim: Claim<'_>, context: &Context) -> Result<Charges, Refusal> {
        let mut charges = Charges {
            source: Some(self.throttle.admit(self.steady(), &[Key::Source(context.peer.address)])?),
            ..Charges::default()
        };
        if let (Some(id), Some(_)) = claim {
            match self.throttle.admit(self.steady(), &[Key::Client(id.clone())]) {
                Ok(charge) => charges.client = Some(charge),
                Err(refusal) => {
                    self.settle(charges, &refusal);
                    return Err(refusal);
                }
            }
        }
        Ok(charges)
    }

    /// Whether the client is who it claims to be: a confidential one by its secret, a public one by having none. Answers the
    /// client and its secret's new hash, where one is due.
    async fn prove_client(
        &self,
        claim: Claim<'_>,
        client: Option<&Client>,
        charges: &mut Charges,
    ) -> Result<(Client, Option<String>), Refusal> {
        let stored = client.and_then(|client| client.secret.as_deref());
        let verdict = match claim.1 {
            Some(secret) => self.passwords.verify(secret, stored).await?,
            None => Verdict { matches: stored.is_none(), rehashed: None },
        };
        match client {
            // A public client that shows a secret is not the one it claims to be.
            Some(client) if verdict.matches && (claim.1.is_none() || stored.is_some()) => {
                if let Some(charge) = charges.client.take() {
                    self.throttle.settle(charge, Settled::Proved);
                }
                Ok((client.clone(), verdict.rehashed))
            }
            _ => {
                // A wrong secret is settled at once, whatever becomes of the rest: it stands as a failure.
                drop(charges.client.take());
                Err(Refusal::InvalidClient)
            }
        }
    }

    /// Settles what a refusal leaves standing.
    fn settle(&self, charges: Charges, refusal: &Refusal) {
        let (name, others) = match refusal {
            // The right secret of an account that may not come in counts like a wrong one, so that no budget tells it apart.
            Refusal::InvalidCredentials | Refusal::AccountUnavailable => (Settled::Failed, Settled::Failed),
            // The password was not compared, so its name is not charged.
            Refusal::InvalidClient | Refusal::UnknownProvider => (Settled::Neither, Settled::Failed),
            _ => (Settled::Neither, Settled::Neither),
        };
        for (charge, settled) in [(charges.source, others), (charges.client, others), (charges.name, name)] {
            if let Some(charge) = charge {
                self.throttle.settle(charge, settled);
            }
        }
    }

    fn settle_proved(&self, charges: Charges) {
        for charge in [charges.source, charges.client, charges.name].into_iter().flatten() {
            self.throttle.settle(charge, Settled::Proved);
        }
    }
}

/// What an attempt was charged to, kept apart because each is settled by itself.
#[derive(Default)]
struct Charges {
    source: Option<Charge>,
    client: Option<Charge>,
    name: Option<Charge>,
}
