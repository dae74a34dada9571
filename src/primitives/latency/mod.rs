//! A quantile of the latencies seen of late: how long to wait before a call counts as slow.
//!
//! ```text
//! bucket   three words, one for each slice of the window: [number of the slice | calls]
//! octave   32 buckets of the same width: the latencies from one power of two to the next
//! cached   [number of the period | bucket of the quantile, counted from one; or zero]
//! ```
//!
//! As in Finagle's `BackupRequestFilter`, the window is made of three slices, and the quantile is found anew ten
//! times per window. A record is one load and one addition on one word, which expires by its number: nothing
//! rotates and nothing is cleared.
//!
//! A quantile is reported as the highest latency of its bucket. It is never below the one of the sorted list
//! and less than 1/32 (3.2 %) above it: whoever waits that long waits rather too long. Latencies below 1 us
//! and above 18 minutes count as these.
//!
//! Threads that run at the same time lose nothing, unless one stalls for long. A record that stalls between its
//! load and its addition, until its word is used for the next round of slices, is counted there. One that comes
//! a window late is dropped, and one that comes later still is taken for a clock that jumped back: it starts its
//! bucket over.

#![warn(clippy::arithmetic_side_effects, reason = "what is configured may be as large as it likes")]

mod needed;

pub use needed::MinRemaining;
pub(crate) use needed::{Needed, quantile_of};

use std::sync::OnceLock;
use std::time::Duration;

use crate::base::buckets::{self, OCTAVES};
use crate::base::clock::{Timestamp, nanos};
use crate::base::epoch_count::Numbered;
use crate::base::sync::planted;
use crate::base::sync::{AtomicU64, Ordering};

const SLICES: u64 = 3;

/// Below this the scheduler decides which slice a call falls into.
const SHORTEST_SLICE: u64 = 10_000_000;

/// How often the quantile is found per window.
const PERIODS: u64 = 10;

/// A quantile over a window, for one service.
///
/// Takes 520 bytes, and 768 bytes more for each power of two into which a latency has ever fallen, on the heap:
/// 7 kB for latencies between 3 and 300 ms, at most 24 kB.
#[derive(Debug)]
pub(crate) struct Latencies {
    quantile: f64,
    min_samples: u64,
    slice: u64,
    period: u64,
    cached: AtomicU64,
    octaves: [OnceLock<Box<Octave>>; OCTAVES],
}

/// For each slice the buckets, with the latencies from one power of two to the next.
#[allow(clippy::cast_possible_truncation, reason = "there are three")]
type Octave = [[AtomicU64; BUCKETS_IN_OCTAVE]; SLICES as usize];

impl Latencies {
    /// Nothing yet. `quantile` is between 0 and 1, and unknown until the window holds `min_samples` (zero is
    /// as good as one).
    ///
    /// A latency counts until it is between two thirds of `window` and `window` old. A window below 30 ms is
    /// taken for one of 30 ms.
    pub(crate) fn new(quantile: f64, window: Duration, min_samples: u32) -> Self {
        let slice = nanos(window).div_ceil(SLICES).max(SHORTEST_SLICE);
        Self {
            quantile,
            min_samples: u64::from(min_samples.max(1)),
            slice,
            period: slice.saturating_mul(SLICES).div_ceil(PERIODS),
            // Years away, so the first who asks finds the quantile.
            cached: AtomicU64::new(Numbered::new(u64::MAX, 0).pack()),
            octaves: std::array::from_fn(|_| OnceLock::new()),
        }
    }

    /// Counts `latency` at `now`. Allocates when it is the first one of its octave.
    #[inline]
    pub(crate) fn record(&self, latency: Duration, now: Timestamp) {
        let slice = self.slice_at(now);
        let bucket = Bucket::of(latency);
        let Some(octave) = self.octaves.get(bucket.octave()) else { return };
        let octave = octave.get().map(Box::as_ref).unwrap_or_else(|| allocated(octave));
        let Some(word) = octave.get(place(slice)).and_then(|buckets| buckets.get(bucket.part())) else {
            return;
        };
        let found = Numbered::unpack(word.load(Ordering::Relaxed));
        // Half full leaves room for all who come to this point at the same time.
        const HALF_FULL: u64 = 1 << 27;
        if found.age(slice) == 0 && found.count < HALF_FULL {
            word.fetch_add(Numbered::new(0, 1).pack(), Ordering::Relaxed);
        } else {
            count_carefully(word, slice);
        }
    }

    /// The quantile, or `None` if too little is known. It may be a tenth of the window old, or, for those who
    /// ask while another thread is finding it, as old as the last time somebody asked.
    #[inline]
    pub(crate) fn quantile(&self, now: Timestamp) -> Option<Duration> {
        let period = now.0.checked_div(self.period).unwrap_or(0);
        let cached = Numbered::unpack(self.cached.load(Ordering::Relaxed));
        let known = if cached.age(period) == 0 { cached } else { self.refresh(period, now) };
        known.count.checked_sub(1).map(|bucket| Bucket::at(bucket).highest())
    }

