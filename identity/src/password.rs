//! What can be guessed: passwords and client secrets. Owns the queue in front of the hashing threads, its bound, the hash
//! function, and the check that is only pretended.
//!
//! A hash is the most expensive thing the server does, so how many wait is decided here, by the time that a newcomer would
//! wait: past the bound it is told `Busy` at once. Nothing else ever waits behind this queue. `server` lends the threads;
//! each runs [`Passwords::work`] and keeps its memory block from hash to hash, since a fresh one costs page faults.
//!
//! It refuses to know whose secret it compares. Where there is nothing to compare with, the same work is done on a hash
//! that nothing matches, so that time does not tell whether an account exists. Hashes that others have made are compared as
//! they are (`password/stored.rs`); where that is less work than a hash of our own, the rest of it is done as well.

mod stored;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use argon2::password_hash::phc::{Ident, Output, ParamsString, PasswordHash, Salt};
use argon2::{Algorithm, Block, Params, Version};
use tokio::sync::oneshot;
use unicode_normalization::UnicodeNormalization;

pub use self::stored::{Cost, LONGEST_STORED};
use self::stored::{Stored, evaluate};
use crate::clock::{Clock, Entropy, draw};
use crate::counts::Durations;
use crate::current::Current;
use crate::refusal::Refusal;
use crate::secret::Secret;

/// The longest password, in bytes after NFC normalisation. The shortest has one.
pub const LONGEST_PASSWORD: usize = 1024;
/// The most memory that a hash may ask for, new or stored, in KiB: 1 GiB.
pub const MOST_MEMORY: u32 = 1024 * 1024;
/// The most passes over it.
pub const MOST_ITERATIONS: u32 = 64;
/// The most lanes.
pub const MOST_LANES: u32 = 16;
/// The bytes of a hash that we make.
const OUR_HASH: usize = 32;
/// Among what the waits and the hashes are sorted, for whoever watches.
const BOUNDS: &[Duration] = &[
    Duration::from_millis(1),
    Duration::from_millis(5),
    Duration::from_millis(10),
    Duration::from_millis(25),
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(250),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_millis(2_500),
    Duration::from_secs(5),
    Duration::from_secs(10),
];

/// How passwords are hashed, and how long one may wait for that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PasswordSettings {
    /// Argon2's memory, in KiB; 8 to [`MOST_MEMORY`] (RFC 9106 section 3.1).
    pub memory: u32,
    /// Passes over the memory; 1 to [`MOST_ITERATIONS`].
    pub iterations: u32,
    /// Lanes; 1 to [`MOST_LANES`]. They are computed one after the other.
    pub lanes: u32,
    /// How long a caller may wait for its turn.
    pub max_wait: Duration,
    /// What a stored hash may cost that was not made under these settings. One beyond it is not taken in, and where it is
    /// stored already, nothing matches it. What a hash of our own costs is always within.
    pub imported: Cost,
}

impl Default for PasswordSettings {
    fn default() -> PasswordSettings {
        PasswordSettings {
            memory: 19 * 1024,
            iterations: 2,
            lanes: 1,
            max_wait: Duration::from_secs(2),
            imported: Cost { time: Duration::from_secs(1), memory: 256 * 1024 },
        }
    }
}

impl PasswordSettings {
    fn params(&self) -> Result<Params, String> {
        within(self.memory, self.iterations, self.lanes)?;
        if self.imported.memory > u64::from(MOST_MEMORY) {
            return Err(format!("an imported hash may not have more than {MOST_MEMORY} KiB of memory"));
        }
        Params::new(self.memory, self.iterations, self.lanes, Some(OUR_HASH)).map_err(|error| error.to_string())
    }

    /// What one hash of ours costs.
    fn cost(&self) -> Cost {
        Cost::of_argon2(self.memory, self.iterations)
    }

    /// What a stored hash may cost.
    fn bound(&self) -> Cost {
        let (ours, imported) = (self.cost(), self.imported);
        Cost { time: imported.time.max(ours.time), memory: imported.memory.max(ours.memory) }
    }

    /// Whether these can be used.
    ///
    /// # Errors
    /// One sentence for people.
    pub fn check(&self) -> Result<(), String> {
        self.params().map(|_| ())
    }
}

fn within(memory: u32, iterations: u32, lanes: u32) -> Result<(), String> {
    if memory > MOST_MEMORY || iterations > MOST_ITERATIONS || lanes > MOST_LANES {
        return Err(format!(
            "the cost m={memory},t={iterations},p={lanes} is beyond the bound of m={MOST_MEMORY},t={MOST_ITERATIONS},p={MOST_LANES}"
        ));
    }
    Ok(())
}

