use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tower_layer::Layer;

use super::config::{Limit, Scope, TimeoutConfig};
use super::handle::TimeoutHandle;
use super::service::Timeout;
use super::shared::Shared;
use crate::config::{InvalidConfig, valid};
use crate::error::Reason;
use crate::protocol::AnyRequest;
use crate::telemetry::{MetricSet, Observer, Telemetry};

/// Applies a [timeout](super) to calls.
///
/// The layer owns the configuration and the measured latencies. All services that it creates share
/// them, as do those of its clones.
pub struct TimeoutLayer<P = AnyRequest> {
    config: TimeoutConfig,
    name: &'static str,
    observers: Vec<Arc<dyn Observer>>,
    protocol: P,
    /// Created on first use and shared from then on. Until then, setters can change the layer.
    shared: OnceLock<Arc<Shared>>,
}

impl TimeoutLayer {
    /// Creates a layer with the name `timeout`.
    ///
    /// # Panics
    ///
    /// If `config` is not valid. Use [`try_new`](Self::try_new) for a configuration that is only
    /// known at run time.
    #[must_use]
    #[track_caller]
    pub fn new(config: TimeoutConfig) -> Self {
        valid(Self::try_new(config))
    }

    /// Like [`new`](Self::new), but returns an error for an invalid configuration.
    ///
    /// # Errors
    ///
    /// If `config` is not valid.
    pub fn try_new(config: TimeoutConfig) -> Result<Self, InvalidConfig> {
        config.validate()?;
        Ok(Self {
            config,
            name: "timeout",
            observers: Vec::new(),
            protocol: AnyRequest,
            shared: OnceLock::new(),
        })
    }

    /// Creates the outermost layer, which limits the call as a whole to `limit`.
    ///
    /// # Panics
    ///
    /// If `limit` is zero.
    #[must_use]
    #[track_caller]
    pub fn after(limit: Duration) -> Self {
        Self::new(TimeoutConfig::new().limit(Limit::Fixed(limit)))
    }

    /// Creates the innermost layer, inside of the retry layer, which limits each attempt to
    /// `limit`.
    ///
    /// # Panics
    ///
    /// If `limit` is zero.
    #[must_use]
    #[track_caller]
    pub fn per_attempt(limit: Duration) -> Self {
        Self::new(TimeoutConfig::new().limit(Limit::Fixed(limit)).scope(Scope::Attempt))
    }
}

impl<P> TimeoutLayer<P> {
    crate::middleware::macros::layer_setters!();

    /// Sets what the layer knows about requests and responses, such as `Http` for those of the
    /// `http` crate. A timeout uses the deadline and the timeouts of requests, and the bodies of
    /// responses.
    #[must_use]
    pub fn protocol<Q>(self, protocol: Q) -> TimeoutLayer<Q> {
        TimeoutLayer {
            config: self.config,
            name: self.name,
            observers: self.observers,
            protocol,
            shared: self.shared,
        }
    }

    /// Returns a handle to inspect and change the limit, and to limit work that is not a `Service`.
    #[must_use]
    pub fn handle(&self) -> TimeoutHandle {
        TimeoutHandle::new(Arc::clone(self.shared()))
    }

    fn shared(&self) -> &Arc<Shared> {
        self.shared.get_or_init(|| {
            let reasons = &[
                Reason::TotalTimeout,
                Reason::AttemptTimeout,
                Reason::IdleTimeout,
                Reason::DeadlineExceeded,
            ];
            let telemetry = Telemetry::new(&MetricSet::new("timeout", reasons), self.name, &self.observers);
            Arc::new(Shared::new(self.config.clone(), telemetry))
        })
    }
}

impl Default for TimeoutLayer {
    /// Returns a layer with the default [configuration](TimeoutConfig).
    fn default() -> Self {
        Self::new(TimeoutConfig::new())
    }
}

impl<S, P: Clone> Layer<S> for TimeoutLayer<P> {
    type Service = Timeout<S, P>;

    fn layer(&self, inner: S) -> Self::Service {
        Timeout::new(inner, self.protocol.clone(), Arc::clone(self.shared()))
    }
}

impl<P: Clone> Clone for TimeoutLayer<P> {
    /// Returns a clone that shares the configuration and the measured latencies.
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

impl<P> fmt::Debug for TimeoutLayer<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TimeoutLayer")
            .field("name", &self.name)
            .field("config", &self.config)
            .field("protocol", &std::any::type_name::<P>())
            .finish_non_exhaustive()
    }
}
