use crate::base::sync::{AtomicU64, Ordering};

/// An average of what was of late: each new value counts for a sixteenth. Of two that are recorded at the same time one
/// may be lost.
#[derive(Debug)]
pub(super) struct Usual(AtomicU64);

impl Usual {
    const WEIGHT: u64 = 16;

    pub(super) fn record(&self, value: u64) {
        let before = self.0.load(Ordering::Relaxed);
        let after = if before == 0 {
            value
        } else {
            (before - before / Self::WEIGHT).saturating_add(value / Self::WEIGHT)
        };
        self.0.store(after, Ordering::Relaxed);
    }

    /// Zero, if nothing was recorded.
    pub(super) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Default for Usual {
    fn default() -> Self {
        Self(AtomicU64::new(0))
    }
}
