//! Errors keep the user's type: stacks of layers over each error type, mixed with tower's own
//! layers, and the view of an outer layer on an inner layer's rejections.

#![allow(clippy::disallowed_methods, reason = "a test moves the clock, and spawns")]
#![allow(clippy::panic, clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests")]

use std::error::Error as StdError;
use std::fmt;
use std::future::{Future, pending, ready};
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use stanchion::circuit_breaker::{Readiness, State};
use stanchion::classify::Class;
use stanchion::{
    CarryRejected, CircuitBreaker, CircuitBreakerConfig, CircuitBreakerHandle, CircuitBreakerLayer, Error,
    Reason, Rejected,
};
use tokio::time::advance;
use tokio_test::{assert_pending, assert_ready, task};
use tower::balance::p2c::Balance;
use tower::buffer::Buffer;
use tower::discover::ServiceList;
use tower::limit::ConcurrencyLimitLayer;
use tower::load::{CompleteOnResponse, PendingRequests};
use tower::load_shed::{LoadShed, error::Overloaded};
use tower::timeout::{TimeoutLayer, error::Elapsed};
use tower::util::BoxCloneSyncService;
use tower::{BoxError, Layer, Service, ServiceBuilder, ServiceExt, service_fn};

const SECOND: Duration = Duration::from_secs(1);

/// Returns a circuit that opens at the first failure.
fn layer(name: &'static str) -> CircuitBreakerLayer {
    CircuitBreakerLayer::new(
        CircuitBreakerConfig::new().consecutive_failures(1).open_jitter(0.0).open_for(SECOND),
    )
    .name(name)
}

fn reset() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionReset, "reset by peer")
}

/// Returns a service that succeeds or fails as its request says.
fn backend()
-> impl Service<bool, Response = (), Error = io::Error, Future: Send> + Clone + Send + Sync + use<> {
    service_fn(|succeeds: bool| async move { if succeeds { Ok(()) } else { Err(reset()) } })
}

async fn call<S: Service<R>, R>(service: &mut S, request: R) -> Result<S::Response, S::Error> {
    service.ready().await?.call(request).await
}

// Three layers over each error type.

/// Three of our layers, outermost first.
struct Stack([CircuitBreakerLayer; 3]);

impl Stack {
    fn new() -> Self {
        Self(["outer", "middle", "inner"].map(layer))
    }

    fn around<S>(&self, inner: S) -> CircuitBreaker<CircuitBreaker<CircuitBreaker<S>>> {
        let [outer, middle, innermost] = &self.0;
        ServiceBuilder::new().layer(outer).layer(middle).layer(innermost).service(inner)
    }

    fn states(&self) -> [State; 3] {
        self.0.each_ref().map(|layer| layer.handle().state())
    }

    fn close(&self) {
        self.0.iter().for_each(|layer| layer.handle().reset());
    }
}

