//! The only place that reads time or arms a timer.
//!
//! It is tokio's clock, so `tokio::time::pause` and `advance` control everything in the crate. What decides
//! ([`state.rs`](crate::circuit_breaker) and the windows) takes a [`Timestamp`] as an argument and never reads
//! a clock, which is what lets models and recorded traces drive it.

#![allow(clippy::disallowed_methods, reason = "this is the file in which reading time is allowed")]

use std::cell::Cell;
use std::fmt;
use std::future::Future;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use pin_project::pin_project;
use tokio::time::{Instant, Sleep};

use crate::base::sync::stripe;

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

/// The timer of every wait in this crate. It is made when it is first asked, and allocates nothing.
///
/// Unlike tokio's own it also fires in a task that has used up its budget, in which nothing of tokio's is ready: such a task
/// may be in that state whenever it is polled, beside a service that reads what is always there. tokio's would not even begin to
/// run there, since it does so when it is first polled within a budget.
#[pin_project]
#[derive(Debug, Default)]
pub(crate) struct Timer {
    #[pin]
    sleep: Option<Sleep>,
}

impl Timer {
    #[inline]
    pub(crate) const fn new() -> Self {
        Self { sleep: None }
    }

    /// Makes the timer, so that it can be polled outside of a runtime: it is one of the runtime in
    /// which this is called. It does not run yet.
    pub(crate) fn prepare(self: Pin<&mut Self>) {
        self.project().sleep.set(Some(tokio::time::sleep_until(Instant::now())));
    }

    /// Returns ready at `at`, and up to a millisecond later. It may be asked for another moment each time.
    pub(crate) fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>, at: Instant) -> Poll<()> {
        let mut sleep = self.project().sleep;
        if sleep.is_none() {
            sleep.set(Some(tokio::time::sleep_until(at)));
            // A new one begins to run when it is polled within a budget; one that is reset, at once.
            sleep.as_mut().as_pin_mut().expect("it was set just now").reset(at);
        }
        let mut sleep = sleep.as_pin_mut().expect("it is set");
        if sleep.deadline() != at {
            sleep.as_mut().reset(at);
        }
        if sleep.as_mut().poll(cx).is_ready() || sleep.is_elapsed() { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Returns ready at the moment that `at` told when this was first asked.
    pub(crate) fn poll_once(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        at: impl FnOnce() -> Instant,
    ) -> Poll<()> {
        let at = self.sleep.as_ref().map_or_else(at, Sleep::deadline);
        self.poll(cx, at)
    }

    /// Whether it has been asked, and not been stopped since.
    pub(crate) const fn is_armed(&self) -> bool {
        self.sleep.is_some()
    }

    /// Forgets the moment that it was asked for.
    pub(crate) fn stop(self: Pin<&mut Self>) {
        self.project().sleep.set(None);
    }
}

/// A [`Timer`] in a box that is made when it is first asked: for what few calls get to, or where it would move.
#[derive(Debug, Default)]
pub(crate) struct BoxedTimer(Option<Pin<Box<Timer>>>);

impl BoxedTimer {
    pub(crate) const fn new() -> Self {
        Self(None)
    }

    /// As [`Timer::prepare`].
    pub(crate) fn prepare(&mut self) {
        self.0.get_or_insert_default().as_mut().prepare();
    }

    /// As [`Timer::poll`].
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>, at: Instant) -> Poll<()> {
        self.0.get_or_insert_default().as_mut().poll(cx, at)
    }

    /// As [`Timer::poll_once`].
    pub(crate) fn poll_once(&mut self, cx: &mut Context<'_>, at: impl FnOnce() -> Instant) -> Poll<()> {
        self.0.get_or_insert_default().as_mut().poll_once(cx, at)
    }

    /// Forgets the moment that it was asked for, and the box.
    pub(crate) fn stop(&mut self) {
        self.0 = None;
    }
}

/// Waits until `at`.
pub(crate) async fn wait_until(at: Instant) {
    let mut timer = pin!(Timer::new());
    std::future::poll_fn(|cx| timer.as_mut().poll(cx, at)).await;
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

    /// The instant of a reading; thirty years from now if it is too far away to be one.
    pub(crate) fn instant(&self, at: Timestamp) -> Instant {
        let instant = self.origin.checked_add(Duration::from_nanos(at.0));
        instant.unwrap_or_else(|| instant_after(Instant::now(), Duration::MAX))
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
