//! A count that belongs to a number, in one word: the calls of one bucket, of one cohort.

#![warn(clippy::arithmetic_side_effects, reason = "what is configured may be as large as it likes")]

/// 36 bits of the number and 28 of the count.
///
/// A count stays at 268 million. Numbers repeat after 2^36, and one that is more than half of that behind
/// cannot be told from one that is ahead: for numbers that change every 10 ms, 10 years.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Numbered {
    number: u64,
    pub(crate) count: u64,
}

/// What a number finds in the word it belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// Its own count.
    Same,
    /// The count of a number before it.
    Older,
    /// The count of a number after it: it is late.
    Newer,
}

impl Numbered {
    const COUNT_BITS: u32 = 28;
    const MOST: u64 = (1 << Self::COUNT_BITS) - 1;
    const NUMBERS: u64 = (1 << (64 - Self::COUNT_BITS)) - 1;

    #[inline]
    pub(crate) const fn new(number: u64, count: u64) -> Self {
        Self { number: number & Self::NUMBERS, count: if count > Self::MOST { Self::MOST } else { count } }
    }

    #[inline]
    pub(crate) const fn pack(self) -> u64 {
        self.number << Self::COUNT_BITS | self.count
    }

    #[inline]
    pub(crate) const fn unpack(word: u64) -> Self {
        Self { number: word >> Self::COUNT_BITS, count: word & Self::MOST }
    }

    /// The same number with a higher count.
    #[inline]
    pub(crate) const fn plus(self, count: u64) -> Self {
        self.with(self.count.saturating_add(count))
    }

    /// The same number with another count.
    #[inline]
    pub(crate) const fn with(self, count: u64) -> Self {
        Self::new(self.number, count)
    }

    /// How far `number` is ahead of this one.
    #[inline]
    pub(crate) const fn age(self, number: u64) -> u64 {
        number.wrapping_sub(self.number) & Self::NUMBERS
    }

    /// What `number` finds here.
    #[inline]
    pub(crate) const fn find(self, number: u64) -> Found {
        match self.age(number) {
            0 => Found::Same,
            age if age <= Self::NUMBERS >> 1 => Found::Older,
            _ => Found::Newer,
        }
    }
}
