//! What is counted, for whoever watches: what was tried and how it ended, and how long things take.
//!
//! Everything is a number that only grows, in a place that is known beforehand: by gate, by the way in which somebody came, and by
//! outcome. No name, no address and nothing else that a peer could make up is a place, so there are never more of them. To count is
//! one addition that no other thread waits for.
//!
//! It refuses to know who reads the numbers, and in which format.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::credential::Credential;
use crate::refusal::Refusal;
use crate::reply::TokenKind;

/// In which way somebody would come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// A name and a password.
    Password,
    /// A client that speaks for itself.
    ClientSecret,
    /// A grant's code.
    Code,
    /// A token that takes a session up again; one of another issuer; or one of a terminal's.
    Restore,
    /// A password or a PIN of a terminal.
    TerminalSecret,
    /// Nothing: a terminal may be open.
    Unsecured,
    /// The operator's own secret.
    OperatorSecret,
    /// The cookie of a session.
    Cookie,
    /// An access token that we have signed.
    Access,
    /// A refresh token that we have signed.
    Refresh,
    /// An API key.
    ApiKey,
    /// A token of a terminal's that goes along with a request.
    TerminalToken,
}

impl Way {
    /// All of them, each at its own index.
    pub const ALL: [Way; 12] = [
        Way::Password,
        Way::ClientSecret,
        Way::Code,
        Way::Restore,
        Way::TerminalSecret,
        Way::Unsecured,
        Way::OperatorSecret,
        Way::Cookie,
        Way::Access,
        Way::Refresh,
        Way::ApiKey,
        Way::TerminalToken,
    ];

    /// The word that logs and metrics use.
    pub const fn word(self) -> &'static str {
        match self {
            Way::Password => "password",
            Way::ClientSecret => "client_secret",
            Way::Code => "code",
            Way::Restore => "restore",
            Way::TerminalSecret => "terminal_secret",
            Way::Unsecured => "unsecured",
            Way::OperatorSecret => "operator_secret",
            Way::Cookie => "cookie",
            Way::Access => "access",
            Way::Refresh => "refresh",
            Way::ApiKey => "api_key",
            Way::TerminalToken => "terminal_token",
        }
    }

    /// Whether it is an attempt to come in. Otherwise it goes along with every request, and is only looked up.
    pub const fn is_attempt(self) -> bool {
        match self {
            Way::Password
            | Way::ClientSecret
            | Way::Code
            | Way::Restore
            | Way::TerminalSecret
            | Way::Unsecured
            | Way::OperatorSecret => true,
            Way::Cookie | Way::Access | Way::Refresh | Way::ApiKey | Way::TerminalToken => false,
        }
    }

    pub(crate) fn of(credential: &Credential) -> Way {
        match credential {
            Credential::Password { .. } => Way::Password,
            Credential::Client { .. } => Way::ClientSecret,
            Credential::Code { .. } => Way::Code,
            Credential::Cookie(_) => Way::Cookie,
            Credential::ApiKey(_) => Way::ApiKey,
            Credential::OperatorSecret(_) => Way::OperatorSecret,
            Credential::Terminal { token_shaped: false, .. } => Way::TerminalSecret,
            Credential::Terminal { token_shaped: true, .. } => Way::Restore,
            Credential::TerminalToken { .. } => Way::TerminalToken,
            Credential::Unsecured => Way::Unsecured,
            Credential::Refresh(_) => Way::Refresh,
            Credential::Token { kind, .. } | Credential::Kept { kind, .. } => match kind {
                TokenKind::Access => Way::Access,
                TokenKind::Refresh => Way::Refresh,
                TokenKind::Cookie { .. } => Way::Cookie,
                TokenKind::Restore | TokenKind::Upstream { .. } => Way::Restore,
                TokenKind::Terminal(_) => Way::TerminalToken,
            },
        }
    }
}

