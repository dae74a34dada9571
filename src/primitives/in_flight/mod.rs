//! How many calls have been in flight for longer than they should be.
//!
//! Calls are counted by the time they started, in *cohorts* of a sixth of the limit, or of 10 ms if
//! that is longer:
//!
//! ```text
//! cohort   [number of the cohort | calls still in flight]       one word each, eight of them
//! overdue  calls of cohorts that had to make room for a new one
//! ```
//!
//! Eight cohorts span more than the limit, so one that makes room is overdue as a whole. A call that ends finds
//! either its cohort still there, or knows that it was moved. A dependency that hangs is seen in this way one
//! cohort after the limit, without a timer and long before its first call ends.

#![warn(clippy::arithmetic_side_effects, reason = "what is configured may be as large as it likes")]

use std::time::Duration;

use crate::base::clock::{Now, Timestamp, nanos};
use crate::base::epoch_count::{Found, Numbered};
use crate::base::sync::planted;
use crate::base::sync::{AtomicU64, Ordering, Striped};

const COHORTS: usize = 8;
const COHORT_BITS: u64 = COHORTS as u64 - 1;
const COHORTS_IN_LIMIT: u64 = 6;
/// In nanoseconds. The numbers of shorter ones would repeat within days, those of a nanosecond
/// within a minute, and calls that have just begun would be taken for old ones.
const SHORTEST_COHORT: u64 = 10_000_000;

/// Calls in flight by age.
#[derive(Debug)]
pub(crate) struct InFlight {
    limit: u64,
    width: u64,
    /// Tells this instance from those it took the place of. After 65,536 of them it is another's,
    /// whose calls began before the first cohort.
    version: u16,
    /// The first cohort of the current era: what was counted before is none of its business.
    base: AtomicU64,
    stripes: Striped<Stripe>,
}

/// Where a call was counted, to be given back when it ends; with the time at which it started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    place: u16,
    version: u16,
}

impl Entry {
    /// So many bits hold what [`pack`](Self::pack) returns.
    pub(crate) const BITS: u32 = u16::BITS + Self::PLACE_BITS;
    /// There are no more than sixteen stripes.
    const PLACE_BITS: u32 = 4;
    const PLACE: u16 = (1 << Self::PLACE_BITS) - 1;

    #[inline]
    pub(crate) const fn pack(self) -> u32 {
        (self.version as u32) << Self::PLACE_BITS | (self.place & Self::PLACE) as u32
    }

    #[inline]
    #[allow(clippy::cast_possible_truncation, reason = "taking the fields out of the bits")]
    pub(crate) const fn unpack(bits: u32) -> Self {
        Self { place: bits as u16 & Self::PLACE, version: (bits >> Self::PLACE_BITS) as u16 }
    }
}

impl InFlight {
    pub(crate) fn new(limit: Duration, version: u16) -> Self {
        let limit = nanos(limit);
        let width = limit.div_ceil(COHORTS_IN_LIMIT).max(SHORTEST_COHORT);
        Self { limit, width, version, base: AtomicU64::new(0), stripes: Striped::new(Stripe::new()) }
    }

    /// Makes `era` the only one that counts, from `now` on. Calls of earlier ones that are still in flight are
    /// forgotten: each era's cohorts have higher numbers than those of the eras before.
    pub(crate) fn begin(&self, era: u64, now: Timestamp) {
        self.base.store(self.cohort(era, now), Ordering::Relaxed);
    }

    /// The cohort of a call that starts at `now`.
    #[inline]
    pub(crate) fn cohort(&self, era: u64, now: Timestamp) -> u64 {
        let cohort = now.0.checked_div(self.width).unwrap_or(0);
        cohort.wrapping_add(era.wrapping_mul(COHORTS as u64))
    }

    /// The cohort of era 0 of a call that starts at `now`. A good `guess` saves the division.
    #[inline]
    pub(crate) fn cohort_near(&self, guess: u64, now: Timestamp) -> u64 {
        let into = now.0.wrapping_sub(guess.wrapping_mul(self.width));
        if into < self.width { guess } else { self.cohort(0, now) }
    }

