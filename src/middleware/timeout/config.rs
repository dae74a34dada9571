use std::time::Duration;

use crate::config::InvalidConfig;
use crate::primitives::latency::{MinRemaining, quantile_of};

/// How long a call may take, and what that is counted from and to: see [timeouts](super).
///
/// Plain data: every field can be set directly or by the method of the same name, and all are checked when a
/// layer is made of it or a running one is given it.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct TimeoutConfig {
    /// How long it may take. Default: 10 s, which is longer than most callers wait.
    pub limit: Limit,
    /// What it is a limit on; it decides the name of the rejection, and which of a request's own
    /// [`Timeouts`](crate::protocol::Timeouts) counts. Default: the call as a whole.
    pub scope: Scope,
    /// Where the limit ends; at the head if it is measured, since what is measured is the time to that. Default: at the
    /// head of the response.
    pub covers: Covers,
    /// The longest time between two frames of a response's body, and until the first, counted from when its reader
    /// begins to wait for it. `None`, the default, waits for ever, or as long as `limit` if that covers the body. For
    /// streams, which may take long but not stall.
    pub idle: Option<Duration>,
    /// Whether the limit begins with the first `poll_ready` that finds the service not ready, and not with the `call`; time
    /// counts while a caller [waits](super#readiness). Default: false; what is waited for in a queue further in is then not limited here.
    pub includes_readiness: bool,
    /// A call is refused before it is made if less time than this is left; what is measured are the last 30 s. Default: none
    /// is too little.
    pub min_remaining: MinRemaining,
}

/// How long a call may take.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Limit {
    /// As long as the deadline of the request allows.
    Deadline,
    /// So long; above zero.
    Fixed(Duration),
    /// A multiple of what calls took within the last 30 s. `max`, until that is known for a hundred calls.
    ///
    /// What counts is the time to the head of the answer, of calls that are answered. Calls that this limit ended count
    /// as if they had taken it, so that it grows when the service gets slower, and does not cut off what has become
    /// usual. Those that had less time, by their deadline or a timeout of their own, do not.
    Adaptive {
        /// The share of calls that took no longer than what is multiplied, such as 0.99; above 0, below 1.
        quantile: f64,
        /// How many times that; 1 to 100.
        factor: f64,
        /// The limit is never shorter; above zero.
        min: Duration,
        /// It is never longer; at least `min`.
        max: Duration,
    },
}

/// What a timeout is a limit on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Scope {
    /// The call as a whole, with all attempts at it: the layer is outside of the one that retries.
    #[default]
    Total,
    /// One attempt: the layer is inside of the one that retries.
    Attempt,
}

/// Where the limit of a timeout ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Covers {
    /// When the head of the response is there.
    #[default]
    Head,
    /// When its body has ended, for protocols whose responses have one.
    Body,
}

impl TimeoutConfig {
    /// The defaults.
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

    /// Sets how long a call may take.
    #[must_use]
    pub const fn limit(mut self, limit: Limit) -> Self {
        self.limit = limit;
        self
    }

    /// Sets what it is a limit on.
    #[must_use]
    pub const fn scope(mut self, scope: Scope) -> Self {
        self.scope = scope;
        self
    }

    /// Sets where the limit ends.
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

    /// Sets whether the limit begins before the service is ready.
    #[must_use]
    pub const fn includes_readiness(mut self, includes: bool) -> Self {
        self.includes_readiness = includes;
        self
    }

    /// Sets how much time must be left for a call to be made.
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
                // Written so that a NaN fails: it is in no range.
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
            return Err(InvalidConfig::new("covers", self.covers, "`Covers::Head`, because the limit is measured"));
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
