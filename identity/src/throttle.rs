//! Throttling. Decides whether an attempt may be tried now. Knows no protocol and no account: only keys, counts and time.
//!
//! An attempt that can be guessed is charged on each of its keys *before* anything is compared, and settled after: as
//! failed, as proved, or as neither (it was answered busy). So two hundred guesses at once are as many evaluations as the
//! budget allows, and not one more. What cannot be guessed (a token of 256 bits) is only counted when it was refused.
//!
//! ```text
//! a name, account, client:  n failures --free--> each further one waits first, twice the last --quiet time--> forgotten
//! a source:                 n failures --full--> refused; one is forgiven every so often
//! a terminal:               as `terminal/lockout.rs` has it
//! ```
//!
//! The tables have a fixed size and are keyed by a secret hash, so that nobody can aim at a slot. Nothing that still counts is
//! ever evicted: where a bucket is full, newcomers share one more slot, which is stricter because they share it. What a crowd of
//! strangers can fill stands apart from what it must not crowd out: each of `throttle/key.rs`'s tables for itself.

mod key;

use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aws_lc_rs::hmac;

use self::key::Rule;
pub use self::key::{Key, network};
use crate::account::AccountId;
use crate::clock::Timestamp;
use crate::current::Current;
use crate::refusal::Refusal;
use crate::terminal::lockout::Failures;
use crate::terminal::{LockOut, TerminalName};

/// One slot of the throttle's table, as it is kept on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ThrottleRow {
    /// Which slot of the table.
    pub slot: u32,
    /// The keyed hash of what the slot is about; zeros where nothing is remembered.
    pub key: [u8; 16],
    /// Which rule counts it.
    pub rule: u8,
    /// Failures that count.
    pub failures: u32,
    /// When the last one was, in milliseconds since the Unix epoch.
    pub last: i64,
}

/// How many failures are free, and what follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ThrottleSettings {
    /// Failures per account name, account, or client before each further attempt has to wait.
    pub name_free: u32,
    /// The first wait; each further failure doubles it.
    pub first_wait: Duration,
    /// The longest wait.
    pub longest_wait: Duration,
    /// Without a failure for this long, those of a name are forgotten.
    pub forget_after: Duration,
    /// Failures that one source may have standing.
    pub source_free: u32,
    /// How often one of them is forgiven.
    pub source_forgives: Duration,
    /// Refused tokens, keys and codes that one source may have standing.
    pub token_free: u32,
    /// How often one of them is forgiven.
    pub token_forgives: Duration,
    /// How many wrong secrets of a terminal are too many.
    pub terminals: LockOut,
    /// How many names and sources are counted apart, rounded up to whole buckets of eight; 48 bytes each. As many again are
    /// sources at terminals.
    pub entries: usize,
}

impl Default for ThrottleSettings {
    fn default() -> ThrottleSettings {
        ThrottleSettings {
            name_free: 5,
            first_wait: Duration::from_secs(1),
            longest_wait: Duration::from_secs(15 * 60),
            forget_after: Duration::from_secs(30 * 60),
            source_free: 20,
            source_forgives: Duration::from_secs(30),
            token_free: 100,
            token_forgives: Duration::from_secs(1),
            terminals: LockOut::default(),
            entries: 32_768,
        }
    }
}

/// How a charged attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settled {
    /// The secret was wrong: the charge stands.
    Failed,
    /// The secret was right: the charge goes back, and failures of a name, or of a source at a terminal, are forgotten.
    Proved,
    /// It was not compared: the charge goes back.
    Neither,
}

/// Charges that wait to be settled. Dropped unsettled (its task was given up), they stand as failures.
#[derive(Debug)]
#[must_use = "a charge is settled, or it stands as a failure"]
pub struct Charge(Vec<Charged>);

#[derive(Debug)]
struct Charged {
    slot: u32,
    key: [u8; 16],
    /// What stood there before, and what since.
    counts: [Count; 2],
}

/// A count and its moment, as a slot has them.
type Count = (u32, i64);

const TABLES: usize = 5;
/// Buckets for the PINs of terminals.
const PINS: usize = 128;

#[derive(Clone, Copy)]
struct Slot {
    key: [u8; 16],
    rule: Rule,
    failures: u32,
    last: i64,
}

impl Slot {
    /// A clock that was ahead has left a moment that is still to come. From here on the wait counts from now, else it would
    /// last for as long as the clock was wrong.
    fn mend(&mut self, now: Timestamp) {
        self.last = self.last.min(now.millis());
    }
}

