use std::fmt;
use std::marker::PhantomData;
use std::sync::{Arc, OnceLock, Weak};

use tower_layer::Layer;

use super::config::Mode;
use super::handle::AdmissionHandle;
use super::limit::Limit;
use super::lookout::Lookout;
use super::parked::{Refuse, Wait};
use super::service::Admission;
use super::shared::Shared;
use crate::classify::Outcome;
use crate::config::{InvalidConfig, assert_unused, valid};
use crate::error::Reason;
use crate::middleware::gate::HoldUntil;
use crate::protocol::{AnyRequest, CallAttributes, Classified, WithAttributes};
use crate::telemetry::{Action, MetricSet, Observer, Telemetry};

/// Bounds how many calls of services are [under way at a time](super).
///
/// The layer owns the limit: all services it makes share it, and so do those of its clones.
pub struct AdmissionLayer<L: Limit, W = Refuse, P = AnyRequest> {
    config: L::Config,
    mode: Mode,
    name: &'static str,
    observers: Vec<Arc<dyn Observer>>,
    protocol: P,
    hold_until: HoldUntil,
    when_full: PhantomData<fn() -> W>,
    /// Made when it is first needed, and then by everybody: until then the layer can be given a name.
    shared: OnceLock<Arc<Shared<L>>>,
}

impl<L: Limit> AdmissionLayer<L> {
    /// A layer that refuses calls when it is full. Its name is that of its module.
    ///
    /// # Panics
    ///
    /// If `config` is not valid. Use [`try_new`](Self::try_new) for one that is not written in the source.
    #[must_use]
    #[track_caller]
    pub fn new(config: L::Config) -> Self {
        valid(Self::try_new(config))
    }

    /// The same.
    ///
    /// # Errors
    ///
    /// If `config` is not valid.
    pub fn try_new(config: L::Config) -> Result<Self, InvalidConfig> {
        Self::of(config, Mode::Refuse)
    }

    /// A layer that is not ready when it is full, and wakes who waits until it is: for callers that can send the call
    /// elsewhere, such as a balancer. Each service takes its permit ahead of the call, as one that matters as much as calls
    /// of which nothing was said.
    ///
    /// # Panics
    ///
    /// If `config` is not valid.
    #[must_use]
    #[track_caller]
    pub fn backpressure(config: L::Config) -> Self {
        valid(Self::try_backpressure(config))
    }

    /// The same.
    ///
    /// # Errors
    ///
    /// If `config` is not valid.
    pub fn try_backpressure(config: L::Config) -> Result<Self, InvalidConfig> {
        Self::of(config, Mode::Backpressure)
    }

    /// A layer in which calls wait when it is full: up to `max_queued` of them, each up to `max_wait`.
    ///
    /// The service must be `Clone`, since each call that waits has one of its own to be made ready when it is its turn.
    ///
    /// # Panics
    ///
    /// If `config` is not valid.
    #[must_use]
    #[track_caller]
    pub fn waiting(config: L::Config) -> AdmissionLayer<L, Wait> {
        valid(Self::try_waiting(config))
    }

    /// The same.
    ///
    /// # Errors
    ///
    /// If `config` is not valid.
    pub fn try_waiting(config: L::Config) -> Result<AdmissionLayer<L, Wait>, InvalidConfig> {
        AdmissionLayer::of(config, Mode::Wait)
    }
}

impl<L: Limit<Config: Default>> Default for AdmissionLayer<L> {
    /// A layer with the default configuration, which rejects calls when it is full.
    fn default() -> Self {
        Self::new(L::Config::default())
    }
}

impl<L: Limit, W> AdmissionLayer<L, W> {
    fn of(config: L::Config, mode: Mode) -> Result<Self, InvalidConfig> {
        Shared::<L>::validate(&config, mode)?;
        Ok(Self {
            config,
            mode,
            name: L::MODULE,
            observers: Vec::new(),
            protocol: AnyRequest,
            hold_until: HoldUntil::Headers,
            when_full: PhantomData,
            shared: OnceLock::new(),
        })
    }
}

impl<L: Limit, W, P> AdmissionLayer<L, W, P> {
    crate::middleware::macros::layer_setters!();