/// What a comparison found.
#[derive(Debug, Default)]
pub struct Verdict {
    /// Whether the secret is the right one.
    pub matches: bool,
    /// A hash under the present settings, where the right secret's stored one was made by others or under other settings.
    pub rehashed: Option<String>,
}

/// The queue and the settings.
pub struct Passwords {
    set: Current<Set>,
    /// The salt of what is hashed when there is nothing to compare with.
    pretended: [u8; 16],
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    queue: Mutex<Queue>,
    wake: Condvar,
    evaluated: AtomicU64,
    /// What one hash of ours takes, as a sliding mean in nanoseconds.
    ours: AtomicU64,
    waited: Durations,
    worked: Durations,
}

/// What hashes are made by, and what follows from it.
struct Set {
    settings: PasswordSettings,
    params: Params,
}

impl Set {
    fn of(settings: PasswordSettings) -> Result<Set, String> {
        Ok(Set { params: settings.params()?, settings })
    }
}

struct Queue {
    waiting: VecDeque<Job>,
    running: usize,
    workers: usize,
    open: bool,
    /// What waits and runs, in hashes of ours.
    ahead: u32,
    /// What one of these takes, as a sliding mean.
    cost: Duration,
}

struct Job {
    /// What is to be done, in hashes of ours; at least one.
    weight: u32,
    /// Since when it waits.
    since: Instant,
    task: Task,
}

enum Task {
    Verify { typed: Typed, stored: Option<Stored>, done: oneshot::Sender<Verdict> },
    Hash { secret: Secret, done: oneshot::Sender<String> },
}

/// A secret as it is compared.
struct Typed {
    /// In NFC, as we hash it.
    normal: Secret,
    /// As it was typed, where that is something else: others may have hashed it so.
    verbatim: Option<Secret>,
}

impl Typed {
    /// None where nobody can have such a password.
    fn of(secret: &Secret) -> Option<Typed> {
        let text = secret.expose_text()?;
        let normal: zeroize::Zeroizing<String> = zeroize::Zeroizing::new(text.nfc().collect());
        let verbatim = (normal.as_str() != text).then(|| secret.clone());
        let taken = (1..=LONGEST_PASSWORD).contains(&normal.len());
        taken.then(|| Typed { normal: Secret::new(normal.as_bytes()), verbatim })
    }

    /// All forms, in the order in which they are tried.
    fn forms(&self) -> impl Iterator<Item = &Secret> {
        std::iter::once(&self.normal).chain(&self.verbatim)
    }
}

impl Passwords {
    /// An empty queue.
    ///
    /// # Errors
    /// Settings out of their ranges; one sentence for people.
    pub fn new(settings: PasswordSettings, clock: Arc<dyn Clock>, entropy: Arc<dyn Entropy>) -> Result<Passwords, String> {
        let set = Set::of(settings)?;
        // Before the first hash is timed, its cost is guessed from the memory it walks through.
        let cost = set.settings.cost().time;
        let queue = Queue { waiting: VecDeque::new(), running: 0, workers: 0, open: true, ahead: 0, cost };
        Ok(Passwords {
            set: Current::new(set),
            pretended: draw::<16>(&*entropy),
            clock,
            entropy,
            queue: Mutex::new(queue),
            wake: Condvar::new(),
            evaluated: AtomicU64::new(0),
            ours: AtomicU64::new(nanoseconds(cost)),
            waited: Durations::new(BOUNDS),
            worked: Durations::new(BOUNDS),
        })
    }

    /// Hashes by other settings from now on. What is under way ends as it began, and what a hash takes is guessed anew where it
    /// costs something else.
    ///
    /// # Errors
    /// Settings out of their ranges; then nothing has changed. One sentence for people.
    pub fn resettle(&self, settings: PasswordSettings) -> Result<(), String> {
        let set = Set::of(settings)?;
        let (before, after) = (self.set.now().settings.cost().time, set.settings.cost().time);
        self.set.replace(set);
        if before != after {
            self.ours.store(nanoseconds(after), Ordering::Release);
            self.queue().cost = after;
        }
        Ok(())
    }

    /// Whether one more would be told that it is too busy now: asked before anything is looked up for it.
    ///
    /// # Errors
    /// [`Refusal::Busy`].
    pub fn has_room(&self) -> Result<(), Refusal> {
        self.room(&self.queue())
    }