    /// Returns `true` if this is where `entry` was counted.
    #[inline]
    pub(crate) const fn has_counted(&self, entry: Entry) -> bool {
        entry.version == self.version
    }

    pub(crate) const fn version(&self) -> u16 {
        self.version
    }

    /// The earliest time at which no call of `era` that had to make room by `now` can have started.
    pub(crate) fn moved_before(&self, now: Timestamp) -> Timestamp {
        let cohort = now.0.checked_div(self.width).unwrap_or(0);
        Timestamp(cohort.saturating_sub(COHORT_BITS).saturating_mul(self.width))
    }

    /// Returns `true` if no call of `era` is in flight.
    pub(crate) fn is_empty(&self, era: u64) -> bool {
        let base = self.base.load(Ordering::Relaxed);
        self.stripes.iter().all(|stripe| stripe.is_empty(era, base))
    }

    /// Returns `true` if this is how calls are counted whose limit is `limit`.
    pub(crate) fn is_for(&self, limit: Duration) -> bool {
        self.limit == nanos(limit)
    }

    #[inline]
    pub(crate) fn enter(&self, era: u64, cohort: u64, now: &Now<'_>) -> Entry {
        let place = self.stripes.place(now.stripe());
        let base = self.base.load(Ordering::Relaxed);
        if self.stripes.at(place).enter(era, cohort, base) {
            self.stripes.spread(Stripe::new);
        }
        // There are no more than sixteen.
        Entry { place: u16::try_from(place).unwrap_or(0), version: self.version }
    }

    #[inline]
    pub(crate) fn leave(&self, era: u64, entry: Entry, started: Timestamp) {
        self.leave_cohort(era, entry, || self.cohort(era, started));
    }

    /// The same, for a caller that knows the cohort. Returns `true` if no other call of this cohort is in
    /// flight on the stripe of this one, and `false` also if that is not known.
    #[inline]
    pub(crate) fn leave_cohort(&self, era: u64, entry: Entry, cohort: impl FnOnce() -> u64) -> bool {
        self.has_counted(entry) && self.stripes.at(usize::from(entry.place)).leave(era, cohort(), &self.base)
    }

    /// How many calls of `era` had been in flight for longer than the limit at `now`. A call is counted once
    /// its whole cohort is, up to a sixth of the limit late, or 10 ms.
    pub(crate) fn overdue(&self, era: u64, now: Timestamp) -> u64 {
        self.overdue_by(self.limit, Timestamp(0), era, now)
    }

    /// As [`overdue`](Self::overdue), by another limit than the one that the cohorts were made for. Calls that had to make room
    /// are known to have started before `moved_before`, and no more.
    pub(crate) fn overdue_by(&self, limit: u64, moved_before: Timestamp, era: u64, now: Timestamp) -> u64 {
        let Some(started) = now.0.checked_sub(limit) else { return 0 };
        let on_time = self.cohort(era, Timestamp(started));
        let base = self.base.load(Ordering::Relaxed);
        let with_moved = started >= moved_before.0;
        let overdue = |stripe: &Stripe| {
            let moved = if with_moved { stripe.moved(era) } else { 0 };
            stripe.late(on_time, base).saturating_add(moved)
        };
        self.stripes.iter().map(overdue).fold(0, u64::saturating_add)
    }
}

#[derive(Debug)]
struct Stripe {
    cohorts: [AtomicU64; COHORTS],
    /// Counted by era, around a middle: a call that ends may be faster than the thread that moves it here.
    overdue: AtomicU64,
}

/// Zero, in the count of overdue calls.
const MIDDLE: u64 = 1 << 27;

impl Stripe {
    fn new() -> Self {
        let none = Numbered::new(0, MIDDLE).pack();
        Self { cohorts: std::array::from_fn(|_| AtomicU64::new(0)), overdue: AtomicU64::new(none) }
    }

    fn word(&self, cohort: u64) -> Option<&AtomicU64> {
        usize::try_from(cohort & COHORT_BITS).ok().and_then(|place| self.cohorts.get(place))
    }

