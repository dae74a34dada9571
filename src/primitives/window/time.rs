//! The calls of the last T seconds, in buckets that expire by age.
//!
//! ```text
//! bucket   four words, one for each outcome: [number of the bucket | calls]
//! ```
//!
//! A record is one compare-and-swap on one word: if the word carries the number of the current bucket it is
//! counted up, if it carries an older one it starts over at one. Nothing rotates, so an idle gap of any length
//! is over at once: old words are simply too old to be counted.
//!
//! An era moves the numbering on by two windows, which makes all that was recorded before too old,
//! also for a reader whose clock is behind by up to a window.
//!
//! Threads write to stripes of their own, once two of them have been seen to collide; until then there is one.
//! A sum over all stripes is only made when a call is judged.

use std::time::Duration;

use super::{Counts, Outcome};
use crate::base::clock::Timestamp;
use crate::base::epoch_count::{Found, Numbered};
use crate::base::sync::planted;
use crate::base::sync::{AtomicU64, Ordering, Striped};

/// Below this the scheduler decides which bucket a call falls into.
pub(super) const SHORTEST_BUCKET: Duration = Duration::from_millis(10);

const OUTCOMES: usize = Outcome::ALL.len();

#[derive(Debug)]
pub(crate) struct TimeWindow {
    width: u64,
    buckets: u64,
    stripes: Striped<Stripe>,
}

impl TimeWindow {
    /// An empty window of `span` nanoseconds in `buckets` parts of at least [`SHORTEST_BUCKET`].
    pub(crate) fn new(span: u64, buckets: u32) -> Self {
        let buckets = u64::from(buckets.max(1));
        let width = span.checked_div(buckets).unwrap_or(span).max(1);
        Self { width, buckets, stripes: Striped::new(Stripe::new(buckets, 0)) }
    }

    #[inline]
    pub(super) fn record(
        &self,
        era: u64,
        now: Timestamp,
        outcome: Outcome,
        calls: u64,
        stripe: usize,
    ) -> u64 {
        let number = self.moment(era, now);
        self.record_in(number, outcome, calls, stripe);
        number
    }

    /// Returns `true` if a bucket lasts for longer than 15 s.
    pub(super) const fn is_long(&self) -> bool {
        self.width > 15_000_000_000
    }

    /// Records `calls` calls in bucket `number`.
    #[inline]
    pub(crate) fn record_in(&self, number: u64, outcome: Outcome, calls: u64, stripe: usize) {
        let stripe = self.stripes.at(self.stripes.place(stripe));
        if stripe.record(number, self.buckets, outcome, calls) {
            self.spread();
        }
    }

    #[cold]
    pub(super) fn spread(&self) {
        self.stripes.spread(|| Stripe::new(self.buckets, MARGIN));
    }

    pub(super) fn counts(&self, era: u64, now: Timestamp) -> Counts {
        self.counts_in(self.moment(era, now))
    }

    /// What the window that ends with bucket `number` holds.
    pub(crate) fn counts_in(&self, number: u64) -> Counts {
        let mut counts = Counts::default();
        for stripe in self.stripes.iter() {
            stripe.add_to(&mut counts, number, self.buckets);
        }
        counts
    }

    /// Records what `before` holds in `era`, a bucket at a time, the oldest first: as if all of it had been in the bucket's middle.
    pub(crate) fn take_over(&self, before: &Self, era: u64, now: Timestamp) {
        let number = before.moment(era, now);
        let first = before.moment(era, Timestamp(0));
        let span = before.buckets.saturating_sub(1);
        // Those ahead, too: see `Stripe::add_to`.
        for bucket in number.saturating_sub(span).max(first)..=number.saturating_add(span) {
            let middle =
                bucket.wrapping_sub(first).saturating_mul(before.width).saturating_add(before.width >> 1);
            let number = self.moment(era, Timestamp(middle).min(now));
            for stripe in before.stripes.iter() {
                for outcome in Outcome::ALL {
                    let calls = stripe.calls(bucket, before.buckets, outcome);
                    if calls > 0 {
                        self.record_in(number, outcome, calls, 0);
                    }
                }
            }
        }
    }

    /// The number of the bucket at `now`, counted on over the eras.
    #[inline]
    pub(super) fn moment(&self, era: u64, now: Timestamp) -> u64 {
        let bucket = now.0.checked_div(self.width).unwrap_or(0);
        bucket.wrapping_add(era.wrapping_mul(self.buckets.wrapping_mul(2)))
    }

