//! `gatepost import` and `gatepost export`: users from a file and into one, in batches, beside a server or without one.
//!
//! Each batch is one transaction, so whoever stops in between has whole rows, and a second run takes what is missing. The next
//! batch is sent when the one before is on disk: logins go on in between.

use std::collections::HashSet;
use std::fs::{File, OpenOptions};
use std::hash::{BuildHasher, RandomState};
use std::io::{BufRead, BufReader, BufWriter, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::{Args, Subcommand};
use gatepost_identity::account::NameKey;
use gatepost_identity::clock::{Timestamp, system_now};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use serde_json::{Value, json};

use super::progress::Progress;
use super::servicestack::People;
use super::{PAGE, ask, moment, print, say};
use crate::config::Config;
use crate::operator::{Operation, RowText};

/// The longest row, in bytes of JSON: the largest account that can be has room in it.
pub(super) const LONGEST_ROW: usize = 256 * 1024;
/// The most rows of a batch, and the bytes after which no more are added: with one more row it fits into one question to the
/// server. A login waits for one batch at most.
const BATCH: (usize, usize) = (2000, 512 * 1024);

#[derive(Debug, Subcommand)]
pub(super) enum Import {
    /// Take users from a file with one line of JSON for each
    Users(From),
    /// Take users, rights and API keys from the SQLite database of a ServiceStack application; it is only read
    Servicestack {
        #[command(flatten)]
        from: From,
        /// The table of users, where several look like one
        #[arg(long, value_name = "NAME")]
        table: Option<String>,
        /// A scope that each of them gets; may be repeated
        #[arg(long = "scope", value_name = "SCOPE")]
        scopes: Vec<String>,
        /// Let tokens go on that the application has signed since then; its key is taken over by `key import`
        #[arg(long, value_name = "MOMENT", value_parser = moment)]
        signed_since: Option<i64>,
    },
}

#[derive(Debug, Subcommand)]
pub(super) enum Export {
    /// Write all users into a new file, one line of JSON for each, with the hashes of their passwords; only you can read it
    Users {
        /// The file; it must not be there yet
        file: PathBuf,
    },
}

#[derive(Debug, Args)]
pub(super) struct From {
    /// The file
    file: PathBuf,
    /// Only say what would be taken and what left; write nothing
    #[arg(long)]
    dry_run: bool,
}

impl Import {
    pub(super) async fn run(self, config: Config, json: bool) -> Result<(), String> {
        match self {
            Import::Users(From { file, dry_run }) => {
                let rows = Lines::open(&file)?;
                Importing::open(config, json, dry_run).await?.run(rows).await
            }
            Import::Servicestack { from: From { file, dry_run }, table, scopes, signed_since } => {
                let rows = People::open(&file, table.as_deref(), scopes, signed_since)?;
                Importing::open(config, json, dry_run).await?.run(rows).await
            }
        }
    }
}

impl Export {
    pub(super) async fn run(self, config: Config, json: bool) -> Result<(), String> {
        let Export::Users { file } = self;
        export(config, &file, json).await
    }
}

/// A row of a file, or why it is none.
pub(super) struct Found {
    /// Its place in the file, where that has lines.
    pub(super) line: Option<u64>,
    /// Its id, where it is known though the row cannot be read.
    pub(super) id: Option<String>,
    pub(super) row: Result<RowText, String>,
}

/// Where rows come from.
pub(super) trait Rows {
    /// The next row; none at the end.
    fn next(&mut self) -> Result<Option<Found>, String>;
}

/// The lines of a file. However long one is, no more than its bound is held.
struct Lines {
    file: PathBuf,
    reader: BufReader<File>,
    /// The line that was read last, and its number.
    line: Vec<u8>,
    number: u64,
}

impl Lines {
    fn open(path: &Path) -> Result<Lines, String> {
        let file = File::open(path).map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(Lines { file: path.to_owned(), reader: BufReader::with_capacity(256 * 1024, file), line: Vec::new(), number: 0 })
    }
}

impl Rows for Lines {
    fn next(&mut self) -> Result<Option<Found>, String> {
        let failed = |error: std::io::Error| format!("{}: {error}", self.file.display());
        let line = &mut self.line;
        loop {
            line.clear();
            let most = u64::try_from(LONGEST_ROW).unwrap_or(u64::MAX) + 1;
            let read = self.reader.by_ref().take(most).read_until(b'\n', &mut *line).map_err(failed)?;
            if read == 0 {
                return Ok(None);
            }
            self.number += 1;
            if !line.ends_with(b"\n") && read > LONGEST_ROW {
                self.reader.skip_until(b'\n').map_err(failed)?;
                let fault = format!("the line has more than {LONGEST_ROW} bytes");
                return Ok(Some(Found { line: Some(self.number), id: None, row: Err(fault) }));
            }
            let text = if self.number == 1 { line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&line[..]) } else { &line[..] };
            if !text.trim_ascii().is_empty() {
                let row = RowText::parse(text.trim_ascii());
                return Ok(Some(Found { line: Some(self.number), id: None, row }));
            }
        }
    }
}

