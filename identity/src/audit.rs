//! What is written down: who tried what, from where, and what became of it.
//!
//! A success that changes something is written in the same transaction as the change. A refusal is written behind:
//! [`Audit::note`] only queues it, bounded, and nobody waits. What a peer can have without end (turned away unlooked at, or free of
//! charge) becomes one line per source and minute, and no source takes all the room there is. Each line carries the hash of the
//! line before, over ids only: names and addresses stand in a table beside it, so that they can be erased and the chain still holds.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Mutex;
use std::time::Duration;

use uuid::Uuid;

use crate::account::{AccountId, ClientId, NameKey};
use crate::clock::Timestamp;
use crate::command::Context;
use crate::refusal::Refusal;
use crate::session::SessionId;

/// Identifies one attempt to come in, in the audit and in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttemptId(pub Uuid);

/// One line, before it has a number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditEntry {
    /// When.
    pub at: Timestamp,
    /// What was tried: a word from the list in `docs/audit.md`.
    pub action: &'static str,
    /// `ok`, or the refusal's word.
    pub outcome: &'static str,
    /// The gate, or `operator`.
    pub gate: String,
    /// The account it is about, as far as it was found.
    pub account: Option<AccountId>,
    /// The client it is about.
    pub client: Option<ClientId>,
    /// The session it is about.
    pub session: Option<SessionId>,
    /// The attempt that it came of; none where it stands for several, or for none.
    pub attempt: Option<AttemptId>,
    /// How many attempts this line stands for; 1 but for what a peer can have without end.
    pub count: u32,
    /// What can be erased: the name that was claimed. Not hashed.
    pub name: Option<String>,
    /// What can be erased: where it came from. Not hashed.
    pub source: Option<String>,
}

impl AuditEntry {
    /// A line that says only when, what and by which gate, of something that went well.
    pub fn new(at: Timestamp, action: &'static str, gate: &str) -> AuditEntry {
        AuditEntry {
            at,
            action,
            outcome: "ok",
            gate: gate.to_owned(),
            account: None,
            client: None,
            session: None,
            attempt: None,
            count: 1,
            name: None,
            source: None,
        }
    }
}

/// One line as it stands in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditRow {
    /// Its number on its node; from 1, without gaps.
    pub number: u64,
    /// The node that wrote it.
    pub node: u32,
    /// What it says. `action` and `outcome` are as they were written, so possibly unknown to this version.
    pub at: Timestamp,
    /// What was tried.
    pub action: String,
    /// What became of it.
    pub outcome: String,
    /// The gate, or `operator`.
    pub gate: String,
    /// The account.
    pub account: Option<AccountId>,
    /// The client.
    pub client: Option<ClientId>,
    /// The session.
    pub session: Option<SessionId>,
    /// The attempt.
    pub attempt: Option<AttemptId>,
    /// How many attempts.
    pub count: u32,
    /// The name claimed, unless it was erased.
    pub name: Option<String>,
    /// The source, unless it was erased.
    pub source: Option<String>,
    /// The hash of the line before; zeros for the first.
    pub previous: [u8; 32],
    /// This line's own hash, over everything above but `name` and `source`.
    pub hash: [u8; 32],
}

/// Which lines are looked for; what is none is not asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuditFilter {
    /// Written at or after this moment.
    pub since: Option<Timestamp>,
    /// Written before this moment.
    pub until: Option<Timestamp>,
    /// About this account.
    pub account: Option<AccountId>,
    /// About this client.
    pub client: Option<ClientId>,
    /// About this session.
    pub session: Option<SessionId>,
    /// Of this attempt.
    pub attempt: Option<AttemptId>,
    /// Of this gate.
    pub gate: Option<String>,
    /// With this action.
    pub action: Option<String>,
    /// With this outcome; [`REFUSED`]: with any but `ok`.
    pub outcome: Option<String>,
    /// Where this name was claimed, whatever its case.
    pub name: Option<String>,
    /// From this source.
    pub source: Option<String>,
}

/// The word of a filter for every outcome but `ok`.
pub const REFUSED: &str = "refused";

