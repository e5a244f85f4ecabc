//! The writer: one thread, one connection, many jobs to a commit.
//!
//! It takes the job that waits longest, then all others that wait by then, and runs each in a savepoint of its own inside
//! one transaction. The sync of that commit is what costs, so under load it is shared, and without load nobody waits for
//! company. Nobody is answered before the commit is on disk.
//!
//! ```text
//!   a job fails or panics     its savepoint is rolled back, its neighbours stay
//!   SQLite drops all of it    (disk full, broken file): all so far are told so, the rest begins a new transaction
//!   the commit fails          all are told so; the next group begins afresh
//! ```

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::Receiver;

use gatepost_identity::store::StoreError;
use rusqlite::Connection;

use crate::failure::Failure;
use crate::job::Job;

/// The most jobs of one commit: so many that a sync is well shared, so few that the first of them does not wait long.
const GROUP: usize = 256;

/// Works until no more jobs can come and all that came are done.
pub(crate) fn work(connection: &Connection, jobs: &Receiver<Box<dyn Job>>, commits: &Arc<AtomicU64>) {
    while let Ok(first) = jobs.recv() {
        let mut waiting = VecDeque::from([first]);
        waiting.extend(jobs.try_iter().take(GROUP - 1));
        while !waiting.is_empty() {
            transaction(connection, &mut waiting, commits);
        }
    }
    // Readers may still hold the file, and then closing this connection would not do it: the file alone holds everything.
    if let Err(error) = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())) {
        tracing::warn!(%error, "the write-ahead log stays beside the database: {error}");
    }
}

/// One transaction over as many of `waiting`, at least one, as it survives; then their answers.
fn transaction(connection: &Connection, waiting: &mut VecDeque<Box<dyn Job>>, commits: &AtomicU64) {
    let mut tried = Vec::with_capacity(waiting.len());
    let outcome = run(connection, waiting, &mut tried).and_then(|()| say(connection, "COMMIT"));
    let lost = match outcome {
        Ok(()) => {
            commits.fetch_add(1, Ordering::Relaxed);
            None
        }
        Err(failure) => Some(give_up(connection, failure)),
    };
    if tried.is_empty() {
        // No transaction could begin, which is nobody's own fault and would not go better for the next one.
        tried.extend(waiting.drain(..));
    }
    for job in tried {
        job.answer(lost.as_ref());
    }
}

fn run(connection: &Connection, waiting: &mut VecDeque<Box<dyn Job>>, tried: &mut Vec<Box<dyn Job>>) -> Result<(), Failure> {
    say(connection, "BEGIN IMMEDIATE")?;
    while let Some(mut job) = waiting.pop_front() {
        let kept = say(connection, "SAVEPOINT job").map(|()| job.run(connection));
        tried.push(job);
        let kept = kept?;
        if connection.is_autocommit() {
            return Err(Failure::Unwritable("the database rolled back the transaction that it shared".to_owned()));
        }
        if !kept {
            say(connection, "ROLLBACK TO job")?;
        }
        say(connection, "RELEASE job")?;
    }
    Ok(())
}

fn give_up(connection: &Connection, failure: Failure) -> StoreError {
    if !connection.is_autocommit()
        && let Err(error) = say(connection, "ROLLBACK")
    {
        tracing::error!(%error, "a transaction could not be rolled back: {error}");
    }
    let lost = StoreError(format!("nothing was written: {failure}"));
    tracing::error!(error = %lost, "{lost}");
    lost
}

fn say(connection: &Connection, sql: &str) -> Result<(), Failure> {
    connection.prepare_cached(sql)?.execute([])?;
    Ok(())
}
