//! What talks on a socket once its conversation has broken off in a panic: nothing. Its peer is told so with a close, and has a moment
//! to take that. It refuses to know what the conversation was, since nobody knows what state that was left in.

use gatepost_identity::clock::Timestamp;
use gatepost_identity::command::Command;
use gatepost_identity::reply::{Event, Reply};
use gatepost_protocols::Limits;
use gatepost_protocols::frame::{CloseCode, Frame, Outbox, Relayed};
use gatepost_protocols::mount::Talk;

use super::{CLOSING, WRITE_BUFFER};

/// What the peer is closed with where something broke off on our side (RFC 6455 section 7.4.1).
pub(super) const FAULT: (CloseCode, &str) = (1011, "fault");

/// Says nothing more.
pub(super) struct Fallen;

impl Talk for Fallen {
    fn receive(&mut self, _now: Timestamp, _frame: Frame<'_>, _out: &mut Outbox) -> Option<Command> {
        None
    }

    fn answer(&mut self, _now: Timestamp, _reply: Reply, _out: &mut Outbox) {}

    fn unseat(&mut self, _out: &mut Outbox) {}

    fn notify(&mut self, _now: Timestamp, _event: Event, _out: &mut Outbox) {}

    fn relayed(&mut self, _now: Timestamp, _from: Relayed<'_>, _out: &mut Outbox) {}

    fn remind(&mut self, _now: Timestamp, _out: &mut Outbox) {}

    fn limits(&self) -> Limits {
        let (code, _) = FAULT;
        Limits {
            ping_every: 2 * CLOSING,
            silence: (CLOSING, code),
            answer_within: CLOSING,
            unsent: (WRITE_BUFFER, CLOSING),
            due: None,
        }
    }

    fn stop(&mut self, _out: &mut Outbox) {}
}
