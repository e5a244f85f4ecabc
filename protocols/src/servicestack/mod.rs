//! The ServiceStack gate: its `Authenticate` service and that service's neighbours, in every format that the framework speaks.
//!
//! ```text
//! path, query, header fields ─ negotiate ──► which format answers
//! body ─ format ─► json, jsv, xml, csv, form, multipart ─► value ─ message ─► a request, typed
//! an answer ─ response ─┐
//! a "no"    ─ failure ──┴─► dto ─ style ─► json, jsv, xml, csv, html
//! ```
//!
//! It refuses to know who anybody is, and every reader refuses what is deeper or more than [`value`] allows.

#![cfg_attr(not(test), expect(dead_code, reason = "the exchange that calls these modules is not part of this change"))]

mod csv;
mod dto;
mod failure;
mod form;
mod format;
mod html;
mod json;
mod jsv;
mod message;
mod multipart;
mod negotiate;
mod response;
mod style;
mod value;
mod xml;
