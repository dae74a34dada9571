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

/// Applies [hedging](super) to slow calls.
///
/// The layer owns the latencies, the budget and the configuration. All services that it creates
/// share them, as do those of its clones.
pub struct HedgeLayer<P = Asking<AnyRequest>> {
    config: HedgeConfig,
    name: &'static str,
    observers: Vec<Arc<dyn Observer>>,
    protocol: P,
    budget: Budget,
    /// Created on first use and shared from then on. Until then, setters can change the layer.
    shared: OnceLock<Arc<Shared>>,
}

impl HedgeLayer {
    /// Creates a layer with the name `hedge`, for requests that can be cloned and sent twice
    /// without harm.
    ///
    /// # Panics
    ///
    /// If `config` is not valid. Use [`try_new`](Self::try_new) for a configuration that is only
    /// known at run time.
    #[must_use]
    #[track_caller]
    pub fn new(config: HedgeConfig) -> Self {
        valid(Self::try_new(config))
    }

    /// Like [`new`](Self::new), but returns an error for an invalid configuration.
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

/// Returns a budget for the share of hedges that the quantile implies. It has no tokens per second,
/// since the bound is a share of the calls.
const fn own_budget(delay: HedgeDelay) -> BudgetConfig {
    let ratio = match delay {
        HedgeDelay::Quantile { quantile, .. } => 1.0 - quantile,
        HedgeDelay::Fixed(_) => 0.05,
    };
    BudgetConfig::new().ratio(ratio).per_second(0.0)
}

impl Default for HedgeLayer {
    /// Returns a layer with the default configuration and the name `hedge`.
    fn default() -> Self {
        Self::new(HedgeConfig::new())
    }
}

impl<P> HedgeLayer<P> {
    crate::middleware::macros::layer_setters!();

    /// Shares `budget` with other layers that retry or hedge, each of which
    /// [deposits](Budget::deposit) for its own calls. Default: a budget of its own. It allows the
    /// share 1 - `quantile` of the calls to be hedged, or 0.05 with a fixed delay, plus ten hedges
    /// at the start.
    ///
    /// # Panics
    ///
    /// If the layer was cloned, or has created a service or a handle: they would not share its
    /// state.
    #[must_use]
    #[track_caller]
    pub fn budget(self, budget: Budget) -> Self {
        assert_unused(&self.shared, "budget");
        Self { budget, ..self }
    }

    /// Sets what the layer knows about requests and responses, such as `Http` for those of the
    /// `http` crate.
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

    /// Returns a handle to inspect the delay and to reconfigure the layer.
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
    /// Sets a closure that returns the [outcome](crate::classify) of an attempt, or only its
    /// [`Class`](crate::classify::Class). The rest of the protocol does not change. Call this after
    /// [`protocol`](Self::protocol), which would replace the closure.
    #[must_use]
    pub fn classify<Res, E, O, F>(self, classify: F) -> HedgeLayer<Asking<Classified<P, F>>>
    where
        F: Fn(Result<&Res, &E>) -> O,
        O: Into<Outcome>,
    {
        let protocol = Classified::new(self.protocol.0.clone(), classify);
        self.with(Asking(protocol))
    }

    /// Sets the outcome like [`classify`](Self::classify), for an error type that cannot [carry
    /// rejections](crate::CarryRejected), such as that of a client without inner layers. `classify`
    /// then sees every result.
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
    /// Returns a clone that shares the latencies, the budget and the configuration.
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
