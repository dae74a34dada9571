use std::time::Duration;

use crate::config::InvalidConfig;
use crate::primitives::latency::{MinRemaining, quantile_of};

/// The configuration of a [timeout](super): the limit on a call, and where it starts and ends.
///
/// Plain data: every field can be set directly or by the method of the same name. All fields are
/// checked when a layer is created or reconfigured.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct TimeoutConfig {
    /// The limit on the duration of a call. Default: 10 s, which is longer than most callers wait.
    pub limit: Limit,
    /// The scope of the limit, which decides the reason of the rejection and which of a request's
    /// own [`Timeouts`](crate::protocol::Timeouts) applies. Default: the call as a whole.
    pub scope: Scope,
    /// The end of the limited time. It must be the head if the limit is adaptive, since the time to
    /// the headers is what is measured. Default: the head of the response.
    pub covers: Covers,
    /// The longest time between two frames of a response's body, and until the first one, counted
    /// from when the reader starts to wait. Use it for streams, which may take long but must not
    /// stall. Default: `None`, so the reader waits for ever, or until `limit` if that covers the
    /// body.
    pub idle: Option<Duration>,
    /// `true` to start the limit at the first `poll_ready` that finds the service not ready, and
    /// not at the `call`. Time counts only while a caller [waits](super#readiness). Default:
    /// `false`, so time spent in the queue of an inner layer is not limited here.
    pub includes_readiness: bool,
    /// The time that must be left until the deadline for a call to be made; with less, it is
    /// rejected. A measured minimum is based on the last 30 s. Default: zero, so no call is
    /// rejected for lack of time.
    pub min_remaining: MinRemaining,
}

/// The limit on the duration of a call.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Limit {
    /// No limit of its own: only the deadline of the request ends a call.
    Deadline,
    /// A fixed duration above zero.
    Fixed(Duration),
    /// A multiple of a quantile of the latency within the last 30 s. Until 100 calls have been
    /// measured, the limit is `max`.
    ///
    /// The measured latency is the time to the headers of a response. A call that this limit ended
    /// counts as if it had taken that long, so that the limit grows when the service gets slower,
    /// and does not cut off what has become usual. A call that had less time, because of its
    /// deadline or its own timeout, does not count.
    Adaptive {
        /// The measured quantile, such as 0.99; above 0 and below 1.
        quantile: f64,
        /// The factor by which the quantile is multiplied; 1 to 100.
        factor: f64,
        /// The lower bound of the limit; above zero.
        min: Duration,
        /// The upper bound of the limit; at least `min`.
        max: Duration,
    },
}

/// The scope of a timeout.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Scope {
    /// The call as a whole with all its attempts. The layer is outside of the retry layer.
    #[default]
    Total,
    /// One attempt. The layer is inside of the retry layer.
    Attempt,
}

/// The end of the time that a timeout limits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Covers {
    /// The arrival of the response's headers.
    #[default]
    Head,
    /// The end of the response's body, for protocols whose responses have one.
    Body,
}

impl TimeoutConfig {
    /// Returns the default configuration.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            limit: Limit::Fixed(Duration::from_secs(10)),
            scope: Scope::Total,
            covers: Covers::Head,
            idle: None,
            includes_readiness: false,
            min_remaining: MinRemaining::Fixed(Duration::ZERO),
        }
    }

    /// Sets the limit on the duration of a call.
    #[must_use]
    pub const fn limit(mut self, limit: Limit) -> Self {
        self.limit = limit;
        self
    }

    /// Sets the scope of the limit.
    #[must_use]
    pub const fn scope(mut self, scope: Scope) -> Self {
        self.scope = scope;
        self
    }

    /// Sets the end of the limited time.
    #[must_use]
    pub const fn covers(mut self, covers: Covers) -> Self {
        self.covers = covers;
        self
    }

    /// Sets the longest time between two frames of a response's body.
    #[must_use]
    pub const fn idle(mut self, idle: Duration) -> Self {
        self.idle = Some(idle);
        self
    }

    /// Sets whether the limit starts before the service is ready.
    #[must_use]
    pub const fn includes_readiness(mut self, includes: bool) -> Self {
        self.includes_readiness = includes;
        self
    }

    /// Sets the time that must be left until the deadline for a call to be made.
    #[must_use]
    pub const fn min_remaining(mut self, remaining: MinRemaining) -> Self {
        self.min_remaining = remaining;
        self
    }

    /// Checks every field.
    ///
    /// # Errors
    ///
    /// Returns the first field that is out of its range.
    pub fn validate(&self) -> Result<(), InvalidConfig> {
        const SOME: &str = "a duration above zero";
        match self.limit {
            Limit::Fixed(limit) if limit.is_zero() => return Err(InvalidConfig::new("limit", limit, SOME)),
            Limit::Adaptive { quantile, factor, min, max } => {
                quantile_of("limit.quantile", quantile)?;
                // In this form, NaN is rejected as well.
                if !(1.0..=100.0).contains(&factor) {
                    return Err(InvalidConfig::new("limit.factor", factor, "a number from 1 to 100"));
                }
                if min.is_zero() {
                    return Err(InvalidConfig::new("limit.min", min, SOME));
                }
                if max < min {
                    return Err(InvalidConfig::new("limit.max", max, "at least `limit.min`"));
                }
            }
            Limit::Fixed(_) | Limit::Deadline => {}
        }
        if self.covers == Covers::Body && matches!(self.limit, Limit::Adaptive { .. }) {
            return Err(InvalidConfig::new(
                "covers",
                self.covers,
                "`Covers::Head`, because the limit is measured",
            ));
        }
        if let Some(idle) = self.idle.filter(Duration::is_zero) {
            return Err(InvalidConfig::new("idle", idle, SOME));
        }
        self.min_remaining.validate("min_remaining")
    }
}

impl Default for TimeoutConfig {
    fn default() -> Self {
        Self::new()
    }
}
