//! What a circuit measures: the calls that have ended, and those that should have.

use std::sync::Arc;

use arc_swap::ArcSwapOption;

use super::config::Settings;
use super::verdict::Evidence;
use crate::base::clock::Timestamp;
use crate::base::sync::{AtomicU64, Ordering};
use crate::primitives::in_flight::InFlight;
use crate::primitives::window::Calls;

#[derive(Debug)]
pub(super) struct Measures {
    pub(super) window: Calls,
    /// Behind a pointer, so that a circuit without the rule stays small, and to be taken over by
    /// the measures that replace these.
    pub(super) in_flight: Option<Arc<InFlight>>,
    version: u16,
}

impl Measures {
    pub(super) fn new(settings: &Settings, version: u16) -> Self {
        let in_flight = settings.overdue_after().map(|limit| Arc::new(InFlight::new(limit, version)));
        Self { window: Calls::new(settings.window), in_flight, version }
    }

    /// Measures for `settings` with what these hold at `now`. The calls in flight go on being
    /// counted if their limit stays the same, and are forgotten otherwise.
    fn replaced(&self, settings: &Settings, era: u64, now: Timestamp) -> Self {
        let is_same = |in_flight: &&Arc<InFlight>| {
            settings.overdue_after().is_some_and(|limit| in_flight.is_for(limit))
        };
        let window = Calls::new(settings.window);
        window.begin(era);
        window.take_over(&self.window, era, now);
        if let Some(in_flight) = self.in_flight.as_ref().filter(is_same) {
            return Self { window, in_flight: Some(Arc::clone(in_flight)), version: self.version };
        }
        let replacement = Self { window, ..Self::new(settings, self.version.wrapping_add(1)) };
        if let Some(in_flight) = &replacement.in_flight {
            in_flight.begin(era, now);
        }
        replacement
    }

    /// Makes `generation` the only one that counts.
    pub(super) fn begin(&self, generation: u64, now: Timestamp) {
        self.window.begin(generation);
        if let Some(in_flight) = &self.in_flight {
            in_flight.begin(generation, now);
        }
    }

    pub(super) fn evidence(&self, generation: u64, now: Timestamp) -> Evidence {
        Evidence {
            counts: self.window.counts(generation, now),
            overdue: self.in_flight.as_ref().map_or(0, |in_flight| in_flight.overdue(generation, now)),
        }
    }
}

/// Measures that a new configuration may replace. Until it does they are reached without a detour: going
/// through an `ArcSwap` would cost every call as much as recording it.
#[derive(Debug)]
pub(super) struct Replaceable {
    first: Measures,
    is_replaced: AtomicU64,
    latest: ArcSwapOption<Measures>,
}

impl Replaceable {
    pub(super) fn new(first: Measures) -> Self {
        Self { first, is_replaced: AtomicU64::new(0), latest: ArcSwapOption::empty() }
    }

    #[inline]
    pub(super) fn with<R>(&self, look: impl FnOnce(&Measures) -> R) -> R {
        // One call of `look` and not one for each case, so that it is inlined.
        let latest;
        let measures = if self.is_replaced.load(Ordering::Relaxed) == 0 {
            &self.first
        } else {
            latest = self.latest.load();
            latest.as_deref().unwrap_or(&self.first)
        };
        look(measures)
    }

    /// Puts measures for `settings` in place, with what the present ones hold at `now`. Calls that end in this
    /// very moment may be missed.
    pub(super) fn replace(&self, settings: &Settings, era: u64, now: Timestamp) {
        let replacement = self.with(|present| present.replaced(settings, era, now));
        self.latest.store(Some(Arc::new(replacement)));
        self.is_replaced.store(1, Ordering::Release);
    }
}
