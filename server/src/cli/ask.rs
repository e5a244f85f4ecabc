//! Whom a command asks: the server that holds the data directory, or the core itself where nobody holds it.

use std::time::Duration;

use gatepost_identity::admin::Operator;
use gatepost_store::{Occupancy, holder};
use serde_json::Value;
use tokio::task::JoinHandle;

use crate::config::Config;
use crate::operator::{Answered, Asking, Operation, perform};
use crate::serve::{Core, OpenCoreError};

/// How often, and after which pause, to look again at a directory that another command holds for a moment.
const AGAIN: (u32, Duration) = (50, Duration::from_millis(100));

/// Whoever answers.
pub(super) enum Asker {
    Server(Asking),
    Here {
        core: Core,
        /// What was asked ahead and not yet awaited.
        ahead: Option<JoinHandle<Answered>>,
    },
}

impl Asker {
    pub(super) async fn open(config: Config) -> Result<Asker, String> {
        let data = &config.data;
        let mut held_by = None;
        for _ in 0..AGAIN.0 {
            let occupancy = holder(data).map_err(|error| format!("cannot look at {}: {error}", data.display()))?;
            let Occupancy::Held { pid } = occupancy else {
                // Nothing is served here, whatever the settings name. One thread hashes: a command has one password at most.
                let settings = gatepost_identity::Settings { serves: false, ..config.identity.clone() };
                match Core::open(data, settings, 1).await {
                    Ok(core) => return Ok(Asker::Here { core, ahead: None }),
                    // Another command was faster; it will be gone in a moment.
                    Err(OpenCoreError::Held(_)) => {
                        tokio::time::sleep(AGAIN.1).await;
                        continue;
                    }
                    Err(OpenCoreError::Other(complaint)) => return Err(complaint),
                }
            };
            if let Ok(asking) = Asking::connect(data).await {
                return Ok(Asker::Server(asking));
            }
            held_by = pid;
            tokio::time::sleep(AGAIN.1).await;
        }
        let who = held_by.map_or("another process".to_owned(), |pid| format!("process {pid}"));
        Err(format!("data directory {} is in use by {who}, which does not answer operators", data.display()))
    }

    pub(super) async fn ask(&mut self, operation: Operation) -> Result<Value, String> {
        self.ask_ahead(Some(operation), false).await?;
        self.ask_ahead(None, true).await?.ok_or_else(|| "there was no answer".to_owned())
    }

    /// Asks the next question without waiting for its answer, and hears the answer to the one before, which is `awaited`.
    pub(super) async fn ask_ahead(&mut self, next: Option<Operation>, awaited: bool) -> Result<Option<Value>, String> {
        let answered = match self {
            Asker::Server(asking) => asking.ask_ahead(next.as_ref(), awaited).await?,
            Asker::Here { core, ahead } => {
                let answered = match ahead.take() {
                    Some(task) => Some(task.await.map_err(|error| error.to_string())?),
                    None => None,
                };
                *ahead = next.map(|operation| {
                    let (identity, uid) = (core.identity.clone(), rustix::process::getuid().as_raw());
                    tokio::spawn(async move { perform(&identity, Operator::Local { uid }, operation).await })
                });
                answered
            }
        };
        match answered {
            Some(Answered::Ok(facts)) => Ok(Some(facts)),
            Some(Answered::Error { message, .. }) => Err(message),
            None => Ok(None),
        }
    }

    pub(super) async fn close(self) {
        if let Asker::Here { core, ahead } = self {
            if let Some(ahead) = ahead {
                ahead.await.ok();
            }
            core.close().await;
        }
    }
}