    /// Compares `secret` with a stored hash, or does the same work for nothing.
    ///
    /// # Errors
    /// [`Refusal::Busy`] at once where the queue is longer than [`PasswordSettings::max_wait`]; [`Refusal::Unavailable`]
    /// where no thread hashes any more.
    pub async fn verify(&self, secret: &Secret, stored: Option<&str>) -> Result<Verdict, Refusal> {
        let typed = Typed::of(secret);
        let stored = stored.filter(|_| typed.is_some()).and_then(|stored| match self.usable(stored) {
            Ok(stored) => Some(stored),
            Err(error) => {
                // The work is done all the same, so that time does not tell that there is such an account.
                tracing::error!(error, "a stored password hash cannot be used: {error}");
                None
            }
        });
        let typed = typed.unwrap_or_else(|| Typed { normal: Secret::new("x"), verbatim: None });
        let forms = if typed.verbatim.is_some() { 2 } else { 1 };
        let weight = forms * stored.as_ref().map_or(1, |stored| self.weight(stored.cost()));
        let (done, verdict) = oneshot::channel();
        self.enqueue(weight, Task::Verify { typed, stored, done }, true)?;
        verdict.await.map_err(|_| Refusal::Unavailable)
    }

    /// Whether a hash that others have made can be taken in: understood, and within [`PasswordSettings::imported`].
    ///
    /// # Errors
    /// One sentence for people, without the hash.
    pub fn check_stored(&self, stored: &str) -> Result<(), String> {
        self.usable(stored).map(|_| ())
    }

    fn usable(&self, stored: &str) -> Result<Stored, String> {
        let stored = Stored::parse(stored)?;
        if let Some(params) = stored.argon2_params() {
            within(params.m_cost(), params.t_cost(), params.p_cost())?;
        }
        let (cost, bound) = (stored.cost(), self.set.now().settings.bound());
        if cost.is_within(bound) {
            return Ok(stored);
        }
        Err(format!("it costs {cost}, and the bound is {bound}"))
    }

    fn weight(&self, cost: Cost) -> u32 {
        let ours = self.set.now().settings.cost().time.as_nanos().max(1);
        u32::try_from(cost.time.as_nanos().div_ceil(ours)).unwrap_or(u32::MAX).clamp(1, 10_000)
    }

    /// Hashes a new secret. For operators: it waits as long as it takes.
    ///
    /// # Errors
    /// [`Refusal::Invalid`] for a secret that no one could log in with; [`Refusal::Unavailable`] as above.
    pub async fn hash(&self, secret: &Secret) -> Result<String, Refusal> {
        let Some(Typed { normal: secret, .. }) = Typed::of(secret) else {
            return Err(Refusal::Invalid(vec![format!("a password must be UTF-8 text of 1 to {LONGEST_PASSWORD} bytes")]));
        };
        let (done, hash) = oneshot::channel();
        self.enqueue(1, Task::Hash { secret, done }, false)?;
        hash.await.map_err(|_| Refusal::Unavailable)
    }

    /// How many hashes were evaluated since the start, pretended ones included.
    pub fn evaluated(&self) -> u64 {
        self.evaluated.load(Ordering::Acquire)
    }

    /// How long secrets waited for a thread.
    pub fn waited(&self) -> &Durations {
        &self.waited
    }

    /// How long a thread then had one, with all the hashes that it took.
    pub fn worked(&self) -> &Durations {
        &self.worked
    }

    /// Runs jobs until [`Passwords::close`] and the queue is empty. Blocks: for a thread of its own.
    pub fn work(&self) {
        self.queue().workers += 1;
        let mut memory: Vec<Block> = Vec::new();
        loop {
            let mut queue = self.queue();
            let job = loop {
                match queue.waiting.pop_front() {
                    Some(job) => break job,
                    None if !queue.open => {
                        queue.workers -= 1;
                        return;
                    }
                    None => queue = self.wake.wait(queue).unwrap_or_else(PoisonError::into_inner),
                }
            };
            queue.running += 1;
            drop(queue);
            let began = self.clock.instant();
            let Job { weight, since, task } = job;
            self.waited.record(began.saturating_duration_since(since));
            // A panic in one hash must not cost the thread; whoever asked is told that it is unavailable.
            let set = self.set.now();
            let run = std::panic::AssertUnwindSafe(|| self.run(task, &set, &mut memory));
            let made = std::panic::catch_unwind(run).unwrap_or(false);
            // What somebody else's hash needed beyond ours is given back.
            memory.truncate(set.params.block_count());
            memory.shrink_to(set.params.block_count());
            self.finished(began, weight, made);
        }
    }

    /// Lets the threads go once the queue is empty, and takes no further job.
    pub fn close(&self) {
        self.queue().open = false;
        self.wake.notify_all();
    }

