//! `gatepost doctor`: looks over what a server rests on, and says what is wrong and what to do about it.
//!
//! Asks the settings, the disk, the database, the clock, and, where one runs, the server and each of its listeners. It changes
//! nothing of what is kept, and a check that cannot be made is said to be left out, never to be well. Settings that cannot be used end no other check that can
//! still be made without them.

mod certificate;
mod disk;
mod listeners;
pub(super) mod weak;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use gatepost_identity::clock::{Timestamp, system_now};
use gatepost_store::{ExamineError, Occupancy, examine, holder};
use serde_json::{Value, json};

use self::weak::weakened;
use super::progress::Progress;
use super::{print, say};
use crate::config::{Config, Sources};
use crate::operator::{Answered, Asking, Operation};

/// How long a server may take to answer.
const ANSWER: Duration = Duration::from_secs(5);
/// How many files a server should be able to have open at least: each connection is one.
const FILES: u64 = 1000;
/// Past so many parts in a hundred of its files a server soon lets nobody in any more.
const FULL: u64 = 80;
/// How large a write-ahead log may be, in bytes: somebody who reads for long keeps it from being taken up.
const LOG: u64 = 1024 * 1024 * 1024;
/// By how much two clocks may differ.
const APART: Duration = Duration::from_secs(60);
/// The code with which it ends where there are warnings only; 2 is the command line's.
const WARNED: u8 = 3;

#[derive(Debug, Args)]
pub(super) struct Doctor {
    /// Free space that the data directory's disk should have at least, in MiB
    #[arg(long, value_name = "MIB", default_value_t = 256)]
    min_free: u64,
    /// Days that a certificate should be good for at least
    #[arg(long, value_name = "DAYS", default_value_t = 21)]
    min_days: u32,
    /// Also compare every index of the database with its table; reads for several times as long
    #[arg(long)]
    full: bool,
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Level {
    /// It works, and will not or should not for long.
    Warning,
    /// Something does not work, or others can do what they must not.
    Fault,
}

impl Level {
    fn word(self) -> &'static str {
        match self {
            Level::Warning => "warning",
            Level::Fault => "fault",
        }
    }
}

/// What is wrong, and what to do about it.
#[derive(Debug)]
struct Finding {
    level: Level,
    what: String,
    remedy: String,
}

fn fault(what: impl Into<String>, remedy: impl Into<String>) -> Finding {
    Finding { level: Level::Fault, what: what.into(), remedy: remedy.into() }
}

fn warning(what: impl Into<String>, remedy: impl Into<String>) -> Finding {
    Finding { level: Level::Warning, what: what.into(), remedy: remedy.into() }
}

/// What came of one check.
enum Outcome {
    /// It was made, and found these.
    Made(Vec<Finding>),
    /// It could not be made.
    Left(String),
}

