use std::time::Duration;

use crate::config::InvalidConfig;

/// When a second copy of a request is sent.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum HedgeDelay {
    /// After so long. Zero sends all copies at once.
    Fixed(Duration),
    /// After so long as this share of the calls took of late. Until that is known, nothing is hedged.
    Quantile {
        /// The share of the calls that need no hedge; above 0 and below 1. Default: 0.95, so that one call of twenty is
        /// hedged.
        quantile: f64,
        /// The shortest delay. Default: 1 ms, below which timers are of no use.
        min: Duration,
        /// Nothing is hedged while the delay would be so long or longer, because a service that is slow to so many is
        /// overloaded and not unlucky; above `min`. Default: 2 s.
        max: Duration,
    },
}

impl HedgeDelay {
    /// A quantile between 1 ms and 2 s.
    #[must_use]
    pub const fn quantile(quantile: f64) -> Self {
        Self::Quantile { quantile, min: Duration::from_millis(1), max: Duration::from_secs(2) }
    }

    fn validate(&self) -> Result<(), InvalidConfig> {
        let Self::Quantile { quantile, min, max } = *self else { return Ok(()) };
        // Written so that a NaN fails: it is in no range.
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

/// When and how often a call is [hedged](super).
///
/// Plain data: every field can be set directly or by the method of the same name, and all are checked when a
/// layer is made of it or a running one is given it.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct HedgeConfig {
    /// How long a call is under way before a copy of its request is sent, and then before the next one. Default: the
    /// 0.95 quantile.
    pub delay: HedgeDelay,
    /// How long a latency counts for the quantile, up to a third less; at least 30 ms. Default: 30 s, in which a service
    /// that has become slower shows itself soon, and there are enough calls.
    pub window: Duration,
    /// How many latencies must be known before the quantile is; zero is as good as 1. Default: 100, five of which are
    /// above 0.95. With the default window that takes five calls per second: a service that is called less often needs a longer
    /// window, or a fixed delay.
    pub min_samples: u32,
    /// How many times as long as usual the latest calls may take, by their median, for calls to be hedged; at least 1. Default:
    /// 2, which a queue exceeds before the service is fully used, and the chance of some tens of calls does not. Infinity
    /// hedges however slow the service is. It has no effect with a fixed delay.
    pub max_slowdown: f64,
    /// How many copies are sent at most; 0 to 10, and 0 never sends one. Default: 1, since the second copy cuts off most of
    /// what there is to cut off.
    pub max_hedges: u32,
    /// A copy is not sent with no more time than this left until the deadline. Zero, the default, sends it if any is left:
    /// only you know how long the service takes at least.
    pub min_remaining: Duration,
    /// How long a copy waits for the service inside to become ready. Default: 100 ms, after which there is no room for
    /// extra calls.
    pub ready_within: Duration,
}

impl HedgeConfig {
    /// The defaults.
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

    /// Sets how long a call is under way before it is hedged.
    #[must_use]
    pub const fn delay(mut self, delay: HedgeDelay) -> Self {
        self.delay = delay;
        self
    }

    /// Sets how long a latency counts.
    #[must_use]
    pub const fn window(mut self, window: Duration) -> Self {
        self.window = window;
        self
    }

    /// Sets how many latencies must be known.
    #[must_use]
    pub const fn min_samples(mut self, samples: u32) -> Self {
        self.min_samples = samples;
        self
    }

    /// Sets how many times as long as usual the latest calls may take for calls to be hedged.
    #[must_use]
    pub const fn max_slowdown(mut self, times: f64) -> Self {
        self.max_slowdown = times;
        self
    }

    /// Sets how many copies are sent at most.
    #[must_use]
    pub const fn max_hedges(mut self, hedges: u32) -> Self {
        self.max_hedges = hedges;
        self
    }

    /// Sets the time that must be left for a copy to be sent.
    #[must_use]
    pub const fn min_remaining(mut self, remaining: Duration) -> Self {
        self.min_remaining = remaining;
        self
    }

    /// Sets how long a copy waits for the service inside to become ready.
    #[must_use]
    pub const fn ready_within(mut self, wait: Duration) -> Self {
        self.ready_within = wait;
        self
    }

    /// Checks every field.
    ///
    /// # Errors
    ///
    /// The first field that is out of its range.
    pub fn validate(&self) -> Result<(), InvalidConfig> {
        const MOST: u32 = 10;
        self.delay.validate()?;
        if self.window < Duration::from_millis(30) {
            return Err(InvalidConfig::new("window", self.window, "at least 30 ms"));
        }
        // A NaN is in no range.
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
