/// Which part of a limit somebody belongs to, by its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Part(u8);

impl Part {
    /// There are no parts.
    pub(crate) const NONE: Self = Self(0);
    /// No part has a higher number.
    pub(crate) const MAX: Self = Self(17);

    /// The part that was named at this place, of up to 16. The place after the last is for those who belong to none.
    pub(crate) fn at(place: usize) -> Self {
        u8::try_from(place).map_or(Self::MAX, |place| Self(place.saturating_add(1)).min(Self::MAX))
    }

    pub(crate) const fn number(self) -> u8 {
        self.0
    }

    pub(crate) const fn numbered(number: u8) -> Self {
        Self(number)
    }

    pub(super) fn place(self) -> Option<usize> {
        usize::from(self.0).checked_sub(1)
    }

    pub(in crate::primitives::semaphore) fn next(self) -> Option<Self> {
        self.0.checked_add(1).map(Self)
    }
}

/// A part of a limit as a number, to 2^-32.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fraction(u64);

impl Fraction {
    const BITS: u32 = 32;

    /// Of a share from 0 to 1; of another the nearest. What is not zero does not become zero.
    pub(crate) fn new(share: f64) -> Self {
        const WHOLE: f64 = (1_u64 << Fraction::BITS) as f64;
        // Rounded down, so that 0.1 is not more than a tenth: what it makes of a limit is rounded up.
        #[allow(clippy::cast_sign_loss, clippy::cast_possible_truncation, reason = "between 0 and 2^32")]
        let parts = (share.clamp(0.0, 1.0) * WHOLE) as u64;
        Self(if share > 0.0 { parts.max(1) } else { 0 })
    }

    /// Whether these are all of a limit together. Each may have been rounded down by one.
    pub(super) fn are_whole(parts: &[Self]) -> bool {
        let most = |sum: u64, part: &Self| sum.saturating_add(part.0).saturating_add(1);
        parts.iter().fold(0, most) >= 1 << Self::BITS
    }

    /// So much of a limit, rounded up.
    pub(crate) fn of(self, limit: u32) -> u32 {
        let whole =
            u64::from(limit).saturating_mul(self.0).saturating_add((1 << Self::BITS) - 1) >> Self::BITS;
        u32::try_from(whole).unwrap_or(limit)
    }
}

/// What is in the slot of a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Slot(pub(super) u64);

impl Slot {
    const OUT_BITS: u32 = 32;
    const OUT: u64 = (1 << Self::OUT_BITS) - 1;

    pub(super) fn new(kept: u32, out: u64) -> Self {
        Self(u64::from(kept) << Self::OUT_BITS | out & Self::OUT)
    }

    pub(super) const fn out(self) -> u64 {
        self.0 & Self::OUT
    }

    pub(super) const fn kept(self) -> u64 {
        self.0 >> Self::OUT_BITS
    }

    /// Whether one more is charged already.
    pub(super) const fn has_idle(self) -> bool {
        self.out() < self.kept()
    }

    pub(super) fn charged(self) -> u64 {
        self.out().max(self.kept())
    }
}
