//! What there may be: four bytes of the hash of each API key that was made, and of each thing that was revoked. So a key that
//! nobody made, however many are tried, and a token that nobody revoked cost no look at the store.
//!
//! A mark says "perhaps", and that there is none says "no". Marks of what is forgotten stay until the next start. Past the
//! bound everything may be there, and is looked up.

use std::collections::HashSet;

use super::Live;
use super::tables::Tables;
use crate::store::TokenHash;

/// How many marks of each kind are held: some ten megabytes.
pub(crate) const MOST_MARKS: usize = 1_000_000;

/// Four bytes of a hash.
pub(crate) type Mark = [u8; 4];

fn mark_of(hash: &TokenHash) -> Mark {
    let [a, b, c, d, ..] = *hash;
    [a, b, c, d]
}

/// What there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// API keys that were made.
    ApiKey,
    /// What was revoked.
    Revoked,
}

/// What is known of one kind.
#[derive(Default)]
pub(super) enum Marks {
    /// Nothing yet.
    #[default]
    Unread,
    /// These.
    Read(HashSet<Mark>),
    /// That they are too many.
    TooMany,
}

impl Live {
    /// Whether there may be this. `None`: that was not read yet.
    pub(crate) fn may_be(&self, kind: Kind, hash: &TokenHash) -> Option<bool> {
        match self.tables().marks(kind) {
            Marks::Unread => None,
            Marks::Read(marks) => Some(marks.contains(&mark_of(hash))),
            Marks::TooMany => Some(true),
        }
    }

    /// Takes in all marks of a kind. To be called while the feed stands still where it stood before the reading began.
    pub(crate) fn know_marks(&self, kind: Kind, marks: Vec<Mark>) {
        let many = marks.len() > MOST_MARKS;
        *self.tables().marks(kind) = if many { Marks::TooMany } else { Marks::Read(marks.into_iter().collect()) };
    }

    /// Follows the feed: a key was made.
    pub(crate) fn api_key_made(&self, hash: &TokenHash) {
        self.tables().marks(Kind::ApiKey).add(hash);
    }
}

impl Marks {
    /// One more.
    pub(super) fn add(&mut self, hash: &TokenHash) {
        if let Marks::Read(marks) = self {
            marks.insert(mark_of(hash));
            if marks.len() > MOST_MARKS {
                *self = Marks::TooMany;
            }
        }
    }
}

impl Tables {
    /// What is known of a kind.
    pub(super) fn marks(&mut self, kind: Kind) -> &mut Marks {
        match kind {
            Kind::ApiKey => &mut self.api_keys,
            Kind::Revoked => &mut self.revoked,
        }
    }
}
