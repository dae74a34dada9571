//! Fallbacks for failed calls, through the public API.

#![allow(clippy::disallowed_methods, reason = "a test moves the clock")]
#![allow(clippy::panic, clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests")]

#[path = "support/fault.rs"]
mod fault;
#[path = "fallback/foreign.rs"]
mod foreign;

use std::cell::Cell;
use std::fmt;
use std::future::{Future, pending, poll_fn, ready};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use crate::fault::Fault;
use stanchion::circuit_breaker::State;
use stanchion::classify::Class;
use stanchion::fallback::{Failure, FailureKind, Stale};
use stanchion::telemetry::{Event, LayerId};
use stanchion::{
    Backoff, CircuitBreakerConfig, CircuitBreakerHandle, CircuitBreakerLayer, Error, FallbackLayer, Reason,
    RetryConfig, RetryLayer, StaleConfig,
};
use tokio::time::{Instant, advance};
use tokio_test::{assert_pending, assert_ready, task};
use tower::{Layer, Service, ServiceBuilder, ServiceExt, service_fn};

const SECOND: Duration = Duration::from_secs(1);

type Failed = Error<Fault>;
type Outcome = Result<u32, Failed>;

/// Returns a service whose calls end as their request says.
fn backend() -> impl Service<Outcome, Response = u32, Error = Failed, Future: Send> + Clone {
    service_fn(|end: Outcome| async move { end })
}

fn failed<T>() -> Result<T, Failed> {
    Err(Error::Inner(Fault("failed")))
}

fn breaker() -> (CircuitBreakerLayer, CircuitBreakerHandle) {
    let layer = CircuitBreakerLayer::new(CircuitBreakerConfig::new());
    let handle = layer.handle();
    (layer, handle)
}

fn is_refusal<T: fmt::Debug>(result: &Result<T, Failed>) -> bool {
    matches!(result, Err(Error::Rejected(rejected)) if rejected.reason() == Reason::CircuitOpen)
}

/// Classifies a 503 as a failure and a 404 as ignored.
fn judge(result: Result<&u32, &Failed>) -> Class {
    match result {
        Ok(503) | Err(Error::Inner(Fault("failed")) | Error::Rejected(_)) => Class::Failure,
        Ok(404) | Err(_) => Class::Ignored,
        Ok(_) => Class::Success,
    }
}

// Sources of responses.

#[tokio::test(start_paused = true)]
async fn a_value_replaces_every_failure() {
    let mut service = FallbackLayer::value(7).layer(backend());
    assert_eq!(service.ready().await.unwrap().call(failed()).await, Ok(7));
    assert_eq!(service.ready().await.unwrap().call(Ok(1)).await, Ok(1));
}

#[tokio::test(start_paused = true)]
async fn a_value_is_cloned_only_when_it_is_used() {
    #[derive(Debug)]
    struct Counted(Arc<AtomicU32>);
    impl Clone for Counted {
        fn clone(&self) -> Self {
            self.0.fetch_add(1, Ordering::Relaxed);
            Self(Arc::clone(&self.0))
        }
    }
    let clones = Arc::new(AtomicU32::new(0));
    let good = Arc::clone(&clones);
    let service =
        FallbackLayer::value(Counted(Arc::clone(&clones))).layer(service_fn(move |is_good: bool| {
            ready(if is_good { Ok(Counted(Arc::clone(&good))) } else { failed() })
        }));
    for _ in 0..3 {
        service.clone().clone().oneshot(true).await.unwrap();
    }
    assert_eq!(clones.load(Ordering::Relaxed), 0);
    service.oneshot(false).await.unwrap();
    assert_eq!(clones.load(Ordering::Relaxed), 1);
}

