//! The ServiceStack gate: its `Authenticate` service, in every format that the framework speaks.
//! `docs/protocols/servicestack.md` says what is done on this wire and why.
//!
//! ```text
//! path ─ routes ─────────────────┐
//! query, header fields           ├─ exchange ──► a question to the core
//!   ─ negotiate, cookies,        │     │
//!     authorization, sharing ────┤     │ the core's answer ─ response ─┐
//! body ─ format ─► json, jsv,    │     │ its "no" ─ refusal ─ failure ─┴► dto ─ style ─► envelope
//!   xml, csv, form, multipart    │     │                                      json, jsv, xml, csv, html
//!   ─► value ─ message ──────────┘     └ return_url: where a browser goes afterwards
//! ```
//!
//! A request for several of one name is taken apart before, and joined after: `batch.rs`.
//!
//! It refuses to know who anybody is, and every reader refuses what is deeper or more than `value.rs` allows.

mod answers;
mod authorization;
mod batch;
mod caller;
mod claims;
mod cookies;
mod csv;
mod dto;
mod envelope;
mod escape;
mod exchange;
mod failure;
mod form;
mod format;
mod html;
mod json;
mod jsv;
mod message;
mod metadata;
mod multipart;
mod negotiate;
mod refusal;
mod response;
mod return_url;
mod routes;
mod settings;
mod sharing;
mod spelling;
mod style;
mod value;
mod xml;

use crate::Gate;

/// This gate's row.
pub const GATE: Gate = Gate {
    name: "servicestack",
    spell: Some(spelling::spell),
    scopes: |_| Ok(Vec::new()),
    mounts: exchange::mounts,
    rotates_refresh: |section| settings::Settings::rotates_refresh(section),
    knows_tls: true,
    weakens: |section| settings::Settings::weakens(section),
    own: |_| Ok(None),
};
