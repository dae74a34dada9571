use super::Permits;

/// What is in the word of [`Permits`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Word(pub(super) u64);

/// How much of a limit somebody may use: the rest is kept for those of a higher class.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Share(u32);

impl Share {
    const BITS: u32 = 16;
    /// All of it.
    pub(crate) const WHOLE: Self = Self(1 << Self::BITS);

    /// This many of 65,536 parts, no more than all of them.
    pub(crate) const fn parts(parts: u32) -> Self {
        if parts < Self::WHOLE.0 { Self(parts) } else { Self::WHOLE }
    }

    /// The share of `limit`, rounded up, so that it is at least one unless the limit is zero. Both are below 2^32.
    #[inline]
    pub(crate) const fn of(self, limit: u64) -> u64 {
        limit.saturating_mul(self.0 as u64).saturating_add((1 << Self::BITS) - 1) >> Self::BITS
    }
}

impl Word {
    const OUT_BITS: u32 = 32;
    const OUT: u64 = (1 << Self::OUT_BITS) - 1;
    const WAITING: u64 = 1 << 63;

    pub(super) fn new(limit: u32, out: u64, waiting: bool) -> Self {
        let mark = if waiting { Self::WAITING } else { 0 };
        Self(mark | u64::from(limit.min(Permits::MAX)) << Self::OUT_BITS | out & Self::OUT)
    }

    #[inline]
    pub(super) const fn out(self) -> u64 {
        self.0 & Self::OUT
    }

    #[inline]
    pub(super) const fn limit(self) -> u64 {
        (self.0 & !Self::WAITING) >> Self::OUT_BITS
    }

    #[inline]
    pub(super) const fn has_waiting(self) -> bool {
        self.0 & Self::WAITING != 0
    }

    /// Whether there is a permit within `share` of the limit for the one who is the next.
    #[inline]
    pub(super) const fn has_room(self, share: Share) -> bool {
        self.out() < share.of(self.limit())
    }

    /// Whether there is a permit within `share` of what is left besides the `kept` ones, which
    /// count as out already.
    pub(super) fn has_room_besides(self, kept: u64, share: Share) -> bool {
        let allowed = kept.saturating_add(share.of(self.limit().saturating_sub(kept)));
        self.out() < allowed.min(self.limit())
    }

    /// Whether there is one for somebody who has not waited.
    #[inline]
    pub(super) const fn is_free(self, share: Share) -> bool {
        self.has_room(share) && !self.has_waiting()
    }

    /// Whether more are out, or kept, than allowed.
    pub(super) const fn is_overcharged(self) -> bool {
        self.out() > self.limit()
    }

    /// With one more permit out. There is room for it, so the count stays below the limit's highest.
    #[inline]
    pub(super) const fn with_one_more(self) -> Self {
        Self(self.0.wrapping_add(1))
    }

    pub(super) const fn waiting(self, waiting: bool) -> Self {
        Self(if waiting { self.0 | Self::WAITING } else { self.0 & !Self::WAITING })
    }
}
