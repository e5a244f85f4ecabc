//! A conversation of the Zenith gate, through any frames, with a core that says yes and no as the input has it.
//!
//! The input is lines, so that a seed can be written by hand. The first byte of a line says what happens, the rest is the
//! message:
//!
//! ```text
//! +{..}   a text; where it asks, the core grants to ann      *{..}   bytes
//! ={..}   a text; where it asks, the core grants to bob      !0..2   the session is gone: expired, revoked, displaced
//! a{..}   a text; where it asks, the core refuses, each letter in its own way
//! ```
//!
//! What must hold is what the laws of the gate hold; they draw sensible messages, this finds the others.

#![no_main]

use gatepost_fuzz::tried::{Happening, Says, Tried, refusals};
use gatepost_identity::reply::Reason;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let mut tried = Tried::open();
    for line in input.split(|byte| *byte == b'\n') {
        if !happening(line).is_none_or(|happening| tried.go_through(&happening)) {
            return;
        }
    }
});

fn happening(line: &[u8]) -> Option<Happening> {
    let (first, rest) = line.split_first()?;
    let says = match first {
        b'+' => Says::Grants("ann"),
        b'=' => Says::Grants("bob"),
        b'*' => return Some(Happening::Binary(rest.to_vec())),
        b'!' => {
            let reasons = [Reason::Expired, Reason::Revoked, Reason::Displaced];
            return Some(Happening::Detached(reasons[usize::from(*rest.first()?) % reasons.len()]));
        }
        other => {
            let refusals = refusals();
            Says::Refuses(refusals[usize::from(other.wrapping_sub(b'a')) % refusals.len()].clone())
        }
    };
    // A text that is no UTF-8 never comes as far as a conversation.
    Some(Happening::Text(String::from_utf8_lossy(rest).into_owned(), says))
}
