use std::fmt;
use std::sync::{Arc, OnceLock};

use tower_layer::Layer;

use super::config::RetryConfig;
use super::handle::RetryHandle;
use super::policy::Standard;
use super::service::Retry;
use super::shared::Shared;
use crate::budget::{Budget, BudgetConfig};
use crate::config::{InvalidConfig, valid};
use crate::error::Reason;
use crate::protocol::Plain;
use crate::telemetry::{Action, Observer, Telemetry, Vocabulary};

/// [Tries failed calls again](super).
///
/// The layer owns the budget and the configuration: all services it makes share them, and so do those of its clones.
pub struct RetryLayer<P = Standard<Plain>> {
    config: Arc<RetryConfig>,
    name: &'static str,
    observers: Vec<Arc<dyn Observer>>,
    policy: P,
    budget: Budget,
    /// Made when it is first needed, and then by everybody: until then the layer can be given a name.
    shared: OnceLock<Arc<Shared>>,
}

impl RetryLayer {
    /// Retries with the name `retry`, for requests that can be cloned, each of whose errors may be cured by another
    /// attempt, within a budget of its own with the [defaults](BudgetConfig).
    ///
    /// # Panics
    ///
    /// If `config` is not valid. Use [`try_new`](Self::try_new) for one that is not written in the source.
    #[must_use]
    #[track_caller]
    pub fn new(config: RetryConfig) -> Self {
        valid(Self::try_new(config))
    }

    /// The same.
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
            policy: Standard::new(Plain, Plain),
            budget: Budget::new(BudgetConfig::new()),
            shared: OnceLock::new(),
        })
    }
}

impl<P> RetryLayer<P> {
    crate::macros::layer_setters!();

    /// Shares `budget` with other layers that retry or hedge. Default: one of its own.
    #[must_use]
    pub fn budget(self, budget: Budget) -> Self {
        Self { budget, shared: OnceLock::new(), ..self }
    }

    /// Goes by `protocol`, for requests and for their ends: `Http` for requests of the `http` crate.
    #[must_use]
    pub fn over<Q: Clone>(self, protocol: Q) -> RetryLayer<Standard<Q>> {
        self.policy(Standard::new(protocol.clone(), protocol))
    }

    /// Decides everything that depends on requests and their ends.
    #[must_use]
    pub fn policy<Q>(self, policy: Q) -> RetryLayer<Q> {
        RetryLayer {
            config: self.config,
            name: self.name,
            observers: self.observers,
            policy,
            budget: self.budget,
            shared: OnceLock::new(),
        }
    }

    fn shared(&self) -> &Arc<Shared> {
        self.shared.get_or_init(|| {
            let vocabulary = Vocabulary {
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
                ..Vocabulary::new("retry", &[Reason::NotReady])
            };
            let telemetry = Telemetry::new(&vocabulary, self.name, &self.observers);
            Arc::new(Shared::new(&self.config, self.budget.clone(), telemetry))
        })
    }
}

impl<P, J> RetryLayer<Standard<P, J>> {
    /// Decides what the end of an attempt means, in place of the protocol.
    #[must_use]
    pub fn judge<K>(self, judge: K) -> RetryLayer<Standard<P, K>>
    where
        Standard<P, J>: Clone,
    {
        let policy = self.policy.clone().with_judge(judge);
        self.policy(policy)
    }
}

impl<P: Clone> RetryLayer<P> {
    /// To change the configuration, and to retry what is no service.
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
    /// A clone shares the budget and the configuration.
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
