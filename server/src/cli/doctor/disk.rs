//! What `doctor` asks of the disk: who may read what is there, whose it is, how much room is left, and when it was last written.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use gatepost_identity::clock::Timestamp;
use rustix::fs::{StatVfsMountFlags, statvfs};

use super::{Finding, fault, warning};

/// How many more files a disk should have room for.
const NODES: u64 = 1000;

/// Whether others can read a settings file that holds a PIN.
pub(super) fn settings(file: &Path) -> Vec<Finding> {
    let Ok(metadata) = std::fs::metadata(file) else { return Vec::new() };
    let holds =
        std::fs::read_to_string(file).ok().and_then(|text| text.parse::<toml::Table>().ok()).is_some_and(|table| holds_pin(&table));
    let mode = metadata.mode() & 0o777;
    let open = holds && mode & 0o077 != 0;
    let (name, remedy) = (file.display(), format!("chmod 600 {}", file.display()));
    open.then(|| fault(format!("{name} holds a PIN and is open to others (mode {mode:o})"), remedy)).into_iter().collect()
}

fn holds_pin(table: &toml::Table) -> bool {
    table.iter().any(|(key, value)| match value {
        toml::Value::Table(inner) => holds_pin(inner),
        toml::Value::Array(rows) => rows.iter().filter_map(toml::Value::as_table).any(holds_pin),
        _ => key == "pin",
    })
}

/// Whether the data directory and what is in it are their owner's alone, and one owner's.
pub(super) fn permissions(data: &Path) -> Vec<Finding> {
    let directory = match std::fs::metadata(data) {
        Ok(directory) => directory,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Vec::new(),
        Err(error) => return vec![unreadable(data, &error)],
    };
    let mut findings = Vec::new();
    findings.extend(open(data, &directory, 700));
    let entries = match std::fs::read_dir(data) {
        Ok(entries) => entries,
        Err(error) => return vec![unreadable(data, &error)],
    };
    for entry in entries.flatten() {
        let path = entry.path();
        // What comes and goes with the database may be gone by now.
        let Ok(metadata) = std::fs::symlink_metadata(&path) else { continue };
        if !entry.file_name().to_string_lossy().starts_with("gatepost") || metadata.is_symlink() {
            continue;
        }
        findings.extend(open(&path, &metadata, if metadata.is_dir() { 700 } else { 600 }));
        if metadata.uid() != directory.uid() {
            let what =
                format!("{} belongs to user {}, and its directory to user {}", path.display(), metadata.uid(), directory.uid());
            findings.push(fault(what, format!("chown --reference={} {}", data.display(), path.display())));
        }
    }
    let own = rustix::process::geteuid().as_raw();
    if own != 0 && own != directory.uid() {
        let what = format!("{} belongs to user {}, and this runs as user {own}", data.display(), directory.uid());
        findings.push(fault(what, "run the server and its commands as the owner of the data directory"));
    }
    findings
}

fn open(path: &Path, metadata: &std::fs::Metadata, right: u32) -> Option<Finding> {
    let mode = metadata.mode() & 0o777;
    let what = format!("{} is open to others (mode {mode:o})", path.display());
    (mode & 0o077 != 0).then(|| fault(what, format!("chmod {right} {}", path.display())))
}

fn unreadable(path: &Path, error: &std::io::Error) -> Finding {
    fault(format!("{} cannot be looked at: {error}", path.display()), "run this as the user that the server runs as, or as root")
}

/// Whether the data directory can be written to, and has this much room, in bytes.
pub(super) fn space(data: &Path, least: u64) -> Vec<Finding> {
    // Where it is not there yet, it will be made in the nearest one that is.
    let place = data.ancestors().find(|place| place.exists()).unwrap_or(Path::new("."));
    let place = if place.as_os_str().is_empty() { Path::new(".") } else { place };
    let disk = match statvfs(place) {
        Ok(disk) => disk,
        Err(error) => return vec![unreadable(place, &error.into())],
    };
    let mut findings = Vec::new();
    if disk.f_flag.contains(StatVfsMountFlags::RDONLY) {
        let what = format!("the file system of {} can only be read", place.display());
        findings.push(fault(what, "mount it for writing; a file system turns read-only by itself where its disk fails"));
    }
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    if free < least {
        let mib = |bytes: u64| bytes / (1024 * 1024);
        let what = format!("{} MiB are free where {} is, and {} should be", mib(free), place.display(), mib(least));
        findings.push(fault(
            what,
            "make room, or move the data directory to a larger disk; when none is left, nobody logs in any more",
        ));
    }
    // Some file systems have no fixed number of files, and say 0.
    if disk.f_files > 0 && disk.f_favail < NODES {
        let what = format!("the file system of {} has room for {} more files", place.display(), disk.f_favail);
        findings.push(warning(what, "remove files that nobody needs, or move the data directory"));
    }
    findings
}

/// When the newest file of the data directory was last written.
pub(super) fn touched(data: &Path) -> Option<Timestamp> {
    let entries = std::fs::read_dir(data).ok()?;
    let seconds = entries.flatten().filter_map(|entry| entry.metadata().ok()).map(|metadata| metadata.mtime()).max()?;
    Some(Timestamp::from_millis(seconds.saturating_mul(1000)))
}