/// All checks, in the order in which they were made.
#[derive(Default)]
struct Report(Vec<(&'static str, Outcome)>);

impl Report {
    fn made(&mut self, check: &'static str, findings: Vec<Finding>) {
        self.0.push((check, Outcome::Made(findings)));
    }

    fn left(&mut self, check: &'static str, why: impl Into<String>) {
        self.0.push((check, Outcome::Left(why.into())));
    }

    fn worst(&self) -> Option<Level> {
        let findings = self.0.iter().flat_map(|(_, outcome)| match outcome {
            Outcome::Made(findings) => findings.as_slice(),
            Outcome::Left(_) => &[],
        });
        findings.map(|finding| finding.level).max()
    }

    fn json(&self) -> Value {
        let (mut checks, mut findings) = (Vec::new(), Vec::new());
        for (check, outcome) in &self.0 {
            match outcome {
                Outcome::Left(why) => checks.push(json!({ "check": check, "state": "left out", "why": why })),
                Outcome::Made(found) => {
                    let worst = found.iter().map(|finding| finding.level).max();
                    checks.push(json!({ "check": check, "state": worst.map_or("ok", Level::word) }));
                    findings.extend(found.iter().map(|Finding { level, what, remedy }| {
                        json!({ "check": check, "level": level.word(), "what": what, "remedy": remedy })
                    }));
                }
            }
        }
        json!({ "healthy": findings.is_empty(), "checks": checks, "findings": findings })
    }

    fn print(&self) -> Result<(), String> {
        for (check, outcome) in &self.0 {
            match outcome {
                Outcome::Left(why) => say(&format!("left out  {check}: {}", print::escaped(why)))?,
                Outcome::Made(found) if found.is_empty() => say(&format!("ok        {check}"))?,
                Outcome::Made(found) => {
                    for Finding { level, what, remedy } in found {
                        say(&format!("{:<8}  {check}: {}", level.word(), print::escaped(what)))?;
                        say(&format!("          -> {}", print::escaped(remedy)))?;
                    }
                }
            }
        }
        Ok(())
    }
}

impl Doctor {
    /// Makes every check that can be made. The answer is 0 where nothing was found, 3 where warnings were, and 1 where faults were.
    pub(super) async fn run(self, sources: Sources, json: bool) -> Result<ExitCode, String> {
        let mut report = Report::default();
        let file = sources.file.clone().unwrap_or_else(|| "gatepost.toml".into());
        let data = data_directory(&sources, &file);
        let config = match Config::load(sources) {
            Ok(config) => Some(config),
            Err(error) => {
                report.made("settings", vec![fault(error.0, "put it right; `gatepost check` looks again")]);
                None
            }
        };
        let data = config.as_ref().map_or(data, |config| config.data.clone());
        if config.is_some() {
            report.made("settings", disk::settings(&file));
        }
        match &config {
            Some(config) => {
                report.made("weakened", weakened(config).into_iter().map(|weak| warning(weak.what, weak.remedy)).collect())
            }
            None => report.left("weakened", "the settings cannot be used"),
        }
        let standing = server(&mut report, &data).await;
        report.made("permissions", disk::permissions(&data));
        report.made("disk", disk::space(&data, self.min_free.saturating_mul(1024 * 1024)));
        let newest = self.database(&mut report, &data).await?;
        report.made("clock", clock(&data, newest, standing.as_ref()));
        match &standing {
            Some(standing) => report.made("files", files(standing)),
            None => report.left("files", "only a server that runs knows how many files it may have open"),
        }
        match &config {
            Some(config) => match certificate::check(config, self.min_days) {
                Some(findings) => report.made("certificate", findings),
                None => report.left("certificate", "none is set, so nothing speaks TLS"),
            },
            None => report.left("certificate", "the settings cannot be used"),
        }
        listeners::check(&mut report, config.as_ref(), standing.as_ref(), occupied(&data)).await;
        if json {
            say(&report.json().to_string())?;
        } else {
            report.print()?;
        }
        Ok(match report.worst() {
            None => ExitCode::SUCCESS,
            Some(Level::Warning) => ExitCode::from(WARNED),
            Some(Level::Fault) => ExitCode::FAILURE,
        })
    }

    /// Looks over the database. Answers the newest moment in it.
    async fn database(&self, report: &mut Report, data: &Path) -> Result<Option<Timestamp>, String> {
        let (place, full) = (data.to_owned(), self.full);
        let looking = tokio::task::spawn_blocking(move || examine(&place, full));
        let examined = Progress::new().during(looking, "reading the database").await.map_err(|error| error.to_string())?;
        let file = data.join("gatepost.db");
        let file = file.display();
        let restore =
            "stop the server, keep a copy of the data directory as it is, and put the newest backup that is whole in its place";
        let examined = match examined {
            Ok(examined) => examined,
            Err(ExamineError::Missing) => {
                report.left("database", format!("{file}: there is none yet; the server makes it when it first starts"));
                return Ok(None);
            }
            Err(error) => {
                let remedy = match error {
                    ExamineError::Newer { .. } => "run the version that wrote it, or a newer one".to_owned(),
                    ExamineError::Foreign => {
                        "name the right data directory, or put the newest backup that is whole in its place".to_owned()
                    }
                    ExamineError::Missing | ExamineError::Unreadable(_) => restore.to_owned(),
                };
                report.made("database", vec![fault(format!("{file}: {error}"), remedy)]);
                return Ok(None);
            }
        };
        let mut findings: Vec<Finding> =
            examined.faults.iter().map(|damage| fault(format!("{file} is damaged: {damage}"), restore)).collect();
        let (schema, known) = examined.schema;
        if schema < known {
            let what = format!("{file} has schema {schema}, and this version writes {known}");
            findings.push(warning(what, "make a backup, and start this version: it changes the schema when it starts"));
        }
        let (_, log) = examined.sizes;
        if log > LOG {
            let what = format!("{file}-wal holds {} MiB that are not in the database yet", log / (1024 * 1024));
            findings.push(warning(what, "look for a program that keeps the database open, and end it; then start the server anew"));
        }
        report.made("database", findings);
        Ok(examined.newest)
    }
}

/// The data directory that is meant, also where the settings cannot be used otherwise.
fn data_directory(sources: &Sources, file: &Path) -> PathBuf {
    let named = || {
        let variable = sources.environment.iter().find(|(name, _)| name == "GATEPOST_DATA")?;
        Some(PathBuf::from(&variable.1))
    };
    let written = || {
        let table: toml::Table = std::fs::read_to_string(file).ok()?.parse().ok()?;
        table.get("data")?.as_str().map(PathBuf::from)
    };
    sources.data.clone().or_else(named).or_else(written).unwrap_or_else(|| "gatepost-data".into())
}

/// Whether a process holds the data directory.
fn occupied(data: &Path) -> bool {
    matches!(holder(data), Ok(Occupancy::Held { .. }))
}

/// Asks the server that holds the data directory how it stands.
async fn server(report: &mut Report, data: &Path) -> Option<Value> {
    let pid = match holder(data) {
        Ok(Occupancy::Held { pid }) => pid,
        Ok(Occupancy::Free) => {
            report.left("server", format!("none runs on {}", data.display()));
            return None;
        }
        Err(error) => {
            let what = format!("{} cannot be looked at: {error}", data.display());
            report.made("server", vec![fault(what, "run this as the user that the server runs as, or as root")]);
            return None;
        }
    };
    let asked = async {
        let mut asking = Asking::connect(data).await.map_err(|error| error.to_string())?;
        match asking.ask(&Operation::Standing).await? {
            Answered::Ok(standing) => Ok(standing),
            Answered::Error { message, .. } => Err(message),
        }
    };
    let complaint = match tokio::time::timeout(ANSWER, asked).await {
        Ok(Ok(standing)) => {
            let (here, there) = (env!("CARGO_PKG_VERSION"), standing["version"].as_str().unwrap_or_default());
            let other = (here != there).then(|| {
                warning(
                    format!("version {there} runs, and this is version {here}"),
                    "start the server anew, so that the newer one runs",
                )
            });
            report.made("server", other.into_iter().collect());
            return Some(standing);
        }
        Ok(Err(complaint)) => complaint,
        Err(_) => format!("no answer within {} s", ANSWER.as_secs()),
    };
    let who = pid.map_or("another process".to_owned(), |pid| format!("process {pid}"));
    let what = format!("{who} holds {} and does not answer operators: {complaint}", data.display());
    let remedy = "look at its log and whether it was stopped or waits for the disk; where it stays so, end it and start it anew";
    report.made("server", vec![fault(what, remedy)]);
    None
}

/// Compares the clock with what was written by it, with the file system's and with the server's.
fn clock(data: &Path, newest: Option<Timestamp>, standing: Option<&Value>) -> Vec<Finding> {
    let now = system_now();
    let remedy = "see that the machine's time is kept by NTP (`timedatectl`) and is right; then start the server anew";
    let ahead = |moment: Timestamp| moment.since(now).as_secs();
    let mut findings = Vec::new();
    if let Some(newest) = newest.filter(|newest| newest.since(now) > APART) {
        let what = format!("the newest row of the database was written {} s after what the clock says now", ahead(newest));
        findings.push(fault(what, remedy));
    }
    if let Some(touched) = disk::touched(data).filter(|touched| touched.since(now) > APART) {
        let what = format!("a file in {} was written {} s after what the clock says now", data.display(), ahead(touched));
        findings.push(fault(what, remedy));
    }
    if let Some(there) = standing.and_then(|standing| standing["now"].as_i64()).map(Timestamp::from_millis) {
        let apart = there.since(now).max(now.since(there));
        if apart > APART {
            findings.push(fault(format!("the server's clock and this one differ by {} s", apart.as_secs()), remedy));
        }
    }
    findings
}

/// How many files the server may have open, and has.
fn files(standing: &Value) -> Vec<Finding> {
    let remedy = "raise it where the server is started: LimitNOFILE=1048576 in its unit, or `ulimit -n`";
    // Without a limit there is no number.
    let Some(limit) = standing["file_limit"].as_u64() else { return Vec::new() };
    let open = standing["open_files"].as_u64().unwrap_or(0);
    let mut findings = Vec::new();
    if limit < FILES {
        let what = format!("the server may have {limit} files open, and each connection is one");
        findings.push(warning(what, remedy));
    }
    if open.saturating_mul(100) > limit.saturating_mul(FULL) {
        findings.push(fault(format!("the server has {open} of {limit} files open, and soon lets nobody in any more"), remedy));
    }
    findings
}