/// Calls pass. A failure passes unchanged, and all three layers count it. A rejection by one of the
/// three arrives with the name of that layer, and is no failure for the layers around it.
async fn three_layers_get_along<E>(
    stack: &Stack,
    mut service: impl Service<bool, Response = (), Error = E>,
    is_reset: impl Fn(&E) -> bool,
    rejected: impl Fn(&E) -> Option<Rejected>,
) where
    E: CarryRejected + fmt::Debug,
{
    call(&mut service, true).await.unwrap();
    let failure = call(&mut service, false).await.unwrap_err();
    assert!(is_reset(&failure), "{failure:?}");
    assert!(rejected(&failure).is_none());
    assert_eq!(stack.states(), [State::Open; 3]);
    stack.close();

    for (refusing, layer) in stack.0.iter().enumerate() {
        layer.handle().force_open();
        for _ in 0..30 {
            let refusal = call(&mut service, true).await.unwrap_err();
            assert!(!is_reset(&refusal));
            let rejected = rejected(&refusal).unwrap_or_else(|| panic!("{refusal:?}"));
            assert_eq!(rejected.layer(), ["outer", "middle", "inner"][refusing]);
            assert_eq!(rejected.reason(), Reason::CircuitOpen);
        }
        let mut expected = [State::Closed; 3];
        expected[refusing] = State::ForcedOpen;
        assert_eq!(stack.states(), expected);
        for other in &stack.0 {
            assert_eq!(other.handle().snapshot().calls, 0, "a refusal was counted");
        }
        stack.close();
    }
    call(&mut service, true).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn three_layers_over_a_boxed_error() {
    let stack = Stack::new();
    let service = stack.around(backend().map_err(BoxError::from));
    let is_reset = |error: &BoxError| error.is::<io::Error>();
    three_layers_get_along(&stack, service, is_reset, |error| Rejected::find(&**error)).await;
}

#[cfg(feature = "anyhow")]
#[tokio::test(start_paused = true)]
async fn three_layers_over_anyhow() {
    let stack = Stack::new();
    let service = stack.around(backend().map_err(anyhow::Error::from));
    let is_reset = |error: &anyhow::Error| error.is::<io::Error>();
    three_layers_get_along(&stack, service, is_reset, |error| error.downcast_ref().copied()).await;
    let in_context = anyhow::Error::from(refusal()).context("while paying");
    assert!(Rejected::find(in_context.as_ref()).is_some());
}

#[tokio::test(start_paused = true)]
async fn three_layers_over_an_own_enum() {
    #[derive(Debug)]
    enum Own {
        Io(io::Error),
        Rejected(Rejected),
    }

    stanchion::carry_rejected!(Own, Rejected);

    let stack = Stack::new();
    let service = stack.around(backend().map_err(Own::Io));
    let is_reset =
        |error: &Own| matches!(error, Own::Io(error) if error.kind() == io::ErrorKind::ConnectionReset);
    three_layers_get_along(&stack, service, is_reset, |error| match error {
        Own::Rejected(rejected) => Some(*rejected),
        Own::Io(_) => None,
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn three_layers_over_the_ready_made_error() {
    let stack = Stack::new();
    let service = stack.around(backend().map_err(Error::Inner));
    let is_reset = |error: &Error<io::Error>| error.inner().is_some();
    three_layers_get_along(&stack, service, is_reset, Error::rejected).await;
}

#[tokio::test(start_paused = true)]
async fn three_layers_over_an_error_of_std_io() {
    let stack = Stack::new();
    let is_reset = |error: &io::Error| error.kind() == io::ErrorKind::ConnectionReset;
    three_layers_get_along(&stack, stack.around(backend()), is_reset, CarryRejected::rejected).await;
}

/// An inner service that is not `Send`, with an error that is neither `Send` nor a
/// `std::error::Error`.
#[tokio::test(start_paused = true)]
async fn three_layers_over_what_is_not_send() {
    #[derive(Debug)]
    enum Own {
        Failed(Rc<str>),
        Rejected(Rejected),
    }

    stanchion::carry_rejected!(Own, Rejected);

    let stack = Stack::new();
    let calls = Rc::new(std::cell::Cell::new(0));
    let count = Rc::clone(&calls);
    let backend = service_fn(move |succeeds: bool| {
        count.set(count.get() + 1);
        let reason = Rc::<str>::from("reset");
        async move { if succeeds { Ok(()) } else { Err(Own::Failed(reason)) } }
    });
    let is_reset = |error: &Own| matches!(error, Own::Failed(reason) if &**reason == "reset");
    three_layers_get_along(&stack, stack.around(backend), is_reset, Own::rejected).await;
    assert_eq!(calls.get(), 3, "two successes and a failure");
}

// Chains of sources.

fn refusal() -> Rejected {
    let handle = layer("payments").handle();
    handle.force_open();
    handle.try_acquire().unwrap_err()
}

/// An error with a cause.
#[derive(Debug)]
struct Caused(io::Error);

impl fmt::Display for Caused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("payment failed")
    }
}

impl StdError for Caused {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(&self.0)
    }
}

/// Finds the first error of type `T` below `error`.
fn below<'a, T: StdError + 'static>(error: &'a (dyn StdError + 'static)) -> Option<&'a T> {
    let mut next = error.source();
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        next = error.source();
    }
    None
}

