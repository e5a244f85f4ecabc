//! `[limits]`: how many connections there may be, and how long a peer may take.

use std::time::Duration;

use serde::Deserialize;

use super::origins::Origins;
use super::{ConfigError, Span};
use crate::listen::bounds::Limits;

/// What a peer may be given for anything.
const LONGEST: Duration = Duration::from_secs(3600);
/// What a busy machine may need to hear anything.
const SHORTEST: Duration = Duration::from_secs(1);
const MOST: usize = 10_000_000;

#[derive(Deserialize)]
#[serde(default)]
pub(super) struct WrittenLimits {
    connections: usize,
    connections_of_source: Option<usize>,
    head_within: Span,
    body_within: Span,
    idle_for: Span,
    unsent_for: Span,
}

impl Default for WrittenLimits {
    fn default() -> WrittenLimits {
        let Limits { connections, connections_of_source, head_within, body_within, idle_for, unsent_for } = Limits::default();
        WrittenLimits {
            connections,
            connections_of_source,
            head_within: Span(head_within),
            body_within: Span(body_within),
            idle_for: Span(idle_for),
            unsent_for: Span(unsent_for),
        }
    }
}

impl WrittenLimits {
    pub(super) fn read(&self, origins: &Origins) -> Result<Limits, ConfigError> {
        let counts = [("limits.connections", Some(self.connections)), ("limits.connections_of_source", self.connections_of_source)];
        if let Some((key, _)) = counts.iter().find(|(_, count)| count.is_some_and(|count| !(1..=MOST).contains(&count))) {
            return Err(origins.complain(key, &format!("must be 1 to {MOST}")));
        }
        let spans = [
            ("limits.head_within", self.head_within.0),
            ("limits.body_within", self.body_within.0),
            ("limits.idle_for", self.idle_for.0),
            ("limits.unsent_for", self.unsent_for.0),
        ];
        if let Some((key, _)) = spans.iter().find(|(_, span)| !(SHORTEST..=LONGEST).contains(span)) {
            return Err(origins.complain(key, "must be 1s to 1h"));
        }
        Ok(Limits {
            connections: self.connections,
            connections_of_source: self.connections_of_source,
            head_within: self.head_within.0,
            body_within: self.body_within.0,
            idle_for: self.idle_for.0,
            unsent_for: self.unsent_for.0,
        })
    }
}
