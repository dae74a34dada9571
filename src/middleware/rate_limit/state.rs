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
//! In whatever order clocks are read, the calls whose turns come in a stretch of `T` cost no more than `burst + T`, in the time
//! that they take up: the first of them leaves the arrival at least its own cost after the stretch's begin, each moves it on,
//! and the last leaves it at most a burst after the stretch's end.
//!
//! When the quota changes, the debt is split in two. Time that belongs to turns which were already given stays time: those
//! calls begin when they were told to, and no later call begins before them. The rest, what the last of them leaves in the
//! bucket, is calls: they take up the new interval each. If they are more than a whole new burst, the excess comes back at the
//! old rate, and no call begins until it has.
//!
//! ```text
//!       now                 opens               arrival
//!        |<-- turns given --->|<--- calls used --->|
//!        |    stays           |<- scaled ->|             the arrival by a quota that is faster
//! ```

#![warn(clippy::arithmetic_side_effects, reason = "what is configured may be as large as it likes")]

/// A quota in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rate {
    /// What a call of cost 1 takes up; at least 1.
    pub(super) interval: u64,
    /// What a burst takes up; at least an interval.
    pub(super) burst: u64,
}

/// What has been used of a quota.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Used {
    /// When the quota would be untouched again.
    pub(super) arrival: u64,
    /// The moment before which no call begins, whatever the arrival says; never after the arrival unless it has passed. It
    /// is set by a change of the quota only.
    pub(super) opens: u64,
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

    /// Returns the turn of a call of this cost, if it comes within `most`.
    #[inline]
    pub(super) const fn ask(self, used: Used, cost: u32, now: u64, most: u64) -> Result<Turn, Refusal> {
        let cost = self.interval.saturating_mul(cost as u64);
        if cost > self.burst {
            return Err(Refusal::Never);
        }
        let without = if used.arrival > now { used.arrival } else { now };
        let with = without.saturating_add(cost);
        if with > Self::LAST {
            return Err(Refusal::Never);
        }
        let begin = with.saturating_sub(self.burst);
        let begin = if begin > used.opens { begin } else { used.opens };
        let wait = begin.saturating_sub(now);
        if wait > most {
            return Err(Refusal::Wait(wait));
        }
        Ok(Turn { with, without, wait })
    }

    /// Returns what is used of this rate when it takes the place of `old`, of which `used` was.
    pub(super) fn take_over(self, old: Self, used: Used, now: u64) -> Used {
        let last_turn = used.arrival.saturating_sub(old.burst);
        let opens = now.max(last_turn).max(used.opens);
        let Some(debt) = used.arrival.checked_sub(opens) else { return used };
        let scaled = u128::from(debt).saturating_mul(u128::from(self.interval));
        let scaled = scaled.div_ceil(u128::from(old.interval.max(1)));
        let in_calls = u64::try_from(scaled).unwrap_or(u64::MAX).min(self.burst);
        let room = u128::from(self.burst).saturating_mul(u128::from(old.interval));
        let room = room.checked_div(self.interval.into()).and_then(|room| u64::try_from(room).ok());
        let room = room.unwrap_or(u64::MAX);
        let opens = opens.saturating_add(debt.saturating_sub(room)).min(Self::LAST);
        Used { arrival: opens.saturating_add(in_calls).min(Self::LAST), opens }
    }

    /// The largest cost that may be paid now.
    pub(super) fn available(self, used: Used, now: u64) -> u32 {
        if now < used.opens {
            return 0;
        }
        let room = self.burst.saturating_sub(used.arrival.saturating_sub(now));
        u32::try_from(room.checked_div(self.interval).unwrap_or(0)).unwrap_or(u32::MAX)
    }
}
