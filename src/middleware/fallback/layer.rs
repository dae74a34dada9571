use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tower_layer::Layer;

use super::answer::{FallbackFn, Value};
use super::config::StaleConfig;
use super::failure::Failure;
use super::fallback_service::FallbackService;
use super::handle::StaleHandle;
use super::predicate::FallbackPredicate;
use super::save_request::SaveNothing;
use super::service::Fallback;
use super::shared::Shared;
use super::stale::Stale;
use crate::classify::{Asking, Outcome};
use crate::config::{InvalidConfig, assert_unused, valid};
use crate::protocol::{AnyRequest, Classified};
use crate::telemetry::{Action, MetricSet, Observer, Telemetry};

/// Applies a [fallback](super) to failed calls.
///
/// The layer owns the fallback. All services that it creates share it, as do those of its clones.
pub struct FallbackLayer<A, K = SaveNothing, P = Asking<AnyRequest>> {
    answer: Arc<A>,
    keep: Arc<K>,
    protocol: Arc<P>,
    about: About,
    /// Created on first use and shared from then on. Until then, setters can change the layer.
    shared: OnceLock<Arc<Shared<A, K, P>>>,
}

/// The settings of a layer besides the fallback itself.
#[derive(Clone)]
struct About {
    name: &'static str,
    observers: Vec<Arc<dyn Observer>>,
    actions: &'static [Action],
    only_rejections: bool,
}

impl<A> FallbackLayer<A> {
    /// Creates a layer with the fallback `answer` and the name `fallback`.
    #[must_use]
    pub fn new(answer: A) -> Self {
        Self::make(answer, SaveNothing, &[Action::FellBack, Action::ServedStale, Action::NoFallback])
    }
}

impl<A, K> FallbackLayer<A, K> {
    fn make(answer: A, keep: K, actions: &'static [Action]) -> Self {
        Self {
            answer: Arc::new(answer),
            keep: Arc::new(keep),
            protocol: Arc::new(Asking(AnyRequest)),
            about: About { name: "fallback", observers: Vec::new(), actions, only_rejections: false },
            shared: OnceLock::new(),
        }
    }
}

impl<V> FallbackLayer<Value<V>> {
    /// Creates a layer that responds with a clone of `value`.
    #[must_use]
    pub fn value(value: V) -> Self {
        Self::make(Value(value), SaveNothing, &[Action::FellBack])
    }
}

impl<F> FallbackLayer<FallbackFn<F>> {
    /// Creates a layer that calls `answer` with what was [saved](Self::keep) of the request and
    /// with the failure. If `answer` returns `None`, the failure is returned unchanged.
    ///
    /// `answer` runs in the task of the call, so it must not block. If the fallback takes time, use
    /// a [service](FallbackLayer::service).
    #[must_use]
    pub fn with<Saved, Res, E>(answer: F) -> Self
    where
        F: Fn(Saved, &Failure<Res, E>) -> Option<Res>,
    {
        Self::make(FallbackFn(answer), SaveNothing, &[Action::FellBack, Action::NoFallback])
    }
}

impl<T> FallbackLayer<FallbackService<T>> {
    /// Creates a layer that calls `service` with what was [saved](Self::keep) of the request. Use
    /// `keep` with `clone` to pass on the request itself. If `service` fails, with an error of any
    /// type, the caller receives the failure of the first service, since that is the cause.
    ///
    /// `service` is cloned only for calls that failed, and must then become ready.
    ///
    /// ```
    /// use stanchion::{Error, FallbackLayer};
    /// use tower::{Layer, ServiceExt, service_fn};
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() {
    /// let replica = service_fn(|item: String| async move { Ok::<_, std::fmt::Error>(format!("{item}, from a replica")) });
    /// let primary = service_fn(|_: String| async { Err::<String, _>(Error::Inner(std::fmt::Error)) });
    /// let service = FallbackLayer::service(replica).keep(String::clone).layer(primary);
    /// assert_eq!(service.oneshot("item 7".to_owned()).await.unwrap(), "item 7, from a replica");
    /// # }
    /// ```
    #[must_use]
    pub fn service(service: T) -> Self {
        Self::make(FallbackService::new(service), SaveNothing, &[Action::FellBack, Action::NoFallback])
    }
}

impl<T, K, P> FallbackLayer<FallbackService<T>, K, P> {
    /// Sets the longest time that a call waits for the fallback service to become ready. Default: 1
    /// s. A fallback that takes longer is overloaded, and should not receive more calls.
    #[must_use]
    pub fn ready_within(self, wait: Duration) -> Self {
        let answer = Arc::new(self.answer.ready_within(wait));
        Self { answer, shared: OnceLock::new(), ..self }
    }
}

impl<Key, Res, F> FallbackLayer<Stale<Key, Res>, F> {
    /// Creates a layer that responds with the last good response to a request with the same key,
    /// unless it is too old. `key` is called once per call. For a call without a key, no response
    /// is stored or returned.
    ///
    /// Each good response with a key is cloned, and stored under a lock that is rarely contended.
    ///
    /// # Panics
    ///
    /// If `config` is not valid. Use [`try_stale`](Self::try_stale) for a configuration that is
    /// only known at run time.
    #[must_use]
    #[track_caller]
    pub fn stale<Req>(config: StaleConfig, key: F) -> Self
    where
        F: Fn(&Req) -> Option<Key>,
    {
        valid(Self::try_stale(config, key))
    }

