//! The store in memory: for tests of other crates and for small tools. What SQLite's keeps, this keeps until it is
//! dropped, with the same answers; one suite of tests holds both to it.
//!
//! One lock is one transaction. A verb looks first and changes then, so that nothing is left half done.

mod accounts;
mod state;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use gatepost_identity::account::{Account, AccountId, Client, ClientId, NameKey};
use gatepost_identity::api_key::{ApiKey, MOST_API_KEYS, Owner};
use gatepost_identity::audit::{AuditEntry, AuditRow};
use gatepost_identity::clock::Timestamp;
use gatepost_identity::family::{Family, MOST_FAMILIES};
use gatepost_identity::keyring::{Retired, SigningKey};
use gatepost_identity::reply::Reason;
use gatepost_identity::session::{Session, SessionId};
use gatepost_identity::store::{
    Change, Grant, KeysWritten, NewAccount, NewApiKeys, NewSession, Page, Past, Placed, Redeemed, Redemption, Rehashed, Roll,
    Store, StoreError, StoredSession, StoredTerminal, Token, TokenHash, Which, Written,
};
use gatepost_identity::terminal::TerminalName;
use gatepost_identity::throttle::ThrottleRow;

use self::state::{State, twice};

/// The store in memory.
#[derive(Default)]
pub struct Memory(Mutex<State>);

impl Memory {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Store for Memory {
    async fn secret(&self, name: &'static str, fresh: [u8; 32]) -> Result<[u8; 32], StoreError> {
        Ok(*self.state().secrets.entry(name).or_insert(fresh))
    }

    async fn signing_keys(&self, fresh: SigningKey) -> Result<Vec<SigningKey>, StoreError> {
        let mut state = self.state();
        if !state.signing_keys.iter().any(|key| key.purpose == fresh.purpose && key.retired.is_none()) {
            state.put_key(fresh);
        }
        Ok(state.signing_keys.clone())
    }

    async fn keys(&self) -> Result<Vec<SigningKey>, StoreError> {
        Ok(self.state().signing_keys.clone())
    }

    async fn add_key(&self, key: SigningKey, audit: AuditEntry) -> Result<u64, StoreError> {
        let mut state = self.state();
        let number = state.put_key(key);
        state.append(audit);
        Ok(number)
    }

    async fn retire_key(&self, number: u64, retired: Retired, audit: AuditEntry) -> Result<(), StoreError> {
        let mut state = self.state();
        if let Some(key) = state.signing_keys.iter_mut().find(|key| key.number == number) {
            let was = key.retired.unwrap_or(retired);
            key.retired = Some(Retired { at: was.at, until: was.until.min(retired.until) });
        }
        state.tell(Change::Keys);
        state.append(audit);
        Ok(())
    }

    async fn account_named(&self, key: &NameKey) -> Result<Option<Account>, StoreError> {
        Ok(self.state().account_named(key).cloned())
    }

    async fn account(&self, id: AccountId) -> Result<Option<Account>, StoreError> {
        Ok(self.state().accounts.get(&id).cloned())
    }

    async fn account_known_as(&self, subject: &str) -> Result<Option<Account>, StoreError> {
        Ok(self.state().accounts.values().find(|account| account.subject == subject).cloned())
    }

    async fn accounts(&self, page: Page<NameKey>) -> Result<Vec<Account>, StoreError> {
        let state = self.state();
        let by_key: BTreeMap<NameKey, &Account> = state.accounts.values().map(|account| (account.name.key(), account)).collect();
        let after = |key: &NameKey| page.after.as_ref().is_none_or(|after| key > after);
        Ok(by_key.into_iter().filter(|(key, _)| after(key)).take(page.limit).map(|(_, account)| account.clone()).collect())
    }

    async fn add_account(&self, account: Account, audit: AuditEntry) -> Result<Placed, StoreError> {
        let mut state = self.state();
        let placed = state.add(NewAccount { account, api_keys: Vec::new() });
        if placed == Placed::Done {
            state.append(audit);
        }
        Ok(placed)
    }

    async fn add_accounts(&self, new: Vec<NewAccount>, audit: AuditEntry) -> Result<Vec<Placed>, StoreError> {
        let mut state = self.state();
        let placed: Vec<Placed> = new.into_iter().map(|new| state.add(new)).collect();
        let kept = placed.iter().filter(|placed| **placed == Placed::Done).count();
        if kept > 0 {
            state.append(AuditEntry { count: u32::try_from(kept).unwrap_or(u32::MAX), ..audit });
        }
        Ok(placed)
    }