impl AuditFilter {
    /// Whether a line is among those that are looked for.
    pub fn admits(&self, row: &AuditRow) -> bool {
        let named = |wanted: &Option<String>, had: Option<&String>| {
            wanted.as_ref().is_none_or(|wanted| had.is_some_and(|had| NameKey::of(had) == NameKey::of(wanted)))
        };
        self.since.is_none_or(|since| row.at >= since)
            && self.until.is_none_or(|until| row.at < until)
            && (self.account.is_none() || row.account == self.account)
            && (self.client.is_none() || row.client == self.client)
            && (self.session.is_none() || row.session == self.session)
            && (self.attempt.is_none() || row.attempt == self.attempt)
            && self.gate.as_ref().is_none_or(|gate| row.gate == *gate)
            && self.action.as_ref().is_none_or(|action| row.action == *action)
            && self.outcome.as_ref().is_none_or(|outcome| row.outcome == *outcome || (outcome == REFUSED && row.outcome != "ok"))
            && named(&self.name, row.name.as_ref())
            && self.source.as_ref().is_none_or(|source| row.source.as_ref() == Some(source))
    }
}

/// The hash of a line: SHA-256 over its fields, each with its length in front, and the hash of the line before. A line without an
/// attempt has no field for it, as those have none that were written before attempts had ids; the lengths tell the two apart.
pub fn chain(number: u64, node: u32, entry: &AuditEntry, previous: &[u8; 32]) -> [u8; 32] {
    let mut text = Vec::with_capacity(256);
    let mut field = |bytes: &[u8]| {
        text.extend_from_slice(&(bytes.len() as u64).to_be_bytes());
        text.extend_from_slice(bytes);
    };
    field(&number.to_be_bytes());
    field(&node.to_be_bytes());
    field(&entry.at.millis().to_be_bytes());
    field(entry.action.as_bytes());
    field(entry.outcome.as_bytes());
    field(entry.gate.as_bytes());
    field(entry.account.map(|id| id.0.into_bytes()).as_ref().map_or(&[], |bytes| bytes.as_slice()));
    field(entry.client.as_ref().map_or(&[], |id| id.as_str().as_bytes()));
    field(entry.session.map(|id| id.0.into_bytes()).as_ref().map_or(&[], |bytes| bytes.as_slice()));
    field(&entry.count.to_be_bytes());
    if let Some(AttemptId(id)) = &entry.attempt {
        field(id.as_bytes());
    }
    field(previous);
    digest(&text)
}

fn digest(bytes: &[u8]) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes).as_ref());
    hash
}

/// How many lines may wait to be written. Past it, lines are counted and the count is written instead.
const MOST_WAITING: usize = 10_000;
/// How many of them may be of one source, so that the noisiest does not hide all others.
const MOST_OF_SOURCE: usize = MOST_WAITING / 2;
/// How many sources' attempts without end are counted apart in one minute; the rest shares one line.
const MOST_SOURCES: usize = 1_000;
const MINUTE: Duration = Duration::from_secs(60);

/// The queue in front of the store.
#[derive(Default)]
pub struct Audit {
    waiting: Mutex<Waiting>,
}

#[derive(Default)]
struct Waiting {
    entries: Vec<AuditEntry>,
    of_source: HashMap<String, usize>,
    lost: u32,
    /// Since when, and how many of which no line says yet.
    counted: HashMap<Alike, (Timestamp, u32)>,
}

/// What lines are alike in that are written as one.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Alike {
    gate: &'static str,
    action: &'static str,
    outcome: &'static str,
    name: Option<String>,
    source: Option<IpAddr>,
}

impl Audit {
    /// Queues a refusal; never waits.
    pub fn refused(&self, now: Timestamp, context: &Context, entry: AuditEntry, refusal: &Refusal) {
        let mut waiting = self.waiting();
        if is_unbounded(refusal) {
            waiting.count(now, turned_away(context, refusal));
            return;
        }
        waiting.push(AuditEntry { outcome: refusal.word(), ..entry });
    }

    /// Queues a line of what a peer can have without end although it is looked at: a success that costs nothing, a refusal that
    /// nobody counts. The first in a minute is a line at once; how often it was repeated is one more after it.
    ///
    /// `entry` makes the line of a name, where there is to be one: most are only counted.
    pub fn repeated(
        &self,
        now: Timestamp,
        context: &Context,
        (action, outcome): (&'static str, &'static str),
        name: Option<String>,
        entry: impl FnOnce(Option<String>) -> AuditEntry,
    ) {
        let alike = Alike { gate: context.gate, action, outcome, name, source: Some(context.peer.address) };
        let mut waiting = self.waiting();
        if let Some((_, count)) = waiting.counted.get_mut(&alike) {
            *count = count.saturating_add(1);
        } else if waiting.counted.len() >= MOST_SOURCES {
            waiting.count(now, alike);
        } else {
            let entry = AuditEntry { outcome, ..entry(alike.name.clone()) };
            waiting.counted.insert(alike, (now, 0));
            waiting.push(entry);
        }
    }

