use std::time::Duration;

use crate::config::InvalidConfig;
use crate::primitives::backoff::Backoff;

/// How often, when and how soon a call is [tried again](super).
///
/// The defaults make up for a moment's failure and no more: two more attempts within a few hundred milliseconds. What
/// keeps many callers from making an outage worse is not here but in the [`Budget`](crate::Budget), which every layer
/// has.
///
/// Plain data: every field can be set directly or by the method of the same name, and all are checked when a
/// layer is made of it or a running one is given it.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct RetryConfig {
    /// How many attempts are made at most, the first included; 1 to 1,000, and 1 never tries again. Default: 3, since
    /// what two repetitions do not cure is not a moment's failure.
    pub max_attempts: u32,
    /// How long to wait before each further attempt. Default: 100 ms doubled each time up to 10 s, any part of which
    /// may be drawn.
    pub backoff: Backoff,
    /// The longest wait that a server may ask for. One that asks for more is not called again: earlier it does not
    /// want to be, and later nobody waits. Default: 30 s.
    pub max_server_wait: Duration,
    /// How long an attempt waits for the service inside to become ready again. Default: 1 s, after which a pool that is
    /// still full is better left to others.
    pub ready_within: Duration,
    /// An attempt is not begun with less time than this left until the deadline. Zero, the default, begins if any is
    /// left: only you know how long the service takes at least.
    pub min_remaining: Duration,
    /// Whether a call that a layer further in refused is tried again. Only of use where another attempt may get to
    /// another endpoint, as above a balancer. Default: false.
    pub retry_refusals: bool,
}

impl RetryConfig {
    /// The defaults.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            max_attempts: 3,
            backoff: Backoff::exponential(Duration::from_millis(100)),
            max_server_wait: Duration::from_secs(30),
            ready_within: Duration::from_secs(1),
            min_remaining: Duration::ZERO,
            retry_refusals: false,
        }
    }

    /// Sets how many attempts are made at most.
    #[must_use]
    pub const fn max_attempts(mut self, attempts: u32) -> Self {
        self.max_attempts = attempts;
        self
    }

    /// Sets how long to wait before each further attempt.
    #[must_use]
    pub const fn backoff(mut self, backoff: Backoff) -> Self {
        self.backoff = backoff;
        self
    }

    /// Sets the longest wait that a server may ask for.
    #[must_use]
    pub const fn max_server_wait(mut self, wait: Duration) -> Self {
        self.max_server_wait = wait;
        self
    }

    /// Sets how long an attempt waits for the service inside to become ready.
    #[must_use]
    pub const fn ready_within(mut self, wait: Duration) -> Self {
        self.ready_within = wait;
        self
    }

    /// Sets the time that must be left for an attempt to begin.
    #[must_use]
    pub const fn min_remaining(mut self, remaining: Duration) -> Self {
        self.min_remaining = remaining;
        self
    }

    /// Sets whether refusals by layers further in are tried again.
    #[must_use]
    pub const fn retry_refusals(mut self, retry: bool) -> Self {
        self.retry_refusals = retry;
        self
    }
    /// Checks every field.
    ///
    /// # Errors
    ///
    /// The first field that is out of its range.
    pub fn validate(&self) -> Result<(), InvalidConfig> {
        const MOST: u32 = 1_000;
        if !(1..=MOST).contains(&self.max_attempts) {
            return Err(InvalidConfig::new("max_attempts", self.max_attempts, "a number from 1 to 1,000"));
        }
        self.backoff.validate()
    }
}

impl Default for RetryConfig {
    fn default() -> Self {
        Self::new()
    }
}
