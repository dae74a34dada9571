//! The outcomes of the last N calls, or of the last T seconds.
//!
//! Both windows are lock-free, take a fixed amount of memory and the same time for each record, however many
//! calls they hold or cover. Both are exact at quiescence: once no thread is inside [`record`](Window::record),
//! the counts are those of a list kept under a lock.
//!
//! A window is emptied by moving on to another *era*, a number the owner picks (a later one each time). What
//! an earlier era recorded, or still records, is not seen by a later one, and nothing has to be cleared while
//! others write.

#![warn(clippy::arithmetic_side_effects, reason = "what is configured may be as large as it likes")]

mod count;
mod time;

use std::time::Duration;

pub(crate) use count::CountWindow;
pub(crate) use time::TimeWindow;

use crate::base::clock::{Now, Timestamp, nanos};
use crate::config::InvalidConfig;

/// Which calls are looked at to judge the state of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Window {
    /// The last so many calls. It truly slides: each call pushes out the one that is `calls` older.
    ///
    /// 1 to 10,000.
    Calls(u32),
    /// The calls that ended in the last `span`, kept in `buckets` equal parts, so that a call leaves the
    /// window when it is between `span - span / buckets` and `span` old.
    ///
    /// `buckets` is 1 to 240, and each of them at least 10 ms long.
    Time {
        /// How far back the window reaches.
        span: Duration,
        /// Into how many parts it is divided.
        buckets: u32,
    },
}

impl Window {
    /// The last `calls` calls.
    #[must_use]
    pub const fn calls(calls: u32) -> Self {
        Self::Calls(calls)
    }

    /// The last `span`, in ten buckets.
    #[must_use]
    pub const fn time(span: Duration) -> Self {
        Self::Time { span, buckets: 10 }
    }

    /// A time window divided into `buckets` parts; a window of calls stays as it is.
    #[must_use]
    pub const fn buckets(self, buckets: u32) -> Self {
        match self {
            Self::Calls(_) => self,
            Self::Time { span, .. } => Self::Time { span, buckets },
        }
    }

    pub(crate) fn validate(self) -> Result<(), InvalidConfig> {
        match self {
            Self::Calls(calls) if (1..=count::MOST_CALLS).contains(&calls) => Ok(()),
            Self::Calls(_) => Err(InvalidConfig::new("window", self, "a window of 1 to 10,000 calls")),
            Self::Time { buckets, .. } if !(1..=240).contains(&buckets) => {
                Err(InvalidConfig::new("window", self, "a window of 1 to 240 buckets"))
            }
            Self::Time { span, buckets } if span.checked_div(buckets) < Some(time::SHORTEST_BUCKET) => {
                Err(InvalidConfig::new("window", self, "buckets of at least 10 ms each"))
            }
            Self::Time { .. } => Ok(()),
        }
    }
}

/// How a recorded call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) failed: bool,
    pub(crate) slow: bool,
}

impl Outcome {
    pub(crate) const GOOD: Self = Self { failed: false, slow: false };

    pub(crate) const ALL: [Self; 4] = [
        Self::GOOD,
        Self { failed: true, slow: false },
        Self { failed: false, slow: true },
        Self { failed: true, slow: true },
    ];

    /// Neither failed nor slow: it cannot raise a ratio.
    pub(crate) const fn is_good(self) -> bool {
        !self.failed && !self.slow
    }

    /// Two bits, which are also its place in [`ALL`](Self::ALL).
    #[inline]
    const fn code(self) -> u64 {
        self.failed as u64 | (self.slow as u64) << 1
    }

    #[inline]
    const fn from_code(code: u64) -> Self {
        Self { failed: code & 1 != 0, slow: code & 2 != 0 }
    }
}

/// How many calls a window holds, and how they ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) calls: u64,
    pub(crate) failures: u64,
    pub(crate) slow: u64,
    pub(crate) slow_failures: u64,
}

impl Counts {
    /// Adds `calls` calls that ended as `outcome` says.
    pub(crate) const fn add(&mut self, outcome: Outcome, calls: u64) {
        self.calls = self.calls.saturating_add(calls);
        if outcome.failed {
            self.failures = self.failures.saturating_add(calls);
        }
        if outcome.slow {
            self.slow = self.slow.saturating_add(calls);
        }
        if outcome.failed && outcome.slow {
            self.slow_failures = self.slow_failures.saturating_add(calls);
        }
    }

