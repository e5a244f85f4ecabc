//! What the store in memory holds, and what of it changes together.

use std::collections::{BTreeMap, VecDeque};

use gatepost_identity::account::{Account, AccountId, Client, ClientId, NameKey, cut_off_after};
use gatepost_identity::api_key::{ApiKey, Owner};
use gatepost_identity::audit::{AuditEntry, AuditRow, chain};
use gatepost_identity::clock::{Timestamp, system_now};
use gatepost_identity::family::Family;
use gatepost_identity::keyring::SigningKey;
use gatepost_identity::reply::Reason;
use gatepost_identity::session::{Ended, Session, SessionId};
use gatepost_identity::store::{
    Change, Grant, MOST_OVER, NewSession, Past, StoreError, StoredTerminal, Token, TokenHash, Which, Written, still_as_decided,
};
use gatepost_identity::terminal::TerminalName;
use gatepost_identity::throttle::ThrottleRow;

/// The lines of the feed that are kept, as in SQLite's.
const FEED: usize = 10_000;

#[derive(Default)]
pub(super) struct State {
    pub(super) secrets: BTreeMap<&'static str, [u8; 32]>,
    pub(super) signing_keys: Vec<SigningKey>,
    pub(super) last_key: u64,
    pub(super) counters: BTreeMap<&'static str, u64>,
    pub(super) accounts: BTreeMap<AccountId, Account>,
    pub(super) clients: BTreeMap<ClientId, Client>,
    pub(super) sessions: BTreeMap<SessionId, Session>,
    pub(super) tokens: BTreeMap<TokenHash, Token>,
    pub(super) grants: BTreeMap<TokenHash, Grant>,
    pub(super) revoked: BTreeMap<TokenHash, Timestamp>,
    pub(super) families: BTreeMap<TokenHash, Family>,
    pub(super) api_keys: BTreeMap<TokenHash, ApiKey>,
    pub(super) terminals: BTreeMap<TerminalName, StoredTerminal>,
    pub(super) feed: VecDeque<(u64, Change)>,
    pub(super) audit: Vec<AuditRow>,
    pub(super) throttle: BTreeMap<u32, ThrottleRow>,
}

impl State {
    pub(super) fn as_decided(&self, session: &Session, account_version: Option<u64>, client_version: u64) -> Written {
        let of_account = match (session.account, account_version) {
            (None, None) => Written::Done,
            (Some(id), Some(version)) => {
                self.accounts.get(&id).map_or(Written::Stale, |account| still_as_decided(account.status, account.version, version))
            }
            _ => Written::Stale,
        };
        match (of_account, self.clients.get(&session.client)) {
            (Written::Done, Some(client)) => still_as_decided(client.status, client.version, client_version),
            _ => Written::Stale,
        }
    }

    pub(super) fn end(&mut self, which: &Which, reason: Reason, at: Timestamp) -> Vec<Session> {
        let these = |session: &Session| match which {
            Which::Session(id) => session.id == *id,
            Which::Account(id) => session.account == Some(*id),
            Which::Client(id) => session.client == *id,
            Which::UsedBefore(moment) => session.used_at <= *moment,
            Which::ExpiredBefore(moment) => session.expires_at.is_some_and(|end| end <= *moment),
        };
        self.grants.retain(|_, grant| {
            let to_come = match which {
                Which::Account(id) => grant.account == *id,
                Which::Client(id) => grant.client == *id,
                Which::Session(_) | Which::UsedBefore(_) | Which::ExpiredBefore(_) => false,
            };
            grant.redeemed.is_some() || !to_come
        });
        if let Which::Account(id) = which {
            let now = at.max(system_now());
            self.accounts.entry(*id).and_modify(|account| account.cut_off = cut_off_after(now, account.cut_off));
            self.families.retain(|_, family| family.account != *id);
        }
        let most = if matches!(which, Which::UsedBefore(_) | Which::ExpiredBefore(_)) { MOST_OVER } else { usize::MAX };
        let in_force = self.sessions.values().filter(|session| session.ended.is_none() && these(session));
        let ended: Vec<Session> = in_force.take(most).cloned().collect();
        for session in &ended {
            self.sessions.entry(session.id).and_modify(|session| session.ended = Some(Ended { at, reason }));
            self.tokens.retain(|_, token| token.session != session.id);
            self.tell(Change::SessionEnded(session.id, reason));
        }
        ended
    }

