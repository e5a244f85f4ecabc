//! `gatepost completions` and `gatepost man`: what shells and readers of manuals know of the command line, from the definitions
//! that it is parsed by.

use std::path::{Path, PathBuf};

use clap::{Args, Command};
use clap_complete::Shell;

use super::say;

#[derive(Debug, Args)]
pub(super) struct Completions {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

impl Completions {
    /// Writes them to standard output.
    pub(super) fn run(&self, mut command: Command) -> Result<(), String> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut command, "gatepost", &mut script);
        say(String::from_utf8_lossy(&script).trim_end())
    }
}

#[derive(Debug, Args)]
pub(super) struct Man {
    /// The directory that they are written to; it is made where it is missing
    directory: PathBuf,
}

impl Man {
    /// Writes a page for each command: `gatepost.1`, `gatepost-user-add.1` and so on.
    pub(super) fn run(&self, command: Command) -> Result<(), String> {
        let failed = |path: &Path, error: std::io::Error| format!("{}: {error}", path.display());
        std::fs::create_dir_all(&self.directory).map_err(|error| failed(&self.directory, error))?;
        clap_mangen::generate_to(command, &self.directory).map_err(|error| failed(&self.directory, error))
    }
}
