//! One attempt to come in: its id, which the lines of the log and of the audit share, and what is said and counted when it ends.
//!
//! Each attempt is counted once, however it ends; one that breaks off is counted as broken. A line of the log is written at `info`
//! where the throttle, or what it costs, bounds how many a peer can have; at `debug` otherwise, so that nobody fills a disk by
//! coming again and again. The log says of a secret nothing at all.
//!
//! It refuses to know how an attempt is judged.

use std::time::{Duration, Instant};

use crate::Core;
use crate::audit::{AttemptId, is_unbounded};
use crate::command::Context;
use crate::counts::{Ending, Way};
use crate::credential::About;
use crate::refusal::Refusal;
use crate::token::id;

/// One that has begun.
#[must_use = "it ends with an outcome, or is counted as broken"]
pub(crate) struct Attempt<'a> {
    core: &'a Core,
    context: &'a Context,
    way: Way,
    began: Instant,
    is_over: bool,
    pub(crate) id: AttemptId,
}

impl<'a> Attempt<'a> {
    pub(crate) fn begin(core: &'a Core, way: Way, context: &'a Context) -> Attempt<'a> {
        let id = core.attempt_id();
        Attempt { core, context, way, began: core.clock.instant(), is_over: false, id }
    }

    /// Counts it, and says what became of it.
    pub(crate) fn end(mut self, action: &'static str, about: &About, refusal: Option<&Refusal>) {
        self.is_over = true;
        let Attempt { core, context, way, began, id, .. } = &self;
        core.counts.count(context.gate, *way, refusal.map_or(Ending::Granted, Refusal::ending));
        let took = core.clock.instant().saturating_duration_since(*began);
        say(action, (*way, *id), context, about, refusal, Some(took));
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        if !self.is_over {
            self.core.counts.count(self.context.gate, self.way, Ending::Broken);
        }
    }
}

impl Core {
    pub(crate) fn attempt_id(&self) -> AttemptId {
        AttemptId(id(self.clock.now(), &*self.entropy))
    }
}

/// The line of the log.
pub(crate) fn say(
    action: &'static str,
    (way, id): (Way, AttemptId),
    context: &Context,
    about: &About,
    refusal: Option<&Refusal>,
    took: Option<Duration>,
) {
    let (gate, outcome) = (context.gate, refusal.map_or("ok", Refusal::word));
    macro_rules! line {
        ($level:expr) => {
            tracing::event!(
                target: "gatepost::attempt",
                $level,
                attempt = %id.0,
                gate,
                action,
                method = way.word(),
                outcome,
                name = about.shown_name().as_deref(),
                source = %context.peer.address.to_canonical(),
                account = about.account.map(|account| tracing::field::display(account.0)),
                client = about.client.as_ref().map(|client| client.as_str()),
                session = about.session.map(|session| tracing::field::display(session.0)),
                took_ms = took.map(|took| u64::try_from(took.as_millis()).unwrap_or(u64::MAX)),
                "{action} by {gate}: {outcome}"
            )
        };
    }
    if is_rare(way, refusal) { line!(tracing::Level::INFO) } else { line!(tracing::Level::DEBUG) }
}

/// Whether a peer cannot have as many of these as it likes.
fn is_rare(way: Way, refusal: Option<&Refusal>) -> bool {
    match (way, refusal) {
        (_, Some(refusal)) if is_unbounded(refusal) => false,
        (Way::Password | Way::ClientSecret | Way::Code | Way::OperatorSecret, _) => true,
        // What the throttle counts; a token that is good costs nothing and comes with every reconnection.
        (Way::Restore, refusal) => refusal.is_some(),
        // Everything else at a terminal can be had without end.
        (Way::TerminalSecret, refusal) => refusal.is_none_or(|refusal| *refusal == Refusal::InvalidCredentials),
        (Way::Unsecured | Way::Cookie | Way::Access | Way::Refresh | Way::ApiKey | Way::TerminalToken, _) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_peer_can_have_without_end_is_not_said_at_info() {
        let later = Duration::from_secs(1);
        for way in Way::ALL {
            for refusal in [
                Refusal::TooManyAttempts { retry_after: later },
                Refusal::Busy { retry_after: later },
                Refusal::InsecureTransport,
                Refusal::TimedOut,
                Refusal::Unavailable,
                Refusal::TooManySessions,
            ] {
                assert!(!is_rare(way, Some(&refusal)), "{way:?} {refusal:?}");
            }
        }
        assert!(is_rare(Way::Password, Some(&Refusal::InvalidCredentials)) && is_rare(Way::Password, None));
        assert!(is_rare(Way::Restore, Some(&Refusal::Revoked)) && !is_rare(Way::Restore, None));
        assert!(!is_rare(Way::TerminalSecret, Some(&Refusal::MethodNotAllowed)) && !is_rare(Way::Unsecured, None));
    }
}
