//! Backups at the command line: made, looked into, put in place.
//!
//! The command copies by itself, from the same files as the server: so the copy belongs to whoever asks for it and lies where they
//! may write, and the server's threads have no part in it. A server that holds the directory is asked to write the copy into its
//! audit; whoever holds it and does not answer is no server that works, and nothing is copied from under it.

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use gatepost_identity::audit::AuditEntry;
use gatepost_identity::clock::{Timestamp, system_now};
use gatepost_store::{BackupError, Beside, Contents, Occupancy, OpenError, Restored, holder};
use serde_json::{Value, json};

use super::print;
use crate::config::Config;
use crate::operator::{Answered, Asking, Operation};

/// How often, and after which pause, to look again at a directory that another command holds for a moment.
const AGAIN: (u32, Duration) = (50, Duration::from_millis(100));
/// How often it is said how far it is.
const PROGRESS: Duration = Duration::from_secs(1);
const MEBIBYTE: u64 = 1024 * 1024;

#[derive(Debug, Args)]
pub(super) struct Backup {
    /// The file to make. It holds hashes of passwords and keys that sign: keep it as you keep those
    file: PathBuf,
    /// Replace the file, once the new one is whole
    #[arg(long)]
    overwrite: bool,
}

#[derive(Debug, Args)]
pub(super) struct VerifyBackup {
    /// The backup
    file: PathBuf,
}

#[derive(Debug, Args)]
pub(super) struct Restore {
    /// The backup
    file: PathBuf,
}

impl Backup {
    pub(super) async fn run(self, config: Config, json: bool) -> Result<(), String> {
        let data = &config.data;
        for _ in 0..AGAIN.0 {
            let occupancy = holder(data).map_err(|error| format!("cannot look at {}: {error}", data.display()))?;
            let beside = match occupancy {
                Occupancy::Free => Beside::Nobody(AuditEntry { name: Some(self.file.display().to_string()), ..entry("backup") }),
                Occupancy::Held { .. } => match Asking::connect(data).await {
                    Ok(asking) => {
                        self.note(asking).await;
                        Beside::Server
                    }
                    // Another command holds it, and will be gone in a moment; or a server that begins or ends.
                    Err(_) => {
                        tokio::time::sleep(AGAIN.1).await;
                        continue;
                    }
                },
            };
            let (directory, file, overwrite) = (data.clone(), self.file.clone(), self.overwrite);
            let about = gatepost_store::length(data);
            let copying = tokio::task::spawn_blocking(move || gatepost_store::copy(&directory, &file, overwrite, beside));
            match watched(copying, &gatepost_store::unfinished(&self.file), about).await? {
                Ok(contents) => return print::facts(&facts(&self.file, &contents), json),
                Err(BackupError::Directory(OpenError::Held { .. })) => tokio::time::sleep(AGAIN.1).await,
                Err(error) => return Err(error.to_string()),
            }
        }
        Err(format!("data directory {} is in use by a process which does not answer operators", data.display()))
    }

    /// A disk that takes no line of the audit is one more reason for a backup, so it is made all the same.
    async fn note(&self, mut server: Asking) {
        let operation = Operation::BackupBegun { file: self.file.display().to_string() };
        let why = match server.ask(&operation).await {
            Ok(Answered::Ok(_)) => return,
            Ok(Answered::Error { message, .. }) => message,
            Err(complaint) => complaint,
        };
        tell(&format!("the audit does not say that this backup was made: {why}"));
    }
}

impl VerifyBackup {
    pub(super) async fn run(self, json: bool) -> Result<(), String> {
        let file = self.file.clone();
        let verified = tokio::task::spawn_blocking(move || gatepost_store::verify(&file)).await;
        let contents = verified.map_err(|error| error.to_string())?.map_err(|error| error.to_string())?;
        print::facts(&facts(&self.file, &contents), json)
    }
}