/// Rows that were sent together, and where each stood.
type Batch = Vec<(Option<u64>, RowText)>;

/// An import under way.
struct Importing {
    asker: ask::Asker,
    dry_run: bool,
    began: Timestamp,
    stopped: Arc<AtomicBool>,
    report: Report,
    /// In a dry run nothing is written that later rows could be compared with: hashes of the names, addresses, ids and keys so far.
    seen: HashSet<u64>,
    hasher: RandomState,
}

impl Importing {
    async fn open(config: Config, json: bool, dry_run: bool) -> Result<Importing, String> {
        let stopped = stop_when_asked()?;
        let asker = ask::Asker::open(config).await?;
        let report = Report { json, taken: 0, known: 0, left: 0, progress: Progress::new() };
        Ok(Importing { asker, dry_run, began: system_now(), stopped, report, seen: HashSet::new(), hasher: RandomState::new() })
    }

    async fn run(mut self, mut rows: impl Rows) -> Result<(), String> {
        let result = self.all(&mut rows).await;
        self.asker.close().await;
        let broken = match result {
            Ok(true) => None,
            Ok(false) => Some("stopped between two rows; the same command goes on from there".to_owned()),
            Err(complaint) => Some(format!("{complaint}; the same command goes on from there")),
        };
        self.report.progress.clear();
        self.report.end(self.dry_run, broken.as_deref())?;
        match broken {
            Some(complaint) => Err(complaint),
            None if self.report.left == 0 => Ok(()),
            None => Err(format!("{} rows were left; what is said of them tells why", self.report.left)),
        }
    }

    /// Whether the end was reached. While a batch is written, the next one is read and on its way.
    async fn all(&mut self, rows: &mut impl Rows) -> Result<bool, String> {
        let mut sent: Option<Batch> = None;
        loop {
            let (next, ended) = if self.stopped.load(Ordering::Acquire) {
                (None, false)
            } else {
                match self.next_batch(rows) {
                    Ok(found) => found,
                    Err(complaint) => {
                        self.hear(&mut sent).await?;
                        return Err(complaint);
                    }
                }
            };
            let done = next.is_none();
            let question = next.as_ref().map(|batch| {
                let rows = batch.iter().map(|(_, row)| row.clone()).collect();
                Operation::UserImport { rows, dry_run: self.dry_run, began: self.began.millis() }
            });
            let answer = self.asker.ask_ahead(question, sent.is_some()).await;
            let before = std::mem::replace(&mut sent, next);
            match (answer, before) {
                (Ok(Some(answer)), Some(batch)) => self.told(batch, &answer)?,
                (Ok(_), _) => {}
                (Err(complaint), _) => {
                    // What is under way already may go well, and then it is told.
                    self.hear(&mut sent).await.ok();
                    return Err(complaint);
                }
            }
            self.report.tell();
            if done {
                return Ok(ended);
            }
        }
    }

