//! How many calls took how long, and what has been added since the last look.

#![warn(clippy::arithmetic_side_effects, reason = "a latency may be as long as it likes")]

use std::time::Duration;

use crate::base::buckets::{Bucket, OCTAVES};
use crate::base::clock::nanos;
use crate::base::sync::planted;
use crate::base::sync::{AtomicU64, Ordering};

/// A median in the middle of its bucket is less than 6 % off, and that of a spread of latencies much less.
const PART_BITS: u32 = 3;
/// The latencies of a model all fall into the first octave.
const BUCKETS: usize = if cfg!(stanchion_loom) { 1 << PART_BITS } else { OCTAVES << PART_BITS };

#[derive(Debug)]
pub(super) struct Histogram([AtomicU64; BUCKETS]);

impl Histogram {
    pub(super) fn new() -> Self {
        Self(std::array::from_fn(|_| AtomicU64::new(0)))
    }

    #[inline]
    pub(super) fn count(&self, latency: Duration) {
        let bucket = Bucket::<PART_BITS>::of(latency);
        if let Some(calls) = self.0.get(bucket.index()) {
            if planted!("sample_overwritten") {
                calls.store(calls.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
                return;
            }
            calls.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn read(&self) -> Seen {
        let mut seen = Seen::new();
        for (seen, calls) in seen.0.iter_mut().zip(&self.0) {
            *seen = calls.load(Ordering::Relaxed);
        }
        seen
    }
}

/// The calls in each bucket, at one time or between two.
#[derive(Clone, Debug)]
pub(super) struct Seen([u64; BUCKETS]);

impl Seen {
    pub(super) const fn new() -> Self {
        Self([0; BUCKETS])
    }

    pub(super) fn since(&self, earlier: &Self) -> Self {
        let mut grown = self.clone();
        for (calls, before) in grown.0.iter_mut().zip(&earlier.0) {
            *calls = calls.wrapping_sub(*before);
        }
        grown
    }

    pub(super) fn calls(&self) -> u64 {
        self.0.iter().fold(0, |all, calls| all.saturating_add(*calls))
    }

    /// As if the calls of a bucket were spread evenly over it.
    #[allow(clippy::cast_precision_loss, reason = "counts stay far below 2^53")]
    pub(super) fn median(&self) -> Option<Duration> {
        let middle = self.calls() as f64 / 2.0;
        let mut below = 0.0;
        for (bucket, calls) in (0..).map(Bucket::<PART_BITS>::at).zip(&self.0) {
            let calls = *calls as f64;
            if calls > 0.0 && below + calls >= middle {
                let (lowest, highest) = (nanos(bucket.lowest()), nanos(bucket.highest()));
                let into =
                    crate::base::clock::times(highest.saturating_sub(lowest), (middle - below) / calls);
                return Some(Duration::from_nanos(lowest.saturating_add(into)));
            }
            below += calls;
        }
        None
    }

    /// As if each call took as long as one in the middle of its bucket.
    #[allow(clippy::cast_precision_loss, reason = "a nanosecond in 104 days is no matter")]
    pub(super) fn mean(&self) -> Option<Duration> {
        let middle = |bucket: Bucket<PART_BITS>| {
            (nanos(bucket.lowest()) as f64 + nanos(bucket.highest()) as f64) / 2.0
        };
        let buckets = (0..).map(Bucket::<PART_BITS>::at).zip(&self.0);
        let time = buckets.fold(0.0, |time, (bucket, calls)| time + middle(bucket) * *calls as f64);
        let calls = self.calls();
        (calls > 0).then(|| Duration::from_nanos(crate::base::clock::times(1, time / calls as f64)))
    }

    pub(super) fn fastest(&self) -> Option<Duration> {
        let first = (0..).map(Bucket::<PART_BITS>::at).zip(&self.0).find(|(_, calls)| **calls > 0);
        first.map(|(bucket, _)| bucket.lowest())
    }
}
