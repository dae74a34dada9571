use std::fmt;
use std::sync::{Arc, OnceLock};

use tower_layer::Layer;

use super::config::{CircuitBreakerConfig, Settings};
use super::handle::CircuitBreakerHandle;
use super::service::{CircuitBreaker, Readiness};
use super::shared::Shared;
use super::transition::State;
use crate::classify::ErrorsAreFailures;
use crate::config::{InvalidConfig, valid};
use crate::error::Reason;
use crate::telemetry::{Observer, Telemetry, Vocabulary};

/// Puts services behind a [circuit breaker](super).
///
/// The layer owns the circuit: all services it makes share it, and so do those of its clones.
pub struct CircuitBreakerLayer<C = ErrorsAreFailures> {
    settings: Arc<Settings>,
    name: &'static str,
    observers: Vec<Arc<dyn Observer>>,
    classify: C,
    readiness: Readiness,
    /// Made when it is first needed, and then by everybody: until then the layer can be given a name.
    shared: OnceLock<Arc<Shared>>,
}

impl CircuitBreakerLayer {
    /// A circuit breaker with the name `circuit_breaker`.
    ///
    /// # Panics
    ///
    /// If `config` is not valid. Use [`try_new`](Self::try_new) for one that is not written in the source.
    #[must_use]
    #[track_caller]
    #[allow(clippy::needless_pass_by_value, reason = "plain data")]
    pub fn new(config: CircuitBreakerConfig) -> Self {
        valid(Self::try_new(config))
    }

    /// A circuit breaker with the name `circuit_breaker`.
    ///
    /// # Errors
    ///
    /// If `config` is not valid.
    #[allow(clippy::needless_pass_by_value, reason = "plain data")]
    pub fn try_new(config: CircuitBreakerConfig) -> Result<Self, InvalidConfig> {
        Ok(Self {
            settings: Arc::new(Settings::new(&config)?),
            name: "circuit_breaker",
            observers: Vec::new(),
            classify: ErrorsAreFailures,
            readiness: Readiness::default(),
            shared: OnceLock::new(),
        })
    }
}

impl Default for CircuitBreakerLayer {
    /// A circuit breaker with the default configuration and the name `circuit_breaker`.
    fn default() -> Self {
        Self::new(CircuitBreakerConfig::new())
    }
}

impl<C> CircuitBreakerLayer<C> {
    crate::macros::layer_setters!();

    /// Decides what a failure is. Default: every error, and no response.
    #[must_use]
    pub fn classify<D>(self, classify: D) -> CircuitBreakerLayer<D> {
        CircuitBreakerLayer {
            settings: self.settings,
            name: self.name,
            observers: self.observers,
            classify,
            readiness: self.readiness,
            shared: OnceLock::new(),
        }
    }

    /// Decides what an open circuit says to `poll_ready`. Default: that it is ready, to refuse.
    #[must_use]
    pub fn readiness(self, readiness: Readiness) -> Self {
        Self { readiness, shared: OnceLock::new(), ..self }
    }

    /// To inspect and control the circuit.
    #[must_use]
    pub fn handle(&self) -> CircuitBreakerHandle {
        CircuitBreakerHandle::new(Arc::clone(self.shared()))
    }

    fn shared(&self) -> &Arc<Shared> {
        self.shared.get_or_init(|| {
            let reasons = &[Reason::CircuitOpen, Reason::Recovering];
            let states: Vec<_> = State::ALL.iter().map(|state| state.as_str()).collect();
            let vocabulary =
                Vocabulary { states: &states, calls: true, ..Vocabulary::new("circuit_breaker", reasons) };
            let telemetry = Telemetry::new(&vocabulary, self.name, &self.observers);
            Arc::new(Shared::new(&self.settings, Arc::new(telemetry)))
        })
    }
}

impl<C: Clone> CircuitBreakerLayer<C> {
    /// A layer with the same settings and observers, under the same name, and a circuit of its own: for each
    /// of many endpoints one. They share all that is not state, and count together in the metrics.
    #[must_use]
    pub fn fresh(&self) -> Self {
        let telemetry = Arc::clone(&self.shared().telemetry);
        let shared = Shared::new(&self.settings, telemetry);
        Self { shared: OnceLock::from(Arc::new(shared)), ..self.clone() }
    }
}

impl<S, C: Clone> Layer<S> for CircuitBreakerLayer<C> {
    type Service = CircuitBreaker<S, C>;

    fn layer(&self, inner: S) -> Self::Service {
        CircuitBreaker::new(inner, Arc::clone(self.shared()), self.classify.clone(), self.readiness)
    }
}

impl<C: Clone> Clone for CircuitBreakerLayer<C> {
    /// A clone shares the circuit.
    fn clone(&self) -> Self {
        Self {
            settings: Arc::clone(&self.settings),
            name: self.name,
            observers: self.observers.clone(),
            classify: self.classify.clone(),
            readiness: self.readiness,
            shared: OnceLock::from(Arc::clone(self.shared())),
        }
    }
}

impl<C> fmt::Debug for CircuitBreakerLayer<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CircuitBreakerLayer")
            .field("name", &self.name)
            .field("state", &self.shared.get().map(|shared| shared.circuit.load().state))
            .field("classify", &std::any::type_name::<C>())
            .field("readiness", &self.readiness)
            .finish_non_exhaustive()
    }
}
