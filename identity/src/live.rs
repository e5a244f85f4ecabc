//! What is in force, in memory: sessions, their tokens, and the connections attached to them.
//!
//! Keyed by the hash of a token or key, so that a check reads no database. Everything here is also in the store, or is about a
//! connection and dies with it; what was not used lately is let go and read again when it is. It follows the feed of
//! changes, its own node's included, so that what ended on disk ends here, in the same order.
//!
//! ```text
//! session: begun (not on disk yet) -> standing -> ended (gone from here)
//! attachment: attached -> detached (its connection lives on) -> dropped
//! ```
//!
//! It refuses to decide who may come in; whoever does hands the result in.

mod attachment;
mod few;
mod known;
mod marks;
pub(crate) mod served;
mod tables;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

pub use self::attachment::Attachment;
use self::attachment::{Mailbox, Place};
pub(crate) use self::known::Known;
pub(crate) use self::marks::{Kind, MOST_MARKS};
use self::tables::{Entry, LiveSession, Tables};
use crate::account::{Account, AccountId, AccountSummary, Client, ClientId};
use crate::clock::Timestamp;
use crate::command::ConnectionId;
use crate::current::Current;
use crate::refusal::Refusal;
use crate::reply::{Principal, Reason};
use crate::scope::Scopes;
use crate::session::{Session, SessionId, SessionSettings};
use crate::store::{Roll, StoredSession, Token, TokenHash};

/// How many times the bound of unpresented tokens one session may hold in all.
const CROWD: usize = 16;
/// How long a session that was looked at is surely still needed: longer than any question takes.
const IN_USE: Duration = Duration::from_secs(6 * 60);

/// The tables.
pub struct Live {
    settings: Current<SessionSettings>,
    tables: Mutex<Tables>,
}

/// The session that a token speaks for, as it is known here.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub(crate) session: Arc<Session>,
    pub(crate) used_at: Timestamp,
    pub(crate) token: Token,
    pub(crate) account: Option<Arc<Account>>,
    pub(crate) client: Arc<Client>,
}

/// What a token of somebody else's says, as far as it is good here.
#[derive(Debug)]
pub(crate) struct Lent {
    /// The hash of what the issuer has signed. Of one such text there may be several tokens: some signatures can be written in
    /// two ways (ECDSA), so an end is said of what was signed.
    pub(crate) signed: TokenHash,
    pub(crate) person: Arc<AccountSummary>,
    pub(crate) scopes: Scopes,
}

/// A connection that is to be attached, and the versions of account and client that this was decided by.
pub(crate) struct Attach {
    pub(crate) session: SessionId,
    pub(crate) connection: ConnectionId,
    pub(crate) secure: bool,
    pub(crate) principal: Arc<Principal>,
    pub(crate) told: Option<TokenHash>,
    pub(crate) account_version: Option<u64>,
    pub(crate) client_version: u64,
}

impl Live {
    /// Empty tables.
    pub(crate) fn new(settings: SessionSettings) -> Live {
        Live { settings: Current::new(settings), tables: Mutex::default() }
    }

    /// Goes by other settings from now on.
    pub(crate) fn resettle(&self, settings: SessionSettings) {
        self.settings.replace(settings);
    }

    /// What a token speaks for, if that is in memory.
    pub(crate) fn find(&self, token: &TokenHash, now: Timestamp) -> Option<Found> {
        let mut tables = self.tables();
        let session = tables.tokens.get(token)?.token.session;
        tables.sessions.get_mut(&session)?.touched = now;
        tables.found(&tables.tokens.get(token)?.token)
    }

    /// Takes in a session that was read from the store. To be called while the feed stands still where it stood before the
    /// reading began; otherwise what is taken in may be older than what was followed.
    pub(crate) fn load(&self, stored: StoredSession, account: Option<Account>, client: Client, now: Timestamp) {
        if stored.session.ended.is_some() {
            return;
        }
        let mut tables = self.tables();
        if !tables.sessions.contains_key(&stored.session.id) {
            tables.begin(stored.session, account.map(without_password), without_secret(client), true, now);
        }
        for token in stored.tokens {
            tables.keep_token(token);
        }
    }