    fn enqueue(&self, weight: u32, task: Task, bounded: bool) -> Result<(), Refusal> {
        let job = Job { weight, since: self.clock.instant(), task };
        let mut queue = self.queue();
        if !queue.open {
            return Err(Refusal::Unavailable);
        }
        if bounded {
            self.room(&queue)?;
        }
        queue.ahead = queue.ahead.saturating_add(job.weight);
        queue.waiting.push_back(job);
        drop(queue);
        self.wake.notify_one();
        Ok(())
    }

    fn room(&self, queue: &Queue) -> Result<(), Refusal> {
        let jobs = queue.waiting.len() + queue.running;
        let workers = queue.workers.max(1);
        let wait = queue.cost.saturating_mul(queue.ahead) / u32::try_from(workers).unwrap_or(u32::MAX);
        // Up to one job for each thread never counts as waiting: there the wait is what is left of the hash under way.
        if jobs >= workers && wait > self.set.now().settings.max_wait { Err(Refusal::Busy { retry_after: wait }) } else { Ok(()) }
    }

    /// Does one job; answers whether a hash was made beside what the job weighed.
    fn run(&self, task: Task, set: &Set, memory: &mut Vec<Block>) -> bool {
        match task {
            Task::Hash { secret, done } => {
                let hash = self.fresh(set, &secret, memory);
                self.evaluated.fetch_add(1, Ordering::AcqRel);
                if let Ok(hash) = hash {
                    // Whoever asked may have gone meanwhile; then the hash is for nobody.
                    done.send(hash).ok();
                }
                false
            }
            Task::Verify { typed, stored, done } => {
                let found = self.compare(set, &typed, stored.as_ref(), memory);
                let rehashed = if found.is_due { self.fresh(set, &typed.normal, memory).ok() } else { None };
                let made = rehashed.is_some();
                // Counted before it is told, so that whoever was told finds it counted.
                self.evaluated.fetch_add(u64::from(found.compared) + u64::from(made), Ordering::AcqRel);
                done.send(Verdict { matches: found.matches, rehashed }).ok();
                made
            }
        }
    }

    /// Compares one form after the other until one matches.
    fn compare(&self, set: &Set, typed: &Typed, stored: Option<&Stored>, memory: &mut Vec<Block>) -> Found {
        let began = self.clock.instant();
        let mut found = Found::default();
        for form in typed.forms() {
            found.compared += 1;
            let matches = match stored {
                None => self.timed(|| self.pretend(&set.settings, set.settings.memory, form, memory)).map(|()| false),
                Some(stored) if stored.is_ours(&set.params) => self.timed(|| stored.matches(form, memory)),
                Some(stored) => stored.matches(form, memory),
            };
            match (matches, stored) {
                (Ok(true), Some(stored)) => {
                    // Ours are made of the first form.
                    let is_ours = stored.is_ours(&set.params) && found.compared == 1;
                    return Found { matches: true, is_due: !is_ours && stored.sees_all_of(form), ..found };
                }
                (Ok(_), _) => {}
                (Err(error), _) => {
                    tracing::error!(error, "a password cannot be compared: {error}");
                    // The work is done all the same: time shall not tell that there is such an account.
                    self.pretend(&set.settings, set.settings.memory, form, memory).ok();
                }
            }
        }
        if stored.is_some_and(|stored| !stored.is_ours(&set.params)) {
            self.top_up(&set.settings, self.clock.instant().saturating_duration_since(began), typed, memory);
        }
        found
    }

    /// Does the rest of the work that as many comparisons with a hash of ours would have been, beyond what `took` so long: a
    /// wrong guess shall not tell that the account came from elsewhere. What took longer than that stays as long.
    fn top_up(&self, settings: &PasswordSettings, took: Duration, typed: &Typed, memory: &mut Vec<Block>) {
        let ours = Duration::from_nanos(self.ours.load(Ordering::Acquire));
        let mut owed = typed.forms().map(|_| ours).sum::<Duration>().saturating_sub(took);
        for form in typed.forms() {
            let share = owed.min(ours);
            if share.is_zero() {
                return;
            }
            owed -= share;
            let part = u128::from(settings.memory) * share.as_nanos() / ours.as_nanos();
            let part = u32::try_from(part).unwrap_or(settings.memory).max(8 * settings.lanes);
            if let Err(error) = self.pretend(settings, part, form, memory) {
                tracing::error!(error, "a password cannot be compared: {error}");
            }
        }
    }

