//! Latencies by size: the buckets of a histogram, the same number of them from each power of two to the next.

#![warn(clippy::arithmetic_side_effects, reason = "a latency may be as long as it likes")]

use std::time::Duration;

use crate::base::clock::nanos;

/// The shortest octave begins with 2^10 ns, about 1 us, and the longest ends with 2^40 ns, about 18 minutes.
/// Latencies beyond these count as these.
const SHORTEST_BITS: u32 = 10;
const LONGEST_BITS: u32 = 40;

pub(crate) const OCTAVES: usize = (LONGEST_BITS - SHORTEST_BITS) as usize;

/// The index of a bucket, octave by octave, where an octave has 2^`PART_BITS` of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bucket<const PART_BITS: u32>(pub(crate) u64);

impl<const PART_BITS: u32> Bucket<PART_BITS> {
    const PARTS: u64 = 1 << PART_BITS;
    const PART: u64 = Self::PARTS.saturating_sub(1);
    /// By so many bits the parts of the shortest octave are smaller than it.
    const SHIFT: u32 = SHORTEST_BITS.saturating_sub(PART_BITS);

    pub(crate) const fn at(index: u64) -> Self {
        Self(index)
    }

    #[inline]
    pub(crate) fn of(latency: Duration) -> Self {
        let latency = nanos(latency).clamp(1 << SHORTEST_BITS, (1 << LONGEST_BITS) - 1);
        let octave = latency.ilog2().saturating_sub(SHORTEST_BITS);
        let part = latency.wrapping_shr(octave.saturating_add(Self::SHIFT)) & Self::PART;
        Self(u64::from(octave) << PART_BITS | part)
    }

    /// The longest latency that falls into it.
    #[inline]
    pub(crate) fn highest(self) -> Duration {
        self.part_begins(1).saturating_sub(Duration::from_nanos(1))
    }

    /// The shortest latency that falls into it, unless it is the first of all.
    #[inline]
    pub(crate) fn lowest(self) -> Duration {
        self.part_begins(0)
    }

    /// Where the part begins that is so many after this one, which may be one too many for its octave.
    #[inline]
    fn part_begins(self, after: u64) -> Duration {
        let Self(index) = self;
        let octave = u32::try_from(index >> PART_BITS).unwrap_or(0);
        let part = (index & Self::PART).saturating_add(Self::PARTS).saturating_add(after);
        Duration::from_nanos(part.wrapping_shl(octave.saturating_add(Self::SHIFT)))
    }

    #[inline]
    pub(crate) fn index(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }

    #[inline]
    pub(crate) fn octave(self) -> usize {
        usize::try_from(self.0 >> PART_BITS).unwrap_or(0)
    }

    #[inline]
    pub(crate) fn part(self) -> usize {
        usize::try_from(self.0 & Self::PART).unwrap_or(0)
    }
}