    /// Makes room for a session that is about to be written, so that whatever ends it from then on finds it here. Its account is as
    /// it was when the session was decided: what is signed for it is judged by another reading.
    pub(crate) fn begin(&self, session: Session, account: Option<Account>, client: Client, token: Option<Token>) {
        let mut tables = self.tables();
        let now = session.used_at;
        tables.begin(session, account.map(without_password), without_secret(client), false, now);
        if let Some(token) = token {
            tables.keep_token(token);
        }
    }

    /// Enters a successor that is about to be written, so that whatever ends it from then on finds it here. It counts as held by
    /// the connection that is about to be told it.
    pub(crate) fn begin_token(&self, token: Token, connection: Option<ConnectionId>) {
        let mut tables = self.tables();
        let hash = token.hash;
        tables.keep_token(token);
        tables.hold(&hash, connection);
    }

    /// Says that nobody was told this token after all.
    pub(crate) fn let_loose(&self, token: &TokenHash) {
        self.tables().hold(token, None);
    }

    /// Forgets a token that was not written after all.
    pub(crate) fn forget_token(&self, token: &TokenHash) {
        self.tables().drop_token(token);
    }

    /// Takes in a session that rests on a token of somebody else's. It is nowhere but here.
    pub(crate) fn borrow(&self, session: Session, lent: Lent, token: Token) {
        let mut tables = self.tables();
        let live = LiveSession::of(session.started_at, session, Some(Arc::new(lent)));
        tables.sessions.insert(live.session.id, Box::new(live));
        tables.keep_token(token);
    }

    /// What a token of somebody else's was found to say, if that is in memory.
    pub(crate) fn find_lent(&self, token: &TokenHash, now: Timestamp) -> Option<(Arc<Session>, Arc<Lent>, Token)> {
        let mut tables = self.tables();
        let token = tables.tokens.get(token)?.token.clone();
        let live = tables.sessions.get_mut(&token.session)?;
        live.touched = now;
        Some((Arc::clone(&live.session), Arc::clone(live.lent.as_ref()?), token))
    }

    /// The borrowed sessions, with how many connections hold each.
    pub(crate) fn borrowed(&self) -> Vec<(Arc<Session>, Arc<Lent>, usize)> {
        let tables = self.tables();
        let lent = |live: &LiveSession| Some((Arc::clone(&live.session), Arc::clone(live.lent.as_ref()?), live.attached.len()));
        tables.sessions.values().filter_map(|live| lent(live)).collect()
    }

    /// One borrowed session, as [`Live::borrowed`] has it.
    pub(crate) fn borrowed_session(&self, id: SessionId) -> Option<(Arc<Session>, Arc<Lent>, usize)> {
        let tables = self.tables();
        let live = tables.sessions.get(&id)?;
        Some((Arc::clone(&live.session), Arc::clone(live.lent.as_ref()?), live.attached.len()))
    }

    /// What a borrowed session rests on, until when, and every session that rests on the same.
    pub(crate) fn lent_by(&self, session: SessionId) -> Option<(TokenHash, Timestamp, Vec<SessionId>)> {
        let tables = self.tables();
        let live = tables.sessions.get(&session)?;
        let signed = live.lent.as_ref()?.signed;
        let ends = live.tokens.iter().filter_map(|hash| tables.tokens.get(hash)).map(|live| live.token.expires_at).max()?;
        let rests = |live: &LiveSession| live.lent.as_ref().is_some_and(|lent| lent.signed == signed);
        Some((signed, ends, tables.sessions.values().filter(|live| rests(live)).map(|live| live.session.id).collect()))
    }

    /// Forgets a session that was not written after all, or is no longer in force.
    pub(crate) fn forget(&self, session: SessionId) {
        self.tables().forget(session);
    }

