//! A job: one verb on its way to a worker, and the way back for its answer.
//!
//! Running and answering are two steps, because what a write did may be told only once the commit that holds it is on
//! disk. A verb that panics answers with an error, and its worker goes on.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::Sender;

use gatepost_identity::store::StoreError;
use rusqlite::Connection;
use tokio::sync::oneshot;

use crate::failure::Failure;

/// What workers see of a job.
pub(crate) trait Job: Send {
    /// Runs the verb. Answers whether what it wrote may stay.
    fn run(&mut self, connection: &Connection) -> bool;
    /// Tells whoever waits. `lost` says why nothing came of it although the verb itself may have gone well.
    fn answer(self: Box<Self>, lost: Option<&StoreError>);
}

/// Sends a verb to the workers behind `jobs` and waits for its answer. The verb runs to its end even if nobody waits
/// any longer.
pub(crate) async fn ask<T, F>(jobs: &Sender<Box<dyn Job>>, verb: F) -> Result<T, StoreError>
where
    T: Send + 'static,
    F: FnOnce(&Connection) -> Result<T, Failure> + Send + 'static,
{
    let stopped = || StoreError("the store has stopped".to_owned());
    let (answer, answered) = oneshot::channel();
    jobs.send(Box::new(Asked { verb: Some(verb), result: None, answer })).map_err(|_| stopped())?;
    answered.await.unwrap_or_else(|_| Err(stopped()))
}

struct Asked<T, F> {
    verb: Option<F>,
    result: Option<Result<T, StoreError>>,
    answer: oneshot::Sender<Result<T, StoreError>>,
}

impl<T, F> Job for Asked<T, F>
where
    T: Send,
    F: FnOnce(&Connection) -> Result<T, Failure> + Send,
{
    fn run(&mut self, connection: &Connection) -> bool {
        let Some(verb) = self.verb.take() else { return false };
        // Nothing that the verb may leave half done outlives it: its savepoint is rolled back.
        let result = catch_unwind(AssertUnwindSafe(|| verb(connection)))
            .unwrap_or_else(|_| Err(Failure::Unwritable("a verb of the store panicked".to_owned())));
        let keep = result.is_ok();
        self.result = Some(result.map_err(StoreError::from));
        keep
    }

    fn answer(self: Box<Self>, lost: Option<&StoreError>) {
        let result = match (self.result, lost) {
            (Some(Err(own)), _) => Err(own),
            (_, Some(lost)) => Err(lost.clone()),
            (Some(Ok(value)), None) => Ok(value),
            (None, None) => Err(StoreError("the store did not come to it".to_owned())),
        };
        // Whoever asked may be gone; that changes nothing about what was done.
        let _ = self.answer.send(result);
    }
}
