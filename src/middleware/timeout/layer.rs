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

/// Ends calls by a [timeout](super), if they do not end before.
///
/// The layer owns the configuration and what is measured: all services it makes share them, and so do those of its
/// clones.
pub struct TimeoutLayer<P = AnyRequest> {
    config: TimeoutConfig,
    name: &'static str,
    observers: Vec<Arc<dyn Observer>>,
    protocol: P,
    /// Made when it is first needed, and then by everybody: until then the layer can be given a name.
    shared: OnceLock<Arc<Shared>>,
}

impl TimeoutLayer {
    /// Timeouts with the name `timeout`.
    ///
    /// # Panics
    ///
    /// If `config` is not valid. Use [`try_new`](Self::try_new) for one that is not written in the source.
    #[must_use]
    #[track_caller]
    pub fn new(config: TimeoutConfig) -> Self {
        valid(Self::try_new(config))
    }

    /// The same.
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

    /// A call as a whole takes no longer than `limit`: for the outermost layer.
    ///
    /// # Panics
    ///
    /// If `limit` is zero.
    #[must_use]
    #[track_caller]
    pub fn after(limit: Duration) -> Self {
        Self::new(TimeoutConfig::new().limit(Limit::Fixed(limit)))
    }

    /// Each attempt takes no longer than `limit`: for a layer inside of the one that retries.
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

    /// Sets all that is known of requests and responses: `Http` for those of the `http` crate. The deadline and the timeouts of
    /// a request are of use here, and what follows the headers of a response.
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

    /// To inspect and change the limit, and to limit what is no service.
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
    /// A layer with the defaults of its [configuration](TimeoutConfig).
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
    /// A clone shares the configuration and what is measured.
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
