use std::fmt;
use std::marker::PhantomData;
use std::sync::{Arc, OnceLock};

use tower_layer::Layer;

use super::config::{BulkheadConfig, Mode};
use super::handle::BulkheadHandle;
use super::parked::{Refuse, Wait};
use super::service::Bulkhead;
use super::shared::Shared;
use crate::classify::ErrorsAreFailures;
use crate::config::{InvalidConfig, valid};
use crate::error::Reason;
use crate::telemetry::{Action, Observer, Telemetry, Vocabulary};

/// Puts services behind a [bulkhead](super).
///
/// The layer owns the limit: all services it makes share it, and so do those of its clones.
pub struct BulkheadLayer<C = ErrorsAreFailures, W = Refuse> {
    config: BulkheadConfig,
    mode: Mode,
    name: &'static str,
    observers: Vec<Arc<dyn Observer>>,
    hold: C,
    when_full: PhantomData<fn() -> W>,
    /// Made when it is first needed, and then by everybody: until then the layer can be given a name.
    shared: OnceLock<Arc<Shared>>,
}

impl BulkheadLayer {
    /// A bulkhead that refuses calls when it is full. Its name is `bulkhead`.
    ///
    /// # Panics
    ///
    /// If `config` is not valid. Use [`try_new`](Self::try_new) for one that is not written in the source.
    #[must_use]
    #[track_caller]
    pub fn new(config: BulkheadConfig) -> Self {
        valid(Self::try_new(config))
    }

    /// The same.
    ///
    /// # Errors
    ///
    /// If `config` is not valid.
    pub fn try_new(config: BulkheadConfig) -> Result<Self, InvalidConfig> {
        Self::of(config, Mode::Refuse)
    }

    /// A bulkhead that is not ready when it is full, and wakes who waits until it is: for callers that can send the call
    /// elsewhere, such as a balancer. Each service takes its permit ahead of the call.
    ///
    /// # Panics
    ///
    /// If `config` is not valid.
    #[must_use]
    #[track_caller]
    pub fn backpressure(config: BulkheadConfig) -> Self {
        valid(Self::try_backpressure(config))
    }

    /// The same.
    ///
    /// # Errors
    ///
    /// If `config` is not valid.
    pub fn try_backpressure(config: BulkheadConfig) -> Result<Self, InvalidConfig> {
        Self::of(config, Mode::Backpressure)
    }

    /// A bulkhead in which calls wait when it is full: up to `max_queued` of them, in order, each up to `max_wait`.
    ///
    /// The service must be `Clone`, since each call that waits has one of its own to be made ready when it is its turn.
    ///
    /// # Panics
    ///
    /// If `config` is not valid.
    #[must_use]
    #[track_caller]
    pub fn waiting(config: BulkheadConfig) -> BulkheadLayer<ErrorsAreFailures, Wait> {
        valid(Self::try_waiting(config))
    }

    /// The same.
    ///
    /// # Errors
    ///
    /// If `config` is not valid.
    pub fn try_waiting(
        config: BulkheadConfig,
    ) -> Result<BulkheadLayer<ErrorsAreFailures, Wait>, InvalidConfig> {
        BulkheadLayer::of(config, Mode::Wait)
    }
}

impl<W> BulkheadLayer<ErrorsAreFailures, W> {
    fn of(config: BulkheadConfig, mode: Mode) -> Result<Self, InvalidConfig> {
        config.validate(mode)?;
        Ok(Self {
            config,
            mode,
            name: "bulkhead",
            observers: Vec::new(),
            hold: ErrorsAreFailures,
            when_full: PhantomData,
            shared: OnceLock::new(),
        })
    }
}

impl<C, W> BulkheadLayer<C, W> {
    crate::macros::layer_setters!();

    /// Decides when a call is over: a [`Classify`](crate::classify::Classify) that ends the permit, or hands it on with
    /// the response. Default: when the head of the response is there. For HTTP there is
    /// `classify::http::BodyEnd`. What it takes the end of a call for does not matter.
    #[must_use]
    pub fn hold_until<D>(self, hold: D) -> BulkheadLayer<D, W> {
        BulkheadLayer {
            config: self.config,
            mode: self.mode,
            name: self.name,
            observers: self.observers,
            hold,
            when_full: PhantomData,
            shared: OnceLock::new(),
        }
    }

    /// To inspect and change the limit, and to limit what is no service.
    #[must_use]
    pub fn handle(&self) -> BulkheadHandle {
        BulkheadHandle::new(Arc::clone(self.shared()))
    }

    fn shared(&self) -> &Arc<Shared> {
        self.shared.get_or_init(|| {
            let waits = self.mode == Mode::Wait;
            let reasons = [Reason::BulkheadFull, Reason::BulkheadTimeout];
            let (reasons, actions) =
                if waits { (&reasons[..], &[Action::Queued][..]) } else { (&reasons[..1], &[][..]) };
            let vocabulary = Vocabulary { actions, ..Vocabulary::new("bulkhead", reasons) };
            let telemetry = Telemetry::new(&vocabulary, self.name, &self.observers);
            Arc::new(Shared::new(self.config.clone(), self.mode, telemetry))
        })
    }
}

impl<S, C: Clone, W> Layer<S> for BulkheadLayer<C, W> {
    type Service = Bulkhead<S, C, W>;

    fn layer(&self, inner: S) -> Self::Service {
        Bulkhead::new(inner, Arc::clone(self.shared()), self.hold.clone())
    }
}

impl<C: Clone, W> Clone for BulkheadLayer<C, W> {
    /// A clone shares the limit.
    fn clone(&self) -> Self {
        Self {
            config: self.config.clone(),
            mode: self.mode,
            name: self.name,
            observers: self.observers.clone(),
            hold: self.hold.clone(),
            when_full: PhantomData,
            shared: OnceLock::from(Arc::clone(self.shared())),
        }
    }
}

impl<C, W> fmt::Debug for BulkheadLayer<C, W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BulkheadLayer")
            .field("name", &self.name)
            .field("config", &self.config)
            .field("mode", &self.mode)
            .finish_non_exhaustive()
    }
}
