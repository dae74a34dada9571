//! What a circuit measures: the calls that have ended, and those that should have.

use std::sync::Arc;

use arc_swap::ArcSwapOption;

use super::config::Settings;
use super::verdict::Evidence;
use crate::clock::Timestamp;
use crate::in_flight::InFlight;
use crate::sync::{AtomicU64, Ordering};
use crate::window::Calls;

#[derive(Debug)]
pub(super) struct Measures {
    pub(super) window: Calls,
    /// Boxed, so that a circuit without the rule stays small.
    pub(super) in_flight: Option<Box<InFlight>>,
    version: u16,
}

impl Measures {
    pub(super) fn new(settings: &Settings, version: u16) -> Self {
        let in_flight = settings.overdue_after().map(|limit| Box::new(InFlight::new(limit, version)));
        Self { window: Calls::new(settings.window), in_flight, version }
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
        let replacement = self.with(|present| {
            let replacement = Measures::new(settings, present.version.wrapping_add(1));
            replacement.begin(era, now);
            replacement.window.restore(era, now, present.window.counts(era, now));
            replacement
        });
        self.latest.store(Some(Arc::new(replacement)));
        self.is_replaced.store(1, Ordering::Release);
    }
}
