use std::time::Duration;

use super::{Algorithm, MAX_FAILURE_RATIO, Next, Sample, is_failure_ratio, shrunk};
use crate::config::InvalidConfig;

/// One more after each good window, a tenth less after each bad one: additive increase, multiplicative decrease, after
/// Netflix's `AIMDLimit`.
///
/// It knows nothing of what is usual, so `max_latency` has to be right. Take it where a service has a latency that is
/// agreed upon.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Aimd {
    /// A window whose median is above this is a bad one; above 0. Default: 5 s, as Netflix has it, which is too long
    /// for most services.
    pub max_latency: Duration,
    /// A window in which a larger share of calls failed is a bad one; 0 to 1. Default: 0.1.
    pub max_failure_ratio: f64,
}

impl Aimd {
    /// The defaults.
    #[must_use]
    pub const fn new() -> Self {
        Self { max_latency: Duration::from_secs(5), max_failure_ratio: MAX_FAILURE_RATIO }
    }

    /// Sets above which median a window is a bad one.
    #[must_use]
    pub const fn max_latency(mut self, latency: Duration) -> Self {
        self.max_latency = latency;
        self
    }

    /// Sets above which share of failures a window is a bad one.
    #[must_use]
    pub const fn max_failure_ratio(mut self, ratio: f64) -> Self {
        self.max_failure_ratio = ratio;
        self
    }
}

impl Default for Aimd {
    fn default() -> Self {
        Self::new()
    }
}

impl Algorithm for Aimd {
    fn next(&mut self, limit: f64, sample: &Sample) -> Next {
        let fails = sample.failure_ratio() > self.max_failure_ratio;
        Next::limit(if fails || sample.latency > Some(self.max_latency) {
            shrunk(limit)
        } else if !sample.is_app_limited(limit) && sample.latency.is_some() {
            limit + 1.0
        } else {
            limit
        })
    }

    fn validate(&self) -> Result<(), InvalidConfig> {
        if self.max_latency.is_zero() {
            return Err(InvalidConfig::new("max_latency", self.max_latency, "a duration above zero"));
        }
        is_failure_ratio(self.max_failure_ratio)
    }
}
