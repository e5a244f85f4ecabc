//! What Gatepost remembers: the core's `Store` over SQLite, and the same in memory.
//!
//! Keeps what it is told and answers what it kept; decides nothing. Whether a login is good, a token too old or an
//! account locked is the core's to say: here a verb is one transaction, and its answer is "done", "changed meanwhile",
//! "taken", "not there" or "broken".
//!
//! ```text
//!   Sqlite (any number of handles) --jobs--> writer thread   one connection; many jobs, one commit
//!                                  --jobs--> reader threads  read-only connections
//! ```
//!
//! This crate spawns no thread, opens no socket, and asks the time where the core asks it: [`Sqlite::open`] hands back each blocking loop as a
//! [`Worker`], and `server` gives it a thread.

mod application;
mod backup;
mod directory;
mod examine;
mod failure;
mod figures;
mod job;
mod memory;
mod migrations;
mod readers;
mod reads;
mod restore;
mod rows;
mod sqlite;
mod writer;
mod writes;

pub use application::{Application, Cells, UserCells};
pub use backup::{BackupError, Beside, Contents, copy, length, unfinished, verify};
pub use directory::{Occupancy, OpenError, holder};
pub use examine::{ExamineError, Examined, examine};
pub use figures::Figures;
pub use memory::Memory;
pub use restore::{Older, Restored, restore, restoring};
pub use sqlite::{Sqlite, Worker};
