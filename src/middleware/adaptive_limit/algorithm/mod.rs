//! How a limit is found: a window of calls in, a limit out.

#![warn(clippy::arithmetic_side_effects, reason = "a user's service may answer as it likes")]

mod aimd;
mod gradient;
mod gradient2;
mod usual;
mod vegas;

use std::fmt;
use std::time::Duration;

pub use aimd::Aimd;
pub use gradient::Gradient;
pub use gradient2::Gradient2;
pub use vegas::Vegas;

use crate::base::clock::nanos;
use crate::config::InvalidConfig;

/// What a window of calls was like.
///
/// A call belongs to the window in which it ended. Calls whose end says nothing about the service are not in it.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Sample {
    /// The median of how long calls took that succeeded; none if none did.
    ///
    /// Failures have no say in it: those that are fast would hide that the service is slow, and those that are slow
    /// count as failures.
    pub latency: Option<Duration>,
    /// The mean of how long calls took that succeeded; none if none did. Unlike the median it obeys Little's law, and a
    /// queue changes it by the same share whatever the distribution of latencies is.
    pub mean: Option<Duration>,
    /// How long the fastest call that succeeded took.
    pub fastest: Option<Duration>,
    /// The most calls that were in flight at the same time, without those that are exempt.
    pub in_flight: u32,
    /// How many calls succeeded or failed.
    pub calls: u64,
    /// How many of them failed. A call that was cancelled is one of them if it had already taken much longer than
    /// calls usually do; otherwise it is in no window.
    pub failures: u64,
    /// The calls that were cancelled and are not among the failures. They are not in `calls` either.
    pub cancelled: u64,
    /// How long the window was.
    pub length: Duration,
}

impl Sample {
    /// A window in which `calls` calls took `latency` each, with at most `in_flight` at the same time.
    #[must_use]
    pub const fn new(latency: Duration, in_flight: u32, calls: u64) -> Self {
        Self {
            latency: Some(latency),
            mean: Some(latency),
            fastest: Some(latency),
            in_flight,
            calls,
            failures: 0,
            cancelled: 0,
            length: Duration::from_secs(1),
        }
    }

    /// Lets `failures` of the calls have failed. If all have, there is no latency.
    #[must_use]
    pub const fn failures(mut self, failures: u64) -> Self {
        self.failures = failures;
        if failures >= self.calls {
            self.latency = None;
            self.mean = None;
            self.fastest = None;
        }
        self
    }

    /// Sets how long the window was.
    #[must_use]
    pub const fn length(mut self, length: Duration) -> Self {
        self.length = length;
        self
    }

    /// Which share of the calls failed, 0 to 1.
    #[must_use]
    pub fn failure_ratio(&self) -> f64 {
        crate::config::share(self.failures, self.calls).unwrap_or(0.0).min(1.0)
    }

    /// Returns the number of calls that ended per second, in whatever way.
    #[must_use]
    pub fn throughput(&self) -> f64 {
        self.ended() / self.seconds()
    }

    /// Returns the number of calls that were in flight on average, by Little's law: calls per second times the mean
    /// latency. Calls that failed or were cancelled count as if they had taken as long as the others.
    #[must_use]
    pub fn concurrency(&self) -> f64 {
        self.mean.map_or(0.0, |mean| self.throughput() * mean.as_secs_f64())
    }

    fn ended(&self) -> f64 {
        count(self.calls.saturating_add(self.cancelled))
    }

    /// Never zero, so that it can be divided by.
    fn seconds(&self) -> f64 {
        self.length.as_secs_f64().max(1e-9)
    }

    /// Returns `true` if less than half of `limit` was used: such a window says nothing about a higher limit.
    #[must_use]
    pub fn is_app_limited(&self, limit: f64) -> bool {
        2.0 * f64::from(self.in_flight) < limit
    }
}

/// The limit for the next window.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Next {
    pub(super) limit: f64,
    pub(super) afresh: bool,
}

impl Next {
    /// This limit. The fraction is kept for the next window, and not let in. What is not a number changes nothing.
    #[must_use]
    pub const fn limit(limit: f64) -> Self {
        Self { limit, afresh: false }
    }

    /// Only calls that begin from now on are in the next window, and it holds four times as many as the limit, since
    /// those that end first are the short ones: what is measured is this limit alone. If calls that began before keep all
    /// others out for too long, as many more are let in, up to the limit before.
    #[must_use]
    pub const fn reset_window(mut self) -> Self {
        self.afresh = true;
        self
    }
}

/// Finds a limit: told of each window of calls, it answers with the limit for the next one.
///
/// It knows no clock and no lock: one window is judged at a time, never on the way of a call that is not the last of
/// its window. It need not care about the least and the greatest limit that are allowed. A layer asks for one that is `Clone`,
/// `PartialEq` and `Sync` too, as configurations are; each time a limit begins to be found, it is by a clone.
///
/// ```
/// use stanchion::adaptive_limit::{Algorithm, Next, Sample};
/// use stanchion::{AdaptiveLimitConfig, AdaptiveLimitLayer};
///
/// /// As many as fit into 100 ms.
/// #[derive(Clone, Debug, PartialEq)]
/// struct Littles;
///
/// impl Algorithm for Littles {
///     fn next(&mut self, limit: f64, sample: &Sample) -> Next {
///         let per_second = sample.calls as f64 / sample.length.as_secs_f64();
///         Next::limit(if sample.is_app_limited(limit) { limit } else { per_second * 0.1 })
///     }
/// }
///
/// let layer = AdaptiveLimitLayer::new(AdaptiveLimitConfig::new().algorithm(Littles));
/// # let _ = layer;
/// ```
pub trait Algorithm: fmt::Debug + Send + 'static {
    /// Returns the limit after a window in which it was `limit`. If this panics the limit stays what it is, and no call takes
    /// harm.
    ///
    /// # Deadlocks
    ///
    /// It is called under the lock that guards it and the limit. A call of
    /// [`reconfigure`](crate::admission::AdmissionHandle::reconfigure) on the layer that it is part of waits for that lock, so
    /// it never returns if it is made from here. Send the new configuration to a task of its own instead. Calls that begin, end
    /// or look at the layer from here do no harm.
    fn next(&mut self, limit: f64, sample: &Sample) -> Next;

    /// Whether it can be used as it is.
    ///
    /// # Errors
    ///
    /// If a setting is outside of its range.
    fn validate(&self) -> Result<(), InvalidConfig> {
        Ok(())
    }
}

#[allow(clippy::cast_precision_loss, reason = "counts stay far below 2^53")]
fn count(calls: u64) -> f64 {
    calls as f64
}

/// Never zero, so that it can be divided by.
#[allow(clippy::cast_precision_loss, reason = "a nanosecond in 104 days is no matter")]
fn float(latency: Duration) -> f64 {
    nanos(latency).max(1) as f64
}

fn in_range(
    field: &'static str,
    given: f64,
    range: std::ops::RangeInclusive<f64>,
    allowed: &'static str,
) -> Result<(), InvalidConfig> {
    // A NaN is in no range.
    if range.contains(&given) { Ok(()) } else { Err(InvalidConfig::new(field, given, allowed)) }
}

const MAX_FAILURE_RATIO: f64 = 0.1;

fn is_failure_ratio(given: f64) -> Result<(), InvalidConfig> {
    in_range("max_failure_ratio", given, 0.0..=1.0, "a number from 0 to 1 (0.1 is a tenth; not a percentage)")
}

/// What is left of a limit after a window with too many failures.
fn shrunk(limit: f64) -> f64 {
    limit * 0.9
}