/// Nothing here is `Clone`. What travels with the call is neither `Send` nor `Sync`.
#[tokio::test(start_paused = true)]
async fn neither_request_nor_response_nor_service_nor_function_needs_to_be_cloned() {
    #[derive(Debug)]
    struct Only(Rc<Cell<u32>>);
    impl fmt::Display for Only {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "number {}", self.0.get())
        }
    }
    impl std::error::Error for Only {}
    struct Inner;
    impl Service<Only> for Inner {
        type Response = Only;
        type Error = Error<Only>;
        type Future = std::future::Ready<Result<Only, Error<Only>>>;
        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
            Poll::Ready(Ok(()))
        }
        fn call(&mut self, request: Only) -> Self::Future {
            ready(Err(Error::Inner(request)))
        }
    }
    let not_clone = Mutex::new(1);
    let with = FallbackLayer::with(move |number: u32, failure: &Failure<Only, Error<Only>>| {
        *not_clone.lock().unwrap() += number;
        failure.error()?.inner().map(|request| Only(Rc::clone(&request.0)))
    })
    .keep(|request: &Only| request.0.get());
    assert_eq!(with.layer(Inner).oneshot(Only(Rc::new(Cell::new(5)))).await.unwrap().0.get(), 5);

    let by_service = FallbackLayer::service(service_fn(|()| ready(Ok::<_, ()>(Only(Rc::new(Cell::new(6)))))));
    assert_eq!(by_service.layer(Inner).oneshot(Only(Rc::new(Cell::new(5)))).await.unwrap().0.get(), 6);
}

#[tokio::test(start_paused = true)]
async fn requests_are_not_inspected_unless_part_of_them_is_saved() {
    let looks = Arc::new(AtomicU32::new(0));
    let looked = Arc::clone(&looks);
    let layer = FallbackLayer::with(|kept: Outcome, _: &Failure<u32, Failed>| {
        assert_eq!(kept, failed());
        Some(1)
    })
    .keep(move |request: &Outcome| {
        looked.fetch_add(1, Ordering::Relaxed);
        request.clone()
    });
    assert_eq!(layer.layer(backend()).oneshot(failed()).await, Ok(1));
    assert_eq!(looks.load(Ordering::Relaxed), 1, "once for each call");
}

#[tokio::test(start_paused = true)]
async fn a_function_learns_what_failed_and_why() {
    let seen = Arc::new(Mutex::new(vec![]));
    let see = Arc::clone(&seen);
    let layer = FallbackLayer::with(move |(), failure: &Failure<u32, Failed>| {
        let what = (failure.kind(), failure.answer().copied(), failure.error().cloned());
        see.lock().unwrap().push(what);
        None
    })
    .classify(judge);
    let (breaker, operator) = breaker();
    let service = ServiceBuilder::new().layer(layer).layer(breaker).service(backend());
    assert_eq!(service.clone().oneshot(Ok(503)).await, Ok(503));
    assert_eq!(service.clone().oneshot(failed()).await, failed());
    operator.force_open();
    assert!(is_refusal(&service.oneshot(Ok(1)).await));
    let seen = std::mem::take(&mut *seen.lock().unwrap());
    assert_eq!(
        seen[..2],
        [
            (FailureKind::Failed, Some(503), None),
            (FailureKind::Failed, None, Some(Error::Inner(Fault("failed"))))
        ]
    );
    assert!(matches!(seen[2], (FailureKind::Rejected, None, Some(Error::Rejected(_)))), "{:?}", seen[2]);
}

#[tokio::test(start_paused = true)]
async fn the_failure_is_returned_unchanged_if_the_fallback_declines() {
    let layer = FallbackLayer::with(|(), _: &Failure<u32, Failed>| None).classify(judge);
    let mut service = layer.layer(backend());
    for end in [failed(), Ok(503)] {
        assert_eq!(service.ready().await.unwrap().call(end.clone()).await, end);
    }
}

/// An outer breaker recognises a rejection even if its own fallback took time and had no response.
#[tokio::test(start_paused = true)]
async fn a_rejection_that_is_returned_after_a_wait_is_still_recognised() {
    let outer = CircuitBreakerLayer::new(CircuitBreakerConfig::new().consecutive_failures(1));
    let handle = outer.handle();
    let (inner, operator) = breaker();
    let fallback = service_fn(|()| async {
        tokio::time::sleep(SECOND).await;
        Err::<u32, _>("the fallback failed")
    });
    let service = ServiceBuilder::new()
        .layer(outer)
        .layer(FallbackLayer::service(fallback))
        .layer(inner)
        .service(backend());
    operator.force_open();
    assert!(is_refusal(&service.clone().oneshot(Ok(1)).await));
    assert_eq!(handle.state(), State::Closed);
    operator.reset();
    assert_eq!(service.oneshot(failed()).await, failed());
    assert_eq!(handle.state(), State::Open);
}

