use std::fmt;
use std::sync::{Arc, OnceLock};

use tower_layer::Layer;

use super::config::ThrottleConfig;
use super::handle::ThrottleHandle;
use super::service::Throttle;
use super::shared::Shared;
use crate::classify::Outcome;
use crate::config::{InvalidConfig, valid};
use crate::error::Reason;
use crate::protocol::{AnyRequest, Classified};
use crate::telemetry::{MetricSet, Observer, Telemetry};

/// Refuses a share of the calls to a service that accepts few: see [throttles](super).
///
/// The layer owns the configuration and the counts: all services it makes share them, and so do those of its
/// clones.
pub struct ThrottleLayer<P = AnyRequest> {
    config: ThrottleConfig,
    name: &'static str,
    observers: Vec<Arc<dyn Observer>>,
    protocol: P,
    /// Made when it is first needed, and then by everybody: until then the layer can be given a name.
    shared: OnceLock<Arc<Shared>>,
}

impl ThrottleLayer {
    /// A throttle with the name `throttle`, for which every error is a request that was not accepted.
    ///
    /// # Panics
    ///
    /// If `config` is not valid. Use [`try_new`](Self::try_new) for one that is not written in the source.
    #[must_use]
    #[track_caller]
    pub fn new(config: ThrottleConfig) -> Self {
        valid(Self::try_new(config))
    }

    /// The same.
    ///
    /// # Errors
    ///
    /// If `config` is not valid.
    pub fn try_new(config: ThrottleConfig) -> Result<Self, InvalidConfig> {
        config.validate()?;
        Ok(Self {
            config,
            name: "throttle",
            observers: Vec::new(),
            protocol: AnyRequest,
            shared: OnceLock::new(),
        })
    }
}

impl Default for ThrottleLayer {
    /// A layer with the default configuration and the name `throttle`.
    fn default() -> Self {
        Self::new(ThrottleConfig::new())
    }
}

impl<P> ThrottleLayer<P> {
    crate::middleware::macros::layer_setters!();

    /// Sets all that is known of requests and responses: `Http` for those of the `http` crate and gRPC. What counts of an
    /// outcome is [`overload`](Outcome::overload).
    #[must_use]
    pub fn protocol<Q>(self, protocol: Q) -> ThrottleLayer<Q> {
        ThrottleLayer {
            config: self.config,
            name: self.name,
            observers: self.observers,
            protocol,
            shared: self.shared,
        }
    }

    /// Sets a closure that returns the [outcome](crate::classify) of a call, or its [`Class`](crate::classify::Class)
    /// alone; a failure is an overload then. The rest of the protocol stays. Call it after [`protocol`](Self::protocol), which would replace the
    /// closure.
    #[must_use]
    pub fn classify<Res, E, O, F>(self, classify: F) -> ThrottleLayer<Classified<P, F>>
    where
        F: Fn(Result<&Res, &E>) -> O,
        O: Into<Outcome>,
        P: Clone,
    {
        let protocol = Classified::new(self.protocol.clone(), classify);
        self.protocol(protocol)
    }

    /// To look at the counts, and to change the configuration.
    #[must_use]
    pub fn handle(&self) -> ThrottleHandle {
        ThrottleHandle::new(Arc::clone(self.shared()))
    }

    fn shared(&self) -> &Arc<Shared> {
        self.shared.get_or_init(|| {
            let metrics = MetricSet::new("throttle", &[Reason::Throttled]);
            let telemetry = Telemetry::new(&metrics, self.name, &self.observers);
            Arc::new(Shared::new(self.config.clone(), telemetry))
        })
    }
}

impl<S, P: Clone> Layer<S> for ThrottleLayer<P> {
    type Service = Throttle<S, P>;

    fn layer(&self, inner: S) -> Self::Service {
        Throttle::new(inner, self.protocol.clone(), Arc::clone(self.shared()))
    }
}

impl<P: Clone> Clone for ThrottleLayer<P> {
    /// A clone shares the configuration and the counts.
    fn clone(&self) -> Self {
        Self {
            config: self.config.clone(),
            name: self.name,
            observers: self.observers.clone(),
            protocol: self.protocol.clone(),
            shared: OnceLock::from(Arc::clone(self.shared())),
        }
    }
}

impl<P> fmt::Debug for ThrottleLayer<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ThrottleLayer")
            .field("name", &self.name)
            .field("config", &self.config)
            .field("protocol", &std::any::type_name::<P>())
            .finish_non_exhaustive()
    }
}
