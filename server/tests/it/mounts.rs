//! Disks of a test's own: small ones, and such as can only be read.
//!
//! To mount takes a right that not every account has. A test that wants it is run once more in a mount namespace of its own, where
//! what it mounts is gone with it however it ends; where the system does not allow that either, it is told so.

use std::path::Path;
use std::process::Command;

/// Says to the second run that it is in the namespace.
const INSIDE: &str = "GATEPOST_TEST_MOUNTS";

/// Where a test stands that wants to mount.
pub(crate) enum Mounts {
    /// In a namespace of its own: it may mount.
    Own,
    /// It has been run in one, and passed.
    Done,
    /// The system allows nobody like us to mount.
    Denied,
}

/// Runs this test in a mount namespace of its own; `test` is its path in this program.
#[expect(clippy::print_stderr, reason = "whoever reads the output wants to know which disk it was")]
pub(crate) fn own_mounts(test: &str) -> Mounts {
    if std::env::var_os(INSIDE).is_some() {
        return Mounts::Own;
    }
    // As root, or as whoever is root among the users of one's own.
    for arguments in ["-m", "-rm"] {
        let mut trial = Command::new("unshare");
        trial.args([arguments, "mount", "-t", "tmpfs", "none"]).arg(std::env::temp_dir());
        if !trial.output().is_ok_and(|output| output.status.success()) {
            continue;
        }
        let mut inside = Command::new("unshare");
        inside.arg(arguments).arg(std::env::current_exe().expect("this program")).args(["--exact", test, "--nocapture"]);
        let output = inside.env(INSIDE, "1").output().expect("it begins");
        let text = String::from_utf8_lossy(&output.stdout);
        eprintln!("in a mount namespace (unshare {arguments}):\n{text}{}", String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success() && text.contains("1 passed"), "{test} failed in its mount namespace");
        return Mounts::Done;
    }
    eprintln!("{test}: this system lets nobody like us mount, so it does without a disk of its own");
    Mounts::Denied
}

/// Mounts an empty disk of this size in place of a directory, whose mode it keeps.
pub(crate) fn small_disk(at: &Path, size: &str) {
    mount(Command::new("mount").args(["-t", "tmpfs", "-o", &format!("size={size},mode=700"), "none"]).arg(at));
}

/// Lets a directory be read only, with all that is in it.
pub(crate) fn read_only(at: &Path) {
    mount(Command::new("mount").arg("--bind").args([at, at]));
    mount(Command::new("mount").args(["-o", "remount,bind,ro"]).arg(at));
}

fn mount(command: &mut Command) {
    let output = command.output().expect("mount is there");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}
