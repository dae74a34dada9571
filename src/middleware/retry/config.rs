use std::time::Duration;

use crate::config::InvalidConfig;
use crate::primitives::backoff::Backoff;

/// The configuration of a [retry](super): the number of attempts, and the waits between them.
///
/// The defaults cover a momentary failure and no more: two more attempts within a few hundred
/// milliseconds. The protection against many callers that make an outage worse is not here, but in
/// the [`Budget`](crate::Budget) that every layer has.
///
/// Plain data: every field can be set directly or by the method of the same name. All fields are
/// checked when a layer is created or reconfigured.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct RetryConfig {
    /// The maximum number of attempts, including the first; 1 to 1,000. With 1, nothing is retried.
    /// Default: 3, since a failure that outlasts two retries is not momentary.
    pub max_attempts: u32,
    /// The wait before each retry. Default: 100 ms, doubled each time up to 10 s, with full jitter.
    pub backoff: Backoff,
    /// The longest wait that a server may ask for. If it asks for more, the call is not retried: an
    /// earlier retry is unwanted, and by then the caller has gone. Default: 30 s.
    pub max_server_wait: Duration,
    /// The longest time that a retry waits for the inner service to become ready again. Default: 1
    /// s. A pool that is still full after that should be left to other calls.
    pub ready_within: Duration,
    /// The time that must be left until the deadline to start a retry. Default: zero, so any time
    /// is enough, because the shortest useful time depends on the service.
    pub min_remaining: Duration,
    /// `true` to retry calls that an inner layer rejected. This only helps if a retry may reach
    /// another endpoint, as above a balancer. Default: `false`.
    pub retry_refusals: bool,
}

impl RetryConfig {
    /// Returns the default configuration.
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

    /// Sets the maximum number of attempts.
    #[must_use]
    pub const fn max_attempts(mut self, attempts: u32) -> Self {
        self.max_attempts = attempts;
        self
    }

    /// Sets the wait before each retry.
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

    /// Sets the longest time that a retry waits for the inner service to become ready.
    #[must_use]
    pub const fn ready_within(mut self, wait: Duration) -> Self {
        self.ready_within = wait;
        self
    }

    /// Sets the time that must be left until the deadline to start a retry.
    #[must_use]
    pub const fn min_remaining(mut self, remaining: Duration) -> Self {
        self.min_remaining = remaining;
        self
    }

    /// Sets whether calls that an inner layer rejected are retried.
    #[must_use]
    pub const fn retry_refusals(mut self, retry: bool) -> Self {
        self.retry_refusals = retry;
        self
    }
    /// Checks every field.
    ///
    /// # Errors
    ///
    /// Returns the first field that is out of its range.
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
