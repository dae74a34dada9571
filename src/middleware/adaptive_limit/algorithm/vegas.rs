use super::{Algorithm, MAX_FAILURE_RATIO, Next, Sample, float, is_failure_ratio};
use crate::config::InvalidConfig;

/// Keeps the estimated queue between two bounds, as TCP Vegas does, after Netflix's `VegasLimit` over windows.
///
/// The latency without a queue is the least of some time, at whatever limit there was, so under a long overload it
/// takes some of the queue for the service.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Vegas {
    /// After so many windows for each one of the limit, or down to half as many, the least latency is forgotten; 1 to
    /// 100,000. Default: 30, as Netflix has it.
    pub probe_after: u32,
    /// The limit is lowered after a window in which a larger share of calls failed; 0 to 1. Default: 0.1.
    pub max_failure_ratio: f64,
    least: Option<f64>,
    windows: u32,
    /// Of `probe_after`, 0.5 to 1; drawn anew each time, so that instances do not forget in step.
    jitter: f64,
}

impl Vegas {
    /// The defaults.
    #[must_use]
    pub const fn new() -> Self {
        Self { probe_after: 30, max_failure_ratio: MAX_FAILURE_RATIO, least: None, windows: 0, jitter: 1.0 }
    }

    /// Sets after how many windows for each one of the limit the least latency is forgotten.
    #[must_use]
    pub const fn probe_after(mut self, windows: u32) -> Self {
        self.probe_after = windows;
        self
    }

    /// Sets above which share of failures the limit is lowered.
    #[must_use]
    pub const fn max_failure_ratio(mut self, ratio: f64) -> Self {
        self.max_failure_ratio = ratio;
        self
    }

    /// The least latency, with that of this window.
    fn least(&mut self, limit: f64, latency: f64) -> f64 {
        self.windows = self.windows.saturating_add(1);
        let is_due = f64::from(self.windows) >= self.jitter * f64::from(self.probe_after) * limit;
        if is_due {
            self.windows = 0;
            self.jitter = 0.5 + 0.5 * fastrand::f64();
        }
        let least = self.least.filter(|_| !is_due).map_or(latency, |least| least.min(latency));
        self.least = Some(least);
        least
    }
}

impl Default for Vegas {
    fn default() -> Self {
        Self::new()
    }
}

impl Algorithm for Vegas {
    fn next(&mut self, limit: f64, sample: &Sample) -> Next {
        let step = limit.log10().floor().max(1.0);
        let latency = sample.latency.map(float);
        let least = latency.map(|latency| self.least(limit, latency));
        if sample.failure_ratio() > self.max_failure_ratio {
            return Next::limit(limit - step);
        }
        let (Some(latency), Some(least)) = (latency, least) else { return Next::limit(limit) };
        if sample.is_app_limited(limit) {
            return Next::limit(limit);
        }
        let queue = (limit * (1.0 - least / latency)).ceil();
        Next::limit(if queue <= step {
            limit + 6.0 * step
        } else if queue < 3.0 * step {
            limit + step
        } else if queue > 6.0 * step {
            limit - step
        } else {
            limit
        })
    }

    fn validate(&self) -> Result<(), InvalidConfig> {
        if !(1..=100_000).contains(&self.probe_after) {
            return Err(InvalidConfig::new("probe_after", self.probe_after, "a number from 1 to 100,000"));
        }
        is_failure_ratio(self.max_failure_ratio)
    }
}
