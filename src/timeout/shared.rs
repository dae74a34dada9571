//! What all services, clones, handles and calls of one layer share.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::config::{Covers, Limit, MinRemaining, Scope, TimeoutConfig};
use crate::clock::{Clock, nanos};
use crate::config::{InvalidConfig, Live};
use crate::error::Rejected;
use crate::latency::Latencies;
use crate::sync::{AtomicU64, Mutex, Ordering, lock};
use crate::telemetry::{Event, Telemetry};

/// What is measured is what happened of late.
const WINDOW: Duration = Duration::from_secs(30);
/// With fewer, a high quantile is the accident of one call.
const MIN_SAMPLES: u32 = 100;

#[derive(Debug)]
pub(super) struct Shared {
    /// The limit and its scope, if that is all there is to the settings: most of the time. See [`Settings::plain`].
    plain: AtomicU64,
    settings: Live<Settings>,
    changing: Mutex<()>,
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
    fn new(config: TimeoutConfig, before: Option<&Self>) -> Self {
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
        Self { config, for_limit, for_min_remaining }
    }

    pub(super) fn measures(&self) -> bool {
        self.for_limit.is_some() || self.for_min_remaining.is_some()
    }
}

/// Of a limit that needs nothing but itself, in one word: the nanoseconds, and whether it is that of an attempt. The
/// other settings are read only if it is zero.
const IS_ATTEMPT: u64 = 1 << 63;

impl Settings {
    fn plain(&self) -> u64 {
        const PLAIN: TimeoutConfig = TimeoutConfig::new();
        let TimeoutConfig { limit, scope, .. } = self.config;
        let Limit::Fixed(fixed) = limit else { return 0 };
        if self.config != (TimeoutConfig { limit, scope, ..PLAIN }) {
            return 0;
        }
        let bit = if scope == Scope::Attempt { IS_ATTEMPT } else { 0 };
        // A limit of three hundred years finds no room.
        if nanos(fixed) < IS_ATTEMPT { nanos(fixed) | bit } else { 0 }
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
    /// `config` is valid.
    pub(super) fn new(config: TimeoutConfig, telemetry: Telemetry) -> Self {
        let settings = Settings::new(config, None);
        Self {
            plain: AtomicU64::new(settings.plain()),
            settings: Live::new(Arc::new(settings)),
            changing: Mutex::new(()),
            clock: Clock::start(),
            telemetry: Arc::new(telemetry),
        }
    }

    #[inline]
    pub(super) fn settings(&self) -> arc_swap::Guard<Arc<Settings>> {
        self.settings.read()
    }

    pub(super) fn reconfigure(&self, config: TimeoutConfig) -> Result<(), InvalidConfig> {
        config.validate()?;
        // Of two at a time one is first, in both places.
        let _changing = lock(&self.changing);
        let settings = Settings::new(config, Some(&self.settings()));
        // A call that begins in between goes by either.
        self.plain.store(settings.plain(), Ordering::Relaxed);
        self.settings.swap(Arc::new(settings));
        Ok(())
    }

    /// The scope and the limit, if that is all there is to the settings.
    #[inline]
    pub(super) fn plain(&self) -> Option<(Scope, u64)> {
        let plain = self.plain.load(Ordering::Relaxed);
        let scope = if plain & IS_ATTEMPT == 0 { Scope::Total } else { Scope::Attempt };
        (plain != 0).then_some((scope, plain & !IS_ATTEMPT))
    }

    /// The limit for a call at `now`, if the request asks for no other.
    #[inline]
    pub(super) fn limit(&self, settings: &Settings, now: Instant) -> Option<Duration> {
        let measured =
            settings.for_limit.as_ref().and_then(|latencies| latencies.quantile(self.clock.at(now)));
        settings.config.limit.given(measured)
    }

    /// How much time must be left for a call to be made, in nanoseconds.
    pub(super) fn needed(&self, settings: &Settings, now: Instant) -> u64 {
        let needed = match settings.config.min_remaining {
            MinRemaining::Fixed(needed) => Some(needed),
            MinRemaining::Measured(_) => settings
                .for_min_remaining
                .as_ref()
                .and_then(|latencies| latencies.quantile(self.clock.at(now))),
        };
        needed.map_or(0, nanos)
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
    ///
    /// It says that the limit is too short only if it had as much time as that (`had_limit`): others that were given up
    /// would lower the limit until it cuts off what they are mixed with, which then cannot show that it takes longer.
    /// How much time is needed at least, they do tell.
    pub(super) fn record(&self, settings: &Settings, latency: Duration, now: Instant, had_limit: bool) {
        let now = self.clock.at(now);
        let for_limit = settings.for_limit.as_ref().filter(|_| had_limit);
        for latencies in for_limit.into_iter().chain(&settings.for_min_remaining) {
            latencies.record(latency, now);
        }
    }

    pub(super) fn rejected(&self, rejected: &Rejected) {
        self.telemetry.emit(&Event::Rejected(rejected));
    }
}
