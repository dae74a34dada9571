//! What decides. Pure: it is given the time.
//!
//! The generic cell rate algorithm of ATM's traffic management, in its form as a virtual schedule. All that is known of the
//! calls so far is the *theoretical arrival time*: when the quota would be untouched again. A call moves it on by its
//! cost, and may be made if it is no further ahead of the clock than a whole burst.
//!
//! ```text
//!       now                 arrival    arrival'
//!        |<------- debt ------->|<-cost->|
//!        |<------------- burst ----------------->|      there is room: admitted
//!        |<--------- burst --------->|<-wait->|         there will be
//! ```
//!
//! In whatever order clocks are read, the calls that begin in a stretch of `T` cost no more than `burst + T`, in the time
//! that they take up: the first of them leaves the arrival at least its own cost after the stretch's begin, each moves it on,
//! and the last leaves it at most a burst after the stretch's end.

#![warn(clippy::arithmetic_side_effects, reason = "what is configured may be as large as it likes")]

/// A quota in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rate {
    /// What a call of cost 1 takes up; at least 1.
    pub(super) interval: u64,
    /// What a burst takes up; at least an interval.
    pub(super) burst: u64,
}

/// The right to begin a call, now or later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Turn {
    /// The arrival with this call and without it.
    pub(super) with: u64,
    pub(super) without: u64,
    /// How long after now the call may begin.
    pub(super) wait: u64,
}

/// Why a call may not be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// Not before so long.
    Wait(u64),
    /// It costs more than a burst, or time has come to its end.
    Never,
    /// There is no room for another key before so long.
    NoRoom(u64),
    /// Not before the deadline, to which so long is left.
    TooLate(u64),
}

impl Rate {
    /// The last arrival there is, in 146 years: words keep two bits for something else.
    pub(super) const LAST: u64 = u64::MAX >> 2;

    /// Whether a call of this cost may begin, or wait for no longer than `most`.
    #[inline]
    pub(super) const fn ask(self, arrival: u64, cost: u32, now: u64, most: u64) -> Result<Turn, Refusal> {
        let cost = self.interval.saturating_mul(cost as u64);
        if cost > self.burst {
            return Err(Refusal::Never);
        }
        let without = if arrival > now { arrival } else { now };
        let with = without.saturating_add(cost);
        if with > Self::LAST {
            return Err(Refusal::Never);
        }
        let wait = with.saturating_sub(now).saturating_sub(self.burst);
        if wait > most {
            return Err(Refusal::Wait(wait));
        }
        Ok(Turn { with, without, wait })
    }

    /// The arrival when this rate takes the place of `old`: what was used stays used, counted in calls, up to a whole burst.
    pub(super) fn take_over(self, old: Self, arrival: u64, now: u64) -> u64 {
        let Some(debt) = arrival.checked_sub(now) else { return arrival };
        let scaled = u128::from(debt).saturating_mul(u128::from(self.interval));
        let calls = scaled.div_ceil(u128::from(old.interval.max(1)));
        let debt = u64::try_from(calls).unwrap_or(u64::MAX).min(self.burst);
        now.saturating_add(debt).min(Self::LAST)
    }

    /// The largest cost that may be paid now.
    pub(super) fn available(self, arrival: u64, now: u64) -> u32 {
        let room = self.burst.saturating_sub(arrival.saturating_sub(now));
        u32::try_from(room.checked_div(self.interval).unwrap_or(0)).unwrap_or(u32::MAX)
    }
}
