//! What can be guessed: passwords and client secrets. Owns the queue in front of the hashing threads, its bound, the hash
//! function, and the check that is only pretended.
//!
//! A hash is the most expensive thing the server does, so how many wait is decided here, by the time that a newcomer would
//! wait: past the bound it is told `Busy` at once. Nothing else ever waits behind this queue. `server` lends the threads;
//! each runs [`Passwords::work`] and keeps its memory block from hash to hash, since a fresh one costs page faults.
//!
//! It refuses to know whose secret it compares. Where there is nothing to compare with, the same work is done on a hash
//! that nothing matches, so that time does not tell whether an account exists.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use argon2::password_hash::phc::{Ident, Output, ParamsString, PasswordHash, Salt};
use argon2::{Algorithm, Argon2, Block, Params, Version};
use tokio::sync::oneshot;
use unicode_normalization::UnicodeNormalization;

use crate::clock::{Clock, Entropy, draw};
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
}

impl Default for PasswordSettings {
    fn default() -> PasswordSettings {
        PasswordSettings { memory: 19 * 1024, iterations: 2, lanes: 1, max_wait: Duration::from_secs(2) }
    }
}

impl PasswordSettings {
    fn params(&self) -> Result<Params, String> {
        within(self.memory, self.iterations, self.lanes)?;
        Params::new(self.memory, self.iterations, self.lanes, Some(32)).map_err(|error| error.to_string())
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
    /// A hash under the present settings, where the right secret's stored one was made under others.
    pub rehashed: Option<String>,
}

/// The queue and the settings.
pub struct Passwords {
    settings: PasswordSettings,
    params: Params,
    /// What is compared with when there is nothing to compare with.
    pretended: Arc<str>,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    queue: Mutex<Queue>,
    wake: Condvar,
    evaluated: AtomicU64,
}

struct Queue {
    waiting: VecDeque<Job>,
    running: usize,
    workers: usize,
    open: bool,
    /// What one hash takes, as a sliding mean.
    cost: Duration,
}

enum Job {
    Verify { secret: Secret, stored: Arc<str>, real: bool, done: oneshot::Sender<Verdict> },
    Hash { secret: Secret, done: oneshot::Sender<String> },
}

impl Passwords {
    /// An empty queue.
    ///
    /// # Errors
    /// Settings out of their ranges; one sentence for people.
    pub fn new(settings: PasswordSettings, clock: Arc<dyn Clock>, entropy: Arc<dyn Entropy>) -> Result<Passwords, String> {
        let params = settings.params()?;
        let nothing = Output::new(&draw::<32>(&*entropy)).map_err(|error| error.to_string())?;
        let pretended = phc(&params, &draw::<16>(&*entropy), nothing)?;
        // Before the first hash is timed, its cost is guessed from the memory it walks through.
        let cost = Duration::from_micros(u64::from(settings.memory) * u64::from(settings.iterations) * 6 / 10);
        let queue = Queue { waiting: VecDeque::new(), running: 0, workers: 0, open: true, cost };
        Ok(Passwords {
            settings,
            params,
            pretended: pretended.into(),
            clock,
            entropy,
            queue: Mutex::new(queue),
            wake: Condvar::new(),
            evaluated: AtomicU64::new(0),
        })
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
        let secret = normal(secret);
        let real = stored.is_some() && secret.is_some();
        let stored = match stored {
            Some(stored) if real => stored.into(),
            _ => Arc::clone(&self.pretended),
        };
        let (done, verdict) = oneshot::channel();
        self.enqueue(Job::Verify { secret: secret.unwrap_or_else(|| Secret::new("x")), stored, real, done }, true)?;
        verdict.await.map_err(|_| Refusal::Unavailable)
    }

    /// Hashes a new secret. For operators: it waits as long as it takes.
    ///
    /// # Errors
    /// [`Refusal::Invalid`] for a secret that no one could log in with; [`Refusal::Unavailable`] as above.
    pub async fn hash(&self, secret: &Secret) -> Result<String, Refusal> {
        let Some(secret) = normal(secret) else {
            return Err(Refusal::Invalid(vec![format!("a password must be UTF-8 text of 1 to {LONGEST_PASSWORD} bytes")]));
        };
        let (done, hash) = oneshot::channel();
        self.enqueue(Job::Hash { secret, done }, false)?;
        hash.await.map_err(|_| Refusal::Unavailable)
    }

    /// How many hashes were evaluated since the start, pretended ones included.
    pub fn evaluated(&self) -> u64 {
        self.evaluated.load(Ordering::Acquire)
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
            // A panic in one hash must not cost the thread; whoever asked is told that it is unavailable.
            let run = std::panic::AssertUnwindSafe(|| self.run(job, &mut memory));
            let hashes = std::panic::catch_unwind(run).unwrap_or(1);
            self.finished(began, hashes);
        }
    }

    /// Lets the threads go once the queue is empty, and takes no further job.
    pub fn close(&self) {
        self.queue().open = false;
        self.wake.notify_all();
    }

    fn enqueue(&self, job: Job, bounded: bool) -> Result<(), Refusal> {
        let mut queue = self.queue();
        if !queue.open {
            return Err(Refusal::Unavailable);
        }
        if bounded {
            self.room(&queue)?;
        }
        queue.waiting.push_back(job);
        drop(queue);
        self.wake.notify_one();
        Ok(())
    }

