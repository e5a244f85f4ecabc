//! Throttling.

/// One slot of the throttle's table, as it is kept on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ThrottleRow {
    /// Which slot of the table.
    pub slot: u32,
    /// The keyed hash of what the slot is about; zeros where nothing is remembered.
    pub key: [u8; 16],
    /// Which rule counts it.
    pub rule: u8,
    /// Failures that count.
    pub failures: u32,
    /// When the last one was, in milliseconds since the Unix epoch.
    pub last: i64,
}
