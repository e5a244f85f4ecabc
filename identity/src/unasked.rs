//! What the core does unasked: ends what has expired, follows the feed, writes behind, trims what is too much.
//!
//! Three loops, so that a store that stalls does not stop the clock: expiry needs memory only, the feed is read, the rest is
//! written. [`Identity::run`](crate::Identity::run) drives them and never ends.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::sync::{Notify, OwnedMutexGuard};

use crate::Core;
use crate::account::AccountId;
use crate::audit::AuditEntry;
use crate::clock::Timestamp;
use crate::live::served::Served;
use crate::refusal::Refusal;
use crate::reply::Reason;
use crate::session::SessionId;
use crate::store::{Change, MOST_OVER, Page, Past, Roll, StoreError, StoredTerminal, Which, Written};
use crate::terminal::chain::Change as TerminalChange;

/// How often memory is looked over for what has expired.
const TICK: Duration = Duration::from_millis(100);
/// How often the feed is read and what was written behind is handed to the store.
const BEAT: Duration = Duration::from_millis(250);
/// How often the store is tidied.
const TIDY: Duration = Duration::from_secs(60);
/// How many rows of each kind are forgotten at once: few enough that a login behind them does not notice.
const BATCH: usize = 1_000;
/// How old the last reading of the feed may be when memory is trusted.
const TRUSTED: Duration = Duration::from_secs(1);
const FEED_PAGE: usize = 256;

/// A write that is under way.
pub(crate) type Writing = Pin<Box<dyn Future<Output = Result<Written, StoreError>> + Send>>;

/// A write whose caller could not wait for it.
pub(crate) enum Late {
    /// A session that must not stand, since its caller was told no.
    Session(SessionId),
    /// A token whose successor nobody was told.
    Roll(Box<Roll>),
    /// Another protection of a terminal, which is to count as soon as it is on disk.
    Terminal {
        served: Arc<Served>,
        kept: Box<StoredTerminal>,
        change: TerminalChange,
        /// Nothing else is changed about the terminal meanwhile.
        turn: OwnedMutexGuard<()>,
    },
}

/// What waits to be done.
#[derive(Default)]
pub(crate) struct Unasked {
    work: Mutex<Vec<(Instant, Work)>>,
    late: Mutex<Vec<(Late, Writing)>>,
    wake: Notify,
}

#[derive(Clone, Debug)]
pub(crate) enum Work {
    /// A grant that nobody was told.
    Undo(SessionId),
    /// A session whose only connection has begun another one.
    EndUnlessHeld(SessionId),
    /// An account that may hold fewer sessions than it does.
    Trim(AccountId, &'static str),
}

impl Unasked {
    /// Puts work off until `due`.
    pub(crate) fn at(&self, due: Instant, work: Work) {
        self.work.lock().unwrap_or_else(PoisonError::into_inner).push((due, work));
        self.wake.notify_one();
    }

    /// Hands over what may yet be written, though its caller was told no.
    pub(crate) fn late(&self, late: Late, write: Writing) {
        self.late.lock().unwrap_or_else(PoisonError::into_inner).push((late, write));
        self.wake.notify_one();
    }

    fn take_due(&self, now: Instant) -> Vec<Work> {
        let mut work = self.work.lock().unwrap_or_else(PoisonError::into_inner);
        work.extract_if(.., |(due, _)| *due <= now).map(|(_, work)| work).collect()
    }