    /// Like [`stale`](Self::stale), but returns an error for an invalid configuration.
    ///
    /// # Errors
    ///
    /// If `config` is not valid.
    pub fn try_stale<Req>(config: StaleConfig, key: F) -> Result<Self, InvalidConfig>
    where
        F: Fn(&Req) -> Option<Key>,
    {
        config.validate()?;
        Ok(Self::make(Stale::new(config), key, &[Action::ServedStale, Action::NoFallback]))
    }
}

impl<Key, Res, M, K, P> FallbackLayer<Stale<Key, Res, M>, K, P> {
    /// Sets a function that changes each response that is returned again, given its age, for
    /// instance to mark it as stale. Default: the response is returned unchanged.
    #[must_use]
    pub fn mark<N: Fn(&mut Res, Duration)>(self, mark: N) -> FallbackLayer<Stale<Key, Res, N>, K, P> {
        let answer = Arc::new(Stale { answers: Arc::clone(&self.answer.answers), mark });
        FallbackLayer {
            answer,
            keep: self.keep,
            protocol: self.protocol,
            about: self.about,
            shared: OnceLock::new(),
        }
    }

    /// Returns a handle to inspect and clear the stored responses.
    #[must_use]
    pub fn handle(&self) -> StaleHandle<Key, Res> {
        StaleHandle::new(Arc::clone(&self.answer.answers))
    }
}

impl<A, P> FallbackLayer<A, SaveNothing, P> {
    /// Sets the function that saves what the fallback needs of each request. Default: nothing is
    /// saved.
    #[must_use]
    pub fn keep<Req, Saved, L: Fn(&Req) -> Saved>(self, keep: L) -> FallbackLayer<A, L, P> {
        FallbackLayer {
            answer: self.answer,
            keep: Arc::new(keep),
            protocol: self.protocol,
            about: self.about,
            shared: OnceLock::new(),
        }
    }
}

impl<A, K, P> FallbackLayer<A, K, P> {
    /// Sets the name of the layer, usually that of the dependency. The name appears in metrics and
    /// logs, so use one of a few fixed names, and never a URL or a key.
    ///
    /// # Panics
    ///
    /// If the layer was cloned, or has created a service or a handle: they would not share its
    /// state.
    #[must_use]
    #[track_caller]
    pub fn name(self, name: &'static str) -> Self {
        self.about("name", |about| about.name = name)
    }

    /// Limits the fallback to rejections by layers of this crate. Timeouts are excluded, since the
    /// service may have executed the call. The limit also applies to failures chosen by
    /// [`classify`](Self::classify) or [`when`](Self::when).
    ///
    /// # Panics
    ///
    /// If the layer was cloned, or has created a service or a handle: they would not share its
    /// state.
    #[must_use]
    #[track_caller]
    pub fn on_rejections(self) -> Self {
        self.about("on_rejections", |about| about.only_rejections = true)
    }

    /// Applies the fallback to every failure: rejections, timeouts, and failures of the service.
    /// The default.
    ///
    /// # Panics
    ///
    /// If the layer was cloned, or has created a service or a handle: they would not share its
    /// state.
    #[must_use]
    #[track_caller]
    pub fn on_failures(self) -> Self {
        self.about("on_failures", |about| about.only_rejections = false)
    }