    /// Returns `true` if bucket `number` of era 0 is the one at `at`.
    #[inline]
    pub(crate) fn is_in(&self, number: u64, at: Timestamp) -> bool {
        at.0.wrapping_sub(number.wrapping_mul(self.width)) < self.width
    }

    /// The number of the bucket at `now` in era 0. A good `guess` saves the division.
    #[inline]
    pub(crate) fn moment_near(&self, guess: u64, now: Timestamp) -> u64 {
        let into = now.0.wrapping_sub(guess.wrapping_mul(self.width));
        if into < self.width { guess } else { self.moment(0, now) }
    }
}

/// Unused words before and after the buckets of a stripe: two cache lines, so that neighbours share none.
const MARGIN: usize = 16;

/// The buckets of one stripe, four words each.
#[derive(Debug)]
struct Stripe {
    words: Box<[AtomicU64]>,
    margin: usize,
}

impl Stripe {
    fn new(buckets: u64, margin: usize) -> Self {
        let words = usize::try_from(buckets).unwrap_or(1).saturating_mul(OUTCOMES);
        let all = words.saturating_add(margin.saturating_mul(2));
        Self { words: (0..all).map(|_| AtomicU64::new(0)).collect(), margin }
    }

    #[inline]
    fn word(&self, number: u64, buckets: u64, outcome: Outcome) -> Option<&AtomicU64> {
        let place = number.checked_rem(buckets).and_then(|place| usize::try_from(place).ok()).unwrap_or(0);
        let word = place << 2 | usize::from(outcome.failed) | usize::from(outcome.slow) << 1;
        self.words.get(word.wrapping_add(self.margin))
    }

    /// How many calls bucket `number` holds that ended as `outcome` says.
    fn calls(&self, number: u64, buckets: u64, outcome: Outcome) -> u64 {
        // Acquire: pairs with `record`.
        let word = self.word(number, buckets, outcome).map_or(0, |word| word.load(Ordering::Acquire));
        let found = Numbered::unpack(word);
        if found.find(number) == Found::Same { found.count } else { 0 }
    }

    /// Counts `calls` calls in bucket `number`; tells whether another thread got in between.
    #[inline]
    fn record(&self, number: u64, buckets: u64, outcome: Outcome, calls: u64) -> bool {
        let Some(word) = self.word(number, buckets, outcome) else { return false };
        let seen = word.load(Ordering::Relaxed);
        let found = Numbered::unpack(seen);
        // AcqRel: an outcome is seen by whoever sees one recorded after it in the same bucket.
        let is_done = found.find(number) == Found::Same
            && word
                .compare_exchange(seen, found.plus(calls).pack(), Ordering::AcqRel, Ordering::Relaxed)
                .is_ok();
        !is_done && Self::record_again(word, number, calls)
    }

    /// The rest of [`record`](Self::record), which has seldom to be done: what is done on each call stays short.
    #[cold]
    fn record_again(word: &AtomicU64, number: u64, calls: u64) -> bool {
        let mut contended = false;
        let mut seen = word.load(Ordering::Relaxed);
        loop {
            let found = Numbered::unpack(seen);
            let bucket = match found.find(number) {
                Found::Same => found.plus(calls),
                Found::Older if planted!("bucket_never_expires") => found.plus(calls),
                Found::Older => Numbered::new(number, calls),
                // The reading of the clock is a whole window old.
                Found::Newer => return contended,
            };
            contended |= found.find(number) == Found::Same;
            match word.compare_exchange(seen, bucket.pack(), Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => return contended,
                Err(changed) => seen = changed,
            }
        }
    }

    fn add_to(&self, counts: &mut Counts, number: u64, buckets: u64) {
        let words = self
            .words
            .iter()
            .skip(self.margin)
            .take(self.words.len().saturating_sub(self.margin.saturating_mul(2)));
        // A bucket of the future counts, too, if it is less than a window ahead: then our reading of
        // the clock is behind. No more than a window is counted, for each place holds one bucket.
        let ahead = buckets.saturating_sub(1);
        let (last, near) = (number.wrapping_add(ahead), buckets.saturating_add(ahead));
        for (index, word) in words.enumerate() {
            let bucket = Numbered::unpack(word.load(Ordering::Acquire));
            if bucket.count > 0 && bucket.age(last) < near {
                if let Some(outcome) = Outcome::ALL.get(index % OUTCOMES) {
                    counts.add(*outcome, bucket.count);
                }
            }
        }
    }
}
