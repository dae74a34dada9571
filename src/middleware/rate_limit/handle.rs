use std::fmt;
use std::hash::Hash;
use std::sync::Arc;

use super::config::RateLimitConfig;
use super::shared::Shared;
use crate::config::InvalidConfig;
use crate::error::Rejected;

/// Looks at a [rate limit](super), changes it, and limits what is no service.
#[derive(Clone)]
pub struct RateLimitHandle {
    shared: Arc<Shared>,
}

impl RateLimitHandle {
    pub(super) const fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// The configuration in use.
    #[must_use]
    pub fn config(&self) -> RateLimitConfig {
        self.shared.config()
    }

    /// Changes the configuration, for calls that begin from now on. Calls that wait keep the time that they were given, and no
    /// later call begins before them. What was used of the quota stays used, counted in calls; what exceeds a whole burst of
    /// the new quota comes back at the rate of the old one, and until it has, no call begins.
    ///
    /// So between any two moments the calls that begin cost at most `burst + rate * T`, with the largest burst and the highest
    /// rate of the quotas that were in force from when the first of them asked until the last begins. The same quota again
    /// changes nothing.
    ///
    /// # Errors
    ///
    /// If `config` is not valid; then the old one stays.
    pub fn reconfigure(&self, config: impl Into<RateLimitConfig>) -> Result<(), InvalidConfig> {
        self.shared.reconfigure(config.into())
    }

    /// Takes `cost` of the quota: for a message, a row, anything that is no service. Never waits.
    ///
    /// # Errors
    ///
    /// If there is not so much of it now; then none was taken.
    ///
    /// ```
    /// use stanchion::RateLimitLayer;
    /// use stanchion::rate_limit::Quota;
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() {
    /// let rows = RateLimitLayer::new(Quota::per_second(1_000)).name("rows").handle();
    /// assert!(rows.try_take(900).is_ok());
    /// assert_eq!(rows.available(), 100);
    /// let rejected = rows.try_take(300).unwrap_err();
    /// tokio::time::advance(rejected.retry_after().unwrap()).await;
    /// assert!(rows.try_take(300).is_ok());
    /// # }
    /// ```
    pub fn try_take(&self, cost: u32) -> Result<(), Rejected> {
        self.try_take_for(&(), cost)
    }

    /// The same of the quota of a key, which has to be of the type that the layer's keys have.
    ///
    /// # Errors
    ///
    /// If there is not so much of it now; then none was taken.
    pub fn try_take_for(&self, key: &impl Hash, cost: u32) -> Result<(), Rejected> {
        if cost == 0 {
            return Ok(());
        }
        match self.shared.take(self.shared.ask(key, cost), 0) {
            Ok(_) => Ok(()),
            Err(refusal) => Err(self.shared.refused(refusal).into()),
        }
    }

    /// What is left of the quota now: a call of this cost would be let through. Takes none.
    #[must_use]
    pub fn available(&self) -> u32 {
        self.available_for(&())
    }

    /// The same of the quota of a key.
    #[must_use]
    pub fn available_for(&self, key: &impl Hash) -> u32 {
        self.shared.available(key)
    }

    /// How many keys are held, with those that are idle and not forgotten yet.
    #[must_use]
    pub fn keys(&self) -> usize {
        self.shared.keys()
    }
}

impl fmt::Debug for RateLimitHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RateLimitHandle")
            .field("name", &self.shared.telemetry.name())
            .field("config", &self.config())
            .field("keys", &self.keys())
            .finish_non_exhaustive()
    }
}
