//! The demonstration.

/// Runs it.
pub(crate) async fn run(_exit: bool) -> Result<(), String> {
    Ok(())
}
