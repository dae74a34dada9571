use std::fmt;
use std::sync::{Arc, OnceLock};

use tower_layer::Layer;

use super::config::RetryConfig;
use super::handle::RetryHandle;
use super::policy::Standard;
use super::service::Retry;
use super::shared::Shared;
use crate::classify::Outcome;
use crate::config::{InvalidConfig, assert_unused, valid};
use crate::error::Reason;
use crate::primitives::budget::{Budget, BudgetConfig};
use crate::protocol::{AnyRequest, Classified};
use crate::telemetry::{Action, MetricSet, Observer, Telemetry};

/// Applies [retries](super) to failed calls.
///
/// The layer owns the budget and the configuration. All services that it creates share them, as do
/// those of its clones.
pub struct RetryLayer<P = Standard<AnyRequest>> {
    config: Arc<RetryConfig>,
    name: &'static str,
    observers: Vec<Arc<dyn Observer>>,
    policy: P,
    budget: Budget,
    /// Created on first use and shared from then on. Until then, setters can change the layer.
    shared: OnceLock<Arc<Shared>>,
}

impl RetryLayer {
    /// Creates a layer with the name `retry` and its own budget with the [defaults](BudgetConfig).
    /// It accepts requests that can be cloned, and retries after every error.
    ///
    /// # Panics
    ///
    /// If `config` is not valid. Use [`try_new`](Self::try_new) for a configuration that is only
    /// known at run time.
    #[must_use]
    #[track_caller]
    pub fn new(config: RetryConfig) -> Self {
        valid(Self::try_new(config))
    }

    /// Like [`new`](Self::new), but returns an error for an invalid configuration.
    ///
    /// # Errors
    ///
    /// If `config` is not valid.
    pub fn try_new(config: RetryConfig) -> Result<Self, InvalidConfig> {
        config.validate()?;
        Ok(Self {
            config: Arc::new(config),
            name: "retry",
            observers: Vec::new(),
            policy: Standard::new(AnyRequest),
            budget: Budget::new(BudgetConfig::new()),
            shared: OnceLock::new(),
        })
    }
}

impl Default for RetryLayer {
    /// Returns a layer with the default configuration and the name `retry`.
    fn default() -> Self {
        Self::new(RetryConfig::new())
    }
}

impl<P> RetryLayer<P> {
    crate::middleware::macros::layer_setters!();

    /// Shares `budget` with other layers that retry or hedge. Default: a budget of its own.
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
    pub fn protocol<Q>(self, protocol: Q) -> RetryLayer<Standard<Q>> {
        self.policy(Standard::new(protocol))
    }

    /// Sets a policy for every decision that depends on requests and outcomes.
    #[must_use]
    pub fn policy<Q>(self, policy: Q) -> RetryLayer<Q> {
        RetryLayer {
            config: self.config,
            name: self.name,
            observers: self.observers,
            policy,
            budget: self.budget,
            shared: self.shared,
        }
    }

    fn shared(&self) -> &Arc<Shared> {
        self.shared.get_or_init(|| {
            let metrics = MetricSet {
                actions: &[
                    Action::Retried,
                    Action::Exhausted,
                    Action::BudgetSpent,
                    Action::NoTime,
                    Action::PushedBack,
                    Action::NotIdempotent,
                    Action::NotReplayable,
                    Action::NotReady,
                    Action::Nested,
                ],
                attempts: true,
                budget: Some(&self.budget),
                ..MetricSet::new("retry", &[Reason::NotReady])
            };
            let telemetry = Telemetry::new(&metrics, self.name, &self.observers);
            Arc::new(Shared::new(&self.config, self.budget.clone(), telemetry))
        })
    }
}

impl<P> RetryLayer<Standard<P>> {
    /// Sets a closure that returns the [outcome](crate::classify) of an attempt, or only its
    /// [`Class`](crate::classify::Class). The rest of the protocol does not change. Call this after
    /// [`protocol`](Self::protocol), which would replace the closure.
    #[must_use]
    pub fn classify<Res, E, O, F>(self, classify: F) -> RetryLayer<Standard<Classified<P, F>>>
    where
        F: Fn(Result<&Res, &E>) -> O,
        O: Into<Outcome>,
        P: Clone,
    {
        let protocol = self.policy.clone().into_protocol();
        self.protocol(Classified::new(protocol, classify))
    }
}

impl<P: Clone> RetryLayer<P> {
    /// Returns a handle to reconfigure the layer, and to retry work that is not a `Service`.
    #[must_use]
    pub fn handle(&self) -> RetryHandle<P> {
        RetryHandle::new(Arc::clone(self.shared()), self.policy.clone())
    }
}

impl<S, P: Clone> Layer<S> for RetryLayer<P> {
    type Service = Retry<S, P>;

    fn layer(&self, inner: S) -> Self::Service {
        Retry::new(inner, self.policy.clone(), Arc::clone(self.shared()))
    }
}

impl<P: Clone> Clone for RetryLayer<P> {
    /// Returns a clone that shares the budget and the configuration.
    fn clone(&self) -> Self {
        Self {
            config: Arc::clone(&self.config),
            name: self.name,
            observers: self.observers.clone(),
            policy: self.policy.clone(),
            budget: self.budget.clone(),
            shared: OnceLock::from(Arc::clone(self.shared())),
        }
    }
}

impl<P> fmt::Debug for RetryLayer<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RetryLayer")
            .field("name", &self.name)
            .field("config", &self.config)
            .field("budget", &self.budget)
            .field("policy", &std::any::type_name::<P>())
            .finish_non_exhaustive()
    }
}
