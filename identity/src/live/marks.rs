//! Which texts may be API keys: four bytes of the hash of each that was made, so that one that nobody made costs no look at the
//! store, however many are tried.
//!
//! A mark says "perhaps", and that there is none says "no". Marks of keys that are forgotten stay until the next start. Past the
//! bound every text may be a key, and is looked up.

use std::collections::HashSet;

use super::Live;
use crate::store::TokenHash;

/// How many marks are held: some ten megabytes.
pub(crate) const MOST_MARKS: usize = 1_000_000;

/// Four bytes of a key's hash.
pub(crate) type Mark = [u8; 4];

pub(crate) fn mark_of(hash: &TokenHash) -> Mark {
    let [a, b, c, d, ..] = *hash;
    [a, b, c, d]
}

/// What is known of the keys there are.
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
    /// Whether this may be an API key. `None`: that was not read yet.
    pub(crate) fn may_be_api_key(&self, hash: &TokenHash) -> Option<bool> {
        match &self.tables().marks {
            Marks::Unread => None,
            Marks::Read(marks) => Some(marks.contains(&mark_of(hash))),
            Marks::TooMany => Some(true),
        }
    }

    /// Takes in the marks of all keys. To be called while the feed stands still where it stood before the reading began.
    pub(crate) fn know_marks(&self, marks: Vec<Mark>) {
        let many = marks.len() > MOST_MARKS;
        self.tables().marks = if many { Marks::TooMany } else { Marks::Read(marks.into_iter().collect()) };
    }

    /// Follows the feed: a key was made.
    pub(crate) fn api_key_made(&self, hash: &TokenHash) {
        let mut tables = self.tables();
        if let Marks::Read(marks) = &mut tables.marks {
            marks.insert(mark_of(hash));
            if marks.len() > MOST_MARKS {
                tables.marks = Marks::TooMany;
            }
        }
    }
}
