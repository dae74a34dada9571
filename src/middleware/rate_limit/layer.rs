use std::fmt;
use std::hash::Hash;
use std::marker::PhantomData;
use std::sync::{Arc, OnceLock};

use tower_layer::Layer;

use super::config::{RateLimitConfig, Settings};
use super::handle::RateLimitHandle;
use super::scope::{SharedQuota, UnitCost};
use super::service::{RateLimit, Refuses, Waits};
use super::shared::Shared;
use crate::config::{InvalidConfig, assert_unused, valid};
use crate::error::Reason;
use crate::protocol::AnyRequest;
use crate::telemetry::{Action, MetricSet, Observer, Telemetry};

/// Lets no more calls through than a [quota](super) allows.
///
/// The layer owns the quota: all services it makes share it, and so do those of its clones. `K` tells calls apart, `C` what
/// they cost, `W` whether they wait, and `P` by when a request has to be answered.
pub struct RateLimitLayer<K = SharedQuota, C = UnitCost, W = Refuses, P = AnyRequest> {
    config: RateLimitConfig,
    settings: Settings,
    name: &'static str,
    observers: Vec<Arc<dyn Observer>>,
    key: K,
    cost: C,
    protocol: P,
    is_keyed: bool,
    waits: bool,
    form: PhantomData<W>,
    /// Made when it is first needed, and then by everybody: until then the layer can be given a name.
    shared: OnceLock<Arc<Shared>>,
}

impl RateLimitLayer {
    /// One quota for all calls, with the name `rate_limit`. Takes a [`Quota`](super::Quota) as well.
    ///
    /// # Panics
    ///
    /// If `config` is not valid. Use [`try_new`](Self::try_new) for one that is not written in the source.
    #[must_use]
    #[track_caller]
    pub fn new(config: impl Into<RateLimitConfig>) -> Self {
        valid(Self::try_new(config))
    }

    /// The same.
    ///
    /// # Errors
    ///
    /// If `config` is not valid.
    pub fn try_new(config: impl Into<RateLimitConfig>) -> Result<Self, InvalidConfig> {
        Self::make(config.into(), SharedQuota, false)
    }
}

impl<K> RateLimitLayer<K> {
    /// A quota for each key. `key` is asked once for each call; one without a key is not limited.
    ///
    /// # Panics
    ///
    /// If `config` is not valid. Use [`try_keyed`](Self::try_keyed) for one that is not written in the source.
    #[must_use]
    #[track_caller]
    pub fn keyed<Req, Q: Hash>(config: impl Into<RateLimitConfig>, key: K) -> Self
    where
        K: Fn(&Req) -> Option<Q>,
    {
        valid(Self::try_keyed(config, key))
    }

    /// The same.
    ///
    /// # Errors
    ///
    /// If `config` is not valid.
    pub fn try_keyed<Req, Q: Hash>(config: impl Into<RateLimitConfig>, key: K) -> Result<Self, InvalidConfig>
    where
        K: Fn(&Req) -> Option<Q>,
    {
        Self::make(config.into(), key, true)
    }

    fn make(config: RateLimitConfig, key: K, is_keyed: bool) -> Result<Self, InvalidConfig> {
        let settings = Settings::new(&config)?;
        Ok(Self {
            config,
            settings,
            name: "rate_limit",
            observers: Vec::new(),
            key,
            cost: UnitCost,
            protocol: AnyRequest,
            is_keyed,
            waits: false,
            form: PhantomData,
            shared: OnceLock::new(),
        })
    }
}

impl<K, C, W, P> RateLimitLayer<K, C, W, P> {
    crate::middleware::macros::layer_setters!();

    /// Asks `cost` once for each call how much of the quota it takes. Zero is not limited; a call that costs more than a burst
    /// is always refused, without a time to retry it. Default: each costs 1.
    #[must_use]
    pub fn cost<Req, D: Fn(&Req) -> u32>(self, cost: D) -> RateLimitLayer<K, D, W, P> {
        self.with(|_, protocol| (cost, protocol))
    }