#[tokio::test(start_paused = true)]
async fn a_failure_stays_a_failure_if_the_fallback_is_rejected() {
    let outer = CircuitBreakerLayer::new(CircuitBreakerConfig::new().consecutive_failures(1));
    let handle = outer.handle();
    let (open, operator) = breaker();
    operator.force_open();
    let refused = open.layer(service_fn(|()| ready(Ok::<u32, Failed>(7))));
    let service = outer.layer(FallbackLayer::service(refused).layer(backend()));
    assert_eq!(service.oneshot(failed()).await, failed());
    assert_eq!(handle.state(), State::Open);
}

#[tokio::test(start_paused = true)]
async fn nested_fallbacks_run_from_the_inside_out() {
    let seven_for_failures =
        FallbackLayer::with(|(), failure: &Failure<u32, Failed>| match failure.error() {
            Some(Error::Inner(Fault("failed"))) => Some(7),
            _ => None,
        });
    let service = FallbackLayer::value(8).layer(seven_for_failures.layer(backend()));
    assert_eq!(service.clone().oneshot(failed()).await, Ok(7));
    assert_eq!(service.oneshot(Err(Error::Inner(Fault("otherwise")))).await, Ok(8));
}

// Conditions.

#[tokio::test(start_paused = true)]
async fn the_classifier_decides_what_is_a_failure() {
    let service = FallbackLayer::value(7).classify(judge).layer(backend());
    assert_eq!(service.clone().oneshot(Ok(503)).await, Ok(7));
    assert_eq!(service.clone().oneshot(failed()).await, Ok(7));
    assert_eq!(service.clone().oneshot(Ok(404)).await, Ok(404));
    let not_found = Err(Error::Inner(Fault("not found")));
    assert_eq!(service.oneshot(not_found.clone()).await, not_found);
}

#[tokio::test(start_paused = true)]
async fn the_classifier_does_not_see_rejections() {
    let (breaker, operator) = breaker();
    let never = |_: Result<&u32, &Failed>| Class::Success;
    let service = FallbackLayer::value(7).classify(never).layer(breaker.layer(backend()));
    assert_eq!(service.clone().oneshot(failed()).await, failed());
    operator.force_open();
    assert_eq!(service.oneshot(Ok(1)).await, Ok(7));
}

#[tokio::test(start_paused = true)]
async fn on_rejections_falls_back_only_for_rejections() {
    let (breaker, operator) = breaker();
    let layer = || FallbackLayer::value(7).classify(judge).on_rejections();
    let service = layer().layer(breaker.layer(backend()));
    assert_eq!(service.clone().oneshot(failed()).await, failed());
    assert_eq!(service.clone().oneshot(Ok(503)).await, Ok(503));
    operator.force_open();
    assert_eq!(service.oneshot(Ok(1)).await, Ok(7));
    operator.reset();
    let service = layer().on_failures().layer(backend());
    assert_eq!(service.oneshot(failed()).await, Ok(7));
}

#[tokio::test(start_paused = true)]
async fn a_response_after_an_inner_rejection_is_no_rejection() {
    let (breaker, operator) = breaker();
    let inner = breaker.layer(service_fn(|()| ready(Ok::<_, Failed>(503))));
    let retry = RetryLayer::new(RetryConfig::new().retry_refusals(true).backoff(Backoff::constant(SECOND)));
    let layer = FallbackLayer::value(7).classify(judge).on_rejections();
    operator.force_open();
    let mut call = task::spawn(layer.layer(retry.layer(inner)).oneshot(()));
    assert_pending!(call.poll());
    operator.reset();
    advance(2 * SECOND).await;
    assert_eq!(assert_ready!(call.poll()), Ok(503));
}

#[tokio::test(start_paused = true)]
async fn a_predicate_decides_about_everything() {
    let (breaker, operator) = breaker();
    let only = |result: Result<&u32, &Failed>| matches!(result, Ok(2) | Err(Error::Inner(Fault("failed"))));
    let service = FallbackLayer::value(7).when(only).layer(breaker.layer(backend()));
    assert_eq!(service.clone().oneshot(Ok(2)).await, Ok(7));
    assert_eq!(service.clone().oneshot(Ok(503)).await, Ok(503));
    assert_eq!(service.clone().oneshot(failed()).await, Ok(7));
    operator.force_open();
    assert!(is_refusal(&service.oneshot(Ok(2)).await));
}

