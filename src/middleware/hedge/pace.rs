//! The detection of a general slowdown, in which copies would make calls even slower.
//!
//! ```text
//!   bit  63 ......................... 24  23 ............... 0
//!       [ usual median, 16 binary places | latest median ]     in units of 2^14 ns, about 16 us
//! ```
//!
//! Calls that are slow by bad luck, such as those to one instance in a garbage collection, do not
//! move the median. Behind a queue, all calls are slow: a copy waits as long as its original, and
//! the other calls wait behind both. The win rate of copies does not tell the two cases apart. If
//! the latencies have a short tail, half of the copies lose without doing harm.
//!
//! Both medians are running estimates. The latest one moves by a sixteenth towards each latency,
//! which averages over some tens of calls. The usual one follows it down within some calls, and up
//! half of the way within 45,000 calls: long enough to outlast the queue of a nearly saturated
//! service, which may last for minutes, and short enough that a service that stays slow is hedged
//! again.
//!
//! Two threads that record at the same time may lose one of the two calls, which does not move a
//! median. All accesses are `Relaxed`, since the word is complete in itself.

#![warn(clippy::arithmetic_side_effects, reason = "a latency may be as long as it likes")]

use std::time::Duration;

use crate::base::clock::{nanos, times};
use crate::base::sync::{AtomicU64, Ordering};

/// The step of the latest median: a sixteenth of its value.
const STEP_BITS: u32 = 4;
/// The step of the usual median downwards: an eighth of the way.
const DOWN_BITS: u32 = 3;
/// The step of the usual median upwards: a 65,536th of the way. It has as many binary places, so
/// that small steps are not lost.
const UP_BITS: u32 = 16;
/// The unit of latencies, 2^14 ns. Latencies below 1 ms are not hedged, so about 16 us are exact
/// enough.
const UNIT_BITS: u32 = 14;
const LATEST_BITS: u32 = 24;
/// The longest latency that fits, more than four minutes.
const LONGEST: u64 = (1 << LATEST_BITS) - 1;

/// The medians of the latest and the usual latencies, in one word.
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

    /// Returns the medians after a call that took `latency`, in units.
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

    /// Returns `true` while the latest calls take more than `max_slowdown` times as long as usual.
    pub(super) fn is_slow(&self, max_slowdown: f64) -> bool {
        let Medians { usual, latest } = Medians::unpack(self.0.load(Ordering::Relaxed));
        latest << UP_BITS > times(usual, max_slowdown)
    }
}
