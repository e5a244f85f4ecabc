//! The tables behind [`Live`](super::Live): who is in them, and how they hang together.
//!
//! Keeps one promise: a session, its tokens, and the account and client behind it come and go together. Decides nothing; the
//! lock and the order of things are `live.rs`'s.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use super::attachment::Mailbox;
use super::few::Few;
use super::known::KnownTable;
use super::marks::Marks;
use super::{Anew, Found, Lent};
use crate::account::{Account, AccountId, Client, ClientId};
use crate::clock::Timestamp;
use crate::command::ConnectionId;
use crate::reply::{Event, Principal, Reason};
use crate::session::{Session, SessionId};
use crate::store::{Token, TokenHash};

/// Entries are boxed: a table is half empty most of the time, and an empty place should be small.
#[derive(Default)]
pub(super) struct Tables {
    pub(super) sessions: HashMap<SessionId, Box<LiveSession>>,
    pub(super) tokens: HashMap<TokenHash, Box<LiveToken>>,
    pub(super) accounts: HashMap<AccountId, HeldAccount>,
    /// The same accounts by their public ids.
    pub(super) subjects: HashMap<String, AccountId>,
    /// What speaks for accounts without a session.
    pub(super) known: KnownTable,
    /// Which texts may be API keys.
    pub(super) api_keys: Marks,
    /// What may be revoked.
    pub(super) revoked: Marks,
    pub(super) clients: HashMap<ClientId, (Arc<Client>, usize)>,
    /// The clients that signed tokens come through, with or without a session.
    pub(super) kept_clients: HashMap<ClientId, Arc<Client>>,
    pub(super) attachments: HashMap<ConnectionId, Box<Entry>>,
    pub(super) expiries: BTreeSet<(Timestamp, ConnectionId)>,
    pub(super) last_number: u64,
}

/// An account that something here rests on.
pub(super) struct HeldAccount {
    pub(super) account: Arc<Account>,
    /// How many of the others rest on it.
    pub(super) users: usize,
    /// Whether it is as the feed has it: what the feed has told is in it, and what it will tell comes here. What a login was decided
    /// by was read before a hash was made, and the feed may have told of a change meanwhile that nobody here waited for.
    pub(super) is_followed: bool,
}

pub(super) struct LiveSession {
    pub(super) session: Arc<Session>,
    /// Whom a token of somebody else's vouches for, where the session rests on one. Neither account nor client stands behind it.
    pub(super) lent: Option<Arc<Lent>>,
    pub(super) used_at: Timestamp,
    /// When it was last looked at here; the longest ago is let go first.
    pub(super) touched: Timestamp,
    pub(super) tokens: Few<TokenHash>,
    /// Of those, the ones that were never presented and that no connection holds, oldest first.
    pub(super) loose: Few<(Timestamp, TokenHash)>,
    /// How many were never presented and are held.
    pub(super) held: usize,
    pub(super) attached: Few<ConnectionId>,
}

impl LiveSession {
    pub(super) fn of(now: Timestamp, session: Session, lent: Option<Arc<Lent>>) -> LiveSession {
        LiveSession {
            used_at: session.used_at,
            touched: now,
            session: Arc::new(session),
            lent,
            tokens: Few::default(),
            loose: Few::default(),
            held: 0,
            attached: Few::default(),
        }
    }
}

pub(super) struct LiveToken {
    pub(super) token: Token,
    /// The connection that was told it last, while that lives.
    pub(super) holder: Option<ConnectionId>,
}

pub(super) struct Entry {
    pub(super) number: u64,
    pub(super) session: SessionId,
    pub(super) secure: bool,
    pub(super) principal: Arc<Principal>,
    /// The token that this connection was told last.
    pub(super) told: Option<TokenHash>,
    pub(super) attached: bool,
    pub(super) mailbox: Arc<Mailbox>,
}

impl Tables {
    pub(super) fn found(&self, token: &Token) -> Option<Found> {
        let live = self.sessions.get(&token.session).filter(|live| live.lent.is_none())?;
        let account = match live.session.account {
            Some(id) => Some(Arc::clone(&self.accounts.get(&id)?.account)),
            None => None,
        };
        Some(Found {
            session: Arc::clone(&live.session),
            used_at: live.used_at,
            token: token.clone(),
            account,
            client: Arc::clone(&self.clients.get(&live.session.client)?.0),
        })
    }

