use super::{Algorithm, MAX_FAILURE_RATIO, Next, Sample, float, in_range, is_failure_ratio, shrunk};
use crate::config::InvalidConfig;

/// Compares the latency of a window with its average over a long time, after Netflix's `Gradient2Limit`.
///
/// Netflix's version grows without bound under a long overload, since the average follows the latency, and takes no
/// notice of failures. This one adds to the limit only where the latency calls for no less, and gives way to failures.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Gradient2 {
    /// How many times the average the latency may be before the limit is lowered; 1 to 10. Default: 1.5.
    pub tolerance: f64,
    /// By how many calls the limit wants to grow in a window; 0 to 1000. Default: 4.
    pub queue: f64,
    /// How much of a window's verdict is taken over; above 0, at most 1. Default: 0.2.
    pub smoothing: f64,
    /// How many windows the average reaches back; 1 to 100,000. Default: 600.
    pub long_window: u32,
    /// The limit is lowered by a tenth after a window in which a larger share of calls failed; 0 to 1. Default: 0.1.
    pub max_failure_ratio: f64,
    average: Average,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Average {
    value: f64,
    windows: u32,
}

impl Average {
    fn add(&mut self, latency: f64, long_window: u32) {
        const WARMUP: u32 = 10;
        self.windows = self.windows.saturating_add(1);
        let weight = if self.windows <= WARMUP {
            1.0 / f64::from(self.windows)
        } else {
            2.0 / (f64::from(long_window) + 1.0)
        };
        self.value += (latency - self.value) * weight;
    }
}

impl Gradient2 {
    /// The defaults.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            tolerance: 1.5,
            queue: 4.0,
            smoothing: 0.2,
            long_window: 600,
            max_failure_ratio: MAX_FAILURE_RATIO,
            average: Average { value: 0.0, windows: 0 },
        }
    }

    /// Sets how many times the average the latency may be.
    #[must_use]
    pub const fn tolerance(mut self, tolerance: f64) -> Self {
        self.tolerance = tolerance;
        self
    }

    /// Sets by how many calls the limit wants to grow.
    #[must_use]
    pub const fn queue(mut self, calls: f64) -> Self {
        self.queue = calls;
        self
    }

    /// Sets how much of a window's verdict is taken over.
    #[must_use]
    pub const fn smoothing(mut self, share: f64) -> Self {
        self.smoothing = share;
        self
    }

    /// Sets how many windows the average reaches back.
    #[must_use]
    pub const fn long_window(mut self, windows: u32) -> Self {
        self.long_window = windows;
        self
    }

    /// Sets above which share of failures the limit is lowered by a tenth.
    #[must_use]
    pub const fn max_failure_ratio(mut self, ratio: f64) -> Self {
        self.max_failure_ratio = ratio;
        self
    }
}

impl Default for Gradient2 {
    fn default() -> Self {
        Self::new()
    }
}

impl Algorithm for Gradient2 {
    fn next(&mut self, limit: f64, sample: &Sample) -> Next {
        if let Some(latency) = sample.latency {
            self.average.add(float(latency), self.long_window);
        }
        if sample.failure_ratio() > self.max_failure_ratio {
            return Next::limit(shrunk(limit));
        }
        let Some(latency) = sample.latency.map(float) else { return Next::limit(limit) };
        // What is left of a time when the service was slow is forgotten sooner.
        if self.average.value > 2.0 * latency {
            self.average.value *= 0.95;
        }
        if sample.is_app_limited(limit) {
            return Next::limit(limit);
        }
        let gradient = (self.tolerance * self.average.value / latency).clamp(0.5, 1.0);
        let queue = if gradient < 1.0 { 0.0 } else { self.queue };
        Next::limit(limit + (limit * gradient + queue - limit) * self.smoothing)
    }

    fn validate(&self) -> Result<(), InvalidConfig> {
        in_range("tolerance", self.tolerance, 1.0..=10.0, "a number from 1 to 10")?;
        in_range("queue", self.queue, 0.0..=1_000.0, "a number from 0 to 1,000")?;
        crate::config::Ratio::new("smoothing", self.smoothing)?;
        if !(1..=100_000).contains(&self.long_window) {
            return Err(InvalidConfig::new("long_window", self.long_window, "a number from 1 to 100,000"));
        }
        is_failure_ratio(self.max_failure_ratio)
    }
}