impl Restore {
    pub(super) async fn run(self, data: &Path, json: bool) -> Result<(), String> {
        let about = std::fs::metadata(&self.file).map_or(0, |metadata| metadata.len());
        let (directory, file) = (data.to_owned(), self.file.clone());
        let entry = AuditEntry { name: Some(self.file.display().to_string()), ..entry("backup_restore") };
        let restoring = tokio::task::spawn_blocking(move || gatepost_store::restore(&directory, &file, entry));
        let restored = watched(restoring, &gatepost_store::restoring(data), about).await?.map_err(|error| error.to_string())?;
        say_what_it_means(&restored);
        print::facts(&told(&self.file, &restored), json)
    }
}

/// Waits for what writes `file`, and says now and then how far that is; about `about` bytes are to come.
async fn watched<T>(working: tokio::task::JoinHandle<T>, file: &Path, about: u64) -> Result<T, String> {
    let mut working = std::pin::pin!(working);
    let mut drawn_over = false;
    loop {
        tokio::select! {
            done = &mut working => {
                if drawn_over {
                    writeln!(std::io::stderr()).ok();
                }
                return done.map_err(|error| error.to_string());
            }
            () = tokio::time::sleep(PROGRESS) => {
                let written = std::fs::metadata(file).map_or(0, |metadata| metadata.len());
                let line = format!("{} of about {} MiB written", written / MEBIBYTE, about.max(written).div_ceil(MEBIBYTE));
                let mut err = std::io::stderr().lock();
                drawn_over = err.is_terminal();
                let drawn = if drawn_over { write!(err, "\r{line}\u{1b}[K") } else { writeln!(err, "gatepost: {line}") };
                // Whoever reads it may be gone; the work goes on.
                drawn.and_then(|()| err.flush()).ok();
            }
        }
    }
}

fn entry(action: &'static str) -> AuditEntry {
    let uid = rustix::process::getuid().as_raw();
    AuditEntry { source: Some(format!("uid {uid}")), ..AuditEntry::new(system_now(), action, "operator") }
}

fn tell(line: &str) {
    writeln!(std::io::stderr(), "gatepost: {line}").ok();
}

/// What people are told beside the figures. What a restore brings back is said here and nowhere else.
fn say_what_it_means(restored: &Restored) {
    tell("all sessions and tokens have ended; everybody logs in anew");
    tell("passwords, PINs, roles and what is switched off are as they were when the backup was made");
    match &restored.older {
        None if restored.replaced.is_some() => tell(
            "what was revoked since then (API keys, keys that sign, tokens of other issuers) could not be taken over from the database \
             that was replaced: revoke it again",
        ),
        None => tell(
            "what was revoked since then (API keys, keys that sign, tokens of other issuers) is not known here: revoke it again",
        ),
        Some(_) => tell("API keys and keys that sign that ended since then have ended here too"),
    }
    if let Some(replaced) = &restored.replaced {
        tell(&format!("the database that was replaced is {}; remove it when it is no longer needed", replaced.display()));
    }
}

fn facts(file: &Path, contents: &Contents) -> Value {
    json!({
        "file": file.display().to_string(),
        "schema": contents.schema,
        "bytes": contents.bytes,
        "accounts": contents.accounts,
        "clients": contents.clients,
        "sessions": contents.sessions,
        "audit_lines": contents.audit,
        "newest_line": contents.newest.map(moment),
    })
}

fn told(file: &Path, restored: &Restored) -> Value {
    let mut facts = facts(file, &restored.contents);
    facts["schema"] = json!(restored.schema);
    facts["sessions_ended"] = facts["sessions"].take();
    if let Value::Object(fields) = &mut facts {
        fields.remove("sessions");
    }
    facts["replaced"] = json!(restored.replaced.as_ref().map(|path| path.display().to_string()));
    facts["older_passwords"] = json!(restored.older.map(|older| older.passwords));
    facts["older_statuses"] = json!(restored.older.map(|older| older.statuses));
    facts["users_returned"] = json!(restored.older.map(|older| older.returned));
    facts["users_lost"] = json!(restored.older.map(|older| older.lost));
    facts
}

fn moment(at: Timestamp) -> Value {
    jiff::Timestamp::from_millisecond(at.millis()).map_or(Value::Null, |moment| json!(moment.to_string()))
}
