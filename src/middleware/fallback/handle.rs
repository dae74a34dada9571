use std::fmt;
use std::sync::Arc;

use super::config::StaleConfig;
use super::stale::Answers;

/// Shows and forgets the last good answers that a [fallback](super) holds.
pub struct StaleHandle<Key, Res> {
    answers: Arc<Answers<Key, Res>>,
}

impl<Key, Res> StaleHandle<Key, Res> {
    pub(super) const fn new(answers: Arc<Answers<Key, Res>>) -> Self {
        Self { answers }
    }

    /// The configuration.
    #[must_use]
    pub fn config(&self) -> &StaleConfig {
        &self.answers.config
    }

    /// How many answers are held, with those that are too old to be given again.
    #[must_use]
    pub fn len(&self) -> usize {
        self.answers.len()
    }

    /// Whether no answer is held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Forgets all answers: they are wrong by now, or the memory is needed. Calls under way store theirs.
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
