//! The view of layers on an error, whatever path it took: the error itself says what it is.
//!
//! Each kind of result, on each path, through each layer. Other events on the same thread or in the
//! same task, such as a rejection that a handler ignored, do not matter.

#![allow(clippy::disallowed_methods, reason = "time is paused")]
#![allow(clippy::panic, clippy::unwrap_used, reason = "helpers of tests")]

#[path = "support/fault.rs"]
mod fault;

use std::convert::Infallible;
use std::fmt;
use std::future::{Future, pending, ready};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::fault::Fault;
use stanchion::adaptive_limit::{Algorithm, Next, Sample};
use stanchion::circuit_breaker::CircuitBreakerHandle;
use stanchion::fallback::{Failure, FailureKind};
use stanchion::hedge::HedgeDelay;
use stanchion::{
    AdaptiveLimitConfig, AdaptiveLimitLayer, Backoff, CarryRejected, CircuitBreakerConfig,
    CircuitBreakerLayer, Error, FallbackLayer, HedgeConfig, HedgeLayer, Reason, Rejected, RetryConfig,
    RetryLayer, ThrottleConfig, ThrottleLayer, TimeoutLayer, Window,
};
use tower::buffer::Buffer;
use tower::load_shed::LoadShed;
use tower::util::BoxCloneSyncService;
use tower::{BoxError, Layer, Service, ServiceExt, service_fn};

const MS: Duration = Duration::from_millis(1);

/// The result of the service below all layers under test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// An open circuit rejects it.
    Rejected,
    /// A timeout gives it up.
    TimedOut,
    /// A layer gives it up, because the deadline has passed.
    PastDeadline,
    /// The service fails.
    Failed,
}

const KINDS: [Kind; 4] = [Kind::Rejected, Kind::TimedOut, Kind::PastDeadline, Kind::Failed];

type Inner = BoxCloneSyncService<(), (), Error<Fault>>;

fn erased<S, E>(service: S) -> BoxCloneSyncService<(), (), E>
where
    S: Service<(), Response = (), Error = E, Future: Send + 'static> + Clone + Send + Sync + 'static,
{
    BoxCloneSyncService::new(service)
}

fn open_circuit() -> CircuitBreakerLayer {
    let layer = CircuitBreakerLayer::new(CircuitBreakerConfig::new()).name("cache");
    layer.handle().force_open();
    layer
}

/// A service with layers of its own, real ones.
fn inner(kind: Kind) -> Inner {
    let past_deadline = || Rejected::new(Reason::DeadlineExceeded, "inner").with_reached_service(true);
    match kind {
        Kind::Rejected => erased(open_circuit().layer(service_fn(|()| ready(Ok(()))))),
        Kind::TimedOut => erased(TimeoutLayer::after(MS).layer(service_fn(|()| pending()))),
        Kind::PastDeadline => erased(service_fn(move |()| ready(Err(Error::from_rejected(past_deadline()))))),
        Kind::Failed => erased(service_fn(|()| ready(Err(Error::Inner(Fault("broken")))))),
    }
}

/// Makes a call that an open circuit rejects, and drops the error.
async fn swallowed() {
    let cache = open_circuit().layer(service_fn(|()| ready(Ok::<_, Error<Infallible>>(()))));
    cache.oneshot(()).await.unwrap_err();
}

/// A service that does `before` and then what `inner` does.
fn with<F, Fut>(kind: Kind, mut before: F) -> Inner
where
    F: FnMut() -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    let inner = inner(kind);
    erased(service_fn(move |()| {
        let (before, inner) = (before(), inner.clone());
        async move {
            before.await;
            inner.oneshot(()).await
        }
    }))
}

/// A service that makes two concurrent calls, and returns the result of the one that is not
/// swallowed.
fn joined(kind: Kind, swallowed_first: bool) -> Inner {
    let inner = inner(kind);
    erased(service_fn(move |()| {
        let inner = inner.clone();
        async move {
            if swallowed_first {
                tokio::join!(swallowed(), inner.oneshot(())).1
            } else {
                tokio::join!(inner.oneshot(()), swallowed()).0
            }
        }
    }))
}

/// An error type of an application.
#[derive(Debug, PartialEq)]
enum Own {
    Failed(Fault),
    Rejected(Rejected),
}

stanchion::carry_rejected!(Own, Rejected);

impl From<Error<Fault>> for Own {
    fn from(error: Error<Fault>) -> Self {
        match error {
            Error::Rejected(rejected) => Self::Rejected(rejected),
            Error::Inner(fault) => Self::Failed(fault),
        }
    }
}

