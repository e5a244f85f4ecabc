//! The door itself: the socket in the data directory, who may come in by it, and how questions and answers follow each other.
//!
//! Each question is answered before the next one is looked at, but for batches of an import: of those, one is looked at while the
//! one before it is written. They are written and answered in the order in which they came. One import goes on at a time: what the
//! server was asked by one whose command died is done before the next one begins, and so was there before it.

use std::collections::VecDeque;
use std::future::Future;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use gatepost_identity::Identity;
use gatepost_identity::admin::Operator;
use gatepost_identity::clock::{Timestamp, system_now};
use gatepost_identity::refusal::Refusal;
use rustix::net::SendFlags;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf, WriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Mutex, OwnedMutexGuard, Semaphore, oneshot};
use tokio::task::JoinHandle;

use crate::listen::descriptors::Queue;

use super::{Answered, Operation, Standing, answer, moving, perform};

/// The longest request, in bytes.
const LONGEST: u64 = 1024 * 1024;
/// How many operators there may be at once. There are descriptors for all of them in the reserve.
const OPERATORS: usize = 32;
/// How many batches of an import may be under way for one operator: one that is written, and one that is looked at.
const BATCHES: usize = 2;
/// How long an import waits for the one before it.
const PATIENCE: Duration = Duration::from_secs(30);

/// An import that is under way here. No other is, as long as anybody holds it.
struct Importing {
    began: Timestamp,
    _alone: OwnedMutexGuard<()>,
}

impl Importing {
    /// Waits for the one before it; none where that takes too long.
    async fn begin(imports: &Arc<Mutex<()>>) -> Option<Arc<Importing>> {
        let alone = tokio::time::timeout(PATIENCE, Arc::clone(imports).lock_owned()).await.ok()?;
        // Ids tell when they were drawn to the millisecond. None of this import may have one of the import before it.
        tokio::time::sleep(Duration::from_millis(1)).await;
        Some(Arc::new(Importing { began: system_now(), _alone: alone }))
    }
}

/// Where the door is.
pub fn socket_path(data: &Path) -> PathBuf {
    data.join("gatepost.sock")
}

/// Opens the door. The future serves it until it is dropped.
///
/// # Errors
/// One sentence for people.
pub fn listen(data: &Path, identity: Identity, standing: Standing) -> Result<impl Future<Output = ()> + Send + 'static, String> {
    let path = socket_path(data);
    // The data directory is held, so a socket in it is one that a dead process left.
    std::fs::remove_file(&path).ok();
    let failed = |error: std::io::Error| format!("cannot open the operators' socket {}: {error}", path.display());
    let listener = UnixListener::bind(&path).map_err(failed)?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).map_err(failed)?;
    let standing = Arc::new(standing);
    let imports = Arc::default();
    Ok(async move {
        let mut queue = Queue::of("the operators' socket");
        let room = Arc::new(Semaphore::new(OPERATORS));
        loop {
            let (stream, _) = queue.next(|| listener.accept()).await;
            let (identity, standing, imports) = (identity.clone(), Arc::clone(&standing), Arc::clone(&imports));
            match Arc::clone(&room).try_acquire_owned() {
                Ok(place) => drop(tokio::spawn(async move {
                    attend(stream, identity, &standing, &imports).await;
                    drop(place);
                })),
                Err(_) => turn_away(stream),
            }
        }
    })
}

/// Tells one more operator than there may be that they are too many; a new connection takes so little at once.
fn turn_away(stream: UnixStream) {
    tracing::warn!("an operator was turned away: there are {OPERATORS} at the operators' socket already");
    let message = format!("there are {OPERATORS} operators at the socket already; end one of their commands");
    let answered = Answered::Error { word: "busy".to_owned(), message };
    if let Ok(mut text) = serde_json::to_vec(&answered) {
        text.push(b'\n');
        rustix::net::send(&stream, &text, SendFlags::DONTWAIT | SendFlags::NOSIGNAL).ok();
    }
}