    fn room(&self, queue: &Queue) -> Result<(), Refusal> {
        let ahead = u32::try_from(queue.waiting.len() + queue.running).unwrap_or(u32::MAX);
        let workers = u32::try_from(queue.workers.max(1)).unwrap_or(u32::MAX);
        let wait = queue.cost.saturating_mul(ahead) / workers;
        // Up to one job for each thread never counts as waiting: there the wait is what is left of the hash under way.
        if ahead >= workers && wait > self.settings.max_wait { Err(Refusal::Busy { retry_after: wait }) } else { Ok(()) }
    }

    /// Does one job; answers how many hashes it took.
    fn run(&self, job: Job, memory: &mut Vec<Block>) -> u32 {
        match job {
            Job::Hash { secret, done } => {
                let hash = self.fresh(&secret, memory);
                self.evaluated.fetch_add(1, Ordering::AcqRel);
                if let Ok(hash) = hash {
                    // Whoever asked may have gone meanwhile; then the hash is for nobody.
                    done.send(hash).ok();
                }
                1
            }
            Job::Verify { secret, stored, real, done } => {
                let (matches, current) = match compare(&secret, &stored, memory) {
                    Ok((matches, params)) => (matches && real, same_cost(&params, &self.params)),
                    Err(error) => {
                        tracing::error!(error, "a stored password hash cannot be used: {error}");
                        // The work is done all the same, so that time does not tell that there is such an account.
                        compare(&secret, &self.pretended, memory).ok();
                        (false, true)
                    }
                };
                let rehashed = if matches && !current { self.fresh(&secret, memory).ok() } else { None };
                let hashes = 1 + u32::from(rehashed.is_some());
                // Counted before it is told, so that whoever was told finds it counted.
                self.evaluated.fetch_add(u64::from(hashes), Ordering::AcqRel);
                done.send(Verdict { matches, rehashed }).ok();
                hashes
            }
        }
    }

    fn fresh(&self, secret: &Secret, memory: &mut Vec<Block>) -> Result<String, String> {
        let salt = draw::<16>(&*self.entropy);
        let output = evaluate(&self.params, secret, &salt, memory)?;
        phc(&self.params, &salt, output)
    }

    fn finished(&self, began: Instant, hashes: u32) {
        let took = self.clock.instant().saturating_duration_since(began) / hashes;
        let mut queue = self.queue();
        queue.running -= 1;
        queue.cost = (queue.cost * 7 + took) / 8;
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// NFC, as it is hashed. None where nobody can have such a password.
fn normal(secret: &Secret) -> Option<Secret> {
    let text: zeroize::Zeroizing<String> = zeroize::Zeroizing::new(secret.expose_text()?.nfc().collect());
    (1..=LONGEST_PASSWORD).contains(&text.len()).then(|| Secret::new(text.as_bytes()))
}

fn same_cost(one: &Params, other: &Params) -> bool {
    (one.m_cost(), one.t_cost(), one.p_cost(), one.output_len())
        == (other.m_cost(), other.t_cost(), other.p_cost(), other.output_len())
}

fn compare(secret: &Secret, stored: &str, memory: &mut Vec<Block>) -> Result<(bool, Params), String> {
    let stored = PasswordHash::new(stored).map_err(|error| error.to_string())?;
    let (Some(salt), Some(expected)) = (&stored.salt, &stored.hash) else {
        return Err("it has no salt or no hash".to_owned());
    };
    if stored.algorithm.as_str() != "argon2id" || stored.version != Some(Version::V0x13.into()) {
        return Err(format!("its algorithm is {}, not argon2id of version 19", stored.algorithm));
    }
    let params = Params::try_from(&stored).map_err(|error| error.to_string())?;
    within(params.m_cost(), params.t_cost(), params.p_cost())?;
    let found = evaluate(&params, secret, salt, memory)?;
    Ok((Secret::new(found.as_bytes()).matches(expected.as_bytes()), params))
}

fn evaluate(params: &Params, secret: &Secret, salt: &[u8], memory: &mut Vec<Block>) -> Result<Output, String> {
    let blocks = params.block_count();
    if memory.len() < blocks {
        memory.resize(blocks, Block::default());
    }
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params.clone());
    let mut output = zeroize::Zeroizing::new([0; 64]);
    let output = &mut output[..params.output_len().unwrap_or(Params::DEFAULT_OUTPUT_LEN).min(64)];
    argon2
        .hash_password_into_with_memory(secret.expose(), salt, output, &mut memory[..blocks])
        .map_err(|error| error.to_string())?;
    Output::new(output).map_err(|error| error.to_string())
}

fn phc(params: &Params, salt: &[u8; 16], output: Output) -> Result<String, String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let hash = PasswordHash {
        algorithm: Ident::new("argon2id").map_err(|error| text(&error))?,
        version: Some(Version::V0x13.into()),
        params: ParamsString::try_from(params).map_err(|error| text(&error))?,
        salt: Some(Salt::new(salt).map_err(|error| text(&error))?),
        hash: Some(output),
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
        PasswordSettings { memory: 64, iterations: 1, lanes: 1, max_wait: Duration::from_secs(5) }
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
            ] {
                assert!(!matches(&passwords, "password", &stored), "{stored}");
            }
            let good = hash(&passwords, "password");
            assert!(matches(&passwords, "password", &good));
        });
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

    #[test]
    fn after_the_close_nothing_is_taken() {
        let passwords = passwords(cheap());
        passwords.close();
        assert_eq!(block_on(passwords.verify(&Secret::new("x"), None)).expect_err("closed"), Refusal::Unavailable);
    }
}
