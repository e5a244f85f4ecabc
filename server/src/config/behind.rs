//! What a gate's settings say of services that its connections share, as far as only a look at the disk can tell.

use gatepost_protocols::listener::Own;
use gatepost_protocols::section::BadSetting;

use crate::shared::read_secret;

/// Sees whether each of their secrets is there to be read, and by nobody else.
///
/// # Errors
/// The first that is not.
pub(super) fn check(own: &Own) -> Result<(), BadSetting> {
    for service in &own.shared_services {
        if let Some(file) = &service.secret_file {
            read_secret(file).map_err(|what| BadSetting::new(format!("{}.secret_file", service.setting), what))?;
        }
    }
    Ok(())
}
