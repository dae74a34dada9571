use std::fmt;
use std::sync::Arc;

use super::config::StaleConfig;
use super::stale::Answers;

/// A handle to inspect and clear the stored responses of a [stale fallback](super).
pub struct StaleHandle<Key, Res> {
    answers: Arc<Answers<Key, Res>>,
}

impl<Key, Res> StaleHandle<Key, Res> {
    pub(super) const fn new(answers: Arc<Answers<Key, Res>>) -> Self {
        Self { answers }
    }

    /// Returns the configuration.
    #[must_use]
    pub fn config(&self) -> &StaleConfig {
        &self.answers.config
    }

    /// Returns the number of stored responses, including expired ones.
    #[must_use]
    pub fn len(&self) -> usize {
        self.answers.len()
    }

    /// Returns `true` if no response is stored.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Removes all stored responses. Calls in flight still store theirs.
    pub fn clear(&self) {
        self.answers.clear();
    }
}

impl<Key, Res> Clone for StaleHandle<Key, Res> {
    fn clone(&self) -> Self {
        Self::new(Arc::clone(&self.answers))
    }
}

impl<Key, Res> fmt::Debug for StaleHandle<Key, Res> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("StaleHandle").field(&self.answers).finish()
    }
}