    /// As [`Audit::repeated`], of a refusal that nobody counts.
    pub fn repeated_refusal(
        &self,
        now: Timestamp,
        context: &Context,
        (action, refusal): (&'static str, &Refusal),
        name: Option<String>,
        entry: impl FnOnce(Option<String>) -> AuditEntry,
    ) {
        if is_unbounded(refusal) {
            self.waiting().count(now, turned_away(context, refusal));
        } else {
            self.repeated(now, context, (action, refusal.word()), name, entry);
        }
    }

    /// Queues a line that nobody waits for; a token that was seen again.
    pub fn note(&self, entry: AuditEntry) {
        self.waiting().push(entry);
    }

    /// What is to be written now. Counts of attempts go along once their minute is over, or with `all`.
    pub fn take(&self, now: Timestamp, all: bool) -> Vec<AuditEntry> {
        let mut waiting = self.waiting();
        let mut entries = std::mem::take(&mut waiting.entries);
        waiting.of_source.clear();
        waiting.counted.retain(|alike, (since, count)| {
            if !all && now.since(*since) < MINUTE {
                return true;
            }
            if *count > 0 {
                entries.push(alike.summary(now, *count));
            }
            false
        });
        let lost = std::mem::take(&mut waiting.lost);
        if lost > 0 {
            entries.push(AuditEntry { outcome: "unavailable", count: lost, ..AuditEntry::new(now, "audit_lost", "") });
        }
        entries
    }

    fn waiting(&self) -> std::sync::MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Waiting {
    fn push(&mut self, entry: AuditEntry) {
        if self.entries.len() >= MOST_WAITING {
            self.lost = self.lost.saturating_add(1);
            return;
        }
        if let Some(source) = &entry.source {
            let of_source = self.of_source.entry(source.clone()).or_default();
            if *of_source >= MOST_OF_SOURCE {
                self.lost = self.lost.saturating_add(1);
                return;
            }
            *of_source += 1;
        }
        self.entries.push(entry);
    }

    fn knows(&self, alike: &Alike) -> bool {
        self.counted.contains_key(alike)
    }

    fn count(&mut self, now: Timestamp, mut alike: Alike) {
        if self.counted.len() >= MOST_SOURCES && !self.knows(&alike) {
            alike.source = None;
        }
        let (_, count) = self.counted.entry(alike).or_insert((now, 0));
        *count = count.saturating_add(1);
    }
}

impl Alike {
    fn summary(&self, now: Timestamp, count: u32) -> AuditEntry {
        let Alike { gate, action, outcome, name, source } = self;
        let source = source.map(|address| address.to_string());
        AuditEntry { outcome, count, name: name.clone(), source, ..AuditEntry::new(now, action, gate) }
    }
}

/// What was turned away unlooked at is counted whatever it was.
fn turned_away(context: &Context, refusal: &Refusal) -> Alike {
    let source = Some(context.peer.address);
    Alike { gate: context.gate, action: "turned_away", outcome: refusal.word(), name: None, source }
}

/// Whether a peer can have as many of these as it likes: they cost it nothing, or are not throttled.
pub(crate) fn is_unbounded(refusal: &Refusal) -> bool {
    matches!(
        refusal,
        Refusal::TooManyAttempts { .. }
            | Refusal::Busy { .. }
            | Refusal::InsecureTransport
            | Refusal::TimedOut
            | Refusal::Unavailable
            | Refusal::TooManySessions
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_noisiest_source_leaves_room_for_the_others() {
        let (audit, now) = (Audit::default(), Timestamp::from_millis(1_900_000_000_000));
        let from = |source: &str| AuditEntry { source: Some(source.to_owned()), ..AuditEntry::new(now, "restore", "zenith") };
        for _ in 0..3 * MOST_WAITING {
            audit.note(from("192.0.2.1"));
        }
        audit.note(from("192.0.2.2"));
        let written = audit.take(now, false);
        let of = |source: &str| written.iter().filter(|entry| entry.source.as_deref() == Some(source)).count();
        assert_eq!([of("192.0.2.1"), of("192.0.2.2")], [MOST_WAITING / 2, 1]);
        let lost = written.iter().find(|entry| entry.action == "audit_lost").map(|entry| entry.count);
        assert_eq!(lost, Some(25_000));
        for number in 0..2 * MOST_WAITING {
            audit.note(from(&number.to_string()));
        }
        assert_eq!(audit.take(now, false).len(), MOST_WAITING + 1, "and all together have no more than there is");
    }
}
