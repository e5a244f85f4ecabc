//! The operator's own secret: one text that is nobody's account, and holds the rights that the operator has given it.
//!
//! Kept as its hash, and compared in the same time wherever two differ. Whoever guesses is charged to their source before anything
//! is compared, as for a password, and every use that succeeds has its line in the audit: nobody's name stands behind it, so when
//! and from where is all that there is to know. It begins no session and signs no token.
//!
//! It refuses to know how a peer shows it.

use subtle::ConstantTimeEq;

use crate::Core;
use crate::account::Rights;
use crate::command::{Context, ProviderName};
use crate::credential::About;
use crate::policy::may_try_password;
use crate::provider::ProviderKind;
use crate::refusal::Refusal;
use crate::reply::{Method, Principal};
use crate::scope::Scopes;
use crate::secret::Secret;
use crate::store::TokenHash;
use crate::throttle::{Key, Settled};
use crate::token::hash;

/// The shortest text that is taken for one, in bytes: it opens more than a password, and there is no second one beside it.
pub const SHORTEST: usize = 32;

/// Of so many different bytes it is made at least. One that was drawn by chance has more, also where it is written in hexadecimal; one
/// that somebody typed over and over until it was long enough has not.
const DIFFERENT: usize = 8;

fn is_plain(text: &[u8]) -> bool {
    text.iter().collect::<std::collections::BTreeSet<_>>().len() < DIFFERENT
}

/// A secret and what it is good for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OperatorSecret {
    hash: TokenHash,
    rights: Rights,
}

impl OperatorSecret {
    /// One of this text, with these rights.
    ///
    /// # Errors
    /// It is shorter than [`SHORTEST`], or too plain to have been drawn; one sentence for people.
    pub fn new(text: &Secret, rights: Rights) -> Result<OperatorSecret, String> {
        match text.expose().len() {
            length if length < SHORTEST => {
                Err(format!("has {length} bytes; a secret that opens everything has {SHORTEST} at least"))
            }
            _ if is_plain(text.expose()) => {
                Err(format!("repeats fewer than {DIFFERENT} characters, as an example does; draw one by chance"))
            }
            _ => Ok(OperatorSecret { hash: hash(text), rights }),
        }
    }

    fn is(&self, shown: &Secret) -> bool {
        hash(shown).as_slice().ct_eq(self.hash.as_slice()).into()
    }
}

impl Core {
    /// Whether there is such a secret at all. Where there is none, one that is shown says nothing.
    pub(crate) fn has_operator_secret(&self) -> bool {
        self.providers().first_of(|kind| matches!(kind, ProviderKind::Secret(_))).is_ok()
    }

    /// Whoever shows the operator's secret.
    pub(crate) fn recognise_operator_secret(&self, shown: &Secret, about: &About, context: &Context) -> Result<Principal, Refusal> {
        may_try_password(self.settings().requires_secure(context.gate), &context.peer)?;
        let providers = self.providers();
        let provider = providers.first_of(|kind| matches!(kind, ProviderKind::Secret(_)))?;
        let ProviderKind::Secret(secret) = &provider.kind else { return Err(Refusal::UnknownProvider) };
        let now = self.clock.now();
        let charge = self.throttle.admit(self.steady(), &[Key::Source(context.peer.address)])?;
        if !secret.is(shown) {
            self.throttle.settle(charge, Settled::Failed);
            return Err(Refusal::InvalidCredentials);
        }
        self.throttle.settle(charge, Settled::Proved);
        self.audit.note(self.entry(now, "operator_secret", context, about));
        Ok(Principal {
            session: None,
            account: None,
            client: None,
            scopes: Scopes::default(),
            rights: secret.rights.clone(),
            terminal: None,
            provider: Some(ProviderName(provider.name.clone())),
            method: Method::OperatorSecret,
            spelling: 0,
            expires_at: None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_secret_is_none() {
        let new = |text: &str| OperatorSecret::new(&Secret::new(text), Rights::default());
        let long = "0123456789abcdef".repeat(4);
        assert!(new(&long[..SHORTEST - 1]).is_err());
        let secret = new(&long[..SHORTEST]).expect("long enough");
        assert!(secret.is(&Secret::new(&long[..SHORTEST])));
        for other in ["", &long[..=SHORTEST], &long[..SHORTEST].to_uppercase()] {
            assert!(!secret.is(&Secret::new(other)), "{other:?}");
        }
    }

    #[test]
    fn one_that_was_typed_over_and_over_is_none() {
        for text in ["changeme".repeat(8), "0".repeat(64), "secret".repeat(9), "example".repeat(7)] {
            assert!(OperatorSecret::new(&Secret::new(text.as_str()), Rights::default()).is_err(), "{text}");
        }
    }
}