    /// The work of a hash of ours over so much memory, for nothing.
    fn pretend(
        &self,
        settings: &PasswordSettings,
        memory_kib: u32,
        secret: &Secret,
        memory: &mut Vec<Block>,
    ) -> Result<(), String> {
        let params =
            Params::new(memory_kib, settings.iterations, settings.lanes, Some(OUR_HASH)).map_err(|error| error.to_string())?;
        let mut output = zeroize::Zeroizing::new([0; OUR_HASH]);
        evaluate((Algorithm::Argon2id, Version::V0x13, &params), secret, &self.pretended, &mut *output, memory)
    }

    fn fresh(&self, set: &Set, secret: &Secret, memory: &mut Vec<Block>) -> Result<String, String> {
        let salt = draw::<16>(&*self.entropy);
        let mut output = zeroize::Zeroizing::new([0; OUR_HASH]);
        self.timed(|| evaluate((Algorithm::Argon2id, Version::V0x13, &set.params), secret, &salt, &mut *output, memory))?;
        phc(&set.params, &salt, &*output)
    }

    /// Runs one hash of ours, and learns what it takes.
    fn timed<T>(&self, hash: impl FnOnce() -> T) -> T {
        let began = self.clock.instant();
        let result = hash();
        let took = self.clock.instant().saturating_duration_since(began);
        let took = nanoseconds(took);
        // Of two threads that learn at once, one may be lost.
        let mean = self.ours.load(Ordering::Acquire);
        self.ours.store(mean - mean / 8 + took / 8, Ordering::Release);
        result
    }

