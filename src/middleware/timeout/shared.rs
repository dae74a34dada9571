//! What all services, clones, handles and calls of one layer share.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::config::{Covers, Limit, Scope, TimeoutConfig};
use crate::base::clock::{Clock, nanos};
use crate::base::sync::{AtomicU64, Mutex, Ordering, lock};
use crate::config::{InvalidConfig, Live};
use crate::error::Rejected;
use crate::primitives::latency::{Latencies, Needed};
use crate::telemetry::{Event, Telemetry};

/// What is measured is what happened of late.
const WINDOW: Duration = Duration::from_secs(30);

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
    for_min_remaining: Needed,
}

impl Settings {
    fn new(config: TimeoutConfig, before: Option<&Self>) -> Self {
        let asked = config.limit.quantile();
        // What was measured stays of use as long as the question is the same.
        let kept = before
            .filter(|before| before.config.limit.quantile() == asked)
            .and_then(|before| before.for_limit.clone());
        let new = |quantile| Arc::new(Latencies::new(quantile, WINDOW, Needed::MIN_SAMPLES));
        let for_limit = kept.or_else(|| asked.map(new));
        let before = before.map(|before| &before.for_min_remaining);
        let for_min_remaining = Needed::new(config.min_remaining, WINDOW, before);
        Self { config, for_limit, for_min_remaining }
    }

    pub(super) fn measures(&self) -> bool {
        self.for_limit.is_some() || self.for_min_remaining.is_measured()
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
        settings.for_min_remaining.at(self.clock.at(now))
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
        if let Some(for_limit) = settings.for_limit.as_ref().filter(|_| had_limit) {
            for_limit.record(latency, now);
        }
        settings.for_min_remaining.record(latency, now);
    }

    pub(super) fn rejected(&self, rejected: &Rejected) {
        self.telemetry.emit(&Event::Rejected(rejected));
    }
}
