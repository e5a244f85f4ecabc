//! What operators look at: sessions and lines of the audit, filtered, a bounded piece at a time.
//!
//! A listing is asked for in pieces. Each looks at so many rows and no more, whatever the filter leaves of them, and says where
//! the next one goes on; so neither a question nor its answer grows with what is kept, and whoever waits can be shown how far it
//! has come. Moments are no key of the audit: they grow with the numbers of its lines, but for as much as the clock was ever set.
//! Where lines of a time are looked for, those that were written up to [`SLACK`] beside it are looked at too.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use super::{Admin, SessionView};
use crate::account::{AccountId, ClientId};
use crate::audit::{AuditFilter, AuditRow};
use crate::clock::Timestamp;
use crate::refusal::Refusal;
use crate::session::{Session, SessionId};
use crate::store::Page;

/// How many rows are read at once.
const READ: usize = 1000;
/// How many reads one question may cost.
const READS: usize = 10;
/// By how much a clock may have been set while the lines of one time are still found by it.
const SLACK: Duration = Duration::from_secs(24 * 60 * 60);

/// A piece of the audit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditPage {
    /// The lines that were looked for, in the order in which they were.
    pub rows: Vec<AuditRow>,
    /// The number of the line that was looked at first.
    pub first: Option<u64>,
    /// The number of the line that was looked at last: where the next piece goes on. As it was asked, where none was there.
    pub last: Option<u64>,
    /// When that line was written.
    pub last_at: Option<Timestamp>,
    /// How many lines were looked at.
    pub seen: u64,
    /// Whether there was no more to look at.
    pub is_end: bool,
}

/// Which sessions are looked for; what is none is not asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SessionFilter {
    /// Of this user.
    pub account: Option<AccountId>,
    /// That came through this client.
    pub client: Option<ClientId>,
    /// That came through this gate.
    pub gate: Option<String>,
    /// That began at this address.
    pub source: Option<String>,
}

impl SessionFilter {
    /// Whether each session is looked for that the store would give.
    fn is_open(&self) -> bool {
        self.client.is_none() && self.gate.is_none() && self.source.is_none()
    }

    fn admits(&self, session: &Session) -> bool {
        (self.account.is_none() || session.account == self.account)
            && self.client.as_ref().is_none_or(|client| session.client == *client)
            && self.gate.as_ref().is_none_or(|gate| session.gate == *gate)
            && self.source.as_ref().is_none_or(|source| session.source.to_canonical().to_string() == *source)
    }
}

/// A piece of the sessions in force, newest first.
#[derive(Clone, Debug)]
pub struct SessionPage {
    /// Those that were looked for.
    pub rows: Vec<SessionView>,
    /// Where the next piece goes on; none: there is no more.
    pub next: Option<SessionId>,
    /// How many sessions were looked at.
    pub seen: u64,
}

/// A session that is looked at, before it is known whom it belongs to.
struct Seen {
    session: Session,
    /// Of a borrowed one, whom its token names, and how many connections hold it.
    lent: Option<(String, usize)>,
}

