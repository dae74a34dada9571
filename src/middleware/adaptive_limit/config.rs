use std::time::Duration;

use super::algorithm::{Algorithm, Gradient};
use crate::config::InvalidConfig;
use crate::middleware::admission::AdmissionConfig;
use crate::middleware::admission::config::admission_setters;

/// In which range an adaptive limit stays, how it is found, and how much is looked at before it changes: see [adaptive
/// limits](super).
///
/// Plain data: every field can be set directly or by the method of the same name, and all are checked when a
/// layer is made of it or a running one is given it.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct AdaptiveLimitConfig<A = Gradient> {
    /// The limit to begin with; within the other two. Default: 20. It is a guess: a service that needs more gets four times
    /// as many in each window, until calls wait or the limit is not reached.
    pub initial_limit: u32,
    /// The least limit; at least 1. Default: 1, since a service that works on one call at a time can only be told from one that
    /// works on three if it is measured with one. Set 3 or more if failures alone must
    /// not bring the limit down to a single call.
    pub min_limit: u32,
    /// The greatest limit; at least `min_limit`, at most 1,000,000. Default: 1000.
    pub max_limit: u32,
    /// How long a window is at least; 10 ms to 60 s. Default: 250 ms. In 100 ms there are too few calls to tell load
    /// from chance, and in 500 ms a service that becomes five times slower is full of calls that nobody waits for any
    /// more. A window lasts twice as long as calls take if that is longer, up to 60 s: sooner, the last change does
    /// not show yet.
    pub window: Duration,
    /// How many calls a window holds at least; 1 to 100,000. Default: 50. After four times `window`, and one and a half times as
    /// long as calls take, 16 are enough, so that a slow service is judged as well.
    pub min_calls: u32,
    /// How the limit is found. Default: [`Gradient`].
    pub algorithm: A,
    /// Whom it lets in, and who waits.
    pub admission: AdmissionConfig,
}

impl AdaptiveLimitConfig {
    /// The defaults.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            initial_limit: 20,
            min_limit: 1,
            max_limit: 1_000,
            window: Duration::from_millis(250),
            min_calls: 50,
            algorithm: Gradient::new(),
            admission: AdmissionConfig::new(),
        }
    }
}

impl<A> AdaptiveLimitConfig<A> {
    /// Sets how the limit is found.
    #[must_use]
    pub fn algorithm<B>(self, algorithm: B) -> AdaptiveLimitConfig<B> {
        let Self { initial_limit, min_limit, max_limit, window, min_calls, admission, .. } = self;
        AdaptiveLimitConfig { initial_limit, min_limit, max_limit, window, min_calls, algorithm, admission }
    }

    admission_setters!();

    /// Sets the limit to begin with.
    #[must_use]
    pub const fn initial_limit(mut self, limit: u32) -> Self {
        self.initial_limit = limit;
        self
    }

    /// Sets the least limit.
    #[must_use]
    pub const fn min_limit(mut self, limit: u32) -> Self {
        self.min_limit = limit;
        self
    }

    /// Sets the greatest limit.
    #[must_use]
    pub const fn max_limit(mut self, limit: u32) -> Self {
        self.max_limit = limit;
        self
    }

    /// Sets how long a window is at least.
    #[must_use]
    pub const fn window(mut self, window: Duration) -> Self {
        self.window = window;
        self
    }

    /// Sets how many calls a window holds at least.
    #[must_use]
    pub const fn min_calls(mut self, calls: u32) -> Self {
        self.min_calls = calls;
        self
    }
}

impl<A: Algorithm> AdaptiveLimitConfig<A> {
    /// Checks every field.
    ///
    /// # Errors
    ///
    /// The first field that is out of its range.
    pub fn validate(&self) -> Result<(), InvalidConfig> {
        const MOST: u32 = 1_000_000;
        const SHORTEST: Duration = Duration::from_millis(10);
        const LONGEST: Duration = Duration::from_secs(60);
        if self.min_limit == 0 {
            return Err(InvalidConfig::new("min_limit", self.min_limit, "at least 1"));
        }
        if !(self.min_limit..=MOST).contains(&self.max_limit) {
            return Err(InvalidConfig::new(
                "max_limit",
                self.max_limit,
                "a number from `min_limit` to 1,000,000",
            ));
        }
        if !(self.min_limit..=self.max_limit).contains(&self.initial_limit) {
            return Err(InvalidConfig::new(
                "initial_limit",
                self.initial_limit,
                "a number from `min_limit` to `max_limit`",
            ));
        }
        if !(SHORTEST..=LONGEST).contains(&self.window) {
            return Err(InvalidConfig::new("window", self.window, "a duration from 10 ms to 60 s"));
        }
        if !(1..=100_000).contains(&self.min_calls) {
            return Err(InvalidConfig::new("min_calls", self.min_calls, "a number from 1 to 100,000"));
        }
        self.algorithm.validate()?;
        self.admission.validate()
    }
}

impl Default for AdaptiveLimitConfig {
    fn default() -> Self {
        Self::new()
    }
}