/// How it ended: what an operator would do something about, each for itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// They are in.
    Granted,
    /// What was shown proves nothing.
    Wrong,
    /// It was good once, or will be.
    Expired,
    /// It is right, and they may not come in, or not so.
    Denied,
    /// A secret on a connection that others could read.
    Insecure,
    /// Too soon after too many failures.
    Throttled,
    /// More wait for a hash than can be served.
    Busy,
    /// No answer was there in time.
    TimedOut,
    /// The store or something else failed.
    Broken,
}

impl Ending {
    /// All of them, each at its own index.
    pub const ALL: [Ending; 9] = [
        Ending::Granted,
        Ending::Wrong,
        Ending::Expired,
        Ending::Denied,
        Ending::Insecure,
        Ending::Throttled,
        Ending::Busy,
        Ending::TimedOut,
        Ending::Broken,
    ];

    /// The word that metrics use.
    pub const fn word(self) -> &'static str {
        match self {
            Ending::Granted => "granted",
            Ending::Wrong => "wrong",
            Ending::Expired => "expired",
            Ending::Denied => "denied",
            Ending::Insecure => "insecure",
            Ending::Throttled => "throttled",
            Ending::Busy => "busy",
            Ending::TimedOut => "timed_out",
            Ending::Broken => "broken",
        }
    }

    /// Whether it was refused by a rule and not for what was shown: no password was compared for it. A key or a token may have been
    /// looked up before, and the secret of a client compared.
    pub const fn is_early(self) -> bool {
        match self {
            Ending::Insecure | Ending::Throttled | Ending::Busy => true,
            Ending::Granted | Ending::Wrong | Ending::Expired | Ending::Denied | Ending::TimedOut | Ending::Broken => false,
        }
    }
}

impl Refusal {
    /// Under what it is counted.
    pub const fn ending(&self) -> Ending {
        match self {
            Refusal::InvalidCredentials
            | Refusal::InvalidClient
            | Refusal::UnknownProvider
            | Refusal::BelongsToNobody
            | Refusal::WrongAudience
            | Refusal::WrongAlgorithm { .. }
            | Refusal::NoMoment(_) => Ending::Wrong,
            Refusal::Expired | Refusal::Revoked | Refusal::NotYetValid | Refusal::AccountGone => Ending::Expired,
            Refusal::AccountUnavailable
            | Refusal::MethodNotAllowed
            | Refusal::PlanRequired
            | Refusal::RoleMismatch
            | Refusal::ScopeNotGranted
            | Refusal::TooManySessions
            | Refusal::LoginRequired
            | Refusal::NotPermitted
            | Refusal::AlreadySignedIn
            | Refusal::AlreadyExists(_)
            | Refusal::NotFound(_)
            | Refusal::Invalid(_) => Ending::Denied,
            Refusal::InsecureTransport => Ending::Insecure,
            Refusal::TooManyAttempts { .. } => Ending::Throttled,
            Refusal::Busy { .. } => Ending::Busy,
            Refusal::TimedOut => Ending::TimedOut,
            Refusal::Unavailable => Ending::Broken,
        }
    }
}

/// How often each ending came, by gate and way.
pub struct Counts {
    gates: Vec<(&'static str, [[AtomicU64; Ending::ALL.len()]; Way::ALL.len()])>,
}

impl Counts {
    /// Nothing counted yet, for these gates.
    pub(crate) fn new(gates: impl Iterator<Item = &'static str>) -> Counts {
        let none = || std::array::from_fn(|_| std::array::from_fn(|_| AtomicU64::new(0)));
        Counts { gates: gates.map(|gate| (gate, none())).collect() }
    }

    /// One more. A gate that was not named has nothing that could be counted: it lets nobody in.
    pub(crate) fn count(&self, gate: &str, way: Way, ending: Ending) {
        // There are a handful of gates, and their names differ in length: this is as quick as an index.
        if let Some((_, counts)) = self.gates.iter().find(|(name, _)| *name == gate) {
            counts[way as usize][ending as usize].fetch_add(1, Ordering::Relaxed);
        }
    }

