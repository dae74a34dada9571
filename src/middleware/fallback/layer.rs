use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tower_layer::Layer;

use super::answer::{Value, With};
use super::by_service::ByService;
use super::config::StaleConfig;
use super::failure::Failure;
use super::handle::StaleHandle;
use super::keep::Nothing;
use super::service::Fallback;
use super::shared::Shared;
use super::stale::Stale;
use super::when::When;
use crate::classify::{Asking, Outcome};
use crate::config::{InvalidConfig, assert_unused, valid};
use crate::protocol::{AnyRequest, Classified};
use crate::telemetry::{Action, MetricSet, Observer, Telemetry};

/// [Answers failed calls otherwise](super).
///
/// The layer owns the fallback: all services it makes share it, and so do those of its clones.
pub struct FallbackLayer<A, K = Nothing, P = Asking<AnyRequest>> {
    answer: Arc<A>,
    keep: Arc<K>,
    protocol: Arc<P>,
    about: About,
    /// Made when it is first needed, and then by everybody: until then the layer can be given a name.
    shared: OnceLock<Arc<Shared<A, K, P>>>,
}

/// What there is to know of a layer besides what it calls.
#[derive(Clone)]
struct About {
    name: &'static str,
    observers: Vec<Arc<dyn Observer>>,
    actions: &'static [Action],
    only_refusals: bool,
}

impl<A> FallbackLayer<A> {
    /// Answers with `answer`, and has the name `fallback`.
    #[must_use]
    pub fn new(answer: A) -> Self {
        Self::make(answer, Nothing, &[Action::FellBack, Action::ServedStale, Action::NoFallback])
    }
}

impl<A, K> FallbackLayer<A, K> {
    fn make(answer: A, keep: K, actions: &'static [Action]) -> Self {
        Self {
            answer: Arc::new(answer),
            keep: Arc::new(keep),
            protocol: Arc::new(Asking(AnyRequest)),
            about: About { name: "fallback", observers: Vec::new(), actions, only_refusals: false },
            shared: OnceLock::new(),
        }
    }
}

impl<V> FallbackLayer<Value<V>> {
    /// Answers with a clone of `value`, made when it is needed.
    #[must_use]
    pub fn value(value: V) -> Self {
        Self::make(Value(value), Nothing, &[Action::FellBack])
    }
}

impl<F> FallbackLayer<With<F>> {
    /// Answers with what `answer` makes of what was [kept](Self::keep) of the request and of the failure, if anything;
    /// otherwise the failure stays as it was.
    ///
    /// `answer` is not called on a task of its own: it must not block. What takes time is a
    /// [service](FallbackLayer::service).
    #[must_use]
    pub fn with<Saved, Res, E>(answer: F) -> Self
    where
        F: Fn(Saved, &Failure<Res, E>) -> Option<Res>,
    {
        Self::make(With(answer), Nothing, &[Action::FellBack, Action::NoFallback])
    }
}

impl<T> FallbackLayer<ByService<T>> {
    /// Answers with what `service` answers to what was [kept](Self::keep) of the request; `keep` with `clone` gives it the
    /// same request. Its own error, which may be of any type, is not handed out: that of the first service is, for this
    /// is what has to be mended.
    ///
    /// It is cloned for each call that failed, and for no other, and then asked whether it is ready.
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
        Self::make(ByService::new(service), Nothing, &[Action::FellBack, Action::NoFallback])
    }
}

impl<T, K, P> FallbackLayer<ByService<T>, K, P> {
    /// How long a call waits for the service that is the fallback to become ready. Default: 1 s, after which a fallback
    /// that is overloaded is better left alone.
    #[must_use]
    pub fn ready_within(self, wait: Duration) -> Self {
        let answer = Arc::new(self.answer.ready_within(wait));
        Self { answer, shared: OnceLock::new(), ..self }
    }
}

impl<Key, Res, F> FallbackLayer<Stale<Key, Res>, F> {
    /// Answers with the last good answer to a request with the same key, if it is not too old. `key` is asked once for
    /// each call; without a key its answer is neither held nor given.
    ///
    /// Each good answer with a key is cloned, and put in its place under a lock that few others want at that moment.
    ///
    /// # Panics
    ///
    /// If `config` is not valid. Use [`try_stale`](Self::try_stale) for one that is not written in the source.
    #[must_use]
    #[track_caller]
    pub fn stale<Req>(config: StaleConfig, key: F) -> Self
    where
        F: Fn(&Req) -> Option<Key>,
    {
        valid(Self::try_stale(config, key))
    }

