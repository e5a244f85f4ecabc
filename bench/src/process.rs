//! Other processes: started, measured by what `/proc` says of them, and ended with their value.
//!
//! It refuses to know what they do.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::Value;

use crate::Outcome;
use crate::setup::Installation;

/// A process of ours, with a line to it and one from it. It ends when this is dropped.
pub(crate) struct Process {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Process {
    fn start(command: &mut Command) -> Outcome<Process> {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            return Err("the process has no pipes".into());
        };
        Ok(Process { child, input, output: BufReader::new(output) })
    }

    /// This program again, as one of the reference programs.
    pub(crate) fn reference(arguments: &[&str]) -> Outcome<Process> {
        Process::start(Command::new(std::env::current_exe()?).args(arguments))
    }

    /// Says a line.
    pub(crate) fn say(&mut self, line: &str) -> Outcome<()> {
        writeln!(self.input, "{line}")?;
        Ok(self.input.flush()?)
    }

    /// Hears a line.
    pub(crate) fn hear(&mut self) -> Outcome<String> {
        let mut line = String::new();
        if self.output.read_line(&mut line)? == 0 {
            return Err("the process ended".into());
        }
        Ok(line.trim_end().to_owned())
    }

    /// User and system time so far. The system counts in hundredths of a second, so a measurement lasts many of them.
    pub(crate) fn cpu(&self) -> Outcome<Duration> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        // The name may hold blanks, so fields are counted from behind it: user time is field 14, system time 15.
        let fields: Vec<&str> = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace().collect();
        let ticks: u64 = fields.get(11..13).ok_or("a short stat line")?.iter().filter_map(|field| field.parse::<u64>().ok()).sum();
        Ok(Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64))
    }

    /// Memory that is resident now, in bytes.
    pub(crate) fn resident(&self) -> Outcome<f64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
        let kib: f64 = line.trim().trim_end_matches("kB").trim().parse()?;
        Ok(kib * 1024.0)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// The server on an installation.
pub(crate) struct Server {
    /// The process.
    pub(crate) process: Process,
    /// Where it answers.
    pub(crate) address: SocketAddr,
    /// Where it answers over TLS, if it does.
    pub(crate) secured: Option<SocketAddr>,
    /// What it said when it was ready: its listeners and their addresses.
    ready: Value,
    /// What it runs on.
    pub(crate) installation: Installation,
}

impl Server {
    /// Starts the server binary that stands beside this one, and waits until it is ready.
    pub(crate) fn start(installation: Installation) -> Outcome<Server> {
        let log = fs::File::create(installation.directory.join("log"))?;
        let mut command = Command::new(beside("gatepost")?);
        command.arg("--config").arg(installation.config()).arg("--data").arg(installation.data()).arg("serve").stderr(log);
        let mut process = Process::start(&mut command)?;
        let Ok(ready) = process.hear() else {
            return Err(fs::read_to_string(installation.directory.join("log")).unwrap_or_default().into());
        };
        let ready: Value = serde_json::from_str(ready.strip_prefix("ready ").unwrap_or(&ready))?;
        let address = said(&ready["http"])?.ok_or("the server did not say its address")?;
        let secured = said(&ready["https"])?;
        Ok(Server { process, address, secured, ready, installation })
    }

    /// Where the control socket of a terminal is.
    pub(crate) fn control(&self, terminal: &str) -> Outcome<SocketAddr> {
        said(&self.ready["trueconf"][format!("control.{terminal}")])?.ok_or_else(|| format!("{terminal} is not served").into())
    }
}

fn said(address: &Value) -> Outcome<Option<SocketAddr>> {
    Ok(address.as_str().map(str::parse).transpose()?)
}

/// Where a program of this workspace is.
pub(crate) fn beside(name: &str) -> Outcome<PathBuf> {
    let path = std::env::current_exe()?.parent().unwrap_or(Path::new(".")).join(name);
    if path.exists() {
        return Ok(path);
    }
    Err(format!("{} is not built; scripts/bench builds both", path.display()).into())
}

/// Lets this process, and those that it starts, have as many descriptors as the system allows.
///
/// # Errors
/// Where that is fewer than `needed`.
pub(crate) fn many_descriptors(needed: u64) -> Outcome<()> {
    let limit = getrlimit(Resource::Nofile);
    if limit.maximum.is_some_and(|maximum| maximum < needed) {
        return Err(format!("the limit of open files is below the {needed} that are needed here").into());
    }
    Ok(setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit })?)
}