#[test]
fn the_sources_of_an_inner_error_are_all_reachable() {
    let error = Error::Inner(Caused(reset()));
    assert_eq!(error.to_string(), "payment failed");
    assert!(below::<Caused>(&error).is_some());
    assert_eq!(below::<io::Error>(&error).unwrap().kind(), io::ErrorKind::ConnectionReset);
    // Wrapped again, and boxed as a whole, as tower's layers do.
    let error = Error::Inner(error);
    assert!(below::<Error<Caused>>(&error).is_some());
    assert!(below::<io::Error>(&error).is_some());
    assert!(Rejected::find(&error).is_none());
    let error: BoxError = error.into();
    assert!(below::<Error<Caused>>(&*error).is_some());
    assert!(below::<io::Error>(&*error).is_some());
    assert!(Rejected::find(&*error).is_none());
    assert!(error.rejected().is_none());
}

#[test]
fn an_inner_io_error_is_reachable() {
    let error = Error::Inner(reset());
    assert_eq!(below::<io::Error>(&error).unwrap().kind(), io::ErrorKind::ConnectionReset);
}

#[test]
fn any_other_inner_error_is_reachable_too_and_stays_so_once_it_is_boxed() {
    let error = Error::Inner(Caused(reset()));
    assert!(matches!(error.inner(), Some(Caused(_))));
    assert!(below::<Caused>(&error).is_some());
    assert!(below::<io::Error>(&error).is_some());
    let error = BoxError::from(error);
    assert!(below::<Caused>(&*error).is_some());
    assert!(below::<io::Error>(&*error).is_some());
}