async fn attend(mut stream: UnixStream, identity: Identity, standing: &Standing, imports: &Arc<Mutex<()>>) {
    let own = rustix::process::geteuid().as_raw();
    let uid = match stream.peer_cred() {
        Ok(credentials) if credentials.uid() == own || credentials.uid() == 0 => credentials.uid(),
        Ok(credentials) => {
            tracing::warn!(uid = credentials.uid(), "a stranger stood at the operators' door and was turned away");
            return;
        }
        Err(error) => {
            tracing::warn!(%error, "the kernel would not say who stands at the operators' door: {error}");
            return;
        }
    };
    let (read, mut write) = stream.split();
    let mut lines = BufReader::new(read.take(LONGEST)).lines();
    // Batches of an import that are looked at while those before them are written, and answered in their order.
    let mut batches: VecDeque<JoinHandle<Answered>> = VecDeque::new();
    let mut last: Option<oneshot::Receiver<()>> = None;
    let mut importing: Option<Arc<Importing>> = None;
    loop {
        let line = tokio::select! {
            biased;
            answered = first(&mut batches), if !batches.is_empty() => {
                if tell(&mut write, &answered).await.is_err() {
                    return;
                }
                continue;
            }
            line = lines.next_line(), if batches.len() < BATCHES => line,
        };
        let Ok(Some(line)) = line else { break };
        lines.get_mut().get_mut().set_limit(LONGEST);
        let operation = tokio::task::spawn_blocking(move || serde_json::from_str(&line)).await;
        let operator = Operator::Local { uid };
        if let Ok(Ok(Operation::UserImport { rows, dry_run, .. })) = operation {
            if importing.is_none() {
                importing = Importing::begin(imports).await;
            }
            let Some(import) = importing.clone() else {
                let message = "another import is under way, and has been for long".to_owned();
                if tell(&mut write, &Answered::Error { word: "busy".to_owned(), message }).await.is_err() {
                    return;
                }
                continue;
            };
            let (done, next) = oneshot::channel();
            let before = last.replace(next);
            let identity = identity.clone();
            batches.push_back(tokio::spawn(async move {
                let turn = async {
                    if let Some(before) = before {
                        before.await.ok();
                    }
                };
                let answered = answer(moving::import(identity, operator, rows, (dry_run, import.began), turn).await);
                drop(import);
                done.send(()).ok();
                answered
            }));
            continue;
        }
        while !batches.is_empty() {
            let answered = first(&mut batches).await;
            if tell(&mut write, &answered).await.is_err() {
                return;
            }
        }
        let answered = match operation {
            Ok(Ok(Operation::Standing)) => Answered::Ok(standing.facts()),
            Ok(Ok(operation)) => perform(&identity, operator, operation).await,
            // The line may hold a password, so it is not repeated.
            _ => Answered::Error { word: "invalid".to_owned(), message: "that is no operation of this version".to_owned() },
        };
        if tell(&mut write, &answered).await.is_err() {
            return;
        }
    }
    while !batches.is_empty() {
        let answered = first(&mut batches).await;
        if tell(&mut write, &answered).await.is_err() {
            return;
        }
    }
}

/// The answer of the batch that was sent first; it is taken out once it is there.
async fn first(batches: &mut VecDeque<JoinHandle<Answered>>) -> Answered {
    let Some(batch) = batches.front_mut() else { return std::future::pending().await };
    let answered = batch.await.unwrap_or_else(|_| answer(Err(Refusal::Unavailable)));
    batches.pop_front();
    answered
}

async fn tell(write: &mut WriteHalf<'_>, answered: &Answered) -> std::io::Result<()> {
    let mut text = serde_json::to_vec(answered)?;
    text.push(b'\n');
    write.write_all(&text).await
}

/// Asks a running server.
pub struct Asking {
    read: BufReader<OwnedReadHalf>,
    write: OwnedWriteHalf,
}

impl Asking {
    /// Goes to the door of the server that holds this data directory.
    ///
    /// # Errors
    /// What the system says.
    pub async fn connect(data: &Path) -> std::io::Result<Asking> {
        let (read, write) = UnixStream::connect(socket_path(data)).await?.into_split();
        Ok(Asking { read: BufReader::new(read), write })
    }

    /// Asks, and waits for the answer.
    ///
    /// # Errors
    /// One sentence for people, where the server went away.
    pub async fn ask(&mut self, operation: &Operation) -> Result<Answered, String> {
        self.ask_ahead(Some(operation), false).await?;
        self.ask_ahead(None, true).await?.ok_or_else(|| "the server sent no answer".to_owned())
    }

    /// Sends the next question while the answer to the one before comes, which is `awaited`; a server that has much to say would
    /// otherwise wait for one that has much to ask.
    ///
    /// # Errors
    /// As [`Asking::ask`].
    pub async fn ask_ahead(&mut self, next: Option<&Operation>, awaited: bool) -> Result<Option<Answered>, String> {
        let gone = |error: &dyn std::fmt::Display| format!("the server went away: {error}");
        let Asking { read, write } = self;
        let ask = async {
            let Some(operation) = next else { return Ok(()) };
            let mut text = serde_json::to_vec(operation).map_err(|error| error.to_string())?;
            text.push(b'\n');
            write.write_all(&text).await.map_err(|error| gone(&error))
        };
        let hear = async {
            if !awaited {
                return Ok(None);
            }
            let mut line = String::new();
            read.read_line(&mut line).await.map_err(|error| gone(&error))?;
            serde_json::from_str(&line).map(Some).map_err(|_| gone(&"it sent no answer"))
        };
        let (asked, heard) = tokio::join!(ask, hear);
        asked?;
        heard
    }
}
