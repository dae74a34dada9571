//! What all services, clones, handles and calls of one layer share.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::config::{Covers, Limit, MinRemaining, TimeoutConfig};
use super::state::{Bound, bind};
use crate::clock::Clock;
use crate::config::{InvalidConfig, Live};
use crate::error::Rejected;
use crate::latency::Latencies;
use crate::telemetry::{Event, Telemetry};

/// What is measured is what happened of late.
const WINDOW: Duration = Duration::from_secs(30);
/// With fewer, a high quantile is the accident of one call.
const MIN_SAMPLES: u32 = 100;

#[derive(Debug)]
pub(super) struct Shared {
    settings: Live<Settings>,
    clock: Clock,
    pub(super) telemetry: Arc<Telemetry>,
}

/// The configuration with what it takes to follow it.
#[derive(Debug)]
pub(super) struct Settings {
    pub(super) config: TimeoutConfig,
    for_limit: Option<Arc<Latencies>>,
    for_min_remaining: Option<Arc<Latencies>>,
}

impl Settings {
    pub(super) fn new(config: TimeoutConfig, before: Option<&Self>) -> Result<Self, InvalidConfig> {
        config.validate()?;
        let measured = |quantile: Option<f64>, before: Option<(Option<f64>, &Option<Arc<Latencies>>)>| {
            // What was measured stays of use as long as the question is the same.
            let kept =
                before.filter(|(asked, _)| *asked == quantile).and_then(|(_, latencies)| latencies.clone());
            kept.or_else(|| quantile.map(|quantile| Arc::new(Latencies::new(quantile, WINDOW, MIN_SAMPLES))))
        };
        let for_limit = measured(
            config.limit.quantile(),
            before.map(|before| (before.config.limit.quantile(), &before.for_limit)),
        );
        let for_min_remaining = measured(
            config.min_remaining.quantile(),
            before.map(|before| (before.config.min_remaining.quantile(), &before.for_min_remaining)),
        );
        Ok(Self { config, for_limit, for_min_remaining })
    }

    pub(super) fn measures(&self) -> bool {
        self.for_limit.is_some() || self.for_min_remaining.is_some()
    }
}

impl Limit {
    const fn quantile(self) -> Option<f64> {
        match self {
            Self::Adaptive { quantile, .. } => Some(quantile),
            Self::Fixed(_) | Self::Deadline => None,
        }
    }
}

impl MinRemaining {
    const fn quantile(self) -> Option<f64> {
        match self {
            Self::Measured(quantile) => Some(quantile),
            Self::Fixed(_) => None,
        }
    }
}

impl Shared {
    pub(super) fn new(settings: &Arc<Settings>, telemetry: Telemetry) -> Self {
        Self {
            settings: Live::new(Arc::clone(settings)),
            clock: Clock::start(),
            telemetry: Arc::new(telemetry),
        }
    }

    #[inline]
    pub(super) fn settings(&self) -> arc_swap::Guard<Arc<Settings>> {
        self.settings.read()
    }

    pub(super) fn reconfigure(&self, config: TimeoutConfig) -> Result<(), InvalidConfig> {
        let settings = Settings::new(config, Some(&self.settings()))?;
        self.settings.swap(Arc::new(settings));
        Ok(())
    }

    /// The limit for a call at `now`, if the request asks for no other.
    #[inline]
    pub(super) fn limit(&self, settings: &Settings, now: Instant) -> Option<Duration> {
        let measured =
            settings.for_limit.as_ref().and_then(|latencies| latencies.quantile(self.clock.at(now)));
        settings.config.limit.given(measured)
    }

    /// What ends a call that is made at `now`.
    #[inline]
    pub(super) fn bind(
        &self,
        settings: &Settings,
        own: Option<Duration>,
        used: Duration,
        left: Option<Duration>,
        now: Instant,
    ) -> Result<Option<Bound>, Bound> {
        let needed = match settings.config.min_remaining {
            MinRemaining::Fixed(needed) => needed,
            MinRemaining::Measured(_) => settings
                .for_min_remaining
                .as_ref()
                .and_then(|latencies| latencies.quantile(self.clock.at(now)))
                .unwrap_or_default(),
        };
        bind(settings.config.scope, own, used, left, needed)
    }

    /// Whether a call has to come back here when it has ended.
    #[inline]
    pub(super) fn wants_ends(&self, settings: &Settings) -> bool {
        let Settings { config, .. } = settings;
        settings.measures()
            || config.idle.is_some()
            || config.covers == Covers::Body
            || self.telemetry.is_observed()
    }

    /// Takes note of how long a call took, or was waited for.
    pub(super) fn ended(&self, latency: Duration, now: Instant) {
        let (settings, now) = (self.settings(), self.clock.at(now));
        for latencies in [&settings.for_limit, &settings.for_min_remaining].into_iter().flatten() {
            latencies.record(latency, now);
        }
    }

    /// The rejection of a call that is not made.
    #[cold]
    pub(super) fn refuse(&self, bound: Bound) -> Rejected {
        let rejected = Rejected::timeout(bound.reason, self.telemetry.name(), bound.limit, false);
        self.rejected(&rejected);
        rejected
    }

    pub(super) fn rejected(&self, rejected: &Rejected) {
        self.telemetry.emit(&Event::Rejected(rejected));
    }
}
