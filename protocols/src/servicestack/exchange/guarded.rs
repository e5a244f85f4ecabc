//! What stands between a question and whoever asks it: whether anybody may ask, and what is said to those who may not.
//!
//! It refuses to know what was asked.

use gatepost_identity::clock::Timestamp;
use gatepost_identity::refusal::Refusal;
use gatepost_identity::reply::{Answer, Reply};

use crate::http::Response;
use crate::servicestack::answers::keep;
use crate::servicestack::caller::{Proof, fault, stale};
use crate::servicestack::envelope::Envelope;
use crate::servicestack::failure::Failure;
use crate::servicestack::refusal::failure;

/// What stands between the question and whoever asks it.
pub(super) struct Guarded {
    /// What was shown, in its order.
    pub(super) proofs: Vec<Proof>,
    /// Whether nobody passes who is not let through. Otherwise what was shown and is no good is as good as nothing.
    pub(super) must: bool,
}

/// Why somebody does not pass.
pub(super) enum No {
    /// They are to log in first.
    LogInFirst,
    /// This.
    Said(Failure<'static>),
}

impl No {
    pub(super) fn told(self, envelope: Envelope) -> Response {
        match self {
            No::LogInFirst => envelope.challenge(),
            No::Said(failure) => envelope.refuse(&failure),
        }
    }
}

impl Guarded {
    /// What whoever has asked is told; whatever else comes, the browser learns which of its tokens are no good, and gets those
    /// that were made on the way.
    pub(super) fn passed<T>(
        &self,
        now: Timestamp,
        reply: Reply,
        answer: fn(Answer) -> Result<T, Refusal>,
        envelope: &mut Envelope,
    ) -> Result<T, No> {
        for proof in stale(&self.proofs, &reply.caller) {
            if proof == Proof::AccessCookie { envelope.jar.drop_access() } else { envelope.jar.drop_refresh() }
        }
        reply.caller.renewed.iter().for_each(|token| keep(now, token, envelope));
        if self.must
            && let Some(failure) = fault(&self.proofs, &reply.caller)
        {
            return Err(No::Said(failure));
        }
        reply.result.and_then(answer).map_err(|refusal| {
            let nobody = refusal == Refusal::LoginRequired || refusal.is_about_the_proof();
            match (nobody, self.must) {
                (true, true) => No::LogInFirst,
                (true, false) => No::Said(Failure::NotAuthenticated),
                (false, _) => No::Said(failure(&refusal, "")),
            }
        })
    }
}
