//! Logs: where they go and how much of them. What is logged is decided where it happens; secrets print as `Secret(..)`.

use tracing_subscriber::EnvFilter;

/// Sends logs to standard error, so that standard output stays for what was asked.
///
/// # Errors
/// A filter that is none; one sentence for people.
pub(crate) fn start(filter: &str) -> Result<(), String> {
    let filter = self::filter(filter)?;
    let started = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false).try_init();
    // Only a test could have started them before.
    started.map_err(|error| error.to_string())
}

/// Reads a filter.
///
/// # Errors
/// One sentence for people.
pub(crate) fn filter(text: &str) -> Result<EnvFilter, String> {
    EnvFilter::try_new(text).map_err(|error| format!("{text:?} is no filter: {error}"))
}