    /// Counts one more call in `cohort`; tells whether another thread got in between.
    #[inline]
    fn enter(&self, era: u64, cohort: u64, base: u64) -> bool {
        let Some(word) = self.word(cohort) else { return false };
        let mut contended = false;
        let mut seen = word.load(Ordering::Relaxed);
        loop {
            let found = Numbered::unpack(seen);
            let (entered, moved) = match found.find(cohort) {
                Found::Same => (found.with(found.count.saturating_add(1)), 0),
                Found::Older if found.find(base) == Found::Older => (Numbered::new(cohort, 1), 0),
                Found::Older => (Numbered::new(cohort, 1), found.count),
                // A whole round late: by now it is as old as those that were moved.
                Found::Newer => {
                    if !is_before(cohort, base) {
                        self.change_overdue(era, |overdue| overdue.saturating_add(1));
                    }
                    return contended;
                }
            };
            match word.compare_exchange(seen, entered.pack(), Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => {
                    if moved > 0 {
                        self.change_overdue(era, |overdue| overdue.saturating_add(moved));
                    }
                    return contended;
                }
                Err(changed) => {
                    contended = true;
                    seen = changed;
                }
            }
        }
    }

    /// Returns `true` if no other call of `cohort` is left.
    #[inline]
    fn leave(&self, era: u64, cohort: u64, base: &AtomicU64) -> bool {
        let Some(word) = self.word(cohort) else { return false };
        let mut seen = word.load(Ordering::Relaxed);
        loop {
            let found = Numbered::unpack(seen);
            if found.find(cohort) != Found::Same {
                if planted!("overdue_for_ever") {
                    return false;
                }
                // Otherwise it was counted by another instance, or in an era that is over.
                if !is_before(cohort, base.load(Ordering::Relaxed)) {
                    self.change_overdue(era, |overdue| overdue.saturating_sub(1));
                }
                return false;
            }
            let left = found.with(found.count.saturating_sub(1));
            match word.compare_exchange_weak(seen, left.pack(), Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => return left.count == 0,
                Err(changed) => seen = changed,
            }
        }
    }

    fn change_overdue(&self, era: u64, change: impl Fn(u64) -> u64) {
        let mut seen = self.overdue.load(Ordering::Relaxed);
        loop {
            let found = Numbered::unpack(seen);
            let changed = match found.find(era) {
                Found::Same => found.with(change(found.count)),
                Found::Older => Numbered::new(era, change(MIDDLE)),
                // The era of this call is over.
                Found::Newer => return,
            };
            match self.overdue.compare_exchange_weak(
                seen,
                changed.pack(),
                Ordering::AcqRel,
                Ordering::Relaxed,
            ) {
                Ok(_) => return,
                Err(changed) => seen = changed,
            }
        }
    }

    /// The calls of all cohorts from `base` on, and before `on_time`.
    fn late(&self, on_time: u64, base: u64) -> u64 {
        let late = |word: &AtomicU64| {
            let cohort = Numbered::unpack(word.load(Ordering::Acquire));
            let of_this_era = cohort.find(base) != Found::Older;
            if of_this_era && cohort.find(on_time) == Found::Older { cohort.count } else { 0 }
        };
        self.cohorts.iter().map(late).fold(0, u64::saturating_add)
    }

    /// The calls of `era` that had to make room.
    fn moved(&self, era: u64) -> u64 {
        let moved = Numbered::unpack(self.overdue.load(Ordering::Acquire));
        if moved.find(era) == Found::Same { moved.count.saturating_sub(MIDDLE) } else { 0 }
    }

    fn is_empty(&self, era: u64, base: u64) -> bool {
        let is_empty = |word: &AtomicU64| {
            let cohort = Numbered::unpack(word.load(Ordering::Acquire));
            cohort.count == 0 || cohort.find(base) == Found::Older
        };
        self.moved(era) == 0 && self.cohorts.iter().all(is_empty)
    }
}

/// Returns `true` if calls of `cohort` are not counted, since the first that counts is `base`.
const fn is_before(cohort: u64, base: u64) -> bool {
    matches!(Numbered::new(base, 0).find(cohort), Found::Newer)
}

#[cfg(all(test, stanchion_loom))]
mod model;
#[cfg(all(test, not(stanchion_loom)))]
mod tests;