    /// How many of the calls ended as `outcome` says.
    pub(crate) const fn of(&self, outcome: Outcome) -> u64 {
        match (outcome.failed, outcome.slow) {
            (true, true) => self.slow_failures,
            (true, false) => self.failures.saturating_sub(self.slow_failures),
            (false, true) => self.slow.saturating_sub(self.slow_failures),
            (false, false) => {
                let bad = self.failures.saturating_add(self.slow).saturating_sub(self.slow_failures);
                self.calls.saturating_sub(bad)
            }
        }
    }
}

/// A window of either kind.
#[derive(Debug)]
pub(crate) enum Calls {
    Count(CountWindow),
    Time(TimeWindow),
}

impl Calls {
    /// The moment of one recorded call out of about 64, in a window of calls, whose moments do not end. No other moment has this number.
    pub(crate) const SAMPLE: u64 = u64::MAX - 1;

    /// An empty window of the given shape, in era 0. The shape must be valid.
    pub(crate) fn new(shape: Window) -> Self {
        match shape {
            Window::Calls(calls) => Self::Count(CountWindow::new(calls)),
            Window::Time { span, buckets } => Self::Time(TimeWindow::new(nanos(span), buckets)),
        }
    }

    /// Makes `era` the only one that counts. Called while nothing is recorded for `era` yet.
    pub(crate) fn begin(&self, era: u64) {
        match self {
            Self::Count(window) => window.begin(era),
            // Its buckets carry the era with the time.
            Self::Time(_) => {}
        }
    }

    /// Records a call that ended at `now`, and returns the [moment](Self::moment), or [`SAMPLE`](Self::SAMPLE) now and then; none
    /// if `era` is over, and nothing was recorded.
    #[inline]
    pub(crate) fn record(&self, era: u64, now: &Now<'_>, outcome: Outcome) -> Option<u64> {
        match self {
            Self::Count(window) => window.record(era, outcome),
            Self::Time(window) => Some(window.record(era, now.get(), outcome, 1, now.stripe())),
        }
    }

    /// Fills an empty era with what `before` holds at `now`: with the latest calls if both are windows of calls, and each call at
    /// its age if both are windows of time. In a window of the other kind neither is known.
    pub(crate) fn take_over(&self, before: &Self, era: u64, now: Timestamp) {
        match (self, before) {
            (Self::Count(window), Self::Count(before)) => {
                for outcome in before.latest(era) {
                    window.record(era, outcome);
                }
            }
            (Self::Time(window), Self::Time(before)) => window.take_over(before, era, now),
            (Self::Count(_), _) | (_, Self::Count(_)) => {
                self.restore(era, now, before.counts(era, now));
            }
        }
    }

    /// Fills an empty era with `counts`, the bad calls first, so that they are the first to leave. A window of calls that has too
    /// little room takes the same share of each kind.
    pub(crate) fn restore(&self, era: u64, now: Timestamp, counts: Counts) {
        // Of those that are gone through already, and are in the window.
        let (mut before, mut taken) = (0_u64, 0);
        for outcome in Outcome::ALL.into_iter().rev() {
            let calls = counts.of(outcome);
            match self {
                Self::Count(window) => {
                    before = before.saturating_add(calls);
                    let until = window.share(before, counts.calls);
                    for _ in taken..until {
                        window.record(era, outcome);
                    }
                    taken = until;
                }
                Self::Time(window) => {
                    window.record(era, now, outcome, calls, 0);
                }
            }
        }
    }

    /// What the window holds at `now`.
    pub(crate) fn counts(&self, era: u64, now: Timestamp) -> Counts {
        match self {
            Self::Count(window) => window.counts(era),
            Self::Time(window) => window.counts(era, now),
        }
    }

    /// Gives each thread its own stripe at once.
    #[cfg(all(test, stanchion_loom))]
    pub(crate) fn spread(&self) {
        if let Self::Time(window) = self {
            window.spread();
        }
    }

    /// Returns `true` if a moment lasts for more than 15 s and is no sign of how many calls there were.
    pub(crate) const fn is_long(&self) -> bool {
        matches!(self, Self::Time(window) if window.is_long())
    }

    /// Returns `true` if [`counts`](Self::counts) adds up the whole window.
    pub(crate) const fn is_summed(&self) -> bool {
        !matches!(self, Self::Count(_))
    }

    /// A number that stays the same for as long as nothing leaves the window but to make room: within it a
    /// good call cannot raise a ratio that was judged over enough calls.
    #[inline]
    pub(crate) fn moment(&self, era: u64, now: &Now<'_>) -> u64 {
        match self {
            Self::Count(_) => era,
            Self::Time(window) => window.moment(era, now.get()),
        }
    }
}

#[cfg(all(test, not(stanchion_loom)))]
mod tests;

#[cfg(all(test, stanchion_loom))]
mod model;