const EMPTY: Slot = Slot { key: [0; 16], rule: Rule::Free, failures: 0, last: 0 };

/// Slots of a bucket that belong to one key each.
const OWN: usize = 8;
/// Behind them, one shared slot for each of the counting rules of a table, which are three at most.
const WIDTH: usize = OWN + 3;
/// How long a source stays familiar after its last login.
const FAMILIAR: i64 = 90 * 24 * 60 * 60 * 1000;

type Bucket = [Slot; WIDTH];

/// The tables.
pub struct Throttle {
    settings: Current<ThrottleSettings>,
    secret: hmac::Key,
    tables: [Vec<Mutex<Bucket>>; TABLES],
    dirty: Mutex<std::collections::BTreeSet<u32>>,
}

impl Throttle {
    /// A table with what was kept of it. `secret` must be the one that the rows were keyed with.
    pub fn new(settings: ThrottleSettings, secret: &[u8; 32], rows: Vec<ThrottleRow>) -> Throttle {
        let buckets = settings.entries.div_ceil(OWN).max(1);
        let table = |buckets: usize| (0..buckets).map(|_| Mutex::new([EMPTY; WIDTH])).collect();
        let throttle = Throttle {
            secret: hmac::Key::new(hmac::HMAC_SHA256, secret),
            tables: [buckets, buckets.div_ceil(4), buckets, buckets.div_ceil(8), PINS].map(table),
            settings: Current::new(settings),
            dirty: Mutex::default(),
        };
        for row in rows {
            throttle.restore(row);
        }
        throttle
    }

    /// Counts by other settings from now on, but in as many places as before: [`ThrottleSettings::entries`] is for a new table.
    pub fn resettle(&self, settings: ThrottleSettings) {
        self.settings.replace(settings);
    }

    /// Charges an attempt on every key, or on none.
    ///
    /// # Errors
    /// [`Refusal::TooManyAttempts`] with the longest time that any of the keys asks to wait.
    pub fn admit(&self, now: Timestamp, keys: &[Key]) -> Result<Charge, Refusal> {
        let mut charge = Charge(Vec::with_capacity(keys.len()));
        for key in keys {
            match self.charge(now, key) {
                Ok(charged) => charge.0.push(charged),
                Err(retry_after) => {
                    self.settle(charge, Settled::Neither);
                    return Err(Refusal::TooManyAttempts { retry_after });
                }
            }
        }
        Ok(charge)
    }

    /// Whether this key could be charged now, without charging it: for what cannot be guessed.
    ///
    /// # Errors
    /// [`Refusal::TooManyAttempts`].
    pub fn check(&self, now: Timestamp, key: &Key) -> Result<(), Refusal> {
        let (hash, rule) = self.hashed(key);
        let slots = lock(self.bucket(rule, &hash).1);
        let mut slot = find(&slots, &hash, rule).map_or(EMPTY, |index| slots[index]);
        slot.mend(now);
        self.wait(rule, &slot, now).map_or(Ok(()), |retry_after| Err(Refusal::TooManyAttempts { retry_after }))
    }

    /// Counts a refusal of what cannot be guessed.
    pub fn count(&self, now: Timestamp, key: &Key) {
        // A key that is full already needs no further count.
        if let Ok(charge) = self.admit(now, std::slice::from_ref(key)) {
            self.settle(charge, Settled::Failed);
        }
    }

    /// Settles an attempt.
    pub fn settle(&self, charge: Charge, settled: Settled) {
        if settled == Settled::Failed {
            return;
        }
        for charged in charge.0 {
            let Some(slots) = self.numbered(charged.slot as usize / WIDTH) else { continue };
            let mut slots = lock(slots);
            let slot = &mut slots[charged.slot as usize % WIDTH];
            if slot.key != charged.key && !is_shared(charged.slot) {
                continue;
            }
            // Only the count goes back. Were the moment to go back too, whoever settles last could make others' failures old. At a
            // terminal a right secret may be shown again and again beside what counts, so there it moves nothing, unless
            // somebody else was charged meanwhile.
            let [before, since] = charged.counts;
            if slot.rule.is_terminals() && (slot.failures, slot.last) == since {
                (slot.failures, slot.last) = before;
            } else {
                slot.failures = slot.failures.saturating_sub(1);
            }
            // What a success forgets is a name's own count; a count that strangers share only gets its charge back.
            let forgets = matches!(slot.rule, Rule::Name | Rule::Terminal | Rule::TerminalFamiliar);
            if settled == Settled::Proved && forgets && !is_shared(charged.slot) {
                slot.failures = 0;
            }
            if slot.failures == 0 {
                *slot = EMPTY;
            }
            drop(slots);
            self.touch(charged.slot);
        }
    }