    async fn change_account(&self, account: Account, end: Option<Reason>, audit: AuditEntry) -> Result<Placed, StoreError> {
        let mut state = self.state();
        let Some(stored) = state.accounts.get(&account.id).filter(|stored| stored.version == account.version) else {
            return Ok(Placed::Stale);
        };
        let cut_off = account.cut_off.max(stored.cut_off);
        if let Some(field) = state.taken(&account) {
            return Ok(Placed::Taken(field));
        }
        let id = account.id;
        state.accounts.insert(id, Account { cut_off, version: account.version + 1, ..account });
        if let Some(reason) = end {
            state.end(&Which::Account(id), reason, audit.at);
        }
        state.tell(Change::Account(id));
        state.append(audit);
        Ok(Placed::Done)
    }

    async fn remove_account(&self, id: AccountId, version: u64, audit: AuditEntry) -> Result<Written, StoreError> {
        let mut state = self.state();
        if state.accounts.get(&id).is_none_or(|stored| stored.version != version) {
            return Ok(Written::Stale);
        }
        let names = state.accounts.get(&id).map(Account::names).unwrap_or_default();
        state.erase_names(id, &names, 0, usize::MAX);
        state.end(&Which::Account(id), Reason::Revoked, audit.at);
        state.accounts.remove(&id);
        let keys = state.api_keys.values_mut().filter(|key| key.account() == Some(id));
        keys.for_each(|key| key.owner = Owner::Removed(audit.at));
        state.families.retain(|_, family| family.account != id);
        state.tell(Change::Account(id));
        state.append(audit);
        Ok(Written::Done)
    }

    async fn client(&self, id: &ClientId) -> Result<Option<Client>, StoreError> {
        Ok(self.state().clients.get(id).cloned())
    }

    async fn clients(&self, page: Page<ClientId>) -> Result<Vec<Client>, StoreError> {
        let after = |id: &ClientId| page.after.as_ref().is_none_or(|after| id > after);
        Ok(self.state().clients.values().filter(|client| after(&client.id)).take(page.limit).cloned().collect())
    }

    async fn add_client(&self, client: Client, audit: AuditEntry) -> Result<Placed, StoreError> {
        let mut state = self.state();
        if state.clients.contains_key(&client.id) {
            return Ok(Placed::Taken("id"));
        }
        state.clients.insert(client.id.clone(), client);
        state.append(audit);
        Ok(Placed::Done)
    }

    async fn change_client(&self, client: Client, end: Option<Reason>, audit: AuditEntry) -> Result<Written, StoreError> {
        let mut state = self.state();
        if state.clients.get(&client.id).is_none_or(|stored| stored.version != client.version) {
            return Ok(Written::Stale);
        }
        let id = client.id.clone();
        state.clients.insert(id.clone(), Client { version: client.version + 1, ..client });
        if let Some(reason) = end {
            state.end(&Which::Client(id.clone()), reason, audit.at);
        }
        state.tell(Change::Client(id));
        state.append(audit);
        Ok(Written::Done)
    }

    async fn remove_client(&self, id: ClientId, version: u64, audit: AuditEntry) -> Result<Written, StoreError> {
        let mut state = self.state();
        if state.clients.get(&id).is_none_or(|stored| stored.version != version) {
            return Ok(Written::Stale);
        }
        state.end(&Which::Client(id.clone()), Reason::Revoked, audit.at);
        state.clients.remove(&id);
        state.tell(Change::Client(id));
        state.append(audit);
        Ok(Written::Done)
    }

    async fn start_session(&self, new: NewSession) -> Result<Written, StoreError> {
        self.state().begin(new)
    }

    async fn rehash(&self, rehashed: Rehashed) -> Result<(), StoreError> {
        let mut state = self.state();
        if let Some((id, version, hash)) = rehashed.account
            && let Some(account) = state.accounts.get_mut(&id).filter(|account| account.version == version)
        {
            account.password = Some(hash);
        }
        if let Some((id, version, hash)) = rehashed.client
            && let Some(client) = state.clients.get_mut(&id).filter(|client| client.version == version)
        {
            client.secret = Some(hash);
        }
        Ok(())
    }

    async fn add_grant(&self, grant: Grant, audit: AuditEntry) -> Result<(), StoreError> {
        let mut state = self.state();
        if state.grants.contains_key(&grant.hash) {
            return Err(twice("grant"));
        }
        state.grants.insert(grant.hash, grant);
        state.append(audit);
        Ok(())
    }

    async fn grant(&self, hash: &TokenHash) -> Result<Option<Grant>, StoreError> {
        Ok(self.state().grants.get(hash).cloned())
    }

