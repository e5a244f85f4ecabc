//! `[password]`: how passwords are hashed, how long one may wait for that, and what hashes of others may cost.

use gatepost_identity::password::{Cost, PasswordSettings};
use serde::Deserialize;

use super::Span;

#[derive(Deserialize)]
#[serde(default)]
pub(super) struct Password {
    memory_kib: u32,
    iterations: u32,
    lanes: u32,
    pub(super) threads: usize,
    max_wait: Span,
    imported_time: Span,
    imported_memory_kib: u32,
}

impl Default for Password {
    fn default() -> Password {
        let PasswordSettings { memory, iterations, lanes, max_wait, imported } = PasswordSettings::default();
        Password {
            memory_kib: memory,
            iterations,
            lanes,
            threads: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            max_wait: Span(max_wait),
            imported_time: Span(imported.time),
            imported_memory_kib: u32::try_from(imported.memory).unwrap_or(u32::MAX),
        }
    }
}

impl Password {
    pub(super) fn settings(&self) -> PasswordSettings {
        PasswordSettings {
            memory: self.memory_kib,
            iterations: self.iterations,
            lanes: self.lanes,
            max_wait: self.max_wait.0,
            imported: Cost { time: self.imported_time.0, memory: u64::from(self.imported_memory_kib) },
        }
    }
}
