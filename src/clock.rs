//! The only place that reads time or arms a timer.
//!
//! It is tokio's clock, so `tokio::time::pause` and `advance` control everything in the crate. What decides
//! ([`state.rs`](crate::circuit_breaker) and the windows) takes a [`Timestamp`] as an argument and never reads
//! a clock, which is what lets models and recorded traces drive it.

#![allow(clippy::disallowed_methods, reason = "this is the file in which reading time is allowed")]

use std::cell::Cell;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use tokio::time::{Instant, Sleep};

use crate::sync::stripe;

/// Nanoseconds on a monotonic clock since an origin of the owner's choice. All arithmetic saturates: the
/// end of the scale, 584 years away, means "never".
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Timestamp(pub(crate) u64);

impl Timestamp {
    pub(crate) const NEVER: Self = Self(u64::MAX);

    pub(crate) fn after(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(nanos(duration)))
    }

    /// Time from `earlier` to this moment; zero if `earlier` is later, for clocks of two cores may disagree.
    pub(crate) fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

/// What tokio's clock says.
#[inline]
pub(crate) fn instant() -> Instant {
    Instant::now()
}

/// The moment `duration` after `instant`, or thirty years after it if that is sooner: tokio's own reading of "never",
/// since a later one may not be representable.
#[inline]
pub(crate) fn instant_after(instant: Instant, duration: Duration) -> Instant {
    const FAR: Duration = Duration::from_secs(86_400 * 365 * 30);
    instant.checked_add(duration.min(FAR)).unwrap_or(instant)
}

/// A timer that fires at `at`.
pub(crate) fn sleep_until(at: Instant) -> Sleep {
    tokio::time::sleep_until(at)
}

/// Ready when `timer` is over. Unlike the timer itself also in a task that has used up its budget, in which nothing of
/// tokio's is ready: for timers that end what would go on like that. They need to be [armed](arm).
pub(crate) fn poll_elapsed(mut timer: Pin<&mut Sleep>, cx: &mut Context<'_>) -> Poll<()> {
    if timer.as_mut().poll(cx).is_ready() || timer.is_elapsed() { Poll::Ready(()) } else { Poll::Pending }
}

/// Lets `timer` fire at `at`. A new one would begin to run only once it is polled within a budget.
pub(crate) fn arm(timer: Pin<&mut Sleep>, at: Instant) {
    timer.reset(at);
}

/// A duration in nanoseconds, saturating at 584 years.
#[inline]
pub(crate) const fn nanos(duration: Duration) -> u64 {
    // By hand, since `as_nanos` takes 128 bits, and this is on the way of every call that is measured.
    let seconds = duration.as_secs().saturating_mul(1_000_000_000);
    seconds.saturating_add(duration.subsec_nanos() as u64)
}

/// So many times `nanos`, not negative, saturating.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "the cast saturates, also at zero"
)]
pub(crate) fn times(nanos: u64, factor: f64) -> u64 {
    (nanos as f64 * factor) as u64
}

/// A duration as people read it: in milliseconds, unless it is shorter than one.
pub(crate) struct Rounded(pub(crate) Duration);

impl fmt::Display for Rounded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHORT: Duration = Duration::from_millis(1);
        let Self(duration) = *self;
        let shown = if duration < SHORT {
            duration
        } else {
            Duration::new(duration.as_secs(), duration.subsec_millis().saturating_mul(1_000_000))
        };
        write!(f, "{shown:?}")
    }
}

/// Readings of tokio's clock, counted from the moment the clock was made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    origin: Instant,
}

impl Clock {
    pub(crate) fn start() -> Self {
        Self { origin: Instant::now() }
    }

    #[inline]
    pub(crate) fn now(&self) -> Timestamp {
        self.at(Instant::now())
    }

    /// The reading at `instant`.
    #[inline]
    pub(crate) fn at(&self, instant: Instant) -> Timestamp {
        Timestamp(nanos(instant.saturating_duration_since(self.origin)))
    }

    /// A timer that fires at `at`, or in thirty years if that is sooner: counted from now and not
    /// from the origin, or every timer of a clock that is older would be over at once.
    pub(crate) fn sleep_until(&self, at: Timestamp) -> Sleep {
        let now = Instant::now();
        sleep_until(instant_after(now, at.since(self.at(now))))
    }
}

/// What a calendar says. It may jump, and tokio's clock has no say in it: good for reading a date that someone
/// else wrote, and for nothing that is measured.
#[allow(dead_code, reason = "dates come with the feature `http`")]
pub(crate) fn wall() -> SystemTime {
    SystemTime::now()
}

/// When and on which thread something happens. Either is found out when it is first asked for, and the time is
/// read once for each event.
#[derive(Debug)]
pub(crate) struct Now<'a> {
    clock: Option<&'a Clock>,
    reading: Cell<Timestamp>,
    stripe: usize,
}

impl<'a> Now<'a> {
    const UNREAD: Timestamp = Timestamp::NEVER;

    #[inline]
    pub(crate) const fn of(clock: &'a Clock) -> Self {
        Self { clock: Some(clock), reading: Cell::new(Self::UNREAD), stripe: 0 }
    }

    /// A reading made elsewhere, by thread number `stripe`.
    #[cfg(test)]
    pub(crate) const fn at(reading: Timestamp, stripe: usize) -> Self {
        Self { clock: None, reading: Cell::new(reading), stripe }
    }

    #[inline]
    pub(crate) fn get(&self) -> Timestamp {
        let reading = self.reading.get();
        if reading != Self::UNREAD {
            return reading;
        }
        let reading = self.clock.map_or(reading, Clock::now);
        self.reading.set(reading);
        reading
    }

    /// The number of the thread.
    #[inline]
    pub(crate) fn stripe(&self) -> usize {
        if self.clock.is_some() { stripe() } else { self.stripe }
    }
}

#[cfg(all(test, not(stanchion_loom)))]
mod tests;
