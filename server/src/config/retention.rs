//! How long what is over is kept, as it is written below `[retention]`.

use std::time::Duration;

use gatepost_identity::session::Retention;
use serde::Deserialize;

use super::origins::Origins;
use super::{ConfigError, Span};

/// An audit that forgets faster than this is none: whoever looks on Monday wants to see the weekend.
const SHORTEST_AUDIT: Duration = Duration::from_secs(7 * 24 * 60 * 60);

#[derive(Deserialize)]
#[serde(default)]
pub(super) struct WrittenRetention {
    audit: Span,
    ended: Span,
}

impl Default for WrittenRetention {
    fn default() -> WrittenRetention {
        let Retention { audit, ended } = Retention::default();
        WrittenRetention { audit: Span(audit), ended: Span(ended) }
    }
}

impl WrittenRetention {
    pub(super) fn read(&self, origins: &Origins) -> Result<Retention, ConfigError> {
        if self.audit.0 < SHORTEST_AUDIT {
            return Err(origins.complain("retention.audit", "must be 7d at least"));
        }
        Ok(Retention { audit: self.audit.0, ended: self.ended.0 })
    }
}