    /// Whether this source has logged in to this account before.
    pub fn is_familiar(&self, now: Timestamp, source: IpAddr, account: AccountId) -> bool {
        self.is_marked(now, &account_mark(source, account))
    }

    /// Remembers that this source has logged in to this account.
    pub fn mark_familiar(&self, now: Timestamp, source: IpAddr, account: AccountId) {
        self.mark(now, &account_mark(source, account));
    }

    /// Whether this source has shown a secret of this terminal before.
    pub fn is_familiar_at(&self, now: Timestamp, source: IpAddr, terminal: &TerminalName) -> bool {
        self.is_marked(now, &Key::TerminalFamiliar(terminal.clone(), source))
    }

    /// Remembers that this source has shown a secret of this terminal. What stands against it goes along.
    pub fn mark_familiar_at(&self, now: Timestamp, source: IpAddr, terminal: &TerminalName) {
        let familiar = Key::TerminalFamiliar(terminal.clone(), source);
        if !self.is_marked(now, &familiar) {
            self.carry(now, &Key::Terminal(terminal.clone(), source), &familiar);
        }
        self.mark(now, &familiar);
    }

    /// Forgets what stands against these keys: an operator unlocks an account.
    pub fn forget(&self, keys: &[Key]) {
        for key in keys {
            let (hash, rule) = self.hashed(key);
            let (bucket, slots) = self.bucket(rule, &hash);
            let mut slots = lock(slots);
            if let Some(index) = find(&slots, &hash, rule) {
                slots[index] = EMPTY;
                drop(slots);
                self.touch(slot_number(bucket, index));
            }
        }
    }

    /// The slots that changed since this was last asked, as they are now.
    pub fn take_dirty(&self) -> Vec<ThrottleRow> {
        let dirty = std::mem::take(&mut *lock(&self.dirty));
        dirty.into_iter().map(|number| self.row(number)).collect()
    }

    /// Says that these rows could not be kept, so that they are tried again.
    pub fn keep_dirty(&self, rows: &[ThrottleRow]) {
        lock(&self.dirty).extend(rows.iter().map(|row| row.slot));
    }

    fn charge(&self, now: Timestamp, key: &Key) -> Result<Charged, Duration> {
        let (hash, rule) = self.hashed(key);
        let (bucket, slots) = self.bucket(rule, &hash);
        let mut slots = lock(slots);
        let found = find(&slots, &hash, rule);
        let index = found.unwrap_or_else(|| self.place(&slots, rule, now));
        // A newcomer in a place of its own begins with nothing; what stood there before was counted by another rule.
        let mut slot = if found.is_none() && index < OWN { EMPTY } else { slots[index] };
        slot.mend(now);
        let before = (slot.failures, slot.last);
        if let Some(retry_after) = self.wait(rule, &slot, now) {
            slots[index] = slot;
            return Err(retry_after);
        }
        if rule.is_terminals() {
            let failures = Failures { count: slot.failures, since: Timestamp::from_millis(slot.last) };
            let terminals = &self.settings.now().terminals;
            let failed = match rule {
                Rule::TerminalPins => terminals.failed_on_terminal(failures, now),
                _ => terminals.failed(failures, now),
            };
            (slot.failures, slot.last) = (failed.count, failed.since.millis());
            return Ok(self.charged(&mut slots, (bucket, index), before, Slot { key: hash, rule, ..slot }));
        }
        let standing = self.standing(rule, &slot, now);
        slot.last = match rule {
            // What is forgiven is forgiven in whole steps, once; the rest of a step goes on counting.
            Rule::Source | Rule::Token if standing > 0 => slot.last + self.forgiven(rule, &slot, now).1,
            _ => now.millis(),
        };
        slot.failures = standing + 1;
        Ok(self.charged(&mut slots, (bucket, index), before, Slot { key: hash, rule, ..slot }))
    }

    /// Puts a slot back that was charged. One that newcomers share has no key.
    fn charged(&self, slots: &mut Bucket, (bucket, index): (usize, usize), before: Count, slot: Slot) -> Charged {
        let key = if index < OWN { slot.key } else { [0xFF; 16] };
        slots[index] = Slot { key, ..slot };
        let number = slot_number(bucket, index);
        self.touch(number);
        Charged { slot: number, key, counts: [before, (slot.failures, slot.last)] }
    }