async fn on_every_way(kind: Kind) {
    check("directly", kind, inner(kind)).await;
    check("after a swallowed rejection", kind, with(kind, swallowed)).await;
    let and_sleep = || async {
        swallowed().await;
        tokio::time::sleep(MS).await;
    };
    check("a while after a swallowed rejection", kind, with(kind, and_sleep)).await;
    check("joined, after", kind, joined(kind, true)).await;
    check("joined, before", kind, joined(kind, false)).await;
    let spawned = service_fn(move |()| {
        let task = tokio::spawn(inner(kind).oneshot(()));
        async { task.await.expect("it does not panic") }
    });
    check("in a task of its own", kind, erased(spawned)).await;
    check("Buffer", kind, erased(Buffer::new(inner(kind), 4))).await;
    check("Buffer, of boxed errors", kind, erased(Buffer::new(inner(kind).map_err(BoxError::from), 4))).await;
    check("LoadShed", kind, erased(LoadShed::new(inner(kind)))).await;
    check("Timeout", kind, erased(tower::timeout::Timeout::new(inner(kind), 1_000 * MS))).await;
    check("in a box", kind, erased(inner(kind).map_err(BoxError::from))).await;
    let in_two = |error| BoxError::from(Wrapped(BoxError::from(error)));
    check("in a box in a box", kind, erased(inner(kind).map_err(in_two))).await;
    check("an enum", kind, erased(inner(kind).map_err(Own::from))).await;
    check("nested", kind, erased(inner(kind).map_err(Error::Inner))).await;
    check("nested twice", kind, erased(inner(kind).map_err(|error| Error::Inner(Error::Inner(error))))).await;
    check("io", kind, erased(inner(kind).map_err(std::io::Error::other))).await;
    check(
        "io, nested",
        kind,
        erased(inner(kind).map_err(|error| Error::Inner(std::io::Error::other(error)))),
    )
    .await;
    #[cfg(feature = "anyhow")]
    {
        check("anyhow", kind, erased(inner(kind).map_err(anyhow::Error::from))).await;
        let in_context = |error| anyhow::Error::from(error).context("while it was tried");
        check("anyhow, in a context", kind, erased(inner(kind).map_err(in_context))).await;
    }
    #[cfg(feature = "grpc")]
    {
        let status = |error: Error<Fault>| match error {
            Error::Rejected(rejected) => tonic::Status::from_rejected(rejected),
            Error::Inner(fault) => tonic::Status::unavailable(fault.to_string()),
        };
        check("a status", kind, erased(inner(kind).map_err(status))).await;
    }
}

/// An error of a library around another one.
#[derive(Debug)]
struct Wrapped(BoxError);

impl fmt::Display for Wrapped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("it did not work")
    }
}

impl std::error::Error for Wrapped {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&*self.0)
    }
}

/// Asserts that every layer treats the result of `service` as it should.
async fn check<E>(way: &str, kind: Kind, service: BoxCloneSyncService<(), (), E>)
where
    E: CarryRejected + fmt::Debug + Send + 'static,
{
    let what = format!("{way}, {kind:?}");
    let error = service.clone().oneshot(()).await.unwrap_err();
    let reason = error.rejected().map(|rejected| rejected.reason());
    let expected = match kind {
        Kind::Rejected => Some(Reason::CircuitOpen),
        Kind::TimedOut => Some(Reason::TotalTimeout),
        Kind::PastDeadline => Some(Reason::DeadlineExceeded),
        Kind::Failed => None,
    };
    assert_eq!(reason, expected, "{what}: {error:?}");
    let is_failure = kind != Kind::Rejected;
    assert_eq!(breaker_counts(service.clone()).await, u64::from(is_failure), "breaker, {what}");
    assert_eq!(attempts(service.clone()).await, if is_failure { 3 } else { 1 }, "retry, {what}");
    assert_eq!(copies(service.clone()).await, if is_failure { 2 } else { 1 }, "hedge, {what}");
    // A throttle counts a caller's deadline while nothing else was accepted, as here.
    assert_eq!(not_accepted(service.clone()).await, u64::from(is_failure), "throttle, {what}");
    // An adaptive limit learns of one whose deadline has passed what it learns of one that gives
    // up.
    let is_lesson = u64::from(is_failure && kind != Kind::PastDeadline);
    assert_eq!(learned(service.clone()).await, is_lesson, "adaptive limit, {what}");
    let why = match kind {
        Kind::Rejected => FailureKind::Rejected,
        Kind::TimedOut | Kind::PastDeadline => FailureKind::TimedOut,
        Kind::Failed => FailureKind::Failed,
    };
    assert_eq!(
        fallbacks(service.clone()).await,
        [Some(why), (!is_failure).then_some(why)],
        "fallback, {what}"
    );
}

