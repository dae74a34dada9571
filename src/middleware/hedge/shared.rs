//! The state that all services, clones, handles and calls of one layer share.

use std::sync::Arc;
use std::time::Duration;

use super::config::{HedgeConfig, HedgeDelay};
use super::pace::Pace;
use super::state::{Facts, Means, Plan};
use crate::base::clock::{Clock, Timestamp};
use crate::classify::Outcome;
use crate::config::{InvalidConfig, Live};
use crate::deadline::Deadline;
use crate::primitives::budget::{Budget, Cost};
use crate::primitives::latency::Latencies;
use crate::protocol::Attempt;
use crate::telemetry::{Action, CallOutcome, Event, Telemetry};

#[derive(Debug)]
pub(super) struct Shared {
    settings: Live<Settings>,
    pub(super) clock: Clock,
    pub(super) budget: Budget,
    pub(super) telemetry: Telemetry,
}

#[derive(Debug)]
struct Settings {
    config: HedgeConfig,
    /// The latencies of the originals; `None` for a fixed delay.
    originals: Option<Arc<Originals>>,
}

/// The measured latencies of the originals.
#[derive(Debug)]
pub(super) struct Originals {
    latencies: Latencies,
    pace: Pace,
}

impl Settings {
    fn new(config: HedgeConfig) -> Self {
        let originals = match config.delay {
            HedgeDelay::Quantile { quantile, .. } => {
                let latencies = Latencies::new(quantile, config.window, config.min_samples);
                Some(Arc::new(Originals { latencies, pace: Pace::new() }))
            }
            HedgeDelay::Fixed(_) => None,
        };
        Self { config, originals }
    }

    /// Returns settings for `config`, which keep the latencies if those are measured in the same
    /// way.
    fn replaced_by(&self, config: HedgeConfig) -> Self {
        let Self { config: old, originals } = self;
        let is_same = match (old.delay, config.delay) {
            (HedgeDelay::Quantile { quantile: old, .. }, HedgeDelay::Quantile { quantile, .. }) => {
                old == quantile
            }
            _ => false,
        };
        if is_same && old.window == config.window && old.min_samples == config.min_samples {
            Self { config, originals: originals.clone() }
        } else {
            Self::new(config)
        }
    }

    /// Returns the current delay, or `None` if no call is hedged.
    fn delay(&self, now: Timestamp) -> Option<Duration> {
        match self.config.delay {
            HedgeDelay::Fixed(delay) => Some(delay),
            HedgeDelay::Quantile { min, max, .. } => {
                let Originals { latencies, pace } = self.originals.as_deref()?;
                let delay = latencies.quantile(now)?.max(min);
                (delay < max && !pace.is_slow(self.config.max_slowdown)).then_some(delay)
            }
        }
    }
}

impl Shared {
    pub(super) fn new(config: HedgeConfig, budget: Budget, telemetry: Telemetry) -> Self {
        let settings = Live::new(Arc::new(Settings::new(config)));
        Self { settings, clock: Clock::start(), budget, telemetry }
    }

    pub(super) fn config(&self) -> HedgeConfig {
        self.settings.read().config.clone()
    }

    pub(super) fn reconfigure(&self, config: HedgeConfig) -> Result<(), InvalidConfig> {
        config.validate()?;
        self.settings.update(move |settings| settings.replaced_by(config.clone()));
        Ok(())
    }

    pub(super) fn delay(&self) -> Option<Duration> {
        self.settings.read().delay(self.clock.now())
    }

    /// Records the start of a call. Returns the plan for its copies, if it may be hedged, and its
    /// stopwatch.
    #[inline]
    pub(super) fn begin(self: &Arc<Self>, attempt: Attempt) -> (Option<Plan>, Stopwatch) {
        let is_copy = attempt.hedge > 0;
        if !is_copy && attempt.number <= 1 {
            self.budget.deposit();
        }
        let settings = self.settings.read();
        let start = if settings.originals.is_some() { self.clock.now() } else { Timestamp::NEVER };
        let max_hedges = if is_copy { 0 } else { settings.config.max_hedges };
        let delay = if max_hedges > 0 { settings.delay(start) } else { None };
        let plan = delay.map(|delay| Plan { delay, max_hedges });
        (plan, Stopwatch { shared: Arc::clone(self), start, late_after: delay })
    }

