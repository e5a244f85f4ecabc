//! What speaks for an account by itself, and was seen before: a bounded table beside the sessions.
//!
//! What is here was verified once. It is pushed out by whatever revokes it, and the account behind it is the one that sessions
//! have too, kept up by the feed. Past the bound the one that came first goes, and is verified again when it comes back.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use super::Live;
use super::tables::Tables;
use crate::access::Signed;
use crate::account::{Account, AccountId};
use crate::api_key::ApiKey;
use crate::store::TokenHash;

/// What was found to speak for an account.
#[derive(Clone, Debug)]
pub(crate) enum Known {
    /// A key that we made.
    ApiKey(Arc<ApiKey>),
    /// A token that we have signed, or whoever had the key before us.
    Signed(Arc<Signed>),
}

/// The table, by the hash of what is shown.
#[derive(Default)]
pub(super) struct KnownTable {
    entries: HashMap<TokenHash, Entry>,
    /// By what revokes them: of one thing that is revoked there may be several spellings.
    by_revocation: BTreeSet<(TokenHash, TokenHash)>,
    /// In the order in which they came. May hold some that are gone.
    order: VecDeque<TokenHash>,
}

struct Entry {
    known: Known,
    account: AccountId,
    revocations: Vec<TokenHash>,
}

impl Live {
    /// What this speaks for, if it was seen before, with its account as it is now.
    pub(crate) fn known(&self, shown: &TokenHash) -> Option<(Known, Arc<Account>)> {
        let tables = self.tables();
        let entry = tables.known.entries.get(shown)?;
        let held = tables.accounts.get(&entry.account)?;
        Some((entry.known.clone(), Arc::clone(&held.account)))
    }

    /// The account with this public id, if anything here rests on it and the feed has kept it up since it was read.
    pub(crate) fn account_known_as(&self, subject: &str) -> Option<Arc<Account>> {
        let tables = self.tables();
        let held = tables.accounts.get(tables.subjects.get(subject)?)?;
        held.is_followed.then(|| Arc::clone(&held.account))
    }

    /// Takes in what was read and verified. To be called while the feed stands still where it stood before the reading began.
    pub(crate) fn know(&self, shown: TokenHash, revocations: Vec<TokenHash>, known: Known, account: Arc<Account>) {
        let mut tables = self.tables();
        if tables.known.entries.contains_key(&shown) {
            return;
        }
        let most = self.settings.now().kept_in_memory;
        while tables.known.entries.len() >= most.max(1) {
            let Some(first) = tables.known.order.pop_front() else { break };
            tables.unknow(&first);
        }
        if tables.known.order.len() > 2 * most {
            let KnownTable { entries, order, .. } = &mut tables.known;
            order.retain(|hash| entries.contains_key(hash));
        }
        let id = account.id;
        tables.take_account(account, true);
        tables.known.by_revocation.extend(revocations.iter().map(|revocation| (*revocation, shown)));
        tables.known.order.push_back(shown);
        tables.known.entries.insert(shown, Entry { known, account: id, revocations });
    }

    /// Follows the feed: the keys are others now, so that whatever was signed is to be verified again.
    pub(crate) fn keys_changed(&self) {
        let mut tables = self.tables();
        let signed = tables.known.entries.iter().filter(|(_, entry)| matches!(entry.known, Known::Signed(_)));
        let signed: Vec<TokenHash> = signed.map(|(shown, _)| *shown).collect();
        for shown in signed {
            tables.unknow(&shown);
        }
    }

    /// Follows the feed: this is no longer good.
    pub(crate) fn revoked(&self, revocation: &TokenHash) {
        let mut tables = self.tables();
        tables.revoked.add(revocation);
        let these = (*revocation, [0; 32])..=(*revocation, [255; 32]);
        let shown: Vec<TokenHash> = tables.known.by_revocation.range(these).map(|(_, shown)| *shown).collect();
        for shown in shown {
            tables.unknow(&shown);
        }
    }
}

impl Tables {
    fn unknow(&mut self, shown: &TokenHash) {
        let Some(entry) = self.known.entries.remove(shown) else { return };
        for revocation in entry.revocations {
            self.known.by_revocation.remove(&(revocation, *shown));
        }
        self.release_account(entry.account);
    }

    /// Forgets what speaks for accounts that are chosen.
    pub(super) fn unknow_of(&mut self, chosen: impl Fn(AccountId) -> bool) {
        let these = self.known.entries.iter().filter(|(_, entry)| chosen(entry.account));
        let these: Vec<TokenHash> = these.map(|(shown, _)| *shown).collect();
        for shown in these {
            self.unknow(&shown);
        }
    }
}
