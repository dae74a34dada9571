use std::fmt;
use std::sync::{Arc, OnceLock};

use tower_layer::Layer;

use super::config::{CircuitBreakerConfig, Settings};
use super::handle::CircuitBreakerHandle;
use super::service::{CircuitBreaker, Readiness};
use super::shared::Shared;
use super::transition::State;
use crate::classify::Outcome;
use crate::config::{InvalidConfig, valid};
use crate::error::Reason;
use crate::protocol::{AnyRequest, Classified};
use crate::telemetry::{MetricSet, Observer, Telemetry};

/// Puts services behind a [circuit breaker](super).
///
/// The layer owns the circuit: all services it makes share it, and so do those of its clones.
pub struct CircuitBreakerLayer<P = AnyRequest> {
    settings: Arc<Settings>,
    name: &'static str,
    observers: Vec<Arc<dyn Observer>>,
    protocol: P,
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
            protocol: AnyRequest,
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

impl<P> CircuitBreakerLayer<P> {
    crate::middleware::macros::layer_setters!();

    /// Sets all that is known of requests and responses: `Http` for those of the `http` crate. Default: [`AnyRequest`], by which
    /// every error is a failure, and no response.
    #[must_use]
    pub fn protocol<Q>(self, protocol: Q) -> CircuitBreakerLayer<Q> {
        CircuitBreakerLayer {
            settings: self.settings,
            name: self.name,
            observers: self.observers,
            protocol,
            readiness: self.readiness,
            shared: self.shared,
        }
    }

    /// Sets a closure that returns the [outcome](crate::classify) of a call, or its [`Class`](crate::classify::Class)
    /// alone. The rest of the protocol stays. Call it after [`protocol`](Self::protocol), which would replace the
    /// closure.
    #[must_use]
    pub fn classify<Res, E, O, F>(self, classify: F) -> CircuitBreakerLayer<Classified<P, F>>
    where
        F: Fn(Result<&Res, &E>) -> O,
        O: Into<Outcome>,
        P: Clone,
    {
        let protocol = Classified::new(self.protocol.clone(), classify);
        self.protocol(protocol)
    }

    /// Decides what an open circuit says to `poll_ready`. Default: that it is ready, to refuse.
    #[must_use]
    pub fn readiness(self, readiness: Readiness) -> Self {
        Self { readiness, ..self }
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
            let metrics =
                MetricSet { states: &states, calls: true, ..MetricSet::new("circuit_breaker", reasons) };
            let telemetry = Telemetry::new(&metrics, self.name, &self.observers);
            Arc::new(Shared::new(&self.settings, Arc::new(telemetry)))
        })
    }
}

impl<P: Clone> CircuitBreakerLayer<P> {
    /// A layer with the settings in force and the same observers, under the same name, and a circuit of its own: for each
    /// of many endpoints one. They share all that is not state, and count together in the metrics.
    #[must_use]
    pub fn with_new_state(&self) -> Self {
        let present = self.shared();
        let settings = Arc::clone(&present.circuit.settings.read());
        let shared = Shared::new(&settings, Arc::clone(&present.telemetry));
        Self { settings, shared: OnceLock::from(Arc::new(shared)), ..self.clone() }
    }
}

impl<S, P: Clone> Layer<S> for CircuitBreakerLayer<P> {
    type Service = CircuitBreaker<S, P>;

    fn layer(&self, inner: S) -> Self::Service {
        CircuitBreaker::new(inner, Arc::clone(self.shared()), self.protocol.clone(), self.readiness)
    }
}

impl<P: Clone> Clone for CircuitBreakerLayer<P> {
    /// A clone shares the circuit.
    fn clone(&self) -> Self {
        Self {
            settings: Arc::clone(&self.settings),
            name: self.name,
            observers: self.observers.clone(),
            protocol: self.protocol.clone(),
            readiness: self.readiness,
            shared: OnceLock::from(Arc::clone(self.shared())),
        }
    }
}

impl<P> fmt::Debug for CircuitBreakerLayer<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CircuitBreakerLayer")
            .field("name", &self.name)
            .field("state", &self.shared.get().map(|shared| shared.circuit.load().state))
            .field("protocol", &std::any::type_name::<P>())
            .field("readiness", &self.readiness)
            .finish_non_exhaustive()
    }
}
