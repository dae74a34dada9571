use std::time::Duration;

use super::state::Rate;
use crate::base::clock::nanos;
use crate::config::InvalidConfig;

/// How many calls may begin in which time.
///
/// In any stretch of time `T` calls that cost at most `burst + T * count / period` begin. The time between two calls is
/// rounded up to a whole nanosecond, so the rate is never above the quota, and below it by less than a nanosecond for each call: at
/// a million calls per second by no more than a thousandth.
///
/// ```
/// use std::time::Duration;
///
/// use stanchion::rate_limit::Quota;
///
/// let quota = Quota::per_second(50).burst(10);
/// assert_eq!(quota, Quota::per(50, Duration::from_secs(1)).burst(10));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Quota {
    /// How many calls of cost 1 may begin in a period, in the long run. At least 1.
    pub count: u32,
    /// The period. At least a nanosecond for each of `count`.
    pub period: Duration,
    /// How many may begin at once after a pause. At least 1; at most as many as come back in 18 years. Default: `count`, as most
    /// services that have a quota count their callers. In a stretch as long as the period twice the `count` may begin
    /// then: set less to have them begin evenly.
    pub burst: u32,
}

impl Quota {
    /// So many in a second.
    #[must_use]
    pub const fn per_second(count: u32) -> Self {
        Self::per(count, Duration::from_secs(1))
    }

    /// So many in a minute.
    #[must_use]
    pub const fn per_minute(count: u32) -> Self {
        Self::per(count, Duration::from_secs(60))
    }

    /// So many in a period.
    #[must_use]
    pub const fn per(count: u32, period: Duration) -> Self {
        Self { count, period, burst: count }
    }

    /// Sets how many may begin at once.
    #[must_use]
    pub const fn burst(mut self, burst: u32) -> Self {
        self.burst = burst;
        self
    }

    fn rate(&self) -> Result<Rate, InvalidConfig> {
        const LONGEST: u64 = Rate::LAST >> 3;
        let count = u64::from(self.count);
        if count == 0 {
            return Err(InvalidConfig::new("count", self.count, "at least 1"));
        }
        if nanos(self.period) < count {
            return Err(InvalidConfig::new("period", self.period, "at least 1 ns for each of `count` calls"));
        }
        if self.burst == 0 {
            return Err(InvalidConfig::new("burst", self.burst, "at least 1"));
        }
        let interval = nanos(self.period).div_ceil(count);
        let burst = interval.saturating_mul(u64::from(self.burst));
        if burst > LONGEST {
            return Err(InvalidConfig::new(
                "burst",
                self.burst,
                "at most what the quota restores in 18 years",
            ));
        }
        Ok(Rate { interval, burst })
    }
}

/// How a layer [limits the rate](super) of calls.
///
/// Plain data: every field can be set directly or by the method of the same name, and all are checked when a
/// layer is made of it or a running one is given it.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct RateLimitConfig {
    /// The quota; of each key, if there are keys. Default: 100 per second.
    pub quota: Quota,
    /// How long a call waits for its turn at most, in a layer that [waits](super::RateLimitLayer::waits); in others it has no
    /// effect. One that would wait for longer is refused at once. Default: 1 s, below the usual timeouts.
    pub max_wait: Duration,
    /// How many keys are held at most, in a layer with keys; at least 1. Each takes up about 60 bytes. They are in parts with a
    /// share of it each, one for 256 keys and 1,024 at most, so chance may refuse a key when up to a quarter of the room is
    /// still free; and a layer that was made for thousands holds one in each part however few are allowed later. Default: 10,000.
    pub max_keys: u32,
}

impl RateLimitConfig {
    /// A quota, and the defaults.
    #[must_use]
    pub const fn new(quota: Quota) -> Self {
        Self { quota, max_wait: Duration::from_secs(1), max_keys: 10_000 }
    }

    /// Sets the quota.
    #[must_use]
    pub const fn quota(mut self, quota: Quota) -> Self {
        self.quota = quota;
        self
    }

    /// Sets how long a call waits at most.
    #[must_use]
    pub const fn max_wait(mut self, wait: Duration) -> Self {
        self.max_wait = wait;
        self
    }

    /// Sets how many keys are held at most.
    #[must_use]
    pub const fn max_keys(mut self, keys: u32) -> Self {
        self.max_keys = keys;
        self
    }

    /// Checks every field.
    ///
    /// # Errors
    ///
    /// The first field that is out of its range.
    pub fn validate(&self) -> Result<(), InvalidConfig> {
        Settings::new(self).map(drop)
    }
}

impl Default for RateLimitConfig {
    fn default() -> Self {
        Self::new(Quota::per_second(100))
    }
}

impl From<Quota> for RateLimitConfig {
    fn from(quota: Quota) -> Self {
        Self::new(quota)
    }
}

/// What is made of a configuration.
#[derive(Clone, Copy, Debug)]
pub(super) struct Settings {
    pub(super) rate: Rate,
    pub(super) max_wait: u64,
    pub(super) max_keys: usize,
}

impl Settings {
    pub(super) fn new(config: &RateLimitConfig) -> Result<Self, InvalidConfig> {
        let rate = config.quota.rate()?;
        if config.max_keys == 0 {
            return Err(InvalidConfig::new("max_keys", config.max_keys, "at least 1"));
        }
        let max_keys = usize::try_from(config.max_keys).unwrap_or(usize::MAX);
        Ok(Self { rate, max_wait: nanos(config.max_wait), max_keys })
    }
}