    /// Takes in a session. `is_followed`: as [`Tables::take_account`] has it.
    pub(super) fn begin(
        &mut self,
        session: Session,
        account: Option<Arc<Account>>,
        client: Arc<Client>,
        is_followed: bool,
        now: Timestamp,
    ) {
        if let Some(account) = account {
            self.take_account(account, is_followed);
        }
        let (known, sessions) = self.clients.entry(client.id.clone()).or_insert_with(|| (Arc::clone(&client), 0));
        *sessions += 1;
        if known.version < client.version {
            *known = client;
        }
        let live = LiveSession::of(now, session, None);
        self.sessions.insert(live.session.id, Box::new(live));
    }

    /// Holds the account behind something that comes in; the newer of two is kept. `is_followed`: it was read while the feed stood
    /// where it stands now.
    pub(super) fn take_account(&mut self, account: Arc<Account>, is_followed: bool) {
        let new = || HeldAccount { account: Arc::clone(&account), users: 0, is_followed };
        let held = self.accounts.entry(account.id).or_insert_with(new);
        held.users += 1;
        held.is_followed |= is_followed;
        // A cut-off moves without a version.
        let is_newer = (held.account.version, held.account.cut_off) < (account.version, account.cut_off);
        if held.users == 1 {
            self.subjects.insert(account.subject.clone(), account.id);
        } else if is_newer {
            self.change_account(account);
        }
    }

    /// An account that is held is like this now.
    pub(super) fn change_account(&mut self, account: Arc<Account>) {
        let Some(held) = self.accounts.get_mut(&account.id) else { return };
        let before = std::mem::replace(&mut held.account, Arc::clone(&account));
        if before.subject != account.subject {
            self.release_subject(&before);
            self.subjects.insert(account.subject.clone(), account.id);
        }
    }

    /// An account is no longer known by its public id, unless that is another's by now.
    fn release_subject(&mut self, account: &Account) {
        if self.subjects.get(&account.subject) == Some(&account.id) {
            self.subjects.remove(&account.subject);
        }
    }

    /// Lets go of the account behind something that goes.
    pub(super) fn release_account(&mut self, id: AccountId) {
        if let Some(held) = self.accounts.get_mut(&id) {
            held.users -= 1;
            if held.users == 0
                && let Some(held) = self.accounts.remove(&id)
            {
                self.release_subject(&held.account);
            }
        }
    }

    pub(super) fn forget(&mut self, session: SessionId) {
        let Some(live) = self.sessions.remove(&session) else { return };
        for hash in live.tokens {
            self.tokens.remove(&hash);
        }
        if live.lent.is_some() {
            return;
        }
        if let Some(id) = live.session.account {
            self.release_account(id);
        }
        if let Some((_, sessions)) = self.clients.get_mut(&live.session.client) {
            *sessions -= 1;
            if *sessions == 0 {
                self.clients.remove(&live.session.client);
            }
        }
    }

    pub(super) fn keep_token(&mut self, token: Token) {
        let Some(live) = self.sessions.get_mut(&token.session) else { return };
        if self.tokens.contains_key(&token.hash) {
            return;
        }
        live.tokens.insert(token.hash);
        if token.presented_at.is_none() {
            live.loose.insert((token.issued_at, token.hash));
        }
        self.tokens.insert(token.hash, Box::new(LiveToken { token, holder: None }));
    }

    pub(super) fn drop_token(&mut self, hash: &TokenHash) {
        self.hold(hash, None);
        let Some(live) = self.tokens.remove(hash) else { return };
        let token = live.token;
        if let Some(live) = self.sessions.get_mut(&token.session) {
            live.tokens.remove(hash);
            live.loose.remove(&(token.issued_at, *hash));
        }
    }