    /// How long this slot asks to wait; none: it may be charged now.
    fn wait(&self, rule: Rule, slot: &Slot, now: Timestamp) -> Option<Duration> {
        let settings = self.settings.now();
        let counted = Failures { count: slot.failures, since: Timestamp::from_millis(slot.last) };
        match rule {
            Rule::Terminal | Rule::TerminalFamiliar => return settings.terminals.wait(counted, now),
            Rule::TerminalPins => return settings.terminals.pins_wait(counted, now),
            Rule::Free | Rule::Name | Rule::Source | Rule::Token | Rule::Mark => {}
        }
        let failures = self.standing(rule, slot, now);
        let elapsed = now.since(Timestamp::from_millis(slot.last));
        let wait = match rule {
            Rule::Name if failures >= settings.name_free => {
                let doublings = (failures - settings.name_free).min(30);
                settings.first_wait.saturating_mul(1 << doublings).min(settings.longest_wait).saturating_sub(elapsed)
            }
            Rule::Source if failures >= settings.source_free => self.rest(rule, slot, elapsed, now),
            Rule::Token if failures >= settings.token_free => self.rest(rule, slot, elapsed, now),
            _ => return None,
        };
        (!wait.is_zero()).then_some(wait)
    }

    /// The failures of a slot that still count. A clock that stepped back forgets nothing.
    fn standing(&self, rule: Rule, slot: &Slot, now: Timestamp) -> u32 {
        match rule {
            Rule::Name if now.since(Timestamp::from_millis(slot.last)) >= self.settings.now().forget_after => 0,
            Rule::Terminal | Rule::TerminalFamiliar | Rule::TerminalPins => {
                let counted = Failures { count: slot.failures, since: Timestamp::from_millis(slot.last) };
                let terminals = &self.settings.now().terminals;
                let by_all = rule == Rule::TerminalPins;
                if by_all { terminals.standing_on_terminal(counted, now) } else { terminals.standing(counted, now) }
            }
            Rule::Source | Rule::Token => slot.failures.saturating_sub(self.forgiven(rule, slot, now).0),
            _ => slot.failures,
        }
    }

    /// How many steps were forgiven since `last`, and how many milliseconds those steps are.
    fn forgiven(&self, rule: Rule, slot: &Slot, now: Timestamp) -> (u32, i64) {
        let step = self.step(rule);
        let step = step.as_millis().max(1);
        let steps = now.since(Timestamp::from_millis(slot.last)).as_millis() / step;
        (u32::try_from(steps).unwrap_or(u32::MAX), i64::try_from(steps * step).unwrap_or(i64::MAX))
    }

    /// How long it takes until one is forgiven.
    fn step(&self, rule: Rule) -> Duration {
        let settings = self.settings.now();
        if rule == Rule::Source { settings.source_forgives } else { settings.token_forgives }
    }

    /// What is left of the step that is under way, `elapsed` after `slot.last`.
    fn rest(&self, rule: Rule, slot: &Slot, elapsed: Duration, now: Timestamp) -> Duration {
        let step = self.step(rule);
        let steps = u64::try_from(self.forgiven(rule, slot, now).1).unwrap_or(0);
        step.saturating_sub(elapsed.saturating_sub(Duration::from_millis(steps)))
    }

    /// Where a new key goes: a free slot, one that no longer counts, or the one that newcomers share.
    fn place(&self, slots: &Bucket, rule: Rule, now: Timestamp) -> usize {
        let idle = |slot: &Slot| slot.rule == Rule::Free || self.standing(slot.rule, slot, now) == 0;
        slots[..OWN].iter().position(idle).unwrap_or(rule.shared())
    }

    fn hashed(&self, key: &Key) -> ([u8; 16], Rule) {
        key.hashed(&self.secret)
    }

    fn is_marked(&self, now: Timestamp, key: &Key) -> bool {
        let (hash, _) = self.hashed(key);
        let slots = lock(self.bucket(Rule::Mark, &hash).1);
        slots.iter().any(|slot| slot.rule == Rule::Mark && slot.key == hash && now.millis() - slot.last < FAMILIAR)
    }

    fn mark(&self, now: Timestamp, key: &Key) {
        let (hash, _) = self.hashed(key);
        let (bucket, slots) = self.bucket(Rule::Mark, &hash);
        let mut slots = lock(slots);
        let known = slots.iter().position(|slot| slot.rule == Rule::Mark && slot.key == hash);
        let oldest = (0..WIDTH).min_by_key(|&index| slots[index].last).unwrap_or(0);
        let index = known.unwrap_or(oldest);
        slots[index] = Slot { key: hash, rule: Rule::Mark, failures: 0, last: now.millis() };
        drop(slots);
        self.touch(slot_number(bucket, index));
    }