    async fn redeem(&self, grant: TokenHash, new: NewSession, reuse: AuditEntry) -> Result<Redeemed, StoreError> {
        let mut state = self.state();
        let Some(found) = state.grants.get(&grant) else { return Ok(Redeemed::Stale) };
        if let Some(first) = found.redeemed {
            state.end_with_audit(&Which::Session(first.session), Reason::Revoked, reuse.at, &reuse);
            return Ok(Redeemed::Spent);
        }
        let redemption = Redemption { at: new.session.started_at, session: new.session.id };
        if state.begin(new)? == Written::Stale {
            return Ok(Redeemed::Stale);
        }
        state.grants.entry(grant).and_modify(|grant| grant.redeemed = Some(redemption));
        Ok(Redeemed::Done)
    }

    async fn roll(&self, roll: Roll) -> Result<Written, StoreError> {
        let mut state = self.state();
        let Some(session) = state.sessions.get(&roll.session) else { return Ok(Written::Stale) };
        let presented = state.tokens.get(&roll.presented).is_some_and(|token| token.session == roll.session);
        let decided = state.as_decided(session, roll.account_version, roll.client_version);
        if session.ended.is_some() || !presented || decided == Written::Stale {
            return Ok(Written::Stale);
        }
        if state.tokens.contains_key(&roll.successor.hash) && !roll.given_up.contains(&roll.successor.hash) {
            return Err(twice("token"));
        }
        let at = roll.at;
        state.tokens.entry(roll.presented).and_modify(|token| token.presented_at = token.presented_at.or(Some(at)));
        if let Some(supersedes) = roll.supersedes {
            state.tokens.entry(supersedes).and_modify(|token| token.superseded_at = token.superseded_at.or(Some(at)));
        }
        for hash in &roll.given_up {
            state.tokens.remove(hash);
        }
        state.tokens.insert(roll.successor.hash, roll.successor);
        state.sessions.entry(roll.session).and_modify(|session| session.used_at = at);
        Ok(Written::Done)
    }

    async fn end_descendants(&self, of: TokenHash, audit: AuditEntry) -> Result<(), StoreError> {
        let mut state = self.state();
        let mut ended = BTreeSet::new();
        let mut generation = vec![of];
        while let Some(parent) = generation.pop() {
            let children = state.tokens.values().filter(|token| token.parent == Some(parent) && token.hash != of);
            generation.extend(children.map(|token| token.hash).filter(|hash| ended.insert(*hash)));
        }
        let session = ended.first().and_then(|hash| state.tokens.get(hash)).map(|token| token.session);
        state.tokens.retain(|hash, _| !ended.contains(hash));
        if let Some(session) = session {
            state.tell(Change::TokensEnded(session, ended.into_iter().collect()));
        }
        state.append(audit);
        Ok(())
    }

    async fn session_by_token(&self, token: &TokenHash, since: Timestamp) -> Result<Option<StoredSession>, StoreError> {
        let state = self.state();
        let Some(asked) = state.tokens.get(token) else { return Ok(None) };
        let Some(session) = state.sessions.get(&asked.session) else { return Ok(None) };
        let speaks = |other: &&Token| {
            other.session == asked.session && (other.hash == *token || other.superseded_at.is_none_or(|at| at >= since))
        };
        let mut tokens: Vec<Token> = state.tokens.values().filter(speaks).cloned().collect();
        tokens.sort_by_key(|token| (token.issued_at, token.hash));
        Ok(Some(StoredSession { session: session.clone(), tokens }))
    }

    async fn session(&self, id: SessionId) -> Result<Option<Session>, StoreError> {
        Ok(self.state().sessions.get(&id).cloned())
    }

    async fn sessions(&self, of: Option<AccountId>, page: Page<SessionId>) -> Result<Vec<Session>, StoreError> {
        let listed = |session: &&Session| {
            session.ended.is_none()
                && of.is_none_or(|account| session.account == Some(account))
                && page.after.is_none_or(|after| session.id < after)
        };
        Ok(self.state().sessions.values().rev().filter(listed).take(page.limit).cloned().collect())
    }

    async fn end_sessions(&self, which: Which, reason: Reason, at: Timestamp, audit: AuditEntry) -> Result<usize, StoreError> {
        Ok(self.state().end_with_audit(&which, reason, at, &audit))
    }

    async fn revoke(&self, token: TokenHash, until: Timestamp, session: SessionId, audit: AuditEntry) -> Result<(), StoreError> {
        let mut state = self.state();
        state.revoked.entry(token).or_insert(until);
        state.tell(Change::Revoked(token));
        state.tell(Change::SessionEnded(session, Reason::Revoked));
        state.append(audit);
        Ok(())
    }

