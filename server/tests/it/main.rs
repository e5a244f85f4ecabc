//! The real binary, from outside: processes, sockets, the command line, and nothing of the inside.
//!
//! `harness.rs` starts and ends servers, `peer.rs` is the other end of a WebSocket. Each further module is a subject, each
//! test a behaviour. What has to wait waits for something that it can see, with a generous limit; only where the wire itself
//! is about time does a test let time pass.

mod abuse;
mod apart;
mod asked;
mod backup;
mod bearer;
mod begun;
mod contained;
mod crash;
mod crowd;
mod device;
mod doctor;
mod documents;
mod drain;
mod echo;
mod faults;
mod frames;
mod grants;
mod guesses;
mod harness;
mod held;
mod keys;
mod killed;
mod limits;
mod lineage;
mod looked;
mod mirror;
mod mounts;
mod moving;
mod operators;
mod panels;
mod passing;
mod peer;
mod people;
mod persona;
mod pins;
mod played;
mod process;
mod proxies;
mod proxy;
#[path = "../../../examples/keys.rs"]
mod published;
mod refresh;
mod relay;
mod reload;
mod services;
mod smuggled;
mod stall;
mod strangers;
mod terminals;
mod tls;
mod tokens;
mod transcripts;
mod unread;
mod upgrade;
mod versions;
mod watched;
mod wrong;
