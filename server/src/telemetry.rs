//! Logs: where they go and how much of them. What is logged is decided where it happens; secrets print as `Secret(..)`.

use std::sync::OnceLock;

use tracing_subscriber::EnvFilter;

/// Exchanges the filter of the logs that were started.
static EXCHANGE: OnceLock<Exchange> = OnceLock::new();

type Exchange = Box<dyn Fn(EnvFilter) -> Result<(), String> + Send + Sync>;

/// Sends logs to standard error, so that standard output stays for what was asked.
///
/// # Errors
/// A filter that is none; one sentence for people.
pub(crate) fn start(filter: &str) -> Result<(), String> {
    let filter = self::filter(filter)?;
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false);
    let logs = logs.with_filter_reloading();
    let handle = logs.reload_handle();
    // Only a test could have started them before.
    logs.try_init().map_err(|error| error.to_string())?;
    EXCHANGE.get_or_init(|| Box::new(move |filter| handle.reload(filter).map_err(|error| error.to_string())));
    Ok(())
}

/// Logs by another filter from now on.
///
/// # Errors
/// A filter that is none; one sentence for people.
pub(crate) fn exchange(filter: &str) -> Result<(), String> {
    let filter = self::filter(filter)?;
    EXCHANGE.get().map_or(Ok(()), |exchange| exchange(filter))
}

/// Reads a filter.
///
/// # Errors
/// One sentence for people.
pub(crate) fn filter(text: &str) -> Result<EnvFilter, String> {
    EnvFilter::try_new(text).map_err(|error| format!("{text:?} is no filter: {error}"))
}
