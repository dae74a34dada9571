use std::time::Duration;

use crate::config::InvalidConfig;

/// The delay before a second copy of a request is sent.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum HedgeDelay {
    /// A fixed delay. Zero sends all copies at once.
    Fixed(Duration),
    /// A quantile of the recent latencies. Nothing is hedged until it is known.
    Quantile {
        /// The share of calls that need no hedge; above 0 and below 1. Default: 0.95, so that one
        /// call in 20 is hedged.
        quantile: f64,
        /// The shortest delay. Default: 1 ms, since timers are not more exact than that.
        min: Duration,
        /// The delay from which nothing is hedged; above `min`. If that many calls are so slow, the
        /// service is overloaded and not unlucky. Default: 2 s.
        max: Duration,
    },
}

impl HedgeDelay {
    /// Returns a delay that is a quantile between 1 ms and 2 s.
    #[must_use]
    pub const fn quantile(quantile: f64) -> Self {
        Self::Quantile { quantile, min: Duration::from_millis(1), max: Duration::from_secs(2) }
    }

    fn validate(&self) -> Result<(), InvalidConfig> {
        let Self::Quantile { quantile, min, max } = *self else { return Ok(()) };
        // In this form, NaN is rejected as well.
        if !(quantile > 0.0 && quantile < 1.0) {
            let allowed = "a number above 0 and below 1 (0.95; not a percentage)";
            return Err(InvalidConfig::new("quantile", quantile, allowed));
        }
        if max <= min {
            return Err(InvalidConfig::new("max", max, "a duration longer than `min`"));
        }
        Ok(())
    }
}

/// The configuration of a [hedge](super): the delay and the number of copies.
///
/// Plain data: every field can be set directly or by the method of the same name. All fields are
/// checked when a layer is created or reconfigured.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct HedgeConfig {
    /// The time that a call is in flight before a copy of its request is sent, and before each
    /// further copy. Default: the 0.95 quantile.
    pub delay: HedgeDelay,
    /// The time for which a latency counts for the quantile, or up to a third less; at least 30 ms.
    /// Default: 30 s, short enough to follow a service that becomes slower, and long enough for
    /// many calls.
    pub window: Duration,
    /// The number of latencies from which the quantile is known; zero counts as 1. Default: 100, of
    /// which five are above the 0.95 quantile. With the default window, this takes about five calls
    /// per second. A service with fewer calls needs a longer window or a fixed delay.
    pub min_samples: u32,
    /// The highest ratio of the latest to the usual median latency at which calls are hedged; at
    /// least 1. Default: 2. A queue exceeds it before the service is fully used, while random
    /// variation over some tens of calls does not. With infinity, calls are hedged however slow the
    /// service is. Has no effect with a fixed delay.
    pub max_slowdown: f64,
    /// The maximum number of copies; 0 to 10. With 0, nothing is hedged. Default: 1, since one copy
    /// removes most of the tail latency.
    pub max_hedges: u32,
    /// The time until the deadline above which a copy is sent. Default: zero, so any time is
    /// enough, because the shortest useful time depends on the service.
    pub min_remaining: Duration,
    /// The longest time that a copy waits for the inner service to become ready. Default: 100 ms. A
    /// service that is not ready by then has no room for extra calls.
    pub ready_within: Duration,
}

impl HedgeConfig {
    /// Returns the default configuration.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            delay: HedgeDelay::quantile(0.95),
            window: Duration::from_secs(30),
            min_samples: 100,
            max_slowdown: 2.0,
            max_hedges: 1,
            min_remaining: Duration::ZERO,
            ready_within: Duration::from_millis(100),
        }
    }

    /// Sets the time that a call is in flight before it is hedged.
    #[must_use]
    pub const fn delay(mut self, delay: HedgeDelay) -> Self {
        self.delay = delay;
        self
    }

    /// Sets the time for which a latency counts.
    #[must_use]
    pub const fn window(mut self, window: Duration) -> Self {
        self.window = window;
        self
    }

    /// Sets the number of latencies from which the quantile is known.
    #[must_use]
    pub const fn min_samples(mut self, samples: u32) -> Self {
        self.min_samples = samples;
        self
    }

    /// Sets the highest ratio of the latest to the usual median latency at which calls are hedged.
    #[must_use]
    pub const fn max_slowdown(mut self, times: f64) -> Self {
        self.max_slowdown = times;
        self
    }

    /// Sets the maximum number of copies.
    #[must_use]
    pub const fn max_hedges(mut self, hedges: u32) -> Self {
        self.max_hedges = hedges;
        self
    }

    /// Sets the time until the deadline above which a copy is sent.
    #[must_use]
    pub const fn min_remaining(mut self, remaining: Duration) -> Self {
        self.min_remaining = remaining;
        self
    }

    /// Sets the longest time that a copy waits for the inner service to become ready.
    #[must_use]
    pub const fn ready_within(mut self, wait: Duration) -> Self {
        self.ready_within = wait;
        self
    }

    /// Checks every field.
    ///
    /// # Errors
    ///
    /// Returns the first field that is out of its range.
    pub fn validate(&self) -> Result<(), InvalidConfig> {
        const MOST: u32 = 10;
        self.delay.validate()?;
        if self.window < Duration::from_millis(30) {
            return Err(InvalidConfig::new("window", self.window, "at least 30 ms"));
        }
        // In this form, NaN is rejected as well.
        if !(1.0..=f64::INFINITY).contains(&self.max_slowdown) {
            return Err(InvalidConfig::new("max_slowdown", self.max_slowdown, "at least 1"));
        }
        if self.max_hedges > MOST {
            return Err(InvalidConfig::new("max_hedges", self.max_hedges, "a number from 0 to 10"));
        }
        Ok(())
    }
}

impl Default for HedgeConfig {
    fn default() -> Self {
        Self::new()
    }
}