    /// Counts against one key what stands against another, where each has a slot of its own.
    fn carry(&self, now: Timestamp, from: &Key, to: &Key) {
        let (hash, rule) = self.hashed(from);
        let slots = lock(self.bucket(rule, &hash).1);
        let Some(counted) = find(&slots, &hash, rule).map(|index| slots[index]) else { return };
        drop(slots);
        let (hash, rule) = self.hashed(to);
        let (bucket, slots) = self.bucket(rule, &hash);
        let mut slots = lock(slots);
        let index = find(&slots, &hash, rule).unwrap_or_else(|| self.place(&slots, rule, now));
        if index < OWN {
            slots[index] = Slot { key: hash, rule, ..counted };
            drop(slots);
            self.touch(slot_number(bucket, index));
        }
    }

    /// The table of a rule, and the number of its first bucket among all.
    fn table(&self, rule: Rule) -> (&[Mutex<Bucket>], usize) {
        let index = rule.table() as usize;
        (&self.tables[index], self.tables[..index].iter().map(Vec::len).sum())
    }

    /// The bucket that a key belongs to, with its number.
    fn bucket(&self, rule: Rule, hash: &[u8; 16]) -> (usize, &Mutex<Bucket>) {
        let (table, base) = self.table(rule);
        let bucket = bucket_of(hash, table.len());
        (base + bucket, &table[bucket])
    }

    /// The bucket of that number.
    fn numbered(&self, bucket: usize) -> Option<&Mutex<Bucket>> {
        self.tables.iter().flatten().nth(bucket)
    }

    fn restore(&self, row: ThrottleRow) {
        let rule = match row.rule {
            1 => Rule::Name,
            2 => Rule::Source,
            3 => Rule::Token,
            4 => Rule::Mark,
            5 => Rule::Terminal,
            6 => Rule::TerminalPins,
            7 => Rule::TerminalFamiliar,
            _ => return,
        };
        // The size of the table may have changed since. A key goes where it belongs now; a count that newcomers shared has
        // no key and is dropped when its bucket is no longer there.
        let marks = rule == Rule::Mark;
        let (table, base) = self.table(rule);
        let shared = !marks && row.key == [0xFF; 16];
        let bucket = if shared { (row.slot as usize / WIDTH).wrapping_sub(base) } else { bucket_of(&row.key, table.len()) };
        let Some(slots) = table.get(bucket) else { return };
        let mut slots = lock(slots);
        let own = if marks { WIDTH } else { OWN };
        let index =
            if shared { Some(row.slot as usize % WIDTH) } else { slots[..own].iter().position(|slot| slot.rule == Rule::Free) };
        if let Some(index) = index {
            slots[index] = Slot { key: row.key, rule, failures: row.failures, last: row.last };
            let number = slot_number(base + bucket, index);
            if number != row.slot {
                lock(&self.dirty).extend([number, row.slot]);
            }
        }
    }

    fn row(&self, number: u32) -> ThrottleRow {
        let (bucket, index) = (number as usize / WIDTH, number as usize % WIDTH);
        let slot = self.numbered(bucket).map_or(EMPTY, |slots| lock(slots)[index]);
        ThrottleRow { slot: number, key: slot.key, rule: slot.rule as u8, failures: slot.failures, last: slot.last }
    }

    fn touch(&self, number: u32) {
        lock(&self.dirty).insert(number);
    }
}

/// No account ever has version 0, so a mark is never taken for a count.
fn account_mark(source: IpAddr, account: AccountId) -> Key {
    Key::Familiar(source, account, 0)
}

fn find(slots: &Bucket, hash: &[u8; 16], rule: Rule) -> Option<usize> {
    slots[..OWN].iter().position(|slot| slot.rule == rule && slot.key == *hash)
}

fn slot_number(bucket: usize, index: usize) -> u32 {
    u32::try_from(bucket * WIDTH + index).unwrap_or(u32::MAX)
}

fn is_shared(slot: u32) -> bool {
    slot as usize % WIDTH >= OWN
}

fn bucket_of(hash: &[u8; 16], buckets: usize) -> usize {
    let mut first = [0; 8];
    first.copy_from_slice(&hash[..8]);
    usize::try_from(u64::from_le_bytes(first) % buckets as u64).unwrap_or(0)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