    /// The same.
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
    /// Lets `mark` change each answer that is given again, which is so old: to tell the caller. Default: it is given as
    /// it was.
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

    /// To see and forget the answers that are held.
    #[must_use]
    pub fn handle(&self) -> StaleHandle<Key, Res> {
        StaleHandle::new(Arc::clone(&self.answer.answers))
    }
}

impl<A, P> FallbackLayer<A, Nothing, P> {
    /// Keeps of each request what `keep` takes from it, for the fallback. Default: nothing.
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
    /// Names the layer, after the dependency for which there is a fallback. The name is in metrics and logs, so it must be
    /// one of few: never a URL or a key.
    ///
    /// # Panics
    ///
    /// If the layer was cloned, or has made a service or a handle: they would not share its state.
    #[must_use]
    #[track_caller]
    pub fn name(self, name: &'static str) -> Self {
        self.about("name", |about| about.name = name)
    }

    /// Of all failures falls back only for rejections by layers of this crate, so not where the service may have been at
    /// work: not for a timeout. Of what [`classify`](Self::classify) or [`when`](Self::when) chooses, only rejections are left, too.
    ///
    /// # Panics
    ///
    /// If the layer was cloned, or has made a service or a handle: they would not share its state.
    #[must_use]
    #[track_caller]
    pub fn on_rejections(self) -> Self {
        self.about("on_rejections", |about| about.only_refusals = true)
    }

    /// Falls back for everything that is a failure: rejections, timeouts, and what the service did not do well. The default.
    ///
    /// # Panics
    ///
    /// If the layer was cloned, or has made a service or a handle: they would not share its state.
    #[must_use]
    #[track_caller]
    pub fn on_failures(self) -> Self {
        self.about("on_failures", |about| about.only_refusals = false)
    }

    /// Sets all that is known of requests and responses: `Http` for those of the `http` crate. What is not
    /// [good](Outcome::is_good), so rejections too, needs the fallback. Default: every error, and no response. Of
    /// `protocol`, [`classify`](Self::classify) and [`when`](Self::when) the last one counts.
    #[must_use]
    pub fn protocol<Q>(self, protocol: Q) -> FallbackLayer<A, K, Asking<Q>> {
        self.by(Asking(protocol))
    }

    /// Sets the [outcome](crate::classify) of a call by a closure. A closure may return a
    /// [`Class`](crate::classify::Class) alone.
    #[must_use]
    pub fn classify<Res, E, O, F>(self, classify: F) -> FallbackLayer<A, K, Asking<Classified<AnyRequest, F>>>
    where
        F: Fn(Result<&Res, &E>) -> O,
        O: Into<Outcome>,
    {
        self.protocol(Classified::new(AnyRequest, classify))
    }

    /// Sets the outcome as [`classify`](Self::classify) does, for an error type that does not
    /// [carry rejections](crate::CarryRejected), such as that of a client with no other layer inside. Rejections are not
    /// recognised then: `on_rejections` never falls back, and [`Failure::why`] is always `Failed`.
    #[must_use]
    pub fn classify_opaque<Res, E, O, F>(self, classify: F) -> FallbackLayer<A, K, Classified<AnyRequest, F>>
    where
        F: Fn(Result<&Res, &E>) -> O,
        O: Into<Outcome>,
    {
        self.by(Classified::new(AnyRequest, classify))
    }

    /// Sets a predicate that returns `true` for a call that needs the fallback. Rejections and timeouts are put before it.
    #[must_use]
    pub fn when<Res, E, F>(self, predicate: F) -> FallbackLayer<A, K, When<F>>
    where
        F: Fn(Result<&Res, &E>) -> bool,
    {
        self.by(When(predicate))
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
    /// If the layer was cloned, or has made a service or a handle: they would not share its state.
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
            let About { name, observers, actions, only_refusals } = &self.about;
            let metrics = MetricSet { actions, ..MetricSet::new("fallback", &[]) };
            Arc::new(Shared {
                answer: Arc::clone(&self.answer),
                keep: Arc::clone(&self.keep),
                protocol: Arc::clone(&self.protocol),
                only_refusals: *only_refusals,
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
    /// A clone has the same fallback.
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
            .field("only_refusals", &self.about.only_refusals)
            .finish_non_exhaustive()
    }
}
