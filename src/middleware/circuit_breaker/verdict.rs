//! Whether what a window holds is reason to open.

#![warn(clippy::arithmetic_side_effects, reason = "what is configured may be as large as it likes")]

use super::config::Settings;
use super::transition::Cause;
use crate::config::{Ratio, share};
use crate::primitives::window::Counts;

/// What is judged: the calls that have ended, and those that should have.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Evidence {
    pub(super) counts: Counts,
    /// Calls in flight for longer than the slow limit. They count as slow, but not as calls that did not fail:
    /// they must not thin out those that did.
    pub(super) overdue: u64,
}

impl Evidence {
    const fn started(self) -> u64 {
        self.counts.calls.saturating_add(self.overdue)
    }

    const fn slow(self) -> u64 {
        self.counts.slow.saturating_add(self.overdue)
    }

    /// The share of failed calls, if at least `min_calls` can be judged.
    pub(super) fn failure_ratio(self, min_calls: u64) -> Option<f64> {
        share(self.counts.failures, self.counts.calls).filter(|_| self.counts.calls >= min_calls)
    }

    /// The share of slow calls, if at least `min_calls` can be judged.
    pub(super) fn slow_ratio(self, min_calls: u64) -> Option<f64> {
        share(self.slow(), self.started()).filter(|_| self.started() >= min_calls)
    }

    /// The first ratio that has reached its threshold over at least `min_calls` calls.
    #[inline]
    pub(super) fn judge(self, settings: &Settings, min_calls: u64) -> Option<Cause> {
        self.first_broken(settings, min_calls, |threshold, measured, _| measured >= threshold.get())
    }

    /// The first ratio that is above its threshold by more than chance explains, however few the calls.
    ///
    /// For a circuit that is recovering. There, every verdict counts, and with the plain rule the first few
    /// unlucky calls of a service that fails a little less often than allowed would open it again and again.
    /// Three standard deviations of the binomial distribution are asked for, from the fifth call on.
    pub(super) fn judge_surely(self, settings: &Settings) -> Option<Cause> {
        const FEWEST: u64 = 5;
        const DEVIATIONS: f64 = 3.0;
        self.first_broken(settings, FEWEST, |threshold, measured, calls| {
            let threshold = threshold.get();
            let deviation = (threshold * (1.0 - threshold) / calls).sqrt();
            // A threshold near 1 can't be exceeded by three deviations: there, all calls must be bad.
            measured >= (threshold + DEVIATIONS * deviation).min(1.0)
        })
    }

    #[inline]
    fn first_broken(
        self,
        settings: &Settings,
        min_calls: u64,
        is_broken: impl Fn(Ratio, f64, f64) -> bool,
    ) -> Option<Cause> {
        let broken = |threshold: Option<Ratio>, measured: Option<f64>, calls: u64| {
            threshold
                .zip(measured)
                .filter(|(threshold, measured)| is_broken(*threshold, *measured, to_f64(calls)))
        };
        let calls = self.counts.calls;
        if let Some((threshold, measured)) =
            broken(settings.failure_ratio, self.failure_ratio(min_calls), calls)
        {
            return Some(Cause::FailureRatio { measured, threshold: threshold.get(), calls });
        }
        let calls = self.started();
        let (threshold, measured) = broken(settings.slow_ratio, self.slow_ratio(min_calls), calls)?;
        Some(Cause::SlowRatio {
            measured,
            threshold: threshold.get(),
            calls,
            in_flight: self.overdue,
            slow_after: settings.slow_after.unwrap_or_default(),
        })
    }
}

#[allow(clippy::cast_precision_loss, reason = "counts stay far below 2^53")]
fn to_f64(count: u64) -> f64 {
    count as f64
}