    /// Sets all that is known of requests and responses: `Http` for those of the `http` crate. What a request
    /// [says](crate::protocol::CallAttributes) is of use here: how much it matters, on whose behalf it is made, and by when an answer
    /// is wanted. Default: it says nothing.
    #[must_use]
    pub fn protocol<Q>(self, protocol: Q) -> AdmissionLayer<L, W, Q> {
        let Self { config, mode, name, observers, hold_until, when_full, shared, .. } = self;
        AdmissionLayer { config, mode, name, observers, protocol, hold_until, when_full, shared }
    }

    /// Sets a closure that returns the [attributes](CallAttributes) of a call. It replaces all that the protocol
    /// reads, the deadline included; to add to that, start from the protocol's own. Call it after
    /// [`protocol`](Self::protocol), which would replace the closure.
    #[must_use]
    pub fn attributes<Req, F>(self, attributes: F) -> AdmissionLayer<L, W, WithAttributes<P, F>>
    where
        F: Fn(&Req) -> CallAttributes,
        P: Clone,
    {
        let protocol = WithAttributes::new(self.protocol.clone(), attributes);
        self.protocol(protocol)
    }

    /// Sets a closure that returns the [outcome](crate::classify) of a call, or its [`Class`](crate::classify::Class)
    /// alone. It matters to an adaptive limit, and to what is measured. The rest of the protocol stays. Call it after [`protocol`](Self::protocol), which would replace the
    /// closure.
    #[must_use]
    pub fn classify<Res, E, O, F>(self, classify: F) -> AdmissionLayer<L, W, Classified<P, F>>
    where
        F: Fn(Result<&Res, &E>) -> O,
        O: Into<Outcome>,
        P: Clone,
    {
        let protocol = Classified::new(self.protocol.clone(), classify);
        self.protocol(protocol)
    }

    #[track_caller]
    pub(crate) fn held_until(self, hold_until: HoldUntil) -> Self {
        assert_unused(&self.shared, "hold_until_body_end");
        Self { hold_until, ..self }
    }

    /// To inspect and change the limit, and to limit what is no service.
    #[must_use]
    pub fn handle(&self) -> AdmissionHandle<L> {
        AdmissionHandle::new(Arc::clone(self.shared()))
    }

    fn shared(&self) -> &Arc<Shared<L>> {
        self.shared.get_or_init(|| {
            let waits = self.mode == Mode::Wait;
            let reasons = [L::FULL, Reason::DeadlineExceeded, L::TIMEOUT];
            let (reasons, actions) =
                if waits { (&reasons[..], &[Action::Queued][..]) } else { (&reasons[..2], &[][..]) };
            let metrics = MetricSet { actions, load: true, ..MetricSet::new(L::MODULE, reasons) };
            let telemetry = Telemetry::new(&metrics, self.name, &self.observers);
            Arc::new_cyclic(|shared| {
                let lookout = Lookout::new(Weak::clone(shared));
                Shared::new(&self.config, self.mode, self.hold_until, telemetry, lookout)
            })
        })
    }
}

impl<S, L: Limit, W, P: Clone> Layer<S> for AdmissionLayer<L, W, P> {
    type Service = Admission<S, L, W, P>;

    fn layer(&self, inner: S) -> Self::Service {
        Admission::new(inner, Arc::clone(self.shared()), self.protocol.clone())
    }
}

impl<L: Limit, W, P: Clone> Clone for AdmissionLayer<L, W, P> {
    /// A clone shares the limit.
    fn clone(&self) -> Self {
        Self {
            config: self.config.clone(),
            mode: self.mode,
            name: self.name,
            observers: self.observers.clone(),
            protocol: self.protocol.clone(),
            hold_until: self.hold_until,
            when_full: PhantomData,
            shared: OnceLock::from(Arc::clone(self.shared())),
        }
    }
}

impl<L: Limit, W, P> fmt::Debug for AdmissionLayer<L, W, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AdmissionLayer")
            .field("module", &L::MODULE)
            .field("name", &self.name)
            .field("config", &self.config)
            .field("mode", &self.mode)
            .finish_non_exhaustive()
    }
}
