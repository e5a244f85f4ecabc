//! How long somebody is waited for who sends or takes bytes: it grows shorter while that is so, and longer by what moves.

use std::time::Duration;

/// What a peer must send or take on average while it is waited for, in bytes a second: less than the worst mobile network does.
const SLOWEST: u32 = 1024;

/// What is left of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    most: Duration,
    left: Duration,
}

impl Patience {
    /// All of it, and never more than that.
    pub(crate) const fn of(most: Duration) -> Patience {
        Patience { most, left: most }
    }

    /// How long it lasts if nothing moves.
    pub(crate) const fn left(&self) -> Duration {
        self.left
    }

    /// It was waited for so long.
    pub(crate) fn waited(&mut self, time: Duration) {
        self.left = self.left.saturating_sub(time);
    }

    /// So many bytes have moved.
    pub(crate) fn moved(&mut self, bytes: usize) {
        let earned = Duration::from_secs(u64::try_from(bytes).unwrap_or(u64::MAX)) / SLOWEST;
        self.left = self.left.saturating_add(earned).min(self.most);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patience_ends_with_whoever_moves_too_little() {
        let seconds = Duration::from_secs;
        let mut patience = Patience::of(seconds(30));
        patience.moved(1 << 30);
        assert_eq!(patience.left, seconds(30), "nobody saves up");
        patience.waited(seconds(22));
        patience.moved(1);
        assert!(patience.left < seconds(9), "a byte is worth next to nothing: {:?}", patience.left);
        patience.waited(seconds(4));
        patience.moved(8 * 1024);
        assert!(patience.left >= seconds(12), "{:?}", patience.left);
        patience.waited(seconds(60));
        assert_eq!(patience.left, Duration::ZERO);
        patience.moved(usize::MAX);
        assert_eq!(patience.left, seconds(30));
    }
}
