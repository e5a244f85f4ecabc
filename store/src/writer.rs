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
//!
//! While many rows come in no order, as people do who are imported, it holds more pages and lets more of them gather in the
//! write-ahead log, so that a page that changes again and again is written to its place once. A moment after the last of them it
//! gives that room back.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use gatepost_identity::clock::system_instant;
use gatepost_identity::store::StoreError;
use rusqlite::Connection;

use crate::failure::Failure;
use crate::figures::Figures;
use crate::job::Job;

/// The most jobs of one commit: so many that a sync is well shared, so few that the first of them does not wait long.
const GROUP: usize = 256;

/// What is held of the database, in KiB, and after how many pages of the log they are written to their places: as SQLite has it, and
/// while many rows come.
const USUAL: Room = Room { held: 2_000, log: 1_000 };
const LARGE: Room = Room { held: 32 * 1024, log: 16_384 };
/// How long after the last of many rows the room for them is given back.
const LINGER: Duration = Duration::from_secs(2);

struct Room {
    held: i64,
    log: i64,
}

impl Room {
    fn take(&self, connection: &Connection) -> rusqlite::Result<()> {
        connection.pragma_update(None, "cache_size", -self.held)?;
        connection.pragma_update_and_check(None, "wal_autocheckpoint", self.log, |_| Ok(()))
    }
}

/// Works until no more jobs can come and all that came are done. A job that writes many rows says so by setting `many`.
pub(crate) fn work(connection: &Connection, jobs: &Receiver<Box<dyn Job>>, figures: &Figures, many: &AtomicBool) {
    let mut large = None;
    loop {
        let next = match large {
            None => jobs.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(until) => match until - system_instant() {
                Duration::ZERO => Err(RecvTimeoutError::Timeout),
                left => jobs.recv_timeout(left),
            },
        };
        let first = match next {
            Ok(first) => first,
            Err(RecvTimeoutError::Timeout) => {
                large = None;
                give_room_back(connection);
                continue;
            }
            Err(RecvTimeoutError::Disconnected) => break,
        };
        let mut waiting = VecDeque::from([first]);
        waiting.extend(jobs.try_iter().take(GROUP - 1));
        while !waiting.is_empty() {
            transaction(connection, &mut waiting, figures);
        }
        if many.swap(false, Ordering::Relaxed) {
            if large.is_none()
                && let Err(error) = LARGE.take(connection)
            {
                tracing::warn!(%error, "many rows are written in little room: {error}");
            }
            large = Some(system_instant() + LINGER);
        }
    }
    // Readers may still hold the file, and then closing this connection would not do it: the file alone holds everything.
    if let Err(error) = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())) {
        tracing::warn!(%error, "the write-ahead log stays beside the database: {error}");
    }
}

fn give_room_back(connection: &Connection) {
    let given = USUAL.take(connection).and_then(|()| connection.execute_batch("PRAGMA shrink_memory"));
    // What gathered in the log goes to its place, and the next commits write from its beginning again.
    let given = given.and_then(|()| connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(())));
    if let Err(error) = given {
        tracing::warn!(%error, "room for many rows could not be given back: {error}");
    }
}