    /// The next rows, where there are any, and whether the end was reached.
    fn next_batch(&mut self, rows: &mut impl Rows) -> Result<(Option<Batch>, bool), String> {
        let (mut batch, mut size, mut ended) = (Batch::new(), 0, false);
        while batch.len() < BATCH.0 && size < BATCH.1 {
            let Some(Found { line, id, row }) = rows.next()? else {
                ended = true;
                break;
            };
            match row {
                Ok(row) => {
                    size += row.size();
                    batch.push((line, row));
                }
                Err(fault) => self.report.left(line, id.as_deref(), &fault)?,
            }
        }
        Ok(((!ended || !batch.is_empty()).then_some(batch), ended))
    }

    /// Waits for the answer to what was sent.
    async fn hear(&mut self, sent: &mut Option<Batch>) -> Result<(), String> {
        let Some(batch) = sent.take() else { return Ok(()) };
        match self.asker.ask_ahead(None, true).await? {
            Some(answer) => self.told(batch, &answer),
            None => Ok(()),
        }
    }

    /// Counts what became of a batch, and tells what was left of it.
    fn told(&mut self, batch: Batch, answer: &Value) -> Result<(), String> {
        let Value::Array(fates) = answer else { return Err("the server answered with something else than fates".to_owned()) };
        if fates.len() != batch.len() {
            return Err("the server did not answer for each row".to_owned());
        }
        for (fate, (line, row)) in fates.iter().zip(batch) {
            let why = match fate {
                Value::String(word) if word == "taken" => match self.seen_before(&row)? {
                    Some(field) => format!("an earlier row has this {field}"),
                    None => {
                        self.report.taken += 1;
                        continue;
                    }
                },
                Value::String(_) => {
                    self.report.known += 1;
                    continue;
                }
                faults => {
                    let faults: Vec<&str> = faults.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
                    faults.join("; ")
                }
            };
            self.report.left(line, row.whose().as_deref(), &why)?;
        }
        Ok(())
    }

    /// In a dry run, what an earlier row has of this one. Where it has nothing, this row is remembered.
    fn seen_before(&mut self, row: &RowText) -> Result<Option<&'static str>, String> {
        if !self.dry_run {
            return Ok(None);
        }
        let (row, mut keys) = (row.row()?, Vec::new());
        if let Some(name) = row.name.as_deref().or(row.id.as_deref()) {
            keys.push(("name", self.hasher.hash_one((0, NameKey::of(name)))));
            keys.push(("id", self.hasher.hash_one((1, row.id.as_deref().unwrap_or(name)))));
        }
        keys.extend(row.email.as_deref().map(|email| ("e-mail", self.hasher.hash_one((0, NameKey::of(email))))));
        keys.extend(row.api_keys.iter().map(|key| ("API key", self.hasher.hash_one((2, key.hash.to_ascii_lowercase())))));
        let before = keys.iter().find(|(_, key)| self.seen.contains(key)).map(|(field, _)| *field);
        if before.is_none() {
            self.seen.extend(keys.into_iter().map(|(_, key)| key));
        }
        Ok(before)
    }
}

/// What became of the rows so far.
struct Report {
    json: bool,
    taken: u64,
    known: u64,
    left: u64,
    progress: Progress,
}

impl Report {
    fn left(&mut self, line: Option<u64>, id: Option<&str>, why: &str) -> Result<(), String> {
        self.left += 1;
        self.progress.clear();
        if self.json {
            let before = if self.left == 1 { "{\"left\":[" } else { "," };
            return say(&format!("{before}{}", json!({ "line": line, "id": id, "why": why })));
        }
        let of = match (line, id.map(print::escaped)) {
            (Some(line), Some(id)) => format!("line {line} ({id})"),
            (Some(line), None) => format!("line {line}"),
            (None, id) => format!("id {}", id.as_deref().unwrap_or("unknown")),
        };
        say(&format!("{of}: left: {}", print::escaped(why)))
    }

