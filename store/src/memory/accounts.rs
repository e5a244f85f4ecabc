//! Accounts in memory: who has a name, an address or an id, and whether a new one may.

use std::collections::BTreeSet;

use gatepost_identity::account::{Account, NameKey};
use gatepost_identity::api_key::{ApiKey, Owner};
use gatepost_identity::store::{Change, NewAccount, Placed, TokenHash};

use super::state::State;

impl State {
    pub(super) fn account_named(&self, key: &NameKey) -> Option<&Account> {
        self.accounts.values().find(|account| has_key(account, key))
    }

    /// As SQLite's: the name before the address, and both before the public id.
    pub(super) fn taken(&self, account: &Account) -> Option<&'static str> {
        let others = || self.accounts.values().filter(|other| other.id != account.id);
        let named = |key: &NameKey| others().any(|other| has_key(other, key));
        if named(&account.name.key()) {
            Some("name")
        } else if account.email.as_ref().is_some_and(|email| named(&email.key())) {
            Some("email")
        } else if others().any(|other| other.subject == account.subject) {
            Some("id")
        } else {
            None
        }
    }

    pub(super) fn add(&mut self, NewAccount { account, api_keys }: NewAccount) -> Placed {
        if let Some(field) = self.taken(&account) {
            return Placed::Taken(field);
        }
        if self.accounts.contains_key(&account.id) {
            return Placed::Taken("id");
        }
        if self.has_one_of(&api_keys) {
            return Placed::Taken("key");
        }
        self.accounts.insert(account.id, account);
        api_keys.into_iter().for_each(|key| self.put_api_key(key));
        Placed::Done
    }

    /// Whether one of these is here already, other than left behind by a removed account, or is among them twice.
    pub(super) fn has_one_of(&self, keys: &[ApiKey]) -> bool {
        let hashes: BTreeSet<TokenHash> = keys.iter().map(|key| key.hash).collect();
        hashes.len() < keys.len()
            || hashes.iter().any(|hash| self.api_keys.get(hash).is_some_and(|key| !matches!(key.owner, Owner::Removed(_))))
    }

    pub(super) fn put_api_key(&mut self, key: ApiKey) {
        self.tell(Change::ApiKeyMade(key.hash));
        self.api_keys.insert(key.hash, key);
    }
}

fn has_key(account: &Account, key: &NameKey) -> bool {
    account.name.key() == *key || account.email.as_ref().is_some_and(|email| email.key() == *key)
}
