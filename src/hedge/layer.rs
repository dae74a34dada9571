use std::fmt;
use std::sync::{Arc, OnceLock};

use tower_layer::Layer;

use super::config::{HedgeConfig, HedgeDelay};
use super::handle::HedgeHandle;
use super::service::Hedge;
use super::shared::Shared;
use crate::budget::{Budget, BudgetConfig};
use crate::config::{InvalidConfig, valid};
use crate::protocol::Plain;
use crate::telemetry::{Action, Observer, Telemetry, Vocabulary};

/// [Hedges slow calls](super).
///
/// The layer owns the latencies, the budget and the configuration: all services it makes share them, and so do those of its
/// clones.
pub struct HedgeLayer<P = Plain, J = P> {
    config: HedgeConfig,
    name: &'static str,
    observers: Vec<Arc<dyn Observer>>,
    protocol: P,
    judge: J,
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
            protocol: Plain,
            judge: Plain,
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

impl<P, J> HedgeLayer<P, J> {
    crate::macros::layer_setters!();

    /// Shares `budget` with other layers that retry or hedge, each of which [deposits](Budget::deposit) for its own calls.
    /// Default: one of its own, that allows 1 - `quantile` of the calls to be hedged, or 0.05 of them under a fixed delay, and
    /// ten more at first.
    #[must_use]
    pub fn budget(self, budget: Budget) -> Self {
        Self { budget, shared: OnceLock::new(), ..self }
    }

    /// Goes by `protocol`, for requests and for their ends: `Http` for requests of the `http` crate.
    #[must_use]
    pub fn over<Q: Clone>(self, protocol: Q) -> HedgeLayer<Q> {
        self.with(protocol.clone(), protocol)
    }

    /// Decides what the end of an attempt means, in place of the protocol.
    #[must_use]
    pub fn judge<K>(self, judge: K) -> HedgeLayer<P, K>
    where
        P: Clone,
    {
        let protocol = self.protocol.clone();
        self.with(protocol, judge)
    }

    fn with<Q, K>(self, protocol: Q, judge: K) -> HedgeLayer<Q, K> {
        HedgeLayer {
            config: self.config,
            name: self.name,
            observers: self.observers,
            protocol,
            judge,
            budget: self.budget,
            shared: OnceLock::new(),
        }
    }

    /// To look at the delay, and to change the configuration.
    #[must_use]
    pub fn handle(&self) -> HedgeHandle {
        HedgeHandle::new(Arc::clone(self.shared()))
    }

    fn shared(&self) -> &Arc<Shared> {
        self.shared.get_or_init(|| {
            let vocabulary = Vocabulary {
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
                ..Vocabulary::new("hedge", &[])
            };
            let telemetry = Telemetry::new(&vocabulary, self.name, &self.observers);
            Arc::new(Shared::new(self.config.clone(), self.budget.clone(), telemetry))
        })
    }
}

impl<S, P: Clone, J: Clone> Layer<S> for HedgeLayer<P, J> {
    type Service = Hedge<S, P, J>;

    fn layer(&self, inner: S) -> Self::Service {
        Hedge::new(inner, self.protocol.clone(), self.judge.clone(), Arc::clone(self.shared()))
    }
}

impl<P: Clone, J: Clone> Clone for HedgeLayer<P, J> {
    /// A clone shares the latencies, the budget and the configuration.
    fn clone(&self) -> Self {
        Self {
            config: self.config.clone(),
            name: self.name,
            observers: self.observers.clone(),
            protocol: self.protocol.clone(),
            judge: self.judge.clone(),
            budget: self.budget.clone(),
            shared: OnceLock::from(Arc::clone(self.shared())),
        }
    }
}

impl<P, J> fmt::Debug for HedgeLayer<P, J> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HedgeLayer")
            .field("name", &self.name)
            .field("config", &self.config)
            .field("budget", &self.budget)
            .field("protocol", &std::any::type_name::<P>())
            .finish_non_exhaustive()
    }
}
