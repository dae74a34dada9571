//! The state that all services, clones, handles and calls of one layer share.

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

/// The period over which latencies are measured.
const WINDOW: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub(super) struct Shared {
    /// The limit and its scope in one word, if the settings have nothing else. That is the usual
    /// case, and saves a lock. See [`Settings::plain`].
    plain: AtomicU64,
    settings: Live<Settings>,
    changing: Mutex<()>,
    clock: Clock,
    pub(super) telemetry: Arc<Telemetry>,
}

/// The configuration, with the measurements that it needs.
#[derive(Debug)]
pub(super) struct Settings {
    pub(super) config: TimeoutConfig,
    for_limit: Option<Arc<Latencies>>,
    for_min_remaining: Needed,
}

impl Settings {
    fn new(config: TimeoutConfig, before: Option<&Self>) -> Self {
        let asked = config.limit.quantile();
        // Keep the measurements if they are the same ones.
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

/// The flag for an attempt's limit in the word of plain settings.
///
/// ```text
///   bit   63           62 .. 0
///       [ is attempt | limit in nanoseconds ]
///
///   0: the settings have more than a fixed limit, and must be read in full
/// ```
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
        // A limit of 292 years or more does not fit, and is read from the full settings.
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
    /// Creates the state for a valid `config`.
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
        // Serialises reconfigurations, so that both stores below are from the same one.
        let _changing = lock(&self.changing);
        let settings = Settings::new(config, Some(&self.settings()));
        // A call that starts between the two stores may use either configuration. `Relaxed`
        // suffices: the word is complete in itself.
        self.plain.store(settings.plain(), Ordering::Relaxed);
        self.settings.swap(Arc::new(settings));
        Ok(())
    }

    /// Returns the scope and the limit, if the settings have nothing else.
    #[inline]
    pub(super) fn plain(&self) -> Option<(Scope, u64)> {
        let plain = self.plain.load(Ordering::Relaxed);
        let scope = if plain & IS_ATTEMPT == 0 { Scope::Total } else { Scope::Attempt };
        (plain != 0).then_some((scope, plain & !IS_ATTEMPT))
    }

    /// Returns the limit for a call at `now` whose request has no timeout of its own.
    #[inline]
    pub(super) fn limit(&self, settings: &Settings, now: Instant) -> Option<Duration> {
        let measured =
            settings.for_limit.as_ref().and_then(|latencies| latencies.quantile(self.clock.at(now)));
        settings.config.limit.given(measured)
    }

    /// Returns the time that must be left for a call to be made, in nanoseconds.
    pub(super) fn needed(&self, settings: &Settings, now: Instant) -> u64 {
        settings.for_min_remaining.at(self.clock.at(now))
    }

    /// Returns `true` if the end of each call must be recorded.
    #[inline]
    pub(super) fn wants_ends(&self, settings: &Settings) -> bool {
        let Settings { config, .. } = settings;
        settings.measures()
            || config.idle.is_some()
            || config.covers == Covers::Body
            || self.telemetry.is_observed()
    }

    /// Records the duration of a call, or the time for which a call that was given up had waited.
    ///
    /// A call that was given up counts for the limit only if it had at least that much time
    /// (`had_limit`). Others would lower the limit until it cut off the calls that they are mixed
    /// with, which could then not show that they take longer. All calls count for the minimum of
    /// time that must be left.
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