    /// Which tokens are given up when the one presented gets a successor: the one that this connection was told before and
    /// never presented, and, past the bound, the oldest unpresented ones whose connection is gone.
    pub(crate) fn given_up(&self, presented: &Token, connection: Option<ConnectionId>) -> Vec<TokenHash> {
        let tables = self.tables();
        let Some(live) = tables.sessions.get(&presented.session) else { return Vec::new() };
        let told_before = connection.and_then(|connection| tables.attachments.get(&connection)?.told).filter(|told| {
            let known = tables.tokens.get(told).map(|live| &live.token);
            *told != presented.hash && known.is_some_and(|token| token.session == presented.session && token.presented_at.is_none())
        });
        // The one presented is about to be no longer one of them.
        let own = tables.tokens.get(&presented.hash).is_some_and(|live| live.token.presented_at.is_none());
        let leaving = usize::from(told_before.is_some()) + usize::from(own);
        let unpresented = (live.loose.len() + live.held + 1).saturating_sub(leaving);
        let most = self.settings.now().unpresented;
        let surplus = unpresented.saturating_sub(most);
        // Of one session nobody needs more tokens than this many times the bound; past it the oldest goes, presented or not.
        let crowd = live.tokens.len().saturating_sub(most.saturating_mul(CROWD));
        let loose = live.loose.iter().map(|(_, hash)| *hash).filter(|hash| *hash != presented.hash);
        let mut given_up: Vec<TokenHash> = told_before.into_iter().chain(loose.take(surplus)).collect();
        if crowd > 0 {
            given_up
                .extend(self.oldest(&tables, live, presented, crowd).filter(|hash| !given_up.contains(hash)).collect::<Vec<_>>());
        }
        given_up
    }

