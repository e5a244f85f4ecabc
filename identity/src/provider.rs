//! The registry of providers: who can vouch for a peer, by the names that peers use.
//!
//! A provider has a kind, which says what it takes as proof, and aliases, so that `Paritech`, `BasicAuth` and `credentials`
//! can be one. Names are compared by their canonical key.

use crate::account::NameKey;
use crate::command::ProviderName;
use crate::jwt::Issuer;
use crate::operator_secret::OperatorSecret;
use crate::refusal::Refusal;

/// What a provider takes as proof.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProviderKind {
    /// Names and passwords of our own accounts, grants for them, and the tokens that we drew for them.
    Local,
    /// Tokens that these issuers have signed.
    Token(Vec<Issuer>),
    /// Keys that we made for our own accounts.
    ApiKey,
    /// One text that the operator has set, and nobody's account.
    Secret(OperatorSecret),
}

/// One provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Provider {
    /// Its name, kept with the sessions that it vouched for.
    pub name: String,
    /// What it takes.
    pub kind: ProviderKind,
    /// Other names that it answers to.
    pub aliases: Vec<String>,
}

/// All providers, in the operator's order.
pub struct Providers(Vec<(Provider, Vec<NameKey>)>);

impl Providers {
    /// The registry.
    ///
    /// # Errors
    /// A name or alias that two providers claim; one sentence for people.
    pub fn new(providers: Vec<Provider>) -> Result<Providers, String> {
        let mut registry: Vec<(Provider, Vec<NameKey>)> = Vec::new();
        for provider in providers {
            let keys: Vec<NameKey> =
                std::iter::once(&provider.name).chain(&provider.aliases).map(|name| NameKey::of(name)).collect();
            let taken = keys
                .iter()
                .enumerate()
                .find(|(index, key)| keys[..*index].contains(key) || registry.iter().any(|(_, others)| others.contains(key)));
            if let Some((index, _)) = taken {
                let name = provider.aliases.get(index.wrapping_sub(1)).unwrap_or(&provider.name);
                return Err(format!("the provider name {name:?} stands for two providers, or twice for one"));
            }
            registry.push((provider, keys));
        }
        Ok(Providers(registry))
    }

    /// The provider of this name that has our own accounts; without a name, the first such one.
    ///
    /// # Errors
    /// [`Refusal::UnknownProvider`], also where the one of this name takes no passwords.
    pub fn local(&self, name: Option<&ProviderName>) -> Result<&Provider, Refusal> {
        let is_local = |provider: &&Provider| matches!(provider.kind, ProviderKind::Local);
        match name {
            None => self.0.iter().map(|(provider, _)| provider).find(is_local).ok_or(Refusal::UnknownProvider),
            Some(_) => self.find(name).and_then(|found| Some(found).filter(is_local).ok_or(Refusal::UnknownProvider)),
        }
    }

    /// The first provider of a kind.
    ///
    /// # Errors
    /// [`Refusal::UnknownProvider`].
    pub fn first_of(&self, is_one: impl Fn(&ProviderKind) -> bool) -> Result<&Provider, Refusal> {
        self.0.iter().map(|(provider, _)| provider).find(|provider| is_one(&provider.kind)).ok_or(Refusal::UnknownProvider)
    }

    /// The provider of this name; without a name, the first one there is.
    ///
    /// # Errors
    /// [`Refusal::UnknownProvider`].
    pub fn find(&self, name: Option<&ProviderName>) -> Result<&Provider, Refusal> {
        let found = match name {
            None => self.0.first(),
            Some(name) => {
                let key = NameKey::of(&name.0);
                self.0.iter().find(|(_, keys)| keys.contains(&key))
            }
        };
        found.map(|(provider, _)| provider).ok_or(Refusal::UnknownProvider)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn provider(name: &str, aliases: &[&str]) -> Provider {
        let aliases = aliases.iter().map(|&alias| alias.to_owned()).collect();
        Provider { name: name.to_owned(), kind: ProviderKind::Local, aliases }
    }

    #[test]
    fn a_provider_is_found_by_any_spelling_of_any_of_its_names() {
        let providers = Providers::new(vec![provider("local", &["Paritech", "BasicAuth"])]).expect("no clash");
        for name in ["local", "PARITECH", "basicauth"] {
            assert_eq!(providers.find(Some(&ProviderName(name.to_owned()))).expect("known").name, "local");
        }
        for name in ["", "Bearer", "раritech", "../local"] {
            assert_eq!(providers.find(Some(&ProviderName(name.to_owned()))), Err(Refusal::UnknownProvider), "{name}");
        }
        assert_eq!(providers.find(None).expect("the first").name, "local");
    }

    #[test]
    fn two_providers_cannot_share_a_name() {
        assert!(Providers::new(vec![provider("a", &["X"]), provider("b", &["x"])]).is_err());
        assert!(Providers::new(vec![provider("a", &["A"])]).is_err());
    }
}