/// Returns the number of failures that a breaker counts for one call, by the service and by `run`.
async fn breaker_counts<E: CarryRejected + fmt::Debug>(service: BoxCloneSyncService<(), (), E>) -> u64 {
    let layer = CircuitBreakerLayer::new(CircuitBreakerConfig::new().window(Window::calls(10)));
    let counts = |handle: &CircuitBreakerHandle| {
        let snapshot = handle.snapshot();
        assert_eq!(snapshot.calls, snapshot.failures);
        snapshot.failures
    };
    layer.layer(service.clone()).oneshot(()).await.unwrap_err();
    let by_service = counts(&layer.handle());
    layer.handle().reset();
    layer.handle().run(service.oneshot(())).await.unwrap_err();
    assert_eq!(counts(&layer.handle()), by_service, "of `run`");
    by_service
}

/// A service, and the number of calls it received.
fn counting<E: 'static>(
    service: BoxCloneSyncService<(), (), E>,
) -> (impl Service<(), Response = (), Error = E, Future: Send> + Clone, Arc<Mutex<u32>>) {
    let calls = Arc::new(Mutex::new(0));
    let counted = Arc::clone(&calls);
    let service = service.map_request(move |()| *counted.lock().unwrap() += 1);
    (service, calls)
}

async fn attempts<E: CarryRejected + fmt::Debug + 'static>(service: BoxCloneSyncService<(), (), E>) -> u32 {
    let config = RetryConfig::new().max_attempts(3).backoff(Backoff::constant(MS));
    let layer = RetryLayer::new(config);
    let (service, calls) = counting(service);
    layer.layer(service.clone()).oneshot(()).await.unwrap_err();
    let by_service = *calls.lock().unwrap();
    layer.handle().run(|| service.clone().oneshot(())).await.unwrap_err();
    assert_eq!(*calls.lock().unwrap() - by_service, by_service, "of `run`");
    by_service
}

async fn copies<E: CarryRejected + fmt::Debug + 'static>(service: BoxCloneSyncService<(), (), E>) -> u32 {
    let config = HedgeConfig::new().delay(HedgeDelay::Fixed(500 * MS)).max_hedges(1);
    let (service, calls) = counting(service);
    HedgeLayer::new(config).layer(service).oneshot(()).await.unwrap_err();
    u32::clone(&calls.lock().unwrap())
}

async fn not_accepted<E: CarryRejected + fmt::Debug>(service: BoxCloneSyncService<(), (), E>) -> u64 {
    let layer = ThrottleLayer::new(ThrottleConfig::new());
    layer.layer(service).oneshot(()).await.unwrap_err();
    let snapshot = layer.handle().snapshot();
    snapshot.sent - snapshot.accepted
}

/// Counts the failures that it sees.
#[derive(Clone, Debug, Default)]
struct Notes(Arc<Mutex<u64>>);

