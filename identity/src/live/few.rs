//! A set that holds few: in order, and as large as what is in it.
//!
//! Most sessions have one token and one connection, and there are as many sets as sessions. A hashed set of one takes four times
//! the room, and a tree of none keeps its first leaf. What is looked for is found by halves; what comes or goes moves what stands
//! behind it, which is little even where a session has all the tokens that it may.

use std::ops::Deref;

/// Such a set.
#[derive(Clone, Debug)]
pub(super) struct Few<T>(Vec<T>);

impl<T> Default for Few<T> {
    fn default() -> Few<T> {
        Few(Vec::new())
    }
}

impl<T: Ord> Few<T> {
    /// Puts one in, unless it is there.
    pub(super) fn insert(&mut self, item: T) {
        if let Err(place) = self.0.binary_search(&item) {
            if self.0.len() == self.0.capacity() {
                self.0.reserve_exact(1 + self.0.len() / 4);
            }
            self.0.insert(place, item);
        }
    }

    /// Takes one out. `false`: it was not there.
    pub(super) fn remove(&mut self, item: &T) -> bool {
        let Ok(place) = self.0.binary_search(item) else { return false };
        self.0.remove(place);
        if self.0.is_empty() {
            self.0 = Vec::new();
        }
        true
    }
}

impl<T> Deref for Few<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.0
    }
}

impl<T> IntoIterator for Few<T> {
    type Item = T;
    type IntoIter = std::vec::IntoIter<T>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

#[cfg(test)]
mod tests {
    use super::Few;

    #[test]
    fn what_is_in_it_stands_in_order_once_and_takes_no_more_room() {
        let mut few = Few::default();
        for item in [3, 1, 2, 3, 1] {
            few.insert(item);
        }
        assert_eq!(*few, [1, 2, 3]);
        assert_eq!([few.remove(&2), few.remove(&2), few.remove(&4)], [true, false, false]);
        assert_eq!(*few, [1, 3]);
        assert!(few.0.capacity() <= 3, "{}", few.0.capacity());
        assert!(few.remove(&1) && few.remove(&3));
        assert_eq!((few.len(), few.0.capacity()), (0, 0));
    }
}
