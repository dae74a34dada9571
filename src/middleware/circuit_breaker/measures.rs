//! What a circuit measures: the calls that have ended, and those that should have.

use std::sync::Arc;

use arc_swap::ArcSwapOption;

use super::config::Settings;
use super::verdict::Evidence;
use crate::base::clock::{Timestamp, nanos};
use crate::base::sync::{AtomicU64, Ordering};
use crate::primitives::in_flight::{Entry, InFlight};
use crate::primitives::window::Calls;

#[derive(Debug)]
pub(super) struct Measures {
    pub(super) window: Calls,
    /// Behind a pointer, so that a circuit without the rule stays small, and to be taken over by
    /// the measures that replace these.
    pub(super) in_flight: Option<Arc<InFlight>>,
    /// Where the calls are counted that began under other limits, the latest first.
    earlier: Vec<Earlier>,
    /// In nanoseconds, when a call in flight is overdue.
    limit: u64,
    version: u16,
}

/// Calls that began under another limit than the present one.
#[derive(Clone, Debug)]
struct Earlier {
    in_flight: Arc<InFlight>,
    /// No call that had to make room started at this time or later: more is not known of them.
    moved_before: Timestamp,
}

/// Calls of more limits than these are forgotten, the earliest first: each is looked at when calls are judged.
const MOST_EARLIER: usize = 8;

impl Measures {
    pub(super) fn new(settings: &Settings, version: u16) -> Self {
        let limit = settings.overdue_after();
        let in_flight = limit.map(|limit| Arc::new(InFlight::new(limit, version)));
        let limit = limit.map_or(u64::MAX, nanos);
        Self { window: Calls::new(settings.window), in_flight, earlier: Vec::new(), limit, version }
    }

    /// Returns measures for `settings` with what these hold at `now`. The calls in flight go on being counted where they are.
    fn replaced(&self, settings: &Settings, era: u64, now: Timestamp) -> Self {
        let is_same = |in_flight: &&Arc<InFlight>| {
            settings.overdue_after().is_some_and(|limit| in_flight.is_for(limit))
        };
        let window = Calls::new(settings.window);
        window.begin(era);
        window.take_over(&self.window, era, now);
        if let Some(in_flight) = self.in_flight.as_ref().filter(is_same) {
            let (in_flight, earlier) = (Some(Arc::clone(in_flight)), self.earlier.clone());
            return Self { window, in_flight, earlier, limit: self.limit, version: self.version };
        }
        let last = self.in_flight.iter().map(|in_flight| Earlier {
            in_flight: Arc::clone(in_flight),
            moved_before: in_flight.moved_before(now),
        });
        let earlier = last.chain(self.earlier.iter().cloned());
        let earlier: Vec<_> =
            earlier.filter(|earlier| !earlier.in_flight.is_empty(era)).take(MOST_EARLIER).collect();
        let mut version = self.version.wrapping_add(1);
        while earlier.iter().any(|earlier| earlier.in_flight.version() == version) {
            version = version.wrapping_add(1);
        }
        let replacement = Self { window, earlier, ..Self::new(settings, version) };
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
        for earlier in &self.earlier {
            earlier.in_flight.begin(generation, now);
        }
    }

    /// Takes note that a call has ended that was counted among those in flight.
    #[inline]
    pub(super) fn leave(&self, generation: u64, entry: Entry, started: Timestamp) {
        match &self.in_flight {
            Some(in_flight) if in_flight.has_counted(entry) => in_flight.leave(generation, entry, started),
            _ => self.leave_earlier(generation, entry, started),
        }
    }

    #[cold]
    fn leave_earlier(&self, generation: u64, entry: Entry, started: Timestamp) {
        // Each gives back what it has counted itself.
        for earlier in &self.earlier {
            earlier.in_flight.leave(generation, entry, started);
        }
    }

    /// How many calls have been in flight for too long, if that makes them slow.
    pub(super) fn overdue(&self, generation: u64, now: Timestamp) -> u64 {
        let Some(in_flight) = &self.in_flight else { return 0 };
        let overdue = |earlier: &Earlier| {
            earlier.in_flight.overdue_by(self.limit, earlier.moved_before, generation, now)
        };
        self.earlier.iter().map(overdue).fold(in_flight.overdue(generation, now), u64::saturating_add)
    }

    pub(super) fn evidence(&self, generation: u64, now: Timestamp) -> Evidence {
        Evidence { counts: self.window.counts(generation, now), overdue: self.overdue(generation, now) }
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