    /// Says which connection holds a token now.
    pub(super) fn hold(&mut self, hash: &TokenHash, holder: Option<ConnectionId>) {
        let Some(live) = self.tokens.get_mut(hash) else { return };
        let was = std::mem::replace(&mut live.holder, holder);
        if live.token.presented_at.is_some() || was.is_some() == holder.is_some() {
            return;
        }
        let Some(session) = self.sessions.get_mut(&live.token.session) else { return };
        let place = (live.token.issued_at, *hash);
        if holder.is_some() {
            session.held += usize::from(session.loose.remove(&place));
        } else {
            session.held -= 1;
            session.loose.insert(place);
        }
    }

    /// Says that a token was presented.
    pub(super) fn present(&mut self, hash: &TokenHash, at: Timestamp) {
        let Some(live) = self.tokens.get_mut(hash) else { return };
        if live.token.presented_at.replace(live.token.presented_at.unwrap_or(at)).is_some() {
            return;
        }
        let Some(session) = self.sessions.get_mut(&live.token.session) else { return };
        if live.holder.is_some() {
            session.held -= 1;
        } else {
            session.loose.remove(&(live.token.issued_at, *hash));
        }
    }

    /// Takes the session from a connection and tells it. Its entry stays until it is dropped, since it still knows which
    /// token it was told.
    pub(super) fn detach(&mut self, connection: ConnectionId, reason: Reason) {
        let Some(entry) = self.attachments.get_mut(&connection) else { return };
        if !std::mem::replace(&mut entry.attached, false) {
            return;
        }
        entry.mailbox.put(Event::Detached(reason));
        if let Some(end) = entry.principal.expires_at {
            self.expiries.remove(&(end, connection));
        }
        // The token that it was told stays held: its connection lives, and comes back with it.
        if let Some(live) = self.sessions.get_mut(&entry.session) {
            live.attached.remove(&connection);
        }
    }

    pub(super) fn remove_entry(&mut self, connection: ConnectionId) {
        let Some(entry) = self.attachments.remove(&connection) else { return };
        if let Some(end) = entry.principal.expires_at {
            self.expiries.remove(&(end, connection));
        }
        if let Some(live) = self.sessions.get_mut(&entry.session) {
            live.attached.remove(&connection);
        }
        if let Some(told) = entry.told.filter(|told| self.tokens.get(told).is_some_and(|live| live.holder == Some(connection))) {
            self.hold(&told, None);
        }
    }

    /// Looks again at every attached connection of the sessions chosen.
    pub(super) fn reconsider(&mut self, chosen: impl Fn(&Session) -> bool, anew: &Anew<'_>) {
        let mut changed: Vec<(ConnectionId, Option<Principal>)> = Vec::new();
        for live in self.sessions.values().filter(|live| live.lent.is_none() && chosen(&live.session)) {
            let account = live.session.account.and_then(|id| self.accounts.get(&id));
            let Some((client, _)) = self.clients.get(&live.session.client) else { continue };
            for connection in live.attached.iter() {
                let Some(entry) = self.attachments.get(connection) else { continue };
                let account = account.map(|held| &*held.account);
                let principal = anew(&live.session, account, client, entry.secure, &entry.principal);
                if principal.as_ref() != Some(&*entry.principal) {
                    changed.push((*connection, principal));
                }
            }
        }
        for (connection, principal) in changed {
            match principal {
                Some(principal) => self.change(connection, Arc::new(principal)),
                None => self.detach(connection, Reason::Revoked),
            }
        }
    }

    pub(super) fn change(&mut self, connection: ConnectionId, principal: Arc<Principal>) {
        let Some(entry) = self.attachments.get_mut(&connection) else { return };
        if let Some(end) = entry.principal.expires_at {
            self.expiries.remove(&(end, connection));
        }
        if let Some(end) = principal.expires_at {
            self.expiries.insert((end, connection));
        }
        entry.principal = Arc::clone(&principal);
        entry.mailbox.put(Event::Changed(principal));
    }

    pub(super) fn lose(&mut self, chosen: impl Fn(&LiveSession) -> bool) {
        let lost: Vec<SessionId> = self.sessions.values().filter(|live| chosen(live)).map(|live| live.session.id).collect();
        for session in lost {
            let attached = self.sessions.get(&session).map(|live| live.attached.clone()).unwrap_or_default();
            for connection in attached {
                self.detach(connection, Reason::Revoked);
            }
            self.forget(session);
        }
    }
}