#[tokio::test(start_paused = true)]
async fn a_timeout_is_a_failure_and_no_rejection() {
    /// A service that is ready once.
    #[derive(Clone, Default)]
    struct Tired(Arc<AtomicU32>);
    impl Service<()> for Tired {
        type Response = u32;
        type Error = Failed;
        type Future = std::future::Ready<Outcome>;
        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Failed>> {
            if self.0.fetch_add(1, Ordering::Relaxed) == 0 { Poll::Ready(Ok(())) } else { Poll::Pending }
        }
        fn call(&mut self, (): ()) -> Self::Future {
            ready(Ok(503))
        }
    }
    let retry = RetryLayer::new(RetryConfig::new()).classify(judge);
    let layer = || {
        FallbackLayer::with(|(), failure: &Failure<u32, Failed>| {
            assert_eq!(failure.kind(), FailureKind::TimedOut);
            Some(7)
        })
    };
    let tired = || retry.layer(Tired::default());
    assert_eq!(layer().layer(tired()).oneshot(()).await, Ok(7));
    assert_eq!(layer().classify(judge).layer(tired()).oneshot(()).await, Ok(7));
    // Unlike a rejection, it is passed to the classifier.
    let lenient = layer().classify(|_: Result<&u32, &Failed>| Class::Success);
    for result in
        [lenient.layer(tired()).oneshot(()).await, layer().on_rejections().layer(tired()).oneshot(()).await]
    {
        assert!(matches!(result, Err(Error::Rejected(rejected)) if rejected.reason() == Reason::NotReady));
    }
}

// A service as the fallback.

/// The events of a fallback service.
#[derive(Clone, Default)]
struct Second {
    log: Arc<Mutex<Vec<&'static str>>>,
    is_busy: bool,
    is_broken: bool,
    is_stuck: bool,
}

impl Second {
    fn log(&self, what: &'static str) {
        self.log.lock().unwrap().push(what);
    }

    fn taken(&self) -> Vec<&'static str> {
        std::mem::take(&mut *self.log.lock().unwrap())
    }
}

impl Service<&'static str> for Second {
    type Response = u32;
    type Error = fmt::Error;
    type Future = Pin<Box<dyn Future<Output = Result<u32, fmt::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), fmt::Error>> {
        self.log("asked");
        match self {
            Self { is_busy: true, .. } => Poll::Pending,
            Self { is_broken: true, .. } => Poll::Ready(Err(fmt::Error)),
            _ => Poll::Ready(Ok(())),
        }
    }

    fn call(&mut self, request: &'static str) -> Self::Future {
        self.log("called");
        let is_stuck = self.is_stuck;
        Box::pin(async move {
            if is_stuck {
                return pending().await;
            }
            request.parse().map_err(|_| fmt::Error)
        })
    }
}

/// Saves `12` for its fallback.
fn with_second(
    second: &Second,
) -> impl Service<Outcome, Response = u32, Error = Failed, Future: Send> + Clone + use<> {
    FallbackLayer::service(second.clone())
        .keep(|request: &Outcome| if *request == failed() { "12" } else { "no number" })
        .layer(backend())
}

#[tokio::test(start_paused = true)]
async fn the_fallback_service_is_polled_only_after_a_failure() {
    let second = Second::default();
    let service = with_second(&second);
    assert_eq!(service.clone().oneshot(Ok(1)).await, Ok(1));
    assert_eq!(second.taken(), [""; 0]);
    assert_eq!(service.oneshot(failed()).await, Ok(12));
    assert_eq!(second.taken(), ["asked", "called"]);
}

#[tokio::test(start_paused = true)]
async fn the_original_error_is_returned_if_the_fallback_service_fails() {
    let original = Err(Error::Inner(Fault("the one to be mended")));
    let second = Second::default();
    assert_eq!(with_second(&second).oneshot(original.clone()).await, original);
    assert_eq!(second.taken(), ["asked", "called"]);
    let broken = Second { is_broken: true, ..Second::default() };
    assert_eq!(with_second(&broken).oneshot(original.clone()).await, original);
    assert_eq!(broken.taken(), ["asked"]);
}

