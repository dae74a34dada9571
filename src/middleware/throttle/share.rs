//! The share of calls that is refused, which is found once for many calls.
//!
//! ```text
//! known   19 bits   changes that may still come before it is found anew; negative if it has to be
//!          6 bits   how often it was found
//!         20 bits   number of the bucket of the window in which it was found
//!          1 bit    whether refusals are changes
//!         18 bits   the share, in parts of 2^18
//! ```
//!
//! A change takes one from the topmost field. So whoever finds the share, and puts it in place only if the word is still
//! the one from before the sum, overlooks none. Should 2^18 changes come before anybody asks, or someone ask in the very
//! bucket 2^20 later, an old share is used until that bucket is over.

#![warn(clippy::arithmetic_side_effects, reason = "what is configured may be as large as it likes")]

use crate::base::sync::planted;
use crate::base::sync::{AtomicU64, Ordering};

const UNITS: u64 = (1 << 18) - 1;
const REFUSALS: u64 = 1 << 18;
const BUCKET_AT: u32 = 19;
const BUCKET: u64 = ((1 << 20) - 1) << BUCKET_AT;
const FOUND_ONCE: u64 = 1 << 39;
const FOUND: u64 = ((1 << 6) - 1) << 39;
const CHANGE_AT: u32 = 45;
const MINUS_ONE_CHANGE: u64 = u64::MAX << CHANGE_AT;
const MOST_CHANGES: u64 = (1 << 18) - 1;
const IS_OVER: u64 = 1 << 63;

/// Which share of calls is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Share(u64);

impl Share {
    /// `ratio` is 0 to 1, and rounded down by less than four millionths.
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "the cast saturates, also at zero"
    )]
    pub(super) fn new(ratio: f64, counts_refusals: bool) -> Self {
        let units = ((ratio * (UNITS as f64 + 1.0)) as u64).min(UNITS);
        Self(units | if counts_refusals { REFUSALS } else { 0 })
    }

    #[inline]
    pub(super) const fn is_none(self) -> bool {
        self.0 & UNITS == 0
    }

    #[inline]
    #[allow(clippy::cast_precision_loss, reason = "18 bits")]
    pub(super) fn ratio(self) -> f64 {
        (self.0 & UNITS) as f64 / (UNITS as f64 + 1.0)
    }

    /// Whether a refusal changes it.
    #[inline]
    pub(super) const fn counts_refusals(self) -> bool {
        self.0 & REFUSALS != 0
    }
}

/// What is known of the share.
#[derive(Debug)]
pub(super) struct Known(AtomicU64);

impl Known {
    pub(super) fn nothing() -> Self {
        Self(AtomicU64::new(MINUS_ONE_CHANGE))
    }

    /// The share in `bucket`, if it need not be found anew.
    #[inline]
    pub(super) fn get(&self, bucket: u64) -> Option<Share> {
        let word = self.0.load(Ordering::Relaxed);
        let is_current = word & (IS_OVER | BUCKET) == bucket << BUCKET_AT & BUCKET;
        is_current.then_some(Share(word & (REFUSALS | UNITS)))
    }

    /// Finds the share in `bucket`: `find` gives it, and how many changes it is good for.
    #[cold]
    pub(super) fn find(&self, bucket: u64, find: impl FnOnce() -> (Share, u64)) -> Share {
        // Acquire: a change that is in the word is in the sum.
        let seen = self.0.load(Ordering::Acquire);
        let (share, changes) = find();
        let changes = changes.min(MOST_CHANGES) << CHANGE_AT;
        let found = changes | next(seen) | bucket << BUCKET_AT & BUCKET | share.0;
        if planted!("share_overwrites") {
            self.0.store(found, Ordering::Release);
        } else {
            // If it fails, the next who asks finds it.
            let _ = self.0.compare_exchange(seen, found, Ordering::AcqRel, Ordering::Relaxed);
        }
        share
    }

    /// Something has been recorded that may change the share.
    #[inline]
    pub(super) fn change(&self) {
        self.0.fetch_add(MINUS_ONE_CHANGE, Ordering::AcqRel);
    }

    /// The share has to be found anew, also if somebody is just finding it.
    pub(super) fn forget(&self) {
        let mut seen = self.0.load(Ordering::Relaxed);
        while let Err(changed) = self.0.compare_exchange(
            seen,
            (seen | MINUS_ONE_CHANGE) & !FOUND | next(seen),
            Ordering::AcqRel,
            Ordering::Relaxed,
        ) {
            seen = changed;
        }
    }
}

/// The number of times it was found, and one more.
const fn next(word: u64) -> u64 {
    word.wrapping_add(FOUND_ONCE) & FOUND
}