    /// Sets what the layer knows about requests and responses, such as `Http` for those of the
    /// `http` crate. A call whose outcome is not [good](Outcome::is_good), rejections included,
    /// needs the fallback. Default: every error needs it, and no response does. Of `protocol`,
    /// [`classify`](Self::classify) and [`when`](Self::when), the last call wins.
    #[must_use]
    pub fn protocol<Q>(self, protocol: Q) -> FallbackLayer<A, K, Asking<Q>> {
        self.by(Asking(protocol))
    }

    /// Sets the [outcome](crate::classify) of a call with a closure, which may also return only a
    /// [`Class`](crate::classify::Class).
    #[must_use]
    pub fn classify<Res, E, O, F>(self, classify: F) -> FallbackLayer<A, K, Asking<Classified<AnyRequest, F>>>
    where
        F: Fn(Result<&Res, &E>) -> O,
        O: Into<Outcome>,
    {
        self.protocol(Classified::new(AnyRequest, classify))
    }

    /// Sets the outcome like [`classify`](Self::classify), for an error type that cannot [carry
    /// rejections](crate::CarryRejected), such as that of a client without inner layers. Rejections
    /// are then not recognised: `on_rejections` never uses the fallback, and [`Failure::kind`] is
    /// always `Failed`.
    #[must_use]
    pub fn classify_opaque<Res, E, O, F>(self, classify: F) -> FallbackLayer<A, K, Classified<AnyRequest, F>>
    where
        F: Fn(Result<&Res, &E>) -> O,
        O: Into<Outcome>,
    {
        self.by(Classified::new(AnyRequest, classify))
    }

    /// Sets a predicate that returns `true` for calls that need the fallback. It also sees
    /// rejections and timeouts.
    #[must_use]
    pub fn when<Res, E, F>(self, predicate: F) -> FallbackLayer<A, K, FallbackPredicate<F>>
    where
        F: Fn(Result<&Res, &E>) -> bool,
    {
        self.by(FallbackPredicate(predicate))
    }

    fn by<Q>(self, protocol: Q) -> FallbackLayer<A, K, Q> {
        FallbackLayer {
            answer: self.answer,
            keep: self.keep,
            protocol: Arc::new(protocol),
            about: self.about,
            shared: OnceLock::new(),
        }
    }

    /// Adds an observer.
    ///
    /// # Panics
    ///
    /// If the layer was cloned, or has created a service or a handle: they would not share its
    /// state.
    #[must_use]
    #[track_caller]
    pub fn observer(self, observer: impl Observer + 'static) -> Self {
        self.about("observer", |about| about.observers.push(Arc::new(observer)))
    }

    #[track_caller]
    fn about(mut self, setter: &str, change: impl FnOnce(&mut About)) -> Self {
        assert_unused(&self.shared, setter);
        change(&mut self.about);
        self
    }

    fn shared(&self) -> &Arc<Shared<A, K, P>> {
        self.shared.get_or_init(|| {
            let About { name, observers, actions, only_rejections } = &self.about;
            let metrics = MetricSet { actions, ..MetricSet::new("fallback", &[]) };
            Arc::new(Shared {
                answer: Arc::clone(&self.answer),
                keep: Arc::clone(&self.keep),
                protocol: Arc::clone(&self.protocol),
                only_rejections: *only_rejections,
                telemetry: Telemetry::new(&metrics, name, observers),
            })
        })
    }
}

impl<S, A, K, P> Layer<S> for FallbackLayer<A, K, P> {
    type Service = Fallback<S, A, K, P>;

    fn layer(&self, inner: S) -> Self::Service {
        Fallback::new(inner, Arc::clone(self.shared()))
    }
}

impl<A, K, P> Clone for FallbackLayer<A, K, P> {
    /// Returns a clone with the same fallback.
    fn clone(&self) -> Self {
        Self {
            answer: Arc::clone(&self.answer),
            keep: Arc::clone(&self.keep),
            protocol: Arc::clone(&self.protocol),
            about: self.about.clone(),
            shared: OnceLock::from(Arc::clone(self.shared())),
        }
    }
}

impl<A, K, P> fmt::Debug for FallbackLayer<A, K, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FallbackLayer")
            .field("name", &self.about.name)
            .field("answer", &std::any::type_name::<A>())
            .field("keep", &std::any::type_name::<K>())
            .field("protocol", &std::any::type_name::<P>())
            .field("only_rejections", &self.about.only_rejections)
            .finish_non_exhaustive()
    }
}