#[tokio::test(start_paused = true)]
async fn the_wait_for_the_fallback_service_is_limited() {
    let busy = Second { is_busy: true, ..Second::default() };
    let start = Instant::now();
    assert_eq!(with_second(&busy).oneshot(failed()).await, failed());
    assert_eq!(start.elapsed(), SECOND);

    for wait in [Duration::ZERO, 3 * SECOND, Duration::MAX] {
        let layer = FallbackLayer::service(busy.clone()).keep(|_: &Outcome| "12").ready_within(wait);
        let start = Instant::now();
        let mut call = task::spawn(layer.layer(backend()).oneshot(failed()));
        let years = Duration::from_secs(86_400 * 365 * 20);
        match tokio::time::timeout(years, &mut call).await {
            Ok(result) => {
                assert_eq!(result, failed());
                assert_eq!(start.elapsed(), wait);
            }
            Err(_) => assert_eq!(wait, Duration::MAX),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_service_that_becomes_ready_in_time_is_called() {
    let gate = Arc::new(tokio::sync::Semaphore::new(0));
    let limited = tower::limit::ConcurrencyLimit::with_semaphore(Second::default(), Arc::clone(&gate));
    let layer = FallbackLayer::service(limited).keep(|_: &Outcome| "12");
    let mut call = task::spawn(layer.layer(backend()).oneshot(failed()));
    assert_pending!(call.poll());
    gate.add_permits(1);
    assert!(call.is_woken());
    assert_eq!(assert_ready!(call.poll()), Ok(12));
}

#[tokio::test(start_paused = true)]
async fn nothing_but_the_service_wakes_a_call_that_waits_for_it() {
    let gate = Arc::new(tokio::sync::Semaphore::new(0));
    let stuck = Second { is_stuck: true, ..Second::default() };
    let limited = tower::limit::ConcurrencyLimit::with_semaphore(stuck, Arc::clone(&gate));
    let layer = FallbackLayer::service(limited).keep(|_: &Outcome| "12");
    let mut call = task::spawn(layer.layer(backend()).oneshot(failed()));
    assert_pending!(call.poll());
    gate.add_permits(1);
    assert_pending!(call.poll());
    advance(10 * SECOND).await;
    assert!(!call.is_woken());
}

#[tokio::test(start_paused = true)]
async fn dropping_a_call_drops_the_call_of_the_fallback() {
    let stuck = Second { is_stuck: true, ..Second::default() };
    let mut call = task::spawn(with_second(&stuck).oneshot(failed()));
    assert_pending!(call.poll());
    assert_eq!(stuck.taken(), ["asked", "called"]);
    drop(call);
    assert_eq!(Arc::strong_count(&stuck.log), 1);
}

#[tokio::test(start_paused = true)]
async fn the_failed_call_is_dropped_before_the_fallback_is_called() {
    struct Work(#[expect(dead_code, reason = "it is held")] Arc<()>);
    impl Future for Work {
        type Output = Result<usize, Failed>;
        fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Self::Output> {
            Poll::Ready(failed())
        }
    }
    let connection = Arc::new(());
    let held = Arc::clone(&connection);
    let first = service_fn(move |()| Work(Arc::clone(&held)));
    let second = service_fn(move |()| ready(Ok::<_, ()>(Arc::strong_count(&connection))));
    let service = FallbackLayer::service(second).layer(first);
    // The clones of the two services, and of the one that is called.
    assert_eq!(service.clone().oneshot(()).await, Ok(3));
}

#[tokio::test(start_paused = true)]
async fn a_panic_of_the_service_is_passed_on() {
    let inner = service_fn(|()| poll_fn(|_| -> Poll<Outcome> { panic!("as it should") }));
    let mut call = task::spawn(FallbackLayer::value(7).layer(inner).oneshot(()));
    assert!(catch_unwind(AssertUnwindSafe(|| call.poll())).is_err());
}

// The last good response.

type Item = (u32, Outcome);
type StaleLayer = FallbackLayer<Stale<u32, u32>, fn(&Item) -> Option<u32>>;

/// An even number is its own key.
fn stale(config: StaleConfig) -> StaleLayer {
    FallbackLayer::stale(config, |(item, _): &Item| (item % 2 == 0).then_some(*item))
}

fn items() -> impl Service<Item, Response = u32, Error = Failed, Future: Send> + Clone {
    service_fn(|(_, end): Item| async move { end })
}

#[tokio::test(start_paused = true)]
async fn the_last_good_response_for_a_key_is_returned_until_it_expires() {
    let layer = stale(StaleConfig::new().max_age(10 * SECOND));
    let service = layer.layer(items());
    for answer in [1, 2] {
        assert_eq!(service.clone().oneshot((4, Ok(answer))).await, Ok(answer));
    }
    advance(10 * SECOND).await;
    assert_eq!(service.clone().oneshot((4, failed())).await, Ok(2));
    assert_eq!(service.clone().oneshot((6, failed())).await, failed(), "another key");
    advance(Duration::from_millis(1)).await;
    assert_eq!(service.oneshot((4, failed())).await, failed());
}

#[tokio::test(start_paused = true)]
async fn a_request_without_a_key_has_no_stored_response() {
    let layer = stale(StaleConfig::new());
    let service = layer.layer(items());
    assert_eq!(service.clone().oneshot((5, Ok(1))).await, Ok(1));
    assert_eq!(service.oneshot((5, failed())).await, failed());
    assert!(layer.handle().is_empty());
}

#[tokio::test(start_paused = true)]
async fn failed_and_ignored_responses_are_not_stored() {
    let layer = stale(StaleConfig::new()).classify(judge);
    let service = layer.layer(items());
    for answer in [503, 404] {
        let _ = service.clone().oneshot((4, Ok(answer))).await;
        assert_eq!(service.clone().oneshot((4, failed())).await, failed());
    }
    let _ = service.clone().oneshot((4, Ok(1))).await;
    assert_eq!(service.clone().oneshot((4, Ok(503))).await, Ok(1));
    assert_eq!(service.clone().oneshot((4, Ok(404))).await, Ok(404));
    assert_eq!(service.oneshot((4, failed())).await, Ok(1));
}

#[tokio::test(start_paused = true)]
async fn returning_a_stored_response_does_not_renew_it() {
    let service = stale(StaleConfig::new().max_age(10 * SECOND)).layer(items());
    let _ = service.clone().oneshot((4, Ok(1))).await;
    advance(9 * SECOND).await;
    assert_eq!(service.clone().oneshot((4, failed())).await, Ok(1));
    advance(9 * SECOND).await;
    assert_eq!(service.oneshot((4, failed())).await, failed());
}

#[tokio::test(start_paused = true)]
async fn services_and_clones_share_stored_responses_and_the_handle_clears_them() {
    let layer = stale(StaleConfig::new().max_keys(2));
    let _ = layer.layer(items()).oneshot((2, Ok(1))).await;
    let _ = layer.clone().layer(items()).clone().oneshot((4, Ok(2))).await;
    let handle = layer.handle();
    assert_eq!((handle.len(), handle.config().max_keys), (2, 2));
    let _ = layer.layer(items()).oneshot((6, Ok(3))).await;
    assert_eq!(handle.len(), 2);
    assert_eq!(layer.layer(items()).oneshot((2, failed())).await, failed());
    assert_eq!(layer.layer(items()).oneshot((6, failed())).await, Ok(3));
    handle.clear();
    assert!(handle.is_empty());
    assert_eq!(layer.layer(items()).oneshot((6, failed())).await, failed());
}

#[tokio::test(start_paused = true)]
async fn a_stored_response_can_be_marked_with_its_age() {
    let layer = stale(StaleConfig::new())
        .mark(|answer: &mut u32, age| *answer += u32::try_from(age.as_secs()).unwrap());
    let service = layer.layer(items());
    assert_eq!(service.clone().oneshot((4, Ok(100))).await, Ok(100));
    for _ in 0..2 {
        advance(5 * SECOND).await;
        let _ = service.clone().oneshot((4, failed())).await;
    }
    assert_eq!(service.oneshot((4, failed())).await, Ok(110));
}

#[tokio::test(start_paused = true)]
async fn a_response_that_panics_in_clone_does_not_affect_others() {
    #[derive(Debug, PartialEq)]
    struct Fragile(bool);
    impl Clone for Fragile {
        fn clone(&self) -> Self {
            assert!(self.0, "as it should");
            Self(self.0)
        }
    }
    let layer = FallbackLayer::stale(StaleConfig::new(), |(key, _): &(u8, Option<bool>)| Some(*key));
    let service = layer.layer(service_fn(|(_, end): (u8, Option<bool>)| {
        ready(end.map(Fragile).ok_or(Error::Inner(Fault("failed"))))
    }));
    let _ = service.clone().oneshot((1, Some(true))).await;
    let mut call = task::spawn(service.clone().oneshot((2, Some(false))));
    assert!(catch_unwind(AssertUnwindSafe(|| call.poll())).is_err());
    assert_eq!(service.oneshot((1, None)).await, Ok(Fragile(true)));
}

#[test]
#[should_panic(expected = "invalid value for `max_keys`: got 0, expected a number from 1 to 1,000,000")]
fn a_store_without_room_panics() {
    let _ = stale(StaleConfig::new().max_keys(0));
}

#[test]
fn an_invalid_setting_is_an_error() {
    let key = |item: &Item| Some(item.0);
    let made: Result<FallbackLayer<Stale<u32, u32>, _>, _> =
        FallbackLayer::try_stale(StaleConfig::new().max_age(Duration::ZERO), key);
    assert_eq!(made.unwrap_err().field(), "max_age");
}

// Telemetry.

/// Records the events of a layer, one line each.
#[derive(Clone, Default)]
struct Heard(Arc<Mutex<Vec<String>>>);

impl Heard {
    fn observer(&self) -> impl Fn(&LayerId, &Event<'_>) + Send + Sync + 'static + use<> {
        let Self(heard) = self.clone();
        move |source, event| heard.lock().unwrap().push(format!("{}: {event:?}", source.name))
    }

    fn taken(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }
}

#[tokio::test(start_paused = true)]
async fn each_failure_that_needed_a_fallback_is_one_action() {
    let heard = Heard::default();
    let value = FallbackLayer::value(7).classify(judge).name("prices").observer(heard.observer());
    let service = value.layer(backend());
    for end in [Ok(1), Ok(404), Ok(503), failed(), Err(Error::Inner(Fault("not found")))] {
        let _ = service.clone().oneshot(end).await;
    }
    assert_eq!(heard.taken(), ["prices: Action(fell_back after attempt 0, in 0ns)"; 2]);

    let declines = FallbackLayer::with(|(), _: &Failure<u32, Failed>| None);
    let _ = declines.observer(heard.observer()).layer(backend()).oneshot(failed()).await;
    assert_eq!(heard.taken(), ["fallback: Action(no_fallback after attempt 0, in 0ns)"]);

    let second = Second::default();
    let layer =
        FallbackLayer::service(second).keep(|request: &Outcome| request.as_ref().map_or("12", |_| "no"));
    let service = layer.classify(judge).observer(heard.observer()).layer(backend());
    assert_eq!(service.clone().oneshot(failed()).await, Ok(12));
    assert_eq!(heard.taken(), ["fallback: Action(fell_back after attempt 0, in 0ns)"]);
    assert_eq!(service.oneshot(Ok(503)).await, Ok(503));
    assert_eq!(heard.taken(), ["fallback: Action(no_fallback after attempt 0, in 0ns)"]);
}

#[tokio::test(start_paused = true)]
async fn an_event_reports_the_age_of_a_stored_response() {
    let heard = Heard::default();
    let service = stale(StaleConfig::new()).name("items").observer(heard.observer()).layer(items());
    let _ = service.clone().oneshot((4, Ok(1))).await;
    assert_eq!(heard.taken(), [""; 0]);
    advance(5 * SECOND).await;
    let _ = service.clone().oneshot((4, failed())).await;
    let told = ["items: Stale(5s)", "items: Action(served_stale after attempt 0, in 0ns)"];
    assert_eq!(heard.taken(), told);
    let _ = service.oneshot((6, failed())).await;
    assert_eq!(heard.taken(), ["items: Action(no_fallback after attempt 0, in 0ns)"]);
}

#[cfg(feature = "metrics")]
#[tokio::test(start_paused = true)]
async fn metrics_have_the_name_of_the_fallback() {
    let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
    let (value, last) = metrics::with_local_recorder(&recorder, || {
        (
            FallbackLayer::value(7).name("prices").layer(backend()),
            stale(StaleConfig::new()).name("items").layer(items()),
        )
    });
    let counted = || {
        let text = recorder.handle().render();
        let mut lines: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("stanchion_")).collect();
        lines.sort_unstable();
        lines.join("\n")
    };
    let before = "\
fallback_actions_total{name=\"items\",action=\"no_fallback\"} 0
fallback_actions_total{name=\"items\",action=\"served_stale\"} 0
fallback_actions_total{name=\"prices\",action=\"fell_back\"} 0";
    assert_eq!(counted(), before);
    for end in [failed(), Ok(1), failed()] {
        let _ = value.clone().oneshot(end.clone()).await;
        let _ = last.clone().oneshot((4, end)).await;
    }
    let after = "\
fallback_actions_total{name=\"items\",action=\"no_fallback\"} 1
fallback_actions_total{name=\"items\",action=\"served_stale\"} 1
fallback_actions_total{name=\"prices\",action=\"fell_back\"} 2";
    assert_eq!(counted(), after);
}