    async fn is_revoked(&self, token: &TokenHash) -> Result<bool, StoreError> {
        Ok(self.state().revoked.contains_key(token))
    }

    async fn revoked_marks(&self, limit: usize) -> Result<Vec<[u8; 4]>, StoreError> {
        Ok(self.state().revoked.keys().take(limit).map(mark).collect())
    }

    async fn revoke_signed(&self, token: TokenHash, until: Timestamp, audit: AuditEntry) -> Result<(), StoreError> {
        let mut state = self.state();
        let kept = state.revoked.entry(token).or_insert(until);
        *kept = until.max(*kept);
        state.tell(Change::Revoked(token));
        state.append(audit);
        Ok(())
    }

    async fn put_family(&self, family: Family, was: Option<i64>, cut_off: Timestamp) -> Result<Written, StoreError> {
        let mut state = self.state();
        let stored = state.families.get(&family.id).map(|stored| stored.current);
        if state.accounts.get(&family.account).is_none_or(|account| account.cut_off != cut_off) || stored != was {
            return Ok(Written::Stale);
        }
        let of_account = |other: &&Family| other.account == family.account && other.id != family.id;
        let mut others: Vec<_> = state.families.values().filter(of_account).map(|other| (other.issued_at, other.id)).collect();
        others.sort_unstable();
        let surplus = (others.len() + 1).saturating_sub(MOST_FAMILIES);
        others.iter().take(surplus).for_each(|(_, id)| state.end_family(id));
        state.families.insert(family.id, family);
        Ok(Written::Done)
    }

    async fn family(&self, id: &TokenHash) -> Result<Option<Family>, StoreError> {
        Ok(self.state().families.get(id).cloned())
    }

    async fn end_family(&self, id: TokenHash, audit: AuditEntry) -> Result<(), StoreError> {
        let mut state = self.state();
        if state.families.contains_key(&id) {
            state.end_family(&id);
            state.append(audit);
        }
        Ok(())
    }

    async fn reserve(&self, name: &'static str, count: u64) -> Result<u64, StoreError> {
        let mut state = self.state();
        let next = state.counters.entry(name).or_insert(1);
        let first = *next;
        *next += count;
        Ok(first)
    }

    async fn forget(&self, past: Past, most: usize) -> Result<bool, StoreError> {
        Ok(self.state().forget(&past, most))
    }

    async fn erase_names(&self, of: AccountId, names: Vec<NameKey>, after: u64, most: usize) -> Result<Option<u64>, StoreError> {
        Ok(self.state().erase_names(of, &names, after, most))
    }

    async fn add_api_keys(&self, new: NewApiKeys, audit: AuditEntry) -> Result<KeysWritten, StoreError> {
        let mut state = self.state();
        if !state.accounts.contains_key(&new.account) {
            return Ok(KeysWritten::Stale);
        }
        if new.keys.iter().any(|key| state.api_keys.contains_key(&key.hash)) {
            return Err(twice("API key"));
        }
        let left = || state.api_keys.values().filter(|key| key.account() == Some(new.account) && key.cancelled_at.is_none());
        let is_replaced = |key: &&ApiKey| new.in_place_of.as_ref().is_some_and(|environment| key.environment == *environment);
        let replaced: Vec<TokenHash> = left().filter(is_replaced).map(|key| key.hash).collect();
        let in_force = left().filter(|key| key.standing(new.at).is_ok()).count();
        if new.keys.len() > replaced.len() && in_force + new.keys.len() > MOST_API_KEYS {
            return Ok(KeysWritten::Full);
        }
        replaced.iter().for_each(|hash| state.cancel(hash, new.at));
        new.keys.into_iter().for_each(|key| state.put_api_key(key));
        let cancelled = state.api_keys.values().filter(|key| key.account() == Some(new.account));
        let mut cancelled: Vec<_> = cancelled.filter_map(|key| Some((Reverse(key.cancelled_at?), key.hash))).collect();
        cancelled.sort_unstable();
        for (_, hash) in cancelled.into_iter().skip(MOST_API_KEYS) {
            state.api_keys.remove(&hash);
        }
        state.append(audit);
        Ok(KeysWritten::Done)
    }

    async fn add_nobodys_keys(&self, keys: Vec<ApiKey>, audit: AuditEntry) -> Result<Placed, StoreError> {
        let mut state = self.state();
        if state.has_one_of(&keys) {
            return Ok(Placed::Taken("key"));
        }
        keys.into_iter().for_each(|key| state.put_api_key(key));
        state.append(audit);
        Ok(Placed::Done)
    }