    /// Calls wait for their turn, in the order in which they came, for up to
    /// [`max_wait`](RateLimitConfig::max_wait). The service has to be `Clone` then, since a clone of it waits. Default: a
    /// call whose turn is not now is refused.
    ///
    /// # Panics
    ///
    /// If the layer was cloned, or has made a service or a handle: they would not share its state.
    #[must_use]
    #[track_caller]
    pub fn waits(self) -> RateLimitLayer<K, C, Waits, P> {
        assert_unused(&self.shared, "waits");
        RateLimitLayer { waits: true, ..self.with(|cost, protocol| (cost, protocol)) }
    }

    /// Sets all that is known of requests, of which the deadline is of use in a layer that [waits](Self::waits): `Http` for requests of
    /// the `http` crate. A call whose turn comes no sooner is refused at once. Default: [`AnyRequest`], which knows of none.
    #[must_use]
    pub fn protocol<Q>(self, protocol: Q) -> RateLimitLayer<K, C, W, Q> {
        self.with(|cost, _| (cost, protocol))
    }

    fn with<D, V, Q>(self, change: impl FnOnce(C, P) -> (D, Q)) -> RateLimitLayer<K, D, V, Q> {
        let Self { config, settings, name, observers, key, is_keyed, waits, shared, .. } = self;
        let (cost, protocol) = change(self.cost, self.protocol);
        let form = PhantomData;
        RateLimitLayer {
            config,
            settings,
            name,
            observers,
            key,
            cost,
            protocol,
            is_keyed,
            waits,
            form,
            shared,
        }
    }

    /// To see and change the quota, and to limit what is no service.
    #[must_use]
    pub fn handle(&self) -> RateLimitHandle {
        RateLimitHandle::new(Arc::clone(self.shared()))
    }

    fn shared(&self) -> &Arc<Shared> {
        self.shared.get_or_init(|| {
            let metrics = MetricSet {
                actions: if self.waits { &[Action::Waited] } else { &[] },
                keys: self.is_keyed,
                ..MetricSet::new("rate_limit", reasons(self.is_keyed, self.waits))
            };
            let telemetry = Telemetry::new(&metrics, self.name, &self.observers);
            Arc::new(Shared::new(self.config.clone(), &self.settings, self.is_keyed, telemetry))
        })
    }
}

/// What calls are refused for.
const fn reasons(is_keyed: bool, waits: bool) -> &'static [Reason] {
    match (is_keyed, waits) {
        (false, false) => &[Reason::RateLimited],
        (true, false) => &[Reason::RateLimited, Reason::TooManyKeys],
        (false, true) => &[Reason::RateLimited, Reason::DeadlineExceeded],
        (true, true) => &[Reason::RateLimited, Reason::TooManyKeys, Reason::DeadlineExceeded],
    }
}

impl Default for RateLimitLayer {
    /// A layer with the defaults of its [configuration](RateLimitConfig).
    fn default() -> Self {
        Self::new(RateLimitConfig::default())
    }
}

impl<S, K: Clone, C: Clone, W, P: Clone> Layer<S> for RateLimitLayer<K, C, W, P> {
    type Service = RateLimit<S, K, C, W, P>;

    fn layer(&self, inner: S) -> Self::Service {
        let (key, cost, protocol) = (self.key.clone(), self.cost.clone(), self.protocol.clone());
        RateLimit::new(inner, Arc::clone(self.shared()), key, cost, protocol)
    }
}

impl<K: Clone, C: Clone, W, P: Clone> Clone for RateLimitLayer<K, C, W, P> {
    /// A clone shares the quota.
    fn clone(&self) -> Self {
        Self {
            config: self.config.clone(),
            settings: self.settings,
            name: self.name,
            observers: self.observers.clone(),
            key: self.key.clone(),
            cost: self.cost.clone(),
            protocol: self.protocol.clone(),
            is_keyed: self.is_keyed,
            waits: self.waits,
            form: PhantomData,
            shared: OnceLock::from(Arc::clone(self.shared())),
        }
    }
}

impl<K, C, W, P> fmt::Debug for RateLimitLayer<K, C, W, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RateLimitLayer")
            .field("name", &self.name)
            .field("config", &self.config)
            .field("key", &std::any::type_name::<K>())
            .field("cost", &std::any::type_name::<C>())
            .field("protocol", &std::any::type_name::<P>())
            .finish_non_exhaustive()
    }
}