    /// All of them: gate, way, ending, and how often.
    pub fn read(&self) -> impl Iterator<Item = (&'static str, Way, Ending, u64)> {
        self.gates.iter().flat_map(|(gate, counts)| {
            Way::ALL.into_iter().flat_map(move |way| {
                Ending::ALL
                    .into_iter()
                    .map(move |ending| (*gate, way, ending, counts[way as usize][ending as usize].load(Ordering::Relaxed)))
            })
        })
    }
}

/// How long something took, each time: a histogram.
pub struct Durations {
    bounds: &'static [Duration],
    /// One for each bound, and one for what took longer.
    counts: Box<[AtomicU64]>,
    nanoseconds: AtomicU64,
}

impl Durations {
    /// Nothing has taken any time yet. `bounds` ascend; what took as long as a bound counts to it.
    pub fn new(bounds: &'static [Duration]) -> Durations {
        let counts = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Durations { bounds, counts, nanoseconds: AtomicU64::new(0) }
    }

    /// It took so long once more.
    pub fn record(&self, span: Duration) {
        let place = self.bounds.partition_point(|bound| *bound < span);
        self.counts[place].fetch_add(1, Ordering::Relaxed);
        self.nanoseconds.fetch_add(u64::try_from(span.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// How often all of it took place.
    pub fn count(&self) -> u64 {
        self.counts.iter().map(|count| count.load(Ordering::Relaxed)).sum()
    }

    /// What is known by now.
    pub fn read(&self) -> Spread {
        let bounds = self.bounds.iter().map(Duration::as_secs_f64).chain([f64::INFINITY]);
        let buckets = bounds.zip(self.counts.iter().map(|count| count.load(Ordering::Relaxed))).collect();
        let seconds = Duration::from_nanos(self.nanoseconds.load(Ordering::Relaxed)).as_secs_f64();
        Spread { buckets, seconds }
    }
}

/// A histogram at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Spread {
    /// How often it took longer than the bound before and up to this one, in seconds; the last bound is infinity.
    pub buckets: Vec<(f64, u64)>,
    /// How long all of it took together.
    pub seconds: f64,
}

impl Spread {
    /// How often it took place.
    pub fn count(&self) -> u64 {
        self.buckets.iter().map(|(_, count)| count).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_and_every_ending_has_a_place_and_a_word_of_its_own() {
        for (index, way) in Way::ALL.into_iter().enumerate() {
            assert_eq!(way as usize, index);
            assert_eq!(Way::ALL.iter().filter(|other| other.word() == way.word()).count(), 1, "{way:?}");
        }
        for (index, ending) in Ending::ALL.into_iter().enumerate() {
            assert_eq!(ending as usize, index);
            assert_eq!(Ending::ALL.iter().filter(|other| other.word() == ending.word()).count(), 1, "{ending:?}");
        }
    }

    #[test]
    fn what_peers_make_up_makes_no_place() {
        let counts = Counts::new(["zenith", "trueconf"].into_iter());
        let places = counts.read().count();
        for number in 0..1000 {
            counts.count(&format!("gate-{number}"), Way::Password, Ending::Wrong);
        }
        counts.count("zenith", Way::Password, Ending::Wrong);
        counts.count("zenith", Way::Password, Ending::Wrong);
        assert_eq!(counts.read().count(), places);
        let counted: Vec<_> = counts.read().filter(|(.., often)| *often > 0).collect();
        assert_eq!(counted, [("zenith", Way::Password, Ending::Wrong, 2)]);
    }

    #[test]
    fn a_span_counts_to_the_first_bound_that_it_does_not_exceed() {
        const BOUNDS: &[Duration] = &[Duration::from_millis(10), Duration::from_millis(500)];
        let durations = Durations::new(BOUNDS);
        for millis in [0, 10, 11, 500, 1_000, 2_000] {
            durations.record(Duration::from_millis(millis));
        }
        let spread = durations.read();
        assert_eq!(spread.buckets, [(0.01, 2), (0.5, 2), (f64::INFINITY, 2)]);
        assert_eq!((spread.count(), durations.count()), (6, 6));
        assert!((spread.seconds - 3.521).abs() < 1e-9, "{}", spread.seconds);
    }
}
