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
//! A path of a service behind the gate (`services`) goes no further than whoever calls: their right to call is asked for, and the
//! request goes on as it is (`exchange/passing`).
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
mod services;
mod settings;
mod sharing;
mod spelling;
mod style;
mod value;
mod xml;

use crate::Gate;

/// Names of roles or permissions as the framework keeps them in one column: a list of JSV, with its brackets or without.
///
/// # Errors
/// It is none; one sentence for people, without the text.
pub fn kept_names(text: &str) -> Result<Vec<String>, String> {
    let read = if text.trim_start().starts_with('[') { jsv::read(text) } else { jsv::read_elements(text) };
    let odd = || "it is no list of names".to_owned();
    let value::Value::List(values) = read.map_err(|error| error.to_string())? else { return Err(odd()) };
    let name = |value| match value {
        value::Value::Text(name) => Ok(name.into_owned()),
        value::Value::Null | value::Value::List(_) | value::Value::Map(_) => Err(odd()),
    };
    values.into_iter().map(name).collect()
}

/// This gate's row.
pub const GATE: Gate = Gate {
    name: "servicestack",
    spell: Some(spelling::spell),
    scopes: |_| Ok(Vec::new()),
    mounts: exchange::mounts,
    rotates_refresh: |section| settings::Settings::rotates_refresh(section),
    knows_tls: true,
    weakens: |section| settings::Settings::weakens(section),
    restarts: &[],
    own: |_| Ok(None),
};
