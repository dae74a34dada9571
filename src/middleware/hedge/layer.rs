use std::fmt;
use std::sync::{Arc, OnceLock};

use tower_layer::Layer;

use super::config::{HedgeConfig, HedgeDelay};
use super::handle::HedgeHandle;
use super::service::Hedge;
use super::shared::Shared;
use crate::classify::{Asking, Outcome};
use crate::config::{InvalidConfig, assert_unused, valid};
use crate::primitives::budget::{Budget, BudgetConfig};
use crate::protocol::{AnyRequest, Classified};
use crate::telemetry::{Action, MetricSet, Observer, Telemetry};

/// [Hedges slow calls](super).
///
/// The layer owns the latencies, the budget and the configuration: all services it makes share them, and so do those of its
/// clones.
pub struct HedgeLayer<P = Asking<AnyRequest>> {
    config: HedgeConfig,
    name: &'static str,
    observers: Vec<Arc<dyn Observer>>,
    protocol: P,
    budget: Budget,
    /// Made when it is first needed, and then by everybody: until then the layer can be given a name.
    shared: OnceLock<Arc<Shared>>,
}

impl HedgeLayer {
    /// Hedges with the name `hedge`, for requests that can be cloned and sent twice without harm.
    ///
    /// # Panics
    ///
    /// If `config` is not valid. Use [`try_new`](Self::try_new) for one that is not written in the source.
    #[must_use]
    #[track_caller]
    pub fn new(config: HedgeConfig) -> Self {
        valid(Self::try_new(config))
    }

    /// The same.
    ///
    /// # Errors
    ///
    /// If `config` is not valid.
    pub fn try_new(config: HedgeConfig) -> Result<Self, InvalidConfig> {
        config.validate()?;
        let budget = Budget::try_new(own_budget(config.delay))?;
        Ok(Self {
            config,
            name: "hedge",
            observers: Vec::new(),
            protocol: Asking(AnyRequest),
            budget,
            shared: OnceLock::new(),
        })
    }
}

/// As many hedges as the quantile asks for, and nothing that comes with time: a share is promised.
const fn own_budget(delay: HedgeDelay) -> BudgetConfig {
    let ratio = match delay {
        HedgeDelay::Quantile { quantile, .. } => 1.0 - quantile,
        HedgeDelay::Fixed(_) => 0.05,
    };
    BudgetConfig::new().ratio(ratio).per_second(0.0)
}

impl Default for HedgeLayer {
    /// A layer with the default configuration and the name `hedge`.
    fn default() -> Self {
        Self::new(HedgeConfig::new())
    }
}

impl<P> HedgeLayer<P> {
    crate::middleware::macros::layer_setters!();

    /// Shares `budget` with other layers that retry or hedge, each of which [deposits](Budget::deposit) for its own calls.
    /// Default: one of its own, that allows 1 - `quantile` of the calls to be hedged, or 0.05 of them under a fixed delay, and
    /// ten more at first.
    ///
    /// # Panics
    ///
    /// If the layer was cloned, or has made a service or a handle: they would not share its state.
    #[must_use]
    #[track_caller]
    pub fn budget(self, budget: Budget) -> Self {
        assert_unused(&self.shared, "budget");
        Self { budget, ..self }
    }

    /// Sets all that is known of requests and responses: `Http` for those of the `http` crate.
    #[must_use]
    pub fn protocol<Q>(self, protocol: Q) -> HedgeLayer<Asking<Q>> {
        self.with(Asking(protocol))
    }

    fn with<Q>(self, protocol: Q) -> HedgeLayer<Q> {
        HedgeLayer {
            config: self.config,
            name: self.name,
            observers: self.observers,
            protocol,
            budget: self.budget,
            shared: self.shared,
        }
    }

    /// To look at the delay, and to change the configuration.
    #[must_use]
    pub fn handle(&self) -> HedgeHandle {
        HedgeHandle::new(Arc::clone(self.shared()))
    }

    fn shared(&self) -> &Arc<Shared> {
        self.shared.get_or_init(|| {
            let metrics = MetricSet {
                actions: &[
                    Action::Hedged,
                    Action::HedgeWon,
                    Action::OriginalWon,
                    Action::BudgetSpent,
                    Action::NoTime,
                    Action::PushedBack,
                    Action::NotIdempotent,
                    Action::NotReplayable,
                    Action::NotReady,
                ],
                attempts: true,
                budget: Some(&self.budget),
                ..MetricSet::new("hedge", &[])
            };
            let telemetry = Telemetry::new(&metrics, self.name, &self.observers);
            Arc::new(Shared::new(self.config.clone(), self.budget.clone(), telemetry))
        })
    }
}

impl<P: Clone> HedgeLayer<Asking<P>> {
    /// Sets a closure that returns the [outcome](crate::classify) of an attempt, or its [`Class`](crate::classify::Class)
    /// alone. The rest of the protocol stays. Call it after [`protocol`](Self::protocol), which would replace the
    /// closure.
    #[must_use]
    pub fn classify<Res, E, O, F>(self, classify: F) -> HedgeLayer<Asking<Classified<P, F>>>
    where
        F: Fn(Result<&Res, &E>) -> O,
        O: Into<Outcome>,
    {
        let protocol = Classified::new(self.protocol.0.clone(), classify);
        self.with(Asking(protocol))
    }

    /// Sets the outcome as [`classify`](Self::classify) does, for an error type that does not
    /// [carry rejections](crate::CarryRejected), such as that of a client with no other layer inside: `classify` is asked
    /// about each end.
    #[must_use]
    pub fn classify_opaque<Res, E, O, F>(self, classify: F) -> HedgeLayer<Classified<P, F>>
    where
        F: Fn(Result<&Res, &E>) -> O,
        O: Into<Outcome>,
    {
        let protocol = Classified::new(self.protocol.0.clone(), classify);
        self.with(protocol)
    }
}

impl<S, P: Clone> Layer<S> for HedgeLayer<P> {
    type Service = Hedge<S, P>;

    fn layer(&self, inner: S) -> Self::Service {
        Hedge::new(inner, self.protocol.clone(), Arc::clone(self.shared()))
    }
}

impl<P: Clone> Clone for HedgeLayer<P> {
    /// A clone shares the latencies, the budget and the configuration.
    fn clone(&self) -> Self {
        Self {
            config: self.config.clone(),
            name: self.name,
            observers: self.observers.clone(),
            protocol: self.protocol.clone(),
            budget: self.budget.clone(),
            shared: OnceLock::from(Arc::clone(self.shared())),
        }
    }
}

impl<P> fmt::Debug for HedgeLayer<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HedgeLayer")
            .field("name", &self.name)
            .field("config", &self.config)
            .field("budget", &self.budget)
            .field("protocol", &std::any::type_name::<P>())
            .finish_non_exhaustive()
    }
}
