//! What peers change of accounts: a person who signs up, and rights that somebody gives or takes.
//!
//! Here is decided whether they may; what is done then is the operators' own, in `admin.rs`. Whether anybody may sign up at all is
//! the gate's to say, and which right it takes to change those of others, too.

use std::sync::Arc;

use crate::Core;
use crate::account::{Account, Rights};
use crate::admin::{Admin, NewUser, Operator};
use crate::caller::Recognised;
use crate::command::{Context, GrantRequest};
use crate::credential::Credential;
use crate::policy::may_try_password;
use crate::refusal::Refusal;
use crate::reply::{Answer, Caller, Granted, Outcome, Reply};
use crate::scope::Right;
use crate::secret::Secret;
use crate::throttle::Key;

/// Somebody who signs up.
#[derive(Clone, Debug)]
pub struct Profile {
    /// The name to log in with; none: one is drawn, and the address does.
    pub name: Option<String>,
    /// The address to log in with.
    pub email: Option<String>,
    /// A friendly name.
    pub display_name: Option<String>,
    /// The given name.
    pub first_name: Option<String>,
    /// The family name.
    pub last_name: Option<String>,
    /// The password.
    pub password: Secret,
    /// The environments for which the account gets an API key at once. Their texts are not told: who wants one renews it.
    pub environments: Vec<String>,
}

impl Core {
    /// Makes an account for somebody who has none, and logs them in where they ask for it.
    pub(crate) async fn register(
        self: &Arc<Core>,
        presented: &[Credential],
        profile: Profile,
        request: Option<&GrantRequest>,
        context: &Context,
    ) -> Outcome {
        let caller = match self.recognise(presented, context).await {
            Ok(Recognised { caller, .. }) => caller,
            Err((caller, refusal)) => return Outcome::told(caller, Err(refusal)),
        };
        // What comes through a client is nothing while that may not come in.
        if self.client_may_enter(presented, context).await.is_err() {
            return Outcome::told(caller, Err(Refusal::InvalidClient));
        }
        let password = profile.password.clone();
        let account = match self.sign_up(&caller, profile, context).await {
            Ok(account) => account,
            Err(refusal) => return Outcome::told(caller, Err(refusal)),
        };
        let mut outcome = match request {
            None => Outcome::only(Ok(Answer::Done)),
            Some(request) => {
                let credential = Credential::Password { name: account.name.as_str().to_owned(), password };
                self.authenticate(None, presented, &credential, request, context).await
            }
        };
        // That the account was made stands, whatever became of the login.
        let granted: Option<Granted> = match outcome.reply.result {
            Ok(Answer::Granted(granted)) => Some(granted),
            _ => None,
        };
        outcome.reply = Reply { caller, result: Ok(Answer::Registered { account: Arc::new(account.summary()), granted }) };
        outcome
    }

    async fn sign_up(self: &Arc<Core>, caller: &Caller, profile: Profile, context: &Context) -> Result<Account, Refusal> {
        if caller.principal.is_some() {
            return Err(Refusal::AlreadySignedIn);
        }
        may_try_password(self.settings().requires_secure(context.gate), &context.peer)?;
        // Each one costs a hash and a row, and says whether a name is taken.
        let source = Key::TokenSource(context.peer.address);
        let now = self.clock.now();
        self.throttle.check(self.steady(), &source)?;
        self.passwords.has_room()?;
        self.throttle.count(self.steady(), &source);
        // Never the name: who signs up under the name of somebody who has gone must not be taken for them.
        let id = crate::token::id(now, &*self.entropy).to_string();
        let new = NewUser {
            name: profile.name.unwrap_or_else(|| id.clone()),
            subject: Some(id),
            email: profile.email,
            display_name: profile.display_name,
            first_name: profile.first_name,
            last_name: profile.last_name,
            password: Some(profile.password),
            ..NewUser::default()
        };
        let admin = Admin::new(self, Operator::peer(context, None));
        let account = self.by(context, admin.add_user_as(new, "register")).await?;
        for environment in profile.environments {
            self.by(context, admin.add_api_key(account.name.as_str(), &environment, None)).await?;
        }
        Ok(account)
    }

    /// Gives and takes rights, where whoever speaks may.
    pub(crate) async fn change_rights(
        self: &Arc<Core>,
        presented: &[Credential],
        account: &str,
        (add, remove): (&Rights, &Rights),
        right: &Right,
        context: &Context,
    ) -> Outcome {
        let caller = match self.recognise(presented, context).await {
            Ok(Recognised { caller, .. }) => caller,
            Err((caller, refusal)) => return Outcome::told(caller, Err(refusal)),
        };
        let allowed = Core::somebody(&caller, presented).and_then(|who| who.may(right).map(|()| who));
        let result = match allowed {
            Ok(who) => {
                let admin = Admin::new(self, Operator::peer(context, Some(&who)));
                self.by(context, admin.change_rights(account, add, remove)).await
            }
            Err(refusal) => Err(refusal),
        };
        Outcome::told(caller, result.map(|account| Answer::Rights(account.rights)))
    }
}