    /// The oldest tokens of a session that no connection holds, but the one presented.
    fn oldest<'t>(
        &self,
        tables: &'t Tables,
        live: &'t LiveSession,
        presented: &'t Token,
        count: usize,
    ) -> impl Iterator<Item = TokenHash> + 't {
        let mut idle: Vec<(Timestamp, TokenHash)> = live
            .tokens
            .iter()
            .filter_map(|hash| tables.tokens.get(hash))
            .filter(|live| live.holder.is_none() && live.token.hash != presented.hash)
            .map(|live| (live.token.issued_at, live.token.hash))
            .collect();
        idle.sort_unstable();
        // A few at a time, so that the next presentation does not have to look again.
        idle.into_iter().take(count + self.settings.now().unpresented).map(|(_, hash)| hash)
    }

    /// Follows a roll that is on disk. Its successor is here already.
    pub(crate) fn rolled(&self, roll: &Roll) {
        let mut tables = self.tables();
        for hash in &roll.given_up {
            tables.drop_token(hash);
        }
        tables.present(&roll.presented, roll.at);
        if let Some(live) = roll.supersedes.as_ref().and_then(|hash| tables.tokens.get_mut(hash)) {
            live.token.superseded_at.get_or_insert(roll.at);
        }
        if let Some(live) = tables.sessions.get_mut(&roll.session) {
            live.used_at = live.used_at.max(roll.at);
        }
    }

    /// How many other connections hold this session.
    pub(crate) fn connections(&self, session: SessionId, but: Option<ConnectionId>) -> usize {
        let tables = self.tables();
        tables.sessions.get(&session).map_or(0, |live| live.attached.iter().filter(|id| Some(**id) != but).count())
    }

    /// The session that this connection is attached to now.
    pub(crate) fn held_by(&self, connection: ConnectionId) -> Option<Arc<Session>> {
        let tables = self.tables();
        let entry = tables.attachments.get(&connection)?;
        Some(Arc::clone(&tables.sessions.get(&entry.session)?.session))
    }

    /// What this connection is at `now`; none, where it holds nothing or its time is over. Its session's life is left as it is.
    pub(crate) fn principal_of(&self, connection: ConnectionId, now: Timestamp) -> Option<Arc<Principal>> {
        let tables = self.tables();
        let entry = tables.attachments.get(&connection).filter(|entry| entry.attached)?;
        // What ends it comes around every so often; its time may be over a moment before.
        let stands = entry.principal.expires_at.is_none_or(|end| now < end);
        stands.then(|| Arc::clone(&entry.principal))
    }

    /// Ties a connection to a session, in the place of whatever it held. Expiry comes as an event. Answers what the connection
    /// now is, which `anew` says where account or client have changed since it was decided.
    ///
    /// # Errors
    /// [`Refusal::Revoked`] where the session, the token told or the right to come in has ended meanwhile;
    /// [`Refusal::TooManySessions`].
    pub(crate) fn attach(self: &Arc<Live>, attach: Attach, anew: &Anew<'_>) -> Result<(Attachment, Arc<Principal>), Refusal> {
        let mut tables = self.tables();
        let Attach { session, connection, secure, mut principal, told, account_version, client_version } = attach;
        let Some(live) = tables.sessions.get(&session) else { return Err(Refusal::Revoked) };
        self.settings.now().may_attach(live.attached.iter().filter(|id| **id != connection).count())?;
        if told.is_some_and(|told| !tables.tokens.contains_key(&told)) {
            return Err(Refusal::Revoked);
        }
        if live.lent.is_none() {
            let account = live.session.account.and_then(|id| tables.accounts.get(&id)).map(|held| &*held.account);
            let Some((client, _)) = tables.clients.get(&live.session.client) else { return Err(Refusal::Revoked) };
            if account.map(|account| account.version) != account_version || client.version != client_version {
                principal = Arc::new(anew(&live.session, account, client, secure, &principal).ok_or(Refusal::Revoked)?);
            }
        }
        tables.remove_entry(connection);
        tables.last_number += 1;
        let number = tables.last_number;
        let mailbox = Arc::new(Mailbox::default());
        if let Some(end) = principal.expires_at {
            tables.expiries.insert((end, connection));
        }
        let (kept, mailed) = (Arc::clone(&principal), Arc::clone(&mailbox));
        let entry = Entry { number, session, secure, principal: kept, told, attached: true, mailbox: mailed };
        tables.attachments.insert(connection, Box::new(entry));
        if let Some(told) = told {
            tables.hold(&told, Some(connection));
        }
        if let Some(live) = tables.sessions.get_mut(&session) {
            live.attached.insert(connection);
        }
        Ok((Attachment { place: Place::Live(Arc::clone(self)), connection, number, mailbox }, principal))
    }

    /// Moves the end of a connection that holds this very session by this very token, and is the same in all else. `false`: it
    /// does not, and nothing has changed.
    pub(crate) fn prolong(&self, connection: ConnectionId, told: &TokenHash, principal: &Arc<Principal>) -> bool {
        let mut tables = self.tables();
        let Some(entry) = tables.attachments.get_mut(&connection) else { return false };
        if !entry.attached || entry.told != Some(*told) || !entry.principal.is_but_for_its_end(principal) {
            return false;
        }
        let before = std::mem::replace(&mut entry.principal, Arc::clone(principal)).expires_at;
        if before != principal.expires_at {
            before.map(|end| tables.expiries.remove(&(end, connection)));
            tables.expiries.extend(principal.expires_at.map(|end| (end, connection)));
        }
        true
    }

    /// Follows the feed: a session ended.
    pub(crate) fn session_ended(&self, session: SessionId, reason: Reason) {
        let mut tables = self.tables();
        let attached = tables.sessions.get(&session).map(|live| live.attached.clone()).unwrap_or_default();
        for connection in attached {
            tables.detach(connection, reason);
        }
        tables.forget(session);
    }

    /// Follows the feed: these tokens are gone; connections that were told one of them lose the session.
    pub(crate) fn tokens_ended(&self, session: SessionId, hashes: &[TokenHash]) {
        let mut tables = self.tables();
        for hash in hashes {
            tables.drop_token(hash);
        }
        let attached = tables.sessions.get(&session).map(|live| live.attached.clone()).unwrap_or_default();
        for connection in attached {
            let told = tables.attachments.get(&connection).and_then(|entry| entry.told);
            if told.is_some_and(|told| hashes.contains(&told)) {
                tables.detach(connection, Reason::Revoked);
            }
        }
    }

    /// Whether anything here depends on this account.
    pub(crate) fn knows_account(&self, id: AccountId) -> bool {
        self.tables().accounts.contains_key(&id)
    }

    /// Whether anything here depends on this client.
    pub(crate) fn knows_client(&self, id: &ClientId) -> bool {
        let tables = self.tables();
        tables.clients.contains_key(id) || tables.kept_clients.contains_key(id)
    }

    /// A client that signed tokens have come through, if it is in memory.
    pub(crate) fn client(&self, id: &ClientId) -> Option<Arc<Client>> {
        self.tables().kept_clients.get(id).cloned()
    }

    /// Keeps a client that signed tokens come through. To be called as [`Live::load`] is.
    pub(crate) fn keep_client(&self, client: Client) -> Arc<Client> {
        let client = without_secret(client);
        self.tables().kept_clients.insert(client.id.clone(), Arc::clone(&client));
        client
    }

    /// Follows the feed: an account is as it is here now, or gone. `anew` says what a connection of it now is.
    pub(crate) fn account_changed(&self, id: AccountId, account: Option<Account>, anew: &Anew<'_>) {
        let mut tables = self.tables();
        match account {
            Some(account) => {
                tables.change_account(without_password(account));
                if let Some(held) = tables.accounts.get_mut(&id) {
                    held.is_followed = true;
                }
                tables.reconsider(|session| session.account == Some(id), anew);
            }
            None => {
                tables.lose(|live| live.session.account == Some(id));
                tables.unknow_of(|owner| owner == id);
            }
        }
    }

    /// Follows the feed: as [`Live::account_changed`], for a client.
    pub(crate) fn client_changed(&self, id: &ClientId, client: Option<Client>, anew: &Anew<'_>) {
        let mut tables = self.tables();
        let client = client.map(without_secret);
        match &client {
            Some(client) => tables.kept_clients.get_mut(id).into_iter().for_each(|kept| *kept = Arc::clone(client)),
            None => drop(tables.kept_clients.remove(id)),
        }
        match client {
            Some(client) => {
                if let Some((known, _)) = tables.clients.get_mut(id) {
                    *known = client;
                }
                tables.reconsider(|session| session.client == *id, anew);
            }
            None => tables.lose(|live| live.lent.is_none() && live.session.client == *id),
        }
    }

    /// Follows a feed that has a gap: nothing here can be trusted, so connections have to come again.
    pub(crate) fn lose_all(&self) {
        let mut tables = self.tables();
        tables.lose(|_| true);
        tables.unknow_of(|_| true);
        tables.kept_clients.clear();
        (tables.api_keys, tables.revoked) = (marks::Marks::Unread, marks::Marks::Unread);
    }

    /// Detaches what has expired.
    pub(crate) fn expire(&self, now: Timestamp) {
        let mut tables = self.tables();
        while let Some(&(end, connection)) = tables.expiries.first() {
            if end > now {
                return;
            }
            tables.expiries.pop_first();
            tables.detach(connection, Reason::Expired);
        }
    }

    /// Lets go what is not needed in memory: tokens that no longer stand, and sessions beyond the bound that no connection
    /// holds.
    pub(crate) fn tidy(&self, now: Timestamp) {
        let mut tables = self.tables();
        let settings = self.settings.now();
        let overlap = settings.overlap;
        let gone: Vec<TokenHash> = tables
            .tokens
            .values()
            .filter(|live| crate::token::standing(&live.token, overlap, now).is_err())
            .map(|live| live.token.hash)
            .collect();
        for hash in gone {
            tables.drop_token(&hash);
        }
        // A borrowed session whose token has ended rests on nothing.
        let bare = |live: &LiveSession| live.lent.is_some() && live.tokens.is_empty() && live.attached.is_empty();
        let bare: Vec<SessionId> = tables.sessions.values().filter(|live| bare(live)).map(|live| live.session.id).collect();
        for session in bare {
            tables.forget(session);
        }
        let surplus = tables.sessions.len().saturating_sub(settings.kept_in_memory);
        let mut idle: Vec<(Timestamp, SessionId)> = tables
            .sessions
            .iter()
            // What was looked at a moment ago is on its way to be attached.
            .filter(|(_, live)| surplus > 0 && live.attached.is_empty() && now.since(live.touched) > IN_USE)
            .map(|(id, live)| (live.touched, *id))
            .collect();
        idle.sort_unstable();
        for (_, session) in idle.into_iter().take(surplus) {
            tables.forget(session);
        }
    }

    /// How many connections are attached.
    pub(crate) fn attached(&self) -> usize {
        self.tables().attachments.values().filter(|entry| entry.attached).count()
    }

    fn detach_dropped(&self, connection: ConnectionId, number: u64) {
        let mut tables = self.tables();
        if tables.attachments.get(&connection).is_some_and(|entry| entry.number == number) {
            tables.remove_entry(connection);
        }
    }

    fn tables(&self) -> MutexGuard<'_, Tables> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a connection now is, given what has changed: its session, the account, the client, whether its way is secure, and
/// what it was. `None`: nothing any more.
pub(crate) type Anew<'a> = dyn Fn(&Session, Option<&Account>, &Client, bool, &Principal) -> Option<Principal> + 'a;

/// What hashes there are stays in the store: memory that lives for weeks needs none.
fn without_password(account: Account) -> Arc<Account> {
    Arc::new(Account { password: None, ..account })
}

/// As [`without_password`].
fn without_secret(client: Client) -> Arc<Client> {
    Arc::new(Client { secret: None, ..client })
}