impl Admin<'_> {
    /// The account that a name, an address, an id that peers are told, or its own id means; the last also of one that is gone.
    ///
    /// # Errors
    /// [`Refusal::NotFound`].
    pub async fn account_meant(&self, text: &str) -> Result<AccountId, Refusal> {
        match self.user(text).await {
            Ok(account) => return Ok(account.id),
            Err(Refusal::NotFound(_)) => {}
            Err(refusal) => return Err(refusal),
        }
        match self.core.store.account_known_as(text).await? {
            Some(account) => Ok(account.id),
            None => text.parse::<Uuid>().map(AccountId).map_err(|_| Refusal::NotFound("user")),
        }
    }

    /// A piece of the audit, newest line first: at most `limit` lines (1 to 1000) before number `before`.
    ///
    /// # Errors
    /// [`Refusal::Unavailable`].
    pub async fn audit_backwards(&self, filter: &AuditFilter, before: Option<u64>, limit: usize) -> Result<AuditPage, Refusal> {
        let before = match (before, filter.until) {
            (None, _) => {
                self.core.flush(false).await;
                match filter.until {
                    Some(until) => self.first_line_since(until.after(SLACK)).await?,
                    None => None,
                }
            }
            (before, _) => before,
        };
        let mut page = AuditPage { rows: Vec::new(), first: None, last: before, last_at: None, seen: 0, is_end: false };
        let over = filter.since.map(|since| back(since, SLACK));
        for _ in 0..READS {
            let rows = self.core.store.audit_before(page.last, READ).await?;
            page.is_end = rows.len() < READ;
            if page.take(rows, filter, limit, |row| over.is_some_and(|over| row.at < over)) {
                break;
            }
        }
        Ok(page)
    }

    /// A piece of the audit, oldest line first: at most `limit` lines (1 to 1000) after number `after`.
    ///
    /// # Errors
    /// [`Refusal::Unavailable`].
    pub async fn audit_forwards(&self, filter: &AuditFilter, after: Option<u64>, limit: usize) -> Result<AuditPage, Refusal> {
        self.core.flush(false).await;
        let after = match (after, filter.since) {
            (None, Some(since)) => match self.first_line_since(back(since, SLACK)).await? {
                Some(first) => Some(first.saturating_sub(1)),
                // Nothing is that new. What comes will be.
                None => self.core.store.audit_before(None, 1).await?.first().map(|row| row.number),
            },
            (after, _) => after,
        };
        let mut page = AuditPage { rows: Vec::new(), first: None, last: after, last_at: None, seen: 0, is_end: false };
        let over = filter.until.map(|until| until.after(SLACK));
        for _ in 0..READS {
            let rows = self.core.store.audit_after(page.last.unwrap_or(0), READ).await?;
            page.is_end = rows.len() < READ;
            if page.take(rows, filter, limit, |row| over.is_some_and(|over| row.at >= over)) {
                break;
            }
        }
        Ok(page)
    }

    /// One line of the audit.
    ///
    /// # Errors
    /// [`Refusal::NotFound`].
    pub async fn audit_line(&self, number: u64) -> Result<AuditRow, Refusal> {
        self.core.flush(false).await;
        let found = self.core.store.audit_after(number.saturating_sub(1), 1).await?.pop();
        found.filter(|row| row.number == number).ok_or(Refusal::NotFound("line"))
    }

    /// Lines of the audit, newest first: at most `limit` (1 to 1000) before number `before`.
    ///
    /// # Errors
    /// [`Refusal::Unavailable`].
    pub async fn audit_before(&self, before: Option<u64>, limit: usize) -> Result<Vec<AuditRow>, Refusal> {
        self.core.flush(false).await;
        Ok(self.core.store.audit_before(before, limit.clamp(1, READ)).await?)
    }

    /// Lines of the audit, oldest first: at most `limit` (1 to 1000) after number `after`.
    ///
    /// # Errors
    /// [`Refusal::Unavailable`].
    pub async fn audit_after(&self, after: u64, limit: usize) -> Result<Vec<AuditRow>, Refusal> {
        self.core.flush(false).await;
        Ok(self.core.store.audit_after(after, limit.clamp(1, READ)).await?)
    }

    /// The number of the oldest line that was written at or after a moment, found by halves; none, where every line is older.
    async fn first_line_since(&self, moment: Timestamp) -> Result<Option<u64>, Refusal> {
        let store = &self.core.store;
        let (Some(oldest), Some(newest)) = (store.audit_after(0, 1).await?.pop(), store.audit_before(None, 1).await?.pop()) else {
            return Ok(None);
        };
        let (mut low, mut high) = (oldest.number, newest.number.saturating_add(1));
        while low < high {
            let middle = low + (high - low) / 2;
            // Lines may be gone, so the one that stands there or next after it is asked.
            match store.audit_after(middle.saturating_sub(1), 1).await?.pop() {
                Some(row) if row.at < moment => low = row.number.saturating_add(1),
                Some(_) | None => high = middle,
            }
        }
        Ok((low <= newest.number).then_some(low))
    }

    /// Sessions in force, newest first: at most `limit` (1 to 1000) older than `after`; of one user only where one is named.
    ///
    /// # Errors
    /// [`Refusal::NotFound`] for a user who is not there.
    pub async fn sessions(&self, user: Option<&str>, after: Option<SessionId>, limit: usize) -> Result<Vec<SessionView>, Refusal> {
        let account = match user {
            Some(user) => Some(self.user(user).await?.id),
            None => None,
        };
        let filter = SessionFilter { account, ..SessionFilter::default() };
        Ok(self.session_page(&filter, after, limit).await?.rows)
    }

    /// A piece of the sessions in force, newest first: at most `limit` (1 to 1000) older than `after`.
    ///
    /// # Errors
    /// [`Refusal::Unavailable`].
    pub async fn session_page(
        &self,
        filter: &SessionFilter,
        after: Option<SessionId>,
        limit: usize,
    ) -> Result<SessionPage, Refusal> {
        let limit = limit.clamp(1, READ);
        // Where the store's own order is all that is asked, nothing is read that is not told.
        let read = if filter.is_open() { limit } else { READ };
        let mut page = SessionPage { rows: Vec::new(), next: after, seen: 0 };
        let mut names = HashMap::new();
        for _ in 0..READS {
            let sessions = self.core.store.sessions(filter.account, Page { after: page.next, limit: read }).await?;
            let ends = sessions.len() < read;
            let mut seen: Vec<Seen> = sessions.into_iter().map(|session| Seen { session, lent: None }).collect();
            self.among_borrowed(&mut seen, page.next, ends);
            let all = seen.len();
            for (index, Seen { session, lent }) in seen.into_iter().enumerate() {
                page.next = Some(session.id);
                page.seen += 1;
                if !filter.admits(&session) {
                    continue;
                }
                page.rows.push(self.session_view(session, lent, &mut names).await?);
                if page.rows.len() == limit {
                    if ends && index + 1 == all {
                        page.next = None;
                    }
                    return Ok(page);
                }
            }
            if ends {
                page.next = None;
                return Ok(page);
            }
        }
        Ok(page)
    }

    /// One session, also one that has ended and is not forgotten yet.
    ///
    /// # Errors
    /// [`Refusal::NotFound`].
    pub async fn session(&self, id: SessionId) -> Result<SessionView, Refusal> {
        if let Some((session, lent, connections)) = self.core.live.borrowed_session(id) {
            let lent = Some((lent.person.subject.clone(), connections));
            return self.session_view((*session).clone(), lent, &mut HashMap::new()).await;
        }
        let session = self.core.store.session(id).await?.ok_or(Refusal::NotFound("session"))?;
        self.session_view(session, None, &mut HashMap::new()).await
    }

    async fn session_view(
        &self,
        session: Session,
        lent: Option<(String, usize)>,
        names: &mut HashMap<AccountId, Option<String>>,
    ) -> Result<SessionView, Refusal> {
        let (user, connections) = match (lent, session.account) {
            (Some((user, connections)), _) => (Some(user), connections),
            (None, None) => (None, self.core.live.connections(session.id, None)),
            (None, Some(id)) => {
                let name = match names.entry(id) {
                    Entry::Occupied(known) => known.get().clone(),
                    Entry::Vacant(unknown) => {
                        let account = self.core.store.account(id).await?;
                        unknown.insert(account.map(|account| account.name.as_str().to_owned())).clone()
                    }
                };
                (name, self.core.live.connections(session.id, None))
            }
        };
        Ok(SessionView { connections, user, session })
    }

    /// Adds the borrowed sessions, which are in memory only, at their places among those that the store gave.
    fn among_borrowed(&self, seen: &mut Vec<Seen>, after: Option<SessionId>, ends: bool) {
        // Where more is to come, what is older than the last of these comes on a later page.
        let oldest = if ends { None } else { seen.last().map(|seen| seen.session.id) };
        let here = |id: SessionId| after.is_none_or(|after| id < after) && oldest.is_none_or(|oldest| id > oldest);
        let borrowed = self.core.live.borrowed().into_iter().filter(|(session, ..)| here(session.id));
        seen.extend(borrowed.map(|(session, lent, connections)| Seen {
            session: Arc::unwrap_or_clone(session),
            lent: Some((lent.person.subject.clone(), connections)),
        }));
        seen.sort_by_key(|seen| std::cmp::Reverse(seen.session.id));
    }
}

impl AuditPage {
    /// Takes what is looked for of these rows. Answers whether the piece is done: it is full, at its end, or past the time that
    /// is looked for.
    fn take(&mut self, rows: Vec<AuditRow>, filter: &AuditFilter, limit: usize, over: impl Fn(&AuditRow) -> bool) -> bool {
        let (mut left, is_last_read) = (rows.len(), self.is_end);
        for row in rows {
            if over(&row) {
                self.is_end = true;
                return true;
            }
            left -= 1;
            self.seen += 1;
            self.first = self.first.or(Some(row.number));
            (self.last, self.last_at) = (Some(row.number), Some(row.at));
            if filter.admits(&row) {
                self.rows.push(row);
                if self.rows.len() >= limit.clamp(1, READ) {
                    self.is_end = is_last_read && left == 0;
                    return true;
                }
            }
        }
        is_last_read
    }
}

/// So much before a moment.
fn back(moment: Timestamp, span: Duration) -> Timestamp {
    let millis = i64::try_from(span.as_millis()).unwrap_or(i64::MAX);
    Timestamp::from_millis(moment.millis().saturating_sub(millis))
}