/// One transaction over as many of `waiting`, at least one, as it survives; then their answers.
fn transaction(connection: &Connection, waiting: &mut VecDeque<Box<dyn Job>>, figures: &Figures) {
    let mut tried = Vec::with_capacity(waiting.len());
    let began = system_instant();
    let outcome = run(connection, waiting, &mut tried).and_then(|()| say(connection, "COMMIT"));
    let lost = match outcome {
        Ok(()) => {
            figures.committed(began.elapsed());
            None
        }
        Err(failure) => {
            figures.failed();
            Some(give_up(connection, failure))
        }
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

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel as queue;
    use std::sync::{Arc, Mutex, PoisonError};

    use std::future::Future;
    use std::sync::mpsc::channel;
    use std::task::{Context, Waker};

    use super::*;
    use crate::job::ask;

    #[tokio::test]
    async fn a_job_that_panics_answers_and_its_neighbours_stay() {
        let connection = Connection::open_in_memory().expect("a database in memory");
        connection.execute_batch("CREATE TABLE notes (text TEXT)").expect("a table");
        let note = |text: &'static str| {
            move |connection: &Connection| {
                connection.execute("INSERT INTO notes VALUES (?1)", [text])?;
                assert_ne!(text, "panics", "this one panics, and the test wants it to");
                Ok(())
            }
        };
        let (jobs, waiting) = channel();
        let mut asked: Vec<_> = ["one", "panics", "three"].map(|text| Box::pin(ask(&jobs, note(text)))).into();
        for question in &mut asked {
            assert!(question.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        }
        let figures = Figures::default();
        let mut group: VecDeque<_> = waiting.try_iter().collect();
        transaction(&connection, &mut group, &figures);
        assert!(group.is_empty());

        let mut answers = Vec::new();
        for question in asked {
            answers.push(question.await);
        }
        assert_eq!(answers, [Ok(()), Err(StoreError("a verb of the store panicked".to_owned())), Ok(())]);
        assert_eq!((figures.commits().count(), figures.failures()), (1, 0));
        let notes: String =
            connection.query_row("SELECT group_concat(text) FROM notes", [], |row| row.get(0)).expect("the notes are read");
        assert_eq!(notes, "one,three");
    }

    #[test]
    fn many_rows_have_more_room_while_they_come_and_a_moment_longer() {
        let connection = Connection::open_in_memory().expect("a database in memory");
        let (jobs, waiting) = queue();
        let many = Arc::new(AtomicBool::new(false));
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (flag, kept) = (Arc::clone(&many), Arc::clone(&seen));
        let send = move |are_many: bool| {
            let (many, seen) = (Arc::clone(&flag), Arc::clone(&kept));
            let look = move |connection: &Connection| {
                many.store(are_many, Ordering::Relaxed);
                let held: i64 = connection.pragma_query_value(None, "cache_size", |row| row.get(0))?;
                let log: i64 = connection.pragma_query_value(None, "wal_autocheckpoint", |row| row.get(0))?;
                seen.lock().unwrap_or_else(PoisonError::into_inner).push((-held, log));
                Ok(())
            };
            let mut asked = Box::pin(crate::job::ask(&jobs, look));
            assert!(asked.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        };
        std::thread::scope(|scope| {
            let many = Arc::clone(&many);
            scope.spawn(move || work(&connection, &waiting, &Figures::default(), &many));
            let answered = |count: usize| {
                while seen.lock().unwrap_or_else(PoisonError::into_inner).len() < count {
                    std::thread::sleep(Duration::from_millis(5));
                }
                // The room changes behind the commit.
                std::thread::sleep(Duration::from_millis(50));
            };
            send(true);
            answered(1);
            send(false);
            answered(2);
            std::thread::sleep(LINGER + Duration::from_millis(200));
            send(false);
            answered(3);
            drop(send);
        });
        let (usual, large) = ((USUAL.held, USUAL.log), (LARGE.held, LARGE.log));
        assert_eq!(*seen.lock().unwrap_or_else(PoisonError::into_inner), [usual, large, usual]);
    }

    #[tokio::test]
    async fn of_a_database_that_is_full_each_answer_is_true_and_the_next_group_is_written_when_there_is_room() {
        let connection = Connection::open_in_memory().expect("a database in memory");
        connection.execute_batch("CREATE TABLE notes (text TEXT, filling BLOB)").expect("a table");
        let pages: i64 = connection.query_row("PRAGMA page_count", [], |row| row.get(0)).expect("a number");
        let room = |pages: i64| {
            connection.pragma_update_and_check(None, "max_page_count", pages, |_| Ok(())).expect("another bound");
        };
        let note = |text: &'static str, bytes: i64| {
            move |connection: &Connection| {
                connection.execute("INSERT INTO notes VALUES (?1, zeroblob(?2))", (text, bytes))?;
                Ok(())
            }
        };
        let mut told = Vec::new();
        for (round, more) in [4, 4, 10_000].into_iter().enumerate() {
            room(pages + more);
            let (jobs, waiting) = channel();
            let notes = [("small", 1), ("large", 1_000_000), ("another small", 1)];
            let mut asked: Vec<_> = notes.map(|(text, bytes)| (text, Box::pin(ask(&jobs, note(text, bytes))))).into();
            for (_, question) in &mut asked {
                assert!(question.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
            }
            let mut group: VecDeque<_> = waiting.try_iter().collect();
            while !group.is_empty() {
                transaction(&connection, &mut group, &Figures::default());
            }
            for (text, question) in asked {
                let answer = question.await;
                assert!(round < 2 || answer.is_ok(), "there is room again: {answer:?}");
                assert!(text != "large" || round == 2 || answer.is_err());
                told.extend(answer.is_ok().then_some(text));
            }
        }
        let mut statement = connection.prepare("SELECT text FROM notes ORDER BY rowid").expect("the notes are read");
        let notes = statement.query_map([], |row| row.get::<_, String>(0)).expect("the notes are read");
        assert_eq!(notes.collect::<Result<Vec<_>, _>>().expect("the notes are read"), told);
    }

    #[tokio::test]
    async fn where_no_transaction_can_begin_all_are_told_and_none_is_run() {
        let file = std::env::temp_dir().join(format!("gatepost-writer-{}.db", std::process::id()));
        let held = Connection::open(&file).expect("a database");
        held.execute_batch("BEGIN EXCLUSIVE").expect("the lock is held");
        let busy = Connection::open(&file).expect("a database");
        busy.busy_timeout(std::time::Duration::ZERO).expect("nobody waits");

        let (jobs, waiting) = channel();
        let mut asked: Vec<_> = (0..2).map(|_| Box::pin(ask(&jobs, |_| -> Result<(), Failure> { panic!("it is run") }))).collect();
        for question in &mut asked {
            assert!(question.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        }
        let mut group: VecDeque<_> = waiting.try_iter().collect();
        let figures = Figures::default();
        transaction(&busy, &mut group, &figures);
        assert_eq!((figures.commits().count(), figures.failures()), (0, 1));
        assert!(group.is_empty());
        for question in asked {
            let said = question.await.err().map(|error| error.0).unwrap_or_default();
            assert_eq!(said, "nothing was written: the database answers: database is locked");
        }
        std::fs::remove_file(&file).expect("the database is removed");
    }
}