    /// As SQLite's. Of each kind the first rows go by their own order, which nobody can tell from any other.
    pub(super) fn forget(&mut self, past: &Past, most: usize) -> bool {
        let most_went = std::cell::Cell::new(false);
        let go = || {
            let (mut left, most_went) = (most, &most_went);
            move |over: bool| {
                let goes = over && left > 0;
                left -= usize::from(goes);
                most_went.set(most_went.get() || (goes && left == 0));
                !goes
            }
        };
        let (mut keys, mut revoked, mut tokens, mut families) = (go(), go(), go(), go());
        self.signing_keys.retain(|key| keys(key.retired.is_some_and(|retired| retired.until < past.now)));
        self.revoked.retain(|_, until| revoked(*until < past.ended));
        self.tokens.retain(|_, token| tokens(token.expires_at < past.now));
        self.families.retain(|_, family| {
            let before = if family.adopted { past.ended } else { past.now };
            families(family.expires_at < before)
        });
        let (mut sessions, mut api_keys, mut grants, mut lines) = (go(), go(), go(), go());
        self.sessions.retain(|_, session| sessions(session.ended.is_some_and(|end| end.at < past.ended)));
        self.api_keys.retain(|_, key| {
            let removed_at = match key.owner {
                Owner::Removed(at) => Some(at),
                Owner::Account(_) | Owner::Nobody => None,
            };
            api_keys([key.cancelled_at, key.expires_at, removed_at].into_iter().flatten().min().is_some_and(|end| end < past.ended))
        });
        let State { grants: kept, sessions: records, .. } = self;
        kept.retain(|_, grant| match grant.redeemed {
            Some(redeemed) => records.contains_key(&redeemed.session),
            None => grants(grant.expires_at < past.now),
        });
        let surplus = self.feed.len().saturating_sub(FEED);
        self.feed.drain(..surplus.min(most));
        let newest = self.audit.last().map(|row| row.number);
        let mut all_over = true;
        self.audit.retain(|row| {
            all_over &= row.at < past.audit && Some(row.number) != newest;
            lines(all_over)
        });
        most_went.get() || surplus >= most
    }

    /// As SQLite's.
    pub(super) fn erase_names(&mut self, of: AccountId, names: &[NameKey], after: u64, most: usize) -> Option<u64> {
        let told = |row: &&mut AuditRow| row.number > after && (row.name.is_some() || row.source.is_some());
        let (mut last, mut count) = (None, 0);
        for row in self.audit.iter_mut().filter(told).take(most) {
            (last, count) = (Some(row.number), count + 1);
            if row.account == Some(of) || row.name.as_ref().is_some_and(|name| names.contains(&NameKey::of(name))) {
                row.name = None;
            }
        }
        last.filter(|_| count == most)
    }

    pub(super) fn end_with_audit(&mut self, which: &Which, reason: Reason, at: Timestamp, audit: &AuditEntry) -> usize {
        let ended = self.end(which, reason, at);
        if let Which::Account(id) = which {
            self.tell(Change::Account(*id));
        }
        for session in &ended {
            self.append(AuditEntry {
                session: Some(session.id),
                account: session.account,
                client: Some(session.client.clone()),
                ..audit.clone()
            });
        }
        ended.len()
    }

    pub(super) fn begin(&mut self, new: NewSession) -> Result<Written, StoreError> {
        let session = new.session;
        let account = session.account.and_then(|id| self.accounts.get(&id));
        let is_cut_off = account.is_some_and(|account| account.cut_off != new.account_cut_off);
        if is_cut_off || self.as_decided(&session, new.account_version, new.client_version) == Written::Stale {
            return Ok(Written::Stale);
        }
        if self.sessions.contains_key(&session.id) {
            return Err(twice("session"));
        }
        if new.token.as_ref().is_some_and(|token| self.tokens.contains_key(&token.hash)) {
            return Err(twice("token"));
        }
        if let Some((replaced, audit)) = new.replaces {
            self.end_with_audit(&Which::Session(replaced), Reason::Displaced, session.started_at, &audit);
        }
        if let (Some(password), Some(id)) = (new.rehashed, session.account) {
            self.accounts.entry(id).and_modify(|account| account.password = Some(password));
        }
        if let Some(secret) = new.rehashed_secret {
            self.clients.entry(session.client.clone()).and_modify(|client| client.secret = Some(secret));
        }
        if let Some(token) = new.token {
            self.tokens.insert(token.hash, token);
        }
        self.sessions.insert(session.id, session);
        self.append(new.audit);
        Ok(Written::Done)
    }

    pub(super) fn put_key(&mut self, key: SigningKey) -> u64 {
        self.last_key += 1;
        let number = self.last_key;
        self.signing_keys.push(SigningKey { number, ..key });
        self.tell(Change::Keys);
        number
    }

    pub(super) fn end_family(&mut self, id: &TokenHash) {
        let Some(family) = self.families.remove(id) else { return };
        if family.adopted {
            self.revoked.insert(*id, family.expires_at);
        }
        self.tell(Change::Revoked(*id));
    }

    pub(super) fn cancel(&mut self, hash: &TokenHash, at: Timestamp) {
        self.api_keys.entry(*hash).and_modify(|key| {
            key.cancelled_at.get_or_insert(at);
        });
        self.tell(Change::Revoked(*hash));
    }

    pub(super) fn tell(&mut self, change: Change) {
        let number = self.feed_end() + 1;
        self.feed.push_back((number, change));
    }

    pub(super) fn feed_end(&self) -> u64 {
        self.feed.back().map_or(0, |(number, _)| *number)
    }

    pub(super) fn append(&mut self, entry: AuditEntry) {
        let (number, previous) = self.audit.last().map_or((1, [0; 32]), |last| (last.number + 1, last.hash));
        let hash = chain(number, 0, &entry, &previous);
        self.audit.push(AuditRow {
            number,
            node: 0,
            at: entry.at,
            action: entry.action.to_owned(),
            outcome: entry.outcome.to_owned(),
            gate: entry.gate,
            account: entry.account,
            client: entry.client,
            session: entry.session,
            attempt: entry.attempt,
            count: entry.count,
            name: entry.name,
            source: entry.source,
            previous,
            hash,
        });
    }
}

pub(super) fn twice(what: &str) -> StoreError {
    StoreError(format!("there is such a {what} already"))
}