    async fn api_key_marks(&self, limit: usize) -> Result<Vec<[u8; 4]>, StoreError> {
        Ok(self.state().api_keys.keys().take(limit).map(mark).collect())
    }

    async fn api_key(&self, hash: &TokenHash) -> Result<Option<ApiKey>, StoreError> {
        Ok(self.state().api_keys.get(hash).cloned())
    }

    async fn api_keys(&self, of: AccountId) -> Result<Vec<ApiKey>, StoreError> {
        let mut keys: Vec<ApiKey> = self.state().api_keys.values().filter(|key| key.account() == Some(of)).cloned().collect();
        keys.sort_by_key(|key| (key.cancelled_at.is_some(), Reverse(key.created_at), key.hash));
        keys.truncate(1000);
        Ok(keys)
    }

    async fn cancel_api_key(&self, hash: TokenHash, at: Timestamp, audit: AuditEntry) -> Result<(), StoreError> {
        let mut state = self.state();
        state.cancel(&hash, at);
        state.append(audit);
        Ok(())
    }

    async fn cancel_api_keys(&self, of: AccountId, at: Timestamp, audit: AuditEntry) -> Result<usize, StoreError> {
        let mut state = self.state();
        let stand = state.api_keys.values().filter(|key| key.account() == Some(of) && key.cancelled_at.is_none());
        let stand: Vec<TokenHash> = stand.map(|key| key.hash).collect();
        stand.iter().for_each(|hash| state.cancel(hash, at));
        state.append(audit);
        Ok(stand.len())
    }

    async fn terminals(&self) -> Result<Vec<StoredTerminal>, StoreError> {
        Ok(self.state().terminals.values().cloned().collect())
    }

    async fn add_terminal(&self, terminal: StoredTerminal, audit: AuditEntry) -> Result<Placed, StoreError> {
        let mut state = self.state();
        if state.terminals.contains_key(&terminal.name) {
            return Ok(Placed::Taken("name"));
        }
        state.terminals.insert(terminal.name.clone(), terminal);
        state.append(audit);
        Ok(Placed::Done)
    }

    async fn change_terminal(&self, terminal: StoredTerminal, audit: AuditEntry) -> Result<Written, StoreError> {
        let mut state = self.state();
        if state.terminals.get(&terminal.name).is_none_or(|stored| stored.version != terminal.version) {
            return Ok(Written::Stale);
        }
        let version = terminal.version + 1;
        state.terminals.insert(terminal.name.clone(), StoredTerminal { version, ..terminal });
        state.append(audit);
        Ok(Written::Done)
    }

    async fn remove_terminal(&self, name: TerminalName, version: u64, audit: AuditEntry) -> Result<Written, StoreError> {
        let mut state = self.state();
        if state.terminals.get(&name).is_none_or(|stored| stored.version != version) {
            return Ok(Written::Stale);
        }
        state.terminals.remove(&name);
        state.append(audit);
        Ok(Written::Done)
    }

    async fn feed(&self, after: u64, limit: usize) -> Result<Vec<(u64, Change)>, StoreError> {
        Ok(self.state().feed.iter().filter(|(number, _)| *number > after).take(limit).cloned().collect())
    }

    async fn feed_end(&self) -> Result<u64, StoreError> {
        Ok(self.state().feed_end())
    }

    async fn audit(&self, entries: Vec<AuditEntry>) -> Result<(), StoreError> {
        let mut state = self.state();
        for entry in entries {
            state.append(entry);
        }
        Ok(())
    }

    async fn audit_before(&self, before: Option<u64>, limit: usize) -> Result<Vec<AuditRow>, StoreError> {
        let earlier = |row: &&AuditRow| before.is_none_or(|before| row.number < before);
        Ok(self.state().audit.iter().rev().filter(earlier).take(limit).cloned().collect())
    }

    async fn audit_after(&self, after: u64, limit: usize) -> Result<Vec<AuditRow>, StoreError> {
        Ok(self.state().audit.iter().filter(|row| row.number > after).take(limit).cloned().collect())
    }

    async fn throttle(&self) -> Result<Vec<ThrottleRow>, StoreError> {
        Ok(self.state().throttle.values().cloned().collect())
    }

    async fn save_throttle(&self, rows: Vec<ThrottleRow>) -> Result<(), StoreError> {
        let mut state = self.state();
        for row in rows {
            if row.key == [0; 16] {
                state.throttle.remove(&row.slot);
            } else {
                state.throttle.insert(row.slot, row);
            }
        }
        Ok(())
    }
}

fn mark([a, b, c, d, ..]: &TokenHash) -> [u8; 4] {
    [*a, *b, *c, *d]
}
