//! Something that is replaced as a whole while others use it: settings that an operator changes under a running server.
//!
//! Whoever asks gets it as it is at that moment and keeps that for as long as they need it; nobody waits for anybody. It refuses
//! to know what it holds.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

/// What is in force now.
pub struct Current<T>(RwLock<Arc<T>>);

impl<T> Current<T> {
    /// This, until something else is put in its place.
    pub fn new(first: T) -> Current<T> {
        Current(RwLock::new(Arc::new(first)))
    }

    /// As it is now. What is decided by it should ask once, so that it is not decided by two.
    pub fn now(&self) -> Arc<T> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Puts something else in its place. Whoever has asked before goes on with what they were given.
    pub fn replace(&self, next: T) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(next);
    }
}

impl<T: Default> Default for Current<T> {
    fn default() -> Current<T> {
        Current::new(T::default())
    }
}

impl<T> fmt::Debug for Current<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // What it holds may be secret.
        f.debug_struct("Current").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_asked_before_goes_on_with_what_was_then() {
        let current = Current::new(1);
        let before = current.now();
        current.replace(2);
        assert_eq!((*before, *current.now()), (1, 2));
    }
}