    fn finished(&self, began: Instant, weight: u32, made: bool) {
        let took = self.clock.instant().saturating_duration_since(began);
        self.worked.record(took);
        let took = took / weight.saturating_add(u32::from(made));
        let mut queue = self.queue();
        queue.running -= 1;
        queue.ahead = queue.ahead.saturating_sub(weight);
        queue.cost = (queue.cost * 7 + took) / 8;
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What was found while comparing.
#[derive(Default)]
struct Found {
    /// How many forms were compared.
    compared: u8,
    matches: bool,
    /// Whether a hash of ours is due in the place of the stored one.
    is_due: bool,
}

fn nanoseconds(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}

fn phc(params: &Params, salt: &[u8; 16], output: &[u8]) -> Result<String, String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let hash = PasswordHash {
        algorithm: Ident::new("argon2id").map_err(|error| text(&error))?,
        version: Some(Version::V0x13.into()),
        params: ParamsString::try_from(params).map_err(|error| text(&error))?,
        salt: Some(Salt::new(salt).map_err(|error| text(&error))?),
        hash: Some(Output::new(output).map_err(|error| text(&error))?),
    };
    Ok(hash.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{SystemClock, block_on};

    fn passwords(settings: PasswordSettings) -> Arc<Passwords> {
        let passwords = Passwords::new(settings, Arc::new(SystemClock), Arc::new(crate::clock::SystemEntropy));
        Arc::new(passwords.expect("settings in range"))
    }

    fn cheap() -> PasswordSettings {
        PasswordSettings { memory: 64, iterations: 1, max_wait: Duration::from_secs(5), ..PasswordSettings::default() }
    }

    fn with_worker<T>(passwords: &Arc<Passwords>, run: impl FnOnce() -> T) -> T {
        let worker = {
            let passwords = Arc::clone(passwords);
            std::thread::spawn(move || passwords.work())
        };
        let result = run();
        passwords.close();
        worker.join().expect("the worker ends");
        result
    }

    fn hash(passwords: &Passwords, text: &str) -> String {
        block_on(passwords.hash(&Secret::new(text))).expect("a hash")
    }

    fn matches(passwords: &Passwords, text: &str, stored: &str) -> bool {
        block_on(passwords.verify(&Secret::new(text), Some(stored))).expect("a verdict").matches
    }

    #[test]
    fn the_right_password_in_either_unicode_form_matches_and_nothing_else_does() {
        let passwords = passwords(cheap());
        with_worker(&passwords, || {
            let stored = hash(&passwords, "Caf\u{e9}");
            assert!(stored.starts_with("$argon2id$v=19$m=64,t=1,p=1$"), "{stored}");
            assert!(matches(&passwords, "Cafe\u{301}", &stored));
            for wrong in ["cafe", "Caf\u{e9} ", "", "\0", &"x".repeat(1025)] {
                assert!(!matches(&passwords, wrong, &stored), "{wrong:?}");
            }
            let before = passwords.evaluated();
            assert!(!block_on(passwords.verify(&Secret::new("x"), None)).expect("a verdict").matches);
            assert_eq!(passwords.evaluated(), before + 1, "nothing to compare with costs one evaluation all the same");
        });
    }

    #[test]
    fn the_published_test_vector_of_another_implementation_verifies() {
        // From the reference implementation's command line: echo -n password | argon2 somesalt -id -t 2 -m 16 -p 1
        let stored = "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc";
        let passwords = passwords(cheap());
        with_worker(&passwords, || {
            let verdict = block_on(passwords.verify(&Secret::new("password"), Some(stored))).expect("a verdict");
            assert!(verdict.matches);
            let rehashed = verdict.rehashed.expect("its settings are others");
            assert!(rehashed.starts_with("$argon2id$v=19$m=64,t=1,p=1$"), "{rehashed}");
            assert!(matches(&passwords, "password", &rehashed));
            assert!(!matches(&passwords, "Password", stored));
        });
    }

    #[test]
    fn a_stored_hash_that_is_broken_or_beyond_the_bound_matches_nothing_and_harms_nobody() {
        let passwords = passwords(cheap());
        with_worker(&passwords, || {
            let (salt, hash_) = ("c29tZXNhbHQ", "CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc");
            for stored in [
                "".to_owned(),
                "plain".to_owned(),
                format!("$argon2id$v=19$m=4294967295,t=2,p=1${salt}${hash_}"),
                format!("$argon2id$v=19$m=64,t=4294967295,p=1${salt}${hash_}"),
                format!("$argon2id$v=19$m=64000,t=1,p=255${salt}${hash_}"),
                format!("$argon2d$v=19$m=64,t=1,p=1${salt}${hash_}"),
                format!("$argon2id$v=16$m=64,t=1,p=1${salt}${hash_}"),
                format!("$argon2id$v=19$m=64,t=1,p=1${salt}"),
                format!("$argon2id$v=19$m=64,t=1,p=1$c2FsdA${hash_}"),
                format!("$argon2i$v=19$m=64,t=1,p=1$$${hash_}"),
            ] {
                assert!(passwords.check_stored(&stored).is_err(), "{stored} is not taken in");
                assert!(!matches(&passwords, "password", &stored), "{stored}");
            }
            let good = hash(&passwords, "password");
            assert!(matches(&passwords, "password", &good));
        });
    }

    #[test]
    fn a_hash_that_others_made_is_made_anew_at_the_first_good_login() {
        let passwords = passwords(cheap());
        with_worker(&passwords, || {
            for (password, stored) in [
                ("password", "$argon2i$v=19$m=256,t=2,p=1$c29tZXNhbHQ$iekCn0Y3spW+sCcFanM2xBT63UP2sghkUoHLIUpWRS8"),
                ("a", "$2a$06$m0CrhHm10qJ3lXRY.5zDGO3rS2KdeeWLuGmsfGlMfOxih58VYVfxe"),
                ("password", "$pbkdf2-sha256$1212$4vjV83LKPjQzk31VI4E0Vw$hsYF68OiOUPdDZ1Fg.fJPeq1h/gXXY7acBp9/6c.tmQ"),
                ("my password", "AAABAgMEBQYHCAkKCwwNDg+ukCEMDf0yyQ29NYubggHIVY0sdEUfdyeM+E1LtH1uJg=="),
                ("p@55w,rd:1", "$servicestack-sha256$AQIDBA==$PgoZboViJJzz0pCK9ZVbUKnfYpIdXpOSZG7ugR9vR+Q="),
            ] {
                let wrong = block_on(passwords.verify(&Secret::new("wrong"), Some(stored))).expect("a verdict");
                assert!(!wrong.matches && wrong.rehashed.is_none(), "{stored}");
                let before = passwords.evaluated();
                let verdict = block_on(passwords.verify(&Secret::new(password), Some(stored))).expect("a verdict");
                assert_eq!(passwords.evaluated(), before + 2, "one was compared and one was made");
                let rehashed = verdict.rehashed.unwrap_or_else(|| panic!("{stored} is no hash of ours"));
                assert!(rehashed.starts_with("$argon2id$v=19$m=64,t=1,p=1$"), "{rehashed}");
                let again = block_on(passwords.verify(&Secret::new(password), Some(&rehashed))).expect("a verdict");
                assert!(again.matches && again.rehashed.is_none(), "{rehashed} is ours");
            }
        });
    }

    #[test]
    fn bcrypt_stays_where_more_was_typed_than_it_can_tell_apart() {
        let passwords = passwords(cheap());
        with_worker(&passwords, || {
            let long = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 and a typing errro";
            let stored = "$2a$05$abcdefghijklmnopqrstuu5s2v8.iXieOjg/.AySBTTZIIVFJeBui";
            let verdict = block_on(passwords.verify(&Secret::new(long), Some(stored))).expect("a verdict");
            assert!(verdict.matches, "as it was where the hash comes from");
            assert_eq!(verdict.rehashed, None, "or else the error would be the password from now on");
        });
    }

    #[test]
    fn what_others_hashed_as_it_was_typed_is_found_after_nfc_and_is_ours_in_nfc() {
        let passwords = passwords(cheap());
        // PBKDF2 of each spelling of Caf\u{e9}, as another implementation computes it.
        let (composed, decomposed) = (
            "$pbkdf2-sha256$i=1000$c29tZXNhbHQ$6b31RMYe4h3IbD+dGw5isv1t0bI1akCPbO04QmqdSWU",
            "$pbkdf2-sha256$i=1000$c29tZXNhbHQ$SBdzvg4s99pJJkUky50ELFqAgIgJ1uLVZXP4+brralw",
        );
        with_worker(&passwords, || {
            assert!(matches(&passwords, "Caf\u{e9}", composed) && matches(&passwords, "Cafe\u{301}", composed));
            assert!(!matches(&passwords, "Caf\u{e9}", decomposed), "nobody knows how it was typed there");
            let verdict = block_on(passwords.verify(&Secret::new("Cafe\u{301}"), Some(decomposed))).expect("a verdict");
            let rehashed = verdict.rehashed.filter(|_| verdict.matches).expect("it is made anew");
            for typed in ["Caf\u{e9}", "Cafe\u{301}"] {
                let verdict = block_on(passwords.verify(&Secret::new(typed), Some(&rehashed))).expect("a verdict");
                assert!(verdict.matches && verdict.rehashed.is_none(), "{typed:?}");
            }
            // Two spellings are two comparisons, whether there is an account or not.
            for stored in [None, Some(rehashed.as_str()), Some(composed)] {
                let before = passwords.evaluated();
                assert!(!block_on(passwords.verify(&Secret::new("e\u{301}"), stored)).expect("a verdict").matches);
                assert_eq!(passwords.evaluated(), before + 2, "{stored:?}");
            }
        });
    }

    #[test]
    fn a_wrong_guess_at_a_cheaper_hash_does_the_rest_of_the_work_of_ours() {
        // None is timed here, so that one of ours counts as its nominal 10 ms; its memory says that the work was done.
        let passwords = passwords(PasswordSettings { memory: 8192, iterations: 2, ..cheap() });
        let walked = |stored: &str| {
            let stored = Stored::parse(stored).expect("a stored form");
            let mut memory = Vec::new();
            let typed = Typed::of(&Secret::new("wrong")).expect("a password");
            let found = passwords.compare(&passwords.set.now(), &typed, Some(&stored), &mut memory);
            assert!(!found.matches && found.compared == 1);
            memory.len()
        };
        let salted = "$servicestack-sha256$AQIDBA==$PgoZboViJJzz0pCK9ZVbUKnfYpIdXpOSZG7ugR9vR+Q=";
        assert!((4096..=8192).contains(&walked(salted)), "{} KiB", walked(salted));
        let dear = "AQAAAAEAA9CQAAAAIESkQuj2Du8Y+kbc5lcN/W/3NiAZFEm11P27nrSN5/tId+bR1SwV8CO1Jd72r4C08OLvplNlCDc3oQZ8efcW+jQ=";
        assert_eq!(walked(dear), 0, "it was dearer already");
    }

    #[test]
    fn what_is_beyond_the_set_bound_is_neither_taken_nor_compared() {
        let cost = |millis, memory| Cost { time: Duration::from_millis(millis), memory };
        let with = |imported| passwords(PasswordSettings { imported, ..cheap() });
        let pbkdf2 = "$pbkdf2-sha256$1212$4vjV83LKPjQzk31VI4E0Vw$hsYF68OiOUPdDZ1Fg.fJPeq1h/gXXY7acBp9/6c.tmQ";
        let argon2 = "$argon2i$v=19$m=256,t=2,p=1$c29tZXNhbHQ$iekCn0Y3spW+sCcFanM2xBT63UP2sghkUoHLIUpWRS8";
        for (imported, stored, taken) in [
            (cost(10, 0), pbkdf2, true),
            (cost(0, 0), pbkdf2, false),
            (cost(10, 256), argon2, true),
            (cost(10, 255), argon2, false),
        ] {
            let passwords = with(imported);
            assert_eq!(passwords.check_stored(stored).is_ok(), taken, "{stored} within {imported}");
            with_worker(&passwords, || {
                let before = passwords.evaluated();
                assert_eq!(matches(&passwords, "password", stored), taken, "{stored} within {imported}");
                assert_eq!(passwords.evaluated(), before + 1 + u64::from(taken));
            });
        }
        let none = with(cost(0, 0));
        with_worker(&none, || {
            let ours = hash(&none, "password");
            assert!(none.check_stored(&ours).is_ok() && matches(&none, "password", &ours), "our own is always within");
        });
    }

    #[test]
    fn a_dear_hash_counts_in_the_queue_as_what_it_is() {
        let settings = PasswordSettings { memory: 1024, iterations: 1, max_wait: Duration::from_millis(100), ..cheap() };
        let passwords = passwords(settings);
        let dear = "$2b$12$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW";
        let secret = Secret::new("x");
        let waker = std::task::Waker::noop();
        let mut first = std::pin::pin!(passwords.verify(&secret, Some(dear)));
        assert!(first.as_mut().poll(&mut std::task::Context::from_waker(waker)).is_pending());
        let refused = block_on(passwords.verify(&secret, None)).expect_err("one alone is more than the wait");
        assert!(matches!(refused, Refusal::Busy { retry_after } if retry_after > Duration::from_millis(200)), "{refused:?}");
        with_worker(&passwords, || assert!(!block_on(first).expect("its turn comes").matches));
        assert_eq!(passwords.queue().ahead, 0);
    }

    #[test]
    fn past_the_bound_a_caller_is_told_busy_at_once() {
        let settings = PasswordSettings { max_wait: Duration::ZERO, ..cheap() };
        let passwords = passwords(settings);
        // Nobody works yet, so the first one stands in the queue.
        let secret = Secret::new("x");
        let mut first = std::pin::pin!(passwords.verify(&secret, None));
        let waker = std::task::Waker::noop();
        assert!(first.as_mut().poll(&mut std::task::Context::from_waker(waker)).is_pending());
        let refused = block_on(passwords.verify(&secret, None)).expect_err("the queue is full");
        assert!(matches!(refused, Refusal::Busy { retry_after } if !retry_after.is_zero()), "{refused:?}");
        with_worker(&passwords, || assert!(!block_on(first).expect("its turn comes").matches));
    }

    /// Chance that panics as often as it was told to.
    struct Spoilt(AtomicU64);

    impl Entropy for Spoilt {
        fn fill(&self, bytes: &mut [u8]) {
            let left = self.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, |left| left.checked_sub(1));
            assert!(left.is_err(), "a hash panics, as it was asked to");
            crate::clock::SystemEntropy.fill(bytes);
        }
    }

    #[test]
    fn x2_a_hash_that_panics_is_told_as_unavailable_and_costs_neither_the_thread_nor_its_place() {
        let entropy = Arc::new(Spoilt(AtomicU64::new(0)));
        let passwords = Passwords::new(cheap(), Arc::new(SystemClock), entropy.clone()).expect("settings in range");
        let passwords = Arc::new(passwords);
        with_worker(&passwords, || {
            let stored = hash(&passwords, "x");
            entropy.0.store(3, Ordering::Release);
            for _ in 0..3 {
                let told = block_on(passwords.hash(&Secret::new("y")));
                assert_eq!(told, Err(Refusal::Unavailable));
            }
            // The one thread there is goes on.
            assert!(matches(&passwords, "x", &stored));
        });
        let queue = passwords.queue();
        assert_eq!((queue.ahead, queue.running, queue.waiting.len(), queue.workers), (0, 0, 0, 0));
    }

    #[test]
    fn after_the_close_nothing_is_taken() {
        let passwords = passwords(cheap());
        passwords.close();
        assert_eq!(block_on(passwords.verify(&Secret::new("x"), None)).expect_err("closed"), Refusal::Unavailable);
    }

    #[test]
    fn other_settings_hold_for_the_next_hash_and_what_was_hashed_before_is_hashed_anew() {
        let passwords = passwords(cheap());
        with_worker(&passwords, || {
            let before = hash(&passwords, "x");
            passwords.resettle(PasswordSettings { iterations: 2, ..cheap() }).expect("settings in range");
            let verdict = block_on(passwords.verify(&Secret::new("x"), Some(&before))).expect("a verdict");
            assert!(verdict.matches && verdict.rehashed.is_some_and(|hash| hash.contains("t=2")));
            assert!(hash(&passwords, "x").contains("m=64,t=2"));
            let refused = passwords.resettle(PasswordSettings { iterations: 0, ..cheap() });
            assert!(refused.is_err() && hash(&passwords, "x").contains("t=2"), "what cannot be used changes nothing");
        });
    }
}