    #[cfg(all(test, not(stanchion_loom)))]
    pub(super) fn originals(&self) -> Option<Arc<Originals>> {
        self.settings.read().originals.clone()
    }

    fn record(&self, latency: Duration, now: Timestamp) {
        if let Some(originals) = &self.settings.read().originals {
            originals.latencies.record(latency, now);
            originals.pace.record(latency);
        }
    }

    /// Records the end of an attempt.
    #[inline]
    pub(super) fn ended(&self, number: u32, outcome: Outcome) {
        self.attempted(number, outcome.class.into());
    }

    /// Records an attempt that lost to another one.
    pub(super) fn superseded(&self, number: u32) {
        self.attempted(number, CallOutcome::Cancelled);
    }

    #[inline]
    fn attempted(&self, number: u32, outcome: CallOutcome) {
        if self.telemetry.wants_calls() {
            self.telemetry.emit(&Event::Attempt { number, outcome });
        }
    }

    /// Returns the end of the wait for the service's readiness for a copy that is due, or the
    /// reason why it cannot be sent.
    pub(super) fn may_send(&self, facts: Facts, is_replayable: bool) -> Result<Timestamp, Action> {
        let (min_remaining, ready_within) = {
            let config = &self.settings.read().config;
            (config.min_remaining, config.ready_within)
        };
        let remaining = facts.deadline.map(Deadline::remaining);
        let can_pay = || {
            let can_pay = self.budget.can_pay(Cost::Retry);
            if !can_pay {
                self.telemetry.emit_budget(&self.budget);
            }
            can_pay
        };
        match (Means { is_replayable, remaining, min_remaining, can_pay }).hindrance(facts) {
            Some(action) => Err(action),
            None => {
                let left =
                    remaining.map_or(Duration::MAX, |remaining| remaining.saturating_sub(min_remaining));
                Ok(self.clock.now().after(ready_within.min(left)))
            }
        }
    }

    /// Withdraws the cost of a copy that is about to be sent. Returns `false` if the budget is
    /// spent.
    pub(super) fn pay(&self) -> bool {
        let is_paid = self.budget.withdraw();
        self.telemetry.emit_budget(&self.budget);
        is_paid
    }
}

/// The stopwatch of an original whose latency is measured.
///
/// If it is dropped while it runs, it records the time so far if that is longer than the delay. A
/// call that was given up because it was late counts as late: otherwise the quantile would fall
/// until it was that of the fast calls only.
#[derive(Debug)]
pub(super) struct Stopwatch {
    pub(super) shared: Arc<Shared>,
    /// The start of the original, or [`Timestamp::NEVER`] if it is not measured.
    start: Timestamp,
    late_after: Option<Duration>,
}

impl Stopwatch {
    /// Returns the start of the original, or the current time if it is not measured.
    pub(super) fn start(&self) -> Timestamp {
        if self.start == Timestamp::NEVER { self.shared.clock.now() } else { self.start }
    }

    /// Records the latency: the original has ended, or another attempt was faster.
    #[inline]
    pub(super) fn stop(&mut self) {
        self.stop_after(Duration::ZERO);
    }

    /// Discards the latency, because it says nothing about the service.
    pub(super) const fn forget(&mut self) {
        self.start = Timestamp::NEVER;
    }

    #[inline]
    fn stop_after(&mut self, least: Duration) {
        if self.start == Timestamp::NEVER {
            return;
        }
        let now = self.shared.clock.now();
        let latency = now.since(self.start);
        if latency >= least {
            self.shared.record(latency, now);
        }
        self.forget();
    }
}

impl Drop for Stopwatch {
    #[inline]
    fn drop(&mut self) {
        if let Some(late) = self.late_after {
            self.stop_after(late);
        }
    }
}
