//! What a window says about the service.

use super::Sample;

/// The calls in a window of full weight.
const FULL_WEIGHT: f64 = 100.0;
/// What calls are like while none waits for another.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Usual {
    /// The mean, in seconds.
    pub(super) latency: f64,
    pub(super) failure_ratio: f64,
    /// It was found with no more than half of the capacity in flight.
    pub(super) is_sure: bool,
}

impl Usual {
    pub(super) fn of(sample: &Sample) -> Option<Self> {
        let failure_ratio = sample.failure_ratio();
        let latency = sample.mean?.as_secs_f64().max(1e-9);
        Some(Self { latency, failure_ratio, is_sure: false })
    }

    /// By a measurement after another.
    pub(super) fn is_no_better_than(&self, last: &Self) -> bool {
        const BETTER: f64 = 0.75;
        self.latency >= last.latency * BETTER && self.failure_ratio >= last.failure_ratio * BETTER
    }

    pub(super) fn towards(self, seen: &Self, weight: f64) -> Self {
        Self {
            latency: self.latency + (seen.latency - self.latency) * weight,
            failure_ratio: self.failure_ratio + (seen.failure_ratio - self.failure_ratio) * weight,
            is_sure: self.is_sure,
        }
    }
}

/// Returns `true` if calls were rejected, or nearly: those of normal criticality are at 0.8 of the limit, where some of it is kept
/// for critical ones.
pub(super) fn is_reached(limit: f64, sample: &Sample) -> bool {
    const NEARLY: f64 = 0.8;
    f64::from(sample.in_flight) >= (limit * NEARLY).floor()
}

/// Returns `true` if the limit was reached, and this share of it was in flight on average.
pub(super) fn is_bound(limit: f64, sample: &Sample, share: f64) -> bool {
    is_reached(limit, sample) && sample.concurrency() >= limit * share
}

pub(super) fn weight(sample: &Sample) -> f64 {
    (super::count(sample.calls) / FULL_WEIGHT).min(1.0)
}
