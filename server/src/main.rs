//! The one binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    gatepost::run(std::env::args_os())
}