impl PartialEq for Notes {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Algorithm for Notes {
    fn next(&mut self, limit: f64, sample: &Sample) -> Next {
        *self.0.lock().unwrap() += sample.failures;
        Next::limit(limit)
    }
}

/// Returns the number of failures that an adaptive limit counts.
async fn learned<E: CarryRejected + fmt::Debug>(service: BoxCloneSyncService<(), (), E>) -> u64 {
    let notes = Notes::default();
    let config = AdaptiveLimitConfig::new().window(10 * MS).min_calls(1).algorithm(notes.clone());
    let layer = AdaptiveLimitLayer::new(config);
    layer.layer(service).oneshot(()).await.unwrap_err();
    // A good call ends the window.
    tokio::time::sleep(1_000 * MS).await;
    layer.handle().run(async { Ok::<_, Rejected>(()) }).await.unwrap();
    u64::clone(&notes.0.lock().unwrap())
}

/// The kind of failure seen by a fallback for every failure, and by one for rejections alone.
async fn fallbacks<E>(service: BoxCloneSyncService<(), (), E>) -> [Option<FailureKind>; 2]
where
    E: CarryRejected + fmt::Debug + Send + 'static,
{
    let mut found = [None; 2];
    for (why, only_rejections) in found.iter_mut().zip([false, true]) {
        let told = Arc::new(Mutex::new(None));
        let telling = Arc::clone(&told);
        let layer = FallbackLayer::with(move |(), failure: &Failure<(), E>| {
            *telling.lock().unwrap() = Some(failure.kind());
            None
        });
        let layer = if only_rejections { layer.on_rejections() } else { layer };
        layer.layer(service.clone()).oneshot(()).await.unwrap_err();
        *why = *told.lock().unwrap();
    }
    found
}

#[tokio::test(start_paused = true)]
async fn every_layer_recognises_every_kind_of_error() {
    for kind in KINDS {
        on_every_way(kind).await;
    }
}

/// Before, the breaker recorded nothing here: the rejection was the last thing that had happened on
/// the thread.
#[tokio::test(start_paused = true)]
async fn failures_after_swallowed_rejections_open_the_circuit() {
    let layer = CircuitBreakerLayer::new(CircuitBreakerConfig::new().min_calls(20).failure_ratio(0.5));
    let service = layer.layer(with(Kind::Failed, swallowed));
    for _ in 0..20 {
        service.clone().oneshot(()).await.unwrap_err();
    }
    assert_eq!(layer.handle().state(), stanchion::circuit_breaker::State::Open);
}

/// An error type that cannot be asked is passed to a classifier.
#[tokio::test(start_paused = true)]
async fn layers_that_reject_nothing_accept_opaque_errors() {
    let fails = || service_fn(|()| ready(Err::<(), _>("broken")));
    let layer = FallbackLayer::value(()).classify_opaque(|result: Result<&(), &&str>| {
        if result.is_ok() { stanchion::classify::Class::Success } else { stanchion::classify::Class::Failure }
    });
    assert_eq!(layer.layer(fails()).oneshot(()).await, Ok(()));
    let hedge = HedgeLayer::new(HedgeConfig::new().delay(HedgeDelay::Fixed(MS))).classify_opaque(
        |result: Result<&(), &&str>| {
            let class = if result.is_ok() {
                stanchion::classify::Class::Success
            } else {
                stanchion::classify::Class::Failure
            };
            stanchion::classify::Outcome::from(class)
        },
    );
    assert_eq!(hedge.layer(fails()).oneshot(()).await, Err("broken"));
}

/// A chain of sources that has no end.
#[derive(Debug)]
struct Cyclic;

impl fmt::Display for Cyclic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("it is its own source")
    }
}

impl std::error::Error for Cyclic {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&Self)
    }
}

#[test]
fn a_chain_of_sources_without_an_end_is_given_up() {
    assert!(BoxError::from(Cyclic).rejected().is_none());
    assert!(Rejected::find(&Cyclic).is_none());
    #[cfg(feature = "http")]
    assert!(!stanchion::http::is_unprocessed(&Cyclic));
}

/// An error that panics when it is asked for its source.
#[derive(Debug)]
struct Panics;

impl fmt::Display for Panics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("it has no source")
    }
}

impl std::error::Error for Panics {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        panic!("asked for its source")
    }
}

#[tokio::test(start_paused = true)]
async fn an_error_that_panics_when_it_is_asked_is_a_failure() {
    let handle = CircuitBreakerLayer::new(CircuitBreakerConfig::new()).handle();
    for _ in 0..20 {
        let handle = handle.clone();
        let call = async move { handle.run(ready(Err::<(), _>(BoxError::from(Panics)))).await };
        assert!(tokio::spawn(call).await.unwrap_err().is_panic());
    }
    assert_eq!(handle.state(), stanchion::circuit_breaker::State::Open);
}

/// A boxed enum is recognised only if it returns the rejection as its source.
#[test]
fn an_enum_in_a_box_is_known_by_its_source() {
    #[derive(Debug)]
    enum Pay {
        Rejected(Rejected),
    }

    impl fmt::Display for Pay {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("not paid")
        }
    }

    impl std::error::Error for Pay {
        fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
            let Self::Rejected(rejected) = self;
            Some(rejected)
        }
    }

    stanchion::carry_rejected!(Pay, Rejected);
    let pay = || Pay::from_rejected(Rejected::new(Reason::CircuitOpen, "payments"));
    assert!(pay().rejected().is_some());
    assert!(BoxError::from(pay()).rejected().is_some());
    assert!(Error::Inner(pay()).rejected().is_some());
}
