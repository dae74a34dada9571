//! Whether all calls have become slower, so that copies would make them slower still.
//!
//! ```text
//! word  [usual median, with 16 binary places | median of the latest calls], in units of 16 us
//! ```
//!
//! Of calls that are slow by bad luck, such as those to one instance that collects garbage, the median knows nothing. Behind a
//! queue all calls are slow, the copy waits as long as the original, and the others behind both. The win rate of copies does
//! not tell the two apart: half of the copies lose for no harm where the quantile is that of a short tail.
//!
//! Either median is a running estimate. The latest moves by a sixteenth for each call, towards its latency, which is an average
//! over some tens of calls. The usual one follows it down within some calls, and up half of the way in 45,000: a queue in front of
//! a service that is nearly fully used may last for minutes, and a service that stays slow is hedged again. Two threads that record at the same time may lose one of two calls,
//! which moves no median.

#![warn(clippy::arithmetic_side_effects, reason = "a latency may be as long as it likes")]

use std::time::Duration;

use crate::base::clock::{nanos, times};
use crate::base::sync::{AtomicU64, Ordering};

/// A step of the latest median: a sixteenth.
const STEP_BITS: u32 = 4;
/// A step of the usual median downwards: an eighth of the way.
const DOWN_BITS: u32 = 3;
/// And upwards: a 65,536th of the way, for which it has as many binary places.
const UP_BITS: u32 = 16;
/// Latencies below 1 ms are not hedged, so 16 us are exact enough.
const UNIT_BITS: u32 = 14;
const LATEST_BITS: u32 = 24;
/// More than four minutes.
const LONGEST: u64 = (1 << LATEST_BITS) - 1;

/// The median of the latest latencies, and the usual one.
#[derive(Debug)]
pub(super) struct Pace(AtomicU64);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Medians {
    usual: u64,
    latest: u64,
}

impl Medians {
    #[inline]
    const fn unpack(word: u64) -> Self {
        Self { usual: word >> LATEST_BITS, latest: word & LONGEST }
    }

    #[inline]
    const fn pack(self) -> u64 {
        self.usual << LATEST_BITS | self.latest
    }

    /// After a call that took `latency`, in units.
    #[inline]
    const fn after(self, latency: u64) -> Self {
        if self.latest == 0 {
            let latest = if latency == 0 { 1 } else { min(latency, LONGEST) };
            return Self { usual: latest << UP_BITS, latest };
        }
        let step = (self.latest >> STEP_BITS).saturating_add(1);
        let latest = if latency > self.latest {
            min(min(self.latest.saturating_add(step), latency), LONGEST)
        } else {
            let least = if latency == 0 { 1 } else { latency };
            let lower = self.latest.saturating_sub(step);
            if lower > least { lower } else { least }
        };
        let towards = latest << UP_BITS;
        let usual = if towards < self.usual {
            self.usual.saturating_sub(self.usual.saturating_sub(towards) >> DOWN_BITS)
        } else {
            self.usual.saturating_add(towards.saturating_sub(self.usual) >> UP_BITS)
        };
        Self { usual, latest }
    }
}

const fn min(one: u64, other: u64) -> u64 {
    if one < other { one } else { other }
}

impl Pace {
    pub(super) fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    #[inline]
    pub(super) fn record(&self, latency: Duration) {
        let medians = Medians::unpack(self.0.load(Ordering::Relaxed));
        self.0.store(medians.after(nanos(latency) >> UNIT_BITS).pack(), Ordering::Relaxed);
    }

    /// Returns `true` while the latest calls take more than `most` times as long as usual.
    pub(super) fn is_slow(&self, most: f64) -> bool {
        let Medians { usual, latest } = Medians::unpack(self.0.load(Ordering::Relaxed));
        latest << UP_BITS > times(usual, most)
    }
}