#[test]
fn a_rejection_is_found_anywhere_in_the_chain() {
    let rejected = refusal();
    let direct: Error<io::Error> = Error::Rejected(rejected);
    let wrapped: Error<Error<io::Error>> = Error::Inner(Error::Rejected(rejected));
    let caused = Caused(io::Error::other(Error::<Caused>::Rejected(rejected)));
    let in_io = io::Error::other(BoxError::from(Error::<Caused>::Rejected(rejected)));
    let errors: [&(dyn StdError + 'static); 5] = [&rejected, &direct, &wrapped, &caused, &in_io];
    for error in errors {
        assert_eq!(Rejected::find(error), Some(rejected), "{error:?}");
    }
}

#[test]
fn errors_read_as_one_line_without_a_full_stop() {
    assert_eq!(refusal().to_string(), "rejected by payments: circuit is open");
    let handle = layer("payments").handle();
    handle.trip_for(SECOND);
    let rejected = handle.try_acquire().unwrap_err();
    assert!(
        rejected.to_string().starts_with("rejected by payments: circuit is open, retry after "),
        "{rejected}"
    );
    assert_eq!(Error::Inner(reset()).to_string(), "reset by peer");
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_given_up_says_so_and_for_how_long_it_was_waited() {
    let never = || pending::<Result<(), Error<io::Error>>>();
    let total = stanchion::TimeoutLayer::after(90 * SECOND).name("payments").handle();
    let attempt = stanchion::TimeoutLayer::per_attempt(SECOND / 4).name("payments").handle();
    let errors = [total.run(never()).await.unwrap_err(), attempt.run(never()).await.unwrap_err()];
    let texts = [
        "given up by payments: total timeout after 90s",
        "given up by payments: attempt timeout after 250ms",
    ];
    for ((error, text), limit) in errors.iter().zip(texts).zip([90 * SECOND, SECOND / 4]) {
        assert_eq!(error.to_string(), text);
        let rejected = error.rejected().unwrap();
        assert_eq!((rejected.limit(), rejected.retry_after()), (Some(limit), None));
        assert!(rejected.reached_service());
        assert_eq!(Rejected::find(error), Some(rejected));
    }
    assert_eq!((refusal().limit(), refusal().reached_service()), (None, false));
}

#[test]
fn every_reason_has_a_name_and_a_text_of_its_own() {
    let names: std::collections::BTreeSet<_> = Reason::ALL.iter().map(|reason| reason.as_str()).collect();
    let texts: std::collections::BTreeSet<_> = Reason::ALL.iter().map(ToString::to_string).collect();
    assert_eq!((names.len(), texts.len()), (Reason::ALL.len(), Reason::ALL.len()));
    for text in names.into_iter().chain(texts.iter().map(String::as_str)) {
        assert!(text.chars().all(|char| char.is_ascii_lowercase() || " _-".contains(char)), "{text}");
    }
}

// Mixed with tower's layers.

#[tokio::test(start_paused = true)]
async fn a_timeout_in_between_fails_for_the_outer_and_cancels_for_the_inner() {
    let (outer, inner) = (layer("outer"), layer("inner"));
    let mut service = ServiceBuilder::new()
        .layer(&outer)
        .layer(TimeoutLayer::new(SECOND))
        .layer(&inner)
        .service(service_fn(|(): ()| pending::<Result<(), Error<io::Error>>>()));
    let error = call(&mut service, ()).await.unwrap_err();
    assert!(error.is::<Elapsed>(), "{error:?}");
    assert_eq!(outer.handle().state(), State::Open);
    assert_eq!(inner.handle().state(), State::Closed);
    assert_eq!(inner.handle().snapshot().calls, 0);
}

#[tokio::test(start_paused = true)]
async fn a_rejection_passes_through_towers_layers_and_is_ignored_by_the_outer_layer() {
    let (outer, inner) = (layer("outer"), layer("inner"));
    let mut service = ServiceBuilder::new()
        .layer(&outer)
        .load_shed()
        .buffer(8)
        .layer(TimeoutLayer::new(SECOND))
        .concurrency_limit(8)
        .layer(&inner)
        .map_err(Error::Inner)
        .service(backend());
    for _ in 0..25 {
        call(&mut service, true).await.unwrap();
        inner.handle().force_open();
        let refused = call(&mut service, true).await.unwrap_err();
        assert_eq!(Rejected::find(&*refused).unwrap().layer(), "inner");
        inner.handle().reset();
    }
    assert_eq!(outer.handle().state(), State::Closed);
    let failed = call(&mut service, false).await.unwrap_err();
    assert_eq!(below::<io::Error>(&*failed).unwrap().kind(), io::ErrorKind::ConnectionReset);
    assert_eq!(outer.handle().state(), State::Open, "a failure that passes through is still one");
}

/// An error from `poll_ready` would end the buffer's worker for good.
#[tokio::test(start_paused = true)]
async fn a_buffer_outlives_an_open_circuit() {
    for readiness in [Readiness::Reject, Readiness::Pending] {
        let layer = layer("inner").readiness(readiness);
        let mut buffer = Buffer::new(layer.layer(backend().map_err(Error::Inner)), 4);
        call(&mut buffer, false).await.unwrap_err();
        assert_eq!(layer.handle().state(), State::Open);
        if readiness == Readiness::Reject {
            let refused = call(&mut buffer, true).await.unwrap_err();
            assert!(Rejected::find(&*refused).is_some(), "{refused:?}");
            advance(SECOND).await;
        }
        // With `Pending`, it waits until the circuit probes.
        call(&mut buffer, true).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn load_is_shed_while_a_circuit_that_is_waited_for_is_open() {
    let layer = layer("inner").readiness(Readiness::Pending);
    let mut service = LoadShed::new(layer.layer(backend().map_err(Error::Inner)));
    call(&mut service, true).await.unwrap();
    call(&mut service, false).await.unwrap_err();
    let shed = call(&mut service, true).await.unwrap_err();
    assert!(shed.is::<Overloaded>(), "{shed:?}");
    advance(SECOND).await;
    call(&mut service, true).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn stacks_may_be_called_in_spawned_tasks() {
    let stack = Stack::new();
    let erased = BoxCloneSyncService::new(backend().map_err(BoxError::from));
    let boxed = stack.around(erased);
    let ready_made = stack.around(backend().map_err(Error::Inner));
    let as_it_is = stack.around(backend());
    let limited = ConcurrencyLimitLayer::new(2).layer(stack.around(ready_made.clone()));
    let buffered = Buffer::new(stack.around(backend()).map_err(BoxError::from), 4);
    tokio::spawn(async move { boxed.oneshot(true).await }).await.unwrap().unwrap();
    tokio::spawn(async move { ready_made.oneshot(true).await }).await.unwrap().unwrap();
    tokio::spawn(async move { as_it_is.oneshot(true).await }).await.unwrap().unwrap();
    tokio::spawn(async move { limited.oneshot(true).await }).await.unwrap().unwrap();
    #[cfg(feature = "anyhow")]
    {
        let anyhow = stack.around(backend().map_err(anyhow::Error::from));
        tokio::spawn(async move { anyhow.oneshot(true).await }).await.unwrap().unwrap();
    }
    // Not in a block of its own: tower's buffer asks for a bound that rustc cannot see through
    // there (#64552).
    tokio::spawn(buffered.oneshot(true)).await.unwrap().unwrap();
}

// Under a balancer.

/// Three endpoints, each behind its own circuit.
struct Endpoints {
    layers: [CircuitBreakerLayer; 3],
    hits: [Arc<AtomicUsize>; 3],
    is_first_sick: Arc<AtomicBool>,
}

impl Endpoints {
    fn new() -> Self {
        let first = layer("endpoints").readiness(Readiness::Pending);
        let layers = [first.with_new_state(), first.with_new_state(), first.with_new_state()];
        Self { layers, hits: Default::default(), is_first_sick: Arc::new(AtomicBool::new(true)) }
    }

    fn list(
        &self,
    ) -> Vec<
        impl Service<(), Response = (), Error = Error<io::Error>, Future: Send>
        + tower::load::Load<Metric: fmt::Debug>
        + Send
        + use<>,
    > {
        let endpoint = |place: usize| {
            let (hits, sick) = (Arc::clone(&self.hits[place]), Arc::clone(&self.is_first_sick));
            let service = service_fn(move |(): ()| {
                hits.fetch_add(1, Ordering::Relaxed);
                let fails = place == 0 && sick.load(Ordering::Relaxed);
                ready(if fails { Err(Error::Inner(reset())) } else { Ok(()) })
            });
            PendingRequests::new(self.layers[place].layer(service), CompleteOnResponse::default())
        };
        (0..3).map(endpoint).collect()
    }

    /// Returns the calls since the last time.
    fn hits(&self) -> [usize; 3] {
        self.hits.each_ref().map(|hits| hits.swap(0, Ordering::Relaxed))
    }
}

#[tokio::test(start_paused = true)]
async fn a_balancer_sends_calls_around_an_open_circuit_and_back_once_it_probes() {
    let endpoints = Endpoints::new();
    let mut balance = Balance::new(ServiceList::new::<()>(endpoints.list()));
    let mut failed = 0;
    for _ in 0..300 {
        failed += usize::from(call(&mut balance, ()).await.is_err());
    }
    let hits = endpoints.hits();
    assert_eq!((hits[0], failed), (1, 1), "one failure opens the circuit, and nobody notices any more");
    assert_eq!(hits.iter().sum::<usize>(), 300);

    // It still fails: after one trial call, it gets none for a longer time.
    advance(SECOND).await;
    let mut failed = 0;
    for _ in 0..300 {
        failed += usize::from(call(&mut balance, ()).await.is_err());
    }
    assert_eq!((endpoints.hits()[0], failed), (1, 1));

    endpoints.is_first_sick.store(false, Ordering::Relaxed);
    advance(2 * SECOND).await;
    for _ in 0..300 {
        call(&mut balance, ()).await.unwrap();
    }
    let hits = endpoints.hits();
    assert!(hits[0] > 30, "{hits:?}: the balancer has lost the endpoint");
    assert_eq!(endpoints.layers[0].handle().state(), State::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_balancer_whose_circuits_are_all_open_waits_for_the_first_that_probes() {
    let endpoints = Endpoints::new();
    let balance = Balance::new(ServiceList::new::<()>(endpoints.list()));
    let buffer = Buffer::new(balance, 4);
    for (place, layer) in (1..).zip(&endpoints.layers) {
        layer.handle().trip_for(place * SECOND);
    }
    let before = tokio::time::Instant::now();
    endpoints.is_first_sick.store(false, Ordering::Relaxed);
    tokio::spawn(buffer.oneshot(())).await.unwrap().unwrap();
    assert_eq!(before.elapsed().as_secs(), 1);
    assert_eq!(endpoints.hits(), [1, 0, 0]);
}

/// A reservation in `poll_ready` may be lost before the call, to an operator's command or to
/// another caller.
#[tokio::test(start_paused = true)]
async fn a_service_whose_reserved_trial_call_is_lost_is_not_ready_any_more() {
    let config = CircuitBreakerConfig::new().probes(1).probe_timeout(SECOND);
    let layer = CircuitBreakerLayer::new(config).readiness(Readiness::Pending);
    let handle = layer.handle();
    let mut service = layer.layer(Backend);
    let mut waiting = task::spawn(());

    handle.trip_for(Duration::ZERO);
    assert_ready!(waiting.enter(|cx, _| service.poll_ready(cx))).unwrap();
    handle.force_open();
    assert_pending!(waiting.enter(|cx, _| service.poll_ready(cx)));

    handle.probe();
    assert_ready!(waiting.enter(|cx, _| service.poll_ready(cx))).unwrap();
    advance(SECOND).await;
    let other = handle.try_acquire().unwrap();
    assert_pending!(waiting.enter(|cx, _| service.poll_ready(cx)));
    other.finish(Class::Success);
    assert!(waiting.is_woken());
    assert_ready!(waiting.enter(|cx, _| service.poll_ready(cx))).unwrap();
    service.call(true).await.unwrap();
}

// The view of an outer layer on an inner layer's rejections.

/// Puts two circuits around `between`, of which the inner one rejects all calls, and asserts that
/// the outer one ignores the rejections.
async fn assert_ignored<S>(between: impl Fn(CircuitBreaker<Backend>) -> S)
where
    S: Service<bool, Response = (), Error = Error<io::Error>>,
{
    let (outer, inner) = (layer("outer"), layer("inner"));
    let mut service = outer.layer(between(inner.layer(Backend)));
    inner.handle().force_open();
    for _ in 0..3 {
        let refused = call(&mut service, true).await.unwrap_err();
        assert_eq!(refused.rejected().unwrap().layer(), "inner");
    }
    assert_eq!(outer.handle().state(), State::Closed, "a refusal further in was taken for a failure");
    assert_eq!(outer.handle().snapshot().calls, 0);
    inner.handle().reset();
    call(&mut service, false).await.unwrap_err();
    assert_eq!(outer.handle().state(), State::Open, "a failure was ignored");
}

/// Like [`backend`], with a type that has a name.
#[derive(Clone, Copy, Debug)]
struct Backend;

impl Service<bool> for Backend {
    type Response = ();
    type Error = Error<io::Error>;
    type Future = std::future::Ready<Result<(), Error<io::Error>>>;

    fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), Self::Error>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, succeeds: bool) -> Self::Future {
        ready(if succeeds { Ok(()) } else { Err(Error::Inner(reset())) })
    }
}

#[tokio::test(start_paused = true)]
async fn a_rejection_is_ignored_by_the_outer_layer() {
    assert_ignored(|inner| inner).await;
}

#[tokio::test(start_paused = true)]
async fn a_rejection_is_ignored_by_the_outer_layer_through_a_function() {
    assert_ignored(|inner| {
        service_fn(move |request: bool| {
            let mut inner = inner.clone();
            async move { call(&mut inner, request).await }
        })
    })
    .await;
}

/// The service between the circuits logs and waits a little before it passes the error on.
#[tokio::test(start_paused = true)]
async fn a_rejection_is_ignored_by_the_outer_layer_a_poll_later() {
    assert_ignored(|inner| {
        service_fn(move |request: bool| {
            let mut inner = inner.clone();
            async move {
                let answer = call(&mut inner, request).await;
                tokio::task::yield_now().await;
                answer
            }
        })
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_rejection_is_ignored_by_the_outer_layer_through_a_retry() {
    assert_ignored(|inner| {
        service_fn(move |request: bool| {
            let mut inner = inner.clone();
            async move {
                if let Ok(answer) = call(&mut inner, request).await {
                    return Ok(answer);
                }
                tokio::time::sleep(SECOND).await;
                call(&mut inner, request).await
            }
        })
    })
    .await;
}

/// One service rejects, and another then fails: the caller receives the failure.
async fn assert_failure<F>(pause: impl Fn() -> F)
where
    F: Future<Output = ()>,
{
    let (outer, primary, secondary) = (layer("outer"), layer("primary"), layer("secondary"));
    let inner = (primary.layer(Backend), secondary.layer(Backend));
    let mut service = outer.layer(service_fn(|request: bool| {
        let (mut primary, mut secondary) = inner.clone();
        let pause = pause();
        async move {
            call(&mut primary, request).await.unwrap_err();
            pause.await;
            call(&mut secondary, request).await
        }
    }));
    primary.handle().force_open();
    let failed = call(&mut service, false).await.unwrap_err();
    assert!(failed.inner().is_some(), "{failed:?}");
    assert_eq!(outer.handle().state(), State::Open, "a failure was taken for a refusal");
}

#[tokio::test(start_paused = true)]
async fn a_failure_after_an_inner_rejection_is_a_failure() {
    assert_failure(|| ready(())).await;
}

#[tokio::test(start_paused = true)]
async fn a_failure_some_time_after_an_inner_rejection_is_a_failure() {
    assert_failure(tokio::task::yield_now).await;
}

/// A rejection in another task is known only by what the error says.
#[tokio::test(start_paused = true)]
async fn a_rejection_in_another_task_is_ignored() {
    let inner = layer("inner");
    let outer = layer("outer").classify(|result: Result<&(), &BoxError>| match result {
        Ok(()) => Class::Success,
        Err(error) if Rejected::find(&**error).is_some() => Class::Ignored,
        Err(_) => Class::Failure,
    });
    let service = inner.layer(backend().map_err(BoxError::from));
    let mut service = outer.layer(service_fn(move |request: bool| {
        let mut service = service.clone();
        let task = tokio::spawn(async move { call(&mut service, request).await });
        async { task.await.unwrap() }
    }));
    inner.handle().force_open();
    call(&mut service, true).await.unwrap_err();
    assert_eq!(outer.handle().state(), State::Closed);
    inner.handle().reset();
    call(&mut service, false).await.unwrap_err();
    assert_eq!(outer.handle().state(), State::Open);
}

#[tokio::test(start_paused = true)]
async fn a_rejection_is_ignored_by_run() {
    let (outer, inner) = (layer("outer").handle(), layer("inner").handle());
    inner.force_open();
    let run = |outer: &CircuitBreakerHandle, inner: &CircuitBreakerHandle| {
        let call = inner.run(async { Ok::<_, Error<io::Error>>(()) });
        outer.run(call)
    };
    for _ in 0..3 {
        assert_eq!(run(&outer, &inner).await.unwrap_err().rejected().unwrap().layer(), "inner");
    }
    assert_eq!(outer.state(), State::Closed);
}