    /// How far it has come, for whoever watches.
    fn tell(&mut self) {
        let Report { taken, known, left, .. } = *self;
        self.progress.tell(|| format!("{} rows: {taken} taken, {known} here already, {left} left", taken + known + left));
    }

    /// The last line; `broken` says why it is not that of the whole file.
    fn end(&self, dry_run: bool, broken: Option<&str>) -> Result<(), String> {
        let Report { taken, known, left, .. } = self;
        if self.json {
            let begin = if self.left == 0 { "{\"left\":[" } else { "" };
            let ended = json!({ "ended": broken.is_none(), "why": broken }).to_string();
            let ended = ended.trim_start_matches('{');
            let counts = format!("\"taken\":{taken},\"known\":{known},\"left_count\":{left},\"dry_run\":{dry_run}");
            return say(&format!("{begin}],{counts},{ended}"));
        }
        let would = if dry_run { "would be " } else { "" };
        say(&format!("{taken} {would}taken, {known} here already, {left} {would}left"))
    }
}

/// Set once somebody asks the command to stop; asked twice, the system's own way takes over.
fn stop_when_asked() -> Result<Arc<AtomicBool>, String> {
    use tokio::signal::unix::{SignalKind, signal};
    let failed = |error: std::io::Error| format!("cannot wait for signals: {error}");
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let stopped = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&stopped);
    tokio::spawn(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        told.store(true, Ordering::Release);
        interrupt.recv().await;
        std::process::exit(130);
    });
    Ok(stopped)
}

async fn export(config: Config, path: &Path, json: bool) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("{}: {error}", path.display());
    if path.exists() {
        return Err(format!("{} is there already; name a new file", path.display()));
    }
    let mut unfinished = path.as_os_str().to_owned();
    unfinished.push(".part");
    let unfinished = PathBuf::from(unfinished);
    let stopped = stop_when_asked()?;
    let mut asker = ask::Asker::open(config).await?;
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&unfinished);
    let result = match file {
        Ok(file) => write_all(&mut asker, file, &stopped).await,
        Err(error) => {
            asker.close().await;
            let what = format!("{}: {error}", unfinished.display());
            return Err(match error.kind() {
                std::io::ErrorKind::AlreadyExists => format!("{what}; an export that was killed left it, or another one runs"),
                _ => what,
            });
        }
    };
    asker.close().await;
    let written = match result {
        // A file that came meanwhile stays.
        Ok(written) => renameat_with(CWD, &unfinished, CWD, path, RenameFlags::NOREPLACE)
            .map(|()| written)
            .map_err(|error| failed(error.into())),
        Err(complaint) => Err(complaint),
    };
    if written.is_err() {
        std::fs::remove_file(&unfinished).ok();
    }
    print::facts(&json!({ "written": written?, "file": path.display().to_string() }), json)
}

async fn write_all(asker: &mut ask::Asker, file: File, stopped: &AtomicBool) -> Result<u64, String> {
    let failed = |error: std::io::Error| format!("the file cannot be written: {error}");
    let (mut out, mut after, mut written) = (BufWriter::new(file), None, 0);
    loop {
        let answer = asker.ask(Operation::UserExport { after, limit: PAGE }).await?;
        let Value::Array(rows) = answer else { return Err("the server answered with something else than rows".to_owned()) };
        for row in &rows {
            writeln!(out, "{row}").map_err(failed)?;
            written += 1;
        }
        if stopped.load(Ordering::Acquire) {
            return Err("stopped; no file was left".to_owned());
        }
        after = rows.last().and_then(|row| row["name"].as_str()).map(str::to_owned);
        if rows.len() < PAGE {
            let file = out.into_inner().map_err(|error| failed(error.into_error()))?;
            file.sync_all().map_err(failed)?;
            return Ok(written);
        }
    }
}
