use std::fmt;
use std::sync::{Arc, OnceLock};

use tower_layer::Layer;

use super::config::ThrottleConfig;
use super::handle::ThrottleHandle;
use super::service::Throttle;
use super::shared::Shared;
use crate::config::{InvalidConfig, valid};
use crate::error::Reason;
use crate::protocol::Plain;
use crate::telemetry::{Observer, Telemetry, Vocabulary};

/// Refuses a share of the calls to a service that accepts few: see [throttles](super).
///
/// The layer owns the configuration and the counts: all services it makes share them, and so do those of its
/// clones.
pub struct ThrottleLayer<J = Plain> {
    config: ThrottleConfig,
    name: &'static str,
    observers: Vec<Arc<dyn Observer>>,
    judge: J,
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
        Ok(Self { config, name: "throttle", observers: Vec::new(), judge: Plain, shared: OnceLock::new() })
    }
}

impl<J> ThrottleLayer<J> {
    crate::macros::layer_setters!();

    /// Decides which answers are those of a service that did not accept the request: `Http` for the `http` crate and
    /// gRPC, any [`Judge`](crate::protocol::Judge), or a closure. What counts is
    /// [`is_accepted`](crate::protocol::Judgement::is_accepted) of its judgement.
    #[must_use]
    pub fn judge<K>(self, judge: K) -> ThrottleLayer<K> {
        ThrottleLayer {
            config: self.config,
            name: self.name,
            observers: self.observers,
            judge,
            shared: OnceLock::new(),
        }
    }

    /// To look at the counts, and to change the configuration.
    #[must_use]
    pub fn handle(&self) -> ThrottleHandle {
        ThrottleHandle::new(Arc::clone(self.shared()))
    }

    fn shared(&self) -> &Arc<Shared> {
        self.shared.get_or_init(|| {
            let vocabulary = Vocabulary::new("throttle", &[Reason::Throttled]);
            let telemetry = Telemetry::new(&vocabulary, self.name, &self.observers);
            Arc::new(Shared::new(self.config.clone(), telemetry))
        })
    }
}

impl<S, J: Clone> Layer<S> for ThrottleLayer<J> {
    type Service = Throttle<S, J>;

    fn layer(&self, inner: S) -> Self::Service {
        Throttle::new(inner, self.judge.clone(), Arc::clone(self.shared()))
    }
}

impl<J: Clone> Clone for ThrottleLayer<J> {
    /// A clone shares the configuration and the counts.
    fn clone(&self) -> Self {
        Self {
            config: self.config.clone(),
            name: self.name,
            observers: self.observers.clone(),
            judge: self.judge.clone(),
            shared: OnceLock::from(Arc::clone(self.shared())),
        }
    }
}

impl<J> fmt::Debug for ThrottleLayer<J> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ThrottleLayer")
            .field("name", &self.name)
            .field("config", &self.config)
            .field("judge", &std::any::type_name::<J>())
            .finish_non_exhaustive()
    }
}