    fn take_late(&self) -> Vec<(Late, Writing)> {
        std::mem::take(&mut *self.late.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Core {
    pub(crate) async fn expire_for_ever(&self) {
        loop {
            self.live.expire(self.clock.now());
            self.terminals.values().for_each(|served| served.expire(self.clock.now()));
            self.pause(TICK).await;
        }
    }

    pub(crate) async fn follow_for_ever(&self) {
        loop {
            // The failure is logged where it becomes a refusal; until the feed can be read, memory is not trusted.
            let failed = self.follow().await.is_err();
            if failed {
                *self.feed_read_at.lock().unwrap_or_else(PoisonError::into_inner) = None;
            }
            let pause = self.pause(BEAT);
            if failed {
                pause.await;
            } else {
                tokio::select! {
                    () = pause => {}
                    () = self.shared.announced() => {}
                }
            }
        }
    }

    pub(crate) async fn write_for_ever(&self) {
        let mut late = FuturesUnordered::new();
        let mut tidy_at = self.clock.instant();
        loop {
            for (what, write) in self.unasked.take_late() {
                late.push(async move { (what, write.await) });
            }
            tokio::select! {
                () = self.pause(BEAT) => {}
                () = self.unasked.wake.notified() => {}
                Some((what, written)) = late.next(), if !late.is_empty() => self.came_late(what, written),
            }
            for work in self.unasked.take_due(self.clock.instant()) {
                if self.attend(&work).await.is_err() {
                    self.unasked.at(self.clock.instant() + BEAT * 4, work);
                }
            }
            self.flush(false).await;
            if self.clock.instant() >= tidy_at {
                let more = self.tidy().await;
                tidy_at = self.clock.instant() + if more { BEAT } else { TIDY };
            }
        }
    }

    /// Hands to the store what was written behind: all of it, or what is due.
    pub(crate) async fn flush(&self, all: bool) {
        let entries = self.audit.take(self.clock.now(), all);
        if !entries.is_empty()
            && let Err(error) = self.store.audit(entries.clone()).await
        {
            tracing::error!(error = %error.0, "the audit could not be written: {error}");
            entries.into_iter().for_each(|entry| self.audit.note(entry));
        }
        let rows = self.throttle.take_dirty();
        if !rows.is_empty()
            && let Err(error) = self.store.save_throttle(rows.clone()).await
        {
            tracing::error!(error = %error.0, "the throttle's counts could not be written: {error}");
            self.throttle.keep_dirty(&rows);
        }
    }

    /// Reads the feed and does in memory what it says. Whoever changed something calls this before answering.
    pub(crate) async fn follow(&self) -> Result<(), Refusal> {
        let mut position = self.feed.lock().await;
        loop {
            let began = self.clock.instant();
            let lines = self.store.feed(*position, FEED_PAGE).await?;
            let more = lines.len() == FEED_PAGE;
            if lines.first().is_some_and(|(number, _)| *number > *position + 1) {
                tracing::warn!("the feed has gone on without this node; what it held in memory is read anew");
                self.live.lose_all();
            }
            for (number, change) in lines {
                self.apply(change).await?;
                *position = number;
            }
            if !more {
                *self.feed_read_at.lock().unwrap_or_else(PoisonError::into_inner) = Some(began);
                return Ok(());
            }
        }
    }

    /// Makes sure that memory may be trusted: that the feed was read a moment ago.
    pub(crate) async fn fresh(&self) -> Result<(), Refusal> {
        let read_at = *self.feed_read_at.lock().unwrap_or_else(PoisonError::into_inner);
        let trusted = read_at.is_some_and(|at| self.clock.instant().saturating_duration_since(at) < TRUSTED);
        if trusted { Ok(()) } else { self.follow().await }
    }

    async fn apply(&self, change: Change) -> Result<(), Refusal> {
        match change {
            Change::SessionEnded(session, reason) => self.live.session_ended(session, reason),
            Change::TokensEnded(session, hashes) => self.live.tokens_ended(session, &hashes),
            Change::Account(id) if self.live.knows_account(id) => {
                let account = self.store.account(id).await?;
                self.live.account_changed(id, account, &|session, account, client, secure, was| {
                    self.anew(session, account, client, secure, was)
                });
            }
            Change::Client(id) if self.live.knows_client(&id) => {
                let client = self.store.client(&id).await?;
                self.live.client_changed(&id, client, &|session, account, client, secure, was| {
                    self.anew(session, account, client, secure, was)
                });
            }
            Change::Keys => {
                self.read_keys().await?;
                self.live.keys_changed();
            }
            Change::Revoked(hash) => self.live.revoked(&hash),
            Change::ApiKeyMade(hash) => self.live.api_key_made(&hash),
            Change::Account(_) | Change::Client(_) => {}
        }
        Ok(())
    }

    fn came_late(&self, what: Late, written: Result<Written, StoreError>) {
        match (what, written) {
            (Late::Session(session), Ok(Written::Done)) => self.unasked.at(self.clock.instant(), Work::Undo(session)),
            (Late::Roll(roll), Ok(Written::Done)) => {
                self.live.rolled(&roll);
                self.live.let_loose(&roll.successor.hash);
            }
            (Late::Terminal { served, kept, change, turn }, Ok(Written::Done)) => {
                served.follow(*kept, Some(change)).tell();
                drop(turn);
            }
            (Late::Roll(roll), _) => self.live.forget_token(&roll.successor.hash),
            (Late::Session(_) | Late::Terminal { .. }, _) => {}
        }
    }

    async fn attend(&self, work: &Work) -> Result<(), Refusal> {
        match work {
            Work::Undo(session) => self.end(*session, Reason::Revoked, "undo").await,
            Work::EndUnlessHeld(session) if self.live.connections(*session, None) == 0 => {
                self.end(*session, Reason::Displaced, "replace").await
            }
            Work::EndUnlessHeld(_) => Ok(()),
            Work::Trim(account, gate) => {
                let page = Page { after: None, limit: 1000 };
                let mut sessions = self.store.sessions(Some(*account), page).await?;
                sessions.retain(|session| session.gate == *gate);
                let newest = sessions.iter().max_by_key(|session| (session.started_at, session.id)).map(|session| session.id);
                let others = sessions.iter().filter(|session| Some(session.id) != newest);
                let others = others.map(|session| (session.started_at, session.id)).collect();
                for session in self.settings().sessions.displaced(others) {
                    self.end(session, Reason::Displaced, "displace").await?;
                }
                Ok(())
            }
        }
    }

    async fn end(&self, session: SessionId, reason: Reason, action: &'static str) -> Result<(), Refusal> {
        let now = self.clock.now();
        self.store.end_sessions(Which::Session(session), reason, now, core_entry(now, action)).await?;
        self.changed().await;
        Ok(())
    }

    /// One batch of what is past. Answers whether there may be more, which waits for the next beat: logins share the writer.
    async fn tidy(&self) -> bool {
        let now = self.clock.now();
        let before = |span: Duration| Timestamp::from_millis(now.millis() - i64::try_from(span.as_millis()).unwrap_or(0));
        let in_force = self.settings();
        let settings = &in_force.sessions;
        let over = Which::UsedBefore(before(settings.session_life));
        let mut more = false;
        for over in [over, Which::ExpiredBefore(now)] {
            match self.store.end_sessions(over, Reason::Expired, now, core_entry(now, "expire")).await {
                Ok(ended) => more |= ended >= MOST_OVER,
                Err(error) => tracing::error!(error = %error.0, "sessions whose time is over could not be ended: {error}"),
            }
        }
        // The feed is trimmed below; what it says of those sessions is followed first.
        self.changed().await;
        let kept = &in_force.retention;
        match self.store.forget(Past { now, ended: before(kept.ended), audit: before(kept.audit) }, BATCH).await {
            Ok(left) => more |= left,
            Err(error) => tracing::error!(error = %error.0, "what is no longer needed could not be forgotten: {error}"),
        }
        self.live.tidy(now);
        more
    }

    /// Follows what was just written, and wakes the other nodes. What is on disk stands, whether memory could follow at once
    /// or not.
    pub(crate) async fn changed(&self) {
        self.shared.announce();
        if self.follow().await.is_err() {
            *self.feed_read_at.lock().unwrap_or_else(PoisonError::into_inner) = None;
            tracing::warn!("memory follows as soon as the feed can be read; until then it is not trusted");
        }
    }

    /// What time it is for whatever has to wait: the wall clock as it was when the core was opened, and what has passed since.
    /// Whoever sets the wall clock ahead lifts no lock by it.
    pub(crate) fn steady(&self) -> Timestamp {
        let (wall, instant) = self.began;
        wall.after(self.clock.instant().saturating_duration_since(instant))
    }

    async fn pause(&self, span: Duration) {
        self.clock.sleep_until(self.clock.instant() + span).await;
    }
}

fn core_entry(at: Timestamp, action: &'static str) -> AuditEntry {
    AuditEntry::new(at, action, "core")
}
