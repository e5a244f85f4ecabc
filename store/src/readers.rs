//! The readers: a few threads, each with a connection that cannot write, on one queue.
//!
//! A verb that was answered by the writer is seen by every read that begins after it: SQLite's write-ahead log gives each
//! read the newest commit. Reads never wait for the writer, nor it for them.

use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::Connection;

use crate::job::Job;

/// The queue that readers share: whoever holds it waits for the next job, and gives it on before it works.
pub(crate) type Queue = Arc<Mutex<Receiver<Box<dyn Job>>>>;

/// Works until no more jobs can come and none is left.
pub(crate) fn work(connection: &Connection, queue: &Queue) {
    loop {
        let next = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(mut job) = next else { return };
        job.run(connection);
        job.answer(None);
    }
}