    #[cold]
    fn refresh(&self, period: u64, now: Timestamp) -> Numbered {
        let claimed = match self.claim(period) {
            Ok(claimed) => claimed,
            Err(current) => return current,
        };
        let bucket = self.find(self.slice_at(now));
        let found = claimed.with(bucket.map_or(0, |bucket| bucket.0.saturating_add(1)));
        // It may replace one of a later period; then the next who asks in that period finds it again.
        self.cached.store(found.pack(), Ordering::Relaxed);
        found
    }

    /// Leave to find the quantile in `period`, which one caller gets; the others get what is known.
    fn claim(&self, period: u64) -> Result<Numbered, Numbered> {
        let seen = self.cached.load(Ordering::Relaxed);
        let known = Numbered::unpack(seen);
        if known.age(period) == 0 || is_ahead(known, period, PERIODS) {
            return Err(known);
        }
        let claimed = Numbered::new(period, known.count);
        if planted!("quantile_found_twice") {
            self.cached.store(claimed.pack(), Ordering::Relaxed);
            return Ok(claimed);
        }
        self.cached
            .compare_exchange(seen, claimed.pack(), Ordering::Relaxed, Ordering::Relaxed)
            .map(|_| claimed)
            .map_err(Numbered::unpack)
    }

    /// The bucket of the quantile in the three slices that end with `slice`.
    fn find(&self, slice: u64) -> Option<Bucket> {
        // Read once, since the counts change all the time.
        let counts = self.counts(slice);
        let all = counts.iter().fold(0, |all: u64, count| all.saturating_add(*count));
        if all < self.min_samples {
            return None;
        }
        let rank = self.quantile * all as f64;
        let mut below: u64 = 0;
        let bucket = counts.iter().zip(0..).find(|&(count, _)| {
            below = below.saturating_add(*count);
            below as f64 >= rank
        });
        bucket.map(|(_, index)| Bucket::at(index))
    }

    fn counts(&self, slice: u64) -> [u64; BUCKETS] {
        let mut counts = [0_u64; BUCKETS];
        for (octave, counts) in self.octaves.iter().zip(counts.chunks_exact_mut(BUCKETS_IN_OCTAVE)) {
            for buckets in octave.get().into_iter().flat_map(|octave| octave.iter()) {
                for (word, count) in buckets.iter().zip(counts.iter_mut()) {
                    let found = Numbered::unpack(word.load(Ordering::Relaxed));
                    if found.age(slice) < SLICES {
                        *count = count.saturating_add(found.count);
                    }
                }
            }
        }
        counts
    }

    #[inline]
    fn slice_at(&self, now: Timestamp) -> u64 {
        now.0.checked_div(self.slice).unwrap_or(0)
    }
}

/// Where an octave keeps `slice`.
#[inline]
fn place(slice: u64) -> usize {
    usize::try_from(slice % SLICES).unwrap_or(0)
}

#[cold]
fn allocated(octave: &OnceLock<Box<Octave>>) -> &Octave {
    octave.get_or_init(|| Box::new(std::array::from_fn(|_| std::array::from_fn(|_| AtomicU64::new(0)))))
}

/// Counts one call in `slice` where the word belongs to another one, or is filled by half.
#[cold]
fn count_carefully(word: &AtomicU64, slice: u64) {
    let mut seen = word.load(Ordering::Relaxed);
    loop {
        let found = Numbered::unpack(seen);
        let counted = if found.age(slice) == 0 || planted!("slice_never_expires") {
            found.plus(1)
        } else if is_ahead(found, slice, SLICES) {
            return;
        } else {
            Numbered::new(slice, 1)
        };
        if planted!("slice_begun_twice") {
            word.store(counted.pack(), Ordering::Relaxed);
            return;
        }
        match word.compare_exchange_weak(seen, counted.pack(), Ordering::Relaxed, Ordering::Relaxed) {
            Ok(_) => return,
            Err(changed) => seen = changed,
        }
    }
}

/// Whether `found` has one of the `reach` numbers after `number`: then `number` is late. If it is further ahead,
/// the clock has jumped back, and `found` is of no use any more.
fn is_ahead(found: Numbered, number: u64, reach: u64) -> bool {
    found.age(number.wrapping_add(reach)) < reach
}

/// Two are enough for a model, and each one more costs it dearly.
const PART_BITS: u32 = if cfg!(stanchion_loom) { 1 } else { 5 };
const BUCKETS_IN_OCTAVE: usize = 1 << PART_BITS;
const BUCKETS: usize = OCTAVES * BUCKETS_IN_OCTAVE;

type Bucket = buckets::Bucket<PART_BITS>;

#[cfg(all(test, stanchion_loom))]
mod model;
#[cfg(all(test, stanchion_shuttle))]
mod schedules;
#[cfg(all(test, not(stanchion_loom)))]
mod tests;
